"""The test sets that papers print, one by one: blocks of a report."""

from collections.abc import Mapping, Sequence
from typing import Any

from fer_train.report.document import Block, Heading, Table, Text
from fer_train.run.evaluation import ModelEvaluation

NONE = "-"
_TITLES = {
    "accuracy": "top-1",
    "balanced_accuracy": "balanced accuracy",
    "binary_accuracy": "binary accuracy",
    "f1_macro": "F1, macro",
    "agreement": "agreement with a rater",
}
_NUMBERS = ("agreement",)
_ABOUT = (
    "Papers print PublicTest, PrivateTest, or both as one, as the folder `test` of FER-2013's "
    "archive has them. A copy is an image of which the data set has an identical or nearly "
    "identical one outside of the test set; whether that one trains is said by `grouping`, which "
    "keeps such images out of training unless it is `none`. Scores without copies are over the "
    "other images alone."
)


def usage_blocks(evaluations: Sequence[ModelEvaluation], names: Sequence[str]) -> list[Block]:
    """Report the scores of each test set by itself, and without copies.

    Args:
        evaluations: The models.
        names: What each is called.

    Returns:
        Nothing where all have one test set without copies.
    """
    rows = [
        [name, str(fold.index), usage, *cells]
        for evaluation, name in zip(evaluations, names, strict=True)
        for fold in evaluation.folds
        for usage, own in fold.score.get("tests", {}).items()
        for cells in _cells(own)
    ]
    if not rows:
        return []
    header = ["model", "fold", "test set", "images", *_TITLES.values()]
    return [Heading("Test sets one by one"), Text(_ABOUT), Table("Test sets", header, rows)]


def _cells(own: Mapping[str, Any]) -> list[list[str]]:
    """Return the cells of a test set, and of the same without copies."""
    rows = [[f"{own['images']:,}, of these {own['copies']:,} copies", *_scores(own)]]
    if "without_copies" in own:
        other = own["without_copies"]
        rows.append([f"{other['images']:,} without copies", *_scores(other)])
    return rows


def _scores(own: Mapping[str, Any]) -> list[str]:
    return [
        NONE if name not in own else f"{own[name]:.3f}" if name in _NUMBERS else f"{own[name]:.2%}"
        for name in _TITLES
    ]
