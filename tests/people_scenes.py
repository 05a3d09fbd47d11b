"""Several people before several cameras, with known truth: what detectors do wrong is put in on purpose."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Rig
from egopose.candidates import Candidates2D
from egopose.demo import walking_wearer
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.trajectory import Trajectory
from tests.synthetic import ring_cameras

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Crowd:
    """A scene.

    Attributes:
        rig: The cameras.
        candidates: Detections in random order.
        truth: (P, T, 17, 3) joints.
        present: (P, T) whether a person is in the room.
        who: (V, T, K) true person of each detection, -1 = false, -2 = none.
        heads: Head camera of each person.
    """

    rig: Rig
    candidates: Candidates2D
    truth: Array
    present: NDArray[np.bool_]
    who: NDArray[np.int64]
    heads: tuple[Trajectory, ...]


def bursts(rng: np.random.Generator, n: int, share: float, length: int) -> NDArray[np.bool_]:
    """(n,) true in stretches of about ``length`` that fill about ``share``."""
    flags = np.zeros(n, dtype=bool)
    for start in np.flatnonzero(rng.random(n) < share / length):
        flags[start : start + int(rng.integers(1, 2 * length))] = True
    return flags


def crowd(
    people: int, *, cameras: int = 4, n_frames: int = 150, fps: float = 30.0, noise_px: float = 3.0,
    outlier_share: float = 0.05, missing_share: float = 0.1, miss_share: float = 0.1, false_share: float = 0.2,
    swap_share: float = 0.05, occlude: bool = True, leave: bool = False, same_size: bool = False, close: float = 1.0,
    seed: int = 0,
) -> Crowd:  # fmt: skip
    """People who walk on circles and lines through the middle of the room.

    Args:
        people: P.
        cameras: V.
        n_frames: T.
        fps: Frames per second.
        noise_px: Noise of each joint.
        outlier_share: Joints displaced by about 100 px.
        missing_share: Joints not found.
        miss_share: Share of frames in which a view misses a person, in stretches.
        false_share: Share of images with a false detection, in stretches.
        swap_share: Share of frames in which a view exchanges left and right of a person.
        occlude: A person behind another one in an image is mostly missed.
        leave: Each person but the first leaves the room for a while.
        same_size: All people have the same bones.
        close: Scale of the distances between the paths.
        seed: Everything follows from it.
    """
    rng = np.random.default_rng(seed)
    joints = BODY17_HANDS.indices(BODY17.joints)
    times = np.arange(n_frames) / fps
    rig = Rig(ring_cameras(cameras, radius=5.0, focal_px=1100.0))
    truth = np.empty((people, n_frames, 17, 3))
    present = np.ones((people, n_frames), dtype=bool)
    heads = []
    for p in range(people):
        xyz, T_world_camera = walking_wearer(times, seed=seed * 17 + p)
        size = 1.0 if same_size else 0.88 + 0.24 * (p * 0.618 % 1.0)
        angle = np.pi * p / people + 0.3
        # two people in line walk through each other's place at different moments
        along = close * 1.2 * np.sin(0.5 * times + 2 * np.pi * p / people)
        place = np.stack([along * np.cos(angle), along * np.sin(angle), np.zeros(n_frames)], -1)
        place[:, :2] += close * 0.35 * np.array([np.cos(2 * np.pi * p / people), np.sin(2 * np.pi * p / people)])
        truth[p] = size * xyz[:, joints] + place[:, None]
        poses = T_world_camera.copy()
        poses[:, :3, 3] = size * poses[:, :3, 3] + place
        heads.append(Trajectory(times, poses))
        if leave and p:
            start = int(rng.integers(n_frames // 4, n_frames // 2))
            present[p, start : start + n_frames // 5] = False
    extra = 2
    K = people + extra
    uv = np.full((cameras, n_frames, K, 17, 2), np.nan)
    who = np.full((cameras, n_frames, K), -2, dtype=np.int64)
    for v, camera in enumerate(rig.cameras):
        exact = camera.project(truth)
        depth = np.linalg.norm(truth.mean(2) - camera.center_world, axis=-1)
        lo, hi = exact.min(2), exact.max(2)
        for p in range(people):
            here = exact[p] + rng.normal(0, noise_px, exact[p].shape)
            wrong = rng.random(here.shape[:2]) < outlier_share
            here[wrong] += rng.normal(0, 100, (int(wrong.sum()), 2))
            turned = bursts(rng, n_frames, swap_share, 8)
            here[turned] = here[turned][:, BODY17.mirror_index]
            here[rng.random(here.shape[:2]) < missing_share] = np.nan
            gone = bursts(rng, n_frames, miss_share, 6) | ~present[p]
            if occlude:
                for q in range(people):
                    if q != p:
                        inner = np.clip(np.minimum(hi[p], hi[q]) - np.maximum(lo[p], lo[q]), 0, None).prod(-1)
                        behind = (inner > 0.6 * (hi[p] - lo[p]).prod(-1)) & (depth[p] > depth[q]) & present[q]
                        gone |= behind & (rng.random(n_frames) < 0.7)
            here[gone] = np.nan
            uv[v, :, p] = here
            who[v, :, p] = np.where(np.isfinite(here[..., 0]).any(-1), p, -2)
        for e in range(extra):
            shown = bursts(rng, n_frames, false_share / extra, 10)
            model = exact[int(rng.integers(people)), int(rng.integers(n_frames))]
            shift = rng.uniform([-600, -150], [600, 150])
            uv[v, shown, people + e] = model + shift + rng.normal(0, 8, (int(shown.sum()), 17, 2))
            who[v, shown, people + e] = -1
    mixed = np.argsort(rng.random((cameras, n_frames, K)), axis=-1)
    uv = np.take_along_axis(uv, mixed[..., None, None], axis=2)
    who = np.take_along_axis(who, mixed, axis=2)
    score = np.where(np.isfinite(uv[..., 0]), rng.uniform(0.4, 1.0, uv.shape[:-1]), 0.0)
    candidates = Candidates2D.from_arrays(
        BODY17, rig.names, np.arange(n_frames), uv.astype(np.float32), score.astype(np.float32), fps=fps,
        sizes=tuple(camera.size for camera in rig.cameras),
    )  # fmt: skip
    return Crowd(rig, candidates, truth, present, who, tuple(heads))


def association_scores(scene: Crowd, chosen: NDArray[np.int64]) -> dict[str, float]:
    """How well detections were given to people.

    Args:
        scene: The truth.
        chosen: (E, V, T) place of the detection of each found person, -1 = none.

    Returns:
        ``right``: share of the true detections that went to the found person that is that true person; ``pure``: share
        of the given detections that are of that person; ``frames``: share of (person, frame) with two views or more in
        which all views given are right and two views at least are; ``switches``: changes of the found person over time,
        summed over true people; ``people``: number found.
    """
    who = scene.who
    P = len(scene.truth)
    E = len(chosen)
    ids = np.where(chosen >= 0, np.take_along_axis(who[None], np.maximum(chosen, 0)[..., None], axis=-1)[..., 0], -2)
    votes = np.array([[(ids[e] == p).sum() for p in range(P)] for e in range(E)]).reshape(E, P)
    from scipy.optimize import linear_sum_assignment

    rows, columns = linear_sum_assignment(-votes)
    mine = dict(zip(columns.tolist(), rows.tolist()))
    true = sum(int((who == p).sum()) for p in range(P))
    right = sum(int(votes[e, p]) for p, e in mine.items())
    good_frames = all_frames = switches = 0
    for p in range(P):
        views = (who == p).any(-1).sum(0)
        asked = views >= 2
        all_frames += int(asked.sum())
        if p in mine:
            here = ids[mine[p]]
            wrong = ((here != p) & (here != -2)).sum(0)
            good_frames += int((asked & (wrong == 0) & ((here == p).sum(0) >= 2)).sum())
        counts = (ids == p).sum(1)
        owner = np.where(counts.max(0, initial=0) >= 2, counts.argmax(0) if E else 0, -1)
        owner = owner[owner >= 0]
        switches += int((np.diff(owner) != 0).sum())
    return {
        "right": right / max(true, 1), "pure": right / max(int((chosen >= 0).sum()), 1),
        "frames": good_frames / max(all_frames, 1), "switches": float(switches), "people": float(E),
    }  # fmt: skip
