"""The int8 form of a detector: as good at finding faces, in a third of the bytes, and faster.

Static, weights S8 with a scale for each output channel, activations U8 from minimum to maximum. The
outputs stay in float32: a face's place is finer than 8 bits.
"""

import contextlib
import dataclasses
import io
import itertools
import logging
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx

from fer_edge.errors import ExportError
from fer_edge.image.read import Frame
from fer_edge.inference.detectors import OnnxDetector
from fer_edge.inference.search import shrink, to_input
from fer_edge.inference.session import open_session
from fer_train.detection.evaluation import SIZES, Outcome, evaluate
from fer_train.detection.pictures import Picture
from fer_train.export.convert import file_digest, write_metadata
from fer_train.export.facts import read_facts, write_facts
from fer_train.export.publish import describe_folder, update_digests
from fer_train.export.quantize import speed_ratio
from fer_train.run.folder import write_atomic

LARGEST_LOSS = 0.005
"""Share of the faces that int8 may lose, at as many false boxes."""
LEAST_SPEEDUP = 1.2
CALIBRATION = 120
"""Pictures that the scales are found on."""

_LEAST_SCORE = 0.05
_KEPT_IN_FLOAT = ("output", "shifted")


@dataclass(frozen=True)
class Quantised:
    """What became of an int8 detector.

    Attributes:
        recall: Of int8, at as many false boxes in pictures without a face as of fp32.
        parent_recall: Of fp32 at its threshold.
        threshold: The score from which a box of int8 counts.
        false_boxes: In pictures without a face.
        average_precision: Of int8.
        speedup: Time of fp32 over that of int8 on this machine, one thread.
    """

    recall: float
    parent_recall: float
    threshold: float
    false_boxes: int
    average_precision: float
    speedup: float


def publish_int8(
    parent: Path, folder: Path, training: Sequence[Picture], held_out: Sequence[Picture]
) -> Quantised:
    """Write the int8 form of a detector with its facts, card and digest; see `quantize_detector`.

    Args:
        parent: The fp32 file, with its facts beside it if there are some.
        folder: Where the int8 file goes.
        training: Pictures that the scales are found on.
        held_out: Pictures that the detector did not train on, some of them without a face.
    """
    path = folder / f"{parent.stem}.int8.onnx"
    made = quantize_detector(parent, path, training, held_out)
    if parent.with_suffix(".json").is_file():
        outcome = _evaluate(
            OnnxDetector(path, provider="cpu", min_score=_LEAST_SCORE, min_face=1), held_out
        )
        false_boxes = outcome.false(made.threshold)
        evaluated = {
            "recall": round(made.recall, 4),
            "by_side": {
                _sides(least, below): round(outcome.recall(made.threshold, least, below), 4)
                for least, below in itertools.pairwise(SIZES)
                if ((outcome.sides >= least) & (outcome.sides < below)).any()
            },
            "false": f"{false_boxes[0]} in the {outcome.empty} pictures without a face, "
            f"{false_boxes[1]} elsewhere",
            "average_precision": round(made.average_precision, 4),
        }
        facts = {"evaluation": evaluated, "int8": dataclasses.asdict(made)}
        write_facts(path, read_facts(parent) | facts)
        describe_folder(folder)
    else:
        update_digests(folder)
    return made


def quantize_detector(
    parent: Path, path: Path, training: Sequence[Picture], held_out: Sequence[Picture]
) -> Quantised:
    """Write the int8 form of a detector, if it is as good and faster.

    Args:
        parent: The fp32 file.
        path: The int8 file; written atomically, and not at all if the gate refuses.
        training: Pictures that the scales are found on.
        held_out: Pictures that the detector did not train on, some of them without a face.

    Raises:
        ExportError: It finds fewer faces, or is hardly faster; nothing is written.
        RunError: The file cannot be written.
    """
    fp32 = _open(parent)
    before = _evaluate(fp32, held_out)
    false_boxes = before.false(fp32.spec.threshold)[0]
    with tempfile.TemporaryDirectory() as folder:
        candidate = Path(folder) / "candidate.onnx"
        _quantize(
            parent, candidate, _inputs(fp32, training[:: max(1, len(training) // CALIBRATION)])
        )
        model = onnx.load(candidate)
    spec = dataclasses.replace(fp32.spec, precision="int8", parent=file_digest(parent))
    result: Quantised | None = None

    def write(temporary: Path) -> None:
        nonlocal result
        onnx.save_model(write_metadata(model, spec), temporary)
        int8 = _open(temporary)
        after = _evaluate(int8, held_out)
        threshold = round(after.threshold_for(false_boxes), 3)
        recalls = before.recall(fp32.spec.threshold), after.recall(threshold)
        if recalls[0] - recalls[1] > LARGEST_LOSS:
            raise ExportError(
                f"{path.name} is not written: expected at most {LARGEST_LOSS:.1%} of the faces "
                f"lost, received {recalls[0] - recalls[1]:.2%} at {false_boxes} false boxes"
            )
        noise = np.random.default_rng(0).uniform(0, 255, (1, 3, 480, 640)).astype(np.float32)
        sessions = [open_session(file, "cpu", 1, spin=False) for file in (parent, temporary)]
        speedup = speed_ratio(sessions[0], sessions[1], noise)
        if speedup < LEAST_SPEEDUP:
            raise ExportError(
                f"{path.name} is not written: expected at least {LEAST_SPEEDUP:g} times the speed "
                f"of its fp32 on this machine, received {speedup:.2f}; export on a processor with "
                "8-bit dot products"
            )
        described = dataclasses.replace(
            spec,
            threshold=threshold,
            scores={
                "recall": round(recalls[1], 4),
                "recall_from_24_px": round(after.recall(threshold, 24), 4),
                "average_precision": round(after.average_precision(), 4),
            },
        )
        onnx.save_model(write_metadata(model, described), temporary)
        result = Quantised(
            recalls[1], recalls[0], threshold, false_boxes, after.average_precision(), speedup
        )

    write_atomic(path, write)
    if result is None:
        raise ValueError("Expected write_atomic to have written")
    return result


def _open(path: Path) -> OnnxDetector:
    """Open a detector that also tells what it hardly takes for a face."""
    return OnnxDetector(path, provider="cpu", min_score=_LEAST_SCORE, min_face=1)


def _sides(least: float, below: float) -> str:
    return f"from {least:g}" + ("" if below == np.inf else f" to {below:g}") + " pixels"


def _evaluate(detector: OnnxDetector, pictures: Sequence[Picture]) -> Outcome:
    def find(frame: Frame) -> Any:
        faces = detector.detect(frame)
        boxes = np.array([face.box for face in faces], np.float32).reshape(-1, 4)
        boxes[:, 2:] += boxes[:, :2]
        return boxes, np.array([face.score for face in faces], np.float32)

    return evaluate(pictures, find)


def _inputs(detector: OnnxDetector, pictures: Sequence[Picture]) -> Iterator[dict[str, Any]]:
    for picture in pictures:
        frame = picture.pixels()
        small = shrink(frame, min(1.0, detector.spec.side / max(frame.shape[:2])))
        yield {"image": to_input(small, max(detector.spec.strides))}


def _quantize(parent: Path, path: Path, inputs: Iterator[dict[str, Any]]) -> None:
    from onnxruntime.quantization import (
        CalibrationDataReader,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    class Reader(CalibrationDataReader):  # type: ignore[misc]
        def get_next(self) -> dict[str, Any] | None:
            return next(inputs, None)

    nodes = [node.name for node in onnx.load(parent).graph.node]
    # onnxruntime tells at each call that the model could be prepared, which it is.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(
                str(parent),
                str(path),
                Reader(),
                quant_format=QuantFormat.QDQ,
                nodes_to_exclude=[name for name in nodes if name.startswith(_KEPT_IN_FLOAT)],
                per_channel=True,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
            )
    finally:
        logging.disable(logging.NOTSET)
