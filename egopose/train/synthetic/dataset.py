"""Folders of rendered clips: clip ``i`` depends on the settings and ``i`` alone, so runs can be split and resumed.

Layout::

    folder/dataset.json                       settings and their hash
    folder/clip_000123/clip.json              name, subject, camera, hash
    folder/clip_000123/images.npy             (T, H, W, 3) uint8, can be mapped into memory
    folder/clip_000123/labels.npz             times_s, T_world_camera, joints_world, visible, in_view, shape
    folder/clip_000123/depth.npy, parts.npy   when asked for

and of hands alone (content: hands)::

    folder/crops_000123.npz                   what handcrops.render_hand_crops returns
"""

from __future__ import annotations

import os
import shutil
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np

from egopose.config import Config, config_dict, config_hash
from egopose.errors import EgoposeError
from egopose.files import atomic_path, read_json, rename_folder, temporary_beside, write_json
from egopose.train.synthetic.handcrops import render_hand_crops
from egopose.train.synthetic.layout import FORMAT, check_format
from egopose.train.synthetic.lenses import KINDS
from egopose.train.synthetic.motion import SourceMotion
from egopose.train.synthetic.render import render_clip
from egopose.train.synthetic.sources import Recording, generated, load_recordings

LABELS = ("times_s", "T_world_camera", "joints_world", "visible", "in_view", "shape")


class SynthConfig(Config, frozen=True, kw_only=True):
    """Settings of ``egopose synth``.

    Attributes:
        content: "clips" as the head camera sees them, or "hands": small images aimed at the hands.
        motion: npz files of captured motion; without any, all motion is generated.
        clips: Number of clips.
        frames: Frames of a clip.
        side: Width and height of the images, pixels.
        seed: Everything random follows from it.
        lens: "pinhole", "kannala_brandt", "fisheye624", or "any".
        hands_up: Share of the clips with hands before the camera.
        steep_share: Share of the clips whose camera looks 20 to ``steepest_deg`` degrees down.
        steepest_deg: See ``steep_share``.
        generated_share: Share of the clips with generated motion when there is captured motion.
        samples: Images averaged per frame.
        max_stride: Largest step through the recording, frames: 3 gives 10 to 30 per second from 30.
        subject_weight: Factor on how often a subject is drawn.
        depth: Also write depth maps.
        parts: Also write part masks.
    """

    content: Literal["clips", "hands"] = "clips"
    motion: tuple[str, ...] = ()
    clips: int = 100
    frames: int = 32
    side: int = 288
    seed: int = 0
    lens: str = "any"
    hands_up: float = 0.7
    steep_share: float = 0.0
    steepest_deg: float = 45.0
    generated_share: float = 0.05
    samples: int = 3
    max_stride: int = 3
    subject_weight: dict[str, float] = {}  # noqa: RUF012, msgspec copies it
    depth: bool = False
    parts: bool = False

    def __post_init__(self) -> None:
        if self.clips < 1 or self.frames < 2 or not 32 <= self.side <= 2048 or self.samples < 1 or self.max_stride < 1:
            raise EgoposeError(
                f"synth: clips {self.clips}, frames {self.frames}, side {self.side}, samples {self.samples}, "
                f"max_stride {self.max_stride}; expected at least 1, 2, 32 to 2048, 1 and 1"
            )
        if self.lens != "any" and self.lens not in KINDS:
            raise EgoposeError(f"synth: lens is {self.lens!r}; expected any, {', '.join(KINDS)}")
        if not all(0 <= share <= 1 for share in (self.hands_up, self.steep_share, self.generated_share)):
            raise EgoposeError("synth: hands_up, steep_share and generated_share are shares; expected 0 to 1")
        if not 20 <= self.steepest_deg <= 90:
            raise EgoposeError(f"synth: steepest_deg is {self.steepest_deg}; expected 20 to 90")


def content_hash(config: SynthConfig) -> str:
    """Hash of what decides the content of a clip; where files lie and how many clips there are do not."""
    values = config_dict(config)
    values["clips"] = 0
    values["motion"] = [Path(path).name for path in config.motion]
    return config_hash({**values, "format": FORMAT})


class Drawer:
    """Draws the motion of clip ``i``."""

    def __init__(self, config: SynthConfig) -> None:
        """Read the recordings.

        Raises:
            EgoposeError: A file is not usable, or all its clips are too short.
        """
        self.config = config
        self.recordings = [clip for clip in load_recordings(config.motion) if len(clip) >= config.frames]
        if config.motion and not self.recordings:
            raise EgoposeError(f"synth: no clip of the motion files has {config.frames} frames; lower frames:")
        self.weights = draw_weights(self.recordings, config.subject_weight)

    def motion(self, index: int) -> SourceMotion:
        """The motion of a clip."""
        config = self.config
        rng = np.random.default_rng((config.seed, index, 1))
        if not self.recordings or rng.random() < config.generated_share:
            fps = float(rng.choice([10.0, 15.0, 20.0, 30.0]))
            return generated(np.arange(config.frames) / fps, rng)
        clip = self.recordings[int(rng.choice(len(self.recordings), p=self.weights))]
        stride = int(rng.integers(1, 1 + min(config.max_stride, (len(clip) - 1) // (config.frames - 1))))
        start = int(rng.integers(0, len(clip) - stride * (config.frames - 1)))
        return clip.cut(start, config.frames, stride)

    def clip(self, index: int) -> dict[str, Any]:
        """Images and labels of a clip, see :func:`render_clip`; or of its hands, see :func:`render_hand_crops`."""
        config = self.config
        if config.content == "hands":
            return render_hand_crops(
                self.motion(index), (config.seed, index, 3), side=config.side, samples=config.samples,
                hands_up=config.hands_up, steep_share=config.steep_share,
                steepest=np.radians(config.steepest_deg),
            )  # fmt: skip
        keep = tuple(name for name in ("depth", "parts") if getattr(config, name))
        lens: Any = None if config.lens == "any" else config.lens
        return render_clip(
            self.motion(index), (config.seed, index, 2), side=config.side, lens=lens, samples=config.samples,
            hands_up=config.hands_up, steep_share=config.steep_share, steepest=np.radians(config.steepest_deg),
            keep=keep,
        )  # fmt: skip


def draw_weights(recordings: Sequence[Recording], subject_weight: dict[str, float]) -> np.ndarray:
    """Chance of each recording: by length within a subject, by the root of the total length across subjects."""
    if not recordings:
        return np.zeros(0)
    length = np.array([len(clip) for clip in recordings], dtype=float)
    subjects = np.array([clip.subject for clip in recordings])
    total = np.array([length[subjects == subject].sum() for subject in subjects])
    weight = length / total * np.sqrt(total) * np.array([subject_weight.get(str(s), 1.0) for s in subjects])
    return weight / weight.sum()


def place(folder: Path, index: int, config: SynthConfig) -> Path:
    """Where a clip goes."""
    return folder / (f"clip_{index:06d}" if config.content == "clips" else f"crops_{index:06d}.npz")


def write_clip(target: Path, index: int, clip: dict[str, Any], key: str) -> None:
    """Write one clip; its folder, or its file, appears complete or not at all."""
    if target.suffix == ".npz":
        with atomic_path(target) as path:
            np.savez(path, format=FORMAT, **clip)
        return
    part = temporary_beside(target, ".part")
    try:
        part.mkdir(parents=True)
        np.save(part / "images.npy", clip["images"])
        for name in ("depth", "parts"):
            if name in clip:
                np.save(part / f"{name}.npy", clip[name])
        arrays = {name: clip[name] for name in LABELS}
        arrays["joints_world"] = arrays["joints_world"].astype(np.float32)
        np.savez(part / "labels.npz", **arrays)
        about = {
            "format": FORMAT, "index": index, "name": clip["name"], "subject": clip["subject"],
            "camera": clip["camera"].to_dict(), "settings": key,
        }  # fmt: skip
        write_json(part / "clip.json", about)
        rename_folder(part, target)
    except OSError as error:
        if (target / "clip.json").exists():
            # another process was faster; a clip depends on the settings and its index alone
            return
        raise EgoposeError(
            f"{target}: cannot be written ({error.strerror or error}); check space and rights"
        ) from error
    finally:
        shutil.rmtree(part, ignore_errors=True)


def prepare(folder: Path, config: SynthConfig) -> str:
    """Make the folder, or check that it belongs to the same settings; gives their hash.

    Raises:
        EgoposeError: It was made with other settings, or by an older version.
    """
    key = content_hash(config)
    about = folder / "dataset.json"
    if about.exists():
        old = read_json(about)
        if isinstance(old, dict):
            check_format(old.get("format"), about)
        if not isinstance(old, dict) or old.get("settings") != key:
            raise EgoposeError(f"{folder}: holds clips of other settings; choose another folder or remove it")
        return key
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise EgoposeError(f"{folder}: cannot be made ({error.strerror or error}); check space and rights") from error
    write_json(about, {"format": FORMAT, "settings": key, "config": config_dict(config)})
    return key


def build(
    config: SynthConfig,
    folder: str | os.PathLike[str],
    *,
    shard: int = 0,
    shards: int = 1,
    progress: Callable[[float, str], None] | None = None,
) -> dict[str, Any]:
    """Render the clips that are not there yet.

    Args:
        config: Settings.
        folder: Where they go.
        shard: This process's share of the work, from 0; shards: how many there are.
        progress: Called with the share done and what is going on.

    Returns:
        ``folder``, ``clips`` there, ``rendered`` now, ``frames`` rendered now, ``seconds``, ``frames_per_s``.

    Raises:
        EgoposeError: Settings, motion files or folder are not usable.
    """
    if not 0 <= shard < shards:
        raise EgoposeError(f"synth: shard {shard} of {shards}; expected a number from 0 to {shards - 1}")
    folder = Path(folder)
    drawer = Drawer(config)
    key = prepare(folder, config)
    mine = range(shard, config.clips, shards)
    rendered, frames, start = 0, 0, time.perf_counter()
    for done, index in enumerate(mine):
        if progress is not None:
            progress(done / len(mine), f"clip {index}")
        target = place(folder, index, config)
        if target.exists():
            continue
        clip = drawer.clip(index)
        write_clip(target, index, clip, key)
        rendered, frames = rendered + 1, frames + len(clip["images"])
    seconds = time.perf_counter() - start
    return {
        "folder": str(folder), "clips": len(mine), "rendered": rendered, "frames": frames, "seconds": seconds,
        "frames_per_s": frames / seconds if rendered else 0.0,
    }  # fmt: skip
