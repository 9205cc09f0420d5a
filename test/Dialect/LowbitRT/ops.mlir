// RUN: lowbit-opt %s | lowbit-opt | FileCheck %s
// RUN: lowbit-opt %s --mlir-print-op-generic | lowbit-opt | FileCheck %s

// CHECK: lowbit_rt.kernel @k generator("cpu.qgemm") schedule({n = 4 : i64})
lowbit_rt.kernel @k generator("cpu.qgemm") schedule({n = 4 : i64})

// CHECK-LABEL: func.func @f
func.func @f(%x: tensor<8x4xf32>, %m: memref<4xf32>, %n: index, %c: i1) -> tensor<8x4xf32> {
  %e = tensor.empty() : tensor<8x4xf32>
  // CHECK: lowbit_rt.launch @k ins(%{{.*}} : tensor<8x4xf32>) outs(%{{.*}} : tensor<8x4xf32>) {layer = "fc"} -> tensor<8x4xf32>
  %y = lowbit_rt.launch @k ins(%x : tensor<8x4xf32>) outs(%e : tensor<8x4xf32>) {layer = "fc"} -> tensor<8x4xf32>
  // CHECK: lowbit_rt.parallel @body[%{{.*}}] (%{{.*}}) : memref<4xf32>
  lowbit_rt.parallel @body[%n](%m) : memref<4xf32>
  // CHECK: lowbit_rt.isa
  %isa = lowbit_rt.isa
  // CHECK: lowbit_rt.weight 64 : memref<2xi8>
  %w = lowbit_rt.weight 64 : memref<2xi8>
  // CHECK: lowbit_rt.observe %{{.*}} id(3) : tensor<8x4xf32>
  lowbit_rt.observe %x id(3) : tensor<8x4xf32>
  // CHECK: lowbit_rt.assert %{{.*}}, "message"
  lowbit_rt.assert %c, "message"
  return %y : tensor<8x4xf32>
}

// CHECK-LABEL: func.func @device
func.func @device(%x: memref<?x4xf32>, %n: index, %rows: i32) {
  // CHECK: %[[Y:.*]] = lowbit_rt.device_alloc(%{{.*}}) : memref<?x4xf32>
  %y = lowbit_rt.device_alloc(%n) : memref<?x4xf32>
  // CHECK: lowbit_rt.transfer %{{.*}} to %[[Y]] : memref<?x4xf32>, memref<?x4xf32>
  lowbit_rt.transfer %x to %y : memref<?x4xf32>, memref<?x4xf32>
  // CHECK: lowbit_rt.enqueue 3 grid(%{{.*}}) block(%{{.*}}) shared 64 args(%{{.*}} : i32)
  lowbit_rt.enqueue 3 grid(%n, %n, %n) block(%n, %n, %n) shared 64 args(%rows : i32)
  // CHECK: lowbit_rt.device_free %[[Y]] : memref<?x4xf32>
  lowbit_rt.device_free %y : memref<?x4xf32>
  return
}
