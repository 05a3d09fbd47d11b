"""The training loop: deterministic batches, averaged weights, checkpoints that resume to the same bits."""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import msgspec
import torch
from torch import Tensor, nn

from egopose.config import config_hash
from egopose.errors import EgoposeError
from egopose.files import atomic_path
from egopose.model.device import pick_device
from egopose.model.losses import total_loss
from egopose.model.network import EgoPoseNet, build
from egopose.train.batch import Batch
from egopose.train.config import TrainConfig
from egopose.train.record import Recorder

CHECKPOINT = "checkpoint.pt"
FORMAT = 1


class Source(Protocol):
    """Where batches come from: a pure function of the step."""

    def batch(self, step: int) -> Batch:
        """The batch of a training step."""
        ...


def learning_rate(step: int, config: TrainConfig) -> float:
    """Factor of the peak rate: linear warm-up, then a cosine to zero."""
    if step < config.warmup:
        return (step + 1) / config.warmup
    done = (step - config.warmup) / max(1, config.steps - config.warmup)
    return 0.5 * (1 + math.cos(math.pi * min(1.0, done)))


class Ema:
    """Exponential average of weights; batch statistics are copied."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.state = {k: v.detach().clone() for k, v in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module, step: int) -> None:
        """Take in the weights after a step; early steps count more."""
        decay = min(self.decay, (1 + step) / (10 + step))
        for key, value in model.state_dict().items():
            if value.dtype.is_floating_point:
                self.state[key].lerp_(value, 1 - decay)
            else:
                self.state[key].copy_(value)


def parameter_groups(model: EgoPoseNet, config: TrainConfig) -> list[dict[str, Any]]:
    """Encoders at their own rate; vectors and embeddings without decay.

    Raises:
        EgoposeError: A part that is to learn is not one of the network.
    """
    groups: dict[tuple[bool, bool], list[Tensor]] = {}
    names = [name for name, _ in model.named_parameters()]
    for part in config.train_only:
        if not any(name.startswith(part) for name in names):
            raise EgoposeError(
                f"train_only: {part!r} is no part of the network; expected the beginning of a name such as {names[0]!r}"
            )
    for name, parameter in model.named_parameters():
        learns = not config.train_only or any(name.startswith(part) for part in config.train_only)
        parameter.requires_grad_(learns)
        if learns:
            encoder = name.startswith(("image_encoder", "hand_encoder"))
            groups.setdefault((encoder, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": config.lr * (config.encoder_lr if encoder else 1.0),
            "peak": config.lr * (config.encoder_lr if encoder else 1.0),
            "weight_decay": config.weight_decay if decays else 0.0,
        }
        for (encoder, decays), parameters in sorted(groups.items(), key=lambda item: item[0])
    ]


class Trainer:
    """One run; the state after step n depends on the configuration and the data alone."""

    def __init__(
        self, config: TrainConfig, source: Source, *, evaluate: Callable[[EgoPoseNet], dict[str, float]] | None = None
    ) -> None:
        """Build the network, its average and the optimiser.

        Args:
            config: Settings.
            source: Batches.
            evaluate: Called with the averaged network; its numbers go to the log, ``score`` (lower is better)
                decides which weights are kept as the best.
        """
        self.config, self.source, self.evaluate = config, source, evaluate
        self.device = pick_device(config.device)
        self.world = int(os.environ.get("WORLD_SIZE", "1"))
        self.rank = int(os.environ.get("RANK", "0"))
        self.model = build(config.model, config.seed)
        if config.init:
            from egopose.model.weights import load_weights

            self.model.load_state_dict(load_weights(config.init, expect=config.model).state)
        self.model.to(self.device)
        if config.model.encoder == "mobile":
            # depthwise convolutions train nearly twice as fast this way on a CPU
            for encoder in (self.model.image_encoder, self.model.hand_encoder):
                encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        groups = parameter_groups(self.model, config)
        self.optimiser = torch.optim.AdamW(groups, lr=config.lr, betas=(0.9, 0.98))
        self.ema = Ema(self.model, config.ema)
        self.step, self.seconds, self.best = 0, 0.0, math.inf
        self.out = Path(config.out)
        self._maker = ThreadPoolExecutor(1, thread_name_prefix="batches")
        self._ahead: tuple[int, Future[Batch]] | None = None
        self.parallel: nn.Module = self.model
        if self.world > 1:
            self.parallel = torch.nn.parallel.DistributedDataParallel(self.model, find_unused_parameters=True)

    @property
    def leads(self) -> bool:
        """Whether this process writes files."""
        return self.rank == 0

    def checkpoint(self) -> dict[str, Any]:
        """Everything that the next step depends on."""
        return {
            "format": FORMAT,
            "config": settings_hash(self.config),
            "step": self.step,
            "seconds": self.seconds,
            "best": self.best,
            "model": self.model.state_dict(),
            "ema": self.ema.state,
            "optimiser": self.optimiser.state_dict(),
            "torch_rng": torch.get_rng_state(),
            "cuda_rng": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        }

    def save(self) -> None:
        """Write the checkpoint; an older one is replaced only by a whole one."""
        with atomic_path(self.out / CHECKPOINT) as path:
            torch.save(self.checkpoint(), path)

    def resume(self) -> bool:
        """Continue from the checkpoint in the output folder, if there is one.

        Raises:
            EgoposeError: The checkpoint cannot be read or belongs to other settings.
        """
        path = self.out / CHECKPOINT
        if not path.exists():
            return False
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
            found = (state["format"], state["config"])
        except Exception as error:
            raise EgoposeError(f"{path}: cannot be read as a checkpoint ({error}); remove it to start anew") from error
        if found != (FORMAT, settings_hash(self.config)):
            raise EgoposeError(
                f"{path}: was written with other settings (hash {found[1]}, now {settings_hash(self.config)}); "
                "train into another folder or restore the settings"
            )
        self.model.load_state_dict(state["model"])
        self.optimiser.load_state_dict(state["optimiser"])
        self.ema.state = {k: v.to(self.device) for k, v in state["ema"].items()}
        self.step, self.seconds, self.best = state["step"], state["seconds"], state["best"]
        torch.set_rng_state(state["torch_rng"])
        if state["cuda_rng"] and torch.cuda.is_available():
            torch.cuda.set_rng_state_all(state["cuda_rng"])
        return True

    def _next_batch(self) -> Batch:
        """The batch of this step; the one after it is made meanwhile, as it depends on its number alone."""
        ready = self._ahead
        if ready is None or ready[0] != self.step:
            ready = (self.step, self._maker.submit(self.source.batch, self.step))
        batch = ready[1].result()
        if self.step + 1 < self.config.steps:
            self._ahead = (self.step + 1, self._maker.submit(self.source.batch, self.step + 1))
        return batch

    def train_step(self) -> dict[str, float]:
        """One optimiser step.

        Raises:
            EgoposeError: The loss is not finite.
        """
        config = self.config
        batch = self._next_batch().to(self.device)
        for group in self.optimiser.param_groups:
            group["lr"] = group["peak"] * learning_rate(self.step, config)
        self.model.train()
        for part in self.model.children():
            if not any(parameter.requires_grad for parameter in part.parameters()):
                # what does not learn is as it will be at prediction, and keeps its running statistics
                part.eval()
        mixed = (
            torch.autocast(self.device.type, dtype=torch.bfloat16) if config.amp == "bf16" else contextlib.nullcontext()
        )
        with mixed:
            output, encoded = self.parallel(batch.frames, batch.rotation, batch.first, batch.rest)
        # losses in float32: squares of millimetres do not fit bfloat16
        output, encoded = _float(output), _float(encoded)
        loss, terms = total_loss(output, encoded, batch.targets, config.loss, self.step)
        if not torch.isfinite(loss):
            bad = [name for name, value in terms.items() if not torch.isfinite(value)]
            raise EgoposeError(f"training: the loss is not finite at step {self.step} (terms {bad}); lower lr")
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), config.clip)
        self.optimiser.step()
        self.ema.update(self.model, self.step)
        self.step += 1
        return {
            "loss": float(loss.detach()),
            "gradient": float(norm),
            **{k: float(v.detach()) for k, v in terms.items()},
        }

    def averaged(self) -> EgoPoseNet:
        """The network with the averaged weights, for evaluation and shipping."""
        model = build(self.config.model, 0)
        model.load_state_dict(self.ema.state)
        return model.to(self.device).eval()

    def run(self, *, until: int | None = None, max_seconds: float | None = None) -> None:
        """Train to the configured number of steps, or stop earlier with a checkpoint written.

        Args:
            until: Stop after this step.
            max_seconds: Stop after this much time in this call.
        """
        config = self.config
        torch.set_num_threads(config.threads)
        last = min(config.steps, until or config.steps)
        started = time.monotonic()
        recorder = Recorder(self.out, config, start=self.step, enabled=self.leads)
        if self.step == 0:
            # the dropout of a run follows from its seed, not from what ran before in the process
            torch.manual_seed(config.seed * 1000003 + self.rank)
        with recorder:
            while self.step < last:
                tick = time.monotonic()
                numbers = self.train_step()
                self.seconds += time.monotonic() - tick
                recorder.step(self.step, numbers, self.seconds)
                done = self.step >= last or (max_seconds is not None and time.monotonic() - started > max_seconds)
                if self.evaluate is not None and self.leads and (self.step % config.eval_every == 0 or done):
                    self._score(recorder)
                if self.leads and (self.step % config.save_every == 0 or done):
                    if self.evaluate is None:
                        # nothing is held out to choose the best by; before the checkpoint, after which a killed run
                        # would not come here again
                        self.export(self.out / "last.safetensors", {})
                    self.save()
                if done and self.step < last:
                    break

    def _score(self, recorder: Recorder) -> None:
        assert self.evaluate is not None
        scores = self.evaluate(self.averaged())
        recorder.scores(self.step, scores, self.seconds)
        if scores["score"] < self.best:
            self.best = scores["score"]
            self.export(self.out / "best.safetensors", scores)

    def export(self, path: Path, scores: dict[str, float]) -> None:
        """Write the averaged weights with how they came about."""
        from egopose.model.weights import save_weights

        save_weights(
            path,
            self.averaged(),
            notes={
                "stage": self.config.stage, "steps": self.step, "seconds": round(self.seconds, 1),
                "settings": settings_hash(self.config), "scores": scores,
            },
        )  # fmt: skip


def _float(value: Any) -> Any:
    """The same named tuple with float32 tensors."""
    if isinstance(value, Tensor):
        return value.float() if value.dtype == torch.bfloat16 else value
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_float(v) for v in value))
    return value


def settings_hash(config: TrainConfig) -> str:
    """Hash of all settings that the weights depend on."""
    neutral = TrainConfig()
    names = ("out", "eval_every", "save_every", "log_every", "tensorboard")
    return config_hash(msgspec.structs.replace(config, **{name: getattr(neutral, name) for name in names}))
