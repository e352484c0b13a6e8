import csv
import errno
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from click.testing import CliRunner

from fer_edge.cli import main
from fer_edge.contract import EMOTIONS
from tests.support.models import level_of, save_brightness_model, save_sided_model

ROOT = Path(__file__).parents[3]
PORTRAIT = ROOT / "tests/data/portrait.jpg"


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A working folder with a model and three flat pictures."""
    monkeypatch.chdir(tmp_path)
    save_brightness_model(tmp_path / "tiny.onnx")
    (tmp_path / "in/deep").mkdir(parents=True)
    for name, emotion in (("b.png", "happy"), ("a.jpg", "sad"), ("deep/c.bmp", "fear")):
        picture = np.full((50, 40, 3), level_of(emotion), np.uint8)
        cv2.imwrite(str(tmp_path / "in" / name), picture)
    (tmp_path / "in/notes.txt").write_text("no picture")
    return tmp_path


def classify(*arguments, stdin=None, model="tiny.onnx"):
    command = ["classify", *map(str, arguments), "--model", model]
    return CliRunner().invoke(main, command, input=stdin)


def records(result):
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_mirror_answers_the_mean_of_both_views():
    save_sided_model(Path("sided.onnx"))
    view = np.random.default_rng(0).integers(0, 256, (48, 48, 3), np.uint8)
    cv2.imwrite("left.png", view)
    cv2.imwrite("right.png", view[:, ::-1])
    flags = ("left.png", "right.png", "--detector", "none", "--format", "jsonl")
    alone, both = (
        [
            np.array(list(record["faces"][0]["probabilities"].values()))
            for record in records(classify(*flags, *more, model="sided.onnx"))
        ]
        for more in ((), ("--mirror",))
    )
    assert np.abs(alone[0] - alone[1]).max() > 0.01
    for answers in both:
        np.testing.assert_allclose(answers, (alone[0] + alone[1]) / 2, atol=2e-6)


def test_each_picture_of_a_folder_has_a_record_in_order():
    result = classify("in", "--detector", "none", "--format", "jsonl")
    assert result.exit_code == 0, result.output
    assert [(record["image"], record["faces"][0]["emotion"]) for record in records(result)] == [
        (str(Path("in/a.jpg")), "sad"),
        (str(Path("in/b.png")), "happy"),
        (str(Path("in/deep/c.bmp")), "fear"),
    ]


def test_a_record_holds_picture_faces_and_how_they_were_read():
    (record,) = records(classify("in/a.jpg", "--detector", "none", "--format", "jsonl"))
    (face,) = record.pop("faces")
    assert record == {
        "image": "in/a.jpg",
        "width": 40,
        "height": 50,
        "status": "ok",
        "error": None,
        "model": "tiny.onnx",
        "mirror": False,
        "prior": 0.0,
    }
    probabilities = face.pop("probabilities")
    assert list(probabilities) == list(EMOTIONS)
    assert sum(probabilities.values()) == pytest.approx(1, abs=1e-5)
    assert face == {
        "box": [0, 0, 40, 50],
        "detector_score": None,
        "emotion": "sad",
        "confidence": probabilities["sad"],
    }


def test_a_real_face_is_found():
    result = classify(PORTRAIT, "--format", "jsonl")
    assert result.exit_code == 0, result.output
    (record,) = records(result)
    (face,) = record["faces"]
    left, top, width, height = face["box"]
    assert abs(left + width / 2 - 226) < 12 and abs(top + height / 2 - 114) < 12
    assert 70 < width < 120
    assert 0.5 <= face["detector_score"] <= 1


def test_no_face_is_a_status_of_its_own():
    result = classify("in/a.jpg", "--format", "jsonl")
    assert result.exit_code == 0
    (record,) = records(result)
    assert (record["status"], record["faces"], record["width"]) == ("no_face", [], 40)


def test_bad_pictures_are_reported_and_the_others_go_on(folder):
    (folder / "in/broken.png").write_bytes((folder / "in/b.png").read_bytes()[:60])
    (folder / "in/phone.heic").write_bytes(b"\0\0\0\x18ftypheic")
    (folder / "empty").mkdir()
    result = classify("in", "missing.png", "empty", "in/notes.txt", "-", "--detector", "none",
                      "--format", "jsonl", stdin=b"")  # fmt: skip
    assert result.exit_code == 1
    reasons = {
        "broken.png": "damaged",
        "phone.heic": "HEIC",
        "missing.png": "no such file",
        "empty": "folder with pictures",
        "notes.txt": "another kind",
        "-": "empty file",
    }
    good = {"a.jpg", "b.png", "c.bmp"}
    found = {Path(record["image"]).name: record for record in records(result)}
    assert set(found) == set(reasons) | good
    for name, record in found.items():
        if name in good:
            assert (record["status"], record["error"]) == ("ok", None)
        else:
            assert (record["status"], record["width"], record["faces"]) == ("error", None, [])
            assert reasons[name] in record["error"]
    assert result.stderr.splitlines()[-1] == "6 of 9 inputs failed; their records say why"


def test_reads_standard_input():
    result = classify("-", "--format", "jsonl", stdin=PORTRAIT.read_bytes())
    assert result.exit_code == 0
    assert records(result)[0]["image"] == "-"
    assert len(records(result)[0]["faces"]) == 1
    assert classify("-", "-", stdin=b"").exit_code == 2


def test_tables_are_for_people():
    result = classify(PORTRAIT, "in/a.jpg", "--top", "2")
    lines = result.stdout.splitlines()
    assert lines[0].split() == ["image", "box", "emotion"]
    assert lines[1].count("%") == 2
    assert lines[2].endswith("no face")


def test_csv_has_one_row_for_each_face():
    result = classify(PORTRAIT, "in/a.jpg", "missing.png", "--format", "csv")
    assert result.exit_code == 1
    rows = list(csv.DictReader(io.StringIO(result.stdout)))
    assert [row["status"] for row in rows] == ["ok", "no_face", "error"]
    assert float(rows[0]["confidence"]) == max(float(rows[0][label]) for label in EMOTIONS)
    assert rows[0]["model"] == "tiny.onnx"
    assert rows[0]["face"] == "0" and rows[1]["face"] == ""
    assert "no such file" in rows[2]["error"]


@pytest.mark.parametrize("name", ["=1+1.png", "-x.png", "@sum.png", "+a.png", "\t=a.png"])
def test_csv_cells_never_run_as_formulas(folder, name):
    (folder / "in/b.png").rename(folder / name)
    command = ["classify", "--format", "csv", "--detector", "none", "--model", "tiny.onnx", "--"]
    result = CliRunner().invoke(main, [*command, name])
    assert result.exit_code == 0, result.output
    (row,) = csv.DictReader(io.StringIO(result.stdout, newline=""))
    assert row["image"] == "'" + name


@pytest.mark.parametrize("name", ["é 笑顔 \u202e.png", "a" * 250 + ".png", "new\nline.png"])
@pytest.mark.parametrize("output_format", ["jsonl", "csv", "table"])
def test_any_name_will_do(folder, name, output_format):
    (folder / "in/b.png").rename(folder / name)
    result = classify(name, "--format", output_format, "--detector", "none", "--annotate", "drawn")
    assert result.exit_code == 0, result.output
    if output_format == "jsonl":
        assert records(result)[0]["image"] == name
    elif output_format == "csv":
        assert next(csv.DictReader(io.StringIO(result.stdout, newline="")))["image"] == name
    else:
        assert len(result.stdout.splitlines()) == 2
    assert (folder / "drawn" / name).is_file()


def test_names_that_are_no_text_or_too_long(folder):
    name = os.fsdecode(b"\xff.png")
    (folder / "in/b.png").rename(folder / "in" / name)
    (folder / "in" / os.fsdecode(b"\xfe.png")).write_bytes((folder / "in" / name).read_bytes())
    flags = ("--format", "jsonl", "--detector", "none", "--annotate", "drawn")
    result = classify("in", "x" * 5000, *flags)
    assert result.exit_code == 1
    assert len(list(Path("drawn").glob("*.png"))) == 2
    found = records(result)
    assert [record["status"] for record in found] == ["ok", "ok", "ok", "ok", "error"]
    assert "too long" in found[4]["error"]


def test_output_is_whole_and_never_replaced_by_chance(folder):
    target = folder / "new/out.jsonl"
    command = ["in", "--detector", "none", "--format", "jsonl", "--output", target]
    result = classify(*command)
    assert (result.exit_code, result.stdout) == (0, "")
    content = target.read_text()
    assert len(content.splitlines()) == 3
    target.write_text("kept")
    result = classify(*command)
    assert result.exit_code == 1
    assert "give --force" in result.stderr
    assert target.read_text() == "kept"
    assert classify(*command, "--force").exit_code == 0
    assert target.read_text() == content
    assert list(target.parent.iterdir()) == [target]


@pytest.mark.parametrize("name", ["x" * 300 + ".csv", "in/" + "y" * 300 + ".csv"])
def test_names_that_no_disk_takes_are_clear_errors(folder, name):
    for flag in ("--output", "--annotate"):
        result = classify("in", flag, name)
        assert result.exit_code == 1
        assert "name too long" in result.output


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs Linux's /dev/full")
@pytest.mark.parametrize("arguments", [("classify", "in"), ("info", "tiny.onnx"), ("doctor",)])
def test_a_full_disk_behind_stdout_is_a_clear_error(folder, arguments):
    command = [sys.executable, "-c", "from fer_edge.cli import main; main()", *arguments]
    command += ["--model", "tiny.onnx"] if arguments[0] == "classify" else []
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, timeout=120)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("Error: Cannot write the output: No space left")
    assert "Traceback" not in done.stderr
    assert "Exception ignored" not in done.stderr


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize(
    ("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)]
)
def test_signals_end_with_the_records_until_then(folder, number, code):
    os.mkfifo("ready")
    program = """
from pathlib import Path
from fer_edge import cli
from fer_edge.picture import batch as pictures
read, count = pictures.read_image, []
def slowly(source, **limits):
    count.append(source)
    if len(count) == 100:
        Path("ready").write_text("now")
    return read(source, **limits)
pictures.read_image = slowly
cli.main()
"""
    command = [sys.executable, "-c", program, "classify", *(["in/a.jpg"] * 20_000)]
    command += ["--model", "tiny.onnx", "--detector", "none", "--output", "out.jsonl"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    assert Path("ready").read_text() == "now"
    process.send_signal(number)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == code, messages
    lines = Path("out.jsonl").read_text().splitlines()
    assert f"Ended after {len(lines)} of 20000 inputs" in messages
    assert 0 < len(lines) < 20_000
    assert all(json.loads(line)["status"] == "ok" for line in lines)
    assert not list(folder.glob(".fer-edge-*"))


def test_ctrl_c_before_the_first_picture_has_its_own_status(monkeypatch):
    def interrupt(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr("fer_edge.picture.run.find_pictures", interrupt)
    result = classify("in", "--output", "out.csv")
    assert (result.exit_code, result.stderr) == (130, "Ended by Ctrl-C\n")
    assert not Path("out.csv").exists()


STUCK = """
import threading, time
from pathlib import Path
from fer_edge import cli
from fer_edge.picture import batch
read = batch.read_image
def stuck(source, **limits):
    if "stuck" in str(source):
        time.sleep(600)
    return read(source, **limits)
batch.read_image = stuck
cli.main()
"""


def start_with_one_that_hangs(*more):
    """Start on three pictures, the second of which never comes."""
    shutil.copy("in/a.jpg", "stuck.jpg")
    inputs = ["in/a.jpg", "stuck.jpg", "in/b.png"]
    command = [sys.executable, "-c", STUCK, "classify", *inputs, "--model", "tiny.onnx"]
    command += ["--detector", "none", "--threads", "2", *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(condition):
    for _ in range(1000):
        if condition():
            return
        time.sleep(0.05)
    pytest.fail("it never came")


def test_a_record_is_there_as_soon_as_it_is_known():
    process = start_with_one_that_hangs("--output", "out.jsonl")
    wait_for(lambda: Path("out.jsonl").exists() and Path("out.jsonl").read_text().endswith("\n"))
    assert json.loads(Path("out.jsonl").read_text())["image"] == "in/a.jpg"
    process.kill()
    process.communicate()
    process = start_with_one_that_hangs("--format", "jsonl")
    assert json.loads(process.stdout.readline())["image"] == "in/a.jpg"
    process.kill()
    process.communicate()


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
@pytest.mark.parametrize("ending", ["jsonl", "json", "csv"])
def test_signals_keep_all_that_is_done_without_waiting_for_the_rest(ending):
    """Also what stands behind the picture that hangs, and however often the signal comes."""
    process = start_with_one_that_hangs("--annotate", "drawn", "--output", f"out.{ending}")
    wait_for(lambda: Path("drawn/a.jpg").exists())
    time.sleep(0.5)
    for _ in range(3):
        process.send_signal(signal.SIGTERM)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 143, messages
    assert "Ended after 2 of 3 inputs" in messages
    text = Path(f"out.{ending}").read_text()
    assert text.count("in/a.jpg") == text.count("in/b.png") == 1
    assert "stuck" not in text
    if ending == "json":
        assert [one["status"] for one in json.loads(text)] == ["ok", "ok"]
    assert not list(Path().rglob(".fer-edge-*"))
    assert Path("drawn/b.png").exists()


def test_a_failure_in_the_middle_keeps_what_is_done(monkeypatch):
    from fer_edge.errors import ModelError
    from fer_edge.inference.classifier import Classifier

    run, count = Classifier._run, []

    def fail_at_second(self, batch):
        count.append(1)
        if len(count) > 1:
            raise ModelError("worn out")
        return run(self, batch)

    monkeypatch.setattr(Classifier, "_run", fail_at_second)
    result = classify("in", "--detector", "none", "--batch-size", "1", "-o", "out.json")
    assert result.exit_code == 1
    assert "worn out" in result.stderr
    assert [one["image"] for one in json.loads(Path("out.json").read_text())] == ["in/a.jpg"]


def test_a_failure_leaves_no_output(folder):
    (folder / "model.onnx").write_bytes(b"nothing")
    result = classify("in", "--output", "out.csv", model="model.onnx")
    assert result.exit_code == 1
    assert "Expected an ONNX model" in result.stderr
    assert not (folder / "out.csv").exists()


@pytest.mark.parametrize(
    ("output", "reason"),
    [
        ("in", "Expected a file to write, in is a folder"),
        ("tiny.onnx/out.csv", "Cannot write tiny.onnx/out.csv: "),
    ],
    ids=["folder", "below a file"],
)
def test_an_output_that_cannot_be_a_file_is_said(output, reason):
    result = classify("in", "--output", output)
    assert result.exit_code == 1
    assert reason in result.stderr


def test_annotated_pictures_keep_their_places(folder):
    (folder / "other").mkdir()
    (folder / "other/a.jpg").write_bytes(PORTRAIT.read_bytes())
    (folder / "in/moving.gif").write_bytes(
        b"GIF89a\x01\0\x01\0\x80\0\0\xff\xff\xff\0\0\0,\0\0\0\0\x01\0\x01\0\0\x02\x02D\x01\0;"
    )
    result = classify("in", "other/a.jpg", "missing.png", "--annotate", "drawn")
    assert result.exit_code == 1
    drawn = folder / "drawn"
    found = {file.relative_to(drawn).as_posix() for file in drawn.rglob("*") if file.is_file()}
    assert found == {"a.jpg", "a-2.jpg", "b.png", "deep/c.bmp", "moving.gif.png"}


def test_annotations_are_drawn_at_the_face_and_nowhere_else():
    assert classify(PORTRAIT, "--annotate", "drawn").exit_code == 0
    portrait, annotated = cv2.imread(str(PORTRAIT)), cv2.imread("drawn/portrait.jpg")
    assert annotated.shape == portrait.shape
    changed = np.abs(annotated.astype(int) - portrait).max(axis=2) > 60
    assert changed[170:200, 170:330].mean() > 0.25
    assert changed[300:].mean() < 0.01


def test_annotated_pictures_are_replaced_when_forced_alone():
    command = ["in/a.jpg", "--detector", "none", "--annotate", "drawn"]
    assert classify(*command).exit_code == 0
    Path("drawn/a.jpg").write_bytes(b"mine")
    result = classify(*command)
    assert result.exit_code == 1
    assert "give --force" in result.stderr
    assert Path("drawn/a.jpg").read_bytes() == b"mine"
    assert classify(*command, "--force").exit_code == 0
    # Small pictures are drawn larger, so that labels can be read.
    assert cv2.imread("drawn/a.jpg").shape == (8 * 50, 8 * 40, 3)


def test_a_picture_is_never_replaced_by_its_annotated_self(folder):
    before = (folder / "in/a.jpg").read_bytes()
    result = classify("in/a.jpg", "--annotate", "in", "--force")
    assert result.exit_code == 1
    assert "in/a.jpg is what is read" in result.stderr
    assert (folder / "in/a.jpg").read_bytes() == before


def test_no_picture_is_replaced_whatever_is_forced(folder):
    """Neither by the annotated form of another one, nor by the records, nor through a link."""
    shutil.copytree(folder / "in", folder / "kept")
    (folder / "other").mkdir()
    shutil.copy(folder / "in/b.png", folder / "other/a.jpg")
    (folder / "link.csv").symlink_to(folder / "in/a.jpg")
    for extra in (
        ("other/a.jpg", "--annotate", "in"),
        ("--output", "in/a.jpg", "--format", "csv"),
        ("--output", "link.csv"),
    ):
        result = classify("in", *extra, "--force", "--detector", "none")
        assert result.exit_code == 1
        assert "is what is read; give another file or folder" in result.stderr
    before, after = (
        {path.relative_to(top): path.read_bytes() for path in top.rglob("*.*")}
        for top in (folder / "kept", folder / "in")
    )
    assert len(before) == 4
    assert after == before


def test_pictures_given_twice_or_too_large_to_be_drawn_do_not_end_the_run(folder):
    cv2.imwrite("wide.png", np.full((2, 16400), 90, np.uint8))
    Path("wide.png").rename("wide.webp")
    result = classify("in/a.jpg", "wide.webp", "in/a.jpg", "--detector", "none",
                      "--format", "jsonl", "--annotate", "drawn")  # fmt: skip
    assert result.exit_code == 1
    first, wide, again = records(result)
    assert (first["status"], wide["status"], again["status"]) == ("ok", "error", "ok")
    assert "not drawn: 16400 x 2 pixels do not fit into a .webp file" in wide["error"]
    assert len(wide["faces"]) == 1
    assert [path.name for path in Path("drawn").iterdir()] == ["a.jpg"]


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names")
def test_a_pipe_is_read_and_a_device_stays_one():
    os.mkfifo("pipe")
    feed = threading.Thread(target=lambda: Path("pipe").write_bytes(PORTRAIT.read_bytes()))
    feed.start()
    result = classify("pipe", "--format", "jsonl", "--annotate", "drawn", "--output", os.devnull)
    feed.join()
    assert result.exit_code == 0, result.output
    assert cv2.imread("drawn/pipe.png").shape == cv2.imread(str(PORTRAIT)).shape
    assert Path(os.devnull).is_char_device()


@pytest.mark.skipif(sys.platform == "win32", reason="needs pipes with names")
def test_a_pipe_takes_the_records():
    os.mkfifo("pipe")
    texts = []
    drain = threading.Thread(target=lambda: texts.append(Path("pipe").read_text()))
    drain.start()
    assert classify("in", "--detector", "none", "--output", "pipe").exit_code == 0
    drain.join()
    assert len(texts[0].splitlines()) == 4


def test_links_are_written_through(folder):
    (folder / "target.csv").write_text("old")
    (folder / "link.csv").symlink_to("target.csv")
    assert classify("in", "--output", "link.csv").exit_code == 1
    assert classify("in", "--output", "link.csv", "--force").exit_code == 0
    assert (folder / "link.csv").is_symlink()
    assert (folder / "target.csv").read_text().startswith("image,width")


def test_a_link_to_itself_is_a_clear_error(folder):
    (folder / "loop.csv").symlink_to("loop.csv")
    result = classify("in", "--output", "loop.csv", "--detector", "none")
    assert result.exit_code == 1
    assert result.stderr == "Error: Cannot write loop.csv: File exists\n"


def test_the_ending_of_the_output_tells_its_format(folder):
    starts = {"csv": "image,width,", "jsonl": '{"image": ', "ndjson": '{"image": ', "json": "[\n{"}
    for ending, start in starts.items():
        for name in (f"a.{ending}", f"B.{ending.upper()}"):
            assert classify("in", "--detector", "none", "--output", name).exit_code == 0
            assert Path(name).read_text().startswith(start)
    assert [one["image"] for one in json.loads(Path("a.json").read_text())] == [
        str(Path("in", name)) for name in ("a.jpg", "b.png", "deep/c.bmp")
    ]


def test_a_format_that_is_given_wins_over_the_ending():
    assert classify("in", "--output", "b.csv", "--format", "jsonl").exit_code == 0
    assert Path("b.csv").read_text().startswith("{")


def test_an_output_of_a_hyphen_is_standard_output():
    result = classify("in", "--detector", "none", "--output", "-")
    assert result.stdout.startswith("image  ")
    assert not Path("-").exists()


@pytest.mark.parametrize("name", ["r.txt", "r.xlsx", "r", "r.jsonlines", "r.csv.gz"])
def test_other_endings_are_refused_before_any_work(name, monkeypatch):
    monkeypatch.setattr("fer_edge.inference.classifier.Classifier", None)
    result = classify("in", "--output", name)
    assert result.exit_code == 2
    assert (
        f"Expected a name that ends in .json, .jsonl, .ndjson, .csv, .parquet, received {name}"
        in (result.stderr)
    )
    assert not Path(name).exists()


def test_parquet_holds_the_rows_of_csv():
    parquet = pytest.importorskip("pyarrow.parquet")
    assert classify(PORTRAIT, "in/a.jpg", "none.png", "-o", "r.parquet").exit_code == 1
    assert classify(PORTRAIT, "in/a.jpg", "none.png", "-o", "r.csv").exit_code == 1
    table = parquet.read_table("r.parquet")
    rows = list(csv.DictReader(Path("r.csv").read_text().splitlines()))
    assert table.column_names == list(rows[0])
    assert [str("" if cell is None else cell) for cell in table["x"].to_pylist()] == [
        row["x"] for row in rows
    ]
    assert table["happy"].to_pylist()[0] == float(rows[0]["happy"])
    assert table["status"].to_pylist() == ["ok", "no_face", "error"]


def test_parquet_without_its_package_is_refused_before_any_work(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("fer_edge.inference.classifier.Classifier", None)
    result = classify("in", "--output", "r.parquet")
    assert result.exit_code == 1
    assert "pip install 'fer-edge[tables]'" in result.stderr
    assert classify("in", "--format", "parquet").exit_code == 2


def test_folders_that_cannot_be_searched_are_said(folder, monkeypatch):
    scan = os.scandir

    def closed(place):
        if Path(place).name == "deep":
            raise PermissionError(errno.EACCES, "Permission denied", str(place))
        return scan(place)

    (folder / "in/drawing.svg").write_text("<svg/>")
    (folder / "in/scan.ppm").write_bytes(b"P6 1 1 255 abc")
    monkeypatch.setattr("fer_edge.picture.find.os.scandir", closed)
    result = classify("in", "--detector", "none", "--format", "jsonl")
    assert result.exit_code == 1
    found = {Path(record["image"]).name: record["error"] for record in records(result)}
    assert found["a.jpg"] is found["scan.ppm"] is None
    assert "SVG" in found["drawing.svg"]
    assert "Permission denied" in found["deep"]


def test_small_faces_of_large_pictures_are_found_when_asked_for(folder):
    portrait = cv2.imread(str(PORTRAIT))
    wide = np.full((2000, 3000, 3), 128, np.uint8)
    wide[700 : 700 + 160, 1200 : 1200 + 160] = cv2.resize(
        portrait, (160, 160), interpolation=cv2.INTER_AREA
    )
    cv2.imwrite("wide.jpg", wide)
    assert records(classify("wide.jpg", "--format", "jsonl"))[0]["faces"] == []
    (record,) = records(classify("wide.jpg", "--format", "jsonl", "--min-face", "24"))
    (face,) = record["faces"]
    assert abs(face["box"][0] + face["box"][2] / 2 - (1200 + 226 * 160 / 512)) < 6


def test_two_faces_or_the_largest(folder):
    portrait = cv2.imread(str(PORTRAIT))
    small = cv2.resize(portrait, None, fx=0.6, fy=0.6, interpolation=cv2.INTER_AREA)
    pair = np.full((512, 512 + small.shape[1], 3), 128, np.uint8)
    pair[:, :512] = portrait
    pair[: small.shape[0], 512:] = small
    cv2.imwrite("pair.png", pair)
    (record,) = records(classify("pair.png", "--format", "jsonl"))
    widths = [face["box"][2] for face in record["faces"]]
    assert len(widths) == 2
    assert widths[0] > widths[1]
    (record,) = records(classify("pair.png", "--format", "jsonl", "--largest"))
    assert [face["box"][2] for face in record["faces"]] == widths[:1]
    (record,) = records(classify("pair.png", "--format", "jsonl", "--min-face", "80"))
    assert [face["box"][2] for face in record["faces"]] == widths[:1]


def test_the_int8_file_stands_in_and_says_so(folder):
    (folder / "exported").mkdir()
    (folder / "tiny.onnx").rename(folder / "exported/vgg16.int8.onnx")
    result = classify("in/a.jpg", "--format", "jsonl", model="vgg16.onnx")
    assert result.exit_code == 0
    assert records(result)[0]["model"] == "vgg16.int8.onnx"
    assert "There is no vgg16.onnx here" in result.stderr
    result = classify("in/a.jpg", model="nothing.onnx")
    assert result.exit_code == 1
    assert "Expected a model named nothing.onnx" in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["in", "--format", "xml"],
        ["in", "--top", "0"],
        ["in", "--batch-size", "0"],
        ["in", "--threads", "0"],
        ["in", "--margin", "-1"],
        ["in", "--uncertain", "2"],
        ["in", "--provider", "tpu"],
        ["in", "--detector", "dlib"],
        ["in", "--detector", "haar", "--detector-model", "x.onnx"],
        ["in", "--detector", "yunet"],
        ["in", "--labels", "a,a"],
        ["in", "--labels", "a,,b"],
        ["in", "--no-such-flag"],
        ["in", "--resume"],
        ["in", "--resume", "--output", "r.json"],
        ["in/a.jpg", "--watch"],
    ],
)
def test_wrong_usage_is_exit_2(arguments):
    assert classify(*arguments).exit_code == 2


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        ("missing.onnx", "found none at missing.onnx"),
        ("tiny.onnx", "YuNet"),
        ("bad.onnx", "Expected"),
    ],
)
def test_detectors_that_cannot_work_are_errors(folder, model, reason):
    (folder / "bad.onnx").write_bytes(b"no network")
    result = classify("in", "--detector", "yunet", "--detector-model", model)
    assert result.exit_code == 1
    (message,) = result.stderr.splitlines()
    assert message.startswith("Error: ")
    assert reason in message


def test_as_a_process():
    """The whole thing once as users run it: pipes, exit codes, nothing but records on stdout."""
    command = [sys.executable, "-c", "from fer_edge.cli import main; main()", "classify"]
    command += ["-", "in", "--model", "tiny.onnx", "--format", "jsonl", "--threads", "1"]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONIOENCODING": "ascii"}
    done = subprocess.run(
        command, input=PORTRAIT.read_bytes(), capture_output=True, env=environment, timeout=120
    )
    assert done.returncode == 0, done.stderr
    assert len(done.stdout.splitlines()) == 4
    assert json.loads(done.stdout.splitlines()[0])["status"] == "ok"
    summary, hint = done.stderr.decode().splitlines()
    assert summary == "4 pictures, 1 face (happy 1), 3 without a face"
    assert hint.startswith("No face was found in 3 of 4 pictures; try --min-face")
    quiet = subprocess.run(
        [*command, "--quiet"], input=PORTRAIT.read_bytes(), capture_output=True, env=environment
    )
    assert (quiet.stdout, quiet.stderr) == (done.stdout, b"")


def test_damaged_pictures_are_classified_and_said(folder):
    whole = PORTRAIT.read_bytes()
    noise = np.random.default_rng(0).bytes(2000)
    (folder / "damaged.jpg").write_bytes(whole[:20000] + noise + whole[22000:])
    (folder / "dropped.jpg").write_bytes(whole[:20000] + whole[24000:])
    (folder / "padded.jpg").write_bytes(whole[:-2] + b"\0\0" + whole[-2:])
    names = ["damaged.jpg", PORTRAIT, "dropped.jpg", "padded.jpg"] * 3
    result = classify(*names, "--format", "jsonl", "--annotate", "drawn")
    assert result.exit_code == 1
    found = records(result)
    assert [record["status"] for record in found] == ["error", "ok", "error", "ok"] * 3
    assert "the picture is damaged" in found[0]["error"]
    assert found[1]["error"] is found[3]["error"] is None
    assert len(found[1]["faces"]) == len(found[3]["faces"]) == 1
    assert Path("drawn/damaged.jpg").exists()


def test_what_macos_leaves_beside_pictures_is_passed_over(folder):
    (folder / "in/__MACOSX").mkdir()
    for name in ("._a.jpg", "__MACOSX/a.jpg", "__MACOSX/._a.jpg"):
        (folder / "in" / name).write_bytes(b"\0\5\x16\7\0\2\0\0Mac OS X")
    shutil.copy(PORTRAIT, folder / "in/3d.mpo")
    result = classify("in", "--detector", "none", "--format", "jsonl")
    assert result.exit_code == 0
    names = [Path(record["image"]).name for record in records(result)]
    assert names == ["3d.mpo", "a.jpg", "b.png", "c.bmp"]
    assert "AppleDouble" in classify("in/._a.jpg").stdout


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_linked_folders_are_followed_each_but_once(folder):
    (folder / "other/more").mkdir(parents=True)
    shutil.copy(PORTRAIT, folder / "other/more/x.jpg")
    (folder / "in/a-link").symlink_to(folder / "other")
    (folder / "in/again").symlink_to(folder / "other/more")
    (folder / "in/circle").symlink_to(folder / "in")
    (folder / "other/back").symlink_to(folder / "in")
    (folder / "in/aa").symlink_to("deep")
    (folder / "in/self").symlink_to("self")
    (folder / "in/gone.jpg").symlink_to("nowhere")
    result = classify("in", "--detector", "none", "--format", "jsonl")
    found = {record["image"]: record["status"] for record in records(result)}
    expected = ["a-link/more/x.jpg", "a.jpg", "b.png", "deep/c.bmp"]
    assert found == {f"in/{name}": "ok" for name in expected} | {"in/gone.jpg": "error"}


def test_the_end_tells_what_was_found_and_what_to_try(folder):
    result = classify("in", PORTRAIT, "missing.png")
    summary, hint, failed = result.stderr.splitlines()
    assert summary == "5 pictures, 1 face (happy 1), 3 without a face, 1 failed"
    assert hint.startswith("No face was found in 3 of 5 pictures; try --min-face PIXELS")
    assert failed == "1 of 5 inputs failed; their records say why"
    assert classify(PORTRAIT).stderr == ""
    assert classify("in", "--quiet").stderr == ""


def test_each_face_is_saved_on_its_own(folder):
    shutil.copy(PORTRAIT, "in/deep/p.jpg")
    assert classify("in", "--crops", "faces", "--margin", "0.1").exit_code == 0
    (crop,) = (path for path in Path("faces").rglob("*") if path.is_file())
    assert crop == Path("faces/deep/p-face0.jpg")
    assert cv2.imread(str(crop)).shape == (146, 146, 3)
    result = classify("in", "--crops", "faces")
    assert result.exit_code == 1
    assert "faces/deep/p-face0.jpg is there already; give --force" in result.stderr


@pytest.fixture(params=["jsonl", "csv"])
def log(request):
    """The records of a run that ended, of which another goes on."""
    path = Path(f"r.{request.param}")
    assert resume(path, again=False).exit_code == 0
    return path


def resume(path, *, model="tiny.onnx", again=True):
    flags = ["--detector", "none", "--annotate", "drawn", "-o", path]
    return classify("in", *flags, *(["--resume"] if again else []), model=model)


def test_a_run_that_crashed_is_resumed_to_the_same_records(log):
    whole = log.read_text()
    lines = whole.splitlines(keepends=True)
    # The crash has cut the second record, behind which its picture was drawn already.
    first = 2 if log.suffix == ".csv" else 1
    log.write_text("".join(lines[:first]) + lines[first][:20])
    assert resume(log, again=False).exit_code == 1
    result = resume(log)
    assert result.exit_code == 0, result.output
    assert log.read_text() == whole
    assert result.stderr.splitlines() == [
        f"1 of 3 inputs have a record in {log}",
        "2 pictures, 2 faces (happy 1, fear 1)",
    ]


def test_a_run_that_ended_is_left_as_it_is(log):
    whole = log.read_text()
    result = resume(log)
    assert (result.exit_code, log.read_text()) == (0, whole)
    assert result.stderr.startswith(f"3 of 3 inputs have a record in {log}\n")


def test_records_of_another_model_are_not_resumed(log):
    whole = log.read_text()
    Path("tiny.onnx").rename("other.onnx")
    result = resume(log, model="other.onnx")
    assert result.exit_code == 1
    assert "Expected records of other.onnx" in result.stderr
    assert log.read_text() == whole


def test_what_holds_no_records_is_not_resumed(log):
    log.write_text("something else\n")
    result = resume(log)
    assert result.exit_code == 1
    assert result.stderr.startswith("Error: Expected ")
    assert log.read_text() == "something else\n"


@pytest.mark.parametrize("ending", ["jsonl", "csv"])
def test_names_that_csv_changes_are_known_again(ending):
    names = ["-x.png", "'y.png"]
    for name in names:
        shutil.copy("in/b.png", name)
    command = ["classify", "--detector", "none", "-o", f"odd.{ending}", "--model", "tiny.onnx"]
    for more in ([], ["--resume"]):
        found = CliRunner().invoke(main, [*command, *more, "--", *names])
        assert found.exit_code == 0, found.output
    assert Path(f"odd.{ending}").read_text().count(".png") == 2


@pytest.mark.skipif(sys.platform == "win32", reason="needs signals")
def test_a_folder_that_fills_is_watched(folder):
    command = [sys.executable, "-c", "from fer_edge.cli import main; main()", "classify", "in"]
    command += ["--watch", "--model", "tiny.onnx", "--detector", "none", "-o", "in/out.jsonl"]
    process = subprocess.Popen(
        [*command, "--annotate", "in/drawn"], stderr=subprocess.PIPE, text=True
    )
    log = folder / "in/out.jsonl"
    wait_for(lambda: log.exists() and log.read_text().count("\n") == 3)
    shutil.copy(PORTRAIT, "in/deep/new.jpg")
    wait_for(lambda: log.read_text().count("\n") == 4)
    process.send_signal(signal.SIGINT)
    _, messages = process.communicate(timeout=60)
    assert process.returncode == 130, messages
    assert "4 pictures, 4 faces" in messages
    assert json.loads(log.read_text().splitlines()[3])["image"] == "in/deep/new.jpg"
    assert Path("in/drawn/deep/new.jpg").exists()
