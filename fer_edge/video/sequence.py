"""Numbered pictures as a video: ``img_%04d.jpg``."""

import logging
import re
from collections.abc import Iterator
from pathlib import Path

from fer_edge._base._cv2 import cv2
from fer_edge.errors import ImageError, SourceError
from fer_edge.image.read import Frame, read_image

_PATTERN = re.compile(r"([^%]*)%(?:0(\d+))?d([^%]*)")

_log = logging.getLogger(__name__)


class ImageSequence:
    """The pictures of a pattern, in the order of their numbers, read as `cv2.VideoCapture` is.

    Numbers may begin anywhere and have gaps. A picture that cannot be read is told of and left
    out, and its place in time stays empty.
    """

    def __init__(self, pattern: str, fps: float) -> None:
        """Find the pictures.

        Args:
            pattern: A path whose name holds one ``%d``, or ``%04d`` for four digits or more.
            fps: Frames per second.

        Raises:
            SourceError: The folder cannot be looked into, or no picture is named so.
        """
        path = Path(pattern)
        before, digits, after = _PATTERN.findall(path.name)[0]
        name = re.compile(rf"{re.escape(before)}(\d{{{digits or 1},}}){re.escape(after)}")
        try:
            found = [(name.fullmatch(one.name), one) for one in path.parent.iterdir()]
        except OSError as error:
            raise SourceError(
                f"Expected pictures named {pattern}, found no folder {path.parent} "
                f"({error.strerror})"
            ) from error
        numbered = sorted((int(match[1]), one) for match, one in found if match)
        if not numbered:
            raise SourceError(
                f"Expected pictures named {pattern}, found none in {path.parent}; %04d stands for "
                "a number of four digits"
            )
        self._pictures: Iterator[Path] = iter([one for _, one in numbered])
        self._count = len(numbered)
        self._fps = fps
        self._frame: Frame | None = None
        self._size = (0, 0)

    @staticmethod
    def is_pattern(text: str) -> bool:
        """Return whether a text names pictures that are numbered."""
        return _PATTERN.fullmatch(Path(text).name) is not None

    def isOpened(self) -> bool:
        """Return whether there are pictures."""
        return True

    def grab(self) -> bool:
        """Read the next picture; False after the last."""
        path = next(self._pictures, None)
        if path is None:
            return False
        try:
            self._frame = read_image(path)
            self._size = (self._frame.shape[1], self._frame.shape[0])
        except ImageError as error:
            _log.warning("%s is left out: %s", path, error.message)
            self._frame = None
        return True

    def retrieve(self) -> tuple[bool, Frame | None]:
        """Return whether the picture could be read, and the picture."""
        return self._frame is not None, self._frame

    def get(self, prop: int, /) -> float:
        """Return a property of OpenCV's; 0 for those that pictures have not."""
        known = {
            cv2.CAP_PROP_FPS: self._fps,
            cv2.CAP_PROP_FRAME_COUNT: self._count,
            cv2.CAP_PROP_FRAME_WIDTH: self._size[0],
            cv2.CAP_PROP_FRAME_HEIGHT: self._size[1],
        }
        return float(known.get(prop, 0))

    def release(self) -> None:
        """Let go of the pictures."""
        self._pictures = iter(())
        self._frame = None
