"""A folder of 48 x 48 faces through ``fer-edge classify --detector none``, against the bare model.

The bare session gets the same number of faces as ready batches, so that the difference is the cost
of reading, decoding, preparing and writing records. Both run in one process, in turns.

    python benchmarks/throughput.py --json benchmarks/results/throughput.json
"""

import io
import statistics
import sys
import tempfile
import time
from pathlib import Path

import click
import cv2
import numpy as np

from benchmarks.machine import json_option, write_results
from fer_edge import Classifier
from fer_edge.image.read import MAX_PIXELS, read_image
from fer_edge.inference.describe import model_input_shape
from fer_edge.picture.batch import classify_pictures
from fer_edge.picture.find import find_pictures
from fer_edge.records import JsonlWriter

ROOT = Path(__file__).parents[1]


def write_faces(folder: Path, count: int) -> None:
    """Write small grey JPEG files of the portrait's face, each a little different."""
    portrait = read_image(ROOT / "tests/data/portrait.jpg")
    random = np.random.default_rng(0)
    for index in range(count):
        left, top = random.integers(0, 12, 2)
        face = portrait[60 + top : 160 + top, 170 + left : 270 + left]
        small = cv2.resize(face, (48, 48), interpolation=cv2.INTER_AREA)
        gray = cv2.cvtColor(small, cv2.COLOR_BGR2GRAY)
        cv2.imwrite(str(folder / f"{index:05d}.jpg"), gray)


@click.command()
@click.option("--model", help="[default: the shipped default]")
@click.option("--files", default=1024, show_default=True)
@click.option("--batch-size", default=64, show_default=True)
@click.option("--rounds", default=5, show_default=True)
@json_option
def main(
    model: str | None, files: int, batch_size: int, rounds: int, json_path: Path | None
) -> None:
    """Print faces/s of both; exit 1 if the folder runs at less than 80 % of the bare session."""
    classifier = Classifier(model, detector="none", batch_size=batch_size)
    noise = np.random.default_rng(0).uniform(
        0, 255, (batch_size, *model_input_shape(classifier.spec))
    )
    batch = noise.astype(np.float32)
    bare_s, folder_s = [], []
    with tempfile.TemporaryDirectory() as name:
        write_faces(Path(name), files)
        for _ in range(rounds + 1):
            start = time.perf_counter()
            for _ in range(files // batch_size):
                classifier.probabilities(batch)
            bare_s.append(time.perf_counter() - start)
            start = time.perf_counter()
            writer = JsonlWriter(io.StringIO())
            pictures = find_pictures([name], bytes)
            for item in classify_pictures(classifier, pictures, max_pixels=MAX_PIXELS):
                if item is not None:
                    writer.write(item[1].to_dict())
            folder_s.append(time.perf_counter() - start)
    bare = (files // batch_size) * batch_size / statistics.median(bare_s[1:])
    folder = files / statistics.median(folder_s[1:])
    pairs = zip(bare_s[1:], folder_s[1:], strict=True)
    ratio = round(statistics.median(one / other for one, other in pairs), 3)
    print(f"bare session  {bare:8.0f} faces/s")
    print(f"folder        {folder:8.0f} faces/s, {ratio:.0%} of it (median of {rounds} pairs)")
    write_results(
        json_path,
        {
            "model": classifier.model_path.name,
            "files": files,
            "batch_size": batch_size,
            "bare_faces_per_s": round(bare, 1),
            "folder_faces_per_s": round(folder, 1),
            "ratio": ratio,
        },
    )
    if ratio < 0.8:
        sys.exit(1)


if __name__ == "__main__":
    main()
