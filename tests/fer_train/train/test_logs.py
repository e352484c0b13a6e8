"""What experiment trackers are told, where they are installed, and what is said where not."""

import sys
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from fer_train.cli import main
from fer_train.network._keras import keras
from fer_train.run.folder import open_run

pytestmark = pytest.mark.tensorflow


def train(run, *flags):
    return CliRunner().invoke(
        main,
        [
            *("all", "--data", "synthetic:140", "--models", "sequential", "--folds", "2"),
            *("--epochs", "2", "--no-export", "--run", str(run), *flags),
        ],
    )


@pytest.mark.parametrize("kind", ["mlflow", "tensorboard"])
def test_a_tracker_that_is_not_installed_is_named_before_any_work(tmp_path, monkeypatch, kind):
    monkeypatch.setitem(sys.modules, kind, None)
    result = train(tmp_path / "run", "--log", kind)
    assert result.exit_code == 1
    assert f"{kind} is not installed; run: pip install 'fer-edge[{kind}]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_an_unknown_tracker_is_wrong_usage(tmp_path):
    result = train(tmp_path / "run", "--log", "paper")
    assert result.exit_code == 2 and "expected mlflow, tensorboard, received paper" in result.stderr


def test_each_epoch_goes_to_the_trackers_and_into_the_record(tmp_path, monkeypatch):
    event_accumulator = pytest.importorskip(
        "tensorboard.backend.event_processing.event_accumulator"
    )
    run = tmp_path / "run"
    result = train(run, "--log", "tensorboard")
    assert result.exit_code == 0, result.output
    fold = open_run(run).fold("sequential", 1)
    events = event_accumulator.EventAccumulator(
        str(fold.folder), size_guidance={event_accumulator.TENSORS: 0}
    )
    events.Reload()
    tags = events.Tags()["tensors"]
    assert {"loss/training", "loss/validation", "learning_rate", "held_out/accuracy"} <= set(tags)
    losses = [event.tensor_proto.float_val[0] for event in events.Tensors("loss/validation")]
    assert losses == pytest.approx(fold.curves["val_loss"].tolist(), rel=1e-4)
    assert [event.step for event in events.Tensors("loss/validation")] == [1, 2]
    assert len(fold.record) == 1
    versions = fold.record[0]["versions"]
    assert versions[keras.backend.backend()] == version(keras.backend.backend())
    assert (run / "results.csv").read_text().count("\n") == 3


def test_mlflow_keeps_a_run_for_each_fold(tmp_path, monkeypatch):
    mlflow = pytest.importorskip("mlflow")
    pytest.importorskip("alembic")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/tracked.db")
    run = tmp_path / "run"
    result = train(run, "--log", "mlflow")
    assert result.exit_code == 0, result.output
    client = mlflow.MlflowClient()
    (experiment,) = [each for each in client.search_experiments() if each.name == "run"]
    runs = client.search_runs([experiment.experiment_id])
    assert {each.info.run_name for each in runs} == {"sequential fold 0", "sequential fold 1"}
    assert {each.info.status for each in runs} == {"FINISHED"}
    fold = open_run(run).fold("sequential", 0)
    kept = client.get_run((fold.folder / "mlflow.txt").read_text().strip())
    assert kept.data.params["model"] == "sequential" and kept.data.params["epochs"] == "2"
    assert kept.data.metrics["held_out/accuracy"] == pytest.approx(fold.score["accuracy"])
    history = client.get_metric_history(kept.info.run_id, "loss/validation")
    values = [each.value for each in sorted(history, key=lambda each: each.step)]
    assert values == pytest.approx(fold.curves["val_loss"].tolist(), rel=1e-4)
