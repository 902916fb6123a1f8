"""A plan to buy, why it is there and what it lacks; and the whole recommendation."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any
from urllib.parse import urlencode

from configurator import numbers
from configurator.catalog import Catalog
from configurator.cost.dates import When
from configurator.cost.plan import Cost, plan_cost
from configurator.cost.prices import Price
from configurator.cost.terms import Terms
from configurator.estimate import Estimate, Notice, estimate
from configurator.link import encode
from configurator.recommend.request import Request, terms_of
from configurator.scenario import Scenario
from configurator.words import clauses, listed, say

# Whose options a change's value is one of.
_OPTIONS = ("precision", "kv_cache_precision", "optimizer", "offload", "engine", "region")


def _word(key: str, code: str, language: str) -> str:
    try:
        return say(key, language)
    except KeyError:
        return code


def _in_words(values: Mapping[str, Any], language: str) -> dict[str, Any]:
    """Return figures as a sentence has them: codes of regions and the like as words."""
    out = dict(values)
    for name in ("condition", "region", "regions"):
        if name in out:
            codes = str(out[name]).split(", ")
            table = name.removesuffix("s")
            out[name] = listed(
                language, (_word(f"app.option.{table}.{code}", code, language) for code in codes)
            )
    if "date" in out:
        out["date"] = numbers.date(out["date"], language)
    if isinstance(out.get("dates"), When):
        out["dates"] = out["dates"].phrase(language)
    if "currency" in values:
        out |= _sums(values, values["currency"], language)
    return out


@dataclass(frozen=True, slots=True)
class _Sum:
    """A figure as money, written only where a sentence takes it for a sum."""

    value: float
    currency: str
    language: str

    def __str__(self) -> str:
        return numbers.money(self.value, self.currency, self.language)


def _sums(values: Mapping[str, Any], currency: str, language: str) -> dict[str, _Sum]:
    """Return every figure once more as the sum that a sentence may take it for."""
    return {
        f"{name}_money": _Sum(float(value), currency, language)
        for name, value in values.items()
        if isinstance(value, (int, float))
    }


def _plain(value: Any) -> Any:
    """A figure as JSON has it."""
    if isinstance(value, When):
        return value.to_dict()
    return None if isinstance(value, float) and not math.isfinite(value) else value


@dataclass(frozen=True)
class Reason:
    """Why a plan is there, what limits it or what it lacks: a code and its figures."""

    table: str
    code: str
    values: Mapping[str, Any] = field(default_factory=dict)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return code, figures and the sentence."""
        values = {k: _plain(v) for k, v in self.values.items()}
        text = say(f"{self.table}.{self.code}", language, **_in_words(self.values, language))
        return {"code": self.code, "values": values, "text": text}


@dataclass(frozen=True)
class Change:
    """A change of the request that would make a plan fit: a field and its new value.

    ``currency`` is that of a sum.
    """

    field: str
    value: Any
    currency: str = "USD"

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return field, value and the sentence."""
        key = self.field.rsplit(".", 1)[-1]
        value = self.value
        if (key, value) in (("precision", "auto"), ("region", "any")):
            key = f"{key}_{value}"
        elif key in _OPTIONS:
            value = say(f"app.option.{key}.{value}", language)
        sums = _sums({"value": value}, self.currency, language)
        text = say(f"missing.change.{key}", language, value=value, **sums)
        return {"field": self.field, "value": self.value, "text": text}


@dataclass(frozen=True)
class Fix:
    """Changes that together make a plan fit, and the question with that plan's cards."""

    changes: tuple[Change, ...]
    scenario: Scenario | None = field(default=None, repr=False, compare=False)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the changes and one sentence for all."""
        changes = [change.to_dict(language) for change in self.changes]
        text = clauses(language, (change["text"] for change in changes))
        return {"changes": changes, "text": text}


@dataclass(frozen=True)
class Alternative:
    """Another count or split of the same card, or a point of the Pareto front."""

    tier: str
    gpu: str
    gpu_count: int
    tensor_parallel: int
    pipeline_parallel: int
    expert_parallel: int
    data_parallel: int
    precision: str
    purchase: float
    total: float
    tokens_per_s: float | None
    ttft_s: float | None
    tpot_s: float | None
    currency: str
    scenario: Scenario = field(repr=False)
    request: Request = field(repr=False)

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; money in the request's currency."""
        asked = ("scenario", "request")
        names = (name for name in self.__dataclass_fields__ if name not in asked)
        values = {name: getattr(self, name) for name in names}
        return {**values, "link": scenario_link(self.scenario, self.request)}


@dataclass(frozen=True)
class Beside:
    """A second load that runs on the same kind of card at the same time."""

    scenario: Scenario
    catalog: Catalog = field(repr=False, compare=False)

    @cached_property
    def estimate(self) -> Estimate:
        """The ordinary estimate of the second load."""
        return estimate(self.scenario)

    @property
    def gpu_count(self) -> int:
        """Cards that it takes."""
        return self.scenario.hardware.gpu_count if self.scenario.hardware else 0

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return cards, split, memory and speed as plain JSON values."""
        answer = self.estimate.to_dict(language)
        return {
            "task": self.scenario.task, "gpu_count": self.gpu_count, **answer["split"],
            **{name: answer[name] for name in ("precision", "memory", "kv", "performance")},
        }  # fmt: skip


@dataclass(frozen=True)
class Plan:
    """Cards, split and precision that answer a scenario; the rest is made when asked for.

    Attributes:
        scenario: The scenario with this plan's hardware in it.
        gpu_count: Cards in use; ``spare_gpus`` more are installed, ``bought`` are to be bought.
        missing: Of a plan that is only near: by how much it misses.
    """

    tier: str
    rank: int
    gpu: str
    name: str
    gpu_count: int
    spare_gpus: int
    bought: int
    owned: int
    asked_spares: int
    nodes: int
    rack_units: float
    host: str
    scenario: Scenario
    precision: str
    request: Request = field(repr=False)
    terms: Terms = field(repr=False)
    price: Price = field(repr=False)
    catalog: Catalog = field(repr=False, compare=False)
    beside: Beside | None = None
    missing: tuple[Reason, ...] = ()
    why_search: Callable[[], tuple[Reason, ...]] = field(default=tuple, repr=False, compare=False)
    limit_search: Callable[[], tuple[Reason, ...]] = field(default=tuple, repr=False, compare=False)
    fix_search: Callable[[], tuple[Fix, ...]] = field(default=tuple, repr=False, compare=False)
    alternative_search: Callable[[], tuple[Alternative, ...]] = field(
        default=tuple, repr=False, compare=False
    )

    @cached_property
    def why(self) -> tuple[Reason, ...]:
        """Why it stands where it does."""
        return self.why_search()

    @cached_property
    def limits(self) -> tuple[Reason, ...]:
        """What binds it, the tightest first; then what to know about card and price."""
        return self.limit_search()

    @cached_property
    def alternatives(self) -> tuple[Alternative, ...]:
        """The same card's next counts and precisions, each at its fastest split."""
        return self.alternative_search()

    @cached_property
    def fixes(self) -> tuple[Fix, ...]:
        """Changes of the request, each enough to make a near miss fit."""
        return self.fix_search()

    @cached_property
    def estimate(self) -> Estimate:
        """The ordinary estimate of this plan."""
        return estimate(self.scenario)

    @cached_property
    def cost(self) -> Cost:
        """The bill of materials and the total."""
        performance = self.estimate.performance
        second = self.beside.gpu_count if self.beside else 0
        return plan_cost(
            self.gpu, self.gpu_count + second, terms=self.terms, host=self.host,
            spares=self.asked_spares, owned=self.owned, price=self.price,
            catalog=self.catalog, run_days=self.train_days, **prompt_of(self.scenario),
            performance={
                name: getattr(performance, name)
                for name in (
                    "output_tokens_per_s", "train_tokens_per_s", "requests_per_s",
                    "prefill_tokens_per_s",
                )
            },
        )  # fmt: skip

    @property
    def train_days(self) -> float | None:
        """Days of the whole training run, where the request says how long that is."""
        return self.request.train_days(self.estimate.performance.train_tokens_per_s)

    @property
    def link(self) -> str:
        """The query of this plan's link."""
        return scenario_link(self.scenario, self.request)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's plan as plain JSON values."""
        answer = self.estimate.to_dict(language)
        hardware = self.scenario.hardware
        data = (hardware and hardware.data_parallel) or 1
        split = answer["split"]
        return {
            "tier": self.tier, "rank": self.rank, "gpu": self.gpu, "name": self.name,
            "gpu_count": self.gpu_count, "spare_gpus": self.spare_gpus, "bought": self.bought,
            "nodes": self.nodes, "host": self.host, "rack_units": self.rack_units,
            "replicas": data if split["expert_parallel"] <= split["tensor_parallel"] else 1,
            **split, "precision": answer["precision"],
            "sharding": self.scenario.fitting.sharding if self.scenario.is_training else None,
            "memory": answer["memory"], "kv": answer["kv"], "performance": answer["performance"],
            "train_days": self.train_days, "cost": self.cost.to_dict(language),
            "why": [reason.to_dict(language) for reason in self.why],
            "limits": [reason.to_dict(language) for reason in self.limits],
            "missing": [reason.to_dict(language) for reason in self.missing],
            "fixes": [fix.to_dict(language) for fix in self.fixes],
            "alternatives": [item.to_dict() for item in self.alternatives],
            "warnings": answer["warnings"], "assumptions": answer["assumptions"],
            "sources": answer["sources"], "link": self.link,
            "scenario": self.scenario.model_dump(mode="json", exclude_none=True),
            "beside": self.beside.to_dict(language) if self.beside else None,
        }  # fmt: skip


def prompt_of(scenario: Scenario) -> dict[str, Any]:
    """Return what :func:`plan_cost` needs of the prompts; of training nothing."""
    if scenario.is_training:
        return {}
    serving = scenario.serving
    return {
        "input_tokens": serving.input_tokens,
        "prefix_cache_share": serving.prefix_cache_share or 0.0,
    }


def scenario_link(scenario: Scenario, request: Request, catalog: str = "") -> str:
    """Return the query of a scenario's link, under a request's terms.

    Args:
        scenario: What is asked.
        request: Its currency, makers, limits of speed and terms of the purchase go along.
        catalog: Version of the catalog that the answer stands on; left out if empty.
    """
    return "?" + urlencode(
        encode(
            scenario,
            catalog=catalog,
            currency=request.currency,
            vendors=request.vendors,
            ttft_s=request.ttft_s_limit,
            tokens_per_s=request.user_tokens_per_s_limit,
            buying=terms_of(request),
            also=request.also,
        )
    )


@dataclass(frozen=True)
class Recommendation:
    """The answer to a request: plans by tier, the front, the near misses.

    Attributes:
        rejected: Cards that were left out, by id, and the code of the reason.
        front_search, opening_search, exact_search: Make :attr:`pareto`, :attr:`openings` and
            :meth:`exactly` when asked for.
    """

    request: Request
    tiers: Mapping[str, tuple[Plan, ...]]
    nearest: tuple[Plan, ...]
    warnings: tuple[Notice | Reason, ...]
    rejected: Mapping[str, str]
    front_search: Callable[[], tuple[Alternative, ...]] = field(
        default=tuple, repr=False, compare=False
    )
    opening_search: Callable[[], tuple[Fix, ...]] = field(default=tuple, repr=False, compare=False)
    exact_search: Callable[[str, int], tuple[Plan, ...]] = field(
        default=lambda *_: (), repr=False, compare=False
    )

    @cached_property
    def pareto(self) -> tuple[Alternative, ...]:
        """Plans that nothing beats in both cost and speed, from the cheapest to the fastest."""
        return self.front_search()

    @cached_property
    def openings(self) -> tuple[Fix, ...]:
        """What to allow where there is neither a plan nor a near miss."""
        return () if self.plans or self.nearest else self.opening_search()

    def exactly(self, gpu: str, gpu_count: int) -> tuple[Plan, ...]:
        """Return plans with just so many of a card in use, at most one a tier.

        The plans of a tier hold a card once, at its best number; this finds the others.
        """
        return self.exact_search(gpu, gpu_count)

    @property
    def plans(self) -> tuple[Plan, ...]:
        """All plans of all tiers."""
        return tuple(plan for plans in self.tiers.values() for plan in plans)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's Recommendation as plain JSON values."""
        return {
            "tiers": {
                tier: {"plans": [plan.to_dict(language) for plan in plans]}
                for tier, plans in self.tiers.items()
            },
            "pareto": [item.to_dict() for item in self.pareto],
            "nearest": [plan.to_dict(language) for plan in self.nearest],
            "openings": [fix.to_dict(language) for fix in self.openings],
            "warnings": [warning.to_dict(language) for warning in self.warnings],
            "rejected": {
                gpu: {"code": code, "text": say(f"missing.card.{code}", language)}
                for gpu, code in sorted(self.rejected.items())
            },
            "currency": self.request.currency,
            "objective": self.request.objective,
        }
