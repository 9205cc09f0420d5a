//===- Lowering.cpp - what the decompositions share ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Lowering.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Math/IR/Math.h"
#include "mlir/Dialect/Tensor/IR/Tensor.h"

using namespace lowbit;

Type lowbit::storageType(Type element) {
  auto integer = dyn_cast<IntegerType>(element);
  if (!integer || integer.getWidth() == 1)
    return element;
  return IntegerType::get(element.getContext(), std::max(8u, integer.getWidth()));
}

RankedTensorType lowbit::storageType(RankedTensorType type) {
  return type.clone(storageType(type.getElementType()));
}

static Value constantTensor(OpBuilder &b, Location loc, Type element, ArrayRef<int64_t> shape,
                            ArrayRef<char> bytes) {
  auto type = RankedTensorType::get(shape, element);
  return arith::ConstantOp::create(b, loc, makeConstant(type, bytes));
}

Value Lowering::stored(Value value) {
  auto type = cast<RankedTensorType>(value.getType());
  Type element = storageType(type.getElementType());
  if (std::optional<ConstantData> data = ConstantData::get(value)) {
    auto attr = value.getDefiningOp()->getAttrOfType<TypedAttr>("value");
    if (attr && attr.getType() == type.clone(element))
      return arith::ConstantOp::create(b, loc, attr);
    return constantTensor(b, loc, element, type.getShape(), data->bytes());
  }
  if (type.getElementType() == element)
    return value;
  return UnrealizedConversionCastOp::create(b, loc, type.clone(element), value).getResult(0);
}

Value Lowering::transpose(Value value, ArrayRef<int64_t> permutation) {
  SmallVector<OpFoldResult> sizes = shapeOf(value), permuted;
  for (int64_t d : permutation)
    permuted.push_back(sizes[d]);
  Value init = empty(permuted, cast<RankedTensorType>(value.getType()).getElementType());
  return linalg::TransposeOp::create(b, loc, value, init, permutation).getResult()[0];
}

Value Lowering::storedPermuted(Value value, ArrayRef<int64_t> shape,
                               ArrayRef<int64_t> permutation) {
  if (std::optional<ConstantData> data = ConstantData::get(value)) {
    Type element = data->getType().getElementType();
    SmallVector<int64_t> extents;
    for (int64_t d : permutation)
      extents.push_back(shape[d]);
    return constantTensor(
        b, loc, storageType(element), extents,
        permuted(data->bytes(), shape, permutation, bytesPerElement(element)));
  }
  value = stored(value);
  auto type = cast<RankedTensorType>(value.getType());
  if (type.getShape() != shape) {
    auto target = type.clone(shape);
    auto reassociation = getReassociationIndicesForReshape(type, target);
    if (shape.size() < size_t(type.getRank()))
      value = tensor::CollapseShapeOp::create(b, loc, target, value, *reassociation);
    else
      value = tensor::ExpandShapeOp::create(b, loc, target, value, *reassociation);
  }
  return transpose(value, permutation);
}

Value Lowering::scalar(Value tensor) {
  Type element = cast<RankedTensorType>(tensor.getType()).getElementType();
  if (std::optional<ConstantData> data = ConstantData::get(tensor)) {
    if (isa<FloatType>(element))
      return constantF32(data->toFloats()[0]);
    return constantInt(b.getI32Type(), data->toInts()[0]);
  }
  Value value = tensor::ExtractOp::create(b, loc, stored(tensor), ValueRange());
  return isa<FloatType>(element) ? value : widen(b, loc, value, element, b.getI32Type());
}

Value Lowering::constantF32(float value) {
  return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
}

Value Lowering::constantInt(Type type, int64_t value) {
  return arith::ConstantOp::create(b, loc, b.getIntegerAttr(type, value));
}

Value Lowering::dim(Value tensor, int64_t index) {
  return tensor::DimOp::create(b, loc, tensor, index);
}

SmallVector<OpFoldResult> Lowering::shapeOf(Value tensor) {
  return tensor::getMixedSizes(b, loc, tensor);
}

Value Lowering::empty(ArrayRef<OpFoldResult> shape, Type element) {
  return tensor::EmptyOp::create(b, loc, shape, element);
}

Value Lowering::elementwise(ArrayRef<Value> inputs, ArrayRef<AffineMap> maps,
                            ArrayRef<OpFoldResult> shape, Type element, BodyFn body) {
  SmallVector<AffineMap> allMaps(maps);
  allMaps.push_back(b.getMultiDimIdentityMap(shape.size()));
  SmallVector<utils::IteratorType> loops(shape.size(), utils::IteratorType::parallel);
  Value init = empty(shape, element);
  auto generic =
      linalg::GenericOp::create(b, loc, TypeRange{init.getType()}, inputs, ValueRange{init},
                                allMaps, loops, [&](OpBuilder &inner, Location, ValueRange args) {
                                  linalg::YieldOp::create(inner, loc, body(inner, args));
                                });
  return generic.getResult(0);
}

Value Lowering::contract(ArrayRef<Value> inputs, ArrayRef<AffineMap> maps, AffineMap resultMap,
                         ArrayRef<unsigned> reductions, ArrayRef<OpFoldResult> shape, Type element,
                         BodyFn body) {
  SmallVector<AffineMap> allMaps(maps);
  allMaps.push_back(resultMap);
  SmallVector<utils::IteratorType> loops(resultMap.getNumDims(), utils::IteratorType::parallel);
  for (unsigned loop : reductions)
    loops[loop] = utils::IteratorType::reduction;
  Value zero = arith::ConstantOp::create(b, loc, b.getZeroAttr(element));
  Value init =
      linalg::FillOp::create(b, loc, ValueRange{zero}, ValueRange{empty(shape, element)}).result();
  auto generic =
      linalg::GenericOp::create(b, loc, TypeRange{init.getType()}, inputs, ValueRange{init},
                                allMaps, loops, [&](OpBuilder &inner, Location, ValueRange args) {
                                  linalg::YieldOp::create(inner, loc, body(inner, args));
                                });
  return generic.getResult(0);
}

Value Lowering::widen(OpBuilder &b, Location loc, Value stored, Type element, Type type) {
  if (unsigned width = element.getIntOrFloatBitWidth(); width < 8) {
    // A caller's bytes may hold anything above a narrow element.
    auto constant = [&](int64_t value) {
      return arith::ConstantIntOp::create(b, loc, value, 8).getResult();
    };
    if (element.isUnsignedInteger()) {
      stored = arith::AndIOp::create(b, loc, stored, constant((1 << width) - 1));
    } else {
      stored = arith::ShLIOp::create(b, loc, stored, constant(8 - width));
      stored = arith::ShRSIOp::create(b, loc, stored, constant(8 - width));
    }
  }
  if (stored.getType() == type)
    return stored;
  if (element.isUnsignedInteger())
    return arith::ExtUIOp::create(b, loc, type, stored);
  return arith::ExtSIOp::create(b, loc, type, stored);
}

Value Lowering::roundAndSaturate(OpBuilder &b, Location loc, Value x, Value zero, Type element,
                                 bool atZero) {
  auto constant = [&](float value) -> Value {
    return arith::ConstantOp::create(b, loc, b.getF32FloatAttr(value));
  };
  bool isUnsigned = element.isUnsignedInteger();
  unsigned width = element.getIntOrFloatBitWidth();
  float low = isUnsigned ? 0 : -std::ldexp(1.0f, width - 1);
  float high = std::ldexp(1.0f, isUnsigned ? width : width - 1) - 1;
  Value zeroFloat = arith::SIToFPOp::create(b, loc, b.getF32Type(), zero);
  Value rounded = math::RoundEvenOp::create(b, loc, x);
  // A sum that f32 cannot hold lies far outside of the range, so its rounding does not matter.
  // maxnumf sends NaN to the lower bound.
  Value value = arith::AddFOp::create(b, loc, rounded, zeroFloat);
  value = arith::MaxNumFOp::create(b, loc, value, constant(low));
  if (atZero)
    value = arith::MaxNumFOp::create(b, loc, value, zeroFloat);
  value = arith::MinNumFOp::create(b, loc, value, constant(high));
  Value integer = arith::FPToSIOp::create(b, loc, b.getI32Type(), value);
  return arith::TruncIOp::create(b, loc, storageType(element), integer);
}
