"""Hand ground truth of the hand track, built by the official rules from annotations and head poses.

For each frame with 3D joints and a head pose, and each hand:

1. manual annotation: joints from fewer than three views are dropped; without its wrist a hand is missing;
2. bones outside 5 to 80 mm (wrist to knuckle of the four fingers: 60 to 120 mm) and finger joints bent beyond their
   limits drop the joint, all judged on the hand as it was before;
3. the rest is projected into the undistorted landscape image (there is no test that it lies in front);
4. a projection counts inside the image and on the mask disc, and so does a 2D annotation;
5. a joint is valid when its projection counts and lies within 30 px of its 2D annotation; the wrist needs no
   annotation;
6. a hand with ten valid joints is kept, its other joints become NaN except the wrist;
7. the box spans the valid projections with a margin of 20 px.

Arithmetic is float32, as in the official code, since limits decide. A bone or an angle that cannot be computed because
a neighbour is missing condemns nothing.
"""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.ego_exo4d.aria import LINEAR_SIZE, linear_camera, visible_mask
from egopose.ego_exo4d.index import IndexedAnnotation
from egopose.ego_exo4d.layout import FPS, Source
from egopose.ego_exo4d.take import Take
from egopose.errors import EgoposeError
from egopose.files import atomic_write
from egopose.pose import PoseSequence
from egopose.skeleton import FINGERS, HAND21, HANDS42
from egopose.takes import SIDES, locate

F32 = NDArray[np.float32]
MIN_VIEWS = 3
MIN_JOINTS = 10
MAX_DISTANCE_PX = 30.0
BOX_MARGIN_PX = 20.0
BONE_M, PALM_BONE_M = (0.005, 0.08), (0.06, 0.12)
MIN_ANGLE_DEG = {"thumb": (100.0, 90.0, 90.0)}
OTHER_MIN_ANGLE_DEG = (60.0, 70.0, 80.0)
MAX_ANGLE_DEG = 180.0
WRIST = HAND21.index("wrist")

_CHILD = np.array([HAND21.index(f"{f}_{k}") for f in FINGERS for k in (1, 2, 3, 4)])
_PARENT = np.array([HAND21.index(f"{f}_{k - 1}" if k > 1 else "wrist") for f in FINGERS for k in (1, 2, 3, 4)])
_PALM = np.array([k == 1 and f != "thumb" for f in FINGERS for k in (1, 2, 3, 4)])
_LOW = np.where(_PALM, np.float32(PALM_BONE_M[0]), np.float32(BONE_M[0]))
_HIGH = np.where(_PALM, np.float32(PALM_BONE_M[1]), np.float32(BONE_M[1]))
_BENT = np.array([HAND21.index(f"{f}_{k}") for f in FINGERS for k in (1, 2, 3)])
_BEFORE = np.array([HAND21.index(f"{f}_{k - 1}" if k > 1 else "wrist") for f in FINGERS for k in (1, 2, 3)])
_AFTER = np.array([HAND21.index(f"{f}_{k + 1}") for f in FINGERS for k in (1, 2, 3)])
_ANGLE = np.array(
    [angle for f in FINGERS for angle in MIN_ANGLE_DEG.get(f, OTHER_MIN_ANGLE_DEG)], dtype=np.float32
)  # fmt: skip
COLUMNS = np.stack([HANDS42.indices([f"{side}_hand_{joint}" for joint in HAND21.joints]) for side in SIDES])
"""(2, 21) joints of :data:`HANDS42` of the right and the left hand."""


@dataclass(frozen=True, eq=False)
class HandTruth:
    """Ground truth of one take; axis 1 is right, left.

    Attributes:
        take_uid: Take uid.
        take_name: Take name.
        frames: (T,) int64 frames with at least one hand.
        kept: (T, 2) whether the hand is there.
        xyz: (T, 2, 21, 3) float32 metres, landscape head camera; NaN where not valid (the wrist is always kept).
        uv_px: (T, 2, 21, 2) float32 projections, undistorted landscape image.
        boxes: (T, 2, 4) float32 x0 y0 x1 y1, NaN for a hand that is not there.
        valid: (T, 2, 21) bool.
    """

    take_uid: str
    take_name: str
    frames: NDArray[np.int64]
    kept: NDArray[np.bool_]
    xyz: F32
    uv_px: F32
    boxes: F32
    valid: NDArray[np.bool_]

    def pose(self) -> PoseSequence:
        """Both hands in ``camera:aria``; joints that are not valid are missing."""
        xyz = np.full((self.frames.size, HANDS42.n_joints, 3), np.nan, dtype=np.float32)
        xyz[:, COLUMNS] = np.where(self.valid[..., None], self.xyz, np.float32(np.nan))
        origin = {"source": "ego-exo4d hand truth", "take_uid": self.take_uid, "take_name": f"takes/{self.take_name}"}
        return PoseSequence(HANDS42, self.frames, self.frames / FPS, xyz, space="camera:aria", provenance=origin)

    def document(self) -> dict[str, Any]:
        """The take's part of ``ego_pose_gt_anno_<split>_public.json``."""
        result: dict[str, Any] = {}
        for t, frame in enumerate(self.frames.tolist()):
            entry: dict[str, Any] = {}
            for s, side in enumerate(SIDES):
                there = bool(self.kept[t, s])
                for key, value in (
                    ("3d", self.xyz), ("2d", self.uv_px), ("bbox", self.boxes), ("valid_3d", self.valid),
                ):  # fmt: skip
                    entry[f"{side}_hand_{key}"] = value[t, s].tolist() if there else []
            entry["metadata"] = {"take_uid": self.take_uid, "take_name": self.take_name, "frame_number": frame}
            result[str(frame)] = entry
        return result


def anatomy_violations(joints: F32) -> NDArray[np.bool_]:
    """Joints (..., 21) that break a bone or an angle limit, judged on the whole hand.

    Args:
        joints: (..., 21, 3) float32 metres, any frame; NaN = missing.
    """
    bad = np.zeros(joints.shape[:-1], dtype=np.bool_)
    with np.errstate(invalid="ignore"):
        bone = joints[..., _CHILD, :] - joints[..., _PARENT, :]
        length = np.sqrt((bone * bone).sum(-1, dtype=np.float32))
        bad[..., _CHILD] = (length < _LOW) | (length > _HIGH)
        back = joints[..., _BEFORE, :] - joints[..., _BENT, :]
        on = joints[..., _AFTER, :] - joints[..., _BENT, :]
        tiny = np.float32(1e-8)
        back /= np.sqrt((back * back).sum(-1, dtype=np.float32))[..., None] + tiny
        on /= np.sqrt((on * on).sum(-1, dtype=np.float32))[..., None] + tiny
        cosine = np.clip((back * on).sum(-1, dtype=np.float32), np.float32(-1), np.float32(1))
        angle = np.degrees(np.arccos(cosine))
        bad[..., _BENT] |= (angle < _ANGLE) | (angle > np.float32(MAX_ANGLE_DEG))
    return bad


def _counts(uv: F32, mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """Whether pixels lie in the image and on the mask, at the truncated pixel."""
    with np.errstate(invalid="ignore"):
        inside = np.asarray(np.isfinite(uv).all(-1) & (uv >= 0).all(-1) & (uv < LINEAR_SIZE).all(-1), dtype=np.bool_)
    pixel = np.where(inside[..., None], uv, 0).astype(np.int64)
    return np.asarray(inside & mask[pixel[..., 1], pixel[..., 0]], dtype=np.bool_)


def build_hands(
    xyz_world: F32, num_views: NDArray[np.int8], uv_px: F32, T_camera_world: F32, K: F32, *, manual: bool
) -> tuple[NDArray[np.bool_], F32, F32, F32, NDArray[np.bool_]]:
    """The rules on arrays.

    Args:
        xyz_world: (N, 21, 3) metres; NaN = absent.
        num_views: (N, 21) views of each joint.
        uv_px: (N, 21, 2) annotation in the head camera; NaN = absent.
        T_camera_world: (N, 3, 4).
        K: (3, 3).
        manual: Whether the three-view rule holds.

    Returns:
        kept (N,), xyz (N, 21, 3) camera, uv (N, 21, 2), boxes (N, 4), valid (N, 21); NaN and false where not kept.
    """
    joints = np.array(xyz_world, dtype=np.float32)
    if manual:
        joints[num_views < MIN_VIEWS] = np.nan
    has_wrist = np.asarray(np.isfinite(joints[:, WRIST]).all(-1), dtype=np.bool_)
    joints[anatomy_violations(joints)] = np.nan
    R, t = T_camera_world[:, :, :3].astype(np.float32), T_camera_world[:, :, 3].astype(np.float32)
    K = K.astype(np.float32)
    camera = np.einsum("nij,nkj->nki", R, joints) + t[:, None]
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        plane = camera[..., :2] / camera[..., 2:]
        uv = plane * np.diagonal(K)[:2] + K[:2, 2]
    mask = visible_mask()
    counts = _counts(uv, mask)
    with np.errstate(invalid="ignore"):
        off = (uv - uv_px.astype(np.float32)).astype(np.float32)
        near = np.asarray(np.sqrt((off * off).sum(-1, dtype=np.float32)) <= np.float32(MAX_DISTANCE_PX))
    near = near & _counts(np.asarray(uv_px, dtype=np.float32), mask)
    near[:, WRIST] = True
    valid = counts & near & has_wrist[:, None]
    kept = np.asarray(valid.sum(-1) >= MIN_JOINTS, dtype=np.bool_)
    valid &= kept[:, None]
    shown = valid.copy()
    shown[:, WRIST] = kept
    nan = np.float32(np.nan)
    boxes = np.full((len(joints), 4), nan, dtype=np.float32)
    if kept.any():
        low = np.where(valid[kept][..., None], uv[kept], np.float32(np.inf)).min(1) - np.float32(BOX_MARGIN_PX)
        high = np.where(valid[kept][..., None], uv[kept], np.float32(-np.inf)).max(1) + np.float32(BOX_MARGIN_PX)
        boxes[kept] = np.clip(np.concatenate([low, high], axis=-1), 0, LINEAR_SIZE - 1)
    return kept, np.where(shown[..., None], camera, nan), np.where(shown[..., None], uv, nan), boxes, valid


def build_hand_gt(take: Take, source: Source = "manual") -> HandTruth:
    """Hand ground truth of a take.

    Args:
        take: A take of the train or val split.
        source: "manual" asks for three views per joint, "automatic" does not.

    Raises:
        EgoposeError: The take is of the test split, whose hands are hidden and whose boxes are random; or it lacks the
            annotation or the head poses.
    """
    if take.split == "test":
        raise EgoposeError(
            f"take {take.name} is of the test split: its hands are not published and the boxes of the official test "
            "list are drawn at random; use the official list"
        )
    raw = take.raw_annotation("hand", source)
    have, extrinsics = take.head_extrinsics
    return truth_of(raw, have, extrinsics, take.aria_name, take.uid, take.name, manual=source == "manual")


def truth_of(
    raw: IndexedAnnotation, pose_frames: NDArray[np.int64], extrinsics: NDArray[np.float64], view: str, uid: str,
    name: str, *, manual: bool,
) -> HandTruth:  # fmt: skip
    """The rules on one take's annotation; see :func:`build_hand_gt`."""
    at = locate(pose_frames, raw.frames)
    rows = np.flatnonzero((at >= 0) & np.isfinite(raw.xyz).all(-1).any(-1))
    n = rows.size
    xyz, views = raw.xyz[rows][:, COLUMNS], raw.num_views[rows][:, COLUMNS]
    ego = next((v for v, known in enumerate(raw.views) if known == view), None)
    uv = np.full((n, *COLUMNS.shape, 2), np.nan, dtype=np.float32)
    if ego is not None:
        uv = raw.uv_px[ego][rows][:, COLUMNS]
    T = np.repeat(extrinsics[at[rows]].astype(np.float32), 2, axis=0)
    parts = build_hands(
        xyz.reshape(2 * n, -1, 3), views.reshape(2 * n, -1), uv.reshape(2 * n, -1, 2), T,
        linear_camera().K.astype(np.float32), manual=manual,
    )  # fmt: skip
    kept = parts[0].reshape(n, 2)
    camera, pixels, boxes = (part.reshape(n, 2, *part.shape[1:]) for part in parts[1:4])
    valid = parts[4].reshape(n, 2, -1)
    some = kept.any(1)
    return HandTruth(
        uid, name, raw.frames[rows][some], kept[some], camera[some], pixels[some], boxes[some], valid[some]
    )


def write_hand_gt(path: str | os.PathLike[str], truths: Mapping[str, HandTruth]) -> None:
    """Write ``ego_pose_gt_anno_<split>_public.json``; takes without any hand are left out.

    Raises:
        EgoposeError: The file cannot be written.
    """
    with atomic_write(path, "w") as stream:
        # bare NaN, as the official file has it
        json.dump({uid: truth.document() for uid, truth in truths.items() if truth.frames.size}, stream)
