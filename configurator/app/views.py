"""What the page says, worked out from the engine's answers. Pure: no Streamlit here."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from configurator.app import numbers
from configurator.app.charts import Curve, Mark, Part
from configurator.article import rule_of_thumb_gib
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import (
    Estimate,
    Input,
    Term,
    architecture_of,
    device_of,
    interval,
    mtp_by_default,
)
from configurator.memory.kv_cache import resolve_kv_precision
from configurator.memory.serving import serving_memory
from configurator.memory.training import training_memory
from configurator.memory.weights import resolve_precision
from configurator.parallelism import choose_split
from configurator.scenario import ConfigModel, CustomGpu, Hardware, Scenario, SizeModel
from configurator.units import GIB
from configurator.words import say

PARTS = ("weights", "gradients", "optimizer", "activations", "kv_cache", "framework")
CURVE_POINTS = 28
BREAK_COUNTS = (1, 2, 4, 8)
LEAST_SHARE = 0.0005  # parts below this share of the card are not drawn
SEARCH_STEPS = 14
LEAST_STEP = 1.4  # a break point that is not this much further says nothing new
CONTEXT_STEP = 256


def _words(language: str) -> Callable[..., str]:
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
    text = _words(language)
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


@dataclass(frozen=True)
class Verdict:
    """The one sentence: how it stands (``good``, ``tight``, ``bad``) and its words in markdown."""

    state: str
    text: str


def verdict(answer: Estimate, language: str) -> Verdict:
    """Return whether the scenario's cards do it, and by how much."""
    text = _words(language)
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
    if memory.fits is False or (short and memory.fits is not True):
        return Verdict("bad", text("verdict.bad", **values))
    if memory.fits == "tight":
        return Verdict("tight", text("verdict.tight", **values))
    return Verdict("good", text("verdict.good", **values))


# --------------------------------------------------------------------------- the meter


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
    said = "; ".join(f"{part.name} {part.text}" for part in parts)
    return parts, limit, edge, f"{said}. {limit.text}; {edge.text}."


def _part(kind: str, size: float, language: str) -> Part:
    return Part(kind, say(f"app.part.{kind}", language), size, numbers.gib(size, language))


# --------------------------------------------------------------------------- curves


def replaced(scenario: Scenario, **changes: Any) -> Scenario:
    """Return a scenario with fields of its blocks replaced, e.g. ``inference_concurrency=4``."""
    blocks: dict[str, dict[str, Any]] = {}
    for name, value in changes.items():
        block, field = name.split("__", 1)
        blocks.setdefault(block, {})[field] = value
    update = {
        block: getattr(scenario, block).model_copy(update=values)
        for block, values in blocks.items()
    }
    return scenario.model_copy(update=update)


def on_cards(scenario: Scenario, count: int) -> Scenario:
    """Return the scenario on so many of its cards, split as the engine thinks best."""
    hardware = scenario.hardware
    assert hardware is not None
    if count == hardware.gpu_count:
        return scenario
    bare = Hardware(gpu=hardware.gpu, gpu_count=count, allow_cpu_offload=hardware.allow_cpu_offload)
    return scenario.model_copy(update={"hardware": bare})


def spaced(low: float, high: float, points: int = CURVE_POINTS) -> list[int]:
    """Return whole numbers about evenly spaced on a logarithmic scale, ends included."""
    step = (math.log(high) - math.log(low)) / (points - 1)
    return sorted({round(math.exp(math.log(low) + i * step)) for i in range(points)})


def _ticks(
    low: float, high: float, text: Callable[[int], str], base: int
) -> tuple[tuple[float, str], ...]:
    """Return at most eight ticks at powers of a base."""
    powers = [base**i for i in range(40) if low <= base**i <= high]
    every = max(1, math.ceil(len(powers) / 7))
    return tuple((float(p), text(p)) for p in powers[::every])


@dataclass(frozen=True)
class Axis:
    """A quantity of the scenario that a curve grows: its path, its range and its words."""

    path: str
    title: str
    low: int
    high: int
    text: Callable[[int], str]
    base: int
    snap: int = 1


def axes(scenario: Scenario, context_limit: int | None, language: str) -> list[Axis]:
    """Return what the planner's curves run over: users and context, or batch and sequence."""
    text = _words(language)

    def count(value: int) -> str:
        return numbers.count(value, language)

    if scenario.is_training:
        fitting = scenario.fitting
        return [
            Axis("training__micro_batch_size", text("field.micro_batch_size"), 1,
                 max(64, 4 * fitting.micro_batch_size), count, 2),
            Axis("training__sequence_length", text("field.sequence_length"),
                 min(512, fitting.sequence_length), max(32768, 4 * fitting.sequence_length),
                 numbers.tokens_about, 2, CONTEXT_STEP),
        ]  # fmt: skip
    serving = scenario.serving
    longest = max(context_limit or 131072, 2 * serving.context_tokens, 8192)
    return [
        Axis("inference__concurrency", text("field.concurrency"), 1,
             max(128, 4 * serving.concurrency), count, 2),
        Axis("inference__context", text("axis.context"), min(1024, serving.context_tokens),
             longest, numbers.tokens_about, 2, CONTEXT_STEP),
    ]  # fmt: skip


def at(scenario: Scenario, path: str, value: int) -> Scenario:
    """Return the scenario with one of a curve's quantities set; context keeps its in:out share."""
    if path != "inference__context":
        return replaced(scenario, **{path: value})
    serving = scenario.serving
    share = serving.output_tokens / serving.context_tokens
    out = min(value, round(value * share))
    changes = {"inference__input_tokens": value - out, "inference__output_tokens": out}
    if serving.max_model_len is not None and serving.max_model_len < value:
        changes["inference__max_model_len"] = value
    return replaced(scenario, **changes)


def value_of(scenario: Scenario, path: str) -> int:
    """Return a curve's quantity as the scenario has it."""
    if path == "inference__context":
        return scenario.serving.context_tokens
    block, field = path.split("__", 1)
    return int(getattr(getattr(scenario, block), field))


@dataclass(frozen=True)
class Need:
    """Memory on the fullest card, GiB: what is needed with its 90 % range, and what is usable."""

    required: float
    low: float
    high: float
    budget: float

    @property
    def fits(self) -> bool:
        """Whether the middle of the estimate fits."""
        return self.required <= self.budget


def need(scenario: Scenario) -> Need:
    """Return a scenario's memory alone: the estimate's own terms without its speed.

    Raises:
        InputError: The split that was asked for is not legal.
    """
    arch = architecture_of(scenario)
    assert scenario.hardware is not None
    device = device_of(scenario.hardware.gpu)
    split = choose_split(scenario, arch, int(device.domain_size))
    ranks = (split.tensor, split.pipeline, split.expert, split.data)
    precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
    if scenario.is_training:
        trained = training_memory(
            arch, precision, scenario.fitting, scenario.engine, *ranks,
            device_bytes=device.memory_bytes,
        )  # fmt: skip
        required, budget = float(trained.total), float(device.memory_bytes)
    else:
        kv_precision = resolve_kv_precision(
            scenario.kv_cache_precision, scenario.engine, precision, arch.native_precision,
            arch.quantization,
        )  # fmt: skip
        held = serving_memory(
            arch, precision, kv_precision, scenario.engine, scenario.serving, device.memory_bytes,
            *ranks, with_mtp=mtp_by_default(arch, scenario.engine),
        )  # fmt: skip
        required, budget = float(held.required), float(held.budget)
    low, high = interval(scenario.engine, scenario.task)
    gib = required / GIB
    return Need(gib, gib * (1 + low), gib * (1 + high), budget / GIB)


def largest(scenario: Scenario, axis: Axis) -> int:
    """Return the largest value of a quantity that still fits, 0 if none does.

    Memory never falls as users, context, batch or sequence grow, so halving the range finds it.
    """
    low, high = axis.low, axis.high
    if not need(at(scenario, axis.path, low)).fits:
        return 0
    if need(at(scenario, axis.path, high)).fits:
        return high
    for _ in range(SEARCH_STEPS):
        if high - low <= axis.snap:
            break
        middle = round(math.sqrt(low * high))
        if middle <= low or middle >= high or high < 2 * low:
            middle = (low + high) // 2
        if need(at(scenario, axis.path, middle)).fits:
            low = middle
        else:
            high = middle
    return max(axis.low, low - low % axis.snap)


def breaks(scenario: Scenario, axis: Axis, language: str) -> Iterator[Mark]:
    """Yield where this many cards no longer do, for the cards there are and multiples of them."""
    hardware = scenario.hardware
    assert hardware is not None
    found = 0
    for factor in BREAK_COUNTS:
        count = hardware.gpu_count * factor
        try:
            most = largest(on_cards(scenario, count), axis)
        except InputError:
            continue
        if most >= axis.high:
            return
        if most > found * LEAST_STEP:
            found = most
            yield Mark(most, say("app.curve.break", language, count=count, most=axis.text(most)))


def curve(scenario: Scenario, axis: Axis, language: str) -> Curve:
    """Return memory on the fullest card against one quantity, with the points where it breaks."""
    text = _words(language)
    now = value_of(scenario, axis.path)
    values = sorted({*spaced(axis.low, axis.high), now})
    needs = [need(at(scenario, axis.path, value)) for value in values]
    budget = needs[0].budget
    return Curve(
        tuple(float(value) for value in values),
        tuple(n.required for n in needs),
        tuple(n.low for n in needs),
        tuple(n.high for n in needs),
        axis.title,
        text("axis.memory"),
        _ticks(axis.low, axis.high, axis.text, axis.base),
        Mark(budget, text("meter.limit", room=numbers.gib(budget, language))),
        Mark(now, text("curve.now", value=axis.text(now))),
        tuple(breaks(scenario, axis, language)),
        tuple(
            f"{axis.text(value)}: {numbers.gib(n.required, language)}"
            for value, n in zip(values, needs)
        ),
    )


def with_rule_of_thumb(data: Curve, scenario: Scenario, axis: Axis, language: str) -> Curve:
    """Return a curve with the article's rule of thumb beside ours, shared evenly by the cards."""
    hardware = scenario.hardware
    assert hardware is not None
    arch = architecture_of(scenario)
    rule = tuple(
        rule_of_thumb_gib(at(scenario, axis.path, int(value)), arch) / hardware.gpu_count
        for value in data.x
    )
    return replace(data, other=rule, other_name=say("app.curve.rule", language))


def curve_text(data: Curve, language: str) -> str:
    """Return what a curve shows, for those who do not see it."""
    if not data.breaks:
        return say("app.curve.all_fit", language, title=data.x_title, top=data.x_ticks[-1][1])
    return f"{data.x_title}: " + "; ".join(mark.text for mark in data.breaks)


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
)


def speeds(performance: Any, language: str) -> list[Speed]:
    """Return the figures of speed that the task has."""
    get = performance.get if isinstance(performance, Mapping) else (
        lambda name: getattr(performance, name, None)
    )  # fmt: skip
    found = []
    for key, kind in _SPEEDS:
        value = get(key)
        if value is None:
            continue
        ends = (get(f"{key}_low"), get(f"{key}_high"))
        if kind == "pace":  # a reader thinks in tokens a second, not in seconds a token
            shown, ends = _inverse(value), (_inverse(ends[1]), _inverse(ends[0]))
            said = numbers.rate(shown, language)
            said_ends = [numbers.rate(end, language) for end in ends]
        else:
            say_it = numbers.seconds if kind == "time" else numbers.rate
            said = say_it(value, language)
            said_ends = [say_it(end, language) for end in ends]
        spread = "" if ends[0] is None or ends[1] is None else f"{said_ends[0]} – {said_ends[1]}"
        found.append(
            Speed(
                key,
                say(f"app.speed.{key}", language),
                said,
                say(f"app.speed.{key}_short", language, value=said),
                spread,
                say(f"app.speed.{key}_meaning", language),
            )
        )
    return found


def _inverse(value: float | None) -> float | None:
    return None if not value else 1 / value


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
    for key in (f"app.part.{name}", f"app.speed.{name}", f"app.term.{name}"):
        try:
            return say(key, language)
        except KeyError:
            continue
    return name.replace("_", " ")


def symbol_name(symbol: str, language: str) -> str:
    """Return what a figure of a formula is called."""
    try:
        return say(f"app.symbol.{symbol}", language)
    except KeyError:
        return symbol.replace("_", " ").replace(".", " ")


def figure(value: Any, unit: str, language: str) -> str:
    """Return a figure that was put into a formula."""
    if isinstance(value, bool | str):
        return str(value)
    if unit == "GiB":
        return numbers.gib(float(value), language)
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
        return f"{record.source}, {numbers.date(record.source_date, language)}"
    if kind == "gpu" and name in catalog.gpus:
        figure_ = catalog.gpus[name].memory_mib or catalog.gpus[name].memory_gb
        return f"{figure_.source}, {numbers.date(figure_.date, language)}"
    if kind == "engine":
        return say("app.source_engine", language)
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
    return (
        symbol_name(given.symbol, language),
        figure(given.value, given.unit, language),
        source(given.source, language) if given.source else "",
    )


def reason(term: Term, language: str) -> Reason:
    """Return a term as the page shows it."""
    return Reason(
        term_name(term.path, language),
        figure(term.value, term.unit, language),
        term.formula,
        tuple(_input_row(given, language) for given in term.inputs),
    )


def sources(answer: Estimate, language: str) -> Sequence[tuple[str, str]]:
    """Return every source of an estimate: what it is of, and where it comes from."""
    return [(_source_name(ref, language), source(ref, language)) for ref in answer.sources]
