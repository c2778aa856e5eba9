/* draft_policy.h - how many tokens to draft under `--draft auto`: the number, at most AUTO_DRAFTS, that
 * promises most tokens a second by the measured time of steps of every depth and by the acceptance of
 * recent drafts; none where plain steps do. Whatever it chooses, the text is the same.
 */
#ifndef MTP_MTP_DRAFT_POLICY_H
#define MTP_MTP_DRAFT_POLICY_H

#include "session.h"

enum { AUTO_DRAFTS = 3 };

enum mtp_status draft_policy_open(mtp_session *session, struct mtp_error *error);

/* Drafts for the next step when the caller leaves the choice to us. */
uint32_t draft_policy_choose(const struct draft_policy *policy);

/* Whether drafts were tried and are now tried only now and then. */
bool draft_policy_gave_up(const struct draft_policy *policy);

/* How many rows of the output head to draft with: a first part of the vocabulary while nearly all recent
 * tokens lie in it, else all. Byte-level BPE gives frequent tokens low ids; the part is half of small
 * vocabularies and PART_MOST ids of large ones. */
enum { PART_MOST = 65536 };
uint32_t draft_policy_head_rows(const struct draft_policy *policy, uint32_t n_vocab);

/* A token that was given. */
void draft_policy_saw(struct draft_policy *policy, int32_t id, uint32_t n_vocab);

/* What a step with n_drafts drafts gave (1 to n_drafts + 1 tokens) and took. */
void draft_policy_learn(struct draft_policy *policy, uint32_t n_drafts, uint32_t n_tokens,
                        double seconds);

#endif
