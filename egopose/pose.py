"""3D joints over time: a prediction, a pseudo ground truth and an annotation are this one type."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose import rigid
from egopose.errors import EgoposeError
from egopose.observations import check_frames, find_frames
from egopose.skeleton import Skeleton


class JointStatus(IntEnum):
    """Why a joint is, or is not, known."""

    OK = 0
    """Known: enough views agree, or the source states it."""
    TWO_VIEWS = 1
    """From two views only: nothing could contradict them."""
    LOW_ANGLE = 2
    """The viewing rays are nearly parallel: depth is weak, the error bar says how weak."""
    NO_CONSENSUS = 3
    """Views disagree; no point is given."""
    MISSING = 4
    """Not observed; no point is given."""
    BRIDGED = 5
    """Inferred from neighbours in time or along the body."""
    OUT_OF_VIEW = 6
    """Predicted while outside the image."""


WITHOUT_POINT = (JointStatus.NO_CONSENSUS, JointStatus.MISSING)


@dataclass(frozen=True, eq=False)
class PoseSequence:
    """3D joints of one person over T frames.

    Attributes:
        skeleton: The J joints.
        frames: (T,) int64 frame numbers, strictly increasing.
        times_s: (T,) float64 seconds.
        xyz: (T, J, 3) float32 metres, NaN where a joint is not known.
        sigma: (T, J) float32 metres, one standard deviation per axis, or None.
        covariance: (T, J, 3, 3) float32 square metres, or None.
        status: (T, J) uint8 of :class:`JointStatus`; OK and MISSING are derived when it is not given.
        space: "world", "camera:<name>" or "head".
        provenance: Inputs used, version, configuration hash.
    """

    skeleton: Skeleton
    frames: NDArray[np.int64]
    times_s: NDArray[np.float64]
    xyz: NDArray[np.float32]
    sigma: NDArray[np.float32] | None = None
    covariance: NDArray[np.float32] | None = None
    status: NDArray[np.uint8] | None = None
    space: str = "world"
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        frames = check_frames(self.frames, "pose sequence")
        set_(self, "frames", frames)
        shape = (frames.size, self.skeleton.n_joints)
        times = np.asarray(self.times_s, dtype=np.float64)
        if times.shape != (frames.size,):
            raise EgoposeError(f"pose sequence: times have shape {times.shape}; expected ({frames.size},)")
        if not np.isfinite(times).all() or (np.diff(times) <= 0).any():
            raise EgoposeError("pose sequence: times must be finite and increase")
        set_(self, "times_s", times)
        xyz = np.asarray(self.xyz, dtype=np.float32)
        if xyz.shape != (*shape, 3):
            raise EgoposeError(
                f"pose sequence: joints have shape {xyz.shape}; expected {(*shape, 3)} "
                f"(frames, joints of {self.skeleton.name!r}, 3)"
            )
        known: NDArray[np.bool_] = np.all(np.isfinite(xyz), axis=-1)
        if not known.all():
            xyz = np.where(known[..., None], xyz, np.float32(np.nan))
        set_(self, "xyz", xyz)
        for name, extra in (("sigma", ()), ("covariance", (3, 3))):
            value = getattr(self, name)
            if value is not None:
                value = np.asarray(value, dtype=np.float32)
                if value.shape != (*shape, *extra):
                    raise EgoposeError(f"pose sequence: {name} has shape {value.shape}; expected {(*shape, *extra)}")
                variance = value if name == "sigma" else np.diagonal(value, axis1=-2, axis2=-1)
                # a hair below zero is rounding of a rotated covariance
                if (variance < (0.0 if name == "sigma" else -1e-9)).any():
                    raise EgoposeError(f"pose sequence: a {name} is negative; expected error bars in metres")
                if np.isinf(value).any():
                    # an error bar without end is an error bar that is not known
                    value = np.where(np.isinf(value), np.float32(np.nan), value)
                set_(self, name, value)
        self._set_status(known)
        if not (self.space in ("world", "head") or self.space.startswith("camera:")):
            raise EgoposeError(f"pose sequence: space is {self.space!r}; expected 'world', 'head' or 'camera:<name>'")

    def _set_status(self, known: NDArray[np.bool_]) -> None:
        if self.status is None:
            status = np.where(known, np.uint8(JointStatus.OK), np.uint8(JointStatus.MISSING))
        else:
            status = np.asarray(self.status)
            if status.shape != known.shape:
                raise EgoposeError(f"pose sequence: status has shape {status.shape}; expected {known.shape}")
            if status.dtype.kind not in "biuf" or (status != np.round(status)).any():
                raise EgoposeError("pose sequence: a status is no whole number; expected JointStatus values")
            if status.size and (status.min() < 0 or status.max() > max(JointStatus)):
                raise EgoposeError(f"pose sequence: status holds {status.max()}; expected 0 to {int(max(JointStatus))}")
            status = status.astype(np.uint8)
            said_unknown = np.isin(status, WITHOUT_POINT)
            if (said_unknown & known).any():
                t, j = np.argwhere(said_unknown & known)[0]
                raise EgoposeError(
                    f"pose sequence: frame {self.frames[t]}, joint {self.skeleton.joints[j]!r} has a point but its "
                    f"status is {JointStatus(int(status[t, j])).name}; such a joint must be NaN"
                )
            status = np.where(~known & ~said_unknown, np.uint8(JointStatus.MISSING), status)
        object.__setattr__(self, "status", status.astype(np.uint8))

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.frames.size

    @property
    def n_joints(self) -> int:
        """Number of joints."""
        return self.skeleton.n_joints

    @property
    def valid(self) -> NDArray[np.bool_]:
        """(T, J) true where a joint has a point."""
        return np.isfinite(self.xyz[..., 0])

    @property
    def fps(self) -> float | None:
        """Frame numbers per second, from the times; None with fewer than two frames."""
        if self.n_frames < 2:
            return None
        return float((self.frames[-1] - self.frames[0]) / (self.times_s[-1] - self.times_s[0]))

    def select(self, *, frames: ArrayLike | None = None, joints: Sequence[str] | None = None) -> PoseSequence:
        """Some frames (by number) and some joints (by name).

        Raises:
            EgoposeError: A frame or joint does not exist.
        """
        t = np.arange(self.n_frames) if frames is None else find_frames(self.frames, frames, "pose sequence")
        j = np.arange(self.n_joints) if joints is None else self.skeleton.indices(joints)
        skeleton = self.skeleton if joints is None else self.skeleton.subset(joints)
        picked: dict[str, Any] = {name: None if a is None else a[t][:, j] for name, a in self._arrays().items()}
        return replace(self, skeleton=skeleton, frames=self.frames[t], times_s=self.times_s[t], **picked)

    def to_skeleton(self, other: Skeleton) -> PoseSequence:
        """The same motion on another joint set; joints that this one lacks are MISSING."""
        source = self.skeleton.map_to(other)
        absent = source < 0
        arrays: dict[str, Any] = {}
        for name, array in self._arrays().items():
            if array is not None:
                array = array[:, np.where(absent, 0, source)].copy()
                array[:, absent] = JointStatus.MISSING if name == "status" else np.nan
            arrays[name] = array
        return replace(self, skeleton=other, **arrays)

    def transformed(self, T_new_old: ArrayLike, space: str) -> PoseSequence:
        """The same joints in another frame.

        Args:
            T_new_old: (4, 4), or (T, 4, 4) for one transform per frame.
            space: Name of the new frame.
        """
        T = np.asarray(T_new_old, dtype=np.float64)
        covariance: Any = None
        if self.covariance is not None:
            R = T[..., None, :3, :3]
            covariance = R @ self.covariance.astype(np.float64) @ np.swapaxes(R, -1, -2)
        xyz: Any = rigid.transform_points(T, self.xyz)
        return replace(self, xyz=xyz, covariance=covariance, space=space)

    @property
    def axis_sigma(self) -> NDArray[np.float64] | None:
        """(T, J, 3) one standard deviation along each axis in metres, of covariance or sigma; None without either."""
        if self.covariance is not None:
            variance = np.diagonal(self.covariance, axis1=-2, axis2=-1).astype(np.float64)
            return np.asarray(np.sqrt(np.where(variance >= 0, variance, np.nan)))
        return None if self.sigma is None else np.repeat(self.sigma[..., None].astype(np.float64), 3, axis=-1)

    def replace(self, **changes: Any) -> PoseSequence:
        """A copy with some fields changed; give ``status=None`` to derive it again."""
        return replace(self, **changes)

    def status_counts(self) -> dict[str, int]:
        """How many joints have each status."""
        counts = np.bincount(np.asarray(self.status).ravel(), minlength=len(JointStatus))
        return {status.name.lower(): int(counts[status]) for status in JointStatus}

    def to_xarray(self) -> Any:
        """The positions as an ``xarray.Dataset`` with the dimension names of the movement package.

        Raises:
            MissingExtra: xarray is not installed.
        """
        from egopose.errors import require

        xarray = require("xarray", "xarray")
        dims = ("time", "space", "keypoint", "individual")
        position = np.swapaxes(self.xyz, 1, 2)[..., None]
        confidence = self.valid.astype(np.float32)[..., None]
        return xarray.Dataset(
            {"position": (dims, position), "confidence": (("time", "keypoint", "individual"), confidence)},
            coords={"time": self.times_s, "space": list("xyz"), "keypoint": list(self.skeleton.joints),
                    "individual": ["wearer"]},
            attrs={"fps": self.fps, "time_unit": "seconds", "source_software": "egopose"},
        )  # fmt: skip

    def _arrays(self) -> dict[str, Any]:
        return {"xyz": self.xyz, "sigma": self.sigma, "covariance": self.covariance, "status": self.status}

    def __repr__(self) -> str:
        share = float(self.valid.mean()) if self.xyz.size else 0.0
        return (
            f"PoseSequence({self.skeleton.name}, {self.n_frames} frames, {100 * share:.0f}% of joints known, "
            f"{self.space})"
        )
