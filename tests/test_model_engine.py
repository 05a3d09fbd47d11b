"""The engine: quicker than the network it runs, and the same."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from egopose.model.encoder import MobileEncoder, folded
from egopose.model.engine import TorchEngine
from egopose.model.network import build
from tests.nets import TINY, shake


def random(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_folded_convolutions_give_the_same_maps() -> None:
    encoder = shake(build(TINY, 0)).image_encoder
    assert isinstance(encoder, MobileEncoder)
    before = {name: value.clone() for name, value in encoder.state_dict().items()}
    other = folded(encoder)
    assert not any(isinstance(part, torch.nn.BatchNorm2d) for part in other.modules())
    for n, side in ((1, 64), (3, 96)):
        image = random(n, 3, side, side)
        with torch.no_grad():
            for mine, theirs in zip(other(image), encoder(image), strict=True):
                torch.testing.assert_close(mine, theirs, rtol=1e-4, atol=1e-5)
    assert all(torch.equal(value, before[name]) for name, value in encoder.state_dict().items())


def test_the_network_that_an_engine_runs_is_left_as_it_was() -> None:
    model = shake(build(TINY, 0))
    engine = TorchEngine(model)
    assert any(isinstance(part, torch.nn.BatchNorm2d) for part in model.image_encoder.modules())
    assert engine.model.temporal is model.temporal
    image, rays = random(2, 3, 64, 64), random(2, 2, 2, 4, seed=1)
    with torch.no_grad():
        for mine, theirs in zip(engine.see(image.numpy(), rays.numpy()), model.see(image, rays), strict=True):
            np.testing.assert_allclose(mine, theirs.numpy(), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("known", [(True, True), (False, True), (False, False)])
def test_crops_that_are_absent_cost_nothing_and_change_nothing(known: tuple[bool, bool]) -> None:
    model = shake(build(TINY, 0))
    seen: list[int] = []
    model.hand_encoder.register_forward_pre_hook(lambda _, inputs: seen.append(len(inputs[0])))
    crops, rays = random(2, 2, 3, 32, 32), random(2, 2, 2, 2, 4, seed=1)
    there = torch.tensor([known, (True, False)])
    with torch.no_grad():
        whole = model.see_hands(crops, rays, there)
        torch.testing.assert_close(model.see_hands(crops, rays, there, skip_absent=True), whole, rtol=1e-4, atol=1e-5)
        assert seen == [4, int(there.sum())]
        nothing = torch.zeros_like(there)
        torch.testing.assert_close(
            model.see_hands(crops, rays, nothing, skip_absent=True), model.see_hands(crops, rays, nothing)
        )
