"""Records as a table, JSON Lines or CSV; files written whole or not at all."""

import csv
import io
import json
import os
import secrets
import sys
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, Literal, Protocol

from fer_edge.classifier import FaceResult
from fer_edge.errors import OutputError

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


@contextmanager
def atomic_file(path: Path, *, force: bool = False) -> Iterator[IO[bytes]]:
    """Open a file for writing that appears whole at the end, or not at all.

    Links are followed, and pipes and devices, which cannot be replaced, are written as they are.

    Args:
        path: The file; its folder is made where it is missing.
        force: Whether an existing file may be replaced.

    Raises:
        OutputError: The file is there already, or cannot be written.
    """
    refuse_existing(path, force=force)
    try:
        if _is_special(path):
            with path.open("wb") as file:
                yield file
            return
        # Not Path's own, which raises for links that lead to themselves.
        target = Path(os.path.realpath(path))
        temporary = target.parent / f".fer-edge-{secrets.token_hex(8)}.part"
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            with temporary.open("xb") as file:
                yield file
            temporary.replace(target)
        finally:
            with suppress(OSError):
                temporary.unlink()
    except BrokenPipeError:
        raise
    except OSError as error:
        raise OutputError(f"Cannot write {path}: {error.strerror}") from error


def _is_special(path: Path) -> bool:
    # Not Path's own tests: they raise for names that are too long and folders that are closed.
    return os.path.exists(path) and not os.path.isfile(path)  # noqa: PTH110, PTH113


def refuse_existing(path: Path, *, force: bool) -> None:
    """Raise OutputError where a file would be replaced without ``--force``."""
    if os.path.isdir(path):  # noqa: PTH112
        raise OutputError(f"Expected a file to write, {path} is a folder")
    if os.path.isfile(path) and not force:  # noqa: PTH113
        raise OutputError(f"{path} is there already; give --force to replace it")


def refuse_same(outputs: Iterable[Path], inputs: Iterable[Path]) -> None:
    """Raise OutputError where a file would be written that is read, or that is written twice."""
    taken = {file_identity(path): "what is read" for path in inputs}
    for path in outputs:
        identity = file_identity(path)
        if identity in taken and not _is_special(path):
            raise OutputError(f"{path} is {taken[identity]}; write to another file")
        taken[identity] = "written twice"


def file_identity(path: Path) -> tuple[int, int] | str:
    """Return what two names of one file have in common, whether it is there yet or not."""
    try:
        known = path.stat()
    except (OSError, ValueError):
        return os.path.realpath(path)
    return known.st_dev, known.st_ino


@contextmanager
def text_output(path: Path | None, *, force: bool = False) -> Iterator[IO[str]]:
    """Open a UTF-8 file that appears whole at the end, or standard output for None."""
    if path is None:
        if isinstance(sys.stdout, io.TextIOWrapper):
            # Terminals that lack a letter show its code instead of failing.
            sys.stdout.reconfigure(errors="backslashreplace")
        yield sys.stdout
        return
    with atomic_file(path, force=force) as file:
        text = io.TextIOWrapper(file, encoding="utf-8", newline="", write_through=True)
        yield text
        text.detach()


def make_writer(
    output_format: Format, stream: IO[str], labels: Sequence[str], *, name_width: int, top: int
) -> Writer:
    """Make the writer of a format."""
    if output_format == "table":
        return TableWriter(stream, name_width, top)
    return JsonlWriter(stream) if output_format == "jsonl" else CsvWriter(stream, labels)
