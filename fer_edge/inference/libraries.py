"""The shared libraries that providers need beside onnxruntime: loaded, or named where missing.

onnxruntime's builds for graphics cards find CUDA's libraries on the system's search path alone:
what pip has put into site-packages has to be loaded before. Of what is missing it tells its log
only, and there the first library alone.
"""

import contextlib
import ctypes
import functools
import importlib.util
import io
import re
import sys
from collections.abc import Iterator
from pathlib import Path

from fer_edge._base._ort import ORT_ERRORS, onnxruntime

_WINDOWS = sys.platform == "win32"
_DRIVER = "nvcuda.dll" if _WINDOWS else "libcuda.so.1"
_LOG_FATAL = 4
# Whose library it is, and what brings it; {number} is the one in its name.
_ORIGINS = {
    r"libcuda\.|nvcuda": (
        "NVIDIA's driver",
        "install the driver, or start the container with the card: docker run --gpus all",
    ),
    r"nvinfer|nvonnxparser": (
        "TensorRT {number}",
        "run: pip install 'tensorrt-cu{cuda}=={number}.*'",
    ),
    r"cudnn": ("cuDNN {number} for CUDA {cuda}", "run: pip install 'fer-edge[gpu]'"),
    r"cublas|cudart|cufft|curand|nvrtc|nvjitlink": (
        "CUDA {cuda}",
        "run: pip install 'fer-edge[gpu]'",
    ),
    r"openvino|tbb": (
        "OpenVINO",
        "run: pip install --force-reinstall onnxruntime-openvino"
        + (" openvino" if _WINDOWS else ""),
    ),
}
# What CUDA says where all libraries are there.
_DRIVER_FAULTS = {
    r"driver version is insufficient|CUDA failure (35|803|804)\b": (
        "NVIDIA's driver is too old for CUDA {cuda}; update it (nvidia-smi shows its version)"
    ),
    r"no CUDA-capable device|CUDA failure 100\b": (
        "the driver sees no card (nvidia-smi lists them; CUDA_VISIBLE_DEVICES may hide them)"
    ),
}


@functools.cache
def load_libraries(provider: str) -> tuple[str, ...]:
    """Load what pip has installed for a provider, once in a process.

    Args:
        provider: A short name of `fer_edge.inference.providers.PROVIDERS`.

    Returns:
        What could not be loaded: messages of the dynamic linker, each with a library's name.
    """
    if provider not in ("cuda", "tensorrt", "openvino"):
        return ()
    # What it logs of a provider that fails is said by `library_fault`, once and with the cure.
    onnxruntime.set_default_logger_severity(_LOG_FATAL)
    if provider == "openvino":
        with contextlib.suppress(ImportError, SystemExit):
            from onnxruntime.tools.add_openvino_win_libs import add_openvino_libs_to_path

            add_openvino_libs_to_path()
        return ()
    said = io.StringIO()
    # From 1.21 on. It prints what it cannot load.
    if hasattr(onnxruntime, "preload_dlls"):
        with contextlib.redirect_stdout(said), contextlib.suppress(*ORT_ERRORS):
            onnxruntime.preload_dlls()
    if provider == "tensorrt":
        for file in _tensorrt_files():
            with contextlib.suppress(OSError):
                ctypes.CDLL(str(file))
    return tuple(re.findall(r"^Failed to load (.*)", said.getvalue(), re.MULTILINE))


def has_tensorrt() -> bool:
    """Say whether TensorRT's libraries are installed by pip, which the gpu extra leaves out."""
    return importlib.util.find_spec("tensorrt_libs") is not None


def _tensorrt_files() -> Iterator[Path]:
    spec = importlib.util.find_spec("tensorrt_libs")
    for folder in (spec and spec.submodule_search_locations) or ():
        # The core first, which the others need.
        for name in ("nvinfer", "nvinfer_plugin", "nvonnxparser"):
            for pattern in (f"lib{name}.so.*", f"{name}_[0-9]*.dll"):
                yield from sorted(Path(folder).glob(pattern))


def library_fault(provider: str, reason: str = "") -> str:
    """Say why a provider that onnxruntime has does not run, and what mends it.

    Call it after onnxruntime itself has tried: its part for the provider must not be loaded before.

    Args:
        provider: A short name of `fer_edge.inference.providers.PROVIDERS`.
        reason: What onnxruntime has said, if anything.
    """
    cuda = str(getattr(onnxruntime, "cuda_version", "")).split(".")[0]
    faults = list(load_libraries(provider))
    if provider in ("cuda", "tensorrt"):
        faults += _loading_fault(_DRIVER)
    for name in (
        f"libonnxruntime_providers_{provider}.so",
        f"onnxruntime_providers_{provider}.dll",
    ):
        file = Path(onnxruntime.__file__).parent / "capi" / name
        if file.exists():
            faults += _loading_fault(str(file))
    missing = list(dict.fromkeys(name for fault in faults if (name := _missing(fault))))
    told = []
    for pattern, (origin, cure) in _ORIGINS.items():
        names = [name for name in missing if re.search(pattern, name, re.IGNORECASE)]
        if names:
            missing = [name for name in missing if name not in names]
            number = next(iter(re.findall(r"(?:\.so\.|_)(\d+)", names[0])), "")
            rest = f"of {origin} {'are' if len(names) > 1 else 'is'} missing; {cure}"
            told.append(f"{', '.join(names)} {rest.format(number=number, cuda=cuda or number)}")
    told += [f"{name} is missing" for name in missing]
    told += [fault for fault in faults if not _missing(fault)]
    if told:
        return "; ".join(told)
    for pattern, text in _DRIVER_FAULTS.items():
        if re.search(pattern, reason):
            return f"{text.format(cuda=cuda)}: {reason}"
    return reason or "onnxruntime does not say why"


def _loading_fault(library: str) -> list[str]:
    try:
        ctypes.CDLL(library)
    except OSError as error:
        return [str(error)]
    return []


def _missing(fault: str) -> str:
    """Return the library that is missing by a message of the dynamic linker, else nothing."""
    linux = re.search(r"([^\s:/]+): cannot open shared object file", fault)
    windows = re.search(r"Could not find module '(?:.*[\\/])?([^\\/']+)'", fault)
    found = linux or windows
    return found[1] if found else ""
