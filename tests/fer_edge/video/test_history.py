import numpy as np
import pytest

from fer_edge.contract import EMOTIONS
from fer_edge.inference.classifier import FaceResult
from fer_edge.picture.draw import emotion_color
from fer_edge.video.history import BINS, MAX_TRACKS, History
from fer_edge.video.timeline import WIDTH, draw_timeline
from fer_edge.video.watch import WatchedFace


def face(track, emotion, label=None):
    probabilities = {name: float(name == emotion) for name in EMOTIONS}
    return WatchedFace(track, FaceResult((0, 0, 9, 9), None, label or emotion, 1.0, probabilities))


def filled(steps, fps=10.0):
    history = History(EMOTIONS)
    for index, seen in enumerate(steps):
        history.add(5.0 + index / fps, seen)
    history.finish()
    return history


def test_the_summary_counts_seconds_and_shares_of_each_face():
    happy, sad = face(1, "happy"), face(1, "sad")
    steps = [[happy]] * 15 + [[sad, face(2, "fear", "uncertain")]] * 5 + [[]] * 10
    history = filled(steps)
    assert history.end_s == pytest.approx(3.0)
    assert history.summary() == [
        "face 1: 2.0 s: happy 1.5 s (75%), sad 0.5 s (25%)",
        "face 2: 0.5 s: uncertain 0.5 s (100%)",
    ]


def test_a_pause_of_the_source_is_not_put_down_to_a_face():
    history = History(EMOTIONS)
    for time_s in (0.0, 0.1, 60.0, 60.1):
        history.add(time_s, [face(1, "happy")])
    history.finish()
    assert history.tracks()[0].total_s == pytest.approx(0.1 + 1.0 + 0.1 + 0.1)


def test_a_history_does_not_grow_with_the_video():
    history = filled(([face(1, "happy")] if i % 2000 < 1000 else [] for i in range(20_000)), fps=5)
    assert history.bin_s * BINS >= 4000 > history.bin_s * BINS / 2
    shares = history.tracks()[0].shares()
    assert shares.shape == (BINS, 7)
    seen = ~np.isnan(shares[:, 0])
    assert seen[: int(4000 / history.bin_s)].mean() == pytest.approx(0.5, abs=0.02)
    assert history.tracks()[0].total_s == pytest.approx(2000, rel=0.01)


def test_many_faces_are_summed_up_and_those_seen_longest_kept():
    steps = [[face(0, "happy"), face(number, "sad")] for number in range(1, 501)]
    history = filled(steps)
    assert history.tracks()[0].track == 0
    assert len(history.tracks()) <= MAX_TRACKS
    assert history.others == 501 - len(history.tracks())
    assert history.summary()[-1] == f"{history.others} more faces: {history.other_s:.1f} s"
    total_s = history.other_s + sum(past.total_s for past in history.tracks())
    assert total_s == pytest.approx(100.0)


def test_an_empty_history_has_no_summary_and_a_timeline_that_says_so():
    history = filled([])
    assert history.summary() == []
    assert draw_timeline(history, "nothing").shape[1:] == (WIDTH, 3)


def test_the_timeline_shows_each_emotion_where_it_was():
    steps = (
        [[face(1, "happy")]] * 10 + [[face(1, "sad")]] * 10 + [[]] * 10 + [[face(1, "fear")]] * 10
    )
    picture = draw_timeline(filled(steps), "clip.mp4")
    middle = picture[180]
    columns = [70 + round(1180 * share) for share in (0.12, 0.37, 0.62, 0.88)]
    shown = [tuple(int(value) for value in middle[column]) for column in columns]
    expected = [emotion_color(name, EMOTIONS) for name in ("happy", "sad")]
    assert shown == [*expected, (244, 244, 244), emotion_color("fear", EMOTIONS)]


def test_the_timeline_stacks_probabilities_to_the_full_height():
    mixed = FaceResult((0, 0, 9, 9), None, "angry", 0.6, dict.fromkeys(EMOTIONS, 1 / 7))
    picture = draw_timeline(filled([[WatchedFace(1, mixed)]] * 20), "clip.mp4")
    # Below the title and the legend, whose width differs with OpenCV's letters.
    column = [tuple(int(value) for value in pixel) for pixel in picture[70:, 600]]
    for name in EMOTIONS:
        assert column.count(emotion_color(name, EMOTIONS)) == pytest.approx(150 / 7, abs=1.1)


def test_the_timeline_grows_with_the_faces():
    one = draw_timeline(filled([[face(1, "happy")]] * 5), "a")
    three = draw_timeline(filled([[face(n, "happy") for n in (1, 2, 3)]] * 5), "a")
    assert three.shape[0] > one.shape[0]
