"""The engine knows no screen, and importing it is quick."""

import subprocess
import sys

ENGINE = [
    "configurator.scenario", "configurator.estimate", "configurator.architecture",
    "configurator.catalog", "configurator.recommend", "configurator.cost", "configurator.link",
    "configurator.performance", "configurator.live", "configurator.validate", "configurator.cli",
]  # fmt: skip
SCREEN = ("streamlit", "plotly", "pandas", "pynvml", "scipy")


def test_engine_imports_no_screen_library():
    code = (
        f"import sys, importlib\nfor m in {ENGINE!r}: importlib.import_module(m)\n"
        f"print([m for m in {SCREEN!r} if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
