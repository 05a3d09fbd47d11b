"""Hands of a crop: maps are read where the joints are, as grid_sample and a pinhole camera say."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from egopose.camera import Camera
from egopose.model.hand_head import HandHead, HandRefiner, read_at
from egopose.model.rays import HandCrop


@pytest.mark.parametrize("side", [3, 6, 12])
def test_maps_are_read_as_grid_sample_reads_them(side: int) -> None:
    g = torch.Generator().manual_seed(side)
    maps = torch.randn(4, 5, side, side, generator=g)
    # well beyond the border as well
    uv = 1.6 * torch.randn(4, 21, 2, generator=g)
    expected = F.grid_sample(maps, uv[:, :, None], mode="bilinear", padding_mode="border", align_corners=False)
    torch.testing.assert_close(read_at(maps, uv), expected[..., 0].transpose(1, 2), rtol=1e-4, atol=1e-5)


def head(seed: int = 0) -> HandHead:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return HandHead(32, 8).eval()


def inputs(n: int = 3) -> tuple[torch.Tensor, ...]:
    g = torch.Generator().manual_seed(1)
    return (
        torch.randn(n, 2, 32, generator=g), torch.randn(n, 2, 32, 4, 4, generator=g),
        torch.randn(n, 2, 8, 8, 8, generator=g), torch.eye(3).expand(n, 2, 3, 3),
        torch.full((n, 2), 2.5), torch.full((n, 2), 0.4),
    )  # fmt: skip


def test_a_fresh_refiner_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    net, given = head(), inputs()
    refined, _ = net(*given)
    monkeypatch.setattr("egopose.model.hand_head.REFINEMENTS", 0)
    plain, _ = net(*given)
    torch.testing.assert_close(refined.wrist, plain.wrist, rtol=0, atol=0)
    torch.testing.assert_close(refined.offsets, plain.offsets, rtol=0, atol=0)


@pytest.mark.parametrize("which", [1, 2])
def test_maps_matter_to_their_own_hand_and_only_where_it_is(which: int) -> None:
    net, given = head(), list(inputs())
    torch.nn.init.normal_(net.refine.change[-1].weight, std=1e-3)  # type: ignore[arg-type]
    # a hand of two centimetres is in the four cells in the middle of its crop
    torch.nn.init.zeros_(net.wrist[-1].weight)  # type: ignore[arg-type]
    torch.nn.init.zeros_(net.joints[-1].weight)  # type: ignore[arg-type]
    before, _ = net(*given)
    untouched, middle = given[which], given[which].shape[-1] // 2
    for row, matters in ((0, False), (middle, True)):
        given[which] = untouched.clone()
        given[which][:, 0, :, row, row] += 1.0
        after, _ = net(*given)
        assert torch.equal(after.offsets[:, 0], before.offsets[:, 0]) is not matters
        torch.testing.assert_close(after.offsets[:, 1], before.offsets[:, 1], rtol=0, atol=0)


def test_joints_are_looked_for_where_the_crop_shows_them(monkeypatch: pytest.MonkeyPatch) -> None:
    """The places agree with the crop's own virtual camera."""
    asked: list[torch.Tensor] = []

    def seen(
        self: HandRefiner, x: torch.Tensor, hand: torch.Tensor, uv: torch.Tensor, *maps: torch.Tensor
    ) -> torch.Tensor:
        asked.append(uv)
        return torch.zeros_like(hand)

    monkeypatch.setattr(HandRefiner, "forward", seen)
    crop = HandCrop.aimed(np.array([0.05, 0.1, 0.4]))
    net, given = head(), list(inputs(1))
    given[3] = torch.from_numpy(crop.R_camera_crop).float().expand(1, 2, 3, 3)
    given[4], given[5] = torch.full((1, 2), crop.focal), torch.full((1, 2), crop.distance_m)
    hands, _ = net(*given)
    side = 96
    view = Camera.pinhole(crop.focal * side / 2, [(side - 1) / 2] * 2, (side, side))
    # the image of a left hand is mirrored
    for hand, mirror in ((0, [-1.0, 1.0]), (1, [1.0, 1.0])):
        points = hands.wrist[0, hand] + torch.cat([torch.zeros(1, 3), hands.offsets[0, hand]])
        uv = view.project(points.double().detach().numpy() @ crop.R_camera_crop, frame="camera")
        at = ((uv + 0.5) * 2 / side - 1) * mirror
        np.testing.assert_allclose(at, asked[0][0, hand].detach().numpy(), atol=1e-4)
