"""Rendered clips: motion that a body can do, labels that agree with the pixels, folders that resume."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egopose import rigid
from egopose.body import load_body
from egopose.config import load_config
from egopose.errors import EgoposeError
from egopose.skeleton import BODY12, BODY17_HANDS, FINGERS
from egopose.train.rendered_files import load_rendered
from egopose.train.synthetic.dataset import Drawer, SynthConfig, build, draw_weights, prepare, write_clip
from egopose.train.synthetic.fingers import random_curls
from egopose.train.synthetic.lenses import KINDS, random_camera
from egopose.train.synthetic.motion import animate, bend_elbow, limit_turn, swing
from egopose.train.synthetic.render import PARTS, render_clip
from egopose.train.synthetic.sources import generated, load_recordings

FINGER_JOINTS = BODY17_HANDS.indices([j for j in BODY17_HANDS.joints if "_hand_" in j])


@pytest.fixture(scope="module")
def source():
    return generated(np.arange(6) / 10, np.random.default_rng(4))


@pytest.fixture(scope="module")
def clip(source):
    return render_clip(source, 11, side=128, lens="kannala_brandt", hands_up=1.0, samples=1, keep=("depth", "parts"))


# motion


def joints_of(body, motion):
    return np.stack([body.pose(motion.R[t], motion.root[t]).rig_joints() for t in range(motion.times_s.size)])


@pytest.mark.parametrize("seed", range(3))
def test_bones_turn_and_do_not_stretch(source, seed):
    body = load_body().shaped()
    motion = animate(body, source, np.random.default_rng(seed))
    rigid.check_rotation(motion.R, "bones")
    joints = joints_of(body, motion)
    for a, b in BODY17_HANDS.bones:
        names = BODY17_HANDS.joints[a], BODY17_HANDS.joints[b]
        # ears, shoulders to hips and the like are not one bone
        if any(part in name for name in names for part in ("nose", "eye", "ear")) or "shoulder" in names[0]:
            continue
        if names[0].endswith("hip") and names[1].endswith("hip"):
            continue
        length = np.linalg.norm(joints[:, a] - joints[:, b], axis=1)
        # fingertips lie on the skin, which gives a little
        assert np.ptp(length) < (0.006 if names[1].endswith("_4") else 1e-6), names


def test_feet_are_near_the_floor_and_the_camera_at_the_head(source):
    body = load_body().shaped()
    motion = animate(body, source, np.random.default_rng(0))
    joints = joints_of(body, motion)
    ankles = joints[:, BODY17_HANDS.indices(("left_ankle", "right_ankle")), 2]
    assert 0.0 < ankles.min() < 0.15
    eyes = joints[:, BODY17_HANDS.indices(("left_eye", "right_eye"))].mean(axis=1)
    assert np.linalg.norm(motion.T_world_camera[:, :3, 3] - eyes, axis=1).max() < 0.15
    # the camera looks where the nose points, give or take the tilt of its mount
    ears = joints[:, BODY17_HANDS.indices(("left_ear", "right_ear"))].mean(axis=1)
    nose = joints[:, BODY17_HANDS.index("nose")] - ears
    nose /= np.linalg.norm(nose, axis=1, keepdims=True)
    assert np.einsum("ti,ti->t", nose, motion.T_world_camera[:, :3, 2]).min() > 0.75


def test_steep_cameras_look_down_as_far_as_they_are_told(source):
    body = load_body().shaped()
    pitch = []
    for seed in range(60):
        motion = animate(body, source, np.random.default_rng(seed), steep_share=1.0, steepest=np.radians(80))
        ears = joints_of(body, motion)[:, BODY17_HANDS.indices(("left_ear", "right_ear"))].mean(axis=1)
        nose = joints_of(body, motion)[:, BODY17_HANDS.index("nose")] - ears
        look = motion.T_world_camera[0, :3, 2]
        pitch.append(np.degrees(np.arcsin(nose[0, 2] / np.linalg.norm(nose[0])) - np.arcsin(look[2])))
    # below where the nose points; that is below the level of the ears by itself
    assert 45 < np.ptp(pitch) < 70


def test_elbows_are_where_both_lengths_meet():
    rng = np.random.default_rng(1)
    shoulder, wrist = rng.standard_normal((50, 3)), rng.standard_normal((50, 3))
    wrist = shoulder + 0.5 * (wrist - shoulder) / np.linalg.norm(wrist - shoulder, axis=1, keepdims=True)
    first, second = bend_elbow(shoulder, wrist, rng.standard_normal((50, 3)), 0.3, 0.27)
    np.testing.assert_allclose(np.linalg.norm(first, axis=1), 0.3, atol=1e-12)
    np.testing.assert_allclose(np.linalg.norm(second, axis=1), 0.27, atol=1e-12)
    np.testing.assert_allclose(shoulder + first + second, wrist, atol=1e-12)
    # a target out of reach is drawn in along the same line
    first, second = bend_elbow(np.zeros((1, 3)), np.array([[2.0, 0, 0]]), np.array([[0, 0, -1.0]]), 0.3, 0.27)
    np.testing.assert_allclose((first + second)[0] / np.linalg.norm(first + second), [1, 0, 0], atol=1e-12)
    assert 0.5 < np.linalg.norm(first + second) < 0.57


def test_swing_and_limited_turns():
    rng = np.random.default_rng(2)
    a, b = rng.standard_normal((2, 40, 3))
    R = swing(a, b)
    turned = np.einsum("tij,tj->ti", R, a / np.linalg.norm(a, axis=1, keepdims=True))
    np.testing.assert_allclose(turned, b / np.linalg.norm(b, axis=1, keepdims=True), atol=1e-9)
    base = rigid.rotation_from_vector(rng.standard_normal((40, 3)))
    limited = limit_turn(base, R, 0.5)
    angle = np.linalg.norm(rigid.vector_from_rotation(np.swapaxes(base, 1, 2) @ limited), axis=1)
    assert angle.max() < 0.5 + 1e-6


def test_fingers_stay_within_what_joints_allow(source):
    body = load_body().shaped()
    curls = random_curls(np.random.default_rng(0), np.linspace(0, 20, 400))
    assert curls[..., :3].min() >= 0
    assert curls[..., :3].max() <= 1
    assert np.abs(np.diff(curls, axis=0)).max() < 0.35
    for seed in range(3):
        motion = animate(body, source, np.random.default_rng(seed))
        joints = joints_of(body, motion)
        for side in ("left", "right"):
            at = {p: joints[:, BODY17_HANDS.index(f"{side}_hand_{p}")] for p in ("wrist", "index_1", "pinky_1")}
            palm = np.cross(at["index_1"] - at["wrist"], at["pinky_1"] - at["wrist"])
            palm *= -1 if side == "left" else 1
            palm /= np.linalg.norm(palm, axis=1, keepdims=True)
            for finger in FINGERS[1:]:
                base, tip = (joints[:, BODY17_HANDS.index(f"{side}_hand_{finger}_{k}")] for k in (1, 4))
                # fingers bend to the palm; none is bent far back
                assert (np.einsum("ti,ti->t", tip - base, palm) > -0.045).all()


@pytest.mark.shared
@pytest.mark.parametrize(("file", "limit_cm"), [("train_exact.npz", 10.0), ("val.npz", 10.0)])
def test_captured_motion_is_followed(shared_data, file, limit_cm):
    recordings = load_recordings([shared_data / "cmu_motion" / file])
    body = load_body().shaped()
    joints12 = BODY17_HANDS.indices(BODY12.joints)
    errors = []
    for recording in recordings[::12]:
        source = recording.cut(0, 8, max(1, len(recording) // 10))
        motion = animate(body, source, np.random.default_rng(0), hands_up=0.0)
        joints = joints_of(body, motion)[:, joints12]
        theirs = np.stack([source.joints[name] for name in BODY12.joints], axis=1)
        # the body keeps its own proportions, so joints differ by centimetres; labels are read off the body
        scale = np.linalg.norm(joints[:, 8] - joints[:, 10], axis=1) / np.linalg.norm(
            theirs[:, 8] - theirs[:, 10], axis=1
        )
        hips = [BODY12.index("left_hip"), BODY12.index("right_hip")]
        a = joints - joints[:, hips].mean(axis=1, keepdims=True)
        b = (theirs - theirs[:, hips].mean(axis=1, keepdims=True)) * scale[:, None, None]
        errors.append(100 * np.linalg.norm(a - b, axis=-1).mean())
    assert np.mean(errors) < limit_cm, errors


# lenses


@pytest.mark.parametrize("kind", KINDS)
def test_lenses_are_usable_and_differ(kind):
    rng = np.random.default_rng(3)
    cameras = [random_camera(rng, 200, kind) for _ in range(8)]
    assert {c.model for c in cameras} == {kind}
    assert len({float(c.params[0]) for c in cameras}) == 8
    uv = np.random.default_rng(0).uniform(60, 140, (50, 2))
    for camera in cameras:
        rays = camera.unproject(uv)
        np.testing.assert_allclose(camera.project(2 * rays, frame="camera"), uv, atol=1e-6)


# images and labels


def test_a_clip_is_the_same_again(source, clip):
    again = render_clip(
        source, 11, side=128, lens="kannala_brandt", hands_up=1.0, samples=1, keep=("depth", "parts")
    )  # fmt: skip
    for key in ("images", "joints_world", "T_world_camera", "visible", "in_view", "depth", "parts"):
        np.testing.assert_array_equal(clip[key], again[key])
    other = render_clip(source, 12, side=128, lens="kannala_brandt", hands_up=1.0, samples=1)
    assert (other["images"] != clip["images"]).mean() > 0.5


def test_labels_agree_with_the_pixels(clip):
    camera, n = clip["camera"], clip["times_s"].size
    seen_hand_pixels = 0
    for t in range(n):
        points = rigid.transform_points(rigid.invert(clip["T_world_camera"][t]), clip["joints_world"][t])
        uv = camera.project(points, frame="camera")
        np.testing.assert_array_equal(camera.in_image(uv), clip["in_view"][t])
        assert not (clip["visible"][t] & ~clip["in_view"][t]).any()
        for j in FINGER_JOINTS[clip["visible"][t][FINGER_JOINTS]]:
            column, row = np.floor(uv[j] + 0.5).astype(int)
            if not (0 <= column < 128 and 0 <= row < 128):
                continue
            # the surface before a visible joint is at most a finger's thickness nearer
            depth, far = clip["depth"][t, row, column], np.linalg.norm(points[j])
            assert far - depth < 0.055
            part = PARTS[clip["parts"][t, row, column]]
            seen_hand_pixels += part.endswith(("hand", "forearm"))
    visible = int(clip["visible"][:, FINGER_JOINTS].sum())
    assert visible > 20
    assert seen_hand_pixels > 0.8 * visible


def test_depth_is_that_of_the_floor(clip):
    floor_seen = 0
    for t in range(0, clip["times_s"].size, 2):
        depth = clip["depth"][t]
        rows, columns = np.nonzero((clip["parts"][t] == PARTS.index("room")) & (depth > 0))
        rays = clip["camera"].unproject(np.stack([columns, rows], -1).astype(float))
        points = rigid.transform_points(clip["T_world_camera"][t], rays * depth[rows, columns, None])
        ok = np.isfinite(points).all(axis=1)
        assert points[ok, 2].min() > -0.03
        floor_seen += int((np.abs(points[ok, 2]) < 0.01).sum())
    assert floor_seen > 300


def test_images_have_contrast_and_a_body(clip):
    assert clip["images"].dtype == np.uint8
    assert clip["images"].std() > 12
    assert clip["images"].mean() < 240
    body = clip["parts"] > PARTS.index("room")
    assert 0.005 < body.mean() < 0.8


# folders


def settings(**changes):
    values = {"clips": 3, "frames": 3, "side": 64, "samples": 1, "seed": 5, **changes}
    return load_config(SynthConfig, None, **values)


def test_folders_resume_and_split(tmp_path):
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    first = build(settings(), whole)
    assert first["rendered"] == 3
    images = (whole / "clip_000001" / "images.npy").read_bytes()
    (whole / "clip_000001" / "images.npy").stat()
    before = (whole / "clip_000000" / "images.npy").stat().st_mtime_ns
    for path in sorted((whole / "clip_000001").iterdir()):
        path.unlink()
    (whole / "clip_000001").rmdir()
    again = build(settings(), whole)
    assert again["rendered"] == 1
    assert (whole / "clip_000001" / "images.npy").read_bytes() == images
    assert (whole / "clip_000000" / "images.npy").stat().st_mtime_ns == before
    for shard in range(2):
        build(settings(), parts, shard=shard, shards=2)
    for index in range(3):
        name = f"clip_{index:06d}"
        for file in ("images.npy", "labels.npz"):
            assert (parts / name / file).read_bytes() == (whole / name / file).read_bytes()
    with pytest.raises(EgoposeError, match="other settings"):
        build(settings(side=96), whole)


def test_a_clip_that_another_process_has_written_meanwhile_is_left(tmp_path):
    config = settings(clips=1)
    build(config, tmp_path)
    (before,) = tmp_path.glob("clip_*")
    images = before / "images.npy"
    stamp = images.stat().st_mtime_ns
    write_clip(before, 0, Drawer(config).clip(0), prepare(tmp_path, config))
    assert images.stat().st_mtime_ns == stamp
    assert sorted(path.name for path in tmp_path.iterdir()) == [before.name, "dataset.json"]


def test_clips_come_back_as_written(tmp_path):
    config = settings(clips=1)
    build(config, tmp_path)
    made = Drawer(config).clip(0)
    (read,) = load_rendered(tmp_path)
    np.testing.assert_array_equal(read.images, made["images"])
    np.testing.assert_allclose(read.joints, made["joints_world"], atol=1e-6)
    np.testing.assert_allclose(read.T_world_camera, made["T_world_camera"], atol=1e-12)
    assert read.camera.model == made["camera"].model
    np.testing.assert_allclose(read.camera.params, made["camera"].params)
    hands = read.visible[:, FINGER_JOINTS]
    np.testing.assert_array_equal(hands == 1, made["visible"][:, FINGER_JOINTS])


def test_damage_is_named(tmp_path):
    build(settings(clips=1), tmp_path)
    place = tmp_path / "clip_000000"
    labels = (place / "labels.npz").read_bytes()
    for file, data in (("labels.npz", labels[:300]), ("images.npy", (place / "images.npy").read_bytes()[:200])):
        (place / "labels.npz").write_bytes(labels)
        (place / file).write_bytes(data)
        with pytest.raises(EgoposeError, match="render the clip again"):
            load_rendered(tmp_path)
    (place / "clip.json").write_text(json.dumps({"name": "x"}))
    with pytest.raises(EgoposeError, match="lacks"):
        load_rendered(tmp_path)
    with pytest.raises(EgoposeError, match="no rendered clip"):
        load_rendered(tmp_path / "absent")


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"frames": 1}, "expected at least"),
        ({"lens": "mirror"}, "expected any"),
        ({"hands_up": 2.0}, "shares"),
        ({"steepest_deg": 100.0}, "20 to 90"),
    ],
)
def test_settings_are_checked(changes, words):
    with pytest.raises(EgoposeError, match=words):
        settings(**changes)


def test_motion_files_are_checked(tmp_path):
    with pytest.raises(EgoposeError, match="cannot be read"):
        load_recordings([tmp_path / "absent.npz"])
    (tmp_path / "bad.npz").write_bytes(b"not a zip")
    with pytest.raises(EgoposeError, match="cannot be read"):
        load_recordings([tmp_path / "bad.npz"])
    (tmp_path / "cut.npz").write_bytes(b"PK\x03\x04" + bytes(200))
    with pytest.raises(EgoposeError, match="cannot be read"):
        load_recordings([tmp_path / "cut.npz"])
    np.savez(tmp_path / "other.npz", joints=np.zeros((2, 3, 3)))
    with pytest.raises(EgoposeError, match="has no array"):
        load_recordings([tmp_path / "other.npz"])


def test_rare_subjects_are_drawn_more_often_than_their_share():
    class Clip:
        def __init__(self, subject, length):
            self.subject, self.length = subject, length

        def __len__(self):
            return self.length

    weights = draw_weights([Clip("a", 900), Clip("b", 100)], {})
    assert weights.sum() == pytest.approx(1.0)
    assert weights[1] == pytest.approx(0.25)
    assert draw_weights([Clip("a", 900), Clip("b", 100)], {"b": 0.0})[1] == 0
