"""Decoys: only where that hand is not, aimed at in training as prediction would aim at them, in the mirror too."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from egopose import rigid
from egopose.errors import EgoposeError
from egopose.model.network import EgoPoseNet, build
from egopose.skeleton import BODY17
from egopose.train.config import TrainConfig
from egopose.train.decoys import find_decoys, save_decoys, with_decoys
from egopose.train.rendered import DECOY_SHOWN, RenderedClip, RenderedSource, mirrored_clip
from egopose.train.stages import rendered_clips
from tests.nets import CAMERA, TINY, shake
from tests.test_train_loop import config
from tests.test_train_rendered import rendered

RIGHT = slice(BODY17.n_joints + 21, BODY17.n_joints + 42)


@pytest.fixture(scope="module")
def model() -> EgoPoseNet:
    return shake(build(TINY, 3))


def away() -> RenderedClip:
    """A clip whose hands are behind the camera and not seen."""
    clip = rendered()
    joints = clip.joints.copy()
    behind = rigid.transform_points(clip.T_world_camera, np.tile([0.0, 0.2, -0.5], (len(clip), 42, 1)))
    joints[:, BODY17.n_joints :] = behind
    visible = clip.visible.copy()
    visible[:, BODY17.n_joints :] = 0
    return replace(clip, joints=joints, visible=visible)


def with_hand_at(clip: RenderedClip, place: np.ndarray) -> RenderedClip:
    """The same with the right hand of frame 0 around a place in camera axes."""
    joints = clip.joints.copy()
    joints[0, RIGHT] = rigid.transform_points(clip.T_world_camera[0], place)
    return replace(clip, joints=joints)


def test_decoys_are_where_the_finder_sees_a_hand_and_none_is(model: EgoPoseNet) -> None:
    clip = away()
    found = find_decoys(model, [clip], every=1)
    assert len(found) > 4
    assert set(found[:, 0]) == {0.0}
    assert set(found[:, 1]) <= set(range(len(clip)))
    assert set(found[:, 2]) <= {0.0, 1.0}
    uv = CAMERA.project(found[:, 3:], frame="camera")
    assert ((uv > -0.5) & (uv < np.array(CAMERA.size) - 0.5)).all()
    # where the hand is there is no decoy, at whatever distance; all others stay
    mine = found[(found[:, 1] == 0) & (found[:, 2] == 1)]
    assert len(mine) >= 1
    again = find_decoys(model, [with_hand_at(clip, 1.3 * mine[0, 3:])], every=1)
    gone = [row for row in found if not (np.abs(again - row).max(axis=1) < 1e-9).any()]
    assert 1 <= len(gone) <= 2
    np.testing.assert_array_equal(gone[0], mine[0])
    # a hand without a label may be anywhere
    unknown = replace(clip, joints=np.where(np.arange(59)[:, None] >= RIGHT.start, np.nan, clip.joints))
    assert set(find_decoys(model, [unknown], every=1)[:, 2]) <= {0.0}
    # only so many frames are looked at, and clips are told apart
    second = find_decoys(model, [clip, clip], every=2)
    assert set(second[:, 1]) <= set(range(0, len(clip), 2))
    assert set(find_decoys(model, [clip, replace(clip)], every=1)[:, 0]) == {0.0, 1.0}


def test_decoys_come_back_for_the_clip_they_are_of(model: EgoPoseNet, tmp_path: Path) -> None:
    one, two = away(), replace(away(), name="two")
    rows = np.array([[0, 2, 1, 0.1, 0.2, 0.4], [1, 3, 0, -0.1, 0.2, 0.5], [1, 4, 1, 0.0, 0.1, 0.3]])
    save_decoys(tmp_path / "d.npz", [one, two], rows)
    b, a, other = with_decoys([two, one, replace(one, name="new")], tmp_path / "d.npz")
    np.testing.assert_allclose(a.decoys, rows[:1, 1:], rtol=1e-6)
    np.testing.assert_allclose(b.decoys, rows[1:, 1:], rtol=1e-6)
    assert other.decoys.shape == (0, 5)
    with pytest.raises(EgoposeError, match="the same name"):
        save_decoys(tmp_path / "twice.npz", [one, one], rows)
    assert not (tmp_path / "twice.npz").exists()
    with pytest.raises(EgoposeError, match="none of which is trained on"):
        with_decoys([replace(one, name="new")], tmp_path / "d.npz")
    np.savez(tmp_path / "bad.npz", names=np.array(["r"]), decoys=np.zeros((2, 5)))
    with pytest.raises(EgoposeError, match="find them anew"):
        with_decoys([one], tmp_path / "bad.npz")
    with pytest.raises(EgoposeError, match=r"gone\.npz"):
        with_decoys([one], tmp_path / "gone.npz")


def settings(tmp_path: Path, **values: object) -> TrainConfig:
    return config(tmp_path, rendered_batch=4, rendered_window=6, hand_drop=0.0, rendered_head_drop=0.0, **values)


@pytest.mark.parametrize("mirror", [False, True])
def test_crops_are_aimed_at_decoys_and_said_to_show_no_hand(tmp_path: Path, mirror: bool) -> None:
    clip = away()
    place = np.array([0.15, 0.1, 0.5])
    rows = np.array([[t, 1, *place] for t in range(len(clip))])
    clip = replace(clip, decoys=rows)
    if mirror:
        clip, place = mirrored_clip(clip), place * [-1, 1, 1]
    source = RenderedSource([clip], settings(tmp_path))
    # the source's own mirror image is left out: one clip at a time
    rng, hand = np.random.default_rng(0), 0 if mirror else 1
    aimed, told = [], []
    for _ in range(20):
        out = source.window(0, rng)
        known = out["hand_known"][:, hand]
        aimed.append(out["hand_axes"][known, hand, :, 2])
        told.append(out["crop"][known, hand])
    z = np.concatenate(aimed)
    close = z @ (place / np.linalg.norm(place)) > np.cos(0.1)
    # seven in ten, of those that are aimed anywhere most
    assert close.mean() > 0.7
    assert (np.concatenate(told) == 0).all()
    bare = RenderedSource([replace(clip, decoys=np.zeros((0, 5)))], settings(tmp_path))
    other = np.concatenate([(out := bare.window(0, rng))["hand_axes"][out["hand_known"][:, hand], hand, :, 2]
                            for _ in range(20)])  # fmt: skip
    assert (other @ (place / np.linalg.norm(place)) > np.cos(0.1)).mean() < 0.3


def test_of_a_hand_that_is_shown_some_crops_are_aimed_at_its_decoy_and_say_so(tmp_path: Path) -> None:
    clip, hand = away(), np.array([-0.15, 0.0, 0.4])
    joints, visible = clip.joints.copy(), clip.visible.copy()
    joints[:, RIGHT] = rigid.transform_points(clip.T_world_camera, np.tile(hand, (len(clip), 21, 1)))
    visible[:, RIGHT] = 1
    place = np.array([0.15, 0.1, 0.5])
    clip = replace(
        clip, joints=joints, visible=visible, decoys=np.array([[t, 1, *place] for t in range(len(clip))])
    )  # fmt: skip
    source, rng = RenderedSource([clip], settings(tmp_path)), np.random.default_rng(0)
    outs = [source.window(0, rng) for _ in range(120)]
    z = np.concatenate([out["hand_axes"][out["hand_known"][:, 1], 1, :, 2] for out in outs])
    told = np.concatenate([out["crop"][out["hand_known"][:, 1], 1] for out in outs])
    at_decoy = z @ (place / np.linalg.norm(place)) > np.cos(0.1)
    at_hand = z @ (hand / np.linalg.norm(hand)) > np.cos(0.1)
    assert at_decoy.mean() == pytest.approx(DECOY_SHOWN, abs=0.04)
    assert at_hand.mean() > 0.5
    assert (told[at_decoy] == 0).all()
    assert (told[at_hand] == 1).all()


def test_a_stage_reads_its_decoys(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clip = away()
    save_decoys(tmp_path / "d.npz", [clip], np.array([[0, 1, 0, 0.1, 0.1, 0.4]]))
    monkeypatch.setattr("egopose.train.rendered_files.load_rendered", lambda folder: [clip])
    clips, _ = rendered_clips(settings(tmp_path, rendered=("somewhere",), decoys=str(tmp_path / "d.npz")))
    np.testing.assert_allclose(clips[0].decoys, [[1, 0, 0.1, 0.1, 0.4]], rtol=1e-6)
    plain, _ = rendered_clips(settings(tmp_path, rendered=("somewhere",)))
    assert len(plain[0].decoys) == 0
