"""Face detectors behind one small interface: OpenCV's Haar cascades, YuNet by file, or none."""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np

from fer_edge._base._cv2 import cv2
from fer_edge._base._installed import opencv_build
from fer_edge.errors import DetectorError
from fer_edge.image.read import Frame
from fer_edge.inference.locate import DetectorName
from fer_edge.inference.preprocess import Box, Points, check_frame, to_gray

WORKING_SIDE = 640
"""Frames are searched at no more than this many pixels on their longer side."""


@dataclass(frozen=True)
class Face:
    """A face in a frame.

    Attributes:
        box: Left, top, width and height, pixels of the frame, inside of it.
        score: The detector's own certainty, comparable only within one detector; None where the
            detector gives none.
        points: Eye left and right in the picture, nose, corner of the mouth left and right, each x
            and y in pixels; None where the detector gives none.
    """

    box: Box
    score: float | None
    points: Points | None = None


class FaceDetector(Protocol):
    """Finds faces; safe to call from several threads at once."""

    def detect(self, frame_bgr: Frame) -> list[Face]:
        """Find the faces of a frame.

        Args:
            frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.

        Returns:
            The faces, largest first; empty where there are none.

        Raises:
            ValueError: The frame has another dtype or shape, or no pixels.
        """
        ...


def largest_first(faces: Sequence[Face]) -> list[Face]:
    """Sort faces by area; equal ones by place, so that the order never varies."""
    return sorted(faces, key=lambda face: (-face.box[2] * face.box[3], face.box))


class _OnePerThread(threading.local):
    """What each thread has of its own, since it keeps state while it searches.

    Other processes make theirs anew: it is pickled as nothing.
    """

    made: Any = None

    def __reduce__(self) -> tuple[type[Self], tuple[()]]:
        return type(self), ()


class HaarDetector:
    """OpenCV's frontal-face cascade at a bounded working size.

    Faces turned sideways or tilted by more than about 20 degrees are not found; YuNet finds most.
    """

    _SMALLEST = 20
    """Side of the cascade's window, pixels."""

    def __init__(self, *, min_face: int = 24, max_side: int | None = WORKING_SIDE) -> None:
        """Load the cascade.

        Args:
            min_face: Faces whose longer side is below this many pixels are not reported.
            max_side: Longer side at which frames are searched, pixels: of larger ones the faces
                under a 32nd of it are not found at 640. None: as large as ``min_face`` asks.

        Raises:
            DetectorError: This OpenCV does not bring the cascade, as from version 5 on.
            ValueError: A size below 1.
        """
        _check_sizes(min_face, max_side)
        self._min_face = min_face
        self._max_side = max_side
        self._path = Path(cv2.__file__).parent / "data" / "haarcascade_frontalface_alt2.xml"
        self._local = _OnePerThread()
        self._cascade()

    def _cascade(self) -> "cv2.CascadeClassifier":
        cascade: cv2.CascadeClassifier | None = self._local.made
        if cascade is None:
            # The contrib build of OpenCV 5 still has the class, but none has the file.
            if not self._path.exists() and int(cv2.__version__.split(".")[0]) >= 5:
                raise DetectorError(
                    f"The haar detector is gone: OpenCV {cv2.__version__} brings no cascades; give "
                    "`detector=yunet` and `detector_model=FILE`, or `detector=none` where each "
                    f"picture is a face, or run: pip install '{opencv_build()}<5'"
                )
            cascade = cv2.CascadeClassifier(str(self._path))
            if cascade.empty():
                raise DetectorError(
                    f"Expected OpenCV's cascade at {self._path}, which is missing or damaged; "
                    f"run: pip install --force-reinstall '{opencv_build()}<5'"
                )
            self._local.made = cascade
        return cascade

    def detect(self, frame_bgr: Frame) -> list[Face]:
        """Find the faces of a frame; see `FaceDetector.detect`. The score is the cascade's sum."""
        check_frame(frame_bgr)
        gray, scale = _shrink(to_gray(frame_bgr), self._max_side, self._min_face, self._SMALLEST)
        smallest = max(self._SMALLEST, round(self._min_face * scale))
        if min(gray.shape) < smallest:
            return []
        boxes, _, weights = self._cascade().detectMultiScale3(
            gray,
            scaleFactor=1.1,
            minNeighbors=5,
            minSize=(smallest, smallest),
            outputRejectLevels=True,
        )
        height, width = frame_bgr.shape[:2]
        return largest_first(
            [
                Face(_inside([side / scale for side in box], width, height), float(weight))
                for box, weight in zip(boxes, weights, strict=True)
            ]
        )


class YuNetDetector:
    """YuNet, a small network that also finds turned and partly covered faces."""

    _SMALLEST = 10
    """Least side of the faces that it was trained to find, pixels."""

    def __init__(
        self,
        model: Path,
        *,
        min_face: int = 24,
        max_side: int | None = WORKING_SIDE,
        min_score: float = 0.7,
    ) -> None:
        """Load the network.

        Args:
            model: ONNX file, such as ``face_detection_yunet_2023mar.onnx`` of OpenCV's model zoo.
            min_face: Faces whose longer side is below this many pixels are not reported.
            max_side: As for `HaarDetector`; YuNet finds faces of half the size.
            min_score: Faces that the network is less sure of are not reported, 0 to 1.

        Raises:
            DetectorError: The file is missing or is not YuNet.
            ValueError: A size below 1.
        """
        _check_sizes(min_face, max_side)
        self._model = model
        self._min_face = min_face
        self._max_side = max_side
        self._min_score = min_score
        self._local = _OnePerThread()
        self.detect(np.zeros((32, 32, 3), np.uint8))

    def _network(self) -> cv2.FaceDetectorYN:
        network: cv2.FaceDetectorYN | None = self._local.made
        if network is None:
            if not os.path.isfile(self._model):  # noqa: PTH113 - Path's raises for closed folders
                raise DetectorError(f"Expected YuNet's ONNX file, found none at {self._model}")
            try:
                network = cv2.FaceDetectorYN.create(
                    str(self._model), "", (32, 32), score_threshold=self._min_score
                )
            except cv2.error as error:
                raise DetectorError(
                    f"Expected YuNet's ONNX file, received {self._model}, which OpenCV cannot "
                    f"load ({error.err})"
                ) from error
            self._local.made = network
        return network

    def detect(self, frame_bgr: Frame) -> list[Face]:
        """Find the faces of a frame; see `FaceDetector.detect`. The score is 0 to 1."""
        check_frame(frame_bgr)
        if frame_bgr.ndim == 2 or frame_bgr.shape[2] == 1:
            frame_bgr = np.asarray(cv2.cvtColor(frame_bgr, cv2.COLOR_GRAY2BGR), np.uint8)
        small, scale = _shrink(frame_bgr, self._max_side, self._min_face, self._SMALLEST)
        network = self._network()
        try:
            network.setInputSize((small.shape[1], small.shape[0]))
            _, rows = network.detect(small)
        except cv2.error as error:
            raise DetectorError(
                f"{self._model} does not work as a YuNet face detector ({error.err}); "
                "give another `detector_model`"
            ) from error
        height, width = frame_bgr.shape[:2]
        found = [] if rows is None else rows
        faces = [
            Face(
                _inside([float(side) / scale for side in row[:4]], width, height),
                float(row[14]),
                tuple((float(x) / scale, float(y) / scale) for x, y in row[4:14].reshape(5, 2)),
            )
            for row in found
            if max(row[2:4]) >= self._min_face * scale and np.isfinite(row).all()
        ]
        return largest_first([face for face in faces if min(face.box[2:]) > 0])


class WholeFrame:
    """No detector: the picture is the face."""

    def detect(self, frame_bgr: Frame) -> list[Face]:
        """Return the whole frame as one face without a score."""
        check_frame(frame_bgr)
        height, width = frame_bgr.shape[:2]
        return [Face((0, 0, width, height), None)]


def open_detector(
    name: DetectorName,
    model: str | Path | None = None,
    *,
    min_face: int = 24,
    max_side: int | None = WORKING_SIDE,
) -> FaceDetector:
    """Make the detector of that name.

    Args:
        name: ``haar``, ``yunet`` or ``none``.
        model: YuNet's ONNX file; needed by ``yunet`` alone.
        min_face: Faces whose longer side is below this many pixels are not reported.
        max_side: Longer side at which frames are searched, pixels; None: as large as ``min_face``
            asks, which takes as much longer.

    Raises:
        DetectorError: The detector or its model cannot be used.
        ValueError: No detector has that name.
    """
    if name == "none":
        return WholeFrame()
    if name == "haar":
        return HaarDetector(min_face=min_face, max_side=max_side)
    if name != "yunet":
        raise ValueError(f"Expected haar, yunet or none, received {name!r}")
    if model is None:
        raise DetectorError(
            "Expected YuNet's ONNX file, received none; give `detector_model=FILE` (the file is "
            "face_detection_yunet_2023mar.onnx of OpenCV's model zoo)"
        )
    return YuNetDetector(Path(model), min_face=min_face, max_side=max_side)


def _check_sizes(min_face: int, max_side: int | None) -> None:
    if min_face < 1 or (max_side is not None and max_side < 1):
        raise ValueError(
            f"Expected sizes of 1 pixel or more, received min_face={min_face}, max_side={max_side}"
        )


def _shrink(
    image: Frame, max_side: int | None, min_face: int, smallest: int
) -> tuple[Frame, float]:
    """Shrink to ``max_side``, or to where faces of ``min_face`` become as small as can be found."""
    longer = max(image.shape[:2])
    # Faces at the very limit are often missed.
    wanted = 1.25 * smallest / min_face
    scale = max_side / longer if max_side else max(wanted, WORKING_SIDE / longer)
    if scale >= 1:
        return image, 1.0
    size = (max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale)))
    return np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8), scale


def _inside(box: Sequence[float], width: int, height: int) -> Box:
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    return left, top, right - left, bottom - top
