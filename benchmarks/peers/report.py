"""Errors of a peer and of ourselves on the same cases, as rows, text and Markdown."""

from __future__ import annotations

import datetime
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from registry import NOT_RUN, Peer

import configurator

NAMES = {
    "memory.weights_gib": "Weights per GPU",
    "kv.capacity_tokens": "KV capacity in tokens",
    "memory.kv_cache_gib": "KV cache bytes of the scenario",
    "memory.peak_allocated_gib": "Tensor peak",
    "memory.reserved_gib": "Reserved by the allocator",
    "memory.total_gib": "Device memory",
    "performance.tpot_s": "Time per output token",
    "performance.ttft_s": "Time to first token",
    "performance.output_tokens_per_s": "Output tokens/s",
    "performance.decode_tokens_per_s": "Decode tokens/s of one stream",
}


@dataclass(frozen=True)
class Row:
    """One peer on one quantity: errors are shares of the measured value.

    Attributes:
        quantity, task, engine: Which cases.
        peer: Whose row it is.
        asked, answered, refused: Cases.
        median, p90: Of the peer's absolute error where it answered.
        our_median, our_p90: Ours on the same cases.
        given: The peer was handed the figure (a checkpoint's size).
    """

    quantity: str
    task: str
    engine: str
    peer: str
    asked: int
    answered: int
    refused: int
    median: float | None
    p90: float | None
    our_median: float | None
    our_p90: float | None
    given: bool


def _task(scenario: Mapping[str, Any]) -> str:
    if scenario["task"] == "inference":
        return "inference"
    return str(scenario["training"]["method"])


def _quantile(errors: Sequence[float], share: float) -> float | None:
    return float(np.quantile(errors, share)) if errors else None


def _short(value: float | None) -> float | None:
    return None if value is None else float(f"{value:.6g}")


def compare(
    peer: Peer, questions: Sequence[Mapping[str, Any]], cases: Mapping[str, Mapping[str, Any]],
    theirs: Mapping[str, Any], own: Mapping[str, Mapping[str, float]],
    seconds: Mapping[str, float],
) -> dict[str, Any]:  # fmt: skip
    """Return the peer's rows, times, reasons for refusing and every figure it gave."""
    answers = theirs["answers"]
    groups: dict[tuple[str, str, str], list[tuple[float | None, float | None]]] = {}
    figures = []
    for line in questions:
        scenario, measured = line["scenario"], cases[line["id"]]["measured"]
        answer = answers.get(line["id"], {"refused": "no answer"})
        for quantity in line["hints"]["asked"]:
            value, ours = answer.get(quantity), own.get(line["id"], {}).get(quantity)
            key = (quantity, _task(scenario), scenario["engine"])
            error = None if value is None else abs(value / measured[quantity] - 1)
            ours_error = None if ours is None else abs(ours / measured[quantity] - 1)
            groups.setdefault(key, []).append((error, ours_error))
            if value is not None:
                figures.append({
                    "case": line["id"], "quantity": quantity,
                    "measured": _short(measured[quantity]), "theirs": _short(value),
                    "ours": _short(ours),
                })  # fmt: skip
    rows = []
    for (quantity, task, engine), pairs in groups.items():
        both = [(a, b) for a, b in pairs if a is not None and b is not None]
        a, b = [x for x, _ in both], [x for _, x in both]
        rows.append(Row(
            quantity, task, engine, peer.name, len(pairs), len(both), len(pairs) - len(both),
            _quantile(a, 0.5), _quantile(a, 0.9), _quantile(b, 0.5), _quantile(b, 0.9),
            quantity in peer.given,
        ))  # fmt: skip
    reasons = Counter(a["refused"][:110] for a in answers.values() if "refused" in a)
    taken = [a["seconds"] for a in answers.values() if "refused" not in a]
    same = [seconds[i] for i, a in answers.items() if "refused" not in a and i in seconds]
    return {
        "name": peer.name,
        "version": peer.version,
        "licence": peer.licence,
        "asked": peer.asked,
        "questions": len(questions),
        "seconds_a_question": float(np.mean(taken)) if taken else None,
        "seconds_median": float(np.median(taken)) if taken else None,
        "our_seconds_a_question": float(np.mean(same)) if same else None,
        "wall_s": theirs["wall_s"],
        "reasons": dict(reasons.most_common(8)),
        "rows": [asdict(r) for r in rows],
        "figures": figures,
    }


def document(results: Sequence[Mapping[str, Any]], machine: str) -> dict[str, Any]:
    """Return everything as plain JSON values."""
    return {
        "date": datetime.date.today().isoformat(),
        "machine": machine,
        "configurator": configurator.__version__,
        "peers": list(results),
    }


def _percent(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{100 * value:.1f} %" if value < 9.995 else f"{100 * value:,.0f} %"


def _time(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:.2f} s" if value >= 0.1 else f"{1e3 * value:.2g} ms"


def _tables(found: Mapping[str, Any]) -> list[tuple[str, list[tuple[str, ...]]]]:
    by_key: dict[tuple[str, str, str], list[tuple[Mapping[str, Any], Mapping[str, Any]]]] = {}
    for peer in found["peers"]:
        for row in peer["rows"]:
            key = (row["quantity"], row["task"], row["engine"])
            by_key.setdefault(key, []).append((peer, row))
    out = []
    order = list(NAMES)
    for key in sorted(by_key, key=lambda k: (order.index(k[0]), k[1], k[2])):
        lines = [
            (
                f"{peer['name']}{' †' if row['given'] else ''}", str(row["answered"]),
                str(row["refused"]), _percent(row["median"]), _percent(row["p90"]),
                _percent(row["our_median"]), _percent(row["our_p90"]),
            )
            for peer, row in by_key[key]
            if row["answered"]
        ]  # fmt: skip
        if lines:
            out.append((f"{NAMES[key[0]]} · {key[1]} · {key[2]}", lines))
    return out


HEAD = ("tool", "answered", "refused", "median", "p90", "ours, median", "ours, p90")
TIMES = (
    "tool", "version", "licence", "questions", "refused", "mean time", "median time", "ours, mean",
)  # fmt: skip


def _times(found: Mapping[str, Any]) -> list[tuple[str, ...]]:
    return [
        (
            p["name"], p["version"], p["licence"], str(p["questions"]),
            str(p["questions"] - len({f["case"] for f in p["figures"]})),
            _time(p["seconds_a_question"]), _time(p["seconds_median"]),
            _time(p["our_seconds_a_question"]),
        )
        for p in found["peers"]
    ]  # fmt: skip


def text(found: Mapping[str, Any]) -> str:
    """Return the tables as aligned text."""
    out = []
    for title, lines in [*_tables(found), ("Time", _times(found))]:
        head = TIMES if title == "Time" else HEAD
        table = [head, *lines]
        widths = [max(len(line[i]) for line in table) for i in range(len(head))]
        out.append(f"\n{title}")
        out += ["  " + "  ".join(c.ljust(w) for c, w in zip(line, widths)) for line in table]
    return "\n".join(out)


def markdown(found: Mapping[str, Any]) -> str:
    """Return the tables, what each peer was asked, and why it refused, as Markdown."""

    def table(head: Sequence[str], lines: Sequence[Sequence[str]]) -> list[str]:
        rule = ["---", *("---:" for _ in head[1:])]
        return [f"| {' | '.join(line)} |" for line in (head, rule, *lines)]

    out = [
        "# Other tools on the same measured cases", "",
        f"{found['date']}, GPU Configurator {found['configurator']}. {found['machine']}", "",
        "Written by `benchmarks/peers/run.py`. Errors are |answer ÷ measured − 1|. *Ours* is this "
        "project on exactly the cases that the tool in that line answered, in the same run. "
        "A slow tool's cases of speed are a random sample with a fixed seed. † the tool was handed "
        "the checkpoint's parameters or size, which it reads from the Hub. "
        "*Tensor peak*, *reserved* and *device memory* of a tool that gives one total are "
        "all compared with that total. Our "
        "coefficients were calibrated on the speed cases, so ours is in-sample there; the "
        "held-out figures are those of `configurator validate` and the calibration's own table.",
        "",
    ]  # fmt: skip
    for title, lines in _tables(found):
        out += [f"## {title}", "", *table(HEAD, lines), ""]
    out += ["## Time and versions", "", *table(TIMES, _times(found)), ""]
    out += [
        "Time a question inside the running tool: start-up and import left out; tables that it "
        "loads with the first question of a kind count in the mean.", "",
    ]  # fmt: skip
    out += ["## What each was asked", ""]
    for peer in found["peers"]:
        out.append(f"- **{peer['name']} {peer['version']}**: {peer['asked']}.")
        for reason, count in peer["reasons"].items():
            out.append(f"  - refused {count} ×: {' '.join(reason.split())}")
    out += ["", "## Not run", ""]
    out += [f"- {names}: {reason}." for names, reason in NOT_RUN.items()]
    return "\n".join(out) + "\n"
