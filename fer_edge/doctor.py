"""What ``fer-edge doctor`` reports: what is installed, what works, and how fast."""

import ctypes.util
import importlib.metadata
import os
import platform
import statistics
import time
from pathlib import Path
from typing import Any

import numpy as np

from fer_edge import __version__
from fer_edge._base._installed import ONNXRUNTIME_BUILDS, OPENCV_BUILDS, installed_builds
from fer_edge._base.threads import available_threads
from fer_edge.errors import DetectorError, FerError, ProviderError

_ACCELERATORS = frozenset({"cuda", "directml", "openvino", "tensorrt"})
_GPU_LIBRARIES = ("cuda", "cudart", "cublas", "cudnn", "nvinfer", "OpenCL")


def examine() -> dict[str, Any]:
    """Look at this installation.

    Returns:
        Findings as plain JSON values; ``problems`` lists what keeps fer-edge from working, each
        with the line that mends it.
    """
    problems: list[str] = []
    findings: dict[str, Any] = {
        "fer_edge": __version__,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": _packages(),
        "opencv": installed_builds(OPENCV_BUILDS),
        "onnxruntime": installed_builds(ONNXRUNTIME_BUILDS),
        "opencv_windows": _try(_opencv_windows, problems),
        "providers": _try(_providers, problems),
        "face_detector": _try(_time_face_detector, problems),
        "haar_detector": _try(_haar_detector, problems),
        "gpu_libraries": [name for name in _GPU_LIBRARIES if ctypes.util.find_library(name)],
        "gpu_driver": _first_line(Path("/proc/driver/nvidia/version")),
        "cameras": _cameras(),
        "display": os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY"),
        "processors": os.cpu_count(),
        "threads": available_threads(),
        "accelerators": _try(lambda: _accelerators(problems), problems),
        "default_model": _try(_time_default_model, problems),
        "problems": problems,
    }
    return findings


def _try(look: Any, problems: list[str]) -> Any:
    try:
        return look()
    except FerError as error:
        if error.message not in problems:
            problems.append(error.message)
        return None


def _packages() -> dict[str, str]:
    return {name: importlib.metadata.version(name) for name in ("numpy", "click")}


def _opencv_windows() -> str:
    from fer_edge._base._cv2 import cv2

    lines = cv2.getBuildInformation().splitlines()
    found = [line.split(":", 1)[1].strip() for line in lines if line.strip().startswith("GUI:")]
    toolkit = found[0] if found else "NONE"
    return "none" if toolkit in ("", "NONE") else toolkit


def _providers() -> list[str]:
    from fer_edge._base._ort import onnxruntime
    from fer_edge.inference.providers import short_name

    return [short_name(name) for name in onnxruntime.get_available_providers()]


def _haar_detector() -> str:
    from fer_edge.inference.detectors import HaarDetector

    try:
        HaarDetector()
    except DetectorError as error:
        # No problem of the installation: the other detectors work.
        return error.message
    return "works"


def _accelerators(problems: list[str]) -> dict[str, str]:
    """Try each provider that needs more than onnxruntime's own files, and say which work."""
    from fer_edge.inference.libraries import has_tensorrt
    from fer_edge.inference.locate import find_model
    from fer_edge.inference.session import open_session

    found = {}
    for name in sorted(_ACCELERATORS.intersection(_providers())):
        try:
            open_session(find_model(None), name, available_threads())
            found[name] = "works"
        except ProviderError as error:
            # Each build for CUDA has a part for TensorRT, which few want and nobody has installed.
            if name == "tensorrt" and not has_tensorrt():
                found[name] = "not installed"
            else:
                found[name] = "fails"
                problems.append(error.message)
    return found


def _cameras() -> list[str]:
    folder = Path("/sys/class/video4linux")
    if not folder.is_dir():
        return []
    return [
        f"/dev/{camera.name} ({_first_line(camera / 'name')})"
        for camera in sorted(folder.iterdir())
    ]


def _first_line(path: Path) -> str | None:
    try:
        return path.read_text(errors="replace").splitlines()[0].strip()
    except (OSError, IndexError):
        return None


def _time_face_detector() -> dict[str, Any]:
    from fer_edge.inference.detectors import WORKING_SIDE, OnnxDetector

    detector = OnnxDetector()
    frame = np.zeros((WORKING_SIDE * 3 // 4, WORKING_SIDE, 3), np.uint8)
    runs = []
    for _ in range(10):
        start = time.perf_counter()
        detector.detect(frame)
        runs.append(1000 * (time.perf_counter() - start))
    return {
        "file": str(detector.path),
        "runs_on": detector.provider,
        f"ms_at_{frame.shape[1]}x{frame.shape[0]}": round(statistics.median(runs), 2),
    }


def _time_default_model() -> dict[str, Any]:
    from fer_edge.inference.classifier import Classifier
    from fer_edge.inference.describe import model_input_shape

    start = time.perf_counter()
    classifier = Classifier(detector="none")
    load_ms = 1000 * (time.perf_counter() - start)
    times = {}
    for count in (1, 64):
        batch = np.zeros((count, *model_input_shape(classifier.spec)), np.float32)
        classifier.probabilities(batch)
        runs = []
        for _ in range(10):
            start = time.perf_counter()
            classifier.probabilities(batch)
            runs.append(1000 * (time.perf_counter() - start) / count)
        times[f"batch_{count}_ms_per_face"] = round(statistics.median(runs), 3)
    return {
        "file": str(classifier.model_path),
        "runs_on": classifier.provider,
        "load_ms": round(load_ms, 1),
        **times,
    }
