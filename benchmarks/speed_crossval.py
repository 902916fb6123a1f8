"""Cross-validation of the speed model: what it says of cases, models and cards it has not seen.

    python benchmarks/speed_crossval.py --truth DIR [--json FILE]

``rows``: random fifths of the cases left out. ``model``, ``card``, ``architecture``: every row of
the model, card or GPU architecture left out. Bounds for the coverage come from other rows' errors.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

sys.path.insert(0, str(Path(__file__).resolve().parent.parent))

from configurator.calibrate import CLASSES, coverage, cross_validate, families
from configurator.measured_speeds import EXPECTED_ERROR, read_rows
from configurator.validate import read_cases

NAMES = {"same": "rows", "model": "model", "card": "card", "none": "architecture"}


def line(errors: np.ndarray, inside: np.ndarray) -> dict[str, float]:
    """Return the figures of one cell; errors are logs of measured over predicted."""
    off = np.abs(np.exp(-errors) - 1.0)
    return {
        "n": len(off),
        "median": round(float(np.median(off)), 4),
        "p90": round(float(np.quantile(off, 0.9)), 4),
        "bias": round(float(np.median(np.exp(-errors)) - 1.0), 4),
        "inside_90": round(float(np.mean(inside)), 3),
    }


def table(cases: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return one record for each class left out, quantity and engine (``all`` = every engine)."""
    columns: dict[str, list[Any]] = {"quantity": [], "engine": []}
    values: dict[str, list[np.ndarray]] = {name: [] for name in CLASSES}
    covered: dict[str, list[np.ndarray]] = {name: [] for name in CLASSES}
    for family in families(read_rows(cases)).values():
        columns["quantity"] += [r.quantity for r in family.rows]
        columns["engine"] += [r.engine for r in family.rows]
        for name, errors in cross_validate(family).items():
            values[name].append(errors)
            covered[name].append(coverage(family, errors))
    quantity, engine = np.array(columns["quantity"]), np.array(columns["engine"])
    out = []
    for name in CLASSES:
        errors, inside = np.concatenate(values[name]), np.concatenate(covered[name])
        for wanted in EXPECTED_ERROR:
            for who in ("all", *sorted(set(engine.tolist()))):
                mask = (quantity == wanted) & ~np.isnan(errors)
                if who != "all":
                    mask &= engine == who
                if mask.any():
                    cell = line(errors[mask], inside[mask])
                    out.append({"left_out": NAMES[name], "quantity": wanted, "engine": who, **cell})
    return out


def main() -> None:
    """Print the table; write it as JSON where asked."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--truth", type=Path, required=True, help="folder of *.jsonl cases")
    parser.add_argument("--json", type=Path, help="write the table here too")
    asked = parser.parse_args()
    records = table(read_cases(asked.truth))
    head = ("n", "median", "p90", "bias", "in 90 %")
    print(f"{'left out':<13}{'quantity':<22}{'engine':<14}" + "".join(f"{h:>9}" for h in head))
    for r in records:
        print(
            f"{r['left_out']:<13}{r['quantity']:<22}{r['engine']:<14}{r['n']:>9}"
            f"{r['median']:>9.1%}{r['p90']:>9.1%}{r['bias']:>+9.1%}{r['inside_90']:>9.1%}"
        )
    if asked.json:
        asked.json.write_text(json.dumps(records, indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
