import numpy as np
import pytest

from fer_edge.inference.search import Found
from fer_train.data.load import load_dataset
from fer_train.detection.labelling import crops, crops_by_name, find_turned, label, review
from fer_train.detection.pictures import FACE, IGNORED, Picture
from tests.fer_train.detection.test_mining import GREEN, RED, finds, picture

pytestmark = pytest.mark.tensorflow

SURE, UNSURE = ((20, 30, 24, 30), RED), ((100, 60, 30, 30), GREEN)


def teacher(frame):
    """Find red patches surely and green ones less so."""
    red, green = finds(RED, 0.9)(frame), finds(GREEN, 0.5)(frame)
    return Found(
        *(
            np.concatenate(pair)
            for pair in zip(
                (red.boxes, red.scores, red.points),
                (green.boxes, green.scores, green.points),
                strict=True,
            )
        )
    )


def with_faces(name, boxes, *patches, kind=FACE):
    faces = np.full((len(boxes), 15), np.nan, np.float32)
    faces[:, :4], faces[:, -1] = boxes, kind
    return Picture(name, picture(name, *patches).encoded, faces, empty=False)


def test_a_teacher_labels_what_nobody_has_labelled():
    (one, none) = label(
        [picture("a", SURE, UNSURE, empty=False), picture("b", empty=False)], teacher
    )
    assert one.faces[:, -1].tolist() == [FACE, IGNORED]
    np.testing.assert_allclose(one.faces[0, :4], (20, 30, 44, 60), atol=1)
    assert one.certainties.tolist() == [np.float32(0.9), 1]
    assert none.empty


def test_where_people_have_named_pictures_without_a_face_no_other_is_taken_for_one():
    blank, said = picture("a", empty=False), picture("b", SURE, empty=True)
    first, second = label([blank, said], teacher)
    assert not first.labelled
    # Nor does the teacher find faces there.
    assert (second.empty, len(second.faces)) == (True, 0)


def test_what_a_teacher_finds_beside_peoples_boxes_is_ignored():
    (found,) = label([with_faces("a", [(98, 58, 132, 92)], SURE, UNSURE)], teacher)
    assert found.faces[:, -1].tolist() == [FACE, IGNORED]
    np.testing.assert_allclose(found.faces[1, :4], (20, 30, 44, 60), atol=1)


def test_faces_found_in_a_turned_picture_lie_where_they_are_in_it():
    frame = picture("a", SURE).pixels()

    def only_turned(turned):
        found = finds(RED, 0.9)(turned)
        points = np.tile((found.boxes[:, None, :2] + found.boxes[:, None, 2:]) / 2, (1, 5, 1))
        found = Found(found.boxes, found.scores, points.astype(np.float32))
        return found.only(np.full(len(found.boxes), turned.shape != frame.shape))

    found = find_turned(frame, only_turned)
    assert len(found.boxes) == 1
    np.testing.assert_allclose((found.boxes[0, :2] + found.boxes[0, 2:]) / 2, (32, 45), atol=1.5)
    np.testing.assert_allclose(found.points[0], np.tile((32, 45), (5, 1)), atol=1.5)


def test_what_two_detectors_agree_on_is_a_face():
    doubtful = with_faces("a", [(20, 30, 44, 60), (100, 60, 130, 90)], SURE, UNSURE, kind=IGNORED)
    overlooked = picture("b", SURE)
    one, other = review([doubtful, overlooked], [finds(RED, 0.9), finds(RED, 0.85)])
    assert one.faces[:, -1].tolist() == [FACE, IGNORED]
    assert (other.empty, other.faces[:, -1].tolist()) == (False, [FACE])
    # One of the two is against it.
    one, other = review([doubtful, overlooked], [finds(RED, 0.97), finds(RED, 0.3)])
    assert one.faces[:, -1].tolist() == [IGNORED, IGNORED]
    assert other.empty


def test_crops_are_near_faces_of_which_hard_ones_come_oftener():
    dataset = load_dataset("synthetic:30", limit=None, seed=0)
    plain = crops(dataset, [], seed=0)
    training = int((dataset.usage == "Training").sum())
    assert len(plain) == training
    np.testing.assert_allclose(plain[0].faces[0, :4], (5.2, -0.3, 43.6, 49.4), atol=1e-5)
    known = crops_by_name(dataset)
    assert all(known[one.name] == one.encoded for one in plain)

    levels = dataset.images.reshape(len(dataset), -1).mean(axis=1)
    middle = float(np.median(levels[dataset.usage == "Training"]))

    def judge(frame):
        """Take the middle of the frame for a face, and be sure of it in bright images alone."""
        height, width = frame.shape[:2]
        pad = height // 6
        inside = frame[pad:-pad, pad:-pad].mean()
        box = np.array([[pad, pad, width - pad, height - pad]], np.float32)
        score = 0.95 if inside > middle else 0.3
        return Found(box, np.array([score], np.float32), np.zeros((1, 5, 2), np.float32))

    weights = {one.weight for one in crops(dataset, [judge], seed=0)}
    assert weights == {0.35, 0.2}
