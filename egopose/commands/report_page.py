"""The HTML page of an evaluation, and the 3D page that its worst frames open."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

SUFFIXES = (".html", ".htm")


def write_evaluation_page(
    out: Path, result: Mapping[str, Any], *, title: str, files: tuple[Path, Path] | None = None, take: str | None = None
) -> list[Path]:
    """Write the page, the numbers as JSON beside it, and with ``files`` the 3D page of both sequences.

    Args:
        out: The page.
        result: What ``evaluate`` found.
        title: Heading.
        files: Prediction and reference, when both are 3D joints in one frame.
        take: Which take of the files.

    Returns:
        The files written.

    Raises:
        EgoposeError: A file cannot be read or written.
    """
    from egopose.view.metrics_report import write_metrics_report

    numbers = out.with_suffix(".json")
    if files is None:
        write_metrics_report(out, result, out_json=numbers, title=title)
        return [out, numbers]
    from egopose.commands.view import load_pose
    from egopose.view.scene import save_scene_page

    prediction, reference = (load_pose(file, take) for file in files)
    scene = out.with_name(f"{out.stem}_3d.html")
    save_scene_page(scene, prediction, against=reference, title=title)
    name = take or files[0].stem
    write_metrics_report(out, result, {name: (prediction, reference)}, out_json=numbers, viewer=scene, title=title)
    return [out, numbers, scene]
