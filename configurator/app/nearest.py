"""What nearly does it: near misses with the changes that make them fit, and changed limits."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from functools import lru_cache

import streamlit as st

from configurator import numbers
from configurator.app import views
from configurator.app.form import AUTO, form_of
from configurator.app.market_inputs import market_said
from configurator.app.presets import ladder
from configurator.app.state import (
    buy,
    buying,
    currency,
    form,
    language,
    second_load,
    speed_limits,
    words,
)
from configurator.estimate import architecture_of
from configurator.link import FEATURES, Buying
from configurator.recommend import Change, Fix, Plan, Recommendation, Request, tried
from configurator.recommend.request import MARKET, RUN, SERVED
from configurator.scenario import Scenario
from configurator.words import listed, say, sentences

# The places of the limits of speed that a change can move.
LIMIT_FIELDS = {"ttft_s_limit": 0, "user_tokens_per_s_limit": 1}
SPEED_FLOOR = 0.001
_SUMS = {"max_budget": "budgets", "max_power_w": "powers"}
SHOWN_REASONS = 4


def takes(fix: Fix) -> bool:
    """Return whether the page has an input for every change of a fix."""
    return fix.scenario is not None and all(_place(change) for change in fix.changes)


def _place(change: Change) -> str:
    """Return where a change goes: the scenario, a limit, or nowhere ("")."""
    path = change.field.split(".")
    name = path[-1]
    if name in LIMIT_FIELDS:
        return "speed" if change.value >= SPEED_FLOOR else ""
    if path[0] == "tiers":
        return _SUMS.get(name, "")
    if name == "vendors" or name in FEATURES:
        return name
    if name in (*MARKET, *SERVED, *RUN, "accept_tight") and len(path) == 1:
        return "market"
    return "scenario" if path[0] == "scenario" else ""


def apply_fix(fix: Fix) -> None:
    """Ask a fix's question, its cards and limits included; for callbacks."""
    if fix.scenario is None:
        return
    limits = list(speed_limits())
    for change in fix.changes:
        place, path = _place(change), change.field.split(".")
        if place == "speed":
            limits[LIMIT_FIELDS[path[-1]]] = float(change.value)
        elif place in ("budgets", "powers"):
            buy(**{place: {**getattr(buying(), place), path[1]: change.value}})
        elif place == "vendors":
            st.session_state["_vendors"] = ()
        elif place == "market":
            buy(**{change.field: change.value})
        elif place in FEATURES:
            buy(features=tuple(name for name in buying().features if name != place))
    st.session_state["_form"] = form_of(fix.scenario, form())
    st.session_state["_speed_limits"] = tuple(limits)


@lru_cache(maxsize=128)
def _smaller_model(request_json: str, tier: str, gpu: str) -> Fix | None:
    """Return the largest model of the size slider that a near miss's card runs instead."""
    request = Request.model_validate_json(request_json)
    size = architecture_of(request.scenario).parameters
    for model in reversed(ladder()):
        other = request.scenario.model_copy(update={"model": model})
        if architecture_of(other).parameters >= size:
            continue
        changes = (Change("scenario.model", model), Change("scenario.precision", AUTO))
        if (fix := tried(request, changes, tier, gpu)) is not None:
            return fix
    return None


def fixes_of(plan: Plan) -> list[Fix]:
    """Return what makes a near miss fit and the page takes; a smaller model where nothing else."""
    found = [fix for fix in plan.fixes if takes(fix)]
    if found or plan.scenario.is_training:
        return found
    text = plan.request.model_dump_json(exclude_none=True)
    smaller = _smaller_model(text, plan.tier, plan.gpu)
    return [smaller] if smaller else []


def fix_text(fix: Fix, tongue: str) -> str:
    """Return a fix's changes as one line, models by their names."""
    texts = []
    for change in fix.changes:
        if change.field == "scenario.model":
            name = views.model_name(Scenario(model=change.value), tongue)
            change = replace(change, value=name)
        texts.append(change.to_dict(tongue)["text"])
    return say("app.terms.and", tongue).join(texts)


def show_nearest(found: Recommendation, *, open_it: bool) -> None:
    """Show the near misses, each with what it lacks and buttons that make it fit.

    Where not even one card is a candidate, say why not and offer what to allow.
    """
    if not found.nearest:
        if open_it:
            _nothing_near(found)
        return
    box = st.expander(words("nearest"), expanded=open_it, key="nearest", on_change="rerun")
    if not box.open:
        return
    with box:
        st.caption(words("nearest_intro"))
        for place, plan in enumerate(found.nearest):
            tongue = language()
            missing = sentences(tongue, *(item.to_dict(tongue)["text"] for item in plan.missing))
            line = words(
                "nearest_line",
                cards=numbers.plain(f"{plan.gpu_count} × {plan.name}"),
                buyer=words(f"tier.{plan.tier}"),
                missing=numbers.plain(missing),
            )
            st.markdown(line)
            fixes = fixes_of(plan)
            if not fixes:
                st.caption(words("nearest_none"))
            for number, fix in enumerate(fixes):
                _offer(fix, f"fix_{place}_{number}")


def _nothing_near(found: Recommendation) -> None:
    st.markdown(words("nothing_near"))
    counts = Counter(found.rejected.values()).most_common(SHOWN_REASONS)
    for code, count in counts:
        why = numbers.plain(say(f"missing.card.{code}", language()))
        st.markdown(f"- {words('nothing_near_cards', count=count, why=why)}")
    for number, fix in enumerate(found.openings):
        if takes(fix):
            _offer(fix, f"opening_{number}")


def _offer(fix: Fix, key: str) -> None:
    """Show a change in full beside its button: a button cuts long words off on a phone."""
    text = fix_text(fix, language())
    with st.container(horizontal=True, vertical_alignment="center", gap="small"):
        st.button(
            words("nearest_apply"), key=key, icon=":material/build:", on_click=apply_fix,
            args=(fix,), help=numbers.plain(text),
        )  # fmt: skip
        st.markdown(numbers.plain(text), width="stretch")


# --------------------------------------------------------------------------- changed limits


def terms_said(tongue: str) -> list[str]:
    """Return in words what of the purchase differs from the usual: own cards, moved limits."""
    held = buying()
    said = []
    if held.owned:
        cards = listed(tongue, (views.cards(count, gpu) for gpu, count in held.owned.items()))
        said.append(words("terms.owned", cards=numbers.plain(cards)))
    for kind, values in (("budget", held.budgets), ("power", held.powers), ("other", held.others)):
        for buyer, value in values.items():
            shown = (
                f"{numbers.decimal(value, tongue)} W"
                if kind == "power"
                else numbers.money(value, currency(), tongue)
            )
            said.append(
                words(f"terms.{kind}", buyer=words(f"tier.{buyer}"), value=numbers.plain(shown))
            )
    if held.accept_tight:
        said.append(words("terms.tight"))
    also = second_load()
    if also is not None:
        load = numbers.plain(views.question(also, tongue))
        said.append(words("terms.also", load=load))
    return said + market_said(tongue)


def _usual_terms() -> None:
    held = buying()
    usual = Buying(held.years, held.utilisation, held.owned, held.compared)
    st.session_state["_buying"] = usual
    st.session_state["_also"] = None


def show_terms() -> None:
    """Say which limits were moved and which cards are owned, with a button back to the usual."""
    said = terms_said(language())
    if not said:
        return
    with st.container(horizontal=True, vertical_alignment="center", key="terms"):
        st.caption(words("terms.title", terms=words("terms.and").join(said)), width="content")
        if len(said) > bool(buying().owned):
            st.button(words("terms.reset"), key="usual_terms", icon=":material/undo:",
                      type="tertiary", on_click=_usual_terms)  # fmt: skip
