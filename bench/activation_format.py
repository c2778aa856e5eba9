"""Perplexity of a model by the format of the int8 activations that enter its quantised matrices.

    python3 activation_format.py ../models/ref-qwen35moe-Q4_K_M.gguf \\
        ../tests/golden/reference-perplexity.json [--windows 8]

Each model runs in torch float32 on its dequantised weights; a format rounds the input of every
quantised matrix. "plain" is the file as it is. "norms" multiplies 4 random channels of every
attn_norm and post_attention_norm by 64 and divides the matching columns of the matrices that read
them, which leaves the function alone and gives the activations outlier channels; "all" does the
same to output_norm, ssm_norm, the rows of the value and up projections and the columns behind them.
The numbers and the decision they led to: docs/activation-format.md.
"""

import argparse
import json
import math
import os
import sys

import torch

sys.path.insert(0, os.path.join(os.path.dirname(__file__), "..", "tests", "golden", "scripts"))
from reference_model import Model  # noqa: E402

FACTOR = 64.0
CHANNELS = 4


def blocks(x, size):
    pad = -x.shape[-1] % size
    return torch.nn.functional.pad(x, (0, pad)).unflatten(-1, (-1, size))


def join(b, x):
    return b.flatten(-2)[..., : x.shape[-1]]


def float_scale(size):
    """One float scale for every `size` elements."""

    def quantise(x):
        b = blocks(x, size)
        d = b.abs().amax(-1, keepdim=True) / 127
        q = torch.round(b / torch.where(d > 0, d, 1.0))
        return join(q * d, x)

    return quantise


def multiplier(sub, most, power_of_two=False):
    """One float scale per 256 and an integer multiplier 1..most for every `sub` elements."""

    def quantise(x):
        b = blocks(x, 256)
        d = b.abs().amax(-1, keepdim=True) / (127 * most)
        safe = torch.where(d > 0, d, 1.0)
        s = b.unflatten(-1, (-1, sub))
        wanted = s.abs().amax(-1, keepdim=True) / (safe[..., None] * 127)
        if power_of_two:
            wanted = torch.exp2(torch.ceil(torch.log2(wanted.clamp(min=1))))
        mul = torch.ceil(wanted).clamp(1, most)
        q = torch.round(s / (safe[..., None] * mul)).clamp(-127, 127)
        return join((q * mul).flatten(-2) * d, x)

    return quantise


FORMATS = {
    "float32": None,
    "one scale per 256": float_scale(256),
    "one scale per 32": float_scale(32),
    "256 + multiplier 1..15 per 32": multiplier(32, 15),
    "256 + multiplier 1..15 per 16": multiplier(16, 15),
    "256 + 1, 2, 4, 8 per 32": multiplier(32, 8, power_of_two=True),
    "256 + multiplier 1..63 per 32": multiplier(32, 63),
}


def scale_columns(model, name, channels):
    if name in model.w:
        model.w[name][..., channels] /= FACTOR


def scale_rows(model, name, channels):
    model.w[name][..., channels, :] *= FACTOR


def pick(n, generator):
    return torch.randperm(n, generator=generator)[:CHANNELS]


READERS = {
    "attn_norm": ("attn_qkv", "attn_gate", "ssm_alpha", "ssm_beta", "attn_q", "attn_k", "attn_v"),
    "post_attention_norm": (
        "ffn_gate_inp", "ffn_gate_inp_shexp", "ffn_gate_exps", "ffn_up_exps", "ffn_gate_up_exps",
        "ffn_gate_shexp", "ffn_up_shexp", "ffn_gate", "ffn_up",
    ),
}


def outliers_in_norms(model, generator):
    for il in range(model.n_main):
        for norm, readers in READERS.items():
            weight = model.w[f"blk.{il}.{norm}.weight"]
            channels = pick(len(weight), generator)
            weight[channels] *= FACTOR
            for reader in readers:
                scale_columns(model, f"blk.{il}.{reader}.weight", channels)


def outliers_elsewhere(model, generator):
    weight = model.w["output_norm.weight"]
    channels = pick(len(weight), generator)
    weight[channels] *= FACTOR
    scale_columns(model, "output.weight", channels)
    for il in range(model.n_main):
        blk = f"blk.{il}"
        for suffix in ("", "_exps", "_shexp"):
            up = f"{blk}.ffn_up{suffix}.weight"
            if up in model.w:
                channels = pick(model.w[up].shape[-2], generator)
                scale_rows(model, up, channels)
                scale_columns(model, f"{blk}.ffn_down{suffix}.weight", channels)
        if f"{blk}.ssm_norm.weight" in model.w:
            channels = pick(model.d_state, generator)
            model.w[f"{blk}.ssm_norm.weight"][channels] *= FACTOR
            for head in range(model.n_v):
                scale_columns(model, f"{blk}.ssm_out.weight", channels + head * model.d_state)
        elif f"{blk}.attn_v.weight" in model.w:
            d, group = model.head_dim, model.n_head // model.n_head_kv
            channels = pick(d, generator)
            for kv in range(model.n_head_kv):
                scale_rows(model, f"{blk}.attn_v.weight", channels + kv * d)
                for head in range(kv * group, (kv + 1) * group):
                    scale_columns(model, f"{blk}.attn_output.weight", channels + head * d)


def outlier_model(path, kind):
    model = Model(path)
    generator = torch.Generator().manual_seed(1)
    if kind != "plain":
        outliers_in_norms(model, generator)
    if kind == "all":
        outliers_elsewhere(model, generator)
    return model


def score(model, windows, baseline):
    """Mean negative log-likelihood of all but the first token of each window, and the mean
    Kullback-Leibler divergence from baseline, log-probabilities filled in by the first call."""
    first = not baseline
    nll, divergence = 0.0, 0.0
    for i, batch in enumerate(windows.split(2)):
        logp = model.logits(batch)[:, :-1].log_softmax(-1)
        nll -= logp.gather(-1, batch[:, 1:, None]).double().sum().item()
        if first:
            baseline.append(logp)
        else:
            divergence += (baseline[i].exp() * (baseline[i] - logp)).sum(dtype=torch.double).item()
    count = windows[:, 1:].numel()
    return nll / count, divergence / count


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("model")
    parser.add_argument("texts", help="JSON with the token ids of each text")
    parser.add_argument("--windows", type=int, default=8)
    parser.add_argument("--threads", type=int, default=1)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    data = json.load(open(args.texts, encoding="utf-8"))
    length = data["length"]
    for kind in ("plain", "norms", "all"):
        model = outlier_model(args.model, kind)
        for text in data["texts"]:
            windows = torch.tensor(text["tokens"]).reshape(-1, length)[: args.windows]
            result, baseline = {}, []
            for name, activation in FORMATS.items():
                model.activation = activation
                result[name] = score(model, windows, baseline)
            for name, (nll, divergence) in result.items():
                rise = math.expm1(nll - result["float32"][0])
                ratio = math.expm1(nll - result["one scale per 32"][0])
                print(f"| {kind} | {text['text']} | {name} | {math.exp(nll):.4f} "
                      f"| {100 * rise:+.2f} % | {100 * ratio:+.2f} % | {1e3 * divergence:.3f} |",
                      flush=True)


if __name__ == "__main__":
    main()
