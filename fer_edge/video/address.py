"""What the text of a video source stands for: a camera, a stream or a file, and why it fails."""

import os
import re
import stat
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Literal
from urllib.parse import urlsplit

from fer_edge._base._cv2 import cv2
from fer_edge.errors import SourceError

STREAM_SCHEMES = ("rtsp", "rtsps", "rtmp", "http", "https", "udp", "tcp", "srt")


@dataclass(frozen=True)
class Address:
    """What a source's text stands for.

    Attributes:
        kind: ``camera``, ``stream`` or ``file``.
        target: A camera's number or path, a URL, or a file's absolute path.
        name: What may be shown of it.
    """

    kind: Literal["camera", "stream", "file"]
    target: int | str
    name: str

    def open(self, timeout_s: float) -> cv2.VideoCapture:
        """Open the capture; it may turn out not to be opened."""
        if self.kind == "camera":
            return cv2.VideoCapture(self.target, _camera_backend())
        limit_ms = int(timeout_s * 1000)
        timeouts = [cv2.CAP_PROP_OPEN_TIMEOUT_MSEC, limit_ms]
        timeouts += [cv2.CAP_PROP_READ_TIMEOUT_MSEC, limit_ms]
        # OpenCV turns the video of phones upright, as its metadata ask, without being told.
        return cv2.VideoCapture(str(self.target), cv2.CAP_FFMPEG, timeouts)

    def failure(self, timeout_s: float) -> str:
        """Say why the source did not open and what to do."""
        if self.kind == "file":
            return (
                f"Expected a video, received {self.name}, which OpenCV cannot read; convert it "
                "with: ffmpeg -i FILE out.mp4"
            )
        if self.kind == "stream":
            return (
                f"{self.name} did not open (time-out {timeout_s:g} s); check the address, its user "
                "name and password, and the network"
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


def find_source(source: str | Path) -> Address:
    """Tell cameras, streams and files apart.

    Raises:
        SourceError: There is no such file, or the URL is of an unknown kind.
    """
    text = str(source)
    if match := re.fullmatch(r"cam(\d{1,3})", text):
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
        reason = getattr(error, "strerror", None) or error
        raise SourceError(
            f"Expected cam0, cam1, ..., a video file, a device or a URL, found nothing at {text} "
            f"({reason})"
        ) from error
    if stat.S_ISDIR(known.st_mode):
        raise SourceError(f"Expected a video file, {text} is a folder")
    if stat.S_ISCHR(known.st_mode):
        return Address("camera", text, text)
    # Absolute, so that no file name is taken for one of FFmpeg's protocols.
    return Address("file", str(path.absolute()), text)


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
