"""Families that transformers does not have (their code comes with the checkpoints), written here from their papers and
published configurations: MiniCPM and MiniCPM-S (arXiv:2404.06395, 2402.13516) and Bamboo (arXiv:2406.05955).

No other implementation stands behind these goldens: they check the runtime against a second, independent one in plain torch.
Every pass is a whole one, without a cache.
"""

import math

import torch
from torch import nn
from transformers import GenerationMixin, PretrainedConfig, PreTrainedModel
from transformers.modeling_outputs import CausalLMOutput


class MiniCPMConfig(PretrainedConfig):
    model_type = "minicpm"


class BambooConfig(PretrainedConfig):
    model_type = "bamboo"


class RmsNorm(nn.Module):
    def __init__(self, width, eps):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(width))
        self.eps = eps

    def forward(self, x):
        return self.weight * x / torch.sqrt(x.square().mean(-1, keepdim=True) + self.eps)


def turned(x, theta):
    """Rotates (batch, heads, positions, width) in halves: element i with i + width / 2."""
    n, width = x.shape[-2:]
    half = width // 2
    frequencies = theta ** (-torch.arange(half, dtype=torch.float32) / half)
    angles = torch.arange(n, dtype=torch.float32)[:, None] * frequencies
    a, b = x[..., :half], x[..., half:]
    return torch.cat([a * angles.cos() - b * angles.sin(), b * angles.cos() + a * angles.sin()], -1)


class Attention(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        width = config.hidden_size // config.num_attention_heads
        self.q_proj = nn.Linear(config.hidden_size, config.num_attention_heads * width, bias=False)
        self.k_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * width, bias=False)
        self.v_proj = nn.Linear(config.hidden_size, config.num_key_value_heads * width, bias=False)
        self.o_proj = nn.Linear(config.num_attention_heads * width, config.hidden_size, bias=False)

    def forward(self, x):
        c = self.config
        batch, n, _ = x.shape
        width = c.hidden_size // c.num_attention_heads
        q, k, v = (proj(x).view(batch, n, -1, width).transpose(1, 2) for proj in (self.q_proj, self.k_proj, self.v_proj))
        shared = c.num_attention_heads // c.num_key_value_heads
        q, k = turned(q, c.rope_theta), turned(k, c.rope_theta).repeat_interleave(shared, 1)
        scores = q @ k.transpose(-1, -2) / math.sqrt(width)
        distance = torch.arange(n)[:, None] - torch.arange(n)
        seen = distance >= 0
        if getattr(c, "sliding_window", None):
            seen = seen & (distance < c.sliding_window)
        weights = scores.masked_fill(~seen, -math.inf).softmax(-1)
        return self.o_proj((weights @ v.repeat_interleave(shared, 1)).transpose(1, 2).reshape(batch, n, -1))


def activation(config, x):
    if config.hidden_act == "silu":
        return x * x.sigmoid()
    threshold = config.hidden_act_param if config.hidden_act == "fatrelu" else 0.0
    return torch.where(x >= threshold, x, 0.0).clamp(min=0.0)


class Mlp(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.config = config
        self.gate_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.up_proj = nn.Linear(config.hidden_size, config.intermediate_size, bias=False)
        self.down_proj = nn.Linear(config.intermediate_size, config.hidden_size, bias=False)

    def forward(self, x):
        up = self.up_proj(x)
        if self.config.model_type == "bamboo":  # of both
            up = activation(self.config, up)
        return self.down_proj(activation(self.config, self.gate_proj(x)) * up)


class Layer(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.input_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.self_attn = Attention(config)
        self.post_attention_layernorm = RmsNorm(config.hidden_size, config.rms_norm_eps)
        self.mlp = Mlp(config)
        depth = getattr(config, "scale_depth", None)
        self.added = depth / math.sqrt(config.num_hidden_layers) if depth else 1.0

    def forward(self, x):
        x = x + self.added * self.self_attn(self.input_layernorm(x))
        return x + self.added * self.mlp(self.post_attention_layernorm(x))


class Stack(nn.Module):
    def __init__(self, config):
        super().__init__()
        self.embed_tokens = nn.Embedding(config.vocab_size, config.hidden_size)
        self.layers = nn.ModuleList(Layer(config) for _ in range(config.num_hidden_layers))
        self.norm = RmsNorm(config.hidden_size, config.rms_norm_eps)


class OwnModel(PreTrainedModel, GenerationMixin):
    """Saving, loading and generating are transformers'; the arithmetic is all here."""

    base_model_prefix = "model"

    def __init__(self, config):
        super().__init__(config)
        self.model = Stack(config)
        self.lm_head = nn.Linear(config.hidden_size, config.vocab_size, bias=False)
        self.post_init()

    def get_input_embeddings(self):
        return self.model.embed_tokens

    def get_output_embeddings(self):
        return self.lm_head

    def forward(self, input_ids, attention_mask=None, **_ignored):
        c = self.config
        x = self.model.embed_tokens(input_ids) * getattr(c, "scale_emb", 1.0)
        for layer in self.model.layers:
            x = layer(x)
        x = self.model.norm(x)
        if getattr(c, "dim_model_base", None):
            x = x / (c.hidden_size / c.dim_model_base)
        return CausalLMOutput(logits=self.lm_head(x))

    def prepare_inputs_for_generation(self, input_ids, attention_mask=None, **_ignored):
        return {"input_ids": input_ids}


class MiniCPMForCausalLM(OwnModel):
    config_class = MiniCPMConfig
    _tied_weights_keys = ["lm_head.weight"]


class BambooForCausalLM(OwnModel):
    config_class = BambooConfig
