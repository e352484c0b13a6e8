import cv2
import numpy as np
import pytest

from fer_edge.errors import RunError
from fer_edge.inference.search import Found
from fer_train.detection.mining import (
    Decoy,
    face_logits,
    find_decoys,
    read_decoys,
    write_decoys,
)
from fer_train.detection.pictures import Picture
from tests.support.faces import png

pytestmark = pytest.mark.tensorflow

RED, GREEN = (0, 0, 255), (0, 255, 0)


def finds(colour, score):
    """Return a search that takes every patch of a colour for a face."""

    def find(frame):
        near = np.abs(frame.astype(int) - colour).max(axis=2) < 60
        _, _, stats, _ = cv2.connectedComponentsWithStats(near.astype(np.uint8))
        boxes = [(x, y, x + w, y + h) for x, y, w, h, area in stats[1:] if area > 20]
        boxes = np.array(boxes, np.float32).reshape(-1, 4)
        scores = np.full(len(boxes), score, np.float32)
        return Found(boxes, scores, np.zeros((len(boxes), 5, 2), np.float32))

    return find


def picture(name, *patches, empty=True):
    frame = np.full((120, 160, 3), 90, np.uint8)
    for (x, y, w, h), colour in patches:
        frame[y : y + h, x : x + w] = colour
    return Picture(name, png(frame), np.zeros((0, 15), np.float32), empty)


def test_what_looks_like_a_face_in_pictures_without_one_becomes_a_decoy():
    pictures = [
        picture("a", ((20, 30, 24, 30), RED), ((100, 60, 30, 30), GREEN)),
        picture("b", ((20, 30, 24, 30), RED), empty=False),
        picture("c"),
    ]
    ((decoy, logit),) = find_decoys(pictures, [finds(RED, 0.6)])
    assert decoy.name == "a"
    np.testing.assert_allclose(decoy.box, (20, 30, 44, 60), atol=1.5)
    assert logit == pytest.approx(np.log(0.6 / 0.4), abs=1e-3)
    assert decoy.weight == pytest.approx(1.5, abs=0.01)


def test_all_judges_say_how_much_a_place_looks_like_a_face():
    frame = picture("a", ((20, 30, 24, 30), RED)).pixels()
    logits = face_logits(frame, (20, 30, 44, 60), [finds(RED, 0.9), finds(GREEN, 0.9)])
    np.testing.assert_allclose(logits, [np.log(9), np.log(0.02 / 0.98)], atol=1e-3)
    assert np.isnan(face_logits(frame, (20, 30, 22, 32), [finds(RED, 0.9)])).all()
    # The mean of both is too low for a decoy.
    assert (
        find_decoys([picture("a", ((20, 30, 24, 30), RED))], [finds(RED, 0.3), finds(GREEN, 0.3)])
        == []
    )


def test_decoys_are_written_and_read_again(tmp_path):
    decoys = [Decoy("a,b.png", (1.5, 2, 3, 4), 0.25)]
    write_decoys(tmp_path / "decoys.csv", decoys)
    assert read_decoys(tmp_path / "decoys.csv") == decoys
    (tmp_path / "decoys.csv").write_text("file,x1\na.png,1\n")
    with pytest.raises(RunError, match=r"table of decoys at .*decoys\.csv"):
        read_decoys(tmp_path / "decoys.csv")
