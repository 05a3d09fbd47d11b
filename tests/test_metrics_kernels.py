"""The compiled kernels against the plain road, many digits, and themselves in other orders."""

from __future__ import annotations

import numba as nb
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.transform import Rotation

from egopose import metrics as m
from egopose.kernels.procrustes import pa_frames
from egopose.kernels.simd import LANES, quick_root
from egopose.kernels.simd_memory import load, store
from egopose.metrics.aligned import align
from egopose.metrics.arrays import counted_joints

from .metric_oracles import mp_residual, per_frame

FAMILIES = (
    "plain", "far", "mirrored", "thin", "thinner", "float32 far", "few", "one", "two", "collinear", "coincident",
    "coincident target", "tiny", "huge", "inverted",
)  # fmt: skip


def family(name: str, n: int, joints: int, seed: int = 0):
    rng = np.random.default_rng(seed)
    target = rng.normal(0, 0.4, (n, joints, 3))
    turn = Rotation.random(n, random_state=seed).as_matrix()
    pred = 1.2 * (target + rng.normal(0, 0.05, target.shape)) @ np.swapaxes(turn, 1, 2) + rng.normal(size=(n, 1, 3))
    valid = np.ones((n, joints), dtype=bool)
    line = np.linspace(-1, 1, joints)[:, None] * [1.0, 2.0, 3.0]
    if name == "far":
        pred, target = pred + 1e4, target - 1e4
    elif name == "mirrored":
        pred = pred * [-1, 1, 1]
    elif name == "thin":
        target, pred = line + 1e-2 * target, line + 1e-2 * pred
    elif name == "thinner":
        target, pred = line + 1e-4 * target, line + 1e-4 * pred
    elif name == "float32 far":
        pred, target = (pred + 100).astype(np.float32), (target + 100).astype(np.float32)
    elif name in ("few", "one", "two"):
        count = {"few": 3, "one": 1, "two": 2}[name]
        valid[:] = np.argsort(rng.random((n, joints)), axis=1) < count
    elif name == "collinear":
        target, pred = np.repeat(line[None], n, 0), line * rng.normal(size=(n, 1, 1))
    elif name == "coincident":
        pred = np.repeat(pred[:, :1], joints, axis=1)
    elif name == "coincident target":
        target = np.repeat(target[:, :1], joints, axis=1)
    elif name == "tiny":
        pred = pred * 1e-160
    elif name == "huge":
        pred = pred * 1e140
    elif name == "inverted":
        pred = -target
    return pred, target, valid


def kernel(pred, target, valid, scale: bool = True):
    n, joints = pred.shape[:2]
    total, count, each = np.empty(n), np.empty(n, np.int64), np.empty(n * joints)
    mask = np.empty(0, np.uint8) if valid is None else np.ascontiguousarray(valid).view(np.uint8).ravel()
    pa_frames(np.ravel(pred), np.ravel(target), mask, joints, 0, n, scale, total, count, each)
    return total, count, each.reshape(n, joints)


@pytest.mark.parametrize("joints", [1, 2, 3, 5, 17, 21, 59])
@pytest.mark.parametrize("name", FAMILIES)
@pytest.mark.parametrize("scale", [True, False])
def test_the_fit_is_the_least_square(joints: int, name: str, scale: bool) -> None:
    if name == "huge" and not scale:
        return
    pred, target, valid = family(name, 3 * LANES + 5, joints)
    total, count, each = kernel(pred, target, valid, scale)
    assert (count == valid.sum(1)).all()
    moved = align(pred.astype(float), target.astype(float), valid, scale=scale)
    expected = np.where(valid, ((moved - target.astype(float)) ** 2).sum(-1), 0).sum(-1)
    np.testing.assert_allclose((each**2).sum(1), expected, atol=1e-12, rtol=1e-10)
    np.testing.assert_allclose(total, each.sum(1), rtol=1e-12)
    if (name in ("plain", "few", "thin", "far", "float32 far") and joints > 3) or name == "one":
        wanted = per_frame(pred, target, valid, "pa" if scale else "rigid")
        np.testing.assert_allclose(total / count, wanted, atol=1e-11)


@pytest.mark.parametrize("joints", [5, 17, 21, 59])
@pytest.mark.parametrize("name", ["plain", "far", "mirrored", "thin", "thinner", "float32 far", "few", "two"])
def test_many_digits(joints: int, name: str) -> None:
    pytest.importorskip("mpmath")
    pred, target, valid = family(name, 2, joints, seed=joints)
    for scale in (True, False):
        each = kernel(pred, target, valid, scale)[2]
        for i in range(2):
            use = valid[i]
            expected = mp_residual(pred[i, use], target[i, use], scale)
            assert np.sqrt((each[i] ** 2).sum() / use.sum()) == pytest.approx(expected, abs=1e-11)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_long_arrays_equal_short_ones(dtype: type, masked: bool) -> None:
    n = 2500
    pred, target, _ = family("plain", n, 17)
    valid = np.random.default_rng(1).random((n, 17)) < 0.8 if masked else None
    target[7, 3], pred[9, 4, 1], target[11] = np.nan, np.inf, np.nan
    pred[13], target[15] = 1.0, 2.0
    pred, target = pred.astype(dtype), target.astype(dtype)
    for function in (m.mpjpe, m.pa_mpjpe, m.n_mpjpe, lambda *a, **k: m.pa_mpjpe(*a, scale=False, **k)):
        part = lambda s: None if valid is None else valid[s]  # noqa: E731
        whole = function(pred, target, valid)
        pieces = [function(pred[s], target[s], part(s)) for s in (slice(i, i + 500) for i in range(0, n, 500))]
        np.testing.assert_allclose(whole, np.concatenate(pieces), atol=1e-12)
        assert np.isnan(whole[11])
        fine = slice(20, None)
        a = function(pred[fine], target[fine], part(fine), reduce="micro")
        counted = counted_joints(target[fine], part(fine)).sum(1)
        assert a == pytest.approx((whole[fine] * counted).sum() / counted.sum(), abs=1e-12)
        joints = function(pred[fine], target[fine], part(fine), reduce="joint")
        n_joint = counted_joints(target[fine], part(fine)).sum(0)
        assert a == pytest.approx((joints * n_joint).sum() / n_joint.sum(), abs=1e-12)
    for function, order in ((m.mpjve, 1), (m.accel_error, 2)):
        whole = function(pred, target, valid, fps=30)
        for start in range(0, n - 600, 600):
            s = slice(start, start + 600 + order)
            np.testing.assert_allclose(
                whole[start : start + 600], function(pred[s], target[s], part(s), fps=30), atol=1e-9
            )
    np.testing.assert_allclose(m.jitter(pred[20:], fps=10)[:500], m.jitter(pred[20:523], fps=10), atol=1e-8)


@pytest.mark.parametrize("joints", [1, 2, 3, 4, 5, 7, 8, 9, 10, 11, 15, 16, 17, 18, 19, 59])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("masked", [False, True])
def test_distances_of_any_number_of_joints(joints: int, dtype: type, masked: bool) -> None:
    pred, target, _ = family("plain", 1200, joints, joints)
    pred, target = pred.astype(dtype), target.astype(dtype)
    valid = np.random.default_rng(0).random((1200, joints)) < 0.7
    target[3, -1], pred[5, 0, 2], target[7] = np.nan, np.inf, np.nan
    error = np.linalg.norm(pred.astype(float) - target.astype(float), axis=-1)
    use = np.isfinite(target).all(-1) & (valid | (not masked))
    with np.errstate(invalid="ignore"):
        expected = np.where(use, error, 0).sum(1) / use.sum(1)
    expected[~np.isfinite(expected)] = np.nan
    np.testing.assert_allclose(m.mpjpe(pred, target, valid if masked else None), expected, rtol=1e-13)


def test_quick_roots_are_good_to_the_last_place() -> None:
    @nb.njit(error_model="numpy")
    def all_roots(a, out):
        for i in range(0, a.size, LANES):
            store(out, i, quick_root(load(a, i)))

    rng = np.random.default_rng(0)
    a = np.concatenate([rng.random(8000), 10.0 ** rng.uniform(-300, 300, 8000), [0.0, np.nan, 5e-324, 1e-310] * 4])
    out = np.empty_like(a)
    all_roots(a, out)
    np.testing.assert_array_max_ulp(out[:-16], np.sqrt(a[:-16]), 1)
    np.testing.assert_array_equal(out[-16::4], 0)
    assert np.isnan(out[-15::4]).all()
    np.testing.assert_allclose(out[-14:], np.sqrt(a[-14:]), rtol=1e-6)


def test_order_neighbours_and_threads_change_nothing() -> None:
    pred, target, _ = family("plain", 40_000, 5)
    pred[::7] = target[::7] * [-1, 1, 1]
    pred[::11] = np.nan
    target[::13, 2] = np.nan
    valid = np.random.default_rng(0).random((40_000, 5)) < 0.9
    whole = m.pa_mpjpe(pred, target, valid)
    order = np.random.default_rng(1).permutation(40_000)
    np.testing.assert_array_equal(m.pa_mpjpe(pred[order], target[order], valid[order]), whole[order])
    np.testing.assert_array_equal(m.pa_mpjpe(pred[5:], target[5:], valid[5:]), whole[5:])
    from egopose.metrics.fast import frame_sums

    one = frame_sums(pred, target, valid, "pa", threads=1)
    two = frame_sums(pred, target, valid, "pa", threads=2)
    np.testing.assert_array_equal(one[0], two[0])
    np.testing.assert_array_equal(one[1], two[1])


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 10_000), st.floats(0.01, 100), st.floats(-1e3, 1e3), st.tuples(*[st.floats(-3, 3)] * 3),
    st.sampled_from([3, 5, 17, 21]),
)  # fmt: skip
def test_similarity_changes_nothing(seed: int, scale: float, shift: float, turn: tuple, joints: int) -> None:
    pred, target, _ = family("plain", LANES + 3, joints, seed)
    valid = np.random.default_rng(seed).random(pred.shape[:2]) < 0.9
    changed = scale * pred @ Rotation.from_rotvec(turn).as_matrix().T + shift
    a, b = kernel(pred, target, valid), kernel(changed, target, valid)
    squares = [(x[2] ** 2).sum(1) for x in (a, b)]
    np.testing.assert_allclose(squares[0], squares[1], atol=1e-9)


def test_a_memory_mapped_file_and_other_layouts(tmp_path) -> None:
    pred, target, _ = family("plain", 20_000, 17)
    path = tmp_path / "p.npy"
    np.save(path, pred.astype(np.float32))
    mapped = np.load(path, mmap_mode="r")
    np.testing.assert_array_equal(m.pa_mpjpe(mapped, target), m.pa_mpjpe(pred.astype(np.float32), target))
    strided = np.empty((20_000, 34, 3))
    strided[:, ::2] = pred
    np.testing.assert_array_equal(m.pa_mpjpe(strided[:, ::2], target), m.pa_mpjpe(pred, target))
    np.testing.assert_array_equal(m.mpjpe(pred.astype(">f8"), target), m.mpjpe(pred, target))
    half = pred.astype(np.float16)
    np.testing.assert_array_equal(m.mpjpe(half, target), m.mpjpe(half.astype(float), target))
