"""The files from which a fold's training goes on after a stop."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.network._keras import keras
from fer_train.run.folder import read_arrays, write_arrays
from fer_train.train.curves import History, best_epoch
from fer_train.train.lessons import DistillationLoss, ImageTable

CHECKPOINTS_KEPT = 2

State = dict[str, NDArray[Any]]
"""Arrays of a checkpoint by name; those of the model's weights begin with ``net_``."""


class Checkpoints:
    """The checkpoints of one fold: the newest ones, and the weights of the best epoch.

    Args:
        folder: The fold's folder.
        keep_best: Whether the best epoch's weights are kept; else the last epoch's count.
    """

    def __init__(self, folder: Path, keep_best: bool) -> None:
        """Take the folder; nothing is read yet."""
        self.folder, self.keep_best = folder, keep_best

    def paths(self) -> list[Path]:
        """Return the files of the epochs, oldest first."""
        found = self.folder.glob("checkpoint-*.npz")
        return sorted(found, key=lambda path: int(path.stem.partition("-")[2]))

    def save(self, net: keras.Model, trained: keras.Model, history: History) -> None:
        """Write all that the next epoch depends on; files that are no longer needed go.

        Args:
            net: The model.
            trained: What is compiled around it.
            history: One row for each epoch so far.
        """
        epoch = len(history)
        arrays = {f"net_{i:04d}": value for i, value in enumerate(net.get_weights())}
        if best_epoch(history) == epoch and self.keep_best:
            write_arrays(self._best(epoch), arrays)
        for prefix, variables in (
            ("random", _random_states(net)),
            ("rest", _stage_variables(net, trained)),
        ):
            arrays |= {
                f"{prefix}_{i:04d}": keras.ops.convert_to_numpy(variable)
                for i, variable in enumerate(variables)
            }
        arrays["history"] = np.frombuffer(json.dumps(history).encode(), np.uint8)
        write_arrays(self.folder / f"checkpoint-{epoch:03d}.npz", arrays)
        for path in self.paths()[:-CHECKPOINTS_KEPT]:
            path.unlink()
        # The best of the checkpoint before is kept too: it is needed if this one is damaged.
        needed = {self._best(best_epoch(history[:end])) for end in (epoch - 1, epoch) if end}
        for path in set(self.folder.glob("best-*.npz")) - needed:
            path.unlink()

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


def restore(net: keras.Model, trained: keras.Model | None, state: State) -> None:
    """Put a checkpoint back; without ``trained`` the model alone, for a new stage."""
    parts = [("net", net.weights), ("random", _random_states(net))]
    if trained is not None:
        parts.append(("rest", _stage_variables(net, trained)))
    for prefix, variables in parts:
        values = [state[key] for key in sorted(state) if key.startswith(f"{prefix}_")]
        for variable, value in zip(variables, values, strict=True):
            variable.assign(value)


def _random_states(net: keras.Model) -> list[Any]:
    """Return the random states of a model, of its dropout for example."""
    weights = {id(variable) for variable in net.weights}
    return [variable for variable in net.variables if id(variable) not in weights]


def _stage_variables(net: keras.Model, trained: keras.Model) -> list[Any]:
    """Return what belongs to a stage of training: augmentation's random states, the optimizer."""
    known = {id(variable) for variable in net.variables}
    for layer in trained.layers:
        if isinstance(layer, ImageTable | DistillationLoss):
            known |= {id(variable) for variable in layer.variables}
    return [
        variable
        for variable in [*trained.variables, *trained.optimizer.variables]
        if id(variable) not in known
    ]
