"""Predictions to a checked, packed submission of either track."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from egopose.ego_exo4d.dataset import EgoExo4D
from egopose.ego_exo4d.handgt import COLUMNS
from egopose.ego_exo4d.layout import Kind
from egopose.errors import EgoposeError
from egopose.io.ego_exo4d_submission import write_body, write_hand
from egopose.pose import PoseSequence
from egopose.rigid import invert
from egopose.skeleton import BODY17, HANDS42

WHERE = {
    "body": "CodaBench, competition 15376 (body track)",
    "hand": "the hand track has no open server in 2026; score it with egopose evaluate hand",
}


def to_track(data: EgoExo4D, kind: Kind, pose: PoseSequence, uid: str) -> PoseSequence:
    """A prediction in the joints and the frame of reference of a track.

    Args:
        data: The dataset; gives the head poses that bring hands from the world into the landscape camera.
        kind: "body" or "hand".
        pose: Body in the world; hands in the world or a camera's frame.
        uid: Take uid.

    Raises:
        EgoposeError: Another space, or no head poses at the frames.
    """
    take = data[uid]
    origin = {**pose.provenance, "take_uid": take.uid, "take_name": f"takes/{take.name}"}
    if kind == "body":
        if pose.space != "world":
            raise EgoposeError(f"take {take.name}: the body is in {pose.space!r}; the body track wants the world")
        return pose.to_skeleton(BODY17).replace(provenance=origin)
    hands = pose.to_skeleton(HANDS42)
    if hands.space == "world":
        _, T = take.head_poses(hands.frames, policy="interpolate")
        hands = hands.transformed(invert(T), "camera:aria")
    elif not hands.space.startswith("camera:"):
        raise EgoposeError(f"take {take.name}: the hands are in {hands.space!r}; the hand track wants the head camera")
    # a hand is whole or absent
    valid = hands.valid.copy()
    for columns in COLUMNS:
        valid[:, columns] &= valid[:, columns].all(1, keepdims=True)
    xyz = np.where(valid[..., None], hands.xyz, np.float32(np.nan))
    return PoseSequence(HANDS42, hands.frames, hands.times_s, xyz, space=hands.space, provenance=origin)


def write_submission(
    data: EgoExo4D,
    kind: Kind,
    poses: Mapping[str, PoseSequence],
    out: str | os.PathLike[str],
    *,
    index: str | os.PathLike[str] | None = None,
) -> dict[str, Any]:
    """Write, validate and zip a submission.

    Args:
        data: The dataset.
        kind: "body" or "hand".
        poses: Take uid or name to prediction; every frame that is asked for.
        out: The zip; the JSON file lies beside it under the same name.
        index: What is asked for (see ``egopose validate``); None checks the file alone.

    Returns:
        ``json``, ``zip`` (None when it would be refused), ``report`` and ``where`` to send it.

    Raises:
        EgoposeError: A prediction is in another frame of reference, or lacks joints.
    """
    from egopose.commands.validate import pack, run_validate

    if kind not in ("body", "hand"):
        raise EgoposeError(f"kind is {kind!r}; expected 'body' or 'hand'")
    out = Path(out)
    if out.suffix != ".zip":
        raise EgoposeError(f"{out}: a submission is a zip file; give a name that ends in .zip")
    ready = {data[key].uid: to_track(data, kind, pose, data[key].uid) for key, pose in poses.items()}
    path = out.with_suffix(".json")
    (write_body if kind == "body" else write_hand)(ready, path)
    report = run_validate(kind, path, index)
    if report.ok:
        pack(path, out)
    return {
        "json": str(path), "zip": str(out) if report.ok else None, "report": report.to_dict(), "where": WHERE[kind],
    }  # fmt: skip
