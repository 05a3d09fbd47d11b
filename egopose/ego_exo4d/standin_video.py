"""Videos of the stand-in: a clothed figure of shaded rounded limbs in a textured room, through the true lenses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.ego_exo4d.aria import video_camera
from egopose.ego_exo4d.layout import FPS
from egopose.ego_exo4d.standin_world import World
from egopose.errors import import_cv2
from egopose.io.video import VideoWriter
from egopose.skeleton import BODY17_HANDS, FINGERS

Array = NDArray[np.float64]
ROOM_M = (4.6, 4.2, 2.9)
"""Half width, half depth and height of the room."""
_SHIFT = 4
"""Binary places of the drawn coordinates."""
_SKIN, _HAIR, _SHOE, _DARK = (222, 174, 146), (58, 42, 34), (40, 40, 46), (30, 26, 26)
_SHIRTS = ((60, 104, 170), (176, 66, 58), (70, 138, 92), (196, 160, 60))
_TROUSERS = ((52, 56, 70), (92, 82, 70), (40, 60, 92))
# drawn from dark to bright: radius, offset upwards in radii, brightness
_TONES = ((1.0, 0.0, 0.62), (0.78, 0.16, 0.84), (0.45, 0.36, 1.0))


class Figure:
    """Rounded pieces (two ends, a radius, a colour) that follow the joints."""

    def __init__(self, seed: int, head: bool = True) -> None:
        """Choose the clothes.

        Args:
            seed: Of the colours.
            head: Draw the head; the wearer's own camera sits in it.
        """
        rng = np.random.default_rng(seed)
        self.shirt = _SHIRTS[rng.integers(len(_SHIRTS))]
        self.trousers = _TROUSERS[rng.integers(len(_TROUSERS))]
        self.head = head

    def pieces(self, joints: Array) -> tuple[Array, Array, NDArray[np.float64]]:
        """Ends (P, 2, 3), radii (P, 2) in metres and colours (P, 3) of one frame's (59, 3) joints."""
        at = {name: joints[i] for i, name in enumerate(BODY17_HANDS.joints)}
        out: list[tuple[Array, Array, float, float, tuple[int, int, int]]] = []

        def limb(a: Array, b: Array, r0: float, r1: float, colour: tuple[int, int, int], parts: int = 4) -> None:
            for k in range(parts):
                s0, s1 = k / parts, (k + 1) / parts
                out.append((a + s0 * (b - a), a + s1 * (b - a), r0 + s0 * (r1 - r0), r0 + s1 * (r1 - r0), colour))

        shoulders = (at["left_shoulder"] + at["right_shoulder"]) / 2
        hips = (at["left_hip"] + at["right_hip"]) / 2
        forward = np.cross(at["left_hip"] - at["right_hip"], shoulders - hips)
        forward /= np.linalg.norm(forward)
        limb(shoulders, hips, 0.12, 0.11, self.shirt)
        limb(at["left_hip"], at["right_hip"], 0.10, 0.10, self.trousers)
        for side in ("left", "right"):
            limb(at[f"{side}_shoulder"] * 0.8 + shoulders * 0.2, at[f"{side}_hip"], 0.085, 0.095, self.shirt)
            limb(at[f"{side}_shoulder"], at[f"{side}_elbow"], 0.055, 0.045, self.shirt)
            limb(at[f"{side}_elbow"], at[f"{side}_wrist"], 0.042, 0.028, _SKIN)
            limb(at[f"{side}_hip"], at[f"{side}_knee"], 0.085, 0.058, self.trousers)
            limb(at[f"{side}_knee"], at[f"{side}_ankle"], 0.056, 0.042, self.trousers)
            ankle = at[f"{side}_ankle"] - (0, 0, 0.03)
            limb(ankle, ankle + 0.17 * forward * (1, 1, 0) - (0, 0, 0.02), 0.042, 0.032, _SHOE, 2)
            wrist = at[f"{side}_hand_wrist"]
            for finger in FINGERS:
                chain = [at[f"{side}_hand_{finger}_{k}"] for k in (1, 2, 3, 4)]
                limb(wrist, chain[0], 0.017, 0.013, _SKIN, 2)
                for k in range(3):
                    limb(chain[k], chain[k + 1], 0.010 - 0.001 * k, 0.009 - 0.001 * k, _SKIN, 1)
        if self.head:
            ears = (at["left_ear"] + at["right_ear"]) / 2
            face = at["nose"] - ears
            face /= np.linalg.norm(face)
            up = np.cross(face, at["left_ear"] - at["right_ear"])
            up /= np.linalg.norm(up)
            limb(shoulders, ears - 0.05 * up, 0.055, 0.055, _SKIN, 2)
            limb(ears + 0.03 * up, ears - 0.06 * up + 0.02 * face, 0.088, 0.070, _SKIN, 1)
            limb(ears + 0.05 * up - 0.025 * face, ears - 0.01 * up - 0.045 * face, 0.092, 0.075, _HAIR, 1)
            out.append((at["nose"] - 0.012 * face, at["nose"] - 0.012 * face, 0.016, 0.016, _SKIN))
            mouth = at["nose"] - 0.045 * up - 0.012 * face
            side_way = np.cross(up, face)
            limb(mouth - 0.02 * side_way, mouth + 0.02 * side_way, 0.006, 0.006, (170, 84, 84), 1)
            for side in ("left", "right"):
                eye = at[f"{side}_eye"] + 0.004 * face
                out.append((eye, eye, 0.013, 0.013, _DARK))
                out.append((at[f"{side}_ear"], at[f"{side}_ear"] - 0.02 * up, 0.020, 0.016, _SKIN))
        ends = np.array([[a, b] for a, b, *_ in out])
        radii = np.array([[r0, r1] for *_, r0, r1, _ in out])
        return ends, radii, np.array([colour for *_, colour in out], dtype=np.float64)


def draw_figure(image: NDArray[np.uint8], camera: Camera, figure: Figure, joints: Array) -> None:
    """Paint the figure into an image of the camera, far pieces first."""
    cv2 = import_cv2()
    ends, radii, colours = figure.pieces(joints)
    uv = camera.project(ends)
    # the size in the image: where a point one radius further along an image axis would appear
    R = camera.T_world_camera[:3, :3]
    grown = [camera.project(ends + radii[..., None] * R[:, a]) for a in (0, 1)]
    r_px = np.mean([np.linalg.norm(g - uv, axis=-1) for g in grown], axis=0)
    away = np.linalg.norm(ends - camera.center_world, axis=-1).mean(1)
    middle_world = ends.mean(1)
    up = camera.project(middle_world + np.array([0, 0, 0.01])) - camera.project(middle_world)
    up /= np.maximum(np.linalg.norm(up, axis=-1, keepdims=True), 1e-9)
    limit = 2 * max(image.shape[:2])
    usable = (
        np.isfinite(uv).all((1, 2)) & np.isfinite(r_px).all(1) & np.isfinite(up).all(1)
        & (away > 0.12) & (np.abs(uv).max((1, 2)) < limit) & (r_px.max(1) < limit)
    )  # fmt: skip
    scale = 1 << _SHIFT
    for i in np.argsort(-(away - radii.mean(1))):
        if not usable[i]:
            continue
        for size, lift, tone in _TONES if r_px[i].max() > 1.5 else _TONES[1:2]:
            colour = tuple(int(c) for c in colours[i] * tone)
            centres = uv[i] + up[i] * (lift * r_px[i])[:, None]
            r = np.maximum(size * r_px[i], 0.4)
            for c, rr in zip(centres, r):
                at = tuple(int(v) for v in np.round(c * scale))
                cv2.circle(image, at, max(int(rr * scale), 1), colour, -1, cv2.LINE_AA, _SHIFT)
            along = centres[1] - centres[0]
            length = np.hypot(*along)
            if length > 0.5:
                across = np.array([-along[1], along[0]]) / length
                quad = np.array(
                    [centres[0] + across * r[0], centres[1] + across * r[1], centres[1] - across * r[1],
                     centres[0] - across * r[0]]
                )  # fmt: skip
                cv2.fillConvexPoly(image, np.round(quad * scale).astype(np.int32), colour, cv2.LINE_AA, _SHIFT)


class Room:
    """A box with a tiled floor and papered walls, seen by rays."""

    def __init__(self, seed: int) -> None:
        """Choose the colours."""
        rng = np.random.default_rng(seed)
        self.floor = rng.uniform(105, 165, 3)
        self.walls = rng.uniform(150, 215, (4, 3))
        self.grain: Any = rng.normal(0, 3, (64, 64))

    def image(self, rays_camera: Array, camera: Camera) -> NDArray[np.uint8]:
        """(H, W, 3) of the rays (H, W, 3) of a camera frame; black where a ray is NaN."""
        d = rays_camera @ camera.T_world_camera[:3, :3].T
        p = camera.center_world
        lower, upper = np.array([-ROOM_M[0], -ROOM_M[1], 0.0]), np.array([ROOM_M[0], ROOM_M[1], ROOM_M[2]])
        with np.errstate(divide="ignore", invalid="ignore"):
            far = np.where(d > 0, (upper - p) / d, (lower - p) / d)
        far = np.where(np.isfinite(far), far, np.inf)
        face = far.argmin(-1)
        hit = p + d * far.min(-1)[..., None]
        hit = np.where(np.isfinite(hit), hit, 0.0)
        colour = np.empty((*face.shape, 3))
        ground = (face == 2) & (d[..., 2] < 0)
        colour[:] = (214, 214, 210)
        tile = (np.floor(hit[..., 0] / 0.5) + np.floor(hit[..., 1] / 0.5)) % 2
        colour[ground] = self.floor * (0.86 + 0.16 * tile[ground])[:, None]
        for axis in (0, 1):
            for sign in (0, 1):
                wall = (face == axis) & ((d[..., axis] > 0) == bool(sign))
                along = hit[..., 1 - axis][wall]
                stripe = 0.94 + 0.06 * (np.floor(along / 0.35) % 2) - 0.25 * (hit[..., 2][wall] < 0.12)
                colour[wall] = self.walls[2 * axis + sign] * stripe[:, None]
        cell = np.floor(hit * 23).astype(np.int64)
        colour += self.grain[(cell[..., 0] + 7 * cell[..., 2]) % 64, (cell[..., 1] + 3 * cell[..., 2]) % 64][..., None]
        colour[~np.isfinite(rays_camera).all(-1)] = 0
        return np.clip(colour, 0, 255).astype(np.uint8)


def _rays(camera: Camera) -> Array:
    w, h = camera.size
    return camera.unproject(np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float64))


def video_size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """Size of the video of a camera at a height; widths are even."""
    return (2 * round(size[0] * height / size[1] / 2), height)


def video_folder(take: Path, height: int, full: int) -> Path:
    """Where videos of a height lie: beside the others when it is the full one, else under ``downscaled``."""
    folder = take / "frame_aligned_videos"
    return folder if height == full else folder / "downscaled" / str(height)


def write_videos(take: Path, world: World, height: int) -> None:
    """Render the exo cameras and the head camera of a take; frame i of each video is frame i of the take."""
    room, figure = Room(world.seed), Figure(world.seed)
    joints = world.truth.xyz.astype(np.float64)
    for name, camera in world.cameras.items():
        seen = camera.scaled(video_size(camera.size, height))
        backdrop = room.image(_rays(seen), seen)
        with VideoWriter(video_folder(take, height, 2160) / f"{name}.mp4", FPS, crf=18) as video:
            for t in range(world.n_frames):
                image = backdrop.copy()
                draw_figure(image, seen, figure, joints[t])
                video.add(image)
    ego = video_camera(world.aria_rgb).scaled((height, height)).moved(np.eye(4))
    upright = ego.rotated90(-1)
    turn = upright.T_world_camera
    rays = _rays(upright)
    own = Figure(world.seed, head=False)
    with VideoWriter(video_folder(take, height, 1408) / "aria01_214-1.mp4", FPS, crf=18) as video:
        for t in range(world.n_frames):
            seen = upright.moved(world.T_world_aria[t] @ turn)
            image = room.image(rays, seen)
            draw_figure(image, seen, own, joints[t])
            image[~np.isfinite(rays).all(-1)] = 0
            video.add(image)
