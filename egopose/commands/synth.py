"""``egopose synth``: render first-person clips with labels."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import tyro

from egopose.commands.output import emit, progress_bar
from egopose.config import load_config
from egopose.errors import EgoposeError
from egopose.pools import Engine, open_pool, work_in
from egopose.shard import Shard, run_shards


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


def render_share(
    config: str, out: str, overrides: dict[str, Any], shard: int, shards: int, folder: str
) -> dict[str, Any]:
    """Job: one share of the clips, as :func:`egopose.train.synthetic.dataset.build`; relative paths start in folder."""
    from egopose.train.synthetic.dataset import SynthConfig, build

    work_in(folder)
    return build(load_config(SynthConfig, config, **overrides), out, shard=shard, shards=shards)


def run_synth_shared(
    config: str | Path,
    out: str | Path,
    *,
    engine: Engine = "processes",
    scheduler: str | None = None,
    workers: int | None = None,
    progress: Callable[[float, str], None] | None = None,
    **overrides: Any,
) -> dict[str, Any]:
    """Render clips over processes or a Dask cluster; the clips are those of :func:`run_synth`, bit for bit.

    Args:
        config: YAML file or preset name; workers of a cluster must see the files it names, and ``out``.
        out: Folder of the clips.
        engine: "processes" or "dask".
        scheduler: Address, for dask.
        workers: Processes, for processes; None: one per core.
        progress: Called with the share done and what is going on.
        overrides: Settings that win over the file.

    Raises:
        EgoposeError: See :func:`run_synth`; or a share failed for good, after the others were rendered.
    """
    from egopose.train.synthetic.dataset import SynthConfig, prepare

    settings = load_config(SynthConfig, config, **overrides)
    # once, here: the shares would race for it
    prepare(Path(out), settings)
    start = time.perf_counter()
    # a few shares per worker: a lost one costs little, and the last ones fill up
    shares = min(settings.clips, 4 * (workers or os.cpu_count() or 1) if engine == "processes" else 64)
    fixed = {"config": str(config), "out": str(out), "overrides": overrides, "shards": shares, "folder": os.getcwd()}
    work = [Shard(f"share {k}", {**fixed, "shard": k}) for k in range(shares)]
    with open_pool(engine, scheduler, workers, shares) as pool:
        outcomes = run_shards(render_share, work, executor=pool, workers=workers, progress=progress)
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    if failed:
        raise EgoposeError(
            f"{len(failed)} of {shares} shares failed, the first with: {failed[0].error}; run it again to go on"
        )
    seconds = time.perf_counter() - start
    total = {name: sum(outcome.result[name] for outcome in outcomes) for name in ("rendered", "frames")}
    # nothing is left to render; this makes the sheet of the first clips
    here = run_synth(config, out, **overrides)
    return {**here, **total, "seconds": seconds, "frames_per_s": total["frames"] / seconds}


def synth(
    config: tyro.conf.Positional[str],
    *,
    out: Path,
    motion: tuple[str, ...] | None = None,
    clips: int | None = None,
    seed: int | None = None,
    shard: int = 0,
    shards: int = 1,
    workers: int | None = None,
    engine: Engine = "processes",
    scheduler: str | None = None,
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
        shards: Number of processes, started by hand, that share the work.
        workers: Render over this many processes, started here.
        engine: processes, or dask for an existing Dask cluster.
        scheduler: Address of the Dask scheduler, such as tcp://127.0.0.1:8786.
        json: Print one JSON object.
    """
    given = {"motion": motion, "clips": clips, "seed": seed}
    overrides = {key: value for key, value in given.items() if value is not None}
    shared = workers is not None or engine != "processes" or scheduler is not None
    if shared and shards != 1:
        raise EgoposeError("--shards belongs to processes started by hand; leave it out with --workers or --engine")
    with progress_bar("render", quiet=json) as progress:
        if shared:
            result = run_synth_shared(
                config, out, engine=engine, scheduler=scheduler, workers=workers, progress=progress, **overrides
            )
        else:
            result = run_synth(config, out, shard=shard, shards=shards, progress=progress, **overrides)
    text = (
        f"{result['rendered']} clips rendered, {result['clips'] - result['rendered']} were there; "
        f"{result['frames_per_s']:.1f} images/s; {result['folder']}"
    )
    if result["preview"]:
        text += f"; a look at some: {result['preview']}"
    emit(result, text, json)
