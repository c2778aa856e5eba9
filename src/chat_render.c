#include "chat.h"

#include <stdlib.h>
#include <string.h>

#include "utf8.h"

struct slice {
    const char *text;
    size_t length;
};

/* What Qwen3.8's template puts into the system turn for its default effort. */
static const char full_effort[] =
    "Reasoning effort is set to xhigh. Please think carefully through the task, validate key "
    "assumptions, consider plausible alternatives, and prioritize correctness, consistency, and "
    "clarity in the final answer.";

/* ---- texts ----------------------------------------------------------------------------------- */

/* Python's str.isspace, which Jinja's trim goes by. */
static bool is_unicode_space(uint32_t c)
{
    return (c >= 0x09 && c <= 0x0d) || (c >= 0x1c && c <= 0x20) || c == 0x85 || c == 0xa0 ||
           c == 0x1680 || (c >= 0x2000 && c <= 0x200a) || c == 0x2028 || c == 0x2029 ||
           c == 0x202f || c == 0x205f || c == 0x3000;
}

static struct slice trim_left(struct slice s)
{
    for (;;) {
        size_t n = utf8_sequence_length(s.text, s.length);
        if (n == 0 || !is_unicode_space(utf8_decode(s.text, n)))
            return s;
        s.text += n;
        s.length -= n;
    }
}

static struct slice trim_right(struct slice s)
{
    while (s.length > 0) {
        size_t n = 1;
        while (n < 4 && n < s.length && ((unsigned char)s.text[s.length - n] & 0xc0) == 0x80)
            n++;
        const char *last = s.text + s.length - n;
        if (utf8_sequence_length(last, n) != n || !is_unicode_space(utf8_decode(last, n)))
            break;
        s.length -= n;
    }
    return s;
}

static struct slice trim(struct slice s)
{
    return trim_right(trim_left(s));
}

static struct slice strip_newlines_left(struct slice s)
{
    while (s.length > 0 && s.text[0] == '\n') {
        s.text++;
        s.length--;
    }
    return s;
}

static struct slice strip_newlines_right(struct slice s)
{
    while (s.length > 0 && s.text[s.length - 1] == '\n')
        s.length--;
    return s;
}

static bool starts_with(struct slice s, const char *part)
{
    size_t n = strlen(part);
    return s.length >= n && memcmp(s.text, part, n) == 0;
}

static bool ends_with(struct slice s, const char *part)
{
    size_t n = strlen(part);
    return s.length >= n && memcmp(s.text + s.length - n, part, n) == 0;
}

/* Offset of the first (or last) occurrence of part, or s.length + 1. */
static size_t find(struct slice s, const char *part, bool last)
{
    size_t n = strlen(part);
    size_t at = s.length + 1;
    for (size_t i = 0; i + n <= s.length; i++) {
        if (memcmp(s.text + i, part, n) == 0) {
            at = i;
            if (!last)
                break;
        }
    }
    return at;
}

/* Splits what a model wrote into its thinking (text before the first </think>, after the last
 * <think> in it) and its answer (text after the last </think>). */
static void split_thinking(struct slice content, struct slice *thinking, struct slice *answer)
{
    *thinking = (struct slice){ content.text, 0 };
    *answer = content;
    size_t close = find(content, "</think>", false);
    if (close > content.length)
        return;
    struct slice before = strip_newlines_right((struct slice){ content.text, close });
    size_t open = find(before, "<think>", true);
    if (open <= before.length) {
        before.text += open + strlen("<think>");
        before.length -= open + strlen("<think>");
    }
    *thinking = strip_newlines_left(before);
    size_t after = find(content, "</think>", true) + strlen("</think>");
    *answer = strip_newlines_left((struct slice){ content.text + after, content.length - after });
}

/* ---- pieces ---------------------------------------------------------------------------------- */

struct renderer {
    struct chat_rendering *out;
    const struct mtp_chat_turn *turns;
    size_t n_turns;
    enum chat_template template;
    bool think;
    bool failed; /* out of memory */
};

static void add_piece(struct renderer *r, bool control, const char *text, size_t length)
{
    struct chat_rendering *out = r->out;
    if (length == 0 || r->failed)
        return;
    if (out->n_pieces == out->capacity) {
        size_t capacity = 2 * out->capacity + 32;
        struct chat_piece *grown = realloc(out->pieces, capacity * sizeof *grown);
        if (grown == NULL) {
            r->failed = true;
            return;
        }
        out->pieces = grown;
        out->capacity = capacity;
    }
    out->pieces[out->n_pieces++] = (struct chat_piece){ control, text, length };
}

static void add_control(struct renderer *r, const char *text)
{
    add_piece(r, true, text, strlen(text));
}

static void add_plain(struct renderer *r, const char *text)
{
    add_piece(r, false, text, strlen(text));
}

static void add_slice(struct renderer *r, struct slice s)
{
    add_piece(r, false, s.text, s.length);
}

static const char *role_line(enum mtp_chat_role role)
{
    switch (role) {
    case MTP_CHAT_SYSTEM:
        return "system\n";
    case MTP_CHAT_USER:
        return "user\n";
    default:
        return "assistant\n";
    }
}

static void open_turn(struct renderer *r, enum mtp_chat_role role)
{
    add_control(r, "<|im_start|>");
    add_plain(r, role_line(role));
}

static void close_turn(struct renderer *r)
{
    add_control(r, "<|im_end|>");
    add_plain(r, "\n");
}

static void add_turn(struct renderer *r, enum mtp_chat_role role, struct slice text)
{
    open_turn(r, role);
    add_slice(r, text);
    close_turn(r);
}

static void add_thinking(struct renderer *r, struct slice thinking)
{
    add_control(r, "<think>");
    add_plain(r, "\n");
    add_slice(r, thinking);
    add_plain(r, "\n");
    add_control(r, "</think>");
    add_plain(r, "\n\n");
}

static bool trims(enum chat_template template)
{
    return template == CHAT_QWEN35 || template == CHAT_QWEN35_LENIENT ||
           template == CHAT_QWEN38;
}

/* Text of a turn as the template sees it. */
static struct slice turn_text(const struct renderer *r, size_t i)
{
    struct slice text = { r->turns[i].text, r->turns[i].length };
    return trims(r->template) ? trim(text) : text;
}

/* Index of the last user turn that is a question and not a tool's answer; n_turns when none. */
static size_t last_query(const struct renderer *r)
{
    for (size_t i = r->n_turns; i-- > 0;) {
        struct slice text = turn_text(r, i);
        if (r->turns[i].role == MTP_CHAT_USER &&
            !(starts_with(text, "<tool_response>") && ends_with(text, "</tool_response>")))
            return i;
    }
    return r->n_turns;
}

/* ---- templates ------------------------------------------------------------------------------- */

static void render_qwen3(struct renderer *r)
{
    size_t query = last_query(r);
    if (query == r->n_turns)
        query = r->n_turns - 1;
    for (size_t i = 0; i < r->n_turns; i++) {
        struct slice text = turn_text(r, i);
        if (r->turns[i].role != MTP_CHAT_ASSISTANT) {
            add_turn(r, r->turns[i].role, text);
            continue;
        }
        struct slice thinking, answer;
        split_thinking(text, &thinking, &answer);
        open_turn(r, MTP_CHAT_ASSISTANT);
        if (i > query && (i + 1 == r->n_turns || thinking.length > 0)) {
            add_thinking(r, strip_newlines_right(strip_newlines_left(thinking)));
            answer = strip_newlines_left(answer);
        }
        add_slice(r, answer);
        close_turn(r);
    }
}

/* The system turn of Qwen3.5 and later; returns how many turns it used up. */
static size_t render_system(struct renderer *r)
{
    bool present = r->turns[0].role == MTP_CHAT_SYSTEM;
    bool second = r->template == CHAT_QWEN35_LENIENT && present && r->n_turns > 1 &&
                  r->turns[1].role == MTP_CHAT_SYSTEM;
    bool effort = r->template == CHAT_QWEN38 && r->think;
    struct slice text = present ? turn_text(r, 0) : (struct slice){ "", 0 };
    bool empty_kept = r->template == CHAT_QWEN35 && present;
    if (effort || second || text.length > 0 || empty_kept) {
        open_turn(r, MTP_CHAT_SYSTEM);
        if (effort)
            add_plain(r, full_effort);
        if (effort && text.length > 0)
            add_plain(r, "\n\n");
        add_slice(r, text);
        if (second) {
            add_plain(r, "\n");
            add_slice(r, turn_text(r, 1));
        }
        close_turn(r);
    }
    return (present ? 1u : 0u) + (second ? 1u : 0u);
}

static enum mtp_status render_qwen35(struct renderer *r, struct mtp_error *error)
{
    size_t query = last_query(r);
    if (query == r->n_turns && r->template != CHAT_QWEN35_LENIENT)
        return mtp_fail(error, MTP_ERR_USAGE, "the chat template needs a turn of the user");
    if (query == r->n_turns)
        query = r->n_turns - 1;
    for (size_t i = render_system(r); i < r->n_turns; i++) {
        struct slice text = turn_text(r, i);
        if (r->turns[i].role == MTP_CHAT_USER) {
            add_turn(r, MTP_CHAT_USER, text);
        } else if (r->turns[i].role == MTP_CHAT_ASSISTANT) {
            struct slice thinking, answer;
            split_thinking(text, &thinking, &answer);
            open_turn(r, MTP_CHAT_ASSISTANT);
            if (i > query || r->template == CHAT_QWEN38)
                add_thinking(r, trim(thinking));
            add_slice(r, r->template == CHAT_QWEN38 ? trim(answer) : answer);
            close_turn(r);
        } else if (r->template != CHAT_QWEN35_LENIENT) {
            return mtp_fail(error, MTP_ERR_USAGE,
                            "the chat template allows a system turn at the beginning only");
        }
    }
    return MTP_OK;
}

static void render_generation_prompt(struct renderer *r)
{
    open_turn(r, MTP_CHAT_ASSISTANT);
    if (r->template == CHAT_CHATML || (r->template == CHAT_QWEN3_THINK && r->think))
        return;
    add_control(r, "<think>");
    if (r->think) {
        add_plain(r, "\n");
        return;
    }
    add_plain(r, "\n\n");
    add_control(r, "</think>");
    add_plain(r, "\n\n");
}

enum mtp_status chat_render(struct chat_rendering *out, enum chat_template template,
                            const struct mtp_chat_turn *turns, size_t n_turns,
                            const struct mtp_chat_options *options, struct mtp_error *error)
{
    *out = (struct chat_rendering){ NULL, 0, 0 };
    if (n_turns == 0)
        return mtp_fail(error, MTP_ERR_USAGE, "a conversation needs at least one turn");
    struct renderer r = { out, turns, n_turns, template, options->think, false };
    enum mtp_status status = MTP_OK;
    if (trims(template)) {
        status = render_qwen35(&r, error);
    } else if (template == CHAT_QWEN3_THINK) {
        render_qwen3(&r);
    } else {
        for (size_t i = 0; i < n_turns; i++)
            add_turn(&r, turns[i].role, turn_text(&r, i));
    }
    if (status == MTP_OK && options->add_generation_prompt)
        render_generation_prompt(&r);
    if (status == MTP_OK && r.failed)
        status = mtp_fail_memory(error, "a conversation", out->capacity * sizeof *out->pieces);
    if (status != MTP_OK)
        chat_rendering_free(out);
    return status;
}

void chat_rendering_free(struct chat_rendering *rendering)
{
    free(rendering->pieces);
    *rendering = (struct chat_rendering){ NULL, 0, 0 };
}
