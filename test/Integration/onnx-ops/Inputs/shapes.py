"""Operators that move, cut and reshape data, with constant and with run-time parameters."""
import numpy as np
from harness import Case, check, const, dyn, var

rng = np.random.default_rng(2)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
ints = lambda *values: np.array(values, np.int64)
last = np.iinfo(np.int64).max

cases = [
    Case("Reshape", var(f(2, 3, 4)), const(ints(4, 6))), Case("Reshape", var(f(2, 3, 4)), const(ints(0, -1))),
    Case("Reshape", var(f(2, 3, 4)), var(ints(6, -1))), Case("Reshape", var(f(2, 3, 4)), var(ints(0, 2, -1))),
    Case("Reshape", dyn(f(2, 3, 4), "a b ="), const(ints(0, -1))), Case("Reshape", dyn(f(2, 3, 4)), const(ints(-1))),
    Case("Reshape", dyn(f(2, 3, 4)), var(ints(4, 3, 2))), Case("Reshape", dyn(f(2, 6)), const(ints(3, 4))),
    Case("Reshape", dyn(f(1, 5, 8), "= s ="), const(ints(1, -1, 2, 4))), Case("Reshape", var(f(1)), const(np.zeros(0, np.int64))),
    Case("Reshape", var(f()), const(ints(1, 1))), Case("Reshape", var(f(0, 3)), const(ints(3, 0)), allowzero=1),
    Case("Reshape", dyn(f(5, 4), "a ="), const(ints(2, -1, 2))), Case("Reshape", dyn(f(2, 3, 4)), const(ints(2, 3, 4))),
    Case("Flatten", var(f(2, 3, 4))), Case("Flatten", var(f(2, 3, 4)), axis=0), Case("Flatten", var(f(2, 3, 4)), axis=-1),
    Case("Flatten", dyn(f(2, 3, 4)), axis=2), Case("Flatten", var(f(3)), axis=1),
    Case("Squeeze", var(f(1, 3, 1)), const(ints(0))), Case("Squeeze", var(f(1, 3, 1))), Case("Squeeze", dyn(f(1, 3, 1)), const(ints(-1))),
    Case("Unsqueeze", var(f(3, 4)), const(ints(0, -1))), Case("Unsqueeze", dyn(f(3, 4)), const(ints(1))),
    Case("Transpose", var(f(2, 3, 4))), Case("Transpose", var(f(2, 3, 4)), perm=[1, 2, 0]), Case("Transpose", dyn(f(2, 3)), perm=[1, 0]),
    Case("Concat", var(f(2, 3)), var(f(2, 4)), axis=1), Case("Concat", var(f(2, 3)), var(f(1, 3)), const(f(2, 3)), axis=0),
    Case("Concat", dyn(f(2, 3)), dyn(f(2, 4)), axis=-1), Case("Concat", dyn(f(2, 3), "a b"), dyn(f(2, 4), "a c"), axis=1),
    Case("Split", var(f(6, 2)), num_outputs=3, outputs=3), Case("Split", var(f(7, 2)), num_outputs=3, outputs=3),
    Case("Split", var(f(2, 7)), const(ints(3, 4)), axis=1, outputs=2), Case("Split", dyn(f(7)), num_outputs=2, outputs=2),
    Case("Split", dyn(f(7)), var(ints(5, 2)), outputs=2),
    Case("Slice", var(f(8, 5)), const(ints(1)), const(ints(6)), const(ints(0)), const(ints(2))),
    Case("Slice", var(f(8, 5)), const(ints(-3, 0)), const(ints(last, -1)), const(ints(0, 1))),
    Case("Slice", var(f(8, 5)), const(ints(-1)), const(ints(-last)), const(ints(0)), const(ints(-1))),
    Case("Slice", var(f(8, 5)), const(ints(6)), const(ints(1)), const(ints(0)), const(ints(-2))),
    Case("Slice", var(f(8, 5)), const(ints(2, 1)), const(ints(5, 4))),
    Case("Slice", var(f(8, 5)), const(ints(7)), const(ints(2)), const(ints(0))),
    Case("Slice", dyn(f(8, 5)), const(ints(1)), const(ints(last)), const(ints(1))),
    Case("Slice", dyn(f(8, 5)), var(ints(1)), var(ints(-1)), const(ints(0))),
    Case("Slice", dyn(f(8, 5)), var(ints(-20)), var(ints(20)), const(ints(0)), const(ints(3))),
    Case("Slice", dyn(f(8, 5)), const(ints(-1)), const(ints(-100)), const(ints(0)), const(ints(-3))),
    Case("Slice", dyn(f(8, 5)), var(ints(6)), var(ints(0)), const(ints(0)), const(ints(-2))),
    Case("Pad", var(f(2, 3)), const(ints(1, 0, 2, 1))), Case("Pad", var(f(2, 3)), const(ints(1, 0, 2, 1)), const(np.float32(9))),
    Case("Pad", var(f(4, 5)), const(ints(-1, 1, 0, -2))), Case("Pad", var(f(4, 5)), const(ints(2, 1)), None, const(ints(1))),
    Case("Pad", var(f(4, 5)), const(ints(2, 1, 3, 4)), mode="reflect"), Case("Pad", var(f(4, 5)), const(ints(2, 1, 3, 4)), mode="edge"),
    Case("Pad", var(f(4, 5)), const(ints(2, 1, 3, 4)), mode="wrap"), Case("Pad", dyn(f(4, 5)), const(ints(2, 1, 3, 4)), mode="reflect"),
    Case("Pad", dyn(f(4, 5)), var(ints(2, 1, 0, 3))), Case("Pad", var(rng.integers(0, 9, (2, 2)).astype(np.int64)), const(ints(1, 0, 0, 1))),
    Case("Expand", var(f(3, 1)), const(ints(2, 1, 4))), Case("Expand", dyn(f(3, 1)), const(ints(2, 1, 4))),
    Case("Expand", var(f(3, 1)), var(ints(3, 4))), Case("Expand", dyn(f(1, 4)), var(ints(3, 1))), Case("Expand", var(f()), const(ints(2, 2))),
    Case("Tile", var(f(2, 3)), const(ints(2, 2))), Case("Tile", dyn(f(2, 3)), var(ints(1, 3))),
    Case("Shape", var(f(2, 3, 4))), Case("Shape", dyn(f(2, 3, 4)), start=1), Case("Shape", dyn(f(2, 3, 4)), start=-2, end=-1), Case("Size", dyn(f(2, 3))),
    Case("Range", const(np.int64(0)), const(np.int64(7)), const(np.int64(2))), Case("Range", var(np.int64(5)), var(np.int64(-3)), var(np.int64(-2))),
    Case("Range", var(np.float32(0.5)), var(np.float32(3)), var(np.float32(0.7))), Case("Range", const(np.int64(3)), var(np.int64(1)), const(np.int64(1))),
    Case("ConstantOfShape", const(ints(2, 3))), Case("ConstantOfShape", var(ints(2, 3))),
    Case("DepthToSpace", var(f(1, 8, 2, 3)), blocksize=2), Case("DepthToSpace", var(f(1, 8, 2, 3)), blocksize=2, mode="CRD"),
    Case("Trilu", var(f(4, 5))), Case("Trilu", var(f(2, 4, 5)), const(np.int64(-1)), upper=0), Case("Trilu", dyn(f(4, 5)), var(np.int64(1))),
]
up = np.float32([1, 1, 2, 3])
for mode in ("half_pixel", "asymmetric", "align_corners", "pytorch_half_pixel"):
    cases += [Case("Resize", var(f(1, 2, 3, 4)), None, const(up), mode="linear", coordinate_transformation_mode=mode),
              Case("Resize", var(f(1, 2, 6, 10 if mode == "align_corners" else 7)), None, const(np.float32([1, 1, 0.5, 0.7])), mode="nearest",
                   coordinate_transformation_mode=mode)]
for mode in ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil"):
    cases += [Case("Resize", var(f(1, 1, 3, 4)), None, None, const(ints(1, 1, 5, 9)), nearest_mode=mode)]
cases += [Case("Resize", dyn(f(1, 2, 3, 4)), None, const(up), mode="linear"), Case("Resize", dyn(f(1, 2, 3, 4)), None, None, var(ints(1, 2, 5, 5))),
          Case("Resize", var(f(1, 2, 3, 4)), None, None, const(ints(5, 6)), axes=[2, 3], mode="linear")]

check("shapes", cases)
