"""Body joints of the stand-in: COCO's points on the mesh, not the beginnings of bones."""

import numpy as np
import pytest

from egopose import rigid
from egopose.body import load_body
from egopose.ego_exo4d.standin_points import clicked
from egopose.ego_exo4d.standin_world import person, wearer
from egopose.skeleton import BODY17, BODY17_HANDS


def rest(body):
    n = len(body.model.names)
    return body.pose(np.tile(np.eye(3), (n, 1, 1)), body.joints[0])


@pytest.mark.parametrize("seed", [None, 3, 8])
def test_points_lie_where_annotators_click(seed):
    """Landmarks of the surface that need no regressor: each point is held to the mesh around it."""
    body = load_body().shaped() if seed is None else person(seed)
    posed = rest(body)
    points = dict(zip(BODY17_HANDS.joints, clicked(posed)))
    bones = dict(zip(BODY17_HANDS.joints, posed.rig_joints()))
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
