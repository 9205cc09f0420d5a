"""RNN, GRU and LSTM: directions, lengths, initial states, peepholes, activations."""
import numpy as np
from harness import Case, check, const, dyn, var

rng = np.random.default_rng(6)
f = lambda *shape: (0.5 * rng.standard_normal(shape)).astype(np.float32)
steps, batch, width, hidden = 5, 3, 4, 6
lengths = np.array([5, 2, 3], np.int32)
cases = []
for op, gates, functions in (("RNN", 1, ["Tanh"]), ("GRU", 3, ["Sigmoid", "Tanh"]), ("LSTM", 4, ["Sigmoid", "Tanh", "Tanh"])):
    outputs = 3 if op == "LSTM" else 2
    for direction in ("forward", "reverse", "bidirectional"):
        d = 2 if direction == "bidirectional" else 1
        w, r, b = f(d, gates * hidden, width), f(d, gates * hidden, hidden), f(d, 2 * gates * hidden)
        h0, c0, peepholes = f(d, batch, hidden), f(d, batch, hidden), f(d, 3 * hidden)
        common = dict(hidden_size=hidden, direction=direction, outputs=outputs, tolerance=1e-4)
        state = (var(h0), var(c0), const(peepholes)) if op == "LSTM" else (var(h0),)
        cases += [
            Case(op, var(f(steps, batch, width)), const(w), const(r), **common),
            Case(op, var(f(steps, batch, width)), const(w), const(r), const(b), const(lengths), *state, **common),
            Case(op, dyn(f(steps, batch, width), "s b ="), const(w), const(r), const(b), **common),
            Case(op, dyn(f(steps, batch, width), "s b ="), const(w), const(r), const(b), var(lengths), *state, **common),
        ]
        if op == "GRU":
            cases += [Case(op, var(f(steps, batch, width)), const(w), const(r), const(b), *more, linear_before_reset=1, **common)
                      for more in ((), (const(lengths),))]
        if op == "LSTM":
            cases.append(Case(op, var(f(steps, batch, width)), const(w), const(r), const(b), input_forget=1, **common))
        cases.append(Case(op, var(f(steps, batch, width)), const(w), const(r), const(b), clip=0.3,
                          activations=functions * d, **common))
    one = dict(hidden_size=hidden, outputs=outputs, tolerance=1e-4)
    w, r, b = f(1, gates * hidden, width), f(1, gates * hidden, hidden), f(1, 2 * gates * hidden)
    for name, alpha, beta in (("Relu", None, None), ("Affine", 0.5, 0.1), ("LeakyRelu", 0.2, None), ("ThresholdedRelu", 0.1, None),
                              ("ScaledTanh", 0.8, 1.2), ("HardSigmoid", 0.3, 0.4), ("Elu", 0.7, None), ("Softsign", None, None),
                              ("Softplus", None, None)):
        if op == "LSTM" and name == "Softplus":
            continue  # Grows beyond every float, where onnxruntime's exponential gives NaN.
        more = {"activations": [name] * len(functions)}
        if alpha is not None:
            more["activation_alpha"] = [alpha] * len(functions)
        if beta is not None:
            more["activation_beta"] = [beta] * len(functions)
        cases.append(Case(op, var(f(steps, batch, width)), const(w), const(r), const(b), **more, **one))
check("recurrent", cases)
