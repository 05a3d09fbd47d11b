"""Settings of a training run."""

from __future__ import annotations

import math
from typing import Literal

import msgspec

from egopose.config import Config
from egopose.errors import EgoposeError
from egopose.model.config import ModelConfig
from egopose.model.losses import LossConfig
from egopose.train.augment import AugmentConfig


class TrainConfig(Config, frozen=True, kw_only=True):
    """One stage of training.

    Attributes:
        stage: "motion" trains the temporal part on head poses alone; "hands" what reads hand crops, on hands alone;
            "frames" what reads whole images, on single frames; "images" the encoders on rendered clips; "all"
            everything; "join" what joins images with head motion, on clips that were looked at before.
        model: The network.
        loss: Loss weights.
        augment: Changes of motion clips.
        motion: npz files of head poses and joints.
        crops: Folders of rendered hands.
        held_out_crops: The same of held-out subjects.
        rendered: Folders of rendered clips.
        held_out_motion: npz files of held-out subjects, scored during training and never trained on.
        single: Folders of rendered clips of which only single frames are learnt.
        decoys: What the hand finder takes for hands in the rendered clips, a file of :mod:`egopose.train.decoys`.
        remembered: What was found in the rendered clips' images, a folder of :mod:`egopose.train.remembered`.
        held_out_rendered: Folders of rendered clips of held-out subjects.
        subject_weight: Extra sampling factor of some subjects.
        subject_power: 1 samples seconds alike, 0 samples subjects alike.
        init: Weights file to start from.
        train_only: Names of parts that learn; everything when empty.
        out: Folder of checkpoints, log and weights.
        steps: Optimiser steps.
        batch: Windows per step and process.
        window: Steps per window.
        rendered_batch: Rendered windows per step.
        rendered_window: Steps of a rendered window.
        limbs_weight: How much more often a rendered clip is drawn in which a sixth of its elbows, knees and ankles are
            in view: few are.
        motion_every: In image stages and "join", every how many steps one is on head motion alone.
        crops_every: In image stages with crops, every how many steps one is on hands alone.
        frames_every: In image stages, every how many steps one is on single frames; 0 for never.
        lr: Peak learning rate.
        encoder_lr: Factor of the learning rate for image encoders.
        warmup: Steps of linear warm-up; a cosine to zero follows.
        weight_decay: Of AdamW.
        ema: Decay of the averaged weights.
        clip: Largest gradient norm.
        amp: Mixed precision.
        head_drop: Chance that a window has no head poses.
        imu_keep: Chance that a window has inertial samples.
        floor_drop: Chance that the floor's height is not told.
        image_drop: Chance that a window has no whole image.
        hand_drop: Chance that a hand crop is absent.
        rendered_head_drop: Chance that a rendered window has no head poses.
        seed: Of weights, data and augmentation.
        threads: Torch threads.
        device: "cpu", "cuda" or "auto".
        eval_every: Steps between evaluations.
        save_every: Steps between checkpoints.
        log_every: Steps between log lines.
        tensorboard: Also write TensorBoard events.
    """

    stage: Literal["motion", "hands", "frames", "images", "all", "join"] = "motion"
    model: ModelConfig = msgspec.field(default_factory=ModelConfig)
    loss: LossConfig = msgspec.field(default_factory=LossConfig)
    augment: AugmentConfig = msgspec.field(default_factory=AugmentConfig)
    motion: tuple[str, ...] = ()
    crops: tuple[str, ...] = ()
    held_out_crops: tuple[str, ...] = ()
    rendered: tuple[str, ...] = ()
    single: tuple[str, ...] = ()
    held_out_motion: tuple[str, ...] = ()
    held_out_rendered: tuple[str, ...] = ()
    subject_weight: dict[str, float] = msgspec.field(default_factory=dict)
    subject_power: float = 0.5
    decoys: str | None = None
    remembered: str | None = None
    init: str | None = None
    train_only: tuple[str, ...] = ()
    out: str = "runs/nano"
    steps: int = 3000
    batch: int = 32
    window: int = 64
    rendered_batch: int = 8
    rendered_window: int = 8
    limbs_weight: float = 4.0
    motion_every: int = 4
    crops_every: int = 4
    frames_every: int = 0
    lr: float = 1e-3
    encoder_lr: float = 1.0
    warmup: int = 200
    weight_decay: float = 0.05
    ema: float = 0.998
    clip: float = 1.0
    amp: Literal["off", "bf16"] = "off"
    head_drop: float = 0.15
    imu_keep: float = 0.3
    floor_drop: float = 0.1
    image_drop: float = 0.1
    hand_drop: float = 0.2
    rendered_head_drop: float = 0.3
    seed: int = 0
    threads: int = 1
    device: str = "cpu"
    eval_every: int = 500
    save_every: int = 250
    log_every: int = 25
    tensorboard: bool = False

    def __post_init__(self) -> None:
        counts = ("steps", "batch", "window", "rendered_batch", "motion_every", "crops_every", "threads")
        for key in (*counts, "eval_every", "save_every", "log_every"):
            if getattr(self, key) < 1:
                raise EgoposeError(f"train.{key} is {getattr(self, key)}; expected at least 1")
        if self.frames_every < 0:
            raise EgoposeError(f"train.frames_every is {self.frames_every}; expected 0 (never) or more")
        for key in ("head_drop", "imu_keep", "floor_drop", "image_drop", "hand_drop", "ema", "rendered_head_drop"):
            if not 0 <= getattr(self, key) <= 1:
                raise EgoposeError(f"train.{key} is {getattr(self, key)}; expected a number from 0 to 1")
        if not 0 <= self.limbs_weight < math.inf:
            raise EgoposeError(f"train.limbs_weight is {self.limbs_weight}; expected 0 (all clips alike) or more")
        if self.lr <= 0 or self.clip <= 0 or self.window < 4 or self.rendered_window < 2:
            raise EgoposeError("train: lr and clip must be positive, window at least 4, rendered_window at least 2")
