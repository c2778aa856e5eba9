#include "tokenizer.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

#define KEY_MODEL "tokenizer.ggml.model"
#define KEY_PRE "tokenizer.ggml.pre"
#define KEY_ADD_BOS "tokenizer.ggml.add_bos_token"
#define KEY_BOS "tokenizer.ggml.bos_token_id"

/* How much of a string from the file a message shows. */
static int shown(struct gguf_string string)
{
    return string.length < 64 ? (int)string.length : 64;
}

static enum mtp_status check_model(const struct gguf *file, struct mtp_error *error)
{
    struct gguf_string model = {0};
    bool found = false;
    enum mtp_status status = gguf_find_string(file, KEY_MODEL, &model, &found, error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return mtp_fail(error, MTP_ERR_FORMAT, "%s: no tokenizer (key " KEY_MODEL " is missing)",
                        gguf_path(file));
    if (model.length != 4 || memcmp(model.data, "gpt2", 4) != 0)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s: " KEY_MODEL " is \"%.*s\", which is not supported (supported: gpt2)",
                        gguf_path(file), shown(model), model.data);
    return MTP_OK;
}

static enum mtp_status open_pretokenizer(struct tokenizer *tokenizer, const struct gguf *file,
                                         struct mtp_error *error)
{
    struct gguf_string pre = {"default", 7};
    bool found = false;
    enum mtp_status status = gguf_find_string(file, KEY_PRE, &pre, &found, error);
    if (status != MTP_OK)
        return status;
    const char *name = pretokenizer_known(pre.data, pre.length);
    if (name == NULL)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s: " KEY_PRE " is \"%.*s\", which is not supported (supported: %s)",
                        gguf_path(file), shown(pre), pre.data, pretokenizer_names());
    return pretokenizer_open(&tokenizer->pretokenizer, name, true, error);
}

/* *id is -1 when the key is missing or holds the "none" that some converters write. */
static enum mtp_status find_id(const struct tokenizer *tokenizer, const struct gguf *file,
                               const char *key, int32_t *id, struct mtp_error *error)
{
    uint32_t value = UINT32_MAX;
    bool found = false;
    *id = -1;
    enum mtp_status status = gguf_find_u32(file, key, &value, &found, error);
    if (status != MTP_OK || !found || value == UINT32_MAX)
        return status;
    if (value >= tokenizer->vocabulary.n_tokens)
        return mtp_fail(error, MTP_ERR_FORMAT,
                        "%s: %s is %" PRIu32 ", but the vocabulary has %" PRIu32 " tokens",
                        gguf_path(file), key, value, tokenizer->vocabulary.n_tokens);
    *id = (int32_t)value;
    return MTP_OK;
}

static enum mtp_status load_end_tokens(struct tokenizer *tokenizer, const struct gguf *file,
                                       struct mtp_error *error)
{
    static const char *const keys[] = {
        "tokenizer.ggml.eos_token_id",
        "tokenizer.ggml.eot_token_id",
        "tokenizer.ggml.eom_token_id",
    };
    int32_t named[sizeof keys / sizeof keys[0]];
    size_t n_named = 0;
    for (size_t i = 0; i < sizeof keys / sizeof keys[0]; i++) {
        int32_t id;
        enum mtp_status status = find_id(tokenizer, file, keys[i], &id, error);
        if (status != MTP_OK)
            return status;
        if (id >= 0)
            named[n_named++] = id;
    }
    return end_tokens_collect(tokenizer, named, n_named, error);
}

static enum mtp_status load_bos(struct tokenizer *tokenizer, const struct gguf *file,
                                struct mtp_error *error)
{
    bool found = false;
    enum mtp_status status = find_id(tokenizer, file, KEY_BOS, &tokenizer->bos_id, error);
    if (status == MTP_OK)
        status = gguf_find_bool(file, KEY_ADD_BOS, &tokenizer->add_bos, &found, error);
    if (status == MTP_OK && tokenizer->add_bos && tokenizer->bos_id < 0)
        status = mtp_fail(error, MTP_ERR_FORMAT, "%s: " KEY_ADD_BOS " is true, but " KEY_BOS
                          " is missing", gguf_path(file));
    return status;
}

static enum mtp_status load(struct tokenizer *tokenizer, const struct gguf *file,
                            struct mtp_error *error)
{
    enum mtp_status status = check_model(file, error);
    if (status == MTP_OK)
        status = open_pretokenizer(tokenizer, file, error);
    if (status == MTP_OK)
        status = vocabulary_load(&tokenizer->vocabulary, file, error);
    if (status == MTP_OK)
        status = load_bos(tokenizer, file, error);
    /* End tokens first: they may turn what the file calls a normal token into a control token. */
    if (status == MTP_OK)
        status = load_end_tokens(tokenizer, file, error);
    if (status == MTP_OK)
        status = vocabulary_load_pieces(&tokenizer->vocabulary, file, error);
    if (status == MTP_OK)
        status = special_set_build(&tokenizer->all, &tokenizer->vocabulary, false, error);
    if (status == MTP_OK)
        status = special_set_build(&tokenizer->user_defined, &tokenizer->vocabulary, true, error);
    return status;
}

enum mtp_status tokenizer_open(struct tokenizer **out, const struct gguf *file,
                               struct mtp_error *error)
{
    *out = NULL;
    struct tokenizer *made = calloc(1, sizeof *made);
    if (made == NULL)
        return mtp_fail_memory(error, "the tokenizer", sizeof *made);
    made->path = gguf_path(file);
    made->bos_id = -1;
    enum mtp_status status = load(made, file, error);
    if (status != MTP_OK) {
        tokenizer_close(made);
        return status;
    }
    *out = made;
    return MTP_OK;
}

void tokenizer_close(struct tokenizer *tokenizer)
{
    if (tokenizer == NULL)
        return;
    vocabulary_free(&tokenizer->vocabulary);
    special_set_free(&tokenizer->all);
    special_set_free(&tokenizer->user_defined);
    pretokenizer_close(tokenizer->pretokenizer);
    free(tokenizer->end_ids);
    free(tokenizer);
}

uint32_t tokenizer_n_vocab(const struct tokenizer *tokenizer)
{
    return tokenizer->vocabulary.n_tokens;
}

/* One call of tokenizer_encode. */
struct encoding {
    const struct tokenizer *tokenizer;
    struct bpe_workspace workspace;
    struct id_list list;
};

static enum mtp_status encode_word(void *user, const char *word, size_t length,
                                   struct mtp_error *error)
{
    struct encoding *e = user;
    return bpe_encode_word(e->tokenizer, &e->workspace, word, length, &e->list, error);
}

static enum mtp_status append_id(struct encoding *e, int32_t id, struct mtp_error *error)
{
    if (!id_list_append(&e->list, &id, 1))
        return mtp_fail_memory(error, "token ids", (e->list.n + 1) * sizeof id);
    return MTP_OK;
}

/* Cuts special tokens out of text and encodes what lies between them. */
static enum mtp_status encode_text(struct encoding *e, const struct special_set *set,
                                   const char *text, size_t length, struct mtp_error *error)
{
    const struct pretokenizer *pretokenizer = e->tokenizer->pretokenizer;
    if (length == 0)
        return MTP_OK;
    size_t done = 0; /* everything before is encoded */
    for (size_t at = 0; at < length;) {
        size_t matched = 0;
        int32_t id = -1;
        if (set->first_byte[(unsigned char)text[at]])
            id = special_set_match(set, text + at, length - at, &matched);
        if (id < 0) {
            at++;
            continue;
        }
        enum mtp_status status =
            pretokenizer_split(pretokenizer, text + done, at - done, encode_word, e, error);
        if (status == MTP_OK)
            status = append_id(e, id, error);
        if (status != MTP_OK)
            return status;
        at += matched;
        done = at;
    }
    return pretokenizer_split(pretokenizer, text + done, length - done, encode_word, e, error);
}

enum mtp_status tokenizer_encode(const struct tokenizer *tokenizer, const char *text,
                                 size_t length, unsigned flags, int32_t **ids, size_t *n_ids,
                                 struct mtp_error *error)
{
    *ids = NULL;
    *n_ids = 0;
    if (length > TOKENIZER_MAX_TEXT)
        return mtp_fail(error, MTP_ERR_USAGE,
                        "the text has %zu bytes, and at most %zu can be tokenized at once", length,
                        TOKENIZER_MAX_TEXT);
    struct encoding e = {.tokenizer = tokenizer};
    const struct special_set *set =
        (flags & MTP_TEXT_SPECIAL) != 0 ? &tokenizer->all : &tokenizer->user_defined;
    /* A first allocation even for no text: *ids is never NULL on success. */
    enum mtp_status status = MTP_OK;
    if (!id_list_append(&e.list, &tokenizer->bos_id, 0))
        status = mtp_fail_memory(error, "token ids", 0);
    if (status == MTP_OK && (flags & TOKENIZER_ADD_BOS) != 0 && tokenizer->add_bos)
        status = append_id(&e, tokenizer->bos_id, error);
    if (status == MTP_OK)
        status = encode_text(&e, set, text, length, error);
    bpe_workspace_free(&e.workspace);
    if (status != MTP_OK) {
        free(e.list.ids);
        return status;
    }
    *ids = e.list.ids;
    *n_ids = e.list.n;
    return MTP_OK;
}

int32_t tokenizer_find(const struct tokenizer *tokenizer, const char *text)
{
    return vocabulary_find(&tokenizer->vocabulary, text, strlen(text));
}

const char *tokenizer_piece(const struct tokenizer *tokenizer, int32_t id, size_t *length,
                            bool *is_control)
{
    const struct vocabulary *v = &tokenizer->vocabulary;
    *length = 0;
    *is_control = false;
    if (id < 0 || (uint32_t)id >= v->n_tokens)
        return NULL;
    *length = v->piece_offsets[id + 1] - v->piece_offsets[id];
    *is_control = v->types[id] == TOKEN_CONTROL || v->types[id] == TOKEN_UNKNOWN;
    return v->pieces + v->piece_offsets[id];
}

bool tokenizer_is_end(const struct tokenizer *tokenizer, int32_t id)
{
    for (size_t i = 0; i < tokenizer->n_end_ids; i++)
        if (tokenizer->end_ids[i] == id)
            return true;
    return false;
}

const int32_t *tokenizer_end_ids(const struct tokenizer *tokenizer, size_t *n)
{
    *n = tokenizer->n_end_ids;
    return tokenizer->end_ids;
}
