"""A tiny network with random weights, head paths and pictures for the tests of the model."""

from __future__ import annotations

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from egopose.camera import Camera
from egopose.model.config import ModelConfig
from egopose.model.network import HEAT_CHANNELS, EgoPoseNet

TINY = ModelConfig(name="tiny", image_px=64, hand_px=32, encoder_width=0.25, dim=32, heads=2, decoder_layers=1,
                   temporal_layers=2, ring=12, window_s=1.0, dropout=0.1)  # fmt: skip


def walk(n: int = 60, fps: float = 30.0, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Head poses of a smooth random path, z up, floor at 0."""
    rng = np.random.default_rng(seed)
    t = np.arange(n) / fps
    yaw = np.cumsum(0.03 * rng.standard_normal(n)) + rng.uniform(-3, 3)
    pitch = 0.3 * np.sin(t * 3 + rng.uniform(0, 6)) + 0.3
    T = np.tile(np.eye(4), (n, 1, 1))
    base = np.array([[0, 0, 1], [-1, 0, 0], [0, -1, 0]], float)
    for i in range(n):
        turn = Rotation.from_euler("ZYX", [yaw[i], pitch[i], 0.05 * np.sin(5 * t[i])]).as_matrix()
        T[i, :3, :3] = turn @ base
    T[:, 0, 3], T[:, 1, 3] = np.cumsum(np.cos(yaw)) / fps, np.cumsum(np.sin(yaw)) / fps
    T[:, 2, 3] = 1.6 + 0.03 * np.sin(12 * t)
    return t, T


def shake(model: EgoPoseNet, seed: int = 0) -> EgoPoseNet:
    """Random weights everywhere, so that no zero-initialised path hides a difference."""
    g = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for p in model.parameters():
            p.add_(0.1 * torch.randn(p.shape, generator=g) / max(1.0, p[0].numel() ** 0.5 if p.ndim else 1.0))
        # a fresh hand finder sees no hands; here it should see some, in cells that say they are within the image
        model.heat.weight.mul_(0.3)
        model.heat.bias[::HEAT_CHANNELS] += 5.0
        for name, b in model.named_buffers():
            if name.endswith("running_var"):
                b.copy_(0.5 + torch.rand(b.shape, generator=g))
            elif name.endswith("running_mean"):
                b.copy_(0.1 * torch.randn(b.shape, generator=g))
    return model.eval()


CAMERA = Camera.pinhole(60.0, None, (120, 90), name="ego")


def pictures(n: int, seed: int = 0) -> list[np.ndarray]:
    rng = np.random.default_rng(seed)
    coarse = rng.integers(0, 255, (n, 9, 12, 3), dtype=np.uint8)
    return [np.kron(c, np.ones((10, 10, 1), np.uint8)) for c in coarse]
