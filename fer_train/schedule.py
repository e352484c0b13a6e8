"""Many independent folds: planned once, then run here, in subprocesses, or on Ray."""

import contextlib
import logging
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DataError, DependencyError, RunError
from fer_train.data import Dataset, load_dataset
from fer_train.duplicates import (
    blank_images,
    conflicting_labels,
    duplicate_groups,
    identical_groups,
)
from fer_train.folds import Fold, holdout_fold, make_folds
from fer_train.recipes import Protocol, Recipe
from fer_train.runs import DONE, Piece, Run, locked, open_run, refuse_foreign
from fer_train.store import Store

if TYPE_CHECKING:
    from fer_train.svm import SvmTrainer
    from fer_train.training import FoldTrainer, Progress

_RAY_RETRIES = 3
_RAY_ANSWERS_WITHIN_S = 10.0


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
        run = replace(there, recipes={**there.recipes, **recipes})
        if run.recipes != there.recipes:
            run.save()
        return run
    refuse_foreign(folder)
    for model, recipe in recipes.items():
        if recipe.weights not in ("imagenet", "none") and not Path(recipe.weights).is_file():
            raise DataError(f"Expected the weights of {model} at {recipe.weights}, found none")
    run = replace(run, folds=split(protocol, dataset))
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
        # A near copy under another label is a doubtful label; the very same pixels are a wrong one.
        identical = identical_groups(dataset.images)
        trainable = ~blank_images(dataset.images) & ~conflicting_labels(dataset.labels, identical)
    settings: dict[str, Any] = {
        "grouping": protocol.grouping,
        "inner": protocol.inner,
        "seed": protocol.seed,
        "trainable": trainable,
    }
    if protocol.folds == 1:
        return [holdout_fold(dataset.labels, groups, dataset.usage, **settings)]
    return make_folds(dataset.labels, groups, protocol.folds, **settings)


def load_run_images(run: Run, data: str | None = None) -> Dataset:
    """Load the images that a run was planned with, from elsewhere where ``data`` says so.

    Raises:
        RunError: They are not the same images and labels.
    """
    dataset = load_images(replace(run.protocol, data=data) if data else run.protocol)
    if dataset.digest != run.dataset_digest:
        raise RunError(
            f"Expected the data set that {run.folder} was planned with, received other images or "
            f"labels from {data or run.protocol.data}"
        )
    return dataset


def pending(run: Run, models: Sequence[str]) -> list[Piece]:
    """Return the folds that are not done yet, model by model."""
    return [
        (model, fold.index)
        for model in models
        for fold in run.folds
        if not run.is_done(model, fold.index)
    ]


def run_here(run: Run, dataset: Dataset, pieces: Sequence[Piece]) -> None:
    """Train folds one after the other in this process."""
    for number, piece in enumerate(pieces):
        train_piece(run, piece, dataset.images, dataset.labels, left=len(pieces) - number)


def train_piece(
    run: Run,
    piece: Piece,
    images: NDArray[np.uint8],
    labels: NDArray[np.int64],
    *,
    left: int = 1,
) -> None:
    """Train one fold in this process and show it on standard error.

    With a store it goes on from the checkpoints that are there, and sends each epoch's.

    Args:
        run: The run.
        piece: What to train.
        images: uint8 (N, 48, 48) images of the whole data set.
        labels: int64 (N,) classes in the order of the protocol's labels.
        left: Folds that this process still has to do, this one included.
    """
    from fer_train.progress import FoldReporter

    model, index = piece
    trainer = trainer_of(run, piece, images, labels)
    title = f"{model} fold {index + 1}/{len(run.folds)}"
    with FoldReporter(title, trainer.device, left) as report:
        if not run.store:
            trainer.train(report)
            return
        store = Store(run.store)

        def report_and_send(progress: "Progress") -> None:
            report(progress)
            if progress.row is not None:
                try:
                    store.send_fold(run, piece)
                except RunError as error:
                    logging.getLogger(__name__).warning("%s; training goes on", error)

        store.fetch_fold(run, piece)
        trainer.train(report_and_send)
        store.send_fold(run, piece)


def trainer_of(
    run: Run, piece: Piece, images: NDArray[np.uint8], labels: NDArray[np.int64]
) -> "FoldTrainer | SvmTrainer":
    """Return what trains a piece; see the trainers for the arrays."""
    model, index = piece
    if model == "svm":
        from fer_train.svm import SvmTrainer

        return SvmTrainer(run, run.folds[index], images, labels)
    # Keras is a slow import that planning, subprocesses and Ray's driver do without.
    from fer_train.training import FoldTrainer

    return FoldTrainer(run, model, run.folds[index], images, labels)


def run_in_subprocesses(
    run: Run, pieces: Sequence[Piece], jobs: int, report: Callable[[Piece], None]
) -> None:
    """Run each fold as a ``fer-train fold`` process, ``jobs`` at a time; each frees its memory.

    Raises:
        RunError: Some folds failed; the others are done.
    """

    def train(piece: Piece) -> int:
        command = [sys.executable, "-m", "fer_train.cli", *fold_arguments(run, piece)]
        return subprocess.run(command, check=False).returncode

    failed = []
    with ThreadPoolExecutor(jobs) as pool:
        futures = {pool.submit(train, piece): piece for piece in pieces}
        try:
            for future in as_completed(futures):
                if future.result():
                    # The process has said why.
                    failed.append(futures[future])
                else:
                    report(futures[future])
        except KeyboardInterrupt:
            # A terminal interrupts the processes too; without this the next ones would start.
            pool.shutdown(wait=False, cancel_futures=True)
            raise
    _raise_failed(failed)


def fold_arguments(run: Run, piece: Piece) -> list[str]:
    """Return the arguments of ``fer-train`` that train one piece."""
    model, index = piece
    store = ["--store", run.store] if run.store else []
    run_folder = str(run.folder.resolve())
    return ["fold", "--model", model, "--fold", str(index), "--run", run_folder, *store]


def run_on_ray(
    run: Run,
    dataset: Dataset,
    pieces: Sequence[Piece],
    address: str,
    report: Callable[[Piece], None],
    *,
    cpus: float = 1.0,
    gpus: float = 0.0,
) -> None:
    """Run folds as Ray tasks; a fold whose node dies is run again on another.

    The images travel once, through Ray's object store. A node that sees the run folder (a shared
    file system) trains in it and resumes there; one that does not sends the fold's files back
    through the object store when it is done, and resumes only if the run has a store.

    Args:
        run: The run.
        dataset: Its images.
        pieces: What to train.
        address: Of the cluster, or ``local`` for one on this machine.
        report: Called with each piece that is done.
        cpus: Processor cores a fold reserves.
        gpus: Share of a GPU a fold reserves; several folds share one below 1.

    Raises:
        DependencyError: Ray is not installed.
        RunError: The cluster does not answer, or some folds failed; the others are done.
    """
    # Lines of different folds are alike; Ray would drop some of them.
    os.environ.setdefault("RAY_DEDUP_LOGS", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    try:
        import ray
    except ImportError as error:
        raise DependencyError(
            "Ray is not installed; run: pip install 'fer-edge[cluster]'"
        ) from error
    try:
        _check_answers(address)
        ray.init(address=address, logging_level=logging.ERROR)
    except (OSError, ValueError) as error:
        raise RunError(
            f"Expected a Ray cluster at {address} ({error}); check `ray status` there, or use "
            "--ray local"
        ) from error
    try:
        needed = {"CPU": cpus, "GPU": gpus}
        if not any(_offers(node, needed) for node in ray.nodes()):
            logging.getLogger(__name__).warning(
                "No node of the Ray cluster has %g CPUs and %g GPUs; the folds wait until one "
                "joins, or change --ray-cpus and --ray-gpus",
                *needed.values(),
            )
        # A new process for each task, as back ends do not give a device's memory back.
        train = ray.remote(num_cpus=cpus, num_gpus=gpus, max_calls=1, max_retries=_RAY_RETRIES)(
            _train_on_node
        )
        shared = replace(run, folder=run.folder.resolve())
        data = ray.put((shared, _identity(shared), dataset.images, dataset.labels))
        backend = os.environ.get("KERAS_BACKEND")
        left = {train.remote(data, piece, backend): piece for piece in pieces}
        failed = []
        # Ray prints what it has to say of dead nodes to standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            while left:
                (finished, *_), _ = ray.wait(list(left))
                piece = left.pop(finished)
                try:
                    files = ray.get(finished)
                except ray.exceptions.RayError as error:
                    # The last line is the error without its trace.
                    reason = str(error).strip().splitlines()[-1]
                    logging.getLogger(__name__).warning("%s: %s", _name(piece), reason)
                    failed.append(piece)
                    continue
                # The last one marks the fold as done.
                for name in sorted(files, key=DONE.__eq__):
                    run.write_file(piece, name, files[name])
                report(piece)
    finally:
        ray.shutdown()
    _raise_failed(failed)


def _check_answers(address: str) -> None:
    """Raise OSError or ValueError for an address at which nobody listens.

    Ray itself waits for many minutes there and then ends the process.
    """
    if address in ("local", "auto") or "://" in address:
        return
    host, _, port = address.rpartition(":")
    socket.create_connection((host, int(port)), _RAY_ANSWERS_WITHIN_S).close()


def _offers(node: dict[str, Any], needed: dict[str, float]) -> bool:
    resources = node["Resources"]
    return node["Alive"] and all(resources.get(name, 0) >= much for name, much in needed.items())


def _identity(run: Run) -> tuple[int, int] | None:
    """Return what tells a run folder from another one at the same path of another machine."""
    try:
        status = (run.folder / "config.json").stat()
    except OSError:
        return None
    return status.st_ino, status.st_mtime_ns


def _train_on_node(data: Any, piece: Piece, backend: str | None) -> dict[str, bytes]:
    """Train a piece on a Ray node; return its files if the run folder is not shared with it."""
    run, identity, images, labels = data
    if backend:
        # A node has the environment of its `ray start`, not that of the command.
        os.environ["KERAS_BACKEND"] = backend
    if _identity(run) == identity:
        # A worker whose node has died may train for a moment more before it notices.
        with locked(run.fold_folder(*piece) / "lock", wait=True):
            pass
        train_piece(run, piece, images, labels)
        return {}
    with tempfile.TemporaryDirectory() as folder:
        run = replace(run, folder=Path(folder))
        train_piece(run, piece, images, labels)
        return {
            path.name: path.read_bytes()
            for path in run.fold_folder(*piece).iterdir()
            if path.name != "lock"
        }


def _name(piece: Piece) -> str:
    model, index = piece
    return f"{model} fold {index}"


def _raise_failed(failed: Sequence[Piece]) -> None:
    if failed:
        names = ", ".join(map(_name, failed))
        raise RunError(f"{names} failed, the others are done; start the same command again")
