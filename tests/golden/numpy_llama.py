"""The llama-family forward pass in plain numpy, straight from a GGUF file.

It follows the conventions of llama.cpp that the runtime follows too: adjacent-pair RoPE, `rope_freqs.weight` as
divisors of the frequencies, linear and YaRN scaling from `llama.rope.scaling.*`. All arithmetic is float64, so the
difference from a float32 implementation is that implementation's rounding.

    python numpy_llama.py MODEL.gguf GOLDEN.json     compares a model with a golden file
"""

import json
import math
import sys

import gguf
import numpy as np


def read_gguf(path):
    """Returns (metadata as a dict, tensors as a dict of float64 arrays in row-major (n_out, n_in) shape)."""
    reader = gguf.GGUFReader(path)
    metadata = {name: field.contents() for name, field in reader.fields.items()}
    tensors = {}
    for tensor in reader.tensors:
        if tensor.tensor_type not in (gguf.GGMLQuantizationType.F32, gguf.GGMLQuantizationType.F16):
            raise ValueError(f"{path}: {tensor.name}: expected F32 or F16, found {tensor.tensor_type.name}")
        tensors[tensor.name] = tensor.data.astype(np.float64)
    return metadata, tensors


def silu(x):
    return x / (1.0 + np.exp(-x))


def relu(x):
    return np.maximum(x, 0.0)


ACTIVATIONS = {"silu": silu, "relu": relu, "reglu": relu, "relu_sqr": lambda x: relu(x) ** 2}


class NumpyLlama:
    # drop_rope_scaling and drop_mscale break the model on purpose: they show that a golden would notice.
    def __init__(self, path, drop_rope_scaling=False, drop_mscale=False):
        self.metadata, self.tensors = read_gguf(path)
        assert self.key("general.architecture", prefix="") == "llama"
        self.n_layers = self.key("block_count")
        self.n_heads = self.key("attention.head_count")
        self.n_kv_heads = self.key("attention.head_count_kv", default=self.n_heads)
        self.head_dim = self.key("attention.key_length", default=self.key("embedding_length") // self.n_heads)
        self.rot_dim = self.key("rope.dimension_count", default=self.head_dim)
        self.rms_eps = self.key("attention.layer_norm_rms_epsilon")
        self.activation = ACTIVATIONS[self.key("hidden_activation", default="silu")]
        self.frequencies, self.mscale = self.rope_frequencies(drop_rope_scaling)
        if drop_mscale:
            self.mscale = 1.0

    def key(self, name, default=None, prefix="llama."):
        value = self.metadata.get(prefix + name, default)
        if value is None:
            raise KeyError(prefix + name)
        return value

    def rope_frequencies(self, drop_scaling):
        """Angle per position of each pair, (rot_dim / 2), and the factor on cos and sin."""
        base = self.key("rope.freq_base", default=10000.0)
        pair = np.arange(self.rot_dim // 2)
        frequencies = base ** (-2.0 * pair / self.rot_dim)
        if drop_scaling:
            return frequencies, 1.0
        if "rope_freqs.weight" in self.tensors:
            frequencies = frequencies / self.tensors["rope_freqs.weight"]
        kind = self.key("rope.scaling.type", default="none")
        if kind == "none":
            return frequencies, 1.0
        factor = self.key("rope.scaling.factor")
        if kind == "linear":
            return frequencies / factor, 1.0
        assert kind == "yarn", kind
        # YaRN (arXiv:2309.00071): fast pairs keep their frequency, slow ones are interpolated, a ramp between.
        context = self.key("rope.scaling.original_context_length")

        def pair_of(n_rotations):
            return self.rot_dim * math.log(context / (n_rotations * 2 * math.pi)) / (2 * math.log(base))

        low = max(0, math.floor(pair_of(32)))
        high = min(self.rot_dim - 1, math.ceil(pair_of(1)))
        interpolated = np.clip((pair - low) / max(0.001, high - low), 0.0, 1.0)
        mixed = frequencies * (1.0 - interpolated) + frequencies / factor * interpolated
        return mixed, 0.1 * math.log(factor) + 1.0

    def rope(self, x):
        """x: (n_tokens, heads, head_dim). Rotates pairs (2i, 2i + 1) of the first rot_dim dimensions."""
        angle = np.arange(x.shape[0])[:, None, None] * self.frequencies
        cos, sin = np.cos(angle) * self.mscale, np.sin(angle) * self.mscale
        even, odd = x[..., 0 : self.rot_dim : 2], x[..., 1 : self.rot_dim : 2]
        y = x.copy()
        y[..., 0 : self.rot_dim : 2] = even * cos - odd * sin
        y[..., 1 : self.rot_dim : 2] = even * sin + odd * cos
        return y

    def norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.rms_eps) * self.tensors[name]

    def attention(self, x, block):
        n_tokens = x.shape[0]
        q = (x @ self.tensors[block + "attn_q.weight"].T).reshape(n_tokens, self.n_heads, self.head_dim)
        k = (x @ self.tensors[block + "attn_k.weight"].T).reshape(n_tokens, self.n_kv_heads, self.head_dim)
        v = (x @ self.tensors[block + "attn_v.weight"].T).reshape(n_tokens, self.n_kv_heads, -1)
        group = self.n_heads // self.n_kv_heads
        k, v = np.repeat(self.rope(k), group, axis=1), np.repeat(v, group, axis=1)
        scores = np.einsum("ihd,jhd->hij", self.rope(q), k) / math.sqrt(self.head_dim)
        scores[:, np.triu(np.ones((n_tokens, n_tokens), dtype=bool), k=1)] = -np.inf
        weights = np.exp(scores - scores.max(axis=-1, keepdims=True))
        weights /= weights.sum(axis=-1, keepdims=True)
        heads = np.einsum("hij,jhd->ihd", weights, v).reshape(n_tokens, -1)
        return heads @ self.tensors[block + "attn_output.weight"].T

    def ffn(self, x, block):
        gate = self.activation(x @ self.tensors[block + "ffn_gate.weight"].T)
        return (gate * (x @ self.tensors[block + "ffn_up.weight"].T)) @ self.tensors[block + "ffn_down.weight"].T

    def forward(self, ids):
        """Returns logits (n_tokens, vocab_size) and the residual stream after each layer, (n_tokens, d_model) each."""
        x = self.tensors["token_embd.weight"][np.asarray(ids)]
        hidden = []
        for layer in range(self.n_layers):
            block = f"blk.{layer}."
            x = x + self.attention(self.norm(x, block + "attn_norm.weight"), block)
            x = x + self.ffn(self.norm(x, block + "ffn_norm.weight"), block)
            hidden.append(x)
        output = self.tensors.get("output.weight", self.tensors["token_embd.weight"])
        return self.norm(x, "output_norm.weight") @ output.T, hidden

    def greedy(self, ids, n_tokens):
        ids = list(ids)
        for _ in range(n_tokens):
            ids.append(int(np.argmax(self.forward(ids)[0][-1])))
        return ids[-n_tokens:]


def compare(model, prompt):
    """Largest absolute differences from one prompt of a golden file, and whether the greedy tokens are the same."""
    logits, hidden = model.forward(prompt["ids"])
    diffs = {
        "logits_last": float(np.max(np.abs(logits[-1] - prompt["logits_last"]))),
        "hidden_last_token_per_layer": max(
            float(np.max(np.abs(h[-1] - g))) for h, g in zip(hidden, prompt["hidden_last_token_per_layer"], strict=True)
        ),
    }
    if "logits_early" in prompt:
        early = logits[prompt["early_position"]]
        diffs["logits_early"] = float(np.max(np.abs(early - prompt["logits_early"])))
    return diffs, model.greedy(prompt["ids"], len(prompt["greedy_ids"])) == prompt["greedy_ids"]


def main():
    if len(sys.argv) != 3:
        sys.exit(__doc__)
    model = NumpyLlama(sys.argv[1])
    with open(sys.argv[2], encoding="utf-8") as file:
        golden = json.load(file)
    all_same = True
    for prompt in golden["prompts"]:
        diffs, same = compare(model, prompt)
        all_same = all_same and same
        print(", ".join(f"{name} {diff:.2e}" for name, diff in diffs.items()), "greedy same" if same else "GREEDY DIFFERS")
    sys.exit(0 if all_same else 1)


if __name__ == "__main__":
    main()
