"""Memory-mapped files that are larger than the memory a process may have."""

from __future__ import annotations

import json
import subprocess
import sys

import numpy as np
import pytest

from egopose import metrics as m
from egopose.metrics.accumulate import Accumulator

FRAMES, JOINTS, REPEATS = 20_000, 17, 50
"""A block of frames and how often it stands in a file: 204 MB of float32 each."""

CODE = """
import json, resource, sys
import numpy as np
from egopose import metrics as m
from egopose.metrics.accumulate import Accumulator

def data():
    return next(int(line.split()[1]) * 1024 for line in open("/proc/self/status") if line.startswith("VmData"))

small = np.random.default_rng(0).normal(size=(20_000, 17, 3)).astype(np.float32)
Accumulator(17, root=0).update("warm", small, small)
m.mpjpe(small, small), m.pa_mpjpe(small, small)
del small
pred, target = (np.load(path, mmap_mode="r") for path in sys.argv[1:])
limit = data() + 120_000_000
resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
try:
    np.array(pred)
except MemoryError:
    refused = True
else:
    refused = False
a = Accumulator(17, root=0)
a.update("take", pred, target)
found = a.compute()
print(json.dumps({
    "refused": refused,
    "bytes": pred.nbytes,
    "fused": {name: found[name]["micro"] for name in ("mpjpe", "root_mpjpe", "n_mpjpe", "pa_mpjpe", "rigid_mpjpe")},
    "mpjpe": m.mpjpe(pred, target, reduce="micro"),
    "pa_mpjpe": m.pa_mpjpe(pred, target, reduce="micro"),
}))
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits of memory are Linux's")
def test_files_larger_than_the_memory_allowed(tmp_path) -> None:
    rng = np.random.default_rng(0)
    target = rng.normal(0, 0.4, (FRAMES, JOINTS, 3)).astype(np.float32)
    pred = target + rng.normal(0, 0.05, target.shape).astype(np.float32)
    paths = [tmp_path / "pred.npy", tmp_path / "target.npy"]
    for path, block in zip(paths, (pred, target)):
        out = np.lib.format.open_memmap(path, "w+", np.float32, (FRAMES * REPEATS, JOINTS, 3))
        for i in range(REPEATS):
            out[i * FRAMES : (i + 1) * FRAMES] = block
        del out
    try:
        run = subprocess.run([sys.executable, "-c", CODE, *map(str, paths)], capture_output=True, text=True)
    finally:
        for path in paths:
            path.unlink()
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    # the limit holds: one file does not fit into it
    assert found["refused"]
    assert found["bytes"] > 200e6
    a = Accumulator(JOINTS, root=0)
    a.update("block", pred, target)
    one = a.compute()
    for name, value in found["fused"].items():
        assert value == pytest.approx(one[name]["micro"], rel=1e-14), name
    assert found["mpjpe"] == pytest.approx(m.mpjpe(pred, target, reduce="micro"), rel=1e-12)
    assert found["pa_mpjpe"] == pytest.approx(m.pa_mpjpe(pred, target, reduce="micro"), rel=1e-12)
