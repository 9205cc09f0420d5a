//===- TensorReader.h - TensorProto to constant attributes ------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_IMPORT_ONNX_TENSORREADER_H
#define LOWBIT_LIB_IMPORT_ONNX_TENSORREADER_H

#include "lowbit/Support/LLVM.h"
#include "mlir/IR/BuiltinAttributes.h"
#include "mlir/IR/Location.h"
#include "llvm/ADT/StringMap.h"
#include "llvm/Support/MemoryBuffer.h"
#include <memory>
#include <string>

namespace onnx {
class TensorProto;
}

namespace lowbit::onnx {

/// The element type of TensorProto.DataType `dataType`; null for strings, complex numbers and formats that MLIR lacks.
Type elementType(int dataType, MLIRContext *context);

/// ONNX's name of `dataType`, for messages.
std::string dataTypeName(int dataType);

/// Turns tensors of one model file into attributes, and maps the files that hold external data.
class TensorReader {
public:
  /// `directory`: where external data may lie; empty where the model has no place on disk.
  TensorReader(MLIRContext *context, StringRef directory)
      : context(context), directory(directory) {}

  /// The constant, or null after one diagnostic at `loc`; `what` names the tensor in it.
  ElementsAttr read(const ::onnx::TensorProto &tensor, Location loc, const std::string &what);

  /// The mapped files in the order of first use.
  ArrayRef<std::shared_ptr<llvm::MemoryBuffer>> mappedFiles() const { return files; }

private:
  ElementsAttr readExternal(const ::onnx::TensorProto &tensor, RankedTensorType type,
                            uint64_t fileBytes, Location loc, const std::string &what);
  std::shared_ptr<llvm::MemoryBuffer> map(StringRef location, Location loc,
                                          const std::string &what);

  MLIRContext *context;
  std::string directory;
  llvm::StringMap<std::shared_ptr<llvm::MemoryBuffer>> byName;
  SmallVector<std::shared_ptr<llvm::MemoryBuffer>> files;
};

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_IMPORT_ONNX_TENSORREADER_H
