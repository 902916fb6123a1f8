"""What an estimate consists of; see the contract."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from configurator.architecture import Architecture
from configurator.device import Device
from configurator.parallelism import Split
from configurator.scenario import Scenario
from configurator.words import named, say

Fits = bool | Literal["tight"]
Severity = Literal["info", "warning", "error"]


# Warnings of what the engine does not do at all, whatever fits.
CANNOT_RUN = frozenset(
    {
        "engine_unsupported", "attention_not_run", "precision_not_run", "no_tensor_parallel",
        "no_pipeline_parallel",
        "no_expert_parallel", "beyond_max_model_len",
    }
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Notice:
    """A warning or an assumption: a code, what it is about, and its text in any language."""

    code: str
    severity: Severity = "info"
    values: Mapping[str, Any] = field(default_factory=dict)

    def text(self, language: str = "en") -> str:
        """Return the sentence in a language."""
        return say(f"notice.{self.code}", language, **named(self.values, language))

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return code, severity and text."""
        return {"code": self.code, "severity": self.severity, "text": self.text(language)}


@dataclass(frozen=True, slots=True)
class Input:
    """One figure that went into a term."""

    symbol: str
    value: float | int | str
    unit: str = ""
    source: str = ""


@dataclass(frozen=True, slots=True)
class Term:
    """Why a number is what it is: the formula, the figures put in, the result."""

    path: str
    formula: str
    inputs: tuple[Input, ...]
    value: float
    unit: str


@dataclass(frozen=True, slots=True)
class Memory:
    """GiB on the fullest GPU; see the contract."""

    weights_gib: float
    kv_cache_gib: float
    activations_gib: float
    gradients_gib: float
    optimizer_gib: float
    framework_gib: float
    spare_pool_gib: float
    peak_allocated_gib: float
    reserved_gib: float
    total_gib: float
    total_low_gib: float
    total_high_gib: float
    required_gib: float
    required_low_gib: float
    required_high_gib: float
    capacity_gib: float
    budget_gib: float
    headroom_gib: float
    fits: Fits
    host_gib: float = 0.0
    phase: str = ""


@dataclass(frozen=True, slots=True)
class Kv:
    """The key-value cache of the deployment."""

    precision: str
    bytes_per_token: float
    capacity_tokens: int | None
    max_concurrency: int | None


@dataclass(frozen=True, slots=True)
class Performance:
    """Times and rates with 90 % intervals; see the contract. None where the task has none."""

    ttft_s: float | None = None
    ttft_s_low: float | None = None
    ttft_s_high: float | None = None
    tpot_s: float | None = None
    tpot_s_low: float | None = None
    tpot_s_high: float | None = None
    output_tokens_per_s: float | None = None
    output_tokens_per_s_low: float | None = None
    output_tokens_per_s_high: float | None = None
    requests_per_s: float | None = None
    requests_per_s_low: float | None = None
    requests_per_s_high: float | None = None
    prefill_tokens_per_s: float | None = None
    prefill_tokens_per_s_low: float | None = None
    prefill_tokens_per_s_high: float | None = None
    decode_tokens_per_s: float | None = None
    decode_tokens_per_s_low: float | None = None
    decode_tokens_per_s_high: float | None = None
    train_tokens_per_s: float | None = None
    train_tokens_per_s_low: float | None = None
    train_tokens_per_s_high: float | None = None
    mfu: float | None = None
    bound_by: str | None = None


@dataclass(frozen=True)
class Estimate:
    """The answer to one scenario with hardware."""

    scenario: Scenario
    architecture: Architecture
    device: Device
    split: Split
    precision: str
    memory: Memory
    kv: Kv | None
    performance: Performance
    terms: tuple[Term, ...]
    warnings: tuple[Notice, ...]
    assumptions: tuple[Notice, ...]
    sources: tuple[str, ...]

    @property
    def cannot_run(self) -> Notice | None:
        """Why the engine does not run this at all; None where it does."""
        return next((notice for notice in self.warnings if notice.code in CANNOT_RUN), None)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's Estimate as plain JSON values."""
        split = {
            "tensor_parallel": self.split.tensor,
            "pipeline_parallel": self.split.pipeline,
            "expert_parallel": self.split.expert,
            "data_parallel": self.split.data,
        }
        return {
            "model": {
                "name": self.architecture.name,
                "parameters": self.architecture.parameters,
                "active_parameters": self.architecture.active_parameters,
            },
            "precision": self.precision,
            "split": split,
            "memory": plain(asdict(self.memory)),
            "kv": plain(asdict(self.kv)) if self.kv else None,
            "performance": plain(asdict(self.performance)),
            "warnings": [n.to_dict(language) for n in self.warnings],
            "assumptions": [n.to_dict(language) for n in self.assumptions],
            "sources": list(self.sources),
        }


def plain(values: Mapping[str, Any]) -> dict[str, Any]:
    """Turn NumPy numbers into Python's and what is not finite into None."""
    out: dict[str, Any] = {}
    for key, value in values.items():
        if hasattr(value, "item"):
            value = value.item()
        if isinstance(value, float) and not math.isfinite(value):
            value = None
        out[key] = value
    return out
