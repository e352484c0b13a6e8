"""What was given on the command line, to videos: folders stand for all videos below them."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from fer_edge._base.folders import files_below, free_name
from fer_edge.errors import SourceError
from fer_edge.video.address import STANDARD_INPUT, hide_secrets
from fer_edge.video.options import VideoOptions

VIDEO_SUFFIXES = frozenset(
    (
        *(".mp4", ".m4v", ".mov", ".qt", ".3gp", ".3g2", ".f4v", ".mkv", ".webm", ".avi", ".divx"),
        *(".ts", ".mts", ".m2ts", ".m2t", ".mpg", ".mpeg", ".mpe", ".m2v", ".vob", ".dv", ".mxf"),
        *(".wmv", ".asf", ".flv", ".ogv", ".ogm", ".rm", ".rmvb", ".mjpg", ".mjpeg", ".y4m"),
        *(".264", ".h264", ".265", ".h265", ".hevc"),
    )
)
"""Names by which videos in a folder are known."""


@dataclass(frozen=True)
class Video:
    """One video to watch and where what is made of it goes.

    Attributes:
        source: As `VideoSource` takes it.
        name: How it may be shown.
        record: Its recording, or None.
        timeline: Its timeline, or None.
        problem: Why there is nothing to read, or "".
    """

    source: str
    name: str
    record: Path | None = None
    timeline: Path | None = None
    problem: str = ""


def find_videos(sources: Sequence[str], options: VideoOptions) -> list[Video]:
    """Turn sources and folders, which stand for all videos below them, into videos.

    Args:
        sources: As given on the command line, at least one.
        options: Where recordings and timelines go: to the files that are named, or into the
            folders, under each video's own name and place below the folder that was given.
    """
    found: list[tuple[str, Path, str]] = []
    for given in sources:
        if os.path.isdir(given):  # noqa: PTH112 - Path.is_dir raises for names that are too long
            folder = Path(given)
            below = sorted(files_below(folder, VIDEO_SUFFIXES))
            if not below:
                below = [(folder, "Expected a folder with videos, received one without")]
            found += [
                (str(path), Path("folder") if problem else path.relative_to(folder), problem)
                for path, problem in below
            ]
        else:
            found.append((given, _place(given), ""))
    records = _outputs(options.record, ".mp4", [place for _, place, _ in found])
    timelines = _outputs(options.timeline, ".png", [place for _, place, _ in found])
    return [
        Video(source, _shown(source), record, timeline, problem)
        for (source, _, problem), record, timeline in zip(found, records, timelines, strict=True)
    ]


def _shown(source: str) -> str:
    if "://" not in source:
        return source
    try:
        return hide_secrets(source)
    except SourceError:  # Told when its turn comes.
        return "a malformed URL"


def _place(source: str) -> Path:
    """Return a name for what is made of a source."""
    if source == STANDARD_INPUT:
        return Path("stdin")
    name = re.sub(r"%0?\d*d", "", Path(_shown(source)).name)
    return Path(re.sub(r"[^\w. -]+", "-", name).strip(". -") or "video")


def _outputs(wanted: Path | None, suffix: str, places: Sequence[Path]) -> Sequence[Path | None]:
    if wanted is None or (wanted.suffix.lower() == suffix and not wanted.is_dir()):
        return [wanted] * len(places)
    taken: set[Path] = set()
    return [free_name(wanted / place.with_suffix(suffix), taken) for place in places]
