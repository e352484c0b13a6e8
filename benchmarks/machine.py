"""Where a benchmark writes its results, and what it ran on."""

import importlib.metadata
import json
import os
import platform
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from fer_edge._base.threads import available_threads

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "tensorflow", "keras", "jax")
# As Linux writes them: vectors, 8-bit dot products, and bfloat16, on x86 and on ARM.
_INSTRUCTIONS = (
    *("avx2", "avx512f", "avx_vnni", "avx512_vnni", "amx_int8", "avx512_bf16", "amx_bf16"),
    *("asimd", "asimddp", "i8mm", "bf16"),
)

json_option = click.option(
    "--json",
    "json_path",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="Write the results there.",
)


def write_results(path: Path | None, content: Mapping[str, Any]) -> None:
    """Write results as JSON, with the machine that they are of; nothing without a path."""
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps({"machine": describe_machine(), **content}, indent=1) + "\n")


def describe_machine() -> dict[str, object]:
    """Return processor, threads, system and package versions as plain JSON values.

    Of the processor's instructions those are named that its speed on these models hangs on.
    """
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor_fact("model name") or platform.processor(),
        "instructions": [
            name
            for name in _INSTRUCTIONS
            if name in f"{_processor_fact('flags')} {_processor_fact('Features')}".split()
        ],
        "processors": os.cpu_count(),
        "threads": available_threads(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor_fact(key: str) -> str:
    """Return what Linux says of the first processor; "" where it says nothing."""
    path = Path("/proc/cpuinfo")
    for line in path.read_text().splitlines() if path.is_file() else []:
        name, _, value = line.partition(":")
        if name.strip() == key:
            return value.strip()
    return ""
