"""The article that the product grew out of: each statement, our figure for it, and a verdict.

``catalog/article.yaml`` holds the statements, the figures that they give, the scenarios that they
speak of and the evaluators (the functions of this module) that obtain our figures. No verdict with
a number is typed in: it follows from our figure over the article's.
"""

from __future__ import annotations

import datetime as dt
import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Literal, TextIO

from pydantic import BaseModel, ConfigDict, Field

from configurator.architecture import Architecture
from configurator.catalog import Gpu, catalog_dir, load_catalog, parse_yaml
from configurator.cost import Cost, card_price, make_terms, plan_cost
from configurator.cost.terms import Terms
from configurator.estimate import Estimate, estimate
from configurator.memory.weights import resolve_precision
from configurator.scenario import Scenario, parse_scenario
from configurator.units import GIB
from configurator.words import say

Verdict = Literal["holds", "holds_with_conditions", "off_by"]
Values = dict[str, Any]
GIGA = 1e9
# NVIDIA's Ampere and later (CUDA programming guide, compute capability 8.0).
AMPERE = 8.0


class _Part(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Words(_Part):
    """A sentence in both languages."""

    en: str = Field(min_length=3)
    zh: str = Field(min_length=2)

    def text(self, language: str) -> str:
        """Return the sentence in a language; English where there is no such language."""
        return self.zh if language == "zh" else self.en


class Evidence(_Part):
    """What somebody measured, restated, with its source and the source's date."""

    text: Words
    value: float
    unit: str
    source: str = Field(min_length=3)
    date: dt.date


class Comparison(_Part):
    """Our figure against the article's; a range is met anywhere in it.

    ``article`` names a figure of the statement, or a value where the article counts things.
    ``sense``: ``about``, ``at_least`` (less is no fault of the statement) or ``at_most``.
    """

    ours: str
    article: str
    sense: Literal["about", "at_least", "at_most"] = "about"


class Statement(_Part):
    """One statement and how it is answered.

    Attributes:
        figures: What the article gives: a number, or a range of two.
        scenarios: Of the contract; empty where the statement speaks of none.
        evaluate: Evaluators in order: ``{name: …, parameters…}``; later ones see earlier values.
        show: Values that answer it, by name.
        compare: What the verdict rests on; without it, ``verdict`` says.
        conditional: Whether it holds only under the conditions that the reason names.
    """

    id: str = Field(pattern=r"^A\d+$")
    statement: Words
    figures: dict[str, float | tuple[float, float]] = Field(default_factory=dict)
    scenarios: tuple[dict[str, Any], ...] = ()
    evaluate: tuple[dict[str, Any], ...] = ()
    show: tuple[str, ...] = ()
    compare: tuple[Comparison, ...] = ()
    conditional: bool = False
    verdict: Verdict | None = None
    measured: tuple[Evidence, ...] = ()


class Rule(_Part):
    """The article's rule of thumb as figures."""

    bytes_per_parameter: dict[str, float]
    fine_tuning_factor: float
    training_factor: tuple[float, float]
    per_100_requests: tuple[float, float]


class Article(_Part):
    """The whole of ``catalog/article.yaml``."""

    title: Words
    date: dt.date
    tolerance: float = Field(gt=1)
    rule: Rule
    statements: tuple[Statement, ...]


@lru_cache(maxsize=1)
def load_article() -> Article:
    """Return the article's statements as checked records."""
    path = catalog_dir() / "article.yaml"
    return Article.model_validate(parse_yaml(path.read_text(encoding="utf-8")))


# --------------------------------------------------------------------------- the rule of thumb


def rule_of_thumb_gib(scenario: Scenario, arch: Architecture) -> float:
    """Return what the article's rule of thumb says the whole deployment needs [GiB].

    Parameters × bytes; inference: 5–10 % more for each 100 concurrent requests beyond the first
    (middle of the range); fine-tuning: gradients as large again; training: 2–3 times inference
    (middle). Precisions that the article does not name go by their nominal bits.

    Args:
        scenario: Task, precision and concurrency; the article's rule knows no context and no card.
        arch: The model.
    """
    rule = load_article().rule
    precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
    gib = arch.parameters * rule.bytes_per_parameter[precision] / GIB
    if scenario.task == "training":
        return gib * sum(rule.training_factor) / 2
    if scenario.task == "fine_tuning":
        return gib * rule.fine_tuning_factor
    hundreds = (scenario.serving.concurrency - 1) / 100
    return gib * (1 + hundreds * sum(rule.per_100_requests) / 2)


# --------------------------------------------------------------------------- evaluators


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
def _terms(currency: str, region: str, utilisation: float) -> Terms:
    return make_terms(currency=currency, region=region, utilisation=utilisation)  # type: ignore[arg-type]


@lru_cache(maxsize=64)
def _cost(gpu: str, count: int, region: str, utilisation: float) -> Cost:
    return plan_cost(gpu, count, terms=_terms("CNY", region, utilisation))


def price(q: Question) -> Values:
    """Dated price of ``count`` cards alone [CNY], and of the cards in a machine."""
    p = q.parameters
    gpu, count, region = p["gpu"], int(p.get("count", 1)), p.get("region", "any")
    cost = _cost(gpu, count, region, 0.5)
    rate = cost.terms.rate
    elsewhere = card_price(load_catalog(), gpu, "any")
    return {
        "cards_cny": float(cost.card.amount.value) * rate * count,
        "machine_cny": cost.purchase.value,
        "machine_low_cny": cost.purchase.low,
        "machine_high_cny": cost.purchase.high,
        "price_date": cost.card.date.isoformat(),
        "price_condition": cost.card.condition,
        "anywhere_cny": float(elsewhere.amount.value) * rate * count if elsewhere else math.nan,
        "anywhere_date": elsewhere.date.isoformat() if elsewhere else "",
    }


def cloud_ratio(q: Question) -> Values:
    """Own cost over three years as a share of renting the same cards, by time in use.

    Own cost is ``a + b·u`` with utilisation u, rent by the hour ``r·u``: a third is reached at
    ``u = a ÷ (r/3 − b)``, if that is at most 1.
    """
    p = q.parameters
    gpu, count = p["gpu"], int(p.get("count", 1))
    full = _cost(gpu, count, "any", 1.0)
    half = _cost(gpu, count, "any", 0.5)
    out: Values = {"machine_cny": full.purchase.value, "price_date": full.card.date.isoformat()}
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


# --------------------------------------------------------------------------- verdicts


@dataclass(frozen=True)
class Finding:
    """A statement answered.

    Attributes:
        values: Everything that was worked out, by name.
        factor: Our figure over the article's, as a number of at least 1; 1 inside its range,
            None where there is no number to compare.
        compared: The comparison that the factor belongs to.
    """

    statement: Statement
    values: Mapping[str, Any]
    verdict: Verdict
    factor: float | None
    compared: Comparison | None

    @property
    def article_is_high(self) -> bool:
        """Whether the article's figure is above ours."""
        if self.compared is None:
            return False
        _, high = _range(_said(self.statement, self.compared, self.values))
        return bool(high > self.values[self.compared.ours])

    def reason(self, language: str = "en") -> str:
        """Return one sentence with the figures filled in."""
        values = {k: _spoken(v, language) for k, v in self.values.items()}
        variant = self.values.get("variant")
        key = f"{self.statement.id}_{variant}" if variant else self.statement.id
        return say(f"article.reason.{key}", language, **values)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's statement as plain JSON values."""
        said = self.statement
        shown = {name: _plain(self.values[name]) for name in said.show}
        out: dict[str, Any] = {
            "id": said.id,
            "statement": said.statement.text(language),
            "scenario": said.scenarios[0] if said.scenarios else None,
            "scenarios": list(said.scenarios),
            "article": {k: list(_range(v)) if isinstance(v, tuple) else v
                        for k, v in said.figures.items()},
            "ours": shown,
            "ours_text": self.ours_text(language),
            "article_text": self.article_text(language),
            "measured": [
                {"text": e.text.text(language), "value": e.value, "unit": e.unit,
                 "source": e.source, "date": e.date.isoformat()}
                for e in said.measured
            ],
            "verdict": self.verdict,
            "factor": None if self.factor is None else round(self.factor, 3),
            "verdict_text": self.verdict_text(language),
            "reason": self.reason(language),
        }  # fmt: skip
        return out

    def ours_text(self, language: str = "en") -> str:
        """Return the figure that the verdict rests on, else the first; empty if there is none."""
        name = self.compared.ours if self.compared else next(iter(self.statement.show), None)
        return "" if name is None else figure_text(name, _plain(self.values[name]), language)

    def article_text(self, language: str = "en") -> str:
        """Return the article's side of the same figure; empty if it gives none."""
        if self.compared is None:
            return ""
        figure = _said(self.statement, self.compared, self.values)
        return figure_text(self.compared.article, figure, language)

    def verdict_text(self, language: str = "en") -> str:
        """Return the verdict in words; with the factor where there is one."""
        if self.verdict != "off_by":
            return say(f"article.verdict.{self.verdict}", language)
        if self.factor is None:
            return say("article.verdict.off", language)
        way = "high" if self.article_is_high else "low"
        return say(f"article.verdict.off_by_{way}", language, factor=self.factor)


def _said(
    statement: Statement, comparison: Comparison, values: Mapping[str, Any]
) -> float | tuple[float, float]:
    """The article's side of a comparison."""
    name = comparison.article
    return statement.figures[name] if name in statement.figures else float(values[name])


def _range(figure: float | tuple[float, float]) -> tuple[float, float]:
    return figure if isinstance(figure, tuple) else (figure, figure)


def off_factor(ours: float, figure: float | tuple[float, float], sense: str = "about") -> float:
    """Return by what factor a figure misses ours: 1 inside its range, else at least 1.

    Args:
        ours: What the engine says.
        figure: What the article says: a number or a range.
        sense: ``at_least``: the article gives a floor, so that ours may be higher only up to it.
    """
    low, high = _range(figure)
    if low <= ours <= high:
        return 1.0
    if (sense == "at_least" and ours > high) or (sense == "at_most" and ours < low):
        return 1.0
    nearest = high if ours > high else low
    if nearest <= 0 or ours <= 0:
        return math.inf
    return max(ours / nearest, nearest / ours)


def evaluate(statement: Statement, tolerance: float | None = None) -> Finding:
    """Answer one statement.

    Args:
        statement: Of ``article.yaml``.
        tolerance: Factor within which a figure counts as right; the file's own if None.
    """
    tolerance = tolerance or load_article().tolerance
    values: Values = {}
    for step in statement.evaluate:
        parameters = {k: v for k, v in step.items() if k not in ("name", "prefix")}
        question = Question(statement.scenarios, parameters, values)
        found = EVALUATORS[step["name"]](question)
        values |= {f"{step.get('prefix', '')}{k}": v for k, v in found.items()}
    if not statement.compare:
        verdict = statement.verdict or "holds"
        return Finding(statement, values, verdict, None, None)
    factors = [
        off_factor(float(values[c.ours]), _said(statement, c, values), c.sense)
        for c in statement.compare
    ]
    worst = max(range(len(factors)), key=factors.__getitem__)
    factor, compared = factors[worst], statement.compare[worst]
    if factor > tolerance:
        verdict = "off_by"
    else:
        verdict = "holds_with_conditions" if statement.conditional else "holds"
    return Finding(statement, values, verdict, factor, compared)


# --------------------------------------------------------------------------- words


def _plain(value: Any) -> Any:
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _spoken(value: Any, language: str) -> Any:
    """What a sentence takes: words for true and false, NaN for a figure that is missing."""
    if isinstance(value, bool):
        return say(f"article.{'yes' if value else 'no'}", language)
    return math.nan if value is None else value


# How a figure is written, by the end of its name; the longest that fits is taken.
_UNITS: tuple[tuple[str, str], ...] = (
    ("_gib", "gib"), ("_gb", "gb"), ("_gb_per_s", "gb_per_s"), ("_tokens_per_s", "tokens_per_s"),
    ("_share", "share"), ("_use", "share"), ("_factor", "factor"), ("_ratio", "factor"),
    ("_cny", "cny"), ("_b", "billions"), ("_s", "seconds"),
    ("cards", "cards"), ("cards_needed", "cards"),
)  # fmt: skip


def figure_text(name: str, value: Any, language: str = "en") -> str:
    """Return a named figure with its unit, as in ``15.6 GiB`` or ``30–50 %``.

    Args:
        name: Ends in its unit: ``_gib``, ``_tokens_per_s``, ``_share``, ``_cny``, …
        value: A number, a range, a word, true or false, or None.
        language: Of the words.
    """
    if isinstance(value, bool):
        return say(f"article.{'yes' if value else 'no'}", language)
    if value is None:
        return say("article.none", language)
    if isinstance(value, str):
        return value
    ends = [(end, unit) for end, unit in _UNITS if name.endswith(end)]
    unit = max(ends, key=lambda pair: len(pair[0]))[1] if ends else "count"
    if isinstance(value, (tuple, list)):
        low, high = (_number(unit, float(v)) for v in value)
        text = low if low == high else f"{low}–{high}"
    else:
        text = _number(unit, float(value))
    return say(f"article.unit.{unit}", language, value=text)


def _number(unit: str, value: float) -> str:
    if unit == "share":
        value *= 100
    if unit == "cny" or abs(value) >= 1000:
        return f"{value:,.0f}"
    if unit == "share" and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def article_report(language: str = "en") -> dict[str, Any]:
    """Return the contract's ``{"statements": […]}``: every statement with figure and verdict.

    Args:
        language: ``en`` or ``zh``.
    """
    return {"statements": [evaluate(s).to_dict(language) for s in load_article().statements]}


def run_article(as_json: bool, language: str, out: TextIO) -> int:
    """Print the article answered, as one JSON object or as text; return the exit status."""
    report = article_report(language)
    if as_json:
        out.write(json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n")
        return 0
    for item in report["statements"]:
        out.write(f"{item['id']}  {item['verdict_text']}\n")
        out.write(f"    {item['statement']}\n    {item['reason']}\n")
    return 0
