"""The planner's curves, worked out from the engine: memory as a load grows, speed under load."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from configurator import numbers
from configurator.app.charts import Curve, LoadCurve, Mark, Stop
from configurator.app.views import NO_LIMITS, Limits, limits_text, wording
from configurator.article import rule_of_thumb_gib
from configurator.capacity import load as load_at
from configurator.capacity import users_within
from configurator.errors import InputError
from configurator.estimate import architecture_of, device_of, held_memory, memory_interval
from configurator.memory.training import training_memory
from configurator.memory.weights import resolve_precision
from configurator.parallelism import choose_split
from configurator.scenario import Hardware, Scenario
from configurator.units import GIB
from configurator.words import clauses, labelled, say

CURVE_POINTS = 20
BREAK_COUNTS = (1, 2, 4, 8)
SEARCH_STEPS = 24
LEAST_STEP = 1.4  # a break point that is not this much further says nothing new
CONTEXT_STEP = 256


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
    text = wording(language)

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
        precision = resolve_precision(scenario, arch)
        trained = training_memory(
            arch, precision, scenario.fitting, scenario.engine, *ranks,
            device_bytes=device.memory_bytes,
        )  # fmt: skip
        required, budget = float(trained.total), float(device.memory_bytes)
    else:
        held = held_memory(scenario, arch, device, *ranks)
        required, budget = float(held.required), float(held.budget)
    low, high = memory_interval(scenario, device.vendor)
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
        first = (low // axis.snap + 1) * axis.snap  # the grid strictly between the ends
        last = -(-high // axis.snap) * axis.snap - axis.snap
        if first > last:
            break
        if step % 3 == 0:  # memory is close to a straight line
            share = (below.budget - below.required) / (above.required - below.required)
            probe = low + int(share * (high - low))
        elif step % 3 == 1:  # so the edge is beside what it gives
            probe += axis.snap if probe == low else -axis.snap
        else:
            probe = (low + high) // 2
        probe = min(max(probe - probe % axis.snap, first), last)
        found = need(at(scenario, axis.path, probe))
        if found.fits:
            low, below = probe, found
        else:
            high, above = probe, found
    return low


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
    text = wording(language)
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
        fits = max(data.y) <= data.limit.value
        key = "app.curve.all_fit" if fits else "app.curve.none_fit"
        return say(key, language, title=data.x_title, top=data.x_ticks[-1][1])
    points = clauses(language, (mark.text for mark in data.breaks))
    return say("app.curve.breaks", language, title=data.x_title, points=points)


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
    text = wording(language)
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
        parts.append(labelled(language, data.most.text, data.hover[data.most.at]))
    if limits != NO_LIMITS:
        parts.append(limits_text(limits, language))
    return say("app.load_curve.stop", language).join([*parts, ""]).strip()
