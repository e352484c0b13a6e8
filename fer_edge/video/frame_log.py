"""Records of a video, written as it goes: whatever ends the program, only whole lines are there."""

import csv
import io
import json
import os
import sys
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Self

from fer_edge._base.files import refuse_existing
from fer_edge.errors import OutputError
from fer_edge.records import plain_cell
from fer_edge.video.options import LogFormat

_COLUMNS = ("frame", "time_s", "width", "height", "status", "error")
_FACE_COLUMNS = ("track", "x", "y", "w", "h", "detector_score", "emotion", "confidence")


class FrameLog:
    """A file, or standard output, that takes one record a frame.

    As ``jsonl`` each record is a line; as ``csv`` each face is a row, and a frame without faces is
    a row with empty cells.
    """

    def __init__(
        self,
        path: Path | None,
        log_format: LogFormat,
        labels: Sequence[str],
        *,
        force: bool = False,
    ) -> None:
        """Describe a log; it is opened on entering the ``with`` block.

        Args:
            path: The file, or None for standard output.
            log_format: ``jsonl`` or ``csv``.
            labels: Names of the emotions: csv's last columns.
            force: Whether an existing file may be replaced.

        Raises:
            OutputError: The file is there already.
        """
        if path is not None:
            refuse_existing(path, force=force)
        self._path = path
        self._format = log_format
        self._labels = labels
        self._file: BinaryIO | None = None
        self._size = 0

    def __enter__(self) -> Self:
        """Open the file and write csv's header.

        Raises:
            OutputError: The file cannot be written.
        """
        if self._path is None:
            self._file = sys.stdout.buffer
        else:
            try:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                self._file = self._path.open("wb", buffering=0)
            except OSError as error:
                raise OutputError(f"Cannot write {self._path}: {error.strerror}") from error
        if self._format == "csv":
            self._write_rows([[*_COLUMNS, *_FACE_COLUMNS, *map(plain_cell, self._labels)]])
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the file."""
        if self._file and self._path is not None:
            self._file.close()

    def write(self, record: dict[str, Any]) -> None:
        """Write the record of one frame.

        Args:
            record: As `WatchedFrame.to_dict` or `error_record` gives it.

        Raises:
            OutputError: The file cannot be written; it then ends with the record before.
        """
        if self._format == "jsonl":
            self._write(json.dumps(record) + "\n")
            return
        head = [record[name] for name in _COLUMNS[:-1]] + [plain_cell(record["error"] or "")]
        rows = [
            [*head, face["track"], *face["box"], face["detector_score"]]
            + [plain_cell(face["emotion"]), face["confidence"]]
            + [face["probabilities"][label] for label in self._labels]
            for face in record["faces"]
        ]
        empty = [None] * (len(_FACE_COLUMNS) + len(self._labels))
        self._write_rows(rows or [[*head, *empty]])

    def _write_rows(self, rows: Sequence[Sequence[object]]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows(rows)
        self._write(text.getvalue())

    def _write(self, text: str) -> None:
        if self._file is None:
            raise ValueError("Expected writing inside of 'with FrameLog(...) as log:'")
        data = memoryview(text.encode())
        if self._path is None:
            self._file.write(data)
            self._file.flush()
            return
        try:
            done = 0
            while done < len(data):
                done += self._file.write(data[done:])
        except OSError as error:
            # A full disk may have taken half of the line. Pipes cannot be cut back.
            with suppress(OSError):
                os.ftruncate(self._file.fileno(), self._size)
            raise OutputError(f"Cannot write {self._path}: {error.strerror}") from error
        self._size += len(data)
