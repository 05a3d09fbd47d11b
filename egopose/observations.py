"""2D keypoints of several views in time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Observations2D:
    """2D joints of one person in V views over T frames.

    Attributes:
        skeleton: The J joints.
        views: V names; they match camera names of a rig.
        frames: (T,) int64 frame numbers, strictly increasing.
        uv_px: (V, T, J, 2) float32 pixels (centres at integers), NaN where a joint is not seen.
        score: (V, T, J) float32 in [0, 1], or None when the source gives none.
        fps: Frames per second of the frame numbers, or None when unknown.
        undistorted: The pixels already belong to undistorted images; they must not meet raw cameras.
        sizes: Image (width, height) of each view where known.
        provenance: Where the values come from.
    """

    skeleton: Skeleton
    views: tuple[str, ...]
    frames: NDArray[np.int64]
    uv_px: NDArray[np.float32]
    score: NDArray[np.float32] | None = None
    fps: float | None = None
    undistorted: bool = False
    sizes: tuple[tuple[int, int] | None, ...] = ()
    provenance: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        set_ = object.__setattr__
        set_(self, "views", tuple(str(v) for v in self.views))
        set_(self, "frames", check_frames(self.frames, "observations"))
        uv = np.asarray(self.uv_px, dtype=np.float32)
        shape = (len(self.views), self.frames.size, self.skeleton.n_joints)
        if len(set(self.views)) != len(self.views):
            raise EgoposeError(f"observations: view names repeat: {', '.join(self.views)}")
        if uv.shape != (*shape, 2):
            raise EgoposeError(
                f"observations: pixels have shape {uv.shape}; expected {(*shape, 2)} "
                f"(views, frames, joints of {self.skeleton.name!r}, 2)"
            )
        # a half-missing or infinite pixel is no observation; a long take is copied only when it has one
        if any(_half_missing(view) for view in uv):
            uv = np.where(np.isfinite(uv).all(axis=-1, keepdims=True), uv, np.float32(np.nan))
        set_(self, "uv_px", uv)
        if self.score is not None:
            score = np.asarray(self.score, dtype=np.float32)
            if score.shape != shape:
                raise EgoposeError(f"observations: scores have shape {score.shape}; expected {shape}")
            finite = score[np.isfinite(score)]
            if finite.size and (finite.min() < 0):
                raise EgoposeError(
                    f"observations: a score of {finite.min():.3g} was found; scores must not be negative"
                )
            set_(self, "score", np.where(np.isfinite(score), score, np.float32(0.0)))
        if self.fps is not None and not (np.isfinite(self.fps) and self.fps > 0):
            raise EgoposeError(f"observations: fps is {self.fps}; expected a positive number or None")
        sizes = tuple(self.sizes) or (None,) * len(self.views)
        if len(sizes) != len(self.views):
            raise EgoposeError(f"observations: {len(sizes)} image sizes for {len(self.views)} views")
        if any(size is not None and min(size) < 1 for size in sizes):
            raise EgoposeError(f"observations: image sizes {sizes}; expected positive (width, height) in pixels")
        set_(self, "sizes", sizes)

    @property
    def n_views(self) -> int:
        """Number of views."""
        return len(self.views)

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return self.frames.size

    @property
    def seen(self) -> NDArray[np.bool_]:
        """(V, T, J) true where a joint has a pixel."""
        return np.isfinite(self.uv_px[..., 0])

    def select(
        self,
        *,
        views: Sequence[str] | None = None,
        frames: ArrayLike | None = None,
        joints: Sequence[str] | None = None,
    ) -> Observations2D:
        """A part of the observations.

        Args:
            views: Names to keep, in the order given.
            frames: Frame numbers to keep (not positions).
            joints: Joint names to keep, in the order given.

        Raises:
            EgoposeError: A name or frame does not exist.
        """
        v = np.arange(self.n_views)
        if views is not None:
            missing = [name for name in views if name not in self.views]
            if missing:
                raise EgoposeError(f"observations: no view {missing[0]!r}; there are: {', '.join(self.views)}")
            v = np.array([self.views.index(name) for name in views], dtype=np.int64)
        t = np.arange(self.n_frames) if frames is None else find_frames(self.frames, frames, "observations")
        j = np.arange(self.skeleton.n_joints) if joints is None else self.skeleton.indices(joints)
        return replace(
            self,
            views=tuple(self.views[i] for i in v),
            frames=self.frames[t],
            skeleton=self.skeleton if joints is None else self.skeleton.subset(joints),
            uv_px=self.uv_px[v][:, t][:, :, j],
            score=None if self.score is None else self.score[v][:, t][:, :, j],
            sizes=tuple(self.sizes[i] for i in v),
        )

    def to_skeleton(self, other: Skeleton) -> Observations2D:
        """The same views on another joint set; joints that this one lacks are unseen."""
        source = self.skeleton.map_to(other)
        absent = source < 0
        uv = self.uv_px[:, :, np.where(absent, 0, source)].copy()
        uv[:, :, absent] = np.nan
        score = None
        if self.score is not None:
            score = self.score[:, :, np.where(absent, 0, source)].copy()
            score[:, :, absent] = 0
        return replace(self, skeleton=other, uv_px=uv, score=score)

    def replace(self, **changes: Any) -> Observations2D:
        """A copy with some fields changed."""
        return replace(self, **changes)

    def __repr__(self) -> str:
        share = float(self.seen.mean()) if self.uv_px.size else 0.0
        return (
            f"Observations2D({self.skeleton.name}, {self.n_views} views, {self.n_frames} frames, "
            f"{100 * share:.0f}% seen)"
        )


def _half_missing(uv: NDArray[np.float32]) -> bool:
    nothing = np.isnan(uv)
    return bool((nothing[..., 0] != nothing[..., 1]).any() or np.isinf(uv).any())


def check_frames(frames: ArrayLike, where: str) -> NDArray[np.int64]:
    """Frame numbers as a strictly increasing (T,) int64 array.

    Raises:
        EgoposeError: Not one-dimensional whole numbers, or not increasing.
    """
    values = np.asarray(frames)
    if values.ndim != 1:
        raise EgoposeError(f"{where}: frame numbers have shape {values.shape}; expected (T,)")
    if values.size and values.dtype.kind not in "iu":
        as_float = np.asarray(values, dtype=np.float64)
        if not (np.isfinite(as_float).all() and (as_float == np.round(as_float)).all()):
            raise EgoposeError(f"{where}: frame numbers must be whole numbers")
    result = values.astype(np.int64)
    back = np.flatnonzero(np.diff(result) <= 0)
    if back.size:
        i = int(back[0])
        raise EgoposeError(f"{where}: frame numbers must increase, but {result[i + 1]} follows {result[i]}")
    return result


def find_frames(frames: NDArray[np.int64], wanted: ArrayLike, where: str) -> NDArray[np.int64]:
    """Positions of wanted frame numbers.

    Raises:
        EgoposeError: A frame is not there.
    """
    wanted = np.atleast_1d(np.asarray(wanted, dtype=np.int64))
    position = np.searchsorted(frames, wanted)
    position = np.minimum(position, max(frames.size - 1, 0))
    absent = np.ones(wanted.size, dtype=bool) if frames.size == 0 else frames[position] != wanted
    if absent.any():
        span = f"{frames[0]} to {frames[-1]}" if frames.size else "none"
        raise EgoposeError(f"{where}: frame {wanted[absent][0]} is not there (frames: {span})")
    return position
