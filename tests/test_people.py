"""Several people told apart: against scenes with known truth, and what must never matter."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from egopose.candidates import Candidates2D
from egopose.errors import EgoposeError
from egopose.skeleton import BODY17
from egopose.triangulate.people import People, find_wearer, tell_apart
from egopose.triangulate.people_tracks import PeopleConfig
from tests.people_scenes import Crowd, association_scores, crowd


@pytest.fixture(scope="module")
def three() -> Crowd:
    return crowd(3, leave=True, n_frames=120, seed=2)


@pytest.fixture(scope="module")
def found(three: Crowd) -> People:
    return tell_apart(three.rig, three.candidates)


@pytest.mark.parametrize(
    ("people", "cameras", "options", "least"),
    [
        (2, 3, {}, 0.99),
        (3, 4, {"leave": True}, 0.98),
        (4, 4, {}, 0.96),
        # with two cameras a person that one of them misses is nobody's after a break
        (2, 2, {"false_share": 0.05}, 0.85),
    ],
)
def test_people_are_followed(people: int, cameras: int, options: dict, least: float) -> None:
    scene = crowd(people, cameras=cameras, n_frames=80, seed=3, **options)
    found = tell_apart(scene.rig, scene.candidates)
    scores = association_scores(scene, found.chosen)
    assert len(found) == people
    assert scores["switches"] == 0
    assert scores["right"] > least
    assert scores["pure"] > max(least, 0.95)
    assert scores["frames"] > least
    rows = found.table()
    assert [row["person"] for row in rows] == list(range(1, people + 1))
    seen = [observations.seen.sum() for observations in found.observations]
    assert seen == sorted(seen, reverse=True)


def test_the_rough_joints_are_near_the_truth(three: Crowd, found: People) -> None:
    middle = np.nanmedian(three.truth, axis=2)
    shown = np.isfinite(found.xyz[:, 40, :, 0]).any(1)
    rough = np.nanmedian(found.xyz[shown, 40], axis=1)
    for p in range(3):
        if three.present[p, 40]:
            assert np.linalg.norm(rough - middle[p, 40], axis=-1).min() < 0.15


def test_observations_are_the_detections(three: Crowd, found: People) -> None:
    for p, observations in enumerate(found.observations):
        for v in range(observations.n_views):
            for t in range(0, observations.n_frames, 17):
                k = found.chosen[p, v, t]
                if k < 0:
                    assert not observations.seen[v, t].any()
                else:
                    given_uv = three.candidates.layers[k].uv_px[v, t]
                    seen = np.isfinite(given_uv[:, 0])
                    np.testing.assert_array_equal(observations.uv_px[v, t][seen], given_uv[seen])
    # no detection belongs to two people
    for k in range(three.candidates.n_people):
        assert ((found.chosen == k).sum(0) <= 1).all()


@settings(max_examples=2, deadline=None)
@given(st.integers(0, 2**32 - 1))
def test_the_order_of_detections_does_not_matter(seed: int) -> None:
    scene = crowd(3, n_frames=40, seed=5)
    rng = np.random.default_rng(seed)
    uv = np.stack([layer.uv_px for layer in scene.candidates.layers], axis=2)
    score = np.stack([layer.score for layer in scene.candidates.layers], axis=2)
    mixed = np.argsort(rng.random(uv.shape[:3]), axis=-1)
    again = Candidates2D.from_arrays(
        BODY17, scene.candidates.views, scene.candidates.frames,
        np.take_along_axis(uv, mixed[..., None, None], axis=2), np.take_along_axis(score, mixed[..., None], axis=2),
        fps=scene.candidates.fps,
    )  # fmt: skip
    one, two = tell_apart(scene.rig, scene.candidates), tell_apart(scene.rig, again)
    assert len(one) == len(two)
    assert one.xyz.tobytes() == two.xyz.tobytes()
    for a, b in zip(one.observations, two.observations):
        np.testing.assert_array_equal(a.uv_px, b.uv_px)
        np.testing.assert_array_equal(a.score, b.score)


@settings(max_examples=2, deadline=None)
@given(st.permutations(range(4)))
def test_the_order_of_views_decides_nothing_but_ties(order: list[int]) -> None:
    scene = crowd(2, n_frames=40, seed=6)
    views = [scene.candidates.views[i] for i in order]
    found = tell_apart(scene.rig, scene.candidates.select(views=views))
    back = np.argsort(order)
    scores = association_scores(scene, found.chosen[:, back])
    assert len(found) == 2
    assert scores["frames"] > 0.98
    assert scores["switches"] == 0


def test_the_head_camera_names_its_wearer(three: Crowd, found: People) -> None:
    for p in range(3):
        observations, report = find_wearer(found, three.heads[p])
        assert report["median_distance_m"] < 0.2
        mine = found.chosen[report["person"] - 1]
        who = np.take_along_axis(three.who, np.maximum(mine, 0)[..., None], axis=-1)[..., 0]
        assert (who[mine >= 0] == p).mean() > 0.97
        assert observations.seen.any()


def test_the_wearer_survives_exchanged_identities(three: Crowd, found: People) -> None:
    # a tracker that loses its mind half-way: people 0 and 1 exchanged from frame 60
    a, b = found.observations[0], found.observations[1]
    mixed = []
    for one, other in ((a, b), (b, a)):
        uv, score = one.uv_px.copy(), one.score.copy()
        uv[:, 60:], score[:, 60:] = other.uv_px[:, 60:], other.score[:, 60:]
        mixed.append(one.replace(uv_px=uv, score=score))
    xyz, chosen = found.xyz.copy(), found.chosen.copy()
    xyz[[0, 1], 60:], chosen[[0, 1], :, 60:] = xyz[[1, 0], 60:], chosen[[1, 0], :, 60:]
    broken = replace(found, observations=(*mixed, *found.observations[2:]), xyz=xyz, chosen=chosen)
    for p in range(3):
        whole, _ = find_wearer(found, three.heads[p])
        repaired, report = find_wearer(broken, three.heads[p])
        same = np.isclose(whole.uv_px, repaired.uv_px, equal_nan=True).all(-1)
        assert same.mean() > 0.9, report


def test_refusals(three: Crowd, found: People) -> None:
    with pytest.raises(EgoposeError, match="on the trajectory's clock"):
        find_wearer(found, three.heads[0], start_s=1e6)
    far = three.heads[0].T_world_camera.copy()
    far[:, 0, 3] += 20
    with pytest.raises(EgoposeError, match="nobody's head is within"):
        find_wearer(found, type(three.heads[0])(three.heads[0].times_s, far))
    with pytest.raises(EgoposeError, match="needs at least two"):
        tell_apart(three.rig, three.candidates.select(views=["cam01"]))
    with pytest.raises(EgoposeError, match="no camera in the rig"):
        tell_apart(three.rig.subset(["cam01", "cam02"]), three.candidates)
    with pytest.raises(EgoposeError, match="has another skeleton"):
        Candidates2D((three.candidates.layers[0], three.candidates.layers[1].select(views=["cam01"])))
    with pytest.raises(EgoposeError, match="no layer"):
        Candidates2D(())


def test_nobody(three: Crowd) -> None:
    nothing = np.full((4, 10, 2, 17, 2), np.nan, np.float32)
    empty = Candidates2D.from_arrays(BODY17, three.rig.names, np.arange(10), nothing, fps=30.0)
    found = tell_apart(three.rig, empty, PeopleConfig(gate_m=0.3))
    assert len(found) == 0
    with pytest.raises(EgoposeError, match="nobody can be the wearer"):
        find_wearer(found, three.heads[0])
