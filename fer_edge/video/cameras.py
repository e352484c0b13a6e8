"""The cameras of this machine."""

import re
import sys
from dataclasses import dataclass
from pathlib import Path

from fer_edge.errors import SourceError
from fer_edge.video.source import VideoSource


@dataclass(frozen=True)
class Camera:
    """A camera that opens.

    Attributes:
        source: How to name it: ``cam0``.
        name: The maker's name where the system tells it, else "".
        width: Pixels.
        height: Pixels.
        fps: Frames per second as the driver states it, or None.
    """

    source: str
    name: str
    width: int
    height: int
    fps: float | None


def list_cameras(*, timeout_s: float = 5.0) -> list[Camera]:
    """Open each camera of the machine in turn and tell what it gives.

    Args:
        timeout_s: How long one camera may take.
    """
    cameras = []
    for index in _camera_indices():
        try:
            with VideoSource(f"cam{index}", timeout_s=timeout_s) as source:
                cameras.append(
                    Camera(
                        source.name, _camera_name(index), source.width, source.height, source.fps
                    )
                )
        except SourceError:
            continue
    return cameras


def _camera_indices() -> list[int]:
    if sys.platform == "linux":
        names = (re.fullmatch(r"video(\d+)", path.name) for path in Path("/dev").iterdir())
        return sorted(int(match[1]) for match in names if match)
    # Other systems cannot list cameras without opening them.
    return list(range(6))


def _camera_name(index: int) -> str:
    path = Path(f"/sys/class/video4linux/video{index}/name")
    return path.read_text().strip() if path.is_file() else ""
