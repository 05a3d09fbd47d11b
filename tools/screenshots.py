"""Make the pictures of the pages, from what the package makes itself: ``python tools/screenshots.py`` (needs Chromium).

``--only NAME ...`` makes some of them: pages, report, overlay, plots.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import warnings
from pathlib import Path
from typing import Any

import numpy as np

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

import egopose
from egopose import Predictor
from egopose.demo import exo_capture
from egopose.ego_exo4d import EgoExo4D, make_standin
from egopose.errors import EgoposeWarning
from egopose.io.video import read_frames
from egopose.triangulate import TriangulateConfig, build_report, triangulate, triangulate_points, triangulate_take
from egopose.view.overlay import overlay_video
from egopose.view.plots import contact_sheet, save_png
from egopose.view.reprojection import reprojection_plot
from egopose.view.scene import save_scene_page
from egopose.view.triangulation_report import write_triangulation_report
from tests.browser import Browser, find_chromium

IMAGES = ROOT / "docs" / "images"
READY = "document.body?.dataset.ready === 'yes'"
# error bars of a millimetre are too small to see in a small picture
WIDER = "(() => { const s = document.getElementById('bars'); s.value = '3'; s.dispatchEvent(new Event('change')); })()"
GOOD, BAD, CALM = "#2a7f62", "#c8442d", "#8a8f98"


def _shot(page: Any, html: Path, name: str, size: tuple[int, int], *, phone: bool = False, frame: int = 20) -> None:
    page.screen(*size, phone=phone)
    page.open(html, fragment=f"#frame={frame}")
    page.wait_for(READY)
    page.run(WIDER)
    page.run("new Promise((done) => setTimeout(done, 300))")
    page.screenshot(IMAGES / name)


def page_pictures(page: Any, folder: Path) -> None:
    """The 3D page of the embedded capture, on a desk and on a phone, and of a prediction on the stand-in."""
    capture = exo_capture(seconds=4)
    scene = folder / "scene.html"
    pose = triangulate(capture.rig, capture.observations)
    title = "Embedded capture, triangulated"
    save_scene_page(scene, pose, against=capture.truth, rig=capture.rig, title=title)
    _shot(page, scene, "page.png", (1120, 700))
    _shot(page, scene, "page_phone.png", (390, 760), phone=True)
    save_png(contact_sheet(pose, against=capture.truth), IMAGES / "contact_sheet.png")

    make_standin(folder / "stand-in", takes=3)
    [take] = EgoExo4D(folder / "stand-in").select(split="test")
    body = Predictor.from_pretrained("nano").predict(take.clip("body")).to_skeleton(egopose.BODY17)
    truth = egopose.load(folder / "stand-in" / "truth" / f"{take.uid}.npz").to_skeleton(egopose.BODY17)
    save_scene_page(scene, body, against=truth, title=f"{take.name}: predicted from the head's path, and the truth")
    _shot(page, scene, "standin.png", (1120, 620), frame=60)


def report_picture(page: Any, folder: Path) -> None:
    """The report of a triangulation."""
    capture = exo_capture(seconds=4)
    report = folder / "report.html"
    write_triangulation_report(build_report(triangulate_take(capture.rig, capture.observations)), report)
    page.screen(1080, 760)
    page.open(report)
    page.screenshot(IMAGES / "report.png")


def overlay_picture(folder: Path) -> None:
    """A frame of the overlay video: joints triangulated from 2D annotations over a rendered exo video."""
    import cv2

    make_standin(folder / "filmed", takes=1, seconds=1.0, videos=True)
    [take] = EgoExo4D(folder / "filmed")
    rig = take.rig("undistorted")
    seen = {kind: take.joints_2d(kind, "automatic").select(views=rig.names) for kind in ("body", "hand")}
    poses = {kind: triangulate(rig, views).to_skeleton(egopose.BODY17_HANDS) for kind, views in seen.items()}
    frames = np.intersect1d(poses["body"].frames, poses["hand"].frames)
    body, hand = (poses[kind].select(frames=frames) for kind in ("body", "hand"))
    xyz = np.where(np.isfinite(body.xyz), body.xyz, hand.xyz)
    pose = egopose.PoseSequence(egopose.BODY17_HANDS, frames, body.times_s, xyz)
    overlay_video(folder / "overlay.mp4", take.video("cam01"), pose, rig=take.rig("raw"), camera="cam01")
    [frame] = read_frames(folder / "overlay.mp4", start=15, stop=16)
    cv2.imwrite(str(IMAGES / "overlay.jpg"), frame.image[..., ::-1], [cv2.IMWRITE_JPEG_QUALITY, 88])


def plot_pictures() -> None:
    """Plots of the guide to triangulation: one joint from above, error by frame, reprojection."""
    capture = exo_capture(seconds=4)
    IMAGES.mkdir(parents=True, exist_ok=True)
    save_png(_one_joint(capture), IMAGES / "one_joint.png")
    save_png(_by_frame(capture), IMAGES / "stages.png")
    take = triangulate_take(capture.rig, capture.observations)
    assert take.pose is not None
    save_png(reprojection_plot(take.pose, capture.rig, capture.observations), IMAGES / "reprojection.png")


def _one_joint(capture: Any) -> Any:
    """Four rays from above, one of them wrong, with and without a say in the answer."""
    from matplotlib.figure import Figure
    from matplotlib.patches import Ellipse

    joint, frame = egopose.BODY17_HANDS.index("left_wrist"), 40
    truth = capture.truth.xyz[frame, joint].astype(np.float64)
    cameras = capture.rig.cameras
    uv = capture.rig.project(truth[None])[:, 0] + np.random.default_rng(0).normal(size=(len(cameras), 2))
    uv[1, 0] += 160
    found = triangulate_points(cameras, uv[:, None], threshold=10.0)
    everyone = triangulate_points(cameras, uv[:, None], threshold=1e6)
    figure = Figure(figsize=(9, 4.2), layout="constrained")
    wide, near = figure.subplots(1, 2)
    for axes, reach in ((wide, None), (near, 0.12)):
        for camera, pixel, used in zip(cameras, uv, found.used[:, 0]):
            ray = camera.T_world_camera[:3, :3] @ camera.unproject(pixel[None])[0]
            ends = camera.center_world + np.outer([0, 9], ray)
            axes.plot(ends[:, 0], ends[:, 1], color=GOOD if used else BAD, lw=1.2, ls="-" if used else "--")
            axes.plot(*camera.center_world[:2], marker="s", color=CALM, ms=7)
            if reach is None:
                axes.annotate(camera.name, camera.center_world[:2], xytext=(6, 6), textcoords="offset points")
        axes.plot(*everyone.points[0, :2], marker="x", color=BAD, ms=9, mew=2, label="all four views")
        axes.plot(*found.points[0, :2], marker="o", color=GOOD, ms=6, label="views that agree")
        axes.plot(*truth[:2], marker="+", color="black", ms=11, label="truth")
        axes.set_aspect("equal")
        axes.set_xlabel("x, m")
    values, vectors = np.linalg.eigh(found.covariance[0, :2, :2])
    angle = np.degrees(np.arctan2(vectors[1, 1], vectors[0, 1]))
    size = 6 * np.sqrt(values[::-1])
    near.add_patch(Ellipse(found.points[0, :2], *size, angle=angle, fill=False, color=GOOD, label="3 sigma"))
    near.set_xlim(truth[0] - 0.12, truth[0] + 0.12)
    near.set_ylim(truth[1] - 0.12, truth[1] + 0.12)
    span = np.array([camera.center_world[:2] for camera in cameras])
    wide.set_xlim(span[:, 0].min() - 0.6, span[:, 0].max() + 0.6)
    wide.set_ylim(span[:, 1].min() - 0.6, span[:, 1].max() + 0.6)
    wide.set_ylabel("y, m")
    wide.set_title("a wrist from above; cam02 is 160 px off")
    near.set_title("the same, 24 cm wide")
    handles, labels = near.get_legend_handles_labels()
    wide.legend(handles, labels, loc="lower left", fontsize=8)
    return figure


def _by_frame(capture: Any) -> Any:
    """Mean error by frame, each frame alone and with every stage."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.2), layout="constrained")
    axes = figure.subplots()
    raw = TriangulateConfig(raw=True)
    for name, config, colour in (("--raw: every frame alone", raw, BAD), ("every stage", None, GOOD)):
        pose = triangulate(capture.rig, capture.observations, config)
        error = 1000 * np.linalg.norm(pose.xyz - capture.truth.xyz, axis=-1)
        known = np.isfinite(error).mean()
        axes.plot(pose.times_s, np.nanmean(error, axis=1), color=colour, label=f"{name}; {100 * known:.1f} % known")
    axes.set_yscale("log")
    axes.set_xlabel("s")
    axes.set_ylabel("mean error, mm")
    axes.legend(fontsize=8)
    return figure


def main() -> int:
    """Write the pictures; returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", nargs="+", choices=("pages", "report", "overlay", "plots"), default=None)
    wanted = parser.parse_args().only or ("pages", "report", "overlay", "plots")
    warnings.simplefilter("ignore", EgoposeWarning)
    IMAGES.mkdir(parents=True, exist_ok=True)
    program = find_chromium() if {"pages", "report"} & set(wanted) else None
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        if "plots" in wanted:
            plot_pictures()
        if "overlay" in wanted:
            overlay_picture(folder)
        if {"pages", "report"} & set(wanted):
            if program is None:
                print("no Chromium here (Debian: apt-get install chromium); its pictures stay", file=sys.stderr)
                return 1
            with Browser(program) as browser:
                if "pages" in wanted:
                    page_pictures(browser.page, folder)
                if "report" in wanted:
                    report_picture(browser.page, folder)
    for path in sorted(IMAGES.iterdir()):
        print(f"{path.relative_to(ROOT)}: {path.stat().st_size / 1000:.0f} kB")
    return 0


if __name__ == "__main__":
    sys.exit(main())
