"""Model names -> Keras models.

In: float32 (N, S, S, 1) grey or (N, S, S, 3) RGB, 0-255; S is 48 unless a run says otherwise.
Out: float32 (N, K) probabilities. Whatever a model needs between the pixels and its first
convolution is inside it. Each model is two parts, ``backbone`` and ``head``, so that a frozen
backbone's features can be computed once; `fer_train.network.own` has those that others wrote.
"""

import logging
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from fer_edge.contract import INPUT_NAME, OUTPUT_NAME
from fer_edge.errors import DataError, RunError
from fer_train.data.form import FER2013, Form
from fer_train.data.pixels import with_channels
from fer_train.network._keras import keras
from fer_train.network.device import prediction_batch
from fer_train.network.own import brief, build_own, run_code
from fer_train.run.recipes import Recipe

layers = keras.layers
_log = logging.getLogger(__name__)


# Keras's "caffe" preprocessing: ImageNet's mean colour in BGR order, pixel levels 0-255.
_IMAGENET_MEAN_BGR = (103.939, 116.779, 123.68)

BACKBONE = "backbone"
_WHOLE_MODEL = ".keras"
HEAD = "head"
LOGITS = "logits"


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


def build_model(
    name: str, recipe: Recipe, classes: int, form: Form = FER2013, *, fused: bool = False
) -> keras.Model:
    """Build an uncompiled model.

    Args:
        name: ``sequential``, ``vgg16``, ``resnet50``, ``edge`` or that of a model of one's own.
        recipe: Settings; of these ``preprocessing``, ``weights``, ``normalization``, ``head`` and
            ``l2`` shape the model, or the code does.
        classes: Number of emotions.
        form: Size and colours of the images.
        fused: Let `FusedBatchNormalization` take the place of Keras's own in our models: for
            training, not for a file, which would need this package to be read.

    Returns:
        A functional model with the layers ``backbone`` and ``head``, unless it is one's own.

    Raises:
        DataError: The pretrained weights cannot be had or do not fit, or one's own code builds no
            such model.
        RunError: The model to go on from cannot be read or is another.
    """
    if recipe.code:
        net = build_own(name, recipe, form.input_shape, classes)
        _keep_digits(net)
        return _started(net, recipe)
    image = keras.Input(form.input_shape, name=INPUT_NAME, dtype="float32")
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
    return _started(keras.Model(image, head(backbone(image)), name=name), recipe)


def _keep_digits(net: keras.Model) -> None:
    """Let softmax compute in float32; bfloat16 would round probabilities to two digits."""
    for layer in leaves(net):
        softmax = getattr(layer, "activation", None) is keras.activations.softmax
        if softmax or isinstance(layer, layers.Softmax):
            layer.dtype_policy = "float32"


def _started(net: keras.Model, recipe: Recipe) -> keras.Model:
    """Return a model with the weights that it is to go on from, if there are any."""
    if not recipe.weights.endswith(_WHOLE_MODEL):
        return net
    path = Path(recipe.weights)
    expected = f"a Keras file of a {net.name} model to go on from"
    trained = load_trained(path, expected, recipe)
    if not recipe.code and _rescalings(trained) != _rescalings(net):
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
        raise RunError(f"Expected {expected}, received {path}: {brief(error)}") from error
    return net


def _take_all_but_logits(net: keras.Model, trained: keras.Model) -> None:
    """Give a model the weights of another of the same kind, whose classes are others."""
    weighted = [[layer for layer in leaves(model) if layer.weights] for model in (net, trained)]
    # The last layer that learns is the one whose columns are the classes.
    for own, other in list(zip(*weighted, strict=True))[:-1]:
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
    colored = x.shape[-1] == 3
    x = _three_channels(x)
    if recipe.preprocessing == "imagenet":
        # The weights were trained with colours in the order BGR.
        x = keras.ops.flip(x, axis=-1) if colored else x
        x = layers.Rescaling(1.0, offset=[-mean for mean in _IMAGENET_MEAN_BGR], name="scale")(x)
    builder = {"vgg16": keras.applications.VGG16, "resnet50": keras.applications.ResNet50}[name]
    own = recipe.weights == "none" or recipe.weights.endswith(_WHOLE_MODEL)
    weights = None if own else recipe.weights
    try:
        network = builder(include_top=False, weights=weights, input_shape=tuple(x.shape[1:]))
    except (OSError, ValueError) as error:
        raise DataError(_weights_message(recipe.weights, error)) from error
    except Exception as error:
        # Keras reports a failed download as a bare Exception, told apart by its text alone.
        if "URL fetch failure" not in str(error):
            raise
        raise DataError(_weights_message(recipe.weights, error)) from error
    return network(x)


def _three_channels(x: Any) -> Any:
    if x.shape[-1] == 3:
        return x
    return layers.Concatenate(name="three_channels")([x, x, x])


_VGG16_BLOCKS = ((64, 2), (128, 2), (256, 3), (512, 3), (512, 3))


def _normalized_vgg16(x: Any, normalization: Any) -> Any:
    """Stack VGG16's convolutions, each with batch normalisation before its ReLU.

    Source of the initialisation: He et al., *Delving Deep into Rectifiers*, ICCV 2015.
    """
    x = _three_channels(x)
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
    """Return layers that change float32 (N, H, W, 1 or 3) images, 0-255, while training.

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


def load_trained(path: Path, expected: str, recipe: Recipe | None = None) -> keras.Model:
    """Read a Keras file, uncompiled.

    Args:
        path: The file.
        expected: What it should be, for the message.
        recipe: Of the model, whose own code is run before; None is of none with code.

    Raises:
        RunError: It cannot be read.
        DataError: The code raises something.
    """
    if recipe is not None:
        run_code(recipe)
    policy = keras.config.dtype_policy()
    # What layers of one's own make inside of them has the policy of the moment; the file's is this.
    keras.config.set_dtype_policy("float32")
    try:
        return keras.saving.load_model(path, compile=False)
    except (OSError, ValueError, KeyError, TypeError, BadZipFile) as error:
        raise RunError(f"Expected {expected}, received {path}: {brief(error)}") from error
    finally:
        keras.config.set_dtype_policy(policy)


def backbone_of(net: keras.Model) -> Any:
    """Return what is frozen at first, in the model or in a model inside of it; None without one."""
    for layer in net.layers:
        if layer.name == BACKBONE:
            return layer
        if hasattr(layer, "layers") and (found := backbone_of(layer)) is not None:
            return found
    return None


def predict(net: Any, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the probabilities of images: float32 (N, K).

    Args:
        net: The model.
        images: uint8 (N, S, S) or (N, S, S, 1) grey, or (N, S, S, 3) RGB.
    """
    return predict_rows(net, with_channels(images).astype(np.float32))


def predict_rows(net: Any, inputs: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return a network's predictions for inputs (N, ...): float32 (N, K).

    All batches are as large, so that a back end compiles once, whatever N is.
    """
    batch = prediction_batch(inputs.shape)
    rest = -len(inputs) % batch
    filled = np.pad(inputs, [(0, rest)] + [(0, 0)] * (inputs.ndim - 1))
    outputs = net.predict(filled, batch_size=batch, verbose=0)
    return np.asarray(outputs[: len(inputs)], np.float32)


def leaves(net: keras.Model) -> list[keras.layers.Layer]:
    """Return a model's layers with those of the models inside of it."""
    found: list[keras.layers.Layer] = []
    for layer in net.layers:
        found += leaves(layer) if hasattr(layer, "layers") else [layer]
    return found
