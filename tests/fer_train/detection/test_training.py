from typing import ClassVar

import numpy as np
import pytest

from fer_edge.errors import DivergedError, RunError
from fer_train.detection.network import build_detector, load_weights, save_weights
from fer_train.detection.pictures import FACE, Picture
from fer_train.detection.settings import recipe_of
from fer_train.detection.tiles import PictureTable, TileMaker
from fer_train.detection.training import DetectorTraining, train
from fer_train.network._keras import keras
from tests.support.faces import draw_face, ground, png

pytestmark = pytest.mark.tensorflow


def drawn(name, face):
    frame = ground(len(name), 80, 80)
    rows = np.zeros((0, 15), np.float32)
    if face:
        points = draw_face(frame, (25, 20, 30, 40))
        rows = np.array([[25, 20, 55, 60, *points, FACE]], np.float32)
    return Picture(name, png(frame), rows, empty=not face)


def build(**settings):
    keras.utils.set_random_seed(0)
    tiny = {"precision": "float32", "batch": 2, "size": 32, "steps": 4}
    # Fewer operations, each of which takes its time where they are not compiled.
    plain = dict.fromkeys(("mosaic", "blurred", "noisy", "compressed"), 0.0)
    recipe = recipe_of(tiny | plain | settings)
    table = PictureTable([drawn("a", True), drawn("bc", False)])
    tiles = TileMaker(table, recipe.tiles, recipe.training.batch, 0)
    return DetectorTraining(build_detector(), tiles, recipe)


@pytest.mark.usefixtures("eagerly")
def test_a_training_goes_on_from_its_state_as_if_it_had_never_ended():
    whole, copies, states = build(rate=1e-2), [], []
    start = save_weights(whole.network)
    train(whole, 2, lambda row: (copies.append(row), states.append(whole.state())))
    assert [row["step"] for row in copies] == [1, 2]
    assert all(np.isfinite(row["loss"]) for row in copies)

    # The running mean follows the weights, and has the names that the network takes.
    now, mean, name = save_weights(whole.network), whole.mean_weights(), "stem_0_conv/kernel"
    assert 0 < np.abs(mean[name] - now[name]).mean() < np.abs(now[name] - start[name]).mean()
    load_weights(build_detector(), mean)

    other, rows = build(rate=1e-2), []
    other.restore(states[0])
    assert other.done == 1
    train(other, 2, rows.append)
    assert rows[0]["loss"] == pytest.approx(copies[1]["loss"], rel=1e-5)
    for name, array in other.state().items():
        np.testing.assert_allclose(array, states[1][name], rtol=1e-4, atol=1e-6, err_msg=name)

    with pytest.raises(RunError, match="state of this training, received none for weight_000"):
        other.restore({})


def test_what_is_learnt_from_a_loss_that_is_no_number_is_given_up(monkeypatch):
    training, kept, randoms = build(), [], []
    start = training.state()

    class Diverged:
        history: ClassVar = {"loss": [float("nan")]}

    def fit(*_, **__):
        randoms.append(training.state()["random_000"].tolist())
        training.network.weights[0].assign(training.network.weights[0] * np.nan)
        training.tiles.seeds.next()
        return Diverged

    monkeypatch.setattr(training, "fit", fit)
    with pytest.raises(DivergedError, match=r"not a number.*--precision float32"):
        train(training, 2, kept.append)
    assert not kept
    # Each time from the last good weights, with other tiles.
    assert len(set(map(tuple, randoms))) == 3
    # As before, so that it can go on in another precision.
    np.testing.assert_array_equal(training.state()["weight_000"], start["weight_000"])


def test_the_rate_rises_and_falls_as_a_cosine():
    training = build(steps=1000, rate=1.0, end_rate=0.1)
    rates = []
    for step in (0, 100, 200, 600, 1000):
        training.optimizer.iterations.assign(step)
        rates.append(float(keras.ops.convert_to_numpy(training.optimizer.learning_rate)))
    np.testing.assert_allclose(rates, [0.005, 0.5025, 1, 0.55, 0.1], atol=1e-5)


@pytest.mark.slow
def test_boxes_get_better():
    training, rows = build(batch=4, size=64, rate=1e-2, steps=48), []
    train(training, 48, rows.append)
    assert rows[-1]["boxes"] < rows[0]["boxes"] - 0.15
