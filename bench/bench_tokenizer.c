/* bench_tokenizer.c - times the tokenizer: loading a vocabulary as large as those of today's models, and
 * encoding texts that make careless implementations quadratic. Prints one line a measurement.
 *
 *     bench/bench_tokenizer [KIB [ROUNDS]]     of each text (10240); loadings, of which the best counts (5)
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/tokenizer_fixture.h"

#define N_TOKENS 248320
#define N_MERGES 247587

static double clock_seconds(clockid_t clock)
{
    struct timespec now;
    clock_gettime(clock, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

static double seconds(void)
{
    return clock_seconds(CLOCK_MONOTONIC);
}

/* What the machine would need if it did nothing else. */
static double cpu_seconds(void)
{
    return clock_seconds(CLOCK_PROCESS_CPUTIME_ID);
}

static int fail(const char *message)
{
    fprintf(stderr, "bench_tokenizer: %s\n", message);
    return 1;
}

static int time_loading(const char *path, int rounds)
{
    double best_open = 1e9, best_all = 1e9, best_cpu = 1e9;
    for (int round = 0; round < rounds; round++) {
        struct mtp_error error = {MTP_OK, ""};
        struct gguf *file;
        struct tokenizer *tokenizer;
        double start = seconds(), cpu = cpu_seconds();
        if (gguf_open(&file, path, &error) != MTP_OK)
            return fail(error.message);
        double opened = seconds();
        if (tokenizer_open(&tokenizer, file, &error) != MTP_OK)
            return fail(error.message);
        double done = seconds();
        cpu = cpu_seconds() - cpu;
        best_cpu = cpu < best_cpu ? cpu : best_cpu;
        if (tokenizer_n_vocab(tokenizer) != N_TOKENS)
            return fail("wrong vocabulary");
        best_open = opened - start < best_open ? opened - start : best_open;
        best_all = done - start < best_all ? done - start : best_all;
        tokenizer_close(tokenizer);
        gguf_close(file);
    }
    printf("load %d tokens, %d merges: gguf_open %.1f ms, with tokenizer_open %.1f ms, "
           "CPU time %.1f ms (best of %d)\n",
           N_TOKENS, N_MERGES, best_open * 1e3, best_all * 1e3, best_cpu * 1e3, rounds);
    return 0;
}

static int load_large_vocabulary(int rounds)
{
    char **merges;
    struct token_list list = token_list_grown(N_MERGES, N_TOKENS - 256 - N_MERGES, &merges);
    struct gguf_writer *w =
        token_list_writer(&list, "qwen35", (const char *const *)merges, N_MERGES);
    char path[] = "/tmp/bench-tokenizer-XXXXXX";
    int descriptor = mkstemp(path);
    int status = 1;
    if (descriptor < 0 || !gguf_writer_save(w, path))
        perror(path);
    else
        status = time_loading(path, rounds);
    if (descriptor >= 0) {
        close(descriptor);
        unlink(path);
    }
    gguf_writer_free(w);
    for (size_t i = 0; i < N_MERGES; i++)
        free(merges[i]);
    free(merges);
    token_list_free(&list);
    return status;
}

static int time_encoding(const struct fixture *fixture, const char *label, const char *unit, size_t kib)
{
    size_t n_unit = strlen(unit), n = 1024 * kib / n_unit * n_unit;
    char *text = malloc(n);
    if (text == NULL)
        return fail("out of memory");
    for (size_t i = 0; i < n; i++)
        text[i] = unit[i % n_unit];
    struct mtp_error error = {MTP_OK, ""};
    int32_t *ids;
    size_t n_ids;
    double start = seconds(), cpu = cpu_seconds();
    if (tokenizer_encode(fixture->tokenizer, text, n, MTP_TEXT_SPECIAL, &ids, &n_ids, &error))
        return fail(error.message);
    printf("encode %g MiB of %s: %.2f s, CPU time %.2f s, %zu tokens\n", (double)kib / 1024, label,
           seconds() - start, cpu_seconds() - cpu, n_ids);
    free(ids);
    free(text);
    return 0;
}

int main(int argc, char **argv)
{
    static const char *const texts[][2] = {
        {"'a'", "a"},
        {"spaces", " "},
        {"newlines", "\n"},
        {"digits", "7"},
        {"exclamation marks", "!"},
        {"'the quick ...' in one word", "thequickbrownfoxjumpsoverthelazydog"},
        {"CJK", "\xe4\xb8\xad"},
        {"space and newline", " \n"},
        {"prose", "It was the best of times, it was the worst of times, don't you think? "},
        {"control tokens", "<|im_end|>"},
        {"broken control tokens", "<|im_end|"},
        {"invalid bytes", "\xff"},
    };
    int kib = argc > 1 ? atoi(argv[1]) : 10240, rounds = argc > 2 ? atoi(argv[2]) : 5;
    if (kib < 1 || rounds < 1)
        return fail("usage: bench_tokenizer [KIB [ROUNDS]]");
    int failed = load_large_vocabulary(rounds);
    struct fixture fixture = fixture_reference("qwen35");
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++)
        failed |= time_encoding(&fixture, texts[i][0], texts[i][1], (size_t)kib);
    fixture_close(&fixture);
    return failed;
}
