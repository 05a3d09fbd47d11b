"""Annotation JSON to arrays: the scanner against ``json`` with numpy, and the kept columns; interleaved, one process.

Writes ``benchmarks/results/json_reading.json``. The file is synthetic in the true schema: 17 body joints, 10 % absent,
with and without 2D of four cameras. The baseline is the loop that users write: ``json.loads``, then one numpy row for
each joint. Everyone reads the same warm file.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from egopose.files import write_json
from egopose.io.ego_exo4d_annotation_arrays import read_annotation_arrays
from egopose.io.ego_exo4d_files import read_body_file
from egopose.skeleton import BODY17

NAMES = [joint.replace("_", "-") for joint in BODY17.joints]
OUT = Path(__file__).resolve().parent / "results" / "json_reading.json"


def make_annotation(path: Path, frames: int, cameras: int) -> None:
    """A file in the schema of the manual body annotation, written frame by frame."""
    rng = np.random.default_rng(0)
    with open(path, "w") as stream:
        stream.write("{")
        for t in range(frames):
            xyz = rng.normal(0, 2, (17, 3))
            seen = [j for j in range(17) if rng.random() > 0.1]
            three = {
                NAMES[j]: {"x": xyz[j, 0], "y": xyz[j, 1], "z": xyz[j, 2], "num_views_for_3d": int(rng.integers(2, 6))}
                for j in seen
            }
            two = {
                f"cam{c + 1:02}": {
                    NAMES[j]: {"x": u, "y": v, "placement": "manual" if rng.random() < 0.4 else "auto"}
                    for j, (u, v) in zip(seen, rng.uniform(0, 3000, (17, 2)).tolist())
                }
                for c in range(cameras)
            }
            entry = [{"annotation3D": three, "annotation2D": two}]
            stream.write(("" if t == 0 else ", ") + f'"{3 * t}": ' + json.dumps(entry))
        stream.write("}")


def json_annotation(path: Path) -> np.ndarray:
    """The baseline for annotations: 3D only, as most users read it."""
    with open(path) as stream:
        document = json.load(stream)
    frames = sorted(int(key) for key in document)
    xyz = np.full((len(frames), 17, 3), np.nan)
    for t, frame in enumerate(frames):
        entry = document[str(frame)]
        points = entry[0].get("annotation3D", {}) if entry else {}
        for j, name in enumerate(NAMES):
            point = points.get(name)
            if point is not None:
                xyz[t, j] = point["x"], point["y"], point["z"]
    return xyz


def json_annotation_2d(path: Path, cameras: int) -> tuple[np.ndarray, np.ndarray]:
    """The baseline for annotations with 2D: what the scanner returns."""
    with open(path) as stream:
        document = json.load(stream)
    frames = sorted(int(key) for key in document)
    xyz = np.full((len(frames), 17, 3), np.nan)
    uv = np.full((cameras, len(frames), 17, 2), np.nan)
    placement = np.zeros(uv.shape[:3], dtype=np.uint8)
    for t, frame in enumerate(frames):
        entry = document[str(frame)][0]
        for name, point in entry["annotation3D"].items():
            xyz[t, NAMES.index(name)] = point["x"], point["y"], point["z"]
        for c in range(cameras):
            for name, point in entry["annotation2D"].get(f"cam{c + 1:02}", {}).items():
                j = NAMES.index(name)
                uv[c, t, j] = point["x"], point["y"]
                placement[c, t, j] = 1 if point["placement"] == "manual" else 2
    return xyz, uv


def json_body(path: Path) -> dict[str, np.ndarray]:
    """The baseline for submissions."""
    with open(path) as stream:
        document = json.load(stream)
    return {uid: np.array(list(take["body"].values()), dtype=np.float64) for uid, take in document.items()}


def make_body(path: Path, takes: int, frames: int) -> None:
    """A file in the schema of a body submission."""
    rng = np.random.default_rng(0)
    document = {
        f"uid{k}": {
            "take_name": f"takes/site_cooking_{k}",
            "body": {str(3 * t): xyz for t, xyz in enumerate(rng.normal(0, 2, (frames, 17, 3)).tolist())},
        }
        for k in range(takes)
    }
    path.write_text(json.dumps(document))


def race(jobs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, float]:
    """Median seconds of each job; the jobs take turns."""
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.perf_counter()
            job()
            times[name].append(time.perf_counter() - start)
    return {name: statistics.median(each) for name, each in times.items()}


def case(path: Path, jobs: dict[str, Callable[[], Any]], rounds: int) -> dict[str, Any]:
    """One row of the result."""
    size = path.stat().st_size
    seconds = race(jobs, rounds)
    return {
        "megabytes": round(size / 1e6, 1),
        "seconds": seconds,
        "megabytes_per_second": {name: size / 1e6 / s for name, s in seconds.items()},
        "ratio_to_json_numpy": {name: seconds["json_numpy"] / s for name, s in seconds.items()},
    }


def main() -> None:
    """Run the cases and write the result."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--frames", type=int, default=30_000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=OUT)
    arguments = parser.parse_args()
    n = arguments.frames
    results: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as folder:
        os.environ["EGOPOSE_CACHE"] = folder
        for name, frames, cameras in (("annotation_3d", n, 0), ("annotation_3d_2d", n // 5, 4)):
            path = Path(folder) / f"{name}.json"
            make_annotation(path, frames, cameras)
            got = read_annotation_arrays(path, scanner=True, cache=False)
            order = [got.joints.index(joint) for joint in NAMES]
            assert np.array_equal(got.xyz[:, order], json_annotation(path), equal_nan=True)
            read_annotation_arrays(path, cache=True)
            jobs: dict[str, Callable[[], Any]] = {
                "json_numpy": lambda path=path, n=cameras: (  # type: ignore[misc]
                    json_annotation_2d(path, n) if n else json_annotation(path)
                ),
                "scanner": lambda path=path: read_annotation_arrays(path, scanner=True, cache=False),  # type: ignore[misc]
                "columns": lambda path=path: read_annotation_arrays(path, cache=True),  # type: ignore[misc]
            }
            results[name] = case(path, jobs, arguments.rounds)
        path = Path(folder) / "body.json"
        make_body(path, 10, n // 10)
        results["body_submission"] = case(
            path,
            {"json_numpy": lambda: json_body(path), "scanner": lambda: read_body_file(path, scanner=True)},
            arguments.rounds,
        )
    for name, row in results.items():
        rates = ", ".join(
            f"{reader} {row['megabytes_per_second'][reader]:.0f} MB/s ({row['ratio_to_json_numpy'][reader]:.1f}x)"
            for reader in row["seconds"]
        )
        print(f"{name} ({row['megabytes']} MB): {rates}")
    write_json(arguments.out, {"frames": n, "rounds": arguments.rounds, "cases": results})


if __name__ == "__main__":
    main()
