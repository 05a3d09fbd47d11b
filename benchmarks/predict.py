"""Frames per second and latency of streamed prediction, one thread, batch 1, decoding included.

Usage: python benchmarks/predict.py [--frames 120] [--onnx] [--tables-only]

A 1080p H.264 clip is written first. Every contender takes the same decoded frames in turn: the network in torch and,
with --onnx, in onnxruntime; decoding alone; and a DINOv2-sized ViT-S/14 on one 224 px image (random weights: only its
time counts). The image path runs whether or not the shipped weights were trained on images.
"""

from __future__ import annotations

import argparse
import resource
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

PAGE, MARK = "speed.md", "predict"
SIZE, FPS = (1920, 1080), 30.0


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


def timed(step: Callable[[Any], Any], frames: Iterator[Any]) -> np.ndarray:
    """Seconds of each frame, from asking for it to the answer."""
    seconds = []
    while True:
        start = time.perf_counter()
        frame = next(frames, None)
        if frame is None:
            return np.array(seconds[5:])
        step(frame)
        seconds.append(time.perf_counter() - start)


def measure(frames: int, onnx: bool) -> dict[str, Any]:
    """All contenders on one clip."""
    import torch

    from egopose.camera import Camera
    from egopose.io.video import read_frames
    from egopose.model.cost import measure as cost
    from egopose.model.engine import TorchEngine
    from egopose.model.session import StepInput, StreamSession
    from egopose.model.track import FrameReader
    from egopose.model.vit import VisionTransformer
    from egopose.model.weights import from_pretrained

    torch.set_num_threads(1)
    import cv2

    cv2.setNumThreads(1)
    weights = from_pretrained("nano")
    camera = Camera.pinhole(900.0, None, SIZE)
    T = poses(frames)
    vit = VisionTransformer(layout="dinov2", dim=384, depth=12, heads=6, patch=14, grid=16, out_dim=192).eval()
    square = torch.zeros(1, 3, 224, 224)
    out: dict[str, Any] = {"contenders": {}, "frames": frames}
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "clip.mp4"
        write_clip(path, frames)
        engines: dict[str, Any] = {"torch": TorchEngine(weights.model())}
        if onnx:
            from egopose.model.onnx import OnnxEngine, export_onnx

            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                engines["onnxruntime"] = OnnxEngine(export_onnx(weights, Path(folder) / "onnx"))
        runs: dict[str, Callable[[], np.ndarray]] = {"decoding alone": lambda: timed(lambda f: None, read_frames(path))}
        for name, engine in engines.items():

            def run(engine: Any = engine) -> np.ndarray:
                session = StreamSession(engine, reader=FrameReader(camera, engine.config))
                return timed(lambda f: session.push(StepInput(f.time_s, f.image, T[f.index])), read_frames(path))

            def sensors(engine: Any = engine) -> np.ndarray:
                session = StreamSession(engine)
                return timed(lambda i: session.push(StepInput(i / FPS, None, T[i])), iter(range(frames)))

            runs[f"nano, images and head poses, {name}"] = run
            runs[f"nano, head poses alone, {name}"] = sensors

        def vit_run() -> np.ndarray:
            with torch.inference_mode():
                return timed(lambda f: vit.features(square), iter(range(12)))

        runs["ViT-S/14 encoder alone, one 224 px image"] = vit_run
        all_seconds: dict[str, list[np.ndarray]] = {name: [] for name in runs}
        for _ in range(3):
            for name, job in runs.items():
                all_seconds[name].append(job())
    for name, parts in all_seconds.items():
        seconds = np.concatenate(parts)
        out["contenders"][name] = {
            "frames_per_s": float(1 / np.median(seconds)),
            "median_ms": float(1e3 * np.median(seconds)),
            "p99_ms": float(1e3 * np.quantile(seconds, 0.99)),
        }
    out["peak_memory_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    out["cost"] = cost(weights.model()).to_dict()
    out["cost_table"] = cost(weights.model()).table()
    return out


def tables(result: dict[str, Any]) -> str:
    """Everything as markdown."""
    rows = [
        [name, f"{r['frames_per_s']:.0f}", f"{r['median_ms']:.1f}", f"{r['p99_ms']:.1f}"]
        for name, r in result["contenders"].items()
    ]
    machine = result["machine"]
    return "\n\n".join(
        [
            f"{machine['cpu']}, {machine['cores']} cores shared with other work (load {machine['load']}), one thread, "
            f"1080p H.264, {result['frames']} frames, contenders interleaved three times; peak memory of the process "
            f"{result['peak_memory_mb']:.0f} MB, all contenders together.",
            markdown(["", "frames/s (median)", "median ms", "p99 ms"], rows),
            "Decoding runs in FFmpeg's own threads. The cost account of one streamed frame (energy is a model of the "
            "literature's coefficients, not a measurement):",
            f"```\n{result['cost_table']}\n```",
        ]
    )


def main() -> None:
    """Measure, store, write the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--frames", type=int, default=120)
    parser.add_argument("--onnx", action="store_true")
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        store("predict", measure(options.frames, options.onnx))
    text = tables(stored("predict"))
    put_table(PAGE, MARK, text)
    print(text)


if __name__ == "__main__":
    main()
