"""Losses over windows: masked per joint, weighted by how sure the label is."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from egopose.config import Config
from egopose.model.heads import LEFT_WRIST, RIGHT_WRIST, Output
from egopose.model.network import HEAT_CHANNELS
from egopose.model.records import Encoded
from egopose.skeleton import BODY17, BODY17_HANDS, HAND21


class LossConfig(Config, frozen=True, kw_only=True):
    """Weights of the terms.

    Attributes:
        xyz: Negative log-likelihood of the joints under exp(-r / b) / b^3, r the length of the error in metres.
        beta: Each likelihood is multiplied by its own (detached) b to this power: 0 is the plain likelihood, 1 gives
            every joint the gradient of its distance (beta-NLL, Seitzer et al., 2022).
        plain_steps: First steps that use the plain distance instead.
        face: Weight of the five face joints, which follow from the head pose.
        seen: Weight of body joints in view.
        label_sigma_m: Label error at which a joint counts half.
        frame_body: Likelihood of what single images show of the body, and distance of what is made of it, each joint
            where it is in view; joints that seldom are count as much as others. Where a joint is hidden the likelihood
            counts a little, :data:`HIDDEN`.
        hand: Distance of wrist-relative hand joints, times the share of crops.
        frame_hand: Distance of the per-frame hands that place the next crops.
        ray: Angle between predicted and true viewing ray of visible joints, radians.
        velocity: World velocity, metres per second.
        acceleration: World acceleration over three steps, metres per second squared.
        bone: Bone lengths of the pose against the predicted lengths, and those against the labels, metres.
        symmetry: Left against right predicted bone length, metres.
        visible: Cross-entropy of visibility.
        contact: Cross-entropy of foot contact.
        foot: World speed of a foot in contact, metres per second.
        gravity: One minus the cosine.
        height: Camera height, metres.
        heat: Focal loss of the hand finder.
        crop: Cross-entropy of "this crop shows the hand".
    """

    xyz: float = 1.0
    beta: float = 1.0
    plain_steps: int = 200
    face: float = 0.3
    seen: float = 1.0
    label_sigma_m: float = 0.03
    frame_body: float = 0.0
    hand: float = 2.0
    frame_hand: float = 1.0
    ray: float = 0.1
    velocity: float = 0.03
    acceleration: float = 0.0
    bone: float = 0.2
    symmetry: float = 0.1
    visible: float = 0.02
    contact: float = 0.01
    foot: float = 0.01
    gravity: float = 0.1
    height: float = 0.1
    heat: float = 0.05
    crop: float = 0.02


@dataclass
class Targets:
    """Labels of B windows of T steps; NaN or a negative number means "no label".

    Attributes:
        xyz: (B, T, 59, 3) metres, camera axes, NaN without label.
        sigma: (B, T, 59) label error, metres, or None.
        visible: (B, T, 59) 1 seen, 0 not, -1 unknown.
        T_world_camera: (B, T, 4, 4).
        times_s: (B, T) seconds.
        step: (B, T) bool, false for padding.
        up: (B, T, 3) gravity up in camera axes, NaN unknown.
        height: (B, T) camera height over the floor, NaN unknown.
        contact: (B, T, 2) 1, 0 or -1.
        crop: (B, T, 2) 1 the crop shows the hand, 0 not, -1 no crop; or None.
        heat: (B, T, 2, HEAT_CHANNELS, g, g): 1 at the hand's cell, its shift and log distance; or None.
        heat_known: (B, T, 2) bool, whether the hand's place in the image is known; or None.
        apart: (B,) bool, windows of single frames, of other people at other times: nothing is asked of what lies
            between their steps; or None, there are none.
    """

    xyz: Tensor
    sigma: Tensor | None
    visible: Tensor
    T_world_camera: Tensor
    times_s: Tensor
    step: Tensor
    up: Tensor
    height: Tensor
    contact: Tensor
    crop: Tensor | None = None
    heat: Tensor | None = None
    heat_known: Tensor | None = None
    apart: Tensor | None = None

    def map(self, change: Any) -> Targets:
        """The same labels with a function applied to each tensor that is there."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        changed: dict[str, Any] = {k: None if v is None else change(v) for k, v in values.items()}
        return Targets(**changed)


SELDOM = 3.0
"""Frames of a batch in which a joint must be in view for half the weight of one that always is."""

HIDDEN = 0.2
"""Weight of what single images say of joints that they do not show: mostly how little they know."""

_BONES = torch.tensor(BODY17_HANDS.bones)
_FACE = [i for i, name in enumerate(BODY17.joints) if name.split("_")[-1] in ("nose", "eye", "ear")]
_FEET = [BODY17.index("left_ankle"), BODY17.index("right_ankle")]


def _bone_mirror() -> list[int]:
    """For each bone the bone of the other side (itself when it has none)."""
    other = BODY17_HANDS.mirror_index
    key = {frozenset(bone): i for i, bone in enumerate(BODY17_HANDS.bones)}
    return [key.get(frozenset((int(other[a]), int(other[b]))), i) for i, (a, b) in enumerate(BODY17_HANDS.bones)]


_BONE_MIRROR = _bone_mirror()


def _mean(values: Tensor, weight: Tensor) -> Tensor:
    """Weighted mean; zero (with a gradient of zero) when nothing counts."""
    return (torch.where(weight > 0, values, torch.zeros_like(values)) * weight).sum() / weight.sum().clamp_min(1e-6)


def _norm(x: Tensor) -> Tensor:
    """Length of vectors with a finite gradient at zero."""
    return torch.sqrt((x * x).sum(-1) + 1e-10)


def total_loss(
    output: Output, encoded: Encoded, targets: Targets, config: LossConfig, step: int
) -> tuple[Tensor, dict[str, Tensor]]:
    """The weighted sum and its terms.

    Args:
        output: Of the network, leading shape (B, T).
        encoded: Of the network, leading shape (B, T).
        targets: Labels.
        config: Weights.
        step: Number of the training step, for the warm-up.

    Returns:
        Scalar loss, and the unweighted terms by name.
    """
    known = torch.isfinite(targets.xyz).all(-1) & targets.step[..., None]
    truth = torch.where(known[..., None], targets.xyz, torch.zeros_like(targets.xyz))
    weight = known.float()
    label = torch.zeros_like(weight) if targets.sigma is None else torch.nan_to_num(targets.sigma)
    weight = weight * config.label_sigma_m**2 / (config.label_sigma_m**2 + label**2)
    joint_weight = weight.clone()
    joint_weight[..., _FACE] *= config.face
    body = slice(0, BODY17.n_joints)
    joint_weight[..., body] *= 1 + (config.seen - 1) * (targets.visible[..., body] == 1)
    distance = _norm(output.xyz - truth)
    # the label's own error widens what the network has to explain
    scale = torch.sqrt(torch.exp(2 * output.log_scale) + label**2 / 4)
    terms: dict[str, Tensor] = {"distance": _mean(distance, joint_weight)}
    if step < config.plain_steps:
        terms["xyz"] = terms["distance"] + 0.02 * _mean(_doubted(distance.detach(), scale, 0.0), joint_weight)
    else:
        terms["xyz"] = _mean(_doubted(distance, scale, config.beta), joint_weight)
    if config.frame_body and output.frame_body is not None and output.frame_scale is not None:
        off = _norm(output.frame_body - truth[..., body, :])
        alone = _doubted(off, torch.exp(output.frame_scale), 1.0)
        seen_body = weight[..., body] * (targets.visible[..., body] == 1)
        hidden = weight[..., body] * (targets.visible[..., body] == 0)
        terms["frame_body"] = (
            _each_joint(alone, seen_body) + HIDDEN * _each_joint(alone, hidden)
            + _each_joint(distance[..., body], seen_body)
        )  # fmt: skip
    if config.hand or config.frame_hand:
        terms.update(_hand_terms(output, truth, weight, targets))
    seen = (targets.visible == 1) & known
    cross = torch.linalg.cross(output.xyz, truth, dim=-1)
    angle = torch.atan2(_norm(cross), (output.xyz * truth).sum(-1))
    terms["ray"] = _mean(angle, weight * seen)
    if targets.apart is None:
        one, together = known, weight
    else:
        one, together = known & ~targets.apart[:, None, None], weight * ~targets.apart[:, None, None]
    terms.update(_motion_terms(output, targets, truth, together))
    terms.update(_bone_terms(output, truth, one))
    asked = (targets.visible >= 0) & targets.step[..., None]
    terms["visible"] = _mean(_cross_entropy(output.visible, targets.visible), asked.float())
    terms["contact"] = _mean(
        _cross_entropy(output.contact, targets.contact), ((targets.contact >= 0) & targets.step[..., None]).float()
    )
    live = targets.step.float()
    up_known = torch.isfinite(targets.up).all(-1)
    up = torch.where(up_known[..., None], targets.up, torch.zeros_like(targets.up))
    terms["gravity"] = _mean(1 - (output.gravity * up).sum(-1), live * up_known)
    height_known = torch.isfinite(targets.height)
    height = torch.where(height_known, targets.height, torch.zeros_like(targets.height))
    terms["height"] = _mean((output.height - height).abs(), live * height_known)
    if encoded.heat is not None and targets.heat is not None and targets.heat_known is not None:
        terms["heat"] = _heat_loss(encoded.heat, targets.heat, targets.heat_known & targets.step[..., None])
    if output.hand_logit is not None and targets.crop is not None:
        terms["crop"] = _mean(
            _cross_entropy(output.hand_logit, targets.crop), ((targets.crop >= 0) & targets.step[..., None]).float()
        )
    loss = sum(
        (getattr(config, name) * value for name, value in terms.items() if hasattr(config, name)),
        start=output.xyz.new_zeros(()),
    )
    return loss, terms


def _cross_entropy(logit: Tensor, target: Tensor) -> Tensor:
    return F.binary_cross_entropy_with_logits(logit, target.clamp_min(0).float(), reduction="none")


def _hands(xyz: Tensor) -> Tensor:
    """(B, T, 2, 21, 3) of (B, T, 59, 3)."""
    return xyz[..., BODY17.n_joints :, :].unflatten(-2, (2, HAND21.n_joints))


def _doubted(distance: Tensor, scale: Tensor, beta: float) -> Tensor:
    """Negative log-likelihood of errors of some length, each times its scale to the power of beta."""
    return (distance / scale + 3 * torch.log(scale)) * scale.detach() ** beta


def _each_joint(values: Tensor, weight: Tensor) -> Tensor:
    """Mean over joints, the last axis, of each one's weighted mean."""
    lead = tuple(range(weight.ndim - 1))
    total, counted = (values * weight).sum(lead), weight.sum(lead)
    # one that a single frame shows is not worth as much as those of a whole batch
    return (total / (counted + SELDOM)).mean()


def _hand_terms(output: Output, truth: Tensor, weight: Tensor, targets: Targets) -> dict[str, Tensor]:
    said, true = _hands(output.xyz), _hands(truth)
    w = weight[..., BODY17.n_joints :].unflatten(-1, (2, HAND21.n_joints))
    pair = w[..., 1:] * (w[..., :1] > 0)
    # a hand that is seen teaches its shape, one that is not only its resting pose
    seen = targets.visible[..., BODY17.n_joints :].unflatten(-1, (2, HAND21.n_joints))
    pair = pair * torch.where((seen == 1).float().mean(-1, keepdim=True) > 0.3, 1.0, 0.1)
    relative = _norm((said[..., 1:, :] - said[..., :1, :]) - (true[..., 1:, :] - true[..., :1, :]))
    terms = {"hand": _mean(relative, pair)}
    if output.frame_hands is not None and targets.crop is not None:
        shown = (targets.crop == 1).float()
        wrist = _norm(output.frame_hands.wrist - true[..., 0, :])
        offsets = _norm(output.frame_hands.offsets - (true[..., 1:, :] - true[..., :1, :]))
        terms["frame_hand"] = _mean(wrist, shown * (w[..., 0] > 0)) + 2 * _mean(offsets, pair * shown[..., None])
    return terms


def _motion_terms(output: Output, targets: Targets, truth: Tensor, weight: Tensor) -> dict[str, Tensor]:
    R, t = targets.T_world_camera[..., None, :3, :3], targets.T_world_camera[..., None, :3, 3]
    said = (R @ output.xyz[..., None])[..., 0] + t
    true = (R @ truth[..., None])[..., 0] + t
    dt = (targets.times_s[:, 1:] - targets.times_s[:, :-1]).clamp_min(1e-3)[..., None, None]
    v_said, v_true = (said[:, 1:] - said[:, :-1]) / dt, (true[:, 1:] - true[:, :-1]) / dt
    both = weight[:, 1:] * weight[:, :-1]
    terms = {"velocity": _mean(_norm(v_said - v_true), both)}
    step = 0.5 * (dt[:, 1:] + dt[:, :-1])
    a_said, a_true = (v_said[:, 1:] - v_said[:, :-1]) / step, (v_true[:, 1:] - v_true[:, :-1]) / step
    terms["acceleration"] = _mean(_norm(a_said - a_true), both[:, 1:] * both[:, :-1])
    rests = (targets.contact[:, 1:] == 1) & (targets.contact[:, :-1] == 1) & targets.step[:, 1:, None]
    terms["foot"] = _mean(_norm(v_said[:, :, _FEET]), rests.float())
    return terms


def _bone_terms(output: Output, truth: Tensor, known: Tensor) -> dict[str, Tensor]:
    a, b = _BONES.to(output.xyz.device).unbind(1)
    said = _norm(output.xyz[..., a, :] - output.xyz[..., b, :])
    true = _norm(truth[..., a, :] - truth[..., b, :])
    both = (known[..., a] & known[..., b]).float()
    # one length per bone and window: the labels' mean, and what the network says on average
    asked = both.sum(1)
    mean_true = (true * both).sum(1) / asked.clamp_min(1)
    mean_said = output.bones.mean(1)
    vector = _mean((mean_said - mean_true).abs(), (asked > 0).float())
    pose = _mean((said - mean_said[:, None]).abs(), both)
    symmetry = (mean_said - mean_said[:, _BONE_MIRROR]).abs().mean()
    return {"bone": vector + pose, "symmetry": symmetry}


def _heat_loss(heat: Tensor, target: Tensor, known: Tensor) -> Tensor:
    """Penalty-reduced focal loss (Law and Deng, CornerNet, 2018) with shift and log distance at the hand's cell."""
    logit, truth = heat[..., 0, :, :], target[..., 0, :, :]
    p = torch.sigmoid(logit).clamp(1e-4, 1 - 1e-4)
    peak = truth >= 0.999
    loss = -torch.where(peak, (1 - p) ** 2 * torch.log(p), (1 - truth) ** 4 * p**2 * torch.log(1 - p))
    counted = known[..., None, None].float()
    hits = peak & known[..., None, None]
    focal = (loss * counted).sum() / hits.sum().clamp_min(1)
    shift = (heat[..., 1:, :, :] - target[..., 1:, :, :]).abs().sum(-3)
    assert heat.shape[-3] == HEAT_CHANNELS
    return focal + _mean(shift, hits.float())


def wrist_tie(output: Output) -> Tensor:
    """Distance (..., 2) between body wrists and hand wrists; zero by construction, kept as a check."""
    hands = _hands(output.xyz)[..., 0, :]
    return _norm(output.xyz[..., [LEFT_WRIST, RIGHT_WRIST], :] - hands)
