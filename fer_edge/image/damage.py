"""What decoders say of a picture on standard error, and nowhere else: that it is damaged.

Of a JPEG or TIFF that is damaged in the middle they hand out a picture all the same, in part grey
or of noise.
"""

import io
import os
import re
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import Any, Self

from fer_edge._base._cv2 import cv2
from fer_edge.image.read import Frame

_STDERR = 2
# It moved in OpenCV 4.13.
_logging: Any = getattr(cv2.utils, "logging", cv2)
_ERRORS = 2
_DAMAGE = re.compile(
    rb"Corrupt JPEG data: (?!\d extraneous)[^\n]*|Premature end of JPEG file|"
    rb"TIFF_(?:Error|Warning)[^\n]*(?:rror|not yet in table|invalid|Not enough)[^\n]*"
)
"""Their messages; cameras that end their pictures with some bytes too many are left in peace."""


class DamageWatch:
    """While its ``with`` block lasts, reads pictures and tells which of them are damaged.

    Standard error is led into a file meanwhile; what Python writes there goes on as before, and
    what libraries write arrives at the end. For programs, therefore, not for libraries.
    """

    def __init__(self) -> None:
        """Describe a watch; it begins with the ``with`` block."""
        self._stack = ExitStack()
        self._heard: int | None = None
        self._turn = threading.Condition()
        self._readers = 0

    def __enter__(self) -> Self:
        """Lead standard error into a file."""
        with suppress(OSError):  # It is closed: there is nothing to hear.
            self._stack.enter_context(self._redirected())
        return self

    def __exit__(self, *error: object) -> None:
        """Give standard error back, with what it was told of other things."""
        self._stack.close()

    @contextmanager
    def _redirected(self) -> Iterator[None]:
        before = os.dup(_STDERR)
        python, level = sys.stderr, _logging.getLogLevel()
        with tempfile.TemporaryFile(buffering=0) as heard:
            try:
                if isinstance(python, io.TextIOWrapper) and _is_stderr(python):
                    sys.stderr = io.TextIOWrapper(
                        os.fdopen(os.dup(before), "wb", 0),
                        python.encoding,
                        python.errors,
                        line_buffering=True,
                        write_through=True,
                    )
                os.dup2(heard.fileno(), _STDERR)
                _logging.setLogLevel(max(level, _ERRORS))
                self._heard = heard.fileno()
                yield
            finally:
                self._heard = None
                _logging.setLogLevel(level)
                os.dup2(before, _STDERR)
                os.close(before)
                if sys.stderr is not python:
                    sys.stderr.close()
                    sys.stderr = python
                heard.seek(0)
                others = [line for line in heard.read().splitlines() if not _is_decoders(line)]
                with suppress(OSError):
                    os.write(_STDERR, b"".join(line + b"\n" for line in others))

    def read(self, read: Callable[[], Frame]) -> tuple[Frame, bool]:
        """Read a picture.

        Args:
            read: Reads it; called again, alone, where something was said meanwhile.

        Returns:
            The frame, and whether it is damaged.
        """
        if self._heard is None:
            return read(), False
        with self._turn:
            self._readers += 1
        start = os.fstat(self._heard).st_size
        try:
            frame = read()
            quiet = os.fstat(self._heard).st_size == start
        finally:
            with self._turn:
                self._readers -= 1
                self._turn.notify_all()
        if quiet:
            return frame, False
        # Others were read at the same time: only alone it is certain of which this was said.
        with self._turn:
            self._turn.wait_for(lambda: self._readers == 0)
            start = os.fstat(self._heard).st_size
            read()
            os.lseek(self._heard, start, os.SEEK_SET)
            said = os.read(self._heard, os.fstat(self._heard).st_size - start)
        return frame, _DAMAGE.search(said) is not None


def _is_stderr(stream: io.TextIOWrapper) -> bool:
    try:
        return stream.fileno() == _STDERR
    except OSError:
        return False


def _is_decoders(line: bytes) -> bool:
    return re.search(rb"JPEG|libpng|TIFF|imgcodecs|imdecode|^\s*$", line) is not None
