"""Faces found, turned upright and cut from pictures and videos, as a data set to train on."""

import csv
import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from fer_edge.contract import ModelSpec
from fer_edge.image.read import read_image
from fer_edge.inference.detectors import open_detector
from fer_edge.inference.preprocess import prepare
from fer_train.data.groups import read_groups
from fer_train.data.load import load_dataset
from tests.support.clips import portrait_frames, write_clip
from tests.support.trainer import invoke

PORTRAIT = Path(__file__).parents[2] / "data" / "portrait.jpg"


def rows_of(folder):
    with (folder / "faces.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def put(path, picture=None):
    path.parent.mkdir(parents=True, exist_ok=True)
    if picture is None:
        shutil.copyfile(PORTRAIT, path)
    else:
        cv2.imwrite(str(path), picture)
    return path


@pytest.fixture(scope="module")
def cut(tmp_path_factory):
    """What is made of two folders of pictures, one of which cannot be read, and what is told."""
    folder = tmp_path_factory.mktemp("cut")
    source, output = folder / "mine", folder / "faces"
    put(source / "train" / "Happiness" / "anna" / "1.jpg")
    put(source / "train" / "Happiness" / "bo" / "1.jpg")
    put(source / "test" / "sad" / "PublicTest_7.jpg")
    put(source / "test" / "sad" / "wall.png", np.full((120, 160, 3), 90, np.uint8))
    put(source / "holiday" / "2.jpg")
    (source / "test" / "sad" / "broken.jpg").write_bytes(b"no picture")
    (source / "notes.txt").write_text("x")
    return output, invoke("prepare", source, "--output", output)


def test_what_was_cut_and_left_out_is_told(cut):
    output, result = cut
    assert result.exit_code == 1, result.output  # One cannot be read.
    assert "broken.jpg: " in result.stderr
    assert "3 faces (2 of happy, 1 of sad)" in result.stderr
    assert "1 pictures and frames without a face" in result.stderr
    assert "left out: 1 x folder 'holiday' is no class that is known" in result.stderr
    assert result.stdout.strip() == str(output / "faces.csv")


def test_faces_become_a_data_set_of_the_classes_and_usages_of_their_folders(cut):
    dataset = load_dataset(cut[0])
    assert list(zip(dataset.names.tolist(), dataset.usage.tolist(), strict=True)) == [
        ("test/sad/PublicTest_7.png", "PublicTest"),
        ("train/happy/1.png", "Training"),
        ("train/happy/Happiness_bo_1.png", "Training"),
    ]


def test_the_table_says_what_became_of_each_picture(cut):
    assert [(row["source"], row["status"], row["file"]) for row in rows_of(cut[0])] == [
        ("mine/test/sad/PublicTest_7.jpg", "ok", "test/sad/PublicTest_7.png"),
        ("mine/test/sad/broken.jpg", "error", ""),
        ("mine/test/sad/wall.png", "no_face", ""),
        ("mine/train/Happiness/anna/1.jpg", "ok", "train/happy/1.png"),
        ("mine/train/Happiness/bo/1.jpg", "ok", "train/happy/Happiness_bo_1.png"),
    ]


def test_the_model_sees_in_training_what_it_sees_in_use(cut):
    frame = read_image(PORTRAIT)
    (face,) = open_detector("face").detect(frame)
    expected = prepare(frame, [face.box], ModelSpec(), [face.points])[0, ..., 0]
    assert np.array_equal(load_dataset(cut[0]).images[1], np.rint(expected))
    told = {row["source"]: row for row in rows_of(cut[0])}["mine/train/Happiness/anna/1.jpg"]
    assert tuple(int(told[key]) for key in ("left", "top", "width", "height")) == face.box
    assert float(told["score"]) == pytest.approx(face.score, abs=1e-4)


def test_frames_of_a_video_stay_together(tmp_path):
    clips, output = tmp_path / "clips", tmp_path / "faces"
    for name in ("happy/one.avi", "sad/two.avi"):
        (clips / name).parent.mkdir(parents=True)
        write_clip(clips / name, portrait_frames(30), fps=10)
    result = invoke("prepare", clips, "--output", output, "--fps", "2")
    assert result.exit_code == 0, result.output
    dataset = load_dataset(output, groups="frames")
    assert dataset.groups.tolist() == ["one"] * 6 + ["two"] * 6
    assert dataset.names[1] == "happy/one_frame-000005.png"
    by_table = read_groups(str(output / "faces.csv"), dataset.names)
    assert by_table.tolist() == ["clips/happy/one.avi"] * 6 + ["clips/sad/two.avi"] * 6
    times = [float(row["time_s"]) for row in rows_of(output)][:6]
    assert times == pytest.approx([0, 0.5, 1, 1.5, 2, 2.5])

    single = tmp_path / "single"
    result = invoke("prepare", clips / "sad" / "two.avi", "--output", single, "--fps", "1")
    assert result.exit_code == 0, result.output
    assert len(list((single / "sad").iterdir())) == 3


def test_what_nobody_has_labelled_is_cut_all_the_same(tmp_path):
    put(tmp_path / "album" / "1.jpg")
    result = invoke("prepare", tmp_path / "album", "--output", tmp_path / "faces")
    assert result.exit_code == 0, result.output
    assert (tmp_path / "faces" / "unlabelled" / "1.png").is_file()
    assert "1 faces are of no class that is known, in folders such as album;" in result.stderr


def test_names_of_a_language_that_nobody_gave_are_told_of(tmp_path):
    put(tmp_path / "alle" / "Freude" / "1.jpg")
    result = invoke("prepare", tmp_path / "alle", "--output", tmp_path / "one")
    assert "such as Freude; --labels-map says what they mean; --labels-map german" in result.stderr
    put(tmp_path / "alle" / "neutral" / "2.jpg")
    result = invoke("prepare", tmp_path / "alle", "--output", tmp_path / "two")
    expected = "1 x folder 'Freude' is no class that is known; --labels-map german knows it as"
    assert expected in result.stderr
    result = invoke(
        "prepare", tmp_path / "alle", "--output", tmp_path / "three", "--labels-map", "de"
    )
    assert "2 faces (1 of happy, 1 of neutral)" in result.stderr


def test_the_split_of_a_data_set_is_kept(tmp_path):
    put(tmp_path / "affectnet" / "val_set" / "1" / "7.jpg")
    put(tmp_path / "raf" / "aligned" / "test_0001_aligned.jpg")
    (tmp_path / "raf" / "list_patition_label.txt").write_text("test_0001.jpg 4\n")
    flags = ("--labels-map", "affectnet", "--output", tmp_path / "one")
    assert invoke("prepare", tmp_path / "affectnet", *flags).exit_code == 0
    flags = ("--layout", "rafdb", "--output", tmp_path / "two")
    assert invoke("prepare", tmp_path / "raf", *flags).exit_code == 0
    for output in ("one", "two"):
        assert load_dataset(tmp_path / output).names.tolist() == [
            {"one": "val_set/happy/7.png", "two": "test/happy/test_0001_aligned.png"}[output]
        ]
    assert load_dataset(tmp_path / "one").usage.tolist() == ["PublicTest"]


def test_a_file_is_taken_once_and_faces_go_elsewhere(tmp_path):
    mine = tmp_path / "mine"
    put(mine / "happy" / "1.jpg")
    for inside in (mine, mine / "faces", mine / "happy" / "a" / "b"):
        result = invoke("prepare", mine, "--output", inside)
        assert result.exit_code == 1
        assert f"folder for the faces{' outside of' * (inside != mine)}" in result.stderr
        assert [path.name for path in mine.rglob("*") if path.is_file()] == ["1.jpg"]
    result = invoke("prepare", mine, mine / "happy", mine, "--output", tmp_path / "faces")
    assert result.exit_code == 0, result.output
    assert "1 faces (1 of happy)" in result.stderr


def test_no_face_at_all_is_an_error_that_says_what_to_try(tmp_path):
    put(tmp_path / "mine" / "sad" / "wall.png", np.full((120, 160, 3), 90, np.uint8))
    result = invoke("prepare", tmp_path / "mine", "--output", tmp_path / "faces")
    assert result.exit_code == 1
    assert "0 faces (none)" in result.stderr
    assert "where each is a face already, give --detector none" in result.stderr
    assert [row["status"] for row in rows_of(tmp_path / "faces")] == ["no_face"]


def test_layouts_and_maps_name_the_faces(tmp_path):
    put(tmp_path / "jaffe" / "KA.AN1.39.jpg")
    put(tmp_path / "jaffe" / "KA.HA1.29.jpg")
    output = tmp_path / "faces"
    flags = ("--layout", "jaffe", "--labels-map", "angry=bad,happy=good")
    result = invoke("prepare", tmp_path / "jaffe", "--output", output, *flags)
    assert result.exit_code == 0, result.output
    files = sorted(path.relative_to(output).as_posix() for path in output.rglob("*.png"))
    assert files == ["bad/KA.AN1.39.png", "good/KA.HA1.29.png"]
    # Names that tell people are kept.
    assert read_groups("jaffe", np.array(files)).tolist() == ["KA", "KA"]


def test_pictures_that_are_faces_are_scaled(tmp_path):
    face = np.random.default_rng(0).integers(0, 256, (96, 96, 3), np.uint8)
    put(tmp_path / "aligned" / "5" / "a.png", face)
    output = tmp_path / "faces"
    flags = ("--detector", "none", "--labels-map", "rafdb")
    result = invoke("prepare", tmp_path / "aligned", "--output", output, *flags)
    assert result.exit_code == 0, result.output
    assert load_dataset(output).images.shape == (1, 48, 48)
    assert load_dataset(output).names.tolist() == ["sad/a.png"]


def test_nothing_is_replaced_and_nothing_is_an_error(tmp_path):
    put(tmp_path / "mine" / "happy" / "1.jpg")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "x").write_text("x")
    result = invoke("prepare", tmp_path / "mine", "--output", tmp_path / "full")
    assert result.exit_code == 1
    assert "Expected an empty folder for the faces" in result.stderr
    (tmp_path / "none").mkdir()
    result = invoke("prepare", tmp_path / "none", "--output", tmp_path / "out")
    assert result.exit_code == 1
    assert "Expected pictures or videos in" in result.stderr
    result = invoke("prepare", tmp_path / "full" / "x", "--output", tmp_path / "out")
    assert "Expected folders and videos" in result.stderr
    assert not (tmp_path / "out").exists()
