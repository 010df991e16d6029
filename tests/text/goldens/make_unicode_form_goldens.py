"""Writes what Python's unicodedata makes of texts in the four normalization forms (UAX #15).

    python3 make_unicode_form_goldens.py            writes unicode_forms.json next to this script
    python3 make_unicode_form_goldens.py --check    compares with the committed file instead

Texts are the characters that a form changes, in tens, and random ones of letters, marks, Hangul and characters that join
or come apart. Characters are those that Unicode 3.2 has: what they become is the same in every later version.
"""

import json
import pathlib
import random
import sys
import unicodedata

FORMS = ("NFC", "NFD", "NFKC", "NFKD")
PATH = pathlib.Path(__file__).resolve().parent / "unicode_forms.json"
AGE = unicodedata.ucd_3_2_0


def assigned(code):
    return not 0xD800 <= code <= 0xDFFF and AGE.category(chr(code)) != "Cn"


def changing():
    """Characters that are not the same in every form, a sample of those that there are very many of."""
    found = [c for c in map(chr, filter(assigned, range(0x30000))) if any(unicodedata.normalize(f, c) != c for f in FORMS)]
    hangul = [c for c in found if "\uac00" <= c <= "\ud7a3"]
    ideographs = [c for c in found if c >= "\U00020000"]
    rest = [c for c in found if c not in set(hangul) | set(ideographs)]
    return rest + hangul[::97] + ideographs[::11]


def texts():
    single = changing()
    made = ["".join(single[i : i + 10]) for i in range(0, len(single), 10)]
    marks = [chr(c) for c in range(0x300, 0x36F) if unicodedata.combining(chr(c))] + ["\u05b0", "\u0651", "\u3099", "\u0345"]
    jamo = [chr(c) for c in (0x1100, 0x1112, 0x1161, 0x1175, 0x11A8, 0x11C2, 0xAC00, 0xAC01, 0xD788)]
    letters = list("aeiouAEIOUcnszk \n") + ["\u00e9", "\u1e69", "\u0391", "\u1f71", "\u304b", "\u6c34", "\u0fb2", "\u0f71",
                                            "\u0f80", "\u0958", "\u212b", "\u2126", "\ufb01", "\U0001d15e", "\U0001f600"]
    rng = random.Random(1)
    for _ in range(400):
        pool = letters + marks * 2 + jamo * 3
        made.append("".join(rng.choice(pool) for _ in range(rng.randrange(1, 30))))
    made.append("a" + "\u0301\u0323" * 200 + "b")
    return made


def main():
    cases = [[text] + [unicodedata.normalize(form, text) for form in FORMS] for text in texts()]
    contents = json.dumps({"forms": FORMS, "cases": cases}, ensure_ascii=False, separators=(",", ":")) + "\n"
    if "--check" in sys.argv[1:]:
        assert PATH.read_text(encoding="utf-8") == contents, f"{PATH} differs"
        print("as made")
    else:
        PATH.write_text(contents, encoding="utf-8")


if __name__ == "__main__":
    main()
