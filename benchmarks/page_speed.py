"""How long the planner takes to answer a moved slider, beside a trivial Streamlit app.

Both run through Streamlit's own test runner, without a browser.
Run: python benchmarks/page_speed.py
"""

from __future__ import annotations

import logging
import statistics
import time
from pathlib import Path

from streamlit.testing.v1 import AppTest

SCRIPT = Path(__file__).parents[1] / "streamlit_app.py"
VALUES = (12, 16, 20, 25, 32, 40, 50)


def trivial():
    import streamlit as st

    st.write(st.slider("x", 1, 100, 10, key="x"))


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
        out.append(statistics.median(times))
    return out


def main():
    logging.getLogger("streamlit").setLevel(logging.ERROR)
    bare, _ = reruns(
        AppTest.from_function(trivial), lambda at, value: at.slider(key="x").set_value(value)
    )
    planner = AppTest.from_file(str(SCRIPT), default_timeout=60)
    planner.context = {"locale": "en-US", "url": "http://localhost:8501/"}
    new, seen = reruns(
        planner, lambda at, value: at.select_slider(key="concurrency").set_value(value)
    )
    print(f"trivial app: {bare:.1f} ms")
    print(f"planner, a new question: {new:.1f} ms, ratio {new / bare:.1f}")
    print(f"planner, a question asked before: {seen:.1f} ms, ratio {seen / bare:.1f}")


if __name__ == "__main__":
    main()
