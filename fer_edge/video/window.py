"""A window for video: shows frames at their pace and turns keys into deeds."""

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Self

from fer_edge._base._cv2 import cv2
from fer_edge._base.files import atomic_file
from fer_edge.image.read import Frame
from fer_edge.picture.draw import draw_status, encode
from fer_edge.video.watch import WatchedFrame

_QUIT = (ord("q"), 27)
_PAUSE = ord(" ")
_SAVE = ord("s")
_TURN_MS = 20

_PROBE = "import cv2; cv2.namedWindow('fer-edge'); cv2.waitKey(1); cv2.destroyAllWindows()"


def why_no_window() -> str | None:
    """Return why no window can be shown here, or None where one can."""
    if re.search(r"GUI:\s+NONE", cv2.getBuildInformation()):
        return "this OpenCV is headless (pip install 'fer-edge[gui]' in its place)"
    if sys.platform != "linux":
        return None
    if not (os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")):
        return "there is no display (DISPLAY is not set)"
    # Qt ends the whole process where it cannot reach the display, so another one tries first.
    try:
        probe = subprocess.run([sys.executable, "-c", _PROBE], capture_output=True, timeout=20)
    except subprocess.TimeoutExpired:
        return "the display does not answer"
    return f"the display {os.environ.get('DISPLAY')} cannot be opened" if probe.returncode else None


class Window:
    """A window in which q or Esc ends, space pauses and s saves the picture as PNG.

    Attributes:
        saved: Called with the path of each picture saved.
    """

    def __init__(
        self,
        title: str,
        *,
        stop: Callable[[], None],
        saved: Callable[[Path], None],
        status: Callable[[], str],
        paced: bool,
    ) -> None:
        """Describe a window; it opens on entering the ``with`` block.

        Args:
            title: Shown in its frame.
            stop: Called when the user ends the video.
            saved: Called with the path of each picture saved.
            status: Gives the text for the corner.
            paced: Whether frames wait for their time, as those of files do that are read faster
                than they play.
        """
        # Qt's complaints on fonts and themes that the wheels leave out.
        os.environ.setdefault("QT_LOGGING_RULES", "*=false")
        self._title = title
        self._stop = stop
        self.saved = saved
        self._status = status
        self._paced = paced
        self._shown: Frame | None = None
        self._paused = False
        self._ended = False
        self._lag_s: float | None = None

    def __enter__(self) -> Self:
        """Open the window."""
        # The plain kind: Qt's own would add tool bars and keys of its own.
        flags = cv2.WINDOW_NORMAL | cv2.WINDOW_KEEPRATIO | cv2.WINDOW_GUI_NORMAL
        cv2.namedWindow(self._title, flags)
        return self

    def __exit__(self, *error: object) -> None:
        """Close the window."""
        # Qt forgets a window that the user has closed, and fails on its name.
        with suppress(cv2.error):
            cv2.destroyWindow(self._title)

    def take(self, watched: WatchedFrame) -> None:
        """Show a frame with what was seen in it, and the status in its corner.

        Raises:
            OutputError: A picture cannot be saved.
        """
        picture = watched.annotated_bgr.copy()
        draw_status(picture, [face.result for face in watched.faces], self._status())
        self.show(picture, watched.frame.time_s if self._paced else None)

    def show(self, frame_bgr: Frame, due_s: float | None = None) -> None:
        """Show a frame, and serve the keys until the next is due or as long as it is paused.

        Args:
            frame_bgr: (H, W, 3) uint8 BGR.
            due_s: When to show it, seconds of the video, for files that are read faster than they
                play; None shows it at once.

        Raises:
            OutputError: A picture cannot be saved.
        """
        if self._ended:
            return
        if due_s is not None:
            if self._lag_s is None:
                self._lag_s = time.monotonic() - due_s
            while not self._ended and (left_s := due_s + self._lag_s - time.monotonic()) > 0:
                self._serve(max(1, min(_TURN_MS, round(left_s * 1000))))
        if self._ended:
            return
        if self._shown is None:
            cv2.resizeWindow(self._title, frame_bgr.shape[1], frame_bgr.shape[0])
        self._shown = frame_bgr
        cv2.imshow(self._title, frame_bgr)
        self._serve(1)
        before_s = time.monotonic()
        while self._paused:
            self._serve(_TURN_MS)
        if self._lag_s is not None:
            self._lag_s += time.monotonic() - before_s

    def idle(self) -> None:
        """Serve the keys while there is no frame to show."""
        if self._shown is not None and not self._ended:
            self._serve(1)

    def _serve(self, wait_ms: int) -> None:
        key = cv2.waitKey(wait_ms) & 0xFF
        if key in _QUIT or (self._shown is not None and self._is_closed()):
            self._paused = False
            self._ended = True
            self._stop()
        elif key == _PAUSE:
            self._paused = not self._paused
        elif key == _SAVE and self._shown is not None:
            self._save(self._shown)

    def _is_closed(self) -> bool:
        try:
            return cv2.getWindowProperty(self._title, cv2.WND_PROP_VISIBLE) < 1
        except cv2.error:
            return True

    def _save(self, frame_bgr: Frame) -> None:
        number = 1
        while (path := Path(f"fer-edge-{number:04d}.png")).exists():
            number += 1
        with atomic_file(path) as file:
            file.write(encode(frame_bgr, ".png"))
        self.saved(path)
