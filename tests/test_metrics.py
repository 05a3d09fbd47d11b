"""Metrics against plain loops, closed forms, published numbers and many-digit arithmetic."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from egopose import metrics as m
from egopose.errors import EgoposeError
from egopose.metrics.aligned import align

from .metric_oracles import mp_residual, per_frame, procrustes


def poses(n: int = 40, joints: int = 17, seed: int = 0, noise: float = 0.05):
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 0.4, (n, joints, 3))
    turn = Rotation.random(n, random_state=seed).as_matrix()
    pred = (target + rng.normal(0, noise, target.shape)) @ np.swapaxes(turn, 1, 2) * 1.3 + rng.normal(size=(n, 1, 3))
    valid = rng.random((n, joints)) < 0.8
    return pred, target, valid


METRICS = {
    "mpjpe": (m.mpjpe, "plain"),
    "pa": (m.pa_mpjpe, "pa"),
    "rigid": (lambda *a, **k: m.pa_mpjpe(*a, scale=False, **k), "rigid"),
    "n": (m.n_mpjpe, "n"),
}


@pytest.mark.parametrize("name", METRICS)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_frames_equal_the_plain_reading(name: str, dtype: type) -> None:
    function, kind = METRICS[name]
    pred, target, valid = poses()
    target[3, 5] = np.nan
    valid[7] = False
    pred[9, np.flatnonzero(valid[9])[0], 1] = np.inf
    pred, target = pred.astype(dtype), target.astype(dtype)
    expected = per_frame(pred, target, valid, kind)
    got = function(pred, target, valid)
    assert got.dtype == np.float64
    np.testing.assert_allclose(got, expected, atol=1e-12)
    assert np.isnan(got[[7, 9]]).all()


@pytest.mark.parametrize("name", METRICS)
def test_means_are_over_counted_joints_or_over_frames(name: str) -> None:
    function, kind = METRICS[name]
    pred, target, valid = poses()
    valid[[3, 4]] = False
    frames = per_frame(pred, target, valid, kind)
    counts = valid.sum(1)
    some = counts > 0
    assert function(pred, target, valid, reduce="macro") == pytest.approx(frames[some].mean(), abs=1e-12)
    micro = (frames[some] * counts[some]).sum() / counts.sum()
    assert function(pred, target, valid, reduce="micro") == pytest.approx(micro, abs=1e-12)
    joints = function(pred, target, valid, reduce="joint")
    assert joints.shape == (17,)
    assert (joints * valid.sum(0)).sum() / valid.sum() == pytest.approx(micro, abs=1e-12)


def test_a_prediction_that_is_not_finite_poisons_the_mean_and_a_hidden_one_does_not() -> None:
    pred, target, valid = poses()
    valid[0, 0] = False
    pred[0, 0] = np.nan
    assert np.isfinite(m.pa_mpjpe(pred, target, valid, reduce="micro"))
    valid[0, 0] = True
    for function, _ in METRICS.values():
        assert np.isnan(function(pred, target, valid, reduce="micro"))
        assert np.isnan(function(pred, target, valid, reduce="macro"))


def test_hidden_joints_do_not_enter_the_fit() -> None:
    pred, target, valid = poses()
    wild = pred.copy()
    wild[~valid] += 100.0
    np.testing.assert_allclose(m.pa_mpjpe(wild, target, valid), m.pa_mpjpe(pred, target, valid), atol=1e-10)


def test_published_numbers_of_a_peers_unit_test() -> None:
    output = np.array([
        [[1, 0, 0], [2, 2, 0], [0, 0, -1], [3, 3, 1], [0, 1, 1]],
        [[1, 0, 0], [2, 2, 1], [-1, 0, 0], [0, 0, 3], [0, 0, 1]],
    ], dtype=float)  # fmt: skip
    target = np.array([
        [[1, 0, 0], [1, 1, 1], [-1, 0, 0], [3, 3, 1], [0, 1, 0]],
        [[1, 1, 0], [1, 0, 1], [-1, 0, 0], [0, 0, 3], [1, 1, 0]],
    ], dtype=float)  # fmt: skip
    mask = np.array([[True, True, False, True, True]] * 2)
    assert m.mpjpe(output, target, mask, reduce="micro") == pytest.approx(0.9625211990796929, abs=1e-14)
    # that library fits through hidden joints and hides them only in the mean
    moved = align(output, target, np.ones_like(mask))
    assert m.mpjpe(moved, target, mask, reduce="micro") == pytest.approx(1.0047897634604497, abs=1e-14)
    scale = (output * target).sum((1, 2)) / (output * output).sum((1, 2))
    scaled = scale[:, None, None] * output
    assert m.mpjpe(scaled, target, mask, reduce="micro") == pytest.approx(1.0277129678465953, abs=1e-14)


@pytest.mark.parametrize("joints", [5, 17, 21, 59])
@pytest.mark.parametrize("family", ["plain", "far", "mirrored", "thin", "float32 far", "few"])
def test_the_fit_is_the_least_square_to_many_digits(joints: int, family: str) -> None:
    pytest.importorskip("mpmath")
    pred, target, _ = poses(2, joints, seed=joints)
    valid = np.ones((2, joints), dtype=bool)
    if family == "far":
        pred, target = pred + 1e4, target - 1e4
    elif family == "mirrored":
        pred = target * [-1, 1, 1]
    elif family == "thin":
        line = np.linspace(-1, 1, joints)[:, None] * [1.0, 2.0, 3.0]
        target = line + 1e-4 * target
        pred = line[None] + 1e-4 * pred
    elif family == "float32 far":
        pred, target = (pred + 100).astype(np.float32), (target + 100).astype(np.float32)
    elif family == "few":
        valid[:, 3:] = False
    moved = align(pred.astype(float), target.astype(float), valid)
    for i in range(2):
        use = valid[i]
        got = np.sqrt(((moved[i, use] - target[i, use].astype(float)) ** 2).sum(-1).mean())
        assert got == pytest.approx(mp_residual(pred[i, use], target[i, use]), abs=1e-11)


def test_degenerate_frames_are_defined() -> None:
    target = np.random.default_rng(0).normal(size=(1, 17, 3))
    spread = np.linalg.norm(target[0] - target[0].mean(0), axis=-1).mean()
    coincident = np.full((1, 17, 3), 123.456)
    assert m.pa_mpjpe(coincident, target)[0] == pytest.approx(spread, abs=1e-12)
    assert m.pa_mpjpe(coincident, target, scale=False)[0] == pytest.approx(spread, abs=1e-12)
    assert m.pa_mpjpe(target, coincident)[0] == pytest.approx(0, abs=1e-12)
    one = np.zeros((1, 17), dtype=bool)
    one[0, 4] = True
    assert m.pa_mpjpe(target + 5, target, one)[0] == pytest.approx(0, abs=1e-12)
    two = one.copy()
    two[0, 7] = True
    assert m.pa_mpjpe(target[:, ::-1], target, two)[0] == pytest.approx(0, abs=1e-12)
    line = np.linspace(0, 1, 17)[:, None] * [1, 2, 3]
    assert m.pa_mpjpe(line[None] * -2, line[None])[0] == pytest.approx(0, abs=1e-12)
    mirrored = m.pa_mpjpe(target * [-1, 1, 1], target)[0]
    assert mirrored > 0.1
    assert mirrored == pytest.approx(
        np.linalg.norm(procrustes(target[0] * [-1, 1, 1], target[0]) - target[0], axis=-1).mean(), abs=1e-12
    )
    assert m.pa_mpjpe(target * 1e-160, target)[0] == pytest.approx(0, abs=1e-12)
    assert m.pa_mpjpe(target * 1e160, target)[0] == pytest.approx(0, abs=1e-12)


@settings(max_examples=50, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-1e3, 1e3),
    st.tuples(*[st.floats(-3, 3)] * 3),
)  # fmt: skip
def test_similarity_changes_nothing(seed: int, scale: float, shift: float, turn: tuple[float, ...]) -> None:
    pred, target, valid = poses(3, 17, seed)
    changed = scale * pred @ Rotation.from_rotvec(turn).as_matrix().T + shift
    np.testing.assert_allclose(m.pa_mpjpe(changed, target, valid), m.pa_mpjpe(pred, target, valid), atol=1e-9)
    assert (m.pa_mpjpe(pred, target, valid) <= m.pa_mpjpe(pred, target, valid, scale=False) * 1.5 + 1e-9).all()


def test_frames_do_not_depend_on_their_neighbours() -> None:
    pred, target, valid = poses(300)
    whole = m.pa_mpjpe(pred, target, valid)
    np.testing.assert_array_equal(whole[117:118], m.pa_mpjpe(pred[117:118], target[117:118], valid[117:118]))
    order = np.random.default_rng(0).permutation(300)
    np.testing.assert_array_equal(m.pa_mpjpe(pred[order], target[order], valid[order]), whole[order])


def test_velocity_acceleration_and_jitter_of_a_parabola() -> None:
    t = np.arange(20.0)[:, None, None] / 10
    target = np.zeros((20, 3, 3)) + t**2 * [1, 0, 0]
    pred = target + t**2 * [0, 3, 0] + t * [0, 0, 4]
    accel = m.accel_error(pred, target, fps=10)
    assert accel.shape == (18,)
    np.testing.assert_allclose(accel, 6.0, atol=1e-9)
    velocity = m.mpjve(pred, target, fps=10)
    middle = (np.arange(19) + 0.5) / 10
    np.testing.assert_allclose(velocity, np.sqrt((6 * middle) ** 2 + 16), atol=1e-9)
    np.testing.assert_allclose(m.jitter(t**3 * np.ones((1, 2, 3)) / np.sqrt(3), fps=10), 6.0, atol=1e-6)
    assert m.mpjve(pred[:1], target[:1]).shape == (0,)
    assert np.isnan(m.accel_error(pred[:2], target[:2], reduce="micro"))


def test_a_hidden_frame_takes_its_differences_along() -> None:
    pred, target, _ = poses(10)
    valid = np.ones((10, 17), dtype=bool)
    valid[4] = False
    assert np.flatnonzero(np.isnan(m.mpjve(pred, target, valid))).tolist() == [3, 4]
    assert np.flatnonzero(np.isnan(m.accel_error(pred, target, valid))).tolist() == [2, 3, 4]
    assert np.flatnonzero(np.isnan(m.jitter(pred, valid))).tolist() == [1, 2, 3, 4]


def test_root_relative_errors() -> None:
    pred, target, valid = poses()
    valid[:, [11, 12]] = True
    valid[5, 11] = False
    hips = [11, 12]
    shifted = m.mpjpe(pred + 7, target, valid, root=hips)
    expected = m.mpjpe(
        pred - pred[:, hips].mean(1, keepdims=True), target - target[:, hips].mean(1, keepdims=True), valid
    )
    assert np.isnan(shifted[5])
    np.testing.assert_allclose(np.delete(shifted, 5), np.delete(expected, 5), atol=1e-12)


def test_pck_and_auc() -> None:
    target = np.zeros((1, 4, 3))
    pred = target.copy()
    pred[0, :, 0] = [0.0, 0.01, 0.05, np.nan]
    assert m.pck(pred, target, 0.01) == 0.5
    np.testing.assert_allclose(m.pck(pred, target, [0.0, 0.05, 1.0]), [0.25, 0.75, 0.75])
    mask = np.array([[True, True, True, False]])
    assert m.auc(target, target, mask) == pytest.approx(1.0)
    far = target + 1.0
    assert m.auc(far, target) == 0.0
    pred, target, valid = poses()
    steps = np.linspace(0, 0.5, 100)
    curve = np.array([m.pck(pred, target, s, valid, align="pa") for s in steps])
    expected = ((curve[1:] + curve[:-1]) / 2 * np.diff(steps)).sum() / 0.5
    assert m.auc(pred, target, valid, hi=0.5, align="pa") == pytest.approx(expected, abs=1e-12)


def test_world_metrics() -> None:
    rng = np.random.default_rng(3)
    target = np.cumsum(rng.normal(0, 0.02, (250, 1, 3)), axis=0) + rng.normal(0, 0.3, (250, 17, 3))
    turn = Rotation.from_rotvec([0.3, 0.2, 1.0]).as_matrix()
    same = 0.9 * target @ turn.T + [5, 1, 2]
    np.testing.assert_allclose(m.w_mpjpe(same, target), 0, atol=1e-12)
    np.testing.assert_allclose(m.wa_mpjpe(same, target), 0, atol=1e-12)
    drift = target + np.arange(250)[:, None, None] * [0.01, 0, 0]
    w, wa = m.w_mpjpe(drift, target), m.wa_mpjpe(drift, target)
    assert w[99] > 5 * w[1]
    assert wa.mean() < w.mean()
    for start, stop in ((0, 100), (100, 200), (200, 250)):
        a, b = drift[start:stop].reshape(-1, 3), target[start:stop].reshape(-1, 3)
        expected = np.linalg.norm(procrustes(a, b) - b, axis=-1).reshape(-1, 17).mean(1)
        np.testing.assert_allclose(wa[start:stop], expected, atol=1e-12)
    path = np.stack([np.linspace(0, 4, 100), np.zeros(100), np.zeros(100)], -1)
    assert m.rte(path @ turn.T + 3, path) == pytest.approx(0, abs=1e-12)
    assert m.rte(path * 1.1, path) == pytest.approx(100 * np.abs(path[:, 0] - 2).mean() * 0.1 / 4, abs=1e-9)
    assert m.rte(np.zeros((5, 3)), np.zeros((5, 3))) == 0
    assert m.rte(np.random.default_rng(0).normal(size=(5, 3)), np.zeros((5, 3))) == np.inf


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((np.zeros((2, 5, 3)), np.zeros((2, 17, 3))), r"\(2, 5, 3\) and target \(2, 17, 3\)"),
        ((np.zeros((2, 17, 2)), np.zeros((2, 17, 2))), "expected \\(frames, joints, 3\\)"),
        ((np.zeros((2, 17, 3)), np.zeros((2, 17, 3)), np.zeros((2, 5), bool)), "valid has shape"),
        ((np.zeros((2, 17, 3)), np.zeros((2, 17, 3)), np.full((2, 17), 0.5)), "expected booleans"),
        ((np.zeros((2, 17, 3), complex), np.zeros((2, 17, 3))), "complex"),
    ],
)
def test_what_does_not_fit_is_refused(arguments: tuple, message: str) -> None:
    for function in (m.mpjpe, m.pa_mpjpe, m.n_mpjpe, m.mpjve, m.accel_error, m.w_mpjpe, m.wa_mpjpe):
        with pytest.raises(EgoposeError, match=message):
            function(*arguments)


def test_bad_options_are_refused() -> None:
    a = np.zeros((3, 17, 3))
    for call, message in (
        (lambda: m.mpjpe(a, a, reduce="mean"), "reduce is 'mean'"),
        (lambda: m.mpjpe(a, a, root=17), "there are 17 joints"),
        (lambda: m.mpjve(a, a, fps=0), "fps is 0"),
        (lambda: m.pck(a, a, -1), "threshold is -1"),
        (lambda: m.auc(a, a, lo=1, hi=1), "expected 0 <= lo < hi"),
        (lambda: m.pck(a, a, 1, align="x"), "align is 'x'"),
        (lambda: m.w_mpjpe(a, a, segment=0), "segment is 0"),
    ):
        with pytest.raises(EgoposeError, match=message):
            call()


def test_empty_and_integer_input() -> None:
    empty = np.zeros((0, 17, 3))
    assert m.pa_mpjpe(empty, empty).shape == (0,)
    assert np.isnan(m.mpjpe(empty, empty, reduce="micro"))
    assert m.mpjpe(np.zeros((1, 1, 3), int), np.ones((1, 1, 3), int))[0] == pytest.approx(np.sqrt(3))


def test_importing_and_small_calls_load_neither_numba_nor_torch() -> None:
    code = (
        "import sys, numpy as np; from egopose.metrics import mpjpe, pa_mpjpe; a = np.random.rand(100, 17, 3);"
        "mpjpe(a, a + 1); pa_mpjpe(a, a[::-1]);"
        "print([n for n in ('numba', 'torch', 'scipy', 'cv2') if n in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
