"""The command line: help at once, exit statuses, one line for a refusal, the demo from start to end."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import egopose
from egopose import cli


def run(*arguments: str, cwd: Path | None = None) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "egopose", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=cwd, timeout=1800)


def test_help_needs_no_heavy_module() -> None:
    code = (
        "import sys; from egopose.cli import main; main(['--help']); main(['evaluate', '--help']);"
        "print([m for m in ('torch', 'numba', 'numpy', 'cv2', 'av', 'tyro', 'scipy') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"
    for verb in cli.VERBS:
        assert f"  {verb}" in done.stdout


def test_the_core_loads_no_heavy_module() -> None:
    code = (
        "import sys, egopose, egopose.metrics, egopose.triangulate; egopose.PoseSequence, egopose.Camera, egopose.load;"
        "print([m for m in ('torch', 'cv2', 'av', 'viser', 'smplx', 'matplotlib') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_importing_egopose_costs_little_beyond_numpy() -> None:
    code = (
        "import time; s = time.perf_counter(); import numpy; t = time.perf_counter(); import egopose;"
        "print(time.perf_counter() - t, t - s)"
    )
    times = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    # a slow machine is slow with numpy too
    assert min(float(own) for own, _ in times) < max(0.1, min(float(numpy) for _, numpy in times))


@pytest.mark.parametrize(
    ("arguments", "status"),
    [
        ((), 2),
        (("--version",), 0),
        (("--help",), 0),
        (("sing",), 2),
        (("evaluate",), 2),
        (("evaluate", "feet"), 2),
        (("triangulate",), 2),
        (("evaluate", "body", "absent.json", "absent.json"), 1),
        (("triangulate", "absent.toml", "absent", "--out", "x.npz"), 1),
        (("view", "absent.npz"), 1),
        (("convert", "absent.npz", "x.trc"), 1),
        (("predict", "absent.mp4", "--out", "x.npz"), 1),
        (("predict", "--out", "x.npz"), 1),
    ],
)
def test_statuses(arguments: tuple[str, ...], status: int, tmp_path: Path) -> None:
    done = run(*arguments, cwd=tmp_path)
    assert done.returncode == status, done.stderr
    assert "Traceback" not in done.stderr
    if status == 1:
        assert len(done.stderr.strip().splitlines()) == 1
    assert list(tmp_path.iterdir()) == []


def test_version_is_the_package_s() -> None:
    assert run("--version").stdout.strip() == f"egopose {egopose.__version__}"


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    process = subprocess.Popen(
        [sys.executable, "-m", "egopose", "demo", "--out", "d"], cwd=tmp_path, stdout=subprocess.DEVNULL
    )
    end = time.monotonic() + 300
    while not any(p.is_file() for p in tmp_path.rglob("*")) and time.monotonic() < end:
        assert process.poll() is None
        time.sleep(0.01)
    process.terminate()
    assert process.wait(timeout=300) == 143
    assert [p.name for p in tmp_path.rglob("*") if ".tmp" in p.name] == []


def test_the_demo_runs_and_its_numbers_are_those_of_the_files(tmp_path: Path) -> None:
    done = run("demo", "--out", str(tmp_path / "d"), "--seconds", "2", "--json")
    assert done.returncode == 0, done.stderr
    result = json.loads(done.stdout)
    pose, truth = egopose.load(tmp_path / "d/exo/joints.npz"), egopose.load(tmp_path / "d/exo/truth.npz")
    error = np.linalg.norm(pose.xyz - truth.xyz, axis=-1)
    known = np.isfinite(error)
    assert known.mean() > 0.97
    assert result["exo"]["scores"]["metrics"]["mpjpe_mm"] == pytest.approx(1e3 * error[known].mean(), rel=1e-5)
    assert 1e3 * error[known].mean() < 5
    for page in (result["exo"]["page"], result["exo"]["report"], result["ego"]["page"]):
        assert "<html" in Path(page).read_text()[:2000]
    ego, ego_truth = egopose.load(tmp_path / "d/ego/joints.npz"), egopose.load(tmp_path / "d/ego/truth.npz")
    body = ego.skeleton.indices(egopose.BODY17.joints)
    assert np.linalg.norm(ego.xyz[:, body] - ego_truth.xyz[:, body], axis=-1).mean() < 0.3
