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
from egopose.view.surroundings import box, floor, frustum, nice_ceiling, path, union
from egopose.view.upright import Up, upright

if TYPE_CHECKING:
    from egopose.camera import Rig

Array = NDArray[np.float64]

BUDGET_BYTES = 7_000_000
"""Most bytes of base64 that the joints of a page may take."""


def build_scene(
    pose: PoseSequence,
    *,
    against: PoseSequence | None = None,
    rival: PoseSequence | None = None,
    rig: Rig | None = None,
    trajectory: Trajectory | None = None,
    title: str = "egopose",
    names: tuple[str, ...] = ("prediction", "reference", "other run"),
    clip: dict[str, Any] | None = None,
    up: Up = "auto",
    budget: int = BUDGET_BYTES,
) -> dict[str, Any]:
    """Everything the page needs, as JSON-ready builtins.

    Args:
        pose: The joints to show.
        against: A second sequence, such as ground truth, matched by frame number and joint name.
        rival: Another run of the same job, shown beside the first. Each is coloured by its distance to ``against``
            or, without one, to the other.
        rig: Cameras, drawn when the joints are in the world (or in the frame of one of these cameras).
        trajectory: Head poses in the world, drawn as a path with the head's axes.
        title: Heading of the page.
        names: How the page calls the sequence, the reference and the other run.
        clip: The recording, from :func:`egopose.view.clip_video.embed_clip`.
        up: The axis of the file that points up; see :func:`egopose.view.upright.upright`.
        budget: Most bytes of base64 for the joints.

    Raises:
        EgoposeError: No frames; or two sequences share no frame, no joint, or not the same space.
    """
    if pose.n_frames == 0:
        raise EgoposeError("view: the sequence holds no frames; there is nothing to show")
    notes: list[str] = []
    here = pose
    pose, against = _one_space(here, against, rig)
    _, rival = _one_space(here, rival, rig)
    others = [match(pose, other) for other in (against, rival) if other is not None]
    pose, notes_thin = _thin(pose, others, budget)
    notes += notes_thin
    others = [match(pose, other) for other in others]
    way = upright(pose, up)
    R = way.R
    notes += [way.note] if way.note else []
    bodies = [pose, *others]
    roles = ["run"] + ["reference"] * (against is not None) + ["rival"] * (rival is not None)
    called = {"run": "prediction", "reference": "reference", "rival": "other run"}
    called |= dict(zip(("run", "reference", "rival"), names))
    # whose distance is the error: the reference's or, without one, the other run's
    first = 1 if others else None
    to = {"run": first, "reference": None, "rival": 1 if against is not None else 0}
    targets = [to[role] for role in roles]
    placed = [body.xyz.astype(np.float64) @ R.T for body in bodies]
    centre = _robust_middle(placed)
    records = []
    for role, target, body, xyz in zip(roles, targets, bodies, placed, strict=True):
        record = _body(body, xyz - centre, R, called[role], reference=role == "reference", notes=notes)
        partner = None if target is None else bodies[target].skeleton.map_to(body.skeleton).tolist()
        records.append({**record, "rival": role == "rival", "target": target, "partner": partner})
    scene: dict[str, Any] = {
        "title": title,
        "subtitle": _subtitle(pose),
        "frames": pose.frames.tolist(),
        "times_s": np.round(pose.times_s, 6).tolist(),
        "sigma_step": FINEST_M,
        "statuses": [status.name.lower().replace("_", " ") for status in JointStatus],
        "without_point": [int(status) for status in WITHOUT_POINT],
        "bodies": records,
        "trail_frames": max(1, round((pose.fps or 30.0) * 1.0)),
        "axis_names": list(way.names),
        "to_file": np.column_stack([R.T, R.T @ centre]).tolist(),
        "clip": clip,
        "cameras": [],
        "path": None,
    }
    errors = [joint_errors(body, bodies[target]) for body, target in zip(bodies, targets) if target is not None]
    scene["ramps"] = _ramps(pose, errors)
    scene["apart"] = _apart(placed) if rival is not None else None
    colours = ["side", "status"]
    colours = (["error"] if "error" in scene["ramps"] else []) + colours
    scene["colours"] = colours + (["sigma"] if "sigma" in scene["ramps"] else [])
    in_world = pose.space == "world"
    body_box = box([xyz - centre for xyz in placed])
    depth = float(np.clip(0.12 * np.linalg.norm(body_box[1] - body_box[0]), 0.02, 0.3))
    if rig is not None and in_world:
        scene["cameras"] = [frustum(camera, R, centre, depth) for camera in rig.cameras]
    elif rig is not None:
        notes.append(f"Cameras are not drawn: the joints are in the {pose.space} frame, the cameras in the world.")
    if trajectory is not None and in_world:
        scene["path"] = path(trajectory, pose.times_s, R, centre)
    elif trajectory is not None:
        notes.append(f"The head's path is not drawn: the joints are in the {pose.space} frame.")
    points = [np.array([camera["centre"], *camera["corners"]]) for camera in scene["cameras"]]
    if scene["path"]:
        points.append(np.array(scene["path"]["points"]))
    scene["body_box"] = body_box.tolist()
    everything = union(body_box, points)
    scene["all_box"] = everything.tolist()
    scene["floor"] = floor(pose, placed[0] - centre, everything, centre)
    scene["follow"] = bool(np.linalg.norm(body_box[1] - body_box[0]) > 6.0)
    measured = [called[role] for role, target in zip(roles, targets) if target is not None]
    scene["notes"] = [*notes, *_about(pose, errors, measured)]
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


def _apart(placed: list[Array]) -> float:
    """How far apart two runs stand side by side, metres: a little more than a body is wide."""
    spans = [np.ptp(xyz[..., :2].reshape(len(xyz), -1, 2), axis=1) for xyz in placed]
    wide = np.concatenate([span[np.isfinite(span).all(axis=1)].max(axis=1) for span in spans])
    return float(np.clip(1.2 * np.percentile(wide, 90), 0.3, 2.0)) if wide.size else 1.0


def _thin(pose: PoseSequence, others: list[PoseSequence], budget: int) -> tuple[PoseSequence, list[str]]:
    """Every n-th frame, the smallest n that keeps the joints under the budget."""
    per_frame = 0.0
    for body in (pose, *others):
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


def root_mean_square_sigma(pose: PoseSequence) -> NDArray[np.float64] | None:
    """(T, J) one standard deviation per axis in metres, from the covariance or the sigma; None without either."""
    if pose.covariance is not None:
        with np.errstate(invalid="ignore"):
            trace = np.trace(pose.covariance.astype(np.float64), axis1=-2, axis2=-1)
            return np.sqrt(np.where(trace >= 0, trace, np.nan) / 3)
    return None if pose.sigma is None else pose.sigma.astype(np.float64)


def _ramps(pose: PoseSequence, errors: list[Array]) -> dict[str, float]:
    """Upper ends of the colour ramps: the 95th percentile, rounded up to 1, 2 or 5 times a power of ten."""
    ramps = {}
    values = {"sigma": root_mean_square_sigma(pose), "error": np.concatenate(errors, axis=1) if errors else None}
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


def _subtitle(pose: PoseSequence) -> str:
    seconds = float(pose.times_s[-1] - pose.times_s[0])
    share = 100 * float(pose.valid.mean()) if pose.xyz.size else 0.0
    return f"{pose.n_frames} frames, {seconds:.1f} s, {pose.n_joints} joints ({share:.1f} % known), {pose.space} frame"


def _about(pose: PoseSequence, errors: list[Array], names: list[str]) -> list[str]:
    lines = ["A filled joint has status ok; a hollow one has the status that its row in the table names."]
    for name, error in zip(names, errors):
        known = np.isfinite(error)
        both = int(known.any(axis=1).sum())
        mean = f"{1e3 * float(error[known].mean()):.1f} mm" if known.any() else "not known"
        lines.append(
            f"{name}: mean error {mean}, a plain distance, over {int(known.sum())} joints in {both} of "
            f"{pose.n_frames} frames that both sequences know."
        )
    for key, value in list(pose.provenance.items())[:12]:
        text = str(value)
        lines.append(f"{key}: {text if len(text) <= 200 else text[:197] + '...'}")
    return lines
