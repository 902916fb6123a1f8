"""How long the planner takes beside trivial Streamlit apps, all in one run.

Without a browser: a rerun through Streamlit's own test runner. In Chromium, where there is one: the
first page up to its chart, and a moved slider up to the new chart.
Run: python benchmarks/page_speed.py
"""

from __future__ import annotations

import logging
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from playwright.sync_api import sync_playwright
from streamlit.testing.v1 import AppTest

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))
from tests.browser.conftest import CHROMIUM, SETTLED, serve  # noqa: E402

SCRIPT = ROOT / "streamlit_app.py"
VALUES = (12, 16, 20, 25, 32, 40, 50)
VISITS = 7
MOVES = 20
SLIDER = """
import streamlit as st
st.text(f"answer {st.select_slider('x', list(range(100)), 10, key='concurrency')}")
"""
CHART = """
import plotly.graph_objects as go
import streamlit as st
value = st.select_slider("x", list(range(100)), 10, key="concurrency")
figure = go.Figure({"data": [{"type": "bar", "x": [1, value], "y": [1, 2]}]})
st.plotly_chart(figure, key="meter")
"""
# Streamlit as it comes collects garbage after every rerun.
STOCK = {"STREAMLIT_RUNNER_POST_SCRIPT_GC": "true"}
# When the first chart is there, counted from the start of the visit.
FIRST = """
const look = () => {
  if (document.querySelector(".js-plotly-plot .main-svg")) window.shown = performance.now();
  else requestAnimationFrame(look);
};
requestAnimationFrame(look);
"""
# From the key until a part of the page is drawn anew; null where the answer is the same.
MOVED = """part => {
  const node = document.querySelector(part), text = node.textContent;
  window.taken = new Promise(done => addEventListener("keydown", () => {
    const start = performance.now();
    const look = () => {
      const now = document.querySelector(part), past = performance.now() - start;
      if (now?.textContent && (now !== node || now.textContent !== text)) done(past);
      else if (past > 5000) done(null);
      else requestAnimationFrame(look);
    };
    look();
  }, { capture: true, once: true }));
}"""


def reruns(app, move):
    """Return the median milliseconds of a rerun: of new values, then of seen ones."""
    app.run()
    out = []
    for _ in range(2):
        times = []
        for value in VALUES:
            move(app, value)
            start = time.perf_counter()
            app.run()
            times.append(1e3 * (time.perf_counter() - start))
            assert not app.exception
        out.append(statistics.median(times))
    return out


def without_browser():
    bare, _ = reruns(
        AppTest.from_string(SLIDER),
        lambda at, value: at.select_slider(key="concurrency").set_value(value),
    )
    planner = AppTest.from_file(str(SCRIPT), default_timeout=60)
    planner.context = {"locale": "en-US", "url": "http://localhost:8501/"}
    new, seen = reruns(
        planner, lambda at, value: at.select_slider(key="concurrency").set_value(value)
    )
    print(f"rerun, trivial app: {bare:.1f} ms")
    print(f"rerun, planner, a new question: {new:.1f} ms, ratio {new / bare:.1f}")
    print(f"rerun, planner, a question asked before: {seen:.1f} ms, ratio {seen / bare:.1f}")


def first_page(browser, url):
    """Return the milliseconds of a first visit up to the first chart."""
    context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
    page = context.new_page()
    page.add_init_script(FIRST)
    page.goto(url)
    page.wait_for_function("window.shown", timeout=60_000)
    taken = page.evaluate("window.shown")
    context.close()
    return taken


def moves(page, part):
    """Return the milliseconds from each press of a slider's key until a part shows the answer."""
    times = []
    slider = page.locator(".st-key-concurrency input[type=range]").first
    for _ in range(MOVES):
        page.locator(SETTLED).wait_for(timeout=30_000)
        page.wait_for_timeout(300)
        page.evaluate(MOVED, part)
        slider.press("ArrowRight")
        taken = page.evaluate("window.taken")
        if taken is not None:
            times.append(taken)
    return statistics.median(times)


def compared(what, ours, theirs):
    print(f"{what}: {ours:.0f} ms, trivial {theirs:.0f} ms, ratio {ours / theirs:.2f}")


def in_browser(play, folder):
    scripts = [SCRIPT]
    for name, text in (("slider", SLIDER), ("chart", CHART)):
        scripts.append(folder / f"{name}.py")
        scripts[-1].write_text(text)
    servers = [serve(None, script) for script in scripts]
    servers.append(serve({**os.environ, **STOCK}, scripts[1]))
    try:
        planner, slider, chart, stock = (next(server) for server in servers)
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        visits = {planner: [], chart: []}
        for _ in range(1 + VISITS):  # the first one also imports
            for url, times in visits.items():
                times.append(first_page(browser, url))
        compared("first page", *(statistics.median(times[1:]) for times in visits.values()))
        context = browser.new_context(viewport={"width": 1280, "height": 800}, locale="en-US")
        taken = {}
        drawn = ".st-key-meter .main-svg"
        text = ".stText"
        for url, part in ((planner, drawn), (slider, text), (stock, text), (chart, drawn)):
            page = context.new_page()
            page.goto(url)
            page.locator(part).first.wait_for(timeout=60_000)
            taken[url] = moves(page, part)
            page.close()
        compared("slider to chart", taken[planner], taken[slider])
        compared("slider to chart, beside default settings", taken[planner], taken[stock])
        compared("slider to chart, beside one chart alone", taken[planner], taken[chart])
        browser.close()
    finally:
        for server in servers:
            server.close()


def main():
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    without_browser()
    if CHROMIUM is None:
        return
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        in_browser(play, Path(folder))


if __name__ == "__main__":
    main()
