"""Labels of the stand-in from its exo videos against exact truth, and what the error is made of.

The same triangulation runs on (a) what the 2D detectors find in the rendered videos and (b) the exact 2D joints with
noise, joints left out and gross errors put in. The difference between both is the detector's. Error bars are those that
labels are written with, see ``egopose/triangulate/errorbars.py``. Per joint, the constant part of a detector's error in
the person's own frame (forward, left, up) is a difference of definition; it is measured on the other takes and taken
off.
"""

from __future__ import annotations

import argparse
import tempfile
import warnings
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

from egopose import load
from egopose.commands.pose_scores import calibration, pair_up
from egopose.ego_exo4d import EgoExo4D, make_standin
from egopose.ego_exo4d.labels import exo_observations, skeleton_of
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.rig import Rig
from egopose.skeleton import BODY17
from egopose.triangulate.errorbars import common_errors, with_slow_errors
from egopose.triangulate.take import triangulate_take

NAME = "ego_exo4d_labels"
CASES = {
    "exact 2D, 1 px": (1.0, 1.0),
    "exact 2D, 3 px (hands 2 px)": (3.0, 2.0),
    "exact 2D, 6 px (hands 3 px)": (6.0, 3.0),
}
DETECTORS = {"videos, blazepose": "blazepose", "videos, blazepose-high": "blazepose-high"}
ABSENT, GROSS, GROSS_PX = 0.1, 0.03, 60.0


def person_axes(truth: PoseSequence) -> np.ndarray:
    """Rows forward, left, up of the person at every frame, (T, 3, 3)."""
    body = truth.to_skeleton(BODY17).xyz.astype(np.float64)
    left = body[:, BODY17.index("left_hip")] - body[:, BODY17.index("right_hip")]
    left[:, 2] = 0
    left /= np.linalg.norm(left, axis=-1, keepdims=True)
    up = np.broadcast_to([0.0, 0.0, 1.0], left.shape)
    return np.stack([np.cross(left, up), left, up], axis=1)


def noisy(rig: Rig, truth: PoseSequence, px: float, seed: int, height: int) -> Observations2D:
    """The exact 2D joints in the cameras, disturbed; px are of a 1080 px high image."""
    rng = np.random.default_rng(seed)
    uv = np.stack([camera.project(truth.xyz.astype(np.float64)) for camera in rig.cameras])
    seen = np.stack([camera.in_image(p) for camera, p in zip(rig.cameras, uv)])
    scale = height / 1080
    uv += rng.normal(0, px * scale, uv.shape)
    wrong = rng.random(seen.shape) < GROSS
    uv[wrong] += rng.normal(0, GROSS_PX * scale, uv[wrong].shape)
    uv[~seen | (rng.random(seen.shape) < ABSENT)] = np.nan
    return Observations2D(
        truth.skeleton, tuple(rig.names), truth.frames, uv.astype(np.float32), None, fps=30.0,
        sizes=tuple(camera.size for camera in rig.cameras),
    )  # fmt: skip


def solve(
    rig: Rig, observations: Observations2D, truth: PoseSequence, kind: str, detector: str | None = None
) -> dict[str, Any]:
    """Errors in the person's frame, views of each joint, and the calibration of the error bars."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        take = triangulate_take(rig, observations)
    assert take.pose is not None
    assert take.used is not None
    smoothed, skeleton = take.pose, take.pose.skeleton
    pose = with_slow_errors(take, common_errors(detector, skeleton.joints, kind))
    d = np.einsum(
        "tij,tkj->tki", person_axes(truth), pose.xyz.astype(np.float64) - truth.to_skeleton(pose.skeleton).xyz
    )
    bars = [
        calibration([pair_up(p, truth.to_skeleton(skeleton), skeleton.joints, "benchmark")]) for p in (pose, smoothed)
    ]
    return {"error": 1e3 * d, "views": take.used.sum(0), "calibration": bars[0], "smoother": bars[1]}


def summary(kind: str, runs: list[dict[str, Any]]) -> dict[str, Any]:
    """Median and 90th percentile over the joints of all takes, and those that three cameras agree on."""
    e = np.concatenate([np.linalg.norm(run["error"], axis=-1).ravel() for run in runs])
    views = np.concatenate([run["views"].ravel() for run in runs])
    known = np.isfinite(e)
    three = known & (views >= 3)
    other = []
    for i, run in enumerate(runs):
        rest = [r["error"] for k, r in enumerate(runs) if k != i] or [run["error"]]
        left = run["error"] - np.nanmedian(np.concatenate(rest), axis=0)
        other.append(np.linalg.norm(left, axis=-1)[run["views"] >= 3])

    def inside(which: str) -> dict[str, float]:
        bars = [run[which] for run in runs if run[which]]
        keys = [key for key in (bars[0] if bars else {}) if isinstance(bars[0][key], float | int)]
        return {key: float(np.mean([bar[key] for bar in bars])) for key in keys}

    return {
        "kind": kind, "known": float(known.mean()), "median_mm": float(np.median(e[known])),
        "p90_mm": float(np.quantile(e[known], 0.9)), "three_share": float(three.mean()),
        "three_median_mm": float(np.median(e[three])),
        "definition_off_mm": float(np.nanmedian(np.concatenate(other))),
        "inside": inside("calibration"), "inside_smoother": inside("smoother"),
    }  # fmt: skip


def measure(root: Path, workers: int) -> dict[str, Any]:
    """All cases on the takes of a stand-in with videos."""
    data = EgoExo4D(root, cache=root.parent / f"{root.name}-cache")
    rows: list[dict[str, Any]] = []
    found: dict[tuple[str, str], list[dict[str, Any]]] = {}
    exact: dict[tuple[str, str], list[dict[str, Any]]] = {}
    height = 0
    for n, take in enumerate(data):
        truth = load(root / "truth" / f"{take.uid}.npz")
        for kind in ("body", "hand"):
            mine = truth.to_skeleton(skeleton_of(kind))
            for name, detector in DETECTORS.items():
                rig, seen = exo_observations(take, kind, detector, workers=workers)
                height = max(camera.size[1] for camera in rig.cameras)
                found.setdefault((name, kind), []).append(solve(rig, seen, truth, kind, detector))
            for name, px in CASES.items():
                run = solve(rig, noisy(rig, mine, px[kind == "hand"], n, height), truth, kind)
                exact.setdefault((name, kind), []).append(run)
    for (name, kind), runs in [*found.items(), *exact.items()]:
        rows.append({"case": name, **summary(kind, runs)})
    joints: dict[str, Any] = {}
    for name in DETECTORS:
        every = np.concatenate([run["error"] for run in found[name, "body"]])
        for j, joint in enumerate(BODY17.joints):
            offset = np.nanmedian(every[:, j], axis=0)
            joints.setdefault(joint, {})[name] = {
                "median_mm": float(np.nanmedian(np.linalg.norm(every[:, j], axis=-1))), "offset_mm": offset.tolist(),
                "rest_mm": float(np.nanmedian(np.linalg.norm(every[:, j] - offset, axis=-1))),
            }  # fmt: skip
    cameras = [len(take.rig("raw")) for take in data]
    return {"rows": rows, "joints": joints, "height": height, "takes": len(data), "cameras": cameras,
            "frames": [load(root / "truth" / f"{take.uid}.npz").n_frames for take in data]}  # fmt: skip


def real_footage(folder: Path) -> list[dict[str, Any]]:
    """Both detectors on Pose2Sim's single-person demo, against the OpenPose joints that come with it."""
    from egopose.detect.run import detect_videos, list_videos

    rig = load(folder / "calibration" / "Calib_qualisys.toml")
    rig = Rig([replace(camera, name=camera.name.replace("_", "")) for camera in rig.cameras])
    rows = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        other = triangulate_take(rig, load(folder / "pose-associated")).pose
        assert other is not None
        other = other.select(joints=BODY17.joints)
        for case, detector in DETECTORS.items():
            seen = detect_videos(list_videos(folder / "videos"), detector, workers=0).to_skeleton(BODY17)
            take = triangulate_take(rig, seen)
            assert take.pose is not None
            assert take.solved is not None
            frames = np.intersect1d(take.pose.frames, other.frames)
            mine, theirs = take.pose.select(frames=frames).xyz, other.select(frames=frames).xyz
            apart = 1e3 * np.linalg.norm(mine.astype(np.float64) - theirs, axis=-1)
            face = BODY17.indices(["nose", "left_eye", "right_eye", "left_ear", "right_ear"])
            bones = [(a, b) for a, b in BODY17.bones if a not in face and b not in face]
            length = np.stack([np.linalg.norm(mine[:, a] - mine[:, b], axis=-1) for a, b in bones], -1)
            rows.append(
                {
                    "case": case, "apart_mm": float(np.nanmedian(apart)),
                    "limbs_mm": float(np.nanmedian(np.delete(apart, face, axis=1))),
                    "face_mm": float(np.nanmedian(apart[:, face])), "noise_px": float(take.solved.sigma_px),
                    "bones_percent": float(100 * np.nanmedian(np.nanstd(length, 0) / np.nanmean(length, 0))),
                }
            )  # fmt: skip
    return rows


def table(result: dict[str, Any]) -> str:
    """Both tables in markdown."""

    def bars(inside: dict[str, float]) -> str:
        return " / ".join(f"{100 * value:.0f} %" for key, value in inside.items() if key.startswith("coverage")) or "-"

    rows = []
    for row in sorted(result["rows"], key=lambda r: r["kind"]):
        errors = (row["median_mm"], row["p90_mm"], row["three_median_mm"])
        rows.append(
            [row["kind"], row["case"], *(f"{value:.1f}" for value in errors), f"{100 * row['three_share']:.0f} %",
             f"{row['definition_off_mm']:.1f}", bars(row["inside"]), bars(row["inside_smoother"])]
        )  # fmt: skip
    head = [
        "labels", "2D joints from", "median mm", "90 % mm", "median, 3+ cameras", "share 3+", "less definition",
        "inside 50 % / 90 % bars", "the smoother's bars alone",
    ]  # fmt: skip
    parts = [markdown(head, rows), ""]
    columns = [
        f"{case.removeprefix('videos, ')}: {what}"
        for case in DETECTORS
        for what in ("median mm", "offset forward / left / up")
    ]
    lines = []
    for name, cases in result["joints"].items():
        line = [name]
        for case in DETECTORS:
            line += [f"{cases[case]['median_mm']:.0f}", " / ".join(f"{v:+.0f}" for v in cases[case]["offset_mm"])]
        lines.append(line)
    parts.append(markdown(["joint", *columns], lines))
    if result.get("real"):
        head = ["real footage", "from OpenPose, mm", "limbs", "face", "noise of a view, px", "bones vary by"]
        lines = [
            [r["case"].removeprefix("videos, "), f"{r['apart_mm']:.1f}", f"{r['limbs_mm']:.1f}", f"{r['face_mm']:.1f}",
             f"{r['noise_px']:.1f}", f"{r['bones_percent']:.1f} %"]
            for r in result["real"]
        ]  # fmt: skip
        parts += ["", markdown(head, lines)]
    m = result["machine"]
    parts.append(
        f"\n{result['takes']} takes of {', '.join(map(str, result['frames']))} frames, "
        f"{', '.join(map(str, result['cameras']))} usable cameras at 2.3 to 2.9 m, {result['height']} px high. "
        f"The noisy cases leave out {100 * ABSENT:.0f} % of the 2D joints and move {100 * GROSS:.0f} % by "
        f"{GROSS_PX:.0f} px; pixels are those of 1080 rows. {m['cpu']}."
    )
    return "\n".join(parts)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--root", type=Path, help="a stand-in with videos; made when absent")
    parser.add_argument("--real", type=Path, help="the folder of Pose2Sim's single-person demo")
    parser.add_argument("--takes", type=int, default=2)
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--height", type=int, default=2160, help="rows of the videos; the cameras record 2160")
    parser.add_argument("--workers", type=int, default=0)
    options = parser.parse_args()
    if not options.tables_only:
        with tempfile.TemporaryDirectory(prefix="egopose-labels-") as folder:
            root = options.root or Path(folder) / "stand-in"
            if not root.exists():
                make_standin(
                    root, takes=options.takes, seconds=options.seconds, videos=True, video_height=options.height
                )  # fmt: skip
            result = measure(root, options.workers)
            result["real"] = real_footage(options.real) if options.real else stored(NAME).get("real", [])
            store(NAME, result)
    put_table("ego-exo4d.md", "label-accuracy", table(stored(NAME)))


if __name__ == "__main__":
    main()
