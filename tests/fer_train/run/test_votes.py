"""Agreement with people, by hand and by drawing raters."""

import itertools

import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_train.data.votes import VOTE_KINDS
from fer_train.run.metrics import selection_score
from fer_train.run.votes import (
    agreement,
    ceiling,
    counted,
    entropies,
    human_agreement,
    majorities,
    vote_metrics,
)


def rows(*votes: dict[str, int]) -> np.ndarray:
    return np.array([[own.get(kind, 0) for kind in VOTE_KINDS] for own in votes])


def test_agreement_is_that_of_raters_drawn_at_random():
    votes = np.random.default_rng(1).multinomial(10, [0.3, 0.2, 0.1, 0.1, 0.1, 0.1, 0.1], 20)
    votes = np.concatenate([votes, np.zeros((20, 3), int)], axis=1)
    answers = np.arange(20) % 7
    same, right, best = [], [], []
    for own, answer in zip(votes, answers, strict=True):
        raters = np.repeat(np.arange(10), own)
        same.append(np.mean([a == b for a, b in itertools.permutations(raters, 2)]))
        right.append(np.mean(raters == answer))
        best.append(max(np.mean(raters == each) for each in range(7)))
    assert human_agreement(votes, EMOTIONS) == pytest.approx(np.mean(same))
    assert agreement(votes, EMOTIONS, answers) == pytest.approx(np.mean(right))
    assert ceiling(votes, EMOTIONS) == pytest.approx(np.mean(best))


def test_votes_for_no_emotion_and_images_of_few_votes_do_not_count():
    votes = rows({"sad": 5, "contempt": 5}, {"sad": 2, "happy": 2, "unknown": 6}, {"no face": 10})
    sad = np.full(3, EMOTIONS.index("sad"))
    assert counted(votes, EMOTIONS).tolist() == [True, False, False]
    assert agreement(votes, EMOTIONS, sad) == 1.0
    assert human_agreement(votes, EMOTIONS) == 1.0
    assert np.isnan(agreement(votes[1:], EMOTIONS, sad[1:]))
    # Of an emotion that is left out nobody's vote counts.
    assert counted(votes, ("happy", "fear")).tolist() == [False] * 3


@pytest.mark.parametrize(
    ("votes", "majority"),
    [
        ({"sad": 5, "fear": 4, "happy": 1}, "sad"),
        ({"sad": 5, "contempt": 5}, None),
        ({"sad": 4, "fear": 3, "happy": 3}, None),
        ({"contempt": 6, "sad": 4}, None),
        ({"fear": 2, "sad": 1}, "fear"),
        ({}, None),
    ],
)
def test_a_clear_majority_has_half_of_all_votes_and_no_rival(votes, majority):
    (found,) = majorities(rows(votes), EMOTIONS)
    assert found == (EMOTIONS.index(majority) if majority else -1)


def test_the_log_loss_of_the_votes_own_shares_is_their_entropy():
    votes = rows({"sad": 5, "fear": 5}, {"happy": 10}, {"sad": 8, "angry": 2})
    shares = votes[:, :7] / 10
    scores = vote_metrics(votes, EMOTIONS, shares.astype(np.float32))
    expected = (np.log(2) + 0 - 0.8 * np.log(0.8) - 0.2 * np.log(0.2)) / 3
    assert entropies(votes, EMOTIONS).mean() == pytest.approx(expected)
    assert scores["vote_entropy"] == pytest.approx(expected)
    assert scores["vote_log_loss"] == pytest.approx(expected, abs=1e-6)
    flat = vote_metrics(votes, EMOTIONS, np.full((3, 7), 1 / 7, np.float32))
    assert flat["vote_log_loss"] == pytest.approx(np.log(7))


def test_recall_is_by_the_emotion_of_the_majority():
    votes = rows({"sad": 9}, {"sad": 9}, {"fear": 9}, {"sad": 4, "fear": 4, "happy": 2})
    answers = np.eye(7, dtype=np.float32)[
        [EMOTIONS.index(e) for e in ("sad", "fear", "fear", "sad")]
    ]
    scores = vote_metrics(votes, EMOTIONS, answers)
    assert scores["clear_images"] == 3
    assert scores["clear_accuracy"] == pytest.approx(2 / 3)
    assert scores["clear_balanced_accuracy"] == pytest.approx(0.75)
    recall = dict(zip(EMOTIONS, scores["majority_recall"], strict=True))
    assert (recall["sad"], recall["fear"], recall["happy"]) == (0.5, 1.0, 0.0)
    assert sum(scores["majority_support"]) == 3
    assert scores["agreement"] == pytest.approx((1 + 0 + 1 + 0.4) / 4)


def test_nothing_is_said_where_nobody_voted():
    votes, answers = rows({}, {"sad": 1}), np.full((2, 7), 1 / 7, np.float32)
    assert "agreement" not in vote_metrics(votes, EMOTIONS, answers)
    assert vote_metrics(votes[:1], EMOTIONS, answers[:1]) == {}


def test_epochs_and_folds_are_chosen_by_agreement_where_it_is_known():
    assert selection_score({"val_accuracy": 1, "val_agreement": 1}) == "val_agreement"
    assert selection_score(["loss", "val_accuracy"]) == "val_accuracy"
