import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge import Classifier
from fer_edge.contract import ModelSpec
from fer_edge.image.read import read_image
from fer_edge.inference.detectors import Face
from fer_edge.inference.preprocess import align_face, crop_face, prepare
from tests.support.models import save_brightness_model

PORTRAIT = Path(__file__).parents[2] / "data/portrait.jpg"
BOX = (176, 66, 97, 97)
EYES = np.array([[203.0, 107.0], [246.0, 107.0]])


@pytest.mark.parametrize("angle", [-30, 0, 12, 25])
@pytest.mark.parametrize("margin", [0.0, 0.2])
def test_a_tilted_face_is_turned_until_its_eyes_are_level(angle, margin):
    frame = read_image(PORTRAIT)
    left, top, width, height = BOX
    middle = (left + (width - 1) / 2, top + (height - 1) / 2)
    turn = cv2.getRotationMatrix2D(middle, angle, 1)
    tilted = cv2.warpAffine(frame, turn, (512, 512), borderMode=cv2.BORDER_REPLICATE)
    points = tuple(tuple(turn @ [*eye, 1]) for eye in EYES)
    tilt = math.degrees(math.atan2(points[1][1] - points[0][1], points[1][0] - points[0][0]))
    assert tilt == pytest.approx(-angle)
    upright = crop_face(frame, BOX, margin).astype(int)
    level = np.abs(align_face(tilted, BOX, points, margin) - upright).mean()
    as_it_is = np.abs(align_face(tilted, BOX, None, margin) - upright).mean()
    assert level == 0 if angle == 0 else level < 0.3 * as_it_is


def test_faces_at_the_edge_repeat_it():
    frame = np.full((50, 50), 90, np.uint8)
    found = align_face(frame, (-10, -10, 30, 20), ((0.0, 0.0), (9.0, 3.0)))
    assert found.shape == (30, 30)
    assert (found == 90).all()


def eyes(degrees):
    angle = math.radians(degrees)
    return ((200.0, 100.0), (200 + 40 * math.cos(angle), 100 + 40 * math.sin(angle)))


def test_models_see_tilted_faces_upright_and_others_as_they_are():
    frame, spec = read_image(PORTRAIT), ModelSpec()
    plain, tilted = prepare(frame, [BOX], spec), prepare(frame, [BOX], spec, [eyes(30)])
    np.testing.assert_array_equal(prepare(frame, [BOX], spec, [None]), plain)
    np.testing.assert_array_equal(prepare(frame, [BOX], spec, [eyes(-8)]), plain)
    assert np.abs(tilted - plain).mean() > 5
    both = prepare(frame, [BOX, None], spec, [eyes(30), eyes(30)])
    np.testing.assert_array_equal(both[:1], tilted)
    np.testing.assert_array_equal(both[1:], prepare(frame, [None], spec))


def test_a_classifier_aligns_unless_it_is_told_not_to(tmp_path):
    model, frame = save_brightness_model(tmp_path / "tiny.onnx"), read_image(PORTRAIT)
    faces = [Face(BOX, None, eyes(30)), Face(BOX, None)]
    aligned, plain = Classifier(model, detector="none").prepare(frame, faces)
    assert np.abs(aligned - plain).mean() > 5
    same = Classifier(model, detector="none", align=False).prepare(frame, faces)
    np.testing.assert_array_equal(same[0], same[1])
