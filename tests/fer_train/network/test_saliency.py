"""Where networks look: on networks whose output hangs on one known place of the image."""

import numpy as np
import pytest

pytestmark = pytest.mark.tensorflow


def corner_net(softmax_in_dense=False):
    """Answer 1 the surer, the brighter the upper left quarter is; 0 by the lower right one."""
    from fer_train.network._keras import keras

    image = keras.Input((48, 48, 1))
    x = keras.layers.Conv2D(1, 1, activation="relu", name="map")(image)
    x = keras.layers.AveragePooling2D(24)(x)
    x = keras.layers.Flatten()(x)
    if softmax_in_dense:
        answers = keras.layers.Dense(2, activation="softmax", name="last")(x)
    else:
        answers = keras.layers.Softmax()(keras.layers.Dense(2, name="last")(x))
    net = keras.Model(image, answers)
    net.get_layer("map").set_weights([np.ones((1, 1, 1, 1)) / 255, np.zeros(1)])
    # Upper left, upper right, lower left, lower right.
    net.get_layer("last").set_weights([np.array([[0, 1], [0, 0], [0, 0], [1, 0]]), np.zeros(2)])
    return net


@pytest.mark.parametrize("softmax_in_dense", [False, True])
def test_warm_is_what_speaks_for_the_class(softmax_in_dense):
    from fer_train.network.saliency import grad_cam

    rng = np.random.default_rng(0)
    images = np.stack([np.zeros((48, 48)), rng.integers(0, 256, (48, 48))]).astype(np.uint8)
    images[0, :24, :24] = 200
    maps = grad_cam(corner_net(softmax_in_dense), images, np.array([1, 1]))
    assert maps.shape == (2, 48, 48) and maps.dtype == np.float32
    assert maps.min() >= 0 and maps.max() == pytest.approx(1)
    # One channel: warm where it is bright, as Grad-CAM's mean slope is above 0 for class 1.
    if not softmax_in_dense:
        assert maps[0, :20, :20].min() > 0.9
    assert maps[0, 28:, 28:].max() == pytest.approx(0, abs=1e-6)


def test_a_network_in_a_network_is_looked_into_and_left_as_it_was():
    from fer_train.network.models import build_model, predict
    from fer_train.network.saliency import grad_cam, last_features
    from fer_train.run.recipes import recipe_for

    images = np.random.default_rng(1).integers(0, 256, (3, 48, 48)).astype(np.uint8)
    net = build_model("edge", recipe_for("modern", "edge"), 7)
    before = predict(net, images)
    maps = grad_cam(net, images, before.argmax(axis=1))
    assert maps.shape == (3, 48, 48) and np.isfinite(maps).all()
    features = last_features(net, images)
    assert features.shape == (3, 256)
    logits = features @ net.get_layer("head").get_layer("logits").get_weights()[0]
    odds = np.exp(logits + net.get_layer("head").get_layer("logits").get_weights()[1])
    assert odds / odds.sum(axis=1, keepdims=True) == pytest.approx(before, abs=1e-4)
    assert predict(net, images) == pytest.approx(before, abs=1e-6)


def test_a_network_without_maps_has_none():
    from fer_train.network._keras import keras
    from fer_train.network.saliency import grad_cam, last_features

    image = keras.Input((48, 48, 1))
    net = keras.Model(image, keras.layers.Softmax()(keras.layers.Flatten()(image)))
    assert grad_cam(net, np.zeros((1, 48, 48), np.uint8), np.array([0])) is None
    assert last_features(net, np.zeros((1, 48, 48), np.uint8)) is None


def test_a_gradient_is_that_of_the_function():
    from fer_train.network._keras import keras
    from fer_train.network.device import gradient

    point = np.array([[1.0, 2.0], [3.0, -1.0]], np.float32)
    found = gradient(lambda x: keras.ops.sum(x**3), point)
    assert found == pytest.approx(3 * point**2)
