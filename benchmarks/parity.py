"""Every exported file against what it was made from: differences, accuracy, latency.

An fp32 file is compared with the Keras file beside it, int8 and fp16 with their fp32 parent. Of an
int8 file that ships alone the row is what its export recorded in the JSON file beside it. Models of
the trainer are built afresh too, with random weights, exported and compared, so that a clone
without any model checks the whole way.

    python benchmarks/parity.py --data fer2013.zip --json benchmarks/results/parity.json
"""

import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import click
import numpy as np
from numpy.typing import NDArray

from benchmarks.exported import emotion_models, exported_option
from benchmarks.machine import json_option, write_results
from fer_edge._base._ort import onnxruntime
from fer_edge.contract import ModelSpec
from fer_edge.errors import FerError
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.providers import PROVIDERS, short_name
from fer_train.data.load import Dataset, load_dataset, sample
from fer_train.export.facts import read_facts
from fer_train.export.quantize import HALF_TOLERANCE, LEAST_IMAGES, allowed_loss
from fer_train.run.metrics import classification_metrics

FLOAT_TOLERANCE = 1e-5
INT8_MEAN_TOLERANCE = 0.02
"""Largest mean difference of int8 from fp32; what decides is top-1, which needs many images."""

_LATENCY_RUNS = 15

RECORDED = "when exported"

PredictFn = Callable[[NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Pair:
    """A file and what it should predict like.

    Attributes:
        name: Of the file.
        path: The ONNX file.
        reference: Name of what it is compared with.
        predict: float32 (N, 48, 48, 1) -> the reference's float32 (N, K).
    """

    name: str
    path: Path
    reference: str
    predict: PredictFn


def compare(pair: Pair, provider: str, dataset: Dataset) -> dict[str, Any]:
    """Compare a file with its reference on one provider.

    Returns:
        The row of the table: plain values for JSON.
    """
    model = Classifier(pair.path, provider=provider, detector="none", prior=0)
    data = dataset.relabel(model.spec.labels)
    batch = data.images.astype(np.float32)[..., None]
    wanted, found = pair.predict(batch), model.probabilities(batch)
    scores = [classification_metrics(data.labels, rows) for rows in (wanted, found)]
    differences = np.abs(wanted - found)
    times = _latencies((pair.predict, model.probabilities), batch[:1])
    return {
        "file": pair.name,
        "reference": pair.reference,
        "provider": provider,
        "precision": model.spec.precision,
        "images": len(batch),
        "largest_difference": float(differences.max()),
        "mean_difference": float(differences.mean()),
        "equal_predictions": float(np.mean(wanted.argmax(axis=1) == found.argmax(axis=1))),
        "reference_accuracy": scores[0]["accuracy"],
        "accuracy": scores[1]["accuracy"],
        "reference_recall": scores[0]["recall"],
        "recall": scores[1]["recall"],
        "reference_calibration_error": scores[0]["expected_calibration_error"],
        "calibration_error": scores[1]["expected_calibration_error"],
        "reference_ms": times[0],
        "ms": times[1],
    }


def verdict(row: dict[str, Any]) -> str:
    """Return "ok", or what is beyond the tolerance."""
    if row["precision"] == "int8":
        lost = row["reference_accuracy"] - row["accuracy"]
        if row["images"] >= LEAST_IMAGES and lost > allowed_loss(row["images"]):
            return f"{lost:.2%} of top-1 lost"
        within = row["mean_difference"] <= INT8_MEAN_TOLERANCE
        return "ok" if within else f"mean difference above {INT8_MEAN_TOLERANCE:g}"
    tolerance = HALF_TOLERANCE if row["precision"] == "fp16" else FLOAT_TOLERANCE
    return "ok" if row["largest_difference"] <= tolerance else f"difference above {tolerance:g}"


def recorded_rows(folder: Path) -> Iterator[dict[str, Any]]:
    """Yield a row for each int8 file whose fp32 parent is not there, as its export recorded it."""
    for path in emotion_models(folder, "*.int8.onnx"):
        parent = folder / f"{path.name.partition('.')[0]}.onnx"
        if parent.is_file() or not path.with_suffix(".json").is_file():
            continue
        made = read_facts(path)["int8"]
        if "mean_difference" not in made:  # an older version did not record it
            continue
        kept = ("images", "largest_difference", "mean_difference", "equal_predictions", "accuracy")
        yield {
            "file": path.name,
            "reference": f"{parent.name}, {RECORDED}",
            "provider": "cpu",
            "precision": "int8",
            **{key: made[key] for key in kept},
            "reference_accuracy": made["parent_accuracy"],
        }


def exported_pairs(folder: Path) -> Iterator[Pair]:
    """Yield the files of a folder that have something to be compared with."""
    for path in emotion_models(folder):
        stem, _, precision = path.stem.partition(".")
        if precision:
            parent = folder / f"{stem}.onnx"
            if parent.is_file():
                model = Classifier(parent, provider="cpu", detector="none", prior=0)
                yield Pair(path.name, path, parent.name, model.probabilities)
        elif path.with_suffix(".keras").is_file():
            yield Pair(path.name, path, "Keras", keras_predict(path.with_suffix(".keras")))


def built_pairs(models: Sequence[str], folder: Path) -> Iterator[Pair]:
    """Build models with random weights, export them to a folder and yield them."""
    from fer_train.export.convert import export_file
    from fer_train.network._keras import keras
    from fer_train.network.models import build_model
    from fer_train.run.recipes import recipe_for

    for name in models:
        keras.utils.set_random_seed(0)
        path = folder / f"{name}.onnx"
        recipe = recipe_for("modern", name, {"weights": "none"})
        net = build_model(name, recipe, len(ModelSpec().labels))
        _vary(net)
        net.save(path.with_suffix(".keras"))
        keras.backend.clear_session()
        export_file(path.with_suffix(".keras"), ModelSpec(model=name), path)
        yield Pair(f"{name} (random)", path, "Keras", keras_predict(path.with_suffix(".keras")))


def _vary(net: Any) -> None:
    """Give biases and normalisations the spread of a training: fresh ones are 0 and 1."""
    rng = np.random.default_rng(0)
    weights = net.get_weights()
    for index, weight in enumerate(net.weights):
        if len(weight.shape) == 1:
            positive = weight.path.endswith(("gamma", "moving_variance"))
            low, high = (0.5, 1.5) if positive else (-0.1, 0.1)
            weights[index] = rng.uniform(low, high, weight.shape).astype(np.float32)
    net.set_weights(weights)


def keras_predict(path: Path) -> PredictFn:
    """Return Keras's `predict` of a file."""
    from fer_train.network._keras import keras

    net = keras.saving.load_model(path, compile=False)

    def predict(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        rows: NDArray[np.float32] = net.predict(batch, batch_size=64, verbose=0)
        return rows

    return predict


def load_images(data: str | None, count: int) -> Dataset:
    """Load PublicTest of a data set, or all of one that has none, or drawn faces."""
    if data is None:
        return load_dataset(f"synthetic:{count}")
    dataset = load_dataset(data)
    public = dataset.usage == "PublicTest"
    return evenly(dataset.subset(public) if public.any() else dataset, count)


def evenly(dataset: Dataset, count: int) -> Dataset:
    """Return a part of a data set with its share of each emotion, or all of a smaller one."""
    return dataset.subset(sample(dataset.labels, dataset.usage, count, 0))


def _latencies(functions: Sequence[PredictFn], batch: NDArray[np.float32]) -> list[float]:
    """Return the median milliseconds of each, run in turns."""
    times: list[list[float]] = [[] for _ in functions]
    for _ in range(_LATENCY_RUNS + 1):
        for own, predict in zip(times, functions, strict=True):
            start = time.perf_counter()
            predict(batch)
            own.append((time.perf_counter() - start) * 1000)
    # The first run of each warms it up.
    return [median(own[1:]) for own in times]


def _table(rows: Sequence[dict[str, Any]]) -> str:
    lines = [
        f"{'file':24}{'against':32}{'on':7}{'largest':>10}{'mean':>10}{'equal':>9}{'top-1':>16}"
        f"{'calibration':>16}{'ms':>16}  verdict"
    ]
    lines += [
        f"{row['file']:24}{row['reference']:32}{row['provider']:7}"
        f"{row['largest_difference']:10.1e}{row['mean_difference']:10.1e}"
        f"{row['equal_predictions']:9.2%}"
        f"{row['reference_accuracy']:8.2%}{row['accuracy']:8.2%}"
        f"{_pair(row, 'calibration_error', '.3f')}{_pair(row, 'ms', '.2f')}  {row['verdict']}"
        for row in rows
    ]
    return "\n".join([*lines, "Pairs of columns: the reference, then the file."])


def _pair(row: dict[str, Any], name: str, form: str) -> str:
    """Return a value of the reference and of the file; nothing where they were not recorded."""
    return "".join(
        f"{format(row[key], form) if key in row else '':>8}" for key in (f"reference_{name}", name)
    )


@click.command()
@click.option("--data", help="FER-2013 as csv, folder or zip; drawn faces without it.")
@click.option("--count", default=4096, show_default=True, help="Most images.")
@exported_option
@click.option(
    "--build",
    default="sequential,vgg16,resnet50",
    show_default=True,
    help="Models to build afresh, with commas; empty for none.",
)
@click.option("--built-count", default=64, show_default=True, help="Most images for those.")
@json_option
def main(
    data: str | None,
    count: int,
    exported: Path,
    build: str,
    built_count: int,
    json_path: Path | None,
) -> None:
    """Print a row for each file and provider; exit 1 if one is beyond its tolerance."""
    available = map(short_name, onnxruntime.get_available_providers())
    providers = [name for name in available if name in PROVIDERS]
    dataset = load_images(data, count if data else min(count, 512))
    few = evenly(dataset, built_count)
    rows = [row | {"verdict": verdict(row)} for row in recorded_rows(exported)]
    with tempfile.TemporaryDirectory() as folder:
        jobs = [(exported_pairs(exported), dataset)]
        jobs.append((built_pairs([name for name in build.split(",") if name], Path(folder)), few))
        for pairs, images in jobs:
            for pair in pairs:
                for provider in providers:
                    row = compare(pair, provider, images)
                    rows.append(row | {"verdict": verdict(row)})
    if not rows:
        raise FerError(
            f"Expected ONNX files with a .keras or fp32 file beside them in {exported}, found none"
        )
    print(_table(rows))
    write_results(json_path, {"data": dataset.name, "rows": rows})
    if any(row["verdict"] != "ok" for row in rows):
        sys.exit(1)


if __name__ == "__main__":
    main()
