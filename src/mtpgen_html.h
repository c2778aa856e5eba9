/* mtpgen_html.h - the parts of the page that a report can be: one file without scripts and without anything
 * from outside, well-formed as XML. mtpgen_html.c puts it together.
 */
#ifndef MTPGEN_HTML_H
#define MTPGEN_HTML_H

#include "mtpgen.h"

/* Steps whose text is shown, and columns of the picture of steps over time: a page stays small. */
enum { HTML_TEXT_STEPS = 10000, HTML_COLUMNS = 240 };

extern const char mtpgen_html_style[]; /* what stands in the element style */

void mtpgen_html_charts(FILE *out, const struct mtpgen_run *run);  /* acceptance, depths, steps, time */
void mtpgen_html_profile(FILE *out, const struct mtpgen_run *run); /* of --profile; nothing without it */
void mtpgen_html_text(FILE *out, const struct mtpgen_run *run);    /* prompt, tokens, drafts not taken */

#endif
