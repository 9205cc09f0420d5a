"""Attention operators of domain com.microsoft: prompts, steps with a past, masks, rotation, shared heads."""
import numpy as np
from harness import Case, check, const, dyn, var

rng = np.random.default_rng(12)
dtype = np.float32
f = lambda *shape: rng.standard_normal(shape).astype(dtype)
i32 = lambda *values: np.array(values, np.int32)


def ms(op, *args, **attrs):
    return Case(op, *args, domain="com.microsoft", **attrs)


def tables(size, length=32):
    angle = np.arange(length)[:, None] / 10000 ** (np.arange(size // 2) / (size // 2))
    return [const(np.cos(angle).astype(dtype)), const(np.sin(angle).astype(dtype))]


positions = np.array([[2, 3, 4, 5], [7, 8, 9, 1]], np.int64)
rotary = [
    ms("RotaryEmbedding", var(f(2, 4, 24)), var(positions), *tables(8)),
    ms("RotaryEmbedding", var(f(2, 4, 24)), var(np.array([5])), *tables(8)),
    ms("RotaryEmbedding", var(f(2, 3, 4, 8)), var(positions), *tables(8), interleaved=1),
    ms("RotaryEmbedding", dyn(f(2, 4, 24), "b s ="), dyn(positions, "b s"), *tables(4), num_heads=3, rotary_embedding_dim=4),
    ms("RotaryEmbedding", dyn(f(2, 3, 4, 8), "b = s ="), var(np.array([0])), *tables(8)),
]


def group(batch, sequence, past, heads=4, kv=2, size=16, packed=False, rotary=False, lengths=None, dynamic=False,
          bias=False, ids=False, length=32, room=None, **attrs):
    """`past` keys before `sequence` new ones, or as `lengths` says; `room`: the past's buffer is longer than that. What
    lies behind a batch entry's length is padding."""
    total = past + sequence
    ends = [total] * batch if lengths is None else list(lengths + 1)
    tokens = [max(0, min(sequence, end)) for end in ends] if past == 0 else [sequence] * batch
    valid = lambda array, number: np.concatenate(
        [x[:count].ravel() if number == 0 else x[:, :end].ravel() for x, count, end in zip(array, tokens, ends)])
    wrap = (lambda x, names: dyn(x, names)) if dynamic else (lambda x, names: var(x))
    lengths = i32(*([total - 1] * batch)) if lengths is None else lengths
    if packed:
        args = [wrap(f(batch, sequence, (heads + 2 * kv) * size), "b s ="), None, None]
    else:
        args = [wrap(f(batch, sequence, heads * size), "b s =")]
        args += [wrap(f(batch, sequence, kv * size), "b s =") for _ in range(2)]
    buffer = past if room is None else room
    args += [wrap(f(batch, kv, buffer, size), "b = p =") for _ in range(2)] if buffer or dynamic else [None, None]
    args += [wrap(lengths, "b"), var(np.array(total, np.int32))]
    args += tables(size, length) if rotary else [None, None]
    if ids:
        args.append(var(np.tile(np.arange(past, total), (batch, 1))))
    elif bias:
        args.append(None)
    if bias:
        args.append(var(f(1, heads, sequence, total)))
    return ms("GroupQueryAttention", *args, num_heads=heads, kv_num_heads=kv, do_rotary=int(rotary), outputs=3,
              tolerance=2e-5 if dtype == np.float32 else 1e-2, valid=valid, **attrs)


queries = [
    group(2, 5, 0), group(2, 1, 6), group(1, 3, 4), group(2, 5, 0, packed=True), group(2, 1, 6, packed=True),
    group(2, 5, 0, rotary=True), group(2, 1, 6, rotary=True, packed=True), group(1, 4, 3, rotary=True),
    group(2, 1, 6, rotary=True, rotary_interleaved=1), group(2, 5, 0, kv=4), group(2, 5, 0, kv=1),
    group(2, 6, 0, local_window_size=3), group(2, 1, 9, local_window_size=4, rotary=True),
    group(2, 5, 0, softcap=5.0), group(2, 1, 6, scale=0.25), group(2, 1, 6, bias=True), group(2, 5, 0, bias=True),
    group(2, 1, 6, rotary=True, ids=True), group(1, 5, 0, rotary=True, ids=True),
    # Entries of different lengths, padded on the right; caches that are longer than what is in them.
    group(2, 5, 0, lengths=i32(2, 4), rotary=True), group(2, 1, 6, lengths=i32(4, 6), rotary=True),
    group(2, 1, 6, room=10), group(2, 5, 0, room=10), group(2, 1, 6, lengths=i32(4, 6), room=12, rotary=True, packed=True),
    group(2, 5, 0, causal=0), group(1, 80, 0, rotary=True, length=96), group(1, 70, 9, rotary=True, length=96, dynamic=True),
    group(2, 5, 0, dynamic=True, packed=True, rotary=True), group(2, 1, 6, dynamic=True, packed=True, rotary=True),
]


def heads(batch, sequence, keys, past=0, heads=2, size=8, value=None, bias=False, mask=None, extra=None, dynamic=False,
          outputs=1, split=False, **attrs):
    value = value or size
    wrap = (lambda x, names: dyn(x, names)) if dynamic else (lambda x, names: var(x))
    args = [wrap(f(batch, sequence, heads * size), "b s =")]
    if split:
        args += [wrap(f(batch, heads, keys, size), "b = t ="), wrap(f(batch, heads, keys, value), "b = t =")]
    else:
        args += [wrap(f(batch, keys, heads * size), "b t ="), wrap(f(batch, keys, heads * value), "b t =")]
    args.append(const(f(heads * (2 * size + value))) if bias else None)
    args += [None if mask is None else var(mask), None if extra is None else var(extra)]
    if past:
        args += [wrap(f(batch, heads, past, size), "b = p ="), wrap(f(batch, heads, past, value), "b = p =")]
    while args[-1] is None:
        args.pop()
    return ms("MultiHeadAttention", *args, num_heads=heads, outputs=outputs, tolerance=2e-5 if dtype == np.float32 else 1e-2, **attrs)


keys = np.array([[1, 1, 1, 0, 0], [1, 1, 1, 1, 1]], np.int32)
multi = [
    heads(2, 5, 5), heads(2, 3, 7), heads(2, 5, 5, bias=True), heads(2, 5, 5, mask=keys), heads(2, 5, 5, mask=i32(3, 5)),
    heads(2, 5, 5, mask=np.tril(np.ones((2, 5, 5), np.int32))), heads(2, 5, 5, extra=f(1, 2, 5, 5)),
    heads(2, 5, 5, extra=f(2, 1, 5, 5), mask=keys), heads(2, 5, 5, unidirectional=1), heads(2, 5, 5, scale=0.5),
    heads(2, 1, 1, past=4, outputs=3), heads(2, 2, 2, past=4, outputs=3, unidirectional=1, bias=True),
    heads(2, 5, 5, outputs=3), heads(2, 3, 6, split=True), heads(2, 5, 5, value=4),
    heads(2, 5, 5, dynamic=True, bias=True), heads(2, 1, 1, past=4, outputs=3, dynamic=True),
]


def merged(batch, sequence, hidden=16, heads=2, mask=None, past=0, extra=None, sizes=None, dynamic=False, bias=True, **attrs):
    sizes = sizes or [hidden] * 3
    args = [dyn(f(batch, sequence, 12), "b s =") if dynamic else var(f(batch, sequence, 12)), const(f(12, sum(sizes)))]
    args += [const(f(sum(sizes))) if bias else None, None if mask is None else var(mask)]
    if past or extra is not None:
        args.append(var(f(2, batch, heads, past, hidden // heads)) if past else None)
        args.append(None if extra is None else var(extra))
    while args[-1] is None:
        args.pop()
    if sizes != [hidden] * 3:
        attrs["qkv_hidden_sizes"] = sizes
    return ms("Attention", *args, num_heads=heads, outputs=2 if past else 1, tolerance=2e-5 if dtype == np.float32 else 1e-2, **attrs)


whole = [
    merged(2, 5), merged(2, 5, mask=keys), merged(2, 5, mask=i32(2, 5)), merged(2, 5, unidirectional=1),
    merged(2, 5, mask=np.tril(np.ones((2, 5, 5), np.int32))), merged(2, 1, past=4), merged(2, 2, past=3, unidirectional=1),
    merged(2, 5, extra=f(2, 2, 5, 5)), merged(2, 5, sizes=[16, 16, 8]), merged(2, 5, dynamic=True, mask=keys), merged(2, 5, scale=0.7),
]


def standard(q, k, v, *rest, outputs=1, **attrs):
    return Case("Attention", q, k, v, *rest, outputs=outputs, tolerance=2e-5 if dtype == np.float32 else 1e-2, **attrs)


onnx_own = [
    standard(dyn(f(2, 4, 9, 8), "b = s ="), dyn(f(2, 2, 9, 8), "b = t ="), dyn(f(2, 2, 9, 8), "b = t ="), is_causal=1),
    standard(dyn(f(2, 4, 3, 8), "b = s ="), dyn(f(2, 4, 3, 8), "b = s ="), dyn(f(2, 4, 3, 8), "b = s ="), None,
             dyn(f(2, 4, 5, 8), "b = p ="), dyn(f(2, 4, 5, 8), "b = p ="), outputs=3),
    standard(dyn(f(2, 9, 32), "b s ="), dyn(f(2, 9, 16), "b s ="), dyn(f(2, 9, 16), "b s ="), q_num_heads=4, kv_num_heads=2),
    standard(var(f(1, 2, 70, 16)), var(f(1, 2, 130, 16)), var(f(1, 2, 130, 16)), var(rng.random((70, 130)) > 0.3)),
    # More queries than one block, with a mask, with a past, and with fewer keys than queries.
    standard(dyn(f(1, 4, 70, 8), "b = s ="), dyn(f(1, 2, 90, 8), "b = t ="), dyn(f(1, 2, 90, 8), "b = t ="),
             dyn(rng.random((1, 4, 70, 90)) > 0.3, "b = s t")),
    standard(dyn(f(1, 2, 70, 8), "b = s ="), dyn(f(1, 2, 70, 8), "b = s ="), dyn(f(1, 2, 70, 8), "b = s ="),
             dyn(f(70, 75), "s u"), dyn(f(1, 2, 5, 8), "b = p ="), dyn(f(1, 2, 5, 8), "b = p ="), is_causal=1, outputs=3),
    standard(dyn(f(2, 100, 16), "b s ="), dyn(f(2, 40, 16), "b t ="), dyn(f(2, 40, 16), "b t ="), q_num_heads=2,
             kv_num_heads=2, is_causal=1),
    standard(dyn(f(2, 4, 3, 8), "b = s ="), dyn(f(2, 4, 6, 8), "b = t ="), dyn(f(2, 4, 6, 8), "b = t ="),
             dyn(f(2, 1, 3, 6), "b = s t"), softcap=2.0),
]

dtype = np.float16
halves = [
    ms("RotaryEmbedding", var(f(2, 4, 24)), var(positions), *tables(8)), group(2, 5, 0, packed=True, rotary=True),
    group(2, 1, 6, packed=True, rotary=True, dynamic=True), heads(2, 5, 5, bias=True, mask=keys), merged(2, 5, mask=keys),
]

check("f16", halves)
check("RotaryEmbedding", rotary)
check("GroupQueryAttention", queries)
check("MultiHeadAttention", multi)
check("Attention of com.microsoft", whole)
check("Attention of ONNX", onnx_own, opset=23)
