/* workspace.h - the buffers a batch passes through, cut from one block of backend memory. */
#ifndef MTP_SRC_WORKSPACE_H
#define MTP_SRC_WORKSPACE_H

#include "hparams.h"
#include "kernels/ops.h"
#include "mtp.h"

/* A block of memory handed out from the front. With base NULL it only measures. */
struct arena {
    uint8_t *base;
    size_t used, size;
};
void *arena_take(struct arena *arena, size_t count, size_t element_bytes); /* 64-byte aligned */

/* R = rows of a batch, P = R * n_experts_used. */
enum { WORKSPACE_BUFFERS = 40 };

/* Rows of a pass whose tail may be taken back: a token and its drafts. */
enum { MAX_STEP_ROWS = MTP_MAX_DRAFT + 1 };

/* What a step's passes leave for each other, in the backend's memory. The host sets it when a step begins
 * and is told the tokens by the results of the pass that checks them. */
struct step_board {
    struct draw_noise noise;       /* that the drafts are drawn by, where they are drawn */
    int32_t trunk_first;           /* position of tokens[0] in the text, and... */
    int32_t draft_first;           /* ...row of the MTP block's cache that joins it */
    int32_t n_kept;                /* rows that stay, where the backend counts them */
    int32_t tokens[MAX_STEP_ROWS]; /* the drawn token, then its drafts */
};
/* The board lies before work.rows, so that both go to the backend by one call. */
enum { BOARD_BYTES = 128 };
_Static_assert(sizeof(struct step_board) <= BOARD_BYTES, "the board fits its place");

struct workspace {
    struct step_board *board;
    struct batch_row *rows;        /* [R] */
    int32_t *logit_rows;           /* [R] */
    float *x;                      /* [R][n_embd] residual stream */
    float *normed;                 /* [R][n_embd] */
    float *mixed;                  /* [R][n_embd] output of a mixer or FFN */
    struct act_block *act;         /* [R][blocks of the widest input] */
    float *pairs;                  /* [R][2 n_embd] what the MTP block's eh_proj reads */

    float *q;                      /* [R][n_heads][2 * head_dim] query | gate */
    float *k, *v;                  /* [R][n_kv_heads * head_dim] */
    float *heads;                  /* [R][n_heads * head_dim], or [R][n_v_heads * state_dim] */

    float *qkv, *conv;             /* [R][channels] before and after the convolution */
    float *z;                      /* [R][n_v_heads * state_dim] */
    float *alpha, *beta;           /* [R][n_v_heads] */

    float *gate, *up;              /* [R][n_ff], or [P][n_ff_expert] */
    float *router;                 /* [R][n_experts] */
    int32_t *experts, *order;      /* [P] */
    int32_t *start;                /* [n_experts + 1] */
    float *expert_weights;         /* [P] */
    struct act_block *expert_act;  /* [P][blocks of n_ff_expert] */
    float *expert_out;             /* [P][n_embd] */
    float *shared_gate, *shared_up; /* [R][n_ff_shared] */
    float *shared_out;             /* [R][n_embd] */
    float *shared_router;          /* [R] */

    float *hidden;                 /* [R][n_embd] after output_norm, of every row when the session
                                    * drafts, else of the rows that want logits */
    float *logits;                 /* [R][n_vocab] of the same rows */
    uint8_t *results;              /* [R] of RESULT_BYTES: what a pass says of its rows of logits */

    uint32_t n_rows;               /* R */
    uint32_t n_buffers;
    struct {
        uint8_t *base;
        size_t row_bytes;
    } buffers[WORKSPACE_BUFFERS];  /* all of the above but board and start */
};

/* Of a pass that wants logits of n rows, results holds n digests, then the likeliest token of each, then the
 * board's tokens where the pass checked them: what the host reads of every pass is in one place. */
enum { RESULT_BYTES = sizeof(uint64_t) + 2 * sizeof(int32_t) };
static inline uint64_t *results_digests(uint8_t *results)
{
    return (uint64_t *)(void *)results;
}
static inline int32_t *results_top(uint8_t *results, int32_t n)
{
    return (int32_t *)(void *)(results + (size_t)n * sizeof(uint64_t));
}
static inline int32_t *results_tokens(uint8_t *results, int32_t n)
{
    return results_top(results, n) + n;
}

/* Fills the first n_rows rows of every buffer with 0xff bytes (a float's NaN), so that reading what a
 * pass has not written shows. */
void workspace_poison(const struct workspace *work, struct backend *backend, size_t n_rows);

void workspace_layout(struct workspace *work, const struct hparams *hparams, uint32_t n_rows,
                      struct arena *arena);

#endif
