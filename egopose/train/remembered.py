"""Clips whose images were looked at once and are remembered as what the decoder found in them.

What joins images with head motion over time then learns from thousands of windows in the time that looking at a few
takes; what looks stays as it is.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray

from egopose.errors import EgoposeError
from egopose.files import atomic_write
from egopose.model.network import EgoPoseNet
from egopose.model.search import SURE
from egopose.npz import read_npz
from egopose.train.batch import pad, stack
from egopose.train.config import TrainConfig
from egopose.train.rendered import RenderedClip, RenderedSource

Array = NDArray[np.float64]

PART = 100
"""Clips of one file: what is looked at again when a run is stopped."""

LOOKED, HEADLESS = 12, 13
"""Streams of random numbers: how a clip is looked at, and whether with head poses."""

FOUND = ("queries", "body", "wrist", "offsets", "logit", "known")
ABOUT = ("clips", "settings", "weights")


def remember(
    model: EgoPoseNet, weights: str, clips: Sequence[RenderedClip], config: TrainConfig,
    folder: str | os.PathLike[str], *, share: tuple[int, int] = (0, 1),
) -> None:  # fmt: skip
    """Look at all frames of all clips and of their mirror images, aimed and spoilt as in training, and write the rest.

    Files that are there and fit are kept, so that it goes on where it was stopped.

    Args:
        model: The network whose eyes look; on a CPU.
        weights: Hash of its weights, which training must start from.
        clips: Clips to train on.
        config: Settings of the stage.
        folder: Where the files go, ``part_*.npz``.
        share: Which files are this process's: number and count of processes side by side.

    Raises:
        EgoposeError: A file cannot be written.
    """
    source = RememberedSource(clips, msgspec.structs.replace(config, image_drop=0.0, hand_drop=0.0))
    model.eval()
    for k, (path, numbers) in enumerate(_parts(Path(folder), source)):
        about = _about(source, numbers, weights)
        if k % share[1] != share[0] or _fits(path, about):
            continue
        rows = [_looked(model, source, i) for i in numbers]
        joined: dict[str, Any] = {name: np.concatenate([row[name] for row in rows]) for name in FOUND}
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic_write(path, "wb") as stream:
            np.savez(stream, **{**joined, **about})


def _parts(folder: Path, source: RememberedSource) -> list[tuple[Path, range]]:
    """Each file with the numbers of its clips; mirror images come after all clips."""
    count = len(source.clips)
    starts = range(0, count, PART)
    return [(folder / f"part_{k:04d}.npz", range(at, min(count, at + PART))) for k, at in enumerate(starts)]


def _about(source: RememberedSource, numbers: range, weights: str) -> dict[str, NDArray[Any]]:
    """What a file belongs to."""
    config = source.config
    clips = [f"{source.clips[i].name} {len(source.clips[i])}" for i in numbers]
    settings = f"seed {config.seed}, rendered_head_drop {config.rendered_head_drop}, {config.model.name}"
    return {"clips": np.array(clips), "settings": np.array(settings), "weights": np.array(weights)}


def _fits(path: Path, about: dict[str, NDArray[Any]]) -> bool:
    if not path.exists():
        return False
    there = read_npz(path, ABOUT, what="remembered frames")
    return all(np.array_equal(there[key], about[key]) for key in ABOUT)


@torch.inference_mode()
def _looked(model: EgoPoseNet, source: RememberedSource, index: int) -> dict[str, NDArray[Any]]:
    """What is found in the frames of one clip."""
    rng = np.random.default_rng((source.config.seed, LOOKED, index))
    frames = stack([source.window(index, rng, whole=True)]).frames
    head, imu = model.sensors(frames)
    assert frames.image is not None
    assert frames.image_rays is not None
    assert frames.hands is not None
    assert frames.hand_rays is not None
    assert frames.hand_known is not None
    image_tokens, _ = model.see(frames.image, frames.image_rays)
    maps = model.see_hands(frames.hands, frames.hand_rays, frames.hand_known, skip_absent=True)
    found = model.decode(frames, head, imu, image_tokens, maps)
    assert found.body is not None
    assert found.hands is not None
    assert found.logit is not None
    return {
        "queries": found.queries.numpy().astype(np.float16), "body": found.body.numpy().astype(np.float16),
        "wrist": found.hands.wrist.numpy(), "offsets": found.hands.offsets.numpy().astype(np.float16),
        "logit": found.logit.numpy(),
        # prediction gives up what does not look like a hand
        "known": (frames.hand_known & (found.logit > SURE)).numpy(),
    }  # fmt: skip


class RememberedSource(RenderedSource):
    """Windows of clips that were looked at before; batch ``step`` depends on the seed, the step and the process alone.

    Without a folder its windows hold images like those of the class it comes from.
    """

    def __init__(
        self, clips: Sequence[RenderedClip], config: TrainConfig, folder: str | os.PathLike[str] | None = None, *,
        weights: str | None = None, rank: int = 0,
    ) -> None:  # fmt: skip
        """Read what :func:`remember` wrote; it stays in memory, two kilobytes a frame.

        Args:
            clips: Clips to train on.
            config: Settings of the stage.
            folder: What :func:`remember` wrote.
            weights: Hash of the weights that training starts from; None does not ask.
            rank: Number of the process.

        Raises:
            EgoposeError: A file is absent or damaged, or is of other clips, settings or weights.
        """
        super().__init__(clips, config, rank=rank)
        self._first = np.concatenate([[0], np.cumsum([len(clip) for clip in self.clips])])
        self._found: dict[str, NDArray[Any]] | None = None
        if folder is None:
            return
        rows = []
        for path, numbers in _parts(Path(folder), self):
            part = read_npz(path, (*FOUND, *ABOUT), what="remembered frames")
            about = _about(self, numbers, str(part["weights"]) if weights is None else weights)
            frames = int(self._first[numbers.stop] - self._first[numbers.start])
            wrong = [key for key in ABOUT if not np.array_equal(part[key], about[key])]
            if part["queries"].shape != (frames, 3, config.model.dim):
                wrong.append("network")
            if wrong:
                raise EgoposeError(
                    f"{path}: what it remembers is of other {wrong[0]} than are trained with; remove "
                    f"{path.parent} and look at the clips anew (egopose.train.remembered.remember)"
                )
            rows.append(part)
        self._found = {name: np.concatenate([row[name] for row in rows]) for name in FOUND}

    def _headless(self, index: int, rng: np.random.Generator) -> bool:
        # what is found in a clip's images depends on its head poses: always the same for one clip
        alike = np.random.default_rng((self.config.seed, HEADLESS, index))
        return bool(alike.random() < self.config.rendered_head_drop)

    def _pixels(
        self, index: int, pick: NDArray[np.int64], camera_joints: Array, length: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        if self._found is None:
            return super()._pixels(index, pick, camera_joints, length, rng)
        kept = {name: values[self._first[index] + pick] for name, values in self._found.items()}
        look = rng.random() >= self.config.image_drop
        known = kept["known"] & look & (rng.random((1, 2)) >= self.config.hand_drop)
        rows = {
            "queries": kept["queries"].astype(np.float32), "body": kept["body"].astype(np.float32),
            "hand_wrist": kept["wrist"], "hand_offsets": kept["offsets"].astype(np.float32),
            "hand_logit": kept["logit"], "hand_known": known, "image_known": np.full(len(pick), look),
        }  # fmt: skip
        return {name: pad(values, length) for name, values in rows.items()}
