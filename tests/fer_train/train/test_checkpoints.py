"""Checkpoints are written beside the training, and what goes wrong there is not lost."""

import threading
from pathlib import Path

import pytest

from fer_edge.errors import RunError
from fer_train.run.plan import load_images
from fer_train.train import checkpoints
from fer_train.train.fold import FoldTrainer
from tests.support.made_runs import plan_small

pytestmark = pytest.mark.tensorflow


def _trainer(folder: Path, *flags: str) -> FoldTrainer:
    run = plan_small(folder, "--folds", "2", *flags)
    return FoldTrainer(run.fold("edge", 0), load_images(run.protocol))


def test_the_next_epoch_runs_while_a_checkpoint_is_written(tmp_path, monkeypatch):
    trainer = _trainer(tmp_path, "--epochs", "2", "--patience", "0")
    write, seen = checkpoints.write_arrays, threading.Event()
    waited = []

    def slow(path: Path, arrays) -> None:
        if path.name == "checkpoint-001.npz":
            waited.append(seen.wait(60))
        write(path, arrays)

    def report(progress) -> None:
        if progress.epoch == 2 and progress.row is None:
            seen.set()

    monkeypatch.setattr(checkpoints, "write_arrays", slow)
    trainer.train(report)
    assert waited == [True]
    size, seconds = trainer.checkpoints.last
    assert size > 100_000 and seconds > 0


def test_a_checkpoint_that_cannot_be_written_ends_the_fold_with_its_reason(tmp_path, monkeypatch):
    trainer = _trainer(tmp_path, "--epochs", "3", "--patience", "0")

    def full(path: Path, arrays) -> None:
        raise RunError(f"Could not write {path}: the disk is full")

    monkeypatch.setattr(checkpoints, "write_arrays", full)
    with pytest.raises(RunError, match="the disk is full"):
        trainer.train()
    assert not trainer.fold.is_done


def test_a_checkpoint_of_another_version_is_refused(tmp_path):
    trainer = _trainer(tmp_path, "--epochs", "2")
    net = trainer.build()
    stage = trainer.stage(1)
    state = {f"net_{number:04d}": value for number, value in enumerate(net.get_weights()[1:])}
    with pytest.raises(RunError, match="delete the checkpoints of the fold"):
        checkpoints.restore(net, stage, state)
