"""A server for the session and a Chromium that watches for errors and foreign requests."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, expect

from tests.nvml_stub import StubEnvironment, nvml_stub_fixture  # noqa: F401

ROOT = Path(__file__).parents[2]
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
START_S = 40.0
SETTLED = "[data-testid=stApp][data-test-script-state=notRunning]"


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    skip = pytest.mark.skip(reason="no Chromium found")
    for item in items:
        if Path(__file__).parent in item.path.parents:
            item.add_marker(pytest.mark.browser)
            if CHROMIUM is None and not os.environ.get("CI"):
                item.add_marker(skip)


@pytest.fixture(scope="session")
def browser_type_launch_args(browser_type_launch_args: dict[str, Any]) -> dict[str, Any]:
    """Use the system's Chromium."""
    return {**browser_type_launch_args, "executable_path": CHROMIUM, "args": ["--no-sandbox"]}


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def serve(
    environment: dict[str, str] | None = None, script: Path = ROOT / "streamlit_app.py"
) -> Iterator[str]:
    """Start the page on a free loopback port; stop it at the end."""
    port = _free_port()
    process = subprocess.Popen(
        [
            sys.executable, "-m", "streamlit", "run", str(script),
            "--server.port", str(port), "--server.address", "127.0.0.1",
            "--server.headless", "true",
        ],
        cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{url}/_stcore/health", timeout=1):
                    break
            except (urllib.error.URLError, OSError):
                if time.monotonic() > deadline or process.poll() is not None:
                    raise RuntimeError("the page did not start") from None
                time.sleep(0.1)
        yield url
    finally:
        process.terminate()
        process.wait(timeout=10)


@pytest.fixture(scope="session")
def server(nvml_stub: StubEnvironment) -> Iterator[str]:
    """The page on a machine without an NVIDIA driver."""
    yield from serve(nvml_stub("none"))


@dataclass
class Visit:
    """One browser context with the page in it, and what went wrong there."""

    page: Page
    url: str
    complaints: list[str] = field(default_factory=list)

    def open(self, path: str = "/") -> Page:
        """Open an address of the page and wait for its answer."""
        self.page.goto(self.url + path)
        self.settle()
        return self.page

    def rest(self) -> None:
        """Wait until the script rests."""
        expect(self.page.locator(SETTLED)).to_be_attached(timeout=30_000)

    def settle(self) -> None:
        """Wait until the script rests and the page shows its answer."""
        self.rest()
        expect(self.page.get_by_test_id("stAlert").first).to_be_visible(timeout=30_000)

    def turn_to(self, name: str) -> Page:
        """Go to another page by its name; on a phone the names are in the side panel."""
        page = self.page
        links = page.get_by_test_id("stTopNavLink").or_(page.get_by_test_id("stSidebarNavLink"))
        expect(links).not_to_have_count(0)
        panel = page.get_by_test_id("stExpandSidebarButton")
        if panel.is_visible() and page.get_by_test_id("stTopNavLink").count() == 0:
            panel.click()
        links.filter(has_text=name).first.click()
        expect(page.get_by_test_id("stMain").get_by_role("heading").first).to_have_text(name)
        self.rest()
        return page

    def verdict(self) -> str:
        """Return the one sentence."""
        return self.page.get_by_test_id("stAlert").first.inner_text()

    def query(self) -> str:
        """Return the address bar after the question mark."""
        return self.page.url.partition("?")[2]

    def changed(self, act: Callable[[], Any]) -> str:
        """Do something that changes the question; return the new address."""
        before = self.page.url
        act()
        expect(self.page).not_to_have_url(before, timeout=15_000)
        self.settle()
        return self.page.url

    def pick(self, key: str, text: str, choose: str | None = None) -> None:
        """Choose from a searchable list by typing."""
        box = self.page.locator(f".st-key-{key} input")
        box.click()
        box.fill(text)
        self.page.get_by_role("option", name=choose or text).first.click()

    def axe(self) -> list[str]:
        """Return what axe-core finds serious or critical on the page as it stands."""
        found = Axe().run(self.page).response["violations"]
        return [
            f"{v['id']}: {node['html'][:160]}"
            for v in found
            if v["impact"] in ("serious", "critical")
            for node in v["nodes"]
        ]

    def slide(self, key: str, keys: str = "ArrowRight") -> None:
        """Move a slider one step by keyboard."""
        self.page.locator(f".st-key-{key} input[type=range]").first.press(keys)


class Contexts:
    """Browser contexts by their settings: what the first page loads, the next ones have cached.

    The page keeps nothing in the browser, so visits do not see each other; ``fresh`` gives one of
    its own all the same.
    """

    def __init__(self, browser: Browser) -> None:
        self.browser = browser
        self.held: dict[str, BrowserContext] = {}

    def page(self, fresh: bool, options: dict[str, Any]) -> Page:
        """Return a new page in a context with these settings."""
        settings = {"viewport": {"width": 1280, "height": 800}, "locale": "en-US", **options}
        if fresh:
            return self.browser.new_context(**settings).new_page()
        key = json.dumps(settings, sort_keys=True)
        if key not in self.held:
            self.held[key] = self.browser.new_context(**settings)
        return self.held[key].new_page()


@pytest.fixture(scope="session")
def contexts(browser: Browser) -> Contexts:
    """The session's contexts."""
    return Contexts(browser)


@pytest.fixture
def visit(contexts: Contexts, server: str) -> Iterator[Callable[..., Visit]]:
    """Return ``visit(url, **context options)``; at the end nothing may have been complained of."""
    visits: list[Visit] = []

    def begin(url: str | None = None, *, fresh: bool = False, **options: Any) -> Visit:
        base = url or server
        page = contexts.page(fresh, options)
        page.set_default_timeout(15_000)
        found = Visit(page, base)
        page.on(
            "console",
            lambda m: found.complaints.append(m.text) if m.type == "error" else None,
        )
        page.on("pageerror", lambda error: found.complaints.append(str(error)))
        page.on("request", lambda r: _check(found, r.url))
        visits.append(found)
        return found

    yield begin
    for found in visits:
        found.page.close()
        assert found.complaints == []


def _check(found: Visit, url: str) -> None:
    local = url.startswith((found.url, found.url.replace("http", "ws", 1), "data:", "blob:"))
    if not local:
        found.complaints.append(f"foreign request: {url}")
