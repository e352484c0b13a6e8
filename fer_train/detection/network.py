"""The face detector's network: pictures -> a score, a box and five points at every cell.

In: float32 (N, H, W, 3), BGR, 0-255, H and W multiples of 32. Out: one float32 (N, H / stride,
W / stride, 15) a stride; see `CHANNELS`. No anchors: each cell says how likely it lies in the
middle of a face, and where that face is (Tian et al., *FCOS*, 2019). Plain 3 x 3 convolutions with
batch normalisation, which int8 and Winograd kernels run fastest, in widths that are multiples of
16, to which onnxruntime's kernels pad.
"""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import RunError
from fer_train.network._keras import keras

layers = keras.layers

STRIDES = (8, 16, 32)
# At each cell: the score's logit; the shift of the box's centre from the cell's middle in strides,
# x and y; the logarithm of its width and height in strides; five points as shifts from the cell's
# middle in strides, x and y of: eye left and right in the picture, nose, corners of the mouth left
# and right.
CHANNELS = 15

_STEM = (16, 32)
# By stride: width, convolutions of which the first halves, residual convolutions behind them.
_STAGES = {8: (32, 4, 1), 16: (64, 3, 1), 32: (96, 2, 0)}
_NECK = 32
_HEAD = 64
_EPSILON = 1e-5
# A cell's first guess is one face in a hundred cells, so that the many cells without one do not
# swamp the first steps (Lin et al., *Focal loss*, 2017).
_PRIOR_LOGIT = float(np.log(0.01 / 0.99))


def build_detector() -> keras.Model:
    """Build the network, untrained: 385,000 parameters."""
    image = keras.Input((None, None, 3), name="image", dtype="float32")
    x = layers.Rescaling(1 / 127.5, offset=-1.0, name="scale")(image)
    for number, width in enumerate(_STEM):
        x = _convolution(x, width, f"stem_{number}", halve=True)
    maps = {}
    for stride, (width, plain, residual) in _STAGES.items():
        for number in range(plain):
            x = _convolution(x, width, f"stage{stride}_{number}", halve=number == 0)
        for number in range(plain, plain + residual):
            x = _residual(x, width, f"stage{stride}_{number}")
        maps[stride] = x

    outputs = []
    above = None
    for stride in reversed(STRIDES):
        x = layers.Conv2D(_NECK, 1, name=f"neck{stride}")(maps[stride])
        if above is not None:
            wider = layers.UpSampling2D(2, interpolation="nearest", name=f"above{stride}")(above)
            x = layers.Add(name=f"sum{stride}")([x, wider])
        above = x
        x = _convolution(x, _HEAD, f"head{stride}")
        outputs.append(_output(x, stride))
    net = keras.Model(image, outputs[::-1], name="face")
    for stride in STRIDES:
        bias = np.zeros(CHANNELS, np.float32)
        bias[0] = _PRIOR_LOGIT
        net.get_layer(f"output{stride}").bias.assign(bias)
    return net


def _convolution(x: Any, width: int, name: str, *, halve: bool = False) -> Any:
    """Convolve 3 x 3, normalise, rectify; to half the size where asked."""
    x = _normalized(x, width, name, halve=halve)
    return layers.ReLU(name=f"{name}_relu")(x)


def _residual(x: Any, width: int, name: str) -> Any:
    """Add a convolution of the input to it; untrained it adds nothing."""
    change = _normalized(x, width, name, gamma="zeros")
    return layers.ReLU(name=f"{name}_relu")(layers.Add(name=f"{name}_sum")([x, change]))


def _normalized(x: Any, width: int, name: str, *, halve: bool = False, gamma: str = "ones") -> Any:
    # Padding by hand: Keras's "same" shifts a halving convolution of an even size by half a pixel.
    if halve:
        x = layers.ZeroPadding2D(1, name=f"{name}_pad")(x)
    x = layers.Conv2D(
        width,
        3,
        strides=2 if halve else 1,
        padding="valid" if halve else "same",
        use_bias=False,
        kernel_initializer="he_normal",
        name=f"{name}_conv",
    )(x)
    return layers.BatchNormalization(
        momentum=0.9, epsilon=_EPSILON, gamma_initializer=gamma, name=f"{name}_norm"
    )(x)


def _output(x: Any, stride: int) -> Any:
    # bfloat16 would round a shift of some strides to the eighth of a pixel.
    return layers.Conv2D(
        CHANNELS,
        1,
        kernel_initializer=keras.initializers.RandomNormal(stddev=0.01),
        dtype="float32",
        name=f"output{stride}",
    )(x)


def named_weights(net: keras.Model) -> Iterator[tuple[str, Any]]:
    """Yield the name and the variable of each weight, such as ``stem_0_conv/kernel``."""
    for layer in net.layers:
        for weight in layer.weights:
            yield f"{layer.name}/{weight.name}", weight


def save_weights(net: keras.Model) -> dict[str, NDArray[np.float32]]:
    """Return the weights by name, as `load_weights` takes them."""
    return {name: keras.ops.convert_to_numpy(weight).copy() for name, weight in named_weights(net)}


def load_weights(net: keras.Model, arrays: Mapping[str, NDArray[Any]]) -> None:
    """Set the weights of a network from those of the same or a smaller one, by name.

    Where the other has fewer channels, or lacks a residual convolution, the network starts as the
    very function of the other: new channels begin as they were drawn and count for nothing yet.

    Args:
        net: A network of `build_detector`.
        arrays: Of `save_weights`, or with the names and layout of PyTorch
            (``stem.0.0.weight``, (out, in, height, width)).

    Raises:
        RunError: A weight is missing, or has a shape that does not fit.
    """
    if any(name.startswith("stem.0.") for name in arrays):
        arrays = _from_torch(arrays)
    extra = set(arrays) - {name for name, _ in named_weights(net)}
    if extra:
        raise RunError(
            f"Expected weights of a face detector, received others: {', '.join(sorted(extra)[:3])}"
        )
    residual = {
        f"stage{stride}_{number}"
        for stride, (_, plain, more) in _STAGES.items()
        for number in range(plain, plain + more)
    }
    for name, weight in named_weights(net):
        given = arrays.get(name)
        if given is not None:
            weight.assign(_grown(name, keras.ops.convert_to_numpy(weight), np.asarray(given)))
        elif name.split("/")[0].rsplit("_", 1)[0] not in residual:
            raise RunError(f"Expected weights of a face detector, received none for {name}")


def _grown(
    name: str, drawn: NDArray[np.float32], given: NDArray[np.float32]
) -> NDArray[np.float32]:
    """Return the drawn weights with the given ones in their corner, unmoved by new inputs."""
    if given.ndim != drawn.ndim or any(
        own < other for own, other in zip(drawn.shape, given.shape, strict=True)
    ):
        raise RunError(f"Expected {name} of shape {drawn.shape}, received {given.shape}")
    drawn = drawn.copy()
    if drawn.ndim == 4:
        inputs, outputs = given.shape[2:]
        drawn[:, :, inputs:, :outputs] = 0
        drawn[:, :, :inputs, :outputs] = given
    else:
        drawn[: len(given)] = given
    return drawn


_TORCH_STAGES = {"stem": "stem", "c3": "stage8", "c4": "stage16", "c5": "stage32"}
_TORCH_NORM = {
    "weight": "gamma",
    "bias": "beta",
    "running_mean": "moving_mean",
    "running_var": "moving_variance",
}


def _from_torch(arrays: Mapping[str, NDArray[Any]]) -> dict[str, NDArray[Any]]:
    """Rename and transpose the weights of the same network in PyTorch."""
    renamed = {}
    for name, array in arrays.items():
        *layer, kind = name.split(".")
        if layer[0] in _TORCH_STAGES:
            own = f"{_TORCH_STAGES[layer[0]]}_{layer[1]}"
        elif layer[0] == "heads":
            own = f"head{STRIDES[int(layer[1])]}"
        elif layer[0] == "out":
            own = f"output{STRIDES[int(layer[1])]}"
        else:
            own = f"neck{2 ** int(layer[0][1:])}"
        if len(layer) == 3:  # a block: convolution 0, normalisation 1
            own += "_conv/kernel" if layer[2] == "0" else f"_norm/{_TORCH_NORM[kind]}"
        else:
            own += "/kernel" if kind == "weight" else "/bias"
        renamed[own] = array.transpose(2, 3, 1, 0) if array.ndim == 4 else array
    return renamed
