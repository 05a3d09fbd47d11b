"""Windows of rendered clips: fitted images, hand crops around where the hands are, labels of all heads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from egopose import rigid
from egopose.camera import Camera
from egopose.errors import EgoposeError
from egopose.lens import mirrored as mirrored_lens
from egopose.model.clock import FULL
from egopose.model.imu import IMU_FEATURES
from egopose.model.network import HEAT_CHANNELS
from egopose.model.rays import HAND_RADIUS_M, crop_shows
from egopose.model.track import DISTANCE_UNIT_M, FrameReader, cut_crops
from egopose.skeleton import BODY17, BODY17_HANDS, HAND21
from egopose.train.augment import mirrored_points, mirrored_poses
from egopose.train.batch import Batch, motion_window, stack, target_arrays
from egopose.train.config import TrainConfig
from egopose.train.windows import foot_contact

Array = NDArray[np.float64]

VISIBLE_SHARE = 0.3
"""A hand counts as shown when this share of its joints is seen."""

OTHER_SHOWN, OTHER_ALONE = 0.05, 0.3
"""Chance that a crop is aimed at the other hand, where its own is shown and where it is not."""

DECOY_SHOWN, DECOY_ALONE = 0.1, 0.7
"""Chance that it is aimed at what the finder takes for the hand, where there is such a place."""

AIM_M = 0.02
"""Standard deviation per axis of where a window's crops are aimed, in the middle of what is drawn."""

AIM_DISTANCE = 0.12
"""The same of the log of the distance that crops are sized for."""

LIMBS = BODY17.indices([f"{s}_{j}" for s in ("left", "right") for j in ("elbow", "knee", "ankle")])

LUMA = np.array([0.299, 0.587, 0.114])
"""Grey of RGB, ITU-R BT.601."""

HEAT_SPREAD = 0.7
"""Width of the hand finder's target, cells."""


class Images(Protocol):
    """Images (T, H, W, 3) uint8 RGB, in memory or read when they are asked for."""

    def __len__(self) -> int: ...

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        """One image."""
        ...

    def __iter__(self) -> Iterator[NDArray[np.uint8]]:
        """All images."""
        return (self[i] for i in range(len(self)))


@dataclass(frozen=True, eq=False)
class RenderedClip:
    """Consecutive images with their camera, head poses and labels.

    Attributes:
        name: Clip name.
        subject: Whose motion it is; splits are by subject.
        camera: The lens.
        times_s: (T,) seconds.
        T_world_camera: (T, 4, 4), floor at z = 0.
        images: (T, H, W, 3) uint8 RGB.
        joints: (T, 59, 3) world metres, NaN without label.
        visible: (T, 59) 1 seen, 0 not, -1 unknown.
        decoys: (N, 5) places that the hand finder takes for hands, see :mod:`egopose.train.decoys`: number of the
            frame, 0 for a left and 1 for a right hand, camera axes in metres.
    """

    name: str
    subject: str
    camera: Camera
    times_s: Array
    T_world_camera: Array
    images: Images
    joints: Array
    visible: NDArray[np.int8]
    decoys: Array = field(default_factory=lambda: np.zeros((0, 5)))

    def __len__(self) -> int:
        return self.times_s.size


class _Flipped(Images):
    """Images with left and right exchanged."""

    def __init__(self, images: Images) -> None:
        self.images = images

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> NDArray[np.uint8]:
        return self.images[index][:, ::-1]


def mirrored_clip(clip: RenderedClip) -> RenderedClip:
    """The clip in a mirror: what the left hand did the right one does, seen through the mirrored lens."""
    order, decoys = BODY17_HANDS.mirror_index, clip.decoys
    return replace(
        clip, camera=mirrored_lens(clip.camera), T_world_camera=mirrored_poses(clip.T_world_camera),
        images=_Flipped(clip.images), joints=mirrored_points(clip.joints), visible=clip.visible[:, order],
        decoys=np.concatenate([decoys[:, :1], 1 - decoys[:, 1:2], decoys[:, 2:] * [-1.0, 1.0, 1.0]], axis=1),
    )  # fmt: skip


def hand_centres(joints_camera: Array) -> Array:
    """Mean of each hand's 21 joints, (..., 2, 3), of (..., 59, 3); NaN where less than half of them have labels."""
    hands = joints_camera[..., BODY17.n_joints :, :]
    hands = hands.reshape(*hands.shape[:-2], 2, HAND21.n_joints, 3)
    known = np.isfinite(hands).all(axis=-1, keepdims=True)
    count = known.sum(axis=-2)
    mean = np.where(known, hands, 0.0).sum(axis=-2) / np.maximum(count, 1)
    return np.where(2 * count >= HAND21.n_joints, mean, np.nan)


def hands_shown(visible: NDArray[np.int8]) -> NDArray[np.bool_]:
    """Which hands (..., 2) are shown, from joint visibility (..., 59)."""
    hands = visible[..., BODY17.n_joints :]
    hands = hands.reshape(*hands.shape[:-1], 2, HAND21.n_joints)
    return (hands == 1).mean(axis=-1) >= VISIBLE_SHARE


def heat_target(reader: FrameReader, centres: Array, shown: NDArray[np.bool_], side: int) -> NDArray[np.float32]:
    """Target of the hand finder (2, HEAT_CHANNELS, side, side) for hand centres (2, 3) in camera axes."""
    out = np.zeros((2, HEAT_CHANNELS, side, side), dtype=np.float32)
    grid = np.arange(side)
    for i in range(2):
        if not shown[i]:
            continue
        uv = reader.fit.to_square(reader.camera.project(centres[i : i + 1], frame="camera"))[0]
        if not np.isfinite(uv).all():
            # the middle of a hand at the rim can lie outside the lens although most of its joints are shown
            continue
        x, y = (uv + 0.5) * side / reader.fit.side - 0.5
        column, row = round(float(x)), round(float(y))
        if not (0 <= column < side and 0 <= row < side):
            continue
        far = (grid[None, :] - column) ** 2 + (grid[:, None] - row) ** 2
        out[i, 0] = np.exp(-far / (2 * HEAT_SPREAD**2))
        out[i, 1], out[i, 2] = x - column, y - row
        out[i, 3] = np.log(max(float(np.linalg.norm(centres[i])), 0.05) / DISTANCE_UNIT_M)
    return out


class RenderedSource:
    """Batches of rendered windows; batch ``step`` depends on the seed, the step and the process alone."""

    def __init__(self, clips: Sequence[RenderedClip], config: TrainConfig, *, rank: int = 0) -> None:
        """Keep the clips.

        Raises:
            EgoposeError: There are none of at least two steps.
        """
        long = [clip for clip in clips if len(clip) >= 2]
        if not long:
            raise EgoposeError("training: no rendered clip of at least two steps; set rendered: to folders of them")
        self.clips = [*long, *map(mirrored_clip, long)]
        self.config, self.rank = config, rank
        self._readers: dict[int, FrameReader] = {}
        limbs = np.array([(clip.visible[:, LIMBS] == 1).mean() for clip in self.clips])
        size = np.array([len(clip) for clip in self.clips]) * (1 + config.limbs_weight * np.minimum(6 * limbs, 1))
        self.weights = size / size.sum()
        self.heat_side = config.model.image_px // config.model.fine_stride

    def reader(self, index: int) -> FrameReader:
        """Of a clip's lens; for reading single images, so it follows no hands."""
        if index not in self._readers:
            self._readers[index] = FrameReader(self.clips[index].camera, self.config.model)
        return self._readers[index]

    def batch(self, step: int) -> Batch:
        """The windows of a training step."""
        rng = np.random.default_rng((self.config.seed, 3, self.rank, step))
        picked = rng.choice(len(self.clips), size=self.config.rendered_batch, p=self.weights)
        return stack([self.window(int(i), rng) for i in picked])

    def window(self, index: int, rng: np.random.Generator, *, whole: bool = False) -> dict[str, NDArray[Any]]:
        """One random window of a clip, or all of it."""
        config, clip = self.config, self.clips[index]
        length = len(clip) if whole else config.rendered_window
        stride = int(rng.integers(1, 4)) if len(clip) > 3 * length else 1
        start = int(rng.integers(0, max(1, len(clip) - stride * (length - 1))))
        pick = np.arange(start, min(len(clip), start + stride * length), stride)[:length]
        # features come from all poses of the clip up to and around the window, as at prediction
        past = np.arange(start % stride, start, stride)
        later = np.arange(pick[-1] + stride, len(clip), stride)
        around = np.concatenate([past, pick, later])
        seen = clip.T_world_camera[around].copy()
        if self._headless(index, rng):
            seen[:] = np.nan
        kind = rng.random()
        out = motion_window(
            clip.times_s[around], seen, slice(past.size, past.size + pick.size), length,
            lookahead=0 if kind < 0.5 else FULL, floor_known=rng.random() >= config.floor_drop, model=config.model,
        )  # fmt: skip
        T, joints, visible = clip.T_world_camera[pick], clip.joints[pick], clip.visible[pick]
        ankles = [BODY17.index(f"{s}_ankle") for s in ("left", "right")]
        feet = np.stack([foot_contact(clip.times_s[pick], joints[:, a], None) for a in ankles], axis=-1)
        out.update(target_arrays(T, joints, feet, length, visible))
        out["imu"] = np.zeros((length, IMU_FEATURES), dtype=np.float32)
        out["imu_known"] = np.zeros(length, dtype=bool)
        out.update(self._pixels(index, pick, rigid.transform_points(rigid.invert(T), joints), length, rng))
        return out

    def _headless(self, index: int, rng: np.random.Generator) -> bool:
        """Whether a window of a clip has no head poses."""
        return bool(rng.random() < self.config.rendered_head_drop)

    def _pixels(
        self, index: int, pick: NDArray[np.int64], camera_joints: Array, length: int, rng: np.random.Generator
    ) -> dict[str, NDArray[Any]]:
        """Images and crops of some frames of a clip, given their joints (T, 59, 3) in camera axes."""
        config, model = self.config, self.config.model
        clip, reader = self.clips[index], self.reader(index)
        visible = clip.visible[pick]
        centres, shown = hand_centres(camera_joints), hands_shown(visible)
        look = rng.random() >= config.image_drop
        change = photometric(rng)
        # the tracker errs alike in neighbouring frames: one offset per hand and window, plus a little of each frame;
        # a second look is aimed far better than a first one
        drift = AIM_M * spread(rng, (2, 1)) * rng.standard_normal((2, 3))
        sized = np.exp(AIM_DISTANCE * spread(rng, (2,)) * rng.standard_normal(2))
        rows: dict[str, list[Any]] = {}
        for k in range(length):
            i = min(k, pick.size - 1)
            frame = clip.images[int(pick[i])]
            places: list[Array | None] = []
            told = np.full(2, -1, dtype=np.int8)
            for h in range(2):
                other = centres[i, 1 - h] if shown[i, 1 - h] else None
                own = (centres[i, h] + drift[h]) * sized[h]
                limbs = camera_joints[i, LIMBS][visible[i, LIMBS] == 1]
                decoys = clip.decoys[(clip.decoys[:, 0] == pick[i]) & (clip.decoys[:, 1] == h), 2:]
                place = self._place(own, shown[i, h], other, limbs, decoys, rng, reader)
                places.append(place)
                if place is not None:
                    told[h] = int(bool(shown[i, h]) and crop_shows(place, centres[i, h]))
            images, crops = cut_crops(frame, clip.camera, places, model.hand_px, reader.hand_cells)
            row = {
                "image": change(reader.fit.image(frame)), "image_rays": reader.rays, "image_known": np.bool_(look),
                "hands": np.stack([change(image) for image in images]), "hand_rays": crops.hand_rays,
                "hand_known": crops.hand_known, "hand_axes": crops.hand_axes, "hand_focal": crops.hand_focal,
                "hand_distance": crops.hand_distance, "crop": told,
                "heat": heat_target(reader, centres[i], shown[i], self.heat_side),
                "heat_known": np.isfinite(centres[i]).all(axis=-1) & (look and k < pick.size),
            }  # fmt: skip
            for name, value in row.items():
                rows.setdefault(name, []).append(value)
        return {name: np.stack(values) for name, values in rows.items()}

    def _place(
        self, centre: Array, shown: bool, other: Array | None, limbs: Array, decoys: Array,
        rng: np.random.Generator, reader: FrameReader,
    ) -> Array | None:  # fmt: skip
        """Where a crop is aimed: near the hand, now and then at the other one or elsewhere, or nowhere."""
        if not np.isfinite(centre).all() or rng.random() < self.config.hand_drop:
            return None
        if other is not None and np.isfinite(other).all() and rng.random() < (OTHER_SHOWN if shown else OTHER_ALONE):
            # what the finder does when it takes one hand for the other
            place = other
        elif len(decoys) and rng.random() < (DECOY_SHOWN if shown else DECOY_ALONE):
            place = decoys[rng.integers(len(decoys))]
        elif shown and rng.random() >= 0.05:
            place = centre
        elif rng.random() < 0.5:
            return None
        else:
            # a wrong guess teaches what a crop without a hand looks like: beside it, at another limb, anywhere
            limbs = limbs[np.isfinite(limbs).all(axis=-1)]
            if shown and rng.random() < 0.5:
                away = rng.standard_normal(3)
                place = centre + rng.uniform(1.2, 3.0) * HAND_RADIUS_M * away / np.linalg.norm(away)
            elif len(limbs) and rng.random() < 0.6:
                place = limbs[rng.integers(len(limbs))]
            else:
                side = reader.camera.size
                uv = np.array([[rng.uniform(0, side[0] - 1), rng.uniform(0, side[1] - 1)]])
                place = reader.camera.unproject(uv)[0] * rng.uniform(0.25, 0.7)
        place = (place + 0.01 * rng.standard_normal(3)) * np.exp(0.08 * rng.standard_normal())
        return place if reader.in_reach(place) else None


def spread(rng: np.random.Generator, shape: tuple[int, ...] = ()) -> Array:
    """Factors around 1, half of them beyond 0.67 or 1.5."""
    return np.exp(0.6 * rng.standard_normal(shape))


def photometric(rng: np.random.Generator) -> Callable[[NDArray[np.uint8]], NDArray[np.uint8]]:
    """A change of exposure, contrast, colour and noise: one for all frames of a window.

    Colours change far: rooms that can be told by theirs are learnt by heart, and with them what was done in each.
    """
    gain = np.exp(0.2 * rng.standard_normal()) * np.exp(0.12 * rng.standard_normal(3))
    colour = rng.uniform(0.0, 1.4)
    mix = ((colour * np.eye(3) + (1 - colour) * LUMA[:, None]) * gain).astype(np.float32)
    shift = 12 * rng.standard_normal()
    noise = 4 * rng.random() if rng.random() < 0.5 else 0.0
    seed = int(rng.integers(2**31))

    def change(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        out = image.astype(np.float32) @ mix + np.float32(shift)
        if noise:
            out += np.float32(noise) * np.random.default_rng(seed).standard_normal(out.shape, dtype=np.float32)
        return np.clip(out, 0, 255).astype(np.uint8)

    return change


class MixedSource:
    """Rendered windows, with some steps on head motion or hands alone, so that neither is unlearnt."""

    def __init__(self, rendered: Any, *others: tuple[Any | None, int]) -> None:
        """Keep them.

        Args:
            rendered: The source of all other steps.
            others: Source and every how many steps it is its turn; None takes no turn.
        """
        self.rendered = rendered
        self.others = [(source, every) for source, every in others if source is not None]

    def batch(self, step: int) -> Batch:
        """The batch of a training step."""
        for k, (source, every) in enumerate(self.others):
            if step % every == min(k, every - 1):
                return source.batch(step)
        return self.rendered.batch(step)
