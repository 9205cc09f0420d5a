#!/usr/bin/env python3
"""Writes the ODS of the `onnx` dialect's operators from the schemas of the installed onnx package.

Usage: gen-onnx-ods.py OPERATORS.txt OUT.td OUT.inc FUNCTIONS.inc

Only the newest version of each operator has an op; the importer upgrades older nodes. Operand and attribute names are
ONNX's, so the textual form is the one that onnx-mlir prints where both have the op. OUT.inc has one
LOWBIT_ONNX_OPERATOR row per operator: what the importer must know of it to build the op from a node. FUNCTIONS.inc has one
LOWBIT_ONNX_FUNCTION row per operator that has no op but a body of other operators in its schema.
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


ELEMENT_TYPES = {f"tensor({n.lower()})": v for n, v in onnx.TensorProto.DataType.items()}
TYPE_ATTRIBUTES = ["to", "dtype", "output_dtype", "output_datatype", "stash_type", "value"]
# Where the prose of the specification names a type that its type variables do not.
FALLBACKS = {"ConstantOfShape": "=1", "DequantizeLinear": "1", "EyeLike": "0", "LinearAttention": "0", "QuantizeLinear": "=2"}


def element_rule(schema, formal):
    """Where an output's element type comes from: alternatives, the first that is there counts.

    "=7" is that number of TensorProto.DataType, "@to" the attribute that holds such a number or a tensor, "2" operand 2.
    """
    if formal.type_str in ELEMENT_TYPES:
        return f"={ELEMENT_TYPES[formal.type_str]}"
    allowed = [t for c in schema.type_constraints if c.type_param_str == formal.type_str for t in c.allowed_type_strs]
    if len(allowed) == 1 and allowed[0] in ELEMENT_TYPES:
        return f"={ELEMENT_TYPES[allowed[0]]}"
    like = [str(n) for n, i in enumerate(schema.inputs) if i.type_str == formal.type_str]
    if not like:
        for name in TYPE_ATTRIBUTES:
            if name in schema.attributes:
                like.append("@" + name)
                default = schema.attributes[name].default_value
                like += [f"={default.i}"] if default.i else []
    elif "output_dtype" in schema.attributes:
        like.append("@output_dtype")
    if schema.name in FALLBACKS:
        like.append(FALLBACKS[schema.name])
    return ",".join(like)


def row(name):
    """The operator's table row: name, version, operands (last one variadic?), required operands as bits, results, and
    the rules of the results' element types."""
    schema = onnx.defs.get_schema(name)
    inputs, outputs = list(schema.inputs), list(schema.outputs)
    variadic = [bool(f) and f[-1].option.name == "Variadic" for f in (inputs, outputs)]
    required = sum(1 << n for n, i in enumerate(inputs) if i.option.name == "Single")
    cells = [f'"{name}"', str(schema.since_version), str(len(inputs)), str(variadic[0]).lower(), str(required),
             str(len(outputs)), str(variadic[1]).lower(),
             '"' + " ".join(element_rule(schema, o) for o in outputs) + '"']
    return f"LOWBIT_ONNX_OPERATOR({', '.join(cells)})\n"


def body(schema):
    """The schema's function body with the defaults of its attributes, which only the schema has."""
    function = onnx.FunctionProto()
    function.CopyFrom(schema.function_body)
    del function.attribute[:]
    for name, attr in sorted(schema.attributes.items()):
        if attr.default_value.name:
            function.attribute_proto.append(attr.default_value)
        else:
            function.attribute.append(name)
    function.ClearField("doc_string")
    return function.SerializeToString(deterministic=True)


def function_row(schema):
    data = body(schema)
    text = "".join(f"\\x{byte:02x}" for byte in data)
    lines = '"\n    "'.join(text[i:i + 4 * 28] for i in range(0, len(text), 4 * 28))
    return f'LOWBIT_ONNX_FUNCTION("{schema.name}", {len(data)},\n    "{lines}")\n'


def main(operators, out, table, functions):
    names = [w for line in open(operators) if not line.startswith("#") for w in line.split()]
    text = [f"// Generated from the schemas of onnx {onnx.__version__}, opset {onnx.defs.onnx_opset_version()}.\n"]
    text += [op(n) for n in sorted(names)]
    with open(out, "w") as f:
        f.write("".join(text))
    with open(table, "w") as f:
        f.write(f"// Generated from the schemas of onnx {onnx.__version__}.\n")
        f.write(f"LOWBIT_ONNX_NEWEST_OPSET({onnx.defs.onnx_opset_version()})\n")
        f.write("".join(row(n) for n in sorted(names)))
    schemas = sorted(onnx.defs.get_all_schemas(), key=lambda s: s.name)
    with open(functions, "w") as f:
        f.write(f"// Generated from the schemas of onnx {onnx.__version__}.\n")
        f.write("".join(function_row(s) for s in schemas
                        if s.domain == "" and not s.deprecated and s.has_function and s.name not in names))


if __name__ == "__main__":
    main(*sys.argv[1:])
