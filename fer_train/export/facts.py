"""What was measured of an exported file and how it was trained, kept beside it as JSON."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.inference.classifier import Classifier
from fer_train.data.load import Dataset
from fer_train.export.convert import SCORES
from fer_train.run.folder import Run, read_json, read_teacher, write_json
from fer_train.run.metrics import classification_metrics
from fer_train.run.reproduce import training_command

_KEPT_SCORES = (*SCORES, "recall", "precision", "support", "confusion")


def judge(path: Path, images: NDArray[np.uint8], labels: NDArray[np.int64]) -> dict[str, Any]:
    """Score an ONNX file on images that it did not train on.

    Args:
        path: The file.
        images: uint8 (N, 48, 48).
        labels: int64 (N,), indices into the model's labels.

    Returns:
        Scores under ``single`` (each image as it is) and ``mirrored`` (the probabilities of the
        image and of its mirror image averaged), plain values for JSON.
    """
    model = Classifier(path, provider="cpu", detector="none")
    single, mirrored = single_and_mirrored(model, images)
    return {
        name: {key: scores[key] for key in _KEPT_SCORES}
        for name, scores in (
            ("single", classification_metrics(labels, single)),
            ("mirrored", classification_metrics(labels, mirrored)),
        )
    }


def single_and_mirrored(
    model: Classifier, images: NDArray[np.uint8]
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return the probabilities of uint8 (N, 48, 48) images, and averaged with their mirrors'."""
    batch = images.astype(np.float32)[..., None]
    single = model.probabilities(batch)
    flipped = model.probabilities(np.ascontiguousarray(batch[:, :, ::-1]))
    return single, (single + flipped) * np.float32(0.5)


def training_facts(run: Run, model: str, fold: int) -> dict[str, Any]:
    """Return how a fold was trained, plain values for JSON.

    Args:
        run: The run.
        model: Name of the model.
        fold: Index of the fold.

    Raises:
        RunError: The fold is not done.
    """
    score = run.score(model, fold)
    taught: dict[str, Any] = {}
    if run.recipes[model].teacher_weight:
        taught = {"teacher": read_teacher(run)}
    teachers = taught.get("teacher", {}).get("files", ())
    return taught | {
        "model": model,
        "fold": fold,
        "folds": len(run.folds),
        "seed": run.protocol.seed,
        "command": training_command(run.protocol, model, run.recipes[model], teachers),
        "hours": round(score["training_s"] / 3600, 2),
        "epochs": score["epochs"],
        "kept_epoch": score["kept_epoch"],
        "training_images": int(run.folds[fold].train.size),
        "parameters": score["parameters"],
        "device": score["device"],
        "dtype_policy": score["dtype_policy"],
        "recipe": dataclasses.asdict(run.recipes[model]),
    }


def stage_facts(facts: Mapping[str, Any], accuracy: float) -> dict[str, Any]:
    """Return what the card of a model keeps of a training that it went on from."""
    kept = ("command", "hours", "epochs", "averaged")
    return {key: facts[key] for key in kept if key in facts} | {"accuracy": accuracy}


def judging_facts(path: Path, judges: Dataset) -> dict[str, Any]:
    """Return what `judge` finds on a data set, and which share of FER-2013 it is."""
    usages = set(judges.usage.tolist())
    name = usages.pop() if len(usages) == 1 else ""
    scores = judge(path, judges.images, judges.labels)
    return {"judged_on": name or "the held-out fold", **scores}


def write_facts(path: Path, facts: Mapping[str, Any]) -> None:
    """Write ``FILE.json`` beside ``FILE.onnx``."""
    write_json(path.with_suffix(".json"), facts)


def read_facts(path: Path) -> dict[str, Any]:
    """Read ``FILE.json`` beside ``FILE.onnx``.

    Raises:
        RunError: It is missing or damaged.
    """
    return dict(read_json(path.with_suffix(".json")))
