/* bench_shapes.h - the matrices whose products a model computes for every token. */
#ifndef MTP_BENCH_SHAPES_H
#define MTP_BENCH_SHAPES_H

#include "bench_common.h"
#include "mtp.h"

struct bench_shape {
    char name[64];          /* "ffn_gate" */
    bool any_type;          /* the type is the caller's to choose */
    uint32_t type;          /* enum mtp_type, where it is not */
    uint32_t n_out, n_in;
    uint32_t n_experts;     /* 1: an ordinary matrix */
    uint32_t n_used;        /* experts a row uses */
    bool input_per_expert;  /* each of them has an input of its own (ffn_down_exps) */
    uint32_t calls_per_token;
};

enum { MOST_SHAPES = 64 };
struct bench_shapes {
    struct bench_shape list[MOST_SHAPES];
    size_t n;
};

/* What the whole-step account needs to know of a model. */
struct bench_model {
    uint32_t n_heads, n_kv_heads;
    uint64_t bytes_per_token, weight_bytes;
};

/* "27B", "35B-A3B" (Qwen3.6, the types to be chosen), or "ROWSxCOLUMNS,...", rows being outputs. False for
 * anything else. */
bool bench_shapes_named(struct bench_shapes *shapes, const char *name);

/* The trunk's matrices in the types of the file, equal ones counted; the MTP block is left out. */
enum mtp_status bench_shapes_of_file(struct bench_shapes *shapes, struct bench_model *model,
                                     const char *path, struct mtp_error *error);

#endif
