// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int8:calibration=minmax" | FileCheck %s
// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int8:calibration=average" | FileCheck %s --check-prefix=AVERAGE
// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int8:percentile=99" | FileCheck %s --check-prefix=PERCENTILE
// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int8:calibration=mse" | FileCheck %s --check-prefix=MSE
// RUN: lowbit-opt %s --lowbit-apply-recipe="recipe=int8:calibration=entropy" | FileCheck %s --check-prefix=ENTROPY

// How a recipe's calibration method chooses the range of an activation. Nearly all values are in [0, 2.55], one of a
// thousand is at 25.5: for 255 steps over everything a step is 0.1, without the outlier it is 0.01. The average range of
// a sample goes to 5.1.

// CHECK: "onnx.Constant"() <{value = dense<1.000000e-01> : tensor<f32>}>
// AVERAGE: "onnx.Constant"() <{value = dense<2.000000e-02> : tensor<f32>}>
// PERCENTILE: "onnx.Constant"() <{value = dense<0.00999999977> : tensor<f32>}>
// Clipping one of a thousand values by 23 costs more than rounding the others to a tenth: MSE keeps the outlier.
// MSE: "onnx.Constant"() <{value = dense<{{0\.09|1\.0+e-01|0\.1}}
// The divergence of the distributions does not care how far away the outlier is, so entropy clips it.
// ENTROPY: "onnx.Constant"() <{value = dense<0.01
func.func @main_graph(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  %w = "onnx.Constant"() {value = dense<1.0> : tensor<2x2xf32>} : () -> tensor<2x2xf32>
  lowbit.observe %x "fc:input" {stats = #lowbit.stats<min = 0.0 : f32, max = 25.5 : f32,
    average_min = 0.0 : f32, average_max = 5.1 : f32,
    histogram = dense<[[0.0, 0.0, 500.0], [0.05, 0.5, 200.0], [0.5, 1.0, 200.0], [1.0, 2.55, 99.0], [25.4, 25.5, 1.0]]> : tensor<5x3xf64>>} : tensor<1x2xf32>
  %0 = "onnx.MatMul"(%x, %w) {onnx_node_name = "fc"} : (tensor<1x2xf32>, tensor<2x2xf32>) -> tensor<1x2xf32>
  return %0 : tensor<1x2xf32>
}
