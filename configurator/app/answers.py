"""The article that the product grew out of, answered statement by statement."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import streamlit as st

from configurator import link, numbers
from configurator.app import views
from configurator.app.state import bound_words, language, language_switch, open_session, words
from configurator.article import article_report, load_article
from configurator.scenario import parse_scenario
from configurator.words import say

COLOURS: Mapping[str, views.Tint] = {
    "holds": "green",
    "holds_with_conditions": "orange",
    "off_by": "red",
}


@lru_cache(maxsize=4)
def report(tongue: str) -> tuple[Mapping[str, Any], ...]:
    """Return every statement with our figure and verdict; worked out once a process."""
    return tuple(article_report(tongue)["statements"])


def planner_link(item: Mapping[str, Any]) -> dict[str, str] | None:
    """Return the planner's parameters for the scenario that a statement speaks of."""
    if not item.get("scenario"):
        return None
    return link.encode(parse_scenario({"version": 1, **item["scenario"]}))


def page() -> None:
    """Draw the page."""
    open_session()
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.article')}")
        st.space("stretch")
        language_switch()
    article = load_article()
    items = report(language())
    st.markdown(words("article_page.intro", count=len(items), date=_date(article.date)))
    counts = Counter(str(item["verdict"]) for item in items)
    say_it = bound_words()
    st.pills(
        words("article_page.show"),
        list(COLOURS),
        selection_mode="multi",
        format_func=lambda v: say_it(f"article_page.{v}", count=counts[v]) if v in COLOURS else v,
        key="article_show",
    )
    chosen = st.session_state["article_show"] or list(COLOURS)
    for item in items:
        if item["verdict"] in chosen:
            _statement(item)


def _date(day: Any) -> str:
    return numbers.date(day, language())


def _statement(item: Mapping[str, Any]) -> None:
    with st.container(border=True, gap="xsmall"):
        with st.container(horizontal=True, vertical_alignment="center"):
            st.caption(item["id"], width="content")
            st.badge(numbers.plain(item["verdict_text"]), color=COLOURS[item["verdict"]])
            st.space("stretch")
            query = planner_link(item)
            if query is not None:
                st.page_link(
                    st.session_state["_pages"]["planner"],
                    label=words("article_page.open"),
                    query_params=query,
                    icon=":material/calculate:",
                )
        st.markdown(f"**{numbers.plain(item['statement'])}**")
        st.markdown(numbers.plain(item["reason"]))
        for evidence in item["measured"]:
            st.caption(evidence_text(evidence, language()))


def evidence_text(evidence: Mapping[str, Any], tongue: str) -> str:
    """Return a measured figure with its unit, source and day, as plain text."""
    value = numbers.significant(float(evidence["value"]), tongue, 4)
    day = numbers.date(str(evidence["date"]), tongue)
    text = say(
        "app.article_page.measured",
        tongue,
        text=evidence["text"],
        value=f"{value} {evidence['unit']}".strip(),
        source=evidence["source"],
        date=day,
    )
    return numbers.plain(text)
