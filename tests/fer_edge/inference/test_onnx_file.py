import os

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from fer_edge import Classifier
from fer_edge.contract import INPUT_NAME, OUTPUT_NAME, ModelSpec
from fer_edge.errors import ModelError
from fer_edge.inference.onnx_file import Tensor, read_model
from tests.support.models import save, save_brightness_model

OURS = ModelSpec().to_metadata()


def external(location):
    tensor = TensorProto(name="w", data_type=TensorProto.FLOAT, dims=[7])
    tensor.data_location = TensorProto.EXTERNAL
    for key, value in (("location", location), ("offset", "0"), ("length", "28")):
        tensor.external_data.add(key=key, value=value)
    return tensor


def write(path, graph, metadata=None):
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    helper.set_model_props(model, metadata or {})
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


def graph_with(tensor, place):
    """Return a graph that uses a tensor as a weight, in a node, or in a graph inside of one."""
    if place == "initializer":
        return graph_of(
            [
                helper.make_node("ReduceMean", [INPUT_NAME], ["m"], axes=[1, 2], keepdims=0),
                helper.make_node("Mul", ["m", "zero"], ["z"]),
                helper.make_node("Add", ["z", "w"], [OUTPUT_NAME]),
            ],
            [tensor, numpy_helper.from_array(np.zeros(1, np.float32), "zero")],
        )
    constant = helper.make_node("Constant", [], [OUTPUT_NAME])
    attribute = constant.attribute.add(name="value", type=onnx.AttributeProto.TENSOR)
    attribute.t.CopyFrom(tensor)
    graph = graph_of([constant])
    if place == "attribute":
        return graph
    return graph_of(
        [helper.make_node("If", ["c"], [OUTPUT_NAME], then_branch=graph, else_branch=graph)]
    )


@pytest.mark.parametrize("location", ["../secret.bin", "/etc/passwd", "sub/w.bin", "..", ".", ""])
@pytest.mark.parametrize("place", ["initializer", "attribute", "subgraph"])
def test_data_in_other_folders_are_refused(tmp_path, location, place):
    (tmp_path / "models" / "sub").mkdir(parents=True)
    for file in ("secret.bin", "models/sub/w.bin"):
        (tmp_path / file).write_bytes(bytes(28))
    path = write(tmp_path / "models/model.onnx", graph_with(external(location), place))
    with pytest.raises(ModelError, match="received a reference to"):
        Classifier(path)


def test_data_beside_the_file_are_read(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    shares = np.array([0.1, 0.1, 0.1, 0.4, 0.1, 0.1, 0.1], np.float32)
    shares.tofile(tmp_path / "models/weights.data")
    graph = graph_with(external("./weights.data"), "initializer")
    path = write(tmp_path / "models/model.onnx", graph, OURS)
    # Neither the working folder nor a file of that name in it matters.
    np.zeros(7, np.float32).tofile(tmp_path / "weights.data")
    monkeypatch.chdir(tmp_path)
    classify = Classifier("models/model.onnx", detector="none")
    found = classify(np.zeros((48, 48), np.uint8))[0]
    assert found.emotion == "happy"
    assert list(found.probabilities.values()) == pytest.approx(shares.tolist())
    _, file = read_model(path)
    assert [beside.name for beside in file.data_files] == ["weights.data"]


def test_data_that_are_not_there_are_named(tmp_path):
    path = write(tmp_path / "model.onnx", graph_with(external("weights.data"), "initializer"))
    with pytest.raises(ModelError, match=r"Expected weights\.data beside .*copy both files"):
        Classifier(path)


@pytest.mark.skipif(os.name != "posix", reason="needs links")
def test_links_out_of_the_folder_are_refused_but_for_those_of_a_cache(tmp_path):
    for folder in ("secret", "models", "cache/blobs", "cache/snapshot"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "secret/w").write_bytes(bytes(28))
    graph = graph_with(external("w.data"), "initializer")
    path = write(tmp_path / "models/model.onnx", graph, OURS)
    (tmp_path / "models/w.data").symlink_to(tmp_path / "secret/w")
    with pytest.raises(ModelError, match="a link that leads out of it"):
        read_model(path)
    # As a download cache keeps them: both files are links to one folder.
    write(tmp_path / "cache/blobs/1", graph, OURS)
    (tmp_path / "cache/blobs/2").write_bytes(bytes(28))
    (tmp_path / "cache/snapshot/model.onnx").symlink_to("../blobs/1")
    (tmp_path / "cache/snapshot/w.data").symlink_to("../blobs/2")
    assert read_model(tmp_path / "cache/snapshot/model.onnx")


def test_a_file_says_what_it_holds(tmp_path):
    weight = numpy_helper.from_array(np.zeros((7, 7), np.float32), "w")
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["x", "w"], ["y"])],
        "g",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT16, ["N", 7]),
            helper.make_tensor_value_info("w", TensorProto.FLOAT, [7, 7]),
        ],
        [
            helper.make_tensor_value_info("y", TensorProto.DOUBLE, [-1, None]),
            helper.make_tensor_value_info("z", TensorProto.INT64, None),
        ],
        [weight],
    )
    opsets = [helper.make_opsetid("", 12), helper.make_opsetid("com.microsoft", 99)]
    model = helper.make_model(graph, opset_imports=opsets, ir_version=3, producer_name="maker")
    helper.set_model_props(model, {"names": "{0: 'a'}"})
    path = tmp_path / "model.onnx"
    path.write_bytes(model.SerializeToString())
    _, file = read_model(path)
    # Weights that are listed as inputs, as before IR version 4, are none.
    assert file.inputs == (Tensor("x", "float16", ("N", 7)),)
    assert file.outputs == (Tensor("y", "double", (None, None)), Tensor("z", "int64", None))
    assert [str(tensor) for tensor in file.outputs] == ["y double (?, ?)", "z int64 any shape"]
    assert (file.ir_version, file.opset, file.producer) == (3, 12, "maker")
    assert file.metadata == {"names": "{0: 'a'}"}
    assert file.data_files == ()


@pytest.mark.parametrize(
    ("shape", "columns"),
    [
        (("N", 7), 7),
        ((1, 7, 1, 1), 7),
        (("N", 1, 7), 7),
        ((7,), 7),
        (("N",), 1),
        (("N", 1), 1),
        ((1,), 1),
        (("N", "K"), None),
        (("N", 8, "h", "w"), 8),
        (None, None),
    ],
)
def test_columns_of_an_output(shape, columns):
    assert Tensor("y", "float", shape).columns == columns


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
        ({"input_type": TensorProto.INT32}, "one input of model.onnx, of float or float16"),
        ({"columns": 8, "output_shape": ("N", 8)}, "7 numbers for its labels"),
        (
            {"columns": 8, "output_shape": ("N", None)},
            r"Expected \(1, 7\) from .*, received",
        ),
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
        Classifier(path, detector="none")(np.zeros((48, 48), np.uint8))


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
        ({"fer_edge.schema": "99"}, "schema 1 or 2"),
        ({"fer_edge.task": '"poetry"'}, "task of face-emotion or face-detection"),
        ({"fer_edge.task": '"face-detection"'}, "Expected strides|Expected overlap"),
        ({"fer_edge.prior": "[0.5, 0.5]"}, "prior above 0 for each label"),
        ({"fer_edge.prior": "[0, 0.2, 0.2, 0.2, 0.2, 0.1, 0.1]"}, "prior above 0 for each label"),
        ({"fer_edge.prior": "[0.2, 0.2, 0.2, 0.2, 0.2, 0.2, 0.2]"}, "summing to 1"),
        ({"fer_edge.labels": "not json"}, "Expected JSON"),
        ({"fer_edge.labels": "[" * 100_000}, "Expected JSON"),
        ({"fer_edge.labels": '"abcdefg"'}, "list of names, received 'abcdefg' as labels"),
        ({"fer_edge.labels": r'["a\u001b[2J", "b"]'}, "printable"),
        ({"fer_edge.fold": "9" * 5000}, "Expected JSON"),
        ({"fer_edge.mean": "[NaN]"}, "finite numbers"),
        ({"fer_edge.std": '["1"]'}, "a number, received '1' as std"),
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
