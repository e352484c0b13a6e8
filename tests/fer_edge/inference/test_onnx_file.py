import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from fer_edge import Classifier
from fer_edge.contract import INPUT_NAME, OUTPUT_NAME, ModelSpec
from fer_edge.errors import ModelError
from fer_edge.inference.onnx_file import read_model
from tests.support.models import save, save_brightness_model

OURS = ModelSpec().to_metadata()


def external(location):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[7])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "28")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def write(path, graph):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path.write_bytes(model.SerializeToString())
    return path


def graph_of(nodes, tensors=()):
    return helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.FLOAT, ["N", 48, 48, 1])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, ["N", 7])],
        list(tensors),
    )


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "beside.bin"])
@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_data_in_other_files_is_refused(tmp_path, location, place):
    np.arange(7, dtype=np.float32).tofile(tmp_path / "beside.bin")
    tensor = external(location)
    if place == "initializer":
        graph = graph_of([helper.make_node("Identity", ["w"], [OUTPUT_NAME])], [tensor])
    else:
        constant = helper.make_node("Constant", [], [OUTPUT_NAME])
        attribute = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
        attribute.t.CopyFrom(tensor)
        graph = graph_of([constant])
        if place == "subgraph":
            graph = graph_of(
                [helper.make_node("If", ["c"], [OUTPUT_NAME], then_branch=graph, else_branch=graph)]
            )
    with pytest.raises(ModelError, match="references to other files"):
        Classifier(write(tmp_path / "model.onnx", graph))


def test_deep_nesting_does_not_overflow(tmp_path):
    # Field 7 is the model's graph, and so on down through node, attribute, graph.
    payload = b""
    for number in (6, 5, 1) * 3000:
        payload = bytes([number << 3 | 2]) + encode(len(payload)) + payload
    path = tmp_path / "deep.onnx"
    path.write_bytes(b"\x3a" + encode(len(payload)) + payload)
    assert read_model(path)
    with pytest.raises(ModelError):
        Classifier(path)


def encode(number):
    parts = []
    while number > 0x7F:
        parts.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*parts, number])


def test_broken_files_are_refused_with_the_reason(tmp_path):
    path = tmp_path / "model.onnx"
    good = save_brightness_model(path).read_bytes()
    for content, reason in (
        (b"", "empty file"),
        (good[: len(good) // 2], "damaged or cut short"),
        (b"\xff\xd8\xff\xe0 a picture", "another kind"),
        (b"<html>404</html>", "another kind"),
        (b"\x08\x08", "cannot load"),
    ):
        path.write_bytes(content)
        with pytest.raises(ModelError, match=reason):
            Classifier(path)


def test_onnxruntimes_own_format_is_refused(tmp_path):
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    source = save_brightness_model(tmp_path / "model.onnx")
    onnxruntime.InferenceSession(source, options)
    with pytest.raises(ModelError):
        Classifier(tmp_path / "model.ort")


def test_huge_files_are_refused_before_they_are_read(tmp_path, monkeypatch):
    monkeypatch.setattr("fer_edge.inference.onnx_file.MAX_MODEL_BYTES", 100)
    with pytest.raises(ModelError, match="at most 100 bytes"):
        Classifier(save_brightness_model(tmp_path / "model.onnx"))


def test_a_folder_or_nothing_is_no_model(tmp_path):
    with pytest.raises(ModelError, match="found none"):
        Classifier(tmp_path)
    with pytest.raises(ModelError, match="found none"):
        Classifier(tmp_path / "missing.onnx")


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="needs file permissions")
def test_unreadable_files_are_errors(tmp_path):
    path = save_brightness_model(tmp_path / "model.onnx")
    path.chmod(0)
    with pytest.raises(ModelError, match="Permission denied"):
        Classifier(path)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"input_shape": ("N", 64, 64, 1)}, r"batches of \(48, 48, 1\)"),
        ({"input_shape": ("N", 48, 48)}, "batches of"),
        ({"input_type": TensorProto.DOUBLE}, "one float32 input"),
        ({"columns": 8, "output_shape": ("N", 8)}, "7 numbers for its labels"),
        ({"columns": 8, "output_shape": ("N", None)}, "7 numbers for its labels"),
        ({"columns": 1, "output_shape": ("N", 1)}, "7 numbers for its labels"),
    ],
)
def test_wrong_shapes_are_refused(tmp_path, options, reason):
    nodes = [
        helper.make_node("ReduceMean", [INPUT_NAME], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("Cast", ["m"], ["f"], to=TensorProto.FLOAT),
        helper.make_node("Add", ["f", "w"], [OUTPUT_NAME]),
    ]
    columns = options.pop("columns", 7)
    constants = {"w": np.zeros((1, columns), np.float32)}
    path = save(tmp_path / "model.onnx", nodes, constants, metadata=OURS, **options)
    with pytest.raises(ModelError, match=reason):
        Classifier(path, detector="none")


def test_a_graph_that_grows_without_bound_is_an_error(tmp_path):
    nodes = [
        helper.make_node("ConstantOfShape", ["shape"], ["huge"]),
        helper.make_node("ReduceSum", ["huge"], ["sum"], keepdims=0),
        helper.make_node("ReduceMean", [INPUT_NAME], ["m"], axes=[1, 2], keepdims=0),
        helper.make_node("Add", ["m", "sum"], ["s"]),
        helper.make_node("Add", ["s", "w"], [OUTPUT_NAME]),
    ]
    constants = {
        "shape": np.array([2**24, 2**20], np.int64),
        "w": np.zeros((1, 7), np.float32),
    }
    path = save(tmp_path / "model.onnx", nodes, constants, metadata=OURS)
    with pytest.raises(ModelError):
        Classifier(path, detector="none")(np.zeros((48, 48, 3), np.uint8))


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"fer_edge.schema": "99"}, "schema 1"),
        ({"fer_edge.labels": "not json"}, "Expected JSON"),
        ({"fer_edge.labels": "[" * 100_000}, "Expected JSON"),
        ({"fer_edge.labels": '"abcdefg"'}, "Expected lists as labels"),
        ({"fer_edge.labels": r'["a\u001b[2J", "b"]'}, "printable"),
        ({"fer_edge.fold": "9" * 5000}, "Expected JSON"),
        ({"fer_edge.mean": "[NaN]"}, "finite numbers"),
        ({"fer_edge.std": '["1"]'}, "finite numbers"),
        ({"fer_edge.scores": '{"accuracy": "high"}'}, "finite numbers"),
        ({"fer_edge.scores": "[1]"}, "export the model again"),
        ({"fer_edge.model": "[1]"}, "text as model"),
        ({"fer_edge.labels": '["a", "b"]'}, "2 numbers for its labels"),
        ({"fer_edge.input_size": "[0, 48]"}, "1 to 4096"),
        ({"fer_edge.std": "[0]"}, "std above 0"),
    ],
)
def test_damaged_metadata_is_refused(tmp_path, change, reason):
    path = save_brightness_model(tmp_path / "model.onnx", metadata={**OURS, **change})
    with pytest.raises(ModelError, match=reason):
        Classifier(path)
