// RUN: lowbit-opt %s --lowbit-prepare-entry --split-input-file --verify-diagnostics | FileCheck %s

// CHECK: module attributes {lowbit_rt.num_inputs = 2 : i64}
// CHECK: func.func @main_graph(%{{.*}}: tensor<4xf32> {bufferization.writable = false}, %{{.*}}: tensor<i64> {bufferization.writable = false})
// CHECK-SAME: llvm.emit_c_interface
func.func @main_graph(%x: tensor<4xf32>, %i: tensor<i64>) -> tensor<4xf32> {
  return %x : tensor<4xf32>
}

// -----

// expected-error @+1 {{expects a function @main_graph}}
module {
  func.func @other() {
    return
  }
}
