//===- lowbit-translate.cpp - files to MLIR and back ------------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Export/ONNX/ExportONNX.h"
#include "lowbit/Import/ONNX/ImportONNX.h"
#include "lowbit/InitAll.h"
#include "mlir/Bytecode/BytecodeWriter.h"
#include "mlir/IR/DialectRegistry.h"
#include "mlir/IR/MLIRContext.h"
#include "mlir/IR/Verifier.h"
#include "mlir/Tools/mlir-translate/MlirTranslateMain.h"
#include "mlir/Tools/mlir-translate/Translation.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/Path.h"
#include "llvm/Support/SourceMgr.h"

static mlir::OwningOpRef<mlir::Operation *> importONNX(llvm::SourceMgr &sources,
                                                       mlir::MLIRContext *context) {
  const llvm::MemoryBuffer *buffer = sources.getMemoryBuffer(sources.getMainFileID());
  llvm::StringRef name = buffer->getBufferIdentifier();
  llvm::StringRef directory = llvm::sys::path::parent_path(name);
  llvm::ArrayRef<char> bytes(buffer->getBufferStart(), buffer->getBufferSize());
  mlir::OwningOpRef<mlir::ModuleOp> module = lowbit::importONNX(bytes, name,
                                                                name == "<stdin>"   ? ""
                                                                : directory.empty() ? "."
                                                                                    : directory,
                                                                *context);
  return module ? module.release().getOperation() : nullptr;
}

static llvm::LogicalResult exportONNX(mlir::Operation *op, llvm::raw_ostream &output) {
  auto module = llvm::dyn_cast<mlir::ModuleOp>(op);
  if (!module)
    return op->emitError("expected a module");
  return lowbit::exportONNX(module, output);
}

int main(int argc, char **argv) {
  // Weights as text are hexadecimal digits; as bytecode they go from the model's file to the output as they are.
  llvm::cl::opt<bool> emitBytecode("emit-bytecode", llvm::cl::desc("Write bytecode, not text"));
  mlir::TranslateRegistration import(
      "import-onnx", "reads an ONNX model",
      [&](const std::shared_ptr<llvm::SourceMgr> &sources, llvm::raw_ostream &output,
          mlir::MLIRContext *context) -> llvm::LogicalResult {
        mlir::DialectRegistry registry;
        lowbit::registerAllDialects(registry);
        context->appendDialectRegistry(registry);
        mlir::OwningOpRef<mlir::Operation *> module = importONNX(*sources, context);
        if (!module || mlir::failed(mlir::verify(*module)))
          return mlir::failure();
        if (emitBytecode)
          return mlir::writeBytecodeToFile(*module, output);
        module->print(output);
        return mlir::success();
      });
  mlir::TranslateFromMLIRRegistration toONNX(
      "export-onnx", "writes a module in the qdq form as an ONNX model", exportONNX,
      [](mlir::DialectRegistry &registry) { lowbit::registerAllDialects(registry); });
  return mlir::failed(mlir::mlirTranslateMain(argc, argv, "lowbit translation tool\n"));
}
