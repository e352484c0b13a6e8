"""What a fold was trained by: command, versions, commit, host, time; and all folds as one table."""

import csv
import importlib.metadata
import io
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fer_train
from fer_edge import __version__
from fer_edge.records import plain_cell
from fer_train.run.evaluation import ModelEvaluation
from fer_train.run.folder import RECORD, RunFold, write_json

_PACKAGES = ("keras", "tensorflow", "jax", "numpy", "scipy", "scikit-learn")
_GIT_WITHIN_S = 10


class Recorder:
    """Keeps a fold's record.json while it trains: one sitting for each time that it goes on.

    Args:
        fold: The fold; of one that is done nothing is recorded.
        argv: The command's words; those of this process by default.
    """

    def __init__(self, fold: RunFold, argv: Sequence[str] | None = None) -> None:
        """Start the clock; nothing is written yet."""
        self._fold, self._started = fold, time.perf_counter()
        self._sittings = None if fold.is_done else [*fold.record, describe_sitting(argv)]

    def update(self) -> None:
        """Write how long the sitting has been."""
        if self._sittings is not None:
            self._sittings[-1]["wall_s"] = round(time.perf_counter() - self._started, 3)
            write_json(self._fold.folder / RECORD, self._sittings)


def describe_sitting(argv: Sequence[str] | None = None) -> dict[str, Any]:
    """Return when, where and by what this process trains, as plain JSON values.

    Args:
        argv: The command's words; those of this process by default.
    """
    name, *arguments = argv or sys.argv
    return {
        "started": datetime.now(UTC).isoformat(timespec="seconds"),
        # An address may hold keys.
        "command": re.sub(r"://[^@\s]*@", "://...@", shlex.join([Path(name).name, *arguments])),
        "host": platform.node(),
        "platform": platform.platform(),
        "versions": {"fer-edge": __version__, "python": platform.python_version(), **_versions()},
        "git_commit": git_commit(Path.cwd()),
        "package_commit": git_commit(Path(fer_train.__file__).parent),
    }


def _versions() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def git_commit(folder: Path) -> str | None:
    """Return the commit of the checkout that a folder is in; None where it is in none.

    ``-dirty`` follows where tracked files differ from it.
    """
    command = ["git", "-C", str(folder), "describe", "--always", "--dirty", "--abbrev=40"]
    # Whatever tags there are: the commit itself.
    command += ["--exclude", "*"]
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, check=False, timeout=_GIT_WITHIN_S
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def wall_seconds(fold: RunFold) -> float | None:
    """Return how long a fold took from start to end, all its sittings; None of older runs."""
    sittings = [sitting["wall_s"] for sitting in fold.record if "wall_s" in sitting]
    return sum(sittings) if sittings else None


def device_seconds(fold: RunFold) -> float:
    """Return how long a fold's epochs and its evaluation took."""
    return float(fold.score["training_s"] + fold.score["evaluation_s"])


def results_csv(evaluations: Sequence[ModelEvaluation], runs: Mapping[Path, str]) -> str:
    """Return a csv with a row for each fold: settings, scores, times, and what trained it.

    Args:
        evaluations: The models.
        runs: What each run is called, by its folder.
    """
    rows = [
        _result_row(fold, runs[evaluation.run.folder.resolve()])
        for evaluation in evaluations
        for fold in evaluation.folds
    ]
    text = io.StringIO()
    columns = dict.fromkeys(name for row in rows for name in row)
    writer = csv.DictWriter(text, columns, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue()


def _result_row(fold: RunFold, run: str) -> dict[str, Any]:
    protocol = fold.run.protocol
    last = fold.record[-1] if fold.record else {}
    row = {
        "run": run,
        "model": fold.model,
        "recipe": fold.recipe.name,
        "seed": protocol.seed,
        "split_seed": protocol.seed_of_split,
        "fold": fold.index,
        **{
            name: value
            for name, value in fold.score.items()
            if isinstance(value, int | float | str)
        },
        "wall_s": wall_seconds(fold),
        "device_s": device_seconds(fold),
        **{
            name: last.get(name)
            for name in ("started", "host", "command", "git_commit", "package_commit")
        },
        **last.get("versions", {}),
    }
    return {
        name: plain_cell(value) if isinstance(value, str) else value for name, value in row.items()
    }
