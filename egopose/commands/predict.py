"""``egopose predict``: an ego clip in, 3D joints of the wearer out."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any, Literal

import tyro

from egopose.camera import Camera
from egopose.commands.output import emit, progress_bar
from egopose.errors import EgoposeError
from egopose.rig import Rig
from egopose.trajectory import Trajectory


def load_camera(source: str, size: tuple[int, int]) -> Camera:
    """A camera from a file with one camera (or ``FILE:NAME``), or from a preset ``pinhole:DEGREES``.

    Args:
        source: What the user gave.
        size: Image (width, height) of the clip, for presets.

    Raises:
        EgoposeError: Neither, or the file holds several cameras and none was named.
    """
    kind, _, value = source.partition(":")
    if kind == "pinhole" and value:
        try:
            angle = float(value)
        except ValueError:
            angle = math.nan
        if not 10 <= angle <= 150:
            raise EgoposeError(f"--camera {source}: expected pinhole:DEGREES, the horizontal angle, 10 to 150")
        focal = size[0] / 2 / math.tan(math.radians(angle) / 2)
        return Camera.pinhole(focal, None, size, name="ego")
    path, _, name = source.rpartition(":") if not Path(source).exists() and ":" in source else (source, "", "")
    found = _load_calibration(path or source, size)
    if isinstance(found, Camera):
        return found
    if not isinstance(found, Rig):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected a camera")
    if name:
        return found[name]
    if len(found) != 1:
        raise EgoposeError(f"{path}: holds {len(found)} cameras; choose one with --camera {path}:NAME: {found.names}")
    return found.cameras[0]


def _load_calibration(path: str, size: tuple[int, int]) -> Any:
    """A calibration file; one that does not store the image size is that of the clip's images."""
    from egopose.io import load
    from egopose.io.registry import detect

    if "size" not in detect(path).options["read"]:
        return load(path)
    try:
        return load(path)
    except EgoposeError as error:
        if "size is not stored" not in str(error):
            raise
    return load(path, size=size)


def load_trajectory(path: Path) -> Trajectory:
    """Head poses from a file of any known format.

    Raises:
        EgoposeError: Unreadable, or no trajectory.
    """
    from egopose.io import load
    from egopose.io.registry import detect

    found = load(path)
    if isinstance(found, Rig) and detect(path).name == "ego-exo4d-camera-pose":
        # such a file holds both; the head's path is asked for by name
        found = load(path, part="trajectory")
    if not isinstance(found, Trajectory):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected head poses over time")
    return found


def predict(
    clip: tyro.conf.Positional[Path | None] = None,
    /,
    *,
    out: Path | None = None,
    camera: str | None = None,
    trajectory: Path | None = None,
    weights: str = "nano",
    device: str = "cpu",
    mode: str = "offline",
    space: Literal["world", "head", "camera"] | None = None,
    missing_poses: Literal["error", "nearest", "absent"] = "error",
    hands: str | None = None,
    smooth: bool = False,
    live: bool = False,
    port: int = 8080,
    cost: bool = False,
    json: bool = False,
) -> None:
    """Predict the wearer's 3D joints from a clip, from the head's path, or from both.

    Args:
        clip: The video of the head-worn camera; leave it out to use the head's path alone.
        out: Result; the format follows from the suffix.
        camera: File with the camera (FILE or FILE:NAME), or pinhole:DEGREES.
        trajectory: Head poses over time, any known format.
        weights: Weights that come with the package, or a .safetensors file.
        device: cpu, cuda, cuda:N or auto.
        mode: offline, causal, or the number of frames to look ahead.
        space: Frame of the result; by default world with a trajectory, else camera.
        missing_poses: What to do where the trajectory has a gap or ends early.
        hands: Another source of hands, merged in: mediapipe (the nets of "egopose weights fetch"), or a file of another
            network's hands (.npz or .json, for example of HaMeR or WiLoR).
        smooth: Smooth the joints over time, each as far as its error bar allows.
        live: Stream the recording at its own pace and show each pose as it comes, in a scene on this machine; --out is
            optional then.
        port: Port of the live scene.
        cost: Print what a streamed frame costs (parameters, operations, bytes, time, estimated energy) and stop.
        json: Print one JSON object.
    """
    if cost:
        from egopose.model.cost import measure
        from egopose.model.weights import from_pretrained

        found = measure(from_pretrained(weights).model())
        return emit(found.to_dict(), found.table(), json)
    if out is None and not live:
        raise EgoposeError("--out is missing; name the file for the result, for example --out pose.npz")
    from egopose.clip import Clip
    from egopose.io import save
    from egopose.predict import Predictor

    ahead: Any = int(mode) if mode.isdigit() else mode
    lens = None
    if clip is not None:
        from egopose.io.video import probe

        size = probe(clip).size
        lens = None if camera is None else load_camera(camera, size)
    elif camera is not None:
        raise EgoposeError("--camera was given without a clip; give the video, or leave the camera out")
    path = None if trajectory is None else load_trajectory(trajectory)
    recording = Clip(frames=clip, camera=lens, trajectory=path)
    predictor = Predictor.from_pretrained(weights, device=device)
    if live:
        from egopose.commands.predict_live import joined, lookahead_of, stream
        from egopose.view.live import live_stream

        if smooth or hands not in (None, "mediapipe"):
            raise EgoposeError("--live shows poses as they come; --smooth and files of hands need the whole clip")
        poses = stream(
            predictor, clip, lens, path, lookahead=lookahead_of(mode), space=space,
            hands="mediapipe" if hands else None,
        )  # fmt: skip
        pose = joined(live_stream(poses, port=port, paced=True))
        if out is not None:
            save(pose, out)
        text = f"{pose.n_frames} frames shown{'' if out is None else f' -> {out}'}"
        return emit({"out": None if out is None else str(out), "frames": pose.n_frames}, text, json)
    assert out is not None
    with progress_bar("predict") as progress:
        pose = predictor.predict(
            recording, mode=ahead, space=space, missing_poses=missing_poses, hands=hands, smooth=smooth,
            progress=progress,
        )  # fmt: skip
    save(pose, out)
    inputs = dict(pose.provenance)
    counts = {name: count for name, count in pose.status_counts().items() if count}
    used = [name for name, there in inputs.get("inputs", {}).items() if there]
    text = (
        f"{pose.n_frames} frames x {pose.n_joints} joints, {pose.space} frame -> {out}\n"
        f"joints: {', '.join(f'{name} {count}' for name, count in counts.items())}\n"
        f"weights {weights}, inputs used: {', '.join(used) or 'none'}"
    )
    emit({"out": str(out), "frames": pose.n_frames, "status": counts, "provenance": inputs}, text, json)
