# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The report as JUnit XML: one suite per candidate; a case for the verdict, one for each gate, and one for the baseline."""
from __future__ import annotations

import xml.etree.ElementTree as ElementTree

from .report import Report, show


def document(report: Report) -> str:
    """A cliff is a failure; drift and inconclusive are not, they are in the case's output."""
    root = ElementTree.Element("testsuites", name="lowbit eval")
    for candidate in report.data["candidates"]:
        gates = [g for g in report.data.get("gates", []) if g["candidate"] == candidate["name"]]
        verdict = candidate["verdict"]
        baseline = report.data.get("baseline")
        worse = [e["what"] for e in baseline["regressions"] if e["candidate"] == candidate["name"]] if baseline else []
        failed = sum(not g["holds"] for g in gates) + (verdict["value"] == "cliff") + bool(worse)
        suite = ElementTree.SubElement(root, "testsuite", name=candidate["name"], tests=str(1 + len(gates) + bool(baseline)), failures=str(failed))
        case = ElementTree.SubElement(suite, "testcase", classname=candidate["name"], name="verdict")
        text = f"{verdict['value']}: {verdict['rule']} {verdict['where']}".strip()
        if verdict["value"] == "cliff":
            ElementTree.SubElement(case, "failure", message=text)
        else:
            ElementTree.SubElement(case, "system-out").text = text
        for gate in gates:
            case = ElementTree.SubElement(suite, "testcase", classname=candidate["name"], name=gate["gate"])
            if not gate["holds"]:
                ElementTree.SubElement(case, "failure", message=f"is {show(gate['value'])}")
        if baseline:
            case = ElementTree.SubElement(suite, "testcase", classname=candidate["name"], name=f"not worse than {baseline['file']}")
            if worse:
                ElementTree.SubElement(case, "failure", message="; ".join(worse))
    ElementTree.indent(root)
    return '<?xml version="1.0" encoding="UTF-8"?>\n' + ElementTree.tostring(root, encoding="unicode") + "\n"
