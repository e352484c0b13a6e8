"""Models that learn what people saw: votes for the emotion after the one that is drawn."""

import csv
import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from click.testing import Result

from fer_edge.contract import EMOTIONS
from fer_train.data.votes import vote_targets
from fer_train.run.folder import open_run, read_arrays, read_json
from fer_train.run.plan import load_run_images
from fer_train.train.fold import FoldTrainer
from tests.support.made_votes import drawn_votes, write_drawn_votes
from tests.support.trainer import invoke

pytestmark = pytest.mark.tensorflow

PLAN = ("--data", "synthetic:140", "--folds", "2", "--precision", "float32")


@pytest.fixture(scope="module")
def votes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """140 images, of which nobody voted on the last, and two saw no face in the first."""
    counts = drawn_votes(140)
    path = write_drawn_votes(tmp_path_factory.mktemp("votes") / "votes.csv", counts[:-1])
    rows = path.read_text().splitlines()
    rows[0] += ",NF"
    rows[1:] = [f"{row},{12 if number == 0 else 0}" for number, row in enumerate(rows[1:])]
    path.write_text("\n".join(rows))
    return path


TRAIN = ("all", *PLAN, "--models", "edge,svm", "--epochs", "2", "--no-export")


@pytest.fixture(scope="module")
def learned(votes: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Result]:
    """A finished run of these votes, and what its command printed."""
    folder = tmp_path_factory.mktemp("learned") / "run"
    result = invoke(*TRAIN, "--run", folder, "--votes", votes)
    assert result.exit_code == 0, result.output
    return folder, result


@pytest.fixture
def run(learned, tmp_path: Path) -> Path:
    """A copy of that run, to be changed."""
    return shutil.copytree(learned[0], tmp_path / "run")


def test_images_without_votes_for_an_emotion_do_not_train(learned):
    folder, result = learned
    told = (
        "votes teach 138 of 140 images; kept out: 1 without known votes, 1 mostly seen as none of "
        "the 7 emotions"
    )
    assert told in result.stderr
    opened = open_run(folder)
    assert opened.votes.sum(axis=1).tolist() == [22, *[10] * 138, 0]
    for fold in opened.folds:
        taught = {*fold.train.tolist(), *fold.inner.tolist()}
        assert len(taught) > 50
        assert not taught & {0, 139}


def test_agreement_with_people_is_scored(learned):
    folder, result = learned
    assert "val_agreement" in result.stderr and " agreement " in result.stdout
    opened = open_run(folder)
    for model in ("edge", "svm"):
        score = opened.fold(model, 0).score
        assert 0 < score["agreement"] < score["agreement_ceiling"]
        ranked = np.sort(opened.votes[opened.folds[0].test][:, :7], axis=1)
        clear = (2 * ranked[:, -1] >= 10) & (ranked[:, -1] > ranked[:, -2])
        assert score["clear_images"] == clear.sum()


def test_what_is_learned_is_what_people_saw_and_not_the_label(learned):
    predictions = read_arrays(learned[0] / "svm" / "fold-00" / "predictions.npz")
    answers, labels = predictions["probabilities"].argmax(axis=1), predictions["label"]
    # The emotion after the label, as the votes are drawn.
    assert np.mean(answers == (labels + 1) % 7) > 2 * np.mean(answers == labels)


def test_the_epoch_of_most_agreement_is_kept(learned):
    folder = learned[0]
    with (folder / "edge" / "fold-00" / "history.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert {"agreement", "val_agreement", "val_accuracy"} <= rows[0].keys()
    kept = max(range(2), key=lambda epoch: (float(rows[epoch]["val_agreement"]), epoch))
    assert open_run(folder).fold("edge", 0).score["kept_epoch"] == kept + 1


def test_a_run_keeps_its_votes_without_their_file(learned, run):
    (run / "edge" / "fold-01" / "metrics.json").unlink()
    result = invoke("fold", "--model", "edge", "--fold", "1", "--run", run)
    assert result.exit_code == 0, result.output
    score, before = (
        read_json(folder / "edge" / "fold-01" / "metrics.json") for folder in (run, learned[0])
    )
    assert score["agreement"] == pytest.approx(before["agreement"])


def test_the_same_votes_go_on_wherever_they_lie(run, votes, tmp_path):
    moved = shutil.copy(votes, tmp_path / "moved.csv")
    assert invoke(*TRAIN, "--run", run, "--votes", moved).exit_code == 0


@pytest.mark.parametrize("asked", ["other.csv", "none"])
def test_other_votes_are_another_run(run, tmp_path, asked):
    other = write_drawn_votes(tmp_path / "other.csv", drawn_votes(140, seed=1))
    result = invoke(*TRAIN, "--run", run, *(("--votes", other) if asked != "none" else ()))
    assert result.exit_code == 1
    assert "other votes: " in result.stderr and f"{asked} asked for" in result.stderr


def test_the_report_has_agreement_beside_the_labels(learned, tmp_path):
    out = tmp_path / "report"
    assert invoke("report", learned[0], "--output", out).exit_code == 0
    text = (out / "report.md").read_text()
    assert "## Agreement with people" in text
    raters = [fold["human_agreement"] for fold in open_run(learned[0]).scores("edge")]
    assert f"| agreement of two raters | {np.mean(raters):.3f} ± " in text
    assert "the probability that the likeliest emotion is what one of the image's raters" in text
    assert "edge: recall by the emotion of the clear majority" in text
    assert "top-1 on the data set's labels" in text


def _lesson(folder: Path, *flags: object):
    result = invoke("plan", *PLAN, "--models", "edge", "--run", folder, *flags)
    assert result.exit_code == 0, result.output
    run = open_run(folder)
    dataset = load_run_images(run)
    return FoldTrainer(run.fold("edge", 0), dataset), dataset


def test_targets_are_the_shares_of_the_votes_and_labels_by_their_part(tmp_path, votes):
    trainer, dataset = _lesson(tmp_path / "alone", "--votes", votes)
    data = trainer.lessons[1].epoch_data(0)
    targets = vote_targets(dataset.votes, EMOTIONS)
    np.testing.assert_allclose(data.targets, targets.shares[data.order], atol=1e-6)
    assert 0 not in trainer.held and 139 not in trainer.held
    trainer, dataset = _lesson(
        tmp_path / "mixed", "--votes", votes, "--votes-share", "0.75", "--mixup", "0.4"
    )
    data = trainer.lessons[1].epoch_data(0)
    labels = np.eye(7)[dataset.labels]
    truth = 0.75 * targets.shares + 0.25 * labels
    own, partner, share = data.inputs
    share = share.reshape(-1, 1)
    np.testing.assert_allclose(
        data.targets, share * truth[own] + (1 - share) * truth[partner], atol=1e-6
    )


def test_classes_are_balanced_by_the_votes(tmp_path, votes):
    trainer, _ = _lesson(tmp_path / "run", "--votes", votes, "--balance", "weights")
    data = trainer.lessons[1].epoch_data(0)
    weighted = (data.targets * data.weights[:, None]).sum(axis=0)
    assert weighted.std() / weighted.mean() < 0.1
    assert data.weights.mean() == pytest.approx(1, abs=0.02)


def test_a_teacher_is_mixed_with_the_votes(tmp_path, votes):
    teacher, student = tmp_path / "teacher", tmp_path / "student"
    plan = ("--data", "synthetic:140", "--models", "edge", "--folds", "2", "--epochs", "1")
    result = invoke("all", *plan, "--pool", "training", "--run", teacher, "--no-export")
    assert result.exit_code == 0, result.output
    flags = ("--epochs", "1", "--grouping", "none", "--votes", votes, "--run", student)
    result = invoke("distill", teacher, *flags, "--votes-share", "0.5")
    assert result.exit_code == 0, result.output
    assert "votes teach" in result.stderr
    run = open_run(student)
    dataset = load_run_images(run)
    lesson = FoldTrainer(run.fold("edge", 0), dataset).lessons[1]
    answers = read_arrays(student / "teacher.npz")["probabilities"]
    data = lesson.epoch_data(0)
    truth = 0.5 * vote_targets(dataset.votes, EMOTIONS).shares + 0.5 * np.eye(7)[dataset.labels]
    expected = 0.3 * truth + 0.7 * answers
    np.testing.assert_allclose(data.targets, expected[data.order], atol=1e-6)
    command = json.loads((student / "config.json").read_text())
    assert command["teacher"] == "folds" and command["protocol"]["votes"] == str(votes)


def test_another_machine_has_the_votes_from_the_store(tmp_path, votes):
    pytest.importorskip("pyarrow")
    store = (tmp_path / "bucket" / "run").as_uri()
    own = shutil.copy(votes, tmp_path / "own.csv")
    plan = (*PLAN, "--models", "svm", "--votes", own, "--run", tmp_path / "a", "--store", store)
    assert invoke("plan", *plan).exit_code == 0
    own.unlink()
    fold = ("fold", "--model", "svm", "--fold", "0", "--run", tmp_path / "b", "--store", store)
    result = invoke(*fold)
    assert result.exit_code == 0, result.output
    assert "agreement" in open_run(tmp_path / "b").fold("svm", 0).score


@pytest.mark.parametrize(
    ("flags", "code", "message"),
    [
        (("--votes-share", "0.5"), 2, "--votes-share is for --votes"),
        (("--votes", "nowhere.csv"), 2, "nowhere.csv"),
        (("--votes", "few.csv"), 1, "Expected images whose votes can be taught, received none"),
        (("--votes", "bad.csv"), 1, "bad.csv, row 2: expected at least one vote"),
        (("--votes", "votes.csv", "--votes-share", "1.5"), 2, "Expected votes_share of from 0"),
    ],
)
def test_votes_that_cannot_be_used_leave_nothing_behind(
    tmp_path, votes, monkeypatch, flags, code, message
):
    monkeypatch.chdir(tmp_path)
    shutil.copy(votes, tmp_path)
    counts = np.ones((140, 7), int)
    write_drawn_votes(tmp_path / "few.csv", counts)
    counts[1] = 0
    write_drawn_votes(tmp_path / "bad.csv", counts)
    result = invoke("all", *PLAN, "--models", "edge", "--run", tmp_path / "run", *flags)
    assert result.exit_code == code
    assert message in result.stderr
    assert not (tmp_path / "run").exists()
