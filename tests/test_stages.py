"""The stages in a row: what a configuration asks for, what they hand on, and what they say."""

from __future__ import annotations

import json

import numpy as np
import pytest

from egopose.files import plain_json
from egopose.triangulate import TriangulateConfig, stages, triangulate_take
from tests.synthetic import walking_scene


def names(**settings) -> list[str]:
    return [stage.__name__ for stage in stages.stages_for(TriangulateConfig(**settings))]


def test_a_configuration_asks_for_its_stages() -> None:
    assert names() == ["times_and_sides", "drop_wrong_cameras", "solve_frames", "hand_views", "smooth"]
    assert names(refine_cameras=True)[2] == "refine_cameras"
    assert names(raw=True) == names(method="linear") == ["solve_frames"]
    off = {key: False for key in ("time_offsets", "sides", "drop_wrong_cameras", "hand_views", "smooth")}
    assert names(**off) == ["solve_frames"]
    for key, stage in (("hand_views", "hand_views"), ("smooth", "smooth"), ("drop_wrong_cameras",) * 2):
        assert names(**{**off, key: True}).count(stage) == 1


def test_the_take_says_what_was_found_in_plain_data() -> None:
    scene = walking_scene(4, n_frames=90, hands=True, swapped=(1, 20, 60), offset_frames=(0, 0, 3, 0), seed=81)
    shares: list[float] = []
    take = triangulate_take(scene.rig, scene.observations, progress=lambda share, what: shares.append(share))
    assert shares == sorted(shares)
    assert shares[-1] == pytest.approx(1)
    json.dumps(plain_json(take.found), allow_nan=False)
    assert take.found["sides"]["cam02"]["body"] == pytest.approx(40 / 90, abs=0.05)
    assert any("cam02: left and right exchanged" in note for note in take.notes)
    assert any("cam03 +" in note for note in take.notes)
    assert take.unsmoothed is not None
    assert take.unsmoothed.xyz.shape == take.pose.xyz.shape
    error = np.linalg.norm(take.pose.xyz - scene.truth.xyz, axis=-1)
    assert np.nanmean(error) < 5e-3


def test_each_stage_helps_where_its_defect_is() -> None:
    scene = walking_scene(4, n_frames=120, swapped=(1, 20, 80), seed=82)
    error = {}
    for sides in (False, True):
        config = TriangulateConfig(sides=sides, smooth=False, time_offsets=False)
        distance = np.linalg.norm(triangulate_take(scene.rig, scene.observations, config).pose.xyz - scene.truth.xyz,
                                  axis=-1)  # fmt: skip
        error[sides] = np.where(np.isfinite(distance), distance, 0.5).mean()
    assert error[True] < error[False]
    assert error[True] < 5e-3
