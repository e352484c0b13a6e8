"""Exact rewrites of an ONNX graph: what a converter leaves behind is folded into the weights.

tf2onnx keeps the layout of TensorFlow visible (transposes, shapes computed at run time) and folds
a batch normalisation only where it directly follows a convolution without bias. Every rewrite here
computes the same function with fewer nodes; where a pattern is not met, the graph stays as it was.
A graph of this package's models ends with these operators alone: Reshape, Concat, Mul and Add for
the preprocessing, Conv, Relu, MaxPool, GlobalAveragePool, Flatten, Gemm, Softmax, and Add for
residuals and for the shift of a normalisation that a padded convolution follows.
"""

from collections.abc import Iterator
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from fer_edge.contract import INPUT_NAME

Constant = NDArray[Any]

_TO_NCHW = [0, 3, 1, 2]
_TO_NHWC = [0, 2, 3, 1]


def simplify(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return the same function as a smaller graph of standard operators.

    Args:
        model: A model with the input ``image``, float32 (N, H, W, C), of opset 13 or later.

    Returns:
        A new model, checked, whose tensors and nodes are named by kind and number, so that the
        same weights always give the same file.
    """
    graph = _Graph(model)
    _drop_neutral(graph)
    _reorder_axes_first(graph)
    _merge_equal_channels(graph)
    _flatten(graph)
    graph.drop_unused()
    _to_gemm(graph)
    _drop_padding_before_max(graph)
    for rewrite in (_fold_after_conv, _fold_scale_before_relu, _sink_shift, _fold_shift_forward):
        rewrite(graph)
    return graph.build()


def operators(model: onnx.ModelProto) -> dict[str, int]:
    """Count the nodes of each operator, in the order in which they first run."""
    counts: dict[str, int] = {}
    for node in model.graph.node:
        counts[node.op_type] = counts.get(node.op_type, 0) + 1
    return counts


class _Graph:
    """Nodes in running order and constants by name; rewrites keep both in step."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = model
        self.nodes = list(model.graph.node)
        self.outputs = {output.name for output in model.graph.output}
        self.constants: dict[str, Constant] = {
            tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer
        }
        inferred = onnx.shape_inference.infer_shapes(model).graph
        self.shapes = {
            value.name: [side.dim_value for side in value.type.tensor_type.shape.dim]
            for value in [*inferred.value_info, *inferred.input]
        }

    def of_type(self, *kinds: str) -> Iterator[onnx.NodeProto]:
        """Yield the nodes of some kinds; rewrites may change the graph meanwhile."""
        return (node for node in list(self.nodes) if node.op_type in kinds)

    def producer(self, tensor: str) -> onnx.NodeProto | None:
        return next((node for node in self.nodes if tensor in node.output), None)

    def reader(self, tensor: str) -> onnx.NodeProto | None:
        """Return the only node that reads a tensor; None where it has several or is an output."""
        readers = [node for node in self.nodes if tensor in node.input]
        return readers[0] if len(readers) == 1 and tensor not in self.outputs else None

    def constant_of(self, node: onnx.NodeProto) -> tuple[str, Constant] | None:
        """Return the other input's name and the constant of a node of two inputs, one constant."""
        first, second = node.input
        if second in self.constants:
            return first, self.constants[second]
        return (second, self.constants[first]) if first in self.constants else None

    def channel_constant(self, node: onnx.NodeProto) -> tuple[str, Constant] | None:
        """Return the same for a constant of (C, 1, 1) or (1, C, 1, 1), flattened to (C,)."""
        found = self.constant_of(node)
        if found is None:
            return None
        shape = found[1].shape[-3:]
        if len(shape) != 3 or shape[1:] != (1, 1) or found[1].size != shape[0]:
            return None
        return found[0], found[1].reshape(-1)

    def add_constant(self, value: Constant) -> str:
        name = f"constant_{len(self.constants)}"
        while name in self.constants:
            name += "_"
        self.constants[name] = value
        return name

    def set_input(self, node: onnx.NodeProto, index: int, value: Constant) -> None:
        """Give a node a constant of its own: others may share the old one."""
        name = self.add_constant(value)
        if index == len(node.input):
            node.input.append(name)
        else:
            node.input[index] = name

    def bypass(self, node: onnx.NodeProto, tensor: str) -> None:
        """Remove a node of one output; those that read it read ``tensor`` instead."""
        self.nodes.remove(node)
        (name,) = node.output
        if name in self.outputs:
            producer = self.producer(tensor)
            if producer is None:
                raise ValueError(f"Expected a node that computes {tensor}")
            for reader in self.nodes:
                _rename(reader, tensor, name)
            producer.output[list(producer.output).index(tensor)] = name
        for reader in self.nodes:
            _rename(reader, name, tensor)

    def replace(self, old: onnx.NodeProto, new: onnx.NodeProto) -> None:
        self.nodes[self.nodes.index(old)] = new

    def build(self) -> onnx.ModelProto:
        self.drop_unused()
        names = {name: name for name in (INPUT_NAME, *self.outputs)}
        counts: dict[str, int] = {}
        for node in self.nodes:
            kind = node.op_type.lower()
            number = counts[kind] = counts.get(kind, 0) + 1
            node.name = f"{kind}_{number}"
            for index, tensor in enumerate(node.input):
                if tensor in self.constants:
                    names.setdefault(tensor, f"{node.name}.{index}")
            for tensor in node.output:
                names.setdefault(tensor, node.name)
            node.input[:] = [names[tensor] for tensor in node.input]
            node.output[:] = [names[tensor] for tensor in node.output]
        source = self.model.graph
        for value in [*source.input, *source.output]:
            # The converter numbers its free dimensions over the whole process.
            value.type.tensor_type.shape.dim[0].dim_param = "N"
        graph = helper.make_graph(
            self.nodes,
            source.name,
            source.input,
            source.output,
            [
                numpy_helper.from_array(self.constants[tensor], name)
                for tensor, name in names.items()
                if tensor in self.constants
            ],
        )
        opsets = [opset for opset in self.model.opset_import if opset.domain in ("", "ai.onnx")]
        model = helper.make_model(graph, opset_imports=opsets)
        model.ir_version = self.model.ir_version
        onnx.checker.check_model(model, full_check=True)
        return model

    def drop_unused(self) -> None:
        """Drop the nodes whose results nobody needs; they would count as readers."""
        needed = set(self.outputs)
        kept = []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                needed |= set(node.input)
                kept.append(node)
        self.nodes = kept[::-1]


def _rename(node: onnx.NodeProto, old: str, new: str) -> None:
    node.input[:] = [new if tensor == old else tensor for tensor in node.input]


def _attribute(node: onnx.NodeProto, name: str, default: Any = None) -> Any:
    found = [helper.get_attribute_value(item) for item in node.attribute if item.name == name]
    return found[0] if found else default


def _set_attribute(node: onnx.NodeProto, name: str, value: Any) -> None:
    others = [item for item in node.attribute if item.name != name]
    del node.attribute[:]
    node.attribute.extend([*others, helper.make_attribute(name, value)])


def _drop_neutral(graph: _Graph) -> None:
    """Drop products with 1, sums with 0, and identities."""
    for node in graph.of_type("Mul", "Add"):
        found = graph.constant_of(node)
        if found and found[1].size == 1 and found[1].item() == (node.op_type == "Mul"):
            graph.bypass(node, found[0])
    for node in graph.of_type("Identity"):
        graph.bypass(node, node.input[0])


def _reorder_axes_first(graph: _Graph) -> None:
    """Move the step from NHWC to NCHW to the image, where one channel makes it a free reshape."""
    path, tensor = [], INPUT_NAME
    while (node := graph.reader(tensor)) is not None:
        if node.op_type == "Transpose" or node.op_type == "Reshape":
            break
        others = [name for name in node.input if name != tensor]
        if node.op_type not in ("Mul", "Add", "Concat") or not all(
            name in graph.constants for name in others
        ):
            return
        path.append(node)
        (tensor,) = node.output
    height, width, channels = graph.shapes[INPUT_NAME][1:]
    if node is None or channels != 1 or not _is_to_nchw(graph, node, height, width):
        return
    for step in path:
        if step.op_type == "Concat":
            _set_attribute(step, "axis", 1)
        for index, name in enumerate(step.input):
            if name in graph.constants and graph.constants[name].size > 1:
                graph.set_input(step, index, graph.constants[name].reshape(-1, 1, 1))
    (reshaped,) = node.output
    graph.bypass(node, tensor)
    if not path:
        reshaped = "image_nchw"
    shape = graph.add_constant(np.asarray([-1, 1, height, width], np.int64))
    first = helper.make_node("Reshape", [INPUT_NAME, shape], [reshaped])
    for reader in graph.nodes:
        _rename(reader, INPUT_NAME, reshaped)
    graph.nodes.insert(0, first)


def _is_to_nchw(graph: _Graph, node: onnx.NodeProto, height: int, width: int) -> bool:
    if node.op_type == "Transpose":
        return bool(_attribute(node, "perm") == _TO_NCHW)
    shape = graph.constants.get(node.input[1])
    return shape is not None and shape.tolist()[1:] == [1, height, width]


def _merge_equal_channels(graph: _Graph) -> None:
    """Convolve one channel with the sum of the kernels, not copies of it with each."""
    for concat in graph.of_type("Concat"):
        conv = graph.reader(concat.output[0])
        if len(set(concat.input)) > 1 or conv is None or conv.op_type != "Conv":
            continue
        weights = graph.constants[conv.input[1]]
        if weights.shape[1] == len(concat.input):
            graph.set_input(conv, 1, weights.sum(axis=1, keepdims=True))
            graph.bypass(concat, concat.input[0])


def _flatten(graph: _Graph) -> None:
    """Flatten in NCHW order, with the next layer's rows in that order too."""
    for node in graph.of_type("Reshape", "Squeeze"):
        product = graph.reader(node.output[0])
        if (
            product is None
            or product.op_type != "MatMul"
            or product.input[1] not in (graph.constants)
        ):
            continue
        weights = graph.constants[product.input[1]]
        source = node.input[0]
        transpose = graph.producer(source)
        if transpose is not None and transpose.op_type == "Transpose":
            if _attribute(transpose, "perm") != _TO_NHWC:
                continue
            source = transpose.input[0]
            channels, height, width = graph.shapes[source][1:]
            rows = weights.reshape(height, width, channels, -1).transpose(2, 0, 1, 3)
            graph.set_input(product, 1, rows.reshape(weights.shape))
        if int(np.prod(graph.shapes[source][1:])) == len(weights):
            graph.replace(node, helper.make_node("Flatten", [source], node.output, axis=1))


def _to_gemm(graph: _Graph) -> None:
    """Join each matrix product with the bias that is added to it."""
    for product in graph.of_type("MatMul"):
        if product.input[1] not in graph.constants:
            continue
        gemm = helper.make_node("Gemm", product.input, product.output)
        graph.replace(product, gemm)
        add = graph.reader(gemm.output[0])
        found = graph.constant_of(add) if add is not None and add.op_type == "Add" else None
        if add is not None and found is not None and found[1].ndim <= 1:
            graph.set_input(gemm, 2, found[1])
            graph.bypass(add, gemm.output[0])


def _drop_padding_before_max(graph: _Graph) -> None:
    """Let the maximum pad by itself: zeros never win against what comes from a Relu."""
    for pad in graph.of_type("Pad"):
        relu, pool = graph.producer(pad.input[0]), graph.reader(pad.output[0])
        if relu is None or relu.op_type != "Relu" or pool is None or pool.op_type != "MaxPool":
            continue
        pads = graph.constants[pad.input[1]].tolist()
        value = graph.constants[pad.input[2]].item() if len(pad.input) > 2 else 0
        own = _attribute(pool, "pads", [0, 0, 0, 0])
        if value == 0 and own == [0, 0, 0, 0] and not any(pads[:2] + pads[4:6]):
            _set_attribute(pool, "pads", pads[2:4] + pads[6:8])
            graph.bypass(pad, pad.input[0])


def _bias(graph: _Graph, conv: onnx.NodeProto) -> Constant:
    if len(conv.input) > 2:
        return graph.constants[conv.input[2]]
    return np.zeros(len(graph.constants[conv.input[1]]), np.float32)


def _fold_after_conv(graph: _Graph) -> None:
    """Fold a factor and a shift of each channel into the convolution before them."""
    for conv in graph.of_type("Conv"):
        while (node := graph.reader(conv.output[0])) is not None:
            found = graph.channel_constant(node) if node.op_type in ("Mul", "Add") else None
            if found is None:
                break
            if node.op_type == "Mul":
                _scale_conv(graph, conv, found[1])
            else:
                graph.set_input(conv, 2, _bias(graph, conv) + found[1])
            graph.bypass(node, conv.output[0])


def _scale_conv(graph: _Graph, conv: onnx.NodeProto, factor: Constant) -> None:
    weights = graph.constants[conv.input[1]]
    bias = _bias(graph, conv) * factor
    graph.set_input(conv, 1, weights * factor.reshape(-1, 1, 1, 1))
    graph.set_input(conv, 2, bias)


def _fold_scale_before_relu(graph: _Graph) -> None:
    """Fold a positive factor of each channel through a Relu: g relu(x) = relu(g x)."""
    for mul in graph.of_type("Mul"):
        found = graph.channel_constant(mul)
        relu = graph.producer(found[0]) if found else None
        if found is None or relu is None or relu.op_type != "Relu" or not (found[1] > 0).all():
            continue
        conv = graph.producer(relu.input[0])
        if (
            conv is not None
            and conv.op_type == "Conv"
            and graph.reader(conv.output[0]) is relu
            and graph.reader(relu.output[0]) is mul
        ):
            _scale_conv(graph, conv, found[1])
            graph.bypass(mul, relu.output[0])


def _sink_shift(graph: _Graph) -> None:
    """Add a shift of each channel after a pooling, where there is less to add to."""
    for add in graph.of_type("Add"):
        found = graph.channel_constant(add)
        while found and (pool := graph.reader(add.output[0])) is not None:
            if pool.op_type not in ("MaxPool", "GlobalAveragePool"):
                break
            source, (shifted,), (pooled,) = found[0], add.output, pool.output
            constant = next(name for name in add.input if name in graph.constants)
            pool.input[0], pool.output[0] = source, shifted
            add.input[:], add.output[0] = [shifted, constant], pooled
            graph.nodes.remove(add)
            graph.nodes.insert(graph.nodes.index(pool) + 1, add)
            found = shifted, found[1]


def _fold_shift_forward(graph: _Graph) -> None:
    """Fold a shift of each channel into the bias of the layer after it.

    A padded convolution is left alone: its border sees zeros that were not shifted.
    """
    for add in graph.of_type("Add"):
        found = graph.channel_constant(add)
        layer = graph.reader(add.output[0])
        if found is None or layer is None:
            continue
        source, shift = found
        if layer.op_type == "Conv" and not any(_attribute(layer, "pads", [])):
            weights = graph.constants[layer.input[1]]
            if weights.shape[1] == len(shift):
                extra = weights.sum(axis=(2, 3), dtype=np.float64) @ shift
                graph.set_input(layer, 2, np.asarray(_bias(graph, layer) + extra, np.float32))
                graph.bypass(add, source)
        elif layer.op_type == "Flatten":
            gemm = graph.reader(layer.output[0])
            if gemm is not None and gemm.op_type == "Gemm" and len(gemm.input) == 3:
                weights = graph.constants[gemm.input[1]]
                rows = np.repeat(shift, len(weights) // len(shift)).astype(np.float64)
                bias = graph.constants[gemm.input[2]] + rows @ weights
                graph.set_input(gemm, 2, np.asarray(bias, np.float32))
                graph.bypass(add, source)
