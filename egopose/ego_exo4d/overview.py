"""What a dataset folder holds and lacks, per take and in all."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from egopose.ego_exo4d.dataset import EgoExo4D
from egopose.ego_exo4d.layout import KINDS, PARTS, SOURCES
from egopose.ego_exo4d.take import Take
from egopose.errors import EgoposeError


def take_overview(take: Take) -> dict[str, Any]:
    """Frames, joints, hands, cameras and gaps of one take; what it lacks is listed under ``missing``."""
    missing: list[str] = []
    problems: list[str] = []
    annotations: dict[str, Any] = {}
    for kind in KINDS:
        for source in SOURCES:
            if take.annotated(kind, source):
                try:
                    annotations[f"{kind}_{source}"] = _annotation(take, kind, source)
                except EgoposeError as error:
                    problems.append(str(error))
    folder = take.folder / "trajectory"
    for name in ("gopro_calibs.csv", "closed_loop_trajectory.csv", "online_calibration.jsonl"):
        if not (folder / name).is_file():
            missing.append(name)
    if not (take.dataset.root / "captures" / str(take.capture) / "timesync.csv").is_file():
        missing.append("timesync.csv")
    videos = []
    for camera in [take.aria_name, *take.exo_names]:
        try:
            videos.append(str(take.video(camera).relative_to(take.folder)))
        except EgoposeError:
            continue
    if not videos:
        missing.append("videos")
    head: dict[str, Any] | None = None
    if take.camera_pose_file.is_file():
        try:
            frames, _ = take.head_extrinsics
            head = {
                "frames": int(frames.size), "first": int(frames[0]), "last": int(frames[-1]), "gaps": take.head_gaps(),
            }  # fmt: skip
        except EgoposeError as error:
            problems.append(str(error))
    else:
        missing.append("camera_pose")
    try:
        exo = {
            name: {"portrait": camera.portrait, "quality": camera.quality, "problem": camera.problem}
            for name, camera in take.exo_cameras.items()
        }
    except EgoposeError as error:
        exo = {}
        problems.append(str(error))
    return {
        "take_uid": take.uid, "take_name": take.name, "split": take.split, "scenario": take.scenario,
        "benchmarks": list(take.benchmarks), "annotations": annotations, "exo_cameras": exo, "head": head,
        "videos": videos, "missing": missing, "problems": problems,
    }  # fmt: skip


def _annotation(take: Take, kind: Any, source: Any) -> dict[str, Any]:
    raw = take.raw_annotation(kind, source)
    known = np.asarray(np.isfinite(raw.xyz).all(-1))
    result: dict[str, Any] = {
        "frames": int(raw.frames.size), "step": raw.step, "frames_with_3d": int(known.any(1).sum()),
        "joints_3d": int(known.sum()), "joints_2d": int(np.isfinite(raw.uv_px).all(-1).sum()),
        "views": list(raw.views),
    }  # fmt: skip
    if kind == "hand":
        sides = [j.split("_", 1)[0] for j in raw.skeleton.joints]
        result["hands"] = sum(int(known[:, [s == side for s in sides]].any(1).sum()) for side in ("left", "right"))
    return result


def overview(
    data: EgoExo4D, takes: Sequence[str] = (), progress: Callable[[float, str], None] | None = None
) -> dict[str, Any]:
    """The whole dataset, and the takes asked for (all of them by default).

    Args:
        data: The dataset.
        takes: Uids or names; empty = all.
        progress: Called with the share done and the take's name.
    """
    wanted = [data[key] for key in takes] if takes else list(data)
    rows = []
    for i, take in enumerate(wanted):
        rows.append(take_overview(take))
        if progress is not None:
            progress((i + 1) / len(wanted), take.name)
    release, why = data.release()
    annotated = {
        f"{kind}_{source}": len(set(data.index(kind, source).files) & set(data.takes))
        for kind in KINDS
        for source in SOURCES
    }
    lacking = Counter(name for row in rows for name in row["missing"])
    for source in SOURCES:
        if not any(annotated[f"{kind}_{source}"] for kind in KINDS):
            lacking[source] = len(data)
    if not (data.root / "annotations" / "splits.json").is_file():
        lacking["annotations/splits.json"] = len(data)
    return {
        "root": str(data.root), "takes": len(data), "splits": dict(Counter(str(take.split) for take in data)),
        "scenarios": dict(Counter(take.scenario for take in data)), "annotated": annotated,
        "release": release, "release_reason": why,
        "missing": {name: {"takes": n, "download": f"egoexo --parts {PARTS[name]}"} for name, n in lacking.items()},
        "per_take": rows,
    }  # fmt: skip


def overview_text(result: dict[str, Any], limit: int = 20) -> str:
    """The overview for people: totals, then one line per take."""
    counts = ", ".join(f"{name} {n}" for name, n in result["splits"].items())
    lines = [f"{result['root']}: {result['takes']} takes ({counts})"]
    lines.append("annotated takes: " + ", ".join(f"{k.replace('_', ' ')} {n}" for k, n in result["annotated"].items()))
    if result["release"] != "unknown":
        lines.append(f"release {result['release']}: {result['release_reason']}")
    for row in result["per_take"][:limit]:
        lines.append(f"{row['take_name']}  {row['split']}  {row['scenario']}  {row['take_uid']}")
        for name, a in row["annotations"].items():
            rate = "" if not a["step"] else f" (every {a['step']})" if a["step"] > 1 else ""
            hands = f", {a['hands']} hands" if "hands" in a else ""
            lines.append(
                f"  {name.replace('_', ' '):<15} {a['frames']} frames{rate}{hands}, {a['joints_3d']} joints in 3D, "
                f"{a['joints_2d']} in 2D, views {' '.join(a['views'])}"
            )
        cameras = [
            name + (" portrait" if c["portrait"] else "") + (f" ({c['problem']})" if c["problem"] else "")
            for name, c in row["exo_cameras"].items()
        ]
        lines.append(f"  exo cameras     {', '.join(cameras) or 'none'}")
        if row["head"]:
            h = row["head"]
            gaps = ", ".join(str(a) if a == b else f"{a}-{b}" for a, b in h["gaps"][:8]) or "none"
            lines.append(f"  head poses      {h['frames']} of {h['first']}-{h['last']}; without: {gaps}")
        lines.append(f"  videos          {len(row['videos'])}")
        lines += [f"  refused         {problem}" for problem in row["problems"]]
    if len(result["per_take"]) > limit:
        lines.append(f"... and {len(result['per_take']) - limit} takes more (--json has them all)")
    for name, entry in result["missing"].items():
        lines.append(f"missing: {name} of {entry['takes']} takes; {entry['download']}")
    return "\n".join(lines)
