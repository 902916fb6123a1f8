"""What NVML and amdsmi say of each GPU, as plain values.

What never changes is asked once a process, what changes slowly every `SLOW_PERIOD_S`, the rest
every time. A value that the card does not report is ``None``: never 0, never -1.
"""

from __future__ import annotations

import contextlib
import importlib
import io
import re
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from configurator.processes import GpuProcess, describe

SLOW_PERIOD_S = 10.0  # ECC counts, PCIe link, limits, compute mode
NOT_REPORTED = "not reported"

MESSAGES = {
    "nvml_missing": "No NVIDIA driver library was found. Install the NVIDIA driver (a container "
    "needs --gpus all); without an NVIDIA GPU, choose this machine's memory instead.",
    "nvml_python_missing": "The Python package that reads NVIDIA GPUs is missing: "
    "pip install nvidia-ml-py.",
    "driver_not_loaded": "The NVIDIA driver is installed but not loaded. Load it "
    "(sudo modprobe nvidia) or restart the machine.",
    "driver_mismatch": "The NVIDIA library and the loaded kernel driver are of different versions, "
    "usually after an update. Restart the machine.",
    "no_permission": "This user may not open the NVIDIA driver. Check the permissions of "
    "/dev/nvidia* or ask the administrator.",
    "nvml_error": "The NVIDIA driver answered with an error: {detail}. Run nvidia-smi to see "
    "whether it works there.",
    "no_gpu": "The driver works but lists no GPU. Check CUDA/container device settings, or choose "
    "this machine's memory instead.",
    "apple_memory": "This Mac has no NVIDIA GPU; its own GPU shares the machine's memory. Choose "
    "this machine's memory to plan with it.",
    "amd_error": "amdsmi is installed but does not work here: {detail}. Install ROCm and check "
    "that this user is in the groups video and render.",
    "gpu_lost": "GPU {index} ({name}) no longer answers. Look for Xid in the kernel log (dmesg), "
    "then reset the GPU or restart the machine; it is asked again every half minute.",
    "unified_memory": "GPU {index} ({name}) reports no memory of its own. On a unified-memory "
    "machine (GB10, Jetson) it shares the system's: choose this machine's memory to plan with it.",
    "processes_denied": "The processes on GPU {index} ({name}) are hidden from this user. Run as "
    "their owner or as root to see them.",
    "mig_empty": "GPU {index} ({name}) is in MIG mode without a slice. Create one "
    "(nvidia-smi mig -cgi … -C) or switch MIG off.",
    "modified_card": "GPU {index} ({name}) has another memory size ({detail}) than the catalog's "
    "card of that name. The values read are used.",
    "unknown_card": "GPU {index} ({name}) is not in the catalog. The values read are used.",
}
THROTTLE_REASONS = {  # bits of nvmlClocksEventReasons
    0x1: "idle", 0x2: "application_clocks", 0x4: "power_cap", 0x8: "hardware_slowdown",
    0x10: "sync_boost", 0x20: "software_thermal", 0x40: "hardware_thermal", 0x80: "power_brake",
    0x100: "display_clocks",
}  # fmt: skip
COMPUTE_MODES = {0: "default", 1: "exclusive_thread", 2: "prohibited", 3: "exclusive_process"}


class Identified(Protocol):
    """Anything with a catalog id."""

    @property
    def id(self) -> str:
        """Catalog id."""


Matcher = Callable[[str, int | None], Identified | None]
"""(name as the driver gives it, memory [MiB] or None) -> the catalog's card, or None."""


@dataclass(frozen=True)
class Problem:
    """Something the person should know: a stable code, a plain sentence with the way out."""

    code: str
    message: str
    gpu_index: int | None = None


def _problem(code: str, index: int | None = None, name: str = "", detail: str = "") -> Problem:
    return Problem(code, MESSAGES[code].format(index=index, name=name, detail=detail), index)


@dataclass(frozen=True)
class GpuReading:
    """One GPU, or one MIG slice, at one moment. ``None`` is "not reported".

    Units are in the names. ``memory_reserved_bytes`` is what the driver keeps for itself; where
    it is ``None`` (old driver) ``memory_used_bytes`` includes it. ``memory_bandwidth_gbps`` is
    worked out from bus width and maximum clock. ``nvlink_peers`` are the indices of GPUs reached
    over NVLink. A MIG slice has its parent's index, temperature and clocks, and its own uuid.
    """

    index: int
    name: str
    uuid: str | None = None
    catalog_id: str | None = None
    mig_profile: str | None = None
    parent_catalog_id: str | None = None
    memory_total_bytes: int | None = None
    memory_used_bytes: int | None = None
    memory_reserved_bytes: int | None = None
    utilization_percent: int | None = None
    memory_utilization_percent: int | None = None
    temperature_c: int | None = None
    power_w: float | None = None
    power_limit_w: float | None = None
    sm_clock_mhz: int | None = None
    sm_clock_max_mhz: int | None = None
    memory_clock_mhz: int | None = None
    memory_clock_max_mhz: int | None = None
    memory_bandwidth_gbps: float | None = None
    throttle_reasons: tuple[str, ...] | None = None
    ecc_enabled: bool | None = None
    ecc_errors_corrected: int | None = None
    ecc_errors_uncorrected: int | None = None
    pcie_generation: int | None = None
    pcie_generation_max: int | None = None
    pcie_width: int | None = None
    pcie_width_max: int | None = None
    nvlink_active_links: int | None = None
    nvlink_peers: tuple[int, ...] | None = None
    compute_capability: str | None = None
    compute_mode: str | None = None
    cores: int | None = None
    processes: tuple[GpuProcess, ...] | None = None


class Unavailable(Exception):
    """No GPU can be read this way; carries the problem to show."""

    def __init__(self, problem: Problem) -> None:
        self.problem = problem
        super().__init__(problem.message)


class _Lost(Exception):
    """The GPU that was being asked fell off the bus."""


@dataclass
class _Device:
    handle: Any  # None: the driver lists it but gives no handle (lost)
    card: Any  # what the card as a whole is asked with: the parent's handle for a MIG slice
    reading: GpuReading  # with everything that is not asked every time
    notes: tuple[Problem, ...] = ()
    slow: dict[str, Any] = field(default_factory=dict)
    slow_at: float | None = None


class Nvml:
    """An open NVML. Raises `Unavailable` when it cannot be opened."""

    def __init__(self, match: Matcher | None, known: dict[int, str] | None = None) -> None:
        try:
            self.nvml: Any = importlib.import_module("pynvml")
        except ImportError:
            raise Unavailable(_problem("nvml_python_missing")) from None
        self.match = match
        self.error = 0
        nvml = self.nvml
        try:
            nvml.nvmlInit()
            count = nvml.nvmlDeviceGetCount()
        except nvml.NVMLError as error:
            code = {
                nvml.NVML_ERROR_LIBRARY_NOT_FOUND: "nvml_missing",
                nvml.NVML_ERROR_DRIVER_NOT_LOADED: "driver_not_loaded",
                nvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH: "driver_mismatch",
                nvml.NVML_ERROR_NO_PERMISSION: "no_permission",
            }.get(error.value, "nvml_error")
            if code == "nvml_missing" and sys.platform == "darwin":
                code = "apple_memory"
            raise Unavailable(_problem(code, detail=str(error))) from None
        self.driver: str | None = self._ask("nvmlSystemGetDriverVersion")
        cuda = self._ask("nvmlSystemGetCudaDriverVersion")
        self.cuda = f"{cuda // 1000}.{cuda % 1000 // 10}" if cuda else None
        self.devices = [d for i in range(count) for d in self._open(i, (known or {}).get(i))]
        self._read_nvlink()

    def close(self) -> None:
        """Let the driver go."""
        with contextlib.suppress(self.nvml.NVMLError):
            self.nvml.nvmlShutdown()

    def _ask(self, function: str, *args: Any) -> Any:
        """Call NVML; ``None`` where it has no answer (the code stays in ``self.error``)."""
        nvml = self.nvml
        try:
            answer = getattr(nvml, function)(*args)
        except nvml.NVMLError as error:
            self.error = error.value
            if error.value in (nvml.NVML_ERROR_GPU_IS_LOST, nvml.NVML_ERROR_RESET_REQUIRED):
                raise _Lost from None
            return None
        except AttributeError:  # an nvidia-ml-py without this function
            self.error = nvml.NVML_ERROR_FUNCTION_NOT_FOUND
            return None
        self.error = 0
        return answer

    def _positive(self, function: str, *args: Any) -> int | None:
        """As `_ask`, for a number of which 0 and 2^32-1 mean that there is none."""
        answer = self._ask(function, *args)
        return answer if answer and answer != 0xFFFFFFFF else None

    def _open(self, index: int, known_name: str | None) -> list[_Device]:
        """Return the GPU at ``index``, or its MIG slices."""
        name = known_name or f"GPU {index}"
        try:
            handle = self._ask("nvmlDeviceGetHandleByIndex", index)
            if handle is None:
                raise _Lost
            name = self._ask("nvmlDeviceGetName", handle) or name
            whole = self._static(index, name, handle)
            slices = []
            mode = self._ask("nvmlDeviceGetMigMode", handle)
            if mode and mode[0] == 1:
                for at in range(self._ask("nvmlDeviceGetMaxMigDeviceCount", handle) or 0):
                    part = self._ask("nvmlDeviceGetMigDeviceHandleByIndex", handle, at)
                    if part is not None:
                        slices.append(self._slice(whole, part))
                        whole.notes = ()  # what is wrong with the card is said once
                if not slices:
                    whole.notes += (_problem("mig_empty", index, name),)
        except _Lost:
            return [_Device(None, None, GpuReading(index, name))]
        return slices or [whole]

    def _static(self, index: int, name: str, handle: Any) -> _Device:
        nvml = self.nvml
        total = self._memory(handle)[0]
        catalog_id, code = _match(self.match, name, total)
        size = f"{total / 2**30:.1f} GiB" if total else NOT_REPORTED
        notes = [_problem(code, index, name, size)] if code else []
        if total is None and self.error in (0, nvml.NVML_ERROR_NOT_SUPPORTED):
            notes.append(_problem("unified_memory", index, name))
        memory_clock = self._positive("nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_MEM)
        bus_bits = self._positive("nvmlDeviceGetMemoryBusWidth", handle)
        capability = self._ask("nvmlDeviceGetCudaComputeCapability", handle)
        ecc = self._ask("nvmlDeviceGetEccMode", handle)
        reading = GpuReading(
            index,
            name,
            uuid=self._ask("nvmlDeviceGetUUID", handle),
            catalog_id=catalog_id,
            memory_total_bytes=total,
            sm_clock_max_mhz=self._positive(
                "nvmlDeviceGetMaxClockInfo", handle, nvml.NVML_CLOCK_SM
            ),
            memory_clock_max_mhz=memory_clock,
            memory_bandwidth_gbps=round(2 * memory_clock * bus_bits / 8000, 1)
            if memory_clock and bus_bits
            else None,
            ecc_enabled=bool(ecc[0]) if ecc else None,
            pcie_generation_max=self._positive("nvmlDeviceGetMaxPcieLinkGeneration", handle),
            pcie_width_max=self._positive("nvmlDeviceGetMaxPcieLinkWidth", handle),
            compute_capability=f"{capability[0]}.{capability[1]}" if capability else None,
            cores=self._positive("nvmlDeviceGetNumGpuCores", handle),
        )
        return _Device(handle, handle, reading, tuple(notes))

    def _slice(self, whole: _Device, part: Any) -> _Device:
        parent = whole.reading
        name = self._ask("nvmlDeviceGetName", part) or f"{parent.name} MIG"
        total = self._memory(part)[0]
        profile = re.search(r"MIG (\S+)$", name)
        reading = replace(
            parent,
            name=name,
            uuid=self._ask("nvmlDeviceGetUUID", part),
            catalog_id=_match(self.match, name, total)[0],
            mig_profile=profile[1] if profile else None,
            parent_catalog_id=parent.catalog_id,
            memory_total_bytes=total,
            memory_bandwidth_gbps=None,
            cores=None,
        )
        return _Device(part, whole.card, reading, whole.notes)

    def _read_nvlink(self) -> None:
        nvml = self.nvml
        for device in self.devices:
            if device.card is None or device.reading.mig_profile:
                continue
            links = None
            try:
                for link in range(nvml.NVML_NVLINK_MAX_LINKS):
                    state = self._ask("nvmlDeviceGetNvLinkState", device.card, link)
                    if state is None:
                        break
                    links = (links or 0) + bool(state)
                link_kind = nvml.NVML_P2P_CAPS_INDEX_NVLINK
                peers = [
                    other.reading.index
                    for other in self.devices
                    if links and other is not device and other.card is not None
                    if self._ask("nvmlDeviceGetP2PStatus", device.card, other.card, link_kind) == 0
                ]
            except _Lost:  # this GPU or a peer: the next reading says which
                continue
            device.reading = replace(
                device.reading,
                nvlink_active_links=links,
                nvlink_peers=None if links is None else tuple(peers),
            )

    def _memory(self, handle: Any) -> tuple[int | None, int | None, int | None]:
        """Return (total, used, reserved) in bytes."""
        info = self._ask("nvmlDeviceGetMemoryInfo", handle, self.nvml.nvmlMemory_v2)
        reserved = None if info is None else int(info.reserved)
        if info is None:
            info = self._ask("nvmlDeviceGetMemoryInfo", handle)
        if info is None or not info.total:
            return None, None, None
        return int(info.total), int(info.used), reserved

    def _slow(self, device: _Device, now: float) -> dict[str, Any]:
        """Return the fields that are asked again only every `SLOW_PERIOD_S`."""
        card = device.card
        if device.slow_at is None or now - device.slow_at >= SLOW_PERIOD_S:
            limit = self._positive("nvmlDeviceGetEnforcedPowerLimit", card)
            mode = self._ask("nvmlDeviceGetComputeMode", card)
            device.slow = {  # ECC: kind of error (0 corrected, 1 not), counted since start (0)
                "power_limit_w": limit / 1000 if limit and device.handle is card else None,
                "ecc_errors_corrected": self._ask("nvmlDeviceGetTotalEccErrors", card, 0, 0),
                "ecc_errors_uncorrected": self._ask("nvmlDeviceGetTotalEccErrors", card, 1, 0),
                "pcie_generation": self._positive("nvmlDeviceGetCurrPcieLinkGeneration", card),
                "pcie_width": self._positive("nvmlDeviceGetCurrPcieLinkWidth", card),
                "compute_mode": COMPUTE_MODES.get(mode),
            }
            device.slow_at = now
        return device.slow

    def _throttle(self, card: Any) -> tuple[str, ...] | None:
        mask = self._ask("nvmlDeviceGetCurrentClocksEventReasons", card)
        if mask is None:  # its name before driver 535
            mask = self._ask("nvmlDeviceGetCurrentClocksThrottleReasons", card)
        if mask is None:
            return None
        return tuple(name for bit, name in THROTTLE_REASONS.items() if mask & bit)

    def _processes(self, handle: Any) -> tuple[tuple[GpuProcess, ...] | None, bool]:
        """Return (processes, hidden from this user)."""
        memory: dict[int, int | None] = {}
        answered = denied = False
        for kind in ("Compute", "Graphics"):
            for version in ("_v3", "_v2"):
                rows = self._ask(f"nvmlDeviceGet{kind}RunningProcesses{version}", handle)
                denied = denied or self.error == self.nvml.NVML_ERROR_NO_PERMISSION
                if rows is not None:
                    answered = True
                    memory.update((int(row.pid), row.usedGpuMemory) for row in rows)
                    break
        if not answered:
            return None, denied
        return tuple(describe(pid, used) for pid, used in sorted(memory.items())), denied

    def _tick(self, device: _Device, now: float) -> tuple[GpuReading, tuple[Problem, ...]]:
        handle, card, nvml = device.handle, device.card, self.nvml
        still = device.reading
        try:
            if handle is None:
                raise _Lost
            slow = self._slow(device, now)
            total, used, reserved = self._memory(handle)
            use = self._ask("nvmlDeviceGetUtilizationRates", handle)
            power = self._ask("nvmlDeviceGetPowerUsage", card) if handle is card else None
            temperature = self._ask("nvmlDeviceGetTemperature", card, nvml.NVML_TEMPERATURE_GPU)
            if temperature is None:  # the former call is to go with CUDA 14
                temperature = self._ask("nvmlDeviceGetTemperatureV", card, 0)
            processes, denied = self._processes(handle)
            reading = replace(
                still,
                **slow,
                memory_total_bytes=total if total is not None else still.memory_total_bytes,
                memory_used_bytes=used,
                memory_reserved_bytes=reserved,
                utilization_percent=use.gpu if use is not None else None,
                memory_utilization_percent=use.memory if use is not None else None,
                temperature_c=temperature,
                power_w=round(power / 1000, 1) if power else None,
                sm_clock_mhz=self._positive("nvmlDeviceGetClockInfo", card, nvml.NVML_CLOCK_SM),
                memory_clock_mhz=self._positive(
                    "nvmlDeviceGetClockInfo", card, nvml.NVML_CLOCK_MEM
                ),
                throttle_reasons=self._throttle(card),
                processes=processes,
            )
        except _Lost:
            device.handle = None
            return still, (*device.notes, _problem("gpu_lost", still.index, still.name))
        if denied:
            return reading, (
                *device.notes,
                _problem("processes_denied", still.index, still.name),
            )
        return reading, device.notes

    def read(self, now: float) -> tuple[tuple[GpuReading, ...], tuple[Problem, ...]]:
        """Return every GPU's reading and what is wrong; ``now`` is ``time.monotonic()``."""
        if not self.devices:
            return (), (_problem("no_gpu"),)
        pairs = [self._tick(device, now) for device in self.devices]
        return tuple(p[0] for p in pairs), tuple(note for p in pairs for note in p[1])


class Amd:
    """An open amdsmi, for the fields whose unit does not depend on its version."""

    cuda = None

    def __init__(self, match: Matcher | None) -> None:
        try:
            with contextlib.redirect_stdout(io.StringIO()):  # it prints when ROCm is missing
                self.smi: Any = importlib.import_module("amdsmi")
            self.smi.amdsmi_init()
            self.handles = list(self.smi.amdsmi_get_processor_handles())
        except Exception as error:
            raise Unavailable(_problem("amd_error", detail=repr(error))) from None
        self.match = match
        self.driver = self._ask("amdsmi_get_gpu_driver_info", "driver_version", self.handles[:1])

    def _ask(self, function: str, key: str | None, args: list[Any]) -> Any:
        try:
            answer = getattr(self.smi, function)(*args)
            answer = answer if key is None else answer[key]
        except Exception:
            return None
        return None if answer in ("N/A", "", 0xFFFF, 0xFFFFFFFF) else answer

    def read(self, now: float) -> tuple[tuple[GpuReading, ...], tuple[Problem, ...]]:
        """Return every GPU's reading and what is wrong; ``now`` is not used."""
        if not self.handles:
            return (), (_problem("no_gpu"),)
        readings, problems = [], []
        for index, handle in enumerate(self.handles):
            name = self._ask("amdsmi_get_gpu_asic_info", "market_name", [handle]) or "AMD GPU"
            vram = [handle, self.smi.AmdSmiMemoryType.VRAM]
            total = self._ask("amdsmi_get_gpu_memory_total", None, vram)
            catalog_id, code = _match(self.match, name, total)
            if code:
                size = f"{total / 2**30:.1f} GiB" if total else NOT_REPORTED
                problems.append(_problem(code, index, name, size))
            power = [
                self._ask("amdsmi_get_power_info", f"{kind}_socket_power", [handle])
                for kind in ("current", "average")
            ]
            sensor = [
                handle,
                self.smi.AmdSmiTemperatureType.HOTSPOT,
                self.smi.AmdSmiTemperatureMetric.CURRENT,
            ]
            rows = self._ask("amdsmi_get_gpu_process_list", None, [handle])
            readings.append(
                GpuReading(
                    index,
                    name,
                    uuid=self._ask("amdsmi_get_gpu_device_uuid", None, [handle]),
                    catalog_id=catalog_id,
                    memory_total_bytes=total or None,
                    memory_used_bytes=self._ask("amdsmi_get_gpu_memory_usage", None, vram),
                    utilization_percent=self._ask(
                        "amdsmi_get_gpu_activity", "gfx_activity", [handle]
                    ),
                    temperature_c=self._ask("amdsmi_get_temp_metric", None, sensor),
                    power_w=power[0] or power[1] or None,
                    processes=None if rows is None else tuple(_amd_process(row) for row in rows),
                )
            )
        return tuple(readings), tuple(problems)

    def close(self) -> None:
        """Let the driver go."""
        with contextlib.suppress(Exception):
            self.smi.amdsmi_shut_down()


def _amd_process(row: dict[str, Any]) -> GpuProcess:
    return describe(int(row["pid"]), (row.get("memory_usage") or {}).get("vram_mem"))


def _match(match: Matcher | None, name: str, total: int | None) -> tuple[str | None, str | None]:
    """Return (catalog id, code of the problem when there is none)."""
    if match is None:
        return None, None
    card = match(name, None if total is None else total >> 20)
    if card is not None:
        return card.id, None
    return None, "modified_card" if total and match(name, None) is not None else "unknown_card"
