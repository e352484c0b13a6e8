"""A recording that appears whole when it ends."""

import os
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge._base.files import refuse_existing
from fer_edge.errors import OutputError
from fer_edge.image.read import Frame
from fer_edge.video.source import USUAL_FPS


class VideoSink:
    """An .mp4 recording that appears whole when the ``with`` block ends, also by an error.

    Frames are repeated or left out so that the recording plays at the speed of ``time_s``.

    Example:
        >>> with VideoSink(Path("out.mp4"), fps=30) as sink:
        ...     sink.write(frame.image_bgr, frame.time_s)

    Attributes:
        frames: Frames written so far.
    """

    _MAX_GAP_S = 10.0
    """Longer pauses of a source are cut to this in the recording."""

    def __init__(self, path: Path, fps: float | None, *, force: bool = False) -> None:
        """Describe a recording; its size is that of the first frame.

        Args:
            path: The file, ending in .mp4.
            fps: Frames per second of the recording; None means 25.
            force: Whether an existing file may be replaced.

        Raises:
            OutputError: The file is there already, is not .mp4, or its folder cannot be written.
        """
        if path.suffix.lower() != ".mp4":
            raise OutputError(f"Expected a recording that ends in .mp4, received {path}")
        refuse_existing(path, force=force)
        # Where a link leads, so that the recording does not take the link's place.
        self._path = Path(os.path.realpath(path))
        self._temporary = self._path.with_name(f".fer-edge-{path.stem[:64]}.part.mp4")
        self._fps = min(max(fps or USUAL_FPS, 1.0), 240.0)
        self._writer: cv2.VideoWriter | None = None
        self._size = (0, 0)
        self._start_s = 0.0
        self.frames = 0

    def __enter__(self) -> Self:
        """Start recording."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Finish the file.

        Raises:
            OutputError: The file could not be written whole.
        """
        if self._writer is None:
            return
        self._writer.release()
        self._writer = None
        # OpenCV keeps a full disk to itself, so the file is asked what arrived.
        check = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        arrived = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if arrived < self.frames:
            self._temporary.unlink(missing_ok=True)
            raise OutputError(
                f"Cannot write {self._path}: {arrived} of {self.frames} frames arrived; check the "
                "space on its disk"
            )
        try:
            self._temporary.replace(self._path)
        except OSError as failure:
            raise OutputError(f"Cannot write {self._path}: {failure.strerror}") from failure

    def write(self, frame_bgr: Frame, time_s: float) -> None:
        """Add a frame.

        Args:
            frame_bgr: (H, W, 3) uint8 BGR; scaled where its size differs from the first.
            time_s: When it is shown, seconds on any clock that only goes forward.

        Raises:
            OutputError: OpenCV cannot write such a file.
        """
        if self._writer is None:
            self._open(frame_bgr, time_s)
        if (frame_bgr.shape[1], frame_bgr.shape[0]) != self._size:
            frame_bgr = np.asarray(cv2.resize(frame_bgr, self._size), np.uint8)
        due = round((time_s - self._start_s) * self._fps) + 1 - self.frames
        most = int(self._MAX_GAP_S * self._fps)
        if due > most:
            self._start_s += (due - most) / self._fps
            due = most
        for _ in range(due):
            self._writer.write(frame_bgr)  # type: ignore[union-attr]
            self.frames += 1

    def _open(self, frame_bgr: Frame, time_s: float) -> None:
        self._start_s = time_s
        self._size = (frame_bgr.shape[1], frame_bgr.shape[0])
        try:
            self._path.parent.mkdir(parents=True, exist_ok=True)
            # OpenCV does not say why it cannot open a file; the system does.
            self._temporary.touch()
        except OSError as error:
            raise OutputError(f"Cannot write {self._path}: {error.strerror}") from error
        # MPEG-4 part 2: the one codec for .mp4 that every build of OpenCV brings.
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        writer = cv2.VideoWriter(str(self._temporary), cv2.CAP_FFMPEG, codec, self._fps, self._size)
        if not writer.isOpened():
            self._temporary.unlink(missing_ok=True)
            raise OutputError(
                f"Cannot write {self._path}: this OpenCV has no MPEG-4 encoder; run: "
                "pip install --force-reinstall 'opencv-python-headless<5'"
            )
        self._writer = writer
