"""What would have to change for a near miss to fit: each change tried by asking again."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from pydantic import BaseModel

from configurator.catalog import Catalog, Gpu
from configurator.cost.hosts import load_hosts
from configurator.recommend.limits import Limit
from configurator.recommend.plans import Change, Fix
from configurator.recommend.request import Request, TierEdit, catalog_for
from configurator.recommend.search import Search, scenario_of, search
from configurator.recommend.tiers import Tier, edited, load_tiers

# Weights in fewer bits, the most first, by the engine's own formats.
_LOWER_PRECISIONS = ("fp8", "int8", "int4")
_LOWER_GGUF = ("q8_0", "q6_k", "q5_k_m", "q4_k_m", "q3_k_m")
_SMALL_CACHE = {"vllm": "fp8", "sglang": "fp8", "tensorrt_llm": "fp8", "llama_cpp": "q8_0"}
# What makes training smaller, from what costs least speed to what costs most.
_SMALLER_TRAINING: tuple[tuple[str, Any], ...] = (
    ("gradient_checkpointing", True), ("micro_batch_size", 1), ("optimizer", "adamw_8bit"),
    ("offload", "optimizer"),
)  # fmt: skip
# Contexts are offered in steps of this many tokens, cards up to so many times those of the miss.
CONTEXT_STEP = 256
MOST_CARDS = 4
FINE = 64
_USUAL_ENGINE = {False: "vllm", True: "transformers"}
COUNT = "scenario.hardware.gpu_count"
_BY_TIER = frozenset({"max_budget", "max_power_w"})

Changes = tuple[Change, ...]


def changed(request: Request, changes: Sequence[Change]) -> Request:
    """Return a request after changes; hardware in its scenario is not looked at.

    Args:
        request: What was asked.
        changes: Each names a field of the request by its path, e.g. ``scenario.precision``.
    """
    for change in changes:
        path = change.field.split(".")
        if path[0] == "tiers":
            edits: dict[str, TierEdit] = {str(name): edit for name, edit in request.tiers.items()}
            edit = edits.get(path[1], TierEdit()).model_copy(update={path[2]: change.value})
            request = request.model_copy(update={"tiers": {**edits, path[1]: edit}})
        elif "hardware" not in path:
            request = _put(request, path, change.value)
        if change.field == "scenario.precision":
            request = request.model_copy(update={"precisions": ()})
    return request


def _put(part: Any, path: Sequence[str], value: Any) -> Any:
    inner = value if len(path) == 1 else _put(getattr(part, path[0]), path[1:], value)
    held: BaseModel = part
    return held.model_copy(update={path[0]: inner})


@dataclass(frozen=True)
class _Again:
    """The question of one near miss asked again: its card, its class of buyer, changes in it."""

    found: Search
    at: int
    halving: bool = True

    @property
    def row(self) -> int:
        """Its row."""
        return int(self.found.found.row[self.at])

    @property
    def gpu(self) -> Gpu:
        """Its card."""
        return self.found.cards.gpus[int(self.found.rows.card[self.row])]

    def search(self, changes: Changes) -> Search:
        """Return every candidate of the changed question, up to ``MOST_CARDS`` times the cards."""
        request = changed(self.found.request, changes).model_copy(update={"gpus": (self.gpu.id,)})
        tier = self.found.tiers[int(self.found.rows.tier[self.row])]
        most = MOST_CARDS * int(self.found.rows.count[self.row])
        counts = tuple(count for count in tier.counts if count <= most)
        tier = tier.model_copy(update={"counts": counts})
        return search(request, self.found.catalog, edited((tier,), request, self.found.catalog))

    def plan(self, changes: Changes) -> Fix | None:
        """Return the changes with the cheapest plan that the changed question then has."""
        count = int(self.found.rows.count[self.row])
        return _fix_of(self.search(changes), changes, count)

    def settled(self, changes: Changes) -> Fix | None:
        """Return the changes with the limits that have to move as well; None if that is no help.

        What gives room may still be too slow, too dear or too hot: the candidate with room that is
        then the nearest says by how much.
        """
        again = self.search(changes)
        if again.feasible.any():
            return _fix_of(again, changes, int(self.found.rows.count[self.row]))
        f = again.found
        places = np.flatnonzero(f.legal & (f.need <= f.room))
        if not len(places):
            return None
        best = int(places[np.argmin(again.distance[places])])
        return self.plan((*changes, *_lifts(again, best)))


def _fix_of(again: Search, changes: Changes, count: int | None = None) -> Fix | None:
    """Return changes with the cheapest plan of the changed question; None if it has none.

    Args:
        again: The changed question's candidates.
        changes: What was changed.
        count: Cards of the near miss; another number is a change as well.
    """
    if any(isinstance(change.value, float) and change.value <= 0 for change in changes):
        return None
    f = again.found
    counts = again.rows.count[f.row]
    wanted = next((c.value for c in changes if c.field == COUNT), None)
    at = np.flatnonzero(again.feasible if wanted is None else again.feasible & (counts == wanted))
    if not len(at):
        return None
    total, speed = again.sums.total.value[f.row[at]], np.nan_to_num(f.tokens_per_s[at])
    best = int(at[np.lexsort((-speed, total))[0]])
    taken = int(counts[best])
    if wanted is None and count is not None and taken != count:
        changes = (*changes, Change(COUNT, taken))
    return Fix(changes, scenario_of(again, best))


def fixes_of(found: Search, at: int, halving: bool = True) -> tuple[Fix, ...]:
    """Return the smallest changes after which a near miss fits, each enough by itself.

    Every one was asked again, on the same card for the same class of buyer, and answered.

    Args:
        found: The candidates of the question.
        at: The near miss.
        halving: Whether to look for the most users and the longest context that fit; this asks a
            good dozen times, and where the class of buyer has a plan anyway it is not needed.
    """
    again, f = _Again(found, at, halving), found.found
    tries: list[Fix | None] = []
    if f.need[at] <= f.room[at]:
        tries.append(again.plan(_lifts(found, at)))
    elif f.required[at] <= f.room[at]:
        tries.append(again.settled((Change("accept_tight", True),)))
    training = found.variants[int(f.variant[at])].scenario.is_training
    tries += (_training_fixes if training else _serving_fixes)(again)
    tries.append(_more_cards(again))
    # With so many cards the question is answered as it stands: nothing else has to change.
    same = found.feasible & (f.group == f.group[at])
    enough = int(found.rows.count[f.row[same]].min()) if same.any() else math.inf
    useful = [
        fix for fix in tries
        if fix and not any(c.field == COUNT and c.value >= enough for c in fix.changes)
    ]  # fmt: skip
    return tuple({fix.changes: fix for fix in reversed(useful)}.values())[::-1]


# ------------------------------------------------------------------ limits

_SPEED_FIELDS = {
    "ttft": "ttft_s_limit", "user_tokens": "user_tokens_per_s_limit",
    "output_tokens": "output_tokens_per_s_limit", "train_tokens": "train_tokens_per_s_limit",
}  # fmt: skip


def _lifts(found: Search, at: int) -> Changes:
    """Every limit but memory that a candidate is beyond, moved to where it keeps it."""
    broken = [x for x in found.limits if x.excess[at] > 0 and x.code != "memory"]
    return tuple(_lift(found, limit, at) for limit in broken)


def _lift(found: Search, limit: Limit, at: int) -> Change:
    """The limit moved to where the candidate keeps it, in round numbers."""
    have = float(limit.have[at])
    if limit.code in _SPEED_FIELDS:
        return _speed_limit(found.request, limit.code, have)
    tier = found.tiers[int(found.rows.tier[found.found.row[at]])].id
    code, value = {
        "budget": ("max_budget", float(np.ceil(round(have * found.terms[0].rate, 2)))),
        "power": ("max_power_w", float(np.ceil(have))),
        "host_power": ("max_power_w_per_host", float(np.ceil(have))),
        "gpus": ("max_gpus", int(have)),
        "rack_units": ("max_rack_units", have),
    }[limit.code]
    own = code in _BY_TIER and getattr(found.request, code) is None
    name = f"tiers.{tier}.{code}" if own else code
    return Change(name, value, found.request.currency)


def _speed_limit(request: Request, code: str, have: float) -> Change:
    days = request.train_days(have)
    if code == "train_tokens" and days is not None and request.train_days_limit is not None:
        return Change("train_days_limit", float(np.ceil(days * 100) / 100))
    rounded = np.ceil(have * 100) if code == "ttft" else np.floor(have * 100)
    return Change(_SPEED_FIELDS[code], float(rounded / 100))


# ------------------------------------------------------------------ the load


def _serving_fixes(again: _Again) -> Iterator[Fix | None]:
    """A smaller cache number, fewer users, less context, smaller weights."""
    found, at = again.found, again.at
    variant = found.variants[int(found.found.variant[at])]
    scenario, serving = variant.scenario, variant.scenario.serving
    too_big = bool(found.found.need[at] > found.found.room[at])
    small = _SMALL_CACHE.get(scenario.engine)
    cache: Changes = ()
    if too_big and small is not None and scenario.kv_cache_precision != small:
        cache = (Change("scenario.kv_cache_precision", small),)
        yield again.settled(cache)
    yield _largest(again, serving.concurrency, partial(_with_users, ()))
    yield _largest(
        again, -(-serving.input_tokens // CONTEXT_STEP),
        lambda n: (Change("scenario.inference.input_tokens", n * CONTEXT_STEP),),
    )  # fmt: skip
    for precision in _lower(again) if too_big else ():
        weights = (Change("scenario.precision", precision),)
        for changes in (weights, (*weights, *cache)):
            whole = again.settled(changes)
            if whole is None:
                continue
            yield whole
            if any(
                "limit" in change.field for change in whole.changes
            ):  # fewer users may keep them
                yield _largest(again, serving.concurrency, partial(_with_users, changes))
            return


def _with_users(changes: Changes, users: int) -> Changes:
    return (*changes, Change("scenario.inference.concurrency", users))


def _lower(again: _Again) -> tuple[str, ...]:
    """Precisions of fewer bits that the candidate's card and engine run."""
    variant = again.found.variants[int(again.found.found.variant[again.at])]
    engine = variant.scenario.engine
    known: tuple[str, ...] = _LOWER_GGUF if engine == "llama_cpp" else _LOWER_PRECISIONS
    if variant.precision in known:
        known = known[known.index(variant.precision) + 1 :]
    facts, arch = load_hosts(again.found.catalog), again.found.architecture
    return tuple(p for p in known if not facts.refusal(again.gpu, variant.scenario, arch, p))


def _largest(again: _Again, wanted: int, change: Callable[[int], Changes]) -> Fix | None:
    """Return the change to the largest number below ``wanted`` that is answered as it stands.

    The answer is exact to ``1/FINE`` of it. None if not even 1 is answered.
    """
    best = again.plan(change(1)) if wanted > 1 and again.halving else None
    if best is None:
        return None
    low, high = 1, wanted
    while high - low > max(1, low // FINE):
        middle = (low + high) // 2
        found = again.plan(change(middle))
        if found is None:
            high = middle
        else:
            low, best = middle, found
    return best


def _training_fixes(again: _Again) -> Iterator[Fix | None]:
    """Checkpointing, a smaller batch or optimizer, offload: each alone, else one after another."""
    found, at = again.found, again.at
    if found.found.need[at] <= found.found.room[at]:
        return
    training = found.variants[int(found.found.variant[at])].scenario.fitting
    steps = [
        Change(f"scenario.training.{name}", value)
        for name, value in _SMALLER_TRAINING
        if getattr(training, name) != value
    ]
    alone = [again.settled((step,)) for step in steps]
    yield from alone
    if not any(alone):
        together = (again.settled(tuple(steps[:most])) for most in range(2, len(steps) + 1))
        yield next((changes for changes in together if changes), None)


# ------------------------------------------------------------------ more cards, other cards


def _more_cards(again: _Again) -> Fix | None:
    """The fewest more cards of the same kind, with the limits that have to move for them."""
    found, f, rows = again.found, again.found.found, again.found.rows
    more = f.legal & (f.group == f.group[again.at]) & (rows.count[f.row] > rows.count[again.row])
    more &= (f.need <= f.room) & (found.broken > 0)
    more &= rows.count[f.row] <= MOST_CARDS * rows.count[again.row]
    places = np.flatnonzero(more)
    if not len(places):
        return None
    best = int(places[np.argmin(found.distance[places])])
    count = int(rows.count[f.row[best]])
    return again.plan((Change(COUNT, count), *_lifts(found, best)))


def tried(
    request: Request, changes: Changes, tier: str, gpu: str, catalog: Catalog | None = None
) -> Fix | None:
    """Return changes with the plan of one card for one class of buyer that they lead to, if any.

    Args:
        request: What was asked.
        changes: To try.
        tier: Class of buyer.
        gpu: Catalog id.
        catalog: Facts; the built-in ones if None.
    """
    catalog = catalog_for(request, catalog)
    other = changed(request, changes).model_copy(update={"gpus": (gpu,)})
    tiers = tuple(t for t in load_tiers(catalog) if t.id == tier)
    return _fix_of(search(other, catalog, edited(tiers, other, catalog)), changes)


# What a card may be, at its loosest.
_LOOSE: Mapping[str, Any] = {
    "vendors": (), "gpus": (), "segments": (), "form_factors": (), "ecc": None, "vgpu": None,
    "nvlink": None, "region": "any", "condition": "any", "sure_prices": False,
    "export_limits": False,
}  # fmt: skip


def openings(request: Request, catalog: Catalog, tiers: Sequence[Tier]) -> tuple[Fix, ...]:
    """Return what to allow where no card is even a candidate, each asked again and answered."""
    scenario = request.scenario
    tries = [Change(name, to) for name, to in _LOOSE.items() if getattr(request, name) != to]
    if request.without_gpus and not request.gpus:
        tries.append(Change("gpus", ()))
    if request.region == "any":
        sold = load_hosts(catalog).availability
        places = {region for item in sold for region in item.regions}
        tries += [Change("region", region) for region in sorted(places)]
    usual = _USUAL_ENGINE[scenario.is_training]
    if scenario.engine != usual:
        tries.append(Change("scenario.engine", usual))
    if scenario.precision != "auto":
        tries.append(Change("scenario.precision", "auto"))

    def asked_again(*changes: Change) -> tuple[Fix, ...]:
        other = changed(request, changes)
        found = search(other, catalog, edited(tuple(tiers), other, catalog))
        return (Fix(changes, other.scenario),) if found.feasible.any() else ()

    alone = tuple(fix for change in tries for fix in asked_again(change))
    return alone or (asked_again(*tries) if len(tries) > 1 else ())
