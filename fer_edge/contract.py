"""What an exported model promises, written once for the trainer and the runtime.

A model is one ONNX file whose input ``image`` is float32 (N, 48, 48, 1), grey, 0-255, and whose
output ``probabilities`` is float32 (N, 7) with rows that sum to 1; scaling, channel copies and any
ImageNet preprocessing are inside the graph. Whatever else a user of the file must know stands in
its metadata as a `ModelSpec`. This module needs the standard library alone.
"""

import dataclasses
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from fer_edge.errors import ModelError

EMOTIONS = ("angry", "disgust", "fear", "happy", "sad", "surprise", "neutral")
"""The seven emotions in the order of FER-2013's csv codes 0-6: the label order everywhere."""

INPUT_NAME = "image"
OUTPUT_NAME = "probabilities"
IMAGE_SIZE = 48
"""Side of FER-2013's square grey images, pixels."""

SCHEMA_VERSION = 1
METADATA_PREFIX = "fer_edge."

Layout = Literal["nhwc", "nchw"]
Color = Literal["gray", "rgb", "bgr"]
Scores = Literal["probabilities", "logits"]


@dataclass(frozen=True)
class ModelSpec:
    """How to feed a model, how to read its answer, and where it comes from.

    Attributes:
        labels: Class names in the order of the output's columns.
        input_size: (height, width) of the input, pixels.
        layout: Axis order of the input batch.
        color: Channel order of the input; ``gray`` means one channel.
        value_range: What pixel levels 0 and 255 become before ``mean`` and ``std``.
        mean: Subtracted from each channel, in units of ``value_range``.
        std: Divides each channel after ``mean``.
        outputs: Whether the model gives probabilities or logits, which need a softmax.
        margin: Share of the face box's longer side added on each side before the crop.
        interpolation: How crops are resized; ``area`` shrinks by pixel area and grows bilinearly.
        model: Architecture, such as ``vgg16``.
        recipe: Training recipe, such as ``modern``.
        fold: Index of the cross-validation fold that was held out, or None.
        dataset: Name of the training data.
        dataset_digest: SHA-256 over images and labels.
        scores: Metric names and values measured before the export.
        precision: Number format of the weights and products: ``fp32``, ``fp16`` or ``int8``.
        parent: SHA-256 of the file this one was quantised from, or "".
        package_version: Version of fer-edge that wrote the file.
        licence: SPDX identifier of the weights' licence.
    """

    labels: tuple[str, ...] = EMOTIONS
    input_size: tuple[int, int] = (IMAGE_SIZE, IMAGE_SIZE)
    layout: Layout = "nhwc"
    color: Color = "gray"
    value_range: tuple[float, float] = (0.0, 255.0)
    mean: tuple[float, ...] = (0.0,)
    std: tuple[float, ...] = (1.0,)
    outputs: Scores = "probabilities"
    margin: float = 0.0
    interpolation: Literal["area"] = "area"
    model: str = ""
    recipe: str = ""
    fold: int | None = None
    dataset: str = ""
    dataset_digest: str = ""
    scores: Mapping[str, float] = field(default_factory=dict)
    precision: str = "fp32"
    parent: str = ""
    package_version: str = ""
    licence: str = ""

    @property
    def channels(self) -> int:
        """Number of colour channels of the input, 1 or 3."""
        return 1 if self.color == "gray" else 3

    def to_metadata(self) -> dict[str, str]:
        """Return the ONNX metadata entries, each value as JSON."""
        entries = {"schema": json.dumps(SCHEMA_VERSION)}
        entries |= {
            name: json.dumps(value, sort_keys=True)
            for name, value in dataclasses.asdict(self).items()
        }
        return {METADATA_PREFIX + name: value for name, value in entries.items()}


def spec_from_metadata(metadata: Mapping[str, str], source: str) -> ModelSpec | None:
    """Read a `ModelSpec` back from ONNX metadata.

    Args:
        metadata: The file's custom metadata, any foreign entries included.
        source: The file's name, for messages.

    Returns:
        The spec, or None where the file carries no fer-edge metadata at all.

    Raises:
        ModelError: The metadata is of another schema version or damaged.
    """
    entries = {
        key.removeprefix(METADATA_PREFIX): value
        for key, value in metadata.items()
        if key.startswith(METADATA_PREFIX)
    }
    if not entries:
        return None
    try:
        values: dict[str, Any] = {key: json.loads(value) for key, value in entries.items()}
    except (ValueError, RecursionError) as error:
        raise ModelError(
            f"Expected JSON in the fer-edge metadata of {source}, received something else "
            f"({error}); export the model again"
        ) from error
    version = values.pop("schema", None)
    if version != SCHEMA_VERSION:
        raise ModelError(
            f"Expected metadata schema {SCHEMA_VERSION} in {source}, received {version!r}; "
            "update fer-edge or export the model again"
        )
    known = {spec_field.name for spec_field in dataclasses.fields(ModelSpec)}
    if missing := known - values.keys():
        raise ModelError(
            f"Expected {', '.join(sorted(missing))} in the fer-edge metadata of {source}, "
            "received none; export the model again"
        )
    tuples = ("labels", "input_size", "value_range", "mean", "std")
    try:
        if strings := [name for name in tuples if not isinstance(values[name], list)]:
            raise TypeError(f"Expected lists as {' and '.join(strings)}")
        values |= {name: tuple(values[name]) for name in tuples}
        spec = ModelSpec(**{name: values[name] for name in known})
        check_spec(spec, source)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(f"{source}: {error}; export the model again") from error
    return spec


_TEXTS = (
    *("model", "recipe", "dataset", "dataset_digest"),
    *("precision", "parent", "package_version", "licence"),
)


def check_spec(spec: ModelSpec, source: str) -> None:
    """Check that a spec, from metadata or from a user's flags, can be acted on.

    Raises:
        ModelError: A field has a value that no model can have.
    """

    def refuse(what: str, received: object) -> None:
        raise ModelError(f"Expected {what} for {source}, received {received!r}")

    if len(spec.labels) < 2 or not all(
        isinstance(label, str) and label and label.isprintable() for label in spec.labels
    ):
        refuse("two or more label names of printable letters", spec.labels)
    if len(set(spec.labels)) != len(spec.labels):
        refuse("labels that differ", spec.labels)
    if len(spec.input_size) != 2 or not all(
        isinstance(side, int) and 1 <= side <= 4096 for side in spec.input_size
    ):
        refuse("an input height and width of 1 to 4096 pixels", spec.input_size)
    choices = {
        "layout": ("nhwc", "nchw"),
        "color": ("gray", "rgb", "bgr"),
        "outputs": ("probabilities", "logits"),
        "interpolation": ("area",),
    }
    for name, allowed in choices.items():
        if getattr(spec, name) not in allowed:
            refuse(f"{name} of {' or '.join(allowed)}", getattr(spec, name))
    numbers = (*spec.value_range, *spec.mean, *spec.std, *spec.scores.values(), spec.margin)
    if not all(isinstance(number, int | float) and math.isfinite(number) for number in numbers):
        refuse("finite numbers as range, mean, std, margin and scores", numbers)
    for name in _TEXTS:
        if not isinstance(getattr(spec, name), str):
            refuse(f"text as {name}", getattr(spec, name))
    if len(spec.value_range) != 2 or not spec.value_range[0] < spec.value_range[1]:
        refuse("a value range of a lower and a higher number", spec.value_range)
    for name in ("mean", "std"):
        if len(getattr(spec, name)) not in (1, spec.channels):
            refuse(f"1 or {spec.channels} values of {name}", getattr(spec, name))
    if not all(value > 0 for value in spec.std):
        refuse("std above 0", spec.std)
    if not 0 <= spec.margin <= 2:
        refuse("a margin from 0 to 2", spec.margin)
