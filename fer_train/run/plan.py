"""A run is planned: its images are loaded and split into folds."""

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.errors import DataError, RunError
from fer_train.data.duplicates import (
    blank_images,
    conflicting_labels,
    duplicate_groups,
    identical_groups,
    joined_groups,
)
from fer_train.data.emotions import SEVEN
from fer_train.data.folds import Fold, holdout_fold, make_folds, with_copies
from fer_train.data.load import Dataset, load_dataset
from fer_train.data.votes import vote_targets
from fer_train.run.folder import Run, RunFold, Teacher, digest_of, open_run, refuse_foreign
from fer_train.run.recipes import Protocol, Recipe


def load_images(protocol: Protocol) -> Dataset:
    """Load the images that a protocol asks for, labels numbered in the order of its emotions.

    Raises:
        DataError: The data set is not what was expected.
    """
    dataset = load_dataset(
        protocol.data,
        limit=protocol.limit,
        seed=protocol.seed_of_split,
        votes=protocol.votes,
        labelling=protocol.labelling,
        groups=protocol.groups,
        form=protocol.form,
    )
    keep = np.isin(dataset.labels, [dataset.label_names.index(label) for label in protocol.labels])
    if protocol.pool == "training" and protocol.folds > 1:
        keep &= dataset.usage == "Training"
    if not keep.all():
        dataset = dataset.subset(keep)
    dataset = dataset.relabel(protocol.labels)
    absent = set(protocol.labels) - {protocol.labels[label] for label in np.unique(dataset.labels)}
    if absent and protocol.labelling != SEVEN:
        named = [name for name in protocol.labels if name in absent]
        raise DataError(
            f"Expected images of each class in {protocol.data}, received none of "
            f"{', '.join(named)}; name the classes that there are with --classes"
        )
    return dataset


def plan_run(
    folder: Path,
    protocol: Protocol,
    recipes: dict[str, Recipe],
    dataset: Dataset,
    teacher: Teacher | None = None,
) -> Run:
    """Make the run folder, or check that the one that is there is of the same settings.

    Args:
        folder: The run folder.
        protocol: The data and how it is split.
        recipes: Settings of each model.
        dataset: What `load_images` made of the protocol.
        teacher: Who teaches the models besides the labels, or None.

    Raises:
        RunError: The folder holds something else.
        DataError: The data set does not suffice for the folds.
    """
    votes_digest = None if dataset.votes is None else digest_of(dataset.votes)
    groups_digest = None if dataset.groups is None else digest_of(dataset.groups)
    run = Run(folder, protocol, dataset.digest, recipes, [], teacher, votes_digest, groups_digest)
    if (folder / "config.json").is_file():
        there = open_run(folder)
        there.check_same(run)
        # They are the same, but for settings that are newer than the folder.
        run = replace(there, protocol=protocol, recipes={**recipes, **there.recipes})
        if (run.protocol, run.recipes) != (there.protocol, there.recipes):
            run.save()
        return run
    refuse_foreign(folder)
    for model, recipe in recipes.items():
        if recipe.weights not in ("imagenet", "none") and not Path(recipe.weights).is_file():
            raise DataError(f"Expected the weights of {model} at {recipe.weights}, found none")
    run = replace(run, folds=split(protocol, dataset))
    if dataset.votes is not None:
        run.keep_votes(dataset.votes)
    if dataset.groups is not None:
        run.keep_groups(dataset.groups)
    run.save()
    return run


def split(protocol: Protocol, dataset: Dataset) -> list[Fold]:
    """Make the folds of a protocol.

    Raises:
        DataError: The data set does not suffice for them.
    """
    copies = duplicate_groups(dataset.images)
    groups = np.arange(len(dataset))
    grouping: str = protocol.grouping
    trainable = np.ones(len(dataset), np.bool_)
    if protocol.grouping == "duplicates":
        groups = copies
        trainable = ~blank_images(dataset.images)
        if dataset.votes is None:
            # A near copy under another label is a doubtful label; the very same pixels are a wrong
            # one. Votes are what people saw, whatever the label.
            identical = identical_groups(dataset.images)
            trainable &= ~conflicting_labels(dataset.labels, identical)
    if dataset.votes is not None:
        targets = vote_targets(dataset.votes, protocol.labels)
        if not targets.trains.any():
            told = ", ".join(f"{count:,} {reason}" for reason, count in targets.reasons.items())
            raise DataError(f"Expected images whose votes can be taught, received none: {told}")
        trainable &= targets.trains
    if dataset.groups is not None:
        groups = joined_groups(groups, np.unique(dataset.groups, return_inverse=True)[1].ravel())
        grouping = "given"
    settings: dict[str, Any] = {
        "grouping": grouping,
        "inner": protocol.inner,
        "seed": protocol.seed_of_split,
        "trainable": trainable,
    }
    if protocol.folds == 1:
        folds = [
            holdout_fold(dataset.labels, groups, dataset.usage, steer=protocol.steer, **settings)
        ]
    else:
        folds = make_folds(dataset.labels, groups, protocol.folds, **settings)
    return [with_copies(fold, copies) for fold in folds]


def load_run_images(run: Run, data: str | None = None, votes: str | None = None) -> Dataset:
    """Load the images that a run was planned with, from elsewhere where ``data`` says so.

    Their votes are those that the run keeps, or of the csv ``votes``; their groups the run's.

    Raises:
        RunError: They are not the same images and labels, or votes or groups are gone.
    """
    protocol = replace(run.protocol, data=data or run.protocol.data, votes=votes, groups=None)
    dataset = load_images(protocol)
    if dataset.digest != run.dataset_digest:
        raise RunError(
            f"Expected the data set that {run.folder} was planned with, received other images or "
            f"labels from {protocol.data}"
        )
    return replace(dataset, votes=dataset.votes if votes else run.votes, groups=run.groups)


def pending(run: Run, models: Sequence[str]) -> list[RunFold]:
    """Return the folds that are not done yet, model by model."""
    folds = [fold for model in models for fold in run.folds_of(model)]
    return [fold for fold in folds if not fold.is_done]
