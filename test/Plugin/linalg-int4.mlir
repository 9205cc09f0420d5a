// A pipeline of stock mlir-opt without ONNX: 4-bit weights in groups of 2 along K on a linalg.matmul, executed.

// RUN: %mlir_opt %s --load-dialect-plugin=%plugin --load-pass-plugin=%plugin \
// RUN:   --pass-pipeline='builtin.module(lowbit-apply-recipe{recipe=int4:group=2,head=same,algorithm=rtn}, lowbit-fuse-qdq)' | FileCheck %s
// RUN: %mlir_opt %s --load-dialect-plugin=%plugin --load-pass-plugin=%plugin \
// RUN:   --pass-pipeline='builtin.module(lowbit-apply-recipe{recipe=int4:group=2,head=same,algorithm=rtn}, lowbit-fuse-qdq, lowbit-to-linalg,%to_llvm)' 2>/dev/null \
// RUN:   | %run_main | FileCheck %s --check-prefix=INT4
// RUN: %mlir_opt %s --pass-pipeline='builtin.module(%to_llvm)' | %run_main | FileCheck %s --check-prefix=FLOAT
// RUN: not %mlir_opt %s --load-dialect-plugin=%plugin --load-pass-plugin=%plugin \
// RUN:   --pass-pipeline='builtin.module(lowbit-apply-recipe{recipe=int4:groups=2})' 2>&1 | FileCheck %s --check-prefix=BAD

// Column 0: [0, 1.5] has scale 0.1 and zero 0, [-1.5, 0] scale 0.1 and zero 15.
// Column 1: [-1, 2] has scale 0.2 and zero 5, [0, 15] scale 1 and zero 0.
// CHECK-LABEL: func.func @matmul
// CHECK-DAG: %[[W:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[10, 15, 0, 10], [0, 15, 15, 7]]> : tensor<2x4xui4>}>
// CHECK-DAG: %[[S:.*]] = arith.constant dense<{{\[}}[1.000000e-01, 1.000000e-01], [2.000000e-01, 1.000000e+00]]> : tensor<2x2xf32>
// CHECK-DAG: %[[Z:.*]] = "onnx.Constant"() <{value = dense<{{\[}}[0, 15], [5, 0]]> : tensor<2x2xui4>}>
// CHECK: lowbit.linear %{{.*}}, %[[W]] scale(%[[S]]) zero(%[[Z]]) {group = 2 : i64, layer = "matmul#0"

// Dequantized: column 0 is [1, 1.5, -1.5, -0.5], column 1 [-1, 2, 15, 7] where the float weight was 7.25.
// INT4: [1, -1]
// INT4: [1.5, 2]
// INT4: [-1.5, 15]
// INT4: [-0.5, 7]
// INT4: [0.5, 23]

// FLOAT: [1, -1]
// FLOAT: [1.5, 2]
// FLOAT: [-1.5, 15]
// FLOAT: [-0.5, 7.25]
// FLOAT: [0.5, 23.25]

// BAD: error: recipe 'int4:groups=2': unknown key 'groups'; did you mean 'group'?

func.func private @printMemrefF32(tensor<*xf32>)

func.func @matmul(%x: tensor<5x4xf32>) -> tensor<5x2xf32> {
  %w = arith.constant dense<[[1.0, -1.0], [1.5, 2.0], [-1.5, 15.0], [-0.5, 7.25]]> : tensor<4x2xf32>
  %zero = arith.constant 0.0 : f32
  %empty = tensor.empty() : tensor<5x2xf32>
  %init = linalg.fill ins(%zero : f32) outs(%empty : tensor<5x2xf32>) -> tensor<5x2xf32>
  %y = linalg.matmul ins(%x, %w : tensor<5x4xf32>, tensor<4x2xf32>) outs(%init : tensor<5x2xf32>) -> tensor<5x2xf32>
  return %y : tensor<5x2xf32>
}

func.func @main() {
  %x = arith.constant dense<[[1.0, 0.0, 0.0, 0.0], [0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 1.0, 0.0], [0.0, 0.0, 0.0, 1.0], [1.0, 1.0, 1.0, 1.0]]> : tensor<5x4xf32>
  %y = call @matmul(%x) : (tensor<5x4xf32>) -> tensor<5x2xf32>
  %u = tensor.cast %y : tensor<5x2xf32> to tensor<*xf32>
  call @printMemrefF32(%u) : (tensor<*xf32>) -> ()
  return
}
