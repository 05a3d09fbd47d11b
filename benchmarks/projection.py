"""Points per second of projecting and unprojecting, beside OpenCV and COLMAP in the same run, one thread.

Usage: python benchmarks/projection.py [--points 200000] [--rounds 9] [--tables-only]

Each round times every contender once, in turn, so that other work on the machine hits all of them; the table holds
the median over rounds and the median of the ratios within a round. Accuracy is checked in the same run: the largest
difference of the pixels, and the largest distance in pixels after unprojecting and projecting again.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import cv2
import numpy as np
from common import markdown, put_table, store, stored

from egopose.camera import Camera

K = np.array([[1400.0, 0, 959.5], [0, 1400.0, 539.5], [0, 0, 1]])
SIZE = (1920, 1080)
LENSES: dict[str, list[float]] = {
    "brown_conrady_5": [-0.12, 0.06, 0.0006, -0.0004, -0.01],
    "brown_conrady_12": [0.1, -0.2, 0.001, -0.002, 0.1, 0.12, -0.1, 0.05, 0.001, -0.002, 0.003, 0.0004],
    "kannala_brandt": [0.036902, 0.057131, -0.057154, 0.018458],
    "fisheye624": [0.411, -0.4565, 0.0383, 1.2983, -1.7705, 0.655, -8e-5, 4e-5, -6e-4, 6e-4, 5e-4, 2e-4],
}


def contenders(
    lens: str, camera: Camera, points: np.ndarray, uv: np.ndarray
) -> dict[str, dict[str, Callable[[], Any]]]:
    """Jobs by task and name; all take the same float64 arrays."""
    D, zero = np.array(LENSES[lens]), np.zeros(3)
    jobs: dict[str, dict[str, Callable[[], Any]]] = {
        "project": {"egopose": lambda: camera.project(points, frame="camera")},
        "unproject": {"egopose": lambda: camera.unproject(uv)},
    }
    column, pixels = np.ascontiguousarray(points[:, None]), np.ascontiguousarray(uv[:, None])
    if lens.startswith("brown"):
        exact = (cv2.TERM_CRITERIA_COUNT | cv2.TERM_CRITERIA_EPS, 40, 1e-12)
        jobs["project"]["cv2"] = lambda: cv2.projectPoints(points, zero, zero, K, D)[0][:, 0]
        jobs["unproject"]["cv2 (default, 5 rounds)"] = lambda: cv2.undistortPoints(pixels, K, D)[:, 0]
        jobs["unproject"]["cv2 (to 1e-12, 40 rounds)"] = lambda: cv2.undistortPoints(pixels, K, D, criteria=exact)[:, 0]
    elif lens == "kannala_brandt":
        jobs["project"]["cv2.fisheye"] = lambda: cv2.fisheye.projectPoints(column, zero, zero, K, D)[0][:, 0]
        jobs["unproject"]["cv2.fisheye"] = lambda: cv2.fisheye.undistortPoints(pixels, K, D)[:, 0]
    try:
        import pycolmap
    except ImportError:
        return jobs
    names = {"kannala_brandt": "OPENCV_FISHEYE", "fisheye624": "RAD_TAN_THIN_PRISM_FISHEYE"}
    if lens in names:
        params = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], *LENSES[lens]]
        other = pycolmap.Camera(model=names[lens], width=SIZE[0], height=SIZE[1], params=params)
        jobs["project"]["pycolmap"] = lambda: other.img_from_cam(points)
        jobs["unproject"]["pycolmap"] = lambda: other.cam_from_img(uv)
    return jobs


def rays(values: np.ndarray) -> np.ndarray:
    """Results of unprojecting, as points on the plane z = 1 or rays, in one form."""
    return values if values.shape[-1] == 3 else np.c_[values, np.ones(len(values))]


def measure(lens: str, n: int, rounds: int) -> list[dict[str, Any]]:
    """One row per task and contender."""
    model = lens if lens == "fisheye624" else "kannala_brandt" if lens == "kannala_brandt" else "brown_conrady"
    params = [K[0, 0], K[1, 1], K[0, 2], K[1, 2], *LENSES[lens]]
    camera = Camera(model, SIZE, np.array(params))
    rng = np.random.default_rng(0)
    uv = rng.uniform(0, np.array(SIZE) - 1.0, (n, 2))
    points = camera.unproject(uv) * rng.uniform(1, 5, (n, 1))
    rows = []
    for task, jobs in contenders(lens, camera, points, uv).items():
        seconds: dict[str, list[float]] = {name: [] for name in jobs}
        results = {name: job() for name, job in jobs.items()}  # compiles, and warms the caches
        for _ in range(rounds):
            for name, job in jobs.items():
                start = time.perf_counter()
                job()
                seconds[name].append(time.perf_counter() - start)
        for name in jobs:
            found = results[name] if task == "project" else camera.project(rays(results[name]), frame="camera")
            ratio = np.median(np.array(seconds[name]) / seconds["egopose"])
            rows.append(
                {
                    "lens": lens,
                    "task": task,
                    "who": name,
                    "points_per_s": n / float(np.median(seconds[name])),
                    "egopose_is_faster_by": float(ratio),
                    "largest_error_px": float(np.abs(found - uv).max()),
                }
            )
    return rows


def table(result: dict[str, Any]) -> str:
    """The rows in markdown."""
    header = ["lens", "task", "who", "million points/s", "egopose is faster by", "largest error, px"]
    rows = [
        [
            row["lens"],
            row["task"],
            row["who"],
            f"{row['points_per_s'] / 1e6:.2f}",
            "" if row["who"] == "egopose" else f"{row['egopose_is_faster_by']:.2f}",
            f"{row['largest_error_px']:.1e}",
        ]
        for row in result["rows"]
    ]
    return markdown(header, rows)


def main() -> int:
    """Run all lenses, store the result and put the table into the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--points", type=int, default=200_000)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--tables-only", action="store_true", help="render the stored result, measure nothing")
    options = parser.parse_args()
    if not options.tables_only:
        cv2.setNumThreads(1)
        rows = [row for lens in LENSES for row in measure(lens, options.points, options.rounds)]
        sizes = {"points": options.points, "rounds": options.rounds, "threads": 1, "cv2": cv2.__version__}
        store("projection", {**sizes, "rows": rows})
    text = table(stored("projection"))
    print(text)
    put_table("benchmarks-cameras.md", "projection", text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
