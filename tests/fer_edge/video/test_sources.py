"""Several videos, folders, standard input, numbered pictures and parts of frames."""

import csv
import json
import shutil
import subprocess
import sys

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.cli import main
from fer_edge.errors import SourceError
from fer_edge.inference.classifier import Classifier
from fer_edge.inference.detectors import Face, largest_first
from fer_edge.video.source import VideoSource
from fer_edge.video.watch import watch
from tests.support.clips import DATA, PORTRAIT, gray_frames, write_clip
from tests.support.models import level_of, save_brightness_model


@pytest.fixture
def model(tmp_path):
    return str(save_brightness_model(tmp_path / "models" / "brightness.onnx"))


@pytest.fixture
def folder(tmp_path):
    """Two whole videos, one of them below, and what is none or not to be looked at."""
    place = tmp_path / "videos"
    (place / "below").mkdir(parents=True)
    write_clip(place / "a.mp4", gray_frames([level_of("happy")] * 5))
    write_clip(place / "below" / "a.AVI", gray_frames([level_of("sad")] * 4))
    (place / "notes.txt").write_text("no video")
    (place / "._a.mp4").write_text("left behind by macOS")
    return place


def run(model, *arguments, **more):
    command = ["video", *arguments, "--model", model, "--no-display", "--detector", "none"]
    return CliRunner().invoke(main, [str(part) for part in command], **more)


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_folder_is_all_videos_below_it(model, folder):
    result = run(model, folder)
    assert result.exit_code == 0, result.stderr
    seen = [(line["source"], line["frame"]) for line in records(result.stdout)]
    first, second = str(folder / "a.mp4"), str(folder / "below" / "a.AVI")
    assert seen == [(first, i) for i in range(5)] + [(second, i) for i in range(4)]
    assert f"{first}: 5 frames, 0.2 s of video" in result.stderr
    assert "2 videos, 0 failed" in result.stderr


def test_several_videos_each_have_their_recording_and_timeline(model, folder, tmp_path):
    out, log = tmp_path / "out", tmp_path / "log.csv"
    result = run(
        model, folder, folder / "a.mp4", "--record", out, "--timeline", out, "--output", log
    )
    assert result.exit_code == 0, result.stderr
    names = {str(path.relative_to(out)) for path in out.rglob("*.*")}
    assert names == {
        *("a.mp4", "below/a.mp4", "a-2.mp4"),
        *("a.png", "below/a.png", "a-2.png"),
    }
    rows = list(csv.DictReader(log.open(newline="")))
    assert [row["source"] for row in rows] == (
        [str(folder / "a.mp4")] * 5
        + [str(folder / "below" / "a.AVI")] * 4
        + [str(folder / "a.mp4")] * 5
    )
    assert next(iter(rows[0])) == "source"
    # Faces of one video are not those of the next.
    assert {row["track"] for row in rows} == {"1"}


def test_one_that_fails_is_told_and_the_others_go_on(model, folder, tmp_path):
    (folder / "b.mp4").write_bytes(b"no video")
    log = tmp_path / "log.json"
    result = run(model, folder / "missing.mp4", folder, "--output", log)
    assert result.exit_code == 1
    lines = json.loads(log.read_text())
    failed = {line["source"]: line["error"] for line in lines if line["status"] == "error"}
    assert list(failed) == [str(folder / "missing.mp4"), str(folder / "b.mp4")]
    assert "found nothing" in failed[str(folder / "missing.mp4")]
    assert sum(line["status"] == "ok" for line in lines) == 9
    assert f"{folder / 'b.mp4'}: Expected a video" in result.stderr
    assert "4 videos, 2 failed" in result.stderr


def test_records_of_a_single_video_do_not_name_it(model, folder):
    assert "source" not in records(run(model, folder / "a.mp4").stdout)[0]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("a.mp4", "b.mp4", "--record", "out.mp4"), "Expected a folder for the .mp4 files"),
        (("a.mp4", "b.mp4", "--timeline", "out.PNG"), "Expected a folder for the .png files"),
        (("-", "-"), "Expected - once"),
        (("cam0", "a.mp4"), "cam0 never ends"),
        (("a.mp4", "--roi", "1,2,3"), "Expected LEFT,TOP,WIDTH,HEIGHT"),
        (("a.mp4", "--roi", "1,2,0,4"), "above 0"),
        (("a.mp4", "--fps", "0"), "--fps"),
        ((), "Missing argument"),
    ],
)
def test_wrong_usage_is_told_before_anything_is_read(model, arguments, message):
    result = run(model, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_a_folder_without_videos_is_told(model, tmp_path):
    (tmp_path / "empty").mkdir()
    result = run(model, tmp_path / "empty")
    assert result.exit_code == 1
    assert "Expected a folder with videos, received one without" in result.stderr


def test_a_folder_written_into_is_not_overwritten(model, folder, tmp_path):
    result = run(model, folder, "--record", folder)
    assert result.exit_code == 1
    assert "a.mp4 is what is read" in result.stderr


@pytest.mark.parametrize("how", ["pipe", "file"])
def test_standard_input(model, how):
    """A file that is led there may have its index at the end, which no pipe may."""
    name = DATA / "video" / ("long_sound.mkv" if how == "pipe" else "edit_list.mp4")
    program = "from fer_edge.cli import main; main()"
    command = [sys.executable, "-c", program, "video", "-", "--model", model, "--no-display"]
    command += ["--detector", "none"]
    with name.open("rb") as file:
        done = subprocess.run(
            command,
            capture_output=True,
            **({"input": file.read()} if how == "pipe" else {"stdin": file}),
        )
    assert done.returncode == 0, done.stderr
    assert len(records(done.stdout.decode())) == (75 if how == "pipe" else 42)


def test_a_pipe_whose_mp4_has_its_index_at_the_end(model, tmp_path):
    noise = np.random.default_rng(0).integers(0, 256, (30, 240, 320, 3), np.uint8)
    clip = write_clip(tmp_path / "clip.mp4", list(noise))
    program = "from fer_edge.cli import main; main()"
    command = [sys.executable, "-c", program, "video", "-", "--model", model, "--no-display"]
    command += ["--detector", "none"]
    done = subprocess.run(command, capture_output=True, input=clip.read_bytes())
    assert done.returncode == 1
    assert b"+faststart" in done.stderr


def save_pictures(folder, levels, name="img_{:04d}.png", first=7):
    folder.mkdir()
    for number, frame in enumerate(gray_frames(levels), first):
        cv2.imwrite(str(folder / name.format(number)), frame)


def test_numbered_pictures_are_a_video(model, tmp_path):
    save_pictures(tmp_path / "shots", [level_of("happy")] * 3 + [level_of("sad")] * 2)
    (tmp_path / "shots" / "img_12345.png").write_bytes(
        (tmp_path / "shots" / "img_0007.png").read_bytes()
    )
    result = run(model, tmp_path / "shots" / "img_%04d.png", "--fps", 2)
    assert result.exit_code == 0, result.stderr
    lines = records(result.stdout)
    assert [line["time_s"] for line in lines] == [0, 0.5, 1, 1.5, 2, 2.5]
    emotions = ["happy"] * 3 + ["sad"] * 2 + ["happy"]
    assert [line["faces"][0]["emotion"] for line in lines] == emotions


def test_a_picture_that_cannot_be_read_leaves_a_gap(tmp_path, caplog):
    save_pictures(tmp_path / "shots", [50] * 5, "{:d}.png", first=9)
    (tmp_path / "shots" / "10.png").write_bytes(b"no picture")
    with VideoSource(tmp_path / "shots" / "%d.png") as source:
        assert (source.fps, source.frame_count, source.live) == (25, 5, False)
        assert [frame.index for frame in source] == [0, 2, 3, 4]
    assert "10.png is left out" in caplog.text


@pytest.mark.parametrize(
    ("pattern", "message"),
    [
        ("shots/img_%04d.jpg", "found none in"),
        ("nowhere/img_%d.png", "found no folder"),
        ("shots/img_%d_%d.png", "found nothing at"),
        ("broken/%d.png", "of which none can be read"),
    ],
)
def test_pictures_that_are_not_there_are_told(tmp_path, pattern, message):
    save_pictures(tmp_path / "shots", [50])
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "1.png").write_bytes(b"no picture")
    with pytest.raises(SourceError, match=message), VideoSource(tmp_path / pattern):
        pass


def test_a_file_named_like_a_pattern_is_that_file(tmp_path):
    clip = write_clip(tmp_path / "100%d.mp4", gray_frames([9] * 3))
    with VideoSource(clip) as source:
        assert len(list(source)) == 3


def test_pictures_of_phones_are_turned_upright(tmp_path):
    shutil.copy(PORTRAIT, tmp_path / "1.jpg")
    data = (tmp_path / "1.jpg").read_bytes()
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    segment = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
    (tmp_path / "1.jpg").write_bytes(data[:2] + segment + data[2:])
    with VideoSource(tmp_path / "%d.jpg") as source:
        turned = next(iter(source)).image_bgr
    upright = cv2.imread(str(PORTRAIT))
    assert np.array_equal(turned, cv2.rotate(upright, cv2.ROTATE_90_CLOCKWISE))


class BrightSpots:
    """A detector of bright squares."""

    def detect(self, frame_bgr):
        _, _, stats, _ = cv2.connectedComponentsWithStats((frame_bgr[:, :, 0] > 128) * np.uint8(1))
        boxes = [tuple(map(int, row[:4])) for row in stats[1:]]
        return largest_first([Face(box, None, (box[:2],) * 5) for box in boxes])


def test_only_a_part_of_each_frame_is_looked_at(model, tmp_path):
    """Beside the face there is another, larger one, which counts for nothing."""
    frame = np.zeros((240, 640, 3), np.uint8)
    frame[40:160, 60:180] = 200
    frame[80:160, 400:480] = 200
    clip = write_clip(tmp_path / "pair.mp4", [frame] * 3)
    classifier = Classifier(model, detector=BrightSpots())
    with VideoSource(clip) as source:
        assert len(next(watch(source, classifier)).faces) == 2
    with VideoSource(clip) as source:
        frames = list(watch(source, classifier, roi=(300, 0, 9999, 200), detect_every=1))
    for watched in frames:
        assert watched.region == (300, 0, 340, 200)
        (face,) = watched.faces
        assert np.abs(np.subtract(face.result.box, (400, 80, 80, 80))).max() <= 3
        assert face.result.points == (face.result.box[:2],) * 5
    drawn, plain = frames[0].annotated_bgr, frames[0].frame.image_bgr
    assert drawn.shape == plain.shape
    assert not np.array_equal(drawn[:, 300], plain[:, 300])
    assert np.array_equal(drawn[:, :290], plain[:, :290])


def test_without_a_detector_the_part_is_the_face(model, folder):
    result = run(model, folder / "a.mp4", "--roi", "10,20,30,40")
    assert records(result.stdout)[0]["faces"][0]["box"] == [10, 20, 30, 40]


def test_only_an_open_source_is_watched(model, folder):
    classifier = Classifier(model, detector="none")
    for closed in (VideoSource(folder / "a.mp4"), "a.mp4"):
        with pytest.raises(ValueError, match=r"Expected an open VideoSource, received .*; open"):
            next(watch(closed, classifier))


def test_a_part_outside_of_the_frame_is_told(model, folder):
    result = run(model, folder / "a.mp4", "--roi", "500,0,10,10")
    assert result.exit_code == 1
    assert "Expected a region inside of 96 x 64 pixels, received 500,0,10,10" in result.stderr
