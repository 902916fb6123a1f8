"""What a link says of the purchase beside the scenario."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import lru_cache
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
MAX_COUNT = 100_000
BUYERS = ("individual", "sme", "enterprise")
OBJECTIVES = ("cost", "purchase", "per_million_tokens", "latency", "headroom", "energy")
REGIONS = ("any", "US", "China", "EU")
CONDITIONS = ("new", "used", "any")
SEGMENTS = ("consumer", "workstation", "datacenter", "desktop SoC")
FEATURES = ("ecc", "vgpu", "nvlink")
MOST_TARIFF, MOST_PUE, MOST_SHARE = 100.0, 5.0, 0.95


@dataclass(frozen=True)
class Buying:
    """What a link says of the purchase beside the scenario; what is as usual is not said.

    The names are those of a request, where it has them. What "as usual" means is frozen with the
    version of the link: ranked by cost, new cards, prices of any region.

    Attributes:
        years: Of ownership.
        utilisation: Share of the time at this load.
        owned: Cards that are there already, catalog id → how many.
        compared: Plans laid side by side, each ``class of buyer:card``; None: not chosen.
        budgets: Most that the purchase may cost, class of buyer → sum in the link's currency.
        powers: Most watts that a plan may draw, class of buyer → W.
        others: What is bought besides, in all, class of buyer → sum in the link's currency.
        accept_tight: Whether plans inside the memory estimate's error count.
        objective: What ranks plans.
        region, condition: Where and how cards are bought.
        segments, form_factors: Allowed; all if empty.
        features: That a card must have, of ``FEATURES``.
        max_gpus, max_rack_units: Of a plan, spares included.
        max_power_w_per_host: Of each machine at full load [W].
        spare_gpus: Cards beyond those in use; None: as the class of buyer has them.
        spare_node: Whether a whole server is spare.
        sure_prices: Whether cards with a price of low confidence are left out.
        export_limits: Whether cards that need an export licence for the region are left out.
        cny_per_usd: Exchange rate; None: the catalog's.
        tariff_per_kwh, hosting_per_kw_month: In the link's currency; None: the catalog's.
        pue, staff_share, support_share, resale_share: Rates; None: the catalog's.
        output_tokens_per_s_limit: Least tokens a second of all users together.
        train_tokens_b: Billions of tokens in the whole training run.
        train_days_limit: Most days that it may take.
    """

    years: int | None = None
    utilisation: float | None = None
    owned: Mapping[str, int] = field(default_factory=dict)
    compared: tuple[str, ...] | None = None
    budgets: Mapping[str, float] = field(default_factory=dict)
    powers: Mapping[str, float] = field(default_factory=dict)
    others: Mapping[str, float] = field(default_factory=dict)
    accept_tight: bool = False
    objective: str = "cost"
    region: str = "any"
    condition: str = "new"
    segments: tuple[str, ...] = ()
    form_factors: tuple[str, ...] = ()
    features: tuple[str, ...] = ()
    max_gpus: int | None = None
    max_rack_units: float | None = None
    max_power_w_per_host: float | None = None
    spare_gpus: int | None = None
    spare_node: bool = False
    sure_prices: bool = False
    export_limits: bool = False
    cny_per_usd: float | None = None
    tariff_per_kwh: float | None = None
    pue: float | None = None
    hosting_per_kw_month: float | None = None
    staff_share: float | None = None
    support_share: float | None = None
    resale_share: float | None = None
    output_tokens_per_s_limit: float | None = None
    train_tokens_b: float | None = None
    train_days_limit: float | None = None


USUAL = Buying()


@lru_cache(maxsize=1)
def form_factors() -> tuple[str, ...]:
    """Return the form factors of the catalog's cards, the commonest first."""
    found = Counter(gpu.form_factor for gpu in load_catalog().gpus.values() if gpu.form_factor)
    return tuple(name for name, _ in found.most_common())


def _text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, Mapping):
        return ",".join(f"{name}:{number_text(part)}" for name, part in value.items())
    if isinstance(value, tuple):
        return ",".join(value) or NO_PLANS
    return number_text(value)


def buying_parameters(buying: Buying) -> dict[str, str]:
    """Return the parameters that say it; what is as usual is left out."""
    values = ((parameter, name, getattr(buying, name)) for parameter, (name, _) in BUYING.items())
    return {
        parameter: _text(value)
        for parameter, name, value in values
        if value != getattr(USUAL, name)
    }


def _between(low: float, high: float) -> Parser:
    def read(text: str) -> float:
        value = read_number(text)
        if not low <= value <= high:
            raise ValueError("range")
        return value

    return read


def _count(least: int) -> Parser:
    def read(text: str) -> int:
        value = read_whole(text)
        if not least <= value <= MAX_COUNT:
            raise ValueError("count")
        return value

    return read


def _limit(text: str) -> float:
    value = read_number(text)
    if not 0 < value <= MAX_SUM:
        raise ValueError("limit")
    return value


def _one_of(known: tuple[str, ...]) -> Parser:
    def read(text: str) -> str:
        if text not in known:
            raise ValueError("unknown")
        return text

    return read


def _some_of(known: Callable[[], tuple[str, ...]]) -> Parser:
    def read(text: str) -> tuple[str, ...]:
        names = text.split(",")
        if not set(names) <= set(known()) or len(set(names)) < len(names):
            raise ValueError("unknown")
        return tuple(name for name in known() if name in names)

    return read


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
    "more": ("others", _sums),
    "tight": ("accept_tight", read_flag),
    "obj": ("objective", _one_of(OBJECTIVES)),
    "reg": ("region", _one_of(REGIONS)),
    "cond": ("condition", _one_of(CONDITIONS)),
    "seg": ("segments", _some_of(lambda: SEGMENTS)),
    "form": ("form_factors", _some_of(form_factors)),
    "must": ("features", _some_of(lambda: FEATURES)),
    "most": ("max_gpus", _count(1)),
    "ru": ("max_rack_units", _limit),
    "boxw": ("max_power_w_per_host", _limit),
    "spare": ("spare_gpus", _count(0)),
    "sparebox": ("spare_node", read_flag),
    "sure": ("sure_prices", read_flag),
    "exp": ("export_limits", read_flag),
    "fx": ("cny_per_usd", _between(0.01, 1000)),
    "kwh": ("tariff_per_kwh", _between(0, MOST_TARIFF)),
    "pue": ("pue", _between(1, MOST_PUE)),
    "colo": ("hosting_per_kw_month", _between(0, MAX_SUM)),
    "staff": ("staff_share", _between(0, MOST_SHARE)),
    "sup": ("support_share", _between(0, MOST_SHARE)),
    "left": ("resale_share", _between(0, MOST_SHARE)),
    "all": ("output_tokens_per_s_limit", _limit),
    "tok": ("train_tokens_b", _limit),
    "days": ("train_days_limit", _limit),
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
