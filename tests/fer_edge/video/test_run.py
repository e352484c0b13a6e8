import csv
import json
import os
import re
import signal
import subprocess
import sys
import threading
import time
from contextlib import suppress

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.cli import main
from fer_edge.contract import EMOTIONS
from fer_edge.video import run as video_command
from fer_edge.video.source import VideoSource
from tests.support.clips import gray_frames, portrait_frames, write_clip
from tests.support.models import level_of, save_brightness_model


@pytest.fixture
def model(tmp_path):
    return str(save_brightness_model(tmp_path / "models" / "brightness.onnx"))


@pytest.fixture
def clip(tmp_path):
    """Two seconds of happy, then one of sad, where the whole frame is the face."""
    levels = [level_of("happy")] * 60 + [level_of("sad")] * 30
    return str(write_clip(tmp_path / "clip.mp4", gray_frames(levels)))


def run(model, *arguments, display=("--no-display",)):
    command = ["video", *arguments, "--model", model, *display]
    return CliRunner().invoke(main, [str(part) for part in command])


def whole(model, *arguments):
    return run(model, *arguments, "--detector", "none")


def records(text):
    return [json.loads(line) for line in text.splitlines()]


def test_a_record_for_each_frame_goes_to_stdout(model, clip):
    result = whole(model, clip)
    assert result.exit_code == 0, result.stderr
    lines = records(result.stdout)
    assert [line["frame"] for line in lines] == list(range(90))
    assert lines[0].keys() == {
        *("frame", "time_s", "width", "height", "status", "error", "faces"),
    }
    face = lines[0]["faces"][0]
    assert face.keys() == {
        *("track", "box", "detector_score", "emotion", "confidence", "probabilities"),
    }
    assert (face["track"], face["box"], face["emotion"]) == (1, [0, 0, 96, 64], "happy")
    assert list(face["probabilities"]) == list(EMOTIONS)
    assert [line["faces"][0]["emotion"] for line in lines] == ["happy"] * 60 + ["sad"] * 30
    assert "90 frames, 3.0 s of video" in result.stderr
    assert "face 1: 3.0 s: happy 2.0 s (67%), sad 1.0 s (33%)" in result.stderr


def test_faces_are_found_followed_and_numbered(model, tmp_path):
    clip = write_clip(tmp_path / "portrait.mp4", portrait_frames(20))
    quick = run(model, clip)
    honest = run(model, clip, "--detect-every", 1)
    boxes = [
        [line["faces"][0]["box"] for line in records(result.stdout)] for result in (quick, honest)
    ]
    assert len(boxes[0]) == len(boxes[1]) == 20
    assert np.abs(np.array(boxes[0]) - np.array(boxes[1])).max() < 20
    assert "face 1: 0.7 s" in quick.stderr
    again = run(model, clip)
    assert again.stdout == quick.stdout


def test_frames_without_faces_say_so(model, clip):
    result = run(model, clip, "--max-frames", 3)
    assert [line["status"] for line in records(result.stdout)] == ["no_face"] * 3
    assert "no face was seen" in result.stderr


def test_all_outputs_are_written(model, clip, tmp_path):
    log, recording, timeline = (tmp_path / name for name in ("log.csv", "out.mp4", "time.png"))
    result = whole(
        model, clip, "--output", log, "--record", recording, "--timeline", timeline, "--smooth", 0.2
    )
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    rows = list(csv.DictReader(log.open(newline="")))
    assert len(rows) == 90
    change = [float(row["sad"]) for row in rows[58:90]]
    assert change == sorted(change)
    assert 0.05 < change[3] < 0.9
    with VideoSource(recording) as source:
        assert len(list(source)) == 90
    assert cv2.imread(str(timeline)).shape[1] == 1280
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"clip.mp4", "models", "log.csv", "out.mp4", "time.png"}


@pytest.mark.parametrize(
    ("option", "name"),
    [("--output", "log.jsonl"), ("--record", "out.mp4"), ("--timeline", "time.png")],
)
def test_existing_files_are_kept_unless_forced(model, clip, tmp_path, option, name):
    path = tmp_path / name
    path.write_text("mine")
    result = whole(model, clip, option, path)
    assert result.exit_code == 1
    assert "--force" in result.stderr
    assert path.read_text() == "mine"
    assert whole(model, clip, option, path, "--force", "--max-frames", 2).exit_code == 0
    # The first bytes of JSON, of MP4's box and of PNG.
    start = {"log.jsonl": b'{"frame": 0', "out.mp4": b"\0\0\0", "time.png": b"\x89PNG"}[name]
    assert path.read_bytes().startswith(start)


@pytest.mark.parametrize(
    ("arguments", "frames"),
    [
        (("--max-frames", "7"), list(range(7))),
        (("--every", "30"), [0, 30, 60]),
        (("--every", "10", "--max-frames", "2"), [0, 10]),
        (("--duration", "0.5"), list(range(15))),
    ],
)
def test_limits(model, clip, arguments, frames):
    result = whole(model, clip, *arguments)
    assert result.exit_code == 0, result.stderr
    assert [line["frame"] for line in records(result.stdout)] == frames


def test_frames_seconds_apart_are_of_one_face(model, clip, tmp_path):
    """A file sampled so thinly is still whole, its face one face, its seconds all counted."""
    long = str(write_clip(tmp_path / "long.mp4", gray_frames([level_of("happy")] * 300)))
    result = whole(model, long, "--every", 90, "--smooth", 1)
    assert result.exit_code == 0, result.stderr
    assert [line["frame"] for line in records(result.stdout)] == [0, 90, 180, 270]
    assert "face 1: 12.0 s: happy 12.0 s (100%)" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--record", "clip.mp4"), "clip.mp4 is what is read"),
        (("--output", "./clip.mp4"), "clip.mp4 is what is read"),
        (("--output", "time.png", "--timeline", "time.png"), "time.png is written twice"),
    ],
)
def test_outputs_are_neither_the_source_nor_each_other(
    model, clip, tmp_path, monkeypatch, arguments, message
):
    monkeypatch.chdir(tmp_path)
    before = (tmp_path / "clip.mp4").read_bytes()
    result = whole(model, "clip.mp4", *arguments, "--force")
    assert result.exit_code == 1
    assert message in result.stderr
    assert (tmp_path / "clip.mp4").read_bytes() == before


def test_recordings_follow_links(model, clip, tmp_path):
    (tmp_path / "disk").mkdir()
    (tmp_path / "out.mp4").symlink_to(tmp_path / "disk/real.mp4")
    assert whole(model, clip, "--record", tmp_path / "out.mp4").exit_code == 0
    assert (tmp_path / "out.mp4").is_symlink()
    with VideoSource(tmp_path / "disk/real.mp4") as source:
        assert len(list(source)) == 90


def test_faces_below_the_threshold_are_uncertain(model, clip):
    result = whole(model, clip, "--uncertain", 1, "--max-frames", 1)
    assert records(result.stdout)[0]["faces"][0]["emotion"] == "uncertain"


def test_the_largest_face_alone(model, tmp_path):
    frame = cv2.hconcat([portrait_frames(1)[0][:, :200], portrait_frames(1)[0][:, :200]])
    small = cv2.resize(portrait_frames(1)[0][30:210, 10:190], (140, 140))
    frame[20:160, 230:370] = small
    pair = write_clip(tmp_path / "pair.mp4", [frame] * 2)
    both = records(run(model, pair).stdout)[0]["faces"]
    largest = records(run(model, pair, "--largest").stdout)[0]["faces"]
    assert len(both) >= 2
    assert [face["box"] for face in largest] == [both[0]["box"]]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (("missing.mp4",), 1, "found nothing at missing.mp4"),
        (("clip.mp4", "--every", "0"), 2, "--every"),
        (("clip.mp4", "--smooth", "-1"), 2, "--smooth"),
        (("clip.mp4", "--record", "out.avi"), 2, ".mp4"),
        (("clip.mp4", "--timeline", "out.jpg"), 2, ".png"),
        (("rtsp://user:secret@127.0.0.1:9/x?key=secret",), 1, "rtsp://127.0.0.1:9/x did not open"),
    ],
)
def test_what_goes_wrong_is_one_clear_message(model, arguments, code, message, tmp_path):
    result = run(model, *arguments)
    assert result.exit_code == code
    assert message in result.stderr
    assert "secret" not in result.output
    assert "Traceback" not in result.output


def test_a_cut_file_ends_with_an_error_record(model, tmp_path):
    file = write_clip(tmp_path / "whole.avi", gray_frames([50, 150] * 60))
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    result = whole(model, file, "--timeline", tmp_path / "time.png", "--output", "-")
    assert result.exit_code == 1
    assert "cut short" in result.stderr
    *frames, last = records(result.stdout)
    assert (last["status"], last["frame"], last["faces"]) == ("error", None, [])
    assert "cut short" in last["error"]
    # Half of the file holds about half of the frames, and each of them has its record.
    assert [record["frame"] for record in frames] == list(range(len(frames)))
    assert 40 <= len(frames) <= 80
    assert cv2.imread(str(tmp_path / "time.png")).shape[1] == 1280


def test_a_wanted_display_that_is_not_there_is_an_error(model, clip, monkeypatch):
    monkeypatch.setattr(video_command, "why_no_window", lambda: "there is no display")
    result = run(model, clip, display=("--display",))
    assert result.exit_code == 1
    assert "there is no display" in result.stderr


def test_without_a_display_records_go_to_stdout(model, clip, monkeypatch):
    monkeypatch.setattr(video_command, "why_no_window", lambda: "there is no display")
    result = run(model, clip, "--max-frames", 1, display=())
    assert result.exit_code == 0
    assert "No window: there is no display; going on as with --no-display" in result.stderr
    assert len(records(result.stdout)) == 1


class FakeWindow:
    """Stands in for the screen: notes what is shown, and presses keys."""

    def __init__(self, keys):
        self.keys = keys
        self.shown = []
        self.open = True

    def press(self, wait_ms):
        return ord(self.keys.pop(0)) if self.keys and self.shown else -1

    def install(self, monkeypatch):
        monkeypatch.setattr(video_command, "why_no_window", lambda: None)
        for name, function in {
            "namedWindow": lambda *_: None,
            "resizeWindow": lambda *_: None,
            "destroyWindow": lambda *_: None,
            "imshow": lambda title, frame: self.shown.append(frame),
            "waitKey": self.press,
            "getWindowProperty": lambda *_: 1.0 if self.open else 0.0,
        }.items():
            monkeypatch.setattr(cv2, name, function)


def test_keys_of_the_window(model, clip, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    screen = FakeWindow(["s", " ", "x", " ", "s", "q"])
    screen.install(monkeypatch)
    result = run(model, clip, "--detector", "none", display=())
    assert result.exit_code == 0, result.stderr
    assert result.stdout == ""
    assert 1 <= len(screen.shown) < 10
    assert "saved fer-edge-0001.png" in result.stderr
    picture = cv2.imread("fer-edge-0001.png")
    assert np.array_equal(picture, screen.shown[0])
    assert (tmp_path / "fer-edge-0002.png").exists()


def test_closing_the_window_ends_the_video(model, clip, monkeypatch):
    screen = FakeWindow([])
    screen.install(monkeypatch)
    screen.open = False
    result = run(model, clip, "--detector", "none", "--output", "-", display=())
    assert result.exit_code == 0
    assert len(records(result.stdout)) < 20
    assert len(screen.shown) == 1


def on_terminal(*arguments):
    """Run the command with a terminal as stderr; return its status and what the terminal shows."""
    pty = pytest.importorskip("pty")
    program = "from fer_edge.cli import main; main()"
    screen, end = pty.openpty()
    command = [sys.executable, "-c", program, "video", *map(str, arguments), "--no-display"]
    process = subprocess.Popen(command, stderr=end)
    os.close(end)
    shown = b""
    with suppress(OSError):  # The terminal's end on Linux.
        while data := os.read(screen, 4096):
            shown += data
    os.close(screen)
    return process.wait(60), shown.decode()


def test_a_progress_bar_on_a_terminal(model, clip):
    status, shown = on_terminal(
        clip, "--model", model, "--detector", "none", "--output", clip + ".jsonl"
    )
    assert status == 0, shown
    assert "clip.mp4" in shown
    assert re.search(r"90/90\S*\r?\n90 frames, 3\.0 s of video", shown), shown


def test_no_camera_is_a_clear_message(monkeypatch):
    monkeypatch.setattr("fer_edge.video.cameras._camera_indices", lambda: [])
    for arguments in (["cameras"], ["cameras", "--json"]):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code == 1
        assert "No camera opens" in result.stderr
    assert json.loads(result.stdout) == []


@pytest.mark.parametrize("times", [1, 3])
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_with_whole_outputs(model, tmp_path, number, code, times):
    """timeout and shells send some of them twice."""
    clip = write_clip(tmp_path / "long.mp4", gray_frames([90] * 6000))
    log, recording, timeline = (tmp_path / name for name in ("log.jsonl", "out.mp4", "time.png"))
    program = "from fer_edge.cli import main; main()"
    command = [sys.executable, "-c", program, "video", clip, "--model", model, "--no-display"]
    command += ["--detector", "none", "--output", log, "--record", recording]
    command += ["--timeline", timeline]
    process = subprocess.Popen([str(part) for part in command], stderr=subprocess.PIPE, text=True)
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size > 5000):
        time.sleep(0.01)
    for _ in range(times):
        process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == code, messages
    assert "Traceback" not in messages
    lines = records(log.read_text())
    assert 10 < len(lines) < 6000
    with VideoSource(recording) as source:
        assert len(list(source)) == len(lines)
    names = {"long.mp4", "log.jsonl", "out.mp4", "time.png", "models"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_a_terminal_that_is_closed_leaves_whole_outputs(model, tmp_path):
    """With it goes where messages and the bar are written."""
    pty = pytest.importorskip("pty")
    clip = write_clip(tmp_path / "long.mp4", gray_frames([90] * 6000))
    log, recording, timeline = (tmp_path / name for name in ("log.csv", "out.mp4", "time.png"))
    command = [sys.executable, "-c", "from fer_edge.cli import main; main()", "video", clip]
    command += ["--model", model, "--no-display", "--detector", "none", "--output", log]
    command += ["--record", recording, "--timeline", timeline]
    child, screen = pty.fork()
    if not child:
        os.execv(sys.executable, [str(part) for part in command])
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (log.exists() and log.stat().st_size > 5000):
        os.read(screen, 4096)
    os.close(screen)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 129
    rows = list(csv.DictReader(log.open(newline="")))
    with VideoSource(recording) as source:
        assert len(list(source)) == len(rows)
    names = {"long.mp4", "log.csv", "out.mp4", "time.png", "models"}
    assert {path.name for path in tmp_path.iterdir()} == names


def test_only_one_thread_is_left_when_a_video_ends(model, clip):
    before = threading.active_count()
    whole(model, clip, "--max-frames", 3)
    assert threading.active_count() == before


def test_quiet_says_nothing_on_stderr_but_errors(model, clip, tmp_path):
    aloud = run(model, clip, "--output", tmp_path / "a.jsonl", display=())
    assert "90 frames" in aloud.stderr
    quiet = run(model, clip, "--output", tmp_path / "b.jsonl", "-q", display=())
    assert (quiet.exit_code, quiet.stdout, quiet.stderr) == (0, "", "")
    assert (tmp_path / "b.jsonl").read_bytes() == (tmp_path / "a.jsonl").read_bytes()


def test_quiet_tells_of_several_videos_those_that_fail(model, clip, tmp_path):
    (tmp_path / "none.mp4").write_bytes(b"nothing")
    several = run(model, clip, tmp_path / "none.mp4", "--quiet")
    assert several.exit_code == 1
    (line,) = several.stderr.splitlines()
    assert line.startswith(str(tmp_path / "none.mp4"))


def test_quiet_holds_for_what_ffmpeg_says_from_its_own_thread(model, tmp_path):
    frames = portrait_frames(20)
    whole = write_clip(tmp_path / "whole.mp4", frames).read_bytes()
    data = whole.index(b"mdat")
    broken = bytearray(whole)
    for place in range(data + 6000, data + 12000, 40):
        broken[place] ^= 0xFF
    (tmp_path / "broken.mp4").write_bytes(broken)
    aloud, quiet = (
        subprocess.run(
            [sys.executable, "-m", "fer_edge", "video", tmp_path / "broken.mp4", "--no-display",
             "--model", model, *flags],
            capture_output=True, text=True, timeout=120,
        )
        for flags in ([], ["-q"])
    )  # fmt: skip
    assert "FFmpeg: " in aloud.stderr
    assert quiet.stderr == ""
    # What FFmpeg puts in place of damage differs a little from one decoding to the next.
    assert [record["frame"] for record in records(quiet.stdout)] == list(range(20))
    assert len(records(aloud.stdout)) == 20
