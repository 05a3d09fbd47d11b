"""From what the network says to a PoseSequence: frames of reference, error bars, status, provenance."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose import __version__, rigid
from egopose.clip_steps import Steps
from egopose.errors import EgoposeError
from egopose.hands import HandEstimates, merge
from egopose.model.errorbars import bar_axes, covariances
from egopose.model.headmotion import canonical_rotation
from egopose.model.numeric import Said
from egopose.pose import JointStatus, PoseSequence
from egopose.postsmooth import AGILITY, smooth_path
from egopose.skeleton import BODY17, BODY17_HANDS


@dataclass(frozen=True)
class Inputs:
    """What went into a prediction; becomes its provenance."""

    name: str
    sha256: str
    trained: frozenset[str]
    mode: str
    images: bool
    trajectory: bool
    imu: bool
    floor_z: float | None
    sigma_factor: NDArray[np.float32]  # (5, 59, 3), rows as in model.numeric.SIGMA_ROWS, axes as in model.errorbars
    missing_poses: str
    live: bool = False  # said before later frames are known, or before all are
    hands: Mapping[str, Any] | None = None
    smooth: bool = False

    def provenance(self, camera: str | None) -> dict[str, Any]:
        """Plain values for the file."""
        notes: dict[str, Any] = {
            "tool": "egopose predict",
            "version": __version__,
            "weights": self.name,
            "weights_sha256": self.sha256,
            "trained": sorted(self.trained),
            "mode": self.mode,
            "inputs": {"images": self.images, "trajectory": self.trajectory, "imu": self.imu},
            "camera": camera,
            "floor_z_m": self.floor_z,
            "missing_poses": self.missing_poses,
        }
        if self.hands is not None:
            notes["inputs"]["hands"] = True
            notes["hands"] = dict(self.hands)
        if self.smooth:
            notes["smoothed"] = {"agility_m2_s3": AGILITY}
        return notes


def build_sequence(
    said: Said, steps: Steps, inputs: Inputs, space: str | None, hands: HandEstimates | None = None
) -> PoseSequence:
    """Joints in the wanted frame.

    Args:
        said: Of the network, T steps.
        steps: Times, poses and camera of the same steps.
        inputs: For provenance and calibration.
        space: "world", "head", "camera" or None.
        hands: Found by something else, to be merged in.

    Raises:
        EgoposeError: The frame is not known, or the world was asked for without a trajectory.
    """
    camera = "ego" if steps.camera is None or steps.camera.name is None else steps.camera.name
    if space is None:
        space = "world" if inputs.trajectory else "camera"
    T_space_camera = _placement(said, steps, inputs, space)
    xyz = said.xyz.astype(np.float64)
    seen = np.zeros(said.log_scale.shape, dtype=bool)
    if steps.camera is not None and inputs.images:
        seen = steps.camera.visible(xyz, frame="camera") & (said.visible > 0)
    blind, hidden, in_view, hidden_live, in_view_live = inputs.sigma_factor
    if inputs.live:
        hidden, in_view = hidden_live, in_view_live
    factors = np.where(seen[..., None], in_view, hidden if inputs.images else blind)
    covariance = covariances(said.log_scale, factors, bar_axes(xyz, said.up, seen))
    if "hands" not in inputs.trained:
        # only the wrist is known: the body says where it is
        wrists = BODY17_HANDS.indices(["left_hand_wrist", "right_hand_wrist"])
        fingers = np.setdiff1d(np.arange(BODY17.n_joints, BODY17_HANDS.n_joints), wrists)
        xyz[:, fingers] = np.nan
        covariance[:, wrists] = covariance[:, BODY17_HANDS.indices(["left_wrist", "right_wrist"])]
    if hands is not None:
        xyz, covariance, found = merge(xyz, covariance, hands)
        seen |= found
    if inputs.smooth:
        xyz = _smoothed(xyz, covariance, steps)
    R = T_space_camera[:, None, :3, :3]
    covariance = R @ covariance @ np.swapaxes(R, -1, -2)
    sigma = np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / 3)
    xyz = rigid.transform_points(T_space_camera, xyz)
    lost: NDArray[np.bool_] = np.asarray(~np.isfinite(xyz).all(axis=-1))
    status = np.where(seen, np.uint8(JointStatus.OK), np.uint8(JointStatus.OUT_OF_VIEW))
    status[lost] = JointStatus.MISSING
    sigma = np.where(lost, np.nan, sigma)
    covariance = np.where(lost[..., None, None], np.nan, covariance)
    return PoseSequence(
        skeleton=BODY17_HANDS,
        frames=steps.frames,
        times_s=steps.times_s,
        xyz=xyz.astype(np.float32),
        sigma=sigma.astype(np.float32),
        covariance=covariance.astype(np.float32),
        status=status.astype(np.uint8),
        space=f"camera:{camera}" if space == "camera" else space,
        provenance=inputs.provenance(None if steps.camera is None else f"{camera} ({steps.camera.model})"),
    )


def _smoothed(xyz: NDArray[np.float64], covariance: NDArray[np.float64], steps: Steps) -> NDArray[np.float64]:
    """Joints smoothed in the world where head poses are known; without any, in the camera's own frame."""
    has_pose = np.isfinite(steps.poses).all(axis=(1, 2))
    if not has_pose.any():
        return smooth_path(steps.times_s, xyz, covariance)
    T = steps.poses[has_pose]
    R = T[:, None, :3, :3]
    world = smooth_path(
        steps.times_s[has_pose], rigid.transform_points(T, xyz[has_pose]),
        R @ covariance[has_pose] @ np.swapaxes(R, -1, -2),
    )  # fmt: skip
    out = xyz.copy()
    out[has_pose] = rigid.transform_points(rigid.invert(T), world)
    return out


def _placement(said: Said, steps: Steps, inputs: Inputs, space: str) -> NDArray[np.float64]:
    """``T_space_camera`` (T, 4, 4) of each step, NaN where it is not known."""
    n = said.xyz.shape[0]
    if space == "world":
        if not inputs.trajectory:
            raise EgoposeError("joints in the world need a trajectory; ask for space='camera' or 'head'")
        return steps.poses
    if space == "camera":
        return np.tile(np.eye(4), (n, 1, 1))
    if space != "head":
        raise EgoposeError(f"space is {space!r}; expected 'world', 'head' or 'camera'")
    # the told floor wins over the predicted one
    height = said.height.astype(np.float64)
    if inputs.floor_z is not None:
        has_pose = np.isfinite(steps.poses).all(axis=(1, 2))
        height = np.where(has_pose, steps.poses[:, 2, 3] - inputs.floor_z, height)
    t = np.zeros((n, 3))
    t[:, 2] = height
    return rigid.make_transform(canonical_rotation(said.up.astype(np.float64)), t)
