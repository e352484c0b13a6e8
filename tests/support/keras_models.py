"""Small Keras classifiers of seven classes, with weights as if trained."""

from pathlib import Path

import numpy as np

from fer_train.network._keras import keras


def tiny_net(*, negative_scale: bool = False, seed: int = 0) -> keras.Model:
    """Build a net with all that the rewrites know, its weights as if trained."""
    layers = keras.layers
    image = keras.Input((48, 48, 1), name="image", dtype="float32")
    x = layers.Concatenate()([image, image, image])
    x = layers.Rescaling(1 / 127.5, offset=[-1.0, -0.9, -1.1])(x)
    x = layers.Conv2D(4, 3, padding="same")(x)
    x = layers.BatchNormalization()(x)
    x = layers.ReLU()(x)
    x = layers.ZeroPadding2D(1)(x)
    x = layers.MaxPooling2D(3, 2)(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.BatchNormalization(name="padded")(x)
    x = layers.MaxPooling2D(2)(x)
    skip = layers.Conv2D(6, 1)(x)
    x = layers.Conv2D(6, 3, padding="same", activation="relu")(x)
    x = layers.Add()([x, skip])
    x = layers.Conv2D(5, 3, activation="relu")(x)
    x = layers.BatchNormalization(name="unpadded")(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Flatten()(x)
    x = layers.Dense(8, activation="relu")(x)
    x = layers.Dense(7)(x)
    net = keras.Model(image, layers.Softmax(dtype="float32")(x))
    rng = np.random.default_rng(seed)
    weights = []
    for weight in net.weights:
        value = rng.normal(0, 0.3, weight.shape)
        if weight.path.endswith(("gamma", "moving_variance")):
            value = rng.uniform(0.5, 1.5, weight.shape)
        if negative_scale and weight.path == "padded/gamma":
            value[0] = -1
        weights.append(value.astype(np.float32))
    net.set_weights(weights)
    return net


def save_net(path: Path, shape: tuple[int, ...] = (48, 48, 1), *, ends: str = "softmax") -> Path:
    """Write a small classifier of seven classes; its weights are the same each time."""
    image = keras.Input(shape)
    x = keras.layers.Conv2D(4, 3, strides=4, activation="relu")(image)
    x = keras.layers.Flatten()(x)
    net = keras.Model(image, keras.layers.Dense(7, activation=ends or None)(x))
    rng = np.random.default_rng(0)
    # Weights for levels of -1 to 1 or 0 to 255 alike: answers must differ between the two.
    net.set_weights([rng.normal(0, 0.02, w.shape).astype(np.float32) for w in net.get_weights()])
    net.save(path)
    return path
