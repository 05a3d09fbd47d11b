"""``egopose synth``: render first-person clips with labels."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from egopose.commands.output import emit, progress_bar
from egopose.config import load_config


def run_synth(
    config: str | Path,
    out: str | Path,
    *,
    shard: int = 0,
    shards: int = 1,
    progress: Callable[[float, str], None] | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Render the clips of a settings file that are not there yet.

    Args:
        config: YAML file or preset name ("synth").
        out: Folder of the clips.
        shard: This process's share of the work, from 0.
        shards: Number of shares.
        progress: Called with the share done and what is going on.
        overrides: Settings that win over the file.

    Returns:
        What :func:`egopose.train.synthetic.dataset.build` returns, and ``preview``: a sheet of the first clips with
        their joints.

    Raises:
        EgoposeError: See :func:`egopose.train.synthetic.dataset.build`.
    """
    from egopose.train.rendered_files import load_rendered
    from egopose.train.synthetic.dataset import SynthConfig, build
    from egopose.train.synthetic.preview import contact_sheet

    settings = load_config(SynthConfig, config, **overrides)
    result = build(settings, out, shard=shard, shards=shards, progress=progress)
    sheet = Path(out) / "preview.png"
    if settings.content == "clips" and shard == 0 and (result["rendered"] or not sheet.exists()):
        contact_sheet(load_rendered(out, first=6), sheet)
    return {**result, "preview": str(sheet) if sheet.exists() else None}


def synth(
    config: tyro.conf.Positional[str],
    *,
    out: Path,
    motion: tuple[str, ...] | None = None,
    clips: int | None = None,
    seed: int | None = None,
    shard: int = 0,
    shards: int = 1,
    json: bool = False,
) -> None:
    """Render first-person clips with labels; started again, it goes on where it stopped.

    Args:
        config: YAML file, or "synth" for the preset.
        out: Folder of the clips.
        motion: npz files of captured motion, over those in the file.
        clips: Number of clips, over the one in the file.
        seed: Seed, over the one in the file.
        shard: This process's share of the work, from 0.
        shards: Number of processes that share the work.
        json: Print one JSON object.
    """
    given = {"motion": motion, "clips": clips, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    with progress_bar("render", quiet=json) as progress:
        result = run_synth(config, out, shard=shard, shards=shards, progress=progress, **overrides)
    text = (
        f"{result['rendered']} clips rendered, {result['clips'] - result['rendered']} were there; "
        f"{result['frames_per_s']:.1f} images/s; {result['folder']}"
    )
    if result["preview"]:
        text += f"; a look at some: {result['preview']}"
    emit(result, text, json)
