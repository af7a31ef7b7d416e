"""Calibration, check, plan and page: what `make capacity` runs.

One JSON line goes to `bench/results/capacity.jsonl`, the page and its pictures to
`docs/explanation/`. `--page` renders them anew from the newest line.

    python bench/capacity/whole.py [--rounds 5] [--keep FILE] [--from FILE] [--page]
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parents[1]))
from calibrate import BATCH, clean
from capacity_page import write_capacity
from check import TooBusy, check, costs_of, facts_of
from costs import Costs
from plan import cell, needs
from rounds import QUIET, releases, run_rounds
from serving import setting

RESULTS = Path(__file__).parents[1] / "results" / "capacity.jsonl"
PLANNED = (1e3, 1e4, 1e5, 1e6)


def judge(run: dict[str, Any]) -> dict[str, Any]:
    """Return everything that the page says of a run."""
    costs = costs_of(run, quiet=QUIET)
    facts = facts_of(run, quiet=QUIET)
    print("predicting", file=sys.stderr, flush=True)
    rows = check(run, costs, quiet=QUIET)
    return {
        "loads": len(run["points"]),
        "kept": len(clean(run["points"], quiet=QUIET)),
        "costs": {model: about(each) for model, each in costs.items()},
        "rows": rows,
        "facts": facts,
        "plan": {model: planned(costs[model], BATCH[model], facts) for model in costs},
    }


def about(costs: Costs) -> dict[str, Any]:
    """Return costs as JSON takes them: of the gaps, how many and how long."""
    fields = asdict(costs)
    gaps = fields.pop("gaps")
    return {**fields, "gap_mean": sum(gaps) / len(gaps) if gaps else 0.0}


def without_seconds(setting: dict[str, Any]) -> dict[str, Any]:
    """Return what is known of a run; its loads are of several lengths."""
    return {name: value for name, value in setting.items() if name != "seconds"}


def planned(costs: Costs, max_batch: int, facts: dict[str, Any]) -> dict[str, Any]:
    """Return the cell of a model and what each rate takes."""
    one = cell(costs, max_batch=max_batch)
    return {
        "cell": asdict(one),
        "needs": {
            f"{rate:.0f}": [asdict(need) for need in needs(costs, one, facts, rate)]
            for rate in PLANNED
        },
    }


def main() -> None:
    """Measure, or take what was measured before; keep the figures and render the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--minutes", type=float, default=30.0, help="after which no load begins")
    parser.add_argument("--keep", type=Path, help="write every point measured to this file")
    parser.add_argument("--from", dest="source", type=Path, help="take the points of this file")
    parser.add_argument("--page", action="store_true", help="only render the newest line anew")
    options = parser.parse_args()
    if not options.page:
        before = without_seconds(setting(options.rounds, 0.0))
        if options.source:
            run = json.loads(options.source.read_text())
        else:
            run = {"releases": [releases() for _ in range(3)]}
            run = {**run, "about": before, **run_rounds(options.rounds, minutes=options.minutes)}
        if options.keep:
            options.keep.write_text(json.dumps(run))
        try:
            line = {**run.get("about", before), **judge(run)}
        except TooBusy as err:
            raise SystemExit(f"nothing to say: {err}") from err
        with RESULTS.open("a") as sink:
            sink.write(json.dumps(line) + "\n")
    newest = json.loads(RESULTS.read_text().splitlines()[-1])
    print(write_capacity(newest))


if __name__ == "__main__":
    main()
