"""How far apart the golden models keep rounding noise and real defects.

    python3 sensitivity.py NAME.golden.json...

For every position the root mean square of the differences from the recorded int8 logits; a line gives
their median, 90th percentile and maximum over positions: for activations that carry relative noise of
1e-6 (the worst of 6 draws), for KV in float16, and for deliberate defects of the reference.
tests/golden/README.md draws the bound from the numbers.
"""

import json
import sys
import types

import torch

import reference_model
from reference_model import Model, int8_rows

TRIES = 6
DEFECTS = {
    "k-heads grouped": (
        "k = unit(k.reshape(batch, length, n_k, d)).tile(tile)",
        "k = unit(k.reshape(batch, length, n_k, d)).repeat_interleave(n_v // n_k, dim=2)",
    ),
    "conv taps reversed": ("taps[:, j] for", "taps[:, n_taps - 1 - j] for"),
    "q and gate swapped": ("q, gate = q.reshape", "gate, q = q.reshape"),
    "gate not interleaved": (
        "n_head, 2, d).unbind(3)", "2, n_head, d).unbind(2)",
    ),
    "no rope": ("return torch.cat((a * cos - b * sin, b * cos + a * sin, x[..., n:]), dim=-1)",
                "return x"),
    "kv heads tiled": ("k = k.repeat_interleave(group, dim=2)", "k = k.tile(1, 1, group, 1)"),
    "q of delta net unscaled": ("n_k, d)).tile(tile) / np.sqrt(d)", "n_k, d)).tile(tile)"),
    "wrong attention scale": ("/ np.sqrt(d) + mask", "/ np.sqrt(d / 2) + mask"),
    "experts not renormalised": ("top = top / top.sum(-1, keepdim=True)", "pass"),
    "shared expert ungated": ("share * self.swiglu", "self.swiglu"),
    "delta net reads before it updates": (
        "(q[:, t, :, None, :] @ state)",
        "(q[:, t, :, None, :] @ (state - k[:, t, :, :, None] * delta[:, :, None, :]))",
    ),
    "delta from the undecayed state": (
        "seen = (k[:, t, :, None, :] @ state)",
        "seen = (k[:, t, :, None, :] @ (state / decay[:, t, :, None, None]))",
    ),
    "eps 1e-5": ('self.key("attention.layer_norm_rms_epsilon")', "1e-5"),
}
KV_F16 = ("group = n_head // n_kv\n",
          "group = n_head // n_kv\n        k, v = k.half().float(), v.half().float()\n")
MOE_ONLY = ("experts not renormalised", "shared expert ungated")


def changed(old, new):
    """The Model class of a reference with one piece of its source replaced."""
    source = open(reference_model.__file__, encoding="utf-8").read()
    assert source.count(old) == 1, old
    module = types.ModuleType("changed")
    exec(compile(source.replace(old, new), "changed", "exec"), module.__dict__)
    return module.Model


def noisy(x):
    return int8_rows(x * (1 + 1e-6 * (torch.rand_like(x) - 0.5)))


def spread(model, golden):
    ids = torch.tensor(golden["top_ids"])
    got = model.logits(torch.tensor([golden["tokens"]]))[0].gather(1, ids)
    rms = (got - torch.tensor(golden["int8"]["top_logits"])).square().mean(1).sqrt()
    return [rms.median().item(), rms.quantile(0.9).item(), rms.max().item()]


def line(name, values):
    print(f"  {name:36}", *(f"{v:8.4f}" for v in values), flush=True)


def main():
    torch.set_num_threads(1)
    torch.manual_seed(3)
    for path in sys.argv[1:]:
        golden = json.load(open(path, encoding="utf-8"))
        print(golden["model"])
        gguf_path = path.replace(".golden.json", ".gguf")
        model = Model(gguf_path, activation=noisy)
        tries = [spread(model, golden) for _ in range(TRIES)]
        line("noise of 1e-6", [max(column) for column in zip(*tries)])
        line("KV in float16", spread(changed(*KV_F16)(gguf_path, activation=int8_rows), golden))
        line("float32 activations", spread(Model(gguf_path), golden))
        for name, edit in DEFECTS.items():
            if model.arch == "qwen35moe" or name not in MOE_ONLY:
                line(name, spread(changed(*edit)(gguf_path, activation=int8_rows), golden))


if __name__ == "__main__":
    main()
