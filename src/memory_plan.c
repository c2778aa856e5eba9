/* memory_plan.c - see memory_plan.h. */
#include "memory_plan.h"

#include <inttypes.h>

#include "session.h"

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static uint32_t smaller(uint32_t a, uint32_t b)
{
    return a < b ? a : b;
}

uint64_t memory_plan_most(const struct memory_plan *plan)
{
    uint64_t session = plan->kv + plan->state + plan->workspace + plan->strict;
    uint64_t later = session > plan->staging ? session : plan->staging;
    return plan->weights + plan->backends + plan->allowance + later;
}

/* ---- the question ------------------------------------------------------------------------ */

struct question {
    const mtp_model *model;
    struct backend *backend;
    const struct mtp_session_options *options;
    uint64_t weights, staging; /* of the image, 0 once it is there */
    uint64_t available;
};

static struct backend_memory memory_of(struct backend *backend, uint32_t n_ctx)
{
    struct backend_memory memory;
    backend->ops->memory(backend, n_ctx, &memory);
    return memory;
}

static struct memory_plan plan_for(const struct question *q, uint32_t n_ctx)
{
    struct mtp_session_options options = *q->options;
    options.n_ctx = n_ctx;
    options.n_batch = smaller(options.n_batch, n_ctx);
    struct memory_plan plan;
    session_plan(q->model, &options, 1, &plan);
    struct backend_memory session = memory_of(q->backend, n_ctx), image = memory_of(q->backend, 0);
    uint32_t n_sessions = options.strict != MTP_STRICT_OFF ? 2 : 1;
    plan.weights = q->weights;
    plan.staging = q->staging;
    plan.backends = n_sessions * session.own + (q->weights > 0 ? image.own : 0);
    plan.allowance = n_sessions * session.allowance;
    return plan;
}

static bool fits(const struct question *q, uint32_t n_ctx)
{
    struct memory_plan plan = plan_for(q, n_ctx);
    return memory_plan_most(&plan) <= q->available;
}

/* The longest context up to `most` that fits, 0 when none does. */
static uint32_t longest(const struct question *q, uint32_t most)
{
    if (fits(q, most))
        return most;
    uint32_t low = 0, high = (most + CONTEXT_STEP - 1) / CONTEXT_STEP; /* steps: fits, does not */
    while (high - low > 1) {
        uint32_t middle = low + (high - low) / 2;
        if (fits(q, middle * CONTEXT_STEP))
            low = middle;
        else
            high = middle;
    }
    return low * CONTEXT_STEP;
}

/* ---- the answer -------------------------------------------------------------------------- */

static enum mtp_status refuse(const struct question *q, uint32_t n_ctx, struct mtp_error *error)
{
    struct memory_plan plan = plan_for(q, n_ctx);
    uint32_t best = longest(q, n_ctx);
    uint32_t least = smaller(n_ctx, CONTEXT_STEP);
    struct memory_plan smallest = plan_for(q, least);
    char advice[96];
    if (best > 0)
        snprintf(advice, sizeof advice, "a context of %" PRIu32 " would fit", best);
    else
        snprintf(advice, sizeof advice, "even one of %" PRIu32 " needs %.1f MiB more than that", least,
                 mib(memory_plan_most(&smallest) - q->available));
    return mtp_fail(error, MTP_ERR_MEMORY,
                    "a context of %" PRIu32 " positions needs %.1f MiB of the device's memory (weights %.1f, "
                    "KV cache %.1f, recurrent state %.1f, workspace %.1f, strict check %.1f, backend %.1f), "
                    "and %.1f are free: %s", n_ctx, mib(memory_plan_most(&plan)), mib(plan.weights),
                    mib(plan.kv), mib(plan.state), mib(plan.workspace), mib(plan.strict),
                    mib(plan.backends + plan.allowance), mib(q->available), advice);
}

enum mtp_status memory_fit(struct memory_fit *fit, const mtp_model *model,
                           const struct backend_source *source, struct backend *backend,
                           struct mtp_session_options *options, uint32_t least, struct mtp_error *error)
{
    struct backend_memory memory = memory_of(backend, 0);
    struct question q = {.model = model, .backend = backend, .options = options};
    q.available = memory.free + memory.own; /* the backend has taken that already */
    enum mtp_status status =
        model_image_bytes(model, source, backend, &q.weights, &q.staging, error);
    if (status != MTP_OK)
        return status;
    uint32_t wanted = least == 0 ? options->n_ctx : smaller(least, options->n_ctx);
    uint32_t n_ctx = longest(&q, options->n_ctx);
    if (n_ctx < wanted)
        return refuse(&q, wanted, error);
    options->n_ctx = n_ctx;
    options->n_batch = smaller(options->n_batch, n_ctx);
    *fit = (struct memory_fit){plan_for(&q, n_ctx), q.available};
    return MTP_OK;
}

enum mtp_status backend_fail_memory(struct backend *backend, struct mtp_error *error, const char *what,
                                    uint64_t bytes)
{
    const char *failed = backend->ops->error(backend);
    if (failed != NULL)
        return mtp_fail(error, MTP_ERR_DEVICE, "%s", failed);
    if (backend->ops->host_memory)
        return mtp_fail_memory(error, what, bytes);
    return mtp_fail(error, MTP_ERR_MEMORY,
                    "not enough memory on the device for %s: %.1f MiB wanted, %.1f MiB free", what,
                    mib(bytes), mib(memory_of(backend, 0).free));
}
