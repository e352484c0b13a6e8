import cv2
import numpy as np
import pytest

from fer_train.detection.network import build_detector, load_weights, save_weights
from fer_train.detection.pictures import FACE, Picture
from fer_train.detection.tiles import PictureTable, TileMaker, TileSettings
from fer_train.detection.training import DetectorSettings, DetectorTraining, train
from fer_train.network._keras import keras

pytestmark = pytest.mark.tensorflow


def drawn(name, face):
    frame = np.full((80, 80, 3), 90, np.uint8)
    rows = np.zeros((0, 15), np.float32)
    if face:
        cv2.ellipse(frame, (40, 40), (15, 20), 0, 0, 360, (150, 180, 220), -1)
        cv2.circle(frame, (34, 34), 3, (0, 0, 0), -1)
        cv2.circle(frame, (46, 34), 3, (0, 0, 0), -1)
        rows = np.array([[25, 20, 55, 60, 34, 34, 46, 34, 40, 42, 35, 50, 45, 50, FACE]])
    encoded = cv2.imencode(".png", frame)[1].tobytes()
    return Picture(name, encoded, rows.astype(np.float32), empty=not face)


@pytest.fixture(scope="module")
def trained():
    keras.utils.set_random_seed(0)
    table = PictureTable([drawn("a", True), drawn("b", False)], workers=1)
    settings = DetectorSettings(batch=4, round_steps=8, rate=1e-2)
    net = build_detector()
    start = save_weights(net)
    training = DetectorTraining(net, TileMaker(table, TileSettings(size=64), 4, 0), settings)
    lines, copies = [], []
    steps = train(training, 600, lines.append, copies.append, steps=48, report_s=0, keep_s=0)
    return training, start, lines, copies, steps


def boxes_of(line):
    words = line.split()
    return float(words[words.index("boxes") + 1])


def test_training_ends_after_its_steps_and_reports_how_its_boxes_get_better(trained):
    _, _, lines, copies, steps = trained
    assert steps == 48
    losses = [boxes_of(line) for line in lines if " boxes " in line]
    assert len(losses) == 6
    assert losses[-1] < losses[0] - 0.2
    # After each round but the last, and at the end.
    assert len(copies) == 6


def test_the_running_mean_follows_the_weights_and_fits_the_network(trained):
    training, start, _, copies, _ = trained
    now, mean = save_weights(training.network), copies[-1]
    name = "stem_0_conv/kernel"
    assert not np.allclose(now[name], start[name])
    behind = np.abs(mean[name] - now[name]).mean()
    assert 0 < behind < np.abs(now[name] - start[name]).mean()
    # The tiles' own tables are no weights of the network.
    load_weights(build_detector(), mean)


def test_it_goes_back_to_a_copy_when_asked(trained):
    training, _, _, copies, _ = trained
    training.begin_again(copies[0])
    for name, array in save_weights(training.network).items():
        np.testing.assert_array_equal(array, copies[0][name])
    for name, array in training.mean_weights().items():
        np.testing.assert_array_equal(array, copies[0][name])


def test_time_ends_a_training():
    table = PictureTable([drawn("a", True), drawn("b", False)], workers=1)
    settings = DetectorSettings(batch=2, round_steps=2)
    training = DetectorTraining(
        build_detector(), TileMaker(table, TileSettings(size=32), 2, 0), settings
    )
    copies = []
    assert train(training, 0.0, lambda line: None, copies.append) == 2
    assert len(copies) == 1
