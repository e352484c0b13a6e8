"""A tiny face detector with known answers, built in the tests."""

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_edge.contract import INPUT_NAME, DetectorSpec

CHANNELS = 15
SPEC = DetectorSpec(model="tiny", licence="MIT")


def save_detector(
    path: Path,
    *,
    metadata: Mapping[str, str] | None = None,
    channels: int = CHANNELS,
    bias: float = 0.0,
    outputs: int = 3,
    input_shape: tuple[object, ...] = ("N", 3, "H", "W"),
) -> Path:
    """Write a detector that takes each white cell of 8 pixels for a face twice that size.

    Args:
        path: The file.
        metadata: Another description than `SPEC`.
        channels: Of its maps.
        bias: Of the centre's shift, strides.
        outputs: Maps that it has.
        input_shape: As the file states it.
    """
    nodes, constants = [], []
    for number, stride in enumerate((8, 16, 32)[:outputs]):
        kernel = np.zeros((channels, 3, 1, 1), np.float32)
        # From black -10 to white +10; the coarser maps find nothing.
        kernel[0] = 20 / 255 / 3 if number == 0 else 0
        offset = np.zeros(channels, np.float32)
        offset[0] = -10
        offset[1:3] = bias
        offset[3:5] = np.log(2)
        constants += [
            numpy_helper.from_array(kernel, f"kernel{number}"),
            numpy_helper.from_array(offset, f"offset{number}"),
        ]
        nodes += [
            helper.make_node(
                "AveragePool",
                [INPUT_NAME],
                [f"cells{number}"],
                kernel_shape=[stride, stride],
                strides=[stride, stride],
            ),
            helper.make_node(
                "Conv", [f"cells{number}", f"kernel{number}", f"offset{number}"], [f"map{number}"]
            ),
        ]
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, input_shape)],
        [
            helper.make_tensor_value_info(
                f"map{number}", TensorProto.FLOAT, ["N", channels, None, None]
            )
            for number in range(outputs)
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    entries = SPEC.to_metadata() if metadata is None else dict(metadata)
    if entries:
        helper.set_model_props(model, entries)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path
