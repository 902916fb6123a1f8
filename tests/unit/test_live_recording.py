"""Live GPUs on the command line and in a recording: no sample lost, every end said."""

from __future__ import annotations

import csv
import json
import os
import signal
import subprocess
import sys
import threading
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from configurator import live
from configurator.errors import InputError
from configurator.gpu_readers import GpuReading, Problem
from tests.nvml_stub import ROOT, StubEnvironment, nvml_stub_fixture  # noqa: F401
from tests.unit.live_stub import GIB, run


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

    def test_a_file_that_opens_but_cannot_be_read_is_named(self, tmp_path: Path) -> None:
        pipe = tmp_path / "pipe"
        os.mkfifo(pipe)
        with pytest.raises(InputError, match="cannot be written"):
            live.Recorder(FakeProbe(), pipe).start()

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
