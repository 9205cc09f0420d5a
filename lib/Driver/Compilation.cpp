//===- Compilation.cpp - one compilation: a module on its way through the forms ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "Compilation.h"
#include "lowbit/Analysis/DimExpression.h"
#include "lowbit/Analysis/LayerPlan.h"
#include "lowbit/Conversion/Passes.h"
#include "lowbit/Dialect/Lowbit/IR/Lowbit.h"
#include "lowbit/Dialect/LowbitRT/IR/LowbitRT.h"
#include "lowbit/Dialect/ONNX/IR/DimParams.h"
#include "lowbit/Import/ONNX/ImportONNX.h"
#include "lowbit/InitAll.h"
#include "lowbit/Pipelines/Pipelines.h"
#include "lowbit/Recipe/Recipe.h"
#include "lowbit/Target/CPU/Arch.h"
#include "lowbit/Target/LLVM/Pipeline.h"
#include "lowbit/Target/Target.h"
#include "lowbit/Transforms/Passes.h"
#include "mlir/Dialect/Func/IR/FuncOps.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/AsmState.h"
#include "mlir/IR/BuiltinDialect.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/Interfaces/SideEffectInterfaces.h"
#include "mlir/Parser/Parser.h"
#include "mlir/Pass/PassInstrumentation.h"
#include "mlir/Pass/PassManager.h"
#include "llvm/ADT/StringExtras.h"
#include "llvm/ADT/StringSet.h"
#include "llvm/Support/raw_ostream.h"
#include <functional>
#include <map>

using namespace lowbit;

char DriverError::ID = 0;
void DriverError::log(llvm::raw_ostream &stream) const { stream << message; }

llvm::Error lowbit::driverError(int code, const llvm::Twine &message) {
  return llvm::make_error<DriverError>(code, message.str());
}

static DialectRegistry makeRegistry() {
  DialectRegistry registry;
  registerAllDialects(registry);
  return registry;
}

/// The ONNX node (or file) that a location stands for; empty where unknown.
static std::string nodeName(Location location) {
  std::string name;
  location->walk([&](Location inner) {
    if (auto named = dyn_cast<NameLoc>(inner)) {
      name = named.getName().str();
      return WalkResult::interrupt();
    }
    return WalkResult::advance();
  });
  return name;
}

/// One line. The model's own path stays out of it: reports are part of bundles, which hold no
/// paths.
static std::string describe(Diagnostic &diagnostic, StringRef model) {
  std::string text, name = nodeName(diagnostic.getLocation());
  llvm::raw_string_ostream stream(text);
  if (!name.empty() && name != model)
    stream << name << ": ";
  stream << diagnostic;
  for (Diagnostic &note : diagnostic.getNotes())
    stream << "; " << note;
  return text;
}

Compilation::Compilation(const CompileOptions &options)
    : options(options), context(makeRegistry(), MLIRContext::Threading::DISABLED),
      handler(&context, [this](Diagnostic &diagnostic) {
        if (diagnostic.getSeverity() == DiagnosticSeverity::Error)
          errors.push_back(describe(diagnostic, ""));
        else
          remarks.push_back(describe(diagnostic, this->options.model));
        return success();
      }) {
  context.loadAllAvailableDialects();
  context.printOpOnDiagnostic(false);
}

llvm::Error Compilation::failure(int code, llvm::StringRef stage) {
  if (errors.empty())
    return driverError(5, options.model + ": " + stage + " failed without saying why");
  // The first is the cause; what follows is usually its echo.
  return driverError(code, errors.front());
}

namespace {
/// Calls `visit` after each pass on the module as a whole.
struct AfterPass : PassInstrumentation {
  explicit AfterPass(std::function<void()> visit) : visit(std::move(visit)) {}
  void runAfterPass(Pass *, Operation *op) override {
    if (!op->getParentOp())
      visit();
  }
  std::function<void()> visit;
};
} // namespace

llvm::Error Compilation::run(int code, llvm::StringRef stage,
                             llvm::function_ref<void(OpPassManager &)> build) {
  PassManager manager(&context, ModuleOp::getOperationName());
  build(manager);
  // As soon as a pass has made constants: the next one would make a third copy.
  if (releases)
    manager.addInstrumentation(
        std::make_unique<AfterPass>([this, known = constantBytes()]() mutable {
          if (constantBytes() > known)
            releaseUnusedConstants();
          known = constantBytes();
        }));
  errors.clear();
  if (failed(manager.run(*root)))
    return failure(code, stage);
  if (releases)
    releaseUnusedConstants();
  return llvm::Error::success();
}

/// What the bundle calls an element type (include/lowbit-c/Runtime.h).
static llvm::Expected<std::string> dtypeName(Type type) {
  static const std::pair<StringRef, StringRef> names[] = {{"f32", "f32"},
                                                          {"f64", "f64"},
                                                          {"f16", "f16"},
                                                          {"bf16", "bf16"},
                                                          {"i1", "bool"},
                                                          {"i2", "i2"},
                                                          {"i4", "i4"},
                                                          {"i8", "i8"},
                                                          {"i16", "i16"},
                                                          {"i32", "i32"},
                                                          {"i64", "i64"},
                                                          {"ui2", "u2"},
                                                          {"ui4", "u4"},
                                                          {"ui8", "u8"},
                                                          {"ui16", "u16"},
                                                          {"ui32", "u32"},
                                                          {"ui64", "u64"},
                                                          {"f8E4M3FN", "f8e4m3fn"},
                                                          {"f8E4M3FNUZ", "f8e4m3fnuz"},
                                                          {"f8E5M2", "f8e5m2"},
                                                          {"f8E5M2FNUZ", "f8e5m2fnuz"},
                                                          {"f8E8M0FNU", "f8e8m0"},
                                                          {"f4E2M1FN", "f4e2m1"},
                                                          {"f6E2M3FN", "f6e2m3"},
                                                          {"f6E3M2FN", "f6e3m2"}};
  std::string text;
  llvm::raw_string_ostream(text) << type;
  for (auto [mlirName, name] : names)
    if (text == mlirName)
      return name.str();
  return driverError(3, "inputs and outputs of type " + text + " are not supported");
}

llvm::Error Compilation::readPorts() {
  auto entry = root->lookupSymbol<func::FuncOp>("main_graph");
  if (!entry)
    return driverError(5, options.model + ": the importer made no @main_graph");
  auto read = [&](Type type, DictionaryAttr attrs, bool input,
                  std::vector<PortInfo> &ports) -> llvm::Error {
    PortInfo port;
    auto name = attrs ? attrs.getAs<StringAttr>("onnx.name") : StringAttr();
    port.name = name ? name.str() : (input ? "input" : "output") + std::to_string(ports.size());
    auto tensor = dyn_cast<RankedTensorType>(type);
    if (!tensor)
      return driverError(3, port.name + ": the rank of this " + (input ? "input" : "output") +
                                " is not known");
    auto dtype = dtypeName(tensor.getElementType());
    if (!dtype)
      return dtype.takeError();
    port.dtype = *dtype;
    for (int64_t extent : tensor.getShape())
      port.dims.push_back(ShapedType::isDynamic(extent) ? -1 : extent);
    port.symbols =
        onnx::readDimParams(attrs ? attrs.get("onnx.dim_params") : Attribute(), tensor.getRank());
    for (auto [extent, symbol] : llvm::zip(port.dims, port.symbols))
      if (extent >= 0)
        symbol.clear();
    ports.push_back(std::move(port));
    return llvm::Error::success();
  };
  inputs.clear();
  outputs.clear();
  for (unsigned i = 0; i < entry.getNumArguments(); ++i)
    if (llvm::Error error =
            read(entry.getArgumentTypes()[i], entry.getArgAttrDict(i), true, inputs))
      return error;
  for (unsigned i = 0; i < entry.getNumResults(); ++i)
    if (llvm::Error error =
            read(entry.getResultTypes()[i], entry.getResultAttrDict(i), false, outputs))
      return error;
  return llvm::Error::success();
}

llvm::Error Compilation::specializeDims() {
  if (options.dims.empty())
    return llvm::Error::success();
  auto entry = root->lookupSymbol<func::FuncOp>("main_graph");
  std::map<std::string, bool> used;
  for (auto &[name, size] : options.dims)
    if (size < 1)
      return driverError(2, "--dim " + name + "=" + llvm::Twine(size) + ": a size is at least 1");
  llvm::SmallVector<Type> types(entry.getArgumentTypes());
  std::string known;
  for (unsigned i = 0; i < types.size(); ++i) {
    auto tensor = dyn_cast<RankedTensorType>(types[i]);
    if (!tensor)
      continue;
    llvm::SmallVector<int64_t> shape(tensor.getShape());
    auto symbols = onnx::readDimParams(entry.getArgAttr(i, "onnx.dim_params"), tensor.getRank());
    for (auto [extent, symbol] : llvm::zip(shape, symbols)) {
      if (!symbol.empty())
        known += (known.empty() ? "" : ", ") + symbol;
      if (auto found = options.dims.find(symbol); found != options.dims.end()) {
        extent = found->second;
        used[symbol] = true;
      } else if (extent == ShapedType::kDynamic && !symbol.empty()) {
        // "past + sequence", where both have sizes.
        std::vector<std::string> names;
        std::optional<int64_t> size =
            evaluateDimName(symbol, [&](StringRef name) -> std::optional<int64_t> {
              auto given = options.dims.find(name.str());
              if (given == options.dims.end())
                return std::nullopt;
              names.push_back(name.str());
              return given->second;
            });
        if (size && *size < 0)
          return driverError(2, "the sizes given with --dim make dimension '" + symbol +
                                    "' of input " + llvm::Twine(i) + " " + llvm::Twine(*size));
        if (size) {
          extent = *size;
          for (const std::string &name : names)
            used[name] = true;
        }
      }
    }
    types[i] = RankedTensorType::get(shape, tensor.getElementType());
    entry.getArgument(i).setType(types[i]);
  }
  entry.setFunctionType(FunctionType::get(&context, types, entry.getResultTypes()));
  for (auto &[name, size] : options.dims)
    if (!used[name])
      return driverError(2, "--dim " + name +
                                ": the model has no dynamic dimension of this name (it has: " +
                                (known.empty() ? "none" : known) + ")");
  return llvm::Error::success();
}

/// Quantized-form IR in a text file, for tests and for other compilers: the driver takes it from
/// there.
static bool isMLIR(llvm::StringRef path) {
  return path.ends_with(".mlir") || path.ends_with(".mlirbc");
}

llvm::Error Compilation::import() {
  errors.clear();
  root = isMLIR(options.model) ? parseSourceFile<ModuleOp>(options.model, &context)
                               : importONNX(options.model, context);
  if (!root)
    return failure(2, "reading the model");
  if (llvm::Error error = specializeDims())
    return error;
  RecipeError why;
  std::optional<Recipe> recipe = Recipe::load(options.recipe, why);
  if (!recipe)
    return driverError(why.exitCode, why.message);
  recipeText = recipe->print();
  recipeName = recipe->name;
  recipeHash = recipe->sha256();
  return llvm::Error::success();
}

llvm::Error Compilation::toFloat() {
  if (isMLIR(options.model))
    return readPorts();
  errors.clear();
  if (failed(reportUnsupported(*root)))
    return failure(3, "checking operators");
  if (llvm::Error error = run(2, "inferring shapes", buildToFloatPipeline))
    return error;
  return readPorts();
}

llvm::Error Compilation::joinQDQ() {
  if (isMLIR(options.model))
    return llvm::Error::success();
  if (llvm::Error error = run(2, "reading quantized layers", buildJoinQDQPipeline))
    return error;
  RecipeError why;
  std::optional<Recipe> recipe = Recipe::load(options.recipe, why);
  if (!recipe)
    return driverError(why.exitCode, why.message);
  LayerPlan plan{std::move(*recipe), findLayers(*root)};
  for (PlannedLayer &layer : plan.layers)
    layer.rule = plan.recipe.match(layer.key);
  std::string names;
  for (const PlannedLayer *layer : requantized(plan))
    names += (names.empty() ? "" : ", ") + layer->key.name;
  if (names.empty())
    return llvm::Error::success();
  return driverError(3, options.model + ": the model is quantized already; recipe '" +
                            plan.recipe.name + "' would quantize again: " + names +
                            ". Leave --recipe out, or write one whose rules match only layers in "
                            "float");
}

llvm::Error Compilation::toObserved() {
  if (llvm::Error error = joinQDQ())
    return error;
  if (llvm::Error error = run(2, "inserting observers", [&](OpPassManager &manager) {
        buildToObservedPipeline(manager, options.recipe);
      }))
    return error;
  RecipeError why;
  std::optional<Recipe> recipe = Recipe::load(options.recipe, why);
  if (!recipe)
    return driverError(why.exitCode, why.message);
  llvm::StringMap<ActivationRule> rules;
  for (const PlannedLayer &layer : findLayers(*root))
    if (std::optional<size_t> rule = recipe->match(layer.key))
      if (const auto &activations = recipe->rules[*rule].activations)
        rules[layer.key.name + ":input"] = *activations;
  root->walk([&](ObserveOp op) {
    ObserverInfo info;
    info.name = op.getName().str();
    info.channelAxis = op.getChannelAxis() ? int(*op.getChannelAxis()) : -1;
    if (auto found = rules.find(info.name); found != rules.end())
      info.activations = found->second;
    observers.push_back(std::move(info));
  });
  return llvm::Error::success();
}

llvm::Error Compilation::toQDQ() {
  if (isMLIR(options.model))
    return llvm::Error::success();
  if (llvm::Error error = joinQDQ())
    return error;
  ToQDQOptions qdq;
  qdq.recipe = options.recipe;
  qdq.calibration = options.calibration;
  const RoundedLayers *rounded = options.rounded ? &options.rounded->layers : nullptr;
  if (llvm::Error error = run(2, "applying the recipe", [&](OpPassManager &manager) {
        buildToQDQPipeline(manager, qdq, rounded);
      }))
    return error;
  return holdCache();
}

llvm::Error Compilation::holdCache() {
  if (llvm::Error error = run(3, "quantizing the cache", [&](OpPassManager &manager) {
        buildCachePipeline(manager, options.recipe);
      }))
    return error;
  return readPorts();
}

llvm::Error Compilation::toPrepared() {
  if (llvm::Error error = joinQDQ())
    return error;
  ToQDQOptions qdq;
  qdq.recipe = options.recipe;
  qdq.calibration = options.calibration;
  return run(2, "preparing layers",
             [&](OpPassManager &manager) { buildToPreparedPipeline(manager, qdq); });
}

llvm::Error Compilation::toOpened() {
  return run(2, "opening layers", [&](OpPassManager &manager) {
    InsertExchangesOptions exchanges;
    exchanges.recipe = options.recipe;
    manager.addPass(createInsertExchanges(exchanges));
  });
}

llvm::Error Compilation::toQuantized() {
  if (llvm::Error error = run(5, "fusing quantized layers", buildToQuantizedPipeline))
    return error;
  recordDecisions();
  return checkTarget();
}

/// An error that lists the layers that the target cannot run.
llvm::Error Compilation::checkTarget() {
  const Target *target = findTarget(options.target);
  if (!target)
    return llvm::Error::success();
  std::map<std::string, std::vector<std::string>> layers;
  root->walk([&](Operation *op) {
    auto name = op->getAttrOfType<StringAttr>("layer");
    if (std::string why = name ? target->whyUnsupported(op) : ""; !why.empty())
      layers[why].push_back(name.str());
  });
  if (layers.empty())
    return llvm::Error::success();
  std::string text = "target '" + options.target + "' has no kernels for";
  for (const auto &[why, names] : layers)
    text += (why == layers.begin()->first ? " " : "; ") + why + " (" + llvm::join(names, ", ") + ")";
  return driverError(3, text + ": give these layers another scheme, or compile for the CPU");
}

llvm::Error Compilation::toScheduled() {
  ToScheduledOptions scheduled;
  scheduled.target = options.target;
  if (llvm::Error error = run(3, "scheduling", [&](OpPassManager &manager) {
        buildToScheduledPipeline(manager, scheduled);
      }))
    return error;
  recordKernels();
  return llvm::Error::success();
}

/// Host code, which does no more than arithmetic on shapes, is for any processor that we support.
llvm::Error Compilation::toDeviceExecutable(const Target &target) {
  std::optional<cpu::Arch> host = cpu::findArch(findTarget("cpu")->defaultArch());
  processor = host->processor;
  isa = host->variants;
  int exitCode = 5;
  errors.clear();
  auto built = target.buildDevice(*root, options.arch, exitCode);
  if (!built) {
    std::string message = llvm::toString(built.takeError());
    return driverError(exitCode, firstError(message));
  }
  device = std::move(*built);
  takeWeights();
  return run(5, "generating host code", buildHostToLLVMPipeline);
}

llvm::Error Compilation::toExecutable() {
  if (const Target *target = findTarget(options.target); target && !target->deviceForms().empty())
    return toDeviceExecutable(*target);
  std::optional<cpu::Arch> arch = cpu::findArch(options.arch);
  if (!arch)
    return driverError(3, "--arch " + options.arch + ": the CPU target knows " + cpu::kArchNames);
  processor = arch->processor;
  isa = arch->variants;
  if (llvm::Error error = run(5, "bufferizing", buildBufferizePipeline))
    return error;
  takeWeights();
  ToExecutableOptions executable;
  executable.isa = isa;
  return run(5, "generating code",
             [&](OpPassManager &manager) { buildToExecutablePipeline(manager, executable); });
}

static DialectResourceBlobManager &blobsOf(MLIRContext &context) {
  return DenseResourceElementsHandle::getManagerInterface(&context).getBlobManager();
}

size_t Compilation::constantBytes() {
  size_t bytes = 0;
  blobsOf(context).getBlobMap([&](const auto &blobs) {
    for (const auto &entry : blobs)
      if (const AsmResourceBlob *blob = entry.second.getBlob())
        bytes += blob->getData().size();
  });
  return bytes;
}

void Compilation::releaseUnusedConstants() {
  llvm::SmallVector<Operation *> dead;
  root->walk([&](Operation *op) {
    if (op->getNumOperands() == 0 && op->getNumRegions() == 0 && isOpTriviallyDead(op))
      dead.push_back(op);
  });
  for (Operation *op : dead)
    op->erase();
  llvm::StringSet<> used;
  auto use = [&](Attribute attr) {
    attr.walk([&](DenseResourceElementsAttr resource) {
      used.insert(resource.getRawHandle().getKey());
    });
  };
  root->walk([&](Operation *op) { use(op->getAttrDictionary()); });
  for (const Weight &weight : weights)
    use(weight.value);
  DialectResourceBlobManager &manager = blobsOf(context);
  std::vector<std::string> unused;
  manager.getBlobMap([&](const auto &blobs) {
    for (const auto &entry : blobs)
      if (entry.second.getBlob() && !used.contains(entry.first()))
        unused.push_back(entry.first().str());
  });
  for (const std::string &name : unused)
    manager.update(name, AsmResourceBlob());
}

/// Constants go to the weights file, not into model.so.
void Compilation::takeWeights() {
  for (auto global : llvm::make_early_inc_range(root->getOps<memref::GlobalOp>()))
    if (auto place = global->getAttrOfType<IntegerAttr>("lowbit_rt.offset")) {
      if (weights.empty() ||
          place.getInt() > weights.back().offset) // Else it shares an earlier place.
        weights.push_back({global.getSymName().ltrim("_").str(), place.getInt(),
                           cast<ElementsAttr>(*global.getInitialValue())});
      global.erase();
    }
}

std::string Compilation::print() {
  std::string text;
  llvm::raw_string_ostream stream(text);
  OpPrintingFlags flags;
  flags.enableDebugInfo(false).elideLargeElementsAttrs(64).elideLargeResourceString(64);
  root->print(stream, flags);
  return text + "\n";
}

static llvm::json::Value toJSON(Attribute attr) {
  if (auto text = dyn_cast<StringAttr>(attr))
    return text.str();
  if (auto flag = dyn_cast<BoolAttr>(attr))
    return flag.getValue();
  if (auto number = dyn_cast<IntegerAttr>(attr))
    return number.getInt();
  if (auto number = dyn_cast<FloatAttr>(attr))
    return number.getValueAsDouble();
  return nullptr;
}

/// One entry per layer that could be quantized, from what apply-recipe and fuse-qdq noted on it.
void Compilation::recordDecisions() {
  root->walk([&](Operation *op) {
    auto decision = op->getAttrOfType<DictionaryAttr>("lowbit.decision");
    if (!decision)
      return;
    llvm::json::Object layer;
    for (NamedAttribute entry : decision)
      layer[entry.getName().getValue()] = toJSON(entry.getValue());
    layers.push_back(std::move(layer));
  });
}

llvm::json::Array Compilation::heldCaches() {
  llvm::json::Array caches;
  if (auto changed = root->getOperation()->getAttrOfType<ArrayAttr>("lowbit.kv_cache"))
    for (auto entry : changed.getAsRange<DictionaryAttr>()) {
      llvm::json::Object cache;
      for (NamedAttribute part : entry)
        cache[part.getName().getValue()] = toJSON(part.getValue());
      caches.push_back(std::move(cache));
    }
  return caches;
}

/// Which kernel family each layer got: a launch names its layer.
void Compilation::recordKernels() {
  llvm::StringMap<std::string> generators, kernels;
  for (auto kernel : root->getOps<rt::KernelOp>())
    generators[kernel.getSymName()] = kernel.getGenerator().str();
  root->walk(
      [&](rt::LaunchOp launch) { kernels[launch.getLayer()] = generators[launch.getKernel()]; });
  for (llvm::json::Value &value : layers) {
    llvm::json::Object &layer = *value.getAsObject();
    auto found = kernels.find(layer.getString("name").value_or(""));
    layer["kernel"] = found == kernels.end() ? "linalg" : found->second;
  }
}
