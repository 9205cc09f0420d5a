// RUN: lowbit-opt %s --lowbit-convert-onnx-to-linalg --canonicalize --split-input-file --verify-diagnostics | FileCheck %s

// Heads that share keys are a dim of their own; keys are transposed once; queries come in blocks that stop at the last
// key that one of them sees.
// CHECK-LABEL: func.func @grouped
// CHECK: tensor.expand_shape {{.*}} : tensor<1x4x?x8xf32> into tensor<1x2x2x?x8xf32>
// CHECK: scf.for %[[FIRST:.*]] = %c0{{.*}} to %{{.*}} step %c32
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "parallel"]
// CHECK: arith.cmpi sle
// CHECK: arith.maximumf
// CHECK: math.exp
// CHECK: linalg.generic {{.*}} iterator_types = ["parallel", "parallel", "parallel", "parallel", "reduction", "parallel"]
// CHECK: tensor.insert_slice
func.func @grouped(%q: tensor<1x4x?x8xf32> {onnx.dim_params = "2:s"}, %k: tensor<1x2x?x8xf32> {onnx.dim_params = "2:s"},
                   %v: tensor<1x2x?x8xf32> {onnx.dim_params = "2:s"}) -> tensor<1x4x?x8xf32> {
  %none = "onnx.NoValue"() {value} : () -> none
  %y, %pk, %pv, %qk = "onnx.Attention"(%q, %k, %v, %none, %none, %none, %none) {is_causal = 1 : si64}
      : (tensor<1x4x?x8xf32>, tensor<1x2x?x8xf32>, tensor<1x2x?x8xf32>, none, none, none, none)
      -> (tensor<1x4x?x8xf32>, none, none, none)
  return %y : tensor<1x4x?x8xf32>
}

// -----

// The scores as a result are whole: no blocks.
// CHECK-LABEL: func.func @scores
// CHECK-NOT: scf.for
// CHECK: return
func.func @scores(%q: tensor<1x2x3x8xf32>, %k: tensor<1x2x5x8xf32>, %v: tensor<1x2x5x4xf32>)
    -> (tensor<1x2x3x4xf32>, tensor<1x2x3x5xf32>) {
  %none = "onnx.NoValue"() {value} : () -> none
  %y, %pk, %pv, %qk = "onnx.Attention"(%q, %k, %v, %none, %none, %none, %none) {qk_matmul_output_mode = 3 : si64}
      : (tensor<1x2x3x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x4xf32>, none, none, none, none)
      -> (tensor<1x2x3x4xf32>, none, none, tensor<1x2x3x5xf32>)
  return %y, %qk : tensor<1x2x3x4xf32>, tensor<1x2x3x5xf32>
}

// -----

func.func @heads(%q: tensor<1x3x3x8xf32>, %k: tensor<1x2x5x8xf32>) -> tensor<1x3x3x8xf32> {
  %none = "onnx.NoValue"() {value} : () -> none
  // expected-error @+1 {{Attention node 'a': 3 query heads cannot share 2 key heads}}
  %y, %pk, %pv, %qk = "onnx.Attention"(%q, %k, %k, %none, %none, %none, %none) {onnx_node_name = "a"}
      : (tensor<1x3x3x8xf32>, tensor<1x2x5x8xf32>, tensor<1x2x5x8xf32>, none, none, none, none)
      -> (tensor<1x3x3x8xf32>, none, none, none)
  return %y : tensor<1x3x3x8xf32>
}
