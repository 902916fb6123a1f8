"""The functions by which the article's statements obtain our figures."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, cast

from configurator.catalog import Gpu, load_catalog
from configurator.cost import Cost, card_price, make_terms, plan_cost
from configurator.cost.prices import Region
from configurator.estimate import Estimate, estimate
from configurator.recommend.tiers import load_tiers
from configurator.scenario import parse_scenario
from configurator.units import GIB

GIGA = 1e9
# NVIDIA's Ampere and later (CUDA programming guide, compute capability 8.0).
AMPERE = 8.0
Values = dict[str, Any]


def vary(raw: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Return a scenario's JSON with fields changed; ``hardware.gpu_count`` names a nested one."""
    out: dict[str, Any] = json.loads(json.dumps(raw))
    for path, value in changes.items():
        *parents, last = path.split(".")
        place = out
        for name in parents:
            place = place.setdefault(name, {})
        if value is None:
            place.pop(last, None)
        else:
            place[last] = value
    return out


@lru_cache(maxsize=512)
def _answer_json(text: str) -> Estimate:
    return estimate(parse_scenario(json.loads(text)))


def _answer(raw: Mapping[str, Any]) -> Estimate:
    return _answer_json(json.dumps(raw, sort_keys=True))


@dataclass(frozen=True)
class Question:
    """What an evaluator is given: the statement's scenarios, its parameters, earlier values."""

    scenarios: tuple[Mapping[str, Any], ...]
    parameters: Mapping[str, Any]
    values: Mapping[str, Any]

    def scenario(self, changes: Mapping[str, Any] | None = None) -> dict[str, Any]:
        """Return the scenario that the parameters pick, with their changes."""
        raw = self.scenarios[int(self.parameters.get("scenario", 0))]
        return vary(raw, {**self.parameters.get("change", {}), **(changes or {})})

    def answer(self, changes: Mapping[str, Any] | None = None) -> Estimate:
        """Return the estimate of :meth:`scenario`."""
        return _answer(self.scenario(changes))


def memory(q: Question) -> Values:
    """Memory of a scenario: GiB on the fullest card, decimal GB over all cards, whether it fits."""
    answer = q.answer()
    held = answer.memory
    parts = (
        "weights", "kv_cache", "activations", "gradients", "optimizer", "framework", "required",
        "total", "capacity", "budget", "headroom", "host",
    )  # fmt: skip
    out: Values = {f"{name}_gib": getattr(held, f"{name}_gib") for name in parts}
    out["short_gib"] = max(0.0, -held.headroom_gib)
    cards = answer.split.gpus
    out["cards"] = cards
    out["all_cards_gib"] = held.required_gib * cards
    out["all_cards_gb"] = held.required_gib * cards * GIB / GIGA
    out["weights_gb"] = held.weights_gib * cards * GIB / GIGA
    out["fits"] = held.fits is not False
    out["parameters_b"] = answer.architecture.parameters / GIGA
    out["active_parameters_b"] = answer.architecture.active_parameters / GIGA
    if answer.kv is not None:
        out["kv_bytes_per_token"] = answer.kv.bytes_per_token
        out["max_concurrency"] = answer.kv.max_concurrency
        out["requests_per_card"] = (answer.kv.max_concurrency or 0) / cards
    return out


def speed(q: Question) -> Values:
    """Speed of a scenario: one stream's decode rate, all streams, first token, training."""
    found = q.answer().performance
    return {
        "decode_tokens_per_s": found.decode_tokens_per_s,
        "output_tokens_per_s": found.output_tokens_per_s,
        "ttft_s": found.ttft_s,
        "tpot_s": found.tpot_s,
        "train_tokens_per_s": found.train_tokens_per_s,
        "bound_by": found.bound_by,
    }


def ratio(q: Question) -> Values:
    """One earlier value over another."""
    p = q.parameters
    return {p["as"]: q.values[p["of"]] / q.values[p["over"]]}


def share_saved(q: Question) -> Values:
    """What part of ``before`` is gone in ``after``."""
    p = q.parameters
    return {p["as"]: 1 - q.values[p["after"]] / q.values[p["before"]]}


def bandwidth_bound(q: Question) -> Values:
    """Most tokens/s of one stream: memory bandwidth over the bytes of the weights it reads.

    The input embedding is looked up, not read, so it is left out; the cache, read besides, is too.
    """
    answer = q.answer()
    arch = answer.architecture
    bandwidth = float(answer.device.bandwidth_bytes_per_s)
    looked_up = 0 if arch.tied_embeddings else arch.vocab_size * arch.hidden_size * 2 / GIB
    read = (answer.memory.weights_gib - looked_up) * GIB
    return {
        "bound_tokens_per_s": bandwidth / read,
        "bandwidth_gb_per_s": bandwidth / GIGA,
        "read_gb": read / GIGA,
    }


def concurrency_growth(q: Question) -> Values:
    """Cache that ``step`` more requests hold, and its share of the need with one request."""
    step = int(q.parameters["step"])
    one = q.answer({"inference.concurrency": 1}).memory
    more = q.answer({"inference.concurrency": 1 + step}).memory
    added = more.kv_cache_gib - one.kv_cache_gib
    return {
        "one_required_gib": one.required_gib,
        "added_gib": added,
        "growth_share": added / one.required_gib,
    }


def checkpointing_effect(q: Question) -> Values:
    """What gradient checkpointing saves and costs."""
    off = q.answer({"training.gradient_checkpointing": False})
    on = q.answer({"training.gradient_checkpointing": True})
    rate_off, rate_on = off.performance.train_tokens_per_s, on.performance.train_tokens_per_s
    return {
        "off_required_gib": off.memory.required_gib,
        "on_required_gib": on.memory.required_gib,
        "off_activations_gib": off.memory.activations_gib,
        "on_activations_gib": on.memory.activations_gib,
        "saved_share": 1 - on.memory.required_gib / off.memory.required_gib,
        "activations_saved_share": 1 - on.memory.activations_gib / off.memory.activations_gib,
        "extra_time_share": (rate_off or math.nan) / (rate_on or math.nan) - 1,
    }


def fits(q: Question) -> Values:
    """Which of ``gpus`` hold the scenario, at ``counts`` cards each (1 if not given)."""
    found = {}
    counts = q.parameters.get("counts", {})
    for gpu in q.parameters["gpus"]:
        change = {"hardware.gpu": gpu, "hardware.gpu_count": counts.get(gpu, 1)}
        found[gpu] = q.answer(change).memory.fits is not False
    return {
        "fitting_cards": sum(found.values()),
        "asked_cards": len(found),
        **{f"fits_{gpu.replace('-', '_')}": fit for gpu, fit in found.items()},
    }


def cards_needed(q: Question) -> Values:
    """Fewest of ``counts`` cards that hold the scenario."""
    for count in q.parameters["counts"]:
        answer = q.answer({"hardware.gpu_count": count})
        if answer.memory.fits is not False:
            return {"cards_needed": count, "needed_required_gib": answer.memory.required_gib}
    raise ValueError("none of the counts holds the scenario")


def bf16_cards(q: Question) -> Values:
    """NVIDIA cards with BF16 units in the catalog, and how many of them are A100 or H100."""
    have = [
        gpu for gpu in load_catalog().gpus.values()
        if gpu.vendor == "NVIDIA" and gpu.has_bf16
    ]  # fmt: skip
    modern = [
        gpu for gpu in load_catalog().gpus.values()
        if gpu.vendor == "NVIDIA" and _capability(gpu) >= AMPERE
    ]  # fmt: skip
    named = [gpu for gpu in have if gpu.id.startswith(("a100", "h100"))]
    return {
        "bf16_cards": len(have),
        "ampere_or_later_cards": len(modern),
        "without_bf16": sum(not gpu.has_bf16 for gpu in modern),
        "named_cards": len(named),
    }


def _capability(gpu: Gpu) -> float:
    try:
        return float(gpu.compute_capability or 0)
    except ValueError:
        return 0.0


def card(q: Question) -> Values:
    """Facts of one card of the catalog."""
    gpu = load_catalog().gpu(q.parameters["gpu"])
    link, rate = gpu.interconnect, gpu.rate("bf16")
    return {
        "memory_gb": gpu.memory_gb.value,
        "memory_type": gpu.memory_type or "",
        "bandwidth_gb_per_s": gpu.bandwidth_gb_s.value if gpu.bandwidth_gb_s else math.nan,
        "link": link.kind if link else "PCIe",
        "link_gb_per_s": (
            link.gb_s_bidirectional.value if link and link.gb_s_bidirectional else 0.0
        ),
        "pcie_gb_per_s": gpu.pcie_gb_s_one_way.value if gpu.pcie_gb_s_one_way else math.nan,
        "joined_cards": gpu.domain_size,
        "ecc": bool(gpu.ecc),
        "vgpu": bool(gpu.vgpu),
        "bf16_tflops": rate.value if rate else math.nan,
        "tf32": gpu.has_tf32,
        "bf16": gpu.has_bf16,
    }


@lru_cache(maxsize=64)
def _cost(
    gpu: str, count: int, region: str = "any", utilisation: float = 0.5, tier: str = ""
) -> Cost:
    place = cast("Region", region)  # as the article's file has it
    tiers = {each.id: each for each in load_tiers(load_catalog())}
    rates = tiers[tier].rates(place) if tier else {}
    terms = make_terms(currency="CNY", region=place, utilisation=utilisation, **rates)
    return plan_cost(gpu, count, terms=terms)


def price(q: Question) -> Values:
    """Dated price of ``count`` cards alone [CNY], and of the cards in a machine."""
    p = q.parameters
    gpu, count, region = p["gpu"], int(p.get("count", 1)), p.get("region", "any")
    cost = _cost(gpu, count, region)
    rate = cost.terms.rate
    elsewhere = card_price(load_catalog(), gpu, "any")
    return {
        "cards_cny": float(cost.card.amount.value) * rate * count,
        "machine_cny": cost.purchase.value,
        "machine_low_cny": cost.purchase.low,
        "machine_high_cny": cost.purchase.high,
        "price_date": cost.card.date,
        "anywhere_cny": float(elsewhere.amount.value) * rate * count if elsewhere else math.nan,
        "anywhere_date": elsewhere.date if elsewhere else "",
    }


def cloud_ratio(q: Question) -> Values:
    """Own cost over three years as a share of renting the same cards, by time in use.

    Own cost has the running rates of ``tier``: electricity, cooling, hosting, staff.
    Own cost is ``a + b·u`` with utilisation u, rent by the hour ``r·u``: a third is reached at
    ``u = a ÷ (r/3 − b)``, if that is at most 1.
    """
    p = q.parameters
    gpu, count, tier = p["gpu"], int(p.get("count", 1)), p["tier"]
    full = _cost(gpu, count, utilisation=1.0, tier=tier)
    half = _cost(gpu, count, tier=tier)
    out: Values = {"machine_cny": full.purchase.value, "price_date": full.card.date}
    for name in ("on_demand", "reserved"):
        for cost, label in ((half, "half"), (full, "full")):
            rent = next(r for r in cost.rents if r.rental == name)
            out[f"{name}_{label}_share"] = rent.own_share
    hourly = next(r for r in full.rents if r.rental == "on_demand")
    own_full, own_half = full.three_year_total.value, half.three_year_total.value
    running = 2 * (own_full - own_half)
    room = hourly.total.value / 3 - running
    use = (own_full - running) / room if room > 0 else math.inf
    out["third_from_use"] = use if use <= 1 else None
    out["variant"] = None if use <= 1 else "never"
    out["cheaper_from_use"] = hourly.break_even_utilisation
    return out


def reserved_batching(q: Question) -> Values:
    """Throughput with as many requests as free memory holds, against one slot of full length each.

    Before paged caches, an engine kept room for the longest request in every slot.
    """
    scenario = q.scenario()
    longest = int(scenario["inference"]["max_model_len"])
    held = q.answer().kv
    slots = max(1, int((held.capacity_tokens if held else 0) or 0) // longest)
    full = max(1, int((held.max_concurrency if held else 0) or 0))
    before = q.answer({"inference.concurrency": slots}).performance.output_tokens_per_s or 0.0
    after = q.answer({"inference.concurrency": full}).performance.output_tokens_per_s or 0.0
    return {
        "fixed_slots": slots, "paged_requests": full, "fixed_tokens_per_s": before,
        "paged_tokens_per_s": after, "gain_factor": after / before,
    }  # fmt: skip


def unfused_attention(q: Question) -> Values:
    """Bytes of one layer's attention scores, which a fused kernel never writes, over ``tokens``."""
    arch = q.answer().architecture
    tokens = int(q.parameters["tokens"])
    heads = arch.groups[0].layer.heads
    return {"tokens": tokens, "scores_gib": heads * tokens**2 * 2 / GIB}


def sampling_share(q: Question) -> Values:
    """Bytes that choosing a token reads (32-bit logits) over those of the weights."""
    answer = q.answer()
    logits = answer.architecture.vocab_size * 4
    return {"sampling_share": logits / (answer.memory.weights_gib * GIB), "work_saved_share": 0.0}


def two_of_four(q: Question) -> Values:
    """Bits of four 16-bit weights with two kept and a 2-bit place each, over those of all four."""
    return {"two_of_four_share": (2 * 16 + 2 * 2) / (4 * 16)}


EVALUATORS: Mapping[str, Callable[[Question], Values]] = {
    function.__name__: function
    for function in (
        memory, speed, ratio, share_saved, bandwidth_bound, concurrency_growth,
        checkpointing_effect, fits, cards_needed, bf16_cards, card, price, cloud_ratio,
        reserved_batching, unfused_attention, sampling_share, two_of_four,
    )
}  # fmt: skip
