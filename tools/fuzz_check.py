"""What an accepted input must satisfy: the invariants of its type, and the way through a writer and back."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose import Clip, Observations2D, PoseSequence, Rig, Trajectory
from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.pose import WITHOUT_POINT, JointStatus


class WrongAcceptance(AssertionError):
    """A reader gave a result that breaks the rules of its type."""


def need(condition: Any, what: str) -> None:
    """Refuse a result.

    Raises:
        WrongAcceptance: The condition does not hold.
    """
    if not condition:
        raise WrongAcceptance(what)


def _increasing(values: np.ndarray) -> bool:
    # compared, not subtracted: differences of far-apart integers overflow
    return bool((values[1:] > values[:-1]).all())


def _nan_or_finite(values: np.ndarray, what: str) -> None:
    need(not np.isinf(values).any(), f"{what} holds infinity")


def check_pose(pose: PoseSequence) -> None:
    """Shapes, types, order, and a status that agrees with the points."""
    T, J = pose.n_frames, pose.skeleton.n_joints
    need(pose.frames.dtype == np.int64 and _increasing(pose.frames), "frames do not increase")
    need(pose.times_s.dtype == np.float64 and np.isfinite(pose.times_s).all(), "times are not finite")
    need(_increasing(pose.times_s), "times do not increase")
    need(pose.xyz.shape == (T, J, 3) and pose.xyz.dtype == np.float32, "joints have another shape or type")
    _nan_or_finite(pose.xyz, "xyz")
    known = np.isfinite(pose.xyz)
    need((known.all(-1) == known.any(-1)).all(), "a joint is half known")
    assert pose.status is not None
    need(pose.status.shape == (T, J) and pose.status.dtype == np.uint8, "status has another shape or type")
    need((pose.status <= max(JointStatus)).all(), "an unknown status")
    need((np.isin(pose.status, WITHOUT_POINT) == ~known.all(-1)).all(), "status and points disagree")
    if pose.sigma is not None:
        need(pose.sigma.shape == (T, J), "sigma has another shape")
        need(not (pose.sigma < 0).any(), "a sigma is negative")
        _nan_or_finite(pose.sigma, "sigma")
    if pose.covariance is not None:
        need(pose.covariance.shape == (T, J, 3, 3), "covariance has another shape")
        _nan_or_finite(pose.covariance, "covariance")
        need(not (np.diagonal(pose.covariance, axis1=-2, axis2=-1) < -1e-9).any(), "a variance is negative")
    joints = pose.skeleton.joints
    need(len(set(joints)) == len(joints) > 0, "joints repeat or are none")
    need(pose.space in ("world", "head") or pose.space.startswith("camera:"), "an unknown space")
    need(isinstance(pose.provenance, Mapping), "provenance is no mapping")


def check_observations(seen: Observations2D) -> None:
    """Shapes, types, order, positive sizes and rates, scores in [0, 1]."""
    shape = (len(seen.views), seen.n_frames, seen.skeleton.n_joints)
    need(seen.frames.dtype == np.int64 and _increasing(seen.frames), "frames do not increase")
    need(seen.uv_px.shape == (*shape, 2) and seen.uv_px.dtype == np.float32, "pixels have another shape or type")
    _nan_or_finite(seen.uv_px, "uv_px")
    need(len(set(seen.views)) == len(seen.views), "views repeat")
    if seen.score is not None:
        need(seen.score.shape == shape and np.isfinite(seen.score).all(), "scores are not finite")
        need((seen.score >= 0).all(), "a score is negative")
    need(seen.fps is None or (math.isfinite(seen.fps) and seen.fps > 0), f"fps is {seen.fps}")
    need(len(seen.sizes) == len(seen.views), "sizes and views differ in number")
    for size in seen.sizes:
        need(size is None or (len(size) == 2 and min(size) > 0), f"an image size of {size}")


def check_camera(camera: Camera) -> None:
    """Finite numbers, a positive focal length and size, a rigid pose."""
    need(np.isfinite(camera.params).all(), "parameters are not finite")
    need((camera.params[:2] > 0).all(), f"focal length {camera.params[:2]}")
    need(min(camera.size) > 0, f"an image size of {camera.size}")
    check_rigid(camera.T_world_camera)


def check_rigid(T: np.ndarray) -> None:
    """(..., 4, 4) proper rotations and finite translations."""
    need(T.shape[-2:] == (4, 4) and np.isfinite(T).all(), "a pose is not finite")
    R = T[..., :3, :3]
    error = np.abs(R @ np.swapaxes(R, -1, -2) - np.eye(3)).max(initial=0)
    need(error < 1e-2, f"a rotation is off by {error:.3g}")
    need((np.linalg.det(R) > 0).all(), "a rotation mirrors")


def check(found: Any, depth: int = 0) -> None:
    """The invariants of whatever a reader gave.

    Raises:
        WrongAcceptance: One does not hold.
    """
    need(depth < 200, "nested too deep")
    if isinstance(found, PoseSequence):
        check_pose(found)
    elif isinstance(found, Observations2D):
        check_observations(found)
    elif isinstance(found, Camera):
        check_camera(found)
    elif isinstance(found, Rig):
        need(len(found) > 0 and len(set(found.names)) == len(found), "no camera, or names repeat")
        need(np.isfinite(found.time_offsets_s).all(), "time offsets are not finite")
        for camera in found:
            check_camera(camera)
    elif isinstance(found, Trajectory):
        need(_increasing(found.times_s) and np.isfinite(found.times_s).all(), "times do not increase")
        check_rigid(found.T_world_camera)
    elif isinstance(found, Mapping):
        for value in found.values():
            check(value, depth + 1)
    elif isinstance(found, list | tuple):
        for value in found[:1000]:
            check(value, depth + 1)
    elif dataclasses.is_dataclass(found) and not isinstance(found, Clip | type):
        _check_record(found)


def _check_record(found: Any) -> None:
    """Clips, takes, weights: by the names that the package gives to things."""
    fields = {f.name: getattr(found, f.name) for f in dataclasses.fields(found)}
    frames = fields.get("frames")
    if isinstance(frames, np.ndarray):
        need(frames.ndim == 1 and frames.dtype == np.int64, "frames are no list of numbers")
    times = fields.get("times_s")
    if isinstance(times, np.ndarray):
        need(np.isfinite(times).all() and _increasing(times), "times do not increase")
    rows = next((len(v) for v in (frames, times) if isinstance(v, np.ndarray)), None)
    for name in ("xyz", "joints", "images", "T_world_camera", "visible", "feet", "present", "valid", "boxes"):
        value = fields.get(name)
        if isinstance(value, np.ndarray) and rows is not None:
            need(len(value) == rows, f"{name} has {len(value)} rows for {rows} times")
    if isinstance(fields.get("T_world_camera"), np.ndarray):
        check_rigid(fields["T_world_camera"])
    for name in ("R_world_head", "joints", "head_rot"):
        value = fields.get(name)
        if isinstance(value, np.ndarray) and value.dtype.kind == "f":
            _nan_or_finite(value, name)
    if "T_world_camera" in fields and isinstance(fields.get("camera"), Camera):
        check_camera(fields["camera"])


def same(a: Any, b: Any) -> bool:
    """Equal in value, NaN to NaN, arrays and nested records included."""
    if isinstance(a, np.ndarray) or isinstance(b, np.ndarray):
        a, b = np.asarray(a), np.asarray(b)
        if a.dtype != b.dtype or a.shape != b.shape:
            return False
        return bool(np.array_equal(a, b, equal_nan=a.dtype.kind in "fc"))
    if isinstance(a, Mapping) and isinstance(b, Mapping):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple) and isinstance(b, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b))
    if isinstance(a, PoseSequence | Observations2D) or (
        dataclasses.is_dataclass(a) and type(a).__eq__ is object.__eq__
    ):
        return type(a) is type(b) and all(
            same(getattr(a, f.name), getattr(b, f.name)) for f in dataclasses.fields(a) if not f.name.startswith("_")
        )
    if isinstance(a, Trajectory) and isinstance(b, Trajectory):
        return same(a.times_s, b.times_s) and same(a.T_world_camera, b.T_world_camera) and a.max_gap_s == b.max_gap_s
    if isinstance(a, float) and isinstance(b, float) and math.isnan(a) and math.isnan(b):
        return True
    return bool(a == b)


def round_trip(found: Any, folder: Path) -> None:
    """Written by the package's own format and read again, everything is the same; provenance as plain JSON.

    Raises:
        WrongAcceptance: It cannot be written or read again, or differs.
    """
    import egopose

    if isinstance(found, list):
        for item in found:
            round_trip(item, folder)
        return
    if isinstance(found, Rig):
        for camera in found:
            code, params, pose = camera.packed()
            need(np.isfinite(pose).all() and params.shape == (20,) and code >= 0, "cannot be packed for kernels")
    if not isinstance(found, PoseSequence | Observations2D | Trajectory | Rig):
        return
    path = folder / ("again.json" if isinstance(found, Rig) else "again.npz")
    options: dict[str, Any] = {} if isinstance(found, Rig) else {"compress": False}
    try:
        egopose.save(found, path, **options)
        again = egopose.load(path)
    except EgoposeError as error:
        raise WrongAcceptance(f"what was read cannot be written and read again: {error}") from error
    finally:
        path.unlink(missing_ok=True)
    if isinstance(found, PoseSequence | Observations2D):
        # keys become text and NaN becomes null in provenance
        found, again = (dataclasses.replace(x, provenance={}) for x in (found, again))
    if isinstance(found, Rig):
        need(found.names == again.names and same(found.time_offsets_s, again.time_offsets_s), "names or offsets differ")
        for a, b in zip(found, again):
            # a pose is made exactly orthonormal again: the last bit may move
            need(
                a.model == b.model and a.size == b.size and np.allclose(a.params, b.params, rtol=1e-12), "lens differs"
            )
            close = np.allclose(a.T_world_camera, b.T_world_camera, rtol=1e-9, atol=1e-9)
            need(close and a.image_space == b.image_space, "pose or image space differs after writing")
        return
    if isinstance(found, Trajectory):
        need(same(found.times_s, again.times_s), "times differ after writing")
        need(
            np.allclose(found.T_world_camera, again.T_world_camera, rtol=1e-9, atol=1e-9), "poses differ after writing"
        )
        return
    need(same(found, again), "differs after writing and reading again")


def own_format(found: Any, name: str, folder: Path) -> None:
    """The same through the format that it came from, within the digits that the format keeps.

    A writer may refuse what its format cannot hold.

    Raises:
        WrongAcceptance: What was written is refused, or differs.
    """
    import egopose
    from egopose.io import get_format

    entry = get_format(name)
    if type(found).__name__ not in entry.writes or not isinstance(found, PoseSequence | Observations2D):
        return
    path = folder / f"own{entry.suffixes[0]}"
    try:
        egopose.save(found, path, format=name)
    except EgoposeError:
        return
    try:
        again = egopose.load(path, format=name)
    except EgoposeError as error:
        raise WrongAcceptance(f"the format's own writer wrote what its reader refuses: {error}") from error
    finally:
        if path.exists():
            os.unlink(path)
    if isinstance(again, Mapping):
        return
    array = "xyz" if isinstance(found, PoseSequence) else "uv_px"
    before, after = getattr(found, array), getattr(again, array)
    keep = np.isfinite(before[..., 0])
    need(after.shape == before.shape or not keep.all(), f"{array} has shape {after.shape} after writing {before.shape}")
    if after.shape == before.shape and again.skeleton.joints == found.skeleton.joints:
        need((np.isfinite(after[..., 0]) == keep).all(), "joints appear or vanish in writing")
        scale = float(np.abs(before[keep]).max(initial=1.0))
        need(np.allclose(before[keep], after[keep], rtol=1e-4, atol=2e-5 * scale), f"{array} differs after writing")
