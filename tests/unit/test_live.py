"""Live GPUs: the real nvidia-ml-py on a compiled stand-in for the driver library."""

from __future__ import annotations

import contextlib
import json
import os
import pwd
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from configurator.processes import HIDDEN
from tests.nvml_stub import StubEnvironment, nvml_stub_fixture  # noqa: F401
from tests.unit.live_stub import run

# prints one dict a snapshot; a catalog of two cards that goes by name and memory
SNAPSHOTS = """
import json, sys, types
from configurator.live import Probe, snapshot_to_dict

def match(name, mib):
    sizes = {"NVIDIA GeForce RTX 4090": ("rtx-4090", 24564), "NVIDIA H100 80GB HBM3":
             ("h100-sxm", 81559)}
    gpu, size = sizes.get(name, (None, None))
    return types.SimpleNamespace(id=gpu) if gpu and mib in (None, size) else None

probe = Probe(match)
for _ in range(int(sys.argv[1])):
    print(json.dumps(snapshot_to_dict(probe.snapshot(0))))
"""


def snapshots(env: dict[str, str], count: int = 1) -> list[dict[str, Any]]:
    done = run(SNAPSHOTS, env, str(count))
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return [json.loads(line) for line in done.stdout.splitlines()]


def codes(snapshot: dict[str, Any]) -> list[str]:
    return [problem["code"] for problem in snapshot["problems"]]


@contextlib.contextmanager
def process(*argv: str) -> Iterator[int]:
    """A process with these arguments after ``python -c …``."""
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)", *argv])
    try:
        yield child.pid
    finally:
        child.kill()
        child.wait()


RTX_4090 = {
    "index": 0,
    "name": "NVIDIA GeForce RTX 4090",
    "uuid": "GPU-stub-0",
    "catalog_id": "rtx-4090",
    "mig_profile": None,
    "parent_catalog_id": None,
    "memory_total_gib": 23.9883,
    "memory_used_gib": 1.0,
    "memory_reserved_gib": 0.5,
    "utilization_percent": 37,
    "memory_utilization_percent": 12,
    "temperature_c": 56,
    "power_w": 123.5,
    "power_limit_w": 450.0,
    "sm_clock_mhz": 2520,
    "sm_clock_max_mhz": 3105,
    "memory_clock_mhz": 10501,
    "memory_clock_max_mhz": 10501,
    "memory_bandwidth_gbps": 1008.1,
    "throttle_reasons": ["power_cap", "software_thermal"],
    "ecc_enabled": None,
    "ecc_errors_corrected": None,
    "ecc_errors_uncorrected": None,
    "pcie_generation": 1,
    "pcie_generation_max": 4,
    "pcie_width": 8,
    "pcie_width_max": 16,
    "nvlink_active_links": None,
    "nvlink_peers": None,
    "compute_capability": "8.9",
    "compute_mode": "default",
    "cores": 16384,
}


class TestProfiles:
    def test_one_4090_exactly(self, nvml_stub: StubEnvironment) -> None:
        serving = ["vllm", "serve", "Qwen/Qwen3-8B", "--port=9001", "--api-key", "mine"]
        with process(*serving) as pid:
            env = nvml_stub("4090", pid=pid, graphics=1)
            (snapshot,) = snapshots(env)
        stamp = snapshot.pop("timestamp")
        memory = snapshot.pop("system_memory")
        owner = pwd.getpwuid(os.getuid()).pw_name
        assert stamp[10] == "T"
        assert stamp[-6] in "+-"
        assert 0 < memory["available_gib"] < memory["total_gib"]
        processes = [
            {
                "pid": pid,
                "memory_gib": 0.75,
                "owner": owner,
                "command": [
                    sys.executable,
                    "-c",
                    "import time; time.sleep(60)",
                    *serving[:-1],
                    HIDDEN,
                ],
                "scenario": {
                    "task": "inference",
                    "engine": "vllm",
                    "model": "Qwen/Qwen3-8B",
                    "hardware": {"gpu_count": 1},
                },
                "port": 9001,
            },
            # not in /proc (another container's), and the driver does not say how much it holds
            {
                "pid": 4194305,
                "memory_gib": None,
                "owner": None,
                "command": None,
                "scenario": None,
                "port": None,
            },
        ]
        assert snapshot == {
            "gpus": [{**RTX_4090, "processes": processes}],
            "driver": "580.95.05",
            "cuda": "13.0",
            "problems": [],
        }
        assert list(snapshot["gpus"][0])[:2] == ["index", "name"]

    def test_eight_h100_with_nvlink(self, nvml_stub: StubEnvironment) -> None:
        (snapshot,) = snapshots(nvml_stub("h100x8"))
        gpus = snapshot["gpus"]
        assert [gpu["index"] for gpu in gpus] == list(range(8))
        assert {gpu["catalog_id"] for gpu in gpus} == {"h100-sxm"}
        assert gpus[3]["nvlink_active_links"] == 18
        assert gpus[3]["nvlink_peers"] == [0, 1, 2, 4, 5, 6, 7]
        assert gpus[3]["memory_total_gib"] == 79.6475
        assert gpus[3]["memory_bandwidth_gbps"] == 3352.3
        assert gpus[3]["processes"] == []
        ecc = [gpus[3][f"ecc_{key}"] for key in ("enabled", "errors_corrected")]
        assert ecc == [True, 3]
        assert gpus[3]["ecc_errors_uncorrected"] == 0, "a true 0 stays 0"

    def test_mig_slices_stand_for_their_card(self, nvml_stub: StubEnvironment) -> None:
        (snapshot,) = snapshots(nvml_stub("mig"))
        first, second = snapshot["gpus"]
        assert first["mig_profile"] == second["mig_profile"] == "1g.10gb"
        assert [first["uuid"], second["uuid"]] == ["MIG-stub-0", "MIG-stub-1"]
        assert [first["catalog_id"], first["parent_catalog_id"]] == [None, "h100-sxm"]
        assert first["memory_total_gib"] == 9.75
        assert first["temperature_c"] == 56, "of the card"
        silent = ("power_w", "power_limit_w", "utilization_percent", "memory_bandwidth_gbps")
        assert [first[key] for key in silent] == [None] * 4, "a slice's share is not known"
        assert len(first["processes"]) == 1
        assert second["processes"] == []
        assert snapshot["problems"] == []

    def test_nothing_reported_is_null_everywhere(self, nvml_stub: StubEnvironment) -> None:
        (snapshot,) = snapshots(nvml_stub("silent"))
        (gpu,) = snapshot["gpus"]
        assert {key for key, value in gpu.items() if value is not None} == {
            "index",
            "name",
            "catalog_id",
        }

    def test_processes_denied(self, nvml_stub: StubEnvironment) -> None:
        (snapshot,) = snapshots(nvml_stub("denied"))
        assert snapshot["gpus"] == [{**RTX_4090, "processes": None}]
        assert codes(snapshot) == ["processes_denied"]

    def test_old_driver_falls_back(self, nvml_stub: StubEnvironment) -> None:
        (snapshot,) = snapshots(nvml_stub("old"))
        (gpu,) = snapshot["gpus"]
        assert gpu["memory_used_gib"] == 1.5, "v1 counts what is reserved as used"
        assert gpu["memory_reserved_gib"] is None
        assert gpu["throttle_reasons"] == RTX_4090["throttle_reasons"]
        assert len(gpu["processes"]) == 1

    def test_unified_memory(self, nvml_stub: StubEnvironment) -> None:
        (snapshot,) = snapshots(nvml_stub("gb10"))
        (gpu,) = snapshot["gpus"]
        silent = ("memory_total_gib", "memory_used_gib", "memory_clock_mhz", "pcie_width")
        assert [gpu[key] for key in silent] == [None] * 4
        assert gpu["power_w"] == 123.5
        assert gpu["processes"][0]["memory_gib"] == 0.75
        assert codes(snapshot) == ["unknown_card", "unified_memory"]
        assert snapshot["system_memory"]["total_gib"] > 0

    def test_gpu_lost_while_reading(self, nvml_stub: StubEnvironment) -> None:
        taken = snapshots(nvml_stub("lost", lost_after=2), 4)
        assert [codes(snapshot) for snapshot in taken] == [[], [], ["gpu_lost"], ["gpu_lost"]]
        assert taken[3]["problems"][0]["gpu_index"] == 1
        assert "GPU 1 (NVIDIA H100 80GB HBM3)" in taken[3]["problems"][0]["message"]
        for snapshot in taken:
            assert snapshot["gpus"][0]["utilization_percent"] == 37
        gone = taken[3]["gpus"][1]
        assert [gone["name"], gone["memory_total_gib"]] == ["NVIDIA H100 80GB HBM3", 79.6475]
        moving = ("memory_used_gib", "temperature_c", "power_limit_w", "pcie_width", "processes")
        assert [gone[key] for key in moving] == [None] * 5

    def test_gpu_comes_back(self, nvml_stub: StubEnvironment) -> None:
        code = "import configurator.live as l; l.REOPEN_PERIOD_S = 0\n" + SNAPSHOTS
        env = nvml_stub("lost", lost_after=0, back_after=2)
        done = run(code, env, "4")
        taken = [json.loads(line) for line in done.stdout.splitlines()]
        assert [codes(snapshot) for snapshot in taken] == [["gpu_lost"]] * 2 + [[]] * 2
        assert taken[1]["gpus"][1]["name"] == "NVIDIA H100 80GB HBM3", "kept while it has no handle"
        assert taken[2]["gpus"][1]["temperature_c"] == 56

    @pytest.mark.parametrize(
        ("profile", "code"),
        [
            ("none", "nvml_missing"),
            ("mismatch", "driver_mismatch"),
            ("not-loaded", "driver_not_loaded"),
            ("no-permission", "no_permission"),
            ("broken", "nvml_error"),
            ("no-gpu", "no_gpu"),
        ],
    )
    def test_no_gpu_says_why(self, nvml_stub: StubEnvironment, profile: str, code: str) -> None:
        (snapshot,) = snapshots(nvml_stub(profile))
        assert snapshot["gpus"] == []
        assert codes(snapshot) == [code]
        assert len(snapshot["problems"][0]["message"]) > 40
        assert "{" not in snapshot["problems"][0]["message"]

    def test_cards_that_are_not_in_the_catalog(self, nvml_stub: StubEnvironment) -> None:
        (modified,) = snapshots(nvml_stub("4090", total_mib=49140))
        assert modified["gpus"][0]["catalog_id"] is None
        assert modified["gpus"][0]["memory_total_gib"] == 47.9883
        assert codes(modified) == ["modified_card"]
        assert "48.0 GiB" in modified["problems"][0]["message"]
        (laptop,) = snapshots(nvml_stub("4090", name="NVIDIA GeForce RTX 4090 Laptop GPU"))
        assert laptop["gpus"][0]["name"] == "NVIDIA GeForce RTX 4090 Laptop GPU"
        assert codes(laptop) == ["unknown_card"]

    def test_amd_through_amdsmi(self, nvml_stub: StubEnvironment, tmp_path: Path) -> None:
        (tmp_path / "amdsmi.py").write_text(
            "from enum import Enum\n"
            "print('noise that would spoil the JSON')\n"
            "class AmdSmiMemoryType(Enum): VRAM = 0\n"
            "class AmdSmiTemperatureType(Enum): HOTSPOT = 1\n"
            "class AmdSmiTemperatureMetric(Enum): CURRENT = 0\n"
            "def amdsmi_init(): pass\n"
            "def amdsmi_get_processor_handles(): return ['a']\n"
            "def amdsmi_get_gpu_asic_info(h): return {'market_name': 'AMD Instinct MI300X'}\n"
            "def amdsmi_get_gpu_driver_info(h): return {'driver_version': '6.12'}\n"
            "def amdsmi_get_gpu_memory_total(h, kind): return 192 << 30\n"
            "def amdsmi_get_gpu_memory_usage(h, kind): return 3 << 30\n"
            "def amdsmi_get_gpu_activity(h): return {'gfx_activity': 'N/A'}\n"
            "def amdsmi_get_power_info(h):\n"
            "    return {'current_socket_power': 140, 'average_socket_power': 'N/A'}\n"
            "def amdsmi_get_temp_metric(*a): raise RuntimeError('not supported')\n"
            "def amdsmi_get_gpu_process_list(h): return []\n"
        )
        env = nvml_stub("none")
        env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"
        (snapshot,) = snapshots(env)
        (gpu,) = snapshot["gpus"]
        assert gpu["name"] == "AMD Instinct MI300X"
        assert [gpu["memory_total_gib"], gpu["memory_used_gib"]] == [192.0, 3.0]
        assert [gpu["power_w"], gpu["temperature_c"], gpu["utilization_percent"]] == [
            140,
            None,
            None,
        ]
        assert [snapshot["driver"], codes(snapshot)] == ["6.12", ["unknown_card"]]

    def test_amdsmi_without_rocm(self, nvml_stub: StubEnvironment, tmp_path: Path) -> None:
        (tmp_path / "amdsmi.py").write_text("print('noise'); raise KeyError('libamd_smi.so')\n")
        env = nvml_stub("none")
        env["PYTHONPATH"] = f"{tmp_path}{os.pathsep}{env['PYTHONPATH']}"
        for snapshot in snapshots(env, 2):
            assert codes(snapshot) == ["nvml_missing", "amd_error"]


class TestProbe:
    def test_one_snapshot_is_shared_and_statics_are_asked_once(
        self, nvml_stub: StubEnvironment
    ) -> None:
        code = """
import threading, pynvml
from collections import Counter
from configurator.live import shared_probe
calls = Counter()
for name in [n for n in dir(pynvml) if n.startswith("nvmlDeviceGet")]:
    def counted(*a, _f=getattr(pynvml, name), _n=name):
        calls[_n] += 1
        return _f(*a)
    setattr(pynvml, name, counted)
seen = []
take = lambda: seen.append(shared_probe().snapshot(60))
threads = [threading.Thread(target=take) for _ in range(32)]
[t.start() for t in threads]; [t.join() for t in threads]
assert len(seen) == 32 and len(set(map(id, seen))) == 1
assert calls["nvmlDeviceGetUtilizationRates"] == 1, calls
for _ in range(5):
    shared_probe().snapshot(0)
assert calls["nvmlDeviceGetUtilizationRates"] == 6, calls
for name in ("Name", "MaxClockInfo", "EccMode", "MigMode", "MaxPcieLinkWidth", "NvLinkState"):
    assert calls["nvmlDeviceGet" + name] <= 2, calls
assert calls["nvmlDeviceGetTotalEccErrors"] == 2, calls
"""
        done = run(code, nvml_stub("4090"))
        assert done.returncode == 0, done.stderr

    def test_importing_it_loads_no_screen_and_no_driver(self) -> None:
        code = "import sys, configurator.live\n" + (
            "print({'streamlit', 'pandas', 'plotly', 'pynvml', 'rich'} & set(sys.modules))"
        )
        assert run(code, dict(os.environ)).stdout.strip() == "set()"
