"""Ground truth of both protocols from the exact joints of the stand-in, and the lists of its test split."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from egopose import rigid
from egopose.ego_exo4d.aria import linear_camera
from egopose.ego_exo4d.handgt import COLUMNS, HandTruth, build_hands
from egopose.ego_exo4d.layout import SPLITS
from egopose.ego_exo4d.standin_world import World
from egopose.files import atomic_write
from egopose.skeleton import BODY17, HANDS42
from egopose.takes import SIDES

LISTS = "lists"
STEP = 3


def exact_hands(world: World) -> HandTruth:
    """Hand ground truth from the exact joints, by the official rules, every third frame."""
    rows = np.arange(0, world.n_frames, STEP)
    n = rows.size
    joints = world.truth.to_skeleton(HANDS42).xyz[rows][:, COLUMNS].reshape(2 * n, -1, 3)
    T = rigid.invert(world.T_world_aria[rows])[:, :3]
    T2 = np.repeat(T, 2, axis=0)
    camera = np.einsum("nij,nkj->nki", T2[:, :, :3], joints.astype(np.float64)) + T2[:, None, :, 3]
    uv = linear_camera().project(camera, frame="camera").astype(np.float32)
    views = np.full(joints.shape[:2], 4, dtype=np.int8)
    kept, xyz, pixels, boxes, valid = build_hands(
        joints, views, uv, T2.astype(np.float32), linear_camera().K.astype(np.float32), manual=True
    )
    some = kept.reshape(n, 2).any(1)
    return HandTruth(
        world.uid, world.name, rows[some], kept.reshape(n, 2)[some], xyz.reshape(n, 2, -1, 3)[some],
        pixels.reshape(n, 2, -1, 2)[some], boxes.reshape(n, 2, 4)[some], valid.reshape(n, 2, -1)[some],
    )  # fmt: skip


def exact_body(world: World) -> dict[str, Any]:
    """A take of a body ground truth file, every third frame."""
    body = world.truth.to_skeleton(BODY17).xyz.astype(np.float64)
    rows = range(0, world.n_frames, STEP)
    return {"take_name": f"takes/{world.name}", "body": {str(t): body[t].tolist() for t in rows}}


def _without_joints(document: dict[str, Any]) -> dict[str, Any]:
    """A hand take as the challenge publishes it: boxes and metadata."""
    keep = {"metadata", *(f"{side}_hand_bbox" for side in SIDES)}
    return {frame: {key: value for key, value in entry.items() if key in keep} for frame, entry in document.items()}


def write_lists(root: Path, worlds: Sequence[World]) -> None:
    """Write ``truth/{body,hand}_<split>.json`` and the lists of the test split."""
    for split in SPLITS:
        takes = [world for world in worlds if world.split == split]
        if not takes:
            continue
        bodies = {world.uid: exact_body(world) for world in takes}
        hands = {world.uid: exact_hands(world).document() for world in takes}
        files: dict[str, Any] = {f"truth/body_{split}.json": bodies, f"truth/hand_{split}.json": hands}
        if split == "test":
            files[f"{LISTS}/body_test_frames.json"] = {
                uid: [int(frame) for frame in take["body"]] for uid, take in bodies.items()
            }
            files[f"{LISTS}/ego_pose_gt_anno_test_public.json"] = {
                uid: _without_joints(take) for uid, take in hands.items()
            }
        for name, content in files.items():
            with atomic_write(root / name, "w") as stream:
                json.dump(content, stream)
