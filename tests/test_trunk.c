/* test_trunk.c - logits of small models against independent implementations (tests/golden/README.md).
 *
 * Float models must agree with transformers to rounding. Quantised models are compared with a torch run
 * that rounds activations as we do (`int8`): rounding noise flips single int8 steps there. The measure is
 * the root mean square over a position's top ids, its 90th percentile over positions: noise gives up to
 * 0.09, the mildest of 13 deliberate defects 0.168 (scripts/sensitivity.py). */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_fixture.h"

struct difference {
    double largest, p90, largest_sum;
    size_t top1, clear_top1, clear; /* equal argmax; the same where the golden margin exceeds 0.05 */
};

static size_t argmax(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

static double number(const json_t *array, size_t i)
{
    return json_number_value(json_array_get(array, i));
}

/* One position: logits against the golden's top ids and their values. */
static double compare_position(const float *logits, size_t n_vocab, const json_t *ids,
                               const json_t *values, double sum, struct difference *d)
{
    double squares = 0.0, total = 0.0;
    size_t best = 0;
    for (size_t k = 0; k < json_array_size(ids); k++) {
        size_t id = (size_t)json_integer_value(json_array_get(ids, k));
        assert_true(id < n_vocab);
        double off = fabs((double)logits[id] - number(values, k));
        d->largest = off > d->largest ? off : d->largest;
        squares += off * off;
        best = number(values, k) > number(values, best) ? k : best;
    }
    double runner_up = -1e9;
    for (size_t k = 0; k < json_array_size(ids); k++)
        if (k != best && number(values, k) > runner_up)
            runner_up = number(values, k);
    for (size_t i = 0; i < n_vocab; i++)
        total += (double)logits[i];
    d->largest_sum = fmax(d->largest_sum, fabs(total - sum));
    bool same = argmax(logits, n_vocab) == (size_t)json_integer_value(json_array_get(ids, best));
    bool clear = number(values, best) - runner_up > 0.05;
    d->top1 += same;
    d->clear += clear;
    d->clear_top1 += clear && same;
    return squares;
}

static int ascending(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static struct difference compare(const float *logits, size_t n_vocab, const json_t *golden,
                                 const json_t *values_of)
{
    struct difference d = {0};
    const json_t *ids = json_object_get(golden, "top_ids");
    const json_t *values = json_object_get(values_of, "top_logits");
    const json_t *sums = json_object_get(values_of, "logit_sum");
    size_t n = json_array_size(ids);
    double *rms = calloc(n, sizeof *rms);
    assert_true(rms != NULL && n > 0 && json_array_size(values) == n && json_array_size(sums) == n);
    for (size_t i = 0; i < n; i++) {
        const json_t *top = json_array_get(ids, i);
        double squares = compare_position(logits + i * n_vocab, n_vocab, top,
                                          json_array_get(values, i), number(sums, i), &d);
        rms[i] = sqrt(squares / (double)json_array_size(top));
    }
    qsort(rms, n, sizeof *rms, ascending);
    d.p90 = rms[n * 9 / 10];
    free(rms);
    return d;
}

/* Runs NAME's tokens through `file` and compares with `golden`'s section ("" = the top level). */
static struct difference run_golden(const char *file, const char *companion, const char *golden_path,
                                    const char *section, enum mtp_kv_type kv)
{
    mtp_model *model = fixture_model_with(file, companion);
    json_t *golden = fixture_json(golden_path);
    const struct mtp_session_options options = {.kv_type = kv, .n_batch = 64, .n_ctx = 256};
    mtp_session *session = fixture_session(model, &options, 1);
    size_t n = 0, n_vocab = model->hparams.n_vocab;
    int32_t *ids = fixture_ids(json_object_get(golden, "tokens"), &n);
    float *logits = calloc(n * n_vocab, sizeof *logits);
    assert_non_null(logits);
    fixture_run(session, 0, ids, n, 37, logits);
    const json_t *values = section[0] == '\0' ? golden : json_object_get(golden, section);
    assert_non_null(values);
    struct difference d = compare(logits, n_vocab, golden, values);
    print_message("%s: largest %.6f, 90 %% below %.6f, sum %.4f, top-1 %zu of %zu, clear %zu of %zu\n", file,
                  d.largest, d.p90, d.largest_sum, d.top1, n, d.clear_top1, d.clear);
    free(logits);
    free(ids);
    json_decref(golden);
    mtp_session_close(session);
    mtp_model_close(model);
    return d;
}

#define MODELS "tests/golden/models/"

static void float_models_give_the_logits_of_transformers(void **state)
{
    (void)state;
    static const char *const names[] = {"dense-f16", "moe-f32"};
    for (size_t i = 0; i < 2; i++) {
        char file[96], golden[96];
        snprintf(file, sizeof file, MODELS "%s.gguf", names[i]);
        snprintf(golden, sizeof golden, MODELS "%s.golden.json", names[i]);
        struct difference d = run_golden(file, NULL, golden, "", MTP_KV_F32);
        assert_true(d.largest < 0.001);
        assert_true(d.largest_sum < 0.05);
        assert_true(d.clear > 64);
        assert_int_equal(d.clear_top1, d.clear);
    }
}

static void a_float_model_with_halves_in_its_cache_stays_within_two_hundredths(void **state)
{
    (void)state;
    struct difference d = run_golden(MODELS "dense-f16.gguf", NULL, MODELS "dense-f16.golden.json", "",
                                     MTP_KV_F16);
    assert_true(d.largest < 0.02);
    assert_int_equal(d.clear_top1, d.clear);
}

static void quantised_models_give_the_logits_of_the_same_rounding_in_torch(void **state)
{
    (void)state;
    static const char *const names[] = {"dense-q4_k_m", "dense-iq4_xs", "dense-mixed",
                                        "dense-every-type", "moe-q8_0", "moe-q3_k", "moe-fused"};
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char file[96], golden[96];
        snprintf(file, sizeof file, MODELS "%s.gguf", names[i]);
        snprintf(golden, sizeof golden, MODELS "%s.golden.json", names[i]);
        struct difference d = run_golden(file, NULL, golden, "int8", MTP_KV_F32);
        assert_true(d.p90 < 0.12);
        assert_true(d.clear_top1 * 100 >= d.clear * 97);
    }
}

/* The first position has passed few roundings: there the format must be followed to the step. */
static void the_activation_format_is_followed_exactly_where_no_noise_has_grown(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(MODELS "dense-q4_k_m.gguf");
    json_t *golden = fixture_json(MODELS "dense-q4_k_m.golden.json");
    const struct mtp_session_options options = {.kv_type = MTP_KV_F32, .n_ctx = 16};
    mtp_session *session = fixture_session(model, &options, 1);
    size_t n = 0;
    int32_t *ids = fixture_ids(json_object_get(golden, "tokens"), &n);
    struct mtp_error error;
    assert_int_equal(mtp_session_append(session, ids, 1, &error), MTP_OK);
    struct difference d = {0};
    const json_t *exact = json_object_get(golden, "int8");
    compare_position(mtp_session_logits(session), model->hparams.n_vocab,
                     json_array_get(json_object_get(golden, "top_ids"), 0),
                     json_array_get(json_object_get(exact, "top_logits"), 0),
                     number(json_object_get(exact, "logit_sum"), 0), &d);
    print_message("first position: largest %.6f\n", d.largest);
    assert_true(d.largest < 0.001);
    free(ids);
    json_decref(golden);
    mtp_session_close(session);
    mtp_model_close(model);
}

static void a_trunk_without_its_block_computes_the_same_with_the_companion(void **state)
{
    (void)state;
    const char *golden = MODELS "moe-q8_0.golden.json";
    struct difference whole =
        run_golden(MODELS "moe-q8_0.gguf", NULL, golden, "int8", MTP_KV_F32);
    struct difference split = run_golden(MODELS "moe-q8_0-trunk.gguf", MODELS "moe-q8_0-mtp.gguf",
                                         golden, "int8", MTP_KV_F32);
    assert_memory_equal(&whole, &split, sizeof whole);
}

/* qwen35-tiny.gguf (21 MB of random F16 weights) is not in the tree: its path may be given. */
static const char *tiny_path;

static void qwen35_tiny_gives_the_logits_of_transformers(void **state)
{
    (void)state;
    mtp_model *model = NULL;
    struct mtp_error error;
    if (mtp_model_open(&model, tiny_path, NULL, &error) != MTP_OK)
        fail_msg("%s", error.message);
    json_t *golden = fixture_json("tests/golden/qwen35-tiny.golden.json");
    const struct mtp_session_options options = {.n_ctx = 256};
    mtp_session *session = fixture_session(model, &options, 1);
    size_t n = 0;
    int32_t *ids = fixture_ids(json_object_get(golden, "tokens"), &n);
    float *logits = calloc(n * model->hparams.n_vocab, sizeof *logits);
    assert_true(logits != NULL && n == 160);
    fixture_run(session, 0, ids, n, 37, logits);
    struct difference d = compare(logits, model->hparams.n_vocab, golden, golden);
    print_message("qwen35-tiny: largest %.6f, top-1 %zu of %zu, clear %zu of %zu\n", d.largest,
                  d.top1, n, d.clear_top1, d.clear);
    assert_true(d.largest < 0.02);
    assert_int_equal(d.clear_top1, d.clear);
    free(logits);
    free(ids);
    json_decref(golden);
    mtp_session_close(session);
    mtp_model_close(model);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tiny[] = {
        cmocka_unit_test(qwen35_tiny_gives_the_logits_of_transformers)};
    if (argc > 1) {
        tiny_path = argv[1];
        return cmocka_run_group_tests(tiny, NULL, NULL);
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(float_models_give_the_logits_of_transformers),
        cmocka_unit_test(a_float_model_with_halves_in_its_cache_stays_within_two_hundredths),
        cmocka_unit_test(quantised_models_give_the_logits_of_the_same_rounding_in_torch),
        cmocka_unit_test(the_activation_format_is_followed_exactly_where_no_noise_has_grown),
        cmocka_unit_test(a_trunk_without_its_block_computes_the_same_with_the_companion),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
