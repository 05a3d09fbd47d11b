"""An independent reading of the official rules: plain loops over the dictionaries that the files hold.

Nothing here shares code with the package; the alignment of hands goes through scipy's ``Rotation.align_vectors``.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from scipy.spatial.transform import Rotation


class OfficialFailure(Exception):
    """The official script would stop here."""


ORDER = ("basketball", "bike", "cooking", "dance", "soccer", "health", "bouldering", "music")


def scenario(take_name: str) -> str:
    name = take_name.lower()
    if "basketball" in name:
        return "basketball"
    if "bike" in name:
        return "bike"
    if "cooking" in name:
        return "cooking"
    if "dance" in name:
        return "dance"
    if "soccer" in name:
        return "soccer"
    if "cpr" in name or "covid" in name:
        return "health"
    if "bouldering" in name:
        return "bouldering"
    if "piano" in name or "violin" in name or "guitar" in name or "music" in name:
        return "music"
    raise OfficialFailure(f"scenario {take_name}")


def keep_long_runs(frames: list[int]) -> list[int]:
    kept: list[int] = []
    run: list[int] = []
    for frame in frames:
        if run and frame - run[-1] > 3:
            if run[-1] - run[0] + 3 >= 120:
                kept += run
            run = []
        run.append(frame)
    if run and run[-1] - run[0] + 3 >= 120:
        kept += run
    return kept


def length(x: float, y: float, z: float) -> float:
    return math.sqrt(x * x + y * y + z * z)


def body_official(pred: dict[str, Any], truth: dict[str, Any]) -> dict[str, Any]:
    """Sums by scenario in file order; the numbers come from pooled sums."""
    sums = {name: [0.0, 0, 0.0, 0] for name in ORDER}
    for uid, take in truth.items():
        if uid not in pred:
            raise OfficialFailure(f"take {uid}")
        cell = sums[scenario(take["take_name"])]
        previous = None
        for frame in keep_long_runs(sorted(int(key) for key in take["body"])):
            if str(frame) not in pred[uid]["body"]:
                raise OfficialFailure(f"frame {frame}")
            want, got = take["body"][str(frame)], pred[uid]["body"][str(frame)]
            if len(got) != 17 or any(len(row) != 3 for row in got):
                raise OfficialFailure(f"shape {frame}")
            for j in range(17):
                if math.isnan(want[j][0]):
                    continue
                cell[0] += length(got[j][0] - want[j][0], got[j][1] - want[j][1], got[j][2] - want[j][2])
                cell[1] += 1
            if previous is not None and frame - previous[0] < 10:
                gap = frame - previous[0]
                for j in range(17):
                    if math.isnan(want[j][0]) or math.isnan(previous[1][j][0]):
                        continue
                    d = [(want[j][a] - previous[1][j][a]) - (got[j][a] - previous[2][j][a]) for a in range(3)]
                    cell[2] += length(*d) * 30 / gap
                    cell[3] += 1
            previous = (frame, want, got)
    total = [0.0, 0, 0.0, 0]
    for name in ORDER:
        total = [a + b for a, b in zip(total, sums[name])]
    rows = {name: cell for name, cell in sums.items() if cell[1]}
    return {"overall": _body_row(total), "scenarios": {name: _body_row(cell) for name, cell in rows.items()}}


def _body_row(cell: list[Any]) -> tuple[float, float, int, int]:
    return (
        cell[0] / cell[1] * 100 if cell[1] else math.nan,
        cell[2] / cell[3] if cell[3] else math.nan,
        cell[1],
        cell[3],
    )


def body_baseline(
    pred: dict[str, Any], truth: dict[str, Any], cameras: dict[str, dict[int, Any]] | None = None
) -> tuple[float, float]:
    """Centimetres and metres a second, the mean over takes of means that leave NaN out."""
    positions, velocities = [], []
    for uid, take in truth.items():
        frames = sorted(int(key) for key in take["body"])
        if cameras is not None:
            frames = [frame for frame in frames if frame in cameras[uid]]
        errors: list[float] = []
        moves: list[float] = []
        before = None
        for frame in frames:
            now = []
            for source in (take, pred[uid]):
                points = [list(map(float, p)) for p in source["body"][str(frame)]]
                if cameras is not None:
                    E = cameras[uid][frame]
                    points = [[sum(E[r][k] * p[k] for k in range(3)) + E[r][3] for r in range(3)] for p in points]
                now.append(points)
            for j in range(17):
                errors.append(length(*[now[1][j][a] - now[0][j][a] for a in range(3)]))
                if before is not None:
                    moves.append(
                        length(*[(now[1][j][a] - before[1][j][a]) * 10 - (now[0][j][a] - before[0][j][a]) * 10
                                 for a in range(3)])
                    )  # fmt: skip
            before = now
        seen = [e for e in errors if not math.isnan(e)]
        if not seen:
            continue
        positions.append(sum(seen) / len(seen))
        good = [m for m in moves if not math.isnan(m)]
        velocities.append(sum(good) / len(good) if good else math.nan)
    return sum(positions) / len(positions) * 100, sum(velocities) / len(velocities)


def hand_official(pred: dict[str, Any], truth: dict[str, Any], offset: bool = False) -> tuple[float, float, int]:
    """Millimetres: MPJPE, PA-MPJPE, and the number of hands."""
    plain, aligned = [], []
    for uid, take in truth.items():
        for frame, entry in take.items():
            for side in ("right", "left"):
                want = entry[f"{side}_hand_3d"]
                if len(want) == 0:
                    continue
                if uid not in pred or frame not in pred[uid]:
                    raise OfficialFailure(f"{uid} {frame}")
                got = pred[uid][frame].get(f"{side}_hand_3d", [])
                if len(got) != 21 or any(len(row) != 3 for row in got):
                    raise OfficialFailure(f"shape {uid} {frame} {side}")
                a = np.array([[1000 * v for v in row] for row in want])
                b = np.array([[1000 * (v + (want[0][k] if offset else 0)) for k, v in enumerate(row)] for row in got])
                use = [j for j in range(21) if entry[f"{side}_hand_valid_3d"][j]]
                plain.append(sum(length(*(a[j] - b[j])) for j in use) / len(use))
                aligned.append(_similarity(a[use], b[use]))
    return float(np.mean(plain)), float(np.mean(aligned)), len(plain)


def _similarity(a: np.ndarray, b: np.ndarray) -> float:
    if not np.isfinite(a).all() or not np.isfinite(b).all() or (b == b[0]).all() or (a == a[0]).all():
        raise OfficialFailure("SVD did not converge")
    a = a - a.mean(0)
    b = b - b.mean(0)
    turn = Rotation.align_vectors(a, b)[0].as_matrix()
    b = b @ turn.T
    b = b * ((a * b).sum() / (b * b).sum())
    return sum(length(*(p - q)) for p, q in zip(a, b)) / len(a)
