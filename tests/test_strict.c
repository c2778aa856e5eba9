/* test_strict.c - the strict check passes where it should, catches every planted bit, and names it. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generation_fixture.h"
#include "verify/instrument.h"

static const struct mtp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
static const struct mtp_sampling warm = {.temperature = 0.8f, .top_k = 40, .top_p = 0.95f,
                                         .min_p = 0.05f, .seed = 5};

static size_t prompt_of(const mtp_model *model, int32_t *prompt)
{
    if (model->hparams.n_vocab > 512) {
        static const int32_t words[] = {1323, 375, 261, 1817, 5732, 642, 6331, 14, 323};
        memcpy(prompt, words, sizeof words);
        return 9;
    }
    fixture_random_ids(prompt, 20, model->hparams.n_vocab, 3);
    return 20;
}

static void proven(const char *file, struct mtp_session_options options,
                   const struct mtp_sampling *sampling, int32_t depth, uint32_t most)
{
    mtp_model *model = fixture_model(file);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    options.n_ctx = 256;
    options.draft = true;
    options.strict = MTP_STRICT_FULL;
    struct run run = {.most = most, .stop_at = -1};
    generation_run(&run, model, &options, &(struct mtp_generation){*sampling, depth, 0, 0}, prompt, n);
    if (run.status != MTP_OK)
        fail_msg("%s at depth %d: %s", file, depth, run.error.message);
    assert_int_equal(run.strict.mismatches, 0);
    assert_int_equal(run.strict.mtp_mismatches, 0);
    assert_int_equal(run.strict.prompt_rows_checked, n);
    /* Every row a token was drawn from, but the last of the prompt's, which counts there; and the row
     * after the last token read. */
    assert_true(run.strict.rows_checked >= most - 1);
    assert_int_equal(run.strict.steps_checked, run.stats.steps);
    mtp_model_close(model);
}

static void every_depth_is_proven_on_the_bundled_model(void **state)
{
    (void)state;
    for (int32_t depth = 0; depth <= MTP_MAX_DRAFT; depth++)
        proven(REFERENCE_MODEL, (struct mtp_session_options){0}, &greedy, depth, RUN_LENGTH(48));
}

static void every_golden_model_is_proven(void **state)
{
    (void)state;
    static const char *const names[] = {"dense-f16", "moe-f32", "dense-q4_k_m", "dense-iq4_xs",
                                        "dense-mixed", "dense-every-type", "moe-q8_0", "moe-q3_k",
                                        "moe-fused"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[96];
        snprintf(file, sizeof file, "tests/golden/models/%s.gguf", names[i]);
        proven(file, (struct mtp_session_options){.n_batch = 7}, &greedy, 3, RUN_LENGTH(40));
        proven(file, (struct mtp_session_options){.kv_type = MTP_KV_F32}, &warm, 2, RUN_LENGTH(20));
    }
}

static void sampling_is_proven_too(void **state)
{
    (void)state;
    static const struct mtp_sampling unfiltered = {.temperature = 1.0f, .top_p = 1.0f, .seed = 12};
    for (int32_t depth = 0; depth <= MTP_MAX_DRAFT; depth++)
        proven(REFERENCE_MODEL, (struct mtp_session_options){0}, depth % 2 == 0 ? &warm : &unfiltered, depth,
               RUN_LENGTH(48));
}

static void a_spot_check_checks_one_step_in_sixteen(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true,
                                                .strict = MTP_STRICT_SAMPLE};
    struct run run = {.most = 100, .stop_at = -1};
    generation_run(&run, model, &options, &(struct mtp_generation){greedy, 2, 0, 0}, prompt, n);
    assert_int_equal(run.status, MTP_OK);
    assert_int_equal(run.strict.prompt_rows_checked, 0);
    assert_int_equal(run.strict.steps_checked, (run.stats.steps + 15) / 16);
    assert_true(run.strict.rows_checked > 0);
    mtp_model_close(model);
}

static void a_long_prompt_is_checked_row_by_row(void **state)
{
    (void)state;
    enum { N = 200 };
    mtp_model *model = fixture_model("tests/golden/models/moe-q8_0.gguf");
    int32_t ids[N];
    fixture_random_ids(ids, N, model->hparams.n_vocab, 77);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_batch = 33,
                                                .strict = MTP_STRICT_FULL};
    struct run run = {.most = 8, .stop_at = -1};
    generation_run(&run, model, &options, &(struct mtp_generation){greedy, 3, 0, 0}, ids, N);
    assert_int_equal(run.status, MTP_OK);
    assert_int_equal(run.strict.prompt_rows_checked, N);
    mtp_model_close(model);
}

static void one_flipped_bit_is_caught_and_named(void **state)
{
    (void)state;
    static const char *const names[] = {"matmul", "attention", "kv_store", "delta_net_state",
                                        "conv_state", "expert", "router", "lm_head"};
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    struct run clean = {.most = 40, .stop_at = -1};
    const struct mtp_session_options plain = {.n_ctx = 256, .draft = true};
    generation_run(&clean, model, &plain, &(struct mtp_generation){greedy, 3, 0, 0}, prompt, n);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char flip[64], where[64];
        snprintf(flip, sizeof flip, "%s:2", names[i]);
        snprintf(where, sizeof where, "operation %s", names[i]);
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true,
                                                    .strict = MTP_STRICT_FULL, .test_flip = flip};
        struct run run = {.most = 40, .stop_at = -1};
        generation_run(&run, model, &options, &(struct mtp_generation){greedy, 3, 0, 0}, prompt, n);
        if (run.status != MTP_ERR_STRICT || strstr(run.strict.first_difference, where) == NULL)
            fail_msg("%s: status %d, \"%s\"", flip, run.status, run.error.message);
        print_message("%s: %s\n", flip, run.strict.first_difference);
        assert_int_equal(run.strict.mismatches, 1);
        assert_int_equal(run.strict.steps_checked, 2);
        /* No token changed: without the check nobody would have seen it. */
        assert_memory_equal(run.tokens, clean.tokens, run.n * sizeof *run.tokens);
    }
    mtp_model_close(model);
}

static void a_flip_of_no_known_operation_is_refused(void **state)
{
    (void)state;
    static const char *const texts[] = {"", "matmul", "matmul:", "matmul:x", "nothing:1", ":1"};
    mtp_model *model = fixture_model("tests/golden/models/moe-f32.gguf");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        const struct mtp_session_options options = {.n_ctx = 16, .test_flip = texts[i],
                                                    .device = MTP_DEVICE_CPU};
        mtp_session *session = NULL;
        struct mtp_error error;
        assert_int_equal(mtp_session_open(&session, model, &options, &error), MTP_ERR_USAGE);
        assert_null(session);
    }
    mtp_model_close(model);
}

static void a_checkpoint_takes_the_shadow_along(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true,
                                                .strict = MTP_STRICT_FULL};
    mtp_session *session = fixture_session(model, &options, 1);
    mtp_checkpoint *checkpoint = NULL;
    struct mtp_error error;
    struct run run = {.most = 12, .stop_at = -1};
    assert_int_equal(mtp_session_append(session, prompt, n, &error), MTP_OK);
    assert_int_equal(mtp_checkpoint_take(&checkpoint, session, &error), MTP_OK);
    generation_go_on(&run, session, &(struct mtp_generation){greedy, 3, 0, 0});
    assert_int_equal(run.status, MTP_OK);
    assert_int_equal(mtp_checkpoint_restore(session, checkpoint, &error), MTP_OK);
    assert_int_equal(mtp_session_append(session, prompt, n, &error), MTP_OK);
    run.n = 0;
    generation_go_on(&run, session, &(struct mtp_generation){greedy, 5, 0, 0});
    assert_int_equal(run.status, MTP_OK);
    assert_int_equal(run.strict.mismatches + run.strict.mtp_mismatches, 0);
    mtp_checkpoint_free(checkpoint);
    mtp_session_close(session);
    mtp_model_close(model);
}

static bool take_one(void *user, int32_t id, uint32_t position)
{
    (void)position;
    *(int32_t *)user = id;
    return true;
}

/* Whatever is drafted, how many and where from, step by step. */
static void random_schedule(const char *file, const struct mtp_sampling *sampling, uint32_t seed, bool *used)
{
    mtp_model *model = fixture_model(file);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .strict = MTP_STRICT_FULL};
    mtp_session *session = fixture_session(model, &options, 1);
    int32_t prompt[64], last;
    size_t n = prompt_of(model, prompt);
    memcpy(prompt + n, prompt, n * sizeof *prompt); /* a text that repeats itself */
    struct mtp_error error;
    assert_int_equal(mtp_session_append(session, prompt, 2 * n, &error), MTP_OK);
    for (int i = 0; i < (int)RUN_LENGTH(30); i++) {
        seed = seed * 1664525u + 1013904223u;
        const struct mtp_generation generation = {*sampling, (int32_t)(seed >> 16) % (MTP_MAX_DRAFT + 2) - 1,
                                                  (seed >> 8) % 2 * 64, (seed >> 12) % 4};
        if (mtp_session_step(session, &generation, take_one, &last, &error) != MTP_OK)
            fail_msg("%s, step %d: %s", file, i, error.message);
    }
    struct mtp_strict_report strict;
    struct mtp_draft_stats stats;
    mtp_session_get_strict_report(session, &strict);
    mtp_session_get_draft_stats(session, &stats);
    assert_int_equal(strict.mismatches + strict.mtp_mismatches, 0);
    assert_int_equal(strict.steps_checked, stats.steps);
    for (int i = 0; i < MTP_DRAFT_SOURCES; i++)
        used[i] = used[i] || (stats.by_source[i].accepted > 0 &&
                              stats.by_source[i].accepted < stats.by_source[i].drafted);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void random_schedules_of_depth_and_source_are_proven(void **state)
{
    (void)state;
    bool used[MTP_DRAFT_SOURCES] = {false, false};
    for (uint32_t seed = 1; seed <= 4; seed++) {
        random_schedule(REFERENCE_MODEL, &greedy, seed, used);
        random_schedule(REFERENCE_MODEL, &warm, seed, used);
        random_schedule("tests/golden/models/dense-q4_k_m.gguf", &greedy, seed, used);
        random_schedule("tests/golden/models/dense-mixed.gguf", &greedy, seed, used); /* no draft head */
    }
    assert_true(used[MTP_DRAFT_HEAD] && used[MTP_DRAFT_NGRAM]);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_depth_is_proven_on_the_bundled_model),
        cmocka_unit_test(every_golden_model_is_proven),
        cmocka_unit_test(sampling_is_proven_too),
        cmocka_unit_test(a_spot_check_checks_one_step_in_sixteen),
        cmocka_unit_test(a_long_prompt_is_checked_row_by_row),
        cmocka_unit_test(one_flipped_bit_is_caught_and_named),
        cmocka_unit_test(a_flip_of_no_known_operation_is_refused),
        cmocka_unit_test(a_checkpoint_takes_the_shadow_along),
        cmocka_unit_test(random_schedules_of_depth_and_source_are_proven),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
