"""What both command lines share: how a program ends that cannot go on, or is told to end."""

import errno
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any

import click

from fer_edge.errors import OutputError

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


class CommandGroup(click.Group):
    """Commands of which a full disk behind standard output is an error, and no traceback."""

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command and see that what it printed has arrived.

        Raises:
            OutputError: The disk that standard output goes to is full or broken.
        """
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            # What is left in the buffer would fail again, aloud, when Python ends.
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            raise OutputError(f"Cannot write the output: {error.strerror}") from error


@contextmanager
def stop_on_signals(stop: Callable[[], None] = lambda: None) -> Iterator[list[int]]:
    """Let Ctrl-C and SIGTERM end work between two records, so that no output is cut in one.

    Args:
        stop: Called at the first signal.

    Yields:
        The numbers of the signals that came. A second one interrupts at once.
    """
    received: list[int] = []

    def on_signal(number: int, frame: FrameType | None) -> None:
        if received:
            raise KeyboardInterrupt
        received.append(number)
        stop()

    before = {
        number: signal.signal(number, on_signal) for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
