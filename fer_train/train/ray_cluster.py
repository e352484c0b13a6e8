"""Folds as tasks of a Ray cluster."""

import contextlib
import logging
import os
import socket
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from fer_edge.errors import DependencyError, RunError
from fer_train.data.load import Dataset
from fer_train.run.folder import DONE, LOCK, FoldId, Run, RunFold, locked
from fer_train.train.schedule import raise_failed, train_fold, trainer_of

_RAY_RETRIES = 3

_RAY_ANSWERS_WITHIN_S = 10.0


def run_on_ray(
    run: Run,
    dataset: Dataset,
    folds: Sequence[RunFold],
    address: str,
    report: Callable[[FoldId], None],
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
        folds: What to train.
        address: Of the cluster, or ``local`` for one on this machine.
        report: Called with each fold that is done.
        cpus: Processor cores a fold reserves.
        gpus: Share of a GPU a fold reserves; several folds share one below 1.

    Raises:
        DependencyError: Ray is not installed.
        RunError: The cluster cannot be reached, or some folds failed; the others are done.
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
        _check_reachable(address)
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
        data = ray.put((shared, _identity(shared), dataset, sys.argv))
        backend = os.environ.get("KERAS_BACKEND")
        left = {train.remote(data, fold.id, backend): fold for fold in folds}
        failed = []
        # Ray prints what it has to say of dead nodes to standard output, which is for results.
        with contextlib.redirect_stdout(sys.stderr):
            while left:
                (finished, *_), _ = ray.wait(list(left))
                fold = left.pop(finished)
                try:
                    files = ray.get(finished)
                except ray.exceptions.RayError as error:
                    # The last line is the error without its trace.
                    reason = str(error).strip().splitlines()[-1]
                    logging.getLogger(__name__).warning("%s: %s", fold.id, reason)
                    failed.append(fold.id)
                    continue
                # The last one marks the fold as done.
                for name in sorted(files, key=DONE.__eq__):
                    fold.write_file(name, files[name])
                report(fold.id)
    finally:
        ray.shutdown()
    raise_failed(failed)


def _check_reachable(address: str) -> None:
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


def _train_on_node(data: Any, fold_id: FoldId, backend: str | None) -> dict[str, bytes]:
    """Train a fold on a Ray node; return its files if the run folder is not shared with it."""
    run, identity, dataset, argv = data
    if backend:
        # A node has the environment of its `ray start`, not that of the command.
        os.environ["KERAS_BACKEND"] = backend
    if _identity(run) == identity:
        # A worker whose node has died may train for a moment more before it notices.
        fold = run.fold(*fold_id)
        with locked(fold.folder / LOCK, wait=True):
            pass
        train_fold(trainer_of(fold, dataset), argv=argv)
        return {}
    with tempfile.TemporaryDirectory() as folder:
        fold = replace(run, folder=Path(folder)).fold(*fold_id)
        train_fold(trainer_of(fold, dataset), argv=argv)
        files = fold.folder.iterdir()
        return {path.name: path.read_bytes() for path in files if path.name != LOCK}
