"""Which of several distributions that provide the same module are installed."""

import sys
from pathlib import Path

OPENCV_BUILDS = (
    "opencv-python",
    "opencv-python-headless",
    "opencv-contrib-python",
    "opencv-contrib-python-headless",
)
ONNXRUNTIME_BUILDS = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-openvino",
    "onnxruntime-directml",
    "onnxruntime-qnn",
    "onnxruntime-migraphx",
    "onnxruntime-rocm",
)


def installed_builds(names: tuple[str, ...]) -> dict[str, str]:
    """Return name and version of those distributions that are installed.

    Folder names tell it: importlib.metadata would add 30 ms to each start.
    """
    wanted = {name.replace("-", "_"): name for name in names}
    found: dict[str, str] = {}
    for folder in map(Path, sys.path):
        if not folder.is_dir():
            continue
        for entry in folder.glob("*.dist-info"):
            stem, _, version = entry.name.removesuffix(".dist-info").partition("-")
            if stem.lower() in wanted:
                found.setdefault(wanted[stem.lower()], version)
    return found


def opencv_build() -> str:
    """Return the build of OpenCV to name in a line for pip: the installed one, where there is one.

    Another build beside it would overwrite its files.
    """
    return next(iter(installed_builds(OPENCV_BUILDS)), "opencv-python-headless")
