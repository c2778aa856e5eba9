/* test_profile.c - options.profile: calls and bytes as counted by hand, phases, and nothing of it in a
 * session without the option. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "generation_fixture.h"
#include "kernels/cpu/backend.h"
#include "mtp/mtp_head.h"
#include "profile.h"
#include "toy_model.h"

/* The toy of toy_model.c: 32 wide, F32; block 0 DeltaNet (one k head and two v heads of 16, 4 taps),
 * block 1 attention (two heads of 16, one KV head); feed-forward 32 wide, dense or 2 of 4 experts. */
enum {
    F32 = 4,
    QKV = 32 * 64, GATE = 32 * 32, ALPHA_BETA = 2 * 32 * 2, DELTA_OUT = 32 * 32,
    Q = 32 * 64, K_V = 2 * 32 * 16, ATTENTION_OUT = 32 * 32,
    FFN = 3 * 32 * 32, EXPERT = 32 * 32, SHARED = 3 * 32 * 32, ROUTERS = 32 * 4 + 32,
    HEAD = 32 * 256, EH_PROJ = 64 * 32,
    DELTA_NET = QKV + GATE + ALPHA_BETA + DELTA_OUT, DELTA_NET_CALLS = 5,
    ATTENTION = Q + K_V + ATTENTION_OUT, ATTENTION_CALLS = 4,
};

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "test_profile.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/toy.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

static mtp_model *toy_open(const struct toy *toy)
{
    mtp_model *model = NULL;
    struct mtp_error error = {0};
    toy_save(toy, path);
    if (mtp_model_open(&model, path, NULL, &error) != MTP_OK)
        fail_msg("%s", error.message);
    return model;
}

static struct mtp_profile_entry entry(const mtp_session *session, enum mtp_profile_phase phase,
                                      const char *operation)
{
    struct mtp_profile profile;
    mtp_session_get_profile(session, phase, &profile);
    for (size_t i = 0; i < profile.n_entries; i++)
        if (strcmp(profile.entries[i].operation, operation) == 0)
            return profile.entries[i];
    fail_msg("no entry %s", operation);
    return (struct mtp_profile_entry){0};
}

static void expect(const mtp_session *session, enum mtp_profile_phase phase, const char *operation,
                   uint64_t calls, uint64_t bytes)
{
    struct mtp_profile_entry got = entry(session, phase, operation);
    if (got.calls != calls || got.bytes != bytes)
        fail_msg("%s in phase %d: %llu calls, %llu bytes; %llu and %llu are expected", operation,
                 (int)phase, (unsigned long long)got.calls, (unsigned long long)got.bytes,
                 (unsigned long long)calls, (unsigned long long)bytes);
}

static void append(mtp_session *session, size_t n)
{
    static const int32_t ids[] = {72, 101, 108, 108, 111, 32, 119, 111};
    struct mtp_error error = {0};
    if (mtp_session_append(session, ids, n, &error) != MTP_OK)
        fail_msg("%s", error.message);
}

/* One step of `drafts` drafts. */
static bool go_on(void *user, int32_t id, uint32_t position)
{
    (void)user, (void)id, (void)position;
    return true;
}

static void step(mtp_session *session, int32_t drafts)
{
    const struct mtp_generation generation = {.n_draft = drafts, .draft_head_rows = TOY_VOCAB};
    struct mtp_error error = {0};
    if (mtp_session_step(session, &generation, go_on, NULL, &error) != MTP_OK)
        fail_msg("%s", error.message);
}

/* ---- counts ------------------------------------------------------------------------------- */

static void a_prompt_reads_every_matrix_once_a_chunk(void **state)
{
    (void)state;
    mtp_model *model = toy_open(&(struct toy){.mtp = true});
    const struct mtp_session_options options = {.n_threads = 1, .n_batch = 5, .profile = true};
    mtp_session *session = fixture_session(model, &options, 1);
    append(session, 5);
    const uint64_t calls = DELTA_NET_CALLS + ATTENTION_CALLS + 2 * 3 + 1;
    const uint64_t bytes = F32 * (DELTA_NET + ATTENTION + 2 * FFN + HEAD);
    expect(session, MTP_PROFILE_PROMPT, "matmul", calls, bytes);
    expect(session, MTP_PROFILE_PROMPT, "embed", 1, 5 * 2 * 32 * F32);
    expect(session, MTP_PROFILE_PROMPT, "expert_matmul", 0, 0);
    expect(session, MTP_PROFILE_PROMPT, "quantize", 0, 0);
    /* 1 + 2 + ... + 5 positions of 16 halves of key and of value. */
    expect(session, MTP_PROFILE_PROMPT, "attention", 1, 15 * 2 * 16 * 2);
    expect(session, MTP_PROFILE_PROMPT, "delta_net", 1, 2 * 2 * 16 * 16 * F32);
    expect(session, MTP_PROFILE_PROMPT, "conv", 1, (64 * 4 + 2 * 64 * 3) * F32);
    expect(session, MTP_PROFILE_STEPS, "matmul", 0, 0);
    expect(session, MTP_PROFILE_DRAFT, "matmul", 0, 0);
    append(session, 6); /* a chunk of 5 and one of 1; logits of the last alone */
    expect(session, MTP_PROFILE_PROMPT, "matmul", calls + 2 * calls - 1,
           bytes + 2 * bytes - F32 * HEAD);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void steps_and_drafts_are_counted_apart(void **state)
{
    (void)state;
    mtp_model *model = toy_open(&(struct toy){.mtp = true});
    const struct mtp_session_options options = {.n_threads = 1, .draft = true, .profile = true};
    mtp_session *session = fixture_session(model, &options, 1);
    append(session, 5);
    struct mtp_profile_entry prompt = entry(session, MTP_PROFILE_PROMPT, "matmul");
    step(session, 2);
    /* Two passes of the MTP block: its catch-up and first draft are one. */
    expect(session, MTP_PROFILE_DRAFT, "matmul", 2 * (1 + ATTENTION_CALLS + 3 + 1),
           2 * F32 * (EH_PROJ + ATTENTION + FFN + HEAD));
    expect(session, MTP_PROFILE_DRAFT, "delta_net", 0, 0);
    const uint64_t calls = DELTA_NET_CALLS + ATTENTION_CALLS + 2 * 3 + 1;
    const uint64_t bytes = F32 * (DELTA_NET + ATTENTION + 2 * FFN + HEAD);
    expect(session, MTP_PROFILE_STEPS, "matmul", calls, bytes);
    expect(session, MTP_PROFILE_STEPS, "attention", 1, (6 + 7 + 8) * 2 * 16 * 2);
    expect(session, MTP_PROFILE_PROMPT, "matmul", prompt.calls, prompt.bytes);
    step(session, 0);
    expect(session, MTP_PROFILE_STEPS, "matmul", 2 * calls, 2 * bytes);
    mtp_session_close(session);
    mtp_model_close(model);
}

/* What the MTP block reads of a prompt longer than its queue is drafting's, too. */
static void catching_up_in_a_prompt_is_the_draft_heads(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct mtp_session_options options = {.n_threads = 1, .draft = true, .profile = true,
                                                .n_ctx = MTP_QUEUE_ROWS + 64};
    mtp_session *session = fixture_session(model, &options, 1);
    int32_t ids[MTP_QUEUE_ROWS + 3];
    struct mtp_error error = {0};
    fixture_random_ids(ids, MTP_QUEUE_ROWS + 3, 8192, 1);
    assert_int_equal(mtp_session_append(session, ids, MTP_QUEUE_ROWS + 3, &error), MTP_OK);
    const struct mtp_block *block = &model->weights.mtp;
    const struct attention_weights *w = &block->layer.attention;
    expect(session, MTP_PROFILE_DRAFT, "matmul", 3,
           weight_bytes(&block->eh_proj) + weight_bytes(&w->k) + weight_bytes(&w->v));
    expect(session, MTP_PROFILE_DRAFT, "attention", 0, 0);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void experts_count_as_often_as_they_are_read(void **state)
{
    (void)state;
    mtp_model *model = toy_open(&(struct toy){.moe = true});
    for (int mode = MTP_MOE_GROUPED; mode <= MTP_MOE_PER_TOKEN; mode++) {
        const struct mtp_session_options options = {.n_threads = 1, .profile = true,
                                                    .moe_mode = (enum mtp_moe_mode)mode};
        mtp_session *session = fixture_session(model, &options, 1);
        append(session, 1); /* two experts a layer, three matrices each, two layers */
        expect(session, MTP_PROFILE_PROMPT, "expert_matmul", 6, 12 * EXPERT * F32);
        expect(session, MTP_PROFILE_PROMPT, "matmul", DELTA_NET_CALLS + ATTENTION_CALLS + 2 * 5 + 1,
               F32 * (DELTA_NET + ATTENTION + 2 * (SHARED + ROUTERS) + HEAD));
        append(session, 8);
        struct mtp_counters counters;
        mtp_session_get_counters(session, &counters);
        expect(session, MTP_PROFILE_PROMPT, "expert_matmul", 12,
               counters.expert_reads * EXPERT * F32);
        if (mode == MTP_MOE_PER_TOKEN)
            assert_int_equal(counters.expert_reads, 9 * 12);
        else /* 16 choices among 4 experts: some are shared */
            assert_true(counters.expert_reads < 9 * 12);
        mtp_session_close(session);
    }
    mtp_model_close(model);
}

/* Gate and up of this model lie in one tensor: from expert to expert is further than an expert. */
static void fused_experts_count_their_own_rows(void **state)
{
    (void)state;
    mtp_model *model = fixture_model("tests/golden/models/moe-fused.gguf");
    const struct mtp_session_options options = {.n_threads = 1, .profile = true, .n_ctx = 64};
    mtp_session *session = fixture_session(model, &options, 1);
    const struct hparams *h = &model->hparams;
    append(session, 1);
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        const struct moe_weights *moe = &model->weights.layers[i].moe;
        const struct weight *w[] = {&moe->gate, &moe->up, &moe->down};
        for (int k = 0; k < 3; k++)
            bytes += (uint64_t)h->n_experts_used * w[k]->n_out * w[k]->row_bytes;
        assert_true(moe->gate.expert_bytes > moe->gate.n_out * moe->gate.row_bytes);
    }
    expect(session, MTP_PROFILE_PROMPT, "expert_matmul", 3 * h->n_layers, bytes);
    mtp_session_close(session);
    mtp_model_close(model);
}

/* ---- the whole ------------------------------------------------------------------------------ */

static void every_operation_used_is_listed_with_its_time(void **state)
{
    (void)state;
    static const char *const used[] = {
        "embed", "quantize", "matmul", "expert_matmul", "rms_norm", "add", "rope", "kv_store",
        "attention", "conv", "delta_net", "conv_replay", "delta_net_replay", "mul_silu", "route",
        "moe_combine", "argmax", "digest",
    };
    static const char of_prompts[] = "gather"; /* steps want the logits of every row */
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct mtp_session_options options = {.n_threads = 2, .draft = true, .profile = true,
                                                .n_ctx = 256};
    const struct mtp_generation generation = {.n_draft = 8, .draft_head_rows = 16};
    mtp_session *session = fixture_session(model, &options, 1);
    append(session, 8);
    struct run run = {.most = 24, .stop_at = -1};
    generation_go_on(&run, session, &generation);
    for (size_t i = 0; i < sizeof used / sizeof used[0]; i++) {
        struct mtp_profile_entry got = entry(session, MTP_PROFILE_STEPS, used[i]);
        if (got.calls == 0 || got.bytes == 0 || got.seconds < 0.0)
            fail_msg("%s was not noted", used[i]);
    }
    assert_int_equal(entry(session, MTP_PROFILE_PROMPT, of_prompts).calls, 1);
    for (int phase = 0; phase < MTP_PROFILE_PHASES; phase++) {
        struct mtp_profile profile;
        double sum = 0.0;
        mtp_session_get_profile(session, (enum mtp_profile_phase)phase, &profile);
        assert_int_equal(profile.n_entries, 1 + sizeof used / sizeof used[0]);
        for (size_t i = 0; i < profile.n_entries; i++)
            sum += profile.entries[i].seconds;
        assert_true(sum > 0.0 && sum <= profile.seconds);
    }
    mtp_session_close(session);
    mtp_model_close(model);
}

static void results_are_the_same_with_and_without(void **state)
{
    (void)state;
    static const int32_t prompt[] = {17, 4242, 300, 7, 901};
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    for (int strict = MTP_STRICT_OFF; strict <= MTP_STRICT_FULL; strict++) {
        struct mtp_session_options options = {.n_threads = 2, .draft = true, .n_ctx = 128,
                                              .strict = (enum mtp_strict_mode)strict};
        const struct mtp_generation generation = {.n_draft = 3};
        struct run plain = {.most = 30, .stop_at = -1}, measured = plain;
        generation_run(&plain, model, &options, &generation, prompt, 5);
        options.profile = true;
        generation_run(&measured, model, &options, &generation, prompt, 5);
        assert_int_equal(measured.status, MTP_OK);
        assert_int_equal(plain.n, measured.n);
        assert_memory_equal(plain.tokens, measured.tokens, plain.n * sizeof *plain.tokens);
        assert_true(plain.digest == measured.digest && plain.last_digest == measured.last_digest);
        assert_true(plain.stats.accepted == measured.stats.accepted);
        assert_true(plain.strict.rows_checked == measured.strict.rows_checked);
    }
    mtp_model_close(model);
}

static void a_strict_session_counts_its_own_work_only(void **state)
{
    (void)state;
    mtp_model *model = toy_open(&(struct toy){.mtp = true});
    const struct mtp_session_options options = {.n_threads = 1, .draft = true, .profile = true,
                                                .strict = MTP_STRICT_FULL};
    mtp_session *session = fixture_session(model, &options, 1);
    append(session, 5);
    expect(session, MTP_PROFILE_PROMPT, "matmul", DELTA_NET_CALLS + ATTENTION_CALLS + 2 * 3 + 1,
           F32 * (DELTA_NET + ATTENTION + 2 * FFN + HEAD));
    mtp_session_close(session);
    mtp_model_close(model);
}

static void without_the_option_nothing_is_wrapped(void **state)
{
    (void)state;
    mtp_model *model = toy_open(&(struct toy){0});
    struct mtp_session_options options = {.n_threads = 1};
    struct backend *bare = cpu_backend_open(cpu_kernels_best(), 1);
    assert_non_null(bare);
    mtp_session *session = fixture_session(model, &options, 1);
    assert_memory_equal(session->backend->ops, bare->ops, sizeof *bare->ops);
    assert_null(session->profile);
    struct mtp_profile profile;
    append(session, 3);
    mtp_session_get_profile(session, MTP_PROFILE_PROMPT, &profile);
    assert_int_equal(profile.n_entries, 0);
    assert_true(profile.seconds == 0.0);
    mtp_session_close(session);
    options.profile = true;
    session = fixture_session(model, &options, 1);
    assert_true(session->backend->ops->matmul != bare->ops->matmul);
    assert_string_equal(mtp_session_isa_name(session), bare->ops->name);
    mtp_session_close(session);
    bare->ops->close(bare);
    mtp_model_close(model);
}

#define toy_test(name) cmocka_unit_test_setup_teardown(name, make_folder, remove_folder)

int main(void)
{
    const struct CMUnitTest tests[] = {
        toy_test(a_prompt_reads_every_matrix_once_a_chunk),
        toy_test(steps_and_drafts_are_counted_apart),
        cmocka_unit_test(catching_up_in_a_prompt_is_the_draft_heads),
        toy_test(experts_count_as_often_as_they_are_read),
        cmocka_unit_test(fused_experts_count_their_own_rows),
        cmocka_unit_test(every_operation_used_is_listed_with_its_time),
        cmocka_unit_test(results_are_the_same_with_and_without),
        toy_test(a_strict_session_counts_its_own_work_only),
        toy_test(without_the_option_nothing_is_wrapped),
    };
    return cmocka_run_group_tests_name("profile", tests, NULL, NULL);
}
