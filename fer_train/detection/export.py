"""The network as ONNX: normalisation folded into the convolutions, nothing else in the way.

`fer_edge.contract.DetectorSpec` says what the file takes and returns.
"""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fer_edge import __version__
from fer_edge.contract import INPUT_NAME, DetectorSpec
from fer_edge.errors import ExportError
from fer_edge.inference.detectors import OnnxDetector
from fer_edge.inference.search import BOX_CHANNELS, Maps
from fer_train.detection.network import CHANNELS, STRIDES, save_weights
from fer_train.export.convert import write_metadata
from fer_train.network._keras import keras
from fer_train.run.folder import write_atomic

SCORE_TOLERANCE = 1e-4
"""Largest difference between Keras's and ONNX's scores that an export may have."""
PLACE_TOLERANCE = 1e-3
"""The same of boxes and points, strides."""

_OPSET = 17
_SURE = 0.01
"""Cells that score less are never read, and their boxes are anything."""


@dataclasses.dataclass(frozen=True)
class Differences:
    """How far two forms of a detector differ at most.

    Attributes:
        scores: Of all cells.
        places: Of the boxes' centres and sides and of the points where a face may be, strides.
    """

    scores: float
    places: float


def export_detector(
    net: keras.Model, spec: DetectorSpec, path: Path, sample: NDArray[np.float32]
) -> Differences:
    """Write a detector as one ONNX file, if it predicts as Keras does.

    Args:
        net: Of `fer_train.detection.network.build_detector`.
        spec: What the file says of itself.
        path: The file; written atomically, and not at all if the gate refuses.
        sample: Pictures that both are compared on, with faces: float32 (N, H, W, 3), BGR, 0-255, H
            and W multiples of the largest stride.

    Raises:
        ExportError: They differ by more than `SCORE_TOLERANCE` or `PLACE_TOLERANCE`.
        RunError: The file cannot be written.
    """
    model = write_metadata(to_onnx(net), dataclasses.replace(spec, package_version=__version__))
    expected = [
        np.moveaxis(keras.ops.convert_to_numpy(cells), 3, 1)
        for cells in net(sample, training=False)
    ]
    found = Differences(float("nan"), float("nan"))

    def write(temporary: Path) -> None:
        nonlocal found
        onnx.save_model(model, temporary)
        found = differences(OnnxDetector(temporary, provider="cpu"), sample, expected)
        if not (found.scores <= SCORE_TOLERANCE and found.places <= PLACE_TOLERANCE):
            raise ExportError(
                f"Expected {path.name} to differ from Keras by at most {SCORE_TOLERANCE:g} in "
                f"scores and {PLACE_TOLERANCE:g} strides in boxes and points, received "
                f"{found.scores:.3g} and {found.places:.3g}; nothing was written"
            )

    write_atomic(path, write)
    return found


def differences(detector: OnnxDetector, sample: NDArray[np.float32], expected: Maps) -> Differences:
    """Compare a file's maps with those of the network that it was made from.

    Args:
        detector: The file.
        sample: As for `export_detector`.
        expected: float32 (N, 15, h, w), one a stride.
    """
    scores, places = 0.0, 0.0
    for number, picture in enumerate(sample):
        maps = detector.maps(np.ascontiguousarray(picture.transpose(2, 0, 1)[None]))
        for cells, wanted in zip(maps, expected, strict=True):
            own, other = _readable(cells[0]), _readable(wanted[number])
            scores = max(scores, float(np.abs(own[0] - other[0]).max()))
            apart = np.abs(own[1:] - other[1:])[:, other[0] > _SURE]
            places = max(places, float(apart.max(initial=0)))
    return Differences(scores, places)


def _readable(cells: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return a map (15, h, w) with the score for its logit, and sides for their logarithms."""
    found = cells.astype(np.float64)
    found[0] = 1 / (1 + np.exp(-found[0]))
    found[3:BOX_CHANNELS] = np.exp(found[3:BOX_CHANNELS])
    return found


def to_onnx(net: keras.Model) -> onnx.ModelProto:
    """Return the network as ONNX, without metadata."""
    weights = save_weights(net)
    scale = 1.0
    nodes: list[Any] = []
    constants: list[Any] = []
    names: dict[str, str] = {}

    def constant(name: str, array: Any) -> str:
        constants.append(numpy_helper.from_array(np.asarray(array, np.float32), name))
        return name

    def add(kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        nodes.append(helper.make_node(kind, inputs, [output], name=output, **attributes))
        return output

    for layer in net.layers:
        inputs = [names[tensor.name] for tensor in _inputs(layer)]
        output, own = layer.output.name, layer.name
        if isinstance(layer, keras.layers.InputLayer):
            names[output] = INPUT_NAME
        elif isinstance(layer, keras.layers.Rescaling):
            # The first convolution scales: what it adds beyond the edge is 0 either way.
            scale = float(layer.scale)
            shift = constant("shift", np.float32(layer.offset / scale))
            names[output] = add("Add", [*inputs, shift], "shifted")
        elif isinstance(layer, keras.layers.ZeroPadding2D):
            names[output] = inputs[0]  # the convolution pads
        elif isinstance(layer, keras.layers.Conv2D):
            kernel, bias = weights[f"{own}/kernel"] * scale, weights.get(f"{own}/bias")
            scale = 1.0
            following = _following(net, layer)
            if isinstance(following, keras.layers.BatchNormalization):
                kernel, bias = _folded(kernel, weights, following)
                names[following.output.name] = own
            names[output] = add(
                "Conv",
                [
                    inputs[0],
                    constant(f"{own}_kernel", np.ascontiguousarray(kernel.transpose(3, 2, 0, 1))),
                    constant(f"{own}_bias", bias),
                ],
                own,
                kernel_shape=list(layer.kernel_size),
                strides=list(layer.strides),
                pads=[layer.kernel_size[0] // 2] * 4,
            )
        elif isinstance(layer, keras.layers.BatchNormalization):
            pass  # folded
        elif isinstance(layer, keras.layers.ReLU):
            names[output] = add("Relu", inputs, own)
        elif isinstance(layer, keras.layers.Add):
            names[output] = add("Add", inputs, own)
        elif isinstance(layer, keras.layers.UpSampling2D):
            scales = constant(f"{own}_scales", np.array([1, 1, 2, 2], np.float32))
            names[output] = add(
                "Resize",
                [*inputs, "", scales],
                own,
                mode="nearest",
                coordinate_transformation_mode="asymmetric",
                nearest_mode="floor",
            )
        else:
            raise ValueError(f"Expected a layer of the detector, received {layer}")
    graph = helper.make_graph(
        nodes,
        "face",
        [helper.make_tensor_value_info(INPUT_NAME, onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [
            helper.make_tensor_value_info(
                f"output{stride}",
                onnx.TensorProto.FLOAT,
                ["N", CHANNELS, f"H/{stride}", f"W/{stride}"],
            )
            for stride in STRIDES
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", _OPSET)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def _inputs(layer: Any) -> list[Any]:
    if isinstance(layer, keras.layers.InputLayer):
        return []
    return layer.input if isinstance(layer.input, list) else [layer.input]


def _following(net: keras.Model, layer: Any) -> Any:
    for other in net.layers:
        if any(tensor is layer.output for tensor in _inputs(other)):
            return other
    return None


def _folded(
    kernel: NDArray[np.float32], weights: Mapping[str, NDArray[np.float32]], normalization: Any
) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Return a convolution's kernel and bias with the normalisation behind it in them."""
    gamma, beta, mean, variance = (
        weights[f"{normalization.name}/{name}"].astype(np.float64)
        for name in ("gamma", "beta", "moving_mean", "moving_variance")
    )
    factor = gamma / np.sqrt(variance + normalization.epsilon)
    return (kernel * factor).astype(np.float32), (beta - mean * factor).astype(np.float32)
