"""The three classes of buyer: the best plan of each, its price, its reasons, the next ones."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import streamlit as st

from configurator import numbers
from configurator.app import views
from configurator.app.form import form_of
from configurator.app.market import TIERS
from configurator.app.state import form, language, words
from configurator.cost.ranges import Range
from configurator.recommend import Plan, Recommendation
from configurator.words import bracketed, clauses, listed, say, sentences

TIER_ICONS = {
    "individual": ":material/person:",
    "sme": ":material/groups:",
    "enterprise": ":material/domain:",
}


def tiers(found: Recommendation, facts: Mapping[str, Sequence[str]]) -> None:
    """Draw the best plan of each class of buyer, side by side, each with its :func:`plan_facts`."""
    for column, tier in zip(st.columns(len(TIERS)), TIERS):
        with column.container(border=True, height="stretch", key=f"tier_{tier}", gap="xsmall"):
            near = next((plan for plan in found.nearest if plan.tier == tier), None)
            _tier(tier, found.tiers.get(tier, ()), facts.get(tier, ()), near)


def plan_name(plan: Plan) -> str:
    """Return a plan's cards in use."""
    return views.cards(plan.gpu_count, plan.gpu)


def plan_facts(plan: Plan, tongue: str) -> list[str]:
    """Return the small print of a plan's card: headroom, speed, date of the prices."""
    memory = plan.estimate.memory
    facts = []
    if plan.price.condition == "used":
        facts.append(say("app.card.used", tongue))
    if plan.request.region == "any":
        for codes in (r.values["regions"] for r in plan.limits if "regions" in r.values):
            places = (views.option("region", code, tongue) for code in codes.split(", "))
            facts.append(say("app.card.sold_in", tongue, region=listed(tongue, places)))
    if plan.cost.machines.value > 0:
        amount = money(plan.cost.machines, plan.request.currency)
        facts.append(say("app.card.machines", tongue, amount=amount))
    if plan.spare_gpus:
        facts.append(say("app.card.spare", tongue, count=plan.spare_gpus))
    if plan.beside is not None:
        facts.append(say("app.card.beside", tongue, count=plan.beside.gpu_count))
    facts += [say("app.card.headroom", tongue, headroom=numbers.gib(memory.headroom_gib, tongue))]
    facts += [
        figure.short
        for figure in views.speeds(plan.estimate.performance, tongue, plan.request.train_tokens_b)
        if figure.key in ("output_tokens_per_s", "train_tokens_per_s", "train_days")
    ]
    run = next((rent.run for rent in plan.cost.rents if rent.rental == "on_demand"), None)
    if run is not None:
        amount = money(run, plan.request.currency)
        facts.append(say("app.card.rent_run", tongue, amount=amount))
    users = views.carries(plan.scenario, views.limits_asked(plan.request), tongue)
    if users:
        facts.append(users)
    if any(reason.code in ("export", "export_named") for reason in plan.limits):
        facts.append(say("app.card.licence", tongue))
    if plan.price.confidence == "low":
        facts.append(say("app.card.low_confidence", tongue))
    facts.append(plan.cost.dates_text(tongue))
    return facts


def _tier(tier: str, plans: Sequence[Plan], facts: Sequence[str], near: Plan | None) -> None:
    title = f"{TIER_ICONS[tier]} **{words(f'tier.{tier}')}**"
    if not plans:
        said = words("tier_none")
        if near is not None:
            texts = (item.to_dict(language())["text"] for item in near.missing)
            lacks = numbers.plain(sentences(language(), *texts))
            name = numbers.plain(plan_name(near))
            said = sentences(language(), said, words("tier_near", cards=name, lacks=lacks))
        st.markdown(f"{title}\n\n{views.small(said)}")
        return
    plan = plans[0]
    currency = plan.request.currency
    price = words(
        "card.price",
        price=numbers.plain(money(plan.cost.purchase, currency)),
        total=numbers.plain(money(plan.cost.total, currency)),
        years=plan.terms.years,
    )
    small = views.small(" · ".join(numbers.plain(fact) for fact in facts))
    # One text: each element more is one more that every answer waits for.
    st.markdown(f"{title}\n\n##### {numbers.plain(plan_name(plan))}\n\n{price}\n\n{small}")
    with st.container(horizontal=True, vertical_alignment="bottom"):
        st.button(
            words("card.use"),
            key=f"use_{tier}",
            on_click=_use_plan,
            args=(plan,),
            disabled=form_of(plan.scenario, form()) == form(),
            help=words("help.use"),
        )
        # What is behind a button is worked out when it is opened.
        why = st.popover(words("why"), key=f"why_{tier}", type="tertiary", on_change="rerun")
        if why.open:
            with why:
                _plan_reasons(plan)
        if len(plans) > 1:
            others = st.popover(
                words("card.others"), key=f"others_{tier}", type="tertiary", on_change="rerun"
            )
            if others.open:
                with others:
                    _other_plans(tier, plans[1:])


def _plan_reasons(plan: Plan) -> None:
    for key, items in (("why", plan.why), ("limits", plan.limits)):
        if items:
            st.markdown(f"**{words(f'plan.{key}')}**")
            texts = [item.to_dict(language())["text"] for item in items]
            st.markdown("\n".join(f"- {numbers.plain(text)}" for text in texts))
    st.markdown(f"**{words('plan.bill')}**")
    st.table(bill(plan, language()), hide_index=True, border="horizontal")
    cost = plan.cost.to_dict(language())
    without = views.not_included(cost, language())
    notes = (numbers.plain(note["text"]) for note in cost["assumptions"])
    st.caption(sentences(language(), without, *notes))
    sources = clauses(language(), plan.cost.card.sources)
    st.caption(words("plan.sources", what=numbers.plain(sources)))


def bill(plan: Plan, tongue: str) -> list[dict[str, str]]:
    """Return the bill of materials and the running costs, one row a line."""
    cost = plan.cost.to_dict(tongue)
    what, count = say("app.column.what", tongue), say("app.column.count", tongue)
    amount, day = say("app.column.amount", tongue), say("app.column.date", tongue)

    def number(line: Mapping[str, Any]) -> str:
        """How many, of what is paid each year how many years."""
        text = numbers.significant(line["quantity"] or 0, tongue, 6)
        yearly = line["group"] == "running" and line["id"] != "resale"
        return say("app.cost.for_years", tongue, years=text) if yearly else text

    rows = [
        {
            what: line["text"],
            count: number(line),
            amount: money_range(line["amount"], tongue),
            day: numbers.NONE if held.date is None else held.date.text(tongue),
        }
        for line, held in zip(cost["lines"], plan.cost.lines, strict=True)
    ]
    total = say("app.cost.total", tongue, years=plan.terms.years)
    rows.append({what: total, count: "", amount: money_range(cost["total"], tongue), day: ""})
    return rows


def money_range(cost: Mapping[str, Any], tongue: str) -> str:
    """Return an amount with the range it lies in."""

    def shown(value: float) -> str:
        return numbers.money(value, cost["currency"], tongue)

    if cost["amount"] is None:
        return numbers.NONE
    low, high = cost["low"], cost["high"]
    if low is None or high is None or shown(low) == shown(high):
        return shown(cost["amount"])
    return bracketed(tongue, shown(cost["amount"]), f"{shown(low)} – {shown(high)}")


def _other_plans(tier: str, plans: Sequence[Plan]) -> None:
    for place, plan in enumerate(plans):
        with st.container(horizontal=True, vertical_alignment="center"):
            price = money(plan.cost.purchase, plan.request.currency)
            name = numbers.plain(plan_name(plan))
            st.markdown(f"**{name}** · {numbers.plain(price)}", width="stretch")
            st.button(
                words("card.use"), key=f"use_{tier}_{place}", on_click=_use_plan, args=(plan,)
            )


def _use_plan(plan: Plan) -> None:
    st.session_state["_form"] = form_of(plan.scenario, form())


def money(amount: Range, currency: str) -> str:
    """Return an amount in the session's language."""
    return numbers.money(amount.value, currency, language())
