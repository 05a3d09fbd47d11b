"""Labels of rendered exo views through the 2D detectors against exact truth, on a few frames of a body of its own.

The figures of whole takes are in docs/ego-exo4d.md; bounds here are those of three frames without smoothing over time.
"""

from __future__ import annotations

import warnings

import numpy as np
import pytest

from egopose.camera import Rig
from egopose.detect.base import make_detector
from egopose.detect.weights import missing
from egopose.ego_exo4d.standin_figure import Figure
from egopose.ego_exo4d.standin_video import Room, rays_of, video_size
from egopose.ego_exo4d.standin_world import BAD, MISSING, build_world
from egopose.observations import Observations2D
from egopose.skeleton import BODY17, BODY17_HANDS, HANDS42
from egopose.triangulate.take import triangulate_take

FRAMES = (10, 45, 80)


@pytest.fixture(scope="module")
def views():
    world = build_world(0, 300, 3.0)
    cameras, images = [], []
    room, figure = Room(world.seed), Figure(world.body, world.seed)
    for name, camera in world.cameras.items():
        if name in (BAD, MISSING):
            continue
        camera = camera.scaled(video_size(camera.size, 1080))
        backdrop = room.image(rays_of(camera), camera)
        cameras.append(camera)
        images.append([backdrop.copy() for _ in FRAMES])
        for image, t in zip(images[-1], FRAMES):
            figure.draw(image, camera, *world.pose(t))
    return world, Rig(cameras), images


@pytest.mark.parametrize(
    ("detector", "body_mm", "face_mm"), [("blazepose", 25.0, 40.0), ("blazepose-high", 15.0, 18.0)]
)
def test_detector_to_labels(views, detector: str, body_mm: float, face_mm: float) -> None:
    pytest.importorskip("ai_edge_litert")
    if missing(high=detector == "blazepose-high"):
        pytest.skip("the detector's weights are not fetched; run egopose weights fetch --high")
    world, rig, images = views
    nets = make_detector(detector)
    uv = np.full((len(rig), len(FRAMES), BODY17_HANDS.n_joints, 2), np.nan, np.float32)
    score = np.zeros(uv.shape[:3], np.float32)
    for v, frames in enumerate(images):
        tracker = nets.open()
        tracker.update(frames[0])
        for t, image in enumerate(frames):
            [person] = tracker.update(image)
            uv[v, t], score[v, t] = person.uv_px, person.score
    both = Observations2D(
        BODY17_HANDS, tuple(rig.names), np.array(FRAMES), uv, score, fps=30.0,
        sizes=tuple(camera.size for camera in rig.cameras),
    )  # fmt: skip
    error = {}
    for name, skeleton in (("body", BODY17), ("hand", HANDS42)):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            take = triangulate_take(rig, both.to_skeleton(skeleton))
        truth = world.truth.to_skeleton(skeleton).xyz[list(FRAMES)]
        distance = 1e3 * np.linalg.norm(take.pose.xyz.astype(np.float64) - truth, axis=-1)
        error[name] = np.where(take.used.sum(axis=0) >= 3, distance, np.nan)
    face = BODY17.indices(["nose", "left_eye", "right_eye", "left_ear", "right_ear"])
    assert np.isfinite(error["body"]).mean() > 0.9
    assert np.isfinite(error["hand"]).mean() > 0.5
    assert np.nanmedian(np.delete(error["body"], face, axis=1)) < body_mm
    assert np.nanmedian(error["body"][:, face]) < face_mm
    assert np.nanmedian(error["hand"]) < 14
