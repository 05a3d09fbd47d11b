"""A sheet of rendered frames with their joints, for a person to look at."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.errors import EgoposeError
from egopose.files import atomic_path
from egopose.skeleton import BODY17, BODY17_HANDS
from egopose.train.rendered import RenderedClip

SEEN, HIDDEN, UNKNOWN = (60, 220, 60), (230, 60, 60), (200, 80, 220)
"""Colours (RGB) of joints that are seen, hidden, or of unknown visibility."""


def labelled_frame(clip: RenderedClip, t: int, scale: int = 1) -> NDArray[np.uint8]:
    """One frame with its joints and bones, (scale H, scale W, 3) RGB."""
    import cv2

    image = cv2.resize(np.array(clip.images[t]), None, fx=scale, fy=scale, interpolation=cv2.INTER_LINEAR)
    points = rigid.transform_points(rigid.invert(clip.T_world_camera[t]), clip.joints[t])
    uv = (clip.camera.project(points, frame="camera") + 0.5) * scale - 0.5
    shown = np.isfinite(uv).all(axis=1) & (np.abs(uv) < 4 * max(image.shape)).all(axis=1)
    at = [(int(x), int(y)) for x, y in np.round(np.where(shown[:, None], uv, 0))]
    for a, b in BODY17_HANDS.bones:
        if shown[a] and shown[b]:
            colour = (250, 220, 60) if a < BODY17.n_joints else (70, 200, 250)
            cv2.line(image, at[a], at[b], colour, 1, cv2.LINE_AA)
    for j in range(len(at)):
        if shown[j]:
            state = int(clip.visible[t, j])
            colour = SEEN if state == 1 else HIDDEN if state == 0 else UNKNOWN
            cv2.circle(image, at[j], scale + 1, colour, -1, cv2.LINE_AA)
    return np.asarray(image, dtype=np.uint8)


def contact_sheet(
    clips: list[RenderedClip], path: str | os.PathLike[str], *, rows: int = 6, columns: int = 4, scale: int = 1
) -> Path:
    """Write a sheet as PNG: a row per clip, frames spread over its length, every other one with its labels.

    Args:
        clips: Clips, of which the first rows are taken.
        path: PNG file.
        rows: Clips on the sheet, at most.
        columns: Frames per clip.
        scale: Enlargement, a whole number.

    Returns:
        The path.

    Raises:
        EgoposeError: There is no clip, or the file cannot be written.
    """
    import cv2

    if not clips or rows < 1 or columns < 1 or scale < 1:
        raise EgoposeError(f"contact sheet: {len(clips)} clips, {rows} rows, {columns} columns, scale {scale}")
    if Path(path).suffix.lower() != ".png":
        raise EgoposeError(f"{path}: a contact sheet is a PNG; end the name in .png")
    lines = []
    for clip in clips[:rows]:
        steps = np.linspace(0, len(clip) - 1, columns).round().astype(int)
        plain = [np.kron(clip.images[t], np.ones((scale, scale, 1), np.uint8)) for t in steps[::2]]
        marked = [labelled_frame(clip, int(t), scale) for t in steps[1::2]]
        tiles = [marked[i // 2] if i % 2 else plain[i // 2] for i in range(columns)]
        lines.append(np.concatenate(tiles, axis=1))
    width = max(line.shape[1] for line in lines)
    sheet = np.concatenate([np.pad(line, ((0, 2), (0, width - line.shape[1]), (0, 0))) for line in lines])
    with atomic_path(path) as temporary:
        if not cv2.imwrite(str(temporary), np.ascontiguousarray(sheet[..., ::-1])):
            raise EgoposeError(f"{path}: cannot be written; check space and rights")
    return Path(path)
