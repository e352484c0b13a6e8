import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_train.data.duplicates import (
    blank_images,
    conflicting_labels,
    duplicate_groups,
    identical_groups,
    near_pairs,
    spread,
)
from fer_train.data.synthetic import draw_face


def photograph(seed):
    """A picture with the structure of a photograph: noise, most of it at low frequencies."""
    noise = np.random.default_rng(seed).normal(0, 1, (64, 64))
    smooth = cv2.GaussianBlur(noise, (0, 0), 5)
    return cv2.normalize(smooth, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)


def resized(image):
    return cv2.resize(image, (48, 48), interpolation=cv2.INTER_AREA)


def recompressed(image):
    return cv2.imdecode(cv2.imencode(".jpg", image, [cv2.IMWRITE_JPEG_QUALITY, 40])[1], 0)


CHANGES = {
    "recompressed": recompressed,
    "brighter": lambda image: cv2.convertScaleAbs(image, alpha=0.8, beta=40),
    "cropped": lambda image: resized(image[1:47, 1:47]),
    "stamped": lambda image: cv2.putText(image.copy(), "stock", (12, 40), 0, 0.25, 150),
}


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_copies_of_a_photograph_are_near_and_others_are_not(change):
    originals = [resized(photograph(seed)) for seed in range(20)]
    images = np.stack(originals + [change(image) for image in originals])
    groups = duplicate_groups(images)
    assert groups.tolist() == list(range(20)) * 2


def test_different_drawn_people_with_one_expression_stay_apart():
    drawn = [cv2.cvtColor(draw_face("happy", 48, seed), cv2.COLOR_BGR2GRAY) for seed in range(30)]
    assert len(set(duplicate_groups(np.stack(drawn)))) == 30


def test_copies_of_copies_belong_together():
    image = photograph(1)
    steps = np.stack([resized(image[shift : shift + 48, :48]) for shift in range(16)])
    pairs = {tuple(pair) for pair in near_pairs(steps).tolist()}
    assert (0, 1) in pairs
    assert (0, 15) not in pairs
    assert set(duplicate_groups(steps)) == {0}


def test_pairs_are_found_across_blocks(monkeypatch):
    originals = [resized(photograph(seed)) for seed in range(7)]
    images = np.stack([*originals, recompressed(originals[0]), recompressed(originals[6])])
    whole = near_pairs(images).tolist()
    assert [0, 7] in whole
    assert [6, 8] in whole
    monkeypatch.setattr("fer_train.data.duplicates._BLOCK", 2)
    assert sorted(near_pairs(images).tolist()) == sorted(whole)


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(0, 4), max_size=12))
def test_groups_are_numbered_by_first_appearance(kinds):
    pictures = [resized(photograph(seed)) for seed in range(5)]
    images = np.asarray([pictures[kind] for kind in kinds], np.uint8).reshape(-1, 48, 48)
    first_seen = {kind: number for number, kind in enumerate(dict.fromkeys(kinds))}
    expected = [first_seen[kind] for kind in kinds]
    assert identical_groups(images).tolist() == expected
    assert duplicate_groups(images).tolist() == expected


def test_identical_is_to_the_pixel():
    image = photograph(1)
    other = image.copy()
    other[3, 3] ^= 1
    images = np.stack([image, other, image])
    assert identical_groups(images).tolist() == [0, 1, 0]
    assert duplicate_groups(images).tolist() == [0, 0, 0]


def test_blank_images_of_different_levels_are_no_copies():
    images = np.stack([np.full((48, 48), level, np.uint8) for level in (0, 90, 255)])
    assert duplicate_groups(images).tolist() == [0, 1, 2]


def test_blank_is_what_shows_nothing():
    nearly, faint = np.full((48, 48), 90, np.uint8), np.full((48, 48), 90, np.uint8)
    nearly[0] = 93
    faint[::2] = 94
    images = np.stack([np.zeros((48, 48), np.uint8), nearly, faint, photograph(1)[:48, :48]])
    assert blank_images(images).tolist() == [True, True, False, False]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 5)), max_size=30))
def test_conflicting_labels_are_those_of_groups_with_several(rows):
    labels = np.array([label for label, _ in rows], np.int64)
    groups = np.array([group for _, group in rows], np.int64)
    kinds = {group: {label for label, other in rows if other == group} for _, group in rows}
    assert spread(labels, groups).tolist() == [len(kinds[group]) for group in groups]
    assert conflicting_labels(labels, groups).tolist() == [len(kinds[g]) > 1 for g in groups]
