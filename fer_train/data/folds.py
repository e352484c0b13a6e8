"""Labels and duplicate groups -> folds; pure functions, the same folds for the same seed."""

import warnings
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray
from sklearn.model_selection import KFold, StratifiedGroupKFold

from fer_edge.errors import DataError
from fer_train.data.load import USAGES

Index = NDArray[np.int64]


@dataclass(frozen=True)
class Fold:
    """One split of the data set; int64 image indices, sorted.

    Attributes:
        index: Number of the fold, from 0.
        train: Images that change the weights.
        inner: Images that steer training (early stopping, best epoch); empty where the recipe has
            no inner split and the test images steer it.
        test: The test set: images that only evaluate the model.
        copies: Those of the test images of which the data set has a copy outside of the test set,
            whether that copy trains or not.
    """

    index: int
    train: Index
    inner: Index
    test: Index
    copies: Index = field(default_factory=lambda: np.empty(0, np.int64))

    @property
    def validation(self) -> Index:
        """The images that steer training."""
        return self.inner if self.inner.size else self.test


def make_folds(
    labels: Index,
    groups: Index,
    count: int,
    *,
    grouping: str,
    inner: float,
    seed: int,
    trainable: NDArray[np.bool_] | None = None,
) -> list[Fold]:
    """Split all images into ``count`` folds for cross-validation.

    Args:
        labels: (N,) class of each image.
        groups: (N,) id of each image's group of copies.
        count: Number of folds, 2 or more.
        grouping: ``none`` for scikit-learn's KFold with shuffling, ``duplicates`` for its
            StratifiedGroupKFold, which keeps copies in one fold; ``given`` is the same for groups
            of people or clips, which hold several classes.
        inner: Share of each fold's training images that is held out to steer training.
        seed: Of the shuffling.
        trainable: (N,) images that may train; the others are only tested on. All by default.

    Raises:
        DataError: There are too few images for so many folds.
    """
    smallest = int(np.bincount(labels).min(initial=len(labels), where=np.bincount(labels) > 0))
    apart = np.unique(groups).size if grouping != "none" else len(labels)
    if apart < count or (grouping != "none" and smallest < count):
        kind, hint = "that are no copies", ""
        if grouping == "given":
            kind = "groups"
            hint = "; --grouping none does not join groups that have copies in common"
        raise DataError(
            f"Expected at least {count} images of each emotion for {count} folds, "
            f"received {smallest}, and {apart} {kind} in all; use fewer --folds or a "
            f"larger --limit{hint}"
        )
    if grouping == "none":
        splits = KFold(count, shuffle=True, random_state=seed).split(labels)
    else:
        splits = StratifiedGroupKFold(count, shuffle=True, random_state=seed).split(
            labels, labels, groups
        )
    folds = [
        _make_fold(index, train, test, labels, groups, grouping, inner, seed, trainable)
        for index, (train, test) in enumerate(splits)
    ]
    check_folds(folds, len(labels), None if grouping == "none" else groups)
    return folds


def holdout_fold(
    labels: Index,
    groups: Index,
    usage: NDArray[np.str_],
    *,
    grouping: str,
    inner: float,
    seed: int,
    steer: str = "inner",
    trainable: NDArray[np.bool_] | None = None,
) -> Fold:
    """Take the data set's own split: train on Training, test on PublicTest and PrivateTest.

    With ``steer="PublicTest"`` that one steers training, and PrivateTest alone is the test set.

    But with ``grouping="none"`` Training images of which a copy, or another of their group, lies
    outside of it do not train.

    Raises:
        DataError: The data set lacks a share that is needed.
    """
    shares = {name: np.flatnonzero(usage == name) for name in USAGES}
    train, public, private = shares.values()
    test = np.sort(np.concatenate([public, private]))
    if not train.size or not test.size:
        raise DataError(
            "Expected a data set with its own Training and PublicTest images for one fold, "
            f"received {train.size} and {test.size}; use --folds 2 or more"
        )
    by_public = steer == "PublicTest"
    if by_public and not (public.size and private.size):
        counts = ", ".join(f"{own.size:,} {name}" for name, own in shares.items())
        raise DataError(
            "Expected a data set with its own Training, PublicTest and PrivateTest images for "
            f"--steer PublicTest, received {counts}; use --steer inner"
        )
    if grouping != "none":
        outside = np.unique(groups[usage != "Training"])
        train = train[~np.isin(groups[train], outside)]
    if by_public:
        fold = _make_fold(0, train, private, labels, groups, grouping, 0, seed, trainable)
        return replace(fold, inner=public)
    return _make_fold(0, train, test, labels, groups, grouping, inner, seed, trainable)


def _make_fold(
    index: int,
    train: Index,
    test: Index,
    labels: Index,
    groups: Index,
    grouping: str,
    inner: float,
    seed: int,
    trainable: NDArray[np.bool_] | None,
) -> Fold:
    if trainable is not None:
        train = train[trainable[train]]
    held = np.empty(0, np.int64)
    if inner > 0:
        rng = np.random.default_rng([seed, index])
        draw = _share_of_groups if grouping == "given" else _stratified_share
        held = draw(labels, groups, train, inner, rng)
        train = np.setdiff1d(train, held)
    if not train.size:
        raise DataError("Expected images to train on, received none; use a larger --limit")
    return Fold(index, np.sort(train), np.sort(held), np.sort(test))


def _stratified_share(
    labels: Index, groups: Index, among: Index, share: float, rng: np.random.Generator
) -> Index:
    """Draw whole groups of each class until they hold ``share`` of its images; one is left."""
    chosen = []
    shuffled = rng.permutation(among)
    # A group counts for the class of its first image here, so that each is drawn at most once.
    _, first, member = np.unique(groups[shuffled], return_index=True, return_inverse=True)
    group_labels = labels[shuffled[first]]
    sizes = np.bincount(member)
    for label in np.unique(group_labels):
        own = rng.permutation(np.flatnonzero(group_labels == label))
        enough = int(np.searchsorted(np.cumsum(sizes[own]), share * sizes[own].sum())) + 1
        chosen.append(own[: min(enough, own.size - 1)])
    return np.sort(shuffled[np.isin(member, np.concatenate(chosen))])


def _share_of_groups(
    labels: Index, groups: Index, among: Index, share: float, rng: np.random.Generator
) -> Index:
    """Draw whole groups of several classes each: about ``share`` of the images, stratified."""
    count = min(round(1 / share), np.unique(groups[among]).size)
    if count < 2:
        raise DataError(
            f"Expected images of two groups or more to train on and to steer by, received {count}; "
            "use --inner 0 or more groups"
        )
    splitter = StratifiedGroupKFold(count, shuffle=True, random_state=int(rng.integers(2**31)))
    with warnings.catch_warnings():
        # That a class has fewer images than parts: one part is taken, whatever is in it.
        warnings.simplefilter("ignore", UserWarning)
        _, held = next(splitter.split(among, labels[among], groups[among]))
    return np.sort(among[held])


def with_copies(fold: Fold, copies: Index) -> Fold:
    """Return a fold that knows which of its test images have a copy outside of its test set.

    Args:
        fold: The fold.
        copies: (N,) id of each image's group of copies, of all images of the data set.
    """
    inside = np.zeros(len(copies), np.bool_)
    inside[fold.test] = True
    return replace(fold, copies=fold.test[np.isin(copies[fold.test], copies[~inside])])


def check_folds(folds: list[Fold], images: int, groups: Index | None = None) -> None:
    """Check that folds are disjoint and complete, and that no group of copies is torn apart.

    Raises:
        ValueError: They are not.
    """
    tested = np.concatenate([fold.test for fold in folds])
    if not np.array_equal(np.sort(tested), np.arange(images)):
        raise ValueError("Expected each image in the test part of exactly one fold")
    for fold in folds:
        parts = (fold.train, fold.inner, fold.test)
        together = np.concatenate(parts)
        if np.unique(together).size != together.size:
            raise ValueError(f"Expected disjoint parts in fold {fold.index}")
        if groups is not None:
            sets = [np.unique(groups[part]) for part in parts]
            if np.unique(np.concatenate(sets)).size != sum(map(len, sets)):
                raise ValueError(f"Expected copies of an image in one part of fold {fold.index}")
