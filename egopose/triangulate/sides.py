"""Left or right: detectors confuse the sides of people seen from behind, and one confused camera ruins every pair.

For every frame and joint pair each view either keeps its names or exchanges them. The cost of an assignment is how
badly the rays of the two joints then meet; keeping the names is preferred a little, and changing a view's state over
time costs something, so the best path (Viterbi) is steady. First all body pairs of a view vote together, then each pair
may deviate; the 21 joints of the hands vote together.
"""

from __future__ import annotations

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Rig
from egopose.observations import Observations2D
from egopose.skeleton import Skeleton
from egopose.triangulate.hands import hand_sides
from egopose.triangulate.packing import thread_count

Array = NDArray[np.float64]

MAX_STATES = 64
HAND_PRIOR = 0.25


@dataclass(frozen=True, eq=False)
class SideReport:
    """What was exchanged.

    Attributes:
        swapped: (V, T) whole-body exchanges.
        pairs: (V, T, P) exchanges per pair, in the order of ``pair_names``.
        pair_names: Names of the left joints.
        share: Share of exchanged frames per view, for the body and for the hands.
    """

    swapped: NDArray[np.bool_]
    pairs: NDArray[np.bool_]
    pair_names: tuple[str, ...]
    share: dict[str, dict[str, float]] = field(default_factory=dict)


def world_rays(rig: Rig, observations: Observations2D) -> tuple[Array, Array, Array]:
    """Camera centres (V, 3), unit rays in the world (V, T, J, 3) and pixels per radian (V,) of all observations."""
    origins, rays, focal = [], [], []
    for v, name in enumerate(observations.views):
        camera = rig[name]
        R = camera.T_world_camera[:3, :3]
        origins.append(camera.T_world_camera[:3, 3])
        rays.append(camera.unproject(observations.uv_px[v].astype(np.float64)) @ R.T)
        focal.append(0.5 * (camera.K[0, 0] + camera.K[1, 1]))
    return np.stack(origins), np.stack(rays), np.array(focal)


def assignment_states(views: int) -> NDArray[np.bool_]:
    """(S, V) which views exchange their names: all combinations for up to six views, else at most three at a time."""
    if views <= 6:
        return np.array(list(product([False, True], repeat=views)), dtype=bool)
    states = [np.zeros(views, dtype=bool)]
    for size in range(1, 4):
        for chosen in _combinations(views, size):
            if len(states) == MAX_STATES:
                return np.array(states)
            state = np.zeros(views, dtype=bool)
            state[list(chosen)] = True
            states.append(state)
    return np.array(states)


def _combinations(n: int, k: int) -> list[tuple[int, ...]]:
    from itertools import combinations

    return list(combinations(range(n), k))


def assign_sides(
    rig: Rig,
    observations: Observations2D,
    *,
    cap_px: float,
    keep_px: float = 2.0,
    steady: float = 4.0,
) -> tuple[Observations2D, SideReport]:
    """Exchange left and right where the rays say so.

    Args:
        rig: The cameras; every view of the observations is one of them.
        observations: 2D joints; pairs come from the skeleton's mirror pairs.
        cap_px: Distances beyond this count as this: about three standard deviations of a good joint.
        keep_px: Exchanging one joint pair of a view must save more than this root-mean-square distance.
        steady: Cost of a change of state over time, in units of ``cap_px`` squared.

    Returns:
        The observations with names exchanged, and what was done.
    """
    from egopose.kernels import sides

    skeleton = observations.skeleton
    V, T = observations.n_views, observations.n_frames
    body, hand = _pairs(skeleton)
    names = tuple(skeleton.joints[a] for a, _ in [*body, *hand])
    swapped = np.zeros((V, T), dtype=bool)
    pairs = np.zeros((V, T, len(names)), dtype=bool)
    if V < 3 or T == 0 or not names:
        # two rays always nearly meet somewhere: no assignment can be told from another
        return observations, SideReport(swapped, pairs, names, _share(observations, swapped, pairs, len(body)))
    origins, rays, focal = world_rays(rig, observations)
    states = assignment_states(V)
    changes = (states[:, None] != states[None]).sum(-1).astype(np.float64)
    moved = states.sum(1).astype(np.float64)
    unit = cap_px**2

    def costs(pair: tuple[int, int]) -> Array:
        left, right = pair
        out = np.zeros((T, len(states)))
        sides.pair_costs(
            origins, np.ascontiguousarray(rays[:, :, left]), np.ascontiguousarray(rays[:, :, right]), focal, states,
            cap_px, out, 0, T,
        )  # fmt: skip
        return out

    def path(unary: Array) -> NDArray[np.int64]:
        best = np.empty(T, dtype=np.int64)
        sides.best_path(unary, steady * unit * changes, best)
        return best

    with ThreadPoolExecutor(thread_count(None, T * len(names))) as pool:
        # the kernel releases the interpreter lock; results come back in the order of the pairs
        body_costs = list(pool.map(costs, body))
        hand_cost = sum_in_order(pool.map(costs, hand))
    whole = np.zeros(T, dtype=np.int64)
    if body_costs:
        prior = keep_px**2 * len(body) * moved
        whole = path(np.sum(body_costs, axis=0) + prior)
        swapped = states[whole].T
    differs = (states[whole][:, None] != states[None]).sum(-1)
    for p, cost in enumerate(body_costs):
        # a single pair is weak evidence: leaving the body's state costs as much as a wrong view
        pairs[:, :, p] = states[path(cost + (keep_px**2 + unit) * differs)].T
    if hand_cost is not None:
        anchor = whole
        # a hand that is wrong in a view is more often not a hand at all than the other hand
        state = states[
            path(hand_cost + HAND_PRIOR * unit * len(hand) * (states[anchor][:, None] != states[None]).sum(-1))
        ]
        pairs[:, :, len(body) :] = state.T[:, :, None]
    uv, score = observations.uv_px.copy(), None if observations.score is None else observations.score.copy()
    for p, (a, b) in enumerate([*body, *hand]):
        change = pairs[:, :, p]
        for array in (uv, score):
            if array is not None:
                array[change, a], array[change, b] = array[change, b], array[change, a].copy()
    report = SideReport(swapped, pairs, names, _share(observations, swapped, pairs, len(body)))
    return observations.replace(uv_px=uv, score=score), report


def sum_in_order(arrays: Iterable[Array]) -> Array | None:
    """The sum of some arrays, one after the other, or None when there are none."""
    total: Array | None = None
    for array in arrays:
        total = array if total is None else total + array
    return total


def _pairs(skeleton: Skeleton) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """Mirror pairs of the body and of the hands."""
    in_hand = {int(j) for side, joints in hand_sides(skeleton).items() if side for j in joints}
    hand = [pair for pair in skeleton.mirror if pair[0] in in_hand]
    return [pair for pair in skeleton.mirror if pair[0] not in in_hand], hand


def _share(
    observations: Observations2D, swapped: NDArray[np.bool_], pairs: NDArray[np.bool_], n_body: int
) -> dict[str, dict[str, float]]:
    def mean(a: NDArray[Any]) -> float:
        return float(a.mean()) if a.size else 0.0

    return {
        name: {"body": mean(swapped[v]), "pairs": mean(pairs[v, :, :n_body]), "hands": mean(pairs[v, :, n_body:])}
        for v, name in enumerate(observations.views)
    }
