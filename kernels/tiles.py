"""Frames into tiles: LANES frames side by side, one row per coordinate, small enough for the first cache.

A tile is 6 J rows of LANES float64 (x y z of each joint of the prediction, then of the target) and a byte per joint,
whose bit i says whether the joint may count in frame i.
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .simd import BARE, LANES
from .simd_memory import prefetch, turn_bits, turn_block

AHEAD = 4
"""How many tiles ahead lines are fetched: measured; more gains nothing."""

_FULL = (1 << LANES) - 1


@nb.njit(**BARE)
def turn_rows(source, begin, stride, n, tile, offset):
    """Transpose ``n`` numbers of LANES frames into ``n`` rows of the tile."""
    if n >= LANES:
        line = 64 // source.itemsize
        ahead = begin + AHEAD * LANES * stride
        i = 0
        while i + LANES <= n:
            for k in range(0, LANES * LANES, line):
                prefetch(source, ahead + i * LANES + k)
            turn_block(source, begin + i, stride, tile, offset + i * LANES)
            i += LANES
        if i < n:
            # the last block overlaps the one before
            for k in range(i * LANES, n * LANES, line):
                prefetch(source, ahead + k)
            turn_block(source, begin + n - LANES, stride, tile, offset + (n - LANES) * LANES)
    else:
        for i in range(n):
            for lane in range(LANES):
                tile[offset + i * LANES + lane] = source[begin + lane * stride + i]


@nb.njit(**BARE)
def turn_flags(source, begin, J, may, offset):
    """Bit i of byte j: whether byte j of frame i is not 0."""
    if J >= 8:
        j = 0
        while j + 8 <= J:
            turn_bits(source, begin + j, J, may, offset + j)
            j += 8
        if j < J:
            turn_bits(source, begin + J - 8, J, may, offset + J - 8)
    else:
        for j in range(J):
            b = 0
            for lane in range(LANES):
                b |= np.int64(source[begin + lane * J + j] != 0) << lane
            may[offset + j] = b


@nb.njit(**BARE)
def fill_tile(pred, target, valid, J, frame, tile, may, slot):
    """Frames ``frame`` .. ``frame + LANES`` of flat arrays into a tile.

    Args:
        pred: Flat (N * J * 3,) float32 or float64.
        target: The same.
        valid: Flat (N * J,) uint8; empty when every joint with a finite target counts.
        J: Joints.
        frame: First frame.
        tile: (S * 6 * J * LANES,) float64, room for S tiles; out.
        may: (S * J,) uint8; out.
        slot: Which of the S tiles.
    """
    n = 3 * J
    at = 2 * n * LANES * slot
    turn_rows(pred, frame * n, n, n, tile, at)
    turn_rows(target, frame * n, n, n, tile, at + n * LANES)
    if valid.size > 0:
        turn_flags(valid, frame * J, J, may, slot * J)
    else:
        for j in range(J):
            may[slot * J + j] = _FULL


@nb.njit(**BARE)
def fill_last(pred, target, valid, J, frame, stop, tile, may, slot):
    """The same for fewer than LANES frames before ``stop``; no joint of the lanes behind counts."""
    n = 3 * J
    at = 2 * n * LANES * slot
    for lane in range(LANES):
        inside = frame + lane < stop
        for i in range(n):
            k = (frame + lane) * n + i
            tile[at + i * LANES + lane] = pred[k] if inside else 0.0
            tile[at + (n + i) * LANES + lane] = target[k] if inside else np.nan
    for j in range(J):
        b = 0
        for lane in range(min(LANES, stop - frame)):
            b |= np.int64(valid.size == 0 or valid[(frame + lane) * J + j] != 0) << lane
        may[slot * J + j] = b
