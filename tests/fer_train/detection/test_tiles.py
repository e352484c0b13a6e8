import dataclasses

import cv2
import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.detection.pictures import FACE, IGNORED, Picture
from fer_train.detection.settings import TileSettings
from fer_train.detection.tiles import (
    CERTAINTY,
    MOST_FACES,
    ROW,
    Decoy,
    PictureTable,
    TileMaker,
    _compress_blocks,
)

pytestmark = pytest.mark.tensorflow

# BGR, by point: eyes, nose, corners of the mouth; left and right in the picture.
COLOURS = ((255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (0, 255, 255))
POINTS = ((44, 40), (76, 40), (60, 60), (48, 80), (72, 80))


def drawn_face():
    frame = np.full((120, 160, 3), 60, np.uint8)
    for point, colour in zip(POINTS, COLOURS, strict=True):
        cv2.circle(frame, point, 6, colour, -1)
    box = [30, 20, 90, 100]
    row = [*box, *np.array(POINTS, np.float32).reshape(-1), FACE]
    encoded = cv2.imencode(".png", frame)[1].tobytes()
    return Picture("face.png", encoded, np.array([row], np.float32), empty=False)


def grey_picture(name="grey.png", level=200):
    encoded = cv2.imencode(".png", np.full((90, 70, 3), level, np.uint8))[1].tobytes()
    return Picture(name, encoded, np.zeros((0, 15), np.float32), empty=True)


@pytest.fixture(scope="module")
def table():
    return PictureTable([drawn_face(), grey_picture()])


def views(table, count=24, size=160, **settings):
    maker = TileMaker(table, TileSettings(size=size, **settings), count, seed=3)
    return (np.asarray(array) for array in maker._views(count, size))


def test_points_lie_where_they_are_drawn_however_the_picture_is_turned(table):
    tiles, rows = views(table, empty=0, smallest=60, largest=0.6)
    seen = 0
    for tile, row in zip(tiles, rows[:, 0], strict=True):
        assert row[-1] in (FACE, IGNORED)
        colours = [
            tile[int(y), int(x)] if 3 < x < 157 and 3 < y < 157 else None
            for x, y in row[4:14].reshape(5, 2)
        ]
        for place, mirror in enumerate((1, 0, 2, 4, 3)):
            if colours[place] is not None:
                away = [np.abs(colours[place] - COLOURS[other]).max() for other in (place, mirror)]
                assert min(away) < 40
                seen += 1
        # Left stays left, unless the head lies on its side.
        (left, left_y), (right, right_y) = row[4:8].reshape(2, 2)
        if abs(right_y - left_y) < abs(right - left) * 0.5:
            assert left < right
    assert seen > 60


def test_boxes_hold_the_points_and_have_the_size_asked_for(table):
    _, rows = views(table, empty=0, zoomed=1, smallest=50, largest=0.5, turned=0)
    for row in rows[:, 0]:
        x, y = row[4:14].reshape(5, 2).T
        assert row[0] < x.min()
        assert row[2] > x.max()
        assert row[1] < y.min()
        assert row[3] > y.max()
        assert 49 < row[3] - row[1] < 81


def test_a_face_cut_off_or_tiny_is_ignored(table):
    _, rows = views(table, empty=0, zoomed=1, smallest=4, largest=0.04, turned=0)
    assert set(rows[:, 0, -1].tolist()) == {IGNORED}


def test_pictures_without_a_face_give_rows_without_one(table):
    tiles, rows = views(table, empty=1, decoys=0)
    assert not rows[..., -1].any()
    assert (tiles == 200).mean() > 0.3


def test_decoys_are_shown_as_faces_are():
    frame = np.full((200, 200, 3), 10, np.uint8)
    frame[20:60, 100:150] = 250
    other = Picture(
        "decoy.png", cv2.imencode(".png", frame)[1].tobytes(), np.zeros((0, 15), np.float32), True
    )
    decoy = Decoy("decoy.png", (100, 20, 150, 60), 1.0)
    table = PictureTable([drawn_face(), other], [decoy])
    tiles, rows = views(table, empty=1, decoys=1, smallest=80, largest=0.6)
    assert not rows[..., -1].any()
    white = (tiles > 240).all(-1).mean((1, 2))
    assert (white > 0.05).all()


def test_a_batch_has_its_shape_and_range(table):
    maker = TileMaker(table, TileSettings(size=64), 16, seed=1)
    tiles, rows = (np.asarray(array) for array in maker(np.zeros((16, 1), np.float32)))
    assert tiles.shape == (16, 64, 64, 3)
    assert rows.shape == (16, MOST_FACES, ROW)
    assert tiles.min() >= 0
    assert tiles.max() <= 255
    assert (rows[..., -1] == FACE).any()
    again, _ = maker(np.zeros((16, 1), np.float32))
    assert np.abs(np.asarray(again) - tiles).max() > 10


def test_larger_pictures_are_shrunk_with_their_faces_and_decoys():
    decoy = Decoy("grey.png", (10, 10, 50, 70), 1.0)
    table = PictureTable([drawn_face(), grey_picture()], [decoy], longest=80)
    assert np.asarray(table.widths)[:, 0].tolist() == [80, 62]
    np.testing.assert_allclose(np.asarray(table.faces.boxes)[0], [15, 10, 45, 50])
    np.testing.assert_allclose(np.asarray(table.rows)[0, 0, 4:6], [22, 20])
    np.testing.assert_allclose(
        np.asarray(table.decoys.boxes)[0], np.array([10, 10, 50, 70]) * 8 / 9
    )


def test_how_sure_a_label_is_comes_with_its_face():
    face = dataclasses.replace(drawn_face(), certainty=np.array([0.85], np.float32))
    _, rows = views(PictureTable([face, grey_picture()]), empty=0)
    assert np.unique(rows[:, 0, CERTAINTY]).tolist() == [np.float32(0.85)]


def test_one_kind_of_picture_alone_is_refused():
    with pytest.raises(DataError, match="received none with a face"):
        PictureTable([grey_picture()])


def test_compression_keeps_an_even_picture_and_rounds_a_busy_one():
    even = np.full((1, 16, 16, 3), 136, np.float32)
    kept = np.asarray(_compress_blocks(even, np.ones(1, np.float32)))
    np.testing.assert_allclose(kept, even, atol=1e-3)
    busy = np.random.default_rng(0).uniform(0, 255, (1, 16, 16, 3)).astype(np.float32)
    spoilt = np.asarray(_compress_blocks(busy, np.full(1, 3, np.float32)))
    assert 10 < np.abs(spoilt - busy).mean() < 90
    finest = np.asarray(_compress_blocks(busy, np.full(1, 0.01, np.float32)))
    np.testing.assert_allclose(finest, busy, atol=4)
