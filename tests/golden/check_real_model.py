"""Compares a real Llama model in a GGUF file with what Hugging Face transformers computes of the same weights.

The weights are dequantised to float32 (package gguf) and given to FlaxLlamaForCausalLM, which runs everything in
float32. Two comparisons:

  greedy      the program continues prompts; each of its tokens should be the one that transformers finds likeliest
              behind the same tokens. Others are counted and printed with how much likelier transformers' choice is.
  perplexity  over a text, in the windows of `thermocline perplexity`: a window's tokens stand behind BOS.

Ids come from `thermocline tokenize`, so that this is about the model and not about the tokenizer, which has tests of
its own. Usage: check_real_model.py PROGRAM MODEL TEXT [BITS...]: with activations of so many bits (8). Requires
requirements_real_model.txt.
"""

import json
import subprocess
import sys

import gguf
import numpy as np

import jax
import jax.numpy as jnp
from transformers import LlamaConfig
from transformers.models.llama import modeling_flax_llama

CONTEXT = 512  # of perplexity, and what prompts are padded to
N_TOKENS = 32
PROMPTS = [
    "Once upon a time", "The capital of France is", "def fibonacci(n):\n", "Water boils at",
    "The first president of the", "In the beginning", "To be or not to be,", "The quick brown fox",
    "A recipe for pancakes:\n", "My favourite book is",
    "The theory of evolution", "Dear Sir or Madam,", "1, 2, 3, 4,", "The sun is a", "She opened the door and",
    "import numpy as np\n", "Photosynthesis is the process", "The stock market", "He said that the ship",
    "There are three kinds of",
]


def unpermute(weight, n_heads):
    """From llama.cpp's adjacent pairs of rotated values to transformers' halves."""
    rows, cols = weight.shape
    return weight.reshape(n_heads, rows // n_heads // 2, 2, cols).swapaxes(1, 2).reshape(rows, cols)


def load(path):
    reader = gguf.GGUFReader(path)
    key = {name: field.contents() for name, field in reader.fields.items()
           if name.startswith(("llama.", "tokenizer.ggml.bos"))}
    tensors = {t.name: gguf.quants.dequantize(t.data, t.tensor_type).astype(np.float32) for t in reader.tensors}
    n_heads, n_kv_heads = key["llama.attention.head_count"], key["llama.attention.head_count_kv"]
    config = LlamaConfig(
        vocab_size=key["llama.vocab_size"], hidden_size=key["llama.embedding_length"],
        intermediate_size=key["llama.feed_forward_length"], num_hidden_layers=key["llama.block_count"],
        num_attention_heads=n_heads, num_key_value_heads=n_kv_heads, max_position_embeddings=CONTEXT,
        rms_norm_eps=key["llama.attention.layer_norm_rms_epsilon"], hidden_act="silu", attention_bias=False)
    base = key["llama.rope.freq_base"]

    def positions(n_positions, dim):
        """As in transformers, which takes 10000 for the base here whatever the config says."""
        angles = np.outer(np.arange(n_positions), base ** -(np.arange(0, dim, 2) / dim)).astype(np.float32)
        angles = np.concatenate((angles, angles), axis=-1)[:, None, :]
        return jnp.array(np.concatenate((np.sin(angles), np.cos(angles)), axis=-1))

    modeling_flax_llama.create_sinusoidal_positions = positions

    def dense(name, heads=None):
        weight = tensors[name + ".weight"]
        return {"kernel": jnp.array((unpermute(weight, heads) if heads else weight).T)}

    layers = {}
    for i in range(config.num_hidden_layers):
        layer = f"blk.{i}."
        layers[str(i)] = {
            "input_layernorm": {"weight": jnp.array(tensors[layer + "attn_norm.weight"])},
            "post_attention_layernorm": {"weight": jnp.array(tensors[layer + "ffn_norm.weight"])},
            "self_attn": {"q_proj": dense(layer + "attn_q", n_heads), "k_proj": dense(layer + "attn_k", n_kv_heads),
                          "v_proj": dense(layer + "attn_v"), "o_proj": dense(layer + "attn_output")},
            "mlp": {"gate_proj": dense(layer + "ffn_gate"), "up_proj": dense(layer + "ffn_up"),
                    "down_proj": dense(layer + "ffn_down")},
        }
    embedding = jnp.array(tensors["token_embd.weight"])
    head = tensors.get("output.weight")
    params = {"model": {"embed_tokens": {"embedding": embedding}, "layers": layers,
                        "norm": {"weight": jnp.array(tensors["output_norm.weight"])}},
              "lm_head": {"kernel": embedding.T if head is None else jnp.array(head.T)}}
    module = modeling_flax_llama.FlaxLlamaForCausalLMModule(config)

    @jax.jit
    def log_probabilities(ids):
        mask, at = jnp.ones_like(ids), jnp.arange(ids.shape[1])[None, :]
        logits = module.apply({"params": params}, ids, mask, at, return_dict=True).logits
        return jax.nn.log_softmax(logits[0], axis=-1)

    def run(ids):
        """ids: at most CONTEXT. Returns log-probabilities (len(ids), vocab_size) of what follows each."""
        padded = np.zeros((1, CONTEXT), np.int32)
        padded[0, :len(ids)] = ids
        return np.asarray(log_probabilities(padded))[:len(ids)]

    return run, key["tokenizer.ggml.bos_token_id"]


def call(*arguments, stdin=""):
    return subprocess.run(arguments, input=stdin, capture_output=True, text=True, check=True).stdout


def tokenize(program, model, text):
    ids = call(program, "tokenize", "-m", model, "--ids", "--no-bos", "--no-special", stdin=text)
    return [int(word) for word in ids.split()]


def compare_greedy(program, model, bits, run):
    n_tokens = n_others = n_skipped = 0
    for prompt in PROMPTS:
        text = call(program, "run", "-m", model, "--raw", "-p", prompt, "--temp", "0",
                    "-n", str(N_TOKENS), "-c", str(CONTEXT), "--activations", bits)
        n_prompt = len(tokenize(program, model, prompt))
        ids = tokenize(program, model, prompt + text.removesuffix("\n"))
        if ids[:n_prompt] != tokenize(program, model, prompt):
            n_skipped += 1  # the text is other tokens than were generated, which text cannot tell
            continue
        likelihoods = run(ids)
        for at in range(n_prompt, len(ids)):
            scores = likelihoods[at - 1]
            n_tokens += 1
            if scores.argmax() != ids[at]:
                n_others += 1
                print(f"  {prompt!r} token {at - n_prompt}: transformers' choice is likelier by "
                      f"{scores.max() - scores[ids[at]]:.4f} nats")
    print(f"greedy, activations of {bits} bits: {n_tokens} tokens of {len(PROMPTS) - n_skipped} prompts, "
          f"{n_others} others than transformers' choice")


def compare_perplexity(program, model, text_path, all_bits, run, bos):
    with open(text_path, encoding="utf-8", newline="") as file:
        ids = tokenize(program, model, file.read())
    total = 0.0
    for begin in range(0, len(ids), CONTEXT - 1):
        window = ids[begin:begin + CONTEXT - 1]
        scores = run([bos] + window[:-1])
        total -= float(scores[np.arange(len(window)), window].astype(np.float64).sum())
    theirs = float(np.exp(total / len(ids)))
    for bits in all_bits:
        ours = json.loads(call(program, "perplexity", "-m", model, "-f", text_path, "-c", str(CONTEXT),
                               "--activations", bits, "--json"))
        print(f"perplexity, activations of {bits} bits: {len(ids)} tokens, thermocline {ours['perplexity']:.4f} over "
              f"{ours['tokens']}, transformers {theirs:.4f}, {100 * (ours['perplexity'] / theirs - 1):+.3f} %", flush=True)


def main():
    program, model, text_path, *all_bits = sys.argv[1:]
    all_bits = all_bits or ["8"]
    run, bos = load(model)
    for bits in all_bits:
        compare_greedy(program, model, bits, run)
    compare_perplexity(program, model, text_path, all_bits, run, bos)


if __name__ == "__main__":
    main()
