/* cpu_count.c - see cpu_count.h. */
#define _GNU_SOURCE
#include "cpu_count.h"

#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

/* First processor of the core that cpu belongs to; cpu itself when the system does not say. */
static int first_sibling(int cpu)
{
    char path[96];
    snprintf(path, sizeof path, "/sys/devices/system/cpu/cpu%d/topology/thread_siblings_list", cpu);
    FILE *file = fopen(path, "re");
    int first = cpu;
    if (file == NULL)
        return cpu;
    if (fscanf(file, "%d", &first) != 1)
        first = cpu;
    fclose(file);
    return first;
}

static uint32_t cores_in_affinity(void)
{
    cpu_set_t allowed, cores;
    CPU_ZERO(&cores);
    if (sched_getaffinity(0, sizeof allowed, &allowed) != 0)
        return 1;
    for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
        if (CPU_ISSET((size_t)cpu, &allowed)) {
            int first = first_sibling(cpu);
            CPU_SET((size_t)(first >= 0 && first < CPU_SETSIZE ? first : cpu), &cores);
        }
    int n = CPU_COUNT(&cores);
    return n > 0 ? (uint32_t)n : 1;
}

/* CPUs' worth of time the control group grants, 0 when unlimited or unknown. */
static double cgroup_quota(void)
{
    double quota = 0.0, period = 0.0;
    FILE *file = fopen("/sys/fs/cgroup/cpu.max", "re");
    if (file != NULL) {
        int read = fscanf(file, "%lf %lf", &quota, &period);
        fclose(file);
        return read == 2 && period > 0.0 ? quota / period : 0.0;
    }
    FILE *quota_file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_quota_us", "re");
    FILE *period_file = fopen("/sys/fs/cgroup/cpu/cpu.cfs_period_us", "re");
    bool known = quota_file != NULL && period_file != NULL &&
                 fscanf(quota_file, "%lf", &quota) == 1 && fscanf(period_file, "%lf", &period) == 1;
    if (quota_file != NULL)
        fclose(quota_file);
    if (period_file != NULL)
        fclose(period_file);
    return known && quota > 0.0 && period > 0.0 ? quota / period : 0.0;
}

uint32_t physical_cores_usable(void)
{
    uint32_t cores = cores_in_affinity();
    double quota = cgroup_quota();
    if (quota > 0.0 && quota < (double)cores) {
        uint32_t whole = (uint32_t)quota;
        cores = (double)whole < quota ? whole + 1 : whole;
    }
    return cores > 0 ? cores : 1;
}
