//===- KernelBuilder.cpp - what the CPU generators share ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "KernelBuilder.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/Dialect/SCF/IR/SCF.h"
#include "mlir/Dialect/Vector/IR/VectorOps.h"

using namespace lowbit;
using namespace lowbit::cpu;

const ISA *cpu::findISA(StringRef name) {
  static const ISA variants[] = {
      {"avx2", "+avx2,+fma", 256, false},
      {"avx512vnni", "+avx2,+fma,+avx512f,+avx512bw,+avx512vl,+avx512dq,+avx512vnni", 512, true},
  };
  for (const ISA &isa : variants)
    if (isa.name == name)
      return &isa;
  return nullptr;
}

Value KernelBuilder::index(int64_t value) {
  return arith::ConstantIndexOp::create(*this, loc, value);
}
Value KernelBuilder::add(Value a, Value b) { return arith::AddIOp::create(*this, loc, a, b); }
Value KernelBuilder::add(Value a, int64_t b) { return b ? add(a, index(b)) : a; }
Value KernelBuilder::mul(Value a, Value b) { return arith::MulIOp::create(*this, loc, a, b); }
Value KernelBuilder::mul(Value a, int64_t b) { return b == 1 ? a : mul(a, index(b)); }
Value KernelBuilder::divFloor(Value a, int64_t b) {
  return b == 1 ? a : Value(arith::DivUIOp::create(*this, loc, a, index(b)));
}
Value KernelBuilder::remainder(Value a, int64_t b) {
  return arith::RemUIOp::create(*this, loc, a, index(b));
}
Value KernelBuilder::ceilDiv(Value a, int64_t b) { return divFloor(add(a, b - 1), b); }
Value KernelBuilder::min(Value a, Value b) { return arith::MinUIOp::create(*this, loc, a, b); }
Value KernelBuilder::dim(Value memref, int64_t dim) {
  auto type = cast<MemRefType>(memref.getType());
  if (!type.isDynamicDim(dim))
    return index(type.getDimSize(dim));
  return memref::DimOp::create(*this, loc, memref, dim);
}

Value KernelBuilder::flatten(Value memref) {
  auto type = cast<MemRefType>(memref.getType());
  if (type.getRank() == 1)
    return memref;
  Value size = index(1);
  for (int64_t d = 0; d < type.getRank(); ++d)
    size = mul(size, dim(memref, d));
  auto flat = MemRefType::get({ShapedType::kDynamic}, type.getElementType());
  return memref::ReinterpretCastOp::create(*this, loc, flat, memref, OpFoldResult(getIndexAttr(0)),
                                           OpFoldResult(size), OpFoldResult(getIndexAttr(1)));
}

Value KernelBuilder::load(Value flat, Value offset, int64_t count) {
  auto type = VectorType::get({count}, cast<MemRefType>(flat.getType()).getElementType());
  return vector::LoadOp::create(*this, loc, type, flat, offset);
}
void KernelBuilder::store(Value vector, Value flat, Value offset) {
  vector::StoreOp::create(*this, loc, vector, flat, offset);
}
Value KernelBuilder::loadMasked(Value flat, Value offset, int64_t count, Value limit) {
  Type element = cast<MemRefType>(flat.getType()).getElementType();
  auto type = VectorType::get({count}, element);
  Value mask = vector::CreateMaskOp::create(*this, loc, VectorType::get({count}, getI1Type()), limit);
  Value zeros = constantVector(getZeroAttr(element), count);
  return vector::MaskedLoadOp::create(*this, loc, type, flat, offset, mask, zeros);
}
void KernelBuilder::storeMasked(Value vector, Value flat, Value offset, Value limit) {
  auto lanes = cast<VectorType>(vector.getType()).getShape();
  Value mask = vector::CreateMaskOp::create(*this, loc, VectorType::get(lanes, getI1Type()), limit);
  vector::MaskedStoreOp::create(*this, loc, flat, offset, mask, vector);
}
Value KernelBuilder::splat(Value scalar, int64_t lanes) {
  return vector::BroadcastOp::create(*this, loc, VectorType::get({lanes}, scalar.getType()),
                                     scalar);
}
Value KernelBuilder::constantVector(Attribute element, int64_t lanes) {
  auto type = VectorType::get({lanes}, cast<TypedAttr>(element).getType());
  return arith::ConstantOp::create(*this, loc, DenseElementsAttr::get(type, element));
}

SmallVector<Value> KernelBuilder::loop(Value begin, Value end, Value step, ValueRange carried,
                                       function_ref<SmallVector<Value>(Value, ValueRange)> body) {
  auto op = scf::ForOp::create(*this, loc, begin, end, step, carried,
                               [&](OpBuilder &nested, Location, Value variable, ValueRange args) {
                                 OpBuilder::InsertionGuard guard(*this);
                                 restoreInsertionPoint(nested.saveInsertionPoint());
                                 SmallVector<Value> next = body(variable, args);
                                 scf::YieldOp::create(*this, loc, next);
                               });
  return SmallVector<Value>(op.getResults());
}

int64_t cpu::scheduleInt(rt::KernelOp kernel, StringRef key) {
  auto attr = kernel.getSchedule().getAs<IntegerAttr>(key);
  assert(attr && "the schedule lacks a key that its generator needs");
  return attr.getInt();
}
