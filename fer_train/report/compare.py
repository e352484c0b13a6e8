"""Evaluated models side by side: tables of scores, of tests and of seeds, for page and terminal."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from fer_train.report.document import Block, Heading, Table, Text
from fer_train.run.bootstrap import RESAMPLES, Interval
from fer_train.run.comparison import (
    MIN_TEST_FOLDS,
    Comparison,
    SeedGroup,
    compare_models,
    group_seeds,
    same_folds,
)
from fer_train.run.evaluation import ModelEvaluation, run_names
from fer_train.run.metrics import seed_spread, spread
from fer_train.run.votes import VOTE_SCORES, format_vote_score

NONE = "-"

SCORES = {
    "accuracy": "top-1",
    "balanced_accuracy": "balanced accuracy",
    "binary_accuracy": "binary accuracy",
    "log_loss": "log-loss",
    "auc_macro": "AUC",
    "precision_macro": "precision, macro",
    "recall_macro": "recall, macro",
    "f1_macro": "F1, macro",
    "precision_weighted": "precision, weighted",
    "recall_weighted": "recall, weighted",
    "f1_weighted": "F1, weighted",
    "expected_calibration_error": "calibration error",
}
_NOT_SHARES = ("log_loss", "auc_macro", "loss")

_SPREAD = (
    'Scores are means over the folds, ± their sample standard deviation (ddof 1). "All folds '
    "merged\" scores the out-of-fold predictions of all images together. The thesis's standard "
    "deviations are those of the population (ddof 0), as its per-fold figures show."
)
_INTERVALS = (
    "In brackets stand 95 % bootstrap intervals (percentiles of {resamples:,} resamples of the "
    "images that are held out, by whole people or clips where `groups` tell them): how far a score "
    "would move with other images, not with another training."
)
_BASELINES = (
    "`majority` always predicts the most frequent emotion of the training images, `prior` predicts "
    "how frequent each of them is: what a score is without looking at the images."
)
_SEEDS = (
    "`sd of folds` is the standard deviation of the folds, each the mean over its seeds: other "
    "images. `sd of seeds` is that of the seeds within a fold: another start of the same training "
    "on the same images. `sd of seeds' means` is that of the means over all folds, by which the "
    "score of a whole cross-validation moves with its seed. All are sample standard deviations "
    "(ddof 1)."
)


@dataclass(frozen=True)
class ScoreColumn:
    """What stands in a column of a table of scores: a model, or what needs no model.

    Attributes:
        title: Its name.
        labels: The emotions.
        recipe: Name of its recipe.
        folds: How many folds are done, in words.
        scores: Of each fold.
        merged: Of all images.
        intervals: Of these, where they are known.
    """

    title: str
    labels: Sequence[str]
    recipe: str
    folds: str
    scores: Sequence[Mapping[str, Any]]
    merged: Mapping[str, Any]
    intervals: Mapping[str, Interval]


def score_columns(
    evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]
) -> list[ScoreColumn]:
    """Return a column for each model and, for each set of folds, those of the baselines."""
    columns = [
        ScoreColumn(
            names[id(each)],
            each.labels,
            each.recipe.name,
            folds_done(each),
            [fold.score for fold in each.folds],
            each.merged,
            each.intervals,
        )
        for each in evaluations
    ]
    known: list[ModelEvaluation] = []
    for each in evaluations:
        if each.baselines and not any(same_folds(each.run, other.run) for other in known):
            known.append(each)
    runs = run_names(evaluations)
    for each in known:
        prefix = "" if len(known) == 1 else f"{runs[each.run.folder.resolve()]}: "
        columns += [
            ScoreColumn(
                prefix + baseline.name,
                each.labels,
                NONE,
                folds_done(each),
                baseline.scores,
                baseline.merged,
                {},
            )
            for baseline in each.baselines
        ]
    return columns


def score_blocks(columns: Sequence[ScoreColumn]) -> list[Block]:
    """Make the tables of scores over the folds and of all folds merged."""
    header = ["score", *(column.title for column in columns)]
    over_folds = {**SCORES, "training_s": "training, s"}
    return [
        Table(
            "Scores over the folds",
            header,
            [
                ["recipe", *(column.recipe for column in columns)],
                ["folds", *(column.folds for column in columns)],
                *(
                    [title, *(format_spread(name, column.scores) for column in columns)]
                    for name, title in over_folds.items()
                ),
            ],
        ),
        Text(f"{_SPREAD} {_BASELINES}"),
        Table(
            "Scores of all folds merged",
            header,
            [
                ["images", *(f"{column.merged['images']:,}" for column in columns)],
                *(
                    [title, *(with_interval(name, column) for column in columns)]
                    for name, title in SCORES.items()
                ),
            ],
        ),
        Text(_INTERVALS.format(resamples=RESAMPLES)),
    ]


def seed_blocks(evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]) -> list[Block]:
    """Tell the spread of seeds from that of folds, of each model that has several seeds."""
    every = group_seeds(evaluations)
    groups, titles = [each for each in every if len(each.members) > 1], _group_names(every, names)
    if not groups:
        return []
    blocks: list[Block] = [Heading("Seeds and folds")]
    for group in groups:
        rows = []
        for name, title in SCORES.items():
            values = group.values(name)
            if not np.isnan(values).any():
                mean, *spreads = seed_spread(values)
                rows.append([title, *(format_score(name, value) for value in (mean, *spreads))])
        seeds = ", ".join(str(member.run.protocol.seed) for member in group.members)
        blocks.append(
            Table(
                f"{titles[id(group.members[0])]} ({seeds}) on {len(group.folds)} folds",
                ["score", "mean", "sd of folds", "sd of seeds", "sd of seeds' means"],
                rows,
            )
        )
    return [*blocks, Text(_SEEDS)]


def difference_blocks(
    evaluations: Sequence[ModelEvaluation], names: Mapping[int, str]
) -> list[Block]:
    """Test which models differ; nothing where there is but one."""
    groups = group_seeds(evaluations)
    if len(groups) < 2:
        return []
    titles = _group_names(groups, names)
    blocks: list[Block] = [Heading("Which models differ")]
    comparisons = compare_models(evaluations)
    if not comparisons:
        return [*blocks, Text("No two models were evaluated on the same folds: nothing is paired.")]
    return [
        *blocks,
        Table(
            "Paired tests on top-1 over the folds",
            ["models", "folds", "difference, points", "t", "p", "p, adjusted", "at 5 %"],
            [
                [_pair_name(pair, titles), *_fold_test_cells(pair), pair.verdict]
                for pair in comparisons
            ],
        ),
        Text(
            "The test is the corrected resampled t-test (Nadeau and Bengio, Inference for the "
            "Generalization Error, Machine Learning 52, 2003), which allows for the overlap of the "
            "folds' training images; p is adjusted for the number of tests (Holm). Only models "
            f"evaluated on the same folds of the same data are paired. With fewer than "
            f"{MIN_TEST_FOLDS} folds no finding is not a finding of equality."
        ),
        Table(
            "McNemar's test on top-1, image by image",
            ["models", "only the first right", "only the second right", "p", "p, adjusted"],
            [[_pair_name(pair, titles), *_image_test_cells(pair)] for pair in comparisons],
        ),
        Text(
            "McNemar's exact test (Psychometrika 12, 1947) takes the images as independent and "
            "asks whether these trained models are right about equally many images such as these; "
            "it knows nothing of how another training would end. On one split it is the test that "
            "there is. It is not made of means over several seeds."
        ),
    ]


def _pair_name(pair: Comparison, titles: Mapping[int, str]) -> str:
    return " - ".join(titles[id(side.members[0])] for side in (pair.first, pair.second))


def _fold_test_cells(pair: Comparison) -> list[str]:
    test = pair.test
    if test is None or pair.p_adjusted is None:
        return [NONE] * 5
    return [
        str(test.folds),
        f"{test.difference * 100:+.2f}",
        f"{test.t:.2f}",
        _p_text(test.p),
        _p_text(pair.p_adjusted),
    ]


def _p_text(p: float) -> str:
    # No p is 0.
    return f"{p:.4f}" if p >= 0.00005 else "<0.0001"


def _image_test_cells(pair: Comparison) -> list[str]:
    test = pair.images
    if test is None or pair.images_p_adjusted is None:
        return [NONE] * 4
    return [
        f"{test.first_only:,}",
        f"{test.second_only:,}",
        _p_text(test.p),
        _p_text(pair.images_p_adjusted),
    ]


def model_names(evaluations: Sequence[ModelEvaluation]) -> dict[int, str]:
    """Name each model, by the `id` of its evaluation; with its run where there are several."""
    runs = run_names(evaluations)
    if len(runs) == 1:
        return {id(evaluation): evaluation.model for evaluation in evaluations}
    return {
        id(evaluation): f"{runs[evaluation.run.folder.resolve()]}: {evaluation.model}"
        for evaluation in evaluations
    }


def _group_names(groups: Sequence[SeedGroup], names: Mapping[int, str]) -> dict[int, str]:
    """Name each group, by the `id` of its first member: several seeds by the model, if that tells.

    Args:
        groups: All that are named beside one another.
        names: Of their members.
    """
    models = Counter(group.members[0].model for group in groups)
    found = {}
    for group in groups:
        first, count = group.members[0], len(group.members)
        name = first.model if count > 1 and models[first.model] == 1 else names[id(first)]
        found[id(first)] = name if count == 1 else f"{name}, {count} seeds"
    return found


def folds_done(evaluation: ModelEvaluation) -> str:
    """Return how many folds are done, such as ``10`` or ``3 of 10``."""
    done, planned = len(evaluation.folds), len(evaluation.run.folds)
    return str(done) if done == planned else f"{done} of {planned}"


def format_score(name: str, value: float | None) -> str:
    """Write a score as percent, or as a number where it is none; a dash where there is none."""
    if value is None or np.isnan(value):
        return NONE
    if name in VOTE_SCORES and name not in SCORES:
        return format_vote_score(name, value)
    if name in ("training_s", "evaluation_s"):
        return f"{value:.1f}"
    return f"{value:.4f}" if name in _NOT_SHARES else f"{value:.2%}"


def format_spread(name: str, scores: Sequence[Mapping[str, Any]]) -> str:
    """Write mean and standard deviation of a score over folds; a dash where some lack it."""
    if any(name not in score for score in scores):
        return NONE
    mean, sd = spread([score[name] for score in scores])
    text = format_score(name, mean)
    return text if sd is None else f"{text} ± {format_score(name, sd).rstrip('%')}"


def format_interval(name: str, interval: Interval) -> str:
    """Write an interval in brackets, such as ``[65.90, 67.30]``."""
    low, high = (format_score(name, edge).rstrip("%") for edge in interval)
    return f"[{low}, {high}]"


def with_interval(name: str, column: ScoreColumn) -> str:
    """Write a score of all images with its interval, where that is known."""
    text = format_score(name, column.merged.get(name))
    if name not in column.intervals:
        return text
    return f"{text} {format_interval(name, column.intervals[name])}"
