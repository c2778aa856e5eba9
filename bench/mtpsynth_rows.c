/* mtpsynth_rows.c - the bytes of one row of a tensor. */
#include <math.h>
#include <string.h>

#include "mtpsynth.h"
#include "mtpsynth_random.h"

/* ---- float rows ---------------------------------------------------------------------------------- */

static double float_value(const struct synth_tensor *t, uint64_t column, uint64_t word)
{
    switch (t->fill) {
    case FILL_NORM:
        return t->scale * (1.0 + 0.1 * synth_symmetric(word));
    case FILL_DECAY: { /* many slow heads, few fast ones */
        double u = synth_unit(word);
        return -0.02 - 1.98 * u * u * u;
    }
    case FILL_DT:
        return -2.0 * synth_unit(word);
    case FILL_ROUTER:
        return sqrt(3.0) * (column < SYNTH_TOPIC_DIMS ? t->topic_scale : t->scale) *
               synth_symmetric(word);
    default: /* a uniform variable of this standard deviation */
        return sqrt(3.0) * t->scale * synth_symmetric(word);
    }
}

static void float_row(const struct synth_tensor *t, uint64_t row, uint8_t *out)
{
    for (uint64_t i = 0; i < t->ne[0]; i++) {
        float value = (float)float_value(t, i, synth_word(t->key, row * t->ne[0] + i));
        memcpy(out + 4 * i, &value, sizeof value);
    }
}

/* ---- quantised rows ------------------------------------------------------------------------------ */

static void weights_row(const struct synth_tensor *t, uint64_t key, uint64_t row, uint8_t *out)
{
    const struct type_info *info = type_info(t->type);
    synth_block_fn *make = synth_block_of(t->type);
    uint64_t n_blocks = t->ne[0] / info->block_elements;
    for (uint64_t i = 0; i < n_blocks; i++, out += info->block_bytes)
        make(synth_word(key, row * n_blocks + i), t->scale, out);
}

/* Neighbours in a cycle share all topic dimensions but one: dimension j takes a new value every
 * SYNTH_TOPIC_DIMS places, j places later than dimension 0. */
static void topic_values(const struct synth_plan *plan, uint32_t id, int8_t values[SYNTH_TOPIC_DIMS])
{
    const struct synth_cycle *cycle = plan->cycle;
    uint64_t key = synth_key(plan->spec->seed, id < cycle->n_hot ? "hot topics" : "cold topics");
    for (uint32_t j = 0; j < SYNTH_TOPIC_DIMS; j++) {
        uint64_t period = (cycle->place[id] + j) / SYNTH_TOPIC_DIMS;
        uint64_t word = synth_word(synth_word(key, j), period);
        values[j] = (int8_t)((int)(word >> 59) * 2 - 31);
    }
}

/* Row `id` of the embedding, for whichever table has it. */
static void embedding_row(const struct synth_plan *plan, const struct synth_tensor *t, uint32_t id,
                          uint8_t *out)
{
    weights_row(t, plan->embedding_key, id, out);
    if (plan->topic_gain > 0.0) {
        int8_t values[SYNTH_TOPIC_DIMS];
        topic_values(plan, id, values);
        synth_topic_block(t->type, values, t->scale, plan->topic_gain, out);
    }
}

static void join_row(const struct synth_tensor *t, uint64_t row, uint8_t *out)
{
    const struct type_info *info = type_info(t->type);
    weights_row(t, t->key, row, out);
    uint64_t block = row / info->block_elements;
    uint64_t key = synth_word(t->key, row * (t->ne[0] / info->block_elements) + block);
    synth_diagonal_block(t->type, key, (uint32_t)(row % info->block_elements),
                         out + block * info->block_bytes);
}

void synth_make_row(const struct synth_plan *plan, const struct synth_tensor *tensor, uint64_t row,
                    uint8_t *out)
{
    if (tensor->type == MTP_TYPE_F32)
        float_row(tensor, row, out);
    else if (tensor->fill == FILL_EMBEDDING)
        embedding_row(plan, tensor, (uint32_t)row, out);
    else if (tensor->fill == FILL_HEAD)
        embedding_row(plan, tensor, synth_previous(plan->cycle, (uint32_t)row), out);
    else if (tensor->fill == FILL_DRAFT_TABLE)
        embedding_row(plan, tensor, synth_draft_source(plan->cycle, (uint32_t)row), out);
    else if (tensor->fill == FILL_JOIN)
        join_row(tensor, row, out);
    else
        weights_row(tensor, tensor->key, row, out);
}
