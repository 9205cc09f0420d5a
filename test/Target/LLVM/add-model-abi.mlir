// RUN: lowbit-opt %s --lowbit-add-model-abi --split-input-file --verify-diagnostics | FileCheck %s

module attributes {lowbit_rt.num_inputs = 2 : i64} {
  llvm.func @_mlir_ciface_main_graph(%results: !llvm.ptr, %a: !llvm.ptr, %b: !llvm.ptr) {
    llvm.return
  }
}
// CHECK: llvm.func internal @_mlir_ciface_main_graph
// CHECK: llvm.func @lowbit_model_abi() -> i64
// CHECK: llvm.func @lowbit_model_init(%{{.*}}: !llvm.ptr, %{{.*}}: !llvm.ptr, %{{.*}}: i64)
// CHECK: llvm.func @lowbit_model_run(%[[INPUTS:.*]]: !llvm.ptr, %[[RESULTS:.*]]: !llvm.ptr)
// CHECK: llvm.getelementptr %[[INPUTS]][0]
// CHECK: llvm.getelementptr %[[INPUTS]][1]
// CHECK: llvm.call @_mlir_ciface_main_graph(%[[RESULTS]],
// CHECK: llvm.func internal @_mlir_memref_to_llvm_alloc

// -----

// expected-error @+1 {{expects @main_graph with llvm.emit_c_interface}}
module {
}
