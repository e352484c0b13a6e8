"""Models of one's own: a function that a person wrote builds them.

It is called with the shape of an image and the number of classes, as those of
``keras.applications`` are::

    def build(input_shape, classes):
        return keras.Sequential(
            [
                keras.Input(input_shape),  # (48, 48, 1) unless --image-size and --color say more
                layers.Rescaling(1 / 255),  # levels come as they are, 0-255
                layers.Conv2D(32, 3, activation="relu"),
                layers.GlobalAveragePooling2D(),
                layers.Dense(classes, activation="softmax"),
            ]
        )

What it returns is trained, saved, loaded and exported as models of this package are. A layer of it
called ``backbone`` is what ``--frozen-epochs`` keeps frozen at first.
"""

import contextlib
import importlib.abc
import importlib.util
import re
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

from fer_edge.contract import INPUT_NAME, OUTPUT_NAME
from fer_edge.errors import DataError
from fer_train.network._keras import keras
from fer_train.run.recipes import Recipe

_MODULE = "fer_train_model_{}"
_LONGEST_REASON = 300
"""Letters of somebody's words in a message."""


class _Text(importlib.abc.InspectLoader):
    """Loads a module from text that lies in no file of that name."""

    def __init__(self, code: str, file: str) -> None:
        self.code, self.file = code, file

    def get_source(self, fullname: str) -> str:
        """Return the text."""
        return self.code

    def get_code(self, fullname: str) -> CodeType:
        """Compile it, under the name of the file that it came from."""
        return self.source_to_code(self.code, self.file)


def run_code(recipe: Recipe) -> ModuleType | None:
    """Run the code of a model of one's own: Keras knows its layers from then on.

    Args:
        recipe: The model's; of a model without code nothing is done.

    Raises:
        DataError: It raises something.
    """
    if not recipe.code:
        return None
    file = recipe.model_file.partition(":")[0]
    spec = importlib.util.spec_from_loader(
        _MODULE.format(Path(file).stem), _Text(recipe.code, file)
    )
    if spec is None:
        raise ValueError(f"Expected a module of {file}, received none")
    module = importlib.util.module_from_spec(spec)
    # Keras finds classes that it was not told of by the name of their module.
    sys.modules[spec.name] = module
    with told_of(file, "the file"):
        spec.loader.exec_module(module)  # type: ignore[union-attr]
    return module


def build_own(
    name: str, recipe: Recipe, input_shape: tuple[int, int, int], classes: int
) -> keras.Model:
    """Build an uncompiled model by the function of a person.

    Args:
        name: Of the model.
        recipe: Its settings, with the code.
        input_shape: Height, width and channels of an image.
        classes: Number of classes.

    Returns:
        A model of float32 (N, height, width, channels), 0-255, to float32 (N, classes).

    Raises:
        DataError: The code raises something, has no such function, or what that returns is no
            model of these shapes.
    """
    file, _, function = recipe.model_file.partition(":")
    build = getattr(run_code(recipe), function, None)
    if not callable(build):
        raise DataError(f"Expected a function {function} in {file}, received none of that name")
    with told_of(file, function):
        own = build(input_shape, classes)
    if not isinstance(own, keras.Model):
        raise DataError(
            f"{file}: expected {function}(input_shape, classes) to return a Keras model, received "
            f"{type(own).__name__}"
        )
    image = keras.Input(input_shape, name=INPUT_NAME, dtype="float32")
    with told_of(file, f"what {function} returns, called on images {_shape(image)},"):
        outputs = own(image)
    if getattr(outputs, "shape", None) != (None, classes):
        received = _shape(outputs) if hasattr(outputs, "shape") else type(outputs).__name__
        raise DataError(
            f"{file}: expected {function}{(input_shape, classes)} to return a model from images "
            f"(N, {', '.join(map(str, input_shape))}) to probabilities (N, {classes}), received "
            f"{received}; end it with Dense(classes, activation='softmax')"
        )
    # Whatever the precision of training is, these are float32.
    outputs = keras.layers.Activation("linear", dtype="float32", name=OUTPUT_NAME)(outputs)
    return keras.Model(image, outputs, name=name)


@contextlib.contextmanager
def told_of(file: str, what: str) -> Iterator[None]:
    """Say of an error in a person's code where it is; what the code prints is no result."""
    try:
        with contextlib.redirect_stdout(sys.stderr):
            yield
    except (Exception, SystemExit) as error:
        frames = traceback.extract_tb(error.__traceback__)
        lines = [frame.lineno for frame in frames if frame.filename == file]
        if isinstance(error, SyntaxError) and error.filename == file:
            lines.append(error.lineno)
        line = f", line {lines[-1]}" if lines else ""
        alone = isinstance(error, ModuleNotFoundError)
        hint = f"; {file} is run by itself: other files of yours are not found" if alone else ""
        raise DataError(
            f"{file}{line}: {what} raised {type(error).__name__}: {brief(error)}{hint}"
        ) from error


def brief(error: BaseException) -> str:
    """Return the beginning of what an error says, which can go on to list a whole model."""
    # Keras writes some of it in bold.
    text = " ".join(re.sub(r"\x1b\[\d*m", "", str(error)).split())
    return text if len(text) <= _LONGEST_REASON else f"{text[:_LONGEST_REASON]} ..."


def _shape(tensor: Any) -> str:
    return f"({', '.join('N' if side is None else str(side) for side in tensor.shape)})"
