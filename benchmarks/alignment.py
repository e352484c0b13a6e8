r"""What tilt and smallness cost, and what turning tilted faces upright gains back.

Each face is set tilted into a background as `benchmarks.detectors` does, found by the shipped
detector, cut out as it is, turned at any tilt, and turned from `LEAST_TILT` degrees on, which is
what `Classifier` does. For the sizes a face is made smaller by averaging areas.

With ``--votes`` a prediction is right that is the clear majority of raters, and images without one
are left out; without it the data set's own label counts.

    python benchmarks/alignment.py --data fer2013.zip --votes fer2013new.csv \
        --json benchmarks/results/alignment.json
"""

from pathlib import Path
from typing import Any

import click
import cv2
import numpy as np

from benchmarks.detectors import backgrounds, paste
from benchmarks.machine import json_option, write_results
from fer_edge.contract import EMOTIONS
from fer_edge.inference import preprocess
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.detectors import OnnxDetector
from fer_train.data.load import load_dataset
from fer_train.run.votes import majorities

TILTS = (0, 5, 10, 15, 20, 30, 45)
SIDES = (48, 32, 24, 20, 16, 12, 8)
_SIDE = 84
_SPAN = 320, 240


def by_tilt(images: Any, labels: Any, classifier: Classifier) -> dict[str, dict[str, float]]:
    """Return by tilt the share of faces found, and top-1 of the three ways over those.

    Args:
        images: uint8 (N, 48, 48), grey.
        labels: int (N,), of the classifier's labels.
        classifier: With the detector.
    """
    places = [cv2.resize(one, _SPAN) for one in backgrounds().values()]
    spec = classifier.spec
    found = {}
    for tilt in TILTS:
        random = np.random.default_rng(0)
        batches: dict[str, list[Any]] = {"as it is": [], "turned": [], "default": []}
        kept = []
        for number, (image, label) in enumerate(zip(images, labels, strict=True)):
            head = np.asarray(cv2.cvtColor(image, cv2.COLOR_GRAY2BGR), np.uint8)
            place = np.asarray(places[number % len(places)], np.uint8)
            turn = tilt if number % 2 else -tilt
            scene, _ = paste(place, head, (0, 0, 48, 48), _SIDE, turn, 1.0, random.random())
            faces = classifier.detector.detect(scene)[:1]
            if not faces:
                continue
            kept.append(label)
            box, points = faces[0].box, faces[0].points
            turned = preprocess.align_face(scene, box, points, spec.margin)
            batches["as it is"].append(preprocess.prepare(scene, [box], spec))
            batches["turned"].append(preprocess.prepare(turned, [None], spec))
            batches["default"].append(classifier.prepare(scene, faces))
        found[f"{tilt}"] = {"found": round(len(kept) / len(images), 4)} | {
            name: round(
                float(np.mean(classifier.probabilities(np.concatenate(batch)).argmax(1) == kept)),
                4,
            )
            for name, batch in batches.items()
        }
    return found


def by_side(images: Any, labels: Any, classifier: Classifier) -> dict[str, float]:
    """Return by the side of a face in pixels the share that is read right; see `by_tilt`."""
    found = {}
    for side in SIDES:
        small = [cv2.resize(image, (side, side), interpolation=cv2.INTER_AREA) for image in images]
        batch = [preprocess.prepare(np.asarray(one), [None], classifier.spec) for one in small]
        predicted = classifier.probabilities(np.concatenate(batch)).argmax(1)
        found[f"{side}"] = round(float(np.mean(predicted == labels)), 4)
    return found


@click.command()
@click.option("--data", required=True, help="FER-2013, as fer-train takes it.")
@click.option("--votes", type=click.Path(exists=True, dir_okay=False), help="As fer-train's.")
@click.option("--model", help="ONNX model. [default: the shipped one]")
@click.option("--count", default=600, show_default=True, type=click.IntRange(10))
@json_option
def main(
    data: str, votes: str | None, model: str | None, count: int, json_path: Path | None
) -> None:
    """Print the share of PublicTest read right by tilt, turned upright and not, and by size."""
    classifier = Classifier(model, detector=OnnxDetector(min_face=16), prior=0)
    dataset = load_dataset(data, votes=votes)
    truth = dataset.labels if dataset.votes is None else majorities(dataset.votes, EMOTIONS)
    held_out = np.flatnonzero((dataset.usage == "PublicTest") & (truth >= 0))
    chosen = np.random.default_rng(0).permutation(held_out)[:count]
    rows = by_tilt(dataset.images[chosen], truth[chosen], classifier)
    sides = by_side(dataset.images[held_out], truth[held_out], classifier)
    print("tilt    " + "".join(f"{name:>10}" for name in rows["0"]))
    for tilt, row in rows.items():
        print(f"{tilt:<8}" + "".join(f"{share:>10.1%}" for share in row.values()))
    for side, share in sides.items():
        print(f"{side:>3} pixels {share:.1%} of {len(held_out)}")
    write_results(
        json_path,
        {
            "truth": "label" if dataset.votes is None else "clear majority",
            "images": len(chosen),
            "by_tilt": rows,
            "all_images": len(held_out),
            "by_side": sides,
        },
    )


if __name__ == "__main__":
    main()
