"""Makes the small golden models of tests/golden/models and their reference logits.

    python3 make_models.py TOKENIZER.json LLAMA_QUANTIZE OUT_DIR [NAME...]

Needs torch, transformers (5.17), gguf and llama.cpp's llama-quantize; none of them is needed to
build the project or to run its tests. Weights are random, with norms, gates and decays of ordinary
size, so that a misplaced head, a wrong tap or a bad nibble moves the logits by whole units.

Every file NAME.gguf comes with NAME.golden.json; tests/golden/README.md describes its fields.
"""

import json
import math
import os
import subprocess
import sys
import tempfile

import gguf
import numpy as np
import torch
from transformers import (
    Qwen3_5ForCausalLM,
    Qwen3_5MoeForCausalLM,
    Qwen3_5MoeTextConfig,
    Qwen3_5TextConfig,
)

sys.path.insert(0, os.path.dirname(__file__))
from reference_model import Model, int8_rows  # noqa: E402

N_VOCAB = 512
N_TOKENS = 128
N_TOP = 16
N_TOP_DRAFT = 8

# Shapes: K-quants need rows of a multiple of 256; the Q8_0 files use other widths on purpose, so
# that super-blocks end short. Three k-heads with nine v-heads tell grouped from tiled order.
DENSE_256 = dict(
    hidden_size=256, intermediate_size=256, num_hidden_layers=2, full_attention_interval=2,
    num_attention_heads=4, num_key_value_heads=2, head_dim=64, linear_num_key_heads=2,
    linear_num_value_heads=8, linear_head_dim=32, partial_rotary_factor=0.5, mtp=False, tied=False,
)
MOE_256 = dict(
    DENSE_256, moe=True, moe_intermediate_size=256, shared_expert_intermediate_size=32,
    num_experts=3, num_experts_per_tok=2, linear_num_key_heads=2, linear_num_value_heads=4,
    num_attention_heads=4, num_key_value_heads=2, head_dim=16, tied=True,
)
MOE_ODD = dict(
    hidden_size=64, num_hidden_layers=2, full_attention_interval=2, num_attention_heads=4,
    num_key_value_heads=2, head_dim=32, linear_num_key_heads=3, linear_num_value_heads=9,
    linear_head_dim=32, partial_rotary_factor=0.25, moe=True, moe_intermediate_size=32,
    shared_expert_intermediate_size=64, num_experts=8, num_experts_per_tok=3, mtp=True, tied=False,
)
SHAPES = {
    "dense-f16": dict(
        hidden_size=48, intermediate_size=72, num_hidden_layers=4, full_attention_interval=4,
        num_attention_heads=4, num_key_value_heads=2, head_dim=32, linear_num_key_heads=2,
        linear_num_value_heads=6, linear_head_dim=32, partial_rotary_factor=0.25, mtp=True,
        tied=False,
    ),
    "moe-f32": dict(
        MOE_ODD, hidden_size=40, num_experts=5, head_dim=16,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_head_dim=16,
        moe_intermediate_size=24, shared_expert_intermediate_size=40, partial_rotary_factor=0.5,
    ),
    "dense-q4_k_m": dict(DENSE_256, mtp=True, tied=True),
    "dense-iq4_xs": dict(DENSE_256, tied=True),
    "dense-mixed": dict(DENSE_256, linear_num_value_heads=4, linear_head_dim=64),
    "dense-every-type": dict(DENSE_256, mtp=True),
    "moe-q8_0": MOE_ODD,
    "moe-q3_k": MOE_256,
    "moe-fused": dict(MOE_ODD, hidden_size=96, num_experts=5, tied=True, mtp=False),
}
QUANTISE = {
    "dense-q4_k_m": ["Q4_K_M"],
    "dense-iq4_xs": ["IQ4_XS"],
    "dense-mixed": [
        "--tensor-type", "ffn_down=q5_k", "--tensor-type", "ssm_alpha=q8_0",
        "--tensor-type", "ssm_beta=f32", "--tensor-type", "attn_k=bf16",
        "--tensor-type", "attn_v=q4_1",
        "--tensor-type", "ffn_up=q5_1", "--output-tensor-type", "q6_k",
        "--token-embedding-type", "q2_k", "Q4_K_S",
    ],
    "moe-q8_0": ["Q8_0"],
    "moe-q3_k": [
        "--tensor-type", "ffn_gate_exps=q3_k", "--tensor-type", "ffn_up_exps=q3_k",
        "--tensor-type", "ffn_down_exps=q3_k", "Q8_0",
    ],
    "moe-fused": ["Q8_0"],
}
Q = gguf.GGMLQuantizationType


# -- random weights in transformers ---------------------------------------------------------
def build(shape, seed):
    """A transformers model with random weights of ordinary size, in float32."""
    shape = dict(shape)
    moe, tied = shape.pop("moe", False), shape.pop("tied")
    shape.pop("mtp")
    head = shape.pop("linear_head_dim")
    rotary = shape.pop("partial_rotary_factor")
    pairs = int(shape["head_dim"] * rotary) // 2
    section = [pairs - 2 * (pairs // 3), pairs // 3, pairs // 3]
    rope = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=rotary,
                mrope_section=section, mrope_interleaved=True)
    config = (Qwen3_5MoeTextConfig if moe else Qwen3_5TextConfig)(
        vocab_size=N_VOCAB, max_position_embeddings=4096, rope_parameters=rope,
        linear_key_head_dim=head, linear_value_head_dim=head, tie_word_embeddings=tied,
        bos_token_id=None, eos_token_id=0, attn_implementation="eager", **shape,
    )
    model = (Qwen3_5MoeForCausalLM if moe else Qwen3_5ForCausalLM)(config).float().eval()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for name, p in model.named_parameters():
            p.copy_(random_weight(name, p.shape, generator))
        # Embeddings well above what the layers add keep small errors from changing expert choices.
        model.model.embed_tokens.weight.mul_(0.2 if tied else 0.5)
    return model, config


SHARP = (".gate.weight", "v_proj.weight", "o_proj.weight")


def random_weight(name, shape, generator):
    def normal(std, mean=0.0):
        return torch.randn(shape, generator=generator) * std + mean

    if name.endswith("linear_attn.norm.weight"):
        return normal(0.2, 1.0)
    if "q_norm" in name or "k_norm" in name:  # sharp attention, so that positions and heads matter
        return normal(0.2, 0.7)
    if "norm" in name:  # the (1 + w) kind
        return normal(0.2)
    if name.endswith("A_log"):
        return torch.log(torch.rand(shape, generator=generator) * 1.5 + 0.02)
    if name.endswith("dt_bias"):
        return normal(1.0, -1.0)
    if "conv1d" in name:
        return normal(0.5)
    if "embed_tokens" in name:
        return normal(1.0)
    gain = 3.0 if "lm_head" in name else 2.0 if name.endswith(SHARP) else 1.2
    return normal(gain / math.sqrt(shape[-1]))


# -- GGUF tensors ---------------------------------------------------------------------------
def tiled(x, dim, n_k, n_v, head):
    """Heads grouped by k-head (k, j) to tiled order (j, k) along dim."""
    split = x.shape[:dim] + (n_k, n_v // n_k, head) + x.shape[dim + 1 :]
    return x.reshape(split).transpose(dim, dim + 1).reshape(x.shape)


def delta_net_tensors(blk, part, config):
    n_k, n_v = config.linear_num_key_heads, config.linear_num_value_heads
    d = config.linear_value_head_dim
    n_qk = 2 * n_k * d

    def values_tiled(x):
        return torch.cat((x[:n_qk], tiled(x[n_qk:], 0, n_k, n_v, d)))

    return {
        f"{blk}.attn_qkv.weight": values_tiled(part["in_proj_qkv.weight"]),
        f"{blk}.attn_gate.weight": tiled(part["in_proj_z.weight"], 0, n_k, n_v, d),
        f"{blk}.ssm_conv1d.weight": values_tiled(part["conv1d.weight"].squeeze(1)),
        f"{blk}.ssm_dt.bias": tiled(part["dt_bias"], 0, n_k, n_v, 1),
        f"{blk}.ssm_a": tiled(-torch.exp(part["A_log"]), 0, n_k, n_v, 1),
        f"{blk}.ssm_beta.weight": tiled(part["in_proj_b.weight"], 0, n_k, n_v, 1),
        f"{blk}.ssm_alpha.weight": tiled(part["in_proj_a.weight"], 0, n_k, n_v, 1),
        f"{blk}.ssm_norm.weight": part["norm.weight"],
        f"{blk}.ssm_out.weight": tiled(part["out_proj.weight"], 1, n_k, n_v, d),
    }


ATTENTION = {"q_proj": "attn_q", "k_proj": "attn_k", "v_proj": "attn_v", "o_proj": "attn_output"}
MLP = {"gate_proj": "ffn_gate", "up_proj": "ffn_up", "down_proj": "ffn_down"}


def below(state, prefix):
    return {k[len(prefix) :]: v for k, v in state.items() if k.startswith(prefix)}


def block_tensors(blk, part, config):
    """One decoder layer, from its transformers state."""
    out = {
        f"{blk}.attn_norm.weight": 1 + part["input_layernorm.weight"],
        f"{blk}.post_attention_norm.weight": 1 + part["post_attention_layernorm.weight"],
    }
    if "linear_attn.A_log" in part:
        out |= delta_net_tensors(blk, below(part, "linear_attn."), config)
    else:
        attention = below(part, "self_attn.")
        out |= {f"{blk}.{n}.weight": attention[f"{h}.weight"] for h, n in ATTENTION.items()}
        for c in "qk":
            out[f"{blk}.attn_{c}_norm.weight"] = 1 + attention[f"{c}_norm.weight"]
    mlp = below(part, "mlp.")
    if "gate.weight" not in mlp:
        return out | {f"{blk}.{n}.weight": mlp[f"{h}.weight"] for h, n in MLP.items()}
    gate, up = mlp["experts.gate_up_proj"].chunk(2, dim=1)
    out |= {
        f"{blk}.ffn_gate_inp.weight": mlp["gate.weight"],
        f"{blk}.ffn_gate_inp_shexp.weight": mlp["shared_expert_gate.weight"].squeeze(0),
        f"{blk}.ffn_gate_exps.weight": gate,
        f"{blk}.ffn_up_exps.weight": up,
        f"{blk}.ffn_down_exps.weight": mlp["experts.down_proj"],
    }
    shared = below(mlp, "shared_expert.")
    return out | {f"{blk}.{n}_shexp.weight": shared[f"{h}.weight"] for h, n in MLP.items()}


def trunk_tensors(model, config):
    state = {k: v.detach() for k, v in model.state_dict().items()}
    out = {
        "token_embd.weight": state["model.embed_tokens.weight"],
        "output_norm.weight": 1 + state["model.norm.weight"],
    }
    if not config.tie_word_embeddings:
        out["output.weight"] = state["lm_head.weight"]
    for il in range(config.num_hidden_layers):
        out |= block_tensors(f"blk.{il}", below(state, f"model.layers.{il}."), config)
    return out


def mtp_tensors(config, shape, seed):
    """transformers has no MTP module: the block is the only layer of a second random model."""
    other, _ = build(dict(shape, num_hidden_layers=1, full_attention_interval=1), seed)
    state = {k: v.detach() for k, v in other.state_dict().items()}
    blk = f"blk.{config.num_hidden_layers}"
    generator = torch.Generator().manual_seed(seed + 1)
    n = config.hidden_size
    out = block_tensors(blk, below(state, "model.layers.0."), config)
    out[f"{blk}.nextn.eh_proj.weight"] = random_weight("eh_proj", (n, 2 * n), generator)
    for norm in ("enorm", "hnorm", "shared_head_norm"):
        out[f"{blk}.nextn.{norm}.weight"] = 1 + random_weight("norm", (n,), generator)
    return out


# -- GGUF files -----------------------------------------------------------------------------
def write_gguf(path, name, tensors, config, n_mtp, tokenizer, file_type):
    """tensors: {name: float tensor, or (raw bytes as numpy, type)}."""
    moe = hasattr(config, "num_experts")
    writer = gguf.GGUFWriter(path, "qwen35moe" if moe else "qwen35")
    writer.add_type("model")
    writer.add_name(f"golden {name}")
    writer.add_license("cc0-1.0")
    writer.add_file_type(file_type)
    writer.add_quantization_version(2)
    add_hyper_parameters(writer, config, n_mtp, moe, per_layer=name == "dense-iq4_xs")
    add_tokenizer(writer, tokenizer)
    for tensor, values in tensors.items():
        if isinstance(values, tuple):
            writer.add_tensor(tensor, values[0], raw_dtype=values[1])
        else:
            values = values.contiguous().numpy()
            writer.add_tensor(tensor, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def add_hyper_parameters(writer, config, n_mtp, moe, per_layer):
    """per_layer writes arrays where a scalar is usual; an interval of 4 is left to its default."""
    rope = config.rope_parameters
    blocks = config.num_hidden_layers + n_mtp

    def each(value):
        return [value] * blocks if per_layer else value

    writer.add_block_count(blocks)
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_head_count(each(config.num_attention_heads))
    writer.add_head_count_kv(each(config.num_key_value_heads))
    writer.add_key_length(config.head_dim)
    writer.add_value_length(config.head_dim)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(rope["rope_theta"])
    writer.add_rope_dimension_count(int(config.head_dim * rope["partial_rotary_factor"]))
    writer.add_rope_dimension_sections(rope["mrope_section"] + [0])
    writer.add_ssm_conv_kernel(config.linear_conv_kernel_dim)
    writer.add_ssm_state_size(config.linear_value_head_dim)
    writer.add_ssm_group_count(config.linear_num_key_heads)
    writer.add_ssm_time_step_rank(config.linear_num_value_heads)
    writer.add_ssm_inner_size(config.linear_value_head_dim * config.linear_num_value_heads)
    interval = config.layer_types.index("full_attention") + 1
    if interval != 4:
        writer.add_full_attention_interval(interval)
    if n_mtp:
        writer.add_nextn_predict_layers(n_mtp)
    if moe:
        writer.add_expert_count(config.num_experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
        writer.add_expert_shared_feed_forward_length(config.shared_expert_intermediate_size)
    else:
        writer.add_feed_forward_length(each(config.intermediate_size))


def read_tokenizer(path):
    """The first 512 entries of the reference tokenizer: 3 control tokens, 256 bytes, 253 merges."""
    data = json.load(open(path, encoding="utf-8"))
    vocab = data["model"]["vocab"] | {t["content"]: t["id"] for t in data["added_tokens"]}
    tokens = sorted(vocab, key=vocab.get)[:N_VOCAB]
    merges = [m if isinstance(m, str) else " ".join(m) for m in data["model"]["merges"]]
    merges = merges[: N_VOCAB - 259]
    assert tokens[259:] == [m.replace(" ", "") for m in merges]
    assert tokens[:3] == ["<|endoftext|>", "<|im_start|>", "<|im_end|>"]
    return tokens, merges


def add_tokenizer(writer, tokenizer):
    tokens, merges = tokenizer
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen35")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL] * 3 + [gguf.TokenType.NORMAL] * (N_VOCAB - 3))
    writer.add_token_merges(merges)
    writer.add_eos_token_id(0)
    writer.add_pad_token_id(0)
    writer.add_add_bos_token(False)


def stored(reader):
    return {t.name: (np.array(t.data), t.tensor_type) for t in reader.tensors}


def as_f16(tensors):
    """What a converter writes for F16: matrices in half precision, the rest in float32."""
    small = ("norm.weight", "conv1d.weight", "gate_inp.weight")
    return {
        k: v.half() if v.dim() > 1 and not k.endswith(small) else v for k, v in tensors.items()
    }


# -- special files --------------------------------------------------------------------------
def fused(tensors):
    """q|k|v of full-attention layers in one tensor, gate|up experts in one; rows stay whole."""
    out = dict(tensors)
    for name in tensors:
        if name.endswith(".attn_q.weight"):
            blk = name.split(".attn_q")[0]
            parts = [out.pop(f"{blk}.attn_{c}.weight") for c in "qkv"]
            assert len({p[1] for p in parts}) == 1
            out[f"{blk}.attn_qkv.weight"] = (np.concatenate([p[0] for p in parts]), parts[0][1])
        if name.endswith(".ffn_gate_exps.weight"):
            up = name.replace("gate", "up")
            gate, up = out.pop(name), out.pop(up)
            both = np.concatenate((gate[0], up[0]), axis=1)
            out[name.replace("ffn_gate", "ffn_gate_up")] = (both, gate[1])
    return out


# Byte offset of the f16 scale, and of the f16 minimum with its ratio to the scale that centres the
# weights on zero. MXFP4 has an exponent byte instead.
SCALES = {
    Q.IQ2_XXS: (0,), Q.IQ2_XS: (0,), Q.IQ2_S: (0,), Q.IQ3_XXS: (0,), Q.Q8_0: (0,), Q.IQ3_S: (0,),
    Q.Q2_K: (80, 82, 1.5), Q.Q3_K: (108,), Q.IQ4_XS: (0,), Q.IQ4_NL: (0,), Q.Q5_1: (0, 2, -15.5),
    Q.MXFP4: None, Q.Q4_0: (0,), Q.Q4_1: (0, 2, -7.5), Q.Q5_0: (0,), Q.Q4_K: (0, 2, 7.5),
    Q.Q6_K: (208,), Q.Q5_K: (0, 2, 15.5),
}


def random_blocks(shape, kind, std, rng):
    """A matrix of random bytes whose scales give its weights about the standard deviation std."""
    size, n_bytes = gguf.GGML_QUANT_SIZES[kind]
    rows, per_row = shape[0], shape[1] // size
    raw = rng.integers(0, 256, (rows, per_row, n_bytes), dtype=np.uint8)

    def set_scale(value):
        jitter = rng.uniform(0.7, 1.3, (rows, per_row))
        if SCALES[kind] is None:
            raw[..., 0] = round(math.log2(value)) + 128
            return
        offsets = SCALES[kind]
        d = (jitter * value).astype(np.float16)
        raw[..., offsets[0] : offsets[0] + 2] = d[..., None].view(np.uint8)
        if len(offsets) > 1:
            low = (d.astype(np.float32) * offsets[2]).astype(np.float16)
            raw[..., offsets[1] : offsets[1] + 2] = low[..., None].view(np.uint8)

    set_scale(1.0)
    whole = raw.reshape(rows, per_row * n_bytes)
    set_scale(std / gguf.quants.dequantize(whole, kind).std())
    return whole, kind


def every_type(tensors):
    """Every matrix in another type, the quantised ones as random blocks."""
    rng = np.random.default_rng(5)
    kinds = list(SCALES)
    out, turn = {}, 0
    for name, values in tensors.items():
        if values.dim() < 2 or name.endswith(("norm.weight", "conv1d.weight")):
            out[name] = values
        elif name.endswith(("ssm_beta.weight", "attn_k.weight")):
            kind = Q.BF16 if name.endswith("ssm_beta.weight") else Q.F16
            out[name] = (gguf.quants.quantize(values.contiguous().numpy(), kind), kind)
        else:
            out[name] = random_blocks(tuple(values.shape), kinds[turn % len(kinds)],
                                      values.std().item(), rng)
            turn += 1
    assert turn >= len(kinds)
    return out


# -- references -----------------------------------------------------------------------------
def golden_tokens(seed):
    """Random ids with a repeated stretch, so that attention and state have something to find."""
    rng = np.random.default_rng(seed)
    tokens = rng.integers(0, N_VOCAB, N_TOKENS)
    tokens[80:112] = tokens[16:48]
    return [int(t) for t in tokens]


def rounded(x):
    return [round(float(v), 5) for v in x]


def rows(logits, n_top, ids=None):
    """Top ids and their logits, and the sum of all logits, of each row."""
    if ids is None:
        ids = logits.topk(n_top, dim=-1).indices
    return {
        "top_ids": [[int(i) for i in r] for r in ids],
        "top_logits": [rounded(r) for r in logits.gather(-1, ids)],
        "logit_sum": rounded(logits.double().sum(-1)),
    }


def reference(paths, tokens, hf_logits):
    """float32 and int8-activation logits; the float32 ones from transformers where it can run."""
    ids = torch.tensor([tokens])
    plain, exact = Model(*paths), Model(*paths, activation=int8_rows)
    hidden, hidden8 = plain.hidden(ids), exact.hidden(ids)
    torch_logits, logits8 = plain.head(hidden)[0], exact.head(hidden8)[0]
    logits = torch_logits if hf_logits is None else hf_logits
    out = {"tokens": tokens, "reference": "torch float32"}
    if hf_logits is not None:
        out["reference"] = "transformers 5.17 float32 eager"
        out["torch_difference"] = (torch_logits - hf_logits).abs().max().item()
    out |= rows(logits, N_TOP)
    top = torch.tensor(out["top_ids"])
    out["int8"] = {k: v for k, v in rows(logits8, N_TOP, top).items() if k != "top_ids"}
    print(f"  spread {logits.std():.2f}"
          f"  int8 - float32: largest {(logits8 - logits).abs().max():.4f}"
          f"  equal top-1 {(logits8.argmax(-1) == logits.argmax(-1)).sum()}/{len(tokens)}"
          f"  torch - transformers {out.get('torch_difference', float('nan')):.1e}")
    if plain.n_mtp:
        draft = plain.mtp_logits(ids, hidden)[0][0]
        draft8 = exact.mtp_logits(ids, hidden8)[0][0]
        out["mtp"] = rows(draft, N_TOP_DRAFT)
        top = torch.tensor(out["mtp"]["top_ids"])
        out["mtp"]["int8"] = {
            k: v for k, v in rows(draft8, N_TOP_DRAFT, top).items() if k != "top_ids"
        }
        print(f"  mtp spread {draft.std():.2f}  int8 - float32 {(draft8 - draft).abs().max():.4f}")
    return out


def write_json(path, data):
    with open(path, "w", encoding="utf-8") as out:
        json.dump(data, out, separators=(",", ":"))
        out.write("\n")


@torch.no_grad()
def make(name, tokenizer, quantize, out_dir, seed):
    shape = SHAPES[name]
    model, config = build(shape, seed)
    tensors = trunk_tensors(model, config)
    n_mtp = 1 if shape["mtp"] else 0
    if n_mtp:
        tensors |= mtp_tensors(config, shape, seed + 100)
    path = os.path.join(out_dir, f"{name}.gguf")
    tokens = golden_tokens(seed)
    hf = model(torch.tensor([tokens])).logits[0]
    with tempfile.TemporaryDirectory() as work:
        plain = os.path.join(work, "f32.gguf")
        write_gguf(plain, name, tensors, config, n_mtp, tokenizer, gguf.LlamaFileType.ALL_F32)
        ours = Model(plain).logits(torch.tensor([tokens]))[0]
        print(f"{name}: torch - transformers on the F32 file {(ours - hf).abs().max():.1e}")
        if name == "moe-f32":
            os.replace(plain, path)
        elif name == "dense-f16":
            half = as_f16(tensors)
            write_gguf(path, name, half, config, n_mtp, tokenizer, gguf.LlamaFileType.MOSTLY_F16)
            with_half_weights(model)
            hf = model(torch.tensor([tokens])).logits[0]
        elif name == "dense-every-type":
            write_gguf(path, name, every_type(tensors), config, n_mtp, tokenizer,
                       gguf.LlamaFileType.GUESSED)
        else:
            kind = QUANTISE[name]
            subprocess.run([quantize, *kind[:-1], plain, path, kind[-1], "1"], check=True,
                           stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        if name == "moe-fused":
            whole = fused(stored(gguf.GGUFReader(path)))
            write_gguf(path, name, whole, config, n_mtp, tokenizer,
                       gguf.LlamaFileType.MOSTLY_Q8_0)
    hf = hf if name in ("moe-f32", "dense-f16") else None
    golden = {"model": name} | reference([path], tokens, hf)
    write_json(os.path.join(out_dir, f"{name}.golden.json"), golden)
    if name == "moe-q8_0":
        companions(path, config, tokenizer, out_dir)
    print(f"  {os.path.getsize(path)} bytes")


def with_half_weights(model):
    for name, p in model.named_parameters():
        if p.dim() > 1 and "norm" not in name and "conv1d" not in name:
            p.copy_(p.half().float())


def companions(path, config, tokenizer, out_dir):
    """The same model as a trunk without its MTP block and a file with nothing but the block."""
    whole = stored(gguf.GGUFReader(path))
    blk = f"blk.{config.num_hidden_layers}."
    shared = ("token_embd.weight", "output_norm.weight", "output.weight")
    trunk = {k: v for k, v in whole.items() if not k.startswith(blk)}
    block = {k: v for k, v in whole.items() if k.startswith(blk) or k in shared}
    for name, tensors, n_mtp in (("moe-q8_0-trunk", trunk, 0), ("moe-q8_0-mtp", block, 1)):
        write_gguf(os.path.join(out_dir, f"{name}.gguf"), name, tensors, config, n_mtp, tokenizer,
                   gguf.LlamaFileType.MOSTLY_Q8_0)


def main():
    tokenizer_path, quantize, out_dir, *names = sys.argv[1:]
    torch.set_num_threads(1)
    tokenizer = read_tokenizer(tokenizer_path)
    for seed, name in enumerate(SHAPES):
        if not names or name in names:
            make(name, tokenizer, quantize, out_dir, seed + 1)


if __name__ == "__main__":
    main()
