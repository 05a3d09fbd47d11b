"""Annotation files of the stand-in, with the defects that real ones have."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.ego_exo4d.aria import visible_mask
from egopose.ego_exo4d.cameras import official_undistorted
from egopose.ego_exo4d.standin_world import BAD, MISSING, World
from egopose.io.ego_exo4d_annotation import HAND_NAMES
from egopose.skeleton import BODY17, HAND21

DEFECTS = (
    "frame keys in no order",
    "frames whose list is empty",
    "frames whose annotation2D is empty",
    "frames whose annotation3D is empty",
    "joints that are absent",
    "coordinates that are a bare NaN",
    "joints seen by two cameras only",
    "hand joints far from their neighbours (automatic)",
)
_MANUAL_NOISE_M, _AUTO_NOISE_M, _CLICK_PX = 0.003, 0.008, 1.5


def _names(kind: str) -> tuple[list[str], list[str]]:
    """Our joints and the names in the file."""
    if kind == "body":
        return list(BODY17.joints), [joint.replace("_", "-") for joint in BODY17.joints]
    ours = [f"{side}_hand_{joint}" for side in ("right", "left") for joint in HAND21.joints]
    back = {name: key for key, name in HAND_NAMES.items()}
    return ours, [back[name] for name in ours]


def _views(world: World, kind: str) -> dict[str, Callable[[int], Camera]]:
    exo = {name: official_undistorted(camera) for name, camera in world.cameras.items() if name not in (BAD, MISSING)}
    views: dict[str, Callable[[int], Camera]] = {name: lambda t, c=c: c for name, c in exo.items()}  # type: ignore[misc]
    if kind == "hand":
        views["aria01"] = world.linear
    return views


def _seen(camera: Camera, points: NDArray[np.float64], ego: bool) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
    uv = camera.project(points)
    seen = camera.in_image(uv)
    if ego:
        pixel = np.clip(np.where(seen[:, None], uv, 0), 0, 511).astype(np.int64)
        seen &= visible_mask()[pixel[:, 1], pixel[:, 0]]
    return uv, seen


def annotation(world: World, kind: str, source: str, frames: NDArray[np.int64]) -> dict[str, Any]:
    """One annotation document.

    Args:
        world: The take.
        kind: "body" or "hand".
        source: "manual" or "automatic".
        frames: Frame numbers to annotate.
    """
    manual = source == "manual"
    tag = ["body", "hand"].index(kind) * 2 + int(manual)
    rng = np.random.default_rng([world.seed, world.start_row, tag])
    ours, names = _names(kind)
    points = world.truth.xyz[:, world.truth.skeleton.indices(ours)].astype(np.float64)
    views = _views(world, kind)
    document: dict[str, Any] = {}
    for frame in rng.permutation(frames).tolist():
        kind_of_frame = rng.random()
        if kind_of_frame < 0.02:
            document[str(frame)] = []
            continue
        noisy = points[frame] + rng.normal(0, _MANUAL_NOISE_M if manual else _AUTO_NOISE_M, points[frame].shape)
        if kind == "hand":
            # clicks on a hand agree better than that
            noisy = points[frame] + 0.4 * (noisy - points[frame])
            if not manual:
                wild = rng.random(len(names)) < 0.03
                noisy[wild] += rng.normal(0, 0.06, (int(wild.sum()), 3))
        absent = rng.random(len(names)) < 0.04
        bare = rng.random(len(names)) < 0.01
        n_views = rng.choice([2, 3, 4, 5], len(names), p=[0.06, 0.24, 0.4, 0.3])
        document[str(frame)] = [
            {
                "annotation3D": {} if kind_of_frame < 0.04 else {
                    names[j]: {
                        "x": float("nan") if bare[j] else round(float(noisy[j, 0]), 7),
                        "y": round(float(noisy[j, 1]), 7),
                        "z": round(float(noisy[j, 2]), 7),
                        "num_views_for_3d": int(n_views[j]),
                    }
                    for j in range(len(names)) if not absent[j]
                },
                "annotation2D": {} if 0.04 <= kind_of_frame < 0.06 else {
                    name: _clicks(view(frame), noisy, points[frame], names, name.startswith("aria"), manual, rng)
                    for name, view in views.items()
                },
            }
        ]  # fmt: skip
    return document


def _clicks(
    camera: Camera, noisy: NDArray[np.float64], exact: NDArray[np.float64], names: list[str], ego: bool, manual: bool,
    rng: np.random.Generator,
) -> dict[str, Any]:  # fmt: skip
    """2D of one view: clicked points near the truth, reprojections of the 3D for the rest."""
    clicked = (rng.random(len(names)) < 0.5) & manual
    uv, seen = _seen(camera, np.where(clicked[:, None], exact, noisy), ego)
    uv = uv + np.where(clicked[:, None], rng.normal(0, _CLICK_PX * (0.4 if ego else 1.0), uv.shape), 0.0)
    seen &= rng.random(len(names)) > 0.03
    return {
        names[j]: {
            "x": round(float(uv[j, 0]), 4),
            "y": round(float(uv[j, 1]), 4),
            "placement": "manual" if clicked[j] else "auto",
        }
        for j in np.flatnonzero(seen)
    }
