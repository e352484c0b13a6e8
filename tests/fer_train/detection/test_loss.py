import numpy as np
import pytest

from fer_train.detection.loss import assign, cells, decode, detection_loss, overlaps
from fer_train.detection.network import STRIDES
from fer_train.detection.pictures import FACE, IGNORED
from fer_train.detection.settings import LossWeights
from fer_train.detection.tiles import CERTAINTY, KNOWN, ROW

pytestmark = pytest.mark.tensorflow

SHAPES = [(96 // stride, 96 // stride) for stride in STRIDES]


def rows_of(*faces):
    rows = np.zeros((1, len(faces), ROW), np.float32)
    for number, (box, kind, *points) in enumerate(faces):
        rows[0, number, :4], rows[0, number, -1] = box, kind
        rows[0, number, CERTAINTY] = 1
        if points:
            rows[0, number, 4:14], rows[0, number, KNOWN] = points[0], 1
    return rows


def maps_of(logit=-12.0):
    maps = [np.zeros((1, height, width, 15), np.float32) for height, width in SHAPES]
    for cell in maps:
        cell[..., 0] = logit
    return maps


def test_cells_lie_at_the_middles_of_their_patches():
    middles, strides = (np.asarray(array) for array in cells(SHAPES))
    assert middles[0].tolist() == [4, 4]
    assert middles[1].tolist() == [12, 4]  # x first
    assert strides.tolist() == [8] * 144 + [16] * 36 + [32] * 9


def test_a_small_face_is_answered_for_by_the_nine_cells_around_its_middle():
    middles, strides = cells(SHAPES)
    positive, face, ignored = assign(middles, strides, rows_of(((32, 32, 56, 60), FACE)))
    chosen = np.asarray(middles)[np.asarray(positive)[0]]
    assert np.asarray(strides)[np.asarray(positive)[0]].tolist() == [8] * 9
    assert np.abs(chosen - [44, 46]).max() < 12
    assert not np.asarray(ignored).any()
    assert not np.asarray(face)[np.asarray(positive)].any()


def test_sides_decide_on_the_stride():
    middles, strides = cells(SHAPES)
    for side, expected in ((30, {8}), (40, {8, 16}), (80, {16})):
        box = (48 - side / 2, 48 - side / 2, 48 + side / 2, 48 + side / 2)
        positive = np.asarray(assign(middles, strides, rows_of((box, FACE)))[0])[0]
        assert set(np.asarray(strides)[positive].tolist()) == expected


def test_of_two_faces_a_cell_answers_for_the_smaller():
    middles, strides = cells(SHAPES)
    rows = rows_of(((28, 28, 68, 68), FACE), ((40, 40, 56, 56), FACE))
    positive, face, _ = (np.asarray(array)[0] for array in assign(middles, strides, rows))
    at = np.flatnonzero((np.asarray(middles) == [44, 44]).all(1))[0]
    assert positive[at]
    assert face[at] == 1


def test_ignored_regions_count_neither_way():
    rows = rows_of(((16, 16, 80, 80), IGNORED))
    quiet, loud = maps_of(), maps_of()
    loud[0][0, 5, 5, 0] = 8.0  # in the region
    outside = maps_of()
    outside[0][0, 0, 0, 0] = 8.0
    losses = [
        float(detection_loss(maps, rows, LossWeights())[0]) for maps in (quiet, loud, outside)
    ]
    assert losses[1] == pytest.approx(losses[0], abs=1e-4)
    assert losses[2] > 5


def test_exact_answers_cost_nothing():
    box, points = np.array([32, 32, 56, 60], np.float32), np.arange(36, 56, 2, dtype=np.float32)
    rows = rows_of((box, FACE, points))
    middles, strides = (np.asarray(array) for array in cells(SHAPES))
    positive = np.asarray(assign(middles, strides, rows)[0])[0]
    flat = np.zeros((len(middles), 15), np.float32)
    flat[:, 0] = np.where(positive, 12, -12)
    flat[:, 1:3] = ((box[:2] + box[2:]) / 2 - middles) / strides[:, None]
    flat[:, 3:5] = np.log((box[2:] - box[:2]) / strides[:, None])
    flat[:, 5:] = (points - np.tile(middles, 5)) / strides[:, None]
    ends = np.cumsum([height * width for height, width in SHAPES])[:-1]
    maps = [
        part.reshape(1, height, width, 15)
        for part, (height, width) in zip(np.split(flat, ends), SHAPES, strict=True)
    ]
    _, boxes, found, *_ = decode(maps)
    np.testing.assert_allclose(np.asarray(boxes)[0][positive], np.tile(box, (9, 1)), rtol=1e-5)
    np.testing.assert_allclose(np.asarray(found)[0][positive], np.tile(points, (9, 1)), rtol=1e-5)
    for loss in detection_loss(maps, rows, LossWeights()):
        assert float(loss) == pytest.approx(0, abs=1e-3)


def test_generalised_overlap_of_boxes_apart_is_negative():
    one = np.array([0, 0, 10, 10], np.float32)
    other = np.array([20, 0, 30, 10], np.float32)
    overlap, generalized = overlaps(one, other)
    assert float(overlap) == 0
    # A hull of 300, of which 200 are covered.
    assert float(generalized) == pytest.approx(-1 / 3, abs=1e-4)


def test_a_face_that_a_teacher_doubts_is_taught_a_lower_score():
    rows = rows_of(((32, 32, 64, 64), FACE))
    rows[..., CERTAINTY] = 0.8

    def best_score(soft):
        """Return the score at which the loss of scores is least, of a box that fits exactly."""
        losses = {}
        for score in (0.6, 0.7, 0.8, 0.9, 0.98):
            maps = maps_of()
            # The cell at (44, 44) of stride 8 answers with the very box, and alone.
            maps[0][0, 5, 5] = [
                np.log(score / (1 - score)),
                0.5,
                0.5,
                np.log(4),
                np.log(4),
                *[0] * 10,
            ]
            losses[score] = float(detection_loss(maps, rows, LossWeights(soft=soft))[0])
        return min(losses, key=losses.get)

    assert best_score(0) == 0.98
    assert best_score(0.5) == 0.9
    assert best_score(1) == 0.8
