/* mtptrace_verify.c - computes a recorded run again and compares every logits row and token.
 *
 * By the plain path: the prompt is appended, then each recorded token alone, without drafts, so a
 * trace recorded with drafts is checked against what a program without them computes.
 */
#include "mtptrace.h"

#include <inttypes.h>
#include <string.h>

static enum mtp_status check_model(const mtp_model *model, const struct mtptrace_options *options,
                                   const struct trace_header *h, struct mtp_error *error)
{
    uint64_t digest = mtp_model_digest(model);
    struct mtp_model_info info;
    mtp_model_get_info(model, &info);
    if (digest != h->model_digest || info.n_vocab != h->n_vocab)
        return mtp_fail(error, MTP_ERR_USAGE,
                        "%s is another model than the trace is of (digest %016" PRIx64 ", recorded "
                        "from %s with %016" PRIx64 "%s)", options->model_path, digest, h->file_name,
                        h->model_digest, options->mtp_path == NULL
                        ? "; a run with --mtp-model needs it here too" : "");
    return MTP_OK;
}

static enum mtp_status check_arithmetic(const struct mtptrace_options *options,
                                        const struct trace_header *h, struct mtp_error *error)
{
    if (h->arithmetic_version == (uint32_t)mtp_arithmetic_version())
        return MTP_OK;
    return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                    "%s was computed by version %" PRIu32 " of the arithmetic and this program "
                    "computes by version %d: their bits need not agree", options->files[0],
                    h->arithmetic_version, mtp_arithmetic_version());
}

/* What the session holds is to give the token at which the cursor stands. */
static enum mtp_status check_token(const mtp_session *session, const struct token_cursor *cursor,
                                   bool *different, struct mtp_error *error)
{
    const struct trace_header *h = trace_get_header(cursor->reader);
    uint64_t digest = mtp_session_logits_digest(session);
    if (digest != cursor->digest) {
        *different = true;
        printf("different at position %" PRIu32 ", step %" PRIu64 ": logits digest %016" PRIx64
               " recorded | %016" PRIx64 " here", cursor->position, cursor->step_number,
               cursor->digest, digest);
        if (cursor->row != NULL) {
            printf(", first ");
            print_row_difference(stdout, cursor->row, mtp_session_logits(session), h->n_vocab);
        }
        putchar('\n');
        return MTP_OK;
    }
    int32_t id;
    enum mtp_status status = mtp_session_sample(session, &h->generation.sampling, &id, error);
    if (status == MTP_OK && id != cursor->token) {
        *different = true;
        printf("different at position %" PRIu32 ", step %" PRIu64 ": token %" PRId32 " recorded | %"
               PRId32 " here, from the same logits\n", cursor->position, cursor->step_number,
               cursor->token, id);
    }
    return status;
}

static void say_verified(const mtp_session *session, const struct token_cursor *cursor, uint64_t n)
{
    printf("verified: %" PRIu64 " tokens and the logits each was drawn from, computed here with %s", n,
           mtp_session_isa_name(session));
    if (strcmp(mtp_session_device_name(session), "cpu") == 0)
        printf(" on %" PRIu32 " threads", mtp_session_n_threads(session));
    printf("; digest %016" PRIx64 "\n", trace_get_totals(cursor->reader)->digest);
}

static enum mtp_status replay(mtp_session *session, struct token_cursor *cursor, bool *different,
                              struct mtp_error *error)
{
    const struct trace_header *h = trace_get_header(cursor->reader);
    enum mtp_status status = mtp_session_append(session, h->prompt, h->n_prompt, error);
    uint64_t n = 0;
    int32_t previous = 0;
    while (status == MTP_OK && !*different) {
        status = cursor_next(cursor, error);
        if (status != MTP_OK || cursor->ended)
            break;
        if (n > 0)
            status = mtp_session_append(session, &previous, 1, error);
        if (status == MTP_OK)
            status = check_token(session, cursor, different, error);
        previous = cursor->token;
        n += status == MTP_OK && !*different;
    }
    if (status == MTP_OK && !*different && n == 0)
        return mtp_fail(error, MTP_ERR_USAGE, "the trace has no steps: nothing was verified");
    if (status == MTP_OK && !*different)
        say_verified(session, cursor, n);
    else
        printf("%" PRIu64 " tokens before that are equal\n", n);
    return status;
}

static enum mtp_status verify(const struct mtptrace_options *options, struct token_cursor *cursor,
                              bool *different, struct mtp_error *error)
{
    const struct trace_header *h = trace_get_header(cursor->reader);
    const struct mtp_model_options model_options = {.mtp_path = options->mtp_path};
    const struct mtp_session_options session_options = {
        .n_ctx = h->n_ctx,
        .n_threads = options->n_threads,
        .kv_type = h->kv_type,
        .isa = options->isa,
        .device = options->device,
    };
    mtp_model *model = NULL;
    mtp_session *session = NULL;
    enum mtp_status status = check_arithmetic(options, h, error);
    if (status == MTP_OK)
        status = mtp_model_open(&model, options->model_path, &model_options, error);
    if (status == MTP_OK)
        status = check_model(model, options, h, error);
    if (status == MTP_OK)
        status = mtp_session_open(&session, model, &session_options, error);
    if (status == MTP_OK)
        status = replay(session, cursor, different, error);
    mtp_session_close(session);
    mtp_model_close(model);
    return status;
}

enum mtp_status mtptrace_verify(const struct mtptrace_options *options, bool *different,
                                struct mtp_error *error)
{
    struct token_cursor cursor = {0};
    enum mtp_status status = cursor_open(&cursor, options->files[0], error);
    if (status == MTP_OK)
        status = verify(options, &cursor, different, error);
    cursor_close(&cursor);
    return status;
}
