"""Many independent folds: planned once, then run here, in subprocesses, or on Ray."""

import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import numpy as np

from fer_edge.errors import RunError
from fer_train.data import Dataset, load_dataset
from fer_train.duplicates import blank_images, conflicting_labels, duplicate_groups
from fer_train.folds import Fold, holdout_fold, make_folds
from fer_train.recipes import Protocol, Recipe
from fer_train.runs import Run, locked, open_run

Piece = tuple[str, int]
"""A model's name and a fold's index: one independent piece of work."""


def load_images(protocol: Protocol) -> Dataset:
    """Load the images that a protocol asks for, labels numbered in the order of its emotions.

    Raises:
        DataError: The data set is not what was expected.
    """
    dataset = load_dataset(protocol.data, limit=protocol.limit, seed=protocol.seed)
    keep = np.isin(dataset.labels, [dataset.label_names.index(label) for label in protocol.labels])
    if protocol.pool == "training" and protocol.folds > 1:
        keep &= dataset.usage == "Training"
    if not keep.all():
        dataset = dataset.subset(keep)
    return dataset.relabel(protocol.labels)


def plan_run(folder: Path, protocol: Protocol, recipes: dict[str, Recipe], dataset: Dataset) -> Run:
    """Make the run folder, or check that the one that is there is of the same settings.

    Raises:
        RunError: The folder holds something else.
        DataError: The data set does not suffice for the folds.
    """
    run = Run(folder, protocol, dataset.digest, recipes, [])
    if (folder / "config.json").is_file():
        there = open_run(folder)
        there.check_same(run)
        run = Run(folder, protocol, dataset.digest, {**there.recipes, **recipes}, there.folds)
        if run.recipes != there.recipes:
            run.save()
        return run
    if folder.is_dir() and any(path.name != "lock" for path in folder.iterdir()):
        raise RunError(f"Expected an empty folder or a run of fer-train, received {folder}")
    run = Run(folder, protocol, dataset.digest, recipes, split(protocol, dataset))
    run.save()
    return run


def split(protocol: Protocol, dataset: Dataset) -> list[Fold]:
    """Make the folds of a protocol.

    Raises:
        DataError: The data set does not suffice for them.
    """
    groups = np.arange(len(dataset))
    trainable = None
    if protocol.grouping == "duplicates":
        groups = duplicate_groups(dataset.images)
        trainable = ~blank_images(dataset.images) & ~conflicting_labels(dataset.labels, groups)
    if protocol.folds == 1:
        fold = holdout_fold(
            dataset.labels,
            groups,
            dataset.usage,
            grouping=protocol.grouping,
            inner=protocol.inner,
            seed=protocol.seed,
            trainable=trainable,
        )
        return [fold]
    return make_folds(
        dataset.labels,
        groups,
        protocol.folds,
        grouping=protocol.grouping,
        inner=protocol.inner,
        seed=protocol.seed,
        trainable=trainable,
    )


def remaining(run: Run, models: Sequence[str]) -> list[Piece]:
    """Return the folds that are not done yet, model by model."""
    return [
        (model, fold.index)
        for model in models
        for fold in run.folds
        if not run.is_done(model, fold.index)
    ]


def run_in_subprocesses(
    run: Run, pieces: Sequence[Piece], jobs: int, report: Callable[[Piece], None]
) -> None:
    """Run each fold as a ``fer-train fold`` process, ``jobs`` at a time; each frees its memory.

    Raises:
        RunError: Some folds failed; the others are done.
    """

    def one(piece: Piece) -> Piece:
        model, index = piece
        command = [sys.executable, "-m", "fer_train.cli", "fold"]
        command += ["--model", model, "--fold", str(index), "--run", str(run.folder)]
        subprocess.run(command, check=True)
        return piece

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(one, piece): piece for piece in pieces}
        for future in as_completed(futures):
            try:
                report(future.result())
            except subprocess.CalledProcessError:
                failed.append("{} fold {}".format(*futures[future]))
    if failed:
        raise RunError(f"{', '.join(failed)} failed; start the same command again to go on")


__all__ = [
    "Piece",
    "load_images",
    "locked",
    "plan_run",
    "remaining",
    "run_in_subprocesses",
    "split",
]
