/* mtpsynth - writes synthetic models and looks into them (docs/synthetic-models.md). */
#include "mtpsynth.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

static void print_tensors(const struct synth_plan *plan, const struct synth_bytes *header)
{
    for (size_t i = 0; i < plan->n_tensors; i++) {
        const struct synth_tensor *t = &plan->tensors[i];
        printf("%s %s %" PRIu64 "x%" PRIu64 "x%" PRIu64 " at %" PRIu64 ", %" PRIu64 " bytes\n", t->name,
               type_info(t->type)->name, t->ne[0], t->ne[1], t->ne[2], header->size + t->offset,
               t->n_rows * t->row_bytes);
    }
    printf("%zu tensors, %" PRIu64 " bytes\n", plan->n_tensors, header->size + plan->data_bytes);
}

static enum mtp_status write_or_plan(const struct synth_options *o, struct mtp_error *error)
{
    struct synth_cycle cycle;
    struct synth_plan plan = {0};
    struct synth_bytes header = {0};
    enum mtp_status status = synth_cycle_open(&cycle, &o->spec, error);
    if (status == MTP_OK)
        status = synth_plan_make(&plan, &o->spec, &cycle, error);
    if (status == MTP_OK)
        status = synth_header(&header, &plan, error);
    if (status == MTP_OK && o->action == ACTION_PLAN)
        print_tensors(&plan, &header);
    else if (status == MTP_OK)
        status = synth_write(&plan, &header, o->path, o->n_threads, error);
    if (status == MTP_OK && o->action == ACTION_WRITE)
        printf("%s: %zu tensors, %" PRIu64 " bytes, synthetic\n", o->path, plan.n_tensors,
               header.size + plan.data_bytes);
    free(header.data);
    synth_plan_free(&plan);
    synth_cycle_close(&cycle);
    return status;
}

static enum mtp_status list(struct mtp_error *error)
{
    printf("%-12s %-28s %-10s %6s", "preset", "shapes of", "arch", "blocks");
    for (int mix = 0; mix < SYNTH_N_MIXES; mix++)
        printf(" %10s", synth_mix_name((enum synth_mix)mix));
    printf("  (MB)\n");
    const struct synth_shape *shape;
    for (size_t i = 0; (shape = synth_shape_at(i)) != NULL; i++) {
        printf("%-12s %-28s %-10s %6" PRIu32, shape->name, shape->title, synth_arch_name(shape->arch),
               shape->n_layers + shape->n_mtp_layers);
        for (int mix = 0; mix < SYNTH_N_MIXES; mix++) {
            struct synth_spec spec = {.shape = *shape, .mix = (enum synth_mix)mix};
            struct synth_plan plan;
            enum mtp_status status = synth_plan_make(&plan, &spec, NULL, error);
            if (status != MTP_OK)
                return status;
            printf(" %10.1f", (double)plan.data_bytes / 1e6);
            synth_plan_free(&plan);
        }
        putchar('\n');
    }
    return MTP_OK;
}

static enum mtp_status print_cycle(const struct synth_options *o, struct mtp_error *error)
{
    struct synth_spec spec;
    struct synth_cycle cycle;
    enum mtp_status status = synth_read_spec(&spec, o->path, error);
    if (status == MTP_OK && o->first_id >= spec.shape.n_vocab)
        status = mtp_fail(error, MTP_ERR_USAGE, "--print-cycle %" PRIu32 ": %s has %" PRIu32 " ids",
                          o->first_id, o->path, spec.shape.n_vocab);
    if (status == MTP_OK)
        status = synth_cycle_open(&cycle, &spec, error);
    if (status != MTP_OK)
        return status;
    uint32_t id = o->first_id;
    for (uint32_t i = 0; i < o->n_ids; i++, id = synth_next(&cycle, id))
        printf("%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", id, synth_next(&cycle, id),
               synth_draft(&cycle, id));
    synth_cycle_close(&cycle);
    return MTP_OK;
}

static int run(const struct synth_options *o, struct mtp_error *error)
{
    switch (o->action) {
    case ACTION_LIST:
        return (int)list(error);
    case ACTION_PRINT_CYCLE:
        return (int)print_cycle(o, error);
    case ACTION_CHECK:
        return synth_check(&o->check, error);
    case ACTION_HELP:
        synth_print_help();
        return 0;
    default:
        return (int)write_or_plan(o, error);
    }
}

int main(int argc, char **argv)
{
    struct mtp_error error = {MTP_OK, ""};
    struct synth_options options;
    int status = (int)synth_parse(&options, argc, argv, &error);
    if (status == 0)
        status = run(&options, &error);
    if (status == 0 && (fflush(stdout) != 0 || ferror(stdout)))
        status = (int)mtp_fail(&error, MTP_ERR_IO, "cannot write to standard output");
    if (status != 0)
        fprintf(stderr, "mtpsynth: %s\n", error.message);
    return status;
}
