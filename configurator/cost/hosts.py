"""Hosts, rates and selling rules, read from ``catalog/hosts.yaml``, each with its source."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from configurator.architecture import Architecture
from configurator.catalog import Basis, Catalog, CatalogError, Confidence, Gpu, parse_yaml
from configurator.catalog.records import Precision
from configurator.cost.ranges import Range
from configurator.scenario import Scenario

PartT = TypeVar("PartT", bound=BaseModel)


class Part(BaseModel):
    """Base: frozen, no unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class Sourced(Part):
    """A figure with a range, its unit and where it comes from."""

    value: float = Field(ge=0)
    low: float | None = Field(None, ge=0)
    high: float | None = Field(None, ge=0)
    unit: str
    source: str = Field(min_length=3)
    date: dt.date
    basis: Basis

    @property
    def range(self) -> Range:
        """Value, low and high."""
        low = self.value if self.low is None else self.low
        high = self.value if self.high is None else self.high
        return Range(self.value, low, high)


class Money(Part):
    """A sum with its range."""

    value: float = Field(ge=0)
    low: float = Field(ge=0)
    high: float = Field(ge=0)
    currency: str = Field(pattern="^[A-Z]{3}$")


class Component(Part):
    """An item of ``prices/purchase.yaml``; ``text`` picks one of its price kinds."""

    item: str
    text: str | None = None


class HostPart(Part):
    """One part of a host: its own price, or a component's.

    Attributes:
        date: Of the oldest price that its own is derived from; ``precision``: how exact that is.
    """

    id: str
    quantity: int = Field(gt=0)
    price: Money | None = None
    component: Component | None = None
    source: str | None = None
    date: dt.date | None = None
    precision: Precision = "day"
    basis: Basis = "stated"
    confidence: Confidence = "medium"


class Host(Part):
    """A machine that cards go into."""

    id: str
    slots: int = Field(gt=0)
    step: int = Field(gt=0)
    form_factors: tuple[str, ...]
    rack_units: float = Field(ge=0)
    ecc: bool
    host_w: Sourced
    parts: tuple[HostPart, ...]


class Switch(Part):
    """What a switch costs."""

    component: Component


class Network(Part):
    """Switches that join servers."""

    switch_ports: Sourced
    switch: Switch
    hosts: tuple[str, ...]


class Rates(Part):
    """Shares and rates; names refer to entries of ``electricity.yaml``."""

    idle_power_share: Sourced
    resale_share: Sourced
    support_share: Sourced
    tariff_of_region: Mapping[str, str]
    life: str
    reserved_discount: str
    cloud_window_days: Sourced


class System(Part):
    """How many cards a system of ``prices/purchase.yaml`` holds."""

    item: str
    gpu_count: int = Field(gt=0)


class Availability(Part):
    """Where cards are sold."""

    gpus: tuple[str, ...]
    regions: tuple[str, ...]
    code: str
    source: str
    date: dt.date


class Licences(Part):
    """Cards that need an export licence by name."""

    gpus: tuple[str, ...]
    source: str
    date: dt.date


class NotModelled(Part):
    """Cards that cannot be counted like others."""

    gpus: tuple[str, ...]
    code: str
    source: str
    date: dt.date


Refusal = Literal["engine", "attention", "precision"]


class EngineCards(Part):
    """Cards that an engine runs on, but for some architectures of its vendors."""

    vendors: tuple[str, ...]
    without_architectures: tuple[str, ...] = ()
    least_compute_capability: float | None = None
    source: str
    date: dt.date
    confidence: Literal["high", "medium", "low"] = "medium"

    def serves(self, gpu: Gpu) -> bool:
        """Whether the engine has kernels for the card."""
        return (
            gpu.vendor in self.vendors
            and gpu.architecture not in self.without_architectures
            and _new_enough(gpu, self.least_compute_capability)
        )


class PrecisionCards(Part):
    """Cards and engines that a precision of weights runs on; None: whatever the rest allows.

    Attributes:
        least_by_engine: Compute capability where an engine's differs.
        native_elsewhere: Whether cards of other makers than NVIDIA must compute in it themselves.
    """

    least_compute_capability: float | None = None
    least_by_engine: Mapping[str, float] = {}
    vendors: tuple[str, ...] | None = None
    engines: tuple[str, ...] | None = None
    without_engines: tuple[str, ...] = ()
    native_elsewhere: bool = False
    source: str
    date: dt.date
    confidence: Literal["high", "medium", "low"] = "medium"

    def runs(self, gpu: Gpu, engine: str, precision: str) -> bool:
        """Whether an engine runs such weights on a card, natively or unpacked."""
        return (
            (self.vendors is None or gpu.vendor in self.vendors)
            and (self.engines is None or engine in self.engines)
            and engine not in self.without_engines
            and _new_enough(gpu, self.least_by_engine.get(engine, self.least_compute_capability))
            and not (self.native_elsewhere and gpu.vendor != "NVIDIA" and gpu.lacks(precision))
        )


def _new_enough(gpu: Gpu, least: float | None) -> bool:
    if least is None or gpu.vendor != "NVIDIA" or gpu.compute_capability is None:
        return True
    return float(gpu.compute_capability) >= least


class Hosts(Part):
    """The whole of ``hosts.yaml``."""

    hosts: tuple[Host, ...]
    network: Network
    rates: Rates
    systems: tuple[System, ...]
    exclusions: tuple[str, ...]
    availability: tuple[Availability, ...]
    export_rule: Sourced
    export_licences: tuple[Licences, ...]
    not_modelled: tuple[NotModelled, ...]
    engines: Mapping[str, EngineCards]
    sparse_attention: Mapping[str, EngineCards]
    precisions: Mapping[str, PrecisionCards]

    def needs_licence(self, gpu: Gpu, processing_performance: float) -> bool:
        """Return whether a card needs a US export licence for China.

        Args:
            gpu: The card.
            processing_performance: ``max(TOPS × bits)``.
        """
        if gpu.vendor not in ("NVIDIA", "AMD", "Intel"):
            return False
        named = any(gpu.id in item.gpus for item in self.export_licences)
        return named or processing_performance >= self.export_rule.value

    def refusal(
        self, gpu: Gpu, scenario: Scenario, arch: Architecture, precision: str
    ) -> Refusal | None:
        """Return why a scenario's engine does not run a model on a card, or None."""
        found = self.refused(gpu, scenario, arch, precision)
        return found and found[0]

    def refused(
        self, gpu: Gpu, scenario: Scenario, arch: Architecture, precision: str
    ) -> tuple[Refusal, str] | None:
        """Return why a scenario's engine does not run a model on a card, and in which precision.

        Args:
            gpu: The card.
            scenario: Says the engine, and whether training computes in BF16.
            arch: The model.
            precision: That the weights are stored in.
        """
        engine = scenario.engine
        if not self.engines[engine].serves(gpu):
            return "engine", precision
        sparse = self.sparse_attention.get(engine) if arch.sparse_attention else None
        if sparse is not None and not sparse.serves(gpu):
            return "attention", precision
        for needed in (precision, *(("bf16",) if scenario.computes_in_bf16 else ())):
            rule = self.precisions.get(needed)
            if rule is not None and not rule.runs(gpu, engine, needed):
                return "precision", needed
        return None

    def host(self, host_id: str) -> Host:
        """Return a host by id (KeyError if there is none)."""
        for host in self.hosts:
            if host.id == host_id:
                return host
        raise KeyError(host_id)


def read_part(path: Path, record_type: type[PartT]) -> PartT:
    """Read one YAML file into a record.

    Raises:
        CatalogError: Names the file, the place and what is wrong.
    """
    try:
        raw: Any = parse_yaml(path.read_text(encoding="utf-8"))
        return record_type.model_validate(raw)
    except ValidationError as error:
        detail = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in detail["loc"])
        raise CatalogError(path.name, place, detail["msg"]) from None
    except (OSError, ValueError) as error:
        text = str(error).replace("\n", " ")
        raise CatalogError(path.name, "file", f"cannot be read: {text}") from None


@lru_cache(maxsize=8)
def load_hosts(catalog: Catalog) -> Hosts:
    """Return the hosts and rates of a catalog."""
    return read_part(catalog.directory / "hosts.yaml", Hosts)
