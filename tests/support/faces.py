"""Drawn faces in pictures, to train a face detector on for a moment."""

import cv2
import numpy as np

# Shares of a face's box: eyes, nose, corners of the mouth.
_POINTS = ((0.3, 0.38), (0.7, 0.38), (0.5, 0.58), (0.35, 0.78), (0.65, 0.78))


def draw_face(frame, box):
    """Draw a face into BGR pixels; return its five points, x and y in turn."""
    x, y, w, h = box
    middle, half = (round(x + w / 2), round(y + h / 2)), (round(w / 2), round(h / 2))
    cv2.ellipse(frame, middle, half, 0, 0, 360, (150, 180, 220), -1)
    points = [(x + w * across, y + h * down) for across, down in _POINTS]
    for across, down in points[:2]:
        cv2.circle(frame, (round(across), round(down)), max(1, w // 12), (20, 20, 20), -1)
    left, right = (tuple(map(round, point)) for point in points[3:])
    cv2.line(frame, left, right, (40, 40, 160), max(1, w // 14))
    return [coordinate for point in points for coordinate in point]


def ground(seed, height=90, width=120):
    """Return a picture without a face: a coloured ground with some shapes."""
    rng = np.random.default_rng(seed)
    frame = np.full((height, width, 3), rng.integers(40, 120, 3), np.uint8)
    for _ in range(4):
        corner = rng.integers(0, (width, height))
        size = rng.integers(5, 30, 2)
        colour = tuple(int(level) for level in rng.integers(0, 255, 3))
        cv2.rectangle(frame, corner.tolist(), (corner + size).tolist(), colour, -1)
    return frame


def png(frame):
    return cv2.imencode(".png", frame)[1].tobytes()


def write_faces(folder, faces=6, empty=3):
    """Write pictures with one face each and others without, and their ``boxes.csv``."""
    (folder / "images").mkdir(parents=True)
    rows = ["file,x,y,w,h," + ",".join(f"l{n}{axis}" for n in range(1, 6) for axis in "xy")]
    for number in range(faces + empty):
        frame = ground(number)
        if number < faces:
            box = (20 + 6 * number, 15 + 2 * number, 40, 50)
            points = draw_face(frame, box)
            rows.append(",".join(map(str, (f"{number}.png", *box, *points))))
        (folder / "images" / f"{number}.png").write_bytes(png(frame))
    (folder / "boxes.csv").write_text("\n".join(rows) + "\n", "utf-8")
    return folder
