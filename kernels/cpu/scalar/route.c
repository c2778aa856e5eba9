/* route.c - the MoE router of each row: the definition. (Listing pairs by expert is the backend's
 * part, kernels/cpu/backend.c.) */
#include "kernels/cpu/kernels.h"
#include "kernels/fmath.h"
#include "kernels/reduce.h"

static void softmax(const float *x, size_t n, float *p)
{
    float most = x[0];
    for (size_t i = 1; i < n; i++)
        most = x[i] > most ? x[i] : most;
    for (size_t i = 0; i < n; i++)
        p[i] = mtp_expf(x[i] - most);
    float total = sum64(p, n);
    for (size_t i = 0; i < n; i++)
        p[i] = p[i] / total;
}

static size_t take_largest(float *p, size_t n)
{
    size_t best = 0;
    for (size_t i = 1; i < n; i++)
        if (p[i] > p[best])
            best = i;
    return best;
}

void route_scalar(const struct route_args *args, int64_t begin, int64_t end, struct cpu_task *task)
{
    for (int64_t r = begin; r < end; r++) {
        const float *logits = args->logits + (size_t)r * args->n_experts;
        int32_t *experts = args->experts + (size_t)r * args->n_used;
        float *weights = args->weights + (size_t)r * args->n_used;
        float p[MAX_EXPERTS];
        for (uint32_t e = 0; e < args->n_experts; e++)
            if (f32_not_finite(logits[e]))
                cpu_report_fault(task->fault, "route", (int32_t)r);
        softmax(logits, args->n_experts, p);
        float total = 0.0f;
        for (uint32_t k = 0; k < args->n_used; k++) {
            size_t best = take_largest(p, args->n_experts);
            experts[k] = (int32_t)best;
            weights[k] = p[best];
            total += p[best];
            p[best] = -1.0f;
        }
        total = total > 6.1e-5f ? total : 6.1e-5f;
        for (uint32_t k = 0; k < args->n_used; k++)
            weights[k] = weights[k] / total;
    }
}
