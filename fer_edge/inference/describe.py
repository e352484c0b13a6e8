"""The spec of a model file: its own metadata, or a description that is given to it."""

import ast
import dataclasses
import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from fer_edge.contract import (
    AFFECT,
    DESCRIPTION,
    METADATA_PREFIX,
    OUTPUT_NAME,
    ModelSpec,
    Scores,
    check_spec,
    read_description,
    spec_from_metadata,
)
from fer_edge.errors import ModelError
from fer_edge.inference.onnx_file import ModelFile, Shape, Tensor
from fer_edge.inference.presets import PRESETS

_LONGEST = 2**16
"""Longer texts in other makers' metadata are no lists of names."""


Reading = tuple[tuple[str, int], ...]
"""Names of the outputs that are read, each with its number of columns: side by side they are those
of the labels, then those of the numbers beside them."""


def describe_model(
    file: ModelFile, given: Mapping[str, Any], preset: str | None = None
) -> tuple[ModelSpec, Reading]:
    """Find out how a model is fed and read.

    A file of ours says it in its metadata. Of others the graph's own shapes count, then metadata
    of their makers' programs, then the file ``MODEL.toml`` beside ``MODEL.onnx``, the preset and
    what is given; what none of them says is never guessed.

    Args:
        file: The model's file.
        given: What the user says of it, as `read_description` reads it.
        preset: A key of `PRESETS`.

    Raises:
        ModelError: Something is missing, contradictory or does not fit the graph.
        ValueError: There is no such preset.
    """
    name = file.path.name
    spec = spec_from_metadata(file.metadata, name)
    described = known(file, given, preset)
    if spec is None:
        if needed := missing(described):
            wanted = ", ".join(f"`{entry}={metavar}`" for entry, metavar in needed)
            raise ModelError(
                f"{name} carries no fer-edge metadata, so its input and labels are unknown; "
                f"describe it with {wanted} (and `mean`, `std`, `outputs` where it needs them), "
                f"with the same names in {file.path.with_suffix('.toml').name}, or with a "
                f"`preset`; fer-edge info {name} shows what it has"
            )
        spec = ModelSpec()
    if len(described.get("labels", spec.labels)) != len(spec.labels):
        spec = dataclasses.replace(spec, prior=())  # It is that of other labels.
    spec = dataclasses.replace(spec, **described)
    check_spec(spec, name)
    _check_input(spec, file.inputs[0], name)
    return spec, _choose_outputs(spec, file)


def known(file: ModelFile, given: Mapping[str, Any], preset: str | None = None) -> dict[str, Any]:
    """Return what is known of a model apart from fer-edge's own metadata; see `describe_model`.

    Raises:
        ModelError: Something that stands beside the file cannot be read.
        ValueError: There is no such preset.
    """
    if preset is not None and preset not in PRESETS:
        raise ValueError(f"Expected {', '.join(PRESETS)} as preset, received {preset!r}")
    ours = any(key.startswith(METADATA_PREFIX) for key in file.metadata)
    found: dict[str, Any] = {} if ours else {**_of_graph(file), **_of_makers(file)}
    found |= _read_sidecar(file.path.with_suffix(".toml"))
    found |= PRESETS[preset].description if preset else {}
    found |= given
    return _part_affect(found)


def missing(described: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return name and form of what must be said of a model and is not."""
    return [
        (entry.name, entry.metavar)
        for entry in DESCRIPTION
        if entry.needed and entry.name not in described
    ]


def model_input_shape(spec: ModelSpec) -> tuple[int, int, int]:
    """Return the shape of one input, without the batch dimension."""
    height, width = spec.input_size
    if spec.layout == "nhwc":
        return height, width, spec.channels
    return spec.channels, height, width


def fitting_presets(file: ModelFile, outputs: Scores) -> list[str]:
    """Return the presets that fit a graph's shapes and the kind of its output."""
    return [
        name
        for name, preset in PRESETS.items()
        if preset.description["outputs"] == outputs and _fits_preset(file, name)
    ]


def _fits_preset(file: ModelFile, preset: str) -> bool:
    spec = dataclasses.replace(ModelSpec(), **PRESETS[preset].description)  # type: ignore[arg-type]
    try:
        _check_input(spec, file.inputs[0], "")
        reading = _choose_outputs(spec, file)
    except (ModelError, IndexError):
        return False
    columns = {output.name: output.columns for output in file.outputs}
    return all(columns[name] == width for name, width in reading)


def _of_graph(file: ModelFile) -> dict[str, Any]:
    """Return what a graph's static shapes, types and names say without doubt."""
    found = _of_shape(file.inputs[0].shape or ()) if file.inputs else {}
    if file.inputs and file.inputs[0].type == "uint8":
        found["range"] = (0.0, 255.0)
    affect = [
        output.name for output in file.outputs if _is_affect(output.name) and output.columns == 1
    ]
    return found | ({"affect": tuple(affect)} if affect else {})


def _of_shape(shape: Shape) -> dict[str, Any]:
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


def _of_makers(file: ModelFile) -> dict[str, Any]:
    """Return what other programs' metadata say: Ultralytics' exports and Hugging Face's."""
    entries = file.metadata
    found: dict[str, Any] = {}
    for key in ("names", "id2label", "labels", "classes", "class_names"):
        if names := _read_names(entries.get(key, "")):
            found["labels"] = names
            break
    if entries.get("task") == "classify" and "names" in entries and "imgsz" in entries:
        # Its classifiers take RGB levels from 0 to 1 and end in a softmax, whatever the network.
        found |= {"color": "rgb", "range": (0.0, 1.0), "outputs": "probabilities"}
        size = _literal(entries["imgsz"])
        if isinstance(size, list | tuple) and len(size) == 2:
            found["input_size"] = tuple(size)
    return {**_of_hugging_face(file.path.parent), **found}


def _of_hugging_face(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` and ``preprocessor_config.json``, which its exports lie beside."""
    names = _read_names(_read_json(folder / "config.json").get("id2label"))
    seen = _read_json(folder / "preprocessor_config.json")
    if not names or not seen:
        return {"labels": names} if names else {}
    # Its image processors give RGB, and its classifiers logits.
    found: dict[str, Any] = {"labels": names, "color": "rgb", "outputs": "logits"}
    factor = seen.get("rescale_factor", 1 / 255) if seen.get("do_rescale", True) else 1.0
    try:
        found["range"] = (0.0, round(255.0 * factor, 6))
        if seen.get("do_normalize", True):
            mean, std = seen["image_mean"], seen["image_std"]
            found |= read_description({"mean": mean, "std": std}, "preprocessor_config.json")
        size = seen.get("crop_size") if seen.get("do_center_crop") else seen.get("size")
        if isinstance(size, dict) and {"height", "width"} <= size.keys():
            found["input_size"] = (size["height"], size["width"])
    except (KeyError, TypeError, ValueError):
        return {"labels": names}
    return found


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _read_names(value: Any) -> tuple[str, ...]:
    """Read names in order from a list or a table by index, as JSON, Python or A,B,C."""
    found = _literal(value) if isinstance(value, str) else value
    if isinstance(found, dict):
        try:
            by_index = {int(index): name for index, name in found.items()}
        except (TypeError, ValueError):
            return ()
        found = [by_index.get(index) for index in range(len(by_index))]
    elif isinstance(found, str) and re.fullmatch(r"[\w -]+(,[\w -]+)+", found):
        found = [name.strip() for name in found.split(",")]
    if not isinstance(found, list | tuple) or not all(isinstance(name, str) for name in found):
        return ()
    return tuple(found)


def _literal(text: str) -> Any:
    if len(text) > _LONGEST:
        return None
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError, RecursionError, MemoryError, TypeError):
        return text


def _part_affect(found: dict[str, Any]) -> dict[str, Any]:
    """Part labels that are dimensions of affect from the others: they are no classes."""
    labels = found.get("labels", ())
    count = 0
    while count < len(labels) and _is_affect(labels[-1 - count]):
        count += 1
    if count:
        split = len(labels) - count
        found = {**found, "labels": tuple(labels[:split]), "affect": tuple(labels[split:])}
    return found


def _is_affect(name: object) -> bool:
    return isinstance(name, str) and name.lower() in AFFECT


def _check_input(spec: ModelSpec, source: Tensor, name: str) -> None:
    expected = model_input_shape(spec)
    shape = source.shape
    if shape is not None and (len(shape) != 4 or not _fits(shape[1:], expected)):
        raise ModelError(
            f"Expected {name} to take batches of {expected} as it is described, received the "
            f"input {source}; describe it otherwise"
        )
    plain = spec.range == (0.0, 255.0) and not any(spec.mean) and all(x == 1 for x in spec.std)
    if source.type == "uint8" and not plain:
        raise ModelError(
            f"Expected no `range`, `mean` and `std` for {name}, whose input takes whole levels "
            f"from 0 to 255, received {spec.range}, {spec.mean} and {spec.std}"
        )


def _choose_outputs(spec: ModelSpec, file: ModelFile) -> Reading:
    """Choose the outputs to read by name, or by the number of their columns."""
    labels, numbers, name = len(spec.labels), len(spec.affect), file.path.name
    floats = {output.name: output for output in file.outputs if output.is_float}
    shown = "; ".join(map(str, file.outputs)) or "none"
    if spec.output_name and spec.output_name not in floats:
        raise ModelError(
            f"Expected an output named {spec.output_name} of numbers in {name}, received {shown}"
        )
    wanted = {labels, labels + numbers}
    candidates = [spec.output_name] if spec.output_name else list(_of_columns(floats, wanted))
    if OUTPUT_NAME in candidates:
        candidates = [OUTPUT_NAME]
    if not candidates:
        hint = (
            ""
            if numbers
            else "; if some of its columns are valence and arousal, give `affect=valence,arousal`"
        )
        raise ModelError(
            f"Expected {name} to give {labels + numbers} numbers for its labels "
            f"{', '.join((*spec.labels, *spec.affect))}, received {shown}{hint}"
        )
    if len(candidates) > 1:
        raise ModelError(
            f"Expected one output of {labels} numbers in {name}, received "
            f"{', '.join(candidates)}; choose it with `output_name={candidates[0]}`"
        )
    scores = candidates[0]
    columns = floats[scores].columns
    if columns is not None and columns not in wanted:
        raise ModelError(
            f"Expected the output {scores} of {name} to have {labels} numbers for its labels "
            f"{', '.join(spec.labels)}, received {floats[scores]}"
        )
    others = {key: output for key, output in floats.items() if key != scores}
    if not numbers or columns == labels + numbers or (columns is None and not others):
        return ((scores, labels + numbers),)
    if beside := _affect_outputs(spec.affect, others):
        return ((scores, labels), *beside)
    raise ModelError(
        f"Expected {', '.join(spec.affect)} in the last columns of {scores} of {name}, or in "
        f"outputs of their own, received {shown}"
    )


def _of_columns(outputs: Mapping[str, Tensor], wanted: set[int]) -> Iterator[str]:
    """Yield the outputs with so many columns, or those that do not say, where none has."""
    exact = [name for name, output in outputs.items() if output.columns in wanted]
    yield from exact or [name for name, output in outputs.items() if output.columns is None]


def _affect_outputs(affect: Sequence[str], outputs: Mapping[str, Tensor]) -> Reading:
    """Return the one output with all numbers, or one for each: by their names, or as they come."""
    whole = list(_of_columns(outputs, {len(affect)}))
    if len(whole) == 1:
        return ((whole[0], len(affect)),)
    single = list(_of_columns(outputs, {1}))
    by_name = {name.lower(): name for name in single}
    if all(name.lower() in by_name for name in affect):
        single = [by_name[name.lower()] for name in affect]
    return tuple((name, 1) for name in single) if len(single) == len(affect) else ()


def _fits(shape: Shape, expected: Sequence[int]) -> bool:
    return all(
        not isinstance(side, int) or side == wanted
        for side, wanted in zip(shape, expected, strict=True)
    )


def _read_sidecar(path: Path) -> dict[str, Any]:
    if not os.path.isfile(path):  # noqa: PTH113 - Path's raises for names that are too long
        return {}
    import tomllib  # Late: most models need no such file.

    try:
        return read_description(tomllib.loads(path.read_text(encoding="utf-8")), str(path))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise ModelError(f"{path} cannot be read as TOML: {error}") from error
    except ValueError as error:
        raise ModelError(f"{error}") from error
