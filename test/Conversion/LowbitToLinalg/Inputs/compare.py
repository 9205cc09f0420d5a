"""Runs lowbit ops on random constants through lowbit-to-linalg and compares every bit with numpy.

Usage: compare.py quantize|dynamic|linear|float_sums|conv|gather PASSES RUNNER…

PASSES lower linalg to LLVM; RUNNER is the command that runs main. The references are written from the description of
the lowbit dialect: f32 operations one by one, sums in the order of the loops.
"""
import re
import subprocess
import sys

import numpy as np

F = np.float32
RANGES = {"ui8": (0, 255), "i8": (-128, 127), "ui4": (0, 15), "i4": (-8, 7), "i32": (-2**31, 2**31 - 1),
          "i16": (-2**15, 2**15 - 1), "ui16": (0, 2**16 - 1), "i3": (-4, 3), "ui3": (0, 7)}
rng = np.random.default_rng(0)


class Program:
    """IR of one main: constants, ops, and results that are printed as 32-bit integers."""

    def __init__(self):
        self.lines, self.count, self.expected = [], 0, []

    def name(self):
        self.count += 1
        return f"%v{self.count}"

    def constant(self, array, element):
        """A constant in a type that arith.constant may not have."""
        array = np.asarray(array)
        shape = "".join(f"{d}x" for d in array.shape)
        literal = np.array2string(array, separator=",", threshold=sys.maxsize, formatter={
            "float_kind": lambda v: f"0x{np.float32(v).view(np.uint32):08X}", "int_kind": str}) if array.ndim else (
                f"0x{np.float32(array).view(np.uint32):08X}" if element == "f32" else str(array))
        name, kind = self.name(), f"tensor<{shape}{element}>"
        self.lines.append(f'{name} = "onnx.Constant"() {{value = dense<{literal}> : {kind}}} : () -> {kind}'
                          if element.startswith("u") else f"{name} = arith.constant dense<{literal}> : {kind}")
        return name, kind

    def dynamic(self, array, element):
        """A value that is no constant to the compiler and hides its first dimension."""
        signless = element.lstrip("u")
        if element in ("ui8", "ui16"):
            array = array.astype(element[1:].replace("i", "uint")).view(element[1:].replace("i", "int"))
        value, kind = self.constant(array, signless)
        hidden = re.sub(r"tensor<\d+", "tensor<?", kind, count=1)
        name = self.name()
        self.lines.append(f"{name} = tensor.cast {value} : {kind} to {hidden}")
        if signless == element:
            return name, hidden
        value, name, result = name, self.name(), hidden.replace(signless, element)
        self.lines.append(f"{name} = builtin.unrealized_conversion_cast {value} : {hidden} to {result}")
        return name, result

    def opaque(self, value, kind):
        """The value in its own type, no constant to the pass."""
        if "ui" in kind:  # Upstream ops do not take it.
            return value, kind
        # A tensor of rank 0 goes through one element.
        hidden = re.sub(r"tensor<\d+", "tensor<?", kind, count=1)
        if hidden == kind:
            one = kind.replace("tensor<", "tensor<1x")
            wide, back = self.name(), self.name()
            self.lines += [f"{wide} = tensor.expand_shape {value} [] output_shape [1] : {kind} into {one}",
                           f"{back} = tensor.collapse_shape {wide} [] : {one} into {kind}"]
            return back, kind
        there, back = self.name(), self.name()
        self.lines += [f"{there} = tensor.cast {value} : {kind} to {hidden}", f"{back} = tensor.cast {there} : {hidden} to {kind}"]
        return back, kind

    def dynamic_quantize(self, value, result, parameters, per_token, symmetric):
        """Three results: quantized values of type `result`, scales and zero points of shape `parameters`."""
        element = re.search(r"u?i\d+", result)[0]
        names = [self.name() for _ in range(3)]
        kinds = [result, f"tensor<{parameters}f32>", f"tensor<{parameters}{element}>"]
        flags = ", ".join(["per_token"] * per_token + ["symmetric"] * symmetric)
        self.lines.append(f"{', '.join(names)} = lowbit.dynamic_quantize {value[0]} {{{flags}}} : {value[1]} -> {', '.join(kinds)}")
        return list(zip(names, kinds))

    def op(self, text, operands, result):
        """`text` has {} for the operands in order; their types follow."""
        name = self.name()
        types = ", ".join(kind for _, kind in operands)
        self.lines.append(f"{name} = {text.format(*[n for n, _ in operands])} : ({types}) -> {result}")
        return name, result

    def expect(self, value, array):
        """f32 values are compared by their bits, integers by value (through a dequantize with scale 1)."""
        name, kind = value
        dims = kind[len("tensor<"):-1].split("x")[:-1]
        element = kind[len("tensor<"):-1].split("x")[-1]
        if element != "f32":
            scale, zero = self.constant(F(1), "f32"), self.constant(0, element)
            real = "tensor<" + "".join(f"{d}x" for d in dims) + "f32>"
            name, kind = self.op("lowbit.dequantize {} scale({}) zero({})", [value, scale, zero], real)
            array = np.asarray(array).astype(F)
        bits = "tensor<" + "".join(f"{d}x" for d in dims) + "i32>"
        loops = ", ".join(f"d{i}" for i in range(len(dims)))
        kinds = ", ".join(['"parallel"'] * len(dims))
        sizes, init, out, unranked = [], self.name(), self.name(), self.name()
        for i, d in enumerate(dims):
            if d == "?":
                index, size = self.name(), self.name()
                self.lines += [f"{index} = arith.constant {i} : index", f"{size} = tensor.dim {name}, {index} : {kind}"]
                sizes.append(size)
        self.lines += [
            f"{init} = tensor.empty({', '.join(sizes)}) : {bits}",
            f"{out} = linalg.generic {{indexing_maps = [affine_map<({loops}) -> ({loops})>, affine_map<({loops}) -> ({loops})>], "
            f"iterator_types = [{kinds}]}} ins({name} : {kind}) outs({init} : {bits}) {{",
            "^bb0(%a: f32, %b: i32):", "  %c = arith.bitcast %a : f32 to i32", "  linalg.yield %c : i32", f"}} -> {bits}",
            f"{unranked} = tensor.cast {out} : {bits} to tensor<*xi32>",
            f"call @printMemrefI32({unranked}) : (tensor<*xi32>) -> ()"]
        self.expected.append(np.asarray(array, F))

    def run(self, passes, runner):
        text = ("func.func private @printMemrefI32(tensor<*xi32>)\nfunc.func @main() {\n"
                + "\n".join(self.lines) + "\nreturn\n}\n")
        for pipeline in ("lowbit-to-linalg", passes):
            # Without a runtime to tell, a failed check ends the program.
            lowered = subprocess.run(["lowbit-opt", f"--pass-pipeline=builtin.module({pipeline})"], capture_output=True,
                                     text=True, input=text.replace("lowbit_rt.assert", "cf.assert"))
            if lowered.returncode:
                sys.exit(text + lowered.stderr)
            text = lowered.stdout
        output = subprocess.run(runner, input=text, capture_output=True, text=True, check=True).stdout
        found = [np.array([int(v) for v in re.findall(r"-?\d+", part.split("data =")[1])], np.int32)
                 for part in output.split("Unranked")[1:]]
        assert len(found) == len(self.expected), (len(found), len(self.expected))
        for i, (bits, want) in enumerate(zip(found, self.expected)):
            got = bits.view(F)
            # +0 and -0 are the same number, and so is any NaN.
            same = (got == want.ravel()) | (np.isnan(got) & np.isnan(want.ravel()))
            if not same.all():
                at = np.flatnonzero(~same)[0]
                sys.exit(f"result {i}, element {at}: found {got[at]!r}, expected {want.ravel()[at]!r}; {(~same).sum()} differ")
        print(f"{len(found)} results equal in every bit")


def saturate(x, zero, element, atZero=False):
    lo, hi = RANGES[element]
    if atZero:
        lo = max(lo, int(zero))
    with np.errstate(invalid="ignore"):
        q = np.clip(np.rint(x).astype(np.float64) + zero, lo, hi)
    return np.where(np.isnan(x), lo, q).astype(np.int64)


def random(shape, element):
    lo, hi = RANGES[element]
    return rng.integers(lo, hi + 1, shape)


def scales(shape):
    return rng.uniform(0.001, 0.1, shape).astype(F)


def quantize(p):
    special = np.array([0, -0.0, 0.5, 1.5, 2.5, -0.5, -1.5, 1e30, -1e30, np.inf, -np.inf, np.nan, 1e-40, 127.5, 128.5, 3e9], F)
    x = np.concatenate([special, rng.normal(0, 100, 48).astype(F)]).reshape(4, 16)
    for element in ("ui8", "i8", "ui4", "i4", "i16"):
        for scale in (F(1), F(0.37)):
            zero = random((), element)
            value = p.dynamic(x, "f32")
            operands = [value, p.constant(scale, "f32"), p.constant(zero, element)]
            q = p.op("lowbit.quantize {} scale({}) zero({})", operands, f"tensor<?x16x{element}>")
            want = saturate(x / scale, zero, element)
            p.expect(q, want)
            back = p.op("lowbit.dequantize {} scale({}) zero({})", [q] + operands[1:], "tensor<?x16xf32>")
            p.expect(back, (want - zero).astype(F) * scale)
        # Per channel and grouped, the last group partial.
        for axis, group, shape in ((0, 0, (4,)), (1, 0, (16,)), (1, 5, (4, 4)), (0, 3, (2, 16))):
            s, z = scales(shape), random(shape, element)
            wide = [np.repeat(a, group, axis)[:4, :16] if group else np.expand_dims(a, 1 - axis) for a in (s, z)]
            attrs = f"{{{{axis = {axis} : i64, group = {group} : i64}}}}"
            operands = [p.constant(x, "f32"), p.constant(s, "f32"), p.constant(z, element)]
            q = p.op("lowbit.quantize {} scale({}) zero({}) " + attrs, operands, f"tensor<4x16x{element}>")
            want = saturate(x / wide[0], wide[1], element)
            p.expect(q, want)
            back = p.op("lowbit.dequantize {} scale({}) zero({}) " + attrs, [q] + operands[1:], "tensor<4x16xf32>")
            p.expect(back, (want - wide[1]).astype(F) * wide[0])
    # The difference of 32-bit integers is exact.
    q = p.constant([2**31 - 1, -2**31], "i32")
    back = p.op("lowbit.dequantize {} scale({}) zero({})", [q, p.constant(F(0.5), "f32"), p.constant(-5, "i32")], "tensor<2xf32>")
    p.expect(back, np.array([2**31 + 4, -2**31 + 5], np.int64).astype(F) * F(0.5))


def wrap(acc):
    return ((acc + 2**31) % 2**32 - 2**31).astype(np.int64)


def epilogue(acc, bias, xs, ws, ys, yz, relu, out, channel):
    """acc has one axis per dimension; bias and ws belong to axis `channel`."""
    def along(v):
        return v if np.ndim(v) == 0 else v.reshape([-1 if i == channel else 1 for i in range(acc.ndim)])
    if bias is not None:
        acc = wrap(acc + along(bias))
    multiplier = (np.float64(xs) * ws.astype(np.float64) / np.float64(1 if ys is None else ys)).astype(F)
    y = acc.astype(F) * along(multiplier)
    if ys is None:
        return np.maximum(y, F(0)) if relu else y
    return saturate(y, yz, out, relu)


def integer_case(p, op, x, w, attributes, result, contraction, channel, inp, bias, relu, out, per_tensor=False,
                 opaque=False):
    xs, xz = scales(()), random((), inp)
    ws = scales(() if per_tensor else (w.shape[0],))
    acc = wrap(contraction(x - xz, w))
    operands = [p.dynamic(x, inp), p.constant(w, "i8"), p.constant(ws, "f32")]
    text = f"lowbit.{op} {{}}, {{}} scale({{}})"
    b = None
    if bias:
        b = rng.integers(-20000, 20000, w.shape[0]) if bias is True else np.full(w.shape[0], bias)
        text += " bias({})"
        operands.append(p.constant(b, "i32"))
    text += " input_scale({}) input_zero({})"
    operands += [p.constant(xs, "f32"), p.constant(xz, inp)]
    ys, yz = None, 0
    if out != "f32":
        ys, yz = F(float(xs) * float(np.mean(ws)) * (np.abs(acc).mean() + 1) / 40), random((), out)
        text += " output_scale({}) output_zero({})"
        operands += [p.constant(ys, "f32"), p.constant(yz, out)]
    if opaque:
        operands[1:] = [p.opaque(*operand) for operand in operands[1:]]
    attributes = attributes + (["relu"] if relu else [])
    text += " {{" + ", ".join(attributes) + "}}"
    y = p.op(text, operands, result.format(out))
    p.expect(y, epilogue(acc, b, xs, ws, ys, yz, relu, out, channel))


def float_case(p, op, x, w, element, attributes, result, contraction, channel, group, asymmetric, bias, relu):
    rows, k = w.shape[0], w[0].size
    shape = (rows, -(-k // group)) if group else (rows,)
    ws, wz = scales(shape), random(shape, element) if asymmetric else np.zeros(shape, int)
    if group:
        s, z = (np.repeat(a, group, 1)[:, :k].reshape(w.shape) for a in (ws, wz))
    else:
        s, z = (a.reshape((-1,) + (1,) * (w.ndim - 1)) for a in (ws, wz))
    y = contraction(x, (w - z).astype(F) * s)
    operands = [p.dynamic(x, "f32"), p.constant(w, element), p.constant(ws, "f32")]
    if element == "i8":
        operands[1] = p.opaque(*operands[1])
    text = f"lowbit.{op} {{}}, {{}} scale({{}})"
    if asymmetric:
        text += " zero({})"
        operands.append(p.constant(wz, element))
    if bias:
        b = rng.normal(0, 1, rows).astype(F)
        y = y + b.reshape([-1 if i == channel else 1 for i in range(y.ndim)])
        text += " bias({})"
        operands.append(p.constant(b, "f32"))
    if relu:
        y = np.maximum(y, F(0))
    attributes = attributes + [f"group = {group} : i64"] + (["relu"] if relu else [])
    p.expect(p.op(text + " {{" + ", ".join(attributes) + "}}", operands, result.format("f32")), y)


def matmul(x, w):
    """Sums over k one after the other, in the type of x."""
    acc = np.zeros(x.shape[:-1] + (w.shape[0],), x.dtype)
    for k in range(w.shape[1]):
        acc = acc + x[..., k, None] * w[:, k]
    return acc


def linear(p):
    for inp, bias, relu, out in (("ui8", True, True, "ui8"), ("i8", False, False, "i8"), ("ui8", True, True, "f32"),
                                 ("i8", True, False, "ui8"), ("ui8", False, True, "i8")):
        x, w = random((3, 2, 9), inp), random((5, 9), "i8")
        integer_case(p, "linear", x, w, [], "tensor<?x2x5x{}>", matmul, 2, inp, bias, relu, out, per_tensor=out == "i8", opaque=inp == "i8")
    # The accumulator wraps.
    integer_case(p, "linear", random((2, 9), "ui8"), random((5, 9), "i8"), [], "tensor<?x5x{}>", matmul, 1, "ui8", 2**31 - 5, False, "f32")
    for element, group, asymmetric in (("ui4", 4, True), ("i4", 3, False), ("ui8", 16, True), ("i8", 0, False), ("ui4", 0, True), ("ui3", 4, True), ("i3", 0, False)):
        x, w = rng.normal(0, 1, (3, 10)).astype(F), random((6, 10), element)
        float_case(p, "linear", x, w, element, [], "tensor<?x6x{}>", matmul, 1, group, asymmetric, group == 4, group == 0)


def dynamic_parameters(x, element, symmetric):
    """ONNX DynamicQuantizeLinear's formulas in f32 along the last axis."""
    least, most = (F(v) for v in RANGES[element])
    lo, hi = np.fmin.reduce(x, -1, initial=F(0)), np.fmax.reduce(x, -1, initial=F(0))
    half = F(2 ** (int(element.lstrip("ui")) - 1))
    with np.errstate(over="ignore", invalid="ignore"):
        s = (np.maximum(-lo, hi) / (half - F(1)) if symmetric else (hi - lo) / (most - least)).astype(F)
    s = np.where(s == 0, F(1), s)
    if symmetric:
        return s, np.full(s.shape, half if element[0] == "u" else 0).astype(np.int64)
    return s, np.rint(np.clip(least - lo / s, least, most)).astype(np.int64)


def dynamic(p):
    x = rng.normal(0, 3, (6, 2, 21)).astype(F)
    x[1] = 0  # No range at all.
    x[2, 0] = np.abs(x[2, 0])  # Of one sign.
    x[2, 1] = -np.abs(x[2, 1])
    x[3, 0, 4:6] = np.nan, 1e30
    x[3, 1] *= F(1e-44)  # A scale that is denormal or 0.
    for element in ("ui8", "i8", "ui4", "i16", "ui16"):
        for symmetric in (False, True):
            if symmetric and element == "ui16":
                continue
            s, z = dynamic_parameters(x, element, symmetric)
            with np.errstate(over="ignore"):
                want = saturate(x / s[..., None], z[..., None], element)
            q, scale, zero = p.dynamic_quantize(p.dynamic(x, "f32"), f"tensor<?x2x21x{element}>", "?x2x1x", True, symmetric)
            p.expect(q, want)
            p.expect(scale, s)
            p.expect(zero, z)
            flat = x[4].ravel()
            s, z = dynamic_parameters(flat, element, symmetric)
            q, scale, zero = p.dynamic_quantize(p.dynamic(x[4], "f32"), f"tensor<?x21x{element}>", "", False, symmetric)
            p.expect(q, saturate(x[4] / s, z, element))
            p.expect(scale, s)
            p.expect(zero, z)
    s, z = dynamic_parameters(x[0, 0], "ui8", False)
    q, scale, zero = p.dynamic_quantize(p.dynamic(x[0, 0], "f32"), "tensor<?xui8>", "1x", True, False)
    p.expect(q, saturate(x[0, 0] / s, z, "ui8"))
    p.expect(scale, s)


def float_sums(p):
    """Integer sums within a group, f32 ones over the groups in order, then the input's scale and the bias."""
    cases = [  # input, weights, group, asymmetric, per row, rank, bias, relu
        ("ui8", "i8", 0, False, True, 3, True, True), ("ui8", "i8", None, False, True, 2, True, False),
        ("i8", "ui4", 4, True, True, 3, True, False), ("ui8", "i4", 4, False, False, 2, False, True),
        ("ui8", "ui8", 5, True, True, 1, True, False), ("ui8", "ui4", 0, True, False, 2, True, False),
        ("ui8", "ui3", 16, True, True, 2, False, False), ("i16", "i8", 0, False, False, 2, True, False),
        ("ui16", "i8", 3, False, False, 3, True, True), ("ui8", "i3", 10, False, False, 2, True, False)]
    for inp, element, group, asymmetric, per_row, rank, bias, relu in cases:
        lead = (3, 2)[:rank - 1]
        x, w = random(lead + (10,), inp), random((6, 10), element)
        xs, xz = scales(lead if per_row else ()), random(lead if per_row else (), inp)
        shape = (6, -(-10 // group)) if group else (6,) if group == 0 else ()
        ws, wz = scales(shape), random(shape, element) if asymmetric else np.zeros(shape, int)
        length = group or 10
        centred = w - (np.repeat(wz, length, 1)[:, :10] if group else wz[:, None] if group == 0 else wz)
        y = np.zeros(lead + (6,), F)
        for g in range(-(-10 // length)):
            part = slice(g * length, (g + 1) * length)
            acc = (x - (xz[..., None] if per_row else xz))[..., part] @ centred[:, part].T
            y = y + acc.astype(F) * (ws[:, g] if group else ws)
        y = y * (xs[..., None] if per_row else xs)
        # A row's dimension of 1 and what is dynamic are not part of the operands' numpy shapes.
        own = [p.dynamic(x, inp)]
        for values, kind in ((xs, "f32"), (xz, inp)):
            own.append(p.dynamic(values[..., None], kind) if rank > 1 and per_row else
                       p.constant(values[..., None] if per_row else values, kind))
        operands = [own[0], p.constant(w, element), p.constant(ws, "f32")]
        text = "lowbit.linear {}, {} scale({})"
        if asymmetric:
            text += " zero({})"
            operands.append(p.constant(wz, element))
        if bias:
            b = rng.normal(0, 1, 6).astype(F)
            y = y + b
            text += " bias({})"
            operands.append(p.constant(b, "f32"))
        if relu:
            y = np.maximum(y, F(0))
        operands += own[1:]
        attributes = [f"group = {group or 0} : i64"] + (["relu"] if relu else [])
        dims = "".join(f"{d}x" for d in ("?",) + lead[1:] + (6,)) if rank > 1 else "6x"
        p.expect(p.op(text + " input_scale({}) input_zero({}) {{" + ", ".join(attributes) + "}}", operands, f"tensor<{dims}f32>"), y)


def convolution(strides, pads, dilations, groups):
    def run(x, w):
        n = w.ndim - 2
        x = np.pad(x, [(0, 0), (0, 0)] + [(pads[d], pads[n + d]) for d in range(n)])
        out = [(x.shape[2 + d] - (w.shape[2 + d] - 1) * dilations[d] - 1) // strides[d] + 1 for d in range(n)]
        acc = np.zeros((x.shape[0], w.shape[0], *out), x.dtype)
        per, filters = w.shape[1], w.shape[0] // groups
        for f in range(w.shape[0]):
            for tap in np.ndindex(*w.shape[2:]):
                for c in range(per):
                    window = tuple(slice(tap[d] * dilations[d], tap[d] * dilations[d] + (out[d] - 1) * strides[d] + 1, strides[d])
                                   for d in range(n))
                    acc[:, f] = acc[:, f] + x[(slice(None), f // filters * per + c) + window] * w[(f, c) + tap]
        return acc
    return run


def conv(p):
    cases = [  # input, weights, strides, pads, dilations, groups
        ((2, 3, 5, 7), (4, 3, 3, 3), (1, 1), (1, 1, 1, 1), (1, 1), 1),
        ((2, 4, 6, 6), (4, 1, 3, 2), (2, 1), (0, 1, 2, 0), (1, 1), 4),  # depthwise
        ((1, 4, 7, 6), (6, 2, 2, 2), (1, 2), (0, 0, 0, 0), (2, 1), 2),  # grouped
        ((2, 2, 9), (3, 2, 4), (3,), (2, 1), (1,), 1),  # one dimension
        ((1, 2, 3, 4, 5), (2, 2, 2, 2, 2), (1, 1, 1), (1, 0, 0, 0, 0, 1), (1, 1, 1), 1),  # three
        ((1, 3, 4, 4), (6, 1, 1, 1), (2, 2), (0, 0, 0, 0), (1, 1), 3),  # depthwise with two filters per channel
    ]
    modes = (("ui8", True, True, "ui8"), ("i8", False, False, "f32"), ("ui8", True, False, "i8"))
    for i, (xs, ws, strides, pads, dilations, groups) in enumerate(cases):
        run = convolution(strides, pads, dilations, groups)
        attributes = [f"strides = array<i64: {', '.join(map(str, strides))}>", f"pads = array<i64: {', '.join(map(str, pads))}>",
                      f"dilations = array<i64: {', '.join(map(str, dilations))}>", f"groups = {groups} : i64"]
        shape = run(np.zeros(xs, int), np.zeros(ws, int)).shape
        # Every second case leaves the spatial sizes of the result to the program too.
        static = "x".join(map(str, shape[1:])) if i % 2 == 0 else f"{shape[1]}x" + "x".join("?" * (len(shape) - 2))
        result = f"tensor<?x{static}x{{}}>"
        inp, bias, relu, out = modes[i % len(modes)]
        integer_case(p, "conv", random(xs, inp), random(ws, "i8"), attributes, result, run, 1, inp, bias, relu, out, opaque=i in (1, 2, 4))
        # Sums in float: 16-bit inputs, or a float bias.
        x, w, s, z = random(xs, ("i16", "ui16", "ui8")[i % 3]), random(ws, "i8"), scales(()), random((), ("i16", "ui16", "ui8")[i % 3])
        b, kind = rng.normal(0, 1, ws[0]).astype(F), ("i16", "ui16", "ui8")[i % 3]
        ones = (-1,) + (1,) * (len(xs) - 2)
        scale = scales((ws[0],))
        y = run(x - z, w).astype(F) * scale.reshape(ones) * s + b.reshape(ones)
        operands = [p.dynamic(x, kind), p.constant(w, "i8"), p.constant(scale, "f32"), p.constant(b, "f32"), p.constant(s, "f32"), p.constant(z, kind)]
        p.expect(p.op("lowbit.conv {}, {} scale({}) bias({}) input_scale({}) input_zero({}) {{" + ", ".join(attributes) + "}}",
                      operands, result.format("f32")), y)
        element, group = (("ui4", 4), ("i8", 0), ("i4", 5))[i % 3]
        float_case(p, "conv", rng.normal(0, 1, xs).astype(F), random(ws, element), element, attributes, result, run, 1, group,
                   element == "ui4", bias, relu)


def gather(p):
    for element, group, asymmetric, shape in (("i8", 0, False, (4,)), ("ui4", 4, True, (2, 3)), ("ui3", 4, True, (3,)), ("i3", 0, False, (2,)), ("i4", 7, False, (3,)), ("ui8", None, True, (2,))):
        table, ids = random((6, 10), element), rng.integers(-6, 6, shape)
        param = () if group is None else (6, -(-10 // group)) if group else (6,)
        s, z = scales(param), random(param, element) if asymmetric else np.zeros(param, int)
        wide = [np.repeat(a, group, 1)[:, :10] if group else a if group is None else a[:, None] for a in (s, z)]
        operands = [p.constant(table, element), p.constant(ids, "i64"), p.constant(s, "f32")]
        text = "lowbit.gather {}[{}] scale({})"
        if asymmetric:
            text += " zero({})"
            operands.append(p.constant(z, element))
        dims = "x".join(map(str, shape))
        y = p.op(text + f" {{{{group = {group or 0} : i64}}}}", operands, f"tensor<{dims}x10xf32>")
        p.expect(y, ((table - wide[1]).astype(F) * wide[0])[ids])


program = Program()
{"quantize": quantize, "dynamic": dynamic, "linear": linear, "float_sums": float_sums, "conv": conv, "gather": gather}[sys.argv[1]](program)
program.run(sys.argv[2], sys.argv[3:])
