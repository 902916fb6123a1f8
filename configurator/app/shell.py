"""Page config, navigation and the line that every page begins with."""

from __future__ import annotations

from pathlib import Path

import streamlit as st

from configurator.app.state import language, words

PAGES = Path(__file__).parent / "pages"
ICON = Path(__file__).parent / "icon.svg"
STYLE = Path(__file__).parent / "page.css"
# file, address, icon; the first one is the start page
_PAGES = (
    ("planner", "", ":material/calculate:"),
    ("purchase", "purchase", ":material/request_quote:"),
    ("machine", "machine", ":material/memory:"),
    ("evidence", "evidence", ":material/fact_check:"),
    ("techniques", "techniques", ":material/tune:"),
    ("article", "article", ":material/article:"),
    ("about", "about", ":material/info:"),
)


def run() -> None:
    """Draw the app: what is common to all pages, then the page asked for."""
    st.set_page_config(
        page_title=words("title"),
        page_icon=str(ICON),  # a Material icon would be fetched from Google
        layout="wide",
        initial_sidebar_state="auto",  # open beside the page, closed on a phone
        menu_items={"Get help": None, "Report a bug": None, "About": words("menu_about")},
    )
    st.html(STYLE)
    pages = {
        name: st.Page(
            PAGES / f"{name}.py",
            title=words(f"page.{name}"),
            icon=icon,
            url_path=address or None,
            default=not address,
        )
        for name, address, icon in _PAGES
    }
    st.session_state["_pages"] = pages  # for links from page to page
    chosen = st.navigation(list(pages.values()), position="top")
    came_from = st.session_state.get("_page")
    st.session_state["_turned"] = came_from not in (None, chosen.url_path)
    st.session_state["_page"] = chosen.url_path
    language()
    chosen.run()
    # After every widget had its value given again under the new labels.
    st.session_state["_relabel"] = False
