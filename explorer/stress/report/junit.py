"""The report as a JUnit file: a suite for each kernel, and a case for each cell. New causes are its failures."""

from __future__ import annotations

from xml.etree.ElementTree import Element, SubElement, indent, tostring

from explorer.streams import as_text
from explorer.stress.queries import Row
from explorer.stress.report.facts import Facts
from explorer.stress.report.page import label


def to_junit(facts: Facts) -> str:
    """The file. Lost jobs and closed cells are errors; a cell without a schedule is skipped."""
    suites = Element("testsuites", name="slabrace stress")
    by_kernel: dict[str, list[Row]] = {}
    for cell in sorted(facts.tables["cells"], key=lambda cell: cell["id"]):
        by_kernel.setdefault(cell["kernel"], []).append(cell)
    causes = {cause["id"]: cause for cause in facts.causes}
    new = {cause["id"] for cause in facts.new}
    lost: dict[int, list[Row]] = {}
    for job in facts.tables["lost"]:
        lost.setdefault(job["cell"], []).append(job)
    for kernel, cells in by_kernel.items():
        suite = SubElement(suites, "testsuite", name=as_text(kernel))
        for cell in cells:
            seen = [causes[bug] for bug in facts.seen.get(cell["id"], {})]
            case = SubElement(suite, "testcase", classname=as_text(kernel), name=as_text(cell["name"]))
            _add_errors(case, cell, lost.get(cell["id"], []))
            _add_failure(case, facts, [cause for cause in seen if cause["id"] in new])
            if not cell["schedules"] and not len(case):
                SubElement(case, "skipped", message="no schedule of it has run")
            known = [label(cause) for cause in seen if cause["id"] not in new]
            SubElement(case, "system-out").text = as_text(
                f"{cell['schedules']} schedules" + (f"; known causes: {', '.join(known)}" if known else "")
            )
        count(suite)
    indent(suites)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + tostring(suites, encoding="unicode") + "\n"


def _add_errors(case: Element, cell: Row, lost: list[Row]) -> None:
    reasons = [f"job {job['id']} was lost: {job['why']}" for job in lost]
    reasons += [f"closed: {cell['why']}"] if cell["state"] == "closed" else []
    if reasons:
        error = SubElement(case, "error", message=as_text(reasons[0]), type="slabrace")
        error.text = "\n".join(map(as_text, reasons))


def _add_failure(case: Element, facts: Facts, causes: list[Row]) -> None:
    if not causes:
        return
    names = ", ".join(f"#{cause['id']} {cause['cause']}" for cause in causes)
    failure = SubElement(case, "failure", message=as_text(f"new: {names}"), type="new cause")
    witnesses = [facts.witnesses[cause["id"]] for cause in causes if cause["id"] in facts.witnesses]
    lines = [line for one in witnesses for line in (*one.report.splitlines(), *one.commands)]
    failure.text = "\n".join(map(as_text, lines))


def count(suite: Element) -> None:
    """Set the counts of a suite."""
    suite.set("tests", str(len(suite)))
    for name, tag in (("failures", "failure"), ("errors", "error"), ("skipped", "skipped")):
        suite.set(name, str(sum(case.find(tag) is not None for case in suite)))
