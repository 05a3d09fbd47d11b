"""A real Dask cluster on the loopback: two workers, one of them killed halfway, the same bits as the process pool."""

from __future__ import annotations

import contextlib
import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from egopose.demo import exo_capture
from egopose.files import sha256_file
from egopose.io import save

pytest.importorskip("distributed", reason="needs the extra [dask]")
TAKES = 10
PATIENCE_S = 400.0
"""Seconds for a step that takes a few on an idle machine."""


class Cluster:
    """A scheduler and two workers as processes of their own."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.env = {**os.environ, "DASK_DISTRIBUTED__ADMIN__LOW_LEVEL_LOG_LENGTH": "0", "OMP_NUM_THREADS": "1"}
        self.file = folder / "scheduler.json"
        self.scheduler = self._start(
            "scheduler", "--host", "127.0.0.1", "--port", "0", "--no-dashboard", "--scheduler-file", str(self.file)
        )
        self.workers = [self._worker(), self._worker()]
        self.address = self._address()

    def _address(self) -> str:
        """Where the scheduler listens, once its file is there and whole."""
        end = time.monotonic() + PATIENCE_S
        while time.monotonic() < end:
            assert self.scheduler.poll() is None, "the scheduler did not start"
            with contextlib.suppress(OSError, ValueError):
                return str(json.loads(self.file.read_text())["address"])
            time.sleep(0.05)
        raise AssertionError("the scheduler did not start")

    def wait_for_workers(self) -> None:
        """Until both workers have joined: before that the other one would get all the work."""
        code = "import sys, distributed as d; d.Client(sys.argv[1], timeout=300).wait_for_workers(2, timeout=300)"
        subprocess.run([sys.executable, "-c", code, self.address], check=True, timeout=PATIENCE_S, capture_output=True)

    def _start(self, *words: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen(
            [sys.executable, "-m", "dask", *words], cwd=self.folder, env=self.env,
            stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip

    def _worker(self) -> subprocess.Popen[bytes]:
        words = (
            "--host",
            "127.0.0.1",
            "--nthreads",
            "1",
            "--no-dashboard",
            "--no-nanny",
            "--scheduler-file",
            str(self.file),
        )
        return self._start("worker", *words)

    def stop_one(self) -> None:
        """Hold a worker where it is: what it has in hand stays unfinished."""
        self.workers[0].send_signal(signal.SIGSTOP)

    def kill_one(self) -> None:
        """Kill that worker outright and start another, as a node manager would."""
        victim = self.workers.pop(0)
        victim.send_signal(signal.SIGKILL)
        victim.wait()
        self.workers.append(self._worker())

    def close(self) -> None:
        for process in (*self.workers, self.scheduler):
            process.kill()
            process.wait()


@pytest.fixture(scope="module")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cluster]:
    made = Cluster(tmp_path_factory.mktemp("cluster"))
    yield made
    made.close()


@pytest.fixture(scope="module")
def takes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("takes")
    rows = []
    for k in range(TAKES):
        capture = exo_capture(seconds=0.4, seed=k)
        save(capture.rig, folder / f"rig_{k}.toml")
        save(capture.observations, folder / f"kp_{k}.csv")
        save(capture.truth, folder / f"truth_{k}.npz")
        rows.append([f"take_{k}", f"rig_{k}.toml", f"kp_{k}.csv", f"truth_{k}.npz"])
    with open(folder / "takes.csv", "w", newline="") as stream:
        csv.writer(stream).writerows([["name", "rig", "kp", "truth"], *rows])
    return folder


class KillHalfway(threading.Thread):
    """Holds a worker when the first take is done and kills it when a third is.

    Attributes:
        over: To be set when the run is.
        finished: Takes that were done when the worker was killed.
    """

    def __init__(self, cluster: Cluster, out: Path) -> None:
        super().__init__()
        self.cluster, self.out, self.over, self.finished = cluster, out, threading.Event(), 0

    def wait_until(self, takes: int) -> None:
        while self.done() < takes and not self.over.wait(0.005):
            pass

    def done(self) -> int:
        return len(list(self.out.glob("*.npz")))

    def run(self) -> None:
        self.wait_until(1)
        self.cluster.stop_one()
        self.wait_until(TAKES // 3)
        self.finished = TAKES if self.over.is_set() else self.done()
        self.cluster.kill_one()


def egopose(folder: Path, *words: str) -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, "-m", "egopose", *words, "--json"], cwd=folder, capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, done.stderr + done.stdout
    return json.loads(done.stdout)


def hashes(folder: Path) -> dict[str, str]:
    return {str(p.relative_to(folder)): sha256_file(p) for p in sorted(folder.rglob("*")) if p.is_file()}


def test_a_killed_worker_changes_no_bit(cluster: Cluster, takes: Path) -> None:
    each = ("--each", "takes.csv")
    here = egopose(takes, "triangulate", "{rig}", "{kp}", "--out", "here/{name}.npz", *each, "--workers", "2",
                   "--manifest", "here.jsonl")  # fmt: skip
    assert here["done"] == TAKES
    place = ("--engine", "dask", "--scheduler", cluster.address)
    # on a machine that stalls the run may be over before it is seen to have begun: then once more
    for attempt in range(5):
        cluster.wait_for_workers()
        out, killer = f"there_{attempt}", KillHalfway(cluster, takes / f"there_{attempt}")
        killer.start()
        try:
            there = egopose(takes, "triangulate", "{rig}", "{kp}", "--out", f"{out}/{{name}}.npz", *each, *place,
                            "--manifest", f"{out}.jsonl")  # fmt: skip
        finally:
            killer.over.set()
            killer.join()
        assert there["done"] == TAKES
        assert hashes(takes / out) == hashes(takes / "here")
        if 0 < killer.finished < TAKES:
            break
    assert 0 < killer.finished < TAKES
    # scores of all takes, from sums that other machines computed
    scores = ("evaluate", "pose", "here/{name}.npz", "{truth}", *each)
    alone = egopose(takes, *scores, "--workers", "1", "--manifest", "s1.jsonl")
    shared = egopose(takes, *scores, *place, "--manifest", "s2.jsonl")
    assert alone["pooled"] == shared["pooled"]
    assert alone["pooled"]["metrics"]["mpjpe_mm"] < 5
    converted = egopose(takes, "convert", "here/{name}.npz", "trc/{name}.trc", *each, *place)
    assert converted["done"] == TAKES


def test_prediction_and_rendering_on_a_cluster(cluster: Cluster, tmp_path: Path) -> None:
    place = ("--engine", "dask", "--scheduler", cluster.address)
    import numpy as np

    from egopose.demo import walking_wearer
    from egopose.trajectory import Trajectory

    times = np.arange(45) / 30
    for k in range(2):
        save(Trajectory(times, walking_wearer(times, seed=k)[1]), tmp_path / f"head_{k}.npz")
    (tmp_path / "t.csv").write_text("name,head\n0,head_0.npz\n1,head_1.npz\n")
    words = ("predict", "--trajectory", "{head}", "--each", "t.csv")
    egopose(tmp_path, *words, "--out", "here/{name}.npz", "--workers", "2", "--manifest", "a")
    egopose(tmp_path, *words, "--out", "there/{name}.npz", *place, "--manifest", "b")
    assert hashes(tmp_path / "here") == hashes(tmp_path / "there")
    (tmp_path / "s.yaml").write_text("clips: 3\nframes: 2\nside: 64\nsamples: 1\n")
    egopose(tmp_path, "synth", "s.yaml", "--out", "one")
    egopose(tmp_path, "synth", "s.yaml", "--out", "two", *place)
    egopose(tmp_path, "synth", "s.yaml", "--out", "three", "--workers", "2")
    one = hashes(tmp_path / "one")
    assert len([name for name in one if name.endswith("images.npy")]) == 3
    assert one == hashes(tmp_path / "two") == hashes(tmp_path / "three")


def test_an_address_without_a_scheduler_is_one_line(takes: Path) -> None:
    words = ["convert", "{truth}", "{name}.trc", "--each", "takes.csv", "--engine", "dask"]
    done = subprocess.run(
        [sys.executable, "-m", "egopose", *words, "--scheduler", "tcp://127.0.0.1:9"], cwd=takes,
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1
    assert "no Dask scheduler answers at tcp://127.0.0.1:9" in done.stderr
    assert "Traceback" not in done.stderr
