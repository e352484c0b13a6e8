"""Small trainings, one of each kind, whose curves the suite holds fast.

Run as a program, ``python -m tests.support.golden_runs FILE.json`` trains them all and writes their
curves: how ``tests/data/golden-histories.json`` was recorded, before the trainer was taken apart.
The numbers depend on the order in which sums are added up, hence on the number of threads.
"""

import csv
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from click.testing import CliRunner

GOLDEN = Path(__file__).parent.parent / "data" / "golden-histories.json"
ONE_THREAD = {
    "KERAS_BACKEND": "tensorflow",
    "TF_DETERMINISTIC_OPS": "1",
    "TF_NUM_INTRAOP_THREADS": "1",
    "TF_NUM_INTEROP_THREADS": "1",
    "OMP_NUM_THREADS": "1",
}

History = list[dict[str, float]]

_ALL = ("all", "--data", "synthetic:140", "--models", "edge", "--folds", "2", "--no-export")
_SMALL = (
    *("--precision", "float32", "--epochs", "2", "--batch-size", "16"),
    *("--learning-rate", "1e-5", "--warmup-epochs", "0"),
)
_FILES = ("--data", "synthetic:140", "--grouping", "none", "--seed", "5", *_SMALL)


def commands(folder: Path) -> dict[str, tuple[str, ...]]:
    """Return the arguments of ``fer-train`` by the name of the run folder; later need earlier."""
    teacher = str(folder / "labels" / "edge" / "fold-00" / "model.keras")
    return {
        "labels": (*_ALL, *_SMALL, "--pool", "training", "--balance", "oversample"),
        "mixup": (*_ALL, *_SMALL, "--mixup", "0.4", "--erasing", "0.5", "--balance", "weights"),
        "features": (
            *(*_ALL, *_SMALL, "--frozen-epochs", "1", "--augmentation", "0", "--seed", "5"),
            *("--weights", teacher, "--schedule", "plateau", "--optimizer", "adam"),
        ),
        "folds-teach": ("distill", str(folder / "labels"), "--grouping", "none", *_SMALL),
        "model-teaches": ("distill", teacher, *_FILES),
        "views": ("distill", teacher, *_FILES, "--views", "2", "--mixup", "0.4"),
    }


def train(folder: Path) -> dict[str, History]:
    """Train all in this process; return the curves of each fold, but for their seconds."""
    from fer_train.cli import main

    curves = {}
    for name, arguments in commands(folder).items():
        result = CliRunner().invoke(main, [*arguments, "--run", str(folder / name)])
        if result.exit_code:
            raise RuntimeError(result.output)
        for path in sorted((folder / name).glob("edge/fold-*/history.csv")):
            with path.open(newline="") as file:
                curves[f"{name} {path.parent.name}"] = [
                    {key: float(value) for key, value in row.items() if key != "seconds"}
                    for row in csv.DictReader(file)
                ]
    return curves


def train_elsewhere(path: Path) -> dict[str, History]:
    """Train all in a process of one thread, by way of a file."""
    subprocess.run(
        [sys.executable, "-m", "tests.support.golden_runs", str(path)],
        env=os.environ | ONE_THREAD,
        check=True,
    )
    return dict(json.loads(path.read_text("utf-8")))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as temporary:
        text = json.dumps(train(Path(temporary)), indent=1)
    Path(sys.argv[1]).write_text(text + "\n", "utf-8")
