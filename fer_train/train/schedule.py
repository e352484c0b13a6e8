"""Many independent folds: planned once, then run here, in subprocesses, or on Ray."""

import logging
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import ExitStack
from types import FrameType
from typing import TYPE_CHECKING

from fer_edge.errors import DivergedError, RunError
from fer_train.data.load import Dataset
from fer_train.run.folder import FoldId, RunFold
from fer_train.run.record import Recorder
from fer_train.run.store import Store

if TYPE_CHECKING:
    from fer_train.train.fold import FoldTrainer, Progress
    from fer_train.train.svm import SvmTrainer

PARENT_FLAG = "--ends-with-parent"
"""Of ``fer-train fold``: its standard input tells it whether its parent lives."""

_log = logging.getLogger(__name__)


def run_here(dataset: Dataset, folds: Sequence[RunFold]) -> None:
    """Train folds one after the other in this process.

    Args:
        dataset: All images of their run, labels in the order of the protocol's.
        folds: What to train.

    Raises:
        RunError: Some folds failed; the others are done.
    """
    failed = []
    for number, fold in enumerate(folds):
        try:
            train_fold(fold, dataset, left=len(folds) - number)
        except DivergedError as error:
            _log.error("%s", error)
            failed.append(fold.id)
    raise_failed(failed)


def train_fold(
    fold: RunFold, dataset: Dataset, *, left: int = 1, argv: Sequence[str] | None = None
) -> None:
    """Train one fold in this process and show it on standard error.

    With a store it goes on from the checkpoints that are there, and sends each epoch's. The run's
    trackers are told of it, and its record is kept.

    Args:
        fold: What to train.
        dataset: All images of its run, labels in the order of the protocol's.
        left: Folds that this process still has to do, this one included.
        argv: The words of the command, for the record; those of this process by default.
    """
    from fer_train.train.logs import open_log
    from fer_train.train.progress import FoldReporter, Watcher

    trainer = trainer_of(fold, dataset)
    title = f"{fold.id} ({fold.index + 1} of {len(fold.run.folds)})"
    store = Store(fold.run.store) if fold.run.store else None
    with ExitStack() as stack:
        watchers: list[Watcher] = [stack.enter_context(FoldReporter(title, trainer.device, left))]
        if store:
            store.fetch_fold(fold)
        record = Recorder(fold, argv)
        watchers += [stack.enter_context(open_log(kind, fold)) for kind in fold.run.logs]

        def report(progress: "Progress") -> None:
            for watch in watchers:
                watch(progress)
            if progress.row is None:
                return
            record.update()
            if store:
                try:
                    store.send_fold(fold)
                except RunError as error:
                    _log.warning("%s; training goes on", error)

        try:
            trainer.train(report)
        except DivergedError:
            if store:
                # What is deleted here goes there too.
                store.send_fold(fold)
            raise
        record.update()
    if store:
        store.send_fold(fold)


def trainer_of(fold: RunFold, dataset: Dataset) -> "FoldTrainer | SvmTrainer":
    """Return what trains a fold."""
    if fold.model == "svm":
        from fer_train.train.svm import SvmTrainer

        return SvmTrainer(fold, dataset)
    # Keras is a slow import that planning, subprocesses and Ray's driver do without.
    from fer_train.train.fold import FoldTrainer

    return FoldTrainer(fold, dataset)


def run_in_subprocesses(
    folds: Sequence[RunFold], jobs: int, report: Callable[[FoldId], None]
) -> None:
    """Run each fold as a ``fer-train fold`` process, ``jobs`` at a time; each frees its memory.

    Raises:
        RunError: Some folds failed; the others are done.
    """
    running: set[subprocess.Popen[bytes]] = set()
    ended = threading.Event()

    def train(fold: RunFold) -> int:
        command = [sys.executable, "-m", "fer_train.cli", *fold_arguments(fold), PARENT_FLAG]
        with subprocess.Popen(command, stdin=subprocess.PIPE) as process:
            running.add(process)
            if ended.is_set():
                process.terminate()
            code = process.wait()
            running.discard(process)
            return code

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    failed = []
    futures: dict[Future[int], FoldId] = {}
    before = signal.signal(signal.SIGTERM, end)
    pool = ThreadPoolExecutor(jobs)
    try:
        futures |= {pool.submit(train, fold): fold.id for fold in folds}
        for future in as_completed(futures):
            if future.result():
                # The process has said why.
                failed.append(futures[future])
            else:
                report(futures[future])
    except (KeyboardInterrupt, SystemExit):
        ended.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()
        _log.warning(
            "Ended; %s had not ended and go on from their last epoch when the same command is "
            "started again",
            ", ".join(str(fold_id) for future, fold_id in futures.items() if not future.done()),
        )
        raise
    finally:
        pool.shutdown()
        signal.signal(signal.SIGTERM, before)
    raise_failed(failed)


def end_with_parent() -> None:
    """End this process when its standard input ends: its parent, who holds it, has died."""

    def wait() -> None:
        # Nobody writes to it.
        while os.read(0, 1):
            pass
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def fold_arguments(fold: RunFold) -> list[str]:
    """Return the arguments of ``fer-train`` that train one fold."""
    store = ["--store", fold.run.store] if fold.run.store else []
    logs = ["--log", ",".join(fold.run.logs)] if fold.run.logs else []
    named = ["--model", fold.model, "--fold", str(fold.index)]
    return ["fold", *named, "--run", str(fold.run.folder.resolve()), *store, *logs]


def raise_failed(failed: Sequence[FoldId]) -> None:
    """Raise a `RunError` that names the folds that failed, if there are any."""
    if failed:
        names = ", ".join(map(str, failed))
        raise RunError(
            f"{names} failed, and the others, if any, are done; start the same command again, or "
            "plan other settings in another --run"
        )
