/* arch_qwen35.h - the trunk of qwen35 and qwen35moe, and the parts of it that the MTP block uses. */
#ifndef MTP_SRC_ARCH_QWEN35_H
#define MTP_SRC_ARCH_QWEN35_H

#include "session.h"

/* The trunk over a batch: states advance, work.hidden and work.logits are filled as their comments
 * in workspace.h say. On a device that is under way when it returns; qwen35_check_fault must follow. */
enum mtp_status qwen35_forward(mtp_session *session, const struct forward_batch *batch,
                               struct mtp_error *error);

/* A pass over work.rows: what the parts of a block share. */
struct pass {
    mtp_session *session;
    struct workspace *work;
    const struct hparams *h;
    struct backend *backend;
    const struct ops *ops;
    int32_t n_rows;
    bool speculative;
};
struct pass qwen35_pass(mtp_session *session, int32_t n_rows);

/* dst = rms(src) * w, rows of n_embd, dst rows dst_stride apart. */
void qwen35_norm(const struct pass *p, const float *src, const float *w, float *dst,
                 size_t dst_stride);
/* What work.x lacks until it is read next: the output of a mixer or of a feed-forward part, which lies in
 * work.mixed, or which the experts' sum is to bring there. To add it later is to add it together with the
 * norm that reads it. */
struct due {
    bool mixed, experts;
    int32_t layer; /* whose it is */
};
/* Adds what is due to work.x; then, where w is set, dst = rms(work.x) * w, rows of n_embd, and work.act its
 * rows quantised if they are wanted so. */
void qwen35_add_and_norm(const struct pass *p, struct due due, const float *w, float *dst, bool quantised);
/* Keys and values of rms(work.x) into the cache, after what is due; its queries, if wanted, into work.q, in
 * their places. */
void qwen35_store_keys(const struct pass *p, const struct layer *layer, struct due due,
                       const struct kv_cache *cache, bool with_queries);
/* work.x += attention of the queries in work.q over the cache; then work.x += ffn(rms(work.x)), which is
 * returned as due. */
struct due qwen35_attend_and_feed(const struct pass *p, const struct layer *layer,
                                  const struct kv_cache *cache);
enum mtp_status qwen35_check_fault(const struct pass *p, struct mtp_error *error);

/* Passes of a few rows that come again and again: kind, rows and what else decides their operations make
 * a key for ops->pass_begin; order as there. True when the pass has been repeated from a record; else its
 * operations are called, until qwen35_pass_end is true. */
enum { PASS_TRUNK = 1, PASS_DRAFT = 2 };
bool qwen35_pass_begin(const struct pass *p, uint64_t kind, uint64_t more, uint32_t order);
bool qwen35_pass_end(const struct pass *p);

#endif
