"""What is read from a finished step: joints, scales, visibility, bones, gravity, floor, contact."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from egopose.model.hand_head import N_HAND, HandEstimate, mirror_left, mlp
from egopose.skeleton import BODY17, BODY17_HANDS

N_BODY, N_JOINTS = BODY17.n_joints, BODY17_HANDS.n_joints
LEFT_WRIST, RIGHT_WRIST = BODY17.index("left_wrist"), BODY17.index("right_wrist")
CONTACTS = ("left_ankle", "right_ankle")
SMALLEST_SCALE_M = 0.002
"""Floor of the predicted scale; a smaller error bar than 4 mm is never claimed."""


class Output(NamedTuple):
    """What the network says about each step.

    Attributes:
        xyz: (..., 59, 3) metres, camera axes (x right, y down, z forward), origin at the camera.
        log_scale: (..., 59) log of the scale b of the density exp(-r / b) of the error's length r, metres.
        visible: (..., 59) logit that the joint is seen in the image.
        up: (..., 3) unit, gravity up in camera axes: given when the head pose is known, else predicted.
        gravity: (..., 3) the prediction itself, unit.
        height: (...) camera height over the floor, metres, predicted.
        bones: (..., B) lengths of the skeleton's bones, metres.
        contact: (..., 2) logit that the left and right foot rest on the floor.
        frame_body: (..., 17, 3) metres, camera axes, what the image alone shows of the body; None without images.
        frame_scale: (..., 17) its log scales, or None.
        frame_hands: Per-frame hands, used to place the next crops; None without crops.
        hand_logit: (..., 2) logit that the crop shows the hand, or None.
    """

    xyz: Tensor
    log_scale: Tensor
    visible: Tensor
    up: Tensor
    gravity: Tensor
    height: Tensor
    bones: Tensor
    contact: Tensor
    frame_body: Tensor | None
    frame_scale: Tensor | None
    frame_hands: HandEstimate | None
    hand_logit: Tensor | None


def canonical_axes(up: Tensor) -> Tensor:
    """R_canonical_camera (..., 3, 3) of gravity up in camera axes (..., 3) unit; see ``headmotion``."""
    right = torch.zeros_like(up)
    right[..., 0] = 1.0
    left = (up * right).sum(-1, keepdim=True) * up - right
    left = left / left.norm(dim=-1, keepdim=True).clamp_min(1e-6)
    return torch.stack([torch.linalg.cross(left, up, dim=-1), left, up], dim=-2)


class BodyHead(nn.Module):
    """Body joints relative to the camera, in canonical axes."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.joints = mlp(dim, dim, N_BODY * 3)
        self.doubt = mlp(dim, dim, N_BODY * 2)
        self.mean = nn.Parameter(torch.zeros(N_BODY, 3))
        # how far each joint sinks when the camera rises: 1 for a foot on the floor
        self.sink = nn.Parameter(torch.zeros(N_BODY, 3))

    def forward(self, x: Tensor, height: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Joints (..., 17, 3), log scales (..., 17) and visibility logits (..., 17).

        Args:
            x: (..., C) finished step.
            height: (...) camera height minus the nominal one, metres; zero when unknown.
        """
        joints = self.joints(x).unflatten(-1, (N_BODY, 3)) + self.mean - self.sink * height[..., None, None]
        # errors have the size of the body part: start the scale at 5 cm
        scale, visible = self.doubt(x).unflatten(-1, (2, N_BODY)).unbind(-2)
        return joints, scale - 3.0, visible


class ShownBody(nn.Module):
    """Body joints as one image shows them, in camera axes, and how sure it is: by that they count beside the body that
    follows from time. Next to nothing counts at first, and nothing without an image."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.joints = mlp(dim, 2 * dim, N_BODY * 3)
        self.mean = nn.Parameter(torch.zeros(N_BODY, 3))
        self.doubt = mlp(dim, dim, N_BODY)
        # two measurements of one joint count by their inverse variances; a joint's own two numbers say where that errs
        self.slope = nn.Parameter(torch.full((N_BODY,), 2.0))
        self.bias = nn.Parameter(torch.zeros(N_BODY))

    def alone(self, query: Tensor) -> tuple[Tensor, Tensor]:
        """Joints (..., 17, 3) in camera axes that the image alone shows, from its query (..., C), and log scales
        (..., 17): a metre at first, which is next to nothing."""
        return self.joints(query).unflatten(-1, (N_BODY, 3)) + self.mean, self.doubt(query)

    def forward(
        self, query: Tensor, image_known: Tensor, body: Tensor, scale: Tensor
    ) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """Joints (..., 17, 3) and log scales (..., 17) of time and image together, and the same of the image alone.

        Args:
            query: (..., C) what the frame's image told the body's query.
            image_known: (...) bool.
            body: (..., 17, 3) of the finished step, camera axes.
            scale: (..., 17) its log scales.
        """
        shown, doubt = self.alone(query)
        weight = torch.sigmoid(self.slope * (scale - doubt) + self.bias) * image_known[..., None]
        return body + weight[..., None] * (shown - body), scale + weight * (doubt - scale), shown, doubt


class StepHeads(nn.Module):
    """All heads that read the finished step."""

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.body = BodyHead(dim)
        self.side = nn.Parameter(torch.zeros(2, dim))
        self.hand_doubt = mlp(2 * dim, dim, N_HAND * 2)
        self.hand_gate = mlp(2 * dim, dim // 2, 1)
        self.rest_joints = mlp(dim, dim, (N_HAND - 1) * 3)
        self.rest_mean = nn.Parameter(torch.zeros(N_HAND - 1, 3))
        self.bones = nn.Linear(dim, len(BODY17_HANDS.bones))
        self.place = nn.Linear(dim, 4)
        self.contact = nn.Linear(dim, len(CONTACTS))
        self.shown = ShownBody(dim)

    def gravity_height(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Predicted up (..., 3) in camera axes, unit, and camera height (...) in metres."""
        raw = self.place(x)
        # a level camera sees up along -y
        up = raw[..., :3] + raw.new_tensor([0.0, -1.0, 0.0])
        return up / up.norm(dim=-1, keepdim=True).clamp_min(1e-6), raw[..., 3] + 1.5

    def forward(
        self,
        x: Tensor,
        *,
        up: Tensor,
        up_known: Tensor,
        height: Tensor,
        body_query: Tensor | None,
        image_known: Tensor | None,
        hands: HandEstimate | None,
        hand_query: Tensor | None,
        hand_known: Tensor | None,
        hand_logit: Tensor | None,
    ) -> Output:
        """Read finished steps (..., C).

        Args:
            x: Finished steps.
            up: (..., 3) gravity up in camera axes where ``up_known`` (...) is true.
            up_known: See ``up``.
            height: (...) camera height minus the nominal one, zero when unknown.
            body_query: (..., C) what the frames' images told the body's query.
            image_known: (...) bool, whether there was an image.
            hands: Per-frame hands.
            hand_query: (..., 2, C) their queries.
            hand_known: (..., 2) bool, whether there was a crop.
            hand_logit: (..., 2).
        """
        gravity, predicted_height = self.gravity_height(x)
        up = torch.where(up_known[..., None], up, gravity)
        R_canonical_camera = canonical_axes(up)
        body, scale, visible = self.body(x, height)
        body = torch.einsum("...ji,...kj->...ki", R_canonical_camera, body)
        shown = doubt = None
        if body_query is not None and image_known is not None:
            body, scale, shown, doubt = self.shown(body_query, image_known, body, scale)
        wrists = body[..., [LEFT_WRIST, RIGHT_WRIST], :]
        both = x[..., None, :].expand(*x.shape[:-1], 2, x.shape[-1]) + self.side
        rest = self.rest_joints(both).unflatten(-1, (N_HAND - 1, 3)) + self.rest_mean
        rest = mirror_left(rest, 1, rest.ndim - 3)
        rest = torch.einsum("...ji,...hkj->...hki", R_canonical_camera, rest)
        query = torch.zeros_like(both) if hand_query is None else hand_query * hand_known[..., None]  # type: ignore[index]
        pair = torch.cat([both, query], dim=-1)
        hand_scale, hand_visible = self.hand_doubt(pair).unflatten(-1, (2, N_HAND)).unbind(-2)
        if hands is not None and hand_known is not None:
            gate = torch.sigmoid(self.hand_gate(pair)) * hand_known[..., None]
            wrists = (1 - gate) * wrists + gate * hands.wrist
            rest = torch.where(hand_known[..., None, None], hands.offsets, rest)
            joints = list(body.unbind(-2))
            joints[LEFT_WRIST], joints[RIGHT_WRIST] = wrists[..., 0, :], wrists[..., 1, :]
            body = torch.stack(joints, dim=-2)
        hand = torch.cat([wrists[..., None, :], wrists[..., None, :] + rest], dim=-2)
        return Output(
            xyz=torch.cat([body, hand.flatten(-3, -2)], dim=-2),
            log_scale=torch.cat([scale, hand_scale.flatten(-2) - 3.0], dim=-1).clamp_min(math.log(SMALLEST_SCALE_M)),
            visible=torch.cat([visible, hand_visible.flatten(-2)], dim=-1),
            up=up,
            gravity=gravity,
            height=predicted_height,
            bones=nn.functional.softplus(self.bones(x) - 2.0),
            contact=self.contact(x),
            frame_body=shown,
            frame_scale=doubt,
            frame_hands=hands,
            hand_logit=hand_logit,
        )
