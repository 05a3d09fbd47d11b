"""Videos of the stand-in: a clothed person in a textured room, through the true lenses."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.ego_exo4d.aria import video_camera
from egopose.ego_exo4d.layout import FPS
from egopose.ego_exo4d.standin_figure import Figure
from egopose.ego_exo4d.standin_world import World
from egopose.io.video import VideoWriter

Array = NDArray[np.float64]
ROOM_M = (4.6, 4.2, 2.9)
"""Half width, half depth and height of the room."""
_CEILING = np.array([214.0, 214.0, 210.0])


class Room:
    """A box with a tiled floor and papered walls, seen by rays."""

    def __init__(self, seed: int) -> None:
        """Choose the colours."""
        rng = np.random.default_rng(seed)
        self.floor = rng.uniform(105, 165, 3)
        self.walls = rng.uniform(150, 215, (4, 3))
        self.grain: Array = rng.normal(0, 3, (64, 64))

    def image(self, rays_camera: Array, camera: Camera) -> NDArray[np.uint8]:
        """(H, W, 3) of the rays (H, W, 3) of a camera frame; black where a ray is NaN."""
        from egopose.kernels.room import box_room

        out = np.empty(rays_camera.shape, dtype=np.uint8)
        box_room(rays_camera, camera.T_world_camera, *ROOM_M, self.floor, self.walls, _CEILING, self.grain, out)
        return out


def rays_of(camera: Camera) -> Array:
    """Rays (H, W, 3) of the pixels in the camera frame."""
    w, h = camera.size
    return camera.unproject(np.stack(np.meshgrid(np.arange(w), np.arange(h)), axis=-1).astype(np.float64))


def video_size(size: tuple[int, int], height: int) -> tuple[int, int]:
    """Size of the video of a camera at a height; widths are even."""
    return (2 * round(size[0] * height / size[1] / 2), height)


def video_folder(take: Path, height: int, full: int) -> Path:
    """Where videos of a height lie: beside the others when it is the full one, else under ``downscaled``."""
    folder = take / "frame_aligned_videos"
    return folder if height == full else folder / "downscaled" / str(height)


def write_videos(take: Path, world: World, height: int, *, exo: bool = True) -> None:
    """Render the exo cameras and the head camera of a take; frame i of each video is frame i of the take."""
    room, figure = Room(world.seed), Figure(world.body, world.seed)
    for name, camera in world.cameras.items() if exo else ():
        seen = camera.scaled(video_size(camera.size, height))
        backdrop = room.image(rays_of(seen), seen)
        with VideoWriter(video_folder(take, height, 2160) / f"{name}.mp4", FPS, crf=18) as video:
            for t in range(world.n_frames):
                image = backdrop.copy()
                figure.draw(image, seen, *world.pose(t))
                video.add(image)
    ego = video_camera(world.aria_rgb).scaled((height, height)).moved(np.eye(4))
    upright = ego.rotated90(-1)
    turn = upright.T_world_camera
    rays = rays_of(upright)
    with VideoWriter(video_folder(take, height, 1408) / "aria01_214-1.mp4", FPS, crf=18) as video:
        for t in range(world.n_frames):
            seen = upright.moved(world.T_world_aria[t] @ turn)
            image = room.image(rays, seen)
            figure.draw(image, seen, *world.pose(t), head=False)
            image[~np.isfinite(rays).all(-1)] = 0
            video.add(image)
