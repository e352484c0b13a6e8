"""What FFmpeg writes to descriptor 2, told apart from what others write there."""

import logging
import os
import subprocess
import sys

import pytest

from fer_edge.video.ffmpeg import listening, terminal

LINE = b"[mov,mp4,m4a @ 0x55ed59459540] moov atom not found\n"


def test_messages_are_collected_and_all_else_is_handed_on(capfd):
    with listening() as outer:
        os.write(2, b"before\n" + LINE)
        with listening() as inner:
            os.write(2, b"[swscaler @ 0x1] [in @ 0x2] Cannot convert\n (Invalid argument): more\n")
            os.write(2, b"a question? ")
        os.write(2, b"\nafter\n")
    os.write(2, b"end\n")
    assert inner == ["in: Cannot convert"]
    assert outer == ["mov: moov atom not found", *inner]
    assert outer.about("moov") == outer[0]
    assert outer.about("interlaced") is None
    assert capfd.readouterr().err == "before\na question? \nafter\nend\n"


def test_addresses_are_left_out_since_they_may_hold_passwords(capfd):
    with listening() as said:
        os.write(2, b"[hls @ 0x1] Failed to open http://me:secret@host/x?key=secret now\n")
    assert said == ["hls: Failed to open ADDRESS now"]
    assert "secret" not in capfd.readouterr().err


def test_each_kind_is_told_once(caplog):
    caplog.set_level(logging.WARNING)
    with listening(aloud=True) as said:
        for number in range(5):
            os.write(2, b"[h264 @ 0x1] error while decoding MB %d\n" % number)
        with listening():
            os.write(2, b"[h264 @ 0x1] something that is dealt with\n")
    assert len(said) == 6
    assert [record.getMessage() for record in caplog.records] == [
        "FFmpeg: h264: error while decoding MB 0",
        "FFmpeg said 4 more such things",
    ]


def test_what_is_kept_is_bounded():
    with listening() as said:
        for number in range(5000):
            os.write(2, b"[h264 @ 0x1] %d\n" % number)
    assert said[-1] == "h264: 4999"
    assert len(said) < 100


def test_python_messages_go_past_the_pipe_and_see_the_terminal():
    program = (
        "import sys; from contextlib import redirect_stderr\n"
        "from fer_edge.video.ffmpeg import listening, terminal\n"
        "with listening(), redirect_stderr(terminal()):\n"
        "    print(sys.stderr.fileno() != 2, file=sys.stderr)\n"
        "print(sys.stderr.fileno(), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.stderr == "True\n2\n"
    assert terminal() is sys.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_forked_children_and_closed_descriptors():
    program = (
        "import os\nfrom fer_edge.video.ffmpeg import listening\n"
        "with listening():\n"
        "    child = os.fork()\n"
        "    if not child:\n"
        "        with listening() as said:\n"
        f"            os.write(2, {LINE!r})\n"
        "        os._exit(len(said))\n"
        "    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))"
    )
    for closing in ("", "2>&-"):
        command = f'exec "$0" -c "$1" {closing}'
        done = subprocess.run(
            ["sh", "-c", command, sys.executable, program], stdout=subprocess.PIPE, text=True
        )
        assert done.stdout == "1\n"
