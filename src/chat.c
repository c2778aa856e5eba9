/* memmem */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE
#endif
#include "chat.h"

#include <stdlib.h>
#include <string.h>

/* ---- recognising a template ---------------------------------------------------------------- */

/* What tells one published template from another, and from edited copies that would render
 * differently: expressions that must be there, expressions that must not, and how often a turn is
 * opened. Whatever does not fit exactly is refused rather than rendered almost right. */
struct signature {
    enum chat_template template;
    size_t n_turn_starts; /* occurrences of <|im_start|> */
    const char *required[7];
    const char *forbidden[5];
};

#define GENERATION_OPENS_THINKING "{{- '<think>\\n' }}"
#define GENERATION_SKIPS_THINKING "{{- '<think>\\n\\n</think>\\n\\n' }}"
#define USER_TURN "{{- '<|im_start|>' + message.role + '\\n' + content + '<|im_end|>' + '\\n' }}"
#define TRIMMED "{%- set content = render_content(message.content, true)|trim %}"
#define ONLY_LATEST "loop.index0 > ns.last_query_index"
#define SPLIT_THINKING "{%- if '</think>' in content %}"

static const struct signature signatures[] = {
    { CHAT_QWEN3_THINK, 8,
      { "(message.role == \"system\" and not loop.first)", ONLY_LATEST, GENERATION_SKIPS_THINKING,
        "reasoning_content.strip('\\n') + '\\n</think>\\n\\n' + content.lstrip('\\n')",
        "{%- if loop.last or (not loop.last and reasoning_content) %}",
        "{{- '<|im_start|>system\\n' + messages[0].content + '<|im_end|>\\n' }}" },
      { "render_content", "|trim", "reasoning_effort", "preserve_thinking",
        GENERATION_OPENS_THINKING } },
    { CHAT_QWEN35, 7,
      { USER_TURN, TRIMMED, ONLY_LATEST, SPLIT_THINKING, GENERATION_OPENS_THINKING,
        GENERATION_SKIPS_THINKING,
        "{{- raise_exception('System message must be at the beginning.') }}" },
      { "reasoning_effort", "preserve_thinking is undefined", "merged_system",
        "Disabling thinking" } },
    { CHAT_QWEN35_LENIENT, 7,
      { USER_TURN, TRIMMED, ONLY_LATEST, SPLIT_THINKING, GENERATION_OPENS_THINKING,
        GENERATION_SKIPS_THINKING, "{%- set merged_system = first + '\\n' + second %}" },
      { "reasoning_effort", "preserve_thinking is undefined", "must be at the beginning",
        "Disabling thinking" } },
    { CHAT_QWEN38, 9,
      { USER_TURN, TRIMMED, GENERATION_OPENS_THINKING, GENERATION_SKIPS_THINKING,
        "{%- if preserve_thinking is undefined or preserve_thinking is true or " ONLY_LATEST " %}",
        "{%- set resolved_reasoning_effort = reasoning_effort|default('xhigh') %}",
        "Please think carefully through the task, validate key assumptions, consider plausible "
        "alternatives, and prioritize correctness, consistency, and clarity in the final "
        "answer.'" },
      { SPLIT_THINKING, "merged_system", "Disabling thinking" } },
};

static size_t count_occurrences(const char *text, size_t length, const char *part)
{
    size_t n = 0;
    size_t part_length = strlen(part);
    const char *at = text;
    const char *end = text + length;
    while ((at = memmem(at, (size_t)(end - at), part, part_length)) != NULL) {
        n++;
        at += part_length;
    }
    return n;
}

static bool fits(const struct signature *signature, const char *text, size_t length)
{
    for (size_t i = 0; i < 7 && signature->required[i] != NULL; i++) {
        if (count_occurrences(text, length, signature->required[i]) == 0)
            return false;
    }
    for (size_t i = 0; i < 5 && signature->forbidden[i] != NULL; i++) {
        if (count_occurrences(text, length, signature->forbidden[i]) != 0)
            return false;
    }
    return count_occurrences(text, length, "<|im_start|>") == signature->n_turn_starts;
}

static bool is_space(char c)
{
    return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

/* White space between tags that Jinja drops: beside a trimming tag, or the line break after a
 * statement (templates are compiled with trim_blocks and lstrip_blocks). */
static bool dropped_between_tags(const char *text, size_t length, size_t start, size_t end)
{
    bool trimmed_left = start >= 3 && text[start - 3] == '-';
    bool after_statement = start >= 2 && text[start - 2] == '%';
    bool trimmed_right = end + 3 <= length && text[end] == '{' && text[end + 2] == '-';
    bool before_statement = end == length || (end + 2 <= length && text[end + 1] == '%');
    if (start == 0 || trimmed_left || trimmed_right)
        return true;
    return after_statement && before_statement && text[start] == '\n' &&
           memchr(text + start + 1, '\n', end - start - 1) == NULL;
}

/* Writes text without what does not change a rendering: white space inside tags and where Jinja
 * drops it, and the trimming marks. out has room for length + 1 bytes. */
static void squeeze(char *out, const char *text, size_t length)
{
    size_t n = 0;
    bool inside = false;
    char quote = 0;
    for (size_t i = 0; i < length; i++) {
        char c = text[i];
        char next = i + 1 < length ? text[i + 1] : 0;
        if (inside && quote == 0 && (is_space(c) || (c == '-' && next == '}') ||
                                     (c == '-' && next == '%')))
            continue;
        if (!inside && is_space(c)) {
            size_t end = i;
            while (end < length && is_space(text[end]))
                end++;
            if (dropped_between_tags(text, length, i, end)) {
                i = end - 1;
                continue;
            }
        }
        if (inside && (c == '\'' || c == '"'))
            quote = quote == 0 ? c : quote == c ? 0 : quote;
        out[n++] = c;
        if (!inside && c == '{' && (next == '{' || next == '%')) {
            inside = true;
            out[n++] = next;
            i += i + 2 < length && text[i + 2] == '-' ? 2 : 1;
        } else if (inside && quote == 0 && c == '}' && n >= 2 &&
                   (out[n - 2] == '}' || out[n - 2] == '%')) {
            inside = false;
        }
    }
    out[n] = '\0';
}

/* The same text with every occurrence of from replaced by to, which is not longer. */
static void replace_all(char *text, const char *from, const char *to)
{
    size_t from_length = strlen(from);
    size_t to_length = strlen(to);
    char *write = text;
    for (const char *read = text; *read != '\0';) {
        if (strncmp(read, from, from_length) == 0) {
            memcpy(write, to, to_length);
            write += to_length;
            read += from_length;
        } else {
            *write++ = *read++;
        }
    }
    *write = '\0';
}

static bool is_chatml(const char *text, size_t length)
{
    static const char plain[] =
        "{%formessageinmessages%}{{'<|im_start|>'+message.role+'\\n'+message.content+"
        "'<|im_end|>\\n'}}{%endfor%}{%ifadd_generation_prompt%}{{'<|im_start|>assistant\\n'}}"
        "{%endif%}";
    if (length >= 4096 || memchr(text, '\0', length) != NULL) /* ChatML is one line */
        return false;
    char *squeezed = malloc(length + 1);
    if (squeezed == NULL)
        return false;
    squeeze(squeezed, text, length);
    replace_all(squeezed, "\"", "'");
    replace_all(squeezed, "['role']", ".role");
    replace_all(squeezed, "['content']", ".content");
    replace_all(squeezed, "|>'+'\\n'", "|>\\n'");
    replace_all(squeezed,
                "{%ifnotadd_generation_promptisdefined%}{%setadd_generation_prompt=false%}"
                "{%endif%}", "");
    bool same = strcmp(squeezed, plain) == 0;
    free(squeezed);
    return same;
}

bool chat_template_recognise(enum chat_template *out, const char *text, size_t length)
{
    for (size_t i = 0; i < sizeof signatures / sizeof signatures[0]; i++) {
        if (fits(&signatures[i], text, length)) {
            *out = signatures[i].template;
            return true;
        }
    }
    *out = CHAT_CHATML;
    return is_chatml(text, length);
}

enum mtp_status chat_template_choose(enum chat_template *out, const struct gguf *file,
                                     const char *name, struct mtp_error *error)
{
    if (name != NULL) {
        *out = CHAT_CHATML;
        if (strcmp(name, "chatml") == 0)
            return MTP_OK;
        return mtp_fail(error, MTP_ERR_USAGE,
                        "chat template '%s' is not known by name, only chatml is", name);
    }
    struct gguf_string text = { NULL, 0 };
    bool found = false;
    enum mtp_status status =
        gguf_find_string(file, "tokenizer.chat_template", &text, &found, error);
    if (status != MTP_OK)
        return status;
    if (!found)
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s: no tokenizer.chat_template in the file; --template chatml uses plain "
                        "ChatML", gguf_path(file));
    if (!chat_template_recognise(out, text.data, text.length))
        return mtp_fail(error, MTP_ERR_UNSUPPORTED,
                        "%s: tokenizer.chat_template is none of those known here (ChatML, Qwen3, "
                        "Qwen3.5, Qwen3.6, Qwen3.8); --template chatml uses plain ChatML instead",
                        gguf_path(file));
    return MTP_OK;
}

/* ---- tokens of a rendering ----------------------------------------------------------------- */

struct id_list {
    int32_t *ids;
    size_t n, capacity;
};

static enum mtp_status add_ids(struct id_list *list, const int32_t *ids, size_t n,
                               struct mtp_error *error)
{
    if (list->capacity - list->n < n) {
        size_t capacity = 2 * list->capacity + n + 64;
        int32_t *grown = realloc(list->ids, capacity * sizeof *grown);
        if (grown == NULL)
            return mtp_fail_memory(error, "the tokens of a conversation", capacity * sizeof *grown);
        list->ids = grown;
        list->capacity = capacity;
    }
    if (n > 0)
        memcpy(list->ids + list->n, ids, n * sizeof *ids);
    list->n += n;
    return MTP_OK;
}

/* Id of a control piece, or -1: plain text, or a vocabulary without that token, where the template
 * would give plain text too. */
static int32_t control_id(const struct tokenizer *tokenizer, const struct chat_piece *piece)
{
    char text[32];
    if (!piece->control || piece->length >= sizeof text)
        return -1;
    memcpy(text, piece->text, piece->length);
    text[piece->length] = '\0';
    return tokenizer_find(tokenizer, text);
}

static enum mtp_status add_text(struct id_list *list, const struct tokenizer *tokenizer,
                                const char *text, size_t length, struct mtp_error *error)
{
    int32_t *ids = NULL;
    size_t n = 0;
    if (length == 0)
        return MTP_OK;
    enum mtp_status status =
        tokenizer_encode(tokenizer, text, length, MTP_TEXT_PLAIN, &ids, &n, error);
    if (status == MTP_OK)
        status = add_ids(list, ids, n, error);
    free(ids);
    return status;
}

static enum mtp_status rendering_to_ids(struct id_list *list, const struct tokenizer *tokenizer,
                                        const struct chat_rendering *rendering,
                                        struct mtp_error *error)
{
    size_t total = 1;
    for (size_t i = 0; i < rendering->n_pieces; i++)
        total += rendering->pieces[i].length;
    char *text = malloc(total);
    if (text == NULL)
        return mtp_fail_memory(error, "the text of a conversation", total);
    enum mtp_status status = MTP_OK;
    size_t length = 0;
    for (size_t i = 0; i < rendering->n_pieces && status == MTP_OK; i++) {
        const struct chat_piece *piece = &rendering->pieces[i];
        int32_t id = control_id(tokenizer, piece);
        if (id < 0) {
            memcpy(text + length, piece->text, piece->length);
            length += piece->length;
            continue;
        }
        status = add_text(list, tokenizer, text, length, error);
        length = 0;
        if (status == MTP_OK)
            status = add_ids(list, &id, 1, error);
    }
    if (status == MTP_OK)
        status = add_text(list, tokenizer, text, length, error);
    free(text);
    return status;
}

enum mtp_status chat_tokenize(const struct tokenizer *tokenizer, enum chat_template template,
                              const struct mtp_chat_turn *turns, size_t n_turns,
                              const struct mtp_chat_options *options, int32_t **ids, size_t *n_ids,
                              struct mtp_error *error)
{
    *ids = NULL;
    *n_ids = 0;
    struct chat_rendering rendering;
    enum mtp_status status = chat_render(&rendering, template, turns, n_turns, options, error);
    if (status != MTP_OK)
        return status;
    struct id_list list = { NULL, 0, 0 };
    status = rendering_to_ids(&list, tokenizer, &rendering, error);
    chat_rendering_free(&rendering);
    if (status != MTP_OK) {
        free(list.ids);
        return status;
    }
    *ids = list.ids;
    *n_ids = list.n;
    return MTP_OK;
}
