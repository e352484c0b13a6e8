"""The shipped Keras and ONNX files of the face detector answer alike."""

from pathlib import Path

import numpy as np
import pytest

from fer_edge.image.read import read_image
from fer_edge.inference.detectors import OnnxDetector
from fer_train.detection.export import PLACE_TOLERANCE, SCORE_TOLERANCE, differences
from fer_train.network._keras import keras

pytestmark = pytest.mark.tensorflow

EXPORTED = Path("exported")


def test_the_shipped_files_answer_alike():
    net = keras.saving.load_model(EXPORTED / "face.keras", compile=False)
    sample = read_image(Path("tests/data/portrait.jpg"))[None, :352, :416].astype(np.float32)
    answers = net(sample, training=False)
    expected = [np.moveaxis(keras.ops.convert_to_numpy(cells), 3, 1) for cells in answers]
    found = differences(OnnxDetector(EXPORTED / "face.onnx", provider="cpu"), sample, expected)
    assert found.scores <= SCORE_TOLERANCE
    assert found.places <= PLACE_TOLERANCE
