"""Makes the tiny tokenizers of families/ and what they do to a few texts. See families/README.md.

    python make_family_tokenizers.py            writes families/tokenizer_bpe, tokenizer_bpe_nfc and tokenizer_spm
    python make_family_tokenizers.py --check    makes them in a temporary folder and compares with the committed ones
"""

import argparse
import json
import pathlib
import tempfile

import sentencepiece
import transformers
from sentencepiece import sentencepiece_model_pb2
from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers

FOLDER = pathlib.Path(__file__).resolve().parent / "families"
VOCAB_SIZE = 288
FIRST_SPECIAL = ["<|pad|>", "<|bos|>", "<|eos|>"]  # ids 0, 1, 2
LAST_SPECIAL = ["<|im_start|>", "<|im_end|>"]  # ids 286, 287
# Llama 3's expression.
WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
CORPUS = (
    "The thermocline is the thin layer that parts the warm water from the cold. There the heat of the day and the "
    "rest of the night meet, and the other side of it is another sea. "
) * 4
# What NFC joins, and what it leaves apart.
MARKED_CORPUS = "caf\u00e9, \u00e9t\u00e9, na\u00efve; Ti\u1ebfng Vi\u1ec7t, \u0111\u1eb9p. \ud55c\uad6d\uc5b4. " * 8
MARKED_TEXTS = [
    "cafe\u0301 e\u0301te\u0301",
    "Tie\u0302\u0301ng Vie\u0323\u0302t, Vi\u1ec7t, Vie\u0302\u0323t",
    "\u1112\u1161\u11ab\u1100\u116e\u11a8",
    "<|im_start|>\u0301e\u0301<|im_end|>\u0323",
    "q\u0323\u0301 \u212b \ufb01n \u0958",
    "a" + "\u0301\u0323" * 5 + "1\u0308",
]
CHAT_TEMPLATE = """\
{%- for message in messages %}
    {{- '<|im_start|>' + message['role'] + '\\n' + message['content'] | trim + '<|im_end|>' + '\\n' }}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- '<|im_start|>assistant\\n' }}
{%- endif %}
"""
MESSAGES = [
    {"role": "system", "content": "Be brief."},
    {"role": "user", "content": "  What is the thermocline?\n"},
    {"role": "assistant", "content": "A thin layer."},
    {"role": "user", "content": "Of what?"},
]
TEXTS = [
    "",
    "the heat",
    " the heat",
    "The thermocline's layer, 12345 m down.",
    "two  spaces\tand a tab\n\nand lines",
    "caf\u00e9 \u6d77 \U0001f30a",
    "<|im_start|>user\nhello<|im_end|>",
]


def write_json(path, contents, indent=None):
    path.write_text(json.dumps(contents, indent=indent) + "\n", encoding="utf-8")


def make_bpe(folder, normalizer=None, corpus=CORPUS, more_texts=()):
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE(ignore_merges=True))
    if normalizer:
        tokenizer.normalizer = normalizer
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence([
        pre_tokenizers.Split(Regex(WORDS), "isolated"), pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
    ])
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=VOCAB_SIZE - len(LAST_SPECIAL), special_tokens=FIRST_SPECIAL, show_progress=False,
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
    )
    tokenizer.train_from_iterator([corpus], trainer)
    tokenizer.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in LAST_SPECIAL])
    tokenizer.post_processor = processors.Sequence([
        processors.ByteLevel(trim_offsets=False),
        processors.TemplateProcessing(single="<|bos|> $A", pair="<|bos|> $A <|bos|> $B", special_tokens=[("<|bos|>", 1)]),
    ])
    assert tokenizer.get_vocab_size() == VOCAB_SIZE
    assert [tokenizer.token_to_id(token) for token in FIRST_SPECIAL + LAST_SPECIAL] == [0, 1, 2, 286, 287]
    fast = transformers.PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, bos_token="<|bos|>", eos_token="<|im_end|>", pad_token="<|pad|>",
        additional_special_tokens=["<|im_start|>"], clean_up_tokenization_spaces=False, model_max_length=128,
    )
    fast.chat_template = CHAT_TEMPLATE
    fast.save_pretrained(folder)
    path = folder / "tokenizer.json"
    path.write_text(path.read_text(encoding="utf-8") + "\n", encoding="utf-8")  # a text file ends with a line end
    read = transformers.AutoTokenizer.from_pretrained(folder)
    write_json(folder / "golden.json", {
        "texts": [
            {"text": text, "ids": read.encode(text), "ids_without_special": read.encode(text, add_special_tokens=False)}
            for text in [*TEXTS, *more_texts]
        ],
        "chat": {
            "messages": MESSAGES,
            "text": read.apply_chat_template(MESSAGES, tokenize=False),
            "text_with_generation_prompt": read.apply_chat_template(MESSAGES, tokenize=False, add_generation_prompt=True),
            "ids_with_generation_prompt": read.apply_chat_template(MESSAGES, add_generation_prompt=True),
        },
    })


def make_bpe_nfc(folder):
    make_bpe(folder, normalizers.NFC(), MARKED_CORPUS + CORPUS, MARKED_TEXTS)


def make_spm(folder):
    """A BPE ModelProto with byte fallback, written piece by piece: 3 control pieces, 256 bytes, 29 others."""
    folder.mkdir(parents=True, exist_ok=True)
    pieces = ["\u2581", *"etaoinshrdlu", "\u2581t", "he", "\u2581the", "in", "er", "an", "\u2581a", "re", "on", "at"]
    pieces += ["nd", "\u2581and", "ed", "\u2581s", "ing", "es"]
    model = sentencepiece_model_pb2.ModelProto()
    kinds = sentencepiece_model_pb2.ModelProto.SentencePiece
    for piece, kind in [("<unk>", kinds.UNKNOWN), ("<s>", kinds.CONTROL), ("</s>", kinds.CONTROL)]:
        model.pieces.add(piece=piece, score=0.0, type=kind)
    for byte in range(256):
        model.pieces.add(piece=f"<0x{byte:02X}>", score=0.0, type=kinds.BYTE)
    # Merges first, as a trained model has them: a better score means an earlier merge; single letters come last.
    for rank, piece in enumerate(sorted(pieces, key=lambda piece: len(piece) == 1)):
        model.pieces.add(piece=piece, score=-float(rank), type=kinds.NORMAL)
    assert len(model.pieces) == VOCAB_SIZE
    trainer = model.trainer_spec
    trainer.model_type = sentencepiece_model_pb2.TrainerSpec.BPE
    trainer.vocab_size, trainer.byte_fallback = VOCAB_SIZE, True
    trainer.unk_id, trainer.bos_id, trainer.eos_id, trainer.pad_id = 0, 1, 2, -1
    normalizer = model.normalizer_spec
    normalizer.name, normalizer.add_dummy_prefix = "identity", True
    normalizer.remove_extra_whitespaces, normalizer.escape_whitespaces = False, True
    (folder / "tokenizer.model").write_bytes(model.SerializeToString(deterministic=True))
    added = {
        str(i): {"content": token, "lstrip": False, "normalized": False, "rstrip": False, "single_word": False,
                 "special": True}
        for i, token in enumerate(["<unk>", "<s>", "</s>"])
    }
    write_json(folder / "tokenizer_config.json", {
        "add_bos_token": True, "add_eos_token": False, "added_tokens_decoder": added, "bos_token": "<s>",
        "clean_up_tokenization_spaces": False, "eos_token": "</s>", "legacy": False, "model_max_length": 128,
        "pad_token": None, "sp_model_kwargs": {}, "tokenizer_class": "LlamaTokenizer", "unk_token": "<unk>",
    }, indent=2)
    processor = sentencepiece.SentencePieceProcessor(model_file=str(folder / "tokenizer.model"))
    write_json(folder / "golden.json", {
        "texts": [{"text": text, "ids": [1] + processor.encode(text), "ids_without_special": processor.encode(text)}
                  for text in TEXTS if "<|" not in text],
    })


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--check", action="store_true", help="compare with the committed files, write nothing")
    check = parser.parse_args().check
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary) if check else FOLDER
        make_bpe(folder / "tokenizer_bpe")
        make_bpe_nfc(folder / "tokenizer_bpe_nfc")
        make_spm(folder / "tokenizer_spm")
        if check:
            for path in folder.glob("*/*"):
                assert path.read_bytes() == (FOLDER / path.relative_to(folder)).read_bytes(), f"{path.name} differs"
            print("every committed file is as made")


if __name__ == "__main__":
    main()
