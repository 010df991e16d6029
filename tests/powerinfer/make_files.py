"""Writes tiny files as PowerInfer's tools write them, and what they must compute. See README.md.

    python make_files.py            writes the files next to this script
    python make_files.py --check    makes them in a temporary folder and compares with the committed ones

The model is the golden `gqa_relu` (../golden), its weights rounded to the type of the file. The reference is
numpy_llama.py in float64 on the rounded weights, so it shares no code with the runtime.
"""

import argparse
import json
import pathlib
import sys
import tempfile

import gguf
import numpy as np
from gguf import quants

HERE = pathlib.Path(__file__).resolve().parent
GOLDEN = HERE.parent / "golden"
sys.path.insert(0, str(GOLDEN))
import numpy_llama  # noqa: E402  (needs the path above)

MAGIC = b"PWRI"
HOT_NEURONS = [40, 17]  # on the GPU, per layer
VRAM_CAPACITY = 123456
N_GREEDY_TOKENS = 8
# Threshold on the predictor's score. Below 0: a few neurons too many, none of the active ones too few.
THRESHOLD = {"f16": -0.125, "q4_0": -0.5}
TYPES = {"f16": gguf.GGMLQuantizationType.F16, "q4_0": gguf.GGMLQuantizationType.Q4_0}


def predictor(tensors, layer):
    """fc1, fc2 whose score is the gate's input before the norm divides it by a positive number: an oracle.

    relu(x) and relu(-x) together keep x; the gate times the norm's weights turns them into the score.
    """
    block = f"blk.{layer}."
    gate = tensors[block + "ffn_gate.weight"] * tensors[block + "ffn_norm.weight"]
    identity = np.eye(gate.shape[1], dtype=np.float32)
    return np.concatenate([identity, -identity]), np.concatenate([gate, -gate], axis=1).astype(np.float32)


def golden_tensors():
    reader = gguf.GGUFReader(GOLDEN / "gqa_relu.gguf")
    metadata = {name: (field.contents(), field.types) for name, field in reader.fields.items()}
    return metadata, {tensor.name: np.array(tensor.data) for tensor in reader.tensors}


def stored_type(name, weight, kind):
    """Matrices in the type of the file, vectors in F32, as both of PowerInfer's converters do it."""
    return TYPES[kind] if weight.ndim == 2 else gguf.GGMLQuantizationType.F32


def rounded_weights(tensors, kind):
    """Every matrix as the file holds it, back in F32; down along the neuron's row, where it is quantised."""
    out = {}
    for name, weight in tensors.items():
        qtype = stored_type(name, weight, kind)
        turned = weight.T if name.endswith("ffn_down.weight") else weight
        back = quants.dequantize(quants.quantize(np.ascontiguousarray(turned), qtype), qtype)
        out[name] = np.ascontiguousarray(back.T if name.endswith("ffn_down.weight") else back)
    return out


def add_golden_keys(writer, metadata):
    for name, (value, types) in metadata.items():
        # PowerInfer has no key for the activation and writes no vocab_size.
        skipped = name.startswith("GGUF.") or name in (
            "general.architecture", "general.file_type", "llama.hidden_activation", "llama.vocab_size",
        )
        if not skipped:
            writer.add_key_value(name, value, types[0], sub_type=types[1] if len(types) > 1 else None)


def close_with_magic(writer, path):
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    with open(path, "r+b") as file:
        file.write(MAGIC)


def write_model(path, metadata, tensors, kind):
    writer = gguf.GGUFWriter(path, "llama")
    add_golden_keys(writer, metadata)
    writer.add_file_type(1 if kind == "f16" else 2)
    writer.add_float32("powerinfer.sparse_threshold", THRESHOLD[kind])
    stored = {}
    for name, weight in tensors.items():
        if name.endswith("ffn_down.weight"):
            stored[name.replace("ffn_down", "ffn_down_t")] = weight.T
        else:
            stored[name] = weight
    for layer in range(metadata["llama.block_count"][0]):
        stored[f"blk.{layer}.fc1.weight"], stored[f"blk.{layer}.fc2.weight"] = predictor(tensors, layer)
    for name, weight in stored.items():
        qtype = stored_type(name, weight, kind)
        writer.add_tensor(name, quants.quantize(np.ascontiguousarray(weight), qtype), raw_dtype=qtype)
    close_with_magic(writer, path)


def write_placement(path, tensors, counts):
    """The neurons with the largest gates: which they are does not matter, only that the lists agree."""
    writer = gguf.GGUFWriter(path, "generic.gpu_index")
    for layer, count in enumerate(counts):
        norms = np.linalg.norm(tensors[f"blk.{layer}.ffn_gate.weight"], axis=1)
        bucket = np.sort(np.argsort(-norms, kind="stable")[:count]).astype(np.int32)
        on_gpu = np.zeros(len(norms), dtype=np.int32)
        on_gpu[bucket] = 1
        writer.add_tensor(f"blk.{layer}.gpu_idx", on_gpu)
        writer.add_tensor(f"blk.{layer}.gpu_bucket", bucket)
    writer.add_block_count(len(counts))
    writer.add_uint64("split.vram_capacity", VRAM_CAPACITY)
    close_with_magic(writer, path)


def reference(metadata, tensors, kind, prompt):
    """Logits by numpy on the rounded weights, through a plain F32 file that numpy_llama.py can read."""
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / "plain.gguf"
        writer = gguf.GGUFWriter(path, "llama")
        add_golden_keys(writer, metadata)
        writer.add_string("llama.hidden_activation", "relu")
        for name, weight in rounded_weights(tensors, kind).items():
            writer.add_tensor(name, weight)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()
        model = numpy_llama.NumpyLlama(path)
        logits = model.forward(prompt["ids"])[0][-1]
        greedy = model.greedy(prompt["ids"], N_GREEDY_TOKENS)
    off = float(np.max(np.abs(logits - prompt["logits_last"])))
    print(f"{kind}: logits within {off:.3g} of the golden's, greedy tokens "
          f"{'equal' if greedy == prompt['greedy_ids'][:N_GREEDY_TOKENS] else 'differ'}")
    return {"logits_last": [float(f"{value:.7g}") for value in logits], "greedy_ids": greedy}


def make(folder):
    metadata, tensors = golden_tensors()
    with open(GOLDEN / "gqa_relu.json", encoding="utf-8") as file:
        prompt = json.load(file)["prompts"][0]
    expected = {"ids": prompt["ids"], "golden_logits_last": prompt["logits_last"]}
    for kind in TYPES:
        write_model(folder / f"reglu_{kind}.powerinfer.gguf", metadata, tensors, kind)
        expected[kind] = reference(metadata, tensors, kind, prompt)
    write_placement(folder / "reglu.generated.gpuidx", tensors, HOT_NEURONS)
    write_placement(folder / "reglu_no_hot_layer.generated.gpuidx", tensors, [HOT_NEURONS[0], 0])
    with open(folder / "reglu.json", "w", encoding="utf-8") as file:
        json.dump(expected, file)
        file.write("\n")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    if not parser.parse_args().check:
        make(HERE)
        return
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        make(folder)
        for new in sorted(folder.iterdir()):
            old = HERE / new.name
            if new.suffix == ".json":
                same = json.loads(new.read_text()).keys() == json.loads(old.read_text()).keys()
            else:
                same = new.read_bytes() == old.read_bytes()
            assert same, f"{new.name} differs"
    print("every committed file is as made")


if __name__ == "__main__":
    main()
