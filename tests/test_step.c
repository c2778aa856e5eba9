/* test_step.c - drafting changes speed and nothing else: tokens, logits and state equal those of a plain
 * loop, for every depth, wherever a run ends. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "generation_fixture.h"
#include "mtp/ngram.h"
#include "verify/digest.h"

static const char *const drafting_models[] = {
    REFERENCE_MODEL, "tests/golden/models/dense-f16.gguf", "tests/golden/models/dense-q4_k_m.gguf",
    "tests/golden/models/moe-q8_0.gguf", "tests/golden/models/moe-f32.gguf",
    "tests/golden/models/dense-every-type.gguf"};

static const struct mtp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
static const struct mtp_sampling warm = {.temperature = 0.9f, .top_k = 30, .top_p = 0.95f,
                                         .min_p = 0.02f, .seed = 11};

/* What a plain loop of sample and append gives. */
static void plain_loop(struct run *run, mtp_model *model, const struct mtp_sampling *sampling,
                       const int32_t *prompt, size_t n_prompt, uint32_t n_ctx)
{
    const struct mtp_session_options options = {.n_ctx = n_ctx};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_error error;
    assert_int_equal(mtp_session_append(session, prompt, n_prompt, &error), MTP_OK);
    run->digest = 0;
    for (run->n = 0; run->n < run->most;) {
        int32_t id;
        assert_int_equal(mtp_session_sample(session, sampling, &id, &error), MTP_OK);
        run->digest = digest_chain(run->digest, mtp_session_logits_digest(session));
        run->tokens[run->n++] = id;
        if (run->n == run->most || id == run->stop_at)
            break;
        assert_int_equal(mtp_session_append(session, &id, 1, &error), MTP_OK);
    }
    run->last_digest = mtp_session_logits_digest(session);
    run->length = mtp_session_length(session);
    mtp_session_close(session);
}

static void same_run(const struct run *a, const struct run *b)
{
    assert_int_equal(a->n, b->n);
    assert_memory_equal(a->tokens, b->tokens, a->n * sizeof *a->tokens);
    assert_true(a->digest == b->digest);
    assert_true(a->last_digest == b->last_digest);
    assert_int_equal(a->length, b->length);
}

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

static void every_depth(const char *file, const struct mtp_sampling *sampling, uint32_t most)
{
    mtp_model *model = fixture_model(file);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    struct run plain = {.most = most, .stop_at = -1}, drafted = plain;
    plain_loop(&plain, model, sampling, prompt, n, 256);
    uint64_t accepted = 0;
    for (int32_t depth = MTP_DRAFT_AUTO; depth <= MTP_MAX_DRAFT; depth++) {
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true};
        const struct mtp_generation generation = {*sampling, depth, 0, 0};
        generation_run(&drafted, model, &options, &generation, prompt, n);
        assert_int_equal(drafted.status, MTP_OK);
        same_run(&plain, &drafted);
        accepted += drafted.stats.accepted;
        if (depth > 0)
            assert_true(drafted.stats.drafted > 0);
        else if (depth == 0)
            assert_int_equal(drafted.stats.drafted, 0);
    }
    print_message("%s: %llu drafts accepted\n", file, (unsigned long long)accepted);
    /* Heads of random weights agree with their trunk by chance only. */
    assert_true(accepted > 0 || model->hparams.n_vocab == 512);
    mtp_model_close(model);
}

static void greedy_text_and_logits_are_those_of_a_plain_loop_at_every_depth(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof drafting_models / sizeof drafting_models[0]; i++)
        every_depth(drafting_models[i], &greedy, RUN_LENGTH(64));
}

static void sampled_text_and_logits_are_those_of_a_plain_loop_at_every_depth(void **state)
{
    (void)state;
    every_depth(REFERENCE_MODEL, &warm, RUN_LENGTH(64));
}

static void an_end_inside_an_accepted_run_leaves_text_and_state_of_a_plain_loop(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true};
    const struct mtp_generation generation = {greedy, 4, 0, 0};
    uint64_t inside = 0;
    for (uint32_t most = 1; most <= RUN_LENGTH(24); most++) {
        struct run plain = {.most = most, .stop_at = -1}, drafted = plain;
        plain_loop(&plain, model, &greedy, prompt, n, 256);
        generation_run(&drafted, model, &options, &generation, prompt, n);
        same_run(&plain, &drafted);
        /* The same end by its token. */
        struct run stop = {.most = RUN_MOST, .stop_at = plain.tokens[most - 1]}, by_token = stop;
        plain_loop(&stop, model, &greedy, prompt, n, 256);
        generation_run(&by_token, model, &options, &generation, prompt, n);
        same_run(&stop, &by_token);
        inside += drafted.stats.accepted;
    }
    assert_true(inside > RUN_LENGTH(24));
    mtp_model_close(model);
}

static void a_session_goes_on_after_an_end_as_if_it_had_been_plain(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32], more[5] = {100, 200, 300, 400, 500};
    size_t n = prompt_of(model, prompt);
    uint64_t digests[2];
    for (int32_t side = 0; side < 2; side++) {
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true};
        const struct mtp_generation generation = {greedy, side == 0 ? 0 : 5, 0, 0};
        mtp_session *session = fixture_session(model, &options, 1);
        struct mtp_error error;
        struct run run = {.most = 17, .stop_at = -1};
        assert_int_equal(mtp_session_append(session, prompt, n, &error), MTP_OK);
        generation_go_on(&run, session, &generation);
        assert_int_equal(mtp_session_append(session, more, 5, &error), MTP_OK);
        run.n = 0;
        generation_go_on(&run, session, &generation);
        digests[side] = digest_chain(run.digest, run.last_digest);
        mtp_session_close(session);
    }
    assert_true(digests[0] == digests[1]);
    mtp_model_close(model);
}

static void the_context_fills_to_its_last_position_and_not_beyond(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    for (int32_t depth = 0; depth <= 8; depth += 4) {
        const struct mtp_session_options options = {.n_ctx = 40, .draft = true};
        const struct mtp_generation generation = {greedy, depth, 0, 0};
        struct run run = {.most = RUN_MOST, .stop_at = -1};
        generation_run(&run, model, &options, &generation, prompt, n);
        assert_int_equal(run.status, MTP_ERR_CONTEXT);
        assert_int_equal(run.length, 40);
        assert_int_equal(run.n, 40 - n + 1);
    }
    mtp_model_close(model);
}

static void batches_threads_modes_and_instruction_sets_never_show(void **state)
{
    (void)state;
    static const struct mtp_session_options variants[] = {
        {.n_batch = 1}, {.n_batch = 2}, {.n_batch = 5}, {.n_batch = 64}, {.n_threads = 1},
        {.n_threads = 5}, {.n_threads = 16}, {.moe_mode = MTP_MOE_PER_TOKEN},
        {.isa = MTP_ISA_SCALAR}};
    mtp_model *model = fixture_model("tests/golden/models/moe-q8_0.gguf");
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    struct run plain = {.most = 48, .stop_at = -1}, run = plain;
    plain_loop(&plain, model, &greedy, prompt, n, 128);
    for (size_t i = 0; i < sizeof variants / sizeof variants[0]; i++) {
        struct mtp_session_options options = variants[i];
        options.n_ctx = 128;
        options.draft = true;
        const struct mtp_generation generation = {greedy, 3, 0, 0};
        generation_run(&run, model, &options, &generation, prompt, n);
        same_run(&plain, &run);
    }
    mtp_model_close(model);
}

/* Held-out prose as the prompt, read in one piece or continued, up to the last of 5,000 positions. */
static void a_context_of_five_thousand_positions_ends_in_the_same_bytes(void **state)
{
    (void)state;
    enum { TAIL = 60 };
    const uint32_t n_ctx = RUN_LENGTH(5000) + 40, n_prompt = n_ctx - TAIL;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    json_t *golden = fixture_json("tests/golden/reference-perplexity.json");
    size_t n = 0;
    int32_t *ids = fixture_ids(
        json_object_get(json_array_get(json_object_get(golden, "texts"), 0), "tokens"), &n);
    assert_true(n > n_prompt);
    struct run runs[3];
    for (int i = 0; i < 3; i++) {
        const struct mtp_session_options options = {.n_ctx = n_ctx, .draft = i > 0,
                                                    .n_batch = i == 1 ? 512 : 300};
        const struct mtp_generation generation = {greedy, i > 0 ? 3 : 0, 0, 0};
        mtp_session *session = fixture_session(model, &options, 1);
        struct mtp_error error;
        runs[i] = (struct run){.most = TAIL + 1, .stop_at = -1};
        size_t first = i == 2 ? 777 : n_prompt;
        assert_int_equal(mtp_session_append(session, ids, first, &error), MTP_OK);
        assert_int_equal(mtp_session_append(session, ids + first, n_prompt - first, &error), MTP_OK);
        generation_go_on(&runs[i], session, &generation);
        assert_int_equal(runs[i].status, MTP_OK);
        assert_int_equal(runs[i].length, n_ctx);
        mtp_session_close(session);
    }
    same_run(&runs[0], &runs[1]);
    same_run(&runs[0], &runs[2]);
    assert_true(runs[1].stats.accepted > 0);
    free(ids);
    json_decref(golden);
    mtp_model_close(model);
}

static void a_reduced_head_drafts_only_its_ids_and_changes_no_text(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true};
    struct run plain = {.most = 64, .stop_at = -1}, full = plain, part = plain;
    plain_loop(&plain, model, &greedy, prompt, n, 256);
    generation_run(&full, model, &options, &(struct mtp_generation){greedy, 3, 0, 0}, prompt, n);
    generation_run(&part, model, &options, &(struct mtp_generation){greedy, 3, 300, 0}, prompt, n);
    same_run(&plain, &full);
    same_run(&plain, &part);
    assert_true(part.stats.accepted > 0);
    assert_true(part.stats.accepted < full.stats.accepted);
    mtp_model_close(model);
}

static void drafts_without_a_block_are_plain_steps(void **state)
{
    (void)state;
    mtp_model *model = fixture_model("tests/golden/models/moe-q8_0-trunk.gguf");
    struct mtp_error why;
    assert_false(mtp_model_can_draft(model, &why));
    assert_non_null(strstr(why.message, "nextn.eh_proj.weight"));
    assert_non_null(strstr(why.message, "--mtp-model"));
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    struct run plain = {.most = 16, .stop_at = -1}, run = plain;
    plain_loop(&plain, model, &greedy, prompt, n, 64);
    const struct mtp_session_options options = {.n_ctx = 64, .draft = true};
    generation_run(&run, model, &options, &(struct mtp_generation){greedy, 3, 0, 0}, prompt, n);
    same_run(&plain, &run);
    assert_int_equal(run.stats.drafted, 0);
    mtp_model_close(model);
}

static void a_companion_drafts_as_the_whole_file_does(void **state)
{
    (void)state;
    struct run runs[2];
    for (int i = 0; i < 2; i++) {
        mtp_model *model =
            i == 0 ? fixture_model("tests/golden/models/moe-q8_0.gguf")
                   : fixture_model_with("tests/golden/models/moe-q8_0-trunk.gguf",
                                        "tests/golden/models/moe-q8_0-mtp.gguf");
        int32_t prompt[32];
        size_t n = prompt_of(model, prompt);
        const struct mtp_session_options options = {.n_ctx = 128, .draft = true};
        runs[i] = (struct run){.most = 48, .stop_at = -1};
        generation_run(&runs[i], model, &options, &(struct mtp_generation){greedy, 3, 0, 0}, prompt, n);
        mtp_model_close(model);
    }
    same_run(&runs[0], &runs[1]);
    assert_int_equal(runs[0].stats.accepted, runs[1].stats.accepted);
    assert_int_equal(runs[0].stats.drafted, runs[1].stats.drafted);
}

static const unsigned ngrams = 1u << MTP_DRAFT_NGRAM;

/* The bundled model goes round in circles when it is not told to end. */
static void a_text_that_repeats_itself_is_drafted_from_itself(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    struct run plain = {.most = 300, .stop_at = -1}, run = plain; /* it takes some 100 to come round */
    plain_loop(&plain, model, &greedy, prompt, n, 512);
    for (int32_t depth = MTP_DRAFT_AUTO; depth <= 5; depth += 3) {
        const struct mtp_session_options options = {.n_ctx = 512, .draft = true};
        const struct mtp_generation generation = {greedy, depth, 0, ngrams};
        generation_run(&run, model, &options, &generation, prompt, n);
        same_run(&plain, &run);
        print_message("depth %d: %u of %u n-gram drafts accepted\n", depth, (unsigned)run.stats.accepted,
                      (unsigned)run.stats.drafted);
        assert_int_equal(run.stats.by_source[MTP_DRAFT_HEAD].drafted, 0);
        if (depth > 0)
            assert_true(run.stats.accepted * 2 > run.stats.drafted && run.stats.drafted > 90);
    }
    mtp_model_close(model);
}

/* Adds a step to sums that must become the session's. */
static void add_outcome(struct mtp_draft_stats *sum, const struct mtp_step_outcome *o)
{
    const struct mtp_step_record *step = &o->step;
    struct mtp_source_stats *source = &sum->by_source[o->source];
    assert_true(step->n_accepted <= o->n_compared && o->n_compared <= step->n_drafts);
    assert_true(step->n_tokens == step->n_accepted + 1);
    assert_memory_equal(step->drafts, step->tokens + 1, step->n_accepted * sizeof *step->drafts);
    sum->tokens += step->n_tokens;
    sum->steps += o->counted;
    sum->drafted += step->n_drafts;
    sum->accepted += step->n_accepted;
    sum->histogram[step->n_accepted] += o->counted;
    sum->width_steps[step->n_drafts] += o->counted;
    source->steps += step->n_drafts > 0;
    for (uint32_t i = 0; i < o->n_compared; i++)
        source->compared_at[i]++;
}

static void same_sums(const struct mtp_draft_stats *sum, const struct mtp_draft_stats *stats)
{
    assert_int_equal(sum->steps, stats->steps);
    assert_int_equal(sum->tokens, stats->tokens);
    assert_int_equal(sum->drafted, stats->drafted);
    assert_int_equal(sum->accepted, stats->accepted);
    assert_memory_equal(sum->histogram, stats->histogram, sizeof sum->histogram);
    assert_memory_equal(sum->width_steps, stats->width_steps, sizeof sum->width_steps);
    for (int i = 0; i < MTP_DRAFT_SOURCES; i++) {
        assert_int_equal(sum->by_source[i].steps, stats->by_source[i].steps);
        assert_memory_equal(sum->by_source[i].compared_at, stats->by_source[i].compared_at,
                            sizeof sum->by_source[i].compared_at);
    }
}

static bool go_on_until(void *user, int32_t id, uint32_t position)
{
    (void)id, (void)position;
    return --*(uint32_t *)user > 0;
}

/* Both sources, ends at every place of a step, rejected drafts. */
static void the_outcomes_of_steps_add_up_to_the_statistics(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    const struct mtp_session_options options = {.n_ctx = 512, .draft = true};
    struct mtp_step_outcome outcome, before;
    for (uint32_t most = 150; most < 158; most++) {
        const struct mtp_generation generation = {greedy, 4, 0, ngrams | 1u << MTP_DRAFT_HEAD};
        mtp_session *session = fixture_session(model, &options, 1);
        struct mtp_draft_stats sum = {0}, stats;
        uint32_t left = most, n_rejected = 0;
        assert_int_equal(mtp_session_append(session, prompt, n, NULL), MTP_OK);
        mtp_session_get_last_step(session, &outcome);
        assert_true(!outcome.counted && outcome.step.n_tokens == 0);
        while (left > 0) {
            before = outcome;
            assert_int_equal(mtp_session_step(session, &generation, go_on_until, &left, NULL), MTP_OK);
            mtp_session_get_last_step(session, &outcome);
            add_outcome(&sum, &outcome);
            if (before.n_compared > before.step.n_accepted) { /* what was drawn in its place */
                assert_int_not_equal(before.step.drafts[before.step.n_accepted], outcome.step.tokens[0]);
                n_rejected++;
            }
        }
        mtp_session_get_draft_stats(session, &stats);
        same_sums(&sum, &stats);
        assert_true(n_rejected > 3 && stats.by_source[MTP_DRAFT_NGRAM].steps > 0);
        mtp_session_close(session);
    }
    mtp_model_close(model);
}

static void bytes_of_tokens_are_those_of_the_text(void **state)
{
    (void)state;
    static const char text[] = "caf\xc3\xa9 <|im_end|>";
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t *ids = NULL;
    size_t n = 0, length, n_joined = 0;
    char joined[64];
    bool control = false;
    assert_int_equal(mtp_tokenize(model, text, strlen(text), MTP_TEXT_SPECIAL, &ids, &n, NULL), MTP_OK);
    for (size_t i = 0; i < n; i++) {
        assert_false(control);
        const char *bytes = mtp_token_bytes(model, ids[i], &length, &control);
        assert_true(n_joined + length <= sizeof joined);
        memcpy(joined + n_joined, bytes, length);
        n_joined += length;
    }
    assert_true(control); /* the last one, which gives its own text */
    assert_int_equal(n_joined, strlen(text));
    assert_memory_equal(joined, text, n_joined);
    length = 1;
    assert_null(mtp_token_bytes(model, -1, &length, &control));
    assert_int_equal(length, 0);
    assert_false(control);
    assert_null(mtp_token_bytes(model, (int32_t)model->hparams.n_vocab, &length, NULL));
    free(ids);
    mtp_model_close(model);
}

static void a_model_without_a_head_drafts_from_the_text(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    model->weights.mtp.present = false; /* as if the file had none */
    int32_t prompt[64];
    size_t n = prompt_of(model, prompt);
    memcpy(prompt + n, prompt, n * sizeof *prompt);
    uint64_t accepted = 0;
    for (int i = 0; i < 2; i++) {
        const struct mtp_sampling *sampling = i == 0 ? &greedy : &warm;
        struct run plain = {.most = RUN_LENGTH(64), .stop_at = -1}, run = plain;
        plain_loop(&plain, model, sampling, prompt, 2 * n, 256);
        for (int32_t depth = MTP_DRAFT_AUTO; depth <= MTP_MAX_DRAFT; depth++) {
            const struct mtp_session_options options = {.n_ctx = 256, .draft = true};
            const struct mtp_generation generation = {*sampling, depth, 0, 0};
            generation_run(&run, model, &options, &generation, prompt, 2 * n);
            assert_int_equal(run.status, MTP_OK);
            same_run(&plain, &run);
            accepted += run.stats.accepted;
        }
    }
    assert_true(accepted > RUN_LENGTH(64));
    mtp_model_close(model);
}

static void passes_timed_at_the_start_leave_no_trace(void **state)
{
    (void)state;
    static const char *const files[] = {REFERENCE_MODEL, "tests/golden/models/dense-mixed.gguf",
                                        "tests/golden/models/moe-q8_0.gguf"};
    for (int i = 0; i < 3; i++) {
        mtp_model *model = fixture_model(files[i]);
        int32_t prompt[32];
        size_t n = prompt_of(model, prompt);
        struct run plain = {.most = RUN_LENGTH(48), .stop_at = -1}, run = plain;
        plain_loop(&plain, model, &greedy, prompt, n, 256);
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .measure_passes = true};
        mtp_session *session = fixture_session(model, &options, 1);
        struct mtp_counters counters;
        struct mtp_draft_costs costs;
        mtp_session_get_counters(session, &counters);
        assert_int_equal(counters.rows + counters.passes + counters.expert_reads + counters.expert_rows, 0);
        assert_int_equal(mtp_session_length(session), 0);
        assert_null(mtp_session_logits(session));
        mtp_session_get_draft_costs(session, &costs);
        assert_true(costs.pass_seconds[0] > 0.0 && costs.pass_seconds[1] > 0.0);
        assert_int_equal(mtp_session_append(session, prompt, n, &run.error), MTP_OK);
        generation_go_on(&run, session, &(struct mtp_generation){greedy, 3, 0, 0});
        same_run(&plain, &run);
        mtp_session_close(session);
        mtp_model_close(model);
    }
}

static void a_checkpoint_takes_the_text_back_too(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct mtp_session_options options = {.n_ctx = 256, .draft = true};
    mtp_session *session = fixture_session(model, &options, 1);
    mtp_checkpoint *checkpoint;
    int32_t prompt[32];
    size_t n = prompt_of(model, prompt);
    struct run run = {.most = 12, .stop_at = -1};
    assert_int_equal(mtp_session_append(session, prompt, n, &run.error), MTP_OK);
    assert_int_equal(mtp_checkpoint_take(&checkpoint, session, &run.error), MTP_OK);
    generation_go_on(&run, session, &(struct mtp_generation){greedy, 2, 0, ngrams});
    assert_int_equal(ngram_length(session->ngram), mtp_session_length(session));
    assert_int_equal(mtp_checkpoint_restore(session, checkpoint, &run.error), MTP_OK);
    assert_int_equal(ngram_length(session->ngram), n);
    mtp_checkpoint_free(checkpoint);
    mtp_session_close(session);
    mtp_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_text_and_logits_are_those_of_a_plain_loop_at_every_depth),
        cmocka_unit_test(sampled_text_and_logits_are_those_of_a_plain_loop_at_every_depth),
        cmocka_unit_test(an_end_inside_an_accepted_run_leaves_text_and_state_of_a_plain_loop),
        cmocka_unit_test(a_session_goes_on_after_an_end_as_if_it_had_been_plain),
        cmocka_unit_test(the_context_fills_to_its_last_position_and_not_beyond),
        cmocka_unit_test(batches_threads_modes_and_instruction_sets_never_show),
        cmocka_unit_test(a_context_of_five_thousand_positions_ends_in_the_same_bytes),
        cmocka_unit_test(a_reduced_head_drafts_only_its_ids_and_changes_no_text),
        cmocka_unit_test(drafts_without_a_block_are_plain_steps),
        cmocka_unit_test(a_companion_drafts_as_the_whole_file_does),
        cmocka_unit_test(a_text_that_repeats_itself_is_drafted_from_itself),
        cmocka_unit_test(the_outcomes_of_steps_add_up_to_the_statistics),
        cmocka_unit_test(bytes_of_tokens_are_those_of_the_text),
        cmocka_unit_test(a_model_without_a_head_drafts_from_the_text),
        cmocka_unit_test(passes_timed_at_the_start_leave_no_trace),
        cmocka_unit_test(a_checkpoint_takes_the_text_back_too),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
