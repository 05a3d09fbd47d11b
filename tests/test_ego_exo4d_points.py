"""Joints of the stand-in: where annotators click, not the beginnings of bones."""

import json

import numpy as np
import pytest

from egopose import rigid
from egopose.body import load_body
from egopose.ego_exo4d.standin_points import clicked
from egopose.ego_exo4d.standin_world import person, wearer
from egopose.skeleton import BODY17, BODY17_HANDS, HAND21


def rest(body):
    n = len(body.model.names)
    return body.pose(np.tile(np.eye(3), (n, 1, 1)), body.joints[0])


@pytest.mark.parametrize("seed", [None, 3, 8])
def test_points_lie_where_annotators_click(seed):
    """Landmarks of the surface that need no regressor: each point is held to the mesh around it."""
    body = load_body().shaped() if seed is None else person(seed)
    posed = rest(body)
    points = dict(zip(BODY17_HANDS.joints, clicked(posed)))
    bones = dict(zip(BODY17_HANDS.joints, posed.joints()))
    for side, sign in (("left", 1.0), ("right", -1.0)):
        at = {part: points[f"{side}_{part}"] for part in ("eye", "ear", "shoulder", "elbow", "hip", "knee", "ankle")}
        # the bone of the upper arm begins in the middle of the flesh, a click goes to the top of the shoulder
        assert 0.01 < at["shoulder"][2] - bones[f"{side}_shoulder"][2] < 0.04
        assert 0.01 < bones[f"{side}_knee"][2] - at["knee"][2] < 0.035
        assert 0.01 < at["ankle"][2] - bones[f"{side}_ankle"][2] < 0.03
        assert 0.01 < bones[f"{side}_hip"][2] - at["hip"][2] < 0.04
        # a click on the eye is on its surface
        assert at["eye"][0] > bones[f"{side}_eye"][0] + 0.005
        assert sign * at["ear"][1] > sign * at["eye"][1] > 0
        # malleoli: the ankle's girth is least above them and the foot begins below
        ring = posed.vertices[np.abs(posed.vertices[:, 2] - at["ankle"][2]) < 0.01]
        ring = ring[sign * ring[:, 1] > 0]
        low, high = ring[:, :2].min(axis=0), ring[:, :2].max(axis=0)
        assert (at["ankle"][:2] > low).all()
        assert (at["ankle"][:2] < high).all()
    for joint in BODY17.joints:
        assert np.linalg.norm(points[joint] - bones[joint]) < 0.05, joint


@pytest.mark.parametrize("seed", [None, 3, 8])
def test_hands_have_the_proportions_of_real_ones(seed):
    body = load_body().shaped() if seed is None else person(seed)
    posed = rest(body)
    points, bones = clicked(posed), posed.joints()
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
    points, bones = (f(rest(load_body().shaped())) for f in (clicked, lambda posed: posed.joints()))
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


def test_left_and_right_are_mirror_images():
    points = clicked(rest(load_body().shaped()))
    mirrored = points[BODY17_HANDS.mirror_index] * [1, -1, 1]
    np.testing.assert_allclose(points, mirrored, atol=2e-3)


def test_points_go_with_the_body():
    body = person(5)
    joints, motion = wearer(np.arange(4) / 10, body, 2)
    R, root = motion.R[2], motion.root[2]
    np.testing.assert_array_equal(joints[2], clicked(body.pose(R, root)))
    T = rigid.make_transform(rigid.rotation_from_vector([0.2, -0.4, 1.1]), [1.0, -2.0, 0.3])
    moved = clicked(body.pose(T[:3, :3] @ R, rigid.transform_points(T, root)))
    np.testing.assert_allclose(moved, rigid.transform_points(T, joints[2]), atol=1e-9)
