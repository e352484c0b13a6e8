import dataclasses
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge import Classifier, open_detector, read_image
from fer_edge.contract import ModelSpec
from fer_edge.errors import ModelError, ProviderError
from fer_edge.inference.detectors import OnnxDetector
from tests.support.detectors import SPEC, save_detector
from tests.support.models import save_brightness_model

PORTRAIT = Path("tests/data/portrait.jpg")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return save_detector(tmp_path_factory.mktemp("detector") / "tiny.onnx")


@pytest.fixture(scope="module")
def portrait():
    return read_image(PORTRAIT)


def spots(height, width, *places, side=8):
    """A black picture with white squares, each at left and top."""
    frame = np.zeros((height, width, 3), np.uint8)
    for left, top in places:
        frame[top : top + side, left : left + side] = 255
    return frame


def test_boxes_scores_and_points_are_in_the_frames_pixels(tiny):
    (face,) = OnnxDetector(tiny, min_face=8).detect(spots(40, 50, (16, 24)))
    # The cell's middle is (20, 28); a face is 2 strides of 8 wide and high.
    assert face.box == (12, 20, 16, 16)
    assert face.score == pytest.approx(1 / (1 + np.exp(-10)), abs=1e-6)
    assert face.points == ((20, 28),) * 5
    assert all(type(value) is float for point in face.points for value in point)


def test_grey_frames_and_frames_of_any_size_are_taken(tiny):
    detector = OnnxDetector(tiny, min_face=8)
    assert detector.detect(spots(40, 50, (16, 24))[:, :, 0]) == detector.detect(
        spots(40, 50, (16, 24))
    )
    for shape in ((1, 1, 3), (3, 900, 3), (900, 3, 3), (31, 33, 1)):
        assert detector.detect(np.zeros(shape, np.uint8)) == []


def test_boxes_end_at_the_edge_and_small_faces_are_left_out(tiny):
    frame = spots(64, 64, (0, 0), (32, 32))
    assert [face.box for face in OnnxDetector(tiny, min_face=8).detect(frame)] == [
        (28, 28, 16, 16),
        (0, 0, 12, 12),
    ]
    assert OnnxDetector(tiny, min_face=17).detect(frame) == []


def test_what_is_less_sure_is_left_out(tiny):
    frame = spots(64, 64, (32, 32)) // 2  # grey: a score of one half
    assert OnnxDetector(tiny, min_face=8, min_score=0.3).detect(frame)
    assert not OnnxDetector(tiny, min_face=8, min_score=0.7).detect(frame)
    assert not OnnxDetector(tiny, min_face=8).detect(frame)  # the file says 0.5


def test_small_faces_of_large_frames_are_searched_in_tiles(tmp_path):
    metadata = dataclasses.replace(SPEC, overlap=0.05).to_metadata()
    path = save_detector(tmp_path / "tiny.onnx", metadata=metadata)
    # Spots that hold a whole cell wherever a tile begins, up to the last column and row; none lies
    # in the middle between two tiles, which may see different cells of it, as no real network does.
    places = [(x, y) for x in (*range(0, 1960, 130), 1984) for y in (0, 570, 620, 1184)]
    frame = spots(1200, 2000, *places, side=16)
    assert OnnxDetector(path, min_face=8).detect(frame) == []  # dark at a third of the size
    found = OnnxDetector(path, min_face=8, max_side=None).detect(frame)
    centres = sorted(face.points[0] for face in found)
    expected = sorted((x + 8.0, y + 8.0) for x, y in places)
    assert len(centres) == len(expected)
    np.testing.assert_allclose(centres, expected, atol=8)


def test_large_faces_of_large_frames_are_found_in_the_whole(portrait):
    frame = cv2.resize(portrait, (2048, 2048))
    (face,) = open_detector("face", min_face=100, max_side=None).detect(frame)
    faces = open_detector("face", min_face=16, max_side=None).detect(frame)
    assert faces[0].box == pytest.approx(face.box, abs=8)
    assert 350 < face.box[2] < 420


def test_several_threads_may_search_at_once(tiny):
    detector = OnnxDetector(tiny, min_face=8)
    frames = [spots(64, 200, (8 * number, 24)) for number in range(20)]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(detector.detect, frames)) == [detector.detect(one) for one in frames]


def test_another_process_opens_the_same(tiny, monkeypatch, tmp_path):
    monkeypatch.chdir(tiny.parent)
    detector = pickle.loads(pickle.dumps(OnnxDetector("tiny.onnx", min_face=8)))
    monkeypatch.chdir(tmp_path)
    again = pickle.loads(pickle.dumps(detector))
    assert again.detect(spots(40, 50, (16, 24))) == detector.detect(spots(40, 50, (16, 24)))


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"metadata": {}}, "carries no fer-edge metadata"),
        ({"metadata": ModelSpec().to_metadata()}, "which is for face-emotion"),
        ({"outputs": 2}, "an output of detector.onnx for each of its strides"),
        ({"channels": 5}, r"Expected \(1, 15, 4, 4\) at stride 8 from .*, received \(1, 5, 4, 4\)"),
        ({"input_shape": ("N", 3, 320, 320)}, "of any N, H and W"),
        ({"input_shape": (1, 3, "H", "W")}, "of any N, H and W"),
        ({"input_shape": ("N", "H", "W", 3)}, "of any N, H and W"),
        (
            {"metadata": dataclasses.replace(SPEC, strides=(8, 16, 64)).to_metadata()},
            r"Expected \(1, 15, 1, 1\) at stride 64 from",
        ),
        ({"metadata": dataclasses.replace(SPEC, threshold=7).to_metadata()}, "threshold"),
        ({"metadata": dataclasses.replace(SPEC, overlap=-1).to_metadata()}, "overlap"),
        ({"metadata": dataclasses.replace(SPEC, side=0).to_metadata()}, "side"),
        ({"metadata": dataclasses.replace(SPEC, points=("nose", "nose")).to_metadata()}, "points"),
    ],
)
def test_files_that_are_no_such_detector_are_refused(tmp_path, options, reason):
    with pytest.raises(ModelError, match=reason):
        OnnxDetector(save_detector(tmp_path / "detector.onnx", **options))


def test_an_emotion_model_is_refused(tmp_path):
    with pytest.raises(ModelError, match="which is for face-emotion"):
        open_detector("face", save_brightness_model(tmp_path / "edge.onnx"))
    with pytest.raises(ModelError, match="found none"):
        open_detector("face", tmp_path / "missing.onnx")


def test_cells_that_are_no_numbers_are_left_out(tmp_path):
    path = save_detector(tmp_path / "nan.onnx", bias=float("nan"))
    assert OnnxDetector(path, min_face=8).detect(spots(64, 64, (32, 32))) == []


def test_a_provider_that_is_not_there_is_an_error(tiny):
    with pytest.raises(ProviderError):
        open_detector("face", tiny, provider="coreml")


@pytest.mark.parametrize("model", [None, "face.int8.onnx"])
def test_the_shipped_detectors_find_a_face_upright_and_turned(portrait, model):
    detector = open_detector("face", model)
    (face,) = detector.detect(portrait)
    left, top, width, height = face.box
    assert left + width / 2 == pytest.approx(226, abs=8)
    assert top + height / 2 == pytest.approx(116, abs=10)
    assert height == pytest.approx(1.27 * width, rel=0.15)
    eye_left, eye_right, nose, mouth_left, mouth_right = np.array(face.points)
    assert eye_left[0] < nose[0] < eye_right[0] and mouth_left[0] < mouth_right[0]
    assert max(eye_left[1], eye_right[1]) < nose[1] < min(mouth_left[1], mouth_right[1])
    for degrees in (-45, 45):
        turn = cv2.getRotationMatrix2D((226, 116), degrees, 1.0)
        turned = cv2.warpAffine(portrait, turn, portrait.shape[1::-1])
        (face,) = detector.detect(turned)
        (x1, y1), (x2, y2) = face.points[:2]
        assert np.degrees(np.arctan2(y1 - y2, x2 - x1)) == pytest.approx(degrees, abs=10)


def test_the_shipped_detector_is_the_default_and_knows_its_task(tmp_path, monkeypatch, portrait):
    save_detector(tmp_path / "face.onnx")
    monkeypatch.chdir(tmp_path)  # What lies here under its name is not taken for it.
    classify = Classifier()
    assert isinstance(classify.detector, OnnxDetector)
    assert classify.detector.spec.model == "face"
    assert len(classify(portrait)) == 1
    with pytest.raises(ModelError, match="which is for face-detection"):
        Classifier(classify.detector.path)
