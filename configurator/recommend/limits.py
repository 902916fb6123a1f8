"""What limits and what ranks candidates, as arrays."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from configurator.cost import formulas
from configurator.cost.plan import Totals
from configurator.cost.ranges import Range
from configurator.cost.terms import Terms
from configurator.recommend.candidates import Flags, Floats, Ints, Rows
from configurator.recommend.request import Request
from configurator.recommend.tiers import Tier


@dataclass(frozen=True, eq=False)
class Found:
    """Every candidate of every variant, evaluated; one entry a candidate.

    ``need`` and ``room`` are the memory that must fit and that there is, bytes. Speeds are NaN
    where the model does not fit.
    """

    row: Ints
    group: Ints
    variant: Ints
    tensor: Floats
    pipeline: Floats
    expert: Floats
    data: Floats
    legal: Flags
    need: Floats
    required: Floats
    room: Floats
    holds: Floats
    ttft_s: Floats
    tpot_s: Floats
    tokens_per_s: Floats
    latency_s: Floats


@dataclass(frozen=True, eq=False)
class Limit:
    """One limit: how far each candidate is beyond it, relative; 0 where it is kept."""

    code: str
    excess: Floats
    have: Floats
    need: Floats


def limits_of(
    request: Request, tiers: Sequence[Tier], terms: Sequence[Terms], rows: Rows, sums: Totals,
    found: Found,
) -> tuple[Limit, ...]:  # fmt: skip
    """Return every limit that is set, with how far each candidate is beyond it."""
    row, tier = found.row, rows.tier[found.row]
    out: list[Limit] = []

    def most(code: str, have: Floats, limit: Any) -> None:
        need = np.broadcast_to(np.asarray(limit, dtype=float), have.shape)
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.maximum(0.0, have / need - 1.0)
        out.append(Limit(code, np.nan_to_num(excess, nan=0.0, posinf=1e9), have, need))

    def least(code: str, have: Floats, limit: float) -> None:
        with np.errstate(divide="ignore", invalid="ignore"):
            excess = np.maximum(0.0, limit / have - 1.0)
        need = np.full(have.shape, limit)
        out.append(Limit(code, np.nan_to_num(excess, nan=0.0, posinf=1e9), have, need))

    most("memory", found.need, np.maximum(found.room, 1.0))
    budgets = [_budget(request, t, m) for t, m in zip(tiers, terms)]
    if any(b is not None for b in budgets):
        table = np.array([np.inf if b is None else b for b in budgets])
        most("budget", sums.purchase.value[row], table[tier])
    powers = [_power(request, t) for t in tiers]
    if any(p is not None for p in powers):
        table = np.array([np.inf if p is None else p for p in powers])
        most("power", sums.peak_w[row], table[tier])
    if request.max_power_w_per_host is not None:
        each = sums.peak_w[row] / np.maximum(rows.hosts[row], 1)
        most("host_power", each, request.max_power_w_per_host)
    if request.max_gpus is not None:
        most("gpus", rows.installed[row], request.max_gpus)
    if request.max_rack_units is not None:
        most("rack_units", rows.rack_units[row], request.max_rack_units)
    training = request.scenario.is_training
    if request.ttft_s_limit is not None and not training:
        most("ttft", found.ttft_s, request.ttft_s_limit)
    if request.user_tokens_per_s_limit is not None and not training:
        least("user_tokens", 1.0 / found.tpot_s, request.user_tokens_per_s_limit)
    if request.output_tokens_per_s_limit is not None and not training:
        least("output_tokens", found.tokens_per_s, request.output_tokens_per_s_limit)
    if (speed := request.least_train_tokens_per_s) is not None and training:
        least("train_tokens", found.tokens_per_s, speed)
    return tuple(out)


def _budget(request: Request, tier: Tier, terms: Terms) -> float | None:
    """The most that the purchase may cost [USD]."""
    if request.max_budget is not None:
        return request.max_budget / terms.rate
    return None if tier.max_budget is None else tier.max_budget.value


def _power(request: Request, tier: Tier) -> float | None:
    """The most that the plan may draw [W]."""
    if request.max_power_w is not None:
        return request.max_power_w
    return None if tier.max_power_w is None else tier.max_power_w.value


def score_of(request: Request, sums: Totals, found: Found) -> Floats:
    """What ranks candidates, less is better."""
    row = found.row
    total: Floats = sums.total.value[row]
    if request.objective == "cost":
        return total
    if request.objective == "purchase":
        purchase: Floats = sums.purchase.value[row]
        return purchase
    made = formulas.tokens(found.tokens_per_s, request.utilisation, request.years)
    if request.objective == "per_million_tokens":
        per_token: Floats = formulas.per_million(Range.exact(total), made).value
        return np.nan_to_num(per_token, nan=np.inf)
    if request.objective == "latency":
        return np.nan_to_num(found.latency_s, nan=np.inf)
    if request.objective == "headroom":
        share: Floats = found.need / np.maximum(found.room, 1.0)
        return share
    with np.errstate(divide="ignore", invalid="ignore"):
        energy: Floats = sums.kwh_per_year[row] * request.years / made
    return np.nan_to_num(energy, nan=np.inf)
