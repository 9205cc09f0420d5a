"""Operators of domain com.microsoft but attention, and those that its exporters put into ONNX's own domain."""
import numpy as np
from harness import TARGET, Case, check, const, dyn, var

rng = np.random.default_rng(11)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
h = lambda *shape: f(*shape).astype(np.float16)


def ms(op, *args, **attrs):
    return Case(op, *args, domain="com.microsoft", **attrs)


def packed(rows, bits):
    """Rows of small integers, several to a byte, each row padded to whole bytes."""
    per = 8 // bits
    rows = np.pad(rows, [(0, 0)] * (rows.ndim - 1) + [(0, -rows.shape[-1] % per)])
    parts = rows.reshape(*rows.shape[:-1], -1, per).astype(np.uint32)
    return (parts << (np.arange(per) * bits)).sum(-1).astype(np.uint8)


def matmul(k, n, bits=4, block=32, zero=None, bias=False, rows=(3,), level=0, a=None, wrap=var, legacy=False):
    blocks = -(-k // block)
    b = packed(rng.integers(0, 2**bits, (n, blocks, block)), bits)
    scales = (rng.random((n, blocks)) * 0.1 + 0.01).astype(np.float32)
    x = f(*rows, k) if a is None else a
    args = [wrap(x), const(b), const(scales.astype(x.dtype))]
    if zero == "packed":
        points = packed(rng.integers(0, 2**bits, (n, blocks)), bits)
        args.append(const(points.reshape(-1) if legacy else points))
    elif zero == "float":
        args.append(const((rng.integers(0, 2**(bits + 1), (n, blocks)) / 2).astype(x.dtype)))
    elif bias:
        args.append(None)
    if bias:
        args += [None, const(f(n).astype(x.dtype))]
    return ms("MatMulNBits", *args, K=k, N=n, bits=bits, block_size=block, accuracy_level=level,
              # GPUs round activations to f16.
              tolerance=2e-5 if x.dtype == np.float32 and TARGET == "cpu" else 5e-3 if bits == 4 else 3e-2)


products = [
    matmul(64, 48), matmul(64, 48, zero="packed"), matmul(96, 16, zero="packed"),  # an odd number of blocks
    matmul(96, 16, zero="packed", legacy=True), matmul(64, 48, zero="float"),
    matmul(64, 48, bits=8), matmul(96, 16, bits=8, zero="packed"),
    matmul(40, 20, block=16), matmul(40, 20, block=16, zero="packed"), matmul(40, 20, block=16, bits=8, zero="packed"),
    matmul(64, 48, bias=True), matmul(64, 48, zero="packed", bias=True), matmul(64, 33, block=16, bias=True),
    matmul(256, 64, block=128, rows=(2, 5)), matmul(256, 64, rows=(1,)), matmul(64, 32, block=64, rows=(2, 1, 4)),
    matmul(64, 48, a=h(3, 64)), matmul(96, 16, zero="packed", a=h(3, 96), bias=True), matmul(64, 48, zero="float", a=h(3, 64)),
    matmul(128, 32, level=1), matmul(32, 16, rows=(2, 3), wrap=lambda x: dyn(x, "b s =")),
]

table4, table8 = rng.integers(0, 16, (12, 64)), rng.integers(0, 256, (12, 64)).astype(np.uint8)
scales = (rng.random((12, 2)) + 0.1).astype(np.float32)
inside, outside = np.array([[0, 3], [-1, 11]], np.int64), np.array([0, 12, -13, 5], np.int32)
rows = [
    ms("GatherBlockQuantized", const(packed(table4, 4)), var(inside), const(scales), block_size=32, bits=4),
    ms("GatherBlockQuantized", const(packed(table4, 4)), var(outside), const(scales), block_size=32, bits=4),
    ms("GatherBlockQuantized", const(packed(table4, 4)), dyn(inside), const(scales),
       const(packed(rng.integers(0, 16, (12, 2)), 4)), block_size=32, bits=4),
    ms("GatherBlockQuantized", const(table8), var(inside), const(scales), block_size=32, bits=8),
    ms("GatherBlockQuantized", const(table8), var(inside), const(scales),
       const(rng.integers(0, 256, (12, 2)).astype(np.uint8)), block_size=32, bits=8),
]

x, gamma, beta, bias = f(2, 5, 16), f(16), f(16), f(16)
norms = [
    ms("SkipLayerNormalization", var(x), var(f(2, 5, 16)), const(gamma), const(beta), const(bias), epsilon=1e-5),
    ms("SkipLayerNormalization", var(x), var(f(2, 5, 16)), const(gamma), const(beta), outputs=[True, False, False, True]),
    ms("SkipLayerNormalization", dyn(x, "b s ="), dyn(f(2, 5, 16), "b s ="), const(gamma)),
    ms("SkipLayerNormalization", var(x), var(f(5, 16)), const(gamma), const(beta)),
    ms("SkipSimplifiedLayerNormalization", var(x), var(f(2, 5, 16)), const(gamma), epsilon=1e-6,
       outputs=[True, False, False, True]),
    ms("SkipSimplifiedLayerNormalization", var(x), var(f(2, 5, 16)), const(gamma), const(bias),
       outputs=[True, False, False, True]),
    ms("SkipSimplifiedLayerNormalization", dyn(x, "b s ="), dyn(f(2, 5, 16), "b s ="), const(gamma)),
    Case("SimplifiedLayerNormalization", var(x), const(gamma), axis=-1, epsilon=1e-5, stash_type=1),
    Case("SimplifiedLayerNormalization", dyn(f(2, 3, 4, 16), "b s h ="), const(gamma), axis=-1, epsilon=1e-6),
]

ids, segments = rng.integers(0, 20, (2, 6)).astype(np.int32), rng.integers(0, 2, (2, 6)).astype(np.int32)
mask = np.array([[1, 1, 1, 0, 0, 0], [1, 1, 1, 1, 1, 0]], np.int32)
tables = [const(f(20, 16)), const(f(10, 16)), const(f(2, 16))]
embeddings = [
    ms("EmbedLayerNormalization", var(ids), var(segments), *tables, const(gamma), const(beta), var(mask),
       outputs=3, epsilon=1e-6),
    ms("EmbedLayerNormalization", dyn(ids, "b s"), None, *tables[:2], None, const(gamma), const(beta), outputs=2),
    ms("EmbedLayerNormalization", var(ids), var(segments), *tables, const(gamma), const(beta), None,
       var(rng.integers(0, 10, (2, 6)).astype(np.int32)), outputs=2),
]

activations = [
    ms("Gelu", var(f(3, 17))), ms("BiasGelu", var(f(2, 3, 16)), const(bias)), ms("BiasGelu", dyn(f(4, 16), "n ="), const(bias)),
    ms("FastGelu", var(f(3, 16))), ms("FastGelu", var(f(3, 16)), const(bias)),
    ms("QuickGelu", var(f(3, 16))), ms("QuickGelu", var(f(3, 16)), alpha=1.0),
]

fused = [
    ms("FusedMatMul", var(f(3, 4)), var(f(4, 5)), alpha=0.5),
    ms("FusedMatMul", var(f(4, 3)), var(f(5, 4)), transA=1, transB=1),
    ms("FusedMatMul", dyn(f(2, 4, 3), "b k m"), dyn(f(2, 5, 4), "b n k"), transA=1, transB=1, alpha=0.125),
    ms("FusedMatMul", var(f(2, 3, 4, 5)), const(f(2, 3, 6, 5)), transB=1),
    ms("FusedMatMul", var(f(4, 2, 3, 5)), var(f(2, 3, 5, 6)), transBatchA=1),
    ms("FusedMatMul", var(f(4, 2, 5, 3)), var(f(6, 2, 5, 4)), transBatchA=1, transBatchB=1, transA=1, transB=1),
]

quantize = [
    ms("QuantizeLinear", var(f(3, 4)), const(np.float32(0.05)), const(np.uint8(7))),
    ms("QuantizeLinear", var(f(3, 4)), const(np.float32(0.001)), const(np.int16(0))),
    ms("QuantizeLinear", var(f(3, 4)), const(np.array([0.1, 0.2, 0.3, 0.4], np.float32)), const(np.zeros(4, np.int8)), axis=1),
    ms("DequantizeLinear", var(rng.integers(0, 256, (3, 4)).astype(np.uint8)), const(np.float32(0.5)), const(np.uint8(9))),
    ms("DequantizeLinear", var(rng.integers(0, 65536, (3, 4)).astype(np.uint16)), const(np.float32(0.5)),
       const(np.uint16(900))),
]

check("MatMulNBits", products)
check("GatherBlockQuantized", rows)
check("normalization", norms)
check("embedding", embeddings)
check("activation", activations)
check("FusedMatMul", fused)
check("QuantizeLinear", quantize)
