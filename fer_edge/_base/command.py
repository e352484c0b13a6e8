"""What both command lines share: how a program ends that cannot go on, or is told to end."""

import errno
import logging
import os
import re
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType
from typing import Any, NoReturn

import click

from fer_edge._base.ahead import THREAD_NAMES
from fer_edge._base.files import ClosedOutput
from fer_edge._base.sections import SectionedCommand
from fer_edge.errors import FerError, OutputError

_LOGGER = "fer_edge"

_GRACE_S = 0.3
"""How long a program that was told to end waits for its threads."""

_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EIO)


# Messages name arguments as `name` or `name=value`, which Python's users can give as they stand.
_ARGUMENT = re.compile(r"`(\w+)(?:=([^`]*))?`")


class Command(SectionedCommand):
    """A command whose errors name its flags where they name arguments.

    With ``--quiet`` warnings are not told, whatever thread they come from.
    """

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command; see `with_flags`."""
        logger = logging.getLogger(_LOGGER)
        level = logger.level
        if ctx.params.get("quiet"):
            logger.setLevel(logging.ERROR)
        try:
            return super().invoke(ctx)
        except FerError as error:
            # Each takes one message, so that another of its kind can say the same in flags.
            raise type(error)(with_flags(error.message, self)) from error
        finally:
            logger.setLevel(level)


class CommandGroup(click.Group):
    """Commands of which a closed or full standard output is an error, and no traceback."""

    command_class = Command

    def main(self, *args: Any, **extra: Any) -> Any:
        """Run a command, help and messages included, and see that what it printed has arrived.

        Raises:
            OutputError: With ``standalone_mode=False``: the disk that standard output goes to is
                full or broken, or standard output is closed.
        """
        _open_closed_streams()
        try:
            return super().main(*args, **extra)
        except OSError as error:
            if error.errno not in _NO_ROOM:
                raise
            drop_output()
            failure = OutputError(f"Cannot write the output: {error.strerror}")
            if not extra.get("standalone_mode", True):
                raise failure from error
            with suppress(OSError):  # Where messages go there may be no room either.
                failure.show()
            sys.exit(failure.exit_code)

    def invoke(self, ctx: click.Context) -> Any:
        """Run a command; what it printed is sent off here, where it may still fail."""
        logger, handler = logging.getLogger(_LOGGER), _EchoHandler()
        logger.addHandler(handler)
        try:
            result = super().invoke(ctx)
            sys.stdout.flush()
            return result
        except KeyboardInterrupt:
            # Of a command that has not begun to listen to signals; click would exit with 1.
            tell("Ended by Ctrl-C")
            ctx.exit(128 + signal.SIGINT)
        finally:
            logger.removeHandler(handler)


class _EchoHandler(logging.Handler):
    """Prints what is logged on standard error."""

    def emit(self, record: logging.LogRecord) -> None:
        tell(with_flags(record.getMessage()))


def with_flags(text: str, command: click.Command | None = None) -> str:
    """Turn the arguments that a message names into a command's flags.

    Args:
        text: Names them as ```name``` or ```name=value```.
        command: Arguments that are no flags of its own lose their marks alone; None means the
            command that runs, if one does.
    """
    if command is None and (context := click.get_current_context(silent=True)):
        command = context.command
    options = {
        param.name: param
        for param in (command.params if command else ())
        if isinstance(param, click.Option)
    }

    def flag(match: re.Match[str]) -> str:
        name, value = match.groups()
        # Flags leave out the units that arguments end in.
        option = options.get(name) or options.get(name.removesuffix("_s"))
        if option is None:
            return match[0].strip("`")
        if option.is_flag:
            return (option.secondary_opts if value == "False" else option.opts)[0]
        return option.opts[0] if value is None else f"{option.opts[0]} {value}"

    return _ARGUMENT.sub(flag, text)


def _open_closed_streams() -> None:
    """Stand in for standard streams that were closed when the program began.

    Else the next file takes the place of one, and gets what libraries write to the stream.
    """
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
    if sys.stdout is None:
        sys.stdout = ClosedOutput()
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w")  # noqa: PTH123, SIM115 - for as long as the program


def drop_output() -> None:
    """Drop what standard output has not taken: it would fail again, aloud, when Python ends."""
    with suppress(OSError, ValueError, AttributeError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def tell(message: str) -> None:
    """Say something on standard error, unless its terminal has been closed."""
    with suppress(OSError):
        click.echo(message, err=True)


class Signals(list[int]):
    """The numbers of the signals that have come, the first one first.

    Attributes:
        interrupts: Whether a further signal interrupts at once what is being done. Work that must
            not be cut says False, but around what may wait for ever, such as a full pipe.
    """

    interrupts = True


@contextmanager
def stop_on_signals(stop: Callable[[], None] = lambda: None) -> Iterator[Signals]:
    """Let Ctrl-C, SIGTERM and a closed terminal end work between two records.

    Args:
        stop: Called at the first signal.

    Yields:
        The signals that came.

    Raises:
        KeyboardInterrupt: A second one came while `Signals.interrupts`.
    """
    received = Signals()

    def on_signal(number: int, frame: FrameType | None) -> None:
        received.append(number)
        if len(received) == 1:
            stop()
        elif received.interrupts:
            raise KeyboardInterrupt

    numbers = [signal.SIGINT, signal.SIGTERM]
    # nohup has it ignored, and programs under it are to go on.
    if hasattr(signal, "SIGHUP") and signal.getsignal(signal.SIGHUP) != signal.SIG_IGN:
        numbers.append(signal.SIGHUP)
    before = {number: signal.signal(number, on_signal) for number in numbers}
    try:
        yield received
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def exit_after_signal(number: int, message: str) -> NoReturn:
    """End the program as a signal asks, without waiting for pictures that are still looked at.

    Args:
        number: The signal's.
        message: What to say on stderr, unless the terminal is closed.
    """
    tell(message)
    status = 128 + number
    workers = [one for one in threading.enumerate() if one.name.startswith(THREAD_NAMES)]
    deadline_s = time.monotonic() + _GRACE_S
    for worker in workers:
        worker.join(max(0.0, deadline_s - time.monotonic()))
    if any(worker.is_alive() for worker in workers):
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(status)
    sys.exit(status)
