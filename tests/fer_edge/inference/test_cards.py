"""What is done for graphics cards, shown on the processor as far as that goes."""

import numpy as np
import pytest

from fer_edge import Classifier
from fer_edge.inference import classifier as classifier_module
from fer_edge.inference import session as session_module
from fer_edge.inference.session import Session
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
