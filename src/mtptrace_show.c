/* mtptrace_show.c - a trace as text. */
#include "mtptrace.h"

#include <inttypes.h>

/* Names come from the file: printed without control characters. */
static void print_name(const char *label, const char *text)
{
    struct mtp_error escaped;
    mtp_fail(&escaped, MTP_OK, "%s", text);
    printf("%s%s", label, escaped.message);
}

static void print_drafts(const struct mtp_generation *g)
{
    if (g->n_draft == MTP_DRAFT_AUTO)
        printf("drafts       auto");
    else
        printf("drafts       %" PRId32 " a step", g->n_draft);
    if (g->n_draft != 0 && g->draft_head_rows != 0)
        printf(", among the first %" PRIu32 " ids", g->draft_head_rows);
    putchar('\n');
}

static void print_sampling(const struct mtp_sampling *s)
{
    if (s->temperature == 0.0f)
        printf("sampling     greedy, seed %" PRIu64 "\n", s->seed);
    else
        printf("sampling     temperature %g, top_k %" PRIu32 ", top_p %g, min_p %g, seed %" PRIu64
               "\n", (double)s->temperature, s->top_k, (double)s->top_p, (double)s->min_p, s->seed);
}

static void print_ids(const int32_t *ids, size_t n)
{
    if (n == 0)
        putchar('-');
    for (size_t i = 0; i < n; i++)
        printf("%s%" PRId32, i > 0 ? "," : "", ids[i]);
}

static void print_header(const struct trace_header *h)
{
    static const char *const strict[] = {"off", "full", "sample"};
    print_name("model        ", h->file_name);
    printf(", digest %016" PRIx64 ", vocabulary %" PRIu32 "\n", h->model_digest, h->n_vocab);
    printf("arithmetic   version %" PRIu32 "\n", h->arithmetic_version);
    print_name("recorded by  libmtp ", h->library_version);
    print_name(", ", h->isa_name);
    printf(", %" PRIu32 " threads, batch %" PRIu32 ", context %" PRIu32 ", kv %s, experts %s, "
           "strict %s\n", h->n_threads, h->n_batch, h->n_ctx,
           h->kv_type == MTP_KV_F32 ? "f32" : "f16",
           h->moe_mode == MTP_MOE_GROUPED ? "grouped" : "per token", strict[h->strict]);
    print_drafts(&h->generation);
    print_sampling(&h->generation.sampling);
    printf("logits       %s\n", h->logits ? "kept" : "not kept, digests only");
    printf("prompt       %zu ids: ", h->n_prompt);
    print_ids(h->prompt, h->n_prompt);
    printf("\n\nstep position accepted/drafted drafts tokens digests\n");
}

static void print_step(uint64_t number, const struct mtp_step_record *step)
{
    printf("%" PRIu64 " %" PRIu32 " %" PRIu32 "/%" PRIu32 " ", number, step->position,
           step->n_accepted, step->n_drafts);
    print_ids(step->drafts, step->n_drafts);
    putchar(' ');
    print_ids(step->tokens, step->n_tokens);
    for (uint32_t i = 0; i < step->n_tokens; i++)
        printf("%c%016" PRIx64, i > 0 ? ',' : ' ', step->digests[i]);
    putchar('\n');
}

enum mtp_status mtptrace_show(const struct mtptrace_options *options, struct mtp_error *error)
{
    struct trace_reader *reader;
    enum mtp_status status = trace_open(&reader, options->files[0], error);
    if (status != MTP_OK)
        return status;
    print_header(trace_get_header(reader));
    const struct trace_totals *totals = trace_get_totals(reader);
    struct mtp_step_record step;
    bool ended = false;
    while (!ferror(stdout)) {
        status = trace_next(reader, &step, &ended, error);
        if (status != MTP_OK || ended)
            break;
        print_step(totals->steps, &step);
    }
    printf("\ntotal        %" PRIu64 " steps, %" PRIu64 " tokens, %" PRIu64 " of %" PRIu64
           " drafts accepted, digest %016" PRIx64 "%s\n", totals->steps, totals->tokens,
           totals->accepted, totals->drafted, totals->digest, ended ? "" : ", incomplete");
    trace_reader_close(reader);
    return status;
}
