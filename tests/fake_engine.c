#include "fake_engine.h"

#include <stdlib.h>
#include <string.h>

struct fake_engine fake;

struct mtp_session {
    uint32_t n_ctx;
};
struct mtp_checkpoint {
    mtp_session *session;
    size_t length;
    int32_t held[65536];
};
struct mtp_decoder {
    char text[16];
};

/* Id and length of the token at the beginning of text. */
static int32_t first_token(const char *text, size_t length, bool special, size_t *used)
{
    static const char *const names[] = { "<|im_start|>", "<|im_end|>", "<think>", "</think>" };
    for (int32_t i = 0; i < 4 && special; i++) {
        *used = strlen(names[i]);
        if (*used <= length && memcmp(names[i], text, *used) == 0)
            return FAKE_IM_START + i;
    }
    *used = 1;
    return (unsigned char)text[0];
}

enum mtp_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                                 size_t length, unsigned flags, int32_t **ids, size_t *n_ids,
                                 struct mtp_error *error)
{
    (void)tokenizer;
    (void)error;
    *ids = malloc((length + 1) * sizeof **ids);
    *n_ids = 0;
    for (size_t i = 0, used; i < length; i += used)
        (*ids)[(*n_ids)++] = first_token(text + i, length - i, flags & MTP_TEXT_SPECIAL, &used);
    return MTP_OK;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text)
{
    (void)tokenizer;
    size_t used;
    int32_t id = first_token(text, strlen(text), true, &used);
    return used == strlen(text) ? id : -1;
}

enum mtp_status gguf_find_string(const struct gguf *file, const char *key,
                                 struct gguf_string *value, bool *found, struct mtp_error *error)
{
    (void)file, (void)key, (void)value, (void)error;
    *found = false;
    return MTP_OK;
}

const char *gguf_path(const struct gguf *file)
{
    (void)file;
    return "fake.gguf";
}

enum mtp_status mtp_tokenize(const mtp_model *model, const char *text, size_t length,
                             unsigned flags, int32_t **ids, size_t *n_ids, struct mtp_error *error)
{
    (void)model;
    return tokenizer_encode(NULL, text, length, flags, ids, n_ids, error);
}

bool mtp_token_is_end(const mtp_model *model, int32_t id)
{
    (void)model;
    return id == FAKE_IM_END;
}

enum mtp_status mtp_chat_tokenize(const mtp_model *model, const struct mtp_chat_turn *turns,
                                  size_t n_turns, const struct mtp_chat_options *options,
                                  int32_t **ids, size_t *n_ids, struct mtp_error *error)
{
    (void)model;
    return chat_tokenize(NULL, fake.template, turns, n_turns, options, ids, n_ids, error);
}

const char *mtp_token_bytes(const mtp_model *model, int32_t id, size_t *length, bool *control)
{
    static const char *const names[] = { "<|im_start|>", "<|im_end|>", "<think>", "</think>" };
    static char bytes[256];
    (void)model;
    *control = id >= 256;
    *length = *control ? strlen(names[id - 256]) : 1;
    bytes[id & 255] = (char)id;
    return *control ? names[id - 256] : &bytes[id & 255];
}

enum mtp_status mtp_decoder_open(mtp_decoder **out, const mtp_model *model, struct mtp_error *error)
{
    (void)model, (void)error;
    *out = calloc(1, sizeof **out);
    return MTP_OK;
}

void mtp_decoder_close(mtp_decoder *decoder)
{
    free(decoder);
}

const char *mtp_decoder_push(mtp_decoder *decoder, int32_t id, size_t *length)
{
    memset(decoder->text, 0, sizeof decoder->text);
    if (id == FAKE_THINK || id == FAKE_UNTHINK) {
        if (!fake.think_is_control)
            strcpy(decoder->text, id == FAKE_THINK ? "<think>" : "</think>");
    } else if (id < 256) {
        decoder->text[0] = (char)id;
    }
    *length = strlen(decoder->text);
    return decoder->text;
}

const char *mtp_decoder_flush(mtp_decoder *decoder, size_t *length)
{
    (void)decoder;
    *length = 0;
    return "";
}

enum mtp_status mtp_session_open(mtp_session **out, mtp_model *model,
                                 const struct mtp_session_options *options, struct mtp_error *error)
{
    (void)model, (void)error;
    *out = calloc(1, sizeof **out);
    (*out)->n_ctx = options->n_ctx > 0 ? options->n_ctx : 65536;
    fake.n_held = 0;
    memset(&fake.stats, 0, sizeof fake.stats);
    fake.n_opened++;
    return MTP_OK;
}

void mtp_session_close(mtp_session *session)
{
    free(session);
}

enum mtp_status mtp_session_append(mtp_session *session, const int32_t *ids, size_t n_ids,
                                   struct mtp_error *error)
{
    if (fake.n_held + n_ids > session->n_ctx)
        return mtp_fail(error, MTP_ERR_CONTEXT, "the context is full");
    memcpy(fake.held + fake.n_held, ids, n_ids * sizeof *ids);
    fake.n_held += n_ids;
    fake.n_appended += n_ids;
    return MTP_OK;
}

uint32_t mtp_session_length(const mtp_session *session)
{
    (void)session;
    return (uint32_t)fake.n_held;
}

uint32_t mtp_session_n_ctx(const mtp_session *session)
{
    return session->n_ctx;
}

enum mtp_status mtp_session_sample(const mtp_session *session, const struct mtp_sampling *sampling,
                                   int32_t *id, struct mtp_error *error)
{
    (void)session, (void)sampling, (void)error;
    size_t used = 0;
    const char *at = fake.script + fake.script_at;
    *id = *at == '\0' ? FAKE_IM_END : first_token(at, strlen(at), true, &used);
    fake.script_at += used;
    return MTP_OK;
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void count(uint32_t n_drafts, uint32_t n_given, bool stopped)
{
    struct mtp_draft_stats *stats = &fake.stats;
    struct mtp_step_outcome *last = &fake.last_step;
    uint32_t accepted = n_given - 1;
    stats->tokens += n_given;
    if (stopped && n_given == 1)
        return; /* drawn, and no pass was needed */
    last->counted = true;
    last->step.n_drafts = n_drafts;
    last->step.n_accepted = accepted;
    last->n_compared = accepted + !stopped < n_drafts ? accepted + !stopped : n_drafts;
    for (uint32_t i = 0; i < n_drafts; i++)
        last->step.drafts[i] = i < accepted ? last->step.tokens[i + 1] : fake.rejected;
    stats->steps++;
    stats->drafted += n_drafts;
    stats->accepted += accepted;
    stats->histogram[accepted]++;
    stats->width_steps[n_drafts]++;
    for (uint32_t i = 0; i < n_drafts; i++) {
        stats->drafted_at[i]++;
        stats->accepted_at[i] += i < accepted;
        stats->compared_at[i] += i < accepted + !stopped;
    }
    stats->verify_seconds += 0.001;
}

static uint32_t accepts(uint32_t n_drafts)
{
    if (fake.accepts == NULL)
        return n_drafts;
    uint32_t n = (uint32_t)(fake.accepts[fake.stats.steps % strlen(fake.accepts)] - '0');
    return n < n_drafts ? n : n_drafts;
}

enum mtp_status mtp_session_step(mtp_session *session, const struct mtp_generation *generation,
                                 mtp_token_fn fn, void *user, struct mtp_error *error)
{
    uint32_t n_drafts = generation->n_draft == MTP_DRAFT_AUTO ? 2 : (uint32_t)generation->n_draft;
    uint32_t most = accepts(n_drafts) + 1;
    memset(&fake.last_step, 0, sizeof fake.last_step);
    for (uint32_t n = 1;; n++) {
        int32_t id;
        mtp_session_sample(session, &generation->sampling, &id, error);
        fake.stats.digest = fake.stats.digest * 31 + (uint64_t)id;
        fake.last_step.step.tokens[n - 1] = id;
        fake.last_step.step.n_tokens = n;
        bool goes_on = fn(user, id, (uint32_t)fake.n_held);
        if (!goes_on || n == most)
            count(n_drafts, n, !goes_on);
        if (!goes_on)
            return MTP_OK;
        if (fake.fail_after != MTP_OK)
            return mtp_fail(error, fake.fail_after, "the step failed");
        enum mtp_status status = mtp_session_append(session, &id, 1, error);
        if (status != MTP_OK || n == most)
            return status;
    }
}

enum mtp_status mtp_trace_create(mtp_trace **out, const char *path, mtp_session *session,
                                 const struct mtp_generation *generation, const int32_t *prompt,
                                 size_t n_prompt, bool logits, struct mtp_error *error)
{
    (void)path, (void)session, (void)generation, (void)logits, (void)error;
    fake.prefix_errors += n_prompt != fake.n_held ||
                          memcmp(prompt, fake.held, n_prompt * sizeof *prompt) != 0;
    fake.n_traces++;
    fake.n_traces_open++;
    fake.n_traced_prompt = n_prompt;
    *out = NULL;
    return MTP_OK;
}

enum mtp_status mtp_trace_close(mtp_trace *trace, struct mtp_error *error)
{
    (void)trace, (void)error;
    fake.n_traces_open--;
    return MTP_OK;
}

bool mtp_model_can_draft(const mtp_model *model, struct mtp_error *why_not)
{
    (void)model;
    if (fake.cannot_draft)
        mtp_fail(why_not, MTP_ERR_UNSUPPORTED, "no tensor blk.6.nextn.eh_proj.weight: give a "
                 "companion file with --mtp-model");
    return !fake.cannot_draft;
}

void mtp_session_get_draft_stats(const mtp_session *session, struct mtp_draft_stats *stats)
{
    (void)session;
    *stats = fake.stats;
}

void mtp_session_get_last_step(const mtp_session *session, struct mtp_step_outcome *outcome)
{
    (void)session;
    *outcome = fake.last_step;
}

void mtp_session_get_draft_costs(const mtp_session *session, struct mtp_draft_costs *costs)
{
    (void)session;
    memset(costs, 0, sizeof *costs);
}

void mtp_session_get_strict_report(const mtp_session *session, struct mtp_strict_report *report)
{
    (void)session;
    *report = fake.strict;
}

void mtp_session_get_profile(const mtp_session *session, enum mtp_profile_phase phase,
                             struct mtp_profile *profile)
{
    (void)session;
    *profile = fake.profile[phase];
}

/* ---- what reports tell ----------------------------------------------------------------------- */

void mtp_model_get_info(const mtp_model *model, struct mtp_model_info *info)
{
    (void)model;
    *info = (struct mtp_model_info){ "fake", "a \"fake\"", 65536, FAKE_N_VOCAB, 6, 1, 1000, 1200,
                                     300, fake.synthetic };
}

uint64_t mtp_model_digest(const mtp_model *model)
{
    (void)model;
    return 0xfedcba9876543210u;
}

uint32_t mtp_session_n_threads(const mtp_session *session)
{
    (void)session;
    return 2;
}

void mtp_session_get_counters(const mtp_session *session, struct mtp_counters *counters)
{
    (void)session;
    *counters = (struct mtp_counters){ .inexact_products = fake.inexact_products };
}

const char *mtp_session_device_name(const mtp_session *session)
{
    (void)session;
    return "cpu";
}

const char *mtp_session_isa_name(const mtp_session *session)
{
    (void)session;
    return "scalar";
}

const char *mtp_version(void)
{
    return "0.0.1";
}

int mtp_arithmetic_version(void)
{
    return 7;
}

enum mtp_status mtp_checkpoint_take(mtp_checkpoint **out, const mtp_session *session,
                                    struct mtp_error *error)
{
    (void)error;
    *out = calloc(1, sizeof **out);
    (*out)->session = (mtp_session *)session;
    (*out)->length = fake.n_held;
    memcpy((*out)->held, fake.held, sizeof fake.held);
    fake.n_taken++;
    return MTP_OK;
}

enum mtp_status mtp_checkpoint_restore(mtp_session *session, const mtp_checkpoint *checkpoint,
                                       struct mtp_error *error)
{
    if (checkpoint->session != session || checkpoint->length > fake.n_held)
        return mtp_fail(error, MTP_ERR_USAGE, "a checkpoint of another session");
    fake.prefix_errors +=
        memcmp(checkpoint->held, fake.held, checkpoint->length * sizeof(int32_t)) != 0;
    fake.n_held = checkpoint->length;
    fake.n_restored++;
    return MTP_OK;
}

void mtp_checkpoint_free(mtp_checkpoint *checkpoint)
{
    free(checkpoint);
}
