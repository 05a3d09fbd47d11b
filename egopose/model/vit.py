"""Vision transformers of the DINOv2 and DINOv3 kind, and loaders for the state dicts that users bring.

Written from the papers (Oquab et al., 2023; Darcet et al., 2023, registers; Simeoni et al., 2025) and the public key
layouts; no weights come with the package.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from egopose.errors import EgoposeError

ROPE_BASE = 100.0
"""Base of DINOv3's two-dimensional rotary positions."""


class Block(nn.Module):
    """Pre-norm attention and feed-forward with a learned scale on each branch."""

    def __init__(self, dim: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        # 1e-6 and 1e-5 are the epsilons the two families were trained with
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.qkv = nn.Linear(dim, 3 * dim)
        self.proj = nn.Linear(dim, dim)
        self.scale1 = nn.Parameter(torch.full((dim,), 1e-1))
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.fc1 = nn.Linear(dim, 4 * dim)
        self.fc2 = nn.Linear(4 * dim, dim)
        self.scale2 = nn.Parameter(torch.full((dim,), 1e-1))

    def forward(self, x: Tensor, rope: tuple[Tensor, Tensor, int] | None) -> Tensor:
        """(N, T, C) to (N, T, C); rope holds sines, cosines and how many leading tokens have no position."""
        q, k, v = self.qkv(self.norm1(x)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        if rope is not None:
            q, k = _turn(q, *rope), _turn(k, *rope)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).flatten(2)
        x = x + self.scale1 * self.proj(mixed)
        return x + self.scale2 * self.fc2(F.gelu(self.fc1(self.norm2(x))))


def _turn(x: Tensor, sin: Tensor, cos: Tensor, skip: int) -> Tensor:
    plain, placed = x[:, :, :skip], x[:, :, skip:]
    a, b = placed.chunk(2, dim=-1)
    return torch.cat([plain, placed * cos + torch.cat([-b, a], dim=-1) * sin], dim=2)


class VisionTransformer(nn.Module):
    """Patch tokens of an image; the class and register tokens are used inside and dropped at the end."""

    def __init__(self, *, layout: str, dim: int, depth: int, heads: int, patch: int, grid: int, out_dim: int) -> None:
        super().__init__()
        self.layout, self.dim, self.heads, self.patch, self.grid = layout, dim, heads, patch, grid
        self.stride = self.fine_stride = self.detail_stride = patch
        self.fine_channels = self.detail_channels = dim
        self.patch_embed = nn.Conv2d(3, dim, patch, patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, dim))
        self.register_tokens = nn.Parameter(torch.zeros(1, 4 if layout == "dinov3" else 0, dim))
        if layout == "dinov2":
            self.position = nn.Parameter(torch.randn(1, 1 + grid * grid, dim) * 0.02)
        self.blocks = nn.ModuleList(Block(dim, heads) for _ in range(depth))
        # the two families normalise the output with different epsilons
        self.norm = nn.LayerNorm(dim, eps=1e-6)
        if layout == "dinov3":
            for module in self.modules():
                if isinstance(module, nn.LayerNorm):
                    module.eps = 1e-5
        self.project = nn.Linear(dim, out_dim)

    def _positions(self, side: int) -> Tensor:
        """The learned position table resized to a grid of the given side."""
        table = self.position[:, 1:]
        if side != self.grid:
            square = table.transpose(1, 2).unflatten(2, (self.grid, self.grid))
            square = F.interpolate(square, size=(side, side), mode="bicubic", align_corners=False)
            table = square.flatten(2).transpose(1, 2)
        return torch.cat([self.position[:, :1], table], dim=1)

    def _rope(self, side: int, device: torch.device) -> tuple[Tensor, Tensor, int]:
        width = self.dim // self.heads
        rates = 1 / ROPE_BASE ** torch.arange(0, 1, 4 / width, dtype=torch.float32, device=device)
        centre = 2 * (torch.arange(side, dtype=torch.float32, device=device) + 0.5) / side - 1
        yx = torch.stack(torch.meshgrid(centre, centre, indexing="ij"), dim=-1).reshape(-1, 2)
        angles = (2 * math.pi * yx[:, :, None] * rates).flatten(1).tile(2)
        return angles.sin(), angles.cos(), 1 + self.register_tokens.shape[1]

    def features(self, image: Tensor) -> Tensor:
        """Normalised patch tokens (N, (S / patch)^2, C) of images (N, 3, S, S)."""
        x = self.patch_embed(image)
        side = x.shape[-1]
        x = x.flatten(2).transpose(1, 2)
        lead = self.cls_token.expand(x.shape[0], -1, -1)
        x = torch.cat([lead, x], dim=1)
        rope = None
        if self.layout == "dinov2":
            x = x + self._positions(side)
        else:
            rope = self._rope(side, x.device)
        registers = self.register_tokens.expand(x.shape[0], -1, -1)
        x = torch.cat([x[:, :1], registers, x[:, 1:]], dim=1)
        for block in self.blocks:
            x = block(x, rope)
        return self.norm(x)[:, 1 + registers.shape[1] :]

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens (N, out_dim, g, g) and the map (N, C, g, g) that the hand finder reads, g = S / patch; once more, as
        there is none finer."""
        patches = self.features(image)
        side = image.shape[-1] // self.patch
        fine = patches.transpose(1, 2).unflatten(2, (side, side))
        tokens = self.project(patches).transpose(1, 2).unflatten(2, (side, side))
        return tokens, fine, fine


_RENAMES: tuple[tuple[str, str], ...] = (
    # original repositories
    (r"^patch_embed\.proj\.(weight|bias)$", r"patch_embed.\1"),
    (r"^pos_embed$", "position"),
    (r"^storage_tokens$", "register_tokens"),
    (r"^blocks\.(\d+)\.attn\.(qkv|proj)\.(weight|bias)$", r"blocks.\1.\2.\3"),
    (r"^blocks\.(\d+)\.ls([12])\.gamma$", r"blocks.\1.scale\2"),
    (r"^blocks\.(\d+)\.mlp\.(fc[12])\.(weight|bias)$", r"blocks.\1.\2.\3"),
    # transformers: Dinov2Model
    (r"^embeddings\.(cls_token|register_tokens)$", r"\1"),
    (r"^embeddings\.position_embeddings$", "position"),
    (r"^embeddings\.patch_embeddings\.(?:projection\.)?(weight|bias)$", r"patch_embed.\1"),
    (r"^(?:encoder|model)\.layer\.(\d+)\.(.*)$", r"layer.\1.\2"),
    (r"^layer\.(\d+)\.attention\.attention\.(query|key|value)\.(weight|bias)$", r"layer.\1.\2.\3"),
    (r"^layer\.(\d+)\.attention\.output\.dense\.(weight|bias)$", r"layer.\1.proj.\2"),
    # transformers: DINOv3ViTModel
    (r"^layer\.(\d+)\.attention\.q_proj\.(weight|bias)$", r"layer.\1.query.\2"),
    (r"^layer\.(\d+)\.attention\.k_proj\.(weight|bias)$", r"layer.\1.key.\2"),
    (r"^layer\.(\d+)\.attention\.v_proj\.(weight|bias)$", r"layer.\1.value.\2"),
    (r"^layer\.(\d+)\.attention\.o_proj\.(weight|bias)$", r"layer.\1.proj.\2"),
    (r"^layer\.(\d+)\.mlp\.(?:up_proj|fc1)\.(weight|bias)$", r"layer.\1.fc1.\2"),
    (r"^layer\.(\d+)\.mlp\.(?:down_proj|fc2)\.(weight|bias)$", r"layer.\1.fc2.\2"),
    (r"^layer\.(\d+)\.layer_scale([12])\.lambda1$", r"layer.\1.scale\2"),
    (r"^layer\.(\d+)\.(.*)$", r"blocks.\1.\2"),
    (r"^layernorm\.(weight|bias)$", r"norm.\1"),
)
_UNUSED = re.compile(r"(mask_token|rope_embed|rope_embeddings|bias_mask|head\.|local_cls_norm|cls_norm)")


def map_vit_keys(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Bring the keys of a DINOv2 or DINOv3 state dict, of either public layout, to :class:`VisionTransformer`."""
    out: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for key, value in state.items():
        if _UNUSED.search(key):
            continue
        name = re.sub(r"^(module|backbone|teacher|student)\.", "", key)
        for pattern, new in _RENAMES:
            name = re.sub(pattern, new, name)
        split = re.match(r"^(blocks\.\d+)\.(query|key|value)\.(weight|bias)$", name)
        if split:
            parts.setdefault(f"{split[1]}.qkv.{split[3]}", {})[split[2]] = value
        else:
            out[name] = value
    for name, three in parts.items():
        known = next(iter(three.values()))
        # DINOv3 keys have no bias
        out[name] = torch.cat([three.get(part, torch.zeros_like(known)) for part in ("query", "key", "value")])
    return out


def load_vit(model: VisionTransformer, state: Mapping[str, Tensor], where: str = "state dict") -> None:
    """Load a user's DINOv2 or DINOv3 weights into a transformer; the output projection keeps its values.

    Args:
        model: The transformer to fill.
        state: The state dict, of the original repositories or of transformers.
        where: Named in messages.

    Raises:
        EgoposeError: Keys are missing or unknown, or a shape differs (wrong size or layout).
    """
    mapped = map_vit_keys(state)
    own = model.state_dict()
    if "register_tokens" not in mapped and own["register_tokens"].numel() == 0:
        mapped["register_tokens"] = own["register_tokens"]
    if "register_tokens" in mapped and mapped["register_tokens"].shape != own["register_tokens"].shape:
        model.register_tokens = nn.Parameter(torch.zeros_like(mapped["register_tokens"]))
        own = model.state_dict()
    if model.layout == "dinov2" and "position" in mapped:
        side = math.isqrt(mapped["position"].shape[1] - 1)
        if mapped["position"].shape[-1] == model.dim and side * side + 1 == mapped["position"].shape[1]:
            model.grid, model.position = side, nn.Parameter(torch.zeros_like(mapped["position"]))
            own = model.state_dict()
    for i in range(len(model.blocks)):
        # no bias at all in some exports
        mapped.setdefault(f"blocks.{i}.qkv.bias", torch.zeros_like(own[f"blocks.{i}.qkv.bias"]))
    wanted = {key for key in own if not key.startswith("project.")}
    missing, unknown = sorted(wanted - mapped.keys()), sorted(mapped.keys() - wanted)
    if missing or unknown:
        raise EgoposeError(
            f"{where}: not the weights of a {model.layout} ViT with {len(model.blocks)} blocks; missing "
            f"{missing[:3]}{'...' if len(missing) > 3 else ''}, not understood {unknown[:3]}"
            f"{'...' if len(unknown) > 3 else ''}; check vit_layout, vit_depth and the file"
        )
    for key in wanted:
        if mapped[key].shape != own[key].shape:
            raise EgoposeError(
                f"{where}: {key} has shape {tuple(mapped[key].shape)}, expected {tuple(own[key].shape)}; "
                "check vit_dim and vit_patch"
            )
    model.load_state_dict({**{k: mapped[k] for k in wanted}, **{k: own[k] for k in own if k not in wanted}})
