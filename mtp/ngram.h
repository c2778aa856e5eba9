/* ngram.h - drafts copied from the text so far (prompt lookup): what followed the latest earlier place where
 * the last tokens stood. It costs nothing next to a pass, needs no draft head, and is right where a text
 * repeats itself: code that is changed, documents that are quoted, lists.
 */
#ifndef MTP_MTP_NGRAM_H
#define MTP_MTP_NGRAM_H

#include <stddef.h>
#include <stdint.h>

/* Numbers of last tokens that are looked for, the longest first; a place found is compared further back. */
enum { NGRAM_LONGEST = 4, NGRAM_SHORTEST = 2, NGRAM_LENGTHS = NGRAM_LONGEST - NGRAM_SHORTEST + 1 };
enum { NGRAM_COMPARED = 64 };

struct ngram;

/* An index of texts of up to n_tokens tokens; NULL when memory is short. */
struct ngram *ngram_open(uint32_t n_tokens);
void ngram_close(struct ngram *ngram);
/* Bytes of such an index, most of which are committed as a text grows. */
size_t ngram_bytes(uint32_t n_tokens);

/* Adds to the end of the text; what does not fit is not taken. */
void ngram_add(struct ngram *ngram, const int32_t *tokens, size_t n);
/* Cuts the text to its first n_tokens tokens. */
void ngram_cut(struct ngram *ngram, uint32_t n_tokens);
uint32_t ngram_length(const struct ngram *ngram);

/* What followed where the text's end and `next`, which is to stand behind it, stood before: up to `most`
 * drafts, as many as are known; a text that repeats a short piece is continued round and round. *matched is
 * the number of tokens found again (NGRAM_SHORTEST..NGRAM_COMPARED), 0 and no drafts without a match. */
uint32_t ngram_draft(const struct ngram *ngram, int32_t next, uint32_t most, int32_t *drafts,
                     uint32_t *matched);

#endif
