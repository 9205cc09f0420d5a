// RUN: lowbit-opt %s --lowbit-to-scheduled=target=cuda --lowbit-to-cuda-kernels | FileCheck %s

// The layer is a launch of a generated kernel, the op after it an outlined one.
// CHECK: lowbit_rt.kernel @linear_u8_f32_16x64
// CHECK-LABEL: func.func @main_graph
// CHECK: lowbit_rt.launch @linear_u8_f32_16x64
// CHECK: gpu.launch_func  @main_graph_kernel::@main_graph_kernel
// Modules are in the order of their first launch.
// CHECK: gpu.module @linear_u8_f32_16x64_device
// CHECK: gpu.module @main_graph_kernel
// CHECK-NOT: math.
func.func @main_graph(%x: tensor<?x64xui8> {onnx.name = "x", onnx.dim_params = "0:N"}) -> (tensor<?x16xf32> {onnx.name = "y"}) {
  %w = arith.constant dense<3> : tensor<16x64xi8>
  %s = arith.constant dense<0.1> : tensor<f32>
  %z = "onnx.Constant"() {value = dense<7> : tensor<ui8>} : () -> tensor<ui8>
  %y = lowbit.linear %x, %w scale(%s) input_scale(%s) input_zero(%z) {layer = "fc"}
    : (tensor<?x64xui8>, tensor<16x64xi8>, tensor<f32>, tensor<f32>, tensor<ui8>) -> tensor<?x16xf32>
  %t = "onnx.Tanh"(%y) {onnx_node_name = "tanh"} : (tensor<?x16xf32>) -> tensor<?x16xf32>
  return %t : tensor<?x16xf32>
}
