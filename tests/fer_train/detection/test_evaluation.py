import cv2
import numpy as np
import pytest

from fer_train.detection.evaluation import Outcome, evaluate, evaluate_turned, match, turn
from fer_train.detection.pictures import FACE, IGNORED, Picture

pytestmark = pytest.mark.tensorflow


def picture(faces, empty=False, frame=None):
    frame = np.zeros((100, 100, 3), np.uint8) if frame is None else frame
    rows = np.array([[*box, *[np.nan] * 10, kind] for box, kind in faces], np.float32).reshape(
        -1, 15
    )
    encoded = cv2.imencode(".png", frame)[1].tobytes()
    return Picture("a.png", encoded, rows, empty)


def finder(*found):
    boxes = np.array([box for box, _ in found], np.float32).reshape(-1, 4)
    scores = np.array([score for _, score in found], np.float32)
    return lambda frame: (boxes, scores)


def test_each_face_is_found_once_and_by_the_surest_box():
    faces = np.array([[0, 0, 10, 10]], np.float32)
    boxes = np.array([[0, 0, 10, 10], [1, 0, 11, 10]], np.float32)
    taken, false = match(boxes, np.array([0.6, 0.8], np.float32), faces)
    assert taken.tolist() == pytest.approx([0.8])
    assert false.tolist() == [True, False]


def test_an_overlap_below_two_fifths_finds_nothing():
    faces = np.array([[0, 0, 10, 10]], np.float32)
    for shift, found in ((4.2, True), (4.4, False)):  # overlaps 0.408 and 0.389
        boxes = np.array([[shift, 0, 10 + shift, 10]], np.float32)
        taken, _ = match(boxes, np.array([0.9], np.float32), faces)
        assert (taken[0] > 0) == found


def test_recall_by_size_and_false_boxes_by_place():
    box, small, ignored = (10, 10, 50, 50), (70, 70, 80, 80), (60, 0, 90, 30)
    found = finder(
        (box, 0.9), ((62, 2, 80, 20), 0.8), ((0, 60, 30, 90), 0.7), ((72, 70, 82, 80), 0.3)
    )
    outcome = evaluate(
        [picture([(box, FACE), (small, FACE), (ignored, IGNORED)]), picture([], empty=True)], found
    )
    assert outcome.recall(0.5) == 0.5
    assert outcome.recall(0.2) == 1.0
    assert outcome.recall(0.5, least_side=24) == 1.0
    assert np.isnan(outcome.recall(0.5, least_side=100))
    # The box on the ignored region counts only where nothing is ignored.
    assert outcome.false(0.5) == (3, 1)
    assert outcome.empty == 1


def test_a_picture_that_is_not_known_to_be_empty_counts_elsewhere():
    outcome = evaluate([picture([])], finder(((0, 0, 9, 9), 0.9)))
    assert outcome.false(0.5) == (0, 1)


def outcome_of(found_at, empty=(), elsewhere=()):
    found_at = np.array(found_at, np.float32)
    return Outcome(
        np.full(len(found_at), 30, np.float32),
        found_at,
        np.array(empty, np.float32),
        np.array(elsewhere, np.float32),
        5,
    )


def test_threshold_for_a_number_of_false_boxes():
    outcome = outcome_of([0.95], empty=[0.5, 0.9, 0.7])
    for allowed in range(3):
        threshold = outcome.threshold_for(allowed)
        assert outcome.false(threshold)[0] == allowed
    assert outcome.threshold_for(3) == 0


def test_average_precision_of_a_known_ranking():
    # Ranked: true, false, true; two faces of three are found.
    outcome = outcome_of([0.9, 0.5, 0], elsewhere=[0.7])
    precision, recall = outcome.precision_recall()
    np.testing.assert_allclose(precision, [1, 1 / 2, 2 / 3])
    np.testing.assert_allclose(recall, [1 / 3, 1 / 3, 2 / 3])
    assert outcome.average_precision() == pytest.approx(1 / 3 + 1 / 3 * 2 / 3)


def test_turned_by_a_right_angle_a_box_lies_on_its_side():
    frame = np.zeros((60, 100, 3), np.uint8)
    frame[10:30, 80:90] = 255
    turned, boxes = turn(frame, np.array([[80, 10, 90, 30]], np.float32), 90)
    assert turned.shape == (100, 60, 3)
    np.testing.assert_allclose(boxes, [[10, 10, 30, 20]], atol=1.01)
    x1, y1, x2, y2 = boxes[0].round().astype(int)
    assert turned[y1 + 1 : y2 - 1, x1 + 1 : x2 - 1].min() == 255


def test_faces_lost_by_turning_are_counted_among_those_found_upright():
    frame = np.zeros((100, 100, 3), np.uint8)
    frame[30:70, 30:70] = 255
    pictures = [picture([((30, 30, 70, 70), FACE)], frame=frame), picture([])]

    def find(image):  # upright pictures alone are 100 pixels wide
        if image.shape[1] != 100:
            return np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
        return np.array([[30, 30, 70, 70]], np.float32), np.array([0.9], np.float32)

    assert evaluate_turned(pictures, find, 0.5, (30,)) == {0.0: (1.0, 1.0), 30: (0.0, 0.0)}
