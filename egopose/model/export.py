"""The network cut into the graphs that are exported."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from egopose.model.hand_head import HandEstimate
from egopose.model.network import EgoPoseNet
from egopose.model.numeric import Said
from egopose.model.records import FrameBatch


class See(nn.Module):
    """Image and rays to tokens and the hand finder's map."""

    def __init__(self, model: EgoPoseNet) -> None:
        super().__init__()
        self.model = model

    def forward(self, image: Tensor, rays: Tensor) -> tuple[Tensor, Tensor]:
        """See :meth:`EgoPoseNet.see`."""
        return self.model.see(image, rays)


class Encode(nn.Module):
    """All of a frame to its token, its queries and per-frame hands."""

    def __init__(self, model: EgoPoseNet) -> None:
        super().__init__()
        self.model = model

    def forward(
        self, head: Tensor, head_known: Tensor, imu: Tensor, imu_known: Tensor, image_tokens: Tensor,
        image_known: Tensor, hands: Tensor, hand_rays: Tensor, hand_known: Tensor, hand_axes: Tensor,
        hand_focal: Tensor, hand_distance: Tensor,
    ) -> tuple[Tensor | None, ...]:  # fmt: skip
        """See :meth:`EgoPoseNet.fuse`."""
        batch = FrameBatch(
            head, head_known, imu, imu_known, image_known=image_known, hand_known=hand_known, hand_axes=hand_axes,
            hand_focal=hand_focal, hand_distance=hand_distance,
        )  # fmt: skip
        maps = self.model.see_hands(hands, hand_rays, hand_known)
        out = self.model.fuse(batch, image_tokens, maps, None)
        assert out.hands is not None
        return out.token, out.body_query, out.hand_query, out.hands.wrist, out.hands.offsets, out.hand_logit


class Push(nn.Module):
    """Token and cache to the cache with the step in it."""

    def __init__(self, model: EgoPoseNet) -> None:
        super().__init__()
        self.temporal = model.temporal

    def forward(self, token: Tensor, rotation: Tensor, cache: Tensor) -> Tensor:
        """See :meth:`TemporalTransformer.push`."""
        return self.temporal.push(token[:, None], rotation[:, None], cache)


class Read(nn.Module):
    """Step and cache to joints and the new cache."""

    def __init__(self, model: EgoPoseNet) -> None:
        super().__init__()
        self.temporal, self.heads = model.temporal, model.heads

    def forward(
        self, token: Tensor, up: Tensor, up_known: Tensor, height: Tensor, body_query: Tensor, image_known: Tensor,
        hand_query: Tensor, hand_wrist: Tensor, hand_offsets: Tensor, hand_logit: Tensor, hand_known: Tensor,
        rotation: Tensor, first: Tensor, rest: Tensor, cache: Tensor,
    ) -> tuple[Tensor, ...]:  # fmt: skip
        """See :meth:`TemporalTransformer.read` and :meth:`EgoPoseNet.read`."""
        finished, new = self.temporal.read(token[:, None], rotation[:, None], first[:, None], rest[:, None], cache)
        out = self.heads(
            finished[:, 0], up=up, up_known=up_known, height=height, body_query=body_query, image_known=image_known,
            hands=HandEstimate(hand_wrist, hand_offsets), hand_query=hand_query, hand_known=hand_known,
            hand_logit=hand_logit,
        )  # fmt: skip
        return (*(getattr(out, name) for name in Said._fields), new)


def graphs(model: EgoPoseNet) -> dict[str, tuple[nn.Module, tuple[Tensor, ...], list[str], list[str]]]:
    """For each graph: module, example inputs, names of inputs and outputs."""
    from egopose.model.onnx import _FRAME, absent_frame

    config = model.config
    g = model.image_cells
    frame: dict[str, Any] = {k: torch.from_numpy(v) for k, v in absent_frame(config)._asdict().items()}
    # true flags: an example of all zeros could be folded into a constant
    frame = {k: ~v if v.dtype == torch.bool else v for k, v in frame.items()}
    half = config.dim // config.heads // 2
    rotation, cache = torch.zeros(1, 2, half), model.temporal.empty_cache()
    seen = torch.ones(1, config.ring, dtype=torch.bool)
    step = {
        "token": torch.zeros(1, config.dim), "up": torch.tensor([[0.0, -1.0, 0.0]]),
        "up_known": torch.ones(1, dtype=torch.bool), "height": torch.zeros(1),
        "body_query": torch.zeros(1, config.dim), "image_known": torch.ones(1, dtype=torch.bool),
        "hand_query": torch.zeros(1, 2, config.dim), "hand_wrist": torch.zeros(1, 2, 3),
        "hand_offsets": torch.zeros(1, 2, 20, 3), "hand_logit": torch.zeros(1, 2),
        "hand_known": torch.ones(1, 2, dtype=torch.bool),
    }  # fmt: skip
    image = torch.zeros(1, 3, config.image_px, config.image_px)
    rays = torch.zeros(1, g, g, 4)
    read_names = [*(f"step_{name}" for name in step), "rotation", "first", "rest", "cache"]
    return {
        "see": (See(model), (image, rays), ["image", "rays"], ["image_tokens", "heat"]),
        "encode": (
            Encode(model), tuple(frame[name] for name in _FRAME), list(_FRAME),
            ["token", "body_query", "hand_query", "hand_wrist", "hand_offsets", "hand_logit"],
        ),
        "push": (Push(model), (step["token"], rotation, cache), ["token", "rotation", "cache"], ["new_cache"]),
        "read": (
            Read(model), (*step.values(), rotation, seen, seen.clone(), cache), read_names,
            [*Said._fields, "new_cache"],
        ),
    }  # fmt: skip
