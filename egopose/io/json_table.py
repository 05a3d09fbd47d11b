"""Objects of many alike members, read from JSON bytes into a table without a Python object per value."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Words = NDArray[np.uint64]
Key = str | int
MAX_COLUMNS = 1 << 13
MAX_NODES = 1 << 15
MAX_CELLS = 1 << 29


class Unusual(Exception):
    """The text is outside the plain subset; a general parser must read (or refuse) it.

    Attributes:
        position: Byte at which the scanner stopped.
    """

    def __init__(self, position: int) -> None:
        super().__init__(f"byte {position}")
        self.position = position


@dataclass
class Table:
    """Rows of one object.

    Attributes:
        data: The text.
        key_spans: (R, 2) first byte and end of each row's key.
        spans: (R, 2) first byte and end of each row's value.
        words: (R, C) uint64 cells; see :mod:`egopose.kernels.json_scan`.
        columns: Path inside the row (keys and list positions) to column.
    """

    data: NDArray[np.uint8]
    key_spans: NDArray[np.int64]
    spans: NDArray[np.int64]
    words: Words
    columns: dict[tuple[Key, ...], int]

    def __len__(self) -> int:
        return len(self.spans)

    def key(self, row: int) -> str:
        """Key of a row."""
        a, b = self.key_spans[row]
        return self.data[a:b].tobytes().decode("ascii")

    @property
    def keys(self) -> list[str]:
        """Keys of all rows."""
        return [self.key(row) for row in range(len(self))]

    def numbers_of_keys(self, limit: int) -> NDArray[np.int64]:
        """(R,) keys as whole numbers below a limit; -1 for keys that are none."""
        from egopose.kernels.json_cells import whole_numbers

        out = np.empty(len(self), dtype=np.int64)
        whole_numbers(self.data, np.ascontiguousarray(self.key_spans), limit, out)
        return out

    def strings(
        self, paths: list[tuple[Key, ...]], rows: NDArray[np.int64], codes: dict[str, int]
    ) -> NDArray[np.uint8]:
        """(N, K) codes of string cells, 0 for other texts and other cells."""
        from egopose.kernels.json_cells import match_strings

        columns = np.array([self.columns.get(path, -1) for path in paths], dtype=np.int64)
        out = np.zeros((rows.size, columns.size), dtype=np.uint8)
        for text, code in codes.items():
            wanted = np.frombuffer(f'{text}"'.encode(), dtype=np.uint8)
            match_strings(self.data, self.words, rows, columns, wanted, np.uint8(code), out)
        return out

    def cells(self, paths: list[tuple[Key, ...]]) -> Words:
        """(R, len(paths)) cells; ``ABSENT`` where no row has such a path."""
        from egopose.kernels.json_scan import ABSENT

        index = np.array([self.columns.get(path, -1) for path in paths], dtype=np.int64)
        if (index >= 0).all() and index.size and (np.diff(index) == 1).all():
            return self.words[:, index[0] : index[-1] + 1]
        picked = self.words[:, np.maximum(index, 0)] if self.words.shape[1] else np.empty((len(self), index.size))
        picked = picked.astype(np.uint64, copy=False)
        picked[:, index < 0] = np.uint64(ABSENT)
        return np.ascontiguousarray(picked)

    def numbers(
        self, paths: list[tuple[Key, ...]], rows: NDArray[np.int64] | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        """Cells as float64, NaN where there is no number.

        Args:
            paths: K paths.
            rows: (N,) rows to take; None takes all.

        Returns:
            (N, K) numbers, and (N, 2) how many cells are absent or null, and how many anything else but a number.
        """
        from egopose.kernels.json_cells import gather_numbers

        rows = np.arange(len(self)) if rows is None else rows
        columns = np.array([self.columns.get(path, -1) for path in paths], dtype=np.int64)
        out = np.empty((rows.size, columns.size))
        misfits = np.empty((rows.size, 2), dtype=np.int64)
        gather_numbers(self.words, self.words.view(np.float64), rows, columns, out, misfits)
        return out, misfits


def is_number(words: Words) -> NDArray[np.bool_]:
    """Where a cell holds a number (NaN and infinity included)."""
    from egopose.kernels.json_scan import BOXED

    return np.asarray((words >> np.uint64(50)) != np.uint64(BOXED))


def as_numbers(words: Words) -> NDArray[np.float64]:
    """Cells as float64; everything that is no number is NaN."""
    values = np.ascontiguousarray(words).view(np.float64)
    # one bit pattern for NaN, so that no payload leaves this module
    return np.asarray(np.where(np.isnan(values), np.nan, values))


class Scanner:
    """Scans several objects of the same shape in one buffer; the paths learnt are shared.

    Args:
        data: The bytes.
    """

    def __init__(self, data: NDArray[np.uint8]) -> None:
        from egopose.kernels import json_scan as kernel

        self._kernel = kernel
        self.data = data
        end = data.size
        tail = data[max(0, end - 4096) :].tobytes().rstrip(b" \t\r\n")
        if not tail.endswith(b"}"):
            raise Unusual(end)
        self.end = max(0, end - 4096) + len(tail)
        self._nodes = np.full((256, kernel.N_FIELDS), -1, dtype=np.int64)
        self._slow = np.empty((64, 4), dtype=np.int64)
        self._state = np.array([0, 1, 0, 0, 0], dtype=np.int64)
        self._words = self._empty(64, 64)
        self._spans = np.empty((64, 4), dtype=np.int64)

    def _empty(self, rows: int, columns: int) -> Words:
        if rows * columns > MAX_CELLS:
            raise Unusual(0)
        return np.empty((rows, columns), dtype=np.uint64)

    def space(self, pos: int) -> int:
        """Position of the next byte that is no white space."""
        while pos < self.end and self.data[pos] in (32, 9, 10, 13):
            pos += 1
        if pos >= self.end:
            raise Unusual(pos)
        return pos

    def expect(self, pos: int, char: str) -> int:
        """Position after white space and one given byte."""
        pos = self.space(pos)
        if self.data[pos] != ord(char):
            raise Unusual(pos)
        return pos + 1

    def text(self, pos: int) -> tuple[str, int]:
        """A plain string, and the position after it."""
        start = self.expect(pos, '"')
        stop = start
        while stop < self.end and self.data[stop] != 34:
            if self.data[stop] < 32 or self.data[stop] > 126 or self.data[stop] == 92:
                raise Unusual(stop)
            stop += 1
        if stop >= self.end:
            raise Unusual(stop)
        return self.data[start:stop].tobytes().decode("ascii"), stop + 1

    def members(self, pos: int) -> Iterator[tuple[str, int]]:
        """Keys of the object at ``pos`` and where their values start; set :attr:`after` behind each value."""
        pos = self.expect(pos, "{")
        if self.data[self.space(pos)] == ord("}"):
            self.after = self.space(pos) + 1
            return
        seen: set[str] = set()
        while True:
            key, pos = self.text(pos)
            if key in seen:
                raise Unusual(pos)
            seen.add(key)
            pos = self.space(self.expect(pos, ":"))
            self.after = -1
            yield key, pos
            pos = self.space(self.after)
            if self.data[pos] == ord("}"):
                self.after = pos + 1
                return
            pos = self.expect(pos, ",")

    def rows(self, pos: int) -> tuple[int, int]:
        """Scan the object at ``pos``; returns the range of rows it became and sets :attr:`after`."""
        kernel, state = self._kernel, self._state
        first = int(state[kernel.ROWS])
        pos = self.space(self.expect(pos, "{"))
        if self.data[pos] == ord("}"):
            self.after = pos + 1
            return first, first
        while True:
            words = self._words
            status, pos = kernel.scan_rows(
                self.data, pos, self.end, words, words.view(np.float64), self._spans, self._nodes, self._slow, state
            )
            if status == kernel.DONE:
                self.after = int(pos)
                return first, int(state[kernel.ROWS])
            if status == kernel.UNUSUAL:
                raise Unusual(int(pos))
            self._grow(int(status), int(pos))

    def _grow(self, status: int, pos: int) -> None:
        kernel, state = self._kernel, self._state
        used = int(state[kernel.ROWS])
        rows, columns = self._words.shape
        if status == kernel.GROW_ROWS:
            # the share of the file read so far says how many rows are to come
            guess = int(used * 1.02 * self.end / max(pos, 1)) + 64
            rows = max(rows * 2, guess)
            # no wider than the first rows showed: memory that is never touched costs nothing, rows do
            columns = min(columns, max(8, int(state[kernel.COLUMNS]) + 4))
        elif status == kernel.GROW_COLUMNS:
            columns *= 2
        elif status == kernel.GROW_NODES:
            if len(self._nodes) >= MAX_NODES:
                raise Unusual(pos)
            self._nodes = np.concatenate([self._nodes, np.full_like(self._nodes, -1)])
            return
        else:
            self._slow = np.concatenate([self._slow, np.empty_like(self._slow)])
            return
        if columns > MAX_COLUMNS:
            raise Unusual(pos)
        grown = self._empty(rows, columns)
        grown[:used] = kernel.ABSENT
        shared = min(columns, self._words.shape[1])
        grown[:used, :shared] = self._words[:used, :shared]
        self._words = grown
        spans = np.empty((rows, 4), dtype=np.int64)
        spans[:used] = self._spans[:used]
        self._spans = spans

    def finish(self) -> None:
        """Check that nothing but white space follows the last value."""
        if self.data[self.after : self.end].tobytes().strip(b" \t\r\n"):
            raise Unusual(self.after)

    def table(self, first: int = 0, last: int | None = None) -> Table:
        """Some of the rows, with the numbers that the kernel left undecided filled in."""
        kernel, state = self._kernel, self._state
        last = int(state[kernel.ROWS]) if last is None else last
        values = self._words.view(np.float64)
        for row, column, start, stop in self._slow[: state[kernel.SLOW]]:
            value = float(self.data[start:stop].tobytes())
            values[row, column] = value
        state[kernel.SLOW] = 0
        spans = self._spans[first:last]
        return Table(self.data, spans[:, :2], spans[:, 2:], self._words[first:last], self._paths())

    def _paths(self) -> dict[tuple[Key, ...], int]:
        kernel, nodes = self._kernel, self._nodes
        paths: list[tuple[Key, ...]] = [()]
        columns: dict[tuple[Key, ...], int] = {}
        if nodes[0, kernel.COLUMN] >= 0:
            columns[()] = int(nodes[0, kernel.COLUMN])
        for node in nodes[1 : self._state[kernel.NODES]].tolist():
            start, length = node[kernel.KEY], node[kernel.LENGTH]
            key: Key = start if length < 0 else self.data[start : start + length].tobytes().decode("ascii")
            path = (*paths[node[kernel.PARENT]], key)
            paths.append(path)
            if node[kernel.COLUMN] >= 0:
                columns[path] = node[kernel.COLUMN]
        return columns


def warm_up() -> None:
    """Compile the scanner once, so that the first large file does not wait for it."""
    text = b'{"0": [{"x": 1.5, "y": "auto"}], "a": [{"x": NaN, "y": null}]}'
    scanner = Scanner(np.frombuffer(text, dtype=np.uint8))
    scanner.rows(0)
    table = scanner.table()
    table.numbers([(0, "x")])
    table.numbers_of_keys(10)
    table.strings([(0, "y")], np.arange(2), {"auto": 1})
