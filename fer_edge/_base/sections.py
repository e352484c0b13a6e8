"""Options of a command under headings, so that a long list can be chosen from."""

from collections.abc import Callable
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])


def section(title: str, *options: Callable[[F], F]) -> Callable[[F], F]:
    """Return a decorator that adds options under a heading of their command's help.

    Args:
        title: The heading.
        options: From `click.option`, in the order in which they are shown.
    """

    def decorate(function: F) -> F:
        there = list(getattr(function, "__click_params__", ()))
        for option in reversed(options):
            function = option(function)
        for parameter in getattr(function, "__click_params__", ()):
            if not any(parameter is known for known in there):
                parameter.section = title
        return function

    return decorate


class SectionedCommand(click.Command):
    """A command whose help lists its options under the headings of `section`."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options, those without a heading last."""
        rows: dict[str, list[tuple[str, str]]] = {}
        for parameter in self.get_params(ctx):
            # Arguments stand in the usage line; some versions of click list them too.
            record = parameter.get_help_record(ctx) if isinstance(parameter, click.Option) else None
            if record is not None:
                rows.setdefault(getattr(parameter, "section", ""), []).append(record)
        rest = rows.pop("", [])
        for title, records in (*rows.items(), ("Others" if rows else "Options", rest)):
            if records:
                with formatter.section(title):
                    formatter.write_dl(records)
