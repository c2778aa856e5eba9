/* test_acceptance.c - how often the draft head of the bundled model agrees with its trunk: against
 * torch on the same windows of held-out text, and while generating beside llama.cpp. A defect of the
 * draft head leaves every text as it is; it shows here. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "model_fixture.h"
#include "mtp/mtp_head.h"

#if defined(__has_feature)
#if __has_feature(address_sanitizer)
#define SANITIZED 1
#endif
#endif
#if defined(__SANITIZE_ADDRESS__)
#define SANITIZED 1
#endif
#ifdef SANITIZED /* ten times slower: less of the same */
enum { WINDOWS = 1, STRIDE = 8, ANCHOR_STEP = 4, MOST_POINTS = 5 };
enum { GENERATED = 64, LEAST_PERCENT = 55 };
enum { LEAST_POINTS_COOL = 0, LEAST_POINTS_WARM = 10, LEAST_POINTS_RANKED = 0 };
#else
enum { WINDOWS = 4, STRIDE = 2, ANCHOR_STEP = 1, MOST_POINTS = 1 };
enum { GENERATED = 384, LEAST_PERCENT = 70 };
/* Points by which drafts with the text's noise must beat the likeliest ones: at 0.7, at 1.0, and at 1.0 where
 * top_k and top_p filter. */
enum { LEAST_POINTS_COOL = 5, LEAST_POINTS_WARM = 15, LEAST_POINTS_RANKED = 10 };
#endif

enum { DEPTHS = 3 };

static void demand(enum mtp_status status, const struct mtp_error *error)
{
    if (status != MTP_OK)
        fail_msg("%s", error->message);
}

/* The text of a window, its hidden rows, and what the trunk chooses behind each token. */
struct window {
    const int32_t *ids;
    size_t n;
    float *hidden;
    int32_t *chosen;
};

/* The trunk reads the window as a prompt, which also fills the block's cache. */
static void read_window(mtp_session *session, struct window *w)
{
    enum { CHUNK = 128 };
    size_t width = session->model->hparams.n_embd;
    struct batch_row rows[CHUNK];
    int32_t wanted[CHUNK];
    struct mtp_error error = {0};
    assert_int_equal(w->n % CHUNK, 0);
    for (size_t done = 0; done < w->n; done += CHUNK) {
        for (int32_t r = 0; r < CHUNK; r++) {
            rows[r] = (struct batch_row){w->ids[done + (size_t)r], (int32_t)done + r, 0};
            wanted[r] = r;
        }
        const struct forward_batch batch = {rows, CHUNK, wanted, CHUNK, false};
        demand(session_forward(session, &batch, &error), &error);
        memcpy(w->hidden + done * width, session->work.hidden, CHUNK * width * sizeof(float));
        memcpy(w->chosen + done, session->exchange.top, CHUNK * sizeof *w->chosen);
        demand(session_note(session, w->ids + done, (uint32_t)done, CHUNK, &error), &error);
    }
    demand(mtp_catch_up(session, &error), &error);
    assert_int_equal(session->mtp->filled, w->n - 1);
}

/* Drafts behind every position, the last first: a chain overwrites rows behind its anchor alone. */
static void count_hits(mtp_session *session, const struct window *w, size_t *hits)
{
    uint32_t n_vocab = session->model->hparams.n_vocab;
    size_t width = session->model->hparams.n_embd;
    struct mtp_error error = {0};
    for (size_t anchor = w->n - 1; anchor-- > 0;) {
        if (anchor % ANCHOR_STEP != 0)
            continue;
        for (size_t d = 0; d < DEPTHS && anchor + 1 + d < w->n; d++) {
            const float *hidden = d == 0 ? w->hidden + anchor * width : session->mtp->out;
            demand(mtp_rows(session, w->ids + anchor + 1 + d, hidden, (uint32_t)(anchor + d), 1,
                            n_vocab, &error),
                   &error);
            hits[d] += session->mtp->top[0] == w->chosen[anchor + 1 + d];
        }
    }
}

static void add_window(mtp_model *model, const int32_t *ids, size_t n, size_t *hits)
{
    const struct mtp_session_options options = {.n_ctx = (uint32_t)n, .n_threads = 1, .draft = true};
    mtp_session *session = fixture_session(model, &options, 1);
    struct window w = {ids, n, NULL, NULL};
    w.hidden = malloc(n * model->hparams.n_embd * sizeof *w.hidden);
    w.chosen = malloc(n * sizeof *w.chosen);
    assert_true(w.hidden != NULL && w.chosen != NULL);
    read_window(session, &w);
    count_hits(session, &w, hits);
    free(w.hidden);
    free(w.chosen);
    mtp_session_close(session);
}

/* ids: the text's windows one after the other. */
static void compare_text(mtp_model *model, const json_t *torch, const int32_t *ids, size_t length)
{
    size_t hits[DEPTHS] = {0};
    const json_t *windows = json_object_get(json_object_get(torch, "float32"), "windows");
    assert_int_equal(json_array_size(windows), 8);
    for (size_t i = 0; i < WINDOWS; i++)
        add_window(model, ids + i * STRIDE * length, length, hits);
    for (size_t d = 0; d < DEPTHS; d++) {
        double rows = (double)(WINDOWS * (length - 1 - d)), theirs = 0.0;
        for (size_t i = 0; i < WINDOWS; i++)
            theirs += json_number_value(json_array_get(json_array_get(windows, i * STRIDE), d));
        double ours = 100.0 * (double)hits[d] * ANCHOR_STEP / rows;
        theirs *= 100.0 / rows;
        print_message("%s, depth %zu: %.2f %%, torch %.2f %%\n",
                      json_string_value(json_object_get(torch, "text")), d + 1, ours, theirs);
        assert_true(fabs(ours - theirs) < MOST_POINTS);
    }
}

static void drafts_agree_with_the_trunk_on_held_out_text_as_often_as_in_torch(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    json_t *scored = fixture_json("tests/golden/reference-perplexity.json");
    json_t *golden = fixture_json("tests/golden/reference-acceptance.json");
    size_t length = (size_t)json_integer_value(json_object_get(golden, "length"));
    const json_t *texts = json_object_get(golden, "texts");
    assert_int_equal(json_array_size(texts), 2);
    for (size_t t = 0; t < 2; t++) {
        const json_t *torch = json_array_get(texts, t);
        const json_t *source = json_array_get(json_object_get(scored, "texts"), t);
        assert_string_equal(json_string_value(json_object_get(torch, "tokens_sha256")),
                            json_string_value(json_object_get(source, "tokens_sha256")));
        size_t n = 0;
        int32_t *ids = fixture_ids(json_object_get(source, "tokens"), &n);
        assert_int_equal(n, 8 * length);
        compare_text(model, torch, ids, length);
        free(ids);
    }
    json_decref(scored);
    json_decref(golden);
    mtp_model_close(model);
}

/* ---- free-running ---------------------------------------------------------------------------- */

struct run {
    uint32_t given;
};

static bool count_token(void *user, int32_t id, uint32_t position)
{
    struct run *run = user;
    (void)id;
    (void)position;
    return ++run->given < GENERATED;
}

static void generate(mtp_model *model, const json_t *prompt, const struct mtp_generation *generation,
                     struct mtp_draft_stats *stats)
{
    const struct mtp_session_options options = {.n_ctx = 512, .n_threads = 1, .draft = true};
    mtp_session *session = fixture_session(model, &options, 1);
    struct mtp_error error = {0};
    struct run run = {0};
    size_t n = 0;
    int32_t *ids = fixture_ids(json_object_get(prompt, "tokens"), &n);
    demand(mtp_session_append(session, ids, n, &error), &error);
    while (run.given < GENERATED)
        demand(mtp_session_step(session, generation, count_token, &run, &error), &error);
    mtp_session_get_draft_stats(session, stats);
    free(ids);
    mtp_session_close(session);
}

static void generation_accepts_drafts_as_often_as_llama_cpp(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    json_t *prompts = fixture_json("tests/golden/ref-qwen35moe.reference.json");
    double accepted = 0.0, drafted = 0.0;
    assert_int_equal(json_array_size(prompts), 5);
    print_message("accepted of drafted, %d tokens a prompt, 3 drafts a step; llama.cpp: 384\n",
                  GENERATED);
    for (size_t p = 0; p < 5; p++) {
        const json_t *prompt = json_array_get(prompts, p);
        const json_t *theirs = json_object_get(prompt, "llama_cpp_mtp3");
        struct mtp_draft_stats stats;
        generate(model, prompt, &(struct mtp_generation){.n_draft = 3}, &stats);
        print_message("prompt %zu: %3d of %3d, llama.cpp %3d of %3d\n", p + 1, (int)stats.accepted,
                      (int)stats.drafted,
                      (int)json_integer_value(json_object_get(theirs, "accepted")),
                      (int)json_integer_value(json_object_get(theirs, "drafted")));
        accepted += (double)stats.accepted;
        drafted += (double)stats.drafted;
    }
    print_message("%.1f %% of %.0f drafts\n", 100.0 * accepted / drafted, drafted);
    /* llama.cpp: 1358 of 1662, 82 %. */
    assert_true(drafted > 0.0 && 100.0 * accepted > LEAST_PERCENT * drafted);
    json_decref(prompts);
    mtp_model_close(model);
}

/* First drafts accepted, per cent. */
static double first_drafts_accepted(mtp_model *model, const struct mtp_sampling *sampling, bool likeliest)
{
    const struct mtp_generation generation = {.sampling = *sampling,
                                              .n_draft = 1,
                                              .draft_head_rows = model->hparams.n_vocab,
                                              .draft_likeliest = likeliest};
    json_t *prompts = fixture_json("tests/golden/ref-qwen35moe.reference.json");
    double accepted = 0.0, compared = 0.0;
    for (size_t p = 0; p < json_array_size(prompts); p++) {
        struct mtp_draft_stats stats;
        generate(model, json_array_get(prompts, p), &generation, &stats);
        accepted += (double)stats.accepted_at[0];
        compared += (double)stats.compared_at[0];
    }
    json_decref(prompts);
    return 100.0 * accepted / compared;
}

static void drafts_by_the_noise_of_the_text_are_accepted_more_often_than_the_likeliest(void **state)
{
    (void)state;
    static const struct {
        struct mtp_sampling sampling;
        double least_points; /* by which they win */
    } cases[] = {
        {{.temperature = 0.7f, .top_p = 1.0f, .seed = 3}, LEAST_POINTS_COOL},
        {{.temperature = 1.0f, .top_p = 1.0f, .seed = 3}, LEAST_POINTS_WARM},
        {{.temperature = 1.0f, .top_k = 40, .top_p = 0.9f, .seed = 3}, LEAST_POINTS_RANKED},
    };
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct mtp_sampling *sampling = &cases[i].sampling;
        double likeliest = first_drafts_accepted(model, sampling, true);
        double shared = first_drafts_accepted(model, sampling, false);
        print_message("temperature %.1f, top_k %d: %.1f %% of first drafts by the text's noise, %.1f %% of "
                      "likeliest\n", (double)sampling->temperature, (int)sampling->top_k, shared, likeliest);
        assert_true(shared >= likeliest + cases[i].least_points);
    }
    mtp_model_close(model);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(drafts_agree_with_the_trunk_on_held_out_text_as_often_as_in_torch),
        cmocka_unit_test(generation_accepts_drafts_as_often_as_llama_cpp),
        cmocka_unit_test(drafts_by_the_noise_of_the_text_are_accepted_more_often_than_the_likeliest),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
