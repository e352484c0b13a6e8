"""An architecture of your own: a small residual network, with a layer that Keras does not have.

    fer-train all --model-file net.py:build --data FOLDER --color rgb --image-size 64

trains it on colour pictures of any size, FOLDER/happy/1.jpg and so on, and exports net.onnx.
"""

import keras
from keras import layers


@keras.saving.register_keras_serializable(package="own_architecture")
class ChannelGate(layers.Layer):
    """Weighs channels by what the whole picture holds (Hu et al., Squeeze-and-Excitation, 2018)."""

    def build(self, input_shape):
        """Make the weights, so that they are there when a saved model is read."""
        self.dense = layers.Dense(input_shape[-1], activation="sigmoid", dtype=self.dtype_policy)
        self.dense.build((None, input_shape[-1]))

    def call(self, inputs):
        """Weigh (N, height, width, channels)."""
        return inputs * self.dense(keras.ops.mean(inputs, axis=(1, 2)))[:, None, None, :]


def block(x, width):
    """Halve the picture; add what two convolutions see in it."""
    shortcut = layers.Conv2D(width, 1, strides=2, use_bias=False)(x)
    x = layers.Conv2D(width, 3, strides=2, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    x = layers.ReLU()(x)
    x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
    x = layers.BatchNormalization(momentum=0.9)(x)
    return layers.ReLU()(layers.Add()([shortcut, ChannelGate()(x)]))


def build(input_shape, classes):
    """Return the model.

    Args:
        input_shape: (height, width, channels) of a picture, levels 0-255.
        classes: How many classes it tells apart.
    """
    picture = keras.Input(input_shape)
    x = layers.Rescaling(1 / 127.5, offset=-1)(picture)
    for width in (32, 64, 128):
        x = block(x, width)
    x = layers.GlobalAveragePooling2D()(x)
    return keras.Model(picture, layers.Dense(classes, activation="softmax")(x))
