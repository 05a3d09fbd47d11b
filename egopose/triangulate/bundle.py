"""Bundle adjustment: cameras, joints and clocks that fit the 2D joints best together.

Robust least squares on reprojection errors (Triggs et al., 2000) by Levenberg-Marquardt; the joints are eliminated by
the Schur complement, so the system that is solved has only the cameras' parameters. The gauge is fixed by a reference
camera and by the mean distance of the others from it. The clock of a camera is one more parameter: a camera that reads
``d`` frames late sees the joint where it was ``d`` frames before.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.camera import Camera
from egopose.triangulate.threshold import RAYLEIGH_MEDIAN

Array = NDArray[np.float64]

POSE = 6
# a thousandth of the rig's size weighs as much as a ten-pixel error
_GAUGE = 1e4
_STEPS = 40
_DAMPING = 1e-4
_ENOUGH = 1e-7


@dataclass(frozen=True, eq=False)
class Bundle:
    """An adjusted rig.

    Attributes:
        cameras: The V cameras.
        points: (N, 3) joints, metres.
        clocks: (V,) frames by which each camera reads late.
        focal: (V,) factors on the focal lengths.
        sd: (V, 6) standard deviations of turns (radians) and shifts (metres); zero for the reference.
        clock_sd: (V,) frames.
        residual_px: (V, N) distances, NaN where not used.
        sigma_px: Standard deviation of a coordinate, robust.
    """

    cameras: list[Camera]
    points: Array
    clocks: Array
    focal: Array
    sd: Array
    clock_sd: Array
    residual_px: Array
    sigma_px: float


@dataclass(frozen=True, eq=False)
class _State:
    """What changes during an adjustment: poses (V, 4, 4), joints (N, 3), clocks (V,) and focal factors (V,)."""

    T_world_camera: Array
    points: Array
    clocks: Array
    focal: Array


@dataclass(frozen=True, eq=False)
class _System:
    """The reduced system of the cameras, and what the joints' steps follow from."""

    S: Array
    rhs: Array
    C_inverse: Array
    b: Array
    W: Array

    def points_step(self, step: Array) -> Array:
        return np.einsum("nij,nj->ni", self.C_inverse, self.b - np.einsum("npi,p->ni", self.W, step))


class _Problem:
    """What stays the same during one adjustment."""

    def __init__(
        self, cameras: Sequence[Camera], ref: int, uv: Array, weight: Array, loss_px: float, focal: bool,
        velocity: Array | None,
    ) -> None:  # fmt: skip
        packed = [camera.packed() for camera in cameras]
        self.ref, self.loss, self.with_focal, self.with_clock = ref, loss_px, focal, velocity is not None
        self.models = np.array([code for code, _, _ in packed], dtype=np.int64)
        self.params = np.stack([params for _, params, _ in packed])
        self.uv = np.ascontiguousarray(np.nan_to_num(uv))
        self.weight = np.ascontiguousarray(np.where(np.isfinite(uv).all(-1), weight, 0.0))
        self.velocity = np.zeros((uv.shape[1], 3)) if velocity is None else np.ascontiguousarray(velocity)
        self.size = self._size(np.stack([camera.T_world_camera for camera in cameras]))[0]
        self.P = POSE + int(focal) + int(self.with_clock)

    def _size(self, T_world_camera: Array) -> tuple[float, Array]:
        """Root mean squared distance of the cameras from the reference, and its gradient by their centres."""
        centres = T_world_camera[:, :3, 3]
        arms = centres - centres[self.ref]
        size = float(np.sqrt((arms**2).sum(-1).mean()))
        return size, arms / (len(centres) * max(size, 1e-9))

    def _arguments(self, state: _State) -> tuple[Any, ...]:
        params = self.params.copy()
        params[:, :2] *= state.focal[:, None]
        T = np.ascontiguousarray(rigid.invert(state.T_world_camera)[:, :3])
        return (
            self.models, params, T, np.ascontiguousarray(state.points), self.velocity, state.clocks, self.uv,
            self.weight,
        )  # fmt: skip

    def cost(self, state: _State) -> float:
        from egopose.kernels import adjustment

        gauge = _GAUGE * (self._size(state.T_world_camera)[0] / self.size - 1)
        arguments: Any = (*self._arguments(state), self.loss)
        return float(adjustment.robust_cost(*arguments)) + gauge**2

    def free(self) -> NDArray[np.int64]:
        """Positions of the parameters that may change among (V, P) flattened."""
        free = np.ones((self.models.size, self.P), dtype=bool)
        free[self.ref, :POSE] = False
        if self.with_clock:
            free[self.ref, -1] = False
        return np.flatnonzero(free)

    def system(self, state: _State, damping: float) -> _System:
        from egopose.kernels import adjustment

        n, N = self.models.size * self.P, state.points.shape[0]
        made = _System(np.empty((n, n)), np.empty(n), np.empty((N, 3, 3)), np.empty((N, 3)), np.empty((N, n, 3)))
        arguments: Any = (
            *self._arguments(state), self.loss, self.with_focal, self.with_clock, damping,
            made.S, made.rhs, made.C_inverse, made.b, made.W,
        )  # fmt: skip
        adjustment.normal_equations(*arguments)
        size, arms = self._size(state.T_world_camera)
        gradient = np.zeros((self.models.size, self.P))
        gradient[:, 3:6] = _GAUGE / self.size * np.einsum("vi,vij->vj", arms, state.T_world_camera[:, :3, :3])
        g = gradient.ravel()
        return replace(made, S=made.S + np.outer(g, g), rhs=made.rhs - g * _GAUGE * (size / self.size - 1))

    def moved(self, state: _State, step: Array, points_step: Array) -> _State:
        step = step.reshape(-1, self.P)
        turn = rigid.make_transform(rigid.rotation_from_vector(step[:, :3]), step[:, 3:6])
        focal = state.focal * np.exp(np.clip(step[:, POSE], -0.2, 0.2)) if self.with_focal else state.focal
        clocks = state.clocks + step[:, -1] if self.with_clock else state.clocks
        return _State(state.T_world_camera @ turn, state.points + points_step, clocks, focal)

    def distances(self, state: _State) -> Array:
        """(V, N) residuals of the views that count, else NaN."""
        from egopose.kernels.projection import project_batch

        models, params, T, points, velocity, clocks, uv, weight = self._arguments(state)
        distance = np.full(weight.shape, np.nan)
        for v in range(models.size):
            local = (points - clocks[v] * velocity) @ T[v, :, :3].T + T[v, :, 3]
            pixel, ok = np.empty((len(points), 2)), np.empty(len(points), dtype=np.bool_)
            project_batch(models[v], params[v], np.ascontiguousarray(local), pixel, ok)
            distance[v] = np.where(ok & (weight[v] > 0), np.linalg.norm(pixel - uv[v], axis=-1), np.nan)
        return distance


def adjust(
    cameras: Sequence[Camera],
    ref: int,
    uv: Array,
    weight: Array,
    points: Array,
    *,
    loss_px: float,
    focal: bool = False,
    velocity: Array | None = None,
    clocks: Array | None = None,
    steps: int = _STEPS,
) -> Bundle:
    """Adjust cameras and joints so that robust reprojection errors are least.

    The loss of a distance r is ``2 s^2 (sqrt(1 + (r/s)^2) - 1)`` with ``s = loss_px``: quadratic near zero, linear far
    out.

    Args:
        cameras: V cameras; the pose of ``ref`` is held.
        ref: Index of the reference.
        uv: (V, N, 2) raw pixels.
        weight: (V, N) weights of the squared distances, 0 = not used.
        points: (N, 3) joints to start from, metres.
        loss_px: Where the loss turns from quadratic to linear.
        focal: Adjust one factor on the focal lengths of each camera.
        velocity: (N, 3) metres per frame; when given, the clocks of all cameras but the reference are adjusted.
        clocks: (V,) frames to start from.
        steps: Most steps.
    """
    problem = _Problem(cameras, ref, uv, weight, loss_px, focal, velocity)
    V, P = len(cameras), problem.P
    state = _State(
        np.stack([camera.T_world_camera for camera in cameras]), points, np.zeros(V) if clocks is None else clocks,
        np.ones(V),
    )  # fmt: skip
    free = problem.free()
    cost, damping = problem.cost(state), _DAMPING
    for _ in range(steps):
        improved = False
        for _ in range(6):
            system = problem.system(state, damping)
            step = np.zeros(V * P)
            step[free] = _solve(system.S[np.ix_(free, free)], system.rhs[free])
            trial = problem.moved(state, step, system.points_step(step))
            after = problem.cost(trial)
            if after < cost:
                improved = True
                break
            damping = max(damping * 10, 1e-6)
        if not improved:
            break
        small = cost - after < _ENOUGH * cost
        state, cost, damping = trial, after, damping * 0.2
        if small:
            break
    distance = problem.distances(state)
    used = np.isfinite(distance)
    # each joint spends three of its coordinates; the median is blind to the heavy tail that the loss tames
    count = used.sum(0)
    spent = np.sqrt(2.0 * count / np.maximum(2.0 * count - 3.0, 1.0))
    sigma = float(np.median((distance * spent)[used]) / RAYLEIGH_MEDIAN) if used.any() else np.nan
    values, vectors = np.linalg.eigh(problem.system(state, 0.0).S[np.ix_(free, free)])
    inverse = 1.0 / np.maximum(values, 1e-12 * max(float(values.max()), 1e-30))
    flat = np.zeros(V * P)
    flat[free] = sigma * np.sqrt(np.einsum("ik,k,ik->i", vectors, inverse, vectors))
    spread = flat.reshape(V, P)
    refined = [
        with_focal(camera, float(factor)).moved(T)
        for camera, T, factor in zip(cameras, state.T_world_camera, state.focal)
    ]
    return Bundle(
        refined, state.points, state.clocks, state.focal, spread[:, :POSE],
        spread[:, -1] if velocity is not None else np.zeros(V), distance, sigma,
    )  # fmt: skip


def with_focal(camera: Camera, factor: float) -> Camera:
    """The camera with its focal lengths multiplied."""
    if factor == 1.0:
        return camera
    params = camera.params.copy()
    params[:2] *= factor
    return replace(camera, params=params)


def _solve(S: Array, rhs: Array) -> Array:
    try:
        return np.asarray(np.linalg.solve(S, rhs), dtype=np.float64)
    except np.linalg.LinAlgError:
        return np.asarray(np.linalg.lstsq(S, rhs, rcond=1e-12)[0], dtype=np.float64)
