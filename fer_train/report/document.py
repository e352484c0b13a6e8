"""A report as a list of blocks, written as Markdown with pictures beside it and as one HTML page.

The page needs nothing else: pictures and style are in it. It is light in dark mode too, since the
pictures are, and has rules for narrow screens and for print.
"""

import base64
import html
import re
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from fer_edge._base.files import atomic_file

SECTION = 2
"""Level of the headings that stand in the page's contents."""


@dataclass(frozen=True)
class Heading:
    """A title; level 1 is the document's."""

    text: str
    level: int = SECTION


@dataclass(frozen=True)
class Text:
    """A paragraph; what stands in backticks is code."""

    text: str


@dataclass(frozen=True)
class Table:
    """Rows of cells below a header; the first cell names the row."""

    caption: str
    header: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Picture:
    """An SVG or PNG file's content, its name without ending, and what it shows, in words."""

    name: str
    alt: str
    content: bytes

    @property
    def suffix(self) -> str:
        """``png`` or ``svg``."""
        return "png" if self.content.startswith(b"\x89PNG") else "svg"


@dataclass(frozen=True)
class Gallery:
    """Pictures beside one another where there is room, or over the whole width."""

    pictures: Sequence[Picture]
    wide: bool = False


@dataclass(frozen=True)
class Folded:
    """Blocks behind a title that opens them."""

    title: str
    blocks: Sequence["Block"]


Block = Heading | Text | Table | Gallery | Folded


@dataclass(frozen=True)
class Document:
    """A titled sequence of blocks, and text files that belong beside it, by name."""

    title: str
    blocks: Sequence[Block]
    attachments: Mapping[str, str] = field(default_factory=dict)


def save(document: Document, folder: Path, stem: str) -> list[Path]:
    """Write ``STEM.md``, pictures in ``pictures/``, ``STEM.html`` and attachments, over older ones.

    What an older document of that name wrote besides goes: it is listed in ``.STEM.files``.

    Returns:
        The paths of all but the pictures.

    Raises:
        OutputError: A file cannot be written.
    """
    pictures = {
        folder / "pictures" / f"{picture.name}.{picture.suffix}": picture.content
        for picture in _pictures(document.blocks)
    }
    texts = {f"{stem}.md": to_markdown(document), f"{stem}.html": to_html(document)}
    texts |= document.attachments
    files = {folder / name: text.encode() for name, text in texts.items()}
    listed = folder / f".{stem}.files"
    names = [str(path.relative_to(folder)) for path in pictures | files]
    written = {listed: "".join(f"{name}\n" for name in names).encode()}
    older = listed.read_text("utf-8").splitlines() if listed.is_file() else []
    for name in set(older) - set(names):
        # Nothing outside of the folder, whoever wrote the list.
        if (folder / name).resolve().is_relative_to(folder.resolve()):
            (folder / name).unlink(missing_ok=True)
    for path, content in (pictures | files | written).items():
        with atomic_file(path, force=True) as file:
            file.write(content)
    return list(files)


def to_markdown(document: Document) -> str:
    """Return Markdown in GitHub's dialect that refers to ``pictures/NAME.svg``."""
    return "\n\n".join([f"# {document.title}", *map(_block_markdown, document.blocks)]) + "\n"


def _block_markdown(block: Block) -> str:
    match block:
        case Heading(text, level):
            return f"{'#' * level} {text}"
        case Text(text):
            return text
        case Table(caption, header, rows):
            lines = [
                _row_markdown(header),
                _row_markdown([":---", *["---:"] * (len(header) - 1)]),
                *map(_row_markdown, rows),
            ]
            return f"{caption}\n\n" + "\n".join(lines)
        case Gallery(pictures):
            return "\n".join(
                f"![{picture.alt}](pictures/{picture.name}.{picture.suffix})"
                for picture in pictures
            )
        case Folded(title, blocks):
            inside = "\n\n".join(map(_block_markdown, blocks))
            return f"<details><summary>{html.escape(title)}</summary>\n\n{inside}\n\n</details>"


def to_text(blocks: Sequence[Block]) -> str:
    """Return headings, texts and tables as plain text for a terminal; pictures are left out."""
    parts = []
    for block in blocks:
        match block:
            case Heading(text, _):
                parts.append(text.upper())
            case Text(text):
                parts.append(textwrap.fill(text.replace("`", ""), 100))
            case Table(caption, header, rows):
                parts.append("\n".join([caption, *_text_rows([header, *rows])]))
    return "\n\n".join(parts) + "\n"


def _text_rows(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(
            cell.ljust(width) if place == 0 else cell.rjust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _row_markdown(cells: Sequence[str]) -> str:
    escaped = [cell.replace("|", r"\|") for cell in cells]
    return f"| {' | '.join(escaped)} |"


def to_html(document: Document) -> str:
    """Return one self-contained HTML page."""
    sections = [
        block.text
        for block in document.blocks
        if isinstance(block, Heading) and block.level == SECTION
    ]
    contents = "".join(
        f'<li><a href="#{_slug(text)}">{_inline(text)}</a></li>' for text in sections
    )
    body = "\n".join(map(_block_html, document.blocks))
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        '<meta name="color-scheme" content="light">\n'
        f"<title>{html.escape(document.title)}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        f"<main>\n<h1>{_inline(document.title)}</h1>\n"
        f'<nav aria-label="Contents"><ul>{contents}</ul></nav>\n'
        f"{body}\n</main>\n</body>\n</html>\n"
    )


def _block_html(block: Block) -> str:
    match block:
        case Heading(text, level):
            anchor = f' id="{_slug(text)}"' if level == SECTION else ""
            return f"<h{level}{anchor}>{_inline(text)}</h{level}>"
        case Text(text):
            return f"<p>{_inline(text)}</p>"
        case Table(caption, header, rows):
            head = "".join(f'<th scope="col">{_inline(cell)}</th>' for cell in header)
            body = "\n".join(f"<tr>{_cells_html(row)}</tr>" for row in rows)
            # A region that takes focus can be scrolled with the keyboard.
            label = _attribute(caption)
            return (
                f'<div class="scroll" role="region" tabindex="0" aria-label="{label}">'
                f"<table><caption>{_inline(caption)}</caption><thead><tr>{head}</tr></thead>\n"
                f"<tbody>{body}</tbody></table></div>"
            )
        case Gallery(pictures, wide):
            style = "gallery wide" if wide else "gallery"
            return f'<div class="{style}">{"".join(map(_picture_html, pictures))}</div>'
        case Folded(title, blocks):
            inside = "\n".join(map(_block_html, blocks))
            return f"<details><summary>{_inline(title)}</summary>\n{inside}\n</details>"


def _cells_html(cells: Sequence[str]) -> str:
    name, *values = cells
    return f'<th scope="row">{_inline(name)}</th>' + "".join(
        f"<td>{_inline(value)}</td>" for value in values
    )


def _picture_html(picture: Picture) -> str:
    kind = "png" if picture.suffix == "png" else "svg+xml"
    data = base64.b64encode(picture.content).decode()
    return (
        f'<figure><img src="data:image/{kind};base64,{data}" alt="{_attribute(picture.alt)}">'
        "</figure>"
    )


def _inline(text: str) -> str:
    return re.sub(r"`([^`]*)`", r"<code>\1</code>", html.escape(text, quote=False))


def _attribute(text: str) -> str:
    return html.escape(text.replace("`", ""))


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def _pictures(blocks: Sequence[Block]) -> list[Picture]:
    found: list[Picture] = []
    for block in blocks:
        if isinstance(block, Gallery):
            found += block.pictures
        elif isinstance(block, Folded):
            found += _pictures(block.blocks)
    return found


_STYLE = """
:root { color-scheme: light; }
* { box-sizing: border-box; }
body { margin: 0; background: #fff; color: #1a1a1a; line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 80rem; margin: 0 auto; padding: 1rem; }
h1 { font-size: 1.7rem; line-height: 1.2; }
h2 { font-size: 1.35rem; margin-top: 2.5rem; border-bottom: 2px solid #0072b2; }
h3 { font-size: 1.1rem; margin-top: 1.5rem; }
p { max-width: 46rem; }
a { color: #005a8e; }
code { font-size: .9em; background: #f2f2f2; padding: .05em .25em; overflow-wrap: anywhere; }
nav ul { columns: 2 14rem; padding-left: 1.2rem; }
/* A shadow at the side on which a table goes on; the white covers move with the table. */
.scroll { overflow-x: auto; margin: 1rem 0;
  background: linear-gradient(to right, #fff 30%, #fff0) 0 0 / 3rem 100% no-repeat local,
    linear-gradient(to left, #fff 30%, #fff0) 100% 0 / 3rem 100% no-repeat local,
    linear-gradient(to right, #0006, #0000) 0 0 / .9rem 100% no-repeat scroll,
    linear-gradient(to left, #0006, #0000) 100% 0 / .9rem 100% no-repeat scroll; }
table { border-collapse: collapse; font-size: .9rem; font-variant-numeric: tabular-nums; }
caption { text-align: left; font-weight: 600; padding-bottom: .3rem; }
th, td { padding: .25rem .6rem; border-bottom: 1px solid #d5d5d5; text-align: right;
  white-space: nowrap; }
th:first-child { text-align: left; position: sticky; left: 0; background: #fff; }
thead th { border-bottom: 2px solid #777; vertical-align: bottom; }
tbody tr:nth-child(even) > td { background: #0000000a; }
tbody tr:nth-child(even) > th { background: #f6f6f6; }
.gallery { display: grid; gap: 1rem; align-items: start;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 21rem), 1fr)); }
.wide { grid-template-columns: 1fr; max-width: 64rem; overflow-x: auto; }
.wide img { min-width: 44rem; }
figure { margin: 0; }
img { display: block; width: 100%; height: auto; }
details { margin: .6rem 0; border: 1px solid #ccc; border-radius: .3rem; padding: .2rem .8rem; }
summary { cursor: pointer; font-weight: 600; padding: .3rem 0; }
@media (max-width: 40rem) {
  main { padding: .7rem; }
  h1 { font-size: 1.35rem; }
  th, td { padding: .2rem .4rem; font-size: .8rem; }
  caption { position: sticky; left: 0; max-width: 90vw; }
}
@media print {
  @page { margin: 15mm; }
  body { font-size: 10pt; }
  main { max-width: none; padding: 0; }
  nav { display: none; }
  .scroll { overflow: visible; }
  table { font-size: 7pt; }
  th, td { padding: .15rem .25rem; white-space: normal; }
  th:first-child { position: static; }
  tr, figure { break-inside: avoid; }
  h2, h3, caption, summary { break-after: avoid; }
  .wide img { min-width: 0; }
  .gallery:not(.wide) { grid-template-columns: 1fr 1fr; }
  details { border: 0; padding: 0; }
  details::details-content { content-visibility: visible; display: block; height: auto; }
}
"""
