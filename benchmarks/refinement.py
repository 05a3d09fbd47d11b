"""Refinement of cameras on a real capture: residuals before and after, by the threshold and the score of the joints.

Beside ours the plain way is run: twelve rounds of triangulation and resection (PnP) of three of the four cameras.

``--data`` is the folder with ``pose2sim_single`` (four cameras, 100 frames, OpenPose joints of a balancing person).
"""

from __future__ import annotations

import argparse
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
from common import ROOT, markdown, put_table, store, stored

from egopose import rigid
from egopose.skeleton import BODY17
from egopose.triangulate.offsets import find_offsets
from egopose.triangulate.refine import refine_rig
from egopose.triangulate.solve import triangulate_points

PAGE = "benchmarks-triangulation.md"
AGREEING_PX = 25.0


def median_px(cameras, uv, score, threshold, agreeing: bool = False) -> float:
    """Median residual over all views that see a joint, or over those that agree within the threshold."""
    solved = triangulate_points(cameras, uv, score, threshold=threshold)
    residual = np.stack([camera.project(solved.points) - pixels for camera, pixels in zip(cameras, uv)])
    distance = np.linalg.norm(residual, axis=-1)
    return float(np.nanmedian(distance[solved.used] if agreeing else distance))


def alternated(cameras, uv, score, threshold: float, rounds: int = 12) -> list:
    """Cameras after rounds of triangulation and resection from the agreeing views; the first one stays."""
    import cv2

    cameras = list(cameras)
    for _ in range(rounds):
        solved = triangulate_points(cameras, uv, score, threshold=threshold)
        for v, camera in enumerate(cameras[1:], start=1):
            params = camera.packed()[1]
            K = np.array([[params[0], 0, params[2]], [0, params[1], params[3]], [0, 0, 1]])
            T_camera_world = rigid.invert(camera.T_world_camera)
            turn, shift = cv2.solvePnPRefineLM(
                solved.points[solved.used[v]], uv[v][solved.used[v]], K, params[4:9].copy(),
                cv2.Rodrigues(T_camera_world[:3, :3])[0], T_camera_world[:3, 3:].copy(),
            )  # fmt: skip
            moved = rigid.make_transform(cv2.Rodrigues(turn)[0], shift.ravel())
            cameras[v] = camera.moved(rigid.invert(moved))
    return cameras


def body17(capture) -> list[dict]:
    """The seventeen joints of the package alone, for the refinement as for the residuals, solved at 25 px."""
    observations = capture.observations.to_skeleton(BODY17)
    rows = []
    for least in (0.0, 0.3, 0.5):
        seen = np.where((observations.score >= least)[..., None], observations.uv_px, np.nan)
        some = replace(observations, uv_px=seen.astype(np.float32))
        rig = refine_rig(capture.rig, some, threshold_px=60.0).rig
        uv, score = seen.reshape(len(seen), -1, 2).astype(float), some.score.reshape(len(seen), -1).astype(float)
        before, after = (median_px(r.cameras, uv, score, AGREEING_PX) for r in (capture.rig, rig))
        rows.append({"least_score": least, "before_px": before, "after_px": after})
    return rows


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
    rows, agree = [], []
    plain = alternated(capture.rig.cameras, uv, score.astype(float), AGREEING_PX)
    for least in (0.0, 0.3, 0.5):
        seen = np.where((score >= least)[..., None], uv, np.nan)
        for threshold in ("auto", 20.0):
            before, after = (
                median_px(rig.cameras, seen, score.astype(float), threshold) for rig in (capture.rig, refined.rig)
            )
            rows.append({"least_score": least, "threshold": threshold, "before_px": before, "after_px": after})
        before, other, after = (
            median_px(cameras, seen, score.astype(float), AGREEING_PX, agreeing=True)
            for cameras in (capture.rig.cameras, plain, refined.rig.cameras)
        )
        agree.append({"least_score": least, "before_px": before, "alternated_px": other, "after_px": after})
    return {
        "rows": rows,
        "agreeing": agree,
        "body17": body17(capture),
        "seconds": seconds,
        "offsets_frames": list(offsets.frames),
        "clear": offsets.clear,
    }


def render() -> None:
    result = stored("refinement")
    rows = [
        [r["least_score"] or "any", r["threshold"], f"{r['before_px']:.2f}", f"{r['after_px']:.2f}"]
        for r in result["rows"]
    ]
    header = ["score at least", "threshold px", "median residual before, px", "after, px"]
    put_table(PAGE, "refinement", markdown(header, rows))
    rows = [
        [r["least_score"] or "any", *(f"{r[key]:.2f}" for key in ("before_px", "alternated_px", "after_px"))]
        for r in result["agreeing"]
    ]
    header = ["score at least", "before, px", "triangulation and PnP in turn, px", "refined, px"]
    put_table(PAGE, "refinement agreeing", markdown(header, rows))
    rows = [
        [r["least_score"] or "any", *(f"{r[key]:.2f}" for key in ("before_px", "after_px"))] for r in result["body17"]
    ]
    put_table(PAGE, "refinement body17", markdown(["score at least", "before, px", "refined, px"], rows))


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
