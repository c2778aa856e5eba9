/* strict_search.c - see strict_search.h. */
#include "strict_search.h"

#include <stdlib.h>
#include <string.h>

#include "verify/compare.h"
#include "verify/instrument.h"

/* Puts a side back to where it stood before the pass. */
static void rewind_side(mtp_session *s, const uint8_t *state, size_t bytes, uint32_t length)
{
    s->backend->ops->copy(s->backend, session_state(s)->base, state, bytes);
    s->lengths[0] = length;
    s->pending = 0;
    s->broken = false;
}

static enum mtp_status run(mtp_session *s, const struct batch_row *rows, int32_t n,
                           bool speculative, struct tap_log *log)
{
    int32_t *wanted = calloc((size_t)n, sizeof *wanted);
    if (wanted == NULL)
        return MTP_ERR_MEMORY;
    for (int32_t r = 0; r < n; r++)
        wanted[r] = r;
    const struct forward_batch batch = {rows, n, wanted, n, speculative};
    struct mtp_error ignored;
    instrument_record(s->backend, log, n);
    enum mtp_status status = session_forward(s, &batch, &ignored);
    instrument_record(s->backend, NULL, 0);
    free(wanted);
    return status;
}

static const char *place(const mtp_session *s, int32_t layer, char *text, size_t size)
{
    if (layer < 0)
        snprintf(text, size, "the embedding");
    else if ((uint32_t)layer < s->model->hparams.n_layers)
        snprintf(text, size, "layer %d", layer);
    else
        snprintf(text, size, "the output head");
    return text;
}

static size_t first_differing(const uint8_t *a, const uint8_t *b, size_t n)
{
    size_t i = 0;
    while (i < n && a[i] == b[i])
        i++;
    return i;
}

/* Row r of the main pass against the shadow's pass over that row; true when a difference was written. */
static bool name_tap(mtp_session *s, const struct tap_log *main, const struct tap_log *single,
                     int32_t r, size_t *at)
{
    struct strict *strict = s->strict;
    char where[48];
    for (size_t i = 0; i < main->n && i < single->n && i < *at; i++) {
        const struct tap *a = &main->taps[i], *b = &single->taps[i];
        size_t n = a->row_bytes < b->row_bytes ? a->row_bytes : b->row_bytes;
        const uint8_t *row = main->bytes + a->at + (size_t)r * a->row_bytes;
        size_t byte = first_differing(row, single->bytes + b->at, n);
        if (byte == n)
            continue;
        snprintf(strict->report.first_difference, sizeof strict->report.first_difference,
                 "%s, operation %s, row %d, element %zu", place(s, a->layer, where, sizeof where),
                 a->operation, r, byte / sizeof(float));
        *at = i;
        return true;
    }
    return false;
}

static bool state_part(mtp_session *s, const float *a, const float *b, size_t n, uint32_t layer,
                       const char *name)
{
    struct strict *strict = s->strict;
    size_t bytes = n * sizeof *a;
    struct host_view of_main = host_view_open(s->backend, a, bytes);
    struct host_view of_shadow = host_view_open(strict->shadow->backend, b, bytes);
    size_t byte = bytes;
    if (of_main.data != NULL && of_shadow.data != NULL)
        byte = first_differing(of_main.data, of_shadow.data, bytes);
    host_view_close(&of_main);
    host_view_close(&of_shadow);
    if (byte == bytes)
        return false;
    snprintf(strict->report.first_difference, sizeof strict->report.first_difference,
             "layer %u, operation %s, element %zu", layer, name, byte / sizeof *a);
    return true;
}

/* Which layer's recurrent state differs after the pass was kept. */
static bool name_state(mtp_session *s)
{
    const struct hparams *h = &s->model->hparams;
    const mtp_session *shadow = s->strict->shadow;
    size_t conv = (size_t)(h->conv_taps - 1) * hparams_conv_channels(h);
    size_t delta = (size_t)h->n_v_heads * h->state_dim * h->state_dim;
    for (uint32_t i = 0; i < h->n_layers; i++) {
        const struct layer_state *a = &s->layers[i], *b = &shadow->layers[i];
        if (!h->recurrent[i])
            continue;
        if (state_part(s, a->conv[s->live], b->conv[shadow->live], conv, i, "conv_state") ||
            state_part(s, a->delta[s->live], b->delta[shadow->live], delta, i, "delta_net_state"))
            return true;
    }
    return false;
}

/* The main session's pass again, flips and all, with taps. */
static bool run_main(mtp_session *s, const uint8_t *before, struct tap_log *log)
{
    struct strict *strict = s->strict;
    rewind_side(s, before, strict->state_bytes, strict->first);
    instrument_arm(s->backend, strict->step);
    enum mtp_status status = run(s, strict->rows, strict->n_rows, strict->speculative, log);
    instrument_disarm(s->backend);
    if (status == MTP_OK && s->pending > 0)
        session_keep(s, strict->kept);
    return status == MTP_OK;
}

void strict_search(mtp_session *session)
{
    struct strict *strict = session->strict;
    mtp_session *shadow = strict->shadow;
    struct tap_log main = {0}, single = {0};
    char *text = strict->report.first_difference;
    snprintf(text, sizeof strict->report.first_difference,
             "it did not come again in a second run (transient)");
    size_t at = SIZE_MAX;
    bool named = false;
    bool ran = run_main(session, strict->before, &main);
    rewind_side(shadow, strict->shadow_before, strict->state_bytes, strict->first);
    for (uint32_t r = 0; ran && r < strict->kept; r++) {
        single.n = single.used = 0;
        ran = run(shadow, &strict->rows[r], 1, false, &single) == MTP_OK;
        named = (ran && name_tap(session, &main, &single, (int32_t)r, &at)) || named;
    }
    if (ran && !named)
        name_state(session);
    tap_log_free(&main);
    tap_log_free(&single);
}
