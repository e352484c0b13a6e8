"""Who says where faces are while a detector is made: networks of ours, and a teacher by file."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DetectorError
from fer_edge.image.read import Frame
from fer_edge.inference.search import Found, search, shrink
from fer_train.detection.export import to_onnx
from fer_train.detection.network import STRIDES, build_detector, load_weights

SearchFn = Callable[[Frame], Found]
"""A picture -> the faces in it, down to a low score, the surest first."""

SIDE = 640
OVERLAP = 0.4
_LEAST = 0.03


def network_finder(weights: dict[str, NDArray[Any]]) -> SearchFn:
    """Return the search of the network with some weights; see `network.load_weights`."""
    import onnxruntime

    from fer_edge._base.threads import available_threads

    net = build_detector()
    load_weights(net, weights)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = available_threads()
    session = onnxruntime.InferenceSession(
        to_onnx(net).SerializeToString(), options, providers=["CPUExecutionProvider"]
    )

    def find(frame_bgr: Frame) -> Found:
        return search(
            lambda image: session.run(None, {"image": image}),
            frame_bgr,
            strides=STRIDES,
            least=_LEAST,
            overlap=OVERLAP,
            side=SIDE,
        )

    return find


def teacher_finder(path: Path) -> SearchFn:
    """Return the search of a YuNet file.

    Unlike that of `fer_edge`, it keeps fractions of pixels, which count for small faces.

    Raises:
        DetectorError: The file is missing or is not YuNet.
    """
    if not path.is_file():
        raise DetectorError(f"Expected YuNet's ONNX file as --teacher, found none at {path}")
    refusal = f"Expected YuNet's ONNX file as --teacher, received {path}, which OpenCV cannot use"
    try:
        network = cv2.FaceDetectorYN.create(str(path), "", (SIDE, SIDE), _LEAST, OVERLAP, 5000)
    except cv2.error as error:
        raise DetectorError(f"{refusal} ({error.err})") from error

    def find(frame_bgr: Frame) -> Found:
        scale = min(1.0, SIDE / max(frame_bgr.shape[:2]))
        small = shrink(frame_bgr, scale)
        try:
            network.setInputSize((small.shape[1], small.shape[0]))
            _, found = network.detect(small)
        except cv2.error as error:
            raise DetectorError(f"{refusal} ({error.err})") from error
        rows: NDArray[np.float32] = np.zeros((0, 15), np.float32)
        if found is not None:
            rows = np.asarray(found, np.float32)[np.isfinite(found).all(axis=1)]
        rows = rows[np.argsort(-rows[:, 14], kind="stable")]
        boxes = np.concatenate([rows[:, :2], rows[:, :2] + rows[:, 2:4]], axis=1)
        points = rows[:, 4:14].reshape(-1, 5, 2)
        return Found(boxes, rows[:, 14], points).moved(0, 0, scale)

    find(np.zeros((64, 64, 3), np.uint8))
    return find
