import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_train.data.load import USAGES, load_dataset
from fer_train.data.synthetic import ACTION_UNITS, draw_face, synthetic_faces, synthetic_usage


def test_each_emotion_has_its_action_units():
    assert {name: set(units) for name, units in ACTION_UNITS.items()} == {
        "happy": {6, 12},
        "sad": {1, 4, 15},
        "surprise": {1, 2, 5, 26},
        "fear": {1, 2, 4, 5, 7, 20, 26},
        "angry": {4, 5, 7, 23},
        "disgust": {9, 15, 17},
        "neutral": set(),
    }
    assert set(ACTION_UNITS) == set(EMOTIONS)


def test_faces_are_balanced_grey_pictures():
    images, labels = synthetic_faces(21)
    assert (images.shape, images.dtype, labels.dtype) == ((21, 48, 48), np.uint8, np.int64)
    assert np.bincount(labels).tolist() == [3] * 7
    assert images.reshape(21, -1).std(1).min() > 8


def test_a_smaller_set_is_the_start_of_a_larger_one_and_seeds_differ():
    images, _ = synthetic_faces(12, seed=5)
    fewer, _ = synthetic_faces(4, seed=5)
    assert np.array_equal(fewer, images[:4])
    assert np.array_equal(synthetic_faces(12, seed=5)[0], images)
    assert not np.array_equal(synthetic_faces(12, seed=6)[0], images)
    assert len({image.tobytes() for image in images}) == 12


def test_usages_are_eight_to_one_to_one_in_every_emotion():
    usage, labels = synthetic_usage(140), np.arange(140) % 7
    for label in range(7):
        counts = [int((usage[labels == label] == name).sum()) for name in USAGES]
        assert counts == [16, 2, 2]


def test_as_a_data_set():
    dataset = load_dataset("synthetic:20", seed=1)
    assert (len(dataset), dataset.name) == (20, "synthetic")
    assert np.array_equal(dataset.images, synthetic_faces(20, 1)[0])
    assert set(dataset.usage) == set(USAGES)


@pytest.mark.parametrize("size", [48, 101, 240])
def test_draw_face_in_colour_at_any_size(size):
    picture = draw_face("happy", size, seed=3)
    assert (picture.shape, picture.dtype) == ((size, size, 3), np.uint8)
    small, reference = (
        cv2.resize(draw_face("happy", side, seed=3), (24, 24), interpolation=cv2.INTER_AREA)
        for side in (size, 192)
    )
    assert np.abs(small.astype(int) - reference).mean() < 8


def test_a_seed_is_one_person_in_every_emotion():
    faces = {name: draw_face(name, 96, seed=4).astype(int) for name in EMOTIONS}
    for name in set(EMOTIONS) - {"neutral"}:
        changed = np.abs(faces[name] - faces["neutral"]).max(2) > 12
        assert 0.01 < changed.mean() < 0.35
        assert not changed[:10].any()


def test_unknown_emotion_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="Expected an emotion of angry"):
        draw_face("contempt")


def test_a_simple_classifier_learns_the_emotions():
    """A linear model on histograms of gradients is right far more often than by chance."""
    images, labels = synthetic_faces(700, seed=0)
    describe = cv2.HOGDescriptor((48, 48), (16, 16), (8, 8), (8, 8), 9)
    features = np.stack([describe.compute(image).ravel() for image in images]).astype(np.float64)
    features -= features.mean(0)
    train = synthetic_usage(700) == "Training"
    targets = np.eye(7)[labels]
    x = features[train]
    # Ridge regression to the one-hot labels, solved in the space of the images.
    weights = x.T @ np.linalg.solve(x @ x.T + 5 * np.eye(len(x)), targets[train] - 1 / 7)
    accuracy = ((features[~train] @ weights).argmax(1) == labels[~train]).mean()
    assert accuracy > 0.75
