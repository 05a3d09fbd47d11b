"""The cost account against counts done by hand."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from egopose.model.cost import BUDGET_MW, MAC_PJ, _Bytes, measure
from egopose.model.network import build
from tests.nets import TINY


def test_counts_of_a_known_layer() -> None:
    layer = nn.Sequential(nn.Linear(10, 20, bias=False), nn.ReLU())
    counted = _Bytes(layer)
    layer(torch.zeros(3, 10))
    counted.close()
    assert counted.weights == 200
    assert counted.elements == 3 * 10 + 3 * 20 + 3 * 20 + 3 * 20


def test_macs_of_the_push_stage() -> None:
    cost = measure(build(TINY, 0), repeats=1)
    # one token through keys and values of the first layer
    assert cost.stages["push"].macs == TINY.dim * 2 * TINY.dim
    assert cost.parameters == sum(p.numel() for p in build(TINY, 0).parameters())
    total = sum(s.macs for s in cost.stages.values())
    assert cost.energy_uj["float32"]["compute"] == pytest.approx(1e-6 * MAC_PJ["float32"] * total)
    assert cost.power_mw["int8"] < cost.power_mw["float16"] < cost.power_mw["float32"]
    assert cost.budget_mw == BUDGET_MW
    assert "mW at 30" in cost.table()
    assert cost.to_dict()["stages"]["see"]["macs"] > 0


def test_nano_has_the_announced_size() -> None:
    from egopose.config import load_config
    from egopose.train.config import TrainConfig

    model = build(load_config(TrainConfig, "nano").model, 0)
    cost = measure(model, repeats=1)
    assert cost.parameters < 4_000_000
    assert sum(s.macs for s in cost.stages.values()) < 120e6
