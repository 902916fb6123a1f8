"""About: what is counted and how, in one screen."""

from __future__ import annotations

import streamlit as st

from configurator import numbers
from configurator.app.state import language, language_switch, words
from configurator.catalog import load_catalog
from configurator.words import LANGUAGES, say

SECTIONS = ("counts", "speed", "money", "range", "not")
TERMS = (
    "vram", "token", "context", "kv_cache", "precision", "activations", "moe", "tp", "pp", "dp",
    "ep", "nvlink", "ttft", "tpot", "prefix", "draft", "lora", "checkpointing", "zero", "ecc",
    "tco",
)  # fmt: skip


def page() -> None:
    """Draw the page."""
    with st.container(horizontal=True, vertical_alignment="center"):
        st.markdown(f"#### {words('page.about')}")
        st.space("stretch")
        language_switch()
    catalog = load_catalog()
    st.markdown(
        words(
            "about.intro",
            gpus=len(catalog.gpus),
            models=len(catalog.models),
            prices=len(catalog.purchase_prices) + len(catalog.cloud_prices),
            date=numbers.date(catalog.version, language()),
        )
    )
    for name in SECTIONS:
        st.markdown(f"**{words(f'about.{name}_title')}**")
        st.markdown(words(f"about.{name}"))
    st.markdown(f"#### {words('glossary.title')}")
    tongues = sorted(LANGUAGES, key=lambda tongue: tongue != language())
    for name in TERMS:
        own, other = (say(f"app.glossary.{name}", tongue) for tongue in tongues)
        st.markdown(f"**{own}** · {other}  \n{words(f'glossary.{name}_text')}")
