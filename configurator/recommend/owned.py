"""The other way round: cards that are there, and what runs on them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from configurator.catalog import Catalog, load_catalog
from configurator.cost.hosts import load_hosts
from configurator.errors import InputError
from configurator.estimate import architecture_of, held_memory, served_precisions
from configurator.intervals import interval
from configurator.performance import serving_speed
from configurator.recommend.candidates import cards_of, split_rules, splits_of, take
from configurator.recommend.search import NATIVE_FIRST
from configurator.scenario import Hardware, Scenario

LONGEST = 1 << 24


def plain_fields(answer: Any) -> dict[str, Any]:
    """Return the fields of an answer's dataclass, its scenario as plain JSON values."""
    out = {field.name: getattr(answer, field.name) for field in fields(answer)}
    return {**out, "scenario": answer.scenario.model_dump(mode="json", exclude_none=True)}


@dataclass(frozen=True)
class Runs:
    """A model that runs on the cards, at the best precision that fits.

    Attributes:
        scenario: The load with hardware and split, ready for an estimate.
        precision: Of the weights.
        max_users: Requests at once of the length asked for.
        max_context: Tokens of one request alone; not more than the model's own limit.
        headroom_gib: Left on the fullest card under the load.
        user_tokens_per_s, output_tokens_per_s, ttft_s: Under the load.
    """

    model: str
    scenario: Scenario
    precision: str
    max_users: int
    max_context: int
    headroom_gib: float
    user_tokens_per_s: float
    output_tokens_per_s: float
    ttft_s: float

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values."""
        return plain_fields(self)


def what_runs(
    gpu: str,
    gpu_count: int,
    scenario: Scenario | None = None,
    models: Sequence[str] | None = None,
    precisions: Sequence[str] = NATIVE_FIRST,
    catalog: Catalog | None = None,
) -> Iterator[Runs]:
    """Yield the models that run on cards of one kind, each at the first precision that fits.

    For each precision the split with the most room is taken. "Fits" includes the error of the
    memory estimate.

    Args:
        gpu: Catalog id.
        gpu_count: Cards.
        scenario: Engine and load (users, tokens); one user with 2,048 + 512 tokens if None.
        models: Catalog ids to try; all if None.
        precisions: To try, in this order; ``auto`` is the checkpoint's own.
        catalog: Facts; the built-in ones if None.

    Raises:
        InputError: An unknown card or model, or one that cannot be ranked.
    """
    catalog = catalog or load_catalog()
    card = catalog.gpu(gpu)
    cards = cards_of(catalog)
    if card.id not in cards.places:
        raise InputError("hardware.gpu", "card_lacks", gpu)
    if scenario is None:
        scenario = Scenario.model_validate(
            {"model": "any", "inference": {"input_tokens": 2048, "output_tokens": 512}}
        )
    place = np.array([cards.places[card.id]], dtype=np.intp)
    for model in models if models is not None else catalog.models:
        base = scenario.model_copy(update={"model": model, "hardware": None})
        found = _best(base, catalog, card.id, gpu_count, place, precisions)
        if found is not None:
            yield found


def _best(
    base: Scenario, catalog: Catalog, gpu: str, count: int, place: Any, precisions: Sequence[str]
) -> Runs | None:
    try:
        arch = architecture_of(base)
    except InputError:
        if base.model in catalog.models:
            return None
        raise
    splits = splits_of(split_rules(arch, base.engine, False), count)
    inference = base.serving
    splits = splits[splits[:, 3] <= inference.concurrency]
    if not len(splits):
        return None
    device = take(cards_of(catalog).device, np.repeat(place, len(splits)))
    tensor, pipeline, expert, data = splits.T
    card = catalog.gpu(gpu)
    high = interval(base.engine, base.task, card.vendor)[1]
    for asked in precisions:
        here = base.model_copy(update={"precision": asked})
        precision, kv = served_precisions(here, arch)
        if load_hosts(catalog).refusal(card, base, arch, precision):
            continue

        def held(users: int, tokens: int, at: Any = slice(None), here: Scenario = here) -> Any:
            load = inference.model_copy(update={"concurrency": users, "input_tokens": tokens})
            return held_memory(
                here, arch, device.memory_bytes[at], tensor[at], pipeline[at], expert[at],
                data[at], load,
            )  # fmt: skip

        load = held(inference.concurrency, inference.input_tokens)
        room = np.broadcast_to(load.budget - load.required * (1 + high), tensor.shape)
        best = int(np.argmax(room))
        if room[best] < 0:
            continue
        at = slice(best, best + 1)

        def fits(users: int, tokens: int, at: slice = at, held: Any = held) -> bool:
            one = held(users, tokens, at)
            return bool(np.all(one.required * (1 + high) <= one.budget))

        users = most_that_fits(
            lambda n, f=fits: f(n, inference.input_tokens), inference.concurrency
        )
        limit = arch.context_length or LONGEST
        prompt = most_that_fits(lambda n, f=fits: f(1, n), inference.input_tokens, limit)
        speed = serving_speed(
            arch, precision, kv, base.engine, inference, take(device, np.array([best])),
            tensor[at], pipeline[at], expert[at], data[at],
            kv_capacity_tokens=np.floor(np.broadcast_to(load.capacity_tokens, tensor.shape)[at]),
        )  # fmt: skip
        hardware = Hardware(
            gpu=gpu, gpu_count=count, tensor_parallel=int(tensor[best]),
            pipeline_parallel=int(pipeline[best]), expert_parallel=int(expert[best]),
            data_parallel=int(data[best]),
        )  # fmt: skip
        return Runs(
            model=str(base.model),
            scenario=base.model_copy(update={"precision": asked, "hardware": hardware}),
            precision=precision,
            max_users=users,
            max_context=min(prompt + inference.output_tokens, limit),
            headroom_gib=float(np.broadcast_to(load.budget - load.required, tensor.shape)[best])
            / 2**30,
            user_tokens_per_s=float(1 / np.asarray(speed.tpot_s).item()),
            output_tokens_per_s=float(np.asarray(speed.output_tokens_per_s).item()),
            ttft_s=float(np.asarray(speed.ttft_s).item()),
        )
    return None


def most_that_fits(fits: Any, least: int, limit: int = LONGEST) -> int:
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
