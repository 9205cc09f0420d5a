// RUN: lowbit-opt %s --split-input-file --verify-diagnostics

func.func @zero_type(%x: tensor<4xf32>, %s: tensor<f32>, %z: tensor<i8>) {
  // expected-error @+1 {{expects zero points of the result's element type 'ui8'}}
  %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<4xf32>, tensor<f32>, tensor<i8>) -> tensor<4xui8>
  return
}

// -----

func.func @no_axis(%x: tensor<4xf32>, %s: tensor<4xf32>, %z: tensor<4xi8>) {
  // expected-error @+1 {{expects an axis in [0, 1) for its scales}}
  %q = lowbit.quantize %x scale(%s) zero(%z) : (tensor<4xf32>, tensor<4xf32>, tensor<4xi8>) -> tensor<4xi8>
  return
}

// -----

func.func @axis_without_use(%x: tensor<4xf32>, %s: tensor<f32>, %z: tensor<i8>) {
  // expected-error @+1 {{has one scale for the whole tensor, so neither axis nor group}}
  %q = lowbit.quantize %x scale(%s) zero(%z) {axis = 0 : i64} : (tensor<4xf32>, tensor<f32>, tensor<i8>) -> tensor<4xi8>
  return
}

// -----

func.func @scales(%x: tensor<4x2xi8>, %s: tensor<3xf32>, %z: tensor<3xi8>) {
  // expected-error @+1 {{expects one scale per index of axis 0 (4), found scales of shape}}
  %q = lowbit.dequantize %x scale(%s) zero(%z) {axis = 0 : i64} : (tensor<4x2xi8>, tensor<3xf32>, tensor<3xi8>) -> tensor<4x2xf32>
  return
}

// -----

func.func @groups(%x: tensor<4x2xi8>, %s: tensor<1x2xf32>, %z: tensor<1x2xi8>) {
  // expected-error @+1 {{expects scale dim #0 (1) to be ceil(extent / group) = 2}}
  %q = lowbit.dequantize %x scale(%s) zero(%z) {axis = 0 : i64, group = 3 : i64} : (tensor<4x2xi8>, tensor<1x2xf32>, tensor<1x2xi8>) -> tensor<4x2xf32>
  return
}

// -----

func.func @stats(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected min <= max, found min = 1}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 1.0 : f32, max = 0.0 : f32>} : tensor<4xf32>
  return
}

// -----

func.func @averages(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected both average_min and average_max, or neither}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, average_max = 1.0 : f32>} : tensor<4xf32>
  return
}

// -----

func.func @histogram_type(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected a histogram of type tensor<Nx3xf64>, found 'tensor<1x2xf64>'}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, histogram = dense<0.0> : tensor<1x2xf64>>} : tensor<4xf32>
  return
}

// -----

func.func @histogram_order(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected rows [lo, hi, count] of the histogram in ascending order, found [}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, histogram = dense<[[0.5, 1.0, 2.0], [0.0, 0.5, 1.0]]> : tensor<2x3xf64>>} : tensor<4xf32>
  return
}

// -----

func.func @channel_type(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected channel_mean of type tensor<Cxf32>, found 'tensor<4xf64>'}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, channel_mean = dense<0.0> : tensor<4xf64>>} : tensor<4xf32>
  return
}

// -----

func.func @channel_counts(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected as many channels in channel_max as before (4), found 3}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, channel_min = dense<0.0> : tensor<4xf32>, channel_max = dense<0.0> : tensor<3xf32>>} : tensor<4xf32>
  return
}

// -----

func.func @channels_of_the_value(%x: tensor<2x4xf32>) {
  // expected-error @+1 {{expects statistics of 4 channels, found 2}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, channel_min = dense<0.0> : tensor<2xf32>>} : tensor<2x4xf32>
  return
}

// -----

func.func @channel_axis(%x: tensor<2x4xf32>) {
  // expected-error @+1 {{expects a channel_axis in [0, 2), found 2}}
  lowbit.observe %x "a" {channel_axis = 2 : i64} : tensor<2x4xf32>
  return
}

// -----

func.func @moments(%x: tensor<2x4xf32>) {
  // expected-error @+1 {{expected moments of type tensor<KxKxf32> or tensor<GxKxKxf32>, found 'tensor<4x3xf32>'}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0.0 : f32, max = 1.0 : f32, moments = dense<0.0> : tensor<4x3xf32>>} : tensor<2x4xf32>
  return
}

// -----

func.func @not_finite(%x: tensor<4xf32>) {
  // expected-error @+1 {{expected finite statistics}}
  lowbit.observe %x "a" {stats = #lowbit.stats<min = 0xFF800000 : f32, max = 0.0 : f32>} : tensor<4xf32>
  return
}

// -----

func.func @reduction(%x: tensor<1x4xf32>, %w: tensor<2x5xi8>, %s: tensor<f32>) {
  // expected-error @+1 {{expects the input's last dimension (4) to be the weight's K (5)}}
  %y = lowbit.linear %x, %w scale(%s) : (tensor<1x4xf32>, tensor<2x5xi8>, tensor<f32>) -> tensor<1x2xf32>
  return
}

// -----

func.func @mode(%x: tensor<1x4xui8>, %w: tensor<2x4xi8>, %s: tensor<f32>) {
  // expected-error @+1 {{expects input_scale and input_zero exactly for an integer input}}
  %y = lowbit.linear %x, %w scale(%s) : (tensor<1x4xui8>, tensor<2x4xi8>, tensor<f32>) -> tensor<1x2xf32>
  return
}

// -----

func.func @asymmetric(%x: tensor<1x4xui8>, %w: tensor<2x4xi8>, %s: tensor<f32>, %z: tensor<ui8>, %wz: tensor<i8>) {
  // expected-error @+1 {{expects a f32 result, not quantized, of input scales per row, grouped or asymmetric weights, a float bias or a 16-bit input}}
  %y = lowbit.linear %x, %w scale(%s) zero(%wz) input_scale(%s) input_zero(%z) output_scale(%s) output_zero(%z) : (tensor<1x4xui8>, tensor<2x4xi8>, tensor<f32>, tensor<i8>, tensor<f32>, tensor<ui8>, tensor<f32>, tensor<ui8>) -> tensor<1x2xui8>
  return
}

// -----

func.func @bias(%x: tensor<1x4xui8>, %w: tensor<2x4xi8>, %s: tensor<f32>, %z: tensor<ui8>, %b: tensor<2xi16>) {
  // expected-error @+1 {{expects an i32 or f32 bias for an integer input}}
  %y = lowbit.linear %x, %w scale(%s) bias(%b) input_scale(%s) input_zero(%z) : (tensor<1x4xui8>, tensor<2x4xi8>, tensor<f32>, tensor<2xi16>, tensor<f32>, tensor<ui8>) -> tensor<1x2xf32>
  return
}

// -----

func.func @bias_of_float_sums(%x: tensor<1x4xui8>, %w: tensor<2x4xi8>, %s: tensor<f32>, %rs: tensor<1x1xf32>, %rz: tensor<1x1xui8>, %b: tensor<2xi32>) {
  // expected-error @+1 {{expects a f32 bias beside input scales per row, grouped or asymmetric weights or a 16-bit input}}
  %y = lowbit.linear %x, %w scale(%s) bias(%b) input_scale(%rs) input_zero(%rz) : (tensor<1x4xui8>, tensor<2x4xi8>, tensor<f32>, tensor<2xi32>, tensor<1x1xf32>, tensor<1x1xui8>) -> tensor<1x2xf32>
  return
}

// -----

func.func @input_scales(%x: tensor<3x4xui8>, %w: tensor<2x4xi8>, %s: tensor<f32>, %rs: tensor<2x1xf32>, %rz: tensor<2x1xui8>) {
  // expected-error @+1 {{expects one input_scale, or of a linear op one per row}}
  %y = lowbit.linear %x, %w scale(%s) input_scale(%rs) input_zero(%rz) : (tensor<3x4xui8>, tensor<2x4xi8>, tensor<f32>, tensor<2x1xf32>, tensor<2x1xui8>) -> tensor<3x2xf32>
  return
}

// -----

func.func @half_scale(%x: tensor<1x4xf32>, %w: tensor<2x4xf16>, %s: tensor<2xf32>) {
  // expected-error @+1 {{with f16 weights expects one scale, and neither group nor zero points}}
  %y = lowbit.linear %x, %w scale(%s) : (tensor<1x4xf32>, tensor<2x4xf16>, tensor<2xf32>) -> tensor<1x2xf32>
  return
}

// -----

func.func @dynamic_quantize(%x: tensor<3x4xf32>) {
  // expected-error @+1 {{expects scales and zero points of shape [3, 1], found [3] and [3]}}
  %q, %s, %z = lowbit.dynamic_quantize %x {per_token} : tensor<3x4xf32> -> tensor<3x4xui8>, tensor<3xf32>, tensor<3xui8>
  return
}

// -----

func.func @output(%x: tensor<1x4xui8>, %w: tensor<2x4xi8>, %s: tensor<f32>, %z: tensor<ui8>) {
  // expected-error @+1 {{without output_scale expects a float result}}
  %y = lowbit.linear %x, %w scale(%s) input_scale(%s) input_zero(%z) : (tensor<1x4xui8>, tensor<2x4xi8>, tensor<f32>, tensor<f32>, tensor<ui8>) -> tensor<1x2xui8>
  return
}

// -----

func.func @channels(%x: tensor<1x4x8x8xf32>, %w: tensor<2x3x1x1xi8>, %s: tensor<f32>) {
  // expected-error @+1 {{expects input channels (4) to be groups (1) times the weight's (3)}}
  %y = lowbit.conv %x, %w scale(%s) {strides = array<i64: 1, 1>, pads = array<i64: 0, 0, 0, 0>, dilations = array<i64: 1, 1>} : (tensor<1x4x8x8xf32>, tensor<2x3x1x1xi8>, tensor<f32>) -> tensor<1x2x8x8xf32>
  return
}

// -----

func.func @pads(%x: tensor<1x4x8x8xf32>, %w: tensor<2x4x1x1xi8>, %s: tensor<f32>) {
  // expected-error @+1 {{expects 2 strides and dilations and 4 pads}}
  %y = lowbit.conv %x, %w scale(%s) {strides = array<i64: 1, 1>, pads = array<i64: 0, 0>, dilations = array<i64: 1, 1>} : (tensor<1x4x8x8xf32>, tensor<2x4x1x1xi8>, tensor<f32>) -> tensor<1x2x8x8xf32>
  return
}

// -----

func.func @table(%w: tensor<4x2xi8>, %ids: tensor<3xi64>, %s: tensor<2xf32>) {
  // expected-error @+1 {{expects weight scales of shape [] or [4], found [2]}}
  %y = lowbit.gather %w[%ids] scale(%s) : (tensor<4x2xi8>, tensor<3xi64>, tensor<2xf32>) -> tensor<3x2xf32>
  return
}
