/* memory_available.h - how much memory may be taken without making the machine swap or kill. */
#ifndef MTP_SRC_MEMORY_AVAILABLE_H
#define MTP_SRC_MEMORY_AVAILABLE_H

#include <stdint.h>

/* Bytes: what the kernel would find without swapping, page cache included (MemAvailable). UINT64_MAX
 * where the system does not say. */
uint64_t memory_available(void);

#endif
