"""Decoders as onnxruntime-genai's model builder writes them (int4, CPU), with random weights: a Llama and a Qwen3.

Packed weights in MatMulNBits, queries, keys and values of one product, GroupQueryAttention that rotates and keeps the
cache, SkipSimplifiedLayerNormalization whose fourth output is the residual, dynamic batch, sequence and past.
"""
import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

FLOAT, INT64 = TensorProto.FLOAT, TensorProto.INT64


class Decoder:
    """The nodes of one model. `zero`: with packed zero points; `table_bits`: 0 for float embeddings."""

    layers, hidden, inner, vocab, heads, kv_heads, size, length = 2, 64, 160, 192, 4, 2, 16, 64

    def __init__(self, kind, seed=0, bits=4, head_bits=4, block=32, zero=False, table_bits=0, window=-1, level=0):
        self.kind, self.bits, self.head_bits, self.block, self.zero = kind, bits, head_bits, block, zero
        self.table_bits, self.window, self.level = table_bits, window, level
        self.rng = np.random.default_rng(seed)
        self.nodes, self.initializers = [], []

    def constant(self, name, array):
        self.initializers.append(numpy_helper.from_array(np.asarray(array), name))
        return name

    def node(self, op, inputs, name, domain="", outputs=None, **attrs):
        outputs = outputs or [f"{name}/output_0"]
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, domain=domain, **attrs))
        return outputs[0]

    def packed(self, rows, columns, bits):
        """Random blocks of `rows`: bytes, scales and zero points (or '')."""
        blocks = -(-columns // self.block)
        return (self.rng.integers(0, 256, (rows, blocks, self.block * bits // 8)).astype(np.uint8),
                (self.rng.uniform(0.5, 1.5, (rows, blocks)) / (2**bits / 3.5 * columns**0.5)).astype(np.float32),
                self.rng.integers(0, 256, (rows, -(-blocks * bits // 8))).astype(np.uint8))

    def product(self, x, columns, rows, path, bits=None):
        bits = bits or self.bits
        weight, scales, zero = self.packed(rows, columns, bits)
        name = path.strip("/").replace("/", ".")
        inputs = [x, self.constant(f"{name}.qweight", weight), self.constant(f"{name}.scales", scales)]
        if self.zero:
            inputs.append(self.constant(f"{name}.qzeros", zero))
        return self.node("MatMulNBits", inputs, f"{path}/MatMulNBits", "com.microsoft", K=columns, N=rows, bits=bits,
                         block_size=self.block, accuracy_level=self.level)

    def norm_weight(self, name, size):
        return self.constant(name, self.rng.uniform(0.5, 1.5, size).astype(np.float32))

    def skip(self, x, update, name, last=False):
        weight = self.norm_weight(f"{name}.weight", self.hidden)
        path = f"/{name.replace('.', '/')}/SkipLayerNorm"
        outputs = [f"{path}/output_0"] + ([] if last else ["", "", f"{path}/output_3"])
        self.node("SkipSimplifiedLayerNormalization", [x, update, weight], path, "com.microsoft", outputs, epsilon=1e-6)
        return outputs[0], outputs[-1]

    def mask(self):
        base = "/model/attn_mask_reformat/attn_mask_subgraph"
        total = self.node("ReduceSum", ["attention_mask", self.constant("axis_1", np.array([1]))], f"{base}/ReduceSum")
        last = self.node("Sub", [total, self.constant("one", np.array([1]))], f"{base}/Sub")
        self.lengths = self.node("Cast", [last], f"{base}/Sub/Cast", to=TensorProto.INT32)
        shape = self.node("Shape", ["attention_mask"], f"{base}/Shape")
        total = self.node("Gather", [shape, self.constant("index_1", np.array(1))], f"{base}/Gather", axis=0)
        self.total = self.node("Cast", [total], f"{base}/Gather/Cast", to=TensorProto.INT32)

    def embed(self):
        if not self.table_bits:
            table = self.constant("model.embed_tokens.weight",
                                  self.rng.standard_normal((self.vocab, self.hidden)).astype(np.float32))
            return self.node("Gather", [table, "input_ids"], "/model/embed_tokens/Gather")
        weight, scales, _ = self.packed(self.vocab, self.hidden, self.table_bits)
        names = [self.constant("embed.qweight", weight.reshape(self.vocab, -1)), "input_ids",
                 self.constant("embed.scales", scales * 8)]
        return self.node("GatherBlockQuantized", names, "/model/embed_tokens/GatherBlockQuantized", "com.microsoft",
                         bits=self.table_bits, block_size=self.block, gather_axis=0, quantize_axis=1)

    def head_norm(self, x, name, path, heads):
        x = self.node("Reshape", [x, self.constant(f"{name}.shape", np.array([0, -1, self.size]))], f"{path}/Reshape_1")
        x = self.node("SimplifiedLayerNormalization", [x, self.norm_weight(name, self.size)], f"{path}/LayerNorm",
                      axis=-1, epsilon=1e-6, stash_type=1)
        return self.node("Reshape", [x, self.constant(f"{name}.back", np.array([0, -1, heads * self.size]))],
                         f"{path}/Reshape_2")

    def attention(self, x, layer):
        path = f"/model/layers.{layer}/attn"
        query, key = self.heads * self.size, self.kv_heads * self.size
        qkv = self.product(x, self.hidden, query + 2 * key, f"{path}/qkv_proj")
        parts = [qkv, "", ""]
        if self.kind == "qwen3":
            parts = [f"{path}/qkv_split/output_{i}" for i in range(3)]
            sizes = self.constant(f"split.{layer}", np.array([query, key, key]))
            self.node("Split", [qkv, sizes], f"{path}/qkv_split/Split", outputs=list(parts), axis=-1)
            parts[0] = self.head_norm(parts[0], f"model.layers.{layer}.attn.q_norm.weight", f"{path}/q_norm", self.heads)
            parts[1] = self.head_norm(parts[1], f"model.layers.{layer}.attn.k_norm.weight", f"{path}/k_norm", self.kv_heads)
        past = [f"past_key_values.{layer}.{name}" for name in ("key", "value")]
        present = [f"present.{layer}.{name}" for name in ("key", "value")]
        y = self.node("GroupQueryAttention", [*parts, *past, self.lengths, self.total, "cos_cache", "sin_cache", "", ""],
                      f"{path}/GroupQueryAttention", "com.microsoft", [f"{path}/output_0", *present],
                      num_heads=self.heads, kv_num_heads=self.kv_heads, scale=self.size**-0.5, softcap=0.0, do_rotary=1,
                      rotary_interleaved=0, local_window_size=self.window)
        return self.product(y, query, self.hidden, f"{path}/o_proj")

    def mlp(self, x, layer):
        path = f"/model/layers.{layer}/mlp"
        gate = self.product(x, self.hidden, self.inner, f"{path}/gate_proj")
        up = self.product(x, self.hidden, self.inner, f"{path}/up_proj")
        act = self.node("Sigmoid", [gate], f"{path}/act_fn/Sigmoid")
        act = self.node("Mul", [gate, act], f"{path}/act_fn/Mul")
        return self.product(self.node("Mul", [act, up], f"{path}/Mul"), self.inner, self.hidden, f"{path}/down_proj")

    def model(self):
        angle = np.arange(self.length)[:, None] / 10000 ** (np.arange(self.size // 2) / (self.size // 2))
        self.constant("cos_cache", np.cos(angle).astype(np.float32))
        self.constant("sin_cache", np.sin(angle).astype(np.float32))
        self.mask()
        residual = self.embed()
        x = self.node("SimplifiedLayerNormalization", [residual, self.norm_weight("input_norm", self.hidden)],
                      "/model/layers.0/input_layernorm/LayerNorm", axis=-1, epsilon=1e-6, stash_type=1)
        for layer in range(self.layers):
            x, residual = self.skip(residual, self.attention(x, layer), f"model.layers.{layer}.post_attention_layernorm")
            last = layer + 1 == self.layers
            name = "model.final_norm" if last else f"model.layers.{layer + 1}.input_layernorm"
            x, residual = self.skip(residual, self.mlp(x, layer), name, last)
        logits = self.product(x, self.hidden, self.vocab, "/lm_head", self.head_bits)
        self.nodes[-1].output[0] = "logits"
        value = helper.make_tensor_value_info
        inputs = [value("input_ids", INT64, ["batch_size", "sequence_length"]),
                  value("attention_mask", INT64, ["batch_size", "total_sequence_length"])]
        outputs = [value("logits", FLOAT, ["batch_size", "sequence_length", self.vocab])]
        for layer in range(self.layers):
            for name in ("key", "value"):
                dims = lambda length: ["batch_size", self.kv_heads, length, self.size]
                inputs.append(value(f"past_key_values.{layer}.{name}", FLOAT, dims("past_sequence_length")))
                outputs.append(value(f"present.{layer}.{name}", FLOAT, dims("total_sequence_length")))
        graph = helper.make_graph(self.nodes, "main_graph", inputs, outputs, self.initializers)
        domains = [helper.make_opsetid("", 21), helper.make_opsetid("com.microsoft", 1)]
        return helper.make_model(graph, opset_imports=domains, ir_version=10)


def feeds(decoder, ids, past=None):
    """The inputs of one call: a prompt, or a step after `past` (the outputs of the call before)."""
    batch, sequence = ids.shape
    empty = np.zeros((batch, decoder.kv_heads, 0, decoder.size), np.float32)
    before = past["present.0.key"].shape[2] if past else 0
    result = {"input_ids": ids, "attention_mask": np.ones((batch, before + sequence), np.int64)}
    for layer in range(decoder.layers):
        for name in ("key", "value"):
            result[f"past_key_values.{layer}.{name}"] = past[f"present.{layer}.{name}"] if past else empty
    return result


if __name__ == "__main__":
    import sys
    onnx.save(Decoder(sys.argv[1]).model(), sys.argv[2])
