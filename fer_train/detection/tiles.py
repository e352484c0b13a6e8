"""Training tiles, made on the device: pieces of pictures, zoomed, turned, lit and spoilt anew.

All pictures lie decoded in the device's memory, each with its halvings (a mipmap pyramid), so that
a face can be drawn at any size without aliasing, and no processor stands between two steps. A tile
is (size, size, 3), float32, BGR, 0-255. What it holds is a table of ``MOST_FACES`` rows of `ROW`
numbers.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from fer_edge.errors import DataError
from fer_train.detection.pictures import (
    FACE,
    IGNORED,
    NOTHING,
    POINTS,
    Picture,
    check_trainable,
    in_threads,
)
from fer_train.detection.settings import TileSettings
from fer_train.network._keras import keras

ops = keras.ops

# x1, y1, x2, y2 in the tile's pixels; x and y of five points; how sure the label is, 0-1; whether
# the points are known; the kind (`pictures.NOTHING`, ``FACE`` or ``IGNORED``).
ROW = 4 + 2 * POINTS + 3
PLACES = 4 + 2 * POINTS
CERTAINTY, KNOWN, KIND = range(PLACES, ROW)
# A tile of a crowd names its faces first and drops what exceeds this.
MOST_FACES = 40
_LEVELS = 6
_GREY = 114.0  # what the search pads a picture with


@dataclass(frozen=True)
class Decoy:
    """What a detector took for a face in a picture without one.

    Attributes:
        name: The picture's.
        box: x1, y1, x2, y2 in pixels.
        weight: How often it is shown, relative to the other decoys.
    """

    name: str
    box: tuple[float, float, float, float]
    weight: float


class _Places(keras.layers.Layer):  # type: ignore[misc]
    """Boxes in pictures, to be drawn at random."""

    def __init__(
        self, name: str, places: Sequence[tuple[float, ...]], shares: Sequence[float]
    ) -> None:
        """Take places as number of the picture, x1, y1, x2, y2, and how often each is drawn."""
        super().__init__(name=name, dtype="float32", trainable=False)
        table = np.array(places, np.float32).reshape(-1, 5)
        sides = np.maximum(table[:, 3:] - table[:, 1:3], 1.0).max(1)
        order = np.argsort(-sides, kind="stable")
        self.count = len(table)
        if self.count:
            self.sides = _constant(self, "sides", sides[order])
            self.numbers = _constant(self, "numbers", table[order, 0].astype(np.int32))
            self.boxes = _constant(self, "boxes", table[order, 1:])
            running = np.cumsum(np.asarray(shares, np.float64)[order])
            self.running = _constant(self, "running", running.astype(np.float32))

    def draw(self, sides: Any, enlarged: float, seeds: Any) -> tuple[Any, Any]:
        """Draw for each side (N,) a place that need not be enlarged more to have it.

        Returns:
            Picture numbers int32 (N,) and boxes float32 (N, 4).
        """
        enough = ops.searchsorted(-self.sides, -sides / enlarged, side="right")
        last = ops.maximum(enough - 1, 0)
        draw = _uniform(ops.shape(sides), 0, 1, seeds) * ops.take(self.running, last)
        place = ops.minimum(ops.searchsorted(self.running, draw, side="right"), last)
        return ops.take(self.numbers, place), ops.take(self.boxes, place, axis=0)


class PictureTable(keras.layers.Layer):  # type: ignore[misc]
    """Holds pictures and their faces in the device's memory, and gives pieces of them."""

    def __init__(
        self,
        pictures: Sequence[Picture],
        decoys: Sequence[Decoy] = (),
        longest: int = TileSettings.longest,
    ) -> None:
        """Decode the pictures.

        Args:
            pictures: At least one with a face and one without.
            decoys: What was taken for a face in those without one.
            longest: Longer side in pixels to which larger pictures are shrunk.

        Raises:
            DataError: They lack faces, or pictures without, or are too many for a table.
        """
        super().__init__(name="pictures", dtype="float32", trainable=False)
        check_trainable(pictures)
        made = in_threads(lambda picture: _pyramid(picture, longest), pictures)
        pyramids = [levels for levels, _ in made]
        zooms = [zoom for _, zoom in made]
        del made
        heights, widths = (
            np.array([[level.shape[axis] for level in levels] for levels in pyramids], np.int32)
            for axis in (0, 1)
        )
        areas = (heights.astype(np.int64) * widths).reshape(-1)
        starts = np.cumsum(areas) - areas
        if starts[-1] + areas[-1] >= 2**31:
            raise DataError(
                f"Expected pictures of less than {2**31 * 3 // 4 / 1e6:.0f} million pixels in all, "
                f"received {areas.sum() * 3 // 4 / 1e6:.0f} million; give a smaller --longest or a "
                "--limit"
            )
        self.offsets = _constant(self, "offsets", starts.reshape(heights.shape).astype(np.int32))
        self.heights = _constant(self, "heights", heights)
        self.widths = _constant(self, "widths", widths)
        flat = np.empty(int(areas.sum()), np.int32)
        for levels, row in zip(pyramids, starts.reshape(heights.shape), strict=True):
            for level, start in zip(levels, row, strict=True):
                flat[start : start + level.size] = level.reshape(-1)
        del pyramids
        self.pixels = _constant(self, "pixels", flat)

        most = max(1, max(len(picture.faces) for picture in pictures))
        rows = np.zeros((len(pictures), most, ROW), np.float32)
        faces, shares = [], []
        for number, picture in enumerate(pictures):
            own = picture.faces
            rows[number, : len(own), :PLACES] = np.nan_to_num(own[:, :-1] * zooms[number])
            rows[number, : len(own), CERTAINTY] = picture.certainties
            rows[number, : len(own), KNOWN] = ~np.isnan(own[:, 4:-1]).any(1)
            rows[number, : len(own), KIND] = own[:, -1]
            real = own[own[:, -1] == FACE]
            faces += [(number, *face[:4] * zooms[number]) for face in real]
            # Between each picture and each face the same: crowds must not crowd out portraits.
            shares += [picture.weight * max(1, len(real)) ** -0.5] * len(real)
        empty = [number for number, picture in enumerate(pictures) if picture.empty]
        self.rows = _constant(self, "rows", rows)
        self.faces = _Places("faces", faces, shares)
        self.empty = _constant(self, "empty", np.array(empty, np.int32))
        numbers = {picture.name: number for number, picture in enumerate(pictures)}
        known = [decoy for decoy in decoys if decoy.name in numbers]
        self.decoys = _Places(
            "decoys",
            [
                (numbers[decoy.name], *np.multiply(decoy.box, zooms[numbers[decoy.name]]))
                for decoy in known
            ],
            [decoy.weight for decoy in known],
        )

    def draw_empty(self, count: int, seeds: Any) -> Any:
        """Draw pictures without a face: int32 (count,)."""
        pictures = self.empty.shape[0]
        place = _uniform((count,), 0, pictures, seeds)
        return ops.take(self.empty, ops.minimum(ops.cast(place, "int32"), pictures - 1))

    def look(self, numbers: Any, x: Any, y: Any, step: Any) -> tuple[Any, Any]:
        """Read pictures at points, between pixels where need be.

        Args:
            numbers: int32 (N,), of the pictures.
            x: float32 (N, h, w), in the pictures' pixels.
            y: As `x`.
            step: float32 (N,), pixels of the picture between two neighbouring points: it decides
                on the halving that is read.

        Returns:
            float32 (N, h, w, 3), and bool (N, h, w), which points lie outside.
        """
        level = ops.cast(ops.clip(ops.round(ops.log2(step)), 0, _LEVELS - 1), "int32")
        height, width = (
            ops.cast(ops.take(sizes, numbers, axis=0)[:, 0], "float32")[:, None, None]
            for sizes in (self.heights, self.widths)
        )
        start, rows, columns = (
            ops.take_along_axis(ops.take(table, numbers, axis=0), level[:, None], axis=1)[
                :, :, None
            ]
            for table in (self.offsets, self.heights, self.widths)
        )
        outside = (x < 0) | (y < 0) | (x > width) | (y > height)
        x = x * (ops.cast(columns, "float32") / width) - 0.5
        y = y * (ops.cast(rows, "float32") / height) - 0.5
        left, top = ops.floor(x), ops.floor(y)
        across, down = (x - left)[..., None], (y - top)[..., None]
        left, top = ops.cast(left, "int32"), ops.cast(top, "int32")

        def at(row: Any, column: Any) -> Any:
            row = ops.clip(row, 0, rows - 1)
            column = ops.clip(column, 0, columns - 1)
            packed = ops.take(self.pixels, start + row * columns + column)
            channels = [
                ops.bitwise_and(ops.right_shift(packed, shift), 255) for shift in (0, 8, 16)
            ]
            return ops.cast(ops.stack(channels, axis=-1), "float32")

        upper = at(top, left) * (1 - across) + at(top, left + 1) * across
        lower = at(top + 1, left) * (1 - across) + at(top + 1, left + 1) * across
        return upper * (1 - down) + lower * down, outside


def _pyramid(picture: Picture, longest: int) -> tuple[list[NDArray[np.int32]], float]:
    """Return the picture and its halvings, each int32 (h, w) with a pixel's three bytes.

    And how much smaller the first is than the picture: at most 1.
    """
    image = picture.pixels()
    zoom = min(1.0, longest / max(image.shape[:2]))
    if zoom < 1:
        size = max(1, round(image.shape[1] * zoom)), max(1, round(image.shape[0] * zoom))
        image = np.asarray(cv2.resize(image, size, interpolation=cv2.INTER_AREA), np.uint8)
    levels = []
    for number in range(_LEVELS):
        if number:
            height, width = (max(2, (side + 1) // 2) for side in image.shape[:2])
            image = np.asarray(
                cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA), np.uint8
            )
        packed = np.zeros((*image.shape[:2], 4), np.uint8)
        packed[..., :3] = image
        levels.append(packed.view("<i4")[..., 0])
    return levels, zoom


class TileMaker(keras.layers.Layer):  # type: ignore[misc]
    """Makes batches of tiles."""

    def __init__(self, table: PictureTable, settings: TileSettings, batch: int, seed: int) -> None:
        """Take the pictures, the settings, the tiles in a batch and a seed."""
        super().__init__(name="tiles", dtype="float32", trainable=False)
        self.table, self.settings, self.batch = table, settings, batch
        self.seeds = keras.random.SeedGenerator(seed)
        self.built = True

    def call(self, step: Any) -> tuple[Any, Any]:
        """Return tiles float32 (batch, size, size, 3) and rows (batch, MOST_FACES, ROW).

        Args:
            step: Not read; a model needs an input.
        """
        size = self.settings.size
        mosaics = round(self.batch * self.settings.mosaic)
        tiles, rows = self._views(self.batch - mosaics, size)
        if mosaics:
            quarters, inside = self._views(4 * mosaics, size // 2)
            whole, all_inside = _mosaic(quarters, inside)
            tiles = ops.concatenate([tiles, whole])
            rows = ops.concatenate([rows, all_inside])
        tiles = self._lit(tiles)
        tiles = self._covered(tiles, rows)
        # What follows befalls slices of the batch; shuffled, each befalls any kind of tile.
        order = keras.random.shuffle(ops.arange(self.batch), seed=self.seeds)
        tiles, rows = ops.take(tiles, order, axis=0), ops.take(rows, order, axis=0)
        own = self.settings
        tiles = _on_slice(tiles, 0.0, own.blurred, self._blurred)
        # Half of the blurred ones are noisy too, and some of the noisy ones compressed.
        tiles = _on_slice(tiles, own.blurred / 2, own.noisy, self._noisy)
        tiles = _on_slice(
            tiles, own.blurred / 2 + own.noisy * 0.8, own.compressed, self._compressed
        )
        return ops.stop_gradient(ops.round(ops.clip(tiles, 0, 255))), rows

    def _uniform(self, shape: Any, low: float, high: float) -> Any:
        return _uniform(shape, low, high, self.seeds)

    def _chance(self, share: float, shape: Any) -> Any:
        return self._uniform(shape, 0, 1) < share

    def _views(self, count: int, size: int) -> tuple[Any, Any]:
        """Return pieces of pictures (count, size, size, 3), and their rows."""
        own, table = self.settings, self.table
        side = ops.exp(
            self._uniform((count,), math.log(own.smallest), math.log(own.largest * size))
        )
        number, box = table.faces.draw(side, own.enlarged, self.seeds)
        kind = self._uniform((count,), 0, 1)
        zoomed = (kind >= own.empty) & self._chance(own.zoomed, (count,))
        number = ops.where(kind < own.empty, table.draw_empty(count, self.seeds), number)
        if table.decoys.count:
            decoy, decoy_box = table.decoys.draw(side, own.enlarged, self.seeds)
            shown = kind < own.empty * own.decoys
            number = ops.where(shown, decoy, number)
            box = ops.where(shown[:, None], decoy_box, box)
            zoomed = zoomed | shown
        height = ops.cast(ops.take(table.heights, number, axis=0)[:, 0], "float32")
        width = ops.cast(ops.take(table.widths, number, axis=0)[:, 0], "float32")

        # One point of the picture (centre) comes to one of the tile (target), at a scale.
        longer = ops.maximum(box[:, 2] - box[:, 0], box[:, 3] - box[:, 1])
        close = ops.minimum(side / ops.maximum(longer, 1.0), own.enlarged)
        low = ops.where(kind < own.empty, math.log(0.25), math.log(0.6))
        spread = ops.exp(low + self._uniform((count,), 0, 1) * (math.log(2.5) - low))
        scale = ops.where(zoomed, close, size / ops.maximum(height, width) * spread)
        middle = (box[:, :2] + box[:, 2:]) / 2
        anywhere = self._uniform((count, 2), 0.2, 0.8) * ops.stack([width, height], axis=1)
        centre = ops.where(zoomed[:, None], middle, anywhere)
        # A large face stays in the tile, but for what an edge may cut off.
        edge = ops.clip(side / size, 0.15, 0.5)[:, None]
        within = edge + (1 - 2 * edge) * self._uniform((count, 2), 0, 1)
        within = within + self._uniform((count, 2), -0.1, 0.1)
        target = ops.where(zoomed[:, None], ops.clip(within, 0.1, 0.9) * size, size / 2)
        view = _View(scale, centre, target, self._angles(count), self._chance(0.5, (count,)), size)

        x, y = view.to_picture()
        # One in six is read from a coarser halving: a picture that was small once.
        coarse = ops.where(self._chance(0.16, (count,)), 2.0, 1.0)
        tiles, outside = table.look(number, x, y, coarse / scale)
        # Some decoys are cut out, as the pictures of single faces are: no edge means a face.
        cut = zoomed & (kind < own.empty) & self._chance(0.35, (count,))
        reach = (0.6 * (box[:, 2:] - box[:, :2]))[:, :, None, None]
        away = [
            ops.abs(place - middle[:, axis, None, None]) > reach[:, axis]
            for axis, place in enumerate((x, y))
        ]
        outside = outside | ((away[0] | away[1]) & cut[:, None, None])
        tiles = ops.where(outside[..., None], self._background(count, size), tiles)
        rows = view.rows(ops.take(table.rows, number, axis=0), own.least_side, own.least_visible)
        return tiles, _first_rows(rows)

    def _angles(self, count: int) -> Any:
        """Draw angles in radians (count,)."""
        own = self.settings
        kind = self._uniform((count,), 0, 1)
        slight = 10 * keras.random.normal((count,), seed=self.seeds)
        degrees = ops.where(
            kind < own.turned,
            self._uniform((count,), -own.turn, own.turn),
            ops.where(kind < 2 * own.turned, slight, 0.0),
        )
        return degrees * (math.pi / 180)

    def _background(self, count: int, size: int) -> Any:
        """Return what lies around the pictures: other pictures without a face, colours, grey."""
        number = self.table.draw_empty(count, self.seeds)
        height = ops.cast(ops.take(self.table.heights, number, axis=0)[:, 0], "float32")
        width = ops.cast(ops.take(self.table.widths, number, axis=0)[:, 0], "float32")
        step = ops.minimum(height, width) / size / self._uniform((count,), 1.0, 2.5)
        room = ops.stack([width, height], axis=1) - size * step[:, None]
        corner = (room * self._uniform((count, 2), 0, 1))[:, :, None, None]
        line = ops.arange(size, dtype="float32") + 0.5
        x = corner[:, 0] + line[None, None, :] * step[:, None, None] + ops.zeros((1, size, 1))
        y = corner[:, 1] + line[None, :, None] * step[:, None, None] + ops.zeros((1, 1, size))
        pieces, _ = self.table.look(number, x, y, step)
        colour = ops.where(self._chance(0.5, (count, 1)), self._uniform((count, 3), 0, 255), _GREY)[
            :, None, None
        ]
        return ops.where(self._chance(0.67, (count, 1, 1, 1)), pieces, colour)

    def _lit(self, tiles: Any) -> Any:
        """Change contrast, brightness, gamma and colours, or take them away."""
        one, three = (self.batch, 1, 1, 1), (self.batch, 1, 1, 3)
        contrast = ops.where(self._chance(0.8, one), self._uniform(one, 0.5, 1.5), 1.0)
        brightness = ops.where(self._chance(0.8, one), self._uniform(one, -50, 50), 0.0)
        gamma = ops.where(
            self._chance(0.3, one), ops.exp(self._uniform(one, math.log(0.5), math.log(2.4))), 1.0
        )
        cast = ops.where(self._chance(0.3, one), self._uniform(three, 0.7, 1.3), 1.0)
        tiles = ops.clip((tiles - 128) * contrast + 128 + brightness, 0, 255)
        tiles = 255 * (tiles / 255) ** gamma * cast
        grey = ops.mean(tiles, axis=-1, keepdims=True)
        return ops.where(self._chance(self.settings.grey, one), grey, tiles)

    def _covered(self, tiles: Any, rows: Any) -> Any:
        """Paint masks, hands, scarfs, glasses: rounded patches on up to three faces a tile."""
        size = self.settings.size
        line = ops.arange(size, dtype="float32") + 0.5
        texture = ops.roll(tiles, 1, axis=0)  # a piece of another tile
        flat = (self.batch,)
        for place in range(3):
            face = rows[:, place]  # faces come first, in no order
            width, height = face[:, 2] - face[:, 0], face[:, 3] - face[:, 1]
            low = self._chance(0.7, flat)
            top = ops.where(low, self._uniform(flat, 0.45, 0.7), self._uniform(flat, 0.1, 0.35))
            tall = ops.where(low, self._uniform(flat, 0.4, 0.6), self._uniform(flat, 0.15, 0.25))
            left = self._uniform(flat, -0.1, 0.35)
            wide = self._uniform(flat, 0.65, 1.1) - left
            # |u|**p + |v|**p < 1: an ellipse at 2, almost a rectangle at 8.
            power = ops.where(self._chance(0.5, flat), 2.0, 8.0)[:, None, None]
            u = _from_middle(line, face[:, 0] + left * width, wide * width)[:, None, :]
            v = _from_middle(line, face[:, 1] + top * height, tall * height)[:, :, None]
            painted = (
                self._chance(self.settings.covered, flat) & (face[:, KIND] == FACE) & (height > 14)
            )
            inside = (u**power + v**power < 1) & painted[:, None, None]
            colour = self._uniform((self.batch, 1, 1, 3), 0, 255)
            paint = ops.where(self._chance(0.6, (self.batch, 1, 1, 1)), colour, texture)
            tiles = ops.where(inside[..., None], paint, tiles)
        return tiles

    def _blurred(self, tiles: Any) -> Any:
        """Blur along a direction and across it: equally (out of focus) or not (moved)."""
        count = tiles.shape[0]
        angle = self._uniform((count,), 0, math.pi)
        along = self._uniform((count,), 0.5, 2.5)
        across = ops.where(self._chance(0.6, (count,)), along, 0.2)
        tiles = _blur(tiles, ops.cos(angle), ops.sin(angle), along)
        return _blur(tiles, -ops.sin(angle), ops.cos(angle), across)

    def _noisy(self, tiles: Any) -> Any:
        strength = self._uniform((tiles.shape[0], 1, 1, 1), 2, 18)
        return tiles + strength * keras.random.normal(tiles.shape, seed=self.seeds)

    def _compressed(self, tiles: Any) -> Any:
        coarse = ops.exp(self._uniform((tiles.shape[0],), math.log(0.6), math.log(3.3)))
        return _compress_blocks(tiles, coarse)


@dataclass(frozen=True)
class _View:
    """How pictures come to lie in tiles: N of each."""

    scale: Any
    centre: Any
    target: Any
    angle: Any
    mirrored: Any
    size: int

    def to_picture(self) -> tuple[Any, Any]:
        """Return where the tiles' pixels lie in their pictures: x and y, (N, size, size)."""
        line = ops.arange(self.size, dtype="float32") + 0.5
        across = ops.where(self.mirrored[:, None], self.size - line[None], line[None])
        right = (across - self.target[:, :1])[:, None, :] / self.scale[:, None, None]
        down = (line[None] - self.target[:, 1:])[:, :, None] / self.scale[:, None, None]
        cos, sin = ops.cos(self.angle)[:, None, None], ops.sin(self.angle)[:, None, None]
        centre = self.centre[:, :, None, None]
        return cos * right + sin * down + centre[:, 0], cos * down - sin * right + centre[:, 1]

    def to_tile(self, x: Any, y: Any) -> tuple[Any, Any]:
        """Return where points (N, F) of the pictures lie in the tiles."""
        right, down = x - self.centre[:, :1], y - self.centre[:, 1:]
        cos, sin = ops.cos(self.angle)[:, None], ops.sin(self.angle)[:, None]
        scale = self.scale[:, None]
        across = (cos * right - sin * down) * scale + self.target[:, :1]
        along = (sin * right + cos * down) * scale + self.target[:, 1:]
        return ops.where(self.mirrored[:, None], self.size - across, across), along

    def rows(self, rows: Any, least_side: float, least_visible: float) -> Any:
        """Return the faces' rows (N, F, ROW) in the tiles' pixels.

        A face is taken for an ellipse in its box, and the box in the tile goes around the ellipse.
        """
        x, y = self.to_tile((rows[..., 0] + rows[..., 2]) / 2, (rows[..., 1] + rows[..., 3]) / 2)
        scale = self.scale[:, None]
        a, b = (rows[..., 2] - rows[..., 0]) * scale / 2, (rows[..., 3] - rows[..., 1]) * scale / 2
        cos, sin = ops.cos(self.angle)[:, None], ops.sin(self.angle)[:, None]
        half_width = ops.sqrt((a * cos) ** 2 + (b * sin) ** 2)
        half_height = ops.sqrt((a * sin) ** 2 + (b * cos) ** 2)
        box = ops.stack([x - half_width, y - half_height, x + half_width, y + half_height], -1)
        seen = ops.clip(box, 0, self.size)
        area = (seen[..., 2] - seen[..., 0]) * (seen[..., 3] - seen[..., 1])
        visible = area / ops.maximum(4 * half_width * half_height, 1e-6)
        longer = 2 * ops.maximum(half_width, half_height)
        kind = rows[..., KIND]
        doubtful = (visible < least_visible) | (longer < least_side)
        kind = ops.where((kind == FACE) & doubtful, IGNORED, kind)
        kind = ops.where(visible < 0.1, NOTHING, kind)
        # In a mosaic, an ignored region must not reach into the neighbours.
        box = ops.where((kind == IGNORED)[..., None], seen, box)
        points = []
        for point in range(POINTS):
            points.append(self.to_tile(rows[..., 4 + 2 * point], rows[..., 5 + 2 * point]))
        swapped = [points[other] for other in (1, 0, 2, 4, 3)]  # left is left in the tile
        flat = []
        for (x1, y1), (x2, y2) in zip(points, swapped, strict=True):
            flat += [
                ops.where(self.mirrored[:, None], x2, x1),
                ops.where(self.mirrored[:, None], y2, y1),
            ]
        rest = [rows[..., CERTAINTY], rows[..., KNOWN], kind]
        return ops.concatenate([box, ops.stack([*flat, *rest], axis=-1)], axis=-1)


def _first_rows(rows: Any) -> Any:
    """Return MOST_FACES of the rows (N, F, ROW): faces first, then ignored ones."""
    kind = rows[..., KIND]
    rank = ops.where(kind == FACE, 2.0, ops.where(kind == IGNORED, 1.0, 0.0))
    missing = MOST_FACES - rows.shape[1]
    if missing > 0:
        return ops.pad(_by_rank(rows, rank, rows.shape[1]), ((0, 0), (0, missing), (0, 0)))
    return _by_rank(rows, rank, MOST_FACES)


def _by_rank(rows: Any, rank: Any, count: int) -> Any:
    places = ops.top_k(rank, count)[1]
    return ops.take_along_axis(rows, places[..., None], axis=1)


def _mosaic(quarters: Any, rows: Any) -> tuple[Any, Any]:
    """Put four tiles (4 N, half, half, 3) together to one (N, size, size, 3), and their rows."""
    count, half = quarters.shape[0] // 4, quarters.shape[1]
    grid = ops.transpose(ops.reshape(quarters, (count, 2, 2, half, half, 3)), (0, 1, 3, 2, 4, 5))
    shift = np.zeros((1, 4, 1, ROW), np.float32)
    for quarter in range(4):
        shift[0, quarter, 0, 0:PLACES:2] = half * (quarter % 2)
        shift[0, quarter, 0, 1:PLACES:2] = half * (quarter // 2)
    moved = ops.reshape(rows, (count, 4, MOST_FACES, ROW)) + shift
    moved = ops.reshape(moved, (count, 4 * MOST_FACES, ROW))
    return ops.reshape(grid, (count, 2 * half, 2 * half, 3)), _first_rows(moved)


def _constant(layer: Any, name: str, array: NDArray[Any]) -> Any:
    """Add an array to a layer, which no training changes."""
    variable = layer.add_weight(
        name=name,
        shape=array.shape,
        dtype=str(array.dtype),
        initializer="zeros",
        trainable=False,
        autocast=False,
    )
    variable.assign(array)
    return variable


def _uniform(shape: Any, low: float, high: float, seeds: Any) -> Any:
    return keras.random.uniform(shape, low, high, dtype="float32", seed=seeds)


def _on_slice(tiles: Any, first: float, share: float, change: Any) -> Any:
    """Change the tiles of a share of the batch, from a place in it on or from earlier."""
    first = min(first, 1 - share)
    start, stop = round(first * tiles.shape[0]), round((first + share) * tiles.shape[0])
    if start == stop:
        return tiles
    return ops.concatenate([tiles[:start], change(tiles[start:stop]), tiles[stop:]])


def _from_middle(line: Any, start: Any, length: Any) -> Any:
    """Return how far positions (S,) lie from stretches' middles: 1 at their ends; (N, S)."""
    half = ops.maximum(length, 1.0)[:, None] / 2
    return ops.abs(line[None] - start[:, None] - half) / half


def _blur(tiles: Any, dx: Any, dy: Any, spread: Any) -> Any:
    """Blur tiles (N, S, S, 3) along unit directions (N,), by Gaussians of a spread in pixels."""
    count, size = tiles.shape[:2]
    line = ops.arange(size)
    flat = ops.reshape(tiles, (count, size * size, 3))
    total: Any = 0.0
    weights: Any = 0.0
    for tap in range(-4, 5):
        weight = ops.exp(-0.5 * (tap / spread) ** 2)
        column = ops.clip(line[None] + ops.cast(ops.round(tap * dx), "int32")[:, None], 0, size - 1)
        row = ops.clip(line[None] + ops.cast(ops.round(tap * dy), "int32")[:, None], 0, size - 1)
        places = ops.reshape(row[:, :, None] * size + column[:, None, :], (count, size * size, 1))
        total = total + weight[:, None, None] * ops.take_along_axis(flat, places, axis=1)
        weights = weights + weight
    return ops.reshape(total / weights[:, None, None], tiles.shape)


def _compress_blocks(tiles: Any, coarse: Any) -> Any:
    """Round the cosine transform of blocks of 8 x 8 pixels, as JPEG does.

    Args:
        tiles: (N, S, S, 3), S a multiple of 8.
        coarse: (N,), steps of rounding as multiples of JPEG's own; 0.6 to 3.3 are its qualities 70
            to 15.
    """
    count, size = tiles.shape[:2]
    quantum = ops.reshape(coarse, (count, 1, 1, 1, 1, 1)) * _JPEG_LUMINANCE
    blocks = ops.reshape(tiles - 128, (count, size // 8, 8, size // 8, 8, 3))
    waves = ops.einsum("ua,niajbc,vb->nijcuv", _COSINES, blocks, _COSINES)
    waves = ops.round(waves / quantum) * quantum
    blocks = ops.einsum("ua,nijcuv,vb->niajbc", _COSINES, waves, _COSINES)
    return ops.reshape(blocks, tiles.shape) + 128


_wave = np.cos(np.pi * np.outer(np.arange(8), 2 * np.arange(8) + 1) / 16) / 2
_wave[0] /= np.sqrt(2)
_COSINES = _wave.astype(np.float32)
# JPEG's own table for brightness (ITU-T T.81, annex K).
_JPEG_LUMINANCE = np.array(
    [
        [16, 11, 10, 16, 24, 40, 51, 61],
        [12, 12, 14, 19, 26, 58, 60, 55],
        [14, 13, 16, 24, 40, 57, 69, 56],
        [14, 17, 22, 29, 51, 87, 80, 62],
        [18, 22, 37, 56, 68, 109, 103, 77],
        [24, 35, 55, 64, 81, 104, 113, 92],
        [49, 64, 78, 87, 103, 121, 120, 101],
        [72, 92, 95, 98, 112, 100, 103, 99],
    ],
    np.float32,
)
