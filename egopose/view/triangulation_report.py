"""The report of a triangulated take as a page: what to trust, which camera lies, where the joints are weak."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from typing import Any

from egopose.errors import EgoposeError
from egopose.skeleton import SKELETONS, Skeleton
from egopose.view.charts import bars, skeleton_chart
from egopose.view.figures import STATUS_COLOURS
from egopose.view.report_html import Column, Report, finite, number, percent, relative_link, save_json

_STATUS_ORDER = ("ok", "two_views", "low_angle", "no_consensus", "missing", "bridged", "out_of_view")


def write_triangulation_report(
    report: Mapping[str, Any],
    out_html: str | os.PathLike[str] | None,
    out_json: str | os.PathLike[str] | None = None,
    *,
    title: str = "Triangulation report",
    viewer: str | os.PathLike[str] | None = None,
    skeleton: Skeleton | None = None,
) -> None:
    """Write the report as a self-contained page and as JSON, each atomically.

    Args:
        report: The result of :func:`egopose.triangulate.report.build_report`.
        out_html: The page, or None.
        out_json: The same numbers; what is not finite becomes null. None leaves it out.
        title: Heading.
        viewer: The 3D page of the same take, to link to.
        skeleton: The joint set, for the figure; found from the joint names when it is one of ours.

    Raises:
        EgoposeError: The report lacks its parts, or a file cannot be written.
    """
    for key in ("summary", "status", "cameras", "joints"):
        if key not in report:
            raise EgoposeError(
                f"triangulation report: the part {key!r} is missing; expected the result of build_report"
            )
    if out_json is not None:
        save_json(out_json, report)
    if out_html is not None:
        link = None if viewer is None else relative_link(viewer, out_html)
        triangulation_page(report, title=title, viewer=link, skeleton=skeleton).save(out_html)


def triangulation_page(
    report: Mapping[str, Any], *, title: str = "Triangulation report", viewer: str | None = None,
    skeleton: Skeleton | None = None,
) -> Report:  # fmt: skip
    """The page of a triangulation report; see :func:`write_triangulation_report`."""
    summary, threshold = report["summary"], report.get("threshold") or {}
    page = Report(
        title, f"{summary.get('frames')} frames, {summary.get('joints')} joints, {summary.get('views')} cameras"
    )
    if viewer is not None:
        page.link(viewer, "See it in 3D")
    page.figures(_key_figures(summary, threshold, report["status"]))
    if report.get("notes"):
        page.section("Notes")
        page.points(report["notes"])
    _status(page, report["status"])
    _cameras(page, report["cameras"])
    _joints(page, report["joints"], skeleton)
    _bones(page, report.get("bones") or [], summary)
    _threshold(page, threshold)
    return page


def _quantile(row: Mapping[str, Any], key: str, which: str) -> Any:
    return (row.get(key) or {}).get(which)


def _key_figures(summary: Any, threshold: Any, status: Any) -> list[tuple[str, str]]:
    items = [
        (percent(summary.get("known_share")), "of all joints have a point"),
        (percent(status.get("ok", 0.0)), "have status ok"),
        (number(_quantile(summary, "residual_used_px", "median"), 2, "px"), "median reprojection error, views used"),
        (number(_quantile(summary, "residual_all_px", "median"), 2, "px"), "the same over all views"),
        (number(summary.get("bone_variation_percent"), 2, "%"), "bone-length variation"),
        (number(threshold.get("threshold_px"), 1, "px"), f"inlier threshold ({threshold.get('source', 'given')})"),
    ]
    if _quantile(summary, "sigma_mm", "median") is not None:
        items.insert(4, (number(_quantile(summary, "sigma_mm", "median"), 1, "mm"), "median error bar (1 sigma)"))
    if finite(summary.get("acceleration_jitter_mm")) is not None:
        items.append((number(summary["acceleration_jitter_mm"], 2, "mm"), "median second difference per frame²"))
    return items


def _status_order(status: Mapping[str, Any]) -> list[str]:
    return [*(s for s in _STATUS_ORDER if s in status), *(s for s in status if s not in _STATUS_ORDER)]


def _status(page: Report, status: Mapping[str, Any]) -> None:
    page.section("Status of the joints", "Share of all joints in all frames.")
    names = _status_order(status)
    colours = [STATUS_COLOURS[_STATUS_ORDER.index(s)] if s in _STATUS_ORDER else "#8a8f98" for s in names]
    shares = [None if (v := finite(status[s])) is None else 100 * v for s in names]
    page.charts(bars([s.replace("_", " ") for s in names], shares, unit="%", label="share of joints by status",
                     colours=colours))  # fmt: skip


def _cameras(page: Report, cameras: Sequence[Mapping[str, Any]]) -> None:
    page.section(
        "Cameras",
        "Reprojection error in raw pixels. Bias is the median of reprojected minus observed over every view that saw "
        "the joint, rejected ones included: a camera with a bias of several pixels is calibrated wrongly, has moved, "
        "or its 2D joints belong to another version of the image.",
    )
    columns = [
        Column("camera"), Column("seen", share=True), Column("used of seen", share=True),
        Column("median used (px)", 2, heat=True), Column("90 % used (px)", 2), Column("median all (px)", 2, heat=True),
        Column("90 % all (px)", 2), Column("bias u (px)", 2, heat=1.0), Column("bias v (px)", 2, heat=1.0),
    ]  # fmt: skip
    rows = [
        (c.get("name"), c.get("seen_share"), c.get("used_share_of_seen"),
         *(_quantile(c, key, q) for key in ("residual_used_px", "residual_all_px") for q in ("median", "p90")),
         c.get("bias_u_px"), c.get("bias_v_px"))
        for c in cameras
    ]  # fmt: skip
    page.table(columns, rows)
    names = [str(c.get("name")) for c in cameras]
    page.charts(
        bars(names, [_quantile(c, "residual_used_px", "median") for c in cameras], unit="px", digits=2, width=420,
             label="median error of the views used, tick at 90 percent",
             marks=[_quantile(c, "residual_used_px", "p90") for c in cameras]),
        bars(names, [None if (s := finite(c.get("used_share_of_seen"))) is None else 100 * (1 - s) for c in cameras],
             unit="%", label="rejected share of the joints seen", colours=["#c2506b"] * len(names), width=420),
        caption="Left: median error of the views used, tick at 90 %. Right: share of joints seen but rejected.",
    )  # fmt: skip


def _joints(page: Report, joints: Sequence[Mapping[str, Any]], skeleton: Skeleton | None) -> None:
    page.section("Joints")
    names = tuple(str(j.get("name")) for j in joints)
    if skeleton is None:
        skeleton = next((s for s in SKELETONS.values() if s.joints == names), None)
    if skeleton is not None:
        sigma = {str(j.get("name")): j.get("sigma_mm_median") for j in joints}
        unknown = {str(j.get("name")): None if (v := finite(j.get("known_share"))) is None else 100 * (1 - v)
                   for j in joints}  # fmt: skip
        left = skeleton_chart(skeleton, sigma, unit="mm", label="median error bar of each joint")
        right = skeleton_chart(skeleton, unknown, unit="%", label="share of frames without a point", top=None)
        if left:
            page.charts(
                left, right, caption="Left: median error bar (1 sigma). Right: share of frames without a point."
            )
    columns = [
        Column("joint"), Column("known", share=True), Column("views used", 1), Column("median used (px)", 2, heat=True),
        Column("90 % used (px)", 2), Column("median all (px)", 2), Column("sigma (mm)", 1, heat=True),
    ]  # fmt: skip
    used = _status_order({s: 0 for j in joints for s in (j.get("status") or {})})
    columns += [Column(s.replace("_", " "), share=True) for s in used]
    rows = [
        (j.get("name"), j.get("known_share"), j.get("views_used"), _quantile(j, "residual_used_px", "median"),
         _quantile(j, "residual_used_px", "p90"), _quantile(j, "residual_all_px", "median"), j.get("sigma_mm_median"),
         *((j.get("status") or {}).get(s, 0.0) for s in used))
        for j in joints
    ]  # fmt: skip
    page.table(columns, rows, fold=f"All {len(rows)} joints" if len(rows) > 25 else "")


def _bones(page: Report, bones: Sequence[Mapping[str, Any]], summary: Mapping[str, Any]) -> None:
    if not bones:
        return
    page.section(
        "Bones",
        "Bones do not change length: the standard deviation of a length over its mean shows the noise without any "
        f"reference. Over limbs and trunk it is {number(summary.get('bone_variation_percent'), 2, '%')}.",
    )
    columns = [
        Column("bone"),
        Column("frames", 0),
        Column("mean length (mm)", 1),
        Column("variation (%)", 2, heat=True),
    ]
    rows = []
    for bone in bones:
        mean = finite(bone.get("mean_m"))
        name = " – ".join(str(end) for end in bone.get("bone", ()))
        rows.append((name, bone.get("frames"), None if mean is None else 1000 * mean, bone.get("variation_percent")))
    page.table(columns, rows, fold=f"All {len(rows)} bones" if len(rows) > 25 else "")


def _threshold(page: Report, threshold: Mapping[str, Any]) -> None:
    if not threshold:
        return
    page.section("Inlier threshold", "A view counts for a joint when its reprojection error is below the threshold.")
    rounds = ", ".join(number(v, 2) for v in threshold.get("rounds_px") or [])
    page.points(
        line
        for line in (
            f"threshold: {number(threshold.get('threshold_px'), 2, 'px')} ({threshold.get('source', 'given')})",
            f"noise of one view: {number(threshold.get('sigma_px'), 2, 'px')}",
            f"points it was estimated from: {threshold.get('points')}" if threshold.get("points") else "",
            f"rounds: {rounds} px" if rounds else "",
        )
        if line
    )
