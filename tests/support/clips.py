"""Short clips made in the tests: plain grey levels, or the portrait moving over a background."""

from collections.abc import Iterable
from pathlib import Path

import cv2
import numpy as np

DATA = Path(__file__).parent.parent / "data"
PORTRAIT = DATA / "portrait.jpg"
FPS = 30.0


def gray_frames(levels: Iterable[int], size: tuple[int, int] = (96, 64)) -> list[np.ndarray]:
    """Return (64, 96, 3) uint8 frames of one grey level each."""
    return [np.full((size[1], size[0], 3), level, np.uint8) for level in levels]


def portrait_frames(count: int, step: int = 2) -> list[np.ndarray]:
    """Return (240, 320, 3) uint8 frames with a face that moves by ``step`` pixels a frame."""
    face = cv2.resize(cv2.imread(str(PORTRAIT))[0:300, 100:400], (180, 180))
    frames = []
    for index in range(count):
        frame = np.full((240, 320, 3), (90, 110, 100), np.uint8)
        left = 10 + step * index
        frame[30:210, left : left + 180] = face
        frames.append(frame)
    return frames


def write_clip(path: Path, frames: list[np.ndarray], fps: float = FPS) -> Path:
    """Write frames as MPEG-4."""
    height, width = frames[0].shape[:2]
    codec = cv2.VideoWriter.fourcc(*"mp4v")
    writer = cv2.VideoWriter(str(path), cv2.CAP_FFMPEG, codec, fps, (width, height))
    for frame in frames:
        writer.write(frame)
    writer.release()
    return path


def turn_clip(path: Path, source: Path) -> Path:
    """Copy an .mp4 and note in its header that it is to be turned by 90 degrees, as phones do."""
    data = bytearray(source.read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40
    quarter = [0, 1 << 16, 0, -(1 << 16), 0, 0, 0, 0, 1 << 30]
    data[matrix : matrix + 36] = b"".join(v.to_bytes(4, "big", signed=True) for v in quarter)
    path.write_bytes(data)
    return path
