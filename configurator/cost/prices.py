"""The price of a card, a part or an hour: which entries of the catalog count, and what they say."""

from __future__ import annotations

import datetime as dt
import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Literal

from configurator.catalog import Catalog, CloudPrice, Confidence, CostFactor, PurchasePrice
from configurator.cost.dates import When
from configurator.cost.hosts import Component, HostPart, load_hosts
from configurator.cost.ranges import Range

Condition = Literal["new", "used", "any"]
Region = Literal["any", "US", "China", "EU"]
Rental = Literal["on_demand", "reserved", "spot"]

# What a buyer's word means in the catalog's: a street price is that of a new card.
_CONDITIONS = {"new": ("new", "street"), "used": ("used",), "list": ("list",)}
_RENTAL = {"on_demand": ("on_demand",), "reserved": ("reserved",), "spot": ("spot", "marketplace")}
_LEVELS: dict[str, int] = {"high": 0, "medium": 1, "low": 2}


@dataclass(frozen=True, slots=True)
class Price:
    """A price in US dollars with its range and what it rests on.

    Attributes:
        amount: Median, lowest and highest of the entries counted.
        date: When the entries counted held.
        region: Where the entries were seen.
        condition: ``new``, ``used`` or ``list``.
        confidence: The least of the entries'.
        sources: Of the entries, without repetition.
        notes: Codes of what had to be taken instead of what was asked for.
        with_host: Whether the price is a share of a whole system's.
    """

    amount: Range
    date: When
    region: str
    condition: str
    confidence: Confidence
    sources: tuple[str, ...]
    notes: tuple[str, ...] = ()
    with_host: bool = False


def per_usd(catalog: Catalog, currency: str) -> float:
    """Return units of a currency for one US dollar."""
    return catalog.currencies[currency].per_usd.value


def _pool(
    catalog: Catalog, entries: Sequence[PurchasePrice], counts: dict[str, int]
) -> tuple[Range, When]:
    values, lows, highs = [], [], []
    for entry in entries:
        share = per_usd(catalog, entry.currency) * counts.get(entry.item, 1)
        typical = entry.typical or 0.0
        values.append(typical / share)
        lows.append((entry.low or typical) / share)
        highs.append((entry.high or typical) / share)
    middle = statistics.median(values)
    return Range(middle, min(*lows, middle), max(*highs, middle)), When.of(entries)


def _valid(entries: Sequence[PurchasePrice]) -> list[PurchasePrice]:
    """List prices that hold: the newest, since each replaces the one before.

    A table's own date says nothing of its prices' age: those count where there are no others.
    """
    known = [e for e in entries if e.date_kind != "file"] or entries
    newest = max((e.date for e in known if e.date is not None), default=None)
    return [e for e in known if e.date == newest]


def _least(entries: Iterable[PurchasePrice | CloudPrice]) -> Confidence:
    return max((e.confidence for e in entries), key=lambda c: _LEVELS[c])


@lru_cache(maxsize=8)
def _by_card(catalog: Catalog) -> tuple[dict[str, list[PurchasePrice]], dict[str, int]]:
    """Entries by card, and the cards in each system whose number of cards is known."""
    counts = {system.item: system.gpu_count for system in load_hosts(catalog).systems}
    found: dict[str, list[PurchasePrice]] = {}
    for entry in catalog.purchase_prices:
        known = entry.kind == "gpu" or (entry.kind == "system" and entry.item in counts)
        if known and entry.gpu_id is not None and entry.withdrawn is None:
            found.setdefault(entry.gpu_id, []).append(entry)
    return found, counts


@lru_cache(maxsize=4096)
def card_price(
    catalog: Catalog, gpu_id: str, region: Region = "any", condition: Condition = "new"
) -> Price | None:
    """Return what a card costs: the median of dated entries that are not of low confidence.

    Where there are none of the asked region and condition, in this order: low confidence; for new
    cards the newest list price (MSRP), then used ones, for used cards new ones, then the list
    price; a system's price over its cards; then the same from other regions. Each step is noted.
    ``any`` condition is the cheaper of new and used. A system of one card (a mini PC, a Mac) is
    that card's price.

    Args:
        catalog: Facts.
        gpu_id: Catalog id.
        region: Where to buy.
        condition: New, used, or whichever is cheaper.
    """
    if condition == "any":
        both = [card_price(catalog, gpu_id, region, c) for c in ("new", "used")]
        priced = [price for price in both if price is not None]
        return min(priced, key=lambda price: float(price.amount.value)) if priced else None
    by_card, counts = _by_card(catalog)
    entries = by_card.get(gpu_id, [])
    cards = [e for e in entries if counts.get(e.item, 1) == 1]
    systems = [e for e in entries if counts.get(e.item, 1) > 1]
    other = "used" if condition == "new" else "new"
    order = (condition, "list", other) if condition == "new" else (condition, other, "list")
    places: list[tuple[str, ...]] = [(region,)] if region != "any" else []
    for place in [*places, ()]:
        away = ("other_region",) if place == () and region != "any" else ()
        for kind, notes in ((cards, ()), (systems, ("system",))):
            here = [e for e in kind if not place or e.region in place]
            for wanted in order:
                given = [e for e in here if e.condition in _CONDITIONS[wanted]]
                if not given:
                    continue
                sure = [e for e in given if e.confidence != "low"]
                used = sure or given
                if wanted == "list":
                    used = _valid(used)
                amount, date = _pool(catalog, used, counts)
                codes = [*notes, *away]
                if not sure:
                    codes.append("low_confidence")
                if wanted == other:
                    codes.append("other_condition")
                if wanted == "list":
                    codes.append("list_price")
                regions = sorted({e.region or "?" for e in used})
                sources = tuple(dict.fromkeys(e.source for e in used))
                return Price(
                    amount, date, "/".join(regions), wanted, _least(used), sources,
                    tuple(codes), bool(notes),
                )  # fmt: skip
    return None


@lru_cache(maxsize=256)
def component_price(catalog: Catalog, component: Component) -> Price | None:
    """Return what a part costs: the median of its dated entries, low confidence last."""
    entries = [
        e for e in catalog.purchase_prices
        if e.kind == "component" and e.item == component.item
        and (component.text is None or e.condition_text == component.text)
    ]  # fmt: skip
    if not entries:
        return None
    used = [e for e in entries if e.confidence != "low"] or entries
    amount, date = _pool(catalog, used, {})
    regions = "/".join(sorted({e.region or "?" for e in used}))
    sources = tuple(dict.fromkeys(e.source for e in used))
    return Price(amount, date, regions, "new", _least(used), sources)


def part_price(catalog: Catalog, part: HostPart) -> Price | None:
    """Return what one of a host's parts costs."""
    if part.component is not None:
        return component_price(catalog, part.component)
    if part.price is None or part.date is None:
        return None
    rate = per_usd(catalog, part.price.currency)
    amount = Range(part.price.value / rate, part.price.low / rate, part.price.high / rate)
    return Price(
        amount, When.on(part.date, part.precision), "US", "new", part.confidence,
        (part.source or "",), (f"basis_{part.basis}",),
    )  # fmt: skip


@lru_cache(maxsize=8)
def _newest_rental(catalog: Catalog) -> dt.date:
    return max(p.date for p in catalog.cloud_prices if p.date is not None)


@lru_cache(maxsize=1024)
def rental_price(catalog: Catalog, gpu_id: str, rental: Rental = "on_demand") -> Price | None:
    """Return what a card costs to rent [US dollars an hour], the median of recent dated offers.

    A reservation without offers of its own is the on-demand price less the catalog's usual
    commitment discount; that is noted.
    """
    offers = [
        p for p in catalog.cloud_prices
        if p.gpu_id == gpu_id and p.pricing_model in _RENTAL[rental] and p.date is not None
    ]  # fmt: skip
    if not offers:
        if rental != "reserved":
            return None
        plain = rental_price(catalog, gpu_id, "on_demand")
        discount = factor(catalog, load_hosts(catalog).rates.reserved_discount)
        if plain is None or discount is None:
            return None
        cut = factor_range(discount)
        amount = Range(
            plain.amount.value * (1 - cut.value / 100),
            plain.amount.low * (1 - cut.high / 100),
            plain.amount.high * (1 - cut.low / 100),
        )
        sources = (*plain.sources, discount.source)
        return replace(plain, amount=amount, sources=sources, notes=("reserved_discount",))
    days = dt.timedelta(days=load_hosts(catalog).rates.cloud_window_days.value)
    oldest_allowed = _newest_rental(catalog) - days
    recent = [p for p in offers if p.date is not None and p.date >= oldest_allowed]
    notes = [] if recent else ["old_price"]
    used = [p for p in recent or offers if p.confidence != "low"]
    if not used:
        used, notes = recent or offers, [*notes, "low_confidence"]
    values = [p.usd_per_gpu_hour for p in used]
    sources = tuple(dict.fromkeys(f"{p.provider}: {p.source}" for p in used))
    return Price(
        Range(statistics.median(values), min(values), max(values)), When.of(used), "any",
        rental, _least(used), sources, tuple(notes),
    )  # fmt: skip


def factor(catalog: Catalog, factor_id: str | None) -> CostFactor | None:
    """Return a usable running-cost factor by id, or None."""
    for entry in catalog.electricity:
        if entry.id == factor_id:
            return entry
    return None


def factor_range(entry: CostFactor) -> Range:
    """Value, low and high of a factor; the middle of the range where no value is stated."""
    middle = entry.typical or 0.0
    low = middle if entry.low is None else entry.low
    high = middle if entry.high is None else entry.high
    return Range(middle, min(low, middle), max(high, middle))


def factor_usd(catalog: Catalog, entry: CostFactor) -> Range:
    """A factor's range in US dollars."""
    return factor_range(entry) * (1.0 / per_usd(catalog, entry.currency or "USD"))
