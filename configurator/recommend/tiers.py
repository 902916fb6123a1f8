"""The three kinds of buyer, read from ``catalog/tiers.yaml``: limits as data."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import Field

from configurator.catalog import Catalog
from configurator.cost.hosts import Part, Sourced, read_part
from configurator.cost.prices import Region
from configurator.recommend.request import Request, TierEdit


class RegionalTariffs(Part):
    """Entries of ``electricity.yaml`` by region."""

    any: str
    US: str
    EU: str
    China: str


class RegionalPowers(Part):
    """What a buyer's circuit gives where it is not the usual one."""

    EU: Sourced
    China: Sourced


class Tier(Part):
    """What one kind of buyer takes; a limit that a request states replaces the tier's."""

    id: str
    hosts: tuple[str, ...] = Field(min_length=1)
    segments: tuple[str, ...] = Field(min_length=1)
    counts: tuple[int, ...] = Field(min_length=1)
    max_nodes: int = Field(gt=0)
    max_budget: Sourced | None
    max_power_w: Sourced | None
    require_ecc: bool
    least_domain: int = Field(gt=0)
    spare_gpus: int = Field(ge=0)
    pue: str | Sourced
    hosting: str | None
    staff: str | None
    tariff_of_region: RegionalTariffs | None = None
    power_of_region: RegionalPowers | None = None

    def in_region(self, region: str) -> Tier:
        """Return the tier with the power that its region gives."""
        power = getattr(self.power_of_region, region, self.max_power_w)
        return self.model_copy(update={"max_power_w": power})

    def rates(self, region: Region) -> dict[str, Any]:
        """Return the running rates that :func:`configurator.cost.make_terms` takes as defaults."""
        tariffs = self.tariff_of_region
        return {
            "default_pue": self.pue, "hosting": self.hosting, "staff": self.staff,
            "default_tariff": getattr(tariffs, region) if tariffs else None,
        }  # fmt: skip


class Tiers(Part):
    """The whole of ``tiers.yaml``."""

    tiers: tuple[Tier, ...]


def edited(tiers: tuple[Tier, ...], request: Request, catalog: Catalog) -> tuple[Tier, ...]:
    """Return the tiers as they are in a request's region, with its edits in them."""
    out = []
    for tier in tiers:
        here = tier.in_region(request.region)
        if tier.id in request.tiers:
            here = _edit(here, request.tiers[tier.id], request.currency, catalog)
        out.append(here)
    return tuple(out)


def _edit(tier: Tier, edit: TierEdit, currency: str, catalog: Catalog) -> Tier:
    rate = catalog.currencies[currency].per_usd
    changes: dict[str, Any] = {}
    for name in ("max_nodes", "require_ecc", "least_domain", "spare_gpus"):
        if getattr(edit, name) is not None:
            changes[name] = getattr(edit, name)
    given = {"source": "given by the user", "date": rate.date, "basis": "stated"}
    if edit.max_budget is not None:
        value = edit.max_budget / rate.value
        changes["max_budget"] = Sourced.model_validate({"value": value, "unit": "USD", **given})
    if edit.max_power_w is not None:
        value = edit.max_power_w
        changes["max_power_w"] = Sourced.model_validate({"value": value, "unit": "W", **given})
    if edit.max_gpus is not None:
        fewer = tuple(n for n in tier.counts if n <= edit.max_gpus)
        changes["counts"] = fewer or tier.counts[:1]
    return tier.model_copy(update=changes)


@lru_cache(maxsize=8)
def load_tiers(catalog: Catalog) -> tuple[Tier, ...]:
    """Return the tiers of a catalog."""
    return read_part(catalog.directory / "tiers.yaml", Tiers).tiers
