/* test_memory_plan.c - on a device of a set amount of memory: the plan is what is allocated, the context is
 * what fits, what does not fit is refused with the numbers, and a failure in the middle leaves nothing. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "device_runs.h"
#include "guarded_backend.h"

#define DENSE_MODEL "tests/golden/models/dense-q4_k_m.gguf"

static struct guarded_device device;

static int open_device(void **state)
{
    (void)state;
    guarded_open(&device);
    return 0;
}

/* Whatever a test did, nothing stays on the device. */
static int close_device(void **state)
{
    (void)state;
    bool empty = device.in_use == 0;
    guarded_close(&device);
    return empty ? 0 : 1;
}

static struct memory_fit fit_of(mtp_model *model, const struct mtp_session_options *options)
{
    struct mtp_session_options complete;
    struct mtp_error error = {0};
    struct memory_fit fit;
    struct backend *backend;
    assert_int_equal(session_complete_options(model, options, &complete, &error), MTP_OK);
    assert_int_equal(device.source.open(&device, &complete, &backend, &error), MTP_OK);
    if (memory_fit(&fit, model, &device.source, backend, &complete,
                   options->n_ctx > 0 ? 0 : CONTEXT_STEP, &error) != MTP_OK)
        fail_msg("%s", error.message);
    backend->ops->close(backend);
    return fit;
}

static void check_plan(const char *file, struct mtp_session_options options)
{
    mtp_model *model = fixture_model(file);
    options.n_threads = 1;
    for (int again = 0; again < 2; again++) { /* the second session finds the weights there */
        uint64_t before = device.in_use;
        device.most = before;
        struct memory_plan plan = fit_of(model, &options).plan;
        assert_int_equal(plan.weights > 0, again == 0);
        assert_int_equal(plan.strict > 0, options.strict != MTP_STRICT_OFF);
        mtp_session *session = device_session(&device.source, model, &options);
        assert_int_equal(device.in_use - before, plan.weights + plan.kv + plan.state + plan.workspace +
                                                     plan.strict + plan.backends);
        assert_int_equal(device.most - before, memory_plan_most(&plan) - plan.allowance);
        mtp_session_close(session);
    }
    mtp_model_close(model);
    assert_int_equal(device.in_use, 0);
}

static void the_plan_is_what_is_allocated(void **state)
{
    (void)state;
    static const char *const files[] = {REFERENCE_MODEL, DENSE_MODEL};
    for (int i = 0; i < 2; i++)
        for (int strict = MTP_STRICT_OFF; strict <= MTP_STRICT_SAMPLE; strict++)
            for (int draft = 0; draft < 2; draft++) {
                struct mtp_session_options options = {.n_ctx = 1000, .draft = draft != 0,
                                                      .strict = (enum mtp_strict_mode)strict};
                check_plan(files[i], options);
                options.kv_type = MTP_KV_F32;
                options.n_batch = 33;
                options.n_ctx = 300;
                check_plan(files[i], options);
            }
}

/* Leaves room on the device for just such a session. */
static void room_for(mtp_model *model, struct mtp_session_options options)
{
    device.limit = 0;
    struct memory_plan plan = fit_of(model, &options).plan;
    device.limit = memory_plan_most(&plan);
}

static uint32_t context_found(mtp_model *model, struct mtp_session_options options)
{
    mtp_session *session = device_session(&device.source, model, &options);
    uint32_t n_ctx = mtp_session_n_ctx(session);
    mtp_session_close(session);
    model_free_images(model);
    return n_ctx;
}

static void the_context_is_what_fits(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    assert_true(model->hparams.n_ctx_train > 1024);
    for (int strict = MTP_STRICT_OFF; strict <= MTP_STRICT_FULL; strict++) {
        struct mtp_session_options options = {.n_threads = 1, .draft = true, .n_ctx = 1024,
                                              .strict = (enum mtp_strict_mode)strict};
        room_for(model, options);
        options.n_ctx = 0;
        assert_int_equal(context_found(model, options), 1024);
        device.limit -= 1;
        assert_int_equal(context_found(model, options), 768);
        device.limit = 0;
        assert_int_equal(context_found(model, options), model->hparams.n_ctx_train);
        options.n_ctx = 256;
        options.n_batch = 512;
        room_for(model, options);
        options.n_ctx = 0; /* batches become shorter, too */
        assert_int_equal(context_found(model, options), 256);
        options.n_ctx = 200;
        assert_int_equal(context_found(model, options), 200);
    }
    mtp_model_close(model);
}

static void refused(mtp_model *model, struct mtp_session_options options, const char *begins,
                    const char *ends)
{
    struct mtp_error error = {0};
    mtp_session *session;
    uint64_t packs = device.packs, uploads = device.uploads;
    assert_int_equal(session_open_on(&session, model, &device.source, &options, 1, &error), MTP_ERR_MEMORY);
    assert_null(session);
    size_t length = strlen(error.message);
    if (strncmp(error.message, begins, strlen(begins)) != 0 || length < strlen(ends) ||
        strcmp(error.message + length - strlen(ends), ends) != 0)
        fail_msg("\"%s\" where \"%s ... %s\" is expected", error.message, begins, ends);
    assert_int_equal(device.in_use, 0);
    assert_true(device.packs == packs && device.uploads == uploads);
}

static void what_does_not_fit_is_refused_with_the_numbers(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    struct mtp_session_options options = {.n_threads = 1, .draft = true, .n_ctx = 1024};
    room_for(model, options);
    options.n_ctx = 2048;
    struct memory_plan plan = {0};
    size_t limit = device.limit;
    device.limit = 0;
    plan = fit_of(model, &options).plan;
    device.limit = limit;
    char text[512];
    const double mib = 1024.0 * 1024.0;
    snprintf(text, sizeof text,
             "a context of 2048 positions needs %.1f MiB of the device's memory (weights %.1f, KV "
             "cache %.1f, recurrent state %.1f, workspace %.1f, strict check 0.0, backend %.1f), and %.1f "
             "are free:",
             (double)memory_plan_most(&plan) / mib, (double)plan.weights / mib, (double)plan.kv / mib,
             (double)plan.state / mib, (double)plan.workspace / mib,
             (double)(plan.backends + plan.allowance) / mib, (double)limit / mib);
    refused(model, options, text, ": a context of 1024 would fit");
    device.limit = 1 << 20;
    refused(model, options, "a context of 2048 positions needs ", " MiB more than that");
    options.n_ctx = 0;
    refused(model, options, "a context of 256 positions needs ", " MiB more than that");
    options.n_ctx = 100;
    refused(model, options, "a context of 100 positions needs ", " MiB more than that");
    mtp_model_close(model);
}

/* The n-th allocation finds no memory, for every n there is. */
static void memory_that_is_short_after_all_leaves_nothing(void **state)
{
    (void)state;
    const struct mtp_session_options options = {.n_ctx = 256, .n_threads = 1, .draft = true,
                                                .strict = MTP_STRICT_FULL};
    for (size_t n = 1;; n++) {
        mtp_model *model = fixture_model(REFERENCE_MODEL);
        mtp_session *session;
        struct mtp_error error = {0};
        device.allocs = 0;
        device.fail_alloc = n;
        enum mtp_status status = session_open_on(&session, model, &device.source, &options, 1, &error);
        device.fail_alloc = 0;
        mtp_session_close(session);
        mtp_model_close(model);
        assert_int_equal(device.in_use, 0);
        if (status == MTP_OK) {
            assert_int_equal(device.allocs, n - 1);
            assert_true(n > 20);
            return;
        }
        assert_int_equal(status, MTP_ERR_MEMORY);
        if (strstr(error.message, "not enough memory on the device for ") != error.message &&
            strcmp(error.message, "no memory for a guarded backend") != 0)
            fail_msg("allocation %zu: \"%s\"", n, error.message);
    }
}

static void a_device_that_fails_while_weights_are_uploaded_leaves_nothing(void **state)
{
    (void)state;
    const struct mtp_session_options options = {.n_ctx = 256, .n_threads = 1};
    for (uint64_t n = 1; n < 100; n += 33) {
        mtp_model *model = fixture_model(REFERENCE_MODEL);
        mtp_session *session;
        struct mtp_error error = {0};
        device.fail_upload = device.uploads + n;
        assert_int_equal(session_open_on(&session, model, &device.source, &options, 1, &error),
                         MTP_ERR_DEVICE);
        assert_string_equal(error.message, "the device has left in an upload");
        assert_null(session);
        device.failed = NULL;
        mtp_model_close(model);
        assert_int_equal(device.in_use, 0);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_plan_is_what_is_allocated, open_device, close_device),
        cmocka_unit_test_setup_teardown(the_context_is_what_fits, open_device, close_device),
        cmocka_unit_test_setup_teardown(what_does_not_fit_is_refused_with_the_numbers, open_device,
                                        close_device),
        cmocka_unit_test_setup_teardown(memory_that_is_short_after_all_leaves_nothing, open_device,
                                        close_device),
        cmocka_unit_test_setup_teardown(a_device_that_fails_while_weights_are_uploaded_leaves_nothing,
                                        open_device, close_device),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
