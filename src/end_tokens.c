#include <stdlib.h>
#include <string.h>

#include "tokenizer_internal.h"

/* Tokens by which the models of our file format end a turn, a message or a document. Files often
 * name only one of theirs in eos_token_id. */
static const char *const end_texts[] = {
    "<|im_end|>",       "<|endoftext|>",      "<|end_of_text|>", "<|eot_id|>",      "<|eom_id|>",
    "<|end|>",          "<|return|>",         "<|call|>",        "<|calls|>",       "<|flush|>",
    "<end_of_turn>",    "<turn|>",            "<|tool_response>", "<eos>",          "</s>",
    "<EOT>",            "_<EOT>",             "[EOT]",           "[EOS]",           "[e~[",
    "<end_of_utterance>",
    "<｜end▁of▁sentence｜>",
    /* Padding and file borders of code completion: a document is over there too. */
    "<|fim_pad|>",      "<|repo_name|>",      "<|file_sep|>",
};
#define N_END_TEXTS (sizeof end_texts / sizeof end_texts[0])

static int32_t find(const struct vocabulary *vocabulary, const char *text)
{
    return vocabulary_find(vocabulary, text, strlen(text));
}

/* A "</s>" that BPE can put together is a piece of ordinary markup, not the end of a sequence. */
static bool ends_by_text(const struct vocabulary *v, int32_t id)
{
    return id >= 0 && (v->types[id] == TOKEN_CONTROL || !v->made_by_merge[id]);
}

static int compare_ids(const void *a, const void *b)
{
    int32_t left = *(const int32_t *)a, right = *(const int32_t *)b;
    return (left > right) - (left < right);
}

enum mtp_status end_tokens_collect(struct tokenizer *tokenizer, const int32_t *named,
                                   size_t n_named, struct mtp_error *error)
{
    struct vocabulary *v = &tokenizer->vocabulary;
    size_t room = n_named + N_END_TEXTS;
    tokenizer->end_ids = calloc(room, sizeof *tokenizer->end_ids);
    if (tokenizer->end_ids == NULL)
        return mtp_fail_memory(error, "the end tokens", room * sizeof *tokenizer->end_ids);
    size_t n = 0;
    for (size_t i = 0; i < n_named; i++)
        tokenizer->end_ids[n++] = named[i];
    /* Where messages end in <|return|> or <|call|>, <|end|> only closes a part of one. */
    bool end_closes_a_part = find(v, "<|return|>") >= 0 && find(v, "<|call|>") >= 0;
    for (size_t i = 0; i < N_END_TEXTS; i++) {
        int32_t id = find(v, end_texts[i]);
        if (!ends_by_text(v, id) || (end_closes_a_part && strcmp(end_texts[i], "<|end|>") == 0))
            continue;
        v->types[id] = TOKEN_CONTROL;
        tokenizer->end_ids[n++] = id;
    }
    qsort(tokenizer->end_ids, n, sizeof *tokenizer->end_ids, compare_ids);
    size_t kept = 0;
    for (size_t i = 0; i < n; i++)
        if (i == 0 || tokenizer->end_ids[i] != tokenizer->end_ids[i - 1])
            tokenizer->end_ids[kept++] = tokenizer->end_ids[i];
    tokenizer->n_end_ids = kept;
    return MTP_OK;
}
