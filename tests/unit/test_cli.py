"""The command line: one object a line, errors in place, exit statuses."""

import io
import json
import subprocess
import sys
from pathlib import Path

import pytest

from configurator import cli
from configurator.catalog import catalog_dir

SEVEN = {
    "version": 1, "model": "deepseek-ai/DeepSeek-R1-Distill-Qwen-7B", "task": "inference",
    "precision": "bf16", "engine": "vllm",
    "inference": {"concurrency": 1, "input_tokens": 7168, "output_tokens": 1024},
    "hardware": {"gpu": "rtx-4090", "gpu_count": 1},
}  # fmt: skip


def run(monkeypatch, capsys, lines, *arguments):
    data = b"".join((line if isinstance(line, bytes) else line.encode()) + b"\n" for line in lines)
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))
    status = cli.main([*arguments, "--jsonl", "-"])
    return status, [json.loads(line) for line in capsys.readouterr().out.splitlines()]


def test_the_7b_on_a_4090(monkeypatch, capsys):
    status, (answer,) = run(monkeypatch, capsys, [json.dumps(SEVEN)], "estimate")
    assert status == 0
    assert 14.18 <= answer["memory"]["weights_gib"] <= 14.20
    assert answer["memory"]["kv_cache_gib"] == pytest.approx(0.4375)


@pytest.mark.parametrize(("gpu", "fits"), [("h200-sxm", True), ("h100-sxm", False)])
def test_deepseek_r1_on_eight_cards(monkeypatch, capsys, gpu, fits):
    scenario = {
        "version": 1, "model": "deepseek-ai/DeepSeek-R1", "precision": "fp8",
        "kv_cache_precision": "bf16",
        "inference": {"concurrency": 32, "input_tokens": 3072, "output_tokens": 1024},
        "hardware": {"gpu": gpu, "gpu_count": 8, "tensor_parallel": 8},
    }  # fmt: skip
    _, (answer,) = run(monkeypatch, capsys, [json.dumps(scenario)], "estimate")
    assert answer["memory"]["kv_cache_gib"] == pytest.approx(8.578, abs=0.001)
    assert 80 <= answer["memory"]["weights_gib"] <= 86
    assert answer["memory"]["fits"] is fits


def test_bad_lines_stand_in_their_place(monkeypatch, capsys):
    lines = [
        "not json", "[]", "7", json.dumps({**SEVEN, "model": "nosuch/model"}),
        json.dumps({**SEVEN, "hardware": {"gpu": "rtx-9999"}}), '{"model": NaN}',
        json.dumps({**SEVEN, "hardware": None}), json.dumps(SEVEN),
        '{"model": {"config": [1, 2]}}', "[" * 5000,
    ]  # fmt: skip
    status, answers = run(monkeypatch, capsys, lines, "estimate")
    assert status == 1
    assert len(answers) == len(lines)
    assert ["error" in a for a in answers] == [True] * 7 + [False] + [True] * 2
    assert all(a["error"]["field"] and a["error"]["message"] for a in answers if "error" in a)


def test_a_line_that_is_not_utf_8_is_an_error_in_its_place(monkeypatch, capsys):
    good = json.dumps(SEVEN)
    lines = [
        b"\xef\xbb\xbf" + good.encode(), b'{"model": "\xff"}', b'{"model": "\\ud800"}', good,
    ]  # fmt: skip
    status, answers = run(monkeypatch, capsys, lines, "estimate")
    assert status == 1
    assert [sorted(a) == ["error"] for a in answers] == [False, True, True, False]
    assert "UTF-8" in answers[1]["error"]["message"]


def test_recommend_takes_a_bare_scenario(monkeypatch, capsys):
    scenario = {key: value for key, value in SEVEN.items() if key != "hardware"}
    status, (answer,) = run(monkeypatch, capsys, [json.dumps(scenario)], "recommend")
    assert status == 0
    assert answer["tiers"]["individual"]["plans"][0]["rank"] == 1


def test_missing_file_is_said_plainly(capsys):
    assert cli.main(["estimate", "--jsonl", "/no/such/file"]) == 2
    assert json.loads(capsys.readouterr().err)["error"]["field"] == "--jsonl"


def test_check_finds_no_error(capsys):
    assert cli.main(["check", "--quiet"]) == 0
    assert "0 errors" in capsys.readouterr().out


def test_import_reads_a_config(capsys):
    config = catalog_dir() / "models" / "configs" / "Qwen__Qwen3-8B.json"
    assert cli.main(["import", str(config)]) == 0
    assert json.loads(capsys.readouterr().out)["model"]["config"]["model_type"] == "qwen3"


def test_page_script_is_found():
    assert cli.page_script().name == "streamlit_app.py"


def test_module_runs_as_a_program():
    done = subprocess.run(
        [sys.executable, "-m", "configurator.cli", "estimate", "--jsonl", "-"],
        input=json.dumps(SEVEN), capture_output=True, text=True, check=True,
        cwd=Path(__file__).parents[2],
    )  # fmt: skip
    assert json.loads(done.stdout)["memory"]["fits"] is True


def test_levers_of_the_load_change_the_speed(monkeypatch, capsys):
    load = {"concurrency": 8, "input_tokens": 4000, "output_tokens": 500}
    levers = [{}, {"prefix_cache_share": 0.8}, {"speculative_tokens": 2, "acceptance_rate": 0.8},
              {"speculative_tokens": 2, "acceptance_rate": 0.0}]  # fmt: skip
    lines = [
        json.dumps({**SEVEN, "hardware": {"gpu": "h100-sxm"}, "inference": {**load, **lever}})
        for lever in levers
    ]
    status, (plain, cached, drafted, refused) = run(monkeypatch, capsys, lines, "estimate")
    assert status == 0
    speed = "performance"
    assert cached[speed]["ttft_s"] < plain[speed]["ttft_s"]
    assert drafted[speed]["tpot_s"] < plain[speed]["tpot_s"] < refused[speed]["tpot_s"]
