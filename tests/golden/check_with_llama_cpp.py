"""Compares the golden models that llama.cpp can run with what llama.cpp gives, through the package xllamacpp.

llama.cpp computes every model of arch `llama` with silu and refuses a partial rotary embedding, so the goldens with
another activation and `rope_partial` are left out. The comparison is of log-probabilities over the whole vocabulary.
"""

import json
import pathlib
import tempfile

import gguf
import numpy as np
import xllamacpp

HERE = pathlib.Path(__file__).resolve().parent
TOLERANCE = 1e-4


def copy_with_plain_vocabulary(source, target):
    """The server holds back a token that ends inside a UTF-8 character, so the copy gets tokens of plain letters."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    vocab_size = 0
    for name, field in reader.fields.items():
        if name.startswith("llama."):
            writer.add_key_value(name, field.contents(), field.types[0])
            vocab_size = field.contents() if name == "llama.vocab_size" else vocab_size
    writer.add_tokenizer_model("llama")
    writer.add_token_list(["<unk>", "<s>", "</s>"] + [f"t{i}." for i in range(3, vocab_size)])
    writer.add_token_scores([0.0] * vocab_size)
    writer.add_token_types([2, 3, 3] + [1] * (vocab_size - 3))
    writer.add_add_bos_token(False)
    for tensor in reader.tensors:
        writer.add_tensor(tensor.name, np.array(tensor.data))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def start(path):
    params = xllamacpp.CommonParams()
    params.model.path = str(path)
    params.n_ctx, params.n_parallel, params.n_gpu_layers = 128, 1, 0
    params.cache_type_k = params.cache_type_v = xllamacpp.ggml_type.GGML_TYPE_F32
    params.flash_attn_type = xllamacpp.llama_flash_attn_type.LLAMA_FLASH_ATTN_TYPE_DISABLED
    params.fit_params, params.warmup, params.verbosity = False, False, 0
    return xllamacpp.Server(params)


def complete(server, ids, n_tokens, vocab_size):
    """Returns the tokens and the log-probabilities of the first of them."""
    reply = server.handle_completions(
        {"prompt": ids, "n_predict": n_tokens, "temperature": 0, "n_probs": vocab_size, "cache_prompt": False}
    )
    steps = reply["choices"][0]["logprobs"]["content"]
    first = {entry["id"]: entry["logprob"] for entry in steps[0]["top_logprobs"]}
    return [step["id"] for step in steps], np.array([first[i] for i in range(vocab_size)])


def log_softmax(logits):
    shifted = np.array(logits) - np.max(logits)
    return shifted - np.log(np.sum(np.exp(shifted)))


def main():
    for path in sorted(HERE.glob("*.json")):
        golden = json.loads(path.read_text(encoding="utf-8"))
        if golden["config"]["activation"] != "silu" or golden["config"]["rot_dim"]:
            print(f"{path.stem}: not a model that llama.cpp runs")
            continue
        with tempfile.TemporaryDirectory() as folder:
            copy = pathlib.Path(folder) / golden["model"]
            copy_with_plain_vocabulary(HERE / golden["model"], copy)
            server = start(copy)
            prompt = golden["prompts"][0]
            ids, n_tokens, vocab_size = prompt["ids"], len(prompt["greedy_ids"]), len(prompt["logits_last"])
            tokens, last = complete(server, ids, n_tokens, vocab_size)
            early = complete(server, ids[: prompt["early_position"] + 1], 1, vocab_size)[1]
        diffs = [
            float(np.max(np.abs(got - log_softmax(prompt[key]))))
            for got, key in ((last, "logits_last"), (early, "logits_early"))
        ]
        print(f"{path.stem}: log-probabilities last {diffs[0]:.1e}, early {diffs[1]:.1e}")
        assert max(diffs) < TOLERANCE and tokens == prompt["greedy_ids"], path.stem


if __name__ == "__main__":
    main()
