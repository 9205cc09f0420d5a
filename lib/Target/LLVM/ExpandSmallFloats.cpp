//===- ExpandSmallFloats.cpp - f16 and bf16 without a library ---*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
#include "lowbit/Target/LLVM/Passes.h"
#include "mlir/Dialect/Arith/IR/Arith.h"
#include "mlir/Dialect/Arith/Transforms/Passes.h"
#include "mlir/Dialect/MemRef/IR/MemRef.h"
#include "mlir/IR/AttrTypeSubElements.h"
#include "mlir/IR/BuiltinOps.h"
#include "mlir/IR/DialectResourceBlobManager.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/TypeUtilities.h"
#include "mlir/Interfaces/FunctionInterfaces.h"
#include "mlir/Transforms/DialectConversion.h"
#include "mlir/Transforms/GreedyPatternRewriteDriver.h"

namespace lowbit {
#define GEN_PASS_DEF_EXPANDSMALLFLOATS
#include "lowbit/Target/LLVM/Passes.h.inc"
} // namespace lowbit

using namespace lowbit;

/// An f64 as an f32 that rounds to the same f16 or bf16. The low 29 bits of the mantissa go; where
/// one of them was set, so is the last bit that stays (round to odd: Boldo and Melquiond,
/// "Emulation of FMA and correctly rounded sums", 2008), and an f32 has more than two bits beyond
/// either. Below f32's normal range, 2^-126, where f16 has only zero, the step to f32 rounds to
/// nearest: a bf16 there is right but for ties that were none by less than 2^-149.
static Value roundToOdd(ImplicitLocOpBuilder &b, Value value) {
  Type type = value.getType();
  auto with = [&](Type element) -> Type {
    auto shaped = dyn_cast<ShapedType>(type);
    return shaped ? (Type)shaped.clone(element) : element;
  };
  Type integer = with(b.getI64Type());
  auto constant = [&](int64_t number) -> Value {
    TypedAttr attr = b.getI64IntegerAttr(number);
    if (auto shaped = dyn_cast<ShapedType>(integer))
      attr = DenseElementsAttr::get(shaped, attr);
    return arith::ConstantOp::create(b, attr);
  };
  constexpr int64_t dropped = (int64_t(1) << 29) - 1;
  Value bits = arith::BitcastOp::create(b, integer, value);
  Value rest = arith::AndIOp::create(b, bits, constant(dropped));
  Value inexact = arith::CmpIOp::create(b, arith::CmpIPredicate::ne, rest, constant(0));
  Value kept = arith::AndIOp::create(b, bits, constant(~dropped));
  Value odd = arith::OrIOp::create(b, kept, constant(dropped + 1));
  Value chosen = arith::SelectOp::create(b, inexact, odd, kept);
  Value wide = arith::BitcastOp::create(b, type, chosen);
  return arith::TruncFOp::create(b, with(b.getF32Type()), wide);
}

/// bf16 values as the i16 with their bits. Nothing computes with them any more, but LLVM would
/// still choose between two of them by way of f32 and a library call.
static void storeAsBits(ModuleOp module) {
  MLIRContext *context = module.getContext();
  Type bf16 = BFloat16Type::get(context), i16 = IntegerType::get(context, 16);
  AttrTypeReplacer replacer;
  replacer.addReplacement([&](BFloat16Type) { return i16; });
  auto bits = [&](Attribute value) -> Attribute {
    if (auto number = dyn_cast_or_null<FloatAttr>(value); number && number.getType() == bf16)
      return IntegerAttr::get(i16, number.getValue().bitcastToAPInt());
    if (auto dense = dyn_cast_or_null<DenseElementsAttr>(value);
        dense && dense.getElementType() == bf16)
      return dense.bitcast(i16);
    if (auto resource = dyn_cast_or_null<DenseResourceElementsAttr>(value);
        resource && resource.getType().getElementType() == bf16)
      return DenseResourceElementsAttr::get(resource.getType().clone(i16), resource.getRawHandle());
    return value;
  };
  module.walk([&](Operation *op) {
    if (auto constant = dyn_cast<arith::ConstantOp>(op)) {
      constant.setValueAttr(cast<TypedAttr>(bits(constant.getValue())));
    } else if (auto global = dyn_cast<memref::GlobalOp>(op)) {
      global.setType(cast<MemRefType>(replacer.replace(global.getType())));
      if (Attribute value = global.getInitialValueAttr())
        global.setInitialValueAttr(bits(value));
    } else if (auto function = dyn_cast<FunctionOpInterface>(op)) {
      function.setType(replacer.replace(function.getFunctionType()));
    }
    replacer.replaceElementsIn(op, /*replaceAttrs=*/false, /*replaceLocs=*/false,
                               /*replaceTypes=*/true);
  });
  module.walk([](arith::BitcastOp cast) {
    if (cast.getIn().getType() != cast.getType())
      return;
    cast.replaceAllUsesWith(cast.getIn());
    cast.erase();
  });
}

namespace {
struct ExpandSmallFloats : public lowbit::impl::ExpandSmallFloatsBase<ExpandSmallFloats> {
  void runOnOperation() override {
    getOperation().walk([&](arith::TruncFOp truncate) {
      Type from = getElementTypeOrSelf(truncate.getIn()), to = getElementTypeOrSelf(truncate);
      if (!from.isF64() || to.getIntOrFloatBitWidth() > 16)
        return;
      ImplicitLocOpBuilder b(truncate.getLoc(), truncate);
      truncate.getInMutable().assign(roundToOdd(b, truncate.getIn()));
      ++numNarrowed;
    });

    // The way from bf16 to f64 leads through f32.
    getOperation().walk([&](arith::ExtFOp extend) {
      Type from = extend.getIn().getType(), to = extend.getType();
      if (!getElementTypeOrSelf(from).isBF16() || !getElementTypeOrSelf(to).isF64())
        return;
      ImplicitLocOpBuilder b(extend.getLoc(), extend);
      auto shaped = dyn_cast<ShapedType>(from);
      Type step = shaped ? (Type)shaped.clone(b.getF32Type()) : b.getF32Type();
      extend.getInMutable().assign(arith::ExtFOp::create(b, step, extend.getIn()));
    });

    Type bf16 = BFloat16Type::get(&getContext()), f32 = Float32Type::get(&getContext());
    TypeConverter converter;
    arith::populateEmulateUnsupportedFloatsConversions(converter, bf16, f32);
    RewritePatternSet emulation(&getContext());
    arith::populateEmulateUnsupportedFloatsPatterns(emulation, converter);
    ConversionTarget target(getContext());
    arith::populateEmulateUnsupportedFloatsLegality(target, converter);
    if (failed(applyPartialConversion(getOperation(), target, std::move(emulation))))
      return signalPassFailure();

    RewritePatternSet expansion(&getContext());
    arith::populateExpandBFloat16Patterns(expansion);
    if (failed(applyPatternsGreedily(getOperation(), std::move(expansion))))
      return signalPassFailure();
    storeAsBits(getOperation());
  }
};
} // namespace
