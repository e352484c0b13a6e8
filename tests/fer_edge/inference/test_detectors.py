from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge import open_detector, read_image
from fer_edge._base._cv2 import OPENCV_VERSION
from fer_edge.errors import DetectorError
from fer_edge.inference.detectors import Face, HaarDetector, YuNetDetector, largest_first
from tests.support.models import save_brightness_model, save_yunet_like

PORTRAIT = Path("tests/data/portrait.jpg")
needs_haar = pytest.mark.skipif(OPENCV_VERSION >= (5,), reason="OpenCV 5 has no cascades")


@pytest.fixture(scope="module")
def portrait():
    return read_image(PORTRAIT)


def center(face):
    left, top, width, height = face.box
    return left + width / 2, top + height / 2


@needs_haar
@pytest.mark.parametrize("factor", [0.4, 1, 3])
def test_haar_finds_the_face_at_any_size(portrait, factor):
    frame = cv2.resize(portrait, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    (face,) = HaarDetector().detect(frame)
    assert center(face) == pytest.approx((226 * factor, 114 * factor), abs=14 * factor)
    assert 75 * factor < face.box[2] < 120 * factor
    assert type(face.score) is float and face.score > 1
    assert {type(side) for side in face.box} == {int}


@needs_haar
def test_haar_takes_grey_frames_and_finds_nothing_in_nothing(portrait):
    detector = open_detector("haar")
    assert len(detector.detect(cv2.cvtColor(portrait, cv2.COLOR_BGR2GRAY))) == 1
    for shape in ((1, 1, 3), (10, 400, 3), (300, 300, 3), (5, 5000, 3)):
        assert detector.detect(np.full(shape, 90, np.uint8)) == []


@needs_haar
def test_boxes_stay_inside_the_frame(portrait):
    tight = portrait[66:165, 175:275]
    (face,) = HaarDetector().detect(cv2.resize(tight, (301, 299)))
    left, top, width, height = face.box
    assert left >= 0 and top >= 0 and left + width <= 301 and top + height <= 299


@needs_haar
def test_the_smallest_face_is_a_matter_of_choice(portrait):
    assert HaarDetector(min_face=150).detect(portrait) == []
    assert len(HaarDetector(min_face=60).detect(portrait)) == 1


@needs_haar
def test_the_working_size_is_bounded(portrait):
    big = cv2.resize(portrait, (2048, 2048))
    assert len(HaarDetector(max_side=320).detect(big)) == 1
    assert HaarDetector(max_side=60).detect(big) == []


def test_none_takes_the_whole_frame():
    detector = open_detector("none")
    assert detector.detect(np.zeros((20, 30, 3), np.uint8)) == [Face((0, 0, 30, 20), None)]


def test_faces_are_sorted_by_size_then_place():
    boxes = [(5, 0, 10, 10), (0, 0, 30, 30), (1, 0, 10, 10)]
    faces = largest_first([Face(box, 1.0) for box in boxes])
    assert [face.box for face in faces] == [boxes[1], boxes[2], boxes[0]]


def test_yunet_needs_its_file(tmp_path):
    with pytest.raises(DetectorError, match="`detector_model=FILE`"):
        open_detector("yunet")
    with pytest.raises(DetectorError, match="found none at"):
        open_detector("yunet", tmp_path / "missing.onnx")
    with pytest.raises(DetectorError, match="YuNet"):
        YuNetDetector(save_brightness_model(tmp_path / "classifier.onnx"))


class FakeNetwork:
    """Answers as OpenCV's FaceDetectorYN does: box, ten landmarks, score; at the working size."""

    def setInputSize(self, size):
        self.size = size

    def detect(self, image):
        assert image.shape[:2] == self.size[::-1]
        if max(self.size) < 100:
            return 0, None
        rows = np.zeros((4, 15), np.float32)
        rows[:, :4] = [[10, 20, 30, 40], [-8, -6, 60, 60], [5, 5, 4, 9], [np.nan, 1, 50, 50]]
        rows[0, 4:14] = range(10)
        rows[:, 14] = [0.9, 0.8, 0.95, 0.99]
        return 1, rows


def test_yunets_answers_are_scaled_clipped_and_filtered(monkeypatch, tmp_path):
    (tmp_path / "yunet.onnx").write_bytes(b"any")
    monkeypatch.setattr(cv2.FaceDetectorYN, "create", lambda *_, **__: FakeNetwork())
    detector = YuNetDetector(tmp_path / "yunet.onnx", max_side=160, min_face=24)
    faces = detector.detect(np.zeros((160, 320, 3), np.uint8))
    assert [face.box for face in faces] == [(0, 0, 104, 108), (20, 40, 60, 80)]
    assert [face.score for face in faces] == pytest.approx([0.8, 0.9])
    assert faces[1].points == ((0, 2), (4, 6), (8, 10), (12, 14), (16, 18))
    assert detector.detect(np.zeros((40, 40), np.uint8)) == []


def test_yunets_answers_are_read_from_opencv(tmp_path):
    detector = open_detector("yunet", save_yunet_like(tmp_path / "yunet.onnx"))
    frame = np.zeros((240, 320, 3), np.uint8)
    assert detector.detect(frame) == []
    frame[64:96, 160:192] = 255
    points = ((160.0, 64.0),) * 5
    assert detector.detect(frame) == [Face((144, 48, 32, 32), pytest.approx(1.0), points)]


def test_sizes_are_checked():
    with pytest.raises(ValueError, match="1 pixel or more"):
        HaarDetector(min_face=0)
    with pytest.raises(ValueError, match="haar, yunet or none"):
        open_detector("dlib")


@pytest.mark.parametrize("name", ["face", pytest.param("haar", marks=needs_haar), "none"])
@pytest.mark.parametrize(
    "frame", [np.zeros((50, 50, 3)), np.zeros((0, 5, 3), np.uint8), np.zeros((5, 5, 4), np.uint8)]
)
def test_what_is_no_frame_is_a_programmers_mistake(name, frame):
    with pytest.raises(ValueError, match="Expected a"):
        open_detector(name).detect(frame)


def test_opencv_5_has_no_cascade_and_what_to_take_instead_is_said(monkeypatch, tmp_path):
    monkeypatch.setattr(cv2, "__version__", "5.0.0")
    monkeypatch.setattr("fer_edge.inference.detectors.OPENCV_VERSION", (5, 0))
    monkeypatch.setattr(cv2, "__file__", str(tmp_path / "__init__.py"))
    for has_class in (True, False):
        if not has_class:
            monkeypatch.delattr(cv2, "CascadeClassifier", raising=False)
        with pytest.raises(DetectorError) as caught:
            open_detector("haar")
        for part in ("OpenCV 5.0.0", "`detector=face`", "<5"):
            assert part in str(caught.value)


def test_a_model_may_be_named_by_text():
    with pytest.raises(DetectorError, match=r"found none at missing\.onnx"):
        open_detector("yunet", "missing.onnx")
