#include "mtpgen.h"

#include <inttypes.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

double mtpgen_now(void)
{
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + (double)now.tv_nsec * 1e-9;
}

/* Peak resident memory of this process in KiB, or 0 where the system does not tell. */
static uint64_t peak_memory(void)
{
    FILE *status = fopen("/proc/self/status", "re");
    uint64_t kib = 0;
    char line[256];
    while (status != NULL && kib == 0 && fgets(line, sizeof line, status) != NULL) {
        if (sscanf(line, "VmHWM: %" SCNu64, &kib) != 1)
            kib = 0;
    }
    if (status != NULL)
        fclose(status);
    return kib;
}

static const char *reason_text(enum mtpgen_stop_reason reason)
{
    switch (reason) {
    case STOP_END:
        return "end (an end token)";
    case STOP_TEXT:
        return "stop (a --stop text)";
    case STOP_LENGTH:
        return "length (-n)";
    case STOP_CONTEXT:
        return "context (it is full)";
    case STOP_INTERRUPTED:
        return "interrupted";
    default:
        return "nothing generated";
    }
}

static void print_rate(FILE *out, const char *label, uint64_t tokens, double seconds)
{
    fprintf(out, "  %-12s %" PRIu64 " token%s", label, tokens, tokens == 1 ? "" : "s");
    if (tokens > 0 && seconds > 0.0)
        fprintf(out, ", %.1f tok/s", (double)tokens / seconds);
    fputc('\n', out);
}

void mtpgen_report_print(FILE *out, const struct mtpgen_report *report)
{
    fprintf(out, "mtpgen:\n  %-12s %.3f s\n", "load", report->load_seconds);
    if (report->first_token_seconds > 0.0)
        fprintf(out, "  %-12s %.3f s\n", "first token", report->first_token_seconds);
    print_rate(out, "prefill", report->n_prefill, report->prefill_seconds);
    if (report->n_kept > 0)
        fprintf(out, "  %-12s %" PRIu64 " tokens of earlier turns\n", "not re-read",
                report->n_kept);
    /* The first token comes out of prefill; the others took a pass each. */
    fprintf(out, "  %-12s %" PRIu64 " token%s", "decode", report->n_generated,
            report->n_generated == 1 ? "" : "s");
    if (report->n_decoded > 0 && report->decode_seconds > 0.0)
        fprintf(out, ", %.1f tok/s", (double)report->n_decoded / report->decode_seconds);
    fputc('\n', out);
    uint64_t kib = peak_memory();
    if (kib > 0)
        fprintf(out, "  %-12s %.1f MiB\n", "peak memory", (double)kib / 1024.0);
    fprintf(out, "  %-12s %s\n", "stopped", reason_text(report->stop));
}

/* ---- progress -------------------------------------------------------------------------------- */

bool mtpgen_progress(void *user, const char *stage, uint64_t done, uint64_t total)
{
    struct mtpgen_progress *progress = user;
    double now = mtpgen_now();
    if (progress->enabled && total > 0 && now - progress->last >= 0.1) {
        progress->last = now;
        progress->shown = true;
        fprintf(stderr, "\r%s %3.0f %%", strcmp(stage, "load") == 0 ? "loading" : stage,
                100.0 * (double)done / (double)total);
        fflush(stderr);
    }
    return !mtpgen_interrupted();
}

void mtpgen_progress_clear(struct mtpgen_progress *progress)
{
    if (progress->shown)
        fputs("\r\033[K", stderr);
    progress->shown = false;
    progress->last = 0.0;
}
