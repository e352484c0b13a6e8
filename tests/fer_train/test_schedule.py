"""Planning, the classical baseline, distillation and job files."""

import json
import subprocess

import numpy as np
import pytest
from click.testing import CliRunner

from fer_train.cli import main
from fer_train.runs import open_run, read_arrays
from fer_train.training import mixed_targets

pytestmark = pytest.mark.tensorflow


def _invoke(*arguments: str):
    return CliRunner().invoke(main, list(arguments))


def test_the_baseline_is_judged_like_the_networks(tmp_path):
    run = tmp_path / "run"
    result = _invoke(
        *("all", "--data", "synthetic:420", "--models", "svm", "--folds", "2"),
        *("--run", str(run), "--no-export"),
    )
    assert result.exit_code == 0, result.output
    scores = open_run(run).scores("svm")
    assert min(score["accuracy"] for score in scores) > 0.4  # chance is 0.14


def test_a_dropped_emotion_is_gone_from_the_run(tmp_path):
    run = tmp_path / "run"
    result = _invoke(
        *("all", "--data", "synthetic:210", "--models", "svm", "--folds", "2"),
        *("--run", str(run), "--no-export", "--drop", "disgust"),
    )
    assert result.exit_code == 0, result.output
    assert [len(score["recall"]) for score in open_run(run).scores("svm")] == [6, 6]


def test_a_student_learns_from_out_of_fold_answers(tmp_path):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    plan = ("--data", "synthetic:210", "--epochs", "1", "--models", "edge", "--folds", "2")
    result = _invoke("all", *plan, "--pool", "training", "--run", str(teacher), "--no-export")
    assert result.exit_code == 0, result.output
    result = _invoke("distill", str(teacher), "--epochs", "1", "--run", str(student))
    assert result.exit_code == 0, result.output
    assert "on images that it did not train on" in result.stderr
    run = open_run(student)
    answers = read_arrays(student / "teacher.npz")["probabilities"]
    fold = run.folds[0]
    assert np.isfinite(answers[fold.train]).all()
    assert np.isnan(answers[fold.test]).all(), "judged images must have no teacher"
    assert run.recipes["edge"].teacher_weight == 0.7


def test_an_unfinished_teacher_is_refused(tmp_path):
    _invoke("plan", "--data", "synthetic:210", "--models", "edge", "--run", str(tmp_path / "t"))
    result = _invoke("distill", str(tmp_path / "t"), "--run", str(tmp_path / "s"))
    assert result.exit_code == 1
    assert "fold" in result.stderr


def test_targets_mix_labels_and_answers():
    labels = np.eye(2, dtype=np.float32)
    answers = np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)
    assert mixed_targets(labels, answers, 0.5).tolist() == [[0.75, 0.25], [0.0, 1.0]]


@pytest.mark.parametrize("system", ["slurm", "kubernetes"])
def test_job_files_name_every_fold_that_is_left(tmp_path, system):
    run = tmp_path / "a run"
    flags = ("all", "--data", "synthetic:210", "--models", "edge,svm", "--folds", "3")
    result = _invoke(*flags, "--run", str(run), "--emit", system)
    assert result.exit_code == 0, result.output
    text = result.stdout
    if system == "kubernetes":
        job = json.loads(text)
        assert job["spec"]["completions"] == 6
        text = job["spec"]["template"]["spec"]["containers"][0]["command"][2]
    else:
        script = text + '\neval "set -- ${folds[5]}"; echo "$4 $6 $8"\n'
        script = script.replace('eval "${folds[$SLURM_ARRAY_TASK_ID]}"', "")
        shown = subprocess.run(["bash", "-c", script], capture_output=True, text=True, check=True)
        assert shown.stdout == f"svm 2 {run}\n"
    for model in ("edge", "svm"):
        for fold in range(3):
            assert f"--model {model} --fold {fold}" in text


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("all", "--models", "vgg19"), 2, "received vgg19"),
        (("all", "--folds", "0"), 2, "--folds"),
        (("all", "--jobs", "2", "--ray", "local"), 2, "exclude one another"),
        (("all", "--data", "nowhere.csv"), 1, "nowhere.csv"),
        (("all", "--epochs", "0", "--data", "synthetic:70"), 1, "Expected epochs"),
        (("plan", "--data", "synthetic:70", "--folds", "60"), 1, "for 60 folds"),
        (("fold", "--model", "edge", "--fold", "0"), 1, "Expected a run folder"),
    ],
)
def test_mistakes_are_named(tmp_path, flags, code, message):
    result = _invoke(*flags, "--run", str(tmp_path / "run"))
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output
