/* Encodes any bytes and demands them back; makes vocabularies of any bytes as well.
 *
 * The first byte chooses: bits 0-1 the pre-tokenizer, bit 2 MTP_TEXT_SPECIAL, bit 3 whether a
 * vocabulary is read from the input before the text. */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "tests/tokenizer_fixture.h"
#include "tokenizer_internal.h"
#include "utf8.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char *const pre_names[] = {"qwen35", "qwen2", "gpt-2", "default"};

static void demand(bool condition)
{
    if (!condition)
        abort();
}

/* What is left of the input. */
struct input {
    const uint8_t *data;
    size_t size;
};

static unsigned take_byte(struct input *input)
{
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

static bool all_well_formed(const char *text, size_t length)
{
    for (size_t at = 0; at < length;) {
        size_t n = utf8_sequence_length(text + at, length - at);
        if (n == 0)
            return false;
        at += n;
    }
    return true;
}

/* The decoder gives the bytes of all tokens that are not control tokens, in whole characters. */
static void check_decoder(const struct tokenizer *tokenizer, const int32_t *ids, size_t n_ids,
                          const char *wanted, size_t n_wanted)
{
    struct text_decoder *decoder;
    struct mtp_error error;
    demand(text_decoder_open(&decoder, tokenizer, &error) == MTP_OK);
    bool whole = all_well_formed(wanted, n_wanted);
    size_t at = 0;
    for (size_t i = 0; i <= n_ids; i++) {
        size_t n;
        const char *text = i < n_ids ? text_decoder_push(decoder, ids[i], &n)
                                     : text_decoder_flush(decoder, &n);
        demand(n <= n_wanted - at && (n == 0 || memcmp(wanted + at, text, n) == 0));
        demand(!whole || all_well_formed(text, n));
        at += n;
    }
    demand(at == n_wanted);
    text_decoder_close(decoder);
}

static void check_text(const struct tokenizer *tokenizer, struct input text, unsigned flags)
{
    int32_t *ids;
    size_t n_ids;
    struct mtp_error error = {MTP_OK, ""};
    enum mtp_status status = tokenizer_encode(tokenizer, (const char *)text.data, text.size, flags,
                                              &ids, &n_ids, &error);
    if (status != MTP_OK) { /* a vocabulary may lack tokens for bytes; others may not fail */
        demand(status == MTP_ERR_UNSUPPORTED && strlen(error.message) > 10);
        return;
    }
    char *spoken = malloc(text.size + 1);
    demand(spoken != NULL);
    size_t at = 0, n_spoken = 0;
    for (size_t i = 0; i < n_ids; i++) {
        size_t n;
        bool is_control;
        const char *piece = tokenizer_piece(tokenizer, ids[i], &n, &is_control);
        demand(piece != NULL && n <= text.size - at && memcmp(text.data + at, piece, n) == 0);
        demand(!is_control || (flags & MTP_TEXT_SPECIAL) != 0);
        at += n;
        if (!is_control) {
            memcpy(spoken + n_spoken, piece, n);
            n_spoken += n;
        }
    }
    demand(at == text.size);
    check_decoder(tokenizer, ids, n_ids, spoken, n_spoken);
    free(spoken);
    free(ids);
}

/* A vocabulary with merges, and special tokens of which some begin alike and one ends inside a
 * character; made once for each pre-tokenizer. */
static const struct tokenizer *made_tokenizer(unsigned pre)
{
    static struct fixture made[4];
    if (made[pre].tokenizer != NULL)
        return made[pre].tokenizer;
    char **merges;
    struct token_list list = token_list_grown(3000, 2, &merges);
    token_list_add(&list, "<|im_end|>", TOKEN_CONTROL);
    token_list_add(&list, "<|im_end", TOKEN_USER_DEFINED);
    token_list_add(&list, "  ", TOKEN_USER_DEFINED);
    token_list_add(&list, "\xc3", TOKEN_USER_DEFINED);
    token_list_add(&list, "\xe4\xb8\xad", TOKEN_UNKNOWN);
    struct mtp_error error;
    struct gguf_writer *w =
        token_list_writer(&list, pre_names[pre], (const char *const *)merges, 3000);
    demand(fixture_from_writer(&made[pre], w, &error) == MTP_OK);
    for (size_t i = 0; i < 3000; i++)
        free(merges[i]);
    free(merges);
    token_list_free(&list);
    return made[pre].tokenizer;
}

/* ---- vocabularies out of the input ----------------------------------------------------------- */

/* An array of strings in the file's form; each takes a byte for its length and what it announces.
 * Returns how many. */
static unsigned write_strings(struct gguf_writer *w, const char *key, struct input *input,
                              bool bytes_first)
{
    static unsigned char out[(256 + 64) * (8 + 15) + 12];
    unsigned n = take_byte(input) & 63;
    uint64_t length = n + (bytes_first ? 256u : 0u);
    uint32_t type = GGUF_STRING;
    memcpy(out, &type, 4);
    memcpy(out + 4, &length, 8);
    size_t at = 12;
    for (unsigned byte = 0; bytes_first && byte < 256; byte++) {
        uint64_t text_length = token_byte_to_text((unsigned char)byte, (char *)out + at + 8);
        memcpy(out + at, &text_length, 8);
        at += 8 + (size_t)text_length;
    }
    for (unsigned i = 0; i < n; i++) {
        uint64_t text_length = take_byte(input) & 15;
        memcpy(out + at, &text_length, 8);
        at += 8;
        for (uint64_t k = 0; k < text_length; k++)
            out[at++] = (unsigned char)take_byte(input);
    }
    gguf_writer_raw(w, key, GGUF_ARRAY, out, at);
    return (unsigned)length;
}

static void write_types(struct gguf_writer *w, struct input *input, unsigned n_tokens)
{
    int32_t types[256 + 64];
    unsigned n = take_byte(input) % 4 == 3 ? n_tokens / 2 : n_tokens;
    for (unsigned i = 0; i < n; i++)
        types[i] = i < 256 && n_tokens > 256 ? 1 : (int32_t)(int8_t)take_byte(input) % 9;
    gguf_writer_array(w, "tokenizer.ggml.token_type", GGUF_INT32, types, n, 4);
}

static void check_vocabulary(struct input input, const char *pre, unsigned flags)
{
    struct gguf_writer *w = gguf_writer_new(3);
    gguf_writer_string(w, "tokenizer.ggml.model", "gpt2");
    gguf_writer_string(w, "tokenizer.ggml.pre", pre);
    unsigned choices = take_byte(&input);
    unsigned n_tokens = write_strings(w, "tokenizer.ggml.tokens", &input, (choices & 1) != 0);
    if ((choices & 2) == 0)
        write_strings(w, "tokenizer.ggml.merges", &input, false);
    if ((choices & 4) == 0)
        write_types(w, &input, n_tokens);
    if ((choices & 8) != 0)
        gguf_writer_u32(w, "tokenizer.ggml.eos_token_id", take_byte(&input) * 3);
    if ((choices & 16) != 0)
        gguf_writer_i32(w, "tokenizer.ggml.bos_token_id", (int8_t)take_byte(&input));
    if ((choices & 32) != 0)
        gguf_writer_bool(w, "tokenizer.ggml.add_bos_token", true);
    struct fixture fixture;
    struct mtp_error error = {MTP_OK, ""};
    enum mtp_status status = fixture_from_writer(&fixture, w, &error);
    if (status != MTP_OK) {
        demand(error.status == status && strlen(error.message) > 10);
        return;
    }
    size_t n_ends;
    const int32_t *ends = tokenizer_end_ids(fixture.tokenizer, &n_ends);
    for (size_t i = 0; i < n_ends; i++)
        demand(ends[i] >= 0 && (uint32_t)ends[i] < tokenizer_n_vocab(fixture.tokenizer));
    check_text(fixture.tokenizer, input, flags);
    fixture_close(&fixture);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input input = {data, size};
    unsigned choices = take_byte(&input);
    unsigned flags = (choices & 4) != 0 ? MTP_TEXT_SPECIAL : MTP_TEXT_PLAIN;
    if ((choices & 8) != 0)
        check_vocabulary(input, pre_names[choices & 3], flags);
    else
        check_text(made_tokenizer(choices & 3), input, flags);
    return 0;
}
