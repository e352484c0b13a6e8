"""Tiny ONNX models with known answers, built in the tests."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from fer_edge.contract import EMOTIONS, INPUT_NAME, OUTPUT_NAME, ModelSpec


def save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, np.ndarray],
    *,
    input_shape: Sequence[int | str | None] = ("N", 48, 48, 1),
    output_shape: Sequence[int | str | None] = ("N", 7),
    input_type: int = TensorProto.FLOAT,
    metadata: dict[str, str] | None = None,
) -> Path:
    """Write a model of these nodes, from ``image`` to ``probabilities``."""
    graph = helper.make_graph(
        nodes,
        "tiny",
        [helper.make_tensor_value_info(INPUT_NAME, input_type, input_shape)],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, output_shape)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    if metadata:
        helper.set_model_props(model, metadata)
    path.parent.mkdir(parents=True, exist_ok=True)
    onnx.save(model, path)
    return path


def level_of(emotion: str) -> int:
    """Return the grey level that `save_brightness_model` answers with that emotion."""
    return round((EMOTIONS.index(emotion) + 0.5) * 255 / 7)


def save_brightness_model(path: Path, *, metadata: dict[str, str] | None = None) -> Path:
    """Write a model whose answer is the mean brightness: darkest angry, brightest neutral."""
    centres = np.array([[level_of(emotion) for emotion in EMOTIONS]], np.float32)
    nodes = [
        helper.make_node("ReduceMean", [INPUT_NAME], ["mean"], axes=[1, 2, 3], keepdims=0),
        helper.make_node("Unsqueeze", ["mean", "one"], ["column"]),
        helper.make_node("Sub", ["column", "centres"], ["distance"]),
        helper.make_node("Mul", ["distance", "distance"], ["squared"]),
        helper.make_node("Mul", ["squared", "slope"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME], axis=1),
    ]
    constants = {
        "one": np.array([1], np.int64),
        "centres": centres,
        "slope": np.array(-0.01, np.float32),
    }
    if metadata is None:
        metadata = ModelSpec(model="brightness").to_metadata()
    return save(path, nodes, constants, metadata=metadata)


def save_sided_model(
    path: Path, *, layout: str = "nhwc", metadata: dict[str, str] | None = None
) -> Path:
    """Write a model that tells an image from its mirror image."""
    weights = np.random.default_rng(0).normal(0, 1e-4, (48 * 48, 7)).astype(np.float32)
    nodes = [
        helper.make_node("Flatten", [INPUT_NAME], ["levels"]),
        helper.make_node("MatMul", ["levels", "weights"], ["logits"]),
        helper.make_node("Softmax", ["logits"], [OUTPUT_NAME], axis=1),
    ]
    shape = ("N", 48, 48, 1) if layout == "nhwc" else ("N", 1, 48, 48)
    if metadata is None:
        metadata = ModelSpec(model="sided", layout=layout).to_metadata()
    return save(path, nodes, {"weights": weights}, input_shape=shape, metadata=metadata)


def save_color_model(
    path: Path,
    *,
    layout: str = "nchw",
    batch: int | str = "N",
    scale: float = 20.0,
    softmax: bool = True,
    size: tuple[int | str, int | str] = (32, 32),
) -> Path:
    """Write a model of another maker: it answers which of its three channels is the brightest."""
    axes = [2, 3] if layout == "nchw" else [1, 2]
    shape = (batch, 3, *size) if layout == "nchw" else (batch, *size, 3)
    answer = OUTPUT_NAME if not softmax else "logits"
    nodes = [
        helper.make_node("ReduceMean", [INPUT_NAME], ["means"], axes=axes, keepdims=0),
        helper.make_node("Mul", ["means", "scale"], [answer]),
    ]
    if softmax:
        nodes.append(helper.make_node("Softmax", ["logits"], [OUTPUT_NAME], axis=1))
    constants = {"scale": np.array(scale, np.float32)}
    return save(path, nodes, constants, input_shape=shape, output_shape=(batch, 3))


def save_yunet_like(path: Path) -> Path:
    """Write what OpenCV runs as YuNet: each bright cell of 32 pixels is a face of that size."""
    nodes, constants, outputs = [], {}, []
    for stride in (8, 16, 32):
        mean = f"mean_{stride}"
        sides = {"kernel_shape": [stride, stride], "strides": [stride, stride]}
        nodes.append(helper.make_node("AveragePool", ["input"], [mean], **sides))
        for kind, width in (("cls", 1), ("obj", 1), ("bbox", 4), ("kps", 10)):
            name = f"{kind}_{stride}"
            level = 1 / (3 * 255) if stride == 32 and kind in ("cls", "obj") else 0
            constants[f"{name}_weights"] = np.full((width, 3, 1, 1), level, np.float32)
            constants[f"{name}_shape"] = np.array([1, -1, width], np.int64)
            nodes += [
                helper.make_node(
                    "Conv", [mean, f"{name}_weights"], [f"{name}_map"], kernel_shape=[1, 1]
                ),
                helper.make_node("Transpose", [f"{name}_map"], [f"{name}_last"], perm=[0, 2, 3, 1]),
                helper.make_node("Reshape", [f"{name}_last", f"{name}_shape"], [name]),
            ]
            shape = (1, (640 // stride) ** 2, width)
            outputs.append(helper.make_tensor_value_info(name, TensorProto.FLOAT, shape))
    image = helper.make_tensor_value_info("input", TensorProto.FLOAT, (1, 3, 640, 640))
    weights = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "yunet", [image], outputs, weights)
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 11)], ir_version=6), path
    )
    return path
