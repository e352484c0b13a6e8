"""Copies of an image: pixel-identical ones and those cut, scaled or compressed from one photograph.

FER-2013 was gathered by web search and holds many photographs several times. Copies on both sides
of a split let a model be tested on what it has learnt by heart, so that folds keep them together.

The near copies are found by the DCT hash of C. Zauner, *Implementation and Benchmarking of
Perceptual Image Hash Functions* (2010): which of the 63 lowest frequencies lie above their median.
Its nearest pairs are then confirmed by the correlation of their pixels (`NEAR`). Mirrored copies
are not found; among FER-2013's images there are about twenty.
"""

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import cv2
from fer_train.data.pixels import Images, grey_thumbnails

NEAR = ((6, 0.80), (10, 0.90))
"""Two images are near copies when their hashes differ in at most so many of 63 bits and their
pixels correlate at least so much, by either line.

Chosen by looking at samples of FER-2013's pairs: at 4 bits nearly all were one photograph, at 6
bits all but one in six between 0.80 and 0.85 and few below, at 8 and 10 bits nearly all above 0.90.
"""

BLANK_DEVIATION = 1.0
"""Standard deviation of the levels below which an image shows nothing."""

_HASH_SIDE = 8
_BLOCK = 1024

Groups = NDArray[np.int64]


def identical_groups(images: Images) -> Groups:
    """Number the images so that pixel-identical ones share a number.

    Args:
        images: (N, H, W) or (N, H, W, 3) uint8.

    Returns:
        (N,) int64, numbered from 0 by first appearance.
    """
    seen: dict[bytes, int] = {}
    return np.asarray([seen.setdefault(image.tobytes(), len(seen)) for image in images], np.int64)


def duplicate_groups(images: Images) -> Groups:
    """Number the images so that identical and near-identical ones share a number.

    A copy of a copy belongs to the group too, however little it resembles the first.

    Args:
        images: (N, H, W) uint8 grey or (N, H, W, 3) RGB.

    Returns:
        (N,) int64, numbered from 0 by first appearance.
    """
    identical = identical_groups(images)
    if not len(images):
        return identical
    distinct = images[np.unique(identical, return_index=True)[1]]
    return _numbered(_connected(near_pairs(distinct), len(distinct))[identical])


def joined_groups(one: Groups, other: Groups) -> Groups:
    """Number the images so that those share a number that do so in either of two groupings.

    Args:
        one: (N,) int64 from 0.
        other: Likewise.

    Returns:
        (N,) int64, numbered from 0 by first appearance.
    """
    if not len(one):
        return one
    apart = int(one.max()) + 1
    pairs = np.stack([one, other + apart], axis=1)
    return _numbered(_connected(pairs, apart + int(other.max()) + 1)[one])


def _connected(pairs: NDArray[np.int64], count: int) -> NDArray[np.int64]:
    """Return the number of the component of each of ``count`` things that pairs (M, 2) connect."""
    from scipy.sparse import coo_array
    from scipy.sparse.csgraph import connected_components

    graph = coo_array((np.ones(len(pairs), np.bool_), (pairs[:, 0], pairs[:, 1])), (count, count))
    return np.asarray(connected_components(graph, directed=False)[1], np.int64)


def _numbered(groups: Groups) -> Groups:
    """Number groups anew, from 0 by first appearance."""
    _, first, numbers = np.unique(groups, return_index=True, return_inverse=True)
    order = np.argsort(np.argsort(first))
    return np.asarray(order[numbers.ravel()], np.int64)


def near_pairs(images: Images) -> NDArray[np.int64]:
    """Find the pairs of near copies, see `NEAR`.

    Args:
        images: (N, H, W) uint8 grey or (N, H, W, 3) RGB; they are compared grey and 48 x 48.

    Returns:
        (M, 2) int64 indices, the first below the second.
    """
    if not len(images):
        return np.empty((0, 2), np.int64)
    images = grey_thumbnails(images)
    # With bits as -1 and 1 a product of matrices counts the bits that all pairs have in common,
    # which is faster than any bucketing for as many images as fit into memory.
    signs = np.stack([_hash(image) for image in images])
    bits = signs.shape[1]
    flat = images.reshape(len(images), -1).astype(np.float32)
    flat -= flat.mean(1, keepdims=True)
    flat /= np.maximum(np.linalg.norm(flat, axis=1, keepdims=True), 1e-6)
    farthest = max(distance for distance, _ in NEAR)
    found = [np.empty((0, 2), np.int64)]
    for start in range(0, len(images), _BLOCK):
        distances = (bits - signs[start : start + _BLOCK] @ signs[start:].T) / 2
        first, second = np.nonzero(distances <= farthest)
        upper = first < second
        first, second = first[upper], second[upper]
        distance = distances[first, second]
        first, second = first + start, second + start
        correlation = np.concatenate(
            [np.empty(0, np.float32)]
            + [
                np.einsum("ij,ij->i", flat[first[at : at + _BLOCK]], flat[second[at : at + _BLOCK]])
                for at in range(0, len(first), _BLOCK)
            ]
        )
        near = np.zeros(len(first), np.bool_)
        for most, least in NEAR:
            near |= (distance <= most) & (correlation >= least)
        found.append(np.stack([first[near], second[near]], 1))
    return np.concatenate(found)


def blank_images(images: Images) -> NDArray[np.bool_]:
    """Tell the images (N, H, W) or (N, H, W, 3) uint8 whose levels hardly differ: (N,) bool."""
    deviation = np.asarray([image.std() for image in grey_thumbnails(images)])
    return np.asarray(deviation < BLANK_DEVIATION, np.bool_)


def conflicting_labels(labels: NDArray[np.int64], groups: Groups) -> NDArray[np.bool_]:
    """Tell the images whose group carries more than one label.

    Args:
        labels: (N,) int64.
        groups: (N,) int64, such as from `identical_groups`.

    Returns:
        (N,) bool.
    """
    return spread(labels, groups) > 1


def spread(values: NDArray[np.generic], groups: Groups) -> NDArray[np.int64]:
    """Count for each image how many different values its group holds: (N,) int64."""
    if not len(groups):
        return np.zeros(0, np.int64)
    codes = np.unique(values, return_inverse=True)[1].ravel()
    kinds = np.unique(np.stack([groups, codes], 1), axis=0)
    return np.bincount(kinds[:, 0], minlength=int(groups.max()) + 1)[groups]


def _hash(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Return the 63 bits of an image as -1 and 1, float32."""
    even = image[: image.shape[0] // 2 * 2, : image.shape[1] // 2 * 2]  # what cv2.dct asks for
    frequencies = cv2.dct(even.astype(np.float32))[:_HASH_SIDE, :_HASH_SIDE].ravel()[1:]
    return np.where(frequencies > np.median(frequencies), 1, -1).astype(np.float32)
