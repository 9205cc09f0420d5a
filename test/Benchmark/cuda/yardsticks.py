"""yardsticks.py RESULTS.json: times of torch's int8 and int4 matrix products on this GPU, added to the results.

Random data; as many copies of the weights as exceed the cache, used in turn.
"""
import json
import sys
from pathlib import Path

try:
    import torch
except ImportError:
    sys.exit("torch is not here")
if not torch.cuda.is_available():
    sys.exit("torch finds no GPU")
results = Path(sys.argv[1])
CACHE = 200 << 20


def milliseconds(call, copies: int, repetitions: int = 50) -> float:
    for i in range(copies):
        call(i)
    begin, end = torch.cuda.Event(enable_timing=True), torch.cuda.Event(enable_timing=True)
    begin.record()
    for i in range(repetitions):
        call(i % copies)
    end.record()
    torch.cuda.synchronize()
    return begin.elapsed_time(end) / repetitions


def int8(m: int, n: int, k: int) -> float:
    copies = max(1, min(16, CACHE // (n * k) + 1))
    weights = [torch.randint(-127, 128, (n, k), dtype=torch.int8, device="cuda").t() for _ in range(copies)]
    x = torch.randint(-127, 128, (m, k), dtype=torch.int8, device="cuda")
    return milliseconds(lambda i: torch._int_mm(x, weights[i]), copies)


def int4(m: int, n: int, k: int) -> float:
    copies = max(1, min(16, 2 * CACHE // (n * k) + 1))
    pack = lambda: torch._convert_weight_to_int4pack(torch.randint(0, 256, (n, k // 2), dtype=torch.uint8, device="cuda"), 8)
    weights = [pack() for _ in range(copies)]
    scales = torch.rand(k // 128, n, 2, dtype=torch.bfloat16, device="cuda")
    x = torch.randn(m, k, dtype=torch.bfloat16, device="cuda")
    return milliseconds(lambda i: torch._weight_int4pack_mm(x, weights[i], 128, scales), copies)


rows = []
for name, call, shapes in (("torch._int_mm", int8, [(1024, 4096, 4096), (4096, 4096, 4096), (1024, 14336, 4096)]),
                           ("torch._weight_int4pack_mm", int4, [(1, 4096, 4096), (1, 14336, 4096), (16, 14336, 4096)])):
    for m, n, k in shapes:
        row = {"call": name, "m": m, "n": n, "k": k}
        try:
            row["ms"] = call(m, n, k)
            print(f"{name} {m}x{n}x{k}: {row['ms']:.4f} ms")
        except (RuntimeError, AttributeError) as error:
            row["left_out"] = str(error).splitlines()[0]
            print(f"{name} {m}x{n}x{k}: left out: {row['left_out']}")
        rows.append(row)
text = json.loads(results.read_text()) if results.is_file() else {"schema": "lowbit.cuda-results/1"}
text["gpu"], text["yardsticks"] = torch.cuda.get_device_name(), rows
results.write_text(json.dumps(text, indent=1) + "\n")
