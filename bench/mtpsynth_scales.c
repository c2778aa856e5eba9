/* mtpsynth_scales.c - standard deviations of weights. docs/synthetic-models.md derives the constants.
 *
 * Inputs of every branch are normalised, so that matrices which read them get 1 / sqrt(n_in) and their
 * outputs are about 1. What is left is the matrix that ends a branch.
 */
#include <math.h>

#include "mtpsynth.h"

static const double embedding_scale = 4.0;
/* Mean squares: silu of a normal variable, sigmoid of one, and a weighted mean of values by attention
 * weights whose logits have the standard deviation 3. */
static const double silu_square = 0.356, sigmoid_square = 0.293, attention_square = 0.5;

double synth_embedding_scale(void)
{
    return embedding_scale;
}

double synth_input_scale(uint32_t n_in)
{
    return 1.0 / sqrt(n_in);
}

/* Makes the logits of all ids but the successor about 1. */
double synth_head_norm(const struct synth_shape *shape)
{
    return 1.0 / (embedding_scale * sqrt(shape->n_embd));
}

/* Together these weights of a row add a twentieth of the identity's variance. */
double synth_join_scale(uint32_t n_in)
{
    return sqrt(0.05 / n_in);
}

double synth_score_norm(void)
{
    return sqrt(3.0);
}

/* Mean square of what a branch's last matrix reads. */
static double input_square(const struct synth_shape *shape, enum synth_branch branch)
{
    switch (branch) {
    case BRANCH_ATTENTION:
        return sigmoid_square * attention_square;
    case BRANCH_PLAIN_ATTENTION:
        return attention_square;
    case BRANCH_ROUTED: /* the sum of squares of the experts' weights, which lie around 1 / used */
        return silu_square * 1.15 / shape->n_used;
    case BRANCH_SHARED:
        return silu_square * sigmoid_square;
    default:
        return silu_square;
    }
}

double synth_output_scale(const struct synth_shape *shape, enum synth_branch branch, uint32_t n_in,
                          uint32_t block)
{
    /* Two branches a layer add up to the embedding; the MTP block's two to its normalised input. */
    double wanted = block < shape->n_layers
                        ? embedding_scale * embedding_scale / (2.0 * shape->n_layers) : 0.5;
    if ((branch == BRANCH_ROUTED && shape->n_ff_shared > 0) || branch == BRANCH_SHARED)
        wanted /= 2.0;
    return sqrt(wanted / (n_in * input_square(shape, branch)));
}

/* An eighth of the embedding's square lies in the topics' dimensions, where their gain allows it. */
double synth_topic_gain(const struct synth_shape *shape)
{
    double gain = sqrt(shape->n_embd / (8.0 * SYNTH_TOPIC_DIMS));
    return gain < 1.0 ? 1.0 : gain > 4.0 ? 4.0 : gain;
}

/* The router's logits have the standard deviation 1; the share `overlap` of their square comes from
 * the topics. */
double synth_router_scale(const struct synth_spec *spec)
{
    return sqrt((1.0 - (double)spec->overlap) / spec->shape.n_embd);
}

double synth_router_topic_scale(const struct synth_spec *spec, uint32_t block)
{
    const struct synth_shape *shape = &spec->shape;
    double gain = synth_topic_gain(shape);
    double added = block < shape->n_layers ? (block + 0.75) / shape->n_layers : 0.7;
    double stream = 1.0 + SYNTH_TOPIC_DIMS * (gain * gain - 1.0) / shape->n_embd + added;
    return sqrt((double)spec->overlap * stream / SYNTH_TOPIC_DIMS) / gain;
}
