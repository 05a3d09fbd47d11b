"""``egopose info``: what an Ego-Exo4D folder holds, take by take, and what it lacks."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro

from egopose.commands.output import Progress, emit, progress_bar


def run_info(
    root: str | Path, takes: tuple[str, ...] = (), *, cache: Path | None = None, progress: Progress | None = None
) -> dict[str, Any]:
    """The overview of a dataset folder; annotations are indexed on the way.

    Args:
        root: The folder of ``egoexo -o``, or a stand-in.
        takes: Uids or names; empty = all.
        cache: Folder of the columns; None = the user's cache folder.
        progress: Called with the share done and what is going on.

    Raises:
        EgoposeError: No dataset there, or no such take.
    """
    from egopose.ego_exo4d import EgoExo4D
    from egopose.ego_exo4d.overview import overview

    data = EgoExo4D(root, cache=cache)
    if not takes:
        data.update(None if progress is None else lambda share, what: progress(0.8 * share, what))
    return overview(data, takes, None if progress is None else lambda share, what: progress(0.8 + 0.2 * share, what))


def info(
    root: tyro.conf.Positional[Path],
    *,
    takes: tuple[str, ...] = (),
    cache: Path | None = None,
    limit: int = 20,
    json: bool = False,
) -> None:
    """Show what an Ego-Exo4D folder holds: frames, joints, hands, cameras and gaps per take, and what is missing.

    Args:
        root: The folder that egoexo -o wrote, or a stand-in.
        takes: Only these takes, by uid or name.
        cache: Folder for the parsed annotations; by default the user's cache folder.
        limit: Takes to list.
        json: Print one JSON object with every take.
    """
    from egopose.ego_exo4d.overview import overview_text

    with progress_bar("read", quiet=json) as progress:
        result = run_info(root, takes, cache=cache, progress=progress)
    emit(result, overview_text(result, limit), json)
