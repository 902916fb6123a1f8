"""Plotly figures, built and returned, never shown. Colours, heights and labels are fixed here."""

from __future__ import annotations

import math
from base64 import b64encode
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
from plotly.basedatatypes import BaseFigure

# Told apart with any colour vision (Machado 2009, CIE76 ≥ 12); see docs/decisions.md.
COLOURS = {
    "weights": "#0072B2",
    "kv_cache": "#D98200",
    "activations": "#009E73",
    "optimizer": "#CC79A7",
    "gradients": "#4FA3D9",
    "framework": "#4D4D4D",
    "headroom": "#D5D5D5",
}
# Second way to tell the parts apart: on paper, and for those who do not see the colours.
PATTERNS = {
    "weights": "",
    "kv_cache": "/",
    "activations": ".",
    "optimizer": "\\",
    "gradients": "x",
    "framework": "-",
    "headroom": "",
}
DARK_TEXT_ON = frozenset({"kv_cache", "optimizer", "gradients", "headroom", "activations"})
OUTLINE = "rgba(128,128,128,0.9)"
LIMIT = "#D55E00"
BELOW_LABELS = 13  # from an axis to its title: Plotly sets a shorter one among the tick labels
GRID = "rgba(128,128,128,0.25)"
LINES = ("#0072B2", "#D98200", "#009E73", "#CC79A7", "#4FA3D9", "#8A8A8A")  # seen on any ground
DASHES = ("solid", "dash", "dot", "dashdot")
METER_HEIGHT = 170
CROWDED = 0.9  # of the limit: from here on the curve would run through the limit's label
CURVE_HEIGHT = 300
HISTORY_HEIGHT = 360
CONFIG = {
    "displaylogo": False,
    "displayModeBar": False,
    "scrollZoom": False,
    "doubleClick": False,
}


@dataclass(frozen=True)
class Part:
    """A segment of the memory meter: which part, its name, its size and that size in words."""

    kind: str
    name: str
    gib: float
    text: str


@dataclass(frozen=True)
class Mark:
    """A line across a curve with a few words on it."""

    value: float
    text: str


@dataclass(frozen=True)
class Curve:
    """Memory against something that grows: points, axis titles, and where it breaks."""

    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...]
    high: tuple[float, ...]
    x_title: str
    y_title: str
    x_ticks: tuple[tuple[float, str], ...]
    limit: Mark
    now: Mark
    breaks: tuple[Mark, ...]
    hover: tuple[str, ...]
    other: tuple[float, ...] = ()
    other_name: str = ""


@dataclass(frozen=True)
class Stop:
    """A point of a load curve with words at it: where on the curve, and what it is."""

    at: int
    text: str


@dataclass(frozen=True)
class LoadCurve:
    """Throughput against what one user sees, as the load grows: points, ends of the 90 % range.

    Attributes:
        x, y: What one user sees; what the deployment does.
        best, worst: Both at the better and both at the worse end of their 90 % ranges, (x, y).
        x_log: Whether x spans magnitudes.
        x_ticks: Values and words; Plotly's own where empty.
        dots: Numbers of users written at the curve.
        now: The load asked about; None where it is beyond the curve.
        most: The largest load that has room and keeps all limits, if any.
        limit: The limit of x, if one is set.
    """

    x: tuple[float, ...]
    y: tuple[float, ...]
    best: tuple[tuple[float, float], ...]
    worst: tuple[tuple[float, float], ...]
    x_title: str
    y_title: str
    x_log: bool
    x_ticks: tuple[tuple[float, str], ...]
    dots: tuple[Stop, ...]
    now: Stop | None
    most: Stop | None
    limit: Mark | None
    hover: tuple[str, ...]


@dataclass(frozen=True)
class Panel:
    """One of the charts over a common time axis: its title, where it ends, one line a GPU."""

    title: str
    top: float | None
    lines: tuple[tuple[str, tuple[float | None, ...]], ...]


class Figure(BaseFigure):  # type: ignore[misc]  # Plotly has no types
    """A figure that is its dict, which the tests check against Plotly's own rules.

    Plotly's own class copies and checks it several times over at each of many reruns.
    """

    def __init__(self, data: list[dict[str, Any]], layout: dict[str, Any]) -> None:
        self._spec = {"data": data, "layout": layout}

    def to_dict(self) -> dict[str, Any]:
        """Return the dict itself: not to be changed."""
        return self._spec


def figure_of(data: list[dict[str, Any]], height: int, layout: dict[str, Any]) -> Figure:
    """Return a figure with what all of them have in common."""
    common = {
        "template": {},
        "height": height,
        "margin": {"l": 8, "r": 8, "t": 24, "b": 8},
        "hoverlabel": {"align": "left"},
        "dragmode": False,
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
    }
    return Figure(data, {**common, **layout})


def axis(**more: Any) -> dict[str, Any]:
    """Return an axis with what all of them have in common; ``None`` is left out."""
    return {
        "gridcolor": GRID,
        "zeroline": False,
        "fixedrange": True,
        "automargin": True,
        **{name: value for name, value in more.items() if value is not None},
    }


def _room(top: float) -> dict[str, int]:
    """Return margins with room for labels up to a value and for titles.

    Axes that find their own margin are drawn again and again until it settles.
    """
    return {"l": 40 + 7 * len(f"{top:,.0f}"), "r": 16, "t": 24, "b": 48}


def _segment(part: Part) -> dict[str, Any]:
    return {
        "type": "bar",
        "x": [part.gib],
        "y": [""],
        "name": part.name,
        "orientation": "h",
        "text": [f"{part.name}<br>{part.text}"],
        "textposition": "inside",
        "insidetextanchor": "middle",
        "textangle": 0,
        "insidetextfont": {"color": "#111111" if part.kind in DARK_TEXT_ON else "#ffffff"},
        "marker": {
            "color": COLOURS[part.kind],
            "line": {"color": OUTLINE, "width": 1},
            "pattern": {
                "shape": PATTERNS[part.kind],
                "fgcolor": "rgba(255,255,255,0.35)",
                "fillmode": "overlay",
                "size": 7,
                "solidity": 0.2,
            },
        },
        "hovertemplate": f"{part.name}: {part.text}<extra></extra>",
    }


def meter(parts: Sequence[Part], limit: Mark, card: Mark, *, height: int = METER_HEIGHT) -> Figure:
    """Return one stacked bar of a card's memory with a line at what can be used of it.

    Args:
        parts: From left to right.
        limit: What the engine may use of the card, GiB.
        card: The whole card, GiB.
        height: Pixels.
    """
    edge = max(card.value, sum(part.gib for part in parts)) * 1.02
    lines = [
        {
            "type": "line", "x0": mark.value, "x1": mark.value, "y0": -0.5, "y1": 0.5,
            "xref": "x", "yref": "y", "line": {"color": LIMIT, "width": 2, "dash": dash},
        }
        for mark, dash in ((limit, "solid"), (card, "dot"))
    ]  # fmt: skip
    label = {
        "x": limit.value, "y": 0.5, "xref": "x", "yref": "y", "text": limit.text,
        "showarrow": False, "xanchor": "right" if limit.value > edge * 0.4 else "left",
        "yanchor": "bottom", "font": {"color": LIMIT},
    }  # fmt: skip
    layout = {
        "barmode": "stack",
        "bargap": 0.05,
        "margin": {"l": 8, "r": 8, "t": 20, "b": 24},
        "shapes": lines,
        "annotations": [label],
        "xaxis": axis(range=[0, edge], automargin=False),
        "yaxis": {"visible": False, "range": [-0.5, 0.5], "fixedrange": True},
        "legend": {
            "orientation": "h",
            "y": -0.3,
            "yanchor": "top",
            "x": 0,
            "traceorder": "normal",
        },
        "uniformtext": {"minsize": 11, "mode": "hide"},
        "showlegend": True,
    }
    return figure_of([_segment(part) for part in parts], height, layout)


def _band(data: Curve) -> dict[str, Any]:
    return {
        "type": "scatter",
        "mode": "lines",
        "x": [*data.x, *reversed(data.x)],
        "y": [*data.high, *reversed(data.low)],
        "fill": "toself",
        "fillcolor": "rgba(0,114,178,0.2)",
        "line": {"width": 0},
        "hoverinfo": "skip",
        "showlegend": False,
    }


def curve(data: Curve, *, height: int = CURVE_HEIGHT) -> Figure:
    """Return memory against a growing quantity, with its interval, the limit and the breaks."""
    line = {
        "type": "scatter",
        "mode": "lines",
        "x": list(data.x),
        "y": list(data.y),
        "line": {"color": COLOURS["gradients"], "width": 2.5},
        "text": list(data.hover),
        "hovertemplate": "%{text}<extra></extra>",
        "showlegend": False,
    }
    traces = [_band(data), line]
    at = min(range(len(data.x)), key=lambda i: abs(data.x[i] - data.now.value))
    traces.append(
        {
            "type": "scatter",
            "mode": "markers",
            "x": [data.now.value],
            "y": [data.y[at]],
            "marker": {
                "size": 12, "color": COLOURS["kv_cache"], "line": {"color": OUTLINE, "width": 2},
            },
            "hovertemplate": f"{data.now.text}<extra></extra>",
            "showlegend": False,
        }
    )  # fmt: skip
    if data.other:
        traces.append(
            {
                "type": "scatter",
                "mode": "lines",
                "x": list(data.x),
                "y": list(data.other),
                "name": data.other_name,
                "line": {"color": COLOURS["optimizer"], "width": 2.5, "dash": "dot"},
                "hovertemplate": data.other_name + ": %{y:.1f} GiB<extra></extra>",
                "showlegend": True,
            }
        )
    shapes: list[dict[str, Any]] = [
        {
            "type": "line", "xref": "paper", "x0": 0, "x1": 1, "yref": "y",
            "y0": data.limit.value, "y1": data.limit.value, "line": {"color": LIMIT, "width": 2},
        }
    ]  # fmt: skip
    notes: list[dict[str, Any]] = [
        {
            "x": 0, "y": data.limit.value, "xref": "paper", "yref": "y", "text": data.limit.text,
            "showarrow": False, "xanchor": "left",
            "yanchor": "top" if data.y[0] > CROWDED * data.limit.value else "bottom",
            "font": {"color": LIMIT},
        }
    ]  # fmt: skip
    middle = (_log10(data.x[0]) + _log10(data.x[-1])) / 2
    for level, mark in enumerate(data.breaks):
        left = _log10(mark.value) > middle
        shapes.append(
            {
                "type": "line", "xref": "x", "x0": mark.value, "x1": mark.value, "yref": "paper",
                "y0": 0, "y1": 1, "line": {"color": OUTLINE, "width": 1.5, "dash": "dash"},
            }
        )  # fmt: skip
        notes.append(
            {
                "x": _log10(mark.value), "y": 0.02 + 0.11 * (level % 4), "xref": "x",
                "yref": "paper", "text": mark.text, "showarrow": False,
                "xanchor": "right" if left else "left", "xshift": -3 if left else 3,
                "yanchor": "bottom",
            }
        )  # fmt: skip
    top = min(max([*data.high, data.limit.value]) * 1.12, data.limit.value * 3)
    layout = {
        "shapes": shapes,
        "annotations": notes,
        "margin": _room(top),
        "xaxis": axis(
            automargin=False,
            type="log",
            title={"text": data.x_title, "standoff": BELOW_LABELS},
            range=[_log10(data.x[0]), _log10(data.x[-1])],
            tickvals=[tick for tick, _ in data.x_ticks],
            ticktext=[text for _, text in data.x_ticks],
        ),
        "yaxis": axis(
            automargin=False, title={"text": data.y_title, "standoff": 4}, range=[0, top]
        ),
        "legend": {"x": 0.02, "y": 0.99, "yanchor": "top", "bgcolor": "rgba(0,0,0,0)"},
    }
    return figure_of(traces, height, layout)


def load_curve(data: LoadCurve, *, height: int = CURVE_HEIGHT) -> Figure:
    """Return throughput against what one user sees, with the 90 % range and the limit."""
    ring = [*data.best, *reversed(data.worst)]

    def points(stops: Sequence[Stop], size: int, colour: str, place: str) -> dict[str, Any]:
        return {
            "type": "scatter",
            "mode": "markers+text",
            "x": [data.x[stop.at] for stop in stops],
            "y": [data.y[stop.at] for stop in stops],
            "text": [stop.text for stop in stops],
            "textposition": place,
            "customdata": [data.hover[stop.at] for stop in stops],
            "hovertemplate": "%{customdata}<extra></extra>",
            "marker": {"size": size, "color": colour, "line": {"color": OUTLINE, "width": 1.5}},
            "cliponaxis": False,
            "showlegend": False,
        }

    traces: list[dict[str, Any]] = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": [x for x, _ in ring],
            "y": [y for _, y in ring],
            "fill": "toself",
            "fillcolor": "rgba(0,114,178,0.2)",
            "line": {"width": 0},
            "hoverinfo": "skip",
            "showlegend": False,
        },
        {
            "type": "scatter",
            "mode": "lines",
            "x": list(data.x),
            "y": list(data.y),
            "line": {"color": COLOURS["gradients"], "width": 2.5},
            "text": list(data.hover),
            "hovertemplate": "%{text}<extra></extra>",
            "showlegend": False,
        },
    ]
    # Words stand off the line: it falls where x is a pace and rises where it is a time.
    above, below = ("top left", "bottom right") if data.x_log else ("top right", "bottom left")
    traces.append(points(data.dots, 6, COLOURS["gradients"], below))
    if data.most is not None:
        traces.append(points((data.most,), 11, LIMIT, above))
        traces[-1]["marker"]["symbol"] = "diamond"
    if data.now is not None:
        traces.append(points((data.now,), 12, COLOURS["kv_cache"], below))
    xs = [*data.x, *(x for x, _ in ring)]
    low, high = (min(xs), max(xs)) if data.x_log else (0.0, max(xs) * 1.04)
    shapes, notes = [], []
    if data.limit is not None:
        low, high = min(low, data.limit.value * 0.9), max(high, data.limit.value * 1.1)
        where = _log10(data.limit.value) if data.x_log else data.limit.value
        middle = (_log10(low) + _log10(high)) / 2 if data.x_log else (low + high) / 2
        left = where > middle
        shapes.append(
            {
                "type": "line", "xref": "x", "x0": data.limit.value, "x1": data.limit.value,
                "yref": "paper", "y0": 0, "y1": 1, "line": {"color": LIMIT, "width": 2},
            }
        )  # fmt: skip
        notes.append(
            {
                "x": where, "y": 1, "xref": "x", "yref": "paper", "text": data.limit.text,
                "showarrow": False, "xanchor": "right" if left else "left",
                "xshift": -4 if left else 4, "yanchor": "top", "font": {"color": LIMIT},
            }
        )  # fmt: skip
    ticks = (
        {"tickvals": [x for x, _ in data.x_ticks], "ticktext": [text for _, text in data.x_ticks]}
        if data.x_ticks
        else {}
    )
    top = max(y for _, y in ring) * 1.15
    layout = {
        "shapes": shapes,
        "annotations": notes,
        "margin": _room(top),
        "xaxis": axis(
            automargin=False,
            type="log" if data.x_log else None,
            title={"text": data.x_title, "standoff": BELOW_LABELS},
            range=[_log10(low), _log10(high)] if data.x_log else [low, high],
            **ticks,
        ),
        "yaxis": axis(
            automargin=False,
            title={"text": data.y_title, "standoff": 10},
            range=[0, top],
        ),
    }
    return figure_of(traces, height, layout)


def _log10(value: float) -> float:
    return math.log10(max(value, 1e-9))


def _packed(values: Iterable[float | None], kind: str) -> dict[str, str]:
    """Return numbers as Plotly takes them in one piece; a ``None`` is a gap."""
    numbers = np.array([math.nan if v is None else v for v in values], f"<{kind}")
    return {"dtype": kind, "bdata": b64encode(numbers.tobytes()).decode()}


def history(
    times: Sequence[datetime], panels: tuple[Panel, Panel], *, height: int = HISTORY_HEIGHT
) -> Figure:
    """Return two panels over one time axis, one line a GPU; a gap is "not reported"."""
    # Plotly counts milliseconds and knows no time zones: the clock on the wall, taken for UTC's.
    x = _packed((1e3 * time.replace(tzinfo=UTC).timestamp() for time in times), "f8")
    traces = [
        {
            "type": "scatter",
            "mode": "lines",
            "x": x,
            "y": _packed(values, "f4"),
            "yaxis": axis,
            "name": name,
            "legendgroup": name,
            "showlegend": axis == "y" and len(panel.lines) > 1,
            "connectgaps": False,
            "hovertemplate": "%{x|%H:%M:%S}: %{y:.4~r}",
            "line": {
                "color": LINES[index % len(LINES)],
                "dash": DASHES[index // len(LINES) % len(DASHES)],
                "width": 2,
            },
        }
        for axis, panel in zip(("y", "y2"), panels)
        for index, (name, values) in enumerate(panel.lines)
    ]
    upper, lower = (
        axis(
            title={"text": panel.title, "standoff": 4},
            range=[0, panel.top] if panel.top else None,
            rangemode="tozero",
            domain=domain,
        )
        for panel, domain in zip(panels, ([0.56, 1], [0, 0.44]))
    )
    layout = {
        "xaxis": axis(type="date", tickformat="%H:%M:%S", anchor="y2"),
        "yaxis": upper,
        "yaxis2": lower,
        "legend": {"orientation": "h", "y": -0.12, "yanchor": "top"},
    }
    return figure_of(traces, height, layout)
