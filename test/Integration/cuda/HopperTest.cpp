//===- HopperTest.cpp - mbarrier, TMA and wgmma, compiled and emulated ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "EmulatedKernel.h"
#include <cstring>
#include <gtest/gtest.h>

using namespace lowbit::test;

static const char *kTwoMaps =
    "%ma: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, llvm.align = 64 : i64, "
    "nvvm.grid_constant}, %mb: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, llvm.align = 64 : "
    "i64, nvvm.grid_constant}, %out: !llvm.ptr<1>";
static const char *kOneMap = "%ma: !llvm.ptr {llvm.byval = !llvm.array<128 x i8>, llvm.align = 64 "
                             ": i64, nvvm.grid_constant}, %out: !llvm.ptr<1>";

/// Rows of `width` elements, of which a box takes boxRows × boxWidth.
template <typename T>
static lowbit_emu_tensor_map mapOf(std::vector<T> &values, uint32_t width, uint32_t boxWidth,
                                   uint32_t boxRows, uint32_t swizzle) {
  lowbit_emu_tensor_map map = {};
  map.base = values.data();
  map.rank = 2;
  map.element_bytes = sizeof(T);
  map.strides[0] = width * sizeof(T);
  map.sizes[0] = width;
  map.sizes[1] = uint32_t(values.size() / width);
  map.box[0] = boxWidth;
  map.box[1] = boxRows;
  map.swizzle = swizzle;
  return map;
}

static lowbit_emu_argument argument(lowbit_emu_tensor_map &map, int64_t kind = LOWBIT_EMU_READ) {
  return {LOWBIT_EMU_TENSOR_MAP, 0, kind, &map, sizeof map};
}

static void replace(std::string &text, const std::string &what, const std::string &with) {
  size_t at = text.find(what);
  ASSERT_NE(at, std::string::npos) << what;
  text.replace(at, what.size(), with);
}

static void expectError(const std::string &error, const std::string &part) {
  EXPECT_NE(error.find(part), std::string::npos) << error;
}

/// Thread 0 makes the object, announces `bytes` and issues `copies`; all wait.
static std::string load(int bytes, const std::string &copies) {
  return R"(    %object = llvm.getelementptr %shared[16384] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
    %bytes = llvm.mlir.constant()" +
         std::to_string(bytes) + R"( : i32) : i32
    %first = llvm.icmp "eq" %tid, %c0 : i32
    llvm.cond_br %first, ^init, ^ready
  ^init:
    nvvm.mbarrier.init %object, %c1 : !llvm.ptr<3>, i32
    nvvm.fence.mbarrier.init
    llvm.br ^ready
  ^ready:
    nvvm.barrier0
    llvm.cond_br %first, ^issue, ^wait
  ^issue:
    nvvm.mbarrier.arrive.expect_tx %object, %bytes : !llvm.ptr<3>, i32
)" + copies +
         R"(    llvm.br ^wait
  ^wait:
    %ticks = llvm.mlir.constant(1000 : i32) : i32
    nvvm.mbarrier.try_wait.parity %object, %c0, %ticks : !llvm.ptr<3>, i32, i32
)";
}

static const char *kStoreWord =
    R"(    %p = llvm.getelementptr %shared[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %v = llvm.load %p : !llvm.ptr<3> -> i32
    %o = llvm.getelementptr %out[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.store %v, %o : i32, !llvm.ptr<1>
)";

static std::string tensorLoad(const std::string &x, const std::string &y) {
  return R"(    %cluster = llvm.addrspacecast %shared : !llvm.ptr<3> to !llvm.ptr<7>
    %x = llvm.mlir.constant()" +
         x + R"( : i32) : i32
    %y = llvm.mlir.constant()" +
         y + R"( : i32) : i32
    nvvm.cp.async.bulk.tensor.shared.cluster.global %cluster, %ma, %object, box[%x, %y] : !llvm.ptr<7>, !llvm.ptr
)";
}

TEST(TensorCopies, SwizzlesAndZeros) {
  // 20 rows of 40 words; boxes of 8 rows of 32, 16 or 8 words, shifted by (12, 15): the last
  // columns or rows are outside.
  std::vector<uint32_t> values(20 * 40), out(256);
  for (uint32_t i = 0; i < values.size(); ++i)
    values[i] = i + 1;
  for (uint32_t swizzle = 0; swizzle < 4; ++swizzle) {
    uint32_t width = swizzle ? 4u << swizzle : 32;
    EmulatedKernel kernel(load(int(8 * width * 4), tensorLoad("12", "15")) + kStoreWord, false,
                          kOneMap);
    lowbit_emu_tensor_map map = mapOf(values, 40, width, 8, swizzle);
    for (uint64_t seed = 0; seed < 5; ++seed) {
      out.assign(256, 0);
      ASSERT_EQ(kernel.run({argument(map), writable(out)}, 8 * width, 1, 0, seed), "");
      for (uint32_t row = 0; row < 8; ++row)
        for (uint32_t column = 0; column < width; ++column) {
          uint32_t at = (row * width + column) * 4;
          if (swizzle)
            at ^= (at >> 7 & ((1u << swizzle) - 1)) << 4;
          bool inside = row + 15 < 20 && column + 12 < 40;
          EXPECT_EQ(out[at / 4], inside ? (row + 15) * 40 + column + 12 + 1 : 0)
              << swizzle << ": " << row << ", " << column;
        }
    }
  }
}

TEST(TensorCopies, BeforeTheTensor) {
  std::vector<uint32_t> values(8 * 32, 7), out(256);
  EmulatedKernel kernel(load(1024, tensorLoad("-4", "-1")) + kStoreWord, false, kOneMap);
  lowbit_emu_tensor_map map = mapOf(values, 32, 32, 8, 0);
  ASSERT_EQ(kernel.run({argument(map), writable(out)}, 256), "");
  EXPECT_EQ(out[0], 0u);
  EXPECT_EQ(out[32 + 3], 0u);
  EXPECT_EQ(out[32 + 4], 7u);
}

TEST(TensorCopies, Mistakes) {
  std::vector<uint32_t> values(8 * 32, 7), out(256);
  lowbit_emu_tensor_map map = mapOf(values, 32, 32, 8, 0);
  std::string right = load(1024, tensorLoad("0", "0")) + kStoreWord;
  auto error = [&](const std::string &what, const std::string &with) {
    std::string text = right;
    replace(text, what, with);
    EmulatedKernel kernel(text, false, kOneMap);
    return kernel.run({argument(map), writable(out)}, 256);
  };
  expectError(error("    nvvm.mbarrier.try_wait.parity %object, %c0, %ticks : !llvm.ptr<3>, i32, "
                    "i32\n",
                    ""),
              "of shared memory");
  expectError(error("constant(1024 : i32)", "constant(1040 : i32)"), "deadlock");
  expectError(error("    nvvm.barrier0\n", ""), "mbarrier");
  expectError(error("    nvvm.mbarrier.init %object, %c1", "    nvvm.mbarrier.init %object, %c32"),
              "deadlock");
  map.box[1] = 9; // Copies more than is announced, and over the last thread's word.
  EXPECT_NE(error("%c0, %ticks", "%c0, %ticks"), "");
  map = mapOf(values, 31, 32, 8, 0);
  expectError(error("%c0, %ticks", "%c0, %ticks"), "no multiple of 16 bytes");
}

TEST(BulkCopies, ThereAndBack) {
  std::string body =
      load(1024, R"(    %cluster = llvm.addrspacecast %shared : !llvm.ptr<3> to !llvm.ptr<7>
    nvvm.cp.async.bulk.shared.cluster.global %cluster, %in, %object, %bytes : !llvm.ptr<7>, !llvm.ptr<1>
)") + R"(    %p = llvm.getelementptr %shared[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    %v = llvm.load %p : !llvm.ptr<3> -> i32
    %w = llvm.add %v, %c1 : i32
    llvm.store %w, %p : i32, !llvm.ptr<3>
    nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
    nvvm.barrier0
    llvm.cond_br %first, ^store, ^end
  ^store:
    nvvm.cp.async.bulk.global.shared.cta %out, %shared, %bytes : !llvm.ptr<1>, !llvm.ptr<3>
    nvvm.cp.async.bulk.commit.group
    nvvm.cp.async.bulk.wait_group 0
    llvm.br ^end
  ^end:
)";
  std::vector<uint32_t> in(256), out(256);
  for (uint32_t i = 0; i < 256; ++i)
    in[i] = 5 * i;
  EmulatedKernel kernel(body);
  ASSERT_EQ(kernel.run({readable(in), writable(out)}, 256), "");
  for (uint32_t i = 0; i < 256; ++i)
    ASSERT_EQ(out[i], 5 * i + 1);
  std::string unfenced = body, unwaited = body;
  replace(unfenced,
          "    nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = "
          "#nvvm.shared_space<cta>}\n",
          "");
  expectError(EmulatedKernel(unfenced).run({readable(in), writable(out)}, 256),
              "no fence.proxy.async followed");
  replace(unwaited, "    nvvm.cp.async.bulk.wait_group 0\n", "");
  expectError(EmulatedKernel(unwaited).run({readable(in), writable(out)}, 256),
              "before its bulk copies have read");
}

//===----------------------------------------------------------------------===//
// wgmma
//===----------------------------------------------------------------------===//

namespace {
/// 64 × n sums of 64 × k and n × k (or, transposed, k × n) operands that TMA brings; rows of 128
/// bytes where they are swizzled.
struct Multiplication {
  bool halves = false, transposed = false, registers = false;
  uint32_t n = 16, k = 128, swizzle = LOWBIT_EMU_SWIZZLE_128B;

  uint32_t elementBytes() const { return halves ? 2 : 1; }
  std::string element() const { return halves ? "f32" : "i32"; }
  std::string sums() const {
    std::string text = "!llvm.struct<(";
    for (uint32_t i = 0; i < n / 2; ++i)
      text += (i ? ", " : "") + element();
    return text + ")>";
  }
  uint32_t rowBytes() const { return 16u << swizzle; }
  /// The descriptor of an operand at `offset`.
  uint64_t descriptor(uint64_t offset) const {
    uint64_t mode = swizzle == LOWBIT_EMU_SWIZZLE_128B  ? 1
                    : swizzle == LOWBIT_EMU_SWIZZLE_64B ? 2
                                                        : 3;
    return offset >> 4 | uint64_t(1) << 16 | uint64_t(8 * rowBytes() >> 4) << 32 | mode << 62;
  }
  std::string text() const;
  std::string run(EmulatedKernel &kernel, uint64_t seed, int64_t &wrong) const;
};
} // namespace

std::string Multiplication::text() const {
  uint32_t bytesA = 64 * rowBytes(), bytesB = (transposed ? k : n) * rowBytes();
  std::string body = load(int(bytesA + bytesB),
                          R"(    %ca = llvm.addrspacecast %shared : !llvm.ptr<3> to !llvm.ptr<7>
    %sb = llvm.getelementptr %shared[8192] : (!llvm.ptr<3>) -> !llvm.ptr<3>, i8
    %cb = llvm.addrspacecast %sb : !llvm.ptr<3> to !llvm.ptr<7>
    nvvm.cp.async.bulk.tensor.shared.cluster.global %ca, %ma, %object, box[%c0, %c0] : !llvm.ptr<7>, !llvm.ptr
    nvvm.cp.async.bulk.tensor.shared.cluster.global %cb, %mb, %object, box[%c0, %c0] : !llvm.ptr<7>, !llvm.ptr
)");
  std::string type = sums();
  body += "    %acc0 = llvm.mlir.zero : " + type + "\n";
  // The address of shared memory counts as it does on the device.
  body += R"(    %start = llvm.ptrtoint %shared : !llvm.ptr<3> to i64
    %low = llvm.mlir.constant(262143 : i64) : i64
    %kept = llvm.and %start, %low : i64
    %four = llvm.mlir.constant(4 : i64) : i64
    %base = llvm.lshr %kept, %four : i64
    nvvm.wgmma.fence.aligned
)";
  uint32_t steps = k * elementBytes() / 32;
  for (uint32_t step = 0; step < steps; ++step) {
    std::string s = std::to_string(step), next = std::to_string(step + 1);
    uint64_t a = descriptor(32 * step),
             b = descriptor(8192 + (transposed ? 16 * step * rowBytes() : 32 * step));
    body += "    %ka" + s + " = llvm.mlir.constant(" + std::to_string(int64_t(a)) +
            " : i64) : i64\n    %kb" + s + " = llvm.mlir.constant(" + std::to_string(int64_t(b)) +
            " : i64) : i64\n    %da" + s + " = llvm.add %ka" + s + ", %base : i64\n    %db" + s +
            " = llvm.add %kb" + s + ", %base : i64\n";
    std::string in = halves ? "<f16>" : "<s8>";
    body += "    %acc" + next + " = nvvm.wgmma.mma_async %da" + s + ", %db" + s + ", %acc" + s +
            ", <m = 64, n = " + std::to_string(n) + ", k = " + (halves ? "16" : "32") + ">, D [" +
            (halves ? "<f32>, #nvvm.wgmma_scale_out<one>"
                    : "<s32>, #nvvm.wgmma_scale_out<one>, <wrapped>") +
            "], A [" + in + ", #nvvm.wgmma_scale_in<one>, <row>], B [" + in +
            ", #nvvm.wgmma_scale_in<one>, " + (transposed ? "<row>" : "<col>") + "] : " + type +
            " -> " + type + "\n";
  }
  body += "    nvvm.wgmma.commit.group.sync.aligned\n    nvvm.wgmma.wait.group.sync.aligned 0\n";
  body += "    %count = llvm.mlir.constant(" + std::to_string(n / 2) +
          " : i32) : i32\n    %from = llvm.mul %tid, %count : i32\n    %mine = llvm.getelementptr "
          "%out[%from] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32\n";
  for (uint32_t i = 0; i < n / 2; ++i) {
    std::string s = std::to_string(i);
    body += "    %e" + s + " = llvm.extractvalue %acc" + std::to_string(steps) + "[" + s +
            "] : " + type + "\n    %q" + s + " = llvm.getelementptr %mine[" + s +
            "] : (!llvm.ptr<1>) -> !llvm.ptr<1>, i32\n    llvm.store %e" + s + ", %q" + s + " : " +
            element() + ", !llvm.ptr<1>\n";
  }
  return body;
}

/// The error, or "" with how many sums are wrong.
std::string Multiplication::run(EmulatedKernel &kernel, uint64_t seed, int64_t &wrong) const {
  uint32_t columns = transposed ? n : k, rowsB = transposed ? k : n;
  std::vector<int8_t> a(64 * k), b(rowsB * columns);
  for (size_t i = 0; i < a.size(); ++i)
    a[i] = static_cast<int8_t>(halves ? i * 7 % 13 - 6 : i * 37 + i / 128 * 3);
  for (size_t i = 0; i < b.size(); ++i)
    b[i] = static_cast<int8_t>(halves ? i * 5 % 11 - 5 : i * 91 + i / 128 * 7);
  std::vector<_Float16> halfA(a.begin(), a.end()), halfB(b.begin(), b.end());
  lowbit_emu_tensor_map ma = halves ? mapOf(halfA, k, k, 64, swizzle) : mapOf(a, k, k, 64, swizzle),
                        mb = halves ? mapOf(halfB, columns, columns, rowsB, swizzle)
                                    : mapOf(b, columns, columns, rowsB, swizzle);
  std::vector<uint32_t> out(128 * n / 2);
  std::string error = kernel.run({argument(ma), argument(mb), writable(out)}, 128, 1, 0, seed);
  wrong = 0;
  for (uint32_t row = 0; row < 64; ++row)
    for (uint32_t column = 0; column < n; ++column) {
      int32_t sum = 0;
      for (uint32_t i = 0; i < k; ++i)
        sum += a[row * k + i] * b[transposed ? i * n + column : column * k + i];
      uint32_t thread = row / 16 * 32 + row % 8 * 4 + column % 8 / 2,
               word = column / 8 * 4 + row % 16 / 8 * 2 + column % 2;
      uint32_t got = out[thread * n / 2 + word], want = uint32_t(sum);
      if (halves) {
        float real = float(sum);
        std::memcpy(&want, &real, 4);
      }
      wrong += got != want;
    }
  return error;
}

static void expectRight(const Multiplication &multiplication) {
  EmulatedKernel kernel(multiplication.text(), false, kTwoMaps);
  for (uint64_t seed = 0; seed < 3; ++seed) {
    int64_t wrong = 0;
    ASSERT_EQ(multiplication.run(kernel, seed, wrong), "");
    EXPECT_EQ(wrong, 0) << "of " << 64 * multiplication.n;
  }
}

TEST(WarpgroupMultiplication, Bytes) {
  for (uint32_t n : {8, 16, 64}) {
    Multiplication m;
    m.n = n;
    expectRight(m);
  }
}

TEST(WarpgroupMultiplication, Swizzles) {
  for (uint32_t swizzle : {1, 2, 3}) {
    Multiplication m;
    m.swizzle = swizzle, m.k = m.rowBytes();
    expectRight(m);
  }
}

TEST(WarpgroupMultiplication, Halves) {
  Multiplication m;
  m.halves = true, m.k = 64, m.n = 24;
  expectRight(m);
}

TEST(WarpgroupMultiplication, TransposedHalves) {
  Multiplication m;
  m.halves = m.transposed = true, m.k = 64, m.n = 64;
  expectRight(m);
}

TEST(WarpgroupMultiplication, OperandInRegisters) {
  // A of ones against B of ones: k in every sum, twice.
  EmulatedKernel kernel(R"(    %eight = llvm.mlir.constant(8 : i32) : i32
    %four = llvm.mlir.constant(4 : i32) : i32
    %ones = llvm.mlir.constant(16843009 : i32) : i32
    %p = llvm.getelementptr %shared[%tid] : (!llvm.ptr<3>, i32) -> !llvm.ptr<3>, i32
    llvm.store %ones, %p : i32, !llvm.ptr<3>
    nvvm.fence.proxy {kind = #nvvm.proxy_kind<async.shared>, space = #nvvm.shared_space<cta>}
    nvvm.barrier0
    %start = llvm.ptrtoint %shared : !llvm.ptr<3> to i64
    %low = llvm.mlir.constant(262143 : i64) : i64
    %kept = llvm.and %start, %low : i64
    %shift = llvm.mlir.constant(4 : i64) : i64
    %base = llvm.lshr %kept, %shift : i64
    %offsets = llvm.mlir.constant(68720001024 : i64) : i64
    %d = llvm.add %base, %offsets : i64
    nvvm.wgmma.fence.aligned
    %s = llvm.inline_asm has_side_effects "{ .reg .pred p; setp.ne.b32 p, $13, 0; wgmma.mma_async.sync.aligned.m64n8k32.s32.s8.s8 {$0, $1, $2, $3}, {$8, $9, $10, $11}, $12, p; }", "=r,=r,=r,=r,0,1,2,3,r,r,r,r,l,r" %c1, %c1, %c1, %c1, %ones, %ones, %ones, %ones, %d, %c1 : (i32, i32, i32, i32, i32, i32, i32, i32, i64, i32) -> !llvm.struct<(i32, i32, i32, i32)>
    nvvm.wgmma.commit.group.sync.aligned
    nvvm.wgmma.wait.group.sync.aligned 0
    %r = llvm.extractvalue %s[2] : !llvm.struct<(i32, i32, i32, i32)>
    %o = llvm.getelementptr %out[%tid] : (!llvm.ptr<1>, i32) -> !llvm.ptr<1>, i32
    llvm.store %r, %o : i32, !llvm.ptr<1>
)");
  std::vector<uint32_t> in(1), out(128);
  ASSERT_EQ(kernel.run({readable(in), writable(out)}, 128), "");
  EXPECT_EQ(out, std::vector<uint32_t>(128, 33));
}

TEST(WarpgroupMultiplication, Mistakes) {
  Multiplication m;
  auto error = [&](const std::string &what, const std::string &with, int64_t &wrong) {
    std::string text = m.text();
    replace(text, what, with);
    EmulatedKernel kernel(text, false, kTwoMaps);
    return m.run(kernel, 1, wrong);
  };
  int64_t wrong = 0;
  expectError(error("    nvvm.wgmma.wait.group.sync.aligned 0\n", "", wrong),
              "used before wgmma.wait_group");
  expectError(error("wait.group.sync.aligned 0", "wait.group.sync.aligned 1", wrong),
              "used before wgmma.wait_group");
  expectError(error("    nvvm.wgmma.fence.aligned\n", "", wrong), "without wgmma.fence");
  expectError(error("    nvvm.wgmma.wait.group.sync.aligned 0\n",
                    "    llvm.store %c0, %shared : i32, !llvm.ptr<3>\n    "
                    "nvvm.wgmma.wait.group.sync.aligned 0\n",
                    wrong),
              "still reads");
  expectError(error("    nvvm.mbarrier.try_wait.parity %object, %c0, %ticks : !llvm.ptr<3>, i32, "
                    "i32\n",
                    "", wrong),
              "of shared memory with wgmma");
  // Another swizzle than the copy's.
  Multiplication other = m;
  std::string text = m.text(), from = std::to_string(int64_t(m.descriptor(32)));
  other.swizzle = LOWBIT_EMU_SWIZZLE_64B;
  replace(text, from, std::to_string(int64_t(other.descriptor(32))));
  EmulatedKernel kernel(text, false, kTwoMaps);
  EXPECT_EQ(m.run(kernel, 1, wrong), "");
  EXPECT_GT(wrong, 0);
}
