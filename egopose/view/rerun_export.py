"""A result as a rerun recording (``.rrd``), for those who look at everything in rerun's viewer."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np

from egopose import rigid
from egopose.errors import EgoposeError, require
from egopose.files import atomic_path
from egopose.pose import PoseSequence
from egopose.view.scene import _one_space, joint_errors, joint_sides, match, root_mean_square_sigma

if TYPE_CHECKING:
    from egopose.rig import Rig
    from egopose.trajectory import Trajectory

SIDE_RGB = {"left": (0, 114, 178), "right": (213, 94, 0), "middle": (74, 79, 87)}
REFERENCE_RGB = (125, 135, 148)
JOINT_RADIUS_M = 0.012


def save_rerun(
    path: str | os.PathLike[str],
    pose: PoseSequence,
    *,
    against: PoseSequence | None = None,
    rig: Rig | None = None,
    trajectory: Trajectory | None = None,
    names: tuple[str, str] = ("prediction", "reference"),
    title: str = "egopose",
) -> dict[str, Any]:
    """Write joints, bones, error bars, cameras, the head's path and the errors as a rerun recording.

    Entities are ``<name>/joints``, ``<name>/bones``, ``<name>/sigma`` (spheres of one standard deviation),
    ``cameras/<camera>`` and ``head``; with a reference also the scalar ``error_mm`` per joint. Timelines are ``frame``
    and ``time``. A joint without a point is left out.

    Args:
        path: The ``.rrd`` file; written atomically.
        pose: The joints.
        against: A second sequence, matched by frame number and joint name, drawn grey.
        rig: Cameras; a wide lens is drawn as the pinhole of its focal length.
        trajectory: Head poses in the world.
        names: What the two sequences are called.
        title: Name of the application in the viewer.

    Returns:
        ``{"frames": number, "bytes": size}``.

    Raises:
        MissingExtra: rerun is not installed.
        EgoposeError: No frames, or the two sequences cannot be compared.
    """
    rr: Any = require("rerun", "rerun")
    if pose.n_frames == 0:
        raise EgoposeError("view: the sequence holds no frames; there is nothing to export")
    pose, against = _one_space(pose, against, rig)
    bodies = [(names[0], pose, False)]
    if against is not None:
        bodies.append((names[1], match(pose, against), True))
    with atomic_path(path) as temporary:
        recording = rr.RecordingStream(title)
        recording.save(str(temporary))
        recording.log("/", rr.ViewCoordinates.RIGHT_HAND_Z_UP, static=True)
        if rig is not None and pose.space == "world":
            _cameras(rr, recording, rig)
        for t in range(pose.n_frames):
            recording.set_time("frame", sequence=int(pose.frames[t]))
            recording.set_time("time", duration=float(pose.times_s[t]))
            for name, body, reference in bodies:
                _frame(rr, recording, name, body, t, reference)
        if against is not None:
            _errors(rr, recording, pose, bodies[1][1])
        if trajectory is not None and pose.space == "world":
            _head(rr, recording, trajectory)
        recording.flush()
        recording.disconnect()
    return {"frames": pose.n_frames, "bytes": os.path.getsize(path)}


def _frame(rr: Any, recording: Any, name: str, body: PoseSequence, t: int, reference: bool) -> None:
    known = body.valid[t]
    colours = np.array(
        [REFERENCE_RGB if reference else SIDE_RGB[s] for s in joint_sides(body.skeleton)], dtype=np.uint8
    )
    labels = [joint for joint, there in zip(body.skeleton.joints, known) if there]
    recording.log(
        f"{name}/joints",
        rr.Points3D(body.xyz[t, known], colors=colours[known], radii=JOINT_RADIUS_M, labels=labels, show_labels=False),
    )
    bones = [(a, b) for a, b in body.skeleton.bones if known[a] and known[b]]
    strips = [body.xyz[t, [a, b]] for a, b in bones]
    recording.log(f"{name}/bones", rr.LineStrips3D(strips, colors=[colours[b] for _, b in bones]))
    sigma = root_mean_square_sigma(body)
    if sigma is not None and not reference:
        sure = known & np.isfinite(sigma[t])
        recording.log(
            f"{name}/sigma",
            rr.Ellipsoids3D(
                centers=body.xyz[t, sure],
                half_sizes=np.repeat(sigma[t, sure][:, None], 3, axis=1),
                colors=colours[sure],
            ),
        )


def _cameras(rr: Any, recording: Any, rig: Rig) -> None:
    for camera in rig.cameras:
        T = camera.T_world_camera
        entity = f"cameras/{camera.name}"
        recording.log(entity, rr.Transform3D(translation=T[:3, 3], mat3x3=T[:3, :3]), static=True)
        recording.log(
            entity,
            rr.Pinhole(image_from_camera=camera.K, resolution=list(camera.size), image_plane_distance=0.2),
            static=True,
        )


def _head(rr: Any, recording: Any, trajectory: Trajectory) -> None:
    T = trajectory.T_world_camera
    recording.log("head/path", rr.LineStrips3D([T[:, :3, 3]]), static=True)
    recording.disable_timeline("frame")
    for time_s, pose in zip(trajectory.times_s, T):
        recording.set_time("time", duration=float(time_s))
        turn = rr.Quaternion(xyzw=rigid.matrix_to_quaternion(pose[:3, :3]))
        recording.log("head/pose", rr.Transform3D(translation=pose[:3, 3], quaternion=turn))


def _errors(rr: Any, recording: Any, pose: PoseSequence, matched: PoseSequence) -> None:
    error_mm = 1000 * joint_errors(pose, matched)
    for j, joint in enumerate(pose.skeleton.joints):
        good = np.flatnonzero(np.isfinite(error_mm[:, j]))
        if good.size:
            rr.send_columns(
                f"error_mm/{joint}",
                indexes=[
                    rr.TimeColumn("frame", sequence=pose.frames[good]),
                    rr.TimeColumn("time", duration=pose.times_s[good]),
                ],
                columns=rr.Scalars.columns(scalars=error_mm[good, j]),
                recording=recording,
            )
