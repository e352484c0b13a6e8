"""Faces to emotions: one onnxruntime session, checked before and after every use."""

import itertools
import logging
import os
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, Unpack

import numpy as np
from numpy.typing import NDArray

from fer_edge._base.ahead import map_promptly
from fer_edge._base.threads import available_threads
from fer_edge.contract import (
    DESCRIPTION,
    Description,
    Prior,
    prior_power,
    read_description,
    spec_from_metadata,
)
from fer_edge.errors import ModelError
from fer_edge.image.frames import to_frame
from fer_edge.image.read import Frame
from fer_edge.inference.describe import describe_model, model_input_shape
from fer_edge.inference.detectors import Face, FaceDetector, open_detector
from fer_edge.inference.locate import DetectorName, find_model, half_form
from fer_edge.inference.onnx_file import read_model
from fer_edge.inference.outputs import are_probabilities, doubts, softmax
from fer_edge.inference.preprocess import Box, Points, prepare
from fer_edge.inference.providers import CARDS
from fer_edge.inference.session import open_session
from fer_edge.records import FACES, to_dataframe

if TYPE_CHECKING:
    import pandas

_LOG = logging.getLogger(__name__)

UNCERTAIN = "uncertain"
"""The label of a face whose best emotion stays below the threshold that the user has set."""

_DECIMALS = 6

_PATIENCE_S = 0.25
"""The longest time that a face waits for others to share its batch."""

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
        points: Points of the face as `Face` has them, or None.
        affect: What the model gives beside labels, such as ``valence`` and ``arousal``: numbers on
            the model's own scale, mostly -1 to 1. Empty for models that give none.
    """

    box: Box
    detector_score: float | None
    emotion: str
    confidence: float
    probabilities: Mapping[str, float]
    points: Points | None = None
    affect: Mapping[str, float] = field(default_factory=dict)

    def top(self, count: int | None = None) -> list[Emotion]:
        """Return the likeliest emotions, best first; None means all."""
        ranked = sorted(self.probabilities.items(), key=lambda item: -item[1])
        return [Emotion(label, probability) for label, probability in ranked[:count]]

    def to_dict(self) -> dict[str, Any]:
        """Return the face as plain JSON values, numbers to six decimals.

        The key ``affect`` is there for models that give any.
        """
        score = self.detector_score
        values: dict[str, Any] = {
            "box": list(self.box),
            "detector_score": None if score is None else round(score, _DECIMALS),
            "emotion": self.emotion,
            "confidence": round(self.confidence, _DECIMALS),
            "probabilities": {
                label: round(value, _DECIMALS) for label, value in self.probabilities.items()
            },
        }
        if self.affect:
            values["affect"] = {
                name: round(value, _DECIMALS) for name, value in self.affect.items()
            }
        return values


class Faces(list[FaceResult]):
    """The faces of one picture, largest first: a list that also gives itself as plain values."""

    def to_dict(self) -> list[dict[str, Any]]:
        """Return each face as `FaceResult.to_dict` does."""
        return [face.to_dict() for face in self]

    def to_dataframe(self) -> "pandas.DataFrame":
        """Return a pandas table with a row for each face and a column for each label.

        Raises:
            DependencyError: pandas is not installed.
        """
        labels = [*self[0].probabilities, *self[0].affect] if self else []
        return to_dataframe([{"faces": self.to_dict()}], FACES, labels)


class Classifier:
    """Finds faces and says what emotion each shows.

    A classifier may be used by several threads at once.

    Example:
        >>> from fer_edge import Classifier, read_image
        >>> classify = Classifier()
        >>> for face in classify(read_image("portrait.jpg")):
        ...     print(face.box, face.emotion, face.confidence)

    What a user should be told of, such as a model used in place of another, is a warning of the
    logger ``fer_edge``.

    Attributes:
        spec: How the model is fed and read.
        model_path: The file that is used.
        provider: Short name of the execution provider that really runs, such as ``cpu``.
        threads: Threads that one inference may use.
        batch_size: Most faces in one inference.
        detector: The face detector.
        mirror: Whether probabilities are means over each face and its mirror image.
        prior: Power of the training prior that probabilities are divided by; 0 leaves them as they
            are.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        preset: str | None = None,
        provider: str = "auto",
        threads: int | None = None,
        detector: FaceDetector | DetectorName = "face",
        detector_model: str | Path | None = None,
        uncertain: float = 0.0,
        mirror: bool = False,
        prior: Prior | float | None = None,
        align: bool = True,
        batch_size: int | None = None,
        spin: bool = True,
        **description: Unpack[Description],
    ) -> None:
        """Load a model.

        Args:
            model: Path or bare name, see `fer_edge.inference.locate.find_model`; None means the
                default. On a graphics card the float16 form runs of a model that is not named in
                full (``edge``, not ``edge.onnx``), where it lies beside it.
            preset: Name of a well-known model of another maker that it is, see
                `fer_edge.inference.presets.PRESETS`.
            provider: ``auto`` or a key of `fer_edge.inference.providers.PROVIDERS`.
            threads: Threads for one inference; None means all that this process may use.
            detector: A detector, or the name of one.
            detector_model: The named detector's file, where it needs one, or another of ``face``.
            uncertain: Below this probability the label is ``uncertain``.
            mirror: Whether probabilities are the mean over each face and its mirror image. Both
                run in one batch: the slowdown of the model is 2.
            prior: Probabilities are divided by the prior of the training to this power, and
                normalised (Saerens et al. 2002): ``training`` is 0 and keeps them as they are,
                ``uniform`` is 1 and treats all labels as equally frequent. None means
                `fer_edge.contract.DEFAULT_PRIOR_POWER` where the model says what its prior is.
            align: Whether tilted faces are turned upright, where the detector finds their eyes.
            batch_size: Most faces in one inference; None means 64, or 256 on a graphics card.
            spin: Whether idle threads wait busily for the next inference: False leaves the
                processor to others, as `fer-edge video` does.
            description: Fields of `ModelSpec` for a model that does not describe itself, such as
                ``labels`` and ``color``; they replace what one says that does.

        Raises:
            ModelError: The file is missing, broken or not a classifier that can be used.
            ProviderError: The provider is not there.
            DetectorError: The detector cannot be used.
            ValueError: A number is out of its range, or an argument is of the wrong kind.
        """
        _check_names(description)
        _check_arguments(batch_size, threads, uncertain, detector)
        given = read_description(description, "the arguments")
        self.model_path = find_model(model)
        wanted = Path(model or self.model_path).name
        if self.model_path.name not in (wanted, f"{wanted}.onnx"):
            _LOG.warning("There is no %s here; using %s in its place", model, self.model_path)
        self.threads = threads or available_threads()
        self._uncertain = uncertain
        self.mirror = mirror
        self._align = align
        self._session = open_session(self.model_path, provider, self.threads, spin=spin)
        self.provider = self._session.provider
        on_card = self.provider in CARDS
        in_full = model is not None and Path(model).name == self.model_path.name
        if on_card and not in_full and (half := half_form(self.model_path)):
            self.model_path = half
            self._session = open_session(half, provider, self.threads, spin=spin)
        # What another process makes the same of, wherever it runs.
        self._arguments: dict[str, Any] = {
            "model": model if model is None else self.model_path.resolve(),
            "preset": preset,
            "provider": provider,
            "threads": threads,
            "detector": detector,
            "detector_model": detector_model,
            "uncertain": uncertain,
            "mirror": mirror,
            "prior": prior,
            "align": align,
            "batch_size": batch_size,
            "spin": spin,
            **description,
        }
        self.spec, self._reading = describe_model(self._session.file, given, preset)
        self.prior = prior_power(prior, self.spec, self._name)
        self._divisor = np.asarray(self.spec.prior or [1.0], np.float32) ** np.float32(self.prior)
        self.batch_size = self._session.fixed_batch or batch_size or (256 if on_card else 64)
        self.detector = (
            open_detector(detector, detector_model, provider=provider)
            if isinstance(detector, str)
            else detector
        )
        if given or preset or not spec_from_metadata(self._session.file.metadata, self._name):
            for warning in doubts(self._in_batches, self.spec):
                _LOG.warning("%s: %s", self._name, warning)
        if on_card:
            # A card prepares its programs when it first sees a shape, for up to seconds.
            for count in {1, self.batch_size}:
                self._in_batches(np.zeros((count, *model_input_shape(self.spec)), np.float32))

    def __reduce__(self) -> tuple[Any, tuple[()]]:
        """Pickle how the classifier was made; who unpickles it opens the model again."""
        return partial(type(self), **self._arguments), ()

    @property
    def _name(self) -> str:
        return self.model_path.name

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the model file, hexadecimal."""
        import hashlib  # Late, as in `fer_edge._base.files`.

        content, _ = read_model(self.model_path)
        return hashlib.sha256(content).hexdigest()

    def probabilities(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model.

        Args:
            batch: float32 as `fer_edge.inference.preprocess.prepare` makes it for the spec, any N.

        Returns:
            float32 (N, labels), rows sum to 1.

        Raises:
            ModelError: The model fails, or its output is no probabilities.
            ValueError: The batch has another dtype or shape.
        """
        return self.predict(batch)[:, : len(self.spec.labels)]

    def predict(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Run the model for all that it gives: `probabilities`, then the numbers beside them.

        Returns:
            float32 (N, labels + affect); see `ModelSpec`.
        """
        shape = model_input_shape(self.spec)
        if batch.dtype != np.float32 or batch.shape[1:] != shape:
            raise ValueError(
                f"Expected float32 (N, {', '.join(map(str, shape))}), received {batch.dtype} "
                f"{batch.shape}"
            )
        rows = np.empty((len(batch), len(self.spec.labels) + len(self.spec.affect)), np.float32)
        step = max(1, self.batch_size // 2) if self.mirror else self.batch_size
        for start in range(0, len(batch), step):
            chunk = batch[start : start + step]
            if self.mirror:
                columns = 2 if self.spec.layout == "nhwc" else 3
                both = self._raw(np.concatenate([chunk, np.flip(chunk, axis=columns)]))
                rows[start : start + step] = (both[: len(chunk)] + both[len(chunk) :]) / 2
            else:
                rows[start : start + step] = self._raw(chunk)
        if self.prior:
            shares = rows[:, : len(self.spec.labels)]
            shares /= self._divisor
            shares /= shares.sum(axis=1, keepdims=True)
        return rows

    def _raw(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return what the model itself gives for inputs of any number; see `predict`."""
        rows = self._in_batches(batch)
        if not np.isfinite(rows).all():
            raise ModelError(
                f"Expected probabilities from {self._name}, received infinite numbers or NaN; "
                "the model is damaged, or its input is described wrongly: see `range`, `mean` and "
                "`std`"
            )
        scores = rows[:, : len(self.spec.labels)]
        if self.spec.outputs == "logits":
            scores[:] = softmax(scores)
        elif not are_probabilities(scores):
            raise ModelError(
                f"Expected probabilities that sum to 1 from {self._name}, received "
                f"{np.array2string(scores[0], precision=3)}; if these are logits, give "
                "`outputs=logits`"
            )
        return rows

    def _run(self, batch: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return the outputs that are read side by side, (N, labels + affect), for one batch."""
        count = len(batch)
        if self._session.fixed_batch:
            filling = np.zeros((self._session.fixed_batch - count, *batch.shape[1:]), np.float32)
            batch = np.concatenate([batch, filling])
        names, widths = zip(*self._reading, strict=True)
        parts = []
        for output, width in zip(self._session.run(batch, names), widths, strict=True):
            # Some drop the batch dimension, or keep the picture's, as in (N, 7, 1, 1).
            if output.size != len(batch) * width:
                raise ModelError(
                    f"Expected {(len(batch), width)} from {self._name}, received {output.shape}"
                )
            parts.append(output.reshape(len(batch), width)[:count])
        return np.concatenate(parts, axis=1)

    def _in_batches(self, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
        starts = range(0, len(inputs), self.batch_size)
        return np.concatenate(
            [self._run(inputs[start : start + self.batch_size]) for start in starts]
        )

    def prepare(self, frame_bgr: Frame, faces: Sequence[Face]) -> NDArray[np.float32]:
        """Cut and scale faces into a batch for `probabilities`.

        Args:
            frame_bgr: (H, W, 3) uint8 BGR, or (H, W) grey.
            faces: Faces with boxes in the frame's pixels.

        Returns:
            float32 (N, height, width, channels), or (N, channels, height, width) for ``nchw``.
        """
        height, width = frame_bgr.shape[:2]
        whole = (0, 0, width, height)
        boxes = [None if face.box == whole else face.box for face in faces]
        points = [face.points for face in faces] if self._align else []
        return prepare(frame_bgr, boxes, self.spec, points)

    def result(self, face: Face, row: NDArray[np.float32]) -> FaceResult:
        """Read one row of `predict`, or of `probabilities`, as a result.

        Args:
            face: The face that the row belongs to.
            row: float32 (labels + affect,) or (labels,).
        """
        values = row.tolist()
        labels = len(self.spec.labels)
        probabilities = dict(zip(self.spec.labels, values[:labels], strict=True))
        # `probabilities` leaves out the numbers beside the labels.
        affect = dict(zip(self.spec.affect, values[labels:], strict=False))
        label = max(probabilities, key=probabilities.__getitem__)
        confidence = probabilities[label]
        if confidence < self._uncertain:
            label = UNCERTAIN
        return FaceResult(
            face.box, face.score, label, confidence, probabilities, face.points, affect
        )

    def classify_faces(self, picture: Any, faces: Sequence[Face], *, rgb: bool = False) -> Faces:
        """Classify faces that are already found, in one batch.

        Args:
            picture: As for `classify`.
            faces: Faces with boxes in the picture's pixels.
            rgb: As for `classify`.

        Returns:
            One result for each face, in their order.
        """
        return self._classify(to_frame(picture, rgb=rgb), faces)

    def _classify(self, frame_bgr: Frame, faces: Sequence[Face]) -> Faces:
        return self._results(faces, self.predict(self.prepare(frame_bgr, faces)))

    def _results(self, faces: Sequence[Face], rows: NDArray[np.float32]) -> Faces:
        return Faces(self.result(face, row) for face, row in zip(faces, rows, strict=True))

    def classify(self, picture: Any, *, rgb: bool = False) -> Faces:
        """Find and classify the faces of a picture; largest first, empty where there are none.

        Args:
            picture: An array of (H, W, 3) uint8 **BGR** as OpenCV gives it, of (H, W) grey or of
                (H, W, 4) BGRA; or a path, an http(s) address, a file's content as bytes, a PIL
                image. What is transparent becomes white.
            rgb: Whether the array is RGB or RGBA.

        Raises:
            ImageError: The picture cannot be read.
            ValueError: It is none of these; the message says what to pass.
        """
        frame_bgr = to_frame(picture, rgb=rgb)
        return self._classify(frame_bgr, self.detector.detect(frame_bgr))

    __call__ = classify

    def classify_many(self, pictures: Iterable[Any], *, rgb: bool = False) -> Iterator[Faces]:
        """Classify the faces of many pictures; detection runs ahead and faces share batches.

        A picture's faces are handed out within half a second from when they are found, while the
        iterable gives pictures in time. One that takes its time is asked for the next picture
        when all results are handed out.

        Args:
            pictures: As for `classify`; read as needed, so that any number fits in memory.
            rgb: As for `classify`.

        Yields:
            The results of each picture, in order.

        Raises:
            ImageError: A picture cannot be read.
            ValueError: It is no picture; the message says what to pass.
        """
        one = isinstance(pictures, str | bytes | os.PathLike) or (
            isinstance(pictures, np.ndarray) and pictures.ndim < 4 and pictures.shape[-1] in (3, 4)
        )
        if one:
            raise ValueError("Expected several pictures, received one; give it to classify")

        def look(picture: tuple[Any]) -> tuple[list[Face], NDArray[np.float32]]:
            frame_bgr = to_frame(picture[0], rgb=rgb)
            faces = self.detector.detect(frame_bgr)
            return faces, self.prepare(frame_bgr, faces)

        # Each in a tuple of its own, since a None among them is a mistake to be told of.
        looked = map_promptly(look, ((picture,) for picture in pictures), self.threads)
        for item in self.share_batches(looked):
            if item is not None:
                yield self._results(*item)

    def share_batches(
        self, items: Iterable[tuple[T, NDArray[np.float32]] | None]
    ) -> Iterator[tuple[T, NDArray[np.float32]] | None]:
        """Run the model over items with any number of inputs each, in full batches.

        No item waits long for a batch to fill, as long as ``items`` does not.

        Args:
            items: Each a token and its float32 (N, ...) inputs, N from 0; None where there is
                none for now, so that those before it are not kept waiting.

        Yields:
            Each token with its float32 rows as `predict` gives them, in order, and each None.
        """
        waiting: list[tuple[T, NDArray[np.float32]]] = []
        count, since_s = 0, 0.0
        for item in items:
            if item is not None:
                since_s = since_s if waiting else time.monotonic()
                waiting.append(item)
                count += len(item[1])
            # Pictures without faces wait no longer than others for their turn.
            full = count >= self.batch_size or len(waiting) >= self.batch_size
            if full or item is None or time.monotonic() - since_s > _PATIENCE_S:
                yield from self._flush(waiting)
                waiting, count = [], 0
            if item is None:
                yield None
        yield from self._flush(waiting)

    def _flush(
        self, items: list[tuple[T, NDArray[np.float32]]]
    ) -> Iterator[tuple[T, NDArray[np.float32]]]:
        if not items:
            return
        rows = self.predict(np.concatenate([batch for _, batch in items]))
        ends = list(itertools.accumulate(len(batch) for _, batch in items))
        for (token, batch), end in zip(items, ends, strict=True):
            yield token, rows[end - len(batch) : end]


def _check_names(description: Mapping[str, object]) -> None:
    """Check what is left of the arguments: the other fields of `Description`.

    Raises:
        ValueError: An argument is not known.
    """
    known = [name for entry in DESCRIPTION for name in (entry.name, *entry.aliases)]
    for name in description:
        if name not in known:
            import difflib  # Late: few programs misspell.

            own = [*Classifier.__init__.__annotations__, *known]
            near = difflib.get_close_matches(name, own, 1)
            raise ValueError(
                f"Expected arguments of Classifier, received {name!r}; "
                + (f"did you mean {near[0]!r}?" if near else "help(Classifier) lists them")
            )


def _check_arguments(
    batch_size: int | None,
    threads: int | None,
    uncertain: float,
    detector: object,
) -> None:
    counts = {
        "batch_size": 1 if batch_size is None else batch_size,
        "threads": 1 if threads is None else threads,
    }
    for name, count in counts.items():
        if not isinstance(count, int) or count < 1:
            raise ValueError(f"Expected a whole number from 1 as {name}, received {count!r}")
    if not isinstance(uncertain, int | float) or not 0 <= uncertain <= 1:
        raise ValueError(f"Expected a number from 0 to 1 as uncertain, received {uncertain!r}")
    named = isinstance(detector, str)
    if not named and (
        isinstance(detector, type) or not callable(getattr(detector, "detect", None))
    ):
        raise ValueError(
            "Expected a detector's name, or an object with detect(frame_bgr), received "
            f"{detector!r}; without a detector, when each picture is a face, pass 'none'"
        )
