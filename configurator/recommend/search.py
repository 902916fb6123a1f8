"""Evaluate every candidate with the ordinary memory, speed and cost terms, and rank them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from configurator.architecture import Architecture
from configurator.catalog import Catalog
from configurator.cost.hosts import load_hosts
from configurator.cost.plan import Totals, own_price, switch_price, totals
from configurator.cost.prices import Price, card_price, per_usd
from configurator.cost.ranges import ZERO, Range
from configurator.cost.terms import Terms, make_terms
from configurator.errors import InputError
from configurator.estimate import architecture_of, held_memory, memory_interval, served_precisions
from configurator.memory.training import training_memory
from configurator.memory.weights import resolve_precision
from configurator.performance import serving_speed, training_speed
from configurator.recommend.candidates import (
    Candidates,
    Cards,
    Flags,
    Floats,
    Ints,
    Rows,
    candidates_of,
    cards_of,
    rows_of,
    split_rules,
    take,
)
from configurator.recommend.limits import Found, Limit, limits_of, score_of
from configurator.recommend.request import MAX_MONEY, Request
from configurator.recommend.tiers import Tier
from configurator.scenario import Hardware, Scenario

# What shards optimizer and weights over the data-parallel ranks where the user left it open.
_SHARDING = {"transformers": "fsdp", "fsdp": "fsdp", "deepspeed": "zero3", "megatron": "zero1"}
# Precisions to try on cards that are there: the checkpoint's own, then smaller ones.
NATIVE_FIRST = ("auto", "fp8", "int8", "int4")


@dataclass(frozen=True)
class Variant:
    """One way to run the scenario: a precision, and for training a sharding."""

    scenario: Scenario
    precision: str


@dataclass(frozen=True, eq=False)
class Search:
    """Everything that a recommendation is made from."""

    request: Request
    catalog: Catalog
    tiers: tuple[Tier, ...]
    terms: tuple[Terms, ...]
    cards: Cards
    rows: Rows
    prices: tuple[Price | None, ...]
    rejected: Mapping[str, str]
    architecture: Architecture
    variants: tuple[Variant, ...]
    found: Found
    sums: Totals
    limits: tuple[Limit, ...]
    feasible: Flags
    distance: Floats
    broken: Ints
    score: Floats
    beside: Search | None = None


def search(request: Request, catalog: Catalog, tiers: tuple[Tier, ...]) -> Search:
    """Evaluate all candidates of a request.

    Raises:
        InputError: A model, a card or a currency that is not known.
    """
    arch = architecture_of(request.scenario)
    cards = cards_of(catalog)
    terms = tuple(tier_terms(request, tier, catalog) for tier in tiers)
    owned = tuple(sorted((card_id(catalog, gpu, "owned"), n) for gpu, n in request.owned.items()))
    beside = None if request.also is None else search(_second(request), catalog, tiers)
    rows = rows_of(catalog, tiers, owned, request.spare_gpus, request.spare_node, _fewest(beside))
    prices = card_prices(request, catalog, cards)
    sums = row_totals(request, catalog, tiers, terms, cards, rows, prices)
    rejected, allowed = card_mask(request, catalog, tiers, cards, rows, prices, arch)
    rules = split_rules(arch, request.scenario.engine, request.scenario.is_training)
    candidates = candidates_of(catalog, rows, rules)
    variants = variants_of(request, arch)
    parts = [_evaluate(v, n, arch, candidates, allowed[n]) for n, v in enumerate(variants)]
    found = parts[0] if len(parts) == 1 else _join(parts)
    if not request.accept_tight:
        asked = request.scenario
        high = [memory_interval(asked, vendor)[1] for vendor in cards.device.vendor]
        need = found.required * (1 + np.array(high)[rows.card[found.row]])
    else:
        need = found.required
    found = replace(found, need=need)
    limits = limits_of(request, tiers, terms, rows, sums, found)
    distance = np.zeros(len(found.row))
    broken = np.zeros(len(found.row), dtype=np.intp)
    for limit in limits:
        # Twice as far beyond counts the same everywhere, and each further limit a little more.
        distance += np.log1p(limit.excess) + 0.25 * (limit.excess > 0)
        broken += limit.excess > 0
    distance += _speed_to_come(found, limits, rows.tier[found.row])
    feasible = found.legal & (broken == 0)
    return Search(
        request, catalog, tiers, terms, cards, rows, prices, rejected, arch, variants, found, sums,
        limits, feasible, distance, broken, score_of(request, sums, found), beside,
    )  # fmt: skip


_SPEED_LIMITS = ("ttft", "user_tokens", "output_tokens", "train_tokens")


def _speed_to_come(found: Found, limits: Sequence[Limit], tier: Ints) -> Floats:
    """What candidates without room are beyond limits of speed at least, were there room.

    Their own speed is not known: that of the best candidate with room stands in, of the same card
    or else of the same tier, so that lacking memory does not look like being fast.
    """
    beyond = np.zeros(len(tier))
    for limit in limits:
        if limit.code in _SPEED_LIMITS:
            beyond += np.log1p(limit.excess) + 0.25 * (limit.excess > 0)
    known = found.required <= found.room
    if not beyond.any() or known.all():
        return np.zeros(len(tier))
    stand_in = np.full(len(tier), np.inf)
    for group in (found.group, tier):
        least = np.full(int(group.max()) + 1, np.inf)
        np.minimum.at(least, group[known], beyond[known])
        stand_in = np.where(np.isinf(stand_in), least[group], stand_in)
    return np.where(known | np.isinf(stand_in), 0.0, stand_in)


def _second(request: Request) -> Request:
    """The request of the second load: its own scenario, no limit on what is bought."""
    return request.model_copy(
        update={
            "scenario": request.also, "also": None, "precisions": (), "max_budget": MAX_MONEY,
            "max_power_w": MAX_MONEY, "max_power_w_per_host": None, "max_gpus": None,
            "max_rack_units": None, "spare_gpus": 0, "spare_node": False, "owned": {},
            "train_tokens_b": None, "train_days_limit": None,
        }
    )  # fmt: skip


def _fewest(beside: Search | None) -> tuple[tuple[int, int, int], ...] | None:
    """Return the fewest cards of each tier and card that carry the second load."""
    if beside is None:
        return None
    count = beside.rows.count[beside.found.row].astype(float)
    at = best_of_groups(beside, beside.feasible, count)
    row = beside.found.row[at]
    return tuple(
        (int(t), int(c), int(n))
        for t, c, n in zip(beside.rows.tier[row], beside.rows.card[row], beside.rows.count[row])
    )


def card_id(catalog: Catalog, name: str, field: str) -> str:
    """Return a card's catalog id.

    Raises:
        InputError: On ``field``, with close ids.
    """
    try:
        return catalog.gpu(name).id
    except InputError as error:
        raise error.at(field) from None


def tier_terms(request: Request, tier: Tier, catalog: Catalog) -> Terms:
    """Return how money is counted in a tier."""
    return make_terms(
        catalog, currency=request.currency, region=request.region, condition=request.condition,
        years=request.years, utilisation=request.utilisation,
        tariff_per_kwh=request.tariff_per_kwh, pue=request.pue,
        hosting_per_kw_month=request.hosting_per_kw_month,
        other_purchase=request.tiers[tier.id].other_purchase if tier.id in request.tiers else None,
        staff_share=request.staff_share, support_share=request.support_share,
        resale_share=request.resale_share, **tier.rates(request.region),
    )  # fmt: skip


def card_prices(request: Request, catalog: Catalog, cards: Cards) -> tuple[Price | None, ...]:
    """Return the price of every card: the company's own, else the catalog's."""
    own: dict[str, Price] = {}
    for item in request.prices:
        rate = per_usd(catalog, item.currency or request.currency)
        usd = item.price / rate
        price = own_price(usd, item.date, request.condition)
        own[card_id(catalog, item.gpu, "prices")] = price
    return tuple(
        own.get(gpu.id) or card_price(catalog, gpu.id, request.region, request.condition)
        for gpu in cards.gpus
    )


def row_totals(
    request: Request, catalog: Catalog, tiers: Sequence[Tier], terms: Sequence[Terms],
    cards: Cards, rows: Rows, prices: Sequence[Price | None],
) -> Totals:  # fmt: skip
    """Cost of every row: the same sum as one plan's, on arrays, tier by tier (NaN: no price)."""
    switch = switch_price(catalog)
    with_host = np.array([price is not None and price.with_host for price in prices])
    unknown = Range.exact(np.nan)
    amounts = [unknown if price is None else price.amount for price in prices]
    value, low, high = np.array([(a.value, a.low, a.high) for a in amounts], dtype=float).T
    parts = []
    for t in range(len(tiers)):
        at = np.flatnonzero(rows.tier == t)
        card = rows.card[at]
        parts.append(
            totals(
                terms[t], request.years, rows.installed[at], rows.bought[at],
                Range(value[card], low[card], high[card]),
                cards.tdp_w[card], rows.hosts[at],
                np.where(with_host[card], 0.0, rows.hosts_bought[at]),
                Range(rows.host_usd[at], rows.host_low[at], rows.host_high[at]),
                rows.host_w[at], rows.switches[at], switch.amount if switch else ZERO,
            )
        )  # fmt: skip

    def joined(name: str) -> Any:
        fields = [getattr(part, name) for part in parts]
        if isinstance(fields[0], Range):
            size = [len(part.average_w) for part in parts]
            return Range(*(
                np.concatenate([np.broadcast_to(getattr(f, end), n) for f, n in zip(fields, size)])
                for end in ("value", "low", "high")
            ))  # fmt: skip
        return np.concatenate(fields)

    names = Totals.__dataclass_fields__
    return Totals(**{name: joined(name) for name in names})


def card_mask(
    request: Request, catalog: Catalog, tiers: Sequence[Tier], cards: Cards, rows: Rows,
    prices: Sequence[Price | None], arch: Architecture,
) -> tuple[dict[str, str], tuple[Flags, ...]]:  # fmt: skip
    """Say which cards are out and why, and which rows are in for each variant."""
    facts = load_hosts(catalog)
    sold: dict[str, set[str]] = {}
    for item in facts.availability:
        for gpu_id in item.gpus:
            sold.setdefault(gpu_id, set()).update(item.regions)
    only = {card_id(catalog, gpu, "gpus") for gpu in request.gpus}
    without = {card_id(catalog, gpu, "without_gpus") for gpu in request.without_gpus}
    rejected: dict[str, str] = dict(cards.left_out)
    keep = np.ones(len(cards.gpus), dtype=bool)
    for place, (gpu, price) in enumerate(zip(cards.gpus, prices)):
        if (only and gpu.id not in only) or gpu.id in without:
            rejected[gpu.id] = "not_chosen"
            keep[place] = False
            continue
        reasons = (
            ("vendor", request.vendors and gpu.vendor not in request.vendors),
            ("segment", request.segments and gpu.segment not in request.segments),
            ("form_factor", request.form_factors and gpu.form_factor not in request.form_factors),
            ("ecc", request.ecc is True and gpu.ecc is not True),
            ("vgpu", request.vgpu is True and gpu.vgpu is not True),
            ("nvlink", request.nvlink is True and gpu.domain_size < 2),
            # Sold in some regions only: whoever names neither such a region nor the card gets none.
            ("not_sold", request.region not in sold.get(gpu.id, (request.region,))
             and not (gpu.id in only and request.region == "any")),
            ("export", request.export_limits and request.region == "China"
             and facts.needs_licence(gpu, float(cards.tpp[place]))),
            ("no_price", price is None),
            ("only_used", request.condition == "new" and price is not None
             and price.condition == "used"),
            ("unsure_price", request.sure_prices and price is not None
             and price.confidence == "low"),
        )  # fmt: skip
        for code, out in reasons:
            if out:
                rejected[gpu.id] = code
                keep[place] = False
                break
    wants_ecc = np.array([t.require_ecc if request.ecc is None else request.ecc for t in tiers])
    has_ecc = np.array([gpu.ecc is True for gpu in cards.gpus])
    base = keep[rows.card] & (has_ecc[rows.card] | ~wants_ecc[rows.tier])
    out_of: list[Flags] = []
    for variant in variants_of(request, arch):
        refused = [
            facts.refusal(gpu, variant.scenario, arch, variant.precision) for gpu in cards.gpus
        ]
        runs = np.array([code is None for code in refused])
        for index in np.flatnonzero(keep & ~runs):
            rejected.setdefault(cards.gpus[int(index)].id, refused[int(index)] or "")
        out_of.append(base & runs[rows.card])
    return rejected, tuple(out_of)


def variants_of(request: Request, arch: Architecture) -> tuple[Variant, ...]:
    """Return the precisions allowed, and for training also sharding where the user left it open."""
    scenario = request.scenario
    asked = request.precisions or (scenario.precision,)
    found: list[Variant] = []
    for precision in dict.fromkeys(asked):
        one = scenario.model_copy(update={"precision": precision, "hardware": None})
        resolved = resolve_precision(one, arch)
        found.append(Variant(one, resolved))
        training = scenario.training
        if scenario.is_training and training and "sharding" not in training.model_fields_set:
            sharded = training.model_copy(update={"sharding": _SHARDING[scenario.engine]})
            found.append(Variant(one.model_copy(update={"training": sharded}), resolved))
    return tuple(found)


def _evaluate(
    variant: Variant, number: int, arch: Architecture, candidates: Candidates, rows_in: Flags
) -> Found:
    """Memory of every allowed candidate, speed of those that fit."""
    scenario, precision = variant.scenario, variant.precision
    legal = rows_in[candidates.row]
    if not scenario.is_training:
        # More replicas than sequences would stand idle.
        legal &= candidates.data <= scenario.serving.concurrency
    at = np.flatnonzero(legal)
    tensor, pipeline = candidates.tensor[at], candidates.pipeline[at]
    expert, data = candidates.expert[at], candidates.data[at]
    device = take(candidates.device, at)
    size = len(at)
    nan = np.full(size, np.nan)
    ttft, tpot, rate, latency = nan.copy(), nan.copy(), nan.copy(), nan.copy()
    if scenario.is_training:
        held = training_memory(
            arch, precision, scenario.fitting, scenario.engine, tensor, pipeline, expert, data,
            device_bytes=device.memory_bytes,
        )  # fmt: skip
        required, room = np.broadcast_to(held.total, size), device.memory_bytes
        holds = np.ones(size)
        fits = np.flatnonzero(required <= room)
        if len(fits):
            pace = training_speed(
                arch, precision, scenario.fitting, scenario.engine, take(device, fits),
                tensor[fits], pipeline[fits], expert[fits], data[fits],
            )  # fmt: skip
            rate[fits] = pace.train_tokens_per_s
            latency[fits] = 1.0 / rate[fits]
    else:
        inference = scenario.serving
        _, kv_precision = served_precisions(scenario, arch)
        cache = held_memory(scenario, arch, device, tensor, pipeline, expert, data)
        required, room = np.broadcast_to(cache.required, size), np.broadcast_to(cache.budget, size)
        holds = np.broadcast_to(cache.max_concurrency, size)
        fits = np.flatnonzero(required <= room)
        if len(fits):
            tokens = np.broadcast_to(cache.capacity_tokens, size)[fits]
            speed = serving_speed(
                arch, precision, kv_precision, scenario.engine, inference, take(device, fits),
                tensor[fits], pipeline[fits], expert[fits], data[fits],
                kv_capacity_tokens=np.floor(tokens),
            )  # fmt: skip
            ttft[fits], tpot[fits] = speed.ttft_s, speed.tpot_s
            rate[fits] = speed.output_tokens_per_s
            latency[fits] = ttft[fits] + tpot[fits] * max(0, inference.output_tokens - 1)
    return Found(
        candidates.row[at], candidates.group[at], np.full(size, number, dtype=np.intp), tensor,
        pipeline, expert, data, np.ones(size, dtype=bool), required, required, room, holds, ttft,
        tpot, rate, latency,
    )  # fmt: skip


def _join(parts: Sequence[Found]) -> Found:
    names = Found.__dataclass_fields__
    return Found(**{n: np.concatenate([getattr(part, n) for part in parts]) for n in names})


def best_of_groups(search: Search, among: Flags, score: Floats) -> Ints:
    """Return the best candidate of each tier and card, ties by cost, speed, and fewest cards."""
    at = np.flatnonzero(among)
    if not len(at):
        return at
    found, rows = search.found, search.rows
    group = found.group[at]
    least = np.full(int(group.max()) + 1, np.inf)
    np.minimum.at(least, group, score[at])
    at = at[score[at] <= least[found.group[at]] * (1 + 1e-12)]
    row = found.row[at]
    speed = np.nan_to_num(found.tokens_per_s[at])
    total = search.sums.total.value[row]
    at = at[np.lexsort((found.tensor[at], rows.count[row], -speed, total, found.group[at]))]
    _, first = np.unique(found.group[at], return_index=True)
    return at[first]


def scenario_of(found: Search, at: int) -> Scenario:
    """Return a candidate as a scenario with hardware."""
    f = found.found
    gpu = found.cards.gpus[int(found.rows.card[f.row[at]])]
    hardware = Hardware(
        gpu=gpu.id, gpu_count=int(found.rows.count[f.row[at]]),
        tensor_parallel=int(f.tensor[at]), pipeline_parallel=int(f.pipeline[at]),
        expert_parallel=int(f.expert[at]), data_parallel=int(f.data[at]),
    )  # fmt: skip
    return found.variants[int(f.variant[at])].scenario.model_copy(update={"hardware": hardware})
