"""Labels of takes in the layout of the automatic annotation, from exo videos or 2D joints, and how they agree."""

from __future__ import annotations

import json
import os
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.ego_exo4d.dataset import EgoExo4D
from egopose.ego_exo4d.layout import Kind, annotation_path
from egopose.ego_exo4d.take import Take
from egopose.errors import EgoposeError, EgoposeWarning
from egopose.files import atomic_write
from egopose.io.ego_exo4d_annotation import BODY_NAMES, HAND_NAMES
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.rig import Rig
from egopose.shard import Shard, run_shards
from egopose.skeleton import BODY17, HANDS42, Skeleton
from egopose.takes import locate
from egopose.triangulate.errorbars import common_errors, with_slow_errors


def skeleton_of(kind: str) -> Skeleton:
    """Joints of a kind of annotation.

    Raises:
        EgoposeError: Another kind.
    """
    if kind not in ("body", "hand"):
        raise EgoposeError(f"kind is {kind!r}; expected 'body' or 'hand'")
    return BODY17 if kind == "body" else HANDS42


def exo_observations(
    take: Take, kind: Kind, detector: str | None = None, *, workers: int | None = None
) -> tuple[Rig, Observations2D]:
    """The cameras and 2D joints that a take is labelled from.

    Args:
        take: A take.
        kind: "body" or "hand".
        detector: Name of a 2D detector that is run on the exo videos; None takes the shipped automatic 2D of the exo
            cameras.
        workers: Processes of the detector, one video each; 0 runs here.

    Raises:
        EgoposeError: Cameras, videos or annotation are missing.
    """
    if detector is None:
        rig = take.rig("undistorted")
        observations = take.joints_2d(kind, "automatic")
        views = [view for view in observations.views if view in rig]
        return rig, observations.select(views=views)
    from egopose.detect.run import detect_videos
    from egopose.io.video import probe

    raw = take.rig("raw")
    videos = {}
    for name in raw.names:
        try:
            videos[name] = take.video(name)
        except EgoposeError:
            continue
    if len(videos) < 2:
        raise EgoposeError(f"take {take.name}: {len(videos)} calibrated exo cameras have a video; two are needed")
    rig = Rig([raw[name].scaled(probe(path).size) for name, path in videos.items()])
    return rig, detect_videos(videos, detector, workers=workers).to_skeleton(skeleton_of(kind))


def annotation_document(pose: PoseSequence, n_views: NDArray[np.int64], rig: Rig) -> dict[str, Any]:
    """A document in the schema of the automatic annotation; its 2D are reprojections, as in the shipped ones.

    Args:
        pose: BODY17 or both hands, world.
        n_views: (T, J) views that each joint came from.
        rig: Undistorted cameras.
    """
    table = BODY_NAMES if pose.skeleton is BODY17 else HAND_NAMES
    back: dict[str, str] = {}
    for name, ours in table.items():
        back.setdefault(ours, name)
    names = [back[joint] for joint in pose.skeleton.joints]
    uv = {camera.name: camera.project(pose.xyz.astype(np.float64)) for camera in rig.cameras}
    seen = {camera.name: camera.in_image(uv[camera.name]) for camera in rig.cameras}
    document: dict[str, Any] = {}
    for t, frame in enumerate(pose.frames.tolist()):
        known = np.flatnonzero(pose.valid[t]).tolist()
        if not known:
            document[str(frame)] = []
            continue
        points = {
            names[j]: {
                **{axis: float(str(value)) for axis, value in zip("xyz", pose.xyz[t, j])},
                "num_views_for_3d": int(n_views[t, j]),
            }
            for j in known
        }
        pixels = {
            view: {
                names[j]: {"x": round(float(at[t, j, 0]), 4), "y": round(float(at[t, j, 1]), 4), "placement": "auto"}
                for j in known
                if seen[view][t, j]
            }
            for view, at in uv.items()
        }
        document[str(frame)] = [{"annotation3D": points, "annotation2D": pixels}]
    return document


def agreement(ours: PoseSequence, theirs: PoseSequence) -> dict[str, Any]:
    """Distances of two sequences of the same skeleton at the frames and joints that both know.

    Returns:
        ``joints`` compared, ``median_mm``, ``p90_mm``, and the shares ``only_ours`` and ``only_theirs`` of all joints
        that one of them knows at common frames.
    """
    place = locate(theirs.frames, ours.frames)
    mine, rows = np.flatnonzero(place >= 0), place[place >= 0]
    both = ours.valid[mine] & theirs.valid[rows]
    either = max(int((ours.valid[mine] | theirs.valid[rows]).sum()), 1)
    distance = np.linalg.norm(ours.xyz[mine].astype(np.float64) - theirs.xyz[rows], axis=-1)[both] * 1e3
    return {
        "frames": int(mine.size), "joints": int(both.sum()),
        "median_mm": float(np.median(distance)) if distance.size else None,
        "p90_mm": float(np.quantile(distance, 0.9)) if distance.size else None,
        "only_ours": float((ours.valid[mine] & ~theirs.valid[rows]).sum() / either),
        "only_theirs": float((~ours.valid[mine] & theirs.valid[rows]).sum() / either),
    }  # fmt: skip


def pose_path(kind: str, uid: str) -> str:
    """Where the labels of a take lie with verdicts and error bars, which the official layout has no room for."""
    return f"poses/{kind}/{uid}.npz"


def label_take(
    root: str, uid: str, kind: Kind, out: str, detector: str | None = None, cache: str | None = None
) -> dict[str, Any]:
    """Label one take: ``<out>/annotations/ego_pose/<split>/<kind>/automatic/<uid>.json`` and :func:`pose_path`.

    Returns:
        The file, joints, and the agreement with the shipped automatic labels where there are any.
    """
    from egopose.io import save
    from egopose.triangulate.take import triangulate_take

    take = EgoExo4D(root, cache=cache)[uid]
    # takes are already spread over processes
    rig, observations = exo_observations(take, kind, detector, workers=0)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", EgoposeWarning)
        solved = triangulate_take(rig, observations)
    assert solved.pose is not None
    pose = with_slow_errors(solved, common_errors(detector, solved.pose.skeleton.joints, kind))
    used = np.zeros(solved.pose.xyz.shape[:2], dtype=np.int64) if solved.used is None else solved.used.sum(0)
    path = Path(out) / annotation_path(take.split or "train", kind, "automatic", uid)
    with atomic_write(path, "w") as stream:
        json.dump(annotation_document(pose, used, take.rig("undistorted")), stream)
    save(pose, Path(out) / pose_path(kind, uid))
    result: dict[str, Any] = {
        "take_uid": uid, "take_name": take.name, "kind": kind, "path": str(path),
        "cameras": list(rig.names), "frames": pose.n_frames, "joints": int(pose.valid.sum()),
        "status": pose.status_counts(), "notes": list(solved.notes),
    }  # fmt: skip
    if take.annotated(kind, "automatic"):
        result["agreement"] = agreement(pose, take.joints_3d(kind, "automatic"))
    return result


def label(
    data: EgoExo4D,
    takes: Sequence[Take],
    kind: Kind,
    out: str | os.PathLike[str],
    *,
    detector: str | None = None,
    workers: int | None = None,
    executor: Executor | None = None,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Label takes, sharded over processes or a given executor; run again, it goes on where it stopped.

    Args:
        data: The dataset.
        takes: Some of its takes.
        kind: "body" or "hand".
        out: Root of the written layout; must not be the dataset itself, whose shipped labels would be replaced.
        detector: See :func:`exo_observations`.
        workers: Processes; 0 runs here.
        executor: Where to run instead, such as a Dask cluster.
        progress: Called with the share done and the take.

    Raises:
        EgoposeError: ``out`` is the dataset.
    """
    skeleton_of(kind)
    out = Path(out)
    if out.resolve() == data.root.resolve():
        raise EgoposeError(f"{out}: is the dataset itself; its shipped labels would be replaced, give another folder")
    shards = [
        Shard(
            take.name,
            {"root": str(data.root), "uid": take.uid, "kind": kind, "out": str(out), "detector": detector,
             "cache": str(data.cache)},
            inputs=tuple(str(p) for p in [data.index(kind, "automatic").files.get(take.uid)] if p is not None),
        )
        for take in takes
    ]  # fmt: skip
    manifest = out / f"labels-{kind}.json"
    outcomes = run_shards(label_take, shards, manifest=manifest, workers=workers, executor=executor, progress=progress)
    return {
        "takes": [outcome.result for outcome in outcomes if outcome.error is None],
        "failed": {outcome.shard.name: outcome.error for outcome in outcomes if outcome.error is not None},
    }
