"""Flags of both command lines: what a model is, from the one table, and how faces are found."""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import Any

import click

from fer_edge._base.sections import section
from fer_edge.contract import DESCRIPTION, Entry
from fer_edge.inference.locate import DEFAULT_DETECTOR, DETECTORS

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def grouped(
    argument: str, build: Callable[..., Any], names: Sequence[str], options: Sequence[Decorator]
) -> Decorator:
    """Make a decorator that adds options and hands ``build`` of their values to the command.

    Args:
        argument: The command's parameter that receives what ``build`` returns.
        build: Takes the options' values by their names.
        names: The options' names.
        options: From `click.option`.
    """

    def decorate(command: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(command)
        def wrapper(**values: Any) -> Any:
            own = {name: values.pop(name) for name in names}
            return command(**{argument: build(**own)}, **values)

        decorated: Callable[..., Any] = wrapper
        for option in reversed(options):
            decorated = option(decorated)
        return decorated

    return decorate


def description_options(*, without: Sequence[str] = ()) -> Decorator:
    """Make a decorator that adds the flags of `DESCRIPTION`.

    The command receives ``description``: the values that were given, as `Description` has them.

    Args:
        without: Names of the table that the command has no use for.
    """
    entries = [entry for entry in DESCRIPTION if entry.parse and entry.name not in without]

    def given(**values: Any) -> dict[str, Any]:
        return {name: value for name, value in values.items() if value is not None}

    names = [entry.name for entry in entries]
    options = section("What a model does not say itself", *map(_option, entries))
    return grouped("description", given, names, [options])


def _option(entry: Entry) -> Decorator:
    def read(context: click.Context, option: click.Parameter, value: str | None) -> Any:
        if value is None or entry.parse is None:
            return None
        try:
            return entry.convert(entry.parse(value))
        except (TypeError, ValueError) as error:
            raise click.BadParameter(str(error)) from error

    return click.option(
        *(f"--{name.replace('_', '-')}" for name in (entry.name, *entry.aliases)),
        entry.name,
        type=click.Choice(entry.choices) if entry.choices else str,
        callback=read,
        metavar=None if entry.choices else entry.metavar,
        help=entry.help,
    )


def _check_detector(
    context: click.Context, option: click.Parameter, value: Path | None
) -> Path | None:
    detector = context.params["detector"]
    if detector == "yunet" and value is None:
        raise click.UsageError(
            "Expected --detector-model FILE for --detector yunet (the file is "
            "face_detection_yunet_2023mar.onnx of OpenCV's model zoo)"
        )
    if detector in ("haar", "none") and value is not None:
        raise click.UsageError(
            f"Expected --detector face or yunet for --detector-model, received {detector}"
        )
    return value


_DETECTOR = (
    click.option(
        "--detector",
        type=click.Choice(DETECTORS),
        default=DETECTORS[0],
        show_default=True,
        is_eager=True,  # The next one is checked with it.
        help="How faces are found. face: a network of this project; haar: OpenCV's cascade, which "
        "OpenCV 5 lacks; yunet: OpenCV's network, by file; none: the picture is the face.",
    ),
    click.option(
        "--detector-model",
        type=click.Path(path_type=Path),
        callback=_check_detector,
        metavar="NAME|FILE",
        help=f"ONNX file of yunet, or of another network for face. [default: {DEFAULT_DETECTOR}]",
    ),
)


def detector_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Add the choice of the face detector: ``detector`` and ``detector_model``, which fit."""
    for option in reversed(_DETECTOR):
        command = option(command)
    return command
