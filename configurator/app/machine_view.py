"""What the machine page says: tiles, a plan against the cards as they are now, and a running job
against its estimate. Pure: no Streamlit here.
"""  # noqa: D205

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from configurator.app import numbers, views
from configurator.app.charts import Mark, Part
from configurator.app.presets import ladder
from configurator.app.savings import savings
from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.estimate import Estimate, architecture_of, estimate
from configurator.gpu_readers import GpuReading, Problem
from configurator.live import Snapshot
from configurator.memory.serving import visible_bytes
from configurator.recommend import what_runs
from configurator.scenario import CustomGpu, Hardware, Scenario, parse_scenario
from configurator.units import GIB
from configurator.words import say

POOL_ENGINES = ("vllm", "sglang", "tensorrt_llm")  # they take a share of the card at start
LEAST_SHARE = 0.05  # a smaller share of the card is not worth telling vLLM
FREE_CARD = 0.95  # a card with this share of its memory free counts as unused
NOISE_GIB = 0.5  # less than this held by others explains nothing
SHOWN_INSTEAD = 4
SHOWN_MODELS = 3
GOOD_FIRST = ("now", "tight", "unknown", "stop", "bad")


def _say(key: str, tongue: str, **values: Any) -> str:
    return say(f"app.machine.{key}", tongue, **values)


# --------------------------------------------------------------------------- tiles and problems


@dataclass(frozen=True)
class Tile:
    """One GPU as the page shows it; what the card does not report says so."""

    title: str
    memory: str
    share: float | None
    facts: tuple[tuple[str, str], ...]


def _said(value: float | None, unit: str, tongue: str, digits: int = 0) -> str:
    if value is None:
        return views.say("app.not_reported", tongue)
    return f"{numbers.decimal(float(value), tongue, digits)} {unit}".strip()


def tile(gpu: GpuReading, tongue: str) -> Tile:
    """Return what a card's tile says."""
    used, total = gpu.memory_used_bytes, gpu.memory_total_bytes
    missing = views.say("app.not_reported", tongue)
    memory = missing
    if used is not None and total is not None:
        memory = f"{numbers.gib(used / GIB, tongue)} / {numbers.gib(total / GIB, tongue)}"
    elif total is not None:
        memory = numbers.gib(total / GIB, tongue)
    link = missing
    if gpu.pcie_generation is not None and gpu.pcie_width is not None:
        link = f"{gpu.pcie_generation}.0 ×{gpu.pcie_width}"
    power = _said(gpu.power_w, "W", tongue)
    if gpu.power_w is not None and gpu.power_limit_w is not None:
        power = f"{numbers.decimal(gpu.power_w, tongue)} / {_said(gpu.power_limit_w, 'W', tongue)}"
    names = ("utilization", "temperature", "power", "clock", "pcie", "processes")
    values = (
        _said(gpu.utilization_percent, "%", tongue),
        _said(gpu.temperature_c, "°C", tongue),
        power,
        _said(gpu.sm_clock_mhz, "MHz", tongue),
        link,
        missing if gpu.processes is None else str(len(gpu.processes)),
    )
    return Tile(
        f"GPU {gpu.index} · {gpu.name}",
        memory,
        used / total if used is not None and total else None,
        tuple((views.say(f"app.live.{name}", tongue), value) for name, value in zip(names, values)),
    )


def problem_text(problem: Problem, snapshot: Snapshot, tongue: str) -> str:
    """Return a problem in a language; the reader's own English where there is no other."""
    name = next((g.name for g in snapshot.gpus if g.index == problem.gpu_index), "")
    if tongue == "en":
        return problem.message
    try:
        return views.say(
            f"app.live_problem.{problem.code}", tongue, index=problem.gpu_index, name=name
        )
    except KeyError:
        return problem.message


# --------------------------------------------------------------------------- the cards


def here(gpu: GpuReading) -> str | CustomGpu | None:
    """Return the card as a scenario names it: from the catalog, else by the values read.

    A MIG slice has its share of the whole card's bandwidth, as it has of its memory.
    """
    if gpu.catalog_id is not None:
        return gpu.catalog_id
    total, bandwidth = gpu.memory_total_bytes, gpu.memory_bandwidth_gbps
    parent = load_catalog().gpus.get(gpu.parent_catalog_id or "")
    if total is not None and parent is not None and parent.bandwidth_gb_s is not None:
        bandwidth = parent.bandwidth_gb_s.value * min(1.0, total / parent.memory_bytes)
    if total is None or bandwidth is None:
        return None
    return CustomGpu(
        name=gpu.name[:200],
        memory_gib=round(total / GIB, 3),
        bandwidth_gbps=round(bandwidth, 1),
    )


def free_gib(gpu: GpuReading) -> float | None:
    """Return what nobody holds of a card now; ``None`` if it is not reported."""
    if gpu.memory_total_bytes is None or gpu.memory_used_bytes is None:
        return None
    held = gpu.memory_used_bytes + (gpu.memory_reserved_bytes or 0)
    return max(0.0, (gpu.memory_total_bytes - held) / GIB)


def answering(snapshot: Snapshot) -> tuple[GpuReading, ...]:
    """Return the GPUs that still answer."""
    lost = {p.gpu_index for p in snapshot.problems if p.code == "gpu_lost"}
    return tuple(gpu for gpu in snapshot.gpus if gpu.index not in lost)


def shares_memory(snapshot: Snapshot) -> tuple[GpuReading, ...]:
    """Return the GPUs whose memory is the machine's (GB10, Jetson).

    A card that the catalog knows to have its own is not one, whatever it keeps silent about.
    """
    shared = {p.gpu_index for p in snapshot.problems if p.code == "unified_memory"}
    own = {gpu.id for gpu in load_catalog().gpus.values() if gpu.usable_gib is None}
    return tuple(
        gpu for gpu in answering(snapshot) if gpu.index in shared and gpu.catalog_id not in own
    )


def with_system_memory(snapshot: Snapshot) -> tuple[GpuReading, ...]:
    """Return the cards that share the machine's memory with that memory as theirs.

    Without any such card: one stand-in that is the machine's memory itself. It has no known
    bandwidth, so nothing but its memory may be spoken of (see `is_system_memory`).
    """
    total, free = snapshot.system_total_bytes, snapshot.system_available_bytes
    if total is None:
        return ()
    used = None if free is None else total - free
    shared = [g for g in shares_memory(snapshot) if here(g)]
    if shared:
        return tuple(replace(g, memory_total_bytes=total, memory_used_bytes=used) for g in shared)
    return (
        GpuReading(
            index=0, name=SYSTEM_MEMORY, memory_total_bytes=total, memory_used_bytes=used,
            memory_bandwidth_gbps=1.0,
        ),
    )  # fmt: skip


SYSTEM_MEMORY = "system memory"


def is_system_memory(gpu: str | CustomGpu) -> bool:
    """Whether a scenario's card is the stand-in for the machine's memory."""
    return isinstance(gpu, CustomGpu) and gpu.name == SYSTEM_MEMORY


def card_name(gpu: str | CustomGpu, tongue: str) -> str:
    """Return what a card of this machine is called."""
    return _say("system_memory", tongue) if is_system_memory(gpu) else views.gpu_name(gpu)


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


# --------------------------------------------------------------------------- does it fit, now


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
    whole = float(visible_bytes(answer.memory.capacity_gib))
    for hundredths in range(min(99, int(100 * free / whole)), int(100 * LEAST_SHARE), -1):
        share = hundredths / 100
        told = estimate(views.replaced(answer.scenario, inference__gpu_memory_utilization=share))
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
    text = _say(f"verdict.{placing.state}", tongue, **values)
    if placing.state == "bad" and memory.headroom_gib >= 0:
        text = _say("verdict.bad_users", tongue, **values, most=numbers.count(
            answer.kv.max_concurrency if answer.kv else 0, tongue))  # fmt: skip
    wanted = asked.hardware
    if wanted is not None and (wanted.gpu, wanted.gpu_count) != (hardware.gpu, hardware.gpu_count):
        names = numbers.plain(views.cards(wanted.gpu_count, wanted.gpu))
        text += " " + _say("verdict.other_cards", tongue, plan=names)
    if placing.share is not None:
        text += " " + _say("verdict.share", tongue, share=f"{placing.share:.2f}")
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
    return _say(key, tongue, count=count, all=all_, name=name)


# --------------------------------------------------------------------------- what has to stop


@dataclass(frozen=True)
class Holder:
    """A process on cards of this machine, with what it holds on all of them."""

    pid: int
    gib: float | None
    owner: str | None
    command: tuple[str, ...] | None
    gpus: tuple[int, ...]


def holders(gpus: Iterable[GpuReading]) -> list[Holder]:
    """Return the processes on cards, largest first, those of unknown size last."""
    found: dict[int, Holder] = {}
    for gpu in gpus:
        for process in gpu.processes or ():
            held = None if process.memory_bytes is None else process.memory_bytes / GIB
            known = found.get(process.pid)
            if known is None:
                found[process.pid] = Holder(
                    process.pid, held, process.owner, process.command, (gpu.index,)
                )
                continue
            sum_ = None if known.gib is None and held is None else (known.gib or 0) + (held or 0)
            places = tuple(dict.fromkeys((*known.gpus, gpu.index)))
            found[process.pid] = replace(known, gib=sum_, gpus=places)
    return sorted(found.values(), key=lambda h: (h.gib is None, -(h.gib or 0.0)))


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


def instead_text(found: Instead, tongue: str) -> str:
    """Return a change in words, with what it then needs."""
    parts = []
    for code in found.codes:
        values = dict(found.values)
        if code == "model":
            values["precision"] = views.option("precision", values["precision"], tongue)
        if code in ("shorter", "model"):
            parts.append(_say(f"instead.{code}", tongue, **values))
            continue
        if "count" in values:
            values["count"] = numbers.count(values["count"], tongue)
        parts.append(say(f"app.saving.{code}", tongue, **values))
    what = _say("instead.and", tongue).join(parts)
    return _say("instead.line", tongue, what=what, need=numbers.gib(found.need_gib, tongue))


def _needs(scenario: Scenario, room: float) -> float | None:
    """Return what a question needs if it surely fits into the room, else ``None``."""
    try:
        found = views.need(scenario)
    except InputError:
        return None
    return found.required if found.high <= min(room, found.budget) else None


def instead(placing: Placing) -> list[Instead]:
    """Return changes of the question with which it fits beside what runs, the mildest first."""
    scenario, room = placing.answer.scenario, placing.free_gib
    room = float("inf") if room is None else room
    single = list(_singles(placing, room))
    if not single and not scenario.is_training:
        single = list(_doubles(placing, room))
    if not single:
        single = list(_models(placing, room))
    return single[:SHOWN_INSTEAD]


def _singles(placing: Placing, room: float) -> Iterator[Instead]:
    answer, scenario = placing.answer, placing.answer.scenario
    yield from _more_cards(placing)
    last: list[Instead] = []
    for saving in savings(answer):
        if saving.code in ("more_cards", "fewer_users"):
            continue
        needed = _needs(saving.scenario, room)
        if needed is not None:
            found = Instead((saving.code,), saving.values, saving.scenario, needed)
            hard = saving.code in ("weights_4bit", "qlora", "lora", "offload")
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
        wider = views.on_cards(scenario, count)
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
        lambda n: _needs(views.replaced(scenario, inference__concurrency=n), room) is not None,
    )  # fmt: skip
    if users:
        fewer = views.replaced(scenario, inference__concurrency=users)
        yield Instead(("fewer_users",), {"count": users}, fewer, _needs(fewer, room) or 0.0)

    def shorter(tokens: int) -> Scenario:
        short = views.at(scenario, "inference__context", tokens)
        longest = serving.max_model_len
        if longest is not None and longest > tokens:
            short = views.replaced(short, inference__max_model_len=tokens)
        return short

    least = min(views.CONTEXT_STEP, serving.context_tokens)
    tokens = _most(least, serving.context_tokens, lambda n: _needs(shorter(n), room) is not None)
    tokens -= tokens % views.CONTEXT_STEP if tokens > views.CONTEXT_STEP else 0
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
    size = architecture_of(scenario).parameters
    shown = 0
    for model in reversed(ladder()):
        if architecture_of(scenario.model_copy(update={"model": model})).parameters >= size:
            continue
        bare = scenario.model_copy(update={"hardware": None, "precision": "auto"})
        for runs in what_runs(hardware.gpu, hardware.gpu_count, bare, [model]):
            needed = _needs(runs.scenario, room)
            if needed is None:
                continue
            name = views.model_name(runs.scenario, "en")
            said = {"model": name, "precision": runs.precision}
            yield Instead(("model",), said, runs.scenario, needed)
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


# --------------------------------------------------------------------------- a running job


@dataclass(frozen=True)
class Job:
    """A serving or training job that runs here, as its command line states it.

    Attributes:
        stated: The partial scenario of the command line.
        held: GPU index → (GiB that the job holds there, GiB that others hold there); the first is
            ``None`` where the driver does not report it.
        problem: Why there is no estimate: a key of ``app.machine.job``.
    """

    pids: tuple[int, ...]
    owner: str | None
    command: tuple[str, ...] | None
    port: int | None
    stated: Mapping[str, Any]
    held: Mapping[int, tuple[float | None, float | None]]
    answer: Estimate | None = None
    problem: str = ""
    gpu: str | CustomGpu | None = field(default=None)

    @property
    def actual_gib(self) -> float | None:
        """What the job holds on its fullest card; ``None`` if not reported."""
        known = [own for own, _ in self.held.values() if own is not None]
        return max(known) if known else None

    @property
    def others_gib(self) -> float:
        """What others hold on the job's fullest card."""
        return max((other or 0.0 for _, other in self.held.values()), default=0.0)


def jobs(gpus: Sequence[GpuReading]) -> list[Job]:
    """Return the jobs whose command line says what they run; workers of one job together."""
    found: dict[str, list[tuple[GpuReading, Any]]] = {}
    for gpu in gpus:
        for process in gpu.processes or ():
            if process.scenario is not None:
                key = json.dumps([process.port, process.owner, process.scenario], sort_keys=True)
                found.setdefault(key, []).append((gpu, process))
    return [_job(members) for members in found.values()]


def _job(members: Sequence[tuple[GpuReading, Any]]) -> Job:
    cards = {id(gpu): gpu for gpu, _ in members}
    held: dict[int, tuple[float | None, float | None]] = {}
    for gpu in cards.values():
        mine = [p.memory_bytes for g, p in members if g is gpu and p.memory_bytes is not None]
        own = sum(mine) / GIB if mine else None
        used = gpu.memory_used_bytes
        other = None if own is None or used is None else max(0.0, used / GIB - own)
        held[gpu.index] = (own, other)
    first = members[0][1]
    job = Job(
        tuple(dict.fromkeys(p.pid for _, p in members)),
        first.owner, first.command, first.port, first.scenario, held,
    )  # fmt: skip
    named = here(members[0][0])
    if named is None:
        return replace(job, problem="no_card")
    model = known_model(first.scenario.get("model"))
    if model is None:
        return replace(job, problem="no_model", gpu=named)
    try:
        return replace(job, gpu=named, answer=estimate(stated_scenario(job, model, named)))
    except InputError:
        return replace(job, problem="no_estimate", gpu=named)


def known_model(name: str | None) -> str | None:
    """Return the catalog's id of a model as a command line names it: an id or a path to it."""
    if not name:
        return None
    cached = re.search(r"models--([\w.-]+?)--([\w.-]+)", name)
    parts = re.split(r"[/\\]", name.rstrip("/\\"))
    tries = [f"{cached[1]}/{cached[2]}"] if cached else []
    for text in [*tries, name, "/".join(parts[-2:]), parts[-1]]:
        try:
            return load_catalog().model(text).id
        except InputError:
            continue
    return None


def stated_scenario(job: Job, model: str, gpu: str | CustomGpu) -> Scenario:
    """Return the job's question in full: what is stated, its cards, defaults for the rest.

    Raises:
        InputError: What is stated contradicts itself.
    """
    hardware = {**job.stated.get("hardware", {}), "gpu": gpu}
    hardware["gpu_count"] = max(int(hardware.get("gpu_count", 1)), len(job.held))
    return parse_scenario({**job.stated, "version": 1, "model": model, "hardware": hardware})


# What decides a job's memory; a command line that leaves it out leaves it to a default.
_DECIDES = {
    True: ("method", "micro_batch_size", "sequence_length", "optimizer"),
    False: ("max_model_len", "gpu_memory_utilization"),
}


def assumed(job: Job) -> tuple[str, ...]:
    """Return the fields that decide the memory and that the command line does not state."""
    training = job.stated.get("task", "inference") != "inference"
    stated = job.stated.get("training" if training else "inference", {})
    names = _DECIDES[training]
    if not training and job.stated.get("engine") not in POOL_ENGINES:
        names = ("concurrency", "input_tokens", "output_tokens")
    return tuple(name for name in names if name not in stated)


@dataclass(frozen=True)
class Compared:
    """A job's estimate beside what it holds.

    Attributes:
        rows: Part of the estimate and its size in words, the sum last.
        parts, mark, edge: The same as a meter: predicted parts, the actual line, the card's edge.
        sentence: The difference and its most likely reason.
    """

    rows: tuple[tuple[str, str], ...]
    parts: tuple[Part, ...]
    mark: Mark
    edge: Mark
    sentence: str


_PARTS = (*views.PARTS, "spare_pool")


def compare(job: Job, tongue: str) -> Compared | None:
    """Return predicted beside actual; ``None`` without an estimate or without a reading."""
    answer, actual = job.answer, job.actual_gib
    if answer is None or actual is None:
        return None
    memory = answer.memory
    parts, rows = [], []
    for kind in _PARTS:
        size = float(getattr(memory, f"{kind}_gib"))
        if size < 0.005:
            continue
        name = _say(kind, tongue) if kind == "spare_pool" else say(f"app.part.{kind}", tongue)
        text = numbers.gib(size, tongue)
        colour = "headroom" if kind == "spare_pool" else kind
        parts.append(Part(colour, name, size, text))
        rows.append((name, text))
    rows.append((_say("predicted", tongue), numbers.gib(memory.total_gib, tongue)))
    rows.append((_say("actual", tongue), numbers.gib(actual, tongue)))
    said = numbers.gib(actual, tongue)
    card = numbers.gib(memory.capacity_gib, tongue)
    return Compared(
        tuple(rows),
        tuple(parts),
        Mark(actual, _say("actual_mark", tongue, gib=said)),
        Mark(memory.capacity_gib, say("app.meter.card", tongue, card=card)),
        difference(job, tongue),
    )


def difference(job: Job, tongue: str) -> str:
    """Return the difference between estimate and reading, with its most likely reason."""
    answer, actual = job.answer, job.actual_gib
    assert answer is not None
    assert actual is not None
    memory = answer.memory
    off = actual / memory.total_gib - 1
    values = {
        "predicted": numbers.gib(memory.total_gib, tongue),
        "actual": numbers.gib(actual, tongue),
        "gib": numbers.gib(abs(actual - memory.total_gib), tongue),
        "percent": f"{abs(off) * 100:.0f} %",
        "others": numbers.gib(job.others_gib, tongue),
        "share": f"{actual / memory.capacity_gib * 100:.0f} %",
        "weights": numbers.gib(memory.weights_gib, tongue),
        "low": numbers.gib(memory.total_low_gib, tongue),
        "high": numbers.gib(memory.total_high_gib, tongue),
    }
    values["difference"] = _say("why.more" if off > 0 else "why.less", tongue, **values)
    text = _say(f"why.{_reason(job, answer, actual)}", tongue, **values)
    if job.others_gib > NOISE_GIB:
        text += " " + _say("why.others", tongue, **values)
    return text


def _reason(job: Job, answer: Estimate, actual: float) -> str:
    memory, scenario = answer.memory, answer.scenario
    if memory.total_low_gib <= actual <= memory.total_high_gib:
        return "within"
    less = actual < memory.total_gib
    pool = scenario.engine in POOL_ENGINES
    share_stated = "gpu_memory_utilization" in job.stated.get("inference", {})
    if less and actual < memory.weights_gib + memory.framework_gib:
        return "loading"
    if pool and not share_stated:
        return "share"
    if pool:
        return "version"
    if scenario.is_training:
        return "training_less" if less else "training_more"
    return "load_less" if less else "load_more"


# --------------------------------------------------------------------------- a vLLM's own figures


def metrics_text(
    figures: Mapping[str, float | None],
    before: Mapping[str, float | None] | None,
    seconds: float,
    tongue: str,
) -> str:
    """Return a server's own figures; rates where it was read twice."""
    missing = say("app.not_reported", tongue)

    def count(name: str) -> str:
        value = figures.get(name)
        return missing if value is None else numbers.count(value, tongue)

    cache = figures.get("kv_cache_usage")
    text = _say(
        "metrics", tongue, running=count("requests_running"), waiting=count("requests_waiting"),
        cache=missing if cache is None else f"{cache * 100:.0f} %",
    )  # fmt: skip
    out = _rate(figures, before, "generation_tokens_total", seconds)
    prompt = _rate(figures, before, "prompt_tokens_total", seconds)
    if out is None or prompt is None:
        return text
    return text + " " + _say(
        "rates", tongue, out=numbers.rate(out, tongue), prompt=numbers.rate(prompt, tongue)
    )  # fmt: skip


def _rate(
    now: Mapping[str, float | None],
    before: Mapping[str, float | None] | None,
    name: str,
    seconds: float,
) -> float | None:
    """Return what a counter grew by a second; ``None`` if unknown or if it began anew."""
    end, start = now.get(name), (before or {}).get(name)
    if end is None or start is None or seconds <= 0 or end < start:
        return None
    return (end - start) / seconds
