"""The pages without a browser."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import streamlit as st
from streamlit.testing.v1 import AppTest

from configurator import link
from configurator.scenario import Scenario

ROOT = Path(__file__).parents[2]
SCRIPT = ROOT / "streamlit_app.py"
LOCALES = {"en": "en-US", "zh": "zh-CN"}


@pytest.fixture(autouse=True)
def _viewer_at_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    """AppTest's client is a mock whose address is a mock too."""
    monkeypatch.setattr(type(st.context), "ip_address", property(lambda _: None))


@pytest.fixture(autouse=True)
def _fresh_caches() -> Iterator[None]:
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    st.cache_data.clear()
    st.cache_resource.clear()
    yield
    st.cache_resource.clear()


def start(language: str = "en", page: str | None = None, **query: str) -> AppTest:
    """Open the app in a language, with a link's parameters, on a page; fails on any exception."""
    at = AppTest.from_file(str(SCRIPT), default_timeout=30)
    at.context = {"locale": LOCALES[language], "url": "http://localhost:8501/"}
    for name, value in query.items():
        at.query_params[name] = value
    at.run()
    if page is not None:
        at.switch_page(f"configurator/app/pages/{page}.py")
        at.run()
    healthy(at)
    return at


def healthy(at: AppTest) -> AppTest:
    """Check that a run ended without an exception."""
    assert not at.exception, [e.message for e in at.exception]
    return at


def said(at: AppTest) -> str:
    """Return all that the page says, for searching."""
    parts: list[Any] = [*at.success, *at.warning, *at.error, *at.info, *at.markdown, *at.caption]
    parts += [*at.text, *at.code]
    return "\n".join(str(part.value) for part in parts).replace("\\", "")


def query(at: AppTest) -> dict[str, str]:
    """Return the address bar's parameters."""
    return {name: values if isinstance(values, str) else values[-1]
            for name, values in at.query_params.items()}  # fmt: skip


def verdict(at: AppTest) -> str:
    """Return the coloured sentence."""
    boxes = [*at.success, *at.warning, *at.error]
    return next(box.value for box in boxes if "**" in box.value).replace("\\", "")


def scenario(at: AppTest) -> Scenario:
    """Return what the address asks; nothing of it may be wrong."""
    found, problems = link.decode(query(at))
    assert problems == []
    return found


@pytest.fixture(params=["en", "zh"])
def language(request: pytest.FixtureRequest) -> str:
    """Every language of the page."""
    return str(request.param)
