"""Use an ONNX classifier that was not made by this project: describe it once.

python examples/own_model.py other.onnx face.jpg
"""

import sys

from fer_edge import Classifier


def main(model: str, picture: str) -> None:
    """Print what a model predicts, of 64 x 64 grey pixels, 0-255, batch x 1 x 64 x 64."""
    classify = Classifier(
        model,
        detector="none",
        labels=("neutral", "happy", "surprise", "sad", "angry", "disgust", "fear"),
        input_size=(64, 64),
        layout="nchw",
        color="gray",
        range=(0, 255),
    )
    for face in classify(picture):
        print(f"{face.emotion} {face.confidence:.0%}")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2])
