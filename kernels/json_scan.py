"""JSON straight into a table of numbers: one row per member of an object, one column per path inside the member.

Pose files repeat one small shape tens of thousands of times. The scanner walks the bytes once, learns the paths as it
meets them (a trie over keys and list positions, with the last successor of each node as the first guess), and writes
every leaf into a cell of 64 bits. Numbers are themselves; everything else is a NaN with a payload:

``ABSENT``, ``NULL``, ``TRUE``, ``FALSE``, ``EMPTY_LIST``, ``EMPTY_OBJECT``, or ``STRING | offset`` of the text.

It accepts a plain subset of JSON (ASCII, no escapes, bounded depth) plus the bare tokens NaN, Infinity and -Infinity.
Anything else gives ``UNUSUAL``, and the caller reads the file with a general parser.

Numbers are read by :mod:`egopose.kernels.json_number`; what it cannot decide is listed for the caller.
"""

from __future__ import annotations

import numpy as np
from numba import njit

from .json_number import parse_number

ABSENT = 0xFFFC_0000_0000_0000
NULL = ABSENT + 1
TRUE = ABSENT + 2
FALSE = ABSENT + 3
EMPTY_LIST = ABSENT + 4
EMPTY_OBJECT = ABSENT + 5
STRING = 0xFFFD_0000_0000_0000
BOXED = 0x3FFF
"""The top 14 bits of every cell that is no number."""

DONE, GROW_ROWS, GROW_NODES, GROW_COLUMNS, GROW_SLOW, UNUSUAL = range(6)
# state of a scan: how much of each array is used; the stamp tells the rows apart
ROWS, NODES, COLUMNS, SLOW, STAMP = range(5)
# columns of the node table
PARENT, KEY, LENGTH, FIRST, LAST, SIBLING, NEXT, COLUMN, SEEN, N_FIELDS = range(10)
MAX_DEPTH = 12

_ABSENT, _NULL, _TRUE, _FALSE = np.uint64(ABSENT), np.uint64(NULL), np.uint64(TRUE), np.uint64(FALSE)
_EMPTY_LIST, _EMPTY_OBJECT, _STRING = np.uint64(EMPTY_LIST), np.uint64(EMPTY_OBJECT), np.uint64(STRING)


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _space(data, pos, end):
    """Position of the next byte that is no white space."""
    while pos < end and (data[pos] == 32 or data[pos] == 10 or data[pos] == 13 or data[pos] == 9):
        pos += 1
    return pos


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _text_end(data, pos, end):
    """Position of the closing quote of a plain string that starts at ``pos``; -1 where it is not plain."""
    while pos < end:
        c = data[pos]
        if c == 34:
            return pos
        if c < 32 or c > 126 or c == 92:
            return -1
        pos += 1
    return -1


@njit(cache=True, error_model="numpy", nogil=True, inline="always")
def _same_key(data, pos, end, nodes, node):
    """Whether the string that starts at ``pos`` is the key of a node."""
    size = nodes[node, LENGTH]
    if size < 0 or pos + size >= end or data[pos + size] != 34:
        return False
    key = nodes[node, KEY]
    for i in range(size):  # noqa: SIM110 (a generator does not compile)
        if data[pos + i] != data[key + i]:
            return False
    return True


@njit(cache=True, error_model="numpy", nogil=True)
def _add_node(nodes, state, parent, key, length):
    """A new child at the end of its parent's list; -1 when the table is full."""
    node = state[NODES]
    if node == nodes.shape[0]:
        return -1
    state[NODES] = node + 1
    nodes[node, PARENT] = parent
    nodes[node, KEY] = key
    nodes[node, LENGTH] = length
    nodes[node, FIRST] = nodes[node, LAST] = nodes[node, SIBLING] = nodes[node, NEXT] = nodes[node, COLUMN] = -1
    nodes[node, SEEN] = -1
    if nodes[parent, FIRST] < 0:
        nodes[parent, FIRST] = node
    else:
        nodes[nodes[parent, LAST], SIBLING] = node
    nodes[parent, LAST] = node
    return node


@njit(cache=True, error_model="numpy", nogil=True)
def _find_key(data, pos, end, nodes, state, parent, before):
    """Child of an object by the key at ``pos``; -1 table full, -2 not a plain string."""
    node = nodes[parent, FIRST]
    while node >= 0:
        if _same_key(data, pos, end, nodes, node):
            return node
        node = nodes[node, SIBLING]
    close = _text_end(data, pos, end)
    if close < 0:
        return -2
    return _add_node(nodes, state, parent, pos, close - pos)


@njit(cache=True, error_model="numpy", nogil=True)
def _find_index(nodes, state, parent, index):
    """Child of a list by its position; -1 table full."""
    node = nodes[parent, FIRST]
    while node >= 0:
        if nodes[node, LENGTH] < 0 and nodes[node, KEY] == index:
            return node
        node = nodes[node, SIBLING]
    return _add_node(nodes, state, parent, index, -1)


@njit(cache=True, error_model="numpy", nogil=True)
def _scan_value(data, pos, end, words, values, nodes, slow, state, row, stack):
    """One value below the root node into one row; returns (status, position after it)."""
    stamp = state[STAMP]
    depth = -1
    node = 0
    before = -1
    inside_list = False
    while True:
        # a value of `node` starts at pos
        c = data[pos]
        if c == 123 or c == 91:
            opened_list = c == 91
            first = _space(data, pos + 1, end)
            if first >= end:
                return UNUSUAL, pos
            if data[first] != (93 if opened_list else 125):
                depth += 1
                if depth == stack.shape[0]:
                    return UNUSUAL, pos
                stack[depth, 0] = node
                stack[depth, 1] = opened_list
                stack[depth, 2] = 0
                inside_list = opened_list
                before = -1
                pos = first
            else:
                column = nodes[node, COLUMN]
                if column < 0:
                    column = state[COLUMNS]
                    if column == words.shape[1]:
                        return GROW_COLUMNS, pos
                    nodes[node, COLUMN] = column
                    state[COLUMNS] = column + 1
                words[row, column] = _EMPTY_LIST if opened_list else _EMPTY_OBJECT
                pos = first + 1
                before = node
                first = -1
        else:
            first = -1
            column = nodes[node, COLUMN]
            if column < 0:
                column = state[COLUMNS]
                if column == words.shape[1]:
                    return GROW_COLUMNS, pos
                nodes[node, COLUMN] = column
                state[COLUMNS] = column + 1
            if c == 34:
                close = _text_end(data, pos + 1, end)
                if close < 0:
                    return UNUSUAL, pos
                words[row, column] = _STRING | np.uint64(pos + 1)
                pos = close + 1
            elif c == 45 and data[pos + 1] == 73:
                if not _literal(data, pos + 1, end, 73, 110, 102, 105, 110, 105, 116, 121):
                    return UNUSUAL, pos
                values[row, column] = -np.inf
                pos += 9
            elif c == 45 or 48 <= c <= 57:
                how, after, value = parse_number(data, pos, end)
                if how == 2:
                    return UNUSUAL, pos
                if how == 1:
                    if state[SLOW] == slow.shape[0]:
                        return GROW_SLOW, pos
                    slow[state[SLOW], 0] = row
                    slow[state[SLOW], 1] = column
                    slow[state[SLOW], 2] = pos
                    slow[state[SLOW], 3] = after
                    state[SLOW] += 1
                values[row, column] = value
                pos = after
            elif c == 78:
                if pos + 2 >= end or data[pos + 1] != 97 or data[pos + 2] != 78:
                    return UNUSUAL, pos
                values[row, column] = np.nan
                pos += 3
            elif c == 73:
                if not _literal(data, pos, end, 73, 110, 102, 105, 110, 105, 116, 121):
                    return UNUSUAL, pos
                values[row, column] = np.inf
                pos += 8
            elif c == 110:
                if pos + 3 >= end or data[pos + 1] != 117 or data[pos + 2] != 108 or data[pos + 3] != 108:
                    return UNUSUAL, pos
                words[row, column] = _NULL
                pos += 4
            elif c == 116:
                if pos + 3 >= end or data[pos + 1] != 114 or data[pos + 2] != 117 or data[pos + 3] != 101:
                    return UNUSUAL, pos
                words[row, column] = _TRUE
                pos += 4
            elif c == 102:
                if pos + 4 >= end or not (
                    data[pos + 1] == 97 and data[pos + 2] == 108 and data[pos + 3] == 115 and data[pos + 4] == 101
                ):
                    return UNUSUAL, pos
                words[row, column] = _FALSE
                pos += 5
            else:
                return UNUSUAL, pos
            before = node
        if first < 0:
            # a value ended: close containers until one goes on
            while True:
                if depth < 0:
                    return DONE, pos
                pos = _space(data, pos, end)
                if pos >= end:
                    return UNUSUAL, pos
                c = data[pos]
                pos += 1
                if c == 44:
                    pos = _space(data, pos, end)
                    break
                if c != (93 if inside_list else 125):
                    return UNUSUAL, pos
                before = stack[depth, 0]
                depth -= 1
                if depth >= 0:
                    inside_list = stack[depth, 1] != 0
        # the next member of the container on top starts at pos
        if pos >= end:
            return UNUSUAL, pos
        parent = stack[depth, 0]
        guess = nodes[parent, FIRST] if before < 0 else nodes[before, NEXT]
        if inside_list:
            index = stack[depth, 2]
            stack[depth, 2] = index + 1
            if guess >= 0 and nodes[guess, LENGTH] < 0 and nodes[guess, KEY] == index:
                node = guess
            else:
                node = _find_index(nodes, state, parent, index)
        else:
            if data[pos] != 34:
                return UNUSUAL, pos
            pos += 1
            if guess >= 0 and _same_key(data, pos, end, nodes, guess):
                node = guess
            else:
                node = _find_key(data, pos, end, nodes, state, parent, before)
        if node < 0:
            return (GROW_NODES if node == -1 else UNUSUAL), pos
        if nodes[node, SEEN] == stamp:
            # a key stands twice
            return UNUSUAL, pos
        nodes[node, SEEN] = stamp
        if before >= 0 and guess != node:
            nodes[before, NEXT] = node
        if not inside_list:
            pos = _space(data, pos + nodes[node, LENGTH] + 1, end)
            if pos >= end or data[pos] != 58:
                return UNUSUAL, pos
            pos = _space(data, pos + 1, end)
            if pos >= end:
                return UNUSUAL, pos


@njit(cache=True, error_model="numpy", nogil=True)
def _literal(data, pos, end, a, b, c, d, e, f, g, h):
    """Whether eight given bytes stand at ``pos``."""
    return (
        pos + 7 < end
        and data[pos] == a
        and data[pos + 1] == b
        and data[pos + 2] == c
        and data[pos + 3] == d
        and data[pos + 4] == e
        and data[pos + 5] == f
        and data[pos + 6] == g
        and data[pos + 7] == h
    )


@njit(cache=True, error_model="numpy", nogil=True)
def scan_rows(data, pos, end, words, values, spans, nodes, slow, state):
    """The members of an object into rows, from a member's first byte to past the closing brace.

    Call again with the position returned after growing the array that was full.

    Args:
        data: (B,) uint8; ``data[end - 1]`` is a closing brace.
        pos: Position of the quote of a member's key.
        end: Bytes from here on are not read.
        words: (R, C) uint64 cells, written.
        values: The same memory as float64.
        spans: (R, 4) int64: start and end of the key's text and of the value, written.
        nodes: (N, N_FIELDS) int64 paths; row 0 is the root.
        slow: (S, 4) int64: row, column, start, end of numbers that are left to the caller, written.
        state: (5,) int64: used rows, nodes, columns, slow numbers, stamp; written.

    Returns:
        (status, position)
    """
    stack = np.empty((MAX_DEPTH, 3), dtype=np.int64)
    while True:
        if pos >= end or data[pos] != 34:
            return UNUSUAL, pos
        row = state[ROWS]
        if row == words.shape[0]:
            return GROW_ROWS, pos
        close = _text_end(data, pos + 1, end)
        if close < 0:
            return UNUSUAL, pos
        after = _space(data, close + 1, end)
        if after >= end or data[after] != 58:
            return UNUSUAL, after
        after = _space(data, after + 1, end)
        if after >= end:
            return UNUSUAL, after
        state[STAMP] += 1
        words[row, :] = _ABSENT
        n_slow = state[SLOW]
        status, stop = _scan_value(data, after, end, words, values, nodes, slow, state, row, stack)
        if status != DONE:
            state[SLOW] = n_slow
            return status, (pos if status != UNUSUAL else stop)
        spans[row, 0] = pos + 1
        spans[row, 1] = close
        spans[row, 2] = after
        spans[row, 3] = stop
        state[ROWS] = row + 1
        pos = _space(data, stop, end)
        if pos >= end:
            return UNUSUAL, pos
        if data[pos] == 125:
            return DONE, pos + 1
        if data[pos] != 44:
            return UNUSUAL, pos
        pos = _space(data, pos + 1, end)
