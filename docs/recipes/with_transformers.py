"""Hugging Face Trainer: `compute_loss_func` with logits (B, T, V), padding of -100 and gradient accumulation.

The task: tag each character of a text as vowel, consonant or other, when 40 % of the tags are wrong.
Needs transformers, accelerate, scikit-learn.
"""

import tempfile

import numpy as np
import torch
from sklearn.datasets import load_breast_cancer
from torch import Tensor
from transformers import BertConfig, BertForTokenClassification, Trainer, TrainingArguments

from nls import corrupt, gls_loss, r_opt, symmetric

LENGTH, NOISE = 32, 0.4
RATE = r_opt(NOISE, 3)


def compute_loss(outputs: dict, labels: Tensor, num_items_in_batch: Tensor | int | None = None) -> Tensor:
    """The Trainer passes the number of labels that count in all batches of one step: divide the sum by it."""
    logits, labels = outputs["logits"].flatten(0, 1), labels.flatten()  # (B T, V): faster than (B, V, T)
    if num_items_in_batch is None:  # in evaluation
        return gls_loss(logits, labels, RATE)
    return gls_loss(logits, labels, RATE, reduction="sum") / num_items_in_batch


text = np.frombuffer(load_breast_cancer().DESCR.lower().encode("ascii", "ignore"), dtype=np.uint8).astype(np.int64)
tags = np.array([0 if chr(c) in "aeiou" else 1 if chr(c).isalpha() else 2 for c in text])
noisy = corrupt(tags, symmetric(3, NOISE), seed=0)
missing = -len(text) % LENGTH
text = np.pad(text, (0, missing)).reshape(-1, LENGTH)
noisy = np.pad(noisy, (0, missing), constant_values=-100).reshape(-1, LENGTH)
rows = [
    {"input_ids": t, "attention_mask": (t > 0).astype(np.int64), "labels": y} for t, y in zip(text, noisy, strict=True)
]

torch.manual_seed(0)
sizes = {"hidden_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2, "intermediate_size": 64}
model = BertForTokenClassification(BertConfig(vocab_size=128, num_labels=3, **sizes))
with tempfile.TemporaryDirectory() as folder:
    options = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
    arguments = TrainingArguments(
        folder, num_train_epochs=6, learning_rate=5e-3, gradient_accumulation_steps=2, use_cpu=True, **options
    )
    Trainer(model, arguments, train_dataset=rows, compute_loss_func=compute_loss).train()
with torch.no_grad():
    found = model.eval()(torch.from_numpy(text)).logits.argmax(-1).flatten()[: len(tags)].numpy()
print(f"clean accuracy on the training text: {(found == tags).mean():.3f}")
