"""A small convolutional ONNX file, built without Keras."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_edge.contract import INPUT_NAME, OUTPUT_NAME, ModelSpec


def save_tiny_onnx(path: Path, *, precision: str = "fp32", shift: float = 0.0) -> Path:
    """Write the net; ``shift`` moves the first class's logit."""
    rng = np.random.default_rng(0)
    bias = np.zeros(7, np.float32)
    bias[0] = shift
    constants = {
        "shape": np.asarray([-1, 1, 48, 48]),
        "scale": np.asarray(1 / 127.5, np.float32),
        "w1": rng.normal(0, 0.4, (16, 1, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 16).astype(np.float32),
        "w2": rng.normal(0, 0.1, (32, 16, 3, 3)).astype(np.float32),
        "b2": rng.normal(0, 0.1, 32).astype(np.float32),
        "w3": rng.normal(0, 0.05, (32 * 144, 7)).astype(np.float32),
        "b3": bias,
    }
    same = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1]}
    halve = {"kernel_shape": [2, 2], "strides": [2, 2]}
    steps = [
        ("Reshape", [INPUT_NAME, "shape"], "image_nchw", {}),
        ("Mul", ["image_nchw", "scale"], "scaled", {}),
        ("Conv", ["scaled", "w1", "b1"], "conv1", same),
        ("Relu", ["conv1"], "relu1", {}),
        ("MaxPool", ["relu1"], "pool1", halve),
        ("Conv", ["pool1", "w2", "b2"], "conv2", same),
        ("Relu", ["conv2"], "relu2", {}),
        ("MaxPool", ["relu2"], "pool2", halve),
        ("Flatten", ["pool2"], "flat", {"axis": 1}),
        ("Gemm", ["flat", "w3", "b3"], "logits", {}),
        ("Softmax", ["logits"], OUTPUT_NAME, {"axis": 1}),
    ]
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [output], name=output, **options)
            for kind, inputs, output, options in steps
        ],
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", 48, 48, 1])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", 7])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, ModelSpec(model="tiny", precision=precision).to_metadata())
    onnx.save_model(model, path)
    return path


def save_torch_like_onnx(path: Path, *, batch: int | None = None) -> Path:
    """Write a net as PyTorch exports it: NCHW colours, products turned, logits, no metadata."""
    rng = np.random.default_rng(0)
    constants = {
        "w1": rng.normal(0, 0.2, (16, 3, 3, 3)).astype(np.float32),
        "b1": rng.normal(0, 0.1, 16).astype(np.float32),
        "w2": rng.normal(0, 0.1, (16, 16, 3, 3)).astype(np.float32),
        "b2": rng.normal(0, 0.1, 16).astype(np.float32),
        "w3": rng.normal(0, 0.05, (7, 16 * 16)).astype(np.float32),
        "b3": np.zeros(7, np.float32),
    }
    half = {"kernel_shape": [3, 3], "pads": [1, 1, 1, 1], "strides": [2, 2]}
    steps = [
        ("Conv", ["input", "w1", "b1"], "conv1", half),
        ("Relu", ["conv1"], "relu1", {}),
        ("Conv", ["relu1", "w2", "b2"], "conv2", half),
        ("Relu", ["conv2"], "relu2", {}),
        ("MaxPool", ["relu2"], "pool", {"kernel_shape": [2, 2], "strides": [2, 2]}),
        ("Flatten", ["pool"], "flat", {"axis": 1}),
        ("Gemm", ["flat", "w3", "b3"], "output", {"transB": 1}),
    ]
    count = "batch" if batch is None else batch
    graph = helper.make_graph(
        [
            helper.make_node(kind, inputs, [output], name=output, **options)
            for kind, inputs, output, options in steps
        ],
        "main_graph",
        [helper.make_tensor_value_info("input", TensorProto.FLOAT, [count, 3, 32, 32])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [count, 7])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.save_model(model, path)
    return path
