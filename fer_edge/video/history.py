"""What the faces of a video showed over time, in bounded memory: for summary and timeline."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from fer_edge.records import counted
from fer_edge.video.tracking import GAP_S
from fer_edge.video.watch import WatchedFace, WatchedFrame

BINS = 1024
"""Steps of time that a history keeps; they grow as the video does."""
MAX_TRACKS = 24
"""Faces that are kept apart; of more, those seen longest."""

_FIRST_BIN_S = 0.02
_ONLY_FRAME_S = 0.04
"""What a frame stands for that has no neighbour to tell."""


@dataclass
class TrackHistory:
    """One face's past.

    Attributes:
        track: Its number.
        seconds: How long each label was shown, seconds.
        sums: (BINS, labels) float32, probabilities times seconds in each step of time.
    """

    track: int
    sums: NDArray[np.float32]
    seconds: dict[str, float] = field(default_factory=dict)

    @property
    def total_s(self) -> float:
        """How long the face was seen, seconds."""
        return sum(self.seconds.values())

    def shares(self) -> NDArray[np.float32]:
        """Return (BINS, labels) float32 mean probabilities; NaN where the face was not seen."""
        weights = self.sums.sum(axis=1, keepdims=True)
        shares: NDArray[np.float32] = np.full_like(self.sums, np.nan)
        np.divide(self.sums, weights, out=shares, where=weights > 0)
        return shares


class History:
    """Adds up frames; its size does not depend on how many.

    Attributes:
        labels: Names of the emotions.
        bin_s: Length of one step of time, seconds.
        end_s: Where the video has got to, seconds since its first frame.
        frames: Frames seen.
        other_s: Seconds of faces that were seen too shortly to be kept apart.
        others: How many such faces there were.
    """

    def __init__(self, labels: Sequence[str], *, longest_s: float = GAP_S) -> None:
        """Begin with nothing.

        Args:
            labels: Names of the emotions.
            longest_s: A frame stands for the time until the next one, but for no more seconds than
                this: not for the pause of a broken stream.
        """
        self.labels = tuple(labels)
        self.bin_s = _FIRST_BIN_S
        self.end_s = 0.0
        self.frames = 0
        self.other_s = 0.0
        self.others = 0
        self._tracks: dict[int, TrackHistory] = {}
        self._start_s: float | None = None
        self._waiting: Sequence[WatchedFace] = ()
        self._frame_s = _ONLY_FRAME_S
        self._longest_s = longest_s

    def take(self, watched: WatchedFrame) -> None:
        """Add a frame."""
        self.add(watched.frame.time_s, watched.faces)

    def add(self, time_s: float, faces: Sequence[WatchedFace]) -> None:
        """Add a frame.

        Args:
            time_s: Its time, seconds; never less than that of the frame before.
            faces: Its faces.
        """
        if self._start_s is None:
            self._start_s = time_s
        now_s = time_s - self._start_s
        if self.frames:
            self._frame_s = min(now_s - self.end_s, self._longest_s)
            self._settle()
        self.end_s = now_s
        self.frames += 1
        self._waiting = faces

    def finish(self) -> None:
        """Count the last frame, for as long as the one before it."""
        if self.frames:
            self._settle()
            self.end_s += self._frame_s
        self._waiting = ()

    def tracks(self) -> list[TrackHistory]:
        """Return the faces that were seen longest, longest first."""
        return sorted(self._tracks.values(), key=lambda past: (-past.total_s, past.track))

    def _settle(self) -> None:
        """Count the last frame, now that it is known how long it was shown."""
        shown_until_s = self.end_s + self._frame_s
        while shown_until_s > BINS * self.bin_s:
            self._widen()
        first = int(self.end_s / self.bin_s)
        last = max(first + 1, math.ceil(shown_until_s / self.bin_s))
        for face in self._waiting:
            past = self._tracks.get(face.track)
            if past is None:
                past = TrackHistory(face.track, np.zeros((BINS, len(self.labels)), np.float32))
                self._tracks[face.track] = past
            label = face.result.emotion
            past.seconds[label] = past.seconds.get(label, 0.0) + self._frame_s
            row = np.fromiter(face.result.probabilities.values(), np.float32, len(self.labels))
            past.sums[first:last] += row * np.float32(self._frame_s / (last - first))
        if len(self._tracks) > MAX_TRACKS:
            self._forget({face.track for face in self._waiting})

    def _widen(self) -> None:
        self.bin_s *= 2
        for past in self._tracks.values():
            half = past.sums.reshape(BINS // 2, 2, -1).sum(axis=1)
            past.sums = np.concatenate([half, np.zeros_like(half)])

    def _forget(self, present: set[int]) -> None:
        absent = [past for past in self._tracks.values() if past.track not in present]
        for past in sorted(absent, key=lambda past: past.total_s)[: len(self._tracks) - MAX_TRACKS]:
            del self._tracks[past.track]
            self.other_s += past.total_s
            self.others += 1

    def summary(self) -> list[str]:
        """Return a line for each face: how long it was seen and what it showed, in seconds."""
        lines = []
        for past in self.tracks():
            total_s = past.total_s
            shown = ", ".join(
                f"{label} {seconds:.1f} s ({seconds / total_s if total_s else 0:.0%})"
                for label, seconds in sorted(past.seconds.items(), key=lambda item: -item[1])
            )
            lines.append(f"face {past.track}: {total_s:.1f} s: {shown}")
        if self.others:
            lines.append(f"{counted(self.others, 'more face')}: {self.other_s:.1f} s")
        return lines
