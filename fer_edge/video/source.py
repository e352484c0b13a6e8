"""Where frames come from: cameras, video files and streams."""

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge.errors import SourceError
from fer_edge.image.read import Frame
from fer_edge.video.address import Address, find_source
from fer_edge.video.options import RETRIES, TIMEOUT_S

FIRST_PAUSE_S = 0.5
"""Pause before a live source that stopped is opened again; each further one is twice as long."""

USUAL_FPS = 25.0
"""Frames per second of a source that states none."""
_AHEAD = 4
"""Frames of a file that are decoded ahead: enough to hide a slow frame, bounded in memory."""
_HEALTHY_S = 10.0
"""A live source that ran this long has recovered, and may be retried from the start."""
_TURN_S = 0.05
"""How often waiting looks whether it should go on."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimedFrame:
    """One frame of a source.

    Attributes:
        index: Its number in the source from 0; frames that were left out are counted too.
        time_s: Seconds since the start: a file's own clock, or for live sources since the first
            frame arrived.
        taken_s: When the frame was captured (live) or handed over (file), on `time.monotonic`.
        image_bgr: (H, W, 3) uint8 BGR, upright.
    """

    index: int
    time_s: float
    taken_s: float
    image_bgr: Frame


class VideoSource:
    """A camera, a video file or a stream as an iterator of frames.

    Files are read whole, frame by frame. Live sources keep only their latest frame: who reads
    slowly misses frames but never falls behind. A live source that stops or hangs is opened again
    a few times after growing pauses; after that `SourceError` is raised.

    Example:
        >>> with VideoSource("cam0") as source:
        ...     for frame in source:
        ...         print(frame.index, frame.time_s, frame.image_bgr.shape)

    Attributes:
        name: The source as it may be shown: without a URL's password and query.
        live: Whether frames come at their own pace and are lost when not read in time.
        width: Pixels of the first frame.
        height: Pixels of the first frame.
        fps: Frames per second as the source states it, or None.
        frame_count: Frames that a file's header promises, or None.
        interval_s: Seconds from one frame that is taken to the next, as far as the source tells.
        dropped: Frames of a live source that came while nobody was reading.
        reopened: How often a live source was opened again.
    """

    def __init__(
        self,
        source: str | Path,
        *,
        every: int = 1,
        duration_s: float | None = None,
        timeout_s: float = TIMEOUT_S,
        retries: int = RETRIES,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """Describe a source; it is opened on entering the ``with`` block.

        Args:
            source: ``cam0``, ``cam1``, ..., a file, a camera's device path, or a URL.
            every: Take every so many-th frame.
            duration_s: End after so many seconds of the source's time.
            timeout_s: How long opening, or waiting for a frame, may take.
            retries: How often in a row a live source that stopped is opened again.
            idle: Called about 20 times a second while waiting for a frame, for windows.

        Raises:
            SourceError: There is no such file, or the URL is of an unknown kind.
            ValueError: A number is out of its range.
        """
        if every < 1 or retries < 0:
            raise ValueError(
                f"Expected every from 1 and retries from 0, received {every} and {retries}"
            )
        if timeout_s <= 0 or (duration_s is not None and duration_s <= 0):
            raise ValueError(
                f"Expected times above 0, received timeout_s={timeout_s}, duration_s={duration_s}"
            )
        self._address = find_source(source)
        self.name = self._address.name
        self._every = every
        self._duration_s = duration_s
        self._timeout_s = timeout_s
        self._retries = retries
        self._idle = idle or (lambda: None)
        self._stopped = threading.Event()
        self._reader: _Reader | None = None
        self._past_drops = 0
        self.reopened = 0

    def __enter__(self) -> Self:
        """Open the source.

        Raises:
            SourceError: It cannot be opened, within the time-out.
        """
        self._reader = self._open()
        if self._reader is None:
            raise SourceError(self._address.failure(self._timeout_s))
        self.live = self._reader.live
        self.width, self.height = self._reader.size
        self.fps = self._reader.fps
        self.frame_count = self._reader.frame_count
        self.interval_s = self._every / (self.fps or USUAL_FPS)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close the source."""
        if self._reader:
            self._reader.close()

    @property
    def dropped(self) -> int:
        """Frames of a live source that came while nobody was reading."""
        return self._past_drops + (self._reader.dropped if self._reader else 0)

    def stop(self) -> None:
        """End the iteration soon; may be called from other threads and signal handlers."""
        self._stopped.set()

    def __iter__(self) -> Iterator[TimedFrame]:
        """Yield the frames from where the source stands.

        Raises:
            SourceError: A file is cut short, or a live source stopped and did not come back.
        """
        if self._reader is None:
            raise ValueError("Expected iteration inside of 'with VideoSource(...) as source:'")
        first_index = 0
        next_index = 0
        time_s = -1.0
        epoch: float | None = None
        opened_at = last_at = time.monotonic()
        attempts = 0
        while not self._stopped.is_set():
            grabbed = self._take(self._reader, epoch)
            if grabbed is None and self._stopped.is_set():
                return
            if grabbed is None and not self.live:
                self._check_end(self._reader)
                return
            if grabbed is None:
                if last_at - opened_at > _HEALTHY_S:
                    attempts = 0
                attempts = self._reopen(self._reader, attempts, next_index)
                opened_at = last_at = time.monotonic()
                first_index = next_index
                continue
            last_at = time.monotonic()
            number, stamp_s, image = grabbed
            taken_s = stamp_s if self.live else last_at
            if self.live:
                epoch = stamp_s if epoch is None else epoch
                stamp_s -= epoch
            # Some containers repeat or lack time stamps; time never stands still for the reader.
            elif stamp_s <= time_s:
                stamp_s = time_s + self.interval_s
            time_s = stamp_s
            if self._duration_s is not None and time_s >= self._duration_s:
                return
            next_index = first_index + number + 1
            yield TimedFrame(first_index + number, time_s, taken_s, image)

    def _take(self, reader: "_Reader", epoch: float | None) -> "_Grabbed | None":
        """Wait for a frame; None at the end, on a hang, and when the source is stopped."""

        def ready() -> bool:
            if epoch is not None and self._duration_s is not None:
                over = time.monotonic() - epoch >= self._duration_s
                if over and not reader.ready():
                    self.stop()
            return reader.ready()

        # FFmpeg keeps the same time-out itself; the grace lets it come back on its own.
        if not self._wait(ready, self._timeout_s + 1.0, reader) and not self._stopped.is_set():
            _log.warning("%s gave no frame for %.0f s", self.name, self._timeout_s + 1.0)
        return reader.take()

    def _wait(self, ready: Callable[[], bool], timeout_s: float, reader: "_Reader") -> bool:
        """Wait for a reader in short turns, so that stop, signals and windows are served."""
        deadline = time.monotonic() + timeout_s
        while not reader.wait_for(ready, _TURN_S):
            if self._stopped.is_set() or time.monotonic() > deadline:
                return False
            self._idle()
        return True

    def _open(self) -> "_Reader | None":
        reader = _Reader(self._address, self._every, self._timeout_s)
        reader.start()
        self._wait(lambda: reader.opened is not None, self._timeout_s + 1.0, reader)
        if reader.opened:
            return reader
        reader.close()
        return None

    def _reopen(self, stopped: "_Reader", attempts: int, frames: int) -> int:
        """Open a live source again; returns how many of the tries are used up."""
        stopped.close()
        self._past_drops += stopped.dropped
        tries = self._retries
        while attempts < tries and not self._stopped.is_set():
            pause_s = FIRST_PAUSE_S * 2**attempts
            attempts += 1
            _log.warning(
                "%s stopped; trying again in %.1f s (%d of %d)", self.name, pause_s, attempts, tries
            )
            self._wait(lambda: False, pause_s, stopped)
            if self._stopped.is_set():
                break
            if reader := self._open():
                self._reader = reader
                self.reopened += 1
                return attempts
        if not self._stopped.is_set():
            raise SourceError(
                f"{self.name} stopped after {frames} frames and did not come back in {tries} "
                "tries; check the camera or its network, and start again"
            )
        return attempts

    def _check_end(self, reader: "_Reader") -> None:
        if not reader.ready():
            raise SourceError(
                f"{self.name} gave no frame for {self._timeout_s:g} s; check the disk or network "
                "that it is on, or give it longer with --timeout"
            )
        if not self.frame_count or not self.fps:
            return
        promised_s = self.frame_count / self.fps
        if reader.reached_s < 0.9 * promised_s - 1.0:
            raise SourceError(
                f"{self.name} ends after {reader.reached_s:.1f} s, its header promises "
                f"{promised_s:.1f} s: the file is cut short or damaged; what could be read is done"
            )


_Grabbed = tuple[int, float, Frame]
"""Number since opening, time stamp in seconds, image."""


class _Reader(threading.Thread):
    """Opens and reads a capture on a thread of its own, which a driver or server may hang.

    Attributes:
        opened: None while opening, then whether it succeeded.
        reached_s: How far a file was read, seconds, frames that were left out included.
    """

    def __init__(self, address: Address, every: int, timeout_s: float) -> None:
        super().__init__(name=f"read {address.name}", daemon=True)
        self._address = address
        self._every = every
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._frames: deque[_Grabbed] = deque()
        self._ended = False
        self._closed = False
        self.opened: bool | None = None
        self.reached_s = 0.0
        self.dropped = 0
        self.live = False
        self.size = (0, 0)
        self.fps: float | None = None
        self.frame_count: int | None = None

    def run(self) -> None:
        capture = None
        try:
            capture = self._address.open(self._timeout_s)
            opened = capture.isOpened()
            if opened:
                self._describe(capture)
            with self._changed:
                self.opened = opened
                self._changed.notify_all()
            if opened:
                self._read(capture)
        except cv2.error as error:
            _log.debug("%s: %s", self._address.name, error)
        finally:
            if capture is not None:
                capture.release()
            with self._changed:
                self.opened = bool(self.opened)
                self._ended = True
                self._changed.notify_all()

    def _describe(self, capture: cv2.VideoCapture) -> None:
        self.size = (
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else None
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if 0 < count < 2**53 else None
        # A URL may also serve a finished video, which says how long it is.
        self.live = self._address.kind == "camera" or (
            self._address.kind == "stream" and self.frame_count is None
        )

    def _read(self, capture: cv2.VideoCapture) -> None:
        number = -1
        while not self._closed and capture.grab():
            number += 1
            stamp_s = time.monotonic() if self.live else self._file_time(capture, number)
            self.reached_s = max(stamp_s, number / (self.fps or USUAL_FPS))
            if number % self._every:
                continue
            done, image = capture.retrieve()
            if not done:
                continue
            self._put((number, stamp_s, np.asarray(image, np.uint8)))

    def _file_time(self, capture: cv2.VideoCapture, number: int) -> float:
        stamp_ms = capture.get(cv2.CAP_PROP_POS_MSEC)
        return stamp_ms / 1000 if stamp_ms > 0 else number / (self.fps or USUAL_FPS)

    def _put(self, grabbed: _Grabbed) -> None:
        with self._changed:
            if self.live:
                self.dropped += len(self._frames)
                self._frames.clear()
            else:
                self._changed.wait_for(lambda: self._closed or len(self._frames) < _AHEAD)
            self._frames.append(grabbed)
            self._changed.notify_all()

    def ready(self) -> bool:
        """Return whether `take` has something to say: a frame, or that there are no more."""
        return bool(self._frames) or self._ended

    def take(self) -> _Grabbed | None:
        """Return the next frame, or None where there is none."""
        with self._changed:
            grabbed = self._frames.popleft() if self._frames else None
            self._changed.notify_all()
            return grabbed

    def wait_for(self, condition: Callable[[], bool], timeout_s: float) -> bool:
        """Wait until a condition that this thread brings about, at most so long."""
        with self._changed:
            return self._changed.wait_for(condition, timeout_s)

    def close(self) -> None:
        """End the thread; one that hangs inside of a driver is left behind after 2 s."""
        with self._changed:
            self._closed = True
            self._frames.clear()
            self._changed.notify_all()
        self.join(2.0)
