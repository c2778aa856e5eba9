/* mtpsynth_cycle.c - the permutation that greedy decoding follows, and where the draft head errs. */
#include <stdlib.h>

#include "mtpsynth.h"
#include "mtpsynth_random.h"

static void shuffle(uint32_t *ids, uint32_t n, uint64_t key)
{
    for (uint32_t i = n; i > 1; i--) {
        uint32_t other = (uint32_t)(synth_word(key, i) % i), kept = ids[i - 1];
        ids[i - 1] = ids[other];
        ids[other] = kept;
    }
}

static void choose_right(struct synth_cycle *c, const struct synth_spec *spec)
{
    uint64_t key = synth_key(spec->seed, "accept");
    for (uint32_t id = 0; id < c->n_vocab; id++) {
        double share = spec->accept[c->place[id] / spec->stretch % spec->n_classes];
        c->right[id] = synth_unit(synth_word(key, id)) < share;
    }
}

enum mtp_status synth_cycle_open(struct synth_cycle *cycle, const struct synth_spec *spec,
                                 struct mtp_error *error)
{
    uint32_t n = spec->shape.n_vocab;
    *cycle = (struct synth_cycle){.n_vocab = n, .n_hot = spec->n_hot};
    cycle->order = malloc(n * sizeof *cycle->order);
    cycle->place = malloc(n * sizeof *cycle->place);
    cycle->right = malloc(n);
    if (cycle->order == NULL || cycle->place == NULL || cycle->right == NULL) {
        synth_cycle_close(cycle);
        return mtp_fail_memory(error, "the cycle of ids", 9 * (uint64_t)n);
    }
    for (uint32_t i = 0; i < n; i++)
        cycle->order[i] = i;
    shuffle(cycle->order, spec->n_hot, synth_key(spec->seed, "hot cycle"));
    shuffle(cycle->order + spec->n_hot, n - spec->n_hot, synth_key(spec->seed, "cold cycle"));
    for (uint32_t i = 0; i < n; i++)
        cycle->place[cycle->order[i]] = i < spec->n_hot ? i : i - spec->n_hot;
    cycle->key = synth_key(spec->seed, "wrong drafts");
    choose_right(cycle, spec);
    return MTP_OK;
}

void synth_cycle_close(struct synth_cycle *cycle)
{
    free(cycle->order);
    free(cycle->place);
    free(cycle->right);
    *cycle = (struct synth_cycle){0};
}

/* The id `ahead` places behind id in its cycle. */
static uint32_t step_ahead(const struct synth_cycle *c, uint32_t id, uint64_t ahead)
{
    uint32_t first = id < c->n_hot ? 0 : c->n_hot;
    uint32_t length = id < c->n_hot ? c->n_hot : c->n_vocab - c->n_hot;
    return c->order[first + (c->place[id] + ahead) % length];
}

uint32_t synth_next(const struct synth_cycle *cycle, uint32_t id)
{
    return step_ahead(cycle, id, 1);
}

uint32_t synth_previous(const struct synth_cycle *cycle, uint32_t id)
{
    uint32_t length = id < cycle->n_hot ? cycle->n_hot : cycle->n_vocab - cycle->n_hot;
    return step_ahead(cycle, id, length - 1);
}

uint32_t synth_draft_source(const struct synth_cycle *cycle, uint32_t id)
{
    if (cycle->right[id])
        return id;
    uint32_t length = id < cycle->n_hot ? cycle->n_hot : cycle->n_vocab - cycle->n_hot;
    return step_ahead(cycle, id, 1 + synth_word(cycle->key, id) % (length - 1));
}

uint32_t synth_draft(const struct synth_cycle *cycle, uint32_t id)
{
    return synth_next(cycle, synth_draft_source(cycle, id));
}

uint64_t synth_expected(const struct synth_cycle *cycle, uint32_t id, uint64_t n_steps,
                        uint32_t n_draft)
{
    uint64_t accepted = 0;
    for (uint64_t step = 0; step < n_steps; step++) {
        id = synth_next(cycle, id);
        for (uint32_t depth = 0; depth < n_draft && cycle->right[id]; depth++) {
            id = synth_next(cycle, id);
            accepted++;
        }
    }
    return accepted;
}
