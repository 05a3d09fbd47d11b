"""Frames/s over many annotation files: the index's first and second run against json and dictionary loops.

The files are generated in the true schema. All three runs visit every frame of every take with the same consumer; the
first run of the index parses, hashes and stores, the second opens what was stored. One run after the other in one
process, files in the page cache.
"""

from __future__ import annotations

import argparse
import json
import resource
import shutil
import tempfile
import time
import uuid
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

from egopose.ego_exo4d.dataset import EgoExo4D
from egopose.ego_exo4d.layout import annotation_path
from egopose.ego_exo4d.standin_annotations import annotation
from egopose.ego_exo4d.standin_world import build_world
from egopose.io.ego_exo4d_annotation import BODY_NAMES, HAND_NAMES
from egopose.skeleton import BODY17, HANDS42

NAME = "ego_exo4d_index"
DOCUMENTS = 40
"""Distinct documents; each is written under many take uids."""


def generate(root: Path, takes: int, frames: int, hands: int) -> dict[str, int]:
    """Body annotation for every take, hand annotation for some."""
    rng = np.random.default_rng(0)
    uids = [str(uuid.UUID(bytes=rng.bytes(16))) for _ in range(takes)]
    texts: dict[str, list[bytes]] = {"body": [], "hand": []}
    for number in range(DOCUMENTS):
        world = build_world(number, 1, 3 * frames / 30.0)
        for kind in texts:
            document = annotation(world, kind, "manual", np.arange(0, 3 * frames, 3))
            texts[kind].append(json.dumps(document).encode())
    size = 0
    for kind, count in (("body", takes), ("hand", hands)):
        folder = (root / annotation_path("train", kind, "manual", "x")).parent
        folder.mkdir(parents=True)
        for i in range(count):
            text = texts[kind][i % DOCUMENTS]
            (folder / f"{uids[i]}.json").write_bytes(text)
            size += len(text)
    (root / "takes.json").write_text(
        json.dumps([{"take_uid": uid, "take_name": f"take_{i}", "task_id": 1001} for i, uid in enumerate(uids)])
    )
    (root / "annotations" / "splits.json").write_text(
        json.dumps({"take_uid_to_split": dict.fromkeys(uids, "train"), "take_uid_to_benchmark": {}})
    )
    return {"takes": takes, "files": takes + hands, "bytes": size}


def consume(xyz: np.ndarray, uv: np.ndarray) -> float:
    """Touch every value of a frame."""
    return float(xyz.sum()) + float(uv.sum())


def loops(root: Path, kind: str) -> int:
    """Every frame by json and dictionary loops into the same arrays, as loaders commonly read these files."""
    skeleton = BODY17 if kind == "body" else HANDS42
    names = BODY_NAMES if kind == "body" else HAND_NAMES
    place = {name: skeleton.index(ours) for name, ours in names.items()}
    seen = 0
    for path in sorted((root / annotation_path("train", kind, "manual", "x")).parent.iterdir()):
        with open(path) as stream:
            document = json.load(stream)
        for key in sorted(document, key=int):
            value = document[key]
            entry = value[0] if value else {}
            xyz = np.full((skeleton.n_joints, 3), np.nan, dtype=np.float32)
            num_views = np.full(skeleton.n_joints, -1, dtype=np.int8)
            for joint, p in entry.get("annotation3D", {}).items():
                xyz[place[joint]] = p["x"], p["y"], p["z"]
                num_views[place[joint]] = p["num_views_for_3d"]
            views = entry.get("annotation2D", {})
            uv = np.full((len(views), skeleton.n_joints, 2), np.nan, dtype=np.float32)
            clicked = np.zeros((len(views), skeleton.n_joints), dtype=np.bool_)
            for v, joints in enumerate(views.values()):
                for joint, p in joints.items():
                    uv[v, place[joint]] = p["x"], p["y"]
                    clicked[v, place[joint]] = p["placement"] == "manual"
            consume(xyz, uv)
            seen += 1
    return seen


def indexed(root: Path, cache: Path, kind: str, *, by_take: bool = False) -> int:
    """Every frame through the index, which is opened afresh."""
    index = EgoExo4D(root, cache=cache).index(kind, "manual")
    index.update()
    seen = 0
    for uid in index:
        raw = index[uid]
        if by_take:
            consume(raw.xyz, raw.uv_px)
        else:
            for xyz, uv in zip(raw.xyz, np.moveaxis(raw.uv_px, 0, 1)):
                consume(xyz, uv)
        seen += raw.frames.size
    return seen


def peak_mb() -> float:
    """Largest resident size of this process so far, MB."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def measure(takes: int, frames: int, hands: int, rounds: int) -> dict[str, Any]:
    """All runs; medians over rounds in which they take turns."""
    folder = Path(tempfile.mkdtemp(prefix="egopose-index-"))
    try:
        made = generate(folder / "data", takes, frames, hands)
        # compile before anything is timed
        small = folder / "small"
        generate(small, 2, 40, 2)
        for kind in ("body", "hand"):
            indexed(small, folder / "warm", kind)
        before = peak_mb()
        result: dict[str, Any] = {**made, "frames_per_take": frames, "rounds": rounds, "kinds": {}}
        for kind in ("body", "hand"):
            seconds: dict[str, list[float]] = {"loops": [], "first": [], "second": [], "second_by_take": []}
            for r in range(rounds):
                cache = folder / f"cache-{kind}-{r}"
                for name, call in (
                    ("first", partial(indexed, folder / "data", cache, kind)),
                    ("second", partial(indexed, folder / "data", cache, kind)),
                    ("second_by_take", partial(indexed, folder / "data", cache, kind, by_take=True)),
                    ("loops", partial(loops, folder / "data", kind)),
                ):
                    start = time.perf_counter()
                    count = call()
                    seconds[name].append(time.perf_counter() - start)
                shutil.rmtree(cache)
                if r == 0 and kind == "body":
                    result["first_peak_growth_mb"] = round(peak_mb() - before, 1)
            medians = {name: float(np.median(values)) for name, values in seconds.items()}
            result["kinds"][kind] = {
                "frames": count,
                "seconds": medians,
                "speedup_first": medians["loops"] / medians["first"],
                "speedup_second": medians["loops"] / medians["second"],
                "speedup_second_by_take": medians["loops"] / medians["second_by_take"],
            }
        result["peak_mb"] = round(peak_mb(), 1)
        return result
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def tables() -> None:
    """The table of docs/ego-exo4d.md from the stored result."""
    result = stored(NAME)
    rows = []
    for kind, r in result["kinds"].items():
        s, n = r["seconds"], r["frames"]
        for name, label in (
            ("loops", "json and dictionary loops"), ("first", "index, first run"), ("second", "index, second run"),
            ("second_by_take", "index, second run, take by take"),
        ):  # fmt: skip
            rows.append([kind, label, f"{s[name]:.2f}", f"{n / s[name]:,.0f}", f"{s['loops'] / s[name]:.1f}"])
    text = markdown(["annotation", "run", "s", "frames/s", "times faster"], rows)
    machine = result["machine"]
    text += (
        f"\n\nThe first run parses in threads, the loops have one. "
        f"{result['files']} files ({result['bytes'] / 1e6:.0f} MB, {result['frames_per_take']} frames each) of "
        f"{result['takes']} takes, median of {result['rounds']} rounds in turn, files in the page cache. The process "
        f"peaked at {result['peak_mb']:.0f} MB. {machine['cpu']}, {machine['cores']} cores, load {machine['load']}."
    )
    put_table("ego-exo4d.md", "index-speed", text)


def main() -> None:
    """Measure and store, or only render the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--takes", type=int, default=3000)
    parser.add_argument("--frames", type=int, default=24, help="frames per file")
    parser.add_argument("--hands", type=int, default=500, help="takes with hand annotation")
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--tables-only", action="store_true")
    args = parser.parse_args()
    if not args.tables_only:
        store(NAME, measure(args.takes, args.frames, args.hands, args.rounds))
    tables()


if __name__ == "__main__":
    main()
