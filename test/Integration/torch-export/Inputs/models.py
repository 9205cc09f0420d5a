# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""The models that are exported: seeded random weights, dims that stay dynamic, and the lengths each is run at."""
from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch.export import Dim

BATCH, SEQUENCE, PAST = "batch", "sequence", "past"


@dataclasses.dataclass
class Model:
    """One export. `example(lengths)` makes the inputs for a dict of sizes, the first of `lengths` being exported with."""

    name: str
    family: str  # cnn, encoder or decoder
    build: Callable[[], nn.Module]
    example: Callable[[dict[str, int]], dict[str, torch.Tensor]]
    dynamic: dict[str, dict[int, str]]  # input: axis: name of its size
    lengths: list[dict[str, int]]

    def shapes(self) -> dict[str, dict[int, Any]]:
        return {name: {axis: Dim.DYNAMIC for axis in axes} for name, axes in self.dynamic.items()}


def randomize(module: nn.Module) -> nn.Module:
    """Non-trivial statistics, biases, scales and heads: what starts at one value everywhere would hide mistakes."""
    generator = torch.Generator().manual_seed(7)
    for part in module.modules():
        if isinstance(part, nn.BatchNorm2d):
            part.running_mean.copy_(torch.randn(part.running_mean.shape, generator=generator) * 0.1)
            part.running_var.copy_(torch.rand(part.running_var.shape, generator=generator) * 0.5 + 0.75)
    for parameter in module.parameters():
        if parameter.ndim == 1 or torch.all(parameter == parameter.flatten()[0]):
            parameter.data += torch.randn(parameter.shape, generator=generator) * 0.05
    return module.eval()


# Pictures


class OnlyOut(nn.Module):
    """torchvision's segmentation models return a dict."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.model(x)["out"]


def vision(name: str, size: int, *, classes: int = 10, batches: tuple[int, ...] = (2, 1, 3), **options: Any) -> Model:
    def build() -> nn.Module:
        import torchvision

        return randomize(getattr(torchvision.models, name)(weights=None, num_classes=classes, **options))

    return Model(name, "cnn", build, lambda n: {"x": torch.randn(n[BATCH], 3, size, size)}, {"x": {0: BATCH}},
                 [{BATCH: batch} for batch in batches])


def deeplab() -> Model:
    def build() -> nn.Module:
        import torchvision

        model = torchvision.models.segmentation.deeplabv3_mobilenet_v3_large(weights=None, weights_backbone=None, num_classes=5)
        return OnlyOut(randomize(model)).eval()

    return Model("deeplabv3", "cnn", build, lambda n: {"x": torch.randn(n[BATCH], 3, n["height"], n["width"])},
                 {"x": {0: BATCH, 2: "height", 3: "width"}},
                 [{BATCH: 2, "height": 96, "width": 64}, {BATCH: 1, "height": 65, "width": 97}, {BATCH: 1, "height": 33, "width": 41}])


class Unit(nn.Module):
    """Convolution, batch normalization, SiLU."""

    def __init__(self, inputs: int, outputs: int, size: int = 1, stride: int = 1) -> None:
        super().__init__()
        self.conv = nn.Conv2d(inputs, outputs, size, stride, size // 2, bias=False)
        self.norm = nn.BatchNorm2d(outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return nn.functional.silu(self.norm(self.conv(x)))


class CrossStage(nn.Module):
    """Splits the channels, sends half through bottlenecks, and joins all intermediate results."""

    def __init__(self, inputs: int, outputs: int, depth: int = 1) -> None:
        super().__init__()
        half = outputs // 2
        self.first = Unit(inputs, outputs)
        self.blocks = nn.ModuleList(nn.Sequential(Unit(half, half, 3), Unit(half, half, 3)) for _ in range(depth))
        self.last = Unit((2 + depth) * half, outputs)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        parts = list(self.first(x).chunk(2, 1))
        for block in self.blocks:
            parts.append(parts[-1] + block(parts[-1]))
        return self.last(torch.cat(parts, 1))


class Detector(nn.Module):
    """A one-stage detector: backbone, pyramid with an upsampling path, boxes as expectations over 16 bins."""

    bins, classes = 16, 8

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        w = width
        self.stem = nn.Sequential(Unit(3, w, 3, 2), Unit(w, 2 * w, 3, 2), CrossStage(2 * w, 2 * w))
        self.middle = nn.Sequential(Unit(2 * w, 4 * w, 3, 2), CrossStage(4 * w, 4 * w))
        self.deep = nn.Sequential(Unit(4 * w, 8 * w, 3, 2), CrossStage(8 * w, 8 * w))
        self.reduce, self.join = Unit(8 * w, 4 * w), Unit(16 * w, 8 * w)
        self.pool = nn.MaxPool2d(5, 1, 2)
        self.up = CrossStage(12 * w, 4 * w)
        self.heads = nn.ModuleList(nn.Conv2d(c, 4 * self.bins + self.classes, 1) for c in (4 * w, 8 * w))

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        middle = self.middle(self.stem(x))
        deep = self.reduce(self.deep(middle))
        pools = [deep]
        for _ in range(3):
            pools.append(self.pool(pools[-1]))
        deep = self.join(torch.cat(pools, 1))
        shallow = self.up(torch.cat([nn.functional.interpolate(deep, scale_factor=2.0), middle], 1))
        flat = torch.cat([head(y).flatten(2) for head, y in zip(self.heads, (shallow, deep))], 2)
        boxes, scores = flat.split((4 * self.bins, self.classes), 1)
        boxes = boxes.unflatten(1, (4, self.bins)).softmax(2) * torch.arange(self.bins, dtype=boxes.dtype).view(1, 1, -1, 1)
        low, high = boxes.sum(2).chunk(2, 1)
        return torch.cat([(high - low) / 2, high + low], 1), scores.sigmoid()


def detector(size: int = 160) -> Model:
    return Model("yolo_like", "cnn", lambda: randomize(Detector()), lambda n: {"x": torch.randn(n[BATCH], 3, size, size)},
                 {"x": {0: BATCH}}, [{BATCH: 2}, {BATCH: 1}, {BATCH: 3}])


# Text and sound


class TextEncoder(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, return_dict=False)[0]


class Picture(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, pixel_values: torch.Tensor) -> torch.Tensor:
        return self.model(pixel_values=pixel_values, return_dict=False)[0]


class Sound(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_features: torch.Tensor) -> torch.Tensor:
        return self.model(input_features, return_dict=False)[0]


class Prefill(nn.Module):
    """A decoder over a whole prompt."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask, use_cache=False, return_dict=False)[0]


class WithCache(nn.Module):
    """A decoder whose keys and values of earlier tokens come in and go out: the cache grows by `sequence`."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor, past: list[torch.Tensor]) -> list[torch.Tensor]:
        from transformers import DynamicCache

        cache = DynamicCache()
        for layer in range(len(past) // 2):
            cache.update(past[2 * layer], past[2 * layer + 1], layer)
        logits = self.model(input_ids=input_ids, attention_mask=attention_mask, past_key_values=cache, use_cache=True).logits
        return [logits, *(tensor for layer in cache.layers for tensor in (layer.keys, layer.values))]


SMALL = {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "intermediate_size": 128, "vocab_size": 160,
         "max_position_embeddings": 256}
GROUPED = {"num_key_value_heads": 2, "head_dim": 16}
CONFIGS: dict[str, tuple[str, str, dict[str, Any]]] = {
    # name: configuration, model, options
    "bert": ("BertConfig", "BertModel", SMALL | {"attn_implementation": "sdpa"}),
    "distilbert": ("DistilBertConfig", "DistilBertModel", {"dim": 64, "n_layers": 2, "n_heads": 4, "hidden_dim": 128, "vocab_size": 160}),
    "t5_encoder": ("T5Config", "T5EncoderModel", {"d_model": 64, "d_kv": 16, "d_ff": 128, "num_layers": 2, "num_heads": 4, "vocab_size": 160}),
    "gpt2": ("GPT2Config", "GPT2LMHeadModel", {"n_embd": 64, "n_layer": 2, "n_head": 4, "vocab_size": 160, "n_positions": 256}),
    "llama": ("LlamaConfig", "LlamaForCausalLM", SMALL | GROUPED),
    "qwen2": ("Qwen2Config", "Qwen2ForCausalLM", SMALL | GROUPED),
    "qwen3": ("Qwen3Config", "Qwen3ForCausalLM", SMALL | GROUPED),
    "mistral": ("MistralConfig", "MistralForCausalLM", SMALL | GROUPED | {"sliding_window": 8}),
    "gemma2": ("Gemma2Config", "Gemma2ForCausalLM", SMALL | GROUPED | {"sliding_window": 8, "attn_implementation": "eager"}),
    "gemma3": ("Gemma3TextConfig", "Gemma3ForCausalLM", SMALL | GROUPED | {"sliding_window": 8, "layer_types": ["sliding_attention", "full_attention"]}),
}


def text_model(name: str) -> nn.Module:
    import transformers

    config, model, options = CONFIGS[name]
    module = getattr(transformers, model)(getattr(transformers, config)(**options))
    return randomize(module.float())


def tokens(lengths: dict[str, int]) -> dict[str, torch.Tensor]:
    batch, total = lengths[BATCH], lengths[SEQUENCE] + lengths.get(PAST, 0)
    mask = torch.ones(batch, total, dtype=torch.int64)
    if batch > 1 and total > 2:
        mask[1, : total // 3] = 0  # a shorter prompt, padded on the left
    return {"input_ids": torch.randint(1, 160, (batch, lengths[SEQUENCE])), "attention_mask": mask}


def text_encoder(name: str) -> Model:
    return Model(name, "encoder", lambda: TextEncoder(text_model(name)).eval(), tokens,
                 {"input_ids": {0: BATCH, 1: SEQUENCE}, "attention_mask": {0: BATCH, 1: SEQUENCE}},
                 [{BATCH: 2, SEQUENCE: 12}, {BATCH: 1, SEQUENCE: 7}, {BATCH: 3, SEQUENCE: 37}])


def decoder(name: str) -> Model:
    return Model(name, "decoder", lambda: Prefill(text_model(name)).eval(), tokens,
                 {"input_ids": {0: BATCH, 1: SEQUENCE}, "attention_mask": {0: BATCH, 1: SEQUENCE}},
                 [{BATCH: 2, SEQUENCE: 12}, {BATCH: 1, SEQUENCE: 5}, {BATCH: 3, SEQUENCE: 29}])


def decoder_with_cache(name: str) -> Model:
    def example(lengths: dict[str, int]) -> dict[str, Any]:
        shape = (lengths[BATCH], 2, lengths[PAST], 16)
        return tokens(lengths) | {"past": [torch.randn(shape) for _ in range(4)]}

    return Model(name + "_kv", "decoder", lambda: WithCache(text_model(name)).eval(), example,
                 {"input_ids": {0: BATCH, 1: SEQUENCE}, "attention_mask": {0: BATCH, 1: "past + sequence"}, "past": {0: BATCH, 2: PAST}},
                 [{BATCH: 2, SEQUENCE: 3, PAST: 9}, {BATCH: 1, SEQUENCE: 1, PAST: 10}, {BATCH: 1, SEQUENCE: 1, PAST: 11},
                  {BATCH: 3, SEQUENCE: 7, PAST: 23}])


def vit() -> Model:
    def build() -> nn.Module:
        from transformers import ViTConfig, ViTModel

        config = ViTConfig(hidden_size=64, num_hidden_layers=2, num_attention_heads=4, intermediate_size=128, image_size=64, patch_size=16)
        return Picture(randomize(ViTModel(config))).eval()

    return Model("vit", "encoder", build, lambda n: {"pixel_values": torch.randn(n[BATCH], 3, 64, 64)}, {"pixel_values": {0: BATCH}},
                 [{BATCH: 2}, {BATCH: 1}, {BATCH: 5}])


def whisper() -> Model:
    def build() -> nn.Module:
        from transformers import WhisperConfig, WhisperModel

        config = WhisperConfig(d_model=64, encoder_layers=2, encoder_attention_heads=4, decoder_layers=1, decoder_attention_heads=4,
                               encoder_ffn_dim=128, decoder_ffn_dim=128, max_source_positions=50, vocab_size=160,
                               pad_token_id=0, bos_token_id=1, eos_token_id=2, decoder_start_token_id=1)
        return Sound(randomize(WhisperModel(config).encoder)).eval()

    return Model("whisper_encoder", "encoder", build, lambda n: {"input_features": torch.randn(n[BATCH], 80, 100)},
                 {"input_features": {0: BATCH}}, [{BATCH: 2}, {BATCH: 1}, {BATCH: 3}])


DECODERS = ("llama", "qwen2", "qwen3", "mistral", "gemma2", "gemma3")
MODELS: dict[str, Model] = {model.name: model for model in [
    vision("resnet18", 224), vision("resnet50", 96), vision("mobilenet_v2", 224), vision("mobilenet_v3_small", 96),
    vision("efficientnet_b0", 96), vision("shufflenet_v2_x1_0", 96), vision("squeezenet1_1", 96), vision("densenet121", 64),
    vision("convnext_tiny", 64), vision("swin_t", 64), vision("vit_b_16", 224, batches=(2, 1, 3)), detector(), deeplab(),
    text_encoder("bert"), text_encoder("distilbert"), text_encoder("t5_encoder"), vit(), whisper(), decoder("gpt2"),
    *(decoder(name) for name in DECODERS), *(decoder_with_cache(name) for name in DECODERS),
]}
