"""Hands of other networks as files: WiLoR, HaMeR, or anything that gives 21 joints per frame.

One row per hand and frame, as arrays of an ``.npz`` or as objects of a ``.json`` list, with

* ``frame``: frame number of the clip, from 0;
* ``hand``: "left" or "right" (or ``is_right``: 0 or 1);
* the joints in the order of ``HAND21`` (the order of OpenPose and MANO with tips), in one of three forms:
  ``xyz_camera`` (21, 3) metres in the clip's camera frame;
  ``uv_px`` (21, 2) raw pixels with ``xyz_relative`` (21, 3) metres in camera axes around any origin;
  ``pred_keypoints_3d`` (21, 3), ``pred_cam_t_full`` (3,) and ``focal_length`` as HaMeR and WiLoR compute them, for
  their own pinhole camera with its centre in the middle of the image (``left_flipped``: whether the x axis of left
  hands is already turned back: WiLoR's demo does that, HaMeR's does not);
* optionally ``sigma_m``: one standard deviation of a joint relative to its wrist, metres.

The last two forms are lifted through the clip's real camera; the hand keeps the size its network gave it.
"""

from __future__ import annotations

import os
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.detect.views import View
from egopose.errors import EgoposeError
from egopose.files import read_json
from egopose.hands import SIDES, HandEstimates, place
from egopose.lift import SIZE_SD, LiftConfig, lift
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17_HANDS, HAND21

Array = NDArray[np.float64]

SIGMA_M = 0.01
"""Wrist-relative error of a joint when the file does not say."""

_SHAPES: dict[str, tuple[int, ...]] = {
    "xyz_camera": (21, 3), "uv_px": (21, 2), "xyz_relative": (21, 3), "pred_keypoints_3d": (21, 3),
    "pred_cam_t_full": (3,), "focal_length": (),
}  # fmt: skip
_FORMS = (("xyz_camera",), ("uv_px", "xyz_relative"), ("pred_keypoints_3d", "pred_cam_t_full", "focal_length"))
_WRIST = HAND21.index("wrist")


def load_hands(path: str | os.PathLike[str], n_frames: int, camera: Camera | None) -> HandEstimates:
    """Read hands of a clip from a file.

    Args:
        path: See the module; or a pose file of the package with hand joints in a camera's frame.
        n_frames: Of the clip.
        camera: Of the clip; needed unless the file holds camera-frame joints.

    Raises:
        EgoposeError: Not such a file, a wrong shape, a frame outside the clip, two hands of one side in a frame, or no
            camera where one is needed.
    """
    path = Path(path)
    rows = _rows(path)
    if isinstance(rows, PoseSequence):
        return _from_poses(path, rows, n_frames)
    n = len(next(iter(rows.values()))) if rows else 0
    frames, sides = _frames(path, rows, n, n_frames), _sides(path, rows, n)
    form = next((f for f in _FORMS if all(key in rows for key in f)), None)
    if form is None:
        wanted = "; or ".join(", ".join(f) for f in _FORMS)
        raise EgoposeError(f"{path}: found {', '.join(sorted(rows)) or 'nothing'}; expected frame, hand and {wanted}")
    data = {key: _numbers(path, rows, key, n, _SHAPES[key]) for key in form}
    sigma = np.full(n, SIGMA_M)
    if "sigma_m" in rows:
        sigma = _numbers(path, rows, "sigma_m", n, ())
        if not (sigma > 0).all():
            raise EgoposeError(f"{path}: a sigma_m is not positive; expected metres")
    out = HandEstimates.empty(n_frames, {"hands": str(path.name), "form": form[0]})
    if form[0] == "xyz_camera":
        for k in range(n):
            place(out, int(frames[k]), int(sides[k]), *_around(data["xyz_camera"][k], sigma[k]))
        return out
    if camera is None:
        raise EgoposeError(f"{path}: {form[0]} needs the clip's camera; give camera= (--camera)")
    if form[0] == "uv_px":
        uv, relative = data["uv_px"], data["xyz_relative"]
    else:
        uv, relative = _own_camera(path, rows, data, sides, camera)
    for k in range(n):
        place(out, int(frames[k]), int(sides[k]), *_through(path, camera, uv[k], relative[k], sigma[k], int(frames[k])))
    return out


def _rows(path: Path) -> Any:
    if not path.is_file():
        raise EgoposeError(f"{path}: no such file of hands")
    if path.suffix == ".json":
        found = read_json(path)
        found = found.get("hands") if isinstance(found, dict) else found
        if not isinstance(found, list) or not found or not all(isinstance(row, dict) for row in found):
            raise EgoposeError(f'{path}: expected a list of objects, one per hand and frame (or {{"hands": [...]}})')
        keys = set(found[0])
        for k, row in enumerate(found):
            if set(row) != keys:
                raise EgoposeError(f"{path}: entry {k} has the keys {sorted(row)}, entry 0 has {sorted(keys)}")
        return {key: [row[key] for row in found] for key in keys}
    if path.suffix != ".npz":
        raise EgoposeError(f"{path}: expected hands as .npz or .json")
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            names = archive.files
            if "frame" in names:
                rows = {key: archive[key] for key in names}
                n = np.size(rows["frame"])
                # one value for all rows is written once
                return {key: np.full(n, value) if np.ndim(value) == 0 else value for key, value in rows.items()}
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise EgoposeError(f"{path}: not a readable .npz of plain arrays ({error})") from error
    from egopose.io import load

    found = load(path)
    if not isinstance(found, PoseSequence):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected hands")
    return found


def _numbers(path: Path, rows: dict[str, Any], key: str, n: int, shape: tuple[int, ...]) -> Array:
    try:
        value = np.asarray(rows[key], dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise EgoposeError(f"{path}: {key} does not hold numbers of shape {(n, *shape)}") from error
    if value.shape != (n, *shape):
        raise EgoposeError(f"{path}: {key} has shape {value.shape}; expected {(n, *shape)}")
    bad = ~np.isfinite(value).reshape(n, -1).all(axis=1)
    if bad.any():
        row = int(np.flatnonzero(bad)[0])
        raise EgoposeError(f"{path}: {key} of row {row} holds NaN or infinity; leave the row out")
    return value


def _frames(path: Path, rows: dict[str, Any], n: int, n_frames: int) -> NDArray[np.int64]:
    if "frame" not in rows:
        raise EgoposeError(f"{path}: has no 'frame'; expected the frame number of each hand, from 0")
    frames = _numbers(path, rows, "frame", n, ())
    off = (frames != np.round(frames)) | (frames < 0) | (frames >= n_frames)
    if off.any():
        raise EgoposeError(f"{path}: frame {frames[off][0]:g} is not one of the clip's frames, 0 to {n_frames - 1}")
    return frames.astype(np.int64)


def _sides(path: Path, rows: dict[str, Any], n: int) -> NDArray[np.int64]:
    if "hand" in rows:
        words = [str(word) for word in np.asarray(rows["hand"]).ravel()]
        wrong = [word for word in words if word not in SIDES]
        if wrong or len(words) != n:
            raise EgoposeError(f"{path}: hand is {(wrong or words)[:1]}; expected 'left' or 'right' in each row")
        sides = np.array([SIDES.index(word) for word in words], dtype=np.int64)
    elif "is_right" in rows:
        sides = _numbers(path, rows, "is_right", n, ()).round().astype(np.int64)
        if not np.isin(sides, (0, 1)).all():
            raise EgoposeError(f"{path}: is_right holds {sides.max()}; expected 0 or 1")
    else:
        raise EgoposeError(f"{path}: has neither 'hand' nor 'is_right'; expected the side of each hand")
    pairs = np.stack([_frames_raw(rows), sides], axis=1)
    same, count = np.unique(pairs, axis=0, return_counts=True)
    if (count > 1).any():
        t, side = same[count > 1][0]
        raise EgoposeError(f"{path}: frame {int(t)} has two {SIDES[int(side)]} hands; keep the wearer's")
    return sides


def _frames_raw(rows: dict[str, Any]) -> NDArray[np.int64]:
    return np.asarray(rows["frame"], dtype=np.float64).astype(np.int64)


def _around(xyz: Array, sigma: float) -> tuple[Array, Array, Array]:
    """A metric hand with its covariances: the given error, and a stretch along the ray for the unknown size."""
    eye = sigma**2 * np.eye(3)
    offset = xyz - xyz[_WRIST]
    own = eye + SIZE_SD**2 * xyz[:, :, None] * xyz[:, None, :]
    return xyz, own, eye + SIZE_SD**2 * offset[:, :, None] * offset[:, None, :]


def _own_camera(
    path: Path, rows: dict[str, Any], data: dict[str, Array], sides: NDArray[np.int64], camera: Camera
) -> tuple[Array, Array]:
    """Pixels and relative joints of HaMeR-like output: its camera is a pinhole with the image's middle as centre."""
    joints, shift, focal = data["pred_keypoints_3d"].copy(), data["pred_cam_t_full"], data["focal_length"]
    left = sides == SIDES.index("left")
    if left.any():
        if "left_flipped" not in rows:
            raise EgoposeError(
                f"{path}: holds left hands but no 'left_flipped'; say whether their x axis is already turned back (1, "
                "as WiLoR's demo does) or still that of a right hand (0, as in HaMeR's output)"
            )
        todo = left & (_numbers(path, rows, "left_flipped", len(sides), ()) == 0)
        joints[todo, :, 0] *= -1
    at = joints + shift[:, None]
    if not ((at[..., 2] > 0).all() and (focal > 0).all()):
        raise EgoposeError(f"{path}: a hand lies behind its camera; expected pred_cam_t_full of the full image")
    middle = np.array(camera.size) / 2 - 0.5
    return focal[:, None, None] * at[..., :2] / at[..., 2:] + middle, joints


def _through(
    path: Path, camera: Camera, uv: Array, relative: Array, sigma: float, frame: int
) -> tuple[Array, Array, Array]:
    rays = camera.unproject(uv)
    if not np.isfinite(rays).all():
        raise EgoposeError(f"{path}: joints of frame {frame} lie outside the camera's lens; is it the clip's camera?")
    view = View.aimed(rays.mean(axis=0), np.array([0.0, -1.0, 0.0]), 1.0)
    points = view.points(rays)
    if not np.isfinite(points).all():
        raise EgoposeError(f"{path}: the hand of frame {frame} fills more than half the view; are these pixels?")
    view = View(view.R_camera_view, 1 / max(float(np.ptp(points, axis=0).max()), 1e-3))
    points = view.points(rays)
    local = relative @ view.R_camera_view
    flat, seen = local[:, :2] - local[:, :2].mean(axis=0), points - points.mean(axis=0)
    # picture units per metre at the hand: how its depths compare with its points
    scale = float(np.sqrt((seen**2).sum() / max(float((flat**2).sum()), 1e-12)))
    config = LiftConfig(point_sd=0.03, bone_sd=0.03, depth_sd_m=sigma)
    xyz, own, rel = lift(
        points[None], scale * local[None, :, 2], np.array([view.focal]), template=local[None], config=config
    )  # fmt: skip
    R = view.R_camera_view
    more = sigma**2 * np.eye(3)
    return xyz[0] @ R.T, R @ own[0] @ R.T + more, R @ rel[0] @ R.T + more


def _from_poses(path: Path, poses: PoseSequence, n_frames: int) -> HandEstimates:
    if not poses.space.startswith("camera:"):
        raise EgoposeError(f"{path}: holds joints in the frame {poses.space!r}; expected a camera's frame")
    if poses.frames.size and (poses.frames.min() < 0 or poses.frames.max() >= n_frames):
        raise EgoposeError(f"{path}: frame {poses.frames.max()} is not one of the clip's frames, 0 to {n_frames - 1}")
    whole = poses.to_skeleton(BODY17_HANDS)
    out = HandEstimates.empty(n_frames, {"hands": str(path.name), "form": "poses"})
    for i, side in enumerate(SIDES):
        joints = BODY17_HANDS.indices([f"{side}_hand_{j}" for j in HAND21.joints])
        for k, frame in enumerate(whole.frames):
            xyz = whole.xyz[k, joints].astype(np.float64)
            if np.isfinite(xyz).all():
                place(out, int(frame), i, *_around(xyz, SIGMA_M))
    if not out.known.any():
        raise EgoposeError(f"{path}: holds no whole hand; expected joints such as left_hand_wrist to left_hand_pinky_4")
    return out
