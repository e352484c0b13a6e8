import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fer_edge.errors import DataError
from fer_train.data.layouts import LAYOUTS, load_layout

# What the layouts must read without decoding: the content does not matter.
PICTURE = cv2.imencode(".png", np.zeros((2, 2), np.uint8))[1].tobytes()


def fill(folder, names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(PICTURE)
    return folder


def found(unseen, folder):
    return {str(p.path.relative_to(folder)): p.emotion for p in unseen.pictures}


def test_folders_with_emotions_leave_out_what_lies_elsewhere(tmp_path):
    fill(tmp_path, ["Happy/1.png", "x/anger/2.jpg", "contempt/3.png", "contempt/4.png", "5.png"])
    (tmp_path / "Happy/notes.txt").write_text("x")
    unseen = load_layout(tmp_path, "folders")
    assert found(unseen, tmp_path) == {"Happy/1.png": "happy", "x/anger/2.jpg": "angry"}
    assert unseen.skipped == {
        "folder '' is no emotion that is known": 1,
        "folder 'contempt' is no emotion that is known": 2,
    }


def test_folders_without_emotions_are_unlabelled(tmp_path):
    fill(tmp_path, ["b.png", "a/1.png"])
    unseen = load_layout(tmp_path, "folders")
    assert found(unseen, tmp_path) == {"a/1.png": None, "b.png": None}
    assert [p.path.name for p in unseen.pictures] == ["1.png", "b.png"]
    assert unseen.skipped == {}


def test_jaffe(tmp_path):
    names = {
        "KA.AN1.39.tiff": "angry",
        "KA.DI1.42.tiff": "disgust",
        "KM.FE10.11.tiff": "fear",
        "MK.HA3.118.tiff": "happy",
        "NA.NE2.200.png": "neutral",
        "TM.SA1.184.jpg": "sad",
        "yM.su2.26.tiff": "surprise",
    }
    fill(tmp_path, names)
    fill(tmp_path, ["cover.png", "KA.XX1.39.tiff"])
    unseen = load_layout(tmp_path, "jaffe")
    assert found(unseen, tmp_path) == names
    assert unseen.skipped == {"not a name of JAFFE": 2}


def test_ckplus_leaves_contempt_out_and_says_so(tmp_path):
    folders = {
        "anger": "angry",
        "disgust": "disgust",
        "fear": "fear",
        "happy": "happy",
        "sadness": "sad",
        "surprise": "surprise",
    }
    fill(tmp_path, [f"CK+48/{folder}/S010_1.png" for folder in folders])
    fill(tmp_path, [f"CK+48/contempt/{index}.png" for index in range(3)])
    fill(tmp_path, ["CK+48/other/1.png"])
    unseen = load_layout(tmp_path, "ckplus")
    assert found(unseen, tmp_path) == {
        f"CK+48/{folder}/S010_1.png": emotion for folder, emotion in folders.items()
    }
    assert unseen.skipped == {
        "contempt is none of the seven emotions": 3,
        "folder 'other' is not one of CK+'s": 1,
    }


@given(
    st.sampled_from("AB"),
    st.sampled_from("FM"),
    st.integers(1, 35),
    st.sampled_from(
        [
            ("AF", "fear"),
            ("AN", "angry"),
            ("DI", "disgust"),
            ("HA", "happy"),
            ("NE", "neutral"),
            ("SA", "sad"),
            ("SU", "surprise"),
        ]
    ),
)
def test_kdef_names(tmp_path_factory, session, sex, number, code):
    name = f"{session}{sex}{number:02}/{session}{sex}{number:02}{code[0]}S.JPG"
    folder = fill(tmp_path_factory.mktemp("kdef"), [name])
    assert found(load_layout(folder, "kdef"), folder) == {name: code[1]}


def test_kdef_keeps_straight_faces_and_counts_the_others(tmp_path):
    angles = ["S", "HL", "HR", "FL", "FR"]
    fill(tmp_path, [*(f"AF01/AF01AN{angle}.JPG" for angle in angles), "AM31/AM31H.JPG"])
    unseen = load_layout(tmp_path, "kdef")
    assert found(unseen, tmp_path) == {"AF01/AF01ANS.JPG": "angry"}
    assert unseen.skipped == {"full profile": 2, "half profile": 2, "not a name of KDEF": 1}


CODES = ["surprise", "fear", "disgust", "happy", "sad", "angry", "neutral"]


def test_rafdb_reads_its_list_and_prefers_aligned_pictures(tmp_path):
    lines = [f"train_{code:05}.jpg {code}" for code in range(1, 8)] + ["test_0001.jpg 4", ""]
    fill(tmp_path, [f"Image/aligned/train_{code:05}_aligned.jpg" for code in range(1, 8)])
    fill(tmp_path, ["Image/original/train_00001.jpg", "Image/original/test_0001.jpg", "x.jpg"])
    (tmp_path / "EmoLabel").mkdir()
    (tmp_path / "EmoLabel/list_patition_label.txt").write_text("\n".join(lines))
    unseen = load_layout(tmp_path, "rafdb")
    assert found(unseen, tmp_path) == {
        **{f"Image/aligned/train_{k:05}_aligned.jpg": CODES[k - 1] for k in range(1, 8)},
        "Image/original/test_0001.jpg": "happy",
    }
    assert unseen.skipped == {
        "not in the label list": 1,
        "original beside its aligned picture": 1,
    }


@pytest.mark.parametrize("line", ["a.jpg 8", "a.jpg 0", "a.jpg 12", "a.jpg", "a.jpg x", "a b 3"])
def test_rafdb_names_a_broken_line(tmp_path, line):
    fill(tmp_path, ["a.jpg"])
    (tmp_path / "list_patition_label.txt").write_text(f"b.jpg 1\n{line}\n")
    with pytest.raises(DataError, match="line 2: expected a file name and a code from 1 to 7"):
        load_layout(tmp_path, "rafdb")


def test_rafdb_asks_for_one_readable_list(tmp_path):
    fill(tmp_path, ["a.jpg"])
    with pytest.raises(DataError, match=r"expected one label list .* found 0"):
        load_layout(tmp_path, "rafdb")
    (tmp_path / "list_patition_label.txt").write_bytes(b"\xff\xfe\xff")
    with pytest.raises(DataError, match="cannot be read"):
        load_layout(tmp_path, "rafdb")


@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "rafdb"])
def test_a_folder_of_nothing_says_what_was_expected(tmp_path, layout):
    with pytest.raises(DataError, match=rf"expected pictures such as .* \({layout}\), found none"):
        load_layout(tmp_path, layout)


def test_the_wrong_layout_says_why_all_was_left_out(tmp_path):
    fill(tmp_path, ["happy/1.png", "sad/1.png"])
    with pytest.raises(DataError, match=r"KA\.AN1\.39\.tiff .* \(2 x not a name of JAFFE\)"):
        load_layout(tmp_path, "jaffe")


def test_missing_folder_and_unknown_layout(tmp_path):
    with pytest.raises(DataError, match="is not a folder; expected an unpacked data set"):
        load_layout(tmp_path / "none", "jaffe")
    with pytest.raises(ValueError, match="Expected a layout of folders, jaffe, ckplus"):
        load_layout(tmp_path, "affectnet")
