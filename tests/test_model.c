/* test_model.c - what opening a model accepts, and the sentence it gives for what it refuses. */
#include <fcntl.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "session.h"
#include "toy_model.h"

static char folder[64], path[96];

static int make_folder(void **state)
{
    (void)state;
    strcpy(folder, "test_model.XXXXXX");
    if (mkdtemp(folder) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/toy.gguf", folder);
    return 0;
}

static int remove_folder(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(folder);
}

/* Opens the toy; on success evaluates three tokens. */
static enum mtp_status try_toy(const struct toy *toy, struct mtp_error *error)
{
    toy_save(toy, path);
    mtp_model *model = NULL;
    mtp_session *session = NULL;
    const struct mtp_session_options options = {.n_threads = 1, .device = MTP_DEVICE_CPU};
    const int32_t ids[] = {65, 66, 67};
    memset(error, 0, sizeof *error);
    enum mtp_status status = mtp_model_open(&model, path, NULL, error);
    if (status == MTP_OK)
        status = mtp_session_open(&session, model, &options, error);
    if (status == MTP_OK)
        status = mtp_session_append(session, ids, 3, error);
    mtp_session_close(session);
    mtp_model_close(model);
    return status;
}

static void refused(const struct toy *toy, enum mtp_status expected, const char *sentence)
{
    struct mtp_error error;
    enum mtp_status status = try_toy(toy, &error);
    if (status != expected || strstr(error.message, sentence) == NULL)
        fail_msg("status %d, \"%s\", where %d, \"%s\" is expected", status, error.message, expected,
                 sentence);
    if (strstr(error.message, path) == NULL && expected != MTP_ERR_NUMERIC)
        fail_msg("\"%s\" does not name the file", error.message);
}

static void whole_toys_open_and_compute(void **state)
{
    (void)state;
    static const struct toy toys[] = {{0}, {.moe = true}, {.mtp = true}, {.moe = true, .mtp = true},
                                      {.f16_vectors = "yes"}, {.without_tensor = "output.weight"}};
    for (size_t i = 0; i < sizeof toys / sizeof toys[0]; i++) {
        struct mtp_error error;
        if (try_toy(&toys[i], &error) != MTP_OK)
            fail_msg("toy %zu: %s", i, error.message);
    }
}

static void every_key_is_missed_by_name(void **state)
{
    (void)state;
    static const char *const dense[] = {
        "block_count", "context_length", "embedding_length", "attention.head_count",
        "attention.head_count_kv", "attention.key_length", "attention.value_length",
        "rope.dimension_count", "rope.freq_base", "attention.layer_norm_rms_epsilon",
        "ssm.conv_kernel", "ssm.state_size", "ssm.group_count", "ssm.time_step_rank",
        "ssm.inner_size", "feed_forward_length"};
    static const char *const moe[] = {"expert_count", "expert_used_count",
                                      "expert_feed_forward_length",
                                      "expert_shared_feed_forward_length"};
    char key[96], sentence[128];
    for (size_t i = 0; i < sizeof dense / sizeof dense[0]; i++) {
        snprintf(key, sizeof key, "qwen35.%s", dense[i]);
        snprintf(sentence, sizeof sentence, "key %s is missing", key);
        refused(&(struct toy){.without_key = key}, MTP_ERR_FORMAT, sentence);
    }
    for (size_t i = 0; i < sizeof moe / sizeof moe[0]; i++) {
        snprintf(key, sizeof key, "qwen35moe.%s", moe[i]);
        snprintf(sentence, sizeof sentence, "key %s is missing", key);
        refused(&(struct toy){.moe = true, .without_key = key}, MTP_ERR_FORMAT, sentence);
    }
}

static void absurd_numbers_are_refused_by_name(void **state)
{
    (void)state;
    static const struct {
        const char *key;
        uint32_t value;
    } cases[] = {
        {"qwen35.block_count", 0}, {"qwen35.block_count", 100000},
        {"qwen35.embedding_length", 0}, {"qwen35.embedding_length", 0xffffffff},
        {"qwen35.attention.head_count", 0}, {"qwen35.attention.head_count", 70000},
        {"qwen35.attention.head_count_kv", 0}, {"qwen35.attention.key_length", 100000},
        {"qwen35.rope.dimension_count", 0}, {"qwen35.ssm.state_size", 4096},
        {"qwen35.ssm.group_count", 0}, {"qwen35.ssm.conv_kernel", 0},
        {"qwen35.full_attention_interval", 0}, {"qwen35.context_length", 0},
        {"qwen35.feed_forward_length", 0xfffffff0},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused(&(struct toy){.change_key = cases[i].key, .value = cases[i].value}, MTP_ERR_FORMAT,
                cases[i].key);
    refused(&(struct toy){.moe = true, .change_key = "qwen35moe.expert_used_count", .value = 5},
            MTP_ERR_FORMAT, "expert_used_count must be at most expert_count");
    refused(&(struct toy){.mtp = true, .change_key = "qwen35.nextn_predict_layers", .value = 2},
            MTP_ERR_UNSUPPORTED, "at most one MTP block");
}

static void numbers_that_contradict_each_other_are_refused(void **state)
{
    (void)state;
    refused(&(struct toy){.change_key = "qwen35.attention.value_length", .value = 8}, MTP_ERR_FORMAT,
            "attention.value_length must equal attention.key_length");
    refused(&(struct toy){.change_key = "qwen35.attention.head_count_kv", .value = 3},
            MTP_ERR_FORMAT, "attention.head_count must be a multiple");
    refused(&(struct toy){.change_key = "qwen35.rope.dimension_count", .value = 18}, MTP_ERR_FORMAT,
            "rope.dimension_count must be even");
    refused(&(struct toy){.change_key = "qwen35.rope.dimension_count", .value = 7}, MTP_ERR_FORMAT,
            "rope.dimension_count must be even");
    refused(&(struct toy){.change_key = "qwen35.ssm.inner_size", .value = 31}, MTP_ERR_FORMAT,
            "ssm.inner_size must be");
    refused(&(struct toy){.change_key = "qwen35.ssm.group_count", .value = 3}, MTP_ERR_FORMAT,
            "ssm.time_step_rank must be a multiple");
}

static void floats_that_cannot_be_are_refused(void **state)
{
    (void)state;
    static const float values[] = {NAN, INFINITY, -1.0f, 0.0f, 1e30f};
    for (size_t i = 0; i < sizeof values / sizeof values[0]; i++) {
        refused(&(struct toy){.change_f32 = "qwen35.rope.freq_base", .f32 = values[i]},
                MTP_ERR_FORMAT, "qwen35.rope.freq_base");
        refused(&(struct toy){.change_f32 = "qwen35.attention.layer_norm_rms_epsilon",
                              .f32 = values[i]},
                MTP_ERR_FORMAT, "qwen35.attention.layer_norm_rms_epsilon");
    }
}

static const char *const dense_tensors[] = {
    "token_embd.weight", "output_norm.weight", "blk.0.attn_norm.weight", "blk.0.attn_qkv.weight",
    "blk.0.attn_gate.weight", "blk.0.ssm_alpha.weight", "blk.0.ssm_beta.weight",
    "blk.0.ssm_out.weight", "blk.0.ssm_conv1d.weight", "blk.0.ssm_a", "blk.0.ssm_dt.bias",
    "blk.0.ssm_norm.weight", "blk.0.ffn_gate.weight", "blk.1.attn_q.weight",
    "blk.1.attn_k.weight", "blk.1.attn_v.weight", "blk.1.attn_output.weight",
    "blk.1.attn_q_norm.weight", "blk.1.attn_k_norm.weight", "blk.1.post_attention_norm.weight",
    "blk.1.ffn_up.weight", "blk.1.ffn_down.weight"};

static void every_tensor_is_missed_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dense_tensors / sizeof dense_tensors[0]; i++) {
        char sentence[96];
        snprintf(sentence, sizeof sentence, "tensor %s is missing", dense_tensors[i]);
        refused(&(struct toy){.without_tensor = dense_tensors[i]}, MTP_ERR_FORMAT, sentence);
    }
    static const char *const moe[] = {"ffn_gate_inp.weight", "ffn_gate_exps.weight",
                                      "ffn_down_exps.weight", "ffn_gate_inp_shexp.weight",
                                      "ffn_up_shexp.weight", "ffn_down_shexp.weight"};
    for (size_t i = 0; i < sizeof moe / sizeof moe[0]; i++) {
        char name[64];
        snprintf(name, sizeof name, "blk.1.%s", moe[i]);
        refused(&(struct toy){.moe = true, .without_tensor = name}, MTP_ERR_FORMAT, name);
    }
}

static void every_wrong_shape_is_refused_by_name(void **state)
{
    (void)state;
    for (size_t i = 0; i < sizeof dense_tensors / sizeof dense_tensors[0]; i++)
        refused(&(struct toy){.reshape_tensor = dense_tensors[i]}, MTP_ERR_FORMAT, dense_tensors[i]);
}

static void integers_cannot_be_a_matrix(void **state)
{
    (void)state;
    refused(&(struct toy){.retype_tensor = "blk.1.ffn_up.weight"}, MTP_ERR_UNSUPPORTED,
            "blk.1.ffn_up.weight has type I32, which cannot be a matrix (supported: F32");
    refused(&(struct toy){.retype_tensor = "blk.1.attn_norm.weight"}, MTP_ERR_UNSUPPORTED,
            "blk.1.attn_norm.weight has type I32 where F32 is expected");
}

static void a_nan_in_the_weights_ends_the_run_naming_layer_and_operation(void **state)
{
    (void)state;
    static const struct {
        const char *tensor, *where;
    } cases[] = {
        {"blk.0.ssm_out.weight", "layer 0, operation rms_norm"},
        {"blk.1.attn_v.weight", "layer 1, operation kv_store"},
        {"blk.1.ffn_down.weight", "the output head"},
        {"output.weight", "the output head"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        refused(&(struct toy){.poison_tensor = cases[i].tensor}, MTP_ERR_NUMERIC, cases[i].where);
}

static void a_companion_alone_is_no_model(void **state)
{
    (void)state;
    refused(&(struct toy){.mtp = true, .without_tensor = "blk.0.attn_norm.weight"}, MTP_ERR_FORMAT,
            "holds only an MTP block");
}

/* Any one byte of the description changed: refused in a sentence, or it still computes. */
static void a_model_damaged_at_any_byte_of_its_description_never_crashes(void **state)
{
    (void)state;
    toy_save(&(struct toy){.moe = true, .mtp = true}, path);
    mtp_model *model = NULL;
    struct mtp_error error;
    assert_int_equal(mtp_model_open(&model, path, NULL, &error), MTP_OK);
    const uint8_t *begin = (const uint8_t *)gguf_tensor_at(model->file, 0)->data;
    struct stat info;
    assert_int_equal(stat(path, &info), 0);
    uint64_t data = 0;
    for (uint64_t i = 0; i < gguf_n_tensors(model->file); i++)
        data += gguf_tensor_at(model->file, i)->n_bytes;
    assert_non_null(begin);
    mtp_model_close(model);
    off_t described = info.st_size - (off_t)data;
    int file = open(path, O_RDWR | O_CLOEXEC);
    assert_true(file >= 0);
    size_t refused_count = 0, opened = 0;
    for (off_t at = 0; at < described; at += 3) {
        uint8_t old, changed;
        assert_int_equal(pread(file, &old, 1, at), 1);
        changed = (uint8_t)(old ^ (1u << (at % 8)));
        assert_int_equal(pwrite(file, &changed, 1, at), 1);
        mtp_session *session = NULL;
        const struct mtp_session_options options = {.n_threads = 1, .n_ctx = 8, .device = MTP_DEVICE_CPU};
        const int32_t ids[] = {1, 2};
        enum mtp_status status = mtp_model_open(&model, path, NULL, &error);
        if (status == MTP_OK)
            status = mtp_session_open(&session, model, &options, &error);
        if (status == MTP_OK)
            status = mtp_session_append(session, ids, 2, &error);
        refused_count += status != MTP_OK;
        opened += status == MTP_OK;
        if (status != MTP_OK)
            assert_true(error.message[0] != '\0');
        mtp_session_close(session);
        mtp_model_close(model);
        assert_int_equal(pwrite(file, &old, 1, at), 1);
    }
    close(file);
    print_message("%zu refused, %zu computed\n", refused_count, opened);
    assert_true(refused_count > 200 && opened > 100);
}

static void a_token_reads_every_matrix_once_and_experts_by_use(void **state)
{
    (void)state;
    toy_save(&(struct toy){.moe = true, .mtp = true}, path);
    mtp_model *model = NULL;
    struct mtp_error error;
    assert_int_equal(mtp_model_open(&model, path, NULL, &error), MTP_OK);
    struct mtp_model_info info;
    mtp_model_get_info(model, &info);
    uint64_t attention = 32 * (64 + 16 + 16) + 32 * 32, delta = 32 * (64 + 32 + 2 + 2) + 32 * 32;
    uint64_t moe = 32 * 4 + 2 * 3 * 32 * 32 + 32 + 3 * 32 * 32;
    assert_int_equal(info.bytes_per_token,
                     4 * (32 + 256 * 32 + attention + delta + 2 * moe));
    assert_int_equal(info.n_layers, 2);
    assert_int_equal(info.n_mtp_layers, 1);
    assert_string_equal(info.name, "toy");
    mtp_model_close(model);
}

static void the_mark_of_a_synthetic_file_is_found_in_model_and_companion(void **state)
{
    (void)state;
    char companion[sizeof path + 16];
    snprintf(companion, sizeof companion, "%s.mtp", path);
    for (int marked = 0; marked < 4; marked++) {
        toy_save(&(struct toy){.mtp = true, .synthetic = (marked & 1) != 0}, path);
        toy_save(&(struct toy){.mtp = true, .synthetic = (marked & 2) != 0}, companion);
        mtp_model *model = NULL;
        struct mtp_error error;
        const struct mtp_model_options options = {.mtp_path = companion};
        assert_int_equal(mtp_model_open(&model, path, &options, &error), MTP_OK);
        struct mtp_model_info info;
        mtp_model_get_info(model, &info);
        assert_int_equal(info.synthetic, marked != 0);
        mtp_model_close(model);
    }
    unlink(companion);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_toys_open_and_compute),
        cmocka_unit_test(every_key_is_missed_by_name),
        cmocka_unit_test(absurd_numbers_are_refused_by_name),
        cmocka_unit_test(numbers_that_contradict_each_other_are_refused),
        cmocka_unit_test(floats_that_cannot_be_are_refused),
        cmocka_unit_test(every_tensor_is_missed_by_name),
        cmocka_unit_test(every_wrong_shape_is_refused_by_name),
        cmocka_unit_test(integers_cannot_be_a_matrix),
        cmocka_unit_test(a_nan_in_the_weights_ends_the_run_naming_layer_and_operation),
        cmocka_unit_test(a_companion_alone_is_no_model),
        cmocka_unit_test(a_model_damaged_at_any_byte_of_its_description_never_crashes),
        cmocka_unit_test(a_token_reads_every_matrix_once_and_experts_by_use),
        cmocka_unit_test(the_mark_of_a_synthetic_file_is_found_in_model_and_companion),
    };
    return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
