"""What a check of a submission finds, and the checks that both tracks share."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from egopose.takes import Floats, locate

Severity = Literal["error", "warning", "note"]
MAX_LISTED = 10
"""Findings of one kind that are listed one by one; the rest is counted."""

V1_HINT = "the first release of takes.json lacks two of the hand test takes: use the metadata of the second release"


@dataclass(frozen=True)
class Finding:
    """One thing found.

    Attributes:
        severity: "error" would be refused or scored as garbage, "warning" deserves a look, "note" is for information.
        code: Short stable name.
        message: What, and what to do.
        take: Take uid, if it is about one.
        frame: Frame number, if it is about one.
    """

    severity: Severity
    code: str
    message: str
    take: str | None = None
    frame: int | None = None

    def __str__(self) -> str:
        place = (
            "" if self.take is None else f" take {self.take}" + ("" if self.frame is None else f", frame {self.frame}")
        )
        return f"{self.severity}:{place}{':' if place else ''} {self.message}"


@dataclass(frozen=True)
class Expected:
    """What an index asks for in one take.

    Attributes:
        take_name: Name, or None where the index has none.
        frames: (T,) frame numbers, or None where the index has takes only.
        hands: (T, 2) which hands are scored (:data:`~egopose.takes.SIDES`), or None.
        boxes: (T, 2, 4) hand boxes in pixels of the undistorted landscape image, or None.
        xyz: Ground truth of the same frames, or None.
    """

    take_name: str | None = None
    frames: NDArray[np.int64] | None = None
    hands: NDArray[np.bool_] | None = None
    boxes: Floats | None = None
    xyz: Floats | None = None


@dataclass
class Report:
    """All findings.

    Attributes:
        kind: "body" or "hand".
        findings: In the order found.
        counts: Findings by code (those that are not listed included) and sizes of the file.
    """

    kind: str
    findings: list[Finding] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """No error was found."""
        return all(finding.severity != "error" for finding in self.findings)

    def add(
        self, severity: Severity, code: str, message: str, take: str | None = None, frame: int | None = None
    ) -> None:
        """Add a finding; after :data:`MAX_LISTED` of one kind they are only counted."""
        self.counts[code] = self.counts.get(code, 0) + 1
        if self.counts[code] <= MAX_LISTED:
            self.findings.append(Finding(severity, code, message, take, frame))

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        return {
            "ok": self.ok,
            "kind": self.kind,
            "findings": [asdict(finding) for finding in self.findings],
            "counts": dict(self.counts),
        }

    def text(self) -> str:
        """Findings by severity, then the verdict."""
        order = {"error": 0, "warning": 1, "note": 2}
        lines = [str(finding) for finding in sorted(self.findings, key=lambda f: order[f.severity])]
        lines += [f"... {count} findings of the kind {code!r} in all" for code, count in self.counts.items()
                  if count > MAX_LISTED and any(f.code == code for f in self.findings)]  # fmt: skip
        errors = sum(finding.severity == "error" for finding in self.findings)
        warnings = sum(finding.severity == "warning" for finding in self.findings)
        verdict = "would be accepted" if self.ok else f"would be refused or scored wrongly ({errors} errors listed)"
        return "\n".join([*lines, f"{self.kind} submission: {verdict}; {warnings} warnings"])


def against_index(
    report: Report, uids: Iterable[str], index: Mapping[str, Expected], frames_of: Callable[[str], NDArray[np.int64]]
) -> None:
    """Takes and frames that are missing (errors) or superfluous (notes)."""
    have = set(uids)
    asked = {uid for uid, want in index.items() if want.hands is None or want.hands.any()}
    missing = [uid for uid in index if uid in asked and uid not in have]
    for uid in missing:
        report.add("error", "missing-take", "the index has this take, the submission does not", uid)
    if report.kind == "hand" and 1 <= len(missing) <= 2:
        report.add("note", "takes-release", V1_HINT)
    extra = [uid for uid in have if uid not in index]
    if extra:
        report.add(
            "warning", "extra-take", f"{len(extra)} takes are not in the index and will be ignored", sorted(extra)[0]
        )
    for uid, want in index.items():
        if uid not in have or want.frames is None or report.kind == "hand":
            continue
        absent = want.frames[locate(frames_of(uid), want.frames) < 0]
        if absent.size:
            report.add(
                "error", "missing-frame",
                f"{absent.size} of {want.frames.size} frames of the index are missing", uid, int(absent.min()),
            )  # fmt: skip
        more = int((locate(want.frames, frames_of(uid)) < 0).sum())
        if more:
            report.add("note", "extra-frame", f"{more} frames are not in the index and will be ignored", uid)


def not_finite(
    report: Report, uid: str, frames: NDArray[np.int64], xyz: Floats, names: tuple[str, ...], who: str
) -> None:
    bad: NDArray[np.bool_] = ~np.all(np.isfinite(xyz), axis=-1)
    if bad.any():
        t, j = np.argwhere(bad)[0]
        what = "infinity" if np.isinf(xyz[t, j]).any() else "NaN"
        report.add(
            "error", "not-finite",
            f"{who}{names[j]} is {what} ({int(bad.sum())} joints in {int(bad.any(1).sum())} frames): the official "
            "score becomes NaN or stops; predict every joint", uid, int(frames[t]),
        )  # fmt: skip


def unit_of(extent: float, usual: tuple[float, float]) -> str | None:
    """The unit that a size is in when it is not metres."""
    for unit, factor in (("centimetres", 100.0), ("millimetres", 1000.0)):
        if extent > usual[1] * 3 and usual[0] * factor <= extent <= usual[1] * factor:
            return unit
    return None


def size_findings(report: Report, extents: Floats, usual: tuple[float, float], what: str) -> bool:
    """Whether sizes are those of metres; a finding where they are not."""
    if not extents.size:
        return True
    median = float(np.median(extents))
    if usual[0] <= median <= usual[1]:
        return True
    unit = unit_of(median, usual)
    if unit:
        report.add("error", "unit", f"{what} spans {median:.4g} (median): this is in {unit}; metres are wanted")
    else:
        report.add("error", "unit", f"{what} spans {median:.4g} (median); {usual[0]} to {usual[1]} metres are expected")
    return False
