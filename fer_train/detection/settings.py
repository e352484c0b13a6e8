"""How a detector is trained: frozen settings, each a flag and a key of a file of settings.

Nothing here loads Keras, so that the command line can name the settings at once.
"""

import dataclasses
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, TypeVar

from fer_edge.errors import DataError
from fer_train.run.recipes import LARGEST_SEED, check_kinds, wrong_setting

S = TypeVar("S")


@dataclass(frozen=True)
class TileSettings:
    """How training tiles are made; shares are of all tiles.

    Attributes:
        size: Side of a tile in pixels; a multiple of 32.
        longest: Longer side in pixels to which larger pictures are shrunk before tiles are cut
            out of them.
        empty: Share of tiles from pictures without a face.
        decoys: Share of these that show, like a face, what was taken for one.
        mosaic: Share of tiles put together from four of half the size.
        zoomed: Share of the tiles of faces that show a face at a drawn size; the others show the
            picture whole, or most of it.
        smallest: Least side of a zoomed face in pixels.
        largest: Greatest side of a zoomed face, as a share of the tile's.
        enlarged: A face is drawn at most so many times its own size.
        turned: Share of tiles turned by up to ``turn`` degrees either way; as many again are
            turned a little, the rest not.
        turn: In degrees.
        least_side: Faces with a shorter longer side, in pixels of the tile, are ignored.
        least_visible: Faces of which a smaller share lies in the tile are ignored.
        grey: Share of tiles without colours.
        blurred: Share of tiles out of focus or moved.
        noisy: Share of tiles with noise.
        compressed: Share of tiles spoilt as by JPEG at qualities of 70 to 15.
        covered: Share of the first three faces of a tile on which a mask, a hand or glasses are
            painted.
    """

    size: int = 320
    longest: int = 640
    empty: float = 0.3
    decoys: float = 0.5
    mosaic: float = 0.125
    zoomed: float = 0.85
    smallest: float = 9.0
    largest: float = 0.95
    enlarged: float = 3.5
    turned: float = 0.4
    turn: float = 60.0
    least_side: float = 8.0
    least_visible: float = 0.55
    grey: float = 0.25
    blurred: float = 0.2
    noisy: float = 0.25
    compressed: float = 0.2
    covered: float = 0.12

    def __post_init__(self) -> None:
        """Check each value, so that a bad flag fails before any work."""
        check_kinds(self)
        if self.size < 32 or self.size % 32:
            raise wrong_setting(self, "size", "a multiple of 32 from 32 on")
        if self.longest < 32:
            raise wrong_setting(self, "longest", "32 or more")
        _check_shares(
            self,
            *("empty", "decoys", "mosaic", "zoomed", "least_visible"),
            *("grey", "blurred", "noisy", "compressed", "covered"),
        )
        if not 0 <= self.turned <= 0.5:
            raise wrong_setting(
                self, "turned", "0 to 0.5, since as many tiles again are turned a little"
            )
        if not 0 <= self.turn <= 180:
            raise wrong_setting(self, "turn", "0 to 180")
        if not 0 < self.largest <= 2:
            raise wrong_setting(self, "largest", "above 0 and at most 2")
        if not 1 <= self.smallest <= self.largest * self.size:
            raise wrong_setting(self, "smallest", f"1 to {self.largest * self.size:g}")
        for name in ("enlarged", "least_side"):
            if getattr(self, name) <= 0:
                raise wrong_setting(self, name, "above 0")


@dataclass(frozen=True)
class LossWeights:
    """How much each part of the loss counts.

    Attributes:
        negative: Weight of a cell without a face at a score of 1, against one with a face found
            exactly.
        box: Weight of boxes against scores.
        points: Weight of points against scores.
        soft: Share of a teacher's score in the score that a face is taught which the teacher alone
            has labelled; 0 takes such faces for certain.
    """

    negative: float = 1.0
    box: float = 2.0
    points: float = 2.0
    soft: float = 0.5

    def __post_init__(self) -> None:
        """Check each value."""
        check_kinds(self)
        for name in ("negative", "box", "points"):
            if getattr(self, name) < 0:
                raise wrong_setting(self, name, "0 or more")
        _check_shares(self, "soft")


@dataclass(frozen=True)
class DetectorSettings:
    """How long and how fast a detector learns.

    Attributes:
        steps: Steps of the training.
        batch: Tiles in a step.
        rate: The highest learning rate, of AdamW; it rises over the first steps, then falls as a
            cosine.
        end_rate: The last learning rate, as a share of the highest.
        decay: Weight decay of convolutions.
        mean: Share of the running mean of the weights that a step keeps; the mean is what is
            evaluated and exported.
        mine_at: Share of the steps after which the network searches the pictures without a face,
            and what it takes for faces there becomes decoys; 1 is never. With trained weights 0
            is best.
        inner: Share of the pictures that are held out to evaluate the detector, copies together,
            where no --held-out is given.
        seed: Of the weights, the tiles and the pictures kept back.
        precision: ``auto`` is bfloat16 with float32 variables where the hardware multiplies it.
    """

    steps: int = 18_000
    batch: int = 256
    rate: float = 2e-3
    end_rate: float = 0.01
    decay: float = 0.03
    mean: float = 0.9985
    mine_at: float = 0.5
    inner: float = 0.1
    seed: int = 0
    precision: Literal["auto", "float32", "mixed_bfloat16"] = "auto"

    def __post_init__(self) -> None:
        """Check each value."""
        check_kinds(self)
        for name in ("steps", "batch"):
            if getattr(self, name) < 1:
                raise wrong_setting(self, name, "1 or more")
        if not 0 < self.rate <= 10:
            raise wrong_setting(self, "rate", "above 0 and at most 10")
        if self.decay < 0:
            raise wrong_setting(self, "decay", "0 or more")
        _check_shares(self, "end_rate", "mine_at")
        for name, most in (("mean", 1), ("inner", 1)):
            if not 0 <= getattr(self, name) < most:
                raise wrong_setting(self, name, f"0 to below {most}")
        if not 0 <= self.seed <= LARGEST_SEED:
            raise wrong_setting(self, "seed", f"0 to {LARGEST_SEED}")


@dataclass(frozen=True)
class DetectorRecipe:
    """All settings of a detector's training."""

    training: DetectorSettings = field(default_factory=DetectorSettings)
    tiles: TileSettings = field(default_factory=TileSettings)
    loss: LossWeights = field(default_factory=LossWeights)

    def values(self) -> dict[str, Any]:
        """Return the settings by name, as `recipe_of` takes them."""
        return {
            name: value
            for part in (self.training, self.tiles, self.loss)
            for name, value in dataclasses.asdict(part).items()
        }


SETTINGS: tuple[type, ...] = (DetectorSettings, TileSettings, LossWeights)


def recipe_of(values: Mapping[str, Any]) -> DetectorRecipe:
    """Return the recipe of settings by name; what is not named is as by default.

    Raises:
        DataError: A setting is not known or out of its range.
    """
    known = {spec.name for part in SETTINGS for spec in dataclasses.fields(part)}
    if unknown := set(values) - known:
        raise DataError(
            f"Expected settings among {', '.join(sorted(known))}, "
            f"received {', '.join(sorted(unknown))}"
        )

    def part(kind: type[S]) -> S:
        names = {spec.name for spec in dataclasses.fields(kind)}  # type: ignore[arg-type]
        return kind(**{name: value for name, value in values.items() if name in names})

    return DetectorRecipe(part(DetectorSettings), part(TileSettings), part(LossWeights))


def read_settings(path: Path) -> dict[str, Any]:
    """Read settings from a TOML file.

    Raises:
        DataError: The file cannot be read, or is no TOML.
    """
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise DataError(f"Expected a TOML file of settings, received {path}: {error}") from error


def _check_shares(settings: Any, *names: str) -> None:
    for name in names:
        if not 0 <= getattr(settings, name) <= 1:
            raise wrong_setting(settings, name, "0 to 1")
