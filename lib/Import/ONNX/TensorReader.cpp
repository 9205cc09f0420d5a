//===- TensorReader.cpp - TensorProto to constant attributes ----*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "TensorReader.h"
#include "lowbit/Support/ConstantData.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/Builders.h"
#include "mlir/IR/Diagnostics.h"
#include "onnx-ml.pb.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace lowbit;
using namespace lowbit::onnx;
using ::onnx::TensorProto;

Type lowbit::onnx::elementType(int dataType, MLIRContext *context) {
  Builder b(context);
  auto integer = [&](unsigned width) { return b.getIntegerType(width); };
  auto unsignedInteger = [&](unsigned width) { return b.getIntegerType(width, /*isSigned=*/false); };
  switch (dataType) {
  case TensorProto::FLOAT:
    return b.getF32Type();
  case TensorProto::DOUBLE:
    return b.getF64Type();
  case TensorProto::FLOAT16:
    return b.getF16Type();
  case TensorProto::BFLOAT16:
    return b.getBF16Type();
  case TensorProto::FLOAT8E4M3FN:
    return Float8E4M3FNType::get(context);
  case TensorProto::FLOAT8E5M2:
    return Float8E5M2Type::get(context);
  case TensorProto::FLOAT8E4M3FNUZ:
    return Float8E4M3FNUZType::get(context);
  case TensorProto::FLOAT8E5M2FNUZ:
    return Float8E5M2FNUZType::get(context);
  case TensorProto::FLOAT8E8M0:
    return Float8E8M0FNUType::get(context);
  case TensorProto::FLOAT4E2M1:
    return Float4E2M1FNType::get(context);
  case TensorProto::FLOAT6E2M3:
    return Float6E2M3FNType::get(context);
  case TensorProto::FLOAT6E3M2:
    return Float6E3M2FNType::get(context);
  case TensorProto::BOOL:
    return integer(1);
  case TensorProto::INT2:
    return integer(2);
  case TensorProto::INT4:
    return integer(4);
  case TensorProto::INT8:
    return integer(8);
  case TensorProto::INT16:
    return integer(16);
  case TensorProto::INT32:
    return integer(32);
  case TensorProto::INT64:
    return integer(64);
  case TensorProto::UINT2:
    return unsignedInteger(2);
  case TensorProto::UINT4:
    return unsignedInteger(4);
  case TensorProto::UINT8:
    return unsignedInteger(8);
  case TensorProto::UINT16:
    return unsignedInteger(16);
  case TensorProto::UINT32:
    return unsignedInteger(32);
  case TensorProto::UINT64:
    return unsignedInteger(64);
  default:
    return {};
  }
}

std::string lowbit::onnx::dataTypeName(int dataType) {
  if (TensorProto::DataType_IsValid(dataType))
    return llvm::StringRef(TensorProto::DataType_Name((TensorProto::DataType)dataType)).lower();
  return "number " + std::to_string(dataType);
}

/// Bytes as the file has them (elements of less than a byte packed, the first in the low bits) to one element per
/// `bytesPerElement` bytes.
static std::vector<char> widen(ArrayRef<char> raw, Type element, int64_t count) {
  if (element.isInteger(1)) {
    std::vector<char> bits(count);
    for (int64_t i = 0; i < count; ++i)
      bits[i] = raw[i] != 0;
    return bits;
  }
  std::vector<char> bytes(count);
  bool isSigned = element.isSignlessInteger();
  int width = element.getIntOrFloatBitWidth();
  for (int64_t i = 0; i < count; ++i) {
    size_t low = i * width / 8, high = (i * width + width - 1) / 8;
    unsigned both = (unsigned char)raw[low] | (unsigned char)raw[high] << 8;
    int value = (both >> (i * width % 8)) & ((1 << width) - 1);
    bytes[i] = isSigned && value >> (width - 1) ? value - (1 << width) : value;
  }
  return bytes;
}

static bool isPacked(Type element) {
  return element.isIntOrFloat() && element.getIntOrFloatBitWidth() < 8 && !element.isInteger(1);
}

/// Copies the typed field of `tensor` into `raw`, cut to the width of one element. False where the field does not
/// have `count` entries.
template <typename Field>
static bool copyField(const Field &field, int64_t count, int64_t size, std::vector<char> &raw) {
  if (field.size() != count)
    return false;
  raw.resize(count * size);
  for (int64_t i = 0; i < count; ++i) {
    auto value = field.Get(i);
    std::copy_n(reinterpret_cast<const char *>(&value), size, raw.data() + i * size);
  }
  return true;
}

ElementsAttr TensorReader::read(const TensorProto &tensor, Location loc, const std::string &what) {
  Type element = elementType(tensor.data_type(), context);
  if (!element) {
    emitError(loc) << what << " has element type " << dataTypeName(tensor.data_type())
                   << ", which is not supported";
    return {};
  }
  if (tensor.has_segment()) {
    emitError(loc) << what << " is stored in segments, which is not supported";
    return {};
  }
  bool packed = isPacked(element);
  int64_t count = 1, size = bytesPerElement(element), wide;
  SmallVector<int64_t> shape(tensor.dims().begin(), tensor.dims().end());
  for (int64_t dim : shape)
    if (dim < 0 || __builtin_mul_overflow(count, dim, &count) ||
        __builtin_mul_overflow(count, size * 8, &wide)) {
      emitError(loc) << what << " has the impossible shape [" << llvm::join(
          llvm::map_range(shape, [](int64_t d) { return std::to_string(d); }), ", ") << "]";
      return {};
    }
  auto type = RankedTensorType::get(shape, element);
  // Entries of the typed fields and of raw data; the former holds 6-bit elements one by one.
  int64_t width = element.getIntOrFloatBitWidth();
  bool loose = width == 6 && !tensor.has_raw_data() && tensor.data_location() != TensorProto::EXTERNAL;
  int64_t fileCount = packed && !loose ? (count * width + 7) / 8 : count, fileBytes = fileCount * size;

  if (tensor.data_location() == TensorProto::EXTERNAL)
    return readExternal(tensor, type, fileBytes, loc, what);

  std::vector<char> typed;
  ArrayRef<char> raw;
  int64_t found = 0;
  bool complete;
  if (tensor.has_raw_data()) {
    raw = ArrayRef<char>(tensor.raw_data().data(), tensor.raw_data().size());
    complete = (int64_t)raw.size() == fileBytes;
    found = raw.size();
  } else {
    switch (tensor.data_type()) {
    case TensorProto::FLOAT:
      complete = copyField(tensor.float_data(), fileCount, size, typed);
      found = tensor.float_data_size() * size;
      break;
    case TensorProto::DOUBLE:
      complete = copyField(tensor.double_data(), fileCount, size, typed);
      found = tensor.double_data_size() * size;
      break;
    case TensorProto::INT64:
      complete = copyField(tensor.int64_data(), fileCount, size, typed);
      found = tensor.int64_data_size() * size;
      break;
    case TensorProto::UINT32:
    case TensorProto::UINT64:
      complete = copyField(tensor.uint64_data(), fileCount, size, typed);
      found = tensor.uint64_data_size() * size;
      break;
    default:
      complete = copyField(tensor.int32_data(), fileCount, size, typed);
      found = tensor.int32_data_size() * size;
    }
    raw = typed;
  }
  if (!complete) {
    emitError(loc) << what << " should hold " << fileBytes << " bytes but holds " << found;
    return {};
  }
  if ((packed && !loose) || element.isInteger(1))
    typed = widen(raw, element, count), raw = typed;
  return makeConstant(type, raw, tensor.name().empty() ? StringRef("constant") : StringRef(tensor.name()));
}

std::shared_ptr<llvm::MemoryBuffer> TensorReader::map(StringRef location, Location loc,
                                                      const std::string &what) {
  auto known = byName.find(location);
  if (known != byName.end())
    return known->second;
  if (directory.empty()) {
    emitError(loc) << what << " lies in external file '" << location
                   << "', but the model was not read from a folder";
    return {};
  }
  bool climbs = llvm::is_contained(
      llvm::make_range(llvm::sys::path::begin(location), llvm::sys::path::end(location)), "..");
  SmallString<256> path(directory), root, real;
  llvm::sys::path::append(path, location);
  if (location.empty() || llvm::sys::path::is_absolute(location) || climbs) {
    emitError(loc) << what << " lies in external file '" << location
                   << "', which is outside the model's folder";
    return {};
  }
  if (std::error_code error = llvm::sys::fs::real_path(path, real)) {
    emitError(loc) << what << " lies in external file '" << location
                   << "', which cannot be opened: " << error.message();
    return {};
  }
  llvm::sys::fs::real_path(directory, root);
  if (!root.ends_with("/"))
    root += "/";
  if (!real.starts_with(root)) {
    emitError(loc) << what << " lies in external file '" << location
                   << "', a link that leads outside the model's folder";
    return {};
  }
  auto buffer = llvm::MemoryBuffer::getFile(real, /*IsText=*/false, /*RequiresNullTerminator=*/false);
  if (!buffer) {
    emitError(loc) << what << " lies in external file '" << location
                   << "', which cannot be read: " << buffer.getError().message();
    return {};
  }
  std::shared_ptr<llvm::MemoryBuffer> file = std::move(*buffer);
  byName[location] = file;
  files.push_back(file);
  return file;
}

ElementsAttr TensorReader::readExternal(const TensorProto &tensor, RankedTensorType type,
                                        uint64_t fileBytes, Location loc,
                                        const std::string &what) {
  std::string location;
  uint64_t offset = 0, length = fileBytes;
  for (const auto &entry : tensor.external_data()) {
    bool bad = false;
    if (entry.key() == "location")
      location = entry.value();
    else if (entry.key() == "offset")
      bad = StringRef(entry.value()).getAsInteger(10, offset);
    else if (entry.key() == "length")
      bad = StringRef(entry.value()).getAsInteger(10, length);
    if (bad) {
      emitError(loc) << what << ": external data has the " << entry.key() << " '" << entry.value()
                     << "', which is not a number of bytes";
      return {};
    }
  }
  if (length != fileBytes) {
    emitError(loc) << what << " should hold " << fileBytes << " bytes, but its external data is "
                   << length << " bytes long";
    return {};
  }
  std::shared_ptr<llvm::MemoryBuffer> file = map(location, loc, what);
  if (!file)
    return {};
  if (offset > file->getBufferSize() || fileBytes > file->getBufferSize() - offset) {
    emitError(loc) << what << " takes bytes " << offset << " to " << offset + fileBytes
                   << " of external file '" << location << "', which has only "
                   << file->getBufferSize();
    return {};
  }
  ArrayRef<char> raw(file->getBufferStart() + offset, fileBytes);
  Type element = type.getElementType();
  std::vector<char> wide;
  if (isPacked(element) || element.isInteger(1))
    wide = widen(raw, element, type.getNumElements()), raw = wide;
  size_t align = bytesPerElement(element);
  bool aligned = reinterpret_cast<uintptr_t>(raw.data()) % align == 0;
  if (raw.size() <= 1024 || !wide.empty() || !aligned)
    return makeConstant(type, raw, tensor.name());
  // Zero copy: the mapping lives as long as some blob points into it.
  AsmResourceBlob blob(raw, align, [file](void *, size_t, size_t) {}, /*dataIsMutable=*/false);
  return DenseResourceElementsAttr::get(type, tensor.name(), std::move(blob));
}
