/* test_device_auto.c - which device a session takes where none is asked for, and what it says of it. The GPU
 * is one without hardware. */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "guarded_device.h"
#include "model_fixture.h"

static mtp_model *model;

static int open_all(void **state)
{
    (void)state;
    guarded_open(&gpu);
    gpu_absence = (struct gpu_absence){NULL, false};
    model = fixture_model(REFERENCE_MODEL);
    return 0;
}

static int close_all(void **state)
{
    (void)state;
    mtp_model_close(model);
    bool empty = gpu.in_use == 0;
    guarded_close(&gpu);
    return empty ? 0 : 1;
}

/* Opens, reads three tokens, and looks where that was done. */
static void takes(struct mtp_session_options options, const char *name, const char *why, bool there)
{
    mtp_session *session;
    struct mtp_error error = {0};
    const int32_t ids[] = {5, 6, 7};
    bool is_there;
    options.n_threads = 1;
    if (mtp_session_open(&session, model, &options, &error) != MTP_OK ||
        mtp_session_append(session, ids, 3, &error) != MTP_OK)
        fail_msg("%s", error.message);
    assert_string_equal(mtp_session_device_name(session), name);
    const char *said = mtp_session_why_cpu(session, &is_there);
    if (strncmp(said, why, strlen(why)) != 0 || (why[0] == '\0' && said[0] != '\0'))
        fail_msg("\"%s\" where \"%s\" is expected", said, why);
    assert_true(is_there == there);
    mtp_session_close(session);
    model_free_images(model);
}

static void fails(struct mtp_session_options options, enum mtp_status status, const char *sentence)
{
    mtp_session *session;
    struct mtp_error error = {0};
    options.n_threads = 1;
    assert_int_equal(mtp_session_open(&session, model, &options, &error), status);
    assert_null(session);
    if (strstr(error.message, sentence) == NULL)
        fail_msg("\"%s\" where \"%s\" is expected", error.message, sentence);
}

static const struct mtp_session_options any = {.n_ctx = 256};
static const struct mtp_session_options on_gpu = {.n_ctx = 256, .device = MTP_DEVICE_CUDA};

static void a_gpu_that_is_there_is_taken(void **state)
{
    (void)state;
    takes(any, "guarded", "", false);
    takes((struct mtp_session_options){0}, "guarded", "", false);
    takes(on_gpu, "guarded", "", false);
}

static void the_cpu_is_taken_when_it_is_asked_for(void **state)
{
    (void)state;
    takes((struct mtp_session_options){.n_ctx = 256, .device = MTP_DEVICE_CPU}, "cpu", "", false);
    takes((struct mtp_session_options){.n_ctx = 256, .isa = MTP_ISA_SCALAR}, "cpu", "", false);
    assert_int_equal(gpu.used, 0);
}

static void a_gpu_that_is_not_there_is_told(void **state)
{
    (void)state;
    gpu_absence = (struct gpu_absence){"no driver", false};
    takes(any, "cpu", "no driver", false);
    fails(on_gpu, MTP_ERR_UNSUPPORTED, "no driver");
    gpu_absence = (struct gpu_absence){"the driver is too old", true};
    takes(any, "cpu", "the driver is too old", true);
    fails(on_gpu, MTP_ERR_UNSUPPORTED, "the driver is too old");
}

static void a_model_that_does_not_fit_runs_on_the_cpu(void **state)
{
    (void)state;
    gpu.limit = 1 << 20;
    takes(any, "cpu", "a context of 256 positions needs ", true);
    takes((struct mtp_session_options){0}, "cpu", "a context of ", true);
    fails(on_gpu, MTP_ERR_MEMORY, "a context of 256 positions needs ");
    gpu.limit = 1;
    takes(any, "cpu", "no memory for a guarded backend", true);
    assert_int_equal(gpu.in_use, 0);
}

/* Room for 1024 positions is enough where they are asked for, or the GPU is. */
static void a_gpu_with_room_for_a_short_context_is_not_taken_unasked(void **state)
{
    (void)state;
    struct mtp_session_options options = {.n_ctx = 1024, .device = MTP_DEVICE_CUDA};
    gpu.most = 0;
    takes(options, "guarded", "", false);
    assert_true(model->hparams.n_ctx_train >= 4096);
    gpu.limit = gpu.most + GUARDED_ALLOWANCE;
    options.device = MTP_DEVICE_AUTO;
    takes(options, "guarded", "", false);
    options.n_ctx = 0;
    takes(options, "cpu", "a context of 4096 positions needs ", true);
    options.device = MTP_DEVICE_CUDA;
    takes(options, "guarded", "", false);
}

static void a_gpu_that_fails_while_it_is_opened_is_left(void **state)
{
    (void)state;
    gpu.fail_upload = 1;
    takes(any, "cpu", "the device has left in an upload", true);
    gpu.failed = NULL;
}

/* Asks for things on the host that are wrong wherever it runs. */
static void a_wrong_option_is_wrong_everywhere(void **state)
{
    (void)state;
    fails((struct mtp_session_options){.n_ctx = 1 << 25}, MTP_ERR_USAGE, "the context length");
}

static void the_description_plans_for_the_device_taken(void **state)
{
    (void)state;
    static const struct { enum mtp_device device; const char *text; } cases[] = {
        {MTP_DEVICE_AUTO, "memory of the device for 256 positions"},
        {MTP_DEVICE_CUDA, "memory of the device for 256 positions"},
        {MTP_DEVICE_CPU, "memory for 256 positions"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        struct mtp_session_options options = any;
        struct mtp_error error = {0};
        char *text = NULL;
        size_t length = 0;
        FILE *out = open_memstream(&text, &length);
        options.device = cases[i].device;
        assert_int_equal(mtp_model_print_info(model, &options, out, &error), MTP_OK);
        fclose(out);
        assert_non_null(strstr(text, cases[i].text));
        free(text);
    }
    assert_int_equal(gpu.in_use, 0);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, open_all, close_all)
    const struct CMUnitTest tests[] = {
        TEST(a_gpu_that_is_there_is_taken),
        TEST(the_cpu_is_taken_when_it_is_asked_for),
        TEST(a_gpu_that_is_not_there_is_told),
        TEST(a_model_that_does_not_fit_runs_on_the_cpu),
        TEST(a_gpu_with_room_for_a_short_context_is_not_taken_unasked),
        TEST(a_gpu_that_fails_while_it_is_opened_is_left),
        TEST(a_wrong_option_is_wrong_everywhere),
        TEST(the_description_plans_for_the_device_taken),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
