"""Motion clips: reading, augmentation, simple predictors, and the shipped weights on held-out people."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from egopose.errors import EgoposeError
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.train import augment as aug
from egopose.train.evaluate import (
    BODY,
    INNER,
    check_subjects,
    from_canonical,
    mean_pose,
    nearest,
    network,
    ridge,
    score,
    to_canonical,
)
from egopose.train.windows import MotionClip, foot_contact, load_motion, resample, sampling_weights
from tests.test_train_loop import clips

J = BODY17_HANDS.index


def lengths(clip: MotionClip, a: str, b: str) -> np.ndarray:
    return np.linalg.norm(clip.joints[:, J(a)] - clip.joints[:, J(b)], axis=-1)


def assert_rigid(clip: MotionClip) -> None:
    R = clip.T_world_camera[:, :3, :3]
    np.testing.assert_allclose(R @ np.swapaxes(R, 1, 2), np.tile(np.eye(3), (len(clip), 1, 1)), atol=1e-9)
    np.testing.assert_allclose(np.linalg.det(R), 1, atol=1e-9)


def test_mirror_is_its_own_inverse_and_keeps_the_camera_right_handed() -> None:
    clip = clips(1)[0]
    once = aug.mirrored(clip)
    assert_rigid(once)
    twice = aug.mirrored(once)
    np.testing.assert_allclose(twice.joints, clip.joints, atol=1e-12)
    np.testing.assert_allclose(twice.T_world_camera, clip.T_world_camera, atol=1e-12)
    # a point seen at x in the camera is seen at -x in the mirror, with left and right exchanged
    left, right = J("left_wrist"), J("right_wrist")
    before, after = (
        np.einsum("tji,tj->ti", c.T_world_camera[:, :3, :3], c.joints[:, j] - c.T_world_camera[:, :3, 3])
        for c, j in ((clip, left), (once, right))
    )
    np.testing.assert_allclose(after, before * [-1, 1, 1], atol=1e-9)


def test_proportions_change_only_what_they_name() -> None:
    clip = clips(1)[0]
    other = aug.reproportioned(clip, arm=1.2, leg=0.9, shoulder=1.1, hip=0.8)
    for a, b, factor in (
        ("left_shoulder", "left_elbow", 1.2), ("right_elbow", "right_wrist", 1.2), ("left_hip", "left_knee", 0.9),
        ("right_knee", "right_ankle", 0.9), ("left_shoulder", "right_shoulder", 1.1), ("left_hip", "right_hip", 0.8),
        ("nose", "left_eye", 1.0),
    ):  # fmt: skip
        np.testing.assert_allclose(lengths(other, a, b), factor * lengths(clip, a, b), rtol=1e-9)
    ankles = [J("left_ankle"), J("right_ankle")]
    np.testing.assert_allclose(other.joints[:, ankles, 2].mean(1), clip.joints[:, ankles, 2].mean(1), atol=1e-9)
    # the face stays fixed to the camera
    old, new = (c.joints[:, J("nose")] - c.T_world_camera[:, :3, 3] for c in (clip, other))
    np.testing.assert_allclose(old, new, atol=1e-9)
    same = aug.reproportioned(clip, arm=1, leg=1, shoulder=1, hip=1)
    np.testing.assert_allclose(same.joints, clip.joints, atol=1e-12)


def test_size_mount_and_time() -> None:
    clip = clips(1)[0]
    big = aug.scaled(clip, 1.1)
    np.testing.assert_allclose(lengths(big, "left_hip", "left_knee"), 1.1 * lengths(clip, "left_hip", "left_knee"))
    np.testing.assert_allclose(big.T_world_camera[:, 2, 3], 1.1 * clip.T_world_camera[:, 2, 3])
    turned = aug.remounted(clip, np.array([0.2, 0, 0]), np.array([0, 0.01, 0]))
    assert_rigid(turned)
    np.testing.assert_array_equal(turned.joints, clip.joints)
    assert np.linalg.norm(turned.T_world_camera[:, :3, 3] - clip.T_world_camera[:, :3, 3], axis=1) == pytest.approx(
        0.01
    )
    back = aug.reversed_time(clip)
    np.testing.assert_allclose(back.joints[::-1], clip.joints)
    assert (np.diff(back.times_s) > 0).all()


def test_augmented_clips_are_valid_and_repeat() -> None:
    clip = clips(1)[0]
    for seed in range(8):
        dense, sampled = aug.augment(clip, aug.AugmentConfig(), np.random.default_rng(seed))
        assert_rigid(sampled)
        assert (np.diff(sampled.times_s) > 0).all()
        assert np.isfinite(sampled.joints).all()
        assert sampled.times_s[-1] <= dense.times_s[-1] + 1e-9
        again = aug.augment(clip, aug.AugmentConfig(), np.random.default_rng(seed))[1]
        np.testing.assert_array_equal(again.joints, sampled.joints)


def test_resampling_a_straight_line_is_exact() -> None:
    clip = clips(1)[0]
    speed = np.array([1.0, -2.0, 0.1])
    joints = np.zeros_like(clip.joints) + clip.times_s[:, None, None] * speed
    from dataclasses import replace

    line = replace(clip, joints=joints)
    at = np.array([0.013, 0.4, 1.05])
    np.testing.assert_allclose(resample(line, at).joints[:, 0], at[:, None] * speed, atol=1e-12)


def test_contact_needs_slow_and_low() -> None:
    t = np.arange(60) / 30
    foot = np.zeros((60, 3))
    foot[:, 2] = 0.03
    assert (foot_contact(t, foot, foot) == 1).all()
    foot[30:, 0] = 2.0 * (t[30:] - t[30])
    assert (foot_contact(t, foot, foot)[32:] == 0).all()
    high = foot.copy()
    high[:, 2] = 0.5
    assert (foot_contact(t, high, high) == 0).all()
    assert foot_contact(t[:1], foot[:1], None).tolist() == [-1]


def test_sampling_weights() -> None:
    a, b = clips(2, 60)
    long = clips(1, 240)[0]
    from dataclasses import replace

    some = [replace(a, subject="x"), replace(b, subject="x"), replace(long, subject="y")]
    w = sampling_weights(some, power=0.0)
    assert w[:2].sum() == pytest.approx(0.5)
    w = sampling_weights(some, power=1.0)
    assert w[2] / w[0] == pytest.approx(some[2].seconds / some[0].seconds)
    assert sampling_weights(some, subjects={"y": 0.0})[2] == 0


def write_npz(path: Path, **changes: object) -> Path:
    clip = clips(1)[0]
    data: dict[str, object] = {
        "joints": clip.joints[:, BODY].astype(np.float32), "joint_names": np.array(BODY17.joints),
        "head_rot": clip.T_world_camera[:, :3, :3], "head_pos": clip.T_world_camera[:, :3, 3],
        "clip_ptr": np.array([0, 20, 60]), "clip_name": np.array(["a", "b"]), "subject": np.array(["1", "2"]),
        "tier": np.array(["A", "A"]), "fps": np.float32(30),
    }  # fmt: skip
    data.update(changes)
    np.savez(path, **{k: v for k, v in data.items() if v is not None})  # type: ignore[arg-type]
    return path


def test_motion_files(tmp_path: Path) -> None:
    found = load_motion(write_npz(tmp_path / "m.npz"))
    assert [(c.name, c.subject, len(c)) for c in found] == [("a", "1", 20), ("b", "2", 40)]
    np.testing.assert_allclose(found[1].joints[:, BODY], clips(1)[0].joints[20:, BODY], atol=1e-6)
    np.testing.assert_array_equal(found[0].joints[:, J("left_hand_wrist")], found[0].joints[:, J("left_wrist")])
    assert np.isnan(found[0].joints[:, J("left_hand_thumb_1")]).all()
    with pytest.raises(EgoposeError, match="no array 'tier'"):
        load_motion(write_npz(tmp_path / "n.npz", tier=None))
    with pytest.raises(EgoposeError, match="no joint 'nose'"):
        load_motion(write_npz(tmp_path / "n.npz", joint_names=np.array(["tail", *BODY17.joints[1:]])))
    with pytest.raises(EgoposeError, match="clip_ptr"):
        load_motion(write_npz(tmp_path / "n.npz", clip_ptr=np.array([0, 20, 61])))
    (tmp_path / "bad.npz").write_bytes(b"PK junk")
    with pytest.raises(EgoposeError, match=r"bad\.npz"):
        load_motion(tmp_path / "bad.npz")


def test_subjects_are_kept_apart() -> None:
    a, b = clips(2)
    check_subjects([a], [b])
    with pytest.raises(EgoposeError, match="s0"):
        check_subjects([a], [b, a])


def test_simple_predictors_on_a_rigid_body() -> None:
    train, held = clips(4), clips(6)[4:]
    np.testing.assert_allclose(from_canonical(held[0], to_canonical(held[0])), held[0].joints[:, BODY], atol=1e-9)
    # the body does not move in the canonical frame, so all of them must find it
    for predict in (ridge(train, 1e-3), nearest(train, 1), nearest(train, 8)):
        assert score(predict, held)["body12_cm"] < 0.5
    # the mean pose hangs below the head and bobs with it by up to 3 cm
    assert 0.1 < score(mean_pose(train), held)["body12_cm"] < 5
    assert score(nearest(train, 1), train)["body12_cm"] == pytest.approx(0, abs=1e-3)


@pytest.mark.shared
def test_shipped_nano_beats_the_simple_predictors_on_held_out_people(shared_data: Path) -> None:
    from egopose.model.weights import from_pretrained

    torch.set_num_threads(1)
    folder = shared_data / "cmu_motion"
    train = load_motion(folder / "train_exact.npz") + load_motion(folder / "train_retarget.npz")
    held = load_motion(folder / "val.npz")
    check_subjects(train, held)
    model = from_pretrained("nano").model()
    ours = score(network(model), held)["body12_cm"]
    best = min(score(predict, held)["body12_cm"] for predict in (mean_pose(train), ridge(train), nearest(train)))
    assert ours < 0.9 * best
    causal = score(network(model, "causal"), held)
    assert causal["body12_cm"] > ours
    walking = [c for c in held if c.tier == "A"]
    assert score(network(model), walking)["body12_cm"] < 0.85 * score(nearest(train), walking)["body12_cm"]
    assert INNER.size == 12
