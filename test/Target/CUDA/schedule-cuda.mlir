// RUN: lowbit-opt %s --lowbit-schedule-cuda --split-input-file --verify-diagnostics | FileCheck %s

// Two layers of equal shapes share a kernel, whatever their activation function, zero points and weights.
// CHECK: lowbit_rt.kernel @linear_u8_u8_16x64 generator("cuda.mma_s8") schedule({input = "u8", k = 64 : i64, n = 16 : i64, output = "u8", stages = 2 : i64, tile = array<i64: 16, 32, 64>, warps = array<i64: 1, 2>})
// CHECK-NOT: lowbit_rt.kernel
// CHECK-LABEL: func.func @shared
func.func @shared(%x: tensor<?x64xui8>) -> (tensor<?x16xui8>, tensor<?x16xui8>) {
  %w = arith.constant dense<3> : tensor<16x64xi8>
  %ws = arith.constant dense<0.01> : tensor<16xf32>
  %b = arith.constant dense<100> : tensor<16xi32>
  %s = arith.constant dense<0.1> : tensor<f32>
  %z = "onnx.Constant"() {value = dense<7> : tensor<ui8>} : () -> tensor<ui8>
  %z1 = "onnx.Constant"() {value = dense<9> : tensor<ui8>} : () -> tensor<ui8>
  // CHECK: %[[X:.*]] = builtin.unrealized_conversion_cast %arg0 : tensor<?x64xui8> to tensor<?x64xi8>
  // Bias 100 - 7 * 64 * 3, twice the clamp bounds of relu less the zero point.
  // CHECK: dense<[0, 248, 7, 0, 117901063, {{.*}}, -1244, {{.*}}]> : tensor<84xi32>
  // CHECK: lowbit_rt.launch @linear_u8_u8_16x64 ins(%[[X]], {{.*}} : tensor<?x64xi8>, tensor<2048xi8>, tensor<84xi32>) outs({{.*}} : tensor<?x16xi8>) {layer = "fc1"} -> tensor<?x16xi8>
  %y = lowbit.linear %x, %w scale(%ws) bias(%b) input_scale(%s) input_zero(%z) output_scale(%s) output_zero(%z) {layer = "fc1", relu}
    : (tensor<?x64xui8>, tensor<16x64xi8>, tensor<16xf32>, tensor<16xi32>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<?x16xui8>
  // CHECK: dense<[-9, 246, 9, 0
  // CHECK: lowbit_rt.launch @linear_u8_u8_16x64
  %v = lowbit.linear %x, %w scale(%ws) input_scale(%s) input_zero(%z) output_scale(%s) output_zero(%z1) {layer = "fc2"}
    : (tensor<?x64xui8>, tensor<16x64xi8>, tensor<16xf32>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<?x16xui8>
  return %y, %v : tensor<?x16xui8>, tensor<?x16xui8>
}

// -----

// A convolution runs channels last.
// CHECK: lowbit_rt.kernel @conv3x3_u8_f32_32x144 generator("cuda.mma_s8") schedule({conv = array<i64: 16, 8, 8, 3, 3, 2, 2, 1, 1, 1, 1, 4, 4>,
// CHECK-LABEL: func.func @conv
func.func @conv(%x: tensor<?x16x8x8xui8>) -> tensor<?x32x4x4xf32> {
  %w = arith.constant dense<1> : tensor<32x16x3x3xi8>
  %ws = arith.constant dense<0.01> : tensor<32xf32>
  %s = arith.constant dense<0.1> : tensor<f32>
  %z = "onnx.Constant"() {value = dense<7> : tensor<ui8>} : () -> tensor<ui8>
  // CHECK: linalg.transpose ins({{.*}} : tensor<?x16x8x8xi8>) outs({{.*}} : tensor<?x8x8x16xi8>) permutation = [0, 2, 3, 1]
  // CHECK: %[[Y:.*]] = lowbit_rt.launch @conv3x3_u8_f32_32x144 {{.*}} -> tensor<?x4x4x32xf32>
  // CHECK: linalg.transpose ins(%[[Y]] : tensor<?x4x4x32xf32>) outs({{.*}} : tensor<?x32x4x4xf32>) permutation = [0, 3, 1, 2]
  %y = lowbit.conv %x, %w scale(%ws) input_scale(%s) input_zero(%z)
    {layer = "c", strides = array<i64: 2, 2>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>}
    : (tensor<?x16x8x8xui8>, tensor<32x16x3x3xi8>, tensor<32xf32>, tensor<f32>, tensor<ui8>) -> tensor<?x32x4x4xf32>
  return %y : tensor<?x32x4x4xf32>
}

// -----

// CHECK: lowbit_rt.kernel @conv3x3_i8_i8_8x9 generator("cuda.depthwise_s8") schedule({{.*}}groups = 8 : i64
func.func @depthwise(%x: tensor<1x8x6x6xi8>) -> tensor<1x8x6x6xi8> {
  %w = arith.constant dense<1> : tensor<8x1x3x3xi8>
  %s = arith.constant dense<0.1> : tensor<f32>
  %z = arith.constant dense<0> : tensor<i8>
  %y = lowbit.conv %x, %w scale(%s) input_scale(%s) input_zero(%z) output_scale(%s) output_zero(%z)
    {strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>, groups = 8 : i64}
    : (tensor<1x8x6x6xi8>, tensor<8x1x3x3xi8>, tensor<f32>, tensor<f32>, tensor<i8>, tensor<f32>, tensor<i8>) -> tensor<1x8x6x6xi8>
  return %y : tensor<1x8x6x6xi8>
}

// -----

// Few rows: a gemv.
// CHECK: lowbit_rt.kernel @gemv_w4g32_512x256 generator("cuda.gemv") schedule({bits = 4 : i64, columns = 512 : i64, group = 32 : i64, input = "f32", k = 256 : i64, n = 512 : i64, output = "f32", splits = 1 : i64, stages = 4 : i64, tile = array<i64: 8, 16, 64>, warps = array<i64: 1, 1>})
// CHECK-LABEL: func.func @weight_only
func.func @weight_only(%x: tensor<1x1x256xf32>) -> tensor<1x1x512xf32> {
  %w = "onnx.Constant"() {value = dense<3> : tensor<512x256xui4>} : () -> tensor<512x256xui4>
  %s = arith.constant dense<0.1> : tensor<512x8xf32>
  %z = "onnx.Constant"() {value = dense<7> : tensor<512x8xui4>} : () -> tensor<512x8xui4>
  // 512 × 256 × 4 bits; 20 + 512 + 8 × 512 words, 8 × 512 bytes.
  // CHECK: lowbit_rt.launch @gemv_w4g32_512x256 ins(%arg0, {{.*}} : tensor<1x1x256xf32>, tensor<16384xi32>, tensor<5652xi32>)
  %y = lowbit.linear %x, %w scale(%s) zero(%z) {layer = "l", group = 32 : i64}
    : (tensor<1x1x256xf32>, tensor<512x256xui4>, tensor<512x8xf32>, tensor<512x8xui4>) -> tensor<1x1x512xf32>
  return %y : tensor<1x1x512xf32>
}

// -----

// Where the run gives the rows, the host takes one of two kernels of the same weights. A gemv whose columns would leave
// most of a GPU idle splits k over blocks; another kernel adds up their sums.
// CHECK-DAG: lowbit_rt.kernel @linear_w8g16384_80x16384 generator("cuda.w4a16") schedule({{.*}}tile = array<i64
// CHECK-DAG: lowbit_rt.kernel @gemv_w8g16384_80x16384 generator("cuda.gemv") schedule({bits = 8 : i64, columns = [[#COLUMNS:]] : i64, {{.*}}splits = 2 : i64, stages = 4 : i64, tile = array<i64: 8, 16, 64>, warps = array<i64: 8, 1>})
// CHECK-DAG: lowbit_rt.kernel @combine_w8g16384_80x16384 generator("cuda.combine")
// CHECK-LABEL: func.func @rows_of_the_run
func.func @rows_of_the_run(%x: tensor<?x3x16384xf32>) -> tensor<?x3x80xf32> {
  %w = arith.constant dense<3> : tensor<80x16384xi8>
  %s = arith.constant dense<0.1> : tensor<80xf32>
  // CHECK: %[[W:.*]] = arith.constant {{.*}} : tensor<[[#mul(COLUMNS,4096)]]xi32>
  // CHECK: %[[P:.*]] = arith.constant
  // CHECK: %[[Y:.*]] = tensor.empty
  // CHECK: %[[D:.*]] = tensor.dim %[[Y]], %c0
  // CHECK: %[[ROWS:.*]] = arith.muli %[[D]], %c3
  // CHECK: %[[FEW:.*]] = arith.cmpi ule, %[[ROWS]], %c16
  // CHECK: scf.if %[[FEW]] -> (tensor<?x3x80xf32>) {
  // CHECK:   %[[PARTS:.*]] = lowbit_rt.launch @gemv_w8g16384_80x16384 ins(%arg0, %[[W]], %[[P]] : {{.*}} -> tensor<?x3x160xf32>
  // CHECK:   lowbit_rt.launch @combine_w8g16384_80x16384 ins(%[[PARTS]], %[[P]] : {{.*}} outs(%[[Y]]
  // CHECK: } else {
  // CHECK:   lowbit_rt.launch @linear_w8g16384_80x16384 ins(%arg0, %[[W]], %[[P]] : {{.*}} outs(%[[Y]]
  %y = lowbit.linear %x, %w scale(%s) {layer = "l"} : (tensor<?x3x16384xf32>, tensor<80x16384xi8>, tensor<80xf32>) -> tensor<?x3x80xf32>
  return %y : tensor<?x3x80xf32>
}

// -----

// Ranges that the run gives, row by row: a kernel quantizes, another takes scales and zero points as operands.
// CHECK-DAG: lowbit_rt.kernel @rowquant_u8_96 generator("cuda.rowquant")
// CHECK-DAG: lowbit_rt.kernel @linear_u8_rows_8x96 generator("cuda.mma_s8") schedule({{.*}}scales = "row"
// CHECK-LABEL: func.func @dynamic
func.func @dynamic(%x: tensor<?x4x96xf32>) -> tensor<?x4x8xf32> {
  %w = arith.constant dense<3> : tensor<8x96xi8>
  %s = arith.constant dense<0.1> : tensor<8xf32>
  // CHECK: %[[Q:.*]]:3 = lowbit_rt.launch @rowquant_u8_96 ins(%arg0 : tensor<?x4x96xf32>) outs({{.*}}) -> tensor<?x4x96xi8>, tensor<?x4x1xf32>, tensor<?x4x1xi8>
  %q, %qs, %qz = lowbit.dynamic_quantize %x {per_token} : tensor<?x4x96xf32> -> tensor<?x4x96xui8>, tensor<?x4x1xf32>, tensor<?x4x1xui8>
  // CHECK: lowbit_rt.launch @linear_u8_rows_8x96 ins({{.*}} : tensor<?x4x96xi8>, tensor<{{.*}}xi8>, tensor<{{.*}}xi32>, tensor<?x4x1xf32>, tensor<?x4x1xi8>)
  %y = lowbit.linear %q, %w scale(%s) input_scale(%qs) input_zero(%qz)
    : (tensor<?x4x96xui8>, tensor<8x96xi8>, tensor<8xf32>, tensor<?x4x1xf32>, tensor<?x4x1xui8>) -> tensor<?x4x8xf32>
  return %y : tensor<?x4x8xf32>
}

// -----

// Half-precision weights; a convolution runs channels last.
// CHECK-DAG: lowbit_rt.kernel @linear_f16_512x256 generator("cuda.mma_f16") schedule({bits = 16 : i64, group = 256 : i64, {{.*}}stages = 4 : i64, tile = array<i64: 16, 32, 64>
// CHECK-DAG: lowbit_rt.kernel @conv3x3_f16_32x144 generator("cuda.mma_f16")
// CHECK-DAG: lowbit_rt.kernel @gather_f16_40x24 generator("cuda.gather")
// CHECK-LABEL: func.func @half
func.func @half(%x: tensor<40x256xf32>, %v: tensor<?x16x8x8xf32>, %i: tensor<?xi64>) -> (tensor<40x512xf32>, tensor<?x32x8x8xf32>, tensor<?x24xf32>) {
  %w = arith.constant dense<3.0> : tensor<512x256xf16>
  %f = arith.constant dense<3.0> : tensor<32x16x3x3xf16>
  %t = arith.constant dense<3.0> : tensor<40x24xf16>
  %s = arith.constant dense<1.0> : tensor<f32>
  // 512 × 256 × 16 bits; 20 + 512 + 512 words, 512 bytes.
  // CHECK: lowbit_rt.launch @linear_f16_512x256 ins(%arg0, {{.*}} : tensor<40x256xf32>, tensor<65536xi32>, tensor<1172xi32>)
  %y = lowbit.linear %x, %w scale(%s) {layer = "l"} : (tensor<40x256xf32>, tensor<512x256xf16>, tensor<f32>) -> tensor<40x512xf32>
  // CHECK: linalg.transpose ins(%arg1 {{.*}} permutation = [0, 2, 3, 1]
  // CHECK: lowbit_rt.launch @conv3x3_f16_32x144
  %c = lowbit.conv %v, %f scale(%s) {strides = array<i64: 1, 1>, pads = array<i64: 1, 1, 1, 1>, dilations = array<i64: 1, 1>}
    : (tensor<?x16x8x8xf32>, tensor<32x16x3x3xf16>, tensor<f32>) -> tensor<?x32x8x8xf32>
  // CHECK: lowbit_rt.launch @gather_f16_40x24 ins(%arg2, {{.*}} : tensor<?xi64>, tensor<960xi16>, tensor<1xf32>)
  %g = lowbit.gather %t[%i] scale(%s) : (tensor<40x24xf16>, tensor<?xi64>, tensor<f32>) -> tensor<?x24xf32>
  return %y, %c, %g : tensor<40x512xf32>, tensor<?x32x8x8xf32>, tensor<?x24xf32>
}

// -----

// CHECK: lowbit_rt.kernel @gather_w8_40x24 generator("cuda.gather")
func.func @gather(%i: tensor<?xi64>) -> tensor<?x24xf32> {
  %w = arith.constant dense<3> : tensor<40x24xi8>
  %s = arith.constant dense<0.1> : tensor<40xf32>
  %y = lowbit.gather %w[%i] scale(%s) : (tensor<40x24xi8>, tensor<?xi64>, tensor<40xf32>) -> tensor<?x24xf32>
  return %y : tensor<?x24xf32>
}

// -----

// What has no kernel stays, and says why.
// CHECK-LABEL: func.func @left
func.func @left(%x: tensor<4x96xf32>, %w: tensor<8x96xi8>, %v: tensor<1x4x?x?xf32>) -> (tensor<4x8xf32>, tensor<4x8xf32>, tensor<1x4x?x?xf32>) {
  %s = arith.constant dense<0.1> : tensor<f32>
  // CHECK: lowbit.linear {{.*}}lowbit.fallback = "its weight is not a constant"
  // expected-remark@+1 {{no CUDA kernel: its weight is not a constant; runs as its decomposition}}
  %a = lowbit.linear %x, %w scale(%s) : (tensor<4x96xf32>, tensor<8x96xi8>, tensor<f32>) -> tensor<4x8xf32>
  %c = arith.constant dense<1> : tensor<8x96xi8>
  %g = arith.constant dense<0.1> : tensor<8x4xf32>
  // expected-remark@+1 {{no CUDA kernel: weight groups of 24 are not a multiple of 16; runs as its decomposition}}
  %b = lowbit.linear %x, %c scale(%g) {group = 24 : i64} : (tensor<4x96xf32>, tensor<8x96xi8>, tensor<8x4xf32>) -> tensor<4x8xf32>
  %f = arith.constant dense<1> : tensor<4x4x1x1xi8>
  // expected-remark@+1 {{no CUDA kernel: the convolution has three or more spatial axes, or a dynamic size other than the batch; runs as its decomposition}}
  %d = lowbit.conv %v, %f scale(%s) {strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>}
    : (tensor<1x4x?x?xf32>, tensor<4x4x1x1xi8>, tensor<f32>) -> tensor<1x4x?x?xf32>
  return %a, %b, %d : tensor<4x8xf32>, tensor<4x8xf32>, tensor<1x4x?x?xf32>
}
