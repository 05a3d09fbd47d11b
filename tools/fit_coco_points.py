"""Fit the map from BlazePose's landmarks to COCO's points, on rendered people before rendered rooms.

    python tools/fit_coco_points.py egopose/assets/blazepose_coco.npz --bodies 12

The people, rooms and cameras are the stand-in's (``egopose synth ego-exo4d``), with seeds of their own from 200 on that
nothing else uses. Printed are the errors of bodies left out. The shrinkage was chosen so that real footage gets no
worse: four cameras before a person, against a detector trained on COCO.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from egopose.detect import coco_points
from egopose.detect.blazepose import BlazePose
from egopose.ego_exo4d.standin_figure import Figure
from egopose.ego_exo4d.standin_video import Room, rays_of, video_size
from egopose.ego_exo4d.standin_world import BAD, MISSING, build_world
from egopose.files import atomic_path
from egopose.skeleton import BLAZEPOSE33, BODY17

HEIGHT = 1080
SHRINKAGE = 1.0


def examples(nets: BlazePose, seed: int, frames: int) -> dict[str, np.ndarray]:
    """Landmarks, scores and true points of one person, upright and in pixels; millimetres per pixel aside."""
    world = build_world(0, seed, 3.0)
    truth = world.truth.to_skeleton(BODY17).xyz.astype(np.float64)
    room, figure = Room(world.seed), Figure(world.body, world.seed)
    rows: dict[str, list] = {"points": [], "score": [], "target": [], "mm": []}
    for name, camera in world.cameras.items():
        if name in (BAD, MISSING):
            continue
        camera = camera.scaled(video_size(camera.size, HEIGHT))
        backdrop = room.image(rays_of(camera), camera)
        for t in np.linspace(5, world.n_frames - 5, frames).astype(int):
            image = backdrop.copy()
            figure.draw(image, camera, *world.pose(t))
            found = nets.find_people(image)
            if not found:
                continue
            square = found[0][1]
            for _ in range(2):
                square = nets.body(image, square)[3]
            _, uv, score, _ = nets.body(image, square)
            turn = coco_points.upright_turn(square.angle)
            rows["points"].append(uv @ turn)
            rows["score"].append(score)
            rows["target"].append(camera.project(truth[t]) @ turn)
            rows["mm"].append(1e3 * np.linalg.norm(truth[t].mean(axis=0) - camera.center_world) / camera.K[0, 0])
    return {key: np.array(value) for key, value in rows.items()}


def main() -> None:
    """Render, detect, fit, write; print what bodies left out say."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    parser.add_argument("--bodies", type=int, default=12)
    parser.add_argument("--frames", type=int, default=4)
    options = parser.parse_args()
    nets = BlazePose(hands=False, high=True)
    people = [examples(nets, 200 + i, options.frames) for i in range(options.bodies)]
    every = {key: np.concatenate([person[key] for person in people]) for key in people[0]}
    of = np.repeat(np.arange(len(people)), [len(person["mm"]) for person in people])
    source, before, after = BLAZEPOSE33.map_to(BODY17), [], []
    for i in range(len(people)):
        rest, mine = of != i, of == i
        table = coco_points.fit(every["points"][rest], every["score"][rest], every["target"][rest], SHRINKAGE)
        points, target, mm = every["points"][mine], every["target"][mine], every["mm"][mine, None]
        moved = points[:, source] + coco_points.apply(table, points, every["score"][mine])
        before.append(mm * np.linalg.norm(points[:, source] - target, axis=-1))
        after.append(mm * np.linalg.norm(moved - target, axis=-1))
    print(f"{len(of)} views: median {np.median(np.concatenate(before)):.1f} mm at the body's distance, "
          f"{np.median(np.concatenate(after)):.1f} mm with the map of the other bodies")  # fmt: skip
    table = coco_points.fit(every["points"], every["score"], every["target"], SHRINKAGE)
    with atomic_path(options.out) as temporary:
        np.savez_compressed(temporary, **{key: value.astype(np.float32) for key, value in table.items()})


if __name__ == "__main__":
    main()
