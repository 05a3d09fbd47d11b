"""Decoys: what the hand finder takes for hands in clips to train on, so that a look at it learns to say no.

A random place in a room is seldom taken for a hand; a table's edge at the rim of the image or a foot is, and prediction
looks at nothing but such places (hard negatives; Sung and Poggio, 1998).
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_write
from egopose.model.network import EgoPoseNet
from egopose.model.rays import crop_shows
from egopose.model.track import heat_peaks
from egopose.npz import read_npz
from egopose.train.frames import looked_at
from egopose.train.rendered import RenderedClip, hand_centres

Array = NDArray[np.float64]

LEAST, MOST = 0.1, 3
"""Least probability of a decoy, and how many of a frame count for each hand: as prediction looks at them."""


def find_decoys(model: EgoPoseNet, clips: Sequence[RenderedClip], *, every: int = 2, batch: int = 32) -> Array:
    """Places where the network's finder sees a hand and that hand is not; the other one may be.

    Args:
        model: The network.
        clips: Clips to train on.
        every: Look at every so many frames.
        batch: Frames at once.

    Returns:
        (N, 6) float64: number of the clip and of its frame, 0 for a left and 1 for a right hand, and the place in
        camera axes, metres.
    """
    rows: list[list[float]] = []
    numbers = {id(clip): i for i, clip in enumerate(clips)}
    for frames in looked_at(model, clips, every, batch):
        centres = hand_centres(frames.joints)
        for i, maps in enumerate(frames.heat.cpu().numpy()):
            found = heat_peaks(maps, frames.reader.camera, frames.reader.fit, most=MOST)
            for hand, peaks in enumerate(found):
                for probability, place in peaks:
                    centre = centres[i, hand]
                    # where a hand without a label is nobody knows
                    elsewhere = np.isfinite(centre).all() and not crop_shows(place, centre)
                    if probability >= LEAST and frames.reader.in_reach(place) and elsewhere:
                        rows.append([numbers[id(frames.clip)], frames.at[i], hand, *place])
    return np.array(rows).reshape(-1, 6)


def save_decoys(path: str | os.PathLike[str], clips: Sequence[RenderedClip], decoys: Array) -> None:
    """Write what :func:`find_decoys` gave, with the names of its clips.

    Raises:
        EgoposeError: Two clips have the same name, so that a reader could not tell them apart.
    """
    if len({clip.name for clip in clips}) < len(clips):
        raise EgoposeError(f"{path}: some clips have the same name; find the decoys of each folder by itself")
    with atomic_write(Path(path), "wb") as stream:
        np.savez_compressed(stream, names=np.array([clip.name for clip in clips]), decoys=decoys.astype(np.float32))


def with_decoys(clips: Sequence[RenderedClip], path: str | os.PathLike[str]) -> list[RenderedClip]:
    """The clips with the decoys that a file has for them.

    Args:
        clips: Clips to train on, in any order.
        path: What :func:`save_decoys` wrote.

    Raises:
        EgoposeError: The file cannot be read, or knows none of the clips.
    """
    data = read_npz(Path(path), ("names", "decoys"), what="decoys of the hand finder")
    table = data["decoys"].astype(np.float64)
    if table.ndim != 2 or table.shape[1] != 6 or not np.isfinite(table).all():
        raise EgoposeError(
            f"{path}: decoys have shape {table.shape} or are not finite; expected (N, 6); find them anew"
        )
    known = {str(name): i for i, name in enumerate(data["names"])}
    if not any(clip.name in known for clip in clips):
        raise EgoposeError(f"{path}: holds decoys of {len(known)} clips, none of which is trained on; find them anew")
    return [replace(clip, decoys=table[table[:, 0] == known.get(clip.name, -1), 1:]) for clip in clips]
