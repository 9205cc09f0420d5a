// RUN: not lowbit-opt %s --lowbit-smooth 2>&1 | FileCheck %s
// RUN: not lowbit-opt %s --pass-pipeline='builtin.module(lowbit-smooth{alpha=2})' 2>&1 | FileCheck %s --check-prefix=ALPHA

// CHECK: error: the transform smooth reads statistics of the channels of layers' inputs, and there are none
// CHECK: note: calibrate the model with a recipe that lists it
// ALPHA: error: lowbit-smooth: expected alpha in [0, 1], found 2
func.func @nothing(%x: tensor<1x2xf32>) -> tensor<1x2xf32> {
  return %x : tensor<1x2xf32>
}
