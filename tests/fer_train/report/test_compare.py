"""Models side by side on a terminal, and the tables that the page has too."""

import re

from click.testing import CliRunner

from fer_train.cli import main
from tests.support.fake_runs import make_run


def compare(*arguments):
    return CliRunner().invoke(main, ["compare", *map(str, arguments)])


def test_models_are_compared_on_the_terminal(tmp_path):
    run = make_run(tmp_path / "run", ("sequential", "vgg16"), folds=6, images=420, skill=3)
    result = compare(run.folder)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    header = next(line for line in lines if line.startswith("score"))
    assert header.split() == ["score", "sequential", "vgg16", "majority", "prior"]
    merged = lines[lines.index("Scores of all folds merged") :]
    row = next(line for line in merged if line.startswith("top-1"))
    cells = re.split(r" {2,}", row)
    assert all(re.fullmatch(r"[\d.]+% \[[\d.]+, [\d.]+\]", cell) for cell in cells[1:3])
    # Always one of seven emotions, without an interval of its own.
    assert len(cells) == 5 and all(float(cell.rstrip("%")) < 20 for cell in cells[3:])
    (test,) = [
        line for line in lines if line.startswith("sequential - vgg16  ") and "chance" in line
    ]
    assert test.endswith("differs by more than chance")
    assert "McNemar" in result.stdout and "`" not in result.stdout
    # Columns stand below one another.
    assert len({line.rindex("%") for line in lines if line.startswith("balanced accuracy")}) <= 2


def test_one_model_is_compared_with_what_needs_no_image(tmp_path):
    result = compare(make_run(tmp_path / "run").folder)
    assert result.exit_code == 0
    assert "WHICH MODELS DIFFER" not in result.stdout and "prior" in result.stdout


def test_a_folder_without_a_run_is_one_clear_line(tmp_path):
    result = compare(tmp_path)
    assert result.exit_code == 1
    assert "Expected a run folder of fer-train" in result.stderr
