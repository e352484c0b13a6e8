import zipfile

import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.detection.pictures import FACE, IGNORED, read_pictures
from tests.support.faces import ground, png

pytestmark = pytest.mark.tensorflow


@pytest.fixture
def write(tmp_path):
    """Write pictures of 120 x 90 pixels and texts below a folder."""

    def write(pictures=(), texts=None, to=tmp_path / "faces"):
        for name in pictures:
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_bytes(png(ground(1)))
        for name, text in (texts or {}).items():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            (to / name).write_text(text, "utf-8")
        return to

    return write


def test_our_table_is_found_below_a_folder_of_a_zip(write, tmp_path):
    folder = write(["set/images/a.png", "set/images/b.png"])
    path = tmp_path / "set.zip"
    with zipfile.ZipFile(path, "w") as archive:
        for name in ("a.png", "b.png"):
            archive.write(folder / "set/images" / name, f"set/images/{name}")
        archive.writestr("__MACOSX/set/images/._a.png", "no picture")
        archive.writestr("set/boxes.csv", "file,x,y,w,h\na.png,10,20,30,40\n")
    first, second = read_pictures([path])
    assert first.faces[0, :4].tolist() == [10, 20, 40, 60]
    assert np.isnan(first.faces[0, 4:14]).all()
    assert (first.name, second.name, second.empty) == ("a.png", "b.png", True)


def test_a_teachers_score_is_how_sure_a_face_is(write):
    rows = "a.png,10,20,30,40,0,teacher,0.85\na.png,50,20,30,40,1,human,0.4\n"
    folder = write(["a.png"], {"boxes.csv": f"file,x,y,w,h,ignore,by,score\n{rows}"})
    (picture,) = read_pictures([folder])
    assert picture.certainties.tolist() == [np.float32(0.85), 1]
    assert picture.faces[:, -1].tolist() == [FACE, IGNORED]


WIDER = """0--Parade/a.png
2
10 20 30 40 0 0 0 0 0 0
50 20 12 14 2 0 0 1 0 0
0--Parade/b.png
0
0 0 0 0 0 0 0 0 0 0
1--Handshaking/c.png
2
1 2 30 40 0 0 0 0 0 0
5 5 0 0 0 0 0 0 0 0
"""


def test_wider_faces_form_is_told_and_invalid_boxes_are_ignored(write):
    names = ["0--Parade/a.png", "0--Parade/b.png", "1--Handshaking/c.png", "2--Other/d.png"]
    folder = write(
        [f"WIDER_train/images/{name}" for name in names],
        {
            "wider_face_split/wider_face_train_bbx_gt.txt": WIDER,
            # Of a part whose pictures are not here.
            "wider_face_split/wider_face_val_bbx_gt.txt": "0--Parade/v.png\n1\n1 1 9 9 0 0 0 0 0 0",
        },
    )
    a, b, c, d = read_pictures([folder])
    assert a.faces[:, :4].tolist() == [[10, 20, 40, 60], [50, 20, 62, 34]]
    assert a.faces[:, -1].tolist() == [FACE, IGNORED]
    assert (b.empty, len(b.faces)) == (True, 0)
    assert c.faces[:, :4].tolist() == [[1, 2, 31, 42]]
    # Nobody has said anything of it.
    assert not d.labelled


def test_yolos_form_is_told_with_points_and_without(write):
    known = " ".join(f"{x} {y} 2" for x, y in ((0.4, 0.4), (0.6, 0.4), (0.5, 0.5), (0.4, 0.6)))
    folder = write(
        [f"images/train/{name}.png" for name in "abcd"],
        {
            "labels/train/a.txt": "0 0.5 0.5 0.5 0.4\n",
            "labels/train/b.txt": f"1 0.5 0.5 0.5 0.4 {known} 0.6 0.6 2\n"
            "0 0.5 0.5 0.5 0.4" + " 0 0 0" * 5,
            "labels/train/c.txt": "",
        },
    )
    a, b, c, d = read_pictures([folder])
    np.testing.assert_allclose(a.faces[0, :4], [30, 27, 90, 63], atol=1e-4)
    np.testing.assert_allclose(b.faces[0, 4:8], [48, 36, 72, 36], atol=1e-4)
    assert np.isnan(b.faces[1, 4:14]).all()
    assert c.empty
    assert not d.labelled


def csv_of(row):
    return {"boxes.csv": f"file,x,y,w,h\n{row}\n"}


@pytest.mark.parametrize(
    ("texts", "message"),
    [
        (csv_of("a.png,1,2,x,4"), r"numbers as x, y, w, h in line 2 of boxes\.csv"),
        (csv_of("a.png,nan,2,3,4"), r"numbers .* in line 2 of boxes\.csv"),
        (csv_of("a.png,1,2,3"), r"5 values in line 2 of boxes\.csv"),
        (csv_of("a.png,1,2,-3,4"), r"above 0 of a face in a\.png, received -3 x 4 in line 2"),
        (csv_of("a.png,1,2,0,4"), r"above 0 of a face in a\.png"),
        (csv_of("b.png,1,2,3,4"), r"picture 'b\.png' as line 2 of boxes\.csv .* says, found none"),
        (csv_of("a.png,119,2,30,4"), r"middle of a face inside of a\.png, 120 x 90 .* in line 2"),
        (csv_of("a.png,-30,2,30,4"), r"middle of a face inside of a\.png"),
        ({"boxes.csv": "file,x,y\na.png,1,2\n"}, r"columns file, x, y, w, h in boxes\.csv"),
        ({"boxes.csv": "", "images.csv": ""}, r"columns file, x, y, w, h"),
        ({"labels.txt": "a.png\n1\n1 2 3\n"}, r"x, y, w, h and six marks in line 3 of labels\.txt"),
        ({"labels.txt": "a.png\n2\n1 2 3 4\n"}, r"2 faces after line 2 .* received 1"),
        ({"labels.txt": "a.png\n1\n1 2 3 -4\n"}, r"received 3 x -4 in line 3 of labels\.txt"),
        ({"a.txt": "0 0.5 0.5 0.5\n"}, r"five points or none in line 1 of a\.txt"),
        ({"a.txt": "0 50 50 20 20\n"}, r"shares of the size of a\.png, 0 to 1"),
        ({"a.txt": "0 0.5 0.5 0.1 0.1\n", "labels/z.txt": ""}, r"picture for labels/z\.txt"),
        ({}, r"boxes of faces in .*, received none; give a boxes\.csv"),
    ],
)
def test_what_is_wrong_is_named_by_file_and_row(write, texts, message):
    with pytest.raises(DataError, match=message):
        read_pictures([write(["a.png"], texts)])


def test_several_wrong_boxes_are_named_at_once(write):
    rows = "\n".join(f"a.png,{left},2,30,4" for left in (200, 300, 10))
    with pytest.raises(DataError, match=r"received 200, .*; .*received 300, "):
        read_pictures([write(["a.png"], {"boxes.csv": f"file,x,y,w,h\n{rows}\n"})])
