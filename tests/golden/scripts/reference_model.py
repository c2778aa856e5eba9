"""The qwen35 / qwen35moe trunk and MTP block in torch float32, written from their mathematics.

An independent reference for the C engine: weights come from a GGUF file through the gguf package's
dequantiser, sequences run teacher-forced, and nothing here shares code with the engine. Weights are
kept in the file's conventions (norms with +1 baked in, V heads tiled, ssm_a = -exp(A_log)).

    python3 reference_model.py FILE.gguf GOLDEN.json     compares the trunk with recorded logits
"""

import json
import sys

import gguf
import numpy as np
import torch
import torch.nn.functional as F

FLOAT_TYPES = {
    gguf.GGMLQuantizationType.F32,
    gguf.GGMLQuantizationType.F16,
    gguf.GGMLQuantizationType.BF16,
}


def read_weights(paths):
    """Metadata of the first file, tensors of all: (fields, {name: float32}, {name: type})."""
    fields, weights, types = {}, {}, {}
    for path in paths:
        reader = gguf.GGUFReader(path)
        for key, field in reader.fields.items():
            fields.setdefault(key, field.contents())
        for tensor in reader.tensors:
            values = gguf.quants.dequantize(tensor.data, tensor.tensor_type)
            shape = [int(n) for n in reversed(tensor.shape)]
            weights[tensor.name] = torch.from_numpy(
                np.array(values, dtype=np.float32).reshape(shape)
            )
            types[tensor.name] = tensor.tensor_type
    return fields, weights, types


def rms(x, weight, eps):
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight


class Model:
    """activation, when given, stands in for the int8 rows that enter a quantised matrix."""

    def __init__(self, *paths, activation=None):
        self.fields, self.w, self.types = read_weights(paths)
        self.activation = activation
        self.arch = self.fields["general.architecture"]
        if self.arch not in ("qwen35", "qwen35moe"):
            raise ValueError(f"unsupported architecture {self.arch}")
        self.eps = self.key("attention.layer_norm_rms_epsilon")
        self.head_dim = self.key("attention.key_length")
        self.n_head = self.key("attention.head_count")
        self.n_head_kv = self.key("attention.head_count_kv")
        self.n_mtp = self.key("nextn_predict_layers", 0)
        self.n_main = self.key("block_count") - self.n_mtp
        self.interval = self.key("full_attention_interval", 4)
        self.n_k = self.key("ssm.group_count")
        self.n_v = self.key("ssm.time_step_rank")
        self.d_state = self.key("ssm.state_size")
        self.n_used = self.key("expert_used_count", 0)

    def key(self, name, *default):
        value = self.fields.get(f"{self.arch}.{name}", *default)
        return value[0] if isinstance(value, list) and len(set(value)) == 1 else value

    def is_float(self, name):
        return self.types[name] in FLOAT_TYPES

    def linear(self, name, x, rows=slice(None), expert=None):
        weight = self.w[name]
        weight = weight[expert] if expert is not None else weight
        if self.activation is not None and not self.is_float(name):
            x = self.activation(x)
        return x @ weight[rows].T

    # -- attention -------------------------------------------------------------------------------
    def rope(self, x, first_position):
        """NEOX pairs (i, i + n/2) inside the first n = rope.dimension_count dimensions."""
        n = self.key("rope.dimension_count")
        half = n // 2
        inverse = self.key("rope.freq_base") ** (-2.0 * np.arange(half, dtype=np.float64) / n)
        positions = np.arange(x.shape[1], dtype=np.float64) + first_position
        angle = positions[:, None] * inverse[None, :]
        cos = torch.from_numpy(np.cos(angle).astype(np.float32))[None, :, None, :]
        sin = torch.from_numpy(np.sin(angle).astype(np.float32))[None, :, None, :]
        a, b = x[..., :half], x[..., half:n]
        return torch.cat((a * cos - b * sin, b * cos + a * sin, x[..., n:]), dim=-1)

    def attention_inputs(self, blk, x, first_position):
        """Queries, keys and values [batch, head, row, head_dim], keys and values repeated for their
        groups, and the output gate [batch, row, head, head_dim]."""
        batch, length, _ = x.shape
        d, n_head, n_kv = self.head_dim, self.n_head, self.n_head_kv
        n_q = n_head * 2 * d
        if f"{blk}.attn_q.weight" in self.w:
            q, k, v = (self.linear(f"{blk}.attn_{c}.weight", x) for c in "qkv")
        else:
            qkv = self.linear(f"{blk}.attn_qkv.weight", x)
            q, k, v = qkv.split((n_q, n_kv * d, n_kv * d), dim=-1)
        q, gate = q.reshape(batch, length, n_head, 2, d).unbind(3)
        k = k.reshape(batch, length, n_kv, d)
        v = v.reshape(batch, length, n_kv, d)
        q = self.rope(rms(q, self.w[f"{blk}.attn_q_norm.weight"], self.eps), first_position)
        k = self.rope(rms(k, self.w[f"{blk}.attn_k_norm.weight"], self.eps), first_position)
        group = n_head // n_kv
        q = q.transpose(1, 2)
        k = k.repeat_interleave(group, dim=2).transpose(1, 2)
        v = v.repeat_interleave(group, dim=2).transpose(1, 2)
        return q, k, v, gate

    def attention_output(self, blk, out, gate):
        out = out.transpose(1, 2) * torch.sigmoid(gate)
        return self.linear(f"{blk}.attn_output.weight", out.flatten(-2))

    def full_attention(self, blk, x, first_position):
        q, k, v, gate = self.attention_inputs(blk, x, first_position)
        mask = torch.full((x.shape[1], x.shape[1]), float("-inf")).triu(1)
        scores = q @ k.transpose(-1, -2) / np.sqrt(self.head_dim) + mask
        return self.attention_output(blk, scores.softmax(-1) @ v, gate)

    def delta_net(self, blk, x):
        batch, length, _ = x.shape
        n_k, n_v, d = self.n_k, self.n_v, self.d_state
        qkv = self.linear(f"{blk}.attn_qkv.weight", x)
        z = self.linear(f"{blk}.attn_gate.weight", x).reshape(batch, length, n_v, d)
        beta = torch.sigmoid(self.linear(f"{blk}.ssm_beta.weight", x))
        step = self.linear(f"{blk}.ssm_alpha.weight", x) + self.w[f"{blk}.ssm_dt.bias"]
        decay = torch.exp(self.w[f"{blk}.ssm_a"] * F.softplus(step))
        taps = self.w[f"{blk}.ssm_conv1d.weight"]
        n_taps = taps.shape[1]
        padded = F.pad(qkv, (0, 0, n_taps - 1, 0))
        u = F.silu(sum(padded[:, j : j + length] * taps[:, j] for j in range(n_taps)))
        q, k, v = u.split((n_k * d, n_k * d, n_v * d), dim=-1)
        tile = (1, 1, n_v // n_k, 1)
        q = unit(q.reshape(batch, length, n_k, d)).tile(tile) / np.sqrt(d)
        k = unit(k.reshape(batch, length, n_k, d)).tile(tile)
        v = v.reshape(batch, length, n_v, d)
        state = torch.zeros(batch, n_v, d, d)
        out = torch.empty(batch, length, n_v, d)
        for t in range(length):
            state = state * decay[:, t, :, None, None]
            seen = (k[:, t, :, None, :] @ state).squeeze(-2)
            delta = (v[:, t] - seen) * beta[:, t, :, None]
            state = state + k[:, t, :, :, None] * delta[:, :, None, :]
            out[:, t] = (q[:, t, :, None, :] @ state).squeeze(-2)
        out = rms(out, self.w[f"{blk}.ssm_norm.weight"], self.eps) * F.silu(z)
        return self.linear(f"{blk}.ssm_out.weight", out.reshape(batch, length, n_v * d))

    # -- feed-forward ----------------------------------------------------------------------------
    def swiglu(self, blk, suffix, x, expert=None):
        fused = f"{blk}.ffn_gate_up{suffix}.weight"
        if fused in self.w:
            gate, up = self.linear(fused, x, expert=expert).chunk(2, dim=-1)
        else:
            gate = self.linear(f"{blk}.ffn_gate{suffix}.weight", x, expert=expert)
            up = self.linear(f"{blk}.ffn_up{suffix}.weight", x, expert=expert)
        return self.linear(f"{blk}.ffn_down{suffix}.weight", F.silu(gate) * up, expert=expert)

    def feed_forward(self, blk, x):
        if self.arch == "qwen35":
            return self.swiglu(blk, "", x)
        rows = x.reshape(-1, x.shape[-1])
        p = self.linear(f"{blk}.ffn_gate_inp.weight", rows).softmax(-1)
        top, chosen = p.topk(self.n_used, dim=-1)
        top = top / top.sum(-1, keepdim=True)
        y = torch.zeros_like(rows)
        for expert in range(p.shape[-1]):
            row, rank = torch.where(chosen == expert)
            if len(row):
                out = self.swiglu(blk, "_exps", rows[row], expert)
                y.index_add_(0, row, out * top[row, rank, None])
        share = torch.sigmoid(rows @ self.w[f"{blk}.ffn_gate_inp_shexp.weight"].reshape(-1, 1))
        y = y + share * self.swiglu(blk, "_shexp", rows)
        return y.reshape(x.shape)

    # -- whole passes ----------------------------------------------------------------------------
    def block(self, il, x, linear_layer, first_position=0):
        blk = f"blk.{il}"
        n = rms(x, self.w[f"{blk}.attn_norm.weight"], self.eps)
        x = x + (self.delta_net(blk, n) if linear_layer else
                 self.full_attention(blk, n, first_position))
        n = rms(x, self.w[f"{blk}.post_attention_norm.weight"], self.eps)
        return x + self.feed_forward(blk, n)

    def head(self, h):
        return self.linear("output.weight" if "output.weight" in self.w else "token_embd.weight", h)

    @torch.no_grad()
    def hidden(self, tokens):
        """Rows after output_norm for tokens [batch, length]."""
        x = self.w["token_embd.weight"][tokens]
        for il in range(self.n_main):
            x = self.block(il, x, (il + 1) % self.interval != 0)
        return rms(x, self.w["output_norm.weight"], self.eps)

    @torch.no_grad()
    def logits(self, tokens):
        return self.head(self.hidden(tokens))

    @torch.no_grad()
    def mtp_logits(self, tokens, hidden):
        """Draft logits of every position t >= 1 of tokens: row t - 1 joins x_t with the trunk's
        hidden row of position t - 1 at position t and predicts x_{t+1}."""
        c = self.mtp_join(tokens[:, 1:], hidden[:, :-1])
        return self.mtp_head(self.block(self.n_main, c, False, first_position=1))

    def mtp_join(self, tokens, hidden):
        blk = f"blk.{self.n_main}"
        table = self.w.get(f"{blk}.nextn.embed_tokens.weight", self.w["token_embd.weight"])
        e = rms(table[tokens], self.w[f"{blk}.nextn.enorm.weight"], self.eps)
        h = rms(hidden, self.w[f"{blk}.nextn.hnorm.weight"], self.eps)
        return self.linear(f"{blk}.nextn.eh_proj.weight", torch.cat((e, h), dim=-1))

    def mtp_head(self, c):
        """Draft logits, and the post-norm rows that the next depth chains on."""
        blk = f"blk.{self.n_main}"
        norm = self.w.get(f"{blk}.nextn.shared_head_norm.weight", self.w["output_norm.weight"])
        m = rms(c, norm, self.eps)
        head = f"{blk}.nextn.shared_head_head.weight"
        return (self.linear(head, m) if head in self.w else self.head(m)), m

    @torch.no_grad()
    def mtp_chain(self, tokens, hidden, depths):
        """Draft logits at depth 1..depths behind every position of tokens [batch, length], fed with
        the true text.

        Row r of depth 1 is row r of mtp_logits. Row r of depth j joins x_{r+j} with the block's own
        post-norm output of row r of depth j - 1, sits at position r + j and predicts x_{r+j+1}. It
        attends to rows 0..r of depth 1, which the trunk's hidden rows gave, and to row r of depths
        2..j, as a draft of j tokens behind position r does; depth j has length - j rows."""
        blk, scale = f"blk.{self.n_main}", np.sqrt(self.head_dim)
        keys, values, out, m = [], [], [], hidden
        for depth in range(1, depths + 1):
            n = tokens.shape[1] - depth
            x = self.mtp_join(tokens[:, depth:], m[:, :n])
            row = rms(x, self.w[f"{blk}.attn_norm.weight"], self.eps)
            q, k, v, gate = self.attention_inputs(blk, row, depth)
            keys.append(k)
            values.append(v)
            mask = torch.full((n, keys[0].shape[2]), float("-inf")).triu(1)
            scores = [q @ keys[0].transpose(-1, -2) / scale + mask]
            scores += [(q * own[:, :, :n]).sum(-1, keepdim=True) / scale for own in keys[1:]]
            p = torch.cat(scores, dim=-1).softmax(-1)
            seen = p[..., : keys[0].shape[2]] @ values[0]
            for j, own in enumerate(values[1:]):
                seen = seen + p[..., keys[0].shape[2] + j, None] * own[:, :, :n]
            x = x + self.attention_output(blk, seen, gate)
            row = rms(x, self.w[f"{blk}.post_attention_norm.weight"], self.eps)
            logits, m = self.mtp_head(x + self.feed_forward(blk, row))
            out.append(logits)
        return out


def unit(x):
    return x * torch.rsqrt(x.square().sum(-1, keepdim=True) + 1e-6)


def int8_rows(x):
    """Rows as the engine's int8 activations stand for them: one float scale per 256 elements, a
    multiplier 1..15 per 32 (docs/arithmetic.md)."""
    pad = -x.shape[-1] % 256
    b = F.pad(x, (0, pad)).unflatten(-1, (-1, 8, 32))
    amax = b.abs().amax(-1, keepdim=True)
    d = amax.amax(-2, keepdim=True) / 1905.0
    zero = d == 0
    safe = torch.where(zero, torch.ones_like(d), d)
    mul = torch.ceil(amax / (safe * 127.0)).clamp(1, 15)
    q = torch.round(b * (1.0 / (safe * mul))).clamp(-127, 127)
    y = torch.where(zero, torch.zeros_like(b), q * mul * safe)
    return y.flatten(-3)[..., : x.shape[-1]]


def compare(path, golden_path):
    golden = json.load(open(golden_path))
    got = Model(path).logits(torch.tensor([golden["tokens"]]))[0]
    ids = torch.tensor(golden["top_ids"])
    want = torch.tensor(golden["top_logits"])
    sums = torch.tensor(golden["logit_sum"])
    print("positions", len(got))
    difference = (got.gather(1, ids) - want).abs().max().item()
    print("largest difference of the recorded logits", difference)
    print("largest difference of the sums", (got.sum(-1) - sums).abs().max().item())
    print("equal argmax", int((got.argmax(-1) == ids[:, 0]).sum()))


if __name__ == "__main__":
    torch.set_num_threads(1)
    compare(sys.argv[1], sys.argv[2])
