"""Takes with labels as clips that ``egopose train`` reads: the upright ego video, head poses, joints."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.camera import Camera
from egopose.ego_exo4d.dataset import EgoExo4D
from egopose.ego_exo4d.labels import pose_path
from egopose.ego_exo4d.layout import FPS, Kind, Source
from egopose.ego_exo4d.take import Take
from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17, BODY17_HANDS, HANDS42
from egopose.takes import locate

ANKLE_M = 0.095
"""Height of a standing ankle above the floor where COCO's annotators click it."""
MIN_VIEWS = 2


def labels_of(
    take: Take, kind: Kind, *, labels: str | os.PathLike[str] | None = None, source: Source = "automatic"
) -> PoseSequence | None:
    """3D joints of a take: from a folder that ``egopose label`` wrote, or the shipped ones; None where there are none.

    Args:
        take: The take.
        kind: "body" or "hand".
        labels: Folder of labels; None takes the shipped annotation.
        source: Which of the shipped ones.

    Raises:
        EgoposeError: A file is damaged.
    """
    if labels is None:
        return take.joints_3d(kind, source, min_views=MIN_VIEWS) if take.annotated(kind, source) else None
    path = Path(labels) / pose_path(kind, take.uid)
    if not path.is_file():
        return None
    from egopose.io import load

    pose = load(path)
    if not isinstance(pose, PoseSequence):
        raise EgoposeError(f"{path}: holds a {type(pose).__name__}; expected 3D joints, as egopose label writes them")
    return pose


def floor_height(body: PoseSequence) -> float:
    """Height of the floor in the take's world, whose origin is anywhere: below the lowest ankles.

    Raises:
        EgoposeError: No ankle is labelled.
    """
    z = body.to_skeleton(BODY17).xyz[:, BODY17.indices(["left_ankle", "right_ankle"]), 2]
    z = z[np.isfinite(z)]
    if not z.size:
        raise EgoposeError("no ankle is labelled; the height of the floor cannot be told")
    return float(np.percentile(z, 2)) - ANKLE_M


def clip_of(
    take: Take,
    *,
    labels: str | os.PathLike[str] | None = None,
    source: Source = "automatic",
    fps: float = 10.0,
    side: int = 288,
) -> dict[str, Any]:
    """One training clip.

    Args:
        take: A take with an ego video.
        labels: See :func:`labels_of`.
        source: See :func:`labels_of`.
        fps: Frames per second kept of the video's 30.
        side: Width and height of the images.

    Returns:
        ``images`` (T, side, side, 3) uint8 upright, ``times_s``, ``T_world_camera`` (T, 4, 4) with the floor at 0,
        ``joints_world`` (T, 59, 3) NaN without label, ``visible`` and ``in_view`` (T, 59) labelled and in the image,
        ``camera``, ``name``, ``subject`` (the capture, whose takes show one person).

    Raises:
        EgoposeError: No label, no video or calibration, or no common frame.
    """
    found = [labels_of(take, kind, labels=labels, source=source) for kind in ("body", "hand")]
    if found[0] is None:
        raise EgoposeError(f"take {take.name}: no body labels; make them with egopose label, or download them")
    step = max(1, round(FPS / fps))
    frames, T = take.head_poses(policy="skip")
    clip = take.clip("hand")
    if clip.camera is None:
        raise EgoposeError(f"take {take.name}: no online_calibration.jsonl; the lens of the video is not known")
    known = np.unique(np.concatenate([pose.frames[pose.valid.any(1)] for pose in found if pose is not None]))
    keep = (frames % step == 0) & (locate(known, frames) >= 0)
    frames, T = frames[keep], T[keep]
    if frames.size < 2:
        raise EgoposeError(f"take {take.name}: {frames.size} frames have a label and a head pose; two are needed")
    floor = np.array([0.0, 0.0, floor_height(found[0])])
    joints = np.full((frames.size, BODY17_HANDS.n_joints, 3), np.nan)
    for pose, skeleton in zip(found, (BODY17, HANDS42)):
        if pose is None:
            continue
        row = locate(pose.frames, frames)
        columns = BODY17_HANDS.indices(list(skeleton.joints))
        values = np.where(pose.valid[..., None], pose.xyz, np.nan).astype(np.float64)
        ours = pose.skeleton.map_to(skeleton)
        part = np.where((row >= 0)[:, None, None], values[np.maximum(row, 0)][:, ours], np.nan)
        joints[:, columns] = part
    from egopose.ego_exo4d.aria import upright_turn

    T = T @ upright_turn()
    camera = clip.camera.scaled((side, side)).moved(np.eye(4))
    seen = np.stack([camera.in_image(camera.moved(pose).project(points)) for pose, points in zip(T, joints)])
    seen &= np.isfinite(joints).all(-1)
    T = T.copy()
    T[:, :3, 3] -= floor
    images = _images(take, frames, camera)
    return {
        "images": images, "times_s": frames / FPS, "T_world_camera": T, "joints_world": joints - floor,
        "visible": seen, "in_view": seen, "shape": np.zeros(0), "camera": camera, "name": take.name,
        "subject": str(take.capture or take.name),
    }  # fmt: skip


def _images(take: Take, frames: NDArray[np.int64], camera: Camera) -> NDArray[np.uint8]:
    from egopose.errors import import_cv2
    from egopose.io.video import read_frames

    cv2 = import_cv2()
    path = take.video(take.aria_name)
    place = {int(frame): i for i, frame in enumerate(frames)}
    out = np.zeros((frames.size, camera.size[1], camera.size[0], 3), dtype=np.uint8)
    filled = 0
    for frame in read_frames(path):
        i = place.get(frame.index)
        if i is not None:
            out[i] = cv2.resize(frame.image, camera.size, interpolation=cv2.INTER_AREA)
            filled += 1
    if filled != frames.size:
        raise EgoposeError(f"{path}: {filled} of the {frames.size} labelled frames are in it; download it again")
    return out


def write_clips(
    data: EgoExo4D,
    takes: Sequence[Take],
    out: str | os.PathLike[str],
    *,
    labels: str | os.PathLike[str] | None = None,
    source: Source = "automatic",
    fps: float = 10.0,
    side: int = 288,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Write takes as a folder for ``rendered:`` of the training settings.

    Takes of the test split are refused. A clip that is there already is kept, so that a stopped run goes on.

    Args:
        data: The dataset.
        takes: Takes; those without labels, video or calibration are left out with a reason.
        out: The folder.
        labels: See :func:`labels_of`.
        source: See :func:`labels_of`.
        fps: See :func:`clip_of`.
        side: See :func:`clip_of`.
        progress: Called with the share done and the take.

    Returns:
        ``clips`` (take, frames, labelled joints, subject) and ``left_out`` (take to reason).

    Raises:
        EgoposeError: A take is of the test split, or none could be written.
    """
    from egopose.files import read_json
    from egopose.train.synthetic.dataset import write_clip

    folder = Path(out)
    test = [take.name for take in takes if take.split == "test"]
    if test:
        raise EgoposeError(f"take {test[0]} is of the test split; nothing is trained on it")
    folder.mkdir(parents=True, exist_ok=True)
    every = {take.uid: i for i, take in enumerate(data)}
    clips, left_out = [], {}
    for n, take in enumerate(takes):
        if progress is not None:
            progress(n / len(takes), take.name)
        target = folder / f"clip_{every[take.uid]:06d}"
        key = f"ego-exo4d {take.uid} {labels if labels is not None else source} {fps:g} {side}"
        if target.is_dir():
            about = read_json(target / "clip.json")
            if not isinstance(about, dict) or about.get("settings") != key:
                raise EgoposeError(f"{target}: is a clip of something else; choose another folder or remove it")
        else:
            try:
                made = clip_of(take, labels=labels, source=source, fps=fps, side=side)
            except EgoposeError as error:
                left_out[take.name] = str(error)
                continue
            write_clip(target, every[take.uid], made, key)
        clips.append({"take_name": take.name, "clip": target.name, "subject": str(take.capture or take.name)})
    if not clips:
        why = "; ".join(left_out.values()) or "no take was given"
        raise EgoposeError(f"{folder}: no clip could be written: {why}")
    return {"out": str(folder), "clips": clips, "left_out": left_out}
