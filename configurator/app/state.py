"""The session: language, form and address bar. The form is the truth; widgets show it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any

import streamlit as st

from configurator import link, numbers
from configurator.app.form import Form, default_form, form_of, scenario_of
from configurator.app.presets import Preset, presets
from configurator.catalog import Catalog, load_catalog
from configurator.cost.prices import per_usd
from configurator.errors import InputError
from configurator.link import Buying
from configurator.recommend.request import (
    MARKET,
    RUN,
    SERVED,
    Currency,
    Request,
    TierEdit,
    TierId,
    Vendor,
    at_rate,
)
from configurator.scenario import Scenario
from configurator.words import LANGUAGES, say

CURRENCIES: tuple[Currency, ...] = link.CURRENCIES
VENDORS: tuple[Vendor, ...] = ("NVIDIA", "AMD", "Intel", "Huawei", "Apple")
LANGUAGE_NAMES = {"en": "English", "zh": "简体中文"}
YEARS, UTILISATION = 3, 0.5
# With the most that a link and a request take.
RATES_OF_MONEY = {"tariff_per_kwh": link.MOST_TARIFF, "hosting_per_kw_month": link.MAX_SUM}
BUYERS: tuple[TierId, ...] = ("individual", "sme", "enterprise")
_HISTORY = 50
SETTLING_RUNS = 5


# --------------------------------------------------------------------------- language


def _browser_language() -> str:
    locale = st.context.locale or ""
    return "zh" if locale.lower().startswith("zh") else "en"


def language() -> str:
    """Return the language of this session: the link's, else the chosen one, else the browser's."""
    held = st.session_state.get("language")
    if held is None:
        asked = st.query_params.get("lang", "")
        held = asked if asked in LANGUAGES else _browser_language()
        st.session_state["language"] = held
    return str(held)


def words(key: str, /, **values: Any) -> str:
    """Return a sentence of the page in the session's language."""
    return say(f"app.{key}", language(), **values)


def bound_words() -> Callable[..., str]:
    """Return :func:`words` for the language as it is now; for what is called after the run."""
    tongue = language()
    return lambda key, **values: say(f"app.{key}", tongue, **values)


def _language_chosen() -> None:
    if st.session_state["lang"] not in LANGUAGES:
        return
    st.session_state["language"] = st.session_state["lang"]
    # Streamlit keeps a choice by its label: give every widget its value again under the new ones.
    st.session_state["_relabel"] = True


def language_switch() -> None:
    """Show the language control."""
    seed("lang", language())
    st.segmented_control(
        "Language / 语言",
        list(LANGUAGES),
        format_func=lambda code: LANGUAGE_NAMES.get(code, str(code)),
        key="lang",
        required=True,
        on_change=_language_chosen,
        label_visibility="collapsed",
    )


# --------------------------------------------------------------------------- widgets


def seed(key: str, value: Any) -> None:
    """Give a widget its value before it is drawn, unless it has it already.

    Streamlit sends a value given this way once. A browser still busy drawing a page may miss it
    when the next run overtakes, then shows the widget's first option and sends that back as if
    chosen. So a new widget's page says all values again for its first few runs.
    """
    state = st.session_state
    if key not in state:
        state["_settling"] = SETTLING_RUNS
    if state.get("_relabel") or state.get("_settling") or state.get(key, _Unset) != value:
        state[key] = value


def around(low: float, high: float, held: float | None) -> tuple[float, float]:
    """Return the ends of an input so that what is held, a link's perhaps, lies between them.

    Streamlit empties an input whose value lies beyond its ends.
    """
    return (low, high) if held is None else (min(low, held), max(high, held))


class _Unset:
    """Stands for "no value yet": ``None`` is one."""


def form() -> Form:
    """Return the session's form; changes to it are changes of the question."""
    held: Form = st.session_state["_form"]
    return held


def take(
    field: str,
    key: str,
    after: Callable[[Form], None] | None = None,
    *,
    empty: bool = False,
) -> Callable[[], None]:
    """Return a callback that moves a widget's value into the form.

    A choice that comes back as nothing, as was seen of a browser in trouble, is no choice, unless
    the field may be ``empty``.
    """

    def moved() -> None:
        if st.session_state[key] is None and not empty:
            return
        form()[field] = st.session_state[key]
        if after is not None:
            after(form())

    return moved


def put(values: Mapping[str, Any]) -> None:
    """Change fields of the form; for callbacks of buttons."""
    form().update(values)


# --------------------------------------------------------------------------- the address bar


def _query() -> dict[str, str]:
    return {k: v for k, v in st.query_params.to_dict().items() if k != "lang"}


def catalog_version() -> str:
    """Return the catalog's version."""
    return load_catalog().version


def currency() -> Currency:
    """Return the currency of the prices shown."""
    if st.session_state.get("_currency") not in CURRENCIES:
        st.session_state["_currency"] = numbers.CURRENCY[language()]
    found: Currency = st.session_state["_currency"]
    return found


def chosen_vendors() -> tuple[Vendor, ...]:
    """Return the makers that cards may come from; none stands for all."""
    return tuple(st.session_state.get("_vendors", ()))


def speed_limits() -> tuple[float | None, float | None]:
    """Return the limits asked for: most seconds to the first token, least tokens/s for each."""
    found: tuple[float | None, float | None] = st.session_state.get("_speed_limits", (None, None))
    return found


def limits_of(scenario: Scenario) -> tuple[float | None, float | None]:
    """Return the limits of speed that count for a scenario; there are none for training."""
    return (None, None) if scenario.is_training else speed_limits()


def rated_catalog(held: Buying) -> Catalog:
    """Return the catalog at the exchange rate of a purchase."""
    catalog = load_catalog()
    return catalog if held.cny_per_usd is None else at_rate(catalog, held.cny_per_usd)


def buying() -> Buying:
    """Return terms and limits of the purchase, own cards and plans compared; sums as shown."""
    held: Buying = st.session_state.get("_buying", Buying())
    given = st.session_state.get("_buying_in", currency())
    if given != currency():
        catalog = rated_catalog(held)
        rate = per_usd(catalog, currency()) / per_usd(catalog, given)
        sums: dict[str, Any] = {
            name: {buyer: max(1.0, round(sum_ * rate, 0)) for buyer, sum_ in given_sums.items()}
            for name in ("budgets", "others")
            if (given_sums := getattr(held, name))
        }
        rates: dict[str, Any] = {
            name: min(most, float(f"{value * rate:.4g}"))
            for name, most in RATES_OF_MONEY.items()
            if (value := getattr(held, name)) is not None
        }
        held = st.session_state["_buying"] = replace(held, **sums, **rates)
    st.session_state["_buying_in"] = currency()
    return held


def served_of(held: Buying) -> dict[str, float | None]:
    """Return what is asked of all users' speed together."""
    return {name: getattr(held, name) for name in SERVED}


def second_load() -> Scenario | None:
    """Return the load that the same kind of card carries besides, at the same time."""
    found: Scenario | None = st.session_state.get("_also")
    return found


def run_of(held: Buying) -> dict[str, float | None]:
    """Return what is known of the whole training run; days alone say nothing."""
    days = None if held.train_tokens_b is None else held.train_days_limit
    return {"train_tokens_b": held.train_tokens_b, "train_days_limit": days}


def buy(**changes: Any) -> None:
    """Change fields of :func:`buying`; for callbacks."""
    st.session_state["_buying"] = replace(buying(), **changes)


def request_of(scenario: Scenario) -> Request:
    """Return what is asked of the market for a scenario, under the terms of this session."""
    ttft_s, tokens_per_s = limits_of(scenario)
    held = buying()
    edits = {
        buyer: TierEdit(
            max_budget=held.budgets.get(buyer),
            max_power_w=held.powers.get(buyer),
            other_purchase=held.others.get(buyer),
        )
        for buyer in BUYERS
        if buyer in {**held.budgets, **held.powers, **held.others}
    }
    return Request(
        scenario=scenario,
        also=second_load(),
        currency=currency(),
        vendors=chosen_vendors(),
        ttft_s_limit=ttft_s,
        user_tokens_per_s_limit=tokens_per_s,
        years=held.years or YEARS,
        utilisation=held.utilisation or UTILISATION,
        owned=dict(held.owned),
        accept_tight=held.accept_tight,
        tiers=edits,
        **{name: getattr(held, name) for name in MARKET},
        **(run_of(held) if scenario.is_training else served_of(held)),
        **dict.fromkeys(held.features, True),
    )


def open_session() -> None:
    """Give a new session the first preset, so that no page starts empty."""
    state = st.session_state
    if "_form" not in state:
        state["_problems"] = []
        state["_form"] = default_form()
        take_preset(presets()[0])
        state["_link"], state["_seen"] = None, []


def take_preset(chosen: Preset) -> None:
    """Put a preset into the form, with its limits of speed and its training run."""
    state = st.session_state
    state["preset"] = chosen.id
    state["_form"] = form_of(chosen.scenario, state["_form"])
    state["_speed_limits"] = chosen.speed
    buy(**dict(zip(RUN, chosen.run)))


def open_link() -> None:
    """Take over the address bar if it holds another question than the page.

    That is so on a first visit, for a pasted link, and after Back or Forward. Call before any
    widget.
    """
    open_session()
    state = st.session_state
    state["_settling"] = max(0, state.get("_settling", 0) - 1)
    query = _query()
    if query:
        _follow_language()
    if not query or query == state["_link"]:
        return
    scenario, state["_problems"] = link.decode(query)
    state["_form"] = form_of(scenario, state["_form"])
    state["_currency"] = link.currency_of(query) or currency()
    state["_made_with"] = link.catalog_of(query)
    state["_vendors"] = link.vendors_of(query, VENDORS)
    state["_speed_limits"] = link.limits_of(query)
    state["_buying"], state["_buying_in"] = link.buying_of(query), currency()
    state["_also"] = link.also_of(query)
    state["preset"] = _preset_of(scenario)


def _follow_language() -> None:
    """Take the language of an address that the page did not write: Back or Forward."""
    state = st.session_state
    shown = state.get("_shown")
    if shown is None or st.query_params.to_dict() == shown:
        return
    asked = st.query_params.get("lang", _browser_language())
    if asked in LANGUAGES and asked != language():
        state["language"], state["_relabel"] = asked, True


def _preset_of(scenario: Scenario) -> str | None:
    """Return the preset that is exactly this scenario, if any."""
    return next((p.id for p in presets() if form_of(p.scenario) == form_of(scenario)), None)


def address(scenario: Scenario) -> dict[str, str]:
    """Return the address of a scenario under the terms and in the language of this session."""
    return _parameters(scenario) | _tongue()


def _tongue() -> dict[str, str]:
    return {} if language() == _browser_language() else {"lang": language()}


def _parameters(scenario: Scenario) -> dict[str, str]:
    ttft_s, tokens_per_s = limits_of(scenario)
    held = buying()
    return link.encode(
        scenario,
        catalog=catalog_version(),
        currency=currency(),
        vendors=chosen_vendors(),
        ttft_s=ttft_s,
        tokens_per_s=tokens_per_s,
        buying=replace(
            held, years=held.years or YEARS, utilisation=held.utilisation or UTILISATION
        ),
        also=second_load(),
    )


def write_link(scenario: Scenario) -> dict[str, str]:
    """Keep the address bar on the question shown: one history entry a change, so Back is undo.

    An address that was opened and says the same in other words is rewritten once; when Back
    returns to it, it stays, so that Back leads on out of the page.
    """
    state = st.session_state
    wanted = _parameters(scenario)
    shown = wanted | _tongue()
    query = st.query_params.to_dict()
    changed = shown != state.get("_shown")
    state["_link"], state["_shown"] = wanted, shown
    if query == shown:
        return wanted
    if not changed and not state.get("_turned") and query in state["_seen"]:
        return wanted
    state["_seen"] = [*state["_seen"], query][-_HISTORY:]
    st.query_params.from_dict(shown)
    return wanted


def question() -> Scenario | InputError:
    """Return the scenario that the form asks, or what is wrong with it."""
    try:
        return scenario_of(form())
    except InputError as error:
        return error
