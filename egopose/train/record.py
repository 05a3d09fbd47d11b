"""Where a run says how it goes: JSON lines, TensorBoard, a bar on a terminal."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import TracebackType
from typing import Any

from egopose.errors import require
from egopose.files import atomic_write
from egopose.train.config import TrainConfig


class Recorder:
    """Collects numbers between log lines and writes their means."""

    def __init__(self, out: Path, config: TrainConfig, *, start: int = 0, enabled: bool = True) -> None:
        """Open the log of a run; nothing is written when not enabled (other processes of a distributed run)."""
        self.out, self.config, self.start, self.enabled = out, config, start, enabled
        self._sums: dict[str, float] = {}
        self._count = 0
        self._stream: Any = None
        self._board: Any = None
        self._bar: Any = None

    def __enter__(self) -> Recorder:
        if self.enabled:
            self.out.mkdir(parents=True, exist_ok=True)
            self._trim()
            self._stream = open(self.out / "log.jsonl", "a", encoding="utf-8")
            if self.config.tensorboard:
                require("tensorboard", "tensorboard")
                self._board = require("torch.utils.tensorboard", "tensorboard").SummaryWriter(str(self.out / "events"))
            if sys.stderr.isatty():
                from rich.console import Console
                from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

                columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
                self._bar = Progress(*columns, console=Console(stderr=True))
                self._bar.start()
                self._task = self._bar.add_task(self.config.stage, total=self.config.steps, completed=self.start)
        return self

    def _trim(self) -> None:
        """Drop what a killed run wrote after its checkpoint, and a line that was cut short: those steps come again."""
        path = self.out / "log.jsonl"
        if not path.exists():
            return
        kept = []
        for line in path.read_text(encoding="utf-8", errors="replace").splitlines():
            try:
                whole = json.loads(line)["step"] <= self.start
            except (ValueError, KeyError, TypeError):
                whole = False
            if whole:
                kept.append(line + "\n")
        with atomic_write(path, "w") as stream:
            stream.writelines(kept)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for thing, close in ((self._stream, "close"), (self._board, "close"), (self._bar, "stop")):
            if thing is not None:
                getattr(thing, close)()

    def _write(self, kind: str, step: int, numbers: dict[str, float], seconds: float) -> None:
        if self._stream is None:
            return
        line = {"kind": kind, "step": step, "seconds": round(seconds, 1)}
        line.update({k: float(f"{v:.6g}") for k, v in numbers.items()})
        self._stream.write(json.dumps(line) + "\n")
        self._stream.flush()
        if self._board is not None:
            for name, value in numbers.items():
                self._board.add_scalar(f"{kind}/{name}", value, step)

    def step(self, step: int, numbers: dict[str, float], seconds: float) -> None:
        """Note one training step."""
        for name, value in numbers.items():
            self._sums[name] = self._sums.get(name, 0.0) + value
        self._count += 1
        if self._bar is not None:
            self._bar.update(self._task, completed=step, description=f"{self.config.stage} {numbers['loss']:.4f}")
        if step % self.config.log_every == 0:
            self._write("train", step, {k: v / self._count for k, v in self._sums.items()}, seconds)
            self._sums, self._count = {}, 0

    def scores(self, step: int, numbers: dict[str, float], seconds: float) -> None:
        """Note an evaluation."""
        self._write("held_out", step, numbers, seconds)
