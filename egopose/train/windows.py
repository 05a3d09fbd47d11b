"""Motion clips and the windows cut from them."""

from __future__ import annotations

import os
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.train.motion_file import read_motion_arrays

Array = NDArray[np.float64]

_ARRAYS = ("joints", "joint_names", "head_rot", "head_pos", "clip_ptr", "clip_name", "subject", "tier", "fps")


@dataclass(frozen=True, eq=False)
class MotionClip:
    """Head poses with the joints that went with them.

    Attributes:
        name: Clip name.
        subject: Who moved; splits are by subject.
        tier: Where the joints come from ("A" is exact).
        times_s: (T,) seconds.
        T_world_camera: (T, 4, 4), floor at z = 0.
        joints: (T, 59, 3) BODY17_HANDS in the world, NaN where there is no label.
        feet: (T, 2) 1 where the left or right foot rests on the floor, 0 not, -1 unknown.
    """

    name: str
    subject: str
    tier: str
    times_s: Array
    T_world_camera: Array
    joints: Array
    feet: NDArray[np.int8]

    def __len__(self) -> int:
        return self.times_s.size

    @property
    def seconds(self) -> float:
        """Length of the clip."""
        return float(self.times_s[-1] - self.times_s[0])

    def cut(self, pick: NDArray[np.int64] | slice) -> MotionClip:
        """Some of the steps."""
        return replace(
            self, times_s=self.times_s[pick], T_world_camera=self.T_world_camera[pick], joints=self.joints[pick],
            feet=self.feet[pick],
        )  # fmt: skip


def load_motion(path: str | os.PathLike[str]) -> list[MotionClip]:
    """Read clips from an npz of head poses and joints.

    The arrays: ``joints`` (N, J, 3) world metres with ``joint_names``, ``head_rot`` (N, 3, 3) world from camera,
    ``head_pos`` (N, 3), ``clip_ptr`` (clips + 1), ``clip_name``, ``subject``, ``tier`` and ``fps``.

    Raises:
        EgoposeError: The file cannot be read, an array is absent, a body joint is absent or clips are inconsistent.
    """
    path = Path(path)
    data = read_motion_arrays(path, _ARRAYS)
    names = [str(name) for name in data["joint_names"]]
    lost = [joint for joint in BODY17.joints if joint not in names]
    if lost:
        raise EgoposeError(f"{path}: has no joint {lost[0]!r}; all of {BODY17.name} are needed")
    fps, bounds = float(data["fps"]), data["clip_ptr"].astype(np.int64)
    source = [names.index(joint) for joint in BODY17.joints]
    target = BODY17_HANDS.indices(BODY17.joints)
    wrists = [(BODY17_HANDS.index(f"{s}_hand_wrist"), BODY17_HANDS.index(f"{s}_wrist")) for s in ("left", "right")]
    toes = [names.index(f"{s}_toe_tip") if f"{s}_toe_tip" in names else -1 for s in ("left", "right")]
    clips = []
    for i, (start, end) in enumerate(zip(bounds[:-1], bounds[1:])):
        joints = np.full((end - start, BODY17_HANDS.n_joints, 3), np.nan)
        raw = data["joints"][start:end].astype(np.float64)
        joints[:, target] = raw[:, source]
        for hand, body in wrists:
            joints[:, hand] = joints[:, body]
        T = np.zeros((end - start, 4, 4))
        T[:, :3, :3], T[:, :3, 3], T[:, 3, 3] = data["head_rot"][start:end], data["head_pos"][start:end], 1.0
        times = np.arange(end - start) / fps
        ankles = [BODY17.index(f"{s}_ankle") for s in ("left", "right")]
        feet = np.stack(
            [foot_contact(times, joints[:, a], raw[:, toe] if toe >= 0 else None) for a, toe in zip(ankles, toes)], -1
        )
        clips.append(
            MotionClip(str(data["clip_name"][i]), str(data["subject"][i]), str(data["tier"][i]), times, T, joints, feet)
        )
    return clips


def foot_contact(times_s: Array, ankle: Array, toe: Array | None) -> NDArray[np.int8]:
    """1 where a foot rests: slow (below 0.3 m/s) and low (toe below 6 cm, or ankle below 14 cm), else 0.

    Args:
        times_s: (T,) seconds.
        ankle: (T, 3) world metres, floor at z = 0.
        toe: (T, 3) or None.
    """
    point = ankle if toe is None else toe
    if times_s.size < 2:
        return np.full(times_s.size, -1, dtype=np.int8)
    speed = np.linalg.norm(np.gradient(point, times_s, axis=0), axis=1)
    return ((speed < 0.3) & (point[:, 2] < (0.14 if toe is None else 0.06))).astype(np.int8)


def resample(clip: MotionClip, times_s: Array) -> MotionClip:
    """The clip at other times inside its span, linear in joints and positions, renormalised in rotation.

    Args:
        clip: Source.
        times_s: (N,) increasing seconds within the clip.
    """
    from egopose.trajectory import Trajectory

    times = np.asarray(times_s, dtype=np.float64)
    right = np.clip(np.searchsorted(clip.times_s, times), 1, len(clip) - 1)
    alpha = (times - clip.times_s[right - 1]) / (clip.times_s[right] - clip.times_s[right - 1])
    poses = Trajectory(clip.times_s, clip.T_world_camera, max_gap_s=1e9).at(times, extrapolate=True)
    a = alpha[:, None, None]
    joints = (1 - a) * clip.joints[right - 1] + a * clip.joints[right]
    nearest = np.where(alpha < 0.5, right - 1, right)
    return replace(clip, times_s=times, T_world_camera=poses, joints=joints, feet=clip.feet[nearest])


def sampling_weights(clips: list[MotionClip], *, power: float = 0.5, subjects: dict[str, float] | None = None) -> Array:
    """Chance of each clip: subjects count with their seconds to a power, clips of a subject with their seconds.

    Args:
        clips: The clips.
        power: 1 samples seconds alike, 0 samples subjects alike.
        subjects: Extra factor of some subjects.

    Returns:
        (clips,) summing to one.
    """
    seconds = np.array([max(clip.seconds, 0.1) for clip in clips])
    total: dict[str, float] = {}
    for clip, s in zip(clips, seconds):
        total[clip.subject] = total.get(clip.subject, 0.0) + float(s)
    weight = np.array(
        [s * total[c.subject] ** (power - 1) * (subjects or {}).get(c.subject, 1.0) for c, s in zip(clips, seconds)]
    )
    return weight / weight.sum()
