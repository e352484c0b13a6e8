"""Frames per second of the video runtime on a made clip, beside the peer `fer`.

The clip pans and zooms over the public-domain portrait in tests/data, with slight noise: one face,
596 x 336, MPEG-4. What is timed is what ``fer-edge video CLIP --no-display --output LOG`` does:
decoding, finding, following and classifying the face, writing records; loading the model is not.
Rounds of all modes take turns, so that a busy machine slows each alike.

    python benchmarks/video.py --json benchmarks/results/video.json
"""

import importlib
import importlib.util
import json
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from benchmarks.machine import json_option, write_results
from fer_edge._base._cv2 import OPENCV_VERSION
from fer_edge.image.read import Frame, read_image
from fer_edge.inference.classifier import Classifier, FaceResult
from fer_edge.inference.detectors import HaarDetector, open_detector
from fer_edge.inference.preprocess import Box
from fer_edge.inference.search import overlaps
from fer_edge.video.frame_log import FrameLog
from fer_edge.video.options import DETECT_EVERY, MIN_FACE
from fer_edge.video.sink import VideoSink
from fer_edge.video.source import VideoSource
from fer_edge.video.watch import watch

PORTRAIT = Path(__file__).parents[1] / "tests/data/portrait.jpg"
PEERS = Path(__file__).parent / "results/peers.json"
"""Figures of `fer` that were measured elsewhere, for where it is not installed."""
WIDTH, HEIGHT, FPS = 596, 336, 30.0
EVERY = (1, 2, 3, 5, 8, DETECT_EVERY, 30)
"""Frames from one detection to the next that are compared."""


def made_frames(count: int) -> list[Frame]:
    """Return (336, 596, 3) uint8 BGR frames of a camera that moves over the portrait."""
    portrait = read_image(PORTRAIT)
    random = np.random.default_rng(0)
    noise = random.normal(0, 3, (16, HEIGHT, WIDTH, 3))
    frames = []
    for index in range(count):
        scale = 1.35 + 0.1 * np.sin(index / 40)
        # Where the face's middle lies in the frame.
        x = WIDTH / 2 + 25 * np.sin(index / 23)
        y = HEIGHT / 2 + 15 * np.sin(index / 31)
        view = np.array([[scale, 0, x - 226 * scale], [0, scale, y - 130 * scale]])
        frame = cv2.warpAffine(
            portrait, view, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE
        )
        frames.append(np.clip(frame + noise[index % len(noise)], 0, 255).astype(np.uint8))
    return frames


def write_clip(path: Path, frames: int, loop: int = 300) -> None:
    """Write the made clip; after ``loop`` frames it runs back and forth."""
    made = made_frames(min(frames, loop))
    turns = [*made, *reversed(made)]
    with VideoSink(path, FPS) as sink:
        for index in range(frames):
            sink.write(turns[index % len(turns)], index / FPS)


def time_fer_edge(clip: Path, classifier: Classifier, detect_every: int) -> tuple[int, float]:
    """Return frames and seconds of one run over the clip."""
    with tempfile.TemporaryDirectory() as folder:
        began = time.perf_counter()
        frames = 0
        with (
            VideoSource(clip) as source,
            FrameLog(Path(folder) / "log.jsonl", "jsonl", classifier.spec.labels) as log,
        ):
            for watched in watch(source, classifier, detect_every=detect_every):
                log.write(watched.to_dict())
                frames += bool(watched.faces)
        return frames, time.perf_counter() - began


def time_peer(clip: Path, detector: Any) -> tuple[int, float]:
    """Return frames and seconds of the peer, which is given each frame in turn."""
    began = time.perf_counter()
    frames = 0
    with VideoSource(clip) as source:
        for frame in source:
            frames += bool(detector.detect_emotions(frame.image_bgr))
    return frames, time.perf_counter() - began


def follow(clip: Path, classifier: Classifier) -> dict[str, dict[str, float]]:
    """Return for each of `EVERY` frames/s, and how its boxes and predictions fit those of 1."""
    found: dict[str, dict[str, float]] = {}
    detected: list[FaceResult | None] = []
    for every in EVERY:
        began = time.perf_counter()
        with VideoSource(clip) as source:
            faces = [
                watched.faces[0].result if watched.faces else None
                for watched in watch(source, classifier, detect_every=every)
            ]
        rate = len(faces) / (time.perf_counter() - began)
        detected = detected or faces
        pairs = [(one, two) for one, two in zip(detected, faces, strict=True) if one and two]
        both = [np.array([_corners(one.box), _corners(two.box)], np.float32) for one, two in pairs]
        shares = [float(overlaps(boxes[:1], boxes[1:])[0, 0]) for boxes in both]
        found[str(every)] = {
            "frames_per_s": rate,
            "frames_with_face": sum(face is not None for face in faces),
            "overlap": statistics.mean(shares),
            "least_overlap": min(shares),
            "same_emotion": statistics.mean(one.emotion == two.emotion for one, two in pairs),
        }
    return found


def _corners(box: Box) -> tuple[int, int, int, int]:
    left, top, width, height = box
    return left, top, left + width, top + height


def open_peer() -> Any:
    """Return `fer`'s detector with its default face finder, or None where it is not installed."""
    if importlib.util.find_spec("fer") is None:
        return None
    return importlib.import_module("fer").FER()


@click.command()
@click.option("--model", help="ONNX model. [default: the shipped one]")
@click.option("--frames", default=300, show_default=True, type=click.IntRange(30))
@click.option("--rounds", default=5, show_default=True, type=click.IntRange(1))
@click.option("--threads", type=click.IntRange(1))
@json_option
def main(
    model: str | None, frames: int, rounds: int, threads: int | None, json_path: Path | None
) -> None:
    """Time the video runtime and print a table."""
    detector = open_detector("face", min_face=MIN_FACE)
    classifier = Classifier(model, detector=detector, threads=threads, spin=False)
    modes: dict[str, Callable[[Path], tuple[int, float]]] = {
        "default": lambda clip: time_fer_edge(clip, classifier, DETECT_EVERY),
        "detect-every-1": lambda clip: time_fer_edge(clip, classifier, 1),
    }
    if OPENCV_VERSION < (5,):
        haar = Classifier(
            model, detector=HaarDetector(min_face=MIN_FACE), threads=threads, spin=False
        )
        modes["haar-every-1"] = lambda clip: time_fer_edge(clip, haar, 1)
    peer = open_peer()
    if peer is not None:
        modes["fer"] = lambda clip: time_peer(clip, peer)
    rates: dict[str, list[float]] = {name: [] for name in modes}
    seen = dict.fromkeys(modes, 0)
    with tempfile.TemporaryDirectory() as folder:
        clip = Path(folder) / "clip.mp4"
        write_clip(clip, frames)
        for round_index in range(rounds + 1):
            for name, run in modes.items():
                seen[name], seconds = run(clip)
                # The first round warms up: caches, thread pools, the model's own first run.
                if round_index:
                    rates[name].append(frames / seconds)
        following = follow(clip, classifier)
    if peer is not None:
        peer_fps = statistics.median(rates["fer"])
    else:
        peer_fps = json.loads(PEERS.read_text())["peers"][0]["video_frames_per_s"]
    results = {
        name: {
            "frames_per_s": statistics.median(values),
            "slowest": min(values),
            "fastest": max(values),
            "frames_with_face": seen[name],
            "times_peer": statistics.median(values) / peer_fps,
        }
        for name, values in rates.items()
    }
    where = "here" if peer is not None else "elsewhere, on two cores"
    click.echo(
        f"{frames} frames of {WIDTH} x {HEIGHT}, {classifier.model_path.name}, median of "
        f"{rounds} rounds; fer {peer_fps:.0f} frames/s, measured {where}"
    )
    click.echo(f"{'mode':<16}{'frames/s':>10}{'slowest':>10}{'fastest':>10}{'x fer':>8}")
    for name, row in results.items():
        click.echo(
            f"{name:<16}{row['frames_per_s']:>10.1f}{row['slowest']:>10.1f}{row['fastest']:>10.1f}"
            f"{row['times_peer']:>8.1f}"
        )
    for every, fits in following.items():
        click.echo(
            f"every {every:<3}{fits['frames_per_s']:>17.1f}  boxes overlap by "
            f"{fits['overlap']:.3f}, least {fits['least_overlap']:.3f}"
        )
    write_results(
        json_path,
        {
            "model": classifier.model_path.name,
            "clip": {"width": WIDTH, "height": HEIGHT, "frames": frames, "faces": 1},
            "rounds": rounds,
            "threads": classifier.threads,
            "peer": {"frames_per_s": peer_fps, "measured_here": peer is not None},
            "modes": results,
            "following": following,
        },
    )


if __name__ == "__main__":
    main()
