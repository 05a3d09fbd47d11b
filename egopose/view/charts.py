"""Charts as SVG text, drawn without a plotting library so that a report costs no import and stays small."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike

from egopose.skeleton import FINGERS, Skeleton
from egopose.view.report_html import escape, finite, number, safe_link
from egopose.view.surroundings import nice_ceiling

PALETTE = ("#0b62a4", "#c2506b", "#1a7f4b", "#b07d00", "#7b4fb0", "#3b8fa3", "#8a5a2b", "#5a6675")
# dark blue to magenta to orange, as in the 3D page
_RAMP = ((13, 8, 135), (92, 1, 166), (156, 23, 158), (203, 70, 121), (237, 121, 83), (253, 174, 50))


def ramp_colour(share: float) -> str:
    """Colour of a value between 0 (dark blue) and 1 (orange)."""
    x = min(max(share, 0.0), 1.0) * (len(_RAMP) - 1)
    i = min(int(x), len(_RAMP) - 2)
    return "#" + "".join(f"{round(a + (x - i) * (b - a)):02x}" for a, b in zip(_RAMP[i], _RAMP[i + 1], strict=True))


def _svg(width: float, height: float, parts: Sequence[str], label: str) -> str:
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width:.0f}" height="{height:.0f}" '
        f'viewBox="0 0 {width:.0f} {height:.0f}" role="img" aria-label="{escape(label)}">{"".join(parts)}</svg>'
    )


def _text(x: float, y: float, text: Any, *, anchor: str = "start", soft: bool = False) -> str:
    kind = ' class="soft"' if soft else ""
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}"{kind}>{escape(text)}</text>'


def _ticks(low: float, high: float, most: int = 5) -> list[float]:
    step = nice_ceiling((high - low) / most)
    first = math.ceil(low / step - 1e-9)
    return [k * step for k in range(first, math.floor(high / step + 1e-9) + 1)]


def bars(
    labels: Sequence[str], values: Sequence[Any], *, unit: str, label: str, colours: Sequence[str] | None = None,
    width: float = 480, digits: int = 1, marks: Sequence[Any] | None = None,
) -> str:  # fmt: skip
    """Horizontal bars with their values; negative ones extend to the left of zero.

    Args:
        labels: One per bar.
        values: Numbers; None and NaN leave the place empty.
        unit: Of the values.
        label: What the chart shows, for readers that cannot see it.
        colours: One per bar.
        width: In pixels.
        digits: Decimals.
        marks: A second number per bar, drawn as a tick.
    """
    known = [finite(v) for v in values]
    seconds = [finite(v) for v in marks] if marks is not None else [None] * len(known)
    everything = [v for v in (*known, *seconds) if v is not None]
    low, high = min([0.0, *everything]), max([0.0, *everything])
    high = high if high > low else low + 1.0
    room = min(230.0, 7.4 * max((len(str(t)) for t in labels), default=4) + 18)
    span = width - room - 76
    X = lambda v: room + span * (v - low) / (high - low)  # noqa: E731
    parts = []
    for i, (name, value) in enumerate(zip(labels, known, strict=True)):
        y = 19 * i
        parts.append(_text(room - 8, y + 13.5, name, anchor="end"))
        if value is None:
            parts.append(_text(X(0) + 4, y + 13.5, "–", soft=True))
            continue
        colour = colours[i] if colours is not None else PALETTE[0]
        left, right = sorted((X(0), X(value)))
        parts.append(
            f'<rect x="{left:.1f}" y="{y + 3}" width="{max(right - left, 0.8):.1f}" height="13" fill="{colour}"/>'
        )
        end = right
        mark = seconds[i]
        if mark is not None:
            parts.append(f'<path d="M{X(mark):.1f} {y + 2}v15" stroke="#1c2430" stroke-width="1.6"/>')
            # the bar's value stands between bar and tick where there is room
            end = end if X(mark) - end > 62 else max(end, X(mark))
        parts.append(_text(end + 5, y + 13.5, number(value, digits, unit), soft=True))
    parts.append(f'<path d="M{X(0):.1f} 0v{19 * len(known)}" stroke="#b9c1cb"/>')
    return _svg(width, 19 * len(known) + 2, parts, label)


@dataclass(frozen=True)
class Line:
    """One curve: its name, (N,) x and y (NaN breaks it), and a colour."""

    name: str
    x: ArrayLike
    y: ArrayLike
    colour: str | None = None


def lines(
    curves: Sequence[Line], *, x_name: str, y_name: str, label: str, width: float = 560, height: float = 240,
    y_top: float | None = None, links: Sequence[tuple[float, float, str, str]] = (),
) -> str:  # fmt: skip
    """Curves over a common axis, thinned to what the width can show.

    Args:
        curves: The curves.
        x_name: Below the axis.
        y_name: Above the axis.
        label: What the chart shows, for readers that cannot see it.
        width: In pixels.
        height: In pixels.
        y_top: Upper end of the axis; from the data when None.
        links: Points (x, y, address, title) that can be clicked.
    """
    data = [(np.asarray(c.x, dtype=np.float64), np.asarray(c.y, dtype=np.float64)) for c in curves]
    xs = np.concatenate([x[np.isfinite(x)] for x, _ in data] or [np.zeros(0)])
    ys = np.concatenate([y[np.isfinite(y)] for _, y in data] or [np.zeros(0)])
    x0, x1 = (float(xs.min()), float(xs.max())) if xs.size else (0.0, 1.0)
    x1 = x1 if x1 > x0 else x0 + 1.0
    top = y_top if y_top is not None else (nice_ceiling(float(ys.max()) / 4) * 4 if ys.size and ys.max() > 0 else 1.0)
    left, right, above, below = 52.0, 14.0, 24.0, 40.0
    X = lambda v: left + (width - left - right) * (v - x0) / (x1 - x0)  # noqa: E731
    Y = lambda v: above + (height - above - below) * (1 - min(v, top) / top)  # noqa: E731
    parts = [_text(0, 12, y_name, soft=True), _text(width - right, height - 6, x_name, anchor="end", soft=True)]
    for tick in _ticks(0, top, 4):
        parts.append(f'<path d="M{left} {Y(tick):.1f}H{width - right}" stroke="#e3e7eb"/>')
        parts.append(_text(left - 6, Y(tick) + 4, f"{tick:g}", anchor="end", soft=True))
    for tick in _ticks(x0, x1, 6):
        parts.append(f'<path d="M{X(tick):.1f} {height - below}v4" stroke="#b9c1cb"/>')
        parts.append(_text(X(tick), height - below + 17, f"{tick:g}", anchor="middle", soft=True))
    for i, ((x, y), curve) in enumerate(zip(data, curves, strict=True)):
        colour = curve.colour or PALETTE[i % len(PALETTE)]
        parts.append(f'<path d="{_path(x, y, X, Y, width)}" fill="none" stroke="{colour}" stroke-width="1.5"/>')
    for px, py, address, title in links:
        parts.append(
            f'<a href="{escape(safe_link(address))}"><circle cx="{X(px):.1f}" cy="{Y(py):.1f}" r="5" fill="#fff" '
            f'stroke="#1c2430" stroke-width="1.5"><title>{escape(title)}</title></circle></a>'
        )
    if len(curves) > 1:
        lx, ly = left + 8, above + 12
        for i, curve in enumerate(curves):
            colour = curve.colour or PALETTE[i % len(PALETTE)]
            parts.append(f'<path d="M{lx:.0f} {ly - 4:.0f}h16" stroke="{colour}" stroke-width="3"/>')
            parts.append(_text(lx + 21, ly, curve.name))
            lx += 34 + 7.2 * len(curve.name)
            if lx > width - 120:
                lx, ly = left + 8, ly + 16
    return _svg(width, height, parts, label)


def _path(x: Any, y: Any, X: Any, Y: Any, width: float) -> str:
    """Path of one curve; where several points share a pixel column their highest is kept, so that peaks stay."""
    if x.size > 2 * width:
        cells = np.array_split(np.arange(x.size), int(2 * width))
        picks = [int(c[np.nanargmax(y[c])]) if np.isfinite(y[c]).any() else int(c[0]) for c in cells]
        x, y = x[picks], y[picks]
    out, pen = [], False
    for px, py in zip(x, y, strict=True):
        if not (math.isfinite(px) and math.isfinite(py)):
            pen = False
            continue
        out.append(f"{'L' if pen else 'M'}{X(px):.1f} {Y(py):.1f}")
        pen = True
    return "".join(out)


# places of joints in a figure that faces the reader, metres; the figure's left is at the reader's right
_HALF_BODY = {
    "eye": (0.035, 1.66), "ear": (0.085, 1.63), "shoulder": (0.20, 1.43), "elbow": (0.36, 1.18), "wrist": (0.50, 0.94),
    "hip": (0.12, 0.93), "knee": (0.14, 0.50), "ankle": (0.15, 0.08), "heel": (0.13, 0.02), "big_toe": (0.19, 0.0),
    "small_toe": (0.24, 0.01),
}  # fmt: skip
_MIDDLE = {"nose": (0.0, 1.62), "neck": (0.0, 1.45), "head": (0.0, 1.78), "mid_hip": (0.0, 0.93)}


def _hand_places(base: tuple[float, float], sign: float, size: float) -> dict[str, tuple[float, float]]:
    """A spread hand that hangs down from the wrist; the thumb points to the middle of the body."""
    places = {"wrist": base}
    for f, finger in enumerate(FINGERS):
        angle = math.radians((-52, -20, -3, 13, 30)[f]) * sign
        for k in range(1, 5):
            reach = size * ((0.16, 0.30, 0.41, 0.50)[k - 1] if f == 0 else (0.46, 0.66, 0.79, 0.90)[k - 1])
            reach *= (1, 0.97, 1.0, 0.95, 0.84)[f]
            places[f"{finger}_{k}"] = (base[0] + reach * math.sin(angle), base[1] - reach * math.cos(angle))
    return places


def figure_places(skeleton: Skeleton) -> dict[str, tuple[float, float]]:
    """Places (x, y) of the joints of a skeleton in a standing figure or an open hand; only joints that are known."""
    places = dict(_MIDDLE)
    for side, sign in (("left", 1.0), ("right", -1.0)):
        places.update({f"{side}_{part}": (sign * x, y) for part, (x, y) in _HALF_BODY.items()})
        wrist = (sign * 0.56, 0.86)
        hand = _hand_places(wrist, sign, 0.46)
        places.update({f"{side}_hand_{joint}": at for joint, at in hand.items()})
    if "wrist" in skeleton.joints and "index_4" in skeleton.joints:
        sign = -1.0 if skeleton.name.endswith("right") else 1.0
        places.update(_hand_places((0.0, 1.0), sign, 1.0))
    return {joint: places[joint] for joint in skeleton.joints if joint in places}


def skeleton_chart(
    skeleton: Skeleton, values: Mapping[str, Any], *, unit: str, label: str, top: float | None = None,
    height: float = 420, digits: int = 1,
) -> str:  # fmt: skip
    """A standing figure (or a hand) with one coloured dot per joint and the colour scale beside it.

    Args:
        skeleton: Which joints and bones.
        values: Number per joint name.
        unit: Of the values.
        label: What the chart shows, for readers that cannot see it.
        top: Upper end of the colour scale; from the values when None.
        height: In pixels.
        digits: Decimals of the titles that appear over a joint.

    Returns:
        SVG; empty text when no joint of the skeleton has a place in the figure.
    """
    places = figure_places(skeleton)
    if not places:
        return ""
    known = {joint: finite(values.get(joint)) for joint in places}
    finite_values = [v for v in known.values() if v is not None]
    top = top if top is not None else nice_ceiling(max(finite_values, default=1.0) or 1.0)
    P = np.array(list(places.values()))
    low, high = P.min(axis=0), P.max(axis=0)
    scale = min((height - 40) / max(high[1] - low[1], 1e-6), 420 / max(high[0] - low[0], 1e-6))
    width = scale * (high[0] - low[0]) + 40 + 110
    at = {j: (20 + scale * (x - low[0]), 20 + scale * (high[1] - y)) for j, (x, y) in places.items()}
    height = scale * (high[1] - low[1]) + 40
    parts = []
    for a, b in skeleton.bones:
        p, q = at.get(skeleton.joints[a]), at.get(skeleton.joints[b])
        if p and q:
            parts.append(f'<path d="M{p[0]:.1f} {p[1]:.1f}L{q[0]:.1f} {q[1]:.1f}" stroke="#c4cad2" stroke-width="2"/>')
    for joint, (x, y) in at.items():
        value = known[joint]
        fill = "#fff" if value is None else ramp_colour(value / top)
        small = joint.startswith(("left_hand_", "right_hand_"))
        parts.append(
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="{4.5 if small else 7.5}" fill="{fill}" stroke="#1c2430" '
            f'stroke-width="0.8"><title>{escape(joint)}: {number(value, digits, unit)}</title></circle>'
        )
    x, y0, y1 = width - 92, 28.0, height - 20
    n = 24
    for k in range(n):
        y = y1 - (y1 - y0) * (k + 1) / n
        cell, fill = (y1 - y0) / n + 0.6, ramp_colour(k / (n - 1))
        parts.append(f'<rect x="{x}" y="{y:.1f}" width="12" height="{cell:.1f}" fill="{fill}"/>')
    for share in (0.0, 0.5, 1.0):
        parts.append(_text(x + 18, y1 - (y1 - y0) * share + 4, f"{share * top:g} {unit}", soft=True))
    return _svg(width, height, parts, label)
