import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.inference.classifier import FaceResult
from fer_edge.picture.draw import WRITTEN_SUFFIXES, draw_faces, draw_large, emotion_color, encode


def result(box, emotion="happy", confidence=0.8):
    rest = (1 - confidence) / 6
    scores = {label: confidence if label == "happy" else rest for label in EMOTIONS}
    return FaceResult(box, 1.0, emotion, confidence, scores)


@pytest.mark.parametrize(
    "box", [(100, 60, 80, 80), (0, 0, 400, 300), (350, 250, 50, 50), (390, 290, 40, 40)]
)
def test_draws_box_and_bars_wherever_the_face_is(box):
    frame = np.full((300, 400, 3), 60, np.uint8)
    drawn = draw_faces(frame, [result(box)])
    assert drawn.shape == frame.shape
    assert (frame == 60).all()
    color = emotion_color("happy", EMOTIONS)
    assert (drawn == color).all(axis=2).sum() > 200


def test_a_longer_bar_is_a_likelier_emotion():
    frame = np.zeros((400, 400, 3), np.uint8)
    color = emotion_color("happy", EMOTIONS)
    lengths = [
        (draw_faces(frame, [result((50, 50, 100, 100), confidence=share)]) == color)
        .all(axis=2)[160:]
        .any(axis=0)
        .sum()
        for share in (0.9, 0.6, 0.3)
    ]
    assert lengths[0] > lengths[1] > lengths[2]


def test_an_uncertain_face_is_drawn_without_a_colour_of_its_own():
    drawn = draw_faces(np.zeros((400, 400, 3), np.uint8), [result((50, 50, 90, 90), "uncertain")])
    assert (drawn[50:52, 60:130] == 255).all()


@pytest.mark.parametrize("shape", [(1, 1), (48, 48), (20, 900)])
def test_small_pictures_are_enlarged_for_the_text(shape):
    frame = np.zeros((*shape, 3), np.uint8)
    drawn = draw_large(frame, [result((0, 0, shape[1], shape[0]))])
    assert max(drawn.shape) >= 400
    assert drawn.shape[0] / shape[0] == drawn.shape[1] / shape[1]


@pytest.mark.parametrize("suffix", sorted(WRITTEN_SUFFIXES))
def test_encodes_what_it_promises(suffix):
    frame = np.full((20, 30, 3), 128, np.uint8)
    decoded = cv2.imdecode(np.frombuffer(encode(frame, suffix), np.uint8), cv2.IMREAD_COLOR)
    assert np.abs(decoded.astype(int) - frame).max() <= 2


def test_colours_differ():
    assert len({emotion_color(label, EMOTIONS) for label in EMOTIONS}) == 7
