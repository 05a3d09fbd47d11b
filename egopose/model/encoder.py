"""Convolutional image encoder: inverted residuals, stride 32, written for one CPU core."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

STAGES: tuple[tuple[int, int, int, int], ...] = (
    # expansion, channels at width 1, blocks, stride
    (1, 16, 1, 1),
    (4, 24, 2, 2),
    (4, 40, 2, 2),
    (4, 80, 3, 2),
    (4, 128, 3, 2),
)
STEM_CHANNELS = 16
FINE_STAGE = 3
"""Index of the last stage at stride 16, whose map the hand finder reads."""

DETAIL_STAGE = 2
"""Index of the last stage at stride 8, whose map hands are corrected by."""


def _round8(value: float) -> int:
    return max(8, int(value + 4) // 8 * 8)


def _conv(
    inputs: int, outputs: int, kernel: int, stride: int = 1, groups: int = 1, *, act: bool = True
) -> nn.Sequential:
    layers: list[nn.Module] = [
        nn.Conv2d(inputs, outputs, kernel, stride, kernel // 2, groups=groups, bias=False),
        nn.BatchNorm2d(outputs),
    ]
    if act:
        layers.append(nn.Hardswish(inplace=True))
    return nn.Sequential(*layers)


class InvertedResidual(nn.Module):
    """Expand, depthwise, project (Sandler et al., MobileNetV2, 2018)."""

    def __init__(self, inputs: int, outputs: int, expansion: int, stride: int) -> None:
        super().__init__()
        hidden = inputs * expansion
        expand = [] if expansion == 1 else [_conv(inputs, hidden, 1)]
        self.body = nn.Sequential(
            *expand, _conv(hidden, hidden, 3, stride, hidden), _conv(hidden, outputs, 1, act=False)
        )
        self.skip = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H / stride, W / stride)."""
        y = self.body(x)
        return x + y if self.skip else y


class Pointwise(nn.Module):
    """A 1 x 1 convolution as a product of matrices: faster where pixels are few and channels come last in memory."""

    def __init__(self, conv: nn.Conv2d) -> None:
        super().__init__()
        assert conv.bias is not None
        self.weight = nn.Parameter(conv.weight.detach()[:, :, 0, 0].contiguous())
        self.bias = nn.Parameter(conv.bias.detach())

    def forward(self, x: Tensor) -> Tensor:
        """(N, C, H, W) to (N, C', H, W)."""
        return F.linear(x.permute(0, 2, 3, 1), self.weight, self.bias).permute(0, 3, 1, 2)


def folded(encoder: MobileEncoder) -> MobileEncoder:
    """A copy for prediction: convolutions take in the normalisation behind them; the same in half the time on a CPU."""
    encoder = copy.deepcopy(encoder).eval()
    for part in list(encoder.modules()):
        if not (isinstance(part, nn.Sequential) and len(part) > 1 and isinstance(part[1], nn.BatchNorm2d)):
            continue
        conv = part[0]
        assert isinstance(conv, nn.Conv2d)
        conv = fuse_conv_bn_eval(conv, part[1])
        part[0], part[1] = Pointwise(conv) if conv.kernel_size == (1, 1) else conv, nn.Identity()
    return encoder.to(memory_format=torch.channels_last)  # type: ignore[call-overload, no-any-return]


class MobileEncoder(nn.Module):
    """Images to tokens at stride 32 and finer maps at strides 16 and 8.

    Attributes:
        fine_channels: Channels of the map at stride 16.
        detail_channels: Of the one at stride 8.
        detail_stride: That stride, pixels.
    """

    detail_stride = 8

    def __init__(self, dim: int, width: float) -> None:
        super().__init__()
        channels = _round8(STEM_CHANNELS * width)
        self.stem = _conv(3, channels, 3, 2)
        stages = []
        for i, (expansion, base, blocks, stride) in enumerate(STAGES):
            outputs = _round8(base * width)
            stage = []
            for k in range(blocks):
                stage.append(InvertedResidual(channels, outputs, expansion, stride if k == 0 else 1))
                channels = outputs
            stages.append(nn.Sequential(*stage))
            if i == DETAIL_STAGE:
                self.detail_channels = outputs
            if i == FINE_STAGE:
                self.fine_channels = outputs
        self.stages = nn.ModuleList(stages)
        self.project = _conv(channels, dim, 1)

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Encode.

        Args:
            image: (N, 3, S, S) float, roughly zero mean and unit variance.

        Returns:
            Tokens (N, C, S/32, S/32), the finer map (N, fine_channels, S/16, S/16) and the finest one
            (N, detail_channels, S/8, S/8).
        """
        x = self.stem(image)
        fine = detail = x
        for i, stage in enumerate(self.stages):
            x = stage(x)
            if i == DETAIL_STAGE:
                detail = x
            if i == FINE_STAGE:
                fine = x
        return self.project(x), fine, detail
