"""The three usages of FER-2013: what steers, what tests, and which test images have copies."""

import json

import cv2
import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.commands.scores import _test_rows
from fer_train.data.folds import holdout_fold, with_copies
from fer_train.data.synthetic import synthetic_faces
from fer_train.run.folder import open_run
from fer_train.run.plan import load_run_images
from fer_train.run.recipes import Protocol
from fer_train.run.usages import STEERED, WHOLE
from tests.support.trainer import invoke


@pytest.fixture(scope="module")
def three_usages(tmp_path_factory):
    """A csv of 210 drawn faces of three usages; 6 of each test set are copies of Training's."""
    images, labels = synthetic_faces(210)
    usage = np.array(["Training"] * 140 + ["PublicTest"] * 35 + ["PrivateTest"] * 35)
    for first in (140, 175):
        images[first : first + 6] = images[:6]
        labels[first : first + 6] = labels[:6]
    path = tmp_path_factory.mktemp("data") / "three.csv"
    rows = [
        f"{label},{' '.join(map(str, image.ravel()))},{name}"
        for image, label, name in zip(images, labels, usage, strict=True)
    ]
    path.write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    return path


def train(data, run, *flags):
    result = invoke(
        *("all", "--data", str(data), "--models", "svm", "--folds", "1", "--no-export"),
        *("--run", str(run), *flags),
    )
    assert result.exit_code == 0, result.output
    return open_run(run), result


@pytest.fixture(scope="module")
def both(three_usages, tmp_path_factory):
    """A run of the thesis's recipe, which tests on PublicTest and PrivateTest, and its output."""
    return train(three_usages, tmp_path_factory.mktemp("both") / "run", "--recipe", "thesis")


def test_one_fold_is_the_data_set_s_own_split(both):
    (fold,) = both[0].folds
    usage = load_run_images(both[0]).usage
    assert set(usage[fold.test]) == {"PublicTest", "PrivateTest"}
    assert fold.train.size == 140
    assert fold.copies.tolist() == [*range(140, 146), *range(175, 181)]


def test_both_test_sets_are_scored_and_the_whole_folder_too(both):
    (score,) = both[0].scores("svm")
    tests = score["tests"]
    assert [*tests] == ["PublicTest", "PrivateTest", WHOLE]
    assert [own["images"] for own in tests.values()] == [35, 35, 70]
    assert [own["copies"] for own in tests.values()] == [6, 6, 12]
    assert tests[WHOLE]["accuracy"] == score["accuracy"]
    halves = [tests[name]["accuracy"] for name in [*tests][:2]]
    assert score["accuracy"] == pytest.approx(np.mean(halves))


def test_scores_without_copies_leave_out_what_was_learned_by_heart(both):
    run, result = both
    (score,) = run.scores("svm")
    without = score["tests"][WHOLE]["without_copies"]
    assert without["images"] == 58
    assert without["accuracy"] < score["accuracy"]
    right = score["accuracy"] * 70 - without["accuracy"] * 58
    assert round(right) >= 11
    assert f"{WHOLE} without the 12 that have a copy outside, 58 images" in result.stdout


def test_the_report_shows_test_sets_one_by_one(both, tmp_path):
    report = invoke("report", both[0].folder, "--output", tmp_path)
    assert report.exit_code == 0, report.output
    text = (tmp_path / "report.md").read_text()
    assert "Test sets one by one" in text
    assert "35, of these 6 copies" in text
    assert "58 without copies" in text


def test_copies_of_test_images_do_not_train_but_are_counted(three_usages, tmp_path):
    run, _ = train(three_usages, tmp_path / "run")
    (fold,) = run.folds
    assert not np.isin(np.arange(6), [*fold.train, *fold.inner]).any()
    assert run.scores("svm")[0]["tests"]["PrivateTest"]["copies"] == 6


def test_public_test_may_steer_and_is_reported_as_such(three_usages, tmp_path):
    run, result = train(three_usages, tmp_path / "run", "--steer", "PublicTest")
    (fold,) = run.folds
    assert fold.inner.tolist() == list(range(140, 175))
    assert fold.test.tolist() == list(range(175, 210))
    (score,) = run.scores("svm")
    # The baseline is steered by nothing, and does not train on PublicTest all the same.
    assert score["training_images"] == fold.train.size < 140
    assert [*score["tests"]] == [STEERED, "PrivateTest"]
    assert score["tests"]["PrivateTest"]["accuracy"] == score["accuracy"]
    assert score["tests"][STEERED]["images"] == 35
    assert f"{STEERED}, 35 images" in result.stdout


@pytest.mark.tensorflow
def test_a_network_is_steered_by_public_test(three_usages, tmp_path):
    run = tmp_path / "run"
    result = invoke(
        *("all", "--data", str(three_usages), "--models", "edge", "--folds", "1", "--epochs", "1"),
        *("--steer", "PublicTest", "--run", str(run), "--export-dir", str(tmp_path / "exported")),
    )
    assert result.exit_code == 0, result.output
    assert "on PrivateTest" in result.stdout
    planned = open_run(run)
    (score,) = planned.scores("edge")
    # One epoch is the best: its score on what steered is that of the model.
    history = planned.fold("edge", 0).curves
    assert score["tests"][STEERED]["accuracy"] == pytest.approx(history["val_accuracy"][0], abs=0.1)
    facts = json.loads((tmp_path / "exported" / "edge.json").read_text())
    assert "--folds 1 --steer PublicTest --epochs 1" in facts["command"]
    assert facts["evaluated_on"] == "PrivateTest"


def test_the_archives_test_folder_is_told_apart_by_names(tmp_path):
    images, labels = synthetic_faces(84)
    for number, image in enumerate(images):
        share = ["Training", "Training", "PublicTest", "PrivateTest"][number % 4]
        folder = tmp_path / ("train" if share == "Training" else "test") / f"{labels[number]}"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"{share}_{number}.png"
        path.write_bytes(cv2.imencode(".png", image)[1].tobytes())
    run, _ = train(tmp_path, tmp_path / "run", "--labels-map", "fer2013")
    tests = run.scores("svm")[0]["tests"]
    assert {name: own["images"] for name, own in tests.items()} == {
        "PublicTest": 21,
        "PrivateTest": 21,
        WHOLE: 42,
    }


def test_folds_know_copies_in_other_folds(tmp_path):
    flags = ("--models", "svm", "--folds", "2", "--no-export", "--run", str(tmp_path))
    data = ("--data", "synthetic:280,clips=28", "--grouping", "none")
    assert invoke("all", *data, *flags).exit_code == 0
    scores = open_run(tmp_path).scores("svm")
    for score, fold in zip(scores, open_run(tmp_path).folds, strict=True):
        assert [*score["tests"]] == [WHOLE]
        assert score["tests"][WHOLE]["copies"] == fold.copies.size > 100


def test_steering_needs_three_usages_and_one_fold():
    with pytest.raises(DataError, match="steer of inner but with --folds 1"):
        Protocol("synthetic", steer="PublicTest")
    usage = np.array(["Training"] * 6 + ["PrivateTest"] * 4)
    with pytest.raises(DataError, match="received 6 Training, 0 PublicTest, 4 PrivateTest"):
        holdout_fold(
            np.arange(10) % 2,
            np.arange(10),
            usage,
            grouping="none",
            inner=0,
            seed=0,
            steer="PublicTest",
        )
    fold = holdout_fold(np.arange(10) % 2, np.arange(10), usage, grouping="none", inner=0, seed=0)
    assert fold.test.tolist() == [6, 7, 8, 9]
    copies = np.array([0, 1, 2, 3, 4, 5, 0, 7, 7, 9])
    assert with_copies(fold, copies).copies.tolist() == [6]


def test_a_test_set_of_copies_alone_is_called_one():
    score = {"tests": {WHOLE: {"images": 70, "copies": 70, "accuracy": 1.0}}}
    ((name, _),) = _test_rows(score)
    assert name == "all test images, each of which has a copy outside"
