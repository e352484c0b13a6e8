import zipfile

import cv2
import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.detection.pictures import FACE, IGNORED, Picture, read_pictures

pytestmark = pytest.mark.tensorflow

HEADER = "file,x,y,w,h," + ",".join(f"l{n}{axis}" for n in range(1, 6) for axis in "xy") + ",ignore"
POINTS = ",".join(str(number) for number in range(10))


def archive(path, names, boxes=None, images=None):
    with zipfile.ZipFile(path, "w") as zipped:
        for name in names:
            frame = np.full((20, 30, 3), 77, np.uint8)
            zipped.writestr(f"images/{name}", cv2.imencode(".png", frame)[1].tobytes())
        if boxes is not None:
            zipped.writestr("boxes.csv", "\n".join([HEADER, *boxes]))
        if images is not None:
            zipped.writestr("images.csv", "\n".join(images))
    return path


def test_faces_points_and_ignored_regions_are_read(tmp_path):
    path = archive(
        tmp_path / "a.zip",
        ["a.png", "b.png"],
        [f"a.png,1,2,10,12,{POINTS},0", "a.png,5,5,4,4,,,,,,,,,,,1"],
    )
    first, second = read_pictures([path])
    assert first.faces[0].tolist() == [1, 2, 11, 14, *range(10), FACE]
    assert first.faces[1, :4].tolist() == [5, 5, 9, 9]
    assert np.isnan(first.faces[1, 4:14]).all()
    assert first.faces[1, -1] == IGNORED
    assert not first.empty
    assert second.empty
    assert first.pixels().shape == (20, 30, 3)


def test_a_picture_without_a_row_holds_no_face_only_where_the_table_says_so(tmp_path):
    path = archive(
        tmp_path / "a.zip",
        ["a.png", "b.png", "c.png"],
        ["a.png,1,2,10,12,,,,,,,,,,,0"],
        ["file,negative,weight", "a.png,0,0.25", "b.png,1,", "c.png,0,"],
    )
    pictures = read_pictures([path])
    assert [picture.empty for picture in pictures] == [False, True, False]
    assert [picture.weight for picture in pictures] == [0.25, 1, 1]


def test_several_sources_have_their_own_tables_and_a_limit_spreads_over_them(tmp_path):
    row = "1,2,10,12,,,,,,,,,,,0"
    one = archive(tmp_path / "1.zip", ["a.png", "b.png"], [f"a.png,{row}"])
    two = archive(tmp_path / "2.zip", ["a.png", "d.png"], [f"d.png,{row}"])
    pictures = read_pictures([one, two])
    assert [picture.name for picture in pictures] == ["1/a.png", "1/b.png", "2/a.png", "2/d.png"]
    assert [len(picture.faces) for picture in pictures] == [1, 0, 0, 1]
    assert [picture.name for picture in read_pictures([one, two], 2)] == ["1/a.png", "2/a.png"]
    with pytest.raises(DataError, match="data of different names"):
        read_pictures([one, one])


def test_of_what_a_table_is_silent_a_teacher_may_speak(tmp_path):
    path = archive(tmp_path / "a.zip", ["a.png", "b.png"], ["a.png,1,2,10,12,,,,,,,,,,,0"])
    assert [picture.empty for picture in read_pictures([path])] == [False, True]
    silent = read_pictures([path], silent_is_empty=False)
    assert [picture.labelled for picture in silent] == [True, False]


def test_what_cannot_be_read_is_named(tmp_path):
    broken = tmp_path / "broken.zip"
    broken.write_bytes(b"no zip")
    with pytest.raises(
        DataError, match=r"Expected a folder or zip of pictures, received .*broken\.zip"
    ):
        read_pictures([broken])
    with pytest.raises(DataError, match=r"Expected boxes of faces in .*none\.zip, received none"):
        read_pictures([archive(tmp_path / "none.zip", ["a.png"])])
    with pytest.raises(DataError, match=r"in line 2 of boxes\.csv in .*bad\.zip"):
        read_pictures([archive(tmp_path / "bad.zip", ["a.png"], ["a.png,x,2,3,4,,,,,,,,,,,0"])])
    with pytest.raises(DataError, match=r"received c\.png, which cannot be decoded"):
        Picture("c.png", b"no picture", np.zeros((0, 15), np.float32), empty=True).pixels()
