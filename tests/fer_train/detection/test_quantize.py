import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.errors import ExportError
from fer_edge.inference.detectors import OnnxDetector
from fer_train.cli import main
from fer_train.detection import quantize
from fer_train.detection.pictures import FACE, Picture
from fer_train.export.convert import file_digest

PARENT = Path("exported/face.onnx")
PORTRAIT = Path("tests/data/portrait.jpg")


def pictures():
    face = np.full((1, 15), np.nan, np.float32)
    face[0, :4], face[0, -1] = (178, 55, 273, 177), FACE
    blank = cv2.imencode(".png", np.full((120, 160, 3), 90, np.uint8))[1].tobytes()
    nothing = np.zeros((0, 15), np.float32)
    return [
        Picture("portrait.jpg", PORTRAIT.read_bytes(), face, False),
        Picture("blank.png", blank, nothing, True),
    ]


def test_int8_says_what_it_is_and_finds_the_same(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratio", lambda *_: 2.0)
    path = tmp_path / "face.int8.onnx"
    made = quantize.quantize_detector(PARENT, path, pictures(), pictures())
    assert (made.recall, made.parent_recall, made.false_boxes) == (1.0, 1.0, 0)
    assert path.stat().st_size < PARENT.stat().st_size / 3
    detector = OnnxDetector(path, min_score=0.5)
    assert (detector.spec.precision, detector.spec.model) == ("int8", "face")
    assert detector.spec.parent == file_digest(PARENT)
    assert detector.spec.threshold == pytest.approx(made.threshold)
    frame = cv2.imread(str(PORTRAIT))
    (face,), (other,) = detector.detect(frame), OnnxDetector(PARENT).detect(frame)
    assert face.box == pytest.approx(other.box, abs=4)


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [("LARGEST_LOSS", -1, "of the faces lost"), ("LEAST_SPEEDUP", 99, "99 times the speed")],
)
def test_what_is_worse_or_no_faster_is_not_written(tmp_path, monkeypatch, name, value, reason):
    monkeypatch.setattr(quantize, "speed_ratio", lambda *_: 2.0)
    monkeypatch.setattr(quantize, name, value)
    with pytest.raises(ExportError, match=reason):
        quantize.quantize_detector(PARENT, tmp_path / "x.onnx", pictures(), pictures())
    assert not list(tmp_path.iterdir())


def test_its_facts_go_along_and_say_what_int8_finds(tmp_path, monkeypatch):
    monkeypatch.setattr(quantize, "speed_ratio", lambda *_: 2.0)
    made = quantize.publish_int8(PARENT, tmp_path, pictures(), pictures())
    facts = json.loads((tmp_path / "face.int8.json").read_text())
    assert facts["int8"]["threshold"] == made.threshold
    assert facts["evaluation"]["by_side"] == {"from 64 to 128 pixels": 1.0}
    assert facts["evaluation"]["false"].startswith("0 in the 1 pictures without a face")
    assert "face.int8.onnx" in (tmp_path / "SHA256SUMS").read_text()
    assert "int8" in (tmp_path / "MODELS.md").read_text()


def test_a_detector_is_judged_by_held_out_pictures_alone():
    result = CliRunner().invoke(main, ["quantize", str(PARENT), "--data", "x"])
    assert result.exit_code == 2
    assert "face.onnx finds faces: give --held-out PICTURES" in result.output
    arguments = ["quantize", "exported/edge.onnx", "--data", "x", "--held-out", "exported"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 2
    assert "edge.onnx finds no faces" in result.output
