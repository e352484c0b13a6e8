"""How large the images of a data set are in memory, and in which colours."""

from dataclasses import dataclass
from typing import Literal

from fer_edge.contract import IMAGE_SIZE, ModelSpec

ImageColor = Literal["gray", "rgb"]
COLORS: tuple[ImageColor, ...] = ("gray", "rgb")
LEAST_SIZE, LARGEST_SIZE = 16, 1024
"""Sides that images may have, pixels."""


@dataclass(frozen=True)
class Form:
    """What pictures are made as they are read; what nobody has said is checked, never made.

    Attributes:
        size: Side of the square images, pixels, to which pictures are scaled. None is FER-2013's
            48, and other pictures are refused.
        color: ``gray`` or ``rgb``, which pictures are made. None is grey, and pictures in colour
            are refused.
    """

    size: int | None = None
    color: ImageColor | None = None

    @property
    def side(self) -> int:
        """Side of the images, pixels."""
        return IMAGE_SIZE if self.size is None else self.size

    @property
    def channels(self) -> int:
        """Numbers a pixel: 1 or 3."""
        return 3 if self.color == "rgb" else 1

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Height, width and channels of what a model sees."""
        return self.side, self.side, self.channels

    @property
    def image_shape(self) -> tuple[int, ...]:
        """Shape of an image in memory: grey ones have no axis of channels."""
        return self.input_shape if self.channels == 3 else self.input_shape[:2]

    @property
    def spec(self) -> ModelSpec:
        """The same for the runtime, which makes images so too."""
        return ModelSpec(input_size=(self.side, self.side), color=self.color or "gray")


FER2013 = Form()
"""The form of FER-2013's images, which nobody need say."""
