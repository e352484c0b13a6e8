"""What the text of a video source stands for: a camera, a stream or a file, and why it fails."""

import os
import re
import stat
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from fer_edge._base._cv2 import cv2
from fer_edge.errors import SourceError
from fer_edge.video.container import is_mp4, may_be_sound, missing_bytes
from fer_edge.video.options import SEQUENCE_FPS
from fer_edge.video.sequence import ImageSequence

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")
STANDARD_INPUT = "-"
CAMERA = r"cam(\d{1,3})"

_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
_LONG_LOOK = "analyzeduration;120000000|probesize;200000000"
"""Microseconds and bytes in which FFmpeg looks for a picture; usually it takes 5 s and 5 MB."""


class Capture(Protocol):
    """What frames are read from, as `cv2.VideoCapture` has it."""

    def isOpened(self) -> bool:
        """Return whether there is anything to read."""
        ...

    def grab(self) -> bool:
        """Go to the next frame; False after the last."""
        ...

    def retrieve(self) -> tuple[bool, Any]:
        """Return whether the frame could be read, and it as (H, W, 3) uint8 BGR."""
        ...

    def get(self, prop: int, /) -> float:
        """Return a property by OpenCV's number; 0 where it is not known."""
        ...

    def release(self) -> None:
        """Let go of what is read."""
        ...


@dataclass(frozen=True)
class Address:
    """What a source's text stands for.

    Attributes:
        kind: ``camera``, ``stream``, ``file``, ``pipe`` (standard input, or another that can be
            read but once) or ``sequence`` (pictures that are numbered).
        target: A camera's number or path, a URL, a file's absolute path, or a sequence's pattern.
        name: What may be shown of it.
        fps: Frames per second of a sequence.
    """

    kind: Literal["camera", "stream", "file", "pipe", "sequence"]
    target: int | str
    name: str
    fps: float = SEQUENCE_FPS

    @property
    def by_ffmpeg(self) -> bool:
        """Whether FFmpeg reads it."""
        return self.kind in ("stream", "file", "pipe")

    def open(self, timeout_s: float) -> Capture:
        """Open the capture; it may turn out not to be opened."""
        if self.kind == "camera":
            return cv2.VideoCapture(self.target, _camera_backend())
        if self.kind == "sequence":
            return ImageSequence(str(self.target), self.fps)
        capture = self._open_ffmpeg(timeout_s)
        late = self.kind == "file" and not capture.get(cv2.CAP_PROP_FRAME_WIDTH)
        if late and capture.isOpened() and _OPTIONS not in os.environ:
            # The picture begins later than FFmpeg looks for one. OpenCV takes its options there.
            os.environ[_OPTIONS] = _LONG_LOOK
            try:
                capture = self._open_ffmpeg(timeout_s)
            finally:
                del os.environ[_OPTIONS]
        return capture

    def _open_ffmpeg(self, timeout_s: float) -> cv2.VideoCapture:
        limit_ms = int(timeout_s * 1000)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
        # OpenCV turns the video of phones upright, as its metadata ask, without being told.
        return cv2.VideoCapture(str(self.target), cv2.CAP_FFMPEG, timeouts)

    def failure(self, timeout_s: float, said: Sequence[str] = ()) -> str:
        """Say why the source did not open and what to do.

        Args:
            timeout_s: How long it was waited for.
            said: What FFmpeg said meanwhile.
        """
        reason = f" ({said[-1]})" if said else ""
        if self.kind in ("file", "pipe"):
            return self._unreadable(said, reason)
        if self.kind == "sequence":
            return f"Expected pictures, received {self.name}, of which none can be read"
        if self.kind == "stream":
            return (
                f"{self.name} did not open (time-out {timeout_s:g} s){reason}; check the address, "
                "its user name and password, and the network"
            )
        device = f"/dev/video{self.target}" if isinstance(self.target, int) else self.target
        if sys.platform == "linux":
            if not Path(device).exists():
                return (
                    f"{self.name}: there is no {device}; 'fer-edge cameras' lists those there are"
                )
            if not _may_use(device):
                return (
                    f"{self.name}: no permission to use {device}; run: sudo usermod -aG video "
                    "$USER, then log in again"
                )
        return (
            f"{self.name} did not open; close other programs that use it, or choose another that "
            "'fer-edge cameras' lists"
        )

    def _unreadable(self, said: Sequence[str], reason: str) -> str:
        indexless = any("moov atom not found" in text for text in said)
        if self.kind == "pipe":
            if indexless or any("partial file" in text for text in said):
                return (
                    f"Expected a video, received {self.name}, an MP4 whose index does not stand in "
                    "front, or that is cut short; give the file's name, or write it with: "
                    "ffmpeg -i FILE -c copy -movflags +faststart out.mp4"
                )
        else:
            path = Path(str(self.target))
            try:
                if not path.stat().st_size:
                    reason = " (it is empty)"
                elif indexless and is_mp4(path):
                    return (
                        f"Expected a video, received {self.name}, an MP4 without its index: its "
                        "recording or copying did not end; copy it again, or rebuild the index, "
                        "for example with untrunc and a whole video of the same camera"
                    )
                elif missing := missing_bytes(path):
                    return (
                        f"Expected a video, received {self.name}, which is cut short ({missing} "
                        f"bytes are missing at its end) and holds no frame{reason}; copy it again"
                    )
                elif not said and may_be_sound(path):
                    return (
                        f"Expected a video, received {self.name}, in which FFmpeg finds no picture "
                        "that it can decode; give a video and not its sound"
                    )
            except OSError as error:
                return f"Cannot read {self.name}: {error.strerror}; check who may read it"
        # FFmpeg itself, which is inside of OpenCV, would fail like it.
        return (
            f"Expected a video, received {self.name}, which OpenCV cannot read{reason}; where "
            "another program shows it, save it from there as MP4 (H.264)"
        )


def find_source(source: str | Path, fps: float = SEQUENCE_FPS) -> Address:
    """Tell cameras, streams, files and sequences of pictures apart.

    Args:
        source: As `VideoSource` takes it.
        fps: Frames per second of pictures.

    Raises:
        SourceError: There is no such file, or the URL is of an unknown kind.
    """
    text = str(source)
    if text == STANDARD_INPUT:
        return _standard_input()
    if match := re.fullmatch(CAMERA, text):
        return Address("camera", int(match[1]), text)
    if match := re.match(r"([a-zA-Z][a-zA-Z0-9+.-]*)://", text):
        if match[1].lower() not in STREAM_SCHEMES:
            raise SourceError(
                f"Expected a URL of {', '.join(STREAM_SCHEMES)}, received {match[1]}://; for a "
                "file give its path"
            )
        return Address("stream", text, hide_secrets(text))
    path = Path(text)
    try:
        known = path.stat()
    except (OSError, ValueError) as error:
        if ImageSequence.is_pattern(text):
            return Address("sequence", text, text, fps)
        reason = getattr(error, "strerror", None) or error
        advice = f"; give cam{text} for a camera" if re.fullmatch(r"\d{1,3}", text) else ""
        raise SourceError(
            f"Expected cam0, cam1, ..., a video file, a device or a URL, found nothing at {text} "
            f"({reason}){advice}"
        ) from error
    if stat.S_ISDIR(known.st_mode):
        raise SourceError(f"Expected a video file, received the folder {text}; give a file in it")
    if stat.S_ISCHR(known.st_mode):
        return Address("camera", text, text)
    # Absolute, so that no file name is taken for one of FFmpeg's protocols.
    kind: Literal["file", "pipe"] = "file" if stat.S_ISREG(known.st_mode) else "pipe"
    return Address(kind, str(path.absolute()), text)


def _standard_input() -> Address:
    name = "standard input"
    try:
        known = os.fstat(0)
    except OSError as error:
        raise SourceError("Expected a video on standard input, which is closed") from error
    if os.isatty(0):
        raise SourceError(
            "Expected a video on standard input, received a terminal; give a file's name, or pipe "
            "a video in"
        )
    # A file that was led there can be read from its end too, which FFmpeg does not with a pipe.
    if stat.S_ISREG(known.st_mode) and Path("/dev/fd/0").exists():
        return Address("file", "/dev/fd/0", name)
    return Address("pipe", "pipe:0", name)


def hide_secrets(url: str) -> str:
    """Return a URL without user name, password, query and fragment.

    Many cameras take the password in the query, so that nothing of it can be shown.

    Raises:
        SourceError: The URL is malformed.
    """
    try:
        parts = urlsplit(url)
    except ValueError as error:
        raise SourceError(
            f"Expected a URL such as rtsp://HOST/PATH, received a malformed one ({error})"
        ) from error
    host = parts.netloc.rpartition("@")[2]
    return f"{parts.scheme}://{host}{parts.path}"


def _camera_backend() -> int:
    # Named, since OpenCV otherwise tries every back end, which takes seconds and fails loudly.
    names = {"linux": cv2.CAP_V4L2, "darwin": cv2.CAP_AVFOUNDATION, "win32": cv2.CAP_DSHOW}
    return names.get(sys.platform, cv2.CAP_ANY)


def _may_use(device: str | int) -> bool:
    return os.access(device, os.R_OK | os.W_OK)
