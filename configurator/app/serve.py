"""Start the page from the command line."""

from __future__ import annotations

import sys
from pathlib import Path

from streamlit.web import cli


def serve(script: Path, address: str, port: int, *, headless: bool) -> int:
    """Run Streamlit on the page's script until it is stopped; return its exit status."""
    options = [
        "--server.address", address, "--server.port", str(port),
        "--browser.gatherUsageStats", "false",
    ]  # fmt: skip
    if headless:
        options += ["--server.headless", "true"]
    sys.argv = ["streamlit", "run", str(script), *options]
    return int(cli.main(prog_name="configurator serve", standalone_mode=False) or 0)
