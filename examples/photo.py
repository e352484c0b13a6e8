"""Read the faces of one photograph.

python examples/photo.py tests/data/portrait.jpg
"""

import sys

from fer_edge import Classifier


def main(path: str) -> None:
    """Print each face: its box in pixels, its emotion, and how sure the model is."""
    classify = Classifier()
    for face in classify(path):
        left, top, width, height = face.box
        print(f"{width} x {height} at {left}, {top}: {face.emotion} {face.confidence:.0%}")


if __name__ == "__main__":
    main(sys.argv[1])
