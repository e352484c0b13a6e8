"""Model names -> Keras models.

In: float32 (N, 48, 48, 1), grey, 0-255. Out: float32 (N, K) probabilities.
Whatever a model needs between the pixels and its first convolution is inside it. Each model is
two parts, ``backbone`` and ``head``, so that a frozen backbone's features can be computed once.
"""

import logging
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import IMAGE_SIZE, INPUT_NAME, OUTPUT_NAME
from fer_edge.errors import DataError, RunError
from fer_train.network._keras import keras
from fer_train.network.device import PREDICTION_BATCH
from fer_train.run.recipes import Recipe

layers = keras.layers
_log = logging.getLogger(__name__)


# Keras's "caffe" preprocessing: ImageNet's mean colour in BGR order, pixel levels 0-255.
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

BACKBONE = "backbone"
_WHOLE_MODEL = ".keras"
HEAD = "head"
LOGITS = "logits"
_LONGEST_REASON = 300
"""Letters of Keras's own words in a message."""


class FusedBatchNormalization(keras.layers.BatchNormalization):  # type: ignore[misc]
    """Keras's batch normalisation, trained by TensorFlow's one fused kernel.

    Keras composes it of many operations, whose passes over memory take as long as the convolutions
    of a small model on processors. The same function but for rounding, and for the moving variance,
    which is that of a sample (Bessel's correction). Other back ends fuse by themselves.
    """

    def call(self, inputs: Any, training: bool | None = None, mask: Any = None) -> Any:
        """Normalise (N, height, width, channels)."""
        # Frozen, it normalises by what it has learnt, as Keras's own does.
        learns = training and self.trainable
        if not learns or keras.backend.backend() != "tensorflow":
            return super().call(inputs, training=training, mask=mask)
        from tensorflow import raw_ops, zeros

        output = raw_ops.FusedBatchNormV3(
            x=inputs,
            scale=keras.ops.cast(self.gamma, "float32"),
            offset=keras.ops.cast(self.beta, "float32"),
            mean=zeros([0]),
            variance=zeros([0]),
            epsilon=self.epsilon,
            is_training=True,
        )
        for moving, now in (
            (self.moving_mean, output.batch_mean),
            (self.moving_variance, output.batch_variance),
        ):
            moving.assign(self.momentum * moving + (1 - self.momentum) * now)
        return output.y


def build_model(name: str, recipe: Recipe, classes: int, *, fused: bool = False) -> keras.Model:
    """Build an uncompiled model.

    Args:
        name: ``sequential``, ``vgg16``, ``resnet50`` or ``edge``.
        recipe: Settings; of these ``preprocessing``, ``weights``, ``normalization``, ``head`` and
            ``l2`` shape the model.
        classes: Number of emotions.
        fused: Let `FusedBatchNormalization` take the place of Keras's own in our models: for
            training, not for a file, which would need this package to be read.

    Returns:
        A functional model with the layers ``backbone`` and ``head``.

    Raises:
        DataError: The pretrained weights cannot be had or do not fit.
        RunError: The model to go on from cannot be read or is another.
    """
    image = keras.Input((IMAGE_SIZE, IMAGE_SIZE, 1), name=INPUT_NAME, dtype="float32")
    x = image if recipe.preprocessing == "imagenet" else _scale(recipe)(image)
    normalization = FusedBatchNormalization if fused else layers.BatchNormalization
    if name == "sequential":
        features = _sequential_backbone(x, recipe, normalization)
    elif name == "edge":
        features = _edge_backbone(x, normalization)
    elif recipe.normalization == "batch":
        features = _normalized_vgg16(x, normalization)
    else:
        features = _pretrained_backbone(name, x, recipe)
    backbone = keras.Model(image, features, name=BACKBONE)

    features_in = keras.Input(features.shape[1:], name="features")
    x = _HEADS[name](features_in, recipe)
    x = layers.Dense(classes, name=LOGITS)(x)
    # Softmax in bfloat16 would round probabilities to two digits.
    probabilities = layers.Softmax(name=OUTPUT_NAME, dtype="float32")(x)
    head = keras.Model(features_in, probabilities, name=HEAD)
    net = keras.Model(image, head(backbone(image)), name=name)
    if recipe.weights.endswith(_WHOLE_MODEL):
        _start_from(net, Path(recipe.weights))
    return net


def _start_from(net: keras.Model, path: Path) -> None:
    expected = f"a Keras file of a {net.name} model to go on from"
    trained = load_trained(path, expected)
    if _rescalings(trained) != _rescalings(net):
        raise RunError(
            f"Expected {path} to scale its images as --preprocessing asks, received "
            f"{_rescalings(trained)} for {_rescalings(net)} (factor and offset); its predictions "
            "would be wrong: give the --preprocessing that it was trained with"
        )
    classes = (trained.output_shape[-1], net.output_shape[-1])
    try:
        if classes[0] == classes[1]:
            net.set_weights(trained.get_weights())
        else:
            _take_all_but_logits(net, trained)
            _log.warning(
                "%s tells %d classes apart, not %d: its last layer is left out, and a new one "
                "learns from the start",
                path,
                *classes,
            )
    except ValueError as error:
        raise RunError(f"Expected {expected}, received {path}: {_brief(error)}") from error


def _take_all_but_logits(net: keras.Model, trained: keras.Model) -> None:
    """Give a model the weights of another of the same kind, whose classes are others."""
    net.get_layer(BACKBONE).set_weights(trained.get_layer(BACKBONE).get_weights())
    layers_of = [leaves(model.get_layer(HEAD)) for model in (net, trained)]
    for own, other in zip(*layers_of, strict=True):
        if own.name != LOGITS:
            own.set_weights(other.get_weights())


def _rescalings(net: keras.Model) -> list[tuple[list[float], list[float]]]:
    """Return factor and offset of each layer that scales levels."""
    return [
        (np.ravel(layer.scale).tolist(), np.ravel(layer.offset).tolist())
        for layer in _of_kind(net, layers.Rescaling)
    ]


def _scale(recipe: Recipe) -> Any:
    if recipe.preprocessing == "unit":
        return layers.Rescaling(1 / 255, name="scale")
    return layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")


def _sequential_backbone(x: Any, recipe: Recipe, normalization: Any) -> Any:
    """Stack the thesis's four convolutions; its listing, without the max-norm of its text."""
    l2 = keras.regularizers.L2(recipe.l2) if recipe.l2 else None
    x = layers.Conv2D(32, 3, padding="same", activation="relu")(x)
    x = layers.Conv2D(64, 3, padding="same", activation="relu")(x)
    x = normalization()(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Conv2D(128, 3, padding="same", activation="relu", kernel_regularizer=l2)(x)
    x = normalization()(x)
    x = layers.MaxPooling2D(2)(x)
    x = layers.Dropout(0.25)(x)
    x = layers.Conv2D(256, 3, activation="relu", kernel_regularizer=l2)(x)
    x = normalization()(x)
    x = layers.MaxPooling2D(2)(x)
    return layers.Dropout(0.25)(x)


_EDGE_BLOCKS = ((32,), (48, 48), (96, 96, 96), (192, 192))


def _edge_backbone(x: Any, normalization: Any) -> Any:
    """Stack 3 x 3 convolutions, which int8 kernels run near full speed.

    At full size there is but one: its maps are four times the next block's, and cost in training
    and in use what deeper layers put to better use.
    """
    for widths in _EDGE_BLOCKS:
        for width in widths:
            x = layers.Conv2D(width, 3, padding="same", use_bias=False)(x)
            # The usual 0.99 forgets its start too slowly for runs of a few hundred steps.
            x = normalization(momentum=0.9)(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D(2)(x)
    return x


def _pretrained_backbone(name: str, x: Any, recipe: Recipe) -> Any:
    x = layers.Concatenate(name="three_channels")([x, x, x])
    if recipe.preprocessing == "imagenet":
        x = layers.Rescaling(1.0, offset=[-mean for mean in _IMAGENET_MEAN_BGR], name="scale")(x)
    builder = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[name]
    own = recipe.weights == "none" or recipe.weights.endswith(_WHOLE_MODEL)
    weights = None if own else recipe.weights
    try:
        network = builder(
            include_top=False, weights=weights, input_shape=(IMAGE_SIZE, IMAGE_SIZE, 3)
        )
    except (OSError, ValueError) as error:
        raise DataError(_weights_message(recipe.weights, error)) from error
    except Exception as error:
        # Keras reports a failed download as a bare Exception, told apart by its text alone.
        if "URL fetch failure" not in str(error):
            raise
        raise DataError(_weights_message(recipe.weights, error)) from error
    return network(x)


_VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def _normalized_vgg16(x: Any, normalization: Any) -> Any:
    """Stack VGG16's convolutions, each with batch normalisation before its ReLU.

    Source of the initialisation: He et al., *Delving Deep into Rectifiers*, ICCV 2015.
    """
    x = layers.Concatenate(name="three_channels")([x, x, x])
    for block, (width, depth) in enumerate(_VGG16_BLOCKS, 1):
        for number in range(1, depth + 1):
            x = layers.Conv2D(
                width,
                3,
                padding="same",
                use_bias=False,
                kernel_initializer="he_normal",
                name=f"block{block}_conv{number}",
            )(x)
            x = normalization(momentum=0.9, name=f"block{block}_norm{number}")(x)
            x = layers.ReLU()(x)
        x = layers.MaxPooling2D(2, name=f"block{block}_pool")(x)
    return x


def fold_normalization(net: keras.Model, plain: keras.Model) -> None:
    """Give a model without batch normalisation the weights by which it predicts as one with it.

    Args:
        net: A vgg16 of which each convolution is normalised.
        plain: The same without, whose weights are set.
    """
    pairs = zip(
        _of_kind(net, layers.Conv2D),
        _of_kind(net, layers.BatchNormalization),
        _of_kind(plain, layers.Conv2D),
        strict=True,
    )
    for convolution, normalization, target in pairs:
        (kernel,) = convolution.get_weights()
        gamma, beta, mean, variance = (
            array.astype(np.float64) for array in normalization.get_weights()
        )
        factor = gamma / np.sqrt(variance + normalization.epsilon)
        target.set_weights([kernel * factor, beta - mean * factor])
    plain.get_layer(HEAD).set_weights(net.get_layer(HEAD).get_weights())


def _of_kind(net: keras.Model, kind: type) -> list[Any]:
    return [layer for layer in leaves(net) if isinstance(layer, kind)]


def check_pretrained(name: str, recipe: Recipe, classes: int) -> None:
    """Fetch or read the pretrained weights of a model, so that a training has them later.

    Raises:
        DataError: They cannot be had or do not fit.
        RunError: The model to go on from cannot be read or is another.
    """
    build_model(name, recipe, classes)


def _weights_message(weights: str, error: Exception) -> str:
    if weights == "imagenet":
        return (
            f"Keras could not fetch the ImageNet weights ({error}); use --weights FILE with a "
            "file fetched elsewhere, or --weights none --frozen-epochs 0 to train from scratch"
        )
    found = "which does not fit" if Path(weights).is_file() else "which is not there"
    return f"Expected a Keras weights file of this model, received {weights}, {found} ({error})"


def _sequential_head(x: Any, recipe: Recipe) -> Any:
    if recipe.head == "gap":
        return layers.GlobalAveragePooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(512, activation="relu")(x)
    return layers.Dropout(0.5)(x)


def _vgg16_head(x: Any, recipe: Recipe) -> Any:
    if recipe.head == "gap":
        return layers.GlobalAveragePooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dense(4096, activation="relu")(x)
    x = layers.Dense(1072, activation="relu")(x)
    return layers.Dropout(0.2)(x)


def _resnet50_head(x: Any, recipe: Recipe) -> Any:
    if recipe.head == "gap":
        return layers.GlobalAveragePooling2D()(x)
    x = layers.Flatten()(x)
    return layers.Dense(512, activation="relu")(x)


def _edge_head(x: Any, recipe: Recipe) -> Any:
    if recipe.head == "gap":
        return layers.GlobalAveragePooling2D()(x)
    x = layers.Flatten()(x)
    x = layers.Dropout(0.3)(x)
    x = layers.Dense(256, activation="relu")(x)
    return layers.Dropout(0.5)(x)


_HEADS = {
    "sequential": _sequential_head,
    "vgg16": _vgg16_head,
    "resnet50": _resnet50_head,
    "edge": _edge_head,
}


def augmentation(strength: float, erasing: float, seed: int) -> keras.Sequential:
    """Return layers that change float32 (N, 48, 48, 1) images, grey, 0-255, while training.

    Args:
        strength: At 1, every image may be flipped, rotated by up to 10 degrees, zoomed by up to
            10 % and shifted by up to 10 % of its side; edges repeat. At 0 none of it happens.
        erasing: Share of the images of which a rectangle, each side 14 to 57 % of the image's, is
            overwritten with noise. Source: Zhong et al., *Random Erasing Data Augmentation*, 2017.
        seed: Of all of it.
    """
    steps = []
    if strength:
        options: dict[str, Any] = {"fill_mode": "nearest", "dtype": "float32"}
        steps += [
            flip(seed),
            layers.RandomRotation(strength * 10 / 360, seed=seed + 1, **options),
            layers.RandomZoom(strength * 0.1, seed=seed + 2, **options),
            layers.RandomTranslation(strength * 0.1, strength * 0.1, seed=seed + 3, **options),
        ]
    if erasing:
        steps.append(layers.RandomErasing((erasing, erasing), seed=seed + 4, dtype="float32"))
    return keras.Sequential([_compiled_on_jax(step) for step in steps], name="augmentation")


def flip(seed: int) -> keras.layers.Layer:
    """Return a layer that mirrors half of the images while training."""
    return _compiled_on_jax(layers.RandomFlip("horizontal", seed=seed, dtype="float32"))


def _compiled_on_jax(step: keras.layers.Layer) -> keras.layers.Layer:
    if keras.backend.backend() == "jax":
        # TensorFlow's compiler lacks an operation of theirs, for which Keras would leave the whole
        # training uncompiled on every back end.
        step.supports_jit = True
    return step


def load_trained(path: Path, expected: str) -> keras.Model:
    """Read a Keras file, uncompiled.

    Raises:
        RunError: It cannot be read; ``expected`` names what it should be.
    """
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise RunError(f"Expected {expected}, received {path}: {_brief(error)}") from error


def _brief(error: Exception) -> str:
    """Return the beginning of what Keras says, which can go on to list a whole model."""
    text = " ".join(str(error).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."


def predict(net: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of uint8 (N, 48, 48) images: float32 (N, K)."""
    return predict_rows(net, images[..., None].astype(np.float32))


def predict_rows(net: Any, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a network's predictions for inputs (N, ...): float32 (N, K).

    All batches are as large, so that a back end compiles once, whatever N is.
    """
    rest = -len(inputs) % PREDICTION_BATCH
    filled = np.pad(inputs, [(0, rest)] + [(0, 0)] * (inputs.ndim - 1))
    outputs = net.predict(filled, batch_size=PREDICTION_BATCH, verbose=0)
    return np.asarray(outputs[: len(inputs)], np.float32)


def leaves(net: keras.Model) -> list[keras.layers.Layer]:
    """Return a model's layers with those of the models inside of it."""
    found: list[keras.layers.Layer] = []
    for layer in net.layers:
        found += leaves(layer) if hasattr(layer, "layers") else [layer]
    return found
