"""The command line: ``configurator estimate | recommend | check | serve | live | …``."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, TextIO

from configurator.errors import InputError
from configurator.words import DEFAULT_LANGUAGE

Answer = Callable[[Any], dict[str, Any]]


def _lines(path: str, stdin: TextIO) -> Iterator[bytes]:
    if path == "-":
        yield from stdin.buffer
        return
    try:
        with Path(path).open("rb") as file:
            yield from file
    except OSError as error:
        raise InputError("--jsonl", "unreadable", path, reason=error.strerror) from None


def answer_lines(
    lines: Iterator[bytes], answer: Answer, out: TextIO, language: str = DEFAULT_LANGUAGE
) -> int:
    """Answer one JSON object a line, in order; return 1 if any line was bad, else 0.

    A bad line prints ``{"error": {"field", "message", "value"}}`` in its place.
    """
    status = 0
    for line in lines:
        if not line.strip():
            continue
        try:
            text = line.decode("utf-8-sig", errors="replace").strip()
            try:
                data = json.loads(line.decode("utf-8-sig"))
                json.dumps(data, ensure_ascii=False).encode()  # half a surrogate pair is no text
            except (UnicodeDecodeError, UnicodeEncodeError):
                raise InputError("line", "not_utf8", text) from None
            except (ValueError, RecursionError) as error:
                raise InputError("line", "not_json", text, reason=error) from None
            result = answer(data)
        except InputError as error:
            result, status = {"error": error.to_dict(language)}, 1
        out.write(json.dumps(result, ensure_ascii=False, allow_nan=False) + "\n")
        out.flush()
    return status


def _estimate(args: argparse.Namespace) -> int:
    from configurator.estimate import estimate
    from configurator.scenario import parse_scenario

    def answer(data: Any) -> dict[str, Any]:
        return estimate(parse_scenario(data)).to_dict(args.language)

    return answer_lines(_lines(args.jsonl, sys.stdin), answer, sys.stdout, args.language)


def _recommend(args: argparse.Namespace) -> int:
    from configurator.recommend import parse_request, recommend

    def answer(data: Any) -> dict[str, Any]:
        return recommend(parse_request(data)).to_dict(args.language)

    return answer_lines(_lines(args.jsonl, sys.stdin), answer, sys.stdout, args.language)


def _check(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from configurator.catalog import load_catalog
    from configurator.catalog.checks import findings

    catalog = load_catalog(Path(args.catalog) if args.catalog else None)
    found = findings(catalog, datetime.now(UTC).date())
    errors = [f for f in found if f.severity == "error"]
    shown = errors if args.quiet else found
    for finding in shown:
        print(f"{finding.severity}: {finding.file}: {finding.record}: {finding.message}")
    print(
        f"{len(catalog.gpus)} GPUs, {len(catalog.models)} models, "
        f"{len(catalog.purchase_prices)} purchase and {len(catalog.cloud_prices)} cloud prices: "
        f"{len(errors)} errors, {len(found) - len(errors)} remarks"
    )
    return 1 if errors else 0


def page_script() -> Path:
    """Return the page's entry: beside the package in a checkout, inside it in a wheel."""
    package = Path(__file__).resolve().parent
    for path in (package.parent / "streamlit_app.py", package / "_page" / "streamlit_app.py"):
        if path.is_file():
            return path
    raise InputError("serve", "page_missing")


def _serve(args: argparse.Namespace) -> int:
    from configurator.app.serve import serve

    return int(serve(page_script(), args.address, args.port, headless=args.headless))


def _live(args: argparse.Namespace) -> int:
    from configurator.catalog import match_gpu
    from configurator.live import run_live

    return run_live(
        as_json=args.json, as_csv=args.csv, watch_s=args.watch, match=match_gpu,
        record=Path(args.record) if args.record else None,
    )  # fmt: skip


def _import(args: argparse.Namespace) -> int:
    from configurator.importers import import_file, import_hub
    from configurator.words import say

    path = Path(args.source)
    if args.hub and not path.exists():
        found = import_hub(args.source, offline=False)
    else:
        found = import_file(path)
    result = {
        "model": found.model.model_dump(),
        "precision": found.precision,
        "weights_bytes": found.weights_bytes,
        "tensors": found.tensors,
        "notes": [
            {"code": code, "text": say(f"import.{code}", args.language, **values)}
            for code, values in found.notes
        ],
    }
    print(json.dumps(result, ensure_ascii=False))
    return 0


def _measure(args: argparse.Namespace) -> int:
    from configurator.measure import measure_card

    print(json.dumps(measure_card(args.index, args.seconds), ensure_ascii=False))
    return 0


def _article(args: argparse.Namespace) -> int:
    from configurator.article import run_article

    return run_article(args.json, args.language, sys.stdout)


def _calibrate(args: argparse.Namespace) -> int:
    from datetime import UTC, datetime

    from configurator import intervals
    from configurator.calibrate import calibrate
    from configurator.validate import memory_residuals, read_cases

    cases, today = read_cases(*map(Path, args.truth)), datetime.now(UTC).date()
    print(calibrate(cases, today))
    print(intervals.write(memory_residuals(cases), today))
    return 0


def _validate(args: argparse.Namespace) -> int:
    from configurator.validate import (
        compare,
        dump_report,
        format_table,
        read_cases,
        report,
        table,
        worse_than,
    )

    found, failed = compare(read_cases(Path(args.truth)))
    rows = table(found)
    print(format_table(rows))
    for line in failed:
        print(f"failed: {line}", file=sys.stderr)
    result = report(found, failed)
    if args.json:
        Path(args.json).write_text(dump_report(result), encoding="utf-8")
    if args.published:
        published = json.loads(Path(args.published).read_text(encoding="utf-8"))
        worse = worse_than(rows, published["table"])
        for line in worse:
            print(f"worse than published: {line}", file=sys.stderr)
        return 1 if worse or failed else 0
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="configurator", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)

    def command(
        name: str, run: Callable[[argparse.Namespace], int], text: str
    ) -> argparse.ArgumentParser:
        sub = commands.add_parser(name, help=text, description=text)
        sub.set_defaults(run=run)
        return sub

    for name, run, text in (
        ("estimate", _estimate, "one Scenario a line in, one Estimate a line out"),
        ("recommend", _recommend, "one Scenario a line in, one Recommendation a line out"),
    ):
        sub = command(name, run, text)
        sub.add_argument(
            "--jsonl", required=True, metavar="FILE", help="JSON lines; - for standard input"
        )
        sub.add_argument("--language", choices=("en", "zh"), default="en")
    sub = command("check", _check, "check the whole catalog: sources, dates, values")
    sub.add_argument("--catalog", metavar="DIR", help="another catalog than the built-in one")
    sub.add_argument("--quiet", action="store_true", help="print errors only")
    sub = command("validate", _validate, "predicted against measured, as a table")
    sub.add_argument(
        "--truth", required=True, metavar="DIR", help="folder of *.jsonl cases, or one file"
    )
    sub.add_argument("--json", metavar="FILE", help="write table and cases as JSON")
    sub.add_argument(
        "--published", metavar="FILE", help="fail if a median is worse than in this JSON"
    )
    sub = command("calibrate", _calibrate, "fit the speed coefficients and intervals to cases")
    sub.add_argument(
        "--truth", required=True, nargs="+", metavar="DIR",
        help="folders of *.jsonl cases; of cases with one id the first folder's counts",
    )  # fmt: skip
    sub = command(
        "import", _import, "read a model from a GGUF or safetensors header, a folder or the Hub"
    )
    sub.add_argument("source", help="file or folder; with --hub also a repository id")
    sub.add_argument("--hub", action="store_true", help="ask the Hugging Face Hub (needs network)")
    sub.add_argument("--language", choices=("en", "zh"), default="en")
    sub = command(
        "measure", _measure, "measure this card's bandwidth and matrix rate (needs torch)"
    )
    sub.add_argument("--index", type=int, default=0, help="which GPU")
    sub.add_argument("--seconds", type=float, default=60.0, help="time for all tests")
    sub = command("article", _article, "the article's statements and what holds of them")
    sub.add_argument("--json", action="store_true", help="one JSON object")
    sub.add_argument("--language", choices=("en", "zh"), default="en")
    sub = command("serve", _serve, "open the page")
    sub.add_argument("--address", default="127.0.0.1")
    sub.add_argument("--port", type=int, default=8501)
    sub.add_argument("--headless", action="store_true", help="do not open a browser")
    sub = command("live", _live, "read this machine's GPUs (exit status 3: none found)")
    form = sub.add_mutually_exclusive_group()
    form.add_argument("--json", action="store_true", help="one JSON object")
    form.add_argument("--csv", action="store_true", help="CSV rows")
    sub.add_argument("--watch", type=float, nargs="?", const=1.0, metavar="SECONDS", help="repeat")
    sub.add_argument("--record", metavar="FILE", help="append every sample to a CSV file")
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command and return its exit status."""
    args = _parser().parse_args(arguments)
    try:
        return int(args.run(args))
    except InputError as error:
        said = error.to_dict(getattr(args, "language", DEFAULT_LANGUAGE))
        print(json.dumps({"error": said}, ensure_ascii=False), file=sys.stderr)
        return 2
    except BrokenPipeError:
        return 0


if __name__ == "__main__":
    sys.exit(main())
