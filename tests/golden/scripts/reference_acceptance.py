"""How often the draft head agrees with the trunk, in torch float32 on the dequantised weights.

    python3 reference_acceptance.py MODEL.gguf TOKENIZER.json PERPLEXITY.json PROSE.txt CODE.txt OUT.json

Writes reference-acceptance.json; tests/golden/README.md defines its numbers. PERPLEXITY.json is
reference-perplexity.json, whose windows are taken.

    python3 reference_acceptance.py --small MODELS_DIR NAME...

Writes MODELS_DIR/NAME.mtp.json beside NAME.golden.json: draft logits of small models down a chain of
three drafts.
"""

import json
import os
import sys

import torch
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(__file__))
from make_models import N_TOP, rows, write_json  # noqa: E402
from reference_model import Model, int8_rows  # noqa: E402

LENGTH, DEPTHS = 1024, 3
ANCHOR_STEP = 8


def window_hits(model, window):
    """At each depth, rows of the window whose draft is the trunk's choice behind the true text."""
    ids = window[None]
    hidden = model.hidden(ids)
    trunk = model.head(hidden).argmax(-1)
    drafts = model.mtp_chain(ids, hidden, DEPTHS)
    return [int((d.argmax(-1) == trunk[:, j:]).sum()) for j, d in enumerate(drafts, 1)]


def share(hits, n_windows):
    return [round(sum(h[j] for h in hits) / (n_windows * (LENGTH - 1 - j)), 5)
            for j in range(DEPTHS)]


def measure(model, tokens):
    windows = torch.tensor(tokens[: len(tokens) // LENGTH * LENGTH]).reshape(-1, LENGTH)
    hits = [window_hits(model, window) for window in windows]
    return {"windows": hits, "agreement": share(hits, len(windows))}


def acceptance(model_path, tokenizer_path, perplexity_path, *texts):
    model, tokenizer = Model(model_path), Tokenizer.from_file(tokenizer_path)
    scored = json.load(open(perplexity_path, encoding="utf-8"))
    out = {"length": LENGTH, "scored": [LENGTH - j for j in range(1, DEPTHS + 1)], "texts": []}
    for entry, path in zip(scored["texts"], texts):
        assert entry["text"] == os.path.basename(path)
        text = {"text": entry["text"], "tokens_sha256": entry["tokens_sha256"]}
        for name, activation in (("float32", None), ("int8", int8_rows)):
            model.activation = activation
            text[name] = measure(model, entry["tokens"])
            print(text["text"], name, text[name]["agreement"], flush=True)
        model.activation = None
        ids = tokenizer.encode(open(path, encoding="utf-8", newline="").read()).ids
        whole = measure(model, ids)
        text["whole_text"] = {"windows": len(whole["windows"]), "agreement": whole["agreement"]}
        print(text["text"], "whole text", text["whole_text"], flush=True)
        out["texts"].append(text)
    return out


def small(directory, name):
    tokens = json.load(open(os.path.join(directory, f"{name}.golden.json")))["tokens"]
    ids = torch.tensor([tokens])
    model = Model(os.path.join(directory, f"{name}.gguf"))
    anchors = list(range(0, len(tokens) - DEPTHS, ANCHOR_STEP))
    chain = model.mtp_chain(ids, model.hidden(ids), DEPTHS)
    return {"anchors": anchors, "depths": [rows(d[0, anchors], N_TOP) for d in chain]}


def main():
    torch.set_num_threads(1)
    if sys.argv[1] == "--small":
        for name in sys.argv[3:]:
            write_json(os.path.join(sys.argv[2], f"{name}.mtp.json"), small(sys.argv[2], name))
    else:
        write_json(sys.argv[-1], acceptance(*sys.argv[1:-1]))


if __name__ == "__main__":
    main()
