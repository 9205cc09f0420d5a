//===- ImportONNX.cpp - ONNX files become the float form --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Import/ONNX/ImportONNX.h"
#include "GraphImporter.h"
#include "google/protobuf/io/coded_stream.h"
#include "google/protobuf/io/zero_copy_stream_impl_lite.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Runtime/Sha256.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/IR/Diagnostics.h"
#include "mlir/IR/Verifier.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/Path.h"

using namespace lowbit;

/// Messages within messages: real models need about ten.
static constexpr int maxNesting = 64;

static bool parse(ArrayRef<char> bytes, ::onnx::ModelProto &model) {
  google::protobuf::io::ArrayInputStream array(bytes.data(), bytes.size());
  google::protobuf::io::CodedInputStream stream(&array);
  stream.SetRecursionLimit(maxNesting);
  stream.SetTotalBytesLimit(INT_MAX);
  return model.ParseFromCodedStream(&stream) && stream.ConsumedEntireMessage();
}

/// The model of a file's bytes, which are needed no more; `hash` takes them.
static LogicalResult readModel(ArrayRef<char> bytes, Location loc, ::onnx::ModelProto &model,
                               Sha256 &hash) {
  if (bytes.empty())
    return emitError(loc) << "the file is empty, so not an ONNX model";
  if (bytes.size() > INT_MAX)
    return emitError(loc) << "over 2 GiB: save the weights as external data";
  if (!parse(bytes, model))
    return emitError(loc) << "not an ONNX model, or damaged";
  if (!model.has_graph())
    return emitError(loc) << "no graph in it: not an ONNX model, or damaged";
  hash.update(bytes.data(), bytes.size());
  return success();
}

static Location locationOf(StringRef name, MLIRContext &context) {
  return NameLoc::get(StringAttr::get(&context, name));
}

/// `hash` has taken the file; external data follow.
static OwningOpRef<ModuleOp> importModel(const ::onnx::ModelProto &model, Sha256 &hash,
                                         StringRef name, StringRef directory, MLIRContext &context,
                                         const ImportOptions &options) {
  context.loadDialect<lowbit::onnx::ONNXDialect, func::FuncDialect>();
  OpBuilder builder(&context);
  Location loc = locationOf(name, context);
  lowbit::onnx::NodeList nodes;
  if (failed(lowbit::onnx::listNodes(model, loc, nodes)))
    return nullptr;
  OwningOpRef<ModuleOp> module(ModuleOp::create(builder, loc));
  builder.setInsertionPointToStart(module->getBody());
  lowbit::onnx::TensorReader tensors(&context, directory);
  lowbit::onnx::GraphImporter importer(model.graph(), nodes, tensors, builder, loc);
  if (failed(importer.run(options.functionName)))
    return nullptr;

  // The runtime's hash, not LLVM's: it uses the processor's instructions, and weights may be
  // gigabytes.
  for (const auto &file : tensors.mappedFiles())
    hash.update(file->getBufferStart(), file->getBufferSize());
  (*module)->setAttr("onnx.opset", builder.getI64IntegerAttr(nodes.opsets.front().lookup("")));
  (*module)->setAttr("onnx.model_sha256", builder.getStringAttr(hash.finish()));
  if (failed(verify(*module)))
    return nullptr;
  return module;
}

OwningOpRef<ModuleOp> lowbit::importONNX(ArrayRef<char> bytes, StringRef name, StringRef directory,
                                         MLIRContext &context, const ImportOptions &options) {
  ::onnx::ModelProto model;
  Sha256 hash;
  if (failed(readModel(bytes, locationOf(name, context), model, hash)))
    return nullptr;
  return importModel(model, hash, name, directory, context, options);
}

OwningOpRef<ModuleOp> lowbit::importONNX(StringRef path, MLIRContext &context,
                                         const ImportOptions &options) {
  Location loc = locationOf(path, context);
  llvm::sys::fs::file_status status;
  std::error_code error = llvm::sys::fs::status(path, status);
  if (!error && llvm::sys::fs::is_directory(status))
    error = std::make_error_code(std::errc::is_a_directory);
  auto buffer = error ? llvm::ErrorOr<std::unique_ptr<llvm::MemoryBuffer>>(error)
                      : llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                                    /*RequiresNullTerminator=*/false);
  if (!buffer)
    return emitError(loc) << "cannot read the model: " << buffer.getError().message(), nullptr;
  StringRef directory = llvm::sys::path::parent_path(path);
  ::onnx::ModelProto model;
  Sha256 hash;
  if (failed(readModel(ArrayRef<char>((*buffer)->getBufferStart(), (*buffer)->getBufferSize()), loc,
                       model, hash)))
    return nullptr;
  buffer->reset(); // The model holds a copy, and its constants will be another.
  return importModel(model, hash, path, directory.empty() ? "." : directory, context, options);
}

GraphNames lowbit::readGraphNames(StringRef path, MLIRContext &context) {
  GraphNames names;
  auto buffer = llvm::MemoryBuffer::getFile(path, /*IsText=*/false,
                                            /*RequiresNullTerminator=*/false);
  ::onnx::ModelProto model;
  lowbit::onnx::NodeList nodes;
  if (!buffer || (*buffer)->getBufferSize() > INT_MAX ||
      !parse(ArrayRef<char>((*buffer)->getBufferStart(), (*buffer)->getBufferSize()), model) ||
      failed(lowbit::onnx::listNodes(model, UnknownLoc::get(&context), nodes)))
    return names;
  if (!model.graph().name().empty())
    names.graph = model.graph().name();
  for (const lowbit::onnx::NamedNode &node : nodes.nodes)
    names.outputs[node.name].assign(node.proto->output().begin(), node.proto->output().end());
  return names;
}
