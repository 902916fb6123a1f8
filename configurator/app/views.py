"""What the page says, worked out from the engine's answers. Pure: no Streamlit here."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from configurator import numbers
from configurator.app.charts import Curve, LoadCurve, Mark, Part, Stop
from configurator.article import rule_of_thumb_gib
from configurator.capacity import load as load_at
from configurator.capacity import users_within
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import (
    Estimate,
    Input,
    Term,
    architecture_of,
    device_of,
    held_memory,
    interval,
)
from configurator.memory.training import training_memory
from configurator.memory.weights import resolve_precision
from configurator.parallelism import choose_split
from configurator.scenario import ConfigModel, CustomGpu, Hardware, Scenario, SizeModel
from configurator.units import GIB
from configurator.words import say

PARTS = ("weights", "gradients", "optimizer", "activations", "kv_cache", "framework")
CURVE_POINTS = 20
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
    if scenario.is_training:
        precision = resolve_precision(scenario.precision, arch.quantization, arch.native_precision)
        trained = training_memory(
            arch, precision, scenario.fitting, scenario.engine, *ranks,
            device_bytes=device.memory_bytes,
        )  # fmt: skip
        required, budget = float(trained.total), float(device.memory_bytes)
    else:
        held = held_memory(scenario, arch, device.memory_bytes, *ranks)
        required, budget = float(held.required), float(held.budget)
    low, high = interval(scenario.engine, scenario.task)
    gib = required / GIB
    return Need(gib, gib * (1 + low), gib * (1 + high), budget / GIB)


def largest(scenario: Scenario, axis: Axis) -> int:
    """Return the largest value of a quantity that still fits, 0 if none does.

    Memory never falls as users, context, batch or sequence grow, so narrowing the range finds it.
    """
    low, high = axis.low, axis.high
    below, above = need(at(scenario, axis.path, low)), need(at(scenario, axis.path, high))
    if not below.fits:
        return 0
    if above.fits:
        return high
    probe = 0
    for step in range(SEARCH_STEPS):
        if high - low <= axis.snap:
            break
        if step % 3 == 0:  # memory is close to a straight line
            share = (below.budget - below.required) / (above.required - below.required)
            probe = low + int(share * (high - low))
        elif step % 3 == 1:  # so the edge is beside what it gives
            probe += axis.snap if probe == low else -axis.snap
        else:
            probe = (low + high) // 2
        probe = min(max(probe, low + 1), high - 1)
        found = need(at(scenario, axis.path, probe))
        if found.fits:
            low, below = probe, found
        else:
            high, above = probe, found
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


# --------------------------------------------------------------------------- limits of speed

Limits = tuple[float | None, float | None]
NO_LIMITS: Limits = (None, None)


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


def limits_said(answer: Estimate, limits: Limits, language: str) -> Verdict | None:
    """Return whether an answer keeps the limits of speed, and how many users do; None without."""
    if limits == NO_LIMITS or answer.scenario.is_training or answer.memory.fits is False:
        return None
    most = users_within(answer.scenario, *limits)
    values = {
        "limits": numbers.plain(limits_text(limits, language)),
        "count": numbers.count(most, language),
    }
    if most >= answer.scenario.serving.concurrency:
        return Verdict("good", say("app.limits.held", language, **values))
    key = "app.limits.broken" if most else "app.limits.never"
    return Verdict("tight", say(key, language, **values))


# --------------------------------------------------------------------------- load

LOAD_BY = ("tps", "ttft")
LOAD_POINTS = 60
LEAST_LOAD = 32  # users that a load curve shows at least
LOAD_SPAN = 4  # times the users asked about
LOAD_DOTS = 5
_SECONDS = tuple(m * 10.0**e for e in range(-3, 5) for m in (1, 2, 5))


def load_curve(scenario: Scenario, by: str, limits: Limits, language: str) -> LoadCurve:
    """Return the throughput of a scenario's cards against what one user sees, from one user on.

    Args:
        scenario: Serving, with hardware.
        by: What one user sees: ``tps`` tokens a second, ``ttft`` seconds to the first token.
        limits: Marked where set.
        language: Of the words.
    """
    text = _words(language)
    hardware = scenario.hardware
    assert hardware is not None
    now = scenario.serving.concurrency
    most = users_within(scenario, *limits)
    top = max(LEAST_LOAD, LOAD_SPAN * now)
    if limits != NO_LIMITS:
        top = max(top, round(1.3 * most))
    users = sorted({*spaced(1, top, LOAD_POINTS), now, *([most] if 0 < most <= top else [])})
    found = load_at(scenario, users)
    whole, seen = found.output_tokens_per_s, found.ttft_s if by == "ttft" else found.tokens_per_s
    # What is better: less time, more tokens.
    good, bad = (seen.low, seen.high) if by == "ttft" else (seen.high, seen.low)
    ticks: tuple[tuple[float, str], ...] = ()
    if by == "ttft":
        inside = [s for s in _SECONDS if seen.low.min() <= s <= seen.high.max()]
        every = max(1, math.ceil(len(inside) / 7))
        ticks = tuple((s, numbers.seconds(s, language)) for s in inside[::every])
    powers = [p for p in (1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096) if p < top]
    dots = []
    for power in powers[:: max(1, math.ceil(len(powers) / LOAD_DOTS))]:
        place = min(range(len(users)), key=lambda i: abs(users[i] - power))
        if all(not 0.55 < users[place] / max(1, other) < 1.8 for other in (now, most)):
            dots.append(Stop(place, numbers.count(users[place], language)))
    hover = tuple(
        text(
            "load_curve.point",
            count=numbers.count(count, language),
            rate=numbers.rate(float(whole.value[i]), language),
            each=numbers.rate(float(found.tokens_per_s.value[i]), language),
            first=numbers.seconds(float(found.ttft_s.value[i]), language),
        )
        for i, count in enumerate(users)
    )
    limit_value = limits[0] if by == "ttft" else limits[1]
    limit = None
    if limit_value is not None:
        only = (limit_value, None) if by == "ttft" else (None, limit_value)
        limit = Mark(limit_value, limits_text(only, language))
    here = Stop(users.index(now), text("load_curve.now", count=numbers.count(now, language)))
    end = None
    if 0 < most <= top:
        if most == now:
            here = replace(here, text=text("load_curve.both", count=numbers.count(now, language)))
        else:
            key = "load_curve.most" if limits == NO_LIMITS else "load_curve.most_within"
            end = Stop(users.index(most), text(key, count=numbers.count(most, language)))
    return LoadCurve(
        tuple(map(float, seen.value)),
        tuple(map(float, whole.value)),
        tuple(zip(map(float, good), map(float, whole.high))),
        tuple(zip(map(float, bad), map(float, whole.low))),
        text(f"load_curve.by_{by}"),
        text("load_curve.together"),
        by == "ttft",
        ticks,
        tuple(dots),
        here,
        end,
        limit,
        hover,
    )


def load_text(data: LoadCurve, limits: Limits, language: str) -> str:
    """Return what a load curve shows, for those who do not see it."""
    parts = [data.hover[0]]
    if data.now is not None and data.now.at:
        parts.append(data.hover[data.now.at])
    if data.most is not None:
        parts.append(f"{data.most.text}: {data.hover[data.most.at]}")
    if limits != NO_LIMITS:
        parts.append(limits_text(limits, language))
    return say("app.load_curve.stop", language).join([*parts, ""]).strip()


# --------------------------------------------------------------------------- what is wrong

# How the engine words a complaint → its kind on the page, the figures by name. First match counts.
_WRONG = (
    (r"is not there", "not_there"),
    (r"must look like owner/name", "hub_name"),
    (r"is offline", "offline"),
    (r"could not be reached|did not answer", "no_network"),
    (r"is gated|is private", "no_access"),
    (r"is cut off", "cut_off"),
    (r"needs the package (?P<package>[\w-]+)", "needs_package"),
    (r"usual names|attention heads the model has", "needs_config"),
    (r"larger than any", "too_large"),
    (r"must be a \.gguf", "kind"),
    (r"damaged|no sound GGUF|no safetensors file", "damaged"),
    (r"is required", "required"),
    (r"is missing", "missing"),
    (r"is not a field of", "no_field"),
    (r"no \w+ of the catalog is called .*did you mean (?P<close>.+)\?", "unknown_close"),
    (r"no \w+ of the catalog is called", "unknown"),
    (r"does not do", "engine"),
    (r"cannot both be 0", "both_zero"),
    (r"has no meaning for", "no_meaning"),
    (r"needs more GPUs than given", "more_gpus"),
    (r"heads|width .* over|divide", "split"),
    (r"the model has no experts", "no_experts"),
    (r"(?:number|billions) from (?P<low>\S+) to (?P<high>[\d,.]*\d)", "between"),
    (r"at most (?:the model's )?(?:the number of experts, )?(?P<most>[\d,.]*\d)", "at_most"),
    (r"less than or equal to (?P<most>\S*\d)", "at_most"),
    (r"less than (?P<most>\S*\d)", "below"),
    (r"greater than or equal to (?P<least>\S*\d)", "at_least"),
    (r"greater than (?P<least>\S*\d)", "above"),
    (r"must be one of|must be 2, 3, 4 or 8", "one_of"),
    (r"whole number", "whole"),
    (r"finite number|must be a (?:positive )?number", "number"),
    (r"true or false", "flag"),
    (r"must be text|a string", "text"),
    (r"not (?:valid )?JSON|JSON object|object in each entry", "not_json"),
    (r"not known to the engine|does not know", "not_known"),
    (r"names no module", "no_module"),
    (r"at most .*(?:characters|entries|patterns)|more than", "too_much"),
)


def wrong(error: InputError, language: str) -> str:
    """Return what is wrong with an input, as a sentence of the page; plain text."""
    name = error.field.rsplit(".", 1)[-1]
    try:
        field = say(f"app.field.{name}", language)
    except KeyError:
        field = error.field
    for pattern, kind in _WRONG:
        match = re.search(pattern, error.message)
        if match is not None:
            return say(f"app.wrong.{kind}", language, field=field, **match.groupdict())
    return say("app.wrong.other", language, field=field)


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
        return f"{record.source}, {numbers.date(record.source_date, language)}"
    if kind == "gpu" and name in catalog.gpus:
        figure_ = catalog.gpus[name].memory_mib or catalog.gpus[name].memory_gb
        return f"{figure_.source}, {numbers.date(figure_.date, language)}"
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
        term.formula,
        tuple(_input_row(given, language) for given in term.inputs),
    )


def sources(answer: Estimate, language: str) -> Sequence[tuple[str, str]]:
    """Return every source of an estimate: what it is of, and where it comes from."""
    return [(_source_name(ref, language), source(ref, language)) for ref in answer.sources]
