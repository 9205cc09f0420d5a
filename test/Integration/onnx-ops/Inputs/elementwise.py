"""Elementwise operators, broadcasting with static and dynamic dims, casts."""
import numpy as np
from harness import Case, check, const, dyn, var

rng = np.random.default_rng(0)
f = lambda *shape: rng.standard_normal(shape).astype(np.float32)
i = lambda *shape: rng.integers(-9, 10, shape).astype(np.int64)
special = np.array([0.0, -0.0, np.inf, -np.inf, np.nan, 1e30, -1e30, 0.5, 1.5, 2.5, -0.5], np.float32)

cases = [Case(op, var(f(3, 5) * 2)) for op in
         ["Abs", "Ceil", "Cos", "Erf", "Exp", "Floor", "Neg", "Relu", "Round", "Sigmoid", "Sign", "Sin", "Tanh",
          "HardSigmoid", "HardSwish", "LeakyRelu", "Elu", "Softplus", "Softsign", "Reciprocal", "Identity", "Gelu"]]
cases += [Case(op, var(np.abs(f(7)) + 0.1)) for op in ["Log", "Sqrt"]]
cases += [Case(op, dyn(f(2, 3))) for op in ["Relu", "Exp", "Sigmoid"]]
cases += [Case(op, var(special)) for op in ["Relu", "Abs", "Sign", "Round", "IsNaN", "IsInf", "Sigmoid", "Neg", "Tanh"]]
cases += [Case("Gelu", var(f(9)), approximate="tanh"), Case("LeakyRelu", var(f(9)), alpha=0.3),
          Case("HardSigmoid", var(f(9)), alpha=0.4, beta=0.3), Case("Elu", var(f(9)), alpha=0.7),
          Case("IsInf", var(special), detect_negative=0)]
cases += [Case(op, var(i(4))) for op in ["Abs", "Neg", "Sign"]]
cases += [Case("Not", var(np.array([True, False])))]

for op in ["Add", "Sub", "Mul", "Div"]:
    cases += [Case(op, var(f(2, 3, 4)), var(f(2, 3, 4))), Case(op, var(f(2, 3, 4)), const(f(4))),
              Case(op, var(f(3, 1)), var(f(1, 4))), Case(op, var(f(2, 3)), const(np.float32(1.5))),
              Case(op, const(np.float32(2)), dyn(f(2, 3)))]
    # Dynamic dims: of one name, and of two names where either may be 1.
    cases += [Case(op, dyn(f(2, 3), "a b"), dyn(f(2, 3), "a b")), Case(op, dyn(f(2, 3)), dyn(f(2, 3))),
              Case(op, dyn(f(1, 3)), dyn(f(2, 1))), Case(op, dyn(f(4, 1, 3)), dyn(f(5, 3))),
              Case(op, dyn(f(3)), dyn(f(2, 3))), Case(op, dyn(f(2, 3)), var(f(2, 3))),
              Case(op, dyn(f(1, 3)), var(f(2, 3)))]
cases += [Case("Div", var(i(20)), var(np.where(i(20) == 0, 3, 5).astype(np.int64))),
          Case("Div", var(np.array([-7, 7, -8], np.int32)), const(np.array([2, -2, 3], np.int32)))]
cases += [Case(op, var(i(5)), var(i(5))) for op in ["Add", "Sub", "Mul", "Max", "Min", "Equal", "Less", "Greater"]]
cases += [Case(op, var(special), const(np.float32(0.5))) for op in
          ["Max", "Min", "Equal", "Less", "LessOrEqual", "Greater", "GreaterOrEqual"]]
cases += [Case("Max", var(f(3)), var(f(2, 3)), var(f(2, 1))), Case("Sum", var(f(3)), var(f(2, 3)), var(f(1))),
          Case("Mean", var(f(3)), var(f(2, 3)), var(f(1))), Case("Min", dyn(f(3)), dyn(f(2, 3)), dyn(f(2, 1)))]
u8 = np.array([0, 1, 127, 128, 255], np.uint8)
cases += [Case("Max", var(u8), const(np.uint8(128))), Case("Min", var(u8), const(np.uint8(128)))]
cases += [Case(op, var(np.array([True, True, False, False])), var(np.array([True, False, True, False])))
          for op in ["And", "Or", "Xor"]]
cases += [Case("Mod", var(i(30)), const(np.int64(4))), Case("Mod", var(i(30)), const(np.int64(-4))),
          Case("Mod", var(i(30)), const(np.int64(4)), fmod=1), Case("Mod", var(f(9) * 5), const(np.float32(1.5)), fmod=1)]
cases += [Case("Pow", var(f(5)), const(np.float32(2))), Case("Pow", var(f(5)), const(np.float32(3))),
          Case("Pow", var(np.abs(f(5))), const(np.float32(0.5))), Case("Pow", var(np.abs(f(5))), var(f(5))),
          Case("Pow", var(f(5)), const(np.int64(2))), Case("Pow", var(np.array([1, 2, 3])), const(np.int64(3)))]
cases += [Case("PRelu", var(f(2, 3, 4)), const(f(3, 1))), Case("Clip", var(f(9)), const(np.float32(-0.5)), const(np.float32(0.5))),
          Case("Clip", var(f(9)), None, const(np.float32(0.5))), Case("Clip", var(f(9)), const(np.float32(0))),
          Case("Clip", var(i(9)), const(np.int64(-2)), const(np.int64(3))), Case("Clip", var(f(9)))]
mask = rng.integers(0, 2, (2, 3)).astype(bool)
cases += [Case("Where", var(mask), var(f(2, 3)), var(f(2, 3))), Case("Where", var(mask), const(np.float32(0)), var(f(3))),
          Case("Where", dyn(mask), dyn(f(1, 3)), dyn(f(2, 1))), Case("Where", var(mask), var(i(2, 3)), const(np.int64(-1)))]

F, D, H, I8, U8, I32, I64, B = 1, 11, 10, 3, 2, 6, 7, 9
x = np.array([-3.7, -0.5, 0.0, 0.5, 3.7, 100.9], np.float32)
cases += [Case("Cast", var(x), to=t) for t in (I8, I32, I64, B, D, H, F)]
cases += [Case("Cast", var(np.abs(x)), to=U8)]
cases += [Case("Cast", var(u8), to=t) for t in (F, I32, I64, B, D)]
cases += [Case("Cast", var(i(5)), to=t) for t in (F, I32, I8, B, D)]
cases += [Case("Cast", var(np.array([True, False])), to=t) for t in (F, I64, U8)]
cases += [Case("Cast", var(f(4).astype(np.float16)), to=F), Case("Add", var(f(4).astype(np.float16)), var(f(4).astype(np.float16)))]

ties = np.array([[-300, -1.5, -0.5, 0.5], [1.5, 2.5, 100.2, 900]], np.float32)
cases += [Case("QuantizeLinear", var(ties), const(np.float32(1)), const(np.uint8(5))), Case("QuantizeLinear", var(ties), const(np.float32(0.7))),
          Case("QuantizeLinear", dyn(ties), const(np.float32(1)), const(np.int8(-3))),
          Case("QuantizeLinear", var(ties), const(np.float32([1, 2, 3, 4])), const(np.int8([0, 1, 2, 3]))),
          Case("QuantizeLinear", var(f(4, 3) * 9), const(np.abs(f(2, 3)) + 0.1), const(np.zeros((2, 3), np.int8)), axis=0, block_size=2),
          Case("DequantizeLinear", var(u8), const(np.float32(0.5)), const(np.uint8(128))), Case("DequantizeLinear", var(u8), const(np.float32(0.5))),
          Case("DequantizeLinear", var(np.int8([[-128, 127], [3, 4]])), const(np.float32([0.5, 2])), const(np.int8([-7, 100])), axis=0),
          Case("DequantizeLinear", var(np.int8([[-128], [127], [3], [4]])), const(np.float32([[0.5], [2]])), axis=0, block_size=2)]

check("elementwise", cases)
