"""What the page says, worked out from the engine's answers. Pure: no Streamlit here."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from configurator import numbers
from configurator.app.charts import Mark, Part
from configurator.capacity import users_within
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import Estimate, Input, Term
from configurator.export.text import formula_text, symbol_name
from configurator.recommend.request import DAY_S, Request
from configurator.scenario import ConfigModel, CustomGpu, Scenario, SizeModel
from configurator.words import clauses, listed, phrases, say, sentences, stop

PARTS = ("weights", "gradients", "optimizer", "activations", "kv_cache", "framework")
LEAST_SHARE = 0.0005  # parts below this share of the card are not drawn


def wording(language: str) -> Callable[..., str]:
    """Return what says the page's texts by key in a language."""

    def text(key: str, **values: Any) -> str:
        return say(f"app.{key}", language, **values)

    return text


def option(field: str, value: Any, language: str) -> str:
    """Return what a value of a field is called; an unknown one is called by itself."""
    try:
        return say(f"app.option.{field}.{value}", language)
    except KeyError:
        return str(value)


# --------------------------------------------------------------------------- names


def small(text: str) -> str:
    """Return Markdown as small print."""
    return f":small[:gray[{text}]]"


def model_name(scenario: Scenario, language: str) -> str:
    """Return what the scenario's model is called."""
    model = scenario.model
    if isinstance(model, SizeModel):
        return say("app.sized_model", language, size=numbers.billions(model.parameters_b, language))
    if isinstance(model, ConfigModel):
        return model.name
    record = load_catalog().models.get(model)
    return record.name if record else model.rsplit("/", 1)[-1]


def gpu_name(gpu: str | CustomGpu) -> str:
    """Return what a card is called."""
    if isinstance(gpu, CustomGpu):
        return gpu.name
    record = load_catalog().gpus.get(gpu)
    return record.name if record else gpu


def cards(count: int, gpu: str | CustomGpu) -> str:
    """Return e.g. ``2 × RTX 4090``."""
    return f"{count} × {gpu_name(gpu)}"


def load(scenario: Scenario, language: str) -> str:
    """Return in words what the cards are to do."""
    text = wording(language)
    if scenario.is_training:
        fitting = scenario.fitting
        method = fitting.method if scenario.task == "fine_tuning" else "train"
        return text(
            f"load.{method}",
            batch=numbers.count(fitting.micro_batch_size, language),
            tokens=numbers.tokens(fitting.sequence_length),
        )
    serving = scenario.serving
    key = "load.serve_one" if serving.concurrency == 1 else "load.serve"
    return text(
        key,
        count=numbers.count(serving.concurrency, language),
        tokens=numbers.tokens(serving.context_tokens),
    )


# --------------------------------------------------------------------------- the verdict


Tint = Literal["red", "orange", "blue", "green", "gray"]


@dataclass(frozen=True)
class Verdict:
    """The one sentence: how it stands (``good``, ``tight``, ``bad``) and its words in markdown."""

    state: str
    text: str


def not_included(cost: Mapping[str, Any], language: str) -> str:
    """Return what a cost, as :meth:`Cost.to_dict` gives it, leaves out."""
    given = any(line["id"] == "other" for line in cost["lines"])
    what = numbers.plain(listed(language, cost["exclusions"]))
    return say(f"app.plan.{'without_given' if given else 'without'}", language, what=what)


def verdict(answer: Estimate, language: str) -> Verdict:
    """Return whether the scenario's cards do it, and by how much."""
    text = wording(language)
    scenario, memory = answer.scenario, answer.memory
    hardware = scenario.hardware
    assert hardware is not None
    values = {
        "model": numbers.plain(model_name(scenario, language)),
        "precision": numbers.plain(option("precision", answer.precision, language)),
        "load": numbers.plain(load(scenario, language)),
        "cards": numbers.plain(cards(hardware.gpu_count, hardware.gpu)),
        "need": numbers.gib(memory.required_gib, language),
        "room": numbers.gib(memory.budget_gib, language),
        "headroom": numbers.gib(abs(memory.headroom_gib), language),
    }
    short = (
        answer.kv is not None
        and answer.kv.max_concurrency is not None
        and (answer.kv.max_concurrency < scenario.serving.concurrency)
    )
    if answer.cannot_run is not None:
        return Verdict("bad", numbers.plain(answer.cannot_run.text(language)))
    if memory.fits is False or (short and memory.fits is not True):
        return Verdict("bad", text("verdict.bad", **values))
    if memory.fits == "tight":
        return Verdict("tight", text("verdict.tight", **values))
    return Verdict("good", text("verdict.good", **values))


# --------------------------------------------------------------------------- the meter


def question(scenario: Scenario, language: str) -> str:
    """Return what is asked in a few words: the model and what is done with it."""
    return phrases(language, model_name(scenario, language), load(scenario, language))


def meter(answer: Estimate, language: str) -> tuple[list[Part], Mark, Mark, str]:
    """Return the meter's parts, the usable line, the card's edge, and all of it in words."""
    memory = answer.memory
    parts = []
    for kind in PARTS:
        size = float(getattr(memory, f"{kind}_gib"))
        if size > LEAST_SHARE * memory.capacity_gib:
            parts.append(_part(kind, size, language))
    if memory.headroom_gib > LEAST_SHARE * memory.capacity_gib:
        parts.append(_part("headroom", memory.headroom_gib, language))
    room, card = (
        numbers.gib(memory.budget_gib, language),
        numbers.gib(memory.capacity_gib, language),
    )
    limit = Mark(memory.budget_gib, say("app.meter.limit", language, room=room))
    edge = Mark(memory.capacity_gib, say("app.meter.card", language, card=card))
    said = clauses(language, (f"{part.name} {part.text}" for part in parts))
    end = stop(language)
    room = clauses(language, (limit.text, edge.text))
    return parts, limit, edge, sentences(language, said + end, room + end)


def _part(kind: str, size: float, language: str) -> Part:
    return Part(kind, say(f"app.part.{kind}", language), size, numbers.gib(size, language))


# --------------------------------------------------------------------------- speed


@dataclass(frozen=True)
class Speed:
    """One figure of speed: name with unit, value, value with unit, 90 % range, meaning."""

    key: str
    name: str
    value: str
    short: str
    range: str
    meaning: str


_SPEEDS = (
    ("ttft_s", "time"),
    ("tpot_s", "pace"),
    ("output_tokens_per_s", "rate"),
    ("requests_per_s", "rate"),
    ("train_tokens_per_s", "rate"),
    ("mfu", "share"),
)


def speeds(performance: Any, language: str, train_tokens_b: float | None = None) -> list[Speed]:
    """Return the figures of speed that the task has.

    Args:
        performance: An estimate's, as an object or as its JSON.
        language: Of the words.
        train_tokens_b: Billions of tokens in the whole training run, to say its days; those of
            one billion if None.
    """

    def get(name: str) -> Any:
        if isinstance(performance, Mapping):
            return performance.get(name)
        return getattr(performance, name, None)

    found = []
    for key, kind in _SPEEDS:
        value = get(key)
        if value is None:
            continue
        ends = (get(f"{key}_low"), get(f"{key}_high"))
        if kind == "pace":  # a reader thinks in tokens a second, not in seconds a token
            value, ends = _inverse(value), (_inverse(ends[1]), _inverse(ends[0]))
        said, *said_ends = (_SAID[kind](figure, language) for figure in (value, *ends))
        found.append(_speed(key, said, said_ends, language))
    rate = get("train_tokens_per_s")
    if rate:
        key = "train_days" if train_tokens_b else "billion_days"
        run_b = train_tokens_b or 1.0
        rates = (rate, get("train_tokens_per_s_high"), get("train_tokens_per_s_low"))
        said, *said_ends = (
            _days(run_b * 1e9 / at / DAY_S if at else None, language) for at in rates
        )
        tokens = numbers.billions(run_b, language)
        found.append(_speed(key, said, said_ends, language, tokens=tokens))
    return found


def _days(value: float | None, language: str) -> str:
    return numbers.NONE if value is None else numbers.significant(value, language, 2)


def _share(value: float | None, language: str) -> str:
    return numbers.percent(value, language)


_SAID: Mapping[str, Callable[[Any, str], str]] = {
    "time": numbers.seconds, "pace": numbers.rate, "rate": numbers.rate, "share": _share,
}  # fmt: skip


def _speed(key: str, said: str, ends: Sequence[str], language: str, **more: str) -> Speed:
    return Speed(
        key,
        say(f"app.speed.{key}", language),
        said,
        say(f"app.speed.{key}_short", language, value=said),
        "" if numbers.NONE in ends else " – ".join(ends),
        say(f"app.speed.{key}_meaning", language, **more),
    )


def _inverse(value: float | None) -> float | None:
    return None if not value else 1 / value


# --------------------------------------------------------------------------- limits of speed

Limits = tuple[float | None, float | None]
NO_LIMITS: Limits = (None, None)


def limits_asked(asked: Request) -> Limits:
    """Return the limits of speed that a request sets for each user."""
    return asked.ttft_s_limit, asked.user_tokens_per_s_limit


def limits_text(limits: Limits, language: str) -> str:
    """Return the limits that are set, in words."""
    ttft_s, tokens_per_s = limits
    parts = []
    if ttft_s is not None:
        parts.append(say("app.limits.ttft", language, value=numbers.seconds(ttft_s, language)))
    if tokens_per_s is not None:
        parts.append(say("app.limits.tps", language, value=numbers.rate(tokens_per_s, language)))
    return say("app.limits.and", language).join(parts)


def carries(scenario: Scenario, limits: Limits, language: str) -> str:
    """Return how many users a plan's cards carry within the limits; nothing without limits."""
    if limits == NO_LIMITS or scenario.is_training:
        return ""
    most = users_within(scenario, *limits)
    return say("app.limits.card", language, count=numbers.count(most, language))


def wanted(asked: Request, language: str) -> list[str]:
    """Return the limits of speed or of days that a request sets, as sentences."""
    if asked.scenario.is_training:
        if asked.train_days_limit is None:
            return []
        most = _days(asked.train_days_limit, language)
        return [say("app.limits.none_in_time", language, most=most)]
    said = []
    limits = limits_asked(asked)
    if limits != NO_LIMITS:
        said.append(
            say("app.limits.none", language, limits=numbers.plain(limits_text(limits, language)))
        )
    if (least := asked.output_tokens_per_s_limit) is not None:
        said.append(say("app.limits.none_together", language, least=numbers.rate(least, language)))
    return said


def kept(answer: Estimate, asked: Request, language: str) -> Verdict | None:
    """Return whether an answer keeps the limits asked for; None without any, or if it does not fit.

    Serving: for how many users the limits of each hold, and whether all together get theirs.
    Training: whether the run is done in time.
    """
    if answer.memory.fits is False:
        return None
    if answer.scenario.is_training:
        return _run_said(answer, asked.train_tokens_b, asked.train_days_limit, language)
    found = (
        _limits_said(answer, limits_asked(asked), language),
        _together_said(answer, asked.output_tokens_per_s_limit, language),
    )
    said = [verdict for verdict in found if verdict is not None]
    if not said:
        return None
    state = "tight" if any(verdict.state == "tight" for verdict in said) else "good"
    return Verdict(state, sentences(language, *(verdict.text for verdict in said)))


def _limits_said(answer: Estimate, limits: Limits, language: str) -> Verdict | None:
    if limits == NO_LIMITS:
        return None
    most = users_within(answer.scenario, *limits)
    values = {
        "limits": numbers.plain(limits_text(limits, language)),
        "count": numbers.count(most, language),
    }
    if most >= answer.scenario.serving.concurrency:
        key = "app.limits.held" if _surely(answer, limits) else "app.limits.likely"
        return Verdict("good", say(key, language, **values))
    key = "app.limits.broken" if most else "app.limits.never"
    return Verdict("tight", say(key, language, **values))


def _surely(answer: Estimate, limits: Limits) -> bool:
    """Whether the slow ends of the 90 % ranges keep the limits as well."""
    ttft_s, tokens_per_s = limits
    first, each = answer.performance.ttft_s_high, answer.performance.tpot_s_high
    late = ttft_s is not None and first is not None and first > ttft_s
    slow = tokens_per_s is not None and each is not None and 1 / each < tokens_per_s
    return not (late or slow)


def _together_said(answer: Estimate, least: float | None, language: str) -> Verdict | None:
    rate = answer.performance.output_tokens_per_s
    if least is None or rate is None:
        return None
    values = {"rate": numbers.rate(rate, language), "least": numbers.rate(least, language)}
    if rate >= least:
        return Verdict("good", say("app.limits.together", language, **values))
    return Verdict("tight", say("app.limits.too_little", language, **values))


def _run_said(
    answer: Estimate, tokens_b: float | None, most: float | None, language: str
) -> Verdict | None:
    rate = answer.performance.train_tokens_per_s
    if not (tokens_b and most and rate):
        return None
    days = tokens_b * 1e9 / rate / DAY_S
    values = {"days": _days(days, language), "most": _days(most, language)}
    if days <= most:
        return Verdict("good", say("app.limits.in_time", language, **values))
    return Verdict("tight", say("app.limits.too_late", language, **values))


# --------------------------------------------------------------------------- what is wrong


def field_name(path: str, language: str) -> str:
    """Return what a field is called; one that the page does not know is called by its path."""
    name = path.rsplit(".", 1)[-1]
    try:
        return say(f"app.field.{name}", language)
    except KeyError:
        return path


def wrong(error: InputError, language: str) -> str:
    """Return what is wrong with an input, as a sentence of the page; plain text."""
    field = field_name(error.field, language)
    return say("app.wrong", language, field=field, sentence=error.text(language))


# --------------------------------------------------------------------------- why


@dataclass(frozen=True)
class Reason:
    """Why a number is what it is, ready to show: the formula and the figures put in."""

    name: str
    result: str
    formula: str
    inputs: tuple[tuple[str, str, str], ...]


def term_name(path: str, language: str) -> str:
    """Return what a term is called; an unknown path is called by itself."""
    name = path.split(".", 1)[-1].removesuffix("_gib")
    for key in (f"app.term.{name}", f"app.part.{name}", f"app.speed.{name}"):
        try:
            return say(key, language)
        except KeyError:
            continue
    return name.replace("_", " ")


def figure(value: Any, unit: str, language: str) -> str:
    """Return a figure that was put into a formula."""
    if isinstance(value, bool | str):
        return str(value)
    if unit == "GiB":
        return numbers.gib(float(value), language)
    if unit == "s":
        return numbers.seconds(float(value), language)
    number = float(value)
    if number.is_integer() and abs(number) < 1e15:
        shown = numbers.decimal(number, language)
    else:
        shown = numbers.significant(number, language, 4)
    return f"{shown} {unit}".strip()


def source(ref: str, language: str) -> str:
    """Return where a figure comes from: text and date of the catalog's source, else the ref."""
    kind, _, name = ref.partition(":")
    catalog = load_catalog()
    if kind == "model" and name in catalog.models:
        record = catalog.models[name]
        return phrases(language, record.source, numbers.date(record.source_date, language))
    if kind == "gpu" and name in catalog.gpus:
        figure_ = catalog.gpus[name].memory_mib or catalog.gpus[name].memory_gb
        return phrases(language, figure_.source, numbers.date(figure_.date, language))
    if kind == "engine":
        return say("app.source_engine", language)
    if kind == "efficiency":
        return say("app.source_efficiency", language)
    return ref


def _source_name(ref: str, language: str) -> str:
    """Return what a source is of, by its name on the page."""
    kind, _, name = ref.partition(":")
    catalog = load_catalog()
    if kind == "model" and name in catalog.models:
        return catalog.models[name].name
    if kind == "gpu":
        return gpu_name(name)
    return option(kind, name, language)


def _input_row(given: Input, language: str) -> tuple[str, str, str]:
    origin = source(given.source, language) if given.source else ""
    card = load_catalog().gpus.get(given.source.partition(":")[2])
    if card is not None and given.symbol in ("bandwidth", "flop_rate"):
        rates = (figure_ for figure_ in card.rates.values() if figure_.value == given.value)
        stated = card.bandwidth_gb_s if given.symbol == "bandwidth" else next(rates, None)
        origin = f"{stated.source}, {numbers.date(stated.date, language)}" if stated else ""
    return (
        symbol_name(given.symbol, language),
        figure(given.value, given.unit, language),
        origin,
    )


def reason(term: Term, language: str) -> Reason:
    """Return a term as the page shows it."""
    return Reason(
        term_name(term.path, language),
        figure(term.value, term.unit, language),
        formula_text(term.formula, language),
        tuple(_input_row(given, language) for given in term.inputs),
    )


def sources(answer: Estimate, language: str) -> Sequence[tuple[str, str]]:
    """Return every source of an estimate: what it is of, and where it comes from."""
    return [(_source_name(ref, language), source(ref, language)) for ref in answer.sources]
