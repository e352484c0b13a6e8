"""FER-2013 as its challenge hands it out: a csv inside of an archive."""

import io
import tarfile

import numpy as np
import pytest

from fer_edge.errors import DataError
from fer_train.data.load import load_dataset
from fer_train.data.synthetic import synthetic_faces
from tests.support.archives import write_zip

NAME = "fer2013/fer2013.csv"


@pytest.fixture(scope="module")
def text():
    images, labels = synthetic_faces(14)
    rows = [
        f"{label},Training,{' '.join(map(str, image.ravel()))}"
        for image, label in zip(images, labels, strict=True)
    ]
    # As icml_face_data.csv heads its columns.
    return "\n".join(["emotion, Usage, pixels", *rows]).encode()


def write_tar(path, files):
    with tarfile.open(path, "w:gz" if path.name.endswith("gz") else "w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.mark.parametrize(
    "name", ["fer2013.tar.gz", "FER2013.TGZ", "fer2013.tar", "fer2013.csv.zip"]
)
def test_the_csv_inside_is_read_as_by_itself(tmp_path, text, name):
    (tmp_path / "plain.csv").write_bytes(text)
    write = write_zip if name.endswith("zip") else write_tar
    files = {"fer2013/README": b"x", NAME: text, "fer2013/._fer2013.csv": b"x"}
    packed = load_dataset(write(tmp_path / name, files))
    plain = load_dataset(tmp_path / "plain.csv")
    assert packed.digest == plain.digest
    assert packed.names[2] == "row 3"
    assert packed.name.lower() == "fer2013"
    assert len(load_dataset(tmp_path / name, limit=7)) == 7


def test_of_several_the_one_with_usages_is_read(tmp_path, text):
    train = text.replace(b"Usage", b"other")
    files = {
        "train.csv": train,
        "icml_face_data.csv": text,
        "example_submission.csv": b"id,emotion",
    }
    dataset = load_dataset(write_zip(tmp_path / "challenge.zip", files))
    assert set(dataset.usage) == {"Training"}
    del files["icml_face_data.csv"]
    assert len(load_dataset(write_zip(tmp_path / "train.zip", files))) == 14


@pytest.mark.parametrize(
    ("files", "message"),
    [
        ({"a.csv": "twice", "b/c.csv": "twice"}, "one csv of images, received a.csv, b/c.csv"),
        ({"a.csv": b"id,emotion"}, "columns emotion, pixels and perhaps Usage, received a.csv"),
        ({"a.csv": b"emotion,pixels\n9,1 2"}, "row 1: expected an emotion from 0 to 6"),
    ],
)
@pytest.mark.parametrize("write", [write_tar, write_zip])
def test_what_cannot_be_chosen_is_named(tmp_path, text, files, message, write):
    files = {name: text if content == "twice" else content for name, content in files.items()}
    path = write(tmp_path / ("a.tar.gz" if write is write_tar else "a.zip"), files)
    with pytest.raises(DataError) as refused:
        load_dataset(path)
    assert message in refused.value.message


def test_an_archive_without_a_csv_and_damaged_ones(tmp_path, text):
    with pytest.raises(DataError, match="received no csv"):
        load_dataset(write_tar(tmp_path / "none.tar", {"a.txt": b"x"}))
    whole = write_tar(tmp_path / "a.tar.gz", {NAME: text}).read_bytes()
    for damaged in (b"", b"x" * 99, whole[: len(whole) // 2], whole[:60] + bytes(40) + whole[100:]):
        path = tmp_path / "damaged.tar.gz"
        path.write_bytes(damaged)
        with pytest.raises(DataError, match=r"damaged\.tar\.gz"):
            load_dataset(path)
    path = write_zip(tmp_path / "damaged.zip", {"a.csv": text})
    content = bytearray(path.read_bytes())
    content[200:240] = bytes(40)
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"damaged\.zip"):
        load_dataset(path)


def test_a_line_without_end_is_refused_early(tmp_path):
    endless = b"emotion,pixels\n0," + b"0 " * 500_000
    for write, name in ((write_tar, "a.tar.gz"), (write_zip, "a.zip")):
        with pytest.raises(DataError, match="has a line of"):
            load_dataset(write(tmp_path / name, {"a.csv": endless}))


def test_pictures_beside_a_csv_are_still_pictures(tmp_path, text):
    import cv2

    picture = cv2.imencode(".png", np.zeros((48, 48), np.uint8))[1].tobytes()
    path = write_zip(tmp_path / "a.zip", {"labels.csv": text, "happy/1.png": picture})
    assert list(load_dataset(path).names) == ["happy/1.png"]
