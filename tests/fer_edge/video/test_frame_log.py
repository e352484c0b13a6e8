import csv
import json

import pytest

from fer_edge.errors import OutputError
from fer_edge.video.frame_log import FrameLog
from fer_edge.video.watch import error_record

LABELS = ("happy", "=sad")
FACE = {
    "track": 3,
    "box": [1, 2, 30, 40],
    "detector_score": None,
    "emotion": "happy",
    "confidence": 0.75,
    "probabilities": {"happy": 0.75, "=sad": 0.25},
}


def record(*faces):
    return {
        "frame": 7,
        "time_s": 0.25,
        "width": 64,
        "height": 48,
        "status": "ok" if faces else "no_face",
        "error": None,
        "faces": list(faces),
    }


def test_jsonl_is_there_line_by_line(tmp_path):
    path = tmp_path / "folder" / "log.jsonl"
    with FrameLog(path, "jsonl", LABELS) as log:
        log.write(record(FACE))
        assert json.loads(path.read_text()) == record(FACE)
        log.write(record())
        assert path.read_text().count("\n") == 2


def test_csv_has_a_row_for_each_face(tmp_path):
    path = tmp_path / "log.csv"
    with FrameLog(path, "csv", LABELS) as log:
        log.write(record(FACE, FACE))
        log.write(record())
        log.write(error_record("=cut off"))
    rows = list(csv.DictReader(path.open(newline="")))
    assert [row["status"] for row in rows] == ["ok", "ok", "no_face", "error"]
    assert rows[0]["track"] == "3"
    assert (rows[0]["x"], rows[0]["y"], rows[0]["w"], rows[0]["h"]) == ("1", "2", "30", "40")
    assert (rows[0]["happy"], rows[0]["'=sad"]) == ("0.75", "0.25")
    assert rows[3]["error"] == "'=cut off"


def test_without_a_file_records_go_to_stdout(capfdbinary):
    with FrameLog(None, "jsonl", LABELS) as log:
        log.write(record())
    assert json.loads(capfdbinary.readouterr().out) == record()


def test_an_existing_log_is_kept_unless_forced(tmp_path):
    path = tmp_path / "log.jsonl"
    path.write_text("mine\n")
    with pytest.raises(OutputError, match="give `force=True`"):
        FrameLog(path, "jsonl", LABELS)
    with FrameLog(path, "jsonl", LABELS, force=True):
        pass
    assert path.read_text() == ""


def test_a_folder_that_cannot_be_made_is_an_error(tmp_path):
    (tmp_path / "blocked").write_text("")
    with pytest.raises(OutputError, match="Cannot write"):
        FrameLog(tmp_path / "blocked" / "log.jsonl", "jsonl", LABELS).__enter__()


def test_csv_rows_are_all_as_wide(tmp_path):
    path = tmp_path / "log.csv"
    with FrameLog(path, "csv", LABELS) as log:
        for line in (record(FACE), record(), error_record("gone")):
            log.write(line)
    assert {len(row) for row in csv.reader(path.open(newline=""))} == {6 + 8 + len(LABELS)}
