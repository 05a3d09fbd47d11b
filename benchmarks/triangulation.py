"""Triangulation against its peers: points per second on one thread and accuracy, at 4, 5 and 8 cameras, in one run.

    python benchmarks/triangulation.py [--peer-python PYTHON]

PYTHON is the interpreter of an environment with aniposelib and Pose2Sim, which bring packages that have no place in
this one; without it these two are left out. Writes results/triangulation.json and the table of
docs/benchmarks-triangulation.md.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import statistics
import sys
import time
from pathlib import Path
from typing import Any

for _name in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_name, "1")

import numpy as np  # noqa: E402

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from benchmarks import peers  # noqa: E402
from benchmarks.common import machine, markdown, put_table, store  # noqa: E402
from egopose.pose import JointStatus  # noqa: E402
from egopose.triangulate import triangulate_points  # noqa: E402
from tests.synthetic import body_points, observe, ring_cameras  # noqa: E402

# the clock counts processor time: every method runs on one thread, and other work on the machine stays out
N_OURS = 200_000
N_PEER = {"pycolmap LO-RANSAC": 2000, "official rule": 150, "aniposelib triangulate_ransac": 60,
          "Pose2Sim best cameras": 400}  # fmt: skip
ROUNDS = 5


def accuracy(points: np.ndarray, truth: np.ndarray, sure: np.ndarray | None = None) -> dict[str, float]:
    """Median error in millimetres, share within 30 mm (no point counts as a miss), the same of the sure ones."""
    error = 1e3 * np.linalg.norm(points - truth, axis=1)
    error[~np.isfinite(error)] = np.inf
    row = {"median_mm": float(np.median(error)), "within_30mm": float((error < 30).mean())}
    if sure is not None:
        row |= {"sure_share": float(sure.mean()), "sure_within_30mm": float((error[sure] < 30).mean())}
    return row


def one_case(count: int, outlier_share: float, peer_python: str | None) -> dict[str, Any]:
    """All methods on one scene, in turn within each round; the best round of each counts."""
    rng = np.random.default_rng(100 * count + round(100 * outlier_share))
    cameras, lens_cameras = ring_cameras(count), ring_cameras(count, lens="brown_conrady")
    truth = body_points(N_OURS, rng)
    uv, _ = observe(cameras, truth, rng, outlier_share=outlier_share)
    raw = uv - np.stack([c.project(truth) for c in cameras]) + np.stack([c.project(truth) for c in lens_cameras])
    K = np.stack([camera.K for camera in cameras])
    T = np.stack([camera.T_camera_world[:3] for camera in cameras])
    one = {"threads": 1}
    methods = {
        "linear": (N_OURS, lambda: triangulate_points(cameras, uv, method="linear", **one)),
        "robust": (N_OURS, lambda: triangulate_points(cameras, uv, **one)),
        "robust, threshold 10 px": (N_OURS, lambda: triangulate_points(cameras, uv, threshold=10.0, **one)),
        "robust from raw pixels": (N_OURS, lambda: triangulate_points(lens_cameras, raw, **one)),
    }
    small = uv[:, : N_PEER["pycolmap LO-RANSAC"]]
    fewer = uv[:, : N_PEER["official rule"]]
    methods["pycolmap LO-RANSAC"] = (small.shape[1], lambda: peers.pycolmap_points(K, T, small, 10.0))
    methods["official rule"] = (fewer.shape[1], lambda: peers.official_points(K, T, fewer))
    results: dict[str, Any] = {}
    seconds: dict[str, list[float]] = {name: [] for name in methods}
    for number in range(-1, ROUNDS):
        for name, (n, function) in methods.items():
            if name == "official rule" and number > 0:
                continue
            start = time.process_time()
            result = function()
            if number >= 0:
                seconds[name].append(time.process_time() - start)
            if number == 0:
                if isinstance(result, np.ndarray):
                    results[name] = accuracy(result, truth[:n])
                else:
                    results[name] = accuracy(result.points, truth[:n], result.status == JointStatus.OK)
                    results[name]["threshold_px"] = None if name == "linear" else result.threshold_px
    for name, (n, _) in methods.items():
        results[name] |= {"points": n, "points_per_s": n / statistics.median(seconds[name])}
    for name in peers.SERVED:
        n = N_PEER[name] if not ("anipose" in name and count == 8) else 12
        if peer_python is None:
            continue
        found = peers.run_served(peer_python, name, K, T, uv[:, :n])
        if isinstance(found, str):
            results[name] = {"failed": found}
        else:
            results[name] = {**accuracy(found[0], truth[:n]), "points": n, "points_per_s": n / found[1]}
    return results


def number(value: float) -> str:
    """Points per second, short."""
    if value >= 1e6:
        return f"{value / 1e6:.2f} M"
    return f"{value / 1e3:.1f} k" if value >= 1e4 else f"{value:,.0f}"


def table(result: dict[str, Any]) -> str:
    """The markdown tables."""
    parts = []
    for label, share in (("1 px noise", "clean"), ("1 px noise, 20 % of the views wrong by N(0, 150 px)", "outliers")):
        cases = {count: result["cases"][f"{share}_{count}"] for count in (4, 5, 8)}
        rows = []
        for name in cases[4]:
            cells: list[str] = [name]
            for count in (4, 5, 8):
                row = cases[count].get(name, {})
                if "points_per_s" not in row:
                    cells.append("failed")
                    continue
                cell = f"{number(row['points_per_s'])} / {row['median_mm']:.2f} mm / {100 * row['within_30mm']:.2f} %"
                if share == "outliers" and name.startswith("robust"):
                    cell += f" (ok: {100 * row['sure_share']:.1f} %, of these {100 * row['sure_within_30mm']:.2f} %)"
                cells.append(cell)
            rows.append(cells)
        parts.append(f"{label}: points per second / median error / share within 30 mm\n")
        parts.append(markdown(["method", "4 cameras", "5 cameras", "8 cameras"], rows) + "\n")
    ratio = ", ".join(f"{result['ratio_to_pycolmap'][f'outliers_{c}']:.0f}x at {c}" for c in (4, 5, 8))
    parts.append(f"Robust with covariance against pycolmap with 20 % outliers: {ratio} cameras.\n")
    about = result["about"]
    parts.append(
        f"One thread, {about['cpu']}; numpy {about['numpy']}, numba {about['numba']}, "
        f"pycolmap {result['versions']['pycolmap']}. Ours on {N_OURS:,} points, with the estimate of the threshold "
        "in the time; pycolmap on 2,000; the official rule (own implementation from its description) on 150; "
        "Pose2Sim on 400; aniposelib on 60 (12 at 8 cameras). Processor time, medians of five interleaved rounds; "
        "aniposelib and Pose2Sim once, in their own process. No point counts as a miss."
    )
    return "\n".join(parts)


def main() -> None:
    """Run, store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--peer-python", help="interpreter with aniposelib and Pose2Sim")
    arguments = parser.parse_args()
    result: dict[str, Any] = {
        "about": machine(), "versions": {"pycolmap": importlib.metadata.version("pycolmap")}, "cases": {}
    }  # fmt: skip
    for count in (4, 5, 8):
        for label, share in (("clean", 0.0), ("outliers", 0.2)):
            case = one_case(count, share, arguments.peer_python)
            result["cases"][f"{label}_{count}"] = case
            for name, row in case.items():
                text = row.get("failed") or f"{number(row['points_per_s'])}/s {row['median_mm']:.2f} mm"
                print(f"{count} cameras, {label}: {name}: {text}", flush=True)
    result["ratio_to_pycolmap"] = {
        key: case["robust"]["points_per_s"] / case["pycolmap LO-RANSAC"]["points_per_s"]
        for key, case in result["cases"].items()
    }
    store("triangulation", result)
    put_table("benchmarks-triangulation.md", "triangulation", table(result))


if __name__ == "__main__":
    main()
