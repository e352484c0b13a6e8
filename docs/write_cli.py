"""Write docs/cli.md from the commands' own help.

python docs/write_cli.py [--check]
"""

import sys
from collections.abc import Iterator
from pathlib import Path

import click

from fer_edge.cli import main as fer_edge
from fer_train.cli import main as fer_train

PAGE = Path(__file__).with_name("cli.md")
_HEADER = "# All commands\n\n`python docs/write_cli.py` writes this page from what `--help` says.\n"


def page() -> str:
    """Return the page: each command's help under its name."""
    parts = [_HEADER]
    for name, group in (("fer-edge", fer_edge), ("fer-train", fer_train)):
        parts += [
            f"\n## {name} {words}".rstrip() + f"\n\n```\n{text}\n```\n"
            for words, text in _helps(group, name)
        ]
    return "".join(parts)


def _helps(group: click.Group, name: str) -> Iterator[tuple[str, str]]:
    context = click.Context(group, info_name=name, terminal_width=100, max_content_width=100)
    yield "", group.get_help(context)
    for words, command in sorted(group.commands.items()):
        if not command.hidden:
            own = click.Context(command, parent=context, info_name=words, terminal_width=100)
            yield words, command.get_help(own)


if __name__ == "__main__":
    if "--check" not in sys.argv:
        PAGE.write_text(page())
    elif PAGE.read_text() != page():
        sys.exit("docs/cli.md is not what the commands say; run docs/write_cli.py")
