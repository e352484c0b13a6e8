"""onnxruntime, or one clear message on what to install; one build of it, never two."""

import os
import re

from fer_edge._base._installed import ONNXRUNTIME_BUILDS, installed_builds
from fer_edge.errors import DependencyError

BUILDS = installed_builds(ONNXRUNTIME_BUILDS)
"""Name and version of the installed build of onnxruntime; empty where pip did not install it."""
if len(BUILDS) > 1:
    # Two builds overwrite each other's files, and the graphics card goes unused without a word.
    raise DependencyError(
        f"Expected one build of onnxruntime, received {' and '.join(BUILDS)}; run: "
        f"pip uninstall -y {' '.join(BUILDS)} && pip install 'fer-edge[cpu]', or 'fer-edge[gpu]'"
    )

# From 1.29 on it reports to its maker what it runs, which nobody here has agreed to. Read once, by
# the first program part that loads it; who wants the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime
except ImportError as error:
    if BUILDS:
        raise DependencyError(
            f"{next(iter(BUILDS))} cannot be loaded ({error}); run: "
            f"pip install --force-reinstall {next(iter(BUILDS))}"
        ) from error
    raise DependencyError(
        "onnxruntime is not installed; run: pip install 'fer-edge[cpu,headless]', or "
        "'fer-edge[gpu,headless]' for an NVIDIA card"
    ) from error

if os.environ["ORT_DISABLE_TELEMETRY"] == "1":
    # On Windows it reports through the system, and heeds this call alone.
    onnxruntime.disable_telemetry_events()

_state = onnxruntime.capi.onnxruntime_pybind11_state
# Its errors share no class of their own; what C++ throws besides them arrives as the last three.
ORT_ERRORS: tuple[type[Exception], ...] = (
    *(
        error
        for error in vars(_state).values()
        if isinstance(error, type) and issubclass(error, Exception)
    ),
    RuntimeError,
    ValueError,
    MemoryError,
)
"""What onnxruntime raises when it loads or runs a model."""

_MOST_LETTERS = 1000


def ort_reason(error: BaseException) -> str:
    """Return what onnxruntime says of a model in one line, without where in its source it says it.

    Of a model that is too new for it: which version the model has, which it takes, what to do.
    """
    text = " ".join(str(error).split())
    text = re.sub(r"^\[ONNXRuntimeError\] : \d+ : \w+ : ", "", text)
    text = re.sub(r"\S*\.(cc|h|cpp|hpp|cuh?):\d+ [^()]*(\(([^()]|\([^()]*\))*\))+ ", "", text)
    if found := re.search(r"model IR version: (\d+), max supported IR version: (\d+)", text):
        return _too_new(f"IR version {found[1]}", f"IR version {found[2]}")
    pattern = r"Opset (\d+) .*official support for domain (\S+) is till opset (\d+)"
    if found := re.search(pattern, text):
        return _too_new(f"opset {found[1]} of {found[2]}", f"opset {found[3]}")
    if len(text) > _MOST_LETTERS:
        # What is at fault stands at the end, behind what a hostile file may have made long.
        half = _MOST_LETTERS // 2
        text = f"{text[:half]} ... {text[-half:]}"
    return text or type(error).__name__


def _too_new(has: str, takes: str) -> str:
    return (
        f"the model has {has}, and this onnxruntime takes {takes} at most; update it (pip install "
        f"--upgrade {next(iter(BUILDS), 'onnxruntime')}), or export the model with {takes} or lower"
    )


__all__ = ["BUILDS", "ORT_ERRORS", "onnxruntime", "ort_reason"]
