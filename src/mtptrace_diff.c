/* mtptrace_diff.c - the first position at which two recorded runs differ. */
#include "mtptrace.h"

#include <inttypes.h>
#include <string.h>

static void note_number(const char *what, uint64_t a, uint64_t b)
{
    if (a != b)
        printf("  %-18s %" PRIu64 " | %" PRIu64 "\n", what, a, b);
}

static void note_digest(const char *what, uint64_t a, uint64_t b)
{
    if (a != b)
        printf("  %-18s %016" PRIx64 " | %016" PRIx64 "\n", what, a, b);
}

static void note_text(const char *what, const char *a, const char *b)
{
    struct mtp_error shown_a, shown_b; /* their messages hold no control characters */
    if (strcmp(a, b) == 0)
        return;
    mtp_fail(&shown_a, MTP_OK, "%s", a);
    mtp_fail(&shown_b, MTP_OK, "%s", b);
    printf("  %-18s %s | %s\n", what, shown_a.message, shown_b.message);
}

static void note_float(const char *what, float a, float b)
{
    if (memcmp(&a, &b, sizeof a) != 0)
        printf("  %-18s %.9g | %.9g\n", what, (double)a, (double)b);
}

/* Settings that differ are no difference of the runs: most of them must not change anything. */
static void note_settings(const struct trace_header *a, const struct trace_header *b)
{
    const struct mtp_generation *g = &a->generation, *h = &b->generation;
    note_digest("model", a->model_digest, b->model_digest);
    note_text("model file", a->file_name, b->file_name);
    note_number("arithmetic version", a->arithmetic_version, b->arithmetic_version);
    note_text("library version", a->library_version, b->library_version);
    note_text("instruction set", a->isa_name, b->isa_name);
    note_number("threads", a->n_threads, b->n_threads);
    note_number("batch", a->n_batch, b->n_batch);
    note_number("context", a->n_ctx, b->n_ctx);
    note_text("kv", a->kv_type == MTP_KV_F32 ? "f32" : "f16",
              b->kv_type == MTP_KV_F32 ? "f32" : "f16");
    note_text("experts", a->moe_mode == MTP_MOE_GROUPED ? "grouped" : "per token",
              b->moe_mode == MTP_MOE_GROUPED ? "grouped" : "per token");
    if (g->n_draft != h->n_draft)
        printf("  %-18s %" PRId32 " | %" PRId32 "\n", "drafts", g->n_draft, h->n_draft);
    note_number("draft head rows", g->draft_head_rows, h->draft_head_rows);
    note_float("temperature", g->sampling.temperature, h->sampling.temperature);
    note_number("top_k", g->sampling.top_k, h->sampling.top_k);
    note_float("top_p", g->sampling.top_p, h->sampling.top_p);
    note_float("min_p", g->sampling.min_p, h->sampling.min_p);
    note_number("seed", g->sampling.seed, h->sampling.seed);
}

static bool inputs_differ(const struct trace_header *a, const struct trace_header *b)
{
    if (a->n_vocab != b->n_vocab) {
        printf("different vocabularies: %" PRIu32 " | %" PRIu32 " ids\n", a->n_vocab, b->n_vocab);
        return true;
    }
    size_t n = a->n_prompt < b->n_prompt ? a->n_prompt : b->n_prompt;
    for (size_t i = 0; i < n; i++) {
        if (a->prompt[i] != b->prompt[i]) {
            printf("different prompts: at position %zu id %" PRId32 " | %" PRId32 "\n", i,
                   a->prompt[i], b->prompt[i]);
            return true;
        }
    }
    if (a->n_prompt != b->n_prompt)
        printf("different prompts: %zu | %zu ids, equal as far as both go\n", a->n_prompt,
               b->n_prompt);
    return a->n_prompt != b->n_prompt;
}

static void print_where(const struct token_cursor *a, const struct token_cursor *b)
{
    printf("different at position %" PRIu32 ", step %" PRIu64 " | %" PRIu64 ": ", a->position,
           a->step_number, b->step_number);
}

/* The tokens at which both cursors stand. */
static bool tokens_differ(const struct token_cursor *a, const struct token_cursor *b)
{
    if (a->digest != b->digest) {
        print_where(a, b);
        printf("logits digest %016" PRIx64 " | %016" PRIx64, a->digest, b->digest);
        if (a->row != NULL && b->row != NULL) {
            printf(", first ");
            print_row_difference(stdout, a->row, b->row, trace_get_header(a->reader)->n_vocab);
        }
        printf("; token %" PRId32 " | %" PRId32 "\n", a->token, b->token);
        return true;
    }
    if (a->token != b->token) {
        print_where(a, b);
        printf("token %" PRId32 " | %" PRId32 " from the same logits\n", a->token, b->token);
        return true;
    }
    return false;
}

static void print_equal(const struct token_cursor *a, const struct token_cursor *b)
{
    const struct trace_totals *t = trace_get_totals(a->reader), *u = trace_get_totals(b->reader);
    printf("equal: %" PRIu64 " tokens from the same logits, digest %016" PRIx64 "; in %" PRIu64
           " | %" PRIu64 " steps, drafts accepted %" PRIu64 " of %" PRIu64 " | %" PRIu64 " of %"
           PRIu64 "\n", t->tokens, t->digest, t->steps, u->steps, t->accepted, t->drafted,
           u->accepted, u->drafted);
}

static enum mtp_status compare(struct token_cursor *a, struct token_cursor *b, bool *different,
                               struct mtp_error *error)
{
    uint64_t n = 0;
    for (;; n++) {
        enum mtp_status status = cursor_next(a, error);
        if (status == MTP_OK)
            status = cursor_next(b, error);
        if (status != MTP_OK) {
            printf("no difference in the first %" PRIu64 " tokens\n", n);
            return status;
        }
        if (a->ended || b->ended)
            break;
        if (tokens_differ(a, b)) {
            *different = true;
            return MTP_OK;
        }
    }
    *different = !a->ended || !b->ended;
    if (*different)
        printf("different lengths: the %s ends after %" PRIu64 " tokens, equal so far, and the other "
               "goes on\n", a->ended ? "first" : "second", n);
    else
        print_equal(a, b);
    return MTP_OK;
}

enum mtp_status mtptrace_diff(const struct mtptrace_options *options, bool *different,
                              struct mtp_error *error)
{
    struct token_cursor a = {0}, b = {0};
    enum mtp_status status = cursor_open(&a, options->files[0], error);
    if (status == MTP_OK)
        status = cursor_open(&b, options->files[1], error);
    if (status == MTP_OK) {
        const struct trace_header *h = trace_get_header(a.reader), *g = trace_get_header(b.reader);
        note_settings(h, g);
        *different = inputs_differ(h, g);
        if (!*different)
            status = compare(&a, &b, different, error);
    }
    cursor_close(&a);
    cursor_close(&b);
    return status;
}
