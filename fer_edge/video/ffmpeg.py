"""What FFmpeg says while OpenCV reads with it.

FFmpeg writes its messages to descriptor 2, from threads of its own, and OpenCV has no other way to
tell them. Here descriptor 2 leads through a pipe for as long as somebody listens; what is not
FFmpeg's is handed on at once.
"""

import logging
import os
import re
import sys
import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TextIO

_MESSAGE = re.compile(rb"(?:\[([^\]\n,]{1,80})[^\]\n]{0,80} @ (?:0x)?[0-9a-fA-F]+\] ?)+(.*)")
_COLOURS = re.compile(rb"\x1b\[[0-9;]*m")
_ADDRESS = re.compile(r"\b[a-zA-Z][a-zA-Z0-9+.-]*://\S+")
_MARK = b"\0fer-edge\0"
_PATIENCE_S = 1.0
_CHILDREN_S = 0.2
"""The pipe's end is waited for so long: children may hold the other one for as long as they run."""
_KEPT = 50
"""Messages of which a listener is told, and kinds of them that are told apart."""

_log = logging.getLogger(__name__)


class Messages(list[str]):
    """What FFmpeg has said last, as ``PART: TEXT``, without addresses, which hold passwords.

    Attributes:
        abandoned: Whether nobody waits for them any more, though their listener has not ended.
    """

    abandoned = False

    def about(self, *words: str) -> str | None:
        """Return the first message that has one of these words, or None."""
        found = (text for text in self if any(word in text.lower() for word in words))
        return next(found, None)


@contextmanager
def listening(messages: Messages | None = None, *, aloud: bool = False) -> Iterator[Messages]:
    """Collect what FFmpeg says, whoever in this process makes it speak.

    Args:
        messages: Where they are added; None makes a new list.
        aloud: Whether messages are logged as warnings, each kind once.

    Yields:
        The messages; all of them are there when the block has ended.
    """
    messages = Messages() if messages is None else messages
    tap = _Tap.enter(messages, aloud=aloud)
    try:
        yield messages
    finally:
        tap.leave(messages)


def terminal() -> TextIO:
    """Return where messages for the user go while somebody listens: past the pipe."""
    tap = _Tap.current
    if tap is None or sys.stderr is None:
        return sys.stderr
    with suppress(OSError, ValueError):
        if sys.stderr.fileno() == 2:
            errors = sys.stderr.errors
            return open(tap.original, "w", 1, sys.stderr.encoding, errors, closefd=False)
    return sys.stderr


class _Tap:
    """The pipe in place of descriptor 2 and the thread that empties it.

    Attributes:
        original: Where descriptor 2 led before.
    """

    current: "_Tap | None" = None
    _lock = threading.Lock()

    @classmethod
    def enter(cls, messages: Messages, *, aloud: bool) -> "_Tap":
        with cls._lock:
            # Somebody else may have led descriptor 2 elsewhere meanwhile.
            if cls.current is None or not cls.current._installed():
                cls.current = cls()
            tap = cls.current
            tap._listeners.append((earlier := Messages(), True))
        # What was said before is not for this listener.
        tap.settle()
        with cls._lock:
            tap._listeners = [item for item in tap._listeners if item[0] is not earlier]
            tap._listeners.append((messages, aloud))
        return tap

    @classmethod
    def forget(cls) -> None:
        """Be without a pipe in a child that was forked: nobody empties it there."""
        if cls.current:
            os.dup2(cls.current.original, 2)
        cls.current = None
        cls._lock = threading.Lock()

    def __init__(self) -> None:
        try:
            self.original = os.dup(2)
        except OSError:  # It is closed: what would be written there is for nobody.
            self.original = os.open(os.devnull, os.O_WRONLY)
        self._source, self._end = os.pipe()
        os.dup2(self._end, 2)
        self._listeners: list[tuple[Messages, bool]] = []
        self._kinds: Counter[str] = Counter()
        self._settled = threading.Semaphore(0)
        self._ours = False
        self._thread = threading.Thread(target=self._pump, name="stderr", daemon=True)
        self._thread.start()

    def leave(self, messages: Messages) -> None:
        self.settle()
        with self._lock:
            self._listeners = [item for item in self._listeners if item[0] is not messages]
            if self._listeners:
                return
            if _Tap.current is self:
                _Tap.current = None
            if self._installed():
                os.dup2(self.original, 2)
            os.close(self._end)
        self._thread.join(_CHILDREN_S)
        more = sum(self._kinds.values()) - len(self._kinds)
        if more:
            _log.warning("FFmpeg said %d more such things", more)

    def _installed(self) -> bool:
        try:
            return os.path.sameopenfile(2, self._end)
        except OSError:
            return False

    def settle(self) -> None:
        with suppress(OSError):
            os.write(self._end, _MARK + b"\n")
            self._settled.acquire(timeout=_PATIENCE_S)

    def _pump(self) -> None:
        rest = b""
        while data := os.read(self._source, 2**16):
            *lines, rest = (rest + data).split(b"\n")
            for line in lines:
                self._take(line + b"\n")
            # Half a line that is not FFmpeg's, such as a question, is not held back.
            if rest and not rest.startswith((b"[", b"\x1b", b" ", b"\0")):
                self._hand_on(rest)
                rest = b""
        self._hand_on(rest)
        os.close(self._source)
        os.close(self.original)

    def _take(self, line: bytes) -> None:
        before, mark, _ = line.partition(_MARK)
        if mark:
            if before:
                self._take(before)
            self._settled.release()
            return
        plain = _COLOURS.sub(b"", line)
        if match := _MESSAGE.match(plain):
            self._ours = True
            self._tell(b": ".join(match.groups()).decode(errors="replace").strip())
        # FFmpeg's longer messages go on in lines that are set in.
        elif not (self._ours and plain.startswith(b" ")):
            self._ours = False
            self._hand_on(line)

    def _tell(self, text: str) -> None:
        text = _ADDRESS.sub("ADDRESS", text)
        with self._lock:
            for messages, _ in self._listeners:
                messages.append(text)
                del messages[:-_KEPT]
            aloud = [aloud for messages, aloud in self._listeners if not messages.abandoned]
        if not all(aloud):
            return
        kind = re.sub(r"\d+", "#", text)
        if len(self._kinds) > _KEPT:
            kind = next(iter(self._kinds))
        self._kinds[kind] += 1
        if self._kinds[kind] == 1:
            _log.warning("FFmpeg: %s", text)

    def _hand_on(self, data: bytes) -> None:
        with suppress(OSError):
            while data:
                data = data[os.write(self.original, data) :]


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_Tap.forget)
