import csv
import io
import json
import subprocess

import pytest

from fer_train.run.evaluation import evaluate_run, run_names
from fer_train.run.record import Recorder, describe_sitting, git_commit, results_csv, wall_seconds
from tests.support.fake_runs import make_run


def unfinished(tmp_path):
    run = make_run(tmp_path / "run", folds=2)
    fold = run.fold("sequential", 0)
    (fold.folder / "metrics.json").unlink()
    return fold


def test_each_sitting_of_a_fold_is_kept(tmp_path):
    fold = unfinished(tmp_path)
    for number in (1, 2):
        record = Recorder(fold, ["/usr/bin/fer-train", "fold", "--run", "a b"])
        record.update()
        record.update()
        assert len(fold.record) == number
    sitting = fold.record[0]
    assert sitting["command"] == "fer-train fold --run 'a b'"
    assert sitting["versions"]["fer-edge"] and sitting["versions"]["numpy"]
    assert sitting["host"] and sitting["started"].endswith("+00:00")
    assert wall_seconds(fold) == pytest.approx(sum(each["wall_s"] for each in fold.record))


def test_keys_in_an_address_are_kept_from_the_record():
    argv = ["fer-train", "all", "--store", "s3://key:secret/+1@bucket/run", "--run", "r"]
    command = describe_sitting(argv)["command"]
    assert "secret" not in command and "key" not in command
    assert "bucket/run" in command and command.endswith("--run r")


def test_a_fold_that_is_done_is_left_as_it_is(tmp_path):
    fold = make_run(tmp_path / "run", folds=2).fold("sequential", 0)
    Recorder(fold).update()
    assert fold.record == [] and wall_seconds(fold) is None


def test_the_commit_is_that_of_the_checkout(tmp_path):
    assert git_commit(tmp_path) is None

    def git(*words):
        subprocess.run(
            ["git", "-C", str(tmp_path), "-c", "user.name=n", "-c", "user.email=e", *words],
            check=True,
            capture_output=True,
        )

    git("init", "-q")
    (tmp_path / "file").write_text("1")
    git("add", "file")
    git("commit", "-q", "-m", "first")
    git("tag", "-m", "a tag", "v1")
    commit = git_commit(tmp_path)
    assert commit and len(commit) == 40 and int(commit, 16)
    (tmp_path / "file").write_text("2")
    assert git_commit(tmp_path) == f"{commit}-dirty"


def test_a_folder_without_git_has_no_commit(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    assert git_commit(tmp_path) is None
    assert describe_sitting()["git_commit"] is None


def test_results_have_a_row_for_each_fold(tmp_path):
    run = make_run(tmp_path / "run", ("sequential", "vgg16"), folds=2, seed=3)
    sitting = {"started": "2026-01-01T00:00:00+00:00", "host": "=h", "command": "fer-train all"}
    sitting |= {"git_commit": None, "package_commit": "abc", "versions": {"keras": "3.9"}}
    path = run.fold("vgg16", 1).folder / "record.json"
    path.write_text(json.dumps([sitting | {"wall_s": 8.5}, sitting | {"wall_s": 1}]))
    evaluations = evaluate_run(run)
    rows = list(csv.DictReader(io.StringIO(results_csv(evaluations, run_names(evaluations)))))
    assert [(row["model"], row["fold"]) for row in rows] == [
        ("sequential", "0"),
        ("sequential", "1"),
        ("vgg16", "0"),
        ("vgg16", "1"),
    ]
    last = rows[-1]
    assert float(last["accuracy"]) == run.fold("vgg16", 1).score["accuracy"]
    assert (last["run"], last["seed"], last["split_seed"]) == ("run", "3", "3")
    assert (last["wall_s"], last["device_s"], last["keras"]) == ("9.5", "6.5", "3.9")
    # Not a formula.
    assert last["host"] == "'=h" and rows[0]["host"] == ""
    assert "confusion" not in last
