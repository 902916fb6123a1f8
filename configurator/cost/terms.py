"""How money is counted: currency, place, years and rates, each from the user or the catalog."""

from __future__ import annotations

import datetime as dt
from collections.abc import Mapping
from dataclasses import dataclass

from configurator.catalog import Catalog, load_catalog
from configurator.cost.dates import When
from configurator.cost.hosts import Sourced, load_hosts
from configurator.cost.prices import Condition, Region, factor, factor_range, factor_usd
from configurator.cost.ranges import ZERO, Range
from configurator.errors import InputError

DEFAULT_YEARS = 3
DEFAULT_UTILISATION = 0.5


@dataclass(frozen=True)
class Source:
    """Where a figure of money comes from."""

    text: str
    date: When | None


@dataclass(frozen=True)
class Terms:
    """How money is counted: where, for how long, at what rates (US dollars).

    Attributes:
        currency: Of every amount shown; ``rate`` units for one dollar, as of ``rate_date``.
        region: Where cards are bought.
        condition: New, used or whichever is cheaper.
        years: How long.
        utilisation: Share of the time at the load asked for.
        tariff: Electricity [USD/kWh].
        pue: Energy of the site over that of the machines.
        hosting: Colocation [USD a kW and month].
        staff: Share of all cost.
        support: Share of the purchase a year.
        resale: Share of the purchase got back at the end.
        idle: Idle draw as a share of full power.
        sources: Of the rates, by their names.
        other: What is bought besides, in all [USD]: storage, racks, cables, installation.
    """

    currency: str
    rate: float
    rate_date: dt.date
    region: Region
    condition: Condition
    years: int
    utilisation: float
    tariff: Range
    pue: Range
    hosting: Range
    staff: Range
    support: Range
    resale: Range
    idle: float
    sources: Mapping[str, Source]
    other: Range = ZERO


def _rate(
    catalog: Catalog, given: float | None, default: str | Sourced | None, percent: bool = False
) -> tuple[Range, Source | None]:
    """Resolve a rate: the user's, else a catalog entry by id, else a stated figure, else none."""
    if given is not None:
        return Range.exact(given), Source("given", None)
    if isinstance(default, Sourced):
        return default.range, Source(default.source, When.on(default.date))
    entry = factor(catalog, default)
    if entry is None:
        return ZERO, None
    amount = factor_usd(catalog, entry) if entry.currency else factor_range(entry)
    source = Source(f"{entry.item}: {entry.source}", When.of([entry]))
    return amount * (0.01 if percent else 1.0), source


def make_terms(
    catalog: Catalog | None = None,
    *,
    currency: str = "USD",
    region: Region = "any",
    condition: Condition = "new",
    years: int = DEFAULT_YEARS,
    utilisation: float = DEFAULT_UTILISATION,
    tariff_per_kwh: float | None = None,
    default_tariff: str | None = None,
    pue: float | None = None,
    default_pue: str | Sourced | None = None,
    hosting: str | None = None,
    staff: str | None = None,
    hosting_per_kw_month: float | None = None,
    staff_share: float | None = None,
    support_share: float | None = None,
    resale_share: float | None = None,
    other_purchase: float | None = None,
) -> Terms:
    """Resolve rates: what the user gives, else the catalog's default of the region.

    Args:
        catalog: Facts; the built-in ones if None.
        currency: ISO code that the catalog has a rate of; sums given are in it.
        region: Where to buy; also picks the tariff.
        condition: Of the cards.
        years: Of ownership.
        utilisation: Share of the time in use.
        tariff_per_kwh: Electricity, in ``currency``.
        default_tariff: An entry of electricity.yaml, where ``tariff_per_kwh`` is None; None: what
            companies of the region pay.
        pue: Power usage effectiveness.
        default_pue: An entry of electricity.yaml, or a figure, where ``pue`` is None.
        hosting: An entry of electricity.yaml; None: own room, nothing counted.
        staff: An entry of electricity.yaml; None: nothing counted.
        hosting_per_kw_month: Replaces ``hosting``, in ``currency``.
        staff_share: Replaces ``staff``.
        support_share: Of the purchase a year.
        resale_share: Of the purchase, at the end.
        other_purchase: What is bought besides the bill's own lines, in ``currency``.

    Raises:
        InputError: A currency without a rate.
    """
    catalog = catalog or load_catalog()
    if currency not in catalog.currencies:
        known = ", ".join(sorted(catalog.currencies))
        raise InputError("currency", "one_of", currency, known=known)
    rates = load_hosts(catalog).rates
    rate = catalog.currencies[currency].per_usd
    to_usd = 1.0 / rate.value
    sources: dict[str, Source] = {}

    def resolve(name: str, value: float | None, default: str | Sourced | None,
                percent: bool = False) -> Range:  # fmt: skip
        amount, source = _rate(catalog, value, default, percent)
        if source is not None:
            sources[name] = source
        return amount

    tariff = None if tariff_per_kwh is None else tariff_per_kwh * to_usd
    colocation = None if hosting_per_kw_month is None else hosting_per_kw_month * to_usd
    return Terms(
        currency, rate.value, rate.date, region, condition, years, utilisation,
        resolve("tariff", tariff, default_tariff or rates.tariff_of_region[region]),
        resolve("pue", pue, default_pue) if pue is not None or default_pue else Range.exact(1.0),
        resolve("hosting", colocation, hosting),
        resolve("staff", staff_share, staff, percent=True),
        resolve("support", support_share, rates.support_share) if support_share else ZERO,
        resolve("resale", resale_share, rates.resale_share) if resale_share else ZERO,
        rates.idle_power_share.value,
        sources,
        Range.exact((other_purchase or 0.0) * to_usd),
    )  # fmt: skip
