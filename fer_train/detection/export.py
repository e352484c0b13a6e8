"""The network as ONNX: normalisation folded into the convolutions, nothing else in the way.

The contract: input ``image`` float32 (N, 3, H, W), BGR, 0-255; one output a stride, float32
(N, 15, H / stride, W / stride).
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_train.detection.network import STRIDES, build_detector, load_weights, save_weights
from fer_train.network._keras import keras


def to_onnx(net: keras.Model) -> Any:
    """Return the network as an ``onnx.ModelProto``, opset 17."""
    import onnx
    from onnx import helper, numpy_helper

    weights = save_weights(net)
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
            names[output] = "image"
        elif isinstance(layer, keras.layers.Rescaling):
            scaled = add("Mul", [*inputs, constant("scale", np.float32(layer.scale))], "scaled")
            names[output] = add(
                "Add", [scaled, constant("offset", np.float32(layer.offset))], "shifted"
            )
        elif isinstance(layer, keras.layers.ZeroPadding2D):
            names[output] = inputs[0]  # the convolution pads
        elif isinstance(layer, keras.layers.Conv2D):
            kernel, bias = weights[f"{own}/kernel"], weights.get(f"{own}/bias")
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
        [helper.make_tensor_value_info("image", onnx.TensorProto.FLOAT, ["N", 3, "H", "W"])],
        [
            helper.make_tensor_value_info(
                f"output{stride}",
                onnx.TensorProto.FLOAT,
                ["N", 15, f"H/{stride}", f"W/{stride}"],
            )
            for stride in STRIDES
        ],
        constants,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model, full_check=True)
    return model


def from_weights(arrays: Mapping[str, NDArray[Any]]) -> Any:
    """Return the network with some weights as ONNX."""
    net = build_detector()
    load_weights(net, arrays)
    return to_onnx(net)


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
