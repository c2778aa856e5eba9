/* test_guarded.c - sessions on a device whose memory ends the program when the host touches it
 * (guarded_backend.h): the runs of device_runs.h, and what only this device can tell. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "device_runs.h"
#include "guarded_backend.h"
#include "kernels/cpu/backend.h"

static const struct mtp_sampling greedy = {.temperature = 0.0f, .top_p = 1.0f};
static struct guarded_device device;

static void the_guard_guards(void **state)
{
    (void)state;
    struct backend *backend = NULL;
    const struct mtp_session_options options = {.n_threads = 1};
    assert_int_equal(device.source.open(device.source.user, &options, &backend, NULL), MTP_OK);
    volatile uint8_t *memory = backend->ops->alloc(backend, 1, MEMORY_WHOLE);
    pid_t child = fork();
    if (child == 0) {
        signal(SIGSEGV, SIG_DFL);
        _exit(memory[0]);
    }
    int status = 0;
    assert_int_equal(waitpid(child, &status, 0), child);
    assert_false(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    uint8_t byte = 7;
    backend->ops->upload(backend, (void *)(uintptr_t)memory, &byte, 1);
    byte = 0;
    backend->ops->download(backend, &byte, (const void *)(uintptr_t)memory, 1);
    assert_int_equal(byte, 7);
    backend->ops->free(backend, (void *)(uintptr_t)memory, 1);
    backend->ops->close(backend);
}

/* Greedy plain steps look at nothing but what each says of its row. */
static void plain_steps_leave_the_logits_on_the_device(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 20);
    const struct mtp_session_options options = {.n_ctx = 256, .n_threads = 1};
    mtp_session *session = device_session(&device.source, model, &options);
    struct run run = {.most = 21, .stop_at = -1};
    assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &run.error), MTP_OK);
    uint64_t before = device.downloads, repeatable = device.repeatable;
    generation_go_on(&run, session, &(struct mtp_generation){greedy, 0, 0, 0});
    assert_int_equal(run.status, MTP_OK);
    assert_int_equal(device.downloads - before, 20); /* the last token ends the run: no pass reads it */
    assert_int_equal(device.repeatable - repeatable, 19);
    mtp_session_close(session);
    mtp_model_close(model);
}

/* One image serves every session of the model, and a strict session's shadow. */
static void weights_are_uploaded_once_a_model(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct mtp_session_options options = {.n_ctx = 64, .draft = true, .n_threads = 1,
                                                .strict = MTP_STRICT_FULL};
    uint64_t before = device.packs;
    mtp_session *first = device_session(&device.source, model, &options);
    uint64_t packs = device.packs, uploads = device.uploads;
    size_t in_use = device.in_use;
    mtp_session *second = device_session(&device.source, model, &options);
    assert_int_equal(device.packs, packs);
    assert_int_equal(device.uploads, uploads);
    assert_int_equal(packs > before, cpu_has_avx2());
    mtp_session_close(first);
    mtp_session_close(second);
    assert_true(device.in_use > 0 && device.in_use < in_use);
    assert_ptr_not_equal(model->images, NULL);
    mtp_model_close(model);
    assert_int_equal(device.in_use, 0);
}

static void a_device_that_fails_ends_the_run_with_its_sentence(void **state)
{
    (void)state;
    mtp_model *model = fixture_model(REFERENCE_MODEL);
    const struct prompt prompt = device_prompt(model, 20);
    for (int32_t depth = 0; depth <= 3; depth += 3) {
        const struct mtp_session_options options = {.n_ctx = 256, .draft = true, .n_threads = 1};
        struct run run = {.most = 20, .stop_at = -1};
        mtp_session *session = device_session(&device.source, model, &options);
        assert_int_equal(mtp_session_append(session, prompt.ids, prompt.n, &run.error), MTP_OK);
        generation_go_on(&run, session, &(struct mtp_generation){greedy, depth, 0, 0});
        assert_int_equal(run.status, MTP_OK);
        device.failed = "the device has left";
        run.most = 40;
        generation_go_on(&run, session, &(struct mtp_generation){greedy, depth, 0, 0});
        assert_int_equal(run.status, MTP_ERR_DEVICE);
        assert_string_equal(run.error.message, "the device has left");
        assert_int_equal(mtp_session_append(session, prompt.ids, 1, &run.error), MTP_ERR_DEVICE);
        run.most = run.n + 1; /* a token that would be drawn from what is there already */
        generation_go_on(&run, session, &(struct mtp_generation){greedy, depth, 0, 0});
        assert_int_equal(run.status, MTP_ERR_DEVICE);
        device.failed = NULL;
        mtp_session_close(session);
    }
    mtp_model_close(model);
}

static void nothing_is_left_on_the_device(void **state)
{
    (void)state;
    assert_true(device.used > 0);
    assert_int_equal(device.in_use, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_guard_guards),
        cmocka_unit_test(plain_steps_leave_the_logits_on_the_device),
        cmocka_unit_test(weights_are_uploaded_once_a_model),
        cmocka_unit_test(a_device_that_fails_ends_the_run_with_its_sentence),
        cmocka_unit_test(nothing_is_left_on_the_device),
    };
    guarded_open(&device);
    int failed = device_runs(&device.source, "runs on the guarded device");
    failed += cmocka_run_group_tests(tests, NULL, NULL);
    guarded_close(&device);
    return failed;
}
