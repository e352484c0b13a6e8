"""Records of pictures and frames as a table, JSON, JSON Lines, CSV or Parquet."""

import csv
import io
import json
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal, NamedTuple, NoReturn, Protocol

import click

from fer_edge._base.files import (
    GrowingFile,
    TextSink,
    atomic_file,
    atomic_text,
    is_special,
    standard_output,
)
from fer_edge.errors import DependencyError, OutputError

if TYPE_CHECKING:
    import pandas

Format = Literal["table", "json", "jsonl", "csv", "parquet"]

SUFFIXES: Mapping[str, Format] = {
    ".json": "json",
    ".jsonl": "jsonl",
    ".ndjson": "jsonl",
    ".csv": "csv",
    ".parquet": "parquet",
}
"""What a file holds by how its name ends, in small letters or capitals."""

_GROUP_ROWS = 10_000
"""Rows of Parquet that wait in memory to be written together."""


class Columns(NamedTuple):
    """What the rows of csv and Parquet hold beside the probabilities.

    Attributes:
        head: Keys of the record, and their kind where it is not text.
        number: The face's number: its place in the record, or the key of that name.
    """

    head: Mapping[str, type]
    number: str


PICTURES = Columns(
    {
        "image": str, "width": int, "height": int, "status": str, "error": str, "model": str,
        "mirror": bool, "prior": float,
    },
    "face",
)  # fmt: skip
FRAMES = Columns(
    {"frame": int, "time_s": float, "width": int, "height": int, "status": str, "error": str},
    "track",
)
FACES = Columns({}, "face")
"""Of one picture alone."""
_FACE: Mapping[str, type] = {
    "x": int, "y": int, "w": int, "h": int,
    "detector_score": float, "emotion": str, "confidence": float,
}  # fmt: skip


def choose_format(path: Path | None, given: Format | None, usual: Format) -> Format:
    """Return the format that was asked for, or that the name of a file asks for.

    Args:
        path: The file, or None for standard output.
        given: What ``--format`` says.
        usual: The format of standard output, pipes and devices.

    Raises:
        UsageError: The name tells no format, or the format cannot go to standard output.
        DependencyError: The format needs a package that is not there.
    """
    found = given or (SUFFIXES.get(path.suffix.lower()) if path else usual)
    if found is None and path and is_special(path):
        found = usual
    if found is None:
        raise click.UsageError(
            f"Expected a name that ends in {', '.join(SUFFIXES)}, received {path}; rename it, or "
            "give --format"
        )
    if found == "parquet":
        if path is None:
            raise click.UsageError("Expected --output FILE.parquet for --format parquet")
        _pyarrow("")
    return found


def _pyarrow(module: str) -> Any:
    try:
        return import_module(f"pyarrow{module}")
    except ImportError as error:
        raise DependencyError(
            "Parquet is written by pyarrow, which is not installed; run: "
            "pip install 'fer-edge[tables]', or write .jsonl or .csv"
        ) from error


class Writer(Protocol):
    """Writes records, as `Record.to_dict` gives them, one after the other."""

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record, at once where the format allows it."""
        ...

    def close(self) -> None:
        """Write what belongs behind the last record."""
        ...


class JsonlWriter:
    """One JSON object a line, in ASCII, so that no terminal or pipe can spoil a name."""

    def __init__(self, sink: TextSink) -> None:
        """Write to a sink."""
        self._sink = sink

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record as one line."""
        self._sink.write(json.dumps(record) + "\n")
        self._sink.flush()

    def close(self) -> None:
        """Do nothing."""


class JsonWriter:
    """One JSON array of objects, a line each, in ASCII."""

    def __init__(self, sink: TextSink) -> None:
        """Write to a sink."""
        self._sink = sink
        self._before = "["

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one record."""
        self._sink.write(f"{self._before}\n{json.dumps(record)}")
        self._sink.flush()
        self._before = ","

    def close(self) -> None:
        """End the array."""
        self._sink.write("[]\n" if self._before == "[" else "\n]\n")


class CsvWriter:
    """One row a face; records without faces have one row with empty cells."""

    def __init__(
        self, sink: TextSink, columns: Columns, labels: Sequence[str], *, headed: bool = False
    ) -> None:
        """Write to a sink.

        Args:
            sink: Where to.
            columns: What the rows hold.
            labels: Names of the last columns: the model's labels, and numbers beside them.
            headed: Whether there is a header already.
        """
        self._sink = sink
        self._columns = columns
        self._labels = labels
        self._header = [] if headed else [csv_header(columns, labels)]

    def write(self, record: Mapping[str, Any]) -> None:
        """Write the rows of one record at once, so that no end comes between them."""
        rows = [
            [plain_cell(cell) if isinstance(cell, str) else cell for cell in row]
            for row in _rows(record, self._columns, self._labels)
        ]
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([*self._header, *rows])
        self._sink.write(text.getvalue())
        self._sink.flush()
        self._header = []

    def close(self) -> None:
        """Write the header that nothing stands below."""
        if self._header:
            csv.writer(self._sink, lineterminator="\n").writerows(self._header)


def csv_header(columns: Columns, labels: Sequence[str]) -> list[str]:
    """Return the first row of csv."""
    return [*columns.head, columns.number, *_FACE, *map(plain_cell, labels)]


def _rows(
    record: Mapping[str, Any], columns: Columns, names: Sequence[str]
) -> Iterator[list[object]]:
    """Yield one row a face, or one with empty cells."""
    head = [record[name] for name in columns.head]
    for place, face in enumerate(record["faces"]):
        known = [face.get(columns.number, place), *face["box"], face["detector_score"]]
        known += [face["emotion"], face["confidence"]]
        values = {**face["probabilities"], **face.get("affect", {})}
        yield [*head, *known, *(values[name] for name in names)]
    if not record["faces"]:
        yield [*head, None, *(None for _ in _FACE), *(None for _ in names)]


class ParquetWriter:
    """The rows of csv, typed; written thousands at a time, and readable once it is closed."""

    def __init__(self, file: IO[bytes], columns: Columns, labels: Sequence[str]) -> None:
        """Write to a binary file."""
        arrow = _pyarrow("")
        kinds = {
            **{str: arrow.string(), bool: arrow.bool_()},
            **{int: arrow.int64(), float: arrow.float64()},
        }
        fields = {**columns.head, columns.number: int, **_FACE, **dict.fromkeys(labels, float)}
        self._schema = arrow.schema([(name, kinds[kind]) for name, kind in fields.items()])
        self._table = arrow.Table
        self._file = _pyarrow(".parquet").ParquetWriter(file, self._schema)
        self._columns = columns
        self._labels = labels
        self._waiting: list[list[object]] = []

    def write(self, record: Mapping[str, Any]) -> None:
        """Keep the rows of one record for the next group."""
        self._waiting += _rows(record, self._columns, self._labels)
        if len(self._waiting) >= _GROUP_ROWS:
            self._flush()

    def _flush(self) -> None:
        cells = zip(*self._waiting, strict=True) if self._waiting else ([] for _ in self._schema)
        named = dict(zip(self._schema.names, map(list, cells), strict=True))
        self._file.write_table(self._table.from_pydict(named, self._schema))
        self._waiting = []

    def close(self) -> None:
        """Write the last group and the index."""
        self._flush()
        self._file.close()


class TableWriter:
    """Aligned columns for people; letters that would upset a terminal are replaced."""

    def __init__(self, sink: TextSink, *, name_width: int, top: int) -> None:
        """Write the header to a sink.

        Args:
            sink: Where to.
            name_width: Letters for names; longer ones lose their beginning.
            top: Emotions listed for each face.
        """
        self._sink = sink
        self._name_width = min(max(name_width, len("image")), 60)
        self._top = top
        self._row("image", "box", "emotion")

    def _row(self, name: str, box: str, text: str) -> None:
        self._sink.write(f"{name:<{self._name_width}}  {box:<19}  {text}\n")

    def write(self, record: Mapping[str, Any]) -> None:
        """Write one row for each face."""
        name = "".join(letter if letter.isprintable() else "?" for letter in record["image"])
        if len(name) > self._name_width:
            name = "…" + name[-self._name_width + 1 :]
        if record["status"] == "error":
            self._row(name, "-", f"error: {record['error']}")
        elif not record["faces"]:
            self._row(name, "-", "no face")
        for face in record["faces"]:
            left, top, width, height = face["box"]
            ranked = sorted(face["probabilities"].items(), key=lambda item: -item[1])
            listed = ", ".join(f"{label} {share:.1%}" for label, share in ranked[: self._top])
            known = face["emotion"] == ranked[0][0]
            text = listed if known else f"{face['emotion']} ({listed})"
            text += "".join(
                f", {name} {value:+.2f}" for name, value in face.get("affect", {}).items()
            )
            self._row(name, f"{left},{top} {width}x{height}", text)
        self._sink.flush()

    def close(self) -> None:
        """Do nothing."""


def plain_cell(text: str) -> str:
    """Keep spreadsheets from running a cell as a formula: a quote goes before its first sign."""
    return f"'{text}" if text.startswith(("=", "+", "-", "@", "\t", "\r")) else text


@contextmanager
def open_records(
    path: Path | None,
    output_format: Format,
    columns: Columns,
    labels: Sequence[str],
    *,
    force: bool = False,
    append: bool = False,
    name_width: int = 60,
    top: int = 3,
) -> Iterator[Writer]:
    """Open a writer of records.

    Lines of JSON and of csv are in the file as soon as they are written. The other formats are
    nothing before their end: their file appears with it, whatever ends the program but by force.

    Args:
        path: The file, or None for standard output.
        output_format: From `choose_format`.
        columns: What the rows of csv and Parquet hold.
        labels: The model's labels.
        force: Whether an existing file may be replaced.
        append: Whether records are added to an existing file of lines.
        name_width: Letters for names in tables.
        top: Emotions in tables.

    Raises:
        OutputError: The file is there already, or cannot be written.
    """
    with ExitStack() as stack:
        writer: Writer
        if output_format == "parquet" and path is not None:
            file = stack.enter_context(atomic_file(path, force=force))
            writer = ParquetWriter(file, columns, labels)
        else:
            if path is None:
                sink = stack.enter_context(standard_output())
            elif output_format in ("jsonl", "csv"):
                sink = stack.enter_context(GrowingFile(path, force=force, append=append))
            else:
                sink = stack.enter_context(atomic_text(path, force=force))
            if output_format == "table":
                writer = TableWriter(sink, name_width=name_width, top=top)
            elif output_format == "csv":
                headed = append and path is not None and path.stat().st_size > 0
                writer = CsvWriter(sink, columns, labels, headed=headed)
            else:
                writer = JsonWriter(sink) if output_format == "json" else JsonlWriter(sink)
        yield writer
        writer.close()


def counted(number: int, name: str) -> str:
    """Return a number with what it counts: ``1 face``, ``2 faces``."""
    return f"{number} {name}{'' if number == 1 else 's'}"


def read_names(path: Path, output_format: Format, model: str, header: Sequence[str]) -> set[str]:
    """Return the names of the pictures that have a record in a file, for ``--resume``.

    In csv they are as `plain_cell` writes them. A last line that a crash has cut is removed from
    the file.

    Args:
        path: The file; none is as good as an empty one.
        output_format: ``jsonl`` or ``csv``.
        model: The file name of the model in use.
        header: The first row that csv must have.

    Raises:
        OutputError: The file is not such a one, or its records are of another model.
    """

    def refuse(received: object) -> NoReturn:
        raise OutputError(
            f"Expected records of {model} in {path}, to continue it, received {received}; give "
            "another --output, or --force without --resume"
        )

    try:
        content = path.read_bytes()
        whole = content[: content.rfind(b"\n") + 1]
        if len(whole) < len(content):
            os.truncate(path, len(whole))
        text = whole.decode()
    except FileNotFoundError:
        return set()
    except (OSError, UnicodeDecodeError) as error:
        raise OutputError(f"Cannot continue {path}: {error}") from error
    found: list[tuple[str, str]] = []
    try:
        if output_format == "jsonl":
            for line in text.splitlines():
                record = json.loads(line)
                found.append((record["image"], record["model"]))
        elif text:
            first, *rows = csv.reader(io.StringIO(text, newline=""))
            if first != list(header):
                refuse(f"the columns {', '.join(first)}")
            image, used = header.index("image"), header.index("model")
            found = [(row[image], row[used]) for row in rows]
    except (ValueError, LookupError, TypeError, csv.Error) as error:
        refuse(f"what cannot be read ({error})")
    if others := {used for _, used in found} - {plain_cell(model), model}:
        refuse(f"records of {', '.join(sorted(others))}")
    return {name for name, _ in found}


def to_dataframe(
    records: Iterable[Mapping[str, Any]],
    columns: Columns,
    labels: Sequence[str],
) -> "pandas.DataFrame":
    """Return records as csv would hold them, as a pandas table.

    Raises:
        DependencyError: pandas is not installed.
    """
    try:
        import pandas
    except ImportError as error:
        raise DependencyError(
            "Tables are pandas's, which is not installed; run: pip install 'fer-edge[tables]'"
        ) from error
    rows = [row for record in records for row in _rows(record, columns, labels)]
    if not columns.head:  # The rows are faces alone: a picture without any has none.
        rows = [row for row in rows if row[0] is not None]
    return pandas.DataFrame(rows, columns=[*columns.head, columns.number, *_FACE, *labels])
