"""Makes three small LoRA adapters for families/llama with PEFT, and what the adapted model computes.

    python make_lora_goldens.py            writes families/lora_llama
    python make_lora_goldens.py --check    makes them in a temporary folder and compares with the committed ones

The first adapter lies in lora_llama itself, the others in lora_llama/second and lora_llama/third. See families/README.md.
"""

import argparse
import json
import pathlib
import tempfile

import numpy as np
import peft
import torch
import transformers

import make_family_goldens as goldens
from families import FAMILIES

N_GREEDY_TOKENS = 16
MIN_CHANGE = 0.5  # what an adapter must change in the logits
ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]
FFN = ["gate_proj", "up_proj", "down_proj"]
ADAPTERS = {
    ".": {"seed": 1, "r": 4, "lora_alpha": 6, "target_modules": ATTENTION + FFN},
    "second": {"seed": 1, "r": 2, "lora_alpha": 5, "target_modules": ["q_proj", "v_proj"], "use_rslora": True},
    "third": {"seed": 3, "r": 3, "lora_alpha": 4, "target_modules": FFN},
}


def make_adapter(base, folder, options):
    options = dict(options)
    rng = np.random.default_rng(options.pop("seed"))
    config = peft.LoraConfig(task_type="CAUSAL_LM", lora_dropout=0.0, bias="none", **options)
    model = peft.get_peft_model(base, config)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:  # A is (r, in), B is (out, r); PEFT starts with a B of zeros
                values = rng.standard_normal(tuple(parameter.shape)) / np.sqrt(parameter.shape[1])
                parameter.copy_(torch.from_numpy(values.astype(np.float32)))
    model.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)  # PEFT's empty model card
    # PEFT keeps the targets as a set, whose order differs from run to run.
    path = folder / "adapter_config.json"
    contents = json.loads(path.read_text())
    contents["target_modules"] = sorted(contents["target_modules"])
    contents["base_model_name_or_path"] = "../llama"
    path.write_text(json.dumps(contents, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    model.unload()


def run_adapter(family, folder, ids, base_logits):
    model = peft.PeftModel.from_pretrained(goldens.load_model(family, goldens.FOLDER / "llama"), folder).eval()
    logits = goldens.forward(model, [ids])[0]
    change = float((logits[-1] - base_logits[-1]).abs().max())
    assert change > MIN_CHANGE, f"{folder} changes the logits by {change} only"
    tokens, margins = list(ids), []
    for _ in range(N_GREEDY_TOKENS):
        (best, second), (token, _) = (part.tolist() for part in goldens.forward(model, [tokens])[0, -1].topk(2))
        assert best - second >= goldens.MIN_MARGIN, f"{folder}: margin {best - second}; take another seed"
        tokens.append(token)
        margins.append(best - second)
    merged = model.merge_and_unload()
    diff = float((goldens.forward(merged, [ids])[0] - logits).abs().max())
    assert diff < goldens.MAX_CACHE_DIFF, f"{folder}: merged weights give logits that differ by {diff}"
    early = goldens.EARLY_POSITION
    return {
        "logits_last": goldens.rounded(logits[-1]),
        "early_position": early,
        "logits_early": goldens.rounded(logits[early]),
        "hidden_last_token_per_layer": [goldens.rounded(h) for h in goldens.hidden_states(merged, ids, None)],
        "greedy_ids": tokens[len(ids) :],
        "greedy_margins": goldens.rounded(margins),
    }


def run_together(family, folder, names, ids):
    """Logits with several adapters at once: each adds its own product to the base's."""
    base = goldens.load_model(family, goldens.FOLDER / "llama")
    model = peft.PeftModel.from_pretrained(base, folder / names[0], adapter_name="a0").eval()
    for i, name in enumerate(names[1:], 1):
        model.load_adapter(folder / name, adapter_name=f"a{i}")
    model.base_model.set_adapter([f"a{i}" for i in range(len(names))])
    return {"adapters": names, "logits_last": goldens.rounded(goldens.forward(model, [ids])[0, -1])}


def make(folder):
    family = next(family for family in FAMILIES if family.name == "llama")
    base = goldens.load_model(family, goldens.FOLDER / "llama")
    ids = json.loads((goldens.FOLDER / "llama" / "golden.json").read_text())["prompts"][0]["ids"]
    base_logits = goldens.forward(base, [ids])[0]
    adapters = []
    for name, options in ADAPTERS.items():
        make_adapter(goldens.load_model(family, goldens.FOLDER / "llama"), folder / name, options)
        adapters.append({"adapter": name, **run_adapter(family, folder / name, ids, base_logits)})
    contents = {
        "base": "llama",
        "made_by": f"peft {peft.__version__}, transformers {transformers.__version__}, "
        f"torch {torch.__version__.split('+')[0]}, make_lora_goldens.py",
        "ids": ids,
        "adapters": adapters,
        "together": run_together(family, folder, [".", "third"], ids),
    }
    (folder / "golden.json").write_text(json.dumps(contents) + "\n", encoding="utf-8")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    torch.set_num_threads(1)
    transformers.logging.set_verbosity_error()
    committed = goldens.FOLDER / "lora_llama"
    if not check:
        make(committed)
        return
    with tempfile.TemporaryDirectory() as folder:
        make(pathlib.Path(folder))
        for name in ADAPTERS:
            goldens.compare(pathlib.Path(folder) / name, committed / name)
    print("every committed file is as made")


if __name__ == "__main__":
    main()
