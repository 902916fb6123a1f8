"""The charts of the techniques page and what is said of a technique in a few words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import plotly.graph_objects as go

from configurator import numbers
from configurator.app import charts, views
from configurator.capacity import Ends, load
from configurator.estimate import Estimate
from configurator.scenario import Scenario
from configurator.techniques import Effect, Technique
from configurator.words import labelled, listed, say, sentences, stop

PARTS = ("weights", "gradients", "optimizer", "activations", "kv_cache", "framework")

BEFORE, AFTER = "#8A8A8A", charts.COLOURS["weights"]
ROW, HEAD, FOOT = 58, 24, 64  # pixels of a technique, and of what is above and below all
BAR = 0.26  # of a row; the name stands in what is left
INSIDE_FROM = 0.3  # of the axis: a bar this long has room for its own label
CUT_CARDS, CUT_NOW = 2.0, 1.25  # bars end at this many cards, or times what is needed now
DETAIL_HEIGHT, LOAD_HEIGHT = 200, 260
LOAD_POINTS, LOAD_BEYOND, LEAST_LOAD = 48, 4, 32  # of the chart over requests at once

LEAST_GIB = 0.05  # what rounds to nothing is said to be nothing
LEAST_RATIO = 0.005
LEAST_TTFT = 0.02
FITS: Mapping[bool | str, tuple[str, views.Tint]] = {
    True: ("fits", "green"),
    "tight": ("tight", "orange"),
    False: ("bad", "red"),
}


# --------------------------------------------------------------------------- what is said


def order(found: Sequence[Technique], state: str) -> list[Technique]:
    """Return the techniques of a state: those that save most first, else as they come."""
    own = [technique for technique in found if technique.state == state]
    return sorted(own, key=lambda t: -(t.saved_gib or 0.0))


def why(technique: Technique, tongue: str) -> str:
    """Return why a technique applies or not, with engines and types called as the planner does."""
    values = {
        name: views.option(name, value, tongue) if isinstance(value, str) else value
        for name, value in technique.values.items()
    }
    return say(f"technique.reason.{technique.reason}", tongue, **values)


def memory_text(technique: Technique, tongue: str) -> tuple[str, views.Tint]:
    """Return what a technique saves on the fullest card, in words, and the colour of that."""
    saved, before = technique.saved_gib, technique.before
    if saved is None or before is None:
        return "", "gray"
    if abs(saved) < LEAST_GIB:
        return say("app.techniques.same_memory", tongue), "gray"
    key = "saves" if saved > 0 else "costs"
    percent = 100 * abs(saved) / before.required_gib
    text = say(
        f"app.techniques.memory_{key}",
        tongue,
        size=numbers.gib(abs(saved), tongue),
        percent=numbers.decimal(percent, tongue, 0 if percent >= 1 else 1),
    )
    return text, "green" if saved > 0 else "orange"


def speed_text(technique: Technique, tongue: str) -> tuple[str, views.Tint]:
    """Return the speed with a technique over that without it, in words, and the colour of that.

    Where only the side with it fits, its own tokens a second; empty where that does not fit.
    """
    ratio, after = technique.speed_ratio, technique.after
    if ratio is None:
        if after is None or after.fits is False:
            return "", "gray"
        rate = numbers.rate(after.tokens_per_s, tongue)
        return say("app.techniques.speed_now", tongue, rate=rate), "gray"
    if abs(ratio - 1) < LEAST_RATIO:
        return say("app.techniques.same_speed", tongue), "gray"
    text = say("app.techniques.speed", tongue, ratio=numbers.decimal(ratio, tongue, 2))
    return text, "green" if ratio > 1 else "orange"


def ttft_text(technique: Technique, tongue: str) -> tuple[str, views.Tint]:
    """Return how long the first token takes, in words, and the colour; empty where it is alike."""
    before, after = technique.before, technique.after
    if technique.speed_ratio is None or before is None or after is None:
        return "", "gray"
    if not before.ttft_s or not after.ttft_s or abs(after.ttft_s / before.ttft_s - 1) < LEAST_TTFT:
        return "", "gray"
    first, then = numbers.seconds(before.ttft_s, tongue), numbers.seconds(after.ttft_s, tongue)
    if first == then:
        return "", "gray"
    text = say("app.techniques.ttft", tongue, before=first, after=then)
    return text, "green" if after.ttft_s < before.ttft_s else "orange"


def cards_text(technique: Technique, tongue: str) -> str:
    """Return how many cards are compared; empty where it is the same number."""
    before, after = technique.before, technique.after
    if before is None or after is None or before.gpus == after.gpus:
        return ""
    return say("app.techniques.cards", tongue, before=before.gpus, after=after.gpus)


def figures(technique: Technique, tongue: str) -> list[tuple[str, str, str]]:
    """Return rows of what can be compared: its name, without and with the technique."""
    before, after = technique.before, technique.after
    assert before is not None
    assert after is not None

    def size(value: float | None) -> str:
        return numbers.NONE if value is None else numbers.gib(value, tongue)

    def rate(value: float | None) -> str:
        return numbers.rate(value, tongue)

    def seconds(value: float | None) -> str:
        return numbers.seconds(value, tongue)

    def count(value: float | None) -> str:
        return numbers.count(value, tongue)

    kinds = (
        ("required_gib", size),
        ("host_gib", size),
        ("gpus", count),
        ("tokens_per_s", rate),
        ("stream_tokens_per_s", rate),
        ("ttft_s", seconds),
        ("max_concurrency", count),
    )
    rows = []
    for name, shown in kinds:
        pair = [
            None if side.fits is False and name in _RUNNING else getattr(side, name)
            for side in (before, after)
        ]
        if any(value for value in pair):
            texts = [shown(value) for value in pair]
            rows.append((say(f"app.techniques.figure_{name}", tongue), texts[0], texts[1]))
    fit = [say(f"app.techniques.fit_{FITS[side.fits][0]}", tongue) for side in (before, after)]
    return [rows[0], (say("app.techniques.figure_fits", tongue), fit[0], fit[1]), *rows[1:]]


_RUNNING = ("tokens_per_s", "stream_tokens_per_s", "ttft_s")  # nothing where it does not fit


# --------------------------------------------------------------------------- the charts


def _layout(height: int, **more: Any) -> dict[str, Any]:
    return {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 8, "t": HEAD, "b": 8},
        "dragmode": False,
        "hoverlabel": {"align": "left"},
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        **more,
    }


def _limit(
    value: float, edge: float, text: str, spans: Sequence[tuple[float, float]]
) -> dict[str, Any]:
    """Return the line at what can be used of a card, beside the bars only, and its label."""
    lines = [
        {
            "type": "line", "xref": "x", "x0": value, "x1": value, "yref": "y", "y0": low,
            "y1": high, "line": {"color": charts.LIMIT, "width": 2},
        }
        for low, high in spans
    ]  # fmt: skip
    label = {
        "xref": "x", "x": value, "yref": "paper", "y": 1, "text": text, "showarrow": False,
        "xanchor": "right" if value > 0.5 * edge else "left", "yanchor": "bottom",
        "font": {"color": charts.LIMIT},
    }  # fmt: skip
    return {"shapes": lines, "annotations": [label]}


def _axis(edge: float, title: str) -> dict[str, Any]:
    return {
        "range": [0, edge], "gridcolor": charts.GRID, "zeroline": False, "fixedrange": True,
        "automargin": True, "title": {"text": title, "standoff": 4},
    }  # fmt: skip


def overview(answer: Estimate, shown: Sequence[Technique], tongue: str) -> go.Figure:
    """Return memory of the fullest card without and with each technique, one row each.

    Names stand above their bars, so that a phone has the whole width for these. Bars far longer
    than the card are cut at the edge; their labels say the whole.

    Args:
        answer: Of the question itself.
        shown: From top to bottom; those with numbers.
        tongue: Language.
    """
    edge = _edge(answer, shown)
    places = [-float(row) for row in range(len(shown))]
    limit = _limit(
        answer.memory.budget_gib,
        edge,
        say("app.meter.limit", tongue, room=numbers.gib(answer.memory.budget_gib, tongue)),
        [(place - 0.49, place + 0.09) for place in places],
    )
    for place, technique in zip(places, shown):
        limit["annotations"].append(
            {
                "xref": "paper", "x": 0, "y": place + 0.5, "text": row_title(technique, tongue),
                "showarrow": False, "xanchor": "left", "yanchor": "top",
                "font": {"size": 13},
            }
        )  # fmt: skip
    traces = [
        _side(side, places, shown, edge, tongue)
        for side in ("before", "after")
    ]  # fmt: skip
    layout = _layout(
        HEAD + FOOT + ROW * len(shown),
        bargap=0,
        barmode="overlay",
        xaxis=_axis(edge, say("app.axis.memory", tongue)),
        yaxis={"visible": False, "fixedrange": True, "range": [places[-1] - 0.5, 0.5]},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        **limit,
    )
    return go.Figure({"data": traces, "layout": layout}, _validate=False)


def _edge(answer: Estimate, shown: Sequence[Technique]) -> float:
    """Return where the axis ends: at the longest bar, or where it would dwarf all others."""
    memory = answer.memory
    longest = max(max(_longest(technique) for technique in shown), memory.capacity_gib)
    return 1.02 * min(longest, max(CUT_CARDS * memory.capacity_gib, CUT_NOW * memory.required_gib))


def is_cut(answer: Estimate, shown: Sequence[Technique]) -> bool:
    """Whether a bar of the overview is longer than its axis."""
    return max(_longest(technique) for technique in shown) > _edge(answer, shown)


def row_title(technique: Technique, tongue: str) -> str:
    """Return what stands above a technique's bars."""
    notes = []
    if technique.state == "in_use":
        notes.append(say("app.techniques.in_use", tongue))
    if technique.speed_ratio is not None:
        notes.append(speed_text(technique, tongue)[0])
    if cards := cards_text(technique, tongue):
        notes.append(cards)
    return " · ".join([f"<b>{technique.name(tongue)}</b>", *notes])


def _longest(technique: Technique) -> float:
    sides = (technique.before, technique.after)
    return max(side.required_gib for side in sides if side is not None)


def _side(
    name: str, places: Sequence[float], shown: Sequence[Technique], edge: float, tongue: str
) -> dict[str, Any]:
    """Return one bar a technique: without it, or with it."""
    effects: list[Effect] = [getattr(technique, name) for technique in shown]
    texts = []
    for effect in effects:
        text = numbers.gib(effect.required_gib, tongue)
        if effect.fits is False:
            text += f" · {say('app.techniques.fit_bad', tongue)}"
        texts.append(text)
    label = say(f"app.techniques.side_{name}", tongue)
    after = name == "after"
    return {
        "type": "bar",
        "orientation": "h",
        "name": label,
        "y": [place + (-0.34 if after else -0.06) for place in places],
        "x": [min(effect.required_gib, edge) for effect in effects],
        "width": BAR,
        "text": texts,
        "textposition": [
            "inside" if effect.required_gib > INSIDE_FROM * edge else "outside"
            for effect in effects
        ],
        "insidetextanchor": "start",
        "insidetextfont": {"color": "#ffffff" if after else "#111111"},
        "constraintext": "none",
        "textangle": 0,
        "cliponaxis": False,
        "marker": {
            "color": AFTER if after else BEFORE,
            "line": {"color": charts.OUTLINE, "width": 1},
        },
        "customdata": [technique.name(tongue) for technique in shown],
        "hovertemplate": f"%{{customdata}}<br>{label}: %{{text}}<extra></extra>",
    }


def overview_text(answer: Estimate, shown: Sequence[Technique], tongue: str) -> str:
    """Return the overview in words."""
    rows = [
        say(
            "app.techniques.alt_row",
            tongue,
            name=technique.name(tongue),
            before=numbers.gib(technique.before.required_gib, tongue),
            after=numbers.gib(technique.after.required_gib, tongue),
            speed=speed_text(technique, tongue)[0] or say("app.techniques.no_speed", tongue),
        )
        for technique in shown
        if technique.before is not None and technique.after is not None
    ]
    room = numbers.gib(answer.memory.budget_gib, tongue)
    return sentences(tongue, say("app.techniques.alt", tongue, room=room), *rows)


def detail(technique: Technique, budget: float, tongue: str) -> go.Figure:
    """Return what the fullest card holds without and with a technique, part by part."""
    sides = (technique.before, technique.after)
    names = [say(f"app.techniques.side_{name}", tongue) for name in ("before", "after")]
    edge = max(_longest(technique), budget) * 1.04
    traces = []
    for part in PARTS:
        sizes = [float(getattr(side, f"{part}_gib")) for side in sides]
        if max(sizes) < LEAST_GIB:
            continue
        label = say(f"app.part.{part}", tongue)
        traces.append(
            {
                "type": "bar",
                "orientation": "h",
                "name": label,
                "x": sizes,
                "y": names,
                "width": 0.6,
                "marker": {
                    "color": charts.COLOURS[part],
                    "line": {"color": charts.OUTLINE, "width": 1},
                    "pattern": {
                        "shape": charts.PATTERNS[part],
                        "fgcolor": "rgba(255,255,255,0.35)",
                        "fillmode": "overlay",
                        "size": 7,
                        "solidity": 0.2,
                    },
                },
                "text": [f"{label}: {numbers.gib(size, tongue)}" for size in sizes],
                "textposition": "none",
                "hovertemplate": "%{text}<extra></extra>",
            }
        )
    room = say("app.meter.limit", tongue, room=numbers.gib(budget, tongue))
    layout = _layout(
        DETAIL_HEIGHT,
        barmode="stack",
        showlegend=True,
        xaxis=_axis(edge, say("app.axis.memory", tongue)),
        yaxis={"autorange": "reversed", "fixedrange": True, "automargin": True},
        legend={
            "orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom",
            "traceorder": "normal",
        },
        **_limit(budget, edge, room, [(-0.4, 1.4)]),
    )  # fmt: skip
    return go.Figure({"data": traces, "layout": layout}, _validate=False)


def detail_text(technique: Technique, tongue: str) -> str:
    """Return the parts without and with a technique in words."""
    said = []
    for name, side in (("before", technique.before), ("after", technique.after)):
        parts = [
            f"{say(f'app.part.{part}', tongue)} {numbers.gib(size, tongue)}"
            for part in PARTS
            if (size := float(getattr(side, f"{part}_gib"))) >= LEAST_GIB
        ]
        side_name = say(f"app.techniques.side_{name}", tongue)
        said.append(labelled(tongue, side_name, listed(tongue, parts)) + stop(tongue))
    return sentences(tongue, technique.name(tongue) + stop(tongue), *said)


def by_load(without: Scenario, with_it: Scenario, tongue: str) -> go.Figure:
    """Return the tokens a second of all cards without and with a technique, by requests at once.

    Args:
        without: Serving, with hardware; its own load is marked.
        with_it: The same with the technique.
        tongue: Language.
    """
    asked = without.serving.concurrency
    most = max(LEAST_LOAD, LOAD_BEYOND * asked)
    users = np.unique(np.append(np.geomspace(1, most, LOAD_POINTS).round(), asked).astype(int))
    traces = [
        _line(side, load(scenario, users).output_tokens_per_s, users, tongue)
        for side, scenario in (("before", without), ("after", with_it))
    ]
    marked = {
        "type": "line", "xref": "x", "x0": asked, "x1": asked, "yref": "paper", "y0": 0, "y1": 1,
        "line": {"color": charts.LIMIT, "width": 1, "dash": "dot"},
    }  # fmt: skip
    layout = _layout(
        LOAD_HEIGHT,
        xaxis={"type": "log", "gridcolor": charts.GRID, "fixedrange": True, "automargin": True,
               "tickvals": [n * 10**power for power in range(7) for n in (1, 2, 5)],
               "title": {"text": say("app.techniques.axis_requests", tongue), "standoff": 4}},
        yaxis={"rangemode": "tozero", "gridcolor": charts.GRID, "fixedrange": True,
               "automargin": True, "tickformat": ",d"},
        legend={"orientation": "h", "x": 0, "y": 0, "yref": "container", "yanchor": "bottom"},
        shapes=[marked],
    )  # fmt: skip
    return go.Figure({"data": traces, "layout": layout}, _validate=False)


def _line(side: str, rate: Ends, users: np.ndarray, tongue: str) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "name": say(f"app.techniques.side_{side}", tongue),
        "x": users.tolist(),
        "y": rate.value.tolist(),
        "line": {"color": AFTER if side == "after" else BEFORE, "width": 2},
        "hovertemplate": "%{x}: %{y:,.0f}",
    }
