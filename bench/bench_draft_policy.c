/* bench_draft_policy.c - what `--draft auto` gives on recorded drafts, by counts: a text is continued
 * plainly, and at each of its places the MTP block drafts seven tokens and the text so far foretells seven.
 * As drafts never change a text, that says what any choice would have given. Machines are made up: what a
 * pass costs.
 *
 *     bench/bench_draft_policy MODEL TOKENS TEMPERATURE FILE...
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "kernels/fpcontrol.h"
#include "mtp/draft_policy.h"
#include "mtp/mtp_head.h"
#include "sampler.h"

enum { MOST_CONTEXT = 8192 };

/* Passes over 1..8 rows and a draft, in plain steps. */
static const struct machine {
    const char *name;
    double pass[AUTO_DRAFTS + 1], draft;
} machines[] = {
    {"bundled model, one core", {1.0, 1.6, 2.15, 2.5, 2.9, 3.4, 4.0, 4.7}, 0.36},
    {"experts, memory binds", {1.0, 1.35, 1.6, 1.8, 2.0, 2.15, 2.3, 2.4}, 0.10},
    {"dense on a GPU", {1.0, 1.07, 1.16, 1.25, 1.33, 1.42, 1.51, 1.6}, 0.05},
    {"experts on a GPU", {1.0, 1.3, 1.6, 1.9, 2.17, 2.45, 2.72, 3.0}, 0.10},
};
enum { N_MACHINES = sizeof machines / sizeof machines[0] };

/* A place of the text: its token, and how many drafts behind it are right. */
struct place {
    int32_t id, of_head[AUTO_DRAFTS], of_text[AUTO_DRAFTS];
    uint32_t matched, head_right, text_right;
};

struct sums {
    double auto_head, auto_both; /* logarithms of seconds by those of the best number */
    double worst_head, worst_both, slowest_both;
};

static void demand(enum mtp_status status, const struct mtp_error *error)
{
    if (status == MTP_OK)
        return;
    fprintf(stderr, "bench_draft_policy: %s\n", error->message);
    exit(1);
}

static bool take(void *user, int32_t id, uint32_t position)
{
    (void)position;
    *(int32_t *)user = id;
    return true;
}

static void record_place(mtp_session *s, const struct mtp_generation *generation, struct place *place)
{
    struct mtp_error error;
    const struct mtp_sampling *sampling = &generation->sampling;
    const struct draw_noise noise = {sampling->seed, sampling->temperature, 0.05f};
    uint32_t n_vocab = s->model->hparams.n_vocab, position = s->lengths[0];
    place->id = s->exchange.top[s->logits_row];
    if (sampling->temperature > 0.0f)
        demand(sampler_draw(exchange_logits(s, s->logits_row), n_vocab, sampling, position, &place->id,
                            &error), &error);
    fp_control saved = fp_control_enter();
    demand(mtp_draft(s, place->id, AUTO_DRAFTS, draft_policy_head_rows(s->policy, n_vocab),
                     sampling->temperature > 0.0f ? &noise : NULL, &error), &error);
    fp_control_leave(saved);
    demand(mtp_drafts(s, AUTO_DRAFTS, place->of_head, &error), &error);
    ngram_draft(s->ngram, place->id, AUTO_DRAFTS, place->of_text, &place->matched);
    int32_t given = -1;
    demand(mtp_session_step(s, generation, take, &given, &error), &error);
    if (given != place->id) {
        fprintf(stderr, "bench_draft_policy: the step gave another token\n");
        exit(1);
    }
}

static uint32_t right(const struct place *places, uint32_t at, uint32_t n, const int32_t *drafts)
{
    uint32_t count = 0;
    while (count < AUTO_DRAFTS && at + 1 + count < n && drafts[count] == places[at + 1 + count].id)
        count++;
    return count;
}

static void record(mtp_model *model, const char *path, float temperature, struct place *places, uint32_t n)
{
    struct mtp_error error;
    static char text[1 << 16];
    FILE *file = fopen(path, "rb");
    size_t length = file != NULL ? fread(text, 1, sizeof text, file) : 0;
    if (file != NULL)
        fclose(file);
    int32_t *ids = NULL;
    size_t n_ids = 0;
    mtp_session *session;
    const struct mtp_session_options options = {.n_ctx = MOST_CONTEXT, .draft = true, .n_threads = 1};
    demand(mtp_tokenize(model, text, length, MTP_TEXT_PLAIN, &ids, &n_ids, &error), &error);
    demand(mtp_session_open(&session, model, &options, &error), &error);
    demand(mtp_session_append(session, ids, n_ids, &error), &error);
    free(ids);
    const struct mtp_generation generation = {
        .sampling = {.temperature = temperature, .top_p = temperature > 0.0f ? 0.95f : 1.0f, .seed = 1}};
    for (uint32_t i = 0; i < n; i++)
        record_place(session, &generation, &places[i]);
    for (uint32_t i = 0; i < n; i++) {
        places[i].head_right = right(places, i, n, places[i].of_head);
        places[i].text_right = places[i].matched > 0 ? right(places, i, n, places[i].of_text) : 0;
    }
    mtp_session_close(session);
}

static uint32_t least(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

static double fixed(const struct machine *m, const struct place *places, uint32_t n, uint32_t drafts)
{
    double seconds = 0.0;
    for (uint32_t i = 0; i < n; i += 1 + least(places[i].head_right, drafts))
        seconds += m->pass[drafts] + drafts * m->draft;
    return seconds / n;
}

static struct draft_policy *timed_policy(mtp_session *session, const struct machine *m)
{
    static const uint32_t widths[] = {1, 2, 4, 8};
    struct mtp_error error;
    memset(session, 0, sizeof *session);
    demand(draft_policy_open(session, &error), &error);
    for (int i = 0; i < 4; i++)
        draft_policy_timed(session->policy, false, widths[i], m->pass[widths[i] - 1]);
    draft_policy_timed(session->policy, true, 1, m->draft);
    draft_policy_timed(session->policy, true, 3, 3 * m->draft);
    return session->policy;
}

static double automatic(const struct machine *m, const struct place *places, uint32_t n, bool text)
{
    mtp_session session;
    struct draft_policy *policy = timed_policy(&session, m);
    double seconds = 0.0;
    for (uint32_t i = 0; i < n;) {
        const struct place *place = &places[i];
        draft_policy_saw(policy, place->id, UINT16_MAX);
        const struct draft_offer offer = {AUTO_DRAFTS, true, text ? place->matched : 0};
        draft_policy_foretold(policy, offer.matched, place->of_text, offer.matched > 0 ? AUTO_DRAFTS : 0);
        struct draft_choice choice = draft_policy_choose(policy, &offer);
        bool by_head = choice.source == MTP_DRAFT_HEAD;
        uint32_t accepted = least(choice.n, by_head ? place->head_right : place->text_right);
        const struct draft_outcome outcome = {choice.n, 1 + accepted, choice.source,
                                              by_head ? choice.n * m->draft : 0.0, m->pass[choice.n], 0.0};
        seconds += outcome.pass_seconds + outcome.draft_seconds;
        for (uint32_t a = 1; a <= accepted; a++)
            draft_policy_saw(policy, places[i + a].id, UINT16_MAX);
        draft_policy_learn(policy, &outcome);
        i += 1 + accepted;
    }
    free(policy);
    return seconds / n;
}

static void replay(const char *path, const struct place *places, uint32_t n, struct sums *sums)
{
    for (int i = 0; i < N_MACHINES; i++) {
        const struct machine *m = &machines[i];
        uint32_t best = 0;
        double of_best = 1.0;
        for (uint32_t k = 1; k <= AUTO_DRAFTS; k++)
            if (fixed(m, places, n, k) < of_best) {
                best = k;
                of_best = fixed(m, places, n, k);
            }
        double head = automatic(m, places, n, false), both = automatic(m, places, n, true);
        printf("| %s | %s | %.3f (%u) | %.3f | %.3f |\n", path, m->name, 1.0 / of_best, best, 1.0 / head,
               1.0 / both);
        sums[i].auto_head += log(head / of_best);
        sums[i].auto_both += log(both / of_best);
        sums[i].worst_head = fmax(sums[i].worst_head, head / of_best);
        sums[i].worst_both = fmax(sums[i].worst_both, both / of_best);
        sums[i].slowest_both = fmax(sums[i].slowest_both, both);
    }
}

int main(int argc, char **argv)
{
    struct mtp_error error;
    mtp_model *model;
    if (argc < 5) {
        fputs("usage: bench_draft_policy MODEL TOKENS TEMPERATURE FILE...\n", stderr);
        return 2;
    }
    uint32_t n = (uint32_t)strtoul(argv[2], NULL, 10);
    struct place *places = calloc(n, sizeof *places);
    if (places == NULL || n == 0)
        return 2;
    demand(mtp_model_open(&model, argv[1], NULL, &error), &error);
    struct sums sums[N_MACHINES] = {{0}};
    puts("Tokens in the time of a plain step.\n\n"
         "| text | costs | best number (which) | auto, MTP block | auto, both sources |\n"
         "|---|---|---|---|---|");
    for (int i = 4; i < argc; i++) {
        record(model, argv[i], strtof(argv[3], NULL), places, n);
        replay(argv[i], places, n, sums);
    }
    puts("\nTime by that of the best number: mean (worst); the slowest text by plain steps.\n\n"
         "| costs | auto, MTP block | auto, both sources | slowest |\n|---|---|---|---|");
    for (int i = 0; i < N_MACHINES; i++)
        printf("| %s | %.3f (%.3f) | %.3f (%.3f) | %.3f |\n", machines[i].name,
               exp(sums[i].auto_head / (argc - 4)), sums[i].worst_head, exp(sums[i].auto_both / (argc - 4)),
               sums[i].worst_both, sums[i].slowest_both);
    mtp_model_close(model);
    free(places);
    return 0;
}
