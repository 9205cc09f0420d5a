// RUN: lowbit-opt %s --lowbit-share-kernels --split-input-file | FileCheck %s

module attributes {gpu.container_module} {
  // The second and the third kernel are the same but for the name; the first is launched by nobody.
  // CHECK-LABEL: func @main_graph
  func.func @main_graph(%x: memref<4xf32>) {
    %c1 = arith.constant 1 : index
    // CHECK: gpu.launch_func @main_graph_kernel_1::@main_graph_kernel_1
    gpu.launch_func @main_graph_kernel_1::@main_graph_kernel blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%x : memref<4xf32>)
    // CHECK: gpu.launch_func @main_graph_kernel_1::@main_graph_kernel_1
    gpu.launch_func @main_graph_kernel_2::@main_graph_kernel blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%x : memref<4xf32>)
    // A kernel of a node has its name.
    // CHECK: gpu.launch_func @main_graph_kernel_3::@node__layer_1_0
    gpu.launch_func @main_graph_kernel_3::@main_graph_kernel blocks in (%c1, %c1, %c1) threads in (%c1, %c1, %c1) args(%x : memref<4xf32>) loc("/layer/1")
    return
  }
  // CHECK-NOT: gpu.module @main_graph_kernel {
  // CHECK: gpu.module @main_graph_kernel_1
  // CHECK: gpu.func @main_graph_kernel_1
  // CHECK-NOT: gpu.module @main_graph_kernel_2
  // CHECK: gpu.module @main_graph_kernel_3
  gpu.module @main_graph_kernel {
    gpu.func @main_graph_kernel(%x: memref<4xf32>) kernel {
      gpu.return
    }
  }
  gpu.module @main_graph_kernel_3 {
    gpu.func @main_graph_kernel(%x: memref<4xf32>) kernel {
      %c1 = arith.constant 1 : index
      %v = memref.load %x[%c1] : memref<4xf32>
      memref.store %v, %x[%c1] : memref<4xf32>
      gpu.return
    }
  }
  gpu.module @main_graph_kernel_1 {
    gpu.func @main_graph_kernel(%x: memref<4xf32>) kernel {
      %c0 = arith.constant 0 : index
      %v = memref.load %x[%c0] : memref<4xf32>
      memref.store %v, %x[%c0] : memref<4xf32>
      gpu.return
    }
  }
  gpu.module @main_graph_kernel_2 {
    gpu.func @main_graph_kernel(%x: memref<4xf32>) kernel {
      %c0 = arith.constant 0 : index
      %v = memref.load %x[%c0] : memref<4xf32>
      memref.store %v, %x[%c0] : memref<4xf32>
      gpu.return
    }
  }
}
