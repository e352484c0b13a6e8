import numpy as np
import pytest
from sklearn import metrics as sk

from fer_edge.contract import EMOTIONS
from fer_train.run.bootstrap import bootstrap_intervals, weighted_scores, weighted_vote_scores
from fer_train.run.metrics import classification_metrics
from fer_train.run.votes import vote_metrics
from tests.support.predictions import drawn_predictions


@pytest.fixture
def predictions():
    labels, probabilities = drawn_predictions()
    # Rounded, so that some are equal.
    return labels, probabilities.round(2)


def test_images_that_all_count_once_have_the_scores_of_the_images(predictions):
    expected = classification_metrics(*predictions)
    found = weighted_scores(*predictions)(np.ones(400))
    assert set(found) == {
        name for name, value in expected.items() if isinstance(value, float) and name != "images"
    }
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-6), name


def test_images_that_count_several_times_have_the_scores_of_so_many_copies(predictions):
    labels, probabilities = predictions
    times = np.random.default_rng(0).integers(0, 4, 400)
    # A class that no image of the resample has.
    times[labels == 2] = 0
    expected = classification_metrics(labels.repeat(times), probabilities.repeat(times, axis=0))
    found = weighted_scores(labels, probabilities)(times.astype(float))
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-6), name
    area = sk.roc_auc_score(labels == 3, probabilities[:, 3], sample_weight=times)
    assert 0.5 < area < 1


def test_votes_count_as_often_as_their_images(predictions):
    _, probabilities = predictions
    rng = np.random.default_rng(1)
    votes = rng.multinomial(10, [0.5, 0.1, 0.1, 0.1, 0.05, 0.05, 0.02, 0.03, 0.03, 0.02], 400)
    times = rng.integers(0, 3, 400)
    found = weighted_vote_scores(votes, EMOTIONS, probabilities)(times.astype(float))
    expected = vote_metrics(votes.repeat(times, axis=0), EMOTIONS, probabilities.repeat(times, 0))
    assert len(found) == 4
    for name, value in found.items():
        assert value == pytest.approx(expected[name], abs=1e-6), name


def test_an_interval_of_a_share_is_as_wide_as_theory_says():
    rng = np.random.default_rng(0)
    labels = np.zeros(1000, np.int64)
    answers = (rng.random(1000) > 0.7).astype(int)
    probabilities = np.eye(2, dtype=np.float32)[answers]
    low, high = bootstrap_intervals(weighted_scores(labels, probabilities), 1000)["accuracy"]
    share = float((answers == 0).mean())
    half = 1.96 * np.sqrt(share * (1 - share) / 1000)
    assert low == pytest.approx(share - half, abs=0.004)
    assert high == pytest.approx(share + half, abs=0.004)


def test_groups_that_stand_or_fall_together_make_intervals_wider():
    labels = np.zeros(1000, np.int64)
    people = np.arange(1000) // 50
    probabilities = np.eye(2, dtype=np.float32)[people % 2]
    scores = weighted_scores(labels, probabilities)
    alone = bootstrap_intervals(scores, 1000)["accuracy"]
    grouped = bootstrap_intervals(scores, 1000, people)["accuracy"]
    # Fifty pictures of one person tell as little as one: the width grows by the root of 50.
    ratio = (grouped.high - grouped.low) / (alone.high - alone.low)
    assert ratio == pytest.approx(np.sqrt(50), rel=0.15)


def test_one_group_has_no_interval(predictions):
    scores = weighted_scores(*predictions)
    assert bootstrap_intervals(scores, 400, np.full(400, "one")) == {}


def test_the_same_seed_draws_the_same_intervals(predictions):
    scores = weighted_scores(*predictions)
    one, again, other = (bootstrap_intervals(scores, 400, resamples=50, seed=s) for s in (1, 1, 2))
    assert one == again != other
