"""What experiment trackers are told while folds train; each is an extra of its own."""

import contextlib
import dataclasses
import logging
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from fer_edge.errors import DependencyError, RunError
from fer_train.run.folder import RunFold, write_text
from fer_train.run.recipes import settings_of
from fer_train.train.progress import Watcher

_MLFLOW_RUN = "mlflow.txt"
"""A fold's file with the id of its MLflow run, which goes on when the fold does."""

_log = logging.getLogger(__name__)


def check_log(kind: str) -> None:
    """Check that a tracker can be told.

    Raises:
        DependencyError: It is not installed.
    """
    module = {"mlflow": "mlflow", "tensorboard": "tensorboard.summary"}[kind]
    try:
        __import__(module)
    except ImportError as error:
        raise DependencyError(
            f"{kind} is not installed; run: pip install 'fer-edge[{kind}]'"
        ) from error


@contextlib.contextmanager
def open_log(kind: str, fold: RunFold) -> Iterator[Watcher]:
    """Tell a tracker of a fold while the block runs: each epoch, and at the end its scores.

    Args:
        kind: ``mlflow`` or ``tensorboard``.
        fold: The fold.

    Yields:
        What is to be called with each step of the training.

    Raises:
        DependencyError: The tracker is not installed.
        RunError: It cannot be reached.
    """
    check_log(kind)
    with {"mlflow": _open_mlflow, "tensorboard": _open_tensorboard}[kind](fold) as tell:

        def watch(progress: Any) -> None:
            if progress.row is not None:
                tell(_tags(progress.row), progress.epoch)

        yield watch
        if fold.is_done:
            scores = {
                f"held_out/{name}": value
                for name, value in fold.score.items()
                if isinstance(value, int | float)
            }
            tell(scores, fold.score.get("epochs", 0))


def _tags(row: Mapping[str, float]) -> dict[str, float]:
    """Return the scores of an epoch under names that put training and validation together."""
    tags = {}
    for name, value in row.items():
        if f"val_{name}" in row:
            tags[f"{name}/training"] = value
        elif name.startswith("val_"):
            tags[f"{name.removeprefix('val_')}/validation"] = value
        elif name != "epoch":
            tags[name] = value
    return tags


@contextlib.contextmanager
def _open_tensorboard(fold: RunFold) -> Iterator[Any]:
    """Write event files into the fold's folder, so that RUN is a folder for TensorBoard."""
    from tensorboard.summary import Writer

    fold.folder.mkdir(parents=True, exist_ok=True)
    writer = Writer(str(fold.folder))

    def tell(values: Mapping[str, float], step: int) -> None:
        for name, value in values.items():
            writer.add_scalar(name, value, step)
        writer.flush()

    try:
        yield tell
    finally:
        writer.close()


@contextlib.contextmanager
def _open_mlflow(fold: RunFold) -> Iterator[Any]:
    """Keep an MLflow run of the fold, where MLflow's own variables say, named after its RUN."""
    import mlflow
    from mlflow.entities import Metric, Param
    from mlflow.exceptions import MlflowException

    known = fold.folder / _MLFLOW_RUN
    try:
        client = mlflow.MlflowClient()
        if known.is_file():
            run_id = known.read_text("utf-8").strip()
            client.set_terminated(run_id, "RUNNING")
        else:
            name = os.environ.get("MLFLOW_EXPERIMENT_NAME") or fold.run.folder.resolve().name
            experiment = client.get_experiment_by_name(name)
            number = experiment.experiment_id if experiment else client.create_experiment(name)
            run_id = client.create_run(number, run_name=str(fold.id)).info.run_id
            params = [Param(key, str(value)) for key, value in _params(fold).items()]
            client.log_batch(run_id, params=params)
            write_text(known, f"{run_id}\n")
    except MlflowException as error:
        raise RunError(
            f"Expected an MLflow server or folder at {mlflow.get_tracking_uri()}, received "
            f"{error}; set MLFLOW_TRACKING_URI, or leave out --log mlflow"
        ) from error

    def tell(values: Mapping[str, float], step: int) -> None:
        now = int(time.time() * 1000)
        metrics = [Metric(name, float(value), now, step) for name, value in values.items()]
        try:
            client.log_batch(run_id, metrics=metrics)
        except MlflowException as error:
            _log.warning("MLflow: %s; training goes on", error)

    ended = "FAILED"
    try:
        yield tell
        ended = "FINISHED"
    finally:
        try:
            client.set_terminated(run_id, ended)
        except MlflowException as error:
            _log.warning("MLflow: %s", error)


def _params(fold: RunFold) -> dict[str, Any]:
    """Return what a fold is trained with; of files their names."""
    recipe, protocol = fold.recipe.plain(), dataclasses.asdict(fold.run.protocol)
    own = {name: recipe[name] for name in settings_of(fold.model) if name != "name"}
    files = {name: Path(protocol[name]).name for name in ("data", "votes") if protocol[name]}
    named = {"model": fold.model, "fold": fold.index, "recipe": fold.recipe.name}
    return {**named, **own, **protocol, **files, "dataset_digest": fold.run.dataset_digest}
