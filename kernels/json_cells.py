"""Cells of a scanned table as arrays: numbers, whole-number keys, codes of texts (see ``json_scan``)."""

from __future__ import annotations

import numpy as np
from numba import njit

from .json_scan import _ABSENT, _NULL, _STRING, BOXED


@njit(cache=True, error_model="numpy", nogil=True)
def gather_numbers(words, values, rows, columns, out, misfits):
    """Some cells as numbers, everything else NaN, and how many cells of each row are neither numbers nor missing.

    Args:
        words: (R, C) uint64 cells.
        values: The same memory as float64.
        rows: (N,) int64 rows to take.
        columns: (K,) int64 columns, -1 = a path that no row has.
        out: (N, K) float64, written; one bit pattern for every NaN.
        misfits: (N, 2) int64, written: cells that are absent or null, cells that are anything else but numbers.
    """
    boxed = np.uint64(BOXED)
    shift = np.uint64(50)
    for i in range(rows.size):
        row = rows[i]
        absent = 0
        other = 0
        for k in range(columns.size):
            column = columns[k]
            value = np.nan
            if column < 0:
                absent += 1
            else:
                word = words[row, column]
                if word >> shift != boxed:
                    value = values[row, column]
                elif word == _ABSENT or word == _NULL:  # noqa: SIM109
                    absent += 1
                else:
                    other += 1
            out[i, k] = value
        misfits[i, 0] = absent
        misfits[i, 1] = other


@njit(cache=True, error_model="numpy", nogil=True)
def whole_numbers(data, spans, limit, out):
    """Keys that are plain whole numbers (no zeros before them) below a limit; -1 for others.

    Args:
        data: (B,) uint8.
        spans: (R, 2+) int64 start and end of the text.
        limit: int64.
        out: (R,) int64, written.
    """
    for i in range(spans.shape[0]):
        start, stop = spans[i, 0], spans[i, 1]
        size = stop - start
        number = 0
        if size < 1 or size > 13 or (size > 1 and data[start] == 48):
            number = -1
        else:
            for k in range(start, stop):
                digit = np.int64(data[k]) - 48
                if digit < 0 or digit > 9:
                    number = -1
                    break
                number = number * 10 + digit
        out[i] = number if number < limit else -1


@njit(cache=True, error_model="numpy", nogil=True)
def match_strings(data, words, rows, columns, text, code, out):
    """Write a code where a string cell is a given text.

    Args:
        data: (B,) uint8.
        words: (R, C) uint64 cells.
        rows: (N,) int64.
        columns: (K,) int64, -1 = no such path.
        text: (M,) uint8, closing quote included.
        code: What to write.
        out: (N, K) uint8, written where the text matches.
    """
    tag = _STRING >> np.uint64(48)
    mask = np.uint64((1 << 48) - 1)
    for i in range(rows.size):
        for k in range(columns.size):
            if columns[k] < 0:
                continue
            word = words[rows[i], columns[k]]
            if word >> np.uint64(48) != tag:
                continue
            start = np.int64(word & mask)
            if start + text.size > data.size:
                continue
            same = True
            for m in range(text.size):
                if data[start + m] != text[m]:
                    same = False
                    break
            if same:
                out[i, k] = code
