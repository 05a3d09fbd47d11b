"""The network as a few numeric calls, numpy in and out: what prediction needs and what an exported network offers."""

from __future__ import annotations

import copy
from typing import Protocol

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from egopose.model.config import ModelConfig
from egopose.model.encoder import MobileEncoder, folded
from egopose.model.hand_head import HandEstimate
from egopose.model.heads import Output
from egopose.model.network import EgoPoseNet
from egopose.model.numeric import FrameArrays, Said, StepArrays
from egopose.model.records import Encoded, FrameBatch

Array = NDArray[np.float32]


class Engine(Protocol):
    """What runs the network. Leading axis 1 in all streaming calls."""

    config: ModelConfig
    sigma_factor: Array

    def see(self, image: Array, rays: Array) -> tuple[Array, Array]:
        """Image tokens (N, M, C) and hand finder map of images (N, 3, S, S)."""
        ...

    def encode(self, frame: FrameArrays) -> StepArrays:
        """Tokens of N frames."""
        ...

    def empty_cache(self) -> Array:
        """A streaming cache without steps."""
        ...

    def push(self, token: Array, rotation: Array, cache: Array) -> Array:
        """The cache with a new step."""
        ...

    def read(
        self, step: StepArrays, rotation: Array, first: NDArray[np.bool_], rest: NDArray[np.bool_], cache: Array
    ) -> tuple[Said, Array]:
        """What is said about a step, and the new cache."""
        ...


class TorchEngine:
    """Runs the network in torch."""

    def __init__(self, model: EgoPoseNet, device: torch.device | str = "cpu") -> None:
        self.device = torch.device(device)
        self.model = model.to(self.device).eval()
        self.config = model.config
        if isinstance(model.image_encoder, MobileEncoder) and isinstance(model.hand_encoder, MobileEncoder):
            # the caller's network stays as it is; all other parts are shared with it
            self.model = copy.copy(model)
            self.model._modules = dict(model._modules)
            self.model.image_encoder = folded(model.image_encoder)
            self.model.hand_encoder = folded(model.hand_encoder)
        self.sigma_factor: Array = model.sigma_factor.detach().cpu().numpy()  # type: ignore[operator]

    def _in(self, value: NDArray | None) -> Tensor | None:  # type: ignore[type-arg]
        return None if value is None else torch.from_numpy(np.ascontiguousarray(value)).to(self.device)

    @torch.inference_mode()
    def see(self, image: Array, rays: Array) -> tuple[Array, Array]:
        """See :class:`Engine`."""
        tokens, heat = self.model.see(self._in(image), self._in(rays))  # type: ignore[arg-type]
        return tokens.cpu().numpy(), heat.cpu().numpy()

    @torch.inference_mode()
    def encode(self, frame: FrameArrays) -> StepArrays:
        """See :class:`Engine`."""
        values = {name: self._in(value) for name, value in frame._asdict().items()}
        image_tokens = values.pop("image_tokens")
        batch = FrameBatch(**values)  # type: ignore[arg-type]
        hands = None
        if batch.hands is not None:
            hands = self.model.see_hands(
                batch.hands, batch.hand_rays, batch.hand_known, skip_absent=True  # type: ignore[arg-type]
            )  # fmt: skip
        encoded = self.model.fuse(batch, image_tokens, hands, None)
        return _step_arrays(encoded)

    def empty_cache(self) -> Array:
        """See :class:`Engine`."""
        return self.model.temporal.empty_cache().numpy()

    @torch.inference_mode()
    def push(self, token: Array, rotation: Array, cache: Array) -> Array:
        """See :class:`Engine`."""
        new = self.model.temporal.push(
            self._in(token)[:, None], self._in(rotation)[:, None], self._in(cache)  # type: ignore[index, arg-type]
        )  # fmt: skip
        return new.cpu().numpy()

    @torch.inference_mode()
    def read(
        self, step: StepArrays, rotation: Array, first: NDArray[np.bool_], rest: NDArray[np.bool_], cache: Array
    ) -> tuple[Said, Array]:
        """See :class:`Engine`."""
        encoded = self._encoded(step)
        finished, new = self.model.temporal.read(
            encoded.token[:, None], self._in(rotation)[:, None], self._in(first)[:, None],  # type: ignore[index]
            self._in(rest)[:, None], self._in(cache),  # type: ignore[index, arg-type]
        )  # fmt: skip
        return said(self.model.read(finished[:, 0], encoded)), new.cpu().numpy()

    @torch.inference_mode()
    def whole(self, steps: StepArrays, rotation: Array, first: NDArray[np.bool_], rest: NDArray[np.bool_]) -> Said:
        """All steps (T, ...) of a clip at once under masks (T, T)."""
        encoded = self._encoded(steps)
        finished = self.model.temporal(
            encoded.token[None],
            self._in(rotation)[None],  # type: ignore[index]
            self._in(first)[None],  # type: ignore[index]
            self._in(rest)[None],  # type: ignore[index]
        )
        return said(self.model.read(finished[0], encoded))

    def _encoded(self, step: StepArrays) -> Encoded:
        t = {name: self._in(value) for name, value in step._asdict().items()}
        hands = None if t["hand_wrist"] is None else HandEstimate(t["hand_wrist"], t["hand_offsets"])  # type: ignore[arg-type]
        return Encoded(
            t["token"], t["body_query"], t["image_known"],  # type: ignore[arg-type]
            t["hand_query"], hands, t["hand_logit"], t["hand_known"], None,
            t["up"], t["up_known"], t["height"],  # type: ignore[arg-type]
        )  # fmt: skip


def _np(value: Tensor | None) -> NDArray | None:  # type: ignore[type-arg]
    return None if value is None else value.cpu().numpy()


def _step_arrays(encoded: Encoded) -> StepArrays:
    hands = encoded.hands
    return StepArrays(
        token=encoded.token.cpu().numpy(),
        up=encoded.up.cpu().numpy(),
        up_known=encoded.up_known.cpu().numpy(),
        height=encoded.height.cpu().numpy(),
        body_query=_np(encoded.body_query),
        image_known=_np(encoded.image_known),
        hand_query=_np(encoded.hand_query),
        hand_wrist=None if hands is None else _np(hands.wrist),
        hand_offsets=None if hands is None else _np(hands.offsets),
        hand_logit=_np(encoded.hand_logit),
        hand_known=_np(encoded.hand_known),
    )


def said(output: Output) -> Said:
    """The numeric part of an :class:`egopose.model.heads.Output`."""
    return Said(
        xyz=output.xyz.cpu().numpy(),
        log_scale=output.log_scale.cpu().numpy(),
        visible=output.visible.cpu().numpy(),
        up=output.up.cpu().numpy(),
        height=output.height.cpu().numpy(),
        bones=output.bones.cpu().numpy(),
        contact=output.contact.cpu().numpy(),
    )
