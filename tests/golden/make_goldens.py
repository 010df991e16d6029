"""Makes the golden models and outputs of the llama family with Hugging Face transformers. See README.md.

    python make_goldens.py            writes <config>.gguf and <config>.json next to this script
    python make_goldens.py --check    makes them in a temporary folder and compares with the committed ones

Each output is checked against numpy_llama.py, which reads the GGUF that was just written, before it is kept.
"""

import argparse
import dataclasses
import json
import pathlib
import platform
import tempfile

import gguf
import numpy as np
import torch
import transformers
from transformers import LlamaConfig, LlamaForCausalLM

import numpy_llama

HERE = pathlib.Path(__file__).resolve().parent
VOCAB_SIZE = 288
N_PROMPT_TOKENS = 48
N_GREEDY_TOKENS = 16
EARLY_POSITION = 5
RMS_EPS = 1e-5
NUMPY_TOLERANCE = 1e-4  # numpy in float64 against transformers in float32
MIN_MARGIN = 0.05  # between the two best logits of every greedy step, so that rounding cannot flip a token
MIN_CHANGE = 0.05  # what leaving out a RoPE scaling must change in the logits
HF_ACTIVATION = {"silu": "silu", "relu": "relu", "relu_sqr": "relu2"}


@dataclasses.dataclass
class Golden:
    name: str
    seed: int
    activation: str = "silu"
    tied: bool = True
    d_model: int = 64
    n_layers: int = 2
    d_ff: int = 48
    n_heads: int = 4
    n_kv_heads: int = 1
    head_dim: int = 16
    rot_dim: int = 0  # 0: head_dim
    rope_theta: float = 10000.0
    max_seq_len: int = 128
    rope_scaling: dict | None = None  # as transformers spells it


GOLDENS = [
    Golden("mha_silu_tied", seed=21, d_ff=96, n_kv_heads=4),
    Golden("gqa_relu", seed=2, activation="relu", tied=False, d_ff=96, n_kv_heads=2),
    Golden("mqa_relu_sqr", seed=53, activation="relu_sqr", tied=False, d_ff=96),
    Golden(
        "rope_linear", seed=754, d_model=32, n_heads=2,
        rope_scaling={"rope_type": "linear", "factor": 4.0},
    ),
    Golden(
        # transformers takes the factor from max_position_embeddings / original: 128 / 32 = 4 agrees with "factor".
        "rope_yarn", seed=95, n_heads=2, head_dim=32,
        rope_scaling={"rope_type": "yarn", "factor": 4.0, "original_max_position_embeddings": 32},
    ),
    Golden(
        "rope_llama3", seed=56, n_heads=2, head_dim=32, max_seq_len=256,
        rope_scaling={
            "rope_type": "llama3", "factor": 8.0, "low_freq_factor": 1.0, "high_freq_factor": 4.0,
            "original_max_position_embeddings": 32,
        },
    ),
    Golden("wide_heads", seed=57, head_dim=32),
    Golden("rope_theta_500k", seed=58, d_model=32, n_heads=2, rope_theta=500000.0),
    Golden("rope_partial", seed=9, d_model=32, d_ff=32, n_heads=2, rot_dim=8),
]


# ---- the model in transformers ----


def random_weight(name, shape, golden, rng):
    """Scales that keep the residual stream near 1 and the logits at a few units; attention far from uniform."""
    values = rng.standard_normal(shape)
    if name.endswith("norm.weight"):
        return 1.0 + 0.2 * values
    if name == "model.embed_tokens.weight":
        return values * (0.15 if golden.tied else 1.0)
    gain = {"q_proj": 1.5, "k_proj": 1.5, "lm_head": 2.0, "down_proj": 1.5}.get(name.split(".")[-2], 1.0)
    return values * gain / np.sqrt(shape[-1])


def build_model(golden):
    config = LlamaConfig(
        vocab_size=VOCAB_SIZE,
        hidden_size=golden.d_model,
        intermediate_size=golden.d_ff,
        num_hidden_layers=golden.n_layers,
        num_attention_heads=golden.n_heads,
        num_key_value_heads=golden.n_kv_heads,
        head_dim=golden.head_dim,
        hidden_act=HF_ACTIVATION[golden.activation],
        max_position_embeddings=golden.max_seq_len,
        rms_norm_eps=RMS_EPS,
        rope_theta=golden.rope_theta,
        rope_scaling=golden.rope_scaling,
        tie_word_embeddings=golden.tied,
        bos_token_id=1,
        eos_token_id=None,  # generation never stops early
        pad_token_id=0,
        attn_implementation="eager",
        torch_dtype=torch.float32,
    )
    model = LlamaForCausalLM(config).eval()
    assert model.config._attn_implementation == "eager"
    rng = np.random.default_rng(golden.seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            weight = random_weight(name, tuple(parameter.shape), golden, rng).astype(np.float32)
            parameter.copy_(torch.from_numpy(weight))
    if golden.rot_dim:
        # LlamaForCausalLM has no partial rotary embedding; a pair of frequency 0 stays where it is, which is the same.
        frequency = golden.rope_theta ** (-torch.arange(0, golden.rot_dim, 2, dtype=torch.float32) / golden.rot_dim)
        rope = model.model.rotary_emb
        rope.inv_freq = torch.nn.functional.pad(frequency, (0, golden.head_dim // 2 - frequency.numel()))
        rope.original_inv_freq = rope.inv_freq
    return model


def forward(model, ids):
    """Returns logits (n_tokens, vocab_size) and the output of each decoder layer, (n_tokens, d_model)."""
    hidden = []
    hooks = [
        layer.register_forward_hook(lambda _module, _args, output: hidden.append(output[0][0].numpy().copy()))
        for layer in model.model.layers
    ]
    with torch.no_grad():
        logits = model(torch.tensor([ids]), use_cache=False).logits[0].numpy()
    for hook in hooks:
        hook.remove()
    assert logits.dtype == np.float32
    return logits, hidden


def greedy(model, ids):
    """Greedy tokens by whole forward passes, and the margins of the two best logits; generate() must agree."""
    tokens, margins = list(ids), []
    for _ in range(N_GREEDY_TOKENS):
        logits = forward(model, tokens)[0][-1]
        second, best = np.argsort(logits)[-2:]
        tokens.append(int(best))
        margins.append(float(logits[best]) - float(logits[second]))
    with torch.no_grad():
        generated = model.generate(
            torch.tensor([ids]), attention_mask=torch.ones(1, len(ids), dtype=torch.long),
            max_new_tokens=N_GREEDY_TOKENS, do_sample=False,
        )
    assert generated[0].tolist() == tokens, "generate() with the KV cache gives other tokens"
    return tokens[len(ids) :], margins


# ---- the GGUF, with the conventions of llama.cpp's converter ----


def permute_to_adjacent_pairs(weight, n_heads):
    """transformers rotates dims (i, i + head_dim / 2) of a head; GGUF's llama rotates (2i, 2i + 1)."""
    n_rows, n_columns = weight.shape
    return weight.reshape(n_heads, 2, n_rows // n_heads // 2, n_columns).swapaxes(1, 2).reshape(weight.shape)


def llama3_frequency_divisors(golden):
    """As in llama.cpp's converter: `rope_freqs.weight`, (head_dim / 2)."""
    scaling = golden.rope_scaling
    context, factor = scaling["original_max_position_embeddings"], scaling["factor"]
    low, high = scaling["low_freq_factor"], scaling["high_freq_factor"]
    divisors = []
    for pair in range(golden.head_dim // 2):
        wavelength = 2 * np.pi * golden.rope_theta ** (2 * pair / golden.head_dim)
        if wavelength < context / high:
            divisors.append(1.0)
        elif wavelength > context / low:
            divisors.append(factor)
        else:
            smooth = (context / wavelength - low) / (high - low)
            divisors.append(1.0 / ((1.0 - smooth) / factor + smooth))
    return np.array(divisors, dtype=np.float32)


def add_vocabulary(writer):
    """A small SentencePiece BPE vocabulary with byte fallback: 3 control tokens, 256 bytes, 29 pieces."""
    pieces = ["\u2581", *"etaoinshrdlu", "\u2581t", "he", "\u2581the", "in", "er", "an", "\u2581a", "re", "on", "at"]
    pieces += ["nd", "\u2581and", "ed", "\u2581s", "ing", "es"]
    tokens = ["<unk>", "<s>", "</s>"] + [f"<0x{byte:02X}>" for byte in range(256)] + pieces
    assert len(tokens) == VOCAB_SIZE == len(set(tokens))
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    types += [gguf.TokenType.BYTE] * 256 + [gguf.TokenType.NORMAL] * len(pieces)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores([0.0] * 259 + [-float(i) for i in range(len(pieces))])
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_add_space_prefix(True)


def add_config(writer, golden):
    writer.add_name(f"golden {golden.name}")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_vocab_size(VOCAB_SIZE)
    writer.add_context_length(golden.max_seq_len)
    writer.add_embedding_length(golden.d_model)
    writer.add_block_count(golden.n_layers)
    writer.add_feed_forward_length(golden.d_ff)
    writer.add_head_count(golden.n_heads)
    writer.add_head_count_kv(golden.n_kv_heads)
    writer.add_layer_norm_rms_eps(RMS_EPS)
    writer.add_rope_dimension_count(golden.rot_dim or golden.head_dim)
    writer.add_rope_freq_base(golden.rope_theta)
    writer.add_string("llama.hidden_activation", golden.activation)
    if golden.head_dim * golden.n_heads != golden.d_model:
        writer.add_key_length(golden.head_dim)
        writer.add_value_length(golden.head_dim)
    kind = golden.rope_scaling["rope_type"] if golden.rope_scaling else None
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(golden.rope_scaling["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(golden.rope_scaling["factor"])
        writer.add_rope_scaling_orig_ctx_len(golden.rope_scaling["original_max_position_embeddings"])
    elif kind == "llama3":
        writer.add_tensor("rope_freqs.weight", llama3_frequency_divisors(golden))


def write_gguf(path, golden, model):
    writer = gguf.GGUFWriter(path, "llama")
    add_config(writer, golden)
    add_vocabulary(writer)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, golden.n_layers)
    for hf_name, parameter in model.named_parameters():
        weight = parameter.detach().numpy()
        if hf_name.endswith("q_proj.weight"):
            weight = permute_to_adjacent_pairs(weight, golden.n_heads)
        elif hf_name.endswith("k_proj.weight"):
            weight = permute_to_adjacent_pairs(weight, golden.n_kv_heads)
        writer.add_tensor(names.get_name(hf_name, try_suffixes=(".weight",)), np.ascontiguousarray(weight))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


# ---- the golden file ----


def rounded(values):
    return [float(f"{value:.7g}") for value in np.asarray(values).ravel()]


def make(golden, folder):
    model = build_model(golden)
    # Ordinary tokens only, after the BOS: nothing that a tokenizer or a stop rule treats specially.
    ids = [1] + np.random.default_rng(golden.seed + 1000).integers(3, VOCAB_SIZE, N_PROMPT_TOKENS - 1).tolist()
    logits, hidden = forward(model, ids)
    greedy_ids, margins = greedy(model, ids)
    assert min(margins) >= MIN_MARGIN, f"{golden.name}: margin {min(margins):.3g}; take another seed"
    assert min(greedy_ids) > 2, f"{golden.name}: a control token among the greedy ones; take another seed"

    path = folder / f"{golden.name}.gguf"
    write_gguf(path, golden, model)
    prompt = {
        "ids": ids,
        "greedy_ids": greedy_ids,
        "greedy_margins": rounded(margins),
        "logits_last": rounded(logits[-1]),
        "early_position": EARLY_POSITION,
        "logits_early": rounded(logits[EARLY_POSITION]),
        "hidden_last_token_per_layer": [rounded(h[-1]) for h in hidden],
    }
    diffs = check_with_numpy(golden, path, prompt)
    contents = {
        "model": path.name,
        "precision": "float32 arithmetic on float32 weights",
        "made_by": f"transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, make_goldens.py",
        "config": dataclasses.asdict(golden),
        "prompts": [prompt],
    }
    with open(folder / f"{golden.name}.json", "w", encoding="utf-8") as file:
        json.dump(contents, file)
        file.write("\n")
    print(
        f"{golden.name}: {path.stat().st_size} bytes; rms of hidden {[round(float(np.std(h[-1])), 2) for h in hidden]}, "
        f"of logits {np.std(logits[-1]):.2f}; smallest margin {min(margins):.3f}, {len(set(greedy_ids))} distinct tokens\n  "
        + ", ".join(f"{name} {diff:.2g}" for name, diff in diffs.items())
    )


def check_with_numpy(golden, path, prompt):
    diffs, same_tokens = numpy_llama.compare(numpy_llama.NumpyLlama(path), prompt)
    assert same_tokens, f"{golden.name}: numpy gives other greedy tokens"
    for name, diff in diffs.items():
        assert diff < NUMPY_TOLERANCE, f"{golden.name}: {name} of numpy differs by {diff}"
    if golden.rope_scaling:
        broken = {"without scaling": {"drop_rope_scaling": True}}
        if golden.rope_scaling["rope_type"] == "yarn":
            broken["without mscale"] = {"drop_mscale": True}
        for name, options in broken.items():
            changed = numpy_llama.compare(numpy_llama.NumpyLlama(path, **options), prompt)[0]["logits_last"]
            assert changed > MIN_CHANGE, f"{golden.name}: {name} changes logits by {changed} only"
            diffs[name] = changed
    return diffs


def same_values(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_values(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same_values(x, y) for x, y in zip(a, b))
    if isinstance(a, float):
        return abs(a - b) < 1e-4  # another CPU sums in another order
    return a == b


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    print(f"Python {platform.python_version()}, numpy {np.__version__}")
    torch.set_num_threads(1)
    if not check:
        for golden in GOLDENS:
            make(golden, HERE)
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        for golden in GOLDENS:
            make(golden, folder)
            for suffix in (".gguf", ".json"):
                new, old = folder / (golden.name + suffix), HERE / (golden.name + suffix)
                if suffix == ".gguf":
                    assert new.read_bytes() == old.read_bytes(), f"{old.name} differs"
                else:
                    assert same_values(json.loads(new.read_text()), json.loads(old.read_text())), f"{old.name} differs"
    print("every committed file is as made")


if __name__ == "__main__":
    main()
