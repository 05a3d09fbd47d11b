"""A solve over the take: what neighbours in time and along the body say about each joint.

Each frame's triangulated joint is a Gaussian measurement. Three things are added: bone lengths of the person,
estimated from the take (constancy within a frame, exact belief propagation on the skeleton's tree); single views, where
fewer than two agree (a ray constrains two of three directions); and a motion prior, white noise in acceleration or jerk
whose density is the one that foretells left-out measurements best, so a fast wrist is smoothed less than a hip.
The smoother returns the exact posterior covariance of that model, from which the error bars follow and which says how
far a gap may be bridged.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera, Rig
from egopose.config import Config
from egopose.observations import Observations2D
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import Skeleton
from egopose.triangulate.hands import hand_sides, impossible_joints

Array = NDArray[np.float64]

# densities of white acceleration (order 2, m^2/s^3) and white jerk (order 3, m^2/s^5): from a held pose to a blow
_AGILITY = {2: 10.0 ** np.arange(-2.0, 4.01, 0.5), 3: 10.0 ** np.arange(-1.0, 7.01, 0.5)}
_NOISE = np.array([1.0, 2.0, 4.0, 8.0, 16.0])
_GATE = 4.0
_LONGEST_S = 2.0


class SmoothingConfig(Config, frozen=True, kw_only=True):
    """Settings of the solve over time.

    Attributes:
        bones: Use bone-length constancy.
        single_views: Let single views constrain joints that could not be triangulated.
        hand_limits: Reject triangulated hand joints that no hand can reach.
        rounds: Robust re-weightings of measurements far from the smooth path.
        bridge_sigma_m: A joint without a triangulated point is given while its standard deviation stays below this.
        bridge_sigma_hand_m: The same for hand joints.
    """

    bones: bool = True
    single_views: bool = True
    hand_limits: bool = True
    rounds: int = 2
    bridge_sigma_m: float = 0.05
    bridge_sigma_hand_m: float = 0.02


@dataclass(frozen=True, eq=False)
class BoneLengths:
    """Bone lengths of one person.

    Attributes:
        parent: (J,) parent joint, -1 for roots.
        order: (J,) parents before children.
        length: (J,) metres to the parent, NaN where it could not be estimated.
        sd: (J,) metres, how much the length truly varies (a torso bends, a shank does not).
        frames: (J,) frames it was estimated from.
    """

    parent: NDArray[np.int64]
    order: NDArray[np.int64]
    length: Array
    sd: Array
    frames: NDArray[np.int64]


def tree_order(parent: NDArray[np.int64]) -> NDArray[np.int64]:
    """Joints with parents before children."""
    depth = np.zeros(parent.size, dtype=np.int64)
    for j in range(parent.size):
        k = j
        while parent[k] >= 0:
            depth[j] += 1
            k = int(parent[k])
    return np.argsort(depth, kind="stable")


def estimate_bones(xyz: Array, covariance: Array, good: NDArray[np.bool_], skeleton: Skeleton) -> BoneLengths:
    """Median bone lengths over frames where both ends are well known.

    The true variation is what the spread shows beyond the measurement noise along the bone, at least 0.5 % or 0.5 mm.

    Args:
        xyz: (T, J, 3) metres.
        covariance: (T, J, 3, 3).
        good: (T, J) joints to trust.
        skeleton: The J joints.
    """
    parent = skeleton.parents
    J = parent.size
    length, sd, frames = np.full(J, np.nan), np.full(J, np.nan), np.zeros(J, dtype=np.int64)
    for j in range(J):
        p = int(parent[j])
        if p < 0:
            continue
        both = good[:, j] & good[:, p]
        frames[j] = both.sum()
        if frames[j] < 15:
            continue
        bone = xyz[both, j] - xyz[both, p]
        samples = np.linalg.norm(bone, axis=-1)
        centre = np.median(samples)
        spread = 1.4826 * np.median(np.abs(samples - centre))
        direction = bone / np.maximum(samples, 1e-9)[:, None]
        noise = np.einsum("ni,nij,nj->n", direction, covariance[both, j] + covariance[both, p], direction)
        floor = max(0.005 * centre, 0.0005)
        length[j], sd[j] = centre, np.sqrt(max(spread**2 - np.median(noise), floor**2))
    return BoneLengths(parent, tree_order(parent), length, sd, frames)


def smooth_take(
    rig: Rig,
    observations: Observations2D,
    raw: PoseSequence,
    sigma_px: float,
    config: SmoothingConfig | None = None,
    given: Mapping[str, Any] | None = None,
) -> tuple[PoseSequence, dict[str, Any]]:
    """Smooth a triangulated take.

    Args:
        rig: The cameras, world frame.
        observations: What was triangulated: same frames and skeleton as ``raw``; views name cameras of the rig.
        raw: Per-frame triangulation with covariances.
        sigma_px: Standard deviation of a good 2D joint, pixels.
        config: Settings.
        given: What was estimated on another part of the take; nothing is estimated again then.

    Returns:
        The smoothed sequence (statuses kept, BRIDGED where only neighbours speak) and what was estimated: bone lengths,
        agility and noise factor per joint, counts.
    """
    from egopose.kernels import bones, smoothing

    settings = config or SmoothingConfig()
    skeleton = raw.skeleton
    assert raw.covariance is not None
    assert raw.status is not None
    mean = raw.xyz.astype(np.float64)
    centre = np.nanmean(mean, axis=(0, 1)) if np.isfinite(mean).any() else np.zeros(3)
    mean -= centre
    covariance = raw.covariance.astype(np.float64)
    notes: dict[str, Any] = {}
    if settings.hand_limits:
        bad = impossible_joints(mean, skeleton)
        mean[bad] = np.nan
        notes["impossible_hand_joints"] = int(bad.sum())
    known = np.isfinite(mean[..., 0])
    info = np.zeros_like(covariance)
    info[known] = _invert(covariance[known])
    # nothing is known across a longer hole, and the motion prior's variance would outgrow the arithmetic
    times = np.concatenate([raw.times_s[:1], raw.times_s[0] + np.cumsum(np.minimum(np.diff(raw.times_s), _LONGEST_S))])
    times = raw.times_s if np.diff(raw.times_s, prepend=raw.times_s[0]).max() <= _LONGEST_S else times
    order, agility, noise = _estimate_motion(times, mean, info) if given is None else _given_motion(given, skeleton)
    notes["motion_order"] = order
    notes["agility"] = dict(zip(skeleton.joints, agility.tolist()))
    notes["noise_factor"] = dict(zip(skeleton.joints, noise.tolist()))
    info /= noise[:, None, None]
    smooth, smooth_covariance, weight = _run(smoothing, times, mean, info, agility, order, settings.rounds)
    if settings.single_views:
        added = _add_views(rig, observations, centre, mean, info, smooth, smooth_covariance, sigma_px, noise)
        notes["joints_from_single_views"] = added
    if settings.bones and skeleton.bones:
        good = known & (raw.status == JointStatus.OK) & (weight > 0.5)
        lengths = (
            estimate_bones(smooth, smooth_covariance, good, skeleton)
            if given is None
            else _given_bones(given, skeleton)
        )
        notes["bone_length_m"] = {
            f"{skeleton.joints[int(p)]}-{skeleton.joints[j]}": [float(lengths.length[j]), float(lengths.sd[j])]
            for j, p in enumerate(lengths.parent)
            if np.isfinite(lengths.length[j])
        }
        # a rejected measurement must not speak through the bones either
        info *= np.where(np.isfinite(mean[..., 0]), _full(weight, mean), 0.0)[..., None, None]
        bones.bones_in_frames(
            mean, info, smooth, lengths.order, lengths.parent, lengths.length, lengths.sd, 0, len(times)
        )
    smooth, smooth_covariance, weight = _run(smoothing, times, mean, info, agility, order, settings.rounds)
    smooth_covariance = error_covariance(smooth_covariance, info * _full(weight, mean)[..., None, None], order)
    return _result(raw, smooth + centre, smooth_covariance, known & (weight > 0.05), skeleton, settings), notes


def error_covariance(posterior: Array, info: Array, order: int) -> Array:
    """What the error of a smoothed joint is on average, from the posterior covariance of the motion prior.

    The posterior is noise let through (V) plus the prior's idea of what smoothing takes away. For white noise in the
    derivative m, V is ``1 - 1/(2m)`` of it. An agility that foretells left-out measurements best lies where noise and
    bias balance: for motion smoother than the prior the squared bias is then ``V / (4m)``, not the ``V / (2m - 1)``
    that the prior expects, so the posterior is too wide by a known share (Wahba, 1983; Nychka, 1988). Where a
    measurement alone decides, nothing was smoothed and nothing is taken off. Motion for which white acceleration was
    chosen is not smoother than its prior; its posterior stays.

    Args:
        posterior: (T, J, 3, 3).
        info: (T, J, 3, 3) information of the measurements used, zero where there is none.
        order: The derivative that the prior takes for white noise.
    """
    m = order
    if m < 3:
        return posterior
    own = np.clip(np.einsum("tjik,tjki->tj", posterior, info) / 3, 0.0, 1.0)
    smoothed = np.minimum(1.0 - own, 1 / (2 * m))
    return posterior * (1.0 - smoothed * (2 * m + 1) / (4 * m))[..., None, None]


def _given_motion(given: Mapping[str, Any], skeleton: Skeleton) -> tuple[int, Array, Array]:
    agility, noise = (np.array([given[key][j] for j in skeleton.joints]) for key in ("agility", "noise_factor"))
    return int(given["motion_order"]), agility, noise


def _given_bones(given: Mapping[str, Any], skeleton: Skeleton) -> BoneLengths:
    parent = skeleton.parents
    nothing = [np.nan, np.nan]
    known = given.get("bone_length_m", {})
    rows = [known.get(f"{skeleton.joints[int(p)]}-{skeleton.joints[j]}", nothing) for j, p in enumerate(parent)]
    length, sd = np.array(rows, dtype=np.float64).T
    return BoneLengths(
        parent, tree_order(parent), np.ascontiguousarray(length), np.ascontiguousarray(sd),
        np.zeros(parent.size, np.int64),
    )  # fmt: skip


def _full(weight: Array, mean: Array) -> Array:
    """Weights of joints that got a measurement only after the weights were made count as one."""
    return np.where(np.isfinite(weight), weight, 1.0)


def _invert(covariance: Array) -> Array:
    """Inverses of covariances; what is not positive definite says nothing."""
    scale = np.trace(covariance, axis1=-2, axis2=-1)
    fine = np.isfinite(covariance).all(axis=(-2, -1)) & (scale > 0)
    safe = np.where(fine[:, None, None], covariance, np.eye(3))
    # a variance below a tenth of a millimetre squared is a claim nobody can hold
    inverse = np.linalg.inv(safe + np.eye(3) * 1e-8)
    return np.where(fine[:, None, None], inverse, 0.0)


def _run(
    smoothing: Any, times: Array, mean: Array, info: Array, agility: Array, order: int, rounds: int
) -> tuple[Array, Array, Array]:
    by_joint = np.ascontiguousarray(np.swapaxes(mean, 0, 1))
    information = np.ascontiguousarray(np.swapaxes(info, 0, 1))
    out, covariance = np.empty_like(by_joint), np.empty_like(information)
    weight = np.full(by_joint.shape[:2], np.nan)
    smoothing.smooth_joints(
        times, by_joint, information, agility, _GATE, rounds, 2.0, 2.0, order, out, covariance, weight
    )
    weight[~np.isfinite(by_joint[..., 0])] = np.nan
    return (np.ascontiguousarray(np.swapaxes(a, 0, 1)) for a in (out, covariance, weight))  # type: ignore[return-value]


def _estimate_motion(times: Array, mean: Array, info: Array) -> tuple[int, Array, Array]:
    """Motion prior of the take: its order, and agility and noise factor of each joint.

    Chosen is what foretells each measurement best from all the others, not what foretells the next one from the past
    (the likelihood): people move more smoothly than white jerk, and the likelihood would take twice to ten times the
    agility, with more noise let through and error bars too wide.

    The noise factor multiplies the measurement covariance and never goes below one: a detector's slow errors look like
    motion, so an apparent lack of noise is no reason to shrink an error bar.
    """
    from egopose.kernels import smoothing

    T, J = mean.shape[:2]
    # a stretch in the middle is enough: the score adds up over frames
    part = slice(max(0, T // 2 - 750), T // 2 + 750)
    t = times[part]
    best = {order: np.full(J, -np.inf) for order in _AGILITY}
    agility = {order: np.full(J, np.nan) for order in _AGILITY}
    noise = {order: np.ones(J) for order in _AGILITY}
    out, covariance = np.empty((t.size, 3)), np.empty((t.size, 3, 3))
    for j in range(J):
        m, L = np.ascontiguousarray(mean[part, j]), np.ascontiguousarray(info[part, j])
        if int(np.isfinite(m[:, 0]).sum()) < 10:
            continue
        weight = np.empty(t.size)
        smoothing.smooth_joint_robust(t, m, L, 10.0, _GATE, 2, 2.0, 2.0, 2, out, covariance, weight)
        # hard rejection: a weight in between would count as a noisier measurement
        weight = np.where(weight > 0.25, 1.0, 0.0)
        used = int((weight[np.isfinite(m[:, 0])] > 0).sum())

        def score(
            order: int, q: float, factor: float, m: Array = m, L: Array = L, w: Array = weight, n: int = used
        ) -> float:
            L = L / factor
            smoothing.smooth_joint(t, m, L, w, q, 2.0, 2.0, order, out, covariance)
            return float(smoothing.held_out(m, L, w, out, covariance) - 1.5 * n * np.log(factor))

        for order, grid in _AGILITY.items():
            # the score has one hill: climb in agility, then in noise, until neither helps
            q, f = len(grid) // 2, 0
            value = score(order, grid[q], _NOISE[f])
            improved = True
            while improved:
                improved = False
                for dq, df in ((1, 0), (-1, 0), (0, 1), (0, -1), (-1, 1), (1, -1)):
                    while 0 <= q + dq < len(grid) and 0 <= f + df < len(_NOISE):
                        trial = score(order, grid[q + dq], _NOISE[f + df])
                        if trial <= value:
                            break
                        value, q, f, improved = trial, q + dq, f + df, True
            best[order][j], agility[order][j], noise[order][j] = value, grid[q], _NOISE[f]
    order = max(best, key=lambda o: float(best[o][np.isfinite(best[o])].sum()))
    known = np.isfinite(agility[order])
    typical = float(np.median(agility[order][known])) if known.any() else 1.0
    return order, np.where(known, agility[order], typical), noise[order]


def _add_views(
    rig: Rig,
    observations: Observations2D,
    centre: Array,
    mean: Array,
    info: Array,
    smooth: Array,
    smooth_covariance: Array,
    sigma_px: float,
    noise: Array,
) -> int:
    """Give joints that could not be triangulated what their single views say, in place; returns how many."""
    without = ~np.isfinite(mean[..., 0]) & np.isfinite(smooth[..., 0])
    t, j = np.nonzero(without)
    if not t.size:
        return 0
    x, P = smooth[t, j], smooth_covariance[t, j]
    total, rhs = np.zeros((t.size, 3, 3)), np.zeros((t.size, 3))
    for v, name in enumerate(observations.views):
        if name not in rig.names:
            continue
        camera = rig[name]
        uv = observations.uv_px[v, t, j].astype(np.float64)
        predicted, jacobian = _linearise(camera, x + centre)
        residual = uv - predicted
        variance = np.einsum("nik,nkl,njl->nij", jacobian, P, jacobian) + sigma_px**2 * np.eye(2)
        with np.errstate(invalid="ignore"):
            usable = np.isfinite(residual).all(-1) & np.isfinite(jacobian).all((-2, -1))
            # where the path is too vague, any pixel would agree with it
            usable &= np.sqrt(np.trace(variance, axis1=1, axis2=2) / 2) < 15 * sigma_px
        if not usable.any():
            continue
        safe = np.where(usable[:, None, None], variance, np.eye(2))
        r = np.where(usable[:, None], residual, 0.0)
        chi = np.einsum("ni,nij,nj->n", r, np.linalg.inv(safe), r)
        usable &= chi < 9.0
        J = np.where(usable[:, None, None], jacobian, 0.0)
        r = np.where(usable[:, None], residual, 0.0)
        total += np.swapaxes(J, 1, 2) @ J / sigma_px**2
        rhs += np.einsum("nki,nk->ni", J, r) / sigma_px**2
    some = np.trace(total, axis1=1, axis2=2) > 0
    total, rhs, t, j, x = total[some], rhs[some], t[some], j[some], x[some]
    mean[t, j] = x + np.einsum("nij,nj->ni", np.linalg.pinv(total, rcond=1e-9, hermitian=True), rhs)
    info[t, j] = total / noise[j, None, None]
    return int(some.sum())


def _linearise(camera: Camera, points: Array, step: float = 1e-4) -> tuple[Array, Array]:
    """Pixels (N, 2) and their derivatives (N, 2, 3) with respect to world points."""
    offsets = np.concatenate([np.zeros((1, 3)), step * np.eye(3), -step * np.eye(3)])
    uv = camera.project(points[:, None] + offsets)
    return uv[:, 0], np.swapaxes(uv[:, 1:4] - uv[:, 4:7], 1, 2) / (2 * step)


def _result(
    raw: PoseSequence,
    xyz: Array,
    covariance: Array,
    measured: NDArray[np.bool_],
    skeleton: Skeleton,
    settings: SmoothingConfig,
) -> PoseSequence:
    sigma = np.sqrt(np.trace(covariance, axis1=-2, axis2=-1) / 3)
    limit = np.full(skeleton.n_joints, settings.bridge_sigma_m)
    for indices in hand_sides(skeleton).values():
        limit[indices] = settings.bridge_sigma_hand_m
    with np.errstate(invalid="ignore"):
        bridged = ~measured & (sigma <= limit)
    given = measured | bridged
    status = np.where(bridged, np.uint8(JointStatus.BRIDGED), np.asarray(raw.status))
    # a triangulated point that the take contradicts, with nothing to put in its place
    refused = ~given & np.isin(status, [JointStatus.OK, JointStatus.TWO_VIEWS, JointStatus.LOW_ANGLE])
    status = np.where(refused, np.uint8(JointStatus.NO_CONSENSUS), status)
    nan = np.where(given, 1.0, np.nan)
    return raw.replace(
        xyz=(xyz * nan[..., None]).astype(np.float32),
        sigma=(sigma * nan).astype(np.float32),
        covariance=(covariance * nan[..., None, None]).astype(np.float32),
        status=status.astype(np.uint8),
    )
