"""Votes and probabilities -> how far a model agrees with people; pure functions.

Two people often see different things in a face, so that a model is measured by how often it says
what somebody said, beside how often two people say the same. The votes are those for the emotions
at hand; contempt, unknown and no face do not count, and images count of which at least
`LEAST_VOTES` are left. Definitions stand in `VOTE_SCORES`.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from fer_train.data.votes import Votes, emotion_votes
from fer_train.run.metrics import Labels, Probabilities, classification_metrics

LEAST_VOTES = 5
"""Votes for the emotions that an image needs to be counted in agreement."""


class Explained(NamedTuple):
    """A score's name for people, and what it is in one sentence."""

    title: str
    meaning: str


VOTE_SCORES = {
    "agreement": Explained(
        "agreement with a rater",
        "the probability that the likeliest emotion is what one of the image's raters, drawn at "
        f"random, saw; over images with at least {LEAST_VOTES} votes for the emotions",
    ),
    "human_agreement": Explained(
        "agreement of two raters",
        "the probability that two raters of such an image, drawn at random, saw the same",
    ),
    "agreement_ceiling": Explained(
        "ceiling of agreement",
        "the agreement with a rater of the best single prediction that there can be: the emotion "
        "of most votes",
    ),
    "clear_accuracy": Explained(
        "top-1 on clear majorities",
        "the share of images whose likeliest emotion is the majority's, where one emotion has at "
        "least half of all votes and more than any other",
    ),
    "clear_balanced_accuracy": Explained(
        "mean recall on clear majorities",
        "the recall of each emotion on images whose clear majority it is, averaged over the "
        "emotions",
    ),
    "vote_log_loss": Explained(
        "log-loss to the votes",
        "the mean cross-entropy of the probabilities from the shares of the votes, in nats",
    ),
    "vote_entropy": Explained(
        "entropy of the votes",
        "the log-loss of a model that predicts the votes' own shares: the least there can be",
    ),
    "accuracy": Explained(
        "top-1 on the data set's labels",
        "the share of images whose likeliest emotion is the label that the data set came with",
    ),
}
"""What is said of a model wherever votes are known: name -> title and meaning."""


def format_vote_score(name: str, value: float) -> str:
    """Write a score of `VOTE_SCORES` as people read it: shares of images in percent."""
    share = name in ("clear_accuracy", "clear_balanced_accuracy", "accuracy")
    return f"{value:.2%}" if share else f"{value:.3f}"


def counted(votes: Votes, labels: Sequence[str]) -> NDArray[np.bool_]:
    """Tell which images have enough votes for the emotions: (N,)."""
    return np.asarray(emotion_votes(votes, labels).sum(axis=1) >= LEAST_VOTES)


def vote_shares(votes: Votes, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the shares (N, K) of the votes for the emotions; 0 where there are none."""
    own = emotion_votes(votes, labels)
    return np.asarray(own / np.maximum(own.sum(axis=1, keepdims=True), 1), np.float64)


def majorities(votes: Votes, labels: Sequence[str]) -> NDArray[np.int64]:
    """Return the class of each image's clear majority, or -1: (N,).

    It has at least half of all votes, and more than any other kind of vote.
    """
    own = emotion_votes(votes, labels)
    most = own.max(axis=1)
    rivals = (votes == most[:, None]).sum(axis=1)
    clear = (most > 0) & (2 * most >= votes.sum(axis=1)) & (rivals == 1)
    return np.where(clear, own.argmax(axis=1), -1)


def agreement(votes: Votes, labels: Sequence[str], classes: NDArray[np.int64]) -> float:
    """Return the agreement of predicted classes (N,) with a rater; NaN where no image counts."""
    chosen = counted(votes, labels)
    shares = vote_shares(votes, labels)
    return _mean(shares[np.arange(len(shares)), classes][chosen])


def human_agreement(votes: Votes, labels: Sequence[str]) -> float:
    """Return how often two raters of an image saw the same; NaN of no image.

    Of n votes and shares p: the sum of p (n p - 1) / (n - 1) over the emotions.
    """
    own = emotion_votes(votes, labels)[counted(votes, labels)]
    total = own.sum(axis=1)
    return _mean((own * (own - 1)).sum(axis=1) / np.maximum(total * (total - 1), 1))


def entropies(votes: Votes, labels: Sequence[str]) -> NDArray[np.float64]:
    """Return the entropy of each image's votes for the emotions, nats: (N,)."""
    shares = vote_shares(votes, labels)
    logs = np.log(np.maximum(shares, np.finfo(np.float64).tiny))
    return np.asarray(-(shares * logs).sum(axis=1) + 0.0)


def ceiling(votes: Votes, labels: Sequence[str]) -> float:
    """Return the agreement of the best single prediction there can be; NaN of no image."""
    return _mean(vote_shares(votes, labels)[counted(votes, labels)].max(axis=1))


def vote_metrics(
    votes: Votes, labels: Sequence[str], probabilities: Probabilities
) -> dict[str, Any]:
    """Compute how far probabilities agree with votes.

    Args:
        votes: (N, 10).
        labels: The K emotions.
        probabilities: (N, K) float32.

    Returns:
        Plain numbers and lists for JSON, named as `VOTE_SCORES` but for ``accuracy``, with
        ``agreement_images`` and ``clear_images``; ``majority_recall`` and ``majority_support`` have
        an entry for each emotion. What no image has votes for is left out.
    """
    chosen, clear = counted(votes, labels), majorities(votes, labels)
    predicted = probabilities.argmax(axis=1)
    scores: dict[str, Any] = {}
    if chosen.any():
        shares = vote_shares(votes, labels)[chosen]
        logs = np.log(np.maximum(probabilities[chosen].astype(np.float64), 1e-7))
        scores = {
            "agreement_images": int(chosen.sum()),
            "agreement": agreement(votes, labels, predicted),
            "human_agreement": human_agreement(votes, labels),
            "agreement_ceiling": ceiling(votes, labels),
            "vote_log_loss": float(-(shares * logs).sum(axis=1).mean()),
            "vote_entropy": float(entropies(votes, labels)[chosen].mean()),
        }
    if (clear >= 0).any():
        right = (predicted == clear)[clear >= 0]
        support = np.bincount(clear[clear >= 0], minlength=len(labels))
        hits = np.bincount(clear[clear >= 0][right], minlength=len(labels))
        recall = hits / np.maximum(support, 1)
        scores |= {
            "clear_images": len(right),
            "clear_accuracy": float(right.mean()),
            "clear_balanced_accuracy": float(recall[support > 0].mean()),
            "majority_recall": recall.tolist(),
            "majority_support": support.tolist(),
        }
    return scores


def all_scores(
    truth: Labels, probabilities: Probabilities, labels: Sequence[str], votes: Votes | None
) -> dict[str, Any]:
    """Score predictions by labels and, where there are any, by votes.

    Args:
        truth: (N,) int64 true classes.
        probabilities: (N, K) float32.
        labels: The K emotions.
        votes: (N, 10), or None.

    Returns:
        What `classification_metrics` and `vote_metrics` return.
    """
    scores = classification_metrics(truth, probabilities)
    return scores if votes is None else scores | vote_metrics(votes, labels, probabilities)


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")
