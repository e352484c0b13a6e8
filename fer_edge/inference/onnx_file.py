"""A look into an ONNX file before anything runs it, without the onnx package."""

import math
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from fer_edge._base.bounded import read_at_most
from fer_edge.errors import ModelError

MAX_MODEL_BYTES = 2**30
"""Larger files are refused before they are read; the thesis's largest has 0.1 of that."""

Shape = tuple[int | str | None, ...]
"""A tensor's shape; free dimensions are names or None."""

# Which fields of onnx.proto lead from a kind of message to tensors: {field number: kind}.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "main", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "main": {1: "node", 5: "tensor", 15: "sparse"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14
# TensorProto.DataType.
_TYPES = {
    **{1: "float", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64"},
    **{8: "string", 9: "bool", 10: "float16", 11: "double", 12: "uint32", 13: "uint64"},
    **{16: "bfloat16"},
}


@dataclass(frozen=True)
class Tensor:
    """An input or output of a graph.

    Attributes:
        name: Its name.
        type: Of its elements, as ONNX names it, such as ``float`` or ``float16``; "" where it is
            no tensor.
        shape: Batch dimension first; None where the file does not say how many there are.
    """

    name: str
    type: str
    shape: Shape | None

    @property
    def is_float(self) -> bool:
        """Whether its elements can be read as float32."""
        return self.type in ("float", "float16", "double")

    @property
    def columns(self) -> int | None:
        """Numbers for each input of a batch; None where the file does not say how many.

        The batch dimension may be missing, as in (7,), and there may be others, as in (N, 7, 1, 1).
        """
        if self.shape is None:
            return None
        alone = len(self.shape) == 1 and isinstance(self.shape[0], int)
        sides = self.shape if alone else self.shape[1:]
        count = math.prod(side for side in sides if isinstance(side, int))
        return None if count == 1 and not all(isinstance(side, int) for side in sides) else count

    def __str__(self) -> str:
        """Return what a user is shown."""
        sides = ["?" if side is None else str(side) for side in self.shape or ()]
        shape = "any shape" if self.shape is None else f"({', '.join(sides)})"
        return f"{self.name} {self.type or 'no tensor'} {shape}"


@dataclass(frozen=True)
class ModelFile:
    """What a model's file says of itself.

    Attributes:
        path: The file.
        inputs: Of the graph; weights are none.
        outputs: Of the graph.
        metadata: Its custom entries.
        ir_version: Of ONNX's format.
        opset: Version of the standard operators, 0 where none are named.
        producer: Name and version of the program that wrote it.
        data_files: Files beside it that hold its weights.
    """

    path: Path
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    metadata: Mapping[str, str] = field(default_factory=dict)
    ir_version: int = 0
    opset: int = 0
    producer: str = ""
    data_files: tuple[Path, ...] = ()


def read_model(path: Path) -> tuple[bytes, ModelFile]:
    """Read an ONNX file whose weights are inside of it or in files beside it.

    Args:
        path: The file.

    Returns:
        Its content, and what it says of itself.

    Raises:
        ModelError: The file cannot be read, is too large, is no ONNX file, or asks for data from
            other folders, which could be any file of this machine.
    """
    try:
        content = read_at_most(path, MAX_MODEL_BYTES)
    except OSError as error:
        raise ModelError(f"Cannot read {path}: {error.strerror}") from error
    if not content:
        raise ModelError(f"Expected an ONNX model, received an empty file, {path}")
    if len(content) > MAX_MODEL_BYTES:
        raise ModelError(f"Expected at most {MAX_MODEL_BYTES} bytes in {path}, received more")
    try:
        model = _Fields(memoryview(content), 1, 2, 3, 7, 8, 14)
        graph = _Fields(model.last(7), 5, 11, 12)
        weights = {_Fields(tensor, 8).text(8) for tensor in graph.messages(5)}
        inputs = tuple(_tensor(value) for value in graph.messages(11))
        opsets = [_Fields(opset, 1, 2) for opset in model.messages(8)]
        entries = [_Fields(entry, 1, 2) for entry in model.messages(14)]
        locations = sorted(_external_locations(memoryview(content)))
        return content, ModelFile(
            path=path,
            ir_version=model.number(1),
            opset=max(
                (opset.number(2) for opset in opsets if opset.text(1) in ("", "ai.onnx")), default=0
            ),
            producer=f"{model.text(2)} {model.text(3)}".strip(),
            # Until IR version 4 weights had to be listed as inputs too.
            inputs=tuple(tensor for tensor in inputs if tensor.name not in weights),
            outputs=tuple(_tensor(value) for value in graph.messages(12)),
            metadata={entry.text(1): entry.text(2) for entry in entries},
            data_files=tuple(_beside(path, location) for location in locations),
        )
    except ValueError as error:
        raise ModelError(
            f"Expected an ONNX model, received {path}, which is of another kind, damaged or cut "
            "short"
        ) from error


def _external_locations(content: memoryview) -> set[str]:
    """Walk a ModelProto; a stack of its own, since hostile files nest deeply."""
    messages = [("model", content)]
    locations = set()
    while messages:
        kind, message = messages.pop()
        external, outside = [], False
        for number, value in _fields(message):
            if kind == "tensor" and number == _DATA_LOCATION:
                outside = value != 0
            elif kind == "tensor" and number == _EXTERNAL_DATA:
                external.append(_Fields(value, 1, 2))
            elif number in _PATHS[kind] and isinstance(value, memoryview):
                messages.append((_PATHS[kind][number], value))
        if external or outside:
            named = [entry.text(2) for entry in external if entry.text(1) == "location"]
            locations.update(named or [""])
    return locations


def _beside(path: Path, location: str) -> Path:
    """Return the file beside a model that it keeps weights in.

    Raises:
        ModelError: It is not there, or not in the model's own folder.
    """
    parts = PurePosixPath(location).parts
    name = parts[0] if len(parts) == 1 else ""
    if Path(name).name != name or name in ("", "..") or not name.isprintable():
        raise ModelError(
            f"Expected all weights inside of {path} or in files beside it, received a reference to "
            f"{location!r}; save it as one: onnx.save(onnx.load(FILE), NEW_FILE)"
        )
    file = path.parent / name
    if not os.path.isfile(file):  # noqa: PTH113 - Path's raises for names that are too long
        raise ModelError(
            f"Expected {name} beside {path}, which keeps its weights there, received none; copy "
            "both files"
        )
    # A cache of downloads holds links to both files, side by side elsewhere.
    if file.resolve().parent not in (path.parent.resolve(), path.resolve().parent):
        raise ModelError(
            f"Expected the weights of {path} in its own folder, received {file}, a link that leads "
            "out of it; copy the file there"
        )
    if (size := file.stat().st_size) > MAX_MODEL_BYTES:
        raise ModelError(f"Expected at most {MAX_MODEL_BYTES} bytes in {file}, received {size}")
    return file


def _tensor(value: memoryview) -> Tensor:
    """Read a ValueInfoProto."""
    info = _Fields(value, 1, 2)
    tensor = _Fields(_Fields(info.last(2), 1).last(1), 1, 2)
    sides = [_Fields(side, 1, 2) for side in _Fields(tensor.last(2), 1).messages(1)]
    # Some programs write free dimensions as 0 or -1.
    shape: Shape = tuple(
        size if 0 < (size := side.number(1)) < 2**63 else side.text(2) or None for side in sides
    )
    return Tensor(info.text(1), _TYPES.get(tensor.number(1), ""), shape if tensor.has(2) else None)


class _Fields:
    """Some fields of one protobuf message by their numbers."""

    def __init__(self, message: int | memoryview, *wanted: int) -> None:
        """Read a message, of which the other fields may be many.

        Raises:
            ValueError: It is damaged, or no message.
        """
        if isinstance(message, int):
            raise ValueError("a number in a message's place")
        self._values: dict[int, list[int | memoryview]] = {number: [] for number in wanted}
        for number, value in _fields(message):
            if number in self._values:
                self._values[number].append(value)

    def has(self, number: int) -> bool:
        return bool(self._values[number])

    def messages(self, number: int) -> list[memoryview]:
        return [value for value in self._values[number] if isinstance(value, memoryview)]

    def last(self, number: int) -> memoryview:
        return next(reversed(self.messages(number)), memoryview(b""))

    def text(self, number: int) -> str:
        return bytes(self.last(number)).decode("utf-8", "replace")

    def number(self, number: int) -> int:
        values = [value for value in self._values[number] if isinstance(value, int)]
        return values[-1] if values else 0


def _fields(message: memoryview) -> Iterator[tuple[int, int | memoryview]]:
    """Yield number and value of each field of a protobuf message.

    Raises:
        ValueError: The message is damaged.
    """
    position = 0
    while position < len(message):
        tag, position = _varint(message, position)
        number, wire = tag >> 3, tag & 7
        if wire == 0:
            value, position = _varint(message, position)
            yield number, value
            continue
        if wire == 2:
            length, position = _varint(message, position)
        elif wire in (1, 5):
            length = 8 if wire == 1 else 4
        else:  # groups, which ONNX has none of
            raise ValueError(f"wire type {wire}")
        if number == 0 or position + length > len(message):
            raise ValueError("beyond the end")
        yield number, message[position : position + length]
        position += length


def _varint(message: memoryview, position: int) -> tuple[int, int]:
    value = 0
    for shift in range(0, 70, 7):
        if position >= len(message):
            raise ValueError("beyond the end")
        byte = message[position]
        position += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, position
    raise ValueError("a number of more than ten bytes")
