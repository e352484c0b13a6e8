"""Faces from frame to frame: who is who, where detection can be skipped, and smoothing."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import cv2
from fer_edge.image.read import Frame
from fer_edge.inference.detectors import Face, FaceDetector, largest_first
from fer_edge.inference.preprocess import Box, crop_face, resize, to_gray
from fer_edge.video.options import DETECT_EVERY

_SIDE = 32
"""Faces are followed at this side: small enough to cost a tenth of a millisecond."""
_REACH = 0.25
"""How far a face is looked for around its last place, in sides of its box."""
_SURE = 0.8
"""Least correlation with the detected face at which a place is believed.

Over 30 frames of the benchmark's clip the same face scores 0.93 or more; of 200 pairs of different
people's faces none scores above 0.70.
"""
_SAME = 0.3
"""Least overlap (intersection over union) of a detection with the face it continues."""
_MISSES = 2
"""Detections in a row that may miss a face which is followed surely."""
GAP_S = 1.0
"""Frames further apart than this do not belong together, where they come as fast as video does."""


def gap_s(interval_s: float) -> float:
    """Return from how many seconds on frames do not belong together that come so far apart."""
    return max(GAP_S, 1.5 * interval_s)


@dataclass(frozen=True)
class TrackedFace:
    """A face and its number, which it keeps from frame to frame."""

    track: int
    face: Face


@dataclass
class _Track:
    number: int
    face: Face
    seen_s: float
    patch: Frame
    scale: float
    misses: int = 0
    sure: bool = True


class FaceTracker:
    """Numbers faces, and detects only where following them is not sure.

    Between detections a face is looked for around its last place by correlation with how it looked
    when it was detected. A frame is given to the detector when its turn comes, when no face is
    known, or when a face is no longer surely followed: it changed, was covered, left, or the scene
    was cut.

    Attributes:
        detections: Frames that were given to the detector so far.
    """

    def __init__(
        self,
        detector: FaceDetector,
        *,
        detect_every: int = DETECT_EVERY,
        forget_s: float = GAP_S,
    ) -> None:
        """Make a tracker.

        Args:
            detector: Finds the faces.
            detect_every: Frames from one detection to the next; 1 detects in every frame and
                follows nothing.
            forget_s: A face that is gone for longer gets a new number, seconds.

        Raises:
            ValueError: ``detect_every`` is below 1.
        """
        if detect_every < 1:
            raise ValueError(f"Expected detect_every of 1 or more, received {detect_every}")
        self._detector = detector
        self._detect_every = detect_every
        self._forget_s = forget_s
        self._position = 0
        self._tracks: list[_Track] = []
        self._size: tuple[int, ...] = ()
        self._next = 1
        self.detections = 0

    def forget(self) -> None:
        """Take the next frame for one of another scene, whose faces get new numbers."""
        self._tracks = []

    def look_ahead(self, position: int, frame_bgr: Frame) -> list[Face] | None:
        """Detect faces where it is sure to be needed; may run in other threads, ahead of `update`.

        Args:
            position: Number of the frame among those given to `update`, from 0.
            frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.

        Returns:
            The faces, or None where the frame's turn has not come.
        """
        return self._detector.detect(frame_bgr) if position % self._detect_every == 0 else None

    def update(
        self, frame_bgr: Frame, time_s: float, faces: Sequence[Face] | None = None
    ) -> list[TrackedFace]:
        """Take the next frame; where its size is another than the last one's, all faces are new.

        Args:
            frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.
            time_s: Its time, seconds.
            faces: What `look_ahead` gave for it.

        Returns:
            The frame's faces, largest first.
        """
        if frame_bgr.shape[:2] != self._size:
            self.forget()
            self._size = frame_bgr.shape[:2]
        self._tracks = [track for track in self._tracks if time_s - track.seen_s <= self._forget_s]
        shown = [track for track in self._tracks if track.sure]
        if self._detect_every > 1:
            for track in shown:
                track.sure = _follow(track, frame_bgr)
        if faces is None and (
            self._position % self._detect_every == 0
            or not shown
            or any(not track.sure or track.misses for track in shown)
        ):
            faces = self._detector.detect(frame_bgr)
        self._position += 1
        if faces is not None:
            self.detections += 1
            self._match(frame_bgr, time_s, faces)
        found = {}
        for track in self._tracks:
            if track.sure:
                track.seen_s = time_s
                found[track.face] = track.number
        return [TrackedFace(found[face], face) for face in largest_first(list(found))]

    def _match(self, frame_bgr: Frame, time_s: float, faces: Sequence[Face]) -> None:
        """Continue tracks with the detections that overlap them most; the others start new ones."""
        pairs = sorted(
            (
                (overlap(track.face.box, face.box), track, face)
                for track in self._tracks
                for face in faces
            ),
            key=lambda pair: -pair[0],
        )
        free_tracks = {track.number for track in self._tracks}
        free_faces = dict.fromkeys(faces)
        for share, track, face in pairs:
            if share < _SAME:
                break
            if track.number in free_tracks and face in free_faces:
                free_tracks.discard(track.number)
                del free_faces[face]
                self._learn(track, frame_bgr, face)
        for track in self._tracks:
            if track.number in free_tracks:
                track.misses += 1
                track.sure = track.sure and self._detect_every > 1 and track.misses < _MISSES
        for face in free_faces:
            track = _Track(self._next, face, time_s, np.empty((0, 0), np.uint8), 1.0)
            self._next += 1
            self._tracks.append(track)
            self._learn(track, frame_bgr, face)

    def _learn(self, track: _Track, frame_bgr: Frame, face: Face) -> None:
        track.face = face
        track.misses = 0
        track.sure = True
        if self._detect_every > 1:
            gray = to_gray(crop_face(frame_bgr, face.box))
            track.scale = _SIDE / gray.shape[0]
            track.patch = resize(gray, (_SIDE, _SIDE))


def _follow(track: _Track, frame_bgr: Frame) -> bool:
    """Move a track to where its face is in this frame; False where that is not sure."""
    left, top, width, height = track.face.box
    side = max(width, height)
    reach = max(2, round(side * _REACH))
    center_x, center_y = left + width / 2, top + height / 2
    region = (
        round(center_x - side / 2) - reach,
        round(center_y - side / 2) - reach,
        side + 2 * reach,
        side + 2 * reach,
    )
    frame_height, frame_width = frame_bgr.shape[:2]
    wanted = round((side + 2 * reach) * track.scale)
    around = resize(to_gray(crop_face(frame_bgr, region)), (wanted, wanted))
    match = cv2.matchTemplate(around, track.patch, cv2.TM_CCOEFF_NORMED)
    _, score, _, (column, row) = cv2.minMaxLoc(match)
    if not score >= _SURE:
        return False
    dx = (column + _peak_offset(match[row], column)) / track.scale - reach
    dy = (row + _peak_offset(match[:, column], row)) / track.scale - reach
    x = min(max(0, round(left + dx)), frame_width - width)
    y = min(max(0, round(top + dy)), frame_height - height)
    track.face = moved(track.face, x - left, y - top)
    return True


def moved(face: Face, dx: int, dy: int) -> Face:
    """Return a face with its box and points at another place, pixels."""
    left, top, width, height = face.box
    points = face.points and tuple((x + dx, y + dy) for x, y in face.points)
    return replace(face, box=(left + dx, top + dy, width, height), points=points)


def _peak_offset(values: NDArray[Any], index: int) -> float:
    """Return where the top of the parabola through a peak and its neighbours is, -0.5 to 0.5."""
    if not 0 < index < len(values) - 1:
        return 0.0
    before, peak, after = (float(value) for value in values[index - 1 : index + 2])
    bend = before - 2 * peak + after
    return 0.0 if bend >= 0 else 0.5 * (before - after) / bend


def overlap(a: Box, b: Box) -> float:
    """Return the intersection over union of two boxes, 0 to 1."""
    width = min(a[0] + a[2], b[0] + b[2]) - max(a[0], b[0])
    height = min(a[1] + a[3], b[1] + b[3]) - max(a[1], b[1])
    if width <= 0 or height <= 0:
        return 0.0
    shared = width * height
    return shared / (a[2] * a[3] + b[2] * b[3] - shared)


@dataclass
class Smoother:
    """Exponential smoothing of each track's probabilities, the same at any frame rate.

    Attributes:
        time_s: Time constant: after a sudden change 63 % of it shows after so many seconds. 0
            smooths nothing.
    """

    time_s: float
    _state: dict[int, tuple[float, NDArray[np.float32]]] = field(default_factory=dict, init=False)

    def update(
        self, track: int, time_s: float, probabilities: NDArray[np.float32]
    ) -> NDArray[np.float32]:
        """Return the smoothed probabilities of a track, which go on summing to 1.

        Args:
            track: Number of the face.
            time_s: Time of the frame, seconds.
            probabilities: float32 (labels,) of this frame alone.
        """
        if not self.time_s:
            return probabilities
        if track in self._state:
            before_s, before = self._state[track]
            weight = np.float32(-math.expm1((before_s - time_s) / self.time_s))
            probabilities = before + weight * (probabilities - before)
        self._state[track] = (time_s, probabilities)
        # What is older no longer weighs anything, and a camera may show any number of faces.
        oldest_s = time_s - 10 * self.time_s - GAP_S
        self._state = {key: item for key, item in self._state.items() if item[0] >= oldest_s}
        return probabilities
