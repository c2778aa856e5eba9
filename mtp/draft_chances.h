/* draft_chances.h - how likely the next drafts are right, by what became of the drafts before them.
 *
 * Drafts of the MTP block are counted twice: by their number in the step, and by how many tokens the text
 * has given since a draft was wrong. The second count tells a text that goes in a circle, or in lines of one
 * form, from one that is hard everywhere: the same share of wrong drafts leaves long runs between them, and
 * one draft a step learns of those as well as seven. Drafts from the text are counted by how long a piece of
 * text was found again.
 */
#ifndef MTP_MTP_DRAFT_CHANCES_H
#define MTP_MTP_DRAFT_CHANCES_H

#include <stdbool.h>
#include <stdint.h>

enum { AUTO_DRAFTS = 7 };

/* Drafts that were compared with the text, older ones for less. */
struct draft_share {
    double right, seen;
};

/* N-gram drafts whose tokens have not all come yet. */
struct foretold {
    int32_t drafts[AUTO_DRAFTS];
    uint32_t n, next, matched;
};

enum { SINCE_MOST = 16, MATCH_KINDS = 7 };
struct draft_chances {
    struct draft_share by_number[AUTO_DRAFTS];
    struct draft_share by_since[SINCE_MOST + 1]; /* tokens since a wrong draft; the last: so many and more */
    struct draft_share by_match[MATCH_KINDS];
    uint32_t since_wrong;
    struct foretold foretold;
}; /* begins as zeros */

/* Chances that draft i of the step that comes next is right if all before it are. */
void draft_chances_of_head(const struct draft_chances *chances, double p[AUTO_DRAFTS]);
/* The same of n-gram drafts behind so many tokens found again, NGRAM_SHORTEST at least. */
void draft_chances_of_match(const struct draft_chances *chances, uint32_t matched, double p[AUTO_DRAFTS]);

/* A step gave n_tokens; of the MTP block's drafts (0: it made none) all before the last token were right. */
void draft_chances_step(struct draft_chances *chances, uint32_t n_head_drafts, uint32_t n_tokens);

/* N-gram drafts to follow the token seen last. Whether they are used or not, the tokens that come tell. */
void draft_chances_foretold(struct draft_chances *chances, uint32_t matched, const int32_t *drafts,
                            uint32_t n);
/* A token that was given. */
void draft_chances_saw(struct draft_chances *chances, int32_t id);

#endif
