//===- Lowering.cpp - what the lowerings of onnx ops share ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Analysis/LayerName.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Linalg/IR/Linalg.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"
#include "mlir/Dialect/Utils/StaticValueUtils.h"
#include "mlir/IR/BuiltinOps.h"

using namespace lowbit;
using namespace lowbit::onnx;

Type lowbit::onnx::toSignless(Type type) {
  if (auto tensor = dyn_cast<RankedTensorType>(type))
    return tensor.clone(toSignless(tensor.getElementType()));
  if (isByteStored(type))
    return IntegerType::get(type.getContext(), 8);
  if (type.isUnsignedInteger())
    return IntegerType::get(type.getContext(), type.getIntOrFloatBitWidth());
  return type;
}

//===----------------------------------------------------------------------===//
// The op
//===----------------------------------------------------------------------===//

Value Lowering::in(unsigned i) { return lowered(op->getOperand(i)); }

Value Lowering::lowered(Value operand) {
  auto found = values.find(operand);
  if (found != values.end())
    return found->second;
  // An argument or the result of an op that stays.
  Type type = toSignless(operand.getType());
  if (type == operand.getType())
    return operand;
  // Beside its definition: ops outside of the current body may need it too.
  OpBuilder::InsertionGuard guard(b);
  b.setInsertionPointAfterValue(operand);
  return values[operand] = UnrealizedConversionCastOp::create(b, type, operand).getResult(0);
}

LogicalResult Lowering::inlineBody(unsigned index, Block &into, ValueRange arguments,
                                   SmallVectorImpl<Value> &outputs) {
  Block &body = op->getRegion(index).front();
  for (auto [argument, value] : llvm::zip(body.getArguments(), arguments))
    values[argument] = value;
  Operation *yield = body.getTerminator();
  SmallVector<Value> yielded(yield->getOperands());
  yield->erase();
  into.getOperations().splice(into.end(), body.getOperations());
  if (failed(convertBlock(into)))
    return failure();
  b.setInsertionPointToEnd(&into);
  for (Value value : yielded)
    outputs.push_back(lowered(value));
  return success();
}

Type Lowering::element(unsigned i) const {
  return cast<ShapedType>(op->getOperand(i).getType()).getElementType();
}

RankedTensorType Lowering::resultType(unsigned i) const {
  return cast<RankedTensorType>(toSignless(op->getResult(i).getType()));
}

std::optional<SmallVector<int64_t>> Lowering::constants(unsigned i) const {
  Value operand = onnx::getOperand(op, i);
  const SymbolicShape *shape = operand ? shapes.find(operand) : nullptr;
  if (!shape || !shape->contents)
    return std::nullopt;
  SmallVector<int64_t> numbers;
  for (const SymbolicExpr &value : *shape->contents) {
    if (!value.constant())
      return std::nullopt;
    numbers.push_back(*value.constant());
  }
  return numbers;
}

LogicalResult Lowering::replace(unsigned i, Value value) {
  RankedTensorType type = resultType(i);
  if (value.getType() != type)
    value = tensor::CastOp::create(b, type, value);
  values[op->getResult(i)] = value;
  return success();
}

void Lowering::check(Value condition, const Twine &message) {
  rt::AssertOp::create(b, condition, b.getStringAttr("'" + getLayerName(op) + "': " + message));
}

//===----------------------------------------------------------------------===//
// Sizes
//===----------------------------------------------------------------------===//

Value Lowering::value(OpFoldResult size) {
  return getValueOrCreateConstantIndexOp(b, b.getLoc(), size);
}

OpFoldResult Lowering::dim(Value tensor, unsigned i) {
  auto type = cast<RankedTensorType>(tensor.getType());
  if (!type.isDynamicDim(i))
    return index(type.getDimSize(i));
  return tensor::DimOp::create(b, tensor, i).getResult();
}

Sizes Lowering::sizes(Value tensor) {
  Sizes all;
  for (int64_t i = 0; i < cast<RankedTensorType>(tensor.getType()).getRank(); ++i)
    all.push_back(dim(tensor, i));
  return all;
}

OpFoldResult Lowering::add(OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right)
    return index(*left + *right);
  if (left == 0)
    return y;
  if (right == 0)
    return x;
  return arith::AddIOp::create(b, value(x), value(y)).getResult();
}

OpFoldResult Lowering::sub(OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right)
    return index(*left - *right);
  if (right == 0)
    return x;
  return arith::SubIOp::create(b, value(x), value(y)).getResult();
}

OpFoldResult Lowering::mul(OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right)
    return index(*left * *right);
  if (left == 1)
    return y;
  if (right == 1)
    return x;
  return arith::MulIOp::create(b, value(x), value(y)).getResult();
}

OpFoldResult Lowering::div(OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right && *right)
    return index(*left / *right);
  if (right == 1)
    return x;
  return arith::DivUIOp::create(b, value(x), value(y)).getResult();
}

OpFoldResult Lowering::min(OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right)
    return index(std::min(*left, *right));
  return arith::MinSIOp::create(b, value(x), value(y)).getResult();
}

OpFoldResult Lowering::max(OpFoldResult x, OpFoldResult y) {
  std::optional<int64_t> left = getConstantIntValue(x), right = getConstantIntValue(y);
  if (left && right)
    return index(std::max(*left, *right));
  return arith::MaxSIOp::create(b, value(x), value(y)).getResult();
}

OpFoldResult Lowering::known(const SymbolicExpr &size) {
  if (std::optional<int64_t> constant = size.constant())
    return index(*constant);
  for (unsigned i = 0; i < op->getNumOperands(); ++i) {
    if (!has(i) || !shapes.find(op->getOperand(i)))
      continue;
    for (auto [d, mine] : llvm::enumerate(dims(i)))
      if (mine == size)
        return dim(in(i), d);
  }
  return {};
}

OpFoldResult Lowering::entry(unsigned operand, int64_t i) {
  const SymbolicShape &shape = shapes.get(op->getOperand(operand));
  if (shape.contents)
    if (OpFoldResult size = known((*shape.contents)[i]))
      return size;
  SmallVector<Value> at;
  if (!shape.dims.empty())
    at.push_back(value(index(i)));
  auto read = [&](OpBuilder &nested, Location loc) -> Value {
    Value number = tensor::ExtractOp::create(nested, loc, in(operand), at);
    return arith::IndexCastOp::create(nested, loc, nested.getIndexType(), number);
  };
  if (shape.dims.empty() || shape.dims[0].constant())
    return read(b, b.getLoc());
  Value there =
      arith::CmpIOp::create(b, arith::CmpIPredicate::slt, at[0], value(dim(in(operand), 0)));
  Value none = value(index(0));
  auto guarded = scf::IfOp::create(
      b, there,
      [&](OpBuilder &then, Location loc) { scf::YieldOp::create(then, loc, read(then, loc)); },
      [&](OpBuilder &otherwise, Location loc) { scf::YieldOp::create(otherwise, loc, none); });
  return guarded.getResult(0);
}

void Lowering::expectEntries(unsigned operand, int64_t count) {
  const Dims &length = dims(operand);
  if (length.empty() || length[0].constant())
    return;
  Value found = value(dim(in(operand), 0)), wanted = value(index(count));
  check(arith::CmpIOp::create(b, arith::CmpIPredicate::eq, found, wanted),
        "operand " + Twine(operand) + " does not have " + Twine(count) + " entries");
}

//===----------------------------------------------------------------------===//
// Tensors
//===----------------------------------------------------------------------===//

Value Lowering::constant(TypedAttr attr) { return arith::ConstantOp::create(b, attr); }

Value Lowering::scalar(Type type, double number) {
  if (isa<FloatType>(type))
    return constant(b.getFloatAttr(type, number));
  return scalarInt(type, (int64_t)number);
}

Value Lowering::scalarInt(Type type, int64_t number) {
  if (isa<FloatType>(type))
    return scalar(type, (double)number);
  if (type.isInteger(1))
    return constant(b.getBoolAttr(number));
  return constant(b.getIntegerAttr(type, number));
}

Value Lowering::empty(ArrayRef<OpFoldResult> sizes, Type element) {
  return tensor::EmptyOp::create(b, sizes, element);
}

Value Lowering::filled(ArrayRef<OpFoldResult> sizes, Value fill) {
  Value init = empty(sizes, fill.getType());
  return linalg::FillOp::create(b, fill, init).getResult(0);
}

Value Lowering::generic(ValueRange inputs, Value init, ArrayRef<AffineMap> maps,
                        ArrayRef<utils::IteratorType> iterators,
                        llvm::function_ref<void(OpBuilder &, Location, ValueRange)> body) {
  return linalg::GenericOp::create(b, init.getType(), inputs, init, maps, iterators, body)
      .getResult(0);
}

Value Lowering::parallel(ValueRange inputs, ArrayRef<AffineMap> maps, ArrayRef<OpFoldResult> sizes,
                         Type element, ScalarBody body) {
  SmallVector<AffineMap> all(maps);
  all.push_back(b.getMultiDimIdentityMap(sizes.size()));
  SmallVector<utils::IteratorType> iterators(sizes.size(), utils::IteratorType::parallel);
  return generic(inputs, empty(sizes, element), all, iterators,
                 [&](OpBuilder &nested, Location loc, ValueRange scalars) {
                   linalg::YieldOp::create(nested, loc, body(nested, loc, scalars.drop_back()));
                 });
}

Sizes Lowering::broadcastSizes(ArrayRef<unsigned> operands, unsigned result) {
  const Dims &to = resultDims(result);
  Sizes all;
  for (size_t i = 0; i < to.size(); ++i) {
    if (OpFoldResult size = known(to[i])) {
      all.push_back(size);
      continue;
    }
    // 1 gives way to the other; where both are something else they must be equal.
    Value size;
    for (unsigned operand : operands) {
      size_t offset = to.size() - rank(operand);
      if (i < offset || dims(operand)[i - offset].isConstant(1))
        continue;
      Value mine = value(dim(in(operand), i - offset));
      if (!size) {
        size = mine;
        continue;
      }
      Value one = value(index(1));
      auto compare = [&](Value x, Value y) {
        return arith::CmpIOp::create(b, arith::CmpIPredicate::eq, x, y).getResult();
      };
      Value left = compare(size, one), right = compare(mine, one), same = compare(size, mine);
      Value fits = arith::OrIOp::create(b, same, arith::OrIOp::create(b, left, right));
      check(fits, "operands do not broadcast");
      Value smaller = arith::MinSIOp::create(b, size, mine);
      size =
          arith::SelectOp::create(b, left, mine, arith::SelectOp::create(b, right, size, smaller));
    }
    all.push_back(size);
  }
  return all;
}

AffineMap Lowering::broadcastMap(Value &value, const Dims &from, const Dims &to,
                                 ArrayRef<OpFoldResult> toSizes) {
  SmallVector<AffineExpr> results;
  size_t offset = to.size() - from.size();
  bool expand = false;
  for (auto [i, size] : llvm::enumerate(from)) {
    if (size == to[offset + i]) {
      results.push_back(d(offset + i));
    } else {
      expand |= !size.isConstant(1);
      results.push_back(b.getAffineConstantExpr(0));
    }
  }
  if (!expand)
    return mapOf(to.size(), results);
  // A dim that may turn out to be 1 or not: read through an index chosen at the run.
  Value source = value;
  Sizes own = sizes(source);
  Type element = cast<RankedTensorType>(source.getType()).getElementType();
  Value any = this->value(index(1));
  for (auto [i, size] : llvm::enumerate(from)) {
    if (size == to[offset + i] || size.isConstant(1))
      continue;
    Value mine = this->value(own[i]), wanted = this->value(toSizes[offset + i]);
    Value one = this->value(index(1));
    Value fits =
        arith::OrIOp::create(b, arith::CmpIOp::create(b, arith::CmpIPredicate::eq, mine, one),
                             arith::CmpIOp::create(b, arith::CmpIPredicate::eq, mine, wanted));
    check(fits, "operands do not broadcast");
    any = arith::MinSIOp::create(b, any, mine);
  }
  Value zero = this->value(index(0));
  Value nonEmpty = arith::CmpIOp::create(b, arith::CmpIPredicate::sgt, any, zero);
  SmallVector<Value> last;
  for (auto [i, size] : llvm::enumerate(from))
    last.push_back(this->value(sub(own[i], index(1))));
  Value fallback = scalarInt(element, 0);
  value = parallel({}, {}, toSizes, element, [&](OpBuilder &nested, Location loc, ValueRange) {
    SmallVector<Value> at;
    for (auto [i, size] : llvm::enumerate(from)) {
      Value position = linalg::IndexOp::create(nested, loc, offset + i);
      if (size.isConstant(1))
        position = zero;
      else if (size != to[offset + i])
        position = arith::MinSIOp::create(nested, loc, position, last[i]);
      at.push_back(position);
    }
    auto guarded = scf::IfOp::create(
        nested, loc, nonEmpty,
        [&](OpBuilder &then, Location loc) {
          Value read = tensor::ExtractOp::create(then, loc, source, at);
          scf::YieldOp::create(then, loc, read);
        },
        [&](OpBuilder &otherwise, Location loc) {
          scf::YieldOp::create(otherwise, loc, fallback);
        });
    return guarded.getResult(0);
  });
  return b.getMultiDimIdentityMap(to.size());
}

Value Lowering::elementwise(ArrayRef<unsigned> operands, Type element, ScalarBody body,
                            unsigned result) {
  Sizes to = broadcastSizes(operands, result);
  SmallVector<Value> inputs;
  SmallVector<AffineMap> maps;
  for (unsigned i : operands) {
    inputs.push_back(in(i));
    maps.push_back(broadcastMap(inputs.back(), dims(i), resultDims(result), to));
  }
  return parallel(inputs, maps, to, element, body);
}

void Lowering::equalize(Value &x, unsigned xDim, const SymbolicExpr &xSize, Value &y, unsigned yDim,
                        const SymbolicExpr &ySize, StringRef what) {
  if (xSize == ySize)
    return;
  OpFoldResult left = dim(x, xDim), right = dim(y, yDim);
  check(arith::CmpIOp::create(b, arith::CmpIPredicate::eq, value(left), value(right)),
        what + " differ");
  OpFoldResult smaller = min(left, right);
  for (auto [tensor, which] : {std::pair<Value *, unsigned>(&x, xDim), {&y, yDim}}) {
    Sizes cut = sizes(*tensor);
    cut[which] = smaller;
    *tensor = slice(*tensor, Sizes(cut.size(), index(0)), cut);
  }
}

Value Lowering::slice(Value tensor, ArrayRef<OpFoldResult> offsets, ArrayRef<OpFoldResult> sizes,
                      ArrayRef<OpFoldResult> strides) {
  // An empty slice may lie behind the last element, where MLIR allows none.
  auto type = cast<RankedTensorType>(tensor.getType());
  if (llvm::is_contained(type.getShape(), 0) ||
      llvm::any_of(sizes, [](OpFoldResult size) { return getConstantIntValue(size) == 0; }))
    return empty(sizes, type.getElementType());
  Sizes ones(sizes.size(), index(1));
  return tensor::ExtractSliceOp::create(b, tensor, offsets, sizes,
                                        strides.empty() ? ones : strides);
}

Value Lowering::insert(Value part, Value whole, ArrayRef<OpFoldResult> offsets) {
  Sizes own = sizes(part);
  if (llvm::any_of(own, [](OpFoldResult size) { return getConstantIntValue(size) == 0; }))
    return whole;
  return tensor::InsertSliceOp::create(b, part, whole, offsets, own, Sizes(own.size(), index(1)));
}

Value Lowering::pad(Value tensor, ArrayRef<OpFoldResult> low, ArrayRef<OpFoldResult> high,
                    Value fill) {
  auto isZero = [](OpFoldResult size) { return getConstantIntValue(size) == 0; };
  if (llvm::all_of(low, isZero) && llvm::all_of(high, isZero))
    return tensor;
  Sizes inner = sizes(tensor), outer;
  for (auto [size, front, back] : llvm::zip(inner, low, high))
    outer.push_back(add(add(size, front), back));
  return insert(tensor, filled(outer, fill), low);
}

Value Lowering::transpose(Value tensor, ArrayRef<int64_t> perm) {
  Sizes from = sizes(tensor), to;
  SmallVector<AffineExpr> exprs(perm.size());
  for (auto [i, source] : llvm::enumerate(perm)) {
    to.push_back(from[source]);
    exprs[source] = d(i);
  }
  return parallel(tensor, mapOf(perm.size(), exprs), to,
                  cast<RankedTensorType>(tensor.getType()).getElementType(),
                  [](OpBuilder &, Location, ValueRange scalars) { return scalars[0]; });
}
