/* draft_costs.h - what passes take, found out before the first step: `--draft auto` then chooses well from
 * the first token on. */
#ifndef MTP_MTP_DRAFT_COSTS_H
#define MTP_MTP_DRAFT_COSTS_H

#include "session.h"

/* Times passes of 1, 2, 4 and 8 rows and drafts of the MTP block in a session just opened, for a tenth of a
 * second (a pass under way then is ended), and tells the policy. The session is as before: no row stays, no
 * counter has moved. A device's passes are recorded on the way. What fails here is left to the first step. */
void draft_costs_measure(mtp_session *session);

#endif
