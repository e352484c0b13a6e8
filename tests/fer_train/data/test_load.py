import csv
import gzip
import json
import pickle
import stat
import struct
import warnings
import zipfile
from pathlib import Path

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from fer_edge.contract import EMOTIONS
from fer_edge.errors import DataError
from fer_edge.inference.preprocess import to_gray
from fer_train.data.emotions import SYNONYMS, emotion_of
from fer_train.data.load import (
    MAX_PICTURE_BYTES,
    USAGES,
    Dataset,
    load_dataset,
    sample,
    summary,
)
from tests.support.archives import write_zip


def face(seed, shape=(48, 48)):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


def encode(image, suffix=".png"):
    return cv2.imencode(suffix, image)[1].tobytes()


def put(folder, name, content=None):
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(encode(face(len(name))) if content is None else content)
    return path


def write_csv(path, rows, header=("emotion", "pixels", "Usage")):
    with path.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def pixels(image):
    return " ".join(map(str, image.ravel().tolist()))


def refusal(source, **settings):
    with pytest.raises(DataError) as refused:
        load_dataset(source, **settings)
    return str(refused.value)


# --- the three forms ------------------------------------------------------------------------------


def as_folders(folder, dataset):
    splits = {"Training": "train", "PublicTest": "test", "PrivateTest": "test"}
    for index, (image, label, usage) in enumerate(
        zip(dataset.images, dataset.labels, dataset.usage, strict=True)
    ):
        name = f"{splits[usage]}/{EMOTIONS[label]}/{usage}_{index:04}.png"
        put(folder, name, encode(image))
    return folder


def as_csv(path, dataset):
    rows = zip(dataset.labels, map(pixels, dataset.images), dataset.usage, strict=True)
    return write_csv(path, rows)


def content(dataset):
    """What the three forms share, in an order of its own."""
    return sorted(
        (usage, int(label), image.tobytes())
        for image, label, usage in zip(dataset.images, dataset.labels, dataset.usage, strict=True)
    )


@settings(max_examples=15, deadline=None)
@given(
    images=arrays.arrays(np.uint8, st.tuples(st.integers(1, 5), st.just(48), st.just(48))),
    data=st.data(),
)
def test_csv_folders_and_zip_of_the_same_images_are_the_same_data(tmp_path_factory, images, data):
    count = len(images)
    labels = data.draw(st.lists(st.integers(0, 6), min_size=count, max_size=count))
    usage = data.draw(st.lists(st.sampled_from(USAGES), min_size=count, max_size=count))
    made = Dataset(images, np.array(labels), np.array(usage), np.array([""] * count))
    tmp_path = tmp_path_factory.mktemp("forms")
    folder = as_folders(tmp_path / "fer", made)
    files = {f.relative_to(tmp_path).as_posix(): f.read_bytes() for f in folder.rglob("*.png")}

    from_csv = load_dataset(as_csv(tmp_path / "fer.csv", made))
    from_folder = load_dataset(folder)
    from_zip = load_dataset(write_zip(tmp_path / "fer.zip", files))

    assert from_csv.digest == made.digest
    assert content(from_folder) == content(from_zip) == content(made)
    assert from_folder.digest == from_zip.digest


def test_folder_names_are_mapped_by_name_not_sorted_into_codes(tmp_path):
    for emotion in EMOTIONS:
        put(tmp_path, f"train/{emotion}/{emotion}.png")
    dataset = load_dataset(tmp_path)
    assert {
        Path(n).stem: EMOTIONS[k] for n, k in zip(dataset.names, dataset.labels, strict=True)
    } == {emotion: emotion for emotion in EMOTIONS}
    assert list(dataset.names) == sorted(dataset.names)


@given(st.sampled_from([*EMOTIONS, *SYNONYMS]), st.sampled_from([str.upper, str.title, str.lower]))
def test_emotion_names_ignore_case_and_know_synonyms(name, change):
    assert emotion_of(change(name)) == SYNONYMS.get(name, name)


@pytest.mark.parametrize("name", ["contempt", "", "happy faces", "0", "train"])
def test_other_names_are_no_emotion(name):
    assert emotion_of(name) is None


@pytest.mark.parametrize(
    ("names", "usages"),
    [
        (["sad/1.png"], [""]),
        (["train/sad/1.png"], ["Training"]),
        (["test/sad/1.png"], ["PublicTest"]),
        (
            ["test/sad/PrivateTest_1.png", "test/sad/PublicTest_2.png"],
            ["PrivateTest", "PublicTest"],
        ),
        (["test/sad/1.png", "validation/sad/1.png"], ["PrivateTest", "PublicTest"]),
        (["TESTING/Sadness/1.png", "val/sad/1.png"], ["PrivateTest", "PublicTest"]),
        (["fer2013/train/sad/1.png"], ["Training"]),
    ],
)
def test_usage_comes_from_the_file_name_and_else_from_the_folder(tmp_path, names, usages):
    for name in names:
        put(tmp_path, name)
    assert list(load_dataset(tmp_path).usage) == usages


def test_jpegs_read_as_the_runtime_reads_them(tmp_path):
    jpeg = encode(cv2.GaussianBlur(face(1), (0, 0), 2), ".jpg")
    put(tmp_path, "happy/1.jpg", jpeg)
    put(tmp_path, "sad/1.png", encode(np.repeat(face(2)[..., None], 3, 2)))
    dataset = load_dataset(tmp_path)
    colour = cv2.imdecode(np.frombuffer(jpeg, np.uint8), cv2.IMREAD_COLOR)
    assert np.array_equal(dataset.images[0], to_gray(colour))
    assert np.array_equal(dataset.images[1], face(2))


def test_clutter_of_file_managers_is_passed_over(tmp_path):
    put(tmp_path, "happy/1.png")
    for name in ("happy/.DS_Store", "happy/Thumbs.db", "__MACOSX/happy/._1.png", "README.txt"):
        put(tmp_path, name, b"x")
    assert list(load_dataset(tmp_path).names) == ["happy/1.png"]


def test_csv_may_lack_usage_be_packed_and_name_columns_as_the_challenge_did(tmp_path):
    path = write_csv(tmp_path / "fer.csv", [(3, pixels(face(1)))], ("emotion", "pixels"))
    assert list(load_dataset(path).usage) == [""]
    challenge = write_csv(
        tmp_path / "icml.csv", [(3, "Training", pixels(face(1)))], ("emotion", " Usage", " pixels")
    )
    packed = tmp_path / "icml.csv.gz"
    packed.write_bytes(gzip.compress(challenge.read_bytes()))
    dataset = load_dataset(packed)
    assert (dataset.name, list(dataset.usage), list(dataset.labels)) == ("icml", ["Training"], [3])
    assert np.array_equal(dataset.images[0], face(1))


def test_csv_with_byte_order_mark_blank_lines_and_doubled_spaces(tmp_path):
    text = pixels(face(1)).replace(" ", "  ", 3)
    (tmp_path / "a.csv").write_text(f"\ufeffemotion,pixels\r\n\r\n0, {text} \r\n", newline="")
    dataset = load_dataset(tmp_path / "a.csv")
    assert np.array_equal(dataset.images[0], face(1))
    assert list(dataset.names) == ["row 2"]


# --- bad data -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda p: p[:-1], "row 2: expected 2304 pixels, received 2303"),
        (lambda p: [*p, "1"], "row 2: expected 2304 pixels, received 2305"),
        (lambda p: [], "row 2: expected 2304 pixels, received 0"),
        (lambda p: ["1" * 5, *p[1:]], "received '11111' as pixel 1"),
        (lambda p: [*p[:-1], "256"], "received '256' as pixel 2304"),
        (lambda p: ["-1", *p[1:]], "received '-1' as pixel 1"),
        (lambda p: ["1.5", *p[1:]], "received '1.5' as pixel 1"),
        (lambda p: ["x", *p[1:]], "row 2: expected pixels that are whole numbers from 0 to 255"),
        (lambda p: ["٣", *p[1:]], "as pixel 1"),
        (lambda p: ["9" * 30, *p[1:]], "as pixel 1"),
        (lambda p: ["9" * 200_000, *p[1:]], "has a line of"),
    ],
)
def test_broken_pixels_are_named_by_row(tmp_path, change, message):
    good = pixels(face(1))
    broken = " ".join(change(good.split()))
    path = write_csv(tmp_path / "fer.csv", [(0, good, "Training"), (1, broken, "Training")])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        told = refusal(path)
    assert message in told
    assert "fer.csv" in told
    assert len(told) < 400


@pytest.mark.parametrize("label", ["7", "-1", "joy", "", "3.0"])
def test_unknown_label_is_named_by_row(tmp_path, label):
    path = write_csv(tmp_path / "fer.csv", [(label, pixels(face(1)), "Training")])
    assert "row 1: expected an emotion from 0 to 6, received" in refusal(path)


def test_unknown_usage_and_missing_fields_are_named_by_row(tmp_path):
    path = write_csv(tmp_path / "fer.csv", [(0, pixels(face(1)), "Validation")])
    assert "row 1: expected Usage Training, PublicTest, PrivateTest" in refusal(path)
    assert "row 1: expected the fields of the header, received 1" in refusal(
        write_csv(tmp_path / "fer.csv", [(0,)])
    )


@pytest.mark.parametrize("header", [("label", "pixels"), ("emotion", "image"), ()])
def test_wrong_columns_are_named(tmp_path, header):
    path = write_csv(tmp_path / "fer.csv", [(0, pixels(face(1)))], header)
    told = refusal(path)
    assert "expected the columns emotion, pixels and perhaps Usage, received" in told
    assert all(name in told for name in header)


def test_empty_and_unreadable_csv(tmp_path):
    path = tmp_path / "fer.csv"
    path.write_bytes(b"")
    assert "received an empty file" in refusal(path)
    path.write_bytes(b"emotion,pixels\n")
    assert "has no rows" in refusal(path)
    path.write_bytes(b"emotion,pixels\n\xff\xfe\x00\n")
    assert "not a readable csv" in refusal(path)


def test_damaged_gzip(tmp_path):
    whole = gzip.compress(b"emotion,pixels\n0," + pixels(face(1)).encode())
    for damaged in (whole[:-9], b"emotion,pixels\n", whole[:40] + b"\0" * 9 + whole[49:]):
        path = tmp_path / "fer.csv.gz"
        path.write_bytes(damaged)
        assert "fer.csv.gz is not a readable csv" in refusal(path)


def test_gzip_bomb_of_one_line_is_refused_early(tmp_path):
    path = tmp_path / "fer.csv.gz"
    with gzip.open(path, "wb") as file:
        file.write(b"emotion,pixels\n0,")
        for _ in range(64):
            file.write(b"0 " * 500_000)
    assert "has a line of" in refusal(path)


def test_unknown_folder_is_named_with_what_was_expected(tmp_path):
    put(tmp_path, "train/happy/1.png")
    put(tmp_path, "train/contempt/1.png")
    told = refusal(tmp_path)
    assert "train/contempt/1.png lies in folder 'contempt'" in told
    assert "angry, disgust" in told


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("happy/notes.txt", b"x", "happy/notes.txt is not a picture"),
        ("happy/1.jpg", b"x" * 99, "happy/1.jpg: "),
        ("happy/1.jpg", b"", "happy/1.jpg: "),
        ("happy/1.png", encode(face(1))[:300], "happy/1.png: "),
        ("happy/1.png", encode(face(1, (48, 64))), "expected 48 x 48 pixels, received 64 x 48"),
        ("happy/1.png", encode(face(1, (48, 48, 3))), "expected a grey picture"),
        ("happy/1.png", b"x" * (MAX_PICTURE_BYTES + 1), "expected a 48 x 48 picture of at most"),
        ("1.png", encode(face(1)), "1.png lies in no folder"),
    ],
)
def test_bad_files_are_named(tmp_path, name, content, message):
    put(tmp_path, "sad/1.png")
    put(tmp_path, name, content)
    told = refusal(tmp_path)
    assert message in told
    assert name in told
    write_zip(tmp_path / "a.zip", {"sad/1.png": encode(face(2)), name: content})
    assert name in refusal(tmp_path / "a.zip")


def test_picture_that_declares_more_pixels_than_memory_is_refused(tmp_path):
    bomb = bytearray(encode(face(1), ".jpg"))
    start = bomb.find(b"\xff\xc0")
    bomb[start + 5 : start + 9] = struct.pack(">HH", 60000, 60000)
    put(tmp_path, "happy/1.jpg", bytes(bomb))
    assert "happy/1.jpg" in refusal(tmp_path)


def test_folder_without_pictures(tmp_path):
    assert "holds no pictures; expected folders named angry" in refusal(tmp_path)


@pytest.mark.parametrize(
    "name",
    [
        "../happy/1.png",
        "/happy/1.png",
        "a/../../happy/1.png",
        "C:\\happy\\1.png",
        "..\\happy\\1.png",
    ],
)
def test_zip_entry_outside_of_the_archive_is_refused(tmp_path, name):
    info = zipfile.ZipInfo("x")
    info.filename = name
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(info, encode(face(1)))
    told = refusal(path)
    assert "points outside of the archive" in told
    assert repr(name) in told
    assert [file.name for file in tmp_path.iterdir()] == ["a.zip"]


def test_zip_bomb_by_declared_size_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"happy/1.png": bytes(50_000_000)})
    assert path.stat().st_size < 100_000
    assert "entry 'happy/1.png' unpacks to 50000000 bytes" in refusal(path)


def test_zip_bomb_that_lies_about_its_size_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"happy/1.png": bytes(50_000_000)})
    small, large = struct.pack("<I", 3000), struct.pack("<I", 50_000_000)
    path.write_bytes(path.read_bytes().replace(large, small))
    assert "entry 'happy/1.png' cannot be unpacked" in refusal(path)


def test_encrypted_zip_is_refused(tmp_path):
    path = write_zip(tmp_path / "a.zip", {"happy/1.png": encode(face(1))})
    packed = bytearray(path.read_bytes())
    packed[6] |= 1
    packed[packed.rindex(b"PK\x01\x02") + 8] |= 1
    path.write_bytes(packed)
    assert "entry 'happy/1.png' is encrypted" in refusal(path)


def test_zip_links_and_double_names_are_refused(tmp_path):
    link = zipfile.ZipInfo("happy/1.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr(link, "/etc/hostname")
    assert "'happy/1.png' is a link" in refusal(tmp_path / "a.zip")
    with zipfile.ZipFile(tmp_path / "b.zip", "w") as archive, pytest.warns(UserWarning):
        archive.writestr("happy/1.png", encode(face(1)))
        archive.writestr("happy/1.png", encode(face(2)))
    assert "'happy/1.png' is there twice" in refusal(tmp_path / "b.zip")


def test_damaged_zip(tmp_path):
    path = tmp_path / "a.zip"
    whole = write_zip(path, {"happy/1.png": encode(face(1))}).read_bytes()
    for damaged in (b"", b"not a zip", whole[:-30]):
        path.write_bytes(damaged)
        assert "is not a whole zip archive" in refusal(path)
    start = whole.index(b"1.png") + 60
    path.write_bytes(whole[:start] + bytes(40) + whole[start + 40 :])
    assert "entry 'happy/1.png' cannot be unpacked" in refusal(path)


def test_missing_and_unknown_sources(tmp_path):
    assert "does not exist; expected a .csv, a folder, a .zip or 'synthetic'" in refusal(
        tmp_path / "fer.csv"
    )
    (tmp_path / "fer.npz").write_bytes(b"x")
    assert "Expected a .csv, .csv.gz, .tar.gz, .zip or folder, received" in refusal(
        tmp_path / "fer.npz"
    )


@pytest.mark.parametrize(
    "source", ["synthetic:", "synthetic:0", "synthetic:x", "synthetic:-1", "synthetic:999999999"]
)
def test_synthetic_asks_for_a_count(source):
    assert "Expected synthetic:COUNT" in refusal(source)


def test_limit_below_one_is_a_mistake_of_the_caller():
    with pytest.raises(ValueError, match="limit of at least 1"):
        load_dataset("synthetic:7", limit=0)


# --- limit ----------------------------------------------------------------------------------------


@given(
    strata=st.lists(
        st.tuples(st.integers(0, 6), st.sampled_from(USAGES)), min_size=1, max_size=200
    ),
    limit=st.integers(1, 250),
    seed=st.integers(0, 5),
)
def test_sample_keeps_every_stratum_at_its_share(strata, limit, seed):
    labels = np.array([label for label, _ in strata])
    usage = np.array([usage for _, usage in strata])
    chosen = sample(labels, usage, limit, seed)

    assert len(chosen) == min(limit, len(strata))
    assert np.all(np.diff(chosen) > 0)
    assert np.array_equal(chosen, sample(labels, usage, limit, seed))
    kinds = set(strata)
    kept = [strata[index] for index in chosen]
    if limit >= len(kinds):
        assert set(kept) == kinds
    for kind in kinds:
        share = strata.count(kind) * min(1, limit / len(strata))
        # Lifting the rarest to one image costs the others at most as many in all.
        assert abs(kept.count(kind) - share) <= 1 + len(kinds)


def test_sample_takes_back_from_what_is_common_alone():
    labels = np.repeat(np.arange(7), [1000, 1, 1, 1, 1, 1, 1])
    chosen = labels[sample(labels, np.full(len(labels), "Training"), 8, 0)]
    assert np.bincount(chosen).tolist() == [2, 1, 1, 1, 1, 1, 1]


def test_limit_reads_the_same_images_from_every_form(tmp_path):
    images = np.stack([face(index) for index in range(40)])
    labels = np.arange(40) % 7
    usage = np.where(np.arange(40) < 30, "Training", "PublicTest")
    made = Dataset(images, labels, usage, np.array([""] * 40))
    folder = as_folders(tmp_path / "fer", made)
    whole, part = load_dataset(folder), load_dataset(folder, limit=20, seed=3)
    assert part.digest == whole.subset(sample(whole.labels, whole.usage, 20, 3)).digest
    assert part.digest != load_dataset(folder, limit=20, seed=4).digest
    assert len(load_dataset(as_csv(tmp_path / "a.csv", made), limit=20)) == 20
    assert len(load_dataset(folder, limit=1000)) == 40


# --- Dataset --------------------------------------------------------------------------------------


@pytest.fixture
def seven():
    return load_dataset("synthetic:14")


def test_digest_follows_every_part_but_names(seven):
    def changed(**fields):
        parts = {
            "images": seven.images,
            "labels": seven.labels,
            "usage": seven.usage,
            "names": seven.names,
            "name": seven.name,
        }
        return Dataset(**{**parts, **fields}).digest

    assert changed() == seven.digest == pickle.loads(pickle.dumps(seven)).digest
    assert changed(name="other", names=seven.names[::-1]) == seven.digest
    assert changed(images=255 - seven.images) != seven.digest
    assert changed(labels=seven.labels[::-1]) != seven.digest
    assert changed(usage=seven.usage[::-1]) != seven.digest
    assert changed(images=seven.images[::-1][::-1]) == seven.digest


def test_subset_takes_indices_and_masks(seven):
    assert seven.subset([3, 1]).labels.tolist() == [3, 1]
    assert len(seven.subset(seven.labels == 2)) == 2
    assert len(seven.subset(np.zeros(14, bool))) == 0


def test_relabel_renumbers_by_name(seven):
    kept = seven.subset(seven.labels != 1)
    names = tuple(name for name in EMOTIONS if name != "disgust")
    renumbered = kept.relabel(names)
    assert renumbered.label_names == names
    assert [names[k] for k in renumbered.labels] == [EMOTIONS[k] for k in kept.labels]
    with pytest.raises(ValueError, match="Expected labels from 0 to 5"):
        seven.relabel(names)


def test_arrays_that_do_not_belong_together_are_a_mistake_of_the_caller(seven):
    with pytest.raises(ValueError, match="Expected images"):
        Dataset(seven.images.astype(np.float32), seven.labels, seven.usage, seven.names)
    with pytest.raises(ValueError, match="Expected 14 labels"):
        Dataset(seven.images, seven.labels[:-1], seven.usage, seven.names)
    with pytest.raises(ValueError, match="Expected labels from 0 to 6"):
        Dataset(seven.images, seven.labels + 1, seven.usage, seven.names)


def test_summary_counts_what_is_there(seven):
    doubled = np.concatenate([seven.images, seven.images[:2], np.full((1, 48, 48), 7, np.uint8)])
    labels = np.concatenate([seven.labels, [0, 5], [6]])
    usage = np.array(["Training"] * 15 + ["PublicTest"] * 2)
    counted = summary(Dataset(doubled, labels, usage, np.array([""] * 17), name="made"))
    assert counted["images"] == 17
    assert counted["emotions"]["angry"] == 3
    assert counted["usages"] == {"Training": 15, "PublicTest": 2}
    assert counted["emotions_by_usage"]["PublicTest"]["neutral"] == 1
    assert counted["blank"] == 1
    assert counted["identical"] == {
        "groups": 2,
        "images": 4,
        "largest": 2,
        "across_usages": 1,
        "conflicting_labels": 1,
    }


def test_summary_is_plain_json(seven):
    assert json.loads(json.dumps(summary(seven))) == summary(seven)
