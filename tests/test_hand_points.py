"""Hands of the body: joints where annotators click, with the proportions of real hands."""

import json

import numpy as np
import pytest

from egopose import rigid
from egopose.body import load_body
from egopose.ego_exo4d.standin_world import person
from egopose.hand_points import clicked_hand
from egopose.skeleton import BODY17_HANDS, HAND21
from tests.test_ego_exo4d_points import rest


@pytest.mark.parametrize("seed", [None, 3, 8])
def test_hands_have_the_proportions_of_real_ones(seed):
    body = load_body().shaped() if seed is None else person(seed)
    posed = rest(body)
    points, bones = posed.joints(), posed.rig_joints()
    for side in ("left", "right"):
        mine = BODY17_HANDS.indices([f"{side}_hand_{joint}" for joint in HAND21.joints])
        hand, before = dict(zip(HAND21.joints, points[mine])), dict(zip(HAND21.joints, bones[mine]))
        moved = {joint: np.linalg.norm(hand[joint] - before[joint]) for joint in HAND21.joints}
        assert {joint for joint, far in moved.items() if far > 0} == {
            "wrist", "thumb_1", "index_4", "middle_4", "ring_4", "pinky_4",
        }  # fmt: skip
        assert all(far < 0.025 for far in moved.values())

        def length(a, b, hand=hand):
            return np.linalg.norm(hand[a] - hand[b])

        # metacarpals are 1.71, 1.45, 1.40 and 1.64 of the proximal bones, and the carpus comes on top (Buryanov 2010)
        for finger, metacarpal in (("index", 1.71), ("middle", 1.45), ("ring", 1.40), ("pinky", 1.64)):
            palm = length("wrist", f"{finger}_1") / length(f"{finger}_1", f"{finger}_2")
            assert metacarpal < palm < metacarpal + 1.2
            # a tip stays on the line of its last bone, and inside the skin
            along = before[f"{finger}_4"] - before[f"{finger}_3"]
            share = (hand[f"{finger}_4"] - hand[f"{finger}_3"]) @ along / (along @ along)
            assert 0.6 < share < 1.1
            np.testing.assert_allclose(hand[f"{finger}_4"], before[f"{finger}_3"] + share * along, atol=1e-9)
        # the thumb begins on the side of the index, between wrist and knuckles, 40 to 60 mm from the wrist
        assert length("thumb_1", "index_1") < length("thumb_1", "pinky_1")
        assert 0.03 < length("thumb_1", "wrist") < 0.06
        assert 0.028 < length("thumb_1", "thumb_2") < 0.05


@pytest.mark.shared
def test_annotated_hands_agree(shared_data):
    """InterHand2.6M's sample: lengths over six finger segments, mean of six annotated hands."""
    folder = shared_data / "interhand26m_sample"
    frames = json.loads((folder / "test_interhand2.6m_joint_3d.json").read_text())
    order = [20, 3, 2, 1, 0, 7, 6, 5, 4, 11, 10, 9, 8, 15, 14, 13, 12, 19, 18, 17, 16]
    real = []
    for frame in (frame for capture in frames.values() for frame in capture.values()):
        joints, valid = np.array(frame["world_coord"]), np.ravel(frame["joint_valid"]) > 0
        real += [joints[h + np.array(order)] for h in (0, 21) if valid[h + np.array(order)].all()]
    assert len(real) == 6
    posed = rest(load_body().shaped())
    points, bones = posed.joints(), posed.rig_joints()
    mine = BODY17_HANDS.indices([f"right_hand_{joint}" for joint in HAND21.joints])
    names = [("wrist", f"{finger}_1") for finger in ("index", "middle", "ring", "pinky")]
    names += [(f"{finger}_3", f"{finger}_4") for finger in ("index", "middle", "ring", "pinky")]
    names += [("thumb_1", "index_1"), ("wrist", "thumb_1")]

    def lengths(hand):
        def of(a, b):
            return np.linalg.norm(hand[HAND21.index(a)] - hand[HAND21.index(b)])

        segments = [("index", 1), ("index", 2), ("middle", 1), ("middle", 2), ("ring", 1), ("pinky", 1)]
        unit = sum(of(f"{finger}_{k}", f"{finger}_{k + 1}") for finger, k in segments)
        return np.array([of(a, b) / unit for a, b in names])

    target = np.mean([lengths(hand) for hand in real], axis=0)
    off, before = lengths(points[mine]) / target - 1, lengths(bones[mine]) / target - 1
    assert np.abs(off).mean() < 0.6 * np.abs(before).mean()
    assert np.abs(off).max() < 0.15 < np.abs(before).max()


def test_the_hand_may_lie_anywhere_and_be_mirrored():
    bones = rest(load_body().shaped()).rig_joints()
    right = bones[BODY17_HANDS.indices([f"right_hand_{joint}" for joint in HAND21.joints])]
    T = rigid.make_transform(rigid.rotation_from_vector([0.4, -1.1, 0.7]), [0.3, -2.0, 1.3])
    np.testing.assert_allclose(
        clicked_hand(rigid.transform_points(T, right), left=False),
        rigid.transform_points(T, clicked_hand(right, left=False)), atol=1e-12,
    )  # fmt: skip
    flip = np.array([-1.0, 1.0, 1.0])
    np.testing.assert_allclose(
        clicked_hand(right * flip, left=True), clicked_hand(right, left=False) * flip, atol=1e-12
    )
