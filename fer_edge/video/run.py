"""What ``fer-edge video`` does with each frame: log, recording, window, progress, summary."""

import logging
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import click

from fer_edge._base.command import stop_on_signals
from fer_edge._base.files import atomic_file, refuse_existing, refuse_same
from fer_edge.errors import OutputError, SourceError
from fer_edge.inference.classifier import Classifier
from fer_edge.picture.draw import draw_faces, draw_status, encode
from fer_edge.records import choose_format
from fer_edge.video.frame_log import FrameLog
from fer_edge.video.history import History
from fer_edge.video.options import LogFormat, VideoOptions
from fer_edge.video.sink import VideoSink
from fer_edge.video.source import VideoSource
from fer_edge.video.timeline import draw_timeline
from fer_edge.video.tracking import gap_s
from fer_edge.video.watch import WatchedFrame, error_record, watch
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
        The exit status: 0, or 128 plus the signal's number where Ctrl-C or SIGTERM ended it, so
        that scripts see that the video was not watched to its end. All outputs are whole.

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
        sink = log = None
        if options.record:
            fps = None if source.fps is None or source.live else source.fps / options.every
            sink = stack.enter_context(VideoSink(options.record, fps, force=options.force))
        if log_path:
            log = stack.enter_context(
                FrameLog(
                    None if log_path == _STDOUT else log_path,
                    log_format,
                    classifier.spec.labels,
                    force=options.force,
                )
            )
        if shows:
            window = stack.enter_context(
                Window(
                    f"fer-edge {source.name}",
                    stop=source.stop,
                    saved=lambda path: click.echo(f"saved {path}", err=True),
                )
            )
        advance = stack.enter_context(
            _progress(source, options, hidden=shows or log_path == _STDOUT)
        )
        history = History(classifier.spec.labels, longest_s=gap_s(source.interval_s))
        meter = _Meter()
        try:
            frames = watch(
                source,
                classifier,
                detect_every=options.detect_every,
                smooth_s=options.smooth,
                largest=options.largest,
            )
            for watched in frames:
                meter.add(watched)
                history.add(watched.frame.time_s, watched.faces)
                if log:
                    log.write(watched.to_dict())
                if sink or window:
                    faces = [face.result for face in watched.faces]
                    picture = draw_faces(watched.frame.image_bgr, faces)
                    if sink:
                        sink.write(picture, watched.frame.time_s)
                    if window:
                        draw_status(picture, faces, meter.text())
                        window.show(picture, None if source.live else watched.frame.time_s)
                advance(watched.frame.index + 1)
                if history.frames == options.max_frames:
                    source.stop()
                    break
        except SourceError as error:
            if log:
                log.write(error_record(error.message))
            raise
        finally:
            history.finish()
            _report(history, meter, source, options)
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
    """Print what fer_edge logs, such as a stream's new tries, on stderr."""
    handler = logging.StreamHandler()
    logger = logging.getLogger("fer_edge")
    logger.addHandler(handler)
    try:
        yield
    finally:
        logger.removeHandler(handler)


@contextmanager
def _progress(
    source: VideoSource, options: VideoOptions, *, hidden: bool
) -> Iterator[Callable[[int], None]]:
    """Show a bar with the time left for files, where stderr is a terminal.

    Yields:
        A function that takes how many frames of the source are done.
    """
    length = source.frame_count
    if hidden or source.live or not length or not sys.stderr.isatty():
        yield lambda done: None
        return
    if options.duration and source.fps:
        length = min(length, round(options.duration * source.fps))
    if options.max_frames:
        length = min(length, options.max_frames * options.every)
    with click.progressbar(
        length=length, label=Path(source.name).name, file=sys.stderr, show_pos=True
    ) as bar:
        yield lambda done: bar.update(min(done, length) - bar.pos)


class _Meter:
    """Measures frames per second and latency as the user meets them."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self._done: deque[float] = deque(maxlen=_RATE_FRAMES)
        self._latency_ms = 0.0

    def add(self, watched: WatchedFrame) -> None:
        self._latency_ms = watched.latency_ms
        self._done.append(time.monotonic())

    def text(self) -> str:
        """Return what the window shows in its corner."""
        span_s = self._done[-1] - self._done[0]
        rate = (len(self._done) - 1) / span_s if span_s > 0 else 0.0
        return f"{rate:.0f} frames/s  {self._latency_ms:.1f} ms"


def _report(history: History, meter: _Meter, source: VideoSource, options: VideoOptions) -> None:
    spent_s = time.monotonic() - meter.started
    parts = [f"{history.frames} frames, {history.end_s:.1f} s of video"]
    parts.append(f"in {spent_s:.1f} s ({history.frames / max(spent_s, 1e-9):.1f} frames/s)")
    if source.live:
        parts.append(f"{source.dropped} dropped to keep up")
    if source.reopened:
        parts.append(f"opened again {source.reopened} times")
    click.echo(", ".join(parts), err=True)
    for line in history.summary() or ["no face was seen"]:
        click.echo(line, err=True)
    if options.timeline:
        picture = draw_timeline(history, source.name)
        with atomic_file(options.timeline, force=options.force) as file:
            file.write(encode(picture, ".png"))
