"""From frames to what the faces in them show: tracking, inference and smoothing in one stream."""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

from fer_edge._base.ahead import map_ahead
from fer_edge.errors import SourceError
from fer_edge.image.read import Frame
from fer_edge.inference.classifier import Classifier, FaceResult
from fer_edge.inference.detectors import Face, WholeFrame
from fer_edge.picture.draw import draw_faces
from fer_edge.video.options import DETECT_EVERY
from fer_edge.video.source import TimedFrame, VideoSource
from fer_edge.video.tracking import FaceTracker, Smoother, gap_s


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
    """

    frame: TimedFrame
    faces: Sequence[WatchedFace]
    latency_ms: float

    @cached_property
    def annotated_bgr(self) -> Frame:
        """(H, W, 3) uint8 BGR: the frame with its faces' boxes and labels, drawn when asked for."""
        return draw_faces(self.frame.image_bgr, [face.result for face in self.faces])

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

    Yields:
        Each frame of the source.

    Raises:
        SourceError: The source broke.
        ModelError: The model failed.
    """
    # Where the whole frame is the face there is nothing to follow.
    every = 1 if isinstance(classifier.detector, WholeFrame) else detect_every
    forget_s = gap_s(source.interval_s)
    tracker = FaceTracker(classifier.detector, detect_every=every, forget_s=forget_s)
    smoother = Smoother(smooth_s)

    def look(item: tuple[int, TimedFrame]) -> tuple[TimedFrame, list[Face] | None]:
        position, frame = item
        return frame, tracker.look_ahead(position, frame.image_bgr)

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
    for frame, found in looked:
        if frame.reopened != reopened:
            reopened = frame.reopened
            tracker.forget()
        began_s = frame.taken_s if source.live else time.monotonic()
        tracked = tracker.update(frame.image_bgr, frame.time_s, found)[: 1 if largest else None]
        faces = [item.face for item in tracked]
        rows = classifier.predict(classifier.prepare(frame.image_bgr, faces))
        watched = [
            WatchedFace(
                item.track,
                classifier.result(item.face, smoother.update(item.track, frame.time_s, row)),
            )
            for item, row in zip(tracked, rows, strict=True)
        ]
        yield WatchedFrame(frame, watched, (time.monotonic() - began_s) * 1000)
    if broken:
        raise broken[0]
