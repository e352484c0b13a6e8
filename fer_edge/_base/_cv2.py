"""OpenCV, or a message on what to install: write ``from fer_edge._base._cv2 import cv2``."""

import os

from fer_edge._base._installed import OPENCV_BUILDS, installed_builds
from fer_edge.errors import DependencyError

# What OpenCV and its FFmpeg write to stderr, fer_edge says in its own words, and without the
# passwords of addresses. FFmpeg's level is read when the first video is opened.
_OWN_LEVEL = "OPENCV_LOG_LEVEL" in os.environ
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")

try:
    import cv2
except ImportError as error:
    builds = installed_builds(OPENCV_BUILDS)
    if len(builds) > 1:
        raise DependencyError(
            f"Expected one build of OpenCV, received {' and '.join(builds)}, which overwrite each "
            f"other's files; run: pip uninstall -y {' '.join(builds)} && "
            "pip install 'fer-edge[headless]'"
        ) from error
    if builds:
        raise DependencyError(
            f"{next(iter(builds))} cannot be loaded ({error}). On a machine without a desktop run: "
            f"pip uninstall -y {next(iter(builds))} && pip install 'fer-edge[headless]'; for "
            "windows on Debian or Ubuntu run: apt-get install -y libgl1 libglib2.0-0"
        ) from error
    raise DependencyError(
        "OpenCV is not installed; run: pip install 'fer-edge[cpu,headless]', or "
        "'fer-edge[cpu,gui]' for windows on a desktop"
    ) from error

if int(cv2.__version__.split(".")[0]) != 4:
    raise DependencyError(
        f"Expected OpenCV 4, received {cv2.__version__}; run: "
        "pip install 'opencv-python-headless<5'"
    )

if not _OWN_LEVEL:
    # By call, since the program around may have loaded OpenCV before.
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)

__all__ = ["cv2"]
