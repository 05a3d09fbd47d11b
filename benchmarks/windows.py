"""Long takes in windows: peak memory by length, and what the seams do to the result.

Five cameras, 60 frames per second, 59 joints, 1 px noise, 5 % of the 2D joints displaced. The 2D lies in memory maps,
as do the results; the peak is that of the process's own memory (anonymous pages), each length in a fresh process.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

from egopose import BODY17_HANDS, Observations2D
from egopose.demo import ring_rig, walking_person
from egopose.pose import PoseSequence
from egopose.triangulate import triangulate_take
from egopose.triangulate.windows import estimate_shared, triangulate_windows

FPS = 60.0


def write_take(folder: Path, frames: int) -> Observations2D:
    """The 2D of a take on disk, made piece by piece."""
    rig = ring_rig(5, size=(1920, 1080))
    part = walking_person(np.arange(1800) / FPS)
    exact = np.stack([camera.project(part) for camera in rig.cameras]).astype(np.float32)
    exact = np.concatenate([exact, exact[:, ::-1]], axis=1)
    shape = (len(rig), frames, BODY17_HANDS.n_joints, 2)
    uv = np.lib.format.open_memmap(folder / "uv.npy", mode="w+", dtype=np.float32, shape=shape)
    rng = np.random.default_rng(0)
    for start in range(0, frames, exact.shape[1]):
        stop = min(start + exact.shape[1], frames)
        block = exact[:, : stop - start] + rng.standard_normal(exact[:, : stop - start].shape, dtype=np.float32)
        wrong = rng.random(block.shape[:3], dtype=np.float32) < 0.05
        block[wrong] += rng.normal(0, 100, (int(wrong.sum()), 2)).astype(np.float32)
        uv[:, start:stop] = block
    uv.flush()
    del uv
    mapped = np.load(folder / "uv.npy", mmap_mode="r")
    return Observations2D(BODY17_HANDS, tuple(rig.names), np.arange(frames), mapped, None, fps=FPS)


class Peak:
    """Largest anonymous memory of this process while inside, in MB."""

    def __enter__(self) -> Peak:
        self.mb, self._stop = 0.0, threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _watch(self) -> None:
        while not self._stop.wait(0.05):
            lines = Path("/proc/self/status").read_text().splitlines()
            self.mb = max(self.mb, next(int(line.split()[1]) / 1024 for line in lines if line.startswith("RssAnon")))


def long_take(minutes: float) -> dict[str, float]:
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        frames = round(minutes * 60 * FPS)
        observations = write_take(folder, frames)
        rig = ring_rig(5, size=(1920, 1080))
        triangulate_take(rig, observations.select(frames=np.arange(200)))  # compile first
        with Peak() as peak:
            start, cpu = time.perf_counter(), time.process_time()
            take = triangulate_windows(rig, observations, folder=folder / "windows")
            seconds, cpu_s = time.perf_counter() - start, time.process_time() - cpu
        assert take.pose is not None
        known = float((take.pose.status[::100] < 3).mean())
    return {
        "minutes": minutes,
        "frames": frames,
        "seconds": seconds,
        "cpu_s": cpu_s,
        "peak_mb": peak.mb,
        "known": known,
    }


def difference(one: PoseSequence, two: PoseSequence) -> dict[str, float]:
    """How far two solves of one take are apart."""
    both = one.valid & two.valid
    distance = 1e3 * np.linalg.norm(one.xyz - two.xyz, axis=-1)[both]
    ratio = np.abs(two.sigma[both] / one.sigma[both] - 1)
    return {
        "max_mm": float(distance.max()), "p99_mm": float(np.quantile(distance, 0.99)),
        "sigma_max": float(ratio.max()), "sigma_p99": float(np.quantile(ratio, 0.99)),
        "same_validity": float((one.valid == two.valid).mean()),
    }  # fmt: skip


def seams(frames: int = 9000, window: int = 1500) -> dict[str, Any]:
    """A take in windows against one window of everything, and against the take solved without windows."""
    with tempfile.TemporaryDirectory() as temporary:
        observations = write_take(Path(temporary), frames)
        rig = ring_rig(5, size=(1920, 1080))
        whole = triangulate_take(rig, observations).pose
        shared = estimate_shared(rig, observations)
        one = triangulate_windows(rig, observations, window_frames=frames, shared=shared).pose
        parts = triangulate_windows(rig, observations, window_frames=window, shared=shared).pose
    assert whole is not None
    assert one is not None
    assert parts is not None
    return {
        "frames": frames, "window": window, "seams": difference(one, parts), "estimates": difference(whole, parts),
    }  # fmt: skip


def render() -> None:
    result = stored("windows")
    rows = [[f"{r['minutes']:g}", r["frames"], f"{r['cpu_s']:.0f}", f"{r['peak_mb']:.0f}"] for r in result["lengths"]]
    put_table(
        "triangulation.md", "window memory", markdown(["minutes", "frames", "CPU seconds", "peak memory MB"], rows)
    )
    names = {"seams": "one window of the whole take", "estimates": "the take solved without windows"}
    rows = [
        [
            names[key], f"{r['p99_mm']:.3f}", f"{r['max_mm']:.3f}", f"{100 * r['sigma_p99']:.2f} %",
            f"{100 * r['sigma_max']:.2f} %",
        ]
        for key, r in result["seams"].items()
        if key in names
    ]  # fmt: skip
    header = ["windows against", "99 % within, mm", "largest, mm", "error bars: 99 % within", "largest"]
    put_table("triangulation.md", "window seams", markdown(header, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--one", type=float, help="measure this length only and print it")
    parser.add_argument("--minutes", type=float, nargs="+", default=[2.0, 10.0, 30.0])
    options = parser.parse_args()
    warnings.simplefilter("ignore")
    if options.one is not None:
        print(json.dumps(long_take(options.one)))
        return
    if not options.tables_only:
        lengths = []
        for minutes in options.minutes:
            done = subprocess.run(
                [sys.executable, __file__, "--one", str(minutes)], check=True, capture_output=True, text=True
            )
            lengths.append(json.loads(done.stdout.splitlines()[-1]))
            print(lengths[-1], flush=True)
        result = {"lengths": lengths, "seams": seams()}
        print(result["seams"])
        store("windows", result)
    render()


if __name__ == "__main__":
    main()
