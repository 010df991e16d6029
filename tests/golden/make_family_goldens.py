"""Makes a tiny model of every family in families.py with Hugging Face transformers, and what it computes. Of the few
families that transformers does not have, own_models.py does.

    python make_family_goldens.py [NAME...]    writes families/NAME/ (all families without names)
    python make_family_goldens.py --check      makes them in a temporary folder and compares with the committed ones
    python make_family_goldens.py --search     also looks for the seeds that family_seeds.py lacks, and prints them

See families/README.md. Every golden is computed from the saved directory, read back by from_pretrained in float32.
"""

import argparse
import copy
import itertools
import json
import pathlib
import platform
import shutil
import tempfile

import numpy as np
import safetensors
import torch
import transformers
from transformers import GenerationConfig

import own_models
from families import BOS, FAMILIES, PAD, SPECIAL_IDS, VOCAB_SIZE
from family_seeds import SEEDS

HERE = pathlib.Path(__file__).resolve().parent
FOLDER = HERE / "families"
N_GREEDY_TOKENS = 32
N_BEAMS = 4
N_BEAM_TOKENS = 12
LENGTH_PENALTY = 1.0
EARLY_POSITION = 5
MIN_MARGIN = 0.02  # between the two best logits of every greedy step
MIN_BEAM_GAP = 0.02  # between the last beam kept and the first one dropped, and between two final beams
MIN_DISTINCT_TOKENS = 8  # of the greedy ones, so that a loop of a few tokens is not a golden
MIN_CHANGE = 0.02  # what each ablation must change in the logits
MAX_CACHE_DIFF = 2e-4  # logits of cached generation against whole forward passes
TRIES_PER_WEIGHTS = 64  # prompts tried before other weights are drawn
DEFAULT_GAINS = {"q_proj": 1.5, "k_proj": 1.5, "query_key_value": 1.4, "qkv_proj": 1.4, "c_attn": 1.4,
                 "down_proj": 1.5, "lm_head": 2.5, "embed_out": 2.5, "wo.": 1.5}


class NotSeparated(Exception):
    """Two candidates are too close to tell apart, or a control token came up: take another prompt."""


# ---- the model ----


def gain_of(family, name):
    for part, gain in itertools.chain(family.gains.items(), DEFAULT_GAINS.items()):
        if part in name:
            return gain
    return None


def random_weight(family, name, parameter, is_norm, is_embedding, rng):
    """Scales that keep the residual stream near 1 and the logits at a few units; attention far from uniform."""
    values = rng.standard_normal(tuple(parameter.shape))
    gain = gain_of(family, name)
    if name.endswith("bias"):
        return family.bias * values
    if is_norm or values.ndim == 1:
        center = family.norm_center if family.norm_center is not None else float(parameter.detach().float().mean())
        return (center if gain is None else gain) + 0.25 * values
    if "relative_attention_bias" in name:
        return 1.5 * values
    if is_embedding:
        is_position = any(part in name for part in ("wpe", "embed_positions"))
        return values * (0.5 if is_position else 1.0 if "per_layer" in name else family.embedding)
    # GPT-2's Conv1D keeps (in, out), all others (out, in).
    fan_in = parameter.shape[0] if "transformer.h." in name and "gpt2" in family.name else parameter.shape[1]
    return values * (1.0 if gain is None else gain) / np.sqrt(fan_in)


def is_own(family):
    return hasattr(own_models, family.model)


def class_of(family):
    return getattr(own_models if is_own(family) else transformers, family.model)


def new_model(family, changes=None):
    model_class = class_of(family)
    config = model_class.config_class(**copy.deepcopy({**family.config, **(changes or {})}))
    config._attn_implementation = "eager"
    return model_class(config).eval()


def build_model(family, seed):
    model = new_model(family)
    norms = {name for name, module in model.named_modules() if "Norm" in type(module).__name__}
    embeddings = {name for name, module in model.named_modules() if isinstance(module, torch.nn.Embedding)}
    rng = np.random.default_rng(seed)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            module = name.rsplit(".", 1)[0]
            weight = random_weight(family, name, parameter, module in norms, module in embeddings, rng)
            parameter.copy_(torch.from_numpy(weight.astype(np.float32)))
    return model


def save_model(family, model, folder):
    dtype = getattr(torch, family.dtype)
    model.generation_config = GenerationConfig.from_model_config(model.config)
    model.generation_config.update(**family.generation)
    model.to(dtype).save_pretrained(folder, max_shard_size=family.max_shard_size)


def load_model(family, folder):
    model = class_of(family).from_pretrained(
        folder, dtype=torch.float32, attn_implementation="eager"
    ).eval()
    assert model.config._attn_implementation == "eager"
    assert all(parameter.dtype == torch.float32 for parameter in model.parameters())
    # No EOS: nothing ends early. The decoder's start is for T5 alone.
    start = PAD if family.encoder_lengths else None
    model.generation_config = GenerationConfig(pad_token_id=PAD, decoder_start_token_id=start, use_cache=not is_own(family))
    return model


def layers_of(model, part="decoder"):
    if model.config.is_encoder_decoder:
        return getattr(model, part).block
    if hasattr(model, "transformer"):
        return model.transformer.h
    if hasattr(model, "gpt_neox"):
        return model.gpt_neox.layers
    return model.model.decoder.layers if hasattr(model.model, "decoder") else model.model.layers


# ---- forward passes ----


def model_inputs(model, rows, encoder_ids):
    if encoder_ids:
        return {"input_ids": torch.tensor([encoder_ids] * len(rows)), "decoder_input_ids": torch.tensor(rows)}
    return {"input_ids": torch.tensor(rows)}


def forward(model, rows, encoder_ids=None):
    """Returns the logits of whole passes without a cache, (n_rows, n_tokens, vocab_size)."""
    # gemma3n shares keys and values between layers through its cache object: without one it computes other values.
    use_cache = model.config.model_type == "gemma3n_text"
    with torch.no_grad():
        logits = model(**model_inputs(model, rows, encoder_ids), use_cache=use_cache).logits
    assert logits.dtype == torch.float32
    return logits


def hidden_states(model, ids, encoder_ids, part="decoder"):
    """Returns the last token's residual stream after each layer, before the final norm: (n_layers, d_model).

    gemma3n has altup_num_inputs streams; they follow each other in a row.
    """
    hidden = []

    def keep(_module, _args, output):
        states = output[0] if isinstance(output, tuple) else output
        hidden.append(states.reshape(-1, *states.shape[-2:])[:, -1].flatten().numpy().copy())

    hooks = [layer.register_forward_hook(keep) for layer in layers_of(model, part)]
    forward(model, [ids], encoder_ids)
    for hook in hooks:
        hook.remove()
    return hidden


def greedy(model, ids, encoder_ids):
    """Returns greedy tokens by whole passes, the margins of the two best logits, and every step's logits."""
    tokens, margins, steps = list(ids), [], []
    for _ in range(N_GREEDY_TOKENS):
        logits = forward(model, [tokens], encoder_ids)[0, -1]
        (best, second), (token, _) = (part.tolist() for part in logits.topk(2))
        if best - second < MIN_MARGIN or token in SPECIAL_IDS or token >= VOCAB_SIZE:
            raise NotSeparated(f"greedy token {len(margins)}")
        tokens.append(token)
        margins.append(best - second)
        steps.append(logits)
    if len(set(tokens[len(ids) :])) < MIN_DISTINCT_TOKENS:
        raise NotSeparated("few distinct tokens")
    return tokens[len(ids) :], margins, steps


def beam_search(model, ids, encoder_ids):
    """Returns [(tokens, sum of log probabilities)], best first, by whole passes, and the smallest gap of each step."""
    beams, gaps = [(list(ids), 0.0)], []
    for _ in range(N_BEAM_TOKENS):
        log_probs = forward(model, [tokens for tokens, _ in beams], encoder_ids)[:, -1].double().log_softmax(-1)
        sums = (log_probs + torch.tensor([[total] for _, total in beams])).flatten()
        values, indices = (part.tolist() for part in sums.topk(N_BEAMS + 1))
        gaps.append(values[N_BEAMS - 1] - values[N_BEAMS])
        n = log_probs.shape[1]
        beams = [(beams[i // n][0] + [i % n], value) for i, value in zip(indices[:N_BEAMS], values)]
        added = [tokens[-1] for tokens, _ in beams]
        if gaps[-1] < MIN_BEAM_GAP or any(token in SPECIAL_IDS or token >= VOCAB_SIZE for token in added):
            raise NotSeparated(f"beam token {len(gaps) - 1}")
    final_gaps = [a[1] - b[1] for a, b in zip(beams, beams[1:])]
    if min(final_gaps) < MIN_BEAM_GAP:
        raise NotSeparated("final beams")
    return [(tokens[len(ids) :], total) for tokens, total in beams], gaps, final_gaps


def generate(model, ids, encoder_ids, **options):
    inputs = model_inputs(model, [ids], encoder_ids)
    with torch.no_grad():
        return model.generate(
            **inputs, attention_mask=torch.ones_like(inputs["input_ids"]), do_sample=False,
            return_dict_in_generate=True, **options,
        )


def check_cached(model, ids, encoder_ids, greedy_ids, step_logits, beams):
    """Asserts that generate() with its KV cache does what the whole passes did. Returns the largest difference."""
    output = generate(model, ids, encoder_ids, max_new_tokens=N_GREEDY_TOKENS, output_logits=True)
    assert output.sequences[0].tolist() == ids + greedy_ids, "greedy generate() gives other tokens"
    diff = max(float((a[0] - b).abs().max()) for a, b in zip(output.logits, step_logits, strict=True))
    assert diff < MAX_CACHE_DIFF, f"logits with the cache differ by {diff}"
    output = generate(
        model, ids, encoder_ids, max_new_tokens=N_BEAM_TOKENS, num_beams=N_BEAMS, num_return_sequences=N_BEAMS,
        length_penalty=LENGTH_PENALTY, early_stopping=False, output_scores=True,
    )
    assert output.sequences.tolist() == [ids + tokens for tokens, _ in beams], "beam generate() gives other beams"
    for score, (_, total) in zip(output.sequences_scores.tolist(), beams, strict=True):
        assert abs(score - total / N_BEAM_TOKENS**LENGTH_PENALTY) < 1e-4, "another score"
    return diff, output.sequences_scores.tolist()


# ---- the golden file ----


def prompt_ids(family, index, seed):
    """Ordinary tokens after a BOS; for T5 the decoder starts with PAD and the encoder's text ends with EOS (1)."""
    rng = np.random.default_rng(1000 + seed)
    ordinary = [i for i in range(VOCAB_SIZE) if i not in SPECIAL_IDS]
    drawn = rng.choice(ordinary, family.prompt_lengths[index] - 1).tolist()
    if not family.encoder_lengths:
        return [BOS] + drawn, None
    return [PAD] + drawn, rng.choice(ordinary, family.encoder_lengths[index] - 1).tolist() + [BOS]


def rounded(values):
    return [float(f"{value:.7g}") for value in np.asarray(values, dtype=np.float64).ravel()]


def make_prompt(family, model, index, seed):
    ids, encoder_ids = prompt_ids(family, index, seed)
    greedy_ids, margins, steps = greedy(model, ids, encoder_ids)
    beams, gaps, final_gaps = beam_search(model, ids, encoder_ids)
    cache_diff, scores = check_cached(model, ids, encoder_ids, greedy_ids, steps, beams)
    logits = forward(model, [ids], encoder_ids)[0]
    prompt = {"encoder_ids": encoder_ids} if encoder_ids else {}
    early = min(EARLY_POSITION, len(ids) - 1)
    prompt |= {
        "ids": ids,
        "logits_last": rounded(logits[-1]),
        "early_position": early,
        "logits_early": rounded(logits[early]),
        "hidden_last_token_per_layer": [rounded(h) for h in hidden_states(model, ids, encoder_ids)],
    }
    if encoder_ids:
        hidden = hidden_states(model, ids, encoder_ids, "encoder")
        prompt["encoder_hidden_last_token_per_layer"] = [rounded(h) for h in hidden]
    prompt |= {
        "greedy_ids": greedy_ids,
        "greedy_margins": rounded(margins),
        "beams": [
            {"ids": tokens, "score": rounded([score])[0], "sum_log_prob": rounded([total])[0]}
            for (tokens, total), score in zip(beams, scores)
        ],
        "beam_step_gaps": rounded(gaps),
        "beam_final_gaps": rounded(final_gaps),
    }
    return prompt, cache_diff


def check_ablations(family, model, prompts):
    """Asserts that a model that ignores an option gives other logits. Returns what each change makes."""
    changes = []
    for ablation in family.ablations:
        other = new_model(family, ablation)
        other.load_state_dict(model.state_dict(), strict=False)
        diff = max(
            float(np.abs(forward(other, [p["ids"]], p.get("encoder_ids"))[0, -1].numpy() - p["logits_last"]).max())
            for p in prompts
        )
        assert diff > MIN_CHANGE, f"{family.name}: {ablation} changes the logits by {diff} only"
        changes.append({"instead": ablation, "logits_last_change": rounded([diff])[0]})
    return changes


def screened_seeds(family, model, index):
    """Returns the seeds of prompts whose greedy tokens keep the rules, by one batch of cached generation."""
    drawn = [prompt_ids(family, index, seed) for seed in range(TRIES_PER_WEIGHTS)]
    inputs = {"input_ids": torch.tensor([ids for ids, _ in drawn])}
    if family.encoder_lengths:
        inputs = {"input_ids": torch.tensor([encoder_ids for _, encoder_ids in drawn]),
                  "decoder_input_ids": inputs["input_ids"]}
    with torch.no_grad():
        output = model.generate(
            **inputs, attention_mask=torch.ones_like(inputs["input_ids"]), max_new_tokens=N_GREEDY_TOKENS,
            do_sample=False, return_dict_in_generate=True, output_logits=True,
        )
    best = torch.stack(output.logits).topk(2).values  # (n_tokens, n_prompts, 2)
    margins = (best[..., 0] - best[..., 1]).min(0).values
    tokens = output.sequences[:, -N_GREEDY_TOKENS:].tolist()
    return [
        seed
        for seed, row in enumerate(tokens)
        if margins[seed] >= MIN_MARGIN and len(set(row)) >= MIN_DISTINCT_TOKENS
        and not set(row) & set(SPECIAL_IDS) and max(row) < VOCAB_SIZE
    ]


def all_prompts(family, model, prompt_seeds):
    """Returns the prompts with their seeds, or None where no prompt is found for these weights."""
    made = []
    for index in range(len(family.prompt_lengths)):
        for seed in [prompt_seeds[index]] if prompt_seeds else screened_seeds(family, model, index):
            try:
                made.append((seed, *make_prompt(family, model, index, seed)))
                break
            except NotSeparated:
                continue
        else:
            return None
    return made


def make(family, folder, search):
    folder = folder / family.name
    recorded = SEEDS.get(family.name, ())
    if not search and not recorded:
        raise SystemExit(f"{family.name} has no seeds: --search")
    for weight_seed in [recorded[0]] if recorded else itertools.count():
        if folder.exists():
            shutil.rmtree(folder)
        save_model(family, build_model(family, weight_seed), folder)
        model = load_model(family, folder)
        made = all_prompts(family, model, recorded[1] if recorded else ())
        if made:
            break
    else:
        raise SystemExit(f"{family.name}: the recorded seeds do not hold; take their line out and use --search")
    prompts = [prompt for _, prompt, _ in made]
    contents = {
        "family": family.name,
        "model_class": family.model,
        "precision": f"float32 arithmetic on weights stored as {family.dtype}",
        "made_by": f"{'own_models.py, ' if is_own(family) else ''}transformers {transformers.__version__}, torch {torch.__version__.split('+')[0]}, "
        f"make_family_goldens.py, seed {weight_seed}",
        "beam_search": {"num_beams": N_BEAMS, "new_tokens": N_BEAM_TOKENS, "length_penalty": LENGTH_PENALTY},
        "ablations": check_ablations(family, model, prompts),
        "prompts": prompts,
    }
    (folder / "golden.json").write_text(json.dumps(contents) + "\n", encoding="utf-8")
    report(family, folder, contents, max(diff for _, _, diff in made))
    return weight_seed, tuple(seed for seed, _, _ in made)


def report(family, folder, contents, cache_diff):
    prompts = contents["prompts"]
    size = sum(path.stat().st_size for path in folder.iterdir())
    assert size < 300_000, f"{family.name}: {size} bytes"
    hidden = [round(float(np.std(h)), 1) for h in prompts[0]["hidden_last_token_per_layer"]]
    changes = [round(a["logits_last_change"], 2) for a in contents["ablations"]]
    print(
        f"{family.name}: {size} bytes; std of hidden {hidden}, of logits {np.std(prompts[0]['logits_last']):.2f}; "
        f"least margin {min(min(p['greedy_margins']) for p in prompts):.3f}, "
        f"beam gap {min(min(p['beam_step_gaps'] + p['beam_final_gaps']) for p in prompts):.3f}, "
        f"{len(set(prompts[0]['greedy_ids']))} distinct; cache {cache_diff:.1g}; changes {changes}", flush=True,
    )


def print_table():
    """The README's table, from the committed files."""
    print("| family | what it is there for | kB |\n|---|---|---|")
    for family in FAMILIES:
        size = sum(path.stat().st_size for path in (FOLDER / family.name).iterdir())
        print(f"| `{family.name}` | {family.exercises} | {size / 1000:.0f} |")


# ---- --check ----


def same_values(a, b):
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(same_values(a[key], b[key]) for key in a)
    if isinstance(a, list):
        return len(a) == len(b) and all(same_values(x, y) for x, y in zip(a, b))
    if isinstance(a, float):
        return abs(a - b) < 2e-4  # another CPU sums in another order
    return a == b


def compare(new, old):
    for path in sorted(path for path in new.iterdir() if path.is_file()):
        committed = old / path.name
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, "pt") as a, safetensors.safe_open(committed, "pt") as b:
                assert set(a.keys()) == set(b.keys()), f"{committed} differs"
                for name in a.keys():
                    assert torch.equal(a.get_tensor(name), b.get_tensor(name)), f"{committed}: {name} differs"
        else:
            assert same_values(json.loads(path.read_text()), json.loads(committed.read_text())), f"{committed} differs"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*")
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    parser.add_argument("--search", action="store_true", help="look for missing seeds, print all")
    parser.add_argument("--table", action="store_true", help="print the README's table")
    args = parser.parse_args()
    if args.table:
        print_table()
        return
    print(f"Python {platform.python_version()}, numpy {np.__version__}, transformers {transformers.__version__}")
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    chosen = [family for family in FAMILIES if not args.names or family.name in args.names]
    assert len(chosen) == len(args.names) or not args.names, "a name that is no family"
    seeds = {}
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) if args.check else FOLDER
        for family in chosen:
            seeds[family.name] = make(family, folder, args.search)
            if args.check:
                compare(folder / family.name, FOLDER / family.name)
    if args.search:
        print("\n".join(f'    "{name}": {value},' for name, value in seeds.items()))
    if args.check:
        print("every committed file is as made")


if __name__ == "__main__":
    main()
