"""fer-train doctor and --estimate."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from fer_train import doctor
from fer_train.cli import main
from fer_train.network import loops
from fer_train.network.device import choose_precision

pytestmark = pytest.mark.tensorflow


def test_the_doctor_says_what_a_training_would_use(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_driver", lambda: None)
    result = CliRunner().invoke(main, ["doctor", "--json", "--run", str(tmp_path / "runs" / "a")])
    assert result.exit_code == 0, result.output
    found = json.loads(result.stdout)
    assert found["back_end"] == "tensorflow"
    assert found["devices"] == ["cpu:0"]
    assert found["precision"] == choose_precision("auto")
    assert found["packages"]["keras"][0] == "3"
    assert found["disk_free_gib"] > 0
    assert not (tmp_path / "runs").exists()


def test_a_card_that_is_not_used_is_a_problem(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_driver", lambda: "NVRM version: 580")
    result = CliRunner().invoke(main, ["doctor", "--run", str(tmp_path)])
    assert result.exit_code == 1
    assert "but tensorflow uses no GPU; run: pip install 'fer-edge[train-gpu]'" in result.stderr


def test_a_full_disk_is_a_problem(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(doctor, "_driver", lambda: None)
    monkeypatch.setattr(doctor, "_LEAST_DISK_GIB", 1e9)
    result = CliRunner().invoke(main, ["doctor", "--run", str(tmp_path)])
    assert result.exit_code == 1
    assert f"are free in {tmp_path}, where runs go" in result.stderr


@pytest.mark.parametrize("precision", ["float32", "mixed_bfloat16"])
def test_a_precision_is_tried_by_a_step(precision: str) -> None:
    assert loops.precision_works(precision)


def test_an_estimate_trains_nothing_and_leaves_nothing(tmp_path: Path) -> None:
    run = tmp_path / "run"
    plan = ("--data", "synthetic:140", "--models", "edge,svm", "--folds", "2", "--epochs", "3")
    result = CliRunner().invoke(main, ["all", *plan, "--run", str(run), "--estimate"])
    assert result.exit_code == 0, result.output
    edge, svm, total = result.stdout.splitlines()[-3:]
    assert edge.startswith("edge        2 folds of 3 epochs of 1 steps at ")
    assert svm == "svm         is not timed"
    assert total.endswith("in one process, one fold after the other")
    assert not list(tmp_path.iterdir())
    both = CliRunner().invoke(main, ["all", *plan, "--jobs", "2", "--estimate"])
    assert both.exit_code == 2
