"""A plan against this machine's cards as they are now: does it fit, what would have to stop, what
fits instead. No Streamlit here.
"""  # noqa: D205

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from configurator import numbers
from configurator.app import curves, views
from configurator.app.machine_view import (
    Holder,
    card_name,
    free_gib,
    here,
    holders,
    is_system_memory,
    machine_say,
)
from configurator.app.presets import ladder
from configurator.app.savings import savings
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import Estimate, architecture_of, estimate
from configurator.gpu_readers import GpuReading
from configurator.memory.serving import visible_bytes
from configurator.recommend import ways
from configurator.recommend.candidates import cards_of
from configurator.scenario import CustomGpu, Hardware, Scenario
from configurator.units import GIB
from configurator.words import say, sentences

LEAST_SHARE = 0.05  # a smaller share of the card is not worth telling vLLM
FREE_CARD = 0.95  # a card with this share of its memory free counts as unused
SHOWN_INSTEAD = 4
SHOWN_MODELS = 3
GOOD_FIRST = ("now", "tight", "unknown", "stop", "bad")


# --------------------------------------------------------------------------- does it fit, now


def _groups(gpus: Sequence[GpuReading]) -> list[list[GpuReading]]:
    """Return the cards that can be planned with, like ones together, the freest first."""
    groups: dict[Any, list[GpuReading]] = {}
    for gpu in gpus:
        named = here(gpu)
        if named is not None:
            groups.setdefault(named, []).append(gpu)
    return [
        sorted(group, key=lambda g: -1.0 if free_gib(g) is None else -(free_gib(g) or 0.0))
        for group in groups.values()
    ]


@dataclass(frozen=True)
class Placing:
    """A question on this machine's cards.

    Attributes:
        answer: The estimate on these cards, as if they were empty.
        cards: Those it would take, the freest ones of their kind.
        like: All cards of that kind.
        state: ``now`` beside what runs; ``tight``: the estimate's error decides; ``stop``: only
            when something stops; ``bad``: not even on empty cards; ``unknown``: free memory is
            not reported, but it fits on empty cards.
        free_gib: Free now on the fullest of the cards.
        share: What vLLM has to be told to take of a card, where its default is more than is free.
    """

    answer: Estimate
    cards: tuple[GpuReading, ...]
    like: tuple[GpuReading, ...]
    state: str
    free_gib: float | None
    share: float | None = None

    @property
    def need_gib(self) -> float:
        """Memory that the fullest card needs."""
        return self.answer.memory.required_gib


def place(scenario: Scenario, gpus: Sequence[GpuReading]) -> Placing | None:
    """Return the best way to run a question here; ``None`` without a card that can be planned.

    A plan that names a card of this machine keeps its number of cards and its split; any other
    takes the fewest cards that do it now, else the fewest that would do it empty.

    Raises:
        InputError: The question cannot be split over these cards at all.
    """
    found: list[tuple[tuple[Any, ...], Placing]] = []
    problem: InputError | None = None
    for group in _groups(gpus):
        for count in _counts(scenario, group):
            try:
                placing = _on(scenario, group, count)
            except InputError as error:
                problem = problem or error
                continue
            memory = placing.answer.memory
            short = max(0.0, memory.required_gib - memory.budget_gib)
            rank = GOOD_FIRST.index(placing.state)
            found.append(((rank, short if placing.state == "bad" else 0.0, count), placing))
    if not found:
        if problem is not None:
            raise problem
        return None
    return min(found, key=lambda pair: pair[0])[1]


def _counts(scenario: Scenario, group: Sequence[GpuReading]) -> Sequence[int]:
    most = 1 if group[0].mig_profile is not None else len(group)
    hardware = scenario.hardware
    if hardware is not None and hardware.gpu == here(group[0]):
        return (min(hardware.gpu_count, most),)
    return sorted({n for n in (1, 2, 4, 8, 16, most) if n <= most})


def _on(scenario: Scenario, group: Sequence[GpuReading], count: int) -> Placing:
    named = here(group[0])
    assert named is not None
    hardware = scenario.hardware
    if hardware is None or hardware.gpu != named or hardware.gpu_count != count:
        offload = hardware is not None and hardware.allow_cpu_offload
        hardware = Hardware(gpu=named, gpu_count=count, allow_cpu_offload=offload)
    answer = estimate(scenario.model_copy(update={"hardware": hardware}))
    cards = tuple(group[:count])
    frees = [free for gpu in cards if (free := free_gib(gpu)) is not None]
    free = min(frees) if len(frees) == len(cards) else None
    memory = answer.memory
    empty = views.verdict(answer, "en").state
    if empty == "bad":
        state = "bad"
    elif free is None:
        state = "unknown"
    elif memory.required_gib > free:
        state = "stop"
    else:
        state = "now" if memory.required_high_gib <= free and empty == "good" else "tight"
    placing = Placing(answer, cards, tuple(group), state, free)
    return _told(placing) if state in ("now", "tight") else placing


def _told(placing: Placing) -> Placing:
    """Return the placing with the share that vLLM has to be told, where its own is too much."""
    answer, free = placing.answer, placing.free_gib
    hardware = answer.scenario.hardware
    assert hardware is not None
    if answer.scenario.engine != "vllm" or free is None or is_system_memory(hardware.gpu):
        return placing
    if answer.memory.total_gib <= free:
        return placing
    asked = answer.scenario.serving.gpu_memory_utilization
    whole = float(visible_bytes(answer.memory.capacity_gib * GIB)) / GIB
    for hundredths in range(min(99, int(100 * free / whole)), int(100 * LEAST_SHARE), -1):
        share = hundredths / 100
        told = estimate(curves.replaced(answer.scenario, inference__gpu_memory_utilization=share))
        if told.memory.total_gib > free:
            continue
        if share == asked or views.verdict(told, "en").state == "bad":
            break
        state = "tight" if views.verdict(told, "en").state == "tight" else placing.state
        return replace(placing, answer=told, share=share, state=state)
    return replace(placing, state="stop")


def verdict(placing: Placing, asked: Scenario, tongue: str) -> views.Verdict:
    """Return the one sentence about here and now, with its numbers."""
    answer, memory = placing.answer, placing.answer.memory
    scenario, hardware = answer.scenario, answer.scenario.hardware
    assert hardware is not None
    room = min(memory.budget_gib, memory.capacity_gib)
    values = {
        "model": numbers.plain(views.model_name(scenario, tongue)),
        "precision": numbers.plain(views.option("precision", answer.precision, tongue)),
        "load": numbers.plain(views.load(scenario, tongue)),
        "cards": numbers.plain(cards_text(placing, tongue)),
        "need": numbers.gib(memory.required_gib, tongue),
        "room": numbers.gib(room, tongue),
        "free": "" if placing.free_gib is None else numbers.gib(placing.free_gib, tongue),
        "short": numbers.gib(max(0.0, memory.required_gib - (placing.free_gib or 0.0)), tongue),
        "lacks": numbers.gib(max(0.0, memory.required_gib - room), tongue),
        "spare": numbers.gib(max(0.0, (placing.free_gib or 0.0) - memory.required_gib), tongue),
    }
    text = machine_say(f"verdict.{placing.state}", tongue, **values)
    if placing.state == "bad" and memory.headroom_gib >= 0:
        text = machine_say("verdict.bad_users", tongue, **values, most=numbers.count(
            answer.kv.max_concurrency if answer.kv else 0, tongue))  # fmt: skip
    wanted = asked.hardware
    if wanted is not None and (wanted.gpu, wanted.gpu_count) != (hardware.gpu, hardware.gpu_count):
        names = numbers.plain(views.cards(wanted.gpu_count, wanted.gpu))
        text = sentences(tongue, text, machine_say("verdict.other_cards", tongue, plan=names))
    if placing.share is not None:
        share = machine_say("verdict.share", tongue, share=f"{placing.share:.2f}")
        text = sentences(tongue, text, share)
    state = {"now": "good", "tight": "tight", "unknown": "tight", "stop": "bad", "bad": "bad"}
    return views.Verdict(state[placing.state], text)


def cards_text(placing: Placing, tongue: str) -> str:
    """Return e.g. ``2 of 8 × H100``, or ``RTX 4090``."""
    hardware = placing.answer.scenario.hardware
    assert hardware is not None
    name = card_name(hardware.gpu, tongue)
    count, all_ = len(placing.cards), len(placing.like)
    if all_ == 1:
        return name
    key = "cards_all" if count == all_ else "cards_some"
    return machine_say(key, tongue, count=count, all=all_, name=name)


# --------------------------------------------------------------------------- what has to stop


@dataclass(frozen=True)
class Stop:
    """What would have to end for a question to fit.

    Attributes:
        processes: Largest first.
        short_gib: Still missing when all of them ended: held by what this user cannot see, by the
            display, or by processes whose memory is not reported.
    """

    processes: tuple[Holder, ...]
    short_gib: float


def to_stop(placing: Placing) -> Stop:
    """Return the fewest processes, largest first, whose end makes room on every card taken."""
    memory = placing.answer.memory
    target = memory.required_high_gib if memory.fits is True else memory.required_gib
    free = {id(gpu): free_gib(gpu) or 0.0 for gpu in placing.cards}
    chosen: list[Holder] = []
    for holder in holders(placing.cards):
        short = [gpu for gpu in placing.cards if free[id(gpu)] < target]
        if not short:
            break
        held = {
            id(gpu): (process.memory_bytes or 0) / GIB
            for gpu in placing.cards
            for process in gpu.processes or ()
            if process.pid == holder.pid
        }
        if any(held.get(id(gpu)) for gpu in short) or holder.gib is None:
            chosen.append(holder)
            for key, gib in held.items():
                free[key] += gib
    return Stop(tuple(chosen), max(0.0, memory.required_gib - min(free.values())))


# --------------------------------------------------------------------------- what fits instead


@dataclass(frozen=True)
class Instead:
    """A change with which it fits here and now: its words' keys and values, and the question."""

    codes: tuple[str, ...]
    values: Mapping[str, Any]
    scenario: Scenario
    need_gib: float
    host_gib: float = 0.0


def instead_text(found: Instead, tongue: str) -> str:
    """Return a change in words, with what it then needs."""
    parts = []
    for code in found.codes:
        values = dict(found.values)
        if code == "model":
            values["precision"] = views.option("precision", values["precision"], tongue)
        if code in ("shorter", "model"):
            parts.append(machine_say(f"instead.{code}", tongue, **values))
            continue
        if "count" in values:
            values["count"] = numbers.count(values["count"], tongue)
        parts.append(say(f"app.saving.{code}", tongue, **values))
    what = machine_say("instead.and", tongue).join(parts)
    need = numbers.gib(found.need_gib, tongue)
    if found.host_gib:
        host = numbers.gib(found.host_gib, tongue)
        return machine_say("instead.line_host", tongue, what=what, need=need, host=host)
    return machine_say("instead.line", tongue, what=what, need=need)


def _needs(scenario: Scenario, room: float) -> float | None:
    """Return what a question needs if it surely fits into the room, else ``None``."""
    try:
        found = curves.need(scenario)
    except InputError:
        return None
    return found.required if found.high <= min(room, found.budget) else None


def instead(placing: Placing, main_memory_gib: float | None = None) -> list[Instead]:
    """Return changes of the question with which it fits beside what runs, the mildest first.

    Args:
        placing: The question on the cards here.
        main_memory_gib: What the machine has; what needs more of it is left out. None: not known.
    """
    scenario, room = placing.answer.scenario, placing.free_gib
    room = float("inf") if room is None else room
    single = list(_singles(placing, room, main_memory_gib or float("inf")))
    if not single and not scenario.is_training:
        single = list(_doubles(placing, room))
    if not single:
        single = list(_models(placing, room))
    return single[:SHOWN_INSTEAD]


def _singles(placing: Placing, room: float, main_memory_gib: float) -> Iterator[Instead]:
    answer, scenario = placing.answer, placing.answer.scenario
    yield from _more_cards(placing)
    last: list[Instead] = []
    for saving in savings(answer):
        if saving.code in ("more_cards", "fewer_users"):
            continue
        needed = _needs(saving.scenario, room)
        if needed is not None:
            host = estimate(saving.scenario).memory.host_gib
            if host > main_memory_gib:
                continue
            found = Instead((saving.code,), saving.values, saving.scenario, needed, host)
            hard = saving.code in ("weights_4bit", "qlora", "lora", "offload", "offload_deepspeed")
            if hard:
                last.append(found)
            else:
                yield found
    if not scenario.is_training:
        yield from _less_load(scenario, room)
    yield from last


def _more_cards(placing: Placing) -> Iterator[Instead]:
    scenario = placing.answer.scenario
    hardware = scenario.hardware
    assert hardware is not None
    if placing.cards[0].mig_profile is not None:
        return
    for count in range(hardware.gpu_count + 1, len(placing.like) + 1):
        frees = [free_gib(gpu) for gpu in placing.like[:count]]
        wider = curves.on_cards(scenario, count)
        needed = _needs(wider, min(float("inf") if f is None else f for f in frees))
        if needed is not None:
            yield Instead(("more_cards",), {"count": count}, wider, needed)
            return


def _most(low: int, high: int, fits: Any) -> int:
    """Return the largest number below ``high`` that fits, 0 if not even ``low`` does."""
    if high <= low or not fits(low):
        return 0
    while high - low > max(1, low // 64):
        middle = (low + high) // 2
        low, high = (middle, high) if fits(middle) else (low, middle)
    return low


def _less_load(scenario: Scenario, room: float) -> Iterator[Instead]:
    serving = scenario.serving
    users = _most(
        1, serving.concurrency,
        lambda n: _needs(curves.replaced(scenario, inference__concurrency=n), room) is not None,
    )  # fmt: skip
    if users:
        fewer = curves.replaced(scenario, inference__concurrency=users)
        yield Instead(("fewer_users",), {"count": users}, fewer, _needs(fewer, room) or 0.0)

    def shorter(tokens: int) -> Scenario:
        short = curves.at(scenario, "inference__context", tokens)
        longest = serving.max_model_len
        if longest is not None and longest > tokens:
            short = curves.replaced(short, inference__max_model_len=tokens)
        return short

    least = min(curves.CONTEXT_STEP, serving.context_tokens)
    tokens = _most(least, serving.context_tokens, lambda n: _needs(shorter(n), room) is not None)
    tokens -= tokens % curves.CONTEXT_STEP if tokens > curves.CONTEXT_STEP else 0
    if tokens:
        needed = _needs(shorter(tokens), room)
        if needed is not None:
            said = {"tokens": numbers.tokens(tokens)}
            yield Instead(("shorter",), said, shorter(tokens), needed)


def _doubles(placing: Placing, room: float) -> Iterator[Instead]:
    """Yield two changes at a time, where none alone is enough."""
    answer = placing.answer
    found = {s.code: s for s in savings(answer)}
    for code in ("weights_8bit", "weights_4bit"):
        first = found.get(code)
        if first is None:
            continue
        scenario = first.scenario
        cache = found.get("kv_8bit")
        if cache is not None:
            both = scenario.model_copy(
                update={"kv_cache_precision": cache.scenario.kv_cache_precision}
            )
            needed = _needs(both, room)
            if needed is not None:
                yield Instead((code, "kv_8bit"), {}, both, needed)
        for less in _less_load(scenario, room):
            yield replace(less, codes=(code, *less.codes))


def _models(placing: Placing, room: float) -> Iterator[Instead]:
    """Yield smaller models that carry the same load here, largest first."""
    scenario, hardware = placing.answer.scenario, placing.answer.scenario.hardware
    assert hardware is not None
    if scenario.is_training or isinstance(hardware.gpu, CustomGpu):
        return
    if hardware.gpu not in cards_of(load_catalog()).places:
        return
    cards = {hardware.gpu: hardware.gpu_count}
    size = architecture_of(scenario).parameters
    shown = 0
    for model in reversed(ladder()):
        if architecture_of(scenario.model_copy(update={"model": model})).parameters >= size:
            continue
        bare = scenario.model_copy(update={"model": model, "hardware": None})
        for way in ways(cards, bare, (bare.engine,), free_bytes=room * GIB):
            needed = _needs(way.scenario, room)
            if needed is None:
                continue
            name = views.model_name(way.scenario, "en")
            said = {"model": name, "precision": way.precision}
            yield Instead(("model",), said, way.scenario, needed)
            shown += 1
        if shown == SHOWN_MODELS:
            return


def owned(placing: Placing) -> dict[str, int]:
    """Return the cards that an upgrade can build on: all of them, or the unused ones if busy."""
    hardware = placing.answer.scenario.hardware
    if hardware is None or isinstance(hardware.gpu, CustomGpu):
        return {}
    cards = placing.like
    if placing.state != "bad":
        cards = tuple(
            gpu for gpu in cards
            if gpu.memory_total_bytes
            and (free_gib(gpu) or 0.0) >= FREE_CARD * gpu.memory_total_bytes / GIB
        )  # fmt: skip
    return {hardware.gpu: len(cards)} if cards else {}
