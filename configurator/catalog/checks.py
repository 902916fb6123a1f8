"""What `configurator check` finds: files that cannot be read, and figures that have grown old."""

from __future__ import annotations

import datetime as dt
import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Literal

from configurator.catalog.reading import Catalog
from configurator.catalog.records import CatalogError, Dated

STALE_AFTER_DAYS = 180

Severity = Literal["error", "warning"]


@dataclass(frozen=True)
class Finding:
    """One thing that a check found."""

    severity: Severity
    file: str
    record: str
    message: str


def findings(catalog: Catalog, today: dt.date) -> list[Finding]:
    """Return what needs a person: errors first, then what has grown old.

    Args:
        catalog: The catalog.
        today: The day against which age is counted.
    """
    found: list[Finding] = []
    sections: tuple[tuple[str, Callable[[], object]], ...] = (
        ("interconnects.yaml", lambda: catalog.interconnects),
        ("gpus", lambda: catalog.gpus),
        ("servers.yaml", lambda: catalog.servers),
        ("currencies.yaml", lambda: catalog.currencies),
        ("prices/purchase.yaml", lambda: catalog.all_purchase_prices),
        ("prices/cloud.yaml", lambda: catalog.all_cloud_prices),
        ("electricity.yaml", lambda: catalog.all_electricity),
        ("models", lambda: catalog.models),
        ("sources", lambda: catalog.sources),
    )
    broken: set[str] = set()
    for section, load in sections:
        try:
            load()
        except CatalogError as error:
            broken.add(section)
            found.append(Finding("error", error.file, error.record, error.message))
    if "gpus" not in broken:
        found += _unknown_gpus(catalog, broken)
    if "models" not in broken:
        found += _missing_configs(catalog)
    found += _unsorted(catalog, broken)
    found += _stale(catalog, today, broken)
    return sorted(found, key=lambda finding: finding.severity != "error")


def _unknown_gpus(catalog: Catalog, broken: set[str]) -> Iterator[Finding]:
    def used() -> Iterator[tuple[str, str, str | None]]:
        if "servers.yaml" not in broken:
            for server in catalog.servers.values():
                yield "servers.yaml", server.id, server.gpu_id
        if "prices/purchase.yaml" not in broken:
            for price in catalog.all_purchase_prices:
                yield "prices/purchase.yaml", price.item, price.gpu_id
        if "prices/cloud.yaml" not in broken:
            for offer in catalog.all_cloud_prices:
                yield "prices/cloud.yaml", f"{offer.provider} {offer.instance}", offer.gpu_id

    for file, record, gpu_id in used():
        if gpu_id is not None and gpu_id not in catalog.gpus:
            yield Finding("error", file, record, f"no card has the id {gpu_id!r}")


def _missing_configs(catalog: Catalog) -> Iterator[Finding]:
    for record in catalog.models.values():
        if not record.config_path.is_file():
            yield Finding("error", record.config_file, record.id, "the config is missing")


def _unsorted(catalog: Catalog, broken: set[str]) -> Iterator[Finding]:
    names = [(name, "gpus") for name in catalog.files("gpus") if "gpus" not in broken]
    names += [(name, "models") for name in catalog.files("models") if "models" not in broken]
    for name, section in names:
        ids = [str(raw["id"]) for raw in catalog.open(name).records(section)]
        for before, after in itertools.pairwise(ids):
            if after.lower() < before.lower():
                yield Finding("warning", name, after, f"stands after {before}: sort the ids")


def _stale(catalog: Catalog, today: dt.date, broken: set[str]) -> Iterator[Finding]:
    sections: dict[str, tuple[Dated, ...]] = {}
    if "prices/purchase.yaml" not in broken:
        sections["prices/purchase.yaml"] = catalog.all_purchase_prices
    if "prices/cloud.yaml" not in broken:
        sections["prices/cloud.yaml"] = catalog.all_cloud_prices
    if "electricity.yaml" not in broken:
        sections["electricity.yaml"] = catalog.all_electricity
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
