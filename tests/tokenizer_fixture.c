#include "tokenizer_fixture.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

#define REFERENCE TEST_SRCDIR "/models/ref-qwen35moe-Q4_K_M.gguf"

static void *need(void *pointer)
{
    if (pointer == NULL) {
        fprintf(stderr, "tokenizer fixture: out of memory\n");
        abort();
    }
    return pointer;
}

static void need_ok(enum mtp_status status, const struct mtp_error *error)
{
    if (status != MTP_OK) {
        fprintf(stderr, "tokenizer fixture: %s\n", error->message);
        abort();
    }
}

uint64_t fixture_random(uint64_t *state)
{
    *state ^= *state >> 12;
    *state ^= *state << 25;
    *state ^= *state >> 27;
    return *state * 0x2545f4914f6cdd1du;
}

void fixture_close(struct fixture *fixture)
{
    tokenizer_close(fixture->tokenizer);
    gguf_close(fixture->file);
    free(fixture->bytes);
    *fixture = (struct fixture){0};
}

enum mtp_status fixture_from_writer(struct fixture *out, struct gguf_writer *w,
                                    struct mtp_error *error)
{
    *out = (struct fixture){0};
    size_t size;
    out->bytes = gguf_writer_finish(w, &size);
    gguf_writer_free(w);
    enum mtp_status status = gguf_open_memory(&out->file, out->bytes, size, "made.gguf", error);
    if (status == MTP_OK)
        status = tokenizer_open(&out->tokenizer, out->file, error);
    if (status != MTP_OK) {
        gguf_close(out->file);
        free(out->bytes);
        *out = (struct fixture){0};
    }
    return status;
}

static void copy_strings(struct gguf_writer *w, const struct gguf *file, const char *key)
{
    struct mtp_error error = {MTP_OK, ""};
    struct gguf_string *strings;
    uint64_t n;
    bool found;
    need_ok(gguf_find_strings(file, key, &strings, &n, &found, &error), &error);
    char **copies = need(calloc(n + 1, sizeof *copies));
    for (uint64_t i = 0; i < n; i++)
        copies[i] = need(strndup(strings[i].data, strings[i].length));
    gguf_writer_strings(w, key, (const char *const *)copies, n);
    for (uint64_t i = 0; i < n; i++)
        free(copies[i]);
    free(copies);
    free(strings);
}

struct fixture fixture_reference(const char *pre)
{
    struct mtp_error error = {MTP_OK, ""};
    struct gguf *file;
    need_ok(gguf_open(&file, REFERENCE, &error), &error);
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_string(w, "general.architecture", "qwen35");
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(w, "tokenizer.ggml.pre", pre);
    copy_strings(w, file, "tokenizer.ggml.tokens");
    copy_strings(w, file, "tokenizer.ggml.merges");
    struct gguf_array types;
    bool found;
    need_ok(gguf_find_array(file, "tokenizer.ggml.token_type", &types, &found, &error), &error);
    gguf_writer_array(w, "tokenizer.ggml.token_type", types.type, types.data, types.length, 4);
    gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", 0);
    gguf_close(file);
    struct fixture made;
    need_ok(fixture_from_writer(&made, w, &error), &error);
    return made;
}

int32_t token_list_add(struct token_list *list, const char *text, int32_t type)
{
    if (list->n == list->allocated) {
        list->allocated = 2 * list->allocated + 256;
        list->texts = need(realloc(list->texts, list->allocated * sizeof *list->texts));
        list->types = need(realloc(list->types, list->allocated * sizeof *list->types));
    }
    list->texts[list->n] = need(strdup(text));
    list->types[list->n] = type;
    return (int32_t)list->n++;
}

struct token_list token_list_bytes(void)
{
    struct token_list list = {0};
    for (unsigned byte = 0; byte < 256; byte++) {
        char text[3] = "";
        token_byte_to_text((unsigned char)byte, text);
        token_list_add(&list, text, TOKEN_NORMAL);
    }
    return list;
}

void token_list_free(struct token_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        free(list->texts[i]);
    free(list->texts);
    free(list->types);
    *list = (struct token_list){0};
}

struct gguf_writer *token_list_writer(const struct token_list *list, const char *pre,
                                      const char *const *merges, size_t n_merges)
{
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_string(w, "general.architecture", "qwen35");
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    if (pre != NULL)
        gguf_writer_string(w, "tokenizer.ggml.pre", pre);
    gguf_writer_strings(w, "tokenizer.ggml.tokens", (const char *const *)list->texts, list->n);
    gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_INT32, list->types, list->n, 4);
    gguf_writer_strings(w, "tokenizer.ggml.merges", merges, n_merges);
    return w;
}

struct token_list token_list_grown(size_t n_merges, size_t n_special, char ***merges)
{
    struct token_list list = token_list_bytes();
    char alphabet[53 + 4];
    size_t n_alphabet = 0;
    for (char c = 'a'; c <= 'z'; c++)
        alphabet[n_alphabet++] = c;
    for (char c = 'A'; c <= 'Z'; c++)
        alphabet[n_alphabet++] = c;
    *merges = need(calloc(n_merges + 1, sizeof **merges));
    /* Every token, shortest first, grows by each letter in turn; none can arise twice. */
    size_t grown_from = 0;
    for (size_t made = 0; made < n_merges; grown_from++) {
        size_t parent = grown_from < n_alphabet ? 0 : 256 + grown_from - n_alphabet;
        char first[3] = {grown_from < n_alphabet ? alphabet[grown_from] : '\0'};
        const char *stem = grown_from < n_alphabet ? first : list.texts[parent];
        for (size_t c = 0; c < n_alphabet && made < n_merges; c++, made++) {
            char line[64], text[64];
            stem = grown_from < n_alphabet ? first : list.texts[parent];
            snprintf(line, sizeof line, "%.30s %c", stem, alphabet[c]);
            snprintf(text, sizeof text, "%.30s%c", stem, alphabet[c]);
            token_list_add(&list, text, TOKEN_NORMAL);
            (*merges)[made] = need(strdup(line));
        }
    }
    for (size_t i = 0; i < n_special; i++) {
        char text[64];
        snprintf(text, sizeof text, "<|special_%zu|>", i);
        token_list_add(&list, text, TOKEN_CONTROL);
    }
    return list;
}
