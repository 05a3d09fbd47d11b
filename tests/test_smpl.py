"""SMPL-family results through the real smplx package, on generated model files with known kinematics."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egopose import BODY17, BODY17_HANDS, rigid, smpl
from egopose.errors import EgoposeError

smplx = pytest.importorskip("smplx", reason="the extra [smplx] is not installed")

VERTICES = {"smpl": 6890, "smplh": 6890, "smplx": 10475, "mano_left": 778, "mano_right": 778}
BODY_PARENTS = [-1, 0, 0, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 9, 9, 12, 13, 14, 16, 17, 18, 19]


def parents(kind: str) -> list[int]:
    fingers = [p for f in range(5) for p in (-1, 3 * f, 3 * f + 1)]
    if kind.startswith("mano"):
        return [-1, *[0 if p < 0 else p + 1 for p in fingers]]
    if kind == "smpl":
        return [*BODY_PARENTS, 20, 21]
    head = [15, 15, 15] if kind == "smplx" else []
    start = 22 + len(head)
    hands = [[w if p < 0 else p + start + 15 * k for p in fingers] for k, w in enumerate((20, 21))]
    return [*BODY_PARENTS, *head, *hands[0], *hands[1]]


def make_model(kind: str, path: Path, seed: int = 0) -> dict[str, np.ndarray]:
    """A model whose joint j is vertex j at rest and whose every vertex follows exactly one joint."""
    rng = np.random.default_rng(seed)
    tree = parents(kind)
    J, V = len(tree), VERTICES[kind]
    regressor = np.zeros((J, V), np.float32)
    regressor[np.arange(J), np.arange(J)] = 1
    weights = np.zeros((V, J), np.float32)
    weights[np.arange(V), np.arange(V) % J] = 1
    model = {
        "v_template": rng.normal(0, 0.3, (V, 3)).astype(np.float32),
        "f": np.zeros((4, 3), np.int64),
        "shapedirs": np.zeros((V, 3, 20), np.float32),
        "posedirs": np.zeros((V, 3, 9 * (J - 1)), np.float32),
        "J_regressor": regressor,
        "weights": weights,
        "kintree_table": np.stack([np.array(tree), np.arange(J)]).astype(np.int64),
    }
    for key in smpl._KEYS[kind]:
        if "components" in key:
            model[key] = np.eye(45, dtype=np.float32)
        elif key.startswith("hands_mean"):
            model[key] = np.zeros(45, np.float32)
    if kind == "smplx":
        model |= {
            "lmk_faces_idx": np.zeros(51, np.int64), "lmk_bary_coords": np.full((51, 3), 1 / 3),
            "dynamic_lmk_faces_idx": np.zeros((79, 17), np.int64),
            "dynamic_lmk_bary_coords": np.full((79, 17, 3), 1 / 3),
        }  # fmt: skip
    np.savez_compressed(path, **model)
    return model


def forward_kinematics(model: dict, rotations: np.ndarray, transl: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Joints and vertices by composing bone transforms one after the other."""
    tree = model["kintree_table"][0]
    rest = model["v_template"][: len(tree)].astype(float)
    world: list[np.ndarray] = []
    for j, parent in enumerate(tree):
        local = rigid.make_transform(rigid.rotation_from_vector(rotations[j]), rest[j] - (rest[parent] if j else 0))
        world.append(local if j == 0 else world[parent] @ local)
    joints = np.stack([T[:3, 3] for T in world]) + transl
    vertices = []
    for v, point in enumerate(model["v_template"].astype(float)):
        j = v % len(tree)
        vertices.append(world[j][:3, :3] @ (point - rest[j]) + world[j][:3, 3])
    return joints, np.stack(vertices) + transl


def random_parameters(kind: str, frames: int) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    rng = np.random.default_rng(5)
    rotations = rng.normal(0, 0.4, (frames, len(parents(kind)), 3))
    transl = rng.normal(size=(frames, 3))
    flat = rotations.reshape(frames, -1)
    if kind.startswith("mano"):
        named = {"global_orient": flat[:, :3], "hand_pose": flat[:, 3:]}
    elif kind == "smpl":
        named = {"global_orient": flat[:, :3], "body_pose": flat[:, 3:]}
    else:
        if kind == "smplx":
            rotations[:, 22:25] = 0
        named = {
            "global_orient": flat[:, :3], "body_pose": flat[:, 3:66],
            "left_hand_pose": flat[:, -90:-45], "right_hand_pose": flat[:, -45:],
        }  # fmt: skip
    return {**named, "transl": transl}, rotations, transl


@pytest.mark.parametrize("kind", VERTICES)
def test_joints_follow_the_kinematics(kind: str, tmp_path: Path) -> None:
    model = make_model(kind, tmp_path / "model.npz")
    parameters, rotations, transl = random_parameters(kind, 3)
    pose = smpl.smpl_to_pose(parameters, tmp_path / "model.npz", kind, fps=10)
    tree = parents(kind)
    names = {}
    if kind.startswith("mano"):
        names = {"wrist": 0, "index_1": 1, "pinky_2": 8, "thumb_3": 15}
        vertex_names = {"thumb_4": 744, "index_4": 320, "middle_4": 443, "ring_4": 554, "pinky_4": 671}
    else:
        names = {"left_hip": 1, "right_knee": 5, "left_shoulder": 16, "right_wrist": 21}
        ids = smplx.vertex_ids.vertex_ids["smplx" if kind == "smplx" else "smplh"]
        vertex_names = {"nose": ids["nose"], "left_eye": ids["leye"], "right_ear": ids["rear"]}
        if kind != "smpl":
            first = len(tree) - 30
            names |= {"left_hand_wrist": 20, "left_hand_index_1": first, "left_hand_thumb_3": first + 14,
                      "right_hand_pinky_1": first + 21, "right_hand_ring_2": first + 25}  # fmt: skip
            vertex_names |= {"left_hand_thumb_4": ids["lthumb"], "right_hand_pinky_4": ids["rpinky"]}
    for t in range(3):
        joints, vertices = forward_kinematics(model, rotations[t], transl[t])
        for name, j in names.items():
            np.testing.assert_allclose(pose.xyz[t, pose.skeleton.index(name)], joints[j], atol=2e-5, err_msg=name)
        for name, v in vertex_names.items():
            np.testing.assert_allclose(pose.xyz[t, pose.skeleton.index(name)], vertices[v], atol=2e-5, err_msg=name)
    assert pose.fps == pytest.approx(10)


def test_maps_are_the_published_ones() -> None:
    skeleton, index = smpl.joint_map("smplx")
    assert skeleton is BODY17_HANDS
    assert index[:17].tolist() == [55, 57, 56, 59, 58, 16, 17, 18, 19, 20, 21, 1, 2, 4, 5, 7, 8]
    assert index[17:38].tolist() == [
        20, 37, 38, 39, 66, 25, 26, 27, 67, 28, 29, 30, 68, 34, 35, 36, 69, 31, 32, 33, 70,
    ]  # fmt: skip
    assert index[38:].tolist() == [
        21, 52, 53, 54, 71, 40, 41, 42, 72, 43, 44, 45, 73, 49, 50, 51, 74, 46, 47, 48, 75,
    ]  # fmt: skip
    assert smpl.joint_map("mano_left")[1].tolist() == [
        0, 13, 14, 15, 16, 1, 2, 3, 17, 4, 5, 6, 18, 10, 11, 12, 19, 7, 8, 9, 20,
    ]  # fmt: skip
    assert smpl.joint_map("smpl")[0] is BODY17


def test_amass_files_give_the_same_motion(tmp_path: Path) -> None:
    make_model("smplh", tmp_path / "model.npz")
    parameters, rotations, transl = random_parameters("smplh", 4)
    np.savez(
        tmp_path / "walk.npz", poses=rotations.reshape(4, -1), trans=transl, betas=np.zeros(16), mocap_framerate=120.0
    )
    a = smpl.smpl_to_pose(tmp_path / "walk.npz", tmp_path / "model.npz", "smplh")
    b = smpl.smpl_to_pose(parameters, tmp_path / "model.npz", "smplh")
    np.testing.assert_allclose(a.xyz, b.xyz, atol=1e-6)
    assert a.fps == pytest.approx(120)


def test_an_offset_is_learned_and_applied() -> None:
    rng = np.random.default_rng(0)
    pose = smpl.joints_to_pose(rng.normal(size=(20, 45, 3)), "smpl")
    shift = rng.normal(0, 0.02, (17, 3))
    clicked = pose.replace(xyz=(pose.xyz + shift).astype(np.float32))
    learned = smpl.fit_offset(pose, clicked)
    np.testing.assert_allclose(learned, shift, atol=1e-6)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tail_pose": np.zeros((3, 3))}, "has no parameter 'tail_pose'"),
        ({"body_pose": np.zeros((3, 7))}, r"'body_pose' has shape \(3, 7\)"),
        ({"transl": np.full((3, 3), np.nan)}, "expected finite"),
        ({"transl": np.zeros((2, 3))}, "different numbers of frames"),
    ],
)
def test_bad_parameters_are_refused(change: dict, message: str, tmp_path: Path) -> None:
    make_model("smpl", tmp_path / "model.npz")
    with pytest.raises(EgoposeError, match=message):
        smpl.run_model({"body_pose": np.zeros((3, 69)), **change}, tmp_path / "model.npz", "smpl")


def test_bad_files_are_refused(tmp_path: Path) -> None:
    make_model("smpl", tmp_path / "model.npz")
    make_model("mano_left", tmp_path / "hand.npz")
    with np.load(tmp_path / "hand.npz") as hand:
        np.savez(tmp_path / "named_smpl.npz", **dict(hand))
    with pytest.raises(EgoposeError, match=r"16 joints and 778 vertices.*another model's file"):
        smpl.read_model_file(tmp_path / "named_smpl.npz", "smpl")
    with pytest.raises(EgoposeError, match="convert"):
        smpl.read_model_file(tmp_path / "model.pkl", "smpl")
    with pytest.raises(EgoposeError, match="cannot be read"):
        smpl.read_model_file(tmp_path / "absent.npz", "smpl")
    np.savez(tmp_path / "other.npz", a=1)
    with pytest.raises(EgoposeError, match="has no array 'v_template'"):
        smpl.read_model_file(tmp_path / "other.npz", "smpl")
    with pytest.raises(EgoposeError, match="holds no pose parameters"):
        smpl.read_parameters(tmp_path / "other.npz", "smpl")
    with pytest.raises(EgoposeError, match="is not known"):
        smpl.joint_map("flame")  # type: ignore[arg-type]
