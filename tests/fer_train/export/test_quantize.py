"""int8 and fp16: what is written, and what the gates refuse."""

import hashlib
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest

from fer_edge.errors import ExportError
from fer_edge.inference.classifier import Classifier
from fer_train.data.synthetic import synthetic_faces
from fer_train.export import quantize
from fer_train.export.channels_last import for_channels_last
from fer_train.export.held_out import HeldOut, open_file
from fer_train.export.quantize import (
    Calibration,
    Quantised,
    convert_fp16,
    quantize_int8,
    total_variation,
)
from fer_train.export.simplify import operators
from tests.support.made_votes import drawn_votes
from tests.support.tiny_onnx import save_tiny_onnx

IMAGES, _ = synthetic_faces(140)
CALIBRATIONS = (Calibration(100, 16), Calibration(99.9, 32))


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    return save_tiny_onnx(tmp_path / "tiny.onnx")


@pytest.fixture(autouse=True)
def lenient(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let any speed and loss pass: this net is small, and its random answers are near ties."""
    monkeypatch.setattr(quantize, "LEAST_SPEEDUP", 0.0)
    monkeypatch.setattr(quantize, "LARGEST_LOSS", 1.0)


def to_int8(parent: Path, **options: object) -> Quantised:
    fp32 = open_file(parent)
    labels = fp32.probabilities(batch(IMAGES)).argmax(axis=1)
    held_out = HeldOut("drawn faces", IMAGES[100:], labels[100:])
    settings = {"calibrations": CALIBRATIONS, "least_images": 40} | options
    path = parent.with_name("tiny.int8.onnx")
    return quantize_int8(fp32, path, IMAGES[:100], held_out, **settings)


def batch(images: np.ndarray) -> np.ndarray:
    return images.astype(np.float32)[..., None]


def test_int8_keeps_the_contract_and_names_its_parent(parent: Path) -> None:
    made = to_int8(parent)
    small, large = (Classifier(path, detector="none") for path in (made.path, parent))
    assert small.spec.precision == "int8"
    assert small.spec.parent == hashlib.sha256(parent.read_bytes()).hexdigest()
    assert small.spec.labels == large.spec.labels
    found, wanted = (model.probabilities(batch(IMAGES)) for model in (small, large))
    assert 0 < np.abs(found - wanted).max() < 0.1


def test_int8_is_compared_with_its_parent(parent: Path) -> None:
    made = to_int8(parent)
    small, large = (Classifier(path, detector="none") for path in (made.path, parent))
    found, wanted = (model.probabilities(batch(IMAGES)) for model in (small, large))
    assert made.images == 40
    assert made.parent_accuracy == 1.0
    # What stands for a comparison where the fp32 file does not ship.
    differences = np.abs(found - wanted)[100:]
    assert made.largest_difference == pytest.approx(differences.max(), rel=1e-5)
    assert made.mean_difference == pytest.approx(differences.mean(), rel=1e-5)
    assert made.equal_predictions == made.accuracy


def test_the_nearest_calibration_is_taken(parent: Path) -> None:
    made = to_int8(parent)
    assert set(made.distance) == set(map(str, CALIBRATIONS))
    assert made.distance[str(made.calibration)] == min(made.distance.values())


@pytest.mark.parametrize(("reduce_range", "limit"), [(False, 127), (True, 64)])
def test_int8_weights_stay_within_their_bits(parent: Path, reduce_range: bool, limit: int) -> None:
    file = onnx.load(to_int8(parent, reduce_range=reduce_range).path)
    assert {opset.domain for opset in file.opset_import} == {""}
    assert "Relu" not in operators(file)  # quantising to U8 clips at 0 by itself
    weights = [onnx.numpy_helper.to_array(value) for value in file.graph.initializer]
    levels = [np.abs(value.astype(int)).max() for value in weights if value.dtype == np.int8]
    # Each layer uses its range to the end.
    assert limit - 1 <= max(levels) <= limit


def test_integer_kernels_follow_one_another(parent: Path) -> None:
    made = to_int8(parent)
    file = onnx.load(made.path)
    (first,) = (node for node in file.graph.node if "image" in node.input)
    assert first.op_type == "Concat"
    weights = next(
        onnx.numpy_helper.to_array(value)
        for value in file.graph.initializer
        if value.data_type == onnx.TensorProto.INT8 and len(value.dims) == 4
    )
    assert weights.shape[1] == 4
    assert not weights[:, 1:].any()
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(parent.with_name("run.onnx"))
    options.log_severity_level = 3
    onnxruntime.InferenceSession(str(made.path), options, providers=["CPUExecutionProvider"])
    kinds = operators(onnx.load(options.optimized_model_filepath))
    assert kinds["QLinearConv"] == 2
    assert "Transpose" not in kinds


def test_layout_changes_keep_the_function(parent: Path) -> None:
    changed = parent.with_name("changed.onnx")
    onnx.save_model(for_channels_last(onnx.load(parent)), changed)
    assert operators(onnx.load(changed))["Transpose"] == 2
    answers, wanted = (
        Classifier(path, detector="none").probabilities(batch(IMAGES)) for path in (changed, parent)
    )
    assert np.abs(answers - wanted).max() < 1e-6


def test_int8_takes_grey_levels_as_they_are(parent: Path) -> None:
    file = onnx.load(to_int8(parent).path)
    constants = {t.name: onnx.numpy_helper.to_array(t) for t in file.graph.initializer}
    first = next(node for node in file.graph.node if node.op_type == "QuantizeLinear")
    assert [constants[name].item() for name in first.input[1:]] == [1.0, 0]
    assert "Mul" not in operators(file)


def test_int8_of_too_few_judges_is_refused(parent: Path) -> None:
    with pytest.raises(ExportError, match=r"at least 100 real images .* received 40"):
        to_int8(parent, least_images=quantize.LEAST_IMAGES)
    assert [path.name for path in parent.parent.iterdir()] == ["tiny.onnx"]


def test_int8_that_loses_accuracy_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "LARGEST_LOSS", -1.1)
    with pytest.raises(ExportError, match=r"of top-1 lost, received .* on 40 images"):
        to_int8(parent)
    assert [path.name for path in parent.parent.iterdir()] == ["tiny.onnx"]


def test_fewer_judges_allow_more_as_their_noise_does(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "LARGEST_LOSS", 0.005)
    assert quantize.allowed_loss(3000) == quantize.allowed_loss(30_000) == 0.005
    assert quantize.allowed_loss(750) == pytest.approx(0.01)
    labels = np.zeros(400, np.int64)
    held_out = HeldOut("drawn faces", np.zeros((400, 48, 48), np.uint8), labels)
    right, wrong = np.float32([[1, 0]]), np.float32([[0, 1]])
    before = np.repeat(right, 400, axis=0)
    after = before.copy()
    after[:4] = wrong
    # Of 400 paired differences four are 1: the normal interval of their mean.
    lost, half = held_out.lost(before, after)
    assert lost == pytest.approx(0.01)
    assert half == pytest.approx(1.96 * np.sqrt(0.01 * 0.99 / 400))
    assert held_out.lost(before, before) == (0.0, 3 / 400)
    assert held_out.lost(after, before)[0] == pytest.approx(-0.01)


def test_int8_that_is_not_faster_is_refused(parent: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(quantize, "LEAST_SPEEDUP", 1e6)
    with pytest.raises(ExportError, match=r"the speed of its fp32 .* received \d.*export on one"):
        to_int8(parent)
    assert [path.name for path in parent.parent.iterdir()] == ["tiny.onnx"]


def test_fp16_keeps_the_contract(parent: Path) -> None:
    path = parent.with_name("tiny.fp16.onnx")
    assert convert_fp16(parent, path, batch(IMAGES)) <= quantize.HALF_TOLERANCE
    model = Classifier(path, detector="none")
    assert model.spec.precision == "fp16"
    assert model.spec.parent == hashlib.sha256(parent.read_bytes()).hexdigest()
    assert path.stat().st_size < 0.6 * parent.stat().st_size


def test_fp16_that_answers_differently_is_refused(
    parent: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(quantize, "HALF_TOLERANCE", 0.0)
    with pytest.raises(ExportError, match="between fp16 and fp32"):
        convert_fp16(parent, parent.with_name("tiny.fp16.onnx"), batch(IMAGES))
    assert [path.name for path in parent.parent.iterdir()] == ["tiny.onnx"]


def test_the_distance_of_answers_is_that_of_their_masses() -> None:
    rows = np.asarray([[0.2, 0.8], [0.5, 0.5]], np.float32)
    assert total_variation(rows, rows) == 0
    # 0.6 of the first row's mass is elsewhere, and none of the second's.
    assert total_variation(rows, rows[:, ::-1]) == pytest.approx(0.3)
    sure = np.asarray([[1, 0]], np.float32)
    assert total_variation(sure, sure[:, ::-1]) == 1


def test_the_gate_goes_by_agreement_where_votes_are_known(parent: Path, monkeypatch) -> None:
    votes = np.zeros((40, 10), np.int64)
    votes[:, :7] = drawn_votes(40)
    fp32 = open_file(parent)
    probabilities = fp32.probabilities(batch(IMAGES[100:]))
    labels = probabilities.argmax(axis=1)
    held_out = HeldOut("drawn faces", IMAGES[100:], labels, votes=votes)
    agreed = (votes[np.arange(40), labels] / 10).mean()
    assert held_out.score(probabilities) == ("agreement with a rater", pytest.approx(agreed))
    without = HeldOut("drawn faces", IMAGES[100:], labels, votes=np.zeros_like(votes))
    assert without.score(probabilities) == ("top-1", 1.0)
    settings = {"calibrations": CALIBRATIONS, "least_images": 40}
    path = parent.with_name("tiny.int8.onnx")
    made = quantize_int8(fp32, path, IMAGES[:100], held_out, **settings)
    assert made.parent_agreement == pytest.approx(agreed)
    assert (made.parent_accuracy, made.images) == (1.0, 40)
    path.unlink()
    monkeypatch.setattr(quantize, "LARGEST_LOSS", -1.0)
    with pytest.raises(ExportError, match=r"at most -866\.0% of agreement with a rater lost"):
        quantize_int8(fp32, path, IMAGES[:100], held_out, **settings)
    assert not path.exists()
