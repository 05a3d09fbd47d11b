"""2D detections of several people: what a detector saw in each image before anybody knows who is who."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.observations import Observations2D
from egopose.skeleton import Skeleton


@dataclass(frozen=True, eq=False)
class Candidates2D:
    """Up to K detections per view and frame; their order says nothing.

    Attributes:
        layers: K observations of the same skeleton, views and frames. Layer k holds the k-th detection of every image;
            all NaN where an image has fewer.
    """

    layers: tuple[Observations2D, ...]

    def __post_init__(self) -> None:
        layers = tuple(self.layers)
        if not layers:
            raise EgoposeError("candidates: no layer; expected at least one detection per image")
        first = layers[0]
        for k, layer in enumerate(layers):
            if not isinstance(layer, Observations2D):
                raise EgoposeError(f"candidates: layer {k} is a {type(layer).__name__}; expected Observations2D")
            same = (
                layer.skeleton == first.skeleton
                and layer.views == first.views
                and np.array_equal(layer.frames, first.frames)
                and layer.undistorted == first.undistorted
                and layer.sizes == first.sizes
                and (layer.score is None) == (first.score is None)
            )
            if not same:
                raise EgoposeError(f"candidates: layer {k} has another skeleton, views, frames or images than layer 0")
        object.__setattr__(self, "layers", layers)

    @classmethod
    def from_arrays(
        cls,
        skeleton: Skeleton,
        views: Sequence[str],
        frames: ArrayLike,
        uv_px: NDArray[np.floating],
        score: NDArray[np.floating] | None = None,
        **fields: Any,
    ) -> Candidates2D:
        """Candidates from whole arrays.

        Args:
            skeleton: The J joints.
            views: V names.
            frames: (T,) frame numbers.
            uv_px: (V, T, K, J, 2) pixels, NaN = unseen.
            score: (V, T, K, J) or None.
            fields: Further fields of :class:`egopose.Observations2D`.

        Raises:
            EgoposeError: The shapes disagree.
        """
        if uv_px.ndim != 5:
            raise EgoposeError(
                f"candidates: pixels have shape {uv_px.shape}; expected (views, frames, people, joints, 2)"
            )
        layers = [
            Observations2D(
                skeleton, tuple(views), np.asarray(frames), uv_px[:, :, k], None if score is None else score[:, :, k],
                **fields,
            )
            for k in range(uv_px.shape[2])
        ]  # fmt: skip
        return cls(tuple(layers))

    @property
    def skeleton(self) -> Skeleton:
        """The joints."""
        return self.layers[0].skeleton

    @property
    def views(self) -> tuple[str, ...]:
        """View names."""
        return self.layers[0].views

    @property
    def frames(self) -> NDArray[np.int64]:
        """(T,) frame numbers."""
        return self.layers[0].frames

    @property
    def fps(self) -> float | None:
        """Frames per second, or None when unknown."""
        return self.layers[0].fps

    @property
    def undistorted(self) -> bool:
        """Whether the pixels belong to undistorted images."""
        return self.layers[0].undistorted

    @property
    def sizes(self) -> tuple[tuple[int, int] | None, ...]:
        """Image (width, height) of each view where known."""
        return self.layers[0].sizes

    @property
    def provenance(self) -> Mapping[str, Any]:
        """Where the values come from."""
        return self.layers[0].provenance

    @property
    def n_people(self) -> int:
        """K, the most detections in one image."""
        return len(self.layers)

    @property
    def counts(self) -> NDArray[np.int64]:
        """(V, T) detections in each image."""
        return np.sum([layer.seen.any(-1) for layer in self.layers], axis=0)

    def select(
        self,
        *,
        views: Sequence[str] | None = None,
        frames: ArrayLike | None = None,
        joints: Sequence[str] | None = None,
    ) -> Candidates2D:
        """A part; see :meth:`egopose.Observations2D.select`."""
        return Candidates2D(tuple(layer.select(views=views, frames=frames, joints=joints) for layer in self.layers))

    def to_skeleton(self, other: Skeleton) -> Candidates2D:
        """The same detections on another joint set; joints that this one lacks are unseen."""
        return Candidates2D(tuple(layer.to_skeleton(other) for layer in self.layers))

    def replace(self, **changes: Any) -> Candidates2D:
        """A copy with fields changed that all layers share, such as ``fps`` or ``undistorted``."""
        return Candidates2D(tuple(layer.replace(**changes) for layer in self.layers))

    def __repr__(self) -> str:
        return (
            f"Candidates2D({self.skeleton.name}, {len(self.views)} views, {self.frames.size} frames, "
            f"up to {self.n_people} people)"
        )
