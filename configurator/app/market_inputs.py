"""What is asked of the market: which cards, what comes first, limits, rates of running costs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, get_args

import streamlit as st
from streamlit.delta_generator import DeltaGenerator

from configurator import link, numbers
from configurator.app import views
from configurator.app.market import TIERS
from configurator.app.state import (
    around,
    buy,
    buying,
    currency,
    language,
    question,
    rated_catalog,
    second_load,
    seed,
    words,
)
from configurator.catalog import load_catalog
from configurator.cost.prices import Condition, Region, per_usd
from configurator.errors import InputError
from configurator.recommend import Tier, load_tiers
from configurator.recommend.request import MARKET, SERVED, Objective, Segment
from configurator.scenario import Scenario
from configurator.words import listed

# Percent of what; each with the most that makes sense.
SHARES = ("staff_share", "support_share", "resale_share")
SUMS = ("max_budget", "max_power_w")
HELD = {"max_budget": "budgets", "max_power_w": "powers", "other_purchase": "others"}
MOST_COUNT = 1024


def market(places: Sequence[DeltaGenerator]) -> None:
    """Show what is asked of the market.

    Args:
        places: Where the groups of inputs go in turn: one place, or several side by side.
    """
    for number, (title, draw) in enumerate(
        (("cards", _cards), ("limits", _limits), ("rates", _rates))
    ):
        with places[number % len(places)]:
            st.markdown(f"**{words(f'market.{title}')}**")
            draw()


def _cards() -> None:
    _one_of("objective", get_args(Objective), help_key="objective")
    _one_of("region", get_args(Region), help_key="region")
    _one_of("condition", get_args(Condition))
    _some_of("segments", get_args(Segment))
    _some_of("features", link.FEATURES, help_key="features")
    seed("buy_form_factors", list(buying().form_factors))
    st.multiselect(
        words("field.form_factors"),
        link.form_factors(),
        key="buy_form_factors",
        on_change=_take("form_factors", tuple),
        placeholder=words("market.no_limit"),
    )
    _flag("sure_prices")
    _flag("export_limits", help_key="export_limits")
    _flag("accept_tight")
    _second_load()


def _second_load() -> None:
    """Show the load that the same kind of card carries besides, or offer to keep this one."""
    also, asked = second_load(), question()
    if also is not None:
        st.caption(numbers.plain(words("market.also", load=views.question(also, language()))))
        st.button(words("market.also_drop"), key="also_drop", on_click=_keep, args=(None,))
    elif not isinstance(asked, InputError):
        bare = asked.model_copy(update={"hardware": None})
        st.button(
            words("market.also_keep"), key="also_keep", on_click=_keep, args=(bare,),
            help=words("help.also"),
        )  # fmt: skip


def _keep(load: Scenario | None) -> None:
    st.session_state["_also"] = load


def _limits() -> None:
    for name in SUMS:
        for tier in _tiers():
            _of_tier(name, tier)
    _number("output_tokens_per_s_limit", 1.0, link.MAX_SUM, 100.0)
    _number("max_power_w_per_host", 1.0, link.MAX_SUM, 100.0, help_key="max_power_w_per_host")
    _count("max_gpus", 1)
    _number("max_rack_units", 1.0, 1e4, 1.0)
    _count("spare_gpus", 0, help_key="spare_gpus")
    _flag("spare_node", help_key="spare_node")


def _rates() -> None:
    st.caption(words("help.rates"))
    _number("cny_per_usd", 0.01, 1000.0, 0.05, usual=True)
    _number("tariff_per_kwh", 0.0, link.MOST_TARIFF, 0.01, usual=True)
    _number("hosting_per_kw_month", 0.0, link.MAX_SUM, 10.0, usual=True)
    _number("pue", 1.0, link.MOST_PUE, 0.05, usual=True)
    for name in SHARES:
        _percent(name)
    for tier in _tiers():
        _of_tier("other_purchase", tier)


# --------------------------------------------------------------------------- one widget each


def _label(name: str) -> str:
    return words(f"field.{name}", currency=currency())


def _help(key: str | None) -> str | None:
    return words(f"help.{key}") if key else None


def _take(name: str, read: Callable[[Any], Any], *, empty: bool = False) -> Callable[[], None]:
    def moved() -> None:
        value = st.session_state[f"buy_{name}"]
        if value is None and not empty:
            return
        buy(**{name: None if value is None else read(value)})

    return moved


def _option(name: str) -> Callable[[Any], str]:
    tongue = language()
    return lambda value: views.option(name, value, tongue)


def _one_of(name: str, values: Sequence[str], *, help_key: str | None = None) -> None:
    seed(f"buy_{name}", getattr(buying(), name))
    st.selectbox(
        _label(name),
        values,
        format_func=_option(name),
        key=f"buy_{name}",
        on_change=_take(name, str),
        help=_help(help_key),
    )


def _some_of(name: str, values: Sequence[str], *, help_key: str | None = None) -> None:
    seed(f"buy_{name}", list(getattr(buying(), name)))

    def in_order(picked: Sequence[str]) -> tuple[str, ...]:
        return tuple(value for value in values if value in picked)

    st.pills(
        _label(name),
        values,
        selection_mode="multi",
        format_func=_option(name),
        key=f"buy_{name}",
        on_change=_take(name, in_order),
        help=_help(help_key),
    )


def _flag(name: str, *, help_key: str | None = None) -> None:
    seed(f"buy_{name}", getattr(buying(), name))
    st.toggle(_label(name), key=f"buy_{name}", on_change=_take(name, bool), help=_help(help_key))


def _number(
    name: str, low: float, high: float, step: float, *, usual: bool = False,
    help_key: str | None = None,
) -> None:  # fmt: skip
    held = getattr(buying(), name)
    low, high = around(low, high, held)
    seed(f"buy_{name}", held)
    st.number_input(
        _label(name),
        min_value=low,
        max_value=high,
        value=None,
        step=step,
        format="%.6g" if usual else "%.0f",
        key=f"buy_{name}",
        placeholder=words(f"market.{'usual' if usual else 'no_limit'}"),
        on_change=_take(name, float, empty=True),
        help=_help(help_key),
    )


def _count(name: str, least: int, *, help_key: str | None = None) -> None:
    held = getattr(buying(), name)
    seed(f"buy_{name}", held)
    st.number_input(
        _label(name),
        min_value=least,
        max_value=max(MOST_COUNT, held or 0),
        value=None,
        step=1,
        key=f"buy_{name}",
        placeholder=words(f"market.{'no_limit' if least else 'usual'}"),
        on_change=_take(name, int, empty=True),
        help=_help(help_key),
    )


def _percent(name: str) -> None:
    held = getattr(buying(), name)
    seed(f"buy_{name}", None if held is None else round(100 * held, 4))
    st.number_input(
        _label(name),
        min_value=0.0,
        max_value=100 * link.MOST_SHARE,
        value=None,
        step=1.0,
        format="%.6g",
        key=f"buy_{name}",
        placeholder=words("market.usual"),
        on_change=_take(name, lambda value: round(value / 100, 6), empty=True),
    )


def _tiers() -> list[Tier]:
    """Return the classes of buyer as they are in the region asked for."""
    return [tier.in_region(buying().region) for tier in load_tiers(load_catalog())]


def _of_tier(name: str, tier: Tier) -> None:
    """Show a class of buyer's own limit; what is usual for it stands where nothing is given."""
    key = f"buy_{name}_{tier.id}"
    held = getattr(buying(), HELD[name]).get(tier.id)
    low, high = around(1.0, link.MAX_SUM, held)
    seed(key, held)
    st.number_input(
        f"{_label(name)} · {words(f'tier.{tier.id}')}",
        min_value=low,
        max_value=high,
        value=None,
        step=100.0 if name == "max_power_w" else 1000.0,
        format="%.0f",
        key=key,
        placeholder=_usual(name, tier),
        on_change=_take_of_tier,
        args=(name, tier.id),
    )


def _take_of_tier(name: str, buyer: str) -> None:
    held = HELD[name]
    value = st.session_state[f"buy_{name}_{buyer}"]
    kept = {k: v for k, v in getattr(buying(), held).items() if k != buyer}
    if value is not None:
        kept[buyer] = float(value)
    buy(**{held: {tier: kept[tier] for tier in TIERS if tier in kept}})


def _usual(name: str, tier: Tier) -> str:
    if name == "other_purchase":
        return words("market.none")
    limit = tier.max_budget if name == "max_budget" else tier.max_power_w
    if limit is None:
        return words("market.no_limit")
    if name == "max_power_w":
        return words("market.power_unit", value=numbers.decimal(limit.value, language()))
    rate = per_usd(rated_catalog(buying()), currency())
    return numbers.money(limit.value * rate, currency(), language())


# --------------------------------------------------------------------------- what differs


def market_said(tongue: str) -> list[str]:
    """Return in words what of the market differs from the usual."""
    held = buying()
    said = []
    for name in (*MARKET, *SERVED, "features"):
        value = getattr(held, name)
        if value == getattr(link.USUAL, name):
            continue
        label = _label(name)
        if isinstance(value, bool):
            said.append(label)
            continue
        if isinstance(value, str):
            shown = views.option(name, value, tongue)
        elif isinstance(value, tuple):
            shown = listed(tongue, (views.option(name, item, tongue) for item in value))
        else:
            shown = numbers.trimmed(100 * value if name in SHARES else value, tongue, 3)
        said.append(words("market.differs", name=label, value=shown))
    return [numbers.plain(text) for text in said]
