import threading
import time

import cv2
import numpy as np
import pytest

from fer_edge.errors import OutputError, SourceError
from fer_edge.video import address
from fer_edge.video import source as video
from fer_edge.video.address import find_source, hide_secrets
from fer_edge.video.cameras import list_cameras
from fer_edge.video.sink import VideoSink
from fer_edge.video.source import VideoSource
from tests.support.clips import gray_frames, turn_clip, write_clip


class FakeCapture:
    """A camera: frames whose level counts up, at a rate, that may end, hang or not open."""

    def __init__(self, *, frames=10**9, pause_s=0.005, opens=True, hangs_s=0.0):
        self.left = frames
        self.pause_s = pause_s
        self.opens = opens
        self.hangs_s = hangs_s
        self.level = -1
        self.released = False

    def isOpened(self):
        return self.opens

    def get(self, prop):
        return {
            cv2.CAP_PROP_FRAME_WIDTH: 32,
            cv2.CAP_PROP_FRAME_HEIGHT: 24,
            cv2.CAP_PROP_FPS: 30,
        }.get(prop, 0)

    def grab(self):
        time.sleep(self.pause_s)
        if not self.left:
            time.sleep(self.hangs_s)
            return False
        self.left -= 1
        self.level += 1
        return True

    def retrieve(self):
        return True, np.full((24, 32, 3), self.level % 256, np.uint8)

    def release(self):
        self.released = True


@pytest.fixture
def cameras(monkeypatch):
    """Make cam0 give these captures, one each time that it is opened."""
    captures = []
    monkeypatch.setattr(video, "FIRST_PAUSE_S", 0.01)

    def open_next(self, timeout_s):
        return captures.pop(0) if captures else FakeCapture(opens=False)

    monkeypatch.setattr(address.Address, "open", open_next)
    return captures


@pytest.fixture
def clip(tmp_path):
    return write_clip(tmp_path / "clip.mp4", gray_frames(range(0, 250, 5)))


def test_files_drop_nothing_for_slow_readers(clip):
    with VideoSource(clip) as source:
        assert (source.live, source.fps, source.frame_count) == (False, 30.0, 50)
        frames = []
        for frame in source:
            time.sleep(0.002)
            frames.append(frame)
    assert [frame.index for frame in frames] == list(range(50))
    assert [frame.time_s for frame in frames] == pytest.approx([i / 30 for i in range(50)])
    levels = [float(frame.image_bgr.mean()) for frame in frames]
    assert np.abs(np.array(levels) - np.arange(0, 250, 5)).max() < 4
    assert frames[0].image_bgr.shape == (64, 96, 3)
    assert frames[0].image_bgr.dtype == np.uint8


def test_every_and_duration_count_the_files_own_frames_and_time(clip):
    with VideoSource(clip, every=4, duration_s=1.0) as source:
        assert [frame.index for frame in source] == list(range(0, 30, 4))


def test_a_source_that_has_ended_gives_nothing_more(clip):
    with VideoSource(clip, every=7) as source:
        assert list(source)
        assert list(source) == []


def test_phone_videos_are_turned_upright(clip, tmp_path):
    with VideoSource(turn_clip(tmp_path / "phone.mp4", clip)) as source:
        assert next(iter(source)).image_bgr.shape == (96, 64, 3)


def test_time_goes_forward_where_a_container_has_none(monkeypatch, clip):
    monkeypatch.setattr(video._Reader, "_file_time", lambda *args: 0.0)
    with VideoSource(clip) as source:
        times = [frame.time_s for frame in source]
    assert times == pytest.approx([i / 30 for i in range(50)])


def test_a_file_cut_short_is_read_and_then_told(tmp_path):
    whole = write_clip(tmp_path / "whole.avi", gray_frames([50, 150] * 60))
    cut = tmp_path / "cut.avi"
    cut.write_bytes(whole.read_bytes()[: whole.stat().st_size // 2])
    frames = []
    with VideoSource(cut) as source, pytest.raises(SourceError, match=r"ends after .* promises 4"):
        for frame in source:
            frames.append(frame)
    assert 30 < len(frames) < 100


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("missing.mp4", "found nothing at missing.mp4"),
        ("gopher://host/x", "Expected a URL of rtsp"),
        ("http://[/", "malformed"),
        (".", r"received the folder \.; give a file in it"),
        ("0", "; give cam0 for a camera"),
    ],
)
def test_what_is_no_source_is_refused_at_once(given, message):
    with pytest.raises(SourceError, match=message):
        VideoSource(given)


@pytest.mark.parametrize("content", [b"", b"no video", b"\0" * 4096])
def test_files_that_are_no_video_are_refused(tmp_path, content):
    path = tmp_path / "notes.mp4"
    path.write_bytes(content)
    with pytest.raises(SourceError, match="OpenCV cannot read"), VideoSource(path):
        pass


def test_file_names_are_never_taken_for_protocols(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_clip(tmp_path / "clip.mp4", gray_frames([9, 9]))
    (tmp_path / "concat:clip.mp4").write_bytes((tmp_path / "clip.mp4").read_bytes())
    with VideoSource("concat:clip.mp4") as source:
        assert len(list(source)) == 2


def test_a_camera_that_is_not_there_is_said(monkeypatch):
    monkeypatch.setattr("sys.platform", "linux")
    with pytest.raises(SourceError, match="there is no /dev/video99"), VideoSource("cam99"):
        pass


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("rtsp://admin:secret@10.0.0.1:554/live?token=secret#secret", "rtsp://10.0.0.1:554/live"),
        ("http://10.0.0.1/video?user=a&pwd=secret", "http://10.0.0.1/video"),
        ("http://a:sec@ret@host/x", "http://host/x"),
    ],
)
def test_secrets_of_urls_are_never_shown(url, shown):
    assert hide_secrets(url) == shown
    assert "secret" not in VideoSource(url).name
    assert "secret" not in find_source(url).failure(1.0)


def test_live_sources_give_the_latest_frame(cameras):
    cameras.append(FakeCapture(pause_s=0.002))
    ages_s = []
    with VideoSource("cam0") as source:
        for count, frame in enumerate(source):
            ages_s.append(time.monotonic() - frame.taken_s)
            time.sleep(0.03)
            if count == 20:
                break
        assert source.live
        assert source.dropped > 20
    assert max(ages_s[-5:]) < 0.5


def test_a_live_source_that_stops_is_opened_again(cameras, caplog):
    cameras += [FakeCapture(frames=3), FakeCapture(opens=False), FakeCapture(frames=10**6)]
    first = cameras[0]
    with VideoSource("cam0", retries=3) as source:
        frames = [frame for frame, _ in zip(source, range(8), strict=False)]
        assert source.reopened == 1
    assert first.released
    indices = [frame.index for frame in frames]
    times_s = [frame.time_s for frame in frames]
    assert indices == sorted(set(indices))
    assert times_s == sorted(set(times_s))
    assert [record.getMessage() for record in caplog.records] == [
        "cam0 stopped; trying again in 0.0 s (1 of 3)",
        "cam0 stopped; trying again in 0.0 s (2 of 3)",
    ]


def test_a_live_source_that_stays_away_is_an_error(cameras):
    cameras.append(FakeCapture(frames=3))
    began = time.monotonic()
    gone = pytest.raises(SourceError, match=r"cam0 stopped .* did not come back in 2 tries")
    with VideoSource("cam0", retries=2) as source, gone:
        list(source)
    assert time.monotonic() - began < 3


def test_a_source_that_keeps_stopping_is_given_up(cameras):
    cameras += [FakeCapture(frames=1) for _ in range(50)]
    gone = pytest.raises(SourceError, match="3 tries")
    with VideoSource("cam0", retries=3) as source, gone:
        list(source)
    assert len(cameras) == 46


def test_a_read_that_hangs_is_timed_out(cameras, caplog):
    cameras += [FakeCapture(frames=2, hangs_s=1.5), FakeCapture(frames=10**6)]
    with VideoSource("cam0", timeout_s=0.2, retries=1) as source:
        frames = [frame for frame, _ in zip(source, range(6), strict=False)]
    assert len(frames) == 6
    assert "cam0 gave no frame for 1 s" in caplog.text


def test_a_file_whose_disk_hangs_is_an_error(clip, monkeypatch):
    real, slow = video._Reader._put, threading.Event()

    def hang_after_5(self, grabbed):
        if grabbed[0] == 5:
            slow.wait(5)
        real(self, grabbed)

    monkeypatch.setattr(video._Reader, "_put", hang_after_5)
    hangs = pytest.raises(SourceError, match=r"gave no frame for 0\.1 s")
    with VideoSource(clip, timeout_s=0.1) as source:
        with hangs:
            list(source)
        slow.set()
    assert source.reopened == 0


def test_opening_that_hangs_is_timed_out(monkeypatch):
    never = threading.Event()
    monkeypatch.setattr(
        address.Address, "open", lambda self, timeout_s: never.wait(8) and FakeCapture()
    )
    began = time.monotonic()
    with pytest.raises(SourceError), VideoSource("cam0", timeout_s=0.1):
        pass
    assert time.monotonic() - began < 5
    never.set()


def test_stop_ends_a_waiting_reader_at_once(cameras):
    cameras.append(FakeCapture(frames=1, hangs_s=1.0))
    with VideoSource("cam0") as source:
        threading.Timer(0.2, source.stop).start()
        began = time.monotonic()
        assert len(list(source)) == 1
        assert time.monotonic() - began < 0.9


def test_duration_ends_a_live_source_that_gives_nothing_more(cameras):
    cameras.append(FakeCapture(frames=1, hangs_s=1.0))
    with VideoSource("cam0", duration_s=0.3) as source:
        began = time.monotonic()
        assert len(list(source)) == 1
        assert time.monotonic() - began < 0.9


def test_idle_is_called_while_waiting(cameras):
    cameras.append(FakeCapture(frames=1, hangs_s=0.5))
    calls = []
    with VideoSource("cam0", duration_s=0.3, idle=lambda: calls.append(1)) as source:
        list(source)
    assert 2 <= len(calls) <= 20


def test_numbers_out_of_range_are_programmer_mistakes():
    for arguments in ({"every": 0}, {"timeout_s": 0}, {"duration_s": -1}, {"retries": -1}):
        with pytest.raises(ValueError, match="Expected"):
            VideoSource("cam0", **arguments)


def test_frames_are_only_to_be_had_inside_of_the_block(clip):
    outside = pytest.raises(ValueError, match="with VideoSource")
    with outside:
        next(iter(VideoSource(clip)))
    with VideoSource(clip) as source:
        frames = iter(source)
        next(frames)
    with outside:
        next(frames)
    with outside:
        list(source)
    assert (source.width, source.dropped) == (96, 0)
    with source:
        assert len(list(source)) == 50


def test_cameras_that_open_are_listed(cameras, monkeypatch):
    cameras += [FakeCapture(frames=0), FakeCapture(opens=False), FakeCapture(frames=0)]
    monkeypatch.setattr("fer_edge.video.cameras._camera_indices", lambda: [0, 1, 4])
    found = list_cameras()
    assert [(cam.source, cam.width, cam.height, cam.fps) for cam in found] == [
        ("cam0", 32, 24, 30),
        ("cam4", 32, 24, 30),
    ]


def read_levels(path):
    with VideoSource(path) as source:
        assert source.fps == 30
        return [round(float(frame.image_bgr.mean())) for frame in source]


def test_a_recording_plays_at_the_speed_of_time(tmp_path):
    path = tmp_path / "out.mp4"
    with VideoSink(path, 30.0) as sink:
        for level, time_s in ((40, 5.0), (80, 5.0 + 1 / 30), (120, 5.1), (200, 5.2)):
            sink.write(gray_frames([level])[0], time_s)
        assert not path.exists()
    levels = read_levels(path)
    assert len(levels) == 7
    assert np.abs(np.array(levels) - [40, 80, 120, 120, 200, 200, 200]).max() < 6
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_a_recording_is_finished_by_errors_too(tmp_path):
    path = tmp_path / "folder" / "out.mp4"
    with pytest.raises(RuntimeError), VideoSink(path, 30.0) as sink:
        sink.write(gray_frames([40])[0], 0.0)
        raise RuntimeError
    assert len(read_levels(path)) == 1


@pytest.mark.parametrize(
    ("steps_ms", "fps"),
    [
        ([35, 35, 30, 35, 30, 35, 35, 30] * 4, 30),
        ([40] * 10 + [9000] + [40] * 20, 25),
        ([33.367] * 40, 30000 / 1001),
        ([1000 / 7] * 30, 7),
        ([2000] * 5, 1),
        ([], 25),
    ],
)
def test_a_recording_takes_the_rate_at_which_frames_come(tmp_path, steps_ms, fps):
    path = tmp_path / "out.mp4"
    times_s = np.cumsum([3.0, *(step / 1000 for step in steps_ms)])
    with VideoSink(path) as sink:
        for time_s in times_s:
            sink.write(gray_frames([40])[0], time_s)
    capture = cv2.VideoCapture(str(path))
    assert capture.get(cv2.CAP_PROP_FPS) == pytest.approx(fps, rel=1e-3)
    assert sink.frames == pytest.approx((times_s[-1] - times_s[0]) * fps + 1, abs=1.5)


def test_a_recording_without_frames_leaves_nothing(tmp_path):
    with VideoSink(tmp_path / "out.mp4"):
        pass
    assert list(tmp_path.iterdir()) == []


def test_recordings_of_long_names_do_not_mix(tmp_path):
    """Both at once: the first 64 letters of their names are the same."""
    paths = [tmp_path / f"{'a' * 70}{number}.mp4" for number in (1, 2)]
    with VideoSink(paths[0], 30.0) as first, VideoSink(paths[1], 30.0) as second:
        for index in range(5):
            first.write(gray_frames([40])[0], index / 30)
            second.write(gray_frames([200])[0], index / 30)
    levels = np.array([read_levels(path) for path in paths])
    assert levels.shape == (2, 5)
    assert np.abs(levels - [[40], [200]]).max() < 6


def test_a_recording_that_is_being_written_is_not_written_twice(tmp_path):
    path = tmp_path / "out.mp4"
    refused = pytest.raises(OutputError, match="being written by another run")
    with VideoSink(path, 30.0) as sink:
        sink.write(gray_frames([40])[0], 0.0)
        with refused, VideoSink(path, 30.0):
            pass
    assert len(read_levels(path)) == 1
    assert [file.name for file in tmp_path.iterdir()] == ["out.mp4"]


def test_long_pauses_are_cut_in_recordings(tmp_path):
    with VideoSink(str(tmp_path / "out.mp4"), 2.0) as sink:
        for time_s in (0.0, 3600.0, 3600.5):
            sink.write(gray_frames([40])[0], time_s)
        assert sink.frames == 1 + 20 + 1


def test_frames_of_another_size_are_fitted(tmp_path):
    with VideoSink(tmp_path / "out.mp4", 30.0) as sink:
        sink.write(gray_frames([40])[0], 0.0)
        sink.write(gray_frames([40], (33, 21))[0], 1 / 30)
    assert len(read_levels(tmp_path / "out.mp4")) == 2


def test_recordings_are_not_overwritten_unless_forced(tmp_path):
    path = tmp_path / "out.mp4"
    path.write_text("mine")
    with pytest.raises(OutputError, match="give `force=True`"):
        VideoSink(path, 30.0)
    with VideoSink(path, 30.0, force=True) as sink:
        sink.write(gray_frames([40])[0], 0.0)
    assert len(read_levels(path)) == 1


def test_a_recording_that_cannot_be_written_is_an_error(tmp_path):
    with pytest.raises(OutputError, match=r"\.mp4"):
        VideoSink(tmp_path / "out.avi", 30.0)
    (tmp_path / "file").touch()
    refused = pytest.raises(OutputError, match="Cannot write")
    with refused, VideoSink(tmp_path / "file" / "out.mp4", 30.0) as sink:
        sink.write(gray_frames([40])[0], 0.0)


def test_a_recording_that_did_not_arrive_is_an_error(tmp_path):
    refused = pytest.raises(OutputError, match="0 of 1 frames arrived")
    with refused, VideoSink(tmp_path / "out.mp4", 30.0) as sink:
        sink.write(gray_frames([40])[0], 0.0)
        sink._writer.release()
        sink._temporary.write_bytes(b"")
    assert list(tmp_path.iterdir()) == []
