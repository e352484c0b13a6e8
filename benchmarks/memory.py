"""Soak: how resident memory grows while the video command works through thousands of frames.

Runs ``fer-edge video`` in a process of its own on a made clip, with everything on that could pile
up (log, recording, timeline, smoothing), and reads its resident memory until it ends. Exit status 1
where it grows by more than the limit after the first frames.

    python benchmarks/memory.py --json benchmarks/results/memory.json
"""

import subprocess
import sys
import tempfile
import time
from pathlib import Path

import click

from benchmarks.machine import json_option, write_results
from benchmarks.video import HEIGHT, WIDTH, write_clip

PERIOD_S = 0.1


def resident_mib(pid: int) -> float | None:
    """Return a process's resident memory in MiB, or None where it has ended."""
    try:
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    except OSError:
        return None
    found = [line.split()[1] for line in lines if line.startswith("VmRSS:")]
    return int(found[0]) / 1024 if found else None


class Lines:
    """Counts the lines of a growing file."""

    def __init__(self, path: Path) -> None:
        """Begin at the start of a file that may not be there yet."""
        self._path = path
        self._done = 0
        self.count = 0

    def update(self) -> int:
        """Return how many lines there are by now."""
        if self._path.exists():
            with self._path.open("rb") as file:
                file.seek(self._done)
                data = file.read()
            self._done += len(data)
            self.count += data.count(b"\n")
        return self.count


def soak(clip: Path, folder: Path, model: str | None) -> list[tuple[int, float]]:
    """Return (frames done, resident MiB) over one run of the command.

    Raises:
        click.ClickException: The command failed.
    """
    log = folder / "log.jsonl"
    command = [sys.executable, "-c", "from fer_edge.cli import main; main()", "video", str(clip)]
    command += ["--no-display", "--output", str(log), "--smooth", "0.5"]
    command += ["--record", str(folder / "out.mp4"), "--timeline", str(folder / "time.png")]
    command += ["--model", model] if model else []
    lines = Lines(log)
    samples = []
    with subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process:
        while process.poll() is None:
            mib = resident_mib(process.pid)
            if mib is not None:
                samples.append((lines.update(), mib))
            time.sleep(PERIOD_S)
        messages = process.stderr.read() if process.stderr else ""
    if process.returncode:
        raise click.ClickException(messages)
    return samples


@click.command()
@click.option("--model", help="ONNX model. [default: the shipped one]")
@click.option("--frames", default=10_000, show_default=True, type=click.IntRange(100))
@click.option("--settle", default=500, show_default=True, type=click.IntRange(1))
@click.option("--limit", default=10.0, show_default=True, metavar="MIB")
@json_option
def main(model: str | None, frames: int, settle: int, limit: float, json_path: Path | None) -> None:
    """Measure the growth of resident memory over a long video."""
    if not Path("/proc/self/status").exists():
        raise click.ClickException("Expected Linux, whose /proc tells a process's memory")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        write_clip(folder / "clip.mp4", frames)
        began = time.monotonic()
        samples = soak(folder / "clip.mp4", folder, model)
        seconds = time.monotonic() - began
        done = Lines(folder / "log.jsonl").update()
    if done != frames:
        raise click.ClickException(f"Expected {frames} records, received {done}")
    settled = [mib for count, mib in samples if count >= settle]
    if not settled:
        raise click.ClickException(f"Expected samples after {settle} frames; give more --frames")
    growth = max(settled) - settled[0]
    click.echo(
        f"{frames} frames in {seconds:.0f} s: {settled[0]:.1f} MiB after {settle} frames, at most "
        f"{max(settled):.1f} MiB later, {settled[-1]:.1f} MiB at the end; growth {growth:.1f} MiB"
    )
    write_results(
        json_path,
        {
            "clip": {"width": WIDTH, "height": HEIGHT, "frames": frames, "faces": 1},
            "seconds": seconds,
            "settle_frames": settle,
            "settled_mib": settled[0],
            "highest_mib": max(settled),
            "last_mib": settled[-1],
            "growth_mib": growth,
            "limit_mib": limit,
            "samples": samples[:: max(1, len(samples) // 200)],
        },
    )
    if growth > limit:
        raise click.ClickException(f"Resident memory grew by more than {limit:g} MiB")


if __name__ == "__main__":
    main()
