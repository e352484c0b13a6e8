import os
import subprocess
import sys
import time

import pytest

from fer_edge._base.files import GrowingFile, atomic_file, atomic_path
from fer_edge.errors import OutputError


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_file_appears_whole_at_the_end(tmp_path):
    path = tmp_path / "folder" / "out.txt"
    with atomic_file(path) as file:
        file.write(b"all of it")
        assert not path.exists()
    assert path.read_bytes() == b"all of it"
    assert names(path.parent) == ["out.txt"]


def test_a_file_that_failed_does_not_appear(tmp_path):
    path = tmp_path / "out.txt"
    with pytest.raises(RuntimeError), atomic_file(path) as file:
        file.write(b"half")
        raise RuntimeError
    assert names(tmp_path) == []


def test_programs_that_write_by_name_get_a_name_with_the_right_end(tmp_path):
    path = tmp_path / "out.mp4"
    with atomic_path(path, suffix=".mp4") as temporary:
        assert temporary.parent == tmp_path
        assert temporary.suffix == ".mp4"
        temporary.write_bytes(b"film")
    assert path.read_bytes() == b"film"
    with atomic_path(tmp_path / "none.mp4") as temporary:
        temporary.unlink()
    assert names(tmp_path) == ["out.mp4"]


def test_the_second_to_write_a_file_is_refused_before_the_first_is_done(tmp_path):
    path = tmp_path / "out.txt"
    refused = pytest.raises(OutputError, match="being written by another run")
    with atomic_file(path) as first:
        with refused, atomic_file(path):
            pass
        with atomic_file(tmp_path / "other.txt") as other:
            other.write(b"other")
        first.write(b"first")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["other.txt", "out.txt"]
    with pytest.raises(OutputError, match="give `force=True`"), atomic_file(path):
        pass


def test_who_is_forced_writes_in_any_case(tmp_path):
    path = tmp_path / "out.txt"
    with atomic_file(path, force=True) as first:
        first.write(b"first")
        with atomic_file(path, force=True) as second:
            second.write(b"second")
    assert path.read_bytes() == b"first"
    assert names(tmp_path) == ["out.txt"]


def test_what_came_into_being_meanwhile_is_kept_and_so_is_the_result(tmp_path):
    path = tmp_path / "out.txt"
    with pytest.raises(OutputError, match="meanwhile") as told, atomic_file(path) as file:
        file.write(b"hours of work")
        path.write_bytes(b"somebody else's")
    assert path.read_bytes() == b"somebody else's"
    (other,) = set(tmp_path.iterdir()) - {path}
    assert str(other) in told.value.message
    assert other.read_bytes() == b"hours of work"


def test_a_program_that_was_killed_reserves_nothing(tmp_path):
    path = tmp_path / "out.txt"
    program = (
        "import sys, time; from pathlib import Path; from fer_edge._base.files import atomic_file\n"
        "with atomic_file(Path(sys.argv[1])):\n    print('open', flush=True); time.sleep(60)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, str(path)], stdout=subprocess.PIPE
    ) as killed:
        assert killed.stdout.readline() == b"open\n"
        with pytest.raises(OutputError, match="another run"), atomic_file(path):
            pass
        killed.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            with atomic_file(path) as file:
                file.write(b"mine")
            break
        except OutputError:
            time.sleep(0.05)
    assert path.read_bytes() == b"mine"


def test_links_are_followed_and_pipes_written_through(tmp_path):
    (tmp_path / "disk").mkdir()
    link = tmp_path / "link.txt"
    link.symlink_to(tmp_path / "disk" / "real.txt")
    with atomic_file(link) as file:
        file.write(b"there")
    assert link.is_symlink()
    assert (tmp_path / "disk" / "real.txt").read_bytes() == b"there"
    with atomic_file(tmp_path / os.devnull) as file:
        file.write(b"nowhere")


def test_folders_that_cannot_be_written_are_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="Cannot write"), atomic_file(tmp_path / "file" / "out"):
        pass
    with pytest.raises(OutputError, match="is a folder"), atomic_file(tmp_path):
        pass


class FullDisk:
    """A file that takes so many bytes and no more, as a full disk does."""

    def __init__(self, file, room):
        self.file = file
        self.room = room

    def write(self, data):
        if not self.room:
            raise OSError(28, "No space left on device")
        taken = min(len(data), self.room)
        self.room -= taken
        return self.file.write(data[:taken])

    def fileno(self):
        return self.file.fileno()

    def close(self):
        self.file.close()


def test_a_full_disk_leaves_whole_lines(tmp_path):
    path = tmp_path / "log.txt"
    with pytest.raises(OutputError, match="No space left"), GrowingFile(path) as file:
        file._file = FullDisk(file._file, 95)
        for _ in range(100):
            file.write("123456789\n")
    assert path.read_text() == "123456789\n" * 9


def test_a_growing_file_is_there_line_by_line_and_the_second_writer_is_refused(tmp_path):
    path = tmp_path / "new/log.txt"
    with GrowingFile(path) as file:
        file.write("one\n")
        assert path.read_text() == "one\n"
        with pytest.raises(OutputError, match="give `force=True`"), GrowingFile(path):
            pass
    with GrowingFile(path, append=True) as file:
        file.write("two\n")
    assert path.read_text() == "one\ntwo\n"
    with GrowingFile(path, force=True) as file:
        file.write("three\n")
    assert path.read_text() == "three\n"


def test_growing_files_that_are_forced_at_once_do_not_mix(tmp_path):
    path = tmp_path / "log.txt"
    with GrowingFile(path, force=True) as first, GrowingFile(path, force=True) as second:
        first.write("one\n" * 3)
        second.write("two\n")
        first.write("one\n")
    assert path.read_text() == "two\n"


def test_who_fails_before_the_first_line_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), GrowingFile(tmp_path / "log.txt"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
