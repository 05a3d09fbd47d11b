"""The solve over a take: error bars that hold, gaps bridged only as far as they allow, and takes of any size."""

from __future__ import annotations

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from egopose.observations import Observations2D
from egopose.pose import JointStatus
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.triangulate import TriangulateConfig, triangulate, triangulate_take
from egopose.triangulate.overtime import SmoothingConfig, error_covariance, estimate_bones, tree_order
from tests.synthetic import Scene, walking_scene

# quantiles of chi-square with three degrees of freedom
HALF, NINETY = 2.3659738843753377, 6.251388631170325


def coverage(pose, truth: np.ndarray) -> tuple[float, float]:
    error = pose.xyz.astype(np.float64) - truth
    known = np.isfinite(error).all(-1)
    covariance = pose.covariance[known].astype(np.float64)
    chi = np.einsum("ni,nij,nj->n", error[known], np.linalg.inv(covariance), error[known])
    return float((chi < HALF).mean()), float((chi < NINETY).mean())


@pytest.fixture(scope="module")
def rough() -> Scene:
    return walking_scene(4, n_frames=240, fps=60.0, hands=True, outlier_share=0.2, missing_share=0.1, seed=31)


def test_error_bars_hold_and_smoothing_helps(rough: Scene) -> None:
    error = {}
    for smooth in (False, True):
        take = triangulate_take(rough.rig, rough.observations, TriangulateConfig(smooth=smooth))
        distance = np.linalg.norm(take.pose.xyz - rough.truth.xyz, axis=-1)
        error[smooth] = np.nanmean(distance)
    assert error[True] < 0.5 * error[False]
    assert error[True] < 2.5e-3
    assert np.isfinite(take.pose.xyz).all(-1).mean() > 0.99
    half, ninety = coverage(take.pose, rough.truth.xyz)
    assert 0.45 <= half <= 0.55
    assert 0.85 <= ninety <= 0.95


def test_error_bars_hold_with_turned_and_late_cameras_wrong_joints_and_exchanged_sides() -> None:
    scene = walking_scene(
        4, n_frames=300, fps=60.0, hands=True, outlier_share=0.2, missing_share=0.1,
        extrinsic_error_deg=0.5, swapped=(2, 100, 200), offset_frames=(0, 2, -2, 0), seed=40,
    )  # fmt: skip
    take = triangulate_take(scene.rig, scene.observations, TriangulateConfig(refine_cameras=True))
    xyz, truth = take.pose.xyz.astype(np.float64), scene.truth.xyz.astype(np.float64)
    known = np.isfinite(xyz).all(-1)
    assert known.mean() > 0.98
    # the world frame of a turned rig is its own: compare up to a rigid motion
    turn, _ = Rotation.align_vectors(truth[known] - truth[known].mean(0), xyz[known] - xyz[known].mean(0))
    R = turn.as_matrix()
    moved = (xyz - xyz[known].mean(0)) @ R.T + truth[known].mean(0)
    covariance = (R @ take.pose.covariance.astype(np.float64) @ R.T).astype(np.float32)
    assert np.linalg.norm(moved - truth, axis=-1)[known].mean() < 2e-3
    half, ninety = coverage(take.pose.replace(xyz=moved.astype(np.float32), covariance=covariance), truth)
    assert 0.45 <= half <= 0.55
    assert 0.85 <= ninety <= 0.95


def test_the_error_bar_is_the_error_of_a_smooth_motion_and_its_posterior_is_too_wide() -> None:
    from egopose.kernels import smoothing

    # sines measured with known noise; the agility is the one that foretells left-out measurements best
    t, sd, rng = np.arange(420) / 60.0, 0.003, np.random.default_rng(41)
    truth = np.stack([0.3 * np.sin(5 * t), 0.2 * np.cos(7 * t + 1), 0.1 * np.sin(9 * t)], axis=1)
    info = np.broadcast_to(np.eye(3) / sd**2, (t.size, 3, 3)).copy()
    out, covariance, ones = np.empty((t.size, 3)), np.empty((t.size, 3, 3)), np.ones(t.size)
    middle, noisy = slice(60, -60), [truth + rng.normal(0, sd, truth.shape) for _ in range(60)]

    def held_out(q: float) -> float:
        total = 0.0
        for mean in noisy[:12]:
            smoothing.smooth_joint(t, mean, info, ones, q, 2.0, 2.0, 3, out, covariance)
            total += smoothing.held_out(mean, info, ones, out, covariance)
        return total

    best = max(10.0 ** np.arange(0.0, 6.1, 0.5), key=held_out)
    squared = []
    for mean in noisy:
        smoothing.smooth_joint(t, mean, info, ones, best, 2.0, 2.0, 3, out, covariance)
        squared.append(((out - truth)[middle] ** 2).sum(-1).mean())
    claimed = error_covariance(covariance[:, None], info[:, None], 3)[:, 0]
    posterior, stated = (np.trace(c[middle], axis1=1, axis2=2).mean() for c in (covariance, claimed))
    assert np.mean(squared) < 0.95 * posterior
    assert np.mean(squared) == pytest.approx(stated, rel=0.06)
    # a lone measurement is not smoothed, and white acceleration is taken at its word
    alone = np.eye(3)[None, None] * sd**2
    np.testing.assert_allclose(error_covariance(alone, info[:1, None], 3), alone, rtol=1e-12)
    np.testing.assert_array_equal(error_covariance(covariance[:, None], info[:, None], 2), covariance[:, None])


def test_sigma_is_the_trace_of_the_covariance(rough: Scene) -> None:
    pose = triangulate(rough.rig, rough.observations.select(frames=np.arange(60)))
    sigma = np.sqrt(np.trace(pose.covariance, axis1=-2, axis2=-1) / 3)
    np.testing.assert_allclose(pose.sigma, sigma, rtol=1e-5)
    assert (np.isfinite(pose.sigma) == pose.valid).all()


def test_a_gap_is_bridged_only_as_far_as_its_sigma_allows() -> None:
    scene = walking_scene(4, n_frames=240, seed=32)
    uv = scene.observations.uv_px.copy()
    wrist = BODY17.index("left_wrist")
    uv[:, 60:64, wrist] = np.nan
    uv[:, 120:200, wrist] = np.nan
    config = TriangulateConfig(smoothing=SmoothingConfig(bones=False))
    pose = triangulate(scene.rig, scene.observations.replace(uv_px=uv), config)
    limit = config.smoothing.bridge_sigma_m
    assert (pose.status[60:64, wrist] == JointStatus.BRIDGED).all()
    error = np.linalg.norm(pose.xyz[60:64, wrist] - scene.truth.xyz[60:64, wrist], axis=-1)
    assert (error < 4 * pose.sigma[60:64, wrist]).all()
    assert (pose.sigma[60:64, wrist] > pose.sigma[50:58, wrist].max()).all()
    assert np.isnan(pose.xyz[140:180, wrist]).all()
    assert np.isin(pose.status[140:180, wrist], (JointStatus.MISSING, JointStatus.NO_CONSENSUS)).all()
    bridged = pose.status == JointStatus.BRIDGED
    assert (pose.sigma[bridged] <= limit).all()


def test_one_remaining_view_narrows_a_gap() -> None:
    scene = walking_scene(4, n_frames=120, seed=33)
    wrist = BODY17.index("right_wrist")
    uv = scene.observations.uv_px.copy()
    uv[1:, 50:66, wrist] = np.nan
    seen_by_one = scene.observations.replace(uv_px=uv)
    sigma = {}
    for single in (False, True):
        settings = SmoothingConfig(bones=False, single_views=single, bridge_sigma_m=10.0)
        pose = triangulate(scene.rig, seen_by_one, TriangulateConfig(smoothing=settings, time_offsets=False))
        sigma[single] = pose.sigma[58, wrist]
        error = np.linalg.norm(pose.xyz[50:66, wrist] - scene.truth.xyz[50:66, wrist], axis=-1)
        assert (error < 4 * pose.sigma[50:66, wrist]).all()
    assert sigma[True] < 0.9 * sigma[False]


def test_raw_leaves_every_frame_alone(rough: Scene) -> None:
    config = TriangulateConfig(raw=True, threshold_px=8.0)
    whole = triangulate_take(rough.rig, rough.observations, config)
    part = triangulate(rough.rig, rough.observations.select(frames=np.arange(100, 110)), config)
    np.testing.assert_array_equal(whole.pose.xyz[100:110], part.xyz)
    assert whole.found == {}
    assert not (whole.pose.status == JointStatus.BRIDGED).any()
    assert np.array_equal(whole.observations.uv_px, rough.observations.uv_px, equal_nan=True)


@pytest.mark.parametrize("frames", [1, 2, 3, 4, 7])
def test_tiny_takes(frames: int) -> None:
    scene = walking_scene(4, n_frames=frames, hands=True, seed=34)
    pose = triangulate(scene.rig, scene.observations)
    assert pose.n_frames == frames
    assert pose.valid.mean() > 0.97
    error = np.linalg.norm(pose.xyz - scene.truth.xyz, axis=-1)
    assert np.nanmedian(error) < 5e-3


@pytest.mark.parametrize("frames", [1, 3, 40])
def test_nothing_seen_at_all(frames: int) -> None:
    scene = walking_scene(4, n_frames=frames, hands=True, seed=35)
    blind = scene.observations.replace(uv_px=np.full_like(scene.observations.uv_px, np.nan))
    pose = triangulate(scene.rig, blind)
    assert np.isnan(pose.xyz).all()
    assert (pose.status == JointStatus.MISSING).all()


def test_one_joint() -> None:
    scene = walking_scene(4, n_frames=60, seed=36)
    nose = BODY17.subset(["nose"], name="one")
    one = Observations2D(
        nose, scene.observations.views, scene.observations.frames, scene.observations.uv_px[:, :, :1], None, fps=30.0
    )
    pose = triangulate(scene.rig, one)
    assert pose.xyz.shape == (60, 1, 3)
    assert np.linalg.norm(pose.xyz[:, 0] - scene.truth.xyz[:, 0], axis=-1).max() < 0.02


def test_a_view_that_goes_dark_widens_the_error_bar() -> None:
    scene = walking_scene(3, n_frames=90, dead_view=(0, 30, 60), seed=37)
    pose = triangulate(scene.rig, scene.observations)
    assert pose.valid[30:60].mean() > 0.98
    assert np.nanmedian(pose.sigma[35:55]) > np.nanmedian(pose.sigma[:25])


def test_the_same_take_gives_the_same_bits(rough: Scene) -> None:
    part = rough.observations.select(frames=np.arange(90))
    one = triangulate(rough.rig, part, TriangulateConfig(threads=1))
    two = triangulate(rough.rig, part, TriangulateConfig(threads=2))
    assert one.xyz.tobytes() == two.xyz.tobytes()
    assert one.covariance.tobytes() == two.covariance.tobytes()


def test_bone_lengths_of_a_person() -> None:
    scene = walking_scene(4, n_frames=90, seed=38)
    rng = np.random.default_rng(38)
    xyz = scene.truth.xyz + rng.normal(0, 0.003, scene.truth.xyz.shape)
    covariance = np.broadcast_to(0.003**2 * np.eye(3), (*xyz.shape, 3))
    bones = estimate_bones(xyz, covariance, np.ones(xyz.shape[:2], dtype=bool), BODY17)
    knee, ankle = BODY17.index("left_knee"), BODY17.index("left_ankle")
    child = ankle if bones.parent[ankle] == knee else knee
    assert bones.length[child] == pytest.approx(0.42, abs=2e-3)
    # a rigid shank truly varies by no more than the floor of half a percent
    assert bones.sd[child] < 0.004
    too_few = estimate_bones(xyz[:10], covariance[:10], np.ones((10, 17), dtype=bool), BODY17)
    assert np.isnan(too_few.length).all()


def test_parents_come_before_children() -> None:
    for skeleton in (BODY17, BODY17_HANDS):
        order = tree_order(skeleton.parents)
        place = np.argsort(order)
        children = np.flatnonzero(skeleton.parents >= 0)
        assert (place[skeleton.parents[children]] < place[children]).all()
