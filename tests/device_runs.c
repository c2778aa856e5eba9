/* device_runs.c - see device_runs.h. */
#include "device_runs.h"

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "verify/digest.h"

static const struct mtp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
static const struct mtp_sampling warm = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f,
                                         .min_p = 0.05f, .seed = 5};
static const struct backend_source *device;

mtp_session *device_session(const struct backend_source *source, mtp_model *model,
                            const struct mtp_session_options *options)
{
    mtp_session *session = NULL;
    struct mtp_error error = {0};
    if (session_open_on(&session, model, source, options, 1, &error) != MTP_OK)
        fail_msg("%s", error.message);
    return session;
}

static const struct backend_source *cpu(void)
{
    const struct backend_source *source;
    assert_int_equal(device_source(MTP_DEVICE_CPU, &source, NULL), MTP_OK);
    return source;
}

struct prompt device_prompt(const mtp_model *model, size_t n)
{
    struct prompt prompt = {.n = n};
    fixture_random_ids(prompt.ids, n, model->hparams.n_vocab, 3);
    return prompt;
}

/* ---- runs ---------------------------------------------------------------------------------- */

static void run_on(struct run *run, const struct backend_source *source, mtp_model *model,
                   const struct mtp_session_options *options, const struct mtp_generation *generation,
                   const struct prompt *prompt, float *logits)
{
    mtp_session *session = device_session(source, model, options);
    run->n = 0;
    run->status = mtp_session_append(session, prompt->ids, prompt->n, &run->error);
    if (run->status == MTP_OK)
        generation_go_on(run, session, generation);
    if (run->status != MTP_OK)
        fail_msg("%s on %s", run->error.message, source->name);
    memcpy(logits, mtp_session_logits(session), model->hparams.n_vocab * sizeof *logits);
    mtp_session_close(session);
}

static void equal_runs(const struct run *a, const struct run *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
    assert_true(a->digest == b->digest);
    assert_true(a->last_digest == b->last_digest);
    assert_int_equal(a->length, b->length);
    assert_int_equal(a->strict.mismatches + b->strict.mismatches, 0);
    assert_int_equal(a->strict.mtp_mismatches + b->strict.mtp_mismatches, 0);
    assert_int_equal(a->strict.rows_checked, b->strict.rows_checked);
    assert_int_equal(a->strict.prompt_rows_checked, b->strict.prompt_rows_checked);
}

/* The same run on both; auto chooses by the clock, so drafts are compared where their number is given. */
static void compare_model(mtp_model *model, struct mtp_session_options options,
                          const struct mtp_generation *generation, size_t n_prompt, uint32_t most)
{
    struct run run[2] = {{.most = most, .stop_at = -1}, {.most = most, .stop_at = -1}};
    const struct prompt prompt = device_prompt(model, n_prompt);
    size_t bytes = model->hparams.n_vocab * sizeof(float);
    float *logits[2] = {malloc(bytes), malloc(bytes)};
    assert_true(logits[0] != NULL && logits[1] != NULL);
    options.n_threads = 2;
    options.n_ctx = options.n_ctx > 0 ? options.n_ctx : 256;
    run_on(&run[0], cpu(), model, &options, generation, &prompt, logits[0]);
    run_on(&run[1], device, model, &options, generation, &prompt, logits[1]);
    /* Which steps are sampled is the same, but not how many rows they have. */
    if (generation->n_draft == MTP_DRAFT_AUTO && options.strict == MTP_STRICT_SAMPLE)
        run[0].strict.rows_checked = run[1].strict.rows_checked;
    equal_runs(&run[0], &run[1]);
    assert_memory_equal(logits[0], logits[1], bytes);
    if (generation->n_draft != MTP_DRAFT_AUTO)
        assert_memory_equal(&run[0].stats.accepted_at, &run[1].stats.accepted_at,
                            sizeof run[0].stats.accepted_at);
    free(logits[0]);
    free(logits[1]);
}

static void compare(const char *file, struct mtp_session_options options,
                    const struct mtp_generation *generation, size_t n_prompt, uint32_t most)
{
    mtp_model *model = fixture_model(file);
    compare_model(model, options, generation, n_prompt, most);
    mtp_model_close(model);
}

/* ---- the tests ----------------------------------------------------------------------------- */

static void plain_runs_are_the_same(void **state)
{
    (void)state;
    compare(REFERENCE_MODEL, (struct mtp_session_options){0}, &(struct mtp_generation){greedy, 0, 0, 0}, 9,
            RUN_LENGTH(60));
    compare(REFERENCE_MODEL, (struct mtp_session_options){.isa = MTP_ISA_SCALAR, .kv_type = MTP_KV_F32},
            &(struct mtp_generation){greedy, 0, 0, 0}, 9, 12);
}

static void drafting_runs_are_the_same(void **state)
{
    (void)state;
    for (int32_t depth = MTP_DRAFT_AUTO; depth <= MTP_MAX_DRAFT; depth += 2)
        compare(REFERENCE_MODEL, (struct mtp_session_options){.draft = true},
                &(struct mtp_generation){greedy, depth, 0, 0}, 20, RUN_LENGTH(60));
}

static void sampled_runs_are_the_same(void **state)
{
    (void)state;
    for (int32_t depth = 0; depth <= 3; depth += 3)
        compare(REFERENCE_MODEL, (struct mtp_session_options){.draft = true},
                &(struct mtp_generation){warm, depth, 0, 0}, 20, RUN_LENGTH(60));
}

/* One session, drawn by other temperatures and seeds from one run to the next: what passes repeat from a
 * record may not hold them. */
static void drafts_follow_the_sampling_of_each_step(void **state)
{
    (void)state;
    enum { PARTS = 6, PART = 14 };
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 20);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 1};
    const struct backend_source *sources[2] = {cpu(), device};
    static struct run runs[2];
    for (int i = 0; i < 2; i++) {
        mtp_session *session = device_session(sources[i], model, &options);
        runs[i] = (struct run){.stop_at = -1};
        assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &runs[i].error), MTP_OK);
        for (uint32_t part = 0; part < PARTS; part++) {
            struct mtp_generation generation = {part % 3 == 2 ? greedy : warm, 3, 0};
            generation.sampling.seed += part;
            generation.sampling.min_p = part == 3 ? 0.0f : 0.05f;
            generation.draft_likeliest = part == 4;
            runs[i].most = (part + 1) * PART;
            generation_go_on(&runs[i], session, &generation);
            assert_int_equal(runs[i].status, MTP_OK);
        }
        mtp_session_close(session);
    }
    equal_runs(&runs[0], &runs[1]);
    assert_memory_equal(runs[0].stats.accepted_at, runs[1].stats.accepted_at,
                        sizeof runs[0].stats.accepted_at);
    mtp_model_close(model);
}

static void strict_runs_are_the_same(void **state)
{
    (void)state;
    for (int mode = MTP_STRICT_FULL; mode <= MTP_STRICT_SAMPLE; mode++) {
        const struct mtp_session_options options = {.draft = true, .n_batch = 7,
                                                    .strict = (enum mtp_strict_mode)mode};
        compare(REFERENCE_MODEL, options, &(struct mtp_generation){greedy, 3, 0, 0}, 20, RUN_LENGTH(60));
        compare(REFERENCE_MODEL, options, &(struct mtp_generation){warm, MTP_DRAFT_AUTO, 0, 0}, 20,
                RUN_LENGTH(30));
    }
}

/* More than the draft head's queue, in batches that it does not divide. */
static void long_prompts_are_read_the_same(void **state)
{
    (void)state;
    const struct mtp_session_options options = {.draft = true, .n_batch = 150, .n_ctx = 1024};
    compare(REFERENCE_MODEL, options, &(struct mtp_generation){greedy, 3, 0, 0}, 700, RUN_LENGTH(30));
    compare(REFERENCE_MODEL, options, &(struct mtp_generation){greedy, 5, 0, 3}, 700, RUN_LENGTH(60));
    struct mtp_session_options per_token = options;
    per_token.moe_mode = MTP_MOE_PER_TOKEN;
    compare(REFERENCE_MODEL, per_token, &(struct mtp_generation){greedy, 0, 0, 0}, 200, 8);
}

static void every_golden_model_runs_the_same(void **state)
{
    (void)state;
    static const char *const names[] = {"dense-f16", "moe-f32", "dense-q4_k_m", "dense-iq4_xs",
                                        "dense-mixed", "dense-every-type", "moe-q8_0", "moe-q3_k",
                                        "moe-fused"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[96];
        snprintf(file, sizeof file, "tests/golden/models/%s.gguf", names[i]);
        compare(file, (struct mtp_session_options){.n_batch = 7, .draft = true,
                                                   .strict = MTP_STRICT_FULL},
                &(struct mtp_generation){greedy, 3, 0, 0}, 20, RUN_LENGTH(40));
        compare(file, (struct mtp_session_options){.kv_type = MTP_KV_F32, .draft = true},
                &(struct mtp_generation){warm, 2, 0, 0}, 20, RUN_LENGTH(20));
    }
    mtp_model *model = fixture_model_with("tests/golden/models/moe-q8_0-trunk.gguf",
                                          "tests/golden/models/moe-q8_0-mtp.gguf");
    compare_model(model, (struct mtp_session_options){.draft = true},
                  &(struct mtp_generation){greedy, 3, 0, 0}, 20, RUN_LENGTH(40));
    mtp_model_close(model);
}

/* Goes on, goes back, and goes on as before. */
static void checkpoints_return(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 20);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 2,
                                                .strict = MTP_STRICT_FULL};
    const struct mtp_generation generation = {greedy, 3, 0, 0};
    const struct backend_source *sources[2] = {cpu(), device};
    static struct run runs[2][2];
    for (int i = 0; i < 2; i++) {
        mtp_session *session = device_session(sources[i], model, &options);
        mtp_checkpoint *checkpoint = NULL;
        struct mtp_error error = {0};
        assert_int_equal(mtp_session_append(session, prompt.ids, 12, &error), MTP_OK);
        assert_int_equal(mtp_checkpoint_take(&checkpoint, session, &error), MTP_OK);
        for (int round = 0; round < 2; round++) {
            struct run *run = &runs[i][round];
            *run = (struct run){.most = 30, .stop_at = -1};
            assert_int_equal(mtp_session_append(session, prompt.ids + 12, 8, &error), MTP_OK);
            generation_go_on(run, session, &generation);
            assert_int_equal(run->status, MTP_OK);
            assert_int_equal(mtp_checkpoint_restore(session, checkpoint, &error), MTP_OK);
        }
        assert_int_equal(runs[i][0].n, runs[i][1].n);
        assert_memory_equal(runs[i][0].tokens, runs[i][1].tokens, sizeof runs[i][0].tokens);
        mtp_checkpoint_free(checkpoint);
        mtp_session_close(session);
    }
    for (int round = 0; round < 2; round++)
        equal_runs(&runs[0][round], &runs[1][round]);
    mtp_model_close(model);
}

static void look(void *user, const struct mtp_step_record *step, const float *const *rows)
{
    uint32_t *n = user;
    for (uint32_t i = 0; i < step->n_tokens; i++, ++*n)
        assert_true(digest_row(rows[i], 8192) == step->digests[i]);
}

static void observers_see_the_rows_that_were_drawn_from(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    assert_int_equal(model->hparams.n_vocab, 8192);
    const struct prompt prompt = device_prompt(model, 20);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 1};
    mtp_session *session = device_session(device, model, &options);
    struct run run = {.most = 40, .stop_at = -1};
    uint32_t seen = 0;
    mtp_session_on_step(session, look, &seen);
    assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &run.error), MTP_OK);
    assert_true(digest_row(mtp_session_logits(session), 8192) == mtp_session_logits_digest(session));
    generation_go_on(&run, session, &(struct mtp_generation){greedy, 4, 0, 0});
    assert_int_equal(run.status, MTP_OK);
    assert_int_equal(seen, run.n);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void a_planted_bit_is_found_and_named_the_same(void **state)
{
    (void)state;
    static const char *const plants[] = {"matmul:2", "attention:3", "kv_store:2", "delta_net_state:2",
                                         "conv_state:2", "expert:4", "router:2", "lm_head:1"};
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 20);
    const struct backend_source *sources[2] = {cpu(), device};
    for (size_t p = 0; p < sizeof plants / sizeof plants[0]; p++) {
        struct mtp_strict_report reports[2];
        for (int i = 0; i < 2; i++) {
            const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 2,
                                                        .strict = MTP_STRICT_FULL,
                                                        .test_flip = plants[p]};
            struct run run = {.most = 40, .stop_at = -1};
            mtp_session *session = device_session(sources[i], model, &options);
            assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &run.error), MTP_OK);
            generation_go_on(&run, session, &(struct mtp_generation){greedy, 3, 0, 0});
            if (run.status != MTP_ERR_STRICT)
                fail_msg("%s was not found on %s", plants[p], sources[i]->name);
            reports[i] = run.strict;
            mtp_session_close(session);
        }
        assert_string_equal(reports[0].first_difference, reports[1].first_difference);
    }
    mtp_model_close(model);
}

/* The host waits once a step of any depth, for what the pass that checks the drafts gives. */
static void a_step_waits_for_the_device_once(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 20);
    for (int32_t i = 0; i <= 2 * MTP_MAX_DRAFT + 1; i++) {
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 1,
                                                    .measure_passes = i % 3 == 0};
        const int32_t depth = i % (MTP_MAX_DRAFT + 1);
        const unsigned sources = i > MTP_MAX_DRAFT ? 3 : 0;
        struct run run = {.most = 6, .stop_at = -1};
        struct backend_counters before, after;
        mtp_session *session = device_session(device, model, &options);
        assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &run.error), MTP_OK);
        generation_go_on(&run, session, &(struct mtp_generation){greedy, depth, 0, sources});
        session->backend->ops->counters(session->backend, &before);
        uint64_t steps = run.stats.steps;
        run.most = 60;
        generation_go_on(&run, session, &(struct mtp_generation){greedy, depth, 0, sources});
        assert_int_equal(run.status, MTP_OK);
        session->backend->ops->counters(session->backend, &after);
        assert_true(run.stats.steps > steps + 5);
        assert_int_equal(after.waits - before.waits, run.stats.steps - steps);
        mtp_session_close(session);
    }
    mtp_model_close(model);
}

static void profiles_count_the_same(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 100);
    const struct backend_source *sources[2] = {cpu(), device};
    static struct mtp_profile profiles[2][MTP_PROFILE_PHASES];
    for (int i = 0; i < 2; i++) {
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 2,
                                                    .profile = true};
        struct run run = {.most = 20, .stop_at = -1};
        mtp_session *session = device_session(sources[i], model, &options);
        assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &run.error), MTP_OK);
        generation_go_on(&run, session, &(struct mtp_generation){greedy, 3, 64, 0});
        for (int phase = 0; phase < MTP_PROFILE_PHASES; phase++)
            mtp_session_get_profile(session, (enum mtp_profile_phase)phase, &profiles[i][phase]);
        mtp_session_close(session);
    }
    for (int phase = 0; phase < MTP_PROFILE_PHASES; phase++)
        for (uint32_t e = 0; e < profiles[0][phase].n_entries; e++) {
            const struct mtp_profile_entry *a = &profiles[0][phase].entries[e];
            const struct mtp_profile_entry *b = &profiles[1][phase].entries[e];
            if (a->calls != b->calls || a->bytes != b->bytes)
                fail_msg("%s is counted otherwise", a->operation);
        }
    mtp_model_close(model);
}

int device_runs(const struct backend_source *source, const char *name)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(plain_runs_are_the_same),
        cmocka_unit_test(drafting_runs_are_the_same),
        cmocka_unit_test(sampled_runs_are_the_same),
        cmocka_unit_test(drafts_follow_the_sampling_of_each_step),
        cmocka_unit_test(strict_runs_are_the_same),
        cmocka_unit_test(long_prompts_are_read_the_same),
        cmocka_unit_test(every_golden_model_runs_the_same),
        cmocka_unit_test(checkpoints_return),
        cmocka_unit_test(observers_see_the_rows_that_were_drawn_from),
        cmocka_unit_test(a_planted_bit_is_found_and_named_the_same),
        cmocka_unit_test(a_step_waits_for_the_device_once),
        cmocka_unit_test(profiles_count_the_same),
    };
    device = source;
    return _cmocka_run_group_tests(name, tests, sizeof tests / sizeof tests[0], NULL, NULL);
}
