"""From takes to predictions of either track, in the track's frame of reference."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from egopose.ego_exo4d.aria import upright_turn
from egopose.ego_exo4d.dataset import EgoExo4D
from egopose.ego_exo4d.layout import FPS, Kind
from egopose.ego_exo4d.submission import write_submission
from egopose.ego_exo4d.take import Take
from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.predict import Predictor

LANDSCAPE = "camera:aria"


def predict_take(predictor: Predictor, take: Take, track: Kind, **options: Any) -> PoseSequence:
    """Joints of a take from what its track allows.

    Args:
        predictor: The network.
        take: The take.
        track: "body": video and head poses, joints in the world. "hand": the video alone, joints in the landscape
            head camera; the network sees the upright one.
        options: Passed to :meth:`egopose.predict.Predictor.predict`.

    Returns:
        59 joints, frame numbers of the take.

    Raises:
        EgoposeError: Files are missing, or the network was not trained on what the track needs.
    """
    clip = take.clip(track)
    if track == "hand" and "images" not in predictor.trained:
        raise EgoposeError(
            f"{predictor.name}: was not trained on images, which are all that the hand track allows; give other weights"
        )
    if track == "body" and clip.trajectory is not None and options.get("space", "world") != "world":
        raise EgoposeError(f"space is {options['space']!r}; the body track wants the world")
    pose = predictor.predict(clip, **{**options, "space": "world" if track == "body" else "camera"})
    frames = np.round(pose.times_s * FPS).astype(np.int64)
    if track == "hand":
        pose = pose.transformed(upright_turn(), LANDSCAPE)
    origin = {**pose.provenance, "take_uid": take.uid, "take_name": f"takes/{take.name}", "track": track}
    return pose.replace(frames=frames, provenance=origin)


def predict_submission(
    data: EgoExo4D,
    takes: Sequence[Take],
    track: Kind,
    predictor: Predictor,
    out: str | os.PathLike[str],
    *,
    index: str | os.PathLike[str] | None = None,
    progress: Callable[[float, str], None] | None = None,
    **options: Any,
) -> dict[str, Any]:
    """Predict takes, write the submission of a track, check it, and pack it when nothing is wrong.

    Args:
        data: The dataset.
        takes: Takes to predict; with an index those that it asks for.
        track: "body" or "hand".
        predictor: The network.
        out: The zip; the JSON lies beside it.
        index: What is asked for (see ``egopose validate``); other frames are not written then.
        progress: Called with the share done and the take.
        options: See :func:`predict_take`.

    Raises:
        EgoposeError: The index asks for a take that is not there, or a take cannot be predicted.
    """
    wanted: dict[str, Any] = {}
    if index is not None:
        from egopose.commands.validate import read_index

        asked = read_index(index, track)
        takes = [data[uid] for uid in asked]
        wanted = {uid: expected.frames for uid, expected in asked.items()}
    if not takes:
        raise EgoposeError(f"{data.root}: no take to predict; give takes, a split, or an index that lists them")
    poses = {}
    for n, take in enumerate(takes):
        if progress is not None:
            progress(n / len(takes), take.name)
        pose = predict_take(predictor, take, track, **options)
        frames = wanted.get(take.uid)
        if frames is not None:
            absent = np.setdiff1d(frames, pose.frames)
            if absent.size:
                raise EgoposeError(
                    f"take {take.name}: {absent.size} of the frames asked for cannot be predicted, the first is "
                    f"{absent[0]}; the input spans frames {pose.frames[0]} to {pose.frames[-1]}"
                )
            pose = pose.select(frames=frames)
        poses[take.uid] = pose
    return {"takes": [take.name for take in takes], **write_submission(data, track, poses, out, index=index)}
