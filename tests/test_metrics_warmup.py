"""The warm-up compiles what the package calls, and a first number then comes soon."""

from __future__ import annotations

import subprocess
import sys

from egopose.kernels.warmup import warmup


def test_warm_up_reports_and_covers_the_calls() -> None:
    seen: list[tuple[float, str]] = []
    warmup(lambda share, what: seen.append((share, what)))
    shares = [share for share, _ in seen]
    assert shares == sorted(shares)
    assert seen[-1] == (1.0, "done")
    from egopose.kernels.procrustes import pa_frames
    from egopose.kernels.triangulation import robust_points

    known = len(pa_frames.signatures), len(robust_points.signatures)
    import numpy as np

    from egopose.metrics import pa_mpjpe

    a = np.random.default_rng(0).normal(size=(1500, 4, 3))
    for kind in (np.float32, np.float64):
        pa_mpjpe(a.astype(kind), a.astype(kind) + 1, np.ones((1500, 4), dtype=bool))
    # what may not be written, such as a mapped file, is nothing new to compile
    a.flags.writeable = False
    pa_mpjpe(a, a, np.broadcast_to(np.array(True), a.shape[:2]))
    assert (len(pa_frames.signatures), len(robust_points.signatures)) == known
    assert known[1] >= 1


def test_a_first_number_needs_no_compiler() -> None:
    code = (
        "import sys, time; s = time.perf_counter(); import numpy as np; own = time.perf_counter() - s;"
        "a = np.random.default_rng(0).normal(size=(100, 17, 3)); t = time.perf_counter();"
        "from egopose.metrics import mpjpe; x = mpjpe(a, a + 1, reduce='micro');"
        "print(time.perf_counter() - t, 'numba' in sys.modules, own)"
    )
    runs = [
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
        for _ in range(3)
    ]
    assert all(run[1] == "False" for run in runs)
    # a slow machine is slow with numpy too
    assert min(float(run[0]) for run in runs) < max(0.3, 3 * min(float(run[2]) for run in runs))
