"""The flags that describe a model, made from the one table, for both command lines."""

from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

import click

from fer_edge._base.sections import section
from fer_edge.contract import DESCRIPTION, Entry

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
