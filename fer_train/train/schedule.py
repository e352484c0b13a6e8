"""Many independent folds: planned once, then run here, in subprocesses, or on Ray."""

import logging
import os
import queue
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, redirect_stdout
from types import FrameType
from typing import TYPE_CHECKING

import click

from fer_edge.errors import DivergedError, FerError, RunError
from fer_train.data.load import Dataset
from fer_train.run.folder import FoldId, RunFold
from fer_train.run.recipes import is_network
from fer_train.run.record import Recorder
from fer_train.run.store import Store

if TYPE_CHECKING:
    from fer_train.train.fold import FoldTrainer, Progress
    from fer_train.train.svm import SvmTrainer

    Trainer = FoldTrainer | SvmTrainer

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
    trainer: Trainer | None = None
    for number, fold in enumerate(folds):
        # What one fold has compiled serves the next one of its model.
        trainer = trainer_of(fold, dataset, trainer)
        try:
            train_fold(trainer, left=len(folds) - number)
        except DivergedError as error:
            _log.error("%s", error)
            failed.append(fold.id)
    raise_failed(failed)


def train_fold(trainer: "Trainer", *, left: int = 1, argv: Sequence[str] | None = None) -> None:
    """Train one fold in this process and show it on standard error.

    With a store it goes on from the checkpoints that are there, and sends each one. The run's
    trackers are told of it, and its record is kept.

    Args:
        trainer: Of the fold.
        left: Folds that this process still has to do, this one included.
        argv: The words of the command, for the record; those of this process by default.
    """
    from fer_train.train.logs import open_log
    from fer_train.train.progress import FoldReporter, Watcher

    fold = trainer.fold
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
            if progress.row is not None:
                record.update()

        def send() -> None:
            if store:
                try:
                    store.send_fold(fold)
                except RunError as error:
                    _log.warning("%s; training goes on", error)

        try:
            trainer.train(report, send)
        except DivergedError:
            if store:
                # What is deleted here goes there too.
                store.send_fold(fold)
            raise
        record.update()
    if store:
        store.send_fold(fold)


def trainer_of(fold: RunFold, dataset: Dataset, before: "Trainer | None" = None) -> "Trainer":
    """Return what trains a fold, after another one in this process or as the first."""
    if not is_network(fold.model):
        from fer_train.train.svm import SvmTrainer

        return SvmTrainer(fold, dataset)
    # Keras is a slow import that planning, subprocesses and Ray's driver do without.
    from fer_train.train.fold import FoldTrainer

    return FoldTrainer(fold, dataset, before)


class _Queue:
    """The folds that are left, handed out so that each process keeps to one model at a time."""

    def __init__(self, folds: Sequence[RunFold]) -> None:
        self._lock = threading.Lock()
        self._left: dict[str, list[RunFold]] = {}
        for fold in folds:
            self._left.setdefault(fold.model, []).append(fold)
        self._processes = dict.fromkeys(self._left, 0)

    def choose_model(self) -> str | None:
        """Return the model with folds left that the fewest processes train; None at the end."""
        with self._lock:
            left = [model for model, folds in self._left.items() if folds]
            chosen = min(left, key=self._processes.__getitem__, default=None)
            if chosen is not None:
                self._processes[chosen] += 1
            return chosen

    def next_of(self, model: str) -> RunFold | None:
        """Return the next fold of a model; None, and the model has a process less, at its end."""
        with self._lock:
            if self._left[model]:
                return self._left[model].pop(0)
            self._processes[model] -= 1
            return None


def run_in_subprocesses(
    folds: Sequence[RunFold], jobs: int, report: Callable[[FoldId], None]
) -> None:
    """Run folds in ``jobs`` processes at a time; each trains folds of one model in turn.

    What a process has compiled serves all its folds; when no fold of its model is left it ends,
    which frees its memory, and another one takes up the model that the fewest processes train.

    Args:
        folds: What to train, all of one run.
        jobs: Processes.
        report: Called with each fold that is done.

    Raises:
        RunError: Some folds failed; the others are done.
    """
    running: set[subprocess.Popen[str]] = set()
    begun: list[RunFold] = []
    failed: list[FoldId] = []
    ended = threading.Event()
    left = _Queue(folds)

    def work() -> None:
        while not ended.is_set() and (model := left.choose_model()):
            fold = left.next_of(model)
            while fold is not None and not ended.is_set():
                command = [sys.executable, "-m", "fer_train.cli", *fold_arguments(fold)]
                with subprocess.Popen(
                    [*command, PARENT_FLAG],
                    stdin=subprocess.PIPE,
                    stdout=subprocess.PIPE,
                    text=True,
                ) as process:
                    running.add(process)
                    if ended.is_set():
                        process.terminate()
                    fold = serve(process, fold)
                    running.discard(process)

    def serve(process: "subprocess.Popen[str]", fold: RunFold | None) -> RunFold | None:
        """Let a process train folds of a model; return the one with which a new one goes on."""
        while fold is not None and process.stdin and process.stdout:
            begun.append(fold)
            reply = process.stdout.readline()
            if ended.is_set():
                return None
            if reply == f"{_DONE}\n":
                report(fold.id)
            else:
                # The process has said why.
                failed.append(fold.id)
            fold = left.next_of(fold.model)
            if not reply:
                return fold
            process.stdin.write(f"{'' if fold is None else fold.index}\n")
            process.stdin.flush()
        return None

    def end(number: int, frame: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    pool = ThreadPoolExecutor(jobs)
    try:
        for worker in [pool.submit(work) for _ in range(min(jobs, len(folds)))]:
            worker.result()
    except (KeyboardInterrupt, SystemExit):
        ended.set()
        pool.shutdown(wait=False, cancel_futures=True)
        for process in list(running):
            process.terminate()
        _log.warning(
            "Ended; %s had not ended and go on from their last epoch when the same command is "
            "started again",
            ", ".join(str(fold.id) for fold in begun if not fold.is_done),
        )
        raise
    finally:
        pool.shutdown()
        signal.signal(signal.SIGTERM, before)
    raise_failed([fold.id for fold in folds if fold.id in failed])


_DONE, _FAILED = "done", "failed"
"""What a process says of a fold to its parent, which then names the next one, or nothing."""


def run_for_parent(dataset: Dataset, fold: RunFold) -> None:
    """Train a fold, and then those that the parent names on standard input, a line each.

    The process ends when its standard input ends: its parent, who holds it, has died.
    """
    lines: queue.SimpleQueue[str] = queue.SimpleQueue()

    def read() -> None:
        for line in sys.stdin:
            lines.put(line.strip())
        os._exit(1)

    threading.Thread(target=read, daemon=True).start()
    trainer: Trainer | None = None
    named, parent = str(fold.index), sys.stdout
    # What the code of one's own model prints is no answer to the parent.
    with redirect_stdout(sys.stderr):
        while named:
            trainer = trainer_of(fold.run.fold(fold.model, int(named)), dataset, trainer)
            try:
                train_fold(trainer)
            except FerError as error:
                _log.error("%s", error)
                click.echo(_FAILED, parent)
            else:
                click.echo(_DONE, parent)
            named = lines.get()


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
