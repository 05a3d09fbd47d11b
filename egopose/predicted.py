"""From what the network says to a PoseSequence: frames of reference, error bars, status, provenance."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose import __version__, rigid
from egopose.clip_steps import Steps
from egopose.errors import EgoposeError
from egopose.model.headmotion import canonical_rotation
from egopose.model.numeric import Said
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS

SIGMA_PER_SCALE = 2.0
"""Per-axis standard deviation of the density exp(-r / b) in space, over b."""


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
    sigma_factor: NDArray[np.float32]
    missing_poses: str

    def provenance(self, camera: str | None) -> dict[str, Any]:
        """Plain values for the file."""
        return {
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


def build_sequence(said: Said, steps: Steps, inputs: Inputs, space: str | None) -> PoseSequence:
    """Joints in the wanted frame.

    Args:
        said: Of the network, T steps.
        steps: Times, poses and camera of the same steps.
        inputs: For provenance and calibration.
        space: "world", "head", "camera" or None.

    Raises:
        EgoposeError: The frame is not known, or the world was asked for without a trajectory.
    """
    has_pose = np.isfinite(steps.poses).all(axis=(1, 2))
    camera = "ego" if steps.camera is None or steps.camera.name is None else steps.camera.name
    if space is None:
        space = "world" if inputs.trajectory else "camera"
    xyz = said.xyz.astype(np.float64)
    if space == "world":
        if not inputs.trajectory:
            raise EgoposeError("joints in the world need a trajectory; ask for space='camera' or 'head'")
        xyz = rigid.transform_points(steps.poses, xyz)
    elif space == "head":
        R = canonical_rotation(said.up.astype(np.float64))
        # the told floor wins over the predicted one
        height = said.height.astype(np.float64)
        if inputs.floor_z is not None:
            height = np.where(has_pose, steps.poses[:, 2, 3] - inputs.floor_z, height)
        t = np.zeros((xyz.shape[0], 3))
        t[:, 2] = height
        xyz = rigid.transform_points(rigid.make_transform(R, t), xyz)
    elif space == "camera":
        space = f"camera:{camera}"
    else:
        raise EgoposeError(f"space is {space!r}; expected 'world', 'head' or 'camera'")
    seen = np.zeros(said.log_scale.shape, dtype=bool)
    if steps.camera is not None:
        seen = steps.camera.visible(said.xyz.astype(np.float64), frame="camera") & (said.visible > 0)
    factor = np.where(seen, inputs.sigma_factor[1], inputs.sigma_factor[0])
    sigma = SIGMA_PER_SCALE * np.exp(said.log_scale) * factor
    status = np.where(seen, np.uint8(JointStatus.OK), np.uint8(JointStatus.OUT_OF_VIEW))
    if "hands" not in inputs.trained:
        # only the wrist is known: the body says where it is
        wrists = BODY17_HANDS.indices(["left_hand_wrist", "right_hand_wrist"])
        fingers = np.setdiff1d(np.arange(BODY17.n_joints, BODY17_HANDS.n_joints), wrists)
        xyz[:, fingers] = np.nan
        body = BODY17_HANDS.indices(["left_wrist", "right_wrist"])
        sigma[:, wrists] = sigma[:, body]
    lost = ~np.isfinite(xyz).all(axis=-1)
    status[lost] = JointStatus.MISSING
    sigma = np.where(lost, np.nan, sigma)
    return PoseSequence(
        skeleton=BODY17_HANDS,
        frames=steps.frames,
        times_s=steps.times_s,
        xyz=xyz.astype(np.float32),
        sigma=sigma.astype(np.float32),
        status=status.astype(np.uint8),
        space=space,
        provenance=inputs.provenance(None if steps.camera is None else f"{camera} ({steps.camera.model})"),
    )
