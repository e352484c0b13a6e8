"""Rewrites around static quantisation, after which a runtime's integer kernels follow one another.

Integer convolutions run with channels last, so that runtimes put transposes around a graph of NCHW;
the input image is NHWC already, and a product's weights can be too. Their fastest convolutions
take input channels by four: a grey image alone goes a slower way, so that it goes in four times,
with weights of 0 for its copies. An addition of one value a channel runs element by element, and
vectorised if the constant has a value for each place.
"""

import math
from collections.abc import Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fer_edge.contract import INPUT_NAME

_TO_NCHW = [0, 3, 1, 2]
_TO_NHWC = [0, 2, 3, 1]
_CHANNELS_AT_ONCE = 4
_LAYOUT_CHANGES = ("Concat", "Transpose", "Reshape")


def for_channels_last(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function with its layout changes where channels-last kernels cancel them.

    Args:
        model: fp32. What `fer_train.export.simplify.simplify` makes, NCHW but for the input, gains
            most; what is built otherwise stays as it is.
    """
    model = onnx.shape_inference.infer_shapes(model)
    graph = model.graph
    constants = {tensor.name: tensor for tensor in graph.initializer}
    shapes = {
        value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
        for value in (*graph.input, *graph.value_info)
    }
    first = next((node for node in graph.node if node.op_type == "Conv"), None)
    nodes: list[onnx.NodeProto] = []
    convolved = False
    for node in graph.node:
        convolved |= node.op_type == "Conv"
        if _to_one_channel(node, shapes):
            source = INPUT_NAME
            if first and first.input[1] in constants and _widen(constants[first.input[1]]):
                source = "grey_repeated"
                copies = [INPUT_NAME] * _CHANNELS_AT_ONCE
                nodes.append(helper.make_node("Concat", copies, [source], source, axis=3))
            # Of one channel it is the same as the reshape.
            node = helper.make_node("Transpose", [source], node.output, "to_nchw", perm=_TO_NCHW)
        elif product := _flattened_product(node, graph, constants, shapes):
            source, name = node.input[0], f"{node.name}.nhwc"
            weights = numpy_helper.to_array(constants[product.input[1]])
            places = weights.reshape(*shapes[source][1:], -1)
            _replace(
                constants[product.input[1]], places.transpose(1, 2, 0, 3).reshape(weights.shape)
            )
            nodes.append(helper.make_node("Transpose", [source], [name], name, perm=_TO_NHWC))
            node.input[0] = name
        elif node.op_type == "Add" and convolved and _is_map(shapes, node.output[0]):
            for name in set(node.input) & set(constants):
                value = numpy_helper.to_array(constants[name])
                whole = np.broadcast_to(value, (1, *shapes[node.output[0]][1:]))
                _replace(constants[name], whole)
        nodes.append(node)
    del graph.node[:]
    graph.node.extend(nodes)
    del graph.value_info[:]
    _drop_unread(graph)
    return model


def take_levels(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a quantised model that takes grey levels as they are, where its input's scale allows.

    Levels are whole numbers: scaled to -1 to 1 and rounded again, every second one would be lost,
    since 0 lies between two of them. The step of the first convolution's input stays what it was.
    """
    graph = model.graph
    constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in graph.initializer}
    makers = {node.output[0]: node for node in graph.node}
    quantize = next((node for node in graph.node if node.op_type == "QuantizeLinear"), None)
    if quantize is None:
        return model
    factor, shift, source = 1.0, 0.0, quantize.input[0]
    passed = []
    for kind in ("Add", "Mul"):
        node = makers.get(source)
        if node is None or node.op_type != kind:
            continue
        value = constants.get(node.input[1])
        if value is None or value.size != 1:
            return model
        factor, shift = (float(value.item()), shift) if kind == "Mul" else (factor, value.item())
        passed.append(node)
        source = node.input[0]
    while (maker := makers.get(source)) and maker.op_type in _LAYOUT_CHANGES:
        source = maker.input[0]
    step, zero = (constants[name].item() for name in quantize.input[1:])
    is_level = abs(step / factor - 1) < 0.01 and abs(zero + shift / step) < 0.51
    if not (passed and source == INPUT_NAME and is_level):
        return model
    graph.initializer.append(numpy_helper.from_array(np.ones((), np.float32), "level"))
    graph.initializer.append(numpy_helper.from_array(np.zeros((), np.uint8), "black"))
    quantize.input[:] = [passed[-1].input[0], "level", "black"]
    for node in passed:
        graph.node.remove(node)
    _drop_unread(graph)
    return model


def _to_one_channel(node: onnx.NodeProto, shapes: Mapping[str, list[int]]) -> bool:
    """Tell whether a node takes the input image, of one channel, from NHWC to NCHW."""
    if node.op_type != "Reshape" or node.input[0] != INPUT_NAME:
        return False
    before, after = (shapes.get(name, []) for name in (node.input[0], node.output[0]))
    return len(before) == 4 and before[3] == 1 and after[1:] == [1, *before[1:3]]


def _flattened_product(
    node: onnx.NodeProto,
    graph: onnx.GraphProto,
    constants: Mapping[str, onnx.TensorProto],
    shapes: Mapping[str, list[int]],
) -> onnx.NodeProto | None:
    """Return the product that alone reads a flattened map, if its weights can be reordered."""
    if node.op_type != "Flatten" or not _is_map(shapes, node.input[0]):
        return None
    if math.prod(shapes[node.input[0]][2:]) == 1:
        return None
    readers = [other for other in graph.node if node.output[0] in other.input]
    if len(readers) != 1 or readers[0].op_type != "Gemm" or readers[0].input[1] not in constants:
        return None
    turned = any(a.name in ("transA", "transB") and a.i for a in readers[0].attribute)
    return None if turned else readers[0]


def _is_map(shapes: Mapping[str, list[int]], name: str) -> bool:
    """Tell whether a value is a batch of maps of known channels, height and width."""
    shape = shapes.get(name, [])
    return len(shape) == 4 and all(shape[1:])


def _widen(weights: onnx.TensorProto) -> bool:
    """Give (out, 1, height, width) weights of one channel copies of it, which count for nothing."""
    own = numpy_helper.to_array(weights)
    if own.shape[1] != 1:
        return False
    wide = np.zeros((own.shape[0], _CHANNELS_AT_ONCE, *own.shape[2:]), own.dtype)
    wide[:, :1] = own
    _replace(weights, wide)
    return True


def _drop_unread(graph: onnx.GraphProto) -> None:
    read = {name for node in graph.node for name in node.input}
    kept = [tensor for tensor in graph.initializer if tensor.name in read]
    del graph.initializer[:]
    graph.initializer.extend(kept)


def _replace(tensor: onnx.TensorProto, value: NDArray[np.generic]) -> None:
    tensor.CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value), tensor.name))
