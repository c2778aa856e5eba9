#include "sampler.h"

#include <inttypes.h>
#include <stdlib.h>

#include "kernels/noise.h"

/* ---- noise --------------------------------------------------------------------------------- */

void sampler_philox(uint32_t words[4], const uint32_t counter[4], const uint32_t key[2])
{
    noise_philox(words, counter, key);
}

float sampler_gumbel(uint32_t word)
{
    return noise_gumbel(word);
}

struct noise {
    uint64_t seed, position;
    uint32_t block; /* words are those of ids 4 * block.. */
    uint32_t words[4];
};

static void noise_start(struct noise *noise, uint64_t seed, uint64_t position)
{
    *noise = (struct noise){seed, position, UINT32_MAX, {0}}; /* no block yet: ids / 4 stay below 2^30 */
}

static uint32_t word_of(struct noise *noise, uint32_t id)
{
    if (noise->block != id / 4) {
        noise->block = id / 4;
        noise_words(noise->words, noise->seed, noise->position, noise->block);
    }
    return noise->words[id % 4];
}

/* ---- ranking ------------------------------------------------------------------------------- */

struct candidate {
    float logit;
    uint32_t id;
};

static bool ranks_before(struct candidate a, struct candidate b)
{
    return a.logit > b.logit || (a.logit == b.logit && a.id < b.id);
}

/* Heaps whose root is the first in rank (first) or the last. */
static void sift_down(struct candidate *heap, uint32_t n, uint32_t at, bool first)
{
    for (;;) {
        uint32_t child = 2 * at + 1;
        if (child >= n)
            return;
        if (child + 1 < n && ranks_before(heap[child + 1], heap[child]) == first)
            child++;
        if (ranks_before(heap[child], heap[at]) != first)
            return;
        struct candidate swapped = heap[at];
        heap[at] = heap[child];
        heap[child] = swapped;
        at = child;
    }
}

static void make_heap(struct candidate *heap, uint32_t n, bool first)
{
    for (uint32_t i = n / 2; i-- > 0;)
        sift_down(heap, n, i, first);
}

/* The k first in rank order into kept, which has room for k. */
static void take_first(struct candidate *kept, const float *logits, uint32_t n_vocab, uint32_t k)
{
    for (uint32_t id = 0; id < k; id++)
        kept[id] = (struct candidate){ logits[id], id };
    make_heap(kept, k, false);
    for (uint32_t id = k; id < n_vocab; id++) {
        struct candidate next = { logits[id], id };
        if (ranks_before(next, kept[0])) {
            kept[0] = next;
            sift_down(kept, k, 0, false);
        }
    }
    for (uint32_t n = k; n > 1; n--) {
        struct candidate last = kept[0];
        kept[0] = kept[n - 1];
        kept[n - 1] = last;
        sift_down(kept, n - 1, 0, false);
    }
}

/* ---- filters ------------------------------------------------------------------------------- */

static float fold(float partial[64])
{
    for (uint32_t distance = 32; distance > 0; distance /= 2) {
        for (uint32_t i = 0; i < distance; i++)
            partial[i] += partial[i + distance];
    }
    return partial[0];
}

/* How many of the ranked candidates top_p keeps. */
static uint32_t nucleus(struct candidate *ranked, uint32_t n, float top_p)
{
    float partial[64] = { 0 };
    for (uint32_t i = 0; i < n; i++)
        partial[i % 64] += mtp_expf(ranked[i].logit - ranked[0].logit);
    float wanted = top_p * fold(partial);
    float reached = 0.0f;
    for (uint32_t i = 0; i < n; i++) {
        reached += mtp_expf(ranked[i].logit - ranked[0].logit);
        if (reached >= wanted)
            return i + 1;
    }
    return n;
}

/* The same over a whole vocabulary, which is ranked only as far as needed: candidates is filled
 * with ids in ascending order, then made a heap; kept ones are gathered at its end. Returns where
 * they start. */
static uint32_t nucleus_of_all(struct candidate *candidates, const float *logits, uint32_t n,
                               float largest, float top_p)
{
    float partial[64] = { 0 };
    for (uint32_t id = 0; id < n; id++) {
        candidates[id] = (struct candidate){ logits[id], id };
        partial[id % 64] += mtp_expf(logits[id] - largest);
    }
    float wanted = top_p * fold(partial);
    float reached = 0.0f;
    make_heap(candidates, n, true);
    uint32_t left = n;
    while (left > 0) {
        struct candidate first = candidates[0];
        left--;
        candidates[0] = candidates[left];
        candidates[left] = first;
        sift_down(candidates, left, 0, true);
        reached += mtp_expf(first.logit - largest);
        if (reached >= wanted)
            break;
    }
    return left;
}

/* ---- drawing ------------------------------------------------------------------------------- */

static uint32_t argmax(const float *logits, uint32_t n_vocab)
{
    uint32_t best = 0;
    for (uint32_t id = 1; id < n_vocab; id++) {
        if (logits[id] > logits[best])
            best = id;
    }
    return best;
}

struct draw {
    struct noise noise;
    float temperature;
    float least_logit; /* min_p */
    float best_score;
    uint32_t best_id;
};

static void consider(struct draw *draw, float logit, uint32_t id)
{
    float scaled = logit / draw->temperature;
    if (logit < draw->least_logit || scaled + NOISE_GUMBEL_MAX < draw->best_score)
        return; /* filtered out, or beaten whatever its noise: saves most of the work */
    float score = noise_score(logit, draw->temperature, word_of(&draw->noise, id));
    if (score > draw->best_score || (score == draw->best_score && id < draw->best_id)) {
        draw->best_score = score;
        draw->best_id = id;
    }
}

static enum mtp_status check(const float *logits, uint32_t n_vocab,
                             const struct mtp_sampling *s, struct mtp_error *error)
{
    if (!(s->temperature == 0.0f || (s->temperature >= 0.001f && s->temperature <= 1000.0f)))
        return mtp_fail(error, MTP_ERR_USAGE, "temperature is %g; it must be 0 or 0.001 to 1000",
                        (double)s->temperature);
    if (!(s->top_p >= 0.0f && s->top_p <= 1.0f))
        return mtp_fail(error, MTP_ERR_USAGE, "top_p is %g; it must be 0 to 1", (double)s->top_p);
    if (!(s->min_p >= 0.0f && s->min_p <= 1.0f))
        return mtp_fail(error, MTP_ERR_USAGE, "min_p is %g; it must be 0 to 1", (double)s->min_p);
    if (n_vocab == 0 || n_vocab > INT32_MAX)
        return mtp_fail(error, MTP_ERR_INTERNAL, "a vocabulary of %" PRIu32 " tokens", n_vocab);
    for (uint32_t id = 0; id < n_vocab; id++) {
        if (f32_not_finite(logits[id]))
            return mtp_fail(error, MTP_ERR_NUMERIC, "the logit of token %" PRIu32 " is %s", id,
                            logits[id] != logits[id] ? "not a number" : "infinite");
    }
    return MTP_OK;
}

enum mtp_status sampler_draw(const float *logits, uint32_t n_vocab,
                             const struct mtp_sampling *sampling, uint64_t position, int32_t *id,
                             struct mtp_error *error)
{
    enum mtp_status status = check(logits, n_vocab, sampling, error);
    if (status != MTP_OK)
        return status;
    uint32_t first = argmax(logits, n_vocab);
    *id = (int32_t)first;
    if (sampling->temperature == 0.0f || sampling->top_k == 1 || sampling->top_p == 0.0f)
        return MTP_OK;

    struct draw draw = { .temperature = sampling->temperature,
                         .least_logit = -INFINITY,
                         .best_score = -INFINITY,
                         .best_id = UINT32_MAX };
    noise_start(&draw.noise, sampling->seed, position);
    if (sampling->min_p > 0.0f)
        draw.least_logit = logits[first] + mtp_logf(sampling->min_p);

    bool by_rank = sampling->top_k > 0 && sampling->top_k < n_vocab;
    if (!by_rank && sampling->top_p >= 1.0f) {
        for (uint32_t i = 0; i < n_vocab; i++)
            consider(&draw, logits[i], i);
        *id = (int32_t)draw.best_id;
        return MTP_OK;
    }
    uint32_t n = by_rank ? sampling->top_k : n_vocab;
    struct candidate *candidates = malloc(n * sizeof *candidates);
    if (candidates == NULL)
        return mtp_fail_memory(error, "ranking a vocabulary", n * sizeof *candidates);
    uint32_t start = 0;
    if (!by_rank) {
        start = nucleus_of_all(candidates, logits, n, logits[first], sampling->top_p);
    } else {
        take_first(candidates, logits, n_vocab, n);
        if (sampling->top_p < 1.0f)
            n = nucleus(candidates, n, sampling->top_p);
    }
    for (uint32_t i = start; i < n; i++)
        consider(&draw, candidates[i].logit, candidates[i].id);
    free(candidates);
    *id = (int32_t)draw.best_id;
    return MTP_OK;
}
