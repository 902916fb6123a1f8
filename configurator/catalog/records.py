"""The catalog's records: what a card, a link, a server, a price or a model is made of."""

from __future__ import annotations

import datetime as dt
import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field

from configurator.units import GIB, MIB

GIGA = 1e9
TERA = 1e12

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

_FP4: Mapping[str, Literal["fp4"]] = {"mxfp4": "fp4", "nvfp4": "fp4"}
# What a precision is called among a card's rates, and among its native ones.
_RATE_OF: Mapping[str, RateName] = {**{name: name for name in get_args(RateName)}, **_FP4}
_NATIVE_OF: Mapping[str, NativeName] = {**{name: name for name in get_args(NativeName)}, **_FP4}


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


class Keyed(Record):
    """A record that is found by its id."""

    id: str


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


class Gpu(Keyed):
    """One card. Rates are dense, TFLOPS or TOPS, with FP32 accumulate unless named otherwise.

    ``same_chip_as``: the card whose chip it is, its links, memory or clocks changed; it reaches the
    same shares of its own peaks.
    """

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
    same_chip_as: str | None = None
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

    def rate(self, precision: str) -> Figure | None:
        """Return the dense peak rate [TFLOPS or TOPS] as a figure with its source.

        BF16 takes the FP16 rate where the card has BF16 and no rate of its own is recorded.
        A precision that the card lacks gives ``None``: whoever computes it in another one decides.

        Args:
            precision: One of :data:`RateName`, or ``mxfp4``, ``nvfp4`` for ``fp4``.
        """
        name, native = _RATE_OF.get(precision), _NATIVE_OF.get(precision)
        if name is None or (native is not None and self.native.get(native) is False):
            return None
        if name == "bf16" and name not in self.rates and self.has_bf16:
            return self.rates.get("fp16")
        return self.rates.get(name)

    def flops(self, precision: str) -> float | None:
        """Return the dense peak rate [FLOP/s or OP/s] of :meth:`rate`."""
        figure = self.rate(precision)
        return None if figure is None else figure.value * TERA

    def lacks(self, precision: str) -> bool:
        """Return whether the card is known not to compute in ``precision``."""
        native = _NATIVE_OF.get(precision)
        return native is not None and self.native.get(native) is False

    def supports(self, precision: str) -> bool:
        """Return whether the card computes in ``precision`` natively."""
        if precision == "fp32":
            return True
        if precision == "fp16":
            return "fp16" in self.rates or self.has_bf16
        native = _NATIVE_OF.get(precision)
        return native is not None and self.native.get(native, False)

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


class Link(Keyed):
    """A kind of link between cards, to the host or between machines."""

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


class Server(Keyed):
    """A whole machine; ``max_kw`` is its maximum draw [kW]."""

    name: str
    gpu_id: str
    gpu_count: int = Field(gt=0)
    interconnect_id: str | None = None
    max_kw: Figure | None = None
    size: str | None = None
    price: Money | None = None
    confidence: Confidence
    note: str | None = None


class Currency(Keyed):
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
    """What a card, a system or a part costs to buy, in ``currency`` per ``unit``.

    Attributes:
        withdrawn: Since when it is not sold any more; its price does not count from then on.
    """

    kind: Literal["gpu", "system", "component"]
    item: str
    gpu_id: str | None = None
    currency: str = Field(pattern="^[A-Z]{3}$")
    unit: str
    region: str | None = None
    condition: Condition
    condition_text: str | None = None
    withdrawn: dt.date | None = None


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


class ModelRecord(Keyed):
    """A model: where its config is, how it was obtained, and what is published about it."""

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
