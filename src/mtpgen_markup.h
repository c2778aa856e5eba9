/* mtpgen_markup.h - text and drawings as HTML that is well-formed XML, too.
 *
 * Whatever bytes go in: what comes out is text, never an element, and shows what cannot be seen or would turn
 * the page round: control characters and bytes that are no UTF-8 as \x1b, bidirectional controls and the like
 * as U+202E.
 */
#ifndef MTPGEN_MARKUP_H
#define MTPGEN_MARKUP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

/* For elements and for attributes in double quotes; every line break and tab is escaped. */
void markup_text(FILE *out, const char *text, size_t length);
void markup_string(FILE *out, const char *text); /* to the terminating zero; NULL: nothing */

/* For elements of class "txt" alone, where white space counts: line breaks and tabs stay, behind a mark, and
 * what was escaped is marked (elements i of class "x"). */
void markup_visible(FILE *out, const char *text, size_t length);

/* One bar a row: label, bar, value. */
struct markup_bar {
    char label[40], value[64];
    char field[64]; /* data-field of the value: of which field of the JSON report it is; "" none */
    double share;   /* of the longest bar: 0..1; NaN: no bar */
    bool marked;    /* drawn as the one that counts */
};
enum { MARKUP_NARROW = 20, MARKUP_MIDDLE = 54, MARKUP_WIDE = 124 }; /* widths of the labels */
/* An svg with a title for those who do not see it. */
void markup_bars(FILE *out, const char *title, int label_width, const struct markup_bar *bars, size_t n);

#endif
