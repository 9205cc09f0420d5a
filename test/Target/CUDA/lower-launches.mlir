// RUN: lowbit-opt %s --lowbit-lower-launches | FileCheck %s
// RUN: not lowbit-opt %S/Inputs/launch-without-kernel.mlir --lowbit-lower-launches 2>&1 | FileCheck %s --check-prefix=MISSING
// MISSING: error: launches 'nobody', of which there is no kernel

module attributes {gpu.container_module} {
  lowbit_rt.kernel @fc generator("cuda.mma_s8") schedule({})
  // CHECK-LABEL: func @main_graph
  // CHECK-SAME: %[[X:.*]]: memref<?x64xi8>, %[[Y:.*]]: memref<?x?x16xf32>
  func.func @main_graph(%x: memref<?x64xi8>, %y: memref<?x?x16xf32>, %blocks: index) {
    %c1 = arith.constant 1 : index
    %c256 = arith.constant 256 : index
    // Addresses, then the number of rows: all axes but the last.
    // CHECK-DAG: %[[PX:.*]] = memref.extract_aligned_pointer_as_index %[[X]]
    // CHECK-DAG: %[[PY:.*]] = memref.extract_aligned_pointer_as_index %[[Y]]
    // CHECK: %[[ROWS:.*]] = arith.index_cast %{{.*}} : index to i32
    // CHECK: %[[GRID:.*]] = arith.ceildivui %{{.*}}, %c32
    // CHECK: lowbit_rt.enqueue 0 grid(%[[GRID]], %c3{{[_0-9]*}}, %c1{{[_0-9]*}}) block(%c128{{[_0-9]*}}, %c1{{[_0-9]*}}, %c1{{[_0-9]*}}) shared 4096 args(%[[PX]], %[[PY]], %[[ROWS]] : index, index, i32)
    lowbit_rt.launch @fc ins(%x : memref<?x64xi8>) outs(%y : memref<?x?x16xf32>) {layer = "fc"}
    // A memref is two addresses, an offset, sizes and strides.
    // CHECK: %[[P:.*]] = memref.extract_aligned_pointer_as_index %[[X]]
    // CHECK: %[[BASE:.*]], %[[OFFSET:.*]], %[[SIZES:.*]]:2, %[[STRIDES:.*]]:2 = memref.extract_strided_metadata %[[X]]
    // CHECK: lowbit_rt.enqueue 1 grid(%{{.*}}) block(%{{.*}}) shared 0 args(%[[P]], %[[P]], %[[OFFSET]], %[[SIZES]]#0, %[[SIZES]]#1, %[[STRIDES]]#0, %[[STRIDES]]#1, %{{.*}} : index, index, index, index, index, index, index, index)
    gpu.launch_func @k::@k blocks in (%blocks, %c1, %c1) threads in (%c256, %c1, %c1) args(%x : memref<?x64xi8>, %blocks : index)
    return
  }
  // CHECK-NOT: gpu.module
  // CHECK-NOT: lowbit_rt.kernel
  gpu.module @fc_device {
    gpu.func @fc(%a: !llvm.ptr<1>, %b: !llvm.ptr<1>, %rows: i32) kernel attributes {lowbit.launch = array<i64: 128, 32, 3, 4096>} {
      gpu.return
    }
  }
  gpu.module @k {
    gpu.func @k(%x: memref<?x64xi8>, %n: index) kernel {
      gpu.return
    }
  }
}
