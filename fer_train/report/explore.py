"""A data set -> a document to look at before training: samples, counts, copies and faults."""

import csv
import io
import json
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.data.duplicates import (
    blank_images,
    conflicting_labels,
    duplicate_groups,
    identical_groups,
)
from fer_train.data.load import Dataset, summary
from fer_train.report import plots
from fer_train.report.document import Block, Document, Gallery, Heading, Picture, Table, Text
from fer_train.report.votes import explore_blocks, votes_csv

SAMPLES = 6
"""Images shown of each emotion."""

_SHOWN = 24
"""Images shown of each kind of fault."""
_FIRST_ROWS = 5
_FIRST_PIXELS = 8


def explore_dataset(dataset: Dataset, seed: int = 0) -> Document:
    """Look at a data set.

    Args:
        dataset: At least one image.
        seed: Chooses the samples.

    Returns:
        The document; attached to it a csv that names each image that is blank or has a copy and,
        where there are votes, one of these.
    """
    facts = summary(dataset)
    rng = np.random.default_rng(seed)
    identical, near = identical_groups(dataset.images), duplicate_groups(dataset.images)
    blocks = [
        *_contents(dataset, facts),
        *_samples(dataset, rng),
        *_copies(dataset, facts, identical, near, rng),
    ]
    attachments = {
        "findings.csv": _findings_csv(dataset, identical, near),
        "summary.json": json.dumps(facts, indent=1) + "\n",
    }
    if dataset.votes is not None:
        blocks += explore_blocks(dataset, dataset.votes)
        attachments["votes.csv"] = votes_csv(dataset, dataset.votes)
    return Document(f"Data set {dataset.name}", blocks, attachments)


def _contents(dataset: Dataset, facts: Mapping[str, Any]) -> list[Block]:
    usages = {usage or "not said": count for usage, count in facts["usages"].items()}
    counts = facts["emotions"]
    rows = [
        [
            emotion,
            f"{count:,}",
            f"{count / len(dataset):.1%}",
            *(f"{of_usage[emotion]:,}" for of_usage in facts["emotions_by_usage"].values()),
        ]
        for emotion, count in counts.items()
    ]
    rows.append(["all", f"{len(dataset):,}", "100.0%", *(f"{n:,}" for n in usages.values())])
    figures = {
        "emotions": plots.pie(counts, "Emotions"),
        "usages": plots.pie(usages, "Usage"),
        "counts": plots.count_bars(counts, "Images of each emotion"),
    }
    alts = {
        "emotions": "Pie: share of each emotion",
        "usages": "Pie: share of each usage",
        "counts": "Bars: number of images of each emotion",
    }
    return [
        Heading("Contents"),
        Table(
            "Arrays",
            ["array", "shape", "type", "values"],
            [
                _array_row("images", dataset.images),
                _array_row("labels", dataset.labels),
                ["digest", facts["digest"][:16], "SHA-256", "images, labels and usage"],
            ],
        ),
        Table("Emotions", ["emotion", "images", "share", *usages], rows),
        Gallery(
            [Picture(name, alts[name], plots.to_svg(figure)) for name, figure in figures.items()]
        ),
        Table(
            "First rows",
            ["name", "emotion", "code", "usage", f"first {_FIRST_PIXELS} pixels"],
            [
                [
                    str(dataset.names[index]),
                    dataset.label_names[dataset.labels[index]],
                    str(dataset.labels[index]),
                    str(dataset.usage[index]),
                    " ".join(map(str, dataset.images[index].ravel()[:_FIRST_PIXELS])),
                ]
                for index in range(min(_FIRST_ROWS, len(dataset)))
            ],
        ),
    ]


def _array_row(name: str, array: NDArray[Any]) -> list[str]:
    shape = " x ".join(map(str, array.shape))
    return [name, shape, str(array.dtype), f"{array.min()} to {array.max()}"]


def _samples(dataset: Dataset, rng: np.random.Generator) -> list[Block]:
    chosen: list[int] = []
    for label in range(len(dataset.label_names)):
        own = np.flatnonzero(dataset.labels == label)
        chosen += rng.choice(own, min(SAMPLES, len(own)), replace=False).tolist()
    return [
        Heading("Samples"),
        Gallery([_grid("samples", "Some images of each emotion", dataset, chosen)]),
    ]


def _copies(
    dataset: Dataset,
    facts: Mapping[str, Any],
    identical: NDArray[np.int64],
    near: NDArray[np.int64],
    rng: np.random.Generator,
) -> list[Block]:
    kinds = {
        "groups": "groups of copies",
        "images": "images in them",
        "largest": "largest group",
        "across_usages": "groups in more than one usage",
        "conflicting_labels": "groups with conflicting labels",
    }
    distinct = np.zeros(len(dataset), np.bool_)
    distinct[np.unique(identical, return_index=True)[1]] = True
    blank = blank_images(dataset.images)
    # Black images are copies of one another under all labels, and would fill the picture.
    conflict = conflicting_labels(dataset.labels, near) & ~blank
    shown = {
        "identical": ("Identical images", identical, np.bincount(identical)[identical] > 1),
        "near": (
            "Near-identical images, without identical ones",
            near,
            distinct & (np.bincount(near[distinct])[near] > 1),
        ),
        "conflicting": ("Copies with conflicting labels", near, conflict),
        "blank": ("Blank images", np.arange(len(dataset)), blank),
    }
    pictures = [
        _grid(name, title, dataset, _some_groups(groups, wanted, rng))
        for name, (title, groups, wanted) in shown.items()
        if wanted.any()
    ]
    return [
        Heading("Copies and faults"),
        Table(
            "Copies of an image",
            ["count", "pixel-identical", "near-identical too"],
            [
                [title, f"{facts['identical'][kind]:,}", f"{facts['near'][kind]:,}"]
                for kind, title in kinds.items()
            ],
        ),
        Text(
            f"Blank images, which show nothing: {facts['blank']:,}. Each image that is blank or "
            "has a copy stands in `findings.csv`, with the number of its group."
        ),
        Gallery(pictures),
    ]


def _some_groups(
    groups: NDArray[np.int64], wanted: NDArray[np.bool_], rng: np.random.Generator
) -> list[int]:
    """Draw groups and return their wanted images, those of a group beside one another."""
    indices = np.flatnonzero(wanted)
    places = rng.permutation(int(groups.max()) + 1)[groups[indices]]
    return [int(index) for index in indices[np.argsort(places, kind="stable")][:_SHOWN]]


def _grid(name: str, title: str, dataset: Dataset, indices: Sequence[int]) -> Picture:
    emotions = [dataset.label_names[dataset.labels[index]] for index in indices]
    images = [dataset.images[index] for index in indices]
    return Picture(name, title, plots.to_png(plots.image_grid(images, emotions, SAMPLES, title)))


def _findings_csv(dataset: Dataset, identical: NDArray[np.int64], near: NDArray[np.int64]) -> str:
    blank = blank_images(dataset.images)
    conflict = conflicting_labels(dataset.labels, near)
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(
        ["name", "usage", "emotion", "identical_group", "near_group", "conflicting", "blank"]
    )
    wanted = np.flatnonzero((np.bincount(near)[near] > 1) | blank)
    for index in wanted[np.lexsort((wanted, near[wanted]))].tolist():
        writer.writerow(
            [
                dataset.names[index],
                dataset.usage[index],
                dataset.label_names[dataset.labels[index]],
                identical[index],
                near[index],
                int(conflict[index]),
                int(blank[index]),
            ]
        )
    return text.getvalue()
