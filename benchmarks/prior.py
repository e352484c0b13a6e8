r"""What dividing by the training prior changes: agreement and recall at several powers.

The default power, `fer_edge.contract.DEFAULT_PRIOR_POWER`, is chosen on the half of PublicTest with
even rows in FER-2013's csv: the mean of all files' recalls gains most there, while no file's
agreement with a rater falls by more than 0.005. The other half is only reported. Files whose
description has no prior are passed over.

    python benchmarks/prior.py --data fer2013.zip --votes fer2013new.csv \
        --json benchmarks/results/prior.json
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.exported import emotion_models, exported_option
from benchmarks.machine import json_option, write_results
from fer_edge.contract import DEFAULT_PRIOR_POWER, EMOTIONS
from fer_edge.errors import DataError
from fer_edge.inference.classifier import Classifier
from fer_train.data.load import Dataset, load_dataset
from fer_train.data.votes import Votes, archive_rows
from fer_train.export.held_out import predict_images
from fer_train.run.votes import vote_metrics

POWERS = (0.0, 0.1, 0.15, 0.2, 0.25, 0.3, 0.5, 1.0)
MOST_LOST = 0.005
"""Agreement that may be given for mean recall."""
SCORES = ("agreement", "clear_accuracy", "clear_balanced_accuracy")
Halves = dict[str, NDArray[np.bool_]]


def halves(dataset: Dataset) -> Halves:
    """Return masks of the images with even and with odd rows in FER-2013's csv.

    Raises:
        DataError: The images are not named as in its archive.
    """
    rows = np.asarray(archive_rows(dataset.names))
    if (rows < 0).mean() > 0.01:
        raise DataError("Expected images named as in FER-2013's archive; give it as --data")
    return {"even": (rows >= 0) & (rows % 2 == 0), "odd": rows % 2 == 1}


def by_power(model: Classifier, dataset: Dataset, votes: Votes) -> list[dict[str, Any]]:
    """Return for each of `POWERS` the scores of a model on both halves and on all images."""
    parts = halves(dataset) | {"all": np.ones(len(dataset), np.bool_)}
    plain = predict_images(model, dataset.images)
    rows = []
    for power in POWERS:
        moved = plain / np.asarray(model.spec.prior, np.float32) ** np.float32(power)
        moved /= moved.sum(axis=1, keepdims=True)
        row: dict[str, Any] = {"power": power}
        for name, chosen in parts.items():
            scores = vote_metrics(votes[chosen], EMOTIONS, moved[chosen])
            row[name] = {score: round(scores[score], 4) for score in SCORES}
            row[name]["majority_recall"] = [round(one, 4) for one in scores["majority_recall"]]
        rows.append(row)
    return rows


def best_power(models: Mapping[str, Sequence[dict[str, Any]]]) -> float:
    """Return the power that gains most mean recall on the even half, of those no file loses by."""

    def even(place: int, score: str) -> NDArray[np.float64]:
        rows = list(models.values())
        return np.array([row[place]["even"][score] - row[0]["even"][score] for row in rows])

    places = range(len(POWERS))
    allowed = [place for place in places if even(place, "agreement").min() >= -MOST_LOST]
    best = max(allowed, key=lambda place: even(place, "clear_balanced_accuracy").mean())
    return POWERS[best]


@click.command()
@click.option("--data", required=True, help="FER-2013's archive, as for `fer-train all`.")
@click.option("--votes", required=True, type=click.Path(exists=True, dir_okay=False))
@exported_option
@json_option
def main(data: str, votes: str, exported: Path, json_path: Path | None) -> None:
    """Print the scores of each file at several powers, and the power that would be chosen."""
    dataset = load_dataset(data, votes=votes)
    dataset = dataset.subset(np.flatnonzero(dataset.usage == "PublicTest"))
    if not len(dataset) or dataset.votes is None:
        raise DataError(f"Expected images of PublicTest with votes in {data}, found none")
    models: dict[str, list[dict[str, Any]]] = {}
    for path in emotion_models(exported):
        model = Classifier(path, detector="none", prior=0)
        if not model.spec.prior or model.spec.labels != EMOTIONS:
            continue
        models[path.name] = by_power(model, dataset, dataset.votes)
        click.echo(path.name)
        for row in models[path.name]:
            figures = "   ".join(
                f"{part} {row[part]['agreement']:.4f} {row[part]['clear_accuracy']:.2%} "
                f"{row[part]['clear_balanced_accuracy']:.2%}"
                for part in ("even", "odd", "all")
            )
            click.echo(f"  {row['power']:<5g} {figures}")
    best = best_power(models)
    click.echo(f"best by the even half: {best:g}; the default: {DEFAULT_PRIOR_POWER:g}")
    write_results(
        json_path,
        {
            "labels": EMOTIONS,
            "default": DEFAULT_PRIOR_POWER,
            "best": best,
            "models": models,
        },
    )


if __name__ == "__main__":
    main()
