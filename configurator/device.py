"""The card as the engine needs it: a catalog card, a custom one, or many at once as arrays."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from configurator.catalog import Gpu
from configurator.scenario import CustomGpu
from configurator.units import GIB

RATES = ("fp32", "tf32", "fp16", "bf16", "int8", "fp8", "fp4")


@dataclass(frozen=True)
class Device:
    """One card, or (with arrays in every field) many.

    Attributes:
        id: Catalog id, or the custom card's name; a tuple of ids for many cards.
        vendor: NVIDIA, AMD, …
        architecture: Ampere, Hopper, …; what efficiencies are kept by.
        segment: consumer, workstation, datacenter, …
        memory_bytes: What the driver reports as total.
        bandwidth_bytes_per_s: Memory bandwidth.
        rates: Dense FLOP/s (or OP/s) by precision, NaN where there is no such unit or no figure.
        link_bytes_per_s: To a peer card, one way (NVLink, xGMI, or PCIe).
        host_bytes_per_s: To host memory, one way.
        domain_size: Cards joined by the fast link; 1 where there is none.
        native: Whether it computes in a precision itself, where that is known.
        a100: Whether its name says A100, which vLLM's defaults ask for.
    """

    id: Any
    vendor: Any
    architecture: Any
    segment: Any
    memory_bytes: Any
    bandwidth_bytes_per_s: Any
    rates: Mapping[str, Any]
    link_bytes_per_s: Any
    host_bytes_per_s: Any
    domain_size: Any
    compute_capability: Any = None
    name: Any = ""
    native: Mapping[str, bool] = field(default_factory=dict)
    sources: Any = field(default=(), compare=False)
    a100: Any = False

    def rate(self, precision: str) -> Any:
        """FLOP/s at a precision; NaN where the card lacks it or it is not known."""
        return self.rates[precision]


# PCIe one-way bytes/s of sixteen lanes by generation (PCI-SIG base specifications).
_PCIE = {"3": 16e9, "4": 32e9, "5": 64e9, "6": 128e9}


def _pcie_bytes_per_s(text: str | None) -> float:
    """Bytes/s one way of e.g. ``PCIe 4.0 x16``; a fourth-generation slot where it is not stated."""
    if not text:
        return _PCIE["4"]
    words = text.replace("PCIe", "").split()
    generation = next((w[0] for w in words if w[:1] in _PCIE), "4")
    lanes = next((int(w[1:]) for w in words if w.startswith("x") and w[1:].isdigit()), 16)
    return _PCIE[generation] * lanes / 16


def _says_a100(name: str) -> bool:
    return "a100" in name.lower()


def from_catalog(gpu: Gpu) -> Device:
    """Return a catalog card as a device."""
    rates = {p: float("nan") if (r := gpu.flops(p)) is None else float(r) for p in RATES}
    host = _pcie_bytes_per_s(gpu.pcie)
    bandwidth = gpu.bandwidth_bytes_per_s
    return Device(
        gpu.id, gpu.vendor, gpu.architecture, gpu.segment, float(gpu.memory_bytes),
        float("nan") if bandwidth is None else float(bandwidth), rates,
        float(gpu.link_bytes_per_s or host), host, int(gpu.domain_size), gpu.compute_capability,
        gpu.name, {str(k): v for k, v in gpu.native.items()}, a100=_says_a100(gpu.name),
    )  # fmt: skip


def from_custom(gpu: CustomGpu) -> Device:
    """Return a card that the user describes; what is not stated follows from its bf16 rate."""
    nan = float("nan")
    bf16 = gpu.bf16_tflops or gpu.fp16_tflops
    given = {
        "fp32": gpu.fp32_tflops, "tf32": bf16 / 2 if bf16 else None,
        "fp16": gpu.fp16_tflops or gpu.bf16_tflops, "bf16": gpu.bf16_tflops,
        "int8": gpu.int8_tflops, "fp8": gpu.fp8_tflops, "fp4": gpu.fp4_tflops,
    }  # fmt: skip
    rates = {p: nan if v is None else v * 1e12 for p, v in given.items()}
    link = gpu.link_gbps * 1e9 if gpu.link_gbps else _PCIE["4"]
    return Device(
        gpu.name, "custom", "custom", "custom", gpu.memory_gib * GIB, gpu.bandwidth_gbps * 1e9,
        rates, link, _PCIE["4"], gpu.domain_size or (8 if gpu.link_gbps else 1), None, gpu.name,
        a100=_says_a100(gpu.name),
    )  # fmt: skip


def stack(devices: Sequence[Device]) -> Device:
    """Return many cards as one device whose fields are arrays of shape ``(len(devices),)``."""

    def column(name: str) -> Any:
        return np.array([getattr(d, name) for d in devices])

    return Device(
        tuple(d.id for d in devices), column("vendor"), column("architecture"), column("segment"),
        column("memory_bytes"), column("bandwidth_bytes_per_s"),
        {p: np.array([d.rates[p] for d in devices]) for p in RATES},
        column("link_bytes_per_s"), column("host_bytes_per_s"), column("domain_size"),
        a100=column("a100"),
    )  # fmt: skip
