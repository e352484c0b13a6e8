"""Which model files there are, and what each holds: ``fer-edge models`` and ``fer-edge info``."""

import dataclasses
import hashlib
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge.contract import (
    DEFAULT_PRIOR_POWER,
    METADATA_PREFIX,
    DetectorSpec,
    read_description,
    read_spec,
)
from fer_edge.errors import FerError, ModelError
from fer_edge.inference.describe import fitting_presets, known, missing
from fer_edge.inference.locate import find_model, model_folders
from fer_edge.inference.onnx_file import ModelFile, read_model

_LONGEST_ENTRY = 200
_FREE_SIDE = 64
_LEADING = ("agreement", "clear_accuracy", "accuracy")
"""Scores that lead in cards and tables."""
# What is tried first of what a file does not say; most networks from PyTorch are fed so.
_LIKELY = {"input_size": "224x224", "layout": "nchw", "color": "rgb", "range": "0,1"}
_ELSE = (("color", "bgr"), ("range", "0,255"), ("range", "-1,1"))


def list_models() -> list[dict[str, Any]]:
    """Return what is found in the folders that bare names are looked for in, in their order.

    Returns:
        Plain values: ``name``, ``folder``, ``bytes``, ``task`` and ``scores`` as the file says
        them, or the ``NAME.json`` beside it, and a ``note`` about files that do not.
    """
    found, seen = [], set()
    for folder in model_folders():
        for path in sorted(folder.glob("*.onnx")):
            if path.resolve() in seen or not path.is_file():
                continue
            seen.add(path.resolve())
            place = {"name": path.name, "folder": str(folder.resolve())}
            found.append({**place, "bytes": path.stat().st_size, **_task(path)})
    return found


def _task(path: Path) -> dict[str, Any]:
    try:
        _, file = read_model(path)
        spec = read_spec(file.metadata, path.name)
    except ModelError as error:
        return {"task": "", "scores": {}, "note": error.message}
    if spec is None:
        beside = path.with_suffix(".toml")
        note = f"described by {beside.name}" if beside.is_file() else "undescribed"
        return {"task": "", "scores": {}, "note": note}
    return {"task": spec.task, "scores": _scores_beside(path) or dict(spec.scores), "note": ""}


def _scores_beside(path: Path) -> dict[str, float]:
    """Return the scores that `fer-train` wrote beside a file, agreement with people first."""
    try:
        single = json.loads(path.with_suffix(".json").read_text("utf-8"))["single"]
        return {name: float(single[name]) for name in _LEADING if name in single}
    except (OSError, ValueError, TypeError, KeyError):
        return {}


def model_facts(
    model: str,
    *,
    preset: str | None,
    provider: str,
    threads: int | None,
    description: Mapping[str, Any],
) -> tuple[dict[str, Any], FerError | None]:
    """Return what a model file holds, says of itself, and is described as.

    Args:
        model: Path or bare name.
        preset: As for `Classifier`, like the following.
        provider: What is to run it.
        threads: For one inference.
        description: Fields of `ModelSpec`.

    Returns:
        Values for JSON, tensors apart, and why the file cannot be used as it is described. A file
        that nobody has described yet is no problem: its facts say what to try.

    Raises:
        ModelError: There is no such file, or it is no ONNX file.
    """
    path = find_model(model)
    content, file = read_model(path)
    facts: dict[str, Any] = {
        "file": str(path),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
        "data_files": {beside.name: beside.stat().st_size for beside in file.data_files},
        "graph_inputs": list(file.inputs),
        "graph_outputs": list(file.outputs),
        "opset": file.opset,
        "ir_version": file.ir_version,
        "producer": file.producer,
        "metadata": {
            key: value[:_LONGEST_ENTRY]
            for key, value in file.metadata.items()
            if not key.startswith(METADATA_PREFIX)
        },
    }
    try:
        spec = read_spec(file.metadata, path.name)
        described = known(file, read_description(description, "the description"), preset)
        if spec is None and (unknown := missing(described)):
            return {**facts, **_advice(file, [name for name, _ in unknown], provider)}, None
        if spec is not None and spec.task == DetectorSpec.task:
            return {**facts, **_detector_facts(path, provider)}, None
        return {**facts, **_classifier_facts(model, preset, provider, threads, description)}, None
    except FerError as error:
        return facts, error


def _detector_facts(path: Path, provider: str) -> dict[str, Any]:
    from fer_edge.inference.detectors import OnnxDetector

    detector = OnnxDetector(path, provider=provider)
    return {
        "described": True,
        "task": detector.spec.task,
        **dataclasses.asdict(detector.spec),
        **_running(detector.provider),
    }


def _running(provider: str) -> dict[str, Any]:
    from fer_edge._base._ort import onnxruntime
    from fer_edge.inference.providers import short_name

    return {
        "runs_on": provider,
        "providers": [short_name(name) for name in onnxruntime.get_available_providers()],
    }


def _classifier_facts(
    model: str, preset: str | None, provider: str, threads: int | None, description: Any
) -> dict[str, Any]:
    from fer_edge.inference.classifier import Classifier

    classifier = Classifier(
        model, preset=preset, detector="none", provider=provider, threads=threads, **description
    )
    spec = classifier.spec
    return {
        "described": True,
        "task": spec.task,
        **dataclasses.asdict(spec),
        "prior_power": DEFAULT_PRIOR_POWER if spec.prior else None,
        "mirror": "on for classify with a detector; off with --detector none, video and the API",
        **_running(classifier.provider),
    }


def _advice(file: ModelFile, unknown: list[str], provider: str) -> dict[str, Any]:
    """Return flags that describe a file, and presets that fit it."""
    logits = _gives_logits(file, provider)
    parts = []
    if "labels" in unknown:
        columns = next((output.columns for output in file.outputs if output.is_float), None)
        parts.append(f"--labels {f'NAME1,...,NAME{columns}' if columns else 'NAME,NAME,...'}")
    parts += [f"--{name.replace('_', '-')} {_LIKELY[name]}" for name in unknown if name in _LIKELY]
    parts += ["--outputs logits"] if logits else []
    return {
        "described": False,
        "try": " ".join(parts),
        "or": [f"--{name} {value}" for name, value in _ELSE if name in unknown],
        "presets": fitting_presets(file, "logits" if logits else "probabilities"),
    }


def _gives_logits(file: ModelFile, provider: str) -> bool:
    """Tell whether the first output of numbers does not sum to 1, as logits do not."""
    from fer_edge.inference.outputs import are_probabilities
    from fer_edge.inference.session import open_session

    try:
        session = open_session(file.path, provider, 1)
        output = next(output for output in file.outputs if output.is_float)
        free = [side if isinstance(side, int) else _FREE_SIDE for side in session.input_shape[1:]]
        shape = (session.fixed_batch or 1, *free)
        noise = np.random.default_rng(0).uniform(0, 1, shape).astype(np.float32)
        (rows,) = session.run(noise, [output.name])
        width = max(1, math.prod(rows.shape) // shape[0])
        return not are_probabilities(rows.reshape(-1, width))
    except ModelError:
        return False
