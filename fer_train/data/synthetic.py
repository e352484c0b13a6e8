"""Drawn faces whose action units follow the emotion: data without a licence for tests and demo.

A face is an identity (shape, colours, distances), an expression (intensities of action units) and
a view (turn, shift, light, noise), all drawn at random from a generator that is seeded for each
image by itself, so that the first images of a larger set are those of a smaller one. A set can
also be of few people, or of the frames of few clips (`synthetic_clips`), as many real ones are. The
units of each emotion are those of P. Ekman and W. V. Friesen's Facial Action Coding System (1978;
EMFACS).

These faces are a cartoon: a model that tells them apart knows nothing yet about people.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fer_edge._base._cv2 import cv2
from fer_edge.contract import EMOTIONS
from fer_edge.image.read import Frame
from fer_edge.inference.preprocess import resize
from fer_train.data.form import FER2013, Form
from fer_train.data.pixels import make_image

DEFAULT_COUNT = 2100

ACTION_UNITS: Mapping[str, tuple[int, ...]] = {
    "angry": (4, 5, 7, 23),
    "disgust": (9, 15, 17),
    "fear": (1, 2, 4, 5, 7, 20, 26),
    "happy": (6, 12),
    "sad": (1, 4, 15),
    "surprise": (1, 2, 5, 26),
    "neutral": (),
}
"""Action units of each emotion. 1 and 2 raise the inner and outer brow, 4 lowers it; 5 raises the
upper lid, 6 raises the cheek, 7 tightens the lids; 9 wrinkles the nose; 12 pulls the lip corners
up, 15 down, 17 raises the chin, 20 stretches and 23 tightens the lips, 26 drops the jaw (and with
it parts the lips, unit 25)."""

Points = NDArray[np.float64]
Colour = tuple[float, float, float]

_SUPERSAMPLING = 4
# Darkest and lightest skin, BGR; real tones lie near the line between them.
_SKIN = np.array([(35, 55, 85), (175, 205, 240)], np.float64)
_HAIR = np.array([(15, 15, 18), (30, 50, 85), (90, 150, 190), (165, 165, 165)], np.float64)
_IRIS = np.array([(20, 35, 60), (40, 80, 110), (140, 110, 60)], np.float64)


def synthetic_faces(
    count: int, seed: int = 0, form: Form = FER2013
) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """Draw a balanced set of faces.

    Args:
        count: How many; a smaller count gives the first images of a larger one.
        seed: Another seed gives other people.
        form: How large they are drawn, and in which colours.

    Returns:
        Images (count, S, S) uint8 grey or (count, S, S, 3) RGB, S 48 if nothing else is said, and
        labels (count,) int64, indices into `EMOTIONS`.
    """
    labels = np.arange(count, dtype=np.int64) % len(EMOTIONS)
    images = np.empty((count, *form.image_shape), np.uint8)
    for index, label in enumerate(labels):
        face = _Face(EMOTIONS[label], np.random.default_rng((seed, index)))
        images[index] = make_image(face.draw(form.side), form)
    return images, labels


def synthetic_clips(
    count: int,
    seed: int = 0,
    form: Form = FER2013,
    *,
    people: int | None = None,
    clips: int | None = None,
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.str_]]:
    """Draw a balanced set of few people, or of the frames of few clips.

    A clip is one person with one emotion in one light, who moves a little from frame to frame.

    Args:
        count: How many images; a smaller count gives the first of a larger one.
        seed: Another seed gives other people.
        form: As for `synthetic_faces`.
        people: How many people there are; None is one for each clip.
        clips: How many clips there are; None makes each image a picture by itself.

    Returns:
        As `synthetic_faces`, and names (count,) such as ``person-003_clip-012_frame-0004``.
    """
    takes = np.arange(count) % (clips or count)
    labels = takes % len(EMOTIONS)
    # Each person shows all emotions before the next one does.
    persons = takes // len(EMOTIONS) % people if people else takes
    images = np.empty((count, *form.image_shape), np.uint8)
    names = []
    for index, (take, label, person) in enumerate(
        zip(takes.tolist(), labels.tolist(), persons.tolist(), strict=True)
    ):
        face = _Face(
            EMOTIONS[label],
            np.random.default_rng((seed, person, 0)),
            np.random.default_rng((seed, take, 1)),
            np.random.default_rng((seed, index, 2)) if clips else None,
        )
        images[index] = make_image(face.draw(form.side), form)
        shown = f"clip-{take:03}_frame-{index // clips:04}" if clips else f"picture-{index:04}"
        names.append(f"person-{person:03}_{shown}")
    return images, labels.astype(np.int64), np.asarray(names)


def synthetic_usage(count: int) -> NDArray[np.str_]:
    """Return (count,) usages: of ten images eight Training, one PublicTest, one PrivateTest.

    Ten and the seven emotions share no divisor, so each emotion is spread in the same proportions.
    """
    pattern = ["Training"] * 8
    pattern.insert(4, "PublicTest")
    pattern.append("PrivateTest")
    return np.resize(np.asarray(pattern), count)


def draw_face(emotion: str, size: int = 240, seed: int = 0) -> Frame:
    """Draw one face in colour, as large as wished.

    Args:
        emotion: One of `EMOTIONS`.
        size: Side of the picture, pixels.
        seed: Chooses the person, the view and the strength of the expression.

    Returns:
        (size, size, 3) uint8 BGR.

    Raises:
        ValueError: The emotion is unknown.
    """
    if emotion not in ACTION_UNITS:
        raise ValueError(f"Expected an emotion of {', '.join(EMOTIONS)}, received {emotion!r}")
    return _Face(emotion, np.random.default_rng(seed)).draw(size)


class _Face:
    """One person with one expression; the unit of length is half the height of the face.

    The origin lies between the eyes and the tip of the nose, x to the right and y down; the chin
    is near y = 1.

    Args:
        emotion: What is shown.
        rng: Draws the person and, by itself, all else.
        take: Draws expression, view and light in its place.
        frame: Draws how this frame differs from others of its take.
    """

    def __init__(
        self,
        emotion: str,
        rng: np.random.Generator,
        take: np.random.Generator | None = None,
        frame: np.random.Generator | None = None,
    ) -> None:
        person, rng = rng, take or rng
        self._rng, self._noise = rng, frame or rng
        strength = rng.uniform(0.65, 1.0)
        # A neutral face is never quite still, and nobody shows the units of an emotion alone.
        # Every unit draws both numbers, so that a seed is the same person in each emotion.
        self._units = {
            unit: strength * shown if unit in ACTION_UNITS[emotion] else idle
            for unit, shown, idle in zip(
                range(1, 27), rng.uniform(0.75, 1.15, 26), rng.uniform(0, 0.1, 26), strict=True
            )
        }

        rng = person
        self.width = rng.uniform(0.70, 0.82)
        self.eye_x = rng.uniform(0.29, 0.35)
        self.eye_y = rng.uniform(-0.20, -0.12)
        self.eye_width = rng.uniform(0.13, 0.165)
        self.eye_height = rng.uniform(0.055, 0.075)
        self.brow_y = self.eye_y - rng.uniform(0.19, 0.24)
        self.brow_weight = rng.uniform(0.045, 0.085)
        self.nose_y = rng.uniform(0.20, 0.27)
        self.nose_width = rng.uniform(0.10, 0.15)
        self.mouth_y = rng.uniform(0.50, 0.57)
        self.mouth_width = rng.uniform(0.24, 0.30)
        self.lip = rng.uniform(0.045, 0.075)

        tone = rng.uniform(0.1, 1.0)
        self.skin = _SKIN[0] + (_SKIN[1] - _SKIN[0]) * tone
        self.shade = self.skin * rng.uniform(0.50, 0.62)
        self.hair = _HAIR[rng.integers(len(_HAIR))] * rng.uniform(0.8, 1.1)
        self.iris = _IRIS[rng.integers(len(_IRIS))]
        self.lips = self.skin * (0.62, 0.58, 0.80)
        self.hair_height = rng.uniform(0.16, 0.34)
        self.long_hair = rng.random() < 0.45
        self.bald = not self.long_hair and rng.random() < 0.12

        rng = self._rng
        self._turn = rng.normal(0, 5)
        self._zoom = rng.uniform(0.92, 1.12)
        self._shift = rng.normal(0, 0.04, 2)
        self._yaw = rng.normal(0, 0.035)
        # What stands behind the person: colours, mostly grey, places and sizes.
        self._behind = rng.uniform(20, 230, (5, 3)) * 0.3 + rng.uniform(20, 230, (5, 1)) * 0.7
        self._places = rng.uniform(-1.3, 1.3, (5, 2))
        self._sizes = rng.uniform(0.3, 1.0, (5, 2))
        if frame is not None:
            self._turn += frame.normal(0, 2)
            self._zoom *= frame.uniform(0.97, 1.03)
            self._shift += frame.normal(0, 0.02, 2)
            self._yaw += frame.normal(0, 0.015)
            eased = frame.uniform(0.7, 1.0)
            self._units = {unit: eased * strength for unit, strength in self._units.items()}

    def draw(self, size: int) -> Frame:
        """Return the face as (size, size, 3) uint8 BGR."""
        side = size * _SUPERSAMPLING
        self._canvas = np.empty((side, side, 3), np.uint8)
        self._canvas[:] = self._behind[0]
        self._scale = side * 0.42 * self._zoom
        angle = np.deg2rad(self._turn)
        self._rotation = np.array([[np.cos(angle), np.sin(angle)], [-np.sin(angle), np.cos(angle)]])
        self._origin = side * (np.array([0.5, 0.53]) + self._shift * 0.5)

        for colour, place, radii in zip(self._behind, self._places, self._sizes, strict=True):
            self._fill(_ellipse(place, radii), colour)
        self._draw_head()
        for side_sign in (-1, 1):
            self._draw_eye(side_sign)
            self._draw_brow(side_sign)
        self._draw_nose()
        self._draw_mouth()
        blur = _SUPERSAMPLING * self._rng.uniform(0.15, 0.6)
        blurred = np.asarray(cv2.GaussianBlur(self._canvas, (0, 0), blur), np.uint8)
        return self._lit(resize(blurred, (size, size)))

    # --- parts ----------------------------------------------------------------------------------

    def _draw_head(self) -> None:
        jaw = 0.13 * self._units[26]
        if self.long_hair:
            self._fill(
                _ellipse((0, 0.15), (self.width + 0.22, 1.15 + self.hair_height / 2)), self.hair
            )
        elif not self.bald:
            self._fill(
                _ellipse((0, -0.25), (self.width + 0.07, 0.78 + self.hair_height)), self.hair
            )
        neck = np.array([(-0.38, 0.6), (0.38, 0.6), (0.45, 1.8), (-0.45, 1.8)])
        self._fill(neck, self.shade * 1.25)
        for sign in (-1, 1):
            self._fill(_ellipse((sign * self.width, 0.02), (0.09, 0.18)), self.skin * 0.85)
        # The upper half of the head is an ellipse, the lower one ends in a longer, narrower jaw.
        angle = np.linspace(0, 2 * np.pi, 72)
        head = np.stack([self.width * np.cos(angle), np.sin(angle)], 1)
        below = head[:, 1] > 0
        head[below, 1] *= 1 + jaw
        head[below, 0] *= 1 - 0.10 * head[below, 1] ** 2
        self._fill(head, self.skin)
        if not self.bald:
            front = head[head[:, 1] < -0.62 - 0.3 * (0.34 - self.hair_height)]
            front = front[np.argsort(front[:, 0])]
            line = _curve(front[-1], (0.05, -0.76), front[0])
            self._fill(np.concatenate([front, line]), self.hair)

    def _draw_eye(self, sign: int) -> None:
        units = self._units
        centre = np.array([sign * self.eye_x, self.eye_y])
        upper = self.eye_height * (1 + 0.95 * units[5] - 0.35 * units[7] - 0.25 * units[9])
        lower = self.eye_height * (0.8 - 0.75 * units[6] - 0.45 * units[7] - 0.35 * units[9])
        half = self.eye_width
        inner, outer = centre + _xy(-sign * half, 0.012), centre + _xy(sign * half, -0.008)
        top = _curve(inner, centre - _xy(0, upper), outer)
        bottom = _curve(outer, centre + _xy(0, lower), inner)
        opening = np.concatenate([top, bottom])

        mask = np.zeros(self._canvas.shape[:2], np.uint8)
        cv2.fillPoly(mask, [self._pixels(opening)], 255)
        eye = self._canvas.copy()
        self._fill(opening, (225, 228, 230), eye)
        pupil = centre + _xy(self._yaw, -0.005)
        self._fill(_ellipse(pupil, (0.068, 0.068)), self.iris, eye)
        self._fill(_ellipse(pupil, (0.034, 0.034)), (10, 10, 10), eye)
        self._fill(_ellipse(pupil + _xy(-0.02, -0.025), (0.014, 0.014)), (250, 250, 250), eye)
        self._canvas[mask > 0] = eye[mask > 0]

        self._line(top, self.shade * 0.45, 0.030)
        self._line(bottom, self.shade * 0.8, 0.016)
        crease = _curve(inner - _xy(0, 0.03), centre - _xy(0, upper + 0.05), outer - _xy(0, 0.03))
        self._line(crease, self.shade, 0.014)
        if units[6] > 0.3:
            # A raised cheek bags under the eye and folds the skin beside it.
            bag = _curve(inner + _xy(0, 0.07), centre + _xy(0, 0.12), outer + _xy(0, 0.05))
            self._line(bag, self.shade, 0.022 * units[6])
            for tilt in (-0.05, 0.01, 0.06):
                fold = np.array(
                    [outer + _xy(sign * 0.05, tilt / 2), outer + _xy(sign * 0.12, tilt)]
                )
                self._line(fold, self.shade, 0.016 * units[6])

    def _draw_brow(self, sign: int) -> None:
        units = self._units
        inner = np.array([sign * (self.eye_x - self.eye_width * 1.05), self.brow_y + 0.015])
        outer = np.array([sign * (self.eye_x + self.eye_width * 1.15), self.brow_y + 0.035])
        middle = np.array([sign * (self.eye_x + 0.03), self.brow_y - 0.035])
        raised = 0.14 * units[1]
        # The raised inner brow of fear and sadness wins over the muscle that draws it down.
        lowered = 0.12 * units[4] * (1 - 0.6 * units[1])
        inner += (-sign * 0.055 * units[4], lowered + 0.07 * units[9] - raised)
        middle[1] += 0.75 * lowered + 0.05 * units[9] - 0.35 * raised - 0.10 * units[2]
        outer[1] += 0.15 * lowered - 0.13 * units[2]
        self._line(_curve(inner, middle, outer), self.hair * 0.7, self.brow_weight)
        if units[4] > 0.3:
            frown = np.array([(0.05, self.brow_y - 0.01), (0.045, self.brow_y + 0.13)]) * (sign, 1)
            self._line(frown, self.shade, 0.020 * units[4])
        if min(units[1], units[2]) > 0.3:
            # Brows raised over their whole length fold the forehead.
            for height in (0.20, 0.29):
                fold = np.array(
                    [(0, self.brow_y - height), (sign * 0.40, self.brow_y - height + 0.02)]
                )
                self._line(fold, self.shade * 1.2, 0.014)

    def _draw_nose(self) -> None:
        lifted = 0.05 * self._units[9]
        tip = np.array([self._yaw, self.nose_y - lifted])
        for sign in (-1, 1):
            wing = tip + _xy(sign * self.nose_width * (1 + 0.15 * self._units[9]), 0)
            self._line(
                _curve(
                    wing - _xy(sign * 0.02, 0.08),
                    wing + _xy(sign * 0.02, -0.01),
                    wing + _xy(-sign * 0.05, 0.035),
                ),
                self.shade,
                0.024,
            )
            self._fill(_ellipse(tip + _xy(sign * 0.05, 0.015), (0.030, 0.016)), self.shade * 0.5)
            if self._units[9] > 0.3:
                # The nose wrinkler folds the bridge and digs the line from nostril to mouth.
                for step in (0.0, 0.065, 0.13):
                    start = np.array([sign * 0.015, self.eye_y + 0.02 + step])
                    self._line(
                        np.array([start, start + _xy(sign * 0.10, -0.055)]), self.shade, 0.022
                    )
            if max(self._units[9], self._units[12]) > 0.3:
                end = np.array([sign * (self.mouth_width + 0.10), self.mouth_y - 0.07])
                start = tip + _xy(sign * (self.nose_width + 0.045), -0.03)
                self._line(
                    _curve(start, (start + end) / 2 + _xy(sign * 0.035, -0.02), end),
                    self.shade,
                    0.022,
                )
        bridge = _curve((0.06, self.eye_y), (0.05 + self._yaw, 0.02), tip + _xy(0.04, -0.06))
        self._line(bridge, self.skin * 0.85, 0.022)

    def _draw_mouth(self) -> None:
        units = self._units
        half = self.mouth_width * (
            1
            + 0.28 * units[12]
            + 0.30 * units[20]
            - 0.25 * units[23]
            - 0.18 * units[26]
            - 0.05 * units[17]
        )
        # A stretched mouth cannot fall as far open as a slack one.
        drop = 0.30 * units[26] * (1 - 0.45 * units[20])
        corner_y = self.mouth_y - 0.15 * units[12] + 0.11 * units[15] + 0.03 * units[20] + drop / 3
        centre_y = (
            self.mouth_y
            + 0.035 * units[12]
            - 0.035 * units[15]
            - 0.05 * units[17]
            - 0.04 * units[9]
        )
        thickness = self.lip * (1 - 0.65 * units[23] - 0.2 * units[20])
        left = np.array([-half + self._yaw, corner_y])
        right = np.array([half + self._yaw, corner_y])

        def across(y: float) -> Points:
            return _curve(left, (self._yaw, y), right)

        upper, lower = across(centre_y), across(centre_y + drop)
        pout = 0.035 * units[17]
        top = across(centre_y - thickness)
        bottom = across(centre_y + drop + 1.25 * thickness + pout)
        if drop > 0.03:
            self._fill(np.concatenate([upper, lower[::-1]]), (25, 20, 35))
            teeth = across(centre_y + min(0.07, drop * 0.45))
            self._fill(np.concatenate([upper, teeth[::-1]]), (215, 222, 225))
        self._fill(np.concatenate([top, upper[::-1]]), self.lips * 0.92)
        self._fill(np.concatenate([lower, bottom[::-1]]), self.lips)
        self._line(upper, self.lips * 0.45, 0.022)
        if drop > 0.03:
            self._line(lower, self.lips * 0.55, 0.016)
        if units[17] > 0.3:
            chin = self.mouth_y + 0.22
            self._line(
                _curve((-0.13, chin + 0.03), (0, chin - 0.04), (0.13, chin + 0.03)),
                self.shade,
                0.026,
            )
        if units[15] > 0.3:
            for corner, sign in ((left, -1), (right, 1)):
                fold = np.array([corner + _xy(sign * 0.03, 0.01), corner + _xy(sign * 0.05, 0.10)])
                self._line(fold, self.shade, 0.020 * units[15])

    # --- drawing --------------------------------------------------------------------------------

    def _pixels(self, points: Points) -> NDArray[np.int32]:
        turned: Points = points * self._scale @ self._rotation + self._origin
        return np.asarray(np.rint(turned), np.int32)

    def _fill(self, points: Points, colour: Any, canvas: Frame | None = None) -> None:
        target = self._canvas if canvas is None else canvas
        cv2.fillPoly(target, [self._pixels(points)], _bgr(colour), cv2.LINE_AA)

    def _line(self, points: Points, colour: Any, width: float) -> None:
        thickness = max(1, round(width * self._scale))
        cv2.polylines(
            self._canvas, [self._pixels(points)], False, _bgr(colour), thickness, cv2.LINE_AA
        )

    def _lit(self, picture: Frame) -> Frame:
        """Light a picture from one side and add the noise of a camera."""
        rng, size = self._rng, len(picture)
        direction = rng.uniform(0, 2 * np.pi)
        ramp = np.linspace(-1, 1, size)
        light = np.cos(direction) * ramp[None] + np.sin(direction) * ramp[:, None]
        gain = rng.uniform(0.75, 1.2) * (1 + rng.uniform(0, 0.35) * light)
        noise = self._noise.normal(0, rng.uniform(1, 7), (size, size))
        return np.asarray(np.clip(picture * gain[..., None] + noise[..., None], 0, 255), np.uint8)


def _bgr(colour: Any) -> Colour:
    blue, green, red = (float(min(255.0, level)) for level in colour)
    return blue, green, red


def _xy(x: float, y: float) -> Points:
    return np.array([x, y], np.float64)


def _curve(start: Any, middle: Any, end: Any) -> Points:
    """Return 17 points of the parabola from ``start`` through ``middle`` to ``end``."""
    ends = np.array([start, end], np.float64)
    control = 2 * np.asarray(middle, np.float64) - ends.mean(0)
    t = np.linspace(0, 1, 17)[:, None]
    points: Points = (1 - t) ** 2 * ends[0] + 2 * t * (1 - t) * control + t**2 * ends[1]
    return points


def _ellipse(centre: Any, radii: Any) -> Points:
    angle = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    points: Points = np.asarray(centre) + np.stack([np.cos(angle), np.sin(angle)], 1) * radii
    return points
