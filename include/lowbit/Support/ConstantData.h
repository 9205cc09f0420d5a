//===- ConstantData.h - raw bytes of constant tensors ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_SUPPORT_CONSTANTDATA_H
#define LOWBIT_SUPPORT_CONSTANTDATA_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/BuiltinTypes.h"
#include <optional>
#include <vector>

namespace lowbit {

/// Bytes that one element takes in a constant: its width rounded up to whole bytes (i1 and i4: 1).
int64_t bytesPerElement(Type elementType);

/// The row-major bytes of a constant tensor, one element after the other, `bytesPerElement` each.
/// i1 is 0 or 1; i4 is sign-extended, ui4 zero-extended to a byte. Points into the attribute where
/// it can and owns a copy where the attribute is a splat or bit-packed. The attribute must outlive
/// this.
class ConstantData {
public:
  /// Empty where `attr` is not a dense constant or its resource is not loaded.
  static std::optional<ConstantData> get(Attribute attr);
  /// Of the constant op (onnx.Constant, arith.constant, any ConstantLike) that defines `value`.
  static std::optional<ConstantData> get(Value value);

  RankedTensorType getType() const { return type; }
  ArrayRef<char> bytes() const { return owned.empty() ? view : ArrayRef<char>(owned); }
  template <typename T>
  ArrayRef<T> as() const {
    return ArrayRef<T>(reinterpret_cast<const T *>(bytes().data()), bytes().size() / sizeof(T));
  }
  /// Elements as f32 (from f16, bf16, f32, f64) or int64 (from any integer).
  std::vector<float> toFloats() const;
  std::vector<int64_t> toInts() const;

private:
  RankedTensorType type;
  ArrayRef<char> view;
  std::vector<char> owned;
};

/// A constant of `type` from row-major bytes (layout as above); a resource named `name` where it is
/// over 1 KiB.
ElementsAttr makeConstant(RankedTensorType type, ArrayRef<char> bytes, StringRef name = "constant");
template <typename T>
ElementsAttr makeConstant(RankedTensorType type, const std::vector<T> &values,
                          StringRef name = "constant") {
  return makeConstant(
      type,
      ArrayRef<char>(reinterpret_cast<const char *>(values.data()), values.size() * sizeof(T)),
      name);
}

/// The row-major bytes of a tensor of `shape`, `size` bytes an element, in the order of its transpose: dim d of the
/// result is dim permutation[d]. The shape is not empty.
std::vector<char> permuted(ArrayRef<char> bytes, ArrayRef<int64_t> shape,
                           ArrayRef<int64_t> permutation, int64_t size);

} // namespace lowbit

#endif // LOWBIT_SUPPORT_CONSTANTDATA_H
