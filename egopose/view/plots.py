"""Still pictures of results with matplotlib: contact sheet, joint curves, status over time, reprojection errors.

Each function returns a ``matplotlib.figure.Figure``; :func:`save_png` writes one. No window system is touched.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import JointStatus, PoseSequence
from egopose.skeleton import Skeleton
from egopose.view.figures import (
    INK,
    REFERENCE_COLOUR,
    SIDE_COLOURS,
    SOFT,
    STATUS_COLOURS,
    literal,
    median,
    new_figure,
    percentile,
    plain_axes,
    save_png,
)  # fmt: skip
from egopose.view.reprojection import reprojection_plot
from egopose.view.scene import is_fine, joint_errors, joint_sides, match, root_mean_square_sigma
from egopose.view.upright import Up, upright

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from egopose.camera import Rig
    from egopose.observations import Observations2D

Array = NDArray[np.float64]

_MAIN = ("left_wrist", "right_wrist", "left_ankle", "right_ankle", "nose", "wrist", "index_4", "left_hand_index_4",
         "right_hand_index_4")  # fmt: skip


def flat_view(
    xyz: NDArray[Any], space: str, *, R: Array | None = None, yaw_deg: float = 35.0, pitch_deg: float = 14.0
) -> Array:
    """Orthographic picture coordinates (..., 2) in metres, x right and y up, of joints (..., 3).

    World and head frames are seen from the side and a little from above; camera frames from the camera itself,
    turned a little. ``R`` (3, 3) makes the axes upright first.
    """
    points = np.asarray(xyz, dtype=np.float64)
    if R is not None:
        points = points @ R.T
    if space.startswith("camera:"):
        yaw_deg = -90.0 + 0.3 * yaw_deg
    yaw, pitch = np.radians(yaw_deg), np.radians(pitch_deg)
    forward = np.array([-np.cos(yaw) * np.cos(pitch), -np.sin(yaw) * np.cos(pitch), -np.sin(pitch)])
    right = np.array([-np.sin(yaw), np.cos(yaw), 0.0])
    up = np.cross(right, forward)
    return np.stack([points @ right, points @ up], axis=-1)


def _frame_room(uv: Array) -> tuple[Array, float]:
    """Middle (T, 2) of each frame's joints and one half width for all frames, from joints (T, J, 2)."""
    known: NDArray[np.bool_] = np.all(np.isfinite(uv), axis=-1)
    some: NDArray[np.bool_] = np.any(known, axis=1)
    middle = np.zeros((len(uv), 2))
    if not some.any():
        return middle, 1.0
    low, high = np.nanmin(uv[some], axis=1), np.nanmax(uv[some], axis=1)
    middle[some] = 0.5 * (low + high)
    # one wild frame must not shrink all others
    return middle, max(1e-3, 0.55 * float(np.percentile(high - low, 95)))


def _draw_skeleton(axes: Any, uv: Array, skeleton: Skeleton, status: NDArray[np.uint8] | None) -> None:
    """One skeleton; a reference (``status`` None) is dashed grey, hollow joints are those not called ok."""
    from matplotlib.collections import LineCollection

    known: NDArray[np.bool_] = np.all(np.isfinite(uv), axis=-1)
    sides, fine = joint_sides(skeleton), is_fine(skeleton)
    bones = [(a, b) for a, b in skeleton.bones if known[a] and known[b]]
    thick = [0.8 if fine[a] and fine[b] else 1.8 for a, b in bones]
    lines = [uv[[a, b]] for a, b in bones]
    if status is None:
        axes.add_collection(LineCollection(lines, colors=REFERENCE_COLOUR, linewidths=0.9, linestyles="dashed"))
        return
    colours = [SIDE_COLOURS[sides[b] if sides[a] == sides[b] else "middle"] for a, b in bones]
    axes.add_collection(LineCollection(lines, colors=colours, linewidths=thick, capstyle="round"))
    for j in np.flatnonzero(known):
        weak = status[j] != JointStatus.OK
        axes.plot(*uv[j], "o", ms=1.6 if fine[j] else 3.4, color=SIDE_COLOURS[sides[j]],
                  mfc="white" if weak else SIDE_COLOURS[sides[j]], mew=0.8)  # fmt: skip


def contact_sheet(
    pose: PoseSequence, *, against: PoseSequence | None = None, count: int = 12, title: str = "", up: Up = "auto"
) -> Figure:
    """Skeletons at evenly spaced frames, all on one scale, seen from the same side.

    Args:
        pose: The joints.
        against: A second sequence, drawn dashed; matched by frame number and joint name.
        count: How many frames.
        title: Heading.
        up: The axis of the file that points up; see :func:`egopose.view.upright.upright`.

    Raises:
        EgoposeError: No frames, or nothing in common with ``against``.
    """
    if pose.n_frames == 0:
        raise EgoposeError("contact sheet: the sequence holds no frames; there is nothing to draw")
    picks = np.unique(np.linspace(0, pose.n_frames - 1, min(count, pose.n_frames)).round().astype(int))
    shown = pose.select(frames=pose.frames[picks])
    other = None if against is None else match(pose, against).select(frames=shown.frames)
    R = upright(pose, up).R
    uv = flat_view(shown.xyz, shown.space, R=R)
    middle, reach = _frame_room(uv)
    columns = min(6, len(picks))
    rows = -(-len(picks) // columns)
    figure = new_figure(2.1 * columns + 0.2, 2.55 * rows + 0.9)
    error = None if other is None else joint_errors(shown, other)
    grid = figure.subplots(rows, columns, squeeze=False)
    for k, axes in enumerate(grid.ravel()):
        axes.set_axis_off()
        if k >= len(picks):
            continue
        axes.set_aspect("equal")
        axes.set_xlim(middle[k, 0] - reach, middle[k, 0] + reach)
        axes.set_ylim(middle[k, 1] - reach, middle[k, 1] + reach)
        if other is not None:
            _draw_skeleton(axes, flat_view(other.xyz[k], other.space, R=R), other.skeleton, None)
        _draw_skeleton(axes, uv[k], shown.skeleton, np.asarray(shown.status)[k])
        caption = f"frame {shown.frames[k]}, {shown.times_s[k]:.2f} s"
        known = f"{int(shown.valid[k].sum())}/{shown.n_joints} joints"
        if error is not None and np.isfinite(error[k]).any():
            known += f", {1000 * np.nanmean(error[k]):.0f} mm off"
        axes.set_title(f"{caption}\n{known}", fontsize=8, color=INK)
    from matplotlib.lines import Line2D

    bar = 10.0 ** np.floor(np.log10(reach))
    handles = [Line2D([], [], color=SIDE_COLOURS[s], lw=2, label=s) for s in ("left", "right", "middle")]
    handles.append(Line2D([], [], marker="o", ls="", color=SOFT, mfc="white", label="status not ok"))
    if other is not None:
        handles.append(Line2D([], [], color=REFERENCE_COLOUR, ls="dashed", label="reference"))
    first = grid[0, 0]
    x0, y0 = middle[0] - 0.95 * reach
    first.plot([x0, x0 + bar], [y0, y0], color=INK, lw=1.5)
    first.text(x0, y0 + 0.03 * reach, f"{bar:g} m" if bar >= 1 else f"{100 * bar:g} cm", fontsize=7, color=INK)
    figure.legend(handles=handles, loc="outside lower center", ncols=len(handles), frameon=False, fontsize=8)
    if title:
        figure.suptitle(literal(title), fontsize=11, color=INK, x=0.02, ha="left")
    return figure


def main_joints(skeleton: Skeleton, most: int = 6) -> list[str]:
    """The joints that say most about a motion: wrists, ankles, nose, finger tips, or the first ones."""
    found = [joint for joint in _MAIN if joint in skeleton.joints]
    return (found or list(skeleton.joints))[:most]


def joint_curves(
    pose: PoseSequence, *, joints: Sequence[str] | None = None, against: PoseSequence | None = None, title: str = ""
) -> Figure:
    """Coordinates of some joints over time with bands of one and two sigma.

    Args:
        pose: The joints.
        joints: Names; by default wrists, ankles and the nose.
        against: A second sequence, drawn dashed.
        title: Heading.

    Raises:
        EgoposeError: A joint does not exist, or no frames.
    """
    if pose.n_frames == 0:
        raise EgoposeError("joint curves: the sequence holds no frames; there is nothing to draw")
    names = list(joints) if joints else main_joints(pose.skeleton)
    where = pose.skeleton.indices(names)
    other = None if against is None else match(pose, against)
    sigma = pose.axis_sigma
    figure = new_figure(10.5, 1.35 * len(names) + 1.2)
    grid = figure.subplots(len(names), 3, sharex=True, squeeze=False)
    for row, (name, j) in enumerate(zip(names, where, strict=True)):
        for k, axis in enumerate("xyz"):
            axes = grid[row, k]
            plain_axes(axes)
            value = pose.xyz[:, j, k].astype(np.float64)
            if sigma is not None:
                for width, alpha in ((2, 0.15), (1, 0.25)):
                    axes.fill_between(
                        pose.times_s, value - width * sigma[:, j, k], value + width * sigma[:, j, k],
                        color="#0b62a4", alpha=alpha, lw=0,
                    )  # fmt: skip
            if other is not None and name in other.skeleton.joints:
                reference = other.xyz[:, other.skeleton.index(name), k]
                axes.plot(pose.times_s, reference, color="#d55e00", lw=1, ls="dashed")
            axes.plot(pose.times_s, value, color="#0b62a4", lw=1)
            if k == 0:
                axes.set_ylabel(literal(name), fontsize=8)
            if row == 0:
                axes.set_title(f"{axis} (m)", fontsize=9, color=INK)
            if row == len(names) - 1:
                axes.set_xlabel("time (s)", fontsize=8)
    what = ["line: joint"]
    if sigma is not None:
        what.append("bands: 1 and 2 sigma")
    if other is not None:
        what.append("dashed: reference")
    heading = f"{title}: " if title else ""
    figure.suptitle(literal(heading + ", ".join(what)), fontsize=10, color=INK, x=0.02, ha="left")
    return figure


def status_timeline(pose: PoseSequence, *, title: str = "") -> Figure:
    """Status of every joint over time, with the share of each status at the right.

    Raises:
        EgoposeError: No frames.
    """
    if pose.n_frames == 0:
        raise EgoposeError("status timeline: the sequence holds no frames; there is nothing to draw")
    from matplotlib.colors import BoundaryNorm, ListedColormap

    status = np.asarray(pose.status)
    J = pose.n_joints
    figure = new_figure(10.5, max(2.4, 0.135 * J + 1.4))
    axes, bars = figure.subplots(1, 2, width_ratios=(5, 1), sharey=True)
    colours = ListedColormap(STATUS_COLOURS)
    norm = BoundaryNorm(np.arange(len(JointStatus) + 1) - 0.5, len(JointStatus))
    # frames may have gaps: edges halfway to the neighbours
    t = pose.times_s
    inner = 0.5 * (t[1:] + t[:-1])
    half = 0.5 * float(np.median(np.diff(t))) if len(t) > 1 else 0.5
    edges = np.concatenate([[t[0] - half], inner, [t[-1] + half]])
    axes.pcolormesh(edges, np.arange(J + 1) - 0.5, status.T, cmap=colours, norm=norm, rasterized=True)
    axes.set_yticks(range(J), [literal(joint) for joint in pose.skeleton.joints])
    axes.invert_yaxis()
    plain_axes(axes)
    axes.tick_params(axis="y", labelsize=6 if J > 30 else 8, length=0)
    axes.set_xlabel("time (s)", fontsize=9)
    left = np.zeros(J)
    used = []
    for code in JointStatus:
        share = (status == code).mean(axis=0)
        if share.any():
            used.append(code)
            bars.barh(range(J), share, left=left, color=STATUS_COLOURS[code], height=0.9)
        left += share
    plain_axes(bars)
    bars.tick_params(axis="y", length=0, labelleft=False)
    bars.set_xlim(0, 1)
    bars.set_xlabel("share of frames", fontsize=9)
    from matplotlib.patches import Patch

    handles = [
        Patch(color=STATUS_COLOURS[c], label=f"{c.name.lower().replace('_', ' ')} {100 * (status == c).mean():.1f} %")
        for c in used
    ]
    figure.legend(handles=handles, loc="outside lower center", ncols=4, frameon=False, fontsize=8)
    if title:
        figure.suptitle(literal(title), fontsize=11, color=INK, x=0.02, ha="left")
    return figure


def save_plots(
    path: str | os.PathLike[str],
    pose: PoseSequence,
    *,
    against: PoseSequence | None = None,
    rig: Rig | None = None,
    observations: Observations2D | None = None,
    title: str = "",
    up: Up = "auto",
) -> list[Path]:
    """Write the plots of a result.

    Args:
        path: A name ending in .png gets the contact sheet alone; anything else is a folder for all plots.
        pose: The joints.
        against: A second sequence to compare with.
        rig: Cameras, for the reprojection plot.
        observations: What the cameras saw, for the reprojection plot.
        title: Heading of every plot.
        up: The axis of the file that points up.

    Returns:
        The files written.
    """
    path = Path(path)
    if path.suffix.lower() == ".png":
        save_png(contact_sheet(pose, against=against, title=title, up=up), path)
        return [path]
    figures = {
        "contact_sheet.png": contact_sheet(pose, against=against, title=title, up=up),
        "joint_curves.png": joint_curves(pose, against=against, title=title),
        "status.png": status_timeline(pose, title=title),
    }
    if rig is not None and observations is not None:
        figures["reprojection.png"] = reprojection_plot(pose, rig, observations, title=title)
    sigma = root_mean_square_sigma(pose)
    if against is not None or (sigma is not None and np.isfinite(sigma).any()):
        figures["by_joint.png"] = by_joint(pose, against=against, title=title)
    for name, figure in figures.items():
        save_png(figure, path / name)
    return [path / name for name in figures]


def by_joint(pose: PoseSequence, *, against: PoseSequence | None = None, title: str = "") -> Figure:
    """Median and 95th percentile per joint of the error (with ``against``) and of the stated sigma."""
    rows: list[tuple[str, Array]] = []
    if against is not None:
        rows.append(("error (mm)", 1000 * joint_errors(pose, match(pose, against))))
    sigma = root_mean_square_sigma(pose)
    if sigma is not None and np.isfinite(sigma).any():
        rows.append(("stated sigma (mm)", 1000 * sigma))
    if not rows:
        raise EgoposeError("plot by joint: neither a reference nor error bars; there is nothing to compare")
    J = pose.n_joints
    figure = new_figure(max(6.0, 0.17 * J + 1.5), 2.3 * len(rows) + 1.2)
    grid = figure.subplots(len(rows), 1, sharex=True, squeeze=False)[:, 0]
    colours = [SIDE_COLOURS[side] for side in joint_sides(pose.skeleton)]
    for axes, (label, values) in zip(grid, rows, strict=True):
        middle = median(values, axis=0)
        high = np.array([percentile(values[:, j], 95) if np.isfinite(values[:, j]).any() else np.nan for j in range(J)])
        axes.bar(range(J), middle, color=colours, width=0.75)
        axes.plot(range(J), high, "_", color=INK, ms=7, mew=1.2)
        axes.set_ylabel(label, fontsize=8)
        axes.set_ylim(bottom=0)
        plain_axes(axes)
    grid[-1].set_xticks(range(J), [literal(joint) for joint in pose.skeleton.joints], rotation=90,
                        fontsize=6 if J > 30 else 8)  # fmt: skip
    grid[-1].set_xlim(-0.7, J - 0.3)
    heading = f"{title}: " if title else ""
    figure.suptitle(literal(f"{heading}bar: median, dash: 95th percentile"), fontsize=10, color=INK, x=0.02, ha="left")
    return figure
