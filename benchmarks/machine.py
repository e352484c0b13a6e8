"""What a benchmark ran on, for its results file."""

import importlib.metadata
import os
import platform
from pathlib import Path

from fer_edge.threads import available_threads

_PACKAGES = ("numpy", "opencv-python-headless", "onnxruntime", "tensorflow", "keras", "jax")


def describe_machine() -> dict[str, object]:
    """Return processor, threads, system and package versions as plain JSON values."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return {
        "processor": _processor(),
        "processors": os.cpu_count(),
        "threads": available_threads(),
        "system": platform.system(),
        "machine": platform.machine(),
        "python": platform.python_version(),
        "packages": versions,
    }


def _processor() -> str:
    path = Path("/proc/cpuinfo")
    if path.is_file():
        for line in path.read_text().splitlines():
            if line.startswith("model name"):
                return line.split(":", 1)[1].strip()
    return platform.processor()
