#!/usr/bin/env python3
"""Makes tests/golden/tokenizer/encodings.bin.zst: strings and their token ids by an independent
tokenizer (Hugging Face tokenizers, the Rust library), for test_tokenizer.

usage: make_tokenizer.py REF-TOKENIZER.json OUT.bin.zst

REF-TOKENIZER.json is the reference model's tokenizer in Hugging Face format: the same tokens and
merges as in models/ref-qwen35moe-Q4_K_M.gguf. Needs Python 3.11 or later, `tokenizers` (0.23.3 was
used) and the zstd command.

Format, little endian, compressed with zstd: "MTPTOK1\\n", u32 number of records; a record is
u32 length, that many bytes of UTF-8, u8 number of lists (1: qwen35; 4: qwen35, qwen2, gpt-2,
default), and each list u32 n and n u16 ids.

Left out on purpose: code points that were assigned after Unicode 14, the version of Debian 12's and
Ubuntu 24.04's PCRE2, as letters, marks or numbers. The tokenizer that made the golden ids follows
Unicode 16 there, so the two disagree whether such a character belongs to a word. NEWER lists them
(found by comparing \\p{L}, \\p{M} and \\p{N} of both libraries over all code points; white space
agrees everywhere). Random bytes have no golden ids: the independent tokenizer takes strings only.
"""
import random
import struct
import subprocess
import sys
import unicodedata

from tokenizers import Regex, Tokenizer, pre_tokenizers

NEWER = """
897 CF3 ECE 1C89-1C8A A7CB-A7CD A7DA-A7DC 105C0-105F3 10D40-10D65 10D69-10D6D 10D6F-10D85
10EC2-10EC4 10EFC-10EFF 1123F-11241 11380-11389 1138B 1138E 11390-113B5 113B7-113C0 113C2 113C5
113C7-113CA 113CC-113D3 113E1-113E2 116D0-116E3 11BC0-11BE0 11BF0-11BF9 11F00-11F10 11F12-11F3A
11F3E-11F42 11F50-11F5A 1342F 13440-13455 13460-143FA 16100-16139 16D40-16D6C 16D70-16D79 18CFF
1B132 1B155 1CCF0-1CCF9 1D2C0-1D2D3 1DF25-1DF2A 1E030-1E06D 1E08F 1E4D0-1E4F9 1E5D0-1E5F0
1E5F1-1E5FA 2B739 2EBF0-2EE5D 31350-323AF
"""

CONTRACTIONS = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)"
QWEN2 = (CONTRACTIONS + r"|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*"
         r"|\s*[\r\n]+|\s+(?!\S)|\s+")
GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
OTHERS = [
    [QWEN2],
    [GPT2],
    [r"[\p{P}\$\+<=>\^~\|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"],
]

SENTENCES = """
The quick brown fox jumps over the lazy dog.|I'm sure they've said we'll do it, don't you'd think?
Der schnelle Fuchs läuft über die grüne Straße.|Où est la bibliothèque, s'il vous plaît ?
El niño comió jalapeños en la mañana.|Zażółć gęślą jaźń.|Příliš žluťoučký kůň úpěl ďábelské ódy.
Türkçe öğrenmek çok güzeldir, İstanbul'da.|Ça va bien, l'été dernier.|Þetta er íslenska, já ætla ég.
Съешь ещё этих мягких французских булок.|Їжак їсть яблука.|Ξεσκεπάζω την ψυχοφθόρα βδελυγμία.
שלום עולם, מה שלומך?|בְּרֵאשִׁית בָּרָא|مرحبا بالعالم كيف حالك؟|بِسْمِ ٱللَّهِ|سلام دنیا|یہ اردو ہے
नमस्ते दुनिया, आप कैसे हैं?|क्षत्रिय ज्ञान श्री|হ্যালো বিশ্ব|ਸਤ ਸ੍ਰੀ ਅਕਾਲ|નમસ્તે|வணக்கம் உலகம்|నమస్కారం|ನಮಸ್ಕಾರ|നമസ്കാരം
สวัสดีชาวโลก ที่นี่|ສະບາຍດີ|မင်္ဂလာပါ|សួស្តី|བཀྲ་ཤིས་བདེ་ལེགས།|ආයුබෝවන්
你好，世界！今天天气很好。|繁體中文測試|こんにちは世界。カタカナとひらがな|안녕하세요 세계 여러분|ﾊﾝｶｸ ｶﾀｶﾅ
გამარჯობა მსოფლიო|Բարեւ աշխարհ|ሰላም ለዓለም|ᐊᐃᓐᖓᐃ|ᏣᎳᎩ ᎦᏬᏂᎯᏍᏗ|ⴰⵣⵓⵍ|ߒߞߏ|𐌲𐌿𐍄𐌹𐍃𐌺|𓀀𓁐𓂀|𒀀𒀁𒀂
ᚠᚢᚦᚨᚱᚲ|Tiếng Việt rất đẹp và khó đọc|Hawaiʻi ʻōlelo|naïve façade coöperate|ﬁ ﬂ ﬀ ligatures|ｆｕｌｌ ｗｉｄｔｈ
""".replace("\n", "|").strip("|").split("|")

CODE = r"""
#include <stdio.h>
int main(int argc, char **argv) { return argc > 1 ? 0 : -1; }
	for (size_t i = 0; i < n; i++)
		sum += a[i] * b[i]; /* inner product */
#define MAX(a, b) ((a) > (b) ? (a) : (b))
static const uint8_t table[256] = {0x00, 0xff, 0x7F, 'a', '\n', '\\'};
def f(x, *args, **kw): return [y**2 for y in x if y != 0]
    if __name__ == "__main__":
        raise ValueError(f"bad value: {x!r:>10}")
const f = async (x) => { await g(`${x}::${y ?? 'none'}`); };
<div class="a b" id='c'>text &amp; more</div><!-- note --></s>
{"key": [1, 2.5e-3, null, true], "nested": {"a\u0041": "b"}}
SELECT * FROM t WHERE a >= 10 AND b LIKE '%x%' -- comment
$ grep -rn "foo\|bar" --include='*.c' . | sort -u > /tmp/out 2>&1
let mut v: Vec<Option<&'static str>> = vec![None; 10]; v?.iter()
template <typename T> auto operator<=>(const T&) const = default;
https://example.org/a/b?c=d&e=f%20g#frag user@example.com 192.168.0.1
x += y; y -= z; a <<= 2; b ^= ~c; p->q.r = s::t; // done
\begin{equation} \frac{a}{b} = \sum_{i=0}^{n} x_i^2 \end{equation}
""".strip("\n").split("\n")

SPACES = [" ", "  ", "    ", "\t", "\t\t", "\n", "\n\n", "\r\n", "\r", "\v", "\f", "\x1c", "\x1f",
          "\x85", "\xa0", "\u1680", "\u180e", "\u2003", "\u2009", "\u200b", "\u2028", "\u2029",
          "\u202f", "\u205f", "\u3000", "\ufeff", "\x00", "\x7f"]
EMOJI = ["😀", "👍🏽", "👩‍👩‍👧‍👦", "🏳️‍🌈", "🇩🇪", "🇯🇵🇫🇷", "1️⃣", "#️⃣", "❤️", "☃", "🧑🏿‍🚀", "🤷🏻‍♀️", "✅", "⚡", "🫠", "🏴󠁧󠁢󠁥󠁮󠁧󠁿", "©️", "™"]
TAILS = ["s", "S", "t", "T", "re", "RE", "rE", "ve", "Ve", "m", "M", "ll", "LL", "lL", "d", "D",
         "\u017f", "\u017ft", "x", "lx", "r", "v", "sly", "ses", "dd"]
QUOTES = ["'", "\u2019", "`", "''", "\"", "\u02bc"]
NUMBERS = "0123456789٠١٢३४५๖๗８９ⅣⅨ½¾²³①⑳〇一万𝟘𝟡"
SPECIALS = ["<|endoftext|>", "<|im_start|>", "<|im_end|>", "<|im_end|", "<|im_en<|im_end|>", "<|",
            "|>", "<|im_start|>user\n", "<|im_start|>assistant\n", "<|endoftext|", "<<|im_end|>>"]


def known_code_points():
    newer = set()
    for part in NEWER.split():
        first, _, last = part.partition("-")
        newer.update(range(int(first, 16), int(last or first, 16) + 1))
    return [c for c in range(0x110000) if not 0xd800 <= c < 0xe000 and c not in newer]


class Maker:
    def __init__(self, seed):
        self.random = random.Random(seed)
        known = known_code_points()
        names = {}
        for c in known:
            category = unicodedata.category(chr(c))
            if category[0] in "LM":
                script = unicodedata.name(chr(c), "?").split()[0]
                names.setdefault(script, []).append(chr(c))
        # Names begin with the script: every one with three characters or more is written in.
        self.scripts = [names[k] for k in sorted(names) if len(names[k]) >= 3]
        self.any = [chr(c) for c in known if unicodedata.category(chr(c)) not in ("Cn", "Co")]
        self.low = [chr(c) for c in known if c < 0x3100]
        self.marks = [chr(c) for c in known if unicodedata.category(chr(c))[0] == "M"]

    def pick(self, items, low, high):
        return [self.random.choice(items) for _ in range(self.random.randint(low, high))]

    def script_text(self):
        letters = self.random.choice(self.scripts)
        words = ["".join(self.pick(letters, 1, 8)) for _ in range(self.random.randint(1, 4))]
        return self.random.choice([" ", ", ", "-", " 3 "]).join(words)

    def prose(self):
        return self.random.choice(["", " "]).join(self.pick(SENTENCES, 1, 2))

    def code(self):
        return self.random.choice(["\n", "\r\n", "\n    "]).join(self.pick(CODE, 1, 3))

    def emoji(self):
        return "".join(self.pick(EMOJI + [" ", "ok", "!", "\n"], 1, 9))

    def combining(self):
        text = "".join(self.random.choice(SENTENCES)[:12])
        return "".join(c + "".join(self.pick(self.marks, 0, 2)) for c in text)

    def whitespace(self):
        return "".join(self.pick(SPACES + SPACES[:8] * 2 + ["a", "b.", "7", "Ab", "-", "é"], 1, 14))

    def contraction(self):
        parts = ["He", " it", "", " ", "we", "ÉL", "9", "\n", "don"]
        return "".join(self.random.choice(parts) + self.random.choice(QUOTES) +
                       self.random.choice(TAILS) for _ in range(self.random.randint(1, 5)))

    def number(self):
        return "".join(self.pick(NUMBERS + "0123456789" * 2 + ".,-+ e%", 1, 16))

    def long_word(self):
        kind = self.random.randint(0, 3)
        n = self.random.choice([30, 33, 40, 64, 100, 300, 900])
        if kind == 0:
            return self.random.choice("aeéz =\n-_*#0中ы") * n
        if kind == 1:
            return "".join(self.random.choice(["ab", "the", "er", "in", "ing"]) for _ in range(n // 3))
        letters = "etaoinshrdlu" if kind == 2 else self.random.choice(self.scripts)
        return "".join(self.random.choice(letters) for _ in range(n // 2))

    def anything(self):
        return "".join(self.pick(self.any, 1, 12))

    def low_mixture(self):
        return "".join(self.pick(self.low, 1, 24))

    def ascii_mixture(self):
        return "".join(self.pick([chr(c) for c in range(128)], 1, 40))

    def special(self):
        return "".join(self.pick(SPECIALS + ["a", " ", "\n", "Hi"], 1, 6))

    def mixture(self):
        kinds = [self.script_text, self.emoji, self.whitespace, self.contraction, self.number,
                 self.special, self.anything]
        return "".join(self.random.choice(kinds)() for _ in range(self.random.randint(2, 3)))

    def strings(self):
        kinds = [(self.script_text, 1800), (self.prose, 700), (self.code, 700), (self.emoji, 600),
                 (self.combining, 700), (self.whitespace, 1200), (self.contraction, 800),
                 (self.number, 700), (self.long_word, 300), (self.anything, 600),
                 (self.low_mixture, 500), (self.ascii_mixture, 700), (self.special, 300),
                 (self.mixture, 399)]
        yield ""
        for make, count in kinds:
            for _ in range(count):
                yield make()


def variant(path, patterns):
    tokenizer = Tokenizer.from_file(path)
    parts = [pre_tokenizers.Split(Regex(p), "isolated") for p in patterns]
    parts.append(pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return tokenizer


def main():
    path, out = sys.argv[1:]
    tokenizers = [Tokenizer.from_file(path)] + [variant(path, p) for p in OTHERS]
    strings = list(Maker(20260101).strings())
    assert len(strings) == 10000
    data = [b"MTPTOK1\n", struct.pack("<I", len(strings))]
    for i, text in enumerate(strings):
        raw = text.encode("utf-8")
        lists = tokenizers if i % 4 == 0 else tokenizers[:1]
        data.append(struct.pack("<I", len(raw)) + raw + struct.pack("<B", len(lists)))
        for tokenizer in lists:
            ids = tokenizer.encode(text, add_special_tokens=False).ids
            data.append(struct.pack("<I%dH" % len(ids), len(ids), *ids))
    whole = b"".join(data)
    subprocess.run(["zstd", "-q", "-f", "-19", "--stream-size=%d" % len(whole), "-o", out],
                   input=whole, check=True)
    print(len(whole), "bytes before compression")


if __name__ == "__main__":
    main()
