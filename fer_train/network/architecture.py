"""A Keras model -> the rows of its layer diagram."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from fer_train.run.recipes import Recipe

# Of ResNet's 175 layers each residual block is shown as one.
_BLOCK = re.compile(r"(conv\d+_block\d+)_")


@dataclass(frozen=True)
class LayerRow:
    """One layer, or one block of layers, of a model.

    Attributes:
        name: Its name in the model.
        kind: Its class, such as ``Conv2D``, or ``block of 10 layers``.
        shape: Of its output; None is the free number of images. () where it is not known.
        parameters: Number of its weights.
    """

    name: str
    kind: str
    shape: tuple[int | None, ...]
    parameters: int


def layer_rows(model: Any) -> list[LayerRow]:
    """Return the layers of a Keras model in order, models inside of it unfolded."""
    rows: list[LayerRow] = []
    counts: dict[str, int] = {}
    for layer in _flat_layers(model):
        shape = output_shape(layer)
        block = _BLOCK.match(layer.name)
        name = block[1] if block else layer.name
        if block and rows and rows[-1].name == name:
            counts[name] += 1
            kind, before = f"block of {counts[name]} layers", rows.pop().parameters
            rows.append(LayerRow(name, kind, shape, before + layer.count_params()))
        else:
            counts[name] = 1
            rows.append(LayerRow(name, type(layer).__name__, shape, layer.count_params()))
    return rows


def saved_layer_rows(path: Path, recipe: Recipe) -> list[LayerRow]:
    """Return the layers of a ``.keras`` file that this trainer wrote by a recipe."""
    from fer_train.network.models import load_trained

    return layer_rows(load_trained(path, "a trained model", recipe))


def output_shape(layer: Any) -> tuple[int | None, ...]:
    """Return the shape of what a layer gives; () where Keras does not know it.

    It does not of layers that are called by the code of one's own model, or several times.
    """
    try:
        return tuple(layer.output.shape)
    except (AttributeError, ValueError):
        return ()


def _flat_layers(model: Any, *, inside: bool = False) -> Iterator[Any]:
    for layer in model.layers:
        if hasattr(layer, "layers"):
            yield from _flat_layers(layer, inside=True)
        elif not (inside and type(layer).__name__ == "InputLayer"):
            yield layer
