"""Faces to emotions: one onnxruntime session, checked before and after every use."""

import dataclasses
import hashlib
import itertools
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from fer_edge._base.ahead import map_ahead
from fer_edge._base.threads import available_threads
from fer_edge.contract import check_spec
from fer_edge.errors import ModelError
from fer_edge.image.read import Frame
from fer_edge.inference.describe import describe_model, model_input_shape
from fer_edge.inference.detectors import Face, FaceDetector, open_detector
from fer_edge.inference.locate import DetectorName, find_model
from fer_edge.inference.onnx_file import read_model
from fer_edge.inference.preprocess import Box, prepare
from fer_edge.inference.session import open_session

UNCERTAIN = "uncertain"
"""The label of a face whose best emotion stays below the threshold that the user has set."""

_TOLERANCE = 1e-2
"""How far rows may be from summing to 1: half-precision outputs are that coarse."""

T = TypeVar("T")


@dataclass(frozen=True)
class Emotion:
    """One label and its probability, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class FaceResult:
    """What was found out about one face.

    Attributes:
        box: Left, top, width and height, pixels of the frame.
        detector_score: The detector's own certainty, or None.
        emotion: The likeliest label, or ``uncertain``.
        confidence: Probability of the likeliest label, 0 to 1.
        probabilities: Probability of each label, in the model's order.
    """

    box: Box
    detector_score: float | None
    emotion: str
    confidence: float
    probabilities: Mapping[str, float]

    def top(self, count: int | None = None) -> list[Emotion]:
        """Return the likeliest emotions, best first; None means all."""
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return [Emotion(label, probability) for label, probability in ranked[:count]]


class Classifier:
    """Finds faces and says what emotion each shows.

    A classifier may be used by several threads at once.

    Example:
        >>> from fer_edge import Classifier, read_image
        >>> classify = Classifier()
        >>> for face in classify(read_image("portrait.jpg")):
        ...     print(face.box, face.emotion, face.confidence)

    Attributes:
        spec: How the model is fed and read.
        model_path: The file that is used.
        provider: Short name of the execution provider that really runs, such as ``cpu``.
        threads: Threads that one inference may use.
        batch_size: Most faces in one inference.
        detector: The face detector.
        notes: What a user should be told of, such as a model used in place of another.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        provider: str = "auto",
        threads: int | None = None,
        detector: FaceDetector | DetectorName = "haar",
        overrides: Mapping[str, Any] | None = None,
        margin: float | None = None,
        uncertain: float = 0.0,
        mirror: bool = False,
        batch_size: int = 64,
        spin: bool = True,
    ) -> None:
        """Load a model.

        Args:
            model: Path or bare name, see `fer_edge.inference.locate.find_model`; None means the
                default.
            provider: ``auto`` or a key of `fer_edge.inference.providers.PROVIDERS`.
            threads: Threads for one inference; None means all that this process may use.
            detector: A detector, or the name of one that needs no file.
            overrides: Fields of `ModelSpec` for a model that does not describe itself.
            margin: Replaces the spec's margin around a face.
            uncertain: Below this probability the label is ``uncertain``.
            mirror: Whether each face is answered as the mean of itself and its mirror image,
                which takes twice as long.
            batch_size: Most faces in one inference.
            spin: Whether idle threads wait busily for the next inference: False leaves the
                processor to others, as `fer-edge video` does.

        Raises:
            ModelError: The file is missing, broken or not a classifier that can be used.
            ProviderError: The provider is not there.
            DetectorError: The detector cannot be used.
            ValueError: A number is out of its range.
        """
        if batch_size < 1 or (threads is not None and threads < 1):
            raise ValueError(
                f"Expected 1 or more, received batch_size={batch_size}, threads={threads}"
            )
        self.notes: list[str] = []
        self.model_path = find_model(model)
        wanted = Path(model or self.model_path).name
        if self.model_path.name not in (wanted, f"{wanted}.onnx"):
            self.notes.append(f"There is no {model} here; using {self.model_path} in its place")
        self.threads = threads or available_threads()
        self._uncertain = uncertain
        self._mirror = mirror
        self._session = open_session(self.model_path, provider, self.threads, spin=spin)
        self.provider = self._session.provider
        self.notes += self._session.notes
        self.spec = describe_model(
            self.model_path,
            self._session.metadata,
            self._session.input_shape,
            self._session.output_shape,
            overrides or {},
        )
        if margin is not None:
            self.spec = dataclasses.replace(self.spec, margin=margin)
            check_spec(self.spec, self._name)
        self.batch_size = self._session.fixed_batch or batch_size
        self.detector = detector if not isinstance(detector, str) else open_detector(detector)

    @property
    def _name(self) -> str:
        return self.model_path.name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model file, hexadecimal."""
        return hashlib.sha256(read_model(self.model_path)).hexdigest()

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model.

        Args:
            batch: float32 as `fer_edge.inference.preprocess.prepare` makes it for the spec, any N.

        Returns:
            float32 (N, labels), rows sum to 1.

        Raises:
            ModelError: The model fails, or answers with what are no probabilities.
            ValueError: The batch has another dtype or shape.
        """
        shape = model_input_shape(self.spec)
        if batch.dtype != np.float32 or batch.shape[1:] != shape:
            raise ValueError(
                f"Expected float32 (N, {', '.join(map(str, shape))}), received {batch.dtype} "
                f"{batch.shape}"
            )
        rows = np.empty((len(batch), len(self.spec.labels)), np.float32)
        for start in range(0, len(batch), self.batch_size):
            chunk = batch[start : start + self.batch_size]
            answers = rows[start : start + len(chunk)]
            answers[:] = self._run(chunk)
            if self._mirror:
                columns = 2 if self.spec.layout == "nhwc" else 3
                answers += self._run(np.ascontiguousarray(np.flip(chunk, axis=columns)))
                answers /= 2
        return rows

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        count = len(batch)
        if self._session.fixed_batch:
            filling = np.zeros((self._session.fixed_batch - count, *batch.shape[1:]), np.float32)
            batch = np.concatenate([batch, filling])
        answer = self._session.run(batch)
        expected = (len(batch), len(self.spec.labels))
        if answer.shape != expected:
            raise ModelError(
                f"Expected {self._name} to answer with {expected}, received {answer.shape}"
            )
        rows: NDArray[np.float32] = answer[:count]
        if not np.isfinite(rows).all():
            raise ModelError(
                f"Expected probabilities from {self._name}, received infinite numbers or NaN; "
                "the model is damaged, or its input is described wrongly (--range, --mean, --std)"
            )
        if self.spec.outputs == "logits":
            rows = np.exp(rows - rows.max(axis=1, keepdims=True))
            rows /= rows.sum(axis=1, keepdims=True)
            return rows
        sums = rows.sum(axis=1)
        if rows.min() < -_TOLERANCE or np.abs(sums - 1).max() > _TOLERANCE:
            raise ModelError(
                f"Expected probabilities that sum to 1 from {self._name}, received "
                f"{np.array2string(rows[0], precision=3)}; if these are logits, give "
                "--outputs logits"
            )
        return rows

    def prepare(self, frame_bgr: Frame, faces: Sequence[Face]) -> NDArray[np.float32]:
        """Cut and scale faces into a batch for `probabilities`."""
        height, width = frame_bgr.shape[:2]
        whole = (0, 0, width, height)
        boxes = [None if face.box == whole else face.box for face in faces]
        return prepare(frame_bgr, boxes, self.spec)

    def result(self, face: Face, row: NDArray[np.float32]) -> FaceResult:
        """Read one row of probabilities as a result."""
        probabilities = dict(zip(self.spec.labels, map(float, row), strict=True))
        label = max(probabilities, key=probabilities.__getitem__)
        confidence = probabilities[label]
        if confidence < self._uncertain:
            label = UNCERTAIN
        return FaceResult(face.box, face.score, label, confidence, probabilities)

    def classify_faces(self, frame_bgr: Frame, faces: Sequence[Face]) -> list[FaceResult]:
        """Classify faces that are already found, in one batch.

        Args:
            frame_bgr: (H, W, 3) uint8 **BGR**, or (H, W) grey.
            faces: Faces with boxes in the frame's pixels.

        Returns:
            One result for each face, in their order.
        """
        rows = self.probabilities(self.prepare(frame_bgr, faces))
        return [self.result(face, row) for face, row in zip(faces, rows, strict=True)]

    def classify(self, frame_bgr: Frame) -> list[FaceResult]:
        """Find and classify the faces of a frame; largest first, empty where there are none.

        Args:
            frame_bgr: (H, W, 3) uint8 **BGR** as OpenCV gives it (for RGB pass
                ``frame[:, :, ::-1]``), or (H, W) grey.
        """
        return self.classify_faces(frame_bgr, self.detector.detect(frame_bgr))

    __call__ = classify

    def classify_many(self, frames: Iterable[Frame]) -> Iterator[list[FaceResult]]:
        """Classify the faces of many frames; detection runs ahead and faces share batches.

        Args:
            frames: Frames as for `classify`; read as needed, so that any number fits in memory.

        Yields:
            The results of each frame, in order.
        """

        def look(frame: Frame) -> tuple[list[Face], NDArray[np.float32]]:
            faces = self.detector.detect(frame)
            return faces, self.prepare(frame, faces)

        for faces, rows in self.share_batches(map_ahead(look, frames, self.threads)):
            yield [self.result(face, row) for face, row in zip(faces, rows, strict=True)]

    def share_batches(
        self, items: Iterable[tuple[T, NDArray[np.float32]]]
    ) -> Iterator[tuple[T, NDArray[np.float32]]]:
        """Run the model over items with any number of inputs each, in full batches.

        Args:
            items: Each a token and its float32 (N, ...) inputs, N from 0.

        Yields:
            Each token with its float32 (N, labels) probabilities, in order.
        """
        waiting: list[tuple[T, NDArray[np.float32]]] = []
        count = 0
        for item in items:
            waiting.append(item)
            count += len(item[1])
            # Pictures without faces wait no longer than others for their turn.
            if count >= self.batch_size or len(waiting) >= self.batch_size:
                yield from self._flush(waiting)
                waiting, count = [], 0
        yield from self._flush(waiting)

    def _flush(
        self, items: list[tuple[T, NDArray[np.float32]]]
    ) -> Iterator[tuple[T, NDArray[np.float32]]]:
        if not items:
            return
        rows = self.probabilities(np.concatenate([batch for _, batch in items]))
        ends = list(itertools.accumulate(len(batch) for _, batch in items))
        for (token, batch), end in zip(items, ends, strict=True):
            yield token, rows[end - len(batch) : end]
