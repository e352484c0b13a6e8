import hashlib
import json
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from fer_edge._base import _ort
from fer_edge._base.threads import available_threads
from fer_edge.cli import main
from fer_edge.contract import EMOTIONS, DetectorSpec, ModelSpec
from fer_edge.inference.locate import DEFAULT_MODEL
from tests.support.detectors import save_detector
from tests.support.models import save_brightness_model, save_color_model


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments):
    return CliRunner().invoke(main, [str(argument) for argument in arguments])


def test_info_shows_the_contract_and_the_digest(folder):
    spec = ModelSpec(model="tiny", scores={"accuracy": 0.7}, fold=3, licence="MIT")
    path = save_brightness_model(folder / "tiny.onnx", metadata=spec.to_metadata())
    result = run("info", "tiny.onnx", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert facts["bytes"] == path.stat().st_size
    assert facts["labels"] == list(EMOTIONS)
    assert facts["scores"] == {"accuracy": 0.7}
    assert facts["runs_on"] == "cpu"
    assert "cpu" in facts["providers"]
    text = run("info", "tiny.onnx").stdout
    for part in (facts["sha256"], "angry, disgust", "accuracy 0.7", "MIT"):
        assert part in text


def test_info_of_a_foreign_model_shows_what_to_try(folder):
    save_color_model(folder / "color.onnx")
    result = run("info", "color.onnx", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert facts["described"] is False
    assert facts["try"] == "--labels NAME1,...,NAME3 --color rgb --range 0,1"
    assert facts["or"] == ["--color bgr", "--range 0,255", "--range -1,1"]
    assert facts["graph_inputs"] == [{"name": "image", "type": "float", "shape": ["N", 3, 32, 32]}]
    assert facts["graph_outputs"] == [{"name": "probabilities", "type": "float", "shape": ["N", 3]}]
    assert (facts["opset"], facts["ir_version"]) == (17, 8)
    assert "image float (N, 3, 32, 32)" in run("info", "color.onnx").stdout


def test_info_of_a_foreign_model_takes_its_description(folder):
    save_color_model(folder / "color.onnx")
    flags = ["--labels", "r,g,b", "--color", "rgb", "--range", "0,1"]
    result = run("info", "color.onnx", "--json", *flags)
    assert result.exit_code == 0
    facts = json.loads(result.stdout)
    assert (facts["labels"], facts["described"]) == (["r", "g", "b"], True)


def test_info_shows_what_a_file_holds_that_cannot_be_used(folder):
    save_color_model(folder / "color.onnx")
    result = run("info", "color.onnx", "--labels", "r,g", "--color", "rgb", "--range", "0,1")
    assert result.exit_code == 1
    assert "image float (N, 3, 32, 32)" in result.stdout
    assert "2 numbers for its labels r, g" in result.stderr


def test_info_of_a_face_detector(folder):
    spec = DetectorSpec(model="face", scores={"recall": 0.9}, licence="MIT")
    save_detector(folder / "face.onnx", metadata=spec.to_metadata())
    result = run("info", "face.onnx", "--json")
    assert result.exit_code == 0, result.output
    facts = json.loads(result.stdout)
    assert (facts["task"], facts["strides"], facts["side"]) == ("face-detection", [8, 16, 32], 640)
    assert facts["runs_on"] == "cpu"


def test_a_face_detector_is_no_classifier(folder):
    save_detector(folder / "face.onnx", metadata=DetectorSpec(model="face").to_metadata())
    result = run("classify", "face.onnx", "--model", "face.onnx")
    assert result.exit_code == 1
    assert "which is for face-detection; give it as --detector-model" in result.stderr


def test_a_classifier_that_says_it_is_a_detector_is_refused(folder):
    spec = DetectorSpec(model="face")
    save_brightness_model(folder / "face.onnx", metadata=spec.to_metadata())
    result = run("info", "face.onnx")
    assert result.exit_code == 1
    assert "float32 (N, 3, H, W)" in result.stderr


def test_models_lists_what_is_found_where(folder):
    spec = ModelSpec(scores={"accuracy": 0.75})
    save_brightness_model(folder / "exported/b.onnx", metadata=spec.to_metadata())
    save_color_model(folder / "a.onnx")
    (folder / "c.onnx").write_text("text")
    (folder / "d.txt").touch()
    save_color_model(folder / "described.onnx")
    (folder / "described.toml").touch()
    save_brightness_model(folder / "face.onnx", metadata=DetectorSpec().to_metadata())
    result = run("models", "--json")
    assert result.exit_code == 0, result.output
    found = {model["name"]: model for model in json.loads(result.stdout)}
    # What came with the package is there too.
    assert {"a.onnx", "b.onnx", "c.onnx", "described.onnx", "face.onnx", "edge.onnx"} <= set(found)
    assert found["b.onnx"] == {
        "name": "b.onnx",
        "folder": str((folder / "exported").resolve()),
        "bytes": (folder / "exported/b.onnx").stat().st_size,
        "task": "face-emotion",
        "scores": {"accuracy": 0.75},
        "note": "",
    }
    assert found["face.onnx"]["task"] == "face-detection"
    assert found["a.onnx"]["note"] == "undescribed"
    assert found["described.onnx"]["note"] == "described by described.toml"
    assert "of another kind" in found["c.onnx"]["note"]
    lines = run("models").stdout.splitlines()
    assert any(line.startswith("b.onnx ") and "accuracy 0.75" in line for line in lines)


def test_info_of_what_is_no_model(folder):
    (folder / "text.onnx").write_text("text")
    for name in ("text.onnx", "missing.onnx"):
        result = run("info", name)
        assert result.exit_code == 1
        assert result.stderr.startswith("Error: Expected")
        assert result.stdout == ""


def test_doctor_finds_a_working_installation_well(folder):
    save_brightness_model(folder / DEFAULT_MODEL)
    result = run("doctor", "--json")
    assert result.exit_code == 0, result.output
    findings = json.loads(result.stdout)
    assert findings["problems"] == []
    assert findings["threads"] == available_threads()
    assert findings["default_model"]["runs_on"] == "cpu"
    assert findings["default_model"]["batch_1_ms_per_face"] > 0
    assert "cpu" in findings["providers"]
    assert list(findings["onnxruntime"].values()) == [version("onnxruntime")]
    text = run("doctor")
    assert text.exit_code == 0
    assert "default_model" in text.stdout


def test_doctor_names_problems_with_their_cure(folder, monkeypatch):
    import fer_edge.doctor

    def doubled():
        raise _ort.DependencyError("Expected one build of onnxruntime, received two")

    monkeypatch.setattr(fer_edge.doctor, "_providers", doubled)
    monkeypatch.setattr(fer_edge.doctor, "_time_default_model", doubled)
    result = run("doctor")
    assert result.exit_code == 1
    assert result.stderr == "problem: Expected one build of onnxruntime, received two\n"
