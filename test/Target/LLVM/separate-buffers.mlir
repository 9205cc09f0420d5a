// RUN: lowbit-opt %s --lowbit-separate-buffers | FileCheck %s

// The second result is made after the wait: its buffer would be held meanwhile.
// CHECK-LABEL: @waits
// CHECK: %[[A:.*]] = tensor.empty() : tensor<4xf32>
// CHECK: linalg.exp {{.*}} outs(%[[A]] :
// CHECK: lowbit_rt.exchange
// CHECK: %[[B:.*]] = tensor.empty() : tensor<4xf32>
// CHECK: linalg.exp {{.*}} outs(%[[B]] :
func.func @waits(%x: tensor<4xf32>) -> tensor<4xf32> {
  %empty = tensor.empty() : tensor<4xf32>
  %a = linalg.exp ins(%x : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  %b = lowbit_rt.exchange(%a) id(0) : (tensor<4xf32>) -> tensor<4xf32>
  %c = linalg.exp ins(%b : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %c : tensor<4xf32>
}

// A loop's iterations share one.
// CHECK-LABEL: @loop
// CHECK: lowbit_rt.exchange
// CHECK: tensor.empty
// CHECK: tensor.empty
// CHECK-NEXT: scf.for
// CHECK-NOT: tensor.empty
func.func @loop(%x: tensor<4xf32>, %n: index) -> tensor<4xf32> {
  %zero = arith.constant 0 : index
  %one = arith.constant 1 : index
  %empty = tensor.empty() : tensor<4xf32>
  %a = lowbit_rt.exchange(%x) id(0) : (tensor<4xf32>) -> tensor<4xf32>
  %b = linalg.exp ins(%a : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  %c = scf.for %i = %zero to %n step %one iter_args(%y = %b) -> tensor<4xf32> {
    %d = linalg.exp ins(%y : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
    scf.yield %d : tensor<4xf32>
  }
  return %c : tensor<4xf32>
}

// What does not wait shares.
// CHECK-LABEL: @runs
// CHECK: tensor.empty
// CHECK-NOT: tensor.empty
func.func @runs(%x: tensor<4xf32>) -> tensor<4xf32> {
  %empty = tensor.empty() : tensor<4xf32>
  %a = linalg.exp ins(%x : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  %c = linalg.exp ins(%a : tensor<4xf32>) outs(%empty : tensor<4xf32>) -> tensor<4xf32>
  return %c : tensor<4xf32>
}
