"""Cards that are there, of one kind or several: what runs on them, how split, and what to add.

Three ways to share a model are known, each with its own rule:

- *equal shares* (tensor parallelism, replicas, ordinary pipeline stages): every card takes the same
  part, so the smallest card bounds the memory and the slowest the speed;
- *layers by memory* (llama.cpp ``--tensor-split``; vLLM pipeline stages under
  ``VLLM_PP_LAYER_PARTITION``): whole layers in proportion to what each card has room for, so
  memories add up, and a token takes each layer's time on the card that holds it;
- *a part of the cards*: the largest or fastest of them alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, Literal

import numpy as np

from configurator.architecture import Architecture
from configurator.catalog import Catalog, load_catalog
from configurator.cost.hosts import load_hosts
from configurator.cost.prices import Price
from configurator.device import Device
from configurator.engines import NEAREST_GGUF
from configurator.errors import InputError
from configurator.estimate import architecture_of, held_memory, served_precisions
from configurator.intervals import interval
from configurator.memory.weights import weight_table
from configurator.parallelism import HOST_GPUS
from configurator.performance import serving_speed
from configurator.recommend.candidates import cards_of, split_rules, splits_of, take
from configurator.recommend.request import Request, catalog_for
from configurator.recommend.search import NATIVE_FIRST, card_id, card_prices
from configurator.scenario import Hardware, Inference, Scenario

Split = Literal["alone", "equal", "layers"]
# Engines that can be told how many layers each card holds.
LAYER_ENGINES = ("llama_cpp", "vllm")
# Numbers of one kind of card that are tried beyond eight.
COUNTS = (*range(1, 9), 10, 12, 16, 24, 32, 48, 64)
ADDED = (1, 2, 3, 4, 6, 8)
SHOWN_UPGRADES = 3
LONGEST = 1 << 24  # tokens, of a model that names no limit


@dataclass(frozen=True)
class Way:
    """How own cards carry a load.

    Attributes:
        scenario: The load at the precision taken; with hardware where one kind of card is used.
        cards: Cards in use, catalog id → how many, the largest first.
        split: ``alone`` (one card), ``equal`` shares, or whole ``layers`` in proportion to memory.
        layers: Of a split by layers: layers on each card, in the order of ``cards``.
        max_users: Requests at once of the length asked for.
        max_context: Tokens of one request alone, not more than the model's own limit.
        headroom_gib: Left on the fullest card under the load.
    """

    model: str
    scenario: Scenario
    precision: str
    cards: Mapping[str, int]
    split: Split
    tensor: int
    pipeline: int
    data: int
    layers: tuple[int, ...]
    max_users: int
    max_context: int
    headroom_gib: float
    ttft_s: float
    user_tokens_per_s: float
    output_tokens_per_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {field.name: getattr(self, field.name) for field in fields(self)} | {
            "scenario": self.scenario.model_dump(mode="json", exclude_none=True),
            "cards": dict(self.cards), "layers": list(self.layers),
        }  # fmt: skip


@dataclass(frozen=True)
class _Draft:
    """A way's speed; ``tell`` finds how many users and how much context it carries."""

    ttft_s: float
    tpot_s: float
    rate: float
    tell: Callable[[], Way]

    def keeps(self, request: Request) -> bool:
        """Whether it is within a request's limits of speed."""
        limits = (
            (request.user_tokens_per_s_limit, 1 / self.tpot_s),
            (request.output_tokens_per_s_limit, self.rate),
        )
        quick = request.ttft_s_limit is None or self.ttft_s <= request.ttft_s_limit
        return quick and all(limit is None or have >= limit for limit, have in limits)


@dataclass(frozen=True)
class Upgrade:
    """Cards to add to those that are there, and how all of them then carry the load.

    ``price`` is of the added cards alone, in ``currency``.
    """

    gpu: str
    count: int
    price: float
    currency: str
    card_price: Price
    way: Way

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return {
            "gpu": self.gpu, "count": self.count, "price": self.price, "currency": self.currency,
            **self.card_price.date.to_dict(), "way": self.way.to_dict(),
        }  # fmt: skip


def check_owned(owned: Mapping[str, int], catalog: Catalog) -> dict[str, int]:
    """Return own cards by catalog id, the largest first.

    Raises:
        InputError: On ``owned``: no card, a card that is not known or cannot be reckoned with, a
            number below 1.
    """
    if not owned:
        raise InputError("owned", "owned_none", dict(owned))
    known = cards_of(catalog)
    out: dict[str, int] = {}
    for name, count in owned.items():
        gpu = card_id(catalog, name, "owned")
        if gpu not in known.places:
            raise InputError(f"owned.{name}", "card_lacks")
        if isinstance(count, bool) or not isinstance(count, int) or count < 1:
            raise InputError(f"owned.{name}", "cards_count", count)
        out[gpu] = out.get(gpu, 0) + count

    def size(gpu: str) -> tuple[float, float]:
        record = catalog.gpu(gpu)
        return -float(record.memory_bytes), -float(record.bandwidth_bytes_per_s or 0)

    return {gpu: out[gpu] for gpu in sorted(out, key=size)}


def ways(
    owned: Mapping[str, int],
    scenario: Scenario,
    engines: Sequence[str] = (),
    precisions: Sequence[str] = NATIVE_FIRST,
    catalog: Catalog | None = None,
    *,
    free_bytes: float = np.inf,
) -> tuple[Way, ...]:
    """Return how own cards carry a load: for each engine the best at the first precision that fits.

    The best is the one with the most tokens a second. "Fits" includes the error of the memory
    estimate. Cards of different makers do not work together.

    Args:
        owned: Cards that are there, catalog id → how many.
        scenario: Model and load; its hardware and precision are not looked at.
        engines: To try; the scenario's own and llama.cpp if empty.
        precisions: Of the weights, in this order; llama.cpp takes its own format of as many bits.
        catalog: Facts; the built-in ones if None.
        free_bytes: Of each card, beside what runs there already; only this much is given out.

    Raises:
        InputError: Training, a card that cannot be used, or a model that is not known.
    """
    catalog = catalog or load_catalog()
    if scenario.is_training:
        raise InputError("task", "equal_cards", scenario.task)
    cards = check_owned(owned, catalog)
    arch = architecture_of(scenario)
    found = []
    for engine in dict.fromkeys(engines or (scenario.engine, "llama_cpp")):
        for asked in dict.fromkeys(_format(p, engine) for p in precisions):
            base = scenario.model_copy(
                update={"engine": engine, "precision": asked, "hardware": None}
            )
            here = [
                _way(base, arch, line, catalog, free_bytes) for line in _lineups(cards, catalog)
            ]
            fitting = [draft for draft in here if draft is not None]
            if fitting:
                found.append(max(fitting, key=lambda draft: draft.rate).tell())
                break
    return tuple(found)


def own_models(
    owned: Mapping[str, int], scenario: Scenario, models: Sequence[str],
    catalog: Catalog | None = None,
) -> Iterator[Way]:  # fmt: skip
    """Yield the models that run on own cards, each as :func:`ways` has it at the most bits.

    Args:
        owned: Cards that are there.
        scenario: The load (engine, users, tokens).
        models: Catalog ids to try.
        catalog: Facts; the built-in ones if None.
    """
    bits = {
        _format(precision, engine): place
        for place, precision in reversed(list(enumerate(NATIVE_FIRST)))
        for engine in ("vllm", "llama_cpp")
    }
    for model in models:
        found = ways(owned, scenario.model_copy(update={"model": model}), catalog=catalog)
        if found:
            yield min(found, key=lambda w: (bits[w.scenario.precision], -w.output_tokens_per_s))


def upgrades(
    owned: Mapping[str, int], request: Request, catalog: Catalog | None = None
) -> tuple[Upgrade, ...]:
    """Return the cheapest cards to add so that own cards carry the request, the cheapest first.

    One kind of card is added, of the same make and form as one that is there; the price is that of
    the cards, not of slots, power and cooling for them.

    Args:
        owned: Cards that are there.
        request: The scenario at its own precision, limits of speed, prices and currency.
        catalog: Facts; the built-in ones if None.
    """
    catalog = catalog_for(request, catalog)
    cards, known = check_owned(owned, catalog), cards_of(catalog)
    scenario = request.scenario
    arch = architecture_of(scenario)
    prices = card_prices(request, catalog, known)
    rate = catalog.currencies[request.currency].per_usd.value
    kinds = {(catalog.gpu(gpu).vendor, catalog.gpu(gpu).form_factor) for gpu in cards}
    offers = sorted(
        (price.amount.value * count, count, gpu.id, price)
        for gpu, price in zip(known.gpus, prices)
        if price is not None and (gpu.vendor, gpu.form_factor) in kinds
        for count in ADDED
    )  # fmt: skip
    there = sum(catalog.gpu(gpu).memory_bytes * count for gpu, count in cards.items())
    bases = [
        scenario.model_copy(update={"engine": engine, "precision": precision, "hardware": None})
        for engine in dict.fromkeys((scenario.engine, "llama_cpp"))
        for precision in (_format(scenario.precision, engine),)
    ]
    least = min(
        weight_table(arch, served_precisions(base, arch)[0], base.engine).layer_total
        for base in bases
    )
    found: dict[str, Upgrade] = {}
    for usd, count, gpu, price in offers:
        if gpu in found or there + catalog.gpu(gpu).memory_bytes * count < least:
            continue
        more = check_owned({**cards, gpu: cards.get(gpu, 0) + count}, catalog)
        lineups = [line for line in _lineups(more, catalog) if line.get(gpu) == more[gpu]]
        here = [_way(base, arch, lineup, catalog) for base in bases for lineup in lineups]
        kept = [draft for draft in here if draft is not None and draft.keeps(request)]
        if kept:
            best = max(kept, key=lambda draft: draft.rate).tell()
            cost = round(usd * rate, 2)
            found[gpu] = Upgrade(gpu, count, cost, request.currency, price, best)
            if len(found) == SHOWN_UPGRADES:
                break
    return tuple(found.values())


def _format(precision: str, engine: str) -> str:
    """The same number of bits as the engine has it."""
    return NEAREST_GGUF.get(precision, precision) if engine == "llama_cpp" else precision


def _lineups(cards: Mapping[str, int], catalog: Catalog) -> list[dict[str, int]]:
    """The sets of cards that are tried: each kind alone, and all of a make from the largest on.

    Leaving out the smallest cards helps where shares are equal. A set is not larger than one
    machine takes, unless it is of one kind.
    """
    out: list[dict[str, int]] = []
    for gpu, count in cards.items():
        out += [{gpu: n} for n in sorted({*(n for n in COUNTS if n < count), count})]
    for vendor in dict.fromkeys(catalog.gpu(gpu).vendor for gpu in cards):
        whole: dict[str, int] = {}
        for gpu, count in cards.items():
            if catalog.gpu(gpu).vendor == vendor:
                counts = sorted({*(n for n in COUNTS if n < count), count}) if whole else ()
                most = HOST_GPUS - sum(whole.values())
                out += [{**whole, gpu: n} for n in counts if n <= most]
                whole[gpu] = count
    return out


@dataclass(frozen=True)
class _Load:
    """A load on a set of cards at one precision, resolved once."""

    base: Scenario
    arch: Architecture
    catalog: Catalog
    kinds: tuple[str, ...]
    counts: tuple[int, ...]
    precision: str
    kv_precision: str
    high: float
    free_bytes: float

    @property
    def total(self) -> int:
        return sum(self.counts)

    @property
    def places(self) -> Any:
        known = cards_of(self.catalog).places
        return np.array([known[gpu] for gpu in self.kinds], dtype=np.intp)

    @property
    def devices(self) -> Device:
        """Each kind of card."""
        return take(cards_of(self.catalog).device, self.places)

    def held(self, load: Inference, device: Device, tensor: Any, pipeline: Any, expert: Any,
             data: Any) -> Any:  # fmt: skip
        return held_memory(self.base, self.arch, device, tensor, pipeline, expert, data, load)

    def budget(self, held: Any) -> Any:
        """Bytes that a card may give: the engine's share, no more than is free."""
        return np.minimum(held.budget, self.free_bytes)

    def speed(self, tokens: Any, tensor: Any, pipeline: Any, expert: Any, data: Any, *,
              places: Any = None) -> Any:  # fmt: skip
        """Speed of each kind of card, were all of it; or of the cards at ``places``."""
        device = take(cards_of(self.catalog).device, self.places if places is None else places)
        return serving_speed(
            self.arch, self.precision, self.kv_precision, self.base.engine, self.base.serving,
            device, tensor, pipeline, expert, data, kv_capacity_tokens=tokens,
        )  # fmt: skip

    def load(self, users: int, tokens: int) -> Inference:
        return self.base.serving.model_copy(update={"concurrency": users, "input_tokens": tokens})


def _way(
    base: Scenario, arch: Architecture, lineup: Mapping[str, int], catalog: Catalog,
    free_bytes: float = np.inf,
) -> _Draft | None:  # fmt: skip
    """Return the faster of equal shares and layers by memory on all cards of a set, if one fits."""
    precision, kv = served_precisions(base, arch)
    gpus = [catalog.gpu(gpu) for gpu in lineup]
    if any(load_hosts(catalog).refusal(gpu, base, arch, precision) for gpu in gpus):
        return None
    # What cannot hold the layers need not be reckoned through.
    there = sum(min(gpu.memory_bytes, free_bytes) * lineup[gpu.id] for gpu in gpus)
    if there < weight_table(arch, precision, base.engine).layer_total:
        return None
    load = _Load(
        base, arch, catalog, tuple(lineup), tuple(lineup.values()), precision, kv,
        max(interval(base.engine, base.task, gpu.vendor)[1] for gpu in gpus), free_bytes,
    )  # fmt: skip
    found = [_equal(load)]
    if len(lineup) > 1 and base.engine in LAYER_ENGINES:
        found.append(_by_layers(load))
    fitting = [draft for draft in found if draft is not None]
    return max(fitting, key=lambda draft: draft.rate, default=None)


def _equal(load: _Load) -> _Draft | None:
    """Equal shares: what the smallest card holds, at the pace of the slowest."""
    serving = load.base.serving
    splits = splits_of(split_rules(load.arch, load.base.engine, False), load.total)
    splits = splits[splits[:, 3] <= serving.concurrency]
    if not len(splits):
        return None
    devices = load.devices
    smallest = take(devices, np.argmin(devices.memory_bytes))
    held = load.held(serving, smallest, *splits.T)
    shape = (len(splits),)
    room = np.broadcast_to(load.budget(held) - held.required * (1 + load.high), shape)
    fitting = np.flatnonzero(room >= 0)
    if not len(fitting):
        return None
    tokens = np.floor(np.broadcast_to(held.capacity_tokens, shape))
    kinds = len(load.kinds)
    speed = load.speed(
        np.repeat(tokens[fitting], kinds), *np.repeat(splits[fitting], kinds, axis=0).T,
        places=np.tile(load.places, len(fitting)),
    )  # fmt: skip

    def of_slowest(values: Any, pick: Any) -> Any:
        size = (len(fitting), kinds)
        return pick(np.broadcast_to(values, (len(fitting) * kinds,)).reshape(size), axis=1)

    rates = of_slowest(speed.output_tokens_per_s, np.min)
    best = int(np.argmax(rates))
    split = splits[fitting[best]]

    def fits(users: int, count: int) -> bool:
        one = load.held(load.load(users, count), smallest, *split)
        return bool(one.required * (1 + load.high) <= load.budget(one))

    one = load.held(serving, smallest, *split)
    left = float(load.budget(one) - one.required)
    figures = (
        float(of_slowest(speed.ttft_s, np.max)[best]),
        float(of_slowest(speed.tpot_s, np.max)[best]), float(rates[best]),
    )  # fmt: skip
    how: Split = "alone" if load.total == 1 else "equal"
    return _Draft(*figures, partial(_told, load, how, split, (), fits, left, *figures))


def _room_for_layers(load: _Load, serving: Inference) -> tuple[Any, Any, Any]:
    """Return what each kind of card needs beside its layers, for one layer, and what it has.

    Need grows by the same for every layer, so the terms for one layer and for two give both parts.
    Embedding or head, whichever is larger, counts on every card.
    """
    count = load.arch.num_layers
    devices = load.devices
    shape = devices.memory_bytes.shape
    one = load.held(serving, devices, 1.0, float(count), 1.0, 1.0)
    two = load.held(serving, devices, 1.0, float(-(-count // 2)), 1.0, 1.0)
    first, second = (np.broadcast_to(x.required, shape) for x in (one, two))
    layer = (second - first) * (1 + load.high)
    budget = np.broadcast_to(load.budget(one), shape)
    return first * (1 + load.high) - layer, layer, budget


def _shares(load: _Load, serving: Inference) -> tuple[int, ...] | None:
    """Return layers on each card, in proportion to what it has room for; None without room."""
    fixed, layer, room = _room_for_layers(load, serving)
    most = np.floor(np.maximum(0.0, room - fixed) / layer)
    each = np.repeat(most, load.counts)
    count = load.arch.num_layers
    if each.sum() < count or np.any(each < 1):
        return None
    ideal = each * count / each.sum()
    layers = np.maximum(1, np.floor(ideal)).astype(int)
    # What rounding left over goes where most is missing and there is room.
    for place in np.argsort(layers - ideal, kind="stable"):
        if layers.sum() >= count:
            break
        layers[place] += int(layers[place] < each[place])
    return tuple(int(n) for n in layers) if layers.sum() == count else None


def _by_layers(load: _Load) -> _Draft | None:
    """Whole layers by memory: memories add up, each layer takes its own card's time."""
    serving = load.base.serving
    if load.arch.num_layers < max(3, load.total):
        return None
    layers = _shares(load, serving)
    if layers is None:
        return None

    def fits(users: int, count: int) -> bool:
        return _shares(load, load.load(users, count)) is not None

    kind = np.repeat(np.arange(len(load.kinds)), load.counts)
    share = np.array(layers) / load.arch.num_layers
    split = np.array([1.0, float(load.total), 1.0, 1.0])
    # All requests asked for have room, so none of them waits for the cache.
    speed = load.speed(float(serving.concurrency * serving.context_tokens), *split)
    tpot, ttft, rate = (
        np.broadcast_to(x, (len(load.kinds),))[kind]
        for x in (speed.tpot_s, speed.ttft_s, speed.output_tokens_per_s)
    )
    # Stages run at the same time only as far as requests fill them; then the slowest paces all.
    busy = min(serving.concurrency, load.total) if load.base.engine == "vllm" else 1
    wait = max(1.0, float(busy * np.max(share * tpot) / np.sum(share * tpot)))
    fixed, layer, room = _room_for_layers(load, serving)
    left = (room - fixed)[kind] - np.array(layers) * layer[kind]
    figures = (
        float(np.sum(share * ttft)), float(np.sum(share * tpot)) * wait,
        float(1 / np.sum(share / rate)) / wait,
    )  # fmt: skip
    tell = partial(_told, load, "layers", split, layers, fits, float(np.min(left)), *figures)
    return _Draft(*figures, tell)


def _most_that_fits(fits: Callable[[int], bool], least: int, limit: int = LONGEST) -> int:
    """Return the largest number that fits, given that ``least`` does; doubling, then halving.

    The answer is exact to 1/256 of it.
    """
    low, high = max(1, least), max(2, 2 * least)
    while high < limit and fits(high):
        low, high = high, high * 2
    high = min(high, limit + 1)
    while high - low > max(1, low // 256):
        middle = (low + high) // 2
        if fits(middle):
            low = middle
        else:
            high = middle
    return min(low, limit)


def _told(
    load: _Load, how: Split, split: Any, layers: tuple[int, ...], fits: Any, left: float,
    ttft_s: float, tpot_s: float, rate: float,
) -> Way:  # fmt: skip
    """Return a way with the most users and the longest context that it carries."""
    serving, limit = load.base.serving, load.arch.context_length or LONGEST
    users = _most_that_fits(lambda n: fits(n, serving.input_tokens), serving.concurrency)
    prompt = _most_that_fits(lambda n: fits(1, n), serving.input_tokens, limit)
    tensor, pipeline, expert, data = (int(x) for x in split)
    scenario = load.base
    if len(load.kinds) == 1:
        hardware = Hardware(
            gpu=load.kinds[0], gpu_count=load.total, tensor_parallel=tensor,
            pipeline_parallel=pipeline, expert_parallel=expert, data_parallel=data,
        )  # fmt: skip
        scenario = scenario.model_copy(update={"hardware": hardware})
    return Way(
        model=str(load.base.model) if isinstance(load.base.model, str) else load.arch.name,
        scenario=scenario, precision=load.precision, cards=dict(zip(load.kinds, load.counts)),
        split=how, tensor=tensor, pipeline=pipeline, data=data, layers=layers, max_users=users,
        max_context=min(prompt + serving.output_tokens, limit), headroom_gib=left / 2**30,
        ttft_s=ttft_s, user_tokens_per_s=1 / tpot_s, output_tokens_per_s=rate,
    )  # fmt: skip
