"""``egopose view``: a 3D page, plots, an overlay video or a live scene of any result."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import tyro

from egopose.commands.output import Progress, emit, progress_bar
from egopose.errors import EgoposeError
from egopose.io import load
from egopose.observations import Observations2D
from egopose.pose import PoseSequence
from egopose.rig import Rig
from egopose.trajectory import Trajectory
from egopose.view.upright import Up


def load_pose(path: Path, take: str | None = None) -> PoseSequence:
    """3D joints from any file that holds some; ``take`` picks one of several.

    Raises:
        EgoposeError: Not joints, several takes and none picked, or no such take.
    """
    found = load(path)
    if isinstance(found, Mapping):
        if take is None and len(found) == 1:
            take = next(iter(found))
        if take is not None and take not in found:
            named = [uid for uid, pose in found.items() if pose.provenance.get("take_name") == take]
            take = named[0] if len(named) == 1 else take
        if take is None or take not in found:
            some = ", ".join(list(found)[:5]) + (" ..." if len(found) > 5 else "")
            what = "several takes" if take is None else f"no take {take!r}"
            raise EgoposeError(f"{path}: holds {what}; choose one with --take: {some}")
        found = found[take]
    return _expect(found, PoseSequence, path, "3D joints")


def _expect(found: Any, kind: type, path: Path, what: str) -> Any:
    if not isinstance(found, kind):
        raise EgoposeError(f"{path}: holds a {type(found).__name__}; expected {what} (a {kind.__name__})")
    return found


def run_view(
    file: Path,
    against: Path | None = None,
    html: Path | None = None,
    png: Path | None = None,
    video: Path | None = None,
    rig: Path | None = None,
    *,
    other: Path | None = None,
    rerun: Path | None = None,
    keypoints: Path | None = None,
    trajectory: Path | None = None,
    clip: Path | None = None,
    camera: str | None = None,
    take: str | None = None,
    title: str | None = None,
    up: Up = "auto",
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Make what was asked for; a 3D page beside the file when nothing was.

    Args:
        file: 3D joints of any known format.
        against: Other joints to compare with, such as ground truth.
        html: The 3D page to write.
        png: A contact sheet (a name ending in .png) or a folder for all plots.
        video: The overlay video to write; needs ``clip`` and a camera.
        rig: Cameras of the recording.
        other: Another run to compare with the first, on the 3D page.
        rerun: The rerun recording to write.
        keypoints: 2D joints that the cameras saw, for the reprojection plot.
        trajectory: Head poses of the wearer.
        clip: The recording, for the overlay video and to play inside the page.
        camera: Which camera of the rig took the clip, when it has several.
        take: Which take, when a file holds several.
        title: Heading; the file's name by default.
        up: The axis of the file that points up; found from the body when "auto".
        progress: Called with the share done and what is going on.

    Returns:
        ``html``, ``png``, ``video`` and ``rerun``: what was written, and ``frames``.

    Raises:
        EgoposeError: The input was refused, or something asked for needs an input that is not there.
    """
    pose = load_pose(file, take)
    truth = None if against is None else load_pose(against, take)
    rival = None if other is None else load_pose(other, take)
    the_rig = None if rig is None else _expect(load(rig), Rig, rig, "cameras")
    path = None if trajectory is None else _expect(load(trajectory), Trajectory, trajectory, "head poses")
    seen = None if keypoints is None else _expect(load(keypoints), Observations2D, keypoints, "2D joints")
    what = file.name if other is None else f"{file.name} and {other.name}"
    title = title or (what if against is None else f"{what} against {against.name}")
    if video is not None and clip is None:
        raise EgoposeError("view: an overlay video needs the recording; give --clip FILE")
    if seen is not None and the_rig is None:
        raise EgoposeError("view: 2D joints need the cameras that saw them; give --rig FILE")
    if rerun is not None and rival is not None:
        raise EgoposeError("view: a rerun recording holds one run and a reference; give the other one with --against")
    if html is None and png is None and video is None and rerun is None:
        html = file.with_suffix(".html") if file.is_file() else file.parent / f"{file.name}.html"
    if video is not None and clip is not None:
        from egopose.io.video import probe
        from egopose.view.overlay import choose_camera, own_camera

        # refused before anything is written
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            choose_camera(the_rig, own_camera(pose, the_rig, camera), probe(clip).size, str(clip))
    result: dict[str, Any] = {"file": str(file), "frames": pose.n_frames}
    if html is not None:
        from egopose.view.clip_video import embed_clip
        from egopose.view.scene import save_scene_page

        embedded = None if clip is None else embed_clip(clip, pose.times_s, progress=progress)
        page = save_scene_page(
            html, pose, against=truth, rival=rival, rig=the_rig, trajectory=path, title=title, clip=embedded, up=up,
            names=_names(file, against, other),
        )  # fmt: skip
        result["html"] = {"path": str(html), **page}
    if png is not None:
        from egopose.view.plots import save_plots

        files = save_plots(png, pose, against=truth or rival, rig=the_rig, observations=seen, title=title, up=up)
        result["png"] = [str(each) for each in files]
    if video is not None and clip is not None:
        from egopose.view.overlay import overlay_video

        written = overlay_video(
            video, clip, pose, rig=the_rig, camera=camera, trajectory=path, against=truth or rival, progress=progress
        )
        result["video"] = {"path": str(video), **written}
    if rerun is not None:
        from egopose.view.rerun_export import save_rerun

        saved = save_rerun(rerun, pose, against=truth, rig=the_rig, trajectory=path, title=title)
        result["rerun"] = {"path": str(rerun), **saved}
    return result


def _names(file: Path, against: Path | None, other: Path | None) -> tuple[str, ...]:
    """What the page calls the sequences: by their files when there are two runs, which may be called alike."""
    if other is None:
        return ("prediction", "reference")
    same = file.name == other.name
    first, second = (f"{p.parent.name}/{p.name}" if same and p.parent.name else p.name for p in (file, other))
    return (first, "reference" if against is None else against.name, second)


def view(
    file: tyro.conf.Positional[Path],
    other: Annotated[tyro.conf.Positional[Path | None], tyro.conf.arg(metavar="OTHER")] = None,
    *,
    against: Path | None = None,
    html: Path | None = None,
    png: Path | None = None,
    video: Path | None = None,
    rerun: Path | None = None,
    rig: Path | None = None,
    keypoints: Path | None = None,
    trajectory: Path | None = None,
    clip: Path | None = None,
    camera: str | None = None,
    take: str | None = None,
    title: str | None = None,
    up: Up = "auto",
    live: bool = False,
    port: int = 8080,
    json: bool = False,
) -> None:
    """Look at a result: a 3D page, plots, an overlay video or a live scene.

    Args:
        file: 3D joints of any known format.
        other: Another run to compare with the first, side by side or in one place.
        against: Joints that one or both are measured by, such as ground truth.
        html: Write the 3D page here (beside the file when nothing else is asked for).
        png: Write plots: a contact sheet to a name ending in .png, all plots to a folder.
        video: Write the recording with the joints drawn over it; needs --clip, and --rig or --trajectory.
        rerun: Write a recording for rerun's viewer (.rrd).
        rig: Cameras of the recording.
        keypoints: 2D joints that the cameras saw, for the reprojection plot.
        trajectory: Head poses of the wearer.
        clip: The recording, for --video and to play inside the page.
        camera: Which camera of the rig took the clip.
        take: Which take, when a file holds several.
        title: Heading; the file's name by default.
        up: The axis of the file that points up.
        live: Serve an interactive scene on this machine until interrupted.
        port: Port of the live scene.
        json: Print one JSON object.
    """
    if live:
        from egopose.view.live import live as serve

        pose = load_pose(file, take)
        cameras = None if rig is None else _expect(load(rig), Rig, rig, "cameras")
        compared = against or other
        serve(pose, cameras, against=None if compared is None else load_pose(compared, take), port=port)
        return
    with progress_bar("view", quiet=json) as progress:
        result = run_view(
            file, against, html, png, video, rig, other=other, rerun=rerun, keypoints=keypoints,
            trajectory=trajectory, clip=clip, camera=camera, take=take, title=title, up=up, progress=progress,
        )  # fmt: skip
    lines = []
    if "html" in result:
        page = result["html"]
        lines.append(
            f"{page['path']}: 3D page, {page['frames']} frames, {page['bytes'] / 1e6:.1f} MB; open in a browser"
        )
    lines += [f"{name}: plot" for name in result.get("png", [])]
    if "video" in result:
        made = result["video"]
        lines.append(f"{made['path']}: overlay video, {made['frames']} frames")
    if "rerun" in result:
        saved = result["rerun"]
        lines.append(f"{saved['path']}: rerun recording, {saved['frames']} frames; open with: rerun {saved['path']}")
    emit(result, "\n".join(lines), json)
