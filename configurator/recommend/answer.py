"""From evaluated candidates to plans: the best of each card, the reasons, the near misses."""

from __future__ import annotations

from dataclasses import asdict
from functools import partial
from typing import Any

import numpy as np

from configurator.catalog import Catalog
from configurator.cost import formulas
from configurator.cost.hosts import load_hosts
from configurator.cost.plan import Cost, plan_cost
from configurator.estimate import Estimate
from configurator.recommend.candidates import Ints, cards_of, host_for
from configurator.recommend.fixes import fixes_of, openings
from configurator.recommend.limits import Limit
from configurator.recommend.plans import (
    Alternative,
    Beside,
    Plan,
    Reason,
    Recommendation,
    prompt_of,
)
from configurator.recommend.request import Request, catalog_for
from configurator.recommend.search import (
    Search,
    best_of_groups,
    card_prices,
    scenario_of,
    search,
    tier_terms,
)
from configurator.recommend.tiers import Tier, edited, load_tiers

NEAREST_PER_TIER = 3
ALTERNATIVES = 4
FRONT_POINTS = 40
# A limit is named once this share of it is used.
NAMED_FROM = 0.5
GIB = 2**30


def recommend(
    request: Request, catalog: Catalog | None = None, tiers: tuple[Tier, ...] | None = None
) -> Recommendation:
    """Rank what can be bought for a scenario, tier by tier.

    Every card × count × legal split × allowed precision goes through the same memory, speed and
    cost terms as one estimate, as arrays. A card appears once a tier, at its best.

    Args:
        request: The scenario and the limits.
        catalog: Facts; the built-in ones if None.
        tiers: Who buys; those of the catalog if None.

    Raises:
        InputError: A model, a card or a currency that is not known.
    """
    catalog = catalog_for(request, catalog)
    tiers = edited(tiers or load_tiers(catalog), request, catalog)
    found = search(request, catalog, tiers)
    best = best_of_groups(found, found.feasible, found.score)
    plans: dict[str, tuple[Plan, ...]] = {}
    nearest: list[Plan] = []
    warnings: list[Reason] = []
    for t, tier in enumerate(tiers):
        mine = best[found.rows.tier[found.found.row[best]] == t]
        mine = mine[_order(found, mine)]
        near = _nearest(found, t, mine[0] if len(mine) else None)
        shown = range(min(len(mine), request.plans))
        plans[tier.id] = tuple(_ranked(found, place, mine, near) for place in shown)
        nearest += [
            _plan(found, int(at), 0, missing=_missing(found, int(at)),
                  fix_search=partial(fixes_of, found, int(at), halving=not len(mine)))
            for at in near
        ]  # fmt: skip
        if not len(mine):
            warnings.append(Reason("missing", "tier", {"tier": tier.id}))
    unpriced = sum(code == "no_price" for code in found.rejected.values())
    if unpriced:
        warnings.append(Reason("missing", "unpriced", {"count": unpriced}))
    context, limit = request.scenario.serving.context_tokens, found.architecture.context_length
    if not request.scenario.is_training and limit and context > limit:
        values = {"context": context, "limit": limit}
        warnings.append(Reason("missing", "context", values))
    return Recommendation(
        request, plans, tuple(nearest), tuple(warnings), found.rejected,
        partial(_front, found), partial(openings, request, catalog, tiers),
        partial(_exactly, found, best),
    )  # fmt: skip


def cost_of(
    answer: Estimate, request: Request | None = None, catalog: Catalog | None = None
) -> tuple[str, Cost] | None:
    """Return what an estimate's own hardware costs, in the first tier that would buy it.

    Args:
        answer: An estimate of a catalog card.
        request: Currency, region and rates; the defaults if None.
        catalog: Facts; the built-in ones if None.

    Returns:
        The tier and the cost; None for a custom card and where price or power is not known.
    """
    request = request or Request(scenario=answer.scenario)
    catalog = catalog_for(request, catalog)
    hardware = answer.scenario.hardware
    if hardware is None or not isinstance(hardware.gpu, str):
        return None
    gpu, count = catalog.gpu(hardware.gpu), hardware.gpu_count
    cards = cards_of(catalog)
    place = cards.places.get(gpu.id)
    if place is None:
        return None
    price = card_prices(request, catalog, cards)[place]
    if price is None:
        return None
    tiers = edited(load_tiers(catalog), request, catalog)
    buyers = [tier for tier in tiers if gpu.segment in tier.segments]
    fitting = [(tier, host_for(catalog, tier, gpu, count)) for tier in buyers]
    taken = [(tier, host) for tier, host in fitting if host is not None]
    if not taken:
        return None
    tier, host = next(
        ((t, h) for t, h in taken if count <= min(max(t.counts), t.max_nodes * h.slots)), taken[-1]
    )
    speed = answer.performance
    cost = plan_cost(
        gpu.id, count, terms=tier_terms(request, tier, catalog), host=host.id, price=price,
        owned=request.owned.get(gpu.id, 0), performance=asdict(speed), catalog=catalog,
        **prompt_of(answer.scenario),
    )  # fmt: skip
    return tier.id, cost


def _order(found: Search, at: Ints) -> Ints:
    """Places of candidates from best to worst: objective, cost, speed, at last their number."""
    row = found.found.row[at]
    speed = np.nan_to_num(found.found.tokens_per_s[at])
    return np.lexsort((at, -speed, found.sums.total.value[row], found.score[at]))


def _ranked(found: Search, place: int, mine: Ints, near: Ints) -> Plan:
    """The plan at a place of its tier's ranking, with what put it there."""
    at = int(mine[place])
    return _plan(
        found, at, place + 1, why_search=partial(_why, found, place, mine, near),
        alternative_search=partial(_alternatives, found, at),
    )  # fmt: skip


def _exactly(found: Search, best: Ints, gpu: str, count: int) -> tuple[Plan, ...]:
    """Plans with just so many of a card, one a tier at most, each ranked in its card's place."""
    f, rows, card = found.found, found.rows, found.cards.places.get(gpu)
    if card is None:
        return ()
    same = found.feasible & (rows.card[f.row] == card) & (rows.count[f.row] == count)
    out = []
    for t in range(len(found.tiers)):
        at = np.flatnonzero(same & (rows.tier[f.row] == t))
        if not len(at):
            continue
        chosen = at[_order(found, at)[0]]
        others = best[(rows.tier[f.row[best]] == t) & (rows.card[f.row[best]] != card)]
        mine = np.append(others, chosen)
        mine = mine[_order(found, mine)]
        place = int(np.flatnonzero(mine == chosen)[0])
        out.append(_ranked(found, place, mine, np.zeros(0, dtype=np.intp)))
    return tuple(out)


def _plan(found: Search, at: int, rank: int, **said: Any) -> Plan:
    """A candidate as a plan; ``said`` holds its reasons."""
    f, rows = found.found, found.rows
    row = int(f.row[at])
    place = int(rows.card[row])
    gpu, price = found.cards.gpus[place], found.prices[place]
    if price is None:  # pragma: no cover - cards without a price are not candidates
        raise ValueError(gpu.id)
    used, installed, second = (int(x[row]) for x in (rows.count, rows.installed, rows.beside))
    tier = int(rows.tier[row])
    owned = {found.catalog.gpu(name).id: n for name, n in found.request.owned.items()}
    return Plan(
        tier=found.tiers[tier].id, rank=rank, gpu=gpu.id, name=gpu.name, gpu_count=used,
        spare_gpus=installed - used - second, bought=int(rows.bought[row]),
        owned=owned.get(gpu.id, 0), asked_spares=int(rows.spares[row]), nodes=int(rows.hosts[row]),
        rack_units=float(rows.rack_units[row]), host=rows.host_ids[row],
        scenario=scenario_of(found, at), precision=found.variants[int(f.variant[at])].precision,
        request=found.request, terms=found.terms[tier], price=price, catalog=found.catalog,
        beside=_beside(found, tier, place, second),
        limit_search=partial(_limit_list, found, at), **said,
    )  # fmt: skip


def _beside(found: Search, tier: int, card: int, count: int) -> Beside | None:
    """The second load on the same kind of card, at its fastest with that many cards."""
    other = found.beside
    if other is None:
        return None
    rows, f = other.rows, other.found
    mine = (rows.tier == tier) & (rows.card == card) & (rows.count == count)
    at = np.flatnonzero(other.feasible & mine[f.row])
    best = int(at[np.argmax(np.nan_to_num(f.tokens_per_s[at]))])
    return Beside(scenario_of(other, best), found.catalog)


def _money(found: Search, usd: Any) -> float:
    return round(float(usd) * found.terms[0].rate, 2)


def _why(found: Search, place: int, mine: Ints, near: Ints) -> tuple[Reason, ...]:
    """Why a plan stands where it does: place, count, what is cheaper, what would change it."""
    at = int(mine[place])
    f, rows, sums, request = found.found, found.rows, found.sums, found.request
    row = int(f.row[at])
    total = float(sums.total.value[row])
    money: dict[str, Any] = {"currency": request.currency, "years": request.years}
    place_values = {"rank": place + 1, "total": _money(found, total), **money}
    out = [Reason("why", f"rank_{request.objective}", place_values)]
    less = sums.total.value[f.row] < total * (1 - 1e-9)
    group = np.flatnonzero((f.group == f.group[at]) & less)
    if len(group):
        close = int(group[np.argmin(found.distance[group])])
        lacking = _missing(found, close)
        if lacking:
            values = {"count": int(rows.count[f.row[close]]), **lacking[0].values}
            out.append(Reason("why", f"fewer_{lacking[0].code}", values))
    price = found.prices[int(rows.card[row])]
    if price is not None:
        out.append(
            Reason("why", "price", {
                "price": _money(found, price.amount.value), "low": _money(found, price.amount.low),
                "high": _money(found, price.amount.high), "currency": request.currency,
                "condition": price.condition, "date": price.date.newest.first.isoformat(),
                "dates": price.date,
            })
        )  # fmt: skip
    if place == 0 and len(near):
        cheaper = int(near[0])
        lacking = _missing(found, cheaper)
        if lacking and float(sums.total.value[f.row[cheaper]]) < total:
            gpu = found.cards.gpus[int(rows.card[f.row[cheaper]])]
            values = {
                "gpu": gpu.name, "count": int(rows.count[f.row[cheaper]]),
                "total": _money(found, sums.total.value[f.row[cheaper]]), "lacks": lacking[0].code,
                **money, **{k: v for k, v in lacking[0].values.items() if k != "currency"},
            }  # fmt: skip
            out.append(Reason("why", f"cheaper_{lacking[0].code}", values))
    if request.objective == "cost" and place + 1 < len(mine):
        after = int(mine[place + 1])
        gap = float(sums.total.value[f.row[after]]) - total
        bought = float(rows.bought[row])
        rates = found.terms[int(rows.tier[row])]
        carried = formulas.carried(
            rates.years, rates.support.value, rates.resale.value, rates.staff.value
        )
        if price is not None and bought > 0 and gap > 0:
            until = float(price.amount.value) + gap / carried / bought
            gpu = found.cards.gpus[int(rows.card[f.row[after]])]
            values = {"until": _money(found, until), "gpu": gpu.name, "currency": request.currency}
            out.append(Reason("why", "order", values))
    return tuple(out)


def _use(limit: Limit, at: int) -> float:
    """Share of a limit that a candidate uses; 1 is all of it."""
    have, need = float(limit.have[at]), float(limit.need[at])
    if not (np.isfinite(have) and np.isfinite(need)) or have <= 0 or need <= 0:
        return 0.0
    floor = limit.code in ("user_tokens", "output_tokens", "train_tokens")
    return need / have if floor else have / need


def _figures(found: Search, limit: Limit, at: int) -> dict[str, Any]:
    """What a limit's sentence says, in the units shown."""
    have, need = float(limit.have[at]), float(limit.need[at])
    if limit.code == "memory":
        have, need = have / GIB, need / GIB
    elif limit.code == "budget":
        have, need = _money(found, have), _money(found, need)
    return {
        "have": have, "limit": need, "short": abs(have - need), "share": _use(limit, at),
        "currency": found.request.currency,
    }  # fmt: skip


def _missing(found: Search, at: int) -> tuple[Reason, ...]:
    """What a candidate lacks, the worst first."""
    broken = [limit for limit in found.limits if limit.excess[at] > 0]
    broken.sort(key=lambda limit: -float(limit.excess[at]))
    out = []
    for limit in broken:
        code = limit.code
        if code == "memory" and found.found.required[at] <= found.found.room[at]:
            code = "margin"
        out.append(Reason("missing", code, _figures(found, limit, at)))
    return tuple(out)


def _limit_list(found: Search, at: int) -> tuple[Reason, ...]:
    """What binds a plan, the tightest first; then what to know about card and price."""
    named = [(_use(limit, at), limit) for limit in found.limits]
    named.sort(key=lambda pair: -pair[0])
    out = [
        Reason("limit", limit.code, _figures(found, limit, at))
        for use, limit in named
        if use >= NAMED_FROM or limit is named[0][1]
    ]
    row = int(found.found.row[at])
    place = int(found.rows.card[row])
    gpu, price = found.cards.gpus[place], found.prices[place]
    facts = load_hosts(found.catalog)
    for item in facts.availability:
        if gpu.id in item.gpus:
            values = {"regions": ", ".join(item.regions), "date": item.date.isoformat()}
            out.append(Reason("limit", item.code, values))
    tpp, free = float(found.cards.tpp[place]), facts.export_rule.value
    if found.request.region == "China" and facts.needs_licence(gpu, tpp):
        code = "export" if tpp >= free else "export_named"
        out.append(Reason("limit", code, {"tpp": tpp, "limit": free}))
    if price is not None:
        out += [
            Reason("limit", f"price_{code}", {"condition": price.condition, "region": price.region})
            for code in price.notes
        ]
    if found.found.tensor[at] > max(1, gpu.domain_size):
        out.append(Reason("limit", "no_fast_link", {"gpu": gpu.name}))
    return tuple(out)


def _nearest(found: Search, tier: int, best: Any) -> Ints:
    """The near misses of a tier: cheaper than its best plan; the closest where there is none."""
    f = found.found
    row = f.row
    among = f.legal & (found.broken > 0) & (found.rows.tier[row] == tier)
    if best is not None:
        among &= found.sums.total.value[row] < found.sums.total.value[row[int(best)]]
    at = best_of_groups(found, among, found.distance)
    order = np.lexsort((found.sums.total.value[row[at]], found.distance[at]))
    return at[order][:NEAREST_PER_TIER]


def _point(found: Search, at: int) -> Alternative:
    f, rows = found.found, found.rows
    row = int(f.row[at])

    def number(value: Any) -> float | None:
        return float(value) if np.isfinite(value) else None

    return Alternative(
        found.tiers[int(rows.tier[row])].id, found.cards.gpus[int(rows.card[row])].id,
        int(rows.count[row]), int(f.tensor[at]), int(f.pipeline[at]), int(f.expert[at]),
        int(f.data[at]), found.variants[int(f.variant[at])].precision,
        _money(found, found.sums.purchase.value[row]), _money(found, found.sums.total.value[row]),
        number(f.tokens_per_s[at]), number(f.ttft_s[at]), number(f.tpot_s[at]),
        found.request.currency, scenario_of(found, at), found.request,
    )  # fmt: skip


def _alternatives(found: Search, chosen: int) -> tuple[Alternative, ...]:
    """The fastest split of the card's next counts and precisions in the same tier."""
    f = found.found
    at = np.flatnonzero(found.feasible & (f.group == f.group[chosen]))
    at = at[np.lexsort((-np.nan_to_num(f.tokens_per_s[at]), f.variant[at], f.row[at]))]
    key = f.row[at] * len(found.variants) + f.variant[at]
    _, first = np.unique(key, return_index=True)
    at = at[first]
    own = (f.row[at] == f.row[chosen]) & (f.variant[at] == f.variant[chosen])
    at = at[~own]
    at = at[np.argsort(found.sums.total.value[f.row[at]], kind="stable")]
    return tuple(_point(found, int(i)) for i in at[:ALTERNATIVES])


def _front(found: Search) -> tuple[Alternative, ...]:
    """Plans that nothing beats in both cost and speed, from the cheapest to the fastest."""
    f = found.found
    at = np.flatnonzero(found.feasible & np.isfinite(f.tokens_per_s))
    if not len(at):
        return ()
    total, speed = found.sums.total.value[f.row[at]], f.tokens_per_s[at]
    at = at[np.lexsort((-speed, total))]
    best = np.maximum.accumulate(f.tokens_per_s[at])
    rising = np.ones(len(at), dtype=bool)
    rising[1:] = best[1:] > best[:-1] * (1 + 1e-9)
    front = at[rising]
    if len(front) > FRONT_POINTS:
        front = front[np.unique(np.linspace(0, len(front) - 1, FRONT_POINTS).round().astype(int))]
    return tuple(_point(found, int(i)) for i in front)
