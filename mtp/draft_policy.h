/* draft_policy.h - what to draft under `--draft auto`: the number of drafts, at most AUTO_DRAFTS, and where
 * they come from, that promise most tokens a second by the measured time of a pass over so many rows, the
 * time of drafting, and the acceptance of recent drafts by position; none where plain steps promise more.
 * Whatever it chooses, the text is the same.
 */
#ifndef MTP_MTP_DRAFT_POLICY_H
#define MTP_MTP_DRAFT_POLICY_H

#include "draft_chances.h"
#include "ngram.h"
#include "session.h"

enum mtp_status draft_policy_open(mtp_session *session, struct mtp_error *error);

/* What there is to choose from. */
struct draft_offer {
    uint32_t most;    /* drafts that the step has room for */
    bool head;        /* the MTP block may draft */
    uint32_t matched; /* last tokens found again in the text: as many n-gram drafts as wanted; 0 none */
};
struct draft_choice {
    uint32_t n;
    enum mtp_draft_source source;
};
struct draft_choice draft_policy_choose(struct draft_policy *policy, const struct draft_offer *offer);

/* Whether drafts of the head were tried and are now tried only now and then. */
bool draft_policy_gave_up(const struct draft_policy *policy);

/* How many rows of the output head to draft with: a first part of the vocabulary while nearly all recent
 * tokens lie in it, else all. Byte-level BPE gives frequent tokens low ids; the part is half of small
 * vocabularies and PART_MOST ids of large ones. */
enum { PART_MOST = 65536 };
uint32_t draft_policy_head_rows(const struct draft_policy *policy, uint32_t n_vocab);

/* A token that was given. */
void draft_policy_saw(struct draft_policy *policy, int32_t id, uint32_t n_vocab);

/* Up to AUTO_DRAFTS n-gram drafts to follow the token seen last. Whether they are used or not, the tokens
 * that come tell how good they were. */
void draft_policy_foretold(struct draft_policy *policy, uint32_t matched, const int32_t *drafts, uint32_t n);

/* What a step gave and took. */
struct draft_outcome {
    uint32_t n_drafts, n_tokens; /* of 1 to n_drafts + 1 */
    enum mtp_draft_source source;
    double draft_seconds, pass_seconds; /* of the drafts; of the pass that checks them and what follows it */
    double catch_up_seconds;            /* of rows that plain steps had left to the draft head */
};
void draft_policy_learn(struct draft_policy *policy, const struct draft_outcome *outcome);

/* Passes of n rows and of n drafts timed before the first step. */
void draft_policy_timed(struct draft_policy *policy, bool drafts, uint32_t n, double seconds);

/* Seconds expected of a pass over n_drafts + 1 rows, and of n_drafts drafts; 0 while nothing is known. */
double draft_policy_pass_seconds(const struct draft_policy *policy, uint32_t n_drafts);
double draft_policy_draft_seconds(const struct draft_policy *policy, uint32_t n_drafts);

#endif
