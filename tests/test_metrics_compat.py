"""Each peer's number once more, plainly, from its rules; published values; the real packages where present."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.linalg import orthogonal_procrustes
from scipy.spatial import procrustes as scipy_procrustes
from scipy.spatial.transform import Rotation

from egopose import metrics as m
from egopose.errors import EgoposeError
from egopose.metrics import compat

from .metric_oracles import procrustes


def poses(n: int = 30, joints: int = 17, seed: int = 0):
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 0.4, (n, joints, 3))
    turn = Rotation.random(n, random_state=seed).as_matrix()
    pred = (target + rng.normal(0, 0.05, target.shape)) @ np.swapaxes(turn, 1, 2) * 1.3 + rng.normal(size=(n, 1, 3))
    return pred, target, rng.random((n, joints)) < 0.8


def walk(n: int = 230, joints: int = 17, seed: int = 0):
    rng = np.random.default_rng(seed)
    target = np.cumsum(rng.normal(0, 0.02, (n, 1, 3)), axis=0) + rng.normal(0, 0.3, (n, joints, 3))
    return target + np.cumsum(rng.normal(0, 0.01, (n, 1, 3)), axis=0) + rng.normal(0, 0.02, target.shape), target


def dist(a, b) -> np.ndarray:
    return np.linalg.norm(np.asarray(a) - np.asarray(b), axis=-1)


def close(a: dict, b: dict) -> None:
    assert a.keys() == b.keys()
    for key, value in b.items():
        assert a[key] == pytest.approx(value, abs=1e-9), key


def test_mmpose_published_values() -> None:
    output = np.array([
        [[1, 0, 0], [2, 2, 0], [0, 0, -1], [3, 3, 1], [0, 1, 1]],
        [[1, 0, 0], [2, 2, 1], [-1, 0, 0], [0, 0, 3], [0, 0, 1]],
    ], dtype=float)  # fmt: skip
    target = np.array([
        [[1, 0, 0], [1, 1, 1], [-1, 0, 0], [3, 3, 1], [0, 1, 0]],
        [[1, 1, 0], [1, 0, 1], [-1, 0, 0], [0, 0, 3], [1, 1, 0]],
    ], dtype=float)  # fmt: skip
    mask = np.array([[True, True, False, True, True]] * 2)
    assert compat.mmpose(output, target, mask) == pytest.approx(0.9625211990796929, abs=1e-15)
    assert compat.mmpose(output, target, mask, "procrustes") == pytest.approx(1.0047897634604497, abs=2e-15)
    assert compat.mmpose(output, target, mask, "scale") == pytest.approx(1.0277129678465953, abs=1e-15)
    with pytest.raises(EgoposeError, match="alignment"):
        compat.mmpose(output, target, mask, "alignment")  # type: ignore[arg-type]


def test_mmpose_fits_through_hidden_joints() -> None:
    pred, target, mask = poses()
    moved = np.array([procrustes(p, t) for p, t in zip(pred, target)])
    assert compat.mmpose(pred, target, mask, "procrustes") == pytest.approx(dist(moved, target)[mask].mean(), abs=1e-9)
    wild = pred.copy()
    wild[~mask] += 2.0
    ours = m.pa_mpjpe(wild, target, mask, reduce="micro")
    assert compat.mmpose(wild, target, mask, "procrustes") > 2 * ours


def test_hmr() -> None:
    pred, target, _ = poses()
    p, t = (x - (x[:, 11:12] + x[:, 12:13]) / 2 for x in (pred, target))
    expected = {
        "mpjpe_mm": 1000 * np.mean([dist(a, b).mean() for a, b in zip(p, t)]),
        "pa_mpjpe_mm": 1000 * np.mean([dist(procrustes(a, b), b).mean() for a, b in zip(p, t)]),
    }
    close(compat.hmr(pred, target), expected)


@pytest.mark.parametrize("trim", [False, True])
def test_wham(trim: bool) -> None:
    pred, target = walk()
    w, wa = [], []
    for s in range(0, 230, 100):
        a, b = pred[s : s + 100], target[s : s + 100]
        # a similarity of the first two frames, given as scale, rotation, translation
        x, y = a[:2].reshape(-1, 3), b[:2].reshape(-1, 3)
        xc, yc = x - x.mean(0), y - y.mean(0)
        U, S, Vt = np.linalg.svd(yc.T @ xc)
        D = np.diag([1, 1, np.sign(np.linalg.det(U @ Vt))])
        R, scale = U @ D @ Vt, np.trace(np.diag(S) @ D) / (xc**2).sum()
        w += list(dist(scale * (a - x.mean(0)) @ R.T + y.mean(0), b).mean(1))
        wa += list(dist(procrustes(a.reshape(-1, 3), b.reshape(-1, 3)), b.reshape(-1, 3)).reshape(-1, 17).mean(1))
    second = lambda x: x[2:] - 2 * x[1:-1] + x[:-2]  # noqa: E731
    accel = dist(second(pred), second(target)).mean(1) * 900
    third = pred[3:] - 3 * pred[2:-1] + 3 * pred[1:-2] - pred[:-3]
    path = procrustes(pred[:, 0], target[:, 0], scale=False)
    expected = {
        "w_mpjpe_mm": 1000 * np.mean(w),
        "wa_mpjpe_mm": 1000 * np.mean(wa),
        "accel_m_s2": np.mean(accel[1:-1] if trim else accel),
        "rte_percent": 100 * dist(path, target[:, 0]).mean() / dist(target[1:, 0], target[:-1, 0]).sum(),
        "jitter_10m_s3": np.linalg.norm(third, axis=-1).mean() * 30**3 / 10,
    }
    found = compat.wham(pred, target, trim=trim)
    for key, value in expected.items():
        assert found[key] == pytest.approx(value, rel=1e-9), key
    assert found["w_mpjpe_mm"] == pytest.approx(1000 * m.w_mpjpe(pred, target, reduce="macro"), abs=1e-9)
    assert found["rte_percent"] == pytest.approx(m.rte(pred, target), abs=1e-9)


def test_videopose3d() -> None:
    pred, target, _ = poses()
    scale = [(a * b).sum() / (a * a).sum() for a, b in zip(pred, target)]
    expected = {
        "mpjpe": dist(pred, target).mean(),
        "p_mpjpe": np.mean([dist(procrustes(a, b), b).mean() for a, b in zip(pred, target)]),
        "n_mpjpe": np.mean([dist(s * a, b).mean() for s, a, b in zip(scale, pred, target)]),
        "mean_velocity_error": dist(pred[1:] - pred[:-1], target[1:] - target[:-1]).mean(),
    }
    close(compat.videopose3d(pred, target), expected)
    pred[3] = 1.0
    assert np.isnan(compat.videopose3d(pred, target)["p_mpjpe"])


@pytest.mark.parametrize("aligned", [False, True])
def test_freihand(aligned: bool) -> None:
    pred, target, mask = poses(40, 21)
    pred = target + (pred - pred.mean(1, keepdims=True)) * 0.02 if not aligned else pred
    if aligned:
        pred[3] = target[3] * [-1, 1, 1]
    moved = pred.copy()
    if aligned:
        for i, (a, b) in enumerate(zip(pred, target)):
            ac, bc = a - a.mean(0), b - b.mean(0)
            na, nb = np.linalg.norm(ac) + 1e-8, np.linalg.norm(bc) + 1e-8
            R, s = orthogonal_procrustes(bc / nb, ac / na)
            moved[i] = (ac / na) @ R.T * s * nb + b.mean(0)
        assert dist(moved[3], target[3]).max() < 1e-6
    error = dist(moved, target)
    limits = np.linspace(0, 0.05, 100)
    auc = []
    for j in range(21):
        e = error[mask[:, j], j]
        curve = np.array([np.mean(e <= x) for x in limits])
        auc.append(np.sum((curve[1:] + curve[:-1]) / 2 * np.diff(limits)) / 0.05)
    expected = {
        "mean_cm": 100 * np.mean([error[mask[:, j], j].mean() for j in range(21)]),
        "median_cm": 100 * np.mean([np.median(error[mask[:, j], j]) for j in range(21)]),
        "auc": np.mean(auc),
    }
    close(compat.freihand(pred, target, mask, aligned=aligned), expected)


def test_slahmr() -> None:
    tracks = [walk(50, seed=1), walk(90, seed=2)]
    rows = []
    for pred, target in tracks:
        x, y = pred[0], target[0]
        fitted = procrustes(x, y)
        # the similarity of the first frame, recovered from what it does to the first frame
        A = np.linalg.lstsq(np.c_[x, np.ones(len(x))], fitted, rcond=None)[0]
        first = pred @ A[:3] + A[3]
        whole = procrustes(pred.reshape(-1, 3), target.reshape(-1, 3)).reshape(pred.shape)
        each = np.array([procrustes(a, b) for a, b in zip(pred, target)])
        second = lambda v: v[2:] - 2 * v[1:-1] + v[:-2]  # noqa: E731
        rows.append([
            dist(first, target).mean(), dist(whole, target).mean(), dist(each, target).mean(),
            dist(second(pred), second(target)).mean(),
        ])  # fmt: skip
    names = ("first_aligned_mm", "globally_aligned_mm", "pa_mpjpe_mm", "accel_mm")
    close(compat.slahmr(tracks), dict(zip(names, 1000 * np.mean(rows, axis=0))))
    with pytest.raises(EgoposeError, match="no tracks"):
        compat.slahmr([])


def body_takes(seed: int = 0):
    rng = np.random.default_rng(seed)
    takes = []
    for step, n in ((3, 60), (1, 117), (1, 118), (4, 50), (3, 39), (3, 40)):
        frames = np.cumsum(rng.choice([step, step, step, 12], n) if step == 3 and n == 60 else np.full(n, step))
        pred, target, _ = poses(n, seed=seed + n)
        target[rng.random((n, 17)) < 0.2] = np.nan
        pred = np.where(np.isnan(target), 0.0, target) + rng.normal(0, 0.1, target.shape)
        pred[4, 3, 1] = 7.0
        takes.append((frames, pred, target))
    return takes


def test_ego_exo4d_body() -> None:
    takes = body_takes()
    for clips in (True, False):
        error, speed = [], []
        for frames, pred, target in takes:
            keep = list(range(len(frames)))
            if clips:
                keep, run = [], [0]
                for i in range(1, len(frames) + 1):
                    if i < len(frames) and frames[i] - frames[i - 1] <= 3:
                        run.append(i)
                        continue
                    if frames[run[-1]] - frames[run[0]] + 3 >= 120:
                        keep += run
                    run = [i]
            for k, i in enumerate(keep):
                for j in range(17):
                    if np.isnan(target[i, j, 0]):
                        continue
                    error.append(np.linalg.norm(pred[i, j] - target[i, j]))
                    if k and frames[i] - frames[keep[k - 1]] < 10 and not np.isnan(target[keep[k - 1], j, 0]):
                        o = keep[k - 1]
                        d = (target[i, j] - target[o, j]) - (pred[i, j] - pred[o, j])
                        speed.append(np.linalg.norm(d) * 30 / (frames[i] - frames[o]))
        close(
            compat.ego_exo4d_body(takes, clips=clips),
            {"mpjpe_cm": 100 * np.mean(error), "mpjve_m_s": np.mean(speed)},
        )


def test_ego_exo4d_body_baseline() -> None:
    takes = [(p, t) for _, p, t in body_takes()]
    takes.append((takes[0][0], np.full_like(takes[0][1], np.nan)))
    rows = []
    for p, t in takes[:-1]:
        v = (t[1:] - t[:-1]) * 10 - (p[1:] - p[:-1]) * 10
        rows.append((np.nanmean(dist(p, t)), np.nanmean(np.linalg.norm(v, axis=-1))))
    expected = np.mean(rows, axis=0)
    close(compat.ego_exo4d_body_baseline(takes), {"mpjpe_cm": 100 * expected[0], "mpjve_m_s": expected[1]})


@pytest.mark.parametrize("offset", [False, True])
def test_ego_exo4d_hand(offset: bool) -> None:
    pred, target, mask = poses(25, 21)
    plain, aligned = [], []
    for p, t, v in zip(pred, target, mask):
        p = p + t[0] if offset else p
        plain.append(dist(p[v], t[v]).mean())
        aligned.append(dist(procrustes(p[v], t[v]), t[v]).mean())
    close(
        compat.ego_exo4d_hand(pred, target, mask, offset=offset),
        {"mpjpe_mm": 1000 * np.mean(plain), "pa_mpjpe_mm": 1000 * np.mean(aligned)},
    )
    pred[0] = 1.0
    assert np.isnan(compat.ego_exo4d_hand(pred, target, mask)["pa_mpjpe_mm"])


def test_scipy_procrustes_forgives_a_mirror() -> None:
    pred, target, _ = poses(12, 50)
    pred[5] = target[5] * [-1, 1, 1]
    expected = [scipy_procrustes(t, p)[2] for p, t in zip(pred, target)]
    np.testing.assert_allclose(compat.procrustes_disparity(pred, target), expected, atol=1e-12)
    assert compat.procrustes_disparity(pred, target)[5] < 1e-20
    assert m.pa_mpjpe(pred, target)[5] > 0.1


def test_mdtraj_rmsd() -> None:
    mdtraj = pytest.importorskip("mdtraj")
    rng = np.random.default_rng(0)
    xyz = rng.normal(size=(20, 30, 3)).astype(np.float32)
    found = mdtraj.rmsd(mdtraj.Trajectory(xyz, None), mdtraj.Trajectory(xyz[:1], None))
    np.testing.assert_allclose(compat.superposed_rmsd(xyz, np.repeat(xyz[:1], 20, axis=0)), found, atol=1e-3)


def test_superposed_rmsd_against_scipy() -> None:
    pred, target, _ = poses()
    for got, p, t in zip(compat.superposed_rmsd(pred, target), pred, target):
        expected = Rotation.align_vectors(t - t.mean(0), p - p.mean(0))[1] / np.sqrt(17)
        assert got == pytest.approx(expected, abs=1e-9)
