"""What ``fer-train doctor`` reports: the back end, its devices, and what a training needs."""

import importlib.metadata
import os
import platform
import shutil
from pathlib import Path
from typing import Any

from fer_edge import __version__
from fer_edge._base.threads import available_threads
from fer_edge.errors import FerError

_PACKAGES = ("keras", "tensorflow", "jax", "jaxlib", "numpy", "onnx", "onnxruntime", "tf2onnx")
_GIB = 1024**3
_DRIVER = Path("/proc/driver/nvidia/version")
_LEAST_DISK_GIB = 2.0
"""Below that much free space, checkpoints and features of a run may not fit."""


def examine(folder: Path) -> dict[str, Any]:
    """Look at this installation and machine.

    Args:
        folder: Where runs are written; it need not be there yet.

    Returns:
        Findings as plain JSON values; ``problems`` lists what keeps a training from running, or
        from running as fast as it could, each with what mends it.
    """
    problems: list[str] = []
    findings: dict[str, Any] = {
        "fer_train": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "processors": os.cpu_count(),
        "threads": available_threads(),
        "gpu_driver": _driver(),
        **_back_end(problems),
        "memory_free_gib": _free_memory(),
        "disk_free_gib": _free_disk(folder, problems),
        "problems": problems,
    }
    return findings


def _packages() -> dict[str, str]:
    found = {}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found[name] = "not installed"
    return found


def _driver() -> str | None:
    try:
        return _DRIVER.read_text(errors="replace").splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def _back_end(problems: list[str]) -> dict[str, Any]:
    try:
        from fer_train.network._keras import keras
        from fer_train.network.device import choose_precision, on_accelerator
        from fer_train.network.loops import precision_works
    except FerError as error:
        problems.append(error.message)
        return {"back_end": None}
    backend = keras.backend.backend()
    if _driver() and not on_accelerator():
        wanted = "jax[cuda13]" if backend == "jax" else "fer-edge[train-gpu]"
        problems.append(
            f"There is an NVIDIA driver, but {backend} uses no GPU; run: pip install '{wanted}' "
            "(nvidia-smi shows the driver's CUDA; CUDA_VISIBLE_DEVICES may hide cards)"
        )
    precision = choose_precision("auto")
    works = precision_works(precision)
    if not works:
        problems.append(
            f"A training step in {precision} gives no numbers here; --precision auto trains in "
            "float32 instead"
        )
    return {
        "back_end": backend,
        "devices": keras.distribution.list_devices(),
        "precision": precision if works else "float32",
    }


def _free_memory() -> float | None:
    try:
        lines = Path("/proc/meminfo").read_text("utf-8").splitlines()
    except OSError:
        return None
    sizes = dict(line.split(":", 1) for line in lines)
    return round(int(sizes["MemAvailable"].split()[0]) * 1024 / _GIB, 1)


def _free_disk(folder: Path, problems: list[str]) -> float:
    there = next(path for path in (folder.resolve(), *folder.resolve().parents) if path.exists())
    free = round(shutil.disk_usage(there).free / _GIB, 1)
    if free < _LEAST_DISK_GIB:
        problems.append(
            f"Only {free} GiB are free in {there}, where runs go; free some space or choose "
            "another --run"
        )
    return free
