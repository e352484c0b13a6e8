"""Facts and findings of a command, for people or as JSON."""

import dataclasses
import json
import sys
from collections.abc import Mapping
from typing import Any

import click


def print_facts(facts: Mapping[str, Any], *, as_json: bool) -> None:
    """Print facts to standard output, a line each, or as one JSON object."""
    if as_json:
        click.echo(json.dumps(facts, indent=2, default=dataclasses.asdict))
        return
    for name, value in facts.items():
        click.echo(f"{name:<16} {plain(value)}")


def plain(value: Any) -> str:
    """Return a fact as one line."""
    if isinstance(value, Mapping):
        value = [f"{key} {plain(item)}" for key, item in value.items()]
    if isinstance(value, list | tuple):
        value = ", ".join(map(plain, value))
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.4g}"
    return "-" if value in ("", None) else str(value)


def print_findings(findings: Mapping[str, Any], *, as_json: bool) -> None:
    """Print what a doctor found; its ``problems`` go to standard error and end with exit code 1."""
    shown = {name: value for name, value in findings.items() if as_json or name != "problems"}
    print_facts(shown, as_json=as_json)
    if not as_json:
        for problem in findings["problems"]:
            click.echo(f"problem: {problem}", err=True)
    if findings["problems"]:
        sys.exit(1)
