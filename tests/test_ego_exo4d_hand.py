"""Hand ground truth against a plain reading of the official rules, hand by hand and joint by joint."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest

from egopose import EgoposeError, load
from egopose.demo import walking_wearer
from egopose.ego_exo4d import EgoExo4D, build_hand_gt, make_standin
from egopose.ego_exo4d.handgt import COLUMNS, truth_of, write_hand_gt
from egopose.ego_exo4d.index import IndexedAnnotation
from egopose.ego_exo4d.standin_world import person, wearer
from egopose.rigid import invert
from egopose.skeleton import BODY17_HANDS, HAND21, HANDS42

f32 = np.float32
NAMES = list(HAND21.joints)
PARENT = {n: ("wrist" if n.endswith("_1") else f"{n[:-1]}{int(n[-1]) - 1}") for n in NAMES if n != "wrist"}
CHILD = {parent: n for n, parent in PARENT.items() if parent != "wrist"}


def visible(x: f32, y: f32) -> bool:
    """In the image and on the disc, at the truncated pixel."""
    if not (math.isfinite(x) and math.isfinite(y)) or not (0 <= x < 512 and 0 <= y < 512):
        return False
    return math.hypot(int(x) - 255.5, int(y) - 255.5) <= 150 * math.tan(1.0)


def norm(v: list[f32]) -> f32:
    return np.sqrt(f32(f32(v[0] * v[0] + v[1] * v[1]) + v[2] * v[2]))


def plain_hand(points: dict, views: dict, clicks: dict, T: np.ndarray, manual: bool) -> dict | None:
    """One hand by the rules, with dictionaries and loops: what the builder must equal."""
    joints = {n: p for n, p in points.items() if not (manual and views[n] < 3) and all(map(math.isfinite, p))}
    if "wrist" not in joints:
        return None
    bad = set()
    for n in NAMES:
        if n == "wrist" or n not in joints:
            continue
        if PARENT[n] in joints:
            length = norm([joints[n][a] - joints[PARENT[n]][a] for a in range(3)])
            palm = n in ("index_1", "middle_1", "ring_1", "pinky_1")
            low, high = (0.06, 0.12) if palm else (0.005, 0.08)
            if length < f32(low) or length > f32(high):
                bad.add(n)
        if n[-1] in "123" and PARENT[n] in joints and CHILD[n] in joints:
            a = [joints[PARENT[n]][i] - joints[n][i] for i in range(3)]
            b = [joints[CHILD[n]][i] - joints[n][i] for i in range(3)]
            la, lb = norm(a) + f32(1e-8), norm(b) + f32(1e-8)
            cosine = sum(f32(a[i] / la) * f32(b[i] / lb) for i in range(3))
            angle = math.degrees(math.acos(min(1.0, max(-1.0, float(cosine)))))
            limits = (100, 90, 90) if n.startswith("thumb") else (60, 70, 80)
            if angle < limits[int(n[-1]) - 1] or angle > 180:
                bad.add(n)
    projected, camera, valid = {}, {}, []
    for n in NAMES:
        if n not in joints or n in bad:
            continue
        p = joints[n]
        c = [f32(T[i, 0] * p[0] + T[i, 1] * p[1] + T[i, 2] * p[2] + T[i, 3]) for i in range(3)]
        with np.errstate(all="ignore"):
            u, v = f32(f32(150) * (c[0] / c[2]) + f32(255.5)), f32(f32(150) * (c[1] / c[2]) + f32(255.5))
        camera[n], projected[n] = c, (u, v)
        if not visible(u, v):
            continue
        if n != "wrist":
            click = clicks.get(n)
            if click is None or not visible(*click):
                continue
            if math.hypot(float(u - click[0]), float(v - click[1])) > 30:
                continue
        valid.append(n)
    if len(valid) < 10:
        return None
    us, vs = [projected[n][0] for n in valid], [projected[n][1] for n in valid]
    box = [min(us) - f32(20), min(vs) - f32(20), max(us) + f32(20), max(vs) + f32(20)]
    return {
        "valid": [n in valid for n in NAMES],
        "xyz": [camera[n] if n in camera and (n in valid or n == "wrist") else [math.nan] * 3 for n in NAMES],
        "uv": [projected[n] if n in camera and (n in valid or n == "wrist") else [math.nan] * 2 for n in NAMES],
        "box": [min(max(float(b), 0.0), 511.0) for b in box],
    }


def random_take(seed: int) -> tuple[IndexedAnnotation, np.ndarray, np.ndarray]:
    """A take whose hands are disturbed in every way that a rule looks at."""
    rng = np.random.default_rng(seed)
    frames = np.sort(rng.choice(400, 60, replace=False)).astype(np.int64)
    joints, motion = wearer(frames / 30.0, person(seed), seed)
    T = motion.T_world_camera
    hands = BODY17_HANDS.indices(list(HANDS42.joints))
    xyz = joints[:, hands] + rng.normal(0, 0.002, (60, 42, 3))
    wild = rng.random((60, 42)) < rng.choice([0.0, 0.05, 0.2], (60, 1))
    xyz[wild] += rng.normal(0, 0.04, (int(wild.sum()), 3))
    # straight and folded fingers, and lengths at the limits
    stretch = rng.random((60, 42)) < 0.03
    wrist = xyz[:, [HANDS42.index("left_hand_wrist")]]
    xyz = np.where(stretch[..., None], wrist + (xyz - wrist) * rng.uniform(0.5, 1.6, (60, 42, 1)), xyz)
    cameras = invert(T)[:, :3]
    c = np.einsum("tij,tkj->tki", cameras[:, :, :3], xyz) + cameras[:, None, :, 3]
    uv = 150 * c[..., :2] / c[..., 2:] + 255.5
    uv += rng.normal(0, 1, uv.shape) * rng.choice([1.0, 20.0], (60, 42, 1), p=[0.8, 0.2])
    uv[rng.random((60, 42)) < 0.08] = np.nan
    xyz[rng.random((60, 42)) < 0.05] = np.nan
    views = rng.choice([-1, 2, 3, 4, 5], (60, 42), p=[0.02, 0.08, 0.3, 0.3, 0.3]).astype(np.int8)
    raw = IndexedAnnotation(
        HANDS42, frames, xyz.astype(f32), views, ("aria01", "cam01"),
        np.stack([uv, np.full_like(uv, np.nan)]).astype(f32), np.ones((2, 60, 42), dtype=np.uint8),
    )  # fmt: skip
    there = rng.random(60) > 0.1
    return raw, frames[there], cameras[there]


@pytest.mark.parametrize("manual", [True, False])
@pytest.mark.parametrize("seed", range(8))
def test_equals_the_plain_reading_joint_for_joint(seed: int, manual: bool) -> None:
    raw, pose_frames, extrinsics = random_take(seed)
    truth = truth_of(raw, pose_frames, extrinsics, "aria01", "uid", "name", manual=manual)
    got = {int(f): t for t, f in enumerate(truth.frames)}
    hands = kept = 0
    for t, frame in enumerate(raw.frames.tolist()):
        at = np.flatnonzero(pose_frames == frame)
        T = extrinsics[at[0]].astype(f32) if at.size else None
        expected = [None, None]
        for s in range(2):
            if T is None:
                continue
            points = {n: list(raw.xyz[t, COLUMNS[s, j]]) for j, n in enumerate(NAMES)}
            views = {n: int(raw.num_views[t, COLUMNS[s, j]]) for j, n in enumerate(NAMES)}
            clicks = {n: tuple(raw.uv_px[0, t, COLUMNS[s, j]]) for j, n in enumerate(NAMES)}
            expected[s] = plain_hand(points, views, clicks, T, manual)
        assert (frame in got) == any(expected)
        if frame not in got:
            continue
        i = got[frame]
        for s in range(2):
            hands += 1
            assert bool(truth.kept[i, s]) == (expected[s] is not None)
            if expected[s] is None:
                assert not truth.valid[i, s].any()
                assert np.isnan(truth.xyz[i, s]).all()
                continue
            kept += 1
            assert truth.valid[i, s].tolist() == expected[s]["valid"]
            np.testing.assert_allclose(truth.xyz[i, s], np.array(expected[s]["xyz"]), atol=1e-6)
            np.testing.assert_allclose(truth.uv_px[i, s], np.array(expected[s]["uv"]), atol=2e-3)
            np.testing.assert_allclose(truth.boxes[i, s], expected[s]["box"], atol=2e-3)
            assert truth.valid[i, s].sum() >= 10
            assert np.isfinite(truth.xyz[i, s, 0]).all()
    assert 0 < kept < hands


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> EgoExo4D:
    folder = tmp_path_factory.mktemp("ego")
    make_standin(folder / "data", takes=3, seed=1, seconds=4.0)
    return EgoExo4D(folder / "data", cache=folder / "cache")


def test_truth_of_the_standin(data: EgoExo4D, tmp_path: Path) -> None:
    take = data["standin_piano_01_2"]
    truths = {source: build_hand_gt(take, source) for source in ("manual", "automatic")}
    assert set(np.unique(np.diff(truths["manual"].frames)) % 3) == {0}
    # frames without a head pose are skipped
    assert not np.isin([40, 60, 61, 62], truths["automatic"].frames).any()
    exact = load(data.root / "truth" / f"{take.uid}.npz").to_skeleton(HANDS42)
    for truth in truths.values():
        assert truth.kept.mean() > 0.5
        frames, T = take.head_poses(truth.frames)
        world = truth.pose().transformed(T, "world")
        error = np.linalg.norm(world.xyz - exact.select(frames=frames).xyz, axis=-1)
        assert np.nanmedian(error) < 0.008
    write_hand_gt(tmp_path / "gt.json", {take.uid: truths["manual"]})
    text = (tmp_path / "gt.json").read_text()
    assert "NaN" in text
    document = json.loads(text)[take.uid]
    entry = document[str(truths["manual"].frames[0])]
    assert set(entry) == {f"{s}_hand_{k}" for s in ("left", "right") for k in ("3d", "2d", "bbox", "valid_3d")} | {
        "metadata"
    }
    assert entry["metadata"]["take_uid"] == take.uid
    side = "right" if entry["right_hand_3d"] else "left"
    assert len(entry[f"{side}_hand_3d"]) == 21
    assert {type(flag) for flag in entry[f"{side}_hand_valid_3d"]} == {bool}
    back = load(tmp_path / "gt.json", format="ego-exo4d-hand", take=take.uid, only_valid=True)
    np.testing.assert_array_equal(back.valid, truths["manual"].pose().valid)


def test_the_test_split_is_refused(data: EgoExo4D) -> None:
    with pytest.raises(EgoposeError, match="random"):
        build_hand_gt(data["standin_basketball_02_1"])


def test_no_views_rule_for_automatic_annotation() -> None:
    raw, frames, extrinsics = random_take(0)
    raw.num_views[:] = 2
    assert not truth_of(raw, frames, extrinsics, "aria01", "u", "n", manual=True).frames.size
    assert truth_of(raw, frames, extrinsics, "aria01", "u", "n", manual=False).frames.size
    # without 2D in the head camera only the wrist could be valid
    assert not truth_of(raw, frames, extrinsics, "aria02", "u", "n", manual=False).frames.size


def test_demo_hands_are_anatomical() -> None:
    from egopose.ego_exo4d.handgt import anatomy_violations

    joints = walking_wearer(np.arange(300) / 30.0)[0].astype(f32)
    for side in ("left", "right"):
        hand = joints[:, BODY17_HANDS.indices([f"{side}_hand_{n}" for n in NAMES])]
        assert anatomy_violations(hand).mean() < 0.02
        assert anatomy_violations(hand * f32(2.0)).any(-1).all()
