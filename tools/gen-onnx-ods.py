#!/usr/bin/env python3
"""Writes the ODS of the `onnx` dialect's operators from the schemas of the installed onnx package.

Usage: gen-onnx-ods.py OPERATORS.txt OUT.td OUT.inc

Only the newest version of each operator has an op; the importer upgrades older nodes. Operand and attribute names are
ONNX's, so the textual form is the one that onnx-mlir prints where both have the op. OUT.inc has one
LOWBIT_ONNX_OPERATOR row per operator: what the importer must know of it to build the op from a node.
"""
import re
import sys

import onnx

ATTRIBUTES = {
    "INT": ("SI64Attr", lambda v: str(v)),
    "FLOAT": ("F32Attr", lambda v: repr(float(f"{v:.9g}"))),
    "STRING": ("StrAttr", lambda v: v.decode() if isinstance(v, bytes) else v),
    "INTS": ("I64ArrayAttr", lambda v: "{" + ", ".join(map(str, v)) + "}"),
    "FLOATS": ("F32ArrayAttr", None),
    "STRINGS": ("StrArrayAttr", None),
    "TENSOR": ("ElementsAttr", None),
    "TYPE_PROTO": ("TypeAttr", None),
}


def attribute(attr):
    """The ODS constraint of one schema attribute: defaulted where ONNX gives a default, else optional or required."""
    kind = attr.type.name
    if kind not in ATTRIBUTES:
        return "OptionalAttr<AnyAttr>"
    constraint, text = ATTRIBUTES[kind]
    if attr.default_value is not None and attr.default_value.name and text:
        value = onnx.helper.get_attribute_value(attr.default_value)
        if kind == "STRING":
            return f'DefaultValuedStrAttr<StrAttr, "{text(value)}">'
        literal = text(value)
        if kind == "FLOAT":
            literal = f"(float){literal}"
        return f'DefaultValuedAttr<{constraint}, "{literal}">'
    return constraint if attr.required else f"OptionalAttr<{constraint}>"


def operand(formal):
    option = formal.option.name
    variadic = "Variadic" if option == "Variadic" else ""
    kind = "Variadic<AnyType>" if variadic else "AnyType"
    return f"{kind}:${re.sub(r'[^A-Za-z0-9_]', '_', formal.name)}"


def op(name):
    schema = onnx.defs.get_schema(name)
    arguments = [operand(i) for i in schema.inputs]
    arguments += [f"{attribute(a)}:${a.name}" for _, a in sorted(schema.attributes.items())]
    taken = {i.name for i in schema.inputs}
    results = []
    for o in schema.outputs:
        text = operand(o)
        if o.name in taken:  # e.g. BatchNormalization's input_mean
            text += "_out"
        results.append(text)
    doc = (schema.doc or "").strip().split("\n")[0].replace("}]", "} ]")
    return f"""
def ONNX{name}Op : ONNX_Op<"{name}", [Pure]> {{
  let summary = "ONNX {name}, version {schema.since_version}";
  let description = [{{{doc}}}];
  let arguments = (ins {", ".join(arguments)});
  let results = (outs {", ".join(results)});
}}
"""


def row(name):
    """The operator's table row: name, version, operands (last one variadic?), required operands as bits, results."""
    schema = onnx.defs.get_schema(name)
    inputs, outputs = list(schema.inputs), list(schema.outputs)
    variadic = [bool(f) and f[-1].option.name == "Variadic" for f in (inputs, outputs)]
    required = sum(1 << n for n, i in enumerate(inputs) if i.option.name == "Single")
    cells = [f'"{name}"', str(schema.since_version), str(len(inputs)), str(variadic[0]).lower(), str(required),
             str(len(outputs)), str(variadic[1]).lower()]
    return f"LOWBIT_ONNX_OPERATOR({', '.join(cells)})\n"


def main(operators, out, table):
    names = [w for line in open(operators) if not line.startswith("#") for w in line.split()]
    text = [f"// Generated from the schemas of onnx {onnx.__version__}, opset {onnx.defs.onnx_opset_version()}.\n"]
    text += [op(n) for n in sorted(names)]
    with open(out, "w") as f:
        f.write("".join(text))
    with open(table, "w") as f:
        f.write(f"// Generated from the schemas of onnx {onnx.__version__}.\n")
        f.write(f"LOWBIT_ONNX_NEWEST_OPSET({onnx.defs.onnx_opset_version()})\n")
        f.write("".join(row(n) for n in sorted(names)))


if __name__ == "__main__":
    main(*sys.argv[1:])
