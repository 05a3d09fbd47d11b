"""Real frames: a wearer with motion capture, a real hand seen by two cameras; and what smoothing does.

Usage: python benchmarks/real_frames.py --data FOLDER [--motion-data FOLDER] [--weights nano] [--tables-only]

The data folder holds adt_skeleton (Aria Digital Twin test excerpt: head poses and a motion-captured skeleton of the
wearer) and handpose3d_2cam (two videos of a hand with calibration). The motion folder is that of accuracy.py: the
simple predictors learn from it and smoothing is scored on its held-out people.
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
import time
import warnings
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

PAGE, MARK = "accuracy.md", "real"

# the 12 joints by the names that projectaria_tools gives to the 51 of its skeleton, and their places there
ADT = {
    "left_shoulder": 6, "left_elbow": 7, "left_wrist": 8, "right_shoulder": 25, "right_elbow": 26, "right_wrist": 27,
    "left_hip": 43, "left_knee": 44, "left_ankle": 45, "right_hip": 47, "right_knee": 48, "right_ankle": 49,
}  # fmt: skip
# between the eyes, from the device's factory calibration in video.vrs (projectaria_tools: get_transform_device_cpf),
# turned to a camera's axes: x right, y down, z forward
T_DEVICE_EYES = np.array([
    [0.03186014, 0.99862953, -0.04152095, 0.00499302], [-0.79335340, 0.0, -0.60876135, -0.05146009],
    [-0.60792706, 0.05233601, 0.79226614, -0.04994988], [0.0, 0.0, 0.0, 1.0],
])  # fmt: skip
# their world has y up
R_UP = np.array([[1.0, 0, 0], [0, 0, -1], [0, 1, 0]])


def adt_clip(folder: Path) -> Any:
    """The excerpt as a clip: six head poses, joints of the mocap skeleton at the same times."""
    from egopose import rigid
    from egopose.io import load
    from egopose.skeleton import BODY17_HANDS
    from egopose.train.windows import MotionClip

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        path = load(folder / "aria_trajectory.csv").moved(T_DEVICE_EYES)
    path = path.in_world(rigid.make_transform(R_UP, np.zeros(3)))
    table = json.loads((folder / "Skeleton_T.json").read_text())
    times = np.array([float(f["timestamp_ns"]) for f in table["frames"]]) * 1e-9
    mocap = np.array([f["joints"] for f in table["frames"]], dtype=np.float64) @ R_UP.T
    inside = (path.times_s >= times[0]) & (path.times_s <= times[-1])
    joints = np.full((int(inside.sum()), BODY17_HANDS.n_joints, 3), np.nan)
    for name, at in ADT.items():
        for axis in range(3):
            joints[:, BODY17_HANDS.index(name), axis] = np.interp(path.times_s[inside], times, mocap[:, at, axis])
    T = path.T_world_camera[inside]
    feet = np.full((len(T), 2), -1, np.int8)
    return MotionClip("adt", "adt", "A", path.times_s[inside] - path.times_s[0], T, joints, feet)


def adt_rows(folder: Path, motion: Path | None, weights: str) -> dict[str, Any]:
    """Errors in cm of the head-motion predictors on the excerpt."""
    from egopose.model.weights import from_pretrained
    from egopose.skeleton import BODY17, BODY17_HANDS
    from egopose.train.evaluate import mean_pose, nearest, network, ridge
    from egopose.train.windows import load_motion

    clip = adt_clip(folder)
    model = from_pretrained(weights).model()
    predictors: dict[str, Any] = {}
    if motion is not None:
        train = load_motion(motion / "train_exact.npz") + load_motion(motion / "train_retarget.npz")
        level = [c for c in train if c.subject not in ("001", "003")]
        predictors = {
            "(a) mean pose under the head": mean_pose(train),
            "(a) the same, level ground only": mean_pose(level),
            "(b) ridge, 1 s window": ridge(train, 100.0),
            "(b) nearest neighbours, 1 s window": nearest(train, 96),
        }
    predictors["(c) network, offline"] = network(model)
    predictors["(c) network, causal"] = network(model, "causal")
    rows = {}
    for name, predict in predictors.items():
        said = predict(clip)
        error = {
            j: 100
            * float(np.linalg.norm(said[:, BODY17.index(j)] - clip.joints[:, BODY17_HANDS.index(j)], axis=-1).mean())
            for j in ADT
        }
        rows[name] = {"body12_cm": float(np.mean(list(error.values()))), "joints_cm": error}
    ankles = clip.joints[:, BODY17_HANDS.indices(["left_ankle", "right_ankle"]), 2]
    return {
        "rows": rows, "frames": len(clip), "seconds": clip.seconds,
        "head_m": float(clip.T_world_camera[:, 2, 3].mean()), "ankles_m": float(ankles.mean()),
    }  # fmt: skip


def reference(folder: Path) -> tuple[Any, Any, Any]:
    """The hand triangulated from both views: rig, joints (T, 21, 3) in the rig's unit, frames that are good."""
    import egopose
    from egopose.detect.palm import HandNets, HandTracker
    from egopose.io.video import read_frames
    from egopose.triangulate import triangulate_points

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        rig = egopose.load(folder / "camera_parameters", size=(720, 720))
    uv = []
    for view in (0, 1):
        tracker = HandTracker(HandNets(), rig.cameras[view].moved(np.eye(4)))
        rows = []
        for frame in read_frames(folder / f"cam{view}_test.mp4"):
            found = tracker.update(frame.image)
            missing = np.full((21, 2), np.nan)
            rows.append(tracker.camera.project(found["right"].rays, frame="camera") if "right" in found else missing)
        uv.append(np.stack(rows))
    solved = triangulate_points(rig.cameras, np.stack(uv).reshape(2, -1, 2))
    joints = solved.points.reshape(-1, 21, 3)
    worst = np.where(np.isfinite(joints).all((1, 2)), np.max(np.nan_to_num(solved.error_px).reshape(-1, 21), 1), np.inf)
    return rig, joints, worst < 8.0


def hand_rows(folder: Path, weights: str) -> dict[str, Any]:
    """``egopose predict --hands mediapipe`` on each view alone against the triangulation of both."""
    import egopose
    from egopose.cli import main
    from egopose.lift import adult_hand, lengths
    from egopose.metrics import jitter, pa_mpjpe
    from egopose.skeleton import BODY17_HANDS, HAND21

    rig, joints, good = reference(folder)
    # the files give no unit: the hand is taken to have the size that the lift believes in
    unit = float(np.median(lengths(adult_hand())[:20].sum() / lengths(joints[good])[:, :20].sum(-1)))
    index = BODY17_HANDS.indices([f"right_hand_{j}" for j in HAND21.joints])
    rows = {}
    with tempfile.TemporaryDirectory() as temporary:
        for view in (0, 1):
            T = rig.cameras[view].T_camera_world
            truth = unit * (joints @ T[:3, :3].T + T[:3, 3])
            for smooth in ([], ["--smooth"]):
                out = Path(temporary) / "pose.npz"
                start = time.perf_counter()
                words = [str(folder / f"cam{view}_test.mp4"), "--camera", f"{folder / 'camera_parameters'}:cam{view}"]
                status = main(
                    ["predict", *words, "--hands", "mediapipe", "--weights", weights, "--out", str(out), *smooth]
                )
                seconds = time.perf_counter() - start
                if status:
                    raise SystemExit(status)
                pose = egopose.load(out)
                known = pose.valid[:, index].all(1)
                both = known & good[: len(known)]
                p, t = pose.xyz[both][:, index].astype(float), truth[both]
                C = pose.covariance[both][:, index].astype(float)
                distance = np.linalg.norm(p[:, 0], axis=-1) / np.linalg.norm(t[:, 0], axis=-1)
                chi = np.einsum("nki,nkij,nkj->nk", p - t, np.linalg.inv(C + 1e-10 * np.eye(3)), p - t)
                hand = np.where(known[:, None, None], pose.xyz[:, index], np.nan)
                rows[f"view {view}{', smoothed' if smooth else ''}"] = {
                    "found_percent": 100 * float(known.mean()), "frames": int(both.sum()),
                    "wrist_relative_mm": 1000 * float(
                        np.linalg.norm((p - p[:, :1]) - (t - t[:, :1]), axis=-1)[:, 1:].mean()
                    ),
                    "pa_mm": 1000 * float(np.mean(pa_mpjpe(p, t))),
                    "camera_relative_mm": 1000 * float(np.linalg.norm(p - t, axis=-1).mean()),
                    "distance_m": float(np.linalg.norm(t[:, 0], axis=-1).mean()),
                    "distance_ratio": float(np.median(distance)), "distance_sd": float(distance.std()),
                    "inside_50": float((chi < 2.366).mean()), "inside_90": float((chi < 6.251).mean()),
                    "jitter": float(np.nanmean(np.ravel(jitter(hand, fps=pose.fps)))),
                    "ms_per_frame": 1000 * seconds / pose.n_frames,
                }  # fmt: skip
    return {"rows": rows, "good_frames": int(good.sum()), "all_frames": len(good)}


def smoothing_rows(motion: Path, weights: str) -> dict[str, Any]:
    """Held-out people with and without smoothing, trajectory alone."""
    from egopose.clip import Clip
    from egopose.metrics import jitter, mpjpe, mpjve
    from egopose.predict import Predictor
    from egopose.train.evaluate import BODY, INNER
    from egopose.train.windows import load_motion
    from egopose.trajectory import Trajectory

    predictor = Predictor.from_pretrained(weights)
    held = [c for c in load_motion(motion / "val.npz") if len(c) > 4]
    rows: dict[str, dict[str, float]] = {}
    truth = np.nanmean(np.concatenate([
        np.ravel(jitter(c.joints[:, BODY][:, INNER], fps=(len(c) - 1) / c.seconds)) for c in held
    ]))  # fmt: skip
    for mode in ("offline", "causal"):
        for smooth in (False, True):
            values: dict[str, list[Any]] = {"body12_cm": [], "mpjve_cm_s": [], "jitter": []}
            for clip in held:
                source = Clip(trajectory=Trajectory(clip.times_s, clip.T_world_camera, max_gap_s=1e9))
                said = predictor.predict(source, mode=mode, floor_z=0.0, smooth=smooth).xyz[:, BODY][:, INNER]
                t, fps = clip.joints[:, BODY][:, INNER], (len(clip) - 1) / clip.seconds
                values["body12_cm"].append(100 * np.ravel(mpjpe(said, t)))
                values["mpjve_cm_s"].append(100 * np.ravel(mpjve(said, t, fps=fps)))
                values["jitter"].append(np.ravel(jitter(said, fps=fps)))
            name = f"{mode}{', then smoothed' if smooth else ''}"
            rows[name] = {key: float(np.nanmean(np.concatenate(v))) for key, v in values.items()}
    return {"rows": rows, "truth_jitter": float(truth)}


def tables(result: dict[str, Any]) -> str:
    """Everything as markdown."""
    parts = []
    if "adt" in result:
        adt = result["adt"]
        names = list(adt["rows"])
        parts += [
            f"A real Aria wearer (Aria Digital Twin test excerpt), head poses alone: {adt['frames']} head poses in "
            f"{adt['seconds']:.2f} s, eyes at {adt['head_m']:.2f} m, ankles at {adt['ankles_m']:.2f} m. So short a "
            "clip holds no motion: this checks frames, units and a standing pose, not the network's use of time. The "
            "truth are joint centres of the mocap's own skeleton. Error in cm:",
            markdown(
                ["", "body-12", *[j.replace("_", " ") for j in ADT]],
                [
                    [
                        n,
                        f"{adt['rows'][n]['body12_cm']:.1f}",
                        *[f"{v:.0f}" for v in adt["rows"][n]["joints_cm"].values()],
                    ]
                    for n in names
                ],
            ),
        ]
    if "hands" in result:
        hands = result["hands"]
        parts += [
            "A real hand (handpose3d, two calibrated views): `egopose predict --hands mediapipe` on each view alone, "
            "without head poses, against the triangulation of both views. The reference uses the same landmark net, "
            f"{hands['good_frames']} of {hands['all_frames']} frames have all 21 joints within 8 px in both. The files "
            "give no unit, so the hand is scaled to the size that the lift assumes: the error from an unknown hand "
            "size (6 % of the distance) is not in these numbers.",
            markdown(
                ["", "frames found %", "wrist-relative mm", "PA mm", "camera-relative mm", "distance m",
                 "distance, share of true", "inside 50 / 90 % region", "jitter"],
                [
                    [n, f"{r['found_percent']:.0f}", f"{r['wrist_relative_mm']:.1f}", f"{r['pa_mm']:.1f}",
                     f"{r['camera_relative_mm']:.0f}", f"{r['distance_m']:.2f}",
                     f"{r['distance_ratio']:.3f} ± {r['distance_sd']:.3f}",
                     f"{100 * r['inside_50']:.0f} / {100 * r['inside_90']:.0f} %", f"{r['jitter']:.0f}"]
                    for n, r in hands["rows"].items()
                ],
            ),
        ]  # fmt: skip
    if "smoothing" in result:
        smoothing = result["smoothing"]
        parts += [
            "`--smooth` on the held-out people, head motion alone (the density of the acceleration was chosen on them; "
            f"jitter of the captured joints themselves is {smoothing['truth_jitter']:.0f}):",
            markdown(
                ["", "body-12 cm", "MPJVE cm/s", "jitter"],
                [
                    [n, f"{r['body12_cm']:.2f}", f"{r['mpjve_cm_s']:.1f}", f"{r['jitter']:.0f}"]
                    for n, r in smoothing["rows"].items()
                ],
            ),
        ]
    return "\n\n".join(parts)


def main() -> None:
    """Measure, store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path)
    parser.add_argument("--motion-data", type=Path, default=os.environ.get("EGOPOSE_MOTION_DATA"))
    parser.add_argument("--weights", default="nano")
    parser.add_argument("--only", choices=("adt", "hands", "smoothing"), action="append")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        import torch

        torch.set_num_threads(1)
        if options.data is None:
            parser.error("give --data")
        motion = None if options.motion_data is None else Path(options.motion_data)
        wanted = options.only or ["adt", "hands", "smoothing"]
        try:
            result: dict[str, Any] = stored("real_frames")
        except (OSError, SystemExit):
            result = {}
        result["weights"] = options.weights
        if "adt" in wanted:
            result["adt"] = adt_rows(options.data / "adt_skeleton", motion, options.weights)
        if "hands" in wanted:
            result["hands"] = hand_rows(options.data / "handpose3d_2cam", options.weights)
        if "smoothing" in wanted and motion is not None:
            result["smoothing"] = smoothing_rows(motion, options.weights)
        result.pop("machine", None)
        store("real_frames", result)
    text = tables(stored("real_frames"))
    put_table(PAGE, MARK, text)
    print(text)


if __name__ == "__main__":
    main()
