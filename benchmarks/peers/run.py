"""Run the peers that PyPI has, and ourselves, on the same measured cases; print who is how far out.

Each peer is installed by pip into an environment of its own outside the repository and asked by
its adapter in ``adapters/`` inside that environment, one process a peer, one after the other.

Run: python benchmarks/peers/run.py --truth DIR [--only NAME ...] [--json FILE] [--markdown FILE]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import venv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parents[1])]

import report  # noqa: E402
from cases import chosen, ours  # noqa: E402
from registry import PEERS, Peer  # noqa: E402

from configurator.validate import read_cases  # noqa: E402

CACHE = Path("~/.cache/gpu-configurator-peers").expanduser()
SETTINGS = {"OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1", "PYTHONWARNINGS": "ignore"}


def environment(peer: Peer, cache: Path) -> Path:
    """Return the Python of the peer's environment, made and filled on the first call."""
    folder = cache / peer.name
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    done = folder / "installed.json"
    wanted = json.dumps(peer.requirements)
    if done.exists() and done.read_text(encoding="utf-8") == wanted:
        return python
    print(f"{peer.name}: installing {', '.join(peer.requirements)}", file=sys.stderr)
    if not python.exists():
        venv.create(folder, with_pip=True)
    subprocess.run([python, "-m", "pip", "install", "--quiet", *peer.requirements], check=True)
    done.write_text(wanted, encoding="utf-8")
    return python


def ask(peer: Peer, python: Path, questions: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Ask one peer everything; return its answers by case and the seconds from start to end."""
    text = "".join(json.dumps(q) + "\n" for q in questions)
    start = time.perf_counter()
    done = subprocess.run(
        # -P: an adapter has its peer's name and must not be found in its place.
        [python, "-P", HERE / "adapters" / f"{peer.name}.py"],
        input=text, capture_output=True, text=True, check=False,
        env={**os.environ, **SETTINGS, "PYTHONPATH": str(HERE)},
    )  # fmt: skip
    answers = {}
    for line in done.stdout.splitlines():
        answer = json.loads(line)
        answers[answer.pop("id")] = answer
    if len(answers) < len(questions):
        print(f"{peer.name}: stopped early\n{done.stderr[-2000:]}", file=sys.stderr)
    return {"answers": answers, "wall_s": time.perf_counter() - start}


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--truth", type=Path, required=True, help="folder of *.jsonl cases")
    parser.add_argument("--only", nargs="+", choices=[p.name for p in PEERS], default=[])
    parser.add_argument("--cache", type=Path, default=CACHE, help=f"environments (default {CACHE})")
    parser.add_argument("--most", type=int, default=60, help="cases of speed for a slow peer")
    parser.add_argument("--python", nargs="+", default=[], metavar="PEER=PYTHON",
                        help="use an environment that has the pinned version already")  # fmt: skip
    parser.add_argument("--machine", default="", help="where it ran, in words")
    parser.add_argument("--json", type=Path)
    parser.add_argument("--markdown", type=Path)
    return parser.parse_args()


def main() -> None:
    options = _arguments()
    cases = read_cases(options.truth)
    by_id = {case["id"]: case for case in cases}
    ready = dict(item.split("=", 1) for item in options.python)
    results = []
    for peer in PEERS:
        if options.only and peer.name not in options.only:
            continue
        questions = chosen(cases, peer, options.most)
        try:
            python = Path(ready.get(peer.name) or environment(peer, options.cache))
        except subprocess.CalledProcessError:
            print(f"{peer.name}: could not be installed", file=sys.stderr)
            continue
        theirs = ask(peer, python, questions)
        own, seconds = ours({q["id"]: by_id[q["id"]] for q in questions})
        results.append(report.compare(peer, questions, by_id, theirs, own, seconds))
    found = report.document(results, options.machine)
    print(report.text(found))
    if options.json:
        options.json.write_text(json.dumps(found, indent=1) + "\n", encoding="utf-8")
    if options.markdown:
        options.markdown.write_text(report.markdown(found), encoding="utf-8")


if __name__ == "__main__":
    main()
