"""The catalog as sections of records, each parsed on first use and kept."""

from __future__ import annotations

import datetime as dt
import re
from collections.abc import Callable, Mapping, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

from pydantic import ValidationError

from configurator.catalog import matching
from configurator.catalog.files import File, Invalid
from configurator.catalog.records import (
    CatalogError,
    CloudPrice,
    CostFactor,
    Currency,
    Gpu,
    Keyed,
    Link,
    ModelRecord,
    PurchasePrice,
    Record,
    Server,
    Source,
)

RecordT = TypeVar("RecordT", bound=Record)
KeyedT = TypeVar("KeyedT", bound=Keyed)


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

        def shape(raw: dict[str, Any], file: File) -> dict[str, Any]:
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

        return self._keyed("gpus", sorted(self.files("gpus")), Gpu, shape)

    def gpu(self, gpu_id: str) -> Gpu:
        """Return a card by id, name or alias, whatever the case.

        Raises:
            InputError: On ``hardware.gpu``, with up to three close ids.
        """
        if gpu_id in self.gpus:
            return self.gpus[gpu_id]
        found = self._gpu_names.get(matching.gpu_key(gpu_id))
        if found:
            return found[0]
        close = matching.close_ids(matching.gpu_key(gpu_id), self._gpu_names, self._gpu_id_of)
        raise matching.unknown("hardware.gpu", "card", gpu_id, close)

    def match_gpu(self, name: str, memory_mib: int | None = None) -> Gpu | None:
        """Return the card that a driver reports, or ``None`` if it is not in the catalog.

        Args:
            name: Device name as NVML or a similar library gives it.
            memory_mib: Total memory that the driver reports [MiB]; tells cards of one name apart.
        """
        return matching.reported_gpu(self._gpu_names, name, memory_mib)

    @cached_property
    def _gpu_names(self) -> dict[str, tuple[Gpu, ...]]:
        return matching.gpus_by_name(self.gpus.values())

    def _gpu_id_of(self, key: str) -> str:
        return self._gpu_names[key][0].id

    @cached_property
    def interconnects(self) -> Mapping[str, Link]:
        """Links by id."""

        def shape(raw: dict[str, Any], file: File) -> dict[str, Any]:
            raw.update(raw.pop("traits", {}))
            default = file.default(raw)
            for field in ("gb_s_bidirectional", "gb_s_one_way", "max_gpus"):
                file.expand(raw, field, default)
            return raw

        return self._keyed("interconnects", ["interconnects.yaml"], Link, shape)

    @cached_property
    def servers(self) -> Mapping[str, Server]:
        """Whole machines by id."""

        def shape(raw: dict[str, Any], file: File) -> dict[str, Any]:
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

        def shape(raw: dict[str, Any], file: File) -> dict[str, Any]:
            file.expand(raw, "per_usd", file.default(raw))
            return raw

        return self._keyed("currencies", ["currencies.yaml"], Currency, shape)

    def at_rate(self, currency: str, per_usd: float) -> Catalog:
        """Return this catalog at another exchange rate; all else is shared, and read but once.

        Args:
            currency: ISO code.
            per_usd: Units of it for one US dollar.
        """
        record = self.currencies[currency]
        given = {"value": per_usd, "source": "given by the user", "basis": "stated"}
        rate = record.per_usd.model_copy(update=given)
        other = copy(self)
        other.__dict__["currencies"] = {
            **self.currencies,
            currency: record.model_copy(update={"per_usd": rate}),
        }
        return other

    @cached_property
    def all_purchase_prices(self) -> tuple[PurchasePrice, ...]:
        """Every purchase price, those included that cannot be used."""
        return tuple(self._read("prices", "prices/purchase.yaml", PurchasePrice, _dated))

    @cached_property
    def all_cloud_prices(self) -> tuple[CloudPrice, ...]:
        """Every rental price, those included that cannot be used."""
        return tuple(self._read("prices", "prices/cloud.yaml", CloudPrice, _dated))

    @cached_property
    def all_electricity(self) -> tuple[CostFactor, ...]:
        """Every running cost, those included that cannot be used."""
        return tuple(self._read("factors", "electricity.yaml", CostFactor, _dated))

    @cached_property
    def purchase_prices(self) -> tuple[PurchasePrice, ...]:
        """Usable purchase prices: dated, with a number."""
        return tuple(price for price in self.all_purchase_prices if price.usable)

    @cached_property
    def cloud_prices(self) -> tuple[CloudPrice, ...]:
        """Usable rental prices: dated."""
        return tuple(price for price in self.all_cloud_prices if price.usable)

    @cached_property
    def electricity(self) -> tuple[CostFactor, ...]:
        """Usable running costs and planning shares: dated, with a number."""
        return tuple(factor for factor in self.all_electricity if factor.usable)

    # -- models

    @cached_property
    def models(self) -> Mapping[str, ModelRecord]:
        """Models by id."""
        configs = self.directory / "models" / "configs"

        def shape(raw: dict[str, Any], file: File) -> dict[str, Any]:
            config = raw.pop("config", None)
            if not isinstance(config, dict) or set(config) - {"file", "format", "source", "path"}:
                raise Invalid("config", "needs file, format and source, and may have path")
            source = file.source(config.get("source"), "config")
            params = raw.pop("params", {})
            if set(params) - {"total_b", "active_b", "source", "basis"}:
                raise Invalid("params", "may have total_b, active_b, source and basis")
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

        return self._keyed("models", sorted(self.files("models")), ModelRecord, shape)

    def model(self, model_id: str) -> ModelRecord:
        """Return a model by id or by the part after the slash, whatever the case.

        Raises:
            InputError: On ``model``, with up to three close ids.
        """
        if model_id in self.models:
            return self.models[model_id]
        found = self._model_names.get(matching.model_key(model_id))
        if found is not None:
            return self.models[found]
        names = self._model_names
        close = matching.close_ids(matching.model_key(model_id), names, names.__getitem__)
        raise matching.unknown("model", "model", model_id, close)

    def model_config(self, model_id: str) -> dict[str, Any]:
        """Return the config of a model; see :meth:`ModelRecord.load_config`."""
        return self.model(model_id).load_config()

    @cached_property
    def _model_names(self) -> dict[str, str]:
        return matching.models_by_name(self.models)

    # -- the catalog as a whole

    @cached_property
    def sources(self) -> Mapping[str, Source]:
        """Every source by id, over all files."""
        merged: dict[str, Source] = {}
        for name in self._all_files():
            for source_id, source in self.open(name).sources.items():
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

    # -- reading

    def files(self, folder: str) -> list[str]:
        """Return the YAML files of a folder, by their names relative to the catalog."""
        return [
            f"{folder}/{path.name}" for path in sorted((self.directory / folder).glob("*.yaml"))
        ]

    def _all_files(self) -> list[str]:
        names = ["interconnects.yaml", "servers.yaml", "currencies.yaml", "electricity.yaml"]
        return names + self.files("gpus") + self.files("models") + self.files("prices")

    def open(self, name: str) -> File:
        """Read a file by its name relative to the catalog."""
        return File(self.directory, name)

    def _read(
        self,
        section: str,
        name: str,
        record_type: type[RecordT],
        shape: Callable[[dict[str, Any], File], dict[str, Any]],
    ) -> list[RecordT]:
        file = self.open(name)
        raws = file.records(section)
        shaped = []
        for index, raw in enumerate(raws):
            record = str(raw.get("id") or raw.get("item") or f"{section}[{index}]")
            try:
                shaped.append(shape(raw, file))
            except Invalid as error:
                raise CatalogError(
                    name, record, str(error), file.line(section, index, error.field)
                ) from None
        records = []
        for index, raw in enumerate(shaped):
            try:
                records.append(record_type.model_validate(raw))
            except ValidationError as error:
                detail = error.errors(include_url=False)[0]
                path = detail["loc"]
                record = str(raw.get("id") or raw.get("item") or f"{section}[{index}]")
                field = ".".join(str(step) for step in path)
                message = f"{field}: {detail['msg']} (got {str(detail['input'])[:60]!r})"
                line = file.line(section, index, str(path[0]) if path else None)
                raise CatalogError(name, record, message, line) from None
        return records

    def _keyed(
        self,
        section: str,
        names: Sequence[str],
        record_type: type[KeyedT],
        shape: Callable[[dict[str, Any], File], dict[str, Any]],
    ) -> Mapping[str, KeyedT]:
        found: dict[str, KeyedT] = {}
        for name in names:
            for record in self._read(section, name, record_type, shape):
                if record.id in found:
                    raise CatalogError(name, record.id, "the id is used twice")
                found[record.id] = record
        return MappingProxyType(found)


def _dated(raw: dict[str, Any], file: File) -> dict[str, Any]:
    source_id = raw.get("source")
    raw["source"], _, _ = file.source(source_id, "source")
    raw["source_id"] = source_id
    if raw.get("date") is None and raw.get("dated", True):
        raise Invalid("date", "is missing; an entry without one needs dated: false")
    return raw


def _as_text(raw: dict[str, Any], field: str) -> None:
    if isinstance(raw.get(field), dt.date):
        raw[field] = raw[field].isoformat()
