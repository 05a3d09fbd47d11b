"""Time of the 2D detector per frame and view, one thread: decoding, body, hands; and with several people followed.

Takes a folder of videos (the four videos of Pose2Sim's single-person demo gave the stored figures).
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

from common import markdown, put_table, store, stored

from egopose.detect.blazepose import BlazePose
from egopose.detect.run import list_videos
from egopose.io.video import read_frames


def milliseconds(images: list, nets: BlazePose, people: int) -> tuple[float, float]:
    """Median and 90th percentile of one frame, without decoding."""
    tracker = nets.open(people)
    times = []
    for image in images:
        start = time.perf_counter()
        tracker.update(image)
        times.append(1e3 * (time.perf_counter() - start))
    return statistics.median(times), sorted(times)[int(0.9 * len(times))]


def measure(folder: Path, frames: int) -> dict:
    with_hands, body_only = BlazePose(threads=1), BlazePose(hands=False, threads=1)
    rows = {}
    for name, path in list_videos(folder).items():
        start = time.perf_counter()
        images = []
        for frame in read_frames(path):
            images.append(frame.image)
            if len(images) == frames:
                break
        decode = 1e3 * (time.perf_counter() - start) / len(images)
        body = milliseconds(images, body_only, 1)
        full = milliseconds(images, with_hands, 1)
        several = milliseconds(images, with_hands, 3)
        h, w = images[0].shape[:2]
        rows[name] = {
            "size": [w, h], "frames": len(images), "decode_ms": decode, "body_ms": body[0], "full_ms": full[0],
            "full_p90_ms": full[1], "three_people_ms": several[0],
        }  # fmt: skip
        print(name, rows[name], flush=True)
    return rows


def render() -> None:
    result = stored("detect")
    rows = [
        [
            name, f"{r['size'][0]} x {r['size'][1]}", f"{r['decode_ms']:.1f}", f"{r['body_ms']:.1f}",
            f"{r['full_ms']:.1f} ({r['full_p90_ms']:.1f})", f"{r['three_people_ms']:.1f}",
        ]
        for name, r in result["videos"].items()
    ]  # fmt: skip
    header = ["view", "image", "decoding", "body", "body and hands (90 %)", "up to three people followed"]
    put_table("triangulation.md", "detector time", markdown(header, rows))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--videos", type=Path)
    parser.add_argument("--frames", type=int, default=60)
    options = parser.parse_args()
    if not options.tables_only:
        if options.videos is None:
            parser.error("--videos FOLDER is needed to measure")
        store("detect", {"videos": measure(options.videos, options.frames)})
    render()


if __name__ == "__main__":
    main()
