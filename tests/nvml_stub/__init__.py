"""A machine with any GPU: the environment in which nvidia-ml-py loads the stub library.

    from tests.nvml_stub import StubEnvironment, nvml_stub_fixture  # noqa: F401

    def test_it(nvml_stub: StubEnvironment) -> None:
        subprocess.run([sys.executable, "-c", "…"], env=nvml_stub("h100x8"))

Profiles: those of ``PROFILES`` in ``nvml_stub.c``, and ``none`` (no NVIDIA library at all, also
where the machine has one).
"""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

SOURCE = Path(__file__).with_name("nvml_stub.c")
ROOT = SOURCE.parents[2]
LIBRARY = "libnvidia-ml.so.1"

StubEnvironment = Callable[..., dict[str, str]]


def stub_environment(profile: str, folder: Path, **variables: object) -> dict[str, str]:
    """Build the stub in ``folder`` if it is not there; return the environment to start with.

    Args:
        profile: The machine, as named in ``nvml_stub.c``, or ``none``.
        folder: Where the libraries go; may be shared by all profiles.
        variables: Further ``NVML_STUB_…`` settings without that prefix, in lower case.
    """
    kind = profile if profile in ("none", "old") else "new"
    library = folder / kind / LIBRARY
    if not library.exists():
        library.parent.mkdir(parents=True, exist_ok=True)
        if kind == "none":
            library.write_bytes(b"not a library: the loader stops here")
        else:
            compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
            if compiler is None:
                pytest.skip("no C compiler for the NVML stub")
            options = ["-shared", "-fPIC", "-O1", *(["-DOLD_DRIVER"] if kind == "old" else [])]
            command = [compiler, *options, "-o", str(library), str(SOURCE)]
            subprocess.run(command, check=True, timeout=60)
    paths = [str(library.parent), os.environ.get("LD_LIBRARY_PATH", "")]
    python_paths = [str(ROOT), os.environ.get("PYTHONPATH", "")]
    return {
        **os.environ,
        "LD_LIBRARY_PATH": os.pathsep.join(filter(None, paths)),
        "PYTHONPATH": os.pathsep.join(filter(None, python_paths)),
        "NVML_STUB_PROFILE": profile,
        **{f"NVML_STUB_{name.upper()}": str(value) for name, value in variables.items()},
    }


@pytest.fixture(scope="session", name="nvml_stub")
def nvml_stub_fixture(tmp_path_factory: pytest.TempPathFactory) -> StubEnvironment:
    """Return ``stub(profile, **variables) -> environment`` for a subprocess."""
    folder = tmp_path_factory.mktemp("nvml_stub")
    return lambda profile, **variables: stub_environment(profile, folder, **variables)
