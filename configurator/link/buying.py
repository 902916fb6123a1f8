"""What a link says of the purchase beside the scenario."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from configurator.catalog import load_catalog
from configurator.errors import InputError
from configurator.link.fields import Parser, number_text, read_flag, read_number, read_whole

NO_PLANS = "none"
MAX_YEARS = 5
MAX_OWNED_KINDS = 8
MAX_OWNED_CARDS = 1024
MAX_COMPARED = 4
MAX_SUM = 1e11
BUYERS = ("individual", "sme", "enterprise")


@dataclass(frozen=True)
class Buying:
    """What a link says of the purchase beside the scenario; what is empty is not said.

    Attributes:
        years: Of ownership.
        utilisation: Share of the time at this load.
        owned: Cards that are there already, catalog id → how many.
        compared: Plans laid side by side, each ``class of buyer:card``; None: not chosen.
        budgets: Most that the purchase may cost, class of buyer → sum in the link's currency.
        powers: Most watts that a plan may draw, class of buyer → W.
        accept_tight: Whether plans inside the memory estimate's error count.
    """

    years: int | None = None
    utilisation: float | None = None
    owned: Mapping[str, int] = field(default_factory=dict)
    compared: tuple[str, ...] | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    powers: Mapping[str, float] = field(default_factory=dict)
    accept_tight: bool = False


def _pairs(values: Mapping[str, float]) -> str:
    return ",".join(f"{name}:{number_text(value)}" for name, value in values.items())


def buying_parameters(buying: Buying) -> dict[str, str]:
    """Return the parameters that say it; what is empty is left out."""
    out: dict[str, str] = {}
    if buying.years is not None:
        out["yrs"] = str(buying.years)
    if buying.utilisation is not None:
        out["busy"] = number_text(buying.utilisation)
    if buying.owned:
        out["own"] = _pairs(buying.owned)
    if buying.compared is not None:
        out["cmp"] = ",".join(buying.compared) or NO_PLANS
    if buying.budgets:
        out["bud"] = _pairs(buying.budgets)
    if buying.powers:
        out["watt"] = _pairs(buying.powers)
    if buying.accept_tight:
        out["tight"] = "1"
    return out


def _years(text: str) -> int:
    value = read_whole(text)
    if not 1 <= value <= MAX_YEARS:
        raise ValueError("years")
    return value


def _busy(text: str) -> float:
    value = read_number(text)
    if not 0 < value <= 1:
        raise ValueError("share")
    return value


def _split_pairs(text: str) -> dict[str, str]:
    """Read ``name:value,name:value``; each name once."""
    parts = [part.rsplit(":", 1) for part in text.split(",")]
    if any(len(part) != 2 for part in parts) or len({part[0] for part in parts}) < len(parts):
        raise ValueError("pairs")
    return {part[0]: part[1] for part in parts}


def _card(name: str) -> str:
    try:
        return load_catalog().gpu(name).id
    except InputError:
        raise ValueError("card") from None


def _owned(text: str) -> dict[str, int]:
    given = _split_pairs(text)
    cards = {_card(name): read_whole(value) for name, value in given.items()}
    counts = cards.values()
    if len(cards) < len(given) or len(cards) > MAX_OWNED_KINDS:
        raise ValueError("cards")
    if min(counts) < 1 or sum(counts) > MAX_OWNED_CARDS:
        raise ValueError("count")
    return cards


def _compared(text: str) -> tuple[str, ...]:
    names: list[str] = []
    for name in text.split(",") if text != NO_PLANS else ():
        buyer, _, card = name.partition(":")
        if buyer not in BUYERS:
            raise ValueError("buyer")
        names.append(f"{buyer}:{_card(card)}")
    if len(names) > MAX_COMPARED or len(set(names)) < len(names):
        raise ValueError("plans")
    return tuple(names)


def _sums(text: str) -> dict[str, float]:
    sums = {name: read_number(value) for name, value in _split_pairs(text).items()}
    if not set(sums) <= set(BUYERS) or not all(0 < value <= MAX_SUM for value in sums.values()):
        raise ValueError("sums")
    return sums


BUYING: Mapping[str, tuple[str, Parser]] = {
    "yrs": ("years", _years),
    "busy": ("utilisation", _busy),
    "own": ("owned", _owned),
    "cmp": ("compared", _compared),
    "bud": ("budgets", _sums),
    "watt": ("powers", _sums),
    "tight": ("accept_tight", read_flag),
}


def buying_value(query: Mapping[str, str], parameter: str) -> Any:
    """Return a parameter of the purchase, None if it is absent or cannot be used."""
    try:
        return BUYING[parameter][1](query[parameter])
    except (KeyError, ValueError):
        return None


def buying_of(query: Mapping[str, str]) -> Buying:
    """Return what a link says of the purchase; what cannot be used is as if it were not there."""
    found = {path: buying_value(query, name) for name, (path, _) in BUYING.items()}
    return Buying(**{path: value for path, value in found.items() if value is not None})
