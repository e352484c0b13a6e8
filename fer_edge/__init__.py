"""Facial emotion recognition on onnxruntime: ``from fer_edge import Classifier``.

Names are loaded on first use, so that ``import fer_edge`` needs neither OpenCV nor onnxruntime.
"""

from importlib import import_module
from typing import TYPE_CHECKING

from fer_edge.contract import EMOTIONS, ModelSpec
from fer_edge.errors import FerError

if TYPE_CHECKING:
    from fer_edge.image.read import read_image
    from fer_edge.inference.classifier import Classifier, Emotion, FaceResult, Faces
    from fer_edge.inference.detectors import Face, FaceDetector, open_detector
    from fer_edge.picture.draw import draw_faces
    from fer_edge.video.sink import VideoSink
    from fer_edge.video.source import VideoSource
    from fer_edge.video.watch import watch

__version__ = "0.2.0"

_HOMES = {
    "Classifier": "inference.classifier",
    "Emotion": "inference.classifier",
    "FaceResult": "inference.classifier",
    "Faces": "inference.classifier",
    "Face": "inference.detectors",
    "FaceDetector": "inference.detectors",
    "open_detector": "inference.detectors",
    "read_image": "image.read",
    "draw_faces": "picture.draw",
    "VideoSink": "video.sink",
    "VideoSource": "video.source",
    "watch": "video.watch",
}

__all__ = [
    "EMOTIONS",
    "Classifier",
    "Emotion",
    "Face",
    "FaceDetector",
    "FaceResult",
    "Faces",
    "FerError",
    "ModelSpec",
    "VideoSink",
    "VideoSource",
    "__version__",
    "draw_faces",
    "open_detector",
    "read_image",
    "watch",
]


def __getattr__(name: str) -> object:
    if home := _HOMES.get(name):
        return getattr(import_module(f"fer_edge.{home}"), name)
    raise AttributeError(f"module 'fer_edge' has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted(__all__)
