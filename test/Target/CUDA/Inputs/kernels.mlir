// One kernel of each family and of the tiles that small and large layers get.
lowbit_rt.kernel @int8_small generator("cuda.mma_s8") schedule({input = "u8", output = "u8", n = 16 : i64, k = 144 : i64, stages = 4 : i64,
  conv = array<i64: 16, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 32, 32>, tile = array<i64: 16, 32, 64>, warps = array<i64: 1, 2>})
lowbit_rt.kernel @int8_first generator("cuda.mma_s8") schedule({input = "u8", output = "f32", n = 16 : i64, k = 27 : i64, stages = 2 : i64,
  conv = array<i64: 3, 32, 32, 3, 3, 1, 1, 1, 1, 1, 1, 32, 32>, tile = array<i64: 64, 16, 64>, warps = array<i64: 4, 1>})
lowbit_rt.kernel @int8_large generator("cuda.mma_s8") schedule({input = "i8", output = "i8", n = 4096 : i64, k = 4096 : i64, stages = 4 : i64,
  tile = array<i64: 128, 128, 64>, warps = array<i64: 2, 2>})
lowbit_rt.kernel @depthwise generator("cuda.direct_s8") schedule({input = "u8", output = "u8", n = 64 : i64, k = 9 : i64, stages = 1 : i64,
  conv = array<i64: 64, 25, 5, 3, 3, 1, 1, 1, 1, 1, 1, 25, 5>, groups = 64 : i64, tile = array<i64: 2, 64, 1>, warps = array<i64: 4, 1>})
lowbit_rt.kernel @int4_small generator("cuda.w4a16") schedule({input = "f32", output = "f32", n = 64 : i64, k = 172 : i64, stages = 4 : i64,
  bits = 4 : i64, group = 32 : i64, tile = array<i64: 16, 32, 64>, warps = array<i64: 1, 2>})
lowbit_rt.kernel @int4_large generator("cuda.w4a16") schedule({input = "f32", output = "f32", n = 4096 : i64, k = 4096 : i64, stages = 4 : i64,
  bits = 4 : i64, group = 128 : i64, tile = array<i64: 64, 128, 64>, warps = array<i64: 1, 4>})
lowbit_rt.kernel @int8_weights generator("cuda.w4a16") schedule({input = "f32", output = "f32", n = 512 : i64, k = 64 : i64, stages = 2 : i64,
  bits = 8 : i64, group = 64 : i64, tile = array<i64: 16, 128, 64>, warps = array<i64: 1, 4>})
lowbit_rt.kernel @embedding generator("cuda.gather") schedule({input = "i64", output = "f32", n = 64 : i64, k = 512 : i64, stages = 1 : i64,
  bits = 8 : i64, group = 64 : i64, tile = array<i64: 4, 32, 1>, warps = array<i64: 4, 1>})
lowbit_rt.kernel @half_linear generator("cuda.mma_f16") schedule({input = "f32", output = "f32", n = 4096 : i64, k = 4096 : i64, stages = 4 : i64,
  bits = 16 : i64, group = 4096 : i64, tile = array<i64: 64, 128, 64>, warps = array<i64: 1, 4>})
lowbit_rt.kernel @half_conv generator("cuda.mma_f16") schedule({input = "f32", output = "f32", n = 64 : i64, k = 576 : i64, stages = 4 : i64,
  bits = 16 : i64, group = 576 : i64, conv = array<i64: 64, 56, 56, 3, 3, 1, 1, 1, 1, 1, 1, 56, 56>, tile = array<i64: 128, 64, 64>, warps = array<i64: 2, 2>})
lowbit_rt.kernel @gemv_int4 generator("cuda.gemv") schedule({input = "f32", output = "f32", n = 4096 : i64, k = 4096 : i64, stages = 4 : i64,
  bits = 4 : i64, group = 128 : i64, columns = 4096 : i64, splits = 1 : i64, tile = array<i64: 8, 16, 64>, warps = array<i64: 8, 1>})
lowbit_rt.kernel @gemv_int4_wide generator("cuda.gemv") schedule({input = "f32", output = "f32", n = 14336 : i64, k = 4096 : i64, stages = 4 : i64,
  bits = 4 : i64, group = 32 : i64, columns = 14336 : i64, splits = 1 : i64, tile = array<i64: 16, 32, 64>, warps = array<i64: 8, 1>})
lowbit_rt.kernel @gemv_int8 generator("cuda.gemv") schedule({input = "f32", output = "f32", n = 4096 : i64, k = 4096 : i64, stages = 4 : i64,
  bits = 8 : i64, group = 4096 : i64, columns = 4096 : i64, splits = 1 : i64, tile = array<i64: 8, 16, 64>, warps = array<i64: 8, 1>})
lowbit_rt.kernel @gemv_half generator("cuda.gemv") schedule({input = "f32", output = "f32", n = 1024 : i64, k = 4096 : i64, stages = 2 : i64,
  bits = 16 : i64, group = 4096 : i64, columns = 1024 : i64, splits = 2 : i64, tile = array<i64: 16, 16, 64>, warps = array<i64: 8, 1>})
lowbit_rt.kernel @combine generator("cuda.combine") schedule({input = "f32", output = "f32", n = 1024 : i64, k = 4096 : i64, stages = 1 : i64,
  bits = 16 : i64, group = 4096 : i64, columns = 1024 : i64, splits = 2 : i64, tile = array<i64: 4, 32, 1>, warps = array<i64: 4, 1>})
lowbit_rt.kernel @depthwise4 generator("cuda.depthwise_s8") schedule({input = "u8", output = "u8", n = 64 : i64, k = 9 : i64, stages = 1 : i64,
  conv = array<i64: 64, 25, 5, 3, 3, 1, 1, 1, 1, 1, 1, 25, 5>, groups = 64 : i64, tile = array<i64: 8, 64, 1>, warps = array<i64: 4, 1>})
lowbit_rt.kernel @rowquant generator("cuda.rowquant") schedule({input = "f32", output = "u8", n = 4096 : i64, k = 4096 : i64, stages = 1 : i64,
  tile = array<i64: 1, 4096, 1>, warps = array<i64: 8, 1>})
lowbit_rt.kernel @int8_rows generator("cuda.mma_s8") schedule({input = "u8", output = "f32", n = 4096 : i64, k = 4096 : i64, stages = 4 : i64, scales = "row",
  tile = array<i64: 128, 128, 64>, warps = array<i64: 2, 2>})
