"""Whole, cut and odd video files, as cameras, phones, browsers and broadcasts write them."""

import cv2
import numpy as np
import pytest

from fer_edge.errors import SourceError
from fer_edge.video.container import clock_may_jump, missing_bytes
from fer_edge.video.source import VideoSource
from tests.support.clips import DATA, gray_frames, write_clip

CLIPS = DATA / "video"
OPENCV = tuple(int(part) for part in cv2.__version__.split(".")[:2])


def read(path):
    with VideoSource(path) as source:
        return [(frame.time_s, frame.image_bgr) for frame in source]


def levels(frames):
    return np.array([image.mean() for _, image in frames])


@pytest.mark.parametrize(
    ("name", "first_level", "times_s"),
    [
        ("edit_list.mp4", 60 + 2 * 33, np.arange(42) / 25),
        ("long_sound.mkv", 60, np.arange(75) / 25),
        ("long_sound.ts", 60, np.arange(75) / 25),
        ("long_sound.flv", 60, np.arange(75) / 25),
        ("long_subtitles.mkv", 60, np.arange(75) / 25),
        ("late.mkv", 60, np.arange(75) / 25),
        ("late.ts", 60, np.arange(75) / 25),
    ],
)
def test_whole_videos_are_not_called_cut(name, first_level, times_s):
    frames = read(CLIPS / name)
    assert [time_s for time_s, _ in frames] == pytest.approx(times_s, abs=2e-3)
    assert np.abs(levels(frames) - first_level - 2 * np.arange(len(times_s))).max() < 6


def test_frames_that_are_seconds_apart_keep_their_times():
    assert [time_s for time_s, _ in read(CLIPS / "slow.mp4")] == pytest.approx(range(0, 20, 2))


@pytest.mark.parametrize("name", ["jump_forward.ts", "jump_back.ts"])
def test_a_clock_that_jumps_is_gone_on_with(name):
    frames = read(CLIPS / name)
    assert [time_s for time_s, _ in frames] == pytest.approx(np.arange(150) / 25, abs=1e-3)


def test_pauses_of_clocks_that_do_not_jump_stay(tmp_path, monkeypatch):
    stamps_s = iter([0.0, 0.04, 300.0, 300.04])
    monkeypatch.setattr("fer_edge.video.source._Reader._file_time", lambda *_: next(stamps_s))
    frames = read(write_clip(tmp_path / "screen.mp4", gray_frames([9] * 4)))
    assert [time_s for time_s, _ in frames] == pytest.approx([0, 0.04, 300.0, 300.04])


@pytest.mark.parametrize("name", ["interlaced.mp4", "interlaced.mpg", "interlaced_later.ts"])
def test_interlaced_video_is_read_right_or_refused(name):
    """OpenCV from 4.13 on hands out old memory for it; what came before is still worth reading."""
    shown = []
    told = None
    try:
        with VideoSource(CLIPS / name) as source:
            shown += [frame.image_bgr.mean() for frame in source]
    except SourceError as error:
        told = error.message
        with VideoSource(CLIPS / "interlaced_later.ts") as source:
            frames = iter(source)
            shown = [next(frames).image_bgr.mean() for _ in range(15)]
            with pytest.raises(SourceError, match="interlaced"):
                next(frames)
    assert np.abs(shown[:15] - (60 + 2 * np.arange(15))).max() < 6
    if OPENCV < (4, 13):
        assert told is None
    if told:
        assert f"{name} is interlaced" in told
        assert "ffmpeg -i" in told
        assert "<4.13" in told


def test_still_pictures_are_not_taken_for_unreadable(tmp_path):
    assert len(read(write_clip(tmp_path / "still.mp4", gray_frames([90] * 40)))) == 40


def test_a_video_that_opencv_leaves_early_is_told():
    """4.13 and 4.14 take a packet without bytes, which repeats a frame, for the end."""
    frames = []
    try:
        with VideoSource(CLIPS / "repeats.ogv") as source:
            frames += [frame.time_s for frame in source]
    except SourceError as error:
        assert "goes on after" in error.message
        assert "ffmpeg -i" in error.message
    else:
        assert frames[-1] == pytest.approx(74 / 25, abs=0.1)


@pytest.mark.parametrize(
    ("name", "size"),
    [
        ("wide_pixels.mp4", (137, 64)),
        ("wide_pixels_turned.mp4", (64, 137)),
        ("narrow_pixels.mkv", (85, 64)),
    ],
)
def test_pixels_are_made_square(name, size):
    with VideoSource(CLIPS / name) as source:
        assert (source.width, source.height) == size
        assert next(iter(source)).image_bgr.shape == (size[1], size[0], 3)


def test_a_guessed_rate_is_not_believed():
    with VideoSource(CLIPS / "browser.webm") as source:
        assert source.fps is None
        times_s = [frame.time_s for frame in source]
    assert len(times_s) == 75
    assert times_s[-1] == pytest.approx(2.445)


def test_sound_is_not_advised_to_be_converted():
    with (
        pytest.raises(SourceError, match="finds no picture") as told,
        VideoSource(CLIPS / "sound.mp3"),
    ):
        pass
    assert "ffmpeg -i" not in told.value.message


def test_an_mp4_without_its_index_is_told(tmp_path):
    clip = write_clip(tmp_path / "whole.mp4", gray_frames([9] * 30))
    data = clip.read_bytes()
    clip.write_bytes(data[: data.index(b"moov") - 4])
    with pytest.raises(SourceError, match="without its index") as told, VideoSource(clip):
        pass
    assert "ffmpeg -i" not in told.value.message


def test_a_picture_without_frames_is_refused(tmp_path):
    """The header of an animated WebP, which FFmpeg opens and finds nothing in."""
    frame = b"ANMF" + (16).to_bytes(4, "little") + bytes(16)
    body = b"WEBPVP8X" + (10).to_bytes(4, "little") + b"\x02" + bytes(3) + b"\x0f\0\0\x0f\0\0"
    body += b"ANIM" + (6).to_bytes(4, "little") + bytes(6) + frame
    path = tmp_path / "anim.webp"
    path.write_bytes(b"RIFF" + len(body).to_bytes(4, "little") + body)
    with pytest.raises(SourceError, match="OpenCV cannot read"), VideoSource(path):
        pass


@pytest.mark.parametrize("name", ["edit_list.mp4", "long_sound.mkv", "long_sound.flv"])
def test_missing_bytes_are_counted(tmp_path, name):
    whole = CLIPS / name
    data = whole.read_bytes()
    assert missing_bytes(whole) == 0
    cut = tmp_path / name
    cut.write_bytes(data[:-700])
    assert missing_bytes(cut) == 700


@pytest.mark.parametrize("name", ["late.ts", "interlaced.mpg", "sound.mp3"])
def test_containers_without_lengths_are_never_called_cut(tmp_path, name):
    cut = tmp_path / name
    cut.write_bytes((CLIPS / name).read_bytes()[:-700])
    assert missing_bytes(cut) == 0


def test_an_ogg_and_an_avi_that_are_cut(tmp_path):
    ogg = tmp_path / "cut.ogv"
    ogg.write_bytes((CLIPS / "repeats.ogv").read_bytes()[:-10])
    assert missing_bytes(CLIPS / "repeats.ogv") == 0
    assert missing_bytes(ogg) == 10
    avi = write_clip(tmp_path / "cut.avi", gray_frames([50, 150] * 20))
    assert missing_bytes(avi) == 0
    avi.write_bytes(avi.read_bytes()[:-1000])
    assert missing_bytes(avi) == 1000


@pytest.mark.parametrize(
    ("content", "missing", "jumps"),
    [
        (b"", 0, False),
        (b"RIFF", 0, False),
        (b"\x1aE\xdf\xa3", 0, False),
        (b"OggS", 27 - 4, True),  # A page's header has 27 bytes.
        (b"FLV", 0, False),
        (bytes(99), 0, False),
    ],
    ids=["empty", "AVI", "Matroska", "Ogg", "FLV", "zeros"],
)
def test_headers_that_are_cut_themselves_are_no_tracebacks(tmp_path, content, missing, jumps):
    path = tmp_path / "clip"
    path.write_bytes(content)
    assert missing_bytes(path) == missing
    assert clock_may_jump(path) is jumps


def test_only_broadcasts_and_ogg_have_clocks_that_jump():
    kinds = {path.suffix for path in CLIPS.iterdir() if clock_may_jump(path)}
    assert kinds == {".ts", ".mpg", ".ogv"}
