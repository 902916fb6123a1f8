"""What the live machine page costs the server: six browser tabs that refresh every second.

In the same minute six tabs of a Streamlit page that only writes the time every second are measured
beside it: a busy machine makes both dearer. Needs Chromium and a C compiler (for the NVML stub of
the tests). Run: python benchmarks/live_cost.py [profile of the stub; 4090 if left out]
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
from contextlib import contextmanager
from pathlib import Path

from playwright.sync_api import sync_playwright

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.browser.conftest import CHROMIUM, SETTLED, serve  # noqa: E402
from tests.nvml_stub import stub_environment  # noqa: E402

TABS = 6
WARM_S, MEASURED_S = 20, 60
LINK = "/machine?v=1&t=inference&w=bf16&kv=auto&e=vllm&n=10&in=2048&out=512&m=Qwen/Qwen3-8B"
BARE = """
import datetime
import streamlit as st

@st.fragment(run_every=1.0)
def tick():
    st.text(str(datetime.datetime.now()))

tick()
"""


def cpu_s(url):
    """Return the CPU seconds used by the process that serves a page."""
    port = url.rpartition(":")[2]
    found = subprocess.run(
        ["pgrep", "-f", f"streamlit run .*--server.port {port} "],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    fields = Path(f"/proc/{found.stdout.split()[0]}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


@contextmanager
def served(environment, script=ROOT / "streamlit_app.py"):
    server = serve(environment, script)
    try:
        yield next(server)
    finally:
        server.close()


def main():
    profile = sys.argv[1] if len(sys.argv) > 1 else "4090"
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        script = Path(folder) / "bare.py"
        script.write_text(BARE)
        environment = stub_environment(profile, Path(folder))
        with served(environment) as url, served(environment, script) as bare:
            browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
            context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
            for _ in range(TABS):
                context.new_page().goto(bare)
                page = context.new_page()
                page.goto(url + LINK)
                page.locator(SETTLED).wait_for(timeout=60_000)
                page.locator(".st-key-watch label").first.click()
                page.locator(".st-key-every").get_by_text("1 s").click()
                page.locator(".st-key-live_csv button").wait_for()
            page.wait_for_timeout(1000 * WARM_S)
            before = cpu_s(url), cpu_s(bare)
            page.wait_for_timeout(1000 * MEASURED_S)
            after = cpu_s(url), cpu_s(bare)
            browser.close()
    ours, least = (100 * (now - then) / MEASURED_S for now, then in zip(after, before))
    print(
        f"{TABS} tabs of {profile} at 1 s: {ours:.1f} % of a core; a text alone {least:.1f} %, "
        f"ratio {ours / least:.1f}"
    )


if __name__ == "__main__":
    main()
