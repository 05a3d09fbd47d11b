"""Plots: written whole, of the data they name, never a broken picture for odd input."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from egopose.demo import exo_capture
from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.skeleton import BODY17, HAND21
from egopose.view.figures import SIDE_COLOURS, save_png
from egopose.view.plots import by_joint, contact_sheet, flat_view, joint_curves, save_plots, status_timeline
from egopose.view.reprojection import reprojection_errors, reprojection_plot
from egopose.view.upright import upright
from tests.view_samples import hostile_skeleton, pair

pytest.importorskip("matplotlib")


def test_a_folder_gets_every_plot_and_a_name_the_contact_sheet(tmp_path: Path) -> None:
    from matplotlib import image

    capture = exo_capture(seconds=2)
    pose, truth = pair(60, first=0)
    files = save_plots(
        tmp_path / "plots", pose, against=truth, rig=capture.rig, observations=capture.observations, title="Walk $x$"
    )
    assert {f.name for f in files} == {
        "contact_sheet.png", "joint_curves.png", "status.png", "reprojection.png", "by_joint.png",
    }  # fmt: skip
    for file in files:
        pixels = image.imread(file)
        assert min(pixels.shape[:2]) > 200
        assert pixels[..., :3].std() > 0.02
    assert save_plots(tmp_path / "one.png", pose) == [tmp_path / "one.png"]
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.png", "plots"]


def test_the_contact_sheet_shows_evenly_spaced_frames_with_all_known_bones() -> None:
    pose, _ = pair(61)
    figure = contact_sheet(pose, count=7)
    titles = [axes.get_title() for axes in figure.axes if axes.get_title()]
    assert [t.split(",")[0] for t in titles] == [f"frame {100 + k}" for k in range(0, 61, 10)]
    first = figure.axes[0]
    known = pose.valid[0]
    bones = [b for b in pose.skeleton.bones if known[list(b)].all()]
    segments = first.collections[0].get_segments()
    assert len(segments) == len(bones)
    assert np.allclose(segments, flat_view(pose.xyz[0], "world")[np.array(bones)])


def test_the_flat_view_keeps_up_upright_and_distances_honest() -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(50, 3))
    uv = flat_view(points, "world")
    higher = flat_view(points + np.array([0, 0, 1]), "world") - uv
    assert np.allclose(higher[:, 0], 0)
    assert (higher[:, 1] > 0.9).all()
    # an orthographic picture never stretches
    assert (
        np.linalg.norm(np.diff(uv, axis=0), axis=1) <= np.linalg.norm(np.diff(points, axis=0), axis=1) + 1e-12
    ).all()
    # a camera's y axis points down
    R = upright(PoseSequence(BODY17, [0], [0], np.zeros((1, 17, 3)), space="camera:a")).R
    lower = flat_view(points + np.array([0, 1, 0]), "camera:a", R=R)
    assert (lower[:, 1] < flat_view(points, "camera:a", R=R)[:, 1]).all()


def test_curves_carry_the_stated_error_bars() -> None:
    pose, truth = pair(40)
    figure = joint_curves(pose, joints=["nose"], against=truth)
    axes = figure.axes[0]
    j = pose.skeleton.index("nose")
    wide = axes.collections[0].get_paths()[0].vertices
    sigma = np.sqrt(pose.covariance[:, j, 0, 0])
    high = np.nanmax(pose.xyz[:, j, 0] + 2 * sigma)
    assert wide[:, 1].max() == pytest.approx(high, abs=1e-6)
    lines = {line.get_linestyle(): line for line in axes.lines}
    assert np.allclose(lines["-"].get_ydata(), pose.xyz[:, j, 0], equal_nan=True)
    assert np.allclose(lines["--"].get_ydata(), truth.xyz[:, j, 0])
    with pytest.raises(EgoposeError, match="no joint 'tail'"):
        joint_curves(pose, joints=["tail"])


def test_status_shares_are_those_of_the_sequence() -> None:
    pose, _ = pair(50)
    figure = status_timeline(pose)
    texts = [t.get_text() for t in figure.legends[0].get_texts()]
    share = 100 * (pose.status == 0).mean()
    assert f"ok {share:.1f} %" in texts
    assert np.array_equal(np.asarray(figure.axes[0].collections[0].get_array()), pose.status.T)


def test_reprojection_errors_are_the_noise_that_was_put_in() -> None:
    capture = exo_capture(seconds=2)
    errors = reprojection_errors(capture.truth, capture.rig, capture.observations)
    assert errors.shape == (4, 60, 59)
    assert np.array_equal(np.isfinite(errors), capture.observations.seen)
    # 1 px noise per axis: the distance follows a Rayleigh law with median 1.1774; the clean cameras show it
    assert np.nanmedian(errors[:2]) == pytest.approx(1.1774 * 1.03, abs=0.06)
    reprojection_plot(capture.truth, capture.rig, capture.observations)


def test_reprojection_refuses_what_it_cannot_measure() -> None:
    capture = exo_capture(seconds=1)
    with pytest.raises(EgoposeError, match="no camera for cam04"):
        reprojection_errors(capture.truth, type(capture.rig)(capture.rig.cameras[:3]), capture.observations)
    shifted = capture.observations.replace(frames=capture.observations.frames + 1000)
    with pytest.raises(EgoposeError, match="share no frame"):
        reprojection_errors(capture.truth, capture.rig, shifted)
    with pytest.raises(EgoposeError, match="expected 'world'"):
        reprojection_errors(capture.truth.replace(space="head"), capture.rig, capture.observations)


def test_odd_sequences_are_drawn(tmp_path: Path) -> None:
    nothing = PoseSequence(BODY17, [3, 9], [0.0, 1.0], np.full((2, 17, 3), np.nan))
    one = PoseSequence(HAND21, [5], [0.0], np.random.default_rng(0).normal(size=(1, 21, 3)), space="camera:a")
    hostile = PoseSequence(hostile_skeleton(), [1, 2], [0, 1], np.random.default_rng(0).normal(size=(2, 3, 3)))
    for k, pose in enumerate((nothing, one, hostile)):
        for draw in (contact_sheet, joint_curves, status_timeline):
            save_png(draw(pose, title="a $b_{$ <c>"), tmp_path / f"{k}.png")
    with pytest.raises(EgoposeError, match="no frames"):
        contact_sheet(one.select(frames=[]))
    with pytest.raises(EgoposeError, match="neither a reference nor error bars"):
        by_joint(one)


def test_the_largest_error_is_the_tallest_bar() -> None:
    _, truth = pair(30)
    worse = truth.xyz.copy()
    worse[:, 4] += 0.3
    figure = by_joint(truth.replace(xyz=worse), against=truth)
    heights = [bar.get_height() for bar in figure.axes[0].patches]
    assert int(np.argmax(heights)) == 4
    assert heights[4] == pytest.approx(1000 * 0.3 * np.sqrt(3), rel=1e-4)
    assert SIDE_COLOURS["right"] != SIDE_COLOURS["left"]


def test_nothing_is_left_when_a_plot_cannot_be_written(tmp_path: Path) -> None:
    pose, _ = pair(5)
    (tmp_path / "file").write_text("x")
    with pytest.raises(EgoposeError, match="cannot write"):
        save_png(contact_sheet(pose), tmp_path / "file" / "a.png")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]
