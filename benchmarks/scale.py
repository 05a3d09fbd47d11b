"""Takes over processes and over a Dask cluster on this machine, and what a job of 14 million frames would cost.

Usage: python benchmarks/scale.py [--tables-only] [--takes N] [--rounds N]

Measured: the same triangulations by one process, two processes and two Dask workers on the loopback (one thread each,
warm: every pool has done all takes once). Calculated from stored results of the other benchmarks: the 14 M frame job.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from common import interleaved, markdown, put_table, store, stored

from egopose.commands.each import run_row
from egopose.demo import exo_capture
from egopose.files import sha256_file
from egopose.io import save
from egopose.pools import dask_executor, process_pool
from egopose.shard import Shard, run_shards

FRAMES = 14_000_000
WORKERS = (1, 2, 8, 64, 512)
SECONDS = 4.0


@contextlib.contextmanager
def cluster(folder: Path, workers: int) -> Iterator[str]:
    """Address of a scheduler with some workers, processes of their own."""
    file = folder / "scheduler.json"
    dask = [sys.executable, "-m", "dask"]
    start = lambda *words: subprocess.Popen([*dask, *words], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)  # noqa: E731
    here = ("--host", "127.0.0.1", "--no-dashboard", "--scheduler-file", str(file))
    processes = [start("scheduler", "--port", "0", *here)]
    processes += [start("worker", "--nthreads", "1", "--no-nanny", *here) for _ in range(workers)]
    try:
        while not file.exists():
            time.sleep(0.05)
        time.sleep(0.2)
        yield json.loads(file.read_text())["address"]
    finally:
        for process in processes:
            process.kill()
            process.wait()


def measure(takes: int, rounds: int) -> dict[str, Any]:
    """Seconds for all takes, by place; and whether the files have the same bits."""
    with tempfile.TemporaryDirectory() as work, contextlib.ExitStack() as stack:
        folder = Path(work)
        os.chdir(folder)
        frames = 0
        for k in range(takes):
            capture = exo_capture(seconds=SECONDS, seed=k)
            save(capture.rig, folder / f"rig_{k}.toml")
            save(capture.observations, folder / f"kp_{k}.csv")
            frames += capture.truth.n_frames
        places = {
            "one process": stack.enter_context(process_pool(1)),
            "two processes": stack.enter_context(process_pool(2)),
            "two Dask workers": stack.enter_context(dask_executor(stack.enter_context(cluster(folder, 2)))),
        }

        def job(place: str) -> None:
            out = place.replace(" ", "_")
            work = [
                Shard(str(k), {"target": "egopose.commands.triangulate:triangulate", "prog": "egopose triangulate",
                               "words": [f"rig_{k}.toml", f"kp_{k}.csv", "--out", f"{out}/{k}.npz"],
                               "folder": str(folder)}, outputs=(f"{out}/{k}.npz",))
                for k in range(takes)
            ]  # fmt: skip
            outcomes = run_shards(run_row, work, executor=places[place])
            assert not [o.error for o in outcomes if o.error], [o.error for o in outcomes]

        seconds = interleaved({place: lambda place=place: job(place) for place in places}, rounds)
        hashes = {
            place: [sha256_file(folder / place.replace(" ", "_") / f"{k}.npz") for k in range(takes)]
            for place in places
        }
        same = len({tuple(each) for each in hashes.values()}) == 1
        os.chdir(Path(__file__).parent)
    return {"takes": takes, "frames": frames, "rounds": rounds, "seconds": seconds, "same_bits": same}


def costs() -> list[tuple[str, float, str]]:
    """Stage, core seconds per frame, and where the figure was measured."""
    long = stored("take")["long"]
    predict = stored("predict")["contenders"]
    fused = stored("metrics")["mapped"]
    here = stored("scale")
    rows = [
        ("triangulate, 59 joints, takes of 4 s from files", here["seconds"]["one process"] / here["frames"], "above"),
        ("triangulate, 59 joints, one long take", long["seconds"] / long["frames"],
         f"{long['frames']:,} frames, {long['observations']:,} observations in {long['seconds']:.0f} s, both cores"),
        ("predict, head path alone", predict["nano, head poses alone, torch"]["median_ms"] / 1e3, "streamed, median"),
        ("predict, images and head path", predict["nano, images and head poses, torch"]["median_ms"] / 1e3,
         "streamed, median, decoding included"),
        ("evaluate, 17 joints, mapped arrays", 2 * fused["seconds"] / fused["frames"],
         f"{fused['frames']:,} frames on both cores"),
    ]  # fmt: skip
    return rows


def duration(hours: float) -> str:
    """Two digits, in the unit that suits."""
    value, unit = (hours, "h") if hours >= 1 else (60 * hours, "min") if hours >= 1 / 60 else (3600 * hours, "s")
    return f"{value:.0f} {unit}" if value >= 10 else f"{value:.1f} {unit}" if value >= 0.1 else f"{value:.2g} {unit}"


def render(result: dict[str, Any]) -> None:
    """Both tables of docs/scale.md."""
    seconds = result["seconds"]
    one = seconds["one process"]
    rows = [[place, f"{s:.2f}", f"{result['frames'] / s:.0f}", f"{one / s:.2f}"] for place, s in seconds.items()]
    put_table("scale.md", "throughput", markdown(["where", "seconds", "frames/s", "over one process"], rows))
    efficiency = one / seconds["two processes"] / 2
    table = []
    for stage, cost, source in costs():
        hours = [FRAMES * cost / 3600 / (n if n == 1 else n * efficiency) for n in WORKERS]
        table.append([stage, f"{1e3 * cost:.4g}", *map(duration, hours), source])
    head = ["stage", "ms a frame and core", *[f"{n} worker{'s' * (n > 1)}" for n in WORKERS], "cost measured on"]
    put_table("scale.md", "model", markdown(head, table))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--takes", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    if not options.tables_only:
        store("scale", measure(options.takes, options.rounds))
    render(stored("scale"))


if __name__ == "__main__":
    main()
