"""Hands that something else than the network has found: lifted to metres, and merged with what the network says."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.lift import lift
from egopose.skeleton import BODY17_HANDS, HAND21

if TYPE_CHECKING:
    from egopose.detect.palm import FoundHand

Array = NDArray[np.float64]

SIDES = ("left", "right")
REACH_M = 1.2
"""A hand farther from the head camera than this is not the wearer's."""

CONFLICT = 12.0
"""Squared normalised distance (three degrees of freedom) from which two wrists contradict each other: p < 0.01."""

EXPECTED = 3.0
"""Mean of that distance where both covariances are right."""

_WRIST = HAND21.index("wrist")


@dataclass(frozen=True, eq=False)
class HandEstimates:
    """Hands of a clip in the head camera's frame, left then right.

    Attributes:
        xyz: (T, 2, 21, 3) float64 metres, NaN where no hand is known.
        covariance: (T, 2, 21, 3, 3) float64 square metres of each joint.
        relative: (T, 2, 21, 3, 3) float64 the same of the joints relative to the wrist.
        source: Named in the provenance of a prediction.
    """

    xyz: Array
    covariance: Array
    relative: Array
    source: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        shape = np.shape(self.xyz)
        if len(shape) != 4 or shape[1:] != (2, HAND21.n_joints, 3):
            raise EgoposeError(f"hands: joints have shape {shape}; expected (T, 2, 21, 3)")
        for name in ("covariance", "relative"):
            if np.shape(getattr(self, name)) != (*shape, 3):
                raise EgoposeError(f"hands: {name} has shape {np.shape(getattr(self, name))}; expected {(*shape, 3)}")

    @property
    def n_frames(self) -> int:
        """Number of frames."""
        return int(self.xyz.shape[0])

    @property
    def known(self) -> NDArray[np.bool_]:
        """(T, 2) whether there is a hand."""
        return np.asarray(np.isfinite(self.xyz[..., _WRIST, 0]))

    @staticmethod
    def empty(n: int, source: Mapping[str, Any] | None = None) -> HandEstimates:
        """No hands in n frames."""
        J = HAND21.n_joints
        nan = np.full((n, 2, J, 3, 3), np.nan)
        return HandEstimates(nan[..., 0].copy(), nan.copy(), nan, dict(source or {}))


def lift_found(
    frames: Sequence[Mapping[str, FoundHand]],
    *,
    template: ArrayLike | None = None,
    source: Mapping[str, Any] | None = None,
) -> HandEstimates:
    """Metric hands of what a hand tracker found in each frame.

    Args:
        frames: One mapping from side to hand per frame.
        template: (21, 3) a hand with the wearer's bone lengths; an average adult's by default.
        source: For provenance.
    """
    out = HandEstimates.empty(len(frames), source)
    at = [(t, i, found[side]) for t, found in enumerate(frames) for i, side in enumerate(SIDES) if side in found]
    if not at:
        return out
    hand = None if template is None else np.asarray(template, dtype=np.float64)
    xyz, own, relative = lift(
        np.stack([h.points for *_, h in at]), np.stack([h.depth for *_, h in at]),
        np.array([h.view.focal for *_, h in at]), template=hand,
    )  # fmt: skip
    R = np.stack([h.view.R_camera_view for *_, h in at])
    for k, (t, i, _) in enumerate(at):
        place(out, t, i, xyz[k] @ R[k].T, R[k] @ own[k] @ R[k].T, R[k] @ relative[k] @ R[k].T)
    return out


def place(out: HandEstimates, t: int, side: int, xyz: Array, covariance: Array, relative: Array) -> None:
    """Put one hand in; one out of the wearer's reach is left out."""
    if np.linalg.norm(xyz[_WRIST]) <= REACH_M and np.isfinite(xyz).all():
        out.xyz[t, side], out.covariance[t, side], out.relative[t, side] = xyz, covariance, relative


def merge(xyz: Array, covariance: Array, hands: HandEstimates) -> tuple[Array, Array, NDArray[np.bool_]]:
    """Weigh the network's hands and the found ones by their covariances.

    Wrist and wrist-relative joints are two independent Gaussian measurements each, so their precisions add. Where they
    lie farther apart than both covariances allow, the network, which learnt from rendered images, is believed less: its
    covariance grows until they are compatible (a Birge ratio charged to one side). Wrists that contradict each other
    leave a wider error bar as well, since the found one may be somebody else's.

    Args:
        xyz: (T, 59, 3) joints of the network in the camera's frame; NaN where it says nothing.
        covariance: (T, 59, 3, 3) of them.
        hands: Of the same frames.

    Returns:
        Joints and covariances with the hands merged in, and (T, 59) where something came from ``hands``.

    Raises:
        EgoposeError: The frames differ in number.
    """
    if hands.n_frames != xyz.shape[0]:
        raise EgoposeError(f"hands: {hands.n_frames} frames for a clip of {xyz.shape[0]}; expected one entry per frame")
    xyz, covariance = xyz.copy(), covariance.copy()
    changed = np.zeros(xyz.shape[:2], dtype=bool)
    for i, side in enumerate(SIDES):
        frames = np.flatnonzero(hands.known[:, i])
        if not frames.size:
            continue
        joints = BODY17_HANDS.indices([f"{side}_hand_{j}" for j in HAND21.joints])
        body = BODY17_HANDS.index(f"{side}_wrist")
        old, old_cov = xyz[frames][:, joints], covariance[frames][:, joints]
        new, new_cov, new_rel = hands.xyz[frames, i], hands.covariance[frames, i], hands.relative[frames, i]
        wrist, wrist_cov = _product(old[:, :1], old_cov[:, :1], new[:, :1], new_cov[:, :1])
        # the network's error of an offset is at most that of the joint itself
        offset, offset_cov = _product(old[:, 1:] - old[:, :1], old_cov[:, 1:], new[:, 1:] - new[:, :1], new_rel[:, 1:])
        xyz[np.ix_(frames, joints)] = np.concatenate([wrist, wrist + offset], axis=1)
        covariance[np.ix_(frames, joints)] = np.concatenate([wrist_cov, wrist_cov + offset_cov], axis=1)
        xyz[frames, body], covariance[frames, body] = wrist[:, 0], wrist_cov[:, 0]
        changed[np.ix_(frames, np.append(joints, body))] = True
    return xyz, covariance, changed


def _product(a: Array, A: Array, b: Array, B: Array) -> tuple[Array, Array]:
    """Means (T, J, 3) and covariances of two measurements a and b, a widened per T; b alone where a is not known."""
    tiny = 1e-10 * np.eye(3)
    known: NDArray[np.bool_] = np.asarray(np.isfinite(a).all(axis=-1) & np.isfinite(A).all(axis=(-2, -1)))
    A = np.where(known[..., None, None], A, np.eye(3)) + tiny
    B = B + tiny
    difference = np.where(known[..., None], a - b, 0.0)
    factor, distance = _widening(difference, A, B)
    A = factor[:, None, None, None] * A
    gain = B @ np.linalg.inv(A + B)
    mean = b + np.einsum("...ij,...j->...i", gain, difference)
    both = (B - gain @ B) * np.maximum(1.0, distance / CONFLICT)[:, None, None, None]
    both = np.where(known[..., None, None], both, B)
    return mean, 0.5 * (both + np.swapaxes(both, -1, -2))


def _widening(difference: Array, A: Array, B: Array) -> tuple[Array, Array]:
    """Factor (T,) on A, at least 1, at which the mean squared normalised distance is as expected, and that before."""
    whiten = np.linalg.inv(np.linalg.cholesky(B))
    spread, axes = np.linalg.eigh(whiten @ A @ np.swapaxes(whiten, -1, -2))
    square = np.einsum("...ji,...jk,...k->...i", axes, whiten, difference) ** 2

    def distance(factor: Array) -> Array:
        return np.asarray((square / (1 + factor[:, None, None] * spread)).sum(axis=-1).mean(axis=-1))

    before = distance(np.ones(len(square)))
    if (before <= EXPECTED).all():
        return np.ones(len(square)), before
    # it falls as the factor grows
    low, high = np.zeros(len(square)), np.full(len(square), np.log(1e8))
    for _ in range(40):
        middle = 0.5 * (low + high)
        far = distance(np.exp(middle)) > EXPECTED
        low, high = np.where(far, middle, low), np.where(far, high, middle)
    return np.where(before > EXPECTED, np.exp(high), 1.0), before
