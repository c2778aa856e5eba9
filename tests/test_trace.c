/* test_trace.c - traces: what is written is read again; what is cut, damaged, foreign or newer says so
 * in one sentence; a disk that is full is told once. */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

#include "tests/trace_sample.h"
#include "verify/digest.h"
#include "verify/trace_format.h"

static char directory[] = "/tmp/test_trace.XXXXXX";
static char path[64];

static int make_directory(void **state)
{
    (void)state;
    if (mkdtemp(directory) == NULL)
        return -1;
    snprintf(path, sizeof path, "%s/a.trace", directory);
    return 0;
}

static int remove_directory(void **state)
{
    (void)state;
    unlink(path);
    return rmdir(directory);
}

static unsigned char *sample(bool logits, size_t *size)
{
    struct mtp_error error = {0};
    if (trace_sample_write(path, logits, &error) != MTP_OK)
        fail_msg("%s", error.message);
    unsigned char *bytes = read_whole_file(path, size);
    assert_non_null(bytes);
    return bytes;
}

/* ---- round trip ---------------------------------------------------------------------------- */

static void same_header(const struct trace_header *a, const struct trace_header *b)
{
    assert_int_equal(a->model_digest, b->model_digest);
    assert_int_equal(a->arithmetic_version, b->arithmetic_version);
    assert_string_equal(a->library_version, b->library_version);
    assert_string_equal(a->file_name, b->file_name);
    assert_string_equal(a->isa_name, b->isa_name);
    assert_int_equal(a->n_vocab, b->n_vocab);
    assert_int_equal(a->n_ctx, b->n_ctx);
    assert_int_equal(a->n_batch, b->n_batch);
    assert_int_equal(a->n_threads, b->n_threads);
    assert_int_equal(a->kv_type, b->kv_type);
    assert_int_equal(a->moe_mode, b->moe_mode);
    assert_int_equal(a->strict, b->strict);
    assert_int_equal(a->generation.n_draft, b->generation.n_draft);
    assert_int_equal(a->generation.draft_head_rows, b->generation.draft_head_rows);
    assert_memory_equal(&a->generation.sampling.temperature, &b->generation.sampling.temperature, 4);
    assert_int_equal(a->generation.sampling.top_k, b->generation.sampling.top_k);
    assert_memory_equal(&a->generation.sampling.top_p, &b->generation.sampling.top_p, 4);
    assert_memory_equal(&a->generation.sampling.min_p, &b->generation.sampling.min_p, 4);
    assert_int_equal(a->generation.sampling.seed, b->generation.sampling.seed);
    assert_int_equal(a->logits, b->logits);
    assert_int_equal(a->n_prompt, b->n_prompt);
    assert_memory_equal(a->prompt, b->prompt, a->n_prompt * sizeof *a->prompt);
}

static void read_back(bool logits)
{
    struct mtp_error error = {0};
    struct trace_reader *reader;
    assert_int_equal(trace_sample_write(path, logits, &error), MTP_OK);
    assert_int_equal(trace_open(&reader, path, &error), MTP_OK);
    const struct trace_header header = trace_sample_header(logits);
    same_header(trace_get_header(reader), &header);
    uint64_t digest = 0;
    for (uint32_t i = 0; i < SAMPLE_STEPS; i++) {
        float rows[MTP_MAX_DRAFT + 1][SAMPLE_VOCABULARY];
        struct mtp_step_record wanted, step;
        bool ended;
        const float *row;
        trace_sample_step(&wanted, i, rows);
        assert_int_equal(trace_next(reader, &step, &ended, &error), MTP_OK);
        assert_false(ended);
        assert_memory_equal(&step, &wanted, sizeof step);
        for (uint32_t t = 0; t < step.n_tokens; t++) {
            digest = digest_chain(digest, wanted.digests[t]);
            if (!logits)
                continue;
            assert_int_equal(trace_next_row(reader, &row, &error), MTP_OK);
            assert_memory_equal(row, rows[t], sizeof rows[t]);
        }
        assert_int_equal(trace_next_row(reader, &row, &error), MTP_ERR_USAGE);
    }
    struct mtp_step_record none;
    bool ended;
    assert_int_equal(trace_next(reader, &none, &ended, &error), MTP_OK);
    assert_true(ended);
    const struct trace_totals *totals = trace_get_totals(reader);
    assert_int_equal(totals->steps, SAMPLE_STEPS);
    assert_int_equal(totals->tokens, SAMPLE_TOKENS);
    assert_int_equal(totals->drafted, 13);
    assert_int_equal(totals->accepted, 7);
    assert_int_equal(totals->digest, digest);
    trace_reader_close(reader);
}

static void what_is_written_is_read_again(void **state)
{
    (void)state;
    read_back(false);
    read_back(true);
}

static void rows_nobody_asked_for_are_passed_over(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = sample(true, &size);
    struct trace_outcome outcome;
    trace_read_bytes(&outcome, bytes, size);
    assert_int_equal(outcome.status, MTP_OK);
    assert_int_equal(outcome.steps, SAMPLE_STEPS);
    assert_int_equal(outcome.rows, 3); /* of steps 1 and 3 */
    free(bytes);
}

static void a_long_prompt_and_a_run_without_steps_are_read_again(void **state)
{
    (void)state;
    enum { LONG = 3 * TRACE_PROMPT_CHUNK + 5 };
    int32_t *ids = calloc(LONG, sizeof *ids);
    assert_non_null(ids);
    for (int32_t i = 0; i < LONG; i++)
        ids[i] = i * 7 % SAMPLE_VOCABULARY;
    const size_t lengths[] = {0, 1, TRACE_PROMPT_CHUNK, LONG};
    for (size_t l = 0; l < 4; l++) {
        struct trace_header header = trace_sample_header(false);
        struct trace_writer *writer;
        struct trace_reader *reader;
        struct mtp_error error;
        header.prompt = ids;
        header.n_prompt = lengths[l];
        assert_int_equal(trace_create(&writer, path, &header, &error), MTP_OK);
        assert_int_equal(trace_close(writer, &error), MTP_OK);
        assert_int_equal(trace_open(&reader, path, &error), MTP_OK);
        assert_int_equal(trace_get_header(reader)->n_prompt, lengths[l]);
        if (lengths[l] > 0)
            assert_memory_equal(trace_get_header(reader)->prompt, ids, lengths[l] * sizeof *ids);
        struct mtp_step_record step;
        bool ended = false;
        assert_int_equal(trace_next(reader, &step, &ended, &error), MTP_OK);
        assert_true(ended);
        trace_reader_close(reader);
    }
    free(ids);
}

/* ---- cut and damaged ------------------------------------------------------------------------ */

static void a_recording_that_was_killed_keeps_every_step_it_had_made(void **state)
{
    (void)state;
    const struct trace_header header = trace_sample_header(true);
    struct trace_writer *writer;
    struct mtp_error error;
    assert_int_equal(trace_create(&writer, path, &header, &error), MTP_OK);
    for (uint32_t i = 0; i <= SAMPLE_STEPS; i++) {
        size_t size;
        unsigned char *bytes = read_whole_file(path, &size); /* while it is being written */
        struct trace_outcome outcome;
        trace_read_bytes(&outcome, bytes, size);
        free(bytes);
        assert_true(outcome.opened);
        assert_int_equal(outcome.steps, i);
        assert_int_equal(outcome.status, MTP_ERR_FORMAT);
        char sentence[200];
        snprintf(sentence, sizeof sentence, "a.trace is truncated: after step %u its end is missing, "
                 "as when a recording was killed", i);
        assert_string_equal(outcome.error.message, sentence);
        if (i == SAMPLE_STEPS)
            break;
        float rows[MTP_MAX_DRAFT + 1][SAMPLE_VOCABULARY];
        const float *pointers[] = {rows[0], rows[1], rows[2], rows[3], rows[4],
                                   rows[5], rows[6], rows[7], rows[8]};
        struct mtp_step_record step;
        trace_sample_step(&step, i, rows);
        trace_write_step(writer, &step, pointers, SAMPLE_VOCABULARY);
    }
    assert_int_equal(trace_close(writer, &error), MTP_OK);
}

static void a_trace_cut_at_any_byte_says_so_and_gives_the_steps_before(void **state)
{
    (void)state;
    for (int logits = 0; logits < 2; logits++) {
        size_t size;
        unsigned char *bytes = sample(logits == 1, &size);
        struct trace_outcome outcome;
        uint64_t before = 0;
        for (size_t n = 1; n < size; n++) {
            trace_read_bytes(&outcome, bytes, n);
            assert_int_equal(outcome.status, MTP_ERR_FORMAT);
            assert_non_null(strstr(outcome.error.message, "a.trace is truncated: "));
            assert_true(outcome.steps >= before && outcome.steps <= SAMPLE_STEPS);
            before = outcome.steps;
        }
        assert_int_equal(before, SAMPLE_STEPS);
        trace_read_bytes(&outcome, bytes, size);
        assert_int_equal(outcome.status, MTP_OK);
        free(bytes);
    }
}

/* Bits that mean nothing may flip unnoticed; what is read must then be what was written. */
static void a_flipped_bit_anywhere_is_noticed_or_changes_nothing(void **state)
{
    (void)state;
    for (int logits = 0; logits < 2; logits++) {
        size_t size, unnoticed = 0, by_record = 0;
        unsigned char *bytes = sample(logits == 1, &size);
        struct trace_outcome right, outcome;
        trace_read_bytes(&right, bytes, size);
        for (size_t bit = 0; bit < 8 * size; bit++) {
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            trace_read_bytes(&outcome, bytes, size);
            bytes[bit / 8] ^= (unsigned char)(1 << bit % 8);
            by_record += strstr(outcome.error.message, "digest written after it") != NULL;
            if (outcome.status != MTP_OK)
                continue;
            unnoticed++;
            assert_int_equal(outcome.steps, right.steps);
            assert_int_equal(outcome.digest, right.digest);
        }
        assert_true(100 * unnoticed < 8 * size);
        assert_true(by_record > 0); /* not only by the checksum, which a killed recording lacks */
        free(bytes);
    }
}

static void assert_fails(const unsigned char *bytes, size_t n, enum mtp_status status,
                         const char *sentence)
{
    struct trace_outcome outcome;
    trace_read_bytes(&outcome, bytes, n);
    assert_string_equal(outcome.error.message, sentence);
    assert_int_equal(outcome.status, status);
}

static void a_foreign_an_empty_and_a_newer_file_have_a_sentence_each(void **state)
{
    (void)state;
    const unsigned char newer[] = "MTPTRACE\2\0\0\0and what the future knows";
    const unsigned char none[] = "MTPTRACE\0\0\0\0";
    const unsigned char gguf[] = "GGUF\3\0\0\0";
    assert_fails(newer, 0, MTP_ERR_FORMAT, "a.trace is empty, not a trace");
    assert_fails(gguf, 8, MTP_ERR_FORMAT,
                 "a.trace is not a trace: it does not begin with MTPTRACE");
    assert_fails(newer, sizeof newer, MTP_ERR_UNSUPPORTED,
                 "a.trace is a trace of format version 2, and this program knows version 1 only: "
                 "read it with the release that wrote it");
    assert_fails(none, 12, MTP_ERR_UNSUPPORTED,
                 "a.trace is a trace of format version 0, and this program knows version 1 only: "
                 "read it with the release that wrote it");
    assert_fails(newer, 11, MTP_ERR_FORMAT, "a.trace is truncated: it ends inside its header");
}

static void bytes_after_the_end_are_damage(void **state)
{
    (void)state;
    size_t size;
    unsigned char *bytes = sample(false, &size);
    unsigned char *longer = malloc(size + 1);
    assert_non_null(longer);
    memcpy(longer, bytes, size);
    longer[size] = 0;
    assert_fails(longer, size + 1, MTP_ERR_FORMAT,
                 "a.trace: damaged after step 4: more bytes follow the compressed data");
    free(longer);
    free(bytes);
}

/* Where record `index` of a kind begins. */
static size_t find_record(const unsigned char *records, size_t n, char kind, unsigned index)
{
    for (size_t at = 0; at < n; at += TRACE_RECORD_HEAD + (size_t)trace_load(records + at + 1, 4))
        if (records[at] == (unsigned char)kind && index-- == 0)
            return at;
    fail_msg("no record %c", kind);
    return 0;
}

/* A damage behind right digests: byte `offset` of the payload of a record becomes `value`. */
struct lie {
    bool logits;
    char kind;
    unsigned index;
    size_t offset; /* from the record's head */
    unsigned char value;
    const char *sentence;
};

static void a_record_that_lies_is_found_out(void **state)
{
    (void)state;
    static const struct lie lies[] = {
        {false, 'H', 0, 5 + 12 + 3, 0xff, "a.trace: damaged in its header: a field is impossible"},
        {false, 'H', 0, 5 + 28, 2, "a.trace: damaged in its header: a field is impossible"},
        {false, 'H', 0, 5 + 31, 2, "a.trace: damaged in its header: a field is impossible"},
        {false, 'H', 0, 5 + 32, 9, "a.trace: damaged in its header: a field is impossible"},
        {false, 'H', 0, 5 + 68, 200, "a.trace: damaged in its header: a field is impossible"},
        {false, 'P', 0, 5, SAMPLE_VOCABULARY,
         "a.trace: damaged in its header: the prompt has an id beyond the vocabulary"},
        {false, 'H', 0, 5 + 64, 2,
         "a.trace: damaged in its header: the prompt has another length than announced"},
        {false, 'H', 0, 5 + 64, 4,
         "a.trace: damaged in its header: a record stands where another kind belongs"},
        {false, 'S', 1, 0, 'X',
         "a.trace: damaged after step 1: a record has an impossible kind or length"},
        {false, 'S', 1, 0, 'R',
         "a.trace: damaged after step 1: a record stands where another kind belongs"},
        {false, 'S', 2, 5, 8, "a.trace: damaged after step 2: a step stands at a wrong position"},
        {false, 'S', 2, 5 + 4, 9,
         "a.trace: damaged after step 2: a step counts more than it can hold"},
        {false, 'S', 2, 5 + 5, 4,
         "a.trace: damaged after step 2: a step counts more than it can hold"},
        {false, 'S', 2, 5 + 6, 0,
         "a.trace: damaged after step 2: a step counts more than it can hold"},
        {false, 'S', 2, 5 + 6, 3,
         "a.trace: damaged after step 2: a step has another length than its counts say"},
        {false, 'S', 2, 5 + 7 + 3, 0x80,
         "a.trace: damaged after step 2: a step has an id beyond the vocabulary"},
        {false, 'S', 2, 5 + 7 + 12, SAMPLE_VOCABULARY,
         "a.trace: damaged after step 2: a step has an id beyond the vocabulary"},
        {false, 'S', 2, 5 + 7 + 20, 0x55,
         "a.trace: damaged after step 4: the totals at the end are not those of the steps"},
        {false, 'E', 0, 5, 3,
         "a.trace: damaged after step 4: the totals at the end are not those of the steps"},
        {true, 'R', 0, 5, 0x55,
         "a.trace: damaged after step 1: a logits row does not have the digest of its step"},
        {true, 'R', 2, 0, 'S',
         "a.trace: damaged after step 2: a record stands where another kind belongs"},
    };
    for (size_t i = 0; i < sizeof lies / sizeof lies[0]; i++) {
        size_t size, n, damaged_size;
        unsigned char *bytes = sample(lies[i].logits, &size);
        unsigned char *records = trace_to_records(bytes, size, &n);
        assert_non_null(records);
        size_t at = find_record(records, n, lies[i].kind, lies[i].index) + lies[i].offset;
        assert_int_not_equal(records[at], lies[i].value);
        records[at] = lies[i].value;
        unsigned char *damaged = trace_from_records(records, n, &damaged_size);
        assert_fails(damaged, damaged_size, MTP_ERR_FORMAT, lies[i].sentence);
        free(damaged);
        free(records);
        free(bytes);
    }
}

static void records_that_end_too_early_or_too_late_are_damage(void **state)
{
    (void)state;
    size_t size, n, damaged_size;
    unsigned char *bytes = sample(false, &size);
    unsigned char *records = trace_to_records(bytes, size, &n);
    assert_non_null(records);
    unsigned char *damaged =
        trace_from_records(records, find_record(records, n, 'E', 0), &damaged_size);
    assert_fails(damaged, damaged_size, MTP_ERR_FORMAT,
                 "a.trace: damaged after step 4: the data end without an end record");
    free(damaged);
    unsigned char *twice = calloc(1, n + 64);
    assert_non_null(twice);
    size_t end = find_record(records, n, 'E', 0);
    memcpy(twice, records, n);
    memcpy(twice + n, records + end, n - end);
    damaged = trace_from_records(twice, n + n - end, &damaged_size);
    assert_fails(damaged, damaged_size, MTP_ERR_FORMAT,
                 "a.trace: damaged after step 4: more data follow the end record");
    free(damaged);
    free(twice);
    free(records);
    free(bytes);
}

static void a_file_that_cannot_be_read_is_named_with_the_reason(void **state)
{
    (void)state;
    struct trace_reader *reader;
    struct mtp_error error;
    assert_int_equal(trace_open(&reader, "/nowhere/a.trace", &error), MTP_ERR_IO);
    assert_null(reader);
    assert_string_equal(error.message, "/nowhere/a.trace cannot be opened: No such file or directory");
    assert_int_equal(trace_open(&reader, directory, &error), MTP_ERR_IO);
    assert_non_null(strstr(error.message, "cannot be read: Is a directory"));
}

/* ---- writing that fails ----------------------------------------------------------------------- */

static void a_full_disk_is_told_when_the_trace_is_created(void **state)
{
    (void)state;
    struct mtp_error error;
    assert_int_equal(trace_sample_write("/dev/full", false, &error), MTP_ERR_IO);
    assert_string_equal(error.message,
                        "/dev/full: the trace cannot be written: No space left on device");
    assert_int_equal(error.status, MTP_ERR_IO);
}

static void a_disk_that_fills_up_later_is_told_at_the_end(void **state)
{
    (void)state;
    size_t size;
    free(sample(true, &size));
    struct rlimit before, limit;
    struct mtp_error error;
    void (*handler)(int) = signal(SIGXFSZ, SIG_IGN);
    assert_int_equal(getrlimit(RLIMIT_FSIZE, &before), 0);
    limit = before;
    limit.rlim_cur = size - 100;
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &limit), 0);
    enum mtp_status status = trace_sample_write(path, true, &error);
    assert_int_equal(setrlimit(RLIMIT_FSIZE, &before), 0);
    signal(SIGXFSZ, handler);
    assert_int_equal(status, MTP_ERR_IO);
    assert_non_null(strstr(error.message, "a.trace: the trace cannot be written: File too large"));
    size_t left;
    unsigned char *bytes = read_whole_file(path, &left);
    struct trace_outcome outcome;
    trace_read_bytes(&outcome, bytes, left);
    assert_true(outcome.opened && outcome.steps >= 2); /* what fitted can be read */
    free(bytes);
}

static void a_trace_is_not_written_over_a_model(void **state)
{
    (void)state;
    FILE *file = fopen(path, "wb");
    assert_non_null(file);
    assert_int_equal(fwrite("GGUF\3\0\0\0rest", 1, 12, file), 12);
    fclose(file);
    struct mtp_error error;
    assert_int_equal(trace_sample_write(path, false, &error), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "a.trace is a model file"));
    struct stat about;
    assert_int_equal(stat(path, &about), 0);
    assert_int_equal(about.st_size, 12);
    unlink(path);
    assert_int_equal(trace_sample_write("/nowhere/a.trace", false, &error), MTP_ERR_IO);
    assert_string_equal(error.message, "/nowhere/a.trace: the trace cannot be created: No such file "
                        "or directory");
}

static void a_step_that_does_not_follow_the_last_one_spoils_the_trace(void **state)
{
    (void)state;
    const struct trace_header header = trace_sample_header(false);
    struct trace_writer *writer;
    struct mtp_error error;
    struct mtp_step_record step;
    float rows[MTP_MAX_DRAFT + 1][SAMPLE_VOCABULARY];
    assert_int_equal(trace_create(&writer, path, &header, &error), MTP_OK);
    trace_sample_step(&step, 1, rows);
    trace_write_step(writer, &step, NULL, SAMPLE_VOCABULARY);
    trace_sample_step(&step, 0, rows); /* which would have been right, but comes too late */
    trace_write_step(writer, &step, NULL, SAMPLE_VOCABULARY);
    assert_int_equal(trace_close(writer, &error), MTP_ERR_USAGE);
    assert_non_null(strstr(error.message, "one prompt and one answer, but a step began at position 4 "
                           "where 3 was next"));
    assert_int_equal(trace_create(&writer, path, &header, &error), MTP_OK);
    step.n_tokens = 2;
    trace_write_step(writer, &step, NULL, SAMPLE_VOCABULARY);
    assert_int_equal(trace_close(writer, &error), MTP_ERR_INTERNAL);
    assert_int_equal(trace_close(NULL, &error), MTP_OK);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_is_read_again),
        cmocka_unit_test(rows_nobody_asked_for_are_passed_over),
        cmocka_unit_test(a_long_prompt_and_a_run_without_steps_are_read_again),
        cmocka_unit_test(a_recording_that_was_killed_keeps_every_step_it_had_made),
        cmocka_unit_test(a_trace_cut_at_any_byte_says_so_and_gives_the_steps_before),
        cmocka_unit_test(a_flipped_bit_anywhere_is_noticed_or_changes_nothing),
        cmocka_unit_test(a_foreign_an_empty_and_a_newer_file_have_a_sentence_each),
        cmocka_unit_test(bytes_after_the_end_are_damage),
        cmocka_unit_test(a_record_that_lies_is_found_out),
        cmocka_unit_test(records_that_end_too_early_or_too_late_are_damage),
        cmocka_unit_test(a_file_that_cannot_be_read_is_named_with_the_reason),
        cmocka_unit_test(a_full_disk_is_told_when_the_trace_is_created),
        cmocka_unit_test(a_disk_that_fills_up_later_is_told_at_the_end),
        cmocka_unit_test(a_trace_is_not_written_over_a_model),
        cmocka_unit_test(a_step_that_does_not_follow_the_last_one_spoils_the_trace),
    };
    return cmocka_run_group_tests_name("trace", tests, make_directory, remove_directory);
}
