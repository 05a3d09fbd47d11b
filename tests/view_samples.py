"""Sequences with every status, error bars, gaps and hostile names, for the tests of the views."""

from __future__ import annotations

import numpy as np

from egopose.demo import walking_person
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import BODY17_HANDS, Skeleton
from egopose.trajectory import Trajectory

HOSTILE = "</script><img src=x onerror=alert(1)>&\"'`"


def pair(
    n: int = 90, *, fps: float = 30.0, seed: int = 0, covariance: bool = True, first: int = 100
) -> tuple[PoseSequence, PoseSequence]:
    """A noisy prediction with anisotropic error bars that are true, and its exact reference."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / fps
    truth = walking_person(t)
    J = truth.shape[1]
    A = 0.5 * rng.normal(size=(J, 3, 3)) + np.eye(3)
    C = A @ np.swapaxes(A, 1, 2)
    C *= 3 / np.trace(C, axis1=1, axis2=2)[:, None, None]
    sigma = rng.uniform(0.005, 0.02, (1, J)) * np.ones((n, 1)) + 0.005 * (1 + np.sin(2 * t))[:, None]
    C = C[None] * sigma[..., None, None] ** 2
    xyz = truth + (np.linalg.cholesky(C) @ rng.normal(size=(n, J, 3, 1)))[..., 0]
    status = np.zeros((n, J), dtype=np.uint8)
    for code in (JointStatus.TWO_VIEWS, JointStatus.LOW_ANGLE, JointStatus.BRIDGED):
        status[rng.random((n, J)) < 0.03] = code
    lost = rng.random((n, J)) < 0.02
    lost[n // 3 : n // 2, BODY17_HANDS.indices([j for j in BODY17_HANDS.joints if j.startswith("left_hand_")])] = True
    status[lost] = JointStatus.NO_CONSENSUS
    xyz[lost] = np.nan
    frames = np.arange(n) + first
    prediction = PoseSequence(
        BODY17_HANDS, frames, t, xyz, sigma=sigma, covariance=C if covariance else None, status=status,
        provenance={"source": HOSTILE},
    )  # fmt: skip
    return prediction, PoseSequence(BODY17_HANDS, frames, t, truth)


def head_path(pose: PoseSequence) -> Trajectory:
    """A head that turns above the origin, on the clock of a sequence."""
    t = pose.times_s
    T = np.tile(np.eye(4), (len(t), 1, 1))
    a = 0.5 * t
    T[:, :3, 0] = np.stack([-np.sin(a), np.cos(a), 0 * a], -1)
    T[:, :3, 1] = [0, 0, -1]
    T[:, :3, 2] = np.stack([-np.cos(a), -np.sin(a), 0 * a], -1)
    T[:, :3, 3] = np.stack([1.2 * np.cos(a), 1.2 * np.sin(a), 1.6 + 0 * a], -1)
    return Trajectory(t, T)


def hostile_skeleton() -> Skeleton:
    """Three joints whose names try to leave their place in a page."""
    return Skeleton(HOSTILE, (HOSTILE, "$x_1$ & <b>", 'left_"quote"'), ((0, 1), (1, 2)))
