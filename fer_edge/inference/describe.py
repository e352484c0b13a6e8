"""The spec of a model file: its own metadata, or a description that the user gives."""

import dataclasses
import os
import tomllib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_edge.contract import ModelSpec, check_spec, spec_from_metadata
from fer_edge.errors import ModelError

Shape = Sequence[int | str | None]
"""A tensor's shape as onnxruntime gives it: free dimensions are names or None."""


def describe_model(
    path: Path,
    metadata: Mapping[str, str],
    input_shape: Shape,
    output_shape: Shape,
    overrides: Mapping[str, Any],
) -> ModelSpec:
    """Find out how a model is fed and read.

    A file of ours says it in its metadata. For others the graph's own shapes, then the file
    ``MODEL.toml`` beside ``MODEL.onnx``, then the overrides count; what none of them says is
    never guessed.

    Args:
        path: The model's file.
        metadata: Its custom metadata.
        input_shape: Of its input.
        output_shape: Of its output.
        overrides: Fields of `ModelSpec` that the user gives.

    Raises:
        ModelError: Something is missing, contradictory or does not fit the graph.
    """
    given = {**_read_sidecar(path.with_suffix(".toml")), **overrides}
    spec = spec_from_metadata(metadata, path.name)
    if spec is None:
        given = {**_read_shape(input_shape), **given}
        needed = {
            "labels": "--labels NAME,NAME,...",
            "input_size": "--input-size HEIGHTxWIDTH",
            "layout": "--layout nchw|nhwc",
            "color": "--channels gray|rgb|bgr",
            "value_range": "--range 0,255 or 0,1 or -1,1",
        }
        missing = [flag for name, flag in needed.items() if name not in given]
        if missing:
            raise ModelError(
                f"{path.name} carries no fer-edge metadata, so its input and labels are unknown; "
                f"describe it with {', '.join(missing)} (and --mean, --std, --outputs where it "
                f"needs them), or with the same names in {path.with_suffix('.toml').name}"
            )
        spec = ModelSpec()
    try:
        spec = dataclasses.replace(spec, **given)
        check_spec(spec, path.name)
    except TypeError as error:
        raise ModelError(f"The description of {path.name} is wrong: {error}") from error
    _check_shapes(spec, input_shape, output_shape, path.name)
    return spec


def model_input_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """Return the shape of one input, without the batch dimension."""
    height, width = spec.input_size
    if spec.layout == "nhwc":
        return height, width, spec.channels
    return spec.channels, height, width


def _read_shape(shape: Shape) -> dict[str, Any]:
    """Return what a static input shape says without doubt."""
    if len(shape) != 4:
        return {}
    first, last = shape[1] in (1, 3), shape[3] in (1, 3)
    if first == last:
        return {}
    found: dict[str, Any] = {"layout": "nchw" if first else "nhwc"}
    height, width = shape[2:] if first else shape[1:3]
    if isinstance(height, int) and isinstance(width, int):
        found["input_size"] = (height, width)
    if (shape[1] if first else shape[3]) == 1:
        found["color"] = "gray"
    return found


def _check_shapes(spec: ModelSpec, input_shape: Shape, output_shape: Shape, name: str) -> None:
    expected = model_input_shape(spec)
    if len(input_shape) != 4 or not _fits(input_shape[1:], expected):
        raise ModelError(
            f"Expected {name} to take batches of {expected} as it is described, received an "
            f"input of {list(input_shape)}"
        )
    if len(output_shape) != 2 or not _fits(output_shape[1:], (len(spec.labels),)):
        raise ModelError(
            f"Expected {name} to answer with {len(spec.labels)} numbers for its labels "
            f"{', '.join(spec.labels)}, received an output of {list(output_shape)}"
        )


def _fits(shape: Shape, expected: Sequence[int]) -> bool:
    return all(
        not isinstance(side, int) or side == wanted
        for side, wanted in zip(shape, expected, strict=True)
    )


def _numbers(value: Any) -> tuple[float, ...]:
    return tuple(float(item) for item in (value if isinstance(value, list) else [value]))


def _size(value: Any) -> tuple[int, int]:
    height, width = value if isinstance(value, list) else (value, value)
    return height, width


def _labels(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise TypeError("labels must be a list of names")
    return tuple(value)


_SIDECAR: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "labels": ("labels", _labels),
    "input_size": ("input_size", _size),
    "layout": ("layout", str),
    "channels": ("color", str),
    "range": ("value_range", _numbers),
    "mean": ("mean", _numbers),
    "std": ("std", _numbers),
    "outputs": ("outputs", str),
    "margin": ("margin", float),
}


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):  # noqa: PTH113 - Path's raises for names that are too long
        return {}
    try:
        entries = tomllib.loads(path.read_text(encoding="utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read as TOML: {error}") from error
    found = {}
    for key, value in entries.items():
        name = key.replace("-", "_")
        if name not in _SIDECAR:
            raise ModelError(f"Expected {', '.join(_SIDECAR)} in {path}, received {key!r}")
        field, convert = _SIDECAR[name]
        try:
            found[field] = convert(value)
        except (TypeError, ValueError) as error:
            raise ModelError(f"Expected another value of {key} in {path}: {error}") from error
    return found
