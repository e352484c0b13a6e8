"""onnxruntime, or one clear message on what to install; one build of it, never two."""

import os

from fer_edge._base._installed import ONNXRUNTIME_BUILDS, installed_builds
from fer_edge.errors import DependencyError

_builds = installed_builds(ONNXRUNTIME_BUILDS)
if len(_builds) > 1:
    # Two builds overwrite each other's files, and the graphics card goes unused without a word.
    raise DependencyError(
        f"Expected one build of onnxruntime, received {' and '.join(_builds)}; run: "
        f"pip uninstall -y {' '.join(_builds)} && pip install 'fer-edge[cpu]', or 'fer-edge[gpu]'"
    )

# From 1.29 on it reports to its maker what it runs, which nobody here has agreed to. Read once, by
# the first program part that loads it; who wants the reports sets it to 0.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

try:
    import onnxruntime
except ImportError as error:
    if _builds:
        raise DependencyError(
            f"{next(iter(_builds))} cannot be loaded ({error}); run: "
            f"pip install --force-reinstall {next(iter(_builds))}"
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

__all__ = ["ORT_ERRORS", "onnxruntime"]
