/* cpu_count.h - how many threads are worth starting. */
#ifndef MTP_SRC_CPU_COUNT_H
#define MTP_SRC_CPU_COUNT_H

#include <stdint.h>

/* Physical cores among the processors this process may run on, cut by the cgroup's CPU quota
 * (rounded up); at least 1. */
uint32_t physical_cores_usable(void);

#endif
