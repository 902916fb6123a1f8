"""Papers of a plan: the workbook's formulas, the printed page, JSON; price lists; comparing."""

from __future__ import annotations

import datetime as dt
import io
import json
import re
import shutil
import subprocess
import zipfile
from functools import lru_cache
from html import escape
from html.parser import HTMLParser
from urllib.parse import parse_qsl

import pytest

from configurator.catalog import load_catalog
from configurator.cost import Range
from configurator.errors import InputError
from configurator.estimate import estimate
from configurator.export import paper, prices
from configurator.export.compare import compare
from configurator.export.facts import facts_of, short_ids
from configurator.export.paper import paper_html, paper_json, paper_pdf
from configurator.export.prices import prices_template, read_prices
from configurator.export.sheets import assembly, workbook, xlsxwriter
from configurator.export.sheets.bill import _base, _excel_cents
from configurator.export.sheets.book import SHEETS, Book
from configurator.export.sheets.cost import RUNNING
from configurator.link import decode
from configurator.recommend import Plan, parse_request, recommend
from configurator.scenario import parse_scenario
from configurator.words import messages, say

openpyxl = pytest.importorskip("openpyxl")
CATALOG = load_catalog()
LANGUAGES = ("en", "zh")
R1 = {
    "model": "deepseek-ai/DeepSeek-R1",
    "inference": {"concurrency": 64, "input_tokens": 2048, "output_tokens": 1024},
}
SEVEN = {"model": "Qwen/Qwen2.5-7B-Instruct", "inference": {"concurrency": 8}}
TUNING = {
    "model": "Qwen/Qwen3-8B",
    "task": "fine_tuning",
    "training": {"method": "lora", "gradient_checkpointing": True},
}
RATES = {"support_share": 0.08, "staff_share": 0.2, "resale_share": 0.15, "pue": 1.35}
OWN = {"gpu": "rtx-4090", "price": 12999.01, "date": "2026-10-01", "currency": "CNY"}
CASES = {
    "servers in yuan": (R1, "enterprise", {"currency": "CNY", "region": "China"}),
    "servers in dollars": (R1, "enterprise", {"years": 5, "utilisation": 0.3, **RATES}),
    "desktop": (SEVEN, "individual", {"currency": "CNY", "tariff_per_kwh": 0.617}),
    "own price": (
        SEVEN, "individual", {"currency": "CNY", "gpus": ["rtx-4090"], "prices": [OWN], **RATES},
    ),
    "tuning": (TUNING, "sme", {"currency": "CNY", "hosting_per_kw_month": 1234.567, **RATES}),
    "also bought": (
        SEVEN, "sme", {"currency": "CNY", "cny_per_usd": 7.43,
                       "tiers": {"sme": {"other_purchase": 12_345.67}}, **RATES},
    ),
}  # fmt: skip


@lru_cache(maxsize=8)
def plan_of(case: str) -> Plan:
    scenario, tier, more = CASES[case]
    return recommend(parse_request({"scenario": scenario, **more})).tiers[tier][0]


@lru_cache(maxsize=16)
def book_of(case: str, language: str = "en") -> bytes:
    plan = plan_of(case)
    return workbook(plan, plan.request, language)


def name(sheet: str, language: str = "en") -> str:
    return say(f"export.sheet.{sheet}", language)


def rows_of(data: bytes, sheet: str, language: str = "en", values: bool = True):
    book = openpyxl.load_workbook(io.BytesIO(data), data_only=values)
    return [list(row) for row in book[name(sheet, language)].iter_rows(values_only=True)]


def find(rows, label: str):
    return next(row for row in rows if row[0] == label)


# ------------------------------------------------------------------ the workbook


def test_spare_decimals_round_as_the_engine_does():
    # A spreadsheet rounds half a cent up, Python to even: the base moves, the sum does not.
    assert _excel_cents(5103.125) == 5103.13
    assert _excel_cents(_base(5103.125, 1.0, 5103.12)) == 5103.12
    assert _excel_cents(_base(2.675, 1.0, 2.67)) == 2.67
    assert _base(4.0, 7.1, 28.4) == 4.0


@pytest.mark.parametrize("case", CASES)
def test_cached_values_are_the_engines(case):
    cost, rows = plan_of(case).cost, rows_of(book_of(case), "cost")
    for key, amount in (("total_purchase", cost.purchase), ("total_cost", cost.total)):
        found = find(rows, say(f"export.{key}", "en"))
        assert found[1:4] == [amount.value, amount.low, amount.high]


@pytest.mark.parametrize("case", CASES)
def test_inputs_agree_with_the_plan(case):
    plan = plan_of(case)
    facts = facts_of(plan, plan.request, "en")
    card, host = (facts.rates[key].amount.value for key in ("card_w", "host_w"))
    watts = facts.installed * card + plan.nodes * host
    assert watts == pytest.approx(plan.cost.peak_power_w)
    assert sum(part.gib for part in facts.memory) == pytest.approx(plan.estimate.memory.total_gib)


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_paper_writes_dates_as_exact_as_they_are(language):
    asked = {"scenario": {"model": "Qwen/Qwen3-8B"}, "gpus": ["l40s"]}
    plan = recommend(parse_request(asked)).tiers["sme"][0]
    dates = {line.id: line.date.text(language) for line in plan.cost.lines if line.date}
    assert dates["chassis"] == {"en": "2024", "zh": "2024年"}[language]
    book = workbook(plan, plan.request, language)
    bill = rows_of(book, "bill", language)
    for line in (x for x in plan.cost.lines if x.group == "purchase"):
        row = find(bill, say(f"cost.line.{line.id}", language, name=line.text))
        assert row[7] == dates[line.id]
    row = find(rows_of(book, "summary", language), say("export.price_dates", language))
    assert row[1] == plan.cost.dates_text(language)
    listed = {row[2]: row[3] for row in rows_of(book, "sources", language)[1:]}
    assert all(listed[x.source] == dates[x.id] for x in plan.cost.lines if x.date)
    page = paper_html(plan, plan.request, language)
    assert all(f">{text}<" in page for text in dates.values())
    assert not re.search(r"Jan 1, 20|年1月1日", page)
    amount = paper_json(plan, plan.request, language)["cost"]["purchase"]
    assert (amount["price_date_precision"], amount["price_undated"]) == ("year", "some")
    row = next(r for r in compare([plan, plan], language) if r.id == "price_date")
    assert row.texts[0] == dates["card"]


def test_one_exact_day_is_a_date_in_the_workbook():
    asked = {"scenario": {"model": "Qwen/Qwen3-8B"}, "prices": [OWN], "gpus": [OWN["gpu"]]}
    plan = recommend(parse_request(asked)).plans[0]
    rows = rows_of(workbook(plan, plan.request), "bill")
    assert find(rows, plan.name)[7] == dt.datetime(2026, 10, 1)


def soffice() -> str:
    tool = shutil.which("soffice")
    if tool is None:
        pytest.skip("LibreOffice is not here")
    return tool


def recalculated(data: bytes, folder, changes=()) -> bytes:
    """Change input cells, drop every stored result, and let LibreOffice calculate."""
    if changes:
        book = openpyxl.load_workbook(io.BytesIO(data))
        for sheet, label, value in changes:
            page = book[name(sheet)]
            at = next(row for row in page.iter_rows() if row[0].value == label)
            at[1].value = value
        out = io.BytesIO()
        book.save(out)
        data = out.getvalue()
    source = folder / "given.xlsx"
    with zipfile.ZipFile(io.BytesIO(data)) as old, zipfile.ZipFile(source, "w") as new:
        for item in old.infolist():
            content = old.read(item)
            if item.filename.startswith("xl/worksheets/sheet"):
                content = re.sub(rb"(</f>)<v>[^<]*</v>", rb"\1", content)
                assert b"</f><v>" not in content
            new.writestr(item, content)
    out_dir = folder / "calculated"
    profile = f"-env:UserInstallation=file://{folder}/profile"
    subprocess.run(
        [soffice(), profile, "--headless", "--convert-to", "xlsx", "--outdir", str(out_dir),
         str(source)], check=True, capture_output=True, timeout=180,
    )  # fmt: skip
    return (out_dir / "given.xlsx").read_bytes()


@pytest.mark.parametrize("case", CASES)
def test_libreoffice_calculates_our_totals_to_the_cent(case, tmp_path):
    soffice()
    plan, stored = plan_of(case), book_of(case)
    data = recalculated(stored, tmp_path)
    bill, cost = rows_of(data, "bill"), rows_of(data, "cost")

    def cents(row, columns=(1, 2, 3)):
        return [round(row[column], 2) for column in columns]

    def ours(amount: Range):
        return [amount.value, amount.low, amount.high]

    for row, line in zip(bill[1:], (x for x in plan.cost.lines if x.group == "purchase")):
        assert cents(row, (3, 4, 5)) == ours(line.amount)
    total = find(bill, say("export.total_purchase", "en"))
    assert cents(total, (3, 4, 5)) == ours(plan.cost.purchase)
    assert cents(find(cost, say("export.total_cost", "en"))) == ours(plan.cost.total)
    for key in RUNNING:
        row = find(cost, say(f"cost.line.{key}", "en"))
        line = next((x for x in plan.cost.lines if x.id == key), None)
        assert cents(row) == (ours(line.amount) if line else [0, 0, 0])
    for rent in plan.cost.rents:
        label = say("export.rent.total", "en", rental=say(f"export.rental.{rent.rental}", "en"))
        assert cents(find(cost, label)) == ours(rent.total)
    # Every other cell with a number says what the engine said.
    for sheet in ("summary", "bill", "cost", "memory"):
        for given, found in zip(rows_of(stored, sheet), rows_of(data, sheet)):
            for one, other in zip(given, found):
                if isinstance(one, int | float) and not isinstance(one, bool):
                    assert other == pytest.approx(one, rel=2e-6, abs=0.006)


def test_workbook_is_live(tmp_path):
    soffice()
    scenario, tier, more = CASES["servers in yuan"]
    changed = {**more, "tariff_per_kwh": 1.5, "pue": 1.8, "years": 5, "utilisation": 0.9}
    first = plan_of("servers in yuan")
    asked = parse_request({"scenario": scenario, **changed, "plans": 100, "gpus": [first.gpu]})
    plan = next(
        p for p in recommend(asked).tiers[tier]
        if (p.gpu, p.bought, p.nodes) == (first.gpu, first.bought, first.nodes)
    )  # fmt: skip
    labels = {
        key: say(f"export.rate.{key}", "en") for key in ("years", "utilisation", "tariff", "pue")
    }
    values = {"years": 5, "utilisation": 0.9, "tariff": 1.5, "pue": 1.8}
    changes = [("cost", labels[key], value) for key, value in values.items()]
    rows = rows_of(recalculated(book_of("servers in yuan"), tmp_path, changes), "cost")
    total = find(rows, say("export.total_cost", "en"))[1]
    assert total == pytest.approx(plan.cost.total.value, abs=0.02)
    assert total > first.cost.total.value


@pytest.mark.parametrize("language", LANGUAGES)
def test_text_that_looks_like_a_formula_stays_text(language):
    evil = '=HYPERLINK("http://evil.example","x")'
    plan = plan_of("desktop")
    facts = facts_of(plan, plan.request, language)
    out = io.BytesIO()
    book = xlsxwriter().Workbook(out, {"in_memory": True, "strings_to_formulas": False})
    pairs = ((evil, "+1"), ("@SUM(A1)", "-2"), *facts.scenario)
    fields = {**facts.__dict__, "title": evil, "scenario": pairs, "exclusions": (evil,)}
    fields["notes"] = (evil, "<script>")
    assembly.write(Book(book, type(facts)(**fields)))
    book.close()
    book = openpyxl.load_workbook(io.BytesIO(out.getvalue()))
    texts = [
        cell for sheet in book for row in sheet.iter_rows() for cell in row if cell.value == evil
    ]
    assert len(texts) == 4
    assert {cell.data_type for cell in texts} == {"s"}
    with zipfile.ZipFile(io.BytesIO(out.getvalue())) as archive:
        for item in archive.namelist():
            if "worksheets/sheet" in item:
                assert b"HYPERLINK" not in archive.read(item)


@pytest.mark.parametrize("language", LANGUAGES)
def test_every_sheet_prints_on_one_page_width(language):
    book = openpyxl.load_workbook(io.BytesIO(book_of("desktop", language)))
    assert book.sheetnames == [name(sheet, language) for sheet in SHEETS]
    for sheet in book:
        assert sheet.print_area
        assert sheet.page_setup.paperSize == 9
        assert (sheet.page_setup.fitToWidth or 1, sheet.page_setup.fitToHeight) == (1, 0)
    assert book[name("bill", language)].freeze_panes == "A2"


# ------------------------------------------------------------------ sources


@pytest.mark.parametrize("case", CASES)
def test_every_figures_source_is_among_the_sources(case):
    plan = plan_of(case)
    texts = {row[2] for row in rows_of(book_of(case), "sources")[1:]}
    cost = plan.cost
    named = {line.source for line in cost.lines if line.source and line.source != "given"}
    named |= {source.text for source in plan.terms.sources.values() if source.text != "given"}
    named |= {text for rent in cost.rents for text in rent.price.sources}
    gpu = CATALOG.gpu(plan.gpu)
    named |= {gpu.tdp_w.source, (gpu.memory_mib or gpu.memory_gb).source, gpu.bandwidth_gb_s.source}
    named.add(CATALOG.model(plan.scenario.model).source)
    assert named <= texts
    ids = {row[0] for row in rows_of(book_of(case), "sources")[1:]}
    data = paper_json(plan, plan.request)
    used = set(
        re.findall(r'"(S\d+)"', json.dumps({k: v for k, v in data.items() if k != "sources"}))
    )
    assert used <= ids
    assert used
    assert all(line["source_ids"] for line in data["bill_of_materials"])


def test_runs_of_sources_are_short():
    assert short_ids("S3, S9, S8, S7, S12, S13") == "S3, S7–S9, S12, S13"
    assert short_ids("") == ""


# ------------------------------------------------------------------ JSON


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("case", CASES)
def test_json_comes_back_as_it_was(case, language):
    plan = plan_of(case)
    data = paper_json(plan, plan.request, language, "https://example.org/")
    again = json.loads(json.dumps(data, allow_nan=False))
    assert again == data
    assert parse_scenario(data["scenario"]) == plan.scenario
    address, _, query = data["link"].partition("?")
    scenario, problems = decode(dict(parse_qsl(query)))
    assert (address, scenario, problems) == ("https://example.org/", plan.scenario, [])
    assert dict(parse_qsl(query))["cat"] == CATALOG.version
    bought = [x["amount"]["amount"] for x in data["bill_of_materials"] if x["group"] == "purchase"]
    assert round(sum(bought), 2) == data["cost"]["purchase"]["amount"]
    assert data["exclusions"]
    assert data["notice"] == say("export.not_a_quotation", language)
    request = parse_request({"scenario": data["scenario"], **data["request"]})
    assert request.model_dump(exclude={"scenario"}) == plan.request.model_dump(exclude={"scenario"})


# ------------------------------------------------------------------ the printed page


class Reader(HTMLParser):
    """Collects text, and what would be fetched."""

    def __init__(self):
        super().__init__()
        self.text, self.tags, self.fetched = [], [], []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        if tag in ("script", "link", "img", "iframe", "object", "base"):
            self.fetched.append(tag)
        self.fetched += [value for key, value in attrs if key in ("src", "srcset", "style")
                         and "url" in (value or "")]  # fmt: skip

    def handle_data(self, data):
        self.text.append(data)


@pytest.mark.parametrize("language", LANGUAGES)
@pytest.mark.parametrize("case", CASES)
def test_page_is_whole_and_needs_nothing(case, language):
    plan = plan_of(case)
    page = paper_html(plan, plan.request, language)
    reader = Reader()
    reader.feed(page)
    assert reader.fetched == []
    assert "url(" not in page
    assert "@import" not in page
    text = " ".join(reader.text)
    facts = facts_of(plan, plan.request, language)
    for part in (*facts.exclusions, *facts.notes, facts.verdict, *(s.text for s in facts.sources)):
        assert part in text
    assert say("export.not_a_quotation_long", language) in text


def test_page_escapes_what_users_give():
    evil = '<script>alert(1)</script>" onload="x'
    config = {**CATALOG.model_config(SEVEN["model"])}
    scenario = {**SEVEN, "model": {"config": config, "name": evil}}
    plan = recommend(parse_request({"scenario": scenario})).plans[0]
    page = paper_html(plan, plan.request, "en", 'javascript:alert(1)//"><b>')
    assert "<script" not in page
    assert "<b>a" not in page
    assert 'href="javascript' not in page
    assert "&lt;script&gt;" in page


@pytest.mark.parametrize("language", LANGUAGES)
def test_pdf_has_pages_and_text(language, tmp_path):
    pytest.importorskip("weasyprint", exc_type=ImportError)
    tools = [shutil.which(tool) for tool in ("pdftotext", "pdfinfo")]
    if None in tools or (language == "zh" and not paper._has_chinese_font()):
        pytest.skip("poppler-utils or a Chinese font is not here")
    plan = plan_of("desktop")
    file = tmp_path / "paper.pdf"
    file.write_bytes(paper_pdf(plan, plan.request, language))

    def run(*command) -> str:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    info = run(tools[1], str(file))
    assert 2 <= int(re.search(r"Pages:\s+(\d+)", info)[1]) <= 6
    assert "A4" in info
    text = run(tools[0], str(file), "-")
    for key in ("sheet.bill", "sheet.sources", "not_a_quotation", "head.not_included"):
        assert say(f"export.{key}", language) in text
    assert plan.name in text


@pytest.mark.parametrize(
    ("module", "call", "extra"),
    [
        ("xlsxwriter", lambda p: workbook(p, p.request), "[export]"),
        ("weasyprint", lambda p: paper_pdf(p, p.request), "[pdf]"),
        ("openpyxl", lambda p: read_prices("x.xlsx", prices_template()), "[export]"),
    ],
)
def test_a_missing_extra_is_named(module, call, extra, monkeypatch):
    plan = plan_of("desktop")
    prices_template()
    monkeypatch.setitem(__import__("sys").modules, module, None)
    with pytest.raises(InputError) as caught:
        call(plan)
    assert extra in caught.value.text()


def test_a_missing_font_is_named(monkeypatch):
    pytest.importorskip("weasyprint", exc_type=ImportError)
    monkeypatch.setattr(paper, "_has_chinese_font", lambda: False)
    plan = plan_of("desktop")
    with pytest.raises(InputError, match="fonts-noto-cjk"):
        paper_pdf(plan, plan.request, "zh")


# ------------------------------------------------------------------ price lists

LINES = [
    ("gpu", "price", "currency", "date"),
    ("rtx-4090", 12999.5, "CNY", dt.date(2026, 10, 1)),
    ("no-such-card", 1, "USD", dt.date(2026, 10, 1)),
    ("h100-sxm", "=1+1", "USD", dt.date(2026, 10, 1)),
    ("rtx-3090", -5, "USD", dt.date(2026, 10, 1)),
    (None, None, None, None),
    ("a100-sxm4-80", 9000, "EUR", dt.date(2026, 10, 1)),
    ("h200-sxm", 30000, "USD", "soon"),
    ("l20", None, "USD", None),
]


def xlsx(lines) -> bytes:
    book = openpyxl.Workbook()
    for line in lines:
        book.active.append(line)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def as_csv(lines, codec: str) -> bytes:
    text = "\n".join(",".join("" if cell is None else str(cell) for cell in x) for x in lines)
    return text.encode(codec)


@pytest.mark.parametrize(
    "data",
    [xlsx(LINES), *(as_csv(LINES, c) for c in ("utf-8-sig", "utf-16", "gb18030"))],
    ids=["xlsx", "utf-8", "utf-16", "gb18030"],
)
def test_a_price_list_is_read_line_by_line(data):
    found, problems = read_prices("prices", data)
    assert [(p.gpu, p.price, p.currency, p.date) for p in found] == [
        ("rtx-4090", 12999.5, "CNY", dt.date(2026, 10, 1))
    ]
    assert [(p.line, p.error.field) for p in problems] == [
        (3, "gpu"), (4, "price"), (5, "price"), (7, "currency"), (8, "date"),
    ]  # fmt: skip
    # A formula is text, never a number of ours.
    assert problems[1].error.value == "=1+1"


def test_a_price_list_with_line_ends_of_old_macs_is_read():
    found, problems = read_prices(
        "p.csv", b"gpu,price,currency,date\rrtx-4090,1500,USD,2026-01-01\r"
    )
    assert [price.gpu for price in found] == ["rtx-4090"]
    assert not problems


def test_an_endless_cell_is_an_error():
    data = b'gpu,price,currency,date\n"' + b"x" * 140_000 + b'",1,USD,2026-01-01\n'
    with pytest.raises(InputError) as raised:
        read_prices("p.csv", data)
    assert raised.value.field == "prices"


def test_chinese_text_in_a_gbk_file_is_kept():
    _, problems = read_prices(
        "价格.csv", "gpu,price,currency,date\n显卡,1,CNY,2026-01-01\n".encode("gbk")
    )
    assert problems[0].error.value == "显卡"


@pytest.mark.parametrize(
    "data",
    [b"PK\x03\x04broken", b"\xd0\xcf\x11\xe0\x00\x00old xls", b"\x89PNG\r\n\x00", b"",
     b"gpu,price\nx,1", b"x" * (prices.MAX_BYTES + 1)],
    ids=["zip", "xls", "png", "empty", "columns", "large"],
)  # fmt: skip
def test_a_file_that_cannot_be_used_says_so(data):
    with pytest.raises(InputError) as caught:
        read_prices("file", data)
    assert caught.value.field == "prices"


def test_a_zip_bomb_is_refused_unread():
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"0" * (prices.MAX_UNPACKED_BYTES + 1))
    with pytest.raises(InputError, match="unpacks"):
        read_prices("bomb.xlsx", out.getvalue())


@pytest.mark.parametrize("language", LANGUAGES)
def test_the_template_comes_back_filled_in(language):
    data = prices_template(language, gpus=["rtx-4090", "h100-sxm"])
    assert read_prices("template.xlsx", data) == ((), ())
    book = openpyxl.load_workbook(io.BytesIO(data))
    sheet = book.worksheets[0]
    sheet["B3"], sheet["D3"] = 21000, dt.datetime(2026, 11, 1)
    out = io.BytesIO()
    book.save(out)
    (price,), problems = read_prices("mine.xlsx", out.getvalue())
    assert (price.gpu, price.price, price.date) == ("h100-sxm", 21000, dt.date(2026, 11, 1))
    assert problems == ()


# ------------------------------------------------------------------ side by side


@pytest.mark.parametrize("language", LANGUAGES)
def test_plans_side_by_side(language):
    plans = recommend(parse_request({"scenario": R1, "plans": 4})).tiers["enterprise"][:4]
    rows = {row.id: row for row in compare(plans, language)}
    assert all(len(row.texts) == len(row.values) == len(plans) for row in rows.values())
    totals = [plan.cost.total.value for plan in plans]
    assert rows["total"].best == (totals.index(min(totals)),)
    assert rows["gpu"].differs
    same = compare([plans[0], plans[0]], language)
    assert not any(row.differs or row.best for row in same)


def test_compare_refuses_what_it_cannot_compare():
    plan, other = plan_of("desktop"), plan_of("servers in dollars")
    for plans in ([plan], [plan] * 5, [plan, other]):
        with pytest.raises(InputError):
            compare(plans)


@pytest.mark.parametrize("language", LANGUAGES)
def test_limits_moved_for_a_class_of_buyer_are_on_paper(language):
    asked = {
        "scenario": {"model": "Qwen/Qwen3-8B"}, "owned": {"rtx-4090": 2},
        "tiers": {"individual": {"max_budget": 20_000}}, "accept_tight": True,
    }  # fmt: skip
    request = parse_request(asked)
    plan = recommend(request).plans[0]
    rows = paper_html(plan, request, language, "http://localhost/")
    assert "20,000" in rows
    assert "2 × GeForce RTX 4090" in rows
    assert say("app.tier.individual", language) in rows
    assert escape(say("app.field.accept_tight", language)) in rows


@pytest.mark.parametrize("language", ["en", "zh"])
def test_every_figure_of_a_formula_has_a_name(language):
    training = {"task": "fine_tuning", "training": {"method": "lora", "sharding": "zero3"}}
    asked = [
        *({"engine": name} for name in ("vllm", "sglang", "tensorrt_llm", "llama_cpp")),
        {"engine": "transformers"}, {"engine": "deepspeed", **training},
    ]  # fmt: skip
    for raw in asked:
        answer = estimate(parse_scenario({
            "model": "Qwen/Qwen3-30B-A3B", "hardware": {"gpu": "h200-sxm", "gpu_count": 2}, **raw,
        }))  # fmt: skip
        for given in (given for term in answer.terms for given in term.inputs):
            keys = (f"{group}.{given.symbol}" for group in
                    ("app.symbol", "export.symbol", "app.field"))  # fmt: skip
            assert any(key in messages(language) for key in keys), given.symbol
