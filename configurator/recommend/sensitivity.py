"""What moves a plan's total, and where one more card is needed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from itertools import pairwise
from typing import Any, Literal

import numpy as np

from configurator.cost import formulas
from configurator.cost.hosts import load_hosts
from configurator.cost.plan import plan_cost
from configurator.cost.prices import factor_range, factor_usd
from configurator.cost.ranges import Range
from configurator.cost.terms import Terms
from configurator.recommend.plans import Plan, Reason
from configurator.recommend.request import Request
from configurator.recommend.search import search
from configurator.recommend.tiers import edited, load_tiers
from configurator.scenario import MAX_SEQUENCES, MAX_TOKENS, Scenario

Axis = Literal["users", "context"]

# Ends of what a planner may be wrong about and no source bounds: share of the time, years.
BUSY_ENDS = (0.1, 1.0)
YEAR_ENDS = (1, 5)
GRID = 9


@dataclass(frozen=True)
class Swing:
    """One assumption at its two ends, and what the total becomes; money in the plan's currency."""

    code: str
    low: float
    high: float
    now: float
    total_low: float
    total_high: float

    @property
    def width(self) -> float:
        """How far the total moves."""
        return abs(self.total_high - self.total_low)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return plain JSON values and the name of the assumption."""
        values = {name: getattr(self, name) for name in self.__dataclass_fields__}
        return {**values, "text": Reason("cost.swing", self.code).to_dict(language)["text"]}


def tornado(plan: Plan) -> tuple[Swing, ...]:
    """Return how the total moves with each assumption alone, the widest first.

    The ends are the catalog's own range of each figure (prices: lowest and highest entry counted;
    tariff and cooling: of every dated entry); for utilisation and years, ``BUSY_ENDS`` and
    ``YEAR_ENDS``.
    """
    terms, price = plan.terms, plan.price
    rate = terms.rate
    now = plan.cost.total.value
    swings: list[Swing] = []

    def add(code: str, ends: tuple[float, float], value: float, make: Callable[[float], float],
            shown: float = 1.0) -> None:  # fmt: skip
        low, high = ends
        if low < high:
            swings.append(
                Swing(code, low * shown, high * shown, value * shown, make(low), make(high))
            )

    def with_terms(**changes: Any) -> float:
        return _total(plan, replace(terms, **changes))

    amount = price.amount
    add("card_price", (amount.low, amount.high), amount.value,
        lambda x: _total(plan, terms, x), rate)  # fmt: skip
    hosts = [line for line in plan.cost.lines if line.group == "purchase" and line.id != "card"]
    if hosts:
        ends = [sum(getattr(line.amount, e) for line in hosts) for e in ("low", "value", "high")]
        # Whatever is bought also carries its share of support, staff and resale.
        carried = formulas.carried(
            terms.years, terms.support.value, terms.resale.value, terms.staff.value
        )
        add("host_price", (ends[0], ends[2]), ends[1], lambda x: now + (x - ends[1]) * carried)
    tariffs = _entries(plan, "tariff")
    add("tariff", tariffs, terms.tariff.value,
        lambda x: with_terms(tariff=Range.exact(x)), rate)  # fmt: skip
    add("pue", _entries(plan, "pue"), terms.pue.value, lambda x: with_terms(pue=Range.exact(x)))
    add("utilisation", BUSY_ENDS, terms.utilisation, lambda x: with_terms(utilisation=x))
    add("years", YEAR_ENDS, terms.years, lambda x: with_terms(years=int(x)))
    if terms.staff.value > 0:
        add("staff", (terms.staff.low, terms.staff.high), terms.staff.value,
            lambda x: with_terms(staff=Range.exact(x)))  # fmt: skip
    rates = load_hosts(plan.catalog).rates
    for code, figure, have in (
        ("resale", rates.resale_share, terms.resale),
        ("support", rates.support_share, terms.support),
    ):
        reach = (figure.range.low, max(figure.range.high, have.value))
        add(code, reach, have.value, partial(_with_share, plan, code))
    return tuple(sorted(swings, key=lambda swing: -swing.width))


def _with_share(plan: Plan, name: str, share: float) -> float:
    changes: dict[str, Any] = {name: Range.exact(share)}
    return _total(plan, replace(plan.terms, **changes))


def _total(plan: Plan, terms: Terms, card_usd: float | None = None) -> float:
    """The plan's total under other terms, or with another price of its card."""
    price = plan.price
    if card_usd is not None:
        price = replace(price, amount=Range.exact(card_usd))
    second = plan.beside.gpu_count if plan.beside else 0
    cost = plan_cost(
        plan.gpu, plan.gpu_count + second, terms=terms, host=plan.host, spares=plan.asked_spares,
        owned=plan.owned, price=price, catalog=plan.catalog,
    )  # fmt: skip
    return float(cost.total.value)


def _entries(plan: Plan, kind: str) -> tuple[float, float]:
    """Lowest and highest dated figure of a kind; money in US dollars."""
    found = [entry for entry in plan.catalog.electricity if entry.kind == kind]
    ranges = [
        factor_usd(plan.catalog, entry) if entry.currency else factor_range(entry)
        for entry in found
    ]
    return min(r.low for r in ranges), max(r.high for r in ranges)


@dataclass(frozen=True)
class Step:
    """From this many users, or this much context, this many cards are needed.

    ``gpu_count`` are cards in use, as in a plan's name; None where no count of the tier does it.
    ``total`` is in the request's currency.
    """

    value: int
    gpu_count: int | None
    total: float | None

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {"value": self.value, "gpu_count": self.gpu_count, "total": self.total}


def break_points(plan: Plan, axis: Axis = "users", most: int | None = None) -> tuple[Step, ...]:
    """Return where the plan's card needs more of itself, in the plan's tier and under its limits.

    Each question is the ordinary search on this one card; between two questions with different
    answers the border is found by halving.

    Args:
        plan: A plan for inference.
        axis: ``users`` (requests at once) or ``context`` (prompt tokens, outputs as asked).
        most: Where to stop; sixteen times the plan's own figure if None.
    """
    if plan.scenario.is_training:
        return ()
    here = _value(plan.scenario, axis)
    limit = MAX_SEQUENCES if axis == "users" else MAX_TOKENS
    top = min(most or 16 * here, limit)
    seen: dict[int, tuple[int | None, float | None]] = {}

    def answer(value: int) -> tuple[int | None, float | None]:
        if value not in seen:
            seen[value] = _fewest_cards(plan, axis, value)
        return seen[value]

    grid = sorted({*np.geomspace(1, top, GRID).round().astype(int).tolist(), min(here, top)})
    steps = [Step(grid[0], *answer(grid[0]))]

    def halve(low: int, high: int) -> None:
        if answer(low)[0] == answer(high)[0]:
            return
        if high - low <= max(1, low // 500):
            steps.append(Step(high, *answer(high)))
            return
        middle = (low + high) // 2
        halve(low, middle)
        halve(middle, high)

    for low, high in pairwise(grid):
        halve(low, high)
    return tuple(steps)


def _value(scenario: Scenario, axis: Axis) -> int:
    inference = scenario.serving
    return max(1, inference.concurrency if axis == "users" else inference.input_tokens)


def _fewest_cards(plan: Plan, axis: Axis, value: int) -> tuple[int | None, float | None]:
    """Cards and total of the cheapest feasible count of the plan's card in its tier."""
    name = "concurrency" if axis == "users" else "input_tokens"
    serving = plan.scenario.serving.model_copy(update={name: value})
    scenario = plan.scenario.model_copy(update={"inference": serving, "hardware": None})
    request: Request = plan.request.model_copy(
        update={"scenario": scenario, "also": None, "gpus": (plan.gpu,), "precisions": ()}
    )
    tiers = edited(load_tiers(plan.catalog), plan.request, plan.catalog)
    tiers = tuple(tier for tier in tiers if tier.id == plan.tier)
    found = search(request, plan.catalog, tiers)
    at = np.flatnonzero(found.feasible)
    if not len(at):
        return None, None
    row = found.found.row[at]
    total = found.sums.total.value[row]
    best = int(np.argmin(total))
    money = round(float(total[best]) * found.terms[0].rate, 2)
    return int(found.rows.count[row[best]]), money


def cheaper_than_rent_at(plan: Plan, share: float = 1 / 3) -> dict[str, float | None]:
    """Return the share of time in use from which owning costs ``share`` of renting, by rental.

    Answers the article's "local costs about a third of the cloud over three years": None where no
    utilisation makes it true.

    Args:
        plan: Any plan.
        share: Of the rent.
    """
    out: dict[str, float | None] = {}
    full = _total(plan, replace(plan.terms, utilisation=1.0))
    idle = _total(plan, replace(plan.terms, utilisation=1e-9))
    for rent in plan.cost.rents:
        by_hour = rent.rental != "reserved"
        whole = rent.total.value / (plan.terms.utilisation if by_hour else 1.0)
        if not by_hour:
            out[rent.rental] = 0.0 if full <= share * whole else None
            continue
        gain = share * whole - (full - idle)
        use = idle / gain if gain > 0 else float("inf")
        out[rent.rental] = round(use, 4) if use <= 1 else None
    return out
