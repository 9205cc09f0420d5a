//===- ConstantData.cpp - raw bytes of constant tensors ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/Matchers.h"
#include "mlir/IR/Operation.h"
#include "llvm/ADT/APFloat.h"
#include "llvm/Support/Memory.h"
#include <cstring>

using namespace lowbit;

int64_t lowbit::bytesPerElement(Type elementType) {
  if (isa<IndexType>(elementType))
    return 8;
  return (elementType.getIntOrFloatBitWidth() + 7) / 8;
}

/// A signless type of less than a byte, except i1: MLIR's own attributes leave the bits above it 0.
static bool isNarrowSigned(Type element) {
  return element.isSignlessInteger() && element.getIntOrFloatBitWidth() > 1 &&
         element.getIntOrFloatBitWidth() < 8;
}

static std::vector<char> signExtended(ArrayRef<char> bytes, unsigned width) {
  std::vector<char> result(bytes.begin(), bytes.end());
  for (char &byte : result)
    byte = char(int8_t(uint8_t(byte) << (8 - width)) >> (8 - width));
  return result;
}

std::optional<ConstantData> ConstantData::get(Attribute attr) {
  ConstantData data;
  if (auto resource = dyn_cast_or_null<DenseResourceElementsAttr>(attr)) {
    AsmResourceBlob *blob = resource.getRawHandle().getBlob();
    if (!blob)
      return std::nullopt;
    data.type = cast<RankedTensorType>(resource.getType());
    data.view = blob->getData();
    if ((int64_t)data.view.size() !=
        data.type.getNumElements() * bytesPerElement(data.type.getElementType()))
      return std::nullopt;
    if (isNarrowSigned(data.type.getElementType()))
      data.owned = signExtended(data.view, data.type.getElementTypeBitWidth());
    return data;
  }
  auto dense = dyn_cast_or_null<DenseElementsAttr>(attr);
  if (!dense || !dense.getElementType().isIntOrIndexOrFloat())
    return std::nullopt;
  data.type = RankedTensorType::get(dense.getType().getShape(), dense.getElementType());
  Type element = dense.getElementType();
  int64_t count = data.type.getNumElements(), size = bytesPerElement(element);
  if (element.isInteger(1)) { // Bit-packed in the attribute.
    data.owned.reserve(count);
    for (bool bit : dense.getValues<bool>())
      data.owned.push_back(bit);
  } else if (dense.isSplat()) {
    ArrayRef<char> raw = dense.getRawData();
    data.owned.resize(count * size);
    for (int64_t i = 0; i < count; ++i)
      std::copy_n(raw.data(), size, data.owned.data() + i * size);
  } else {
    data.view = dense.getRawData();
  }
  if (isNarrowSigned(element))
    data.owned = signExtended(data.bytes(), element.getIntOrFloatBitWidth());
  return data;
}

std::optional<ConstantData> ConstantData::get(Value value) {
  Attribute attr;
  if (Operation *op = value ? value.getDefiningOp() : nullptr) {
    if (op->getNumOperands() == 0 && op->getNumResults() == 1)
      attr = op->getAttr("value");
  }
  return attr ? get(attr) : std::nullopt;
}

std::vector<float> ConstantData::toFloats() const {
  Type element = type.getElementType();
  std::vector<float> values(type.getNumElements());
  if (element.isF32()) {
    ArrayRef<float> raw = as<float>();
    values.assign(raw.begin(), raw.end());
  } else if (element.isF64()) {
    ArrayRef<double> raw = as<double>();
    values.assign(raw.begin(), raw.end());
  } else if (auto type = dyn_cast<FloatType>(element)) {
    int64_t size = bytesPerElement(element);
    for (size_t i = 0; i < values.size(); ++i) {
      uint64_t bits = 0;
      std::copy_n(bytes().data() + i * size, size, reinterpret_cast<char *>(&bits));
      APFloat value(type.getFloatSemantics(), APInt(type.getWidth(), bits));
      bool lossy;
      value.convert(APFloat::IEEEsingle(), APFloat::rmNearestTiesToEven, &lossy);
      values[i] = value.convertToFloat();
    }
  }
  return values;
}

std::vector<int64_t> ConstantData::toInts() const {
  Type element = type.getElementType();
  int64_t size = bytesPerElement(element), count = type.getNumElements();
  bool isUnsigned = element.isUnsignedInteger() || element.isInteger(1);
  unsigned width = isa<IndexType>(element) ? 64 : element.getIntOrFloatBitWidth();
  std::vector<int64_t> values(count);
  for (int64_t i = 0; i < count; ++i) {
    uint64_t bits = 0;
    std::copy_n(bytes().data() + i * size, size, reinterpret_cast<char *>(&bits));
    APInt value(64, bits);
    values[i] =
        isUnsigned ? value.zextOrTrunc(width).getZExtValue() : value.trunc(width).getSExtValue();
  }
  return values;
}

/// A copy of the bytes. Where they are many, in pages of their own: a heap would keep the memory of
/// weights that are superseded, in holes between those that are not.
static AsmResourceBlob copyToBlob(ArrayRef<char> bytes) {
  constexpr size_t large = 64 << 10;
  std::error_code error;
  llvm::sys::MemoryBlock pages;
  if (bytes.size() >= large)
    pages = llvm::sys::Memory::allocateMappedMemory(
        bytes.size(), nullptr, llvm::sys::Memory::MF_READ | llvm::sys::Memory::MF_WRITE, error);
  if (!pages.base())
    return HeapAsmResourceBlob::allocateAndCopyWithAlign(bytes, 64);
  std::memcpy(pages.base(), bytes.data(), bytes.size());
  ArrayRef<char> data(static_cast<const char *>(pages.base()), bytes.size());
  auto release = [pages](void *, size_t, size_t) mutable {
    llvm::sys::Memory::releaseMappedMemory(pages);
  };
  return AsmResourceBlob(data, 64, release, /*dataIsMutable=*/true);
}

ElementsAttr lowbit::makeConstant(RankedTensorType type, ArrayRef<char> bytes, StringRef name) {
  assert((int64_t)bytes.size() == type.getNumElements() * bytesPerElement(type.getElementType()) &&
         "bytes do not fill the type");
  if (bytes.size() > 1024)
    return DenseResourceElementsAttr::get(type, name, copyToBlob(bytes));
  if (type.getElementType().isInteger(1)) {
    SmallVector<bool> bits;
    for (char byte : bytes)
      bits.push_back(byte != 0);
    return DenseElementsAttr::get(type, bits);
  }
  if (isNarrowSigned(
          type.getElementType())) { // As MLIR would parse it, so that equal constants are equal.
    std::vector<char> masked(bytes.begin(), bytes.end());
    for (char &byte : masked)
      byte &= (1 << type.getElementTypeBitWidth()) - 1;
    return DenseElementsAttr::getFromRawBuffer(type, masked);
  }
  return DenseElementsAttr::getFromRawBuffer(type, bytes);
}

std::vector<char> lowbit::permuted(ArrayRef<char> bytes, ArrayRef<int64_t> shape,
                                   ArrayRef<int64_t> permutation, int64_t size) {
  size_t rank = shape.size();
  SmallVector<int64_t> strides(rank, size), extents, steps, index(rank, 0);
  for (size_t d = rank - 1; d-- > 0;)
    strides[d] = strides[d + 1] * shape[d + 1];
  for (int64_t d : permutation) {
    extents.push_back(shape[d]);
    steps.push_back(strides[d]);
  }
  std::vector<char> result(bytes.size());
  int64_t from = 0;
  for (size_t to = 0; to < result.size(); to += size) {
    std::copy_n(bytes.data() + from, size, result.data() + to);
    // The next index of the transpose, the last dimension fastest.
    for (size_t d = rank; d-- > 0;) {
      from += steps[d];
      if (++index[d] < extents[d])
        break;
      from -= steps[d] * extents[d];
      index[d] = 0;
    }
  }
  return result;
}
