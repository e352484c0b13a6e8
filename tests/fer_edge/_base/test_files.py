import pytest

from fer_edge._base.files import GrowingFile
from fer_edge.errors import OutputError


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
        with pytest.raises(OutputError, match="give --force"), GrowingFile(path):
            pass
    with GrowingFile(path, append=True) as file:
        file.write("two\n")
    assert path.read_text() == "one\ntwo\n"
    with GrowingFile(path, force=True) as file:
        file.write("three\n")
    assert path.read_text() == "three\n"


def test_who_fails_before_the_first_line_leaves_no_file(tmp_path):
    with pytest.raises(ZeroDivisionError), GrowingFile(tmp_path / "log.txt"):
        raise ZeroDivisionError
    assert not list(tmp_path.iterdir())
