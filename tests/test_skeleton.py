"""Joint sets and the maps between them."""

from __future__ import annotations

import numpy as np
import pytest

from egopose import skeleton as s
from egopose.errors import EgoposeError


def test_the_59_joints_are_body_left_hand_right_hand() -> None:
    full = s.BODY17_HANDS
    assert full.n_joints == 59
    assert full.joints[:17] == s.BODY17.joints
    assert full.joints[17] == "left_hand_wrist"
    assert full.joints[38] == "right_hand_wrist"
    assert [j.removeprefix("right_hand_") for j in full.joints[38:]] == list(s.HAND21.joints)


def test_coco_orders_are_the_published_ones() -> None:
    assert s.BODY17.joints[9:11] == ("left_wrist", "right_wrist")
    assert s.HAND21.joints[:6] == ("wrist", "thumb_1", "thumb_2", "thumb_3", "thumb_4", "index_1")
    assert s.COCO_WHOLEBODY133.joints[91] == "left_hand_wrist"
    assert s.COCO_WHOLEBODY133.joints[112] == "right_hand_wrist"
    # MediaPipe pose to COCO-17 is 0,2,5,7,8,11..16,23..28
    expected = [0, 2, 5, 7, 8, 11, 12, 13, 14, 15, 16, 23, 24, 25, 26, 27, 28]
    np.testing.assert_array_equal(s.BLAZEPOSE33.map_to(s.BODY17), expected)


@pytest.mark.parametrize("skeleton", s.SKELETONS.values(), ids=lambda k: k.name)
def test_every_skeleton_is_consistent(skeleton: s.Skeleton) -> None:
    order = skeleton.mirror_index
    np.testing.assert_array_equal(order[order], np.arange(skeleton.n_joints))
    for i, j in enumerate(order):
        a, b = skeleton.joints[i], skeleton.joints[j]
        if i != j:
            assert a.replace("left", "right") == b or a.replace("right", "left") == b
    mirrored = {tuple(sorted((order[a], order[b]))) for a, b in skeleton.bones}
    assert mirrored == {tuple(sorted(bone)) for bone in skeleton.bones}
    assert s.get_skeleton(skeleton.name) is skeleton


def test_every_hand_joint_hangs_on_its_wrist() -> None:
    parents = s.HAND21.parents
    for j in range(s.HAND21.n_joints):
        while parents[j] >= 0:
            j = int(parents[j])
        assert s.HAND21.joints[j] == "wrist"


def test_map_to_marks_what_is_absent() -> None:
    to_body = s.BODY17_HANDS.map_to(s.BODY25)
    assert to_body[s.BODY25.index("neck")] == -1
    assert to_body[s.BODY25.index("left_knee")] == s.BODY17.index("left_knee")


def test_subset_keeps_bones_and_pairs() -> None:
    part = s.BODY17.subset(["right_elbow", "left_elbow", "left_wrist"])
    assert part.bones == ((1, 2),)
    assert part.mirror == ((1, 0),)


def test_unknown_names_are_refused() -> None:
    with pytest.raises(EgoposeError, match="no joint 'tail'"):
        s.BODY17.index("tail")
    with pytest.raises(EgoposeError, match="no skeleton is named"):
        s.get_skeleton("octopus")
    with pytest.raises(EgoposeError, match="names joint 'a' twice"):
        s.Skeleton("x", ("a", "a"))
    with pytest.raises(EgoposeError, match="no joints"):
        s.Skeleton("x", ())
    with pytest.raises(EgoposeError, match="points outside"):
        s.Skeleton("x", ("a",), bones=((0, 1),))
