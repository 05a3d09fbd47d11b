"""The body asset: shapes, poses and joints against plain numpy, geometry and anatomy."""

from __future__ import annotations

from importlib import resources

import numpy as np
import pytest

from egopose import rigid
from egopose.body import FINGER_BONES, load_body
from egopose.errors import EgoposeError
from egopose.skeleton import BODY17, BODY17_HANDS, FINGERS, HAND21


@pytest.fixture(scope="module")
def model():
    return load_body()


def random_rotations(n, seed, largest=1.0):
    rng = np.random.default_rng(seed)
    return rigid.rotation_from_vector(rng.uniform(-largest, largest, (n, 3)))


def hand_joint(side, part):
    return BODY17_HANDS.index(f"{side}_hand_{part}")


def test_asset_is_small_and_consistent(model):
    size = (resources.files("egopose") / "assets" / "body.npz").stat().st_size
    assert size < 3_000_000
    n = len(model.names)
    assert 50 <= n <= 70
    assert len(set(model.names)) == n
    assert model.parents[0] == -1
    assert all(0 <= model.parents[j] < j for j in range(1, n))
    assert model.bones.min() >= 0
    assert model.bones.max() < n
    assert model.weights.min() >= 0
    np.testing.assert_allclose(model.weights.sum(axis=1), 1.0, atol=1e-12)
    assert model.triangles.max() == len(model.vertices) - 1
    for side in ("left", "right"):
        assert [len(bones) for bones in FINGER_BONES[side]] == [3] * 5


def test_rest_pose_is_the_rest_mesh(model):
    body = model.shaped([1.0, -0.5])
    posed = body.pose(np.tile(np.eye(3), (len(model.names), 1, 1)), body.joints[0])
    np.testing.assert_allclose(posed.vertices, body.vertices, atol=1e-9)
    np.testing.assert_allclose(posed.bone_joints, body.joints, atol=1e-9)


def test_one_rotation_for_all_bones_is_rigid(model):
    body = model.shaped()
    Q = random_rotations(1, 3)[0]
    root = np.array([1.0, -2.0, 0.7])
    posed = body.pose(np.tile(Q, (len(model.names), 1, 1)), root)
    np.testing.assert_allclose(posed.vertices, (body.vertices - body.joints[0]) @ Q.T + root, atol=1e-9)
    joints = posed.joints()
    rest = body.pose(np.tile(np.eye(3), (len(model.names), 1, 1)), body.joints[0]).joints()
    np.testing.assert_allclose(joints, (rest - body.joints[0]) @ Q.T + root, atol=1e-9)


@pytest.mark.parametrize("seed", range(3))
def test_skinning_equals_a_dense_sum(model, seed):
    body = model.shaped(np.random.default_rng(seed).standard_normal(model.n_shapes))
    n = len(model.names)
    R, root = random_rotations(n, seed), np.array([0.3, 0.1, 0.9])
    posed = body.pose(R, root)
    places = np.zeros((n, 3))
    places[0] = root
    for j in range(1, n):
        parent = model.parents[j]
        places[j] = places[parent] + R[parent] @ (body.joints[j] - body.joints[parent])
    np.testing.assert_allclose(posed.bone_joints, places, atol=1e-9)
    dense = np.zeros((len(body.vertices), n))
    np.add.at(dense, (np.arange(len(dense))[:, None], model.bones), model.weights)
    moved = np.einsum("jab,vjb->vja", R, body.vertices[:, None] - body.joints) + places
    np.testing.assert_allclose(posed.vertices, np.einsum("vj,vja->va", dense, moved), atol=1e-9)


def test_a_finger_moves_only_what_hangs_on_it(model):
    body = model.shaped()
    R = np.tile(np.eye(3), (len(model.names), 1, 1))
    rest = body.pose(R, body.joints[0]).joints()
    for bone in FINGER_BONES["left"][FINGERS.index("index")][1:]:
        R[model.index(bone)] = rigid.rotation_from_vector(np.array([0.9, 0.2, 0.1]))
    moved = np.linalg.norm(body.pose(R, body.joints[0]).joints() - rest, axis=1)
    expected = {hand_joint("left", "index_3"), hand_joint("left", "index_4")}
    assert {int(j) for j in np.flatnonzero(moved > 1e-3)} == expected


def test_bones_keep_their_length_in_any_pose(model):
    body = model.shaped([0.5, 1.0, -1.0])
    n = len(model.names)

    def lengths(joints):
        return np.linalg.norm(joints[1:] - joints[model.parents[1:]], axis=1)

    rest = lengths(body.joints)
    for seed in range(4):
        posed = body.posed_joints(random_rotations(n, seed), np.zeros(3))
        np.testing.assert_allclose(lengths(posed), rest, atol=1e-9)


def test_left_and_right_mirror_each_other(model):
    body = model.shaped()
    joints = body.pose(np.tile(np.eye(3), (len(model.names), 1, 1)), body.joints[0]).joints()
    mirrored = joints[BODY17_HANDS.mirror_index] * [1, -1, 1]
    assert np.abs(mirrored - joints).max() < 0.004


def test_joints_are_where_a_person_has_them(model):
    body = model.shaped()
    joints = body.pose(np.tile(np.eye(3), (len(model.names), 1, 1)), body.joints[0]).joints()
    at = {name: joints[i] for i, name in enumerate(BODY17_HANDS.joints)}
    for side, sign in (("left", 1), ("right", -1)):
        for part in ("eye", "ear", "shoulder", "elbow", "wrist", "hip", "knee", "ankle"):
            assert sign * at[f"{side}_{part}"][1] > 0
        heights = [at[f"{side}_{part}"][2] for part in ("eye", "shoulder", "hip", "knee", "ankle")]
        assert heights == sorted(heights, reverse=True)
        assert 0.20 < np.linalg.norm(at[f"{side}_elbow"] - at[f"{side}_wrist"]) < 0.30
        np.testing.assert_allclose(at[f"{side}_wrist"], at[f"{side}_hand_wrist"], atol=1e-12)
        wrist = at[f"{side}_hand_wrist"]
        for finger in FINGERS:
            chain = [np.linalg.norm(at[f"{side}_hand_{finger}_{k}"] - wrist) for k in range(1, 5)]
            assert chain == sorted(chain)
        # a hand is 16 to 21 cm long
        assert 0.15 < np.linalg.norm(at[f"{side}_hand_middle_4"] - wrist) < 0.21
        for finger in FINGERS[1:]:
            bones = [
                np.linalg.norm(at[f"{side}_hand_{finger}_{k + 1}"] - at[f"{side}_hand_{finger}_{k}"]) for k in (1, 2, 3)
            ]
            assert bones[0] > bones[1] > 0.015
    assert at["nose"][0] > at["left_ear"][0] + 0.05
    assert len(joints) == BODY17.n_joints + 2 * HAND21.n_joints


def test_shapes_are_adults(model):
    rng = np.random.default_rng(0)
    heights = []
    for _ in range(60):
        body = model.shaped(np.clip(rng.standard_normal(model.n_shapes), -2, 2))
        heights.append(np.ptp(body.vertices[:, 2]))
        assert body.vertices[:, 2].min() == pytest.approx(0.0, abs=1e-12)
    assert 1.35 < min(heights) < max(heights) < 2.1
    assert 0.04 < np.std(heights) < 0.14
    assert np.mean(heights) == pytest.approx(1.70, abs=0.06)


def test_shape_is_linear(model):
    a, b = np.zeros(model.n_shapes), np.zeros(model.n_shapes)
    a[0], b[1] = 1.0, -1.5
    both = model.shaped(a + b).joints - model.shaped().joints
    apart = model.shaped(a).joints - model.shaped().joints + model.shaped(b).joints - model.shaped().joints
    # heights are set on the floor, which is a minimum and not linear
    np.testing.assert_allclose((both - apart)[:, :2], 0, atol=1e-9)
    np.testing.assert_allclose(np.ptp(both - apart, axis=0)[2], 0, atol=1e-9)


def test_mesh_encloses_a_body(model):
    from egopose.kernels.skinning import vertex_normals

    body = model.shaped()
    a, b, c = (body.vertices[model.triangles[:, k]] for k in range(3))
    volume = np.einsum("fi,fi->f", a, np.cross(b, c)).sum() / 6
    # an adult's volume in litres is about the mass in kilogrammes
    assert 0.045 < volume < 0.12
    normals = np.empty_like(body.vertices)
    vertex_normals(body.vertices, model.triangles, normals)
    length = np.linalg.norm(normals, axis=1)
    used = np.unique(model.triangles)
    np.testing.assert_allclose(length[used], 1.0, atol=1e-9)
    # away from the axis of a thigh
    place = body.vertices - (body.at("left_thigh") + body.at("left_shin")) / 2
    thigh = (model.bones[:, 0] == model.index("left_thigh")) & (np.abs(place[:, 2]) < 0.08)
    assert thigh.sum() > 20
    outward = place[thigh, :2] / np.linalg.norm(place[thigh, :2], axis=1, keepdims=True)
    assert np.einsum("vi,vi->v", normals[thigh, :2], outward).mean() > 0.8


def test_wrong_arguments_are_refused(model, tmp_path):
    with pytest.raises(EgoposeError, match="expected up to"):
        model.shaped(np.zeros(model.n_shapes + 1))
    with pytest.raises(EgoposeError, match="finite"):
        model.shaped([np.nan])
    body = model.shaped()
    with pytest.raises(EgoposeError, match="expected"):
        body.pose(np.eye(3)[None], np.zeros(3))
    with pytest.raises(EgoposeError, match="finite"):
        body.pose(np.full((len(model.names), 3, 3), np.nan), np.zeros(3))
    with pytest.raises(EgoposeError, match="no bone"):
        model.index("tail")
    with pytest.raises(EgoposeError, match="cannot be read"):
        load_body(tmp_path / "absent.npz")
    (tmp_path / "cut.npz").write_bytes((resources.files("egopose") / "assets" / "body.npz").read_bytes()[:5000])
    with pytest.raises(EgoposeError, match="cannot be read"):
        load_body(tmp_path / "cut.npz")
    np.savez(tmp_path / "other.npz", vertices=np.zeros((3, 3)))
    with pytest.raises(EgoposeError, match="has no array"):
        load_body(tmp_path / "other.npz")


@pytest.mark.parametrize(
    ("finger", "proximal_mm", "middle_mm"),
    # mean bone lengths: Buryanov & Kotiuk, Proportions of hand segments, 2010
    [("index", 39.8, 22.4), ("middle", 44.6, 26.3), ("ring", 41.4, 25.7), ("pinky", 32.7, 18.1)],
)
def test_knuckles_lie_where_those_of_real_hands_do(finger: str, proximal_mm: float, middle_mm: float) -> None:
    model = load_body()
    for shape in (np.zeros(0), np.array([1.5, -1.0, 1.0])):
        body = model.shaped(shape)
        for side in ("left", "right"):
            first, second, third = (body.at(f"{side}_{finger}_{k}") for k in (1, 2, 3))
            proximal, middle = 1000 * np.linalg.norm(second - first), 1000 * np.linalg.norm(third - second)
            assert proximal / middle == pytest.approx(proximal_mm / middle_mm, rel=0.12)
            assert 0.8 < proximal / proximal_mm < 1.25
            # the palm is longer than the finger's first segment, and about as long as a metacarpal and a carpal bone
            assert 75 < 1000 * np.linalg.norm(first - body.at(f"{side}_hand")) < 110


def test_a_finger_bends_at_its_knuckle() -> None:
    """Flesh beyond the joint turns with the finger, flesh before it stays."""
    from egopose.rigid import rotation_from_vector

    model = load_body()
    body = model.shaped()
    bone = model.index("left_middle_1")
    joint, next_joint = body.at("left_middle_1"), body.at("left_middle_2")
    along = (next_joint - joint) / np.linalg.norm(next_joint - joint)
    axis = np.cross(along, [0.0, 0.0, 1.0])
    turn = rotation_from_vector(axis / np.linalg.norm(axis) * 0.8)
    R = np.tile(np.eye(3), (len(model.names), 1, 1))
    for k in (1, 2, 3):
        R[model.index(f"left_middle_{k}")] = turn
    posed = body.pose(R, body.joints[0])
    offset = body.vertices - joint
    distance = np.linalg.norm(offset - (offset @ along)[:, None] * along, axis=1)
    near = (distance < 0.012) & (model.bones == bone).any(axis=1)
    want = joint + offset @ turn.T
    beyond = near & (offset @ along > 0.015) & (offset @ along < 0.9 * np.linalg.norm(next_joint - joint))
    hand = (model.bones == model.index("left_hand")).any(axis=1)
    before = hand & (distance < 0.02) & (offset @ along < -0.012)
    assert beyond.sum() > 20
    assert np.median(np.linalg.norm(posed.vertices - want, axis=1)[beyond]) < 0.004
    assert np.median(np.linalg.norm(posed.vertices - body.vertices, axis=1)[before]) < 0.003
