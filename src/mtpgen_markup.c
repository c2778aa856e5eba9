#include "mtpgen_markup.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* ---- text ------------------------------------------------------------------------------------ */

/* Smallest code point that takes so many bytes: what is below is written too long. */
static const uint32_t least_of_length[] = { 0, 0, 0x80, 0x800, 0x10000 };

/* Bytes of the well-formed UTF-8 sequence at text, at least 1 available, or 0 when there is none. */
static size_t sequence(const unsigned char *text, size_t available, uint32_t *point)
{
    size_t n = text[0] < 0x80 ? 1 : text[0] >= 0xf0 ? 4 : text[0] >= 0xe0 ? 3 : 2;
    if ((text[0] >= 0x80 && text[0] < 0xc2) || text[0] > 0xf4 || n > available)
        return 0;
    *point = n == 1 ? text[0] : text[0] & (0xffu >> (n + 1));
    for (size_t i = 1; i < n; i++) {
        if ((text[i] & 0xc0) != 0x80)
            return 0;
        *point = *point << 6 | (text[i] & 0x3f);
    }
    bool surrogate = *point >= 0xd800 && *point <= 0xdfff;
    return *point < least_of_length[n] || *point > 0x10ffff || surrogate ? 0 : n;
}

/* Characters that have no sight of their own, or change that of others, or that XML forbids. */
static bool is_unseen(uint32_t point)
{
    static const uint32_t ranges[][2] = {
        { 0x00, 0x1f }, { 0x7f, 0x9f }, { 0xad, 0xad }, { 0x61c, 0x61c }, { 0x180e, 0x180e },
        { 0x200b, 0x200b }, { 0x200e, 0x200f }, { 0x2028, 0x202e }, { 0x2060, 0x206f },
        { 0xfdd0, 0xfdef }, { 0xfeff, 0xfeff }, { 0xfff9, 0xfffb }, { 0xe0000, 0xe0fff },
    };
    for (size_t i = 0; i < sizeof ranges / sizeof ranges[0]; i++)
        if (point >= ranges[i][0] && point <= ranges[i][1])
            return true;
    return (point & 0xfffe) == 0xfffe;
}

static void put_escape(FILE *out, const char *format, uint32_t value, bool marked)
{
    fputs(marked ? "<i class=\"x\">" : "", out);
    fprintf(out, format, (unsigned)value);
    fputs(marked ? "</i>" : "", out);
}

static void put_character(FILE *out, const char *text, size_t length, uint32_t point, bool marked)
{
    if (marked && point == '\n')
        fputs("<i class=\"x\">\xe2\x86\xb5</i>\n", out);
    else if (marked && point == '\t')
        fputs("<i class=\"x\">\xe2\x87\xa5</i>\t", out);
    else if (is_unseen(point))
        put_escape(out, point < 0x80 ? "\\x%02x" : "U+%04X", point, marked);
    else if (point == '<')
        fputs("&lt;", out);
    else if (point == '>')
        fputs("&gt;", out);
    else if (point == '&')
        fputs("&amp;", out);
    else if (point == '"')
        fputs("&quot;", out);
    else if (point == '\'')
        fputs("&#39;", out);
    else
        fwrite(text, 1, length, out);
}

static void put_text(FILE *out, const char *text, size_t length, bool marked)
{
    for (size_t at = 0; at < length;) {
        uint32_t point = 0;
        size_t n = sequence((const unsigned char *)text + at, length - at, &point);
        if (n > 0)
            put_character(out, text + at, n, point, marked);
        else
            put_escape(out, "\\x%02x", (unsigned char)text[at], marked);
        at += n > 0 ? n : 1;
    }
}

void markup_text(FILE *out, const char *text, size_t length)
{
    put_text(out, text, length, false);
}

void markup_string(FILE *out, const char *text)
{
    if (text != NULL)
        put_text(out, text, strlen(text), false);
}

void markup_visible(FILE *out, const char *text, size_t length)
{
    put_text(out, text, length, true);
}

/* ---- bars ------------------------------------------------------------------------------------ */

enum { PICTURE_WIDTH = 360, ROW_HEIGHT = 22, VALUE_WIDTH = 128, GAP = 6 };

static void put_bar(FILE *out, const struct markup_bar *bar, int label_width, int y)
{
    int from = label_width + GAP;
    int most = PICTURE_WIDTH - VALUE_WIDTH - GAP - from;
    fprintf(out, "<text class=\"l\" x=\"%d\" y=\"%d\">", label_width, y + 15);
    markup_string(out, bar->label);
    fputs("</text>", out);
    if (!isnan(bar->share))
        fprintf(out, "<rect class=\"rail\" x=\"%d\" y=\"%d\" width=\"%d\" height=\"14\"/>"
                "<rect class=\"%s\" x=\"%d\" y=\"%d\" width=\"%.1f\" height=\"14\"/>", from, y + 4, most,
                bar->marked ? "bar best" : "bar", from, y + 4, bar->share * most);
    fprintf(out, "<text x=\"%d\" y=\"%d\"", PICTURE_WIDTH - VALUE_WIDTH, y + 15);
    if (bar->field[0] != '\0') {
        fputs(" data-field=\"", out);
        markup_string(out, bar->field);
        fputc('"', out);
    }
    fputc('>', out);
    markup_string(out, bar->value);
    fputs("</text>\n", out);
}

void markup_bars(FILE *out, const char *title, int label_width, const struct markup_bar *bars, size_t n)
{
    fprintf(out, "<svg class=\"bars\" role=\"img\" viewBox=\"0 0 %d %d\" "
            "xmlns=\"http://www.w3.org/2000/svg\">"
            "<title>", PICTURE_WIDTH, (int)n * ROW_HEIGHT);
    markup_string(out, title);
    fputs("</title>\n", out);
    for (size_t i = 0; i < n; i++)
        put_bar(out, &bars[i], label_width, (int)i * ROW_HEIGHT);
    fputs("</svg>\n", out);
}
