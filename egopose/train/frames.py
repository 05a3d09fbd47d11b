"""Batches of single frames that do not see each other: what reads whole images learns from as many places as it can."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from egopose import rigid
from egopose.model.headmotion import HEAD_FEATURES
from egopose.model.network import EgoPoseNet
from egopose.model.rays import crop_shows, normalise
from egopose.model.records import FrameBatch
from egopose.model.track import FrameReader
from egopose.skeleton import BODY12, BODY17, BODY17_HANDS, HAND21
from egopose.train.batch import Batch, WeightedDraw, stack, unrelated
from egopose.train.config import TrainConfig
from egopose.train.rendered import (
    VISIBLE_SHARE,
    RenderedClip,
    RenderedSource,
    hand_centres,
    hands_shown,
    heat_target,
    photometric,
)

SELDOM_SHARE = 0.5
"""Share of the frames that are drawn for what they show of the body: each joint as often as the others."""

LEAST_SHARE = 0.01
"""A joint that is in view in a smaller share of the frames than this is drawn as if it were in this share."""


def seldom_seen(visible: NDArray[np.int8]) -> NDArray[np.float64]:
    """Weights (N,) of frames by what they show (N, 59): joints from shoulders to ankles, the seldom ones as much."""
    seen = visible[:, BODY17_HANDS.indices(BODY12.joints)] == 1
    return np.asarray((seen / np.maximum(seen.mean(axis=0), LEAST_SHARE)).mean(axis=1))


class FrameSource:
    """Batches of single frames; batch ``step`` depends on the seed, the step and the process alone."""

    def __init__(self, clips: Sequence[RenderedClip], config: TrainConfig, *, rank: int = 0) -> None:
        """Keep the clips.

        Raises:
            EgoposeError: There are none.
        """
        self.rendered = RenderedSource(clips, config, rank=rank)
        self.config, self.rank = config, rank
        self.constant = unrelated(config.rendered_window, config.model)
        clips = self.rendered.clips
        lengths = np.array([len(clip) for clip in clips])
        self._first = np.concatenate([[0], np.cumsum(lengths)])
        alike = np.repeat(self.rendered.weights / lengths, lengths)
        seldom = seldom_seen(np.concatenate([clip.visible for clip in clips]))
        if seldom.any():
            alike = (1 - SELDOM_SHARE) * alike + SELDOM_SHARE * seldom / seldom.sum()
        self._draw = WeightedDraw(alike)

    def batch(self, step: int) -> Batch:
        """The frames of a training step, as windows."""
        rng = np.random.default_rng((self.config.seed, 11, self.rank, step))
        return stack([self._window(rng) for _ in range(self.config.rendered_batch)])

    def _window(self, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        length = self.config.rendered_window
        rows = []
        for at in self._draw(rng, length):
            index = int(np.searchsorted(self._first, at, side="right")) - 1
            rows.append(self.frame(index, int(at - self._first[index]), rng))
        told = {"image_known": np.ones(length, dtype=bool)}
        return {**self.constant, **told, **{key: np.stack([row[key] for row in rows]) for key in rows[0]}}

    def frame(self, index: int, at: int, rng: np.random.Generator) -> dict[str, NDArray[Any]]:
        """Frame ``at`` of a clip: inputs and labels."""
        clip, reader = self.rendered.clips[index], self.rendered.reader(index)
        T = clip.T_world_camera[at]
        joints = rigid.transform_points(rigid.invert(T), clip.joints[at])
        centres = hand_centres(joints)
        heat = heat_target(reader, centres, hands_shown(clip.visible[at]), self.rendered.heat_side)
        return {
            "image": photometric(rng)(reader.fit.image(clip.images[at])), "image_rays": reader.rays,
            "heat": heat, "xyz": joints.astype(np.float32), "visible": clip.visible[at],
            "up": T[2, :3].astype(np.float32), "heat_known": np.isfinite(centres).all(axis=-1),
        }  # fmt: skip


class LookedAt(NamedTuple):
    """Some frames of a clip, at their numbers (N,), as the network sees them one by one.

    Joints (N, 59, 3) are in camera axes, ``seen`` (N, 59) says which are in view; tokens and maps of hands are the
    network's.
    """

    clip: RenderedClip
    at: NDArray[np.int64]
    reader: FrameReader
    joints: NDArray[np.float64]
    seen: NDArray[np.bool_]
    tokens: torch.Tensor
    heat: torch.Tensor


def looked_at(model: EgoPoseNet, clips: Sequence[RenderedClip], every: int, batch: int) -> Iterator[LookedAt]:
    """Every so many frames of clips, looked at by the network in batches."""
    model.eval()
    device = next(model.parameters()).device
    for clip in clips:
        reader = FrameReader(clip.camera, model.config)
        picked = np.arange(0, len(clip), every)
        for start in range(0, picked.size, batch):
            frames = picked[start : start + batch]
            images = np.stack([reader.fit.image(clip.images[i]) for i in frames])
            rays = np.repeat(reader.rays[None], len(frames), axis=0)
            with torch.no_grad():
                tokens, heat = model.see(
                    torch.from_numpy(normalise(images)).to(device), torch.from_numpy(rays).to(device)
                )  # fmt: skip
            joints = rigid.transform_points(rigid.invert(clip.T_world_camera[frames]), clip.joints[frames])
            yield LookedAt(clip, frames, reader, joints, clip.visible[frames] == 1, tokens, heat)


def finder_scores(
    model: EgoPoseNet, clips: Sequence[RenderedClip], *, every: int = 3, batch: int = 32
) -> dict[str, float]:
    """What the hand finder does on single frames, by the rules of prediction but without a track.

    Hands of which less than :data:`VISIBLE_SHARE` but something is seen may or may not be found; hands without labels
    are not counted.

    Args:
        model: The network.
        clips: Held-out clips.
        every: Score every how many frames.
        batch: Frames at once.

    Returns:
        Per cent: ``missed`` of the hands that are shown, ``elsewhere`` (found too far off for its crop, ``other_hand``
        of these on the other one), ``false`` of hands of which nothing is seen, and ``score``, all that goes wrong.
    """
    counts = {"shown": 0, "hidden": 0, "missed": 0, "elsewhere": 0, "other_hand": 0, "false": 0}
    for frames in looked_at(model, clips, every, batch):
        centres = hand_centres(frames.joints)
        share = frames.seen[:, BODY17.n_joints :].reshape(-1, 2, HAND21.n_joints).mean(axis=-1)
        for i, maps in enumerate(frames.heat.cpu().numpy()):
            for h, place in enumerate(frames.reader.centres(maps, None)):
                if np.isfinite(centres[i, h]).all():
                    _count(counts, place, centres[i, h], centres[i, 1 - h], float(share[i, h]))
    seen, unseen = max(counts["shown"], 1), max(counts["hidden"], 1)
    wrong = counts["missed"] + counts["elsewhere"] + counts["false"]
    return {
        **{name: 100 * counts[name] / seen for name in ("missed", "elsewhere", "other_hand")},
        "false": 100 * counts["false"] / unseen, "score": 100 * wrong / (seen + unseen),
    }  # fmt: skip


def shown_scores(
    model: EgoPoseNet, clips: Sequence[RenderedClip], *, every: int = 3, batch: int = 32
) -> dict[str, float]:
    """How far off what single images alone show of the body is, without head poses.

    Args:
        model: The network.
        clips: Held-out clips.
        every: Score every how many frames.
        batch: Frames at once.

    Returns:
        ``shown_cm``: error where a joint is in view, the mean over the joints from shoulders to ankles that ever are,
        those that seldom are as much as others; NaN when none is.
    """
    inner = BODY17_HANDS.indices(BODY12.joints)
    total, times = np.zeros(len(inner)), np.zeros(len(inner))
    for frames in looked_at(model, clips, every, batch):
        unknown = torch.zeros(len(frames.joints), HEAD_FEATURES, device=frames.tokens.device)
        with torch.no_grad():
            query = model.fuse(FrameBatch(unknown, unknown[:, 0] > 0), frames.tokens, None, frames.heat).body_query
            assert query is not None
            shown = model.heads.shown.alone(query)[0].double().cpu().numpy()
        seen = frames.seen[:, inner]
        off = np.linalg.norm(shown[:, inner] - frames.joints[:, inner], axis=-1)
        total, times = total + np.where(seen, off, 0.0).sum(axis=0), times + seen.sum(axis=0)
    ever = times > 0
    return {"shown_cm": 100 * float((total[ever] / times[ever]).mean()) if ever.any() else float("nan")}


def _count(
    counts: dict[str, int], place: NDArray[np.float64] | None, own: NDArray[np.float64], other: NDArray[np.float64],
    share: float,
) -> None:  # fmt: skip
    if share >= VISIBLE_SHARE:
        counts["shown"] += 1
        if place is None:
            counts["missed"] += 1
        elif not crop_shows(place, own):
            counts["elsewhere"] += 1
            counts["other_hand"] += crop_shows(place, other)
    elif share == 0:
        counts["hidden"] += 1
        counts["false"] += place is not None
