"""Refinement of cameras on a real capture: residuals before and after, by the threshold and the score of the joints.

``--data`` is the folder with ``pose2sim_single`` (four cameras, 100 frames, OpenPose joints of a balancing person).
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from common import ROOT, markdown, put_table, store, stored

from egopose.triangulate.offsets import find_offsets
from egopose.triangulate.refine import refine_rig
from egopose.triangulate.solve import triangulate_points

PAGE = "benchmarks-triangulation.md"


def median_px(cameras, uv, score, threshold) -> float:
    """Median residual over all views that see a joint, agreeing or not."""
    solved = triangulate_points(cameras, uv, score, threshold=threshold)
    residual = np.stack([camera.project(solved.points) - pixels for camera, pixels in zip(cameras, uv)])
    return float(np.nanmedian(np.linalg.norm(residual, axis=-1)))


def measure(data: Path) -> dict:
    sys.path.insert(0, str(ROOT))
    from tests.real_captures import pose2sim_single

    capture = pose2sim_single(data)
    observations = capture.observations
    views = observations.n_views
    uv, score = observations.uv_px.reshape(views, -1, 2).astype(float), observations.score.reshape(views, -1)
    offsets = find_offsets(capture.rig, observations)
    start = time.process_time()
    refined = refine_rig(capture.rig, observations, threshold_px=60.0)
    seconds = time.process_time() - start
    rows = []
    for least in (0.0, 0.5):
        seen = np.where((score >= least)[..., None], uv, np.nan)
        for threshold in ("auto", 20.0):
            before, after = (
                median_px(rig.cameras, seen, score.astype(float), threshold) for rig in (capture.rig, refined.rig)
            )
            rows.append({"least_score": least, "threshold": threshold, "before_px": before, "after_px": after})
    return {"rows": rows, "seconds": seconds, "offsets_frames": list(offsets.frames), "clear": offsets.clear}


def render() -> None:
    result = stored("refinement")
    rows = [
        [r["least_score"] or "any", r["threshold"], f"{r['before_px']:.2f}", f"{r['after_px']:.2f}"]
        for r in result["rows"]
    ]
    header = ["score at least", "threshold px", "median residual before, px", "after, px"]
    put_table(PAGE, "refinement", markdown(header, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        if options.data is None:
            parser.error("--data is needed to measure")
        store("refinement", measure(options.data))
    render()


if __name__ == "__main__":
    main()
