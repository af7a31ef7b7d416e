"""What a job did, for people: what was used, by which code, under whose rule, what went to whom.

No value of any table is in it, no metric and no aggregate. With `[privacy]` the number of rows is
left out as well: that would be told without noise. Of rows that owners matched it is told
that they are no fewer than the smallest join: everybody is given the report, also who is to have no
result, and whatever else were said of their number would say whether one person is there.
"""

import html
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from wardian.broker.jobs.merge import OutputTerms
from wardian.broker.jobs.plan import JobPlan, plan_digest
from wardian.broker.jobs.policy import table_place
from wardian.broker.tables.content import TableKey
from wardian.learning.shared.joining import owners_of
from wardian.learning.shared.outputs import HeldOutputs
from wardian.learning.shared.rows import are_matched

FORMAT: Final = "wardian job report v1"


def planned(plan: JobPlan) -> Mapping[str, Any]:
    """Return the part of a report that the plan alone says: who has the plan can look."""
    return {
        "mesh": plan.mesh,
        "job": plan.name,
        "purpose": plan.purpose,
        "plan_digest": plan_digest(plan).hex(),
        "algorithm": plan.train.algorithm,
        "parameters": dict(sorted(plan.train.parameters.items())),
        "join": plan.join.kind if plan.join else None,
        "tables": [
            {
                "owner": used.owner,
                "owner_key": plan.parties[used.owner].key,
                "table": used.table,
                "columns": sorted(used.columns),
                "identifier": used.identifier,
                "label": used.label,
            }
            for used in plan.inputs
        ],
        "terms": {
            "epsilon": plan.privacy.epsilon if plan.privacy else None,
            "delta": plan.privacy.delta if plan.privacy else None,
        },
    }


def report_of(
    plan: JobPlan,
    keys: Iterable[TableKey],
    terms: OutputTerms,
    held: HeldOutputs,
    *,
    rows: int,
    job_id: bytes,
    measurement: str,
) -> Mapping[str, Any]:
    """Return the report as a table of texts, numbers and lists.

    Args:
        plan: the job.
        keys: of all tables, as the broker gave them: under whose policy and rule.
        terms: what held for what came out.
        held: that.
        rows: of the join.
        job_id: of the broker's debit, 32 bytes: by it the lines of the audit log are found.
        measurement: of the code that ran, in hex.
    """
    given = {table_place(each.owner, each.table): each for each in keys}
    wanted, tables = planned(plan), []
    for used, said in zip(plan.inputs, wanted["tables"], strict=True):
        key = given[plan.place(used)]
        more = {"policy_serial": key.serial, "rule": key.rule, "pin": str(key.pin)}
        tables.append({**said, **more})
    return {
        "format": FORMAT,
        **wanted,
        "job_id": job_id.hex(),
        "measurement": measurement,
        **_rows(plan, terms, rows),
        "tables": tables,
        "terms": _terms(wanted["terms"], terms),
        "outputs": [
            {
                "output": each.output,
                "to": each.to,
                "sealed_to": plan.parties[each.to].seal_to if each.to in plan.parties else None,
                "file": each.file_name,
                "name": each.name,
                "media_type": each.media_type,
                "pin": str(each.pin),
                "sealed_bytes": each.sealed_bytes,
            }
            for each in held.outputs
        ],
        "export_digest": held.digest.hex(),
    }


def _rows(plan: JobPlan, terms: OutputTerms, rows: int) -> Mapping[str, int | None]:
    if plan.privacy:
        return {"rows": None, "rows_at_least": None}
    if not are_matched(owners_of(plan)):
        return {"rows": rows, "rows_at_least": rows}
    return {"rows": None, "rows_at_least": terms.smallest_join}


def rows_told(report: Mapping[str, Any]) -> str:
    """Return what `report` says of how many rows there are, for people.

    One of an older release has no `rows_at_least`.
    """
    rows, least = report["rows"], report.get("rows_at_least")
    if rows is not None:
        return str(rows)
    return "not told" if least is None else f"{least} or more"


def _terms(wanted: Mapping[str, Any], terms: OutputTerms) -> Mapping[str, Any]:
    approvals = [{"needed": each.needed, "of": sorted(each.of)} for each in terms.approvals]
    return {
        "smallest_join": terms.smallest_join,
        "smallest_cohort": terms.smallest_cohort,
        **wanted,
        "approvals": sorted(approvals, key=lambda each: (each["of"], each["needed"])),
    }


def as_json(report: Mapping[str, Any]) -> bytes:
    """Return `report` as JSON to read."""
    return (json.dumps(report, indent=2, ensure_ascii=False) + "\n").encode()


def as_html(report: Mapping[str, Any], *, verified: Mapping[str, str] | None = None) -> bytes:
    """Return `report` as one page without scripts, images or links.

    Args:
        report: see `report_of`.
        verified: what whoever makes the page has found out of the evidence, by name; None: nobody
            has verified it, which the page then says first.
    """
    if verified is None:
        parts = [_UNVERIFIED]
    else:
        parts = ["<h2>What was verified</h2>" + _lines(verified, tuple(verified)), "<h2>Job</h2>"]
    shown = {**report, "rows": rows_told(report)}
    parts.append(_lines(shown, ("mesh", "purpose", "algorithm", "join", "rows")))
    parts.append(
        _table(
            "What was used",
            report["tables"],
            ("owner", "table", "columns", "identifier", "label", "policy_serial", "rule"),
        )
    )
    parts.append(
        _table("What came out", report["outputs"], ("output", "to", "file", "sealed_bytes", "pin"))
    )
    parts.append("<h2>What held</h2>" + _lines(report["terms"], tuple(report["terms"])))
    parts.append("<h2>Parameters</h2>" + _lines(report["parameters"], tuple(report["parameters"])))
    marks = ("measurement", "plan_digest", "job_id", "export_digest")
    parts.append("<h2>Which job it was</h2>" + _lines(report, marks))
    title = html.escape(f"Job {report['job']}")
    page = (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta http-equiv="Content-Security-Policy" content="default-src \'none\';'
        " style-src 'unsafe-inline'\">"
        f"<title>{title}</title><style>{_STYLE}</style></head>"
        f"<body><h1>{title}</h1>{''.join(parts)}</body></html>\n"
    )
    return page.encode()


_UNVERIFIED: Final = (
    "<p><strong>Nobody has verified this page yet</strong>: it is its host's word, and so is "
    "whether the platform is SIMULATED. <code>wardian job report DIRECTORY --state YOURS --html "
    "PAGE</code> verifies the evidence and writes a page that says what it found.</p>"
)
_STYLE: Final = (
    "body{font:15px/1.5 sans-serif;max-width:60em;margin:2em auto;padding:0 1em}"
    "table{border-collapse:collapse;width:100%}th,td{border-bottom:1px solid #ccc;"
    "padding:.3em .6em;text-align:left;vertical-align:top;overflow-wrap:anywhere}"
)


def _shown(value: Any) -> str:
    if value is None:
        return "none"
    if isinstance(value, list):
        return ", ".join(map(_shown, value)) or "none"
    if isinstance(value, dict):
        return "; ".join(f"{html.escape(key)}: {_shown(each)}" for key, each in value.items())
    return html.escape(str(value))


def _lines(values: Mapping[str, Any], keys: Sequence[str]) -> str:
    rows = "".join(
        f"<tr><th>{html.escape(key.replace('_', ' '))}</th><td>{_shown(values[key])}</td></tr>"
        for key in keys
    )
    return f"<table>{rows}</table>"


def _table(title: str, rows: Sequence[Mapping[str, Any]], keys: Sequence[str]) -> str:
    head = "".join(f"<th>{html.escape(key.replace('_', ' '))}</th>" for key in keys)
    body = "".join(
        "<tr>" + "".join(f"<td>{_shown(row[key])}</td>" for key in keys) + "</tr>" for row in rows
    )
    return f"<h2>{html.escape(title)}</h2><table><tr>{head}</tr>{body}</table>"
