"""Start values that come from the data: spread of the inputs, the mean body, how it sinks as the head rises."""

from __future__ import annotations

from collections.abc import Iterable

import torch

from egopose.model.heads import N_BODY, canonical_axes
from egopose.model.network import EgoPoseNet
from egopose.train.batch import Batch

SMALLEST_SPREAD = 0.02
"""Features that hardly vary are not blown up beyond this."""


@torch.no_grad()
def set_priors(model: EgoPoseNet, batches: Iterable[Batch]) -> None:
    """Set input statistics and the body head's constants from some batches.

    Args:
        model: A fresh network.
        batches: Batches with head poses and body labels.
    """
    features, joints, heights = [], [], []
    for batch in batches:
        live = batch.frames.head_known & batch.targets.step.flatten()
        features.append(batch.frames.head[live])
        targets = batch.targets
        body = targets.xyz[..., :N_BODY, :].flatten(0, 1)
        R = canonical_axes(targets.up.flatten(0, 1))
        body = torch.einsum("nij,nkj->nki", R, body)
        height = batch.frames.head[:, 0]
        # only where the height is told: the sink coefficient multiplies that feature
        told = live & torch.isfinite(body).all(-1).all(-1) & (batch.frames.head[:, 1] > 0)
        joints.append(body[told])
        heights.append(height[told])
    x = torch.cat(features)
    if len(x):
        model.head_mean.copy_(x.mean(0))  # type: ignore[operator]
        model.head_std.copy_(x.std(0).clamp_min(SMALLEST_SPREAD))  # type: ignore[operator]
    y, h = torch.cat(joints), torch.cat(heights)
    if len(y) < 100:
        return
    design = torch.stack([torch.ones_like(h), -h], dim=1).double()
    gram = design.T @ design + 1e-3 * len(h) * torch.diag(torch.tensor([0.0, 0.01], dtype=torch.double))
    answer = torch.linalg.solve(gram, design.T @ y.flatten(1).double()).float()
    model.heads.body.mean.copy_(answer[0].unflatten(0, (N_BODY, 3)))
    model.heads.body.sink.copy_(answer[1].unflatten(0, (N_BODY, 3)))
    # the same under a level camera
    model.heads.shown.mean.copy_(model.heads.body.mean @ canonical_axes(torch.tensor([0.0, -1.0, 0.0])))
