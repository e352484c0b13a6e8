import hashlib
import json

import pytest
from click.testing import CliRunner

from fer_edge._base import _ort
from fer_edge.cli import main
from fer_edge.contract import EMOTIONS, ModelSpec
from fer_edge.inference.locate import DEFAULT_MODEL
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


def test_info_of_a_foreign_model_asks_for_its_description(folder):
    save_color_model(folder / "color.onnx")
    result = run("info", "color.onnx")
    assert result.exit_code == 1
    assert "--labels" in result.stderr
    flags = ["--labels", "r,g,b", "--channels", "rgb", "--range", "0,1"]
    result = run("info", "color.onnx", "--json", *flags)
    assert result.exit_code == 0
    assert json.loads(result.stdout)["labels"] == ["r", "g", "b"]


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
    assert findings["threads"] >= 1
    assert findings["default_model"]["runs_on"] == "cpu"
    assert findings["default_model"]["batch_1_ms_per_face"] > 0
    assert "cpu" in findings["providers"]
    assert len(findings["onnxruntime"]) == 1
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
