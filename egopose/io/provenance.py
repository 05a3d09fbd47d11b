"""Where values come from."""

from __future__ import annotations

import os
from typing import Any


def source(path: str | os.PathLike[str], format: str, **more: Any) -> dict[str, Any]:
    """The provenance of something read from a file."""
    return {"source": os.fspath(path), "format": format, **more}
