"""Live GPUs: the real nvidia-ml-py on a compiled stand-in for the driver library."""

from __future__ import annotations

import contextlib
import csv
import http.server
import json
import os
import pwd
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from configurator import live
from configurator.errors import InputError
from configurator.gpu_readers import GpuReading, Problem
from configurator.processes import (
    HIDDEN,
    describe,
    parse_vllm_metrics,
    propose_scenario,
    read_vllm_metrics,
    redact,
    serving_port,
)
from tests.nvml_stub import ROOT, StubEnvironment, nvml_stub_fixture  # noqa: F401

GIB = 2**30

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


def run(code: str, env: dict[str, str], *argv: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code, *argv]
    return subprocess.run(
        command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False
    )


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


class TestCommandLine:
    RUN = (
        "import sys; from configurator.live import run_live\n"
        "sys.exit(run_live(**eval(sys.argv[1])))"
    )

    def live(self, env: dict[str, str], **options: Any) -> subprocess.CompletedProcess[str]:
        return run(self.RUN, env, repr(options))

    def test_json(self, nvml_stub: StubEnvironment) -> None:
        done = self.live(nvml_stub("h100x8"), as_json=True)
        assert done.returncode == 0
        assert len(json.loads(done.stdout)["gpus"]) == 8

    @pytest.mark.parametrize("options", [{}, {"as_json": True}, {"as_csv": True}, {"watch_s": 9}])
    def test_no_gpu_is_status_3(self, nvml_stub: StubEnvironment, options: dict[str, Any]) -> None:
        done = self.live(nvml_stub("none"), **options)
        assert done.returncode == 3
        assert "--gpus all" in done.stdout + done.stderr

    def test_csv_starts_with_the_articles_columns(self, nvml_stub: StubEnvironment) -> None:
        done = self.live(nvml_stub("lost", lost_after=2), as_csv=True, watch_s=0.01, samples=3)
        header, *rows = csv.reader(done.stdout.splitlines())
        assert header[:5] == [
            "timestamp",
            "name",
            "utilization.gpu",
            "memory.used",
            "temperature.gpu",
        ]
        assert len(rows) == 6
        assert rows[0][1:5] == ["NVIDIA H100 80GB HBM3", "37", "1024", "56"]
        assert rows[5][1:5] == ["NVIDIA H100 80GB HBM3", "", "", ""], "lost: empty, not 0"
        assert rows[5][-1] == "gpu_lost"

    def test_table_names_what_is_not_reported(self, nvml_stub: StubEnvironment) -> None:
        text = self.live(nvml_stub("gb10")).stdout
        assert "NVIDIA GB10" in text
        assert "not reported" in text
        assert "unified_memory:" in text
        assert "Driver 580.95.05, CUDA 13.0" in text

    @pytest.mark.parametrize("options", [{}, {"as_json": True}, {"as_csv": True}])
    def test_watch_ends_well_at_ctrl_c(
        self, nvml_stub: StubEnvironment, options: dict[str, Any], tmp_path: Path
    ) -> None:
        options = {**options, "watch_s": 0.05, "record": "PATH"}
        # A shell's background job starts with SIGINT ignored, and so would its children.
        code = (
            "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
            "from pathlib import Path\n" + self.RUN
        )
        text = repr(options).replace("'PATH'", f"Path({str(tmp_path / 'r.csv')!r})")
        env = nvml_stub("lost", lost_after=1)
        with subprocess.Popen(
            [sys.executable, "-c", code, text], env=env, cwd=ROOT, stdout=subprocess.PIPE
        ) as child:
            assert child.stdout is not None
            child.stdout.readline()
            time.sleep(0.3)
            child.send_signal(signal.SIGINT)
            try:
                assert child.communicate(timeout=20)[0]
            finally:
                child.kill()
        assert child.returncode == 0
        assert len((tmp_path / "r.csv").read_text().splitlines()) >= 5

    def test_a_closed_pipe_is_no_error(self, nvml_stub: StubEnvironment) -> None:
        command = [sys.executable, "-c", self.RUN, "{'as_csv': True, 'watch_s': 0.01}"]
        env = nvml_stub("4090")
        child = subprocess.Popen(
            command, env=env, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )
        assert child.stdout is not None
        assert child.stderr is not None
        child.stdout.readline()
        child.stdout.close()
        assert child.wait(timeout=20) == 0
        assert child.stderr.read() == b""
        child.stderr.close()


class FakeProbe(live.Probe):
    """Gives one card without asking a driver."""

    def snapshot(self, max_age_s: float = 0.5) -> live.Snapshot:
        gpu = GpuReading(0, "Card, the first", utilization_percent=5, memory_used_bytes=3 * GIB)
        stamp = datetime(2026, 8, 20, 12, 0, tzinfo=UTC)
        return live.Snapshot(stamp, (gpu,), problems=(Problem("unknown_card", "…", 0),))


class TestRecorder:
    def test_a_killed_process_loses_nothing(
        self, nvml_stub: StubEnvironment, tmp_path: Path
    ) -> None:
        path = tmp_path / "recordings" / "a.csv"
        code = (
            "import sys, time; from pathlib import Path\n"
            "from configurator.live import Recorder, Probe\n"
            "recorder = Recorder(Probe(), Path(sys.argv[1]), 0.02)\n"
            "recorder.start()\n"
            "while True:\n"
            "    time.sleep(0.01); print(recorder.samples, flush=True)\n"
        )
        command = [sys.executable, "-c", code, str(path)]
        env = nvml_stub("h100x8")
        child = subprocess.Popen(command, env=env, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        said = 0
        while said < 5:
            said = int(child.stdout.readline())
        child.kill()
        child.wait()
        child.stdout.close()
        rows = list(csv.DictReader(path.read_text().splitlines()))
        assert len(rows) >= 8 * said, "every sample that was counted is in the file"
        assert len(rows) % 8 == 0
        assert {row["memory.used"] for row in rows} == {"1024"}

    def test_start_stop_and_go_on_in_the_same_file(self, tmp_path: Path) -> None:
        path = tmp_path / "a.csv"
        recorder = live.Recorder(FakeProbe(), path, 0.01)
        recorder.start()
        recorder.start()  # a second click
        while recorder.samples < 3:
            time.sleep(0.005)
        assert recorder.running
        recorder.stop()
        recorder.stop()
        assert not recorder.running
        first = path.read_text().splitlines()
        with path.open("a") as file:
            file.write("2026-08-20T12:00:00+00:00,half a li")  # killed in the middle of a write
        recorder.start()
        recorder.stop()
        lines = path.read_text().splitlines()
        assert lines[: len(first)] == first
        assert lines[0] == live.csv_header().strip()
        assert lines.count(lines[0]) == 1
        row = next(csv.reader(lines[-1:]))
        assert row[1:5] == ["Card, the first", "5", "3072", ""]
        assert row[-1] == "unknown_card"

    def test_another_table_is_left_alone(self, tmp_path: Path) -> None:
        path = tmp_path / "mine.csv"
        path.write_text("a,b\n1,2\n")
        with pytest.raises(InputError, match="another kind of table"):
            live.Recorder(FakeProbe(), path).start()
        with pytest.raises(InputError, match="cannot be written"):
            live.Recorder(FakeProbe(), tmp_path).start()
        assert path.read_text() == "a,b\n1,2\n"

    def test_a_full_disk_stops_it_with_the_reason(self) -> None:
        if not Path("/dev/full").exists():
            pytest.skip("no /dev/full here")
        recorder = live.Recorder(FakeProbe(), Path("/dev/full"), 0.01)
        recorder._file = open("/dev/full", "ab", buffering=0)  # noqa: SIM115
        with pytest.raises(OSError, match="No space"):
            recorder.start()
        recorder._thread = threading.Thread(target=recorder._run)
        recorder._thread.start()
        recorder._thread.join(5)
        assert "No space" in str(recorder.error)
        recorder.stop()


SCENARIOS = {
    "python3 /venv/bin/vllm serve deepseek-ai/DeepSeek-R1-Distill-Qwen-7B -tp 2 --max_model_len=32k"
    " --gpu-memory-utilization 0.85 --max-num-seqs 64 --kv-cache-dtype fp8_e5m2 --dtype half": {
        "task": "inference",
        "engine": "vllm",
        "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B",
        "precision": "fp16",
        "kv_cache_precision": "fp8",
        "inference": {"max_model_len": 32000, "gpu_memory_utilization": 0.85, "max_num_seqs": 64},
        "hardware": {"tensor_parallel": 2, "gpu_count": 2},
    },
    "python -m vllm.entrypoints.openai.api_server --model Qwen/Qwen3-32B-AWQ --quantization awq"
    " --tensor-parallel-size 2 --pipeline-parallel-size 2 --data-parallel-size 2"
    " --enable-expert-parallel --max-model-len 32K --cpu-offload-gb 8 --kv-cache-dtype auto": {
        "task": "inference",
        "engine": "vllm",
        "model": "Qwen/Qwen3-32B-AWQ",
        "precision": "int4",
        "inference": {"max_model_len": 32768},
        "hardware": {
            "tensor_parallel": 2,
            "pipeline_parallel": 2,
            "data_parallel": 2,
            "gpu_count": 8,
            "expert_parallel": 4,
            "allow_cpu_offload": True,
        },
    },
    "vllm serve org/model-GPTQ -q gptq_marlin --gpu-memory-utilization 7 --max-model-len -1": {
        "task": "inference",
        "engine": "vllm",
        "model": "org/model-GPTQ",
        "precision": "auto",
        "hardware": {"gpu_count": 1},
    },
    "python -m sglang.launch_server --model-path deepseek-ai/DeepSeek-V3 --tp 8 --dp 8"
    " --enable-dp-attention --ep-size 8 --context-length 16384 --max-running-requests 128"
    " --mem-fraction-static 0.8 --quantization fp8": {
        "task": "inference",
        "engine": "sglang",
        "model": "deepseek-ai/DeepSeek-V3",
        "precision": "fp8",
        "inference": {"max_model_len": 16384, "max_num_seqs": 128},
        "hardware": {
            "expert_parallel": 8,
            "tensor_parallel": 8,
            "data_parallel": 8,
            "gpu_count": 8,
        },
    },
    "trtllm-serve meta-llama/Llama-3.1-8B-Instruct --tp_size 4 --max_batch_size 32": {
        "task": "inference",
        "engine": "tensorrt_llm",
        "model": "meta-llama/Llama-3.1-8B-Instruct",
        "inference": {"max_num_seqs": 32},
        "hardware": {"tensor_parallel": 4, "gpu_count": 4},
    },
    "/opt/llama.cpp/llama-server -m /models/Qwen3-30B-A3B-Q4_K_M-00001-of-00002.gguf -c 65536"
    " -np 8 -ctk q8_0 -ctv q8_0 -ngl 99 --n-cpu-moe 4": {
        "task": "inference",
        "engine": "llama_cpp",
        "model": "Qwen3-30B-A3B",
        "precision": "q4_k_m",
        "kv_cache_precision": "q8_0",
        "inference": {"max_model_len": 8192, "concurrency": 8},
        "hardware": {"allow_cpu_offload": True},
    },
    "llama-server -hf bartowski/Llama-3.2-3B-Instruct-GGUF:Q8_0 -c 4096": {
        "task": "inference",
        "engine": "llama_cpp",
        "model": "bartowski/Llama-3.2-3B-Instruct-GGUF",
        "precision": "q8_0",
        "inference": {"max_model_len": 4096},
    },
    "/usr/bin/ollama runner --model /root/.ollama/models/blobs/sha256-6a0746a1ec1a --ctx-size 8192"
    " --batch-size 512 --n-gpu-layers 33 --parallel 2 --port 43211": {
        "task": "inference",
        "engine": "llama_cpp",
        "inference": {"max_model_len": 4096, "concurrency": 2},
    },
    "/usr/bin/python /venv/bin/torchrun --nproc_per_node 4 --nnodes=2 sft.py"
    " --model_name_or_path Qwen/Qwen3-8B --per_device_train_batch_size 2"
    " --gradient_accumulation_steps 8 --max_seq_length 4096 --gradient_checkpointing True --bf16"
    " --optim adamw_torch_fused --use_peft --lora_r 16 --load_in_4bit --deepspeed ds_z3.json": {
        "task": "fine_tuning",
        "engine": "deepspeed",
        "model": "Qwen/Qwen3-8B",
        "training": {
            "micro_batch_size": 2,
            "gradient_accumulation": 8,
            "sequence_length": 4096,
            "optimizer": "adamw",
            "lora_rank": 16,
            "sharding": "zero3",
            "method": "qlora",
            "gradient_checkpointing": True,
            "mixed_precision": "amp_bf16",
        },
        "hardware": {"gpu_count": 8},
    },
    "accelerate launch --num_processes 2 --use_fsdp train.py --bf16 false --fp16 true": {
        "task": "training",
        "engine": "fsdp",
        "training": {"sharding": "fsdp", "mixed_precision": "amp_fp16"},
        "hardware": {"gpu_count": 2},
    },
    "torchrun --nproc-per-node=gpu pretrain_gpt.py --tensor-model-parallel-size 2 --seq-length 4096"
    " --micro-batch-size 1": {
        "task": "training",
        "engine": "megatron",
        "training": {"micro_batch_size": 1, "sequence_length": 4096},
        "hardware": {"tensor_parallel": 2},
    },
    "python train.py --lr 3": None,
    "/usr/lib/xorg/Xorg :0": None,
    "vim vllm": None,
    "": None,
}


@pytest.mark.parametrize(("line", "scenario"), SCENARIOS.items())
def test_propose_scenario(line: str, scenario: dict[str, Any] | None) -> None:
    assert propose_scenario(line.split()) == scenario


class TestProcesses:
    def test_ports(self) -> None:
        assert serving_port(["vllm", "serve", "a/b", "--port", "8123"]) == 8123
        assert serving_port(["vllm", "serve", "a/b"]) == 8000
        assert serving_port(["python", "-m", "sglang.launch_server", "--model", "a/b"]) == 30000
        assert serving_port(["torchrun", "x.py"]) is None
        assert serving_port([]) is None

    def test_secrets_are_hidden(self) -> None:
        line = (
            "vllm serve a/b --api-key k1 k2 --hf-token=hf_abcdefghijklmnopqrst"
            " --max-num-batched-tokens 8192 --tokenizer a/b HF_TOKEN=x http://me:pw@host/v1"
            " sk-aaaaaaaaaaaaaaaaaaaaaaaa"
        )
        assert redact(line.split()) == (
            *("vllm", "serve", "a/b", "--api-key", HIDDEN, HIDDEN, f"--hf-token={HIDDEN}"),
            *("--max-num-batched-tokens", "8192", "--tokenizer", "a/b", f"HF_TOKEN={HIDDEN}"),
            *(f"http://{HIDDEN}@host/v1", HIDDEN),
        )
        assert redact(None) is None

    def test_a_worker_is_known_by_its_parents(self, tmp_path: Path) -> None:
        """vLLM renames its workers, so only the server has the arguments."""

        def put(pid: int, parent: int, command: str) -> None:
            (tmp_path / str(pid)).mkdir()
            rest = " ".join(["0"] * 17)
            (tmp_path / str(pid) / "stat").write_text(f"{pid} (a ) b) S {parent} {rest} 77 0")
            (tmp_path / str(pid) / "cmdline").write_bytes(command.replace(" ", "\0").encode())

        put(10, 1, "vllm serve a/b -tp 2 --port 8001")
        put(11, 10, "VLLM::EngineCore")
        put(12, 11, "VLLM::Worker_TP0")
        put(20, 1, "python x.py")
        found = describe(12, 5 * GIB, tmp_path)
        assert found.command == ("VLLM::Worker_TP0",)
        assert found.scenario is not None
        assert found.scenario["hardware"] == {"tensor_parallel": 2, "gpu_count": 2}
        assert found.port == 8001
        assert describe(20, None, tmp_path).scenario is None
        assert describe(99, None, tmp_path).command is None


METRICS = """# HELP vllm:num_requests_running Number of requests in model execution batches.
# TYPE vllm:num_requests_running gauge
vllm:num_requests_running{engine="0",model_name="a/b"} 3.0
vllm:num_requests_running{engine="1",model_name="a/b"} 2.0
vllm:num_requests_waiting{engine="0",model_name="a } b"} 1.0
vllm:kv_cache_usage_perc{engine="0"} 0.25
vllm:kv_cache_usage_perc{engine="1"} 0.5
vllm:generation_tokens_total{engine="0"} 1.5e+06
vllm:prompt_tokens_total{engine="0"} NaN
python_gc_objects_collected_total{generation="0"} 1.0
"""
FIGURES = {
    "requests_running": 5.0,
    "requests_waiting": 1.0,
    "kv_cache_usage": 0.5,
    "prompt_tokens_total": None,
    "generation_tokens_total": 1.5e6,
}


class Handler(http.server.BaseHTTPRequestHandler):
    answer = "metrics"

    def do_GET(self) -> None:
        if self.answer == "slow":
            time.sleep(1.5)
        if self.answer == "redirect":
            self.send_response(302)
            self.send_header("Location", "http://example.com/")
            self.end_headers()
            return
        self.send_response(200)
        self.end_headers()
        with contextlib.suppress(BrokenPipeError):  # the slow one is not waited for
            self.wfile.write(METRICS.encode())

    def log_message(self, *args: Any) -> None:
        pass


class TestVllmMetrics:
    @pytest.mark.parametrize(
        ("answer", "figures"), [("metrics", FIGURES), ("slow", {}), ("redirect", {})]
    )
    def test_read(
        self, answer: str, figures: dict[str, float | None], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(Handler, "answer", answer)
        monkeypatch.setenv("http_proxy", "http://127.0.0.1:1")
        with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
            server.daemon_threads = True
            server.block_on_close = False
            threading.Thread(target=server.serve_forever, daemon=True).start()
            began = time.monotonic()
            assert read_vllm_metrics(server.server_address[1]) == figures
            assert time.monotonic() - began < 1.0
            server.shutdown()

    def test_nothing_there(self) -> None:
        assert read_vllm_metrics(1) == {}
        assert read_vllm_metrics(70000) == {}

    def test_older_name_of_the_cache_figure(self) -> None:
        figures = parse_vllm_metrics("vllm:gpu_cache_usage_perc 0.75")
        assert figures["kv_cache_usage"] == 0.75
        assert figures["requests_running"] is None
