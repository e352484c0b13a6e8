import json
import re

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


@pytest.mark.usefixtures("eagerly")
def test_a_killed_run_goes_on_to_the_same_model_and_a_done_one_is_only_reported(data, tmp_path):
    whole, killed = tmp_path / "whole", tmp_path / "killed"
    done = detector(data, whole)
    assert done.exit_code == 0, done.output
    assert re.search(r"threshold 0\.\d\d: .* faces found, \d+ false boxes", done.stdout)
    assert f"{whole / 'exported' / 'face.onnx'}" in done.stdout
    metrics = json.loads((whole / "metrics.json").read_text())
    assert (metrics["steps"], metrics["tiles"], metrics["pictures"]) == (2, 4, 3)
    assert metrics["empty"] == 1
    assert read_curves(whole / "history.csv")["step"].tolist() == [1, 2]
    assert (whole / "decoys.csv").is_file()
    assert not list(whole.glob("checkpoint-*"))
    assert "## Training" in (whole / "report" / "report.md").read_text()

    # The file that was exported runs, and says how it is read.
    found = OnnxDetector(whole / "exported" / "face.onnx")
    assert found.spec.threshold == metrics["threshold"]
    assert found.spec.dataset == "faces"
    card = (whole / "exported" / "MODELS.md").read_text("utf-8")
    assert "2 steps of 2 tiles of 32 pixels" in card
    assert f"Faces found in 3 pictures with {metrics['faces']} faces" in card

    def kill(line):
        if "step 1 of 2" in line:
            raise KeyboardInterrupt

    recipe = recipe_of(json.loads((whole / "config.json").read_text())["recipe"])
    with pytest.raises(KeyboardInterrupt):
        train_detector(killed, recipe, Sources((data,)), kill)
    assert not (killed / "metrics.json").exists()
    assert len(list(killed.glob("checkpoint-*.npz"))) == 1
    assert train_detector(killed, recipe, Sources((data,)), str).keys() == metrics.keys()
    one, other = (read_weights(folder / "model.keras") for folder in (whole, killed))
    for name, array in one.items():
        np.testing.assert_allclose(array, other[name], rtol=1e-4, atol=1e-6, err_msg=name)

    # Again: nothing is trained, the report is there anew; with other settings it is refused.
    (killed / "report").mkdir()
    again = detector(data, killed)
    assert (again.exit_code, "step" in again.stderr) == (0, False)
    assert (killed / "report" / "report.html").is_file()
    other = detector(data, killed, "--turn", "20")
    assert other.exit_code == 1
    assert "turn 60.0 there, 20.0 asked for" in other.stderr
    reported = CliRunner().invoke(
        main, ["report", str(killed), "--output", str(tmp_path / "report")]
    )
    assert reported.exit_code == 0
    assert (tmp_path / "report" / "report.md").read_text().startswith("# Face detector killed")

    # Emotion models' commands do not take it for theirs.
    with pytest.raises(RunError, match=r"emotion models, received one of face-detection"):
        open_run(killed)


def test_what_is_wrong_is_said_before_anything_is_written(data, tmp_path):
    run = tmp_path / "run"
    (tmp_path / "none.npz").write_bytes(b"nothing")
    (tmp_path / "none.keras").write_bytes(b"nothing")
    np.savez(tmp_path / "other.npz", weight=np.zeros(3))
    (tmp_path / "bad.toml").write_text("stepps = 3\n")
    for flags, code, message in [
        (("--size", 33), 2, "Expected size of a multiple of 32"),
        (("--config", tmp_path / "bad.toml"), 2, "received stepps"),
        (("--weights", tmp_path / "none.npz"), 1, "detector's weights (.npz or .keras), received"),
        (("--weights", tmp_path / "none.keras"), 1, "detector's weights (.npz or .keras)"),
        (("--weights", tmp_path / "other.npz"), 1, "received others: weight"),
        (("--weights", tmp_path / "missing.npz"), 2, "does not exist"),
        (("--mine-at", 0), 1, "Expected --weights with --mine-at 0"),
        (("--teacher", tmp_path / "none.npz"), 1, "Expected YuNet's ONNX file as --teacher"),
        (("--held-out", tmp_path), 1, "received none"),
    ]:
        result = detector(data, run, *flags)
        assert (result.exit_code, result.stdout) == (code, ""), flags
        assert message in result.stderr, flags
        assert not run.exists(), flags
    faces = write_faces(tmp_path / "faces", empty=0)
    assert "received none without any" in detector(faces, run).stderr
    (faces / "boxes.csv").write_text("file,x,y,w,h\n0.png,1,2,300,-4\n")
    result = detector(faces, run)
    assert result.exit_code == 1
    assert "received 300 x -4 in line 2 of boxes.csv" in result.stderr
    assert not run.exists()


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
