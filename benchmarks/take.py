"""A whole take against known truth: what each stage brings (ablation), error bars checked, time and memory.

Four cameras, 1 px noise, 20 % of the 2D joints displaced, 10 % missing, left and right exchanged in one camera for a
quarter of the time, two cameras 2 frames off, extrinsics off by half a degree.
"""

from __future__ import annotations

import argparse
import resource
import time
import warnings

import msgspec
import numpy as np
from common import markdown, put_table, store, stored

from egopose import BODY17, BODY17_HANDS, Observations2D, rigid
from egopose.camera import Rig
from egopose.demo import ring_rig, walking_person
from egopose.triangulate import TriangulateConfig, triangulate_take
from egopose.triangulate.stages import times_and_sides
from egopose.triangulate.take import prepare_take

WITHOUT = ("sides", "time_offsets", "refine_cameras", "hand_views", "smooth")
HALF, NINETY = 2.3659738843753377, 6.251388631170325  # quantiles of chi-square with three degrees of freedom


def scene(seed: int, frames: int = 450, fps: float = 60.0, cameras: int = 4, late=None):
    """Truth (T, 59, 3), the miscalibrated rig and the damaged observations; by default two cameras 2 frames off."""
    rng = np.random.default_rng(seed)
    true_rig = ring_rig(cameras, size=(1920, 1080))
    if late is None:
        late = np.zeros(cameras)
        late[[1, 2]] = 2.0, -2.0
    times = np.arange(frames) / fps
    truth = walking_person(times, seed=seed)
    uv = np.stack(
        [camera.project(walking_person(times - d / fps, seed=seed)) for camera, d in zip(true_rig.cameras, late)]
    )
    uv += rng.normal(0, 1, uv.shape)
    wrong = rng.random(uv.shape[:3]) < 0.2
    uv[wrong] += rng.normal(0, 150, (int(wrong.sum()), 2))
    turned = slice(frames // 2, 3 * frames // 4)
    uv[2, turned] = uv[2, turned][:, BODY17_HANDS.mirror_index]
    uv[rng.random(uv.shape[:3]) < 0.1] = np.nan
    moved = []
    for camera in true_rig.cameras:
        axis = rng.normal(size=3)
        turn = rigid.rotation_from_vector(np.radians(0.5) * axis / np.linalg.norm(axis))
        moved.append(camera.moved(camera.T_world_camera @ rigid.make_transform(turn, np.zeros(3))))
    rig = Rig(moved)
    observations = Observations2D(
        BODY17_HANDS, tuple(rig.names), np.arange(frames), uv.astype(np.float32), None, fps=fps,
        sizes=tuple(camera.size for camera in rig.cameras),
    )  # fmt: skip
    return truth, rig, observations


def aligned(points, truth):
    """Points moved rigidly onto the truth: the world frame of a miscalibrated rig is its own."""
    known = np.isfinite(points).all(-1)
    a, b = points[known], truth[known]
    U, _, Vt = np.linalg.svd((b - b.mean(0)).T @ (a - a.mean(0)))
    R = U @ np.diag([1, 1, np.linalg.det(U @ Vt)]) @ Vt
    return (points - a.mean(0)) @ R.T + b.mean(0), R


def measure(config: TriangulateConfig, seeds: range) -> dict[str, float]:
    rows = []
    for seed in seeds:
        truth, rig, observations = scene(seed)
        pose = triangulate_take(rig, observations, config).pose
        assert pose is not None
        xyz, R = aligned(pose.xyz.astype(np.float64), truth)
        error = xyz - truth
        known = np.isfinite(error).all(-1)
        distance = 1e3 * np.linalg.norm(error[known], axis=-1)
        C = R @ pose.covariance[known].astype(np.float64) @ R.T
        chi = np.einsum("ni,nij,nj->n", error[known], np.linalg.inv(C), error[known])
        in_body = np.broadcast_to(np.arange(known.shape[1]) < BODY17.n_joints, known.shape)[known]
        rows.append([
            known.mean(), distance.mean(), np.median(distance), np.quantile(distance, 0.99),
            (distance < 30).mean(), (chi < HALF).mean(), (chi < NINETY).mean(),
            *((chi[part] < limit).mean() for part in (in_body, ~in_body) for limit in (HALF, NINETY)),
        ])  # fmt: skip
    names = ("known", "mean_mm", "median_mm", "p99_mm", "within_30mm", "cover_50", "cover_90", "body_50", "body_90",
             "hands_50", "hands_90")  # fmt: skip
    return dict(zip(names, np.mean(rows, axis=0).tolist()))


def offsets(seeds: range) -> list[dict]:
    """Random offsets, whole in every second scene, up to 5 frames each way, with 3 to 5 turned cameras."""
    rows = []
    for cameras in (3, 4, 5):
        errors, sds, sure, clear = [], [], [], 0
        for seed in seeds:
            late = np.random.default_rng([cameras, seed]).uniform(-5, 5, cameras)
            late = np.round(late) if seed % 2 else late
            _, rig, observations = scene(seed, cameras=cameras, late=late)
            take = times_and_sides(prepare_take(rig, observations), lambda *_: None)
            found = take.found["time_offsets"]
            error = np.array(found["frames"]) - late
            errors.append(float(np.abs(error - np.median(error)).max()))
            sds.append(max(found["sd_frames"]))
            if found["clear"] and all(found["reliable"]):
                clear += 1
                sure.append(errors[-1])
        rows.append({"cameras": cameras, "scenes": len(seeds), "worst_frames": max(errors),
                     "worst_of_clear": max(sure, default=None),
                     "sd_frames": max((sd for sd in sds if np.isfinite(sd)), default=None),
                     "undetermined": int((~np.isfinite(sds)).sum()),
                     "right": int((np.array(errors) < 0.25).sum()), "clear": clear})  # fmt: skip
    return rows


def long_take(minutes: float = 10.0) -> dict[str, float]:
    """A take of 5 cameras at 60 frames per second, from 2D to smoothed labels: seconds and peak memory."""
    rng = np.random.default_rng(0)
    frames = round(minutes * 60 * 60)
    rig = ring_rig(5, size=(1920, 1080))
    part = walking_person(np.arange(1800) / 60)
    uv = np.stack([camera.project(part) for camera in rig.cameras]).astype(np.float32)
    uv = np.tile(np.concatenate([uv, uv[:, ::-1]], axis=1), (1, -(-frames // 3600), 1, 1))[:, :frames]
    uv += rng.standard_normal(uv.shape, dtype=np.float32)
    wrong = rng.random(uv.shape[:3], dtype=np.float32) < 0.05
    uv[wrong] += rng.normal(0, 100, (int(wrong.sum()), 2)).astype(np.float32)
    observations = Observations2D(BODY17_HANDS, tuple(rig.names), np.arange(frames), uv, None, fps=60.0)
    triangulate_take(rig, observations.select(frames=np.arange(200)))  # compile first
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    start = time.perf_counter()
    take = triangulate_take(rig, observations)
    seconds = time.perf_counter() - start
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    assert take.pose is not None
    return {
        "frames": frames, "observations": int(observations.seen.sum()), "seconds": seconds, "peak_mb": peak,
        "before_mb": before, "known": float(take.pose.valid.mean()),
    }  # fmt: skip


def ablation(seeds: range) -> dict[str, dict[str, float]]:
    """All stages, and all but one."""
    full = TriangulateConfig(refine_cameras=True)
    rows = {"frame by frame (raw)": measure(TriangulateConfig(raw=True), seeds), "all": measure(full, seeds)}
    for stage in WITHOUT:
        without = msgspec.structs.replace(full, **{stage: False})
        rows[f"all without {stage.replace('_', ' ')}"] = measure(without, seeds)
    no_bones = msgspec.structs.replace(full.smoothing, bones=False)
    rows["all without bone lengths"] = measure(msgspec.structs.replace(full, smoothing=no_bones), seeds)
    return rows


def inside(row: dict[str, float], part: str) -> str:
    """Percent of the errors inside the 50 % and the 90 % ellipsoid."""
    return f"{100 * row[f'{part}_50']:.0f} / {100 * row[f'{part}_90']:.0f}"


def render() -> None:
    result = stored("take")
    header = ["stages", "known", "mean mm", "median mm", "p99 mm", "within 30 mm", "inside 50 / 90 %",
              "body", "hands"]  # fmt: skip
    rows = [
        [
            name, f"{r['known']:.3f}", f"{r['mean_mm']:.2f}", f"{r['median_mm']:.2f}", f"{r['p99_mm']:.1f}",
            f"{100 * r['within_30mm']:.2f} %", *(inside(r, part) for part in ("cover", "body", "hands")),
        ]
        for name, r in result["ablation"].items()
    ]  # fmt: skip
    put_table("benchmarks-triangulation.md", "take ablation", markdown(header, rows))
    rows = [
        [r["cameras"], r["scenes"], f"{r['right']} of {r['scenes']}", r["clear"], f"{r['worst_of_clear']:.2f}",
         f"{r['sd_frames']:.2f}"]
        for r in result.get("offsets", ())
    ]  # fmt: skip
    if rows:
        header = ["cameras", "scenes", "right", "called clear", "largest error of these, frames",
                  "largest stated deviation"]  # fmt: skip
        put_table("benchmarks-triangulation.md", "offsets", markdown(header, rows))
    if "long" in result:
        r = result["long"]
        table = markdown(
            ["frames", "2D joints", "seconds", "peak memory MB"],
            [[r["frames"], r["observations"], f"{r['seconds']:.1f}", f"{r['peak_mb']:.0f}"]],
        )
        put_table("benchmarks-triangulation.md", "long take", table)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--seeds", type=int, default=6)
    parser.add_argument("--offset-seeds", type=int, default=8)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--parts", default="long,offsets,ablation", help="what to measure; the rest stays as stored")
    options = parser.parse_args()
    if options.tables_only:
        render()
        return
    warnings.simplefilter("ignore")
    try:
        result = stored("take")
    except FileNotFoundError:
        result = {}
    for part in options.parts.split(","):
        if part == "long":
            result[part] = long_take(options.minutes)
        elif part == "offsets":
            result[part] = offsets(range(options.offset_seeds))
        elif part == "ablation":
            result[part], result["seeds"] = ablation(range(options.seeds)), options.seeds
        else:
            parser.error(f"no part is named {part!r}")
        print(part, result[part], flush=True)
        result.pop("machine", None)
        store("take", result)
    render()


if __name__ == "__main__":
    main()
