"""The page of an evaluation: scores, error by joint on a figure, PCK curve, error over time, the worst frames."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.pose import PoseSequence
from egopose.skeleton import Skeleton
from egopose.view.charts import PALETTE, Line, bars, lines, skeleton_chart
from egopose.view.report_html import Column, Report, number, percent, relative_link, save_json
from egopose.view.scene import joint_errors, match
from egopose.view.surroundings import nice_ceiling

Array = NDArray[np.float64]
Pairs = Mapping[str, tuple[PoseSequence, PoseSequence]]

MOST_TAKES_DRAWN = 6
_UNITS = (("_cm", "cm"), ("_mm", "mm"), ("_m_s", "m/s"), ("_mm_s", "mm/s"), ("_m_s2", "m/s²"), ("_deg", "°"),
          ("_px", "px"), ("_percent", "%"), ("_s", "s"), ("_m", "m"))  # fmt: skip


@dataclass(frozen=True)
class Errors:
    """Distances of one take, in millimetres.

    Attributes:
        name: The take.
        pose: The prediction, on its own frames.
        error_mm: (T, J) distances, NaN where a joint is not known in both.
        wanted: (T, J) where the reference has the joint.
    """

    name: str
    pose: PoseSequence
    error_mm: Array
    wanted: NDArray[np.bool_]

    @property
    def frame_mm(self) -> Array:
        """(T,) mean over the joints of each frame, NaN without any."""
        return _mean(self.error_mm, axis=1)


def _mean(values: Array, axis: int) -> Array:
    known = np.isfinite(values)
    count = known.sum(axis=axis)
    total = np.where(known, values, 0.0).sum(axis=axis)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def measure(name: str, prediction: PoseSequence, reference: PoseSequence) -> Errors:
    """Plain distances of a prediction to a reference on common frames and joints.

    Raises:
        EgoposeError: Not the same space, or nothing in common.
    """
    if prediction.space != reference.space:
        raise EgoposeError(
            f"take {name!r}: the prediction is in the frame {prediction.space!r}, the reference in "
            f"{reference.space!r}; bring both to one frame"
        )
    matched = match(prediction, reference)
    partner = matched.skeleton.map_to(prediction.skeleton)
    wanted = matched.valid[:, np.maximum(partner, 0)] & (partner >= 0)
    return Errors(name, prediction, 1000 * joint_errors(prediction, matched), wanted)


def pck_curve(errors_mm: Array, wanted: NDArray[np.bool_], top_mm: float, steps: int = 121) -> tuple[Array, Array]:
    """Share of wanted joints within each distance; a joint without a prediction is outside every one.

    Returns:
        (steps,) thresholds in millimetres from 0 to ``top_mm`` and (steps,) shares.
    """
    thresholds = np.linspace(0, top_mm, steps)
    known = np.sort(errors_mm[wanted & np.isfinite(errors_mm)])
    inside = np.searchsorted(known, thresholds, side="right")
    return thresholds, inside / max(int(wanted.sum()), 1)


def write_metrics_report(
    out_html: str | os.PathLike[str],
    scores: Mapping[str, Any],
    pairs: Pairs | None = None,
    *,
    out_json: str | os.PathLike[str] | None = None,
    viewer: str | os.PathLike[str] | Mapping[str, str | os.PathLike[str]] | None = None,
    title: str = "Evaluation",
    worst: int = 20,
) -> None:
    """Write the page of an evaluation as one self-contained file.

    Args:
        out_html: The page.
        scores: What ``evaluate`` found: numbers whose name ends in their unit, and tables of such numbers by name
            (scenarios, hands, joints, takes).
        pairs: Prediction and reference per take in a common frame; the plots are drawn from them. Distances are
            plain ones, without alignment.
        out_json: The scores as JSON; what is not finite becomes null.
        viewer: 3D page of the take, or one per take; worst frames link to it.
        title: Heading.
        worst: How many worst frames to list.

    Raises:
        EgoposeError: The sequences do not fit each other, or a file cannot be written.
    """
    if viewer is None or isinstance(viewer, Mapping):
        pages = {k: relative_link(v, out_html) for k, v in (viewer or {}).items()}
    else:
        pages = {name: relative_link(viewer, out_html) for name in (pairs if pairs else ("",))}
    page = metrics_page(scores, pairs, pages=pages, title=title, worst=worst)
    if out_json is not None:
        save_json(out_json, scores)
    page.save(out_html)


def metrics_page(
    scores: Mapping[str, Any], pairs: Pairs | None = None, *, pages: Mapping[str, str] | None = None,
    title: str = "Evaluation", worst: int = 20,
) -> Report:  # fmt: skip
    """The page; see :func:`write_metrics_report`. ``pages`` maps takes to addresses of their 3D pages."""
    pages = pages or {}
    page = Report(title)
    for name, address in list(pages.items())[:MOST_TAKES_DRAWN]:
        page.link(address, f"See {name} in 3D" if name else "See it in 3D")
    _scores(page, scores)
    measured = [measure(name, *pair) for name, pair in (pairs or {}).items()]
    measured = [m for m in measured if np.isfinite(m.error_mm).any()]
    if measured:
        _coverage(page, measured)
        _by_joint(page, measured)
        _pck(page, measured)
        _over_time(page, measured, pages, worst)
    return page


def split_unit(name: str) -> tuple[str, str]:
    """``"mpjpe_cm"`` to ``("mpjpe", "cm")``; underscores become spaces."""
    for ending, unit in sorted(_UNITS, key=lambda pair: -len(pair[0])):
        if name.endswith(ending) and len(name) > len(ending):
            return name.removesuffix(ending).replace("_", " "), unit
    return name.replace("_", " "), ""


def _shown(key: str, value: Any) -> tuple[str, str]:
    """One number as (value, name) for people."""
    name, unit = split_unit(key)
    if isinstance(value, bool) or not isinstance(value, int | float | np.integer | np.floating):
        return "–" if value is None else str(value), name
    if isinstance(value, int | np.integer):
        return f"{int(value):,}".replace(",", " ") + (f" {unit}" if unit else ""), name
    if any(word in name.split() for word in ("coverage", "share", "pck", "auc")):
        return percent(value), name
    return number(value, 2 if unit else 3, unit), name


def _scores(page: Report, scores: Mapping[str, Any]) -> None:
    """Numbers become key figures, tables of numbers become tables, texts and lists become remarks."""
    figures, remarks = [], []
    tables: list[tuple[str, Mapping[str, Any]]] = []
    for key, value in scores.items():
        if isinstance(value, Mapping):
            if key == "metrics":
                figures += [_shown(str(k), v) for k, v in value.items() if not isinstance(v, Mapping | list)]
            else:
                tables.append((split_unit(str(key))[0], value))
        elif isinstance(value, list | tuple):
            name = split_unit(str(key))[0]
            items = [str(item) for item in list(value)[:100] if not isinstance(item, Mapping | list)]
            # names fit on one line, sentences want their own
            short = all(len(item) < 40 and not item.count(" ") > 3 for item in items)
            remarks += [f"{name}: {', '.join(items)}"] if short and items else [f"{name}: {item}" for item in items]
        elif isinstance(value, str | bool) or value is None:
            remarks.append(f"{split_unit(str(key))[0]}: {'–' if value is None else value}")
        elif not isinstance(value, np.ndarray):
            figures.append(_shown(str(key), value))
    if figures:
        page.figures(figures)
    for name, table in tables:
        _score_table(page, name, table)
    if remarks:
        page.section("Remarks")
        page.points(remarks)


def _flat(table: Mapping[str, Any], before: str = "") -> list[tuple[str, Any]]:
    """The numbers and texts of nested tables, with the names on the way to them."""
    rows: list[tuple[str, Any]] = []
    for key, value in table.items():
        if isinstance(value, Mapping):
            rows += _flat(value, f"{before}{split_unit(str(key))[0]}: ")
        elif not isinstance(value, list | tuple | np.ndarray):
            rows.append((f"{before}{key}", value))
    return rows


def _score_table(page: Report, name: str, table: Mapping[str, Any]) -> None:
    """Rows of the same columns become a grid; anything else a list of names and values."""
    page.section(name.capitalize())
    rows = {str(k): v for k, v in table.items() if isinstance(v, Mapping)}
    if (
        rows
        and len(rows) == len(table)
        and not any(isinstance(v, Mapping) for row in rows.values() for v in row.values())
    ):
        keys = list(dict.fromkeys(str(k) for row in rows.values() for k in row))
        keys = [k for k in keys if not any(isinstance(row.get(k), list) for row in rows.values())]
        columns = [Column(name)]
        for key in keys:
            text, unit = split_unit(key)
            values = [row[key] for row in rows.values() if row.get(key) is not None]
            whole = all(isinstance(v, int) for v in values)
            textual = any(isinstance(v, str) for v in values)
            digits = None if textual else 0 if whole else 3
            columns.append(Column(f"{text} ({unit})" if unit else text, digits, heat=not whole and not textual))
        page.table(
            columns, [[row, *(values.get(k) for k in keys)] for row, values in rows.items()],
            fold=f"All {len(rows)}" if len(rows) > 40 else "",
        )  # fmt: skip
        return
    shown = [_shown(key, value)[::-1] for key, value in _flat(table)]
    page.table([Column(""), Column("value")], shown, fold=f"All {len(shown)}" if len(shown) > 20 else "")


def _joint_names(measured: Sequence[Errors]) -> list[str]:
    return list(dict.fromkeys(j for m in measured for j in m.pose.skeleton.joints))


def _coverage(page: Report, measured: Sequence[Errors]) -> None:
    wanted = sum(int(m.wanted.sum()) for m in measured)
    found = sum(int((m.wanted & np.isfinite(m.error_mm)).sum()) for m in measured)
    everything = np.concatenate([m.error_mm[np.isfinite(m.error_mm)] for m in measured])
    page.section(
        "Distances",
        "Plain distances between predicted and reference joints, without any alignment, over all joints known in both.",
    )
    page.figures(
        [
            (number(everything.mean(), 1, "mm"), "mean"),
            (number(np.median(everything), 1, "mm"), "median"),
            (number(np.percentile(everything, 95), 1, "mm"), "95 % are closer than"),
            (percent(found / max(wanted, 1)), f"of {wanted} reference joints have a prediction"),
        ]
    )


def _by_joint(page: Report, measured: Sequence[Errors]) -> None:
    names = _joint_names(measured)
    rows: list[tuple[Any, ...]] = []
    means: dict[str, float] = {}
    for name in names:
        parts, wanted = [], 0
        for m in measured:
            if name in m.pose.skeleton.joints:
                j = m.pose.skeleton.index(name)
                parts.append(m.error_mm[:, j])
                wanted += int(m.wanted[:, j].sum())
        values = np.concatenate(parts)
        values = values[np.isfinite(values)]
        if not wanted:
            continue
        if not values.size:
            rows.append((name, None, None, None, 0.0))
            continue
        means[name] = float(values.mean())
        rows.append(
            (name, means[name], float(np.median(values)), float(np.percentile(values, 95)), values.size / wanted)
        )
    page.section("Error by joint")
    skeleton = _figure_skeleton(measured)
    figure = skeleton_chart(skeleton, means, unit="mm", label="mean error of each joint on a figure")
    worst = sorted((r for r in rows if r[1] is not None), key=lambda r: -float(r[1] or 0))[:18]
    page.charts(
        figure,
        bars([r[0] for r in worst], [r[1] for r in worst], unit="mm", label="joints with the largest mean error",
             marks=[r[3] for r in worst], width=500),
        caption="Left: mean error on a figure (seen from the front). Right: the largest, tick at the 95th percentile.",
    )  # fmt: skip
    columns = [Column("joint"), Column("mean (mm)", 1, heat=True), Column("median (mm)", 1), Column("95 % (mm)", 1),
               Column("predicted", share=True)]  # fmt: skip
    page.table(columns, rows, fold=f"All {len(rows)} joints")


def _figure_skeleton(measured: Sequence[Errors]) -> Skeleton:
    return max((m.pose.skeleton for m in measured), key=lambda s: s.n_joints)


def _pck(page: Report, measured: Sequence[Errors]) -> None:
    everything = np.concatenate([m.error_mm[np.isfinite(m.error_mm)] for m in measured])
    top = max(10.0, nice_ceiling(float(np.percentile(everything, 97))))
    page.section("Share of joints within a distance (PCK)", "A joint without a prediction is outside every distance.")
    groups: dict[str, tuple[list[Array], list[NDArray[np.bool_]]]] = {}
    for m in measured:
        hand = np.array(["_hand_" in j for j in m.pose.skeleton.joints])
        kinds = {"all joints": np.ones_like(hand)}
        if hand.any() and not hand.all():
            kinds |= {"body": ~hand, "hands": hand}
        for kind, pick in kinds.items():
            entry = groups.setdefault(kind, ([], []))
            entry[0].append(m.error_mm[:, pick].ravel())
            entry[1].append(m.wanted[:, pick].ravel())
    curves, areas = [], []
    for kind, (errors, wanted) in groups.items():
        x, y = pck_curve(np.concatenate(errors), np.concatenate(wanted), top)
        curves.append(Line(kind, x, 100 * y))
        areas.append(f"{kind} {100 * _area(y, x) / top:.1f} %")
    chart = lines(
        curves, x_name="distance (mm)", y_name="joints within it (%)", label="PCK curve", y_top=100.0, width=620
    )
    page.charts(chart, caption=f"Area under the curve from 0 to {top:g} mm: {', '.join(areas)}.")


def _area(y: Array, x: Array) -> float:
    return float((0.5 * (y[1:] + y[:-1]) * np.diff(x)).sum())


def _over_time(page: Report, measured: Sequence[Errors], pages: Mapping[str, str], worst: int) -> None:
    page.section(
        "Error over time", "Mean over the joints of each frame; circles are worst frames and open the 3D page."
    )
    ranked = sorted(measured, key=lambda m: -float(np.nanmean(m.frame_mm)))
    top = nice_ceiling(float(max(np.nanpercentile(m.frame_mm, 99.5) for m in ranked[:MOST_TAKES_DRAWN])) / 4) * 4
    for m in ranked[:MOST_TAKES_DRAWN]:
        frame_mm = m.frame_mm
        links = [
            (float(m.pose.times_s[t]), float(frame_mm[t]), f"{pages[m.name]}#frame={m.pose.frames[t]}",
             f"frame {m.pose.frames[t]}: {frame_mm[t]:.0f} mm")
            for t in (worst_frames(frame_mm, 5, _spacing(m.pose)) if m.name in pages else [])
        ]  # fmt: skip
        chart = lines([Line(m.name, m.pose.times_s, frame_mm, PALETTE[0])], x_name="time (s)", width=980, height=190,
                      y_name=f"{m.name}: mean error (mm)", label=f"error over time of {m.name}", y_top=top,
                      links=links)  # fmt: skip
        page.charts(chart)
    if len(ranked) > MOST_TAKES_DRAWN:
        page.text(f"The {MOST_TAKES_DRAWN} takes with the largest mean error of {len(ranked)} are drawn.")
    rows, addresses = [], []
    found = [(float(m.frame_mm[t]), m, t) for m in measured for t in worst_frames(m.frame_mm, worst, _spacing(m.pose))]
    for value, m, t in sorted(found, key=lambda item: -item[0])[:worst]:
        j = int(np.nanargmax(m.error_mm[t]))
        rows.append((f"{m.name} frame {m.pose.frames[t]}".strip(), float(m.pose.times_s[t]), value,
                     m.pose.skeleton.joints[j], float(m.error_mm[t, j])))  # fmt: skip
        addresses.append(f"{pages[m.name]}#frame={m.pose.frames[t]}" if m.name in pages else None)
    page.section("Worst frames", "At most one within half a second, so that one bad moment does not fill the list.")
    columns = [Column("frame"), Column("time (s)", 3), Column("mean error (mm)", 1, heat=True), Column("worst joint"),
               Column("its error (mm)", 1)]  # fmt: skip
    page.table(columns, rows, links=addresses)


def _spacing(pose: PoseSequence) -> int:
    """Half a second in rows."""
    if pose.n_frames < 2:
        return 1
    return max(1, round(0.5 / float(np.median(np.diff(pose.times_s)))))


def worst_frames(frame_mm: Array, count: int, spacing: int) -> list[int]:
    """Rows with the largest values, at least ``spacing`` rows apart, largest first; NaN never counts."""
    left = np.where(np.isfinite(frame_mm), frame_mm, -np.inf)
    picked: list[int] = []
    while len(picked) < count and left.size and np.isfinite(left.max()):
        t = int(np.argmax(left))
        picked.append(t)
        left[max(0, t - spacing + 1) : t + spacing] = -np.inf
    return picked
