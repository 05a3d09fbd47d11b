"""Reprojection errors: how far the joints land from what each camera saw."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.view.figures import INK, literal, median, new_figure, percentile, plain_axes

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from egopose.camera import Rig
    from egopose.observations import Observations2D

Array = NDArray[np.float64]


def reprojection_errors(pose: PoseSequence, rig: Rig, observations: Observations2D) -> Array:
    """(V, T, J) pixel distances between observed and reprojected joints on the pose's frames and joints; NaN unseen.

    Raises:
        EgoposeError: The joints are not in the world, a view has no camera, or no frame is shared.
    """
    if pose.space != "world":
        raise EgoposeError(f"reprojection: the joints are in the frame {pose.space!r}; expected 'world'")
    absent = [view for view in observations.views if view not in rig.names]
    if absent:
        raise EgoposeError(f"reprojection: no camera for {', '.join(absent)}; the rig has: {', '.join(rig.names)}")
    common = np.intersect1d(pose.frames, observations.frames)
    if not common.size:
        raise EgoposeError("reprojection: the joints and the 2D observations share no frame")
    source = observations.skeleton.map_to(pose.skeleton)
    rows = np.searchsorted(observations.frames, common)
    errors = np.full((len(observations.views), pose.n_frames, pose.n_joints), np.nan)
    target = np.searchsorted(pose.frames, common)
    for v, view in enumerate(observations.views):
        camera = rig.cameras[rig.names.index(view)]
        uv = camera.project(pose.xyz[target].astype(np.float64))
        seen = observations.uv_px[v][rows][:, np.maximum(source, 0)].astype(np.float64)
        seen[:, source < 0] = np.nan
        errors[v, target] = np.linalg.norm(uv - seen, axis=-1)
    return errors


def reprojection_plot(pose: PoseSequence, rig: Rig, observations: Observations2D, *, title: str = "") -> Figure:
    """Median reprojection error per camera and joint, the spread per camera, and the median over time."""
    errors = reprojection_errors(pose, rig, observations)
    V, _, J = errors.shape
    figure = new_figure(11, 5.6 + 0.2 * V)
    parts: Any = figure.subfigures(2, 1, height_ratios=(1.15, 1))
    top, low = parts[0], parts[1]
    axes = top.subplots()
    table = median(errors, axis=1)
    image = axes.imshow(table, aspect="auto", cmap="magma_r", vmin=0, vmax=max(1.0, percentile(table, 98)))
    axes.set_yticks(range(V), [literal(view) for view in observations.views], fontsize=8)
    axes.set_xticks(
        range(J), [literal(joint) for joint in pose.skeleton.joints], rotation=90, fontsize=6 if J > 30 else 8
    )
    axes.tick_params(length=0)
    top.colorbar(image, ax=axes, label="median error (px)")
    axes.set_title("by camera and joint (white: never seen)", fontsize=9, color=INK, loc="left")
    spread, course = low.subplots(1, 2, width_ratios=(1, 2))
    flat = [errors[v][np.isfinite(errors[v])] for v in range(V)]
    quantiles = np.array([np.percentile(e, [5, 25, 50, 75, 95]) if e.size else [np.nan] * 5 for e in flat])
    for v, q in enumerate(quantiles):
        spread.plot([q[0], q[4]], [v, v], color="#9fb7cc", lw=2)
        spread.plot([q[1], q[3]], [v, v], color="#0b62a4", lw=6, solid_capstyle="butt")
        spread.plot(q[2], v, "o", color="white", mec=INK, ms=5)
    spread.set_yticks(range(V), [literal(view) for view in observations.views], fontsize=8)
    spread.set_ylim(V - 0.5, -0.5)
    spread.set_xlim(left=0)
    spread.set_xlabel("error (px): median, 25 to 75 %, 5 to 95 %", fontsize=8)
    for v, view in enumerate(observations.views):
        course.plot(pose.times_s, median(errors[v], axis=1), lw=0.9, label=literal(view))
    course.set_ylim(bottom=0)
    course.set_xlabel("time (s)", fontsize=8)
    course.set_ylabel("median error (px)", fontsize=8)
    course.legend(fontsize=7, frameon=False, ncols=min(4, V), loc="upper right")
    for ax in (spread, course):
        plain_axes(ax)
    figure.suptitle(literal(title or "Reprojection error"), fontsize=11, color=INK, x=0.02, ha="left")
    return figure
