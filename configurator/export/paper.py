"""A plan as JSON, as a page that prints, and as PDF."""

from __future__ import annotations

import math
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from functools import lru_cache
from html import escape
from importlib import resources
from typing import Any

from configurator.cost import Range
from configurator.errors import InputError
from configurator.export import text
from configurator.export.facts import Facts, facts_of, short_ids
from configurator.numbers import percent
from configurator.recommend import Plan, Request
from configurator.words import bracketed, say

JSON = "application/json"
HTML = "text/html"
PDF = "application/pdf"
VERSION = 1
_COLOURS = ("#1f3864", "#d9822b", "#2e8b57", "#8e44ad", "#b03a2e", "#5d8aa8", "#b8c2d0")
_PACKAGES = "libpango-1.0-0 libpangoft2-1.0-0 libharfbuzz-subset0"


def paper_json(
    plan: Plan, request: Request, language: str = "en", address: str = ""
) -> dict[str, Any]:
    """Return scenario, plan, figures with intervals, bill, sources, exclusions and link.

    Args:
        plan: The plan.
        request: What was asked.
        language: Of the texts.
        address: Of the page, put before the link's parameters.

    Returns:
        Plain JSON values; what is not finite is None.
    """
    facts = facts_of(plan, request, language, address)
    asked = request.model_dump(mode="json", exclude_defaults=True, exclude={"scenario", "also"})
    answer = plan.to_dict(language)
    cost = answer["cost"]
    bill = [
        {**line, "source_ids": _ids(row.sources), "text": row.label}
        for line, row in zip(cost.pop("lines"), facts.bill)
    ]
    names = (
        "tier", "rank", "gpu", "name", "gpu_count", "spare_gpus", "bought", "nodes", "host",
        "rack_units", "replicas", "tensor_parallel", "pipeline_parallel", "expert_parallel",
        "data_parallel", "precision", "sharding", "why", "limits", "missing", "beside",
    )  # fmt: skip
    paper: dict[str, Any] = {
        "version": VERSION,
        "title": facts.title,
        "notice": say("export.not_a_quotation", language),
        "language": language,
        "catalog_date": facts.catalog_date,
        "currency": plan.terms.currency,
        "scenario": answer["scenario"],
        "request": asked,
        "plan": {name: answer[name] for name in names},
        "verdict": {"fits": answer["memory"]["fits"], "text": facts.verdict},
        "memory": answer["memory"],
        "kv": answer["kv"],
        "performance": answer["performance"],
        "bill_of_materials": bill,
        "cost": cost,
        "rates": [
            {
                "id": rate.id, "text": rate.label, "value": float(rate.amount.value),
                "low": float(rate.amount.low), "high": float(rate.amount.high),
                "unit": rate.unit, "source_ids": _ids(rate.sources),
            }
            for rate in facts.rates.values()
        ],
        "formulas": [
            {
                "text": term.label, "formula": term.formula, "value": term.value,
                "unit": term.unit, "inputs": [
                    {"text": label, "value": value, "unit": unit, "source_ids": _ids(sources)}
                    for label, value, unit, sources in term.inputs
                ],
            }
            for term in facts.terms
        ],
        "warnings": answer["warnings"],
        "assumptions": answer["assumptions"],
        "exclusions": list(facts.exclusions),
        "sources": [
            {"id": s.id, "of": s.of, "text": s.text, "date": s.date or None} for s in facts.sources
        ],
        "link": facts.link,
    }  # fmt: skip
    return {key: _finite(value) for key, value in paper.items()}


def _ids(joined: str) -> list[str]:
    return joined.split(", ") if joined else []


def _finite(value: Any) -> Any:
    """What is not finite as None, tuples as lists: JSON knows neither."""
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    if hasattr(value, "item"):
        value = value.item()
    return None if isinstance(value, float) and not math.isfinite(value) else value


# --------------------------------------------------------------------------- the printed page


@lru_cache(maxsize=1)
def _style() -> str:
    return (resources.files("configurator.export") / "paper.css").read_text(encoding="utf-8")


def paper_html(plan: Plan, request: Request, language: str = "en", address: str = "") -> str:
    """Return a page of its own, A4, that needs nothing from elsewhere.

    Args:
        plan: The plan.
        request: What was asked.
        language: ``en`` or ``zh``.
        address: Of the page, put before the link's parameters.
    """
    return _Page(facts_of(plan, request, language, address)).html()


def _cell(value: str, kind: str) -> str:
    return f"<td{_class(kind)}>{escape(value)}</td>"


def _class(kind: str) -> str:
    """The class of a column: numbers (``n``), days and ids (``d``), or text."""
    return f' class="{kind}"' if kind else ""


def _table(
    heads: Sequence[tuple[str, str]], rows: Iterable[Sequence[str]], total: Sequence[str] = (),
    kind: str = "",
) -> str:  # fmt: skip
    """A table; of each head what its column holds."""
    kinds = [name for _, name in heads]
    top = "".join(f'<th scope="col"{_class(name)}>{escape(head)}</th>' for head, name in heads)
    body = "".join(f"<tr>{''.join(_cell(v, n) for v, n in zip(row, kinds))}</tr>\n" for row in rows)
    if total:
        cells = "".join(_cell(v, n) for v, n in zip(total, kinds))
        body += f'<tr class="total">{cells}</tr>\n'
    return f'<table class="{kind}"><thead><tr>{top}</tr></thead><tbody>{body}</tbody></table>\n'


class _Page:
    """The parts of the printed page, in one language."""

    def __init__(self, facts: Facts) -> None:
        self.facts, self.language = facts, facts.language
        self.cost, self.currency = facts.cost, facts.plan.terms.currency

    def say(self, key: str, **values: Any) -> str:
        return say(f"export.{key}", self.language, **values)

    def money(self, value: float, cents: bool = False) -> str:
        return text.money(value, self.currency, self.language, cents)

    def span(self, amount: Range) -> str:
        """Low to high, or nothing where they are the same."""
        if amount.low == amount.high:
            return ""
        return f"{self.money(amount.low)} – {self.money(amount.high)}"

    def gib(self, value: float) -> str:
        return f"{text.decimal(value, self.language, 1)} GiB"

    def html(self) -> str:
        facts = self.facts
        tongue = {"zh": "zh-CN"}.get(self.language, "en")
        day = text.date(facts.catalog_date, self.language)
        short = escape(self.say("not_a_quotation"), quote=True)
        notice = escape(self.say("not_a_quotation_long"))
        parts = [
            f'<!DOCTYPE html>\n<html lang="{tongue}"><head><meta charset="utf-8">',
            '<meta name="viewport" content="width=device-width, initial-scale=1">',
            f"<title>{escape(facts.title)}</title>\n<style>{_style()}</style></head><body>",
            f"<h1>{escape(facts.title)}</h1>",
            f'<p class="small">{escape(self.say("catalog_of", date=day))}</p>',
            f'<p class="notice" data-short="{short}">{notice}</p>',
            f'<p class="verdict {facts.fits}">{escape(facts.verdict)}</p>',
            self._sums(), self._pairs("head.scenario", facts.scenario),
            self._pairs("head.plan", facts.plan_rows), self._pairs("head.asked", facts.limits),
            self._list("head.why", facts.why), self._speed(), self._memory(), self._bill(),
            self._cost(), self._cloud(), self._list("head.not_included", facts.exclusions),
            self._list("head.know", facts.notes), self._sources(), self._link(), "</body></html>\n",
        ]  # fmt: skip
        return "\n".join(part for part in parts if part)

    def title(self, key: str, **values: Any) -> str:
        return f"<h2>{escape(self.say(key, **values))}</h2>"

    def _sums(self) -> str:
        years = self.cost.terms.years
        boxes = [
            (self.say("total_purchase"), self.cost.purchase),
            (self.say("field.total", years=years), self.cost.total),
        ]
        out = "".join(
            f"<div>{escape(name)}<b>{escape(self.money(amount.value))}</b>"
            f"<span>{escape(self.span(amount))}</span></div>"
            for name, amount in boxes
        )
        per_token = self.cost.per_million_tokens
        if per_token is not None:
            value = escape(self.money(per_token.value, cents=True))
            low, high = (self.money(v, cents=True) for v in (per_token.low, per_token.high))
            out += (
                f"<div>{escape(self.say('per_million'))}<b>{value}</b>"
                f"<span>{escape(f'{low} – {high}')}</span></div>"
            )
        return f'<div class="sums">{out}</div>'

    def _pairs(self, key: str, rows: Sequence[tuple[str, str]]) -> str:
        if not rows:
            return ""
        items = "".join(
            f"<div><dt>{escape(name)}</dt><dd>{escape(value)}</dd></div>" for name, value in rows
        )
        return f'{self.title(key)}<div class="pairs"><dl>{items}</dl></div>'

    def _list(self, key: str, items: Sequence[str]) -> str:
        if not items:
            return ""
        rows = "".join(f"<li>{escape(item)}</li>" for item in items)
        return f"<section>{self.title(key)}<ul>{rows}</ul></section>"

    def _memory(self) -> str:
        memory, parts = self.facts.estimate.memory, self.facts.memory
        whole = max(memory.capacity_gib, memory.total_gib) or 1.0
        bar = "".join(
            f'<i style="width:{100 * part.gib / whole:.2f}%;background:{colour}"></i>'
            for part, colour in zip(parts, _COLOURS)
        )
        rows = "".join(
            f'<tr><td><i class="swatch" style="background:{colour}"></i>{escape(part.label)}</td>'
            f'<td class="n">{escape(self.gib(part.gib))}</td><td></td></tr>\n'
            for part, colour in zip(parts, _COLOURS)
        )
        ends = {
            "total": (memory.total_low_gib, memory.total_high_gib),
            "required": (memory.required_low_gib, memory.required_high_gib),
        }
        for name in ("total", "required", "budget", "capacity", "headroom"):
            value = self.gib(getattr(memory, f"{name}_gib"))
            span = " – ".join(self.gib(end) for end in ends[name]) if name in ends else ""
            mark = ' class="total"' if name in ("total", "headroom") else ""
            label = escape(self.say(f"memory.{name}"))
            rows += (
                f'<tr{mark}><td>{label}</td><td class="n">{escape(value)}</td>'
                f'<td class="n">{escape(span)}</td></tr>\n'
            )
        heads = (("head.part", ""), ("head.value", " class=n"), ("head.interval", " class=n"))
        top = "".join(f'<th scope="col"{c}>{escape(self.say(k))}</th>' for k, c in heads)
        return (
            f'<section>{self.title("memory_title")}<div class="bar">{bar}</div>'
            f"<table><thead><tr>{top}</tr></thead><tbody>{rows}</tbody></table></section>"
        )

    def _speed(self) -> str:
        def shown(value: float | None) -> str:
            return text.significant(value, self.language)

        rows = []
        for row in self.facts.speed:
            both = row.low is not None and row.high is not None
            span = f"{shown(row.low)} – {shown(row.high)}" if both else ""
            rows.append((row.label, shown(row.value), span, row.unit))
        if not rows:
            return ""
        keys = (("item", ""), ("value", "n"), ("interval", "n"), ("unit", ""))
        heads = [(self.say(f"head.{key}"), kind) for key, kind in keys]
        return f"<section>{self.title('head.speed')}{_table(heads, rows)}</section>"

    def _bill(self) -> str:
        lines = [row for row in self.facts.bill if row.line.group == "purchase"]
        rows = [
            (
                row.label, text.decimal(row.line.quantity, self.language),
                self.money(row.line.unit.value, cents=True),
                self.money(row.line.amount.value, cents=True), self.span(row.line.amount),
                row.line.date.text(self.language) if row.line.date else text.NONE,
                short_ids(row.sources),
            )
            for row in lines
        ]  # fmt: skip
        whole = self.cost.purchase
        total = (
            self.say("total_purchase"), "", "", self.money(whole.value, cents=True),
            self.span(whole), "", "",
        )  # fmt: skip
        heads = [
            (self.say("head.item"), ""), (self.say("head.quantity"), "n"),
            (self.say("head.unit_price", currency=self.currency), "n"),
            (self.say("head.amount", currency=self.currency), "n"),
            (self.say("head.range"), "r"), (self.say("head.date"), ""),
            (self.say("head.sources"), ""),
        ]  # fmt: skip
        notes = dict.fromkeys(row.notes for row in lines if row.notes)
        below = "".join(f'<p class="small">{escape(note)}</p>' for note in notes)
        return f"<section>{self.title('sheet.bill')}{_table(heads, rows, total)}{below}</section>"

    def _cost(self) -> str:
        years = self.cost.terms.years
        lines = [row for row in self.facts.bill if row.line.group == "running"]
        one = (self.say("total_purchase"), "", self.money(self.cost.purchase.value, cents=True),
               self.span(self.cost.purchase), "")  # fmt: skip
        rows = [one]
        for row in lines:
            back = row.line.id == "resale"
            rows.append((
                row.label, "" if back else self.money(row.line.unit.value, cents=True),
                self.money(row.line.amount.value, cents=True), self.span(row.line.amount),
                short_ids(row.sources),
            ))  # fmt: skip
        whole = self.cost.total
        total = (self.say("field.total", years=years), "", self.money(whole.value, cents=True),
                 self.span(whole), "")  # fmt: skip
        heads = [
            (self.say("head.item"), ""), (self.say("head.a_year"), "n"),
            (self.say("head.all_years"), "n"), (self.say("head.range"), "r"),
            (self.say("head.sources"), ""),
        ]  # fmt: skip
        rates = ((r.label, self._rate(r.id, r.amount, r.unit), short_ids(r.sources))
                 for r in self.facts.rates.values())  # fmt: skip
        rate_heads = [
            (self.say("inputs_short"), ""), (self.say("head.value"), "n"),
            (self.say("head.sources"), ""),
        ]  # fmt: skip
        table = self.title("field.total", years=years) + _table(heads, rows, total)
        return f"<section>{table}</section><section>{_table(rate_heads, rates)}</section>"

    def _rate(self, name: str, amount: Range, unit: str) -> str:
        shares = ("utilisation", "idle", "support", "staff", "resale")

        def shown(value: float) -> str:
            if name in shares:
                return percent(value, self.language, 1)
            return text.significant(value, self.language, 4)

        words = shown(float(amount.value))
        if amount.low != amount.high:
            ends = f"{shown(float(amount.low))} – {shown(float(amount.high))}"
            words = bracketed(self.language, words, ends)
        return f"{words} {unit}".strip()

    def _cloud(self) -> str:
        title = self.title("cloud_title", currency=self.currency)
        if not self.cost.rents:
            return f"{title}<p>{escape(self.say('no_cloud'))}</p>"
        rows = []
        with_run = any(rent.run for rent in self.cost.rents)
        for rent in self.cost.rents:
            run = self.money(rent.run.value) if rent.run else text.NONE
            month, use = rent.break_even_month, rent.break_even_utilisation
            hourly = rent.rental != "reserved"
            rows.append((
                self.say(f"rental.{rent.rental}"), self.money(rent.per_card_hour.value, cents=True),
                *([run] if with_run else []),
                self.money(rent.total.value), self.span(rent.total),
                text.decimal(month, self.language, 1) if math.isfinite(month)
                else self.say("never"),
                (percent(use, self.language) if math.isfinite(use) else self.say("never_use"))
                if hourly else text.NONE,
                rent.price.date.text(self.language),
                short_ids(self.facts.rent_sources[rent.rental]),
            ))  # fmt: skip
        keys = (
            ("item", ""), ("card_hour", "n"),
            *([("rent_run", "n")] if with_run else []),
            ("rent_total", "n"), ("range", "r"), ("break_month", "n"), ("break_use", "n"),
            ("date", ""), ("sources", ""),
        )  # fmt: skip
        heads = [(self.say(f"head.{key}"), kind) for key, kind in keys]
        return f"<section>{title}{_table(heads, rows)}</section>"

    def _sources(self) -> str:
        rows = [(row.id, row.of, row.text, row.shown) for row in self.facts.sources]
        keys = (("id", "d"), ("of", ""), ("source", ""), ("date", "d"))
        heads = [(self.say(f"head.{key}"), kind) for key, kind in keys]
        return self.title("sheet.sources") + _table(heads, rows, kind="sources")

    def _link(self) -> str:
        facts = self.facts
        link = escape(facts.link, quote=True)
        shown = f'<a href="{link}">{link}</a>' if facts.link.startswith("http") else link
        return f'{self.title("head.link")}<p class="link">{shown}</p>'


# --------------------------------------------------------------------------- PDF


def paper_pdf(plan: Plan, request: Request, language: str = "en", address: str = "") -> bytes:
    """Return the printed page as PDF.

    Args:
        plan: The plan.
        request: What was asked.
        language: ``en`` or ``zh``.
        address: Of the page, put before the link's parameters.

    Raises:
        InputError: WeasyPrint, Pango or, for Chinese, a font is not installed; says which.
    """
    try:
        from weasyprint import HTML as Document
    except ImportError:
        raise InputError("export", "pdf_package") from None  # fmt: skip
    except OSError:
        raise InputError("export", "pdf_pango", packages=_PACKAGES) from None  # fmt: skip
    if language == "zh" and not _has_chinese_font():
        raise InputError("export", "pdf_font")  # fmt: skip
    page = paper_html(plan, request, language, address)
    pdf: bytes = Document(string=page, url_fetcher=_fetch_nothing).write_pdf()
    return pdf


def _fetch_nothing(url: str, *_args: Any, **_kwargs: Any) -> Any:
    """The page holds all that it needs; nothing is ever fetched for it."""
    raise ValueError(f"not fetched: {url}")


def _has_chinese_font() -> bool:
    """Whether fontconfig knows a font with Chinese; yes where it cannot be asked."""
    tool = shutil.which("fc-list")
    if tool is None:
        return True
    done = subprocess.run(
        [tool, ":lang=zh-cn", "family"], capture_output=True, text=True, timeout=20, check=False
    )
    return done.returncode != 0 or bool(done.stdout.strip())
