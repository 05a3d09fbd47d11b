"""Error bars of labels: white noise leaves them as they are, slow errors widen them to what they are."""

from __future__ import annotations

import warnings
from dataclasses import replace

import numpy as np
import pytest

from egopose.camera import Rig
from egopose.commands.pose_scores import calibration, pair_up
from egopose.commands.triangulate import run_triangulate
from egopose.ego_exo4d.standin_world import BAD, MISSING, World, build_world
from egopose.observations import Observations2D
from egopose.skeleton import BODY17, HANDS42
from egopose.triangulate.errorbars import COMMON_M, common_errors, slow_noise, with_slow_errors
from egopose.triangulate.take import Take, TriangulateConfig, triangulate_take

FAST_PX = 3.0


@pytest.fixture(scope="module")
def world() -> World:
    return build_world(0, 21, 4.0)


def solve(world: World, slow_px: float, common_mm: float = 0.0) -> Take:
    """The exact 2D of a take with fast noise, errors of a view that wander over a second, and a common offset."""
    names = [name for name in world.cameras if name not in (BAD, MISSING)]
    rig = Rig([world.cameras[name].scaled((608, 1080) if name == "cam04" else (1920, 1080)) for name in names])
    truth = world.truth.to_skeleton(BODY17)
    rng = np.random.default_rng(4)
    shape = (len(rig), truth.n_frames, BODY17.n_joints, 2)
    keep = np.exp(-1 / 60)
    wander = rng.normal(0, slow_px, shape)
    for t in range(1, shape[1]):
        wander[:, t] = keep * wander[:, t - 1] + np.sqrt(1 - keep**2) * wander[:, t]
    offset = rng.normal(0, 1e-3 * common_mm, (BODY17.n_joints, 3))
    uv = np.stack([camera.project(truth.xyz.astype(np.float64) + offset) for camera in rig.cameras])
    uv += wander + rng.normal(0, FAST_PX, shape)
    observations = Observations2D(
        BODY17, tuple(rig.names), truth.frames, uv.astype(np.float32), None, fps=30.0,
        sizes=tuple(camera.size for camera in rig.cameras),
    )  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return triangulate_take(rig, observations)


def shares(take: Take, world: World, common_m: float | None = None) -> tuple[float, float]:
    pose = take.pose if common_m is None else with_slow_errors(take, common_m)
    truth = world.truth.to_skeleton(BODY17)
    bars = calibration([pair_up(pose, truth, BODY17.joints, "test")])
    return bars["coverage_50"], bars["coverage_90"]


def test_white_noise_is_left_alone(world: World) -> None:
    take = solve(world, 0.0)
    slow, fast = slow_noise(take)
    # 3 px are 8 to 9 mm at the wearer, 16 mm in the portrait video, whose pixels are coarser
    assert 0.009 < np.median(fast) < 0.013
    assert np.median(slow) < 0.2 * np.median(fast)
    wider = with_slow_errors(take)
    np.testing.assert_array_equal(wider.xyz, take.pose.xyz)
    assert 1.0 <= np.median(wider.sigma / take.pose.sigma) < 1.25
    assert 0.4 < shares(take, world, 0.0)[0] < 0.68
    assert 0.8 < shares(take, world, 0.0)[1] < 0.98


def test_slow_errors_are_measured_and_reach_the_bars(world: World) -> None:
    take = solve(world, 6.0)
    slow, _ = slow_noise(take)
    # 6 px are 18 mm, 32 mm in the portrait video: 21 mm; half a second sees most of what wanders over two seconds
    assert 0.017 < np.median(slow) < 0.025
    assert shares(take, world)[1] < 0.6
    inside = shares(take, world, 0.0)
    assert 0.38 < inside[0] < 0.65
    assert 0.76 < inside[1] < 0.97


def test_common_errors_cannot_be_seen_and_are_told(world: World) -> None:
    take = solve(world, 4.0, common_mm=12.0)
    # the slow errors alone are 14 mm: the common 12 mm add nothing
    assert np.median(slow_noise(take)[0]) < 0.017
    assert shares(take, world, 0.0)[1] < 0.75
    inside = shares(take, world, 0.012)
    assert 0.35 < inside[0] < 0.7
    assert 0.75 < inside[1] < 0.98


def test_joints_of_a_detector_get_bars_that_know_of_its_slow_errors(world: World) -> None:
    take = solve(world, 6.0)
    given, _ = run_triangulate(take.rig, take.observations)
    np.testing.assert_array_equal(given.pose.sigma, take.pose.sigma)
    detected = replace(take.observations, provenance={"source": "detect", "detector": "blazepose-high"})
    found, report = run_triangulate(take.rig, detected)
    np.testing.assert_array_equal(found.pose.xyz, take.pose.xyz)
    assert np.nanmedian(found.pose.sigma / take.pose.sigma) > 1.5
    assert shares(take, world)[0] < 0.3
    assert 0.38 < shares(found, world)[0] < 0.65
    assert 17 < report["found"]["detector_errors"]["slow_mm"] < 25
    assert any("that stay" in note for note in report["notes"])
    # alone, no frame is averaged with another: nothing to widen
    for settings in ({"raw": True}, {"smooth": False}, {"method": "linear"}):
        raw, _ = run_triangulate(take.rig, detected, TriangulateConfig(**settings))
        plain, _ = run_triangulate(take.rig, take.observations, TriangulateConfig(**settings))
        assert "detector_errors" not in raw.found
        np.testing.assert_array_equal(raw.pose.sigma, plain.pose.sigma)
    # in windows the same is known
    windows, _ = run_triangulate(take.rig, detected, window=60)
    assert "detector_errors" in windows.found


def test_pieces_of_a_take_say_the_same_as_the_whole(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    take = solve(world, 6.0)
    slow, fast = slow_noise(take)
    whole = with_slow_errors(take)
    monkeypatch.setattr("egopose.triangulate.errorbars.CHUNK", 50)
    slow_pieces, fast_pieces = slow_noise(take)
    # a window ends where its piece does
    np.testing.assert_allclose(slow_pieces, slow, rtol=0.1)
    np.testing.assert_allclose(fast_pieces, fast, rtol=0.1)
    np.testing.assert_allclose(with_slow_errors(take).sigma, whole.sigma, rtol=0.1)


@pytest.mark.parametrize("frames", [1, 2, 12, 16])
def test_a_take_shorter_than_half_a_second(world: World, frames: int) -> None:
    take = solve(world, 6.0)
    short = take.observations.select(frames=range(frames))
    detected = replace(short, provenance={"source": "detect", "detector": "blazepose"})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found, _ = run_triangulate(take.rig, detected)
        alone, _ = run_triangulate(take.rig, short)
    assert found.pose.n_frames == frames
    good = alone.pose.valid
    assert np.isfinite(found.pose.sigma[good]).all()
    assert (found.pose.sigma[good] >= 0.999 * alone.pose.sigma[good]).all()


def test_what_is_known_of_detectors() -> None:
    assert not common_errors(None, BODY17.joints, "body").any()
    assert not common_errors("onnx", BODY17.joints, "body").any()
    for name, table in COMMON_M.items():
        body = dict(zip(BODY17.joints, common_errors(name, BODY17.joints, "body")))
        assert body["left_ear"] == table["face"]
        assert body["left_knee"] == table["body"]
        assert set(common_errors(name, HANDS42.joints, "hand")) == {table["hand"]}
