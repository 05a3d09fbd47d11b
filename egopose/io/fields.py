"""Values out of untrusted files: numbers, arrays, tables, each with a place to name when it is wrong."""

from __future__ import annotations

import csv
import io
import os
import re
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import read_text

Floats = NDArray[np.float64]
Size = tuple[int, int]
MAX_FRAME = 1 << 40
UNITS = {"m": 1.0, "cm": 0.01, "mm": 0.001, "inch": 0.0254}


def numbers(value: Any, where: str, shape: tuple[int, ...] | None = None, *, finite: bool = True) -> Floats:
    """A value as float64 numbers.

    Args:
        value: Nested lists, as parsers give them.
        where: File and key, for messages.
        shape: The wanted shape; a value of the right count but another shape is refused too.
        finite: Refuse NaN and infinity.

    Raises:
        EgoposeError: Not numbers, another shape, or not finite.
    """
    try:
        array = np.asarray(value, dtype=np.float64)
    except (TypeError, ValueError, OverflowError) as error:
        raise EgoposeError(f"{where}: {_short(value)} is not an array of numbers") from error
    if shape is not None and array.shape != shape:
        raise EgoposeError(f"{where}: has shape {array.shape}; expected {shape}")
    if finite and not np.isfinite(array).all():
        raise EgoposeError(f"{where}: holds NaN or infinity; calibrate or export it again, or leave it out")
    return array


def float32(values: Any) -> NDArray[np.float32]:
    """Stored precision; what does not fit becomes infinite and thereby missing, without a warning."""
    with np.errstate(over="ignore", invalid="ignore"):
        return np.asarray(values).astype(np.float32)


def number(value: Any, where: str) -> float:
    """One finite number."""
    return float(numbers(value, where, ()))


def image_size(value: Any, where: str) -> tuple[int, int]:
    """(width, height) as positive whole numbers of pixels."""
    size = numbers(value, where, (2,))
    if (size != np.round(size)).any() or (size < 1).any() or (size > 1 << 20).any():
        raise EgoposeError(f"{where}: is {_short(value)}; expected the image width and height in whole pixels")
    return int(size[0]), int(size[1])


def unit_scale(unit: str | float) -> float:
    """Metres per unit, from its name or as a number.

    Raises:
        EgoposeError: An unknown name, or not a positive number.
    """
    if isinstance(unit, str):
        if unit in UNITS:
            return UNITS[unit]
        try:
            unit = float(unit)
        except ValueError:
            raise EgoposeError(
                f"unit {unit!r} is unknown; expected {', '.join(UNITS)}, or metres per unit as a number"
            ) from None
    if not (np.isfinite(unit) and unit > 0):
        raise EgoposeError(f"unit is {unit}; expected a positive number of metres per unit")
    return float(unit)


def given_size(size: Any, where: str) -> Size:
    """(width, height) from a pair or from text such as ``"1920x1080"``.

    Raises:
        EgoposeError: Not given, or not two whole numbers.
    """
    if size is None:
        raise EgoposeError(f"{where}: the image size is not stored; give size=(width, height)")
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d{1,6})\s*[x, ]\s*(\d{1,6})\s*", size)
        if match is None:
            raise EgoposeError(f"{where}: size is {size!r}; expected WIDTHxHEIGHT such as 1920x1080")
        size = [int(match[1]), int(match[2])]
    return image_size(np.asarray(size).tolist() if isinstance(size, np.ndarray) else list(size), f"{where}: size")


def whole(value: Any, where: str) -> int:
    """One whole number from text or a number."""
    try:
        result = int(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise EgoposeError(f"{where}: {_short(value)} is not a whole number") from error
    if abs(result) > MAX_FRAME or (isinstance(value, float) and result != value):
        raise EgoposeError(f"{where}: {_short(value)} is not a whole number within {MAX_FRAME}")
    return result


def mapping(value: Any, where: str) -> Mapping[str, Any]:
    """A value that must be an object (a table with keys)."""
    if not isinstance(value, Mapping):
        raise EgoposeError(f"{where}: is {_short(value)}; expected an object with keys")
    return value


def sequence(value: Any, where: str) -> Sequence[Any]:
    """A value that must be a list."""
    if not isinstance(value, list):
        raise EgoposeError(f"{where}: is {_short(value)}; expected a list")
    return value


def key(table: Mapping[str, Any], names: str | Iterable[str], where: str) -> Any:
    """The value of the first of some keys that is there.

    Raises:
        EgoposeError: None of them is.
    """
    names = (names,) if isinstance(names, str) else tuple(names)
    for name in names:
        if name in table:
            return table[name]
    have = ", ".join(str(k) for k in list(table)[:12]) or "nothing"
    raise EgoposeError(f"{where}: lacks {' or '.join(map(repr, names))}; it has: {have}")


def _short(value: Any, limit: int = 60) -> str:
    text = repr(value)
    return text if len(text) <= limit else text[: limit - 3] + "..."


def read_toml(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Read a TOML file of bounded size.

    Raises:
        EgoposeError: Unreadable, or not TOML (with the parser's line).
    """
    text = read_text(path, max_bytes=64 << 20)
    if not text.strip():
        raise EgoposeError(f"{path}: the file is empty; expected TOML")
    try:
        return tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError, ValueError, OverflowError) as error:
        raise EgoposeError(f"{path}: not valid TOML ({error}); the file may be truncated") from error


class Table:
    """A CSV file as named columns of text."""

    def __init__(self, path: Path, columns: dict[str, list[str]], n_rows: int) -> None:
        self.path, self.columns, self.n_rows = path, columns, n_rows

    def __contains__(self, name: str) -> bool:
        return name in self.columns

    def text(self, name: str) -> list[str]:
        """A column as it stands."""
        return self.columns[name]

    def floats(self, name: str, *, finite: bool = False) -> Floats:
        """A column as float64; an empty cell is NaN unless ``finite``.

        Raises:
            EgoposeError: A cell is not a number (with its row), or not finite where it must be.
        """
        cells = self.columns[name]
        try:
            values = np.array([cell if cell.strip() else "nan" for cell in cells], dtype=np.float64)
        except ValueError:
            row = next(i for i, cell in enumerate(cells) if not _is_number(cell))
            raise EgoposeError(
                f"{self.path}: row {row + 2}, column {name!r}: {_short(cells[row])} is not a number"
            ) from None
        if finite and not np.isfinite(values).all():
            row = int(np.flatnonzero(~np.isfinite(values))[0])
            raise EgoposeError(f"{self.path}: row {row + 2}, column {name!r}: {_short(cells[row])}; expected a number")
        return values

    def integers(self, name: str) -> NDArray[np.int64]:
        """A column as int64.

        Raises:
            EgoposeError: A cell is empty or not a whole number (with its row).
        """
        values = self.floats(name, finite=True)
        bad = np.flatnonzero((values != np.round(values)) | (np.abs(values) > MAX_FRAME))
        if bad.size:
            row = int(bad[0])
            raise EgoposeError(
                f"{self.path}: row {row + 2}, column {name!r}: {_short(self.columns[name][row])} is not a whole number"
            )
        return values.astype(np.int64)

    def xyz(self, names: Sequence[str]) -> Floats:
        """Several columns side by side, (rows, len(names)) float64."""
        return np.stack([self.floats(name) for name in names], axis=-1)


def _is_number(cell: str) -> bool:
    try:
        float(cell or "nan")
    except ValueError:
        return not cell.strip()
    return True


def read_csv(path: str | os.PathLike[str], required: Iterable[str], *, what: str) -> Table:
    """Read a CSV file with a header row.

    Args:
        path: The file; comma, semicolon or tab separated.
        required: Columns that must be there.
        what: Name of the format, for messages.

    Raises:
        EgoposeError: Empty, a column is missing, or a row is shorter or longer than the header.
    """
    path = Path(path)
    text = read_text(path, max_bytes=4 << 30)
    lines = io.StringIO(text, newline="")
    first = text[: text.find("\n")] if "\n" in text else text
    delimiter = max(",;\t", key=first.count)
    try:
        rows = [row for row in csv.reader(lines, delimiter=delimiter) if row]
    except csv.Error as error:
        raise EgoposeError(f"{path}: not readable as CSV ({error}); expected {what}") from error
    if not rows:
        raise EgoposeError(f"{path}: the file is empty; expected {what} with a header row")
    header = [name.strip() for name in rows[0]]
    missing = [name for name in required if name not in header]
    if missing:
        raise EgoposeError(
            f"{path}: column {missing[0]!r} is missing; {what} has the columns {_short(', '.join(required), 200)}; "
            f"found: {_short(', '.join(header), 200)}"
        )
    named = [name for name in header if name]
    if len(set(named)) != len(named):
        twice = next(name for name in named if named.count(name) > 1)
        raise EgoposeError(f"{path}: column {twice!r} stands twice; remove one")
    for i, row in enumerate(rows[1:]):
        if len(row) != len(header):
            raise EgoposeError(
                f"{path}: row {i + 2} has {len(row)} cells, the header {len(header)}; the file may be truncated"
            )
    body = rows[1:]
    if not body:
        raise EgoposeError(f"{path}: has a header but no rows; expected {what}")
    columns = {name: list(cells) for name, cells in zip(header, zip(*body))}
    return Table(path, columns, len(body))


def header_columns(head: bytes) -> set[str]:
    """Column names in the first line of a CSV file, for content tests."""
    line = head.split(b"\n", 1)[0].lstrip(b"\xef\xbb\xbf").decode("utf-8", "replace").strip()
    return {name.strip().strip('"') for name in re.split(r"[,;\t]", line)}


def looks_like_json(head: bytes) -> bool:
    """Whether the first bytes open a JSON object or list."""
    return head.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] in (b"{", b"[")


def has_keys(head: bytes, *names: str) -> bool:
    """Whether the first bytes hold all these JSON object keys (at any depth)."""
    return all(re.search(rb'"' + re.escape(name.encode()) + rb'"\s*:', head) for name in names)
