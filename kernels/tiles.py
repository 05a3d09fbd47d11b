"""Frames into tiles: LANES frames side by side, one row per coordinate, small enough for the first cache.

A tile has 8 rows per joint: the prediction's x y z, the target's x y z, 1 where the joint may count (all ones at first,
and left so without a mask), and 1 where it does.
Row r of the tile is the LANES numbers from ``r * LANES``: prediction rows first (3 J), then the target's (3 J), then
the mask's (J) and the counted joints' (J).
"""

from __future__ import annotations

import numba as nb
import numpy as np

from .simd import LANES, turn_block


@nb.njit(cache=True, error_model="numpy", nogil=True)
def turn_rows(source, begin, stride, n, tile, offset):
    """Transpose ``n`` numbers of LANES frames into ``n`` rows of the tile."""
    if n >= LANES:
        i = 0
        while i + LANES <= n:
            turn_block(source, begin + i, stride, tile, offset + i * LANES)
            i += LANES
        if i < n:
            # the last block overlaps the one before
            turn_block(source, begin + n - LANES, stride, tile, offset + (n - LANES) * LANES)
    else:
        for i in range(n):
            for lane in range(LANES):
                tile[offset + i * LANES + lane] = source[begin + lane * stride + i]


@nb.njit(cache=True, error_model="numpy", nogil=True)
def fill_tile(pred, target, valid, J, frame, stop, tile, spare_p, spare_t, spare_v):
    """Frames ``frame`` .. ``frame + LANES`` of flat arrays into a tile; lanes from ``stop`` on have no counted joint.

    Args:
        pred: Flat (N * J * 3,) float32 or float64.
        target: The same.
        valid: Flat (N * J,) uint8; empty when every joint with a finite target counts.
        J: Joints.
        frame: First frame.
        stop: One past the last frame that may be read.
        tile: (8 * J * LANES,) float64, ones at first; out.
        spare_p: (LANES * J * 3,) scratch of the type of ``pred`` for the last frames.
        spare_t: The same for the target.
        spare_v: (LANES * J,) uint8 scratch.
    """
    n = 3 * J
    masked = valid.size > 0
    if frame + LANES <= stop:
        turn_rows(pred, frame * n, n, n, tile, 0)
        turn_rows(target, frame * n, n, n, tile, n * LANES)
        if masked:
            turn_rows(valid, frame * J, J, J, tile, 2 * n * LANES)
        return
    rest = stop - frame
    for i in range(LANES * n):
        spare_p[i] = 0.0
        spare_t[i] = np.nan
    for i in range(rest * n):
        spare_p[i] = pred[frame * n + i]
        spare_t[i] = target[frame * n + i]
    turn_rows(spare_p, 0, n, n, tile, 0)
    turn_rows(spare_t, 0, n, n, tile, n * LANES)
    if masked:
        for i in range(LANES * J):
            spare_v[i] = 0
        for i in range(rest * J):
            spare_v[i] = valid[frame * J + i]
        turn_rows(spare_v, 0, J, J, tile, 2 * n * LANES)
