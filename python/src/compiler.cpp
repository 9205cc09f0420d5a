//===- compiler.cpp - the Python module lowbit._compiler ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Driver/Driver.h"
#include "lowbit/Recipe/Recipe.h"
#include "llvm/Support/JSON.h"
#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>
#include <nanobind/stl/map.h>
#include <nanobind/stl/optional.h>
#include <nanobind/stl/pair.h>
#include <nanobind/stl/string.h>
#include <nanobind/stl/tuple.h>
#include <nanobind/stl/unique_ptr.h>
#include <nanobind/stl/vector.h>

namespace nb = nanobind;
using namespace nb::literals;
using namespace lowbit;

/// numerics.cpp: the algorithms on weights, for tests and for looking at one layer.
void registerNumerics(nb::module_ &m);

/// Python's `lowbit._compiler.Error`, with the exit code in `code`.
static PyObject *errorType = nullptr;

[[noreturn]] static void raise(int code, const std::string &message) {
  // A damaged model's names may be anything.
  nb::object error = nb::borrow(errorType)(llvm::json::fixUTF8(message));
  error.attr("code") = code;
  PyErr_SetObject(errorType, error.ptr());
  throw nb::python_error();
}

[[noreturn]] static void raise(llvm::Error error) {
  int code = 5;
  std::string message;
  llvm::handleAllErrors(
      std::move(error),
      [&](const DriverError &driver) {
        code = driver.code;
        message = driver.message;
      },
      [&](const llvm::ErrorInfoBase &other) { message = other.message(); });
  raise(code, message);
}

template <typename T>
static T unwrap(llvm::Expected<T> value) {
  if (!value)
    raise(value.takeError());
  return std::move(*value);
}

static void check(llvm::Error error) {
  if (error)
    raise(std::move(error));
}

static CompileOptions makeOptions(const std::string &model, const std::string &recipe,
                                  std::optional<std::string> calibration, const std::string &target,
                                  std::optional<std::string> arch,
                                  std::map<std::string, int64_t> dims, bool force) {
  CompileOptions options;
  options.model = model;
  options.recipe = recipe;
  options.calibration = calibration.value_or("");
  options.target = target;
  options.arch = arch.value_or("");
  options.dims = std::move(dims);
  options.force = force;
  return options;
}

static const char *dtypeName(int32_t dtype) {
  switch (dtype) {
  case LOWBIT_F32:
    return "f32";
  case LOWBIT_U8:
    return "u8";
  case LOWBIT_I8:
    return "i8";
  case LOWBIT_U16:
    return "u16";
  case LOWBIT_I16:
    return "i16";
  case LOWBIT_I32:
    return "i32";
  case LOWBIT_I64:
    return "i64";
  case LOWBIT_BOOL:
    return "bool";
  case LOWBIT_F16:
    return "f16";
  case LOWBIT_F64:
    return "f64";
  case LOWBIT_U32:
    return "u32";
  case LOWBIT_U64:
    return "u64";
  default:
    return "bf16";
  }
}

using Port = std::tuple<std::string, std::string, std::vector<int64_t>, std::vector<std::string>>;

/// Of what runs a model on data: a Calibrator or a SequentialQuantizer.
template <typename Runner>
static std::vector<Port> inputsOf(const Runner &runner) {
  std::vector<Port> ports;
  for (size_t i = 0; i < lowbit_bundle_num_inputs(runner.bundle()); ++i) {
    const lowbit_value_info *info = lowbit_bundle_input(runner.bundle(), i);
    ports.emplace_back(info->name, dtypeName(info->dtype),
                       std::vector<int64_t>(info->dims, info->dims + info->rank),
                       std::vector<std::string>(info->symbols, info->symbols + info->rank));
  }
  return ports;
}

/// One array as the runtime sees it. The runtime checks dtype and shape and says what it expected.
static lowbit_tensor view(const nb::ndarray<nb::ro, nb::device::cpu> &array,
                          const std::string &name) {
  lowbit_tensor tensor{};
  if (array.ndim() > LOWBIT_MAX_RANK)
    raise(2, name + ": " + std::to_string(array.ndim()) + " dimensions; at most " +
                 std::to_string(LOWBIT_MAX_RANK));
  nb::dlpack::dtype dtype = array.dtype();
  auto is = [&](nb::dlpack::dtype_code code, int bits) {
    return dtype.code == (uint8_t)code && dtype.bits == bits;
  };
  using Code = nb::dlpack::dtype_code;
  for (auto [code, bits, value] : {std::tuple(Code::Float, 32, LOWBIT_F32),
                                   {Code::Float, 64, LOWBIT_F64},
                                   {Code::Float, 16, LOWBIT_F16},
                                   {Code::Bfloat, 16, LOWBIT_BF16},
                                   {Code::Int, 8, LOWBIT_I8},
                                   {Code::Int, 16, LOWBIT_I16},
                                   {Code::Int, 32, LOWBIT_I32},
                                   {Code::Int, 64, LOWBIT_I64},
                                   {Code::UInt, 8, LOWBIT_U8},
                                   {Code::UInt, 16, LOWBIT_U16},
                                   {Code::UInt, 32, LOWBIT_U32},
                                   {Code::UInt, 64, LOWBIT_U64},
                                   {Code::Bool, 8, LOWBIT_BOOL}})
    if (is(code, bits))
      tensor.dtype = value;
  if (!tensor.dtype)
    raise(2, name + ": this element type is not supported");
  tensor.data = const_cast<void *>(array.data());
  tensor.rank = array.ndim();
  for (size_t d = 0; d < array.ndim(); ++d) {
    tensor.shape[d] = array.shape(d);
    tensor.strides[d] = array.stride(d);
  }
  return tensor;
}

using Arrays = std::map<std::string, nb::ndarray<nb::ro, nb::device::cpu>>;

/// The arrays in the order of the model's inputs.
template <typename Runner>
static std::vector<lowbit_tensor> tensorsOf(const Runner &runner, const Arrays &arrays) {
  std::vector<lowbit_tensor> tensors;
  for (const Port &port : inputsOf(runner)) {
    const std::string &name = std::get<0>(port);
    auto found = arrays.find(name);
    if (found == arrays.end())
      raise(2, "input " + name + " is missing");
    tensors.push_back(view(found->second, name));
  }
  return tensors;
}

static void feed(Calibrator &calibrator, const Arrays &arrays, int64_t count) {
  std::vector<lowbit_tensor> tensors = tensorsOf(calibrator, arrays);
  llvm::Error error = [&] {
    nb::gil_scoped_release release;
    return calibrator.feed(tensors, count);
  }();
  if (error)
    raise(std::move(error));
}

static std::shared_ptr<const SequentialResult> roundedBy(const SequentialQuantizer *quantizer) {
  return quantizer ? quantizer->result() : nullptr;
}

NB_MODULE(_compiler, m) {
  m.doc() = "lowbit's compiler: what `lowbit compile`, `calibrate`, `inspect` and `recipe` call.";
  errorType = PyErr_NewException("lowbit._compiler.Error", PyExc_Exception, nullptr);
  m.attr("Error") = nb::borrow(errorType);

  m.def(
      "compile",
      [](const std::string &model, const std::string &out, const std::string &recipe,
         std::optional<std::string> calibration, const std::string &target,
         std::optional<std::string> arch, std::map<std::string, int64_t> dims, bool force,
         const SequentialQuantizer *quantizer) {
        CompileOptions options =
            makeOptions(model, recipe, calibration, target, arch, std::move(dims), force);
        options.rounded = roundedBy(quantizer);
        auto report = [&] {
          nb::gil_scoped_release release;
          return compileBundle(options, out);
        }();
        return unwrap(std::move(report));
      },
      "model"_a, "out"_a, nb::kw_only(), "recipe"_a = "fp32", "calibration"_a = nb::none(),
      "target"_a = "cpu", "arch"_a = nb::none(), "dims"_a = std::map<std::string, int64_t>(),
      "force"_a = false, "quantizer"_a = nb::none(), "Writes a bundle folder; returns its report as JSON text.");
  m.def(
      "emit",
      [](const std::string &model, const std::string &form, const std::string &recipe,
         std::optional<std::string> calibration, const std::string &target,
         std::optional<std::string> arch, std::map<std::string, int64_t> dims, bool force,
         const SequentialQuantizer *quantizer) {
        CompileOptions options =
            makeOptions(model, recipe, calibration, target, arch, std::move(dims), force);
        options.rounded = roundedBy(quantizer);
        std::string text = unwrap(emitForm(options, form));
        return nb::bytes(text.data(), text.size());
      },
      "model"_a, "form"_a, nb::kw_only(), "recipe"_a = "fp32", "calibration"_a = nb::none(),
      "target"_a = "cpu", "arch"_a = nb::none(), "dims"_a = std::map<std::string, int64_t>(),
      "force"_a = false, "quantizer"_a = nb::none(), "The model at one of its forms.");
  m.def(
      "emit_device_code",
      [](const std::string &model, const std::string &form, const std::string &recipe,
         std::optional<std::string> calibration, const std::string &target,
         std::optional<std::string> arch, std::map<std::string, int64_t> dims) {
        CompileOptions options =
            makeOptions(model, recipe, calibration, target, arch, std::move(dims), false);
        nb::dict files;
        for (auto &[name, bytes] : unwrap(emitDeviceCode(options, form)))
          files[name.c_str()] = nb::bytes(bytes.data(), bytes.size());
        return files;
      },
      "model"_a, "form"_a, nb::kw_only(), "recipe"_a = "fp32", "calibration"_a = nb::none(),
      "target"_a, "arch"_a = nb::none(), "dims"_a = std::map<std::string, int64_t>(),
      "The kernels of a model as files: name to bytes.");
  m.def(
      "export_model",
      [](const std::string &model, const std::string &out, const std::string &runtime,
         const std::string &recipe, std::optional<std::string> calibration,
         std::map<std::string, int64_t> dims, bool external_data, bool force,
         const SequentialQuantizer *quantizer) {
        CompileOptions options =
            makeOptions(model, recipe, calibration, "cpu", std::nullopt, std::move(dims), force);
        options.rounded = roundedBy(quantizer);
        ExportRequest request{runtime, external_data};
        auto report = [&] {
          nb::gil_scoped_release release;
          return exportModel(options, request, out);
        }();
        return unwrap(std::move(report));
      },
      "model"_a, "out"_a, nb::kw_only(), "runtime"_a, "recipe"_a, "calibration"_a = nb::none(),
      "dims"_a = std::map<std::string, int64_t>(), "external_data"_a = false, "force"_a = false,
      "quantizer"_a = nb::none(),
      "Writes the quantized model as ONNX for another runtime; returns a report as JSON text.");
  m.def("inspect", [](const std::string &model) { return unwrap(inspectModel(model)); }, "model"_a);
  m.def("recipe_show", [](const std::string &specification) {
    RecipeError why;
    std::optional<Recipe> recipe = Recipe::load(specification, why);
    if (!recipe)
      raise(why.exitCode, why.message);
    return recipe->print();
  });
  m.def("recipe_schema", [] { return Recipe::jsonSchema().str(); });
  m.def("recipe_explain", [](const std::string &model, const std::string &recipe) {
    return unwrap(explainRecipe(model, recipe));
  });

  registerNumerics(m);

  nb::class_<Calibrator>(m, "Calibrator")
      .def(nb::new_([](const std::string &model, const std::string &recipe, int threads) {
             auto calibrator = [&] {
               nb::gil_scoped_release release;
               return Calibrator::create(model, recipe, threads);
             }();
             return unwrap(std::move(calibrator));
           }),
           "model"_a, "recipe"_a, nb::kw_only(), "threads"_a = 0)
      .def_prop_ro("inputs", inputsOf<Calibrator>, "(name, dtype, dims, symbols) of each input of the model.")
      .def_prop_ro("observers", &Calibrator::observers)
      .def_prop_ro("recipe_samples", &Calibrator::recipeSamples,
                   "How many samples the recipe asks for; 0 where it takes all.")
      .def_prop_ro("samples", &Calibrator::samples,
                   "Samples fed, with those that a resumed file had seen.")
      .def("feed", feed, "arrays"_a, "count"_a = 1,
           "Runs the model once, on `count` samples, and watches its activations.")
      .def("mark_half", &Calibrator::markHalf,
           "Remembers the ranges, so that coverage() can tell how they widened since.")
      .def(
          "resume", [](Calibrator &self, const std::string &path) { check(self.resume(path)); },
          "path"_a, "Goes on from a calibration file or checkpoint.")
      .def(
          "merge", [](Calibrator &self, const std::string &path) { check(self.merge(path)); },
          "path"_a, "Adds what another calibration file holds.")
      .def(
          "checkpoint",
          [](const Calibrator &self, const std::string &path) { check(self.checkpoint(path)); },
          "path"_a, "Writes what was collected so far.")
      .def(
          "coverage", [](const Calibrator &self) { return unwrap(self.coverage()); },
          "How well the data cover each range, as JSON text.")
      .def(
          "compare",
          [](const Calibrator &self, const std::string &path) {
            return unwrap(self.compare(path));
          },
          "path"_a, "What of the data a calibration file does not cover, as JSON text.")
      .def(
          "finish",
          [](Calibrator &self, const std::string &path, bool force) {
            check(self.finish(path, force));
          },
          "path"_a, "force"_a = false, "Writes the calibration file.");

  m.def("recipe_is_sequential", [](const std::string &recipe) {
    return unwrap(SequentialQuantizer::isNeeded(recipe));
  });
  nb::class_<SequentialQuantizer>(m, "Quantizer")
      .def(nb::new_([](const std::string &model, const std::string &recipe,
                       std::optional<std::string> calibration,
                       std::map<std::string, int64_t> dims) {
             auto quantizer = [&] {
               nb::gil_scoped_release release;
               return SequentialQuantizer::create(makeOptions(
                   model, recipe, calibration, "cpu", std::nullopt, std::move(dims), false));
             }();
             return unwrap(std::move(quantizer));
           }),
           "model"_a, "recipe"_a, "calibration"_a = nb::none(),
           "dims"_a = std::map<std::string, int64_t>())
      .def_prop_ro("inputs", inputsOf<SequentialQuantizer>)
      .def_prop_ro("recipe_samples", &SequentialQuantizer::recipeSamples,
                   "How many samples the recipe asks for; 0 where it takes all.")
      .def_prop_ro("samples", &SequentialQuantizer::samples)
      .def(
          "add",
          [](SequentialQuantizer &self, const Arrays &arrays) {
            check(self.add(tensorsOf(self, arrays)));
          },
          "arrays"_a, "Keeps a copy of one sample.")
      .def(
          "run",
          [](SequentialQuantizer &self, std::optional<nb::callable> progress) {
            llvm::Error error = [&] {
              nb::gil_scoped_release release;
              return self.run([&](double done) {
                if (!progress)
                  return;
                nb::gil_scoped_acquire acquire;
                (*progress)(done);
              });
            }();
            if (error)
              raise(std::move(error));
          },
          "progress"_a = nb::none(),
          "Rounds all layers; `progress` gets the done part of the work.");
}
