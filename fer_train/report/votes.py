"""What people see in the images, and how far labels and models agree with them: report blocks."""

import csv
import io
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from fer_edge.records import plain_cell
from fer_train.data.load import USAGES, Dataset
from fer_train.data.votes import VOTE_KINDS, Votes, emotion_votes, vote_targets
from fer_train.report import plots
from fer_train.report.compare import NONE, ScoreColumn, format_spread, with_interval
from fer_train.report.document import Block, Gallery, Heading, Picture, Table, Text
from fer_train.run.votes import (
    LEAST_VOTES,
    VOTE_SCORES,
    agreement,
    ceiling,
    counted,
    entropies,
    human_agreement,
    majorities,
)

DISPUTED = 24
"""Disputed images that are shown."""
_COLUMNS = 6

_ABOUT = (
    "Several people have said what they see in each image. Two of them often see different things, "
    "so that a model, or a label, is measured by how often it says what a person said, beside how "
    "often two people say the same. The data set's own labels are another truth: a model is good "
    "at one or at the other."
)


def vote_blocks(columns: Sequence[ScoreColumn]) -> list[Block]:
    """Report how far models agree with votes; nothing where no run keeps any.

    Args:
        columns: The models, and what needs none.
    """
    voted = [column for column in columns if "agreement" in column.merged]
    if not voted:
        return []
    header = ["score", *(column.title for column in voted)]
    by_class = [
        Table(
            f"{column.title}: recall by the emotion of the clear majority, all folds merged",
            ["emotion", "recall", "images"],
            [
                [label, f"{recall:.2%}" if support else NONE, f"{support:,}"]
                for label, recall, support in zip(
                    column.labels,
                    column.merged["majority_recall"],
                    column.merged["majority_support"],
                    strict=True,
                )
            ],
        )
        for column in voted
        if "majority_recall" in column.merged and column.recipe != NONE
    ]
    return [
        Heading("Agreement with people"),
        Text(_ABOUT),
        _meanings(),
        Table(
            "Scores by votes over the folds",
            header,
            [
                [title, *(format_spread(score, column.scores) for column in voted)]
                for score, (title, _) in VOTE_SCORES.items()
            ],
        ),
        Table(
            "Scores by votes of all folds merged",
            header,
            [
                [title, *(with_interval(score, column) for column in voted)]
                for score, (title, _) in VOTE_SCORES.items()
            ]
            + [
                ["images counted in agreement", *_counts("agreement_images", voted)],
                ["images with a clear majority", *_counts("clear_images", voted)],
            ],
        ),
        *by_class,
    ]


def explore_blocks(dataset: Dataset, votes: Votes) -> list[Block]:
    """Show what people see in a data set: labels beside votes, disputed images, human agreement.

    Args:
        dataset: The images.
        votes: Theirs.
    """
    labels = dataset.label_names
    targets = vote_targets(votes, labels)
    shares = [("all", np.ones(len(dataset), np.bool_))]
    shares += [(usage, dataset.usage == usage) for usage in USAGES if usage in dataset.usage]
    columns = [_figures(dataset, votes, chosen) for _, chosen in shares]
    blocks: list[Block] = [
        Heading("What people see in the images"),
        Text(_ABOUT),
        Table(
            "Labels and people",
            ["figure", *(name for name, _ in shares)],
            [[title, *(column[title] for column in columns)] for title in columns[0]],
        ),
        Table(
            "Images that votes teach",
            ["kind", "images"],
            [
                ["train", f"{targets.trains.sum():,}"],
                *([f"kept out: {why}", f"{count:,}"] for why, count in targets.reasons.items()),
            ],
        ),
        _labels_table(dataset, votes),
        Text(
            "Each row is a label of the data set, each column the emotion that at least half of "
            "all votes and more than any other are for."
        ),
    ]
    disputed = disputed_picture(dataset, "disputed")
    return [*blocks, Gallery(disputed)] if disputed else blocks


def votes_csv(dataset: Dataset, votes: Votes) -> str:
    """Return a csv of all images with votes: label, clear majority, entropy, and the votes."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["name", "usage", "emotion", "majority", "entropy", *VOTE_KINDS])
    clear, doubt = majorities(votes, dataset.label_names), entropies(votes, dataset.label_names)
    for index in np.flatnonzero(votes.sum(axis=1) > 0).tolist():
        writer.writerow(
            [
                plain_cell(str(dataset.names[index])),
                dataset.usage[index],
                dataset.label_names[dataset.labels[index]],
                dataset.label_names[clear[index]] if clear[index] >= 0 else "",
                f"{doubt[index]:.4f}",
                *votes[index].tolist(),
            ]
        )
    return text.getvalue()


def _meanings() -> Text:
    return Text(" ".join(f"`{title}` is {meaning}." for title, meaning in VOTE_SCORES.values()))


def _counts(name: str, voted: Sequence[ScoreColumn]) -> list[str]:
    return [f"{column.merged.get(name, 0):,}" for column in voted]


def _figures(dataset: Dataset, votes: Votes, chosen: NDArray[np.bool_]) -> dict[str, str]:
    """Return what is said of some of the images, by title."""
    names = dataset.label_names
    own, labels = votes[chosen], dataset.labels[chosen]
    clear = majorities(own, names)
    known = clear >= 0
    right = float((clear == labels)[known].mean()) if known.any() else float("nan")
    shares = {
        "agreement of the data set's labels with a rater": agreement(own, names, labels),
        VOTE_SCORES["human_agreement"].title: human_agreement(own, names),
        VOTE_SCORES["agreement_ceiling"].title: ceiling(own, names),
        f"{VOTE_SCORES['vote_entropy'].title}, nats": _mean(
            entropies(own, names)[counted(own, names)]
        ),
    }
    return {
        "images": f"{len(own):,}",
        "images with known votes": f"{(own.sum(axis=1) > 0).sum():,}",
        f"images with {LEAST_VOTES} votes or more for the emotions": (
            f"{counted(own, names).sum():,}"
        ),
        **{title: NONE if value != value else f"{value:.3f}" for title, value in shares.items()},
        "images with a clear majority": f"{known.sum():,}",
        "labels that are the clear majority's": NONE if right != right else f"{right:.1%}",
    }


def _mean(values: NDArray[np.float64]) -> float:
    return float(values.mean()) if values.size else float("nan")


def _labels_table(dataset: Dataset, votes: Votes) -> Table:
    names = dataset.label_names
    clear = majorities(votes, names)
    given = emotion_votes(votes, names).sum(axis=0)
    rows = []
    for label, name in enumerate(names):
        own = clear[dataset.labels == label]
        counts = np.bincount(own[own >= 0], minlength=len(names)).tolist()
        share = f"{given[label] / max(given.sum(), 1):.1%}"
        cells = [f"{count:,}" for count in [*counts, int((own < 0).sum())]]
        rows.append([name, f"{len(own) / max(len(dataset), 1):.1%}", share, *cells])
    return Table(
        "Labels against clear majorities, images",
        ["label", "share of labels", "share of votes", *names, "no clear majority"],
        rows,
    )


def disputed_picture(
    dataset: Dataset, name: str, predictions: NDArray[np.object_] | None = None
) -> list[Picture]:
    """Show the images on which people differ most; nothing where all agree.

    Args:
        dataset: The images, with votes.
        name: Of the picture.
        predictions: (N,) str what a model predicts for each, or None.
    """
    votes, names = dataset.votes, dataset.label_names
    if votes is None:
        return []
    doubt = np.where(counted(votes, names), entropies(votes, names), -1)
    order = np.argsort(-doubt, kind="stable")[:DISPUTED]
    order = order[doubt[order] > 0]
    if not order.size:
        return []
    titles = [_votes_in_lines(votes[index]) for index in order]
    alt = "The most disputed images, each below the three emotions that most people saw"
    if predictions is not None:
        titles = [
            f"{title}\nmodel: {predictions[index]}"
            for title, index in zip(titles, order, strict=True)
        ]
        alt += " and the model's"
    images = [dataset.images[index] for index in order]
    figure = plots.image_grid(images, titles, _COLUMNS, "The most disputed images")
    return [Picture(name, alt, plots.to_png(figure))]


def _votes_in_lines(votes: NDArray[np.int64]) -> str:
    """Return the three kinds of most votes, such as ``sad 3`` above ``fear 2`` and ``angry 2``."""
    order = np.argsort(-votes, kind="stable")[:3]
    return "\n".join(f"{VOTE_KINDS[kind]} {votes[kind]}" for kind in order if votes[kind])
