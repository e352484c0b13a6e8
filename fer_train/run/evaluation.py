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
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_edge.records import plain_cell
from fer_train.data.votes import Votes
from fer_train.run.bootstrap import (
    Interval,
    Weights,
    bootstrap_intervals,
    weighted_scores,
    weighted_vote_scores,
)
from fer_train.run.folder import PREDICTIONS, Run, RunFold, read_arrays
from fer_train.run.metrics import (
    Spread,
    normalise_confusion,
    spread,
)
from fer_train.run.recipes import Recipe
from fer_train.run.votes import all_scores


@dataclass(frozen=True)
class Predictions:
    """Predictions of held-out images, in the order of their numbers.

    Attributes:
        index: (N,) int64 numbers of the images in the data set, each once.
        fold: (N,) int64 fold that held each out.
        labels: (N,) int64 true classes.
        probabilities: (N, K) float32.
        names: (N,) str files, or other names, of the images; "" in runs that did not keep them.
    """

    index: NDArray[np.int64]
    fold: NDArray[np.int64]
    labels: NDArray[np.int64]
    probabilities: NDArray[np.float32]
    names: NDArray[np.str_]

    @property
    def right(self) -> NDArray[np.bool_]:
        """Whether the likeliest emotion is the true one: (N,)."""
        return np.asarray(self.probabilities.argmax(axis=1) == self.labels)


@dataclass(frozen=True)
class Baseline:
    """What a model scores that sees no image and knows but the labels of the training images.

    Attributes:
        name: ``majority`` always predicts the most frequent one; ``prior`` how frequent each is.
        scores: Of each fold, in the order of the evaluation's.
        merged: Of all images.
    """

    name: Literal["majority", "prior"]
    scores: Sequence[Mapping[str, Any]]
    merged: Mapping[str, Any]


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
        return self._scores(self.predictions.probabilities)

    @cached_property
    def intervals(self) -> dict[str, Interval]:
        """The 95 % bootstrap interval of each of these scores, by person or clip where known."""
        predictions, votes, groups = self.predictions, self._votes, self.run.groups
        parts = [weighted_scores(predictions.labels, predictions.probabilities)]
        if votes is not None:
            parts.append(weighted_vote_scores(votes, self.labels, predictions.probabilities))

        def scores(weights: Weights) -> dict[str, float]:
            return {name: value for part in parts for name, value in part(weights).items()}

        own = None if groups is None else groups[predictions.index]
        return bootstrap_intervals(scores, len(predictions.index), own)

    @cached_property
    def baselines(self) -> list[Baseline]:
        """What needs no image; nothing of older runs, which do not tell what they trained on."""
        if any("training_support" not in fold.score for fold in self.folds):
            return []
        return [self._baseline("majority"), self._baseline("prior")]

    def _baseline(self, name: Literal["majority", "prior"]) -> Baseline:
        probabilities = np.zeros_like(self.predictions.probabilities)
        scores = []
        for fold in self.folds:
            counts = np.asarray(fold.score["training_support"], np.float32)
            own = self.predictions.fold == fold.index
            constant = np.eye(len(counts))[counts.argmax()] if name == "majority" else counts
            probabilities[own] = constant / constant.sum()
            scores.append(self._scores(probabilities, own))
        return Baseline(name, scores, self._scores(probabilities))

    @property
    def _votes(self) -> Votes | None:
        return None if self.run.votes is None else self.run.votes[self.predictions.index]

    def _scores(
        self, probabilities: NDArray[np.float32], chosen: NDArray[np.bool_] | slice = slice(None)
    ) -> dict[str, Any]:
        """Score predictions (N, K) for the images, or to some of these."""
        votes, labels = self._votes, self.predictions.labels[chosen]
        return all_scores(
            labels, probabilities[chosen], self.labels, None if votes is None else votes[chosen]
        )

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


def run_names(evaluations: Sequence[ModelEvaluation]) -> dict[Path, str]:
    """Name each run by its folder, with as many of those above it as tell it from the others."""
    folders = list(dict.fromkeys(each.run.folder.resolve() for each in evaluations))
    parts = 1
    while len({folder.parts[-parts:] for folder in folders}) < len(folders):
        parts += 1
    return {folder: "/".join(folder.parts[-parts:]).lstrip("/") for folder in folders}


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
    names = np.concatenate(
        [
            np.char.decode(part["name"], "utf-8")
            if "name" in part
            else np.full(part["index"].size, "")
            for part in parts.values()
        ]
    )
    return Predictions(index[order], fold[order], labels[order], probabilities[order], names[order])


def predictions_csv(predictions: Predictions, labels: Sequence[str]) -> str:
    """Return merged predictions as a csv: image, fold, true and likeliest emotion, all."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["index", "name", "fold", "emotion", "predicted", *labels])
    for index, name, fold, label, row in zip(
        predictions.index.tolist(),
        map(plain_cell, predictions.names.tolist()),
        predictions.fold.tolist(),
        predictions.labels.tolist(),
        predictions.probabilities,
        strict=True,
    ):
        values = [f"{value:.6f}" for value in row.tolist()]
        writer.writerow([index, name, fold, labels[label], labels[int(row.argmax())], *values])
    return text.getvalue()
