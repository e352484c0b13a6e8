"""The files from which a fold's training goes on after a stop, written beside the training."""

import json
import logging
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.network._keras import keras
from fer_train.run.folder import read_arrays, write_arrays
from fer_train.train.curves import History, best_epoch
from fer_train.train.lessons import DistillationLoss, ImageTable
from fer_train.train.stages import Stage

CHECKPOINTS_KEPT = 2

State = dict[str, NDArray[Any]]
"""Arrays of a checkpoint by name; those of the model's weights begin with ``net_``."""


class Checkpoints:
    """The checkpoints of one fold: the newest ones, and the weights of the best epoch.

    They are written while the next epoch runs, at most one behind. As a context it waits, at its
    end, for the one that is being written.

    Args:
        folder: The fold's folder.
        keep_best: Whether the best epoch's weights are kept; else the last epoch's count.
        written: Called after each one, beside the training.

    Attributes:
        last: Bytes and seconds of the last one that was written; None before the first.
    """

    def __init__(
        self, folder: Path, keep_best: bool, written: Callable[[], None] = lambda: None
    ) -> None:
        """Take the folder; nothing is read yet."""
        self.folder, self.keep_best, self.written = folder, keep_best, written
        self.last: tuple[int, float] | None = None
        self._pool = ThreadPoolExecutor(1)
        self._pending: Future[None] | None = None

    def __enter__(self) -> "Checkpoints":
        """Return it."""
        return self

    def __exit__(self, *error: object) -> None:
        """Wait for what is being written; what that meets is raised unless another error is."""
        try:
            self.wait()
        except RunError:
            if error[0] is None:
                raise

    def wait(self) -> None:
        """Wait for what is being written.

        Raises:
            RunError: It could not be.
        """
        pending, self._pending = self._pending, None
        if pending is not None:
            pending.result()

    def paths(self) -> list[Path]:
        """Return the files of the epochs, oldest first."""
        found = self.folder.glob("checkpoint-*.npz")
        return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))

    def save(self, net: keras.Model, stage: Stage, history: History) -> None:
        """Copy all that the next epoch depends on, and begin to write it.

        Args:
            net: The model.
            stage: What is trained of it.
            history: One row for each epoch so far.

        Raises:
            RunError: The one before could not be written.
        """
        parts = {
            "net": net.weights,
            "random": _random_states(net),
            "rest": _stage_variables(net, stage),
        }
        # Copies: the next step changes some of them in place.
        arrays = {
            f"{prefix}_{number:04d}": np.array(keras.ops.convert_to_numpy(variable))
            for prefix, variables in parts.items()
            for number, variable in enumerate(variables)
        }
        arrays["history"] = np.frombuffer(json.dumps(history).encode(), np.uint8)
        self.wait()
        self._pending = self._pool.submit(self._write, arrays, list(history))

    def _write(self, arrays: State, history: History) -> None:
        start = time.perf_counter()
        epoch = len(history)
        if best_epoch(history) == epoch and self.keep_best:
            write_arrays(
                self._best(epoch),
                {name: array for name, array in arrays.items() if name.startswith("net_")},
            )
        path = self.folder / f"checkpoint-{epoch:03d}.npz"
        write_arrays(path, arrays)
        self.last = path.stat().st_size, time.perf_counter() - start
        for old in self.paths()[:-CHECKPOINTS_KEPT]:
            old.unlink()
        # The best of the checkpoint before is kept too: it is needed if this one is damaged.
        needed = {self._best(best_epoch(history[:end])) for end in (epoch - 1, epoch) if end}
        for old in set(self.folder.glob("best-*.npz")) - needed:
            old.unlink()
        self.written()

    def latest(self) -> tuple[History, State]:
        """Read the newest checkpoint that is whole; a damaged one is set aside and said so."""
        for path in reversed(self.paths()):
            try:
                state = read_arrays(path)
            except RunError as error:
                logging.getLogger(__name__).warning("%s; the epoch before it is used", error)
                path.replace(path.with_suffix(".damaged"))
                continue
            return json.loads(state.pop("history").tobytes()), state
        return [], {}

    def kept(self) -> tuple[History, int, list[NDArray[Any]]]:
        """Return the curves, the epoch that is kept, from 1, and the model's weights after it.

        Raises:
            RunError: The best epoch's file is damaged.
        """
        self.wait()
        history, state = self.latest()
        epoch = len(history)
        if self.keep_best:
            epoch = best_epoch(history)
            try:
                state = read_arrays(self._best(epoch))
            except RunError as error:
                raise RunError(f"{error}, and train anew: delete {self.folder}") from error
        return history, epoch, [state[key] for key in sorted(state) if key.startswith("net_")]

    def delete(self) -> None:
        """Delete them all: the fold is done."""
        for pattern in ("checkpoint-*", "best-*.npz"):
            for path in self.folder.glob(pattern):
                path.unlink()

    def _best(self, epoch: int) -> Path:
        return self.folder / f"best-{epoch:03d}.npz"


def restore(net: keras.Model, stage: Stage | None, state: State) -> None:
    """Put a checkpoint back; without ``stage`` the model alone, for a new stage.

    Raises:
        RunError: It is of another version of the trainer.
    """
    parts = [("net", net.weights), ("random", _random_states(net))]
    if stage is not None:
        parts.append(("rest", _stage_variables(net, stage)))
    for prefix, variables in parts:
        values = [state[key] for key in sorted(state) if key.startswith(f"{prefix}_")]
        if [value.shape for value in values] != [tuple(one.shape) for one in variables]:
            raise RunError(
                "Expected a checkpoint of this version of fer-train, received another's; delete "
                "the checkpoints of the fold to train it from its first epoch"
            )
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _random_states(net: keras.Model) -> list[Any]:
    """Return the random states of a model, of its dropout for example."""
    weights = {id(variable) for variable in net.weights}
    return [variable for variable in net.variables if id(variable) not in weights]


def _stage_variables(net: keras.Model, stage: Stage) -> list[Any]:
    """Return what belongs to a stage of training: augmentation's random states, the optimizer."""
    # Each step sets the learning rate.
    known = {id(variable) for variable in [*net.variables, stage.optimizer.learning_rate]}
    for layer in stage.network.layers:
        if isinstance(layer, ImageTable | DistillationLoss):
            known |= {id(variable) for variable in layer.variables}
    return [variable for variable in stage.variables if id(variable) not in known]
