"""An http MJPEG server on loopback that stalls, cuts and restarts."""

import json
import re
import signal
import threading
import time
from contextlib import suppress
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import pytest
from click.testing import CliRunner, Result

from fer_edge.cli import main
from fer_edge.errors import SourceError
from fer_edge.video import source as video
from fer_edge.video.source import VideoSource
from tests.support.clips import gray_frames, write_clip
from tests.support.models import level_of, save_brightness_model

FRAME_S = 0.01
LEVELS = [level_of("happy"), level_of("sad")]


def as_jpeg(frame):
    return cv2.imencode(".jpg", frame)[1].tobytes()


class Stream(ThreadingHTTPServer):
    """Serves one script a connection: how many frames, then ``cut``, ``stall`` or ``garbage``.

    A third item is the frames' width and height.

    Connections after the last script are refused with status 503.
    """

    daemon_threads = True

    def __init__(self, *scripts):
        super().__init__(("127.0.0.1", 0), StreamHandler)
        self.scripts = list(scripts)
        self.connections = 0
        self.closing = threading.Event()

    def __enter__(self):
        threading.Thread(target=self.serve_forever, args=(0.05,), daemon=True).start()
        return self

    def __exit__(self, *details):
        self.closing.set()
        self.shutdown()
        self.server_close()

    @property
    def url(self):
        return f"http://user:secret@127.0.0.1:{self.server_address[1]}/live?key=secret"


class StreamHandler(BaseHTTPRequestHandler):
    server: Stream

    def log_message(self, *details):
        pass

    def do_GET(self):
        self.server.connections += 1
        if not self.server.scripts:
            self.send_error(503)
            return
        frames, ending, *size = self.server.scripts.pop(0)
        jpegs = [as_jpeg(frame) for frame in gray_frames(LEVELS, *size)]
        self.send_response(200)
        self.send_header("Content-Type", "multipart/x-mixed-replace; boundary=frame")
        self.end_headers()
        try:
            for index in range(frames):
                if self.server.closing.wait(FRAME_S):
                    return
                self.send_part(jpegs[index % 2])
            if ending == "garbage":
                self.send_part(b"\xff\xd8" + bytes(2000))
            if ending == "stall":
                self.server.closing.wait(20)
        except OSError:
            pass  # The reader has left, as it may.

    def send_part(self, data):
        head = f"--frame\r\nContent-Type: image/jpeg\r\nContent-Length: {len(data)}\r\n\r\n"
        self.wfile.write(head.encode() + data + b"\r\n")


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(video, "FIRST_PAUSE_S", 0.05)


@pytest.fixture
def model(tmp_path):
    return str(save_brightness_model(tmp_path / "brightness.onnx"))


def watch(model, stream, *arguments):
    command = ["video", stream.url, "--model", model, "--detector", "none", "--no-display"]
    return CliRunner().invoke(main, [*command, "--timeout", "1", *map(str, arguments)])


@dataclass
class Broken:
    """What a run leaves of a stream that is cut, stalls, sends garbage and stays away."""

    result: Result
    log: str
    recording: Path
    connections: int

    @property
    def records(self):
        return [json.loads(line) for line in self.log.splitlines()]


@pytest.fixture(scope="module")
def broken(tmp_path_factory):
    folder = tmp_path_factory.mktemp("broken")
    model = save_brightness_model(folder / "brightness.onnx")
    log, recording = folder / "log.jsonl", folder / "out.mp4"
    scripts = (20, "cut"), (20, "stall"), (20, "garbage"), (20, "cut")
    with pytest.MonkeyPatch.context() as patch, Stream(*scripts) as stream:
        patch.setattr(video, "FIRST_PAUSE_S", 0.05)
        result = watch(model, stream, "--output", log, "--record", recording, "--retries", 5)
    return Broken(result, log.read_text(), recording, stream.connections)


def test_a_stream_that_stays_away_is_an_error_after_the_tries(broken):
    assert broken.result.exit_code == 1
    *_, last = broken.result.stderr.splitlines()
    assert re.match(
        r"Error: http://127\.0\.0\.1:\d+/live stopped after \d+ frames and did not come back in "
        r"5 tries",
        last,
    )
    # Tries are counted on over connections that last shorter than 10 s.
    assert broken.connections == 1 + 5


def test_each_try_is_told(broken):
    told = [line for line in broken.result.stderr.splitlines() if "trying again" in line]
    tries = [line[line.index("(") :] for line in told]
    assert tries == [f"({number} of 5)" for number in range(1, 6)]


def test_passwords_of_a_stream_are_told_to_nobody(broken):
    assert "/live" in broken.result.stderr
    assert "secret" not in broken.result.output + broken.log


def test_the_log_of_a_broken_stream_is_whole(broken):
    assert broken.log.endswith("\n")
    *frames, last = broken.records
    # Live frames may be dropped, but not as many as one connection gives.
    assert 40 < len(frames) <= 80
    assert [record["status"] for record in frames] == ["ok"] * len(frames)
    assert (last["status"], last["frame"], last["faces"]) == ("error", None, [])
    assert f"stopped after {frames[-1]['frame'] + 1} frames" in last["error"]


def test_frames_are_numbered_and_timed_over_all_connections(broken):
    *frames, _ = broken.records
    indices, times_s = ([record[key] for record in frames] for key in ("frame", "time_s"))
    assert indices == sorted(set(indices))
    assert times_s == sorted(times_s)
    # One connection takes 20 frames' time: without the others the clock would end there.
    assert times_s[-1] > 3 * 20 * FRAME_S


def test_the_recording_of_a_broken_stream_can_be_played(broken):
    with VideoSource(broken.recording) as source:
        assert (source.width, source.height) == (96, 64)
        assert len(list(source)) >= len(broken.records) // 2


def test_tries_grow_further_apart_and_are_bounded(model):
    with Stream((5, "cut")) as stream:
        began = time.monotonic()
        result = watch(model, stream, "--retries", 3)
        spent_s = time.monotonic() - began
    assert result.exit_code == 1
    pauses = [line for line in result.stderr.splitlines() if "trying again" in line]
    assert [line.split(" in ")[1] for line in pauses] == [
        "0.1 s (1 of 3)",
        "0.1 s (2 of 3)",
        "0.2 s (3 of 3)",
    ]
    assert stream.connections == 4
    assert spent_s < 10


def test_a_restarted_stream_goes_on(model):
    with Stream((10, "cut"), (10**6, "cut")) as stream:
        result = watch(model, stream, "--max-frames", 30)
    assert result.exit_code == 0, result.stderr
    assert "opened again 1 time\n" in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert len(lines) == 30
    assert {line["faces"][0]["emotion"] for line in lines} == {"happy", "sad"}


def test_a_stream_comes_back_smaller(model, tmp_path):
    recording = tmp_path / "out.mp4"
    with Stream((10, "cut", (320, 240)), (10**6, "cut", (96, 64))) as stream:
        result = watch(model, stream, "--max-frames", 40, "--output", "-", "--record", recording)
    assert result.exit_code == 0, result.output
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    seen = {(line["width"], line["faces"][0]["track"]) for line in lines}
    assert seen == {(320, 1), (96, 2)}
    assert all(line["faces"][0]["box"] == [0, 0, line["width"], line["height"]] for line in lines)
    with VideoSource(recording) as source:
        assert (source.width, source.height) == (320, 240)


def test_passwords_are_in_no_message_of_ffmpeg(capfd):
    source = VideoSource("http://user:secret@127.0.0.1:9/x?key=secret")
    with pytest.raises(SourceError, match="Connection refused") as told, source:
        pass
    assert "secret" not in told.value.message + "".join(capfd.readouterr())


def test_a_stream_that_never_answers_is_timed_out(model):
    with Stream((0, "stall")) as stream:
        began = time.monotonic()
        result = watch(model, stream)
        assert time.monotonic() - began < 10
    assert result.exit_code == 1
    assert "did not open (time-out 1 s)" in result.stderr
    assert "secret" not in result.output


def test_ctrl_c_while_a_stream_does_not_open(model):
    with Stream((0, "stall")) as stream:
        threading.Timer(0.6, signal.raise_signal, [signal.SIGINT]).start()
        result = watch(model, stream, "--timeout", 10)
    assert result.exit_code == 130
    assert "did not open" not in result.stderr


def test_duration_ends_a_stream_that_stalls(model):
    with Stream((5, "stall")) as stream:
        began = time.monotonic()
        result = watch(model, stream, "--duration", 0.5)
        assert time.monotonic() - began < 6
    assert result.exit_code == 0, result.stderr
    assert 1 <= len(result.stdout.splitlines()) <= 5


def test_a_finished_video_behind_a_url_is_read_whole(tmp_path):
    clip = write_clip(tmp_path / "clip.avi", gray_frames([40] * 30))

    class FileHandler(BaseHTTPRequestHandler):
        def log_message(self, *details):
            pass

        def do_GET(self):
            data = clip.read_bytes()
            start = int(self.headers.get("Range", "bytes=0-")[6:].split("-")[0])
            self.send_response(206 if start else 200)
            self.send_header("Accept-Ranges", "bytes")
            self.send_header("Content-Length", str(len(data) - start))
            self.send_header("Content-Range", f"bytes {start}-{len(data) - 1}/{len(data)}")
            self.end_headers()
            with suppress(OSError):
                self.wfile.write(data[start:])

    server = ThreadingHTTPServer(("127.0.0.1", 0), FileHandler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
    try:
        with VideoSource(f"http://127.0.0.1:{server.server_address[1]}/clip.avi") as source:
            assert not source.live
            assert len([time.sleep(0.005) for _ in source]) == 30
    finally:
        server.shutdown()
        server.server_close()


def test_an_address_where_nobody_listens_is_said():
    with pytest.raises(SourceError, match="did not open"), VideoSource("http://127.0.0.1:9/x"):
        pass
