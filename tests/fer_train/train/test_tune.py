"""A search for settings: what it tries, what evaluates it, and how it goes on."""

import csv
import shutil
import sys

import pytest
from click.testing import CliRunner

from fer_edge.errors import DataError
from fer_train.cli import main
from fer_train.run.folder import open_run
from fer_train.run.recipes import read_overrides, recipe_for

pytestmark = pytest.mark.tensorflow

COMMON = ("--data", "synthetic:140", "--models", "sequential", "--folds", "2", "--epochs", "2")


def tune(run, *flags):
    return CliRunner().invoke(main, ["tune", *COMMON, "--run", str(run), *flags])


def test_without_optuna_it_says_what_to_install(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    result = tune(tmp_path / "run")
    assert result.exit_code == 1
    assert "Optuna is not installed; run: pip install 'fer-edge[tune]'" in result.stderr
    assert not (tmp_path / "run").exists()


def test_ranges_are_read():
    from fer_train.train.tune import Range, parse_range

    assert parse_range("learning-rate=1e-4:1e-2", "edge") == Range(
        "learning_rate", low=1e-4, high=1e-2
    )
    assert parse_range("batch_size=32, 64", "edge") == Range("batch_size", (32, 64))
    assert parse_range("head=thesis,gap", "edge") == Range("head", ("thesis", "gap"))
    assert parse_range("patience=5:9", "edge").edges == (5, 9)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("speed=1:2", "Expected a range of"),
        ("l2=0:1", "Expected a range of"),
        ("learning_rate=1e-2:1e-4", "Expected learning_rate=LOW:HIGH"),
        ("learning_rate", "Expected learning_rate=LOW:HIGH"),
        ("batch_size=many", "Expected batch_size=LOW:HIGH"),
    ],
)
def test_what_is_no_range_is_refused(text, message):
    from fer_train.train.tune import parse_range

    with pytest.raises(DataError, match=message):
        parse_range(text, "edge")


def test_what_cannot_be_searched_is_wrong_usage(tmp_path):
    pytest.importorskip("optuna")
    for flags, message in (
        (("--search", "augmentation=0:20"), "Expected augmentation of from 0 to 10"),
        (("--inner", "0"), "Expected an inner share above 0"),
        (("--search", "mixup=0:1", "--search", "mixup=0:2"), "--search names mixup twice"),
        (("--models", "edge,vgg16"), "expected one network"),
        (("--models", "svm"), "expected one network"),
    ):
        result = tune(tmp_path / "run", *flags)
        assert result.exit_code == 2, result.output
        assert message in result.stderr
    assert not (tmp_path / "run").exists()


@pytest.mark.usefixtures("bfloat16_without_numbers")
def test_a_trial_whose_precision_gives_no_numbers_is_trained_in_float32(tmp_path, caplog):
    pytest.importorskip("optuna")
    run = tmp_path / "run"
    flags = ("--search", "batch_size=16,32", "--trials", "1", "--epochs", "1")
    done = tune(run, *flags)
    assert done.exit_code == 0, done.output
    assert "gave no number in mixed_bfloat16; it is trained in float32" in caplog.text
    assert open_run(run / "trial-000").fold("sequential", 0).score["dtype_policy"] == "float32"


def test_a_search_goes_on_and_writes_what_config_takes(tmp_path):
    pytest.importorskip("optuna")
    run = tmp_path / "run"
    flags = ("--search", "learning_rate=1e-4:1e-2", "--search", "batch_size=16,32")
    first = tune(run, *flags, "--trials", "2")
    assert first.exit_code == 0, first.output
    assert first.stdout.strip() == str(run / "best.toml")
    second = tune(run, *flags, "--trials", "3")
    assert second.stderr.count("trial ") == 1 and "trial 3 of 3" in second.stderr
    rows = list(csv.DictReader((run / "trials.csv").open()))
    assert len(rows) == 3
    assert len({row["learning_rate"] for row in rows}) == 3
    assert all(1e-4 <= float(row["learning_rate"]) <= 1e-2 for row in rows)
    complete = [row for row in rows if row["state"] == "complete"]
    best = max(complete, key=lambda row: float(row["score"]))
    found = read_overrides(run / "best.toml", "sequential")
    assert found["learning_rate"] == float(best["learning_rate"])
    assert found["batch_size"] == int(best["batch_size"])
    recipe = recipe_for("modern", "sequential", found)
    assert (recipe.epochs, recipe.patience) == (2, 20)
    # As a version wrote it that knew fewer settings.
    journal = run / "study.log"
    text = journal.read_text()
    older = text.replace('"steer":"inner",', "").replace('"views":0,', "")
    assert len(older) == len(text) - len('"steer":"inner",') - len('"views":0,')
    journal.write_text(older)
    earlier = tune(run, *flags, "--trials", "3")
    assert earlier.exit_code == 0, earlier.output
    settings = tune(run, "--trials", "4")
    assert settings.exit_code == 1 and "a search with another ranges" in settings.stderr


def test_no_trial_sees_the_images_that_the_fold_holds_out(tmp_path):
    pytest.importorskip("optuna")
    run = tmp_path / "run"
    assert tune(run, "--trials", "1").exit_code == 0
    trial = open_run(run / "trial-000")
    planned = tmp_path / "planned"
    arguments = ["plan", *COMMON, "--run", str(planned)]
    assert CliRunner().invoke(main, arguments).exit_code == 0
    fold = open_run(planned).folds[0]
    (own,) = trial.folds
    assert own.train.tolist() == fold.train.tolist()
    assert own.inner.tolist() == own.test.tolist() == fold.inner.tolist()
    assert not set(fold.test.tolist()) & {*own.train.tolist(), *own.test.tolist()}
    assert not list(run.glob("trial-*/**/model.keras"))


def test_a_trial_that_time_has_ended_goes_on(tmp_path, monkeypatch):
    pytest.importorskip("optuna")
    run = tmp_path / "run"
    # When the command starts, when the trial does, and after its first epoch.
    clock = iter([0, 0, 3600])
    with monkeypatch.context() as patch:
        patch.setattr("fer_train.train.tune._clock", lambda: next(clock))
        result = tune(run, "--trials", "1", "--hours", "1")
    assert result.exit_code == 0 and result.stdout == ""
    assert "out of time; it goes on next time" in result.stderr
    assert (run / "trial-000/sequential/fold-00/checkpoint-001.npz").is_file()
    params = open_run(run / "trial-000").recipes["sequential"]
    result = tune(run, "--trials", "1")
    assert result.exit_code == 0, result.output
    assert open_run(run / "trial-000").recipes["sequential"] == params
    assert open_run(run / "trial-000").fold("sequential", 0).is_done
    assert sorted(path.name for path in run.glob("trial-*")) == ["trial-000"]


def test_a_folder_of_other_things_is_refused(tmp_path):
    pytest.importorskip("optuna")
    (tmp_path / "run").mkdir()
    (tmp_path / "run" / "mine.txt").touch()
    result = tune(tmp_path / "run", "--trials", "1")
    assert result.exit_code == 1
    assert "Expected an empty folder or a search of fer-train" in result.stderr
    shutil.rmtree(tmp_path / "run")
