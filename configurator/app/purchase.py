"""What purchasing needs: one plan's sheet, its files, own prices, and plans side by side."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from typing import Any

import pandas as pd
import plotly.graph_objects as go
import streamlit as st

from configurator.app import charts, numbers, views
from configurator.app.form import form_of
from configurator.app.planner import TIERS, best_plan, bill, money_range, plan_name, share_url
from configurator.app.problems import show_problem
from configurator.app.state import (
    chosen_vendors,
    currency,
    form,
    language,
    language_switch,
    open_link,
    question,
    words,
    write_link,
)
from configurator.errors import InputError
from configurator.export.compare import MAX_PLANS, compare
from configurator.export.paper import paper_html, paper_json, paper_pdf
from configurator.export.prices import XLSX, prices_template, read_prices
from configurator.export.sheets import workbook
from configurator.recommend import Plan, Recommendation, break_points, recommend, tornado
from configurator.recommend.request import Request
from configurator.scenario import Scenario
from configurator.words import say

SHOWN_PLANS = 5
YEARS = (1, 2, 3, 4, 5)
UTILISATIONS = (0.1, 0.25, 0.5, 0.75, 1.0)
MAX_PROBLEMS = 12
MAX_STEPS = 6


@lru_cache(maxsize=64)
def _recommended(request_json: str) -> Recommendation:
    return recommend(Request.model_validate_json(request_json))


def request_of(
    scenario: Scenario, years: int, utilisation: float, prices: Sequence[Any] = ()
) -> Request:
    """Return what is asked for: the scenario without its cards, and the terms of the money."""
    return Request(
        scenario=scenario.model_copy(update={"hardware": None}),
        currency=currency(),
        vendors=chosen_vendors(),
        years=years,
        utilisation=utilisation,
        prices=tuple(prices),
    )


def plans_of(found: Recommendation) -> dict[str, Plan]:
    """Return the plans to choose from by a name that stays: class of buyer and place."""
    return {
        f"{tier}:{place}": plan
        for tier in TIERS
        for place, plan in enumerate(found.tiers.get(tier, ())[:SHOWN_PLANS])
    }


def plan_of(asked: Scenario, plans: Mapping[str, Plan], found: Recommendation) -> str | None:
    """Return the name of the plan that a link means: its cards, else the cheapest one."""
    if asked.hardware is not None:
        for name, plan in plans.items():
            if (plan.gpu, plan.gpu_count) == (asked.hardware.gpu, asked.hardware.gpu_count):
                return name
    best = best_plan(found)
    return next((name for name, plan in plans.items() if plan is best), None)


def label(name: str, plans: Mapping[str, Plan], tongue: str, tiers: Mapping[str, str]) -> str:
    """Return a plan's line in a list: class of buyer, cards, price. Never fails."""
    plan = plans.get(name)
    if plan is None:
        return name
    price = numbers.money(plan.cost.purchase.value, plan.request.currency, tongue)
    return f"{tiers[name.split(':')[0]]} · {plan_name(plan)} · {price}"


def page() -> None:
    """Draw the page."""
    open_link()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.purchase')}")
        st.space("stretch")
        language_switch()
    asked = question()
    if isinstance(asked, InputError):
        show_problem(asked)
        return
    shown = write_link(asked)
    try:
        _sheet(asked, shown)
    except InputError as error:
        show_problem(error)


def _terms() -> tuple[int, float]:
    left, right = st.columns(2)
    years = left.segmented_control(
        words("purchase.years"), YEARS, default=3, key="purchase_years", required=True
    )
    use = right.segmented_control(
        words("purchase.utilisation"),
        UTILISATIONS,
        default=0.5,
        format_func=lambda share: f"{share:.0%}",
        key="purchase_utilisation",
        required=True,
        help=words("purchase.utilisation_help"),
    )
    return int(years), float(use)


def _own_prices() -> tuple[Any, ...]:
    with st.expander(words("purchase.own_prices"), icon=":material/request_quote:"):
        st.caption(words("purchase.own_prices_intro"))
        st.download_button(
            words("purchase.template"),
            partial(prices_template, language()),
            "prices.xlsx",
            XLSX,
            on_click="ignore",
        )
        file = st.file_uploader(words("purchase.upload"), type=["csv", "xlsx"], key="own_prices")
        if file is None:
            return ()
        try:
            prices, problems = read_prices(file.name, file.getvalue())
        except InputError as error:
            show_problem(error)
            return ()
        st.caption(words("purchase.read", count=len(prices), wrong=len(problems)))
        for problem in problems[:MAX_PROBLEMS]:
            st.text(str(problem))
        return prices


def _sheet(asked: Scenario, shown: Mapping[str, str]) -> None:
    tongue = language()
    years, use = _terms()
    prices = _own_prices()
    request = request_of(asked, years, use, prices)
    found = _recommended(request.model_dump_json(exclude_none=True))
    plans = plans_of(found)
    if not plans:
        st.error(words("tier_none"), icon=":material/error:")
        return
    names, tiers = list(plans), {tier: words(f"tier.{tier}") for tier in TIERS}
    meant = plan_of(asked, plans, found)
    st.session_state["purchase_plan"] = meant or names[0]
    chosen = st.selectbox(
        words("purchase.plan"),
        names,
        format_func=lambda name: label(name, plans, tongue, tiers),
        key="purchase_plan",
        on_change=_take_plan,
        args=(plans,),
    )
    plan = plans[chosen]
    if asked.hardware is not None and meant != chosen:
        st.info(words("purchase.other_cards"), icon=":material/info:")
    _paper(plan, tongue)
    _files(plan, request, tongue)
    _cloud(plan, tongue)
    _sensitivity(plan, tongue)
    st.code(share_url(st.context.url or "", shown), language=None, wrap_lines=True)
    _compare(plans, names, chosen, tongue, tiers)


def _take_plan(plans: Mapping[str, Plan]) -> None:
    plan = plans.get(st.session_state["purchase_plan"])
    if plan is not None:
        st.session_state["_form"] = form_of(plan.scenario, form())


def _paper(plan: Plan, tongue: str) -> None:
    said = views.verdict(plan.estimate, tongue)
    st.markdown(said.text)
    cost = plan.cost.to_dict(tongue)
    figures = {
        words("purchase.purchase"): cost["purchase"],
        words("purchase.total", years=plan.terms.years): cost["total"],
        words("purchase.per_million"): cost.get("per_million_tokens"),
    }
    for column, (name, amount) in zip(st.columns(3), figures.items(), strict=True):
        if amount and amount["amount"] is not None:
            column.metric(name, numbers.money(amount["amount"], amount["currency"], tongue))
            column.caption(numbers.plain(money_range(amount, tongue)))
    st.table(bill(plan, tongue), hide_index=True, border="horizontal")
    st.caption(
        " ".join(
            [
                words("purchase.not_a_quotation"),
                words("plan.without", what=numbers.plain(", ".join(cost["exclusions"]))),
                *(numbers.plain(note["text"]) for note in cost["assumptions"]),
            ]
        )
    )


def _files(plan: Plan, request: Request, tongue: str) -> None:
    address = (st.context.url or "").split("?", 1)[0].removesuffix("purchase")
    made: tuple[tuple[str, str, str, Callable[[], bytes | str]], ...] = (
        ("excel", "plan.xlsx", XLSX, partial(workbook, plan, request, tongue, address)),
        ("html", "plan.html", "text/html", partial(paper_html, plan, request, tongue, address)),
        (
            "json", "plan.json", "application/json",
            lambda: json.dumps(paper_json(plan, request, tongue, address), ensure_ascii=False),
        ),
    )  # fmt: skip
    with st.container(horizontal=True):
        for name, file, mime, data in made:
            st.download_button(
                words(f"purchase.{name}"), data, file, mime, key=f"get_{name}", on_click="ignore"
            )
        if st.button(words("purchase.pdf"), key="make_pdf", help=words("purchase.pdf_help")):
            try:
                pdf = paper_pdf(plan, request, tongue, address)
            except InputError as error:
                st.warning(numbers.plain(error.message), icon=":material/picture_as_pdf:")
            else:
                st.download_button(
                    words("purchase.pdf_ready"), pdf, "plan.pdf", "application/pdf",
                    key="get_pdf", on_click="ignore",
                )  # fmt: skip


def _cloud(plan: Plan, tongue: str) -> None:
    """Say what renting the same cards costs, and from when owning is cheaper."""
    cost = plan.cost.to_dict(tongue)
    rents = cost["cloud"]
    st.markdown(f"#### {words('purchase.cloud')}")
    if not rents:
        st.caption(words("purchase.cloud_none"))
        return
    total = cost["total"]["amount"]
    rows = []
    for name, rent in rents.items():
        amount = rent.get("total", rent)
        month = rent.get("break_even_month")
        rows.append(
            {
                words("purchase.cloud_how"): words(f"purchase.cloud_{name}"),
                words("purchase.cloud_rent", years=plan.terms.years): money_range(amount, tongue),
                words("purchase.cloud_share"): f"{total / amount['amount']:.0%}",
                words("purchase.cloud_even"): numbers.NONE
                if month is None or month > 12 * plan.terms.years
                else numbers.decimal(month, tongue, 1),
            }
        )
    st.table(pd.DataFrame(rows), hide_index=True, border="horizontal")


def tornado_figure(swings: Sequence[Any], now: float, names: Sequence[str], texts: Any) -> Any:
    """Return a bar for each assumption: the total at its lower and at its upper end."""
    data = []
    for end, colour in (("total_low", charts.COLOURS["weights"]), ("total_high", charts.LIMIT)):
        data.append(
            {
                "type": "bar",
                "orientation": "h",
                "y": list(names),
                "x": [getattr(swing, end) - now for swing in swings],
                "base": [now] * len(swings),
                "text": [texts(swing, end) for swing in swings],
                "textposition": "none",
                "hovertemplate": "%{y}: %{text}<extra></extra>",
                "marker": {"color": colour, "line": {"color": charts.OUTLINE, "width": 1}},
                "showlegend": False,
            }
        )
    layout = {
        "template": {},
        "barmode": "overlay",
        "height": 60 + 34 * len(names),
        "margin": {"l": 8, "r": 8, "t": 8, "b": 8},
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "yaxis": {"autorange": "reversed", "fixedrange": True, "automargin": True},
        "xaxis": {"gridcolor": charts.GRID, "fixedrange": True, "automargin": True},
        "shapes": [
            {
                "type": "line", "x0": now, "x1": now, "y0": 0, "y1": 1, "yref": "paper",
                "line": {"color": charts.OUTLINE, "width": 2},
            }
        ],
    }  # fmt: skip
    return go.Figure({"data": data, "layout": layout}, _validate=False)


def _sensitivity(plan: Plan, tongue: str) -> None:
    swings = tornado(plan)
    if swings:
        st.markdown(f"#### {words('purchase.tornado', years=plan.terms.years)}")
        names = [say(f"cost.swing.{swing.code}", tongue) for swing in swings]
        money = plan.request.currency

        def text(swing: Any, end: str) -> str:
            at = swing.low if end == "total_low" else swing.high
            sum_there = numbers.money(getattr(swing, end), money, tongue)
            return f"{numbers.significant(at, tongue)} → {sum_there}"

        figure = tornado_figure(swings, plan.cost.total.value or 0.0, names, text)
        widest = f"{names[0]}: {text(swings[0], 'total_low')}; {text(swings[0], 'total_high')}"
        st.plotly_chart(
            figure,
            key="tornado",
            alt=words("purchase.tornado_alt", widest=widest),
            config=charts.CONFIG,
        )
    if plan.scenario.is_training:
        return
    box = st.expander(words("purchase.steps"), key="purchase_steps", on_change="rerun")
    if box.open:
        for axis in ("users", "context"):
            for step in break_points(plan, axis)[1:MAX_STEPS]:
                box.markdown(
                    words(
                        f"purchase.step_{axis}",
                        value=numbers.count(step.value, tongue),
                        cards=numbers.plain(views.cards(step.gpu_count, plan.gpu))
                        if step.gpu_count
                        else words("purchase.step_none"),
                    )
                )


def _compare(
    plans: Mapping[str, Plan], names: Sequence[str], chosen: str, tongue: str,
    tiers: Mapping[str, str],
) -> None:  # fmt: skip
    st.markdown(f"#### {words('purchase.compare')}")
    firsts = [name for name in names if name.endswith(":0")]
    start = list(dict.fromkeys([chosen, *firsts]))[:MAX_PLANS]
    picked = st.multiselect(
        words("purchase.compare_what"),
        names,
        default=start,
        format_func=lambda name: label(name, plans, tongue, tiers),
        max_selections=MAX_PLANS,
        key="purchase_compare",
    )
    picked = [name for name in picked if name in plans]
    if len(picked) < 2:
        st.caption(words("purchase.compare_more"))
        return
    st.dataframe(
        compared([plans[name] for name in picked], tongue),
        hide_index=True,
        width="stretch",
    )
    st.caption(words("purchase.compare_note"))


def compared(plans: Sequence[Plan], tongue: str) -> pd.DataFrame:
    """Return plans side by side: ≠ marks rows that differ, ★ the best of a row."""
    heads = [f"{place}. {plan_name(plan)}" for place, plan in enumerate(plans, 1)]
    rows = []
    for row in compare(plans, tongue):
        cells = {
            head: f"★ {text}" if place in row.best else text
            for place, (head, text) in enumerate(zip(heads, row.texts, strict=True))
        }
        rows.append({"": "≠" if row.differs else "", " ": row.label, **cells})
    return pd.DataFrame(rows)
