"""What onnxruntime says of a model, in its own texts and of real files."""

import onnx
import onnxruntime
import pytest

from fer_edge._base._ort import ort_reason
from fer_edge.errors import ModelError
from fer_edge.inference.session import open_session
from tests.support.models import save_brightness_model


def save_too_new(path, **fields):
    model = onnx.load(save_brightness_model(path))
    model.ir_version = fields.get("ir", model.ir_version)
    if "domain" in fields:
        model.opset_import.append(onnx.helper.make_opsetid(fields["domain"], fields["opset"]))
    elif "opset" in fields:
        model.opset_import[0].version = fields["opset"]
    path.write_bytes(model.SerializeToString())
    return path


@pytest.mark.parametrize(
    ("fields", "had", "takes"),
    [
        ({"ir": 99}, "IR version 99", "IR version "),
        ({"opset": 99}, "opset 99 of ai.onnx", "opset "),
        ({"opset": 99, "domain": "ai.onnx.ml"}, "opset 99 of ai.onnx.ml", "opset "),
        ({"ir": 99, "opset": 99}, "IR version 99", "IR version "),
    ],
)
def test_a_model_that_is_too_new_says_which_version_is_taken(tmp_path, fields, had, takes):
    path = save_too_new(tmp_path / "new.onnx", **fields)
    with pytest.raises(ModelError) as caught:
        open_session(path, "auto", 1)
    message = str(caught.value)
    assert (
        f"received new.onnx, which onnxruntime {onnxruntime.__version__} cannot load: " in message
    )
    assert f"the model has {had}, and this onnxruntime takes {takes}" in message
    assert "at most; update it (pip install --upgrade onnxruntime), or export" in message


def test_what_it_takes_is_right():
    text = (
        "[ONNXRuntimeError] : 1 : FAIL : Load model from m.onnx failed:/onnxruntime_src/"
        "onnxruntime/core/graph/model_load_utils.h:46 void onnxruntime::model_load_utils::"
        "ValidateOpsetForDomain(const std::unordered_map<std::__cxx11::basic_string<char>, int>&, "
        "const onnxruntime::logging::Logger&, bool, const std::string&, int) ONNX Runtime only "
        "*guarantees* support for models stamped with official released onnx opset versions. "
        "Opset 23 is under development and support for this is limited. The operator schemas and "
        "or other functionality may change before next ONNX release and in this case ONNX Runtime "
        "will not guarantee backward compatibility. Current official support for domain ai.onnx "
        "is till opset 21."
    )
    assert ort_reason(RuntimeError(text)).startswith(
        "the model has opset 23 of ai.onnx, and this onnxruntime takes opset 21 at most"
    )


def test_where_in_its_source_it_says_so_is_left_out():
    text = (
        "/onnxruntime_src/onnxruntime/python/onnxruntime_pybind_state.cc:729 void onnxruntime::"
        "python::RegisterTensorRTPluginsAsCustomOps(PySessionOptions&, const onnxruntime::"
        "ProviderOptions&) Please install TensorRT libraries.\n"
    )
    assert ort_reason(RuntimeError(text)) == "Please install TensorRT libraries."


def test_the_end_of_a_long_reason_stays():
    reason = ort_reason(RuntimeError(f"[ONNXRuntimeError] : 1 : FAIL : In Node {'x' * 9999}: why"))
    assert reason.startswith("In Node xxx") and reason.endswith("xxx: why")
    assert len(reason) < 1100


def test_an_error_without_words_is_named_by_its_kind():
    assert ort_reason(MemoryError()) == "MemoryError"
