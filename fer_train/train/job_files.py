"""Job files for clusters: one ``fer-train fold`` command for each fold of a planned run."""

import dataclasses
import json
import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from fer_edge.errors import RunError
from fer_train.data.load import is_synthetic
from fer_train.run.folder import Run, RunFold
from fer_train.run.recipes import is_network
from fer_train.run.store import STORE_VARIABLE, holds_keys
from fer_train.train.schedule import fold_arguments

IMAGE = "fer-edge:latest"
SECRET = "fer-train-store"
"""The Kubernetes secret with the address of a store that holds keys, under ``address``."""

_RETRIES = 3


def slurm_script(run: Run, folds: Sequence[RunFold]) -> str:
    """Return a Slurm array job for ``sbatch``; run and data must be on a shared file system.

    With a store the run folder need not be. Where some folds need a GPU and others none, it is a
    script for ``bash`` that submits an array of each.

    Raises:
        RunError: No fold is left.
    """
    arrays = [_slurm_array(run, alike) for alike in _alike(run, folds)]
    if len(arrays) == 1:
        return arrays[0]
    submitted = "\n".join(f"sbatch <<'ARRAY'\n{array}ARRAY" for array in arrays)
    return f"""#!/bin/bash
# Run this with bash: it submits an array of the folds that need a GPU, and one of the others.
{submitted}
"""


def _slurm_array(run: Run, folds: Sequence[RunFold]) -> str:
    commands = "\n".join(f"  {shlex.quote(command)}" for command in _commands(run, folds))
    log = shlex.quote(str(run.folder.resolve() / "slurm-%A_%a.log"))
    here = shlex.quote(str(Path.cwd()))
    gpus = "\n#SBATCH --gpus=1" if _needs_gpu(folds[0]) else ""
    return f"""#!/bin/bash
#SBATCH --job-name=fer-train
#SBATCH --array=0-{len(folds) - 1}
#SBATCH --ntasks=1{gpus}
#SBATCH --cpus-per-task=4
#SBATCH --mem=16G
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={log}
#SBATCH --chdir={here}
# Submit from the environment that has fer-train; flags of sbatch change what stands above, such as
# --gpus=0 --partition=cpu. Each task is one fold; started again, it goes on from its last epoch.
# When all are done, `fer-train all` on the same folder prints the scores and exports.
folds=(
{commands}
)
eval "exec ${{folds[$SLURM_ARRAY_TASK_ID]}}"
"""


def kubernetes_job(run: Run, folds: Sequence[RunFold]) -> str:
    """Return an Indexed Job for ``kubectl apply -f``, as JSON (Kubernetes 1.29 or later).

    It expects an image with fer-edge[train-gpu], and a ReadWriteMany volume claim ``fer-train``
    with the run folder and the data set, mounted at the folder that is above both here. With a
    store the run folder need not be on it. A store's address that holds keys is looked for in the
    secret ``fer-train-store``. Where some folds need a GPU and others none, it is a List of two.

    Raises:
        RunError: No fold is left, or run and data have no folder above both but the root.
    """
    jobs = [_kubernetes_job(run, alike) for alike in _alike(run, folds)]
    if len(jobs) == 1:
        return json.dumps(jobs[0], indent=2) + "\n"
    jobs[1]["metadata"]["name"] += "-cpu"
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": jobs}, indent=2) + "\n"


def _kubernetes_job(run: Run, folds: Sequence[RunFold]) -> dict[str, Any]:
    commands = _commands(run, folds)
    cases = " ".join(f"{number}) exec {command};;" for number, command in enumerate(commands))
    container: dict[str, Any] = {
        "name": "fold",
        "image": IMAGE,
        "command": ["/bin/sh", "-c", f'case "$JOB_COMPLETION_INDEX" in {cases} esac'],
        "resources": {
            "requests": {"cpu": "4", "memory": "16Gi"},
            "limits": {"memory": "16Gi"},
        },
    }
    if _needs_gpu(folds[0]):
        container["resources"]["limits"]["nvidia.com/gpu"] = 1
    if _weights(run):
        container["workingDir"] = str(Path.cwd())
    env: list[dict[str, Any]] = []
    if backend := os.environ.get("KERAS_BACKEND"):
        env.append({"name": "KERAS_BACKEND", "value": backend})
    if run.store and holds_keys(run.store):
        key = {"name": SECRET, "key": "address"}
        env.append({"name": STORE_VARIABLE, "valueFrom": {"secretKeyRef": key}})
    if env:
        container["env"] = env
    pod: dict[str, Any] = {"restartPolicy": "Never", "containers": [container]}
    if shared := _shared_folder(run):
        container["volumeMounts"] = [{"name": "run", "mountPath": shared}]
        pod["volumes"] = [{"name": "run", "persistentVolumeClaim": {"claimName": "fer-train"}}]
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": _job_name(run)},
        "spec": {
            "completionMode": "Indexed",
            "completions": len(folds),
            "parallelism": len(folds),
            # A fold that fails for good must not take the others with it; a drained or preempted
            # node is not the fold's fault.
            "backoffLimitPerIndex": _RETRIES,
            "podFailurePolicy": {
                "rules": [{"action": "Ignore", "onPodConditions": [{"type": "DisruptionTarget"}]}]
            },
            "template": {"spec": pod},
        },
    }


def _needs_gpu(fold: RunFold) -> bool:
    return is_network(fold.model)


def _alike(run: Run, folds: Sequence[RunFold]) -> list[list[RunFold]]:
    """Return the folds that need a GPU, and those that need none; one of them may be missing.

    Raises:
        RunError: No fold is left.
    """
    if not folds:
        raise RunError(f"Expected folds that are left to do, received {run.folder}, which is done")
    parts = ([fold for fold in folds if _needs_gpu(fold) is gpu] for gpu in (True, False))
    return [part for part in parts if part]


def _commands(run: Run, folds: Sequence[RunFold]) -> list[str]:
    if run.store and holds_keys(run.store):
        # Everybody may read a job; it finds the address in its environment.
        run = dataclasses.replace(run, store=None)
        folds = [run.fold(fold.model, fold.index) for fold in folds]
    data = []
    if not is_synthetic(run.protocol.data):
        # The job starts in another folder, perhaps on another machine.
        data = ["--data", str(Path(run.protocol.data).resolve())]
    return [shlex.join(["fer-train", *fold_arguments(fold), *data]) for fold in folds]


def _shared_folder(run: Run) -> str | None:
    """Return the folder that all nodes must see, or None if they need none."""
    folders = [] if run.store else [run.folder.resolve().parent]
    if not is_synthetic(run.protocol.data):
        folders.append(Path(run.protocol.data).resolve().parent)
    folders += [path.resolve().parent for path in _weights(run)]
    if not folders:
        return None
    shared = os.path.commonpath(folders)
    if shared == os.sep:
        raise RunError(
            "Expected --run, --data and --weights below one folder, on which the volume is "
            f"mounted, received {', '.join(map(str, folders))}; plan the run on that volume"
        )
    return shared


def _weights(run: Run) -> list[Path]:
    """Return the files that models of the run start from."""
    named = {recipe.weights for recipe in run.recipes.values()}
    return [Path(name) for name in sorted(named - {"imagenet", "none"})]


def _job_name(run: Run) -> str:
    """Return a name that Kubernetes takes, with the run's own in it."""
    own = re.sub(r"[^a-z0-9]+", "-", run.folder.resolve().name.lower()).strip("-")
    return f"fer-train-{own}"[:52].rstrip("-")
