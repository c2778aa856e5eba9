/* memory_available.c - see memory_available.h. */
#include "memory_available.h"

#include <inttypes.h>
#include <stdio.h>

uint64_t memory_available(void)
{
    FILE *file = fopen("/proc/meminfo", "re");
    uint64_t kib, available = UINT64_MAX;
    char line[128];
    if (file == NULL)
        return available;
    while (available == UINT64_MAX && fgets(line, sizeof line, file) != NULL)
        if (sscanf(line, "MemAvailable: %" SCNu64 " kB", &kib) == 1)
            available = kib * 1024;
    fclose(file);
    return available;
}
