//===- Recurrent.cpp - RNN, GRU and LSTM ------------------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// The input's share of all gates of all steps is one matrix product before the
// loop; each step adds the state's share. Steps of a reversed or shortened
// sequence read the input from where they stand in it, and the results are put
// in the order of the sequence at the end.
//
//===----------------------------------------------------------------------===//
#include "Accumulation.h"
#include "Num.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "llvm/ADT/StringSwitch.h"

using namespace lowbit;
using namespace lowbit::onnx;
using utils::IteratorType;

namespace {
enum class Function {
  Relu,
  Tanh,
  Sigmoid,
  Affine,
  LeakyRelu,
  ThresholdedRelu,
  ScaledTanh,
  HardSigmoid,
  Elu,
  Softsign,
  Softplus
};

struct Activation {
  Function function;
  double alpha, beta;
};

/// The node, as all directions see it.
struct Cell {
  Lowering &l;
  unsigned gates; ///< 1 of RNN, 3 of GRU, 4 of LSTM.
  Type compute;
  bool batchFirst;
  double clip; ///< 0: none.
  unsigned directions;
  OpFoldResult steps, batch, inputSize, hidden, gateRows;
  Value fits;    ///< Do the operands' shapes fit together (i1)?
  Value lengths; ///< i64 [batch], or null.
};

/// The constants of one direction in the order that loops want, and its input's share of the gates.
struct Direction {
  unsigned index;
  bool reverse;
  SmallVector<Activation> activations;
  Value recurrent; ///< [hidden, gates * hidden]
  Value inputs;    ///< [steps, batch, gates * hidden]
  Value resetBias; ///< [hidden] of GRU with linear_before_reset; else null.
  Value peepholes; ///< [3 * hidden], or null.
};
} // namespace

static Num apply(const Activation &f, Num x) {
  switch (f.function) {
  case Function::Relu:
    return x.max(0);
  case Function::Tanh:
    return x.tanh();
  case Function::Sigmoid:
    return x.like(1) / ((-x).exp() + 1);
  case Function::Affine:
    return x * f.alpha + f.beta;
  case Function::LeakyRelu:
    return (x < 0).select(x * f.alpha, x);
  case Function::ThresholdedRelu:
    return (x > f.alpha).select(x, x.like(0));
  case Function::ScaledTanh:
    return (x * f.beta).tanh() * f.alpha;
  case Function::HardSigmoid:
    return (x * f.alpha + f.beta).max(0).min(1);
  case Function::Elu:
    return (x < 0).select((x.min(0).exp() - 1) * f.alpha, x);
  case Function::Softsign:
    return x / (x.abs() + 1);
  case Function::Softplus:
    return (-x.abs()).exp().log1p() + x.max(0);
  }
  return x;
}

/// The activations of all directions; failure after naming the one that is not known.
static LogicalResult readActivations(Lowering &l, unsigned perDirection, unsigned directions,
                                     SmallVectorImpl<SmallVector<Activation>> &all) {
  SmallVector<std::string> names;
  if (auto given = l.op->getAttrOfType<ArrayAttr>("activations"))
    for (Attribute name : given)
      names.push_back(cast<StringAttr>(name).getValue().lower());
  if (names.empty())
    for (unsigned d = 0; d < directions; ++d)
      for (unsigned k = 0; k < perDirection; ++k)
        names.push_back(k == 0 && perDirection > 1 ? "sigmoid" : "tanh");
  if (names.size() != perDirection * directions)
    return l.unsupported("activations need " + Twine(perDirection * directions) + " entries");
  auto floats = [&](StringRef key) {
    SmallVector<double> values;
    if (auto given = l.op->getAttrOfType<ArrayAttr>(key))
      for (Attribute value : given)
        values.push_back(cast<FloatAttr>(value).getValueAsDouble());
    return values;
  };
  SmallVector<double> alphas = floats("activation_alpha"), betas = floats("activation_beta");
  size_t nextAlpha = 0, nextBeta = 0;
  for (auto [i, name] : llvm::enumerate(names)) {
    struct Known {
      Function function;
      bool hasAlpha, hasBeta;
      double alpha, beta;
    };
    auto known = llvm::StringSwitch<std::optional<Known>>(name)
                     .Case("relu", Known{Function::Relu, false, false, 0, 0})
                     .Case("tanh", Known{Function::Tanh, false, false, 0, 0})
                     .Case("sigmoid", Known{Function::Sigmoid, false, false, 0, 0})
                     .Case("affine", Known{Function::Affine, true, true, 1, 0})
                     .Case("leakyrelu", Known{Function::LeakyRelu, true, false, 0.01, 0})
                     .Case("thresholdedrelu", Known{Function::ThresholdedRelu, true, false, 1, 0})
                     .Case("scaledtanh", Known{Function::ScaledTanh, true, true, 1, 1})
                     .Case("hardsigmoid", Known{Function::HardSigmoid, true, true, 0.2, 0.5})
                     .Case("elu", Known{Function::Elu, true, false, 1, 0})
                     .Case("softsign", Known{Function::Softsign, false, false, 0, 0})
                     .Case("softplus", Known{Function::Softplus, false, false, 0, 0})
                     .Default(std::nullopt);
    if (!known)
      return l.unsupported("activation '" + name + "' is not one of ONNX's");
    Activation activation{known->function, known->alpha, known->beta};
    if (known->hasAlpha && nextAlpha < alphas.size())
      activation.alpha = alphas[nextAlpha++];
    if (known->hasBeta && nextBeta < betas.size())
      activation.beta = betas[nextBeta++];
    if (i % perDirection == 0)
      all.emplace_back();
    all.back().push_back(activation);
  }
  return success();
}

/// Reads operand `i` at `at` as the type that is computed in.
static Num readOperand(const Cell &cell, Scope s, unsigned i, ArrayRef<Num> at) {
  Value x = s.read(cell.l.in(i), at);
  return s.num(castScalar(s.b, s.loc, x, cell.l.element(i), cell.compute));
}

/// sums += x * w over the last dim of x, which is the first of w.
static Value product(const Cell &cell, Value x, Value w, Value sums) {
  Lowering &l = cell.l;
  unsigned rank = cast<RankedTensorType>(x.getType()).getRank(), loops = rank + 1;
  SmallVector<AffineExpr> left, out;
  for (unsigned i = 0; i < rank; ++i) {
    left.push_back(l.d(i));
    out.push_back(l.d(i + 1 < rank ? i : loops - 1));
  }
  SmallVector<IteratorType> iterators(loops, IteratorType::parallel);
  iterators[rank - 1] = IteratorType::reduction;
  return l.generic(
      {x, w}, sums,
      {l.mapOf(loops, left), l.mapOf(loops, {l.d(rank - 1), l.d(rank)}), l.mapOf(loops, out)},
      iterators, multiplyAdd);
}

/// The bias of gate row `row`: of the input and, but for GRU's hidden gate before its reset, of the
/// state.
static Num biasOf(const Cell &cell, Scope s, const Direction &d, Num row, bool resetApart) {
  Num direction = s.index(d.index), rows = s.size(cell.gateRows);
  Num input = readOperand(cell, s, 3, {direction, row});
  Num state = readOperand(cell, s, 3, {direction, rows + row});
  if (!resetApart)
    return input + state;
  Num apart = row >= s.size(cell.hidden) * s.index(2);
  return apart.select(input, input + state);
}

static Direction prepare(const Cell &cell, unsigned index, bool reverse,
                         ArrayRef<Activation> activations) {
  Lowering &l = cell.l;
  Direction d{index, reverse, llvm::to_vector(activations), {}, {}, {}, {}};
  bool resetApart = cell.gates == 3 && l.attr("linear_before_reset", 0) != 0;
  // Weights with the rows of the gates last: the innermost loop walks them.
  auto transposed = [&](unsigned operand, OpFoldResult columns) {
    return tabulate(
        l, {columns, cell.gateRows}, cell.compute,
        [&](Scope s, ArrayRef<Num> at) {
          return readOperand(cell, s, operand, {s.index(index), at[1], at[0]});
        },
        cell.fits);
  };
  Value weights = transposed(1, cell.inputSize);
  d.recurrent = transposed(2, cell.hidden);
  Value x = tabulate(l, {cell.steps, cell.batch, cell.inputSize}, cell.compute,
                     [&](Scope s, ArrayRef<Num> at) {
                       SmallVector<Num> from(at);
                       if (cell.batchFirst)
                         std::swap(from[0], from[1]);
                       return readOperand(cell, s, 0, from);
                     });
  Sizes sizes = {cell.steps, cell.batch, cell.gateRows};
  Value sums =
      l.has(3)
          ? tabulate(
                l, sizes, cell.compute,
                [&](Scope s, ArrayRef<Num> at) { return biasOf(cell, s, d, at[2], resetApart); },
                cell.fits)
          : l.filled(sizes, l.scalar(cell.compute, 0));
  d.inputs = product(cell, x, weights, sums);
  if (resetApart && l.has(3))
    d.resetBias = tabulate(
        l, {cell.hidden}, cell.compute,
        [&](Scope s, ArrayRef<Num> at) {
          Num row = s.size(cell.gateRows) + s.size(cell.hidden) * s.index(2) + at[0];
          return readOperand(cell, s, 3, {s.index(index), row});
        },
        cell.fits);
  if (cell.gates == 4 && l.has(7))
    d.peepholes = tabulate(
        l, {l.mul(cell.hidden, l.index(3))}, cell.compute,
        [&](Scope s, ArrayRef<Num> at) { return readOperand(cell, s, 7, {s.index(index), at[0]}); },
        cell.fits);
  return d;
}

/// Where step `step` of batch entry `entry` stands in the sequence; steps behind its end stay
/// inside the tensor.
static Num placeOf(const Cell &cell, Scope s, const Direction &d, Num step, Num entry) {
  if (!d.reverse)
    return step;
  Num length = cell.lengths ? s.read(cell.lengths, entry).toIndex() : s.size(cell.steps);
  return (length - 1 - step).max(0);
}

static Num clipped(const Cell &cell, Num x) {
  return cell.clip > 0 ? x.max(-cell.clip).min(cell.clip) : x;
}

/// The values of gates `first` to `last` at (entry, unit), read from `sums` [batch, gates *
/// hidden].
static Num gate(const Cell &cell, Scope s, Value sums, unsigned which, Num entry, Num unit) {
  return s.read(sums, {entry, s.size(cell.hidden) * s.index(which) + unit});
}

static Num peephole(const Cell &cell, Scope s, const Direction &d, unsigned which, Num unit,
                    Num state) {
  if (!d.peepholes)
    return state.like(0);
  return s.read(d.peepholes, s.size(cell.hidden) * s.index(which) + unit) * state;
}

/// The next hidden state (and cell state, of LSTM) from the gates' sums.
static SmallVector<Value> lstmStep(const Cell &cell, const Direction &d, Value sums, Value c) {
  Lowering &l = cell.l;
  bool coupled = l.attr("input_forget", 0) != 0;
  Sizes sizes = {cell.batch, cell.hidden};
  Value next = tabulate(l, sizes, cell.compute, [&](Scope s, ArrayRef<Num> at) {
    Num old = s.read(c, at);
    auto value = [&](unsigned which, unsigned hole) {
      Num x = gate(cell, s, sums, which, at[0], at[1]) + peephole(cell, s, d, hole, at[1], old);
      return apply(d.activations[0], clipped(cell, x));
    };
    Num input = value(0, 0);
    Num forget = coupled ? input.like(1) - input : value(2, 2);
    Num fresh = apply(d.activations[1], clipped(cell, gate(cell, s, sums, 3, at[0], at[1])));
    return forget * old + input * fresh;
  });
  Value hidden = tabulate(l, sizes, cell.compute, [&](Scope s, ArrayRef<Num> at) {
    Num now = s.read(next, at);
    Num x = gate(cell, s, sums, 1, at[0], at[1]) + peephole(cell, s, d, 1, at[1], now);
    return apply(d.activations[0], clipped(cell, x)) * apply(d.activations[2], now);
  });
  return {hidden, next};
}

/// `inputs` is the input's share [batch, 3 * hidden].
static Value gruStep(const Cell &cell, const Direction &d, Value inputs, Value h) {
  Lowering &l = cell.l;
  bool linear = l.attr("linear_before_reset", 0) != 0;
  Sizes sizes = {cell.batch, cell.hidden};
  Value zeros = l.filled({cell.batch, cell.gateRows}, l.scalar(cell.compute, 0));
  Value state = product(cell, h, d.recurrent, zeros);
  auto sum = [&](Scope s, unsigned which, ArrayRef<Num> at) {
    Num x = gate(cell, s, inputs, which, at[0], at[1]) + gate(cell, s, state, which, at[0], at[1]);
    return apply(d.activations[0], clipped(cell, x));
  };
  Value hiddenSums;
  if (!linear) {
    // The reset comes before the product.
    Value kept = tabulate(l, sizes, cell.compute,
                          [&](Scope s, ArrayRef<Num> at) { return sum(s, 1, at) * s.read(h, at); });
    Value rows = l.slice(d.recurrent, {l.index(0), l.mul(cell.hidden, l.index(2))},
                         {cell.hidden, cell.hidden});
    hiddenSums = product(cell, kept, rows, l.filled(sizes, l.scalar(cell.compute, 0)));
  }
  return tabulate(l, sizes, cell.compute, [&](Scope s, ArrayRef<Num> at) {
    Num update = sum(s, 0, at), share = s.constant(cell.compute, 0);
    if (linear) {
      share = gate(cell, s, state, 2, at[0], at[1]);
      if (d.resetBias)
        share = share + s.read(d.resetBias, at[1]);
      share = sum(s, 1, at) * share;
    } else {
      share = s.read(hiddenSums, at);
    }
    Num fresh =
        apply(d.activations[1], clipped(cell, gate(cell, s, inputs, 2, at[0], at[1]) + share));
    return (update.like(1) - update) * fresh + update * s.read(h, at);
  });
}

static Value initialState(const Cell &cell, unsigned operand, unsigned direction) {
  Lowering &l = cell.l;
  Sizes sizes = {cell.batch, cell.hidden};
  if (!l.has(operand))
    return l.filled(sizes, l.scalar(cell.compute, 0));
  return tabulate(
      l, sizes, cell.compute,
      [&](Scope s, ArrayRef<Num> at) {
        SmallVector<Num> from = {s.index(direction), at[0], at[1]};
        if (cell.batchFirst)
          std::swap(from[0], from[1]);
        return readOperand(cell, s, operand, from);
      },
      cell.fits);
}

/// Runs one direction: the hidden states of all steps [steps, batch, hidden], the last hidden and,
/// of LSTM, cell state.
static SmallVector<Value> runDirection(const Cell &cell, const Direction &d) {
  Lowering &l = cell.l;
  SmallVector<Value> initial = {l.empty({cell.steps, cell.batch, cell.hidden}, cell.compute),
                                initialState(cell, 5, d.index)};
  if (cell.gates == 4)
    initial.push_back(initialState(cell, 6, d.index));
  auto loop = scf::ForOp::create(
      l.b, l.value(l.index(0)), l.value(cell.steps), l.value(l.index(1)), initial,
      [&](OpBuilder &, Location, Value position, ValueRange state) {
        Value h = state[1];
        Value inputs =
            tabulate(l, {cell.batch, cell.gateRows}, cell.compute, [&](Scope s, ArrayRef<Num> at) {
              Num place = placeOf(cell, s, d, s.num(position), at[0]);
              return s.read(d.inputs, {place, at[0], at[1]});
            });
        SmallVector<Value> next;
        if (cell.gates == 4)
          next = lstmStep(cell, d, product(cell, h, d.recurrent, inputs), state[2]);
        else if (cell.gates == 3)
          next = {gruStep(cell, d, inputs, h)};
        else {
          Value sums = product(cell, h, d.recurrent, inputs);
          next = {
              tabulate(l, {cell.batch, cell.hidden}, cell.compute, [&](Scope s, ArrayRef<Num> at) {
                return apply(d.activations[0], clipped(cell, s.read(sums, at)));
              })};
        }
        if (cell.lengths)
          for (auto [value, old] : llvm::zip(next, state.drop_front(1))) {
            Value fresh = value, kept = old;
            value = tabulate(l, {cell.batch, cell.hidden}, cell.compute,
                             [&](Scope s, ArrayRef<Num> at) {
                               Num on = s.num(position) < s.read(cell.lengths, at[0]).toIndex();
                               return on.select(s.read(fresh, at), s.read(kept, at));
                             });
          }
        Sizes offsets = {position, l.index(0), l.index(0)};
        Sizes sizes = {l.index(1), cell.batch, cell.hidden}, ones(3, l.index(1));
        next.insert(next.begin(),
                    tensor::InsertSliceOp::create(l.b, next[0], state[0], offsets, sizes, ones));
        scf::YieldOp::create(l.b, next);
      });
  return llvm::to_vector(ValueRange(loop.getResults()));
}

/// Reads shapes and attributes; failure where the node asks for what does not exist.
static LogicalResult readCell(Cell &cell, bool bidirectional) {
  Lowering &l = cell.l;
  Value x = l.in(0);
  cell.steps = l.dim(x, cell.batchFirst ? 1 : 0);
  cell.batch = l.dim(x, cell.batchFirst ? 0 : 1);
  cell.inputSize = l.dim(x, 2);
  cell.hidden = l.dim(l.in(2), 2);
  cell.gateRows = l.mul(cell.hidden, l.index(cell.gates));
  cell.directions = bidirectional ? 2 : 1;
  Scope s{l.b, l.b.getLoc()};
  Num fits = s.num(l.scalarInt(l.b.getI1Type(), 1));
  auto demand = [&](unsigned operand, ArrayRef<OpFoldResult> sizes) {
    if (!l.has(operand))
      return;
    for (auto [i, size] : llvm::enumerate(sizes))
      fits = fits & (s.size(l.dim(l.in(operand), i)) == s.size(size));
  };
  OpFoldResult directions = l.index(cell.directions);
  demand(1, {directions, cell.gateRows, cell.inputSize});
  demand(2, {directions, cell.gateRows, cell.hidden});
  demand(3, {directions, l.mul(cell.gateRows, l.index(2))});
  demand(4, {cell.batch});
  for (unsigned state : {5, 6}) {
    if (cell.batchFirst)
      demand(state, {cell.batch, directions, cell.hidden});
    else
      demand(state, {directions, cell.batch, cell.hidden});
  }
  demand(7, {directions, l.mul(cell.hidden, l.index(3))});
  cell.fits = fits;
  l.check(cell.fits, "operands do not fit together");
  if (!l.has(4))
    return success();
  Value given = l.in(4);
  Num steps = s.size(cell.steps);
  Value init = tensor::FromElementsOp::create(l.b, RankedTensorType::get({}, l.b.getI1Type()),
                                              ValueRange{l.scalarInt(l.b.getI1Type(), 1)});
  Value all = l.generic(given, init, {l.mapOf(1, {l.d(0)}), l.mapOf(1, {})},
                        {IteratorType::reduction}, [&](OpBuilder &b, Location loc, ValueRange v) {
                          Num length = Num(b, loc, v[0]).toIndex();
                          Num fine = (length >= 0) & (length <= steps) & Num(b, loc, v[1]);
                          linalg::YieldOp::create(b, loc, fine.value());
                        });
  l.check(tensor::ExtractOp::create(l.b, all, ValueRange()),
          "a sequence length is not between 0 and the number of steps");
  cell.lengths = tabulate(
      l, {cell.batch}, l.b.getI64Type(),
      [&](Scope s, ArrayRef<Num> at) {
        return s.read(given, at).toIndex().max(0).min(steps).to(l.b.getI64Type());
      },
      cell.fits);
  return success();
}

static LogicalResult recurrent(Lowering &l) {
  StringRef direction = getString(l.op, "direction", "forward");
  Type element = l.inType(0).getElementType();
  if (!isa<FloatType>(element))
    return l.unsupported("elements cannot be of this type");
  bool lstm = l.name() == "LSTM", gru = l.name() == "GRU";
  Cell cell{l,
            lstm  ? 4u
            : gru ? 3u
                  : 1u,
            realType(element),
            l.attr("layout", 0) == 1,
            getFloat(l.op, "clip", 0),
            0,
            {},
            {},
            {},
            {},
            {},
            {},
            {}};
  bool both = direction == "bidirectional";
  SmallVector<SmallVector<Activation>> activations;
  if (failed(readActivations(l,
                             lstm  ? 3
                             : gru ? 2
                                   : 1,
                             both ? 2 : 1, activations)) ||
      failed(readCell(cell, both)))
    return failure();
  SmallVector<SmallVector<Value>> runs;
  SmallVector<bool> reversed;
  for (unsigned i = 0; i < cell.directions; ++i) {
    reversed.push_back(direction == "reverse" || i == 1);
    runs.push_back(runDirection(cell, prepare(cell, i, reversed[i], activations[i])));
  }
  auto ofDirection = [&](Scope s, Num which, llvm::function_ref<Num(Scope, unsigned)> read) {
    if (cell.directions == 1)
      return read(s, 0);
    return s.choose(
        which == 0, [&](Scope s) { return read(s, 0); }, [&](Scope s) { return read(s, 1); });
  };
  if (l.usesResult(0)) {
    Sizes sizes = {cell.steps, l.index(cell.directions), cell.batch, cell.hidden};
    if (cell.batchFirst)
      sizes = {cell.batch, cell.steps, l.index(cell.directions), cell.hidden};
    Value y = tabulate(l, sizes, element, [&](Scope s, ArrayRef<Num> at) {
      Num step = at[cell.batchFirst ? 1 : 0], which = at[cell.batchFirst ? 2 : 1];
      Num entry = at[cell.batchFirst ? 0 : 2];
      Num value = ofDirection(s, which, [&](Scope s, unsigned i) {
        Direction d{i, reversed[i], {}, {}, {}, {}, {}};
        return s.read(runs[i][0], {placeOf(cell, s, d, step, entry), entry, at[3]});
      });
      if (cell.lengths)
        value = (step < s.read(cell.lengths, entry).toIndex()).select(value, value.like(0));
      return value.to(element);
    });
    if (failed(l.replace(0, y)))
      return failure();
  }
  for (unsigned result : {1, 2}) {
    if (!l.usesResult(result))
      continue;
    Sizes sizes = {l.index(cell.directions), cell.batch, cell.hidden};
    if (cell.batchFirst)
      std::swap(sizes[0], sizes[1]);
    Value last = tabulate(l, sizes, element, [&](Scope s, ArrayRef<Num> at) {
      Num which = at[cell.batchFirst ? 1 : 0], entry = at[cell.batchFirst ? 0 : 1];
      return ofDirection(
                 s, which,
                 [&](Scope s, unsigned i) { return s.read(runs[i][result], {entry, at[2]}); })
          .to(element);
    });
    if (failed(l.replace(result, last)))
      return failure();
  }
  return success();
}

void lowbit::onnx::addRecurrentLowerings(LoweringTable &table) {
  table["GRU"] = recurrent;
  table["LSTM"] = recurrent;
  table["RNN"] = recurrent;
}
