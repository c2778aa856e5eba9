#include "mtpgen.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* A conversation, and the state of the session at the last turn border.
 *
 * Every turn the whole conversation is rendered anew, since a template may drop the thinking of
 * earlier answers. What the session holds is kept as far as it agrees with that rendering; where it
 * goes on differently, the state saved before the last answer is restored instead of reading the
 * conversation again. */
struct chat {
    struct mtpgen_run *run;
    struct mtp_chat_turn *turns; /* texts are malloc'ed */
    size_t n_turns, capacity;
    mtp_checkpoint *border; /* at n_border positions */
    size_t n_border;
    bool dialogue; /* lines of standard input, on a terminal */
};

static enum mtp_status add_turn(struct chat *chat, enum mtp_chat_role role, const char *text,
                                size_t length, struct mtp_error *error)
{
    if (chat->n_turns == chat->capacity) {
        size_t capacity = 2 * chat->capacity + 8;
        struct mtp_chat_turn *grown = realloc(chat->turns, capacity * sizeof *grown);
        if (grown == NULL)
            return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory for the conversation");
        chat->turns = grown;
        chat->capacity = capacity;
    }
    char *copy = malloc(length + 1);
    if (copy == NULL)
        return mtpgen_fail(error, MTP_ERR_MEMORY, "not enough memory for the conversation");
    if (length > 0)
        memcpy(copy, text, length);
    copy[length] = '\0';
    chat->turns[chat->n_turns++] = (struct mtp_chat_turn){ role, copy, length };
    return MTP_OK;
}

static void drop_turns(struct chat *chat, size_t left)
{
    while (chat->n_turns > left)
        free((char *)chat->turns[--chat->n_turns].text);
}

static enum mtp_status start_conversation(struct chat *chat, struct mtp_error *error)
{
    const struct mtpgen_options *options = chat->run->options;
    drop_turns(chat, 0);
    if (options->system != NULL)
        return add_turn(chat, MTP_CHAT_SYSTEM, options->system, strlen(options->system), error);
    if (options->system_file == NULL)
        return MTP_OK;
    struct mtpgen_text text = { 0 };
    enum mtp_status status = mtpgen_read_file(&text, options->system_file, error);
    if (status == MTP_OK)
        status = add_turn(chat, MTP_CHAT_SYSTEM, text.data, text.length, error);
    mtpgen_text_free(&text);
    return status;
}

static enum mtp_status render(struct chat *chat, bool generation_prompt, int32_t **ids, size_t *n,
                              struct mtp_error *error)
{
    const struct mtpgen_options *options = chat->run->options;
    struct mtp_chat_options chat_options = { options->template_name, options->think,
                                             generation_prompt };
    return mtp_chat_tokenize(chat->run->model, chat->turns, chat->n_turns, &chat_options, ids, n,
                             error);
}

static size_t common_prefix(const int32_t *a, size_t n_a, const int32_t *b, size_t n_b)
{
    size_t n = 0;
    while (n < n_a && n < n_b && a[n] == b[n])
        n++;
    return n;
}

/* Brings the session to where it agrees with ids, keeping as much as possible. */
static enum mtp_status align(struct chat *chat, const int32_t *ids, size_t n,
                             struct mtp_error *error)
{
    struct mtpgen_run *run = chat->run;
    size_t common = common_prefix(run->held, run->n_held, ids, n);
    enum mtp_status status = MTP_OK;
    if (common < run->n_held || common == n) {
        if (chat->border != NULL && chat->n_border <= common && chat->n_border < n) {
            status = mtp_checkpoint_restore(run->session, chat->border, error);
            mtpgen_held_cut(run, chat->n_border);
        } else {
            mtp_checkpoint_free(chat->border); /* it belongs to the session */
            chat->border = NULL;
            mtpgen_gather(run);
            mtp_session_close(run->session);
            run->session = NULL;
            run->n_held = 0;
            status = mtp_session_open(&run->session, run->model, &run->session_options, error);
        }
    }
    run->report.n_kept += run->n_held;
    if (run->options->verbose)
        fprintf(stderr, "mtpgen: %zu of %zu tokens kept\n", run->n_held, n);
    return status;
}

/* Reads the conversation as far as the session does not hold it, leaving a checkpoint in front of
 * the prompt for the answer: the next turn differs from this one no earlier than there. */
static enum mtp_status read_conversation(struct chat *chat, const int32_t *ids, size_t n,
                                         const int32_t *history, size_t n_history,
                                         struct mtp_error *error)
{
    struct mtpgen_run *run = chat->run;
    enum mtp_status status = align(chat, ids, n, error);
    size_t border = common_prefix(ids, n, history, n_history);
    if (status == MTP_OK && border > run->n_held && border < n) {
        status = mtpgen_prefill(run, ids + run->n_held, border - run->n_held, error);
        if (status == MTP_OK) {
            mtp_checkpoint_free(chat->border);
            chat->border = NULL;
            status = mtp_checkpoint_take(&chat->border, run->session, error);
            chat->n_border = border;
        }
    }
    if (status != MTP_OK)
        return status;
    return mtpgen_prefill(run, ids + run->n_held, n - run->n_held, error);
}

/* Id of a text that is one token, or -1. */
static int32_t single_token(const mtp_model *model, const char *text)
{
    int32_t *ids = NULL;
    size_t n = 0;
    int32_t id = -1;
    if (mtp_tokenize(model, text, strlen(text), MTP_TEXT_SPECIAL, &ids, &n, NULL) == MTP_OK &&
        n == 1)
        id = ids[0];
    free(ids);
    return id;
}

/* True when the prompt for an answer opens the thinking itself. */
static bool opens_thinking(const struct mtpgen_answer *answer, const int32_t *ids, size_t n)
{
    for (size_t i = n; i-- > 0 && n - i <= 4;) {
        if (ids[i] == answer->think_open)
            return ids[i] >= 0;
        if (ids[i] == answer->think_close)
            return false;
    }
    return false;
}

/* Keeps an answer as a turn. Thinking that was cut short is closed, so that the template can tell
 * it from the answer, which is empty then. */
static enum mtp_status keep_answer(struct chat *chat, struct mtpgen_answer *answer,
                                   struct mtp_error *error)
{
    static const char closing[] = "\n</think>\n\n";
    enum mtp_status status = MTP_OK;
    if (answer->thinking)
        status = mtpgen_text_add(&answer->text, closing, strlen(closing), error);
    if (status == MTP_OK)
        status = add_turn(chat, MTP_CHAT_ASSISTANT, answer->text.data, answer->text.length, error);
    return status;
}

/* Answers the last turn, which is the user's. */
static enum mtp_status answer_turn(struct chat *chat, struct mtp_error *error)
{
    struct mtpgen_run *run = chat->run;
    int32_t *ids = NULL, *history = NULL;
    size_t n = 0, n_history = 0;
    struct mtpgen_answer answer = { { 0 }, single_token(run->model, "<think>"),
                                    single_token(run->model, "</think>"), false };
    run->turn_start = mtpgen_now();
    enum mtp_status status = render(chat, true, &ids, &n, error);
    if (status == MTP_OK)
        status = render(chat, false, &history, &n_history, error);
    if (status == MTP_OK)
        status = mtpgen_check_length(run, n, error);
    if (status == MTP_OK)
        status = read_conversation(chat, ids, n, history, n_history, error);
    if (status == MTP_OK) {
        answer.thinking = opens_thinking(&answer, ids, n);
        status = mtpgen_generate(run, &answer, error);
        mtpgen_warn_of_drafts(run);
    }
    if (status == MTP_OK)
        status = keep_answer(chat, &answer, error);
    mtpgen_text_free(&answer.text);
    free(ids);
    free(history);
    return status;
}

/* One line of a dialogue; *ended at its end. */
static enum mtp_status take_line(struct chat *chat, struct mtpgen_text *line, bool *ended,
                                 struct mtp_error *error)
{
    if (chat->dialogue)
        fputs("> ", stderr);
    enum mtp_status status = mtpgen_read_line(line, ended, error);
    if (status != MTP_OK || *ended)
        return status;
    if (strcmp(line->data, "/exit") == 0) {
        *ended = true;
        return MTP_OK;
    }
    if (strcmp(line->data, "/clear") == 0)
        return start_conversation(chat, error);
    if (line->length == 0)
        return MTP_OK;
    size_t before = chat->n_turns;
    status = add_turn(chat, MTP_CHAT_USER, line->data, line->length, error);
    if (status == MTP_OK)
        status = answer_turn(chat, error);
    if (status == MTP_OK)
        status = mtpgen_write("\n", 1, error);
    bool stopped = status == MTP_ERR_INTERRUPTED || chat->run->report.stop == STOP_INTERRUPTED;
    if (chat->dialogue && stopped && (status == MTP_OK || status == MTP_ERR_INTERRUPTED)) {
        if (status == MTP_ERR_INTERRUPTED)
            drop_turns(chat, before); /* Ctrl-C while the question was being read */
        mtpgen_signals_again();
        return MTP_OK;
    }
    if (chat->dialogue && status == MTP_ERR_CONTEXT) {
        fprintf(stderr, "mtpgen: %s (/clear starts anew)\n", error->message);
        drop_turns(chat, before);
        return MTP_OK;
    }
    *ended = status == MTP_OK && stopped;
    return status;
}

static enum mtp_status converse(struct chat *chat, struct mtp_error *error)
{
    struct mtpgen_text line = { 0 };
    bool ended = false;
    enum mtp_status status = MTP_OK;
    if (chat->dialogue)
        fputs("One line is one turn; /clear starts anew, /exit or Ctrl-D ends.\n", stderr);
    while (status == MTP_OK && !ended)
        status = take_line(chat, &line, &ended, error);
    if (chat->dialogue && ended)
        fputc('\n', stderr);
    mtpgen_text_free(&line);
    return status;
}

/* Refuses a template before anybody has typed a question. */
static enum mtp_status try_template(struct chat *chat, struct mtp_error *error)
{
    int32_t *ids = NULL;
    size_t n = 0;
    size_t before = chat->n_turns;
    enum mtp_status status = add_turn(chat, MTP_CHAT_USER, "?", 1, error);
    if (status == MTP_OK)
        status = render(chat, true, &ids, &n, error);
    free(ids);
    drop_turns(chat, before);
    return status;
}

enum mtp_status mtpgen_chat(struct mtpgen_run *run, const struct mtpgen_text *prompt,
                            struct mtp_error *error)
{
    struct chat chat = { .run = run };
    chat.dialogue = prompt == NULL && isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
    enum mtp_status status = start_conversation(&chat, error);
    if (status == MTP_OK)
        status = try_template(&chat, error);
    if (status == MTP_OK && prompt == NULL) {
        status = converse(&chat, error);
    } else if (status == MTP_OK) {
        status = add_turn(&chat, MTP_CHAT_USER, prompt->data, prompt->length, error);
        if (status == MTP_OK)
            status = answer_turn(&chat, error);
    }
    mtp_checkpoint_free(chat.border);
    drop_turns(&chat, 0);
    free(chat.turns);
    return status;
}
