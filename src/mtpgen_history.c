/* What every step took and gave, for the page that a report can be. */
#include "mtpgen.h"

#include <stdlib.h>
#include <string.h>

enum { MOST_EVENTS = MTPGEN_HISTORY_STEPS, MOST_IDS = 16 * MTPGEN_HISTORY_STEPS };

/* An array of *capacity elements for one of n more; NULL, and the old one stays, when there is no room. */
static void *grown(void *array, size_t *capacity, size_t n, size_t most, size_t element)
{
    if (n > most)
        return NULL;
    if (array != NULL && n <= *capacity)
        return array;
    size_t wanted = 2 * n + 256 < most ? 2 * n + 256 : most;
    void *larger = realloc(array, wanted * element);
    if (larger != NULL)
        *capacity = wanted;
    return larger;
}

/* Room for one event more and n ids; events that find none are counted, and all after them. */
static bool make_room(struct mtpgen_history *h, size_t n)
{
    void *events = NULL, *ids = NULL;
    if (h->n_left_out == 0)
        events = grown(h->events, &h->events_capacity, h->n_events + 1, MOST_EVENTS, sizeof *h->events);
    h->events = events != NULL ? events : h->events;
    if (events != NULL)
        ids = grown(h->ids, &h->ids_capacity, h->n_ids + n, MOST_IDS, sizeof *h->ids);
    h->ids = ids != NULL ? ids : h->ids;
    h->n_left_out += ids == NULL;
    return ids != NULL;
}

static void add_ids(struct mtpgen_history *h, const int32_t *ids, size_t n)
{
    if (n > 0)
        memcpy(h->ids + h->n_ids, ids, n * sizeof *ids);
    h->n_ids += n;
}

void mtpgen_history_prompt(struct mtpgen_history *h, const int32_t *ids, size_t n)
{
    size_t most = 2 * MTPGEN_HISTORY_PROMPT;
    if (!h->wanted || n == 0 || !make_room(h, n < most ? n : most))
        return;
    h->events[h->n_events++] =
        (struct mtpgen_event){ .kind = EVENT_PROMPT, .first = (uint32_t)h->n_ids, .n_tokens = (uint32_t)n };
    if (n <= most) {
        add_ids(h, ids, n);
        return;
    }
    add_ids(h, ids, MTPGEN_HISTORY_PROMPT);
    add_ids(h, ids + n - MTPGEN_HISTORY_PROMPT, MTPGEN_HISTORY_PROMPT);
}

void mtpgen_history_step(struct mtpgen_history *h, const struct mtp_step_outcome *outcome)
{
    const struct mtp_step_record *step = &outcome->step;
    uint32_t n_dropped = step->n_drafts - step->n_accepted;
    if (!h->wanted || step->n_tokens == 0 || !make_room(h, step->n_tokens + n_dropped))
        return;
    h->events[h->n_events++] = (struct mtpgen_event){
        .kind = outcome->source == MTP_DRAFT_NGRAM ? EVENT_NGRAM_STEP : EVENT_HEAD_STEP,
        .first = (uint32_t)h->n_ids,
        .n_tokens = step->n_tokens,
        .n_drafts = (uint8_t)step->n_drafts,
        .n_accepted = (uint8_t)step->n_accepted,
        .n_compared = (uint8_t)outcome->n_compared,
        .counted = outcome->counted,
    };
    add_ids(h, step->tokens, step->n_tokens);
    add_ids(h, step->drafts + step->n_accepted, n_dropped);
}

void mtpgen_history_free(struct mtpgen_history *h)
{
    free(h->events);
    free(h->ids);
    memset(h, 0, sizeof *h);
}
