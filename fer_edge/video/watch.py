"""From frames to what the faces in them show: tracking, inference and smoothing in one stream."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from fer_edge._base._cv2 import cv2
from fer_edge._base.ahead import map_ahead
from fer_edge.errors import SourceError
from fer_edge.image.read import Frame
from fer_edge.inference.classifier import Classifier, FaceResult
from fer_edge.inference.detectors import Face, WholeFrame
from fer_edge.picture.draw import draw_faces
from fer_edge.video.options import DETECT_EVERY, Region
from fer_edge.video.source import TimedFrame, VideoSource
from fer_edge.video.tracking import FaceTracker, Smoother, gap_s, moved

_OUTLINE = (160, 160, 160)


@dataclass(frozen=True)
class WatchedFace:
    """A face of a video: its number, which it keeps from frame to frame, and what it shows."""

    track: int
    result: FaceResult


@dataclass(frozen=True)
class WatchedFrame:
    """A frame and what it shows.

    Attributes:
        frame: The frame.
        faces: Its faces, largest first.
        latency_ms: How old a live frame was when it was classified; for files how long following
            and classifying its faces took.
        region: The part of the frame that was looked at, or None for all of it.
    """

    frame: TimedFrame
    faces: Sequence[WatchedFace]
    latency_ms: float
    region: Region | None = None

    @cached_property
    def annotated_bgr(self) -> Frame:
        """(H, W, 3) uint8 BGR: the frame with its faces' boxes and labels, drawn when asked for."""
        image = self.frame.image_bgr
        if self.region:
            left, top, width, height = self.region
            image = image.copy()
            cv2.rectangle(image, (left, top), (left + width - 1, top + height - 1), _OUTLINE, 2)
        return draw_faces(image, [face.result for face in self.faces])

    def to_dict(self) -> dict[str, Any]:
        """Return the frame's record as plain JSON values."""
        height, width = self.frame.image_bgr.shape[:2]
        return {
            "frame": self.frame.index,
            "time_s": round(self.frame.time_s, 3),
            "width": width,
            "height": height,
            "status": "ok" if self.faces else "no_face",
            "error": None,
            "faces": [{"track": face.track, **face.result.to_dict()} for face in self.faces],
        }


class FrameSink(Protocol):
    """What takes the frames of a video one by one: a log, a recording, a window, a history."""

    def take(self, watched: WatchedFrame) -> None:
        """Take the next frame."""
        ...


def error_record(message: str) -> dict[str, Any]:
    """Return the last record of a source that broke, in the form of `WatchedFrame.to_dict`."""
    return {
        "frame": None,
        "time_s": None,
        "width": None,
        "height": None,
        "status": "error",
        "error": message,
        "faces": [],
    }


def watch(
    source: VideoSource,
    classifier: Classifier,
    *,
    detect_every: int = DETECT_EVERY,
    smooth_s: float = 0.0,
    largest: bool = False,
    roi: Region | None = None,
) -> Iterator[WatchedFrame]:
    """Classify the faces of a source, frame by frame.

    Example:
        >>> with VideoSource("cam0") as source:
        ...     for watched in watch(source, Classifier(), smooth_s=0.5):
        ...         print(watched.frame.time_s, [face.result.emotion for face in watched.faces])

    Args:
        source: An open source.
        classifier: Model and detector.
        detect_every: Frames from one detection to the next while faces are followed surely; 1
            detects in every frame.
        smooth_s: Time constant of the smoothing of each face's probabilities; 0 smooths nothing.
        largest: Whether only the largest face is classified.
        roi: Left, top, width and height of the part of each frame that is looked at, pixels;
            what lies outside of the frame counts for nothing. Boxes are the whole frame's.

    Yields:
        Each frame of the source.

    Raises:
        SourceError: The source broke, or the region lies outside of its frames.
        ModelError: The model failed.
        ValueError: The source is not open.
    """
    if not hasattr(source, "interval_s"):
        raise ValueError(
            f"Expected an open VideoSource, received {source!r}; open it with: "
            "with VideoSource(...) as source"
        )
    # Where the whole frame is the face there is nothing to follow.
    every = 1 if isinstance(classifier.detector, WholeFrame) else detect_every
    forget_s = gap_s(source.interval_s)
    tracker = FaceTracker(classifier.detector, detect_every=every, forget_s=forget_s)
    smoother = Smoother(smooth_s)

    def look(item: tuple[int, TimedFrame]) -> tuple[TimedFrame, Region, list[Face] | None]:
        position, frame = item
        part = _part(frame, roi)
        return frame, part, tracker.look_ahead(position, _cut(frame, part))

    broken: list[SourceError] = []
    reopened = 0

    def numbered() -> Iterator[tuple[int, TimedFrame]]:
        # The frames before a break are worth as much as any: they are finished before it is told.
        try:
            yield from enumerate(source)
        except SourceError as error:
            broken.append(error)

    # Frames of a file can be searched ahead, on all processors; live ones would only grow old.
    looked = (
        map(look, numbered()) if source.live else map_ahead(look, numbered(), classifier.threads)
    )
    for frame, part, found in looked:
        if frame.reopened != reopened:
            reopened = frame.reopened
            tracker.forget()
        began_s = frame.taken_s if source.live else time.monotonic()
        view = _cut(frame, part)
        tracked = tracker.update(view, frame.time_s, found)[: 1 if largest else None]
        faces = [item.face for item in tracked]
        rows = classifier.predict(classifier.prepare(view, faces))
        watched = [
            WatchedFace(
                item.track,
                classifier.result(
                    moved(item.face, *part[:2]), smoother.update(item.track, frame.time_s, row)
                ),
            )
            for item, row in zip(tracked, rows, strict=True)
        ]
        latency_ms = (time.monotonic() - began_s) * 1000
        yield WatchedFrame(frame, watched, latency_ms, part if roi else None)
    if broken:
        raise broken[0]


def _part(frame: TimedFrame, roi: Region | None) -> Region:
    """Return what of a region of interest lies in a frame."""
    height, width = frame.image_bgr.shape[:2]
    if roi is None:
        return 0, 0, width, height
    left, top = max(0, roi[0]), max(0, roi[1])
    right, bottom = min(width, roi[0] + roi[2]), min(height, roi[1] + roi[3])
    if right <= left or bottom <= top:
        raise SourceError(
            f"Expected a region inside of {width} x {height} pixels, received "
            f"{','.join(map(str, roi))}; give another `roi`: left, top, width, height"
        )
    return left, top, right - left, bottom - top


def _cut(frame: TimedFrame, part: Region) -> Frame:
    left, top, width, height = part
    return frame.image_bgr[top : top + height, left : left + width]
