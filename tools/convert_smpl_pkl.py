"""Convert a pickled SMPL-family model file to the .npz that ``egopose.smpl`` reads.

Only plain numpy, scipy.sparse and chumpy array containers are rebuilt; anything else in the file is refused, so no
code from it runs. Usage: python tools/convert_smpl_pkl.py MODEL.pkl MODEL.npz
"""

from __future__ import annotations

import pickle
import sys
from pathlib import Path
from typing import Any

import numpy as np

from egopose.errors import EgoposeError
from egopose.files import atomic_path

_ALLOWED = {
    ("numpy", "ndarray"), ("numpy", "dtype"), ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"), ("numpy.core.multiarray", "scalar"),
    ("numpy._core.multiarray", "scalar"), ("scipy.sparse.csc", "csc_matrix"), ("scipy.sparse._csc", "csc_matrix"),
    ("scipy.sparse.csr", "csr_matrix"), ("scipy.sparse._csr", "csr_matrix"), ("_codecs", "encode"),
}  # fmt: skip


class _Chumpy:
    """Stands in for chumpy's array classes: keeps the state and never computes."""

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def array(self) -> np.ndarray:
        values = self.state
        if "x" in values:
            return np.asarray(values["x"])
        selected = values["a"].array() if isinstance(values["a"], _Chumpy) else np.asarray(values["a"])
        return selected.ravel()[np.asarray(values["idxs"])].reshape(values["preferred_shape"])


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if module.startswith("chumpy"):
            return _Chumpy
        if (module, name) in _ALLOWED:
            return super().find_class(module, name)
        raise EgoposeError(f"the file wants to build {module}.{name}; only arrays are accepted, nothing was run")


def main(source: str, target: str) -> int:
    with open(source, "rb") as stream:
        content = _Reader(stream, encoding="latin1").load()
    arrays = {}
    for key, value in content.items():
        if isinstance(value, _Chumpy):
            value = value.array()
        elif hasattr(value, "toarray"):
            value = value.toarray()
        if isinstance(value, np.ndarray) and value.dtype != object:
            arrays[key] = value
    with atomic_path(Path(target)) as temporary:
        np.savez(temporary, allow_pickle=False, **arrays)
    print(f"{target}: {', '.join(sorted(arrays))}")
    return 0


if __name__ == "__main__":
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    try:
        sys.exit(main(sys.argv[1], sys.argv[2]))
    except EgoposeError as error:
        sys.exit(f"error: {error}")
