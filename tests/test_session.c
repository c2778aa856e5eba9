/* test_session.c - a session's logits and state depend on the ids alone: not on chunking, batch mates,
 * threads, instruction set, MoE mode or checkpoints. Everything is compared byte for byte. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "kernels/cpu/backend.h"
#include "memory_available.h"
#include "model_fixture.h"

#define DENSE "tests/golden/models/dense-mixed.gguf"
#define MOE "tests/golden/models/moe-fused.gguf"

enum { N_IDS = 150, FEW_IDS = 10 };

static size_t logit_bytes(const mtp_model *model, size_t rows)
{
    return rows * model->hparams.n_vocab * sizeof(float);
}

/* Logits of every position, and the state after the last. */
struct outcome {
    float *logits;
    uint8_t *state, *kv;
    size_t state_bytes, kv_bytes;
};

static struct outcome take(mtp_session *session, float *logits)
{
    struct outcome o = {.logits = logits};
    o.state_bytes = session_state(session)->used;
    o.kv_bytes = session->kv_arena.used;
    o.state = malloc(o.state_bytes + 1);
    o.kv = malloc(o.kv_bytes + 1);
    assert_true(o.state != NULL && o.kv != NULL);
    memcpy(o.state, session_state(session)->base, o.state_bytes);
    memcpy(o.kv, session->kv_arena.base, o.kv_bytes);
    return o;
}

static struct outcome run(mtp_model *model, struct mtp_session_options options, const int32_t *ids,
                          size_t n, size_t chunk)
{
    if (options.n_ctx == 0)
        options.n_ctx = 256;
    mtp_session *session = fixture_session(model, &options, 1);
    float *logits = malloc(logit_bytes(model, n));
    assert_non_null(logits);
    fixture_run(session, 0, ids, n, chunk, logits);
    struct outcome o = take(session, logits);
    mtp_session_close(session);
    return o;
}

static void drop(struct outcome *o)
{
    free(o->logits);
    free(o->state);
    free(o->kv);
}

static void same(const mtp_model *model, const struct outcome *a, const struct outcome *b, size_t n)
{
    assert_memory_equal(a->logits, b->logits, logit_bytes(model, n));
    assert_int_equal(a->state_bytes, b->state_bytes);
    assert_memory_equal(a->state, b->state, a->state_bytes);
    assert_int_equal(a->kv_bytes, b->kv_bytes);
    assert_memory_equal(a->kv, b->kv, a->kv_bytes);
}

static void chunks_of_any_size_give_the_same_bytes_as_one_token_at_a_time(void **state)
{
    (void)state;
    static const char *const files[] = {DENSE, MOE};
    static const size_t chunks[] = {2, 3, 4, 7, 8, 16, 17, 33, 64, 65, 150};
    for (size_t f = 0; f < 2; f++) {
        mtp_model *model = fixture_model(files[f]);
        int32_t ids[N_IDS];
        fixture_random_ids(ids, N_IDS, model->hparams.n_vocab, 1);
        struct outcome single = run(model, (struct mtp_session_options){0}, ids, N_IDS, 1);
        for (size_t c = 0; c < sizeof chunks / sizeof chunks[0]; c++) {
            struct outcome o = run(model, (struct mtp_session_options){0}, ids, N_IDS, chunks[c]);
            same(model, &single, &o, N_IDS);
            drop(&o);
        }
        drop(&single);
        mtp_model_close(model);
    }
}

static void thread_count_never_shows(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(MOE);
    int32_t ids[N_IDS];
    fixture_random_ids(ids, N_IDS, model->hparams.n_vocab, 2);
    struct outcome one = run(model, (struct mtp_session_options){.n_threads = 1}, ids, N_IDS, 40);
    for (uint32_t threads = 2; threads <= 16; threads += threads < 4 ? 1 : 4) {
        struct outcome o =
            run(model, (struct mtp_session_options){.n_threads = threads}, ids, N_IDS, 40);
        same(model, &one, &o, N_IDS);
        drop(&o);
    }
    drop(&one);
    mtp_model_close(model);
}

static void the_instruction_set_never_shows(void **state)
{
    (void)state;
    static const char *const files[] = {DENSE, MOE, "tests/golden/models/dense-every-type.gguf"};
    for (size_t f = 0; f < sizeof files / sizeof files[0]; f++) {
        mtp_model *model = fixture_model(files[f]);
        int32_t ids[N_IDS];
        fixture_random_ids(ids, N_IDS, model->hparams.n_vocab, 3);
        struct outcome scalar =
            run(model, (struct mtp_session_options){.isa = MTP_ISA_SCALAR}, ids, N_IDS, 50);
        struct outcome best = run(model, (struct mtp_session_options){0}, ids, N_IDS, 50);
        same(model, &scalar, &best, N_IDS);
        drop(&scalar);
        drop(&best);
        mtp_model_close(model);
    }
}

static uint64_t expert_reads(mtp_model *model, enum mtp_moe_mode mode, const int32_t *ids, size_t n,
                             struct outcome *outcome)
{
    const struct mtp_session_options options = {.moe_mode = mode, .n_ctx = 256};
    mtp_session *session = fixture_session(model, &options, 1);
    float *logits = malloc(logit_bytes(model, n));
    assert_non_null(logits);
    fixture_run(session, 0, ids, n, n, logits);
    struct mtp_counters counters;
    mtp_session_get_counters(session, &counters);
    assert_int_equal(counters.expert_rows,
                     3 * n * model->hparams.n_layers * model->hparams.n_experts_used);
    *outcome = take(session, logits);
    mtp_session_close(session);
    return counters.expert_reads;
}

static void grouping_rows_by_expert_reads_less_and_changes_nothing(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(MOE);
    const struct hparams *h = &model->hparams;
    int32_t ids[N_IDS];
    fixture_random_ids(ids, N_IDS, h->n_vocab, 4);
    struct outcome grouped, single;
    uint64_t few = expert_reads(model, MTP_MOE_GROUPED, ids, N_IDS, &grouped);
    uint64_t many = expert_reads(model, MTP_MOE_PER_TOKEN, ids, N_IDS, &single);
    assert_int_equal(many, 3 * N_IDS * h->n_layers * h->n_experts_used);
    assert_true(few > 0 && few <= 3 * h->n_layers * h->n_experts);
    same(model, &grouped, &single, N_IDS);
    drop(&grouped);
    drop(&single);
    mtp_model_close(model);
}

/* Rows of three sequences dealt in an irregular order into batches of 13. */
static void deal(mtp_session *session, int32_t *const ids[3], size_t n, float *const logits[3])
{
    size_t next[3] = {0}, n_vocab = session->model->hparams.n_vocab;
    uint32_t dice = 99;
    while (next[0] < n || next[1] < n || next[2] < n) {
        struct batch_row rows[13];
        int32_t wanted[13], count = 0;
        while (count < 13 && (next[0] < n || next[1] < n || next[2] < n)) {
            dice = dice * 1664525u + 1013904223u;
            int32_t s = (int32_t)((dice >> 16) % 3);
            if (next[s] == n)
                continue;
            rows[count] = (struct batch_row){ids[s][next[s]], (int32_t)next[s], s};
            wanted[count] = count;
            next[s]++;
            count++;
        }
        const struct forward_batch batch = {rows, count, wanted, count};
        struct mtp_error error;
        assert_int_equal(session_forward(session, &batch, &error), MTP_OK);
        for (int32_t r = 0; r < count; r++)
            memcpy(logits[rows[r].sequence] + (size_t)rows[r].position * n_vocab,
                   session->work.logits + (size_t)r * n_vocab, n_vocab * sizeof(float));
    }
}

static void sequences_that_share_batches_do_not_see_each_other(void **state)
{
    (void)state;
    enum { N = 70 };
    mtp_model *model = fixture_model(MOE);
    int32_t *ids[3];
    float *logits[3];
    for (uint32_t s = 0; s < 3; s++) {
        ids[s] = malloc(N * sizeof **ids);
        logits[s] = malloc(logit_bytes(model, N));
        assert_true(ids[s] != NULL && logits[s] != NULL);
        fixture_random_ids(ids[s], N, model->hparams.n_vocab, 10 + s);
    }
    const struct mtp_session_options options = {.n_ctx = 128};
    mtp_session *shared = fixture_session(model, &options, 3);
    deal(shared, ids, N, logits);
    mtp_session_close(shared);
    for (uint32_t s = 0; s < 3; s++) {
        struct outcome alone = run(model, options, ids[s], N, 1);
        assert_memory_equal(alone.logits, logits[s], logit_bytes(model, N));
        drop(&alone);
        free(ids[s]);
        free(logits[s]);
    }
    mtp_model_close(model);
}

static void a_checkpoint_brings_back_the_state_to_the_byte(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(DENSE);
    int32_t ids[N_IDS];
    fixture_random_ids(ids, N_IDS, model->hparams.n_vocab, 5);
    const struct mtp_session_options options = {.n_ctx = 256};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_error error;
    mtp_checkpoint *checkpoint = NULL;
    assert_int_equal(mtp_session_append(session, ids, 50, &error), MTP_OK);
    assert_int_equal(mtp_checkpoint_take(&checkpoint, session, &error), MTP_OK);
    assert_int_equal(mtp_session_append(session, ids + 100, 50, &error), MTP_OK);
    assert_int_equal(mtp_checkpoint_restore(session, checkpoint, &error), MTP_OK);
    assert_int_equal(mtp_session_length(session), 50);
    assert_null(mtp_session_logits(session));
    assert_int_equal(mtp_session_append(session, ids + 50, 60, &error), MTP_OK);
    uint64_t after = mtp_session_logits_digest(session);
    mtp_checkpoint_free(checkpoint);
    mtp_session_close(session);
    session = fixture_session(model, &options, 1);
    assert_int_equal(mtp_session_append(session, ids, 110, &error), MTP_OK);
    assert_true(after == mtp_session_logits_digest(session));
    mtp_session_close(session);
    mtp_model_close(model);
}

static void a_checkpoint_of_another_session_is_refused(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(DENSE);
    const struct mtp_session_options options = {.n_ctx = 64};
    mtp_session *a = fixture_session(model, &options, 1), *b = fixture_session(model, &options, 1);
    struct mtp_error error;
    mtp_checkpoint *checkpoint = NULL;
    const int32_t id = 1;
    assert_int_equal(mtp_session_append(a, &id, 1, &error), MTP_OK);
    assert_int_equal(mtp_checkpoint_take(&checkpoint, a, &error), MTP_OK);
    assert_int_equal(mtp_checkpoint_restore(b, checkpoint, &error), MTP_ERR_USAGE);
    mtp_checkpoint_free(checkpoint);
    mtp_session_close(a);
    mtp_session_close(b);
    mtp_model_close(model);
}

static void fast_is_exact_on_the_processor_and_goes_with_no_proof(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(DENSE);
    const struct mtp_session_options plain = {.n_ctx = 64}, fast = {.n_ctx = 64, .fast = true};
    const struct mtp_session_options both = {.n_ctx = 64, .fast = true, .strict = MTP_STRICT_SAMPLE};
    mtp_session *a = fixture_session(model, &plain, 1), *b = fixture_session(model, &fast, 1), *none;
    struct mtp_error error;
    int32_t ids[60];
    fixture_random_ids(ids, 60, model->hparams.n_vocab, 6);
    assert_int_equal(mtp_session_append(a, ids, 60, &error), MTP_OK);
    assert_int_equal(mtp_session_append(b, ids, 60, &error), MTP_OK);
    assert_memory_equal(mtp_session_logits(a), mtp_session_logits(b),
                        model->hparams.n_vocab * sizeof(float));
    struct mtp_counters counters;
    mtp_session_get_counters(b, &counters);
    assert_true(counters.rows == 60 && counters.inexact_products == 0);
    assert_int_equal(mtp_session_open(&none, model, &both, &error), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "strict"));
    mtp_trace *trace = NULL;
    assert_int_equal(mtp_trace_create(&trace, "/dev/null", b, &(struct mtp_generation){0}, ids, 60, false,
                                      &error), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "exact bits"));
    assert_null(trace);
    mtp_session_close(a);
    mtp_session_close(b);
    mtp_model_close(model);
}

static void more_ids_than_the_context_holds_are_refused_with_both_numbers(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(DENSE);
    const struct mtp_session_options options = {.n_ctx = 64};
    mtp_session *session = fixture_session(model, &options, 1);
    int32_t ids[65];
    fixture_random_ids(ids, 65, model->hparams.n_vocab, 6);
    struct mtp_error error;
    assert_int_equal(mtp_session_append(session, ids, 65, &error), MTP_ERR_CONTEXT);
    assert_string_equal(error.message,
                        "65 tokens do not fit: the context holds 64 and 0 are used");
    assert_int_equal(mtp_session_append(session, ids, 64, &error), MTP_OK);
    assert_int_equal(mtp_session_append(session, ids, 1, &error), MTP_ERR_CONTEXT);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void ids_outside_the_vocabulary_are_refused_and_leave_the_session_usable(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(DENSE);
    const struct mtp_session_options options = {.n_ctx = 64};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_error error;
    const int32_t bad[] = {3, -1}, worse[] = {512}, good[] = {3, 4};
    assert_int_equal(mtp_session_append(session, bad, 2, &error), MTP_ERR_USAGE);
    assert_int_equal(mtp_session_length(session), 0);
    assert_int_equal(mtp_session_append(session, worse, 1, &error), MTP_ERR_USAGE);
    assert_int_equal(mtp_session_append(session, good, 2, &error), MTP_OK);
    assert_int_equal(mtp_session_length(session), 2);
    mtp_session_close(session);
    mtp_model_close(model);
}

static bool stop_after_two(void *user, const char *stage, uint64_t done, uint64_t total)
{
    int *calls = user;
    assert_string_equal(stage, "prefill");
    assert_true(done < total);
    return ++*calls < 2;
}

static void prefill_can_be_stopped_between_chunks_and_continued(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(DENSE);
    int32_t ids[N_IDS];
    int calls = 0;
    fixture_random_ids(ids, N_IDS, model->hparams.n_vocab, 7);
    const struct mtp_session_options options = {.n_ctx = 256, .n_batch = 10,
                                                .progress = stop_after_two, .user = &calls};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_error error;
    assert_int_equal(mtp_session_append(session, ids, N_IDS, &error), MTP_ERR_INTERRUPTED);
    assert_int_equal(mtp_session_length(session), 20);
    for (uint32_t at = 20; at < N_IDS; at += 10)
        assert_int_equal(mtp_session_append(session, ids + at, 10, &error), MTP_OK);
    struct outcome whole = run(model, (struct mtp_session_options){0}, ids, N_IDS, N_IDS);
    assert_memory_equal(mtp_session_logits(session),
                        whole.logits + (size_t)(N_IDS - 1) * model->hparams.n_vocab,
                        logit_bytes(model, 1));
    drop(&whole);
    mtp_session_close(session);
    mtp_model_close(model);
}

/* One thread's own session of a model that others use at the same time. A failed assertion outside the
 * test's thread ends the program. */
struct user {
    pthread_t thread;
    mtp_model *model;
    const int32_t *ids;
    enum mtp_isa isa;
    struct outcome got;
};

static void *use_model(void *argument)
{
    struct user *user = argument;
    const struct mtp_session_options options = {.n_threads = 2, .isa = user->isa};
    user->got = run(user->model, options, user->ids, FEW_IDS, 7);
    return NULL;
}

/* The first of them packs the weights while the others open. */
static void sessions_of_one_model_run_in_threads_of_their_own(void **state)
{
    (void)state;
    enum { N_USERS = 4 };
    mtp_model *model = fixture_model(REFERENCE_MODEL), *alone = fixture_model(REFERENCE_MODEL);
    int32_t ids[FEW_IDS];
    fixture_random_ids(ids, FEW_IDS, model->hparams.n_vocab, 8);
    struct outcome wanted = run(alone, (struct mtp_session_options){0}, ids, FEW_IDS, 7);
    struct user users[N_USERS];
    for (int i = 0; i < N_USERS; i++) {
        enum mtp_isa isa = i == 1 ? MTP_ISA_SCALAR : MTP_ISA_AUTO;
        users[i] = (struct user){.model = model, .ids = ids, .isa = isa};
        assert_int_equal(pthread_create(&users[i].thread, NULL, use_model, &users[i]), 0);
    }
    for (int i = 0; i < N_USERS; i++) {
        assert_int_equal(pthread_join(users[i].thread, NULL), 0);
        same(model, &wanted, &users[i].got, FEW_IDS);
        drop(&users[i].got);
    }
    drop(&wanted);
    mtp_model_close(alone);
    mtp_model_close(model);
}

static void packing_leaves_memory_for_others(void **state)
{
    (void)state;
    assert_true(model_pack_fits(0, 0));
    assert_true(model_pack_fits(7000, 8000));
    assert_false(model_pack_fits(7001, 8000));
    assert_false(model_pack_fits(1, 0));
    assert_true(model_pack_fits(1ull << 40, UINT64_MAX)); /* a system that does not say */
    uint64_t pages = (uint64_t)sysconf(_SC_PHYS_PAGES), page = (uint64_t)sysconf(_SC_PAGESIZE);
    assert_in_range(memory_available(), 1, pages * page);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(packing_leaves_memory_for_others),
        cmocka_unit_test(chunks_of_any_size_give_the_same_bytes_as_one_token_at_a_time),
        cmocka_unit_test(thread_count_never_shows),
        cmocka_unit_test(the_instruction_set_never_shows),
        cmocka_unit_test(grouping_rows_by_expert_reads_less_and_changes_nothing),
        cmocka_unit_test(sequences_that_share_batches_do_not_see_each_other),
        cmocka_unit_test(a_checkpoint_brings_back_the_state_to_the_byte),
        cmocka_unit_test(a_checkpoint_of_another_session_is_refused),
        cmocka_unit_test(fast_is_exact_on_the_processor_and_goes_with_no_proof),
        cmocka_unit_test(more_ids_than_the_context_holds_are_refused_with_both_numbers),
        cmocka_unit_test(ids_outside_the_vocabulary_are_refused_and_leave_the_session_usable),
        cmocka_unit_test(prefill_can_be_stopped_between_chunks_and_continued),
        cmocka_unit_test(sessions_of_one_model_run_in_threads_of_their_own),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
