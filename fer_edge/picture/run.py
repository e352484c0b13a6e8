"""What ``fer-edge classify`` does: inputs to records, pictures, summary."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

import click

from fer_edge._base.command import (
    drop_output,
    exit_after_signal,
    stop_on_signals,
    tell,
    with_flags,
)
from fer_edge._base.files import refuse_existing, refuse_same
from fer_edge.errors import FerError
from fer_edge.image.damage import DamageWatch
from fer_edge.image.read import MAX_PIXELS, read_stdin
from fer_edge.inference.classifier import Classifier
from fer_edge.picture.batch import PictureFolder, Result, classify_pictures, save_pictures
from fer_edge.picture.find import Picture, find_pictures, watch_folders
from fer_edge.picture.record import Record, Tally
from fer_edge.records import (
    PICTURES,
    Format,
    choose_format,
    counted,
    csv_header,
    open_records,
    plain_cell,
    read_names,
)


@dataclass(frozen=True)
class PictureOptions:
    """The options of ``fer-edge classify``, named as on the command line.

    Attributes:
        inputs: Files, folders, http(s) addresses, ``-``.
        output_format: Format of the records, or None for what ``output`` says.
        output: File of the records, ``-`` or None for standard output.
        annotate: Folder for pictures with boxes and labels, or None.
        crops: Folder for pictures of each face, or None.
        force: Whether existing files may be replaced.
        resume: Whether ``output`` is continued.
        watch: Whether folders are looked through again and again.
        quiet: Whether stderr is for errors alone.
        top: Emotions in tables and on pictures.
        largest: Whether only the largest face of each picture counts.
        max_pixels: Larger pictures are refused; None means `MAX_PIXELS`.
        batch_size: Most faces in one inference; None as for `Classifier`.
    """

    inputs: tuple[str, ...]
    output_format: Format | None = None
    output: Path | None = None
    annotate: Path | None = None
    crops: Path | None = None
    force: bool = False
    resume: bool = False
    watch: bool = False
    quiet: bool = False
    top: int = 3
    largest: bool = False
    max_pixels: int | None = None
    batch_size: int | None = None


def run_pictures(open_classifier: Callable[..., Classifier], options: PictureOptions) -> None:
    """Classify pictures, write what was asked for and exit with the status that tells how it went.

    Raises:
        FerError: The work cannot begin, or cannot go on; the records until then are kept.
    """
    output = None if options.output == Path("-") else options.output
    output_format = choose_format(output, options.output_format, "table")
    _check_usage(options, output, output_format)
    if output is not None and not options.resume:
        refuse_existing(output, force=options.force)
    classifier = open_classifier(batch_size=options.batch_size)
    labels = classifier.spec.columns
    folders = [
        PictureFolder(folder, force=options.force or options.resume) if folder else None
        for folder in (options.annotate, options.crops)
    ]
    written = [folder for folder in (options.annotate, options.crops) if folder]
    pictures: list[Picture] = []
    done: set[str] = set()
    if output is not None and options.resume:
        header = csv_header(PICTURES, labels)
        done = read_names(output, output_format, classifier.model_path.name, header)
    if not options.watch:
        pictures = find_pictures(options.inputs, read_stdin, written)
        originals = [item.source for item in pictures if isinstance(item.source, Path)]
        if output is not None:
            refuse_same([output], originals)
        for folder, face in zip(folders, (None, 0), strict=True):
            if folder:
                folder.check(pictures, originals, face)

    def is_left(picture: Picture) -> bool:
        name = plain_cell(picture.name) if output_format == "csv" else picture.name
        return name not in done

    left = list(filter(is_left, pictures))
    if len(left) < len(pictures) and not options.quiet:
        tell(f"{len(pictures) - len(left)} of {len(pictures)} inputs have a record in {output}")
    tally = Tally()
    failure: FerError | None = None
    with ExitStack() as stack:
        signals = stack.enter_context(stop_on_signals())
        source: Iterable[Picture | None] = left
        if options.watch:
            found = watch_folders(options.inputs, written, lambda: bool(signals))
            source = (one for one in found if one is None or is_left(one))
        results = classify_pictures(
            classifier,
            source,
            max_pixels=options.max_pixels or MAX_PIXELS,
            largest=options.largest,
            damage=stack.enter_context(DamageWatch()),
            stopped=lambda: bool(signals),
        )
        if written:
            annotated, crops = folders
            results = save_pictures(
                results,
                annotated=annotated,
                crops=crops,
                margin=classifier.spec.margin,
                max_pixels=options.max_pixels or MAX_PIXELS,
                top=options.top,
            )
        writer = stack.enter_context(
            open_records(
                output,
                output_format,
                PICTURES,
                labels,
                force=options.force,
                append=options.resume,
                name_width=max((len(one.name) for one in pictures), default=60),
                top=options.top,
            )
        )
        # From here on a signal must not cut a record; but a full pipe may wait for ever.
        signals.interrupts = False
        try:
            with _progress(len(left), hidden=_is_hidden(options, output)) as advance:
                for _, record in _without_ticks(results):
                    signals.interrupts = True
                    writer.write(_with_flags(record).to_dict())
                    signals.interrupts = False
                    tally.add(record)
                    advance()
        except KeyboardInterrupt:  # A second signal, while standard output took no more.
            drop_output()
        except FerError as error:
            failure = error
        finally:
            signals.interrupts = False
    if failure is None and not options.quiet:
        _report(options, tally)
    if failure is not None:
        raise failure
    total = tally.pictures if options.watch else len(left)
    if signals:
        exit_after_signal(signals[0], f"Ended after {tally.pictures} of {total} inputs")
    if tally.failed:
        tell(f"{tally.failed} of {total} inputs failed; their records say why")
        sys.exit(1)


def _with_flags(record: Record) -> Record:
    return replace(record, error=with_flags(record.error)) if record.error else record


def _check_usage(options: PictureOptions, output: Path | None, output_format: Format) -> None:
    if options.inputs.count("-") > 1:
        raise click.UsageError("Expected - once, since standard input holds one picture")
    if options.resume and (output is None or output_format not in ("jsonl", "csv")):
        raise click.UsageError("Expected --output FILE.jsonl or FILE.csv for --resume")
    if options.watch and not all(map(os.path.isdir, options.inputs)):
        raise click.UsageError("Expected folders alone for --watch")


def _without_ticks(results: Iterable[Result | None]) -> Iterator[Result]:
    return (result for result in results if result is not None)


def _is_hidden(options: PictureOptions, output: Path | None) -> bool:
    """Tell whether there is no place, or no use, for a progress bar."""
    on_terminal = output is None and sys.stdout.isatty()
    return options.quiet or options.watch or on_terminal or not sys.stderr.isatty()


@contextmanager
def _progress(length: int, *, hidden: bool) -> Iterator[Callable[[], None]]:
    if hidden or length < 2:
        yield lambda: None
        return
    bar = click.progressbar(
        length=length, label="classify", file=sys.stderr, show_pos=True, show_eta=True
    )

    def advance() -> None:
        with suppress(OSError):  # The terminal has been closed.
            bar.update(1)

    try:
        with suppress(OSError):
            bar.__enter__()
        yield advance
    finally:
        with suppress(OSError):
            bar.render_finish()


def _report(options: PictureOptions, tally: Tally) -> None:
    if any(map(os.path.isdir, options.inputs)):
        tell(tally.summary())
    if tally.empty:
        tell(
            f"No face was found in {tally.empty} of {counted(tally.pictures, 'picture')}; try "
            "--min-face PIXELS for small faces of large pictures, or --detector none where each "
            "picture is one face"
        )
