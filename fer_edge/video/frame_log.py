"""Records of a video, written as it goes."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any, Self

from fer_edge._base.files import refuse_existing
from fer_edge.records import FRAMES, Columns, Writer, open_records
from fer_edge.video.options import LogFormat
from fer_edge.video.watch import WatchedFrame


class FrameLog:
    """A file, or standard output, that takes one record a frame.

    As ``jsonl`` each record is a line; as ``csv`` and ``parquet`` each face is a row, and a frame
    without faces is a row with empty cells; ``json`` is one array.

    Attributes:
        source: The video that the next records are of: their first column, where the log is named.
    """

    def __init__(
        self,
        path: Path | None,
        log_format: LogFormat,
        labels: Sequence[str],
        *,
        force: bool = False,
        named: bool = False,
    ) -> None:
        """Describe a log; it is opened on entering the ``with`` block.

        Args:
            path: The file, or None for standard output.
            log_format: From `fer_edge.records.choose_format`.
            labels: Names of the emotions.
            force: Whether an existing file may be replaced.
            named: Whether records say of which of several videos they are.

        Raises:
            OutputError: The file is there already.
        """
        if path is not None:
            refuse_existing(path, force=force)
        self._named = named
        columns = Columns({"source": str, **FRAMES.head}, FRAMES.number) if named else FRAMES
        self._opened = open_records(path, log_format, columns, labels, force=force)
        self._stack = ExitStack()
        self._writer: Writer | None = None
        self.source = ""

    def __enter__(self) -> Self:
        """Open the file.

        Raises:
            OutputError: The file cannot be written.
        """
        self._writer = self._stack.enter_context(self._opened)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the file: it is whole, also where the video broke.

        Raises:
            OutputError: The file cannot be written.
        """
        self._writer = None
        self._stack.__exit__(None, None, None)

    def take(self, watched: WatchedFrame) -> None:
        """Write a frame's record."""
        self.write(watched.to_dict())

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the record of one frame.

        Args:
            record: As `WatchedFrame.to_dict` or `error_record` gives it.

        Raises:
            OutputError: The file cannot be written; it then ends with the record before.
        """
        if self._writer is None:
            raise ValueError("Expected writing inside of 'with FrameLog(...) as log:'")
        self._writer.write({"source": self.source, **record} if self._named else record)
