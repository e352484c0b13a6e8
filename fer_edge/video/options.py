"""The choices of ``fer-edge video`` and their defaults; needs the standard library alone."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

LogFormat = Literal["jsonl", "json", "csv", "parquet"]

DETECT_EVERY = 15
"""Frames from one detection to the next while every face is followed surely."""
MIN_FACE = 24
"""Least longer side of a face, pixels, in pictures and video.

Of FER-2013's faces shrunk to 32, 24, 20, 16 and 12 pixels the shipped model reads 64, 62, 57, 48
and 34 % right, where it reads 67 % at 48: below 24 most predictions are guesses.
"""
TIMEOUT_S = 10.0
"""Longest wait for a source to open, and for each frame."""
RETRIES = 5
"""How often in a row a live source that stopped is opened again."""


SEQUENCE_FPS = 25.0
"""Frames per second of numbered pictures, which have no clock: FFmpeg's default too."""

Region = tuple[int, int, int, int]
"""Left, top, width and height, pixels."""


@dataclass(frozen=True)
class VideoOptions:
    """The options of ``fer-edge video``, named as on the command line.

    Attributes:
        output: Log, ``-`` for standard output, or None.
        output_format: The log's format, or None for what the log's name says.
        record: Recording with boxes and labels, .mp4, or the folder of several; or None.
        timeline: Picture of the emotions over time, .png, or the folder of several; or None.
        display: Whether there is a window; None means if one can be shown.
        force: Whether existing files may be replaced.
        quiet: Whether stderr is for errors alone.
        every: Take every so many-th frame.
        detect_every: Frames from one detection to the next; 1 detects in every frame.
        max_frames: End after so many frames taken, or None.
        duration: End after so many seconds of video, or None.
        smooth: Time constant of smoothing, seconds.
        largest: Whether only the largest face of each frame counts.
        timeout: How long opening, or waiting for a frame, may take, seconds.
        retries: How often in a row a live source that stopped is opened again.
        fps: Frames per second of numbered pictures.
        roi: The part of each frame that is looked at, or None for all of it.
    """

    output: Path | None = None
    output_format: LogFormat | None = None
    record: Path | None = None
    timeline: Path | None = None
    display: bool | None = None
    force: bool = False
    quiet: bool = False
    every: int = 1
    detect_every: int = DETECT_EVERY
    max_frames: int | None = None
    duration: float | None = None
    smooth: float = 0.0
    largest: bool = False
    timeout: float = TIMEOUT_S
    retries: int = RETRIES
    fps: float = SEQUENCE_FPS
    roi: Region | None = None
