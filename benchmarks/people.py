"""Several people told apart: share of right detections, frames and identity switches on scenes with known truth.

Beside it the purity of the best detection of each image, which is what one gets without any association.
"""

from __future__ import annotations

import argparse
import sys
import time
from pathlib import Path

import numpy as np
from common import markdown, put_table, store, stored

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from egopose import rigid
from egopose.camera import Rig
from egopose.triangulate.people import tell_apart
from egopose.triangulate.people_tracks import PeopleConfig
from tests.people_scenes import association_scores, crowd

CASES: dict[str, dict] = {
    "2 people, 2 cameras": {"people": 2, "cameras": 2},
    "2 people, 4 cameras": {"people": 2},
    "3 people, 4 cameras, two leave and return": {"people": 3, "leave": True},
    "4 people, 4 cameras": {"people": 4},
    "4 people, 4 cameras, paths half as far apart": {"people": 4, "close": 0.5},
    "3 people, 4 cameras, 10 frames/s": {"people": 3, "fps": 10.0},
    "4 people, 4 cameras, calibration off by 1 degree": {"people": 4, "turn_deg": 1.0},
    "4 people, 5 cameras, 6 px noise, 15 % outliers, 30 % missed": {
        "people": 4, "cameras": 5, "noise_px": 6.0, "outlier_share": 0.15, "missing_share": 0.25, "miss_share": 0.3,
        "false_share": 0.6, "swap_share": 0.15,
    },
}  # fmt: skip


def turned(rig: Rig, angle_deg: float, rng: np.random.Generator) -> Rig:
    """Cameras turned by an angle about random axes."""
    cameras = []
    for camera in rig.cameras:
        axis = rng.normal(size=3)
        R = rigid.rotation_from_vector(np.radians(angle_deg) * axis / np.linalg.norm(axis))
        cameras.append(camera.moved(camera.T_world_camera @ rigid.make_transform(R, np.zeros(3))))
    return Rig(cameras)


def best_detection(scene) -> np.ndarray:
    """One person: the detection with the highest total score of each image."""
    score = np.stack([layer.score.sum(-1) for layer in scene.candidates.layers], axis=2)
    return np.where(score.max(2) > 0, score.argmax(2), -1)[None]


def measure(seeds: range, frames: int) -> dict:
    result = {}
    for name, options in CASES.items():
        options = dict(options)
        angle = options.pop("turn_deg", 0.0)
        rows, base, spent = [], [], 0.0
        for seed in seeds:
            scene = crowd(seed=seed, n_frames=frames, **options)
            rig = turned(scene.rig, angle, np.random.default_rng(seed)) if angle else scene.rig
            found = tell_apart(rig, scene.candidates)
            # the estimate of the gates costs the same for any length: the following alone is timed
            start = time.process_time()
            tell_apart(rig, scene.candidates, PeopleConfig(gate_m=0.25))
            spent += time.process_time() - start
            rows.append(association_scores(scene, found.chosen))
            base.append(association_scores(scene, best_detection(scene)))
        result[name] = {
            **{key: float(np.mean([row[key] for row in rows])) for key in rows[0]},
            "true_people": options["people"], "best_pure": float(np.mean([row["pure"] for row in base])),
            "ms_per_frame": 1e3 * spent / (len(rows) * frames),
        }  # fmt: skip
        print(name, {key: round(value, 3) for key, value in result[name].items()}, flush=True)
    return result


def render() -> None:
    rows = [
        [
            name, f"{100 * r['right']:.1f} %", f"{100 * r['pure']:.1f} %", f"{100 * r['frames']:.1f} %",
            f"{r['switches']:.2f}", f"{r['people']:.1f} of {r['true_people']}",
            f"{100 * r['best_pure']:.1f} %", f"{r['ms_per_frame']:.1f}",
        ]
        for name, r in stored("people")["cases"].items()
    ]  # fmt: skip
    header = [
        "scene", "detections right", "of those given, right", "frames right", "switches", "people found",
        "best detection alone, right", "CPU ms per frame",
    ]  # fmt: skip
    put_table("triangulation.md", "people", markdown(header, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--frames", type=int, default=120)
    options = parser.parse_args()
    if not options.tables_only:
        store("people", {"cases": measure(range(options.seeds), options.frames), "seeds": options.seeds})
    render()


if __name__ == "__main__":
    main()
