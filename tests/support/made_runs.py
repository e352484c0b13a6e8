"""Small planned runs of the edge model, on drawn faces."""

from pathlib import Path

from click.testing import CliRunner

from fer_train.cli import main
from fer_train.run.folder import Run, open_run


def plan_small(folder: Path, *flags: str) -> Run:
    """Plan a run of 140 faces in float32; flags add to that."""
    plan = ("plan", "--data", "synthetic:140", "--models", "edge", "--precision", "float32")
    result = CliRunner().invoke(main, [*plan, "--run", str(folder), *flags])
    assert result.exit_code == 0, result.output
    return open_run(folder)
