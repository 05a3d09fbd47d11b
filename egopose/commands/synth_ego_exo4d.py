"""``egopose synth ego-exo4d``: the stand-in for the Ego-Exo4D dataset."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from egopose.commands.output import emit, progress_bar


def synth_ego_exo4d(
    out: tyro.conf.Positional[Path],
    *,
    takes: int = 3,
    seed: int = 0,
    seconds: float = 6.0,
    videos: bool = True,
    ego_only: bool = False,
    video_height: int = 448,
    json: bool = False,
) -> None:
    """Write a small complete stand-in for Ego-Exo4D in its own layout, with exact truth aside.

    Args:
        out: A new folder.
        takes: Number of takes; train, val and test in turn.
        seed: Everything follows from it.
        seconds: Length of a take.
        videos: Render the exo cameras and the head camera.
        ego_only: Render the head camera alone.
        video_height: Height of the videos.
        json: Print one JSON object.
    """
    from egopose.ego_exo4d.standin import make_standin

    which: bool | Literal["ego"] = "ego" if videos and ego_only else videos
    with progress_bar("stand-in", quiet=json) as progress:
        result = make_standin(
            out, takes=takes, seed=seed, seconds=seconds, videos=which, video_height=video_height, progress=progress
        )
    names = "\n".join(f"  {take['take_name']}  {take['split']}  {take['frames']} frames" for take in result["takes"])
    emit(result, f"{result['root']}: {takes} takes\n{names}\nexact truth in {out}/truth; see egopose info {out}", json)
