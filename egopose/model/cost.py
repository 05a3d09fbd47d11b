"""What a frame costs: parameters, multiply-adds, bytes, time by stage, and an energy estimate.

The energy is a model, not a measurement: operations and bytes times coefficients of the literature. It says which
part dominates and how far a device of a given budget is away, no more.
"""

from __future__ import annotations

import copy
import time
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from egopose.model.export import graphs
from egopose.model.network import EgoPoseNet

BUDGET_MW = 20.0
"""Power of a whole always-on perception pipeline on AR glasses that is commonly aimed at."""

FPS = 30.0

MAC_PJ = {"float32": 4.6, "float16": 1.5, "int8": 0.23}
"""Multiply and add at 45 nm, 0.9 V, picojoule (Horowitz, "Computing's energy problem", ISSCC 2014: float32 3.7 + 0.9,
float16 1.1 + 0.4, int8 0.2 + 0.03). A current process needs a fraction of it."""

SRAM_PJ_PER_BYTE = 1.25
"""An 8 kB cache read, 10 pJ per 64 bits (Horowitz 2014)."""

DRAM_PJ_PER_BYTE = 160.0
"""1.3 nJ per 64 bits, the lower end of 1.3 to 2.6 (Horowitz 2014)."""

LINK_PJ_PER_BYTE = 100.0
"""Camera to processor over MIPI: the order of magnitude that models of AR cameras use (such as Gomez et al., arXiv
2203.07474). Not checked against a measurement; it is the smallest part of the account."""

SENSOR_NJ_PER_PIXEL = 0.67
"""A stacked digital pixel sensor, 5.3 mW at 512 x 512 and 30 frames per second (Liu et al., "A 4.6 um, 512 x 512,
ultra-low power stacked digital pixel sensor with triple quantization and 127 dB dynamic range", IEDM 2020)."""

BYTES = {"float32": 4, "float16": 2, "int8": 1}


@dataclass(frozen=True)
class StageCost:
    """One exported graph, run once per frame (``see`` once, ``encode`` with both hands, ``push``, ``read``)."""

    macs: int
    parameters: int
    weight_bytes: int
    activation_bytes: int
    milliseconds: float


@dataclass(frozen=True)
class Cost:
    """Of a frame.

    Attributes:
        stages: By name.
        parameters: Of the whole network.
        energy_uj: Microjoule per frame by part, for each number format.
        power_mw: Sum at :data:`FPS`, for each number format.
        budget_mw: What it is compared with.
    """

    stages: dict[str, StageCost]
    parameters: int
    energy_uj: dict[str, dict[str, float]]
    power_mw: dict[str, float]
    budget_mw: float = BUDGET_MW
    coefficients: dict[str, Any] = field(default_factory=dict)

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        return asdict(self)

    def table(self) -> str:
        """A text table."""
        head = f"{'stage':<8}{'MMAC':>10}{'params':>12}{'weights kB':>12}{'activ. kB':>12}{'ms':>9}"
        rows = [
            f"{name:<8}{s.macs / 1e6:>10.2f}{s.parameters:>12,}{s.weight_bytes / 1e3:>12.1f}"
            f"{s.activation_bytes / 1e3:>12.1f}{s.milliseconds:>9.2f}"
            for name, s in self.stages.items()
        ]
        macs = sum(s.macs for s in self.stages.values())
        lines = [head, *rows, f"{'sum':<8}{macs / 1e6:>10.2f}{self.parameters:>12,}", ""]
        for kind, parts in self.energy_uj.items():
            listed = ", ".join(f"{name} {value:.0f}" for name, value in parts.items())
            power = self.power_mw[kind]
            lines.append(
                f"{kind}: {sum(parts.values()):.0f} uJ per frame ({listed}); {power:.1f} mW at {FPS:.0f} frames/s, "
                f"{power / self.budget_mw:.2f} of a budget of {self.budget_mw:.0f} mW"
            )
        return "\n".join(lines)


class _Bytes:
    """Sums what modules without children read and write, in elements."""

    def __init__(self, module: nn.Module) -> None:
        self.elements, self.weights = 0, 0
        self._seen: set[int] = set()
        self._handles = [m.register_forward_hook(self._hook) for m in module.modules() if not list(m.children())]

    def _hook(self, module: nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
        values = [v for v in (*inputs, output) if isinstance(v, Tensor)]
        self.elements += sum(v.numel() for v in values)
        for parameter in module.parameters(recurse=False):
            if id(parameter) not in self._seen:
                self._seen.add(id(parameter))
                self.weights += parameter.numel()

    def close(self) -> None:
        for handle in self._handles:
            handle.remove()


def measure(model: EgoPoseNet, *, repeats: int = 20, sensor_size: tuple[int, int] = (512, 512)) -> Cost:
    """Count and time one frame of streaming on this machine, batch 1, torch's current threads.

    Args:
        model: The network.
        repeats: Timed runs per stage; the median counts.
        sensor_size: (width, height) of the image that leaves the sensor, pixels, one byte each.
    """
    from torch.utils.flop_counter import FlopCounterMode

    stages: dict[str, StageCost] = {}
    # a copy without gradients: the counter attaches hooks to whatever could have some
    model = copy.deepcopy(model).eval().requires_grad_(False)
    for name, (module, inputs, _, _) in graphs(model).items():
        with torch.inference_mode():
            counted = _Bytes(module)
            module(*inputs)
            counted.close()
            times = []
            for _ in range(repeats):
                start = time.perf_counter()
                module(*inputs)
                times.append(time.perf_counter() - start)
        with FlopCounterMode(display=False) as flops:
            module(*inputs)
        stages[name] = StageCost(
            macs=flops.get_total_flops() // 2,
            parameters=counted.weights,
            weight_bytes=counted.weights * 4,
            activation_bytes=counted.elements * 4,
            milliseconds=1e3 * sorted(times)[len(times) // 2],
        )
    energy, power = {}, {}
    pixels = sensor_size[0] * sensor_size[1]
    macs = sum(s.macs for s in stages.values())
    weights = sum(s.parameters for s in stages.values())
    activations = sum(s.activation_bytes // 4 for s in stages.values())
    for kind, size in BYTES.items():
        energy[kind] = {
            "sensor": 1e-3 * SENSOR_NJ_PER_PIXEL * pixels,
            "link": 1e-6 * LINK_PJ_PER_BYTE * pixels,
            "compute": 1e-6 * MAC_PJ[kind] * macs,
            # every weight comes from outside the chip once per frame, activations stay inside
            "weights": 1e-6 * DRAM_PJ_PER_BYTE * size * weights,
            "activations": 1e-6 * SRAM_PJ_PER_BYTE * size * activations,
        }
        power[kind] = sum(energy[kind].values()) * FPS * 1e-3
    coefficients = {
        "mac_pj": MAC_PJ, "sram_pj_per_byte": SRAM_PJ_PER_BYTE, "dram_pj_per_byte": DRAM_PJ_PER_BYTE,
        "link_pj_per_byte": LINK_PJ_PER_BYTE, "sensor_nj_per_pixel": SENSOR_NJ_PER_PIXEL, "fps": FPS,
    }  # fmt: skip
    parameters = sum(p.numel() for p in model.parameters())
    return Cost(stages, parameters, energy, power, coefficients=coefficients)
