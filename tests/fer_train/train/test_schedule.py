"""Planning, the classical baseline, distillation and job files."""

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
from onnx import helper, numpy_helper

from fer_edge.contract import EMOTIONS, OUTPUT_NAME, ModelSpec
from fer_edge.errors import RunError
from fer_edge.inference.classifier import Classifier
from fer_train.data.synthetic import synthetic_faces
from fer_train.export.convert import write_metadata
from fer_train.export.facts import training_facts
from fer_train.network._keras import keras
from fer_train.network.models import build_model
from fer_train.run.folder import locked, open_run, read_arrays
from fer_train.run.plan import load_run_images
from fer_train.run.recipes import recipe_for
from fer_train.train.fold import FoldTrainer
from fer_train.train.lessons import DistillationLoss, mixed_targets
from tests.support.tiny_onnx import save_tiny_onnx
from tests.support.trainer import invoke

pytestmark = pytest.mark.tensorflow


def test_the_baseline_is_judged_like_the_networks(tmp_path):
    run = tmp_path / "run"
    result = invoke(
        *("all", "--data", "synthetic:420", "--models", "svm", "--folds", "2"),
        *("--run", str(run), "--no-export"),
    )
    assert result.exit_code == 0, result.output
    scores = open_run(run).scores("svm")
    assert min(score["accuracy"] for score in scores) > 0.4  # chance is 0.14


def test_a_dropped_emotion_is_gone_from_the_run(tmp_path):
    run = tmp_path / "run"
    result = invoke(
        *("all", "--data", "synthetic:210", "--models", "svm", "--folds", "2"),
        *("--run", str(run), "--no-export", "--drop", "disgust"),
    )
    assert result.exit_code == 0, result.output
    assert [len(score["recall"]) for score in open_run(run).scores("svm")] == [6, 6]


STUDENT = ("--epochs", "1", "--grouping", "none", "--erasing", "0.5")


@pytest.fixture(scope="module")
def taught(tmp_path_factory):
    """A cross-validation of two folds, a student of it, and what teaching it printed."""
    folder = tmp_path_factory.mktemp("taught")
    teacher, student = folder / "teacher", folder / "student"
    plan = ("--data", "synthetic:210", "--epochs", "1", "--models", "edge", "--folds", "2")
    result = invoke("all", *plan, "--pool", "training", "--run", teacher, "--no-export")
    assert result.exit_code == 0, result.output
    result = invoke("distill", teacher, *STUDENT, "--run", student)
    assert result.exit_code == 0, result.output
    return teacher, student, result.stderr


def test_a_student_learns_from_out_of_fold_predictions(taught):
    _, student, told = taught
    assert "on images that it did not train on" in told
    run = open_run(student)
    predicted = read_arrays(student / "teacher.npz")["probabilities"]
    fold = run.folds[0]
    assert np.isfinite(predicted[fold.train]).all()
    assert np.isnan(predicted[fold.test]).all(), "held-out images must have no teacher"
    assert run.recipes["edge"].teacher_weight == 0.7


def test_a_teacher_predicts_images_and_their_mirror_images_by_their_own_fold(taught):
    teacher, student, _ = taught
    predicted = read_arrays(student / "teacher.npz")["probabilities"]
    dataset, own = (load_run_images(open_run(folder)) for folder in (student, teacher))
    for index, fold in enumerate(open_run(teacher).folds):
        model = teacher / "edge" / f"fold-{index:02}" / "model.keras"
        net = keras.saving.load_model(model, compile=False)
        faces = own.images[fold.test].astype(np.float32)[..., None]
        expected = (net.predict(faces) + net.predict(faces[:, :, ::-1])) / 2
        rows = [dataset.names.tolist().index(name) for name in own.names[fold.test].tolist()]
        assert len(rows) > 50
        np.testing.assert_allclose(predicted[rows], expected, atol=1e-5)


def test_a_student_s_facts_and_card_name_its_teacher(taught, tmp_path):
    _, student, _ = taught
    run = open_run(student)
    facts = training_facts(run.fold("edge", 0))
    command = "fer-train distill TEACHER_RUN --student edge --grouping none --epochs 1"
    assert facts["command"].startswith(command)
    predicted = read_arrays(student / "teacher.npz")["probabilities"]
    assert facts["teacher"]["images"] == np.isfinite(predicted).all(axis=1).sum()
    teaching = (
        "fer-train all --data synthetic:210 --models edge --pool training --folds 2 --epochs 1"
    )
    assert facts["teacher"]["commands"] == [teaching]
    result = invoke("export", student, "--export-dir", tmp_path)
    assert result.exit_code == 0, result.output
    assert f"| Teacher | `{teaching}`: top-1 " in (tmp_path / "MODELS.md").read_text()


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        # A drawn face of another seed has the same name.
        (("--seed", "3", "--run", "seed"), 1, "received others of the same names"),
        (("--teachers", "vgg16", "--run", "student"), 2, "expected models of edge, received vgg16"),
    ],
    ids=["other images", "other models"],
)
def test_a_run_that_cannot_teach_is_refused(taught, tmp_path, monkeypatch, flags, code, message):
    monkeypatch.chdir(tmp_path)
    result = invoke("distill", taught[0], *flags)
    assert result.exit_code == code
    assert message in result.stderr


def test_a_student_goes_on_under_its_own_teacher_alone(taught, tmp_path):
    teacher, student, _ = taught
    own = shutil.copytree(student, tmp_path / "student")
    model = teacher / "edge" / "fold-00" / "model.keras"
    result = invoke("distill", model, *STUDENT, "--data", "synthetic:210", "--run", own)
    assert result.exit_code == 1
    assert "began with, received another" in result.stderr


def test_a_teacher_whose_model_is_broken_is_refused(taught, tmp_path):
    own = shutil.copytree(taught[0], tmp_path / "teacher")
    (own / "edge" / "fold-01" / "model.keras").write_bytes(b"PK\x05\x06" + bytes(18))
    result = invoke("distill", own, *STUDENT, "--run", tmp_path / "student")
    assert result.exit_code == 1
    assert "trained model of each fold" in result.stderr
    assert not (tmp_path / "other").exists()


@dataclass
class Finished:
    """A finished run, its exported Keras file, and a student that learned from that.

    Attributes:
        flags: Those of the student, but for where it is.
    """

    run: Path
    file: Path
    student: Path
    flags: tuple[object, ...]


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    folder = tmp_path_factory.mktemp("finished")
    run, exported, student = folder / "run", folder / "exported", folder / "student"
    plan = ("--data", "synthetic:210", "--models", "edge", "--folds", "2", "--epochs", "1")
    assert invoke("all", *plan, "--run", run, "--no-export").exit_code == 0
    assert invoke("export", run, "--export-dir", exported, "--keras").exit_code == 0
    config = folder / "student.toml"
    config.write_text("folds = 1\nseed = 9\ninner = 0.2\nbatch_size = 32\nepochs = 7\n")
    flags = ("--epochs", "1", "--seed", "3", "--teacher-weight", "1", "--student", "sequential")
    flags += ("--data", "synthetic:210", "--config", config)
    result = invoke("distill", exported / "edge.keras", *flags, "--run", student)
    assert result.exit_code == 0, result.output
    return Finished(run, exported / "edge.keras", student, flags)


def test_a_student_of_a_file_takes_flags_before_its_config(finished):
    planned = open_run(finished.student)
    assert (planned.protocol.seed, planned.protocol.inner) == (3, 0.2)
    recipe = planned.recipes["sequential"]
    assert (recipe.batch_size, recipe.epochs) == (32, 1)


def test_a_student_of_a_file_names_it_in_facts_and_card(finished, tmp_path):
    facts = training_facts(open_run(finished.student).fold("sequential", 0))
    assert facts["command"].startswith(
        "fer-train distill edge.keras --student sequential --data synthetic:210 --inner 0.2 "
        "--seed 3 --epochs 1"
    )
    assert invoke("export", finished.student, "--export-dir", tmp_path).exit_code == 0
    card = (tmp_path / "MODELS.md").read_text()
    assert "| Teacher | `edge.keras`, by the mean prediction for each image as" in card


def test_a_file_teaches_on_data_that_are_given(finished, tmp_path):
    result = invoke("distill", finished.file, "--epochs", "1", "--run", tmp_path / "student")
    assert result.exit_code == 2
    assert "expected --data where the teacher is a file" in result.stderr


def test_a_file_teaches_all_that_it_knows(finished, tmp_path):
    config = tmp_path / "drop.toml"
    config.write_text('drop = ["fear"]\n')
    flags = ("--data", "synthetic:210", "--config", config, "--run", tmp_path / "student")
    result = invoke("distill", finished.file, *flags)
    assert result.exit_code == 2
    assert "expected no limit, pool, drop and split_seed" in result.stderr
    assert not (tmp_path / "student").exists()


@pytest.mark.parametrize(
    ("teachers", "code", "message"),
    [
        (("exported/edge.keras", "run"), 2, "expected one run or files as teachers"),
        (("student/sequential/fold-00/model.keras",), 1, "began with, received another"),
        (("exported/edge.onnx",), 1, "a Keras file or, with --views, an ONNX file"),
    ],
    ids=["a file and a run", "another file", "an ONNX file"],
)
def test_a_student_goes_on_under_the_same_file_alone(finished, teachers, code, message):
    paths = [finished.run.parent / name for name in teachers]
    result = invoke("distill", *paths, *finished.flags, "--run", finished.student)
    assert result.exit_code == code
    assert message in result.stderr


def test_several_finished_models_teach_by_their_mean_answer(tmp_path):
    paths = [tmp_path / name for name in ("one.keras", "two.keras")]
    nets = [build_model("edge", recipe_for("modern", "edge"), 7) for _ in paths]
    for path, net in zip(paths, nets, strict=True):
        net.save(path)
    student = tmp_path / "student"
    flags = ("--data", "synthetic:210", "--epochs", "1", "--run", str(student))
    result = invoke("distill", *map(str, paths), *flags)
    assert result.exit_code == 0, result.output
    images = np.random.default_rng(0).uniform(0, 255, (5, 48, 48, 1)).astype(np.float32)
    taught = keras.saving.load_model(student / "teacher.keras", compile=False)
    mean = (nets[0].predict(images) + nets[1].predict(images)) / 2
    np.testing.assert_allclose(taught.predict(images), mean, atol=1e-6)
    facts = training_facts(open_run(student).fold("edge", 0))
    assert facts["command"].startswith("fer-train distill one.keras two.keras --student edge")
    result = invoke("distill", str(paths[0]), *flags)
    assert result.exit_code == 1
    assert "began with, received another" in result.stderr


def test_files_teach_by_answers_given_once(tmp_path):
    """A Keras file and an ONNX file of other label order, killed after two epochs of three."""
    labels = ("happy", *(label for label in EMOTIONS if label != "happy"))
    keras_file, onnx_file = tmp_path / "one.keras", save_tiny_onnx(tmp_path / "two.onnx", shift=2)
    build_model("edge", recipe_for("modern", "edge"), 7).save(keras_file)
    (tmp_path / "two.toml").write_text(f"labels = {list(labels)}")
    flags = ("--data", "synthetic:210", "--views", "2", "--mixup", "0.4", "--epochs", "3")
    flags += ("--teacher-weight", "1", "--keep", "last", "--precision", "float32")

    def distill(name: str):
        return invoke("distill", str(keras_file), str(onnx_file), *flags, "--run", str(name))

    whole, stopped = tmp_path / "whole", tmp_path / "stopped"
    result = distill(whole)
    assert result.exit_code == 0, result.output
    assert not list((whole / "edge" / "fold-00").glob("view-*"))
    facts = training_facts(open_run(whole).fold("edge", 0))
    assert facts["command"].startswith("fer-train distill one.keras two.onnx --student edge")
    assert " --views 2" in facts["command"]

    assert _stopped_after(2, distill, stopped)
    run = open_run(stopped)
    lesson = FoldTrainer(run.fold("edge", 0), load_run_images(run)).lessons[1]
    net = keras.saving.load_model(keras_file, compile=False)
    classifier = Classifier(onnx_file, detector="none")
    columns = [labels.index(label) for label in EMOTIONS]
    views = []
    for epoch in range(3):
        data = lesson.epoch_data(epoch)
        assert sorted(data.order) == sorted(run.folds[0].train)
        assert not np.array_equal(data.order, lesson.order(epoch % 2)), "each its own order"
        images = data.inputs[0].astype(np.float32)
        answers = [
            answer
            for sides in (images, np.ascontiguousarray(images[:, :, ::-1]))
            for answer in (net.predict(sides), classifier.probabilities(sides)[:, columns])
        ]
        np.testing.assert_allclose(data.targets, np.mean(answers, axis=0), atol=1e-5)
        assert not np.array_equal(images, lesson.data.images[data.order])
        views.append(images[np.argsort(data.order)])
    assert np.array_equal(views[0], views[2]), "the third epoch sees the first view"
    assert not np.array_equal(views[0], views[1])

    assert distill(stopped).exit_code == 0
    ours, theirs = (
        read_arrays(folder / "edge" / "fold-00" / "predictions.npz")["probabilities"]
        for folder in (stopped, whole)
    )
    np.testing.assert_allclose(ours, theirs, atol=1e-6)


@pytest.mark.usefixtures("bfloat16_without_numbers")
def test_a_student_whose_precision_gives_no_numbers_learns_in_float32(tmp_path, caplog):
    teacher = tmp_path / "teacher.keras"
    build_model("edge", recipe_for("modern", "edge"), 7).save(teacher)
    flags = ("--data", "synthetic:140", "--epochs", "1", "--teacher-weight", "0.5")
    result = invoke("distill", str(teacher), *flags, "--run", str(tmp_path / "run"))
    assert result.exit_code == 0, result.output
    assert "gave no number in mixed_bfloat16; it is trained in float32" in caplog.text
    assert open_run(tmp_path / "run").fold("edge", 0).score["dtype_policy"] == "float32"


def _stopped_after(epoch: int, command, folder) -> bool:
    """Tell whether the command was stopped by an error after so many epochs."""
    train = FoldTrainer.train

    def until(self, *ignored):
        def stop(progress):
            if progress.row and progress.epoch == epoch:
                raise RunError("stopped")

        return train(self, stop)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FoldTrainer, "train", until)
        result = command(folder)
    return result.exit_code == 1 and "stopped" in result.stderr


def test_views_keep_what_labels_say_beside_the_teacher(tmp_path):
    teacher = save_tiny_onnx(tmp_path / "teacher.onnx")
    result = invoke(
        *("distill", str(teacher), "--data", "synthetic:210", "--views", "1", "--epochs", "2"),
        *("--teacher-weight", "0.25", "--label-smoothing", "0.14", "--augmentation", "0"),
        *("--run", str(tmp_path / "run")),
    )
    assert result.exit_code == 0, result.output
    run = open_run(tmp_path / "run")
    lesson = FoldTrainer(run.fold("edge", 0), load_run_images(run)).lessons[1]
    data = lesson.epoch_data(0)
    assert np.array_equal(data.inputs[0], lesson.data.images[data.order])
    answers = Classifier(teacher, detector="none", mirror=True).probabilities(
        data.inputs[0].astype(np.float32)
    )
    smooth = 0.86 * lesson.data.truth[data.order] + 0.14 / 7
    np.testing.assert_allclose(data.targets, 0.75 * smooth + 0.25 * answers, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "flags", "code", "message"),
    [
        ("two.onnx", (), 1, "with --views, an ONNX file to teach"),
        ("two.onnx", ("--views", "-1"), 2, "Expected views of 0 or more"),
        ("six.onnx", ("--views", "2"), 1, "six.onnx of angry, disgust, fear, happy, sad, surprise"),
        ("not.onnx", ("--views", "2"), 1, "Expected a model to teach in"),
        ("run", ("--views", "2"), 2, "--views is for files as teachers"),
    ],
)
def test_files_that_cannot_teach_by_views_are_refused(tmp_path, name, flags, code, message):
    save_tiny_onnx(tmp_path / "two.onnx")
    (tmp_path / "not.onnx").write_bytes(b"no model")
    six = [helper.make_node("Slice", ["all", "first", "last", "axis"], [OUTPUT_NAME])]
    model = onnx.load(tmp_path / "two.onnx")
    model.graph.node[-1].output[0] = "all"
    model.graph.node.extend(six)
    for constant, value in (("first", 0), ("last", 6), ("axis", 1)):
        model.graph.initializer.append(numpy_helper.from_array(np.array([value]), constant))
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 6
    write_metadata(model, ModelSpec(labels=EMOTIONS[:6]))
    onnx.save(model, tmp_path / "six.onnx")
    plan = ("--data", "synthetic:210", "--models", "edge", "--pool", "training", "--folds", "2")
    assert invoke("plan", *plan, "--run", str(tmp_path / "run")).exit_code == 0
    student = tmp_path / "student"
    result = invoke(
        "distill", str(tmp_path / name), "--data", "synthetic:210", *flags, "--run", str(student)
    )
    assert result.exit_code == code
    assert message in result.stderr
    assert not student.exists()


def test_a_teacher_adds_the_cross_entropy_to_its_answers_to_both_views():
    image = keras.Input((48, 48, 1))
    teacher = keras.Model(
        image, keras.layers.Dense(3, activation="softmax")(keras.layers.Flatten()(image))
    )
    rng = np.random.default_rng(0)
    images = rng.random((4, 48, 48, 1), np.float32)
    answers = rng.dirichlet([1, 1, 1], 4).astype(np.float32)
    layer = DistillationLoss(teacher, 0.25)
    shares = np.array([1, 2, 1, 0], np.float32)
    assert np.array_equal(layer(answers, images, shares), answers)
    targets = (teacher.predict(images) + teacher.predict(images[:, :, ::-1])) / 2
    expected = -0.25 * np.mean(shares * np.sum(targets * np.log(answers), axis=1))
    assert float(layer.losses[0]) == pytest.approx(expected, rel=1e-4)
    assert not layer.trainable_variables


@pytest.mark.parametrize(
    ("pool", "folds", "message"),
    [
        ("training", "2", "missing|none of"),
        ("all", "2", "pool all"),
        ("training", "1", "of 1 fold"),
    ],
)
def test_a_teacher_that_cannot_teach_is_refused(tmp_path, pool, folds, message):
    plan = ("--data", "synthetic:210", "--models", "edge", "--pool", pool, "--folds", folds)
    assert invoke("plan", *plan, "--run", str(tmp_path / "t")).exit_code == 0
    result = invoke("distill", str(tmp_path / "t"), "--run", str(tmp_path / "s"))
    assert result.exit_code == 1
    assert re.search(message, result.stderr)
    assert not (tmp_path / "s").exists()


def test_targets_mix_labels_and_answers():
    labels = np.eye(2, dtype=np.float32)
    answers = np.array([[0.5, 0.5], [np.nan, np.nan]], np.float32)
    assert mixed_targets(labels, answers, 0.5).tolist() == [[0.75, 0.25], [0.0, 1.0]]


def _emit(run: Path, system: str, *flags: str) -> str:
    result = invoke(
        *("all", "--data", "synthetic:210", "--models", "edge,sequential", "--folds", "3"),
        *("--run", str(run), "--emit", system, *flags),
    )
    assert result.exit_code == 0, result.output
    return result.stdout


def _fold_of(command: list[str]) -> tuple[str, str, str]:
    assert command[:2] == ["fer-train", "fold"]
    values = dict(zip(command[2::2], command[3::2], strict=True))
    return values["--model"], values["--fold"], values["--run"]


def test_jobs_find_the_weights_that_a_model_starts_from(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("KERAS_BACKEND", "jax")
    Path("begun.keras").touch()
    flags = ("--weights", "begun.keras")
    assert f"#SBATCH --chdir={tmp_path}\n" in _emit(
        tmp_path / "runs" / "First Run", "slurm", *flags
    )
    job = json.loads(_emit(tmp_path / "runs" / "First Run", "kubernetes", *flags))
    (container,) = job["spec"]["template"]["spec"]["containers"]
    assert container["workingDir"] == str(tmp_path)
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path)
    assert container["env"] == [{"name": "KERAS_BACKEND", "value": "jax"}]
    assert job["metadata"]["name"] == "fer-train-first-run"


def test_a_slurm_array_runs_every_fold_that_is_left_once(tmp_path):
    script = tmp_path / "job.sh"
    run = tmp_path / "a run"
    script.write_text(_emit(run, "slurm"))
    assert _folds_of_array(script, tmp_path) == [
        (model, str(fold), str(run)) for model in ("edge", "sequential") for fold in range(3)
    ]


def _folds_of_array(script: Path, folder: Path) -> list[tuple[str, str, str]]:
    """Start each task of an array, with a stand-in for fer-train that shows its arguments."""
    subprocess.run(["bash", "-n", script], check=True)
    first, last = re.search(r"^#SBATCH --array=(\d+)-(\d+)$", script.read_text(), re.M).groups()
    stand_in = folder / "fer-train"
    stand_in.write_text('#!/bin/sh\nprintf "%s\\n" fer-train "$@"\n')
    stand_in.chmod(0o755)
    folds = []
    for task in range(int(first), int(last) + 1):
        environment = {"PATH": f"{folder}:{os.environ['PATH']}", "SLURM_ARRAY_TASK_ID": str(task)}
        shown = subprocess.run(["bash", script], env=environment, capture_output=True, text=True)
        assert shown.returncode == 0, shown.stderr
        folds.append(_fold_of(shown.stdout.splitlines()))
    return folds


def test_folds_of_the_classical_baseline_ask_for_no_gpu(tmp_path):
    run = tmp_path / "run"
    assert "#SBATCH --gpus=1\n" in _emit(run, "slurm")
    assert "nvidia.com/gpu" in _emit(run, "kubernetes")
    assert "#SBATCH --gpus" not in _emit(run, "slurm", "--models", "svm")
    assert "gpu" not in _emit(run, "kubernetes", "--models", "svm")


def test_of_a_mixed_run_only_the_networks_folds_ask_for_a_gpu(tmp_path):
    run = tmp_path / "run"
    both = ("--models", "edge,svm")
    jobs = json.loads(_emit(run, "kubernetes", *both))
    assert (jobs["apiVersion"], jobs["kind"]) == ("v1", "List")
    asked = {}
    for job in jobs["items"]:
        (container,) = job["spec"]["template"]["spec"]["containers"]
        models = set(re.findall(r"--model (\w+)", container["command"][2]))
        gpus = container["resources"]["limits"].get("nvidia.com/gpu", 0)
        asked[job["metadata"]["name"]] = (models, job["spec"]["completions"], gpus)
    assert asked == {"fer-train-run": ({"edge"}, 3, 1), "fer-train-run-cpu": ({"svm"}, 3, 0)}

    script = tmp_path / "job.sh"
    script.write_text(_emit(run, "slurm", *both))
    # A stand-in keeps what is submitted.
    sbatch = tmp_path / "sbatch"
    sbatch.write_text(f"#!/bin/sh\ncat > {tmp_path}/array-$$.sh\n")
    sbatch.chmod(0o755)
    environment = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    subprocess.run(["bash", script], env=environment, check=True)
    arrays = {}
    for array in tmp_path.glob("array-*.sh"):
        models = tuple(model for model, _, _ in _folds_of_array(array, tmp_path))
        arrays[models] = "#SBATCH --gpus=1\n" in array.read_text()
    assert arrays == {("edge",) * 3: True, ("svm",) * 3: False}


def test_a_kubernetes_job_runs_every_fold_that_is_left_once(tmp_path):
    run = tmp_path / "a run"
    text = _emit(run, "kubernetes")
    spec = json.loads(text)["spec"]
    assert (spec["completionMode"], spec["completions"], spec["parallelism"]) == ("Indexed", 6, 6)
    pod = spec["template"]["spec"]
    # Retries for each index, and a policy for failed pods, are only taken with this.
    assert pod["restartPolicy"] == "Never"
    (container,) = pod["containers"]
    (mount,) = container["volumeMounts"]
    assert mount["mountPath"] == str(tmp_path)
    assert mount["name"] == pod["volumes"][0]["name"]
    shell, flag, program = container["command"]
    folds = []
    for index in range(spec["completions"]):
        shown = subprocess.run(
            [shell, flag, program.replace("exec ", "printf '%s\\n' ")],
            env={"JOB_COMPLETION_INDEX": str(index)},
            capture_output=True,
            text=True,
            check=True,
        )
        folds.append(_fold_of(shown.stdout.splitlines()))
    assert folds == [
        (model, str(fold), str(run)) for model in ("edge", "sequential") for fold in range(3)
    ]
    # kubectl reads YAML first of all.
    assert pytest.importorskip("yaml").safe_load(text)["spec"] == spec


def test_jobs_find_the_data_from_any_folder(tmp_path, monkeypatch):
    images, labels = synthetic_faces(70)
    lines = [
        f"{label},{' '.join(map(str, image.ravel()))},Training"
        for image, label in zip(images, labels, strict=True)
    ]
    monkeypatch.chdir(tmp_path)
    Path("faces.csv").write_text("\n".join(["emotion,pixels,Usage", *lines]))
    flags = ("all", "--data", "faces.csv", "--models", "svm", "--folds", "2", "--run", "runs/one")
    result = invoke(*flags, "--emit", "kubernetes")
    assert result.exit_code == 0, result.output
    container = json.loads(result.stdout)["spec"]["template"]["spec"]["containers"][0]
    assert (
        f"--run {tmp_path / 'runs/one'} --data {tmp_path / 'faces.csv'}" in container["command"][2]
    )
    assert container["volumeMounts"][0]["mountPath"] == str(tmp_path)


@pytest.mark.parametrize("system", ["slurm", "kubernetes"])
def test_a_run_that_is_done_needs_no_job(tmp_path, system):
    run = str(tmp_path / "run")
    flags = ("all", "--data", "synthetic:140", "--models", "svm", "--folds", "2", "--run", run)
    assert invoke(*flags, "--no-export").exit_code == 0
    result = invoke(*flags, "--emit", system)
    assert result.exit_code == 1
    assert "which is done" in result.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="limits the size of files")
def test_a_fold_that_could_not_write_goes_on_when_it_can(tmp_path):
    """A limit on the size of files stands for a disk that is full."""
    import resource

    run = tmp_path / "run"
    flags = ("--data", "synthetic:140", "--models", "svm", "--folds", "2", "--run", str(run))
    assert invoke("plan", *flags).exit_code == 0

    def train(limit: int) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "fer_train.cli", "all", *flags, "--no-export"],
            preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit)),
            capture_output=True,
            text=True,
            check=False,
        )

    failed = train(1024)
    assert failed.returncode == 1
    assert "Traceback" not in failed.stderr
    assert re.search(r"Could not write .*predictions\.npz.*goes on where it was", failed.stderr)
    assert {path.name for path in (run / "svm" / "fold-00").iterdir()} == {"lock"}
    assert train(resource.RLIM_INFINITY).returncode == 0
    assert len(open_run(run).scores("svm")) == 2


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("all", "--models", "vgg19"), 2, "received vgg19"),
        (("all", "--folds", "0"), 2, "--folds"),
        (("all", "--jobs", "2", "--ray", "local"), 2, "exclude one another"),
        (("all", "--ray", "local", "--ray-gpus", "1.5"), 2, "--ray-gpus"),
        (("all", "--data", "nowhere.csv"), 1, "nowhere.csv"),
        (("all", "--epochs", "0", "--data", "synthetic:70"), 2, "Expected epochs"),
        (("all", "--models", ","), 2, "received none"),
        (("all", "--ray-gpus", "1"), 2, "are for --ray"),
        (("all", "--int8", "--no-export"), 2, "exclude one another"),
        (("all", "--teacher-weight", "0.5"), 2, "No such option"),
        (("all", "--views", "2"), 2, "No such option"),
        (("all", "--warmup-epochs", "inf"), 2, "Expected warmup_epochs of a number"),
        (("all", "--augmentation", "20"), 2, "Expected augmentation of from 0 to 10"),
        (("all", "--models", "edge", "--weights", "some.h5"), 2, "in a .keras file"),
        (
            ("plan", "--data", "synthetic:70", "--folds", "2", "--weights", "no.keras"),
            1,
            "at no.keras, found none",
        ),
        (
            ("all", "--data", "synthetic:14", "--models", "svm", "--folds", "2"),
            1,
            "3 training images or more of each emotion for svm",
        ),
        (("plan", "--data", "synthetic:70", "--folds", "60"), 1, "for 60 folds"),
        (("fold", "--model", "edge", "--fold", "0"), 1, "Expected a run folder"),
    ],
)
def test_mistakes_are_named(tmp_path, flags, code, message):
    result = invoke(*flags, "--run", str(tmp_path / "run"))
    assert result.exit_code == code
    assert message in result.stderr
    assert "Traceback" not in result.output


@pytest.mark.parametrize("setting", ["teacher_weight = 0.5", "[edge]\nviews = 2"])
def test_a_file_of_settings_brings_no_teacher_either(tmp_path, setting):
    (tmp_path / "settings.toml").write_text(setting)
    plan = ("all", "--data", "synthetic:70", "--models", "edge", "--folds", "2")
    result = invoke(
        *plan, "--config", str(tmp_path / "settings.toml"), "--run", str(tmp_path / "run")
    )
    assert result.exit_code == 2
    assert "is for fer-train distill, which has a teacher" in result.stderr
    assert not (tmp_path / "run" / "config.json").exists()


def test_a_run_goes_on_where_its_data_lie_now(tmp_path):
    for name in ("one", "two"):
        for emotion in EMOTIONS:
            for number in range(4):
                picture = tmp_path / name / "train" / emotion / f"{number}.png"
                picture.parent.mkdir(parents=True, exist_ok=True)
                image = synthetic_faces(28, 0)[0][EMOTIONS.index(emotion) * 4 + number]
                cv2.imwrite(str(picture), image)
    flags = ("--models", "svm", "--folds", "2", "--run", str(tmp_path / "run"))
    assert invoke("plan", "--data", str(tmp_path / "one"), *flags).exit_code == 0
    (tmp_path / "one").rename(tmp_path / "moved")
    assert invoke("plan", "--data", str(tmp_path / "moved"), *flags).exit_code == 0
    assert open_run(tmp_path / "run").protocol.data == str(tmp_path / "moved")


@pytest.mark.skipif(sys.platform == "win32", reason="there is no SIGTERM")
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL])
def test_folds_end_with_the_command_that_started_them(tmp_path, number):
    flags = ("--data", "synthetic:140", "--models", "sequential", "--folds", "2", "--jobs", "2")
    command = [sys.executable, "-m", "fer_train.cli", "all", *flags, "--epochs", "200"]
    command += ["--run", str(tmp_path / "run"), "--no-export"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    locks = [tmp_path / "run/sequential" / fold / "lock" for fold in ("fold-00", "fold-01")]
    try:
        _wait_until(lambda: all(lock.exists() for lock in locks))
        process.send_signal(number)
        _, messages = process.communicate(timeout=120)
    finally:
        process.kill()
    if number == signal.SIGTERM:
        assert process.returncode == 143
        assert "sequential fold 0, sequential fold 1 had not ended and go on" in messages

    def free(lock: Path) -> bool:
        try:
            with locked(lock):
                return True
        except RunError:
            return False

    _wait_until(lambda: all(map(free, locks)))


def _wait_until(true: Callable[[], bool], most_s: float = 400.0) -> None:
    end = time.monotonic() + most_s
    while not true():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_refused_data_and_missing_weights_leave_no_run(tmp_path):
    run = tmp_path / "runs/new"
    flags = ("--models", "vgg16", "--run", str(run), "--folds", "2")
    assert invoke("all", "--data", str(tmp_path / "none.zip"), *flags).exit_code == 1
    lost = str(tmp_path / "lost.h5")
    assert invoke("all", "--data", "synthetic:140", "--weights", lost, *flags).exit_code == 1
    assert not run.parent.exists()


def test_an_unknown_back_end_is_named():
    done = subprocess.run(
        [sys.executable, "-c", "import fer_train.network._keras"],
        env={**os.environ, "KERAS_BACKEND": "foo"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert "Expected KERAS_BACKEND=tensorflow or jax, received 'foo'" in done.stderr


def test_weights_of_another_model_are_refused_in_few_words(tmp_path):
    recipe = recipe_for("modern", "edge")
    build_model("edge", recipe, 7).save(tmp_path / "edge.keras")
    other = recipe_for("modern", "sequential", {"weights": str(tmp_path / "edge.keras")})
    with pytest.raises(RunError, match="Expected a Keras file of a sequential model") as raised:
        build_model("sequential", other, 7)
    assert len(raised.value.message) < 600


def test_weights_that_were_trained_on_other_levels_are_refused(tmp_path):
    build_model("edge", recipe_for("modern", "edge"), 7).save(tmp_path / "edge.keras")
    given = {"weights": str(tmp_path / "edge.keras")}
    build_model("edge", recipe_for("modern", "edge", given), 7)
    other = recipe_for("modern", "edge", given | {"preprocessing": "unit"})
    with pytest.raises(RunError, match="give the --preprocessing that it was trained with"):
        build_model("edge", other, 7)


def test_several_seeds_train_on_the_same_folds(tmp_path):
    common = ("all", "--data", "synthetic:140", "--models", "svm", "--folds", "2", "--no-export")
    run = tmp_path / "run"
    result = invoke(*common, "--seeds", "3,1", "--run", str(run))
    assert result.exit_code == 0, result.output
    first, second = (open_run(run / f"seed-{seed}") for seed in (3, 1))
    assert (first.protocol.seed, second.protocol.seed) == (3, 1)
    assert first.dataset_digest == second.dataset_digest
    assert all(
        one.test.tolist() == other.test.tolist()
        for one, other in zip(first.folds, second.folds, strict=True)
    )
    assert "svm, 2 seeds (3, 1) on 2 folds" in result.stdout
    assert "sd of seeds" in result.stdout and "majority" in result.stdout
    again = invoke(*common, "--seeds", "3,1", "--run", str(run))
    assert "2 of 2 folds are done" in again.stderr
    compared = invoke("compare", str(run))
    assert compared.exit_code == 0, compared.output
    assert "seed-3: svm" in compared.stdout and "SEEDS AND FOLDS" in compared.stdout
    assert invoke(*common, "--run", str(run / "seed-3"), "--seed", "3").exit_code == 1
    refused = invoke(*common, "--seeds", "0,1", "--run", str(run / "seed-3"))
    assert refused.exit_code == 1 and "holds a run of one seed" in refused.stderr


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (("--seeds", "1,1"), "expected seeds that differ"),
        (("--seeds", "1,x"), "'x' is not a valid integer"),
        (("--seeds", "1,2", "--seed", "1"), "--seeds excludes --seed"),
        (("--seeds", "1,2", "--emit", "slurm"), "--seeds excludes --seed and --emit"),
    ],
)
def test_seeds_that_make_no_sense_are_wrong_usage(tmp_path, flags, message):
    result = invoke("all", *flags, "--run", str(tmp_path / "run"))
    assert result.exit_code == 2
    assert message in result.stderr
    assert not (tmp_path / "run").exists()
