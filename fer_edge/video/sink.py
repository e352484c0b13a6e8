"""A recording that appears whole when it ends."""

from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Self

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge._base._installed import opencv_build
from fer_edge._base.files import atomic_path, refuse_existing
from fer_edge.errors import OutputError
from fer_edge.image.read import Frame
from fer_edge.video.source import USUAL_FPS
from fer_edge.video.watch import WatchedFrame

_RATES: tuple[float, ...] = (
    *(10, 12, 12.5, 15, 20, 24000 / 1001, 24, 25, 30000 / 1001, 30),
    *(48, 50, 60000 / 1001, 60, 100, 120),
)
"""Rates that cameras and editors use: what is measured to be near one of them is meant to be it."""
_NEAR = 0.03


class VideoSink:
    """An .mp4 recording that appears whole when the ``with`` block ends, also by an error.

    Frames are repeated or left out so that the recording plays at the speed of ``time_s``.

    Example:
        >>> with VideoSink("out.mp4") as sink:
        ...     sink.write(frame.image_bgr, frame.time_s)

    Attributes:
        frames: Frames written so far.
    """

    _MAX_GAP_S = 10.0
    """Longer pauses of a source are cut to this in the recording."""
    _MEASURED = 17
    """Frames whose times tell the rate."""
    _WAITING_BYTES = 2**26
    """Frames that may wait until the rate is known, bytes."""

    def __init__(self, path: str | Path, fps: float | None = None, *, force: bool = False) -> None:
        """Describe a recording; its size is that of the first frame.

        Args:
            path: The file, ending in .mp4.
            fps: Frames per second of the recording; None takes the rate at which the first frames
                come, since what containers say of it is often wrong.
            force: Whether an existing file may be replaced.

        Raises:
            OutputError: The file is there already, or is not .mp4.
        """
        path = Path(path)
        if path.suffix.lower() != ".mp4":
            raise OutputError(f"Expected a recording that ends in .mp4, received {path}")
        refuse_existing(path, force=force)
        self._path = path
        self._force = force
        self._fps = fps
        self._stack = ExitStack()
        self._temporary: Path | None = None
        self._writer: cv2.VideoWriter | None = None
        self._waiting: list[tuple[Frame, float]] = []
        self._size = (0, 0)
        self._start_s = 0.0
        self.frames = 0

    def __enter__(self) -> Self:
        """Start recording.

        Raises:
            OutputError: The file is being written by another run, or its folder cannot be written.
        """
        place = atomic_path(self._path, force=self._force, suffix=".mp4")
        self._temporary = self._stack.enter_context(place)
        return self

    def __exit__(self, *error: object) -> None:
        """Finish the file; without a frame there is none.

        Raises:
            OutputError: The file could not be written whole.
        """
        # Closed without the error that ended the block: what was recorded until then is kept.
        with self._stack:
            self._finish()
        self._temporary = None

    def _finish(self) -> None:
        if self._temporary is None:
            return
        self._write_waiting()
        if self._writer is None:
            self._temporary.unlink()
            return
        self._writer.release()
        self._writer = None
        # OpenCV keeps a full disk to itself, so the file is asked what arrived.
        check = cv2.VideoCapture(str(self._temporary), cv2.CAP_FFMPEG)
        arrived = int(check.get(cv2.CAP_PROP_FRAME_COUNT)) if check.isOpened() else 0
        check.release()
        if arrived < self.frames:
            raise OutputError(
                f"Cannot write {self._path}: {arrived} of {self.frames} frames arrived; check the "
                "space on its disk"
            )

    def take(self, watched: WatchedFrame) -> None:
        """Record a frame with what was seen in it."""
        self.write(watched.annotated_bgr, watched.frame.time_s)

    def write(self, frame_bgr: Frame, time_s: float) -> None:
        """Add a frame.

        Args:
            frame_bgr: (H, W, 3) uint8 BGR, not changed afterwards; scaled where its size differs
                from the first.
            time_s: When it is shown, seconds on any clock that only goes forward.

        Raises:
            OutputError: OpenCV cannot write such a file.
        """
        if self._temporary is None:
            raise ValueError("Expected writing inside of 'with VideoSink(...) as sink:'")
        self._waiting.append((frame_bgr, time_s))
        known = self._fps is not None or self._writer is not None
        full = len(self._waiting) * frame_bgr.nbytes > self._WAITING_BYTES
        if known or full or len(self._waiting) == self._MEASURED:
            self._write_waiting()

    def _write_waiting(self) -> None:
        waiting, self._waiting = self._waiting, []
        if waiting and self._writer is None:
            self._open(waiting[0], self._fps or measure_rate([time_s for _, time_s in waiting]))
        for frame_bgr, time_s in waiting:
            self._write(frame_bgr, time_s)

    def _write(self, frame_bgr: Frame, time_s: float) -> None:
        if (frame_bgr.shape[1], frame_bgr.shape[0]) != self._size:
            frame_bgr = np.asarray(cv2.resize(frame_bgr, self._size), np.uint8)
        due = round((time_s - self._start_s) * self._rate) + 1 - self.frames
        most = int(self._MAX_GAP_S * self._rate)
        if due > most:
            self._start_s += (due - most) / self._rate
            due = most
        for _ in range(due):
            self._writer.write(frame_bgr)  # type: ignore[union-attr]
            self.frames += 1

    def _open(self, first: tuple[Frame, float], fps: float) -> None:
        frame_bgr, self._start_s = first
        self._rate = min(max(fps, 1.0), 240.0)
        self._size = (frame_bgr.shape[1], frame_bgr.shape[0])
        # MPEG-4 part 2: the one codec for .mp4 that every build of OpenCV brings.
        codec = cv2.VideoWriter.fourcc(*"mp4v")
        name = str(self._temporary)
        writer = cv2.VideoWriter(name, cv2.CAP_FFMPEG, codec, self._rate, self._size)
        if not writer.isOpened():
            raise OutputError(
                f"Cannot write {self._path}: this OpenCV has no MPEG-4 encoder; run: "
                f"pip install --force-reinstall {opencv_build()}"
            )
        self._writer = writer


def measure_rate(times_s: Sequence[float]) -> float:
    """Return the frames per second at which frames come, pauses left out.

    Args:
        times_s: When each comes, seconds; clocks of a millisecond's steps are precise enough.
    """
    steps_s = np.diff(times_s)
    steps_s = steps_s[steps_s > 0]
    if not len(steps_s):
        return USUAL_FPS
    usual_s = float(np.mean(steps_s[steps_s < 2 * np.median(steps_s)]))
    rate = 1 / usual_s
    usual_rate = min(_RATES, key=lambda known: abs(known - rate))
    # MPEG-4 knows no finer ones.
    return usual_rate if abs(usual_rate - rate) < _NEAR * rate else round(rate, 2)
