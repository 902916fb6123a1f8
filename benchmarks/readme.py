"""Fill the README's tables between their markers from the commands that make them.

Run: python benchmarks/readme.py
"""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

from configurator.performance.coefficients import left_out
from configurator.validate import compare, read_cases, table

ROOT = Path(__file__).parents[1]
NAMES = {
    "memory.weights_gib": "weights per GPU",
    "memory.kv_cache_gib": "cache of the scenario",
    "memory.peak_allocated_gib": "live tensors at the peak",
    "memory.reserved_gib": "reserved by the framework",
    "memory.total_gib": "device memory",
    "kv.capacity_tokens": "tokens the cache holds",
    "performance.tpot_s": "time per output token",
    "performance.ttft_s": "time to first token",
    "performance.output_tokens_per_s": "output tokens/s",
    "performance.decode_tokens_per_s": "decode tokens/s",
    "performance.prefill_tokens_per_s": "prefill tokens/s",
    "performance.train_tokens_per_s": "training tokens/s",
}


def percent(value):
    """Return a share as percent, a dash where there is none."""
    return "–" if value is None else f"{100 * value:.1f} %"


def validation():
    """Return the accuracy table as Markdown."""
    found, _ = compare(read_cases(ROOT / "tests" / "truth"))
    lines = [
        "`configurator validate --truth tests/truth`, cases measured on real hardware:",
        "",
        "| quantity | engine | task | cases | median error | 9 in 10 within "
        "| inside our 90 % interval | rule of thumb |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    few = []
    for row in table(found):
        if row.n < 3:
            few.append(f"{NAMES[row.quantity]}, {row.engine}, {row.task}: {percent(row.worst)}")
            continue
        lines.append(
            f"| {NAMES[row.quantity]} | {row.engine} | {row.task} | {row.n} "
            f"| {percent(row.median)} | {percent(row.p90)} | {percent(row.coverage)} "
            f"| {percent(row.rule_median)} |"
        )
    lines += ["", f"Fewer than three cases, the worst of each: {'; '.join(few)}."]
    return "\n".join(lines)


def unseen():
    """Return how far off speed is on models and cards left out of the fit, as Markdown."""
    lines = [
        "Speed rests on coefficients fitted to such cases, so the table above flatters it. The "
        "same with a case's own model, or its card, left out of the fit "
        "(`configurator calibrate`; median error of all public cases):",
        "",
        "| speed | engine | cases | fitted | model left out | card left out |",
        "| --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for row in left_out():
        shares = " | ".join(percent(share) for share in (row.fitted, row.model, row.card))
        lines.append(f"| {NAMES[row.quantity]} | {row.engine} | {row.n} | {shares} |")
    return "\n".join(lines)


def benchmarks():
    """Return what the timing scripts print, as a code block."""
    out = []
    scripts = ("estimate_speed.py", "recommend_speed.py", "peers/search_speed.py", "page_speed.py")
    for script in scripts:
        done = subprocess.run(
            [sys.executable, str(ROOT / "benchmarks" / script)],
            capture_output=True, text=True, check=True, cwd=ROOT,
        )  # fmt: skip
        out.append(f"$ python benchmarks/{script}\n{done.stdout.strip()}")
    return "On two cores:\n\n```\n" + "\n\n".join(out) + "\n```"


def fill(text, name, content):
    """Return the text with the part between a name's markers replaced."""
    pattern = rf"(<!-- {name}:start -->\n).*?(<!-- {name}:end -->)"
    return re.sub(pattern, lambda m: f"{m[1]}{content}\n{m[2]}", text, flags=re.DOTALL)


def main():
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    text = fill(text, "validation", validation())
    text = fill(text, "unseen", unseen())
    text = fill(text, "benchmarks", benchmarks())
    path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    main()
