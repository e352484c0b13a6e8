"""Many independent folds: planned once, then run here, in subprocesses, or on Ray."""

import logging
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.data.load import Dataset
from fer_train.run.folder import Piece, Run
from fer_train.run.store import Store

if TYPE_CHECKING:
    from fer_train.train.fold import FoldTrainer, Progress
    from fer_train.train.svm import SvmTrainer


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
    from fer_train.train.progress import FoldReporter

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
        from fer_train.train.svm import SvmTrainer

        return SvmTrainer(run, run.folds[index], images, labels)
    # Keras is a slow import that planning, subprocesses and Ray's driver do without.
    from fer_train.train.fold import FoldTrainer

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
    raise_failed(failed)


def fold_arguments(run: Run, piece: Piece) -> list[str]:
    """Return the arguments of ``fer-train`` that train one piece."""
    model, index = piece
    store = ["--store", run.store] if run.store else []
    run_folder = str(run.folder.resolve())
    return ["fold", "--model", model, "--fold", str(index), "--run", run_folder, *store]


def fold_name(piece: Piece) -> str:
    """Name a fold as messages do, such as ``edge fold 0``."""
    model, index = piece
    return f"{model} fold {index}"


def raise_failed(failed: Sequence[Piece]) -> None:
    """Raise a `RunError` that names the folds that failed, if there are any."""
    if failed:
        names = ", ".join(map(fold_name, failed))
        raise RunError(f"{names} failed, the others are done; start the same command again")
