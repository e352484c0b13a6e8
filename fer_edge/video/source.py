"""Where frames come from: cameras, video files, streams and numbered pictures."""

import itertools
import logging
import shlex
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge._base._installed import opencv_build
from fer_edge.errors import SourceError
from fer_edge.image.read import Frame
from fer_edge.video.address import Address, Capture, find_source
from fer_edge.video.container import clock_may_jump, missing_bytes
from fer_edge.video.ffmpeg import Messages, listening
from fer_edge.video.options import RETRIES, SEQUENCE_FPS, TIMEOUT_S

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
_JUMP_S = 10.0
"""A step of a clock that may start anew, from which on it has: FFmpeg's own threshold."""
_BACK_S = 1.0
"""A step backwards from which on any clock has started anew; smaller ones are disorder."""
_NOTICED_S = 0.5
"""Seconds that are looked for where a file ends before its header says."""
_MILLISECOND = 0.001
_MPEG_TICK = 1 / 90000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class TimedFrame:
    """One frame of a source.

    Attributes:
        index: Its number in the source from 0; frames that were left out are counted too.
        time_s: Seconds since the start: a file's own clock, or for live sources since the first
            frame arrived.
        taken_s: When the frame was captured (live) or handed over (file), on `time.monotonic`.
        image_bgr: (H, W, 3) uint8 BGR, upright, of square pixels.
        reopened: How often the source had been opened again when it gave this frame; another
            number than the last frame's says that they do not belong together.
    """

    index: int
    time_s: float
    taken_s: float
    image_bgr: Frame
    reopened: int = 0


class VideoSource:
    """A camera, a video file, a stream or numbered pictures as an iterator of frames.

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
        width: Pixels of the first frame, whose pixels are made square.
        height: Pixels of the first frame.
        fps: Frames per second as the source states it, or None where it does not or guesses.
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
        fps: float = SEQUENCE_FPS,
        idle: Callable[[], None] | None = None,
    ) -> None:
        """Describe a source; it is opened on entering the ``with`` block.

        Args:
            source: ``cam0``, ``cam1``, ..., a file, a camera's device path, a URL, ``-`` for
                standard input, or numbered pictures such as ``img_%04d.jpg``.
            every: Take every so many-th frame.
            duration_s: End after so many seconds of the source's time.
            timeout_s: How long opening, or waiting for a frame, may take.
            retries: How often in a row a live source that stopped is opened again.
            fps: Frames per second of numbered pictures.
            idle: Called about 20 times a second while waiting for a frame, for windows.

        Raises:
            SourceError: There is no such file, or the URL is of an unknown kind.
            ValueError: A number is out of its range.
        """
        if every < 1 or retries < 0:
            raise ValueError(
                f"Expected every from 1 and retries from 0, received {every} and {retries}"
            )
        if timeout_s <= 0 or fps <= 0 or (duration_s is not None and duration_s <= 0):
            raise ValueError(
                f"Expected times above 0, received timeout_s={timeout_s}, duration_s={duration_s}, "
                f"fps={fps}"
            )
        self._address = find_source(source, fps)
        self.name = self._address.name
        self._every = every
        self._duration_s = duration_s
        self._timeout_s = timeout_s
        self._retries = retries
        self._idle = idle or (lambda: None)
        self._stopped = threading.Event()
        self._reader: _Reader | None = None
        self._failed: _Reader | None = None
        self._past_drops = 0
        self.reopened = 0

    def __enter__(self) -> Self:
        """Open the source.

        Raises:
            SourceError: It cannot be opened, within the time-out.
        """
        self._reader = self._open()
        if self._reader is None:
            raise SourceError(self._failure())
        self.live = self._reader.live
        self.width, self.height = self._reader.size
        self.fps = self._reader.fps
        self.frame_count = self._reader.frame_count
        self.interval_s = self._every / (self.fps or USUAL_FPS)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the source."""
        if self._reader:
            self._reader.close()
            self._past_drops += self._reader.dropped
            self._reader = None

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
            SourceError: A file is cut short or cannot be read on, or a live source stopped and did
                not come back.
            ValueError: The ``with`` block has not begun, or has ended.
        """
        first_index = 0
        next_index = 0
        epoch: float | None = None
        opened_at = last_at = time.monotonic()
        attempts = 0
        while not self._stopped.is_set():
            if self._reader is None:
                raise ValueError("Expected iteration inside of 'with VideoSource(...) as source:'")
            grabbed = self._take(self._reader, epoch)
            if grabbed is None and self._stopped.is_set():
                return
            if grabbed is None and self._reader.problem:
                raise SourceError(self._reader.problem)
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
            if self._duration_s is not None and stamp_s >= self._duration_s:
                return
            next_index = first_index + number + 1
            yield TimedFrame(first_index + number, stamp_s, taken_s, image, self.reopened)

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
        self._failed = reader
        return None

    def _failure(self) -> str:
        """Say why the last try to open the source failed."""
        if self._failed and self._failed.problem:
            return self._failed.problem
        return self._address.failure(self._timeout_s, self._failed.said if self._failed else ())

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
            said = self._failed.said if self._failed else ()
            reason = f" ({said[-1]})" if said else ""
            raise SourceError(
                f"{self.name} stopped after {frames} frames and did not come back in {tries} "
                f"tries{reason}; check the camera or its network, and start again"
            )
        return attempts

    def _check_end(self, reader: "_Reader") -> None:
        if not reader.ready():
            raise SourceError(
                f"{self.name} gave no frame for {self._timeout_s:g} s; check the disk or network "
                "that it is on, or give it longer with `timeout_s`"
            )
        missing = self._missing(reader)
        if missing:
            promised_s = (self.frame_count or 0) / (self.fps or USUAL_FPS)
            promise = f", its header promises {promised_s:.1f} s"
            shown = promise if promised_s > reader.reached_s + 0.1 else ""
            raise SourceError(
                f"{self.name} ends after {reader.reached_s:.1f} s{shown}: the file is cut short or "
                f"damaged ({missing}); what could be read is done"
            )

    def _missing(self, reader: "_Reader") -> str | None:
        """Say what is missing at a file's end, if anything is."""
        if self._address.kind == "file":
            count = missing_bytes(str(self._address.target))
            return f"{count} bytes are missing at its end" if count else None
        return reader.later.about("prematurely", "partial file")


_Grabbed = tuple[int, float, Frame]
"""Number since opening, time stamp in seconds, image."""


class _Clock:
    """The time of a file's frames since the first, which never stands still, whatever stamps do."""

    def __init__(self, fps: float | None, *, may_jump: bool) -> None:
        self._step_s = 1 / (fps or USUAL_FPS)
        self._may_jump = may_jump
        self._shift_s = 0.0
        self._time_s: float | None = None

    def tell(self, stamp_s: float) -> float:
        """Return the time of the next frame from its stamp, seconds."""
        if self._time_s is None:
            self._shift_s = -stamp_s
        now_s = stamp_s + self._shift_s
        if self._time_s is not None:
            step_s = now_s - self._time_s
            if step_s < -_BACK_S or (self._may_jump and step_s > _JUMP_S):
                self._shift_s += self._step_s - step_s
                now_s = self._time_s + self._step_s
            elif step_s <= 0:  # Some containers repeat stamps, or give none.
                now_s = self._time_s + self._step_s
        self._time_s = now_s
        return now_s


class _Shape:
    """How a capture's pictures become upright pictures of square pixels."""

    def __init__(self, capture: Capture) -> None:
        num, den = capture.get(cv2.CAP_PROP_SAR_NUM), capture.get(cv2.CAP_PROP_SAR_DEN)
        aspect = num / den if num > 0 and den > 0 else 1.0
        # Beyond that no pixel is, so that the header is wrong; within a hundredth nobody sees it.
        self._aspect = aspect if 0.1 < aspect < 10 and abs(aspect - 1) > 0.01 else 1.0
        # OpenCV has turned the pictures, and the sides of their pixels with them.
        self._turned = bool(capture.get(cv2.CAP_PROP_ORIENTATION_AUTO)) and (
            capture.get(cv2.CAP_PROP_ORIENTATION_META) % 180 == 90
        )

    def size(self, width: int, height: int) -> tuple[int, int]:
        """Return width and height of square pixels. As players do, lines are kept as they are."""
        if self._turned:
            return width, max(1, round(height * self._aspect))
        return max(1, round(width * self._aspect)), height

    def fit(self, image: Frame) -> Frame:
        """Return an image with square pixels."""
        if self._aspect == 1:
            return image
        size = self.size(image.shape[1], image.shape[0])
        return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_LINEAR), np.uint8)


class _Reader(threading.Thread):
    """Opens and reads a capture on a thread of its own, which a driver or server may hang.

    Attributes:
        opened: None while opening, then whether it succeeded. Of a file that includes the first
            frame, since there are files that open and hold none.
        problem: Why the source cannot be read on, where that is known.
        said: What FFmpeg said while the source was opened.
        later: What it said of a URL or pipe at any time.
        reached_s: How far a file was read, seconds, frames that were left out included.
    """

    def __init__(self, address: Address, every: int, timeout_s: float) -> None:
        super().__init__(name=f"read {address.name}", daemon=True)
        self._address = address
        self._every = every
        self._timeout_s = timeout_s
        self._changed = threading.Condition()
        self._frames: deque[_Grabbed] = deque()
        self._sample: Frame | None = None
        self._ended = False
        self._closed = False
        self.opened: bool | None = None
        self.problem: str | None = None
        self.said = Messages()
        self.later = Messages()
        self.reached_s = 0.0
        self.dropped = 0
        self.live = False
        self.size = (0, 0)
        self.fps: float | None = None
        self.frame_count: int | None = None

    def run(self) -> None:
        try:
            with ExitStack() as stack:
                if self._address.kind in ("stream", "pipe"):
                    # Printed by FFmpeg itself, an address would show its password.
                    stack.enter_context(listening(self.later, aloud=True))
                with listening(self.said) if self._address.by_ffmpeg else nullcontext():
                    frames = self._open(stack)
                with self._changed:
                    self.opened = frames is not None
                    self._changed.notify_all()
                for grabbed in frames or ():
                    self._put(grabbed)
        except SourceError as error:
            self.problem = error.message
        except cv2.error as error:
            _log.debug("%s: %s", self._address.name, error)
        finally:
            with self._changed:
                self.opened = bool(self.opened)
                self._ended = True
                self._changed.notify_all()

    def _open(self, stack: ExitStack) -> Iterator[_Grabbed] | None:
        capture = self._address.open(self._timeout_s)
        stack.callback(capture.release)
        if not capture.isOpened():
            return None
        self._describe(capture)
        frames = self._read(capture)
        if self.live:
            return frames
        first = next(frames, None)
        return itertools.chain([first], frames) if first else None

    def _describe(self, capture: Capture) -> None:
        self._shape = _Shape(capture)
        self.size = self._shape.size(
            int(capture.get(cv2.CAP_PROP_FRAME_WIDTH)),
            int(capture.get(cv2.CAP_PROP_FRAME_HEIGHT)),
        )
        count = capture.get(cv2.CAP_PROP_FRAME_COUNT)
        self.frame_count = int(count) if 0 < count < 2**53 else None
        fps = capture.get(cv2.CAP_PROP_FPS)
        self.fps = fps if 0 < fps <= 1000 else None
        # A URL may also serve a finished video, which says how long it is.
        self.live = self._address.kind == "camera" or (
            self._address.kind == "stream" and self.frame_count is None
        )
        # OpenCV gives the length of the clock's tick under this name.
        tick_s = capture.get(cv2.CAP_PROP_POS_AVI_RATIO)
        if not self.live and not self.frame_count and tick_s == _MILLISECOND:
            # As browsers write WebM: without a length and from times that are rounded FFmpeg
            # guesses rates such as 200 frames a second.
            self.fps = None
        if self._address.kind == "file":
            may_jump = clock_may_jump(str(self._address.target))
        else:
            may_jump = abs(tick_s - _MPEG_TICK) < 1e-9
        self._clock = _Clock(self.fps, may_jump=may_jump)

    def _read(self, capture: Capture) -> Iterator[_Grabbed]:
        file_s = 0.0
        for number in itertools.count():
            if self._closed:
                return
            if not capture.grab():
                if self._address.kind == "file" and not self._closed:
                    self._check_end(capture, file_s)
                return
            if self.live:
                stamp_s = time.monotonic()
            else:
                file_s = self._file_time(capture, number)
                stamp_s = self._clock.tell(file_s)
                self.reached_s = stamp_s + 1 / (self.fps or USUAL_FPS)
            if number % self._every:
                continue
            done, image = capture.retrieve()
            if not done:
                continue
            image = np.asarray(image, np.uint8)
            if self._address.by_ffmpeg:
                self._check_conversion(capture, image)
            yield number, stamp_s, self._shape.fit(image)

    def _check_end(self, capture: Capture, last_s: float) -> None:
        """See that a file that ended early has ended, and that OpenCV has not given it up.

        It does at packets of no bytes, by which Theora repeats a frame (OpenCV 4.13 and 4.14), and
        at long stretches of damage. Where sound is longer, or an edit list leaves out the rest,
        nothing comes after the last frame.

        Raises:
            SourceError: There are later frames.
        """
        promised_s = (self.frame_count or 0) / (self.fps or USUAL_FPS)
        if promised_s < self.reached_s + _NOTICED_S or not isinstance(capture, cv2.VideoCapture):
            return
        capture.set(cv2.CAP_PROP_POS_MSEC, (last_s + _NOTICED_S) * 1000)
        if capture.grab() and capture.get(cv2.CAP_PROP_POS_MSEC) / 1000 > last_s + 1e-3:
            raise SourceError(
                f"{self._address.name} goes on after {self.reached_s:.1f} s, where OpenCV "
                f"{cv2.__version__} stops; what came before is done; convert it with: "
                f"ffmpeg -i {shlex.quote(self._address.name)} out.mp4"
            )

    def _check_conversion(self, capture: Capture, image: Frame) -> None:
        """See that an image is of its frame, and not what its memory held before.

        OpenCV from 4.13 on says that interlaced frames were read, but leaves the memory of the
        last frame, or whatever was there, as it is. Only FFmpeg tells, so an image that did not
        change is asked for again while somebody listens.

        Raises:
            SourceError: The frame cannot be read.
        """
        sample = image[::8, ::8].copy()  # The reader may draw on the image itself.
        last, self._sample = self._sample, sample
        if last is not None and last.shape == sample.shape and (last != sample).any():
            return
        with listening() as said:
            capture.retrieve()
        if said.about("interlaced"):
            raise SourceError(
                f"{self._address.name} is interlaced, which OpenCV {cv2.__version__} cannot read; "
                f"convert it with: ffmpeg -i {shlex.quote(self._address.name)} -vf yadif out.mp4 - "
                f"or run: pip install '{opencv_build()}<4.13'"
            )
        if failed := said.about("swscaler"):
            raise SourceError(
                f"{self._address.name} has frames that OpenCV {cv2.__version__} cannot convert "
                f"({failed}); convert it with: ffmpeg -i {shlex.quote(self._address.name)} "
                "-pix_fmt yuv420p out.mp4"
            )

    def _file_time(self, capture: Capture, number: int) -> float:
        """Return a frame's own stamp, or where it would be if there were one, seconds."""
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
        self.said.abandoned = self.later.abandoned = self.is_alive()
