"""What is done for graphics cards, shown on the processor as far as that goes."""

import pickle

import numpy as np
import pytest

from fer_edge import Classifier
from fer_edge.inference import classifier as classifier_module
from fer_edge.inference import session as session_module
from fer_edge.inference.session import Session
from fer_train.export.quantize import convert_fp16
from tests.support.tiny_onnx import save_tiny_onnx


@pytest.fixture
def path(tmp_path):
    return save_tiny_onnx(tmp_path / "tiny.onnx")


@pytest.fixture
def processor_as_card(monkeypatch):
    """Let the processor count as a graphics card."""
    for module in (session_module, classifier_module):
        monkeypatch.setattr(module, "CARDS", frozenset({"cpu"}))


def test_bound_inputs_and_outputs_give_the_same_answers(path):
    session = session_module.open_session(path, "cpu", 1)
    bound = Session(session.file, session.provider, session._session, bound=True)
    images = np.random.default_rng(0).uniform(0, 255, (3, 48, 48, 1)).astype(np.float32)
    assert not session.bound
    for batch in (images, images[:1], images[::-1]):
        (expected,), (found,) = session.run(batch), bound.run(batch)
        assert np.array_equal(found, expected)


def test_a_card_gets_larger_batches_and_sees_them_before_the_first_picture(
    path, processor_as_card, monkeypatch
):
    seen = []
    run = Session.run

    def watch(self, batch, outputs=()):
        seen.append((self.bound, len(batch)))
        return run(self, batch, outputs)

    monkeypatch.setattr(Session, "run", watch)
    classify = Classifier(path, detector="none")
    assert classify.batch_size == 256
    assert sorted(seen) == [(True, 1), (True, 256)]
    assert Classifier(path, detector="none", batch_size=8).batch_size == 8


def test_a_processor_gets_small_batches_and_no_warming_up(path, monkeypatch):
    monkeypatch.setattr(Session, "run", lambda *arguments: pytest.fail("nobody has asked"))
    assert Classifier(path, detector="none").batch_size == 64


@pytest.fixture
def half(path, monkeypatch):
    """The float16 form of the model, in the folder where names are looked for."""
    monkeypatch.chdir(path.parent)
    half = path.with_suffix(".fp16.onnx")
    batch = np.random.default_rng(0).uniform(0, 255, (8, 48, 48, 1)).astype(np.float32)
    convert_fp16(path, half, batch)
    return half


def test_on_a_card_a_model_that_is_not_named_in_full_runs_in_float16(half, processor_as_card):
    classify = Classifier("tiny", detector="none")
    assert (classify.model_path.name, classify.spec.precision) == ("tiny.fp16.onnx", "fp16")
    assert pickle.loads(pickle.dumps(classify)).model_path == half.resolve()
    for model in ("tiny.onnx", half.with_name("tiny.onnx")):
        assert Classifier(model, detector="none").spec.precision == "fp32"


def test_on_a_processor_the_float16_form_runs_only_when_it_is_named(half):
    assert Classifier("tiny", detector="none").spec.precision == "fp32"
    assert Classifier("tiny.fp16", detector="none").spec.precision == "fp16"


def test_the_float16_form_of_another_model_is_left_alone(half, processor_as_card, caplog):
    save_tiny_onnx(half.with_name("tiny.onnx"), shift=1.0)
    assert Classifier("tiny", detector="none").spec.precision == "fp32"
    assert "tiny.fp16.onnx was made from another tiny.onnx" in caplog.text
