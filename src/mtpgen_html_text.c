/* The text of a run, each token marked by where it came from, and drafts that were not taken. */
#include <inttypes.h>

#include "mtpgen_html.h"
#include "mtpgen_markup.h"

/* Characters may be split between tokens: those of the text go through a decoder, and a token that gave
 * nothing but the beginning of one shows a dot. */
struct text_writer {
    FILE *out;
    const struct mtpgen_run *run;
    const struct mtpgen_history *history;
    mtp_decoder *decoder; /* NULL: no memory for one, bytes are shown token by token */
    uint64_t n_steps;     /* shown */
    bool in_prompt, in_answer;
};

static void control_token(FILE *out, int32_t id, const char *bytes, size_t length)
{
    fputs("<b class=\"c\">", out);
    if (length > 0)
        markup_visible(out, bytes, length);
    else
        fprintf(out, "token %" PRId32, id);
    fputs("</b>", out);
}

/* Inside its element. */
static void put_token(struct text_writer *w, int32_t id, bool joined)
{
    bool control;
    size_t length;
    const char *bytes = mtp_token_bytes(w->run->model, id, &length, &control);
    if (control || bytes == NULL) {
        control_token(w->out, id, bytes, length);
        return;
    }
    if (joined && w->decoder != NULL)
        bytes = mtp_decoder_push(w->decoder, id, &length);
    if (length > 0)
        markup_visible(w->out, bytes, length);
    else if (!w->in_prompt)
        fputs("<i class=\"x\">\xc2\xb7</i>", w->out);
}

/* What was held back of a character that never came to its end. */
static void flush_text(struct text_writer *w)
{
    size_t length = 0;
    const char *bytes = w->decoder != NULL ? mtp_decoder_flush(w->decoder, &length) : NULL;
    if (length > 0)
        markup_visible(w->out, bytes, length);
}

static void close_blocks(struct text_writer *w)
{
    if (!w->in_prompt && !w->in_answer)
        return;
    flush_text(w);
    fputs("</div>\n", w->out);
    w->in_prompt = w->in_answer = false;
}

static void put_prompt(struct text_writer *w, const struct mtpgen_event *event)
{
    const int32_t *ids = w->history->ids + event->first;
    uint32_t side = MTPGEN_HISTORY_PROMPT;
    uint32_t n = event->n_tokens < 2 * side ? event->n_tokens : 2 * side;
    if (!w->in_prompt) {
        close_blocks(w);
        fputs("<h3>Prompt</h3>\n<div class=\"txt prompt\">", w->out);
        w->in_prompt = true;
    }
    for (uint32_t i = 0; i < n; i++) {
        if (i == side && event->n_tokens > 2 * side) {
            flush_text(w);
            fprintf(w->out, "<i class=\"gap\"> [%" PRIu32 " tokens of the prompt are left out here] </i>",
                    event->n_tokens - n);
        }
        put_token(w, ids[i], true);
    }
}

static const char *source_name(const struct mtpgen_event *event)
{
    return event->kind == EVENT_NGRAM_STEP ? "the text so far (n-gram)" : "the MTP block";
}

/* The title of a step. */
static void put_step_title(struct text_writer *w, const struct mtpgen_event *event)
{
    FILE *out = w->out;
    fprintf(out, " title=\"step %" PRIu64 ": ", w->n_steps);
    if (!event->counted)
        fputs("the text ended here, no pass followed", out);
    else if (event->n_drafts == 0)
        fputs("no drafts", out);
    else
        fprintf(out, "%u draft%s from %s, %u accepted%s", event->n_drafts, event->n_drafts == 1 ? "" : "s",
                source_name(event), event->n_accepted,
                event->n_compared == event->n_accepted && event->n_drafts > event->n_accepted
                    ? "; the text ended here" : "");
    fputs("\"", out);
}

static void put_step(struct text_writer *w, const struct mtpgen_event *event)
{
    const int32_t *ids = w->history->ids + event->first;
    uint32_t n_dropped = event->n_drafts - event->n_accepted;
    if (!w->in_answer) {
        close_blocks(w);
        fputs("<h3>Generated</h3>\n<div class=\"txt\">", w->out);
        w->in_answer = true;
    }
    w->n_steps++;
    fputs(event->kind == EVENT_NGRAM_STEP ? "<span class=\"s n\"" : "<span class=\"s\"", w->out);
    put_step_title(w, event);
    fputc('>', w->out);
    for (uint32_t i = 0; i < event->n_tokens; i++) {
        fputs(i == 0 || i > event->n_accepted ? "<span class=\"t\">" : "<span class=\"a\">", w->out);
        put_token(w, ids[i], true);
        fputs("</span>", w->out);
    }
    for (uint32_t i = 0; i < n_dropped; i++) {
        fputs(event->n_accepted + i < event->n_compared ? "<s class=\"r\">" : "<s class=\"u\">", w->out);
        put_token(w, ids[event->n_tokens + i], false);
        fputs("</s>", w->out);
    }
    fputs("</span>", w->out);
}

static void put_legend(FILE *out)
{
    fputs("<ul class=\"legend tokens\">\n"
          "<li><span class=\"t\">token</span> drawn by the model</li>\n"
          "<li><span class=\"s\"><span class=\"a\">token</span></span> draft of the MTP block, "
          "accepted</li>\n"
          "<li><span class=\"s n\"><span class=\"a\">token</span></span> draft from the text so far "
          "(n-gram), "
          "accepted</li>\n"
          "<li><s class=\"r\">token</s> draft rejected: the model drew what follows</li>\n"
          "<li><s class=\"u\">token</s> drafts behind that one, or behind the end of the text</li>\n"
          "<li><i class=\"x\">\\x1b</i> control characters and bytes that are no UTF-8; <b class=\"c\">"
          "control "
          "token</b>; <i class=\"x\">\xc2\xb7</i> the beginning of a character that the next token "
          "ends</li>\n"
          "</ul>\n", out);
}

static void say_rest(FILE *out, const struct mtpgen_history *history, size_t n_shown)
{
    uint64_t rest = history->n_events - n_shown + history->n_left_out;
    if (rest > 0)
        fprintf(out, "<p class=\"note\">The text goes on: %" PRIu64 " further steps and prompts are not "
                "shown on "
                "this page. All numbers count them.</p>\n", rest);
}

void mtpgen_html_text(FILE *out, const struct mtpgen_run *run)
{
    struct text_writer w = { .out = out, .run = run, .history = &run->history };
    mtp_decoder_open(&w.decoder, run->model, NULL);
    fputs("<section class=\"wide\">\n<h2>The text, token by token</h2>\n", out);
    put_legend(out);
    fputs("<input type=\"checkbox\" id=\"hide\"/><label for=\"hide\"> without the drafts that were not taken"
          "</label>\n<div class=\"texts\" dir=\"ltr\">\n", out);
    size_t i = 0;
    for (; i < run->history.n_events && w.n_steps < HTML_TEXT_STEPS && !ferror(out); i++) {
        const struct mtpgen_event *event = &run->history.events[i];
        if (event->kind == EVENT_PROMPT)
            put_prompt(&w, event);
        else
            put_step(&w, event);
    }
    close_blocks(&w);
    fputs("</div>\n", out);
    say_rest(out, &run->history, i);
    fputs("</section>\n", out);
    mtp_decoder_close(w.decoder);
}
