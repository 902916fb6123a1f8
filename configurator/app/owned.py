"""Cards that are there already: what runs on them, and the cheapest cards to add."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache

import pandas as pd
import streamlit as st

from configurator import numbers
from configurator.app import views
from configurator.app.inputs import gpu_label, gpu_order
from configurator.app.presets import ladder
from configurator.app.state import buy, buying, language, seed, words
from configurator.catalog import load_catalog
from configurator.link import MAX_OWNED_KINDS
from configurator.recommend import Request, Upgrade, Way, own_models, upgrades, ways
from configurator.recommend.candidates import cards_of
from configurator.recommend.search import NATIVE_FIRST
from configurator.scenario import Scenario
from configurator.words import listed, say

MOST_OF_A_KIND = 64


@lru_cache(maxsize=1)
def known_cards() -> tuple[str, ...]:
    """Return the cards that can be reckoned with, in the order of the card picker."""
    places = cards_of(load_catalog()).places
    return tuple(gpu for gpu in gpu_order() if gpu in places)


@lru_cache(maxsize=64)
def _models(owned: tuple[tuple[str, int], ...], scenario_json: str) -> tuple[Way, ...]:
    scenario = Scenario.model_validate_json(scenario_json)
    return tuple(reversed(list(own_models(dict(owned), scenario, ladder()))))


@lru_cache(maxsize=64)
def _ways(
    owned: tuple[tuple[str, int], ...], scenario_json: str, precisions: tuple[str, ...]
) -> tuple[Way, ...]:
    scenario = Scenario.model_validate_json(scenario_json)
    return ways(dict(owned), scenario, precisions=precisions)


@lru_cache(maxsize=64)
def _upgrades(owned: tuple[tuple[str, int], ...], request_json: str) -> tuple[Upgrade, ...]:
    return upgrades(dict(owned), Request.model_validate_json(request_json))


def cards_text(cards: Mapping[str, int]) -> str:
    """Return e.g. ``1 × RTX 4090 + 2 × RTX 3090``."""
    return " + ".join(views.cards(count, gpu) for gpu, count in cards.items())


def split_text(way: Way, tongue: str) -> str:
    """Return how a way shares the model, with the engine's own setting for it."""
    if way.split == "layers":
        layers = ",".join(map(str, way.layers))
        return say(f"app.owned.split.layers_{way.scenario.engine}", tongue, layers=layers)
    parts = [
        say(f"app.owned.split.{name}", tongue, count=count)
        for name, count in (("tensor", way.tensor), ("stages", way.pipeline), ("copies", way.data))
        if count > 1
    ]
    alone = say("app.owned.split.alone", tongue)
    return say("app.owned.split.equal", tongue, parts=listed(tongue, parts)) if parts else alone


def how_text(way: Way, tongue: str) -> str:
    """Return engine, cards and split of a way."""
    engine = views.option("engine", way.scenario.engine, tongue)
    cards, split = cards_text(way.cards), split_text(way, tongue)
    return say("app.owned.how", tongue, engine=engine, cards=cards, split=split)


def figures_text(way: Way, tongue: str) -> str:
    """Return how many users, how much context and how fast."""
    return say(
        "app.owned.figures", tongue,
        users=numbers.count(way.max_users, tongue), context=numbers.tokens_about(way.max_context),
        speed=numbers.rate(way.user_tokens_per_s, tongue),
        first=numbers.seconds(way.ttft_s, tongue),
    )  # fmt: skip


def table(found: Sequence[Way], tongue: str) -> pd.DataFrame:
    """Return the models that run on own cards, one a row, the largest first."""

    def head(name: str) -> str:
        return say(f"app.owned.column.{name}", tongue)

    return pd.DataFrame(
        {
            head("model"): views.model_name(way.scenario, tongue),
            head("precision"): views.option("precision", way.precision, tongue),
            head("users"): numbers.count(way.max_users, tongue),
            head("context"): numbers.tokens_about(way.max_context),
            head("speed"): numbers.rate(way.user_tokens_per_s, tongue),
            head("engine"): views.option("engine", way.scenario.engine, tongue),
            head("cards"): cards_text(way.cards),
            head("split"): split_text(way, tongue),
        }
        for way in found
    )


def _cards_chosen() -> None:
    held = buying().owned
    picked = st.session_state["owned_cards"] or ()
    buy(owned={gpu: held.get(gpu, 1) for gpu in picked if gpu in known_cards()})


def _count_chosen(gpu: str) -> None:
    count = st.session_state[f"owned_count_{gpu}"]
    if count is not None:
        buy(owned={**buying().owned, gpu: int(count)})


def show_owned(request: Request) -> None:
    """Show the cards that are there, what runs on them, and what to add for the question."""
    held = dict(buying().owned)
    box = st.expander(
        words("owned.title"), icon=":material/inventory_2:", expanded=bool(held), key="owned",
        on_change="rerun",
    )  # fmt: skip
    if not box.open:
        return
    with box:
        st.caption(words("owned.intro"))
        seed("owned_cards", list(held))
        st.multiselect(
            words("owned.cards"),
            list(dict.fromkeys([*known_cards(), *held])),
            format_func=gpu_label,
            max_selections=MAX_OWNED_KINDS,
            key="owned_cards",
            on_change=_cards_chosen,
            placeholder=words("owned.none"),
        )
        with st.container(horizontal=True):
            for gpu, count in held.items():
                key = f"owned_count_{gpu}"
                seed(key, count)
                st.number_input(
                    views.gpu_name(gpu), min_value=1, max_value=max(MOST_OF_A_KIND, count),
                    step=1, key=key, on_change=_count_chosen, args=(gpu,), width=190,
                )  # fmt: skip
        if held:
            _answer(request, held)


def _answer(request: Request, held: Mapping[str, int]) -> None:
    scenario = request.scenario
    if scenario.is_training:
        st.caption(words("owned.training"))
        return
    tongue, owned = language(), tuple(held.items())
    text = scenario.model_dump_json(exclude_none=True)
    st.markdown(f"**{words('owned.question')}**")
    here = _ways(owned, text, (scenario.precision,))
    kept = [way for way in here if _keeps(way, request)]
    for way in kept:
        st.success(_line(way, tongue), icon=":material/check_circle:")
    if not kept:
        st.error(words("owned.not"), icon=":material/cancel:")
        for way in here or _ways(owned, text, NATIVE_FIRST):
            st.markdown(f"- {words('owned.but')} {_line(way, tongue)}")
        _add(request, owned, tongue)
    found = _models(owned, text)
    st.markdown(f"**{words('owned.models')}**")
    if found:
        st.dataframe(table(found, tongue), hide_index=True, width="stretch", height="content")
    else:
        st.caption(words("owned.no_model"))
    st.caption(words("owned.note"))


def _keeps(way: Way, request: Request) -> bool:
    first, pace = request.ttft_s_limit, request.user_tokens_per_s_limit
    return (first is None or way.ttft_s <= first) and (
        pace is None or way.user_tokens_per_s >= pace
    )


def _line(way: Way, tongue: str) -> str:
    weights = say(
        "app.owned.weights", tongue, precision=views.option("precision", way.precision, tongue)
    )
    parts = (weights, how_text(way, tongue), figures_text(way, tongue))
    return numbers.plain(" · ".join(parts))


def _add(request: Request, owned: tuple[tuple[str, int], ...], tongue: str) -> None:
    st.markdown(f"**{words('owned.add')}**")
    found = _upgrades(owned, request.model_dump_json(exclude_none=True))
    if not found:
        st.caption(words("owned.add_none"))
        return
    for item in found:
        price = numbers.plain(numbers.money(item.price, item.currency, tongue))
        cards = numbers.plain(views.cards(item.count, item.gpu))
        day = item.card_price.date.text(tongue)
        st.markdown(f"- **+ {cards}** · {price} ({day}) · {_line(item.way, tongue)}")
    st.caption(words("owned.add_note"))
