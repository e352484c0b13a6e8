"""OpenCV, or a message on what to install: write ``from fer_edge._base._cv2 import cv2``."""

import contextlib
import io
import os
import re
import sys

import numpy as np

from fer_edge._base._installed import OPENCV_BUILDS, installed_builds, opencv_build
from fer_edge.errors import DependencyError

# What OpenCV writes to stderr, fer_edge says in its own words.
_OWN_LEVEL = "OPENCV_LOG_LEVEL" in os.environ
# FFmpeg alone tells of some failures: fer_edge.video.ffmpeg listens to it. Silenced it could not,
# and with a level of the user's OpenCV has it write among the results on standard output.
os.environ.pop("OPENCV_FFMPEG_LOGLEVEL", None)
# OpenCV gives up a video after so many packets of sound or subtitles in a row, and after so many
# frames that cannot be decoded, such as those before the first whole one of a broadcast.
os.environ.setdefault("OPENCV_FFMPEG_READ_ATTEMPTS", str(10**6))
os.environ.setdefault("OPENCV_FFMPEG_DECODE_ATTEMPTS", str(10**4))


def _cannot_load(error: ImportError) -> str:
    builds = installed_builds(OPENCV_BUILDS)
    if len(builds) > 1:
        return (
            f"Expected one build of OpenCV, received {' and '.join(builds)}, which overwrite each "
            f"other's files; run: pip uninstall -y {' '.join(builds)} && "
            "pip install 'fer-edge[headless]'"
        )
    build = next(iter(builds), None)
    # What numpy says of modules that were built for its first version.
    if "numpy.core.multiarray" in str(error) and int(np.__version__.split(".")[0]) >= 2:
        name = f"{build} {builds[build]}" if build else "OpenCV"
        return (
            f"{name} was built for numpy 1 and cannot be loaded with numpy {np.__version__}; run: "
            f"pip install 'numpy<2', or for a newer OpenCV: pip install '{opencv_build()}>=4.10,<6'"
        )
    if build:
        return (
            f"{build} cannot be loaded ({error}). On a machine without a desktop run: "
            f"pip uninstall -y {build} && pip install 'fer-edge[headless]'; for "
            "windows on Debian or Ubuntu run: apt-get install -y libgl1 libglib2.0-0"
        )
    return (
        "OpenCV is not installed; run: pip install 'fer-edge[cpu,headless]', or "
        "'fer-edge[cpu,gui]' for windows on a desktop"
    )


_said = io.StringIO()
try:
    # Before it raises, numpy tells at length, and with a traceback, what is said above in a line.
    with contextlib.redirect_stderr(_said):
        import cv2
except ImportError as error:
    raise DependencyError(_cannot_load(error)) from error
if sys.stderr is not None:
    sys.stderr.write(_said.getvalue())

OPENCV_VERSION = tuple(map(int, re.findall(r"\d+", cv2.__version__)[:2]))
"""Its first two numbers."""
if not (4, 8) <= OPENCV_VERSION < (6,):
    raise DependencyError(
        f"Expected OpenCV 4.8 to 5, received {cv2.__version__}; run: "
        f"pip install '{opencv_build()}>=4.8,<6'"
    )

if not _OWN_LEVEL:
    # By call, since the program around may have loaded OpenCV before. It moved in 4.13.
    getattr(cv2.utils, "logging", cv2).setLogLevel(0)

__all__ = ["OPENCV_VERSION", "cv2"]
