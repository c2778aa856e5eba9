/* test_cuda_memory.c [MODEL] - a device's memory and its failures: a session takes no more than was planned;
 * what does not fit is refused or shortens the context; memory that is gone in the middle, a launch that is
 * refused and a kernel that faults end the run by their sentence, with the trace so far. Every case runs in a
 * process of its own: a device that has faulted stays so for its process. Status 77 and a reason without a
 * device. */
#include <cuda_runtime_api.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "session.h"
#include "verify/trace.h"

static const char *path = TEST_SRCDIR "/models/ref-qwen35moe-Q4_K_M.gguf";
static const struct backend_source *source;
static mtp_model *model;
static struct mtp_error error;
static int wrong;

#define EXPECT(condition)                                                                          \
    do {                                                                                           \
        if (!(condition)) {                                                                        \
            printf("  line %d: not %s (%s)\n", __LINE__, #condition, error.message);               \
            wrong = 1;                                                                             \
        }                                                                                          \
    } while (0)

static double mib(uint64_t bytes)
{
    return (double)bytes / (1024.0 * 1024.0);
}

static size_t free_bytes(void)
{
    size_t available = 0, all;
    if (cudaMemGetInfo(&available, &all) != cudaSuccess)
        return 0;
    return available;
}

/* Takes the device's memory until about `left` bytes are free, for as long as the process lives. */
static void take_all_but(size_t left)
{
    void *memory;
    for (size_t step = (size_t)1 << 34; step >= (size_t)1 << 20; step /= 2)
        while (free_bytes() >= left + step && cudaMalloc(&memory, step) == cudaSuccess)
            ;
    (void)cudaGetLastError();
}

static bool more(void *user, int32_t id, uint32_t position)
{
    (void)id, (void)position;
    uint32_t *n = user;
    return --*n > 0;
}

static enum mtp_status steps(mtp_session *session, uint32_t n, int32_t n_draft)
{
    const struct mtp_generation generation = {.sampling = {.top_p = 1}, .n_draft = n_draft};
    enum mtp_status status = MTP_OK;
    for (uint32_t left = n; left > 0 && status == MTP_OK;)
        status = mtp_session_step(session, &generation, more, &left, &error);
    return status;
}

static enum mtp_status begin(mtp_session **session, const struct mtp_session_options *options,
                             size_t n_prompt)
{
    static int32_t ids[600];
    enum mtp_status status = session_open_on(session, model, source, options, 1, &error);
    for (size_t i = 0; i < n_prompt; i++)
        ids[i] = (int32_t)(i * 7919 % model->hparams.n_vocab);
    return status == MTP_OK ? mtp_session_append(*session, ids, n_prompt, &error) : status;
}

/* ---- the cases ----------------------------------------------------------------------------- */

static void compare_with_plan(struct mtp_session_options options)
{
    struct mtp_session_options complete;
    struct memory_fit fit;
    struct backend *backend = NULL;
    mtp_session *session = NULL;
    EXPECT(session_complete_options(model, &options, &complete, &error) == MTP_OK);
    EXPECT(source->open(source->user, &complete, &backend, &error) == MTP_OK);
    EXPECT(memory_fit(&fit, model, source, backend, &complete, 0, &error) == MTP_OK);
    size_t before = free_bytes();
    EXPECT(begin(&session, &options, 600) == MTP_OK);
    size_t opened = free_bytes();
    for (int32_t n_draft = 0; n_draft <= (options.draft ? MTP_MAX_DRAFT : 0); n_draft++)
        EXPECT(steps(session, 60, n_draft) == MTP_OK);
    size_t after = free_bytes();
    uint64_t known = memory_plan_most(&fit.plan) - fit.plan.allowance;
    printf("  planned %.1f MiB and %.1f for the rest; taken %.1f after the prompt, %.1f after all steps\n",
           mib(known), mib(fit.plan.allowance), mib(before - opened), mib(before - after));
    EXPECT(before - after <= memory_plan_most(&fit.plan));
    EXPECT(before - after >= known / 2);
    mtp_session_close(session);
    backend->ops->close(backend);
}

static void no_more_is_taken_than_was_planned(void)
{
    struct mtp_session_options options = {.n_ctx = 16384, .draft = true};
    compare_with_plan(options);
    options.strict = MTP_STRICT_FULL;
    options.n_ctx = 4096;
    compare_with_plan(options);
}

static void what_does_not_fit_is_refused(void)
{
    mtp_session *session = NULL;
    const struct mtp_session_options much = {.n_ctx = 1 << 24, .draft = true, .kv_type = MTP_KV_F32,
                                             .n_batch = 8192};
    take_all_but((size_t)3 << 30);
    EXPECT(begin(&session, &much, 1) == MTP_ERR_MEMORY);
    printf("  %s\n", error.message);
    EXPECT(strstr(error.message, "would fit") != NULL);
}

static void the_context_is_what_fits(void)
{
    mtp_session *session = NULL;
    const struct mtp_session_options options = {.kv_type = MTP_KV_F32, .draft = true, .n_batch = 8192};
    model->hparams.n_ctx_train = 1 << 24;
    take_all_but((size_t)5 << 30);
    EXPECT(begin(&session, &options, 600) == MTP_OK);
    if (session == NULL)
        return;
    printf("  %u positions, %.1f MiB left\n", mtp_session_n_ctx(session), mib(free_bytes()));
    EXPECT(mtp_session_n_ctx(session) < 1 << 24 && mtp_session_n_ctx(session) % CONTEXT_STEP == 0);
    EXPECT(steps(session, 60, 3) == MTP_OK);
}

/* Passes that are recorded after memory is gone run as they are, or the run ends by its sentence. */
static void memory_gone_in_the_middle_is_told_or_borne(void)
{
    mtp_session *session = NULL, *plenty = NULL;
    const struct mtp_session_options options = {.n_ctx = 1024, .draft = true};
    EXPECT(begin(&plenty, &options, 100) == MTP_OK);
    EXPECT(begin(&session, &options, 100) == MTP_OK);
    EXPECT(steps(plenty, 60, 3) == MTP_OK);
    take_all_but(0);
    enum mtp_status status = steps(session, 60, 3);
    printf("  %.1f MiB free: status %d %s\n", mib(free_bytes()), (int)status, status ? error.message : "");
    EXPECT(status == MTP_OK || (status == MTP_ERR_DEVICE && strstr(error.message, "memory") != NULL));
    if (status == MTP_OK)
        EXPECT(mtp_session_logits_digest(session) == mtp_session_logits_digest(plenty));
    mtp_session_close(session);
    mtp_session_close(plenty);
}

struct breaking {
    uint32_t left; /* tokens until it is done */
    void (*break_it)(struct backend *);
    struct backend *backend;
};

static bool break_at(void *user, int32_t id, uint32_t position)
{
    (void)id, (void)position;
    struct breaking *breaking = user;
    if (--breaking->left == 0)
        breaking->break_it(breaking->backend);
    return true;
}

/* Lets `break_it` do so with the 20th token of a traced answer, and looks at what comes of it. */
static void break_in_the_middle(void (*break_it)(struct backend *), bool for_good)
{
    static const int32_t prompt[] = {1, 2, 3};
    const struct mtp_session_options options = {.n_ctx = 1024, .draft = true};
    const struct mtp_generation generation = {.sampling = {.top_p = 1}, .n_draft = 3};
    char file[] = "/tmp/mtp-gpu-trace.XXXXXX";
    mtp_session *session = NULL;
    mtp_trace *trace = NULL;
    close(mkstemp(file));
    EXPECT(session_open_on(&session, model, source, &options, 1, &error) == MTP_OK);
    EXPECT(mtp_session_append(session, prompt, 3, &error) == MTP_OK);
    EXPECT(mtp_trace_create(&trace, file, session, &generation, prompt, 3, false, &error) == MTP_OK);
    struct breaking breaking = {20, break_it, session->backend};
    enum mtp_status status = MTP_OK;
    while (status == MTP_OK)
        status = mtp_session_step(session, &generation, break_at, &breaking, &error);
    EXPECT(status == MTP_ERR_DEVICE);
    printf("  %s\n", error.message);
    EXPECT(strstr(error.message, "CUDA device 0") != NULL);
    EXPECT(mtp_session_append(session, prompt, 1, &error) == MTP_ERR_DEVICE);
    EXPECT(mtp_trace_close(trace, &error) == MTP_OK);
    mtp_session_close(session);
    struct trace_reader *reader = NULL;
    struct mtp_step_record step;
    uint32_t n = 0;
    EXPECT(trace_open(&reader, file, &error) == MTP_OK);
    for (bool ended = false; reader != NULL && !ended;) {
        EXPECT(trace_next(reader, &step, &ended, &error) == MTP_OK);
        n += ended || wrong ? 0 : step.n_tokens;
        ended = ended || wrong;
    }
    EXPECT(n >= 16 && n < 40);
    trace_reader_close(reader);
    unlink(file);
    session = NULL;
    status = session_open_on(&session, model, source, &options, 1, &error);
    EXPECT(for_good ? status != MTP_OK : status == MTP_OK);
    mtp_session_close(session);
}

/* Neither can come from a session: the table of operations is given what is no matrix, no address. */
static void ask_for_no_type(struct backend *backend)
{
    struct embed_args args = {.table = {.type = 0xffff, .n_in = 256, .n_out = 1}, .n_rows = 1};
    backend->ops->embed(backend, &args);
}

static void write_nowhere(struct backend *backend)
{
    float *nowhere = (float *)(uintptr_t)4096;
    backend->ops->add(backend, &(struct add_args){nowhere, nowhere, nowhere, 1, 1});
}

static void a_launch_that_is_refused_ends_the_run(void)
{
    break_in_the_middle(ask_for_no_type, false);
}

static void a_kernel_that_faults_ends_the_run(void)
{
    break_in_the_middle(write_nowhere, true);
}

/* ---- running them -------------------------------------------------------------------------- */

static int run_case(void (*test)(void))
{
    bool there;
    if (device_cuda_source(&source, &there, &error) != MTP_OK) {
        printf("%s\n", error.message);
        return 77;
    }
    if (mtp_model_open(&model, path, NULL, &error) != MTP_OK) {
        printf("%s\n", error.message);
        return 1;
    }
    test();
    mtp_model_close(model);
    return wrong;
}

int main(int argc, char **argv)
{
    static const struct { const char *name; void (*test)(void); } cases[] = {
#define CASE(name) {#name, name}
        CASE(no_more_is_taken_than_was_planned), CASE(what_does_not_fit_is_refused),
        CASE(the_context_is_what_fits), CASE(memory_gone_in_the_middle_is_told_or_borne),
        CASE(a_launch_that_is_refused_ends_the_run), CASE(a_kernel_that_faults_ends_the_run),
    };
    int failed = 0;
    size_t n = sizeof cases / sizeof cases[0];
    if (argc > 1) { /* a large model: the plan alone */
        path = argv[1];
        n = 1;
    }
    for (size_t i = 0; i < n; i++) {
        int status = 1;
        fflush(stdout);
        pid_t child = fork();
        if (child == 0) {
            status = run_case(cases[i].test);
            fflush(stdout);
            _exit(status);
        }
        waitpid(child, &status, 0);
        if (WIFEXITED(status) && WEXITSTATUS(status) == 77)
            return 77;
        bool right = WIFEXITED(status) && WEXITSTATUS(status) == 0;
        printf("%s %s\n", right ? "ok    " : "FAILED", cases[i].name);
        failed += !right;
    }
    return failed;
}
