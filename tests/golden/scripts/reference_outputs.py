"""Reference numbers of the bundled model, in torch float32 on its dequantised weights.

    python3 reference_outputs.py MODEL.gguf TOKENIZER.json REFERENCE.json PROSE.txt CODE.txt OUT_DIR

Writes reference-perplexity.json, reference-greedy.json and reference-mtp.json into OUT_DIR;
tests/golden/README.md defines every number in them. REFERENCE.json lists prompts with the tokens
that llama.cpp decoded greedily from the same file.
"""

import hashlib
import json
import os
import sys

import torch
from tokenizers import Tokenizer

sys.path.insert(0, os.path.dirname(__file__))
from reference_model import Model, int8_rows  # noqa: E402

LENGTH, WINDOWS = 1024, 8
MTP_POSITIONS, MTP_TOP = 64, 8


def modes(model):
    for name, activation in (("float32", None), ("int8", int8_rows)):
        model.activation = activation
        yield name


def digest(tokens):
    """SHA-256 of the ids as little-endian 32-bit integers."""
    return hashlib.sha256(b"".join(t.to_bytes(4, "little") for t in tokens)).hexdigest()


def window_losses(model, windows):
    """Sum of negative log-likelihoods of tokens 1.. of each window, and the top-1 hits."""
    sums, hits = [], []
    for batch in windows.split(4):
        logits = model.logits(batch)[:, :-1].double()
        want = batch[:, 1:, None]
        nll = logits.logsumexp(-1) - logits.gather(-1, want)[..., 0]
        sums += [round(v, 4) for v in nll.sum(-1).tolist()]
        hits += (logits.argmax(-1) == want[..., 0]).sum(-1).tolist()
    return sums, hits


def perplexity(model, tokenizer, texts):
    out = {"length": LENGTH, "windows": WINDOWS, "scored": WINDOWS * (LENGTH - 1), "texts": []}
    for path in texts:
        ids = tokenizer.encode(open(path, encoding="utf-8", newline="").read()).ids
        ids = ids[: LENGTH * WINDOWS]
        text = {"text": os.path.basename(path), "tokens_sha256": digest(ids), "tokens": ids}
        for mode in modes(model):
            sums, hits = window_losses(model, torch.tensor(ids).reshape(-1, LENGTH))
            mean = sum(sums) / out["scored"]
            text[mode] = {
                "nll_sum": round(sum(sums), 4), "windows": sums, "top1_hits": hits,
                "perplexity": round(torch.tensor(mean).double().exp().item(), 5),
            }
            print(text["text"], mode, text[mode]["perplexity"])
        out["texts"].append(text)
    return out


def greedy(model, reference):
    prompts = []
    for item in reference:
        prompt, decoded = item["tokens"], item["llama_cpp_plain_tokens"]
        entry = {"prompt": item["prompt"], "tokens": prompt, "llama_cpp": decoded}
        for mode in modes(model):
            logits = model.logits(torch.tensor([prompt + decoded]))[0, len(prompt) - 1 : -1]
            top = logits.topk(2)
            best = top.indices[:, 0].tolist()
            margin = [round(v, 4) for v in (top.values[:, 0] - top.values[:, 1]).tolist()]
            entry[mode] = {"argmax": best, "margin": margin}
            differ = [m for a, b, m in zip(best, decoded, margin) if a != b]
            print(item["prompt"][:24].strip(), mode, "equal", len(best) - len(differ), "of",
                  len(best), "largest margin where not", max(differ, default=0))
        prompts.append(entry)
    return {"prompts": prompts}


def mtp(model, perplexity_data):
    out = {"texts": []}
    for text in perplexity_data["texts"]:
        tokens = text["tokens"][:LENGTH]
        entry = {"text": text["text"], "tokens": tokens[: MTP_POSITIONS + 1]}
        for mode in modes(model):
            ids = torch.tensor([tokens])
            hidden = model.hidden(ids)
            draft = model.mtp_logits(ids, hidden)[0][0]
            trunk = model.head(hidden)[0].argmax(-1)
            agree = (draft.argmax(-1) == trunk[1:]).float().mean().item()
            print(text["text"], mode, f"draft agrees with the trunk at {100 * agree:.1f} %")
            top = draft[:MTP_POSITIONS].topk(MTP_TOP)
            entry[mode] = {
                "top_ids": top.indices.tolist(),
                "top_logits": [[round(v, 4) for v in row] for row in top.values.tolist()],
                "trunk_argmax": trunk[1 : MTP_POSITIONS + 1].tolist(),
                "window_agreement": round(agree, 4),
            }
        out["texts"].append(entry)
    return out


def write(path, data):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(data, out, separators=(",", ":"))
        out.write("\n")


def main():
    model_path, tokenizer_path, reference_path, *texts, out_dir = sys.argv[1:]
    torch.set_num_threads(1)
    model = Model(model_path)
    scored = perplexity(model, Tokenizer.from_file(tokenizer_path), texts)
    write(os.path.join(out_dir, "reference-perplexity.json"), scored)
    reference = json.load(open(reference_path, encoding="utf-8"))
    write(os.path.join(out_dir, "reference-greedy.json"), greedy(model, reference))
    write(os.path.join(out_dir, "reference-mtp.json"), mtp(model, scored))


if __name__ == "__main__":
    main()
