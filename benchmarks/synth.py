"""Rendered images per second on one core, and where the time goes.

Usage: python benchmarks/synth.py [--rounds 5] [--tables-only]

Rows run in turn within each round, one thread; the table holds the median over rounds, in seconds of the processor and
not of the clock, so that other work on the machine counts for little. "body alone" is what a bare
rasteriser does: pose, project, fill and shade the body without a room, one sample per pixel. "labelled images" is
the whole job: motion, clothes, room, light, labels, lens and camera noise, each clip drawn anew.
"""

from __future__ import annotations

import argparse
import time
from typing import Any

import numpy as np
from common import markdown, put_table, store, stored

FRAMES = 32


def processor_seconds(jobs: dict[str, Any], rounds: int) -> dict[str, float]:
    """Median seconds of processor time of each job, run in turn after one warm-up each."""
    for job in jobs.values():
        job()
    seconds: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            start = time.process_time()
            job()
            seconds[name].append(time.process_time() - start)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def body_alone(side: int) -> Any:
    """A job that draws one frame of the body alone through a 150 degree lens, and nothing else."""
    from egopose import rigid
    from egopose.body import load_body
    from egopose.camera import Camera
    from egopose.kernels import rasterise, skinning
    from egopose.train.synthetic.motion import animate
    from egopose.train.synthetic.render import dress
    from egopose.train.synthetic.sources import generated

    body = load_body().shaped()
    model = body.model
    triangles = dress(body, np.random.default_rng(0)).triangles
    motion = animate(body, generated(np.arange(FRAMES) / 15, np.random.default_rng(0)), np.random.default_rng(1))
    focal = side / 2 / np.radians(75)
    middle = (side - 1) / 2
    camera = Camera("kannala_brandt", (side, side), np.array([focal, focal, middle, middle, 0, 0, 0, 0]))
    code, params, _ = camera.packed()
    uvw, normals = np.zeros_like(body.vertices), np.zeros_like(body.vertices)
    nearness, inside = np.zeros((side, side)), np.zeros((side, side, 2))
    index, light = np.full((side, side), -1, np.int32), np.zeros((side, side, 3), np.float32)
    material = np.zeros(len(triangles), np.int64)
    tones, zero = np.full((1, 2, 3), 0.5), np.zeros(1, np.int64)
    lamp, sky = np.array([0.3, 0.2, 0.9, 1, 1, 1, 0.2]), np.full((2, 3), 0.3)
    drawn: list[float] = []

    def job() -> None:
        for t in range(FRAMES):
            posed = body.pose(motion.R[t], motion.root[t])
            T = motion.T_world_camera[t]
            rasterise.project_vertices(code, params, rigid.invert(T)[:3], posed.vertices, 0.03, uvw)
            nearness[:], index[:], light[:] = 0, -1, 0
            rasterise.fill(uvw, triangles, nearness, index, inside)
            skinning.vertex_normals(posed.vertices, model.triangles, normals)
            place = np.array([*T[:3, 3], 0.0])
            rasterise.shade(
                index, inside, triangles, normals, body.vertices, material, tones, zero, np.ones(1), zero, lamp,
                sky, place, light,
            )  # fmt: skip
            drawn.append(float((index >= 0).mean()))

    return job, drawn


def labelled(side: int, samples: int) -> Any:
    """A job that renders one clip with labels, another one each time."""
    from egopose.train.synthetic.render import render_clip
    from egopose.train.synthetic.sources import generated

    state = {"seed": 0}

    def job() -> None:
        state["seed"] += 1
        source = generated(np.arange(FRAMES) / 15, np.random.default_rng(state["seed"]))
        render_clip(source, state["seed"], side=side, samples=samples)

    return job


def steps(side: int, samples: int) -> dict[str, float]:
    """Milliseconds per image of each kernel within whole clips, measured by wrapping them."""
    from egopose.kernels import imaging, rasterise, skinning

    spent: dict[str, float] = {}
    places = [(rasterise, n) for n in ("project_vertices", "fill", "shade")] + [(skinning, "vertex_normals")]
    places += [(skinning, "skin"), (imaging, "develop")]
    kept = [(module, name, getattr(module, name)) for module, name in places]

    def timed(name: str, function: Any) -> Any:
        def wrapper(*args: Any) -> Any:
            start = time.process_time()
            result = function(*args)
            spent[name] = spent.get(name, 0.0) + time.process_time() - start
            return result

        return wrapper

    job = labelled(side, samples)
    job()
    try:
        for module, name, function in kept:
            setattr(module, name, timed(name, function))
        start = time.process_time()
        for _ in range(3):
            job()
        whole = time.process_time() - start
    finally:
        for module, name, function in kept:
            setattr(module, name, function)
    out = {name: 1000 * seconds / (3 * FRAMES) for name, seconds in spent.items()}
    out["everything"] = 1000 * whole / (3 * FRAMES)
    return out


def main() -> int:
    """Measure, store, put the tables into the docs."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--tables-only", action="store_true")
    options = parser.parse_args()
    if not options.tables_only:
        alone, drawn = body_alone(224)
        seconds = processor_seconds(
            {
                "body alone, 224 px, 150 degrees": alone,
                "labelled images, 224 px, 1 sample": labelled(224, 1),
                "labelled images, 288 px, 1 sample": labelled(288, 1),
                "labelled images, 288 px, 3 samples (default)": labelled(288, 3),
            },
            options.rounds,
        )
        rates = {name: FRAMES / value for name, value in seconds.items()}
        store("synth", {"images_per_s": rates, "body_covers": float(np.mean(drawn)), "step_ms": steps(288, 3)})
    result = stored("synth")
    load = f"{result['machine']['cpu']}, load {result['machine']['load']}, one thread, processor time"
    table = markdown(["what", "images/s"], [[name, f"{rate:.0f}"] for name, rate in result["images_per_s"].items()])
    rows = sorted(result["step_ms"].items(), key=lambda item: -item[1])
    parts = markdown(["step of the default clip", "ms per image"], [[name, f"{ms:.1f}"] for name, ms in rows])
    covers = f"The body covers {100 * result['body_covers']:.0f} % of the image of the first row."
    text = f"{load}\n\n{table}\n\n{covers}\n\n{parts}"
    put_table("synthetic.md", "synth", text)
    print(text)
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
