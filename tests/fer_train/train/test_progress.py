import pytest

from fer_train.train.fold import Progress
from fer_train.train.progress import FoldReporter

pytestmark = pytest.mark.tensorflow
ROW = {"loss": 1.0, "accuracy": 0.5, "val_loss": 1.0, "val_accuracy": 0.5, "seconds": 1.0}


def show(epochs_done: int, capsys: pytest.CaptureFixture[str]) -> str:
    with FoldReporter("edge fold 0 (1 of 3)", "cpu", 1) as report:
        for epoch in range(1, epochs_done + 1):
            report(Progress(epoch, 3, 0, 10, ROW))
    return capsys.readouterr().err


def test_early_stopping_is_announced(capsys):
    assert "edge fold 0 (1 of 3) stopped early, after epoch 2 of 3" in show(2, capsys)


def test_a_training_to_the_end_announces_nothing(capsys):
    assert "stopped early" not in show(3, capsys)


def test_a_failure_is_no_early_stop(capsys):
    with pytest.raises(ValueError), FoldReporter("edge fold 0", "cpu", 1) as report:
        report(Progress(1, 3, 0, 10, ROW))
        raise ValueError
    assert "stopped early" not in capsys.readouterr().err


def test_an_epochs_line_tells_of_the_checkpoint_that_was_written(capsys):
    with FoldReporter("edge fold 0", "cpu", 1) as report:
        report(Progress(1, 3, 0, 10, ROW))
        report(Progress(2, 3, 0, 10, ROW, (34_500_000, 0.25)))
    first, second = [line for line in capsys.readouterr().err.splitlines() if "epoch" in line][:2]
    assert "checkpoint" not in first
    assert second.endswith("last checkpoint 34.5 MB in 0.2 s")
