"""How every page says that a question or a file cannot be used."""

from __future__ import annotations

from collections.abc import Mapping

import streamlit as st

from configurator.app import views
from configurator.app.state import language, words
from configurator.errors import InputError


def problem_text(error: InputError) -> str:
    """Return what is wrong, and the value given where it says something; plain text."""
    sentence, value = views.wrong(error, language()), error.shown_value()
    if value is None or isinstance(error.value, Mapping):
        return sentence
    return words("problem", sentence=sentence, value=value)


def show_problem(error: InputError, title: str = "problem_title") -> None:
    """Say what is wrong in the page's language.

    Args:
        error: The complaint.
        title: Key of what cannot be done; the question, unless a file is meant.
    """
    st.error(f"**{words(title)}**", icon=":material/error:")
    st.text(problem_text(error))
    if title == "problem_title":
        st.caption(words("problem_help"))
