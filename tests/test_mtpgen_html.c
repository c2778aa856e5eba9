/* The report as a page: what it shows of the steps, that no text breaks out of it, and that it stays small.
 * The engine is a fake (fake_engine.h): a token is a byte. tests/test_mtpgen_page.sh looks at pages of real
 * runs. */
#include <fcntl.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>
#include <jansson.h>

#include "fake_engine.h"
#include "mtpgen.h"
#include "mtpgen_html.h"
#include "mtpgen_markup.h"

static struct mtpgen_options options;
static struct mtpgen_run run;
static char *page;
static const char hostile[] = "</style></title><script>alert('1')</script>\"&\x1b\xff\xe2\x80\xae";
static char *const arguments[] = { "mtpgen", (char *)hostile, NULL };

static void forget(void)
{
    mtp_session_close(run.session);
    mtpgen_history_free(&run.history);
    free(run.held);
    free(run.ids);
    free(page);
    page = NULL;
    memset(&run, 0, sizeof run);
    memset(&fake, 0, sizeof fake);
    memset(&options, 0, sizeof options);
}

static void begin(void)
{
    forget();
    options.argc = 2;
    options.argv = arguments;
    options.model_path = hostile;
    options.n_predict = UINT64_MAX;
    run.options = &options;
    run.history.wanted = true;
    run.generation.n_draft = 3;
    run.report.drafts = (struct mtp_draft_stats){ .steps = 2, .drafted = 6, .accepted = 3,
                                                  .drafted_at = { 2, 2, 2 }, .histogram = { 1, 0, 0, 1 } };
}

static const char *make_page(void)
{
    size_t length;
    FILE *out = open_memstream(&page, &length);
    assert_non_null(out);
    assert_true(mtpgen_html_print(out, &run, MTP_OK));
    fclose(out);
    assert_int_equal(strlen(page), length);
    return page;
}

static size_t count_of(const char *text, const char *wanted)
{
    size_t n = 0;
    for (const char *at = strstr(text, wanted); at != NULL; at = strstr(at + 1, wanted))
        n++;
    return n;
}

static void has(const char *text, const char *wanted)
{
    if (strstr(text, wanted) == NULL)
        print_error("lacks: %s\n%s", wanted, text);
    assert_non_null(strstr(text, wanted));
}

/* A step of 3 drafts whose tokens are text, of which the first was drawn. */
static struct mtp_step_outcome step(const char *text, const char *dropped, enum mtp_draft_source source)
{
    struct mtp_step_outcome o = { .counted = true, .source = source };
    o.step.n_tokens = (uint32_t)strlen(text);
    o.step.n_accepted = o.step.n_tokens - 1;
    o.step.n_drafts = o.step.n_accepted + (uint32_t)strlen(dropped);
    o.n_compared = o.step.n_accepted + (dropped[0] != '\0');
    for (uint32_t i = 0; i < o.step.n_tokens; i++)
        o.step.tokens[i] = (unsigned char)text[i];
    for (uint32_t i = 0; i < o.step.n_drafts; i++)
        o.step.drafts[i] = i < o.step.n_accepted ? text[i + 1] : dropped[i - o.step.n_accepted];
    return o;
}

static void add_step(const char *text, const char *dropped, enum mtp_draft_source source)
{
    struct mtp_step_outcome o = step(text, dropped, source);
    mtpgen_history_step(&run.history, &o);
}

/* ---- text ------------------------------------------------------------------------------------ */

static const char *written(const char *text, size_t length, bool visible)
{
    static char out[4096];
    memset(out, 0, sizeof out);
    FILE *file = fmemopen(out, sizeof out - 1, "w");
    assert_non_null(file);
    (visible ? markup_visible : markup_text)(file, text, length);
    fclose(file);
    return out;
}

static void what_could_be_markup_or_is_unseen_is_escaped(void **state)
{
    (void)state;
    static const struct { const char *in, *out; } cases[] = {
        { "<a href=\"x\">&'", "&lt;a href=&quot;x&quot;&gt;&amp;&#39;" },
        { "caf\xc3\xa9 \xf0\x9f\x98\x80", "caf\xc3\xa9 \xf0\x9f\x98\x80" },
        { "\x1b[31m\x7f\r\n\t", "\\x1b[31m\\x7f\\x0d\\x0a\\x09" },
        { "\xff\xc0\xaf\xe2\x82", "\\xff\\xc0\\xaf\\xe2\\x82" },       /* no lead, too long, cut short */
        { "\xed\xa0\x80\xf5\x80\x80\x80", "\\xed\\xa0\\x80\\xf5\\x80\\x80\\x80" }, /* surrogate, too high */
        { "\xe0\x80\xbc\xf0\x80\x80\xbc\xf4\x90\x80\x80",                /* '<' in three and four bytes */
          "\\xe0\\x80\\xbc\\xf0\\x80\\x80\\xbc\\xf4\\x90\\x80\\x80" },
        { "a\xe2\x80\xae" "b\xe2\x81\xa6" "c\xef\xbb\xbf", "aU+202EbU+2066cU+FEFF" },
        { "\xc2\x85\xef\xbf\xbf\xe2\x80\xa8", "U+0085U+FFFFU+2028" },
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++)
        assert_string_equal(written(cases[i].in, strlen(cases[i].in), false), cases[i].out);
    assert_string_equal(written("a\0b", 3, false), "a\\x00b");
    assert_string_equal(written("\n<\t\xff\0", 5, true),
                        "<i class=\"x\">\xe2\x86\xb5</i>\n&lt;<i class=\"x\">\xe2\x87\xa5</i>\t"
                        "<i class=\"x\">\\xff</i><i class=\"x\">\\x00</i>");
}

/* Nothing but what is allowed: no markup, entities only, no control character, and well-formed UTF-8. */
static void harmless(const char *out)
{
    static const char *const entities[] = { "&lt;", "&gt;", "&amp;", "&quot;", "&#39;" };
    for (const char *c = out; *c != '\0'; c++) {
        bool entity = false;
        for (size_t i = 0; i < 5; i++)
            entity = entity || strncmp(c, entities[i], strlen(entities[i])) == 0;
        assert_true(strchr("<>\"'", *c) == NULL && (unsigned char)*c >= 0x20 && (*c != '&' || entity));
    }
    json_t *string = json_string(out); /* NULL unless it is UTF-8 */
    assert_non_null(string);
    json_decref(string);
}

static void no_bytes_get_through_as_anything_but_text(void **state)
{
    (void)state;
    uint32_t random = 1;
    char text[64];
    for (uint32_t pair = 0; pair < 65536; pair++) {
        text[0] = (char)(pair >> 8);
        text[1] = (char)pair;
        harmless(written(text, 2, false));
    }
    for (int round = 0; round < 20000; round++) {
        for (size_t i = 0; i < sizeof text; i++) {
            random = random * 1664525 + 1013904223;
            text[i] = (char)(random >> 24 | (random >> 23 & 1) << 7); /* half of them above ASCII */
        }
        harmless(written(text, sizeof text, false));
    }
}

static void names_and_arguments_of_a_run_do_not_break_out(void **state)
{
    (void)state;
    begin();
    strcpy(run.report.strict.first_difference, hostile);
    run.report.strict.mode = MTP_STRICT_FULL;
    run.report.strict.mismatches = 1;
    const int32_t ids[] = { '<', '/', 'd', 'i', 'v', '>', 0x1b, 0xff, FAKE_IM_END };
    mtpgen_history_prompt(&run.history, ids, 9);
    add_step("<b>", "&<\"", MTP_DRAFT_HEAD);
    const char *text = make_page();
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "alert('"));
    assert_null(strchr(text, 0x1b));
    assert_null(strchr(text, '\xff'));
    assert_null(strstr(text, "\xe2\x80\xae"));
    assert_int_equal(count_of(text, "</style>"), 1);
    assert_int_equal(count_of(text, "</title></"), 0);
    has(text, "<h1>a &quot;fake&quot;</h1>");
    has(text, "First difference: &lt;/style&gt;&lt;/title&gt;&lt;script&gt;alert(&#39;1&#39;)");
    has(text, "&lt;/div&gt;<i class=\"x\">\\x1b</i><i class=\"x\">\\xff</i><b class=\"c\">&lt;"
        "|im_end|&gt;</b>");
    has(text, "<span class=\"t\">&lt;</span><span class=\"a\">b</span><span class=\"a\">&gt;</span>"
              "<s class=\"r\">&amp;</s><s class=\"u\">&lt;</s><s class=\"u\">&quot;</s>");
    has(text, "content=\"default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action "
        "'none'\"/>");
}

/* ---- steps ----------------------------------------------------------------------------------- */

static void steps_show_what_was_drawn_taken_and_dropped_and_from_where(void **state)
{
    (void)state;
    begin();
    add_step("abc", "xy", MTP_DRAFT_HEAD);
    add_step("def", "", MTP_DRAFT_NGRAM);
    struct mtp_step_outcome ended = step("gh", "z", MTP_DRAFT_HEAD);
    ended.n_compared = 1; /* the text ended at h: nobody looked at z */
    mtpgen_history_step(&run.history, &ended);
    struct mtp_step_outcome last = step("i", "", MTP_DRAFT_HEAD);
    last.counted = false;
    mtpgen_history_step(&run.history, &last);
    const char *text = make_page();
    has(text, "<span class=\"s\" title=\"step 1: 4 drafts from the MTP block, 2 accepted\"><span "
        "class=\"t\">a</span>"
              "<span class=\"a\">b</span><span class=\"a\">c</span><s class=\"r\">x</s><s class=\"u\">"
              "y</s></span>"
              "<span class=\"s n\" title=\"step 2: 2 drafts from the text so far (n-gram), 2 accepted\">"
              "<span class=\"t\">d</span>");
    has(text, "title=\"step 3: 2 drafts from the MTP block, 1 accepted; the text ended here\"><span "
        "class=\"t\">g</span>"
              "<span class=\"a\">h</span><s class=\"u\">z</s></span>");
    has(text, "title=\"step 4: the text ended here, no pass followed\"><span class=\"t\">i</span></span>"
        "</div>");
    has(text, "step <span data-field=\"steps\">3</span>");
    assert_int_equal(count_of(text, "<rect class=\"prop\""), 3);
    assert_int_equal(count_of(text, "<rect class=\"ngram\""), 1);
}

/* What generation hands on is what the engine said of its steps. */
static void a_run_keeps_its_prompt_and_every_step(void **state)
{
    (void)state;
    begin();
    mtp_session_open(&run.session, NULL, &(struct mtp_session_options){ 0 }, NULL);
    fake.script = "hello world";
    fake.accepts = "203";
    fake.rejected = '#';
    const int32_t prompt[] = { 'p', 'q' };
    int null = open("/dev/null", O_WRONLY), old = dup(1);
    dup2(null, 1);
    enum mtp_status status = mtpgen_prefill(&run, prompt, 2, NULL);
    if (status == MTP_OK)
        status = mtpgen_generate(&run, NULL, NULL);
    dup2(old, 1);
    close(old);
    close(null);
    assert_int_equal(status, MTP_OK);
    const struct mtpgen_history *h = &run.history;
    static const uint32_t tokens[] = { 2, 3, 1, 4, 3, 1 }; /* the prompt; hel, l, "o wo", rld,
        the end token */
    assert_int_equal(h->n_events, 6);
    for (size_t i = 0; i < 6; i++)
        assert_int_equal(h->events[i].n_tokens, tokens[i]);
    assert_int_equal(h->events[2].n_drafts, 3);
    assert_int_equal(h->ids[h->events[2].first], 'l');
    assert_int_equal(h->ids[h->events[2].first + 3], '#');
    assert_false(h->events[5].counted);
    assert_int_equal(h->events[0].kind, EVENT_PROMPT);
    has(make_page(), "<div class=\"txt prompt\">pq</div>");
}

static void without_a_page_nothing_is_kept(void **state)
{
    (void)state;
    begin();
    run.history.wanted = false;
    mtpgen_history_prompt(&run.history, (const int32_t[]){ 1 }, 1);
    add_step("ab", "", MTP_DRAFT_HEAD);
    assert_int_equal(run.history.n_events, 0);
    assert_null(run.history.ids);
    assert_true(mtpgen_report_is_page("a.html") && !mtpgen_report_is_page("html") &&
                !mtpgen_report_is_page(".html") && !mtpgen_report_is_page("a.html.json") &&
                !mtpgen_report_is_page(NULL));
}

/* ---- size ------------------------------------------------------------------------------------ */

static void long_prompts_and_runs_are_thinned_out_and_the_page_says_so(void **state)
{
    (void)state;
    begin();
    static int32_t ids[5000];
    for (size_t i = 0; i < 5000; i++)
        ids[i] = i < 1000 ? 'a' : i < 4000 ? 'b' : 'c';
    mtpgen_history_prompt(&run.history, ids, 5000);
    assert_int_equal(run.history.n_ids, 2000);
    for (int i = 0; i < HTML_TEXT_STEPS + 77; i++)
        add_step("de", "f", MTP_DRAFT_HEAD);
    const char *text = make_page();
    has(text, "aaa<i class=\"gap\"> [3000 tokens of the prompt are left out here] </i>ccc");
    assert_null(strstr(text, "bbb"));
    has(text, "The text goes on: 77 further steps and prompts are not shown");
    assert_int_equal(count_of(text, "<span class=\"s\" title="), HTML_TEXT_STEPS);
    assert_int_equal(count_of(text, "<rect class=\"acc\""), HTML_COLUMNS);
    has(text, "A column is a mean: 42.0 steps on average.");
}

static void the_memory_for_steps_is_limited(void **state)
{
    (void)state;
    begin();
    for (int i = 0; i < MTPGEN_HISTORY_STEPS + 5; i++)
        add_step("d", "", MTP_DRAFT_HEAD);
    assert_int_equal(run.history.n_events, MTPGEN_HISTORY_STEPS);
    assert_int_equal(run.history.n_left_out, 5);
    assert_true(run.history.events_capacity <= MTPGEN_HISTORY_STEPS);
    has(make_page(), "5 further steps and prompts were not kept.");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_could_be_markup_or_is_unseen_is_escaped),
        cmocka_unit_test(no_bytes_get_through_as_anything_but_text),
        cmocka_unit_test(names_and_arguments_of_a_run_do_not_break_out),
        cmocka_unit_test(steps_show_what_was_drawn_taken_and_dropped_and_from_where),
        cmocka_unit_test(a_run_keeps_its_prompt_and_every_step),
        cmocka_unit_test(without_a_page_nothing_is_kept),
        cmocka_unit_test(long_prompts_and_runs_are_thinned_out_and_the_page_says_so),
        cmocka_unit_test(the_memory_for_steps_is_limited),
    };
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    forget();
    return failed;
}
