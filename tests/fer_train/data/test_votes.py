"""Votes beside a data set: both forms, what is dropped, and what is refused."""

import gzip

import cv2
import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_train.data.load import load_dataset
from fer_train.data.synthetic import synthetic_faces
from fer_train.data.votes import FER2013_ROWS, VOTE_KINDS, emotion_votes, vote_targets
from tests.support.made_votes import COLUMNS, OFFICIAL, drawn_votes, write_drawn_votes, write_rows

SAD_4_FEAR_6 = (0, 0, 0, 4, 0, 0, 6, 0, 0, 0)
"""In the order of FER+'s columns."""


def put(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        level = sum(map(ord, name)) % 256
        path.write_bytes(cv2.imencode(".png", np.full((48, 48), level, np.uint8))[1].tobytes())
    return folder


def votes_of(dataset, name):
    (place,) = np.flatnonzero(dataset.names == name)
    return {kind: int(n) for kind, n in zip(VOTE_KINDS, dataset.votes[place], strict=True) if n}


def as_csv(path, count):
    images, labels = synthetic_faces(count)
    rows = [
        (label, " ".join(map(str, image.ravel())), "Training" if number < 3 else "PublicTest")
        for number, (image, label) in enumerate(zip(images, labels, strict=True))
    ]
    return write_rows(path, ("emotion", "pixels", "Usage"), rows)


def test_a_csv_by_file_is_matched_by_name_whatever_lies_around_it(tmp_path):
    put(tmp_path / "data" / "fer", "train/sad/1.png", "train/fear/1.png", "test/sad/2.png")
    votes = write_rows(
        tmp_path / "votes.csv",
        COLUMNS,
        [("train/fear/1.png", *SAD_4_FEAR_6), ("2.png", 1, 0, 0, 0, 0, 2, 0, 3, 1, 4)],
    )
    packed = tmp_path / "votes.csv.gz"
    packed.write_bytes(gzip.compress(votes.read_bytes()))
    for path in (votes, packed):
        dataset = load_dataset(tmp_path / "data", votes=path)
        assert votes_of(dataset, "fer/train/fear/1.png") == {"sad": 4, "fear": 6}
        assert votes_of(dataset, "fer/test/sad/2.png") == {
            "neutral": 1,
            "disgust": 2,
            "contempt": 3,
            "unknown": 1,
            "no face": 4,
        }
        assert votes_of(dataset, "fer/train/sad/1.png") == {}


def test_columns_go_by_any_name_of_an_emotion_in_any_order(tmp_path):
    put(tmp_path / "data", "sad/1.png")
    header = ("Fear", "file", "SAD", "disgusted", "angry", "Happy", "neutral", "surprise", "who")
    votes = write_rows(tmp_path / "v.csv", header, [(1, "sad/1.png", 2, 3, 4, 5, 6, 7, "us")])
    dataset = load_dataset(tmp_path / "data", votes=votes)
    assert dataset.votes.tolist() == [[4, 3, 1, 5, 2, 7, 6, 0, 0, 0]]
    assert emotion_votes(dataset.votes, ("sad", "sleepy")).tolist() == [[2, 0]]


def test_the_official_file_is_read_row_by_row_beside_the_csv(tmp_path):
    data = as_csv(tmp_path / "fer2013.csv", 5)
    rows = [
        ("Training" if n < 3 else "PublicTest", f"fer{n:07}.png", n, *[0] * 8, 10 - n)
        for n in range(5)
    ]
    votes = write_rows(tmp_path / "fer2013new.csv", OFFICIAL, rows)
    dataset = load_dataset(data, votes=votes)
    neutral, no_face = VOTE_KINDS.index("neutral"), VOTE_KINDS.index("no face")
    assert dataset.votes[:, neutral].tolist() == [0, 1, 2, 3, 4]
    assert dataset.votes[:, no_face].tolist() == [10, 9, 8, 7, 6]
    some = load_dataset(data, votes=votes, limit=3)
    kept = [int(name.split()[1]) - 1 for name in some.names]
    assert np.array_equal(some.votes, dataset.votes[kept])


@pytest.fixture(scope="module")
def official(tmp_path_factory):
    """All rows of FER-2013: the row's number is written in its votes."""
    rows = [
        (
            "Training" if n < 28709 else "PublicTest" if n < 32298 else "PrivateTest",
            "",
            *(1 + int(digit) for digit in f"{n:05}"),
            *[0] * 5,
        )
        for n in range(FER2013_ROWS)
    ]
    return write_rows(tmp_path_factory.mktemp("official") / "fer2013new.csv", OFFICIAL, rows)


def test_the_official_file_finds_the_images_of_the_archive_by_their_names(tmp_path, official):
    put(
        tmp_path,
        "train/angry/Training_10118481.png",
        "train/angry/Training_8475486.png",
        "train/surprise/Training_8475486.png",
        "train/neutral/Training_52789098.png",
        "test/surprise/PublicTest_99446963.png",
        "test/sad/PrivateTest_1.png",
    )
    dataset = load_dataset(tmp_path, votes=official)

    def row(name):
        (place,) = np.flatnonzero(dataset.names == name)
        own = dict(zip(VOTE_KINDS, dataset.votes[place], strict=True))
        digits = [own[kind] - 1 for kind in ("neutral", "happy", "surprise", "sad", "angry")]
        return int("".join(map(str, digits))) if min(digits) >= 0 else None

    assert row("train/angry/Training_10118481.png") == 11756
    # One number stands under two emotions.
    assert row("train/angry/Training_8475486.png") == 24067
    assert row("train/surprise/Training_8475486.png") == 27820
    assert row("test/surprise/PublicTest_99446963.png") == 30811
    assert row("train/neutral/Training_52789098.png") is None
    assert row("test/sad/PrivateTest_1.png") is None


def test_images_of_other_names_do_not_fit_the_official_file(tmp_path, official):
    put(tmp_path, "train/sad/1.png")
    with pytest.raises(DataError, match=r"images named as in FER-2013's archive.*train/sad/1\.png"):
        load_dataset(tmp_path, votes=official)


GOOD = ("train/sad/1.png", *SAD_4_FEAR_6)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (COLUMNS, [GOOD, ("train/sad/2.png", *[0] * 10)], "row 2: expected at least one vote"),
        (COLUMNS, [("train/sad/1.png", -1, *[1] * 9)], "row 1: neutral: expected a number of"),
        (COLUMNS, [("train/sad/1.png", "", *[1] * 9)], "row 1: neutral: expected a number of"),
        (COLUMNS, [("train/sad/1.png", 0.5, *[1] * 9)], "row 1: neutral: .* received '0.5'"),
        (COLUMNS, [GOOD, GOOD[:-1]], "row 2: expected the 11 fields of the header, received 10"),
        (COLUMNS, [("sad/3.png", *SAD_4_FEAR_6)], r"row 1: .*received 'sad/3\.png', which fits no"),
        (COLUMNS, [("happy/1.png", *SAD_4_FEAR_6)], "row 1: .*which fits no image"),
        (COLUMNS, [("1.png", *SAD_4_FEAR_6)], "row 1: .*which fits several images"),
        (COLUMNS, [("", *SAD_4_FEAR_6)], "row 1: .*which fits no image"),
        (COLUMNS, [GOOD, [], GOOD], "row 3: expected each image once"),
        (COLUMNS[:-5], [GOOD[:-5]], "none for disgust, fear among file, neutral"),
        ((*COLUMNS, "happy"), [(*GOOD, 1)], "expected one column of happy, received two"),
        (COLUMNS[1:], [GOOD[1:]], "expected the columns of fer2013new.csv, or a column file"),
        (OFFICIAL, [("", "", *SAD_4_FEAR_6)], "expected 35887 rows, one for each row of FER-2013"),
        ((), [], "received none for angry, .* among an empty file"),
    ],
)
def test_votes_that_are_not_for_the_images_are_named_by_row(tmp_path, header, rows, message):
    put(tmp_path / "data", "train/sad/1.png", "train/sad/2.png", "test/sad/1.png")
    votes = write_rows(tmp_path / "votes.csv", header, rows)
    with pytest.raises(DataError, match=rf"votes\.csv(, |: ).*{message}"):
        load_dataset(tmp_path / "data", votes=votes)


@pytest.mark.parametrize(
    ("header", "rows", "message"),
    [
        (OFFICIAL, 4, "expected 5 rows, one for each image of the csv, received 4"),
        (OFFICIAL, 6, "expected 5 rows, one for each image of the csv, received 6"),
        (OFFICIAL, 5, "row 4: expected the usage of its image, PublicTest, received 'Training'"),
        (COLUMNS, 5, "expected fer2013new.csv beside a csv of images"),
    ],
)
def test_votes_that_are_not_for_the_csv_are_refused(tmp_path, header, rows, message):
    data = as_csv(tmp_path / "fer2013.csv", 5)
    row = ("Training", "", *SAD_4_FEAR_6) if header == OFFICIAL else ("a", *SAD_4_FEAR_6)
    votes = write_rows(tmp_path / "votes.csv", header, [row] * rows)
    with pytest.raises(DataError, match=message):
        load_dataset(data, votes=votes)


def test_a_file_that_is_no_csv_is_refused(tmp_path):
    put(tmp_path / "data", "sad/1.png")
    (tmp_path / "votes.csv.gz").write_bytes(b"not packed")
    with pytest.raises(DataError, match=r"votes\.csv\.gz is not a readable csv"):
        load_dataset(tmp_path / "data", votes=tmp_path / "votes.csv.gz")
    with pytest.raises(DataError, match=r"none\.csv cannot be read"):
        load_dataset(tmp_path / "data", votes=tmp_path / "none.csv")


def test_a_limit_keeps_the_votes_of_the_images_that_are_kept(tmp_path):
    votes = drawn_votes(70)
    path = write_drawn_votes(tmp_path / "votes.csv", votes)
    dataset = load_dataset("synthetic:70", votes=path, limit=30)
    kept = [int(name.split()[1]) for name in dataset.names]
    assert np.array_equal(dataset.votes[:, :7], votes[kept])


def test_targets_drop_single_votes_and_images_that_people_saw_nothing_in():
    rows = {
        "clear": ({"sad": 4, "fear": 5, "happy": 1}, {"sad": 4 / 9, "fear": 5 / 9}),
        "few": ({"sad": 3, "fear": 1, "happy": 1}, None),
        "enough": ({"sad": 4, "contempt": 4}, {"sad": 1.0}),
        "mostly something else": ({"sad": 4, "contempt": 3, "unknown": 2}, None),
        "singles elsewhere": (
            {"sad": 5, "contempt": 1, "unknown": 1, "no face": 1},
            {"sad": 1.0},
        ),
        "no face": ({"no face": 10}, None),
        "unknown": ({}, None),
    }
    votes = np.array([[own.get(kind, 0) for kind in VOTE_KINDS] for own, _ in rows.values()])
    targets = vote_targets(votes, EMOTIONS)
    assert targets.trains.tolist() == [wanted is not None for _, wanted in rows.values()]
    for shares, (_, wanted) in zip(targets.shares, rows.values(), strict=True):
        expected = [(wanted or {}).get(label, 0) for label in EMOTIONS]
        assert shares.tolist() == pytest.approx(expected)
    assert list(targets.reasons.values()) == [1, 2, 1]
    # What is no emotion of the run is something else.
    without = vote_targets(votes[:1], tuple(label for label in EMOTIONS if label != "fear"))
    assert not without.trains[0]
