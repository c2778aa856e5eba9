/* sampler.h - choosing the next token from logits, the same one on every machine.
 *
 * Temperature 0 takes the largest logit. Otherwise tokens are ranked by (logit descending, id
 * ascending; -0 equals 0) and three filters follow one another: top_k keeps the first k; top_p
 * keeps the shortest prefix whose probabilities, among those kept so far, reach p; min_p keeps
 * those at least p times as likely as the first. What is kept is drawn by the Gumbel-max rule: the
 * token with the largest logit / temperature + noise, ties to the lowest id.
 *
 * The noise is a function of (seed, position, token id) alone (Philox4x32-10, one 32-bit word a
 * token), so a token's score does not depend on which other tokens take part: drawing among fewer
 * tokens, as a reduced draft head does, mostly gives the same token.
 *
 * exp and log are those of kernels/fmath.h; a sum over tokens goes by 64 partials as every float
 * sum does (docs/arithmetic.md), over ids where no top_k came before, else over ranks.
 */
#ifndef MTP_SRC_SAMPLER_H
#define MTP_SRC_SAMPLER_H

#include "error.h"

/* MTP_ERR_USAGE for settings out of range, MTP_ERR_NUMERIC when a logit is infinite or NaN. */
enum mtp_status sampler_draw(const float *logits, uint32_t n_vocab,
                             const struct mtp_sampling *sampling, uint64_t position, int32_t *id,
                             struct mtp_error *error);

/* The four 32-bit words of Philox4x32-10 for a counter and a key. */
void sampler_philox(uint32_t words[4], const uint32_t counter[4], const uint32_t key[2]);

/* -log(-log(u)) for the u that the 32-bit word stands for, u = 1 - (word + 1/2) / 2^32. */
float sampler_gumbel(uint32_t word);

#endif
