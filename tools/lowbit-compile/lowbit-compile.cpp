//===- lowbit-compile.cpp - an ONNX model to a bundle, without Python ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Driver/Driver.h"
#include "llvm/Support/CommandLine.h"
#include "llvm/Support/FileSystem.h"
#include "llvm/Support/raw_ostream.h"

using namespace llvm;

static cl::OptionCategory category("lowbit-compile options");
static cl::opt<std::string> model(cl::Positional, cl::desc("MODEL.onnx"), cl::Required,
                                  cl::cat(category));
static cl::opt<std::string> output("o", cl::desc("Bundle folder, or with --emit a file"),
                                   cl::cat(category));
static cl::opt<std::string> recipe("recipe",
                                   cl::desc("A name, NAME:key=value,… or a file (default: fp32)"),
                                   cl::init("fp32"), cl::cat(category));
static cl::opt<std::string> calibration("calibration", cl::desc("Calibration file"),
                                        cl::cat(category));
static cl::opt<std::string> target("target", cl::desc("cpu (default) or cuda"), cl::init("cpu"),
                                   cl::cat(category));
static cl::opt<std::string>
    arch("arch", cl::desc("cpu: x86-64-v3 (default), x86-64-v4, host; cuda: sm_80, sm_90a, …"),
         cl::cat(category));
static cl::list<std::string> dims("dim", cl::desc("NAME=SIZE: fix a dynamic dimension"),
                                  cl::cat(category));
static cl::opt<std::string>
    emit("emit",
         cl::desc("Stop at a form: onnx, float, qdq, quantized, scheduled, llvm, asm, ptx, cubin"),
         cl::cat(category));
static cl::opt<bool> force("force", cl::desc("Replace the output"), cl::cat(category));

static int fail(Error error) {
  int code = 5;
  std::string message;
  handleAllErrors(
      std::move(error),
      [&](const lowbit::DriverError &driver) {
        code = driver.code;
        message = driver.message;
      },
      [&](const ErrorInfoBase &other) { message = other.message(); });
  errs() << "lowbit-compile: error: " << message << "\n";
  return code;
}

static Error usage(const Twine &message) {
  return make_error<lowbit::DriverError>(2, message.str());
}

int main(int argc, char **argv) {
  cl::HideUnrelatedOptions(category);
  std::string messages;
  raw_string_ostream stream(messages);
  if (!cl::ParseCommandLineOptions(argc, argv, "lowbit-compile: ONNX to a quantized bundle\n",
                                   &stream)) {
    errs() << messages;
    return 2;
  }
  lowbit::CompileOptions options;
  options.model = model;
  options.recipe = recipe;
  options.calibration = calibration;
  options.target = target;
  options.arch = arch;
  options.force = force;
  for (StringRef dim : dims) {
    auto [name, size] = dim.rsplit('=');
    int64_t number;
    if (size.getAsInteger(10, number))
      return fail(usage("--dim " + dim + ": expected NAME=SIZE"));
    options.dims[name.str()] = number;
  }
  if (recipe.getNumOccurrences() == 0)
    errs() << "lowbit-compile: no --recipe: fp32, so only what the model quantizes itself is quantized\n";

  if (emit.empty()) {
    if (output.empty())
      return fail(usage("no -o: where should the bundle go?"));
    // A copy: the linker that runs in this process resets every command line option.
    auto report = lowbit::compileBundle(options, std::string(output));
    return report ? 0 : fail(report.takeError());
  }
  auto text = lowbit::emitForm(options, emit);
  if (!text)
    return fail(text.takeError());
  if (output.empty() || output == "-") {
    outs() << *text;
    return 0;
  }
  std::error_code error;
  raw_fd_ostream file(output, error, force ? sys::fs::CD_CreateAlways : sys::fs::CD_CreateNew);
  if (error)
    return fail(usage(output + ": " + error.message()));
  file << *text;
  return 0;
}
