"""A small builder of self-contained HTML reports: figures, tables that sort, charts, notes. Everything is escaped."""

from __future__ import annotations

import html
import json
import math
import os
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egopose.files import atomic_write, plain_json
from egopose.view.page import document, part


def escape(text: Any) -> str:
    """Text that is safe inside HTML and inside quoted attributes."""
    return html.escape(str(text), quote=True)


def finite(value: Any) -> float | None:
    """A finite float, or None for NaN, infinity, None and anything that is not a number."""
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return None
    number = float(value)
    return number if math.isfinite(number) else None


def number(value: Any, digits: int = 2, unit: str = "") -> str:
    """A number for people; a dash when it is not known."""
    known = finite(value)
    if known is None:
        return "–"
    text = f"{known:.{digits}f}" if abs(known) < 1e6 else f"{known:.3g}"
    if float(text) == 0:
        text = text.lstrip("-")
    return f"{text} {unit}".rstrip()


def percent(value: Any, digits: int = 1) -> str:
    """A share as a percentage; a dash when it is not known."""
    known = finite(value)
    return "–" if known is None else f"{100 * known:.{digits}f} %"


class Column:
    """How one column of a table looks.

    Attributes:
        title: Heading.
        digits: Decimals of numbers; None for text.
        share: Numbers are shares, shown in percent.
        heat: Tint cells whose size stands out from the column's median, up to the largest; a number is the least
            size that is ever tinted.
    """

    def __init__(
        self, title: str, digits: int | None = None, *, share: bool = False, heat: bool | float = False
    ) -> None:
        self.title, self.digits, self.share, self.heat = title, digits, share, heat

    def text(self, value: Any) -> str:
        """One cell for people."""
        if self.share:
            return percent(value, 1 if self.digits is None else self.digits)
        if self.digits is None:
            return "–" if value is None else str(value)
        return number(value, self.digits)


def _tint(values: Sequence[Any], least: float) -> list[float]:
    """How far each size stands out from the column's median, 0 to 1; all 0 when the largest hardly does."""
    sizes = [abs(v) if (v := finite(value)) is not None else math.nan for value in values]
    known = [v for v in sizes if v == v]
    if not known:
        return [0.0] * len(sizes)
    middle, top = float(np.median(known)), max(known)
    if top <= 1.25 * middle:
        return [0.0] * len(sizes)
    return [max(0.0, (v - middle) / (top - middle)) if v >= least else 0.0 for v in sizes]


class Report:
    """Sections of one page, in the order in which they are added."""

    def __init__(self, title: str, subtitle: str = "") -> None:
        """Start with a heading and a line below it."""
        self.title = title
        self._parts = [f"<h1>{escape(title)}</h1>"]
        if subtitle:
            self.text(subtitle)

    def section(self, heading: str, note: str = "") -> None:
        """A heading, with a line that says how to read what follows."""
        self._parts.append(f"<h2>{escape(heading)}</h2>")
        if note:
            self.text(note)

    def text(self, line: str) -> None:
        """A quiet paragraph."""
        self._parts.append(f'<p class="soft">{escape(line)}</p>')

    def link(self, href: str, text: str) -> None:
        """A link to another file, relative to this page."""
        self._parts.append(f'<p><a href="{escape(safe_link(href))}">{escape(text)}</a></p>')

    def figures(self, items: Iterable[tuple[str, str]]) -> None:
        """Key numbers: (value, what it is)."""
        cells = "".join(f"<div><b>{escape(value)}</b><span>{escape(what)}</span></div>" for value, what in items)
        self._parts.append(f'<div class="figures">{cells}</div>')

    def table(
        self,
        columns: Sequence[Column],
        rows: Iterable[Sequence[Any]],
        *,
        caption: str = "",
        links: Sequence[str | None] | None = None,
        fold: str = "",
    ) -> None:
        """A table that sorts by its headings.

        Args:
            columns: One per cell of a row.
            rows: Values; NaN and None become a dash.
            caption: A line above the table.
            links: One address per row for its first cell.
            fold: When given, the table is folded under this heading until it is opened.
        """
        rows = [list(row) for row in rows]
        tints = [
            _tint([row[c] for row in rows], 0.0 if column.heat is True else float(column.heat))
            if column.heat is not False
            else None
            for c, column in enumerate(columns)
        ]
        out = ["<table>"]
        if caption:
            out.append(f"<caption>{escape(caption)}</caption>")
        numeric = [c.digits is not None or c.share for c in columns]
        heads = (f"<th{' class=n' if n else ''}>{escape(c.title)}</th>" for c, n in zip(columns, numeric, strict=True))
        out.append(f"<thead><tr>{''.join(heads)}</tr></thead><tbody>")
        for r, row in enumerate(rows):
            cells = []
            for c, (column, value) in enumerate(zip(columns, row, strict=True)):
                text = escape(column.text(value))
                if c == 0 and links is not None and links[r] is not None:
                    text = f'<a href="{escape(safe_link(str(links[r])))}">{text}</a>'
                known = finite(value)
                extra = ""
                if numeric[c]:
                    extra = f' class="n" data-value="{"NaN" if known is None else repr(known)}"'
                    tint = tints[c]
                    if tint is not None and tint[r] > 0:
                        extra += f' style="background:rgba(203,70,121,{0.45 * tint[r]:.3f})"'
                cells.append(f"<td{extra}>{text}</td>")
            out.append(f"<tr>{''.join(cells)}</tr>")
        out.append("</tbody></table>")
        block = f'<div class="wide">{"".join(out)}</div>'
        if fold:
            block = f"<details><summary>{escape(fold)}</summary>{block}</details>"
        self._parts.append(block)

    def charts(self, *charts: str, caption: str = "") -> None:
        """Charts of :mod:`egopose.view.charts` beside each other."""
        below = f"<figcaption>{escape(caption)}</figcaption>" if caption else ""
        self._parts.append(f'<figure><div class="side">{"".join(charts)}</div>{below}</figure>')

    def points(self, lines: Iterable[Any]) -> None:
        """A list of remarks."""
        items = "".join(f"<li>{escape(line)}</li>" for line in lines)
        if items:
            self._parts.append(f"<ul>{items}</ul>")

    def html(self) -> str:
        """The whole page."""
        script = f"<script>\n{part('report.js')}</script>\n"
        return document(self.title, "\n".join(self._parts) + "\n" + script, style=part("report.css"))

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the page, atomically.

        Raises:
            EgoposeError: The file cannot be written.
        """
        with atomic_write(path) as stream:
            stream.write(self.html().encode("utf-8"))


def safe_link(href: str) -> str:
    """An address as it is when it is a relative or plain file name, with its path quoted; no scheme is let through."""
    from urllib.parse import quote

    path, hash_, fragment = href.partition("#")
    quoted = quote(path.replace("\\", "/"), safe="/._-~()+,=@!$&'*;")
    # a colon before the first slash would be read as a scheme: quote() has turned it into %3A
    return quoted + hash_ + quote(fragment, safe="=&._-~")


def relative_link(target: str | os.PathLike[str], page: str | os.PathLike[str]) -> str:
    """The address of one file seen from the folder of another."""
    return Path(os.path.relpath(Path(target).resolve(), Path(page).resolve().parent)).as_posix()


def save_json(path: str | os.PathLike[str], value: Any) -> None:
    """Write strict JSON, atomically; NaN and infinity become null."""
    with atomic_write(path) as stream:
        stream.write((json.dumps(plain_json(value), indent=2, allow_nan=False) + "\n").encode("utf-8"))
