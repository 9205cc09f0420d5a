//===- lowbit-run.cpp - run a bundle on arrays from a file ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Npz.h"

#include "lowbit-c/Runtime.h"
#include "lowbit/Runtime/Text.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>
#include <unistd.h>

using namespace lowbit::tool;

namespace {

struct Options {
  std::string bundle, inputs, output, device, isa;
  int threads = 0, repeat = 0;
  bool force = false;
};

/// Owns what the runtime hands out, so that every way out of main closes it.
struct Session {
  lowbit_bundle *bundle = nullptr;
  std::vector<lowbit_tensor> outputs;
  void release() {
    for (lowbit_tensor &output : outputs)
      lowbit_tensor_release(&output);
  }
  ~Session() {
    release();
    lowbit_bundle_close(bundle);
  }
};

} // namespace

static const char usage[] =
    "usage: lowbit-run BUNDLE --inputs IN.npz -o OUT.npz [options]\n"
    "\n"
    "Runs a compiled model. IN.npz holds one array for each input of the model, by name;\n"
    "OUT.npz gets one for each output.\n"
    "\n"
    "  --inputs FILE   arrays to run on (not needed for a model without inputs)\n"
    "  -o FILE         where to write the results; may be left out with --repeat\n"
    "  --force         replace OUT.npz where it exists\n"
    "  --device NAME   cpu, cuda:0 or emulator (the default: what the bundle is for)\n"
    "  --threads N     threads to use; 0, the default: one per processor\n"
    "  --isa NAME      kernel variant of the bundle instead of the best that this processor has\n"
    "  --repeat N      run N times after one run to warm up; print the median, p10 and p90 time\n"
    "  --help          print this\n"
    "\n"
    "Exit codes: 0 done; 2 bad usage, bundle or input; 3 made for another runtime or processor;\n"
    "4 out of memory or disk; 5 internal error; 6 device not available.\n";

static int parseNumber(const std::string &option, const char *text, int most) {
  char *end = nullptr;
  long value = std::strtol(text, &end, 10);
  if (end == text || *end != 0 || value < 0 || value > most)
    throw Error{LOWBIT_INVALID, option + " is " + inQuotes(text) +
                                    ", expected a number from 0 to " + std::to_string(most)};
  return int(value);
}

static Options parseArguments(int argc, char **argv) {
  Options options;
  auto set = [](std::string &field, const std::string &option, const char *value) {
    if (!field.empty())
      throw Error{LOWBIT_INVALID, option + " is given twice"};
    field = value;
  };
  for (int i = 1; i < argc; ++i) {
    std::string argument = argv[i];
    if (argument == "--force") {
      options.force = true;
      continue;
    }
    if (argument.empty() || argument[0] != '-') {
      if (!options.bundle.empty())
        throw Error{LOWBIT_INVALID, "unexpected argument " + inQuotes(argument) + "; see --help"};
      options.bundle = argument;
      continue;
    }
    // --name=value or --name value
    std::string option = argument.substr(0, argument.find('='));
    static const char *const known[] = {"--inputs",  "-o",    "--output", "--device",
                                        "--threads", "--isa", "--repeat"};
    if (std::none_of(std::begin(known), std::end(known), [&](auto *k) { return option == k; }))
      throw Error{LOWBIT_INVALID, "unknown option " + inQuotes(option) + "; see --help"};
    const char *value = nullptr;
    if (option.size() < argument.size())
      value = argv[i] + option.size() + 1;
    else if (i + 1 < argc)
      value = argv[++i];
    if (!value || !*value)
      throw Error{LOWBIT_INVALID, option + " needs a value"};
    if (option == "--inputs")
      set(options.inputs, option, value);
    else if (option == "-o" || option == "--output")
      set(options.output, option, value);
    else if (option == "--device")
      set(options.device, option, value);
    else if (option == "--isa")
      set(options.isa, option, value);
    else if (option == "--threads")
      options.threads = parseNumber(option, value, 1024);
    else
      options.repeat = parseNumber(option, value, 1000000);
  }
  if (options.bundle.empty())
    throw Error{LOWBIT_INVALID, "no bundle is given; see --help"};
  if (options.output.empty() && options.repeat == 0)
    throw Error{LOWBIT_INVALID, "no output is given (-o OUT.npz); see --help"};
  return options;
}

static void check(lowbit_status status) {
  if (status != LOWBIT_OK)
    throw Error{status, lowbit_last_error()};
}

/// The arrays in the order of the model's inputs.
static std::vector<lowbit_tensor> matchInputs(const lowbit_bundle *bundle,
                                              const std::vector<Array> &arrays,
                                              const std::string &path) {
  std::vector<lowbit_tensor> inputs;
  std::string wanted, present;
  for (size_t i = 0; i < lowbit_bundle_num_inputs(bundle); ++i)
    wanted += (i ? ", " : "") + inQuotes(lowbit_bundle_input(bundle, i)->name);
  for (const Array &array : arrays)
    present += (present.empty() ? "" : ", ") + inQuotes(array.name);
  for (size_t i = 0; i < lowbit_bundle_num_inputs(bundle); ++i) {
    std::string name = lowbit_bundle_input(bundle, i)->name;
    auto it = std::find_if(arrays.begin(), arrays.end(),
                           [&](const Array &array) { return array.name == name; });
    if (it == arrays.end())
      throw Error{LOWBIT_INVALID,
                  "the model's input " + inQuotes(name) +
                      (path.empty() ? " is not given (--inputs IN.npz)"
                                    : " is not in " + inQuotes(path) + "; it has " +
                                          (present.empty() ? "no arrays" : present))};
    inputs.push_back(it->tensor());
  }
  for (const Array &array : arrays) {
    bool used = std::any_of(inputs.begin(), inputs.end(),
                            [&](const lowbit_tensor &t) { return t.data == array.data.get(); });
    if (!used)
      throw Error{LOWBIT_INVALID, inQuotes(array.name) + " in " + inQuotes(path) +
                                      " is no input of the model; its inputs are " +
                                      (wanted.empty() ? "none" : wanted)};
  }
  return inputs;
}

static void runOnce(Session &session, const std::vector<lowbit_tensor> &inputs) {
  session.release();
  check(lowbit_bundle_run(session.bundle, inputs.data(), inputs.size(), session.outputs.data(),
                          session.outputs.size()));
}

static void measure(Session &session, const std::vector<lowbit_tensor> &inputs, int repeat) {
  std::vector<double> milliseconds;
  for (int i = 0; i < repeat; ++i) {
    auto start = std::chrono::steady_clock::now();
    runOnce(session, inputs);
    std::chrono::duration<double, std::milli> time = std::chrono::steady_clock::now() - start;
    milliseconds.push_back(time.count());
  }
  std::sort(milliseconds.begin(), milliseconds.end());
  auto at = [&](double part) { return milliseconds[size_t(part * double(repeat - 1) + 0.5)]; };
  std::printf("%d runs: median %.3f ms, p10 %.3f ms, p90 %.3f ms (%s)\n", repeat, at(0.5), at(0.1),
              at(0.9), lowbit_bundle_isa(session.bundle));
}

static void run(const Options &options) {
  if (!options.output.empty() && !options.force && access(options.output.c_str(), F_OK) == 0)
    throw Error{LOWBIT_INVALID, inQuotes(options.output) + " exists; --force replaces it"};
  Session session;
  lowbit_open_options open = {sizeof open, options.threads,
                              options.isa.empty() ? nullptr : options.isa.c_str(),
                              options.device.empty() ? nullptr : options.device.c_str()};
  check(lowbit_bundle_open(options.bundle.c_str(), &open, &session.bundle));
  std::vector<Array> arrays;
  if (!options.inputs.empty())
    arrays = readNpz(options.inputs);
  std::vector<lowbit_tensor> inputs = matchInputs(session.bundle, arrays, options.inputs);
  session.outputs.resize(lowbit_bundle_num_outputs(session.bundle));

  runOnce(session, inputs);
  if (options.repeat > 0)
    measure(session, inputs, options.repeat);
  if (options.output.empty())
    return;
  std::vector<NamedTensor> results;
  for (size_t i = 0; i < session.outputs.size(); ++i)
    results.push_back({lowbit_bundle_output(session.bundle, i)->name, &session.outputs[i]});
  writeNpz(options.output, results, options.force);
}

int main(int argc, char **argv) {
  Error error;
  try {
    for (int i = 1; i < argc; ++i)
      if (std::strcmp(argv[i], "--help") == 0 || std::strcmp(argv[i], "-h") == 0) {
        std::fputs(usage, stdout);
        return 0;
      }
    run(parseArguments(argc, argv));
    return 0;
  } catch (const Error &caught) {
    error = caught;
  } catch (const std::bad_alloc &) {
    error = {LOWBIT_NO_MEMORY, "out of memory"};
  } catch (const std::exception &caught) {
    error = {LOWBIT_INTERNAL, caught.what()};
  }
  std::fprintf(stderr, "lowbit-run: error: %s\n", lowbit::printable(error.message).c_str());
  return error.code;
}
