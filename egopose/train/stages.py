"""A run from its settings: data, source, start values, held-out scores, distributed processes."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import torch

from egopose.errors import EgoposeError
from egopose.model.network import EgoPoseNet
from egopose.train.config import TrainConfig
from egopose.train.loop import Ema, Trainer
from egopose.train.motion import MotionSource
from egopose.train.prior import set_priors
from egopose.train.windows import MotionClip, load_motion

if TYPE_CHECKING:
    from egopose.train.rendered import RenderedClip

GENERATED = "generated"
"""Subject of motion that nobody performed."""

PRIOR_BATCHES = 20
PRIOR_STEP = 10**6
"""Batches of steps beyond any run give the start values."""


@contextlib.contextmanager
def process_group(device: str) -> Iterator[int]:
    """Join the other processes when started by torchrun; gives this process's rank."""
    world = int(os.environ.get("WORLD_SIZE", "1"))
    if world == 1:
        yield 0
        return
    backend = "nccl" if device != "cpu" and torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend)
    try:
        yield torch.distributed.get_rank()
    finally:
        torch.distributed.destroy_process_group()


def motion_clips(paths: tuple[str, ...]) -> list[MotionClip]:
    """All clips of some files."""
    return [clip for path in paths for clip in load_motion(path)]


def check_rendered_subjects(train: set[str], held_out: set[str]) -> None:
    """Refuse held-out images whose motion is trained on.

    Raises:
        EgoposeError: A subject is on both sides.
    """
    both = train & held_out - {GENERATED}
    if both:
        raise EgoposeError(f"held-out rendered clips show {', '.join(sorted(both))}, who are trained on")


def rendered_clips(config: TrainConfig) -> tuple[list[RenderedClip], list[RenderedClip]]:
    """Rendered clips to train on and held-out ones.

    Raises:
        EgoposeError: A folder is not usable, or a held-out subject is trained on.
    """
    from egopose.train.decoys import with_decoys
    from egopose.train.rendered_files import load_folders

    clips = load_folders(config.rendered)
    if config.decoys is not None:
        clips = with_decoys(clips, config.decoys)
    held = load_folders(config.held_out_rendered)
    check_rendered_subjects({c.subject for c in clips}, {c.subject for c in held})
    return clips, held


def single_clips(config: TrainConfig, held: Sequence[RenderedClip]) -> list[RenderedClip]:
    """Rendered clips of which only single frames are learnt.

    Args:
        config: Settings.
        held: Held-out clips.

    Raises:
        EgoposeError: A folder is not usable, or shows a held-out subject.
    """
    from egopose.train.rendered_files import load_folders

    clips = load_folders(config.single)
    check_rendered_subjects({clip.subject for clip in clips}, {clip.subject for clip in held})
    return clips


def build_trainer(config: TrainConfig, *, rank: int = 0) -> Trainer:
    """Data, source, network and evaluation of a stage.

    Raises:
        EgoposeError: Data are missing, or a held-out subject is trained on.
    """
    from egopose.train.evaluate import check_subjects, held_out_scores

    motion = motion_clips(config.motion)
    held_out = motion_clips(config.held_out_motion)
    check_subjects(motion, held_out)
    motion_source = MotionSource(motion, config, rank=rank) if motion else None
    source: Any = motion_source

    def motion_scores(model: EgoPoseNet) -> dict[str, float]:
        return {f"motion_{k}": v for k, v in held_out_scores(model, held_out).items()} if held_out else {}

    if config.stage == "motion":
        if motion_source is None:
            raise EgoposeError("stage 'motion' needs motion: a list of npz files of head poses and joints")

        def evaluate(model: EgoPoseNet) -> dict[str, float]:
            return held_out_scores(model, held_out)
    elif config.stage == "hands":
        from egopose.train.crops import CropSource, crop_scores, load_crops

        crops, held_crops = load_crops(config.crops), load_crops(config.held_out_crops)
        check_rendered_subjects(crops.subjects, held_crops.subjects)
        source = CropSource(crops, config, rank=rank)

        def evaluate(model: EgoPoseNet) -> dict[str, float]:
            return crop_scores(model, held_crops)
    elif config.stage == "frames":
        from egopose.train.frames import FrameSource, finder_scores, shown_scores

        clips, held_clips = rendered_clips(config)
        source = FrameSource([*clips, *single_clips(config, held_clips)], config, rank=rank)

        def evaluate(model: EgoPoseNet) -> dict[str, float]:
            return {**finder_scores(model, held_clips), **shown_scores(model, held_clips)}
    elif config.stage == "join":
        from egopose.model.weights import load_weights
        from egopose.train.remembered import RememberedSource
        from egopose.train.rendered import MixedSource
        from egopose.train.rendered_scores import rendered_scores

        if config.remembered is None:
            raise EgoposeError(
                "stage 'join' needs remembered: a folder of what was found in the images of the rendered clips; "
                "tools/train_default.py makes one (egopose.train.remembered.remember)"
            )
        clips, held_clips = rendered_clips(config)
        weights = load_weights(config.init, expect=config.model).sha256 if config.init else None
        windows = RememberedSource(clips, config, config.remembered, weights=weights, rank=rank)
        source = MixedSource(windows, (motion_source, config.motion_every))

        def evaluate(model: EgoPoseNet) -> dict[str, float]:
            return {**rendered_scores(model, held_clips), **motion_scores(model)}
    else:
        from egopose.train.crops import CropSource, load_crops
        from egopose.train.frames import FrameSource, finder_scores, shown_scores
        from egopose.train.rendered import MixedSource, RenderedSource
        from egopose.train.rendered_scores import rendered_scores

        clips, held_clips = rendered_clips(config)
        hands = CropSource(load_crops(config.crops), config, rank=rank) if config.crops else None
        single = None
        if config.frames_every:
            single = FrameSource([*clips, *single_clips(config, held_clips)], config, rank=rank)
        source = MixedSource(
            RenderedSource(clips, config, rank=rank),
            (motion_source, config.motion_every), (hands, config.crops_every), (single, config.frames_every),
        )  # fmt: skip

        def evaluate(model: EgoPoseNet) -> dict[str, float]:
            scores = rendered_scores(model, held_clips)
            finder = finder_scores(model, held_clips)
            scores.update({f"finder_{k}": v for k, v in finder.items() if k != "score"})
            scores.update(shown_scores(model, held_clips))
            scores.update(motion_scores(model))
            return scores

    scored = {"motion": config.held_out_motion, "hands": config.held_out_crops}
    has_held_out = bool(scored.get(config.stage, config.held_out_rendered))
    trainer = Trainer(config, source, evaluate=evaluate if has_held_out else None)
    if motion_source is not None and not config.init:
        set_priors(trainer.model, (motion_source.batch(PRIOR_STEP + i) for i in range(PRIOR_BATCHES)))
        trainer.ema = Ema(trainer.model, config.ema)
    return trainer


def run_training(
    config: TrainConfig, *, resume: bool = True, until: int | None = None, max_seconds: float | None = None
) -> dict[str, Any]:
    """Train a stage, alone or as one of torchrun's processes.

    Args:
        config: Settings.
        resume: Continue from the checkpoint in the output folder when there is one.
        until: Stop after this step.
        max_seconds: Stop after this much time; a checkpoint is written.

    Returns:
        ``step``, ``steps``, ``seconds`` and ``best`` so far, and where the files are.

    Raises:
        EgoposeError: Settings, data or checkpoint are not usable, or the loss diverges.
    """
    with process_group(config.device) as rank:
        trainer = build_trainer(config, rank=rank)
        resumed = trainer.resume() if resume else False
        trainer.run(until=until, max_seconds=max_seconds)
        return {
            "step": trainer.step,
            "steps": config.steps,
            "seconds": round(trainer.seconds, 1),
            "best": trainer.best,
            "resumed": resumed,
            "out": str(trainer.out),
        }
