/* test_mtp_head.c - the draft head: its logits against torch (tests/golden/README.md), and that its
 * cache after drafting is that of reading the text. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_fixture.h"
#include "mtp/mtp_head.h"
#include "sampler.h"

#define MODELS "tests/golden/models/"

enum { N_CTX = 256, DEPTHS = 3 };

struct subject {
    mtp_model *model;
    int32_t *ids; /* of the golden file */
    size_t n;
};

static struct subject open_subject(const char *name)
{
    char path[96];
    struct subject subject;
    snprintf(path, sizeof path, MODELS "%s.gguf", name);
    subject.model = fixture_model(path);
    snprintf(path, sizeof path, MODELS "%s.golden.json", name);
    json_t *golden = fixture_json(path);
    subject.ids = fixture_ids(json_object_get(golden, "tokens"), &subject.n);
    json_decref(golden);
    return subject;
}

static void close_subject(struct subject *subject)
{
    free(subject->ids);
    mtp_model_close(subject->model);
}

static mtp_session *drafting_session(mtp_model *model)
{
    const struct mtp_session_options options = {
        .kv_type = MTP_KV_F32, .n_batch = 64, .n_ctx = N_CTX, .draft = true};
    mtp_session *session = fixture_session(model, &options, 1);
    assert_non_null(session->mtp);
    return session;
}

static void demand(enum mtp_status status, const struct mtp_error *error)
{
    if (status != MTP_OK)
        fail_msg("%s", error->message);
}

static void append(mtp_session *session, const int32_t *ids, size_t n)
{
    struct mtp_error error = {0};
    demand(mtp_session_append(session, ids, n, &error), &error);
}

static void draft(mtp_session *session, int32_t token, uint32_t n, int32_t *drafts)
{
    struct mtp_error error = {0};
    uint32_t n_head = session->model->hparams.n_vocab;
    demand(mtp_draft(session, token, n, n_head, NULL, &error), &error);
    demand(mtp_drafts(session, n, drafts, &error), &error);
}

/* One row that chains on the block's last output. */
static void chain(mtp_session *session, int32_t token, uint32_t row)
{
    struct mtp_error error = {0};
    uint32_t n_head = session->model->hparams.n_vocab;
    demand(mtp_rows(session, &token, session->mtp->out, row, 1, n_head, &error), &error);
}

/* Root mean square difference from entry `at` of a golden section; *largest and *sum_off grow. */
static double compare(const float *logits, size_t n_vocab, const json_t *ids, const json_t *values,
                      size_t at, double *largest, double *sum_off)
{
    const json_t *top = json_array_get(ids, at);
    const json_t *want = json_array_get(json_object_get(values, "top_logits"), at);
    double squares = 0.0, total = 0.0;
    size_t n = json_array_size(top);
    assert_true(n >= 8 && json_array_size(want) == n);
    for (size_t k = 0; k < n; k++) {
        size_t id = (size_t)json_integer_value(json_array_get(top, k));
        assert_true(id < n_vocab);
        double off = fabs((double)logits[id] - json_number_value(json_array_get(want, k)));
        *largest = fmax(*largest, off);
        squares += off * off;
    }
    for (size_t i = 0; i < n_vocab; i++)
        total += (double)logits[i];
    double sum = json_number_value(json_array_get(json_object_get(values, "logit_sum"), at));
    *sum_off = fmax(*sum_off, fabs(total - sum));
    return sqrt(squares / (double)n);
}

/* A session reads the text up to an anchor as its prompt, drafts, and goes on with the true tokens. */
static void compare_chains(const char *name)
{
    struct subject s = open_subject(name);
    char path[96];
    snprintf(path, sizeof path, MODELS "%s.mtp.json", name);
    json_t *golden = fixture_json(path);
    const json_t *anchors = json_object_get(golden, "anchors");
    const json_t *depths = json_object_get(golden, "depths");
    size_t n_vocab = s.model->hparams.n_vocab, n_anchors = json_array_size(anchors);
    assert_true(n_anchors > 10 && json_array_size(depths) == DEPTHS);
    double largest[DEPTHS] = {0}, sum_off = 0.0;
    for (size_t a = 0; a < n_anchors; a++) {
        size_t anchor = (size_t)json_integer_value(json_array_get(anchors, a));
        assert_true(anchor + DEPTHS < s.n);
        mtp_session *session = drafting_session(s.model);
        append(session, s.ids, anchor + 1);
        for (uint32_t d = 0; d < DEPTHS; d++) {
            int32_t token = s.ids[anchor + 1 + d], drafted;
            if (d == 0)
                draft(session, token, 1, &drafted);
            else
                chain(session, token, (uint32_t)anchor + d);
            const json_t *want = json_array_get(depths, d);
            compare(session->mtp->logits, n_vocab, json_object_get(want, "top_ids"), want, a,
                    &largest[d], &sum_off);
        }
        mtp_session_close(session);
    }
    print_message("%s: largest %.6f, %.6f, %.6f at depth 1, 2, 3; sum %.4f\n", name, largest[0],
                  largest[1], largest[2], sum_off);
    for (int d = 0; d < DEPTHS; d++)
        assert_true(largest[d] < 0.001);
    assert_true(sum_off < 0.05);
    json_decref(golden);
    close_subject(&s);
}

static void drafts_behind_a_prompt_and_down_a_chain_have_the_logits_of_torch(void **state)
{
    (void)state;
    compare_chains("dense-f16");
    compare_chains("moe-f32");
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

struct difference {
    double largest, p90;
};

/* First drafts at every position, token by token. */
static struct difference compare_first_drafts(const char *name, const char *section)
{
    struct subject s = open_subject(name);
    char path[96];
    snprintf(path, sizeof path, MODELS "%s.golden.json", name);
    json_t *golden = fixture_json(path);
    const json_t *mtp = json_object_get(golden, "mtp");
    const json_t *values = section != NULL ? json_object_get(mtp, section) : mtp;
    struct difference d = {0};
    double sum_off = 0.0, rms[N_CTX];
    assert_true(json_array_size(json_object_get(mtp, "top_ids")) == s.n - 1 && s.n <= N_CTX);
    mtp_session *session = drafting_session(s.model);
    for (size_t r = 0; r + 1 < s.n; r++) {
        int32_t drafted;
        append(session, s.ids + r, 1);
        draft(session, s.ids[r + 1], 1, &drafted);
        rms[r] = compare(session->mtp->logits, s.model->hparams.n_vocab,
                         json_object_get(mtp, "top_ids"), values, r, &d.largest, &sum_off);
    }
    qsort(rms, s.n - 1, sizeof *rms, ascending);
    d.p90 = rms[(s.n - 1) * 9 / 10];
    print_message("%s: largest %.6f, 90 %% below %.6f\n", name, d.largest, d.p90);
    mtp_session_close(session);
    json_decref(golden);
    close_subject(&s);
    return d;
}

static void first_drafts_at_every_position_have_the_logits_of_torch(void **state)
{
    (void)state;
    assert_true(compare_first_drafts("dense-f16", NULL).largest < 0.001);
    assert_true(compare_first_drafts("moe-f32", NULL).largest < 0.001);
}

/* Single steps of int8 flip, as in test_trunk.c, in one block more. */
static void first_drafts_of_quantised_models_have_the_logits_of_the_same_rounding(void **state)
{
    (void)state;
    static const char *const names[] = {"dense-q4_k_m", "dense-every-type", "moe-q8_0"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
        assert_true(compare_first_drafts(names[i], "int8").p90 < 0.14);
}

/* ---- the cache ----------------------------------------------------------------------------- */

static void cache_rows_equal(const struct kv_cache *a, const struct kv_cache *b, size_t n_rows)
{
    size_t element = a->type == KV_F32 ? sizeof(float) : sizeof(uint16_t);
    size_t bytes = n_rows * a->n_kv_heads * a->head_dim * element;
    assert_memory_equal(a->k, b->k, bytes);
    assert_memory_equal(a->v, b->v, bytes);
}

/* Both sessions hold the same text; all that later tokens and drafts depend on is the same. */
static void sessions_equal(mtp_session *a, mtp_session *b)
{
    struct mtp_error error = {0};
    const struct hparams *h = &a->model->hparams;
    assert_int_equal(a->lengths[0], b->lengths[0]);
    assert_memory_equal(session_logits(a), session_logits(b), h->n_vocab * sizeof(float));
    for (uint32_t i = 0; i < h->n_layers; i++)
        if (!h->recurrent[i])
            cache_rows_equal(&a->layers[i].kv, &b->layers[i].kv, a->lengths[0]);
    assert_int_equal(session_state(a)->used, session_state(b)->used);
    assert_memory_equal(session_state(a)->base, session_state(b)->base, session_state(a)->used);
    demand(mtp_catch_up(a, &error), &error);
    demand(mtp_catch_up(b, &error), &error);
    assert_int_equal(a->mtp->filled, a->lengths[0] - 1);
    assert_int_equal(b->mtp->filled, b->lengths[0] - 1);
    cache_rows_equal(&a->mtp->kv, &b->mtp->kv, a->mtp->filled);
    assert_memory_equal(a->mtp->last_hidden, b->mtp->last_hidden, h->n_embd * sizeof(float));
}

static void the_block_reads_a_prompt_the_same_in_any_chunking(void **state)
{
    (void)state;
    static const size_t chunks[] = {1, 3, 17, 64, 100};
    struct subject s = open_subject("moe-q8_0");
    mtp_session *whole = drafting_session(s.model);
    append(whole, s.ids, s.n);
    for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
        mtp_session *cut = drafting_session(s.model);
        for (size_t done = 0; done < s.n; done += chunks[c])
            append(cut, s.ids + done, s.n - done < chunks[c] ? s.n - done : chunks[c]);
        sessions_equal(whole, cut);
        mtp_session_close(cut);
    }
    mtp_session_close(whole);
    close_subject(&s);
}

static uint32_t rows_known(const struct mtp_state *m)
{
    return m->skipped + m->filled + m->n_queued;
}

/* Gives `short_one`, which has read as much before the gap as `m`, the queue behind it. */
static void close_gap(mtp_session *short_one, const struct mtp_state *m, size_t width)
{
    struct mtp_state *s = short_one->mtp;
    assert_int_equal(s->filled, m->filled);
    memcpy(s->tokens, m->tokens, m->n_queued * sizeof *m->tokens);
    memcpy(s->hidden, m->hidden, m->n_queued * width * sizeof *m->hidden);
    memcpy(s->last_hidden, m->last_hidden, width * sizeof *m->hidden);
    s->n_queued = m->n_queued;
    short_one->lengths[0] = s->filled + s->n_queued + 1;
}

/* While drafts are only tried, a full queue is shortened; what follows closes up, and drafts are those of a
 * text without what was skipped. */
static void skipped_rows_close_up(void **state)
{
    (void)state;
    enum { N = MTP_QUEUE_ROWS + 200 };
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct mtp_session_options options = {.draft = true, .n_threads = 1, .n_ctx = N + 20};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_state *m = session->mtp;
    struct mtp_error error = {0};
    static int32_t ids[N];
    int32_t drafts[4], closed[4];
    mtp_session *short_one = fixture_session(model, &options, 1);
    fixture_random_ids(ids, N, 4096, 4);
    append(session, ids, 20);
    append(short_one, ids, 20);
    demand(mtp_catch_up(session, &error), &error);
    demand(mtp_catch_up(short_one, &error), &error);
    m->may_skip = true;
    append(session, ids + 20, N - 20);
    assert_int_equal(m->skipped, MTP_QUEUE_ROWS - MTP_TRIAL_ROWS);
    assert_int_equal(m->filled, 19);
    assert_int_equal(rows_known(m), N - 1);
    mtp_skip(session);
    assert_int_equal(m->n_queued, MTP_TRIAL_ROWS);
    assert_int_equal(rows_known(m), N - 1);
    close_gap(short_one, m, model->hparams.n_embd);
    draft(session, 7, 4, drafts);
    draft(short_one, 7, 4, closed);
    assert_int_equal(rows_known(m), N);
    assert_memory_equal(drafts, closed, sizeof drafts);
    cache_rows_equal(&m->kv, &short_one->mtp->kv, m->filled + 3);
    mtp_cut(session, N - 50); /* back among the rows behind the gap, then before it */
    assert_int_equal(rows_known(m), N - 51);
    mtp_cut(session, 300);
    assert_int_equal(rows_known(m), 299);
    mtp_cut(session, 0);
    assert_int_equal(rows_known(m), 0);
    mtp_session_close(short_one);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void a_chain_feeds_each_draft_with_the_block_s_own_output(void **state)
{
    (void)state;
    struct subject s = open_subject("moe-q8_0");
    mtp_session *session = drafting_session(s.model), *by_hand = drafting_session(s.model);
    int32_t drafts[MTP_MAX_DRAFT], first;
    uint32_t n = 40;
    append(session, s.ids, n);
    append(by_hand, s.ids, n);
    draft(session, s.ids[n], MTP_MAX_DRAFT, drafts);
    draft(by_hand, s.ids[n], 1, &first);
    for (uint32_t i = 0; i < MTP_MAX_DRAFT; i++) {
        assert_int_equal(drafts[i], by_hand->mtp->top[0]);
        if (i + 1 < MTP_MAX_DRAFT)
            chain(by_hand, drafts[i], n + i);
    }
    size_t bytes = s.model->hparams.n_vocab * sizeof(float);
    assert_memory_equal(session->mtp->logits, by_hand->mtp->logits, bytes);
    mtp_session_close(session);
    mtp_session_close(by_hand);
    close_subject(&s);
}

/* ---- steps --------------------------------------------------------------------------------- */

struct text {
    int32_t ids[N_CTX];
    size_t n, most;
};

static bool note_token(void *user, int32_t id, uint32_t position)
{
    struct text *text = user;
    assert_int_equal(position, text->n);
    text->ids[text->n++] = id;
    return text->n < text->most;
}

/* Continues a prompt by steps of n_draft drafts, and compares with a session that reads the text. */
static void generate_and_compare(mtp_model *model, const int32_t *prompt, size_t n_prompt,
                                 int32_t n_draft, uint64_t *accepted)
{
    struct text text = {.n = n_prompt, .most = n_prompt + 60};
    struct mtp_error error = {0};
    const struct mtp_generation generation = {.n_draft = n_draft};
    mtp_session *session = drafting_session(model), *reader = drafting_session(model);
    memcpy(text.ids, prompt, n_prompt * sizeof *prompt);
    append(session, prompt, n_prompt);
    while (text.n < text.most) {
        size_t before = text.n;
        demand(mtp_session_step(session, &generation, note_token, &text, &error), &error);
        assert_true(text.n > before);
    }
    append(reader, text.ids, text.n - 1); /* the token at which the run stopped is not read */
    sessions_equal(session, reader);
    struct mtp_draft_stats stats;
    mtp_session_get_draft_stats(session, &stats);
    *accepted += stats.accepted;
    mtp_session_close(session);
    mtp_session_close(reader);
}

static void after_steps_with_drafts_everything_is_as_if_the_text_had_been_read(void **state)
{
    (void)state;
    static const char *const names[] = {"dense-f16", "dense-every-type", "moe-q8_0"};
    uint64_t accepted = 0;
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        struct subject s = open_subject(names[i]);
        for (int32_t n_draft = 0; n_draft <= MTP_MAX_DRAFT; n_draft++)
            generate_and_compare(s.model, s.ids, 12, n_draft, &accepted);
        close_subject(&s);
    }
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    json_t *prompts = fixture_json("tests/golden/ref-qwen35moe.reference.json");
    size_t n = 0;
    int32_t *ids = fixture_ids(json_object_get(json_array_get(prompts, 3), "tokens"), &n);
    accepted = 0;
    for (int32_t n_draft = 1; n_draft <= MTP_MAX_DRAFT; n_draft += 2)
        generate_and_compare(model, ids, n, n_draft, &accepted);
    assert_true(accepted > 60); /* acceptance and rejection both happened */
    free(ids);
    json_decref(prompts);
    mtp_model_close(model);
}

/* Each draft is what the sampler draws from the block's logits where the draft is to stand. */
static void drafts_are_drawn_as_the_sampler_would_at_their_positions(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    uint32_t n_head = model->hparams.n_vocab / 2;
    int32_t ids[40];
    uint32_t likeliest = 0;
    fixture_random_ids(ids, 40, model->hparams.n_vocab, 7);
    for (uint32_t n = 1; n <= MTP_MAX_DRAFT; n++) {
        const struct mtp_sampling sampling = {.temperature = 1.0f, .top_p = 1.0f,
                                              .min_p = n % 2 == 0 ? 0.0f : 0.02f,
                                              .seed = (uint64_t)n << 32 | 5};
        const struct draw_noise noise = {sampling.seed, sampling.temperature, sampling.min_p};
        mtp_session *session = drafting_session(model);
        struct mtp_error error = {0};
        int32_t drafts[MTP_MAX_DRAFT], drawn, first;
        append(session, ids, 20 + n);
        demand(mtp_draft(session, ids[39], n, n_head, &noise, &error), &error);
        demand(mtp_drafts(session, n, drafts, &error), &error);
        demand(sampler_draw(session->mtp->logits, n_head, &sampling, 20 + n + n, &drawn, &error), &error);
        assert_int_equal(drafts[n - 1], drawn);
        demand(sampler_draw(session->mtp->logits, n_head, &(struct mtp_sampling){.top_p = 1.0f}, 0, &first,
                            &error), &error);
        likeliest += drawn == first;
        mtp_session_close(session);
    }
    assert_true(likeliest < MTP_MAX_DRAFT);
    mtp_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_behind_a_prompt_and_down_a_chain_have_the_logits_of_torch),
        cmocka_unit_test(first_drafts_at_every_position_have_the_logits_of_torch),
        cmocka_unit_test(first_drafts_of_quantised_models_have_the_logits_of_the_same_rounding),
        cmocka_unit_test(the_block_reads_a_prompt_the_same_in_any_chunking),
        cmocka_unit_test(skipped_rows_close_up),
        cmocka_unit_test(a_chain_feeds_each_draft_with_the_block_s_own_output),
        cmocka_unit_test(drafts_are_drawn_as_the_sampler_would_at_their_positions),
        cmocka_unit_test(after_steps_with_drafts_everything_is_as_if_the_text_had_been_read),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
