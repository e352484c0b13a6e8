from dataclasses import replace

import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.inference.classifier import FaceResult
from fer_edge.inference.detectors import Face
from fer_edge.picture.draw import (
    WRITTEN_SUFFIXES,
    draw_faces,
    draw_large,
    draw_status,
    emotion_color,
    encode,
    place_labels,
)


def result(box, emotion="happy", confidence=0.8):
    rest = (1 - confidence) / 6
    scores = {label: confidence if label == "happy" else rest for label in EMOTIONS}
    return FaceResult(box, 1.0, emotion, confidence, scores)


def crowd(count, side, width, height, seed=0):
    """Faces in rows, some of them close together, some at the edge."""
    random = np.random.default_rng(seed)
    columns = round((count * width / height) ** 0.5)
    rows = -(-count // columns)
    found = []
    for number in range(count):
        size = round(side * random.uniform(0.7, 1.3))
        x = (number % columns) * (width - size) // max(1, columns - 1) + random.integers(-9, 9)
        y = (number // columns) * (height - size) // max(1, rows - 1) + random.integers(-9, 9)
        x, y = (int(np.clip(at, 0, most - size)) for at, most in ((x, width), (y, height)))
        emotion = "uncertain" if number % 7 == 3 else "happy"
        found.append(result((x, y, size, size), emotion, random.uniform(0.3, 1)))
    return found


def overlap(one, other):
    (x, y, w, h), (left, up, width, height) = one, other
    return x < left + width and left < x + w and y < up + height and up < y + h


@pytest.mark.parametrize(
    ("count", "side", "width", "height"),
    [
        (1, 430, 400, 400),
        (3, 200, 900, 500),
        (10, 110, 1000, 600),
        (40, 70, 1000, 640),
        (40, 82, 900, 560),
        (40, 24, 300, 200),
        (12, 90, 3840, 2160),
        (2, 1700, 3840, 2160),
        (1, 399, 400, 400),
        (4, 9, 48, 48),
    ],
)
@pytest.mark.parametrize("seed", range(3))
def test_no_label_lies_over_a_face_or_another_label(count, side, width, height, seed):
    faces = crowd(count, side, width, height, seed)
    labels = place_labels(faces, width, height)
    for number, label in enumerate(labels):
        x, y, w, h = label.box
        assert x >= 0 and y >= 0 and x + w <= width and y + h <= height
        assert label.capital >= 9
        assert not any(overlap(label.box, face.box) for face in faces)
        assert not any(overlap(label.box, other.box) for other in labels[:number])


def test_within_a_box_only_its_edge_is_drawn():
    """What is drawn keeps to what was placed, the status in the corner too."""
    faces = crowd(12, 90, 1280, 720, seed=0)
    boxes = [face.box for face in faces]
    apart = [box for box in boxes if sum(overlap(box, other) for other in boxes) == 1]
    assert len(apart) > 5
    drawn = draw_faces(np.full((720, 1280, 3), 90, np.uint8), faces)
    draw_status(drawn, faces, "25 frames/s")
    for x, y, w, h in apart:
        edge = max(2, min(w, h) // 60) + 1
        inside = drawn[y + edge : y + h - edge, x + edge : x + w - edge]
        assert (inside == 90).all()
        assert (drawn[y : y + h, x] != 90).any()


def test_labels_are_as_long_as_there_is_room():
    (alone,) = place_labels([result((150, 50, 100, 100))], 400, 400)
    assert [row.share is None for row in alone.rows] == [False] * 3
    (small,) = place_labels([result((150, 50, 40, 40))], 400, 400)
    assert [row.text for row in small.rows] == ["happy 80%"]
    (tight,) = place_labels([result((0, 0, 400, 370))], 400, 400)
    assert [row.text for row in tight.rows] == ["happy 80%"]
    assert place_labels([result((0, 0, 400, 395))], 400, 400) == []


def test_a_legend_tells_what_colours_mean_where_labels_have_no_room():
    faces = [result((100 + 30 * x, 100 + 30 * y, 30, 30)) for x in range(7) for y in range(7)]
    *labels, legend = place_labels(faces, 600, 400)
    assert len(labels) < len(faces)
    assert [(row.text, row.color) for row in legend.rows] == [
        ("happy", emotion_color("happy", EMOTIONS))
    ]


def test_a_whole_picture_has_its_label_within():
    face = result((0, 0, 400, 400))
    assert place_labels([face], 400, 400) == []
    (label,) = place_labels([replace(face, detector_score=None)], 400, 400)
    assert label.box[1] > 300


@pytest.mark.parametrize("level", [0, 128, 255])
def test_text_and_boxes_stand_out_on_dark_and_light(level):
    drawn = draw_faces(np.full((400, 400, 3), level, np.uint8), [result((150, 50, 100, 100))])
    (label,) = place_labels([result((150, 50, 100, 100))], 400, 400)
    x, y, w, h = label.box
    text = drawn[y : y + h, x : x + w].max(axis=2)
    assert text.max() > 240 and np.median(text) < 40
    ring = drawn[50:54, 160:240].astype(int)
    assert np.abs(ring - level).max() > 100


@pytest.mark.parametrize(
    "box", [(100, 60, 80, 80), (0, 0, 400, 300), (350, 250, 50, 50), (390, 290, 40, 40)]
)
def test_draws_a_box_wherever_the_face_is(box):
    frame = np.full((300, 400, 3), 60, np.uint8)
    drawn = draw_faces(frame, [result(box)])
    assert drawn.shape == frame.shape
    assert (frame == 60).all()
    color = emotion_color("happy", EMOTIONS)
    assert (drawn == color).all(axis=2).sum() > 30


@pytest.mark.parametrize("shape", [(90, 120), (90, 120, 1)])
def test_grey_pictures_are_drawn_in_colour(shape):
    frame = np.full(shape, 90, np.uint8)
    drawn = draw_faces(frame, [result((30, 20, 50, 50))])
    in_color = np.full((90, 120, 3), 90, np.uint8)
    assert np.array_equal(drawn, draw_faces(in_color, [result((30, 20, 50, 50))]))
    assert (frame == 90).all()


@pytest.mark.parametrize(
    ("frame", "faces", "reason"),
    [
        ("photo.jpg", [], "Expected a frame as a numpy array, received str"),
        (np.zeros((9, 9, 3)), [], "Expected a uint8 frame"),
        (
            np.zeros((9, 9, 3), np.uint8),
            [Face((0, 0, 5, 5), None)],
            "Expected results of a Classifier as faces, received Face",
        ),
    ],
    ids=["a path", "another dtype", "faces without emotions"],
)
def test_what_cannot_be_drawn_is_refused(frame, faces, reason):
    with pytest.raises(ValueError, match=reason):
        draw_faces(frame, faces)


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
