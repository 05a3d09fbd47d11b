"""A posable human body: the mesh of ``egopose/assets/body.npz``, its shapes, its bones and the joints of the package.

In the rest pose every bone has the identity as its rotation; a pose is one rotation per bone, rest to world.
"""

from __future__ import annotations

import functools
import os
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.hand_points import clicked_hand
from egopose.npz import read_npz
from egopose.skeleton import BODY17_HANDS, FINGERS, HAND21

Array = NDArray[np.float64]

_KEYS = (
    "vertices", "shape", "points", "point_shape", "point_names", "parents", "triangles", "bones", "weights",
    "mark_names", "mark_vertices", "mark_counts",
)  # fmt: skip
_LIMBS = {"shoulder": "upper_arm", "elbow": "forearm", "wrist": "hand", "hip": "thigh", "knee": "shin", "ankle": "foot"}


def _sources() -> tuple[str, ...]:
    """For each joint of ``BODY17_HANDS`` the bone, eye or landmark that it is taken from."""
    out = []
    for joint in BODY17_HANDS.joints:
        side, _, rest = joint.partition("_")
        if rest.startswith("hand_"):
            part = rest.removeprefix("hand_")
            if part == "wrist":
                out.append(f"{side}_hand")
            else:
                out.append(f"{side}_{part[:-2]}_tip" if part.endswith("_4") else f"{side}_{part}")
        else:
            out.append(f"{side}_{_LIMBS[rest]}" if rest in _LIMBS else joint)
    return tuple(out)


SOURCES = _sources()


@dataclass(frozen=True, eq=False)
class BodyModel:
    """The asset.

    Attributes:
        names: (J,) bones, parents first; parents: (J,) int64, -1 for the root.
        vertices: (V, 3) mean rest mesh; shape: (K, V, 3) components per standard deviation.
        points: (J + 2, 3) rest joints of the bones, then the two eyes; point_shape: (K, J + 2, 3).
        triangles: (F, 3) int64, counter-clockwise from outside.
        bones: (V, 4) int64 and weights: (V, 4) float64 of the skinning.
        marks: Landmark name to the vertices whose mean it is.
    """

    names: tuple[str, ...]
    parents: NDArray[np.int64]
    vertices: Array
    shape: Array
    points: Array
    point_shape: Array
    triangles: NDArray[np.int64]
    bones: NDArray[np.int64]
    weights: Array
    marks: dict[str, NDArray[np.int64]]

    @property
    def n_shapes(self) -> int:
        """Number of shape components."""
        return len(self.shape)

    def index(self, bone: str) -> int:
        """Number of a bone.

        Raises:
            EgoposeError: There is none of that name.
        """
        try:
            return self.names.index(bone)
        except ValueError:
            raise EgoposeError(f"the body has no bone {bone!r}; it has: {', '.join(self.names)}") from None

    def shaped(self, coefficients: ArrayLike | None = None) -> Body:
        """A body of some shape.

        Args:
            coefficients: Up to ``n_shapes`` numbers, standard deviations; None is the mean.

        Raises:
            EgoposeError: Too many numbers, or not finite.
        """
        given = np.zeros(0) if coefficients is None else np.asarray(coefficients, dtype=np.float64)
        if given.ndim != 1 or given.size > self.n_shapes or not np.isfinite(given).all():
            raise EgoposeError(f"shape has {given.shape} values; expected up to {self.n_shapes} finite numbers")
        vertices = self.vertices + np.tensordot(given, self.shape[: given.size], 1)
        points = self.points + np.tensordot(given, self.point_shape[: given.size], 1)
        low = vertices[:, 2].min()
        return Body(self, vertices - [0, 0, low], points - [0, 0, low])


@dataclass(frozen=True, eq=False)
class Body:
    """A body of one shape at rest: vertices (V, 3), joints of the bones and the eyes (J + 2, 3)."""

    model: BodyModel
    vertices: Array
    points: Array

    @property
    def joints(self) -> Array:
        """(J, 3) rest joints of the bones."""
        return self.points[: len(self.model.names)]

    def at(self, name: str) -> Array:
        """Rest place (3,) of a bone's joint, an eye or a landmark."""
        if name in self.model.names:
            return self.points[self.model.index(name)]
        if name in ("left_eye", "right_eye"):
            return self.points[len(self.model.names) + (name == "right_eye")]
        return self.vertices[self.model.marks[name]].mean(axis=0)

    def posed_joints(self, R: ArrayLike, root: ArrayLike) -> Array:
        """Places (J, 3) of the bones' joints.

        Args:
            R: (J, 3, 3) rotations, rest to world.
            root: (3,) place of the root joint, metres.

        Raises:
            EgoposeError: Wrong shape or not finite.
        """
        from egopose.kernels.skinning import chain_joints

        R, root = self._checked(R, root)
        posed = np.empty_like(self.joints)
        chain_joints(self.model.parents, np.ascontiguousarray(self.joints), R, root, posed)
        return posed

    def pose(self, R: ArrayLike, root: ArrayLike) -> Posed:
        """The body in a pose; arguments as :meth:`posed_joints`."""
        from egopose.kernels.skinning import skin

        R, root = self._checked(R, root)
        posed = self.posed_joints(R, root)
        out = np.empty_like(self.vertices)
        rest = np.ascontiguousarray(self.joints)
        skin(self.vertices, self.model.bones, self.model.weights, rest, R, posed, out)
        return Posed(self, out, R, posed)

    def _checked(self, R: ArrayLike, root: ArrayLike) -> tuple[Array, Array]:
        R, root = np.ascontiguousarray(R, dtype=np.float64), np.ascontiguousarray(root, dtype=np.float64)
        n = len(self.model.names)
        if R.shape != (n, 3, 3) or root.shape != (3,):
            raise EgoposeError(f"pose has shapes {R.shape} and {root.shape}; expected ({n}, 3, 3) and (3,)")
        if not (np.isfinite(R).all() and np.isfinite(root).all()):
            raise EgoposeError("pose holds a value that is not finite; expected rotations and a place in metres")
        return R, root


@dataclass(frozen=True, eq=False)
class Posed:
    """A body in a pose: vertices (V, 3) and bone joints (J, 3) in the world, rotations (J, 3, 3)."""

    body: Body
    vertices: Array
    R: Array
    bone_joints: Array

    def joints(self) -> Array:
        """The joints of the package, (59, 3) in the order of ``BODY17_HANDS``, world metres.

        Of the body where its bones begin, of the hands where annotators click (:mod:`egopose.hand_points`); a body's
        wrists are those of its hands.
        """
        out = self.rig_joints()
        for side in ("left", "right"):
            mine = BODY17_HANDS.indices([f"{side}_hand_{joint}" for joint in HAND21.joints])
            out[mine] = clicked_hand(out[mine], left=side == "left")
            out[BODY17_HANDS.index(f"{side}_wrist")] = out[BODY17_HANDS.index(f"{side}_hand_wrist")]
        return out

    def rig_joints(self) -> Array:
        """Where the rig's bones begin and its fingers end, (59, 3) in the order of ``BODY17_HANDS``, world metres."""
        model = self.body.model
        head = model.index("head")
        out = np.empty((len(SOURCES), 3))
        for i, source in enumerate(SOURCES):
            if source in model.names:
                out[i] = self.bone_joints[model.index(source)]
            elif source in model.marks:
                out[i] = self.vertices[model.marks[source]].mean(axis=0)
            else:
                out[i] = self.bone_joints[head] + self.R[head] @ (self.body.at(source) - self.body.at("head"))
        return out


@functools.cache
def _packaged() -> BodyModel:
    with resources.as_file(resources.files("egopose") / "assets" / "body.npz") as path:
        return load_body(path)


def _check_arrays(data: dict[str, NDArray[Any]], path: Path) -> None:
    """Refuse arrays of a body that do not belong together.

    Raises:
        EgoposeError: An array of another type or shape, an index of nothing, a vertex without weight.
    """
    V, P = (data[key].shape[0] if data[key].ndim else 0 for key in ("vertices", "points"))
    K, J, M = data["shape"].shape[0] if data["shape"].ndim else 0, P - 2, data["mark_vertices"].size
    shapes = {
        "parents": ("i", (J,)), "vertices": ("f", (V, 3)), "shape": ("if", (K, V, 3)), "points": ("f", (P, 3)),
        "point_shape": ("if", (K, P, 3)), "triangles": ("iu", (data["triangles"].size // 3, 3)),
        "bones": ("iu", (V, 4)), "weights": ("iuf", (V, 4)), "mark_vertices": ("iu", (M,)),
        "mark_counts": ("iu", data["mark_names"].shape),
        "point_names": ("U", (P,)), "mark_names": ("U", (data["mark_names"].size,)),
    }  # fmt: skip
    for key, (kinds, shape) in shapes.items():
        found = data[key]
        if found.dtype.kind not in kinds or found.shape != shape:
            raise EgoposeError(f"{path}: {key} holds {found.dtype} {found.shape}; expected {shape} for this body")
        if found.dtype.kind == "f" and not np.isfinite(found).all():
            raise EgoposeError(f"{path}: {key} is not finite")
    below = {"triangles": V, "bones": J, "mark_vertices": V}
    for key, limit in below.items():
        if data[key].size and not (data[key].min() >= 0 and data[key].max() < limit):
            raise EgoposeError(f"{path}: {key} points to {data[key].max()}, of {limit}")
    parents = data["parents"].astype(np.int64)
    if J < 1 or parents[0] != -1 or not ((parents[1:] >= 0) & (parents[1:] < np.arange(1, J))).all():
        raise EgoposeError(f"{path}: parents do not come before their children")
    if data["mark_counts"].astype(np.int64).sum() != M or (data["mark_counts"] < 1).any():
        raise EgoposeError(f"{path}: mark_counts do not divide {M} mark_vertices")
    weights = data["weights"].astype(np.float64)
    if (weights < 0).any() or not (weights.sum(axis=1) > 0).all():
        raise EgoposeError(f"{path}: a vertex hangs on no bone")


def load_body(path: str | os.PathLike[str] | None = None) -> BodyModel:
    """Read the body.

    Args:
        path: Another file of the same layout; None is the one that comes with the package.

    Raises:
        EgoposeError: The file is absent, damaged, or lacks an array.
    """
    if path is None:
        return _packaged()
    path = Path(path)
    data = read_npz(path, _KEYS, what="a body")
    _check_arrays(data, path)
    names = tuple(str(name) for name in data["point_names"])
    cuts = np.split(data["mark_vertices"].astype(np.int64), np.cumsum(data["mark_counts"])[:-1])
    marks = {str(name): cut for name, cut in zip(data["mark_names"], cuts)}
    known = {*names, *marks}
    lost = [source for source in SOURCES if source not in known]
    if lost or names[-2:] != ("left_eye", "right_eye"):
        raise EgoposeError(f"{path}: lacks {lost[0] if lost else 'the eyes'}, which joints are taken from")
    weights = data["weights"].astype(np.float64)
    return BodyModel(
        names[:-2],
        data["parents"].astype(np.int64),
        data["vertices"].astype(np.float64),
        data["shape"].astype(np.float64),
        data["points"].astype(np.float64),
        data["point_shape"].astype(np.float64),
        data["triangles"].astype(np.int64),
        data["bones"].astype(np.int64),
        weights / weights.sum(axis=1, keepdims=True),
        marks,
    )


FINGER_BONES = {
    side: tuple(tuple(f"{side}_{finger}_{k}" for k in range(1, 4)) for finger in FINGERS) for side in ("left", "right")
}
"""Bones of each hand, thumb to pinky, base to end."""
