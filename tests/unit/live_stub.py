"""Python code in a process of its own, on a machine with the stand-in for the driver library."""

from __future__ import annotations

import subprocess
import sys

from tests.nvml_stub import ROOT

GIB = 2**30


def run(code: str, env: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )
