"""Converts the golden Hugging Face directories by us and by llama.cpp's own converter, and compares the logits.

    check_converters.py LLAMA_CPP_DIRECTORY BUILD [FAMILY ...]

LLAMA_CPP_DIRECTORY is a checkout of llama.cpp (or the one inside llama-cpp-python's source package), BUILD a tree of this
project (build/test). Both files are run by this runtime, dense, F32, on the same 40 tokens, so that what differs is what the
converters wrote. llama.cpp's converter is run as it is but for the vocabulary, which most goldens lack. Prints a line per
family; exit code 1 where logits differ by more than 1e-4 of the largest. Requires torch, transformers and what llama.cpp's
converter imports.
"""

import json
import logging
import pathlib
import shutil
import subprocess
import sys
import tempfile

# What llama.cpp's files do not say, because published models of the family all have the same: goldens differ on purpose, so
# that copies of their configs are given the usual value.
USUAL = {
    "cohere2": {"rotary_pct": 1.0, "sliding_window_pattern": 4, "_sliding_window_pattern": 4,
                "layer_types": ["sliding_attention"] * 3 + ["full_attention"]},
    "gemma": {"rope_theta": 10000.0},
    "gemma2": {"rope_theta": 10000.0, "query_pre_attn_scalar": 16},
    "gpt2": {"n_ctx": 128},
    "gpt_neox": {"rope_theta": 10000.0, "rotary_emb_base": 10000},
    "gpt_neox_serial": {"rope_theta": 10000.0, "rotary_emb_base": 10000},
    "llama_relu": {"hidden_act": "silu"},
    "minicpm_s": {"hidden_act": "silu"},
    "smollm3": {"no_rope_layers": [1, 1, 1, 0], "no_rope_layer_interval": 4},
    "starcoder2": {"sliding_window": None, "use_sliding_window": False},
    "t5": {"relative_attention_max_distance": 128},
    "t5_v1_1": {"relative_attention_max_distance": 128},
}
# Directories of which llama.cpp makes a file that nothing can run, and why.
BROKEN = {name: "llama.cpp's file says that the FFN is four times d_model wide, which that of this golden is not"
          for name in ("falcon40", "falcon_relu", "gpt2")}
HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4


def convert_with_theirs(folder, target):
    hparams = ModelBase.load_hparams(folder, False)
    model_class = get_model_class(get_model_architecture(hparams, ModelType.TEXT))
    model_class.set_vocab = lambda self: self._set_vocab_none()
    model_class(folder, gguf.LlamaFileType.ALL_F32, target, eager=True).write()


def usual_copy(folder, target):
    """A copy of the directory whose config has the family's usual values."""
    shutil.rmtree(target, ignore_errors=True)
    shutil.copytree(folder, target)
    config = json.loads((folder / "config.json").read_text())
    config.update(USUAL.get(folder.name, {}))
    (target / "config.json").write_text(json.dumps(config))
    return target


def compare(folder, build, scratch):
    """Returns what is printed, and whether it is an error."""
    folder_name = folder.name
    folder = usual_copy(folder, scratch / "model")
    ours, theirs = scratch / "ours.gguf", scratch / "theirs.gguf"
    for path in (ours, theirs):
        path.unlink(missing_ok=True)
    try:
        convert_with_theirs(folder, theirs)
    except Exception as error:  # whatever it raises, it does not convert the model
        return f"llama.cpp does not convert it: {type(error).__name__}: {str(error).splitlines()[0][:90]}", False
    if folder_name in BROKEN:
        return BROKEN[folder_name], False
    for command in ([build / "tools/thermocline", "convert", folder, ours, "--type", "F32"],
                    [build / "tests/engine/compare_logits", ours, theirs]):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            return done.stderr.strip().splitlines()[-1].replace(str(scratch), "."), True
    difference, most = map(float, done.stdout.split())
    return f"{difference:.2g} of {most:.3g}", not difference <= TOLERANCE * most


def main():
    build = pathlib.Path(sys.argv[2]).resolve()
    names = sys.argv[3:] or sorted(p.parent.name for p in (HERE / "families").glob("*/model.safetensors"))
    failed = 0
    with tempfile.TemporaryDirectory() as scratch:
        for name in names:
            text, is_error = compare(HERE / "families" / name, build, pathlib.Path(scratch))
            failed += is_error
            print(f"{name:16} {'DIFFERS ' if is_error else ''}{text}", flush=True)
    return 1 if failed else 0


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    root = pathlib.Path(sys.argv[1]).resolve()
    sys.path[:0] = [str(root / "gguf-py"), str(root)]
    logging.disable(logging.WARNING)
    import gguf
    from conversion import ModelBase, ModelType, get_model_architecture, get_model_class

    sys.exit(main())
