"""What ``fer-edge video`` does with each frame: log, recording, window, progress, summary."""

import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from pathlib import Path
from types import TracebackType
from typing import Self

import click

from fer_edge._base.command import stop_on_signals, with_flags
from fer_edge._base.files import atomic_file, is_special, refuse_existing, refuse_same
from fer_edge.errors import OutputError, SourceError
from fer_edge.inference.classifier import Classifier
from fer_edge.picture.draw import encode
from fer_edge.records import choose_format
from fer_edge.video.ffmpeg import listening, terminal
from fer_edge.video.frame_log import FrameLog
from fer_edge.video.history import History
from fer_edge.video.options import LogFormat, VideoOptions
from fer_edge.video.sink import VideoSink
from fer_edge.video.source import VideoSource
from fer_edge.video.timeline import draw_timeline
from fer_edge.video.tracking import gap_s
from fer_edge.video.watch import FrameSink, WatchedFrame, error_record, watch
from fer_edge.video.window import Window, why_no_window

_STDOUT = Path("-")
_RATE_FRAMES = 30


def run_video(name: str, classifier: Classifier, options: VideoOptions) -> int:
    """Watch a source until it ends, the user ends it, or a limit is reached.

    Args:
        name: The source as `VideoSource` takes it.
        classifier: Model and detector.
        options: What to write and when to end.

    Returns:
        The exit status: 0, or 128 plus the signal's number where Ctrl-C, SIGTERM or a closed
        terminal ended it, so that scripts see that the video was not watched to its end. All
        outputs are whole.

    Raises:
        SourceError: The source cannot be opened or broke; what was written until then is whole.
        OutputError: Something cannot be written.
    """
    _check_outputs(name, options)
    shows = _wants_window(options.display)
    log_path = options.output
    if log_path is None and not (shows or options.record or options.timeline):
        log_path = _STDOUT
    log_format = _log_format(log_path, options)
    with ExitStack() as stack:
        stack.enter_context(_messages())
        source = VideoSource(
            name,
            every=options.every,
            duration_s=options.duration,
            timeout_s=options.timeout,
            retries=options.retries,
            idle=lambda: window.idle() if window else None,
        )
        window = None
        signals = stack.enter_context(stop_on_signals(source.stop))
        try:
            stack.enter_context(source)
        except SourceError:
            if signals:
                return 128 + signals[0]
            raise
        meter = Meter()
        history = History(classifier.spec.labels, longest_s=gap_s(source.interval_s))
        sinks: list[FrameSink] = [meter, history]
        # A second signal would cut what is being written; only a pipe may never take it.
        signals.interrupts = False
        log = None
        if log_path:
            log = stack.enter_context(
                FrameLog(
                    None if log_path == _STDOUT else log_path,
                    log_format,
                    classifier.spec.columns,
                    force=options.force,
                )
            )
            sinks.append(log)
        waits = log_path is not None and (log_path == _STDOUT or is_special(log_path))
        if options.record:
            sinks.append(stack.enter_context(VideoSink(options.record, force=options.force)))
        if shows:
            window = stack.enter_context(
                Window(
                    f"fer-edge {source.name}",
                    stop=source.stop,
                    saved=lambda path: click.echo(f"saved {path}", err=True),
                    status=meter.text,
                    paced=not source.live,
                )
            )
            sinks.append(window)
        try:
            with Progress(source, options, hidden=shows or log_path == _STDOUT) as progress:
                sinks.append(progress)
                frames = watch(
                    source,
                    classifier,
                    detect_every=options.detect_every,
                    smooth_s=options.smooth,
                    largest=options.largest,
                )
                for watched in frames:
                    for sink in sinks:
                        signals.interrupts = sink is log and waits
                        sink.take(watched)
                    signals.interrupts = False
                    if history.frames == options.max_frames:
                        source.stop()
                        break
        except SourceError as error:
            if log:
                log.write(error_record(with_flags(error.message)))
            raise
        except KeyboardInterrupt:
            if not signals:
                raise
        finally:
            signals.interrupts = False
            history.finish()
            _write_timeline(history, source, options)
            _report(history, meter, source)
    return 128 + signals[0] if signals else 0


def _check_outputs(name: str, options: VideoOptions) -> None:
    paths = [path for path in (options.output, options.record, options.timeline) if path]
    paths = [path for path in paths if path != _STDOUT]
    refuse_same(paths, [Path(name)])
    for path in paths:
        refuse_existing(path, force=options.force)


def _log_format(path: Path | None, options: VideoOptions) -> LogFormat:
    found = choose_format(None if path == _STDOUT else path, options.output_format, "jsonl")
    if found == "table":
        raise ValueError("Expected a format of frames, received table")
    return found


def _wants_window(display: bool | None) -> bool:
    if display is False:
        return False
    reason = why_no_window()
    if reason and display:
        raise OutputError(f"Expected a display for --display, but {reason}")
    if reason:
        click.echo(f"No window: {reason}; going on as with --no-display", err=True)
    return reason is None


@contextmanager
def _messages() -> Iterator[None]:
    """Let what FFmpeg says be heard, and keep messages on the terminal."""
    with listening(aloud=True), redirect_stderr(terminal()):
        yield


class Progress:
    """A bar with the time left for files, where stderr is a terminal."""

    def __init__(self, source: VideoSource, options: VideoOptions, *, hidden: bool) -> None:
        """Describe a bar; it begins on entering the ``with`` block.

        Args:
            source: An open source.
            options: Its limits are the bar's.
            hidden: Whether there is none.
        """
        self._bar = None
        length = source.frame_count
        if hidden or source.live or not length or not sys.stderr.isatty():
            return
        if options.duration and source.fps:
            length = min(length, round(options.duration * source.fps))
        if options.max_frames:
            length = min(length, options.max_frames * options.every)
        label = Path(source.name).name
        self._bar = click.progressbar(length=length, label=label, file=sys.stderr, show_pos=True)

    def __enter__(self) -> Self:
        """Begin the bar."""
        # A terminal that was closed, here and below, takes no more; the video goes on without.
        with suppress(OSError):
            if self._bar:
                self._bar.__enter__()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """End the bar's line."""
        with suppress(OSError):
            if self._bar:
                self._bar.__exit__(kind, error, trace)

    def take(self, watched: WatchedFrame) -> None:
        """Move the bar to a frame."""
        with suppress(OSError):
            if self._bar:
                # Headers promise too much or too little.
                done = min(watched.frame.index + 1, self._bar.length or 0)
                self._bar.update(done - self._bar.pos)


class Meter:
    """Measures frames per second and latency as the user meets them."""

    def __init__(self) -> None:
        """Begin to measure."""
        self.started = time.monotonic()
        self._done: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._latency_ms = 0.0

    def take(self, watched: WatchedFrame) -> None:
        """Count a frame."""
        self._latency_ms = watched.latency_ms
        self._done.append(time.monotonic())

    def text(self) -> str:
        """Return what the window shows in its corner."""
        span_s = self._done[-1] - self._done[0]
        rate = (len(self._done) - 1) / span_s if span_s > 0 else 0.0
        return f"{rate:.0f} frames/s  {self._latency_ms:.1f} ms"


def _write_timeline(history: History, source: VideoSource, options: VideoOptions) -> None:
    if options.timeline:
        picture = draw_timeline(history, source.name)
        with atomic_file(options.timeline, force=options.force) as file:
            file.write(encode(picture, ".png"))


def _report(history: History, meter: Meter, source: VideoSource) -> None:
    spent_s = time.monotonic() - meter.started
    parts = [f"{history.frames} frames, {history.end_s:.1f} s of video"]
    parts.append(f"in {spent_s:.1f} s ({history.frames / max(spent_s, 1e-9):.1f} frames/s)")
    if source.live:
        parts.append(f"{source.dropped} dropped to keep up")
    if source.reopened:
        parts.append(f"opened again {source.reopened} times")
    with suppress(OSError):  # The terminal may be closed.
        for line in (", ".join(parts), *(history.summary() or ["no face was seen"])):
            click.echo(line, err=True)
