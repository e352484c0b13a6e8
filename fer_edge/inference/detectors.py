"""Face detectors behind one small interface.

A network of ours, OpenCV's Haar cascade, YuNet by file, or none.
"""

import os
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import OPENCV_VERSION, cv2
from fer_edge._base._installed import opencv_build
from fer_edge.contract import DetectorSpec, detector_from_metadata
from fer_edge.errors import DetectorError, ModelError
from fer_edge.image.read import Frame
from fer_edge.inference.locate import DEFAULT_DETECTOR, DetectorName, find_model
from fer_edge.inference.onnx_file import ModelFile
from fer_edge.inference.preprocess import Box, Points, check_frame, in_color, to_gray
from fer_edge.inference.search import BOX_CHANNELS, Maps, search, shrink
from fer_edge.inference.session import open_session

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


class OnnxDetector:
    """A network run by onnxruntime, such as the one that is shipped.

    It finds faces that are tilted by 45 degrees or partly covered, with their landmarks.

    Attributes:
        path: Its file.
        spec: How its output is read.
        provider: Short name of the execution provider that really runs, such as ``cpu``.
    """

    SMALLEST = 12
    """Side at which it finds two of three faces, pixels of what it is given."""

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        min_face: int = 24,
        max_side: int | None = WORKING_SIDE,
        min_score: float | None = None,
        provider: str = "auto",
        threads: int = 1,
        spin: bool = False,
    ) -> None:
        """Load the network.

        Args:
            model: Path or bare name of an ONNX file with the metadata of a `DetectorSpec`; None
                means the shipped one.
            min_face: Faces whose longer side is below this many pixels are not reported.
            max_side: Longer side at which frames are searched, pixels. The network's own side
                serves for the first look; where more is allowed a second one in tiles finds small
                faces. None: as large as ``min_face`` asks.
            min_score: Faces that the network is less sure of are not reported, 0 to 1; None means
                what the file says.
            provider: ``auto`` or a key of `fer_edge.inference.providers.PROVIDERS`.
            threads: Threads for one search; several searches may run at once.
            spin: Whether idle threads wait busily for the next search.

        Raises:
            ModelError: The file is missing, broken or not a detector that can be used.
            ProviderError: The provider is not there.
            ValueError: A size below 1, or a score that is none.
        """
        _check_sizes(min_face, max_side)
        if min_score is not None and not 0 <= min_score <= 1:
            raise ValueError(f"Expected a score from 0 to 1, received {min_score}")
        self.path = find_model(model, default=DEFAULT_DETECTOR)
        self._open = partial(
            type(self),
            model if model is None else self.path.resolve(),
            min_face=min_face,
            max_side=max_side,
            min_score=min_score,
            provider=provider,
            threads=threads,
            spin=spin,
        )
        self._min_face = min_face
        self._max_side = max_side
        self._session = open_session(self.path, provider, threads, spin=spin)
        self.provider = self._session.provider
        self.spec = detector_spec(self._session.file)
        self._outputs = [output.name for output in self._session.file.outputs]
        self._least = self.spec.threshold if min_score is None else min_score
        self.detect(np.zeros((32, 32, 3), np.uint8))

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Pickle how the detector was made; who unpickles it opens the network again."""
        return self._open, ()

    def detect(self, frame_bgr: Frame) -> list[Face]:
        """Find the faces of a frame; see `FaceDetector.detect`. The score is 0 to 1."""
        check_frame(frame_bgr)
        frame_bgr = in_color(frame_bgr)
        side = min(self.spec.side, self._max_side or self.spec.side)
        found = search(
            self.maps,
            frame_bgr,
            strides=self.spec.strides,
            least=self._least,
            overlap=self.spec.overlap,
            side=side,
            scale=_scale(frame_bgr, self._max_side, self._min_face, self.SMALLEST),
        )
        height, width = frame_bgr.shape[:2]
        found = found.only((found.boxes[:, 2:] - found.boxes[:, :2]).max(1) >= self._min_face)
        faces = []
        rows = zip(found.boxes.tolist(), found.scores.tolist(), found.points.tolist(), strict=True)
        for (x1, y1, x2, y2), score, points in rows:
            box = _inside((x1, y1, x2 - x1, y2 - y1), width, height)
            if min(box[2:]) > 0:
                faces.append(Face(box, score, tuple((x, y) for x, y in points)))
        return largest_first(faces)

    def maps(self, image: NDArray[np.float32]) -> Maps:
        """Run the network.

        Args:
            image: float32 (1, 3, H, W), BGR, 0-255, H and W multiples of the largest stride.

        Returns:
            One map a stride, see `DetectorSpec`.

        Raises:
            ModelError: The network fails, or gives other maps.
        """
        maps = self._session.run(image, self._outputs)
        channels = BOX_CHANNELS + 2 * len(self.spec.points)
        height, width = image.shape[2:]
        for cells, stride in zip(maps, self.spec.strides, strict=True):
            if cells.shape != (1, channels, height // stride, width // stride):
                raise ModelError(
                    f"Expected {(1, channels, height // stride, width // stride)} at stride "
                    f"{stride} from {self.path.name} for a picture of {width} x {height}, received "
                    f"{cells.shape}; export it again"
                )
        return maps


def detector_spec(file: ModelFile) -> DetectorSpec:
    """Return how the output of a face detector's file is read.

    Raises:
        ModelError: It is no face detector, or its graph is not what it says.
    """
    name = file.path.name
    spec = detector_from_metadata(file.metadata, name)
    if spec is None:
        raise ModelError(
            f"Expected a face detector of fer-edge's, received {name}, which carries no fer-edge "
            "metadata; give a YuNet file with `detector=yunet`"
        )
    source = file.inputs[0] if len(file.inputs) == 1 else None
    shape = (source.shape or ()) if source else ()
    if (
        source is None
        or len(shape) != 4
        or any(isinstance(shape[axis], int) for axis in (0, 2, 3))
        or shape[1] not in (3, None)
        or source.type != "float"
    ):
        raise ModelError(
            f"Expected {name} to take float32 (N, 3, H, W) of any N, H and W, received the input "
            f"{source}; export it again"
        )
    if len(file.outputs) != len(spec.strides):
        raise ModelError(
            f"Expected an output of {name} for each of its strides {spec.strides}, received "
            f"{'; '.join(map(str, file.outputs))}; export it again"
        )
    return spec


class HaarDetector:
    """OpenCV's frontal-face cascade at a bounded working size.

    Faces turned sideways or tilted by more than about 20 degrees are not found; YuNet finds most.
    """

    SMALLEST = 20
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
            if not self._path.exists() and OPENCV_VERSION >= (5,):
                raise DetectorError(
                    f"The haar detector is gone: OpenCV {cv2.__version__} brings no cascades; give "
                    f"`detector=face`, the default, or run: pip install '{opencv_build()}<5'"
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
        scale = _scale(frame_bgr, self._max_side, self._min_face, self.SMALLEST)
        gray = shrink(to_gray(frame_bgr), scale)
        smallest = max(self.SMALLEST, round(self._min_face * scale))
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

    SMALLEST = 10
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
        frame_bgr = in_color(frame_bgr)
        scale = _scale(frame_bgr, self._max_side, self._min_face, self.SMALLEST)
        small = shrink(frame_bgr, scale)
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
    provider: str = "auto",
) -> FaceDetector:
    """Make the detector of that name.

    Args:
        name: ``face``, ``haar``, ``yunet`` or ``none``.
        model: An ONNX file: needed by ``yunet``; for ``face`` another one than is shipped.
        min_face: Faces whose longer side is below this many pixels are not reported.
        max_side: Longer side at which frames are searched, pixels; None: as large as ``min_face``
            asks, which takes as much longer.
        provider: What runs ``face``: ``auto`` or a key of
            `fer_edge.inference.providers.PROVIDERS`.

    Raises:
        DetectorError: The detector or its model cannot be used.
        ModelError: The file of ``face`` is missing, broken or no face detector.
        ProviderError: The provider is not there.
        ValueError: No detector has that name, or it takes no model.
    """
    if name in ("none", "haar") and model is not None:
        raise ValueError(f"Expected no model for the detector {name}, received {model}")
    if name == "none":
        return WholeFrame()
    if name == "haar":
        return HaarDetector(min_face=min_face, max_side=max_side)
    if name == "face":
        return OnnxDetector(model, min_face=min_face, max_side=max_side, provider=provider)
    if name != "yunet":
        raise ValueError(f"Expected face, haar, yunet or none, received {name!r}")
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


def _scale(frame: Frame, max_side: int | None, min_face: int, smallest: int) -> float:
    """Return at which share of its size a frame is searched, at most 1.

    It is shrunk to ``max_side``, or to where faces of ``min_face`` become as small as can be found.
    """
    longer: int = max(frame.shape[:2])
    # Faces at the very limit are often missed.
    wanted = 1.25 * smallest / min_face
    return min(1.0, max_side / longer if max_side else max(wanted, WORKING_SIDE / longer))


def _inside(box: Sequence[float], width: int, height: int) -> Box:
    left, top = max(0, round(box[0])), max(0, round(box[1]))
    right, bottom = min(width, round(box[0] + box[2])), min(height, round(box[1] + box[3]))
    return left, top, right - left, bottom - top
