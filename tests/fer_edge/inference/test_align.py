import math
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge.image.read import read_image
from fer_edge.inference.preprocess import align_face, crop_face

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
