"""How every page says that a question or a file cannot be used."""

from __future__ import annotations

import streamlit as st

from configurator import numbers
from configurator.app import views
from configurator.app.state import language, words
from configurator.errors import InputError


def show_problem(error: InputError) -> None:
    """Say what is wrong in the page's language, the value given, and the engine's own words."""
    value = error.to_dict().get("value", "–")
    st.error(f"**{words('problem_title')}**", icon=":material/error:")
    st.text(words("problem", sentence=views.wrong(error, language()), value=value))
    st.caption(words("problem_help"))
    st.caption(numbers.plain(f"{error.field}: {error.message}"))
