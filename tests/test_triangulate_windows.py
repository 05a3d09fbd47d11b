"""Takes in windows: the seams must not show, and nothing may be lost."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose.errors import EgoposeError
from egopose.triangulate import TriangulateConfig, build_report, triangulate_take
from egopose.triangulate import report as report_module
from egopose.triangulate import windows as windows_module
from egopose.triangulate.windows import estimate_shared, probe_of, triangulate_windows
from tests.synthetic import Scene, walking_scene

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def scene() -> Scene:
    return walking_scene(
        4, n_frames=900, outlier_share=0.1, missing_share=0.1, swapped=(1, 380, 520), dead_view=(2, 290, 330),
        offset_frames=(0, 0, 2, 0), seed=81,
    )  # fmt: skip


@pytest.fixture(scope="module")
def whole(scene: Scene) -> egopose.PoseSequence:
    return triangulate_take(scene.rig, scene.observations).pose


def test_one_window_is_the_undivided_solve(scene: Scene, whole: egopose.PoseSequence) -> None:
    take = triangulate_windows(scene.rig, scene.observations, window_frames=5000)
    for name in ("xyz", "sigma", "covariance", "status"):
        assert getattr(take.pose, name).tobytes() == getattr(whole, name).tobytes(), name


def test_seams_do_not_show(scene: Scene, whole: egopose.PoseSequence) -> None:
    take = triangulate_windows(scene.rig, scene.observations, window_frames=150)
    pose = take.pose
    assert (pose.valid == whole.valid).mean() > 0.9995
    both = pose.valid & whole.valid
    distance = np.linalg.norm(pose.xyz - whole.xyz, axis=-1)[both]
    ratio = (pose.sigma / whole.sigma)[both]
    assert distance.max() < 1e-4
    assert np.abs(ratio - 1).max() < 0.02
    assert (pose.status == whole.status).mean() > 0.9995
    assert any("in 6 windows of 150 frames" in note for note in take.notes)
    # the report works on the assembled take
    numbers = build_report(take)
    assert numbers["summary"]["frames"] == 900


def test_a_probe_is_spread_over_the_take(monkeypatch: pytest.MonkeyPatch, scene: Scene) -> None:
    assert probe_of(scene.observations) is scene.observations
    monkeypatch.setattr(windows_module, "_BLOCKS", 3)
    monkeypatch.setattr(windows_module, "_BLOCK_FRAMES", 100)
    probe = probe_of(scene.observations)
    assert probe.n_frames == 300
    np.testing.assert_array_equal(probe.uv_px[:, 100:200], scene.observations.uv_px[:, 400:500])
    np.testing.assert_array_equal(probe.uv_px[:, 200:], scene.observations.uv_px[:, 800:])
    assert (np.diff(probe.frames) >= 1).all()
    assert np.sort(np.diff(probe.frames))[-2:].min() == 60
    # estimates from a third of the frames serve the whole take
    monkeypatch.setattr(report_module, "MOST_FRAMES", 500)
    take = triangulate_windows(scene.rig, scene.observations, window_frames=300)
    assert np.nanmedian(np.linalg.norm(take.pose.xyz - scene.truth.xyz, axis=-1)) < 0.01
    numbers = build_report(take)
    assert numbers["summary"]["frames"] == 900
    assert any("from 500 of 900 frames" in note for note in numbers["notes"])


def test_a_long_hole_in_the_frames_is_survived(scene: Scene) -> None:
    part = scene.observations.select(frames=np.r_[0:100, 800:900])
    pose = triangulate_take(scene.rig, part).pose
    assert pose.valid.mean() > 0.9
    truth = scene.truth.xyz[np.r_[0:100, 800:900]]
    assert np.nanmedian(np.linalg.norm(pose.xyz - truth, axis=-1)) < 0.01


def test_settings_reach_the_windows(scene: Scene) -> None:
    part = scene.observations.select(frames=np.arange(120))
    raw = TriangulateConfig(raw=True)
    one, two = triangulate_take(scene.rig, part, raw), triangulate_windows(scene.rig, part, raw, window_frames=50)
    assert one.pose.xyz.tobytes() == two.pose.xyz.tobytes()
    np.testing.assert_array_equal(one.used, two.used)
    with pytest.raises(EgoposeError, match="at least one frame"):
        triangulate_windows(scene.rig, part, window_frames=0)


def test_finished_windows_are_kept_and_damage_is_made_good(scene: Scene, tmp_path: Path) -> None:
    part = scene.observations.select(frames=np.arange(200))
    shared = estimate_shared(scene.rig, part)
    first = triangulate_windows(scene.rig, part, window_frames=60, folder=tmp_path, shared=shared).pose
    kept = sorted(tmp_path.glob("window_*.npz"))
    assert len(kept) == 4
    bits = first.xyz.tobytes(), first.covariance.tobytes()
    times = [path.stat().st_mtime_ns for path in kept]
    kept[1].write_bytes(kept[1].read_bytes()[:100])
    again = triangulate_windows(scene.rig, part, window_frames=60, folder=tmp_path, shared=shared).pose
    assert (again.xyz.tobytes(), again.covariance.tobytes()) == bits
    assert [path.stat().st_mtime_ns for path in kept][2:] == times[2:]
    # other data or other settings are other windows
    other = replace(shared, config=TriangulateConfig(smooth=False))
    triangulate_windows(scene.rig, part, window_frames=60, folder=tmp_path, shared=other)
    assert len(list(tmp_path.glob("window_*.npz"))) == 8


SCRIPT = """
import sys
import egopose
from egopose.triangulate.windows import triangulate_windows
rig, seen, out = sys.argv[1:]
take = triangulate_windows(egopose.load(rig), egopose.load(seen), window_frames=100, folder=out)
egopose.save(take.pose, out + ".npz")
"""


def test_killed_and_resumed_the_result_has_the_same_bits(scene: Scene, tmp_path: Path) -> None:
    egopose.save(scene.rig, tmp_path / "rig.json")
    egopose.save(scene.observations, tmp_path / "seen.npz")
    environment = {**os.environ, "PYTHONPATH": str(Path(egopose.__file__).parent.parent)}

    def start(name: str) -> subprocess.Popen:
        command = [sys.executable, "-c", SCRIPT, *(str(tmp_path / f) for f in ("rig.json", "seen.npz", name))]
        return subprocess.Popen(command, env=environment, cwd=ROOT)

    begun = time.monotonic()
    assert start("whole").wait(timeout=1800) == 0
    whole_s = time.monotonic() - begun
    for moment in np.sort(np.random.default_rng().uniform(0.4, 0.95, 2)) * whole_s:
        process = start("killed")
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait(timeout=300)
    assert start("killed").wait(timeout=1800) == 0
    one, two = (egopose.load(tmp_path / f"{name}.npz") for name in ("whole", "killed"))
    for name in ("xyz", "sigma", "covariance", "status"):
        assert getattr(one, name).tobytes() == getattr(two, name).tobytes()
