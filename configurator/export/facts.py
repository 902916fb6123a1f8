"""What every paper says of a plan, collected once: rows in words, figures, and their sources."""

from __future__ import annotations

import datetime as dt
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

from configurator.catalog import Catalog, Figure, load_catalog, parse_yaml
from configurator.cost import Cost, Line, Range
from configurator.cost.dates import When
from configurator.cost.hosts import Sourced, load_hosts
from configurator.cost.plan import host_price, switch_price
from configurator.cost.terms import Source
from configurator.engines import engine_constants
from configurator.estimate import Estimate, Term, running_engine
from configurator.export import text
from configurator.intervals import FILE as INTERVALS
from configurator.intervals import key as interval_key
from configurator.link import FEATURES
from configurator.recommend import Plan, Request
from configurator.recommend.plans import scenario_link
from configurator.scenario import ConfigModel, Scenario, SizeModel
from configurator.words import listed, phrases, say, sentences

PARTS = (
    "weights", "kv_cache", "activations", "gradients", "optimizer", "framework", "spare_pool",
)  # fmt: skip
SPEEDS: Mapping[str, str] = {
    "ttft_s": "s", "tpot_s": "s", "output_tokens_per_s": "tokens_per_s",
    "requests_per_s": "requests_per_s",
    "prefill_tokens_per_s": "tokens_per_s", "decode_tokens_per_s": "tokens_per_s",
    "train_tokens_per_s": "tokens_per_s",
}  # fmt: skip
EFFICIENCY = "efficiency.yaml"
_Date = When | dt.date | str | None
# Limits of a request that a paper repeats where they are set.
_LIMITS = (
    "max_budget", "max_power_w", "max_power_w_per_host", "max_gpus", "max_rack_units",
    "ttft_s_limit", "user_tokens_per_s_limit", "output_tokens_per_s_limit",
    "train_tokens_per_s_limit", "train_tokens_b", "train_days_limit", "spare_gpus",
)  # fmt: skip
_SWITCHES = ("spare_node", "sure_prices", "export_limits", "accept_tight")
_SERVING = ("concurrency", "input_tokens", "output_tokens", "max_model_len")
_TRAINING = (
    "method", "mixed_precision", "micro_batch_size", "sequence_length", "gradient_accumulation",
    "optimizer", "gradient_checkpointing", "lora_rank", "sharding", "offload",
)  # fmt: skip


@dataclass(frozen=True)
class SourceRow:
    """Where figures come from; ``shown`` is the date in words."""

    id: str
    of: str
    text: str
    date: str
    shown: str


@dataclass(frozen=True)
class BillRow:
    """A line of the bill in words; ``usd`` is the unit price before exchange and rounding."""

    line: Line
    label: str
    usd: Range | None
    own: bool
    sources: str
    notes: str


@dataclass(frozen=True)
class SpeedRow:
    """A time or a rate with its 90 % interval."""

    id: str
    label: str
    value: float
    low: float | None
    high: float | None
    unit: str


@dataclass(frozen=True)
class MemoryRow:
    """A part of the memory of the fullest GPU [GiB]."""

    id: str
    label: str
    gib: float


@dataclass(frozen=True)
class Rate:
    """A rate of the cost sheet, in the currency shown, and its sources."""

    id: str
    label: str
    amount: Range
    unit: str
    sources: str


@dataclass(frozen=True)
class TermRow:
    """Why a part of the memory is what it is."""

    label: str
    formula: str
    inputs: tuple[tuple[str, float | str, str, str], ...]
    value: float
    unit: str


class SourceList:
    """Sources in the order they are first named, each once: S1, S2 and so on."""

    def __init__(self, language: str) -> None:
        self._language = language
        self._found: dict[tuple[str, str], tuple[str, list[str], str]] = {}

    def add(self, of: str, words: str, day: _Date) -> str:
        """Return the id of a source, after adding it if it is new; nothing for no text."""
        if not words:
            return ""
        key = (words, day if isinstance(day, str) else day.isoformat() if day else "")
        if isinstance(day, When):
            shown = day.text(self._language)
        else:
            shown = text.date(day or None, self._language)
        name, what, _ = self._found.setdefault(key, (f"S{len(self._found) + 1}", [], shown))
        if of not in what:
            what.append(of)
        return name

    def all(self, of: str, pairs: Iterable[tuple[str, _Date]]) -> str:
        """Return the ids of several sources, joined."""
        ids = [self.add(of, words, day) for words, day in pairs]
        return ", ".join(dict.fromkeys(name for name in ids if name))

    @property
    def rows(self) -> tuple[SourceRow, ...]:
        """All of them."""
        return tuple(
            SourceRow(name, "; ".join(what), words, day, shown)
            for (words, day), (name, what, shown) in self._found.items()
        )


@dataclass(frozen=True)
class Facts:
    """One plan as its papers tell it, in one language."""

    plan: Plan
    request: Request
    language: str
    title: str
    link: str
    verdict: str
    fits: str
    scenario: tuple[tuple[str, str], ...]
    plan_rows: tuple[tuple[str, str], ...]
    limits: tuple[tuple[str, str], ...]
    why: tuple[str, ...]
    notes: tuple[str, ...]
    memory: tuple[MemoryRow, ...]
    speed: tuple[SpeedRow, ...]
    bill: tuple[BillRow, ...]
    rates: Mapping[str, Rate]
    terms: tuple[TermRow, ...]
    rent_sources: Mapping[str, str]
    per_token_label: str
    exclusions: tuple[str, ...]
    sources: tuple[SourceRow, ...] = field(repr=False)

    @property
    def cost(self) -> Cost:
        """The plan's cost."""
        return self.plan.cost

    @property
    def estimate(self) -> Estimate:
        """The plan's estimate."""
        return self.plan.estimate

    @property
    def catalog_date(self) -> str:
        """The catalog's newest date, as ``YYYY-MM-DD``."""
        day = self.plan.catalog.version
        return f"{day[:4]}-{day[4:6]}-{day[6:]}" if len(day) == 8 else day

    @property
    def installed(self) -> int:
        """Cards switched on: in use, of a second load, spare."""
        return self.rented + self.plan.spare_gpus

    @property
    def rented(self) -> int:
        """Cards in use: what renting would have to replace."""
        return self.plan.gpu_count + (self.plan.beside.gpu_count if self.plan.beside else 0)


def facts_of(plan: Plan, request: Request, language: str, address: str = "") -> Facts:
    """Collect what a plan's papers say.

    Args:
        plan: The plan.
        request: What was asked; its limits are repeated.
        language: ``en`` or ``zh``.
        address: Of the page, put before the link's parameters.
    """

    def words(key: str, **values: Any) -> str:
        return say(f"export.{key}", language, **values)

    answer, cost, catalog = plan.estimate, plan.cost, plan.catalog
    sources = SourceList(language)
    memory = tuple(
        MemoryRow(name, _part(name, language), float(getattr(answer.memory, f"{name}_gib")))
        for name in PARTS
        if getattr(answer.memory, f"{name}_gib")
    )
    bill = _bill(plan, language, sources)
    rates = _rates(plan, language, sources)
    rents: dict[str, str] = {
        rent.rental: sources.all(
            words(f"rental.{rent.rental}"), ((s, rent.price.date) for s in rent.price.sources)
        )
        for rent in cost.rents
    }
    terms = _terms(answer, catalog, language, sources)
    for ref in answer.sources:
        _reference(ref, catalog, language, sources)
    _method(answer, catalog, language, sources)
    named = cost.to_dict(language)
    notices = [n for n in (*answer.warnings, *answer.assumptions) if n.severity != "info"]
    notices += [n for n in answer.assumptions if n.severity == "info"]
    notes = [n.text(language) for n in notices]
    said = {reason.code for reason in plan.limits}
    unsaid = (note for note in named["assumptions"] if f"price_{note['code']}" not in said)
    notes += [note["text"] for note in unsaid]
    notes += [reason.to_dict(language)["text"] for reason in (*plan.missing, *plan.limits)]
    cards = f"{plan.gpu_count} × {plan.name}"
    title = words("title", cards=cards, model=model_name(plan.scenario))
    fits = fits_word(answer)
    return Facts(
        plan=plan, request=request, language=language, title=title,
        link=address + scenario_link(plan.scenario, request, catalog.version),
        verdict=words(
            f"verdict.{fits}", need=text.decimal(answer.memory.required_gib, language, 1),
            room=text.decimal(answer.memory.budget_gib, language, 1),
            free=text.decimal(answer.memory.headroom_gib, language, 1),
        ),
        fits=fits,
        scenario=_scenario(plan.scenario, answer, language),
        plan_rows=_plan_rows(plan, language),
        limits=_limits(request, language),
        why=tuple(reason.to_dict(language)["text"] for reason in plan.why),
        notes=tuple(dict.fromkeys(notes)),
        memory=memory, speed=_speed(plan, request, language), bill=bill, rates=rates, terms=terms,
        rent_sources=rents,
        per_token_label=words(f"per_million{'_training' if plan.scenario.is_training else ''}"),
        exclusions=tuple(named["exclusions"]), sources=sources.rows,
    )  # fmt: skip


def fits_word(answer: Estimate) -> str:
    """Return ``yes``, ``tight`` or ``no``."""
    fits = answer.memory.fits
    return "tight" if fits == "tight" else "yes" if fits is True else "no"


def short_ids(joined: str) -> str:
    """Return ``S3, S7–S9`` for ``S3, S7, S8, S9``."""
    numbers = sorted(int(name[1:]) for name in joined.split(", ") if name)
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(
        f"S{run[0]}–S{run[-1]}" if len(run) > 2 else ", ".join(f"S{n}" for n in run) for run in runs
    )


def model_name(scenario: Scenario) -> str:
    """Return what the scenario's model is called."""
    model = scenario.model
    if isinstance(model, SizeModel):
        return f"{model.parameters_b:g}B"
    return model.name if isinstance(model, ConfigModel) else model


def _part(name: str, language: str) -> str:
    return text.first_of((f"export.part.{name}", f"app.part.{name}"), language, name)


def _field(name: str, language: str) -> str:
    return text.first_of(
        (f"export.field.{name}", f"app.field.{name}"), language, name.replace("_", " ")
    )


def _shown(name: str, value: Any, language: str) -> str:
    if isinstance(value, bool):
        return say(f"export.{'yes' if value else 'no'}", language)
    if isinstance(value, int | float):
        return text.decimal(value, language, 2)
    return text.option(name, value, language)


def _scenario(scenario: Scenario, answer: Estimate, language: str) -> tuple[tuple[str, str], ...]:
    precision = text.option("precision", answer.precision, language)
    rows = [
        (_field("model", language), model_name(scenario)),
        (_field("task", language), text.option("task", scenario.task, language)),
        (_field("precision", language), precision),
    ]
    if answer.kv is not None:
        cache = text.option("kv_cache_precision", answer.kv.precision, language)
        rows.append((_field("kv_cache_precision", language), cache))
    rows.append((_field("engine", language), text.option("engine", scenario.engine, language)))
    block: Any = scenario.fitting if scenario.is_training else scenario.serving
    adapters = scenario.is_training and scenario.fitting.method != "full"
    for name in _TRAINING if scenario.is_training else _SERVING:
        value = getattr(block, name)
        if value is not None and (adapters or not name.startswith("lora")):
            rows.append((_field(name, language), _shown(name, value, language)))
    return tuple(rows)


def _plan_rows(plan: Plan, language: str) -> tuple[tuple[str, str], ...]:
    split, cost = plan.estimate.split, plan.cost
    rows = [
        (_field("tier", language), text.first_of((f"app.tier.{plan.tier}",), language, plan.tier)),
        (_field("gpu", language), plan.name),
        (_field("gpu_count", language), str(plan.gpu_count)),
    ]
    if plan.beside is not None:
        rows.append((_field("beside", language), str(plan.beside.gpu_count)))
    rows += [
        (_field("spare_gpus", language), str(plan.spare_gpus)),
        (_field("bought", language), str(plan.bought)),
        (_field("nodes", language), str(plan.nodes)),
        (_field("tensor_parallel", language), str(split.tensor)),
        (_field("pipeline_parallel", language), str(split.pipeline)),
        (_field("expert_parallel", language), str(split.expert)),
        (_field("data_parallel", language), str(split.data)),
        (_field("rack_units", language), text.decimal(plan.rack_units, language, 1)),
        (_field("peak_power", language), f"{text.decimal(cost.peak_power_w, language)} W"),
        (_field("kwh_per_year", language), f"{text.decimal(cost.kwh_per_year, language)} kWh"),
    ]
    return tuple(rows)


def _limits(request: Request, language: str) -> tuple[tuple[str, str], ...]:
    rows = [
        (_field(name, language), text.option(name, getattr(request, name), language))
        for name in ("objective", "region", "condition")
    ]

    def limit(part: Any, name: str, whose: str = "") -> None:
        value = getattr(part, name)
        if value is None:
            return
        shown = (
            text.money(value, request.currency, language)
            if name in ("max_budget", "other_purchase")
            else text.decimal(value, language, 3)
        )
        rows.append((_field(name, language) + whose, shown))

    for name in _LIMITS:
        limit(request, name)
    for tier, edit in request.tiers.items():
        for name in ("max_budget", "max_power_w", "other_purchase"):
            limit(edit, name, f" · {say(f'app.tier.{tier}', language)}")
    if request.also is not None:
        task = text.option("task", request.also.task, language)
        rows.append((_field("also", language), phrases(language, model_name(request.also), task)))
    for name in _SWITCHES:
        if getattr(request, name):
            rows.append((_field(name, language), say("export.yes", language)))
    features = [name for name in FEATURES if getattr(request, name)]
    if features:
        shown = listed(language, (text.option("features", name, language) for name in features))
        rows.append((_field("features", language), shown))
    for name in ("vendors", "segments", "form_factors", "gpus", "without_gpus"):
        values = getattr(request, name)
        if values:
            shown = listed(language, (text.option(name, value, language) for value in values))
            rows.append((_field(name, language), shown))
    if request.owned:
        gpus = load_catalog().gpus
        owned = listed(
            language,
            (
                f"{count} × {gpus[gpu].name if gpu in gpus else gpu}"
                for gpu, count in request.owned.items()
            ),
        )
        rows.append((_field("owned", language), owned))
    return tuple(rows)


def _speed(plan: Plan, request: Request, language: str) -> tuple[SpeedRow, ...]:
    found = plan.estimate.performance
    rows = []
    for name, unit in SPEEDS.items():
        value = getattr(found, name)
        if value is not None:
            low, high = getattr(found, f"{name}_low"), getattr(found, f"{name}_high")
            label = say(f"export.speed.{name}", language)
            shown = text.first_of((f"export.unit.{unit}",), language, unit)
            rows.append(SpeedRow(name, label, float(value), low, high, shown))
    rates = (found.train_tokens_per_s, found.train_tokens_per_s_high, found.train_tokens_per_s_low)
    days, least, most = (request.train_days(rate) for rate in rates)
    if days is not None:
        label, shown = say("export.speed.train_days", language), say("export.unit.days", language)
        rows.append(SpeedRow("train_days", label, days, least, most, shown))
    return tuple(rows)


def _bill(plan: Plan, language: str, sources: SourceList) -> tuple[BillRow, ...]:
    parts = {name: price for name, _, price in host_price(plan.catalog, plan.host).parts}
    switch = switch_price(plan.catalog)
    prices = {"card": plan.price, **parts, **({"switch": switch} if switch else {})}
    rows = []
    for line in plan.cost.lines:
        label = say(f"cost.line.{line.id}", language, name=line.text)
        price = prices.get(line.id) if line.group == "purchase" else None
        said = (text.first_of((f"cost.note.{code}",), language, "") for code in line.notes)
        rows.append(
            BillRow(
                line, label, price.amount if price else None, "own_price" in line.notes,
                sources.add(label, _given(line.source, language), line.date),
                sentences(language, *(note for note in said if note)),
            )
        )  # fmt: skip
    return tuple(rows)


def _given(words: str, language: str) -> str:
    return say("export.given", language) if words == "given" else words


def _rates(plan: Plan, language: str, sources: SourceList) -> dict[str, Rate]:
    """The rates that the cost sheet counts with, each with its source."""
    terms, catalog = plan.terms, plan.catalog
    rates = load_hosts(catalog).rates
    host = load_hosts(catalog).host(plan.host)
    gpu = catalog.gpu(plan.gpu)
    out: dict[str, Rate] = {}

    def add(name: str, amount: Range, unit: str, source: Source | Sourced | Figure | None) -> None:
        label = say(f"export.rate.{name}", language)
        found = ""
        if isinstance(source, Source):
            found = sources.add(label, _given(source.text, language), source.date)
        elif source is not None:
            found = sources.add(label, source.source, source.date)
        out[name] = Rate(name, label, amount, unit, found)

    money = terms.currency
    add("years", Range.exact(terms.years), "", None)
    add("utilisation", Range.exact(terms.utilisation), "", None)
    add("tariff", terms.tariff * terms.rate, f"{money}/kWh", terms.sources.get("tariff"))
    add("pue", terms.pue, "", terms.sources.get("pue"))
    add("idle", Range.exact(terms.idle), "", rates.idle_power_share)
    add("card_w", Range.exact(gpu.tdp_w.value if gpu.tdp_w else 0.0), "W", gpu.tdp_w)
    add("host_w", Range.exact(host.host_w.value), "W", host.host_w)
    month = say("export.unit.month", language)
    add("hosting", terms.hosting * terms.rate, f"{money}/kW/{month}", terms.sources.get("hosting"))
    add("support", terms.support, "", terms.sources.get("support", _none(rates.support_share)))
    add("staff", terms.staff, "", terms.sources.get("staff"))
    add("resale", terms.resale, "", terms.sources.get("resale", _none(rates.resale_share)))
    other = "CNY" if money == "USD" else money
    rate = catalog.currencies[other].per_usd
    add("exchange", Range.exact(rate.value), f"{other}/USD", rate)
    return out


def _none(rate: Sourced) -> Source:
    return Source(rate.source, When.on(rate.date))


def _terms(
    answer: Estimate, catalog: Catalog, language: str, sources: SourceList
) -> tuple[TermRow, ...]:
    def inputs(term: Term) -> Iterable[tuple[str, float | str, str, str]]:
        for given in term.inputs:
            value = given.value if isinstance(given.value, str) else float(given.value)
            label = text.symbol_name(given.symbol, language)
            found = _reference(given.source, catalog, language, sources) if given.source else ""
            yield label, value, given.unit, found

    return tuple(
        TermRow(
            _term(term.path, language), text.formula_text(term.formula, language),
            tuple(inputs(term)), float(term.value), term.unit,
        )
        for term in answer.terms
    )  # fmt: skip


def _term(path: str, language: str) -> str:
    name = path.split(".", 1)[-1]
    part = name.removesuffix("_gib")
    keys = (f"export.part.{part}", f"app.part.{part}", f"export.speed.{name}")
    return text.first_of(keys, language, name)


def _reference(ref: str, catalog: Catalog, language: str, sources: SourceList) -> str:
    """Return the ids of what a reference such as ``gpu:h100-sxm`` stands for."""
    kind, _, name = ref.partition(":")
    if kind == "model" and name in catalog.models:
        record = catalog.models[name]
        return sources.add(name, record.source, record.source_date)
    if kind == "gpu" and name in catalog.gpus:
        gpu = catalog.gpus[name]
        figures = [
            gpu.memory_mib or gpu.memory_gb, gpu.usable_gib, gpu.bandwidth_gb_s, gpu.tdp_w,
            *gpu.rates.values(),
        ]  # fmt: skip
        return sources.all(gpu.name, ((f.source, f.date) for f in figures if f is not None))
    if kind == "engine":
        return _engine(name, language, sources)
    if kind == "efficiency":
        return _speed_source(catalog, language, sources)
    return sources.add(ref, ref, None)


def _engine(name: str, language: str, sources: SourceList) -> str:
    """The constants of an engine and of every device, from ``catalog/engines.yaml``."""
    constants = engine_constants()
    # An engine without a section of its own is a training framework.
    section = name if name in constants else "training"
    label = text.option("engine", name, language)
    used = [*constants.get(section, {}).values(), *constants["device"].values()]
    plain = (c for c in used if not c.source.startswith("same "))
    return sources.all(label, ((c.source, c.date) for c in plain))


def _head(catalog: Catalog, file: str) -> Mapping[str, Any]:
    raw: Mapping[str, Any] = parse_yaml((catalog.directory / file).read_text(encoding="utf-8"))
    return raw


@lru_cache(maxsize=8)
def _fit(catalog: Catalog) -> tuple[int, str]:
    """Cases behind the speed's coefficients, and the day of the fit."""
    head = _head(catalog, EFFICIENCY)
    return head["cases"], head["date"]


def _speed_source(catalog: Catalog, language: str, sources: SourceList) -> str:
    cases, day = _fit(catalog)
    words = say("export.source.speed", language, count=cases)
    return sources.add(say("export.head.speed", language), words, day)


def _method(answer: Estimate, catalog: Catalog, language: str, sources: SourceList) -> None:
    """Add what the intervals and the speed rest on: the fits to measured cases."""
    table = _head(catalog, INTERVALS)
    row = table["intervals"].get(
        interval_key(running_engine(answer.scenario), answer.scenario.task)
    )
    key = "interval" if row else "interval_default"
    words = say(f"export.source.{key}", language, count=row["n"] if row else 0)
    sources.add(say("export.memory_interval", language), words, table["date"])
    _speed_source(catalog, language, sources)
