"""The metrics once more, plainly: one frame at a time, from their definitions, sharing nothing with the package."""

from __future__ import annotations

import numpy as np


def procrustes(p: np.ndarray, t: np.ndarray, scale: bool = True) -> np.ndarray:
    """``p`` moved onto ``t`` by the best proper similarity: orthogonal Procrustes with the sign in the middle."""
    pc, tc = p - p.mean(0), t - t.mean(0)
    U, S, Vt = np.linalg.svd(tc.T @ pc)
    D = np.diag([1.0, 1.0, np.sign(np.linalg.det(U) * np.linalg.det(Vt))])
    R = U @ D @ Vt
    spread = (pc**2).sum()
    if spread == 0:
        return np.broadcast_to(t.mean(0), t.shape)
    s = np.trace(np.diag(S) @ D) / spread if scale else 1.0
    return s * pc @ R.T + t.mean(0)


def per_frame(pred, target, valid, kind: str) -> np.ndarray:
    """Mean error of each frame by the rules: counted joints only, NaN frames."""
    out = []
    for p, t, v in zip(np.asarray(pred, float), np.asarray(target, float), valid):
        use = v & np.isfinite(t).all(-1)
        if not use.any() or not np.isfinite(p[use]).all():
            out.append(np.nan)
            continue
        p, t = p[use], t[use]
        if kind == "pa":
            p = procrustes(p, t)
        elif kind == "rigid":
            p = procrustes(p, t, scale=False)
        elif kind == "n":
            p = p * ((p * t).sum() / (p * p).sum() if (p * p).sum() else 0.0)
        out.append(np.linalg.norm(p - t, axis=-1).mean())
    return np.array(out)


def mp_residual(p: np.ndarray, t: np.ndarray, scale: bool = True, digits: int = 60) -> float:
    """Root of the least mean square after alignment, with many digits: the largest root of Horn's 4x4 matrix."""
    import mpmath as mp

    with mp.workdps(digits):
        P = [[mp.mpf(float(x)) for x in row] for row in p]
        T = [[mp.mpf(float(x)) for x in row] for row in t]
        n = len(P)
        pm = [sum(r[k] for r in P) / n for k in range(3)]
        tm = [sum(r[k] for r in T) / n for k in range(3)]
        P = [[r[k] - pm[k] for k in range(3)] for r in P]
        T = [[r[k] - tm[k] for k in range(3)] for r in T]
        S = mp.matrix(3, 3)
        for a, b in zip(P, T):
            for i in range(3):
                for k in range(3):
                    S[i, k] += a[i] * b[k]
        N = mp.matrix(
            [
                [S[0, 0] + S[1, 1] + S[2, 2], S[1, 2] - S[2, 1], S[2, 0] - S[0, 2], S[0, 1] - S[1, 0]],
                [S[1, 2] - S[2, 1], S[0, 0] - S[1, 1] - S[2, 2], S[0, 1] + S[1, 0], S[2, 0] + S[0, 2]],
                [S[2, 0] - S[0, 2], S[0, 1] + S[1, 0], -S[0, 0] + S[1, 1] - S[2, 2], S[1, 2] + S[2, 1]],
                [S[0, 1] - S[1, 0], S[2, 0] + S[0, 2], S[1, 2] + S[2, 1], -S[0, 0] - S[1, 1] + S[2, 2]],
            ]
        )
        root = max(mp.eigsy(N, eigvals_only=True))
        pp = sum(x * x for r in P for x in r)
        tt = sum(x * x for r in T for x in r)
        least = tt - root**2 / pp if scale and pp > 0 else (tt if pp == 0 else tt + pp - 2 * root)
        return float(mp.sqrt(max(least, mp.mpf(0)) / n))
