//===- VerifyForm.cpp - is the module in one of the named forms ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/ONNX/IR/ONNX.h"
#include "lowbit/Interfaces/QuantizableOpInterface.h"
#include "lowbit/Support/ConstantData.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/OpImplementation.h"
#include "llvm/ADT/StringSwitch.h"

namespace lowbit {
#define GEN_PASS_DEF_VERIFYFORM
#include "lowbit/Transforms/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

namespace {
enum class Form { Float, Observed, QDQ, Quantized, Scheduled, LLVM };

struct VerifyForm : public lowbit::impl::VerifyFormBase<VerifyForm> {
  using VerifyFormBase::VerifyFormBase;

  void runOnOperation() override {
    std::optional<Form> parsed = llvm::StringSwitch<std::optional<Form>>(form)
                                     .Case("float", Form::Float)
                                     .Case("observed", Form::Observed)
                                     .Case("qdq", Form::QDQ)
                                     .Case("quantized", Form::Quantized)
                                     .Case("scheduled", Form::Scheduled)
                                     .Case("llvm", Form::LLVM)
                                     .Default(std::nullopt);
    if (!parsed) {
      getOperation().emitError("unknown form '")
          << form << "', expected float, observed, qdq, quantized, scheduled or llvm";
      return signalPassFailure();
    }
    getOperation()->walk([&](Operation *op) {
      ++numChecked;
      StringRef whyNot = check(op, *parsed);
      if (whyNot.empty())
        return;
      InFlightDiagnostic diag = op->emitOpError("does not belong in the ") << form << " form";
      diag.attachNote() << whyNot;
      signalPassFailure();
    });
  }

private:
  /// Why `op` may not be in the form; empty where it may.
  static StringRef check(Operation *op, Form form) {
    StringRef dialect = op->getName().getDialectNamespace();
    bool isExit = dialect == "lowbit_rt" || dialect == "llvm";
    switch (form) {
    case Form::Float:
    case Form::Observed:
      if (isExit)
        return "the form is before any target";
      if (isa<ObserveOp>(op))
        return form == Form::Observed ? "" : "observers make it the observed form";
      if (form == Form::Observed && isa<QuantizeOp, DequantizeOp>(op))
        return ""; // The model's own.
      return dialect == "lowbit" ? "nothing is quantized yet" : "";
    case Form::QDQ:
      if (isExit)
        return "the form is before any target";
      if (isa<ObserveOp>(op))
        return "lowbit-apply-recipe erases observers";
      return dialect != "lowbit" || isa<QuantizeOp, DynamicQuantizeOp, DequantizeOp>(op)
                 ? ""
                 : "only quantize and dequantize say what is decided";
    case Form::Quantized: {
      if (isExit)
        return "the form is before any target";
      if (isa<ObserveOp>(op))
        return "lowbit-apply-recipe erases observers";
      auto dequantize = dyn_cast<DequantizeOp>(op);
      if (dequantize && ConstantData::get(dequantize.getInput()) &&
          llvm::any_of(dequantize->getUsers(),
                       [](Operation *user) { return isa<QuantizableOpInterface>(user); }))
        return "lowbit-fuse-qdq left this layer's weights outside of a quantized op";
      return "";
    }
    case Form::Scheduled:
      return dialect == "onnx" || dialect == "lowbit" || dialect == "llvm"
                 ? "what has no kernel is in linalg by now"
                 : "";
    case Form::LLVM:
      return dialect == "llvm" || dialect == "builtin" ? ""
                                                       : "everything is in the llvm dialect by now";
    }
    return "";
  }
};
} // namespace
