"""Makes small vocabularies and what their own libraries encode with them: unigram models by sentencepiece, Gemma 4's
kind of BPE by Hugging Face tokenizers.

    python make_tokenizer_goldens.py            writes NAME.gguf and NAME.json next to this script
    python make_tokenizer_goldens.py --check    makes them and compares with the committed ones instead
    python make_tokenizer_goldens.py --large D  writes into folder D: full normalisers (nmt_nfkc), more pieces and texts;
                                                text_test takes them with THERMOCLINE_TOKENIZER_GOLDENS=D

NAME.json has {"cases": [{"text", "ids"}]}. Texts are sentences below, and random ones of their characters, spaces and
characters that no model has seen. Training is deterministic in one thread.
"""

import argparse
import io
import json
import pathlib
import random
import sys
import unicodedata

import gguf
import sentencepiece
import tokenizers

HERE = pathlib.Path(__file__).resolve().parent

SENTENCES = """\
The thermocline is the thin layer that parts warm water from cold.
In the deep sea it hardly moves; in a lake it comes and goes with the seasons.
She said: "It's 25 °C at the surface, and 4 °C at a depth of 1,000 m."
A model of language is a model of words, of parts of words, and of what comes after them.
Le thermocline sépare l'eau chaude de l'eau froide ; c'est une couche très mince.
Die Sprungschicht trennt warmes Wasser von kaltem, und sie ist nur wenige Meter dick.
Термоклин отделяет тёплую воду от холодной, и толщина его невелика.
Η θερμοκλινής ζώνη χωρίζει το ζεστό νερό από το κρύο.
温跃层把温水和冷水分开，它很薄。海水的温度随深度下降。
水温躍層は暖かい水と冷たい水を分ける薄い層です。
수온약층은 따뜻한 물과 찬 물을 나누는 얇은 층이다.
الطبقة الحرارية تفصل الماء الدافئ عن البارد.
थर्मोक्लाइन गर्म पानी को ठंडे पानी से अलग करता है।
ชั้นเทอร์โมไคลน์แยกน้ำอุ่นออกจากน้ำเย็น
for (int i = 0; i < n; ++i) { sum += x[i] * w[i]; }  // a dot product
Hello, hello, hello! 😀 🌊🌊 1234567890 3.14159 -- and so on...
""".splitlines()

# Rules of a small normaliser: white space, some of NFKC, lower case of a few letters, nothing for a soft hyphen.
RULES = [("\t", " "), ("\n", " "), ("\r", ""), ("\u00a0", " "), ("\u3000", " "), ("\u00ad", ""), ("\ufb01", "fi"),
         ("\u2026", "..."), ("\uff01", "!"), ("e\u0301", "\u00e9"), ("\u1e9b\u0323", "\u1e69"), ("A", "a"),
         ("\u00bd", "1\u20442"), ("\ufdfa", unicodedata.normalize("NFKC", "\ufdfa"))]

ODD = ["", " ", "  ", " a", "a ", "  a  b  ", "\n", "\t\n \n", "a\nb", "\n\n\na", "\u2581", "a\u2581b", "\u2581\u2581 x",
       "\u00ad", "a\u00adb", "\ufb01sh", "\u00bd cup", "\uff01\uff01", "e\u0301te\u0301", "\ufdfa", "\ufffd", "\U00010348",
       "\u1f600\u0f40", "<s>", "</s>", "<unk>", "<0x41>", "<pad>", "[x]", "a[x]b", " [x] b", "[x][x]  y", "x[x", "a" * 50,
       "\u6c34" * 20, "\u2603\u2603\u2603", "q\u2603q", "\u2603 \u2603", "the" * 30, "A\u3000B\u00a0C"]


def texts(n, seed):
    made = list(SENTENCES) + ODD + ["".join(SENTENCES), " ".join(SENTENCES), "\n".join(SENTENCES)]
    rng = random.Random(seed)
    letters = sorted(set("".join(SENTENCES))) + [" "] * 40 + ["\n", "\t", "\u00a0", "\u2603", "\u0f40", "e\u0301", "[x]"]
    words = " ".join(SENTENCES).split(" ")
    for _ in range(n):
        parts = [rng.choice(letters) if rng.random() < 0.5 else rng.choice(words) + rng.choice(["", " ", "  "])
                 for _ in range(rng.randrange(1, 24))]
        made.append("".join(parts))
    return made


def writer(path, kind):
    out = gguf.GGUFWriter(path, "llama")
    out.add_tokenizer_model(kind)
    return out


def close(out):
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()


def write_json(path, cases):
    lines = ",\n".join(json.dumps(case, separators=(",", ":")) for case in cases)
    path.write_text('{"cases":[\n' + lines + "\n]}\n")


def unigram(folder, name, n_random, sentences, suffix=False, **options):
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(sentences), model_writer=model, model_type="unigram", num_threads=1,
        user_defined_symbols=["[x]"], treat_whitespace_as_suffix=suffix, minloglevel=2,
        hard_vocab_limit=False, character_coverage=0.98, **options)
    processor = sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())
    from sentencepiece import sentencepiece_model_pb2 as pb

    proto = pb.ModelProto.FromString(model.getvalue())
    out = writer(folder / f"{name}.gguf", "t5")
    out.add_token_list([piece.piece for piece in proto.pieces])
    out.add_token_scores([piece.score for piece in proto.pieces])
    out.add_token_types([piece.type for piece in proto.pieces])
    out.add_unk_token_id(processor.unk_id())
    out.add_eos_token_id(processor.eos_id())
    out.add_add_space_prefix(proto.normalizer_spec.add_dummy_prefix)
    out.add_remove_extra_whitespaces(proto.normalizer_spec.remove_extra_whitespaces)
    if suffix:
        out.add_bool("tokenizer.ggml.treat_whitespace_as_suffix", True)
    if proto.normalizer_spec.precompiled_charsmap:
        out.add_precompiled_charsmap(proto.normalizer_spec.precompiled_charsmap)
    close(out)
    write_json(folder / f"{name}.json",
               [{"text": text, "ids": processor.encode(text)} for text in texts(n_random, seed=7)])


def gemma4(folder, name, n_random, sentences, vocab_size):
    specials = ["<pad>", "<eos>", "<bos>", "<unk>"]
    model = tokenizers.models.BPE(byte_fallback=True, unk_token="<unk>", fuse_unk=True)
    tokenizer = tokenizers.Tokenizer(model)
    tokenizer.normalizer = tokenizers.normalizers.Replace(" ", "\u2581")
    # Words begin with a space while it is trained; afterwards merges go over whole texts.
    tokenizer.pre_tokenizer = tokenizers.pre_tokenizers.Split(
        tokenizers.Regex("\u2581*[^\u2581\n]+|\u2581+|\n+"), "isolated")
    byte_names = [f"<0x{byte:02X}>" for byte in range(256)]
    trainer = tokenizers.trainers.BpeTrainer(vocab_size=vocab_size, special_tokens=specials + byte_names,
                                             show_progress=False)
    tokenizer.train_from_iterator(sentences, trainer)
    state = json.loads(tokenizer.to_str())
    # Bytes are tokens of the model and no special ones.
    state["added_tokens"] = [token for token in state["added_tokens"] if token["content"] in specials]
    # A model's file splits at spaces, of which the normaliser has left none.
    state["pre_tokenizer"] = {"type": "Split", "pattern": {"String": " "}, "behavior": "MergedWithPrevious", "invert": False}
    for token in state["added_tokens"]:
        token["special"] = True
    tokenizer = tokenizers.Tokenizer.from_str(json.dumps(state))
    tokenizer.add_tokens(["[x]"])
    names = sorted(tokenizer.get_vocab(), key=tokenizer.get_vocab().get)
    kinds = [gguf.TokenType.CONTROL if name in specials else gguf.TokenType.BYTE if name in byte_names
             else gguf.TokenType.USER_DEFINED if name == "[x]" else gguf.TokenType.NORMAL for name in names]
    kinds[names.index("<unk>")] = gguf.TokenType.UNKNOWN
    out = writer(folder / f"{name}.gguf", "gemma4")
    out.add_token_list(names)
    out.add_token_scores([-1000.0] * len(names))
    out.add_token_types(kinds)
    out.add_token_merges([" ".join(merge) for merge in state["model"]["merges"]])
    out.add_bos_token_id(names.index("<bos>"))
    out.add_eos_token_id(names.index("<eos>"))
    out.add_unk_token_id(names.index("<unk>"))
    out.add_add_space_prefix(False)
    close(out)
    # Names of control tokens in a text are left out: Hugging Face always parses them.
    cases = [{"text": text, "ids": tokenizer.encode(text, add_special_tokens=False).ids}
             for text in texts(n_random, seed=9) if not any(name in text for name in specials)]
    write_json(folder / f"{name}.json", cases)


def write_all(folder, large):
    n = 3000 if large else 60
    tsv = folder / "rules.tsv"
    tsv.write_text("".join(
        "{}\t{}\n".format(*(" ".join(f"{ord(c):X}" for c in side) for side in rule)) for rule in RULES))
    rules = {"normalization_rule_name": "nmt_nfkc"} if large else {"normalization_rule_tsv": str(tsv)}
    sentences = SENTENCES
    unigram(folder, "unigram_t5", n, sentences, vocab_size=900 if large else 420, pad_id=0, eos_id=1, unk_id=2, bos_id=-1,
            **rules)
    unigram(folder, "unigram_bytes", n, sentences, vocab_size=900 if large else 600, byte_fallback=True,
            normalization_rule_name="identity", remove_extra_whitespaces=False)
    unigram(folder, "unigram_suffix", n, sentences, suffix=True, vocab_size=900 if large else 400, pad_id=0, eos_id=1,
            unk_id=2, bos_id=-1, remove_extra_whitespaces=False, **rules)
    unigram(folder, "unigram_no_prefix", n, sentences, vocab_size=900 if large else 400, add_dummy_prefix=False, **rules)
    gemma4(folder, "gemma4", n, ["\n\n".join(sentences)] + sentences, vocab_size=1500 if large else 900)
    tsv.unlink()


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true")
    parser.add_argument("--large", metavar="D", type=pathlib.Path)
    args = parser.parse_args()
    if not args.check:
        write_all(args.large or HERE, bool(args.large))
        return 0
    import tempfile

    with tempfile.TemporaryDirectory() as made:
        made = pathlib.Path(made)
        write_all(made, False)
        differing = [path.name for path in sorted(made.iterdir()) if path.read_bytes() != (HERE / path.name).read_bytes()]
    print("\n".join(f"{name} differs" for name in differing) or "all equal")
    return 1 if differing else 0


if __name__ == "__main__":
    sys.exit(main())
