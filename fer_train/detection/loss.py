"""What the detector learns from: which cells stand for a face, and how far off their outputs are.

The score is taught the overlap of the cell's own box with the face, and negatives count the more
the surer the network is of them (varifocal loss: Zhang et al., *VarifocalNet*, 2021); boxes by
generalised overlap (Rezatofighi et al., *GIoU*, 2019); points by their distance as a share of the
face's side.
"""

from typing import Any

from fer_train.detection.network import STRIDES
from fer_train.detection.pictures import FACE, IGNORED, POINTS
from fer_train.detection.settings import LossWeights
from fer_train.detection.tiles import CERTAINTY, KNOWN, PLACES
from fer_train.network._keras import keras

ops = keras.ops

# Longer sides in pixels of the faces that a stride's cells stand for; where ranges meet, both do.
SIDES = {8: (0.0, 44.0), 16: (36.0, 112.0), 32: (96.0, 1e9)}
_REACH = 1.5  # strides from the face's middle within which cells stand for it
_CERTAIN = 0.75  # the same, where the face is smaller than the cells
_KINK = 0.05  # of a face's side: errors of points beyond it count linearly


def cells(shapes: list[tuple[int, int]]) -> tuple[Any, Any]:
    """Return the middles (M, 2) in pixels, x and y, and strides (M,) of all cells of all maps.

    Args:
        shapes: Height and width of the map of each stride, in cells.
    """
    middles, strides = [], []
    for stride, (height, width) in zip(STRIDES, shapes, strict=True):
        y, x = ops.meshgrid(
            ops.arange(height, dtype="float32"), ops.arange(width, dtype="float32"), indexing="ij"
        )
        middles.append(ops.reshape(ops.stack([x, y], axis=-1) + 0.5, (-1, 2)) * stride)
        strides.append(ops.full((height * width,), float(stride)))
    return ops.concatenate(middles), ops.concatenate(strides)


def decode(maps: list[Any]) -> tuple[Any, Any, Any, Any, Any]:
    """Return what the cells say, in pixels.

    Args:
        maps: The network's outputs, one (N, h, w, 15) a stride.

    Returns:
        Logits (N, M), boxes (N, M, 4) as x1, y1, x2, y2, points (N, M, 10); the cells' middles
        (M, 2) and strides (M,).
    """
    middles, strides = cells([(cell.shape[1], cell.shape[2]) for cell in maps])
    flat = ops.concatenate(
        [ops.reshape(cell, (-1, cell.shape[1] * cell.shape[2], cell.shape[3])) for cell in maps],
        axis=1,
    )
    middle = middles + flat[..., 1:3] * strides[:, None]
    half = ops.exp(ops.clip(flat[..., 3:5], -4, 6)) * strides[:, None] / 2
    boxes = ops.concatenate([middle - half, middle + half], axis=-1)
    points = flat[..., 5:] * strides[:, None] + ops.tile(middles, (1, POINTS))
    return flat[..., 0], boxes, points, middles, strides


def overlaps(one: Any, other: Any) -> tuple[Any, Any]:
    """Return the overlap (intersection over union) of boxes (..., 4), and the generalised one."""
    start, stop = (
        ops.maximum(one[..., :2], other[..., :2]),
        ops.minimum(one[..., 2:], other[..., 2:]),
    )
    common = ops.prod(ops.maximum(stop - start, 0.0), axis=-1)
    union = _area(one) + _area(other) - common + 1e-6
    hull = ops.prod(
        ops.maximum(one[..., 2:], other[..., 2:]) - ops.minimum(one[..., :2], other[..., :2]),
        axis=-1,
    )
    overlap = common / union
    return overlap, overlap - (hull + 1e-6 - union) / (hull + 1e-6)


def _area(boxes: Any) -> Any:
    return ops.prod(ops.maximum(boxes[..., 2:] - boxes[..., :2], 0.0), axis=-1)


def assign(middles: Any, strides: Any, rows: Any) -> tuple[Any, Any, Any]:
    """Say which cells stand for which faces.

    Args:
        middles: (M, 2), of the cells.
        strides: (M,).
        rows: (N, F, `tiles.ROW`), what the tiles hold.

    Returns:
        Bool (N, M), the cell stands for a face; int32 (N, M), for which; bool (N, M), the cell
        counts neither way.
    """
    boxes, kind = rows[..., :4], rows[..., -1]
    longer = ops.max(boxes[..., 2:] - boxes[..., :2], axis=-1)[:, None]
    low = sum(ops.where(strides == stride, SIDES[stride][0], 0.0) for stride in STRIDES)
    high = sum(ops.where(strides == stride, SIDES[stride][1], 0.0) for stride in STRIDES)
    fits = (longer >= low[:, None]) & (longer < high[:, None])
    faces = (boxes[..., :2] + boxes[..., 2:]) / 2
    x, y = middles[None, :, None, 0], middles[None, :, None, 1]
    away = ops.maximum(ops.abs(x - faces[:, None, :, 0]), ops.abs(y - faces[:, None, :, 1]))
    inside = (
        (x > boxes[:, None, :, 0])
        & (y > boxes[:, None, :, 1])
        & (x < boxes[:, None, :, 2])
        & (y < boxes[:, None, :, 3])
    )
    step = strides[None, :, None]
    near = (away < _REACH * step) & (inside | (away < _CERTAIN * step))
    assigned = near & fits & (kind[:, None] == FACE)
    # Where faces overlap, the smaller one: the larger has other cells.
    area = ops.where(assigned, _area(boxes)[:, None], 1e12)
    positive = ops.any(assigned, axis=-1)
    ignored = ops.any(inside & (kind[:, None] == IGNORED), axis=-1) & ~positive
    return positive, ops.argmin(area, axis=-1), ignored


def detection_loss(maps: list[Any], rows: Any, weights: LossWeights) -> tuple[Any, Any, Any]:
    """Return the losses of scores, of boxes and of points, unweighted; a face's cell counts 1.

    Args:
        maps: The network's outputs for N tiles.
        rows: float32 (N, F, `tiles.ROW`), what the tiles hold.
        weights: Of these, ``negative`` and ``soft`` are inside the loss of the scores.
    """
    logits, boxes, points, middles, strides = decode(maps)
    positive, face, ignored = assign(middles, strides, rows)
    target = ops.take_along_axis(rows, face[..., None], axis=1)
    count = ops.maximum(ops.sum(ops.cast(positive, "float32")), 1.0)

    overlap, generalized = overlaps(boxes, target[..., :4])
    certain = 1 - weights.soft * (1 - target[..., CERTAINTY])
    quality = ops.where(positive, ops.stop_gradient(ops.clip(overlap, 0, 1)) * certain, 0.0)
    score = ops.stop_gradient(ops.sigmoid(logits))
    weight = ops.where(positive, ops.maximum(quality, 0.1), weights.negative * score**2)
    weight = ops.where(ignored, 0.0, weight)
    # Cross-entropy of a logit, without the overflow of exp.
    entropy = ops.maximum(logits, 0.0) - logits * quality + ops.log1p(ops.exp(-ops.abs(logits)))
    scores = ops.sum(weight * entropy) / count

    box = ops.sum(ops.where(positive, 1 - generalized, 0.0)) / count

    side = ops.maximum(ops.max(target[..., 2:4] - target[..., :2], axis=-1, keepdims=True), 4.0)
    off = ops.abs(points - target[..., 4:PLACES]) / side
    smooth = ops.where(off < _KINK, off**2 / (2 * _KINK), off - _KINK / 2)
    known = positive & (target[..., KNOWN] > 0)
    named = ops.maximum(ops.sum(ops.cast(known, "float32")), 1.0)
    return scores, box, ops.sum(ops.where(known, ops.mean(smooth, axis=-1), 0.0)) / named
