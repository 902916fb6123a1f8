"""Ways from another page to the planner."""

from __future__ import annotations

import streamlit as st

from configurator.app.form import form_of
from configurator.app.state import address, form
from configurator.scenario import Scenario

ICON = ":material/calculate:"


def planner_link(scenario: Scenario, label: str, key: str, icon: str = ICON) -> None:
    """Link to a scenario in the planner, under the terms and in the language of this session.

    An uploaded model that a link has no room for is handed over in the session.

    Args:
        scenario: What is asked there.
        label: Text of the link.
        key: Of the button that takes the link's place for such a model; one of its own a page.
        icon: Material icon.
    """
    planner, query = st.session_state["_pages"]["planner"], address(scenario)
    if "up" not in query:
        st.page_link(planner, label=label, icon=icon, query_params=query, width="content")
    elif st.button(label, key=key, icon=icon):
        st.session_state["_form"] = form_of(scenario, form())
        st.switch_page(planner)
