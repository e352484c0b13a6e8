import math

import numpy as np
import pytest

from fer_edge.inference.detectors import Face, open_detector
from fer_edge.video.tracking import FaceTracker, Smoother, overlap
from tests.support.clips import portrait_frames


class ScriptedDetector:
    """Answers with what the script says for each call, then with nothing."""

    def __init__(self, *script):
        self.script = list(script)
        self.calls = 0

    def detect(self, frame_bgr):
        self.calls += 1
        return self.script.pop(0) if self.script else []


def faces(*boxes):
    return [Face(box, None) for box in boxes]


def run(tracker, frames, fps=30.0):
    return [tracker.update(frame, index / fps) for index, frame in enumerate(frames)]


def test_a_moving_face_is_followed_between_detections():
    frames = portrait_frames(31)
    detector = open_detector("face")
    tracker = FaceTracker(detector, detect_every=10)
    results = run(tracker, frames)
    assert tracker.detections == 4
    assert {tuple(item.track for item in found) for found in results} == {(1,)}
    for frame, found in zip(frames, results, strict=True):
        largest = detector.detect(frame)[0]
        assert overlap(found[0].face.box, largest.box) > 0.75


def test_points_go_with_the_face():
    frames = portrait_frames(10)
    box = (10, 30, 180, 180)
    detector = ScriptedDetector([Face(box, None, ((70.5, 100), (130, 100)))])
    tracker = FaceTracker(detector, detect_every=100)
    (last,) = run(tracker, frames)[-1]
    dx, dy = last.face.box[0] - box[0], last.face.box[1] - box[1]
    assert dx == pytest.approx(18, abs=3)
    assert last.face.points == ((70.5 + dx, 100 + dy), (130 + dx, 100 + dy))


def test_a_scene_cut_is_detected_in_the_same_frame():
    frames = portrait_frames(4)
    mirrored = [np.ascontiguousarray(frame[:, ::-1]) for frame in portrait_frames(4)]
    tracker = FaceTracker(open_detector("face"), detect_every=100)
    results = run(tracker, frames + mirrored)
    assert tracker.detections == 2
    assert overlap(results[4][0].face.box, results[3][0].face.box) < 0.5


def test_a_face_that_is_covered_is_no_longer_reported():
    frames = portrait_frames(3)
    tracker = FaceTracker(open_detector("face"), detect_every=100)
    results = run(tracker, [*frames, np.zeros_like(frames[0]), frames[2]])
    assert [len(found) for found in results] == [1, 1, 1, 0, 1]
    # It is back within a second, where it was: the same face.
    assert results[4][0].track == 1


def test_a_smaller_picture_is_another_scene():
    """Boxes of the large one may not fit into it."""
    large = np.full((900, 1200, 3), 90, np.uint8)
    small = portrait_frames(1)[0]
    detector = ScriptedDetector(faces((900, 500, 200, 200)), faces((10, 30, 180, 180)))
    tracker = FaceTracker(detector, detect_every=100)
    results = run(tracker, [large, small, small])
    assert [[item.track for item in found] for found in results] == [[1], [2], [2]]
    assert results[1][0].face.box == (10, 30, 180, 180)


def test_what_is_forgotten_gets_new_numbers():
    frame = portrait_frames(1)[0]
    detector = ScriptedDetector(*[faces((10, 30, 180, 180))] * 2)
    tracker = FaceTracker(detector, detect_every=100)
    tracker.update(frame, 0.0)
    tracker.forget()
    assert [item.track for item in tracker.update(frame, 0.1)] == [2]


def test_without_a_known_face_every_frame_is_detected():
    detector = ScriptedDetector()
    run(FaceTracker(detector, detect_every=10), portrait_frames(5))
    assert detector.calls == 5


def test_detect_every_1_reports_detections_alone():
    box, moved = (20, 20, 50, 50), (24, 20, 50, 50)
    detector = ScriptedDetector(faces(box), faces(), faces(moved), faces(moved, (200, 150, 60, 60)))
    results = run(FaceTracker(detector, detect_every=1), portrait_frames(4))
    assert [[(item.track, item.face.box) for item in found] for found in results] == [
        [(1, box)],
        [],
        [(1, moved)],
        [(2, (200, 150, 60, 60)), (1, moved)],
    ]


def test_a_face_gone_for_long_gets_a_new_number():
    box = (20, 20, 50, 50)
    detector = ScriptedDetector(faces(box), faces(), faces(), faces(box))
    tracker = FaceTracker(detector, detect_every=1)
    times_s = (0.0, 0.5, 1.2, 1.3)
    found = [tracker.update(portrait_frames(1)[0], time_s) for time_s in times_s]
    assert [[item.track for item in items] for items in found] == [[1], [], [], [2]]


def test_one_missed_detection_does_not_lose_a_face_that_is_followed_surely():
    frame = portrait_frames(1)[0]
    box = open_detector("face").detect(frame)[0].box
    detector = ScriptedDetector(faces(box), faces(), faces(box))
    tracker = FaceTracker(detector, detect_every=2)
    results = run(tracker, [frame] * 4)
    assert [len(found) for found in results] == [1, 1, 1, 1]
    assert detector.calls == 3
    detector = ScriptedDetector(faces(box))
    results = run(FaceTracker(detector, detect_every=2), [frame] * 5)
    assert [len(found) for found in results] == [1, 1, 1, 0, 0]


def test_faces_keep_their_numbers_when_they_pass_each_other():
    steps = [((10 + 5 * i, 10, 40, 40), (60 - 2 * i, 40, 40, 40)) for i in range(6)]
    # The order of detections says nothing of who is who.
    script = [faces(*boxes[:: 1 if index % 2 else -1]) for index, boxes in enumerate(steps)]
    results = run(FaceTracker(ScriptedDetector(*script), detect_every=1), portrait_frames(6))
    numbers = {item.face.box: item.track for item in results[0]}
    first, second = (numbers[box] for box in steps[0])
    for boxes, found in zip(steps, results, strict=True):
        assert {item.track: item.face.box for item in found} == {first: boxes[0], second: boxes[1]}


def test_detections_made_ahead_are_used():
    frames = portrait_frames(5)
    detector = ScriptedDetector(*[faces((20, 20, 50, 50))] * 5)
    tracker = FaceTracker(detector, detect_every=1)
    for position, frame in enumerate(frames):
        ahead = tracker.look_ahead(position, frame)
        assert len(tracker.update(frame, position / 30, ahead)) == 1
    assert detector.calls == 5


def test_a_tracker_detects_at_least_sometimes():
    with pytest.raises(ValueError, match="detect_every"):
        FaceTracker(ScriptedDetector(), detect_every=0)


def test_overlap_is_shared_area_over_joint_area():
    assert overlap((0, 0, 10, 10), (0, 0, 10, 10)) == 1
    assert overlap((0, 0, 10, 10), (5, 0, 10, 10)) == pytest.approx(50 / 150)
    assert overlap((0, 0, 10, 10), (10, 0, 10, 10)) == 0


@pytest.mark.parametrize("fps", [5, 30, 120])
def test_smoothing_follows_a_step_by_63_percent_after_its_time_at_any_rate(fps):
    smoother = Smoother(0.5)
    before, after = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    smoother.update(1, 0.0, before)
    for step in range(1, fps // 2 + 1):
        smooth = smoother.update(1, step / fps, after)
    expected = 1 - math.exp(-(fps // 2) / fps / 0.5)
    assert smooth[1] == pytest.approx(expected, abs=1e-4)
    assert smooth.sum() == pytest.approx(1)


def test_smoothing_keeps_faces_apart_and_forgets_them():
    smoother = Smoother(0.1)
    first, second = np.array([1, 0], np.float32), np.array([0, 1], np.float32)
    smoother.update(1, 0.0, first)
    assert smoother.update(2, 0.01, second).tolist() == [0, 1]
    for track in range(3, 1000):
        smoother.update(track, track * 0.1, first)
    assert len(smoother._state) < 30


def test_no_smoothing_changes_nothing():
    smoother = Smoother(0.0)
    row = np.array([0.3, 0.7], np.float32)
    smoother.update(1, 0.0, np.array([1, 0], np.float32))
    assert smoother.update(1, 0.01, row) is row
