//===- Passes.td - passes of lib/Transforms ---------------*- tablegen -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
// One name, four places: def FuseQDQ = FuseQDQ.cpp = lowbit-fuse-qdq = test/Transforms/fuse-qdq.mlir. Every pass has a
// description with an example taken from its test, and a statistic.

include "mlir/Pass/PassBase.td"

//===----------------------------------------------------------------------===//
// Quantization
//===----------------------------------------------------------------------===//

def InsertObservers : Pass<"lowbit-insert-observers", "::mlir::ModuleOp"> {
  let summary = "Watches the activations that a recipe wants quantized";
  let description = [{
    float form → observed form. Puts a `lowbit.observe` on the activation operand of each layer whose rule quantizes
    activations with a range from calibration, or whose channels a transform of the recipe weighs. Its name, the layer's
    name and `:input`, is the key in the calibration file; `channel_axis` is 1 for convolutions.

    ```mlir
    %y = "onnx.Relu"(%x) : (tensor<1x4xf32>) -> tensor<1x4xf32>
    lowbit.observe %y "fc:input" : tensor<1x4xf32>
    %z = "onnx.MatMul"(%y, %w) {onnx_node_name = "fc"} : (tensor<1x4xf32>, tensor<4x2xf32>) -> tensor<1x2xf32>
    ```
  }];
  let options = [Option<"recipe", "recipe", "std::string", "", "NAME, NAME:key=value,… or the path of a recipe.yaml">];
  let statistics = [Statistic<"numObservers", "num-observers", "Number of observers inserted">];
  let dependentDialects = ["::lowbit::LowbitDialect"];
}

def LoadCalibration : Pass<"lowbit-load-calibration", "::mlir::ModuleOp"> {
  let summary = "Writes what calibration saw into the observers";
  let description = [{
    Reads a calibration file (docs/formats.md) and gives each `lowbit.observe` the statistics of its name: range,
    histogram, channels. A file of another model (the module's `onnx.model_sha256`) or, where `recipe` is given, of a
    recipe that changes the model in another way before it is measured is an error; so is a file that lacks an observer.

    ```mlir
    lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = -1.5 : f32, max = 2.0 : f32, average_min = …,
      average_max = …, histogram = dense<…> : tensor<3x3xf64>, channel_min = …, …>} : tensor<4xf32>
    ```
  }];
  let options = [
    Option<"file", "file", "std::string", "", "The calibration file">,
    Option<"recipe", "recipe", "std::string", "", "Where given, the file must have been made by this recipe's calibration">,
  ];
  let statistics = [Statistic<"numLoaded", "num-loaded", "Number of observers that got statistics">];
  let dependentDialects = ["::lowbit::LowbitDialect"];
}

def InsertExchanges : Pass<"lowbit-insert-exchanges", "::mlir::ModuleOp"> {
  let summary = "Opens a model for quantization layer by layer while it runs";
  let description = [{
    float or observed form → a program for sequential quantization: each layer that a rule of the recipe quantizes reads its
    input and its weights through a `lowbit.exchange`; where the recipe corrects biases by the outputs (`bias-correction:
    {method: empirical}`) its result goes through one too. Layers that read the same value in the same way share the point
    of their input, named after the first of them. Whoever runs the program sees the inputs as they are behind the layers
    already quantized, and supplies the weights. The float weights go away, observers too: an input that is quantized with
    parameters from their statistics has them in the attributes `scale` and `zero`.

    ```mlir
    %x1 = lowbit.exchange "fc" "input"(%x) : (tensor<?x4xf32>) -> tensor<?x4xf32>
    %w1 = lowbit.exchange "fc" "weight"() : () -> tensor<4x2xf32>
    %0 = "onnx.MatMul"(%x1, %w1) {onnx_node_name = "fc"} : (tensor<?x4xf32>, tensor<4x2xf32>) -> tensor<?x2xf32>
    %y = lowbit.exchange "fc" "output"(%0) : (tensor<?x2xf32>) -> tensor<?x2xf32>
    ```
  }];
  let options = [Option<"recipe", "recipe", "std::string", "", "NAME, NAME:key=value,… or the path of a recipe.yaml">];
  let statistics = [Statistic<"numLayers", "num-layers", "Number of layers opened">];
  let dependentDialects = ["::lowbit::LowbitDialect"];
}

def ApplyRecipe : Pass<"lowbit-apply-recipe", "::mlir::ModuleOp"> {
  let summary = "Makes every decision of a recipe visible as quantize and dequantize ops";
  let description = [{
    float or observed form → qdq form. Of each layer that a rule takes, the weights become a quantized constant and a
    `lowbit.dequantize`; where the rule quantizes activations too, the input goes through `lowbit.quantize` and
    `lowbit.dequantize` with parameters from the observer's statistics, and the bias becomes 32-bit integers with the
    scale of the accumulator where there is one; or, with a range of the run, through `lowbit.dynamic_quantize`. Weights that
    are kept in half precision become a f16 constant and its conversion to f32. Observers are erased. What was decided about a layer, and why one was left in float, is
    in its attribute `lowbit.decision`.

    ```mlir
    %0 = lowbit.quantize %x scale(%s) zero(%z) : (tensor<1x4xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x4xui8>
    %1 = lowbit.dequantize %0 scale(%s) zero(%z) : (tensor<1x4xui8>, tensor<f32>, tensor<ui8>) -> tensor<1x4xf32>
    %2 = lowbit.dequantize %w scale(%ws) zero(%wz) {axis = 1 : i64}
       : (tensor<4x2xi8>, tensor<2xf32>, tensor<2xi8>) -> tensor<4x2xf32>
    %3 = "onnx.MatMul"(%1, %2) {lowbit.decision = {weights = "i8", …}} : (tensor<1x4xf32>, tensor<4x2xf32>) -> tensor<1x2xf32>
    ```
  }];
  let options = [Option<"recipe", "recipe", "std::string", "", "NAME, NAME:key=value,… or the path of a recipe.yaml">];
  let statistics = [
    Statistic<"numQuantized", "num-quantized", "Number of layers whose weights were quantized">,
    Statistic<"numInteger", "num-integer", "Number of layers whose activations were quantized too">,
    Statistic<"numHalf", "num-half", "Number of layers whose weights became f16">,
    Statistic<"numFloat", "num-left-in-float", "Number of layers left in float">,
  ];
  let dependentDialects = ["::lowbit::LowbitDialect", "::mlir::arith::ArithDialect", "::mlir::tensor::TensorDialect",
                           "::lowbit::onnx::ONNXDialect"];
}

def QuantizeKVCache : Pass<"lowbit-quantize-kv-cache", "::mlir::ModuleOp"> {
  let summary = "Holds a decoder's caches of keys and values in 8 bits";
  let description = [{
    A float input [batch, …, D] that flows through Concat or TensorScatter (with or without a Pad that makes room), along a
    dimension between the first and the last, or through Attention's past to an output that the graph reads becomes i8, and so
    does that output. Beside each stands a port of f32, `NAME_scale`, [batch, …, 1]: one scale per token and head, the largest
    magnitude of the row over 127. New rows are quantized, once; those of the past pass through as they are; readers get
    both dequantized. The module's `lowbit.kv_cache` says what changed. Without such an input it is an error.

    ```mlir
    func.func @main_graph(%past: tensor<1x2x?x4xi8>, %past_scale: tensor<1x2x?x1xf32>, %k: tensor<1x2x?x4xf32>)
    %q, %s, %z = lowbit.dynamic_quantize %k {per_token, symmetric} : …
    %present = "onnx.Concat"(%past, %q) {axis = 2 : si64, …}
    %present_scale = "onnx.Concat"(%past_scale, %s) {axis = 2 : si64, …}
    %real = lowbit.dequantize %present scale(%present_scale) zero(%zeros) {axis = 3 : i64, group = 4 : i64} : …
    ```
  }];
  let statistics = [Statistic<"numCaches", "caches", "Caches held in 8 bits">];
  let dependentDialects = ["::lowbit::LowbitDialect", "::lowbit::onnx::ONNXDialect"];
}

def FuseQDQ : Pass<"lowbit-fuse-qdq", "::mlir::ModuleOp"> {
  let summary = "Turns float ops between dequantize and quantize into quantized ops";
  let description = [{
    qdq form → quantized form. A Conv, MatMul, Gemm or Gather (or a linalg named op) on dequantized weights becomes
    `lowbit.conv`, `linear` or `gather`; a bias that is added, a Relu and a `lowbit.quantize` that are the only users go
    into it. On a dequantized input and symmetric 8-bit weights the op is an integer one; a linear op on other weights, on an
    input with a scale per row or of 16 bits sums its integers in float. A layer that does not fuse gets a remark with the
    reason.

    ```mlir
    %3 = lowbit.linear %q, %w scale(%ws) input_scale(%s) input_zero(%z) {layer = "fc"}
       : (tensor<1x4xui8>, tensor<2x4xi8>, tensor<2xf32>, tensor<f32>, tensor<ui8>) -> tensor<1x2xf32>
    ```
  }];
  let statistics = [
    Statistic<"numInteger", "num-fused-integer", "Number of layers that became integer ops">,
    Statistic<"numWeightOnly", "num-fused-weight-only", "Number of layers that became ops on float activations">,
    Statistic<"numLeft", "num-left", "Number of layers with quantized weights that did not fuse">,
  ];
  let dependentDialects = ["::lowbit::LowbitDialect", "::mlir::arith::ArithDialect", "::lowbit::onnx::ONNXDialect"];
}

def VerifyForm : Pass<"lowbit-verify-form", "::mlir::ModuleOp"> {
  let summary = "Checks that the module is in one of the named forms";
  let description = [{
    The forms of docs/architecture.md: `float`, `observed`, `qdq`, `quantized`, `scheduled`, `llvm`. Each op that does not
    belong is an error.

    ```mlir
    // lowbit-verify-form{form=float}
    %0 = lowbit.dequantize …   // error: does not belong in the float form
    ```
  }];
  let options = [Option<"form", "form", "std::string", "", "float, observed, qdq, quantized, scheduled or llvm">];
  let statistics = [Statistic<"numChecked", "num-checked", "Number of ops checked">];
}

//===----------------------------------------------------------------------===//
// onnx
//===----------------------------------------------------------------------===//

def InferShapes : Pass<"lowbit-infer-shapes", "::mlir::ModuleOp"> {
  let summary = "Gives every onnx value its shape";
  let description = [{
    Types that the importer left unranked become ranked, with `?` for what only the run will tell. i64 arithmetic on shapes
    (Shape, Gather, Concat, Slice, ...) is followed by value, so a Reshape to a computed shape gets static dims where it
    can. Operands that do not fit together are an error that names the node, what was found and what was expected.

    ```mlir
    %0 = "onnx.Flatten"(%x) {axis = 1 : si64} : (tensor<?x4x8xf32>) -> tensor<*xf32>
    // becomes
    %0 = "onnx.Flatten"(%x) {axis = 1 : si64} : (tensor<?x4x8xf32>) -> tensor<?x32xf32>
    ```
  }];
  let statistics = [
    Statistic<"numStatic", "static", "results with a static shape">,
    Statistic<"numDynamic", "dynamic", "results with a dim that only the run will tell">
  ];
}

def FoldConstants : Pass<"lowbit-fold-constants", "::mlir::ModuleOp"> {
  let summary = "Evaluates onnx ops whose operands are constants";
  let description = [{
    Data movement, integer arithmetic and f32 elementwise ops on constants become constants; so do Shape and what follows
    from it where the dims are static (run `lowbit-infer-shapes` first). Identity goes away, and a Reshape, Expand, Slice
    or Cast that changes nothing.

    ```mlir
    %0 = "onnx.Transpose"(%w) {perm = [1, 0]} : (tensor<2x3xf32>) -> tensor<3x2xf32>   // %w a constant
    // becomes
    %0 = "onnx.Constant"() {value = dense<[[1.0, 4.0], [2.0, 5.0], [3.0, 6.0]]> : tensor<3x2xf32>} : () -> tensor<3x2xf32>
    ```
  }];
  let statistics = [
    Statistic<"numFolded", "folded", "ops replaced by constants">,
    Statistic<"numForwarded", "forwarded", "ops that changed nothing">
  ];
}

def FoldBatchNorm : Pass<"lowbit-fold-batch-norm", "::mlir::ModuleOp"> {
  let summary = "Multiplies batch normalization into a layer beside it";
  let description = [{
    BatchNormalization of a Conv, ConvTranspose, Gemm or MatMul (with the Add of a bias behind it) with constant weights, used
    by nothing else, scales that layer's weights and bias and goes away; the mean and standard deviation that its result
    had in training stay behind as `lowbit.trained_moments`. Otherwise it goes into the layers that read it, where all of
    them are such layers and do not pad what it shifts. Computed in f64. What cannot be folded gets a remark that says why.

    ```mlir
    %0 = "onnx.Conv"(%x, %w, %none) : (...) -> tensor<?x8x16x16xf32>
    %1 = "onnx.BatchNormalization"(%0, %scale, %b, %mean, %var) : (...) -> tensor<?x8x16x16xf32>
    // becomes
    %1 = "onnx.Conv"(%x, %w_scaled, %b_folded) : (...) -> tensor<?x8x16x16xf32>
    ```
  }];
  let statistics = [
    Statistic<"numFolded", "folded", "batch normalizations folded">,
    Statistic<"numLeft", "left", "batch normalizations left as they are">
  ];
}

//===----------------------------------------------------------------------===//
// Surgery: the same function with constants that quantize better
//===----------------------------------------------------------------------===//

def Equalize : Pass<"lowbit-equalize", "::mlir::ModuleOp"> {
  let summary = "Gives the channels between layers like ranges, without data";
  let description = [{
    Cross-layer equalization (arXiv 1906.04721): channel i between two layers is multiplied by sqrt(r2_i / r1_i), where
    r1_i is the largest weight that makes it and r2_i the largest that reads it, until nothing changes. The factors go
    into the weights and biases on both sides. They pass Relu, LeakyRelu, PRelu, pooling, zero padding, Reshape,
    Transpose, Concat, Slice, residual Adds and depthwise convolutions; all that makes or reads a value takes part.
    Run it after `lowbit-fold-batch-norm`.

    ```mlir
    %1 = "onnx.Conv"(%x, %w1, %b1)        // rows of w1: 16, 1
    %2 = "onnx.Relu"(%1)
    %3 = "onnx.Conv"(%2, %w2, %b2)        // columns of w2: 1, 4
    // becomes rows 4, 2 and columns 4, 2
    ```
  }];
  let statistics = [
    Statistic<"numChannels", "channels", "channels that got a factor">,
    Statistic<"numConstants", "constants", "constants that changed">
  ];
  let dependentDialects = ["::lowbit::onnx::ONNXDialect"];
}

def AbsorbBias : Pass<"lowbit-absorb-bias", "::mlir::ModuleOp"> {
  let summary = "Moves what a Relu always passes into the next bias";
  let description = [{
    High-bias absorption (arXiv 1906.04721): where channel i in front of a Relu always exceeds c_i > 0, its bias loses c_i and
    the layers that read it gain W c, so the activations between them have a smaller range. c_i is the observer's
    `channel_min` of what the readers read; without one, the mean less 3 standard deviations, as the folded batch
    normalization had them (`lowbit.trained_moments`). Layers that pad with zeros cannot take it: a remark says so.

    ```mlir
    %1 = "onnx.Gemm"(%x, %w1, %b1)   // b1 = 5, always more than 3
    %2 = "onnx.Relu"(%1)
    %3 = "onnx.Gemm"(%2, %w2, %b2)   // w2 = 2, b2 = 1
    // becomes b1 = 2, b2 = 7
    ```
  }];
  let statistics = [
    Statistic<"numChannels", "channels", "channels that lost a part of their bias">,
    Statistic<"numLeft", "left", "layers whose readers cannot take it">
  ];
  let dependentDialects = ["::lowbit::onnx::ONNXDialect"];
}

def MigrateScales : Pass<"lowbit-migrate-scales", "::mlir::ModuleOp"> {
  let summary = "Moves input scales of layers into what makes their input";
  let description = [{
    A layer with `lowbit.input_scales` s (f32, one per input channel) is to read x / s and to have its weights multiplied by
    s. The division goes into what makes x: the gain of a normalization (LayerNormalization, RMSNormalization or one
    written as Mul by a constant), the output channels of layers, the linear branch of a gated product, values of
    attention through the heads and their repeats. All layers that read x are multiplied; channels that are tied (by
    several layers, or by repeats of a head) take the geometric mean. Where x cannot be divided the layer stays as it is,
    and a remark says why. The attribute is erased.

    ```mlir
    %1 = "onnx.RMSNormalization"(%x, %gain)            // gain = 1, 1
    %2 = "onnx.MatMul"(%1, %w) {lowbit.input_scales = dense<[2.0, 0.5]> : tensor<2xf32>}
    // becomes gain = 0.5, 2, and the rows of w multiplied by 2, 0.5
    ```
  }];
  let statistics = [
    Statistic<"numLayers", "layers", "layers whose scales moved">,
    Statistic<"numLeft", "left", "layers whose scales could not move">
  ];
  let dependentDialects = ["::lowbit::onnx::ONNXDialect"];
}

def AWQScale : Pass<"lowbit-awq-scale", "::mlir::ModuleOp"> {
  let summary = "Scales input channels so that weights round with less error";
  let description = [{
    AWQ's scales (arXiv 2306.00978): where `lowbit-migrate-scales` could move a division, the layers that read one value and
    whose weights the recipe rounds get their columns multiplied by s_k = mean|x_k|^alpha, the alpha in [0, 1) with which
    the error of their outputs is smallest. It is judged by the observer's `moments`; where there are none, by
    `channel_absmean` alone, as if channels were independent. Repeats of a head share their scales.

    ```mlir
    lowbit.observe %1 "fc:input" {stats = #lowbit.stats<…, channel_absmean = dense<[8.0, 1.0]> : tensor<2xf32>>}
    %2 = "onnx.MatMul"(%1, %w) {onnx_node_name = "fc"}
    // the first row of w grows, and the gain of what makes %1 shrinks by the same factor
    ```
  }];
  let options = [
    Option<"recipe", "recipe", "std::string", "", "NAME, NAME:key=value,… or the path of a recipe.yaml">,
    Option<"clip", "clip", "bool", "true", "Judge by ranges that clip, as the algorithms mse, awq and gptq choose them; else by those of all weights">,
  ];
  let statistics = [
    Statistic<"numGroups", "groups", "inputs that were searched">,
    Statistic<"numLayers", "layers", "layers that read them">,
    Statistic<"numLeft", "left", "observed layers whose input could not be scaled">
  ];
  let dependentDialects = ["::lowbit::LowbitDialect", "::lowbit::onnx::ONNXDialect"];
}

def Smooth : Pass<"lowbit-smooth", "::mlir::ModuleOp"> {
  let summary = "Moves outliers of activations into weights";
  let description = [{
    SmoothQuant (arXiv 2211.10438): input channel j of layers that are observed is divided by
    s_j = max|X_j|^alpha / max|W_j|^(1 - alpha) and their weights are multiplied by it, wherever `lowbit-migrate-scales` could
    move the division. W counts relative to the layer's outputs, W_nj / sqrt(sum_j W_nj² E[x_j²]), whose own scale is as free. Ranges are `channel_min` and `channel_max` of the observers' statistics, which follow; a histogram
    follows where `channel_histogram` is known. Layers behind a normalization that others read too (the residual sums of a
    post-norm encoder) get a multiplication of their own. With alpha = -1 each group of layers takes the alpha, or none at all, with which 8-bit rounding of
    activations (one range) and of weights (one per output channel) disturbs their outputs least.

    ```mlir
    lowbit.observe %x1 "fc:input" {stats = #lowbit.stats<…, channel_min = dense<[-1.0, -64.0]> : tensor<2xf32>, …>}
    %2 = "onnx.MatMul"(%x1, %w) {onnx_node_name = "fc"}
    // x1's second channel is divided by 8, the second row of w is multiplied by it
    ```
  }];
  let options = [Option<"strength", "alpha", "double", "0.5", "How much of the difficulty moves to the weights, 0 to 1; -1 chooses">];
  let statistics = [
    Statistic<"numGroups", "groups", "groups of layers that were smoothed together">,
    Statistic<"numLayers", "layers", "layers whose input was free to be scaled">,
    Statistic<"numLeft", "left", "observed layers whose input is fixed">
  ];
  let dependentDialects = ["::lowbit::LowbitDialect", "::lowbit::onnx::ONNXDialect"];
}

//===----------------------------------------------------------------------===//
// linalg
//===----------------------------------------------------------------------===//

def SinkTransposes : Pass<"lowbit-sink-transposes"> {
  let summary = "Transposes go behind elementwise linalg ops, where they cancel";
  let description = [{
    A convolution with channels last is put between two transposes. An elementwise op whose whole operands are all transposed the same way (or
    have been transposed back for another reader) runs in the order of what they are transposes of, and its result is transposed instead; a
    transpose of something that is padded is padded after it; two transposes in a row are one or none. Between two convolutions nothing is left.

    ```mlir
    %a = linalg.transpose %conv …     // channels first          %b = linalg.generic … (relu) ins(%conv)
    %b = linalg.generic … (relu) ins(%a)                becomes   // and the next convolution reads %b
    %c = linalg.transpose %b …        // channels last
    ```
  }];
  let statistics = [Statistic<"numSunk", "sunk", "Elementwise ops that run in another order">,
                    Statistic<"numCancelled", "cancelled", "Transposes that met another">];
  let dependentDialects = ["::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}

def FuseElementwise : Pass<"lowbit-fuse-elementwise"> {
  let summary = "Fuses elementwise linalg ops that nothing computes twice";
  let description = [{
    As upstream's linalg-fuse-elementwise-ops, except that a producer goes into its reader only where the reader uses each of
    its elements once. The upstream pass fuses into reductions: weights that are dequantized before a matrix product
    would be dequantized again for every row.

    ```mlir
    // fused: reads each element of %0 once              // not fused: %w is read once per row d0
    %0 = linalg.generic … (quantize)                     %w = linalg.generic … (dequantize)
    %1 = linalg.generic {affine_map<(d0, d1) -> (d1, d0)>}   %1 = linalg.generic {affine_map<(d0, d1, d2) -> (d1, d2)>}
    ```
  }];
  let statistics = [Statistic<"numFused", "fused", "linalg ops that went into others">];
  let dependentDialects = ["::mlir::affine::AffineDialect", "::mlir::linalg::LinalgDialect", "::mlir::tensor::TensorDialect"];
}
