"""The article answered: verdicts, sentences, figures with their units."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, TextIO

from configurator.article.evaluators import EVALUATORS, Question, Values
from configurator.article.records import Comparison, Statement, Verdict, load_article
from configurator.cost.dates import When
from configurator.words import say


@dataclass(frozen=True)
class Finding:
    """A statement answered.

    Attributes:
        values: Everything that was worked out, by name.
        factor: Our figure over the article's, as a number of at least 1; 1 inside its range,
            None where there is no number to compare.
        compared: The comparison that the factor belongs to.
    """

    statement: Statement
    values: Mapping[str, Any]
    verdict: Verdict
    factor: float | None
    compared: Comparison | None

    @property
    def article_is_high(self) -> bool:
        """Whether the article's figure is above ours."""
        if self.compared is None:
            return False
        _, high = _range(_said(self.statement, self.compared, self.values))
        return bool(high > self.values[self.compared.ours])

    def reason(self, language: str = "en") -> str:
        """Return one sentence with the figures filled in."""
        values = {k: _spoken(v, language) for k, v in self.values.items()}
        variant = self.values.get("variant")
        key = f"{self.statement.id}_{variant}" if variant else self.statement.id
        return say(f"article.reason.{key}", language, **values)

    def to_dict(self, language: str = "en") -> dict[str, Any]:
        """Return the contract's statement as plain JSON values."""
        said = self.statement
        shown = {name: _plain(self.values[name]) for name in said.show}
        out: dict[str, Any] = {
            "id": said.id,
            "statement": said.statement.text(language),
            "scenario": said.scenarios[0] if said.scenarios else None,
            "scenarios": list(said.scenarios),
            "article": {k: list(_range(v)) if isinstance(v, tuple) else v
                        for k, v in said.figures.items()},
            "ours": shown,
            "ours_text": self.ours_text(language),
            "article_text": self.article_text(language),
            "measured": [
                {"text": e.text.text(language), "value": e.value, "unit": e.unit,
                 "source": e.source, "date": e.date.isoformat()}
                for e in said.measured
            ],
            "verdict": self.verdict,
            "factor": None if self.factor is None else round(self.factor, 3),
            "verdict_text": self.verdict_text(language),
            "reason": self.reason(language),
        }  # fmt: skip
        return out

    def ours_text(self, language: str = "en") -> str:
        """Return the figure that the verdict rests on, else the first; empty if there is none."""
        name = self.compared.ours if self.compared else next(iter(self.statement.show), None)
        return "" if name is None else figure_text(name, _plain(self.values[name]), language)

    def article_text(self, language: str = "en") -> str:
        """Return the article's side of the same figure; empty if it gives none."""
        if self.compared is None:
            return ""
        figure = _said(self.statement, self.compared, self.values)
        return figure_text(self.compared.article, figure, language)

    def verdict_text(self, language: str = "en") -> str:
        """Return the verdict in words; with the factor where there is one."""
        if self.verdict != "off_by":
            return say(f"article.verdict.{self.verdict}", language)
        if self.factor is None:
            return say("article.verdict.off", language)
        way = "high" if self.article_is_high else "low"
        return say(f"article.verdict.off_by_{way}", language, factor=self.factor)


def _said(
    statement: Statement, comparison: Comparison, values: Mapping[str, Any]
) -> float | tuple[float, float]:
    """The article's side of a comparison."""
    name = comparison.article
    return statement.figures[name] if name in statement.figures else float(values[name])


def _range(figure: float | tuple[float, float]) -> tuple[float, float]:
    return figure if isinstance(figure, tuple) else (figure, figure)


def off_factor(ours: float, figure: float | tuple[float, float], sense: str = "about") -> float:
    """Return by what factor a figure misses ours: 1 inside its range, else at least 1.

    Args:
        ours: What the engine says.
        figure: What the article says: a number or a range.
        sense: ``at_least``: the article gives a floor, so that ours may be higher only up to it.
    """
    low, high = _range(figure)
    if low <= ours <= high:
        return 1.0
    if (sense == "at_least" and ours > high) or (sense == "at_most" and ours < low):
        return 1.0
    nearest = high if ours > high else low
    if nearest <= 0 or ours <= 0:
        return math.inf
    return max(ours / nearest, nearest / ours)


def evaluate(statement: Statement, tolerance: float | None = None) -> Finding:
    """Answer one statement.

    Args:
        statement: Of ``article.yaml``.
        tolerance: Factor within which a figure counts as right; the file's own if None.
    """
    tolerance = tolerance or load_article().tolerance
    values: Values = {}
    for step in statement.evaluate:
        parameters = {k: v for k, v in step.items() if k not in ("name", "prefix")}
        question = Question(statement.scenarios, parameters, values)
        found = EVALUATORS[step["name"]](question)
        values |= {f"{step.get('prefix', '')}{k}": v for k, v in found.items()}
    if not statement.compare:
        verdict = statement.verdict or "holds"
        return Finding(statement, values, verdict, None, None)
    factors = [
        off_factor(float(values[c.ours]), _said(statement, c, values), c.sense)
        for c in statement.compare
    ]
    worst = max(range(len(factors)), key=factors.__getitem__)
    factor, compared = factors[worst], statement.compare[worst]
    if factor > tolerance:
        verdict = "off_by"
    else:
        verdict = "holds_with_conditions" if statement.conditional else "holds"
    return Finding(statement, values, verdict, factor, compared)


# --------------------------------------------------------------------------- words


def _plain(value: Any) -> Any:
    if isinstance(value, When):
        return value.isoformat()
    if isinstance(value, float):
        return float(f"{value:.5g}") if math.isfinite(value) else None
    return value


def _spoken(value: Any, language: str) -> Any:
    """What a sentence takes: words for true, false and dates, NaN for a figure that is missing."""
    if isinstance(value, When):
        return value.text(language)
    if isinstance(value, bool):
        return say(f"article.{'yes' if value else 'no'}", language)
    return math.nan if value is None else value


# How a figure is written, by the end of its name; the longest that fits is taken.
_UNITS: tuple[tuple[str, str], ...] = (
    ("_gib", "gib"), ("_gb", "gb"), ("_gb_per_s", "gb_per_s"), ("_tokens_per_s", "tokens_per_s"),
    ("_share", "share"), ("_use", "share"), ("_factor", "factor"), ("_ratio", "factor"),
    ("_cny", "cny"), ("_b", "billions"), ("_s", "seconds"),
    ("cards", "cards"), ("cards_needed", "cards"),
)  # fmt: skip


def figure_text(name: str, value: Any, language: str = "en") -> str:
    """Return a named figure with its unit, as in ``15.6 GiB`` or ``30–50 %``.

    Args:
        name: Ends in its unit: ``_gib``, ``_tokens_per_s``, ``_share``, ``_cny``, …
        value: A number, a range, a word, true or false, or None.
        language: Of the words.
    """
    if isinstance(value, bool):
        return say(f"article.{'yes' if value else 'no'}", language)
    if value is None:
        return say("article.none", language)
    if isinstance(value, str):
        return value
    ends = [(end, unit) for end, unit in _UNITS if name.endswith(end)]
    unit = max(ends, key=lambda pair: len(pair[0]))[1] if ends else "count"
    if isinstance(value, (tuple, list)):
        low, high = (_number(unit, float(v)) for v in value)
        text = low if low == high else f"{low}–{high}"
    else:
        text = _number(unit, float(value))
    return say(f"article.unit.{unit}", language, value=text)


def _number(unit: str, value: float) -> str:
    if unit == "share":
        value *= 100
    if unit == "cny" or abs(value) >= 1000:
        return f"{value:,.0f}"
    if unit == "share" and abs(value) < 0.1:
        return f"{value:.2g}"
    return f"{value:.0f}" if value == int(value) else f"{value:.3g}"


def article_report(language: str = "en") -> dict[str, Any]:
    """Return the contract's ``{"statements": […]}``: every statement with figure and verdict.

    Args:
        language: ``en`` or ``zh``.
    """
    return {"statements": [evaluate(s).to_dict(language) for s in load_article().statements]}


def run_article(as_json: bool, language: str, out: TextIO) -> int:
    """Print the article answered, as one JSON object or as text; return the exit status."""
    report = article_report(language)
    if as_json:
        out.write(json.dumps(report, ensure_ascii=False, allow_nan=False) + "\n")
        return 0
    for item in report["statements"]:
        out.write(f"{item['id']}  {item['verdict_text']}\n")
        out.write(f"    {item['statement']}\n    {item['reason']}\n")
    return 0
