//===- Lowering.h - what the lowerings of onnx ops share --------*- C++ -*-===//
//
// Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
// SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
//
//===----------------------------------------------------------------------===//
//
// A lowering is a function from one onnx op to linalg, tensor and arith ops on
// signless element types. It never changes the onnx op: the pass keeps the map
// from onnx values to lowered values and drops the onnx ops at the end, so that
// the shape analysis of the original function stays valid throughout.
//
//===----------------------------------------------------------------------===//
#ifndef LOWBIT_LIB_CONVERSION_ONNXTOLINALG_LOWERING_H
#define LOWBIT_LIB_CONVERSION_ONNXTOLINALG_LOWERING_H

#include "lowbit/Analysis/ShapeAnalysis.h"
#include "lowbit/Dialect/ONNX/IR/NodeAttributes.h"
#include "mlir/Dialect/Utils/StructuredOpsUtils.h"
#include "mlir/IR/AffineExpr.h"
#include "mlir/IR/AffineMap.h"
#include "mlir/IR/ImplicitLocOpBuilder.h"
#include "mlir/IR/OpDefinition.h"
#include "llvm/ADT/StringMap.h"

namespace lowbit::onnx {

using Sizes = SmallVector<OpFoldResult>;
using Dims = SmallVector<SymbolicExpr>;
/// The body of an elementwise op: scalars in, one scalar out.
using ScalarBody = llvm::function_ref<Value(OpBuilder &, Location, ValueRange)>;

/// The type in which values of an onnx type are lowered: signless, and a byte for what is narrower.
Type toSignless(Type type);
/// Integers of less than 8 bits (but i1) and floats of at most 8 are lowered as i8: an integer sign- or zero-extended
/// to the byte, a float's bits in its low end.
bool isByteStored(Type type);
/// Such a float as f32; exact.
Value extendMinifloat(OpBuilder &b, Location loc, Value byte, FloatType from);
/// An f32 as such a float, rounded to nearest even (`rounding` is for f8E8M0 alone: up, down or nearest). What is too
/// large becomes the largest number where `saturate` is set, else infinity or, where the format has none, NaN.
Value roundToMinifloat(OpBuilder &b, Location loc, Value value, FloatType to, bool saturate,
                       StringRef rounding);

/// Lowers the onnx ops of one block, each in its place. Failure where one cannot be; which, it has noted.
using BlockConverter = llvm::function_ref<LogicalResult(Block &)>;

/// One onnx op while it is lowered.
class Lowering {
public:
  Lowering(Operation *op, OpBuilder &builder, ShapeAnalysis &shapes,
           llvm::DenseMap<Value, Value> &values, BlockConverter convertBlock)
      : op(op), b(op->getLoc(), builder), shapes(shapes), values(values),
        convertBlock(convertBlock) {}

  Operation *const op;
  ImplicitLocOpBuilder b;
  ShapeAnalysis &shapes;

  //===--------------------------------------------------------------------===//
  // The op
  //===--------------------------------------------------------------------===//

  StringRef name() const { return onnx::getOperator(op); }
  bool has(unsigned i) const { return (bool)onnx::getOperand(op, i); }
  /// The lowered operand.
  Value in(unsigned i);
  RankedTensorType inType(unsigned i) { return cast<RankedTensorType>(in(i).getType()); }
  /// The operand's element type as onnx says it: unsigned where it is.
  Type element(unsigned i) const;
  bool isUnsigned(unsigned i) const { return element(i).isUnsignedInteger(); }
  int64_t rank(unsigned i) const { return dims(i).size(); }
  const Dims &dims(unsigned i) const { return shapes.get(op->getOperand(i)).dims; }
  const Dims &resultDims(unsigned i = 0) const { return shapes.get(op->getResult(i)).dims; }
  /// Signless.
  RankedTensorType resultType(unsigned i = 0) const;
  bool usesResult(unsigned i) const {
    return i < op->getNumResults() && !isa<NoneType>(op->getResult(i).getType()) &&
           !op->getResult(i).use_empty();
  }
  int64_t attr(StringRef key, int64_t otherwise) const { return onnx::getInt(op, key, otherwise); }
  int64_t axis(StringRef key, int64_t otherwise, int64_t rank) const {
    int64_t value = attr(key, otherwise);
    return value < 0 ? value + rank : value;
  }
  /// The integers of operand i where they are known before the run.
  std::optional<SmallVector<int64_t>> constants(unsigned i) const;
  /// Why this op cannot be lowered: one line in the error that lists all of them.
  LogicalResult unsupported(const Twine &why) {
    reason = why.str();
    return failure();
  }
  std::string reason;
  /// The lowered result i; its type must be resultType(i) but for static dims, which are cast.
  LogicalResult replace(unsigned i, Value value);
  LogicalResult replace(Value value) { return replace(0, value); }
  /// Lowers the graph in region `index` at the end of block `into`, with `arguments` for its inputs; `outputs` are its
  /// lowered outputs. The builder is then at the end of `into`.
  LogicalResult inlineBody(unsigned index, Block &into, ValueRange arguments,
                           SmallVectorImpl<Value> &outputs);
  /// The lowered value of one of the values around or inside the op.
  Value lowered(Value value);

  //===--------------------------------------------------------------------===//
  // Sizes: index arithmetic that folds constants
  //===--------------------------------------------------------------------===//

  OpFoldResult index(int64_t value) { return b.getIndexAttr(value); }
  OpFoldResult dim(Value tensor, unsigned i);
  Sizes sizes(Value tensor);
  Value value(OpFoldResult size);
  OpFoldResult add(OpFoldResult x, OpFoldResult y);
  OpFoldResult sub(OpFoldResult x, OpFoldResult y);
  OpFoldResult mul(OpFoldResult x, OpFoldResult y);
  /// Of a non-negative number by a positive one.
  OpFoldResult div(OpFoldResult x, OpFoldResult y);
  OpFoldResult min(OpFoldResult x, OpFoldResult y);
  OpFoldResult max(OpFoldResult x, OpFoldResult y);
  /// Entry `i` of integer operand `operand`, an index.
  OpFoldResult entry(unsigned operand, int64_t i);
  /// Fails the run where operand `operand` does not have `count` entries; for one whose length the shape analysis does not
  /// know. Entries that are not there read as 0.
  void expectEntries(unsigned operand, int64_t count);
  /// The size of `dim`: a constant, or that of an operand's dim which is the same expression; null else.
  OpFoldResult known(const SymbolicExpr &dim);

  //===--------------------------------------------------------------------===//
  // Tensors
  //===--------------------------------------------------------------------===//

  Value constant(TypedAttr attr);
  /// A scalar of `type` (float or signless integer).
  Value scalar(Type type, double number);
  Value scalarInt(Type type, int64_t number);
  Value empty(ArrayRef<OpFoldResult> sizes, Type element);
  Value filled(ArrayRef<OpFoldResult> sizes, Value scalar);
  /// linalg.generic from `inputs` into `init`; iterators in the order of the loops.
  Value generic(ValueRange inputs, Value init, ArrayRef<AffineMap> maps,
                ArrayRef<utils::IteratorType> iterators,
                llvm::function_ref<void(OpBuilder &, Location, ValueRange)> body);
  /// A generic whose every iterator is parallel, into an uninitialised tensor of `sizes`; the body gets the inputs'
  /// scalars. `maps` are the inputs' maps over sizes.size() dims.
  Value parallel(ValueRange inputs, ArrayRef<AffineMap> maps, ArrayRef<OpFoldResult> sizes,
                 Type element, ScalarBody body);
  /// Elementwise over the lowered operands `operands` (indices into op) broadcast to the result's shape.
  Value elementwise(ArrayRef<unsigned> operands, Type element, ScalarBody body, unsigned result = 0);
  /// How `value` of shape `from` is read when it is broadcast to `to`; where a dim's size is known only at the run,
  /// `value` becomes an expanded copy. `toSizes` are the sizes of `to`.
  AffineMap broadcastMap(Value &value, const Dims &from, const Dims &to,
                         ArrayRef<OpFoldResult> toSizes);
  /// The sizes of the broadcast of the operands to result `result`; asserts at the run where they do not fit.
  Sizes broadcastSizes(ArrayRef<unsigned> operands, unsigned result = 0);
  /// Makes two dims equal that are not known to be: asserts at the run, and cuts both to the smaller.
  void equalize(Value &x, unsigned xDim, const SymbolicExpr &xSize, Value &y, unsigned yDim,
                const SymbolicExpr &ySize, StringRef what);
  Value slice(Value tensor, ArrayRef<OpFoldResult> offsets, ArrayRef<OpFoldResult> sizes,
              ArrayRef<OpFoldResult> strides = {});
  /// `whole` with `part` at `offsets`.
  Value insert(Value part, Value whole, ArrayRef<OpFoldResult> offsets);
  /// `tensor` with `low` and `high` elements of `fill` around each dim; itself where all are constant 0.
  Value pad(Value tensor, ArrayRef<OpFoldResult> low, ArrayRef<OpFoldResult> high, Value fill);
  /// The same elements in another shape. `from` and `to` are the shapes; they need not be provably of one size.
  Value reshape(Value tensor, const Dims &from, const Dims &to, ArrayRef<OpFoldResult> toSizes);
  Value transpose(Value tensor, ArrayRef<int64_t> perm);
  /// Fails the run with the layer's name where `condition` is false.
  void check(Value condition, const Twine &message);
  AffineMap mapOf(unsigned dims, ArrayRef<AffineExpr> results) {
    return AffineMap::get(dims, 0, results, b.getContext());
  }
  AffineExpr d(unsigned i) { return b.getAffineDimExpr(i); }

private:
  llvm::DenseMap<Value, Value> &values;
  BlockConverter convertBlock;
};

using LoweringFunction = LogicalResult (*)(Lowering &);
using LoweringTable = llvm::StringMap<LoweringFunction>;

void addAttentionLowerings(LoweringTable &table);
void addBitLowerings(LoweringTable &table);
void addBlockLowerings(LoweringTable &table);
void addColumnLowerings(LoweringTable &table);
void addContractionLowerings(LoweringTable &table);
void addControlFlowLowerings(LoweringTable &table);
void addConvolutionLowerings(LoweringTable &table);
void addDeterminantLowerings(LoweringTable &table);
void addEinsumLowerings(LoweringTable &table);
void addElementwiseLowerings(LoweringTable &table);
void addGeneratorLowerings(LoweringTable &table);
void addIndexingLowerings(LoweringTable &table);
void addLinearAttentionLowerings(LoweringTable &table);
void addLossLowerings(LoweringTable &table);
void addMovementLowerings(LoweringTable &table);
void addNonMaxSuppressionLowerings(LoweringTable &table);
void addNormalizationLowerings(LoweringTable &table);
void addPoolingLowerings(LoweringTable &table);
void addQuantizationLowerings(LoweringTable &table);
void addRecurrentLowerings(LoweringTable &table);
void addReductionLowerings(LoweringTable &table);
void addResizeLowerings(LoweringTable &table);
void addRotaryLowerings(LoweringTable &table);
void addSamplingLowerings(LoweringTable &table);
void addScanLowerings(LoweringTable &table);
void addScatterLowerings(LoweringTable &table);
void addSelectionLowerings(LoweringTable &table);
void addShapeLowerings(LoweringTable &table);
void addSignalLowerings(LoweringTable &table);
void addSlicingLowerings(LoweringTable &table);
void addSparseLowerings(LoweringTable &table);

/// Every operator that has a lowering.
const LoweringTable &loweringTable();

/// Converts scalar `value` of onnx type `from` to onnx type `to`, as ONNX's Cast does with these attributes.
Value castScalar(OpBuilder &b, Location loc, Value value, Type from, Type to, bool saturate = true,
                 StringRef rounding = "up");
/// Neutral elements and combiners of the reductions, by kind of element.
Value addScalars(OpBuilder &b, Location loc, Value x, Value y);
Value mulScalars(OpBuilder &b, Location loc, Value x, Value y);
/// The greater; a NaN on the right is passed on, so that a reduction keeps it.
Value maxScalars(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);
Value minScalars(OpBuilder &b, Location loc, Value x, Value y, bool isUnsigned);

} // namespace lowbit::onnx

#endif // LOWBIT_LIB_CONVERSION_ONNXTOLINALG_LOWERING_H
