"""One plan's bill of materials and what it costs over the years, beside what renting would."""

from __future__ import annotations

import datetime as dt
import math
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal

from configurator.catalog import Catalog, load_catalog
from configurator.cost import formulas
from configurator.cost.dates import When
from configurator.cost.hosts import Host, load_hosts
from configurator.cost.prices import (
    Price,
    Rental,
    card_price,
    component_price,
    factor,
    factor_range,
    part_price,
    rental_price,
)
from configurator.cost.ranges import ZERO, Range
from configurator.cost.terms import DEFAULT_YEARS, Source, Terms, make_terms
from configurator.errors import InputError
from configurator.words import say

RENTALS: tuple[Rental, ...] = ("on_demand", "reserved", "spot")
Group = Literal["purchase", "running"]
# Lines below this share of the purchase do not tell its date.
_MINOR_SHARE = 0.05


@dataclass(frozen=True)
class HostPrice:
    """What one host costs and draws, and its parts with their prices."""

    host: Host
    amount: Range
    parts: tuple[tuple[str, int, Price], ...]


@lru_cache(maxsize=64)
def host_price(catalog: Catalog, host_id: str) -> HostPrice:
    """Return a host's parts and their sum."""
    host = load_hosts(catalog).host(host_id)
    parts = [(p.id, p.quantity, part_price(catalog, p)) for p in host.parts]
    priced = tuple((name, count, price) for name, count, price in parts if price is not None)
    total = ZERO
    for _, count, price in priced:
        total = total + price.amount * count
    return HostPrice(host, total, priced)


@lru_cache(maxsize=8)
def switch_price(catalog: Catalog) -> Price | None:
    """Return what one switch costs."""
    return component_price(catalog, load_hosts(catalog).network.switch.component)


@dataclass(frozen=True)
class Totals:
    """Sums of a deployment, or with arrays of many; US dollars, watts, kWh."""

    purchase: Range
    energy_per_year: Range
    hosting_per_year: Range
    support_per_year: Range
    staff: Range
    resale: Range
    total: Range
    average_w: Any
    peak_w: Any
    kwh_per_year: Any


def totals(
    terms: Terms, years: Any, cards: Any, cards_bought: Any, card: Range, card_w: Any, hosts: Any,
    hosts_bought: Any, host: Range, host_w: Any, switches: Any, switch: Range,
) -> Totals:  # fmt: skip
    """Add up purchase and running cost; every argument may be an array.

    Args:
        terms: Rates.
        years: Of ownership.
        cards: Cards installed, spares included.
        cards_bought: Of them, bought now.
        card: Price of one [USD].
        card_w: Board power of one [W].
        hosts: Hosts in use.
        hosts_bought: Of them, bought now.
        host: Price of one [USD].
        host_w: Own power of one [W].
        switches: Switches bought.
        switch: Price of one [USD].
    """
    purchase = card * cards_bought + host * hosts_bought + switch * switches + terms.other
    average = formulas.average_power_w(cards, card_w, hosts, host_w, terms.utilisation, terms.idle)
    peak = formulas.peak_power_w(cards, card_w, hosts, host_w)
    kwh = formulas.energy_kwh_per_year(average, terms.pue.value)
    site = terms.pue * formulas.energy_kwh_per_year(average, 1.0)
    energy = site * terms.tariff
    hosting = formulas.hosting_per_year(peak, terms.hosting)
    support = purchase * terms.support
    running = energy + hosting + support
    total, staff, resale = formulas.ownership(purchase, running, years, terms.resale, terms.staff)
    return Totals(purchase, energy, hosting, support, staff, resale, total, average, peak, kwh)


@dataclass(frozen=True, slots=True)
class Line:
    """One line of the bill, in the currency shown; amounts are whole cents."""

    id: str
    group: Group
    text: str
    quantity: float
    unit: Range
    amount: Range
    date: When | None
    source: str
    notes: tuple[str, ...] = ()


@dataclass(frozen=True)
class Rent:
    """The same cards rented for the same time.

    Attributes:
        total: While the cards work; reserved: all the time.
        break_even_month: From when on owning is cheaper; infinite: not within the years.
        break_even_utilisation: Above which share of the time in use it is; infinite: at none.
        own_share: Owning as a share of the rent.
        own_share_without_staff: The same if whoever rents the cards needs the same people.
        run: Rented for the one training run that was asked about, whatever the years; None where
            no run is known.
    """

    rental: Rental
    total: Range
    per_card_hour: Range
    price: Price
    break_even_month: float
    break_even_utilisation: float
    own_share: float
    own_share_without_staff: float
    run: Range | None = None


@dataclass(frozen=True)
class Cost:
    """What a plan costs; amounts in ``terms.currency``."""

    terms: Terms
    lines: tuple[Line, ...]
    purchase: Range
    power: Range
    hosting: Range
    staff: Range
    support: Range
    resale: Range
    total: Range
    three_year_total: Range
    depreciation_per_year: Range
    book_value: Range
    per_million_tokens: Range | None
    per_million_input_tokens: Range | None
    per_million_output_tokens: Range | None
    average_power_w: float
    peak_power_w: float
    kwh_per_year: float
    rents: tuple[Rent, ...]
    card: Price
    exclusions: tuple[str, ...]

    @property
    def price_date(self) -> When:
        """When the prices of the purchase held; lines below 5 % of it are left out."""
        bought = [x for x in self.lines if x.group == "purchase" and x.date is not None]
        least = _MINOR_SHARE * sum(float(line.amount.value) for line in bought)
        told = [x.date for x in bought if x.date and float(x.amount.value) >= least]
        return When.together(told) if told else self.card.date

    def dates_text(self, language: str) -> str:
        """Return :attr:`price_date` for a sentence, which names a card whose price is undated."""
        cards = [x.date for x in self.lines if x.id == "card" and x.date]
        undated = "card_undated" if cards and cards[0].dated is None else "some_undated"
        return self.price_date.phrase(language, undated)

    @property
    def machines(self) -> Range:
        """What the cards sit in and are joined by: hosts and network."""
        inside = [x for x in self.lines if x.group == "purchase" and x.id not in ("card", "other")]
        return _sum(line.amount for line in inside)

    def amount(self, value: Range, date: When | None = None) -> dict[str, Any]:
        """Return the contract's ``{amount, low, high, currency, price_date}`` and more of that."""
        return {
            "amount": _number(value.value), "low": _number(value.low), "high": _number(value.high),
            "currency": self.terms.currency, **(date or self.price_date).to_dict(),
        }  # fmt: skip

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's ``cost`` as plain JSON values."""
        days = {line.id: line.date for line in self.lines if line.group == "running"}
        out: dict[str, Any] = {
            name: self.amount(getattr(self, name), days.get(name))
            for name in (
                "purchase", "power", "hosting", "staff", "support", "resale", "total",
                "three_year_total", "depreciation_per_year", "book_value",
            )
        }  # fmt: skip
        for name in ("per_million_tokens", "per_million_input_tokens", "per_million_output_tokens"):
            value = getattr(self, name)
            out[name] = None if value is None else self.amount(value)
        out["years"] = self.terms.years
        out["utilisation"] = self.terms.utilisation
        out["average_power_w"] = round(self.average_power_w, 1)
        out["peak_power_w"] = round(self.peak_power_w, 1)
        out["kwh_per_year"] = round(self.kwh_per_year, 1)
        out["cloud"] = {rent.rental: self._rent(rent) for rent in self.rents}
        out["lines"] = [self._line(line, language) for line in self.lines]
        out["card_price"] = {
            "condition": self.card.condition, "region": self.card.region,
            "confidence": self.card.confidence, "sources": list(self.card.sources),
            "oldest": self.card.date.isoformat(),
            "newest": self.card.date.newest.first.isoformat(),
        }  # fmt: skip
        out["exchange_rate"] = {
            "per_usd": self.terms.rate, "currency": self.terms.currency,
            "date": self.terms.rate_date.isoformat(),
        }  # fmt: skip
        out["rates"] = {
            name: {"source": s.text, "date": s.date.isoformat() if s.date else None}
            for name, s in self.terms.sources.items()
        }
        out["exclusions"] = [say(f"cost.exclusion.{name}", language) for name in self.exclusions]
        out["assumptions"] = [
            {"code": code, "text": say(f"cost.note.{code}", language)} for code in self.card.notes
        ]
        return out

    def _line(self, line: Line, language: str) -> dict[str, Any]:
        return {
            "id": line.id, "group": line.group, "quantity": _number(line.quantity),
            "text": say(f"cost.line.{line.id}", language, name=line.text),
            "unit": self.amount(line.unit, line.date),
            "amount": self.amount(line.amount, line.date),
            "source": line.source, "notes": list(line.notes),
        }  # fmt: skip

    def _rent(self, rent: Rent) -> dict[str, Any]:
        return {
            **self.amount(rent.total, rent.price.date),
            "per_gpu_hour": self.amount(rent.per_card_hour, rent.price.date),
            "break_even_month": _number(rent.break_even_month, 1),
            "break_even_utilisation": _number(rent.break_even_utilisation, 3),
            "own_share": _number(rent.own_share, 3),
            "own_share_without_staff": _number(rent.own_share_without_staff, 3),
            "run": None if rent.run is None else self.amount(rent.run, rent.price.date),
            "sources": list(rent.price.sources), "notes": list(rent.price.notes),
        }  # fmt: skip


def _number(value: Any, digits: int = 2) -> float | None:
    return round(float(value), digits) if math.isfinite(value) else None


def _cents(amount: Range, factor: float = 1.0) -> Range:
    return Range(*(round(float(x) * factor, 2) for x in (amount.value, amount.low, amount.high)))


def own_price(amount_usd: float, day: dt.date, condition: str = "new") -> Price:
    """Return a company's own price of a card."""
    return Price(
        Range.exact(amount_usd), When.on(day), "own", condition, "high", ("own price list",),
        ("own_price",),
    )  # fmt: skip


def plan_cost(
    gpu: str,
    gpu_count: int,
    *,
    terms: Terms | None = None,
    host: str | None = None,
    spares: int = 0,
    owned: int = 0,
    price: Price | None = None,
    performance: Mapping[str, Any] | None = None,
    input_tokens: int = 0,
    prefix_cache_share: float = 0.0,
    run_days: float | None = None,
    catalog: Catalog | None = None,
) -> Cost:
    """Return the bill of materials of a plan and its cost over the years.

    Args:
        gpu: Catalog id of the card.
        gpu_count: Cards in use.
        terms: Rates; those of a single machine in its owner's room if None.
        host: Id in hosts.yaml; the smallest that takes the card if None.
        spares: Cards beyond those in use.
        owned: Cards that need not be bought.
        price: Of one card; the catalog's if None.
        performance: ``output_tokens_per_s`` or ``train_tokens_per_s`` of the deployment, and for
            the share of prompts ``requests_per_s`` and ``prefill_tokens_per_s``.
        input_tokens: Of one request.
        prefix_cache_share: Of them, found in the prefix cache: they are read, but take no time.
        run_days: That one training run takes, where its length is known.
        catalog: Facts; the built-in ones if None.

    Raises:
        InputError: The card has no dated price, no power figure, or no host takes it.
    """
    catalog = catalog or load_catalog()
    terms = terms or make_terms(catalog)
    card = catalog.gpu(gpu)
    price = price or card_price(catalog, card.id, terms.region, terms.condition)
    if price is None:
        raise InputError("hardware.gpu", "no_price", gpu)
    if card.tdp_w is None:
        raise InputError("hardware.gpu", "no_power", gpu)
    card_w = card.tdp_w.value
    box = host_price(catalog, host or smallest_host(catalog, card.form_factor, gpu_count, gpu))
    network = load_hosts(catalog).network
    new, installed, hosts, new_hosts, boxes = formulas.racked(
        gpu_count + spares, owned, box.host.slots, box.host.step, network.switch_ports.value
    )
    if price.with_host:
        new_hosts = 0
    if box.host.id not in network.hosts:
        boxes = 0
    switch = switch_price(catalog)
    switch_amount = switch.amount if switch else ZERO

    def add(years: int) -> Totals:
        return totals(
            terms, years, installed, new, price.amount, card_w, hosts,
            new_hosts, box.amount, box.host.host_w.value, boxes, switch_amount,
        )  # fmt: skip

    rate = terms.rate
    lines = [_line("card", card.name, new, price, rate)]
    lines += [
        _line(name, box.host.id, count * new_hosts, part, rate) for name, count, part in box.parts
    ]
    if boxes and switch is not None:
        lines.append(_line("switch", "", boxes, switch, rate))
    if float(terms.other.value) > 0:
        sum_ = _cents(terms.other, rate)
        lines.append(Line("other", "purchase", "", 1, sum_, sum_, None, "given"))
    lines = [line for line in lines if line.quantity > 0]
    purchase = _sum(line.amount for line in lines)
    raw = add(terms.years)
    own = _running(raw, terms, terms.years)
    three = _running(add(DEFAULT_YEARS), terms, DEFAULT_YEARS)
    lines += own
    spent = {line.id: line.amount for line in own}
    rents = _rents(catalog, terms, card.id, gpu_count, raw, run_days)
    life = factor(catalog, load_hosts(catalog).rates.life)
    lived = factor_range(life).value if life else float(terms.years)
    kept = max(0.0, 1.0 - terms.years / lived)
    per_token, per_input, per_output = _per_token(
        terms, raw, performance or {}, input_tokens, prefix_cache_share, run_days
    )
    return Cost(
        terms=terms,
        lines=tuple(lines),
        purchase=purchase,
        power=spent.get("power", ZERO),
        hosting=spent.get("hosting", ZERO),
        staff=spent.get("staff", ZERO),
        support=spent.get("support", ZERO),
        resale=spent.get("resale", ZERO),
        total=_sum(line.amount for line in lines),
        three_year_total=_sum([purchase, *(line.amount for line in three)]),
        depreciation_per_year=_cents(purchase, 1 / lived),
        book_value=_cents(purchase, kept),
        per_million_tokens=per_token,
        per_million_input_tokens=per_input,
        per_million_output_tokens=per_output,
        average_power_w=float(raw.average_w),
        peak_power_w=float(raw.peak_w),
        kwh_per_year=float(raw.kwh_per_year),
        rents=rents,
        card=price,
        exclusions=load_hosts(catalog).exclusions,
    )


def smallest_host(catalog: Catalog, form_factor: str | None, count: int, gpu: str = "") -> str:
    """Return the first host that takes the form factor and, if any does, all of the cards.

    Raises:
        InputError: No host takes such a card.
    """
    fitting = [h for h in load_hosts(catalog).hosts if form_factor in h.form_factors]
    if not fitting:
        raise InputError("hardware.gpu", "no_host", gpu, form=form_factor)
    return next((h.id for h in fitting if h.slots >= count), fitting[-1].id)


def _line(name: str, text: str, quantity: int, price: Price, rate: float) -> Line:
    unit = _cents(price.amount, rate)
    return Line(
        name, "purchase", text, quantity, unit, _cents(unit, quantity), price.date,
        "; ".join(price.sources), price.notes,
    )  # fmt: skip


def _sum(amounts: Any) -> Range:
    total = ZERO
    for amount in amounts:
        total = total + amount
    return _cents(total)


def _running(sums: Totals, terms: Terms, years: int) -> list[Line]:
    lines = []
    yearly = (
        ("power", sums.energy_per_year, "tariff"),
        ("hosting", sums.hosting_per_year, "hosting"),
        ("support", sums.support_per_year, "support"),
        ("staff", sums.staff * (1.0 / years), "staff"),
    )
    for name, amount, rate_name in yearly:
        if float(amount.high) > 0:
            source = terms.sources.get(rate_name, Source("", None))
            unit = _cents(amount, terms.rate)
            sum_ = _cents(unit, years)
            lines.append(Line(name, "running", "", years, unit, sum_, source.date, source.text))
    if float(sums.resale.high) > 0:
        source = terms.sources.get("resale", Source("", None))
        back = _cents(sums.resale, terms.rate)
        # As cost it is negative: the low total takes the high resale.
        taken = Range(-back.value, -back.high, -back.low)
        lines.append(Line("resale", "running", "", 1, taken, taken, source.date, source.text))
    return lines


def _per_token(
    terms: Terms,
    sums: Totals,
    performance: Mapping[str, Any],
    input_tokens: int,
    prefix_cache_share: float,
    run_days: float | None,
) -> tuple[Range | None, Range | None, Range | None]:
    """Cost per million tokens: all cost over outputs; and split by the time prompts take."""
    per_s = performance.get("output_tokens_per_s") or performance.get("train_tokens_per_s")
    if not per_s:
        return None, None, None
    made = formulas.tokens(per_s, terms.utilisation, terms.years)
    if run_days is not None:  # the run that was asked for, however long the cards are kept
        made = formulas.tokens(per_s, 1.0, run_days / formulas.DAYS_PER_YEAR)
    whole = sums.total * terms.rate
    per_output = formulas.per_million(whole, made)
    requests = performance.get("requests_per_s")
    prompt_rate = performance.get("prefill_tokens_per_s")
    if not (requests and prompt_rate and input_tokens):
        return per_output.scalar(), None, None
    fresh = input_tokens * (1 - prefix_cache_share)
    share = formulas.prompt_share(requests, fresh, prompt_rate)
    read = formulas.tokens(requests * input_tokens, terms.utilisation, terms.years)
    return (
        per_output.scalar(),
        formulas.per_million(whole * share, read).scalar(),
        formulas.per_million(whole * (1 - share), made).scalar(),
    )


def _rents(
    catalog: Catalog, terms: Terms, gpu_id: str, cards: int, own: Totals, run_days: float | None
) -> tuple[Rent, ...]:
    """Renting the cards in use for the same time; by the hour only while they work."""
    found = []
    years, busy = terms.years, terms.utilisation
    purchase, total, staff = (float(x.value) for x in (own.purchase, own.total, own.staff))
    idle_w = own.peak_w * terms.idle
    busy_kwh = formulas.energy_kwh_per_year(own.peak_w - idle_w, terms.pue.value)
    per_busy = float(busy_kwh * terms.tariff.value * years / (1 - terms.staff.value))
    fixed = total - per_busy * busy
    for rental in RENTALS:
        price = rental_price(catalog, gpu_id, rental)
        if price is None:
            continue
        by_hour = rental != "reserved"
        amount = formulas.rent(cards, price.amount, years, busy if by_hour else 1.0)
        always = formulas.rent(cards, price.amount, years, 1.0)
        months = years * formulas.MONTHS_PER_YEAR
        month = formulas.break_even_month(
            purchase, (total - purchase) / months, amount.value / months, months
        )
        # A reservation costs the same however little it is used: owning wins or it does not.
        use = (
            float(formulas.break_even_utilisation(fixed, per_busy, always.value))
            if by_hour
            else (0.0 if total < amount.value else math.inf)
        )
        run = None
        if run_days is not None and by_hour:  # a reservation is for years
            share = run_days / formulas.DAYS_PER_YEAR
            run = _cents(formulas.rent(cards, price.amount, share, 1.0), terms.rate)
        found.append(
            Rent(
                rental, _cents(amount, terms.rate), _cents(price.amount, terms.rate), price,
                float(month), use, total / float(amount.value),
                (total - staff) / float(amount.value), run,
            )
        )  # fmt: skip
    return tuple(found)
