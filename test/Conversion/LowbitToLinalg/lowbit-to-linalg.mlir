// RUN: lowbit-opt %s --split-input-file --verify-diagnostics --lowbit-to-linalg | FileCheck %s

// Divide, round half to even, add the zero point, saturate. ui8 is i8 with unsigned bounds; what still wants ui8 gets a cast.

// CHECK-LABEL: func.func @quantize
// CHECK-SAME: (%[[X:.*]]: tensor<?xf32>) -> tensor<?xui8>
// CHECK-DAG: %[[S:.*]] = arith.constant 5.000000e-01 : f32
// CHECK-DAG: %[[Z:.*]] = arith.constant 3 : i32
// CHECK: %[[Q:.*]] = linalg.generic {{.*}} ins(%[[X]] : tensor<?xf32>) outs(%{{.*}} : tensor<?xi8>)
// CHECK: arith.divf %{{.*}}, %[[S]]
// CHECK: %[[ZF:.*]] = arith.sitofp %[[Z]]
// CHECK: %[[R:.*]] = math.roundeven
// CHECK: arith.addf %[[R]], %[[ZF]]
// CHECK: arith.maxnumf
// CHECK: arith.minnumf
// CHECK: arith.fptosi {{.*}} : f32 to i32
// CHECK: builtin.unrealized_conversion_cast %[[Q]] : tensor<?xi8> to tensor<?xui8>
func.func @quantize(%x: tensor<?xf32>) -> tensor<?xui8> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<3> : tensor<ui8>} : () -> tensor<ui8>
  %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<?xf32>, tensor<f32>, tensor<ui8>) -> tensor<?xui8>
  return %q : tensor<?xui8>
}

// -----

// Casts between lowbit ops cancel. Weights become [K, N], so that the innermost loop runs along the result; the
// multipliers are f32(f64(0.5) * weight_scale) and known here.

// CHECK: #[[X:.*]] = affine_map<(d0, d1, d2) -> (d0, d1)>
// CHECK: #[[W:.*]] = affine_map<(d0, d1, d2) -> (d1, d2)>
// CHECK: #[[Y:.*]] = affine_map<(d0, d1, d2) -> (d0, d2)>
// CHECK-LABEL: func.func @integer_linear
// CHECK-NOT: unrealized_conversion_cast
// CHECK: %[[WEIGHT:.*]] = arith.constant dense<{{\[}}[1, 3], [2, 4]]> : tensor<2x2xi8>
// CHECK: linalg.generic {indexing_maps = [#[[X]], #[[W]], #[[Y]]], iterator_types = ["parallel", "reduction", "parallel"]} ins(%{{.*}}, %[[WEIGHT]] : tensor<3x2xi8>, tensor<2x2xi8>) outs(%{{.*}} : tensor<3x2xi32>)
// CHECK: arith.extui
// CHECK: arith.subi
// CHECK: arith.extsi
// CHECK: arith.muli
// CHECK: arith.addi
// CHECK: arith.constant dense<[1.250000e-01, 5.000000e-01]> : tensor<2xf32>
// CHECK: arith.sitofp
// CHECK: arith.mulf
// CHECK-NOT: lowbit.
func.func @integer_linear(%x: tensor<3x2xf32>) -> tensor<3x2xf32> {
  %s = "onnx.Constant"() {value = dense<0.5> : tensor<f32>} : () -> tensor<f32>
  %z = "onnx.Constant"() {value = dense<3> : tensor<ui8>} : () -> tensor<ui8>
  %w = "onnx.Constant"() {value = dense<[[1, 2], [3, 4]]> : tensor<2x2xi8>} : () -> tensor<2x2xi8>
  %ws = "onnx.Constant"() {value = dense<[0.25, 1.0]> : tensor<2xf32>} : () -> tensor<2xf32>
  %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<3x2xf32>, tensor<f32>, tensor<ui8>) -> tensor<3x2xui8>
  // expected-remark @+1 {{layer 'fc' has no kernel: it becomes loops}}
  %y = lowbit.linear %q, %w scale(%ws) input_scale(%s) input_zero(%z) {layer = "fc"} : (tensor<3x2xui8>, tensor<2x2xi8>, tensor<2xf32>, tensor<f32>, tensor<ui8>) -> tensor<3x2xf32>
  return %y : tensor<3x2xf32>
}

// -----

// Channels last: the innermost loop runs along the filters, contiguous in weights and result. Padding stands for the
// real value 0, the zero point.

// CHECK: #[[X:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1 * 2 + d3, d2 * 2 + d4, d5)>
// CHECK: #[[W:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d3, d4, d5, d6)>
// CHECK: #[[Y:.*]] = affine_map<(d0, d1, d2, d3, d4, d5, d6) -> (d0, d1, d2, d6)>
// CHECK-LABEL: func.func @conv
// CHECK: linalg.transpose {{.*}} permutation = [0, 2, 3, 1]
// CHECK: tensor.pad %{{.*}} low[0, 1, 1, 0] high[0, 1, 1, 0]
// CHECK: linalg.generic {indexing_maps = [#[[X]], #[[W]], #[[Y]]], iterator_types = ["parallel", "parallel", "parallel", "reduction", "reduction", "reduction", "parallel"]}
// CHECK: linalg.transpose {{.*}} permutation = [0, 3, 1, 2]
func.func @conv(%x: tensor<?x1x4x4xi8>) -> tensor<?x2x2x2xf32> {
  %s = arith.constant dense<0.5> : tensor<f32>
  %z = arith.constant dense<-7> : tensor<i8>
  %w = arith.constant dense<1> : tensor<2x1x3x3xi8>
  // expected-remark @+1 {{layer 'c' has no kernel: it becomes loops}}
  %y = lowbit.conv %x, %w scale(%s) input_scale(%s) input_zero(%z) {layer = "c", strides = array<i64: 2, 2>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>} : (tensor<?x1x4x4xi8>, tensor<2x1x3x3xi8>, tensor<f32>, tensor<f32>, tensor<i8>) -> tensor<?x2x2x2xf32>
  return %y : tensor<?x2x2x2xf32>
}

// -----

// Where only the run tells the size, it checks that the kernel fits; a result without elements keeps the rest harmless.

// CHECK-LABEL: func.func @dynamic_size
// CHECK: %[[SIZE:.*]] = affine.apply
// CHECK: %[[FITS:.*]] = arith.cmpi sgt, %[[SIZE]]
// CHECK: lowbit_rt.assert %[[FITS]], "layer 'c': the input is smaller than the kernel"
// CHECK: arith.maxsi %[[SIZE]]
func.func @dynamic_size(%x: tensor<1x1x?xf32>) -> tensor<1x2x?xf32> {
  %s = arith.constant dense<0.5> : tensor<f32>
  %w = arith.constant dense<1> : tensor<2x1x3xi8>
  // expected-remark @+1 {{layer 'c' has no kernel: it becomes loops}}
  %y = lowbit.conv %x, %w scale(%s) {layer = "c", strides = array<i64: 2>, pads = array<i64: 0, 0>, dilations = array<i64: 1>} : (tensor<1x1x?xf32>, tensor<2x1x3xi8>, tensor<f32>) -> tensor<1x2x?xf32>
  return %y : tensor<1x2x?xf32>
}

// -----

// CHECK-LABEL: func.func @gather
// CHECK: %[[OK:.*]] = arith.cmpi ult
// CHECK: lowbit_rt.assert %[[OK]], "layer 'emb': an index is outside of the table"
// CHECK: arith.select %[[OK]]
func.func @gather(%ids: tensor<?xi64>) -> tensor<?x2xf32> {
  %w = arith.constant dense<1> : tensor<4x2xi8>
  %s = arith.constant dense<0.5> : tensor<4xf32>
  %y = lowbit.gather %w[%ids] scale(%s) {layer = "emb"} : (tensor<4x2xi8>, tensor<?xi64>, tensor<4xf32>) -> tensor<?x2xf32>
  return %y : tensor<?x2xf32>
}

// -----

// Observers are numbered in program order.

// CHECK-LABEL: func.func @observe
// CHECK: lowbit_rt.observe %arg0 id(0) : tensor<4xf32>
// CHECK: lowbit_rt.observe %arg1 id(1) : tensor<?xf32>
func.func @observe(%x: tensor<4xf32>, %y: tensor<?xf32>) {
  lowbit.observe %x "a:input" : tensor<4xf32>
  lowbit.observe %y "b:input" : tensor<?xf32>
  return
}

// -----

func.func @wide(%x: tensor<4xf32>, %s: tensor<f32>, %z: tensor<i32>) -> tensor<4xi32> {
  // expected-error @+1 {{'lowbit.quantize' op quantizes to 'i32'; at most 16 bits are supported}}
  %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<4xf32>, tensor<f32>, tensor<i32>) -> tensor<4xi32>
  return %q : tensor<4xi32>
}
