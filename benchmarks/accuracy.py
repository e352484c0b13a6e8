"""Score ONNX files on labelled faces: single and mirrored, each class, calibration, confusion.

Two files are compared by McNemar's test on the images of which just one of them is right.

    python benchmarks/accuracy.py a.onnx [b.onnx] --data fer2013.zip --usage PublicTest

With ``--votes`` the agreement with people stands beside the scores on the data set's own labels:
names and definitions as in `fer_train.run.votes.VOTE_SCORES`.

With ``--usage`` the images that have no copy in another usage are scored on their own too: a model
may know the others by heart.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray
from scipy.stats import binom

from benchmarks.machine import json_option, write_results
from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_edge.inference.classifier import Classifier
from fer_train.data.duplicates import duplicate_groups, spread
from fer_train.data.emotions import emotion_of
from fer_train.data.load import USAGES, load_dataset, sample
from fer_train.data.votes import Votes
from fer_train.export.held_out import single_and_mirrored
from fer_train.report import plots
from fer_train.run.metrics import classification_metrics, normalise_confusion
from fer_train.run.votes import VOTE_SCORES, format_vote_score, vote_metrics

Names = NDArray[np.str_]


def mcnemar_mid_p(first_right: NDArray[np.bool_], second_right: NDArray[np.bool_]) -> float:
    """Return the two-sided mid-p value that both are right equally often.

    Source: M. W. Fagerland, S. Lydersen, P. Laake, BMC Medical Research Methodology 13:91, 2013.
    """
    only_first = int(np.sum(first_right & ~second_right))
    only_second = int(np.sum(~first_right & second_right))
    discordant, fewer = only_first + only_second, min(only_first, only_second)
    if only_first == only_second:
        return 1.0
    exact = 2 * binom.cdf(fewer, discordant, 0.5)
    return float(exact - binom.pmf(fewer, discordant, 0.5))


def compare(first: Names, second: Names, labels: Names) -> dict[str, Any]:
    """Return how two files differ on the same images, plain values for JSON.

    Args:
        first: (N,) the label that the first file gives each image.
        second: (N,) that of the second.
        labels: (N,) the true ones.
    """
    right = [predicted == labels for predicted in (first, second)]
    return {
        "equal_predictions": float(np.mean(first == second)),
        "only_first_right": int(np.sum(right[0] & ~right[1])),
        "only_second_right": int(np.sum(~right[0] & right[1])),
        "difference": float(right[0].mean() - right[1].mean()),
        "mid_p": mcnemar_mid_p(right[0], right[1]),
    }


def score(
    labels: NDArray[np.int64],
    single: NDArray[np.float32],
    mirrored: NDArray[np.float32],
    unique: NDArray[np.bool_] | None,
    votes: Votes | None = None,
    emotions: Sequence[str] = EMOTIONS,
) -> dict[str, Any]:
    """Return the scores of a file, plain values for JSON.

    Args:
        labels: int64 (N,), indices into the model's labels.
        single: (N, K) probabilities of each image as it is.
        mirrored: (N, K) averaged with those of its mirror image.
        unique: (N,) whether an image has no copy that the model may have trained on, or None.
        votes: (N, 10) what people saw in the images, or None.
        emotions: What the labels mean.
    """
    ways = {"single": single, "mirrored": mirrored}
    scores: dict[str, Any] = {
        name: classification_metrics(labels, predicted)
        | ({} if votes is None else vote_metrics(votes, emotions, predicted))
        for name, predicted in ways.items()
    }
    if unique is not None and unique.any():
        scores["without_copies"] = {
            "images": int(unique.sum()),
            **{
                name: float(np.mean(predicted[unique].argmax(axis=1) == labels[unique]))
                for name, predicted in ways.items()
            },
        }
    return scores


def _print(path: Path, scores: dict[str, Any], labels: Sequence[str]) -> None:
    single, mirrored = scores["single"], scores["mirrored"]
    print(f"{path.name}: {single['images']} images")
    for name in ("accuracy", "balanced_accuracy", "log_loss", "expected_calibration_error"):
        print(f"  {name:28}{single[name]:9.4f}  mirrored {mirrored[name]:9.4f}")
    for name, (title, _) in VOTE_SCORES.items():
        if name in single and name != "accuracy":
            texts = [format_vote_score(name, way[name]) for way in (single, mirrored)]
            print(f"  {title:34}{texts[0]:>9}  mirrored {texts[1]:>9}")
    if alone := scores.get("without_copies"):
        print(
            f"  accuracy on the {alone['images']} without copies elsewhere {alone['single']:.4f}  "
            f"mirrored {alone['mirrored']:.4f}"
        )
    for label, recall, precision, support in zip(
        labels, single["recall"], single["precision"], single["support"], strict=True
    ):
        print(f"  {label:12} recall {recall:6.1%}  precision {precision:6.1%}  of {support}")
    if "majority_recall" in single:
        for label, recall, support in zip(
            labels, single["majority_recall"], single["majority_support"], strict=True
        ):
            print(f"  {label:12} recall of the clear majority {recall:6.1%}  of {support}")


@click.command()
@click.argument("models", nargs=-1, required=True, type=click.Path(path_type=Path))
@click.option("--data", required=True, help="As for `fer-train all`.")
@click.option(
    "--votes",
    type=click.Path(exists=True, dir_okay=False),
    help="As for `fer-train all`; agreement with people is scored too.",
)
@click.option("--usage", type=click.Choice(USAGES), help="Share of the data set; all without it.")
@click.option("--limit", type=click.IntRange(1), help="Score no more images than that.")
@click.option("--picture", type=click.Path(path_type=Path), help="PNG of the first's confusion.")
@json_option
def main(
    models: tuple[Path, ...],
    data: str,
    votes: str | None,
    usage: str | None,
    limit: int | None,
    picture: Path | None,
    json_path: Path | None,
) -> None:
    """Print the scores of one file, or of two and whether they differ by more than chance."""
    if len(models) > 2:
        raise click.UsageError(f"expected one or two models, received {len(models)}")
    dataset = load_dataset(data, votes=votes)
    chosen = np.arange(len(dataset))
    unique = None
    if usage is not None:
        chosen = np.flatnonzero(dataset.usage == usage)
        # Looked for in all images, however few are scored.
        unique = spread(dataset.usage, duplicate_groups(dataset.images)) == 1
    if not chosen.size:
        raise DataError(f"Expected images of {usage} in {data}, found none")
    if limit is not None:
        chosen = chosen[sample(dataset.labels[chosen], dataset.usage[chosen], limit, seed=0)]
    dataset = dataset.subset(chosen)
    unique = None if unique is None else unique[chosen]
    results: dict[str, Any] = {}
    predicted: list[Names] = []
    for path in models:
        model = Classifier(path, detector="none", prior=0)
        relabelled = dataset.relabel(model.spec.labels)
        single, mirrored = single_and_mirrored(model, dataset.images)
        named = tuple(emotion_of(label) or label for label in model.spec.labels)
        scores = score(relabelled.labels, single, mirrored, unique, dataset.votes, named)
        results[path.name] = scores
        predicted.append(np.asarray(model.spec.labels)[single.argmax(axis=1)])
        _print(path, scores, model.spec.labels)
        if picture is not None and len(predicted) == 1:
            matrix = normalise_confusion(np.asarray(scores["single"]["confusion"]))
            title = f"{path.name} on {dataset.name} {usage or ''}".rstrip()
            figure = plots.confusion(matrix, model.spec.labels, title)
            picture.write_bytes(plots.to_png(figure))
    content = {"data": dataset.name, "usage": usage, **results}
    if len(models) == 2:
        found = compare(predicted[0], predicted[1], np.asarray(dataset.label_names)[dataset.labels])
        content["comparison"] = found
        print(
            f"difference of top-1 {found['difference']:+.4f}; right alone "
            f"{found['only_first_right']} and {found['only_second_right']}; equal predictions "
            f"{found['equal_predictions']:.2%}; McNemar mid-p {found['mid_p']:.3g}"
        )
    write_results(json_path, content)


if __name__ == "__main__":
    main()
