"""Frames per second, latency and memory of streamed prediction, one core, batch 1, decoding included.

Usage: python benchmarks/predict.py [--frames 120] [--onnx] [--video FILE] [--holistic PYTHON] [--tables-only]

A 1080p H.264 clip is written first: a moving textured picture, or a recording scaled to that size. Contenders:
decoding alone; the network in torch, with MediaPipe's hands beside it, and with --onnx in onnxruntime; a DINOv2-sized
ViT-S/14 on one 224 px image (random weights: only its time counts); and with --holistic the MediaPipe Holistic
pipeline. The image path runs whether or not the shipped weights were trained on images.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

PAGE, MARK = "speed.md", "predict"
SIZE, FPS, SKIP = (1920, 1080), 30.0, 5
DECODE, TORCH = "decoding alone", "nano, images and head poses, torch"
VIT, HOLISTIC = "ViT-S/14 encoder alone, one 224 px image", "MediaPipe 0.10.21 Holistic"


def write_clip(path: Path, frames: int) -> None:
    """A moving, textured 1080p clip."""
    import cv2

    from egopose.io.video import VideoWriter

    rng = np.random.default_rng(0)
    big = cv2.resize(rng.integers(0, 255, (150, 300, 3), dtype=np.uint8), (2400, 1200), interpolation=cv2.INTER_CUBIC)
    with VideoWriter(path, fps=FPS) as video:
        for i in range(frames):
            x, y = int(200 + 150 * np.sin(i / 9)), int(50 + 40 * np.cos(i / 7))
            video.add(np.ascontiguousarray(big[y : y + SIZE[1], x : x + SIZE[0]]))


def poses(n: int) -> np.ndarray:
    """A walking head."""
    T = np.tile(np.eye(4), (n, 1, 1))
    T[:, :3, :3] = [[0, 0, 1], [-1, 0, 0], [0, -1, 0]]
    T[:, 0, 3], T[:, 2, 3] = np.arange(n) / FPS, 1.6 + 0.02 * np.sin(np.arange(n))
    return T


def fit_clip(source: Path, path: Path, frames: int) -> None:
    """The first frames of a recording, scaled into 1080p with black bars."""
    import cv2

    from egopose.io.video import VideoWriter, read_frames

    with VideoWriter(path, fps=FPS) as video:
        for frame in read_frames(source):
            if frame.index == frames:
                break
            h, w = frame.image.shape[:2]
            scale = min(SIZE[0] / w, SIZE[1] / h)
            small = cv2.resize(frame.image, (round(w * scale), round(h * scale)), interpolation=cv2.INTER_CUBIC)
            out = np.zeros((SIZE[1], SIZE[0], 3), np.uint8)
            top, left = (SIZE[1] - small.shape[0]) // 2, (SIZE[0] - small.shape[1]) // 2
            out[top : top + small.shape[0], left : left + small.shape[1]] = small
            video.add(out)


def timed(step: Callable[[Any], Any], frames: Iterator[Any]) -> list[float]:
    """Seconds of each frame, from asking for it to the answer."""
    seconds = []
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return seconds[SKIP:]
        step(frame)
        seconds.append(time.perf_counter() - start)


def contend(name: str, clip: Path, frames: int) -> dict[str, Any]:
    """One contender in this process, on one core: every thread pool inside has to share it."""
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    if name == DECODE:
        from egopose.io.video import read_frames

        return _result(timed(lambda f: None, read_frames(clip)))
    import torch

    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
    if name == VIT:
        from egopose.model.vit import VisionTransformer

        vit = VisionTransformer(layout="dinov2", dim=384, depth=12, heads=6, patch=14, grid=16, out_dim=192).eval()
        square = torch.zeros(1, 3, 224, 224)
        with torch.inference_mode():
            return _result(timed(lambda f: vit.features(square), iter(range(15))))
    from egopose.camera import Camera
    from egopose.io.video import read_frames
    from egopose.model.engine import TorchEngine
    from egopose.model.session import StepInput, StreamSession
    from egopose.model.track import FrameReader
    from egopose.model.weights import from_pretrained

    engine: Any
    if "onnxruntime" in name:
        from egopose.model.onnx import OnnxEngine

        engine = OnnxEngine(clip.parent / "onnx")
    else:
        engine = TorchEngine(from_pretrained("nano").model())
    camera = Camera.pinhole(900.0, None, SIZE)
    T = poses(frames)
    if "alone" in name:
        session = StreamSession(engine)
        return _result(timed(lambda i: session.push(StepInput(i / FPS, None, T[i])), iter(range(frames))))
    session = StreamSession(engine, reader=FrameReader(camera, engine.config))
    if "hands mediapipe" not in name:
        return _result(timed(lambda f: session.push(StepInput(f.time_s, f.image, T[f.index])), read_frames(clip)))
    from egopose.detect.palm import HandNets, HandTracker
    from egopose.hands import lift_found

    tracker = HandTracker(HandNets(), camera)

    def both(frame: Any) -> None:
        session.push(StepInput(frame.time_s, frame.image, T[frame.index]))
        lift_found([tracker.update(frame.image)])

    return _result(timed(both, read_frames(clip)))


def _result(seconds: list[float]) -> dict[str, Any]:
    # ru_maxrss would carry over the peak of the process that started this one
    status = Path("/proc/self/status").read_text()
    peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
    return {"seconds": seconds, "peak_memory_mb": int(peak.split()[1]) / 1024}


def measure(frames: int, onnx: bool, video: Path | None, peer: Path | None, rounds: int) -> dict[str, Any]:
    """All contenders on one clip, each in a process of its own, in turn."""
    from egopose.model.cost import measure as cost
    from egopose.model.weights import from_pretrained

    names = [DECODE, TORCH, f"{TORCH} --hands mediapipe", "nano, head poses alone, torch"]
    if onnx:
        names += ["nano, images and head poses, onnxruntime", "nano, head poses alone, onnxruntime"]
    names += [VIT] + ([HOLISTIC] if peer is not None else [])
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in names}
    here = Path(__file__).resolve()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        if video is None:
            write_clip(path, frames)
        else:
            fit_clip(video, path, frames)
        if onnx:
            from egopose.model.onnx import export_onnx

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                export_onnx(from_pretrained("nano"), Path(folder) / "onnx")
        for _ in range(rounds):
            for name in names:
                if name == HOLISTIC:
                    command = [str(peer), str(here.parent / "holistic_peer.py"), str(path), str(SKIP)]
                else:
                    command = [
                        sys.executable,
                        str(here),
                        "--contender",
                        name,
                        "--clip",
                        str(path),
                        "--frames",
                        str(frames),
                    ]
                done = subprocess.run(command, capture_output=True, text=True, check=False)
                if done.returncode:
                    raise SystemExit(f"{name}: {done.stderr.strip().splitlines()[-1:]}")
                runs[name].append(json.loads(done.stdout.strip().splitlines()[-1]))
    out: dict[str, Any] = {
        "contenders": {},
        "frames": frames,
        "clip": "a textured picture" if video is None else video.name,
    }
    for name, parts in runs.items():
        seconds = np.concatenate([p["seconds"] for p in parts])
        out["contenders"][name] = {
            "frames_per_s": float(1 / np.median(seconds)), "median_ms": float(1e3 * np.median(seconds)),
            "p99_ms": float(1e3 * np.quantile(seconds, 0.99)),
            "peak_memory_mb": max(p["peak_memory_mb"] for p in parts),
        }  # fmt: skip
        if "found" in parts[0]:
            out["contenders"][name]["found"] = parts[0]["found"]
    import torch

    torch.set_num_threads(1)
    account = cost(from_pretrained("nano").model())
    out["cost"], out["cost_table"] = account.to_dict(), account.table()
    return out


def tables(result: dict[str, Any]) -> str:
    """Everything as markdown."""
    rows = [
        [name, f"{r['frames_per_s']:.0f}", f"{r['median_ms']:.1f}", f"{r['p99_ms']:.1f}", f"{r['peak_memory_mb']:.0f}"]
        for name, r in result["contenders"].items()
    ]
    machine = result["machine"]
    found = result["contenders"].get(HOLISTIC, {}).get("found")
    seen = "" if found is None else (
        f" Holistic found a body in {found['pose']} of {result['frames']} frames, hands in {found['left_hand']} (left) "
        f"and {found['right_hand']} (right); it gives image landmarks and a hip-centred body, no place in the world."
    )  # fmt: skip
    return "\n\n".join(
        [
            f"{machine['cpu']}, {machine['cores']} cores shared with other work (load {machine['load']}); 1080p H.264, "
            f"{result['frames']} frames of {result['clip']}. Every contender is a process of its own, held to one "
            f"core, batch 1; frame by frame from asking the decoder to the answer, in turn; ViT-S/14 takes one 224 px "
            f"image without decoding.{seen}",
            markdown(["", "frames/s (median)", "median ms", "p99 ms", "peak memory MB"], rows),
            "The cost account of one streamed frame (energy is a model of the literature's coefficients, not a "
            "measurement):",
            f"```\n{result['cost_table']}\n```",
        ]
    )


def main() -> None:
    """Measure, store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--video", type=Path, help="a recording instead of a textured picture")
    parser.add_argument("--holistic", type=Path, help="python of an environment with mediapipe==0.10.21 and av")
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    parser.add_argument("--clip", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.contender:
        print(json.dumps(contend(options.contender, options.clip, options.frames)))
        return
    if not options.tables_only:
        store("predict", measure(options.frames, options.onnx, options.video, options.holistic, options.rounds))
    text = tables(stored("predict"))
    put_table(PAGE, MARK, text)
    print(text)


if __name__ == "__main__":
    main()
