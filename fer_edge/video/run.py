"""What ``fer-edge video`` does with each frame: log, recording, window, progress, summary."""

import os
import re
import sys
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager, redirect_stderr, suppress
from pathlib import Path
from typing import Any, Self

import click

from fer_edge._base.command import Signals, drop_output, stop_on_signals, with_flags
from fer_edge._base.files import atomic_file, is_special, refuse_existing, refuse_same
from fer_edge.errors import OutputError, SourceError
from fer_edge.inference.classifier import Classifier
from fer_edge.picture.draw import encode
from fer_edge.records import choose_format, counted
from fer_edge.video.address import CAMERA, STANDARD_INPUT
from fer_edge.video.ffmpeg import listening, terminal
from fer_edge.video.find import Video, find_videos
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


def run_video(sources: Sequence[str], classifier: Classifier, options: VideoOptions) -> int:
    """Watch sources, one after the other, until they end, the user ends it, or a limit is reached.

    Args:
        sources: As `VideoSource` takes them, and folders, which stand for all videos below them.
        classifier: Model and detector.
        options: What to write and when to end.

    Returns:
        The exit status: 0, 1 where some of several sources failed, or 128 plus the signal's number
        where Ctrl-C, SIGTERM or a closed terminal ended it, so that scripts see that not all was
        watched to its end. All outputs are whole.

    Raises:
        SourceError: The only source cannot be opened or broke; what was written until then is
            whole.
        OutputError: Something cannot be written.
        UsageError: What is asked for does not go together.
    """
    videos = find_videos(sources, options)
    several = len(videos) > 1 or os.path.isdir(sources[0])  # noqa: PTH112 - as in find_videos
    _check_usage(sources, several, options)
    _check_outputs(videos, options)
    shows = _wants_window(options.display, quiet=options.quiet)
    log_path = options.output
    if log_path is None and not (shows or options.record or options.timeline):
        log_path = _STDOUT
    log = None
    if log_path:
        log = FrameLog(
            None if log_path == _STDOUT else log_path,
            _log_format(log_path, options),
            classifier.spec.columns,
            force=options.force,
            named=several,
        )
    failed = 0
    with ExitStack() as stack:
        stack.enter_context(_messages())
        session = _Session(classifier, options, log, shows=shows, several=several)
        signals = stack.enter_context(stop_on_signals(session.stop))
        # A second one would cut what is being written; only a pipe may never take it.
        signals.interrupts = False
        if log and several:
            stack.enter_context(log)
        for video in videos:
            try:
                session.watch(video, signals)
            except SourceError as error:
                if not (several or session.ended):
                    raise
                if not session.ended:
                    failed += 1
                    named = error.message.startswith(video.name)
                    _say(("" if named else f"{video.name}: ") + with_flags(error.message))
            if session.ended:
                break
        if several and not options.quiet:
            _say(f"{counted(len(videos), 'video')}, {failed} failed")
    return 128 + signals[0] if signals else 1 if failed else 0


class _Session:
    """Watches videos one after the other, with one log for all of them.

    Attributes:
        ended: Whether the user has ended it, with all that were to come.
    """

    def __init__(
        self,
        classifier: Classifier,
        options: VideoOptions,
        log: FrameLog | None,
        *,
        shows: bool,
        several: bool,
    ) -> None:
        self._classifier = classifier
        self._options = options
        self._log = log
        self._shows = shows
        self._several = several
        self._source: VideoSource | None = None
        self._window: Window | None = None
        path = options.output or _STDOUT
        self._log_waits = path == _STDOUT or is_special(path)
        self.ended = False

    def stop(self) -> None:
        """End; may be called from signal handlers."""
        self.ended = True
        if self._source:
            self._source.stop()

    def watch(self, video: Video, signals: Signals) -> None:
        """Watch a video to its end.

        Raises:
            SourceError: It cannot be opened or broke; its last record says so.
            OutputError: Something cannot be written.
        """
        options, log = self._options, self._log
        if log:
            log.source = video.name
        with ExitStack() as stack:
            try:
                source = stack.enter_context(self._open(video))
            except SourceError as error:
                # The log of a single source is not even begun.
                if log and self._several:
                    log.write(error_record(with_flags(error.message)))
                raise
            meter = Meter()
            history = History(self._classifier.spec.labels, longest_s=gap_s(source.interval_s))
            sinks: list[FrameSink] = [meter, history]
            if log:
                sinks.append(log if self._several else stack.enter_context(log))
            if video.record:
                sinks.append(stack.enter_context(VideoSink(video.record, force=options.force)))
            if self._shows:
                self._window = stack.enter_context(self._make_window(source, meter))
                sinks.append(self._window)
            hidden = self._shows or (log is not None and options.output in (None, _STDOUT))
            hidden = hidden or options.quiet
            try:
                with Progress(source, options, hidden=hidden) as progress:
                    sinks.append(progress)
                    frames = watch(
                        source,
                        self._classifier,
                        detect_every=options.detect_every,
                        smooth_s=options.smooth,
                        largest=options.largest,
                        roi=options.roi,
                    )
                    for watched in frames:
                        for sink in sinks:
                            signals.interrupts = sink is log and self._log_waits
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
                drop_output()
            finally:
                self._window = None
                signals.interrupts = False
                history.finish()
                if video.timeline:
                    picture = encode(draw_timeline(history, source.name), ".png")
                    with atomic_file(video.timeline, force=options.force) as file:
                        file.write(picture)
                if not options.quiet:
                    _report(history, meter, source, named=self._several)

    def _make_window(self, source: VideoSource, meter: "Meter") -> Window:
        return Window(
            f"fer-edge {source.name}",
            stop=self.stop,
            saved=lambda path: None if self._options.quiet else _say(f"saved {path}"),
            status=meter.text,
            paced=not source.live,
        )

    def _open(self, video: Video) -> VideoSource:
        if video.problem:
            raise SourceError(video.problem)
        options = self._options
        self._source = VideoSource(
            video.source,
            every=options.every,
            duration_s=options.duration,
            timeout_s=options.timeout,
            retries=options.retries,
            fps=options.fps,
            idle=lambda: self._window.idle() if self._window else None,
        )
        if self.ended:  # By a signal that came too early for it.
            self._source.stop()
        return self._source


def _check_usage(sources: Sequence[str], several: bool, options: VideoOptions) -> None:
    if sources.count(STANDARD_INPUT) > 1:
        raise click.UsageError("Expected - once, since standard input holds one video")
    if not several:
        return
    for name, path, suffix in (
        ("--record", options.record, ".mp4"),
        ("--timeline", options.timeline, ".png"),
    ):
        if path and path.suffix.lower() == suffix and not path.is_dir():
            raise click.UsageError(
                f"Expected a folder for the {suffix} files of several videos, received {name} "
                f"{path}; give a name without {suffix}"
            )
    endless = options.duration is None and options.max_frames is None
    for source in sources if endless else ():
        if re.fullmatch(CAMERA, source):
            raise click.UsageError(
                f"{source} never ends, so that no other source would be watched; run fer-edge "
                "video for each, or give --duration"
            )


def _check_outputs(videos: Sequence[Video], options: VideoOptions) -> None:
    paths = [options.output] if options.output and options.output != _STDOUT else []
    paths += [path for video in videos for path in (video.record, video.timeline) if path]
    refuse_same(paths, [Path(video.source) for video in videos])
    for path in paths:
        refuse_existing(path, force=options.force)


def _log_format(path: Path | None, options: VideoOptions) -> LogFormat:
    found = choose_format(None if path == _STDOUT else path, options.output_format, "jsonl")
    if found == "table":
        raise ValueError("Expected a format of frames, received table")
    return found


def _wants_window(display: bool | None, *, quiet: bool) -> bool:
    if display is False:
        return False
    reason = why_no_window()
    if reason and display:
        raise OutputError(f"Expected a display for --display, but {reason}")
    if reason and not quiet:
        _say(f"No window: {reason}; going on as with --no-display")
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

    def __exit__(self, *error: Any) -> None:
        """End the bar's line."""
        with suppress(OSError):
            if self._bar:
                self._bar.__exit__(*error)

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


def _report(history: History, meter: Meter, source: VideoSource, *, named: bool) -> None:
    spent_s = time.monotonic() - meter.started
    name = f"{source.name}: " if named else ""
    parts = [f"{name}{counted(history.frames, 'frame')}, {history.end_s:.1f} s of video"]
    parts.append(f"in {spent_s:.1f} s ({history.frames / max(spent_s, 1e-9):.1f} frames/s)")
    if source.live:
        parts.append(f"{source.dropped} dropped to keep up")
    if source.reopened:
        parts.append(f"opened again {counted(source.reopened, 'time')}")
    for line in (", ".join(parts), *(history.summary() or ["no face was seen"])):
        _say(line)


def _say(text: str) -> None:
    with suppress(OSError):  # The terminal may be closed.
        click.echo(text, err=True)
