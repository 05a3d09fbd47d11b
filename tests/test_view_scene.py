"""The 3D page: what is packed comes out again, sizes hold, odd input is refused or said."""

from __future__ import annotations

import base64
import json
import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose.demo import ring_rig
from egopose.errors import EgoposeError
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS, HANDED
from egopose.view.packing import ABSENT, FINEST_M, cholesky_factor, pack_positions, pack_uncertainty
from egopose.view.page import script_json, viewer_document
from egopose.view.scene import build_scene, joint_errors, match, save_scene_page
from egopose.view.surroundings import frustum_corners, nice_ceiling
from tests.view_samples import HOSTILE, head_path, hostile_skeleton, pair


def unpack(body: dict, n: int) -> np.ndarray:
    """What the page's own decoder does, (T, J, 3) relative to the centre."""
    J = len(body["joints"])
    steps = np.frombuffer(base64.b64decode(body["xyz"]), "<i2").reshape(n, J, 3).astype(float)
    origin = np.frombuffer(base64.b64decode(body["origin"]), "<f4").reshape(n, 4).astype(float)
    steps[steps == ABSENT] = np.nan
    return origin[:, None, :3] + steps * origin[:, 3][:, None, None]


def test_positions_come_out_as_they_went_in() -> None:
    pose, truth = pair(60)
    scene = build_scene(pose, against=truth, rig=ring_rig())
    to_file = np.array(scene["to_file"])
    for body, source in zip(scene["bodies"], (pose, truth), strict=True):
        back = unpack(body, 60) @ to_file[:, :3].T + to_file[:, 3]
        assert np.array_equal(np.isfinite(back), np.isfinite(source.xyz))
        assert np.nanmax(np.abs(back - source.xyz)) < 0.51 * FINEST_M + 1e-6
        status = np.frombuffer(base64.b64decode(body["status"]), np.uint8).reshape(60, -1)
        assert np.array_equal(status, source.status)
    assert scene["frames"] == pose.frames.tolist()
    json.dumps(scene, allow_nan=False)


def test_covariances_come_out_as_factors() -> None:
    pose, _ = pair(20)
    packed = pack_uncertainty(pose, np.eye(3))
    assert packed["sigma"] is None
    L6 = np.frombuffer(base64.b64decode(packed["factor"]), "<i2").reshape(20, 59, 6) * FINEST_M
    L = np.zeros((20, 59, 3, 3))
    L[..., [0, 1, 1, 2, 2, 2], [0, 0, 1, 0, 1, 2]] = L6
    assert np.abs(L @ np.swapaxes(L, -1, -2) - pose.covariance).max() < 6 * 0.03 * FINEST_M
    alone = pack_uncertainty(pose.replace(covariance=None), np.eye(3))
    sigma = np.frombuffer(base64.b64decode(alone["sigma"]), "<u2").reshape(20, 59) * FINEST_M
    assert np.abs(sigma - pose.sigma).max() <= 0.51 * FINEST_M


def test_broken_covariances_have_no_error_bar() -> None:
    good = np.diag([1.0, 4.0, 9.0])
    flat = np.diag([1.0, 1.0, 0.0])
    broken = np.stack([good, np.full((3, 3), np.nan), -good, np.diag([1.0, -1.0, 1.0]), flat])
    L = cholesky_factor(broken)
    assert np.allclose(L[0], [1, 0, 2, 0, 0, 3])
    assert np.isnan(L[1:4]).all()
    assert np.isfinite(L[4]).all()


@settings(deadline=None, max_examples=60)
@given(
    st.integers(1, 5), st.integers(1, 8), st.integers(0, 2**32 - 1), st.floats(1e-3, 25), st.floats(-1e5, 1e5)
)  # fmt: skip
def test_packing_is_exact_to_its_step(n: int, joints: int, seed: int, spread: float, offset: float) -> None:
    rng = np.random.default_rng(seed)
    xyz = rng.uniform(-1, 1, (n, joints, 3)) * spread + offset
    xyz[rng.random((n, joints)) < 0.2] = np.nan
    positions, origin, far = pack_positions(xyz)
    steps = np.frombuffer(base64.b64decode(positions), "<i2").reshape(n, joints, 3).astype(float)
    middle = np.frombuffer(base64.b64decode(origin), "<f4").reshape(n, 4).astype(float)
    drawn = steps[..., 0] != ABSENT
    assert far == int((np.isfinite(xyz[..., 0]) & ~drawn).sum())
    assert not drawn[np.isnan(xyz[..., 0])].any()
    back = middle[:, None, :3] + steps * middle[:, 3][:, None, None]
    step = np.broadcast_to(middle[:, 3][:, None], drawn.shape)
    assert (np.abs(back - xyz).max(axis=-1)[drawn] <= 0.5 * step[drawn] * 1.001).all()
    assert (step[drawn] <= max(FINEST_M, 2 * spread / 32000) * 1.001).all()


def test_a_joint_far_away_is_left_out_and_named() -> None:
    pose, _ = pair(10)
    xyz = pose.xyz.copy()
    xyz[3, 0] = 5000.0
    status = pose.status.copy()
    status[3, 0] = JointStatus.OK
    scene = build_scene(pose.replace(xyz=xyz, status=status))
    assert any("1 joints" in note and "30 m" in note for note in scene["notes"])
    assert np.nanmax(np.abs(unpack(scene["bodies"][0], 10))) < 10


@pytest.mark.parametrize("covariance", [False, True])
def test_sixty_seconds_fit_into_ten_megabytes(tmp_path, covariance: bool) -> None:
    pose, truth = pair(1800, covariance=covariance)
    # the reference with error bars too: the largest page there is
    truth = truth.replace(covariance=pose.covariance, sigma=pose.sigma)
    told = save_scene_page(tmp_path / "a.html", pose, against=truth, rig=ring_rig(8), trajectory=head_path(pose))
    size = (tmp_path / "a.html").stat().st_size
    assert told == {"frames": 1800, "bytes": size}
    assert size < 10e6 - 2.4e6  # room for the embedded recording


def test_long_sequences_are_thinned_by_the_stated_rule() -> None:
    pose, truth = pair(300)
    scene = build_scene(pose, against=truth, budget=100_000)
    n = len(scene["frames"])
    step = scene["frames"][1] - scene["frames"][0]
    assert step > 1
    assert n == -(-300 // step)
    assert (
        sum(len(b[k] or "") for b in scene["bodies"] for k in ("xyz", "origin", "status", "factor", "sigma")) <= 100_000
    )
    assert any(f"({n} of 300)" in note for note in scene["notes"])


def test_reference_is_matched_by_frame_number_and_joint_name() -> None:
    pose, truth = pair(30)
    some = truth.to_skeleton(BODY17).select(frames=truth.frames[5:25:2])
    scene = build_scene(pose, against=some)
    other = match(pose, some)
    assert np.array_equal(other.frames, pose.frames)
    known = np.isin(pose.frames, some.frames)
    assert other.valid[known].all()
    assert not other.valid[~known].any()
    partner = scene["bodies"][0]["partner"]
    assert partner[BODY17_HANDS.index("left_wrist")] == BODY17.index("left_wrist")
    assert partner[BODY17_HANDS.index("left_hand_wrist")] == -1
    error = joint_errors(pose, other)
    j = BODY17_HANDS.index("right_knee")
    expected = np.linalg.norm(pose.xyz[known, j].astype(float) - truth.xyz[known, j], axis=-1)
    assert np.allclose(error[known, j], expected, equal_nan=True, atol=1e-6)


def test_what_cannot_be_compared_is_refused() -> None:
    pose, truth = pair(10)
    with pytest.raises(EgoposeError, match="share no frame: 100 to 109 and 500 to 509"):
        build_scene(pose, against=truth.replace(frames=truth.frames + 400))
    with pytest.raises(EgoposeError, match="share no joint name"):
        build_scene(pose.to_skeleton(BODY17), against=PoseSequence(
            HANDED["left"], pose.frames, pose.times_s, np.zeros((10, 21, 3))))  # fmt: skip
    with pytest.raises(EgoposeError, match="'world', the other in 'camera:cam01'"):
        build_scene(pose, against=truth.replace(space="camera:cam01"))
    with pytest.raises(EgoposeError, match="no frames"):
        build_scene(pose.select(frames=[]))


def test_joints_of_a_known_camera_are_brought_to_the_world() -> None:
    pose, truth = pair(10)
    rig = ring_rig()
    camera = rig.cameras[1]
    seen = pose.transformed(np.linalg.inv(camera.T_world_camera), f"camera:{camera.name}")
    scene = build_scene(seen, against=truth, rig=rig)
    to_file = np.array(scene["to_file"])
    back = unpack(scene["bodies"][0], 10) @ to_file[:, :3].T + to_file[:, 3]
    assert np.nanmax(np.abs(back - pose.xyz)) < 1e-3
    # without the rig it stays in the camera's axes, upright, and the page gives the file's coordinates
    scene = build_scene(seen)
    to_file = np.array(scene["to_file"])
    back = unpack(scene["bodies"][0], 10) @ to_file[:, :3].T + to_file[:, 3]
    assert np.nanmax(np.abs(back - seen.xyz)) < 1e-3
    assert scene["axis_names"][2] == "-y (up)"


def test_unknown_joints_and_one_frame_make_a_page() -> None:
    nothing = PoseSequence(BODY17, [7], [0.0], np.full((1, 17, 3), np.nan))
    scene = build_scene(nothing, rig=ring_rig())
    json.dumps(scene, allow_nan=False)
    assert np.isnan(unpack(scene["bodies"][0], 1)).all()
    viewer_document(scene)


def test_frustums_are_those_of_the_lens() -> None:
    for camera in ring_rig().cameras:
        corners = frustum_corners(camera, 0.3)
        uv = camera.project(corners)
        w, h = camera.size
        # every point of the frustum's border lies on the image's border
        off = np.minimum.reduce([abs(uv[:, 0]), abs(uv[:, 0] - w + 1), abs(uv[:, 1]), abs(uv[:, 1] - h + 1)])
        assert off.max() < 1e-6
        local = (corners - camera.T_world_camera[:3, 3]) @ camera.T_world_camera[:3, :3]
        assert np.allclose(local[:, 2], 0.3)


def test_the_page_loads_nothing_and_cannot_be_broken_out_of() -> None:
    skeleton = hostile_skeleton()
    pose = PoseSequence(skeleton, [1, 2], [0.0, 0.1], np.zeros((2, 3, 3)), provenance={HOSTILE: HOSTILE})
    page = viewer_document(build_scene(pose, title=HOSTILE, names=(HOSTILE, "b")))
    assert "<img" not in page
    assert page.count("</script>") == 2
    assert not re.search(r"""(?:src|href)\s*=\s*["'](?!data:)""", page)
    assert not re.search(r"https?://(?!www\.w3\.org/2000/svg)", page)
    assert "default-src 'none'" in page
    data = re.search(r'<script type="application/json" id="scene-data">(.*?)</script>', page, re.S)
    assert json.loads(data[1])["bodies"][0]["joints"] == list(skeleton.joints)
    with pytest.raises(ValueError, match="not JSON compliant"):
        script_json({"a": float("nan")})


def test_nothing_is_left_when_the_page_cannot_be_written(tmp_path) -> None:
    pose, _ = pair(5)
    (tmp_path / "file").write_text("x")
    with pytest.raises(EgoposeError, match="cannot write"):
        save_scene_page(tmp_path / "file" / "a.html", pose)
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(("value", "expected"), [(0.9, 1), (1, 1), (1.1, 2), (3, 5), (7, 10), (0.003, 0.005), (0, 1)])
def test_ramps_end_at_round_numbers(value: float, expected: float) -> None:
    assert nice_ceiling(value) == pytest.approx(expected)


@pytest.mark.parametrize("axis", ["z", "-z", "y", "-y", "x", "-x"])
def test_a_world_with_another_up_is_shown_upright(axis: str) -> None:
    from egopose.trajectory import Trajectory
    from egopose.view.upright import axis_up, upright

    pose, truth = pair(12)
    R = axis_up(axis)
    assert np.allclose(R @ R.T, np.eye(3))
    assert np.linalg.det(R) == pytest.approx(1)
    # a file whose axis `axis` points up
    T = np.eye(4)
    T[:3, :3] = R.T
    rig = ring_rig()
    turned = type(rig)([c.moved(T @ c.T_world_camera) for c in rig.cameras])
    path = head_path(pose)
    other = Trajectory(path.times_s, T @ path.T_world_camera)
    found = upright(truth.transformed(T, "world"))
    assert np.allclose(found.R, R)
    assert bool(found.note) == (axis != "z")
    plain = build_scene(pose, against=truth, rig=rig, trajectory=path)
    scene = build_scene(
        pose.transformed(T, "world"), against=truth.transformed(T, "world"), rig=turned, trajectory=other
    )
    assert np.nanmax(np.abs(unpack(scene["bodies"][0], 12) - unpack(plain["bodies"][0], 12))) < 2 * FINEST_M
    for a, b in zip(scene["cameras"], plain["cameras"], strict=True):
        assert np.allclose(a["corners"], b["corners"], atol=2e-4)
        assert np.allclose(a["forward"], b["forward"], atol=1e-5)
    assert np.allclose(scene["path"]["heads"], plain["path"]["heads"], atol=2e-4)
    factors = [np.frombuffer(base64.b64decode(s["bodies"][0]["factor"]), "<i2").astype(int) for s in (scene, plain)]
    assert np.abs(factors[0] - factors[1]).max() <= 2
    # the page still tells the file's coordinates
    to_file = np.array(scene["to_file"])
    back = unpack(scene["bodies"][0], 12) @ to_file[:, :3].T + to_file[:, 3]
    assert np.nanmax(np.abs(back - pose.transformed(T, "world").xyz)) < 1e-3


def test_up_is_not_guessed_without_a_clear_trunk() -> None:
    from egopose.view.upright import upright

    pose, truth = pair(12)
    assert np.array_equal(upright(truth).R, np.eye(3))
    nothing = truth.replace(xyz=np.full_like(truth.xyz, np.nan), status=None)
    assert np.array_equal(upright(nothing).R, np.eye(3))
    tilted = np.eye(4)
    tilted[:3, :3] = [[1, 0, 0], [0, 0.6, -0.8], [0, 0.8, 0.6]]
    assert np.array_equal(upright(truth.transformed(tilted, "world")).R, np.eye(3))
    with pytest.raises(EgoposeError, match="up is 'w'"):
        build_scene(pose, up="w")  # type: ignore[arg-type]
