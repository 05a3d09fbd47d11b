"""``egopose train``: train the network from a YAML file, in pieces if need be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import tyro

from egopose.commands.output import emit
from egopose.config import load_config
from egopose.errors import EgoposeError


def run_train(config: str | Path, resume: bool = True, **overrides: Any) -> dict[str, Any]:
    """Train from a settings file or preset.

    Args:
        config: YAML file or preset name.
        resume: Continue from the checkpoint in the output folder.
        overrides: Settings that win over the file; ``until`` and ``max_seconds`` stop early.

    Raises:
        EgoposeError: See :func:`egopose.train.stages.run_training`.
    """
    from egopose.train.config import TrainConfig
    from egopose.train.stages import run_training

    stop = {key: overrides.pop(key, None) for key in ("until", "max_seconds")}
    settings = load_config(TrainConfig, config, **overrides)
    try:
        return run_training(settings, resume=resume, **stop)
    except OSError as error:
        raise EgoposeError(
            f"{error.filename or settings.out}: cannot write ({error.strerror or error}); choose a place with room"
        ) from error
    except RuntimeError as error:
        # torch says so when a disk is full
        if "PytorchStreamWriter" not in str(error) and "inline_container" not in str(error):
            raise
        raise EgoposeError(f"{settings.out}: the checkpoint cannot be written; is there room on the disk?") from error


def train(
    config: tyro.conf.Positional[str],
    *,
    out: Path | None = None,
    resume: bool = True,
    until: int | None = None,
    max_seconds: float | None = None,
    device: str | None = None,
    json: bool = False,
) -> None:
    """Train the network; start several processes with torchrun to share the work.

    Args:
        config: YAML file, or the name of a preset.
        out: Folder of checkpoints and log, over the one in the file.
        resume: Continue from the checkpoint in that folder; without it the training starts over.
        until: Stop after this step.
        max_seconds: Stop after this much time, with a checkpoint.
        device: "cpu", "cuda" or "auto", over the one in the file.
        json: Print one JSON object.
    """
    overrides: dict[str, Any] = {"until": until, "max_seconds": max_seconds}
    if out is not None:
        overrides["out"] = str(out)
    if device is not None:
        overrides["device"] = device
    result = run_train(config, resume, **overrides)
    text = (
        f"step {result['step']} of {result['steps']} after {result['seconds']} s of training, best held-out score "
        f"{result['best']:.3f}; files in {result['out']}"
    )
    emit(result, text, json)
