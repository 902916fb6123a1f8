"""The machine page, without a driver and with GPUs made up by patching one method."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from streamlit.testing.v1 import AppTest

from configurator import link, numbers
from configurator.app import machine, machine_view, viewers
from configurator.app.machine_fit import instead, instead_text, place, to_stop, verdict
from configurator.app.machine_jobs import (
    Job,
    assumed,
    compare,
    difference,
    jobs,
    known_model,
    metrics_text,
)
from configurator.app.machine_view import (
    below,
    here,
    holders,
    problem_text,
    tile,
    with_system_memory,
)
from configurator.estimate import architecture_of, estimate
from configurator.gpu_readers import MESSAGES, GpuReading, Problem
from configurator.live import Probe, Snapshot
from configurator.processes import GpuProcess, propose_scenario
from configurator.scenario import CustomGpu, Hardware, Scenario, parse_scenario
from configurator.words import messages, say
from tests.app.conftest import SCRIPT, healthy, said, start

GIB = 2**30
CARD = GpuReading(
    index=0, name="NVIDIA GeForce RTX 4090", catalog_id="rtx-4090",
    memory_total_bytes=24564 << 20, memory_used_bytes=0, memory_reserved_bytes=0,
    utilization_percent=37, temperature_c=51, power_w=120.0, power_limit_w=450.0, processes=(),
)  # fmt: skip
SILENT = GpuReading(index=1, name="<b>[odd](card)</b>")
H100 = replace(
    CARD, name="NVIDIA H100 80GB HBM3", catalog_id="h100-sxm", memory_total_bytes=81559 << 20
)
LINK = {
    "v": "1", "m": "Qwen/Qwen3-8B", "t": "inference", "w": "bf16", "kv": "auto", "e": "vllm",
    "n": "10", "in": "2048", "out": "512",
}  # fmt: skip


def asked(**changes: str) -> Scenario:
    """Return a link's question."""
    return link.decode({**LINK, **changes})[0]


def busy(gpu: GpuReading, *held: tuple[int, float, str]) -> GpuReading:
    """Return a card on which processes hold memory: pid, GiB, owner."""
    processes = tuple(
        GpuProcess(pid, round(gib * GIB), owner, ("python", "job.py", f"[{pid}](https://x)"))
        for pid, gib, owner in held
    )
    used = round(sum(gib for _, gib, _ in held) * GIB)
    return replace(gpu, memory_used_bytes=used, processes=processes)


def snapshot(*gpus: GpuReading, problems: tuple[Problem, ...] = (), **more: Any) -> Snapshot:
    return Snapshot(datetime.now().astimezone(), gpus, "580.1", "13.0", problems, **more)


@contextmanager
def machine_of(*gpus: GpuReading, **more: Any) -> Iterator[Any]:
    with patch.object(Probe, "snapshot", return_value=snapshot(*gpus, **more)) as read:
        yield read


def opened(language: str, query: Mapping[str, str] | None = None) -> AppTest:
    """Open a link on the machine page in a new session, or turn to the page without one."""
    at = start(language)
    at.query_params.clear()  # as a browser does when the page is turned
    for name, value in (query or {}).items():
        at.query_params[name] = value
    at.switch_page(str(SCRIPT.parent / "configurator/app/pages/machine.py"))
    return healthy(at.run())


# --------------------------------------------------------------------------- the page


def test_off_by_default(language: str) -> None:
    with patch.object(Probe, "snapshot") as read:
        at = opened(language)
    read.assert_not_called()
    assert at.toggle(key="watch").value is False


def test_a_check_is_one_reading(language: str) -> None:
    with machine_of(CARD) as read:
        at = opened(language)
        at.button(key="check").click()
        healthy(at.run())
        healthy(at.run())
    assert read.call_count == 1
    assert at.success or at.warning


def test_a_link_says_at_once_whether_it_fits(language: str) -> None:
    with machine_of(CARD) as read:
        at = opened(language, {**LINK, "g": "rtx-4090", "c": "1"})
        assert read.call_count == 1
        assert at.toggle(key="watch").value is False
        assert at.success
        assert "Qwen3-8B" in said(at)
        healthy(at.run())
        assert read.call_count == 1
    with machine_of(CARD):
        at = opened(language, {**LINK, "m": "Qwen/Qwen3-32B", "g": "h100-sxm", "c": "1"})
    assert at.error
    text = said(at)
    assert "Qwen3-32B" in text
    assert messages(language)["app.machine.upgrade_title"] in text
    assert "H100" in text


def test_the_days_of_a_run_are_said_of_this_machine_too(language: str) -> None:
    run = {**LINK, "t": "fine_tuning", "how": "qlora", "e": "transformers", "ckpt": "1", "tok": "1"}
    for days, key in (("1", "too_late"), ("3,000", "in_time")):
        with machine_of(CARD):
            at = opened(language, {**run, "days": days.replace(",", "")})
        says = say(f"app.limits.{key}", language, days="|", most=days).split("|")[0]
        assert says in said(at)


def test_what_has_to_stop_is_named(language: str) -> None:
    taken = busy(CARD, (7, 1.0, "bob"), (8, 14.0, "alice"))
    with machine_of(taken):
        at = opened(language, {**LINK, "g": "rtx-4090", "c": "1"})
    assert at.error
    text = said(at)
    assert "PID 8" in text
    assert "alice" in text
    assert "PID 7" not in text
    # A command line is shown as text only.
    assert any("[8](https://x)" in code.value for code in at.code)
    assert not any("https://x" in str(part.value) for part in (*at.markdown, *at.caption))


def test_no_driver_is_said_plainly(language: str) -> None:
    missing = (Problem("nvml_missing", MESSAGES["nvml_missing"]),)
    sizes = {"system_total_bytes": 64 * GIB, "system_available_bytes": 32 * GIB}
    with machine_of(problems=missing, **sizes):
        at = opened(language, LINK)
        assert at.warning
        assert "NVIDIA" in said(at)
        assert "32.0" in at.toggle(key="use_system").label
        assert not at.success
        at.toggle(key="use_system").set_value(True)
        healthy(at.run())
    assert at.success
    assert messages(language)["app.machine.system_memory"] in at.success[0].value


def test_cards_are_shown(language: str) -> None:
    with machine_of(CARD, SILENT):
        at = opened(language)
        at.toggle(key="watch").set_value(True)
        healthy(at.run())
    (tiles,) = (part.proto.body for part in at.get("html") if '"gpu-tile"' in part.proto.body)
    assert tiles.count('class="gpu-tile"') == 2
    assert "37 %" in tiles
    assert messages(language)["app.not_reported"] in tiles
    (chart,) = at.get("plotly_chart")
    assert chart.proto.spec.count('"bdata"') == 2 * 2 * 2  # two panels, two cards, x and y
    assert at.success or at.warning


def test_a_recording_goes_on_without_the_tab(tmp_path: Path) -> None:
    with machine_of(CARD), patch.object(machine, "RECORDINGS", tmp_path):
        at = opened("en")
        at.toggle(key="watch").set_value(True)
        healthy(at.run())
        at.button(key="record_start").click()
        healthy(at.run())
        other = opened("en")
        other.toggle(key="watch").set_value(True)
        healthy(other.run())
        machine._start()  # a tab that was drawn before the first began
        assert len(list(tmp_path.glob("*.csv"))) == 1
        other.button(key="record_stop").click()
        healthy(other.run())
    lines = next(tmp_path.glob("*.csv")).read_text().splitlines()
    assert lines[0].startswith("timestamp,name,utilization.gpu,memory.used,temperature.gpu")
    assert len(lines) >= 2


def test_others_are_told_where_it_is(language: str) -> None:
    with machine_of(CARD) as read, patch.object(viewers, "is_loopback", return_value=False):
        at = opened(language, LINK)
    read.assert_not_called()
    assert "CONFIGURATOR_LIVE_VIEWERS" in at.info[0].value


@pytest.mark.parametrize(("header", "audience"), [("X-Forwarded-For", None), (None, "none")])
def test_a_proxy_on_this_machine_does_not_make_everybody_sit_here(
    header: str | None, audience: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    context = SimpleNamespace(ip_address="127.0.0.1", headers={header: "10.0.0.4"})
    monkeypatch.setattr(viewers.st, "context", context)
    if audience:
        monkeypatch.setenv(viewers.AUDIENCE_VARIABLE, audience)
    assert not viewers.sits_here()


def test_loopback() -> None:
    assert viewers.is_loopback(None)
    assert viewers.is_loopback("127.0.0.1")
    assert viewers.is_loopback("::1")
    assert viewers.is_loopback("::ffff:127.0.0.1")
    assert not viewers.is_loopback("somewhere")
    assert not viewers.is_loopback("10.0.0.4")


# --------------------------------------------------------------------------- words


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_problem_has_words(language: str) -> None:
    seen = snapshot(CARD)
    for code, message in MESSAGES.items():
        text = problem_text(Problem(code, message, 0), seen, language)
        assert text
        if language == "zh":
            assert any("\u4e00" <= c <= "\u9fff" for c in text), code


def test_silence_is_not_zero() -> None:
    said_ = tile(SILENT, "en")
    assert said_.share is None
    assert all("not reported" in value for _, value in said_.facts)


# --------------------------------------------------------------------------- place


def test_fits_beside_what_runs() -> None:
    placing = place(asked(), [busy(CARD, (1, 1.5, "a"))])
    assert placing is not None
    assert placing.state == "now"
    # vLLM takes 92 % of a card by itself: more than is free beside 1.5 GiB, so it must be told.
    assert placing.share is not None
    assert placing.answer.memory.total_gib <= (placing.free_gib or 0)
    text = verdict(placing, asked(), "en")
    assert text.state == "good"
    assert f"--gpu-memory-utilization {placing.share:.2f}" in text.text
    assert place(asked(), [CARD]).share is None  # type: ignore[union-attr]


def test_needs_others_to_stop() -> None:
    card = busy(CARD, (1, 0.5, "a"), (2, 9.0, "b"), (3, 1.0, "c"))
    placing = place(asked(), [card])
    assert placing is not None
    assert placing.state == "stop"
    found = to_stop(placing)
    assert [h.pid for h in found.processes] == [2]
    assert found.short_gib == 0


def test_hidden_holders_are_said() -> None:
    card = replace(CARD, memory_used_bytes=20 * GIB, processes=None)
    placing = place(asked(), [card])
    assert placing is not None
    assert placing.state == "stop"
    found = to_stop(placing)
    assert found.processes == ()
    assert found.short_gib == pytest.approx(placing.need_gib - (placing.free_gib or 0), abs=0.01)


def test_the_freest_cards_are_taken() -> None:
    cards = [busy(replace(H100, index=i), (i, 70.0, "x")) for i in range(3)]
    cards += [replace(H100, index=i) for i in range(3, 8)]
    plan = asked(m="meta-llama/Llama-3.1-70B-Instruct", g="h100-sxm", c="4", tp="4")
    placing = place(plan, cards)
    assert placing is not None
    assert placing.state == "now"
    assert {g.index for g in placing.cards} <= {3, 4, 5, 6, 7}
    assert placing.answer.split.tensor == 4  # the plan's own split
    # All eight would be more than are free.
    all_ = place(plan.model_copy(update={"hardware": Hardware(gpu="h100-sxm", gpu_count=8)}), cards)
    assert all_ is not None
    assert all_.state == "stop"
    assert len(to_stop(all_).processes) == 3
    # A plan for another card takes as few of these as do it.
    other = place(asked(g="rtx-4090", c="8"), cards)
    assert other is not None
    assert len(other.cards) == 1


def test_unreported_memory_is_not_free_memory() -> None:
    placing = place(asked(), [replace(CARD, memory_used_bytes=None)])
    assert placing is not None
    assert placing.state == "unknown"
    assert "not reported" in verdict(placing, asked(), "en").text
    assert place(asked(), [SILENT]) is None


def test_slices_are_planned_alone() -> None:
    part = GpuReading(
        index=0, name="NVIDIA H100 80GB HBM3 MIG 1g.10gb", mig_profile="1g.10gb",
        parent_catalog_id="h100-sxm", memory_total_bytes=9984 << 20, memory_used_bytes=GIB,
    )  # fmt: skip
    card = here(part)
    assert isinstance(card, CustomGpu)
    assert 200 < card.bandwidth_gbps < 700
    placing = place(asked(), [part, part])
    assert placing is not None
    assert len(placing.cards) == 1
    assert placing.state == "bad"


def test_a_lost_card_is_not_planned_with() -> None:
    lost = (Problem("gpu_lost", "", 0),)
    seen = snapshot(CARD, replace(CARD, index=1), problems=lost)
    placing = place(asked(g="rtx-4090", c="2"), machine_view.answering(seen))
    assert placing is not None
    assert [gpu.index for gpu in placing.cards] == [1]


def test_a_silent_card_does_not_share_the_machines_memory() -> None:
    quiet = replace(CARD, memory_total_bytes=None, memory_used_bytes=None)
    taken_for_shared = (Problem("unified_memory", "", 0),)
    seen = snapshot(
        quiet,
        problems=taken_for_shared,
        system_total_bytes=64 * GIB,
        system_available_bytes=60 * GIB,
    )
    assert machine_view.shares_memory(seen) == ()


def test_unified_memory_is_an_explicit_choice() -> None:
    gb10 = GpuReading(index=0, name="NVIDIA GB10", catalog_id="gb10-dgx-spark")
    shared = (Problem("unified_memory", "", 0),)
    seen = snapshot(
        gb10, problems=shared, system_total_bytes=119 * GIB, system_available_bytes=100 * GIB
    )
    placing = place(asked(), [gb10])
    assert placing is not None
    assert placing.free_gib is None
    placing = place(asked(), with_system_memory(seen))
    assert placing is not None
    assert placing.free_gib == pytest.approx(100)


def test_what_holds_the_cards_is_text(language: str) -> None:
    holder = GpuProcess(7, 3 * GIB, "<i>eve</i>", ("python", "<script>x</script>", "a & b"))
    seen = snapshot(replace(CARD, memory_used_bytes=3 * GIB, processes=(holder,)))
    html = below(seen, frozenset(), language)
    for unsafe in ("<script>", "<i>", "a & b"):
        assert unsafe not in html
    assert "&lt;script&gt;x&lt;/script&gt;" in html
    assert "&lt;i&gt;eve&lt;/i&gt;" in html
    assert "3.00 GiB" in html
    assert "script" not in below(seen, {7}, language)
    assert "580.1" in below(seen, {7}, language)


# --------------------------------------------------------------------------- instead


def test_what_fits_instead_does_fit() -> None:
    for card, plan in (
        (busy(CARD, (1, 10.0, "a")), asked()),
        (CARD, asked(m="Qwen/Qwen3-32B")),
        (CARD, asked(n="500")),
        (CARD, asked(m="meta-llama/Llama-3.1-70B-Instruct")),
    ):
        placing = place(plan, [card])
        assert placing is not None
        assert placing.state in ("stop", "bad")
        found = instead(placing)
        assert found
        for change in found:
            after = place(change.scenario, [card])
            assert after is not None
            assert after.state == "now", change.codes


def test_more_of_the_same_cards_come_first() -> None:
    cards = [replace(CARD, index=i) for i in range(4)]
    placing = place(asked(m="Qwen/Qwen3-14B", g="rtx-4090", c="1"), cards)
    assert placing is not None
    assert instead(placing)[0].codes == ("more_cards",)


def test_main_memory_that_is_not_there_is_not_offered(language: str) -> None:
    placing = place(asked(m="deepseek-ai/DeepSeek-V3"), [CARD])
    assert placing is not None
    offered = [change for change in instead(placing) if change.codes == ("main_memory",)]
    assert len(offered) == 1
    host = offered[0].host_gib
    assert host > 1000
    assert numbers.gib(host, language) in instead_text(offered[0], language)
    assert not [c for c in instead(placing, 128.0) if c.codes == ("main_memory",)]
    assert [c for c in instead(placing, host + 1) if c.codes == ("main_memory",)]


@pytest.mark.parametrize("engine", ["vllm", "transformers", "llama_cpp"])
def test_smaller_models_run_beside_what_holds_the_cards(engine: str) -> None:
    """Few enough cards, split so and of so many bits that each fits into what is free."""
    cards = [busy(replace(CARD, index=i), (i + 1, 14.0, "a")) for i in range(2)]
    placing = place(asked(m="deepseek-ai/DeepSeek-R1", e=engine), cards)
    assert placing is not None
    found = instead(placing, 8.0)
    assert [change.codes for change in found] == [("model",)] * 3
    sizes = [architecture_of(change.scenario).parameters for change in found]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[0] > 8e9
    for change in found:
        after = place(change.scenario, cards)
        assert after is not None
        assert after.state == "now"


def test_a_card_without_every_figure_is_answered_all_the_same() -> None:
    """No power of the L2 is known: which other models run there is not, but the plan is placed."""
    card = replace(CARD, name="NVIDIA L2", catalog_id="l2")
    placing = place(asked(m="deepseek-ai/DeepSeek-R1"), [card])
    assert placing is not None
    assert placing.state == "bad"
    assert instead(placing, 8.0) == []


# --------------------------------------------------------------------------- a running job


def running(command: str, gib: float | None, gpu: GpuReading = H100, port: int = 8000) -> Job:
    """Return the one job of a card on which a command runs."""
    argv = tuple(command.split())
    held = None if gib is None else round(gib * GIB)
    process = GpuProcess(42, held, "ann", argv, propose_scenario(list(argv)), port)
    used = round((gib or 0) * GIB) + GIB // 4
    (job,) = jobs([replace(gpu, memory_used_bytes=used, processes=(process,))])
    return job


VLLM = "vllm serve Qwen/Qwen3-8B --max-model-len 8192"


def test_predicted_beside_actual() -> None:
    predicted = running(VLLM, 1.0).answer.memory.total_gib  # type: ignore[union-attr]
    for held, words in (
        (predicted * 1.001, "within"),
        (predicted * 0.6, "share"),
        (2.0, "still loading"),
    ):
        job = running(VLLM, held)
        assert words in difference(job, "en")
        found = compare(job, "en")
        assert found is not None
        parts = sum(part.gib for part in found.parts)
        assert parts == pytest.approx(predicted, rel=0.02)
        assert compare(job, "zh") is not None
    stated = running(f"{VLLM} --gpu-memory-utilization 0.5", predicted)
    assert "version" in difference(stated, "en")


def test_workers_of_one_server_are_one_job() -> None:
    argv = tuple(f"{VLLM} --tensor-parallel-size 2".split())
    stated = propose_scenario(list(argv))
    cards = [
        replace(
            H100, index=i, memory_used_bytes=70 * GIB,
            processes=(GpuProcess(50 + i, 69 * GIB, "ann", argv, stated, 8000),),
        )
        for i in range(2)
    ]  # fmt: skip
    (job,) = jobs(cards)
    assert job.pids == (50, 51)
    assert job.answer is not None
    assert job.answer.split.tensor == 2
    assert job.actual_gib == pytest.approx(69)
    assert [h.gib for h in holders(cards)] == [69, 69]


def test_a_job_that_cannot_be_predicted_says_why() -> None:
    assert running("vllm serve /models/secret-llm", 3.0).problem == "no_model"
    job = running(VLLM, None)
    assert job.actual_gib is None
    assert compare(job, "en") is None
    assert running(VLLM, 3.0, SILENT).problem == "no_card"


@pytest.mark.parametrize(
    ("name", "model"),
    [
        ("Qwen/Qwen3-8B", "Qwen/Qwen3-8B"),
        ("/data/models/Qwen3-8B/", "Qwen/Qwen3-8B"),
        ("/root/.cache/huggingface/hub/models--Qwen--Qwen3-8B/snapshots/abc", "Qwen/Qwen3-8B"),
        ("own-model", None),
        (None, None),
    ],
)
def test_models_by_path(name: str | None, model: str | None) -> None:
    assert known_model(name) == model


def test_a_training_job() -> None:
    command = (
        "torchrun --nproc-per-node 1 train.py --model_name_or_path Qwen/Qwen3-0.6B "
        "--per_device_train_batch_size 1 --bf16"
    )
    job = running(command, 40.0)
    assert job.answer is not None
    assert "sequences" in difference(job, "en")
    assert "sequence_length" in assumed(job)


def test_metrics_are_rates_after_two_readings() -> None:
    first = {
        "requests_running": 3.0, "requests_waiting": 1.0, "kv_cache_usage": 0.42,
        "prompt_tokens_total": 1000.0, "generation_tokens_total": 100.0,
    }  # fmt: skip
    later = {**first, "prompt_tokens_total": 3000.0, "generation_tokens_total": 500.0}
    assert "42 %" in metrics_text(first, None, 0.0, "en")
    assert "tokens/s" not in metrics_text(first, None, 0.0, "en")
    assert "200 tokens/s written" in metrics_text(later, first, 2.0, "en")
    assert "tokens/s" not in metrics_text(first, later, 2.0, "en")  # the server began anew


def test_the_page_shows_a_job(language: str) -> None:
    argv = tuple(VLLM.split())
    process = GpuProcess(42, 40 * GIB, "ann", argv, propose_scenario(list(argv)), 8000)
    card = replace(H100, memory_used_bytes=41 * GIB, processes=(process,))
    figures = {"requests_running": 3.0, "kv_cache_usage": 0.5}
    with machine_of(card), patch.object(machine, "read_vllm_metrics", return_value=figures):
        at = opened(language, LINK)
    text = said(at)
    assert numbers.percent(0.5, language) in text
    assert "vllm serve" in text
    assert say("app.machine.predicted", language) in text


def test_stated_scenarios_are_estimates() -> None:
    """What a command line leaves open is filled as a link's would be."""
    job = running(VLLM, 3.0)
    assert job.answer is not None
    full = parse_scenario(job.answer.scenario.model_dump(mode="json"))
    assert estimate(full).memory == job.answer.memory
