"""Metrics as sums: update, merge, compute. Merging is exact whatever the sharding, because the sums are integers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from egopose.errors import EgoposeError
from egopose.metrics.arrays import Floats, Root, check_fps, check_pair, check_root, flat, read_ahead
from egopose.metrics.fast import CHUNK, flat_mask, over_chunks

METRICS = ("mpjpe", "root_mpjpe", "n_mpjpe", "pa_mpjpe", "rigid_mpjpe", "mpjve", "accel_error", "jitter")
"""Metrics of the fused pass; ``n_mpjpe`` is about the root when there is one."""

_ORDER = {"mpjve": 1, "accel_error": 2, "jitter": 3}
Counts = NDArray[np.int64]


@dataclass
class TakeSums:
    """What is kept of one take; everything is a sum of integers.

    Attributes:
        sums: (M, J, 4) distances in units of 2^-20, their rest in units of 2^-52, how many, how many not finite.
        frame_sums: (M, 4) the same for the means of frames.
        histogram: (H, J, S + 1) distances by threshold.
        fps: Frames per second.
        frames: Frames seen.
        expected: Joints that counted.
    """

    sums: Counts
    frame_sums: Counts
    histogram: Counts
    fps: float
    frames: int = 0
    expected: int = 0

    def add(self, other: TakeSums) -> None:
        """Add another part of the same take."""
        self.sums += other.sums
        self.frame_sums += other.frame_sums
        self.histogram += other.histogram
        self.frames += other.frames
        self.expected += other.expected


def exact(sums: Counts) -> Floats:
    """Distances (...) of sums (..., 4), rounded once."""
    # 2^32 low units are one high unit: carried, the parts are joined with a single rounding
    high = sums[..., 0] + (sums[..., 1] >> 32)
    low = sums[..., 1] & 0xFFFFFFFF
    return high.astype(np.float64) / 2.0**20 + low.astype(np.float64) / 2.0**52


@dataclass
class Accumulator:
    """Every metric of many takes, from one pass over their arrays.

    A frame that counts for nothing stays out of means. Distances that are not finite are counted and make the means
    NaN, unless :meth:`compute` is told to leave them out. Two accumulators of different shards add up (``a + b``) to
    exactly what one of all takes would hold; a take given in several parts loses the differences across its cuts.

    Args:
        joints: Number of joints.
        root: Joint index, or several whose mean is the root, for ``root_mpjpe`` and ``n_mpjpe``.
        lo: First threshold of the PCK curves, in the input's unit.
        hi: Last threshold.
        steps: Number of thresholds.

    Example:
        >>> import numpy as np
        >>> a = Accumulator(17)
        >>> target = np.random.default_rng(0).normal(size=(100, 17, 3))
        >>> a.update("take_1", target + [0.0, 0.03, 0.04], target)
        >>> round(a.compute()["mpjpe"]["micro"], 12)
        0.05
    """

    joints: int
    root: Root = None
    lo: float = 0.0
    hi: float = 0.15
    steps: int = 151
    takes: dict[str, TakeSums] = field(default_factory=dict)

    HISTOGRAMS = ("mpjpe", "pa_mpjpe")

    def __post_init__(self) -> None:
        if not 0 <= self.lo < self.hi or self.steps < 2:
            raise EgoposeError(f"thresholds from {self.lo} to {self.hi} in {self.steps} steps; expected 0 <= lo < hi")
        check_root(self.root, self.joints)

    @property
    def limits(self) -> Floats:
        """The thresholds (S,)."""
        return np.linspace(self.lo, self.hi, self.steps)

    def empty(self, fps: float) -> TakeSums:
        """Sums of nothing."""
        m, j = len(METRICS), self.joints
        return TakeSums(
            np.zeros((m, j, 4), np.int64),
            np.zeros((m, 4), np.int64),
            np.zeros((len(self.HISTOGRAMS), j, self.steps + 1), np.int64),
            fps,
        )

    def update(
        self,
        take: str,
        pred: ArrayLike,
        target: ArrayLike,
        valid: ArrayLike | None = None,
        *,
        fps: float = 1.0,
        threads: int | None = None,
        frames: Floats | None = None,
    ) -> None:
        """Add the consecutive frames of a take.

        Args:
            take: Its name; a second call with the same name adds to it.
            pred: (N, J, 3); memory-mapped files are read chunk by chunk, ahead of use.
            target: (N, J, 3).
            valid: (N, J) or None.
            fps: Frames per second, for the metrics of motion.
            threads: Chunks measured at a time; default: the cores. It never changes a result.
            frames: (M, N) float64 or None: gets the mean of each frame, per frame (not yet times the rate).

        Raises:
            EgoposeError: Shapes do not belong together, or the rate differs from the take's earlier parts.
        """
        p, t, mask = check_pair(pred, target, valid)
        if p.shape[1] != self.joints:
            raise EgoposeError(f"take {take!r} has {p.shape[1]} joints; expected {self.joints}")
        if frames is not None and frames.shape != (len(METRICS), len(p)):
            raise EgoposeError(f"frames has shape {frames.shape}; expected {(len(METRICS), len(p))}")
        new = self.empty(check_fps(fps))
        if take in self.takes and self.takes[take].fps != new.fps:
            raise EgoposeError(f"take {take!r} came with {self.takes[take].fps} frames per second, now with {new.fps}")
        for part in over_chunks(
            len(p), lambda start, stop: self._chunk(p, t, mask, start, stop, new.fps, frames), threads
        ):
            new.add(part)
        if take in self.takes:
            self.takes[take].add(new)
        else:
            self.takes[take] = new

    def _chunk(
        self,
        p: NDArray[Any],
        t: NDArray[Any],
        mask: NDArray[Any] | None,
        start: int,
        stop: int,
        fps: float,
        out: Floats | None,
    ) -> TakeSums:
        from egopose.kernels.fused import fused_frames
        from egopose.kernels.simd import LANES

        for array in (p, t):
            read_ahead(array, stop, min(stop + CHUNK, len(p)))
        begin = start - LANES if start else 0
        a, b = flat(p[begin:stop]), flat(t[begin:stop])
        v = flat_mask(mask, begin, stop)
        root = check_root(self.root, self.joints)
        roots = np.empty(0, np.int64) if root is None else root % self.joints
        part = self.empty(fps)
        which = np.array([METRICS.index(name) for name in self.HISTOGRAMS])
        bins = np.zeros((len(which), self.joints, self.steps + 2), np.int64)
        each = np.empty((len(METRICS), 0 if out is None else stop - begin))
        fused_frames(
            a, b, v, self.joints, 0, start - begin, stop - begin, roots, which, self.limits,
            part.sums, part.frame_sums, bins, each,
        )  # fmt: skip
        part.histogram += bins[:, :, :-1]
        if out is not None:
            out[:, start:stop] = each[:, start - begin :]
        part.frames = stop - start
        part.expected = int(part.sums[0, :, 2:].sum())
        return part

    def merge(self, other: Accumulator) -> None:
        """Add the sums of another accumulator of the same joints and thresholds.

        Raises:
            EgoposeError: It was made with other options.
        """
        mine, theirs = ((a.joints, str(a.root), a.lo, a.hi, a.steps) for a in (self, other))
        if mine != theirs:
            raise EgoposeError(f"accumulators of (joints, root, lo, hi, steps) {mine} and {theirs} do not add up")
        for name, sums in other.takes.items():
            new = self.takes.setdefault(name, self.empty(sums.fps))
            if new.fps != sums.fps:
                raise EgoposeError(f"take {name!r} has {new.fps} frames per second here and {sums.fps} there")
            new.add(sums)

    def __add__(self, other: Accumulator) -> Accumulator:
        both = Accumulator(self.joints, self.root, self.lo, self.hi, self.steps)
        both.merge(self)
        both.merge(other)
        return both

    def compute(self, takes: Sequence[str] | None = None, *, skip_not_finite: bool = False) -> dict[str, Any]:
        """Means of some takes or all.

        Args:
            takes: Their names.
            skip_not_finite: Leave out predictions that are not finite instead of answering NaN.

        Returns:
            By metric: ``micro`` (over joints), ``macro`` (over frames), ``takes`` (mean over takes of their micro),
            ``joint`` (J,), ``by_take`` {name: micro}, ``count`` and ``not_finite``; for metrics with a histogram also
            ``pck`` (S,) at ``limits`` and ``auc``. Beside them ``frames``, ``counted`` and ``limits``.

        Raises:
            EgoposeError: A take is not there.
        """
        # the order of names, not of arrival: floating point enters only after this
        names = sorted(self.takes) if takes is None else list(takes)
        missing = [name for name in names if name not in self.takes]
        if missing:
            raise EgoposeError(f"no take {missing[0]!r} among {len(self.takes)}")
        result: dict[str, Any] = {}
        for m, metric in enumerate(METRICS):
            order = _ORDER.get(metric, 0)
            joint, count = np.zeros(self.joints), np.zeros(self.joints, np.int64)
            bad = np.zeros(self.joints, np.int64)
            frame_total, frame_count, frame_bad = 0.0, 0, 0
            by_take: dict[str, float] = {}
            # takes with one rate are summed as integers first: the same whatever the sharding
            rates: dict[float, TakeSums] = {}
            for name in names:
                sums = self.takes[name]
                by_take[name] = _mean(sums.sums[m].sum(axis=0), skip_not_finite) * sums.fps**order
                rates.setdefault(sums.fps, self.empty(sums.fps)).add(sums)
            for fps in sorted(rates):
                part = rates[fps]
                joint = joint + exact(part.sums[m]) * fps**order
                count = count + part.sums[m, :, 2]
                bad = bad + part.sums[m, :, 3]
                frame_total += float(exact(part.frame_sums[m])) * fps**order
                frame_count += int(part.frame_sums[m, 2])
                frame_bad += int(part.frame_sums[m, 3])
            broken = np.zeros(self.joints, bool) if skip_not_finite else np.asarray(bad) > 0
            whole = float(joint.sum()) if len(rates) != 1 else float(exact(part.sums[m].sum(axis=0))) * fps**order
            values = [v for name, v in by_take.items() if self.takes[name].sums[m, :, 2:].any()]
            result[metric] = {
                "micro": _ratio(whole, int(count.sum()), bool(broken.any())),
                "macro": _ratio(frame_total, frame_count, frame_bad > 0 and not skip_not_finite),
                "takes": float(np.mean(values)) if values else float("nan"),
                "joint": np.array([_ratio(x, int(n), bool(b)) for x, n, b in zip(joint, count, broken)]),
                "by_take": by_take,
                "count": int(count.sum()),
                "not_finite": int(np.sum(bad)),
            }
        for h, metric in enumerate(self.HISTOGRAMS):
            total = sum((self.takes[name].histogram[h].sum(axis=0) for name in names), np.zeros(self.steps + 1, int))
            n = int(total.sum())
            curve = np.cumsum(total)[:-1] / n if n else np.full(self.steps, np.nan)
            result[metric]["pck"] = curve
            result[metric]["auc"] = float(((curve[1:] + curve[:-1]) / 2).mean())
        result["limits"] = self.limits
        result["frames"] = sum(self.takes[name].frames for name in names)
        result["counted"] = sum(self.takes[name].expected for name in names)
        return result


def _mean(sums: Counts, skip: bool) -> float:
    return _ratio(float(exact(sums)), int(sums[2]), bool(sums[3]) and not skip)


def _ratio(total: float, count: int, broken: bool) -> float:
    return float("nan") if broken or not count else total / count
