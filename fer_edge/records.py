"""Records as a table, JSON Lines or CSV."""

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import IO, Any, Literal, Protocol

from fer_edge.inference.classifier import FaceResult

Format = Literal["table", "jsonl", "csv"]
Status = Literal["ok", "no_face", "error"]

DECIMALS = 6


@dataclass(frozen=True)
class Record:
    """What became of one picture.

    Attributes:
        image: Its name as given.
        model: File name of the model used.
        width: Pixels, None where the picture could not be read.
        height: Pixels, None where the picture could not be read.
        status: ``ok``, ``no_face`` or ``error``.
        error: Why it failed, or None.
        faces: Its faces, largest first.
    """

    image: str
    model: str
    width: int | None = None
    height: int | None = None
    status: Status = "ok"
    error: str | None = None
    faces: Sequence[FaceResult] = ()

    def to_dict(self) -> dict[str, Any]:
        """Return the record as plain JSON values."""
        return {
            "image": self.image,
            "width": self.width,
            "height": self.height,
            "status": self.status,
            "error": self.error,
            "faces": [face_to_dict(face) for face in self.faces],
            "model": self.model,
        }


def face_to_dict(face: FaceResult) -> dict[str, Any]:
    """Return one face as plain JSON values."""
    score = face.detector_score
    return {
        "box": list(face.box),
        "detector_score": None if score is None else round(score, DECIMALS),
        "emotion": face.emotion,
        "confidence": round(face.confidence, DECIMALS),
        "probabilities": {
            label: round(value, DECIMALS) for label, value in face.probabilities.items()
        },
    }


class Writer(Protocol):
    """Writes records to a text stream, one after the other."""

    def write(self, record: Record) -> None:
        """Write one record."""
        ...


class JsonlWriter:
    """One JSON object a line, in ASCII, so that no terminal or pipe can spoil a name."""

    def __init__(self, stream: IO[str]) -> None:
        """Write to a text stream."""
        self._stream = stream

    def write(self, record: Record) -> None:
        """Write one record as one line."""
        self._stream.write(json.dumps(record.to_dict()) + "\n")


_HEAD = ("image", "width", "height", "status", "error", "model")
_FACE = ("face", "x", "y", "w", "h", "detector_score", "emotion", "confidence")


class CsvWriter:
    """One row a face; pictures without faces have one row with empty cells."""

    def __init__(self, stream: IO[str], labels: Sequence[str]) -> None:
        """Write the header to a text stream."""
        self._labels = labels
        self._writer = csv.writer(stream, lineterminator="\n")
        self._writer.writerow([*_HEAD, *_FACE, *map(plain_cell, labels)])

    def write(self, record: Record) -> None:
        """Write one row for each face."""
        values = record.to_dict()
        head = [
            plain_cell(values[name]) if isinstance(values[name], str) else values[name]
            for name in _HEAD
        ]
        for index, face in enumerate(values["faces"]):
            known = [index, *face["box"], face["detector_score"]]
            known += [plain_cell(face["emotion"]), face["confidence"]]
            scores = [face["probabilities"][label] for label in self._labels]
            self._writer.writerow([*head, *known, *scores])
        if not values["faces"]:
            self._writer.writerow([*head, *([None] * (len(_FACE) + len(self._labels)))])


class TableWriter:
    """Aligned columns for reading; at most ``top`` emotions of each face."""

    def __init__(self, stream: IO[str], name_width: int, top: int) -> None:
        """Write the header to a text stream."""
        self._stream = stream
        self._name_width = min(max(name_width, 5), 48)
        self._top = top
        self._row("image", "box", "emotion")

    def _row(self, name: str, box: str, text: str) -> None:
        self._stream.write(f"{name:<{self._name_width}}  {box:<19}  {text}\n")

    def write(self, record: Record) -> None:
        """Write one row for each face."""
        name = "".join(letter if letter.isprintable() else "?" for letter in record.image)
        if len(name) > self._name_width:
            name = "…" + name[-self._name_width + 1 :]
        if record.status == "error":
            self._row(name, "-", f"error: {record.error}")
        elif not record.faces:
            self._row(name, "-", "no face")
        for face in record.faces:
            left, top, width, height = face.box
            ranked = ", ".join(
                f"{emotion.label} {emotion.probability:.1%}" for emotion in face.top(self._top)
            )
            label = ranked if face.emotion == face.top(1)[0].label else f"{face.emotion} ({ranked})"
            self._row(name, f"{left},{top} {width}x{height}", label)


def plain_cell(text: str) -> str:
    """Keep spreadsheets from running a cell as a formula: a quote goes before its first sign."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


def make_writer(
    output_format: Format, stream: IO[str], labels: Sequence[str], *, name_width: int, top: int
) -> Writer:
    """Make the writer of a format."""
    if output_format == "table":
        return TableWriter(stream, name_width, top)
    return JsonlWriter(stream) if output_format == "jsonl" else CsvWriter(stream, labels)
