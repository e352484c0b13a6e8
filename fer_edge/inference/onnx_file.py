"""A look into an ONNX file before anything runs it, without the onnx package."""

from collections.abc import Iterator
from pathlib import Path

from fer_edge._base.bounded import read_at_most
from fer_edge.errors import ModelError

MAX_MODEL_BYTES = 2**30
"""Larger files are refused before they are read; the thesis's largest has 0.1 of that."""

# Which fields of onnx.proto lead from a kind of message to tensors: {field number: kind}.
_PATHS: dict[str, dict[int, str]] = {
    "model": {7: "graph", 20: "training", 25: "function"},
    "training": {1: "graph", 2: "graph"},
    "graph": {1: "node", 5: "tensor", 15: "sparse"},
    "function": {7: "node", 11: "attribute"},
    "node": {5: "attribute"},
    "attribute": {5: "tensor", 6: "graph", 10: "tensor", 11: "graph", 22: "sparse", 23: "sparse"},
    "sparse": {1: "tensor", 2: "tensor"},
    "tensor": {},
}
_EXTERNAL_DATA, _DATA_LOCATION = 13, 14


def read_model(path: Path) -> bytes:
    """Read an ONNX file that keeps all its data to itself.

    Args:
        path: The file.

    Returns:
        Its content.

    Raises:
        ModelError: The file cannot be read, is too large, is no ONNX file, or asks for data from
            other files, which could be any file of this machine.
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
        external = _has_external_data(memoryview(content))
    except ValueError as error:
        raise ModelError(
            f"Expected an ONNX model, received {path}, which is of another kind, damaged or cut "
            "short"
        ) from error
    if external:
        raise ModelError(
            f"Expected all weights inside of {path}, received references to other files; save it "
            "as one: onnx.save(onnx.load(FILE), NEW_FILE)"
        )
    return content


def _has_external_data(content: memoryview) -> bool:
    """Walk a ModelProto; a stack of its own, since hostile files nest deeply."""
    messages = [("model", content)]
    while messages:
        kind, message = messages.pop()
        for number, value in _fields(message):
            if kind == "tensor" and number in (_EXTERNAL_DATA, _DATA_LOCATION):
                if number == _EXTERNAL_DATA or value != 0:
                    return True
            elif number in _PATHS[kind] and isinstance(value, memoryview):
                messages.append((_PATHS[kind][number], value))
    return False


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
