"""Read and check the facts catalog: cards, links, servers, prices, running costs, models.

Every figure comes back with its source, the date of that source and its basis. Nothing is read at
import: each section is parsed on first use and kept.
"""

from __future__ import annotations

import datetime as dt
import difflib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar

from pydantic import BaseModel, ConfigDict, Field, TypeAdapter, ValidationError

from configurator.errors import InputError

GIB = 2**30
MIB = 2**20
GIGA = 1e9
TERA = 1e12
STALE_AFTER_DAYS = 180
CLOSE_MATCHES = 3
# A card whose reported memory is further than this from the catalog's is another card: the
# smallest gap between two cards of one NVML name is 12 GB against 8 GB (RTX 3060).
MEMORY_TOLERANCE = 0.08
ENVIRONMENT_VARIABLE = "CONFIGURATOR_CATALOG"

Basis = Literal["stated", "derived", "measured", "assumed"]
Confidence = Literal["high", "medium", "low"]
Precision = Literal["day", "month", "quarter", "half", "year"]
DateKind = Literal["stated", "file", "approximate"]
Condition = Literal["new", "used", "list", "street"]
PricingModel = Literal[
    "on_demand", "reserved", "spot", "capacity_block", "marketplace", "serverless"
]
ConfigFormat = Literal["config.json", "completed", "converted", "sibling", "dimensions", "alias"]
RateName = Literal["fp32", "tf32", "fp16", "fp16_acc16", "bf16", "int8", "fp8", "fp4"]
NativeName = Literal["tf32", "bf16", "int8", "fp8", "fp4"]
MemoryBasis = Literal["driver", "sibling", "usable", "marketing"]
Severity = Literal["error", "warning"]

_RATE_OF_PRECISION: Mapping[str, str] = {"mxfp4": "fp4", "nvfp4": "fp4"}
_BARE_FIGURES = ("value", "source", "basis")

RecordT = TypeVar("RecordT", bound="Record")


class CatalogError(ValueError):
    """A file of the catalog that cannot be used.

    Args:
        file: File name, relative to the catalog.
        record: Id or position of the record.
        message: What is wrong, one sentence.
        line: Line of the record in the file, counted from 1; ``None`` if not known.
    """

    def __init__(self, file: str, record: str, message: str, line: int | None = None) -> None:
        self.file = file
        self.record = record
        self.message = message
        self.line = line
        place = f"{file}:{line}" if line else file
        super().__init__(f"{place}: {record}: {message}")


class Record(BaseModel):
    """Base of everything read from the catalog: frozen, no unknown keys."""

    model_config = ConfigDict(extra="forbid", frozen=True, defer_build=True)


class Source(Record):
    """Where figures come from; ``date`` is that of the document, or the day it was read."""

    id: str
    text: str = Field(min_length=3)
    date: dt.date
    license: str | None = None


class Figure(Record):
    """One number with its source, the source's date and how the number was obtained."""

    value: float = Field(gt=0, allow_inf_nan=False)
    source: str = Field(min_length=3)
    source_ids: tuple[str, ...] = Field(min_length=1)
    date: dt.date
    basis: Basis


class Count(Figure):
    """A figure that may be nought."""

    value: float = Field(ge=0, allow_inf_nan=False)


class Interconnect(Record):
    """The link that joins a card to its peers."""

    kind: str
    generation: str | None = None
    gb_s_bidirectional: Figure | None = None
    max_gpus: Figure | None = None

    @property
    def gb_s_one_way(self) -> float | None:
        """Return half of the bidirectional rate [GB/s per GPU]."""
        return None if self.gb_s_bidirectional is None else self.gb_s_bidirectional.value / 2


class Gpu(Record):
    """One card. Rates are dense, TFLOPS or TOPS, with FP32 accumulate unless named otherwise."""

    id: str
    vendor: str
    name: str
    aliases: tuple[str, ...] = ()
    segment: str
    architecture: str
    compute_capability: str | None = None
    memory_type: str | None = None
    memory_gb: Figure
    memory_mib: Figure | None = None
    usable_gib: Figure | None = None
    bandwidth_gb_s: Figure | None = None
    rates: Mapping[RateName, Figure] = Field(default_factory=dict)
    native: Mapping[NativeName, bool] = Field(default_factory=dict)
    interconnect: Interconnect | None = None
    pcie: str | None = None
    pcie_gb_s_one_way: Figure | None = None
    form_factor: str | None = None
    ecc: bool | None = None
    vgpu: bool | None = None
    mig_max_instances: Count | None = None
    tdp_w: Figure | None = None
    launch_date: str | None = None
    confidence: Confidence
    note: str | None = None

    @property
    def memory_bytes(self) -> float:
        """Return what software can address [bytes]; :attr:`memory_basis` says on what ground."""
        if self.memory_mib is not None:
            return self.memory_mib.value * MIB
        if self.usable_gib is not None:
            return self.usable_gib.value * GIB
        return self.memory_gb.value * GIB

    @property
    def memory_basis(self) -> MemoryBasis:
        """Return the ground of :attr:`memory_bytes`.

        ``driver``: total that the driver reports. ``sibling``: that of a card with the same
        memory. ``usable``: share of unified memory open to the GPU. ``marketing``: the number on
        the box read as GiB, an upper bound.
        """
        if self.memory_mib is not None:
            return "sibling" if self.memory_mib.basis == "derived" else "driver"
        return "usable" if self.usable_gib is not None else "marketing"

    @property
    def bandwidth_bytes_per_s(self) -> float | None:
        """Return the peak memory bandwidth [bytes/s]."""
        return None if self.bandwidth_gb_s is None else self.bandwidth_gb_s.value * GIGA

    @property
    def has_tf32(self) -> bool:
        """Return whether TF32 matrix units are known to exist."""
        return self.native.get("tf32", False)

    @property
    def has_bf16(self) -> bool:
        """Return whether BF16 arithmetic is known to exist."""
        return self.native.get("bf16", False)

    @property
    def has_int8(self) -> bool:
        """Return whether INT8 matrix units are known to exist."""
        return self.native.get("int8", False)

    @property
    def has_fp8(self) -> bool:
        """Return whether FP8 matrix units are known to exist."""
        return self.native.get("fp8", False)

    @property
    def has_fp4(self) -> bool:
        """Return whether FP4 matrix units are known to exist."""
        return self.native.get("fp4", False)

    def rate(self, precision: str) -> Figure | None:
        """Return the dense peak rate [TFLOPS or TOPS] as a figure with its source.

        BF16 takes the FP16 rate where the card has BF16 and no rate of its own is recorded.
        A precision that the card lacks gives ``None``: whoever computes it in another one decides.

        Args:
            precision: One of :data:`RateName`, or ``mxfp4``, ``nvfp4`` for ``fp4``.
        """
        name = _RATE_OF_PRECISION.get(precision, precision)
        rates: Mapping[str, Figure] = self.rates  # type: ignore[assignment]
        native: Mapping[str, bool] = self.native  # type: ignore[assignment]
        if native.get(name) is False:
            return None
        if name == "bf16" and name not in rates and self.has_bf16:
            return rates.get("fp16")
        return rates.get(name)

    def flops(self, precision: str) -> float | None:
        """Return the dense peak rate [FLOP/s or OP/s] of :meth:`rate`."""
        figure = self.rate(precision)
        return None if figure is None else figure.value * TERA

    def supports(self, precision: str) -> bool:
        """Return whether the card computes in ``precision`` natively."""
        name = _RATE_OF_PRECISION.get(precision, precision)
        if name == "fp32":
            return True
        if name == "fp16":
            return "fp16" in self.rates or self.has_bf16
        native: Mapping[str, bool] = self.native  # type: ignore[assignment]
        return native.get(name, False)

    @property
    def link_bytes_per_s(self) -> float | None:
        """Return the one-way rate to a peer [bytes/s per GPU]: NVLink or the like, else PCIe."""
        if self.interconnect is not None and self.interconnect.gb_s_one_way is not None:
            return self.interconnect.gb_s_one_way * GIGA
        return None if self.pcie_gb_s_one_way is None else self.pcie_gb_s_one_way.value * GIGA

    @property
    def domain_size(self) -> int:
        """Return how many cards the fast link joins; 1 if there is none or its rate is unknown."""
        link = self.interconnect
        if link is None or link.gb_s_bidirectional is None or link.max_gpus is None:
            return 1
        return int(link.max_gpus.value)

    def figures(self) -> Iterator[tuple[str, Figure]]:
        """Yield each figure of the card with the name of its field."""
        for name in (
            "memory_gb",
            "memory_mib",
            "usable_gib",
            "bandwidth_gb_s",
            "pcie_gb_s_one_way",
            "mig_max_instances",
            "tdp_w",
        ):
            figure = getattr(self, name)
            if figure is not None:
                yield name, figure
        for rate, figure in self.rates.items():
            yield f"rates.{rate}", figure
        if self.interconnect is not None:
            for name in ("gb_s_bidirectional", "max_gpus"):
                figure = getattr(self.interconnect, name)
                if figure is not None:
                    yield f"interconnect.{name}", figure


class Link(Record):
    """A kind of link between cards, to the host or between machines."""

    id: str
    name: str
    kind: str
    generation: str | None = None
    gb_s_bidirectional: Figure
    gb_s_one_way: Figure
    max_gpus: Figure | None = None
    confidence: Confidence
    note: str | None = None


class Money(Record):
    """A sum with its currency and source."""

    amount: Figure
    currency: str = Field(pattern="^[A-Z]{3}$")


class Server(Record):
    """A whole machine; ``max_kw`` is its maximum draw [kW]."""

    id: str
    name: str
    gpu_id: str
    gpu_count: int = Field(gt=0)
    interconnect_id: str | None = None
    max_kw: Figure | None = None
    size: str | None = None
    price: Money | None = None
    confidence: Confidence
    note: str | None = None


class Currency(Record):
    """Units of a currency for one US dollar."""

    id: str = Field(pattern="^[A-Z]{3}$")
    name: str
    per_usd: Figure
    confidence: Confidence


class Dated(Record):
    """What prices and running costs share: a number or a range, its day and its source."""

    date: dt.date | None = None
    precision: Precision = "day"
    date_kind: DateKind = "stated"
    dated: bool = True
    confidence: Confidence
    source: str = Field(min_length=3)
    source_id: str
    note: str | None = None


class Ranged(Dated):
    """A value, a range, or both."""

    value: float | None = Field(default=None, gt=0)
    low: float | None = Field(default=None, gt=0)
    high: float | None = Field(default=None, gt=0)

    @property
    def typical(self) -> float | None:
        """Return the value, else the middle of the range; ``None`` if only one end is known."""
        if self.value is not None:
            return self.value
        if self.low is not None and self.high is not None:
            return (self.low + self.high) / 2
        return None

    @property
    def usable(self) -> bool:
        """Return whether the entry has a day and a number to count with."""
        return self.dated and self.date is not None and self.typical is not None


class PurchasePrice(Ranged):
    """What a card, a system or a part costs to buy, in ``currency`` per ``unit``."""

    kind: Literal["gpu", "system", "component"]
    item: str
    gpu_id: str | None = None
    currency: str = Field(pattern="^[A-Z]{3}$")
    unit: str
    region: str | None = None
    condition: Condition
    condition_text: str | None = None


class CloudPrice(Dated):
    """What a card costs to rent [US dollars per GPU and hour]."""

    provider: str
    gpu_id: str
    gpus_per_instance: int = Field(gt=0)
    instance: str | None = None
    region: str | None = None
    pricing_model: PricingModel
    pricing_text: str | None = None
    term_months: int | None = Field(default=None, gt=0)
    usd_per_gpu_hour: float = Field(gt=0)
    low: float | None = Field(default=None, gt=0)
    high: float | None = Field(default=None, gt=0)

    @property
    def usable(self) -> bool:
        """Return whether the entry has a day."""
        return self.dated and self.date is not None


class CostFactor(Ranged):
    """A running cost or a planning share, in ``unit``."""

    id: str
    kind: Literal[
        "tariff",
        "pue",
        "colocation",
        "cooling",
        "depreciation",
        "staff",
        "structure",
        "power",
        "discount",
    ]
    item: str
    unit: str
    currency: str | None = Field(default=None, pattern="^[A-Z]{3}$")
    region: str | None = None


class ModelRecord(Record):
    """A model: where its config is, how it was obtained, and what is published about it."""

    id: str
    family: str
    name: str
    config_file: str
    config_format: ConfigFormat
    config_path: Path = Field(exclude=True, repr=False)
    source: str = Field(min_length=3)
    source_ids: tuple[str, ...] = Field(min_length=1)
    source_path: str | None = None
    source_date: dt.date
    total_params_b: Figure | None = None
    active_params_b: Figure | None = None
    context_length: int | None = Field(default=None, gt=0)
    license: str | None = None
    release_date: str | None = None
    dtype: str | None = None
    attention: str | None = None
    confidence: Confidence
    note: str | None = None

    def load_config(self) -> dict[str, Any]:
        """Return the config in the form of a Hugging Face ``config.json``; a fresh copy."""
        try:
            config = json.loads(self.config_path.read_text(encoding="utf-8"))
        except (OSError, json.JSONDecodeError) as error:
            raise CatalogError(f"models/configs/{self.config_file}", self.id, str(error)) from error
        if not isinstance(config, dict):
            raise CatalogError(
                f"models/configs/{self.config_file}", self.id, "the config is not a mapping"
            )
        return config


@dataclass(frozen=True)
class Finding:
    """One thing that :meth:`Catalog.check` found."""

    severity: Severity
    file: str
    record: str
    message: str


class Catalog:
    """The facts, one lazily read section a property.

    Args:
        directory: The folder that holds ``gpus/``, ``models/`` and the other files.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory

    def __repr__(self) -> str:
        return f"Catalog({str(self.directory)!r})"

    # -- cards and links

    @cached_property
    def gpus(self) -> Mapping[str, Gpu]:
        """Cards by id."""
        pcie = {link.name: link.gb_s_one_way for link in self.interconnects.values()}

        def shape(raw: dict[str, Any], file: _File) -> dict[str, Any]:
            raw.update(raw.pop("traits", {}))
            raw.setdefault("vendor", file.head.get("vendor"))
            default = file.default(raw)
            for field in (
                "memory_gb",
                "memory_mib",
                "usable_gib",
                "bandwidth_gb_s",
                "mig_max_instances",
                "tdp_w",
            ):
                file.expand(raw, field, default)
            rates = raw.get("rates")
            if isinstance(rates, dict):
                block = file.default(rates, default)
                for name in rates:
                    file.expand(rates, name, block)
            link = raw.get("interconnect")
            if isinstance(link, dict):
                for field in ("gb_s_bidirectional", "max_gpus"):
                    file.expand(link, field, default)
            if raw.get("pcie") in pcie:
                raw["pcie_gb_s_one_way"] = pcie[raw["pcie"]]
            _as_text(raw, "launch_date")
            return raw

        return self._keyed("gpus", sorted(self._files("gpus")), Gpu, shape)

    def gpu(self, gpu_id: str) -> Gpu:
        """Return a card by id, name or alias, whatever the case.

        Raises:
            InputError: On ``hardware.gpu``, with up to three close ids.
        """
        if gpu_id in self.gpus:
            return self.gpus[gpu_id]
        found = self._gpu_names.get(_name_key(gpu_id))
        if found:
            return found[0]
        raise InputError(
            "hardware.gpu", _unknown("card", gpu_id, self._gpu_names, self._gpu_id_of), gpu_id
        )

    def match_gpu(self, name: str, memory_mib: int | None = None) -> Gpu | None:
        """Return the card that a driver reports, or ``None`` if it is not in the catalog.

        Args:
            name: Device name as NVML or a similar library gives it.
            memory_mib: Total memory that the driver reports [MiB]; tells cards of one name apart.
        """
        if re.search(r"\blaptop\b|\bmobile\b|\bmax-q design\b|\bmig\b", name, re.IGNORECASE):
            return None
        found = self._gpu_names.get(_name_key(name), ())
        if memory_mib is None:
            return found[0] if found else None
        near = [(abs(memory_mib * MIB / gpu.memory_bytes - 1), gpu) for gpu in found]
        # Unified memory is reported as all of it, a share of it or not at all.
        near = [pair for pair in near if pair[0] < MEMORY_TOLERANCE or pair[1].usable_gib]
        return min(near, key=lambda pair: pair[0])[1] if near else None

    @cached_property
    def _gpu_names(self) -> dict[str, tuple[Gpu, ...]]:
        names: dict[str, tuple[Gpu, ...]] = {}
        for gpu in self.gpus.values():
            for key in {_name_key(text) for text in (gpu.id, gpu.name, *gpu.aliases)}:
                names[key] = (*names.get(key, ()), gpu)
        return names

    def _gpu_id_of(self, key: str) -> str:
        return self._gpu_names[key][0].id

    @cached_property
    def interconnects(self) -> Mapping[str, Link]:
        """Links by id."""

        def shape(raw: dict[str, Any], file: _File) -> dict[str, Any]:
            raw.update(raw.pop("traits", {}))
            default = file.default(raw)
            for field in ("gb_s_bidirectional", "gb_s_one_way", "max_gpus"):
                file.expand(raw, field, default)
            return raw

        return self._keyed("interconnects", ["interconnects.yaml"], Link, shape)

    @cached_property
    def servers(self) -> Mapping[str, Server]:
        """Whole machines by id."""

        def shape(raw: dict[str, Any], file: _File) -> dict[str, Any]:
            default = file.default(raw)
            file.expand(raw, "max_kw", default)
            price = raw.get("price")
            if isinstance(price, dict):
                raw["price"] = {"amount": price.pop("value", None), **price}
                file.expand(raw["price"], "amount", default)
            return raw

        return self._keyed("servers", ["servers.yaml"], Server, shape)

    # -- money

    @cached_property
    def currencies(self) -> Mapping[str, Currency]:
        """Currencies by ISO code."""

        def shape(raw: dict[str, Any], file: _File) -> dict[str, Any]:
            file.expand(raw, "per_usd", file.default(raw))
            return raw

        return self._keyed("currencies", ["currencies.yaml"], Currency, shape)

    @cached_property
    def _all_purchase_prices(self) -> tuple[PurchasePrice, ...]:
        return tuple(self._read("prices", "prices/purchase.yaml", PurchasePrice, _dated))

    @cached_property
    def _all_cloud_prices(self) -> tuple[CloudPrice, ...]:
        return tuple(self._read("prices", "prices/cloud.yaml", CloudPrice, _dated))

    @cached_property
    def _all_electricity(self) -> tuple[CostFactor, ...]:
        return tuple(self._read("factors", "electricity.yaml", CostFactor, _dated))

    @cached_property
    def purchase_prices(self) -> tuple[PurchasePrice, ...]:
        """Usable purchase prices: dated, with a number."""
        return tuple(price for price in self._all_purchase_prices if price.usable)

    @cached_property
    def cloud_prices(self) -> tuple[CloudPrice, ...]:
        """Usable rental prices: dated."""
        return tuple(price for price in self._all_cloud_prices if price.usable)

    @cached_property
    def electricity(self) -> tuple[CostFactor, ...]:
        """Usable running costs and planning shares: dated, with a number."""
        return tuple(factor for factor in self._all_electricity if factor.usable)

    # -- models

    @cached_property
    def models(self) -> Mapping[str, ModelRecord]:
        """Models by id."""
        configs = self.directory / "models" / "configs"

        def shape(raw: dict[str, Any], file: _File) -> dict[str, Any]:
            config = raw.pop("config", None)
            if not isinstance(config, dict) or set(config) - {"file", "format", "source", "path"}:
                raise _Invalid("config", "needs file, format and source, and may have path")
            source = file.source(config.get("source"), "config")
            params = raw.pop("params", {})
            if set(params) - {"total_b", "active_b", "source", "basis"}:
                raise _Invalid("params", "may have total_b, active_b, source and basis")
            block = file.default(params, file.default(config))
            for name in ("total_b", "active_b"):
                if name in params:
                    file.expand(params, name, block)
                    raw[name.replace("_b", "_params_b")] = params[name]
            raw.update(raw.pop("facts", {}))
            raw.setdefault("family", file.head.get("family"))
            raw.setdefault("name", str(raw.get("id")).rsplit("/", 1)[-1])
            raw["config_file"] = config.get("file")
            raw["config_format"] = config.get("format")
            raw["config_path"] = configs / str(config.get("file"))
            raw["source"], raw["source_ids"], raw["source_date"] = source
            raw["source_path"] = config.get("path")
            _as_text(raw, "release_date")
            return raw

        return self._keyed("models", sorted(self._files("models")), ModelRecord, shape)

    def model(self, model_id: str) -> ModelRecord:
        """Return a model by id or by the part after the slash, whatever the case.

        Raises:
            InputError: On ``model``, with up to three close ids.
        """
        if model_id in self.models:
            return self.models[model_id]
        found = self._model_names.get(_model_key(model_id))
        if found is not None:
            return self.models[found]
        names = self._model_names
        raise InputError(
            "model", _unknown("model", model_id, names, lambda key: names[key]), model_id
        )

    def model_config(self, model_id: str) -> dict[str, Any]:
        """Return the config of a model; see :meth:`ModelRecord.load_config`."""
        return self.model(model_id).load_config()

    @cached_property
    def _model_names(self) -> dict[str, str]:
        short: dict[str, str | None] = {}
        for model_id, record in self.models.items():
            key = _model_key(record.name)
            short[key] = None if key in short else model_id
        names = {key: model_id for key, model_id in short.items() if model_id is not None}
        names.update({_model_key(model_id): model_id for model_id in self.models})
        return names

    # -- the catalog as a whole

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """Every source by id, over all files."""
        merged: dict[str, Source] = {}
        for name in self._all_files():
            for source_id, source in self._open(name).sources.items():
                known = merged.setdefault(source_id, source)
                if known.text != source.text:
                    raise CatalogError(name, source_id, f"differs from {known.text!r} elsewhere")
        return MappingProxyType(merged)

    @cached_property
    def version(self) -> str:
        """The newest date in the catalog, as ``YYYYMMDD``."""
        text = " ".join(
            (self.directory / name).read_text(encoding="utf-8") for name in self._all_files()
        )
        return max(re.findall(r"\bdate: (\d{4}-\d\d-\d\d)", text), default="").replace("-", "")

    def check(self, today: dt.date) -> list[Finding]:
        """Return what needs a person: errors first, then what has grown old.

        Args:
            today: The day against which age is counted.
        """
        findings: list[Finding] = []
        sections: tuple[tuple[str, Callable[[], object]], ...] = (
            ("interconnects.yaml", lambda: self.interconnects),
            ("gpus", lambda: self.gpus),
            ("servers.yaml", lambda: self.servers),
            ("currencies.yaml", lambda: self.currencies),
            ("prices/purchase.yaml", lambda: self._all_purchase_prices),
            ("prices/cloud.yaml", lambda: self._all_cloud_prices),
            ("electricity.yaml", lambda: self._all_electricity),
            ("models", lambda: self.models),
            ("sources", lambda: self.sources),
        )
        broken: set[str] = set()
        for section, load in sections:
            try:
                load()
            except CatalogError as error:
                broken.add(section)
                findings.append(Finding("error", error.file, error.record, error.message))
        if "gpus" not in broken:
            findings += self._unknown_gpus(broken)
        if "models" not in broken:
            findings += self._missing_configs()
        findings += self._unsorted(broken)
        findings += self._stale(today, broken)
        return sorted(findings, key=lambda finding: finding.severity != "error")

    def _unknown_gpus(self, broken: set[str]) -> Iterator[Finding]:
        def used() -> Iterator[tuple[str, str, str | None]]:
            if "servers.yaml" not in broken:
                for server in self.servers.values():
                    yield "servers.yaml", server.id, server.gpu_id
            if "prices/purchase.yaml" not in broken:
                for price in self._all_purchase_prices:
                    yield "prices/purchase.yaml", price.item, price.gpu_id
            if "prices/cloud.yaml" not in broken:
                for offer in self._all_cloud_prices:
                    yield "prices/cloud.yaml", f"{offer.provider} {offer.instance}", offer.gpu_id

        for file, record, gpu_id in used():
            if gpu_id is not None and gpu_id not in self.gpus:
                yield Finding("error", file, record, f"no card has the id {gpu_id!r}")

    def _missing_configs(self) -> Iterator[Finding]:
        for record in self.models.values():
            if not record.config_path.is_file():
                yield Finding("error", record.config_file, record.id, "the config is missing")

    def _unsorted(self, broken: set[str]) -> Iterator[Finding]:
        names = [(name, "gpus") for name in self._files("gpus") if "gpus" not in broken]
        names += [(name, "models") for name in self._files("models") if "models" not in broken]
        for name, section in names:
            ids = [str(raw["id"]) for raw in self._open(name).records(section)]
            for before, after in itertools.pairwise(ids):
                if after.lower() < before.lower():
                    yield Finding("warning", name, after, f"stands after {before}: sort the ids")

    def _stale(self, today: dt.date, broken: set[str]) -> Iterator[Finding]:
        sections: dict[str, tuple[Dated, ...]] = {}
        if "prices/purchase.yaml" not in broken:
            sections["prices/purchase.yaml"] = self._all_purchase_prices
        if "prices/cloud.yaml" not in broken:
            sections["prices/cloud.yaml"] = self._all_cloud_prices
        if "electricity.yaml" not in broken:
            sections["electricity.yaml"] = self._all_electricity
        for file, entries in sections.items():
            old: dict[str, int] = {}
            undated: dict[str, int] = {}
            for entry in entries:
                if entry.date is None:
                    undated[entry.source_id] = undated.get(entry.source_id, 0) + 1
                elif (today - entry.date).days > STALE_AFTER_DAYS:
                    old[entry.source_id] = old.get(entry.source_id, 0) + 1
            for source_id, count in sorted(old.items()):
                text = f"{count} figures are older than {STALE_AFTER_DAYS} days"
                yield Finding("warning", file, source_id, text)
            for source_id, count in sorted(undated.items()):
                yield Finding("warning", file, source_id, f"{count} figures are undated: not used")

    # -- reading

    def _files(self, folder: str) -> list[str]:
        return [
            f"{folder}/{path.name}" for path in sorted((self.directory / folder).glob("*.yaml"))
        ]

    def _all_files(self) -> list[str]:
        names = ["interconnects.yaml", "servers.yaml", "currencies.yaml", "electricity.yaml"]
        return names + self._files("gpus") + self._files("models") + self._files("prices")

    def _open(self, name: str) -> _File:
        return _File(self.directory, name)

    def _read(
        self,
        section: str,
        name: str,
        record_type: type[RecordT],
        shape: Callable[[dict[str, Any], _File], dict[str, Any]],
    ) -> list[RecordT]:
        file = self._open(name)
        raws = file.records(section)
        shaped = []
        for index, raw in enumerate(raws):
            record = str(raw.get("id") or raw.get("item") or f"{section}[{index}]")
            try:
                shaped.append(shape(raw, file))
            except _Invalid as error:
                raise CatalogError(
                    name, record, str(error), file.line(section, index, error.field)
                ) from None
        try:
            return _adapter(record_type).validate_python(shaped)
        except ValidationError as error:
            detail = error.errors(include_url=False)[0]
            position, *path = detail["loc"]
            index = int(position)
            raw = shaped[index]
            record = str(raw.get("id") or raw.get("item") or f"{section}[{index}]")
            field = ".".join(str(step) for step in path)
            message = f"{field}: {detail['msg']} (got {str(detail['input'])[:60]!r})"
            line = file.line(section, index, str(path[0]) if path else None)
            raise CatalogError(name, record, message, line) from None

    def _keyed(
        self,
        section: str,
        names: Sequence[str],
        record_type: type[RecordT],
        shape: Callable[[dict[str, Any], _File], dict[str, Any]],
    ) -> Mapping[str, RecordT]:
        found: dict[str, RecordT] = {}
        for name in names:
            for record in self._read(section, name, record_type, shape):
                record_id: str = record.id  # type: ignore[attr-defined]
                if record_id in found:
                    raise CatalogError(name, record_id, "the id is used twice")
                found[record_id] = record
        return MappingProxyType(found)


class _Invalid(ValueError):
    """A record that cannot be shaped; :meth:`Catalog._read` adds the file and the line."""

    def __init__(self, field: str, message: str) -> None:
        self.field = field
        super().__init__(f"{field}: {message}")


_Default = tuple[str, tuple[str, ...], dt.date, str] | None


class _File:
    """One YAML file: its sources, its records, and how a bare number finds its source."""

    def __init__(self, directory: Path, name: str) -> None:
        self.name = name
        self._path = directory / name
        try:
            head = parse_yaml(self._path.read_text(encoding="utf-8"))
        except OSError as error:
            raise CatalogError(name, "file", f"cannot be read: {error.strerror}") from None
        except ValueError as error:
            raise CatalogError(name, "file", f"is not YAML: {error}") from None
        if not isinstance(head, dict):
            raise CatalogError(name, "file", "is not a mapping")
        self.head: dict[str, Any] = head
        self._joined: dict[tuple[str, ...], tuple[str, tuple[str, ...], dt.date]] = {}

    @cached_property
    def sources(self) -> dict[str, Source]:
        found = {}
        for source_id, raw in (self.head.get("sources") or {}).items():
            try:
                found[source_id] = Source.model_validate({"id": source_id, **raw})
            except (ValidationError, TypeError) as error:
                text = (
                    error.errors(include_url=False)[0]["msg"]
                    if isinstance(error, ValidationError)
                    else "is not a mapping"
                )
                raise CatalogError(self.name, f"sources.{source_id}", text) from None
        return found

    def records(self, section: str) -> list[dict[str, Any]]:
        raws = self.head.get(section)
        if not isinstance(raws, list) or not all(isinstance(raw, dict) for raw in raws):
            raise CatalogError(self.name, section, "is not a list of mappings")
        return raws

    def source(self, ids: Any, field: str) -> tuple[str, tuple[str, ...], dt.date]:
        """Return the text, the ids and the newest date of one source or several."""
        if ids is None or ids == []:
            raise _Invalid(field, "has no source")
        key = tuple(ids) if isinstance(ids, list) else (ids,)
        if key not in self._joined:
            unknown = [source_id for source_id in key if source_id not in self.sources]
            if unknown:
                raise _Invalid(field, f"the source {unknown[0]!r} is not in the file's sources")
            found = [self.sources[source_id] for source_id in key]
            text = "; ".join(source.text for source in found)
            self._joined[key] = (text, key, max(source.date for source in found))
        return self._joined[key]

    def default(self, raw: dict[str, Any], outer: _Default = None) -> _Default:
        """Take ``source`` and ``basis`` off a block; they hold for its bare numbers."""
        ids, basis = raw.pop("source", None), raw.pop("basis", None)
        if ids is None:
            return outer if outer is None or basis is None else (*outer[:3], basis)
        return (*self.source(ids, "source"), basis or "stated")

    def expand(self, raw: dict[str, Any], field: str, default: _Default) -> None:
        """Replace a bare number or a short mapping by a full figure, in place."""
        value = raw.get(field)
        if value is None:
            return
        basis = None
        origin = default
        if isinstance(value, dict):
            extra = set(value) - set(_BARE_FIGURES)
            if extra:
                raise _Invalid(field, f"unknown key {min(extra)!r}")
            basis = value.get("basis")
            if "source" in value:
                origin = (*self.source(value["source"], field), "stated")
            value = value.get("value")
        if origin is None:
            raise _Invalid(field, "has no source")
        text, ids, day, inherited = origin
        raw[field] = {
            "value": value,
            "source": text,
            "source_ids": ids,
            "date": day,
            "basis": basis or inherited,
        }

    def line(self, section: str, index: int, field: str | None) -> int | None:
        """Return the line of a record, or of its field; parses again, so only for errors."""
        import yaml

        root = yaml.compose(self._path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
        for key, node in getattr(root, "value", ()):
            if key.value == section:
                record = node.value[index]
                for name, _ in getattr(record, "value", ()):
                    if name.value == field:
                        return int(name.start_mark.line) + 1
                return int(record.start_mark.line) + 1
        return None


def parse_yaml(text: str) -> Any:
    """Return a decoded YAML file; only plain values, by the C reader where there is one.

    Raises:
        ValueError: The text is not YAML.
    """
    import yaml

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error).replace("\n", " ")) from None


def _dated(raw: dict[str, Any], file: _File) -> dict[str, Any]:
    source_id = raw.get("source")
    raw["source"], _, _ = file.source(source_id, "source")
    raw["source_id"] = source_id
    if raw.get("date") is None and raw.get("dated", True):
        raise _Invalid("date", "is missing; an entry without one needs dated: false")
    return raw


def _as_text(raw: dict[str, Any], field: str) -> None:
    if isinstance(raw.get(field), dt.date):
        raw[field] = raw[field].isoformat()


@cache
def _adapter(record_type: type[RecordT]) -> TypeAdapter[list[RecordT]]:
    return TypeAdapter(list[record_type])  # type: ignore[valid-type]


def _name_key(text: str) -> str:
    key = re.sub(r"\(r\)|\(tm\)|^(nvidia|amd|intel)\b", "", text.strip().lower())
    return re.sub(r"[\s_-]+", " ", key).strip()


def _model_key(text: str) -> str:
    return re.sub(r"[\s_]+", "-", text.strip().lower())


def _unknown(what: str, given: str, names: Iterable[str], to_id: Callable[[str], str]) -> str:
    key = _name_key(given) if what == "card" else _model_key(given)
    close = difflib.get_close_matches(key, list(names), n=2 * CLOSE_MATCHES, cutoff=0.5)
    ids = list(dict.fromkeys(to_id(name) for name in close))[:CLOSE_MATCHES]
    hint = f"; did you mean {', '.join(ids)}?" if ids else ""
    return f"no {what} of the catalog is called {given!r}{hint}"


def catalog_dir() -> Path:
    """Return the catalog's folder.

    The environment variable ``CONFIGURATOR_CATALOG`` wins, then the copy inside an installed
    package, then the folder of the source checkout.

    Raises:
        FileNotFoundError: If none of them holds a catalog.
    """
    given = os.environ.get(ENVIRONMENT_VARIABLE)
    package = Path(__file__).resolve().parent
    places = [Path(given)] if given else [package / "_catalog", package.parent / "catalog"]
    for place in places:
        if (place / "gpus").is_dir():
            return place
    raise FileNotFoundError(f"no catalog in {' or '.join(str(place) for place in places)}")


@cache
def _catalog(directory: Path) -> Catalog:
    return Catalog(directory)


def load_catalog(path: Path | None = None) -> Catalog:
    """Return the catalog, one object a folder; its sections are read on first use.

    Args:
        path: The catalog's folder; by default :func:`catalog_dir`.
    """
    return _catalog((path or catalog_dir()).resolve())


def match_gpu(name: str, memory_mib: int | None = None) -> Gpu | None:
    """Return the catalog card of a device name; see :meth:`Catalog.match_gpu`."""
    return load_catalog().match_gpu(name, memory_mib)
