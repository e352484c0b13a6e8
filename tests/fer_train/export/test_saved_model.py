"""TensorFlow SavedModels become ONNX as Keras files do."""

import numpy as np
import pytest

from fer_edge.inference.classifier import Classifier
from fer_train.network._keras import keras
from tests.support.trainer import invoke

pytestmark = pytest.mark.tensorflow

LABELS = ("bored", "engaged", "confused")


def save(folder, outputs=1):
    keras.utils.set_random_seed(0)
    image = keras.Input((32, 40, 3))
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(image)
    x = keras.layers.BatchNormalization()(x)
    x = keras.layers.GlobalAveragePooling2D()(x)
    answers = [keras.layers.Dense(3)(x) for _ in range(outputs)]
    net = keras.Model(image, answers[0] if outputs == 1 else answers)
    net.export(folder, verbose=False)
    return net


def test_a_saved_model_answers_as_it_did(tmp_path):
    net = save(tmp_path / "own.v2")
    flags = ("--labels", ",".join(LABELS), "--color", "rgb", "--range", "0,1")
    flags += ("--outputs", "logits", "--export-dir", tmp_path / "exported")
    result = invoke("export", tmp_path / "own.v2", *flags)
    assert result.exit_code == 0, result.output
    model = Classifier(tmp_path / "exported" / "own.v2.onnx", detector="none")
    assert (model.spec.labels, model.spec.input_size) == (LABELS, (32, 40))
    levels = np.random.default_rng(0).integers(0, 256, (5, 32, 40, 3)).astype(np.float32)
    expected = keras.ops.softmax(net.predict(levels / 255, verbose=0))
    np.testing.assert_allclose(model.probabilities(levels), expected, atol=1e-5)


def test_what_a_saved_model_cannot_be_is_told(tmp_path):
    save(tmp_path / "two", outputs=2)
    flags = ("--labels", ",".join(LABELS), "--export-dir", tmp_path / "exported")
    result = invoke("export", tmp_path / "two", *flags)
    assert result.exit_code == 1
    assert "of one input and one output" in result.stderr
    (tmp_path / "two" / "saved_model.pb").write_bytes(b"damaged")
    result = invoke("export", tmp_path / "two", *flags)
    assert result.exit_code == 1
    assert "Expected a Keras model at" in result.stderr
    assert invoke("export", tmp_path / "two", *flags, "--keras").exit_code == 2
    assert not (tmp_path / "exported").exists()
