"""Scores over many takes from the sums of each: integers, so that they add up to the same bits in any order.

``egopose evaluate pose --each`` scores every row by itself, wherever it runs, and adds the rows' sums afterwards.
"""

from __future__ import annotations

import base64
import zlib
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from egopose.commands.pose_scores import AUC_MM, MM, PCK_MM, Pair, _even
from egopose.errors import EgoposeError
from egopose.metrics.accumulate import Accumulator, TakeSums

MAX_BYTES = 1 << 28
"""Most bytes that the unpacked sums of one row may take."""


def pair_sums(pairs: Sequence[Pair], names: Sequence[str], root: str | None = None) -> dict[str, Any]:
    """The sums of some takes, as JSON values.

    Args:
        pairs: The takes.
        names: The joints.
        root: Joint to subtract for root-relative errors.
    """
    state = _empty(len(names), None if root is None else list(names).index(root))
    expected = 0
    for number, pair in enumerate(pairs):
        even = _even(pair)
        pred, target, counted, rate = even or (np.nan_to_num(pair.pred), np.nan_to_num(pair.target), pair.counted, 1.0)
        state.update(str(number), pred, target, counted, fps=rate, threads=1)
        expected += int(np.isfinite(pair.target).all(-1).sum())
    return {
        "joints": list(names),
        "root": root,
        "joints_expected": expected,
        "takes": [
            {"fps": s.fps, "frames": s.frames, "expected": s.expected,
             "sums": [_pack(a) for a in (s.sums, s.frame_sums, s.histogram)]}
            for s in state.takes.values()
        ],
    }  # fmt: skip


def _empty(joints: int, root: int | None) -> Accumulator:
    return Accumulator(joints, root, AUC_MM[0] / MM, AUC_MM[1] / MM, AUC_MM[1] - AUC_MM[0] + 1)


def _pack(array: np.ndarray) -> str:
    return base64.b64encode(zlib.compress(array.astype("<i8").tobytes(), 6)).decode()


def _unpack(text: str, like: np.ndarray) -> np.ndarray:
    """Counts of a known size; anything else is refused before it takes memory."""
    engine = zlib.decompressobj()
    try:
        data = engine.decompress(base64.b64decode(text, validate=True), min(like.size * 8, MAX_BYTES) + 1)
    except (ValueError, zlib.error) as error:
        raise EgoposeError(f"sums of a take cannot be read ({error}); score it again") from error
    if len(data) != like.size * 8:
        raise EgoposeError(f"sums of a take hold {len(data)} bytes; expected {like.size * 8}; score it again")
    return np.frombuffer(data, "<i8").astype(np.int64).reshape(like.shape)


def pool_scores(rows: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Scores over all rows: the same bits whatever computed the rows, in whatever order.

    Args:
        rows: Results of ``evaluate pose --sums`` by name.

    Returns:
        ``metrics`` over joints, ``takes_mpjpe_mm`` by row, ``per_joint_mm``, ``coverage``, counts.

    Raises:
        EgoposeError: The rows scored different joints, or hold no sums.
    """
    names: list[str] = []
    total: Accumulator | None = None
    expected, root = 0, None
    for row, result in rows.items():
        sums = result.get("sums")
        if sums is None:
            raise EgoposeError(f"{row}: holds no sums; score it with --sums")
        if total is None:
            names, root = list(sums["joints"]), sums["root"]
            total = _empty(len(names), None if root is None else names.index(root))
        if (names, root) != (list(sums["joints"]), sums["root"]):
            raise EgoposeError(
                f"{row}: other joints than the rows before were scored; choose common ones with --joints"
            )
        expected += int(sums["joints_expected"])
        for number, take in enumerate(sums["takes"]):
            empty = total.empty(float(take["fps"]))
            counts = [_unpack(t, a) for t, a in zip(take["sums"], (empty.sums, empty.frame_sums, empty.histogram))]
            key = row if len(sums["takes"]) == 1 else f"{row}/{number}"
            total.takes[key] = TakeSums(
                counts[0], counts[1], counts[2], empty.fps, int(take["frames"]), int(take["expected"])
            )
    if total is None:
        raise EgoposeError("no rows to add up")
    found = total.compute()
    metrics = {
        "mpjpe_mm": found["mpjpe"]["micro"] * MM,
        "mpjpe_macro_mm": found["mpjpe"]["macro"] * MM,
        "pa_mpjpe_mm": found["pa_mpjpe"]["micro"] * MM,
        "pa_mpjpe_rigid_mm": found["rigid_mpjpe"]["micro"] * MM,
    }
    if root is not None:
        metrics["root_mpjpe_mm"] = found["root_mpjpe"]["micro"] * MM
        metrics["n_mpjpe_mm"] = found["n_mpjpe"]["micro"] * MM
    metrics["mpjve_m_s"] = found["mpjve"]["micro"]
    metrics["accel_error_m_s2"] = found["accel_error"]["micro"]
    metrics |= {f"pck_{mm}mm": float(found["mpjpe"]["pck"][mm - AUC_MM[0]]) for mm in PCK_MM}
    # by the trapezoid rule over steps of 1 mm; the score of one row is exact
    metrics[f"auc_{AUC_MM[0]}_{AUC_MM[1]}mm_by_1mm"] = found["mpjpe"]["auc"]
    scored = int(found["mpjpe"]["count"])
    return {
        "metrics": metrics,
        "takes_mpjpe_mm": {name: value * MM for name, value in found["mpjpe"]["by_take"].items()},
        "per_joint_mm": dict(zip(names, (found["mpjpe"]["joint"] * MM).tolist())),
        "frames": int(found["frames"]),
        "coverage": {
            "joints_expected": expected,
            "joints_scored": scored,
            "share": scored / expected if expected else float("nan"),
        },
    }


def pooled_table(result: Mapping[str, Any]) -> str:
    """The scores for people."""
    cover = result["coverage"]
    lines = [f"all rows: {result['frames']} frames, {100 * cover['share']:.2f}% of the joints of the references"]
    return "\n".join([*lines, *[f"{name:<22} {value:>10.3f}" for name, value in result["metrics"].items()]])
