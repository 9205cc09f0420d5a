#!/usr/bin/env python3
"""Writes which of the operators, and which of their attributes, are newer than a base opset.

Usage: gen-onnx-versions.py OPERATORS.txt BASE OUT.inc

The exporter writes models of the base opset and goes above it only where a model needs it. OUT.inc has rows
LOWBIT_ONNX_NEW_OPERATOR(name, version) and LOWBIT_ONNX_NEW_ATTRIBUTE(operator, name, version, default), the default as text.
"""
import sys

import onnx


def default_text(attr):
    value = onnx.helper.get_attribute_value(attr.default_value) if attr.default_value and attr.default_value.name else ""
    return value.decode() if isinstance(value, bytes) else str(value)


def main(operators, base, out):
    base = int(base)
    names = [w for line in open(operators) if not line.startswith("#") for w in line.split()]
    history = {}
    for schema in onnx.defs.get_all_schemas_with_history():
        if schema.domain == "":
            history.setdefault(schema.name, []).append(schema)
    rows = []
    for name in sorted(names):
        versions = sorted(history[name], key=lambda s: s.since_version)
        known = [s for s in versions if s.since_version <= base]
        if not known:
            rows.append(f'LOWBIT_ONNX_NEW_OPERATOR("{name}", {versions[0].since_version})')
            known = versions[:1]
        seen = set(known[-1].attributes)
        for schema in versions[versions.index(known[-1]) + 1:]:
            for key in sorted(set(schema.attributes) - seen):
                seen.add(key)
                rows.append(f'LOWBIT_ONNX_NEW_ATTRIBUTE("{name}", "{key}", {schema.since_version}, '
                            f'"{default_text(schema.attributes[key])}")')
    with open(out, "w") as f:
        f.write(f"// Generated from the schemas of onnx {onnx.__version__}: what opset {base} lacks.\n")
        f.write("".join(row + "\n" for row in rows))


if __name__ == "__main__":
    main(*sys.argv[1:])
