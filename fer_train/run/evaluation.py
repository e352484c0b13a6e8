"""A run folder -> the scores of its models: fold by fold, over folds, and merged over all images.

A score of a model is the mean over its folds. Beside it stand the scores of the merged out-of-fold
predictions: one for each image, by the fold that held it out.
"""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import combinations
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.run.folder import PREDICTIONS, Run, RunFold, read_arrays
from fer_train.run.metrics import (
    PairedTest,
    Spread,
    classification_metrics,
    holm,
    normalise_confusion,
    paired_test,
    spread,
)
from fer_train.run.recipes import Recipe
from fer_train.run.votes import vote_metrics

MIN_TEST_FOLDS = 5
"""With fewer folds, differences that are equal by chance pass for certain ones."""


@dataclass(frozen=True)
class Predictions:
    """Predictions of held-out images, in the order of their numbers.

    Attributes:
        index: (N,) int64 numbers of the images in the data set, each once.
        fold: (N,) int64 fold that held each out.
        labels: (N,) int64 true classes.
        probabilities: (N, K) float32.
    """

    index: NDArray[np.int64]
    fold: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]


@dataclass(frozen=True)
class ModelEvaluation:
    """All finished folds of one model of a run.

    Attributes:
        run: The run.
        model: Name of the model.
        folds: The finished folds.
        predictions: Their predictions, merged.
    """

    run: Run
    model: str
    folds: Sequence[RunFold]
    predictions: Predictions

    @property
    def recipe(self) -> Recipe:
        """The model's settings."""
        return self.run.recipes[self.model]

    @property
    def labels(self) -> tuple[str, ...]:
        """The emotions, in the order of the classes."""
        return self.run.protocol.labels

    @property
    def is_complete(self) -> bool:
        """Whether all folds of the run are done."""
        return len(self.folds) == len(self.run.folds)

    @cached_property
    def merged(self) -> dict[str, Any]:
        """Scores of the merged out-of-fold predictions.

        See `classification_metrics` and, where the run keeps votes, `vote_metrics`.
        """
        probabilities = self.predictions.probabilities
        scores = classification_metrics(self.predictions.labels, probabilities)
        if self.run.votes is not None:
            votes = self.run.votes[self.predictions.index]
            scores |= vote_metrics(votes, self.labels, probabilities)
        return scores

    def values(self, name: str) -> list[float]:
        """Return one score of each fold."""
        return [float(fold.score[name]) for fold in self.folds]

    def spread(self, name: str) -> Spread:
        """Return mean and standard deviation of a score over the folds."""
        return spread(self.values(name))

    @property
    def mean_confusion(self) -> NDArray[np.float64]:
        """The folds' confusion matrices, each normalised by true class, averaged: (K, K).

        A class is averaged over the folds that have images of it; where none has, it is 0.
        """
        counts = [np.asarray(fold.score["confusion"]) for fold in self.folds]
        total = np.sum([normalise_confusion(matrix) for matrix in counts], axis=0)
        known = np.sum([matrix.any(axis=1) for matrix in counts], axis=0)
        return np.asarray(total / np.maximum(known, 1)[:, None], np.float64)


def evaluate_model(run: Run, model: str, *, partial: bool = False) -> ModelEvaluation:
    """Read the folds of one model and check that they fit together.

    Args:
        run: The run.
        model: One of its models.
        partial: Whether folds may still be missing.

    Raises:
        RunError: Folds are missing, two of them hold out the same image, or a file is damaged.
    """
    planned = run.folds_of(model)
    done = [fold for fold in planned if fold.is_done]
    if not done or (len(done) < len(planned) and not partial):
        missing = [fold.index for fold in planned if not fold.is_done]
        hint = "; or report on the others with --partial" if done else ""
        raise RunError(
            f"Expected all folds of {model} in {run.folder} to be done, missing "
            f"{', '.join(map(str, missing))}; start fer-train all on it again{hint}"
        )
    parts = {fold.index: read_arrays(fold.folder / PREDICTIONS) for fold in done}
    predictions = merge_predictions(parts, f"{model} in {run.folder}")
    for fold in done:
        if not np.array_equal(np.sort(parts[fold.index]["index"]), np.sort(fold.split.test)):
            raise RunError(
                f"Expected {fold} to hold out the images that folds.json gives it, received "
                "others; delete that fold and train it again"
            )
    if len(done) == len(planned) > 1:
        parts_of_all = [part for fold in run.folds for part in (fold.train, fold.inner, fold.test)]
        everyone = np.unique(np.concatenate(parts_of_all))
        if missing_images := np.setdiff1d(everyone, predictions.index).size:
            raise RunError(
                f"Expected each image to be held out, received {missing_images} that no fold of "
                f"{model} in {run.folder} holds out; plan the run again"
            )
    # Damaged files are told of here, not in the middle of a report.
    for fold in done:
        _ = fold.score, fold.curves
    return ModelEvaluation(run, model, done, predictions)


def evaluate_run(run: Run, *, partial: bool = False) -> list[ModelEvaluation]:
    """Evaluate all models of a run; with ``partial`` those that have a finished fold.

    Raises:
        RunError: Folds are missing, or see `evaluate_model`.
    """
    started = [
        model
        for model in run.recipes
        if not partial or any(fold.is_done for fold in run.folds_of(model))
    ]
    if not started:
        raise RunError(f"Expected finished folds in {run.folder}, received none; train it first")
    return [evaluate_model(run, model, partial=partial) for model in started]


def merge_predictions(
    parts: Mapping[int, Mapping[str, NDArray[Any]]], source: str = "the run"
) -> Predictions:
    """Merge the predictions of folds into one per image.

    Args:
        parts: Fold index -> arrays ``index`` (n,), ``label`` (n,) and ``probabilities`` (n, K).
        source: What the folds are of, for messages.

    Raises:
        RunError: An image is held out twice; names the folds.
    """
    for (one, first), (other, second) in combinations(parts.items(), 2):
        if common := np.intersect1d(first["index"], second["index"]).size:
            raise RunError(
                f"Expected each image to be held out once, received {common} that folds {one} and "
                f"{other} of {source} both hold out; delete the wrong fold and train it again"
            )
    for key, part in parts.items():
        if np.unique(part["index"]).size != part["index"].size:
            raise RunError(
                f"Expected each image to be held out once, received some twice in fold {key} of "
                f"{source}; delete it and train it again"
            )
    index = np.concatenate([part["index"] for part in parts.values()])
    order = np.argsort(index, kind="stable")
    fold = np.concatenate([np.full(len(part["index"]), key) for key, part in parts.items()])
    labels = np.concatenate([part["label"] for part in parts.values()])
    probabilities = np.concatenate([part["probabilities"] for part in parts.values()])
    return Predictions(index[order], fold[order], labels[order], probabilities[order])


def predictions_csv(predictions: Predictions, labels: Sequence[str]) -> str:
    """Return merged predictions as a csv: image number, fold, true and likeliest emotion, all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "fold", "emotion", "predicted", *labels])
    for index, fold, label, row in zip(
        predictions.index.tolist(),
        predictions.fold.tolist(),
        predictions.labels.tolist(),
        predictions.probabilities,
        strict=True,
    ):
        values = [f"{value:.6f}" for value in row.tolist()]
        writer.writerow([index, fold, labels[label], labels[int(row.argmax())], *values])
    return text.getvalue()


@dataclass(frozen=True)
class Comparison:
    """Whether two models differ by more than chance.

    Attributes:
        first: One model.
        second: The other.
        test: The paired test on top-1 over the folds that both have, or None where there are
            fewer than two.
        p_adjusted: Its p-value, adjusted for the number of tests, or None.
    """

    first: ModelEvaluation
    second: ModelEvaluation
    test: PairedTest | None
    p_adjusted: float | None

    @property
    def verdict(self) -> str:
        """What the test says at a level of 5 %, in words."""
        if self.test is None or self.p_adjusted is None:
            return "not tested: fewer than two common folds"
        if self.test.folds < MIN_TEST_FOLDS:
            return f"open: {self.test.folds} folds are too few to tell"
        if self.p_adjusted < 0.05:
            return "differs by more than chance"
        return "no difference shown"


def compare_models(evaluations: Sequence[ModelEvaluation]) -> list[Comparison]:
    """Test each pair of models that were evaluated on the same folds, on top-1.

    Pairs of other data or folds are left out: their scores are not paired.
    """
    pairs = [
        (first, second)
        for first, second in combinations(evaluations, 2)
        if _same_folds(first.run, second.run)
    ]
    tests = [_test(first, second) for first, second in pairs]
    adjusted = iter(holm([test.p for test in tests if test]))
    return [
        Comparison(first, second, test, next(adjusted) if test else None)
        for (first, second), test in zip(pairs, tests, strict=True)
    ]


def _test(first: ModelEvaluation, second: ModelEvaluation) -> PairedTest | None:
    by_fold = [{fold.index: fold for fold in side.folds} for side in (first, second)]
    common = sorted(by_fold[0].keys() & by_fold[1].keys())
    pairs = [(by_fold[0][index], by_fold[1][index]) for index in common]
    if not pairs:
        return None
    return paired_test(
        [one.score["accuracy"] for one, _ in pairs],
        [other.score["accuracy"] for _, other in pairs],
        float(np.mean([one.split.test.size / one.split.train.size for one, _ in pairs])),
    )


def _same_folds(first: Run, second: Run) -> bool:
    return (
        first.dataset_digest == second.dataset_digest
        and len(first.folds) == len(second.folds)
        and all(
            np.array_equal(one.test, other.test)
            for one, other in zip(first.folds, second.folds, strict=True)
        )
    )
