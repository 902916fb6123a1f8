"""The machine page in a real Chromium, on machines made by the NVML stub."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from playwright.sync_api import Page, expect

from tests.browser.conftest import SETTLED, Visit, serve
from tests.nvml_stub import StubEnvironment

Begin = Callable[..., Visit]
QUERY = "v=1&t=inference&w=bf16&kv=auto&e=vllm&n=10&in=2048&out=512"
EIGHT_B = f"/machine?{QUERY}&m=Qwen/Qwen3-8B&g=rtx-4090&c=1"
SEVENTY_B = f"/machine?{QUERY}&m=meta-llama/Llama-3.1-70B-Instruct&g=h100-sxm&c=8"
HUGE = f"/machine?{QUERY}&m=deepseek-ai/DeepSeek-V3&g=h100-sxm&c=8"
# What "vllm serve" looks like from outside: the command line, and figures on loopback.
SERVER = """
import http.server, sys, time
begun = time.monotonic()

class Metrics(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        done = int(1000 * (time.monotonic() - begun))
        body = (
            'vllm:num_requests_running{model_name="m"} 3\\n'
            'vllm:num_requests_waiting{model_name="m"} 1\\n'
            'vllm:kv_cache_usage_perc{model_name="m"} 0.42\\n'
            f'vllm:prompt_tokens_total{{model_name="m"}} {2 * done}\\n'
            f'vllm:generation_tokens_total{{model_name="m"}} {done}\\n'
        ).encode()
        self.send_response(200)
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args):
        pass

http.server.HTTPServer(("127.0.0.1", int(sys.argv[-1])), Metrics).serve_forever()
"""


@pytest.fixture(scope="module")
def vllm(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """A process that looks like a vLLM server; its process id."""
    script = tmp_path_factory.mktemp("bin") / "vllm"
    script.write_text(SERVER)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, str(script), "serve", "Qwen/Qwen3-0.6B"]
    command += ["--api-key", "sk-very-secret", "--port", str(port)]
    process = subprocess.Popen(command)
    yield process.pid
    process.terminate()
    process.wait(timeout=10)


@pytest.fixture(scope="module")
def desktop(nvml_stub: StubEnvironment, vllm: int) -> Iterator[str]:
    """One 4090 on which a vLLM server runs."""
    yield from serve(nvml_stub("4090", pid=vllm))


@pytest.fixture(scope="module")
def eight(nvml_stub: StubEnvironment) -> Iterator[str]:
    """Eight H100."""
    yield from serve(nvml_stub("h100x8"))


@pytest.fixture
def come(visit: Begin) -> Iterator[Begin]:
    """Like ``visit``, for addresses below the root.

    There Streamlit first asks for its own ``_stcore`` below the page and takes the 404 as a no
    (its frontend's way to find the base address); any other 404 is a complaint as ever.
    """
    begun: list[Visit] = []
    missing: list[str] = []

    def begin(*args: str, **options: Any) -> Visit:
        v = visit(*args, **options)
        v.page.on("response", lambda r: missing.append(r.url) if r.status == 404 else None)
        begun.append(v)
        return v

    yield begin
    assert [url for url in missing if "/machine/_stcore/" not in url] == []
    for v in begun:
        v.complaints[:] = [text for text in v.complaints if "404 (Not Found)" not in text]


def verdict(page: Page) -> str:
    """Return what the page says of the plan."""
    box = page.locator(".st-key-reality").get_by_test_id("stAlert").first
    expect(box).to_be_visible(timeout=30_000)
    return box.inner_text()


def test_a_link_is_judged_at_once_on_a_4090(come: Begin, desktop: str) -> None:
    v = come(desktop)
    page = v.open(EIGHT_B)
    said = verdict(page)
    assert "fits here now" in said
    assert "22.5 GiB is free" in said
    expect(page.locator(".st-key-watch input")).not_to_be_checked()
    page = v.open(SEVENTY_B)
    assert "does not fit here" in verdict(page)
    reality = page.locator(".st-key-reality")
    expect(reality.get_by_text("What fits instead")).to_be_visible()
    expect(reality.get_by_text("Cheapest upgrade")).to_be_visible()
    # The way on: the first change that fits opens in the planner.
    reality.get_by_test_id("stPageLink").first.get_by_role("link").click()
    expect(page).to_have_url(re.compile(r"^[^?]+/\?.*m="))
    v.settle()


def test_a_running_server_beside_its_estimate(come: Begin, desktop: str) -> None:
    v = come(desktop)
    page = v.open(EIGHT_B)
    jobs = page.locator(".st-key-jobs")
    expect(jobs.get_by_text("serve Qwen/Qwen3-0.6B")).to_be_visible()
    expect(jobs.get_by_text("less than predicted")).to_be_visible()
    expect(jobs.get_by_text("3 requests running, 1 waiting, cache 42 % full")).to_be_visible()
    assert "very-secret" not in page.content()
    time.sleep(1.1)  # two readings make a rate
    page.locator(".st-key-check button").click()
    expect(jobs.get_by_text(re.compile(r"[\d,.]+ tokens/s written"))).to_be_visible()


def test_live_it_moves_and_records(come: Begin, desktop: str) -> None:
    v = come(desktop)
    page = v.open(EIGHT_B)
    page.locator(".st-key-watch label").first.click()
    page.locator(".st-key-every").get_by_text("1 s").click()
    button = page.locator(".st-key-live_csv button")
    expect(button).to_contain_text("CSV")
    expect(page.locator(".gpu-tile")).to_have_count(1)
    chart = page.locator(".st-key-live_history .js-line").first
    expect(chart).to_have_attribute("d", re.compile("L"), timeout=8_000)  # a second reading
    assert "fits here now" in verdict(page)
    with page.expect_download() as download:
        button.click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert lines[0].startswith("timestamp,name,utilization.gpu,memory.used,temperature.gpu")
    assert len(lines) >= 3


def test_eight_h100(come: Begin, eight: str) -> None:
    v = come(eight)
    page = v.open(SEVENTY_B)
    said = verdict(page)
    assert "fits here now" in said
    assert "all 8 × H100" in said
    page = v.open(HUGE)
    assert "does not fit here" in verdict(page)
    page = v.open(EIGHT_B)  # planned on another card
    assert "1 of 8 × H100" in verdict(page)
    assert "The plan is for 1 × GeForce RTX 4090" in verdict(page)


def test_without_a_gpu_the_link_says_so(come: Begin, server: str) -> None:
    v = come(server)
    page = v.open(EIGHT_B)
    expect(page.locator(SETTLED)).to_be_attached()
    expect(page.get_by_test_id("stAlert").first).to_contain_text("No NVIDIA driver library")
    expect(page.locator(".st-key-reality")).not_to_be_attached()
    page.locator(".st-key-use_system label").first.click()
    assert "main memory" in verdict(page)


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_on_a_phone_in_chinese(come: Begin, desktop: str, scheme: str) -> None:
    v = come(
        desktop, viewport={"width": 390, "height": 844}, color_scheme=scheme, is_mobile=True,
        locale="zh-CN",
    )  # fmt: skip
    page = v.open(SEVENTY_B)
    assert "放不下" in verdict(page)
    for part in ("html", "[data-testid=stMain]"):
        assert page.locator(part).evaluate("part => part.scrollWidth") <= 390
