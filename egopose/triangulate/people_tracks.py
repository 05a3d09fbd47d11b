"""Following several people through calibrated views, one frame after the other.

Detections are matched to the predicted 3D joints of the people already known, view by view, by minimum-cost assignment
(cross-view tracking: Chen et al., CVPR 2020); what is left is grouped into new people by growing groups of detections
whose rays meet, best group first (cycle consistency as in Dong et al., CVPR 2019: a detection joins a group only when
it fits the common point of all its members, not one of them). All distances are metres in space.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.config import Config

Array = NDArray[np.float64]

_CAP_M = 0.4
_SCALE_M = 0.08
_SEEDS = 24
_MIRROR_GAIN = 0.7
_BLIND_FRAMES = 3.5
_TWICE_S = 0.3
_TWICE_M = 0.45


class PeopleConfig(Config, frozen=True, kw_only=True):
    """Settings of the association.

    Attributes:
        gate_m: A detection belongs to a person when its rays pass the person's joints at less than this on average;
            None estimates it from the take.
        pair_gate_m: Two detections may begin a new person when their rays meet at less than this on average; None
            takes five eighths of ``gate_m``.
        least_joints: Fewest joints in common that are compared.
        min_score: Joints with a lower score are not used to tell people apart.
        lost_s: A person that no view shows for longer is given up; a later one may be found to be the same.
        alone_s: A person that a single view shows for longer is given up too.
        rejoin_s: Longest absence after which a person may be recognised again.
        least_s: Shorter appearances are taken for false detections.
        speed_m_s: How fast people may walk.
    """

    gate_m: float | None = None
    pair_gate_m: float | None = None
    least_joints: int = 4
    min_score: float = 0.1
    lost_s: float = 0.3
    alone_s: float = 0.6
    rejoin_s: float = 30.0
    least_s: float = 0.4
    speed_m_s: float = 2.5


@dataclass(eq=False)
class Track:
    """One person as far as it could be followed without a break.

    Attributes:
        points: (J, 3) last joints, world metres.
        velocity: (3,) metres per second of the whole body.
        seen_s: When any view last showed it.
        met_s: When two views last showed it.
        frames: Positions of the frames in which it was seen.
        chosen: Per such frame the detection in each view, -1 = none.
        met: Per such frame (J, 3) the joints where rays met, NaN elsewhere.
        extra: (frame, view, detection) of further pieces of the same person.
        absorbed: Tracks that turned out to be the same person seen by other views.
    """

    points: Array
    velocity: Array
    seen_s: float
    met_s: float
    frames: list[int] = field(default_factory=list)
    chosen: list[NDArray[np.int64]] = field(default_factory=list)
    met: list[Array] = field(default_factory=list)
    extra: list[tuple[int, int, int]] = field(default_factory=list)
    absorbed: list[Track] = field(default_factory=list)


class Follower:
    """Keeps the people in view; frames come in order.

    Args:
        origins: (V, 3) camera centres.
        mirror: (J,) the other side's joint.
        bones: (B, 2) pairs of joints.
        config: Settings.
        period_s: Usual time between frames.
    """

    def __init__(
        self, origins: Array, mirror: NDArray[np.int64], bones: NDArray[np.int64], config: PeopleConfig, period_s: float
    ) -> None:
        self.origins, self.mirror, self.bones, self.config = origins, mirror, bones, config
        self.period_s = period_s
        self.active: list[Track] = []
        self.finished: list[Track] = []

    @property
    def gate(self) -> float:
        """Largest mean distance of a member."""
        return self.config.gate_m or 0.0

    @property
    def pair_gate(self) -> float:
        """Largest mean distance between the first two of a group."""
        return self.config.pair_gate_m or 0.0

    def update(self, t: int, time_s: float, rays: list[Array]) -> int:
        """Take the next frame.

        Args:
            t: Its position.
            time_s: Its time.
            rays: Per view (K_v, J, 3) unit rays of the detections, NaN = unseen.

        Returns:
            How many detections belong to nobody.
        """
        config = self.config
        for track in list(self.active):
            if time_s - track.seen_s > config.lost_s or time_s - track.met_s > config.alone_s:
                self.active.remove(track)
                self.finished.append(track)
        free = [set(range(len(r))) for r in rays]
        predicted = self._predict(time_s)
        members = self._assign(time_s, rays, predicted)
        for track, chosen, before in zip(self.active, members, predicted):
            self._advance(track, t, time_s, rays, chosen, before)
            for v, (k, _) in chosen.items():
                free[v].discard(k)
        self._pieces(t, rays, free)
        self._begin(t, time_s, rays, free)
        self._merge(t)
        return sum(len(f) for f in free)

    def fit(self, rays: list[Array]) -> list[float]:
        """How far the detections of each group of three views and more are from its joints, in one frame alone."""
        free = [set(range(len(r))) for r in rays]
        distances: list[float] = []
        while True:
            group, _ = self._best_group(rays, free)
            if not group:
                return distances
            for v, (k, _) in group.items():
                free[v].discard(k)
            if len(group) >= 3:
                distances += self._meet(rays, group)[1].tolist()

    def _predict(self, time_s: float) -> Array:
        if not self.active:
            return np.empty((0, self.mirror.size, 3))
        return np.stack([
            track.points + track.velocity * min(time_s - track.seen_s, 0.5) for track in self.active
        ])  # fmt: skip

    def _costs(self, v: int, rays: Array, points: Array) -> Array:
        from egopose.kernels import people

        out = np.empty((len(points), len(rays), 2))
        people.track_costs(
            self.origins[v], rays, points, self.mirror, _CAP_M, self.config.least_joints, out
        )  # fmt: skip
        return out

    def _assign(self, time_s: float, rays: list[Array], predicted: Array) -> list[dict[int, tuple[int, bool]]]:
        """Per known person: view to (detection, sides exchanged)."""
        from scipy.optimize import linear_sum_assignment

        chosen: list[dict[int, tuple[int, bool]]] = [{} for _ in self.active]
        n = len(self.active)
        if not n:
            return chosen
        late = np.array([max(time_s - track.seen_s - self.period_s, 0.0) for track in self.active])
        gate = np.minimum(self.gate + 0.5 * late, 0.5)
        for v, here in enumerate(rays):
            if not len(here):
                continue
            both = self._costs(v, here, predicted)
            turned = both[..., 1] < _MIRROR_GAIN * both[..., 0]
            cost = np.where(turned, both[..., 1], both[..., 0])
            cost = np.where(np.isfinite(cost) & (cost < gate[:, None]), cost, 1e3)
            # one column of its own for each person: to stay without a detection costs as much as the gate
            alone = np.full((n, n), 1e3)
            np.fill_diagonal(alone, gate)
            for p, k in zip(*linear_sum_assignment(np.concatenate([cost, alone], axis=1))):
                if k < len(here) and cost[p, k] < gate[p]:
                    chosen[p][v] = (int(k), bool(turned[p, k]))
        return chosen

    def _meet(self, rays: list[Array], chosen: dict[int, tuple[int, bool]]) -> tuple[Array, Array]:
        """Joints (J, 3) where a group's rays meet, and each member's mean distance from them."""
        from egopose.kernels import people

        views = list(chosen)
        sets = np.empty((len(views), self.mirror.size, 3))
        for m, v in enumerate(views):
            k, turned = chosen[v]
            sets[m] = rays[v][k][self.mirror] if turned else rays[v][k]
        points, distance = np.empty((self.mirror.size, 3)), np.empty(len(views))
        people.meet(self.origins[views], sets, _SCALE_M, _CAP_M, points, distance)
        return points, distance

    def _advance(
        self, track: Track, t: int, time_s: float, rays: list[Array], chosen: dict[int, tuple[int, bool]], before: Array
    ) -> None:
        """Move a person to this frame; members that do not fit the common points are put back."""
        if not chosen or (len(chosen) == 1 and time_s - track.seen_s > _BLIND_FRAMES * self.period_s):
            # after a break one view alone is no proof that it is the same person
            chosen.clear()
            return
        points, distance = self._meet(rays, chosen)
        while len(chosen) > 2 and np.nanmax(distance, initial=0.0) > self.gate:
            chosen.pop(list(chosen)[int(np.nanargmax(distance))])
            points, distance = self._meet(rays, chosen)
        if len(chosen) == 2 and np.nanmax(distance, initial=0.0) > self.gate:
            # two views that contradict each other: the one nearer to where the person should be
            costs = {
                v: float(np.nanmin(self._costs(v, np.ascontiguousarray(rays[v][k : k + 1]), before[None])))
                for v, (k, _) in chosen.items()
            }
            chosen.pop(max(costs, key=costs.__getitem__))
            points = np.full_like(points, np.nan)
        dt = max(time_s - track.seen_s, 1e-6)
        known = np.isfinite(points[:, 0])
        if len(chosen) >= 2 and known.any():
            both = known & np.isfinite(before[:, 0])
            shift = np.median(points[both] - before[both], axis=0) if both.any() else np.zeros(3)
            moved = track.velocity + shift / dt
            speed = float(np.linalg.norm(moved))
            moved *= min(1.0, self.config.speed_m_s / max(speed, 1e-9))
            # about a fifth of a second of memory: detection noise must not become speed
            keep = float(np.exp(-dt / 0.2))
            track.velocity = keep * track.velocity + (1 - keep) * moved
            track.points = np.where(known[:, None], points, before + shift)
            track.met_s = time_s
        else:
            points = np.full_like(points, np.nan)
            track.points, track.velocity = self._nudge(before, rays, chosen), 0.9 * track.velocity
        track.seen_s = time_s
        self._keep(track, t, chosen, points)

    def _nudge(self, points: Array, rays: list[Array], chosen: dict[int, tuple[int, bool]]) -> Array:
        """The joints moved sideways to where the only view sees them."""
        (v, (k, turned)), *_ = chosen.items()
        d = rays[v][k][self.mirror] if turned else rays[v][k]
        r = points - self.origins[v]
        off = (r * d).sum(-1, keepdims=True) * d - r
        off = off[np.isfinite(off[:, 0])]
        return points + np.median(off, axis=0) if len(off) else points

    def _keep(self, track: Track, t: int, chosen: dict[int, tuple[int, bool]], points: Array) -> None:
        row = np.full(len(self.origins), -1, dtype=np.int64)
        for v, (k, _) in chosen.items():
            row[v] = k
        track.frames.append(t)
        track.chosen.append(row)
        track.met.append(points)

    def _pieces(self, t: int, rays: list[Array], free: list[set[int]]) -> None:
        """Detectors break people into pieces: give a leftover to the person that it continues."""
        here = [track for track in self.active if track.frames and track.frames[-1] == t]
        if not here:
            return
        points = np.stack([track.points for track in here])
        for v, left in enumerate(free):
            for k in sorted(left):
                cost = self._costs(v, np.ascontiguousarray(rays[v][k : k + 1]), points)[:, 0, 0]
                order = np.argsort(np.where(np.isfinite(cost), cost, np.inf))
                p = int(order[0])
                main = here[p].chosen[-1][v]
                if not cost[p] < self.pair_gate or main < 0:
                    continue
                seen, new = np.isfinite(rays[v][main][:, 0]), np.isfinite(rays[v][k][:, 0])
                # a second detection of the whole person is a duplicate: it belongs to nobody else either
                left.discard(k)
                if (new & ~seen).any():
                    here[p].extra.append((t, v, k))

    def _begin(self, t: int, time_s: float, rays: list[Array], free: list[set[int]]) -> None:
        """New people from what is left."""
        while True:
            group, points = self._best_group(rays, free)
            if not group:
                return
            for v, (k, _) in group.items():
                free[v].discard(k)
            if any(self._same_place(points, track.points) for track in self.active):
                continue
            track = Track(points, np.zeros(3), time_s, time_s)
            self._keep(track, t, group, points)
            self.active.append(track)

    def _best_group(self, rays: list[Array], free: list[set[int]]) -> tuple[dict[int, tuple[int, bool]], Array]:
        """The group of free detections that fits best, empty when none does."""
        from egopose.kernels import people

        best: tuple[dict[int, tuple[int, bool]], Array, float] = ({}, np.empty(0), -np.inf)
        if sum(1 for left in free if left) < 2:
            return best[0], best[1]
        index = [(v, k) for v, left in enumerate(free) for k in sorted(left)]
        view = np.array([v for v, _ in index])
        sets = np.stack([rays[v][k] for v, k in index])
        cost = np.empty((len(index), len(index)))
        people.pair_costs(self.origins[view], sets, view, self.mirror, _CAP_M, self.config.least_joints, cost)
        a, b = np.nonzero(np.triu(np.nan_to_num(cost, nan=np.inf) < self.pair_gate, 1))
        for i in np.argsort(cost[a, b], kind="stable")[:_SEEDS]:
            trial = self._grow(rays, free, index[a[i]], index[b[i]])
            if trial[2] > best[2]:
                best = trial
        return best[0], best[1]

    def _merge(self, t: int) -> None:
        """One person followed twice, by different views each time, is one: views with a bias may never meet at once."""
        recent = t - max(round(_TWICE_S / self.period_s), 1)
        for younger in sorted(self.active, key=lambda track: -track.frames[0]):
            for older in self.active:
                if older is younger or older.frames[0] > younger.frames[0] or younger.frames[0] > recent:
                    continue
                if not self._same_place(older.points, younger.points, _TWICE_M):
                    continue
                rows = [dict(zip(tr.frames[-200:], tr.chosen[-200:])) for tr in (older, younger)]
                both = [f for f in rows[0] if f > recent and f in rows[1]]
                if len(both) < 2 or any(((rows[0][f] >= 0) & (rows[1][f] >= 0)).any() for f in both):
                    continue
                older.absorbed.append(younger)
                self.active.remove(younger)
                break

    def _grow(
        self, rays: list[Array], free: list[set[int]], first: tuple[int, int], second: tuple[int, int]
    ) -> tuple[dict[int, tuple[int, bool]], Array, float]:
        """A group from two detections and those of the other views that fit their common points."""
        best: tuple[dict[int, tuple[int, bool]], Array, float] = ({}, np.empty(0), -np.inf)
        for flipped in (False, True):
            group = {first[0]: (first[1], False), second[0]: (second[1], flipped)}
            points, distance = self._meet(rays, group)
            if not np.nanmax(distance, initial=0.0) < self.pair_gate or not self._is_a_body(points):
                continue
            for v, left in enumerate(free):
                if v in group or not left:
                    continue
                ks = sorted(left)
                both = self._costs(v, np.ascontiguousarray(rays[v][ks]), points[None])[0]
                if not np.isfinite(both).any():
                    continue
                k, turned = np.unravel_index(int(np.nanargmin(both)), both.shape)
                if both[k, turned] < self.gate:
                    trial = {**group, v: (ks[int(k)], bool(turned))}
                    moved, distance = self._meet(rays, trial)
                    if np.nanmax(distance, initial=0.0) < self.gate and self._is_a_body(moved):
                        group, points = trial, moved
            points, distance = self._meet(rays, group)
            merit = float(np.sum(self.gate - np.nan_to_num(distance, nan=self.gate)))
            if merit > best[2]:
                best = group, points, merit
        return best

    def _is_a_body(self, points: Array) -> bool:
        """Whether joints could be a person: rays of different people meet in giants and dwarfs."""
        known = points[np.isfinite(points[:, 0])]
        if len(known) < self.config.least_joints or np.ptp(known, axis=0).max() > 2.6:
            return False
        if not len(self.bones):
            return True
        length = np.linalg.norm(points[self.bones[:, 0]] - points[self.bones[:, 1]], axis=-1)
        length = length[np.isfinite(length)]
        return not length.size or bool(0.01 < np.median(length) < 0.7 and (length < 1.0).mean() > 0.7)

    def _same_place(self, a: Array, b: Array, limit: float = 0.3) -> bool:
        distance = np.linalg.norm(a - b, axis=-1)
        distance = distance[np.isfinite(distance)]
        return bool(distance.size) and float(np.median(distance)) < limit


def tracks_of(follower: Follower) -> list[Track]:
    """All tracks, in the order of their first frame."""
    return sorted([*follower.finished, *follower.active], key=lambda track: (track.frames[0], *_place(track)))


def _place(track: Track) -> tuple[Any, ...]:
    return tuple(np.nan_to_num(track.met[0]).ravel().tolist())
