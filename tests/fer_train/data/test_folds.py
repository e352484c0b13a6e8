import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fer_edge.errors import DataError
from fer_train.data.folds import Fold, check_folds, holdout_fold, make_folds
from fer_train.data.load import Dataset
from fer_train.run.plan import split
from fer_train.run.recipes import Protocol


def _labels(count: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 3, count)


@settings(max_examples=25, deadline=None)
@given(st.integers(2, 5), st.integers(0, 99), st.sampled_from(["none", "duplicates"]))
def test_folds_are_disjoint_complete_and_repeatable(count, seed, grouping):
    labels = np.concatenate([_labels(90, seed), np.repeat([0, 1, 2], 10)])
    groups = np.arange(120) // 2
    folds = make_folds(labels, groups, count, grouping=grouping, inner=0.2, seed=seed)
    again = make_folds(labels, groups, count, grouping=grouping, inner=0.2, seed=seed)
    check_folds(folds, 120, groups if grouping == "duplicates" else None)
    for fold, same in zip(folds, again, strict=True):
        assert np.array_equal(fold.inner, same.inner)
        assert fold.inner.size > 0


def test_grouped_folds_keep_the_shares_of_classes():
    labels = np.repeat(np.arange(3), [300, 150, 50])
    folds = make_folds(labels, np.arange(500), 5, grouping="duplicates", inner=0.1, seed=1)
    for fold in folds:
        assert np.bincount(labels[fold.test]).tolist() == [60, 30, 10]
        assert np.bincount(labels[fold.inner]) == pytest.approx([24, 12, 4], abs=1)


def test_images_that_may_not_train_are_still_judged():
    labels = np.tile([0, 1, 2], 30)
    trainable = np.ones(90, bool)
    trainable[:9] = False
    folds = make_folds(
        labels, np.arange(90), 3, grouping="none", inner=0.1, seed=0, trainable=trainable
    )
    for fold in folds:
        assert trainable[fold.train].all()
        assert trainable[fold.inner].all()
    assert np.sort(np.concatenate([fold.test for fold in folds])).tolist() == list(range(90))


def test_no_inner_split_steers_by_the_test_images():
    fold = make_folds(np.tile([0, 1], 10), np.arange(20), 2, grouping="none", inner=0, seed=0)[0]
    assert fold.inner.size == 0
    assert np.array_equal(fold.validation, fold.test)


def test_too_many_folds_for_the_rarest_emotion_is_a_clear_error():
    labels = np.repeat([0, 1], [20, 3])
    with pytest.raises(DataError, match=r"at least 5 images of each emotion.*received 3"):
        make_folds(labels, np.arange(23), 5, grouping="duplicates", inner=0, seed=0)


def test_too_few_images_that_are_no_copies_are_a_clear_error():
    with pytest.raises(DataError, match="and 2 that are no copies"):
        make_folds(
            np.tile([0, 1], 10), np.arange(20) % 2, 3, grouping="duplicates", inner=0, seed=0
        )


def test_the_inner_split_leaves_some_of_each_class_to_train():
    labels = np.repeat([0, 1], [40, 4])
    groups = np.concatenate([np.arange(40), [40, 40, 41, 41]])
    folds = make_folds(labels, groups, 2, grouping="duplicates", inner=0.4, seed=0)
    assert [set(labels[fold.train]) for fold in folds] == [{0, 1}] * 2


def test_holdout_leaves_out_copies_of_judged_images():
    labels = np.tile([0, 1], 20)
    usage = np.repeat(["Training", "PublicTest"], [30, 10])
    groups = np.arange(40)
    groups[0] = groups[35]
    fold = holdout_fold(labels, groups, usage, grouping="duplicates", inner=0.1, seed=0)
    assert fold.test.tolist() == list(range(30, 40))
    assert 0 not in np.concatenate([fold.train, fold.inner])
    assert fold.train.size + fold.inner.size == 29


def test_holdout_needs_the_data_sets_own_split():
    with pytest.raises(DataError, match="use --folds 2 or more"):
        holdout_fold(
            np.zeros(4, np.int64),
            np.arange(4),
            np.array([""] * 4),
            grouping="none",
            inner=0,
            seed=0,
        )


def test_check_folds_refuses_a_torn_group_and_a_double_image():
    parts = [np.array(part) for part in ([2, 3], [], [0, 1])]
    first = Fold(0, *(part.astype(np.int64) for part in parts))
    second = Fold(1, first.test, first.inner, first.train)
    check_folds([first, second], 4)
    with pytest.raises(ValueError, match="copies of an image"):
        check_folds([first, second], 4, np.array([0, 1, 1, 2]))
    with pytest.raises(ValueError, match="exactly one fold"):
        check_folds([first, first], 4)


@pytest.mark.parametrize("grouping", ["none", "duplicates"])
def test_blank_images_and_identical_ones_with_two_labels_do_not_train(grouping):
    rng = np.random.default_rng(1)
    images = rng.integers(0, 256, (60, 6, 6)).repeat(8, 1).repeat(8, 2).astype(np.uint8)
    labels = np.arange(60) % 3
    images[4] = images[0]  # another label
    images[8] = np.clip(images[2].astype(int) + 1, 0, 255)  # nearly a copy, with the same label
    images[10] = np.clip(images[3].astype(int) + 1, 0, 255)  # nearly a copy, with another label
    images[20] = 0
    dataset = Dataset(images, labels, np.full(60, ""), np.arange(60).astype(str), name="made")
    folds = split(Protocol(data="made", folds=3, grouping=grouping, inner=0.1), dataset)
    seen = set(np.concatenate([[*fold.train, *fold.inner] for fold in folds]).tolist())
    assert set(range(60)) - seen == ({0, 4, 20} if grouping == "duplicates" else set())
    assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(60))
