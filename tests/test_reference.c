/* test_reference.c - the bundled model against torch and llama.cpp (tests/golden/README.md): greedy
 * choices under teacher forcing, perplexity of held-out text, and long contexts in any chunking. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_fixture.h"
#include "verify/digest.h"

/* Sanitizers slow this program by a factor of ten: there, a sample of each check. */
#ifdef __SANITIZE_ADDRESS__
enum { PROMPTS = 1, WINDOWS = 1, LONG = 1000, LONG_STEP = 200 };
#else
enum { PROMPTS = 5, WINDOWS = 8, LONG = 5000, LONG_STEP = 1000 };
#endif

static size_t top(const float *x, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        best = x[i] > x[best] ? i : best;
    return best;
}

/* Prompt, then llama.cpp's continuation of it, in one row of ids. */
static int32_t *prompt_and_text(const json_t *prompt, size_t *n_prompt, size_t *n)
{
    size_t n_text = 0;
    int32_t *first = fixture_ids(json_object_get(prompt, "tokens"), n_prompt);
    int32_t *text = fixture_ids(json_object_get(prompt, "llama_cpp"), &n_text);
    *n = *n_prompt + n_text;
    int32_t *all = calloc(*n, sizeof *all);
    assert_non_null(all);
    memcpy(all, first, *n_prompt * sizeof *all);
    memcpy(all + *n_prompt, text, n_text * sizeof *all);
    free(first);
    free(text);
    return all;
}

struct agreement {
    size_t positions, equal;
    double widest; /* our margin over llama.cpp's choice where we differ */
};

static void teacher_force(mtp_model *model, const json_t *prompt, struct agreement *a)
{
    size_t n_prompt = 0, n = 0, n_vocab = model->hparams.n_vocab;
    int32_t *ids = prompt_and_text(prompt, &n_prompt, &n);
    float *logits = malloc(n * n_vocab * sizeof *logits);
    assert_non_null(logits);
    const struct mtp_session_options options = {.n_ctx = 512};
    mtp_session *session = fixture_session(model, &options, 1);
    fixture_run(session, 0, ids, n, 128, logits);
    for (size_t i = n_prompt; i < n; i++) {
        const float *row = logits + (i - 1) * n_vocab;
        size_t ours = top(row, n_vocab), theirs = (size_t)ids[i];
        a->positions++;
        a->equal += ours == theirs;
        double margin = (double)row[ours] - (double)row[theirs];
        a->widest = margin > a->widest ? margin : a->widest;
    }
    free(logits);
    free(ids);
    mtp_session_close(session);
}

static void greedy_choices_agree_with_llama_cpp(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    json_t *golden = fixture_json("tests/golden/reference-greedy.json");
    const json_t *prompts = json_object_get(golden, "prompts");
    struct agreement a = {0};
    assert_int_equal(json_array_size(prompts), 5);
    for (size_t p = 0; p < PROMPTS; p++)
        teacher_force(model, json_array_get(prompts, p), &a);
    print_message("equal at %zu of %zu positions, widest margin %.4f\n", a.equal, a.positions,
                  a.widest);
    assert_int_equal(a.positions, PROMPTS * 384);
    assert_true(a.equal * 100 >= a.positions * 97);
    assert_true(a.widest < 0.5);
    json_decref(golden);
    mtp_model_close(model);
}

/* -ln softmax(logits)[id], in double. */
static double loss(const float *logits, size_t n, int32_t id)
{
    double most = (double)logits[top(logits, n)], total = 0.0;
    for (size_t i = 0; i < n; i++)
        total += exp((double)logits[i] - most);
    return most + log(total) - (double)logits[id];
}

static double window_loss(mtp_model *model, const int32_t *ids, size_t n)
{
    size_t n_vocab = model->hparams.n_vocab;
    float *logits = malloc(n * n_vocab * sizeof *logits);
    assert_non_null(logits);
    const struct mtp_session_options options = {.n_ctx = 1024};
    mtp_session *session = fixture_session(model, &options, 1);
    fixture_run(session, 0, ids, n, 512, logits);
    double sum = 0.0;
    for (size_t i = 1; i < n; i++)
        sum += loss(logits + (i - 1) * n_vocab, n_vocab, ids[i]);
    free(logits);
    mtp_session_close(session);
    return sum;
}

static void perplexity_of_held_out_text_is_that_of_float32_arithmetic(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    json_t *golden = fixture_json("tests/golden/reference-perplexity.json");
    size_t length = (size_t)json_integer_value(json_object_get(golden, "length"));
    const json_t *texts = json_object_get(golden, "texts");
    for (size_t t = 0; t < json_array_size(texts); t++) {
        const json_t *text = json_array_get(texts, t);
        const json_t *windows = json_object_get(json_object_get(text, "float32"), "windows");
        size_t n_ids = 0, n_windows = json_array_size(windows);
        int32_t *ids = fixture_ids(json_object_get(text, "tokens"), &n_ids);
        assert_true(n_windows == 8 && n_ids == n_windows * length);
        double ours = 0.0, theirs = 0.0;
        for (size_t w = 0; w < WINDOWS; w++) {
            ours += window_loss(model, ids + w * length, length);
            theirs += json_number_value(json_array_get(windows, w));
        }
        double scored = (double)(WINDOWS * (length - 1));
        print_message("%s: perplexity %.4f, float32 %.4f\n",
                      json_string_value(json_object_get(text, "text")), exp(ours / scored),
                      exp(theirs / scored));
        assert_true(fabs(exp((ours - theirs) / scored) - 1.0) < 0.005);
        free(ids);
    }
    json_decref(golden);
    mtp_model_close(model);
}

/* Digests of the logits at `every`-th positions and the last, over n ids. */
static uint64_t long_run(mtp_model *model, const int32_t *ids, size_t n, uint32_t batch,
                         uint32_t threads)
{
    const struct mtp_session_options options = {.n_ctx = 5000, .n_batch = batch,
                                                .n_threads = threads};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_error error = {0};
    uint64_t digest = 0;
    for (size_t done = 0; done < n; done += LONG_STEP) {
        assert_int_equal(mtp_session_append(session, ids + done, LONG_STEP, &error), MTP_OK);
        digest = digest_chain(digest, mtp_session_logits_digest(session));
    }
    digest = digest_chain(digest, digest_row((const float *)(const void *)session_state(session)->base,
                                             session_state(session)->used / sizeof(float)));
    mtp_session_close(session);
    return digest;
}

static void five_thousand_positions_give_the_same_bytes_in_any_chunking(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    int32_t *ids = calloc(LONG, sizeof *ids);
    assert_non_null(ids);
    fixture_random_ids(ids, LONG, model->hparams.n_vocab, 8);
    uint64_t whole = long_run(model, ids, LONG, 512, 2);
    assert_true(whole == long_run(model, ids, LONG, 61, 1));
    assert_true(whole == long_run(model, ids, LONG, 1000, 3));
    free(ids);
    mtp_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(greedy_choices_agree_with_llama_cpp),
        cmocka_unit_test(perplexity_of_held_out_text_is_that_of_float32_arithmetic),
        cmocka_unit_test(five_thousand_positions_give_the_same_bytes_in_any_chunking),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
