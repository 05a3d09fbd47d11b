"""The 3D page of a result: skeletons, cameras, error bars, floor and path, moved by a time slider.

The page is the package's own and not a recording of viser: a recorded viser scene plays, but it has no legend, no
frame numbers, no joint under the finger, nothing to switch on and off and no address of a frame, and it needs WebGL
(measured with viser 1.1.1; 2.6 MB for the bones and joints of 59 joints over 60 s, without error bars). For a live
scene viser is the right tool: :mod:`egopose.view.live`.

How big: positions are stored in steps of 0.1 mm (coarser only when a body is wider than 6 m), error bars as the
Cholesky factor of each covariance. When the joints would need more than :data:`BUDGET_BYTES`, every n-th frame is
kept, the smallest n that fits, and the page says so.
"""

from __future__ import annotations

import math
import os
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_write
from egopose.pose import WITHOUT_POINT, JointStatus, PoseSequence
from egopose.skeleton import Skeleton
from egopose.trajectory import Trajectory
from egopose.view.packing import FAR_M, FINEST_M, encode, pack_positions, pack_uncertainty
from egopose.view.page import viewer_document
from egopose.view.upright import Up, upright

if TYPE_CHECKING:
    from egopose.camera import Camera, Rig

Array = NDArray[np.float64]

BUDGET_BYTES = 7_000_000
"""Most bytes of base64 that the joints of a page may take."""


def build_scene(
    pose: PoseSequence,
    *,
    against: PoseSequence | None = None,
    rig: Rig | None = None,
    trajectory: Trajectory | None = None,
    title: str = "egopose",
    names: tuple[str, str] = ("prediction", "reference"),
    clip: dict[str, Any] | None = None,
    up: Up = "auto",
    budget: int = BUDGET_BYTES,
) -> dict[str, Any]:
    """Everything the page needs, as JSON-ready builtins.

    Args:
        pose: The joints to show.
        against: A second sequence, such as ground truth, matched by frame number and joint name.
        rig: Cameras, drawn when the joints are in the world (or in the frame of one of these cameras).
        trajectory: Head poses in the world, drawn as a path with the head's axes.
        title: Heading of the page.
        names: How the page calls the two sequences.
        clip: The recording, from :func:`egopose.view.clip_video.embed_clip`.
        up: The axis of the file that points up; see :func:`egopose.view.upright.upright`.
        budget: Most bytes of base64 for the joints.

    Raises:
        EgoposeError: No frames; or the two sequences share no frame, no joint, or not the same space.
    """
    if pose.n_frames == 0:
        raise EgoposeError("view: the sequence holds no frames; there is nothing to show")
    notes: list[str] = []
    pose, against = _one_space(pose, against, rig)
    matched = None if against is None else match(pose, against)
    pose, notes_thin = _thin(pose, matched, budget)
    notes += notes_thin
    if matched is not None:
        matched = match(pose, matched)
    way = upright(pose, up)
    R = way.R
    notes += [way.note] if way.note else []
    bodies = [pose] if matched is None else [pose, matched]
    placed = [body.xyz.astype(np.float64) @ R.T for body in bodies]
    centre = _robust_middle(placed)
    records = []
    for k, (body, xyz) in enumerate(zip(bodies, placed, strict=True)):
        records.append(_body(body, xyz - centre, R, names[k], reference=k == 1, notes=notes))
    scene: dict[str, Any] = {
        "title": title,
        "subtitle": _subtitle(pose),
        "frames": pose.frames.tolist(),
        "times_s": np.round(pose.times_s, 6).tolist(),
        "sigma_step": FINEST_M,
        "statuses": [status.name.lower().replace("_", " ") for status in JointStatus],
        "without_point": [int(status) for status in WITHOUT_POINT],
        "bodies": records,
        "partner": None if matched is None else matched.skeleton.map_to(pose.skeleton).tolist(),
        "trail_frames": max(1, round((pose.fps or 30.0) * 1.0)),
        "axis_names": list(way.names),
        "to_file": np.column_stack([R.T, R.T @ centre]).tolist(),
        "clip": clip,
        "cameras": [],
        "path": None,
    }
    scene["ramps"] = _ramps(pose, matched)
    colours = ["side", "status"]
    colours = (["error"] if "error" in scene["ramps"] else []) + colours
    scene["colours"] = colours + (["sigma"] if "sigma" in scene["ramps"] else [])
    in_world = pose.space == "world"
    body_box = _box([xyz - centre for xyz in placed])
    depth = float(np.clip(0.12 * np.linalg.norm(body_box[1] - body_box[0]), 0.02, 0.3))
    if rig is not None and in_world:
        scene["cameras"] = [_frustum(camera, R, centre, depth) for camera in rig.cameras]
    elif rig is not None:
        notes.append(f"Cameras are not drawn: the joints are in the {pose.space} frame, the cameras in the world.")
    if trajectory is not None and in_world:
        scene["path"] = _path(trajectory, pose.times_s, R, centre)
    elif trajectory is not None:
        notes.append(f"The head's path is not drawn: the joints are in the {pose.space} frame.")
    points = [np.array([camera["centre"], *camera["corners"]]) for camera in scene["cameras"]]
    if scene["path"]:
        points.append(np.array(scene["path"]["points"]))
    scene["body_box"] = body_box.tolist()
    everything = _union(body_box, points)
    scene["all_box"] = everything.tolist()
    scene["floor"] = _floor(pose, placed[0] - centre, everything, centre)
    scene["follow"] = bool(np.linalg.norm(body_box[1] - body_box[0]) > 6.0)
    scene["notes"] = [*notes, *_about(pose, matched)]
    return scene


def save_scene_page(path: str | os.PathLike[str], pose: PoseSequence, **options: Any) -> dict[str, Any]:
    """Write the 3D page of a result as one self-contained HTML file.

    Args:
        path: The HTML file; written atomically.
        pose: The joints to show.
        **options: See :func:`build_scene`.

    Returns:
        ``{"frames": frames shown, "bytes": size of the page}``.
    """
    scene = build_scene(pose, **options)
    data = viewer_document(scene).encode("utf-8")
    with atomic_write(path) as stream:
        stream.write(data)
    return {"frames": len(scene["frames"]), "bytes": len(data)}


def match(pose: PoseSequence, other: PoseSequence) -> PoseSequence:
    """``other`` on the frames of ``pose``: NaN and MISSING where it has no such frame.

    Raises:
        EgoposeError: No frame number or no joint name in common.
    """
    common = np.isin(pose.frames, other.frames)
    if not common.any():
        raise EgoposeError(
            f"view: the two sequences share no frame: {pose.frames[0]} to {pose.frames[-1]} and "
            f"{other.frames[0] if other.n_frames else '-'} to {other.frames[-1] if other.n_frames else '-'}; "
            "they must number frames alike"
        )
    if (other.skeleton.map_to(pose.skeleton) < 0).all():
        raise EgoposeError(
            f"view: the skeletons {pose.skeleton.name!r} and {other.skeleton.name!r} share no joint name; convert one "
            "to the other's joints first"
        )
    where = np.searchsorted(other.frames, pose.frames[common])
    arrays: dict[str, Any] = {}
    for name in ("xyz", "sigma", "covariance", "status"):
        source = getattr(other, name)
        if source is None:
            arrays[name] = None
            continue
        target = np.full((pose.n_frames, *source.shape[1:]), JointStatus.MISSING if name == "status" else np.nan)
        target[common] = source[where]
        arrays[name] = target.astype(source.dtype)
    return other.replace(frames=pose.frames, times_s=pose.times_s, **arrays)


def _one_space(
    pose: PoseSequence, against: PoseSequence | None, rig: Rig | None
) -> tuple[PoseSequence, PoseSequence | None]:
    """Bring both to the world when the rig knows the camera whose frame they are in."""

    def lifted(sequence: PoseSequence) -> PoseSequence:
        name = sequence.space.removeprefix("camera:")
        if rig is None or sequence.space == name or name not in rig.names:
            return sequence
        return sequence.transformed(rig.cameras[rig.names.index(name)].T_world_camera, "world")

    pose = lifted(pose)
    if against is None:
        return pose, None
    against = lifted(against)
    if pose.space != against.space:
        raise EgoposeError(
            f"view: one sequence is in the frame {pose.space!r}, the other in {against.space!r}; bring both to one "
            "frame, or give the rig that knows the camera"
        )
    return pose, against


def _thin(pose: PoseSequence, other: PoseSequence | None, budget: int) -> tuple[PoseSequence, list[str]]:
    """Every n-th frame, the smallest n that keeps the joints under the budget."""
    per_frame = 0.0
    for body in (pose, other):
        if body is not None:
            uncertain = 12 if body.covariance is not None else 2 if body.sigma is not None else 0
            per_frame += (body.n_joints * (7 + uncertain) + 16) * 4 / 3
    step = max(1, math.ceil(pose.n_frames * per_frame / budget))
    if step == 1:
        return pose, []
    kept = pose.select(frames=pose.frames[::step])
    return kept, [
        f"Every {_ordinal(step)} frame is shown ({kept.n_frames} of {pose.n_frames}), to keep the page small."
    ]


def _ordinal(n: int) -> str:
    endings = {1: "st", 2: "nd", 3: "rd"}
    return f"{n}{'th' if n % 100 in (11, 12, 13) else endings.get(n % 10, 'th')}"


def _robust_middle(placed: list[Array]) -> Array:
    points = np.concatenate([xyz.reshape(-1, 3) for xyz in placed])
    points = points[np.isfinite(points).all(axis=1)]
    return np.median(points, axis=0) if len(points) else np.zeros(3)


def joint_sides(skeleton: Skeleton) -> list[str]:
    """Either "left", "right" or "middle" for each joint, from mirror pairs and names."""
    sides = ["middle"] * skeleton.n_joints
    for i, joint in enumerate(skeleton.joints):
        for side in ("left", "right"):
            if joint.startswith(f"{side}_") or joint.endswith(f"_{side}") or skeleton.name.endswith(f"_{side}"):
                sides[i] = side
    for left, right in skeleton.mirror:
        sides[left], sides[right] = "left", "right"
    return sides


def is_fine(skeleton: Skeleton) -> NDArray[np.bool_]:
    """(J,) true for finger and face points of a whole body, which are drawn small."""
    fine = np.array([joint.startswith(("left_hand_", "right_hand_", "face_")) for joint in skeleton.joints])
    return fine if not fine.all() else np.zeros_like(fine)


def _body(pose: PoseSequence, xyz: Array, R: Array, name: str, *, reference: bool, notes: list[str]) -> dict[str, Any]:
    positions, origin, far = pack_positions(xyz)
    if far:
        notes.append(f"{far} joints of the {name} lie more than {FAR_M:g} m from its middle and are not drawn.")
    status = np.asarray(pose.status)
    used = np.bincount(status.ravel(), minlength=len(JointStatus)) > 0
    return {
        "name": name,
        "reference": reference,
        "joints": list(pose.skeleton.joints),
        "bones": [list(bone) for bone in pose.skeleton.bones],
        "sides": joint_sides(pose.skeleton),
        "fine": is_fine(pose.skeleton).tolist(),
        "xyz": positions,
        "origin": origin,
        "status": encode(status),
        "status_used": used.tolist(),
        **pack_uncertainty(pose, R),
    }


def nice_ceiling(value: float) -> float:
    """The next number of the form 1, 2 or 5 times a power of ten."""
    if not value > 0 or not math.isfinite(value):
        return 1.0
    power = 10.0 ** math.floor(math.log10(value))
    return next(k * power for k in (1.0, 2.0, 5.0, 10.0) if value <= k * power * (1 + 1e-9))


def root_mean_square_sigma(pose: PoseSequence) -> NDArray[np.float64] | None:
    """(T, J) one standard deviation per axis in metres, from the covariance or the sigma; None without either."""
    if pose.covariance is not None:
        with np.errstate(invalid="ignore"):
            trace = np.trace(pose.covariance.astype(np.float64), axis1=-2, axis2=-1)
            return np.sqrt(np.where(trace >= 0, trace, np.nan) / 3)
    return None if pose.sigma is None else pose.sigma.astype(np.float64)


def _ramps(pose: PoseSequence, other: PoseSequence | None) -> dict[str, float]:
    """Upper ends of the colour ramps: the 95th percentile, rounded up to 1, 2 or 5 times a power of ten."""
    ramps = {}
    sigma = root_mean_square_sigma(pose)
    values = {"sigma": sigma, "error": None if other is None else joint_errors(pose, other)}
    for name, value in values.items():
        if value is not None and np.isfinite(value).any():
            ramps[name] = max(1e-4, nice_ceiling(float(np.nanpercentile(value, 95))))
    return ramps


def joint_errors(pose: PoseSequence, matched: PoseSequence) -> Array:
    """(T, J) distances in metres to a sequence on the same frames; NaN where either lacks the joint."""
    partner = matched.skeleton.map_to(pose.skeleton)
    other = matched.xyz[:, np.maximum(partner, 0)].astype(np.float64)
    error = np.linalg.norm(pose.xyz.astype(np.float64) - other, axis=-1)
    error[:, partner < 0] = np.nan
    return error


def frustum_corners(camera: Camera, depth: float, per_side: int = 4) -> Array:
    """Border of the image at a depth in front of the camera, through the true lens, (4 * per_side, 3) world metres.

    Border pixels without a ray (outside a fisheye's circle) fall back to the widest ray on the line to the middle.
    """
    w, h = camera.size
    a = np.arange(per_side) / per_side
    edge = np.concatenate([np.stack([a, 0 * a], 1), np.stack([0 * a + 1, a], 1),
                           np.stack([1 - a, 0 * a + 1], 1), np.stack([0 * a, 1 - a], 1)])  # fmt: skip
    border = edge * [w - 1, h - 1]
    middle = np.array([(w - 1) / 2, (h - 1) / 2])
    rays = np.full((len(border), 3), np.nan)
    for shrink in (1.0, 0.9, 0.8, 0.7, 0.6, 0.5, 0.3, 0.1):
        todo = ~np.isfinite(rays).all(axis=1)
        if not todo.any():
            break
        rays[todo] = camera.unproject(middle + shrink * (border[todo] - middle))
    rays = np.where(np.isfinite(rays), rays, [0, 0, 1])
    # a wide lens has rays beside or behind it: keep those at the given length instead of the given depth
    scale = depth / np.maximum(rays[:, 2:3], 0.35)
    T = camera.T_world_camera
    return (rays * scale) @ T[:3, :3].T + T[:3, 3]


def _frustum(camera: Camera, R: Array, centre: Array, depth: float) -> dict[str, Any]:
    T = camera.T_world_camera
    return {
        "name": camera.name,
        "centre": np.round(R @ T[:3, 3] - centre, 4).tolist(),
        "forward": np.round(R @ T[:3, 2], 6).tolist(),
        "corners": np.round(frustum_corners(camera, depth) @ R.T - centre, 4).tolist(),
    }


def _path(trajectory: Trajectory, times_s: Array, R: Array, centre: Array, most: int = 1500) -> dict[str, Any]:
    keep = np.unique(np.linspace(0, len(trajectory) - 1, min(most, len(trajectory))).round().astype(int))
    poses = trajectory.at(times_s, gaps="nan", outside="nan")
    heads: list[list[float] | None] = []
    for T in poses:
        if np.isfinite(T).all():
            heads.append(np.round([*(R @ T[:3, 3] - centre), *(R @ T[:3, :3]).T.ravel()], 4).tolist())
        else:
            heads.append(None)
    points = np.round(trajectory.T_world_camera[keep, :3, 3] @ R.T - centre, 4)
    return {"name": "head", "points": points.tolist(), "heads": heads, "size": 0.15}


def _box(placed: list[Array]) -> Array:
    points = np.concatenate([xyz.reshape(-1, 3) for xyz in placed])
    points = points[np.isfinite(points).all(axis=1)]
    if not len(points):
        return np.array([[-1.0] * 3, [1.0] * 3])
    low, high = np.percentile(points, [0.5, 99.5], axis=0)
    pad = 0.05 * max(float(np.linalg.norm(high - low)), 0.05)
    return np.array([low - pad, high + pad])


def _union(box: Array, points: list[Array]) -> Array:
    everything = np.concatenate([box, *points])
    return np.array([everything.min(axis=0), everything.max(axis=0)])


def _floor(pose: PoseSequence, xyz: Array, box: Array, centre: Array) -> dict[str, Any]:
    """A grid under everything; for a body in the world its height is that of the lowest joints."""
    heights = xyz[..., 2]
    known = np.isfinite(heights).any(axis=1)
    if pose.space == "head":
        z, what = -float(centre[2]), "at the head frame's floor (z = 0)"
    elif known.any():
        lowest = np.nanmin(heights[known], axis=1)
        z = float(np.percentile(lowest, 5))
        what = (
            f"at the lowest joints (height {z + centre[2]:.2f} m)" if pose.space == "world" else "at the lowest joints"
        )
    else:
        z, what = -1.0, "arbitrary"
    size = float(max(box[1, :2] - box[0, :2]))
    step = nice_ceiling(size / 16)
    low = np.floor((box[0, :2] + centre[:2]) / step) * step
    cells = np.ceil((box[1, :2] + centre[:2] - low) / step).astype(int)
    return {"x0": float(low[0] - centre[0]), "y0": float(low[1] - centre[1]), "z": z, "step": step,
            "nx": int(cells[0]), "ny": int(cells[1]), "what": what}  # fmt: skip


def _subtitle(pose: PoseSequence) -> str:
    seconds = float(pose.times_s[-1] - pose.times_s[0])
    share = 100 * float(pose.valid.mean()) if pose.xyz.size else 0.0
    return f"{pose.n_frames} frames, {seconds:.1f} s, {pose.n_joints} joints ({share:.1f} % known), {pose.space} frame"


def _about(pose: PoseSequence, matched: PoseSequence | None) -> list[str]:
    lines = ["A filled joint has status ok; a hollow one has the status that its row in the table names."]
    if matched is not None:
        both = int(np.isfinite(joint_errors(pose, matched)).any(axis=1).sum())
        lines.append(f"{both} of {pose.n_frames} frames have joints in both sequences; errors are plain distances.")
    for key, value in list(pose.provenance.items())[:12]:
        text = str(value)
        lines.append(f"{key}: {text if len(text) <= 200 else text[:197] + '...'}")
    return lines
