/* profile.h - a backend around another that measures the time and counts the bytes of every operation
 * (mtp_session_options.profile; mtp.h says what is counted). A session without that option has no such
 * backend: an operation is then called as if this file did not exist.
 */
#ifndef MTP_SRC_PROFILE_H
#define MTP_SRC_PROFILE_H

#include "kernels/ops.h"
#include "mtp.h"

struct profile;

/* Where a session's work is outside of every public function: tests that call session_forward. */
enum { PROFILE_NO_PHASE = MTP_PROFILE_PHASES };

/* A profile whose backend owns `inner`; NULL when memory is short (inner is then untouched). Closing
 * that backend frees the profile. */
struct profile *profile_open(struct backend *inner);
struct backend *profile_backend(struct profile *profile);

/* What follows belongs to `phase`; returns the phase it was before, to be entered again at the end.
 * Does nothing for NULL. */
int profile_enter(struct profile *profile, int phase);

/* One phase as mtp_session_get_profile gives it; zeros for NULL. */
void profile_get(const struct profile *profile, enum mtp_profile_phase phase,
                 struct mtp_profile *out);

#endif
