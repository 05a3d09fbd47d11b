"""Where motion comes from: captured clips with head poses, or a generator for use without any data."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.skeleton import BODY17_HANDS
from egopose.train.motion_file import read_motion_arrays
from egopose.train.synthetic.motion import HEAD_TO_CAMERA, SOURCE_JOINTS, SourceMotion, frame

Array = NDArray[np.float64]

_KEYS = ("joints", "joint_names", "head_rot", "clip_ptr", "clip_name", "subject", "fps")


@dataclass(frozen=True, eq=False)
class Recording:
    """One captured clip: name to (T, 3) world metres, head axes in the world (T, 3, 3), frames per second."""

    name: str
    subject: str
    fps: float
    joints: dict[str, Array]
    R_world_head: Array

    def __len__(self) -> int:
        return len(self.R_world_head)

    def cut(self, start: int, count: int, stride: int) -> SourceMotion:
        """``count`` frames from ``start``, every ``stride``-th."""
        pick = start + stride * np.arange(count)
        joints = {name: points[pick] for name, points in self.joints.items()}
        times = np.arange(count) * stride / self.fps
        return SourceMotion(f"{self.name}@{start}", self.subject, times, joints, self.R_world_head[pick])


def load_recordings(paths: Sequence[str | os.PathLike[str]]) -> list[Recording]:
    """Read captured clips.

    Args:
        paths: npz files with joints (N, J, 3), joint_names, head_rot (N, 3, 3) world from camera, clip_ptr,
            clip_name, subject and fps.

    Raises:
        EgoposeError: A file cannot be read, or lacks an array or a joint.
    """
    out = []
    for path in map(Path, paths):
        data = read_motion_arrays(path, _KEYS)
        names = [str(name) for name in data["joint_names"]]
        lost = [name for name in SOURCE_JOINTS if name not in names]
        if lost:
            raise EgoposeError(f"{path}: has no joint {lost[0]!r}; the body is driven by {', '.join(SOURCE_JOINTS)}")
        for i, (start, stop) in enumerate(zip(data["clip_ptr"][:-1], data["clip_ptr"][1:])):
            joints = data["joints"][start:stop].astype(np.float64)
            R = data["head_rot"][start:stop].astype(np.float64) @ HEAD_TO_CAMERA
            out.append(
                Recording(
                    str(data["clip_name"][i]),
                    str(data["subject"][i]),
                    float(data["fps"]),
                    {name: joints[:, names.index(name)] for name in SOURCE_JOINTS},
                    R,
                )
            )
    return out


def generated(times_s: Array, rng: np.random.Generator) -> SourceMotion:
    """A person who walks about or stands, turns the head and gestures, without any recording."""
    from egopose.demo import walking_person

    times = np.asarray(times_s, dtype=np.float64)
    seed = int(rng.integers(2**31))
    pace = rng.choice([0.0, rng.uniform(0.6, 1.1)])
    # standing still is the same figure, slowed down to a sway
    xyz = walking_person(times * (pace if pace else 0.12), seed=seed)
    at = {name: xyz[:, BODY17_HANDS.index(name)] for name in BODY17_HANDS.joints}
    joints = {name: at[name] for name in SOURCE_JOINTS if name in at}
    hips = (at["left_hip"] + at["right_hip"]) / 2
    shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
    joints["spine"] = hips + 0.25 * (shoulders - hips)
    joints["neck"] = shoulders + 0.05 * (shoulders - hips)
    left = at["left_hip"] - at["right_hip"]
    ahead = np.cross(left, np.array([0, 0, 1.0]))
    ahead /= np.linalg.norm(ahead, axis=-1, keepdims=True)
    for s in ("left", "right"):
        joints[f"{s}_toe_tip"] = at[f"{s}_ankle"] + 0.17 * ahead - [0, 0, 0.06]
        joints[f"{s}_knuckle"] = (at[f"{s}_hand_index_1"] + at[f"{s}_hand_middle_1"]) / 2
        joints[f"{s}_thumb_tip"] = at[f"{s}_hand_thumb_2"]
    lateral = at["left_ear"] - at["right_ear"]
    forward = at["nose"] - (at["left_ear"] + at["right_ear"]) / 2
    up = np.cross(forward, lateral)
    axes = frame(np.cross(lateral, up), up)
    # columns: ahead, up, across to the right; the head's are ahead, left, up
    R = np.stack([axes[..., 0], -axes[..., 2], axes[..., 1]], axis=-1)
    return SourceMotion(f"generated@{seed}", "generated", times, joints, R)
