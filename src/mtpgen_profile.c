/* --profile: where the time went, by operation. docs/performance.md says how to read it. */
#include "mtpgen.h"

#include <inttypes.h>
#include <stdlib.h>

static const char *const phase_names[MTP_PROFILE_PHASES] = { "prompt", "steps", "draft" };
static const char *const phase_titles[MTP_PROFILE_PHASES] = {
    "the prompt", "the steps (passes that check drafts, and plain ones)", "the draft head",
};

const char *mtpgen_profile_phase(enum mtp_profile_phase phase)
{
    return phase_names[phase];
}

void mtpgen_profile_add(struct mtp_profile *sum, const struct mtp_profile *more)
{
    sum->seconds += more->seconds;
    sum->n_entries = more->n_entries;
    for (size_t i = 0; i < more->n_entries; i++) {
        sum->entries[i].operation = more->entries[i].operation;
        sum->entries[i].calls += more->entries[i].calls;
        sum->entries[i].seconds += more->entries[i].seconds;
        sum->entries[i].bytes += more->entries[i].bytes;
    }
}

double mtpgen_profile_outside(const struct mtp_profile *profile)
{
    double inside = 0.0;
    for (size_t i = 0; i < profile->n_entries; i++)
        inside += profile->entries[i].seconds;
    return profile->seconds > inside ? profile->seconds - inside : 0.0;
}

/* Those that took longest first; those that took no time in the library's order. */
static int by_time(const void *a, const void *b)
{
    const struct mtp_profile_entry *const *x = a, *const *y = b;
    if ((*x)->seconds != (*y)->seconds)
        return (*x)->seconds < (*y)->seconds ? 1 : -1;
    return *x < *y ? -1 : 1;
}

size_t mtpgen_profile_order(const struct mtp_profile *profile,
                            const struct mtp_profile_entry *order[MTP_PROFILE_MOST])
{
    size_t n = 0;
    for (size_t i = 0; i < profile->n_entries; i++)
        if (profile->entries[i].calls > 0)
            order[n++] = &profile->entries[i];
    qsort(order, n, sizeof *order, by_time);
    return n;
}

static double share(double part, double whole)
{
    return whole > 0.0 ? 100.0 * part / whole : 0.0;
}

static void print_entry(FILE *out, const struct mtp_profile_entry *entry, double whole)
{
    double megabytes = 1e-6 * (double)entry->bytes;
    fprintf(out, "  %-18s %8" PRIu64 " %10.2f %5.1f %% %10.2f %11.2f", entry->operation,
            entry->calls, 1e3 * entry->seconds, share(entry->seconds, whole),
            1e6 * entry->seconds / (double)entry->calls, megabytes);
    if (entry->seconds > 0.0)
        fprintf(out, " %8.2f\n", 1e-3 * megabytes / entry->seconds);
    else
        fputs("        -\n", out);
}

static void print_phase(FILE *out, const char *title, const struct mtp_profile *profile)
{
    const struct mtp_profile_entry *order[MTP_PROFILE_MOST];
    size_t n = mtpgen_profile_order(profile, order);
    if (n == 0)
        return;
    double outside = mtpgen_profile_outside(profile);
    fprintf(out, "mtpgen: profile of %s: %.2f ms\n", title, 1e3 * profile->seconds);
    fprintf(out, "  %-18s %8s %10s %7s %10s %11s %8s\n", "operation", "calls", "ms", "share",
            "us/call", "MB", "GB/s");
    for (size_t i = 0; i < n; i++)
        print_entry(out, order[i], profile->seconds);
    fprintf(out, "  %-18s %8s %10.2f %5.1f %%\n", "outside operations", "", 1e3 * outside,
            share(outside, profile->seconds));
}

void mtpgen_profile_print(FILE *out, const struct mtpgen_report *report)
{
    for (int phase = 0; phase < MTP_PROFILE_PHASES; phase++)
        print_phase(out, phase_titles[phase], &report->profile[phase]);
}
