/* step.h - the operations between the passes of a step, on the CPU (kernels/ops.h). */
#ifndef MTP_KERNELS_CPU_STEP_H
#define MTP_KERNELS_CPU_STEP_H

#include "kernels/ops.h"

void cpu_chain_rows(struct backend *backend, const struct chain_rows_args *args);
void cpu_accept(struct backend *backend, const struct accept_args *args);
void cpu_conv_replay(struct backend *backend, const struct conv_replay_args *args);
/* Calls `one` for every layer that args names. */
void cpu_delta_net_replay_each(struct backend *backend, const struct delta_net_replay_args *args,
                               void (*one)(struct backend *, const struct delta_net_replay_args *));

#endif
