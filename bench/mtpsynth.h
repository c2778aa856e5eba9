/* mtpsynth.h - the parts of mtpsynth, which writes synthetic models (docs/synthetic-models.md).
 *
 * The way of a file: options name a preset and a mix; the plan lists the tensors with the scales that
 * make the residual branches together as large as the embedding; the header is the file up to its
 * tensors; threads make rows of tensors from a counter-based generator and write them at their places.
 * Every byte is a function of the seed, the shapes and its place.
 */
#ifndef MTP_BENCH_MTPSYNTH_H
#define MTP_BENCH_MTPSYNTH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "kernels/types.h"
#include "src/error.h"

struct gguf;

/* Changes when the bytes of files change. */
enum { SYNTH_VERSION = 1 };
enum { SYNTH_MAX_CLASSES = 8, SYNTH_TOPIC_DIMS = 32, SYNTH_CHECK_FAILED = 10 };

/* ---- what is written (mtpsynth_presets.c) ------------------------------------------------------ */

enum synth_arch { SYNTH_QWEN35, SYNTH_QWEN35MOE, SYNTH_QWEN3MOE };

struct synth_shape {
    const char *name;  /* of the preset */
    const char *title; /* whose shapes these are */
    enum synth_arch arch;
    uint32_t n_embd, n_layers, n_mtp_layers; /* layers of the trunk; blocks behind it */
    uint32_t n_heads, n_kv_heads, head_dim, n_rot;
    uint32_t n_ff;                                      /* dense */
    uint32_t n_experts, n_used, n_ff_expert, n_ff_shared; /* 0 where there is none */
    uint32_t conv_taps, state_dim, n_k_heads, n_v_heads; /* DeltaNet; 0: every layer is attention */
    uint32_t interval;                                  /* every interval-th layer is attention */
    uint32_t n_vocab, n_ctx;
    float rope_base;
    int32_t sections[4];
};

enum synth_mix { SYNTH_Q4_K_M, SYNTH_Q5_K_M, SYNTH_Q8_0, SYNTH_Q3_K_Q8_0, SYNTH_N_MIXES };

/* What a tensor is to a mix. */
enum synth_role { ROLE_TABLE, ROLE_VALUE, ROLE_DOWN, ROLE_FFN, ROLE_EXPERT_DOWN, ROLE_OTHER };

const struct synth_shape *synth_shape_named(const char *name);
const struct synth_shape *synth_shape_at(size_t index); /* NULL behind the last */
const char *synth_arch_name(enum synth_arch arch);
bool synth_mix_named(const char *name, enum synth_mix *mix);
const char *synth_mix_name(enum synth_mix mix);
uint32_t synth_mix_file_type(enum synth_mix mix); /* for general.file_type */
/* Type of a matrix of block `block` of n_blocks. */
uint32_t synth_mix_type(enum synth_mix mix, enum synth_role role, uint32_t block, uint32_t n_blocks);

struct synth_spec {
    struct synth_shape shape; /* the preset with what options changed */
    enum synth_mix mix;
    uint32_t seed, n_hot;
    double accept[SYNTH_MAX_CLASSES]; /* share of ids whose draft is right, by class */
    uint32_t n_classes, stretch;      /* classes take turns every `stretch` ids of a cycle */
    float overlap;                    /* share of the router's logits that neighbours have in common */
};

/* ---- which id follows which (mtpsynth_cycle.c) ------------------------------------------------- */

/* Ids 0..n_hot-1 are one cycle, the others another. */
struct synth_cycle {
    uint32_t n_vocab, n_hot;
    uint32_t *order; /* the cycles' ids in order: place i is followed by place i + 1 */
    uint32_t *place; /* of an id in its cycle, from 0 */
    uint8_t *right;  /* [n_vocab] whether the draft head knows the id's successor */
    uint64_t key;
};
enum mtp_status synth_cycle_open(struct synth_cycle *cycle, const struct synth_spec *spec,
                                 struct mtp_error *error);
void synth_cycle_close(struct synth_cycle *cycle);
uint32_t synth_next(const struct synth_cycle *cycle, uint32_t id);
uint32_t synth_previous(const struct synth_cycle *cycle, uint32_t id);
/* The id whose embedding the draft head has for id: itself or, where it is wrong, another. */
uint32_t synth_draft_source(const struct synth_cycle *cycle, uint32_t id);
/* What the draft head proposes after id. */
uint32_t synth_draft(const struct synth_cycle *cycle, uint32_t id);
/* Drafts that n_steps steps of n_draft drafts accept, from the successor of `id` on. */
uint64_t synth_expected(const struct synth_cycle *cycle, uint32_t id, uint64_t n_steps,
                        uint32_t n_draft);

/* ---- blocks of weights (mtpsynth_blocks.c) ----------------------------------------------------- */

/* One block of a quantised type from key: symmetric around 0, no weight 0, standard deviation std. */
typedef void synth_block_fn(uint64_t key, double std, uint8_t *out);
synth_block_fn *synth_block_of(uint32_t type);
/* A block of Q8_0, Q4_K or Q5_K with 1 at `at` and small weights beside it. */
void synth_diagonal_block(uint32_t type, uint64_t key, uint32_t at, uint8_t *out);
/* Changes the first block of a row of Q6_K or Q8_0, made for standard deviation std: its first
 * SYNTH_TOPIC_DIMS weights become proportional to the odd values[], with standard deviation
 * `gain` * std, 1 <= gain <= 4. */
void synth_topic_block(uint32_t type, const int8_t values[SYNTH_TOPIC_DIMS], double std, double gain,
                       uint8_t *out);

/* ---- tensors (mtpsynth_plan.c, mtpsynth_scales.c, mtpsynth_rows.c) ------------------------------ */

enum synth_fill {
    FILL_WEIGHTS,     /* standard deviation scale */
    FILL_NORM,        /* around scale, no two alike */
    FILL_DECAY,       /* ssm_a: -0.02 to -2 */
    FILL_DT,          /* ssm_dt: -2 to 0 */
    FILL_EMBEDDING,   /* scale; with topics, gain times scale in the first dimensions */
    FILL_HEAD,        /* row r is the embedding's row of the id before r */
    FILL_DRAFT_TABLE, /* row r is the embedding's row of synth_draft_source(r) */
    FILL_JOIN,        /* eh_proj: [I | 0] and weights of `scale` in place of the zeros */
    FILL_ROUTER,      /* scale; topic_scale in the topics' dimensions */
};

struct synth_tensor {
    char name[64];
    uint32_t type, n_dims;
    uint64_t ne[3];
    enum synth_fill fill;
    double scale, topic_scale;
    uint64_t key;
    uint64_t n_rows, row_bytes;
    uint64_t offset;      /* in the data section */
    uint64_t first_chunk; /* of those that threads write */
};

struct synth_plan {
    const struct synth_spec *spec;
    const struct synth_cycle *cycle;
    struct synth_tensor *tensors;
    size_t n_tensors, allocated;
    uint64_t data_bytes, n_chunks;
    double topic_gain;     /* of the embedding's first dimensions; 0 without topics */
    uint64_t embedding_key;
    bool out_of_memory;
};
enum mtp_status synth_plan_make(struct synth_plan *plan, const struct synth_spec *spec,
                                const struct synth_cycle *cycle, struct mtp_error *error);
void synth_plan_free(struct synth_plan *plan);
uint64_t synth_rows_per_chunk(const struct synth_tensor *tensor);
void synth_make_row(const struct synth_plan *plan, const struct synth_tensor *tensor, uint64_t row,
                    uint8_t *out);

/* Standard deviations of weights (docs/synthetic-models.md has the formulas). */
enum synth_branch {
    BRANCH_ATTENTION, BRANCH_PLAIN_ATTENTION, BRANCH_DELTA_NET, BRANCH_FFN, BRANCH_ROUTED,
    BRANCH_SHARED,
};
double synth_embedding_scale(void);
double synth_input_scale(uint32_t n_in);
double synth_head_norm(const struct synth_shape *shape);
double synth_join_scale(uint32_t n_in);
double synth_score_norm(void);
/* Of the matrix that ends a branch; n_in: its inputs; block: of the trunk, or behind it. */
double synth_output_scale(const struct synth_shape *shape, enum synth_branch branch, uint32_t n_in,
                          uint32_t block);
double synth_topic_gain(const struct synth_shape *shape);
double synth_router_scale(const struct synth_spec *spec);
double synth_router_topic_scale(const struct synth_spec *spec, uint32_t block);

/* ---- the file (mtpsynth_header.c, mtpsynth_write.c) ---------------------------------------------- */

struct synth_bytes {
    uint8_t *data;
    size_t size, allocated;
    bool out_of_memory;
};
/* Everything before the data section, padded. The caller frees bytes->data. */
enum mtp_status synth_header(struct synth_bytes *bytes, const struct synth_plan *plan,
                             struct mtp_error *error);
enum { SYNTH_ALIGNMENT = 32 };

/* Writes path whole or not at all. */
enum mtp_status synth_write(const struct synth_plan *plan, const struct synth_bytes *header,
                            const char *path, uint32_t n_threads, struct mtp_error *error);

/* ---- files that were written (mtpsynth_read.c, mtpsynth_check.c) --------------------------------- */

/* What the cycle of a file depends on: the spec's vocabulary, seed, hot set and classes. */
enum mtp_status synth_read_spec(struct synth_spec *spec, const char *path, struct mtp_error *error);

struct synth_check {
    const char *path;
    uint32_t n_tokens, n_draft, n_threads;
    bool digests_only; /* the run with drafts and nothing else */
};
/* Runs the model and prints what it finds; SYNTH_CHECK_FAILED when it is not as it should be. */
int synth_check(const struct synth_check *check, struct mtp_error *error);

/* ---- command line (mtpsynth_options.c) ----------------------------------------------------------- */

enum synth_action {
    ACTION_WRITE, ACTION_PLAN, ACTION_LIST, ACTION_PRINT_CYCLE, ACTION_CHECK, ACTION_HELP,
};
struct synth_options {
    enum synth_action action;
    struct synth_spec spec;
    const char *path;
    uint32_t first_id, n_ids; /* --print-cycle */
    struct synth_check check;
    uint32_t n_threads;
};
enum mtp_status synth_parse(struct synth_options *options, int argc, char **argv,
                            struct mtp_error *error);
/* "0.8" or "0.9,0.5"; false when text is neither. */
bool synth_parse_accept(struct synth_spec *spec, const char *text);
void synth_print_help(void);

#endif
