"""Up to four plans side by side, what differs marked: data for a page, no screen."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from configurator.errors import InputError
from configurator.export import text
from configurator.export.facts import fits_word
from configurator.recommend import Plan
from configurator.words import say

MAX_PLANS = 4
Better = Literal["low", "high", ""]
# Figures closer than this say the same.
_SAME = 1e-6


@dataclass(frozen=True)
class Compared:
    """One row: a value for each plan.

    Attributes:
        id: Of the row.
        label: In words.
        texts: What is shown for each plan.
        values: The same as numbers or text; None where a plan has none.
        differs: Whether the plans differ here.
        best: Places of the plans that are best, where one can be; empty if none differ.
    """

    id: str
    label: str
    texts: tuple[str, ...]
    values: tuple[float | str | None, ...]
    differs: bool
    best: tuple[int, ...]


def compare(plans: Sequence[Plan], language: str = "en") -> tuple[Compared, ...]:
    """Return rows that lay plans side by side.

    Args:
        plans: Two to four.
        language: ``en`` or ``zh``.

    Raises:
        InputError: Too few or too many plans, or sums in different currencies.
    """
    if not 2 <= len(plans) <= MAX_PLANS:
        raise InputError("plans", "plans_between", len(plans), most=MAX_PLANS)
    currencies = {plan.terms.currency for plan in plans}
    if len(currencies) > 1:
        raise InputError("plans", "plans_currency", ", ".join(sorted(currencies)))
    currency = currencies.pop()
    rows: list[Compared] = []

    def add(name: str, values: list[Any], better: Better = "", digits: int = 0, unit: str = "",
            label: str = "") -> None:  # fmt: skip
        if all(value is None for value in values):
            return
        plain = tuple(_plain(value) for value in values)
        texts = tuple(_text(value, language, digits, unit) for value in plain)
        label = label or text.first_of(
            (f"export.field.{name}", f"export.speed.{name}", f"app.field.{name}"), language, name
        )
        rows.append(Compared(name, label, texts, plain, _differ(plain), _best(plain, better)))

    def option(name: str, values: list[Any]) -> None:
        shown = tuple(text.option(name, value, language) for value in values)
        label = text.first_of((f"app.field.{name}",), language, name)
        rows.append(Compared(name, label, shown, tuple(values), len(set(values)) > 1, ()))

    costs = [plan.cost for plan in plans]
    memory = [plan.estimate.memory for plan in plans]
    speed = [plan.estimate.performance for plan in plans]
    splits = [plan.estimate.split for plan in plans]
    add("gpu", [plan.name for plan in plans])
    add("gpu_count", [plan.gpu_count for plan in plans])
    add("spare_gpus", [plan.spare_gpus for plan in plans])
    add("nodes", [plan.nodes for plan in plans])
    add("rack_units", [plan.rack_units for plan in plans], digits=1)
    for name in ("tensor", "pipeline", "expert", "data"):
        add(f"{name}_parallel", [getattr(split, name) for split in splits])
    option("precision", [plan.precision for plan in plans])
    fits = [fits_word(plan.estimate) for plan in plans]
    shown = tuple(say(f"export.fits.{f}", language) for f in fits)
    label = say("export.field.fits", language)
    rows.append(Compared("fits", label, shown, tuple(fits), len(set(fits)) > 1, ()))
    add("required_gib", [m.required_gib for m in memory], "low", 1, "GiB")
    add("budget_gib", [m.budget_gib for m in memory], "high", 1, "GiB")
    add("headroom_gib", [m.headroom_gib for m in memory], "high", 1, "GiB")
    kv = [plan.estimate.kv for plan in plans]
    add("max_concurrency", [k and k.max_concurrency for k in kv], "high")
    add("ttft_s", [s.ttft_s for s in speed], "low", 3, "s")
    add("tpot_s", [s.tpot_s for s in speed], "low", 4, "s")
    add("output_tokens_per_s", [s.output_tokens_per_s for s in speed], "high", 0, "tokens_per_s")
    add("requests_per_s", [s.requests_per_s for s in speed], "high", 2, "requests_per_s")
    add("train_tokens_per_s", [s.train_tokens_per_s for s in speed], "high", 0, "tokens_per_s")
    add("train_days", [plan.train_days for plan in plans], "low", 1, "days")
    years = costs[0].terms.years
    total = say("export.field.total", language, years=years)
    if len({cost.terms.years for cost in costs}) > 1:
        add("years", [cost.terms.years for cost in costs])
        total = say("export.field.total_own_years", language)
    add("purchase", [float(c.purchase.value) for c in costs], "low", 0, currency)
    add("total", [float(c.total.value) for c in costs], "low", 0, currency, total)
    per_token = [c.per_million_tokens and float(c.per_million_tokens.value) for c in costs]
    add("per_million_tokens", per_token, "low", 2, currency)
    add("peak_power", [c.peak_power_w for c in costs], "low", 0, "W")
    add("kwh_per_year", [c.kwh_per_year for c in costs], "low", 0, "kWh")
    add("price_date", [c.card.date.text(language) for c in costs])
    return tuple(rows)


def _plain(value: Any) -> float | str | None:
    if value is None or isinstance(value, str):
        return value
    number = float(value)
    return number if math.isfinite(number) else None


def _text(value: float | str | None, language: str, digits: int, unit: str) -> str:
    if value is None:
        return text.NONE
    if isinstance(value, str):
        return text.date(value, language)
    if unit in ("USD", "CNY", "EUR", "GBP"):
        return text.money(value, unit, language, cents=digits > 0)
    if unit == "s":
        return f"{text.significant(value, language)} s"
    unit = text.first_of((f"export.unit.{unit}",), language, unit)
    return f"{text.decimal(value, language, digits)} {unit}".strip()


def _differ(values: Sequence[float | str | None]) -> bool:
    first = values[0]
    return any(not _same(first, value) for value in values[1:])


def _same(one: float | str | None, other: float | str | None) -> bool:
    if isinstance(one, float) and isinstance(other, float):
        return math.isclose(one, other, rel_tol=_SAME, abs_tol=1e-12)
    return one == other


def _best(values: Sequence[float | str | None], better: Better) -> tuple[int, ...]:
    numbers = [value for value in values if isinstance(value, float)]
    if not better or len(numbers) < 2 or not _differ(values):
        return ()
    target = min(numbers) if better == "low" else max(numbers)
    return tuple(i for i, value in enumerate(values) if _same(value, target))
