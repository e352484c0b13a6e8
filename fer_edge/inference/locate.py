"""Where a model file lies: a path, or a bare name looked for in a few places."""

import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Literal, get_args

from fer_edge.contract import spec_from_metadata
from fer_edge.errors import ModelError
from fer_edge.inference.onnx_file import read_model

_LOG = logging.getLogger(__name__)

# In fp32, which is right on every processor and provider; int8 is a name away.
DEFAULT_MODEL = "edge.onnx"

DEFAULT_DETECTOR = "face.onnx"

DetectorName = Literal["face", "haar", "yunet", "none"]
DETECTORS: tuple[DetectorName, ...] = get_args(DetectorName)


def model_folders() -> Iterator[Path]:
    """Yield the folders searched for a bare name, in their order."""
    yield Path()
    yield Path("exported")
    yield from shipped_folders()


def shipped_folders() -> Iterator[Path]:
    """Yield the folders of the models that came with the package."""
    package = Path(__file__).parents[1]
    # A checkout keeps them beside the package, a wheel inside of it.
    yield package.parent / "exported"
    yield package / "models"


def find_model(model: str | Path | None = None, *, default: str = DEFAULT_MODEL) -> Path:
    """Find a model's file.

    A bare name such as ``vgg16.onnx`` or ``vgg16`` is looked for in the current folder, in
    ``exported/`` there and in the checkout, and in the installed package; where it lies in none of
    them, its int8 form (``vgg16.int8.onnx``) is. The caller sees by the name which one it is.

    Args:
        model: Path or bare name; None means the model that is shipped as the default, whatever
            lies in the current folder.
        default: Its name.

    Raises:
        ModelError: There is no such file.
    """
    wanted = Path(default if model is None else model)
    if len(wanted.parts) > 1:
        if _is_file(wanted):
            return wanted
        raise ModelError(f"Expected an ONNX file, found none at {wanted}")
    folders = list(shipped_folders() if model is None else model_folders())
    names = [wanted.name]
    if wanted.name:
        stem = wanted.name.removesuffix(".onnx")
        names += [f"{stem}.onnx", f"{stem}.int8.onnx"]
    for name in names:
        for folder in folders:
            if name and _is_file(folder / name):
                return folder / name
    searched = ", ".join(str(folder.resolve()) for folder in folders if folder.is_dir())
    raise ModelError(
        f"Expected a model named {wanted}, found none in {searched}; 'fer-edge models' lists those "
        "there are"
    )


def half_form(path: Path) -> Path | None:
    """Return the float16 form that lies beside a model's file, such as ``edge.fp16.onnx``.

    One that was made from another file of that name is left alone, with a warning in the log.

    Raises:
        ModelError: It is broken.
    """
    form = path.with_suffix(".fp16.onnx")
    if not _is_file(form):
        return None
    import hashlib  # Late, as in `fer_edge._base.files`.

    spec = spec_from_metadata(read_model(form)[1].metadata, form.name)
    if spec and spec.parent == hashlib.sha256(read_model(path)[0]).hexdigest():
        return form
    _LOG.warning("%s was made from another %s, which runs itself; export it again", form, path.name)
    return None


def _is_file(path: Path) -> bool:
    return os.path.isfile(path)  # noqa: PTH113 - Path.is_file raises for names that are too long
