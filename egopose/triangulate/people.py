"""Who is who: several people in several calibrated views, and which of them wears the camera."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from egopose.camera import Rig
from egopose.candidates import Candidates2D
from egopose.errors import EgoposeError
from egopose.observations import Observations2D
from egopose.skeleton import BODY17, Skeleton
from egopose.trajectory import Trajectory
from egopose.triangulate.people_tracks import Follower, PeopleConfig, Track, tracks_of

Array = NDArray[np.float64]
Progress = Callable[[float, str], None]

ASSUMED_FPS = 30.0
HEAD_M = 0.35
"""A person wears the camera when the head is no further from it than this, most of the time."""
_HEAD = ("nose", "left_eye", "right_eye", "left_ear", "right_ear", "head_top", "head")
_BONE_UNIT = 0.04
_GATE_FRAMES, _GATE_FACTOR, _PAIR_SHARE = 40, 4.0, 0.625
_NARROWEST_M, _USUAL_M, _WIDEST_M = 0.2, 0.07, 0.36
_SAME_PERSON = 1.5


@dataclass(frozen=True, eq=False)
class People:
    """People told apart.

    Attributes:
        observations: One per person, the most complete person first.
        joints: Names of the Q joints of ``xyz``.
        xyz: (P, T, Q, 3) float32 rough world joints, NaN where fewer than two views show the person. Left and right
            may be exchanged.
        chosen: (P, V, T) int64 the detection of each image by its place in the list given, -1 = none.
        unassigned: View name to the share of its detections that belong to nobody.
        notes: Remarks in words.
    """

    observations: tuple[Observations2D, ...]
    joints: tuple[str, ...]
    xyz: NDArray[np.float32]
    chosen: NDArray[np.int64]
    unassigned: dict[str, float] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.observations)

    def table(self) -> list[dict[str, Any]]:
        """Per person: frames seen by any view and by two, first and last frame, mean views."""
        rows = []
        for p, observations in enumerate(self.observations):
            views = (self.chosen[p] >= 0).sum(0)
            here = np.flatnonzero(views)
            rows.append({
                "person": p + 1, "frames": int(here.size), "frames_two_views": int((views >= 2).sum()),
                "first": int(observations.frames[here[0]]), "last": int(observations.frames[here[-1]]),
                "mean_views": float(views[here].mean()),
            })  # fmt: skip
        return rows


def tell_apart(
    rig: Rig,
    candidates: Candidates2D,
    config: PeopleConfig | None = None,
    *,
    progress: Progress | None = None,
) -> People:
    """Follow the people of several views.

    People are matched across views and over time by the distances in space between the rays of their joints (see
    :mod:`egopose.triangulate.people_tracks`); broken tracks are joined by place, time and bone lengths. The result does
    not depend on the order of the detections in an image.

    Args:
        rig: The cameras; every view is one of them.
        candidates: Detections.
        config: Settings.
        progress: Called with the share done.

    Returns:
        The people, none of them when no two views ever agree.

    Raises:
        EgoposeError: Fewer than two views, or a view that is no camera.
    """
    settings = config or PeopleConfig()
    if len(candidates.views) < 2:
        raise EgoposeError(f"{len(candidates.views)} view of several people; telling them apart needs at least two")
    missing = [view for view in candidates.views if view not in rig]
    if missing:
        raise EgoposeError(f"no camera in the rig for view {missing[0]!r} (cameras: {', '.join(rig.names)})")
    skeleton = _body(candidates.skeleton)
    joints = candidates.skeleton.indices(skeleton.joints)
    fps = candidates.fps or ASSUMED_FPS
    origins = np.stack([rig[view].center_world for view in candidates.views])
    bones = np.array(skeleton.bones, dtype=np.int64).reshape(-1, 2)
    follower = Follower(origins, skeleton.mirror_index, bones, settings, 1.0 / fps)
    order = _canonical_order(candidates)
    T = candidates.frames.size
    settings = follower.config = _gates(rig, candidates, follower, joints, order)
    block = 512
    for start in range(0, T, block):
        stop = min(start + block, T)
        rays = _rays(rig, candidates, joints, settings.min_score, start, stop)
        for t in range(start, stop):
            here = []
            for v in range(len(candidates.views)):
                places = order[v, t]
                sets = rays[v, t - start, places[places >= 0]]
                here.append(np.ascontiguousarray(sets))
            follower.update(t, float(candidates.frames[t] / fps), here)
        if progress is not None:
            progress(stop / T, "people")
    tracks = tracks_of(follower)
    least = min(max(round(settings.least_s * fps), 2), max(T // 2, 1))
    persons = _join(tracks, bones, candidates.frames / fps, settings)
    persons = [tracks for tracks in persons if sum(_met(track) for track in tracks) >= least]
    people = [_person(candidates, order, tracks, len(skeleton)) for tracks in persons]
    people.sort(key=lambda person: -float(person[0].seen.sum()))
    chosen = (
        np.stack([person[2] for person in people])
        if people
        else np.empty((0, len(candidates.views), T), dtype=np.int64)
    )
    counts = candidates.counts
    nobody = counts.sum(1) - (chosen >= 0).sum((0, 2))
    share = {view: float(nobody[v] / max(counts[v].sum(), 1)) for v, view in enumerate(candidates.views)}
    xyz = np.stack([person[1] for person in people]) if people else np.empty((0, T, len(skeleton), 3), np.float32)
    observations = tuple(person[0] for person in people)
    notes = [f"{len(people)} people told apart in detections of up to {candidates.n_people} per image"]
    lost = [f"{view} {100 * part:.0f} %" for view, part in share.items() if part > 0.05]
    if lost:
        notes.append(f"detections that belong to nobody: {', '.join(lost)}")
    return People(observations, skeleton.joints, xyz, chosen, share, tuple(notes))


def _gates(
    rig: Rig, candidates: Candidates2D, follower: Follower, joints: NDArray[np.int64], order: NDArray[np.int64]
) -> PeopleConfig:
    """Gates from the take: how far the rays of groups of three views and more pass their common joints."""
    settings = follower.config
    if settings.gate_m is not None:
        return msgspec.structs.replace(settings, pair_gate_m=settings.pair_gate_m or _PAIR_SHARE * settings.gate_m)
    follower.config = msgspec.structs.replace(settings, gate_m=_WIDEST_M, pair_gate_m=_PAIR_SHARE * _WIDEST_M)
    T = candidates.frames.size
    distances: list[float] = []
    for t in np.unique(np.linspace(0, T - 1, min(T, _GATE_FRAMES)).astype(int)).tolist():
        rays = _rays(rig, candidates, joints, settings.min_score, t, t + 1)
        here = [np.ascontiguousarray(rays[v, 0, order[v, t][order[v, t] >= 0]]) for v in range(len(order))]
        distances += follower.fit(here)
    middle = float(np.median(distances)) if len(distances) >= 10 else _USUAL_M
    gate = float(np.clip(_GATE_FACTOR * middle, _NARROWEST_M, _WIDEST_M))
    return msgspec.structs.replace(settings, gate_m=gate, pair_gate_m=settings.pair_gate_m or _PAIR_SHARE * gate)


def _body(skeleton: Skeleton) -> Skeleton:
    """The joints that tell people apart: the body where there is one, all joints otherwise."""
    known = [joint for joint in BODY17.joints if joint in skeleton.joints]
    return skeleton.subset(known) if len(known) >= 8 else skeleton


def _canonical_order(candidates: Candidates2D) -> NDArray[np.int64]:
    """(V, T, K) places of the detections of each image, sorted by what they show; -1 after the last."""
    keys = []
    for layer in candidates.layers:
        seen = layer.seen
        count = seen.sum(-1)
        total = np.where(seen[..., None], layer.uv_px, 0).astype(np.float64).sum(-2)
        mean = total / np.maximum(count, 1)[..., None]
        squares = np.where(seen[..., None], layer.uv_px, 0).astype(np.float64) ** 2
        keys.append(np.stack([count > 0, mean[..., 0], mean[..., 1], count, squares.sum((-1, -2))], -1))
    table = np.stack(keys, axis=2)
    empty = table[..., 0] == 0
    order = np.lexsort((table[..., 4], table[..., 3], table[..., 2], table[..., 1], empty), axis=-1)
    return np.where(np.take_along_axis(empty, order, axis=-1), -1, order)


def _rays(
    rig: Rig, candidates: Candidates2D, joints: NDArray[np.int64], min_score: float, start: int, stop: int
) -> Array:
    """(V, t, K, Q, 3) unit rays in the world."""
    uv = np.stack([layer.uv_px[:, start:stop][:, :, joints] for layer in candidates.layers], axis=2).astype(np.float64)
    if candidates.layers[0].score is not None:
        score = np.stack([
            layer.score[:, start:stop][:, :, joints] for layer in candidates.layers if layer.score is not None
        ], axis=2)  # fmt: skip
        uv[score < min_score] = np.nan
    out = np.empty((*uv.shape[:-1], 3))
    for v, view in enumerate(candidates.views):
        out[v] = rig[view].unproject(uv[v]) @ rig[view].T_world_camera[:3, :3].T
    return out


def _met(track: Track) -> int:
    return sum(bool((row >= 0).sum() >= 2) for row in track.chosen)


def _lengths(track: Track, bones: NDArray[np.int64]) -> Array:
    """Median bone lengths of a track, NaN where fewer than five frames show them."""
    met = np.stack(track.met)
    length = np.linalg.norm(met[:, bones[:, 0]] - met[:, bones[:, 1]], axis=-1)
    known = np.isfinite(length)
    out = np.full(len(bones), np.nan)
    for b in range(len(bones)):
        if known[:, b].sum() >= 5:
            out[b] = np.median(length[known[:, b], b])
    return out


def _join(tracks: list[Track], bones: NDArray[np.int64], times_s: Array, config: PeopleConfig) -> list[list[Track]]:
    """Groups of tracks that are one person: each track has at most one successor, by minimum-cost assignment."""
    from scipy.optimize import linear_sum_assignment

    n = len(tracks)
    lengths = [_lengths(track, bones) for track in tracks]
    cost = np.full((n, 2 * n), 1e3)
    cost[:, n:][np.diag_indices(n)] = _SAME_PERSON
    for a, first in enumerate(tracks):
        for b, second in enumerate(tracks):
            gap = times_s[second.frames[0]] - times_s[first.frames[-1]]
            if a == b or not 0 < gap <= config.rejoin_s:
                continue
            end = _centre(first.met, last=True)
            begin = _centre(second.met, last=False)
            reach = 0.4 + config.speed_m_s * gap
            distance = float(np.linalg.norm(begin - end))
            if not distance <= reach:
                continue
            both = np.isfinite(lengths[a] + lengths[b])
            if both.sum() >= 3:
                unlike = float(np.median(np.abs(np.log(lengths[a][both] / lengths[b][both])))) / _BONE_UNIT
            elif gap <= 1.0:
                unlike = 0.5
            else:
                continue
            cost[a, b] = min(distance / reach + 0.1 * gap, 0.8) + unlike
    rows, columns = linear_sum_assignment(cost) if n else (np.empty(0, int), np.empty(0, int))
    after = {int(a): int(b) for a, b in zip(rows, columns) if b < n and cost[a, b] < _SAME_PERSON}
    heads = [a for a in range(n) if a not in after.values()]
    groups = []
    for head in heads:
        group, a = [tracks[head]], head
        while a in after:
            a = after[a]
            group.append(tracks[a])
        groups.append(group)
    return groups


def _centre(met: list[Array], *, last: bool) -> Array:
    """Mean of the joints of the last or first frame in which rays met."""
    for points in reversed(met) if last else met:
        known = points[np.isfinite(points[:, 0])]
        if len(known):
            return np.asarray(np.median(known, axis=0))
    return np.full(3, np.inf)


def _person(
    candidates: Candidates2D, order: NDArray[np.int64], tracks: list[Track], n_joints: int
) -> tuple[Observations2D, NDArray[np.float32], NDArray[np.int64]]:
    """A person's observations, rough joints and detections."""
    first = candidates.layers[0]
    V, T = len(candidates.views), candidates.frames.size
    xyz = np.full((T, n_joints, 3), np.nan, np.float32)
    chosen = np.full((V, T), -1, dtype=np.int64)
    parts = [part for track in tracks for part in (track, *track.absorbed)]
    for track in parts:
        frames = np.array(track.frames)
        unknown = ~np.isfinite(xyz[frames, :, 0]).any(1)
        xyz[frames[unknown]] = np.stack(track.met)[unknown]
        places = np.stack(track.chosen, axis=1)
        given = order[np.arange(V)[:, None], frames[None], np.maximum(places, 0)]
        chosen[:, frames] = np.where((places >= 0) & (chosen[:, frames] < 0), given, chosen[:, frames])
    uv = np.full_like(first.uv_px, np.nan)
    score = None if first.score is None else np.zeros_like(first.score)
    for k, layer in enumerate(candidates.layers):
        here = chosen == k
        uv[here] = layer.uv_px[here]
        if score is not None and layer.score is not None:
            score[here] = layer.score[here]
    for track in parts:
        for t, v, place in track.extra:
            layer = candidates.layers[order[v, t, place]]
            fill = ~np.isfinite(uv[v, t, :, 0])
            uv[v, t, fill] = layer.uv_px[v, t, fill]
            if score is not None and layer.score is not None:
                score[v, t, fill] = layer.score[v, t, fill]
    return first.replace(uv_px=uv, score=score), xyz, chosen


def find_wearer(
    people: People, trajectory: Trajectory, *, start_s: float = 0.0, fps: float | None = None, reach_m: float = HEAD_M
) -> tuple[Observations2D, dict[str, Any]]:
    """The person whose head is where the head-worn camera is.

    In frames where another person's head is at the camera and the wearer's own is not, that person is taken: identities
    can be exchanged, the trajectory cannot.

    Args:
        people: People told apart.
        trajectory: Poses of the head-worn camera in the world of the rig.
        start_s: Time of frame 0 on the trajectory's clock.
        fps: Frames per second; None takes that of the observations.
        reach_m: Largest distance of the head's middle from the camera.

    Returns:
        The wearer's observations, and what was found: the person, the median distance, the share of frames near, the
        frames taken from others.

    Raises:
        EgoposeError: Nobody, no joint of a head, clocks that do not overlap, or nobody near the camera.
    """
    if not len(people):
        raise EgoposeError("no person was found in two views at once; nobody can be the wearer")
    head = [i for i, joint in enumerate(people.joints) if joint in _HEAD]
    if not head:
        raise EgoposeError(
            f"the joints {', '.join(people.joints[:5])} ... hold no head; the wearer cannot be told by it"
        )
    first = people.observations[0]
    times = start_s + first.frames / (fps or first.fps or ASSUMED_FPS)
    inside = (times >= trajectory.times_s[0]) & (times <= trajectory.times_s[-1])
    if not inside.any():
        raise EgoposeError(
            f"the trajectory spans {trajectory.times_s[0]:.3f} to {trajectory.times_s[-1]:.3f} s, the frames "
            f"{times[0]:.3f} to {times[-1]:.3f} s; say when frame 0 is on the trajectory's clock"
        )
    camera = np.full((times.size, 3), np.nan)
    camera[inside] = trajectory.at(times[inside], gaps="nan")[:, :3, 3]
    heads = people.xyz[:, :, head].astype(np.float64)
    known = np.isfinite(heads[..., 0])
    middle = np.where(known[..., None], heads, 0).sum(2) / np.where(known.any(2), known.sum(2), np.nan)[..., None]
    distance = np.linalg.norm(middle - camera, axis=-1)
    near = distance <= reach_m
    wearer = int(np.argmax(near.sum(1)))
    if near[wearer].sum() < max(0.2 * np.isfinite(distance[wearer]).sum(), 1):
        rows = [float(np.nanmedian(d)) if np.isfinite(d).any() else np.inf for d in distance]
        raise EgoposeError(
            f"nobody's head is within {reach_m:g} m of the head-worn camera (medians: "
            f"{', '.join(f'{row:.2f}' for row in rows)} m); the trajectory may be in another world frame or on another "
            "clock"
        )
    others = np.where(np.isfinite(distance), distance, np.inf)
    best = others.argmin(0)
    own_far = ~near[wearer] & (np.isfinite(distance[wearer]) | ~_shown(people, wearer))
    taken = own_far & (others.min(0) <= reach_m) & (best != wearer)
    observations = people.observations[wearer]
    uv, score = observations.uv_px.copy(), None if observations.score is None else observations.score.copy()
    for t in np.flatnonzero(taken):
        other = people.observations[best[t]]
        uv[:, t] = other.uv_px[:, t]
        if score is not None and other.score is not None:
            score[:, t] = other.score[:, t]
    # somebody far from the camera is not the wearer, whoever it is
    stranger = np.isfinite(distance[wearer]) & (distance[wearer] > 2 * reach_m) & ~taken
    uv[:, stranger] = np.nan
    found = {
        "person": wearer + 1, "median_distance_m": float(np.nanmedian(distance[wearer])),
        "near_share": float(near[wearer][np.isfinite(distance[wearer])].mean()),
        "frames_from_others": int(taken.sum()), "frames_left_out": int(stranger.sum()),
    }  # fmt: skip
    return observations.replace(uv_px=uv, score=score), found


def _shown(people: People, p: int) -> NDArray[np.bool_]:
    return np.asarray((people.chosen[p] >= 0).any(0))
