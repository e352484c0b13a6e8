"""Keras -> ONNX: convert, simplify, describe, and let no file pass that predicts differently."""

import dataclasses
import hashlib
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fer_edge import __version__
from fer_edge.contract import INPUT_NAME, OUTPUT_NAME, ModelSpec, Origin, spec_from_metadata
from fer_edge.errors import ExportError, FerError
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.preprocess import prepare
from fer_train.data.form import FER2013, Form
from fer_train.data.pixels import as_frames
from fer_train.data.synthetic import synthetic_faces
from fer_train.export.simplify import simplify
from fer_train.run.folder import write_atomic
from fer_train.run.recipes import Recipe

TOLERANCE = 1e-5
"""Largest difference between Keras's and ONNX's probabilities that an export may have."""

# The newest opset that tf2onnx writes and both an onnxruntime of 2023 and OpenCV 4 read.
_OPSET = 17
_SAMPLE_FACES = 56
_SAMPLE_NOISE = 6

SCORES = (
    "images",
    "accuracy",
    "binary_accuracy",
    "balanced_accuracy",
    "log_loss",
    "f1_macro",
    "expected_calibration_error",
)


def export_model(net: Any, spec: ModelSpec, path: Path, sample: NDArray[np.float32]) -> float:
    """Write a Keras model as one ONNX file, if both give the same probabilities.

    Must run under Keras's TensorFlow back end; `export_file` does so from any.

    Args:
        net: Model of float32 (N, height, width, channels), 0-255, to (N, K) probabilities;
            computed in float32 whatever its precision in training was.
        spec: What the file says of itself.
        path: The file; written atomically, and not at all if the gate refuses.
        sample: Inputs of the model: what both are compared on.

    Returns:
        The largest difference of probabilities.

    Raises:
        ExportError: The difference is above `TOLERANCE`, or the converter fails.
        RunError: The file cannot be written.
    """
    import tensorflow as tf
    import tf2onnx

    # Graphics cards multiply float32 with 10 bits of mantissa, which is no measure for a gate.
    with tf.device("/CPU:0"):
        net = _in_float32(net)
        shape = (None, *spec.input_size, spec.channels)
        signature = [tf.TensorSpec(shape, tf.float32, name=INPUT_NAME)]
        function = tf.function(
            lambda image: {OUTPUT_NAME: net(image, training=False)}, input_signature=signature
        )
        # from_keras reads attributes that Keras 3 no longer has.
        converted, _ = tf2onnx.convert.from_function(function, signature, opset=_OPSET)
        expected = net.predict(sample, verbose=0)
    model = write_metadata(
        simplify(converted), dataclasses.replace(spec, package_version=__version__)
    )
    difference = float("nan")

    def write(temporary: Path) -> None:
        nonlocal difference
        onnx.save_model(model, temporary)
        difference = _largest_difference(temporary, sample, expected)
        if not difference <= TOLERANCE:
            raise ExportError(
                f"Expected {path.name} to differ from Keras by at most {TOLERANCE:g}, received "
                f"{difference:.3g}; nothing was written"
            )

    write_atomic(path, write)
    return difference


def write_metadata(model: onnx.ModelProto, spec: Origin) -> onnx.ModelProto:
    """Put a spec into a model's metadata and drop operator sets that no node needs."""
    domains = {node.domain for node in model.graph.node}
    used = [opset for opset in model.opset_import if opset.domain in domains]
    del model.opset_import[:]
    model.opset_import.extend(used)
    del model.metadata_props[:]
    onnx.helper.set_model_props(model, spec.to_metadata())
    model.producer_name, model.producer_version = "fer-edge", spec.package_version
    model.graph.name = spec.model or "model"
    return model


def export_file(source: Path, spec: ModelSpec, path: Path, recipe: Recipe | None = None) -> None:
    """Write a ``.keras`` file or a SavedModel as ONNX.

    Where Keras runs on another back end, a process of its own does it.

    Args:
        source: The Keras file, or the folder of a SavedModel.
        spec: How it is fed and read; see `to_contract` for what the ONNX file makes of it.
        path: The ONNX file.
        recipe: Of a model of one's own, with its code.

    Raises:
        ExportError: The source is no model of ours, or the gate refuses.
        RunError: The file cannot be written.
    """
    from fer_train.network._keras import keras

    if keras.backend.backend() == "tensorflow":
        _export_here(source, spec, path, recipe)
        return
    own = {"model_file": recipe.model_file, "code": recipe.code} if recipe else {}
    result = subprocess.run(
        [sys.executable, "-m", "fer_train.export.convert", str(source), str(path)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        input=json.dumps([spec.to_metadata(), own]),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ExportError((result.stderr.strip() or "the export has no output").splitlines()[-1])


def load_classifier(source: Path, recipe: Recipe | None = None) -> Any:
    """Read a Keras model of float32 (N, height, width, 1 or 3) to (N, K).

    Args:
        source: A Keras file, or the folder of a TensorFlow SavedModel.
        recipe: Of a model of one's own, whose code is run before.

    Raises:
        ExportError: It is none.
        DataError: The code raises something.
    """
    from fer_train.network._keras import keras
    from fer_train.network.own import run_code

    if recipe is not None:
        run_code(recipe)
    try:
        if is_saved_model(source):
            net = _load_saved_model(source)
        else:
            net = keras.saving.load_model(source, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise ExportError(f"Expected a Keras model at {source}: {error}") from error
    shapes: list[Any] = [getattr(net, name, None) for name in ("input_shape", "output_shape")]
    ranks = [len(shape) if isinstance(shape, tuple) else 0 for shape in shapes]
    if ranks != [4, 2] or shapes[0][3] not in (1, 3):
        raise ExportError(
            f"Expected a Keras model of one picture, (N, height, width, 1 or 3), to one row of "
            f"scores, (N, labels), received {source} from {shapes[0]} to {shapes[1]}"
        )
    return net


def is_saved_model(path: Path) -> bool:
    """Tell whether a path is the folder of a TensorFlow SavedModel."""
    return (path / "saved_model.pb").is_file()


def _load_saved_model(folder: Path) -> Any:
    """Return the function that a SavedModel serves as a Keras model of one input and one output."""
    from fer_train.network._keras import keras

    if keras.backend.backend() != "tensorflow":
        raise ExportError(
            f"Expected KERAS_BACKEND=tensorflow for the SavedModel {folder}, received "
            f"{keras.backend.backend()}"
        )
    import tensorflow as tf

    served = tf.saved_model.load(str(folder)).signatures
    # Keras's own export names it "serving_default" too.
    name = "serving_default" if "serving_default" in served else next(iter(served), None)
    if name is None:
        raise ExportError(f"Expected a SavedModel that serves a function, received {folder}")
    inputs = served[name].structured_input_signature[1]
    outputs = served[name].structured_outputs
    if len(inputs) != 1 or len(outputs) != 1:
        raise ExportError(
            f"Expected a SavedModel of one input and one output, received {folder} of "
            f"{', '.join(inputs) or 'none'} and {', '.join(outputs) or 'none'}"
        )
    (given,) = inputs.values()
    image = keras.Input(given.shape[1:], dtype=given.dtype.name)
    layer = keras.layers.TFSMLayer(str(folder), call_endpoint=name)
    (outputs,) = layer(image).values()
    return keras.Model(image, outputs)


def _export_here(source: Path, spec: ModelSpec, path: Path, recipe: Recipe | None) -> None:
    from fer_train.network._keras import keras

    net = load_classifier(source, recipe)
    try:
        net, spec = to_contract(net, spec)
        export_model(net, spec, path, gate_sample(spec))
    finally:
        del net
        keras.backend.clear_session()


def to_contract(net: Any, spec: ModelSpec) -> tuple[Any, ModelSpec]:
    """Return a model of levels 0-255 to probabilities: scaling and softmax go inside.

    Args:
        net: A Keras model, fed and read as ``spec`` says.
        spec: Its input's range, mean and deviation, and what it returns.
    """
    from fer_train.network._keras import keras

    plain = dataclasses.replace(
        spec, range=(0.0, 255.0), mean=(0.0,), std=(1.0,), outputs="probabilities"
    )
    if spec == plain:
        return net, spec
    low, high = spec.range
    std = np.asarray(spec.std)
    image = keras.Input((*spec.input_size, spec.channels), name=INPUT_NAME, dtype="float32")
    scale, offset = (high - low) / 255 / std, (low - np.asarray(spec.mean)) / std
    # In float32 whatever the model's own precision was.
    x = keras.layers.Rescaling(scale.tolist(), offset.tolist(), dtype="float32")(image)
    x = net(x)
    if spec.outputs == "logits":
        x = keras.layers.Softmax(name=OUTPUT_NAME, dtype="float32")(x)
    return keras.Model(image, x), plain


def gate_sample(spec: ModelSpec | None = None) -> NDArray[np.float32]:
    """Return 64 inputs of a model, of the contract's by default.

    They are drawn faces, noise, black and white; in colour where the model sees colours.
    """
    spec = spec or ModelSpec()
    form = Form(color="rgb") if spec.channels == 3 else FER2013
    faces, _ = synthetic_faces(_SAMPLE_FACES, form=form)
    noise = np.random.default_rng(0).integers(0, 256, (_SAMPLE_NOISE, *faces.shape[1:]))
    flat = np.stack([np.zeros(faces.shape[1:]), np.full(faces.shape[1:], 255)])
    images = np.concatenate([faces, noise, flat]).astype(np.uint8)
    return np.concatenate([prepare(image, [None], spec) for image in as_frames(images)])


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file, or of all files in a folder, hexadecimal."""
    if path.is_dir():
        files = sorted(each for each in path.rglob("*") if each.is_file())
        told = [f"{file_digest(each)}  {each.relative_to(path).as_posix()}\n" for each in files]
        return hashlib.sha256("".join(told).encode()).hexdigest()
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _largest_difference(
    path: Path, sample: NDArray[np.float32], expected: NDArray[np.float32]
) -> float:
    """Compare a file, opened as a user would open it, with what Keras predicts."""
    predicted = Classifier(path, provider="cpu", detector="none", prior=0).probabilities(sample)
    return float(np.abs(predicted - expected).max())


def _in_float32(net: Any) -> Any:
    """Return the model, or a copy of it in which every layer computes in float32."""
    from fer_train.network._keras import keras
    from fer_train.network.models import leaves

    if all(layer.compute_dtype == "float32" for layer in leaves(net)):
        return net
    copy = keras.models.clone_model(net)
    copy.set_weights(net.get_weights())
    for layer in leaves(copy):
        layer.dtype_policy = "float32"
    return copy


def _main() -> int:
    metadata, own = json.load(sys.stdin)
    source, path = map(Path, sys.argv[1:])
    spec = spec_from_metadata(metadata, str(source))
    try:
        _export_here(source, spec or ModelSpec(), path, Recipe(**own))
    except FerError as error:
        sys.stderr.write(f"{' '.join(error.message.split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
