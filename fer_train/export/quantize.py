"""Smaller number formats of an exported model: int8 for processors, fp16 weights for GPUs.

int8 is static: weights S8 with a scale for each output channel, activations U8 with a scale for
each tensor, written as QuantizeLinear and DequantizeLinear pairs of standard ONNX that a runtime
fuses into integer kernels. The image's own scaling, the logits and the softmax stay in float32.
Scales are found on training images only; those that it is evaluated on never take part.
"""

import contextlib
import dataclasses
import io
import logging
import math
import statistics
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fer_edge._base.threads import available_threads
from fer_edge.errors import ExportError
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.session import Session, open_session
from fer_train.export.channels_last import for_channels_last, take_levels
from fer_train.export.convert import file_digest, write_metadata
from fer_train.export.held_out import HeldOut, Images, batch_of, open_file, predict_images
from fer_train.run.folder import write_atomic

LARGEST_LOSS = 0.005
"""Share of top-1 that int8 may lose, on `FULL_IMAGES` images or more: 0.5 points."""
LEAST_SPEEDUP = 2.0
FULL_IMAGES = 3000
"""With fewer images half a point is within the noise of the comparison: more may seem lost."""
LEAST_IMAGES = 100
"""With fewer images nothing can be said."""
HALF_TOLERANCE = 1e-2
"""Largest difference of probabilities between fp16 and fp32."""

_QUANTISED = (
    *("Conv", "Relu", "MaxPool", "Add", "GlobalAveragePool", "Transpose", "Flatten", "Gemm"),
)
_SELECTION_IMAGES = 1000
_READ_BATCH = 16
_STRIDE = 64
_PAIRS = 40
_RUNS = 5


@dataclass(frozen=True)
class Calibration:
    """How activation scales are found.

    Attributes:
        percentile: Share of the levels that the range keeps, percent; 100 is minimum to maximum.
        images: How many training images it looks at.
    """

    percentile: float
    images: int

    def __str__(self) -> str:
        """Return it in words."""
        ranges = "minimum to maximum" if self.percentile == 100 else f"{self.percentile} % range"
        return f"{ranges} over {self.images} images"


CALIBRATIONS = (
    Calibration(99.999, 32),
    Calibration(100, 64),
    Calibration(100, 256),
    Calibration(100, 1024),
    Calibration(99.999, 256),
    Calibration(99.999, 1024),
)
"""What is tried, few images too: one on which a network is wild widens the ranges of all.

Entropy is not: with onnxruntime's 128 bins it gives minimum to maximum on few images and up to
twice the divergence on more, and with 1,024 bins it lost 4 points of top-1.
"""


@dataclass(frozen=True)
class Quantised:
    """What became of an int8 export.

    Attributes:
        path: The file.
        calibration: The calibration that was chosen.
        distance: Mean total variation distance from fp32 of each calibration, 0 to 1.
        accuracy: Top-1 of int8 on the held-out images.
        parent_accuracy: Top-1 of its fp32 on them.
        agreement: Agreement of int8 with their raters, or None where there are no votes.
        parent_agreement: That of its fp32.
        images: How many held-out images there are.
        lost: How much less int8 scores on them: of agreement where there are votes, else of top-1.
        lost_half: Half of the 95 % interval of that.
        largest_difference: Of the probabilities of both on them.
        mean_difference: Likewise.
        equal_predictions: Share of them to which both give the same likeliest label.
        speedup: Time of fp32 over that of int8 at batch 1 on this machine.
    """

    path: Path
    calibration: Calibration
    distance: dict[str, float]
    accuracy: float
    parent_accuracy: float
    agreement: float | None
    parent_agreement: float | None
    images: int
    lost: float
    lost_half: float
    largest_difference: float
    mean_difference: float
    equal_predictions: float
    speedup: float


def quantize_int8(
    fp32: Classifier,
    path: Path,
    training_images: Images,
    held_out: HeldOut,
    *,
    reduce_range: bool = False,
    calibrations: Sequence[Calibration] = CALIBRATIONS,
    least_images: int = LEAST_IMAGES,
) -> Quantised:
    """Write the int8 form of a model, if it is as good and much faster.

    The calibration whose predictions are nearest to those of fp32 is chosen, on training images
    that no calibration has looked at.

    Args:
        fp32: The fp32 file, as `open_file` opens it.
        path: The int8 file; written atomically, and not at all if the gate refuses.
        training_images: uint8 (M, S, S) or (M, S, S, 3) that the model trained on.
        held_out: Images that it did not.
        reduce_range: Use 7 bits for weights: x86 processors before VNNI add pairs of products in
            16 bits, which overflow with 8.
        calibrations: What to choose from.
        least_images: Fewest images that it may be evaluated on.

    Raises:
        ExportError: The gate refuses, with the reason; nothing is written.
        RunError: The file cannot be written.
    """
    if len(held_out) < least_images:
        raise ExportError(
            f"{path.name} is not written: expected at least {least_images} real images that the "
            f"model did not train on to evaluate it, received {len(held_out)}"
        )
    if fp32.spec.precision != "fp32":
        raise ExportError(
            f"Expected an fp32 file to quantise, received {fp32.model_path}, which is "
            f"{fp32.spec.precision}"
        )
    order = np.random.default_rng(0).permutation(len(training_images))
    held = max(1, min(_SELECTION_IMAGES, len(order) // 3))
    selection = training_images[order[:held]]
    calibration_images = training_images[order[held:]]
    wanted = predict_images(fp32, selection)
    distance: dict[str, float] = {}
    best: tuple[float, Calibration, bytes] | None = None
    with tempfile.TemporaryDirectory() as folder:
        prepared, candidate = Path(folder, "prepared.onnx"), Path(folder, "candidate.onnx")
        _prepare(fp32.model_path, prepared)
        for calibration in calibrations:
            images = calibration_images[: calibration.images]
            _quantize(prepared, candidate, fp32, images, calibration, reduce_range)
            predicted = predict_images(_open_form(candidate, fp32), selection)
            found = distance[str(calibration)] = total_variation(wanted, predicted)
            if best is None or found < best[0]:
                best = found, calibration, candidate.read_bytes()
    if best is None:
        raise ValueError("Expected at least one calibration, received none")
    spec = dataclasses.replace(fp32.spec, precision="int8", parent=file_digest(fp32.model_path))
    wanted = predict_images(fp32, held_out.images)
    model = onnx.load_model_from_string(best[2])
    result: Quantised | None = None

    def write(temporary: Path) -> None:
        nonlocal result
        onnx.save_model(write_metadata(model, spec), temporary)
        int8 = open_file(temporary)
        predicted = predict_images(int8, held_out.images)
        (measure, before), (_, after) = held_out.score(wanted), held_out.score(predicted)
        lost, half = held_out.lost(wanted, predicted)
        allowed = allowed_loss(len(held_out))
        if lost > allowed:
            raise ExportError(
                f"{path.name} is not written: expected at most {allowed:.1%} of "
                f"{measure} lost, received {lost:.2%} ± {half:.2%} on {len(held_out)} images "
                f"({before:.2%} in fp32, {after:.2%} in int8)"
            )
        one = batch_of(fp32, selection[:1])
        speedup = speed_ratio(_session(fp32.model_path), _session(temporary), one)
        if speedup < LEAST_SPEEDUP:
            raise ExportError(
                f"{path.name} is not written: expected at least {LEAST_SPEEDUP:g} times the speed "
                f"of its fp32 on this machine, received {speedup:.2f}; processors without 8-bit "
                "dot products (VNNI, ARMv8.2) gain less: export on one that has them"
            )
        differences = np.abs(predicted - wanted)
        result = Quantised(
            path,
            best[1],
            distance,
            held_out.accuracy(predicted),
            held_out.accuracy(wanted),
            held_out.agreement(predicted),
            held_out.agreement(wanted),
            len(held_out),
            lost,
            half,
            float(differences.max()),
            float(differences.mean()),
            float(np.mean(predicted.argmax(axis=1) == wanted.argmax(axis=1))),
            speedup,
        )

    write_atomic(path, write)
    if result is None:
        raise ValueError("Expected write_atomic to have written")
    return result


def allowed_loss(images: int) -> float:
    """Return what int8 may lose on so many images: as noise grows, which shrinks with their root.

    Half a point on 3,000 images is 1 point on 750.
    """
    return LARGEST_LOSS * max(1.0, math.sqrt(FULL_IMAGES / images))


def count_parameters(path: Path) -> int:
    """Return how many numbers the weights of an ONNX file are."""
    tensors = onnx.load(path).graph.initializer
    floats = (onnx.TensorProto.FLOAT, onnx.TensorProto.FLOAT16)
    return sum(math.prod(tensor.dims) for tensor in tensors if tensor.data_type in floats)


def convert_fp16(parent: Path, path: Path, sample: NDArray[np.float32]) -> float:
    """Write an exported model with weights and products in float16, for GPUs.

    Input, output and the softmax stay in float32, so that the contract is the same. Processors
    have no kernels for float16 and run it more slowly than fp32.

    Args:
        parent: The fp32 file.
        path: The fp16 file; written atomically, and not at all if the gate refuses.
        sample: inputs of the model: what both are compared on.

    Returns:
        The largest difference of probabilities.

    Raises:
        ExportError: The difference is above `HALF_TOLERANCE`.
        RunError: The file cannot be written.
    """
    from onnxruntime.transformers.float16 import convert_float_to_float16

    fp32 = open_file(parent)
    wanted = fp32.probabilities(sample)
    model = convert_float_to_float16(
        onnx.load(parent), keep_io_types=True, op_block_list=["Softmax"]
    )
    spec = dataclasses.replace(fp32.spec, precision="fp16", parent=file_digest(parent))
    difference = float("nan")

    def write(temporary: Path) -> None:
        nonlocal difference
        onnx.save_model(write_metadata(model, spec), temporary)
        predicted = open_file(temporary).probabilities(sample)
        difference = float(np.abs(predicted - wanted).max())
        if not difference <= HALF_TOLERANCE:
            raise ExportError(
                f"{path.name} is not written: expected at most {HALF_TOLERANCE:g} between fp16 "
                f"and fp32, received {difference:.3g}"
            )

    write_atomic(path, write)
    return difference


def total_variation(wanted: NDArray[np.float32], predicted: NDArray[np.float32]) -> float:
    """Return the mean total variation distance of (N, K) predictions from those wanted, 0 to 1.

    Unlike a divergence it is bounded: a few images on which a network is wild, and whose ranges
    are better cut, do not decide for all others.
    """
    return float(np.abs(wanted - predicted).sum(axis=1).mean() / 2)


def speed_ratio(first: Session, second: Session, batch: NDArray[np.float32]) -> float:
    """Return how many times as long the first takes on a batch, the median over runs in turns.

    Both of a pair run within milliseconds of one another, so that what else the machine does
    slows both alike.
    """
    ratios = []
    for _ in range(_PAIRS + 1):
        times = []
        for session in (first, second):
            start = time.perf_counter()
            for _ in range(_RUNS):
                session.run(batch)
            times.append(time.perf_counter() - start)
        ratios.append(times[0] / times[1])
    # The first pair warms both up.
    return statistics.median(ratios[1:])


class _Reader:
    """Gives calibration images to onnxruntime, as many at a time as it asks for."""

    def __init__(self, model: Classifier, source: str, images: Images) -> None:
        self._model, self._source, self._images = model, source, images
        self._step = min(_READ_BATCH, model.batch_size)
        self._batches = self._cut(0, len(images))

    def __len__(self) -> int:
        return len(self._images)

    def set_range(self, start_index: int, end_index: int) -> None:
        self._batches = self._cut(start_index, end_index)

    def get_next(self) -> dict[str, NDArray[np.float32]] | None:
        batch = next(self._batches, None)
        return None if batch is None else {self._source: batch}

    def _cut(self, start: int, end: int) -> Iterator[NDArray[np.float32]]:
        return (
            batch_of(self._model, self._images[first : min(first + self._step, end)])
            for first in range(start, end, self._step)
        )


def _prepare(parent: Path, path: Path) -> None:
    from onnxruntime.quantization.shape_inference import quant_pre_process

    # ONNX's own shape inference suffices for these graphs; the symbolic one needs sympy.
    quant_pre_process(str(parent), str(path), skip_symbolic_shape=True)
    onnx.save_model(for_channels_last(onnx.load(path)), path)


def _quantize(
    prepared: Path,
    path: Path,
    fp32: Classifier,
    images: Images,
    calibration: Calibration,
    reduce_range: bool,
) -> None:
    from onnxruntime.quantization import (
        CalibrationMethod,
        QuantFormat,
        QuantType,
        quantize_static,
    )

    extra: dict[str, Any] = {}
    if len(images) > _STRIDE:
        # All activations of a stride are in memory at once.
        images = images[: len(images) // _STRIDE * _STRIDE]
        extra["CalibStridedMinMax"] = _STRIDE
    method = CalibrationMethod.MinMax
    if calibration.percentile < 100:
        method = CalibrationMethod.Percentile
        extra["CalibPercentile"] = calibration.percentile
    # onnxruntime tells at each call that the model could be prepared, which it is.
    # The histograms of percentiles are told of on standard output.
    logging.disable(logging.WARNING)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            quantize_static(
                str(prepared),
                str(path),
                _Reader(fp32, onnx.load(prepared).graph.input[0].name, images),
                quant_format=QuantFormat.QDQ,
                op_types_to_quantize=list(_QUANTISED),
                nodes_to_exclude=_nodes_in_float(prepared),
                per_channel=True,
                reduce_range=reduce_range,
                activation_type=QuantType.QUInt8,
                weight_type=QuantType.QInt8,
                calibrate_method=method,
                extra_options=extra,
            )
    finally:
        logging.disable(logging.NOTSET)
    onnx.save_model(take_levels(onnx.load(path)), path)


def _nodes_in_float(path: Path) -> list[str]:
    """Return the nodes before the first convolution, and the last product: the logits.

    They take about 1 % of the time, and in float32 the logits halve the divergence from fp32.
    """
    nodes = list(onnx.load(path).graph.node)
    kinds = [node.op_type for node in nodes]
    first = kinds.index("Conv") if "Conv" in kinds else 0
    names = [node.name for node in nodes[:first]]
    return names + [node.name for node in nodes if node.op_type == "Gemm"][-1:]


def _session(path: Path) -> Session:
    return open_session(path, "cpu", available_threads())


def _open_form(path: Path, model: Classifier) -> Classifier:
    """Open another form of a model, which carries no description yet."""
    return open_file(path, **model.spec.description())
