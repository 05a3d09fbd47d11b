"""Metrics against the speed of memory and against numpy's batched SVD: medians of interleaved runs in one process."""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from common import interleaved, markdown, put_table, store, stored

FAMILIES = ("plain", "far", "mirrored", "thin", "thinner", "float32 far", "few", "one", "two")


def svd_batch(pred: np.ndarray, target: np.ndarray) -> np.ndarray:
    """The usual batched fit: numpy SVD, scale from singular values, sign of the determinant; no masks."""
    tm, pm = target.mean(1, keepdims=True), pred.mean(1, keepdims=True)
    t, p = target - tm, pred - pm
    tn, pn = (np.sqrt((x**2).sum((1, 2), keepdims=True)) for x in (t, p))
    t, p = t / tn, p / pn
    U, s, Vt = np.linalg.svd(np.swapaxes(t, 1, 2) @ p)
    V = np.swapaxes(Vt, 1, 2)
    sign = np.sign(np.linalg.det(V @ np.swapaxes(U, 1, 2)))
    V[:, :, -1] *= sign[:, None]
    s[:, -1] *= sign
    R = V @ np.swapaxes(U, 1, 2)
    a = s.sum(1)[:, None, None] * tn / pn
    return np.linalg.norm(a * (pred @ R) + tm - a * (pm @ R) - target, axis=-1).mean(1)


def arrays(n: int, joints: int, kind: type) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    rng = np.random.default_rng(0)
    target = rng.normal(0, 0.4, (n, joints, 3)).astype(kind)
    pred = (target + rng.normal(0, 0.05, target.shape)).astype(kind)
    valid = rng.random((n, joints)) < 0.9
    pred[:: max(n // 50, 1), 3] = np.nan
    target[:: max(n // 70, 1), 5] = np.nan
    return pred, target, valid


def speed(n: int, joints: int, kind: type) -> dict[str, Any]:
    """Seconds of everything for one size and type."""
    from egopose.kernels.distance import distance_frames
    from egopose.kernels.procrustes import pa_frames
    from egopose.metrics.accumulate import Accumulator
    from egopose.metrics.fast import frame_sums

    pred, target, valid = arrays(n, joints, kind)
    p, t, v = pred.ravel(), target.ravel(), valid.view(np.uint8).ravel()
    none, nothing = np.empty(0, np.uint8), np.empty(0)
    total, count = np.empty(n), np.empty(n, np.int64)
    clean_p, clean_t = np.nan_to_num(pred), np.nan_to_num(target)

    def fused(threads: int) -> None:
        a = Accumulator(joints, root=0)
        a.update("t", pred, target, valid, threads=threads)

    functions = {
        "read": lambda: (p.sum(), t.sum()),
        "mpjpe": lambda: distance_frames(p, t, none, joints, 0, n, total, count),
        "mpjpe masked": lambda: distance_frames(p, t, v, joints, 0, n, total, count),
        "pa": lambda: pa_frames(p, t, none, joints, 0, n, True, total, count, nothing),
        "pa masked": lambda: pa_frames(p, t, v, joints, 0, n, True, total, count, nothing),
        "pa masked, 1 thread, in chunks": lambda: frame_sums(pred, target, valid, "pa", threads=1),
        "pa masked, 2 threads": lambda: frame_sums(pred, target, valid, "pa", threads=2),
        "fused": lambda: fused(1),
        "fused, 2 threads": lambda: fused(2),
        "svd batch": lambda: svd_batch(clean_p, clean_t),
    }
    with np.errstate(invalid="ignore"):
        seconds = interleaved(functions, rounds=7)
    return {"frames": n, "joints": joints, "type": np.dtype(kind).name, "seconds": seconds}


def stages(n: int = 200_000, joints: int = 17) -> dict[str, float]:
    """Nanoseconds per frame of each part of the aligned metric and of the fused pass, repeated on 512 frames."""
    import numba as nb

    from egopose.kernels import fused as f
    from egopose.kernels import fused_sums as g
    from egopose.kernels import procrustes as k
    from egopose.kernels.simd import LANES, splat
    from egopose.kernels.simd_memory import store

    width, frames = LANES, 512
    bins, rows = 152, f.M * (joints + 1)
    names = (
        "turn", "fit", "distances after the fit", "position errors", "motion errors", "two fits' errors",
        "means of frames", "sums", "histograms",
    )  # fmt: skip

    @nb.njit(error_model="numpy")
    def run(pred, target, valid, roots, which, limits, what, n):
        tile, may, use = np.zeros(12 * joints * width), np.zeros(2 * joints, np.uint8), np.zeros(2 * joints, np.uint8)
        state, out, e = np.zeros(k.STATE * width), np.zeros(joints * width), np.zeros(rows * width)
        kinds, counts = np.zeros(joints, np.uint8), np.zeros(f.KINDS * (joints + 1), np.int64)
        totals, acc = np.zeros((f.M + f.KINDS) * width), np.zeros(rows * width, np.int64)
        found, index = np.zeros(2 * joints * bins, np.uint16), np.zeros(joints * width, np.int32)
        for slot in range(2):
            k.fill(pred, target, valid, joints, 0, frames, tile, may, slot)
            k.fit_tile(tile, may, slot, joints, use, state)
        rooted = f._plain(tile, 0, joints, roots, use, state, e, totals)
        f._both_residuals(tile, 0, joints, use, state, e, totals)
        seen = splat(0.0)
        for frame in range(0, n, width):
            if what == 0:
                k.fill(pred, target, valid, joints, frame % frames, frames, tile, may, 0)
            elif what == 1:
                k.fit_tile(tile, may, 0, joints, use, state)
            elif what == 2:
                seen = seen + k.residuals_tile(tile, 0, use, joints, state, True, False, out)
            elif what == 3:
                f._plain(tile, 0, joints, roots, use, state, e, totals)
            elif what == 4:
                f._moving(tile, 0, joints, rooted, use, kinds, counts, e, totals)
            elif what == 5:
                f._both_residuals(tile, 0, joints, use, state, e, totals)
            elif what == 6:
                g.means(joints, e, totals, counts)
            elif what == 7:
                g.add_rows(rows, e, acc)
            else:
                g.count_tile(e, joints, which, limits, index, found)
        store(out, 0, seen)
        return out[0]

    pred, target, valid = arrays(frames, joints, np.float32)
    p, t, v = np.nan_to_num(pred).ravel(), target.ravel(), valid.view(np.uint8).ravel()
    options = np.array([0]), np.array([0, 3]), np.linspace(0, 0.15, bins - 1)
    found = interleaved({name: (lambda i=i: run(p, t, v, *options, i, n)) for i, name in enumerate(names)})
    return {name: round(seconds / n * 1e9, 1) for name, seconds in found.items()}


def accuracy() -> dict[str, float]:
    """Largest difference of the least root mean square from 60 digits, metres, by family over J = 5, 17, 21, 59."""
    sys.path.insert(0, str(Path(__file__).resolve().parent.parent))
    from tests.metric_oracles import mp_residual
    from tests.test_metrics_kernels import family, kernel

    worst: dict[str, float] = {}
    for name in FAMILIES:
        for joints in (5, 17, 21, 59):
            pred, target, valid = family(name, 3, joints, seed=joints)
            for scale in (True, False):
                each = kernel(pred, target, valid, scale)[2]
                for i in range(len(pred)):
                    use = valid[i]
                    got = np.sqrt((each[i] ** 2).sum() / use.sum())
                    worst[name] = max(worst.get(name, 0.0), abs(got - mp_residual(pred[i, use], target[i, use], scale)))
    return worst


def mapped(frames: int = 1_000_000) -> dict[str, float]:
    """Seconds of the fused pass over two float32 files, memory-mapped, with the cores there are."""
    from egopose.metrics.accumulate import Accumulator

    rng = np.random.default_rng(0)
    with tempfile.TemporaryDirectory() as folder:
        paths = [Path(folder) / name for name in ("p.npy", "t.npy")]
        block = rng.normal(0, 0.4, (50_000, 17, 3)).astype(np.float32)
        for path in paths:
            out = np.lib.format.open_memmap(path, "w+", np.float32, (frames, 17, 3))
            for start in range(0, frames, len(block)):
                out[start : start + len(block)] = block + rng.normal(0, 0.02, block.shape).astype(np.float32)
            out.flush()
            del out
        times = []
        for _ in range(5):
            p, t = (np.load(path, mmap_mode="r") for path in paths)
            start_s = time.perf_counter()
            a = Accumulator(17, root=0)
            a.update("t", p, t)
            times.append(time.perf_counter() - start_s)
    return {"frames": frames, "seconds": statistics.median(times)}


def start_up() -> dict[str, float]:
    """Milliseconds in a fresh process from numpy imported to the first number of 100 frames."""
    code = (
        "import numpy as np, time; a = np.random.default_rng(0).normal(size=(100, 17, 3)); t = time.perf_counter();"
        "from egopose.metrics import mpjpe, pa_mpjpe; mpjpe(a, a + 1, reduce='micro'); u = time.perf_counter();"
        "pa_mpjpe(a, a + 1); print(u - t, time.perf_counter() - t)"
    )
    runs = [subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True) for _ in range(7)]
    both = np.array([[float(x) for x in run.stdout.split()] for run in runs])
    first, second = np.median(both, axis=0) * 1000
    return {"mpjpe_ms": float(first), "mpjpe_and_pa_mpjpe_ms": float(second)}


def measure(frames: int, only: str | None) -> None:
    """Measure all parts, or one of them beside what is stored; the sizes are parts too, such as "17 float32"."""
    sizes = [(frames, 17, np.float32), (frames // 2, 17, np.float64), (frames // 4, 59, np.float32)]
    sizes += [(frames // 8, 59, np.float64), (frames // 2, 21, np.float32)]
    parts = {"stages_ns": stages, "accuracy_m": accuracy, "mapped": mapped, "start_up": start_up}
    names = [f"{joints} {kind.__name__}" for _, joints, kind in sizes]
    if only is not None and only not in (*names, *parts):
        raise SystemExit(f"--only is one of {', '.join((*names, *parts))}")
    result = {} if only is None else stored("metrics")
    result.pop("machine", None)
    old = {f"{row['joints']} {row['type']}": row for row in result.get("speed", [])}
    rows = [speed(*size) if only in (None, name) else old.get(name) for name, size in zip(names, sizes)]
    result["speed"] = [row for row in rows if row is not None]
    result |= {name: part() for name, part in parts.items() if only in (None, name)}
    store("metrics", result)


def tables() -> None:
    found = stored("metrics")
    rows = []
    for size in found["speed"]:
        s = size["seconds"]
        read, n = s["read"], size["frames"]
        kind = f"{size['joints']} {size['type']}"
        pa, one = s["pa masked"], s["pa masked, 1 thread, in chunks"]
        rows.append([
            kind, f"{n / read / 1e6:.1f}", f"{read / s['mpjpe']:.0%}", f"{read / s['mpjpe masked']:.0%}",
            f"{n / pa / 1e6:.1f}", f"{pa / read:.1f}",
            f"{s['svd batch'] / pa:.0f}x", f"{one / s['pa masked, 2 threads']:.2f}", f"{s['fused'] / one:.1f}",
            f"{s['fused'] / s['fused, 2 threads']:.2f}",
        ])  # fmt: skip
    header = [
        "joints, type", "read, million frames/s", "MPJPE, share of read", "the same masked",
        "PA-MPJPE masked, million frames/s",
        "PA over read", "PA against batched SVD", "PA, two threads", "fused over PA", "fused, two threads",
    ]  # fmt: skip
    put_table("metrics.md", "metrics-speed", markdown(header, rows))
    small = [[name, f"{value:.1e}"] for name, value in found["accuracy_m"].items()]
    put_table("metrics.md", "metrics-accuracy", markdown(["family", "largest difference from 60 digits, m"], small))
    m = found["mapped"]
    rate = m["frames"] / m["seconds"]
    rest = [[f"{name}, ns per frame (J = 17, float32)", value] for name, value in found["stages_ns"].items()]
    rest += [
        ["fused pass over mapped float32 files, million frames/s", f"{rate / 1e6:.1f}"],
        [f"14 million frames at that rate (extrapolated from {m['frames']:,}), s", f"{14e6 / rate:.1f}"],
        ["first mpjpe of 100 frames in a fresh process, beyond numpy, ms", f"{found['start_up']['mpjpe_ms']:.0f}"],
    ]
    put_table("metrics.md", "metrics-rest", markdown(["measure", "value"], rest))


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--tables-only", action="store_true")
    parser.add_argument("--frames", type=int, default=1_000_000)
    parser.add_argument("--only", help="one part, beside the stored ones")
    args = parser.parse_args()
    if not args.tables_only:
        measure(args.frames, args.only)
    tables()
