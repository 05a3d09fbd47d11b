"""Ego-Exo4D end to end, small: exo videos to labels to training to both packed submissions and their scores."""

from __future__ import annotations

import importlib.util
import json
import zipfile
from pathlib import Path
from types import ModuleType

import pytest

from egopose.detect.weights import missing
from egopose.ego_exo4d import make_standin
from tests.conftest import ROOT

STEPS = 4
"""Enough to go through every part; says nothing about the quality, for which ``make ego-exo4d`` trains longer."""


@pytest.fixture(scope="module")
def tool() -> ModuleType:
    spec = importlib.util.spec_from_file_location("ego_exo4d_tool", ROOT / "tools" / "ego_exo4d.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_videos_to_submissions(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if missing():
        pytest.skip("the detector's weights are not fetched; run egopose weights fetch")
    from egopose.detect.weights import cache_folder

    weights = cache_folder() / "weights"
    monkeypatch.setenv("EGOPOSE_CACHE", str(tmp_path / "cache"))
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache" / "weights").symlink_to(weights)
    labelled, tested = tmp_path / "labelled", tmp_path / "tested"
    make_standin(labelled, takes=1, seconds=1.0, videos=True)
    # the official body protocol drops runs of less than 120 frames
    make_standin(tested, takes=3, seconds=4.1, videos="ego")
    result = tool.end_to_end(labelled, tested, tmp_path, steps=STEPS)
    # small images and a second of motion: the figures of full size are in the docs
    assert result["labels"]["body"]["standin_cooking_01_1"]["mpjpe_mm"] < 60
    assert result["labels"]["hand"]["standin_cooking_01_1"]["mpjpe_mm"] < 60
    assert result["labels"]["body"]["standin_cooking_01_1"]["agreement"]["joints"] > 300
    assert result["train"]["step"] == STEPS
    for track in ("body", "hand"):
        assert result[f"{track}_submission"]["takes"] == ["standin_basketball_02_1"]
        with zipfile.ZipFile(tmp_path / f"{track}.zip") as archive:
            assert archive.namelist() == [f"{track}.json"]
            document = json.loads(archive.read(f"{track}.json"))
        assert len(document) == 1
    official, baseline, hand = (result[key] for key in ("body_official", "body_baseline", "hand_official"))
    assert official["coverage"]["share"] == hand["coverage"]["share"] == 1.0
    # a network that has seen nothing yet is some decimetres off; a wrong frame of reference would be metres
    assert official["mpjpe_cm"] < 80
    assert baseline["mpjpe_cm"] == pytest.approx(official["mpjpe_cm"], abs=3)
    assert hand["pa_mpjpe_mm"] < 60
    print(tool.summary(result))
