"""Kinds of values that options take."""

from typing import Any

import click

from fer_edge.errors import DataError
from fer_train.data.emotions import parse_labels_map
from fer_train.run.model_file import OwnModel, read_model_file
from fer_train.run.recipes import LARGEST_SEED

SEED = click.IntRange(0, LARGEST_SEED)


class NameList(click.ParamType[tuple[str, ...]]):
    """A comma-separated list of names, from a fixed set where there is one."""

    name = "names"

    def __init__(self, allowed: tuple[str, ...] = ()) -> None:
        """Take the names that are allowed; all are where none is given."""
        self.allowed = allowed

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Split and check the list."""
        if isinstance(value, tuple):
            return value
        names = tuple(dict.fromkeys(name.strip() for name in value.split(",") if name.strip()))
        if not names:
            expected = f"some of {', '.join(self.allowed)}" if self.allowed else "names"
            self.fail(f"expected {expected}, received none")
        if unknown := [name for name in names if self.allowed and name not in self.allowed]:
            self.fail(f"expected {', '.join(self.allowed)}, received {', '.join(unknown)}")
        return names


class LabelsMap(click.ParamType[tuple[str, ...]]):
    """What names in a data set mean: pairs, presets, or a TOML file of them."""

    name = "labels map"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[str, ...]:
        """Read the pairs."""
        if isinstance(value, tuple):
            return value
        try:
            return parse_labels_map(value)
        except DataError as error:
            self.fail(error.message)


class ModelFile(click.ParamType[OwnModel]):
    """``FILE.py:FUNCTION``, an architecture of one's own."""

    name = "model file"

    def convert(self, value: Any, param: Any, ctx: Any) -> OwnModel:
        """Read the file."""
        if isinstance(value, OwnModel):
            return value
        try:
            return read_model_file(value)
        except DataError as error:
            self.fail(error.message)


class SeedList(click.ParamType[tuple[int, ...]]):
    """A comma-separated list of different seeds."""

    name = "seeds"

    def convert(self, value: Any, param: Any, ctx: Any) -> tuple[int, ...]:
        """Split and check the list."""
        if isinstance(value, tuple):
            return value
        seeds = tuple(SEED.convert(part.strip(), param, ctx) for part in value.split(","))
        if len(set(seeds)) < len(seeds):
            self.fail(f"expected seeds that differ, received {value}")
        return seeds
