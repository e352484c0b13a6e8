import json
import re
import shutil

import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.errors import DataError, RunError
from fer_edge.inference.detectors import OnnxDetector
from fer_train.cli import main
from fer_train.detection.finders import teacher_finder
from fer_train.detection.network import build_detector, save_weights
from fer_train.detection.run import Sources, read_weights, train_detector
from fer_train.detection.settings import recipe_of
from fer_train.detection.training import DetectorTraining
from fer_train.network._keras import keras
from fer_train.run.folder import open_run, read_curves
from tests.support.faces import write_faces

pytestmark = pytest.mark.tensorflow

TINY = ["--steps", "2", "--batch", "2", "--size", "32", "--inner", "0.3", "--precision", "float32"]
# Fewer operations, each of which takes its time where they are not compiled.
TINY += [
    word for name in ("mosaic", "blurred", "noisy", "compressed") for word in (f"--{name}", "0")
]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_faces(tmp_path_factory.mktemp("data") / "faces")


def detector(data, run, *flags):
    return CliRunner().invoke(
        main, ["detector", "--data", str(data), "--run", str(run), *TINY, *map(str, flags)]
    )


@pytest.fixture(scope="module")
def trained(data, run_eagerly, tmp_path_factory):
    """A run folder of two steps, and what the command printed."""
    run = tmp_path_factory.mktemp("trained") / "run"
    with run_eagerly():
        done = detector(data, run)
    assert done.exit_code == 0, done.output
    return run, done.stdout


@pytest.fixture
def again(trained, tmp_path):
    """A copy of that run folder, to be changed."""
    return shutil.copytree(trained[0], tmp_path / "again")


def metrics_of(run):
    return json.loads((run / "metrics.json").read_text())


def test_a_training_ends_with_scores_curves_and_a_report(trained):
    run, printed = trained
    assert re.search(r"threshold 0\.\d\d: .* faces found, \d+ false boxes", printed)
    assert f"{run / 'exported' / 'face.onnx'}" in printed
    metrics = metrics_of(run)
    assert (metrics["steps"], metrics["tiles"]) == (2, 4)
    assert (metrics["pictures"], metrics["empty"]) == (3, 1)
    assert read_curves(run / "history.csv")["step"].tolist() == [1, 2]
    assert (run / "decoys.csv").is_file()
    assert not list(run.glob("checkpoint-*"))
    assert "## Training" in (run / "report" / "report.md").read_text()


def test_the_exported_file_runs_and_says_how_it_is_read(trained):
    exported, metrics = trained[0] / "exported", metrics_of(trained[0])
    found = OnnxDetector(exported / "face.onnx")
    assert found.spec.threshold == metrics["threshold"]
    assert found.spec.dataset == "faces"
    card = (exported / "MODELS.md").read_text("utf-8")
    assert "2 steps of 2 tiles of 32 pixels" in card
    assert f"Faces found in 3 pictures with {metrics['faces']} faces" in card


@pytest.mark.usefixtures("eagerly")
def test_a_killed_run_goes_on_to_the_same_model(data, trained, tmp_path):
    whole, killed = trained[0], tmp_path / "killed"

    def kill(line):
        if "step 1 of 2" in line:
            raise KeyboardInterrupt

    recipe = recipe_of(json.loads((whole / "config.json").read_text())["recipe"])
    with pytest.raises(KeyboardInterrupt):
        train_detector(killed, recipe, Sources((data,)), kill)
    assert not (killed / "metrics.json").exists()
    assert len(list(killed.glob("checkpoint-*.npz"))) == 1
    assert train_detector(killed, recipe, Sources((data,)), str).keys() == metrics_of(whole).keys()
    one, other = (read_weights(folder / "model.keras") for folder in (whole, killed))
    assert len(one) > 10
    assert one.keys() == other.keys()
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-4, atol=1e-6, err_msg=name)


def test_a_done_run_is_only_reported_anew(data, again):
    shutil.rmtree(again / "report")
    before = (again / "model.keras").read_bytes()
    result = detector(data, again)
    assert (result.exit_code, "step" in result.stderr) == (0, False)
    assert (again / "report" / "report.html").is_file()
    assert (again / "model.keras").read_bytes() == before


def test_other_settings_do_not_go_on_with_a_run(data, again):
    result = detector(data, again, "--turn", "20")
    assert result.exit_code == 1
    assert "turn 60.0 there, 20.0 asked for" in result.stderr


def test_report_takes_a_detectors_run(again, tmp_path):
    command = ["report", str(again), "--output", str(tmp_path / "report")]
    assert CliRunner().invoke(main, command).exit_code == 0
    text = (tmp_path / "report" / "report.md").read_text()
    assert text.startswith("# Face detector again")


def test_the_commands_of_emotion_models_refuse_a_detectors_run(trained):
    with pytest.raises(RunError, match=r"emotion models, received one of face-detection"):
        open_run(trained[0])


@pytest.mark.usefixtures("eagerly")
def test_a_precision_without_numbers_gives_way_to_float32(data, tmp_path, monkeypatch):
    monkeypatch.setattr("fer_train.detection.run.choose_precision", lambda asked: "mixed_bfloat16")
    normal, policies, lines = DetectorTraining.compute_loss, [], []

    def without_numbers(self, *arguments, **named):
        policies.append(self.network.dtype_policy.name)
        loss = normal(self, *arguments, **named)
        return loss if policies[-1] == "float32" else loss * np.nan

    monkeypatch.setattr(DetectorTraining, "compute_loss", without_numbers)
    plain = dict.fromkeys(("mosaic", "blurred", "noisy", "compressed"), 0.0)
    tiny = {"steps": 1, "batch": 2, "size": 32, "inner": 0.3, "mine_at": 1.0}
    recipe = recipe_of(tiny | plain)
    assert recipe.training.precision == "auto"
    train_detector(tmp_path / "run", recipe, Sources((data,)), lines.append)
    assert policies == ["mixed_bfloat16"] * 3 + ["float32"]
    assert "the loss is not a number in mixed_bfloat16; it goes on in float32" in lines
    assert read_curves(tmp_path / "run" / "history.csv")["step"].tolist() == [1]


@pytest.mark.usefixtures("eagerly")
def test_a_precision_that_was_asked_for_is_kept(data, tmp_path, monkeypatch):
    normal = DetectorTraining.compute_loss
    monkeypatch.setattr(
        DetectorTraining,
        "compute_loss",
        lambda self, *a, **named: normal(self, *a, **named) * np.nan,
    )
    done = detector(data, tmp_path / "run", "--steps", 1)
    assert done.exit_code == 1
    assert "not a number, again and again; give a lower --rate" in done.stderr


@pytest.mark.parametrize(
    ("flag", "value", "code", "message"),
    [
        ("--size", "33", 2, "Expected size of a multiple of 32"),
        ("--config", "bad.toml", 2, "received stepps"),
        ("--weights", "none.npz", 1, "detector's weights (.npz or .keras), received"),
        ("--weights", "none.keras", 1, "detector's weights (.npz or .keras)"),
        ("--weights", "other.npz", 1, "received others: weight"),
        ("--weights", "missing.npz", 2, "does not exist"),
        ("--mine-at", "0", 1, "Expected --weights with --mine-at 0"),
        ("--teacher", "none.npz", 1, "Expected YuNet's ONNX file as --teacher"),
        ("--held-out", ".", 1, "received none"),
    ],
)
def test_what_is_wrong_is_said_before_anything_is_written(
    data, tmp_path, monkeypatch, flag, value, code, message
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "none.npz").write_bytes(b"nothing")
    (tmp_path / "none.keras").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    (tmp_path / "bad.toml").write_text("stepps = 3\n")
    result = detector(data, tmp_path / "run", flag, value)
    assert (result.exit_code, result.stdout) == (code, "")
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        (None, "received none without any"),
        ("file,x,y,w,h\n0.png,1,2,300,-4\n", "received 300 x -4 in line 2 of boxes.csv"),
    ],
    ids=["no picture without a face", "a box of no height"],
)
def test_data_that_cannot_train_are_told_before_anything_is_written(tmp_path, rows, message):
    faces = write_faces(tmp_path / "faces", empty=0)
    if rows:
        (faces / "boxes.csv").write_text(rows)
    result = detector(faces, tmp_path / "run")
    assert result.exit_code == 1
    assert message in result.stderr
    assert not (tmp_path / "run").exists()


def test_another_run_is_left_alone(data, tmp_path):
    (tmp_path / "config.json").write_text('{"format": 1}')
    result = detector(data, tmp_path)
    assert result.exit_code == 1
    assert "an empty folder or a detector's run" in result.stderr
    assert json.loads((tmp_path / "config.json").read_text()) == {"format": 1}


def test_weights_are_read_from_keras_and_by_name(tmp_path):
    net = build_detector()
    net.save(tmp_path / "a.keras")
    np.savez(tmp_path / "a.npz", **save_weights(net))
    for name in ("a.keras", "a.npz"):
        for key, array in read_weights(tmp_path / name).items():
            np.testing.assert_array_equal(array, save_weights(net)[key])
    keras.Sequential([keras.Input((3,)), keras.layers.Dense(2)]).save(tmp_path / "b.keras")
    with pytest.raises(RunError, match=r"detector's weights .*b\.keras: .* received others"):
        read_weights(tmp_path / "b.keras")


def test_a_teacher_that_is_missing_is_refused(tmp_path):
    with pytest.raises(Exception, match="found none at"):
        teacher_finder(tmp_path / "none.onnx")
    with pytest.raises(DataError, match="--weights with --mine-at 0"):
        train_detector(tmp_path, recipe_of({"mine_at": 0.0}), Sources((tmp_path,)), str)
