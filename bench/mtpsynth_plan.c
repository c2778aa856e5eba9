/* mtpsynth_plan.c - the tensors of a file: names and shapes as llama.cpp's converter writes them. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "mtpsynth.h"
#include "mtpsynth_random.h"

enum { CHUNK_BYTES = 1 << 20 };

/* What tensors of one block have in common. */
struct block {
    struct synth_plan *plan;
    uint32_t index; /* -1: not in a block */
    uint32_t n_blocks;
};

struct matrix {
    const char *name;
    uint32_t n_in, n_out, n_experts; /* n_out 0: one dimension; n_experts 0: two */
    enum synth_role role;
    double scale;
};

static struct synth_tensor *add(const struct block *b, const char *name, uint32_t type,
                                const uint32_t ne[3])
{
    static struct synth_tensor nowhere;
    struct synth_plan *plan = b->plan;
    if (plan->n_tensors == plan->allocated) {
        size_t allocated = 2 * plan->allocated + 64;
        struct synth_tensor *grown = realloc(plan->tensors, allocated * sizeof *grown);
        if (grown == NULL) {
            plan->out_of_memory = true;
            return &nowhere;
        }
        plan->tensors = grown;
        plan->allocated = allocated;
    }
    struct synth_tensor *t = &plan->tensors[plan->n_tensors++];
    *t = (struct synth_tensor){.type = type, .n_dims = ne[2] > 0 ? 3 : ne[1] > 0 ? 2 : 1};
    for (int i = 0; i < 3; i++)
        t->ne[i] = ne[i] > 0 ? ne[i] : 1;
    if (b->index == UINT32_MAX)
        snprintf(t->name, sizeof t->name, "%s", name);
    else
        snprintf(t->name, sizeof t->name, "blk.%" PRIu32 ".%s", b->index, name);
    const struct type_info *info = type_info(type);
    t->n_rows = t->ne[1] * t->ne[2];
    t->row_bytes = t->ne[0] / info->block_elements * info->block_bytes;
    t->key = synth_key(plan->spec->seed, t->name);
    t->offset = plan->data_bytes;
    t->first_chunk = plan->n_chunks;
    uint64_t bytes = t->n_rows * t->row_bytes, per_chunk = synth_rows_per_chunk(t);
    plan->data_bytes += (bytes + SYNTH_ALIGNMENT - 1) / SYNTH_ALIGNMENT * SYNTH_ALIGNMENT;
    plan->n_chunks += (t->n_rows + per_chunk - 1) / per_chunk;
    return t;
}

uint64_t synth_rows_per_chunk(const struct synth_tensor *tensor)
{
    return tensor->row_bytes < CHUNK_BYTES ? CHUNK_BYTES / tensor->row_bytes : 1;
}

static struct synth_tensor *add_matrix(const struct block *b, const struct matrix *m)
{
    uint32_t type = synth_mix_type(b->plan->spec->mix, m->role, b->index, b->n_blocks);
    struct synth_tensor *t = add(b, m->name, type, (uint32_t[]){m->n_in, m->n_out, m->n_experts});
    t->scale = m->scale;
    return t;
}

static void add_all(const struct block *b, const struct matrix *matrices, size_t n)
{
    for (size_t i = 0; i < n; i++)
        add_matrix(b, &matrices[i]);
}

static void add_float(const struct block *b, const char *name, uint32_t n_in, uint32_t n_out,
                      enum synth_fill fill, double scale)
{
    struct synth_tensor *t = add(b, name, MTP_TYPE_F32, (uint32_t[]){n_in, n_out, 0});
    t->fill = fill;
    t->scale = scale;
}

static void add_attention(const struct block *b)
{
    const struct synth_shape *s = &b->plan->spec->shape;
    bool gated = s->arch != SYNTH_QWEN3MOE;
    uint32_t q = s->n_heads * s->head_dim, kv = s->n_kv_heads * s->head_dim;
    double in = synth_input_scale(s->n_embd);
    double out = synth_output_scale(s, gated ? BRANCH_ATTENTION : BRANCH_PLAIN_ATTENTION, q, b->index);
    const struct matrix matrices[] = {
        {"attn_q.weight", s->n_embd, gated ? 2 * q : q, 0, ROLE_OTHER, in},
        {"attn_k.weight", s->n_embd, kv, 0, ROLE_OTHER, in},
        {"attn_v.weight", s->n_embd, kv, 0, ROLE_VALUE, in},
        {"attn_output.weight", q, s->n_embd, 0, ROLE_OTHER, out},
    };
    add_all(b, matrices, sizeof matrices / sizeof *matrices);
    add_float(b, "attn_q_norm.weight", s->head_dim, 0, FILL_NORM, synth_score_norm());
    add_float(b, "attn_k_norm.weight", s->head_dim, 0, FILL_NORM, synth_score_norm());
}

static void add_delta_net(const struct block *b)
{
    const struct synth_shape *s = &b->plan->spec->shape;
    uint32_t inner = s->n_v_heads * s->state_dim, channels = 2 * s->n_k_heads * s->state_dim + inner;
    double in = synth_input_scale(s->n_embd);
    const struct matrix matrices[] = {
        {"attn_qkv.weight", s->n_embd, channels, 0, ROLE_VALUE, in},
        {"attn_gate.weight", s->n_embd, inner, 0, ROLE_OTHER, in},
        {"ssm_alpha.weight", s->n_embd, s->n_v_heads, 0, ROLE_OTHER, in},
        {"ssm_beta.weight", s->n_embd, s->n_v_heads, 0, ROLE_OTHER, in},
        {"ssm_out.weight", inner, s->n_embd, 0, ROLE_OTHER,
         synth_output_scale(s, BRANCH_DELTA_NET, inner, b->index)},
    };
    add_all(b, matrices, sizeof matrices / sizeof *matrices);
    add_float(b, "ssm_conv1d.weight", s->conv_taps, channels, FILL_WEIGHTS,
              synth_input_scale(s->conv_taps));
    add_float(b, "ssm_a", s->n_v_heads, 0, FILL_DECAY, 1.0);
    add_float(b, "ssm_dt.bias", s->n_v_heads, 0, FILL_DT, 1.0);
    add_float(b, "ssm_norm.weight", s->state_dim, 0, FILL_NORM, 1.0);
}

static void add_dense(const struct block *b)
{
    const struct synth_shape *s = &b->plan->spec->shape;
    double in = synth_input_scale(s->n_embd);
    const struct matrix matrices[] = {
        {"ffn_gate.weight", s->n_embd, s->n_ff, 0, ROLE_FFN, in},
        {"ffn_up.weight", s->n_embd, s->n_ff, 0, ROLE_FFN, in},
        {"ffn_down.weight", s->n_ff, s->n_embd, 0, ROLE_EXPERT_DOWN,
         synth_output_scale(s, BRANCH_FFN, s->n_ff, b->index)},
    };
    add_all(b, matrices, sizeof matrices / sizeof *matrices);
}

static void add_shared_expert(const struct block *b)
{
    const struct synth_shape *s = &b->plan->spec->shape;
    double in = synth_input_scale(s->n_embd);
    add_float(b, "ffn_gate_inp_shexp.weight", s->n_embd, 0, FILL_WEIGHTS, in);
    const struct matrix matrices[] = {
        {"ffn_gate_shexp.weight", s->n_embd, s->n_ff_shared, 0, ROLE_OTHER, in},
        {"ffn_up_shexp.weight", s->n_embd, s->n_ff_shared, 0, ROLE_OTHER, in},
        {"ffn_down_shexp.weight", s->n_ff_shared, s->n_embd, 0, ROLE_DOWN,
         synth_output_scale(s, BRANCH_SHARED, s->n_ff_shared, b->index)},
    };
    add_all(b, matrices, sizeof matrices / sizeof *matrices);
}

static void add_experts(const struct block *b)
{
    const struct synth_spec *spec = b->plan->spec;
    const struct synth_shape *s = &spec->shape;
    double in = synth_input_scale(s->n_embd);
    uint32_t ne[] = {s->n_embd, s->n_experts, 0};
    struct synth_tensor *router = add(b, "ffn_gate_inp.weight", MTP_TYPE_F32, ne);
    router->fill = FILL_ROUTER;
    router->scale = synth_router_scale(spec);
    router->topic_scale =
        spec->overlap > 0.0f ? synth_router_topic_scale(spec, b->index) : router->scale;
    const struct matrix matrices[] = {
        {"ffn_gate_exps.weight", s->n_embd, s->n_ff_expert, s->n_experts, ROLE_FFN, in},
        {"ffn_up_exps.weight", s->n_embd, s->n_ff_expert, s->n_experts, ROLE_FFN, in},
        {"ffn_down_exps.weight", s->n_ff_expert, s->n_embd, s->n_experts, ROLE_EXPERT_DOWN,
         synth_output_scale(s, BRANCH_ROUTED, s->n_ff_expert, b->index)},
    };
    add_all(b, matrices, sizeof matrices / sizeof *matrices);
    if (s->n_ff_shared > 0)
        add_shared_expert(b);
}

static void add_block(const struct block *b, bool recurrent)
{
    const struct synth_shape *s = &b->plan->spec->shape;
    const char *ffn_norm =
        s->arch == SYNTH_QWEN3MOE ? "ffn_norm.weight" : "post_attention_norm.weight";
    add_float(b, "attn_norm.weight", s->n_embd, 0, FILL_NORM, 1.0);
    add_float(b, ffn_norm, s->n_embd, 0, FILL_NORM, 1.0);
    if (recurrent)
        add_delta_net(b);
    else
        add_attention(b);
    if (s->n_experts > 0)
        add_experts(b);
    else
        add_dense(b);
}

static void add_draft_head(const struct block *b)
{
    const struct synth_shape *s = &b->plan->spec->shape;
    const struct matrix join = {"nextn.eh_proj.weight", 2 * s->n_embd, s->n_embd, 0, ROLE_OTHER,
                                synth_join_scale(2 * s->n_embd)};
    const struct matrix table = {"nextn.embed_tokens.weight", s->n_embd, s->n_vocab, 0, ROLE_TABLE,
                                 synth_embedding_scale()};
    add_matrix(b, &join)->fill = FILL_JOIN;
    add_matrix(b, &table)->fill = FILL_DRAFT_TABLE;
    add_float(b, "nextn.enorm.weight", s->n_embd, 0, FILL_NORM, 1.0);
    add_float(b, "nextn.hnorm.weight", s->n_embd, 0, FILL_NORM, 1.0);
    add_float(b, "nextn.shared_head_norm.weight", s->n_embd, 0, FILL_NORM, synth_head_norm(s));
}

static void add_tables(const struct block *none)
{
    const struct synth_shape *s = &none->plan->spec->shape;
    struct matrix table = {"token_embd.weight", s->n_embd, s->n_vocab, 0, ROLE_TABLE,
                           synth_embedding_scale()};
    struct synth_tensor *embedding = add_matrix(none, &table);
    embedding->fill = FILL_EMBEDDING;
    none->plan->embedding_key = embedding->key;
    table.name = "output.weight";
    add_matrix(none, &table)->fill = FILL_HEAD;
    add_float(none, "output_norm.weight", s->n_embd, 0, FILL_NORM, synth_head_norm(s));
}

enum mtp_status synth_plan_make(struct synth_plan *plan, const struct synth_spec *spec,
                                const struct synth_cycle *cycle, struct mtp_error *error)
{
    const struct synth_shape *s = &spec->shape;
    *plan = (struct synth_plan){.spec = spec, .cycle = cycle};
    plan->topic_gain = spec->overlap > 0.0f ? synth_topic_gain(s) : 0.0;
    struct block b = {plan, UINT32_MAX, s->n_layers + s->n_mtp_layers};
    add_tables(&b);
    for (b.index = 0; b.index < b.n_blocks; b.index++) {
        bool trunk = b.index < s->n_layers;
        add_block(&b, trunk && (b.index + 1) % s->interval != 0);
        if (!trunk)
            add_draft_head(&b);
    }
    if (!plan->out_of_memory)
        return MTP_OK;
    synth_plan_free(plan);
    return mtp_fail_memory(error, "the list of tensors", sizeof *plan->tensors);
}

void synth_plan_free(struct synth_plan *plan)
{
    free(plan->tensors);
    *plan = (struct synth_plan){0};
}
