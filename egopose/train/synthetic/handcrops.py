"""Hands alone: small pinhole images aimed at the hands of a rendered clip, many times cheaper than whole frames.

A crop is seen from the head camera's place. It is wider than the network's own crop, so that training can aim beside
the hand, turn the crop and change its size without leaving the image.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.body import BodyModel, load_body
from egopose.camera import Camera
from egopose.kernels import rasterise
from egopose.skeleton import BODY17, HAND21
from egopose.train.synthetic.motion import STEEPEST, SourceMotion, animate
from egopose.train.synthetic.render import LONGEST_EXPOSURE_S, Darkroom, Scene, _at, _jitter, _order, slack

Array = NDArray[np.float64]

CROP_RADIUS_M = 0.19
"""Half the width of an image at the hand's distance, metres."""

NEAREST_M, FARTHEST_M = 0.12, 0.95
WIDEST_ANGLE = np.radians(88.0)
"""Hands further than this from the head camera's axis are seen by no lens of the clips."""

SHOWN = 0.3
"""Least share of a hand's joints that is seen."""


def render_hand_crops(
    source: SourceMotion, seed: int | tuple[int, ...], *, side: int = 144, samples: int = 3, hands_up: float = 0.9,
    steep_share: float = 0.0, steepest: float = STEEPEST, model: BodyModel | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Crops of the hands in a clip; the same source and seed give the same bytes.

    Args:
        source: Motion; both hands of each frame are drawn where they can be seen.
        seed: Everything random follows from it.
        side: Width and height of a crop, pixels.
        samples: Images averaged per crop.
        hands_up: Share of the clips with hands before the camera.
        steep_share: Share of the clips whose camera looks steeply down.
        steepest: How steeply at most, radians.
        model: Body asset; None is the package's.

    Returns:
        ``images`` (N, side, side, 3) uint8 RGB; ``focal_px`` (N,) of the pinhole camera with its centre in the middle;
        ``R_view_camera`` (N, 3, 3) from head camera axes to its axes; ``joints_camera`` (N, 21, 3) float32 metres in
        head camera axes; ``visible`` (N, 21) bool; ``hand`` (N,) uint8, 0 left, 1 right; ``subject``.
    """
    rng = np.random.default_rng(seed)
    model = load_body() if model is None else model
    body = model.shaped(np.clip(rng.standard_normal(model.n_shapes), -2.2, 2.2))
    motion = animate(body, source, rng, hands_up=hands_up, steep_share=steep_share, steepest=steepest)
    scene = Scene(body, motion, Camera.pinhole(side, [(side - 1) / 2] * 2, (side, side), name="hand"), rng)
    n = motion.times_s.size
    clothed = [scene.moved(t) for t in range(n)]
    darkroom = Darkroom(scene, rng)
    open_share = scene.look.shutter * min(1.0, LONGEST_EXPOSURE_S / float(np.diff(motion.times_s).min(initial=1.0)))
    deep = slack()
    rows: dict[str, list[Any]] = {
        key: [] for key in ("images", "focal_px", "R_view_camera", "joints_camera", "visible", "hand")
    }
    for t in range(n):
        T = motion.T_world_camera[t]
        joints = rigid.transform_points(rigid.invert(T), body.pose(motion.R[t], motion.root[t]).joints())
        for h in range(2):
            mine = slice(BODY17.n_joints + h * HAND21.n_joints, BODY17.n_joints + (h + 1) * HAND21.n_joints)
            centre = joints[mine].mean(axis=0)
            far = float(np.linalg.norm(centre))
            if not NEAREST_M < far < FARTHEST_M or np.arccos(centre[2] / far) > WIDEST_ANGLE:
                continue
            R_view_camera = _aim(centre, rng)
            focal = far / CROP_RADIUS_M * side / 2
            scene.params[:2] = focal
            turn = rigid.make_transform(R_view_camera.T, np.zeros(3))
            total = np.zeros((side, side, 3), np.float32)
            seen, uvw = np.zeros(HAND21.n_joints, dtype=bool), np.zeros((HAND21.n_joints, 3))
            for k in range(samples):
                vertices, pose = _at(clothed, motion.T_world_camera, t, open_share * _order(k, samples))
                scene.draw(vertices, pose @ turn, _jitter(k) if samples > 1 else (0.0, 0.0))
                if k == 0:
                    points = joints[mine] @ R_view_camera.T
                    rasterise.project_vertices(scene.code, scene.params, np.eye(4)[:3], points, 1e-3, uvw)
                    rasterise.seen(uvw, scene.nearness, deep[mine], seen)
                    if seen.mean() < SHOWN:
                        break
                total += scene.shade(pose @ turn)
            else:
                image = np.zeros((side, side, 3), np.uint8)
                # each crop is metered by itself, as if the whole frame had been: hands may be over- or underexposed
                darkroom.gain = 0.0
                darkroom.develop(total * float(np.exp(0.25 * rng.standard_normal())), image)
                rows["images"].append(image)
                rows["focal_px"].append(focal)
                rows["R_view_camera"].append(R_view_camera)
                rows["joints_camera"].append(joints[mine].astype(np.float32))
                rows["visible"].append(seen)
                rows["hand"].append(np.uint8(h))
    empty = {
        "images": np.zeros((0, side, side, 3), np.uint8), "focal_px": np.zeros(0), "R_view_camera": np.zeros((0, 3, 3)),
        "joints_camera": np.zeros((0, HAND21.n_joints, 3), np.float32),
        "visible": np.zeros((0, HAND21.n_joints), bool), "hand": np.zeros(0, np.uint8),
    }  # fmt: skip
    out: dict[str, Any] = {key: np.stack(values) if values else empty[key] for key, values in rows.items()}
    return {**out, "subject": source.subject}


def _aim(centre: Array, rng: np.random.Generator) -> Array:
    """R_view_camera: z towards a point near the hand, turned by a random angle."""
    z = centre + 0.012 * rng.standard_normal(3)
    z = z / np.linalg.norm(z)
    x = np.cross([0.0, 1.0, 0.0] if abs(z[1]) < 0.95 else [0.0, 0.0, -np.sign(z[1])], z)
    x /= np.linalg.norm(x)
    R = np.stack([x, np.cross(z, x), z])
    angle = np.radians(15) * rng.standard_normal()
    c, s = np.cos(angle), np.sin(angle)
    return np.array([[c, -s, 0], [s, c, 0], [0, 0, 1]]) @ R
