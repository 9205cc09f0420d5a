// RUN: lowbit-opt %s -split-input-file -verify-diagnostics --lowbit-quantize-kv-cache | FileCheck %s
// RUN: lowbit-opt %s -split-input-file -verify-diagnostics --lowbit-quantize-kv-cache --canonicalize --cse | FileCheck %s --check-prefix=MODULE

// A Concat: new rows are quantized, those of the past are not touched; the reader gets both dequantized.

// MODULE: lowbit.kv_cache = [{bytes_per_token = 16 : i64, float_bytes_per_token = 32 : i64, past = "past.key", present = "present.key"}]
// CHECK-LABEL: func.func @main_graph(
// CHECK-SAME: %[[PAST:[a-z0-9]*]]: tensor<?x2x?x4xi8> {onnx.dim_params = "0:batch,2:past", onnx.name = "past.key"},
// CHECK-SAME: %[[PAST_SCALE:[a-z0-9]*]]: tensor<?x2x?x1xf32> {onnx.dim_params = "0:batch,2:past", onnx.name = "past.key_scale"},
// CHECK-SAME: %[[K:[a-z0-9]*]]: tensor<?x2x?x4xf32> {onnx.name = "k"}) -> (tensor<?x2x?x4xf32> {onnx.name = "y"},
// CHECK-SAME: tensor<?x2x?x4xi8> {onnx.name = "present.key"}, tensor<?x2x?x1xf32> {onnx.name = "present.key_scale"},
// CHECK-SAME: tensor<4xi64> {onnx.name = "shape"})
// CHECK: %[[SHAPE:.*]] = "onnx.Shape"(%[[PAST]])
// CHECK: %[[Q:.*]], %[[S:.*]], %{{.*}} = lowbit.dynamic_quantize %[[K]] {per_token, symmetric}
// CHECK: %[[PRESENT:.*]] = "onnx.Concat"(%[[PAST]], %[[Q]]) <{axis = 2 : si64}>
// CHECK: %[[SCALE:.*]] = "onnx.Concat"(%[[PAST_SCALE]], %[[S]]) <{axis = 2 : si64}>
// CHECK: %[[ZERO:.*]] = "onnx.Expand"
// CHECK: %[[REAL:.*]] = lowbit.dequantize %[[PRESENT]] scale(%[[SCALE]]) zero(%[[ZERO]]) {axis = 3 : i64, group = 4 : i64}
// CHECK: %[[Y:.*]] = "onnx.Relu"(%[[REAL]])
// CHECK: return %[[Y]], %[[PRESENT]], %[[SCALE]], %[[SHAPE]]
func.func @main_graph(%past: tensor<?x2x?x4xf32> {onnx.name = "past.key", onnx.dim_params = "0:batch,2:past"},
                      %k: tensor<?x2x?x4xf32> {onnx.name = "k"})
    -> (tensor<?x2x?x4xf32> {onnx.name = "y"}, tensor<?x2x?x4xf32> {onnx.name = "present.key"}, tensor<4xi64> {onnx.name = "shape"}) {
  %shape = "onnx.Shape"(%past) {onnx_node_name = "shape"} : (tensor<?x2x?x4xf32>) -> tensor<4xi64>
  %0 = "onnx.Concat"(%past, %k) {axis = -2 : si64, onnx_node_name = "cat"} : (tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>) -> tensor<?x2x?x4xf32>
  %1 = "onnx.Relu"(%0) {onnx_node_name = "read"} : (tensor<?x2x?x4xf32>) -> tensor<?x2x?x4xf32>
  return %1, %0, %shape : tensor<?x2x?x4xf32>, tensor<?x2x?x4xf32>, tensor<4xi64>
}

// -----

// A TensorScatter into a past that grows: integers and scales take the same way. What reads the past itself gets its values.

// CHECK-LABEL: func.func @main_graph(
// CHECK-SAME: %[[PAST:[a-z0-9]*]]: tensor<1x2x?x4xi8>, %[[PAST_SCALE:[a-z0-9]*]]: tensor<1x2x?x1xf32>, %[[V:[a-z0-9]*]]: tensor<1x2x?x4xf32>, %[[MORE:[a-z0-9]*]]: tensor<1xi64>, %[[AT:[a-z0-9]*]]: tensor<1xi64>)
// CHECK-DAG: %[[OLD:.*]] = lowbit.dequantize %[[PAST]] scale(%[[PAST_SCALE]])
// CHECK-DAG: "onnx.Neg"(%[[OLD]])
// CHECK-DAG: %[[PADS:.*]] = "onnx.Concat"(%{{.*}}, %[[MORE]], %{{.*}})
// CHECK-DAG: %[[GROWN:.*]] = "onnx.Pad"(%[[PAST]], %[[PADS]], {{.*}} -> tensor<1x2x?x4xi8>
// CHECK-DAG: %[[GROWN_SCALE:.*]] = "onnx.Pad"(%[[PAST_SCALE]], %[[PADS]], {{.*}} -> tensor<1x2x?x1xf32>
// CHECK-DAG: %[[Q:.*]], %[[S:.*]], %{{.*}} = lowbit.dynamic_quantize %[[V]] {per_token, symmetric}
// CHECK-DAG: %[[PRESENT:.*]] = "onnx.TensorScatter"(%[[GROWN]], %[[Q]], %[[AT]])
// CHECK-DAG: %[[SCALE:.*]] = "onnx.TensorScatter"(%[[GROWN_SCALE]], %[[S]], %[[AT]])
// CHECK: return %{{.*}}, %{{.*}}, %[[PRESENT]], %[[SCALE]]
func.func @main_graph(%past: tensor<1x2x?x4xf32>, %v: tensor<1x2x?x4xf32>, %more: tensor<1xi64>, %at: tensor<1xi64>)
    -> (tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>) {
  %zeros = "onnx.Constant"() {value = dense<0> : tensor<6xi64>} : () -> tensor<6xi64>
  %zero = "onnx.Constant"() {value = dense<0> : tensor<1xi64>} : () -> tensor<1xi64>
  %none = "onnx.NoValue"() {value} : () -> none
  %pads = "onnx.Concat"(%zeros, %more, %zero) {axis = 0 : si64, onnx_node_name = "pads"} : (tensor<6xi64>, tensor<1xi64>, tensor<1xi64>) -> tensor<8xi64>
  %grown = "onnx.Pad"(%past, %pads, %none, %none) {onnx_node_name = "grow"} : (tensor<1x2x?x4xf32>, tensor<8xi64>, none, none) -> tensor<1x2x?x4xf32>
  %0 = "onnx.TensorScatter"(%grown, %v, %at) {axis = 2 : si64, onnx_node_name = "write"} : (tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>, tensor<1xi64>) -> tensor<1x2x?x4xf32>
  %1 = "onnx.Relu"(%0) {onnx_node_name = "read"} : (tensor<1x2x?x4xf32>) -> tensor<1x2x?x4xf32>
  %2 = "onnx.Neg"(%past) {onnx_node_name = "old"} : (tensor<1x2x?x4xf32>) -> tensor<1x2x?x4xf32>
  return %1, %2, %0 : tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>
}

// -----

// Attention concatenates by itself. It reads the past dequantized and the new keys as they will be read from then on; its values
// are as they were, and so is their output.

// CHECK-LABEL: func.func @main_graph(
// CHECK-SAME: %[[PAST:[a-z0-9]*]]: tensor<1x2x?x4xi8>, %[[PAST_SCALE:[a-z0-9]*]]: tensor<1x2x?x1xf32>,
// CHECK: %[[OLD:.*]] = lowbit.dequantize %[[PAST]] scale(%[[PAST_SCALE]])
// CHECK: %[[HEADS:.*]] = "onnx.Reshape"({{.*}} -> tensor<1x?x2x4xf32>
// CHECK: %[[Q:.*]], %[[S:.*]], %{{.*}} = lowbit.dynamic_quantize %[[HEADS]] {per_token, symmetric}
// CHECK: %[[REAL:.*]] = lowbit.dequantize %[[Q]] scale(%[[S]])
// CHECK: %[[NEW:.*]] = "onnx.Reshape"(%[[REAL]], {{.*}} -> tensor<1x?x8xf32>
// CHECK-DAG: %[[ROWS:.*]] = "onnx.Transpose"(%[[Q]])
// CHECK-DAG: %[[ROW_SCALES:.*]] = "onnx.Transpose"(%[[S]])
// CHECK-DAG: %[[PRESENT:.*]] = "onnx.Concat"(%[[PAST]], %[[ROWS]])
// CHECK-DAG: %[[SCALE:.*]] = "onnx.Concat"(%[[PAST_SCALE]], %[[ROW_SCALES]])
// CHECK: %[[Y:.*]], %{{.*}}, %[[VALUES:.*]], %{{.*}} = "onnx.Attention"(%{{.*}}, %[[NEW]], %{{.*}}, %{{.*}}, %[[OLD]], %{{.*}}, %{{.*}})
// CHECK: return %[[Y]], %[[PRESENT]], %[[SCALE]], %[[VALUES]]
// expected-remark @below {{input 'past.value' cannot be held in i8: the size of its last dimension is not known before the run; it stays as it is}}
func.func @main_graph(%past: tensor<1x2x?x4xf32>, %values: tensor<1x2x?x?xf32> {onnx.name = "past.value"}, %q: tensor<1x?x8xf32>, %k: tensor<1x?x8xf32>, %v: tensor<1x?x8xf32>)
    -> (tensor<1x?x8xf32>, tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>) {
  %none = "onnx.NoValue"() {value} : () -> none
  %0:4 = "onnx.Attention"(%q, %k, %v, %none, %past, %values, %none) {onnx_node_name = "attention", q_num_heads = 2 : si64, kv_num_heads = 2 : si64}
      : (tensor<1x?x8xf32>, tensor<1x?x8xf32>, tensor<1x?x8xf32>, none, tensor<1x2x?x4xf32>, tensor<1x2x?x?xf32>, none) -> (tensor<1x?x8xf32>, tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>, none)
  return %0#0, %0#1, %0#2 : tensor<1x?x8xf32>, tensor<1x2x?x4xf32>, tensor<1x2x?x4xf32>
}

// -----

// Keys that are held transposed have no row per token.

// expected-error @below {{the recipe holds the cache of keys and values in i8 (kv_cache), and this model has none: looked for a float input [batch, …, D]}}
// expected-note @below {{input 'past' cannot be held in i8: it grows along its last dimension, so a token is no row of it}}
module {
func.func @main_graph(%past: tensor<1x2x4x?xf32> {onnx.name = "past"}, %k: tensor<1x2x4x?xf32>) -> (tensor<1x2x4x?xf32>, tensor<1x2x4x?xf32>) {
  %0 = "onnx.Concat"(%past, %k) {axis = 3 : si64, onnx_node_name = "cat"} : (tensor<1x2x4x?xf32>, tensor<1x2x4x?xf32>) -> tensor<1x2x4x?xf32>
  %1 = "onnx.Relu"(%0) {onnx_node_name = "read"} : (tensor<1x2x4x?xf32>) -> tensor<1x2x4x?xf32>
  return %1, %0 : tensor<1x2x4x?xf32>, tensor<1x2x4x?xf32>
}
}

// -----

// An output that nothing reads is no cache.

// expected-error @below {{and this model has none}}
// expected-note @below {{leave kv_cache out, or export the model with its cache as inputs and outputs}}
module {
func.func @main_graph(%x: tensor<1x?x4xf32>, %y: tensor<1x?x4xf32>) -> tensor<1x?x4xf32> {
  %0 = "onnx.Concat"(%x, %y) {axis = 1 : si64, onnx_node_name = "cat"} : (tensor<1x?x4xf32>, tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  return %0 : tensor<1x?x4xf32>
}
}

// -----

module {
// expected-error @below {{the scales of a cache would be called 'past_scale', which the model has already; rename it in the model}}
func.func @main_graph(%past: tensor<1x?x4xf32> {onnx.name = "past"}, %k: tensor<1x?x4xf32> {onnx.name = "past_scale"})
    -> (tensor<1x?x4xf32> {onnx.name = "y"}, tensor<1x?x4xf32> {onnx.name = "present"}) {
  %0 = "onnx.Concat"(%past, %k) {axis = 1 : si64, onnx_node_name = "cat"} : (tensor<1x?x4xf32>, tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  %1 = "onnx.Relu"(%0) {onnx_node_name = "read"} : (tensor<1x?x4xf32>) -> tensor<1x?x4xf32>
  return %1, %0 : tensor<1x?x4xf32>, tensor<1x?x4xf32>
}
}
