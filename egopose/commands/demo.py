"""``egopose demo``: the three jobs on embedded captures with known truth."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from egopose.commands.output import emit, progress_bar
from egopose.commands.pose_scores import run_evaluate_pose
from egopose.commands.triangulate import run_triangulate
from egopose.errors import EgoposeError


def demo(*, out: Path = Path("demo-out"), seconds: float = 6.0, seed: int = 0, json: bool = False) -> None:
    """Run the jobs on embedded captures: predict from a head-worn camera, triangulate four exo cameras, score both
    against the exact truth, and write pages to look at.

    Args:
        out: Folder for everything that is written.
        seconds: Length of the exo capture.
        seed: Another one gives another capture.
        json: Print one JSON object.
    """
    if not 1.0 <= seconds <= 600.0:
        raise EgoposeError(f"--seconds is {seconds:g}; expected 1 to 600")
    start = time.perf_counter()
    with progress_bar("demo") as progress:
        tell = progress or (lambda share, what: None)
        tell(0.0, "predict")
        ego = run_ego(out / "ego", seed)
        tell(0.5, "triangulate")
        exo = run_exo(out / "exo", seconds, seed)
    spent = time.perf_counter() - start
    lines = [
        f"predict     {ego['what']}",
        f"            body error {_mm(ego['scores'])} against the exact truth -> {ego['page']}",
        f"triangulate {exo['what']}",
        *[f"              {defect}" for defect in exo["defects"]],
        f"            joint error {_mm(exo['scores'])}, {100 * exo['known']:.1f} % of joints known -> {exo['page']}",
        *[f"              note: {note}" for note in exo["notes"]],
        f"report      {exo['report']}",
        f"done in {spent:.0f} s; open the pages in a browser, the files beside them are for egopose view and evaluate",
    ]
    emit({"seconds": spent, "ego": ego, "exo": exo}, "\n".join(lines), json)


def _mm(scores: dict[str, Any]) -> str:
    return f"{scores['metrics']['mpjpe_mm']:.1f} mm"


def run_exo(folder: Path, seconds: float, seed: int) -> dict[str, Any]:
    """Write the exo capture, triangulate it, score it, look at it."""
    from egopose.demo import exo_capture
    from egopose.io import save
    from egopose.view.plots import save_plots
    from egopose.view.scene import save_scene_page
    from egopose.view.triangulation_report import write_triangulation_report

    capture = exo_capture(seconds=seconds, seed=seed)
    save(capture.rig, folder / "rig.toml")
    save(capture.observations, folder / "keypoints.csv")
    save(capture.truth, folder / "truth.npz")
    take, report = run_triangulate(capture.rig, capture.observations)
    pose = take.pose
    assert pose is not None
    save(pose, folder / "joints.npz")
    scores = run_evaluate_pose(folder / "joints.npz", folder / "truth.npz")
    page = folder / "scene.html"
    save_scene_page(
        page, pose, against=capture.truth, rig=capture.rig, title="Triangulated from four cameras",
        names=("triangulated", "truth"),
    )  # fmt: skip
    write_triangulation_report(report, folder / "report.html", folder / "report.json", viewer="scene.html")
    save_plots(folder / "plots", pose, against=capture.truth, rig=capture.rig, observations=take.observations)
    return {
        "what": f"{len(capture.rig)} cameras, {pose.n_frames} frames, {pose.n_joints} joints, with these defects:",
        "defects": list(capture.defects),
        "notes": report["notes"],
        "known": float(pose.valid.mean()),
        "scores": scores,
        "page": str(page),
        "report": str(folder / "report.html"),
    }


def run_ego(folder: Path, seed: int) -> dict[str, Any]:
    """Render the ego clip, predict its wearer, score the prediction, look at it."""
    from egopose import Clip, Predictor
    from egopose.io import load, save
    from egopose.skeleton import BODY17
    from egopose.train.synthetic.demo_clip import demo_clip
    from egopose.view.clip_video import embed_clip
    from egopose.view.scene import save_scene_page

    files = demo_clip(folder, seed=seed)
    rig, trajectory, truth = load(files.camera), load(files.trajectory), load(files.truth)
    predictor = Predictor.from_pretrained("nano", device="cpu")
    pose = predictor.predict(Clip(frames=files.video, camera=rig.cameras[0], trajectory=trajectory))
    save(pose, folder / "joints.npz")
    scores = run_evaluate_pose(folder / "joints.npz", files.truth, joints=BODY17.joints)
    page = folder / "scene.html"
    save_scene_page(
        page, pose, against=truth, trajectory=trajectory, title="Predicted from a head-worn camera",
        names=("predicted", "truth"), clip=embed_clip(files.video, pose.times_s),
    )  # fmt: skip
    used = (
        "images and the head's path" if "images" in predictor.trained else "the head's path (its images are not read)"
    )
    return {
        "what": f"{pose.n_frames} rendered frames; weights nano use {used}",
        "scores": scores,
        "page": str(page),
    }
