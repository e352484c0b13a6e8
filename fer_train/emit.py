"""Job files for clusters: one ``fer-train fold`` command for each fold of a planned run."""

import json
import shlex
from collections.abc import Sequence

from fer_train.runs import Run
from fer_train.schedule import Piece, fold_arguments

IMAGE = "fer-edge:latest"


def slurm_script(run: Run, pieces: Sequence[Piece]) -> str:
    """Return a Slurm array job for ``sbatch``; the run folder must be on a shared file system."""
    commands = "\n".join(
        f"  {shlex.quote(shlex.join(['fer-train', *fold_arguments(run, piece)]))}"
        for piece in pieces
    )
    return f"""#!/bin/bash
#SBATCH --job-name=fer-train
#SBATCH --array=0-{len(pieces) - 1}
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=4
#SBATCH --requeue
# Each task is one fold; one that is started again goes on from its last epoch.
folds=(
{commands}
)
eval "${{folds[$SLURM_ARRAY_TASK_ID]}}"
"""


def kubernetes_job(run: Run, pieces: Sequence[Piece]) -> str:
    """Return an Indexed Job for ``kubectl apply -f``, as JSON.

    It expects an image with fer-edge[train-gpu] and the run folder in a ReadWriteMany volume claim
    named ``fer-train``, mounted where the run was planned.
    """
    commands = [shlex.join(["fer-train", *fold_arguments(run, piece)]) for piece in pieces]
    cases = " ".join(f"{number}) exec {command};;" for number, command in enumerate(commands))
    container = {
        "name": "fold",
        "image": IMAGE,
        "command": ["/bin/sh", "-c", f'case "$JOB_COMPLETION_INDEX" in {cases} esac'],
        "resources": {"limits": {"nvidia.com/gpu": 1}},
        "volumeMounts": [{"name": "run", "mountPath": str(run.folder.resolve().parent)}],
    }
    job = {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": "fer-train"},
        "spec": {
            "completionMode": "Indexed",
            "completions": len(pieces),
            "parallelism": len(pieces),
            "backoffLimit": 3 * len(pieces),
            "template": {
                "spec": {
                    "restartPolicy": "OnFailure",
                    "containers": [container],
                    "volumes": [
                        {"name": "run", "persistentVolumeClaim": {"claimName": "fer-train"}}
                    ],
                }
            },
        },
    }
    return json.dumps(job, indent=2) + "\n"
