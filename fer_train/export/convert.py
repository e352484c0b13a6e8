"""Keras -> ONNX: convert, simplify, describe, and let no file pass that answers differently."""

import dataclasses
import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray

from fer_edge import __version__
from fer_edge.contract import INPUT_NAME, OUTPUT_NAME, ModelSpec, spec_from_metadata
from fer_edge.errors import ExportError, FerError, ModelError, RunError
from fer_edge.inference.classifier import Classifier
from fer_train.data.synthetic import synthetic_faces
from fer_train.export.simplify import simplify
from fer_train.run.evaluation import evaluate_model
from fer_train.run.folder import Run, write_atomic, write_text

TOLERANCE = 1e-5
"""Largest difference between Keras's and ONNX's probabilities that an export may have."""

# The newest opset that tf2onnx writes and both an onnxruntime of 2023 and OpenCV 4 read.
_OPSET = 17
_SAMPLE_FACES = 56
_SAMPLE_NOISE = 6

DIGESTS = "SHA256SUMS"
LICENCE = "MIT"

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
        net: Model of float32 (N, 48, 48, 1), grey, 0-255, to (N, K) probabilities; computed in
            float32 whatever its precision in training was.
        spec: What the file says of itself.
        path: The file; written atomically, and not at all if the gate refuses.
        sample: float32 (N, 48, 48, 1), grey, 0-255: what both are compared on.

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
        signature = [tf.TensorSpec((None, *net.input_shape[1:]), tf.float32, name=INPUT_NAME)]
        function = tf.function(
            lambda image: {OUTPUT_NAME: net(image, training=False)}, input_signature=signature
        )
        # from_keras reads attributes that Keras 3 no longer has.
        converted, _ = tf2onnx.convert.from_function(function, signature, opset=_OPSET)
        expected = net.predict(sample, verbose=0)
    model = describe(simplify(converted), dataclasses.replace(spec, package_version=__version__))
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


def describe(model: onnx.ModelProto, spec: ModelSpec) -> onnx.ModelProto:
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


def export_file(source: Path, spec: ModelSpec, path: Path) -> None:
    """Write a ``.keras`` file as ONNX; where Keras runs on another back end, in its own process.

    Raises:
        ExportError: The source is no model of ours, or the gate refuses.
        RunError: The file cannot be written.
    """
    from fer_train.network._keras import keras

    if keras.backend.backend() == "tensorflow":
        _export_here(source, spec, path)
        return
    result = subprocess.run(
        [sys.executable, "-m", "fer_train.export.convert", str(source), str(path)],
        env={**os.environ, "KERAS_BACKEND": "tensorflow"},
        input=json.dumps(spec.to_metadata()),
        capture_output=True,
        text=True,
        check=False,
    )
    if result.returncode:
        raise ExportError((result.stderr.strip() or "the export has no output").splitlines()[-1])


def _export_here(source: Path, spec: ModelSpec, path: Path) -> None:
    from fer_train.network._keras import keras

    try:
        net = keras.saving.load_model(source, compile=False)
    except (OSError, ValueError, TypeError) as error:
        raise ExportError(f"Expected a Keras model at {source}: {error}") from error
    try:
        export_model(net, spec, path, gate_sample())
    finally:
        del net
        keras.backend.clear_session()


def export_best(
    run: Run,
    model: str,
    folder: Path,
    *,
    fold: int | None = None,
    keras_file: bool = False,
    averaged: tuple[Path, Mapping[str, Any]] | None = None,
    report: Callable[[str], None] = lambda text: None,
) -> Path:
    """Write a fold of a run as ``MODEL.onnx``, its training log beside it.

    Args:
        run: The run.
        model: Name of the model.
        folder: Where the files go.
        fold: Index of the fold; None chooses by `best_fold`.
        keras_file: Keep ``MODEL.keras`` beside it.
        averaged: A Keras file that takes the place of the fold's own, and its scores on the images
            that judge the fold; see `fer_train.network.averaging`.
        report: Called with a line about each file that goes, since it was made from another one.

    Returns:
        The ONNX file.

    Raises:
        RunError: The fold is not done, or a file cannot be written.
        ExportError: The gate refuses.
    """
    index = best_fold(run, model) if fold is None else fold
    source = run.fold_folder(model, index)
    path = folder / f"{model}.onnx"
    spec = fold_spec(run, model, index)
    keras_source = source / "model.keras"
    if averaged:
        keras_source, scores = averaged
        spec = dataclasses.replace(spec, scores={name: float(scores[name]) for name in SCORES})
    before = file_digest(path) if path.is_file() else ""
    export_file(keras_source, spec, path)
    copy_file(source / "history.csv", folder / f"{model}.history.csv")
    if keras_file:
        copy_file(keras_source, path.with_suffix(".keras"))
    if file_digest(path) != before:
        _remove_others(path, report)
    update_digests(folder)
    return path


def is_of_run(path: Path, run: Run, model: str, fold: int | None = None) -> bool:
    """Tell whether a file is what exporting that fold, or the best one, writes anew.

    Raises:
        RunError: The fold is not done.
    """
    index = best_fold(run, model) if fold is None else fold
    try:
        found = Classifier(path, provider="cpu", detector="none").spec
    except ModelError:
        return False
    return found == fold_spec(run, model, index)


def _remove_others(path: Path, report: Callable[[str], None]) -> None:
    """Remove what tells of, or was made from, the file that was there before; not its weights."""
    others = [path.with_suffix(".json"), *path.parent.glob(f"{path.stem}.stage-*.history.csv")]
    digest = file_digest(path)
    for form in sorted(path.parent.glob(f"{path.stem}.*.onnx")):
        if Classifier(form, provider="cpu", detector="none").spec.parent != digest:
            others += [form, form.with_suffix(".json")]
            report(f"{form}: removed, since it was made from an earlier {path.name}")
    for other in others:
        other.unlink(missing_ok=True)


def best_fold(run: Run, model: str) -> int:
    """Return the fold whose kept epoch was best on the images that steered its training.

    With an inner split these are not the images that judge the fold, so the choice does not make
    the exported model's scores look better than they are.

    Raises:
        RunError: A fold is not done.
    """
    folds = evaluate_model(run, model).folds
    kept = [fold.curves["val_accuracy"][int(fold.score["kept_epoch"]) - 1] for fold in folds]
    return folds[int(np.argmax(kept))].index


def fold_spec(run: Run, model: str, index: int) -> ModelSpec:
    """Return what the ONNX file of a fold says of itself."""
    if not run.is_done(model, index):
        raise RunError(
            f"Expected fold {index} of {model} in {run.folder} to be done; start fer-train fold "
            f"--model {model} --fold {index} on it"
        )
    score = run.score(model, index)
    return ModelSpec(
        labels=run.protocol.labels,
        model=model,
        recipe=run.recipes[model].name,
        fold=index,
        dataset=Path(run.protocol.data).name,
        dataset_digest=run.dataset_digest,
        scores={name: float(score[name]) for name in SCORES},
        licence=LICENCE,
    )


def copy_file(source: Path, target: Path) -> None:
    """Copy a file, atomically."""
    write_atomic(target, lambda temporary: shutil.copyfile(source, temporary))


def gate_sample() -> NDArray[np.float32]:
    """Return float32 (64, 48, 48, 1): drawn faces, noise, black and white."""
    faces, _ = synthetic_faces(_SAMPLE_FACES)
    noise = np.random.default_rng(0).integers(0, 256, (_SAMPLE_NOISE, *faces.shape[1:]))
    flat = np.stack([np.zeros(faces.shape[1:]), np.full(faces.shape[1:], 255)])
    return np.concatenate([faces, noise, flat]).astype(np.float32)[..., None]


def update_digests(folder: Path) -> None:
    """Write SHA256SUMS over the models in a folder; ``sha256sum -c`` reads it."""
    lines = [
        f"{file_digest(path)}  {path.name}\n"
        for path in sorted(folder.iterdir())
        if path.suffix in (".onnx", ".keras") and not path.name.startswith(".")
    ]
    write_text(folder / DIGESTS, "".join(lines))


def file_digest(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _largest_difference(
    path: Path, sample: NDArray[np.float32], expected: NDArray[np.float32]
) -> float:
    """Compare a file, opened as a user would open it, with what Keras answered."""
    answered = Classifier(path, provider="cpu", detector="none").probabilities(sample)
    return float(np.abs(answered - expected).max())


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
    metadata = json.load(sys.stdin)
    source, path = map(Path, sys.argv[1:])
    spec = spec_from_metadata(metadata, str(source))
    try:
        _export_here(source, spec or ModelSpec(), path)
    except FerError as error:
        sys.stderr.write(f"{' '.join(error.message.split())}\n")
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(_main())
