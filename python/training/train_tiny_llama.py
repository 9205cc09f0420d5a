#!/usr/bin/env python3
# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""Trains the bundled language model and writes it, with its data, to python/lowbit/models.

A Llama in shape (RMSNorm, rotary positions, grouped-query attention, SwiGLU, tied embeddings) over
bytes. Its text is the source of Python's standard library, which every machine with Python has;
modules are held out whole, so evaluation text was never seen. Another Python version has other
text: the committed files name theirs in the model's metadata.

Needs torch, onnxscript, onnx and onnxruntime; takes about four minutes on two cores.
"""
import argparse
import ast
import hashlib
import platform
import sysconfig
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import torch
from torch import nn
from torch.nn import functional as F

SEED = 20240229
LENGTH = 192  # bytes in a window
EVAL_WINDOWS = 40
CALIBRATION_WINDOWS = 24
VOCABULARY, WIDTH, LAYERS, HEADS, KV_HEADS, HIDDEN = 256, 96, 3, 6, 2, 208
HEAD = WIDTH // HEADS


class RMSNorm(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.ones(WIDTH))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.weight * (x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + 1e-5))


def rotate(x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor) -> torch.Tensor:
    """Rotary positions: x [B, heads, T, HEAD]; cos and sin [T, HEAD]."""
    half = torch.cat((-x[..., HEAD // 2 :], x[..., : HEAD // 2]), -1)
    return x * cos + half * sin


class Attention(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj = nn.Linear(WIDTH, HEADS * HEAD, bias=False)
        self.k_proj = nn.Linear(WIDTH, KV_HEADS * HEAD, bias=False)
        self.v_proj = nn.Linear(WIDTH, KV_HEADS * HEAD, bias=False)
        self.o_proj = nn.Linear(HEADS * HEAD, WIDTH, bias=False)

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        batch, length, _ = x.shape

        def heads(y: torch.Tensor, count: int) -> torch.Tensor:
            return y.view(batch, length, count, HEAD).transpose(1, 2)

        def repeat(y: torch.Tensor) -> torch.Tensor:
            wide = y[:, :, None].expand(batch, KV_HEADS, HEADS // KV_HEADS, length, HEAD)
            return wide.reshape(batch, HEADS, length, HEAD)

        q = rotate(heads(self.q_proj(x), HEADS), cos, sin)
        k = rotate(heads(self.k_proj(x), KV_HEADS), cos, sin)
        v = heads(self.v_proj(x), KV_HEADS)
        y = F.scaled_dot_product_attention(q, repeat(k), repeat(v), attn_mask=mask)
        return self.o_proj(y.transpose(1, 2).reshape(batch, length, WIDTH))


class MLP(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.up_proj = nn.Linear(WIDTH, HIDDEN, bias=False)
        self.down_proj = nn.Linear(HIDDEN, WIDTH, bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.down_proj(F.silu(self.gate_proj(x)) * self.up_proj(x))


class Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.input_layernorm, self.self_attn = RMSNorm(), Attention()
        self.post_attention_layernorm, self.mlp = RMSNorm(), MLP()

    def forward(self, x: torch.Tensor, cos: torch.Tensor, sin: torch.Tensor, mask: torch.Tensor) -> torch.Tensor:
        x = x + self.self_attn(self.input_layernorm(x), cos, sin, mask)
        return x + self.mlp(self.post_attention_layernorm(x))


class TinyLlama(nn.Module):
    """input_ids [B, T] int64 → logits [B, T, VOCABULARY]."""

    def __init__(self) -> None:
        super().__init__()
        self.embed_tokens = nn.Embedding(VOCABULARY, WIDTH)
        self.layers = nn.ModuleList([Layer() for _ in range(LAYERS)])
        self.norm = RMSNorm()
        self.lm_head = nn.Linear(WIDTH, VOCABULARY, bias=False)
        self.lm_head.weight = self.embed_tokens.weight
        self.register_buffer("inv_freq", 10000.0 ** (-torch.arange(0, HEAD, 2) / HEAD), persistent=False)
        for parameter in self.parameters():
            if parameter.dim() > 1:
                nn.init.normal_(parameter, std=0.05)

    def forward(self, input_ids: torch.Tensor) -> torch.Tensor:
        positions = torch.arange(input_ids.shape[1], device=input_ids.device)
        # Added to the scores, as Hugging Face's Llama does; a boolean mask exports to more operators.
        visible = positions[None, :] <= positions[:, None]
        mask = torch.where(visible, 0.0, torch.finfo(torch.float32).min)
        angle = positions[:, None].float() * self.inv_freq
        angle = torch.cat((angle, angle), -1)
        cos, sin = angle.cos(), angle.sin()
        x = self.embed_tokens(input_ids)
        for layer in self.layers:
            x = layer(x, cos, sin, mask)
        return self.lm_head(self.norm(x))


def corpus() -> tuple[np.ndarray, np.ndarray]:
    """Bytes of the modules for training and of those held out (one in ten, by a hash of the name)."""
    root = Path(sysconfig.get_paths()["stdlib"])
    parts: dict[bool, list[bytes]] = {False: [], True: []}
    for path in sorted(root.glob("*.py")) + sorted(root.glob("*/[a-z]*.py")):
        name = path.relative_to(root).as_posix()
        if not name.startswith(("test/", "idlelib/", "lib2to3/", "site-packages/", "encodings/", "pydoc_data/")):
            held_out = hashlib.sha256(name.encode()).digest()[0] % 10 == 0
            parts[held_out].append(path.read_bytes())
    return tuple(np.frombuffer(b"".join(parts[key]), np.uint8) for key in (False, True))


def windows(text: np.ndarray, count: int) -> np.ndarray:
    """`count` windows spread evenly over the text, int64 [count, LENGTH]."""
    starts = np.linspace(0, len(text) - LENGTH, count).astype(np.int64)
    return np.stack([text[s : s + LENGTH] for s in starts]).astype(np.int64)


def train(text: np.ndarray, steps: int, batch: int = 24) -> TinyLlama:
    torch.manual_seed(SEED)
    model = TinyLlama()
    rng = np.random.default_rng(SEED)
    optimizer = torch.optim.AdamW(model.parameters(), lr=6e-3, weight_decay=0.1, betas=(0.9, 0.95))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=6e-3, total_steps=steps, pct_start=0.05)
    for step in range(steps):
        starts = rng.integers(0, len(text) - LENGTH - 1, batch)
        tokens = torch.from_numpy(np.stack([text[s : s + LENGTH + 1] for s in starts]).astype(np.int64))
        loss = F.cross_entropy(model(tokens[:, :-1]).flatten(0, 1), tokens[:, 1:].flatten())
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 100 == 0 or step == steps - 1:
            print(f"step {step}: loss {loss.item():.3f} nats per byte", flush=True)
    return model.eval()


def export(model: TinyLlama, path: Path) -> None:
    example = torch.zeros(1, 8, dtype=torch.int64)
    program = torch.onnx.export(
        model, (example,), dynamo=True, opset_version=18, input_names=["input_ids"], output_names=["logits"],
        dynamic_shapes={"input_ids": {1: torch.export.Dim("seq", min=2, max=512)}})
    proto = program.model_proto
    taken: dict[str, int] = {}
    for node in proto.graph.node:
        # Node names say where in the model they are; the rest of the metadata are stack traces
        # with the paths of the machine that exported.
        scopes = {p.key: p.value for p in node.metadata_props}.get("pkg.torch.onnx.name_scopes", "[]")
        parts = [part for part in ast.literal_eval(scopes)[:-1] if part and part[0] != "_"]
        name = "/".join([*(parts[-1].split(".") if parts else []), node.op_type])
        taken[name] = taken.get(name, -1) + 1
        node.name = f"{name}_{taken[name]}" if taken[name] else name
        del node.metadata_props[:]
        node.doc_string = ""
    for value in (*proto.graph.value_info, *proto.graph.input, *proto.graph.output, *proto.graph.initializer):
        del value.metadata_props[:]
        value.doc_string = ""
    del proto.graph.metadata_props[:]
    del proto.metadata_props[:]
    proto.metadata_props.add(key="text", value=f"standard library of Python {platform.python_version()}")
    onnx.checker.check_model(proto, full_check=True)
    onnx.save(proto, path)


def perplexity(session: onnxruntime.InferenceSession, tokens: np.ndarray) -> float:
    """exp of the mean nats per byte over all positions after the first."""
    losses = []
    for row in tokens:
        logits = session.run(None, {"input_ids": row[None]})[0][0, :-1].astype(np.float64)
        logits -= logits.max(-1, keepdims=True)
        losses.append(np.log(np.exp(logits).sum(-1)) - np.take_along_axis(logits, row[1:, None], -1)[:, 0])
    return float(np.exp(np.mean(losses)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-o", "--output", type=Path, default=Path(__file__).parents[1] / "lowbit" / "models")
    parser.add_argument("--steps", type=int, default=900)
    arguments = parser.parse_args()
    torch.use_deterministic_algorithms(True)
    torch.set_num_threads(2)
    train_text, eval_text = corpus()
    model = train(train_text, arguments.steps)
    path = arguments.output / "tiny_llama.onnx"
    export(model, path)
    tokens = windows(eval_text, EVAL_WINDOWS)
    np.savez_compressed(arguments.output / "tiny_llama_eval.npz", tokens=tokens)
    np.savez_compressed(arguments.output / "tiny_llama_calib.npz", input_ids=windows(train_text, CALIBRATION_WINDOWS))

    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    with torch.no_grad():
        difference = max(
            float(np.abs(session.run(None, {"input_ids": part})[0] - model(torch.from_numpy(part)).numpy()).max())
            for part in (tokens[:1, :2], tokens[1:2, :17], tokens[:1]))
    value = perplexity(session, tokens)
    print(f"{path.name}: {path.stat().st_size} bytes, {sum(p.numel() for p in model.parameters())} parameters, "
          f"perplexity {value:.3f} per byte, largest difference from torch {difference:.1e}")
    if value > 8 or difference > 1e-3:
        raise SystemExit("the model is not good enough to be bundled")


if __name__ == "__main__":
    main()
